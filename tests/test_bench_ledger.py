"""The ledger that benches are made on is a real one: whole to the last entry, and what is derived is what its entries say."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.bench.ledger_fill import ANSWERS_PER_MESSAGE, fill, leave_settings
from tests.bench.organisation import DAY
from tests.ledger_values import store, tables

from kaifu.policies.load import load_file
from kaifu.proxy.ledger_rebuild import rebuild
from kaifu.proxy.ledger_states import State
from kaifu.proxy.ledger_verify import verify
from kaifu.proxy.settings import load_settings

UNTIL = 1_795_345_200_000_000  # 2026-11-22, 11:00 UTC


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two thousand messages, with settings."""
    path = tmp_path_factory.mktemp("filled") / "ledger.db"
    leave_settings(path, fill(path, 2000, UNTIL, 1))
    return path


def test_a_filled_ledger_verifies_whole(ledger: Path) -> None:
    with store(ledger) as opened:
        report = verify(opened.db, (), UNTIL)
    assert report.intact, report.findings
    assert report.entries > 4000
    assert report.batches > 400, "about eight entries are sealed together, as under load"


def test_a_rebuild_of_a_filled_ledger_changes_nothing(ledger: Path) -> None:
    before = tables(ledger)
    with store(ledger) as opened:
        rebuild(opened.db)
    assert tables(ledger) == before


def test_a_filled_ledger_is_about_as_large_as_was_asked_for_and_two_years_old(ledger: Path) -> None:
    with closing(sqlite3.connect(ledger)) as db:
        number, first, last = db.execute("SELECT count(*), min(at), max(at) FROM messages").fetchone()
    assert 1900 <= number <= 2100, ANSWERS_PER_MESSAGE
    assert first < UNTIL - 725 * DAY
    assert UNTIL - 3 * DAY < last <= UNTIL


def test_a_filled_ledger_has_every_state_and_most_of_what_can_be_told(ledger: Path) -> None:
    with closing(sqlite3.connect(ledger)) as db:
        states = {state for (state,) in db.execute("SELECT DISTINCT state FROM recipients")}
        kinds = {kind for (kind,) in db.execute("SELECT DISTINCT kind FROM evidence")}
        verdicts = {verdict for (verdict,) in db.execute("SELECT DISTINCT verdict FROM evidence")}
        assert states == {state.value for state in State}
        assert {"mdn", "dsn", "reply", "auto-reply"} <= kinds
        assert {"matched", "other-address"} <= verdicts
        assert db.execute("SELECT count(*) FROM policies").fetchone()[0] == 4
        assert db.execute("SELECT count(*) FROM acts WHERE what = 'anchor'").fetchone()[0] > 100


def test_a_filled_ledger_comes_with_settings_and_the_policy_that_is_in_force(ledger: Path) -> None:
    settings = load_settings(ledger.with_name("kaifu.yaml"))
    policy = load_file(settings.policy)
    with closing(sqlite3.connect(ledger)) as db:
        (digest,) = db.execute("SELECT digest FROM policies ORDER BY entry DESC LIMIT 1").fetchone()
        rules = {rule for (rule,) in db.execute("SELECT DISTINCT rule FROM recipients WHERE rule IS NOT NULL")}
    assert policy.digest == digest
    assert rules <= {rule.name for rule in policy.rules}


def test_the_same_seed_gives_the_same_content(ledger: Path, tmp_path: Path) -> None:
    other = tmp_path / "ledger.db"
    fill(other, 2000, UNTIL, 1)
    assert shown(other) == shown(ledger)
    different = tmp_path / "different.db"
    fill(different, 2000, UNTIL, 2)
    assert shown(different) != shown(ledger)


def shown(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """What is derived and not random."""
    return tables(path, ("messages", "recipients", "evidence", "acts", "policies", "counts"))
