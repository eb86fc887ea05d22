"""Processes that write to one ledger at once, and that are killed while they do: what was acknowledged is there."""

from __future__ import annotations

import itertools
import random
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from tests.ledger_values import bodies, record, store, tables, to

from kaifu.proxy.ledger_entries import decode
from kaifu.proxy.ledger_journal import Journal, now
from kaifu.proxy.ledger_rebuild import rebuild
from kaifu.proxy.ledger_verify import verify

FOREVER = 1_000_000


def start(path: Path, name: str, count: int) -> subprocess.Popen[str]:
    """A process that writes."""
    command = [sys.executable, "-m", "tests.ledger_client", str(path), name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent)


def acknowledged(lines: list[str]) -> tuple[dict[str, int], set[str]]:
    """Messages whose begin returned, with their numbers, and those whose finish did. A last line may be cut off."""
    begun: dict[str, int] = {}
    finished: set[str] = set()
    for line in lines:
        if line.endswith("\n"):
            what, name, number = line.split()
            if what == "begun":
                begun[name] = int(number)
            else:
                finished.add(name)
    return begun, finished


def check(path: Path, begun: dict[str, int], finished: set[str]) -> None:
    """What was acknowledged is there; what is there is whole."""
    with store(path) as opened:
        assert opened.db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        before = tables(path)
        numbers = {message_id: number for number, _, _, _, message_id, *_ in before["messages"]}
        assert {name: numbers.get(name) for name in begun} == begun
        outcomes = {number: outcome for _, number, *rest in before["recipients"] for outcome in rest[9:10]}
        assert {outcomes[numbers[name]] for name in finished} <= {"accepted"}
        assert [decode(body, {}).number for body in bodies(path)] == list(range(1, len(bodies(path)) + 1))
        assert verify(opened.db, (), now()).findings == ()
        rebuild(opened.db)
        assert tables(path) == before


def test_two_processes_write_to_one_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    writers = [start(path, name, 200) for name in ("one", "two")]
    lines = [line for writer in writers for line in writer.communicate(timeout=60)[0].splitlines(keepends=True)]
    assert [writer.returncode for writer in writers] == [0, 0]
    begun, finished = acknowledged(lines)
    assert len(finished) == len(begun) == len(set(begun.values())) == 400
    check(path, begun, finished)


@pytest.mark.parametrize("several", [1, 2])
def test_a_killed_process_loses_nothing_that_was_acknowledged(tmp_path: Path, several: int, long_run: bool) -> None:
    path, chance = tmp_path / "ledger.db", random.Random(several)
    begun: dict[str, int] = {}
    finished: set[str] = set()
    for turn in range(60 if long_run else 4):
        writers = [start(path, f"{turn}.{name}", FOREVER) for name in range(several)]
        lines = []
        for writer in writers:
            assert writer.stdout is not None
            lines += [writer.stdout.readline() for _ in range(chance.randrange(1, 400))]
        for writer in writers:
            writer.kill()
        for writer in writers:
            lines += writer.communicate()[0].splitlines(keepends=True)
        more_begun, more_finished = acknowledged(lines)
        assert more_begun
        begun |= more_begun
        finished |= more_finished
    check(path, begun, finished)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM messages").fetchone()[0] >= len(begun)


def test_a_process_that_writes_without_pause_does_not_starve_another(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    busy = start(path, "busy", FOREVER)
    assert busy.stdout is not None
    try:
        busy.stdout.readline()
        drain = threading.Thread(target=busy.stdout.read, daemon=True)
        drain.start()
        with store(path) as opened:
            writing, others = Journal(opened.db), list[int]()
            # Until both had their turns; how soon that is depends on the disk.
            while len(others) < 40 or others[-1] - others[0] < len(others):
                assert len(others) < 20_000
                writing.start()
                others.append(opened.db.execute("SELECT entry FROM head").fetchone()[0])
                writing.begin(record(to(), key=b"%d" % len(others)))
                writing.commit()
    finally:
        busy.kill()
        busy.wait()
        drain.join()
    # Between two of ours there were some of theirs, but never very many.
    theirs = [later - earlier - 1 for earlier, later in itertools.pairwise(others)]
    assert sum(theirs) > 0
    assert max(theirs) < 2000
