"""Lists of rows by keyset, walked in bounded steps: as far as there is patience, saying how far it came.

Called by :mod:`kaifu.proxy.ledger_read` for commands, which want whole pages, and by the desk for screens, which must stay alive while
something rare is looked for among millions. A walk goes along one or several :class:`~kaifu.proxy.ledger_filter.Stretch`, window by window, and
gives what lies before the place up to which all of them were looked at (:attr:`Page.reached`); the next begins there. Lists in other orders than
that of time are walked in :mod:`kaifu.proxy.ledger_groups`.

Each call is one short read transaction, so nobody who looks slows the relay down or keeps its log from being trimmed, and a page
costs the same at the start and after millions of rows. Fails with sqlite3's errors.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from .ledger_filter import (
    FIRST,
    LAST,
    Condition,
    Filter,
    Order,
    Place,
    Stretch,
    between,
    conditions,
    joined,
    stretches,
)
from .ledger_rows import Row, completed, rows_of

PATIENCE = 0.1
"""Seconds that a walk for a screen takes, about."""
_WINDOW = 512
_UNBOUNDED = 2**62


@dataclass(frozen=True, slots=True)
class Page:
    """Rows in order. ``reached``: everything before it was looked at, None at the very start; ``done``: nothing comes after."""

    rows: list[Row]
    reached: Place | None
    done: bool


class Patience:
    """How long a walk may go on, and how much it looks at in one step. ``seconds`` None: until the page is full."""

    def __init__(self, seconds: float | None, window: int = _WINDOW) -> None:
        self._seconds = seconds
        self._start = self._last = time.monotonic()
        self.window = window

    def is_over(self) -> bool:
        """To be asked after each step."""
        now = time.monotonic()
        took, self._last = now - self._last, now
        if self._seconds is None or took < self._seconds / 8:
            self.window *= 2
        elif took > self._seconds / 3:
            self.window = max(64, self.window // 2)
        return self._seconds is not None and now - self._start >= self._seconds


@dataclass(frozen=True, slots=True)
class Found:
    """A page before its rows are read."""

    places: list[Place]
    reached: Place | None
    done: bool


def walk(
    db: sqlite3.Connection,
    wanted: Filter,
    *,
    after: Place | None = None,
    limit: int = 100,
    newest_first: bool = True,
    order: Order = Order.TIME,
    patience: float | None = PATIENCE,
    window: int = _WINDOW,
) -> Page:
    """The next rows of a list, at most ``limit`` (all when it is negative), and fewer when ``patience`` (seconds) ends before.

    ``newest_first`` False: the same list from its end. ``window``: entries of an index for the first step.
    """
    from .ledger_groups import walk_groups

    limit = limit if limit >= 0 else _UNBOUNDED
    how = Patience(patience, max(min(limit, _WINDOW), window))
    with transaction(db):
        if order is Order.TIME:
            what = What(conditions(db, wanted), wanted.since, wanted.until)
            walkers = [Walker(db, stretch, what, newest_first, after) for stretch in stretches(db, wanted)]
            found = in_time(walkers, after, limit, newest_first, how)
        else:
            found = walk_groups(db, wanted, order, after, limit, newest_first, how)
        rows = rows_of(db, [place.recipient for place in found.places])
        return Page(completed(db, rows), found.reached, found.done)


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All questions see the ledger at one moment."""
    db.execute("BEGIN")
    try:
        yield
    finally:
        db.execute("ROLLBACK")


@dataclass(frozen=True, slots=True)
class What:
    """What rows must fulfil: ``condition``, and the time from ``since`` to before ``until``."""

    condition: Condition
    since: int | None = None
    until: int | None = None


def in_time(
    walkers: Sequence[Walker], after: Place | None, limit: int, newest_first: bool, patience: Patience
) -> Found:
    """What these walkers find, in order of time."""
    while True:
        live = [walker for walker in walkers if not walker.done]
        behind = min(live, key=lambda walker: walker.progress, default=None)
        ready = _ready(walkers, None if behind is None else behind.progress, newest_first)
        moved = all(walker.moved for walker in live)
        if behind is None or len(ready) >= limit or (moved and patience.is_over()):
            break
        behind.step(limit, patience.window)
    if len(ready) > limit or (live and len(ready) == limit):
        return Found(ready[:limit], ready[limit - 1] if limit else after, False)
    return Found(ready, None if behind is None else behind.reached, behind is None)


def _ready(walkers: Sequence[Walker], progress: tuple[int, int] | None, newest_first: bool) -> list[Place]:
    """What nothing can come before any more, in order. A row that several stretches have stands there once."""
    found = {place for walker in walkers for place in walker.places}
    if progress is not None:
        found = {place for place in found if progress_of(place, newest_first) <= progress}
    return sorted(found, key=lambda place: place[:2], reverse=newest_first)


def progress_of(place: Place, newest_first: bool) -> tuple[int, int]:
    """Places as numbers that grow on the way."""
    return (-place.at, -place.recipient) if newest_first else (place.at, place.recipient)


@dataclass(slots=True)
class Walker:
    """Goes along one stretch. ``reached``: everything before it was looked at; ``places``: of the rows that fit."""

    db: sqlite3.Connection
    stretch: Stretch
    what: What
    newest_first: bool
    reached: Place | None
    done: bool = False
    moved: bool = False
    places: list[Place] = field(default_factory=list)

    @property
    def progress(self) -> tuple[int, int]:
        start = LAST if self.newest_first else FIRST
        return progress_of(self.reached or start, self.newest_first)

    def step(self, limit: int, window: int) -> None:
        """Look at about ``window`` more entries of the index, for up to ``limit`` rows."""
        self.moved = True
        edge = self._edge(window) if self.stretch.in_order else None
        found = self._between(edge, limit)
        self.places += found
        if len(found) == limit:
            self.reached = found[-1]
        elif edge is None:
            self.done = True
        else:
            self.reached = Place(edge, 0) if self.newest_first else Place(edge, LAST.recipient)

    def _edge(self, window: int) -> int | None:
        """The time of the entry that is so many further on."""
        time, way = self.stretch.time, "DESC" if self.newest_first else "ASC"
        within = [self.stretch.condition, *between(time, self.what.since, self.what.until)]
        if self.reached is not None:
            within.append(self._beyond(self.reached))
        sql, values = joined(within)
        query = f"SELECT {time} FROM {self.stretch.table} WHERE {sql} ORDER BY {time} {way} LIMIT 1 OFFSET ?"
        row = self.db.execute(query, (*values, window)).fetchone()
        return None if row is None else int(row[0])

    def _beyond(self, place: Place) -> Condition:
        """Not before a place. Of its moment nothing is left after the last recipient, so that each step comes further."""
        time = self.stretch.time
        if self.newest_first:
            return Condition(f"{time} {'<=' if place.recipient > 0 else '<'} ?", (place.at,))
        return Condition(f"{time} {'>=' if place.recipient < LAST.recipient else '>'} ?", (place.at,))

    def _between(self, edge: int | None, limit: int) -> list[Place]:
        """What fits from here to what came at the edge, inclusive; None: to the end."""
        time, newest_first = self.stretch.time, self.newest_first
        way, beyond, within = ("DESC", "<", ">=") if newest_first else ("ASC", ">", "<=")
        found = [self.stretch.condition, *between(time, self.what.since, self.what.until), self.what.condition]
        if edge is not None:
            found.append(Condition(f"{time} {within} ?", (edge,)))
        if self.reached is not None:
            found.append(self._beyond(self.reached))
            found.append(Condition(f"({time}, r.id) {beyond} (?, ?)", self.reached[:2]))
        sql, values = joined(found)
        query = f"SELECT r.at, r.id FROM {self.stretch.tables} WHERE {sql} ORDER BY {time} {way}, r.id {way} LIMIT ?"
        return [Place(*each) for each in self.db.execute(query, (*values, limit))]
