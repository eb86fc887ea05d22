"""The ledger of a host that works in threads: everybody gets an answer, and what is answered is on disk, once."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from queue import SimpleQueue
from threading import Barrier, Thread

import pytest
from tests.ledger_values import record, to

from kaifu.proxy.ledger import LedgerError, Outcome, Record
from kaifu.proxy.ledger_blocking import BlockingLedger
from kaifu.proxy.ledger_file import prepare

THREADS = 16


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    prepare(path, create=True)
    return path


@pytest.fixture
def ledger(path: Path) -> Iterator[BlockingLedger]:
    ledger = BlockingLedger(path)
    yield ledger
    ledger.close()


def message(number: int) -> Record:
    return record(to(), key=number.to_bytes(32, "big"), message_id=f"{number}@example.co.jp")


def recorded(path: Path) -> list[tuple[int, str]]:
    """Number and Message-ID of what a stranger to the process finds."""
    with closing(sqlite3.connect(path)) as db:
        return db.execute("SELECT id, message_id FROM messages ORDER BY id").fetchall()


def test_whoever_is_answered_finds_the_message_on_disk_under_the_number_that_was_told(
    ledger: BlockingLedger, path: Path
) -> None:
    together = Barrier(THREADS)

    def session(thread: int) -> list[tuple[int | None, str]]:
        together.wait()
        told = []
        for number in range(thread, 400, THREADS):
            begun = ledger.begin(message(number))
            assert (begun.message, begun.message_id) in recorded(path)
            ledger.finish(begun, [(to().address, Outcome.WITHHELD)], "discarded")
            told.append((begun.message, f"{number}@example.co.jp"))
        return told

    with ThreadPoolExecutor(THREADS) as pool:
        told = [one for each in pool.map(session, range(THREADS)) for one in each]
    assert sorted(told, key=str) == sorted(recorded(path), key=str)
    assert len(told) == 400


def test_the_same_attempt_by_many_at_once_is_one_message(ledger: BlockingLedger, path: Path) -> None:
    with ThreadPoolExecutor(THREADS) as pool:
        begun = list(pool.map(ledger.begin, [message(1)] * 64))
    assert {one.message for one in begun} == {1}
    assert sum(not one.repeated for one in begun) == 1
    assert recorded(path) == [(1, "1@example.co.jp")]


def test_what_cannot_be_recorded_fails_alone(ledger: BlockingLedger, path: Path) -> None:
    def begin(number: int) -> str:
        one = message(number)
        if number % 8 == 0:
            one = record(to(), key=one.attempt_key, message_id=one.message_id, kind=object())
        try:
            return str(ledger.begin(one).message_id)
        except LedgerError as error:
            return type(error).__name__

    with ThreadPoolExecutor(THREADS) as pool:
        told = list(pool.map(begin, range(200)))
    right = [f"{number}@example.co.jp" for number in range(200) if number % 8]
    assert told == [f"{number}@example.co.jp" if number % 8 else "LedgerError" for number in range(200)]
    assert sorted(name for _, name in recorded(path)) == sorted(right)


def test_who_has_waited_too_long_hears_so_is_not_recorded_afterwards_and_keeps_nobody_waiting(path: Path) -> None:
    ledger = BlockingLedger(path, patience=0.05)
    told: SimpleQueue[str] = SimpleQueue()

    def begin(number: int) -> None:
        try:
            told.put(str(ledger.begin(message(number)).message_id))
        except LedgerError as error:
            told.put(str(error))

    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        both = [Thread(target=begin, args=(number,)) for number in (1, 2)]
        for thread in both:
            thread.start()
        assert "does not answer" in told.get(timeout=30)
        other.execute("ROLLBACK")
        accepted = told.get(timeout=30)
    for thread in both:
        thread.join()
    ledger.begin(message(3))
    ledger.close()
    assert recorded(path) == [(1, accepted), (2, "3@example.co.jp")]
