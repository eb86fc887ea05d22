"""Postfix while its milter is down, killed, restarted or given another policy: mail waits or goes through whole, and never unseen."""

from __future__ import annotations

import re
import signal
import smtplib
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Iterator

import pytest
from tests.postfix_harness import missing, program
from tests.postfix_milter_site import POLICY, MilterSite, fields, milter_site, sendmail
from tests.postfix_site import letter, send
from tests.session_next_hop import DEADLINE, poll

WHY_NOT = missing("postfix", "postqueue", "sendmail")
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))

DNT = "Disposition-Notification-To"


@pytest.fixture(scope="module")
def site() -> Iterator[MilterSite]:
    """The world asks for a receipt in whatever has the subject ``load``: smtp-source cannot.

    It connects anew for each message, because to a session in which a milter has failed Postfix says 451 until it ends.
    """
    with milter_site() as everything:
        everything.world.stop()
        request = f"{DNT}: load@partner.example"
        everything.world.parameters["header_checks"] = f" regexp:{{ {{ /^Subject: load/ PREPEND {request} }} }}"
        everything.world.parameters["smtp_connection_cache_on_demand"] = " no"
        everything.world.start()
        yield everything


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_mail_waits_at_its_sender_while_kaifu_is_gone_and_arrives_once(site: MilterSite, end: signal.Signals) -> None:
    sender, to = f"{end.name}@partner.example", f"{end.name}@example.co.jp".lower()
    site.milter.signal(end)
    site.milter.wait()
    with pytest.raises(smtplib.SMTPResponseException) as put_off:
        send(site.office.port, letter(sender, to, "Hello"), sender, to)
    assert (put_off.value.smtp_code, put_off.value.smtp_error[:5]) == (451, b"4.7.1")
    send(site.world.port, letter(sender, to, "Hello", Disposition_Notification_To=sender), sender, to)
    site.world.wait_for_log(rf"to=<{to}>.*status=deferred.* 451 4\.7\.1")
    site.milter.start()
    [mail] = arrives_once(site, to)
    assert fields(mail, DNT) == []
    assert len(site.receipts(to)) == 1


def test_what_a_program_on_the_machine_sends_waits_in_postfix_and_arrives_once(site: MilterSite) -> None:
    sender, to = "patient@example.co.jp", "patient@partner.example"
    site.milter.stop()
    after = site.office.mark()
    sendmail(site.office, letter(sender, to, "The contract").as_bytes(), "-f", sender, to)
    site.office.wait_for_log(r"milter-reject|milter.*Connection refused|milter.*No such file", after)
    site.milter.start()
    # What could not be queued stays where sendmail put it; pickup looks there once a minute, or when it is told to.
    subprocess.run([program("postkick"), "-c", site.office.directory / "etc", "public", "pickup", "W"], check=True)
    [mail] = site.world.wait_for_mail(to)
    assert fields(mail, DNT) == [b"<patient@example.co.jp>"]
    poll(lambda: to not in str(site.office.queue()), "the office's queue to be empty")
    assert len(site.world.mailbox(to)) == 1


def test_mail_waits_while_the_ledger_cannot_be_written_and_arrives_once(site: MilterSite) -> None:
    sender, to = "locked@partner.example", "locked@example.co.jp"
    locked = sqlite3.connect(site.folder / "ledger.db", isolation_level=None)
    locked.execute("BEGIN IMMEDIATE")
    send(site.world.port, letter(sender, to, "Hello", Disposition_Notification_To=sender), sender, to)
    site.world.wait_for_log(rf"to=<{to}>.*status=deferred.* 451 4\.3\.0")
    locked.execute("ROLLBACK")
    locked.close()
    [mail] = arrives_once(site, to)
    assert fields(mail, DNT) == []
    assert len(site.receipts(to)) == 1


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL], ids=["restarted", "killed"])
def test_under_load_every_message_arrives_once_and_filtered_whatever_happens_to_kaifu(
    site: MilterSite, end: signal.Signals, long_run: bool
) -> None:
    sender, to, count = f"load.{end.name}@partner.example".lower(), f"load.{end.name}@example.co.jp".lower(), 120
    for again in range(20 if long_run else 2):
        first = again * count
        source = [program("smtp-source"), "-s", "10", "-m", str(count), "-l", "3000", "-f", sender, "-t", to]
        source += ["-S", "load", f"127.0.0.1:{site.world.port}"]
        before = len(site.milter.log)
        sending = subprocess.Popen(source)
        judged(site, to, count // 6, before)
        site.milter.signal(end)
        site.milter.wait()
        site.milter.start()
        assert sending.wait(DEADLINE) == 0  # the world takes everything, whatever becomes of it
        empty(site, to)
        mails = site.office.mailbox(to)
        assert len(mails) == first + count
        assert Counter(len(fields(mail, DNT)) for mail in mails) == {0: first + count}
        assert len({message_id(mail) for mail in mails}) == first + count
    # A message that was recorded and then put off has been counted once.
    assert len(site.receipts(to)) == len(site.office.mailbox(to))


def message_id(mail: bytes) -> bytes:
    [found] = fields(mail, "Message-ID")
    return found


def judged(site: MilterSite, to: str, count: int, after: int) -> None:
    """Wait until kaifu has judged that many messages for somebody."""
    poll(
        lambda: sum(f"to={to} " in line for line in site.milter.log[after:]) >= count, "kaifu to be in the middle of it"
    )


def empty(site: MilterSite, to: str) -> None:
    """Have the world try again until it has handed over everything for somebody, and the office has put it away."""

    def nothing_left() -> bool:
        waiting = [entry for entry in site.world.queue() if to in str(entry)]
        if any(entry["queue_name"] == "deferred" for entry in waiting):
            site.world.flush()
        return not waiting

    poll(nothing_left, "the world to hand over everything", every=0.2)
    poll(lambda: to not in str(site.office.queue()), "the office to put everything away")


def arrives_once(site: MilterSite, to: str) -> list[bytes]:
    """The mail for somebody in the office, when nobody holds any more of it."""
    empty(site, to)
    mails = site.office.mailbox(to)
    assert len(mails) == 1
    return mails


def test_a_new_policy_holds_from_the_next_message_on_while_mail_flows(site: MilterSite) -> None:
    sender, to = "flow@partner.example", "flow@example.co.jp"
    asking = {"Disposition_Notification_To": sender}
    source = [
        program("smtp-source"),
        "-s",
        "5",
        "-m",
        "200",
        "-f",
        "noise@partner.example",
        "-t",
        "noise@example.co.jp",
    ]
    with subprocess.Popen([*source, f"127.0.0.1:{site.office.port}"]) as noise:
        send(site.office.port, letter(sender, to, "one", **asking), sender, to)
        change(site, POLICY.replace("inbound: {request: strip}", "inbound: {request: keep}"), "policy-loaded")
        send(site.office.port, letter(sender, to, "two", **asking), sender, to)
        change(site, "version: 1\nrules: nothing\n", "policy-rejected")
        send(site.office.port, letter(sender, to, "three", **asking), sender, to)
        change(site, POLICY, "policy-loaded")
        send(site.office.port, letter(sender, to, "four", **asking), sender, to)
        assert noise.wait(DEADLINE) == 0
    mails = site.office.wait_for_mail(to, 4)
    kept = {fields(mail, "Subject")[0].decode(): len(fields(mail, DNT)) for mail in mails}
    assert kept == {"one": 0, "two": 1, "three": 1, "four": 0}
    assert len(site.office.wait_for_mail("noise@example.co.jp", 200)) == 200


def change(site: MilterSite, policy: str, event: str) -> None:
    """Put another policy in the place of the one there, and wait until kaifu has looked at it."""
    after = len(site.milter.log)
    new = site.milter.policy.with_suffix(".new")
    new.write_text(policy, encoding="utf-8")
    new.replace(site.milter.policy)
    site.milter.signal(signal.SIGHUP)
    site.milter.wait_for_log(f"/^{re.escape(event)}/", after)
