"""Lists that are ordered by recipient, sender, state or rule: group after group, and within each the newest first.

Called by :mod:`kaifu.proxy.ledger_walk`, within its transaction and its patience. When all that can fit is little it is gathered and sorted
(:func:`gathered`). Else (:func:`walk_groups`) an index whose entries stand group by group is walked: small groups many at once, a large one as a list of its own in order of time. Who
has no address, sender or rule (erased, or never there) is the last group. Fails with sqlite3's errors.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .ledger_filter import (
    EVERYTHING,
    FIRST,
    LAST,
    Condition,
    Filter,
    KeyRange,
    Order,
    Place,
    Stretch,
    between,
    joined,
    key_ranges,
    of_messages,
    of_recipients,
)
from .ledger_states import State
from .ledger_walkers import Along, Found, Patience, What, in_time

_WIDEST = 2048
"""Entries of small groups that are read at once."""
_STATES = tuple(map(str, State))


class _Kind(NamedTuple):
    """How a list is grouped: by which column, which the index ``name`` of ``of`` begins with."""

    column: str
    of: Callable[[str, Condition], Stretch]
    name: str


_KINDS = {
    Order.TO: _Kind("r.address_key", of_recipients, "recipients_address"),
    Order.FROM: _Kind("m.sender_key", of_messages, "messages_sender"),
    Order.STATE: _Kind("r.state", of_recipients, "recipients_state"),
    Order.RULE: _Kind("r.rule", of_recipients, "recipients_rule"),
}


def walk_groups(
    db: sqlite3.Connection,
    wanted: Filter,
    what: What,
    order: Order,
    after: Place | None,
    limit: int,
    newest_first: bool,
    patience: Patience,
) -> Found:
    """What fits, in this order, group after group. ``what``: all that ``wanted`` says."""
    walk = _Walk(db, order, what, newest_first, patience)
    if order is Order.STATE:
        chosen = [state for state in _STATES if state in (wanted.states or _STATES)]
        return walk.through(chosen if newest_first else chosen[::-1], after, limit)
    return walk.along(_bounds(wanted, order), after, limit)


def _sorting(order: Order, place: Place) -> tuple[bool, int, str, int, int]:
    """What places are sorted by, in a list from its start."""
    at, recipient, group = place
    rank = _STATES.index(group) if order is Order.STATE and group in _STATES else 0
    return group is None, rank, group or "", -at, -recipient


def gathered(
    db: sqlite3.Connection,
    some: Sequence[Stretch],
    what: What,
    order: Order,
    after: Place | None,
    limit: int,
    newest_first: bool,
) -> Found:
    """What fits of a few stretches, in this order: all of it is gathered and sorted."""
    column = _KINDS[order].column
    places: set[Place] = set()
    for stretch in some:
        sql, values = joined([stretch.condition, *between(stretch.time, what.since, what.until), what.condition])
        found = db.execute(f"SELECT r.at, r.id, {column} FROM {stretch.tables} WHERE {sql}", values)
        places.update(map(Place._make, found))
    ordered = sorted(places, key=lambda place: _sorting(order, place), reverse=not newest_first)
    if after is not None:
        start = _sorting(order, after)
        ordered = [each for each in ordered if (_sorting(order, each) > start) is newest_first and each != after]
    done = len(ordered) <= limit
    return Found(ordered[:limit], None if done else ordered[limit - 1] if limit else after, done)


class _Bounds(NamedTuple):
    """The groups from ``low`` to before ``high`` (None: all), and whether the group without a key is among them."""

    low: str = ""
    high: str | None = None
    without: bool = True


def _bounds(wanted: Filter, order: Order) -> _Bounds:
    """Outside of these no row can fit."""
    given = {Order.TO: wanted.to, Order.FROM: wanted.sender, Order.RULE: wanted.rule}[order]
    if given is None:
        return _Bounds()
    ranges = [KeyRange(given, None)] if order is Order.RULE else key_ranges(given)
    if ranges is None:
        return _Bounds(without=False)
    return _Bounds(min(each.low for each in ranges), max(each.high or each.low + "\0" for each in ranges), False)


@dataclass(slots=True)
class _Walk:
    """Goes from group to group."""

    db: sqlite3.Connection
    order: Order
    what: What
    newest_first: bool
    patience: Patience

    def through(self, groups: Sequence[str], after: Place | None, limit: int) -> Found:
        """The list of these groups, which have few names."""
        places: list[Place] = []
        start = groups.index(after.group) if after is not None and after.group in groups else 0
        for group in groups[start:]:
            here = after if after is not None and after.group == group else self._before(group)
            page = self._one(group, here, limit - len(places))
            places += page.places
            if not page.done:
                return Found(places, page.reached, False)
        return Found(places, None, True)

    def along(self, bounds: _Bounds, after: Place | None, limit: int) -> Found:
        """The list of all groups within bounds, as the index has them."""
        places: list[Place] = []
        at = after or self._start(bounds)
        while at is not None:
            page = self._one(at.group, at, limit - len(places))
            places += page.places
            if not page.done:
                return Found(places, page.reached, False)
            at, some = self._small_ones(at.group, bounds, limit - len(places) + 1)
            if len(places) + len(some) > limit or (at is not None and len(places) + len(some) == limit):
                places += some[: limit - len(places)]
                return Found(places, places[-1] if places else after, False)
            places += some
            if at is not None and self.patience.is_over():
                return Found(places, at, False)
        return Found(places, None, True)

    def _one(self, group: str | None, after: Place | None, limit: int) -> Found:
        """The list of one group, in order of time, from ``after`` on."""
        kind = _KINDS[self.order]
        if group is None:
            stretch = EVERYTHING
            condition = joined([Condition(f"{kind.column} IS NULL"), self.what.condition])
        else:
            stretch = kind.of(kind.name, Condition(f"{kind.column} = ?", (group,)))
            condition = self.what.condition
        what = What(condition, self.what.since, self.what.until)
        walker = Along(self.db, stretch, what, self.newest_first, after)
        found = in_time([walker], after, limit, self.newest_first, self.patience)
        places = [place._replace(group=group) for place in found.places]
        return Found(places, found.reached and found.reached._replace(group=group), found.done)

    def _start(self, bounds: _Bounds) -> Place | None:
        """Before everything."""
        if not self.newest_first and bounds.without:
            return self._before(None)
        first = self._key(None, bounds, 0)
        return self._before(first) if first is not None else self._before(None) if bounds.without else None

    def _before(self, group: str | None) -> Place:
        return (LAST if self.newest_first else FIRST)._replace(group=group)

    def _small_ones(self, group: str | None, bounds: _Bounds, most: int) -> tuple[Place | None, list[Place]]:
        """The rows of the groups after this one that are small, at most so many, and where the next begins; None when none does."""
        if group is None and self.newest_first:
            return None, []
        first = self._key(group, bounds, 0)
        if first is None:
            return (self._before(None) if self.newest_first and bounds.without else None), []
        edge = self._key(group, bounds, min(self.patience.window, _WIDEST))
        if edge == first:
            return self._before(first), []
        places = self._first_of(group, edge, bounds, most)
        if edge is not None:
            return self._before(edge), places
        return (self._before(None) if self.newest_first and bounds.without else None), places

    def _key(self, group: str | None, bounds: _Bounds, offset: int) -> str | None:
        """The group of the entry that stands so many after this group; from the start when it is None."""
        column, of, name = _KINDS[self.order]
        sql, values = self._groups(bounds, group)
        table, way = of(name, Condition("1")).table, "ASC" if self.newest_first else "DESC"
        query = f"SELECT {column} FROM {table} WHERE {sql} ORDER BY {column} {way} LIMIT 1 OFFSET ?"
        row = self.db.execute(query, (*values, offset)).fetchone()
        return None if row is None else str(row[0])

    def _groups(self, bounds: _Bounds, after: str | None, before: str | None = None) -> Condition:
        """The groups after one and before another. One bound on each side: SQLite would use any of several."""
        column = _KINDS[self.order].column
        low, high = (after, before) if self.newest_first else (before, after)
        found = [Condition(f"{column} >= ?", (bounds.low,)) if low is None else Condition(f"{column} > ?", (low,))]
        end = bounds.high if high is None else high
        return joined(found if end is None else [*found, Condition(f"{column} < ?", (end,))])

    def _first_of(self, after: str | None, edge: str | None, bounds: _Bounds, most: int) -> list[Place]:
        """The first rows of the groups after one and before ``edge`` (None: of all that are left), in order: messages can have any number."""
        column, of, name = _KINDS[self.order]
        stretch = of(name, self._groups(bounds, after, edge))
        times = between(stretch.time, self.what.since, self.what.until)
        sql, values = joined([stretch.condition, *times, self.what.condition])
        up, down = ("ASC", "DESC") if self.newest_first else ("DESC", "ASC")
        order = f"{column} {up}, r.at {down}, r.id {down}"
        query = f"SELECT r.at, r.id, {column} FROM {stretch.tables} WHERE {sql} ORDER BY {order} LIMIT ?"
        return [Place(*each) for each in self.db.execute(query, (*values, most))]
