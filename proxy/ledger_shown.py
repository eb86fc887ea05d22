"""Rows of the ledger as people and programs see them: JSON, CSV, and a table for a terminal.

Used by ``kaifu receipts list`` and ``export``. The keys of :func:`as_object` are stable, programs rely on them; keys may be
added. What came from mail is made safe for where it goes: escapes and control characters are made visible on a terminal,
and a spreadsheet never takes a cell for a formula.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from datetime import tzinfo
from typing import Any, TextIO

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .display import json_line, visible
from .ledger import Outcome
from .ledger_entries import moment_of
from .ledger_read import Row
from .ledger_states import State, mark, transport_shown


def utc(at: int | None) -> str | None:
    """A time for programs: RFC 3339, UTC, whole seconds."""
    return None if at is None else moment_of(at).strftime("%Y-%m-%dT%H:%M:%SZ")


def local(at: int, zone: tzinfo, *, seconds: bool = False) -> str:
    """A time for people, in their zone."""
    return moment_of(at).astimezone(zone).strftime("%Y-%m-%d %H:%M:%S" if seconds else "%Y-%m-%d %H:%M")


def as_object(row: Row) -> dict[str, Any]:
    """One row for programs."""
    standing = row.standing
    return {
        "id": row.message,
        "recipient": row.recipient,
        "message_id": row.message_id,
        "kind": row.kind,
        "direction": row.direction,
        "from": row.sender,
        "to": row.address,
        "subject": row.subject,
        "sent_at": utc(row.sent_at),
        "recorded_at": utc(row.at),
        "rule": row.rule,
        "reason": row.reason,
        "would": row.would,
        "request": row.request,
        "asked_by": row.asked_by,
        "report_asked_by": row.report_asked_by,
        "state": row.state,
        "transport": transport_shown(standing),
        "handling": standing.handling,
        "outcome": row.outcome,
        "failed_at": utc(standing.failed_at),
        "delivered_at": utc(standing.delivered_at),
        "displayed_at": utc(standing.displayed_at),
        "replied_at": utc(standing.replied_at),
        "attested": row.attested,
    }


COLUMNS = (
    *("id recipient message_id kind direction from to subject sent_at recorded_at rule reason would request".split()),
    *("asked_by report_asked_by state transport handling outcome failed_at delivered_at displayed_at".split()),
    *("replied_at attested".split()),
)


def harmless(value: object) -> str:
    """A CSV cell that no spreadsheet takes for a formula, on one line."""
    if value is None:
        return ""
    text = str(value)
    if isinstance(value, str) and text[:1] in ("=", "+", "-", "@", "\t", "\r", "\n", "\0"):
        text = "'" + text
    return visible(text)


def write_csv(rows: Iterable[Row], stream: TextIO) -> int:
    """All rows as CSV (RFC 4180, UTF-8) with a header line; returns how many."""
    return csv_objects(map(as_object, rows), COLUMNS, stream)


def write_json(rows: Iterable[Row], stream: TextIO) -> int:
    """All rows as JSON, one object per line; returns how many."""
    return json_objects(map(as_object, rows), stream)


def csv_objects(objects: Iterable[dict[str, Any]], columns: Sequence[str], stream: TextIO) -> int:
    """Objects with these keys as CSV with a header line; returns how many."""
    writer = csv.writer(stream, lineterminator="\r\n")
    writer.writerow(columns)
    number = 0
    for each in objects:
        writer.writerow([harmless(value) for value in each.values()])
        number += 1
    return number


def json_objects(objects: Iterable[dict[str, Any]], stream: TextIO) -> int:
    """Objects as JSON, one per line; returns how many."""
    number = 0
    for each in objects:
        stream.write(json_line(each) + "\n")
        number += 1
    return number


_REPORTS = {"mdn": "receipt", "dsn": "report"}
_STYLES = {"✓✓": "green", "vv": "green", "✗": "red", "x": "red"}
_WIDE = 110
_TITLES = ("ID", "Sent", "", "Receipt", "From", "To", "Subject", "Rule")
_SHARES = (0, 0, 0, 0, 3, 3, 4, 3)
"""Of the width that is left, how much a column gets; 0: as much as it needs."""


def table(rows: Iterable[Row], console: Console, zone: tzinfo, marks: str) -> None:
    """All rows as a table: mark and words, who to whom, subject, rule. Nothing in it is taken for markup.

    On a terminal no line is longer than the terminal is wide, so all rows are read first; else nothing is cut.
    """
    wide = console.width >= _WIDE
    cells = [_cells(row, zone, marks, wide) for row in rows]
    shown = Table(box=box.SIMPLE_HEAD if marks == "unicode" else None, pad_edge=False, padding=(0, 1, 0, 0))
    widths = _widths(cells, console.width, wide) if console.is_terminal else [None] * len(_TITLES)
    for place, title in enumerate(_TITLES[: 8 if wide else 7]):
        shown.add_column(title, justify="right" if place == 0 else "left", width=widths[place], no_wrap=True)
    for line in cells:
        style = _STYLES.get(line[2], "")
        shown.add_row(*(Text(cell, style if place in (2, 3) else "") for place, cell in enumerate(line)))
    console.print(shown)


def _cells(row: Row, zone: tzinfo, marks: str, wide: bool) -> list[str]:
    sign, words = mark(row.state, row.request, style=marks)
    sent = local(row.sent_at, zone)
    cells = [str(row.message), sent if wide else sent[5:], sign, _words(row, words)]
    cells += [visible(text or "") for text in (row.sender, row.address, row.subject)]
    return [*cells, visible(row.rule or "")] if wide else cells


def _words(row: Row, words: str) -> str:
    """The words beside the mark. An outcome that must not be overlooked stands in their place, or with them."""
    if row.state == State.NOT_ASKED and row.kind in _REPORTS:
        words = _REPORTS[row.kind]
    if row.outcome in (Outcome.WITHHELD, Outcome.DEFERRED, Outcome.REFUSED):
        unanswered = row.state in (State.NOT_ASKED, State.WAITING, State.FAILED)
        words = row.outcome if unanswered else f"{words}, {row.outcome}"
    return f"{words} (noted)" if row.attested else words


def _widths(cells: list[list[str]], width: int, wide: bool) -> list[int | None]:
    """Columns that a terminal has room for: the short ones in full, the long ones share the rest."""
    shares = _SHARES[: 8 if wide else 7]
    found: list[int | None] = [
        None if share else max([cell_len(title), *(cell_len(line[place]) for line in cells)])
        for place, (share, title) in enumerate(zip(shares, _TITLES, strict=False))
    ]
    left = width - sum(fixed or 0 for fixed in found) - 2 * len(shares)
    total = sum(shares)
    return [max(6, left * share // total) if share else fixed for share, fixed in zip(shares, found, strict=True)]
