"""The writer thread: one per process, the only one that writes, with one fsync for all who wait.

Used by :mod:`kaifu.proxy.ledger_sqlite`. Requests are put on a queue as :class:`Job` objects; the thread takes all that
wait, writes them in one transaction, and hands all results to the event loop with one call.

How it fails: when the transaction cannot be written, everybody who waits gets a :class:`LedgerError` that says why, nothing
of it is in the ledger, and the next batch tries anew, with a new connection if need be. What nobody can repeat (outcomes,
figures) is kept, up to :data:`BACKLOG`, and tried again every second. One bad job does not spoil the others: when the
fault is not the file's, the batch is written job by job.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from .ledger import LedgerError
from .ledger_file import Store, explain
from .ledger_journal import Journal

BACKLOG = 100_000
RETRY_SECONDS = 1.0
MOST = 500
_log = logging.getLogger("kaifu.ledger")

Counts = dict[tuple[int, str, str], int]
"""(Hour since 1970, direction, kind) to number."""


class Aside(NamedTuple):
    """What nobody waits for and nobody repeats: figures, and Message-IDs of mail that leaves no record, with the time."""

    counts: Counts
    traces: dict[str, int]

    def __bool__(self) -> bool:
        return bool(self.counts or self.traces)

    def write(self, journal: Journal) -> None:
        """All of it, within the journal's transaction."""
        if self.counts:
            journal.count(self.counts)
        if self.traces:
            journal.leave_traces(self.traces)


Work = Callable[[Journal], Any]


class Job:
    """One request: what to do with the journal, and the future that waits for it.

    ``keep``: nobody will repeat it, so it is kept when it cannot be written now. ``key``: the attempt that it begins.
    """

    __slots__ = ("error", "future", "keep", "key", "result", "work")

    def __init__(self, work: Work, future: asyncio.Future[Any] | None, *, keep: bool = False, key: bytes = b"") -> None:
        self.key = key
        self.work = work
        self.future = future
        self.keep = keep
        self.result: Any = None
        self.error: LedgerError | None = None


def _resolve(jobs: list[Job]) -> None:
    """Give the results to those who wait. Runs in the event loop."""
    for job in jobs:
        future = job.future
        if future is None or future.done():
            continue
        if job.error is None:
            future.set_result(job.result)
        else:
            future.set_exception(job.error)
            if job.keep:
                future.exception()  # Seen: who does not wait for an outcome is not to be told of it by the loop.


class Writer:
    """The thread and its queue. Methods without underscore may be called from any thread."""

    def __init__(self, path: Path, loop: asyncio.AbstractEventLoop) -> None:
        self._path = path
        self._loop = loop
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._kept: list[Job] = []
        self._aside = Aside({}, {})
        self._lock = threading.Lock()
        self._opened: tuple[Store, Journal] | None = None
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="kaifu-ledger-writer", daemon=True)
        self._thread.start()

    def put(self, job: Job) -> None:
        """Queue a job."""
        self._queue.put(job)

    def count(self, key: tuple[int, str, str]) -> None:
        """Add one to a figure; written with the next batch or within a second."""
        with self._lock:
            first = not self._aside
            counts = self._aside.counts
            counts[key] = counts.get(key, 0) + 1
        if first:
            self._queue.put(Job(_nothing, None))

    def leave_trace(self, message_id: str, at: int) -> None:
        """Remember that a message leaves no record; written with the next batch or within a second."""
        with self._lock:
            first = not self._aside
            self._aside.traces[message_id] = at
        if first:
            self._queue.put(Job(_nothing, None))

    def stop(self) -> None:
        """Write what is queued and end the thread. Blocks until it has ended."""
        self._queue.put(None)
        self._thread.join()

    # The thread.

    def _run(self) -> None:
        stopping = False
        while not stopping:
            batch, stopping = self._take()
            if batch or self._kept or self._aside:
                self._write(batch)
        if self._kept:
            _log.error("the ledger %s: %d outcomes could not be written and are lost", self._path, len(self._kept))
        self._close()

    def _take(self) -> tuple[list[Job], bool]:
        """Wait for work; everything that is queued, and whether this is the end."""
        batch: list[Job] = []
        stopping = False
        try:
            waiting = bool(self._kept or self._aside)
            job = self._queue.get(timeout=RETRY_SECONDS) if waiting else self._queue.get()
            while True:
                if job is None:
                    stopping = True
                elif job.work is not _nothing:
                    batch.append(job)
                if len(batch) >= MOST:
                    break
                job = self._queue.get_nowait()
        except Empty:
            pass
        if not batch and not stopping and not self._kept and self._aside:
            return self._take_with_company()
        return batch, stopping

    def _take_with_company(self) -> tuple[list[Job], bool]:
        """What nobody waits for waits itself, up to a second for company."""
        try:
            job = self._queue.get(timeout=RETRY_SECONDS)
        except Empty:
            return [], False
        return ([], True) if job is None else ([job], False)

    def _write(self, batch: list[Job]) -> None:
        jobs = [*self._kept, *batch]
        with self._lock:
            aside, self._aside = self._aside, Aside({}, {})
        try:
            self._commit(jobs, aside)
        except Exception as error:  # noqa: BLE001 - the thread must live, and nobody may wait for ever
            self._failed(jobs, aside, error)
        else:
            self._kept.clear()
            if self._failing:
                self._failing = False
                _log.warning("the ledger %s can be written again", self._path)
        with suppress(RuntimeError):  # The loop is closed: nobody waits any more.
            self._loop.call_soon_threadsafe(_resolve, batch)

    def _commit(self, jobs: list[Job], aside: Aside) -> None:
        """Write all jobs in one transaction; if one of them is at fault, each in its own."""
        store, journal = self._open()
        store.guard()
        try:
            journal.start([job.key for job in jobs if job.key])
            if aside:  # before what may be an answer to the mail of one of its traces
                aside.write(journal)
            for job in jobs:
                _do(journal, job)
            journal.commit()
        except Exception as error:
            journal.rollback()
            if _of_the_file(error):
                raise
            # Whatever one record makes fail must not fail the others.
            self._part(jobs, aside, error)
        # What was committed to a file that vanished meanwhile is not in the ledger.
        store.guard()

    def _part(self, jobs: list[Job], aside: Aside, error: Exception) -> None:
        if len(jobs) > 1:
            for job in jobs:
                self._commit([job], Aside({}, {}))
        elif jobs:
            _log.error("the ledger %s cannot take a record: %r", self._path, error)
            jobs[0].error = explain(error, self._path)
        else:
            _log.error("the ledger %s cannot take figures: %r", self._path, error)
            return
        if aside:
            self._commit([], aside)

    def _failed(self, jobs: list[Job], aside: Aside, error: Exception) -> None:
        told = explain(error, self._path)
        if not self._failing:
            self._failing = True
            _log.error("%s", told)
        for job in jobs:
            job.error = LedgerError(str(told))
        kept = [job for job in jobs if job.keep]
        if len(kept) > BACKLOG:
            _log.error("the ledger %s: too many outcomes wait; %d are lost", self._path, len(kept) - BACKLOG)
        self._kept = kept[-BACKLOG:]
        with self._lock:
            for key, n in aside.counts.items():
                self._aside.counts[key] = self._aside.counts.get(key, 0) + n
            if len(aside.traces) < BACKLOG:
                self._aside.traces.update(aside.traces)
        if not getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY"):
            self._close()

    def _open(self) -> tuple[Store, Journal]:
        if self._opened is None:
            store = Store(self._path, write=True)
            self._opened = store, Journal(store.db)
        return self._opened

    def _close(self) -> None:
        if self._opened is not None:
            self._opened[0].close()
            self._opened = None


def _of_the_file(error: Exception) -> bool:
    """True when it is not the fault of what was to be written."""
    if isinstance(
        error, sqlite3.IntegrityError | sqlite3.DataError | sqlite3.InterfaceError | sqlite3.ProgrammingError
    ):
        return False
    return isinstance(error, sqlite3.Error | OSError | LedgerError)


def _do(journal: Journal, job: Job) -> None:
    job.error = None
    try:
        job.result = job.work(journal)
    except LedgerError as error:
        job.error = error


def _nothing(_: Journal) -> None:
    """The work of a job that only wakes the thread."""
