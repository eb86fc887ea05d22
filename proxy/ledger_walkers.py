"""How a list in order of time is walked: several ways at once, window by window, as long as there is patience.

Used by :mod:`kaifu.proxy.ledger_walk` and by what walks in other orders or by other means. Each :class:`Walker` says up to which place it has
looked at everything, and nothing is given that another could still come before. Fails with sqlite3's errors.
"""

from __future__ import annotations

import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from .ledger_filter import FIRST, LAST, Condition, Place, Stretch, joined

WINDOW = 512
_WIDEST = 65_536


class Patience:
    """How long a walk may go on, and how much it looks at in one step."""

    def __init__(self, seconds: float, window: int = WINDOW) -> None:
        self._seconds = seconds
        self._start = self._last = time.monotonic()
        self.window = window

    def is_over(self) -> bool:
        """To be asked after each step."""
        now = time.monotonic()
        took, self._last = now - self._last, now
        if took < self._seconds / 8:
            self.window = min(2 * self.window, _WIDEST)
        elif took > self._seconds / 3:
            self.window = max(64, self.window // 2)
        return now - self._start >= self._seconds


@dataclass(frozen=True, slots=True)
class Found:
    """A page before its rows are read."""

    places: list[Place]
    reached: Place | None
    done: bool


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
    moved: set[Walker] = set()
    while True:
        live = [walker for walker in walkers if not walker.done]
        behind = min(live, key=lambda walker: walker.progress, default=None)
        progress = None if behind is None else behind.progress
        ready: list[Place] | None = None
        if sum(len(walker.places) for walker in walkers) >= limit:
            ready = _ready(walkers, progress, newest_first)
        if behind is None or (ready is not None and len(ready) >= limit):
            break
        if moved.issuperset(live) and patience.is_over():
            break
        moved.add(behind)
        behind.step(limit, patience.window)
    if ready is None:
        ready = _ready(walkers, progress, newest_first)
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


class Walker(ABC):
    """Goes one way through what may fit. ``reached``: everything before it was looked at; ``places``: of the rows that fit."""

    def __init__(self, db: sqlite3.Connection, what: What, newest_first: bool, after: Place | None) -> None:
        self.db = db
        self.what = what
        self.newest_first = newest_first
        self.reached = after
        self.done = False
        self.places: list[Place] = []

    @property
    def progress(self) -> tuple[int, int]:
        """How far it came, as numbers that grow."""
        start = LAST if self.newest_first else FIRST
        return progress_of(self.reached or start, self.newest_first)

    @abstractmethod
    def step(self, limit: int, window: int) -> None:
        """Go on by about ``window`` entries of an index, or until there are ``limit`` more places."""

    def times(self, time: str, after: Place | None, edge: int | None = None) -> list[Condition]:
        """The times that are left after a place, up to an edge, inclusive. One bound on each side: SQLite would use any of several."""
        low, high = self.what.since, None if self.what.until is None else self.what.until - 1
        # Of its moment nothing is left after the last recipient, so that each step comes further.
        if self.newest_first:
            passed = None if after is None else after.at if after.recipient > 0 else after.at - 1
            low, high = _latest(low, edge), _earliest(high, passed)
        else:
            passed = None if after is None else after.at if after.recipient < LAST.recipient else after.at + 1
            low, high = _latest(low, passed), _earliest(high, edge)
        found = [] if low is None else [Condition(f"{time} >= ?", (low,))]
        return found if high is None else [*found, Condition(f"{time} <= ?", (high,))]

    def fitting(self, time: str, after: Place | None, edge: int | None = None) -> list[Condition]:
        """What a row must fulfil to be given, when the list goes on after a place."""
        found = [*self.times(time, after, edge), self.what.condition]
        if after is not None:
            found.append(Condition(f"({time}, r.id) {'<' if self.newest_first else '>'} (?, ?)", after[:2]))
        return found


def _latest(*times: int | None) -> int | None:
    return max((time for time in times if time is not None), default=None)


def _earliest(*times: int | None) -> int | None:
    return min((time for time in times if time is not None), default=None)


class Along(Walker):
    """Goes along one stretch."""

    def __init__(
        self, db: sqlite3.Connection, stretch: Stretch, what: What, newest_first: bool, after: Place | None
    ) -> None:
        super().__init__(db, what, newest_first, after)
        self.stretch = stretch

    def step(self, limit: int, window: int) -> None:
        """See :meth:`Walker.step`."""
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
        sql, values = joined([self.stretch.condition, *self.times(time, self.reached)])
        query = f"SELECT {time} FROM {self.stretch.table} WHERE {sql} ORDER BY {time} {way} LIMIT 1 OFFSET ?"
        row = self.db.execute(query, (*values, window)).fetchone()
        return None if row is None else int(row[0])

    def _between(self, edge: int | None, limit: int) -> list[Place]:
        """What fits from here to what came at the edge, inclusive; None: to the end."""
        time, way = self.stretch.time, "DESC" if self.newest_first else "ASC"
        sql, values = joined([self.stretch.condition, *self.fitting(time, self.reached, edge)])
        query = f"SELECT r.at, r.id FROM {self.stretch.tables} WHERE {sql} ORDER BY {time} {way}, r.id {way} LIMIT ?"
        return [Place(*each) for each in self.db.execute(query, (*values, limit))]
