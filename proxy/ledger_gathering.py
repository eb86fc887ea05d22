"""The ledger for a host that begins many records at once: those of a moment go to the writer together.

Used by :mod:`kaifu.proxy.milterhost`. A commit costs far more than a record in it, so while others are under way a record waits a
moment for theirs. And it is not asked again and again what people said while nobody has said anything: the commit checks that
this is still so.
"""

from __future__ import annotations

import asyncio
import time
from typing import cast

from .ledger import Begun, Known, LedgerError, Query, Record
from .ledger_journal import Journal
from .ledger_sqlite import SqliteLedger
from .ledger_writer import Job

COMPANY = 4
GATHER_SECONDS = 0.010
"""While at least so many others are under way, a record waits for theirs, so long at most: that saved a quarter of a message's CPU
time within Postfix. Who sends alone waits for nobody."""

_ASK_AGAIN_SECONDS = 60.0


class SomebodySaid(LedgerError):
    """Somebody's consent is on record by now, while the judgement knew of nobody's: look, and judge again."""


class GatheringLedger(SqliteLedger):
    """See :class:`kaifu.proxy.ledger_sqlite.SqliteLedger`."""

    _nobody_said = False
    _ask_at = 0.0
    _gathered: list[Job] | None = None

    def needs_no_look(self, query: Query) -> bool:
        """True when only consent is asked for, and nobody's was on record when somebody looked last.

        That may have changed since, so who relies on it has to tell :meth:`begin`.
        """
        return self._nobody_said and not (query.message_ids or query.envids or query.retry_key)

    async def look(self, query: Query) -> Known:
        """Answer a query from what is committed. An empty query costs nothing."""
        known = await super().look(query)
        if query.consent_of and not known.consent and not self._nobody_said and time.monotonic() >= self._ask_at:
            self._ask_at = time.monotonic() + _ASK_AGAIN_SECONDS
            self._nobody_said = cast(bool, await self._put(Journal.nobody_said))
        return known

    async def begin(self, record: Record, others: int = 0, *, unlooked: bool = False) -> Begun:
        """Make a record durable.

        ``others``: how many other messages are on their way here, and may share the fsync. ``unlooked``: the judgement relies on
        :meth:`needs_no_look`; raises :class:`SomebodySaid`, and records nothing, when that is no longer so.
        """

        def work(journal: Journal) -> Begun:
            if unlooked and not journal.nobody_said():
                self._nobody_said = False
                raise SomebodySaid("somebody's consent was recorded meanwhile")
            return journal.begin(record)

        if others < COMPANY and self._gathered is None:
            return cast(Begun, await self._put(work, key=record.attempt_key))
        self._check_open()
        loop = asyncio.get_running_loop()
        if self._gathered is None:
            self._gathered = []
            loop.call_later(GATHER_SECONDS, self._hand_over)
        future = loop.create_future()
        self._gathered.append(Job(work, future, key=record.attempt_key))
        if not others:  # Nobody is left to wait for.
            self._hand_over()
        return cast(Begun, await future)

    def _hand_over(self) -> None:
        gathered, self._gathered = self._gathered, None
        for job in gathered or ():
            self._writing().put(job)

    async def close(self) -> None:
        """Write what is queued and close. Idempotent."""
        self._hand_over()
        await super().close()
