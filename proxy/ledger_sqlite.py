"""The ledger on SQLite: what hosts call, handed to two threads.

Made by :func:`kaifu.proxy.ledger_open.open_ledger`. Implements :class:`kaifu.proxy.ledger.Ledger`. Writes go through
:class:`kaifu.proxy.ledger_writer.Writer`, one connection and one fsync for all who wait at a time; questions are answered by a second
thread with a read-only connection of its own, so that they wait for no fsync. Several processes may have the same
file open. The threads start with the first call, in the process and event loop of that call.

Limits: one event loop per instance. Every method raises :class:`LedgerError` when the file cannot be read or written, and
works again by itself when the cause is gone.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from kaifu.policies.facts import Direction

from .ledger import Begun, Known, LedgerError, Outcome, Query, Record, Served
from .ledger_file import Store, explain
from .ledger_journal import Journal, now
from .ledger_look import look
from .ledger_writer import Job, Work, Writer

_NOTHING_KNOWN = Known()


class Reader:
    """The thread that answers queries. ``loop``: where answers are handed over."""

    def __init__(self, path: Path, loop: asyncio.AbstractEventLoop) -> None:
        self._path = path
        self._loop = loop
        self._queue: SimpleQueue[tuple[Query, asyncio.Future[Known]] | None] = SimpleQueue()
        self._store: Store | None = None
        self._thread = threading.Thread(target=self._run, name="kaifu-ledger-reader", daemon=True)
        self._thread.start()

    def put(self, query: Query, future: asyncio.Future[Known]) -> None:
        """Queue a query."""
        self._queue.put((query, future))

    def stop(self) -> None:
        """Answer what is queued and end the thread. Blocks until it has ended."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        stopping = False
        while not stopping:
            asked = [self._queue.get()]
            try:
                while True:
                    asked.append(self._queue.get_nowait())
            except Empty:
                pass
            stopping = None in asked
            answers = self._answer([one for one in asked if one is not None])
            with suppress(RuntimeError):  # The loop is closed: nobody waits any more.
                self._loop.call_soon_threadsafe(_answered, answers)
        self._close()

    def _answer(
        self, asked: list[tuple[Query, asyncio.Future[Known]]]
    ) -> list[tuple[asyncio.Future[Known], Known | LedgerError]]:
        """All answers from one consistent snapshot, taken after the last of them was asked."""
        try:
            if self._store is None:
                self._store = Store(self._path, write=False)
            self._store.guard()
            db = self._store.db
            db.execute("BEGIN")
            try:
                return [(future, self._look(db, query)) for query, future in asked]
            finally:
                db.execute("ROLLBACK")
        except Exception as error:  # noqa: BLE001 - without this thread everybody would wait for ever
            self._close()
            told = explain(error, self._path)
            return [(future, told) for _, future in asked]

    def _look(self, db: sqlite3.Connection, query: Query) -> Known | LedgerError:
        """One answer. A row that makes no sense spoils only the answers that it belongs to."""
        try:
            return look(db, query)
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            return LedgerError(
                f"the ledger {self._path} holds a row that makes no sense ({error}); try kaifu ledger rebuild"
            )

    def _close(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None


def _answered(answers: list[tuple[asyncio.Future[Known], Known | LedgerError]]) -> None:
    for future, answer in answers:
        if future.done():
            continue
        if isinstance(answer, LedgerError):
            future.set_exception(answer)
        else:
            future.set_result(answer)


def _done() -> asyncio.Future[None]:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_result(None)
    return future


class SqliteLedger:
    """See :class:`kaifu.proxy.ledger.Ledger`. ``path``: absolute, of a file that is there and migrated."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._loop: asyncio.AbstractEventLoop | None = None
        self._writer: Writer | None = None
        self._reader: Reader | None = None
        self._closed = False

    def _writing(self) -> Writer:
        if self._writer is None:
            self._check_open()
            self._loop = asyncio.get_running_loop()
            self._writer = Writer(self.path, self._loop)
        return self._writer

    def _check_open(self) -> None:
        if self._closed:
            raise LedgerError(f"the ledger {self.path} is closed")

    def _put(self, work: Work, *, keep: bool = False, key: bytes = b"") -> asyncio.Future[Any]:
        self._check_open()
        writer = self._writing()
        assert self._loop is not None
        future = self._loop.create_future()
        writer.put(Job(work, future, keep=keep, key=key))
        return future

    async def look(self, query: Query) -> Known:
        """Answer a query from what is committed. An empty query costs nothing."""
        if not query:
            return _NOTHING_KNOWN
        self._check_open()
        loop = asyncio.get_running_loop()
        if self._reader is None:
            self._reader = Reader(self.path, loop)
        future: asyncio.Future[Known] = loop.create_future()
        self._reader.put(query, future)
        return await future

    async def begin(self, record: Record) -> Begun:
        """Make a record durable."""
        begun = await self._put(lambda journal: journal.begin(record), key=record.attempt_key)
        assert isinstance(begun, Begun)
        return begun

    def finish(
        self,
        begun: Begun,
        outcomes: Sequence[tuple[str, Outcome]],
        reply: str,
        *,
        served: Served | None = None,
        drop_served: bytes | None = None,
        answered: bool = True,
    ) -> Awaitable[None]:
        """Queue the outcome at once. The awaitable, which may be ignored, is done when it is durable.

        When it cannot be written now it raises :class:`LedgerError`, and the outcome is written as soon as it can be.
        """
        if begun.message is None and served is None and drop_served is None:
            return _done()
        at = now()

        def work(journal: Journal) -> None:
            journal.finish(begun, outcomes, reply, at, answered)
            if served is not None:
                journal.serve(served, at)
            if drop_served is not None:
                journal.drop_served(drop_served)

        return self._put(work, keep=True)

    def count(self, direction: Direction, kind: str) -> None:
        """Count a message that leaves no row."""
        if not self._closed:
            self._writing().count((int(time.time()) // 3600, direction.value, kind))

    def leave_trace(self, message_id: str) -> None:
        """Remember that a message leaves no record."""
        if not self._closed:
            self._writing().leave_trace(message_id, now())

    def policy_in_force(self, digest: str, mode: str, text: str) -> None:
        """Put on record which policy decides from now on."""
        at = now()
        if not self._closed:
            self._put(lambda journal: journal.policy(digest, mode, text, at), keep=True)

    async def check(self) -> None:
        """Raise LedgerError unless a transaction can be committed now."""
        await self._put(lambda journal: None)

    async def close(self) -> None:
        """Write what is queued and close. Idempotent."""
        self._closed = True
        writer, self._writer = self._writer, None
        reader, self._reader = self._reader, None
        # The writer last: the last connection moves SQLite's log into the file, and only a writer can.
        for thread in (reader, writer):
            if thread is not None:
                await asyncio.to_thread(thread.stop)
