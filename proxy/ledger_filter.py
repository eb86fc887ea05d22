"""Which rows of a list are wanted, in which order, and by which index they are met: filters as SQL.

Used by :mod:`kaifu.proxy.ledger_walk`, which walks, and by everything that says what it wants. A filter becomes conditions, which every
row that is given fulfils, and a choice of :class:`Stretch`: parts of indexes, each in order of time, that together have every row that
can fit. Of several choices the one with the fewest rows is taken, so that rare things are found without going through the common ones.

Pure but for :func:`stretches`, which looks how long stretches are, each with a bounded look. Fails with sqlite3's errors.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from .ledger import EvidenceKind
from .ledger_keys import number_of, search_key
from .subjectgrams import folded, holds

SMALL = 10_000
"""Rows that may be gathered and sorted for one page."""
_LARGEST = 2**63 - 1


class Order(StrEnum):
    """What a list is ordered by. Within one recipient, sender, state or rule the newest come first; who has none comes last."""

    TIME = "time"
    TO = "to"
    FROM = "from"
    STATE = "state"
    RULE = "rule"


class Place(NamedTuple):
    """Where in a list a row stands. ``group``: in other orders than that of time, the recipient, sender, state or rule as it is sorted."""

    at: int
    recipient: int
    group: str | None = None

    @classmethod
    def of_time(cls, at: int) -> Place:
        """Between what came through before a time and what came at it or later, whichever way one goes."""
        return cls(at, 0)


FIRST, LAST = Place(-_LARGEST, 0), Place(_LARGEST, _LARGEST)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which rows. Everything given must hold; of several values of one key, any.

    ``since`` is included, ``until`` is not. ``person`` is sender or recipient. ``person``, ``sender`` and ``to`` are addresses,
    ``@domain``, ``@.domain`` with subdomains, or any part of an address. ``grades``: of the confirmation, which a list has none of; :data:`ATTESTED`: of what
    a person noted beside it. ``subject``: parts of the subject, all of which it has (see :mod:`kaifu.proxy.subjectgrams`).
    """

    since: int | None = None
    until: int | None = None
    person: str | None = None
    sender: str | None = None
    to: str | None = None
    states: tuple[str, ...] = ()
    rule: str | None = None
    directions: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ()
    requests: tuple[str, ...] = ()
    grades: tuple[str, ...] = ()
    message: int | None = None
    message_id: str | None = None
    subject: tuple[str, ...] = ()


ATTESTED = EvidenceKind.ATTESTED.value


class Condition(NamedTuple):
    """A condition in SQL over ``recipients r`` and ``messages m``."""

    sql: str
    values: tuple[Any, ...] = ()


def joined(conditions: Sequence[Condition], *, by: str = " AND ") -> Condition:
    """All of these, or with ``by`` any."""
    return Condition(
        by.join(f"({one.sql})" for one in conditions) or "1",
        tuple(value for one in conditions for value in one.values),
    )


def conditions(db: sqlite3.Connection, wanted: Filter) -> Condition:
    """All that a row must fulfil, apart from its time. ``db``: learns to compare subjects."""
    found = []
    if wanted.to is not None:
        found.append(_address("r.address", wanted.to))
    if wanted.sender is not None:
        found.append(_address("m.sender", wanted.sender))
    if wanted.person is not None:
        found.append(joined([_address(column, wanted.person) for column in ("r.address", "m.sender")], by=" OR "))
    if wanted.message is not None:
        found.append(Condition("r.message = ?", (wanted.message,)))
    if wanted.message_id is not None:
        found.append(Condition("m.id_hash = ? AND m.message_id = ?", (number_of(wanted.message_id), wanted.message_id)))
    if wanted.rule is not None:
        found.append(Condition("r.rule = ?", (wanted.rule,)))
    for column, values in (
        ("r.state", wanted.states),
        ("r.direction", wanted.directions),
        ("m.kind", wanted.kinds),
        ("r.outcome", wanted.outcomes),
        ("r.request", wanted.requests),
    ):
        if values:
            found.append(Condition(f"{column} IN ({','.join('?' * len(values))})", values))
    if wanted.grades:
        found.append(joined([_grade(grade) for grade in wanted.grades], by=" OR "))
    if wanted.subject:
        words = tuple(map(folded, wanted.subject))
        db.create_function("has_words", 1, lambda subject: holds(subject, words), deterministic=True)
        found.append(Condition("has_words(m.subject)"))
    return joined(found)


def _grade(grade: str) -> Condition:
    if grade == ATTESTED:
        return Condition("r.attested > 0")
    return Condition("r.grade = ? AND r.expanded = 0 AND r.answering < 2", (grade,))


def _address(column: str, wanted: str) -> Condition:
    ranges = key_ranges(wanted)
    if ranges is None:
        return Condition(f"instr({column}, ?) > 0", (wanted,))
    # The plus: not by an index, for that there are stretches.
    return joined([each.of(f"+{column}_key") for each in ranges], by=" OR ")


class KeyRange(NamedTuple):
    """Search keys from ``low`` to before ``high``; None: exactly ``low``."""

    low: str
    high: str | None

    def of(self, column: str) -> Condition:
        """The condition that a column is within."""
        if self.high is None:
            return Condition(f"{column} = ?", (self.low,))
        return Condition(f"{column} >= ? AND {column} < ?", (self.low, self.high))


def key_ranges(wanted: str) -> list[KeyRange] | None:
    """An address, ``@domain`` or ``@.domain`` as ranges of search keys; None for anything else."""
    if not wanted.startswith("@"):
        return [KeyRange(search_key(wanted), None)] if "@" in wanted[:-1] else None
    subdomains = wanted.startswith("@.")
    top = search_key("x" + wanted.replace("@.", "@", 1)).removesuffix("x")
    found = [KeyRange(top, top[:-1] + "A")]
    if subdomains:
        found.append(KeyRange(top[:-1] + ".", top[:-1] + "/"))
    return found


@dataclass(frozen=True, slots=True)
class Stretch:
    """Part of an index. ``table``: with its index; ``rest``: how the other table is joined to it; ``time``: the column that is in order.

    ``in_order`` is False when a page gathers and sorts all of it; such a stretch is small. The times of a message and of its
    recipients are always the same.
    """

    table: str
    rest: str
    time: str
    condition: Condition
    in_order: bool = True

    @property
    def tables(self) -> str:
        """For FROM: this table first."""
        return f"{self.table} CROSS JOIN {self.rest}"

    @property
    def is_of_messages(self) -> bool:
        """An entry of its index may be any number of rows."""
        return self.table.startswith("messages ")


def of_recipients(index: str, condition: Condition, *, in_order: bool = True) -> Stretch:
    """A stretch of an index of recipients."""
    return Stretch(f"recipients r INDEXED BY {index}", "messages m ON m.id = r.message", "r.at", condition, in_order)


def of_messages(index: str, condition: Condition, *, in_order: bool = True) -> Stretch:
    """A stretch of an index of messages."""
    rest = "recipients r INDEXED BY recipients_message ON r.message = m.id"
    return Stretch(f"messages m INDEXED BY {index}", rest, "m.at", condition, in_order)


EVERYTHING = of_recipients("recipients_at", Condition("1"))


def stretches(db: sqlite3.Connection, wanted: Filter) -> list[Stretch]:
    """The stretches to walk. Together they have every row that can fit; a row may be in several."""
    best, fewest = [EVERYTHING], SMALL
    for some in _choices(wanted):
        number = 0
        for stretch in some:
            number += length(db, stretch, wanted, fewest - number)
            if number >= fewest:
                break
        if number < fewest or (best == [EVERYTHING] and all(stretch.in_order for stretch in some)):
            best, fewest = some, min(number, fewest)
    return best


def few(db: sqlite3.Connection, wanted: Filter) -> list[Stretch] | None:
    """Stretches that have every row that can fit and are so short that all of them can be gathered; None when there are none."""
    return next((some for some in (stretches(db, wanted), [EVERYTHING]) if all_few(db, some, wanted)), None)


def all_few(db: sqlite3.Connection, some: list[Stretch], wanted: Filter) -> bool:
    """True when these stretches are short together."""
    return sum(length(db, stretch, wanted, SMALL) for stretch in some) < SMALL


def length(db: sqlite3.Connection, stretch: Stretch, wanted: Filter, most: int) -> int:
    """How many rows a stretch has, counted up to ``most``: of a message each recipient is one, and there may be thousands."""
    within = [stretch.condition, *(between(stretch.time, wanted.since, wanted.until) if stretch.in_order else ())]
    sql, values = joined(within)
    tables = stretch.tables if stretch.is_of_messages else stretch.table
    found = db.execute(f"SELECT count(*) FROM (SELECT 1 FROM {tables} WHERE {sql} LIMIT ?)", (*values, most))
    return int(found.fetchone()[0])


def between(column: str, since: int | None, until: int | None) -> list[Condition]:
    """The conditions that a time is not before ``since`` and before ``until``."""
    found = [] if since is None else [Condition(f"{column} >= ?", (since,))]
    return found if until is None else [*found, Condition(f"{column} < ?", (until,))]


def _choices(wanted: Filter) -> list[list[Stretch]]:
    found: list[list[Stretch]] = []
    if wanted.message is not None:
        one = Condition("r.message = ?", (wanted.message,))
        found.append([of_recipients("recipients_message", one, in_order=False)])
    if wanted.message_id is not None:
        one = Condition("m.id_hash = ?", (number_of(wanted.message_id),))
        found.append([of_messages("messages_id_hash", one, in_order=False)])
    received = None if wanted.to is None else _received(wanted.to)
    sent = None if wanted.sender is None else _sent(wanted.sender)
    if wanted.person is not None:
        as_either = _received(wanted.person), _sent(wanted.person)
        if as_either[0] is not None and as_either[1] is not None:
            found.append(as_either[0] + as_either[1])
    found += [some for some in (received, sent) if some is not None]
    if wanted.rule is not None:
        found.append([of_recipients("recipients_rule", Condition("r.rule = ?", (wanted.rule,)))])
    if wanted.grades:
        found.append([_graded(grade) for grade in wanted.grades])
    if wanted.states:
        found.append([of_recipients("recipients_state", Condition("r.state = ?", (one,))) for one in wanted.states])
    return found


def _received(wanted: str) -> list[Stretch] | None:
    ranges = key_ranges(wanted)
    if ranges is None:
        return None
    return [
        of_recipients("recipients_address", each.of("r.address_key"), in_order=each.high is None) for each in ranges
    ]


def _sent(wanted: str) -> list[Stretch] | None:
    ranges = key_ranges(wanted)
    if ranges is None:
        return None
    return [of_messages("messages_sender", each.of("m.sender_key"), in_order=each.high is None) for each in ranges]


def _graded(grade: str) -> Stretch:
    if grade == ATTESTED:
        return of_recipients("recipients_attested", Condition("r.attested > 0"))
    return of_recipients("recipients_grade", Condition("r.grade = ?", (grade,)))
