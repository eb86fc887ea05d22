"""A report as it is kept, line by line, readable and safe. Pure, without Textual; called by the dialog that shows reports.

Nothing is interpreted: fields (RFC 8098 3.1, RFC 3464 2.1) stand with their names in a column, what is none stands as it is. Octets that are no UTF-8, control characters and
their like are made visible; long lines are wrapped when they are laid out; of a large report the first :data:`MOST_OCTETS` and :data:`MOST_LINES` are shown, and it is said that
there is more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from kaifu.proxy.ledger_desk import Detail
from kaifu.proxy.ledger_entries import Entry

from .detail_words import KINDS, called
from .lines import Told
from .words import say

MOST_OCTETS = 200_000
MOST_LINES = 5_000
_FIELD = re.compile(r"([!-9;-~]{1,60}:)[ \t]?(.*)", re.DOTALL)


class Report(NamedTuple):
    """A report that is kept. ``entry``: its entry; ``at``: UTC microseconds; ``by``: who sent it, None once that is erased."""

    entry: int
    at: int
    what: str
    by: str | None
    octets: bytes


def reports_of(found: Detail, recipient: int) -> list[Report]:
    """The reports about a recipient, in order; then those that are of no recipient, and those that the message brought."""
    own, others = list[Report](), list[Report]()
    for entry in (*found.entries, *found.carried):
        octets = entry.cells.get("raw")
        if entry.kind == "evidence" and isinstance(octets, bytes):
            judged = found.judged.get(entry.number)
            mine = judged is not None and judged.recipient == recipient and entry.message == found.recipients[0].message
            if mine or judged is None or judged.recipient is None or entry in found.carried:
                (own if mine else others).append(_report(entry, octets))
    return own + others


def _report(entry: Entry, octets: bytes) -> Report:
    cell = entry.cells.get("report")
    by = cell.get("by") if isinstance(cell, dict) else None
    return Report(entry.number, entry.at, str(entry.body["evidence"]), None if by is None else str(by), octets)


def heading(report: Report) -> str:
    """Which report this is."""
    who = say("(erased)") if report.by is None else report.by
    what = say("{what} from {who}", what=called(KINDS, report.what), who=who)
    return say("{report}, entry {entry}, {n} octets", report=what, entry=report.entry, n=f"{len(report.octets):,}")


def told_report(octets: bytes) -> Iterator[Told]:
    """Its lines."""
    text = octets[:MOST_OCTETS].decode("utf-8", "backslashreplace")
    lines = text.replace("\r\n", "\n").split("\n", MOST_LINES)
    if lines and not lines[-1]:
        lines.pop()
    for line in lines[:MOST_LINES]:
        yield _line(line)
    if len(octets) > MOST_OCTETS or len(lines) > MOST_LINES:
        yield Told(say("This is only its beginning; kaifu receipts show --json has all of it."), style="bold")


def _line(line: str) -> Told:
    field = _FIELD.fullmatch(line)
    if field is not None:
        return Told(field[2], field[1])
    if line[:1] in (" ", "\t"):
        return Told(line[1:], " ", deep=1)
    return Told(line)
