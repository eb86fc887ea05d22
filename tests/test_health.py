"""What running relays and milters leave of their health, when things go wrong and right again, and when they end."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

import pytest
from tests.milter_client import Mail
from tests.milter_process import Milter
from tests.session_next_hop import DEADLINE, NextHop, poll
from tests.session_relay import ASK_ALL, KAIFU, Client, Relay, client

from kaifu.policies.load import load
from kaifu.proxy.health import STALE_MICROSECONDS, Health, read_health, read_verified
from kaifu.proxy.healthfile import directory_of

PLAIN = b"From: <alice@example.co.jp>\r\nMessage-ID: <%d@example.co.jp>\r\n\r\nx\r\n"


@pytest.fixture
def hop() -> Iterator[NextHop]:
    one = NextHop()
    yield one
    one.stop()


def now() -> int:
    return time.time_ns() // 1000


def told(relay: Relay, what: Callable[[Health], object], worker: int = 1) -> Health:
    """The health of a process, as soon as this holds of it."""
    found: list[Health] = []

    def holds() -> bool:
        found[:] = [each for each in read_health(relay.ledger, now()) if each.worker == worker and what(each)]
        return bool(found)

    poll(holds, "a health of which that holds")
    return found[0]


def reachable(health: Health) -> bool | None:
    assert health.next_hop is not None
    return health.next_hop.reachable


def mail(number: int) -> Mail:
    headers = [(b"From", b"<alice@example.co.jp>"), (b"Message-ID", b"<%d@example.co.jp>" % number)]
    return Mail([b"<alice@example.co.jp>"], [[b"<bob@partner.example>"]], headers, b"Hello.\r\n", str(number))


def verified(relay: Relay, *words: str, status: int = 0) -> None:
    """``kaifu ledger verify`` ends with that status."""
    command: list[str | Path] = [KAIFU, "ledger", "verify", "--config", relay.config, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == status, done.stdout + done.stderr


def test_a_relay_says_who_and_how_it_is_from_its_start(tmp_path: Path, hop: NextHop) -> None:
    before = now()
    with Relay(tmp_path, hop.port, ASK_ALL) as relay:
        health = told(relay, lambda _: True)
        assert (health.host, health.worker, health.pid) == ("relay", 1, relay.pid)
        assert (health.version, health.settings) == (version("kaifu"), str(relay.config))
        assert health.listen == (f"127.0.0.1:{relay.port}",)
        assert before <= health.started_at <= health.at <= now()
        assert not health.stale
        assert not health.stopped
        policy = health.policy
        assert (policy.path, policy.digest) == (str(relay.policy), load(ASK_ALL.encode(), "p").digest)
        assert (policy.mode, policy.rejected) == ("enforce", None)
        assert before <= policy.loaded_at <= now()
        assert health.ledger is None
        assert health.next_hop is not None
        assert (health.next_hop.address, health.next_hop.reachable) == (f"127.0.0.1:{hop.port}", None)
        assert {health.counters[key] for key in ("messages", "taken", "deferred", "refused")} == {0}  # type: ignore[index]
        again = told(relay, lambda each: each.at > health.at)
        assert again.started_at == health.started_at


def test_a_next_hop_that_is_down_and_up_again_is_told(tmp_path: Path, hop: NextHop) -> None:
    with Relay(tmp_path, hop.port) as relay:
        with client(relay) as alice:
            assert alice.deliver(PLAIN % 1).startswith("250 ")
        up = told(relay, lambda each: each.counters and each.counters["taken"] == 1)
        assert reachable(up)
        hop.stop()
        down = now()
        refused = Client(relay.port)
        assert refused.reply()[0].startswith("220 ")
        assert refused.ask("EHLO client.example").startswith("421 ")
        refused.close()
        health = told(relay, lambda each: reachable(each) is False)
        assert health.next_hop is not None
        assert up.next_hop is not None
        assert health.next_hop.since is not None
        assert health.next_hop.last_success_at is not None
        assert health.next_hop.last_success_at <= down <= health.next_hop.since
        assert str(hop.port) in str(health.next_hop.last_error)
        hop.start()
        with client(relay) as alice:
            assert alice.deliver(PLAIN % 2).startswith("250 ")
        health = told(relay, lambda each: reachable(each) is True)
        assert health.next_hop is not None
        assert health.next_hop.since is not None
        assert health.next_hop.since >= down


def test_a_policy_that_is_broken_and_mended_is_told(tmp_path: Path, hop: NextHop) -> None:
    with Relay(tmp_path, hop.port) as relay:
        first = told(relay, lambda _: True).policy
        relay.policy.write_text("version: 1\nruls: []\nmode: quiet\n")
        broken = told(relay, lambda each: each.policy.rejected).policy
        assert (broken.digest, broken.loaded_at) == (first.digest, first.loaded_at)
        assert broken.rejected is not None
        assert broken.rejected.at > first.loaded_at
        assert [problem.startswith(f"{relay.policy}:") for problem in broken.rejected.problems] == [True, True]
        assert "did you mean" in broken.rejected.problems[0]
        relay.policy.write_text(ASK_ALL)
        mended = told(relay, lambda each: not each.policy.rejected).policy
        assert mended.digest != first.digest
        assert mended.loaded_at >= broken.rejected.at


def test_a_ledger_that_is_locked_is_told_until_it_is_used_again(tmp_path: Path, hop: NextHop) -> None:
    with Relay(tmp_path, hop.port, ASK_ALL) as relay, client(relay) as alice:
        with closing(sqlite3.connect(relay.ledger, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert alice.deliver(PLAIN % 1).startswith("451 ")
            failing = told(relay, lambda each: each.ledger).ledger
            assert failing is not None
            assert "is locked by another process" in failing.error
            assert failing.since == failing.last_at
            other.execute("ROLLBACK")
        assert alice.deliver(PLAIN % 1).startswith("250 ")
        counted = told(relay, lambda each: not each.ledger and each.counters and each.counters["taken"]).counters
        assert counted is not None
        assert [counted[key] for key in ("messages", "deferred", "taken", "sessions")] == [2, 1, 1, 1]


def test_a_relay_that_ends_in_order_says_so_and_one_that_is_killed_falls_silent(tmp_path: Path, hop: NextHop) -> None:
    with Relay(tmp_path, hop.port) as relay:
        told(relay, lambda _: True)
        relay.stop()
    long_after = now() + STALE_MICROSECONDS + 1
    (stopped,) = read_health(relay.ledger, long_after)
    assert (stopped.stopped, stopped.stale) == (True, False)
    with relay:
        told(relay, lambda each: not each.stopped)
        relay.kill()
        long_after = now() + STALE_MICROSECONDS + 1
        (killed,) = read_health(relay.ledger, long_after)
        assert (killed.stopped, killed.stale) == (False, True)


def test_each_worker_speaks_for_itself_and_who_takes_its_place_takes_its_number(tmp_path: Path, hop: NextHop) -> None:
    with Relay(tmp_path, hop.port, settings={"relay": {"workers": 2}}) as relay:
        first, second = told(relay, lambda _: True), told(relay, lambda _: True, worker=2)
        assert len({first.pid, second.pid, relay.pid}) == 3
        os.kill(second.pid, signal.SIGKILL)
        other = told(relay, lambda each: each.pid != second.pid, worker=2)
        assert other.started_at > second.started_at
        assert told(relay, lambda _: True).pid == first.pid
        relay.stop()
    assert [health.stopped for health in read_health(relay.ledger, now())] == [True, True]
    with Relay(tmp_path, hop.port) as relay:
        told(relay, lambda each: not each.stopped)
        assert [health.worker for health in read_health(relay.ledger, now())] == [1]


def test_a_relay_that_cannot_leave_its_health_says_so_once_and_mail_passes(tmp_path: Path, hop: NextHop) -> None:
    directory_of(tmp_path / "ledger.db").write_text("no directory")
    with Relay(tmp_path, hop.port, ASK_ALL) as relay, client(relay) as alice:
        assert "ledger.db-health" in relay.wait_for_log("health-not-written")
        assert alice.deliver(PLAIN % 1).startswith("250 ")
        directory_of(relay.ledger).unlink()
        told(relay, lambda each: each.counters and each.counters["taken"] == 1)
        assert sum("health-not-written" in line for line in relay.log) == 1


def test_a_milter_says_how_it_is_until_it_ends(tmp_path: Path) -> None:
    with Milter(tmp_path, ASK_ALL) as milter:
        health = told(milter, lambda _: True)
        assert (health.host, health.pid, health.next_hop) == ("milter", milter.pid, None)
        assert health.listen == (f"unix:{milter.socket}",)
        with milter.connect() as mta:
            mta.deliver(mail(1))
        with closing(sqlite3.connect(milter.ledger, isolation_level=None)) as other, milter.connect() as mta:
            other.execute("BEGIN IMMEDIATE")
            mta.deliver(mail(2))
            assert "is locked" in str(told(milter, lambda each: each.ledger).ledger)
            other.execute("ROLLBACK")
            mta.deliver(mail(2))
        counted = told(milter, lambda each: not each.ledger and each.counters and each.counters["accept"] == 2).counters
        assert counted is not None
        assert [counted[key] for key in ("messages", "accept", "tempfail")] == [3, 2, 1]
        milter.policy.write_text("version: 2\n")
        told(milter, lambda each: each.policy.rejected)
        milter.stop()
    assert [health.stopped for health in read_health(milter.ledger, now())] == [True]


def test_the_last_verification_is_told_when_it_was_of_the_ledger_of_the_settings(tmp_path: Path, hop: NextHop) -> None:
    with Relay(tmp_path, hop.port, ASK_ALL) as relay, client(relay) as alice:
        assert alice.deliver(PLAIN % 1).startswith("250 ")
        alice.close()
        relay.stop()
    verified(relay, "--ledger", f"sqlite:///{relay.ledger}")
    assert read_verified(relay.ledger) is None
    before = now()
    verified(relay)
    found = read_verified(relay.ledger)
    assert found is not None
    assert before <= found.at <= now()
    assert (found.whole, found.problems, found.findings, found.anchors) == (True, 0, (), ())
    with closing(sqlite3.connect(relay.ledger, isolation_level=None)) as db:
        assert (found.entries, found.head) == db.execute(
            "SELECT last, lower(hex(head)) FROM batches ORDER BY id DESC"
        ).fetchone()
        db.execute("UPDATE entries SET body = replace(body, 'message', 'passage') WHERE id = 2")
    verified(relay, status=1)
    found = read_verified(relay.ledger)
    assert found is not None
    assert not found.whole
    assert "entry 2" in found.findings[0]
