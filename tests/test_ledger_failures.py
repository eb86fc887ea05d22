"""When the ledger's file cannot be used: everybody who waits hears why, nothing is half written, and it mends by itself."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.ledger_values import YAMADA, journal, record, store, tables, to

from kaifu.policies.facts import Direction
from kaifu.proxy import ledger_file, ledger_writer
from kaifu.proxy.ledger import Ledger, LedgerError, Outcome, Query
from kaifu.proxy.ledger_open import open_ledger

ACCEPTED = Outcome.ACCEPTED


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long for a lock, and what was kept is tried again soon."""
    monkeypatch.setattr(ledger_file, "BUSY_SECONDS", 0.1)
    monkeypatch.setattr(ledger_writer, "RETRY_SECONDS", 0.05)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    where = tmp_path / "disk"
    where.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", where], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", "-l", where], check=True)


def use(path: Path, work: Callable[[Ledger], Awaitable[Any]]) -> Any:
    """Do something with a ledger that is open, then close it."""

    async def session() -> Any:
        ledger = open_ledger(f"sqlite:///{path}")
        try:
            return await work(ledger)
        finally:
            await ledger.close()

    return asyncio.run(session())


async def fails(ledger: Ledger, *words: str) -> None:
    """Writing fails, once for each of these words, and says so in them."""
    jobs = [lambda: ledger.begin(record(to(), key=b"lost")), ledger.check, ledger.check]
    for word, job in zip(words, jobs, strict=False):
        with pytest.raises(LedgerError) as raised:
            await job()
        assert word in str(raised.value)


def messages(path: Path) -> int:
    return len(tables(path)["messages"])


def fill(disk: Path) -> Path:
    """Take all the space that is left."""
    filler = disk / "filler"
    handle = os.open(filler, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        while os.write(handle, bytes(4096)):
            pass
    except OSError:
        return filler
    finally:
        os.close(handle)
    return filler


def test_a_full_disk_is_named_and_writing_goes_on_when_there_is_room(small_disk: Path) -> None:
    path = small_disk / "ledger.db"

    async def work(ledger: Ledger) -> None:
        first = await ledger.begin(record(to(), key=b"1"))
        await ledger.look(Query(message_ids=("1@example.co.jp",)))
        for word in ("no space left", str(path), "make room"):
            # A ledger that is closed gives its log's space back, so the disk must be filled anew.
            filler = fill(small_disk)
            await fails(ledger, word)
        fill(small_disk)
        with pytest.raises(LedgerError, match="no space left"):
            await ledger.finish(first, [(YAMADA, ACCEPTED)], "250 ok")
        known = await ledger.look(Query(message_ids=("1@example.co.jp",)))
        assert len(known.originals["1@example.co.jp"]) == 1
        filler.unlink()
        await ledger.begin(record(to(), key=b"2"))

    use(path, work)
    assert messages(path) == 2
    # The outcome that could not be written was kept.
    assert [row[11] for row in tables(path)["recipients"]] == ["accepted", "unknown"]


def test_a_ledger_cannot_be_made_on_a_full_disk(small_disk: Path) -> None:
    fill(small_disk)
    with pytest.raises(LedgerError, match="no space left"):
        open_ledger(f"sqlite:///{small_disk}/ledger.db")


def test_outcomes_that_could_not_be_written_are_written_without_further_mail(path: Path) -> None:
    async def work(ledger: Ledger) -> None:
        begun = await ledger.begin(record(to(), key=b"1"))
        with sqlite3.connect(path, isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")
            ledger.count(Direction.INBOUND, "mail")
            with pytest.raises(LedgerError, match="locked by another process"):
                await ledger.finish(begun, [(YAMADA, ACCEPTED)], "250 ok")
            other.execute("ROLLBACK")
        other.close()
        while tables(path)["recipients"][0][11] != "accepted":
            await asyncio.sleep(0)

    use(path, work)
    assert tables(path, ("counts",))["counts"][0][1:] == ("inbound", "mail", 1)


def test_a_locked_ledger_fails_those_who_wait_and_works_when_it_is_free(path: Path) -> None:
    async def work(ledger: Ledger) -> None:
        await ledger.check()
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        await fails(ledger, "locked by another process", str(path))
        other.execute("ROLLBACK")
        other.close()
        await ledger.begin(record(to(), key=b"1"))

    use(path, work)
    assert messages(path) == 1


@pytest.mark.parametrize("together", [True, False], ids=["with its log", "alone"])
def test_a_ledger_that_was_moved_away_is_not_written_any_more(path: Path, together: bool) -> None:
    away = path.parent / "away"
    away.mkdir()
    ends = ("", "-wal", "-shm") if together else ("",)

    async def work(ledger: Ledger) -> None:
        await ledger.begin(record(to(), key=b"1"))
        for end in ends:
            shutil.move(f"{path}{end}", away)
        await fails(ledger, "moved, deleted or replaced", "is gone", "is gone")
        with pytest.raises(LedgerError, match="is gone"):
            await ledger.look(Query(message_ids=("1@example.co.jp",)))
        for end in ends:
            if (away / f"ledger.db{end}").exists():
                shutil.move(away / f"ledger.db{end}", path.parent)
        await ledger.begin(record(to(), key=b"2"))

    use(path, work)
    assert messages(path) == 2


def test_a_deleted_ledger_is_not_made_anew_behind_the_back_of_its_admin(path: Path) -> None:
    async def work(ledger: Ledger) -> None:
        await ledger.begin(record(to(), key=b"1"))
        for end in ("", "-wal", "-shm"):
            Path(f"{path}{end}").unlink()
        await fails(ledger, "moved, deleted or replaced", "is gone", "put it back, or restart")
        assert not path.exists()

    use(path, work)
    use(path, lambda ledger: ledger.begin(record(to(), key=b"2")))
    assert messages(path) == 1


def test_a_ledger_whose_log_was_deleted_keeps_what_was_acknowledged(path: Path) -> None:
    async def work(ledger: Ledger) -> None:
        await ledger.begin(record(to(), key=b"1"))
        Path(f"{path}-wal").unlink()
        with pytest.raises(LedgerError, match="-wal of the ledger was moved or deleted"):
            await ledger.begin(record(to(), key=b"2"))
        await ledger.begin(record(to(), key=b"3"))

    use(path, work)
    assert messages(path) == 2


def test_a_ledger_that_was_replaced_by_another_is_the_ledger_from_then_on(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    with store(other) as opened, journal(opened) as writing:
        for number in range(3):
            writing.begin(record(to(), key=b"%d" % number))

    async def work(ledger: Ledger) -> None:
        begun = await ledger.begin(record(to(), key=b"1"))
        os.replace(other, path)
        for end in ("-wal", "-shm"):
            Path(f"{path}{end}").unlink()
        await fails(ledger, "replaced")
        assert (await ledger.begin(record(to(), key=b"4"))).message == 4
        await ledger.finish(begun, [(YAMADA, ACCEPTED)], "250 ok")

    use(path, work)
    assert messages(path) == 4


def test_a_damaged_ledger_says_so_and_a_restored_one_works(path: Path) -> None:
    use(path, lambda ledger: ledger.begin(record(to(), key=b"1")))
    backup = path.read_bytes()

    async def work(ledger: Ledger) -> None:
        await ledger.begin(record(to(), key=b"2"))

        def write(octets: bytes) -> None:
            for end in ("-wal", "-shm"):
                Path(f"{path}{end}").unlink(missing_ok=True)
            path.with_suffix(".new").write_bytes(octets)
            path.with_suffix(".new").replace(path)

        write(b"\xff" * len(backup))
        await fails(ledger, "moved, deleted or replaced", "is damaged or no SQLite database", "is damaged")
        with pytest.raises(LedgerError, match="is damaged"):
            await ledger.look(Query(message_ids=("1@example.co.jp",)))
        write(backup)
        await ledger.begin(record(to(), key=b"3"))
        assert len((await ledger.look(Query(message_ids=("1@example.co.jp",)))).originals) == 1

    use(path, work)
    assert messages(path) == 2


def test_pages_that_were_overwritten_are_noticed(path: Path) -> None:
    use(path, lambda ledger: ledger.begin(record(to(), key=b"1")))
    octets = bytearray(path.read_bytes())
    octets[4096:] = b"\x5a" * (len(octets) - 4096)
    path.write_bytes(octets)

    async def work(ledger: Ledger) -> None:
        await fails(ledger, "is damaged")

    with pytest.raises(LedgerError, match="is damaged"):
        use(path, work)


def test_what_is_no_ledger_is_refused_and_left_as_it_is(path: Path) -> None:
    path.write_text("version: 1\n" * 200)
    with pytest.raises(LedgerError, match="no SQLite database"):
        open_ledger(f"sqlite:///{path}")
    assert path.read_text() == "version: 1\n" * 200


def test_a_database_of_others_is_refused_and_left_as_it_is(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE places (url TEXT)")
    db.close()
    octets = path.read_bytes()
    with pytest.raises(LedgerError, match=r"no ledger of kaifu's.*places"):
        open_ledger(f"sqlite:///{path}")
    assert path.read_bytes() == octets


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite:///relative.db", "an absolute path is needed"),
        ("sqlite://host/abs.db", "an absolute path is needed"),
        ("sqlite:////a.db?mode=ro", "an absolute path is needed"),
        ("postgresql://kaifu@db/kaifu", "only sqlite"),
        ("/var/lib/kaifu/ledger.db", "only sqlite"),
        ("sqlite:////nowhere/at/all/ledger.db", "the directory /nowhere/at/all of the ledger does not exist"),
    ],
)
def test_a_ledger_that_cannot_be_opened_is_explained(url: str, words: str) -> None:
    with pytest.raises(LedgerError, match=words):
        open_ledger(url)


def test_a_directory_in_its_place_is_explained(path: Path) -> None:
    path.mkdir()
    with pytest.raises(LedgerError, match="is a directory"):
        open_ledger(f"sqlite:///{path}")


def test_a_ledger_is_not_made_unless_it_may_be(path: Path) -> None:
    with pytest.raises(LedgerError, match="there is no ledger"):
        open_ledger(f"sqlite:///{path}", create=False)
    assert not path.exists()


def test_a_read_only_file_system_is_named(small_disk: Path) -> None:
    path = small_disk / "ledger.db"
    use(path, lambda ledger: ledger.begin(record(to(), key=b"1")))
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(LedgerError, match="read-only"):
        open_ledger(f"sqlite:///{path}")


def test_nobody_else_can_read_a_ledger(path: Path) -> None:
    def modes() -> set[int]:
        return {os.stat(f"{path}{end}").st_mode & 0o777 for end in ("", "-wal", "-shm")}

    async def work(ledger: Ledger) -> set[int]:
        await ledger.begin(record(to(), key=b"1"))
        return modes()

    before = os.umask(0)
    try:
        assert use(path, work) == {0o600}
        path.chmod(0o644)
        assert use(path, work) == {0o600}
    finally:
        os.umask(before)
