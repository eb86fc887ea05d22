"""Lists of messages that have certain words in their subject, through the index of subjects.

Called by :mod:`kaifu.proxy.ledger_walk`. The index names messages that may fit, block by block; the ledger says whether they do. Blocks are
gone through in the order of their times, and as the times of two blocks may overlap (clocks are set, a ledger takes over old
mail), nothing is given before all blocks that could have something earlier in the list were looked at.

Fails with sqlite3's errors, and with :class:`~kaifu.proxy.ledger_subjects.IndexFaultError` when the index cannot be read.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence

from . import ledger_filter
from .ledger_filter import FIRST, LAST, Condition, Filter, Place, Stretch, all_few, joined
from .ledger_subjects import Block, Blocks
from .ledger_walkers import Walker, What, progress_of
from .subjectgrams import folded

_AT_ONCE = 64
"""Messages that are looked at together."""


class Candidates(Walker):
    """Goes through the blocks of the index."""

    def __init__(
        self,
        db: sqlite3.Connection,
        blocks: Blocks,
        words: Sequence[str],
        what: What,
        newest_first: bool,
        after: Place | None,
    ) -> None:
        super().__init__(db, what, newest_first, after)
        self._index = blocks
        self._words = [folded(word) for word in words]
        self._after = after
        ahead = (block for block in blocks.all if self._can_have_any(block))
        self._left = sorted(ahead, key=lambda block: progress_of(self._start(block), newest_first), reverse=True)
        self._move_on()

    def _start(self, block: Block) -> Place:
        """What is in this block comes after this place."""
        return LAST._replace(at=block.latest) if self.newest_first else FIRST._replace(at=block.earliest)

    def _can_have_any(self, block: Block) -> bool:
        if self.what.since is not None and block.latest < self.what.since:
            return False
        if self.what.until is not None and block.earliest >= self.what.until:
            return False
        if self._after is None:
            return True
        return block.earliest <= self._after.at if self.newest_first else block.latest >= self._after.at

    def _move_on(self) -> None:
        """Everything before what the next block begins with was looked at."""
        if not self._left:
            self.done = True
            return
        start = self._start(self._left[-1])
        if progress_of(start, self.newest_first) > self.progress:
            self.reached = start

    def step(self, limit: int, window: int) -> None:
        """Look at some blocks, up to the first that has something; see :meth:`~kaifu.proxy.ledger_walkers.Walker.step`."""
        for _ in range(max(1, window * 16 // self._index.size)):
            found = self._index.candidates(self._left.pop().number, self._words)
            if found:
                self._look_at(found, limit)
            self._move_on()
            if found or self.done:
                break

    def _look_at(self, messages: list[int], limit: int) -> None:
        """Of those that fit the first, one more than ``limit``: a block can have millions of recipients."""
        left = limit + 1
        for some in self._by_time(messages):
            stretch = of_these(some)
            sql, values = joined([stretch.condition, *self.fitting("m.at", self._after)])
            way = "DESC" if self.newest_first else "ASC"
            query = f"SELECT r.at, r.id FROM {stretch.tables} WHERE {sql} ORDER BY r.at {way}, r.id {way} LIMIT ?"
            found = [Place(*each) for each in self.db.execute(query, (*values, left))]
            self.places += found
            left -= len(found)
            if not left:
                break

    def _by_time(self, messages: list[int]) -> Iterator[list[int]]:
        """Some at a time, in the order of the list; those of one moment together."""
        way = "DESC" if self.newest_first else "ASC"
        query = f"SELECT id, at FROM messages WHERE id IN (SELECT value FROM json_each(?)) ORDER BY at {way}"
        some: list[int] = []
        last = None
        for number, at in self.db.execute(query, (json.dumps(messages),)).fetchall():
            if len(some) >= _AT_ONCE and at != last:
                yield some
                some = []
            some.append(number)
            last = at
        yield some


def of_these(messages: list[int]) -> Stretch:
    """The messages with these numbers."""
    condition = Condition("m.id IN (SELECT value FROM json_each(?))", (json.dumps(messages),))
    return Stretch(
        "messages m", "recipients r INDEXED BY recipients_message ON r.message = m.id", "m.at", condition, False
    )


def narrowed(db: sqlite3.Connection, blocks: Blocks, wanted: Filter) -> list[Stretch] | None:
    """The messages that may have these words in their subject, and those that the index does not have, when they have few rows."""
    words = [folded(word) for word in wanted.subject]
    found: list[int] = []
    for block in blocks.all:
        found += blocks.candidates(block.number, words)
        if len(found) >= ledger_filter.SMALL:
            return None
    some = [of_these(found), blocks.rest]
    return some if all_few(db, some, wanted) else None
