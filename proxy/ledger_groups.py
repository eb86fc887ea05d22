"""Lists that are ordered by recipient, sender, state or rule: group after group, and within each the newest first.

Called by :mod:`kaifu.proxy.ledger_walk`, within its transaction and its patience. When all that can fit is little it is gathered and sorted. Else
an index whose entries stand group by group is walked: small groups many at once, a large one as a list of its own in order of time. Who
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
    conditions,
    few,
    joined,
    key_ranges,
    of_messages,
    of_recipients,
)
from .ledger_rows import COLUMNS, Row, row_of
from .ledger_states import State
from .ledger_walk import Page, Patience, What, in_time

_AT_ONCE = 500
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
    order: Order,
    after: Place | None,
    limit: int,
    newest_first: bool,
    patience: Patience,
) -> Page:
    """Rows in this order, not yet completed."""
    what = What(conditions(db, wanted), wanted.since, wanted.until)
    some = few(db, wanted)
    if some is not None:
        return _gathered(db, some, what, order, after, limit, newest_first)
    walk = _Walk(db, order, what, newest_first, patience)
    if order is Order.STATE:
        chosen = [state for state in _STATES if state in (wanted.states or _STATES)]
        return walk.through(chosen if newest_first else chosen[::-1], after, limit)
    return walk.along(_bounds(wanted, order), after, limit)


def _sorting(order: Order, group: str | None, at: int, recipient: int) -> tuple[bool, int, str, int, int]:
    """What rows are sorted by, in a list from its start."""
    rank = _STATES.index(group) if order is Order.STATE and group in _STATES else 0
    return group is None, rank, group or "", -at, -recipient


def _gathered(
    db: sqlite3.Connection,
    some: Sequence[Stretch],
    what: What,
    order: Order,
    after: Place | None,
    limit: int,
    newest_first: bool,
) -> Page:
    column = _KINDS[order].column
    places: set[Place] = set()
    for stretch in some:
        sql, values = joined([stretch.condition, *between(stretch.time, what.since, what.until), what.condition])
        found = db.execute(f"SELECT r.at, r.id, {column} FROM {stretch.tables} WHERE {sql}", values)
        places.update(map(Place._make, found))
    keyed = [(_sorting(order, place.group, place.at, place.recipient), place) for place in places]
    if after is not None:
        start = _sorting(order, after.group, after.at, after.recipient)
        keyed = [each for each in keyed if (each[0] > start if newest_first else each[0] < start)]
    keyed.sort(reverse=not newest_first)
    chosen = [place for _, place in keyed[:limit]]
    rows = _called(db, [place.recipient for place in chosen])
    done = len(keyed) <= limit
    return Page(rows, None if done else chosen[-1] if chosen else after, done)


def _called(db: sqlite3.Connection, recipients: list[int]) -> list[Row]:
    found: dict[int, Row] = {}
    for start in range(0, len(recipients), _AT_ONCE):
        some = recipients[start : start + _AT_ONCE]
        marks = ",".join("?" * len(some))
        query = f"SELECT {COLUMNS} FROM recipients r CROSS JOIN messages m ON m.id = r.message WHERE r.id IN ({marks})"
        found |= {row.recipient: row for row in map(row_of, db.execute(query, some))}
    return [found[recipient] for recipient in recipients]


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

    def through(self, groups: Sequence[str], after: Place | None, limit: int) -> Page:
        """The list of these groups, which have few names."""
        rows: list[Row] = []
        start = groups.index(after.group) if after is not None and after.group in groups else 0
        for group in groups[start:]:
            here = after if after is not None and after.group == group else self._before(group)
            page = self._one(group, here, limit - len(rows))
            rows += page.rows
            if not page.done:
                return Page(rows, page.reached, False)
        return Page(rows, None, True)

    def along(self, bounds: _Bounds, after: Place | None, limit: int) -> Page:
        """The list of all groups within bounds, as the index has them."""
        rows: list[Row] = []
        at = after or self._start(bounds)
        while at is not None:
            page = self._one(at.group, at, limit - len(rows))
            rows += page.rows
            if not page.done:
                return Page(rows, page.reached, False)
            at, some = self._small_ones(at.group, bounds)
            if len(rows) + len(some) > limit or (at is not None and len(rows) + len(some) == limit):
                rows += some[: limit - len(rows)]
                return Page(rows, rows[-1].place_in(self.order) if rows else after, False)
            rows += some
            if at is not None and self.patience.is_over():
                return Page(rows, at, False)
        return Page(rows, None, True)

    def _one(self, group: str | None, after: Place | None, limit: int) -> Page:
        """The list of one group, in order of time, from ``after`` on."""
        kind = _KINDS[self.order]
        if group is None:
            stretch = EVERYTHING
            condition = joined([Condition(f"{kind.column} IS NULL"), self.what.condition])
        else:
            stretch = kind.of(kind.name, Condition(f"{kind.column} = ?", (group,)))
            condition = self.what.condition
        what = What(condition, self.what.since, self.what.until)
        found = in_time(self.db, [stretch], what, after, limit, self.newest_first, self.patience)
        return Page(found.rows, found.reached and found.reached._replace(group=group), found.done)

    def _start(self, bounds: _Bounds) -> Place | None:
        """Before everything."""
        if not self.newest_first and bounds.without:
            return self._before(None)
        first = self._key(None, bounds, 0)
        return self._before(first) if first is not None else self._before(None) if bounds.without else None

    def _before(self, group: str | None) -> Place:
        return (LAST if self.newest_first else FIRST)._replace(group=group)

    def _small_ones(self, group: str | None, bounds: _Bounds) -> tuple[Place | None, list[Row]]:
        """The rows of the groups after this one that are small, and where the next begins; None when none does."""
        if group is None and self.newest_first:
            return None, []
        first = self._key(group, bounds, 0)
        if first is None:
            return (self._before(None) if self.newest_first and bounds.without else None), []
        edge = self._key(group, bounds, self.patience.window)
        if edge == first:
            return self._before(first), []
        rows = self._all_of(first, edge, bounds)
        if edge is not None:
            return self._before(edge), rows
        return (self._before(None) if self.newest_first and bounds.without else None), rows

    def _key(self, group: str | None, bounds: _Bounds, offset: int) -> str | None:
        """The group of the entry that stands so many after this group; from the start when it is None."""
        column, of, name = _KINDS[self.order]
        within = self._within(bounds)
        if group is not None:
            within.append(Condition(f"{column} {'>' if self.newest_first else '<'} ?", (group,)))
        sql, values = joined(within)
        table, way = of(name, Condition("1")).table, "ASC" if self.newest_first else "DESC"
        query = f"SELECT {column} FROM {table} WHERE {sql} ORDER BY {column} {way} LIMIT 1 OFFSET ?"
        row = self.db.execute(query, (*values, offset)).fetchone()
        return None if row is None else str(row[0])

    def _within(self, bounds: _Bounds) -> list[Condition]:
        column = _KINDS[self.order].column
        found = [Condition(f"{column} >= ?", (bounds.low,))]
        return found if bounds.high is None else [*found, Condition(f"{column} < ?", (bounds.high,))]

    def _all_of(self, first: str, edge: str | None, bounds: _Bounds) -> list[Row]:
        """The rows of the groups from ``first`` to before ``edge``, in order; None: of all that are left."""
        column, of, name = _KINDS[self.order]
        here, there = (">=", "<") if self.newest_first else ("<=", ">")
        groups = [*self._within(bounds), Condition(f"{column} {here} ?", (first,))]
        if edge is not None:
            groups.append(Condition(f"{column} {there} ?", (edge,)))
        stretch = of(name, joined(groups))
        times = between(stretch.time, self.what.since, self.what.until)
        sql, values = joined([stretch.condition, *times, self.what.condition])
        query = f"SELECT {COLUMNS}, {column} FROM {stretch.tables} WHERE {sql}"
        found = [
            (_sorting(self.order, each[-1], each[3], each[1]), row_of(each[:-1]))
            for each in self.db.execute(query, values)
        ]
        found.sort(key=lambda each: each[0], reverse=not self.newest_first)
        return [row for _, row in found]
