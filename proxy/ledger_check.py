"""What can be said of one entry and of one batch by itself: is it as it was written?

Called by :mod:`kaifu.proxy.ledger_verify` with rows as they stand in the file, whatever somebody made of them. Nothing here
fails, whatever it is given, except with sqlite3's errors.

A :class:`Finding` names the entry that it is about. Its text says nothing that is personal: no cell's value, no address.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from sqlite3 import Connection
from typing import Any, NamedTuple

from .ledger_entries import (
    CELLS_PER_ENTRY,
    SALT_LENGTH,
    VERSION,
    Entry,
    at_text,
    at_value,
    canonical,
    commitment,
    decode,
)
from .ledger_seal import MARK, Batch, Tree, head_of, leaf, skip

MOST_ENTRY = 1 << 42
"""Entries have numbers below this, so that those of their cells fit SQLite's integers."""
_RAW = "raw"


class Finding(NamedTuple):
    """Something that is not as it should be. ``entry``: the first one concerned, None when that cannot be said.

    ``what``: changed, removed, inserted, reordered, blanked, restored, erased (what was not due), cut, rewritten, derived, schema, index.
    """

    entry: int | None
    what: str
    text: str


class Checked(NamedTuple):
    """An entry, looked at by itself. ``entry`` None: it cannot be read. ``missing``: cells that are committed and not there."""

    findings: list[Finding]
    entry: Entry | None
    missing: list[str]


CellRow = tuple[int, Any, Any, Any]


def octets_of(text: str) -> bytes:
    """The octets of a text as read from a file in which it may be no UTF-8."""
    return text.encode("utf-8", "surrogateescape")


def leaf_of(text: object) -> bytes:
    """The leaf of a body as it stands in the file."""
    return leaf(octets_of(text) if isinstance(text, str) else b"")


def check_entry(number: int, message: object, text: object, cells: Sequence[CellRow]) -> Checked:
    """An entry with the rows of its cells."""
    findings: list[Finding] = []
    body = _body(text)
    wrong = "it is no entry in canonical form" if body is None else _frame(number, message, body)
    if wrong:
        findings.append(Finding(number, "changed", f"entry {number} was changed: {wrong}"))
    if body is None:
        return Checked(findings, None, [])
    committed: dict[str, str] = body.get("cells", {})
    values, bad, wrong_cells = _cells(number, committed, cells)
    findings += wrong_cells
    try:
        entry = decode(str(text), {name: value for name, value in values.items() if name != _RAW})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Checked(findings or [Finding(number, "changed", f"entry {number} cannot be read")], None, [])
    return Checked(findings, entry, [name for name in committed if name not in values and name not in bad])


def _body(text: object) -> dict[str, Any] | None:
    """The body of an entry; None unless it is one, in canonical form."""
    if not isinstance(text, str):
        return None
    try:
        body = json.loads(text)
        if canonical(body) != text or not isinstance(body, dict) or body["v"] != VERSION:
            return None
        if at_text(at_value(body["at"])) != body["at"] or not isinstance(body["kind"], str):
            return None
        cells = body.get("cells", {})
        if not isinstance(cells, dict) or not all(isinstance(each, str) for each in cells.values()):
            return None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    return body


def _frame(number: int, message: object, body: dict[str, Any]) -> str:
    if body.get("n") != number or type(body.get("n")) is not int:
        return f"it says that it is entry {body.get('n')}"
    if body.get("message") != message or type(body.get("message")) is not type(message):
        return "its row names another message than it does itself"
    return ""


def _cells(
    number: int, committed: dict[str, str], cells: Sequence[CellRow]
) -> tuple[dict[str, str | bytes], set[str], list[Finding]]:
    """The values of the cells that are as they were written, the names of the others, and what is wrong with them."""
    values: dict[str, str | bytes] = {}
    bad: set[str] = set()
    findings: list[Finding] = []
    names = sorted(committed)
    for row, name, salt, value in cells:
        place = row - number * CELLS_PER_ENTRY
        if place >= len(names):
            text = f"a cell of entry {number} was inserted: it has {len(names)}, and this is number {place + 1}"
            findings.append(Finding(number, "inserted", text))
        elif name == names[place] and _is_right(name, salt, value, committed[name]):
            values[name] = value
        else:
            bad.add(names[place])
            findings.append(Finding(number, "changed", f"the cell {names[place]} of entry {number} was changed"))
    return values, bad, findings


def _is_right(name: str, salt: object, value: object, committed: str) -> bool:
    if not isinstance(salt, bytes) or len(salt) != SALT_LENGTH:
        return False
    if name == _RAW:
        return isinstance(value, bytes) and commitment(name, salt, value) == committed
    return isinstance(value, str) and commitment(name, salt, octets_of(value)) == committed


class Cells:
    """The rows of the table ``cells`` of entries ``first`` to before ``end`` (None: to the last), in order."""

    def __init__(self, db: Connection, first: int, end: int | None) -> None:
        query = "SELECT id, name, salt, value FROM cells WHERE id >= ? AND id <= ? ORDER BY id"
        high = (1 << 63) - 1 if end is None else end * CELLS_PER_ENTRY - 1
        low = -(1 << 63) if first < 0 else first * CELLS_PER_ENTRY
        self._rows = db.execute(query, (low, high))
        self._next: CellRow | None = self._rows.fetchone()

    def before(self, number: int | None) -> Iterator[int]:
        """Entries before this one (None: all) that rows name which were not asked for; those rows are passed over."""
        last = None
        while self._next is not None and (number is None or self._next[0] < number * CELLS_PER_ENTRY):
            if self._next[0] >> 20 != last:
                last = self._next[0] >> 20
                yield last
            self._next = self._rows.fetchone()

    def of(self, number: int) -> list[CellRow]:
        """The rows of one entry."""
        found = []
        while self._next is not None and self._next[0] < (number + 1) * CELLS_PER_ENTRY:
            found.append(self._next)
            self._next = self._rows.fetchone()
        return found


class Marks:
    """The entries of one batch, compared with what the batch keeps of each."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self._tree = Tree()
        self._seen = bytearray()
        self._differs: int | None = None
        self._gap: int | None = None
        self._next = batch.first

    def add(self, number: int, found: bytes) -> None:
        """The next entry of the batch, and its leaf."""
        if number != self._next and self._gap is None:
            self._gap = self._next
        start = (number - self.batch.first) * MARK
        if self._differs is None and self.batch.marks[start : start + MARK] != found[:MARK]:
            self._differs = number
        self._tree.add(found)
        self._seen += found[:MARK]
        self._next = number + 1

    def finding(self, following: Callable[[], tuple[bytes, bytes]], *, fits: bool) -> Finding | None:
        """What is wrong, once all entries were added. ``following``: leaf and mark of the entry after the batch; ``fits``: the
        batch itself is as the chain says."""
        batch = self.batch
        if self._gap is None and self._next <= batch.last:
            self._gap = self._next
        if self._gap is not None and (self._differs is None or self._gap < self._differs):
            return Finding(self._gap, "removed", f"entry {self._gap} was removed")
        if self._tree.root() == batch.root:
            if bytes(self._seen) == batch.marks:
                return None
            return Finding(
                batch.first, "changed", f"batch {batch.id} was changed: its marks are not those of its entries"
            )
        if self._differs is not None:
            found, mark = following()
            return self._told(self._differs, bytes(self._seen) + found[:MARK], batch.marks + mark)
        if not fits:
            return None  # That is said already: it is the root that was changed.
        text = f"one of the entries {batch.first} to {batch.last} was changed: batch {batch.id} has another root"
        return Finding(batch.first, "changed", text)

    def _told(self, number: int, seen: bytes, marks: bytes) -> Finding:
        """What happened at the first entry that is not the one that was sealed there. (No entry is missing before it.)"""
        at = (number - self.batch.first) * MARK
        here, after_it = seen[at : at + MARK], seen[at + MARK : at + 2 * MARK]
        sealed, sealed_next = marks[at : at + MARK], marks[at + MARK : at + 2 * MARK]
        if here and here == sealed_next and after_it != sealed:
            return Finding(number, "removed", f"entry {number} was removed: the one after it stands in its place")
        if sealed and after_it == sealed and here != sealed_next:
            return Finding(number, "inserted", f"entry {number} was inserted: what was sealed there stands after it")
        places = [place for place in range(0, len(marks), MARK) if marks[place : place + MARK] == here]
        if places:
            text = f"entry {number} was put there: it was sealed as entry {self.batch.first + places[0] // MARK}"
            return Finding(number, "reordered", text)
        return Finding(number, "changed", f"entry {number} was changed: it is not what was sealed")


class Chain:
    """The batches in order, each compared with those before it as they stand in the file."""

    def __init__(self, start: bytes) -> None:
        self._heads = {0: start}
        self.id = self.last = 0

    def add(self, row: tuple[Any, ...]) -> tuple[Batch | None, list[Finding]]:
        """The next row of the table. None when it covers nothing that can be compared."""
        number, after = row[0], self.last + 1
        if not all(isinstance(value, int) for value in row[:3]) or not all(
            isinstance(value, bytes) for value in row[3:]
        ):
            self.id, self._heads = number, {}
            return None, [Finding(after, "changed", f"batch {number} was changed: it is no row that was ever written")]
        batch = Batch(*row)
        if batch.id <= 0:
            return None, [Finding(after, "inserted", f"batch {batch.id} was inserted")]
        findings = []
        if batch.id != self.id + 1:
            text = f"batch {self.id + 1}, which begins with entry {after}, was removed"
            findings.append(Finding(after, "removed", text))
        elif batch.first != after:
            text = f"batch {batch.id} was changed: it begins with entry {batch.first}, not {after}"
            findings.append(Finding(after, "changed", text))
        if not self._fits(batch):
            text = f"batch {batch.id} was changed: its head is not that of what it holds and of the chain before it"
            findings.append(Finding(max(after, min(batch.first, MOST_ENTRY)), "changed", text))
        usable = after <= batch.first <= batch.last < MOST_ENTRY
        self._keep(batch)
        if not usable:
            return None, findings or [Finding(after, "changed", f"batch {batch.id} was changed: it covers no entries")]
        self.last = batch.last
        return batch, findings

    @property
    def head(self) -> bytes:
        """Of the last batch; empty when it has none that was ever written."""
        return self._heads.get(self.id, b"")

    def _fits(self, batch: Batch) -> bool:
        """True also when it cannot be said, because what it hangs on was removed, which is said already."""
        previous, skipped = self._heads.get(batch.id - 1), self._heads.get(skip(batch.id))
        if previous is None or skipped is None:
            return True
        if not 0 < batch.first <= batch.last < 1 << 63:
            return False
        return head_of(batch.id, batch.first, batch.last, batch.root, previous, skipped) == batch.head

    def _keep(self, batch: Batch) -> None:
        """Remember the heads that later batches skip to: those of the numbers that begin like this one, in binary."""
        self.id = kept = batch.id
        wanted = {kept}
        while kept:
            kept = skip(kept)
            wanted.add(kept)
        self._heads[batch.id] = batch.head
        self._heads = {number: head for number, head in self._heads.items() if number in wanted}
