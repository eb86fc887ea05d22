"""A row of the list of receipts as cells of columns, and what is told of the row under the cursor. Pure; widths are in cells.

Called by the widget of the list (:mod:`kaifu.tui.receipts_list`) for each line that is drawn. 80 columns have room for what became of it, when,
from whom, to whom and the subject; wider terminals show more. Whatever came from mail is made visible and cut to its column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo

from rich.cells import cell_len

from kaifu.proxy.ledger_desk import Row
from kaifu.proxy.ledger_shown import local, name_of
from kaifu.proxy.ledger_states import State, transport_shown

from .detail_words import ACTIONS, DIRECTIONS, called
from .look import Marks, fitted
from .statewords import marked
from .words import later, say, say_many

ERASED = later("(erased)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TRANSPORTS = ACTIONS | {"unknown": ""}


@dataclass(frozen=True, slots=True)
class Column:
    """``name``: which; ``title``: above it; ``width``: in cells."""

    name: str
    title: str
    width: int


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of a list, each followed by ``gap`` blanks but the last."""

    columns: tuple[Column, ...]
    gap: int

    def joined(self, cells: Sequence[str]) -> str:
        """Cells that have the widths of their columns, as one line."""
        return (" " * self.gap).join(cells)


_TITLES = {
    "sign": "",
    "state": later("State"),
    "flag": "",
    "at": later("Through"),
    "from": later("From"),
    "to": later("To"),
    "subject": later("Subject"),
    "rule": later("Rule"),
    "direction": later("Direction"),
    "transport": later("Delivery"),
}
_SHARES = {"from": 3, "to": 3, "subject": 3, "rule": 3}
_STATE = 20
_SHORTER = ((later("authenticated"), later("auth.")), (later("deleted unread"), later("deleted")))
_FROM_US = ("outbound", "internal")
_TO_US = ("inbound", "internal")
REPORTS = {"mdn": later("receipt"), "dsn": later("delivery report")}
OUTCOMES = {"withheld": later("withheld"), "deferred": later("deferred"), "refused": later("refused")}
_WIDE, _WIDER, _WIDEST = 110, 130, 150


def layout(width: int) -> Layout:
    """The columns for a line of so many cells."""
    wide = width >= _WIDE
    gap = 2 if wide else 1
    fixed = {"sign": 2, "state": 26 if wide else _STATE, "flag": 1, "at": 16 if wide else 11}
    names = ["sign", "state", "flag", "at", "from", "to", "subject"]
    if wide:
        names.append("rule")
    if width >= _WIDER:
        names.append("direction")
        fixed["direction"] = 9
    if width >= _WIDEST:
        names.append("transport")
        fixed["transport"] = 12
    left = width - sum(fixed.values()) - gap * (len(names) - 1)
    shares = sum(_SHARES[name] for name in names if name in _SHARES)
    widths = {name: fixed[name] if name in fixed else max(0, left * _SHARES[name] // shares) for name in names}
    widths["subject"] += max(0, left - sum(widths[name] for name in names if name not in fixed))
    return Layout(tuple(Column(name, _TITLES[name], widths[name]) for name in names), gap)


def titles(columns: Layout, marks: Marks) -> str:
    """The line above the list."""
    return columns.joined(
        [fitted(say(column.title) if column.title else "", column.width, marks) for column in columns.columns]
    )


def cells(row: Row, columns: Layout, zone: tzinfo, today: date, marks: Marks) -> list[str]:
    """The cells of a row, each exactly as wide as its column."""
    sign, words = became(row, marks)
    wide = columns.gap > 1
    values = {
        "sign": sign,
        "state": words if wide else shorter(words, _STATE),
        "flag": flag(row),
        "at": local(row.at, zone) if wide else short_time(row.at, zone, today),
        "from": erased(row.sender) if wide or row.direction not in _FROM_US else name_only(row.sender),
        "to": erased(row.address) if wide or row.direction not in _TO_US else name_only(row.address),
        "subject": row.subject or "",
        "rule": row.rule or "",
        "direction": called(DIRECTIONS, row.direction),
        "transport": ", ".join(called(_TRANSPORTS, word) for word in transport_shown(row.standing).split(", ")),
    }
    return [fitted(values[column.name], column.width, marks) for column in columns.columns]


def became(row: Row, marks: Marks) -> tuple[str, str]:
    """Mark and words of a row; an outcome that must not be overlooked stands in their place, or with them, and so does what a report is."""
    sign, words = marked(row, marks)
    if row.state == State.NOT_ASKED and row.kind in REPORTS:
        words = say(REPORTS[row.kind])
    if row.outcome in OUTCOMES:
        outcome = say(OUTCOMES[row.outcome])
        unanswered = row.state in (State.NOT_ASKED, State.WAITING, State.FAILED)
        words = outcome if unanswered else f"{words}, {outcome}"
    return sign, words


def shorter(words: str, width: int) -> str:
    """The same words, shorter where they must be: the grade of a confirmation is never cut away."""
    if cell_len(words) > width:
        for long, short in _SHORTER:
            words = words.replace(say(long), say(short))
    return words


def name_only(address: str | None) -> str:
    """One of our own people, without the domain, which is ours: it leaves more room for others'."""
    return erased(address) if address is None else address.rpartition("@")[0] or address


def flag(row: Row) -> str:
    """That there is more to a row than its state: ``?`` something came that does not count, ``+`` a person noted something."""
    return "?" if waiting(row) or row.recipient_unknown or row.unmatched else "+" if row.attested else ""


def waiting(row: Row) -> int:
    """How many mailboxes sent an answer that does not count, for example because nobody paired the addresses."""
    return sum(not one.counts for one in row.answers)


def exactly(at: int, zone: tzinfo) -> datetime:
    """UTC microseconds as a time in a zone, to the microsecond."""
    return (_EPOCH + timedelta(microseconds=at)).astimezone(zone)


def short_time(at: int, zone: tzinfo, today: date) -> str:
    """A time in at most 11 cells: of another year only the day."""
    when = exactly(at, zone)
    return when.strftime("%m-%d %H:%M" if when.year == today.year else "%Y-%m-%d")


def kind_of(row: Row) -> str:
    """``good``, ``bad`` or nothing: in which colour a state stands, beside its mark and words."""
    if row.is_list:
        return ""
    if row.state in (State.DISPLAYED, State.REPLIED):
        return "good"
    return "bad" if row.state in (State.FAILED, State.DENIED, State.DELETED) else ""


def told(row: Row, zone: tzinfo, marks: Marks) -> tuple[str, str, str]:
    """The row under the cursor in three lines: what became of it, who to whom, and why it was decided so."""
    sign, words = became(row, marks)
    parts = [f"{sign} {words}"]
    standing = row.standing
    if not row.is_list and (since := standing.replied_at or standing.displayed_at) is not None:
        parts[0] += f" {local(since, zone)}"
    if row.attested:
        parts.append(say_many("{n} note of a person (attested)", "{n} notes of people (attested)", row.attested))
    if number := waiting(row):
        one = next(one for one in row.answers if not one.counts)
        who = name_of(row, one) or say(ERASED)
        parts.append(
            say("an answer of {who} does not count", who=who)
            if number == 1
            else say("{n} answers do not count", n=f"{number:,}")
        )
    if row.recipient_unknown:
        who = erased(row.recipient_unknown[0].address)
        parts.append(
            say("an answer of {who} does not count, for whom?", who=who)
            if len(row.recipient_unknown) == 1
            else say("{n} answers do not count, for whom?", n=f"{len(row.recipient_unknown):,}")
        )
    if row.unmatched:
        parts.append(
            say_many("{n} piece of evidence without match", "{n} pieces of evidence without match", row.unmatched)
        )
    arrow = "→" if marks == "unicode" else ">"
    who = f"{local(row.at, zone)}   {erased(row.sender)} {arrow} {erased(row.address)}"
    reason = row.reason if row.reason is not None else say("(the reason is erased)")
    return dotted(parts, marks), who, reason if row.would is None else f"{reason} ({row.would})"


def erased(text: str | None) -> str:
    """A name, or that it is erased."""
    return say(ERASED) if text is None else text


def dotted(parts: Sequence[str], marks: Marks) -> str:
    """Several things on one line."""
    return (" · " if marks == "unicode" else " | ").join(part for part in parts if part)
