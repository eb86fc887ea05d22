"""Where the parts of a message lie, as far as it is given."""

from __future__ import annotations

import base64
import quopri
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaifu.proxy.message import HeaderBlock
from kaifu.proxy.mime import MAX_DEPTH, MAX_LINES, MAX_PARTS, Entity, Structure, decoded, read_structure

Counter = Callable[[Callable[[], object]], int]


def read(body: bytes, media: bytes = b"multipart/mixed; boundary=b", *, complete: bool = True) -> Structure:
    return read_structure(HeaderBlock.parse(b"Content-Type: " + media + b"\r\n\r\n"), body, complete=complete)


def bodies(entity: Entity) -> list[bytes]:
    return [part.body for part in entity.parts]


@pytest.mark.parametrize(
    ("body", "parts"),
    [
        (b"--b\r\n\r\none\r\n--b\r\n\r\ntwo\r\n--b--\r\n", [b"one", b"two"]),
        (b"--b\n\none\n--b\n\ntwo\n--b--\n", [b"one", b"two"]),
        (b"--b\r\n\none\n\r\n--b\n\r\ntwo\r\n--b--", [b"one\n", b"two"]),
        (b"preamble\r\n--b \t\r\n\r\none\r\n--b-- \r\nepilogue\r\n--b\r\n\r\nno part\r\n", [b"one"]),
        (b"--b\r\n\r\none\r\n--bb\r\n--b--b\r\n--b\r\n\r\ntwo\r\n--b--\r\n", [b"one\r\n--bb\r\n--b--b", b"two"]),
        (b"--b\r\n\r\none\r\n--b\r\n\r\ntwo", [b"one", b"two"]),
        (b"--b\r\n--b\r\n\r\n--b--\r\n", [b"", b""]),
        (b"--b\r\nno header: but text\r\n--b--\r\n", [b"no header: but text"]),
        (b"--b\r\nContent-Type: text/html\r\n--b--\r\n", [b""]),
        (b"--b\r\nContent-Type: text/html\r\nno field\r\n\r\ntext\r\n--b--\r\n", [b"no field\r\n\r\ntext"]),
        (b"text --b\r\n --b\r\n", []),
        (b"", []),
    ],
)
def test_parts_lie_between_delimiter_lines(body: bytes, parts: list[bytes]) -> None:
    assert bodies(read(body).top) == parts


@pytest.mark.parametrize(
    ("media", "delimiter"),
    [
        (b'multipart/mixed; boundary="with (every)=kind:of/sign ?"', b"--with (every)=kind:of/sign ?"),
        (b'multipart/mixed; boundary="trailing  "', b"--trailing"),
        (b"multipart/mixed; boundary=" + b"x" * 2000, b"--" + b"x" * 2000),
        (b'multipart/mixed; boundary="--"', b"----"),
    ],
)
def test_any_boundary_is_taken_literally(media: bytes, delimiter: bytes) -> None:
    body = delimiter + b"\r\n\r\nx\r\n" + delimiter + b"--\r\n"
    assert bodies(read(body, media).top) == [b"x"]


def test_a_part_that_is_a_message_is_not_looked_into() -> None:
    inner = b"Content-Type: multipart/mixed; boundary=i\r\n\r\n--i\r\n\r\ntext\r\n--i--"
    for media in (b"message/rfc822", b"message/global", b"text/rfc822-headers"):
        top = read(b"--b\r\nContent-Type: " + media + b"\r\n\r\n" + inner + b"\r\n--b--\r\n").top
        assert [part.parts for part in top.parts] == [()]


def test_the_parts_of_a_digest_are_messages_unless_they_say_otherwise() -> None:
    body = b"--b\r\n\r\nSubject: x\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\ny\r\n--b--\r\n"
    assert [p.type.full for p in read(body, b"multipart/digest; boundary=b").top.parts] == [
        "message/rfc822",
        "text/plain",
    ]


def test_an_outer_delimiter_ends_what_an_inner_one_did_not() -> None:
    inner = b"Content-Type: multipart/mixed; boundary=i\r\n\r\n--i\r\n\r\ninner\r\n"
    top = read(b"--b\r\n" + inner + b"--b\r\n\r\nouter\r\n--b--\r\n").top
    assert [bodies(part) for part in top.parts] == [[b"inner"], []]
    assert top.parts[0].parts[0].delimited


def test_the_header_of_a_report_part_may_follow_an_empty_line() -> None:
    body = b"--b\r\n\r\ntext\r\n--b\r\n\r\nContent-Type: message/delivery-status\r\n\r\nAction: x\r\n--b--\r\n"
    top = read(body, b"multipart/report; boundary=b").top
    assert [p.type.full for p in top.parts] == ["text/plain", "message/delivery-status"]
    assert read(body).top.parts[1].type.full == "text/plain"


def test_a_report_without_its_boundary_is_read_by_its_first_message_part() -> None:
    body = b"Text.\n\n--A/1=_\nContent-Type: message/delivery-status\n\nAction: x\n--A/1=_--\n"
    top = read(body, b"multipart/report; report-type=delivery-status;").top
    assert [p.type.full for p in top.parts] == ["message/delivery-status"]
    assert top.odd == ("no boundary is given",)
    assert read(body, b"multipart/mixed").top.parts == ()


@pytest.mark.parametrize("cut", range(60))
def test_a_part_is_whole_once_its_delimiter_line_has_arrived(cut: int) -> None:
    body = b"--b\r\n\r\none\r\n--b\r\n\r\ntwo\r\n--b--\r\nepilogue"
    first_ends, second_ends = body.index(b"--b", 3) + 5, body.index(b"--b--") + 7
    whole = [part.body for part in read(body[:cut], complete=False).top.parts if part.whole]
    assert whole == [b"one"] * (cut >= first_ends) + [b"two"] * (cut >= second_ends)


def test_a_complete_message_without_final_delimiter_has_whole_parts() -> None:
    (part,) = read(b"--b\r\n\r\ntext").top.parts
    assert (part.whole, part.delimited) == (True, False)
    assert read(b"--b\r\n\r\ntext").top.odd == ("no closing delimiter",)


@pytest.mark.parametrize(
    ("octets", "encoding", "content"),
    [
        (base64.encodebytes(b"any octets \xff\x00" * 20), "base64", b"any octets \xff\x00" * 20),
        (b"YW55!\r\n b2N0\r\nZXRz", "base64", b"anyoctets"),
        (b"YW55IG9=junk after the padding", "base64", b"any o"),
        (b"YW55I", "base64", b"any"),
        (b"", "base64", b""),
        (quopri.encodestring("開封".encode()), "quoted-printable", "開封".encode()),
        (b"a=\r\nb=4", "quoted-printable", b"ab=4"),
        (b"as it is=41", "7bit", b"as it is=41"),
        (b"as it is", "x-unknown", b"as it is"),
    ],
)
def test_transfer_encodings_are_undone(octets: bytes, encoding: str, content: bytes) -> None:
    assert decoded(octets, encoding) == content


@given(st.binary(max_size=200), st.sampled_from(["base64", "quoted-printable", "8bit"]))
def test_no_octets_fail_to_decode(octets: bytes, encoding: str) -> None:
    decoded(octets, encoding)


_PIECES = st.lists(
    st.sampled_from(
        [
            b"\r\n--b\r\n",
            b"\r\n--b\r\n",
            b"\n--b \n",
            b"\r\n--b--\r\n",
            b"\r\n--i\r\n",
            b"\n--i\n",
            b"\r\n--i--\r\n",
            b"--b",
            b"--i--",
            b"\r\n",
            b"\n",
            b"\r",
            b" ",
            b"text",
            b"\r\n--b\r\nContent-Type: multipart/mixed; boundary=i\r\n\r\n--i\r\n",
            b"\n--b\nContent-Type: multipart/report; boundary=i\n\n--i\n\ntext\n--i\n\n",
            b"Content-Type: multipart/report; boundary=b\r\n\r\n",
            b"Content-Type: message/rfc822\r\n\r\n",
            b"\x00\xff",
        ]
    ),
    max_size=60,
).map(b"".join)


def test_the_search_reaches_parts_within_parts() -> None:
    """A search that hardly ever finds a part would prove nothing about parts."""
    seen = dict.fromkeys(("parts", "nested", "whole"), 0)

    @settings(max_examples=100)
    @given(_PIECES)
    def look(body: bytes) -> None:
        top = read(body).top
        seen["parts"] += len(top.parts) > 1
        seen["nested"] += any(part.parts for part in top.parts)
        seen["whole"] += any(part.whole for part in read(body[: len(body) // 2], complete=False).top.parts)

    look()
    assert min(seen.values()) >= 10, seen


@given(_PIECES, st.booleans())
def test_spans_nest_and_never_overlap(body: bytes, complete: bool) -> None:
    def check(entity: Entity) -> None:
        assert 0 <= entity.start <= entity.end <= len(body)
        reached = entity.start
        for part in entity.parts:
            assert reached <= part.start or part.start == part.end
            assert part.end <= entity.end
            reached = max(reached, part.end)
            check(part)

    check(read(body, complete=complete).top)


@given(_PIECES)
def test_what_is_whole_in_a_prefix_is_the_same_in_the_message(body: bytes) -> None:
    for cut in range(0, len(body), 7):
        known = [(p.start, p.end) for p in read(body[:cut], complete=False).top.parts if p.whole]
        assert known == [(p.start, p.end) for p in read(body).top.parts][: len(known)]


def nested(levels: int) -> bytes:
    opening = [b"--b%d\r\nContent-Type: multipart/mixed; boundary=b%d\r\n\r\n" % (n, n + 1) for n in range(levels)]
    return b"".join(opening) + b"--b%d\r\n\r\ninnermost\r\n" % levels


def test_nesting_has_a_limit() -> None:
    media = b"multipart/mixed; boundary=b0"
    assert not read(nested(MAX_DEPTH - 1), media).exceeded
    assert read(nested(MAX_DEPTH), media).exceeded
    assert read(nested(2000), media).exceeded


def test_parts_have_a_limit() -> None:
    assert not read(b"--b\r\n\r\n" * MAX_PARTS).exceeded
    crowded = read(b"--b\r\n\r\n" * 100_000)
    assert crowded.exceeded
    assert len(crowded.top.parts) == MAX_PARTS


def test_lines_that_look_like_delimiters_have_a_limit() -> None:
    crowded = read(b"--b!\n" * 200_000)
    assert crowded.exceeded
    assert crowded.lines == MAX_LINES


@pytest.mark.parametrize(
    "unit",
    [
        b"--b\r\n",
        b"--bb\n",
        b"\n",
        b"-",
        b"--b",
        b"--b \t",
        b"--b--",
        b"--b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n",
        b"a: b\n",
    ],
    ids=repr,
)
def test_effort_grows_no_faster_than_the_message(unit: bytes, count_calls: Counter) -> None:
    def effort(times: int) -> int:
        body = b"--b\r\n" + unit * times
        return count_calls(lambda: read(body, b"multipart/report; boundary=b"))

    assert effort(400) <= 2 * effort(200) + 200
