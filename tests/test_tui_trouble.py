"""What the screens do when the ledger is locked, moved, replaced, gone, damaged or full: they say so, stay, and recover by themselves."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.ledger_values import journal, record, store, to
from tests.test_ledger_failures import fill, small_disk  # noqa: F401 - a fixture
from tests.tui_pilot import Seen, in_a_loop, looks, opened, some_ledger, too_wide

from kaifu.proxy.access import Role
from kaifu.proxy.ledger_desk import Filter
from kaifu.tui.screens import KaifuScreen, TroubleLine


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return some_ledger(tmp_path / "ledger.db")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for others who write."""
    monkeypatch.setattr("kaifu.proxy.ledger_file.BUSY_SECONDS", 0.01)


async def pulses(seen: Seen, n: int = 2) -> None:
    for _ in range(n):
        await seen.pulse()


async def in_trouble(seen: Seen, *words: str) -> None:
    """One line says it, on whichever screen is shown, and keys still work."""
    await pulses(seen)
    for key in ("1", "3", "4"):
        await seen.press(key)
        line = seen.app.screen.query_one(TroubleLine)
        assert line.display
        told = " ".join(line.sentence.split())
        assert all(word in told for word in words), told
        assert "".join(told.split()) in "".join(seen.text().split()), "the whole sentence"
        assert seen.lines()[-1].rstrip().endswith("q Quit")
        assert too_wide(seen.lines(), 80) == []


async def in_order(seen: Seen) -> None:
    await pulses(seen)
    assert seen.app.trouble == ""
    assert not seen.app.screen.query_one(TroubleLine).display


async def figures(seen: Seen) -> str:
    await seen.press("1", "r")
    return " ".join(seen.line("asked    ").split())


@in_a_loop
async def test_a_ledger_that_is_moved_and_put_back(ledger: Path) -> None:
    async with opened(ledger) as seen:
        await in_order(seen)
        away = ledger.with_name("away")
        away.mkdir()
        parts = [path for path in ledger.parent.glob("ledger.db*") if path.is_file()]
        for part in parts:
            part.rename(away / part.name)
        await in_trouble(seen, "ledger")
        for part in parts:
            (away / part.name).rename(part)
        await in_order(seen)


@in_a_loop
async def test_a_ledger_that_is_deleted_and_made_anew_is_read_anew(ledger: Path) -> None:
    async with opened(ledger) as seen:
        await pulses(seen)
        assert "6" in await figures(seen)
        for path in ledger.parent.glob("ledger.db*"):
            if path.is_file():
                path.unlink()
        await in_trouble(seen, "there is no ledger at")
        some_ledger(ledger, 1)
        await in_order(seen)
        assert "2" in await figures(seen)


@in_a_loop
async def test_a_ledger_that_is_replaced_by_another_is_read_anew(ledger: Path, tmp_path: Path) -> None:
    other = some_ledger(tmp_path / "other.db", 5)
    async with opened(ledger) as seen:
        await pulses(seen)
        for path in ledger.parent.glob("ledger.db-*"):
            if path.is_file():
                path.unlink()
        other.rename(ledger)
        await pulses(seen, 3)
        await in_order(seen)
        assert "10" in await figures(seen)


@in_a_loop
async def test_a_damaged_ledger_is_told_and_a_restored_one_taken(ledger: Path) -> None:
    with closing(sqlite3.connect(ledger)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = ledger.with_name("backup")
    shutil.copy(ledger, whole)
    async with opened(ledger) as seen:
        for path in ledger.parent.glob("ledger.db-*"):
            if path.is_file():
                path.unlink()
        ledger.unlink()
        ledger.write_bytes(b"no database at all" * 1000)
        ledger.chmod(0o600)
        await in_trouble(seen, "is damaged or no SQLite database", "restore a backup")
        ledger.unlink()
        shutil.copy(whole, ledger)
        await in_order(seen)


@in_a_loop
async def test_a_locked_ledger_shows_no_list_and_goes_on_when_it_is_free(ledger: Path, impatient: None) -> None:
    async with opened(ledger) as seen:
        screen = seen.app.screen
        assert isinstance(screen, KaifuScreen)
        found: list[int] = []

        async def look() -> None:
            rows = await screen.ask(lambda desk: list(desk.rows(Filter())))
            found.append(len(rows))

        with closing(sqlite3.connect(ledger, isolation_level=None)) as db:
            db.execute("BEGIN IMMEDIATE")
            screen.start(look())
            await seen.settle()
            assert found == []
            assert "is locked" in seen.app.trouble
            assert "nothing is shown" in seen.app.trouble
            await pulses(seen)
            assert "is locked" in seen.app.trouble, "a pulse that is answered does not hide it"
            db.execute("ROLLBACK")
        screen.start(look())
        await seen.settle()
        assert found == [6]
        await in_order(seen)


@pytest.mark.parametrize(
    ("language", "locked", "gone"),
    [("en", "is locked", "put back before the relay"), ("ja", "ロック", "元の場所へ戻して")],
)
@in_a_loop
async def test_trouble_is_told_in_the_language_of_the_screen_and_not_as_to_the_relay(
    ledger: Path, impatient: None, language: str, locked: str, gone: str
) -> None:
    async with opened(ledger, language=language) as seen:
        screen = seen.app.screen
        assert isinstance(screen, KaifuScreen)

        async def look() -> None:
            await screen.ask(lambda desk: list(desk.rows(Filter())))

        with closing(sqlite3.connect(ledger, isolation_level=None)) as db:
            db.execute("BEGIN IMMEDIATE")
            screen.start(look())
            await seen.settle()
            assert locked in seen.app.trouble
            assert "next message" not in seen.app.trouble
        ledger.rename(ledger.with_name("away"))
        await pulses(seen)
        screen.start(look())
        await seen.settle()
        assert gone in " ".join(seen.app._troubles.values())
        assert "makes one" not in " ".join(seen.app._troubles.values())


@in_a_loop
async def test_a_full_disk_shows_nothing_that_would_have_to_be_recorded(small_disk: Path) -> None:  # noqa: F811
    ledger = some_ledger(small_disk / "ledger.db")
    async with opened(ledger, who=looks(Role.VIEWER)) as viewer:
        await pulses(viewer)
        filler = fill(small_disk)
        await in_order(viewer)
        filler.unlink()
    async with opened(ledger) as seen:
        filler = fill(small_disk)
        screen = seen.app.screen
        assert isinstance(screen, KaifuScreen)

        async def look() -> None:
            await screen.ask(lambda desk: desk.details("1"))

        screen.start(look())
        await seen.settle()
        assert "no space left" in seen.app.trouble
        filler.unlink()
        screen.start(look())
        await seen.settle()
        assert seen.app.trouble == ""


@in_a_loop
async def test_what_the_role_may_not_is_refused_below_the_screen_and_told(ledger: Path) -> None:
    async with opened(ledger, role=Role.VIEWER) as seen:
        screen = seen.app.screen
        assert isinstance(screen, KaifuScreen)

        async def look() -> None:
            await screen.ask(lambda desk: desk.details("1"))

        screen.start(look())
        await seen.settle()
        assert "needs the role auditor" in " ".join(seen.text().split())
        assert seen.app.is_running


@in_a_loop
async def test_changes_while_another_screen_is_shown_are_told_when_it_comes_back(ledger: Path) -> None:
    async with opened(ledger) as seen:
        told: list[str] = []
        await pulses(seen)
        screen = seen.app.screen
        assert isinstance(screen, KaifuScreen)
        before, screen.ledger_changed = screen.ledger_changed, lambda: told.append("changed")  # type: ignore[method-assign]
        await seen.press("3")
        await pulses(seen)
        await seen.press("1")
        assert told == [], "nothing had changed"
        await seen.press("3")
        with store(ledger) as other, journal(other) as adding:
            adding.begin(record(to(), key=b"new", message_id="new@example.co.jp"))
        await pulses(seen)
        assert told == []
        await seen.press("1")
        assert told == ["changed"]
        del before


# Left open for days.


def _memory() -> int:
    """Of this process, in octets."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def few_pulses(long_run: bool) -> int:
    return 20000 if long_run else 400


@in_a_loop
async def test_many_pulses_leave_nothing_behind(ledger: Path, few_pulses: int) -> None:
    async with opened(ledger) as seen:

        async def some(n: int) -> None:
            for _ in range(n):
                seen.app.pulse()
                await seen.app.workers.wait_for_complete()
                seen.messages.clear()

        await some(few_pulses // 4)
        await seen.settle()
        workers, before = len(seen.app.workers), _memory()
        await some(few_pulses)
        await seen.settle()
        assert len(seen.app.workers) == workers
        assert not seen.app.asker._lanes
        assert _memory() - before < few_pulses * 100 + 2_000_000


@in_a_loop
async def test_an_open_screen_holds_no_read_transaction(ledger: Path) -> None:
    async with opened(ledger) as seen:
        for key in ("1", "2", "3", "4"):
            await seen.press(key)
            await pulses(seen)
            with store(ledger) as other, journal(other) as adding:
                adding.begin(record(to(), key=key.encode(), message_id=f"{key}@later.example"))
            with closing(sqlite3.connect(ledger)) as db:
                busy, *_ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            assert busy == 0
            assert (ledger.with_name("ledger.db-wal")).stat().st_size == 0


@in_a_loop
async def test_who_leaves_a_screen_open_is_on_record_each_day(ledger: Path) -> None:
    now = [0]
    async with opened(ledger, clock=lambda: now[0]) as seen:
        screen = seen.app.screen
        assert isinstance(screen, KaifuScreen)

        async def look() -> None:
            await screen.ask(lambda desk: list(desk.rows(Filter())))

        looked = []
        for day in (0, 0, 1, 1, 2):
            now[0] = day * 86_400_000_000 + 3_600_000_000
            screen.start(look())
            await seen.settle()
            with closing(sqlite3.connect(ledger)) as db:
                looked.append(db.execute("SELECT count(*) FROM acts WHERE what = 'list'").fetchone()[0])
        assert [n - looked[0] for n in looked] == [0, 0, 1, 1, 2]
