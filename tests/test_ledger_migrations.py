"""The schema: made once, brought up to date, never taken back, never mistaken."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import sqlite_utils
from tests.ledger_values import journal, record, store, to

from kaifu.proxy import migrations
from kaifu.proxy.ledger import LedgerError, Query
from kaifu.proxy.ledger_file import Store, prepare
from kaifu.proxy.ledger_open import open_ledger


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def add_a_note(db: sqlite_utils.Database) -> None:
    """A migration that a later version might bring."""
    db.execute("ALTER TABLE consent ADD COLUMN remark TEXT")


def fail_half_way(db: sqlite_utils.Database) -> None:
    """A migration that does not work."""
    db.execute("CREATE TABLE half (a)")
    db.execute("CREATE TABLE half (a)")


def test_a_new_ledger_has_every_migration_and_a_second_opening_runs_none(path: Path) -> None:
    names = [step.__name__ for step in migrations.STEPS]
    assert prepare(path, create=True) == names
    assert prepare(path, create=True) == []
    with closing(sqlite3.connect(path)) as db:
        assert migrations.applied(db) == names
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_an_older_ledger_is_brought_up_to_date_when_the_relay_opens_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store(path) as opened, journal(opened) as writing:
        writing.begin(record(to(), key=b"1"))
    monkeypatch.setattr(migrations, "STEPS", (*migrations.STEPS, add_a_note))
    with pytest.raises(LedgerError, match="older version; run kaifu ledger migrate"):
        Store(path, write=False)
    open_ledger(f"sqlite:///{path}")
    with store(path) as opened:
        assert opened.db.execute("SELECT remark FROM consent").fetchall() == []
        assert opened.db.execute("SELECT count(*) FROM messages").fetchone() == (1,)


def test_a_migration_that_fails_leaves_no_trace(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(path, create=True)
    with monkeypatch.context() as newer:
        newer.setattr(migrations, "STEPS", (*migrations.STEPS, add_a_note, fail_half_way))
        with pytest.raises(LedgerError, match="half already exists"):
            open_ledger(f"sqlite:///{path}")
        with closing(sqlite3.connect(path)) as db:
            assert migrations.applied(db)[-1] == "add_a_note"
            assert db.execute("SELECT 1 FROM sqlite_master WHERE name = 'half'").fetchone() is None


def test_a_ledger_of_a_newer_version_is_refused_in_words(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as newer:
        newer.setattr(migrations, "STEPS", (*migrations.STEPS, add_a_note))
        prepare(path, create=True)
    with pytest.raises(LedgerError, match=r"newer kaifu \(it has add_a_note"):
        open_ledger(f"sqlite:///{path}")
    with pytest.raises(LedgerError, match="newer kaifu"):
        Store(path, write=False)


def test_many_processes_may_make_the_same_ledger_at_once(path: Path) -> None:
    code = (
        "import sqlite_utils.migrations\n"
        "from kaifu.proxy.ledger_open import open_ledger\n"
        "print('ready', flush=True)\n"
        "input()\n"
        f"open_ledger('sqlite:///{path}')\n"
    )
    pipe = subprocess.PIPE
    starting = [subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True) for _ in range(6)]
    for each in starting:
        assert each.stdout is not None
        assert each.stdout.readline() == "ready\n"
    for each in starting:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    assert [each.wait(60) for each in starting] == [0] * 6
    for each in starting:
        each.communicate()
    with closing(sqlite3.connect(path)) as db:
        assert len(migrations.applied(db)) == len(migrations.STEPS)


def test_sqlite_utils_is_loaded_for_migrations_alone(path: Path) -> None:
    prepare(path, create=True)
    code = (
        "import asyncio, sys\n"
        "from kaifu.proxy.ledger_open import open_ledger\n"
        "async def work():\n"
        f"    ledger = open_ledger('sqlite:///{path}')\n"
        "    await ledger.check()\n"
        "    await ledger.close()\n"
        "asyncio.run(work())\n"
        "sys.exit('sqlite_utils' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


def test_looking_at_a_ledger_changes_nothing_in_it(path: Path) -> None:
    async def work() -> None:
        ledger = open_ledger(f"sqlite:///{path}")
        await ledger.begin(record(to(), key=b"1"))
        await ledger.close()

    asyncio.run(work())
    octets = path.read_bytes()
    looking = Store(path, write=False)
    with pytest.raises(sqlite3.OperationalError):
        looking.db.execute("DELETE FROM entries")
    looking.close()
    assert path.read_bytes() == octets


def test_a_closed_ledger_is_one_file(path: Path) -> None:
    async def work() -> None:
        ledger = open_ledger(f"sqlite:///{path}")
        await ledger.begin(record(to(), key=b"1"))
        await ledger.look(Query(envids=("x",)))
        await ledger.close()

    asyncio.run(work())
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_every_commit_waits_for_the_disk(path: Path) -> None:
    with store(path) as opened:
        assert opened.db.execute("PRAGMA synchronous").fetchone() == (2,)
