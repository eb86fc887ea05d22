"""Lists of rows by keyset, walked in bounded steps: as far as there is patience, saying how far it came.

Called by :mod:`kaifu.proxy.ledger_read` for commands, which want whole pages, and by the desk for screens, which must stay alive while
something rare is looked for among millions. A walk gives what lies before the place up to which everything was looked at
(:attr:`Page.reached`); the next begins there. How it goes on: in order of time along stretches of indexes (:mod:`kaifu.proxy.ledger_walkers`), or
through the messages that the index of subjects names (:mod:`kaifu.proxy.ledger_candidates`); in other orders group by group
(:mod:`kaifu.proxy.ledger_groups`).

Each call is one short read transaction, so nobody who looks slows the relay down or keeps its log from being trimmed, and a page
costs the same at the start and after millions of rows. Fails with sqlite3's errors.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from .ledger_candidates import Candidates, narrowed
from .ledger_filter import Filter, Order, Place, all_few, conditions, few, stretches
from .ledger_groups import gathered, walk_groups
from .ledger_rows import Row, completed, rows_of
from .ledger_subjects import Blocks, IndexFaultError, Subjects
from .ledger_walkers import WINDOW, Along, Found, Patience, Walker, What, in_time

PATIENCE = 0.1
"""Seconds that a walk for a screen takes, about."""
_UNBOUNDED = 2**62


@dataclass(frozen=True, slots=True)
class Page:
    """Rows in order. ``reached``: everything before it was looked at, None at the very start; ``done``: nothing comes after."""

    rows: list[Row]
    reached: Place | None
    done: bool


@dataclass(frozen=True, slots=True)
class Counted:
    """``number`` of rows up to ``reached``; ``done``: nothing comes after."""

    number: int
    reached: Place | None
    done: bool


@dataclass(frozen=True, slots=True)
class _Question:
    """What is asked of a list."""

    db: sqlite3.Connection
    wanted: Filter
    after: Place | None
    limit: int
    newest_first: bool
    order: Order
    patience: Patience

    def answer(self, blocks: Blocks | None) -> Found:
        """Places in order. ``blocks``: the index of subjects."""
        if self.order is Order.TIME:
            return in_time(self._walkers(blocks), self.after, self.limit, self.newest_first, self.patience)
        some = few(self.db, self.wanted)
        if some is None and blocks is not None:
            some = narrowed(self.db, blocks, self.wanted)
        how = (self.order, self.after, self.limit, self.newest_first)
        if some is not None:
            return gathered(self.db, some, self._what(), *how)
        return walk_groups(self.db, self.wanted, self._what(), *how, self.patience)

    def _what(self) -> What:
        return What(conditions(self.db, self.wanted), self.wanted.since, self.wanted.until)

    def _walkers(self, blocks: Blocks | None) -> list[Walker]:
        what, some = self._what(), stretches(self.db, self.wanted)
        walkers: list[Walker] = []
        if blocks is not None and not all_few(self.db, some, self.wanted):
            walkers.append(Candidates(self.db, blocks, self.wanted.subject, what, self.newest_first, self.after))
            some = [blocks.rest]
        return walkers + [Along(self.db, each, what, self.newest_first, self.after) for each in some]


def walk(
    db: sqlite3.Connection,
    wanted: Filter,
    *,
    after: Place | None = None,
    limit: int = 100,
    newest_first: bool = True,
    order: Order = Order.TIME,
    patience: float = PATIENCE,
    window: int = WINDOW,
    subjects: Subjects | None = None,
) -> Page:
    """The next rows of a list, at most ``limit`` (all when it is negative), and fewer when ``patience`` (seconds) ends before.

    ``newest_first`` False: the same list from its end. ``window``: entries of an index for the first step. ``subjects``: makes it faster
    when part of the subject is given, and changes no answer.
    """
    limit = limit if limit >= 0 else _UNBOUNDED
    how = Patience(patience, max(min(limit, WINDOW), window))
    question = _Question(db, wanted, after, limit, newest_first, order, how)
    with transaction(db):
        found = _by_subjects(question, subjects)
        rows = rows_of(db, [place.recipient for place in found.places])
        return Page(completed(db, rows), found.reached, found.done)


def count_on(
    db: sqlite3.Connection,
    wanted: Filter,
    *,
    after: Place | None = None,
    most: int = 10_000,
    patience: float = PATIENCE,
    window: int = WINDOW,
    subjects: Subjects | None = None,
) -> Counted:
    """How many rows a list has from ``after`` on, counted up to ``most``, as far as there is patience; see :func:`walk`."""
    question = _Question(db, wanted, after, most, True, Order.TIME, Patience(patience, window))
    with transaction(db):
        found = _by_subjects(question, subjects)
    return Counted(len(found.places), found.reached, found.done)


def _by_subjects(question: _Question, subjects: Subjects | None) -> Found:
    """The answer, by the index of subjects when there is a good one."""
    if subjects is not None and any(question.wanted.subject):
        try:
            with subjects.reading(question.db) as blocks:
                return question.answer(blocks)
        except IndexFaultError:
            pass
    return question.answer(None)


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All questions see the ledger at one moment."""
    db.execute("BEGIN")
    try:
        yield
    finally:
        db.execute("ROLLBACK")
