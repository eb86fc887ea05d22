"""The header block: nothing is lost, and each field is found where it stands."""

from __future__ import annotations

import email.parser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaifu.proxy import message
from kaifu.proxy.message import HeaderBlock, find_header_end, split_message

NAME_OCTETS = bytes(set(range(0x21, 0x100)) - {0x3A, 0x7F})
BOM = b"\xef\xbb\xbf"

names = st.one_of(
    st.sampled_from(
        [b"Subject", b"subject", b"Disposition-Notification-To", b"DISPOSITION-NOTIFICATION-TO", b"X", b"\xe9A"]
    ),
    st.lists(st.sampled_from(NAME_OCTETS), min_size=1, max_size=12).map(bytes),
)
line_ends = st.sampled_from([b"\r\n", b"\n"])
texts = st.one_of(st.binary(max_size=30), st.sampled_from([b"", b" ", b" <a@b.example>", b"x\r", b"\x00", b": :"])).map(
    lambda octets: octets.replace(b"\n", b"")
)


@st.composite
def fields(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A field and its name."""
    name = draw(names)
    lines = [name + draw(st.sampled_from([b"", b" ", b"\t "])) + b":" + draw(texts) + draw(line_ends)]
    for _ in range(draw(st.integers(0, 3))):
        lines.append(draw(st.sampled_from([b" ", b"\t"])) + draw(texts) + draw(line_ends))
    return name, b"".join(lines)


preambles = st.sampled_from(
    [b"", b"", b"From a Mon Jan  1 00:00:00 2026\n", b">From b\r\n", b"From a\nFrom b\n", BOM + b"From -\n"]
)
rests = st.one_of(
    st.sampled_from([b"", b"\r\n", b"\n", b": no name\r\n", b"two words: x\r\n\r\n", b"\x01a: b\n\n"]),
    st.binary(max_size=20).map(lambda octets: b"\r\n" + octets),
)


@given(preambles, st.lists(fields(), min_size=1, max_size=8), rests)
def test_every_field_is_found_exactly_where_it_stands(
    preamble: bytes, written: list[tuple[bytes, bytes]], rest: bytes
) -> None:
    block = HeaderBlock.parse(preamble + b"".join(octets for _, octets in written) + rest)
    assert [(field.name, field.raw) for field in block.fields] == written
    assert (block.preamble, block.rest) == (preamble, rest)
    for field in block.fields:
        assert field.raw_value == field.raw[len(field.raw) - len(field.raw_value) :]
        assert field.raw.startswith(field.name)
        assert block.raw[field.value_start - 1 : field.value_start] == b":"


@given(st.lists(fields(), min_size=1, max_size=8))
def test_nth_counts_the_fields_of_a_name_over_the_block_without_regard_to_case(
    written: list[tuple[bytes, bytes]],
) -> None:
    block = HeaderBlock.parse(b"".join(octets for _, octets in written) + b"\r\n")
    seen: dict[str, int] = {}
    for name, octets in written:
        key = name.lower().decode("latin-1")
        seen[key] = seen.get(key, 0) + 1
        for spelling in (key, name.decode("latin-1"), name.upper().decode("latin-1")):
            field = block.nth(spelling, seen[key])
            assert field is not None
            assert (field.raw, field.key) == (octets, key)
    for key, count in seen.items():
        assert block.count(key) == count == len(block.values(key)) == len(block.raw_values(key)) == len(block.all(key))
        assert block.nth(key, count + 1) is None is block.nth(key, 0)
        assert key in block
    assert sorted(block.keys) == sorted(seen)


@given(st.binary(max_size=200))
def test_the_parts_of_any_octets_joined_are_those_octets(raw: bytes) -> None:
    block = HeaderBlock.parse(raw)
    assert b"".join(block.parts) == raw
    assert isinstance(block.odd, tuple)
    for key in block.keys:
        assert all("\n" not in value and "\r" not in value and "\x00" not in value for value in block.values(key))


@given(
    st.lists(
        st.sampled_from([b"\r", b"\n", b" ", b":", b"a", b"From ", b">", BOM, b"\x00", b"=?utf-8?q?=0a?="]), max_size=40
    )
)
def test_the_parts_of_anything_made_of_syntax_joined_are_the_input(pieces: list[bytes]) -> None:
    raw = b"".join(pieces)
    block = HeaderBlock.parse(raw)
    assert b"".join(block.parts) == raw
    assert block.fields_start <= block.fields_end <= len(raw)
    assert all(not part.startswith((b" ", b"\t")) for part in block.parts[1:-1])


def test_values_are_unfolded_trimmed_and_decoded() -> None:
    block = HeaderBlock.parse(b"Subject: =?utf-8?q?a?=\r\n =?utf-8?q?b?=\r\n\tc \r\nsubject:\r\n d\r\n\r\n")
    assert block.raw_values("subject") == (b"=?utf-8?q?a?= =?utf-8?q?b?=\tc", b"d")
    assert block.values("Subject") == ("ab\tc", "d")
    assert block.values("subject") is block.values("subject")
    assert block.values("cc") == ()
    assert block.first("cc") is None


def test_a_continuation_that_holds_only_white_space_does_not_end_the_field() -> None:
    block = HeaderBlock.parse(b"A: x\r\n \r\n\t\r\n y\r\nB: z\r\n\r\n")
    assert block.raw_values("a") == (b"x \t y",)
    assert block.raw_values("b") == (b"z",)


@pytest.mark.parametrize("blank", [b" \r\n", b"garbage\r\n", b"two words: x\r\n", b": x\r\n", b"\x00B: x\r\n"])
def test_what_follows_a_line_that_is_no_field_is_opaque(blank: bytes) -> None:
    opaque = (b"" if blank.startswith(b" ") else b"A: 1\r\n") + blank
    block = HeaderBlock.parse(opaque + b"Subject: never seen\r\n\r\n")
    assert block.first("subject") is None
    assert block.rest == opaque.removeprefix(b"A: 1\r\n") + b"Subject: never seen\r\n\r\n"
    assert f"line {len(block) + 1} is no header field" in block.odd


def test_names_as_long_as_a_stranger_likes_are_not_remembered() -> None:
    long = [b"%05d" % n * 30 for n in range(50)]
    before = message._known_key.cache_info().currsize
    block = HeaderBlock.parse(b"".join(name + b": x\r\n" for name in long) + b"\r\n")
    assert [block.count(name.decode()) for name in long] == [1] * 50
    assert message._known_key.cache_info().currsize == before


def test_a_byte_order_mark_does_not_hide_the_first_field() -> None:
    block = HeaderBlock.parse(BOM + b"Subject: a\r\nsubject: b\r\n\r\n")
    assert block.values("subject") == ("a", "b")
    first = block.first("subject")
    assert first is not None
    assert (first.start, first.name, first.key) == (0, BOM + b"Subject", "subject")
    assert block.keys == ("subject",)
    assert "a byte order mark before the first field" in block.odd


def test_a_byte_order_mark_further_down_is_part_of_a_name() -> None:
    block = HeaderBlock.parse(b"A: 1\r\n" + BOM + b"Subject: a\r\n\r\n")
    assert block.first("subject") is None
    assert block.fields[1].key == "\xef\xbb\xbfsubject"
    assert block.nth(block.fields[1].key, 1) is not None


def test_a_from_field_with_a_space_before_its_colon_is_no_mbox_line() -> None:
    block = HeaderBlock.parse(b"From : a@b.example\r\nTo: c\r\n\r\n")
    assert block.values("from") == ("a@b.example",)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"A: b\r\n", "no empty line after the fields"),
        (b"A: b\n\n", "a line that ends with a bare LF"),
        (b"A: b\rc\r\n\r\n", "a bare CR in the header block"),
        (b"A: \x00\r\n\r\n", "a NUL octet in the header block"),
        (b"A: \xe9\r\n\r\n", "octets above 127 in the header block"),
        (b"A : b\r\n\r\n", "white space before the colon of a field"),
        (b"A: b\r\n \r\n\r\n", "a folded line that holds only white space"),
        (b"A: " + b"b" * 996 + b"\r\n\r\n", "a line longer than 998 octets"),
        (b"From a\r\nA: b\r\n\r\n", "an mbox From line before the first field"),
    ],
)
def test_what_does_not_conform_is_told_in_words(raw: bytes, words: str) -> None:
    assert HeaderBlock.parse(raw).odd == (words,)


def test_a_header_block_as_it_should_be_has_nothing_odd() -> None:
    assert HeaderBlock.parse(b"A: " + b"b" * 995 + b"\r\nB:\r\n c\r\n\r\n").odd == ()


@given(st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b"a", b"a: b"]), max_size=12), st.data())
def test_the_end_of_the_header_block_is_found_however_it_arrives(pieces: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(pieces)
    expected = 2 if whole.startswith(b"\r\n") else whole.find(b"\r\n\r\n") + 4 if b"\r\n\r\n" in whole else -1
    buffer, found, seen = bytearray(), -1, 0
    while found < 0 and seen < len(whole):
        step = data.draw(st.integers(1, len(whole) - seen))
        buffer += whole[seen : seen + step]
        found = find_header_end(buffer, seen)
        seen += step
    assert found == expected
    assert find_header_end(whole) == expected


@pytest.mark.parametrize(
    ("raw", "offset"),
    [
        (b"A: b\r\n\r\nbody", 8),
        (b"A: b\n\nbody\n\n", 6),
        (b"A: b\r\n\nbody", 7),
        (b"A: b\n\r\nbody\r\n\r\n", 7),
        (b"\r\nbody", 2),
        (b"\nbody\n\n", 1),
        (b"A: b\r\n", 6),
        (b"", 0),
    ],
)
def test_a_stored_message_is_cut_after_its_first_empty_line(raw: bytes, offset: int) -> None:
    assert split_message(raw) == (raw[:offset], offset)


def test_every_real_message_keeps_its_octets_and_its_fields(corpus: Path) -> None:
    """Field names agree with another parser where the block is well enough formed for both to read."""
    read_otherwise = {
        "a byte order mark before the first field",
        "an mbox From line before the first field",
        "white space before the colon of a field",
        "a bare CR in the header block",
    }
    compared = 0
    for path in sorted(corpus.glob("*/*.eml")):
        stored = path.read_bytes()
        for raw in (stored, stored.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")):
            header, offset = split_message(raw)
            block = HeaderBlock.parse(header)
            assert b"".join(block.parts) == header
            assert header + raw[offset:] == raw
            if block.complete and not read_otherwise.intersection(block.odd):
                known = email.parser.BytesHeaderParser().parsebytes(header)
                names = [name.encode("ascii", "surrogateescape") for name in known]
                assert [field.name for field in block.fields] == names, path.name
                compared += 1
    assert compared > 200
