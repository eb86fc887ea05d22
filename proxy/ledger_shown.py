"""Rows of the ledger as people and programs see them: JSON, CSV, and a table for a terminal.

Used by ``kaifu receipts list`` and ``export``. The keys of :func:`as_object` are stable, programs rely on them; keys may be
added. What came from mail is made safe for where it goes: escapes and control characters are made visible on a terminal,
and a spreadsheet never takes a cell for a formula.

The grade of a confirmation always stands beside it. Beneath a recipient stands who answered in its place or, of a list, all
who did, and what came that does not count: an answer of an address that nobody paired, one below the grade that the rule asks
for, or one under the asked address that failed authentication. Beneath the last recipient of a message stand answers of
which nobody knows for whom they are.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from datetime import tzinfo
from itertools import groupby
from typing import Any, TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from .display import json_line, visible
from .ledger import EvidenceKind, Grade, Outcome, Verdict
from .ledger_answerers import Answer
from .ledger_entries import moment_of
from .ledger_read import Row
from .ledger_states import Handling, State, mark, transport_shown


def utc(at: int | None) -> str | None:
    """A time for programs: RFC 3339, UTC, whole seconds."""
    return None if at is None else moment_of(at).strftime("%Y-%m-%dT%H:%M:%SZ")


def local(at: int, zone: tzinfo, *, seconds: bool = False) -> str:
    """A time for people, in their zone."""
    return moment_of(at).astimezone(zone).strftime("%Y-%m-%d %H:%M:%S" if seconds else "%Y-%m-%d %H:%M")


def as_object(row: Row) -> dict[str, Any]:
    """One row for programs. What one mailbox of a list did is not what the recipient did: it stands in ``answered_by`` alone."""
    standing = row.standing
    if row.is_list:
        standing = standing._replace(handling=Handling.NONE.value, grade=None, displayed_at=None, replied_at=None)
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
        "confirm": row.confirm or Grade.CLAIMED.value,
        "grade": standing.grade,
        "list": row.is_list,
        "answered": row.answering,
        "answered_by": [_answer(row, one) for one in row.answers if one.counts],
        "not_counted": [_answer(row, one) for one in row.answers if not one.counts],
        "recipient_unknown": [_answer(row, one) for one in row.recipient_unknown],
        "unmatched": row.unmatched,
    }


def _answer(row: Row, one: Answer) -> dict[str, Any]:
    return {
        "address": name_of(row, one),
        "value": value_of(one),
        "grade": one.grade,
        "verdict": one.verdict,
        "at": utc(one.at),
    }


def name_of(row: Row, one: Answer) -> str | None:
    """Who answered; None when that was erased."""
    return one.address or (row.address if one.own else None)


def value_of(one: Answer) -> str:
    """What was answered, in the words of the state that it makes."""
    return State.REPLIED.value if one.kind == EvidenceKind.REPLY else one.value


COLUMNS = (
    *("id recipient message_id kind direction from to subject sent_at recorded_at rule reason would request".split()),
    *("asked_by report_asked_by state transport handling outcome failed_at delivered_at displayed_at".split()),
    *("replied_at attested confirm grade list answered answered_by not_counted recipient_unknown".split()),
    "unmatched",
)


def harmless(value: object) -> str:
    """A CSV cell that no spreadsheet takes for a formula, on one line."""
    if value is None:
        return ""
    if isinstance(value, list):
        value = "; ".join(
            f"{one['address'] or '(erased)'} ({one['value']}, {believed(one['grade'], one['verdict'])})"
            for one in value
        )
    text = str(value).lower() if isinstance(value, bool) else str(value)
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
MOST_NAMED = 5
"""Lines beneath a recipient in a table; ``show`` tells all."""
_NOT_COUNTED = "?"
_HINT = (
    f"{_NOT_COUNTED}  does not count: {{kaifu}} receipts show ID says why. What another address answers counts once somebody pairs the two:"
    " {kaifu} receipts pair ID --to RECIPIENT --with ADDRESS"
)
_HINT_FOR_WHOM = (
    "for whom?  The message went to several, and the answer does not say for which of them it is: pairing says it."
)
_FOR_WHOM = ", for whom?"
_TITLES = ("ID", "Sent", "", "Receipt", "From", "To", "Subject", "Rule")
_TO = _TITLES.index("To")
_GAP = "  "
_SHARES = (0, 0, 0, 0, 3, 3, 4, 3)
"""Of the width that is left, how much a column gets; 0: as much as it needs."""


def table(rows: Iterable[Row], console: Console, zone: tzinfo, marks: str, kaifu: str = "kaifu") -> None:
    """All rows as a table: mark and words, who to whom, subject, rule. Nothing in it is taken for markup.

    ``kaifu``: how the commands begin that it tells. On a terminal no line is longer than the terminal is wide; else nothing is cut.
    So all rows are read first.
    """
    wide = console.width >= _WIDE
    cells: list[list[str]] = []
    for _, of_one in groupby(rows, lambda row: row.message):
        for row in of_one:
            cells += [_cells(row, zone, marks, wide), *_beneath(row, marks, wide)]
        cells += _beneath_all(row, marks, wide)
    widths = _widths(cells, console.width if console.is_terminal else None, wide)
    titles = _TITLES[: len(widths)]
    console.print()
    console.print(_line(titles, widths, marks), no_wrap=True)
    if marks == "unicode":
        console.print(" " + "─" * (sum(widths) + len(_GAP) * (len(widths) - 1)), no_wrap=True)
    for line in cells:
        console.print(_line(line, widths, marks) if line[0] else _line_beneath(line, widths, marks), no_wrap=True)
    console.print()
    if any(line[2] == _NOT_COUNTED for line in cells):
        console.print(_HINT.format(kaifu=kaifu))
    if any(line[2] == _NOT_COUNTED and line[_TO].endswith(_FOR_WHOM) for line in cells):
        console.print(_HINT_FOR_WHOM)


def _cells(row: Row, zone: tzinfo, marks: str, wide: bool) -> list[str]:
    sign, words = marked(row, marks)
    sent = local(row.sent_at, zone)
    cells = [str(row.message), sent if wide else sent[5:], sign, _words(row, words)]
    cells += [visible(text or "") for text in (row.sender, row.address, row.subject)]
    return [*cells, visible(row.rule or "")] if wide else cells


def _beneath(row: Row, marks: str, wide: bool) -> list[list[str]]:
    """Lines without a number: who answered other than the recipient itself, and what does not count."""
    named = [one for one in row.answers if row.is_list or not one.own or not one.counts]
    lines = [
        (
            "" if one.counts else _NOT_COUNTED,
            remark(one) if row.is_list or not one.counts else "answered by",
            visible(name_of(row, one) or "(erased)"),
        )
        for one in named
    ]
    return _lines(lines, marks, wide)


def _beneath_all(row: Row, marks: str, wide: bool) -> list[list[str]]:
    """Likewise, beneath the last recipient of a message: answers of which nobody knows for whom they are."""
    return _lines(
        [
            (_NOT_COUNTED, remark(one), f"{visible(one.address or '(erased)')}{_FOR_WHOM}")
            for one in row.recipient_unknown
        ],
        marks,
        wide,
    )


def _lines(lines: Sequence[tuple[str, str, str]], marks: str, wide: bool) -> list[list[str]]:
    """The cells of lines beneath a row, each given as sign, words and name; the first ones, and how many more there are."""
    arrow = "↳ " if marks == "unicode" else "> "
    more = [("", "", f"and {len(lines) - MOST_NAMED} more")] if len(lines) > MOST_NAMED else []
    return [
        ["", "", sign, words, "", arrow + name, "", *([""] if wide else [])]
        for sign, words, name in (*lines[:MOST_NAMED], *more)
    ]


def remark(one: Answer) -> str:
    """What one mailbox answered, and how far that is believed."""
    return f"{value_of(one)} ({believed(one.grade, one.verdict)})"


def believed(grade: str, verdict: str) -> str:
    """How far an answer is believed, in words."""
    return "failed authentication" if verdict == Verdict.FAILED_AUTHENTICATION else grade


def marked(row: Row, style: str) -> tuple[str, str]:
    """The mark of a row and the words beside it, with the grade; of a list, how many answered."""
    if not row.is_list:
        return mark(row.state, row.request, style=style, grade=row.standing.grade)
    sign, words = mark(row.state, row.request, style=style, answered=row.answering)
    grades = {one.grade for one in row.answers if one.counts}
    if not grades:
        return sign, words
    return sign, f"{words} ({grades.pop() if len(grades) == 1 else 'mixed'})"


def _words(row: Row, words: str) -> str:
    """The words beside the mark. An outcome that must not be overlooked stands in their place, or with them."""
    if row.state == State.NOT_ASKED and row.kind in _REPORTS:
        words = _REPORTS[row.kind]
    if row.outcome in (Outcome.WITHHELD, Outcome.DEFERRED, Outcome.REFUSED):
        unanswered = row.state in (State.NOT_ASKED, State.WAITING, State.FAILED)
        words = row.outcome if unanswered else f"{words}, {row.outcome}"
    if row.unmatched:
        words = f"{words}, no match"
    return f"{words} (noted)" if row.attested else words


def _widths(cells: list[list[str]], width: int | None, wide: bool) -> list[int]:
    """Columns that a terminal has room for, its last one left free: the short ones in full, the long ones share the rest.

    ``width`` None: nothing is cut.
    """
    shares = _SHARES[: 8 if wide else 7]
    found = [
        None if share and width is not None else max([cell_len(title), *(cell_len(line[place]) for line in cells)])
        for place, (share, title) in enumerate(zip(shares, _TITLES, strict=False))
    ]
    left = (width or 0) - sum(fixed or 0 for fixed in found) - len(_GAP) * len(shares)
    total = sum(shares)
    return [
        max(6, left * share // total) if fixed is None else fixed for share, fixed in zip(shares, found, strict=True)
    ]


def _line(cells: Sequence[str], widths: Sequence[int], marks: str) -> Text:
    """A row, or the titles, each cell cut to its column."""
    style = _STYLES.get(cells[2], "")
    line = Text(" ")
    for place, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        text = _cut(Text(cell, style if place in (2, 3) else ""), width, marks)
        text.align("right" if place == 0 else "left", width)
        line.append_text(text).append(_GAP if place < len(widths) - 1 else "")
    return line


def _line_beneath(cells: Sequence[str], widths: Sequence[int], marks: str) -> Text:
    """A line beneath a row. The name begins under the recipient, or as far before as it must to stand there whole."""
    starts = [1 + sum(widths[:place]) + len(_GAP) * place for place in range(len(widths) + 1)]
    end, name = starts[-1] - len(_GAP), cells[_TO]
    line = Text(" " * starts[2] + f"{cells[2]:<{widths[2]}}{_GAP}{cells[3]}", "dim")
    line.pad_right(max(starts[_TO - 1], min(starts[_TO], end - cell_len(name))) - line.cell_len)
    return line.append_text(_cut(Text(name, "dim"), end - line.cell_len, marks))


def _cut(text: Text, width: int, marks: str) -> Text:
    text.truncate(max(width, 0), overflow="ellipsis" if marks == "unicode" else "crop")
    return text
