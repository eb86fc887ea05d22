"""The milter as an MTA sees it: what is asked for, every outcome, and packets that no MTA should send.

One process serves the whole file, so that each test also shows that those before it did no harm.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.milter_client import (
    ADDHDRS,
    ADDRCPT_PAR,
    ALL_ACTIONS,
    ALL_STEPS,
    CHGHDRS,
    CHUNK,
    DELRCPT,
    NR_HDR,
    SETSYMLIST,
    SKIP,
    Gone,
    Mail,
    Result,
    packet,
    words,
)
from tests.milter_process import Milter

POLICY = """
version: 1
defaults:
  inbound: {request: strip}
rules:
  - {name: receipts of rivals go, when: {kind: mdn, from: "@rival.example"}, then: {receipt: withhold}}
  - {name: nobody at works hears, when: {kind: mdn, to: works@example.co.jp}, then: {receipt: reject}}
  - {name: sales hear nothing, when: {kind: mdn, to: sales@example.co.jp}, then: {receipt: withhold}}
  - {name: partners are asked, when: {direction: outbound, to: "@partner.example"}, then: {request: add}}
  - {name: rivals are not, when: {direction: outbound, to: "@rival.example"}, then: {request: strip}}
  - {name: couriers report, when: {to: "@courier.example"}, then: {delivery_report: add, record: no-subject}}
  - {name: hushed, when: {to: "@hush.example"}, then: {suppress: both}}
"""
ALICE = [b"<alice@example.co.jp>"]
PLAIN = [(b"From", b"Alice <alice@example.co.jp>"), (b"Message-ID", b"<1@example.co.jp>"), (b"Subject", b"Vertrag")]
DNT = (b"Disposition-Notification-To", b"<alice@example.co.jp>")
ADDED = (b"Disposition-Notification-To", b"<alice@example.co.jp>")
RECEIPT = [
    (b"From", b"<bob@partner.example>"),
    (b"Message-ID", b"<r1@partner.example>"),
    (b"Content-Type", b"multipart/report; report-type=disposition-notification; boundary=b"),
]
RECEIPT_BODY = (
    b"--b\r\nContent-Type: message/disposition-notification\r\n\r\nFinal-Recipient: rfc822;bob@partner.example\r\n"
    b"Original-Message-ID: <nothing@example.co.jp>\r\nDisposition: manual-action/MDN-sent-manually; displayed\r\n\r\n--b--\r\n"
)


@pytest.fixture(scope="module")
def milter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Milter]:
    with Milter(tmp_path_factory.mktemp("milter"), POLICY) as one:
        yield one
        one.stop()


def mail(
    *to: bytes, sender: list[bytes] = ALICE, headers: Any = PLAIN, body: bytes = b"Hello.\r\n", **more: Any
) -> Mail:
    return Mail(sender, [one.split(b" ") for one in to], headers, body, **more)


def deliver(milter: Milter, message: Mail, **offers: Any) -> Result:
    with milter.connect(**offers) as mta:
        return mta.deliver(message)


def row(milter: Milter, message_id: str, to: str) -> dict[str, Any]:
    (found,) = [row for row in milter.receipts() if row["message_id"] == message_id and row["to"] == to]
    return found


# What is asked for


def test_only_what_is_needed_is_asked_for(milter: Milter) -> None:
    with milter.connect() as mta:
        assert mta.actions == ADDHDRS | CHGHDRS | 0x04 | ADDRCPT_PAR | DELRCPT | SETSYMLIST
        assert mta.steps == 0xC7C3
        assert mta.symbols == {0: "v", 2: "{none}", 3: "{none}", 5: "i", 6: "{none}"}


def test_an_mta_that_can_less_is_asked_for_less(milter: Milter) -> None:
    with milter.connect(version=2, actions=ADDHDRS | CHGHDRS, steps=0x7F) as mta:
        assert (mta.version, mta.actions, mta.steps) == (2, ADDHDRS | CHGHDRS, 0x43)
        assert mta.deliver(mail(b"<bob@partner.example>")).headers == [*PLAIN, ADDED]


# Every outcome


def test_a_request_is_added_after_the_last_field(milter: Milter) -> None:
    result = deliver(milter, mail(b"<bob@partner.example>"))
    assert result.end == "accept"
    assert result.headers == [*PLAIN, ADDED]
    found = row(milter, "1@example.co.jp", "bob@partner.example")
    assert (found["request"], found["asked_by"], found["outcome"]) == ("added", "policy", "unknown")


def test_every_request_field_is_stripped_and_no_other(milter: Milter) -> None:
    twice = [
        DNT,
        PLAIN[0],
        (b"disposition-notification-to", b"a@b.example"),
        PLAIN[1],
        (b"Return-Receipt-To", b"x"),
        DNT,
        PLAIN[2],
    ]
    result = deliver(milter, mail(b"<eve@rival.example>", headers=twice))
    assert result.headers == PLAIN
    deleted = [struct.unpack("!I", data[:4])[0] for command, data in result.orders if command == b"m"]
    assert sorted(deleted) == [1, 1, 2, 3]


def test_a_message_without_an_id_gets_one_that_the_ledger_knows(milter: Milter) -> None:
    headers = [PLAIN[0], (b"Subject", b"no id")]
    results = [deliver(milter, mail(b"<bob@partner.example>", headers=headers)) for _ in range(2)]
    minted = [dict(result.headers)[b"Message-ID"].decode().strip("<>") for result in results]
    assert minted[0] != minted[1], "two messages of a script are two, and the second is no duplicate"
    for one in minted:
        assert row(milter, one, "bob@partner.example")["request"] == "added"


def test_a_repeated_message_with_an_id_of_its_own_counts_once(milter: Milter) -> None:
    headers = [PLAIN[0], (b"Message-ID", b"<again@example.co.jp>")]
    for _ in range(2):
        deliver(milter, mail(b"<bob@partner.example>", headers=headers))
    row(milter, "again@example.co.jp", "bob@partner.example")


def test_a_delivery_report_is_asked_for_by_a_recipient_put_back_with_other_parameters(milter: Milter) -> None:
    to = b"<carl@courier.example> ORCPT=rfc822;carl+2Bx@courier.example NOTIFY=FAILURE"
    result = deliver(milter, mail(to, b"<dora@other.example> NOTIFY=NEVER"))
    assert result.rcpt == [
        (b"<dora@other.example>", b"NOTIFY=NEVER"),
        (b"<carl@courier.example>", b"ORCPT=rfc822;carl+2Bx@courier.example NOTIFY=SUCCESS,FAILURE,DELAY"),
    ]
    assert result.headers == PLAIN


def test_an_mta_that_cannot_pass_parameters_gets_the_mail_without_them_and_the_record_says_so(milter: Milter) -> None:
    headers = [PLAIN[0], (b"Message-ID", b"<par@example.co.jp>")]
    result = deliver(milter, mail(b"<carl@courier.example>", headers=headers), actions=ALL_ACTIONS & ~ADDRCPT_PAR)
    assert (result.end, result.rcpt) == ("accept", [(b"<carl@courier.example>", b"")])
    assert (
        "not possible: the next hop does not offer DSN"
        in row(milter, "par@example.co.jp", "carl@courier.example")["reason"]
    )


@pytest.mark.parametrize(
    ("lacks", "to"), [(CHGHDRS, b"<eve@rival.example>"), (ADDHDRS, b"<bob@partner.example>")], ids=["strip", "add"]
)
def test_what_the_mta_lets_nobody_change_waits(milter: Milter, lacks: int, to: bytes) -> None:
    result = deliver(
        milter, mail(to, headers=[*PLAIN, DNT] if lacks == CHGHDRS else PLAIN), actions=ALL_ACTIONS & ~lacks
    )
    assert (result.end, result.reply) == ("tempfail", "451 4.3.0 Local error in processing; try again later")
    assert deliver(milter, mail(b"<kurt@customer.example>"), actions=ALL_ACTIONS & ~lacks).end == "accept"


def test_suppression_is_written_for_exchange(milter: Milter) -> None:
    assert deliver(milter, mail(b"<h@hush.example>")).headers == [*PLAIN, (b"X-Auto-Response-Suppress", b"RN, NRN")]


def test_a_receipt_is_withheld_from_one_and_delivered_to_another(milter: Milter) -> None:
    both = mail(b"<sales@example.co.jp>", b"<chef@example.co.jp>", sender=[b"<>"], headers=RECEIPT, body=RECEIPT_BODY)
    result = deliver(milter, both)
    assert (result.end, result.rcpt) == ("accept", [(b"<chef@example.co.jp>", b"")])
    assert row(milter, "r1@partner.example", "sales@example.co.jp")["outcome"] == "withheld"
    assert row(milter, "r1@partner.example", "chef@example.co.jp")["outcome"] == "unknown"


def test_a_receipt_withheld_from_all_is_discarded_and_on_record(milter: Milter) -> None:
    headers = [(b"From", b"<eve@rival.example>"), (b"Message-ID", b"<r2@rival.example>"), RECEIPT[2]]
    to = [b"<sales@example.co.jp>", b"<chef@example.co.jp>"]
    result = deliver(milter, mail(*to, sender=[b"<eve@rival.example>"], headers=headers, body=RECEIPT_BODY))
    assert result.orders == [(b"d", b"")]
    for address in ("sales@example.co.jp", "chef@example.co.jp"):
        assert row(milter, "r2@rival.example", address)["outcome"] == "withheld"


def test_a_receipt_that_all_reject_is_refused(milter: Milter) -> None:
    headers = [RECEIPT[0], (b"Message-ID", b"<r3@partner.example>"), RECEIPT[2]]
    result = deliver(milter, mail(b"<works@example.co.jp>", sender=[b""], headers=headers, body=RECEIPT_BODY))
    assert (result.end, result.reply) == ("reject", "550 5.7.1 Receipts are refused here by policy")
    assert row(milter, "r3@partner.example", "works@example.co.jp")["outcome"] == "refused"


def test_a_receipt_that_not_all_reject_is_withheld_from_who_does(milter: Milter) -> None:
    headers = [RECEIPT[0], (b"Message-ID", b"<r4@partner.example>"), RECEIPT[2]]
    to = [b"<works@example.co.jp>", b"<chef@example.co.jp>"]
    result = deliver(milter, mail(*to, sender=[b"<>"], headers=headers, body=RECEIPT_BODY))
    assert (result.end, result.rcpt) == ("accept", [(b"<chef@example.co.jp>", b"")])
    assert "withheld instead" in row(milter, "r4@partner.example", "works@example.co.jp")["reason"]


def test_the_queue_id_of_the_mta_is_on_record(milter: Milter) -> None:
    headers = [PLAIN[0], (b"Message-ID", b"<queue@example.co.jp>")]
    deliver(milter, mail(b"<bob@partner.example>", headers=headers, queue_id="4bKaifu123"))
    found = row(milter, "queue@example.co.jp", "bob@partner.example")
    shown = milter.command("receipts", "show", str(found["id"]))
    assert "queue id 4bKaifu123" in shown
    assert any("id=4bKaifu123" in line for line in milter.log)


# Bodies


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 10 * CHUNK + 5])
def test_mail_of_any_size_is_decided_once_its_last_piece_has_come(milter: Milter, size: int) -> None:
    """The last piece comes with the end of message; a skip there would leave the message undecided."""
    result = deliver(milter, mail(b"<bob@partner.example>", body=b"x" * size))
    assert (result.end, result.headers) == ("accept", [*PLAIN, ADDED])
    assert result.sent <= CHUNK


@pytest.mark.parametrize("size", [0, 1, CHUNK, 3 * CHUNK])
def test_an_mta_that_cannot_skip_or_be_silent_is_served_as_well(milter: Milter, size: int) -> None:
    message = mail(b"<bob@partner.example>", body=b"x" * size)
    result = deliver(milter, message, steps=ALL_STEPS & ~SKIP & ~NR_HDR & 0x7FF)
    assert (result.end, result.headers, result.sent) == ("accept", [*PLAIN, ADDED], size)


def test_a_rule_on_size_sees_the_whole_size(tmp_path: Path) -> None:
    policy = 'version: 1\nrules: [{name: big, when: {direction: outbound, size: "> 100 KB"}, then: {request: add}}]\n'
    with Milter(tmp_path, policy) as milter:
        for octets in (1_000, CHUNK, 2 * CHUNK, 150_000):
            result = deliver(milter, mail(b"<b@big.example>", body=b"x" * octets))
            assert (ADDED in result.headers, result.sent) == (octets > 100 * 1024, octets)


def test_of_a_possible_report_one_mebibyte_is_read_and_the_rest_skipped(milter: Milter) -> None:
    headers = [RECEIPT[0], (b"Message-ID", b"<r5@partner.example>"), RECEIPT[2]]
    body = b"--b\r\n\r\n" + b"text\r\n" * 1_000_000 + RECEIPT_BODY
    result = deliver(milter, mail(b"<sales@example.co.jp>", sender=[b"<>"], headers=headers, body=body))
    assert (result.end, result.rcpt) == ("accept", [(b"<sales@example.co.jp>", b"")])
    assert (1 << 20) <= result.sent <= (1 << 20) + CHUNK
    assert not [
        one for one in milter.receipts() if one["message_id"] == "r5@partner.example" and one["outcome"] == "withheld"
    ]


# Header fields that nobody expects


ODD = [
    (b"X-8bit", b"gr\xfc\xdfe"),
    (b"Subject", b"=?utf-8?B?5aSq6YOO?="),
    (b"X-Fold", b"one\n\ttwo\n three\n "),
    (b"X-Empty", b""),
    (b"X-\xff\xfe", b"a name that is not UTF-8"),
    (b"X-\xc3\xa9", b"a name that is"),
    (b"X Y", b"a name that is none"),
    (b"a:b", b"another"),
    (b"X-Not-Folded", b"x\nDisposition-Notification-To: <forged@rival.example>"),
    (b"X-Control", b"\x01\x02\x1b[31m\r"),
]


def test_odd_fields_stay_as_they_are_and_the_others_are_edited_right(milter: Milter) -> None:
    headers = [DNT, *ODD, PLAIN[0], DNT, *ODD, PLAIN[1], DNT]
    result = deliver(milter, mail(b"<eve@rival.example>", headers=headers))
    assert (result.end, result.headers) == ("accept", [*ODD, PLAIN[0], *ODD, PLAIN[1]])


def test_a_nul_ends_a_value_and_nothing_else(milter: Milter) -> None:
    """What an MTA sends after it never reaches a milter."""
    with milter.connect() as mta:
        message = mail(b"<bob@partner.example>")
        mta.begin(message)
        mta.content(message)
        mta.send(b"L", b"X-Nul\0before\0after\0")
        assert mta.end(message, b"").headers == [*PLAIN, ADDED]


def test_a_field_longer_than_a_packet_of_libmilter_is_no_reason_to_hang_up(milter: Milter) -> None:
    long = (b"References", b"\n ".join(b"<%050d@example.co.jp>" % n for n in range(2000)))
    assert len(long[1]) > 100_000
    assert deliver(milter, mail(b"<bob@partner.example>", headers=[*PLAIN, long])).headers == [*PLAIN, long, ADDED]


@pytest.mark.parametrize(
    "headers",
    [[(b"X-Long", b"x" * (1 << 20))], [(b"X-%d" % n, b"y" * 1000) for n in range(1100)], [(b"X", b"")] * 300_000],
    ids=["one", "many", "a-flood-of-little-ones"],
)
def test_a_header_over_one_mebibyte_is_refused(milter: Milter, headers: list[tuple[bytes, bytes]]) -> None:
    result = deliver(milter, mail(b"<bob@partner.example>", headers=headers))
    assert (result.end, result.reply) == ("reject", "552 5.3.4 Header section too large")


def test_thousands_of_fields_are_edited_right(milter: Milter) -> None:
    headers = [DNT if n % 7 == 0 else (b"X-%d" % (n % 13), b"v%d" % n) for n in range(7000)]
    result = deliver(milter, mail(b"<eve@rival.example>", headers=headers))
    assert result.headers == [header for header in headers if header is not DNT]


# Packets that no MTA should send


HOSTILE = {
    "four gibibytes": struct.pack("!I", 0xFFFFFFFF) + b"M",
    "three megabytes": struct.pack("!I", 3 << 20) + b"L" + b"x" * 1000,
    "no length": struct.pack("!I", 0),
    "half a length": b"\0\0",
    "half a packet": packet(b"M", words(b"<a@example.co.jp>"))[:-5],
    "an unknown command": packet(b"Z", b"what"),
    "a control character for a command": packet(b"\0", b"\0" * 100),
    "a header without an end": packet(b"L", b"Subject"),
    "a header without a name": packet(b"L", b"\0value\0"),
    "macros without an end": packet(b"D", b"Mi"),
    "a sender without an end": packet(b"M", b"<a@example.co.jp>"),
    "no sender at all": packet(b"M"),
    "an empty header packet": packet(b"L"),
}


@pytest.mark.parametrize("octets", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("at", ["first", "negotiated", "in the header"])
def test_nonsense_ends_the_connection_or_is_passed_over_and_never_accepts_anything(
    milter: Milter, octets: bytes, at: str
) -> None:
    message = mail(b"<bob@partner.example>")
    with milter.connect(negotiate=at != "first") as mta:
        if at == "in the header":
            mta.begin(message)
            mta.send(b"L", words(*PLAIN[0]))
        mta.raw(octets)
        mta.sock.shutdown(1)
        with pytest.raises(Gone):
            raise AssertionError(f"the milter answered {mta.answer()}")
    assert deliver(milter, message).headers == [*PLAIN, ADDED]


@pytest.mark.parametrize(
    "steps",
    [
        [b"E"],
        [b"R", b"E"],
        [b"L", b"E"],
        [b"B", b"E"],
        [b"N", b"B", b"E"],
        [b"E", b"E"],
        [b"U", b"R", b"L", b"B", b"E"],
        [b"A", b"E"],
        [b"M", b"A", b"R", b"E"],
    ],
    ids=lambda steps: b"".join(steps).decode(),
)
@pytest.mark.parametrize("negotiate", [True, False])
def test_an_end_of_message_without_a_message_is_never_accepted(
    milter: Milter, steps: list[bytes], negotiate: bool
) -> None:
    before, after = ([command for command, _ in _all(milter, one, negotiate)] for one in (steps[:-1], steps))
    assert after[: len(before)] == before
    assert set(after[len(before) :]) <= {b"t"}


def _all(milter: Milter, steps: list[bytes], negotiate: bool) -> Iterator[tuple[bytes, bytes]]:
    data = {b"R": words(b"<b@partner.example>"), b"L": words(b"Subject", b"x"), b"B": b"x", b"U": words(b"XYZ")}
    data[b"M"] = words(b"<a@example.co.jp>")
    with milter.connect(negotiate=negotiate) as mta:
        for step in steps:
            mta.send(step, data.get(step, b""))
        mta.sock.shutdown(1)
        while True:
            try:
                yield mta.answer()
            except Gone:
                return


def test_an_mta_that_does_not_negotiate_lets_nothing_be_changed(milter: Milter) -> None:
    assert deliver(milter, mail(b"<kurt@customer.example>"), negotiate=False).end == "accept"
    assert deliver(milter, mail(b"<bob@partner.example>"), negotiate=False).end == "tempfail"


def test_a_protocol_that_is_too_old_is_hung_up_on(milter: Milter) -> None:
    with milter.connect(negotiate=False) as mta:
        mta.send(b"O", struct.pack("!III", 1, 0xFF, 0xFF))
        assert mta.has_hung_up()


def test_an_address_that_cannot_be_read_waits(milter: Milter) -> None:
    result = deliver(milter, mail(b"<bob@partner.example>", b"<\xff\xfe@partner.example>"))
    assert result.end in ("tempfail", "accept")
    result = deliver(milter, mail(b"<bob@partner.example"))
    assert result.end == "tempfail"
    with milter.connect() as mta:
        message = mail(b"<bob@partner.example>")
        mta.begin(message)
        mta.send(b"R", b"\0ORCPT=rfc822;eve@rival.example\0")
        assert mta.end(message, b"").end == "tempfail"


def test_one_connection_carries_many_messages_and_an_abort_leaves_nothing(milter: Milter) -> None:
    with milter.connect() as mta:
        for number in range(20):
            message = mail(b"<bob@partner.example>" if number % 2 else b"<eve@rival.example>", headers=[DNT, *PLAIN])
            mta.begin(message)
            mta.content(message)
            if number % 3 == 0:
                mta.abort()
                continue
            assert mta.end(message, b"x").headers == ([DNT, *PLAIN] if number % 2 else PLAIN)


def test_a_connection_dropped_in_the_middle_of_anything_harms_nobody(milter: Milter) -> None:
    message = mail(b"<bob@partner.example>")
    conversation = b"".join(
        [
            packet(b"O", struct.pack("!III", 6, ALL_ACTIONS, ALL_STEPS)),
            packet(b"D", b"M" + words(b"i", b"Q1")),
            packet(b"M", words(*ALICE)),
            packet(b"R", words(b"<bob@partner.example>")),
            packet(b"L", words(*PLAIN[0])),
            packet(b"B", b"body"),
        ]
    )
    for cut in range(0, len(conversation), 3):
        with milter.connect(negotiate=False) as mta:
            mta.raw(conversation[:cut])
    assert deliver(milter, message).headers == [*PLAIN, ADDED]
