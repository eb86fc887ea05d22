"""Which policy was in force from when on is on record: each version once, whoever loads it, and a message names its own."""

from __future__ import annotations

import asyncio
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.ledger_values import journal, record, store, to
from tests.milter_process import Milter
from tests.session_next_hop import poll
from tests.session_relay import KEEP, Relay

from kaifu.proxy.cli import cli
from kaifu.proxy.ledger import LedgerError
from kaifu.proxy.ledger_open import open_ledger

OBSERVE = "version: 1\nmode: observe\n"


def digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:16]


def versions(ledger: Path) -> list[dict[str, Any]]:
    """The versions on record, oldest first, as ``kaifu audit`` tells them."""
    words = ["audit", "export", "--json", "--what", "policy", "--ledger", f"sqlite:///{ledger}"]
    result = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def details(ledger: Path) -> list[dict[str, str]]:
    return [each["details"] for each in versions(ledger)]


FIRST = {"digest": digest(KEEP), "mode": "enforce", "text": KEEP}
SECOND = {"digest": digest(OBSERVE), "mode": "observe", "text": OBSERVE}


def test_two_workers_record_each_version_once_with_its_text(tmp_path: Path) -> None:
    with Relay(tmp_path, 9, KEEP, {"relay": {"workers": 2}}) as relay:
        poll(lambda: len(versions(relay.ledger)) == 1, "the first version")
        new = tmp_path / "new.yaml"
        new.write_text(OBSERVE)
        new.replace(relay.policy)
        first = relay.wait_for_log("policy-loaded")
        relay.wait_for_log("policy-loaded", relay.log.index(first) + 1)
        relay.stop()
        assert details(relay.ledger) == [FIRST, SECOND]
        relay.start()
        relay.stop()
        assert details(relay.ledger) == [FIRST, SECOND]
        assert {(each["actor"], each["message"]) for each in versions(relay.ledger)} == {(None, None)}


def test_the_milter_records_the_same(tmp_path: Path) -> None:
    with Milter(tmp_path, KEEP) as milter:
        milter.policy.write_text(OBSERVE)
        milter.wait_for_log("policy-loaded")
        milter.stop()
        assert details(milter.ledger) == [FIRST, SECOND]


def test_a_version_that_cannot_be_written_is_kept_until_it_can(tmp_path: Path) -> None:
    ledger, away = tmp_path / "ledger.db", tmp_path / "away.db"

    async def work() -> None:
        opened = open_ledger(f"sqlite:///{ledger}")
        await opened.check()
        ledger.rename(away)
        opened.policy_in_force("d1", "enforce", "text")
        with pytest.raises(LedgerError):
            await opened.check()
        away.rename(ledger)
        await opened.check()
        await opened.close()

    asyncio.run(work())
    assert details(ledger) == [{"digest": "d1", "mode": "enforce", "text": "text"}]

    async def later() -> None:
        opened = open_ledger(f"sqlite:///{ledger}")
        for digest_now in ("d1", "d2", "d2", "d1"):
            opened.policy_in_force(digest_now, "enforce", "text")
        await opened.close()

    asyncio.run(later())
    assert [each["digest"] for each in details(ledger)] == ["d1", "d2", "d1"]


def test_a_message_names_the_version_that_decided_about_it(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.db"
    with store(ledger) as opened:
        for number, policy in enumerate(("d1", "d2", "d1", "unknown")):
            with journal(opened) as adding:
                if policy != "unknown":
                    adding.policy(policy, "observe", "text", number)
                adding.begin(record(to(), key=b"%d" % number, message_id=f"{number}@a", policy=policy))
    told = []
    for name in ("0@a", "1@a", "2@a", "3@a"):
        words = ["receipts", "show", name, "--ledger", f"sqlite:///{ledger}"]
        shown = CliRunner().invoke(cli, [*words, "--json"], catch_exceptions=False)
        (attempt,) = json.loads(shown.stdout)["attempts"]
        told.append((attempt["policy"], attempt["policy_entry"], attempt["policy_since"], attempt["policy_mode"]))
        text = CliRunner().invoke(cli, words, catch_exceptions=False).stdout
        assert (f"(entry {attempt['policy_entry']}, 1970-01-01 00:00)" in text) is (attempt["policy"] != "unknown")
    assert told == [
        ("d1", 1, "1970-01-01T00:00:00.000000Z", "observe"),
        ("d2", 3, "1970-01-01T00:00:00.000001Z", "observe"),
        ("d1", 5, "1970-01-01T00:00:00.000002Z", "observe"),
        ("unknown", None, None, None),
    ]
