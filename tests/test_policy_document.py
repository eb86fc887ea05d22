"""The YAML reader: text stays text, places are right, and nothing that a file can hold makes it large or slow."""

from __future__ import annotations

import pytest

from kaifu.policies.document import (
    Checker,
    MappingNode,
    Node,
    Problem,
    ProblemsError,
    ScalarNode,
    SequenceNode,
    nearest,
    read,
)


def root(text: str | bytes) -> Node:
    node, problems = read(text, "file")
    assert problems == []
    assert node is not None
    return node


def value(text: str | bytes, key: str = "key") -> ScalarNode:
    node = root(text)
    assert isinstance(node, MappingNode)
    found = {k.text: v for k, v in node.entries}[key]
    assert isinstance(found, ScalarNode)
    return found


def messages(text: str | bytes) -> list[str]:
    return [str(problem) for problem in read(text, "file")[1]]


# --- text stays text ----------------------------------------------------------------------------------------------

LOOKS = [
    "on",
    "off",
    "yes",
    "No",
    "18:00",
    "0660",
    "0o17",
    "1_000",
    "2024-01-01",
    "1e3",
    ".5",
    "null",
    "~",
    "=",
    "0x1F",
]


@pytest.mark.parametrize("look", LOOKS)
def test_a_scalar_keeps_its_text_however_it_looks(look: str) -> None:
    assert value(f"key: {look}\n").text == look


def test_a_scalar_knows_whether_it_was_quoted() -> None:
    styles = [
        value(f"key: {text}\n").style for text in ("plain", "'single'", '"double"', "|\n  literal", ">\n  folded")
    ]
    assert styles == ["", "'", '"', "|", ">"]


@pytest.mark.parametrize("text", ["key:\n", "key: ~\n", "key: null\n", "{key: }", "key:"])
def test_nothing_is_empty_in_all_its_spellings(text: str) -> None:
    assert value(text).empty


def test_a_quoted_null_is_a_word() -> None:
    assert not value('key: "null"\n').empty


def test_a_byte_order_mark_and_windows_line_ends_are_no_matter() -> None:
    scalar = value(b"\xef\xbb\xbf# comment\r\nkey: value\r\n")
    assert (scalar.text, scalar.line, scalar.column) == ("value", 2, 6)


def test_text_of_other_scripts_counts_in_characters() -> None:
    scalar = value("{契約書: 𠮷野家, key: 値}")
    assert (scalar.line, scalar.column) == (1, 17)


def test_a_pair_of_surrogate_escapes_is_one_character() -> None:
    assert value('key: "\\ud842\\udfb7"').text == "𠮷"


# --- places -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("key: abc\n", (1, 8)),
        ("key: 'abc'\n", (1, 9)),
        ('\n\nkey:    "abc"\n', (3, 12)),
        ('key: "a\\x62c"\n', (1, 6)),  # escapes: only the beginning is known
        ("key: |\n  abc\n", (1, 6)),
    ],
)
def test_a_scalar_can_point_at_one_of_its_characters(text: str, place: tuple[int, int]) -> None:
    assert value(text).at(2) == place


def test_an_alias_leads_to_the_place_of_its_anchor() -> None:
    node = root("a: &x [one]\nb: *x\n")
    assert isinstance(node, MappingNode)
    (_, first), (_, second) = node.entries
    assert first is second
    assert (second.line, second.column) == (1, 4)


def test_a_problem_is_shown_as_file_line_column_message_and_hint() -> None:
    assert str(Problem("a.yaml", 3, 7, "no", "yes")) == 'a.yaml:3:7: no (did you mean "yes"?)'
    assert str(Problem("a.yaml", 3, 7, "hm", None, "warning")) == "a.yaml:3:7: warning: hm"
    assert str(Problem("a.yaml", 0, 0, "gone")) == "a.yaml: gone"


def test_problems_come_in_the_order_of_the_file_and_each_once() -> None:
    late, early = Problem("f", 9, 1, "late"), Problem("f", 2, 5, "early")
    error = ProblemsError([late, early, late])
    assert error.problems == (early, late)
    assert str(error) == "f:2:5: early\nf:9:1: late"


# --- bounds -------------------------------------------------------------------------------------------------------


def test_aliases_cannot_grow_a_small_file_into_a_large_one() -> None:
    laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    laughs += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 30))
    assert messages(laughs) == ["file:6:15: more than 200000 values, aliases followed"]


@pytest.mark.parametrize("text", ["[" * 5000, "{a: " * 5000, "- " * 5000, "? " * 5000])
def test_depth_is_bounded(text: str) -> None:
    (message,) = messages(text)
    assert message.endswith("nested deeper than 32 levels")


def test_size_is_bounded() -> None:
    assert messages("#" * (1 << 20) + "\n") == ["file:1:1: the file is larger than 1048576 octets"]


def test_a_file_full_of_one_mistake_reports_a_handful() -> None:
    assert len(messages("- @x\n" * 1000)) == 21
    assert len(messages(b"- \xff\n" * 1000)) == 20


def test_a_line_of_another_encoding_is_reported_once() -> None:
    assert messages("key: 契約書\nother: 覚書\n".encode("shift_jis")) == [
        "file:1:6: not UTF-8 (octet 0x8C); save the file as UTF-8",
        "file:2:8: not UTF-8 (octet 0x8A); save the file as UTF-8",
    ]


def test_a_long_file_is_not_read_anew_for_each_mistake() -> None:
    padding = "# padding of a line\n" * 3000
    assert len(messages(padding + "- @x\n" * 20)) == 5


def test_a_character_that_stops_the_reader_is_reported_once() -> None:
    said = "file:1:2: the character U+0000 cannot stand here; write it as an escape in double quotes"
    assert messages(b"%\x00\n") == [said]


def test_reading_goes_on_behind_a_mistake_that_quotes_would_mend() -> None:
    node, problems = read("a: @x\nb: [*y@z, w]\nc: d\n", "file")
    assert [(p.line, p.column) for p in problems] == [(1, 4), (2, 5)]
    assert isinstance(node, MappingNode)
    (_, a), (_, b), (_, c) = node.entries
    assert isinstance(a, ScalarNode)
    assert a.damaged
    assert isinstance(b, SequenceNode)
    assert [item.damaged for item in b.items if isinstance(item, ScalarNode)] == [True, False]
    assert c == ScalarNode(3, 4, "d", verbatim=True)


# --- values -------------------------------------------------------------------------------------------------------


def checked(text: str) -> tuple[Checker, Node]:
    node = root(f"key: {text}\n")
    assert isinstance(node, MappingNode)
    return Checker("file"), node.entries[0][1]


def said(checker: Checker) -> list[str]:
    return [str(problem).removeprefix("file:1:6: ") for problem in checker.problems]


@pytest.mark.parametrize(
    ("text", "expected"), [("true", True), ("False", False), ("yes", None), ('"true"', None), ("[true]", None)]
)
def test_only_true_and_false_are_truth_values(text: str, expected: bool | None) -> None:
    checker, node = checked(text)
    assert checker.as_bool(node, "it") is expected
    assert bool(checker.problems) is (expected is None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("-5", -5),
        ("5", 5),
        ("10", None),
        ("010", None),
        ("1e3", None),
        ('"5"', None),
        ("٥", None),
        ("5.0", None),
    ],
)
def test_numbers_are_decimal_and_within_bounds(text: str, expected: int | None) -> None:
    checker, node = checked(text)
    assert checker.as_int(node, "it", -5, 9) == expected
    assert bool(checker.problems) is (expected is None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a]", "it must be text"),
        ("", "it must be text, but has no value"),
        ('" "', "it is empty"),
        ('"a\\tb"', "it contains a control character or a line break"),
        ('"a\\nb"', "it contains a control character or a line break"),
    ],
)
def test_text_must_be_something_that_fits_in_a_line(text: str, message: str) -> None:
    checker, node = checked(text)
    assert checker.as_str(node, "it") is None
    assert [problem.message for problem in checker.problems] == [message]


def test_text_of_several_lines_can_be_asked_for() -> None:
    checker, node = checked("|\n  one\n  two\n")
    assert checker.as_str(node, "it", lines=True) == "one\ntwo"


def test_one_value_counts_as_a_list_where_that_is_asked_for() -> None:
    checker, node = checked("one")
    assert checker.as_list(node, "it", one=True) == (node,)
    assert checker.as_list(node, "it") is None
    assert said(checker) == ["it must be a list"]


def test_a_choice_says_what_there_is_to_choose() -> None:
    checker, node = checked("ade")
    assert checker.as_choice(node, "it", {"add": 1, "strip": 2}) is None
    assert said(checker) == ['it must be one of add, strip, not "ade" (did you mean "add"?)']


def test_of_many_choices_some_are_named() -> None:
    checker, node = checked("word99x")
    assert checker.as_choice(node, "it", {f"word{n}": n for n in range(100)}) is None
    words = ", ".join(f"word{n}" for n in range(20))
    assert said(checker) == [f'it must be one of {words}, …, not "word99x" (did you mean "word99"?)']


def test_looking_for_near_spellings_ends_when_there_is_too_much_to_compare() -> None:
    checker = Checker("file")
    known = [f"word{n}" for n in range(5000)]
    hints = [checker.nearest("word99x", known) for _ in range(1000)]  # each one takes a tenth of a second
    assert hints == ["word99"] * 4 + [None] * 996


def test_a_missing_key_is_an_error_at_its_mapping_unless_it_was_misspelt() -> None:
    checker, node = checked("{nmae: x, colour: y}")
    assert checker.as_mapping(node, "a thing", ("name", "size"), required=("name", "size")) == {}
    assert [problem.message for problem in checker.problems] == [
        'unknown key "nmae" in a thing',
        'unknown key "colour" in a thing',
        'a thing lacks "size"',
    ]


def test_warnings_do_not_raise_and_errors_bring_them_along() -> None:
    checker, node = checked("x")
    checker.warn(node, "hm")
    checker.raise_errors()
    checker.error(node, "no")
    with pytest.raises(ProblemsError) as raised:
        checker.raise_errors()
    assert [problem.severity for problem in raised.value.problems] == ["warning", "error"]


@pytest.mark.parametrize(
    ("word", "expected"),
    [("outbond", "outbound"), ("no_subject", "no-subject"), ("No Subject", "no-subject"), ("xyzzy", None), ("", None)],
)
def test_the_nearest_spelling_is_a_near_one(word: str, expected: str | None) -> None:
    assert nearest(word, ["outbound", "inbound", "no-subject"]) == expected
