"""The ledger for hosts that work in threads of their own, such as libmilter's: the same journal, without an event loop.

Used by :mod:`kaifu.proxy.milterhost`. Calls block the calling thread until the answer is there. Handing work to another
thread and waking up again costs more than the work, so the caller does it: questions are answered on one connection in
turn; of those who have something to write one leads, and writes for all who wait, with one fsync. Who comes meanwhile waits
until that is done: then the first of them leads, and those who have their results are woken, each once. (Taking the lead in turn
only to see that nothing is left to do cost twice as many commits.) The writer's own thread is left with what nobody waits
for: outcomes, and figures.

Fails with :class:`LedgerError` like :class:`kaifu.proxy.ledger_sqlite.SqliteLedger`, and works again by itself.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from kaifu.policies.facts import Direction

from .ledger import Begun, Known, LedgerError, Outcome, Query, Record
from .ledger_file import Store, explain
from .ledger_journal import Journal, now
from .ledger_look import look, nobody_said
from .ledger_writer import MOST, Job, Work, Writer

COMPANY = 4
GATHER_SECONDS = 0.004
"""While at least so many others are under way, who writes waits so long for them: within Postfix a commit was shared by 2 to 4
messages before, and by 6 since, which saved a twentieth of the CPU time. Who sends alone waits for nobody."""

_NOTHING_KNOWN = Known()


class SomebodySaid(LedgerError):
    """Somebody's consent is on record by now, while the judgement knew of nobody's: look, and judge again."""


class _AtOnce:
    """Stands where an event loop would: runs what is handed over in the thread that hands it over."""

    def call_soon_threadsafe(self, work: Callable[..., object], *arguments: object) -> None:
        work(*arguments)


class _Turn(Job):
    """A request of a thread that waits. ``woken``: held until the thread has its result, or the lead."""

    __slots__ = ("done", "woken")

    def __init__(self, work: Work, key: bytes) -> None:
        super().__init__(work, None, key=key)
        self.done = False
        self.woken = threading.Lock()
        self.woken.acquire()


class _Turns(Writer):
    """The writer whose callers write themselves: one of them leads, and writes for all who wait.

    ``_waiting``: whose work nobody has begun. ``_leader``: who writes, or is to write next. Both are changed while ``_order`` is
    held. ``_turn`` is held while something is written.
    """

    def __init__(self, path: Path, patience: float) -> None:
        self._patience = patience
        self._turn = threading.Lock()
        self._order = threading.Lock()
        self._waiting: list[_Turn] = []
        self._leader: _Turn | None = None
        super().__init__(path, _AtOnce())

    def now(self, work: Work, key: bytes = b"", others: int = 0) -> Any:
        """Do the work within a transaction; the result when it is on disk. Raises :class:`LedgerError`.

        ``key``: the attempt that it begins. ``others``: how many may have something to write soon.
        """
        job = _Turn(work, key)
        with self._order:
            self._waiting.append(job)
            leads = self._leader is None
            if leads:
                self._leader = job
        if not leads and not job.woken.acquire(timeout=self._patience):
            self._give_up(job)
        if not job.done:
            if others >= COMPANY:
                time.sleep(GATHER_SECONDS)
            self._lead()
        if job.error is not None:
            raise job.error
        return job.result

    def _give_up(self, job: _Turn) -> None:
        """After waiting too long. Raises LedgerError, unless the result or the lead has come just now."""
        with self._order:
            late = self._leader is job or job.done
            if not late and job in self._waiting:
                self._waiting.remove(job)
        if late:
            job.woken.acquire()
            return
        raise LedgerError(f"the ledger {self._path} does not answer; is its disk stuck?")

    def _lead(self) -> None:
        """Write for all who wait, and leave the lead to the first of those who have come meanwhile."""
        batch: list[_Turn] = []
        try:
            with self._turn:
                with self._order:
                    batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
                super()._write(cast(list[Job], batch))
        except BaseException as error:
            for job in batch:
                job.error = job.error or LedgerError(f"the ledger {self._path} cannot be written: {error!r}")
            raise
        finally:
            with self._order:
                following = self._leader = self._waiting[0] if self._waiting else None
                for job in batch:
                    job.done = True
            if following is not None:
                following.woken.release()
            for job in batch:
                job.woken.release()

    def _write(self, batch: list[Job]) -> None:
        """What the writer's own thread writes."""
        with self._turn:
            super()._write(batch)


class BlockingLedger:
    """``path``: absolute, of a file that is there and migrated. Safe to call from any thread.

    ``patience``: seconds that a call waits for others to write. What nobody has begun to write by then is not written later.
    """

    def __init__(self, path: Path, patience: float = 60.0) -> None:
        self.path = path
        self._writer = _Turns(path, patience)
        self._reading = threading.Lock()
        self._store: Store | None = None
        self._nobody_said = False

    def needs_no_look(self, query: Query) -> bool:
        """True when only consent is asked for, and nobody's was on record when somebody looked last.

        That may have changed since, so who relies on it has to tell :meth:`begin`. (A look is little work, but in
        caches that other programs have used since it was a twentieth of a message's CPU time.)
        """
        return self._nobody_said and not (query.message_ids or query.envids or query.retry_key)

    def look(self, query: Query) -> Known:
        """Answer a query from what is committed."""
        if not query:
            return _NOTHING_KNOWN
        with self._reading:
            try:
                return self._look(query)
            except (sqlite3.Error, OSError, LedgerError, ValueError) as error:
                self._close_reading()
                raise explain(error, self.path) from error

    def _look(self, query: Query) -> Known:
        if self._store is None:
            self._store = Store(self.path, write=False)
        self._store.guard()
        db = self._store.db
        if len(query.consent_of) == 1 and not (query.message_ids or query.envids or query.retry_key):
            self._nobody_said = nobody_said(db)
            return (
                _NOTHING_KNOWN if self._nobody_said else look(db, query)
            )  # What is said later is none of its business.
        db.execute("BEGIN")
        try:
            return look(db, query)
        finally:
            db.execute("ROLLBACK")

    def _close_reading(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None

    def begin(self, record: Record, others: int = 0, *, unlooked: bool = False) -> Begun:
        """Make a record durable.

        ``others``: how many other messages are under way, and may share the fsync. ``unlooked``: the judgement relies on
        :meth:`needs_no_look`; raises :class:`SomebodySaid`, and records nothing, when that is no longer so.
        """

        def work(journal: Journal) -> Begun:
            if unlooked and not journal.nobody_said():
                self._nobody_said = False
                raise SomebodySaid("somebody's consent was recorded meanwhile")
            return journal.begin(record)

        return cast(Begun, self._writer.now(work, record.attempt_key, others))

    def finish(self, begun: Begun, outcomes: Sequence[tuple[str, Outcome]], reply: str) -> None:
        """Add outcomes; queued at once, written with the next commit."""
        at = now()
        if begun.message is not None:
            self._writer.put(Job(lambda journal: journal.finish(begun, outcomes, reply, at), None, keep=True))

    def count(self, direction: Direction, kind: str) -> None:
        """Count a message that leaves no row."""
        self._writer.count((int(time.time()) // 3600, direction.value, kind))

    def leave_trace(self, message_id: str) -> None:
        """Remember that a message leaves no record; queued at once, written with the next commit."""
        self._writer.leave_trace(message_id, now())

    def policy_in_force(self, digest: str, mode: str, text: str) -> None:
        """Put on record which policy decides from now on; queued at once, written with the next commit."""
        at = now()
        self._writer.put(Job(lambda journal: journal.policy(digest, mode, text, at), None, keep=True))

    def check(self) -> None:
        """Raise LedgerError unless a transaction can be committed now."""
        self._writer.now(_nothing)

    def close(self) -> None:
        """Write what is queued and close."""
        self._writer.stop()
        with self._reading:
            self._close_reading()


def _nothing(journal: Journal) -> None:
    """The work of a check."""
