"""How screens ask: in one thread, the newest question of a lane alone, and what was given up does not go on in secret."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, date
from pathlib import Path
from typing import Any

import pytest
from tests.tui_pilot import in_a_loop, looks, some_ledger

from kaifu.proxy.access import Role
from kaifu.proxy.ledger_cli import Chosen
from kaifu.proxy.ledger_desk import Desk
from kaifu.tui.asking import Asker, GivenUpError, RefusedError, TroubleError

ENDLESS = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n) SELECT count(*) FROM n"


@pytest.fixture
def where(tmp_path: Path) -> Chosen:
    return Chosen(some_ledger(tmp_path / "ledger.db"), UTC, looks(Role.AUDITOR))


class Endless:
    """A question that never ends by itself; ``begun`` is set when it is under way."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.begun = asyncio.Event()

    def __call__(self, desk: Desk) -> Any:
        with desk._open(Role.VIEWER, "overview") as db:
            self.loop.call_soon_threadsafe(self.begun.set)
            return db.execute(ENDLESS).fetchone()


@in_a_loop
async def test_a_newer_question_of_the_lane_ends_the_one_that_runs(where: Chosen) -> None:
    asker = Asker(where)
    endless = Endless()
    older = asyncio.create_task(asker.ask(endless, lane="list"))
    await endless.begun.wait()
    assert await asker.ask(lambda desk: desk.version(), lane="list") > 0
    with pytest.raises(GivenUpError):
        await older
    asker.close()


@in_a_loop
async def test_of_those_that_wait_only_the_newest_of_a_lane_is_asked(where: Chosen) -> None:
    asker = Asker(where)
    gate, asked = threading.Event(), []

    def note(number: int) -> Any:
        return lambda _: asked.append(number)

    first = asyncio.create_task(asker.ask(lambda _: gate.wait()))
    several = [asyncio.create_task(asker.ask(note(number), lane="list")) for number in range(5)]
    other = asyncio.create_task(asker.ask(note(9), lane="another"))
    for _ in range(3):
        await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(first, other, several[-1])
    assert asked == [4, 9]
    assert [type(task.exception()) for task in several[:-1]] == [GivenUpError] * 4
    asker.close()


@in_a_loop
async def test_who_stops_waiting_stops_the_question_and_no_other(where: Chosen) -> None:
    asker = Asker(where)
    endless = Endless()
    waits = asyncio.create_task(asker.ask(endless))
    await endless.begun.wait()
    behind = asyncio.create_task(asker.ask(lambda desk: desk.version(), lane="pulse"))
    waits.cancel()
    assert await behind > 0
    with pytest.raises(asyncio.CancelledError):
        await waits
    asker.close()


@in_a_loop
async def test_closing_ends_the_thread_whatever_it_is_at(where: Chosen) -> None:
    asker = Asker(where)
    endless = Endless()
    waits = asyncio.create_task(asker.ask(endless))
    await endless.begun.wait()
    asker.close()
    await asyncio.to_thread(asker._thread.join, 30)
    assert not asker._thread.is_alive()
    with pytest.raises(GivenUpError):
        await waits


@in_a_loop
async def test_what_goes_wrong_comes_back_as_what_it_is_and_the_thread_goes_on(where: Chosen) -> None:
    asker = Asker(where)
    with pytest.raises(RefusedError, match="needs the role admin"):
        await asker.ask(lambda desk: desk.recipients_called("1", None, "note"))
    with pytest.raises(ZeroDivisionError):
        await asker.ask(lambda _: 1 // 0)
    where.path.rename(where.path.with_name("away.db"))
    with pytest.raises(TroubleError, match="ledger"):
        await asker.ask(lambda desk: desk.version())
    where.path.with_name("away.db").rename(where.path)
    assert await asker.ask(lambda desk: desk.version()) > 0
    asker.close()


@in_a_loop
async def test_another_day_is_another_desk(where: Chosen) -> None:
    day = [date(2026, 11, 20)]
    asker = Asker(where, lambda: day[0])

    async def desk() -> Desk:
        return await asker.ask(lambda desk: desk)

    first = await desk()
    assert await desk() is first
    day[0] = date(2026, 11, 21)
    assert await desk() is not first
    asker.close()
