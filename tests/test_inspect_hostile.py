"""Whatever octets arrive: an answer, soon, and never one that says too much."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaifu.policies.facts import Kind
from kaifu.proxy.cli_inspect import as_object
from kaifu.proxy.display import json_line
from kaifu.proxy.inspection import Inspection, inspect_message
from kaifu.proxy.mdn import OLD_TYPES, TYPES
from kaifu.proxy.reports import MAX_EXCERPT
from kaifu.proxy.tnef import MESSAGE_CLASS, SIGNATURE, message_class

Counter = Callable[[Callable[[], object]], int]
SEEDS = [path.read_bytes() for path in sorted((Path(__file__).parent / "fixtures" / "receipts").glob("*.eml"))]
WORDS = [
    b"\r\n",
    b"\n\n",
    b"--x",
    b"--",
    b"Content-Type: multipart/report; boundary=x\r\n",
    b"Content-Type: message/delivery-status\r\n\r\n",
    b"Content-Type: message/disposition-notification\r\n\r\n",
    b"Content-Type: message/rfc822\r\n\r\n",
    b"Content-Transfer-Encoding: base64\r\n",
    b"Disposition: a/b; displayed\r\n",
    b"Final-Recipient: rfc822; a@b\r\n",
    b"Action: delivered\r\n",
    b"\x00",
    b"\xff\xfe",
    b'"',
    b"(",
    b"<",
    b"=?utf-8?B?",
    b"\\x{110000}",
]


def check(found: Inspection) -> None:
    """What holds for every message."""
    reports = found.reports
    assert found.kind in {"mail", "mdn", "dsn", "suspected-receipt"}
    assert (found.kind == "suspected-receipt") == (found.suspicion is not None)
    assert (found.facts is None) == (reports.kind is Kind.MAIL)
    assert not reports.only_reports or reports.kind is not Kind.MAIL
    assert json_line(as_object("file", found)).isprintable()
    for report in reports.reports:
        assert (report.mdn is None) != (report.dsn is None)
        assert all(tie.id and tie.source for tie in report.ties)
        if report.mdn:
            assert report.mdn.disposition_type in TYPES | OLD_TYPES | {None}
            assert len(report.excerpt()) <= MAX_EXCERPT
        if report.dsn:
            assert report.dsn.success == (report.dsn.must_deliver is None)
            assert not report.dsn.must_deliver or reports.must_deliver
            assert all(len(report.excerpt(r)) <= MAX_EXCERPT for r in report.dsn.recipients)


@given(st.binary(max_size=1000), st.booleans())
def test_any_octets_are_some_message(octets: bytes, complete: bool) -> None:
    check(inspect_message(octets, complete=complete))


@given(st.lists(st.sampled_from(WORDS), max_size=40).map(b"".join), st.booleans())
def test_any_words_of_the_trade_are_some_message(octets: bytes, complete: bool) -> None:
    check(inspect_message(octets, complete=complete))


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A report with pieces of it lost, doubled, overwritten, or spoilt by something foreign."""
    raw = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(raw)))
        end = min(len(raw), start + draw(st.integers(0, 80)))
        instead = draw(st.sampled_from([*WORDS, b"", raw[start:end] * 2]) | st.binary(max_size=4))
        raw = raw[:start] + instead + raw[end:]
    return raw


@given(damaged(), st.booleans())
def test_a_damaged_report_is_some_message(raw: bytes, complete: bool) -> None:
    check(inspect_message(raw, complete=complete))


@pytest.mark.parametrize("seed", SEEDS[::5], ids=range(len(SEEDS[::5])))
def test_a_message_cut_anywhere_is_some_message(seed: bytes) -> None:
    for end in range(0, len(seed), 3):
        check(inspect_message(seed[:end]))
        check(inspect_message(seed[:end], complete=False))


HEAD = b"Content-Type: multipart/report; report-type=disposition-notification; boundary=x\r\n\r\n--x\r\n"
MDN = b"Content-Type: message/disposition-notification\r\n\r\n"
DSN = b"Content-Type: message/delivery-status\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "unit"),
    [
        (HEAD, b"--x\r\n"),
        (HEAD, MDN + b"--x\r\n"),
        (HEAD, MDN + b"Disposition: a/b; displayed\r\n--x\r\n"),
        (HEAD, b"Content-Type: multipart/report; boundary=x\r\n\r\n--x\r\n"),
        (HEAD + MDN, b"Disposition: a/b; displayed\r\n"),
        (HEAD + MDN, b" folded\r\n"),
        (HEAD + MDN + b"Final-Recipient: ", b"rfc822;"),
        (HEAD + MDN + b"Final-Recipient: ", b"<"),
        (HEAD + MDN + b"Original-Recipient: ", b'"a" <a@b>,'),
        (HEAD + MDN + b"Original-Message-ID: ", b"<a@b>"),
        (HEAD + MDN + b"Disposition: ", b"a/b;"),
        (HEAD + MDN + b"Disposition: a/b; displayed", b"/"),
        (HEAD + DSN, b"Final-Recipient: a@b\r\n"),
        (HEAD + DSN, b"Action: failed\r\n\r\n"),
        (b"References: ", b"<a@b> "),
        (b"", b"Disposition-Notification-To: a@b\r\n"),
        (b"Subject: x\r\n\r\n", b"your message: was read by"),
        (b"Content-Type: text/html\r\n\r\nyour message: ", b"<"),
        (b"Content-Type: text/html\r\n\r\n", b"<a>your message: "),
        (b"Content-Type: multipart/report\r\n\r\n", b"--"),
        (b"Content-Type: multipart/report\r\n\r\n", b"--a\n"),
    ],
    ids=lambda octets: repr(octets[-40:]),
)
def test_effort_grows_no_faster_than_the_message(head: bytes, unit: bytes, count_calls: Counter) -> None:
    def effort(times: int) -> int:
        return count_calls(lambda: inspect_message(head + unit * times))

    assert effort(400) <= 2.2 * effort(200) + 500


@pytest.mark.parametrize(
    "unit", [b"--x\r\n", b"<", b"your message: ", b"\n", b"a: b\r\n", b"--a\n", b" \n", b"A" * 70 + b"\r\n"], ids=repr
)
@pytest.mark.parametrize(
    "head",
    [HEAD, HEAD + MDN, HEAD + DSN, b"Content-Type: text/html\r\n\r\n", b"Content-Type: multipart/report\r\n\r\n", b""],
)
def test_the_largest_messages_are_answered(head: bytes, unit: bytes) -> None:
    check(inspect_message(head + unit * (3_000_000 // len(unit))))


def attribute(identifier: int, data: bytes, length: int | None = None) -> bytes:
    return struct.pack("<BII", 1, identifier, len(data) if length is None else length) + data + b"\0\0"


def stream(*attributes: bytes) -> bytes:
    return struct.pack("<IH", SIGNATURE, 1) + b"".join(attributes)


def test_the_class_of_an_outlook_item_is_found_behind_other_attributes() -> None:
    octets = stream(attribute(0x00089006, b"\0\0\1\0"), attribute(MESSAGE_CLASS, b"IPM.Note\0"))
    assert message_class(octets) == "IPM.Note"


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\x78\x9f\x3e\x22",
        stream(),
        b"\0" + stream(attribute(MESSAGE_CLASS, b"IPM.Note\0"))[1:],
        stream(attribute(MESSAGE_CLASS, b"")),
        stream(attribute(MESSAGE_CLASS, b"\0\0")),
        stream(attribute(0x00018004, b"x", length=0xFFFFFFFF), attribute(MESSAGE_CLASS, b"IPM.Note\0")),
        stream(*[attribute(0x00018004, b"x")] * 1000, attribute(MESSAGE_CLASS, b"IPM.Note\0")),
    ],
)
def test_an_outlook_item_without_readable_class_has_none(octets: bytes) -> None:
    assert message_class(octets) is None


@given(st.binary(max_size=200))
def test_any_octets_may_pretend_to_be_an_outlook_item(octets: bytes) -> None:
    message_class(stream() + octets)
