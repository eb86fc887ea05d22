"""Has anybody changed the ledger? Recomputes entries, commitments, chain and derived tables, and says what that proves.

Called by ``kaifu ledger verify``, on a read-only connection, beside a relay that goes on writing: entries are read a few at a
time in short transactions; what was written meanwhile is caught up with; only the last bit and the comparison of the derived
tables share one transaction. Memory does not grow with the ledger; see :mod:`kaifu.proxy.ledger_compare` for the disk.

What it proves: without an anchor, that everything in the file agrees. Who can write the file can rewrite all of it so that it
agrees again, or cut its end off consistently; only an anchor (:mod:`kaifu.proxy.ledger_anchor`) that was kept elsewhere shows that,
for everything before it. Not covered, with or without: figures (``counts``), partial successes, evidence that matches nothing,
traces of mail under ``record: none``, the keys of digests (``secrets``); and whether what was recorded was true.

Fails with sqlite3's errors. Whatever somebody made of the rows, it ends with findings, not with an error.
"""

from __future__ import annotations

import heapq
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from .ledger_anchor import Anchor
from .ledger_check import MOST_ENTRY, CellRow, Cells, Chain, Finding, Marks, check_entry, leaf_of
from .ledger_compare import SOURCES, Beside, schema_differences, schema_finding
from .ledger_erased import Erased, ListedErasure
from .ledger_seal import MARK, Batch, genesis

NOT_COVERED = ("counts", "served", "unmatched", "traces", "secrets")
_AT_ONCE = 500
_FEW = 2000
_MOST_FINDINGS = 100
_MOST = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Report:
    """What was found. ``findings``: the first ones, in order of entries; ``problems``: how many there are in all.

    ``holding``: the anchors that agree, ``ledger``: its id, ``head``: of the last batch, ``erased``: entries that lack cells, ``erasures``: those on another
    ground than their age.
    """

    ledger: str
    entries: int
    batches: int
    cells: int
    erased: int
    problems: int
    findings: tuple[Finding, ...]
    holding: tuple[Anchor, ...]
    erasures: tuple[ListedErasure, ...]
    head: str = ""

    @property
    def intact(self) -> bool:
        return not self.problems

    @property
    def good_until(self) -> int:
        """The last entry before the first finding, which may name an entry that there never was; 0 when there is none."""
        known = [finding.entry for finding in self.findings if finding.entry is not None]
        return max(min(*known, self.entries + 1) - 1, 0) if known else self.entries


@dataclass
class _Found:
    """Findings, of which the first ones by entry are kept."""

    problems: int = 0
    kept: list[tuple[int, int, Finding]] = field(default_factory=list)
    order: Iterator[int] = field(default_factory=count)

    def add(self, findings: Iterable[Finding], *, before: bool = False, follows: bool = False) -> None:
        """``before``: says most of all that there is to say of an entry; ``follows``: may be nothing but a consequence of the
        others, which are named first."""
        for finding in findings:
            self.problems += 1
            entry = MOST_ENTRY if finding.entry is None else finding.entry
            key = 2 * entry - before + follows * 8 * MOST_ENTRY
            # The largest is at the top of the heap, to be dropped.
            heapq.heappush(self.kept, (-key, -next(self.order), finding))
            if len(self.kept) > _MOST_FINDINGS:
                heapq.heappop(self.kept)

    def first(self) -> tuple[Finding, ...]:
        return tuple(finding for _, _, finding in sorted(self.kept, key=lambda each: (-each[0], -each[1])))


def verify(
    db: sqlite3.Connection, anchors: Sequence[Anchor], now: int, progress: Callable[[int, int], None] = lambda *_: None
) -> Report:
    """Look at everything. ``now``: UTC microseconds; ``progress`` is told how many entries are done, and of how many."""
    before, db.text_factory = db.text_factory, _text
    beside = Beside(db)
    try:
        differing = schema_differences(db)
        if any(row[1] in SOURCES and row[0] != "index" for row in differing):
            return _unreadable([schema_finding(row) for row in differing])
        scan = _Scan(db, beside, now, progress)
        while not scan.catch_up():
            pass
        return scan.end(anchors)
    finally:
        beside.close()
        db.text_factory = before


def _unreadable(findings: list[Finding]) -> Report:
    """Where the tables of the entries are not those that were made, nothing can be said of what is in them."""
    return Report("", 0, 0, 0, 0, len(findings), tuple(findings[:_MOST_FINDINGS]), (), ())


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "surrogateescape")


@contextmanager
def _reading(db: sqlite3.Connection) -> Iterator[None]:
    """One read transaction, unless there is one."""
    if db.in_transaction:
        yield
        return
    db.execute("BEGIN")
    try:
        yield
    finally:
        db.execute("ROLLBACK")


class _Scan:
    """Goes through batches, entries and cells in order."""

    def __init__(self, db: sqlite3.Connection, beside: Beside, now: int, progress: Callable[[int, int], None]) -> None:
        self._db = db
        self._beside = beside
        self._progress = progress
        self._found = _Found()
        self._erased = Erased(db, beside.db, now)
        row = db.execute("SELECT ledger FROM identity").fetchone()
        self.ledger = row[0] if row is not None and isinstance(row[0], bytes) else b""
        if len(self.ledger) != 16:
            self._found.add([Finding(1, "changed", "the ledger's id was changed or removed")])
        self._chain = Chain(genesis(self.ledger))
        self._next_batch = -_MOST - 1
        self._entry = -MOST_ENTRY
        self._limit, self._stuck, self._broken = 0, False, False
        self._read: deque[tuple[int, bytes]] = deque()
        self.batches = self.entries = self.cells = 0

    def catch_up(self) -> bool:
        """Go as far as the ledger is now. True when little is left: then a transaction is open in which to :meth:`end` it."""
        self._db.execute("BEGIN")
        query = "SELECT coalesce(max(id), 0) FROM entries WHERE id < ?"
        (self._limit,) = self._db.execute(query, (MOST_ENTRY,)).fetchone()
        (newest,) = self._db.execute("SELECT coalesce(max(id), 0) FROM batches").fetchone()
        if self._limit - max(self._entry, 0) <= _FEW or self._stuck:
            return True
        self._db.execute("ROLLBACK")
        before = self._entry
        self._until(newest)
        self._stuck = self._entry == before
        return False

    def _until(self, last: int) -> None:
        """All batches up to this one, with their entries."""
        query = "SELECT id, first, last, root, head, marks FROM batches WHERE id >= ? AND id <= ? ORDER BY id LIMIT ?"
        while self._next_batch <= last:
            rows = self._db.execute(query, (self._next_batch, last, _AT_ONCE)).fetchall()
            for row in rows:
                self._batch(row)
            if not rows:
                return

    def _batch(self, row: tuple[Any, ...]) -> None:
        self._next_batch = row[0] + 1
        self.batches += 1
        batch, findings = self._chain.add(row)
        self._break(findings)
        if batch is None:
            return
        for number, _ in self._entries(batch.first - 1):
            if not findings:
                self._uncovered(number)
        marks = Marks(batch)
        for number, found in self._entries(batch.last):
            marks.add(number, found)
        finding = marks.finding(lambda: self._after(batch), fits=not findings)
        if finding is not None:
            self._break([finding])

    def _break(self, findings: Iterable[Finding]) -> None:
        """Entries are not what they were: what they say about others may not be true."""
        for finding in findings:
            self._found.add([finding], before=True)
            self._broken = True

    def _uncovered(self, number: int) -> None:
        self._break(
            [Finding(number, "inserted", f"entry {number} was inserted, or its batch removed: it is in no batch")]
        )

    def _after(self, batch: Batch) -> tuple[bytes, bytes]:
        """Of the entry after a batch: its leaf as it is, and its mark as it was sealed."""
        entry = self._db.execute("SELECT body FROM entries WHERE id = ?", (batch.last + 1,)).fetchone()
        sealed = self._db.execute("SELECT marks FROM batches WHERE id = ?", (batch.id + 1,)).fetchone()
        mark = sealed[0][:MARK] if sealed is not None and isinstance(sealed[0], bytes) else b""
        return b"" if entry is None else leaf_of(entry[0]), mark

    def _entries(self, last: int) -> Iterator[tuple[int, bytes]]:
        """Number and leaf of each entry up to this one."""
        while True:
            while self._read and self._read[0][0] <= last:
                yield self._read.popleft()
            if self._read or self._entry >= min(last, self._limit) or not self._read_more():
                return

    def _read_more(self) -> bool:
        """Look at the next entries with their cells, in one short transaction."""
        query = "SELECT id, message, body FROM entries WHERE id > ? AND id <= ? ORDER BY id LIMIT ?"
        with _reading(self._db):
            rows = self._db.execute(query, (self._entry, self._limit, _AT_ONCE)).fetchall()
            if rows:
                cells = Cells(self._db, self._entry + 1, rows[-1][0] + 1)
                for number, message, text in rows:
                    self._orphans(cells.before(number))
                    self._look_at(number, message, text, cells.of(number))
        self._progress(self.entries, self._limit)
        return bool(rows)

    def _look_at(self, number: int, message: object, text: object, cells: list[CellRow]) -> None:
        self._entry = number
        self.entries += 1
        self.cells += len(cells)
        self._read.append((number, leaf_of(text)))
        findings, entry, missing = check_entry(number, message, text, cells)
        self._found.add(findings)
        if missing:
            self._erased.missing(number, missing)
        if entry is None or entry.number != number:
            self._broken = True
            self._beside.stop(number)
        else:
            self._found.add(self._erased.look_at(entry))
            self._beside.add(entry)

    def _orphans(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            text = f"a cell of entry {number} was inserted, or its entry removed: there is no such entry"
            self._found.add([Finding(number, "inserted", text)])

    def end(self, anchors: Sequence[Anchor]) -> Report:
        """The rest, in the transaction that is open: what came last, and what concerns all of it."""
        db, found = self._db, self._found
        try:
            self._until(_MOST)
            for number, _ in self._entries(MOST_ENTRY):
                self._uncovered(number)
            for (number,) in db.execute("SELECT id FROM entries WHERE id >= ? OR id <= ?", (MOST_ENTRY, -MOST_ENTRY)):
                self._uncovered(number)
            self._orphans(Cells(db, self._entry + 1, None).before(None))
            found.add(self._erased.findings(), follows=self._broken)
            found.add(self._beside.findings(), follows=True)
            holding = [anchor for anchor in anchors if self._holds(anchor, anchors)]
            return Report(
                ledger=self.ledger.hex(),
                entries=self.entries,
                batches=self.batches,
                cells=self.cells,
                erased=self._erased.entries,
                problems=found.problems,
                findings=found.first(),
                holding=tuple(holding),
                erasures=tuple(self._erased.listed),
                head=self._chain.head.hex(),
            )
        finally:
            db.execute("ROLLBACK")

    def _holds(self, anchor: Anchor, anchors: Sequence[Anchor]) -> bool:
        wrong = self._wrong_with(anchor, anchors)
        if wrong is not None:
            self._found.add([wrong])
        return wrong is None

    def _wrong_with(self, anchor: Anchor, anchors: Sequence[Anchor]) -> Finding | None:
        if anchor.ledger != self.ledger:
            text = f"the anchor of {anchor.at} is of another ledger ({anchor.ledger.hex()}); this one is {self.ledger.hex()}"
            return Finding(1, "rewritten", text)
        row = self._head(anchor)
        if row == (anchor.last, anchor.head):
            return None
        # What an earlier anchor agrees with was not touched.
        sound = [
            each.last for each in anchors if each.ledger == self.ledger and self._head(each) == (each.last, each.head)
        ]
        after = max([last for last in sound if last < anchor.last], default=0) + 1
        if row is None:
            text = (
                f"the end was cut off: at {anchor.at} the ledger had {anchor.last} entries in {anchor.batch} batches,"
                f" now it ends with entry {self._chain.last} in batch {self._chain.id}"
            )
            return Finding(min(self._chain.last + 1, anchor.last), "cut", text)
        text = f"something from entry {after} to entry {anchor.last} was rewritten since {anchor.at}"
        return Finding(after, "rewritten", f"{text}: batch {anchor.batch} has another head than the anchor")

    def _head(self, anchor: Anchor) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = self._db.execute(
            "SELECT last, head FROM batches WHERE id = ?", (anchor.batch,)
        ).fetchone()
        return row
