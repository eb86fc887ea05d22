"""The fields of a notification, one by one, as real clients write them."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaifu.proxy.inspection import inspect_message
from kaifu.proxy.mdn import OLD_TYPES, TYPES, Mdn, parse_disposition, parse_mdn
from kaifu.proxy.messageid import MAX_IDS, message_ids, single_id
from kaifu.proxy.reportaddress import parse_report_address
from kaifu.proxy.reportfields import MAX_FIELDS, MAX_VALUE, read_groups

RECEIPTS = Path(__file__).parent / "fixtures" / "receipts"
MANUAL = ("manual-action", "mdn-sent-manually")


@pytest.mark.parametrize(
    ("value", "kind", "modes", "modifiers"),
    [
        ("manual-action/MDN-sent-manually; displayed", "displayed", MANUAL, ()),
        ("manual-action/MDN-sent-manually;displayed", "displayed", MANUAL, ()),
        ("MANUAL-ACTION / mdn-SENT-manually ; Displayed ", "displayed", MANUAL, ()),
        ("manual-action/MDN-sent-manually; processed /error ", "processed", MANUAL, ("error",)),
        ("manual-action/MDN-sent-manually; processed / error ", "processed", MANUAL, ("error",)),
        ("manual-action/MDN-sent-manually; failed /error", "failed", MANUAL, ("error",)),
        ("manual-action/MDN-sent-manually; processed/error,failed", "processed", MANUAL, ("error", "failed")),
        ("manual-action/MDN-sent-manually; processed/Error: no key, x", "processed", MANUAL, ("Error: no key", "x")),
        ("manual-action/MDN-sent-manually; displayed/", "displayed", MANUAL, ()),
        ("manual-action/MDN-sent-manually; denied", "denied", MANUAL, ()),
        ("(a comment) manual-action/MDN-sent-manually; (another) deleted", "deleted", MANUAL, ()),
        ("by-hand/somehow; displayed", "displayed", ("by-hand", "somehow"), ()),
        ("automatic-action; dispatched", "dispatched", ("automatic-action", None), ()),
    ],
)
def test_a_disposition_parses(value: str, kind: str, modes: tuple[str, str | None], modifiers: tuple[str, ...]) -> None:
    found = parse_disposition(value)
    assert found is not None
    assert (found.type, (found.action_mode, found.sending_mode), found.modifiers) == (kind, modes, modifiers)


@pytest.mark.parametrize(
    "value",
    [
        "",
        ";",
        "displayed",
        "; displayed",
        "manual-action/MDN-sent-manually",
        "manual-action/MDN-sent-manually;",
        "manual-action/MDN-sent-manually; fallen",
        "manual-action/MDN-sent-manually; displayedly",
        "manual-action/MDN-sent-manually; not displayed",
        "manual-action/MDN-sent-manually; displayed deleted",
        "manual-action/MDN-sent-manually; deleted; displayed",
        "manual action/MDN-sent-manually; displayed",
        "manual-action/MDN-sent-manually, displayed",
    ],
)
def test_what_is_no_disposition_is_none(value: str) -> None:
    assert parse_disposition(value) is None


CONFORMING = re.compile(
    rf"(manual|automatic)-action */ *MDN-sent-(manually|automatically) *; *({'|'.join(TYPES | OLD_TYPES)}) *(/[^;]*)?",
    re.IGNORECASE,
)

near_dispositions = st.builds(
    "{}{}{}{}{}{}".format,
    st.sampled_from(["manual-action", "AUTOMATIC-action", "automatic-action", "", "manual action", "(a; b) x"]),
    st.sampled_from(["/MDN-sent-manually", " / mdn-sent-AUTOMATICALLY", "/MDN-sent-automatically", "/", ""]),
    st.sampled_from([";", "; ", " ;  ", ";;", ",", ""]),
    st.sampled_from(["displayed", "Displayed", "deleted", "denied", "processed", "fallen", "not displayed", ""]),
    st.sampled_from(["", " ", "ly", " deleted", "; displayed", "\r"]),
    st.sampled_from(["", "/error", " / error, x", "/", "/displayed"]),
)


@given(near_dispositions)
def test_a_disposition_says_what_stands_behind_its_semicolon(value: str) -> None:
    found = parse_disposition(value)
    assert found is not None or not CONFORMING.fullmatch(value)
    if found is not None:
        assert found.type in TYPES | OLD_TYPES
        assert found.type == value.replace("(a; b)", "").partition(";")[2].partition("/")[0].strip().lower()


@given(st.text(max_size=80))
def test_no_other_text_is_a_disposition(value: str) -> None:
    assert parse_disposition(value) is None or ";" in value


@pytest.mark.parametrize(
    ("value", "kind", "address"),
    [
        ("rfc822;a@b.example", "rfc822", "a@b.example"),
        ("RFC822 ; a@b.example", "rfc822", "a@b.example"),
        ("rfc822;rfc822;a@b.example", "rfc822", "a@b.example"),
        ("rfc822; rfc822; rfc822; a@b.example", "rfc822", "a@b.example"),
        ("rfc/822;a@b.example", "rfc/822", "a@b.example"),
        ("a@b.example", None, "a@b.example"),
        ("Name <a@b.example>", None, "a@b.example"),
        ('rfc822;"Last, First" <a@b.example>', "rfc822", "a@b.example"),
        ('rfc822; "A <x@y>" <a@b.example>', "rfc822", "a@b.example"),
        ("rfc822; =?utf-8?Q?J=C3=BCrgen?= <a@b.example>", "rfc822", "a@b.example"),
        ("rfc822; Last, First <a@b.example>", "rfc822", "a@b.example"),
        ("rfc822; a@b.example (the reader)", "rfc822", "a@b.example"),
        ("rfc822; <a@b.example", "rfc822", "a@b.example"),
        ('"One" <a@b.example>, c@d.example', None, "a@b.example"),
        ("a@b.example, Two <c@d.example>", None, "a@b.example"),
        ('rfc822; "odd local"@b.example', "rfc822", '"odd local"@b.example'),
        ("rfc822; PDK000270", "rfc822", "PDK000270"),
        ("unknown; somebody, somewhere", "unknown", "somebody, somewhere"),
        ("x400; /G=Eva/S=Lind/O=Partner/", "x400", "/G=Eva/S=Lind/O=Partner/"),
        ("utf-8; 山田@例え.example", "utf-8", "山田@例え.example"),
        ("utf-8; \\x{5C71}\\x{7530}@b.example", "utf-8", "山田@b.example"),
        ("utf-8; \\x{D800}\\x{110000}\\x{zz}@b.example", "utf-8", "\\x{D800}\\x{110000}\\x{zz}@b.example"),
        ("rfc822; \\x{5C71}@b.example", "rfc822", "\\x{5C71}@b.example"),
    ],
)
def test_an_address_is_what_follows_the_type(value: str, kind: str | None, address: str) -> None:
    found = parse_report_address(value)
    assert found is not None
    assert (found.type, found.address) == (kind, address)


@pytest.mark.parametrize(
    "value", ["", " ", "rfc822;", "rfc822; ", "rfc822; <>", "<>", "rfc822; (nobody)", "rfc822;rfc822;"]
)
def test_an_empty_address_is_none(value: str) -> None:
    assert parse_report_address(value) is None


def test_a_whole_address_list_gives_all_its_mailboxes() -> None:
    found = parse_report_address('"Mori, Ken" <mori@b.example>, =?utf-8?B?5bGx?= <yama@b.example>, x@c.example')
    assert found is not None
    assert [str(m) for m in found.mailboxes] == ["mori@b.example", "yama@b.example", "x@c.example"]
    assert str(found.mailbox) == "mori@b.example"
    assert "holds several addresses" in found.odd


def test_a_station_name_is_no_mailbox() -> None:
    found = parse_report_address("rfc822; STATION-B")
    assert found is not None
    assert (found.mailbox, found.mailboxes, found.odd) == (None, (), ("is no mail address",))


@given(st.text(alphabet='a@b.<>",;\\() rfc82', max_size=60))
def test_any_sequence_of_specials_is_some_address_or_none(value: str) -> None:
    found = parse_report_address(value)
    assert found is None or (found.address and found.address == found.address.strip())


@pytest.mark.parametrize(
    ("value", "first", "every"),
    [
        ("<a@b>", "a@b", ("a@b",)),
        ("a@b", "a@b", ("a@b",)),
        ("< a b@c D >", "a b@c D", ("a b@c D",)),
        ("<>", None, ()),
        ("", None, ()),
        ("   ", None, ()),
        ("<a@b", "a@b", ()),
        ("<a@b> (a comment)", "a@b", ("a@b",)),
        ("<a@b><c@d>\t<e@f>", "a@b", ("a@b", "c@d", "e@f")),
        ("Your message of Monday <a@b>", "a@b", ("a@b",)),
        ("a@b c@d", "a@b c@d", ("a@b", "c@d")),
        ("two words", "two words", ()),
        ("word", "word", ("word",)),
    ],
)
def test_identifiers_are_compared_without_brackets(value: str, first: str | None, every: tuple[str, ...]) -> None:
    assert (single_id(value), message_ids(value)) == (first, every)


def test_identifiers_have_a_limit() -> None:
    assert len(message_ids("<a@b>" * 5000)) == len(message_ids("a@b " * 5000)) == MAX_IDS
    for form in ("<%d@b>", " %d@b"):
        text = "".join(form % n for n in range(5000))
        assert message_ids(text) == tuple(f"{n}@b" for n in range(MAX_IDS))
        assert message_ids(text, last=True) == tuple(f"{n}@b" for n in range(5000 - MAX_IDS, 5000))


def mdn(text: str, *, delimited: bool = True, header: bytes = b"") -> Mdn:
    return parse_mdn(text.encode(), header, delimited=delimited)


def test_of_a_repeated_field_the_first_counts() -> None:
    found = mdn("Disposition: a/b; deleted\nDisposition: a/b; displayed\nFinal-Recipient: x@y\nFinal-Recipient: z@y\n")
    assert found.disposition_type == "deleted"
    assert found.final_recipient is not None
    assert found.final_recipient.address == "x@y"


@pytest.mark.parametrize(
    "text", ["", "Final-Recipient: rfc822; a@b\n", "X-Disposition: a/b; displayed\n", "Disposition:\n"]
)
def test_a_missing_disposition_is_never_displayed(text: str) -> None:
    assert mdn(text).disposition_type is None


@pytest.mark.parametrize(
    ("text", "readable"),
    [
        ("Disposition: a/b; displayed\n", True),
        ("Final-Recipient: rfc822; a@b\n", True),
        ("Original-Recipient: rfc822; a@b\n", True),
        ("Original-Message-ID: <a@b>\n", True),
        ("Original-Message-ID: <>\nFinal-Recipient: rfc822;\nDisposition: gone\n", False),
        ("Reporting-UA: x\nX-More: y\n", False),
        ("", False),
    ],
)
def test_a_notification_that_says_nothing_about_a_message_cannot_be_read(text: str, readable: bool) -> None:
    assert mdn(text).readable is readable


def test_what_does_not_conform_is_told_in_words() -> None:
    assert mdn("").odd == ("Disposition is missing", "Original-Message-ID is missing", "Final-Recipient is missing")
    assert mdn(
        "Original-Recipient: a@b\nFinal-Recipient: rfc822;\nOriginal-Message-ID: c d\n\nDisposition: x; denied\nReporting-UA: u\n"
    ).odd == (
        "empty lines between the fields",
        "the fields are not in the order of RFC 8098",
        "denied is a disposition type of RFC 2298",
        "the modes in Disposition are none of RFC 8098",
        "Original-Message-ID has no angle brackets",
        "Original-Message-ID contains spaces",
        "Final-Recipient is empty",
        "Original-Recipient has no address type",
    )
    conforming = "Final-Recipient: rfc822; a@b\nOriginal-Message-ID: <a@b>\nDisposition: manual-action/MDN-sent-manually; deleted\n"
    assert mdn(conforming).odd == ()


def test_fields_are_found_whatever_their_letters_folds_and_spaces() -> None:
    found = mdn(
        "FINAL-RECIPIENT :rfc822;\n\ta@b\noriginal-message-id:\n <x@y>\ndisposition:\n manual-action/\n mdn-sent-manually;\n displayed"
    )
    assert (found.original_message_id, found.disposition_type) == ("x@y", "displayed")
    assert found.final_recipient is not None
    assert found.final_recipient.address == "a@b"


def test_fields_in_the_header_of_the_part_count_after_those_in_its_body() -> None:
    header = b"Content-Type: message/disposition-notification\nDisposition: a/b; displayed\nFinal-Recipient: h@y\n"
    assert mdn("", header=header).disposition_type == "displayed"
    both = mdn("Disposition: a/b; deleted\n", header=header)
    assert both.disposition_type == "deleted"
    assert "the fields stand in the header of the part" in both.odd
    assert "Content-Type" not in dict(both.extensions)


def test_what_is_not_known_is_an_extension() -> None:
    found = mdn("X-MSExch-Correlation-Key: abc==\nX-Empty:\nx-y: z\n")
    assert found.extensions == (("X-MSExch-Correlation-Key", "abc=="), ("X-Empty", ""), ("x-y", "z"))


def test_one_notification_may_acknowledge_several_messages() -> None:
    found = mdn("Original-Message-ID: <a@x> <b@x>\nAdditional-Message-IDs: <c@x>\n <a@x> <d@x>\n")
    assert (found.original_message_id, found.also_acknowledged) == ("a@x", ("b@x", "c@x", "d@x"))


@pytest.mark.parametrize(
    "last", ["manual-action/MDN-sent-manually; displayed", "manual-action/MDN-sent-manually; displayed\r"]
)
def test_a_disposition_whose_line_does_not_end_was_cut_off(last: str) -> None:
    assert mdn(f"Disposition: {last}", delimited=False).disposition_type is None
    assert mdn(f"Disposition: {last}\n", delimited=False).disposition_type == "displayed"
    assert mdn(f"Disposition: {last}", delimited=True).disposition_type == "displayed"


def lengthened(raw: bytes) -> bytes:
    """The message with the word ``displayed`` made a longer one that is no disposition type, also where it is encoded."""

    def encoded_again(found: re.Match[bytes]) -> bytes:
        content = base64.b64decode(found[0]).replace(b"displayed", b"displayedly")
        return base64.encodebytes(content).replace(b"\n", b"\r\n")

    return re.sub(rb"(?:[A-Za-z0-9+/=]{76}\r\n)+[A-Za-z0-9+/=]+\r\n", encoded_again, raw).replace(
        b"displayed", b"displayedly"
    )


@pytest.mark.parametrize(
    "path", [p for p in RECEIPTS.glob("*.eml") if b"isposition" in p.read_bytes()], ids=lambda p: p.stem
)
def test_no_cut_makes_a_message_say_displayed(path: Path) -> None:
    raw = lengthened(path.read_bytes())
    for end in range(max(0, raw.find(b"isposition:")), len(raw)):
        for complete in (True, False):
            for report in inspect_message(raw[:end], complete=complete).reports.mdns:
                assert report.mdn is not None
                assert report.mdn.disposition_type != "displayed", end


def test_a_cut_that_leaves_the_disposition_whole_changes_nothing() -> None:
    raw = (RECEIPTS / "report-in-base64.eml").read_bytes()
    said = [
        r.mdn and r.mdn.disposition_type for end in range(len(raw)) for r in inspect_message(raw[:end]).reports.mdns
    ]
    assert set(said) == {None, "displayed"}


@pytest.mark.parametrize("end", [b"\n", b"\r\n z\r\n"], ids=repr)
@pytest.mark.parametrize("unit", [b" ", b"\t", b"\r", b" \r"], ids=repr)
def test_a_field_full_of_white_space_is_read_soon(unit: bytes, end: bytes) -> None:
    """The time limit of the test run is the only clock here; quadratic work would not meet it."""
    line = b"X: y" + unit * (15_000 // len(unit)) + end
    assert len(read_groups(line * 2000).fields) == 2000


@pytest.mark.parametrize("unit", ['"\\', '"\\\\\\', '"<', "<", ",", "(", "rfc822", " ;"])
def test_a_hostile_address_is_read_soon(unit: str) -> None:
    """The same here."""
    assert parse_report_address("rfc822; a@b " + unit * 300_000) is not None


@given(st.text(alphabet=" \t\r\na", max_size=20))
def test_a_fold_and_the_white_space_around_it_become_one_space(value: str) -> None:
    value = re.sub(r"\n(?![ \t]*[\ra])", "", value).replace(
        "\n", "\n "
    )  # no line of white space: it would end the group
    expected = re.sub(r"[ \t]*\r*\n[ \t]*", " ", value).strip()
    if not re.search(r"\n[ \t\r]*(?:\n|\Z)", value):
        (field,) = read_groups(b"X:" + value.encode() + b"\n").fields
        assert field.value == expected


def test_fields_and_values_have_limits() -> None:
    many = read_groups(b"X: y\n" * (MAX_FIELDS + 10))
    assert len(many.fields) == MAX_FIELDS
    assert many.odd == ("more fields than are read",)
    (long,) = read_groups(b"X: " + b"y" * 100_000).fields
    assert len(long.value) == MAX_VALUE


@given(st.binary(max_size=300), st.binary(max_size=60), st.booleans())
def test_any_octets_are_read_without_complaint(content: bytes, header: bytes, delimited: bool) -> None:
    found = parse_mdn(content, header, delimited=delimited)
    assert found.disposition_type is None or found.disposition_type in TYPES | OLD_TYPES


_LINES = st.lists(
    st.sampled_from(
        [
            "Disposition: manual-action/MDN-sent-manually; displayed",
            "Disposition: automatic-action/MDN-sent-automatically; deleted",
            "Final-Recipient: rfc822; a@b",
            "Original-Recipient: rfc822; <>",
            "Original-Message-ID: <x@y>",
            " continued",
            "",
            " \t",
            "text without a colon",
            "Error: x",
            ":",
            "\x00: y",
        ]
    )
)


@given(_LINES, st.sampled_from(["\n", "\r\n"]))
def test_any_order_of_lines_is_read(lines: list[str], end: str) -> None:
    found = mdn("".join(line + end for line in lines))
    place = next((n for n, line in enumerate(lines) if line.startswith("Disposition:")), None)
    continued = place is not None and lines[place + 1 : place + 2] == [" continued"]
    expected = None if place is None or continued else lines[place].rpartition("; ")[2]
    assert found.disposition_type == expected
