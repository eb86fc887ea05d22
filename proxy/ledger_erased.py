"""Was what is missing erased as it may be? Missing cells against the erasures that are on record.

Called by :mod:`kaifu.proxy.ledger_verify`: with each entry, with the names of the cells that an entry lacks, and at the end for its
judgement. What must be remembered lies in two tables of a temporary database, and is gone through once, in order of entries.

A cell may be missing when a later entry of the kind ``erasure`` names it; on the ground ``retention`` only if its time was over
(:class:`kaifu.proxy.ledger_erasure.Retention`), and never while its message was on hold. A cell that an erasure names must be missing.
An erasure for age may not be dated later than now, nor, by more than a day (clocks are set), than what was written after it: else its
date could be made to fit. Erasures on other grounds than age are a person's decision, and are listed. Fails with sqlite3's errors.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from typing import Any, NamedTuple

from .ledger_check import Finding
from .ledger_entries import CELLS_PER_ENTRY, Entry, at_text
from .ledger_erasure import DAY, GROUNDS, RETENTION, Retention
from .ledger_holds import ranges_of

_MOST_LISTED = 1000
_FAULTS = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)


class ListedErasure(NamedTuple):
    """An erasure on another ground than age: its entry, when, why, and how many entries it names."""

    entry: int
    at: str
    ground: str
    entries: int


class _Erasure(NamedTuple):
    first: int
    last: int
    entry: int
    at: int
    ground: str
    names: str | None


class Erased:
    """Collects, then judges. ``ledger``: where entries and cells are; ``beside``: a database for what must be remembered."""

    def __init__(self, ledger: sqlite3.Connection, beside: sqlite3.Connection, now: int) -> None:
        self._ledger = ledger
        self._beside = beside
        self._now = now
        self._latest: tuple[int, int] | None = None
        self.listed: list[ListedErasure] = []
        self.entries = 0
        beside.execute("CREATE TABLE missing (entry INTEGER PRIMARY KEY, names TEXT NOT NULL)")
        beside.execute(
            "CREATE TABLE erasures (first INTEGER, last INTEGER, entry INTEGER, at INTEGER, ground TEXT, names TEXT)"
        )
        beside.execute("CREATE INDEX erasures_first ON erasures (first)")

    def missing(self, entry: int, names: list[str]) -> None:
        """An entry lacks these cells."""
        self.entries += 1
        self._beside.execute("INSERT OR REPLACE INTO missing VALUES (?,?)", (entry, json.dumps(names)))

    def look_at(self, entry: Entry) -> list[Finding]:
        """An entry, in order; what is wrong with the date or the form of an erasure."""
        findings = []
        if self._latest is not None and entry.at < self._latest[1] - DAY:
            number, at = self._latest
            text = f"the erasure of entry {number} is dated {at_text(at)}, later than entry {entry.number} after it"
            findings.append(Finding(number, "erased", text))
            self._latest = None
        if entry.kind == "erasure":
            try:
                self._remember(entry)
            except _FAULTS as error:
                text = f"the erasure of entry {entry.number} makes no sense: {error!r}"
                return [*findings, Finding(entry.number, "erased", text)]
            if entry.body["ground"] == RETENTION and entry.at > self._now + DAY:
                text = f"the erasure of entry {entry.number} is dated {at_text(entry.at)}, which is still to come"
                findings.append(Finding(entry.number, "erased", text))
            if entry.body["ground"] == RETENTION and (self._latest is None or entry.at > self._latest[1]):
                self._latest = entry.number, entry.at
        return findings

    def _remember(self, entry: Entry) -> None:
        body = entry.body
        names, ground, ranges = body.get("names"), body["ground"], ranges_of(body["entries"])
        if ground not in GROUNDS or not (names is None or all(isinstance(name, str) for name in names)):
            raise ValueError("its ground or the names of its cells are none")
        rows = [
            (first, last, entry.number, entry.at, ground, None if names is None else json.dumps(names))
            for first, last in ranges
        ]
        self._beside.executemany("INSERT INTO erasures VALUES (?,?,?,?,?,?)", rows)
        if ground != RETENTION and len(self.listed) < _MOST_LISTED:
            count = sum(last - first + 1 for first, last in ranges)
            self.listed.append(ListedErasure(entry.number, at_text(entry.at), ground, count))

    def findings(self) -> Iterator[Finding]:
        """What is missing and should not be, and what is there and should not be. The derived ``holds`` must be complete."""
        retention = Retention(self._ledger)
        active: list[_Erasure] = []
        erasures = map(_Erasure._make, self._beside.execute("SELECT * FROM erasures ORDER BY first, entry"))
        upcoming = next(erasures, None)
        for number, names in self._beside.execute("SELECT entry, names FROM missing ORDER BY entry"):
            while upcoming is not None and upcoming.first <= number:
                active.append(upcoming)
                upcoming = next(erasures, None)
            active = [erasure for erasure in active if erasure.last >= number]
            later = [erasure for erasure in active if erasure.entry > number]
            try:
                yield from self._judge(number, json.loads(names), later, retention)
            except _FAULTS:
                text = f"cells of entry {number} were blanked: whether they were due cannot be read any more"
                yield Finding(number, "blanked", text)
        yield from self._restored()

    def _judge(self, number: int, names: list[str], later: list[_Erasure], retention: Retention) -> Iterator[Finding]:
        (text,) = self._ledger.execute("SELECT body FROM entries WHERE id = ?", (number,)).fetchone()
        body: dict[str, Any] = json.loads(text)
        if not isinstance(body.get("message"), int | None):
            raise TypeError("a message has a number")
        for name in names:
            naming = [each for each in later if each.names is None or name in json.loads(each.names)]
            if not naming:
                text = f"the cell {name} of entry {number} was blanked: it is missing, and no erasure names it"
                yield Finding(number, "blanked", text)
                continue
            faults = [self._fault(body, name, each, retention) for each in naming]
            if all(faults):
                text = f"the cell {name} of entry {number} was erased by entry {naming[0].entry}, and {faults[0]}"
                yield Finding(number, "erased", text)

    def _fault(self, body: dict[str, Any], name: str, erasure: _Erasure, retention: Retention) -> str | None:
        """Why an erasure should not have erased a cell."""
        query = "SELECT entry FROM holds WHERE message = ? AND entry < ? AND (released IS NULL OR released > ?)"
        held = self._beside.execute(query, (body.get("message"), erasure.entry, erasure.entry)).fetchone()
        if held is not None:
            return f"message {body['message']} was on hold since entry {held[0]}"
        if erasure.ground != RETENTION:
            return None
        due = retention.due(body, name)
        if due is None:
            return "no retention is recorded for it"
        return f"it was not due before {at_text(due)}" if due > erasure.at else None

    def _restored(self) -> Iterator[Finding]:
        query = "SELECT id, name FROM cells WHERE id >= ? AND id <= ?"
        for first, last, entry, _, _, names in self._beside.execute("SELECT * FROM erasures ORDER BY first"):
            wanted = None if names is None else set(json.loads(names))
            end = min(last, entry - 1)
            if not 0 < first <= end:
                continue
            for row, name in self._ledger.execute(query, (first * CELLS_PER_ENTRY, (end + 1) * CELLS_PER_ENTRY - 1)):
                if wanted is None or name in wanted:
                    text = f"the cell {name} of entry {row >> 20} is back: entry {entry} had erased it"
                    yield Finding(row >> 20, "restored", text)
