"""Postfix as kaifu's client and as its next hop, in each way that the deployment guide shows, from its own blocks."""

from __future__ import annotations

import re
import smtplib
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Iterator

import pytest
from tests.postfix_harness import Postfix, missing, program
from tests.postfix_site import SETUPS, Site, letter, receipt, running, send
from tests.session_next_hop import DEADLINE, poll

WHY_NOT = missing("postfix", "postqueue")
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))


@pytest.fixture(scope="module", params=SETUPS)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    with running(request.param) as everything:
        yield everything


def fields(message: bytes, name: str) -> list[bytes]:
    """The values of the header fields with that name, unfolded."""
    header = re.sub(rb"\n[ \t]+", b" ", message.split(b"\n\n", 1)[0])
    return re.findall(rb"(?im)^" + name.encode() + rb":[ \t]*(.*)$", header)


def body(message: bytes) -> bytes:
    return message.split(b"\n\n", 1)[1]


def message_id(mail: bytes) -> str:
    return fields(mail, "Message-ID")[0].decode().strip("<>")


def test_a_request_is_added_for_whom_the_rule_names_and_for_nobody_else(site: Site) -> None:
    to = ["split@partner.example", "split@other.example", "split@example.co.jp"]
    send(site.office.port, letter("split.from@example.co.jp", to[0], "The contract"), "split.from@example.co.jp", to)
    [asked], [other] = (site.world.wait_for_mail(address) for address in to[:2])
    [inside] = site.office.wait_for_mail(to[2])
    assert fields(asked, "Disposition-Notification-To") == [b"<split.from@example.co.jp>"]
    assert [fields(mail, "Disposition-Notification-To") for mail in (other, inside)] == [[], []]
    assert body(asked) == body(other) == body(inside)
    assert len({message_id(mail) for mail in (asked, other, inside)}) == 1


def test_nobody_sees_who_else_got_the_message(site: Site) -> None:
    to = ["open@partner.example", "secret@other.example"]
    send(site.office.port, letter("bcc@example.co.jp", to[0], "The contract"), "bcc@example.co.jp", to)
    [mail] = site.world.wait_for_mail(to[0])
    assert b"secret" not in mail
    [mail] = site.world.wait_for_mail(to[1])
    assert b"for <open@partner.example>" not in re.sub(rb"\s+", b" ", mail)


def test_a_request_from_outside_does_not_reach_the_employee(site: Site) -> None:
    sender, to = "curious@partner.example", "strip@example.co.jp"
    asking = letter(sender, to, "Read me", Disposition_Notification_To=sender, Return_Receipt_To=sender, X_Other="kept")
    send(site.world.port, asking, sender, to)
    [mail] = site.office.wait_for_mail(to)
    assert fields(mail, "Disposition-Notification-To") == fields(mail, "Return-Receipt-To") == []
    assert fields(mail, "X-Other") == [b"kept"]
    assert site.receipt(to)["request"] == "stripped"


def test_a_success_report_that_only_the_policy_asked_for_becomes_evidence_and_is_withheld(site: Site) -> None:
    sender, to = "reported@example.co.jp", "reported@partner.example"
    send(site.office.port, letter(sender, to, "The contract"), sender, to)
    site.world.wait_for_mail(to)
    wait_until_answered(site, sender)
    row = site.receipt(to)
    assert (row["state"], row["transport"]) == ("delivered", "delivered")
    assert site.office.mailbox(sender) == []


def test_a_success_report_that_the_client_asked_for_is_delivered(site: Site) -> None:
    sender, to = "asking@example.co.jp", "asking@partner.example"
    send(site.office.port, letter(sender, to, "The contract"), sender, to, rcpt=["NOTIFY=SUCCESS,FAILURE"])
    [report] = site.office.wait_for_mail(sender)
    assert b"Action: delivered" in report
    assert site.receipt(to)["state"] == "delivered"


def test_a_read_receipt_that_only_the_policy_asked_for_becomes_evidence_and_is_withheld(site: Site) -> None:
    sender, to = "receipt.policy@example.co.jp", "reader.policy@partner.example"
    send(site.office.port, letter(sender, to, "契約書"), sender, to, rcpt=["NOTIFY=NEVER"])
    [mail] = site.world.wait_for_mail(to)
    send(site.world.port, receipt(to, sender, message_id(mail)), "", sender)
    wait_until_answered(site, sender)
    assert site.receipt(to)["state"] == "displayed"
    assert site.office.mailbox(sender) == []


def test_a_read_receipt_that_the_client_asked_for_arrives(site: Site) -> None:
    sender, to = "receipt.client@example.co.jp", "reader.client@other.example"
    send(site.office.port, letter(sender, to, "Hello", Disposition_Notification_To=sender), sender, to)
    [mail] = site.world.wait_for_mail(to)
    send(site.world.port, receipt(to, sender, message_id(mail)), "", sender)
    [answer] = site.office.wait_for_mail(sender)
    assert b"Disposition: manual-action/MDN-sent-manually; displayed" in answer
    assert site.receipt(to)["state"] == "displayed"


def test_a_failure_report_reaches_its_reader_and_is_recorded(site: Site) -> None:
    sender, to = "failing@example.co.jp", "nobody@gone.example"
    asking = letter(sender, to, "Hello", Disposition_Notification_To=sender)
    send(site.office.port, asking, sender, to)
    [report] = site.office.wait_for_mail(sender)
    assert b"Action: failed" in report
    assert site.receipt(to)["state"] == "failed"


def test_every_octet_of_a_body_arrives(site: Site) -> None:
    sender, to = "octets@example.co.jp", "octets@partner.example"
    lines = ["..", ".", ". dots", "x" * 900, "", "日本語の本文", "\t trailing \t", "", ""]
    mail = letter(sender, to, "The contract").as_bytes().split(b"\n\n", 1)[0]
    mail = mail.replace(b"7bit", b"8bit").replace(b"base64", b"8bit")
    octets = mail.replace(b"\n", b"\r\n") + b"\r\n\r\n" + "\r\n".join(lines).encode()
    send(site.office.port, octets, sender, to, mail=["BODY=8BITMIME"])
    [arrived] = site.world.wait_for_mail(to)
    assert body(arrived) == "\n".join(lines).encode()


def test_addresses_in_utf8_go_through_and_match_the_policy(site: Site) -> None:
    sender, to = "田中@example.co.jp", "鈴木@partner.example"
    header = f"From: {sender}\r\nTo: {to}\r\nSubject: 契約書をお送りします\r\nMessage-ID: <eai@example.co.jp>\r\n\r\n"
    with smtplib.SMTP("127.0.0.1", site.office.port, "client.example") as client:
        client.ehlo()
        client.command_encoding = "utf-8"
        assert client.mail(sender, ["SMTPUTF8", "BODY=8BITMIME"])[0] == 250
        assert client.rcpt(to)[0] == 250
        assert client.data((header + "拝啓\r\n").encode())[0] == 250
    [mail] = site.world.wait_for_mail(to)
    assert fields(mail, "Disposition-Notification-To") == [f"<{sender}>".encode()]
    assert body(mail) == "拝啓\n".encode()
    row = site.receipt(to)
    assert (row["from"], row["subject"], row["asked_by"]) == (sender, "契約書をお送りします", "policy")


def test_mail_waits_in_the_queue_while_kaifu_is_down_and_arrives_once(site: Site) -> None:
    sender, to = "down@partner.example", "down@example.co.jp"
    site.stop_relays()
    after = site.world.mark(), site.office.mark()
    send(site.world.port, letter(sender, to, "Hello", Disposition_Notification_To=sender), sender, to)
    holder = wait_until_deferred(site, to, after)
    site.start_relays()
    holder.flush()
    [mail] = arrived_once(site, to, holder)
    assert fields(mail, "Disposition-Notification-To") == []
    poll(lambda: site.receipt(to)["outcome"] == "accepted", "the outcome to be recorded")


def test_mail_waits_in_the_queue_while_the_ledger_cannot_be_written_and_arrives_once(site: Site) -> None:
    sender, to = "locked@partner.example", "locked@example.co.jp"
    after = site.world.mark(), site.office.mark()
    locked = sqlite3.connect(site.folder / "ledger.db", isolation_level=None)
    locked.execute("BEGIN IMMEDIATE")
    send(site.world.port, letter(sender, to, "Hello", Disposition_Notification_To=sender), sender, to)
    holder = wait_until_deferred(site, to, after)
    assert holder.logged(rf"to=<{to}>.*status=deferred.* 4\.\d\.\d", min(after))
    locked.execute("ROLLBACK")
    locked.close()
    holder.flush()
    assert len(arrived_once(site, to, holder)) == 1
    poll(lambda: site.receipt(to)["outcome"] == "accepted", "the outcome to be recorded")


def test_a_burst_goes_through_whole_and_every_report_comes_home(site: Site) -> None:
    sender, to, count = "burst@example.co.jp", "burst@partner.example", 150
    subprocess.run(
        [program("smtp-source"), "-s", "20", "-m", str(count), "-l", "5000", "-S", "contract", "-f", sender, "-t", to,
         f"127.0.0.1:{site.office.port}"],
        check=True, timeout=DEADLINE,
    )  # fmt: skip
    mails = site.world.wait_for_mail(to, count)
    assert [len(fields(mail, "Disposition-Notification-To")) for mail in mails] == [1] * count
    wait_until_answered(site, sender, count)
    assert Counter(row["state"] for row in site.receipts(to)) == {"delivered": count}
    assert site.office.mailbox(sender) == []


def test_before_the_queue_the_client_hears_what_kaifu_says() -> None:
    with running("smtpd_proxy_filter") as site:
        secret, to = "secret@example.co.jp", "curious@partner.example"
        with pytest.raises(smtplib.SMTPResponseException) as refused:
            send(site.office.port, receipt(secret, to, "original@partner.example"), secret, to)
        assert refused.value.smtp_code == 550
        assert b"by policy" in refused.value.smtp_error
        site.stop_relays()
        with pytest.raises(smtplib.SMTPResponseException) as put_off:
            send(site.office.port, letter(secret, to, "Hello"), secret, to)
        assert put_off.value.smtp_code == 451
        assert to not in str([*site.office.queue(), *site.world.queue()])


def wait_until_answered(site: Site, to: str, count: int = 1) -> None:
    """Wait until so much mail for somebody in the office has been taken by kaifu: its sender heard 250."""
    client = site.office if site.office.parameters.get("content_filter") else site.world
    client.wait_for_logs(rf"to=<{re.escape(to)}>.* status=sent", count=count)


def wait_until_deferred(site: Site, to: str, after: tuple[int, int]) -> Postfix:
    """Wait until the Postfix in front of kaifu has put a message off; that Postfix."""
    deferring = site.office if site.office.parameters.get("content_filter") else site.world
    deferring.wait_for_log(rf"to=<{re.escape(to)}>.*status=deferred", after[deferring is site.office])

    def put_aside() -> bool:
        return any(to in str(one) and one["queue_name"] == "deferred" for one in deferring.queue())

    poll(put_aside, f"{deferring.hostname} to put the message aside")
    return deferring


def arrived_once(site: Site, to: str, holder: Postfix) -> list[bytes]:
    """The mail for somebody in the office, when nobody holds any more of it."""
    site.office.wait_for_mail(to)
    for queue in (holder, site.office):
        poll(lambda queue=queue: to not in str(queue.queue()), f"the queue of {queue.hostname} to be empty")  # type: ignore[misc]
    return site.office.mailbox(to)
