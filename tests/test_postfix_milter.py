"""Postfix with kaifu as its milter, from the deployment guide's own blocks: chrooted, with the socket in its queue directory."""

from __future__ import annotations

import json
import re
import smtplib
import subprocess
from collections import Counter
from collections.abc import Iterator

import pytest
from tests.postfix_harness import Postfix, free_port, missing, program
from tests.postfix_milter_site import POLICY, REQUESTS, MilterSite, fields, milter_site, names, sendmail
from tests.postfix_site import good, letter, receipt, send
from tests.session_next_hop import DEADLINE

WHY_NOT = missing("postfix", "postqueue", "sendmail")
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))

DNT = "Disposition-Notification-To"


@pytest.fixture(scope="module")
def site() -> Iterator[MilterSite]:
    with milter_site() as everything:
        yield everything


def message_id(mail: bytes) -> str:
    return fields(mail, "Message-ID")[0].decode().strip("<>")


def body(message: bytes) -> bytes:
    return message.split(b"\n\n", 1)[1]


def asking(sender: str) -> dict[str, str]:
    """Fields with which clients ask for receipts."""
    return {name: value.format(sender) for name, value in REQUESTS.items()}


def test_smtpd_and_cleanup_run_chrooted_here(site: MilterSite) -> None:
    assert site.office.services["smtp", "inet"].split()[4] == site.office.services["cleanup", "unix"].split()[4] == "y"
    assert site.office.parameters["smtpd_milters"].strip() == "unix:kaifu/milter.sock"


# Header fields


def test_a_request_is_added_to_what_comes_by_smtp(site: MilterSite) -> None:
    sender, to = "add@example.co.jp", "add@partner.example"
    given = letter(sender, to, "契約書をお送りします")
    send(site.office.port, given, sender, to)
    [mail] = site.world.wait_for_mail(to)
    assert fields(mail, DNT) == [b"<add@example.co.jp>"]
    assert names(mail)[-len(given.keys()) - 1 :] == [*given.keys(), DNT]
    assert body(mail) == given.as_bytes().split(b"\n\n", 1)[1]
    row = site.receipt(to)
    assert (row["request"], row["asked_by"], row["outcome"]) == ("added", "policy", "unknown")


def test_a_request_is_added_to_what_a_program_on_the_machine_sends(site: MilterSite) -> None:
    sender, to = "local@example.co.jp", "local@partner.example"
    sendmail(site.office, letter(sender, to, "The contract").as_bytes(), "-f", sender, to)
    [mail] = site.world.wait_for_mail(to)
    assert fields(mail, DNT) == [b"<local@example.co.jp>"]
    assert site.receipt(to)["request"] == "added"


def test_every_request_is_stripped_wherever_it_stands_and_nothing_else(site: MilterSite) -> None:
    sender, to = "strip@partner.example", "strip@example.co.jp"
    requests = [value.format(sender) for value in REQUESTS.values()]
    lines = [
        f"From: {sender}",
        f"To: {to}",
        "Message-ID: <strip@partner.example>",
        "Date: Sat, 21 Nov 2026 20:00:00 +0900",
    ]
    for number in range(3):
        lines += [f"X-Other: {number}"]
        for name, value in zip(REQUESTS, requests, strict=True):
            lines += [f"{name.replace('_', '-').swapcase()}:{value}", f"X-{name.replace('_', '-')}: {number}"]
    send(site.office.port, "\r\n".join([*lines, "Subject: hello", "", "body"]).encode(), sender, to)
    [mail] = site.office.wait_for_mail(to)
    asked = {name.replace("_", "-").lower() for name in REQUESTS}
    left = [line.split(":")[0] for line in lines if line.split(":")[0].lower() not in asked]
    assert names(mail)[-len(left) - 1 :] == [*left, "Subject"]
    assert fields(mail, "X-Disposition-Notification-To") == fields(mail, "X-Other") == [b"0", b"1", b"2"]
    assert site.receipt(to)["request"] == "stripped"


def test_of_several_requests_the_first_is_kept_where_the_policy_asks_too(site: MilterSite) -> None:
    sender, to = "several@example.co.jp", "several@partner.example"
    head = f"From: {sender}\r\nTo: {to}\r\nSubject: The contract\r\nMessage-ID: <several@example.co.jp>\r\n"
    several = f"{DNT}: <{sender}>\r\nX-Between: 1\r\n{DNT}: <second@example.co.jp>\r\nX-Between: 2\r\n{DNT}: third@a.example\r\n"
    send(site.office.port, f"{head}{several}\r\nbody\r\n".encode(), sender, to)
    [mail] = site.world.wait_for_mail(to)
    assert fields(mail, DNT) == [b"<several@example.co.jp>"]
    assert fields(mail, "X-Between") == [b"1", b"2"]
    assert site.receipt(to)["asked_by"] == "client"


def test_what_has_no_message_id_gets_one_that_its_receipt_can_cite(site: MilterSite) -> None:
    """From a client that is not this machine: to others Postfix gives one itself."""
    sender, to = "nameless@example.co.jp", "nameless@partner.example"
    given = letter(sender, to, "The contract")
    del given["Message-ID"]
    for _ in range(2):
        send(site.office.port, given, sender, to, source="127.0.0.2")
    mails = site.world.wait_for_mail(to, 2)
    ids = {message_id(mail) for mail in mails}
    assert len(ids) == 2
    assert {row["message_id"] for row in site.receipts(to)} == ids
    send(site.world.port, receipt(to, sender, message_id(mails[0])), "", sender)
    site.answered(sender, 3)  # two delivery reports, one receipt
    assert sorted(row["state"] for row in site.receipts(to)) == ["delivered", "displayed"]


def test_automatic_answers_are_suppressed_where_the_policy_says_so(site: MilterSite) -> None:
    sender, to = "board@example.co.jp", "suppress@other.example"
    send(site.office.port, letter(sender, to, "Hello", **asking(sender)), sender, to)
    [mail] = site.world.wait_for_mail(to)
    [value] = fields(mail, "X-Auto-Response-Suppress")
    assert set(re.split(rb",\s*", value)) == {b"RN", b"NRN"}
    assert fields(mail, DNT) == [b"<board@example.co.jp>"]


def test_for_mixed_recipients_the_strictest_edit_holds(site: MilterSite) -> None:
    sender, to = "mixed@example.co.jp", ["mixed@partner.example", "mixed@other.example", "mixed@rival.example"]
    send(site.office.port, letter(sender, to[0], "The contract", **asking(sender)), sender, to)
    assert [fields(mail, DNT) for address in to for mail in site.world.wait_for_mail(address)] == [[], [], []]
    assert [site.receipt(address)["request"] for address in to] == ["stripped"] * 3
    assert "not possible" in site.receipt(to[0])["reason"]
    send(site.office.port, letter(sender, "two", "The contract"), sender, to[:2])
    mails = [site.world.wait_for_mail(address, 2)[1] for address in to[:2]]
    assert [fields(mail, DNT) for mail in mails] == [[], []]


def test_nobody_sees_who_else_got_the_message(site: MilterSite) -> None:
    to = ["open@partner.example", "secret@partner.example"]
    send(site.office.port, letter("bcc@example.co.jp", to[0], "The contract"), "bcc@example.co.jp", to)
    for address, other in zip(to, reversed(to), strict=True):
        [mail] = site.world.wait_for_mail(address)
        assert fields(mail, DNT)
        assert other.encode() not in re.sub(rb"(?m)^To: .*$", b"", mail)


def test_addresses_in_utf8_go_through_and_match_the_policy(site: MilterSite) -> None:
    sender, to = "田中@example.co.jp", "鈴木@partner.example"
    header = f"From: {sender}\r\nTo: {to}\r\nSubject: 契約書をお送りします\r\nMessage-ID: <eai@example.co.jp>\r\n\r\n"
    with smtplib.SMTP("127.0.0.1", site.office.port, "client.example") as client:
        client.ehlo()
        client.command_encoding = "utf-8"
        good(*client.mail(sender, ["SMTPUTF8", "BODY=8BITMIME"]))
        good(*client.rcpt(to))
        good(*client.data((header + "拝啓\r\n").encode()))
    [mail] = site.world.wait_for_mail(to)
    assert fields(mail, DNT) == [f"<{sender}>".encode()]
    assert body(mail) == "拝啓\n".encode()
    site.answered(sender)
    row = site.receipt(to)
    assert (row["from"], row["subject"], row["asked_by"]) == (sender, "契約書をお送りします", "policy")
    assert row["state"] == "delivered"


def test_every_octet_of_a_body_arrives(site: MilterSite) -> None:
    sender, to = "octets@example.co.jp", "octets@partner.example"
    lines = ["..", ".", ". dots", "x" * 900, "", "日本語の本文", "\t trailing \t", "", ""]
    head = f"From: {sender}\r\nTo: {to}\r\nSubject: contract\r\nMessage-ID: <octets@example.co.jp>\r\n"
    head += "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    send(site.office.port, (head + "\r\n".join(lines)).encode(), sender, to, mail=["BODY=8BITMIME"])
    [mail] = site.world.wait_for_mail(to)
    assert fields(mail, DNT)
    assert body(mail) == "\n".join(lines).encode()


# Delivery reports


def test_a_success_report_that_only_the_policy_asked_for_comes_becomes_evidence_and_is_withheld(
    site: MilterSite,
) -> None:
    sender, to = "reported@example.co.jp", "reported@other.example"
    send(site.office.port, letter(sender, to, "The contract"), sender, to)
    [mail] = site.world.wait_for_mail(to)
    site.answered(sender)
    row = site.receipt(to)
    assert (row["state"], row["transport"], row["request"], row["outcome"]) == (
        "delivered",
        "delivered",
        "none",
        "unknown",
    )
    assert fields(mail, DNT) == site.office.mailbox(sender) == []


def test_without_the_rule_no_success_report_is_sent(site: MilterSite) -> None:
    sender, to = "unreported@example.co.jp", "unreported@other.example"
    send(site.office.port, letter(sender, to, "Hello"), sender, to)
    assert notified(site, to) is False


def test_a_success_report_that_the_client_asked_for_is_delivered_with_what_it_gave(site: MilterSite) -> None:
    sender, to = "asking@example.co.jp", "asking@partner.example"
    rcpt = ["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;first+2Bchoice@partner.example"]
    send(site.office.port, letter(sender, to, "The contract"), sender, to, mail=["ENVID=QQ314159"], rcpt=rcpt)
    [report] = site.office.wait_for_mail(sender)
    assert b"Action: delivered" in report
    assert b"Original-Recipient: rfc822;first+choice@partner.example" in report
    assert b"Original-Envelope-Id: QQ314159" in report
    assert site.receipt(to)["state"] == "delivered"


def test_what_else_the_client_gave_survives_that_a_report_is_asked_for(site: MilterSite) -> None:
    sender, to = "auditor@example.co.jp", "orcpt@partner.example"
    rcpt = ["ORCPT=rfc822;the+2Bfirst@partner.example", "NOTIFY=DELAY"]
    send(site.office.port, letter(sender, to, "The contract"), sender, to, mail=["ENVID=QQ271828"], rcpt=rcpt)
    [report] = site.office.wait_for_mail(sender)
    assert b"Action: delivered" in report
    assert b"Original-Recipient: rfc822;the+first@partner.example" in report
    assert b"Original-Envelope-Id: QQ271828" in report
    assert site.receipt(to)["state"] == "delivered"


ENVELOPES = [
    [],
    ["NOTIFY=SUCCESS"],
    ["NOTIFY=FAILURE,DELAY"],
    ["ORCPT=rfc822;a@old.example"],
    *(
        [f"NOTIFY={notify}", "ORCPT=rfc822;a@old.example"]
        for notify in ("SUCCESS", "FAILURE", "DELAY", "FAILURE,DELAY")
    ),
    *([f"NOTIFY=SUCCESS,{notify}", "ORCPT=rfc822;a@old.example"] for notify in ("FAILURE", "DELAY", "FAILURE,DELAY")),
]


@pytest.mark.parametrize("subject", ["The contract", "Hello"])
def test_who_is_reached_through_an_alias_gets_the_message_once_whatever_is_asked(
    site: MilterSite, subject: str
) -> None:
    """Postfix takes out of an alias what it answers itself, and drops who then looks like one whom it had."""
    word = "c" if subject == "The contract" else "h"
    for number, rcpt in enumerate(ENVELOPES):
        sender, to = "auditor@example.co.jp", f"{word}{number}@old.example"
        send(site.office.port, letter(sender, to, subject), sender, to, rcpt=rcpt)
    last = f"{word}-last@partner.example"
    send(site.office.port, letter("auditor@example.co.jp", last, "Hello"), "auditor@example.co.jp", last)
    for number, _ in enumerate(ENVELOPES):
        assert len(site.world.wait_for_mail(f"{word}{number}@partner.example")) == 1


def test_never_stays_never(site: MilterSite) -> None:
    sender, to = "never@example.co.jp", "never@partner.example"
    send(site.office.port, letter(sender, to, "The contract"), sender, to, rcpt=["NOTIFY=NEVER"])
    assert notified(site, to) is False
    assert site.receipt(to)["request"] == "added"


@pytest.mark.parametrize("domain", ["gone.example", "refused.example"])
def test_a_report_of_a_failure_is_recorded_and_reaches_its_reader_whoever_wrote_it(
    site: MilterSite, domain: str
) -> None:
    sender, to = f"{domain}@example.co.jp", f"nobody@{domain}"
    send(site.office.port, letter(sender, to, "Hello", **asking(sender)), sender, to)
    [report] = site.office.wait_for_mail(sender)
    assert b"Action: failed" in report
    assert (site.receipt(to)["state"], site.receipt(to)["outcome"]) == ("failed", "unknown")


def notified(site: MilterSite, to: str) -> bool:
    """Whether the world's Postfix wrote a report about the only message for somebody, once it is done with it."""
    queue_id = site.world.wait_for_log(rf"postfix/virtual\S+ (\w+): to=<{re.escape(to)}>.* status=sent")[1]
    site.world.wait_for_log(rf"qmgr\S+ {queue_id}: removed")
    return bool(site.world.logged(rf"{queue_id}: sender delivery status notification"))


# Receipts


def test_a_receipt_that_only_the_policy_asked_for_becomes_evidence_and_is_withheld(site: MilterSite) -> None:
    sender, to = "receipt.policy@example.co.jp", "reader.policy@partner.example"
    send(site.office.port, letter(sender, to, "契約書"), sender, to, rcpt=["NOTIFY=NEVER"])
    [mail] = site.world.wait_for_mail(to)
    assert site.receipt(to)["state"] == "waiting"
    send(site.world.port, receipt(to, sender, message_id(mail)), "", sender)
    site.answered(sender)
    row = site.receipt(to)
    assert (row["state"], row["handling"], row["outcome"]) == ("displayed", "displayed", "unknown")
    assert site.office.mailbox(sender) == []


def test_a_receipt_that_the_client_asked_for_arrives(site: MilterSite) -> None:
    sender, to = "receipt.client@example.co.jp", "reader.client@other.example"
    send(site.office.port, letter(sender, to, "Hello", **asking(sender)), sender, to)
    [mail] = site.world.wait_for_mail(to)
    send(site.world.port, receipt(to, sender, message_id(mail)), "", sender)
    [answer] = site.office.wait_for_mail(sender)
    assert b"Disposition: manual-action/MDN-sent-manually; displayed" in answer
    assert site.receipt(to)["state"] == "displayed"


def test_a_reply_completes_the_record(site: MilterSite) -> None:
    sender, to = "replied@example.co.jp", "replier@partner.example"
    send(site.office.port, letter(sender, to, "The contract"), sender, to, rcpt=["NOTIFY=NEVER"])
    [mail] = site.world.wait_for_mail(to)
    send(site.world.port, letter(to, sender, "Re: The contract", In_Reply_To=f"<{message_id(mail)}>"), to, sender)
    [reply] = site.office.wait_for_mail(sender)
    assert body(reply) == letter(to, sender, "").as_bytes().split(b"\n\n", 1)[1]
    assert (site.receipt(to)["state"], site.receipt(to)["outcome"]) == ("replied", "unknown")


def test_a_receipt_is_withheld_from_one_recipient_and_reaches_the_other(site: MilterSite) -> None:
    reader, to = "reader@example.co.jp", ["withheld@rival.example", "given@partner.example"]
    send(site.office.port, receipt(reader, to[0], "original.one@rival.example"), "", to)
    assert len(site.world.wait_for_mail(to[1])) == 1
    queue_id = re.escape(site.milter.wait_for_log("to=withheld@rival.example").split(" id=")[1].split()[0])
    site.office.wait_for_log(f"{queue_id}: removed")
    assert site.world.logged(to[0]) == site.office.logged(f"{queue_id}: to=<{to[0]}>") == []


def test_a_receipt_that_is_withheld_from_all_is_taken_and_goes_nowhere(site: MilterSite) -> None:
    reader, to = "quiet@example.co.jp", "nothing@partner.example"
    said = said_to(site, receipt(reader, to, "original.two@partner.example"), reader, to)
    assert said[0] == 250
    site.office.wait_for_log(f"milter-discard.*to=<{to}>")
    assert to not in str(site.office.queue())
    assert site.world.logged(re.escape(to)) == []


def test_a_receipt_is_rejected_with_the_reason_in_words(site: MilterSite) -> None:
    reader, to = "secret@example.co.jp", "curious@partner.example"
    code, text = said_to(site, receipt(reader, to, "original.three@partner.example"), reader, to)
    assert (code, text[:5]) == (550, b"5.7.1")
    assert b"by policy" in text


def said_to(site: MilterSite, message: bytes, sender: str, to: str) -> tuple[int, bytes]:
    """What the office answers to the final dot."""
    with smtplib.SMTP("127.0.0.1", site.office.port, "client.example", DEADLINE) as client:
        client.ehlo()
        good(*client.mail(sender))
        good(*client.rcpt(to))
        return client.data(message)


# The record


def test_the_record_names_postfix_s_queue_id(site: MilterSite) -> None:
    sender, to = "queued@example.co.jp", "queued@partner.example"
    code, text = said_to(site, re.sub(rb"\n", b"\r\n", letter(sender, to, "The contract").as_bytes()), sender, to)
    assert code == 250
    queue_id = text.decode().rpartition(" ")[2]
    row = site.receipt(to)
    shown = site.command("receipts", "show", str(row["id"]), "--json")
    assert queue_id in str(json.loads(shown))
    assert re.search(rf"queue id {queue_id}\b", site.command("receipts", "show", str(row["id"])))
    assert site.milter.wait_for_log(f"id={queue_id} from={sender}")


def test_what_does_not_matter_leaves_no_row(site: MilterSite) -> None:
    sender, to = "plain@partner.example", "plain@example.co.jp"
    send(site.office.port, letter(sender, to, "Hello"), sender, to)
    [mail] = site.office.wait_for_mail(to)
    assert site.receipts(to) == []
    assert body(mail) == letter(sender, to, "Hello").as_bytes().split(b"\n\n", 1)[1]


# Programs that admins test with


def test_swaks_gets_its_mail_through(site: MilterSite) -> None:
    sender, to = "swaks@partner.example", "swaks@example.co.jp"
    swaks = [program("swaks"), "--server", f"127.0.0.1:{site.office.port}", "--from", sender, "--to", to]
    swaks += ["--header", f"{DNT}: {sender}", "--header", "X-Mailer: swaks"]
    subprocess.run(swaks, check=True, capture_output=True, timeout=DEADLINE)
    [mail] = site.office.wait_for_mail(to)
    assert (fields(mail, DNT), fields(mail, "X-Mailer")) == ([], [b"swaks"])


def test_a_burst_goes_through_whole_and_every_report_comes_home(site: MilterSite) -> None:
    sender, to, count = "burst@example.co.jp", "burst@partner.example", 150
    burst(site.office, count, sender, to)
    mails = site.world.wait_for_mail(to, count)
    assert [len(fields(mail, DNT)) for mail in mails] == [1] * count
    site.answered(sender, count)
    assert Counter(row["state"] for row in site.receipts(to)) == {"delivered": count}
    assert site.office.mailbox(sender) == []


def burst(postfix: Postfix, count: int, sender: str, to: str) -> None:
    """Many messages over many connections, and many over each."""
    source = [program("smtp-source"), "-d", "-s", "20", "-m", str(count), "-l", "5000", "-S", "contract", "-f", sender]
    subprocess.run([*source, "-t", to, f"127.0.0.1:{postfix.port}"], check=True, timeout=DEADLINE)


# Other settings


def test_what_is_only_observed_goes_through_unchanged_and_is_on_record() -> None:
    with milter_site(POLICY.replace("version: 1", "version: 1\nmode: observe")) as site:
        sender, to = "observed@example.co.jp", "observed@partner.example"
        send(site.office.port, letter(sender, to, "The contract"), sender, to)
        [mail] = site.world.wait_for_mail(to)
        assert fields(mail, DNT) == []
        assert notified(site, to) is False
        incoming = letter(to, sender, "Read me", **asking(to))
        send(site.world.port, incoming, to, sender)
        [mail] = site.office.wait_for_mail(sender)
        assert fields(mail, DNT) == [f"<{to}>".encode()]
        row = site.receipt(to)
        assert row["request"] == "none"
        assert "contracts to partners ask" in row["reason"]
        secret = receipt("secret@example.co.jp", to, "original@partner.example")
        assert said_to(site, secret, "secret@example.co.jp", to)[0] == 250
        assert len(site.world.wait_for_mail(to, 2)) == 2


def test_a_socket_of_tcp_does_as_well() -> None:
    port = free_port()
    with milter_site(settings={"milter": {"listen": f"inet:{port}@127.0.0.1"}}) as site:
        site.office.stop()
        site.office.parameters["smtpd_milters"] = f" inet:127.0.0.1:{port}"
        site.office.start()
        sender, to = "tcp@example.co.jp", "tcp@partner.example"
        send(site.office.port, letter(sender, to, "The contract"), sender, to)
        [mail] = site.world.wait_for_mail(to)
        assert fields(mail, DNT)
