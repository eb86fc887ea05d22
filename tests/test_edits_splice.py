"""Header edits change what they name and nothing else; shown against a model that knows only a list of chunks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaifu.proxy.edits import LINE_LIMIT, LINE_WANTED, Change, Delete, HeaderEdit, Insert, fold, milter_order, splice
from kaifu.proxy.message import HeaderBlock, split_message

Written = list[tuple[bytes, bytes]]
"""Fields: the name as spelled, and all octets."""
Case = tuple[tuple[bytes, Written, bytes], dict[int, HeaderEdit], list[Insert]]
"""Preamble, fields and rest of a block; edits by the index of their field; inserts."""

RECEIVED = b"Received: from a by b\r\n\twith ESMTP; Sat, 21 Nov 2026 10:00:00 +0900\r\n"
BOM = b"\xef\xbb\xbf"

names = st.sampled_from([b"A", b"a", b"B", b"DNT", b"dnt", b"Dnt", b"X-\xe9", BOM + b"A"])
texts = st.one_of(st.binary(max_size=20), st.sampled_from([b"", b" ", b" x\r", b"\x00"])).map(
    lambda octets: octets.replace(b"\n", b"")
)
words = st.text(st.characters(exclude_characters="\r\n\x00", exclude_categories=["Cs"]), max_size=60)
values = st.one_of(words, st.lists(words, max_size=12).map(" ".join), st.lists(words, max_size=12).map("\t ".join))


@st.composite
def fields(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A field: the name as spelled, and all its octets."""
    name = draw(names)
    end = draw(st.sampled_from([b"\r\n", b"\r\n", b"\n"]))
    lines = [name + draw(st.sampled_from([b"", b"", b" "])) + b":" + draw(texts) + end]
    lines += [draw(st.sampled_from([b" ", b"\t"])) + draw(texts) + end for _ in range(draw(st.integers(0, 2)))]
    return name, b"".join(lines)


@st.composite
def blocks(draw: st.DrawFn) -> tuple[bytes, Written, bytes]:
    """Preamble, fields and rest of a header block, odd ones included."""
    preamble = draw(st.sampled_from([b"", b"", b"", b"From a 2026\r\n", b">From b\n"]))
    written = draw(st.lists(fields(), max_size=8))
    rest = draw(
        st.sampled_from([b"\r\n", b"\r\n", b"\n", b"", b"no field\r\n\r\n", b" no field\r\n", b": x\r\n", b"\x00a: b"])
    )
    if written and rest.startswith(b" "):
        rest = b""  # it would be the last field's
    if written and not rest and draw(st.booleans()):
        name, octets = written[-1]
        written[-1] = name, octets.rstrip(b"\r\n\t ")  # cut off in the middle of the last line
    return preamble, written, rest


def key_of(name: bytes, index: int) -> str:
    """How an edit calls a field; only the first one may hide behind a byte order mark."""
    return (name if index else name.removeprefix(BOM)).lower().decode("latin-1")


@st.composite
def edited(draw: st.DrawFn) -> Case:
    """A block, edits of some of its fields by their index, and inserts."""
    preamble, written, rest = draw(blocks())
    counts: dict[str, int] = {}
    edits: dict[int, HeaderEdit] = {}
    for index, (name, _) in enumerate(written):
        key = key_of(name, index)
        counts[key] = counts.get(key, 0) + 1
        what = draw(st.sampled_from(["keep", "keep", "delete", "change"]))
        spelling = draw(st.sampled_from([key, key.upper() if key.isascii() else key]))
        if what == "delete":
            edits[index] = Delete(spelling, counts[key])
        elif what == "change":
            edits[index] = Change(spelling, counts[key], draw(values))
    inserts = draw(st.lists(st.builds(Insert, st.sampled_from(["DNT", "X-New", "a"]), values), max_size=2))
    return (preamble, written, rest), edits, inserts


def end_of(octets: bytes) -> bytes:
    """The line end of the last line."""
    return next((end for end in (b"\r\n", b"\n") if octets.endswith(end)), b"")


def check_new_field(field: bytes, name: bytes, value: str) -> None:
    """It carries the name and the value, and no line is longer than it must be."""
    head, colon, octets = field.partition(b":")
    assert head.rstrip(b" ") + colon == name + b":"
    assert HeaderBlock.parse(b"X:" + octets).raw_values("x") == (value.strip(" \t").encode(),)
    lines = field.replace(b"\r\n", b"\n").removesuffix(b"\n").split(b"\n")
    assert all(line.strip(b" \t") for line in lines)
    for number, line in enumerate(lines):
        assert len(line) <= LINE_LIMIT
        longest_alone = line.partition(b":")[2].strip(b" \t") if number == 0 else line.strip(b" \t")
        assert len(line) <= LINE_WANTED or not (b" " in longest_alone or b"\t" in longest_alone)


@given(edited(), st.sampled_from([b"", RECEIVED]), st.randoms(use_true_random=False))
def test_only_what_an_edit_names_changes(case: Case, prefix: bytes, random: Random) -> None:
    (preamble, written, rest), edits, inserts = case
    block = HeaderBlock.parse(preamble + b"".join(octets for _, octets in written) + rest)
    assert [field.raw for field in block.fields] == [octets for _, octets in written]
    shuffled = list(edits.values())
    random.shuffle(shuffled)
    result = splice(block, [*shuffled, *inserts], prefix=prefix)

    assert result.startswith(preamble + prefix)
    at = len(preamble + prefix)
    for index, (name, octets) in enumerate(written):
        edit = edits.get(index)
        if edit is None:
            assert result.startswith(octets, at)
            at += len(octets)
        elif isinstance(edit, Change):
            changed = HeaderBlock.parse(result[at:]).fields[0].raw
            last = end_of(octets) or (b"\r\n" if inserts else b"")
            assert end_of(changed) == last
            check_new_field(changed, name, edit.value)
            at += len(changed)
    if inserts and at and not result[:at].endswith(b"\n"):
        assert result.startswith(b"\r\n", at)
        at += 2
    for insert in inserts:
        added = HeaderBlock.parse(result[at:]).fields[0].raw
        check_new_field(added, insert.name.encode(), insert.value)
        at += len(added)
    would_continue_our_field = not written and rest.startswith((b" ", b"\t"))
    if would_continue_our_field and (prefix or inserts):
        assert result.startswith(b"\r\n", at)
        at += 2
    assert result[at:] == rest


@given(edited(), st.sampled_from([b"", RECEIVED]))
def test_reading_the_result_shows_exactly_the_fields_that_should_be_there(case: Case, prefix: bytes) -> None:
    (preamble, written, rest), edits, inserts = case
    block = HeaderBlock.parse(preamble + b"".join(octets for _, octets in written) + rest)
    again = HeaderBlock.parse(splice(block, [*edits.values(), *inserts], prefix=prefix))
    expected = [b"Received"] if prefix else []
    expected += [name for index, (name, _) in enumerate(written) if not isinstance(edits.get(index), Delete)]
    expected += [insert.name.encode() for insert in inserts]
    assert [field.name for field in again.fields] == expected
    assert again.preamble == preamble


@given(st.binary(max_size=200))
def test_without_edits_the_same_octets_come_back(raw: bytes) -> None:
    block = HeaderBlock.parse(raw)
    assert splice(block, ()) is raw


@given(st.binary(max_size=120), st.sampled_from([b"", RECEIVED]))
def test_arbitrary_octets_stay_together_behind_what_is_added(raw: bytes, prefix: bytes) -> None:
    block = HeaderBlock.parse(raw)
    result = splice(block, [Insert("X-New", "1")], prefix=prefix)
    assert result.startswith(block.preamble)
    again = HeaderBlock.parse(result)
    assert again.values("x-new")[-1:] == ("1",)
    assert len(again) == len(block) + 1 + bool(prefix)
    assert again.rest.removeprefix(b"\r\n") == block.rest.removeprefix(b"\r\n")


@given(edited())
def test_an_mta_that_counts_anew_after_each_deletion_arrives_at_the_same_fields(case: Case) -> None:
    (_, written, _), edits, inserts = case
    wanted = [*edits.values(), *inserts]
    headers = [(key_of(name, index), f"#{index}") for index, (name, _) in enumerate(written)]
    expected = [
        (key, edit.value if isinstance(edit, Change) else value)
        for index, (key, value) in enumerate(headers)
        if not isinstance(edit := edits.get(index), Delete)
    ]
    expected += [(insert.name.lower(), insert.value) for insert in inserts]
    for edit in milter_order(wanted):
        if isinstance(edit, Insert):
            headers.append((edit.name.lower(), edit.value))
            continue
        key = edit.name.lower() if edit.name.isascii() else edit.name
        place = [index for index, (name, _) in enumerate(headers) if name == key][edit.nth - 1]
        headers[place : place + 1] = [(key, edit.value)] if isinstance(edit, Change) else []
    assert headers == expected


@pytest.mark.parametrize(
    ("raw", "edits", "expected"),
    [
        pytest.param(b"A: 1\r\n\r\n", [Insert("B", "2")], b"A: 1\r\nB: 2\r\n\r\n", id="insert goes last"),
        pytest.param(b"A: 1\n\n", [Insert("B", "2")], b"A: 1\nB: 2\n\n", id="line ends as the neighbour has them"),
        pytest.param(b"A: 1", [Insert("B", "2")], b"A: 1\r\nB: 2\r\n", id="a cut-off line is ended first"),
        pytest.param(b"A: 1", [Delete("A", 1), Insert("B", "2")], b"B: 2\r\n", id="not when it goes"),
        pytest.param(b"", [Insert("B", "2")], b"B: 2\r\n", id="nothing at all"),
        pytest.param(b"\r\n", [Insert("B", "2")], b"B: 2\r\n\r\n", id="an empty header block"),
        pytest.param(b"text\r\n", [Insert("B", "2")], b"B: 2\r\ntext\r\n", id="text without header"),
        pytest.param(
            b" text\r\n", [Insert("B", "2")], b"B: 2\r\n\r\n text\r\n", id="text that would continue the field"
        ),
        pytest.param(
            b"A: 1\r\ntext\r\n\r\n", [Insert("B", "2")], b"A: 1\r\nB: 2\r\ntext\r\n\r\n", id="before opaque lines"
        ),
        pytest.param(
            b"a : 1\r\n 2\r\nA: 3\r\n\r\n", [Change("A", 1, "x")], b"a : x\r\nA: 3\r\n\r\n", id="spelling kept"
        ),
        pytest.param(
            b"A: 1\r\nB: 2\r\na: 3\r\n\r\n", [Delete("A", 1), Delete("A", 2)], b"B: 2\r\n\r\n", id="delete both"
        ),
        pytest.param(
            b"A: 1\r\n\r\n", [Change("A", 1, " \t")], b"A:\r\n\r\n", id="an empty value leaves no stray space"
        ),
        pytest.param(
            BOM + b"A: 1\r\nB: 2\r\n\r\n", [Delete("a", 1)], b"B: 2\r\n\r\n", id="the mark goes with its field"
        ),
    ],
)
def test_edits_in_plain_sight(raw: bytes, edits: Sequence[HeaderEdit], expected: bytes) -> None:
    assert splice(HeaderBlock.parse(raw), edits) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"A: 1\r\n\r\n", RECEIVED + b"A: 1\r\n\r\n"),
        (b"From x\r\nA: 1\r\n\r\n", b"From x\r\n" + RECEIVED + b"A: 1\r\n\r\n"),
        (b"From x", b"From x\r\n" + RECEIVED),
        (BOM + b"A: 1\r\n\r\n", RECEIVED + BOM + b"A: 1\r\n\r\n"),
        (b"\r\n", RECEIVED + b"\r\n"),
        (b" text\r\n", RECEIVED + b"\r\n text\r\n"),
        (b"", RECEIVED),
    ],
)
def test_the_prefix_is_the_first_field(raw: bytes, expected: bytes) -> None:
    assert splice(HeaderBlock.parse(raw), (), prefix=RECEIVED) == expected


@pytest.mark.parametrize(
    "edits",
    [
        [Delete("A", 1), Change("a", 1, "x")],
        [Delete("A", 1), Delete("A", 1)],
        [Delete("A", 3)],
        [Delete("A", 0)],
        [Change("B", 1, "x")],
        [Insert("C", "x" * 999)],
        [Insert("C", "x" + " " * 1100 + "y")],
    ],
)
def test_edits_that_cannot_be_made_are_refused(edits: Sequence[HeaderEdit]) -> None:
    with pytest.raises(ValueError, match=r"edit|folded"):
        splice(HeaderBlock.parse(b"A: 1\r\nA: 2\r\n\r\n"), edits)


def test_a_prefix_that_would_run_into_the_first_field_is_refused() -> None:
    with pytest.raises(ValueError, match="line end"):
        splice(HeaderBlock.parse(b"A: 1\r\n\r\n"), (), prefix=b"Received: x")


@pytest.mark.parametrize("value", ["a\r\nBcc: x", "a\nb", "a\rb", "a\x00b", "a\ud800b"])
def test_no_value_can_start_a_line_of_its_own(value: str) -> None:
    with pytest.raises(ValueError, match="value"):
        Insert("A", value)
    with pytest.raises(ValueError, match="value"):
        Change("A", 1, value)


@pytest.mark.parametrize("name", ["", "A B", "A:", "A\r\nB", "Ä", "A\x00"])
def test_no_insert_has_a_name_that_is_none(name: str) -> None:
    with pytest.raises(ValueError, match="field name"):
        Insert(name, "x")


def test_a_long_value_is_folded_before_white_space_which_stays() -> None:
    value = " ".join(["<someone@example.co.jp>,"] * 8)
    assert fold("Disposition-Notification-To", value) == (
        b" <someone@example.co.jp>, <someone@example.co.jp>,\r\n"
        b" <someone@example.co.jp>, <someone@example.co.jp>, <someone@example.co.jp>,\r\n"
        b" <someone@example.co.jp>, <someone@example.co.jp>, <someone@example.co.jp>,"
    )
    assert fold("A", "x" * 997) == b"\r\n " + b"x" * 997


def test_every_field_of_every_real_message_can_be_removed_alone(corpus: Path) -> None:
    for path in sorted(corpus.glob("*/*.eml")):
        stored = path.read_bytes()
        for raw in (stored, stored.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")):
            block = HeaderBlock.parse(split_message(raw)[0])
            assert splice(block, ()) is block.raw
            counts: dict[str, int] = {}
            for field in block.fields:
                counts[field.key] = counts.get(field.key, 0) + 1
                result = splice(block, [Delete(field.key, counts[field.key])])
                assert result == block.raw[: field.start] + block.raw[field.end :]
            if block.fields:
                last = block.fields[-1]
                assert splice(block, [Insert("X-New", "1")], prefix=RECEIVED).startswith(
                    block.preamble + RECEIVED + block.raw[len(block.preamble) : last.end]
                )
