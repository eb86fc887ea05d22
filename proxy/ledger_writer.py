"""The writer thread: one per process, the only one that writes, with one fsync for all who wait.

Used by :mod:`kaifu.proxy.ledger_sqlite`. Requests are put on a queue as :class:`Job` objects; the thread takes all that
wait, writes them in one transaction, and hands all results to the event loop with one call.

How it fails: when the transaction cannot be written, everybody who waits gets a :class:`LedgerError` that says why, nothing
of it is in the ledger, and the next batch tries anew, with a new connection if need be. What nobody can repeat (outcomes,
figures) is kept, up to :data:`BACKLOG`, and tried again every second. One bad job does not spoil the others: if
SQLite refuses a statement for what it says, the batch is written job by job.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from .ledger import LedgerError
from .ledger_file import Store, explain
from .ledger_journal import Journal

BACKLOG = 100_000
RETRY_SECONDS = 1.0
MOST = 500
_log = logging.getLogger("kaifu.ledger")

Work = Callable[[Journal], Any]


class Job:
    """One request: what to do with the journal, and the future that waits for it.

    ``keep``: nobody will repeat it, so it is kept when it cannot be written now.
    """

    __slots__ = ("error", "future", "keep", "result", "work")

    def __init__(self, work: Work, future: asyncio.Future[Any] | None, *, keep: bool = False) -> None:
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
        self._kept: deque[Job] = deque()
        self._counts: dict[tuple[int, str, str], int] = {}
        self._lock = threading.Lock()
        self._store: Store | None = None
        self._journal: Journal | None = None
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="kaifu-ledger-writer", daemon=True)
        self._thread.start()

    def put(self, job: Job) -> None:
        """Queue a job."""
        self._queue.put(job)

    def count(self, key: tuple[int, str, str]) -> None:
        """Add one to a figure; written with the next batch or within a second."""
        with self._lock:
            first = not self._counts
            self._counts[key] = self._counts.get(key, 0) + 1
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
            if batch or self._kept or self._counts:
                self._write(batch)
        if self._kept:
            _log.error("the ledger %s: %d outcomes could not be written and are lost", self._path, len(self._kept))
        self._close()

    def _take(self) -> tuple[list[Job], bool]:
        """Wait for work; everything that is queued, and whether this is the end."""
        batch: list[Job] = []
        stopping = False
        try:
            waiting = bool(self._kept or self._counts)
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
        if not batch and not stopping and not self._kept and self._counts:
            return self._take_with_counts()
        return batch, stopping

    def _take_with_counts(self) -> tuple[list[Job], bool]:
        """Figures alone wait up to a second for company."""
        try:
            job = self._queue.get(timeout=RETRY_SECONDS)
        except Empty:
            return [], False
        return ([], True) if job is None else ([job], False)

    def _write(self, batch: list[Job]) -> None:
        jobs = [*self._kept, *batch]
        with self._lock:
            counts, self._counts = self._counts, {}
        try:
            self._commit(jobs, counts)
        except (sqlite3.Error, OSError, LedgerError) as error:
            self._failed(jobs, counts, error)
        except Exception as error:  # noqa: BLE001 - a fault of ours must not end the thread
            _log.exception("the ledger %s: an error of ours", self._path)
            self._failed(jobs, counts, error)
        else:
            self._kept.clear()
            if self._failing:
                self._failing = False
                _log.warning("the ledger %s can be written again", self._path)
        self._tell(batch)

    def _tell(self, jobs: list[Job]) -> None:
        try:
            self._loop.call_soon_threadsafe(_resolve, jobs)
        except RuntimeError:
            return  # The loop is closed: nobody waits any more.

    def _commit(self, jobs: list[Job], counts: dict[tuple[int, str, str], int]) -> None:
        journal = self._open()
        assert self._store is not None
        self._store.guard()
        try:
            journal.start()
            for job in jobs:
                self._do(journal, job)
            if counts:
                journal.count(counts)
            journal.commit()
        except (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.InterfaceError, sqlite3.ProgrammingError) as error:
            journal.rollback()
            if len(jobs) < 2:
                raise
            _log.warning("the ledger %s refused a batch (%s); writing it one by one", self._path, error)
            self._one_by_one(jobs, counts)
        except BaseException:
            journal.rollback()
            raise
        # What was committed to a file that vanished meanwhile is not in the ledger.
        self._store.guard()

    def _do(self, journal: Journal, job: Job) -> None:
        job.error = None
        try:
            job.result = job.work(journal)
        except LedgerError as error:
            job.error = error

    def _one_by_one(self, jobs: list[Job], counts: dict[tuple[int, str, str], int]) -> None:
        for job in jobs:
            try:
                self._commit([job], {})
            except (
                sqlite3.IntegrityError,
                sqlite3.DataError,
                sqlite3.InterfaceError,
                sqlite3.ProgrammingError,
            ) as error:
                job.error = explain(error, self._path)
        if counts:
            self._commit([], counts)

    def _failed(self, jobs: list[Job], counts: dict[tuple[int, str, str], int], error: Exception) -> None:
        told = explain(error, self._path)
        if not self._failing:
            self._failing = True
            _log.error("%s", told)
        for job in jobs:
            job.error = told
        self._kept.clear()
        kept = [job for job in jobs if job.keep]
        if len(kept) > BACKLOG:
            _log.error("the ledger %s: too many outcomes wait; %d are lost", self._path, len(kept) - BACKLOG)
        self._kept.extend(kept[-BACKLOG:])
        with self._lock:
            for key, n in counts.items():
                self._counts[key] = self._counts.get(key, 0) + n
        if not getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY"):
            self._close()

    def _open(self) -> Journal:
        if self._journal is None:
            self._store = Store(self._path, write=True)
            self._journal = Journal(self._store.db)
        return self._journal

    def _close(self) -> None:
        self._journal = None
        if self._store is not None:
            self._store.close()
            self._store = None


def _nothing(_: Journal) -> None:
    """The work of a job that only wakes the thread."""
