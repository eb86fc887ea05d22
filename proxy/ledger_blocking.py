"""The ledger for hosts that work in threads of their own, such as libmilter's: the same writer and reader, without an event loop.

Used by :mod:`kaifu.proxy.milterhost`. Calls block the calling thread until the answer is there; concurrent calls share
an fsync all the same. Fails with :class:`LedgerError` like :class:`kaifu.proxy.ledger_sqlite.SqliteLedger`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from kaifu.policies.facts import Direction

from .ledger import Begun, Known, LedgerError, Outcome, Query, Record
from .ledger_journal import Journal, now
from .ledger_sqlite import Reader
from .ledger_writer import Job, Writer

WAIT_SECONDS = 60.0
"""How long a call waits for the disk before it gives up."""


class _AtOnce:
    """Stands where an event loop would: runs what is handed over in the thread that hands it over."""

    def call_soon_threadsafe(self, work: Callable[..., object], *arguments: object) -> None:
        work(*arguments)


class _Answer:
    """Where one thread waits for one result of another; what the standard library has for this costs ten times as much."""

    __slots__ = ("_error", "_lock", "_result")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self._result: Any = None
        self._error: BaseException | None = None

    def done(self) -> bool:
        return not self._lock.locked()

    def set_result(self, result: Any, /) -> None:
        self._result = result
        self._lock.release()

    def set_exception(self, exception: BaseException, /) -> None:
        self._error = exception
        self._lock.release()

    def exception(self) -> BaseException | None:
        return self._error

    def wait(self, seconds: float) -> Any:
        """The result. Raises what the other thread ran into, or TimeoutError; called once."""
        if not self._lock.acquire(timeout=seconds):
            raise TimeoutError
        if self._error is not None:
            raise self._error
        return self._result


class BlockingLedger:
    """``path``: absolute, of a file that is there and migrated. Safe to call from any thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        loop = cast(Any, _AtOnce())
        self._writer = Writer(path, loop)
        self._reader = Reader(path, loop)

    def look(self, query: Query) -> Known:
        """Answer a query from what is committed."""
        if not query:
            return Known()
        answer = _Answer()
        self._reader.put(query, answer)
        return cast(Known, self._wait(answer))

    def begin(self, record: Record) -> Begun:
        """Make a record durable."""
        return cast(Begun, self._write(lambda journal: journal.begin(record)))

    def finish(self, begun: Begun, outcomes: Sequence[tuple[str, Outcome]], reply: str) -> None:
        """Add outcomes; queued at once, written with the next commit."""
        at = now()
        if begun.message is not None:
            self._writer.put(Job(lambda journal: journal.finish(begun, outcomes, reply, at), None, keep=True))

    def count(self, direction: Direction, kind: str) -> None:
        """Count a message that leaves no row."""
        self._writer.count((int(time.time()) // 3600, direction.value, kind))

    def check(self) -> None:
        """Raise LedgerError unless a transaction can be committed now."""
        self._write(lambda journal: None)

    def close(self) -> None:
        """Write what is queued and close."""
        self._writer.stop()
        self._reader.stop()

    def _write(self, work: Callable[[Journal], object]) -> object:
        answer = _Answer()
        self._writer.put(Job(work, answer))
        return self._wait(answer)

    def _wait(self, answer: _Answer) -> Any:
        try:
            return answer.wait(WAIT_SECONDS)
        except TimeoutError:
            raise LedgerError(f"the ledger {self.path} does not answer; is its disk stuck?") from None
