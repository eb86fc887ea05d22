"""Questions to the ledger, asked in a thread of their own, so that no screen ever waits for a disk.

One thread has the desk (:class:`kaifu.proxy.ledger_desk.Desk`): it belongs to one thread. Screens ``await asker.ask(question)``, and go on in the event
loop with the answer; a question is any function of a desk. Of the questions in one *lane* only the newest is answered: an older
one that waits is dropped, one that runs is interrupted, and who asked it gets :class:`GivenUpError`. Long work (a verification) has
an asker of its own.

A ledger that is locked, moved or gone gives :class:`TroubleError`, whose text is a sentence for people; the file is then let go of, and
the next question opens it anew. Every day a new desk begins, so that looks of somebody who leaves a screen open are on record daily.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from queue import SimpleQueue
from typing import Any, TypeVar

from kaifu.proxy.access import AccessError
from kaifu.proxy.ledger_cli import Chosen, Failure, failing
from kaifu.proxy.ledger_desk import Desk
from kaifu.proxy.ledger_desk import GivenUpError as InterruptedAtDeskError

from .troubles import sentence

Answer = TypeVar("Answer")
Question = Callable[[Desk], Answer]


class TroubleError(Exception):
    """The ledger cannot answer now; the text says why, in a sentence."""


class RefusedError(TroubleError):
    """Who looks may not ask this."""


class GivenUpError(Exception):
    """A newer question of the same lane took the place of this one."""


@dataclass(slots=True, eq=False)
class _Asked:
    question: Question[Any]
    lane: str
    answer: asyncio.Future[Any]
    given_up: bool = False


class Asker:
    """The thread with a desk. Everything but the thread's own part runs in the event loop."""

    def __init__(self, where: Chosen, today: Callable[[], date] | None = None) -> None:
        self._where = where
        self._today = today or (lambda: datetime.now(where.zone).date())
        self._waiting: SimpleQueue[_Asked | None] = SimpleQueue()
        self._lanes: dict[str, _Asked] = {}
        self._desk: Desk | None = None
        self._day: date | None = None
        self._lock = threading.Lock()
        self._running: _Asked | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="kaifu-tui-desk", daemon=True)
        self._thread.start()

    async def ask(self, question: Question[Answer], *, lane: str = "") -> Answer:
        """The answer. Raises :class:`TroubleError`, :class:`RefusedError`, :class:`GivenUpError`."""
        loop = asyncio.get_running_loop()
        asked = _Asked(question, lane, loop.create_future())
        if lane:
            if (older := self._lanes.get(lane)) is not None:
                self._give_up(older)
            self._lanes[lane] = asked
        self._waiting.put(asked)
        try:
            found: Answer = await asked.answer
            return found
        except asyncio.CancelledError:
            self._give_up(asked)
            raise
        finally:
            if self._lanes.get(lane) is asked:
                del self._lanes[lane]

    def close(self) -> None:
        """End the thread; what it is at is given up, unless it is being put on record. Does not wait."""
        with self._lock:
            self._closing = True
            if self._desk is not None:
                self._desk.interrupt()
        self._waiting.put(None)

    def _give_up(self, asked: _Asked) -> None:
        with self._lock:
            asked.given_up = True
            if self._running is asked and self._desk is not None:
                self._desk.interrupt()
        if not asked.answer.done():
            asked.answer.set_exception(GivenUpError())

    # The thread.

    def _run(self) -> None:
        while (asked := self._waiting.get()) is not None:
            if self._begins(asked):
                self._answer(asked)
        self._let_go()

    def _begins(self, asked: _Asked) -> bool:
        """Is it still wanted? From here on giving it up interrupts it, and no other."""
        with self._lock:
            wanted = not asked.given_up and not self._closing
            self._running = asked if wanted else None
            return wanted

    def _answer(self, asked: _Asked) -> None:
        answer: Any = None
        error: Exception | None = None
        try:
            with failing(self._where.path):
                try:
                    answer = asked.question(self._at_desk())
                except AccessError as refused:
                    error = RefusedError(str(refused))
                except InterruptedAtDeskError:
                    error = GivenUpError()
        except Failure as failure:
            error = TroubleError(sentence(failure.trouble, failure.message, self._where.path))
            self._let_go()
        except Exception as unexpected:  # noqa: BLE001 - who asked is to hear of it, and the thread must live
            error = unexpected
            self._let_go()
        with self._lock:
            self._running = None
        loop = asked.answer.get_loop()
        if not loop.is_closed():
            loop.call_soon_threadsafe(_hand_over, asked.answer, answer, error)

    def _at_desk(self) -> Desk:
        if self._desk is None or self._day != self._today():
            self._let_go()
            self._desk, self._day = Desk(self._where.path, self._where.who), self._today()
        return self._desk

    def _let_go(self) -> None:
        if self._desk is not None:
            self._desk.__exit__()
            self._desk = None


def _hand_over(future: asyncio.Future[Any], answer: Any, error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(answer)
    else:
        future.set_exception(error)
