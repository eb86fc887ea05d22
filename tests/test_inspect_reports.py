"""What the rails must know of a message: is it a report, is there anything beside it, can it be read."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from kaifu.policies.facts import Kind
from kaifu.proxy.inspection import auto_submitted, inspect_body, inspect_message, possible_report
from kaifu.proxy.message import HeaderBlock
from kaifu.proxy.reports import MAX_ABOUT_MESSAGE, PREFIX, Reports, Tie, find_reports

RECEIPTS = Path(__file__).parent / "fixtures" / "receipts"
FIELDS = b"Final-Recipient: rfc822; a@b.example\r\nOriginal-Message-ID: <o@x>\r\nDisposition: a/b; displayed\r\n"
TEXT = b"Content-Type: text/plain\r\n\r\nDisplayed.\r\n"
HTML = b"Content-Type: multipart/alternative; boundary=h\r\n\r\n--h\r\n\r\na\r\n--h\r\nContent-Type: text/html\r\n\r\na\r\n--h--\r\n"
REPORT = b"Content-Type: message/disposition-notification\r\n\r\n" + FIELDS
DELIVERED = b"Content-Type: message/delivery-status\r\n\r\nFinal-Recipient: rfc822; a@b\r\nAction: delivered\r\n"
RETURNED = b"Content-Type: text/rfc822-headers\r\n\r\nMessage-ID: <o@x>\r\nSubject: x\r\n"
MESSAGE = b"Content-Type: message/rfc822\r\n\r\nMessage-ID: <o@x>\r\n\r\ntext\r\n"
PDF = b"Content-Type: application/pdf\r\n\r\n%PDF\r\n"
IMAGE = b"Content-Type: image/png; name=icon.png\r\n\r\n\x89PNG\r\n"
ATTACHED_TEXT = b"Content-Type: text/plain\r\nContent-Disposition: attachment; filename=x.txt\r\n\r\ntext\r\n"
SIGNATURE = b"Content-Type: application/pkcs7-signature\r\n\r\nMIAG\r\n"
EMPTY = b"\r\n"


def fixture(name: str) -> bytes:
    return (RECEIPTS / f"{name}.eml").read_bytes()


def multipart(kind: bytes, *parts: bytes, boundary: bytes = b"m") -> bytes:
    """A whole entity: header and body. Nested ones need boundaries of their own."""
    body = b"".join(b"--" + boundary + b"\r\n" + part for part in parts) + b"--" + boundary + b"--\r\n"
    return b"Content-Type: multipart/" + kind + b"; boundary=" + boundary + b"\r\n\r\n" + body


def read(raw: bytes) -> Reports:
    return inspect_message(raw).reports


def inner(*parts: bytes) -> bytes:
    return multipart(b"report; report-type=disposition-notification", *parts, boundary=b"inner")


@pytest.mark.parametrize(
    "raw",
    [
        inner(TEXT, REPORT),
        inner(REPORT),
        inner(TEXT, REPORT, RETURNED),
        inner(TEXT, REPORT, MESSAGE),
        inner(HTML, REPORT, MESSAGE),
        inner(TEXT, REPORT, REPORT),
        inner(TEXT, DELIVERED, RETURNED, REPORT, RETURNED),
        inner(TEXT, REPORT, RETURNED, EMPTY),
        REPORT,
        DELIVERED,
        multipart(b"signed", inner(TEXT, REPORT), SIGNATURE),
        multipart(b"parallel", inner(TEXT, REPORT), REPORT),
    ],
)
def test_a_message_may_consist_of_reports(raw: bytes) -> None:
    assert read(raw).only_reports


@pytest.mark.parametrize(
    "raw",
    [
        inner(TEXT, REPORT, RETURNED, PDF),
        inner(TEXT, PDF, REPORT),
        inner(PDF, REPORT),
        inner(TEXT, REPORT, TEXT),
        inner(TEXT, REPORT, RETURNED, RETURNED),
        inner(TEXT, RETURNED, REPORT),
        inner(TEXT, MESSAGE, REPORT),
        inner(ATTACHED_TEXT, REPORT),
        inner(multipart(b"related", TEXT, IMAGE), REPORT),
        inner(multipart(b"mixed", TEXT, PDF), REPORT),
        multipart(b"mixed", inner(TEXT, REPORT)),
        multipart(b"mixed", inner(TEXT, REPORT), PDF),
        multipart(b"mixed", TEXT, REPORT),
        multipart(b"alternative", TEXT, REPORT),
        multipart(b"signed", inner(TEXT, REPORT), PDF),
        multipart(b"signed", SIGNATURE, inner(TEXT, REPORT)),
        multipart(b"parallel", inner(TEXT, REPORT), TEXT),
        multipart(b"parallel", multipart(b"mixed", inner(TEXT, REPORT), boundary=b"x"), REPORT),
    ],
)
def test_anything_beside_a_report_makes_it_more_than_a_report(raw: bytes) -> None:
    found = read(raw)
    assert found.kind is not Kind.MAIL
    assert not found.only_reports


@pytest.mark.parametrize(
    "name",
    [
        "forwarded-receipt",
        "forwarded-bounce",
        "forwarded-as-message",
        "text-that-quotes-a-report",
        "request-only-inside",
    ],
)
def test_mail_of_people_about_reports_is_mail(name: str) -> None:
    found = inspect_message(fixture(name))
    assert (found.kind, found.facts, found.reports) == ("mail", None, Reports())


def test_a_receipt_beside_a_document_is_a_receipt_that_is_not_alone() -> None:
    facts = inspect_message(fixture("receipt-beside-pdf")).facts
    assert facts is not None
    assert not facts.only_reports


def test_what_is_both_is_a_delivery_report() -> None:
    found = inspect_message(fixture("both-dsn-and-mdn"))
    assert (found.kind, len(found.reports.mdns), len(found.reports.dsns)) == ("dsn", 1, 1)


def test_a_success_may_be_withheld_and_a_failure_may_not() -> None:
    assert read(fixture("dsn-delivered")).must_deliver is None
    assert read(fixture("thunderbird")).must_deliver is None
    assert read(fixture("dsn-mixed")).must_deliver == "a recipient failed"
    assert read(inner(TEXT, DELIVERED, DELIVERED.replace(b"delivered", b"failed"))).must_deliver == "a recipient failed"
    assert read(inner(TEXT, REPORT.replace(FIELDS, b"Seen.\r\n"))).must_deliver == "the receipt cannot be read"


def test_the_structure_may_be_beyond_what_is_read() -> None:
    found = read(inner(TEXT, REPORT, *([EMPTY] * 600)))
    assert found.limited
    assert not found.only_reports
    assert found.must_deliver == "the structure of the message is beyond what is read"


# A report decides on its first MiB.


def test_a_report_that_ends_within_the_first_mebibyte_is_read_whatever_follows() -> None:
    found = read(inner(TEXT, REPORT, MESSAGE.replace(b"text", b"long line\r\n" * 200_000)))
    assert (found.kind, found.too_large, found.must_deliver, found.only_reports) == (Kind.MDN, False, None, True)
    assert [tie.source for tie in found.reports[0].ties] == ["Original-Message-ID", "third part"]


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (inner(TEXT, REPORT.replace(FIELDS, b"X-Filler: x\r\n" * 100_000 + FIELDS)), Kind.MDN),
        (inner(TEXT, DELIVERED.replace(b"Final", b"X-Filler: x\r\n" * 100_000 + b"Final")), Kind.DSN),
        (inner(TEXT * 50_000, REPORT), Kind.MDN),
        (inner(TEXT * 50_000, REPORT).replace(b"disposition-notification", b"delivery-status", 1), Kind.DSN),
        (REPORT + b"X-Filler: x\r\n" * 100_000, Kind.MDN),
        (inner(TEXT, REPORT, REPORT.replace(FIELDS, b"X-Filler: x\r\n" * 100_000)), Kind.MDN),
    ],
)
def test_a_report_that_does_not_is_too_large_and_always_delivered(raw: bytes, kind: Kind) -> None:
    found = read(raw)
    assert (found.kind, found.too_large, found.must_deliver) == (kind, True, "the report is too large to read")


def test_a_prefix_says_the_same_as_the_message_once_the_report_is_in_it() -> None:
    raw = fixture("dsn-mixed")
    header, _, body = raw.partition(b"\r\n\r\n")
    block = HeaderBlock.parse(header + b"\r\n\r\n")
    ends = body.index(b"--d\r\nContent-Type: text/rfc822-headers") + 5
    for end in range(ends, len(body)):
        assert find_reports(block, body[:end], complete=False).must_deliver == "a recipient failed"
    for end in range(ends):
        found = find_reports(block, body[:end], complete=False)
        assert (found.kind, found.too_large) == (Kind.DSN, True)


def test_the_prefix_is_a_mebibyte() -> None:
    assert PREFIX == 2**20
    padding = b"x" * (PREFIX - len(inner(TEXT, REPORT).partition(b"\r\n\r\n")[2]))
    assert not read(inner(TEXT + padding, REPORT)).too_large
    assert read(inner(TEXT + padding + b"xxxxxxxxxxxxxxxxxxxx", REPORT)).too_large


# What a report may be tied to.


@pytest.mark.parametrize(
    ("name", "ties"),
    [
        ("thunderbird", ["Original-Message-ID", "References", "third part"]),
        ("roundcube", ["Original-Message-ID", "In-Reply-To", "References"]),
        ("fairemail", ["In-Reply-To", "References"]),
        ("exchange-on-premises", ["In-Reply-To"]),
        ("exchange-online", ["Original-Message-ID"]),
        ("nextcloud", ["Original-Message-ID", "third part"]),
        ("roundcube-without-original-id", []),
        ("dsn-failed", ["third part"]),
        ("dsn-exchange-delivered", ["In-Reply-To"]),
    ],
)
def test_ties_stand_in_the_order_of_their_worth(name: str, ties: list[str]) -> None:
    (report,) = read(fixture(name)).reports
    assert [tie.source for tie in report.ties] == ties


def test_of_references_the_last_counts() -> None:
    (report,) = read(fixture("fairemail")).reports
    assert report.ties[1] == Tie("timetable-3@example.com", "References")


def test_of_very_many_references_the_last_counts() -> None:
    cited = b"\r\n ".join(b"<%d@x>" % n for n in range(3000))
    (report,) = read(b"References: " + cited + b"\r\n" + REPORT).reports
    assert report.ties[-1] == Tie("2999@x", "References")


def test_one_of_several_reports_is_not_tied_to_what_the_message_answers() -> None:
    found = read(fixture("delta-chat-nested"))
    assert [[tie.id for tie in report.ties] for report in found.reports] == [
        ["Mr.fourth@example.com"],
        ["Mr.fifth@example.com"],
    ]
    assert "Mr.unrelated@example.com" not in found.message_ids


def test_everything_that_has_to_be_looked_up_is_listed_once() -> None:
    found = read(fixture("delta-chat"))
    assert found.message_ids == ("Mr.first@example.com", "Mr.second@example.com", "Mr.third@example.com")
    assert read(fixture("dsn-mixed")).envelope_ids == ("KF-0a1b2c",)


def test_a_report_without_sender_is_from_its_final_recipient() -> None:
    assert str(read(fixture("kmail")).final_recipient) == "jg@partner.example"
    assert str(read(fixture("dsn-mixed")).final_recipient) == "a.ito@partner.example"
    assert read(fixture("as2-signed")).final_recipient is None


# What is kept of a report.


def test_of_the_returned_message_identifier_and_date_are_kept() -> None:
    (report,) = read(fixture("thunderbird")).reports
    assert report.excerpt().decode() == (
        "Reporting-UA: Mozilla Thunderbird\n"
        "Final-Recipient: rfc822;h.sato@partner.example\n"
        "Original-Message-ID: <20260703081502.4F1A2@mx.example.co.jp>\n"
        "Disposition: manual-action/MDN-sent-automatically; displayed\n"
        "\n"
        "Message-ID: <20260703081502.4F1A2@mx.example.co.jp>\n"
        "Date: Fri, 3 Jul 2026 17:15:02 +0900\n"
    )


def test_however_much_is_said_about_the_message_the_recipient_is_kept() -> None:
    group = b"Reporting-MTA: dns; mx\r\n" + b"X-About: everything\r\n" * 9000 + b"\r\n"
    (report,) = read(inner(TEXT, DELIVERED.replace(b"Final", group + b"Final"))).reports
    assert report.dsn is not None
    kept = report.excerpt(report.dsn.recipients[0])
    assert kept.startswith(b"Reporting-MTA: dns; mx\n")
    assert kept.endswith(b"Final-Recipient: rfc822; a@b\nAction: delivered\n")
    assert len(kept) < 2 * MAX_ABOUT_MESSAGE


def test_of_other_recipients_nothing_is_kept() -> None:
    (report,) = read(fixture("roundcube")).reports
    kept = report.excerpt()
    assert b"Original-Recipient: rfc822; suzuki@partner.example\n" in kept
    assert b"mori" not in kept.lower()
    (report,) = read(fixture("dsn-mixed")).reports
    assert report.dsn is not None
    for recipient in report.dsn.recipients:
        kept = report.excerpt(recipient)
        for other in report.dsn.recipients:
            assert (str(other.address).encode() in kept) == (other is recipient)
        assert b"Original-Envelope-Id: KF-0a1b2c" in kept
        assert b"Message-ID: <estimate-77@example.co.jp>" in kept


@pytest.mark.parametrize("path", sorted(RECEIPTS.glob("*.eml")), ids=lambda path: path.stem)
def test_subjects_and_texts_are_never_kept(path: Path) -> None:
    for report in read(path.read_bytes()).reports:
        for kept in (report.excerpt(), *(report.excerpt(r) for r in (report.dsn.recipients if report.dsn else ()))):
            assert b"subject" not in kept.lower()
            assert b"Confidential" not in kept
            assert b"\r" not in kept


# Which messages the relay has to hold.


@pytest.mark.parametrize(
    "media",
    [
        b"multipart/report; boundary=x",
        b"Multipart/Signed; boundary=x",
        b"multipart/parallel; boundary=x",
        b"message/disposition-notification",
        b"message/global-disposition-notification",
        b"message/delivery-status",
        b"message/global-delivery-status",
        b"application/ms-tnef; name=winmail.dat",
    ],
)
def test_what_only_reports_look_like_is_held(media: bytes) -> None:
    assert possible_report(HeaderBlock.parse(b"Content-Type: " + media + b"\r\n\r\n"), False)


@pytest.mark.parametrize(
    "media", [b"Content-Type: multipart/mixed; boundary=x\r\n", b"Content-Type: text/html\r\n", b""]
)
def test_ordinary_types_are_held_only_if_they_answer_something_automatically(media: bytes) -> None:
    def held(fields: bytes, null: bool = False) -> bool:
        return possible_report(HeaderBlock.parse(media + fields + b"\r\n"), null)

    assert held(b"In-Reply-To: <a@b>\r\n", null=True)
    assert held(b"In-Reply-To: <a@b>\r\nAuto-Submitted: auto-replied\r\n")
    assert not held(b"In-Reply-To: <a@b>\r\n")
    assert not held(b"In-Reply-To: <a@b>\r\nAuto-Submitted: no\r\n")
    assert not held(b"Auto-Submitted: auto-replied\r\n")
    assert not held(b"", null=True)


@pytest.mark.parametrize(
    "media", [b"image/png", b"multipart/alternative; boundary=x", b"message/rfc822", b"application/pdf"]
)
def test_other_types_are_never_held(media: bytes) -> None:
    fields = b"In-Reply-To: <a@b>\r\nAuto-Submitted: auto-replied\r\n\r\n"
    assert not possible_report(HeaderBlock.parse(b"Content-Type: " + media + b"\r\n" + fields), True)


@pytest.mark.parametrize(
    ("value", "automatic"),
    [
        (b"auto-replied", True),
        (b"auto-generated; owner-email=x", True),
        (b"Auto-Replied (vacation)", True),
        (b"(said a program) auto-replied", True),
        (b"(said a person) no", False),
        (b"no(really)", False),
        (b"no", False),
        (b"No (really)", False),
        (b"", False),
    ],
)
def test_auto_submitted_says_no_or_something_else(value: bytes, automatic: bool) -> None:
    assert (auto_submitted(HeaderBlock.parse(b"Auto-Submitted: " + value + b"\r\n\r\n")) is not None) is automatic


# Suspected receipts.


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("outlook-tnef", "a read receipt of Outlook (TNEF)"),
        ("outlook-tnef-not-read", "a not-read notice of Outlook (TNEF)"),
        ("outlook-tnef-unreadable", "an Outlook item (TNEF) that cannot be read"),
        ("indimail", "a report in the text of a message without MIME"),
        ("snappymail", "a return receipt as plain text (RainLoop, SnappyMail)"),
        ("tine", "a reading confirmation in HTML (Tine 2.0)"),
    ],
)
def test_what_some_clients_send_instead_is_suspected_and_no_report(name: str, form: str) -> None:
    found = inspect_message(fixture(name))
    assert (found.kind, found.facts) == ("suspected-receipt", None)
    assert found.suspicion is not None
    assert found.suspicion.form == form


@pytest.mark.parametrize(
    "body",
    [
        b"Your message: thank you! It was read by all of us, says Vera.\r\n",
        b"> This is a Return Receipt for the mail that you sent to me\r\n\r\nWhat is that?\r\n",
        b"Read: yes. Displayed. Disposition: manual-action/MDN-sent-manually; displayed\r\n",
        b"Content-Type: multipart/report; report-type=delivery-status; boundary=x\r\n\r\n--x\r\n",
        b"See how it looks:\r\n\r\nContent-Type: multipart/report; report-type=disposition-notification\r\n",
    ],
)
@pytest.mark.parametrize("subject", [b"Read: Agenda", b"Return Receipt (displayed) - Agenda", b"Not read: Agenda"])
def test_neither_subjects_nor_the_words_of_people_are_suspected(subject: bytes, body: bytes) -> None:
    assert inspect_message(b"Subject: " + subject + b"\r\nIn-Reply-To: <a@b>\r\n\r\n" + body).kind == "mail"


@pytest.mark.parametrize("encoding", [b"base64", b"BASE64;", b"base64 (as ever)"])
def test_a_suspected_receipt_may_be_encoded(encoding: bytes) -> None:
    text = base64.encodebytes(b"This is a Return Receipt for the mail that you sent to a@b.example")
    raw = b"Content-Type: text/plain\r\nContent-Transfer-Encoding: " + encoding + b"\r\n\r\n" + text
    assert inspect_message(raw).kind == "suspected-receipt"


def test_an_outlook_item_that_is_no_receipt_is_mail() -> None:
    assert inspect_message(fixture("outlook-tnef-mail")).kind == "mail"


def test_a_caller_may_hand_over_the_requests_it_has_found() -> None:
    header = HeaderBlock.parse(b"Disposition-Notification-To: a@b\r\n\r\n")
    assert [r.name for r in inspect_body(header, b"").requests] == ["Disposition-Notification-To"]
    assert inspect_body(header, b"", requests=()).requests == ()


@pytest.mark.parametrize(
    "first", [b"POST /as2 HTTP/1.1", b"HTTP/1.1 200 OK", b"HTTP 1.1 POST /any", b"--the-multipart-around-it"]
)
def test_what_was_saved_from_http_is_read_from_its_header_on(first: bytes) -> None:
    assert inspect_message(first + b"\r\n" + inner(TEXT, REPORT)).kind == "mdn"
    assert inspect_message(first + b"\r\n\r\n" + inner(TEXT, REPORT)).kind != "mdn"
    assert inspect_message(b"Hello, " + first + b"\r\n" + inner(TEXT, REPORT)).kind == "mail"
