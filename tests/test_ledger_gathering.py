"""The ledger of a host with many messages at once: everybody gets an answer, and what is answered is on disk, once."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Coroutine
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.ledger_values import YAMADA, journal, record, store, to

from kaifu.policies.facts import Consent
from kaifu.proxy import ledger_gathering
from kaifu.proxy.ledger import Begun, LedgerError, Outcome, Query, Record
from kaifu.proxy.ledger_file import prepare
from kaifu.proxy.ledger_gathering import COMPANY, GatheringLedger, SomebodySaid

TASKS = 16


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    prepare(path, create=True)
    return path


def message(number: int) -> Record:
    return record(to(), key=number.to_bytes(32, "big"), message_id=f"{number}@example.co.jp")


def recorded(path: Path) -> list[tuple[int, str]]:
    """Number and Message-ID of what a stranger to the process finds."""
    with closing(sqlite3.connect(path)) as db:
        return db.execute("SELECT id, message_id FROM messages ORDER BY id").fetchall()


def commits(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        (number,) = db.execute("SELECT count(*) FROM batches").fetchone()
        return int(number)


def run(ledger: GatheringLedger, *work: Coroutine[Any, Any, Any]) -> list[Any]:
    """All at once; their results or errors. Then the ledger is closed."""

    async def everything() -> list[Any]:
        try:
            return await asyncio.gather(*work, return_exceptions=True)
        finally:
            await ledger.close()

    return asyncio.run(everything())


def test_whoever_is_answered_finds_the_message_on_disk_under_the_number_that_was_told(path: Path) -> None:
    ledger = GatheringLedger(path)

    async def conversation(first: int) -> list[tuple[int | None, str]]:
        told = []
        for number in range(first, 400, TASKS):
            begun = await ledger.begin(message(number), number % 8)
            assert (begun.message, begun.message_id) in recorded(path)
            ledger.finish(begun, [(to().address, Outcome.WITHHELD)], "discarded")
            told.append((begun.message, f"{number}@example.co.jp"))
        return told

    told = [one for each in run(ledger, *map(conversation, range(TASKS))) for one in each]
    assert sorted(told, key=str) == sorted(recorded(path), key=str)
    assert len(told) == 400


def test_who_has_company_shares_a_commit_and_who_has_none_waits_for_nobody(path: Path) -> None:
    ledger = GatheringLedger(path)
    run(ledger, *(ledger.begin(message(number), COMPANY) for number in range(TASKS)))
    assert (len(recorded(path)), commits(path)) == (TASKS, 1)

    ledger = GatheringLedger(path)

    async def alone() -> None:
        """No turn of the loop is left for a timer: what is begun is with the writer at once."""
        waiting = asyncio.ensure_future(ledger.begin(message(TASKS)))
        await asyncio.sleep(0)
        assert ledger._gathered is None
        await waiting

    assert run(ledger, alone()) == [None]
    assert commits(path) == 2


def test_when_nobody_is_left_to_wait_for_nobody_waits(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_gathering, "GATHER_SECONDS", 3600.0)
    ledger = GatheringLedger(path)
    run(ledger, *(ledger.begin(message(number), others) for number, others in enumerate((COMPANY, 1, 0))))
    assert (len(recorded(path)), commits(path)) == (3, 1)


def test_the_same_attempt_by_many_at_once_is_one_message(path: Path) -> None:
    ledger = GatheringLedger(path)
    begun: list[Begun] = run(ledger, *(ledger.begin(message(1), others % 7) for others in range(64)))
    assert {one.message for one in begun} == {1}
    assert sum(not one.repeated for one in begun) == 1
    assert recorded(path) == [(1, "1@example.co.jp")]


def test_what_cannot_be_recorded_fails_alone(path: Path) -> None:
    ledger = GatheringLedger(path)

    async def begin(number: int) -> str:
        one = message(number)
        if number % 8 == 0:
            one = record(to(), key=one.attempt_key, message_id=one.message_id, kind=object())
        try:
            return str((await ledger.begin(one, TASKS)).message_id)
        except LedgerError as error:
            return type(error).__name__

    told = run(ledger, *map(begin, range(200)))
    right = [f"{number}@example.co.jp" for number in range(200) if number % 8]
    assert told == [f"{number}@example.co.jp" if number % 8 else "LedgerError" for number in range(200)]
    assert sorted(name for _, name in recorded(path)) == sorted(right)


def test_who_relies_on_nobody_having_said_anything_hears_when_somebody_has(path: Path) -> None:
    """And nothing is recorded of what was judged without knowing it."""
    ledger, asks = GatheringLedger(path), Query(consent_of=(YAMADA,))

    async def host() -> None:
        assert not ledger.needs_no_look(asks)
        assert (await ledger.look(asks)).consent == {}
        assert ledger.needs_no_look(asks)
        await ledger.begin(message(1), unlooked=True)
        with store(path) as opened, journal(opened) as telling:
            telling.consent(YAMADA, Consent.DENIED, "admin", "")
        with pytest.raises(SomebodySaid):
            await ledger.begin(message(2), unlooked=True)
        assert not ledger.needs_no_look(asks)
        assert (await ledger.look(asks)).consent == {YAMADA: Consent.DENIED}
        await ledger.begin(message(3))

    assert run(ledger, host()) == [None]
    assert [name for _, name in recorded(path)] == ["1@example.co.jp", "3@example.co.jp"]


def test_what_was_begun_before_the_end_is_written(path: Path) -> None:
    ledger = GatheringLedger(path)

    async def host() -> Begun:
        waiting = asyncio.ensure_future(ledger.begin(message(1), COMPANY))
        await asyncio.sleep(0)
        await ledger.close()
        return await waiting

    (begun,) = run(ledger, host())
    assert [(begun.message, begun.message_id)] == recorded(path)


def test_what_comes_after_the_end_is_refused(path: Path) -> None:
    ledger = GatheringLedger(path)
    run(ledger)
    for others in (0, COMPANY):
        (error,) = run(ledger, ledger.begin(message(1), others))
        assert isinstance(error, LedgerError)
    assert recorded(path) == []
