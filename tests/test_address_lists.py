"""Address lists as From, To and Disposition-Notification-To really hold them."""

from __future__ import annotations

import email.utils
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaifu.policies.facts import Mailbox
from kaifu.proxy.addresslist import ADDRESS_LIMIT, LENGTH_LIMIT, mailboxes
from kaifu.proxy.message import HeaderBlock, split_message

CASES = [
    # one mailbox
    ("user@example.com", ["user@example.com"]),
    ("<user@example.com>", ["user@example.com"]),
    ("\r\n user@example.com\r\n", ["user@example.com"]),
    ("<user@example.com>\r", ["user@example.com"]),
    ("A User <user@example.com>", ["user@example.com"]),
    ('"Last, First" <user@example.com>', ["user@example.com"]),
    ('"a \\"b\\" <x@y.example>" <user@example.com>', ["user@example.com"]),
    ("Last, First <user@example.com>", ["user@example.com"]),
    ("=?utf-8?q?Last=2C_First_=3Cx=40y=3E?= <user@example.com>", ["user@example.com"]),
    ("other@example.org <user@example.com>", ["user@example.com"]),
    ("契約 <契約@例え.jp>", ["契約@例え.jp"]),
    ("user@example.com (A User)", ["user@example.com"]),
    ("Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>", ["pete@silly.test"]),
    ("(a (nested (comment))) user@example.com", ["user@example.com"]),
    ("user . name @ example . com", ["user.name@example.com"]),
    ("user.\r\n name@example.com", ["user.name@example.com"]),
    ("<@a.example,@b.example:user@c.example>", ["user@c.example"]),
    ('"a b"@example.com', ['"a b"@example.com']),
    ('"a".b@example.com', ["a.b@example.com"]),
    ("user\\@a@example.com", ['"user@a"@example.com']),
    ("abc..d.@mobile.example", ['"abc..d."@mobile.example']),
    ("user+tag@example.com", ["user+tag@example.com"]),
    ("o'brien@example.com", ["o'brien@example.com"]),
    ("'user@example.com'", ["user@example.com"]),
    ("user@example.com.", ["user@example.com"]),
    ("user@[192.0.2.1]", ["user@[192.0.2.1]"]),
    ("X <user@[IPv6:2001:db8::1]>", ["user@[IPv6:2001:db8::1]"]),
    ("mailto:user@example.com", ["user@example.com"]),
    ("<mailto:user@example.com>", ["user@example.com"]),
    ("rfc822;user@example.com", ["user@example.com"]),
    ("some words user@example.com", ["user@example.com"]),
    ("<<user@example.com>>", ["user@example.com"]),
    ("<user@example.com> on behalf of other@example.org", ["user@example.com"]),
    ("user@example.com>", ["user@example.com"]),
    ("<user@example.com", ["user@example.com"]),
    ('"unfinished <user@example.com>', ["user@example.com"]),
    ("unfinished (comment <user@example.com>", ["user@example.com"]),
    ("=?utf-8?B?IkEgVXNlciIgPHVzZXJAZXhhbXBsZS5jb20+?=", ["user@example.com"]),
    # several
    ("a@b.example, c@d.example,, <e@f.example>,", ["a@b.example", "c@d.example", "e@f.example"]),
    ("a@b.example; c@d.example", ["a@b.example", "c@d.example"]),
    ("a@b.example c@d.example", ["a@b.example", "c@d.example"]),
    ("<a@b.example> <c@d.example>", ["a@b.example", "c@d.example"]),
    ("Team: a@b.example, X <c@d.example>; e@f.example", ["a@b.example", "c@d.example", "e@f.example"]),
    ("<a@b.example, c@d.example", ["a@b.example", "c@d.example"]),
    ("http://user@host.example/x, a@b.example", ["a@b.example"]),
    ("nobody, a@b.example", ["a@b.example"]),
    # none
    ("", []),
    ("<>", []),
    ('"" <>', []),
    ("undisclosed-recipients:;", []),
    ("http://www.company.example:8080/as2/HttpReceiver", []),
    ("<http://user@host.example/receipts>", []),
    ("https://host.example/?to=user@example.com", []),
    ("SIAS2PRD", []),
    ("1", []),
    ("root", []),
    ('"user@example.com"', []),
    ("a@b@c.example", []),
    ("user@", []),
    ("@example.com", []),
    ("user@@example.com", []),
    ("a@b.example .c@d.example", []),
    ("user@exam/ple", []),
    ("user@example..com", []),
    ("user at example.com", []),
    ('"a\rb"@example.com', []),
    ("=?utf-8?q?nobody?=", []),
    ("x" * 1000 + "@example.com", []),
]


@pytest.mark.parametrize(("value", "expected"), CASES)
def test_a_value_names(value: str, expected: list[str]) -> None:
    assert [str(mailbox) for mailbox in mailboxes(value.encode())] == expected
    assert [str(mailbox) for mailbox in mailboxes(value)] == expected


def test_a_name_in_octets_that_are_no_text_does_not_hide_the_address() -> None:
    assert mailboxes(b"M\xfcller <user@example.com>, \xfc@example.com") == (Mailbox("user", "example.com"),)


plain_locals = st.text("abcXYZ019.!#$%&*+-/=?^_`{|}~", min_size=1, max_size=12).map(lambda text: "a" + text)
any_locals = st.one_of(
    plain_locals,
    st.text(
        st.characters(min_codepoint=0x20, exclude_characters="\x7f\ufffd", exclude_categories=["Cs"]),
        min_size=1,
        max_size=12,
    ),
)
domains = st.lists(st.text("abcXYZ019-", min_size=1, max_size=8), min_size=1, max_size=3).map(".".join)
wanted = st.builds(Mailbox, any_locals, domains)
names = st.sampled_from(
    ["", "Name ", '"Last, First" ', '"a \\" <b@c>" ', "=?utf-8?q?a=2C?= ", "(comment, x@y) ", "a.b ", "契約 "]
)


@given(
    st.lists(st.tuples(names, wanted, st.sampled_from(["", " (c)", " "])), max_size=6),
    st.sampled_from([", ", ",", ",\r\n ", " , ,\r\n\t"]),
)
def test_every_mailbox_of_a_conforming_list_is_found(entries: list[tuple[str, Mailbox, str]], comma: str) -> None:
    value = comma.join(f"{name}<{mailbox}>{tail}" for name, mailbox, tail in entries)
    expected = tuple(mailbox for _, mailbox, _ in entries)
    assert mailboxes(value.encode()) == expected
    assert mailboxes("Group:" + value + ";") == expected


@given(st.lists(wanted, max_size=6))
def test_addresses_without_brackets_are_found_too(entries: list[Mailbox]) -> None:
    assert mailboxes(", ".join(map(str, entries))) == tuple(entries)


pieces = st.sampled_from(
    [
        "<",
        ">",
        "@",
        ",",
        ";",
        ":",
        "(",
        ")",
        '"',
        "\\",
        "[",
        "]",
        ".",
        " ",
        "//",
        "\r\n ",
        "a",
        "'",
        "\x00",
        "é",
        "=?utf-8?q?a=40b?=",
        "a@b.example",
        " c.d@e",
        '"f g"@h',
    ]
)


@given(st.one_of(st.binary(max_size=60), st.lists(pieces, max_size=30).map(lambda found: "".join(found).encode())))
def test_what_is_found_in_any_octets_is_a_sound_address(value: bytes) -> None:
    for mailbox in mailboxes(value):
        assert mailbox.local_part or str(mailbox).startswith('""@')
        assert mailbox.domain
        assert not any(ord(character) < 0x20 for character in mailbox.local_part + mailbox.domain)
        assert mailboxes(str(mailbox)) == (mailbox,)


@pytest.mark.parametrize(
    "piece", ["<", "(", '"', "\\", "[", "@", "a@", ". ", "@.", "(\\", '\\"', "a ", "<@a,", ":", "a@b "]
)
def test_hostile_nesting_and_length_end_soon(piece: str) -> None:
    """The time limit of the test run is the only clock here; quadratic work would not meet it."""
    for value in ('"' + piece * LENGTH_LIMIT, piece * LENGTH_LIMIT, piece * LENGTH_LIMIT + "<user@example.com>"):
        assert len(mailboxes(value.encode())) <= ADDRESS_LIMIT


def test_a_list_is_read_up_to_the_limit() -> None:
    assert len(mailboxes("a@b.example," * (ADDRESS_LIMIT + 1))) == ADDRESS_LIMIT


def test_real_address_fields_agree_with_another_parser(corpus: Path) -> None:
    """Only ASCII values: the standard library does not know the others."""
    compared = 0
    for path in sorted(corpus.glob("*/*.eml")):
        block = HeaderBlock.parse(split_message(path.read_bytes())[0])
        for name in ("from", "to", "cc", "reply-to", "disposition-notification-to", "return-receipt-to", "return-path"):
            for value in block.raw_values(name):
                if value.isascii():
                    known = [address for _, address in email.utils.getaddresses([value.decode()]) if "@" in address]
                    assert [str(mailbox) for mailbox in mailboxes(value)] == known, (path.name, value)
                    compared += 1
    assert compared > 300
