"""Sendmail with kaifu as its milter, from the deployment guide's own lines, and what kaifu relies on in Sendmail."""

from __future__ import annotations

import re
import signal
import smtplib
from collections.abc import Iterator
from contextlib import closing
from email.message import EmailMessage

import pytest
from tests.postfix_milter_site import POLICY, REQUESTS, fields, names
from tests.postfix_site import good, letter, receipt, send
from tests.sendmail_site import SendmailSite, sendmail_site, sendmail_told, why_not
from tests.session_next_hop import DEADLINE, Transaction

from kaifu.proxy import milterwire as wire
from kaifu.proxy.edits import Delete
from kaifu.proxy.replies import REJECTED

WHY_NOT = why_not()
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))

DNT = "Disposition-Notification-To"

UNREPORTED = """\
  - name: no reports from there
    when: {direction: outbound, to: "@unreported.example"}
    then: {delivery_report: strip}
"""


@pytest.fixture(scope="module")
def site() -> Iterator[SendmailSite]:
    with sendmail_site(POLICY + UNREPORTED) as everything:
        yield everything


def mail(handed_on: Transaction) -> bytes:
    """A message as the next hop will store it, line ends LF."""
    return re.sub(rb"(?m)^\.\.", b".", handed_on.data.replace(b"\r\n", b"\n"))


def octets(message: EmailMessage) -> bytes:
    """A message with line ends as in transit."""
    return message.as_bytes().replace(b"\n", b"\r\n")


def said_to(port: int, message: bytes, sender: str, to: str) -> tuple[int, bytes]:
    """What Sendmail answers to the final dot."""
    with smtplib.SMTP("127.0.0.1", port, "client.example", DEADLINE) as client:
        client.ehlo()
        good(*client.mail(sender))
        good(*client.rcpt(to))
        return client.data(message)


# What changes


def test_a_request_a_message_id_and_a_delivery_report_are_added_and_nothing_else_changes(site: SendmailSite) -> None:
    sender, to = "add@example.co.jp", "add@partner.example"
    lines = [
        f"From: {sender}",
        f"To: {to}",
        "Subject: 契約書",
        "X-Folded: a\r\n\tb\r\n  c",
        "X-Odd:no space",
        "X-None:",
    ]
    given = "\r\n".join([*lines, "", "..", "日本語", ".", ""]).encode()
    asked = ["RET=HDRS", "ENVID=QQ314159", "BODY=8BITMIME"]
    first = "ORCPT=rfc822;first+2Bchoice@partner.example"
    send(site.office.port, given, sender, to, mail=asked, rcpt=[first])
    [done] = site.handed_on()
    assert done.recipients == [f"RCPT To:<{to}> NOTIFY=SUCCESS,FAILURE,DELAY {first}".encode()]
    assert all(parameter.encode() in done.mail.split() for parameter in asked)
    row = site.receipt(to)
    assert (row["request"], row["asked_by"], row["outcome"], row["subject"]) == ("added", "policy", "unknown", "契約書")
    assert fields(mail(done), DNT) == [f"<{sender}>".encode()]
    assert fields(mail(done), "Message-ID") == [f"<{row['message_id']}>".encode()]
    header, body = mail(done).split(b"\n\n", 1)
    assert "\n".join(lines).replace("\r", "").encode() in header
    assert body == given.replace(b"\r\n", b"\n").split(b"\n\n", 1)[1]


def test_every_request_is_stripped_wherever_it_stands_and_nothing_else(site: SendmailSite) -> None:
    sender, to = "strip@partner.example", "strip@example.co.jp"
    lines = [
        f"From: {sender}",
        f"To: {to}",
        "Date: Sat, 21 Nov 2026 20:00:00 +0900",
        "Message-ID: <strip@partner.example>",
    ]
    kept = [line.encode() for line in lines]
    given = list(kept)
    forms = [b"%b:%b", b"%b: %b,\r\n\tsecond@partner.example", b"%b : \xff\xe6\x97\xa5 <%b>"]
    for number, form in enumerate(forms):
        for name, value in REQUESTS.items():
            field = name.replace("_", "-").encode()
            given += [form % (field.swapcase() if number == 1 else field, value.format(sender).encode())]
            kept += [b"X-%b: \xff%d\r\n\tfolded" % (field, number)]
            given += kept[-1:]
    send(site.office.port, b"\r\n".join([*given, b"Subject: hello", b"", b"body"]), sender, to)
    [done] = site.handed_on()
    assert done.data.split(b"\r\n\r\n")[0].endswith(b"\r\n".join([*kept[4:], b"Subject: hello"]))
    assert sorted(names(mail(done))[1:]) == sorted([*(line.split(b":")[0].decode() for line in kept), "Subject"])
    assert site.receipt(to)["request"] == "stripped"


def test_a_delivery_report_that_a_client_asked_for_stays_and_the_record_says_so(site: SendmailSite) -> None:
    sender, to = "stays@example.co.jp", "stays@unreported.example"
    send(site.office.port, letter(sender, to, "Hello"), sender, to, rcpt=["NOTIFY=SUCCESS"])
    [done] = site.handed_on()
    assert done.recipients == [f"RCPT To:<{to}> NOTIFY=SUCCESS".encode()]
    assert "not possible: Sendmail does not let" in site.receipt(to)["reason"]


def test_no_recipient_is_lost_where_sendmail_is_kept_from_delivery_reports() -> None:
    with sendmail_site(POLICY, "define(`confPRIVACY_FLAGS', `noreceipts')dnl\n") as site:
        sender, to = "private@example.co.jp", "private@partner.example"
        with closing(smtplib.SMTP("127.0.0.1", site.office.port, "client.example", DEADLINE)) as client:
            client.ehlo()
            good(*client.mail(sender))
            good(*client.rcpt(to))
            client.data(octets(letter(sender, to, "contract")))  # what it says to that is no SMTP
        site.world.wait_for_messages(1)
        assert site.handed_on()[0].recipients == [f"RCPT To:<{to}>".encode()]


def test_of_several_requests_the_first_is_kept_where_the_policy_asks_too(site: SendmailSite) -> None:
    sender, to = "several@example.co.jp", "several@partner.example"
    several = (
        f"{DNT}: <{sender}>\r\nX-Between: 1\r\n{DNT}: <second@example.co.jp>\r\nX-Between: 2\r\n{DNT}: third@a.example"
    )
    send(site.office.port, f"From: {sender}\r\n{several}\r\nSubject: contract\r\n\r\nbody\r\n".encode(), sender, to)
    [done] = site.handed_on()
    assert fields(mail(done), DNT) == [f"<{sender}>".encode()]
    assert fields(mail(done), "X-Between") == [b"1", b"2"]
    assert site.receipt(to)["asked_by"] == "client"


# Receipts


def test_a_receipt_is_delivered_withheld_or_rejected_for_each_of_its_readers(site: SendmailSite) -> None:
    port = site.office.port
    both = ["withheld@rival.example", "given@partner.example"]
    given = receipt("reader@example.co.jp", both[0], "one@rival.example")
    send(port, given, "", both)
    [done] = site.handed_on()
    assert done.recipients == [b"RCPT To:<given@partner.example>"]
    assert done.data.split(b"\r\n\r\n", 1)[1] == given.split(b"\r\n\r\n", 1)[1]

    assert said_to(port, receipt("quiet@example.co.jp", "x@a.example", "two@a.example"), "", "x@a.example")[0] == 250
    code, text = said_to(port, receipt("secret@example.co.jp", "y@a.example", "three@a.example"), "", "y@a.example")
    assert (code, text) == (550, b"5.7.1 Receipts are refused here by policy")
    site.handed_on(0)
    assert site.office.queue() == []
    ends = [re.search(r"end=(\w+)", site.milter.wait_for_log(f"to={to}")) for to in ("x@a.example", "y@a.example")]
    assert [end[1] for end in ends if end] == ["discard", "reject"]


def test_a_receipt_for_a_request_of_the_policy_alone_becomes_evidence_and_is_withheld(site: SendmailSite) -> None:
    sender, to = "asks@example.co.jp", "answers@partner.example"
    send(site.office.port, letter(sender, to, "contract"), sender, to)
    [done] = site.handed_on()
    [cited] = fields(mail(done), "Message-ID")
    send(site.office.port, receipt(to, sender, cited.decode().strip("<>")), "", sender)
    site.handed_on(0)
    assert site.receipt(to)["state"] == "displayed"


# Sessions


def test_a_session_has_many_messages_large_ones_and_some_that_are_given_up(site: SendmailSite) -> None:
    sender, to, nobody = "session@partner.example", "session@example.co.jp", "nobody@example.co.jp"
    small = octets(letter(sender, to, "small", Disposition_Notification_To=sender))
    large = small.replace(b"Subject: small", b"Subject: large") + (b"y" * 78 + b"\r\n") * 40_000
    with smtplib.SMTP("127.0.0.1", site.office.port, "client.example", DEADLINE) as client:
        client.ehlo()
        for message, given_up in [(small, True), (large, False), (large, True), (small, False)]:
            good(*client.mail(sender))
            good(*client.rcpt(nobody if given_up else to))
            good(*(client.rset() if given_up else client.data(message)))
    done = site.handed_on(2)
    assert [one.recipients for one in done] == [[f"RCPT To:<{to}>".encode()]] * 2
    assert [fields(mail(one), DNT) for one in done] == [[], []]
    assert [one.data.split(b"\r\n\r\n", 1)[1] for one in done] == [m.split(b"\r\n\r\n", 1)[1] for m in (large, small)]
    assert [row["subject"] for row in site.receipts(to)] == ["large", "small"]
    assert site.receipts(nobody) == []


def test_the_record_names_sendmail_s_queue_id(site: SendmailSite) -> None:
    sender, to = "queued@example.co.jp", "queued@partner.example"
    code, text = said_to(site.office.port, octets(letter(sender, to, "contract")), sender, to)
    assert code == 250
    queue_id = text.decode().split()[1]
    assert f"id {queue_id}".encode() in fields(mail(site.handed_on()[0]), "Received")[0]
    assert re.search(rf"queue id {queue_id}\b", site.milter.command("receipts", "show", str(site.receipt(to)["id"])))
    assert site.milter.wait_for_log(f"id={queue_id} from={sender}")


# When something fails


def test_mail_waits_at_its_sender_while_kaifu_or_its_ledger_is_gone(site: SendmailSite) -> None:
    sender, to = "patient@example.co.jp", "patient@partner.example"
    message = letter(sender, to, "contract")

    def put_off(text: bytes) -> None:
        with pytest.raises(smtplib.SMTPResponseException) as answer:
            send(site.office.port, message, sender, to)
        assert (answer.value.smtp_code, answer.value.smtp_error) == (451, text)

    away = site.ledger.with_name("away")
    files = [file for file in site.ledger.parent.glob("ledger.db*") if file.is_file()]
    away.mkdir()
    for file in files:
        file.rename(away / file.name)
    put_off(b"4.3.0 The receipt ledger cannot be written now; try again later")
    for file in files:
        file.unlink(missing_ok=True)
        (away / file.name).rename(file)

    for end in (signal.SIGTERM, signal.SIGKILL):
        with smtplib.SMTP("127.0.0.1", site.office.port, "client.example", DEADLINE) as client:
            client.ehlo()
            good(*client.mail(sender))
            good(*client.rcpt(to))
            site.milter.signal(end)
            site.milter.wait()
            assert client.data(octets(message)) == (451, b"4.3.2 Please try again later")
        put_off(b"4.3.2 Please try again later")
        site.milter.start()
    site.handed_on(0)
    assert site.office.queue() == []
    send(site.office.port, message, sender, to)
    [done] = site.handed_on()
    assert fields(mail(done), DNT) == [f"<{sender}>".encode()]
    assert site.receipt(to)["request"] == "added"


# What kaifu relies on, and what it cannot have


def test_a_percent_sign_in_a_reply_arrives_and_of_fields_the_one_that_was_named_is_deleted() -> None:
    answers = [wire.reply(REJECTED.saying("100% of %s"))]
    letters = b"A: 1\r\nB: 2\r\nA: 3\r\na: 4\r\nA: 5\r\n"
    message = b"From: a@example.co.jp\r\n" + letters + b"Subject: x\r\n\r\nbody\r\n"
    with sendmail_told(answers) as (office, world):
        code, text = said_to(office.port, message, "a@example.co.jp", "b@a.example")
        assert (code, text) == (550, b"5.7.1 100% of %s")
        assert world.transactions == []
        for nths, left in [((3, 1), b"235"), ((1, 3), b"235"), ((4,), b"1234"), ((5,), b"12345")]:
            answers[:] = [*(wire.edit(Delete("A", nth)) for nth in nths), wire.CONTINUE]
            assert said_to(office.port, message, "a@example.co.jp", "b@a.example")[0] == 250
            found = re.findall(rb"(?m)^[ABa]: (\d)\r$", world.transactions[-1].data)
            assert b"".join(found) == left


def test_a_report_that_sendmail_writes_itself_passes_no_milter(site: SendmailSite) -> None:
    sender, to = "reported@example.co.jp", "reported@partner.example"
    offers, site.world.offers = site.world.offers, ["8BITMIME"]
    try:
        send(site.office.port, letter(sender, to, "contract"), sender, to)
    finally:
        site.world.offers = offers
    report = site.handed_on(2)[1]
    assert report.recipients == [f"RCPT To:<{sender}>".encode()]
    assert b"Action: relayed" in report.data
    assert site.receipt(to)["state"] == "waiting"


def test_addresses_in_utf8_are_for_a_sendmail_that_offers_them(site: SendmailSite) -> None:
    sender, to = "田中@example.co.jp", "鈴木@partner.example"
    header = f"From: {sender}\r\nTo: {to}\r\nSubject: contract\r\nMessage-ID: <eai@example.co.jp>\r\n\r\n"
    with smtplib.SMTP("127.0.0.1", site.office.port, "client.example", DEADLINE) as client:
        client.ehlo()
        client.command_encoding = "utf-8"
        if not client.has_extn("SMTPUTF8"):
            assert client.docmd("MAIL", "FROM:<tanaka@example.co.jp> SMTPUTF8")[0] // 100 == 5
            return
        good(*client.mail(sender, ["SMTPUTF8", "BODY=8BITMIME"]))
        good(*client.rcpt(to))
        good(*client.data((header + "拝啓\r\n").encode()))
    [done] = site.handed_on()
    assert fields(mail(done), DNT) == [f"<{sender}>".encode()]
