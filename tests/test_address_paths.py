"""MAIL and RCPT arguments: what they name, what is refused and with which reply, and the way back to octets."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kaifu.policies.facts import Mailbox
from kaifu.proxy.address import (
    AddressError,
    ParameterError,
    PathError,
    envid_of,
    parse_mail,
    parse_rcpt,
    path_octets,
    size_of,
    xtext_decode,
    xtext_encode,
)
from kaifu.proxy.envelope import Parameters

labels = st.one_of(
    st.text("abcXYZ019_-", min_size=1, max_size=10),
    st.text(
        st.characters(min_codepoint=0xA1, max_codepoint=0x2FFF, exclude_characters="\u2028\u2029"),
        min_size=1,
        max_size=5,
    ),
)
domains = st.one_of(
    st.lists(labels, min_size=1, max_size=4).map(".".join),
    st.sampled_from(["[192.0.2.1]", "[IPv6:2001:db8::1]", "例え.jp", "xn--r8jz45g.jp", "example.com."]),
)
local_parts = st.one_of(
    st.text("abcXYZ019.!#$%&'*+-/=?^_`{|}~", min_size=1, max_size=20),
    st.text(st.characters(min_codepoint=0x20, exclude_characters="\x7f", exclude_categories=["Cs"]), max_size=20),
)
mailboxes = st.builds(Mailbox, local_parts, st.one_of(domains, st.just("")))


@given(mailboxes)
def test_an_address_written_and_read_again_is_the_same(mailbox: Mailbox) -> None:
    assume(mailbox.local_part or mailbox.domain)
    octets = path_octets(mailbox)
    assert parse_mail(octets).mailbox == mailbox
    assert parse_mail(octets).raw == octets
    assert parse_rcpt(b" " + octets + b" ").mailbox == mailbox


@given(
    st.text("abcXYZ019.!#$%&'*+-/=?^_`{|}~", min_size=1, max_size=20),
    st.lists(st.text("ab9-_", min_size=1), min_size=1),
)
def test_the_quick_way_and_the_thorough_way_read_the_same(local: str, parts: list[str]) -> None:
    path = f"{local}@{'.'.join(parts)}".encode()
    quick = parse_mail(b"<" + path + b">")
    assert quick.mailbox == Mailbox(local, ".".join(parts))
    for other in (
        b"<@relay.example,@[192.0.2.1]:" + path + b">",
        b"< " + path + b">",
        path,
        b'<"' + path.replace(b"@", b'"@') + b">",
    ):
        assert parse_mail(other).mailbox == quick.mailbox
        assert parse_mail(other).raw == other


pieces = st.sampled_from(
    [
        b"<",
        b">",
        b"@",
        b"a",
        b".",
        b",",
        b":",
        b'"',
        b"\\",
        b" ",
        b"\t",
        b"[",
        b"]",
        b"\xe3",
        b"\xc3\xa9",
        b"\x00",
        b"=",
        b"SIZE=",
        b"NOTIFY=",
        b"ORCPT=",
        b"ENVID=",
        b"RET=",
        b";",
        b"+",
    ]
)


@given(st.one_of(st.binary(max_size=60), st.lists(pieces, max_size=20).map(b"".join)))
def test_octets_of_any_kind_give_an_address_or_a_reply(argument: bytes) -> None:
    for parse in (parse_mail, parse_rcpt):
        replies = []
        try:
            path = parse(argument)
        except AddressError as error:
            replies.append(error.reply)
        else:
            assert path.raw in argument
            assert path.parameters.raw in argument
            if path.mailbox is not None:
                str(path.mailbox).encode()
        assert all(reply.code == 501 and reply.octets().count(b"\r\n") == 1 for reply in replies)


@pytest.mark.parametrize(
    ("argument", "raw", "mailbox"),
    [
        (b"<user@example.com>", b"<user@example.com>", Mailbox("user", "example.com")),
        (b"  <user@example.com>  ", b"<user@example.com>", Mailbox("user", "example.com")),
        (b"user@example.com", b"user@example.com", Mailbox("user", "example.com")),
        (b"user@example.com SIZE=1", b"user@example.com", Mailbox("user", "example.com")),
        (
            b"<@a.example,@b.example:user@c.example>",
            b"<@a.example,@b.example:user@c.example>",
            Mailbox("user", "c.example"),
        ),
        (b'<"a b"@example.com>', b'<"a b"@example.com>', Mailbox("a b", "example.com")),
        (b'<"a>b"@example.com> RET=FULL', b'<"a>b"@example.com>', Mailbox("a>b", "example.com")),
        (b'<"a\\"b\\\\"@example.com>', b'<"a\\"b\\\\"@example.com>', Mailbox('a"b\\', "example.com")),
        (b'<"a".b@example.com>', b'<"a".b@example.com>', Mailbox("a.b", "example.com")),
        (b"<a\\@b@example.com>", b"<a\\@b@example.com>", Mailbox("a@b", "example.com")),
        (b'""@example.com', b'""@example.com', Mailbox("", "example.com")),
        (b"<a@b@example.com>", b"<a@b@example.com>", Mailbox("a@b", "example.com")),
        (b'<"a@b">', b'<"a@b">', Mailbox("a@b", "")),
        (b"<user @ example.com>", b"<user @ example.com>", Mailbox("user", "example.com")),
        (b"<abc..def.@mobile.example>", b"<abc..def.@mobile.example>", Mailbox("abc..def.", "mobile.example")),
        (b"<user@[192.0.2.1]>", b"<user@[192.0.2.1]>", Mailbox("user", "[192.0.2.1]")),
        (b"<user@[IPv6:2001:db8::1]>", b"<user@[IPv6:2001:db8::1]>", Mailbox("user", "[IPv6:2001:db8::1]")),
        (b"<Postmaster>", b"<Postmaster>", Mailbox("Postmaster", "")),
        (b"<user@host_name.example.>", b"<user@host_name.example.>", Mailbox("user", "host_name.example.")),
        ("<契約@例え.jp>".encode(), "<契約@例え.jp>".encode(), Mailbox("契約", "例え.jp")),
        (b"< user@example.com >", b"< user@example.com >", Mailbox("user", "example.com")),
        (b"<a(b),c;d@example.com>", b"<a(b),c;d@example.com>", Mailbox("a(b),c;d", "example.com")),
    ],
)
def test_a_path_names(argument: bytes, raw: bytes, mailbox: Mailbox) -> None:
    assert (parse_mail(argument).raw, parse_mail(argument).mailbox) == (raw, mailbox)
    without = argument.replace(b" SIZE=1", b"").replace(b" RET=FULL", b"")
    assert (parse_rcpt(without).raw, parse_rcpt(without).mailbox) == (raw, mailbox)


@pytest.mark.parametrize("argument", [b"<>", b" <>", b"<> SIZE=5"])
def test_the_null_path_is_nobody_and_no_recipient(argument: bytes) -> None:
    path = parse_mail(argument)
    assert path.is_null
    assert path.raw == b"<>"
    with pytest.raises(PathError) as caught:
        parse_rcpt(argument)
    assert str(caught.value.reply) == "501 5.1.3 Bad recipient address syntax: the path is empty"


@pytest.mark.parametrize(
    "argument",
    [
        b"",
        b" ",
        b"<",
        b"<user@example.com",
        b'<"user@example.com>',
        b"<user@example.com>x",
        b"<user@example.com><user@example.com>",
        b"<user@>",
        b"<@example.com>",
        b"<@a.example:>",
        b"<@a@b.example>",
        b"<a\\>",
        b"<a\\@b.example>",
        b"<user@exa mple.com>",
        b"<us er@example.com>",
        b"<user@example..com>",
        b"<user@.example.com>",
        b"<user@[192.0.2.1>",
        b"<user@[a]b]>",
        b"<user\x00@example.com>",
        b'<"us\x01er"@example.com>',
        b"<user\xe9@example.com>",
        b"<user@example.com\x85>",
        b'<"">',
        b"<<user@example.com>>",
        b"<" + b"u" * 990 + b"@example.com>",
    ],
)
def test_what_is_no_path_is_refused_for_what_it_is(argument: bytes) -> None:
    with pytest.raises(PathError) as caught:
        parse_mail(argument)
    assert (caught.value.reply.code, caught.value.reply.enhanced) == (501, "5.1.7")
    with pytest.raises(PathError) as caught:
        parse_rcpt(argument)
    assert (caught.value.reply.code, caught.value.reply.enhanced) == (501, "5.1.3")


def test_parameters_are_kept_as_received_and_read() -> None:
    path = parse_mail(b"<a@b.example> size=00123 Body=8bitmime RET=hdrs ENVID=q+2Bx+3D1 AUTH=<> SMTPUTF8  X-NEW=a=b")
    assert path.parameters == Parameters(
        b"size=00123 Body=8bitmime RET=hdrs ENVID=q+2Bx+3D1 AUTH=<> SMTPUTF8  X-NEW=a=b",
        (
            ("SIZE", b"00123"),
            ("BODY", b"8bitmime"),
            ("RET", b"hdrs"),
            ("ENVID", b"q+2Bx+3D1"),
            ("AUTH", b"<>"),
            ("SMTPUTF8", None),
            ("X-NEW", b"a=b"),
        ),
    )
    assert size_of(path.parameters) == 123
    assert envid_of(path.parameters) == "q+x=1"
    assert "SMTPUTF8" in path.parameters
    assert size_of(Parameters()) is None
    assert envid_of(Parameters()) is None


@pytest.mark.parametrize(
    ("parameters", "notify", "orcpt"),
    [
        (b"", None, None),
        (b"NOTIFY=NEVER", frozenset({"NEVER"}), None),
        (b"notify=success,Failure,DELAY", frozenset({"SUCCESS", "FAILURE", "DELAY"}), None),
        (b"ORCPT=rfc822;user+2Btag@example.com", None, "rfc822;user+tag@example.com"),
        (b"ORCPT=RFC822;user@example.com NOTIFY=SUCCESS", frozenset({"SUCCESS"}), "RFC822;user@example.com"),
        (b"ORCPT=utf-8;\\x{5951}\\x{2B}\\x{7D04}@example.jp", None, "utf-8;契+約@example.jp"),
        ("ORCPT=utf-8;契約@例え.jp".encode(), None, "utf-8;契約@例え.jp"),
        (b"ORCPT=rfc822;", None, "rfc822;"),
        (b"ORCPT=rfc822;bounce=user@example.com", None, "rfc822;bounce=user@example.com"),
        (b"ORCPT=utf-8;\\x{D800}\\x{110000}@b", None, "utf-8;\ufffd\ufffd@b"),
        (b"ORCPT=x400;/C=JP/;".replace(b"=JP", b"+3DJP"), None, "x400;/C=JP/;"),
    ],
)
def test_a_recipient_says_what_reports_it_wants(
    parameters: bytes, notify: frozenset[str] | None, orcpt: str | None
) -> None:
    recipient = parse_rcpt(b"<a@b.example> " + parameters)
    assert (recipient.notify, recipient.orcpt, recipient.parameters.raw) == (notify, orcpt, parameters)


@pytest.mark.parametrize(
    "parameters",
    [
        b"SIZE", b"SIZE=", b"SIZE=-1", b"SIZE=1x", b"SIZE=" + b"1" * 21, b"SIZE=1 size=1",
        b"BODY", b"BODY=9BIT", b"RET=BODY", b"RET", b"RET=FULL RET=FULL",
        b"ENVID", b"ENVID=", b"ENVID=+4", b"ENVID=a+2x",
        b"SMTPUTF8=yes", b"=x", b"-X", b"X=a\x01", b"X Y=", b"\xe9", b"<b@c.example>",
    ],
)  # fmt: skip
def test_malformed_parameters_of_mail_are_refused(parameters: bytes) -> None:
    with pytest.raises(ParameterError) as caught:
        parse_mail(b"<a@b.example> " + parameters)
    assert (caught.value.reply.code, caught.value.reply.enhanced) == (501, "5.5.4")


@pytest.mark.parametrize(
    "parameters",
    [
        b"NOTIFY", b"NOTIFY=", b"NOTIFY=SUCCESS,", b"NOTIFY=ALWAYS", b"NOTIFY=SUCCE\xdf", b"NOTIFY=NEVER,SUCCESS", b"NOTIFY=NEVER NOTIFY=NEVER",
        b"ORCPT", b"ORCPT=a@b", b"ORCPT=;a", b"ORCPT=rfc822;a+", b"ORCPT=rfc822;a+2",
    ],
)  # fmt: skip
def test_malformed_parameters_of_rcpt_are_refused(parameters: bytes) -> None:
    with pytest.raises(ParameterError) as caught:
        parse_rcpt(b"<a@b.example> " + parameters)
    assert (caught.value.reply.code, caught.value.reply.enhanced) == (501, "5.5.4")


@given(st.binary(max_size=60))
def test_xtext_holds_any_octets_and_only_characters_that_it_may(octets: bytes) -> None:
    encoded = xtext_encode(octets)
    assert xtext_decode(encoded) == octets
    assert all(0x21 <= octet <= 0x7E and octet != 0x3D for octet in encoded)


def test_xtext_is_written_with_capital_hex_digits_and_read_with_either() -> None:
    assert xtext_encode(b"a+\xc3=") == b"a+2B+C3+3D"
    assert xtext_decode(b"a+2b+c3+3D") == b"a+\xc3="


@pytest.mark.parametrize(
    "mailbox",
    [
        Mailbox("a\r\nRCPT TO:<b", "c.example"),
        Mailbox("a", "b.example>\r\n"),
        Mailbox("a", "b.example> X"),
        Mailbox("a", "b@c"),
        Mailbox("a\x00", "b.example"),
        Mailbox("a\ud800", "b.example"),
    ],
)
def test_nothing_that_breaks_out_of_a_path_is_written_into_one(mailbox: Mailbox) -> None:
    with pytest.raises(PathError):
        path_octets(mailbox)
