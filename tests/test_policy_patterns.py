"""Patterns and addresses as people write them: what matches what, and that hostile text costs no more than its length."""

from __future__ import annotations

import pytest

from kaifu.policies.addresses import AddressError, entry, mailbox, union
from kaifu.policies.facts import Mailbox
from kaifu.policies.patterns import PatternError, pattern
from kaifu.policies.text import fold, nfc

MATCHES = [
    ("contract", "Contract"),
    ("contract", "  contract\t"),
    ("order ?", "order 7 "),
    ("order*", " ORDER "),
    ("order*", "order\nof two lines"),
    ("[ab] (1+1)*", "[ab] (1+1) is two"),
    ("a.b", "A.B"),
    (r"c:\*", r"C:\path"),
    ("straße", "STRASSE"),
    ("*", ""),
    ("???", "契約書"),
    ("*が*", "か\u3099ぞう"),
    ("*か\u3099*", "がぞう"),
    ("/がぞう/", "か\u3099ぞう"),
    ("/か\u3099/", "がぞう"),
    ("/^a.c$/", "abc"),
    ("/B/i", "abc"),
    ("/É/i", "e\u0301"),
    (r"/\bNDA\b/", "the NDA, signed"),
    ("/a/b/", "x a/b y"),
    ("/ /", "a b"),
    ("*é*", "x" * 300 + "e\u0301" + "x" * 300),
]
MISSES = [
    ("contract", "contracts"),
    ("contract", "a contract"),
    ("order ?", "order 12"),
    ("order *", " ORDER "),
    ("[ab]*", "a"),
    ("a.b", "axb"),
    ("c+", "cc"),
    ("/B/", "abc"),
    ("/^b/", "a\nb"),
    ("/a.c/", "a\nc"),
    ("?", ""),
]


@pytest.mark.parametrize(("text", "value"), MATCHES)
def test_a_pattern_matches(text: str, value: str) -> None:
    assert pattern(text).matches(value)


@pytest.mark.parametrize(("text", "value"), MISSES)
def test_a_pattern_does_not_match(text: str, value: str) -> None:
    assert not pattern(text).matches(value)


@pytest.mark.parametrize("text", ["*x", "/x/i", "x"])
def test_a_value_that_is_no_text_at_all_matches_nothing(text: str) -> None:
    assert not pattern(text).matches("\ud800")


def test_a_pattern_has_a_length() -> None:
    pattern("/" + "x" * 4000 + "/")
    with pytest.raises(PatternError):
        pattern("/" + "x" * 5000 + "/")


@pytest.mark.parametrize("text", ["/(a*)*b/", "/(a|aa)+b$/", "*a*a*a*a*a*a*a*a*b", "/(x+x+)+y/"])
def test_patterns_that_ruin_other_engines_are_linear_here(text: str) -> None:
    assert not pattern(text).matches("a" * 500_000)  # a backtracking engine would run into the test's timeout


def test_globs_of_addresses_that_ruin_other_engines_are_linear_too() -> None:
    assert not entry("*a*a*a*a*a*a*a*a*@b.example").has(Mailbox("a" * 200_000, "c.example"))


def test_a_flood_of_combining_marks_takes_no_longer_than_its_length() -> None:
    marks = "a" + "\u0301\u0323" * 200_000
    assert len(nfc(marks)) <= len(marks)  # normalised in one piece this runs into the test's timeout
    assert Mailbox(marks, marks).key.count("@") == 1


def test_folding_does_not_cut_a_letter_from_its_mark() -> None:
    for length in range(100, 400):
        text = "x" * length + "e\u0301 " + "か\u3099 " * 100
        assert fold(text) == "x" * length + "é " + "が " * 100


@pytest.mark.parametrize(
    "text",
    [
        "@",
        "a@",
        "@a b",
        "a b@c",
        "a@b..c",
        "@-a.example",
        "a@b@c",
        "@.",
        "@..a",
        ".a@b",
        "",
        " ",
        "a",
        "<a@b>",
        "x" * 400,
        "a@b..",
        "a@[b, c]",
        "@[]",
        "*@",
        "*@a..b",
    ],
)
def test_what_is_no_address_pattern_is_refused(text: str) -> None:
    with pytest.raises(AddressError):
        entry(text)


@pytest.mark.parametrize("local_part", ["jose\u0301", "JOSÉ", "JOSE\u0301", "José"])
def test_local_parts_are_the_same_in_any_case_and_unicode_form(local_part: str) -> None:
    assert entry("josé@例え.jp").has(Mailbox(local_part, "XN--R8JZ45G.jp."))
    assert entry("jos?@例え.jp").has(Mailbox(local_part, "XN--R8JZ45G.jp."))
    assert entry('"ma ß"@例え.jp').has(Mailbox("MA SS", "例え.JP"))


@pytest.mark.parametrize("text", ["@.part*.example", "@.PART*.example.", "@.例?.jp"])
def test_a_glob_that_begins_with_a_dot_means_the_domain_and_all_below(text: str) -> None:
    domain = "例え.jp" if text.endswith("jp") else "partner.example"
    for found in (domain, f"a.{domain}", f"a.b.{domain}"):
        assert entry(text).has(Mailbox("x", found))
    for other in (f"a{domain}", f"{domain}.test", ""):
        assert not entry(text).has(Mailbox("x", other))


def test_a_dot_at_the_end_of_a_domain_is_no_part_of_it() -> None:
    assert str(mailbox("a@b.example.")) == "a@b.example"
    assert entry("*@b.example.").has(Mailbox("a", "b.example"))


def test_many_addresses_are_one_lookup() -> None:
    many = union(entry(f"u{n}@d{n}.example") for n in range(5000))
    assert many.has(Mailbox("U4999", "D4999.example"))
    assert not many.has(Mailbox("u1", "d2.example"))


def test_many_globs_fit_into_the_engine() -> None:
    many = union(entry(f"*{'契' * 60}{n}*@*.example") for n in range(200))
    assert many.has(Mailbox("x" + "契" * 60 + "199y", "a.example"))
    assert not many.has(Mailbox("x" + "契" * 60 + "y", "a.example"))


def test_an_address_literal_is_a_domain() -> None:
    assert entry("@[192.0.2.1]").has(Mailbox("a", "[192.0.2.1]"))
    assert entry("a@[IPv6:2001:DB8::1]").has(Mailbox("a", "[ipv6:2001:db8::1]"))
