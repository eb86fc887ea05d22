"""The line above the receipts: from text to a filter, and back.

``state:waiting to:@partner.example rule:"with blanks" since:7d 契約``: every word narrows down. Text without a key is a part of the subject;
all such parts must occur. ``-state:waiting`` means all other states, and so with every key that takes fixed words. ``sort:to`` orders, ``no-answer``
is ``state:delivered,waiting``. Times are read in the zone of the settings. The words are in :mod:`kaifu.tui.filterwords`, what is offered while
somebody types in :func:`complete`.

Pure: no widgets, no ledger. Nothing is raised whatever is typed: what cannot be understood is a :class:`Problem` where it stands, and the rest holds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from kaifu.policies.nodes import nearest
from kaifu.proxy.ledger_cli import moment
from kaifu.proxy.ledger_desk import Filter, Order

from .filtercompletion import Completion, Known, complete
from .filterwords import (
    ADDRESSES,
    FIXED,
    FREE,
    KEYS,
    NO_ANSWER,
    ORDERS,
    SORT,
    TIMES,
    UNANSWERED,
    Piece,
    Word,
    cleaned,
    spelt,
    words_of,
)
from .words import say

__all__ = ["Completion", "Known", "Line", "Problem", "complete", "format_line", "parse"]

_LARGEST = 2**63 - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with the line from ``start`` to before ``end`` (characters, from 0). ``instead``: the nearest spelling of that, if any is near."""

    start: int
    end: int
    text: str
    instead: str | None = None

    def __str__(self) -> str:
        """The sentence, with the column as people count."""
        where = say("column {column}: {text}", column=self.start + 1, text=self.text)
        return where if self.instead is None else say("{text} (did you mean {word}?)", text=where, word=self.instead)


@dataclass(frozen=True, slots=True)
class Line:
    """What a line means, as far as it could be understood. ``newest_first``: False for the list from its end."""

    wanted: Filter = field(default_factory=Filter)
    order: Order = Order.TIME
    newest_first: bool = True
    problems: tuple[Problem, ...] = ()


def parse(text: str, zone: tzinfo, now: datetime | None = None) -> Line:
    """What a line means. ``zone``: of times without one; ``now``: what ages count from, else the clock."""
    reader = _Reader(zone, now or datetime.now(UTC))
    for word in words_of(cleaned(text)):
        reader.read(word)
    return reader.line()


class _Reader:
    """Collects the words of one line."""

    def __init__(self, zone: tzinfo, now: datetime) -> None:
        self._zone = zone
        self._now = now
        self._given: dict[str, Any] = {}
        self._chosen: dict[str, set[str]] = {}
        self._left_out: dict[str, set[str]] = {}
        self._first: dict[str, Word] = {}
        self._subject: list[str] = []
        self._problems: list[Problem] = []

    def read(self, word: Word) -> None:
        """One word."""
        for piece in word.pieces:
            if not piece.closed:
                self._wrong(piece, say("the quotes are not closed"))
        if word.key is None:
            self._text(word.pieces[0])
        elif word.key in FIXED:
            self._fixed(word, word.key)
        elif word.key in KEYS:
            self._single(word, word.key, word.pieces[0])
        else:
            end = word.value - 1
            text = say('there is no "{key}:"; text with a colon stands in quotes', key=word.key)
            near = nearest(word.key, KEYS) if len(word.key) > len("Re") else None
            self._problems.append(Problem(word.start + word.minus, end, text, near))

    def line(self) -> Line:
        """What was collected."""
        for key, (name, words) in FIXED.items():
            left_out, chosen = self._left_out.get(key, set()), self._chosen.get(key)
            if left_out or chosen:
                found = tuple(word for word in words if (chosen is None or word in chosen) and word not in left_out)
                if not found:
                    self._wrong(self._first[key], say("nothing is left of {key}:", key=key))
                self._given[name] = found
        order = str(self._given.pop(SORT, Order.TIME))
        wanted = Filter(**self._given, subject=tuple(self._subject))
        problems = tuple(sorted(self._problems, key=lambda problem: (problem.start, problem.end)))
        return Line(wanted, Order(order.removeprefix("-")), not order.startswith("-"), problems)

    def _wrong(self, where: Piece | Word, text: str, instead: str | None = None) -> None:
        self._problems.append(Problem(where.start, where.end, text, instead))

    def _text(self, piece: Piece) -> None:
        if piece.text.lower() == NO_ANSWER and not piece.quoted:
            self._fixed(Word(piece.start, piece.end, piece.start, "state", False, ()), "state", UNANSWERED)
        elif piece.text and piece.text not in self._subject:
            self._subject.append(piece.text)

    def _fixed(self, word: Word, key: str, meant: tuple[str, ...] = ()) -> None:
        if key == "state" and key in self._first and bool(meant) != (not self._first[key].pieces):
            text = say("{word} is state:{states}; leave one of them out", word=NO_ANSWER, states=",".join(UNANSWERED))
            self._wrong(word, text)
            return
        chosen = (self._left_out if word.minus else self._chosen).setdefault(key, set())
        chosen.update(meant)
        _, words = FIXED[key]
        for piece in word.pieces:
            spelling = piece.text.lower()
            if spelling in words:
                chosen.add(spelling)
            elif not spelling:
                self._wrong(_whole(word, piece), say("{key}: needs a word: {words}", key=key, words=", ".join(words)))
            else:
                text = say('"{word}" is none of {words}', word=piece.text, words=", ".join(words))
                self._wrong(piece, text, nearest(piece.text, words))
        if chosen:
            self._first.setdefault(key, word)
        else:
            del (self._left_out if word.minus else self._chosen)[key]

    def _single(self, word: Word, key: str, piece: Piece) -> None:
        if word.minus:
            keys = ", ".join(FIXED)
            self._wrong(word, say("only {keys} can be left out with -", keys=keys))
        elif not piece.text.strip():
            self._wrong(_whole(word, piece), say("{key}: needs a value", key=key))
        elif key in self._first:
            self._wrong(word, say("{key}: is there already", key=key))
        elif key in TIMES:
            self._time(word, key, piece)
        elif key == SORT:
            self._sort(word, piece)
        else:
            self._free(word, key, piece)

    def _free(self, word: Word, key: str, piece: Piece) -> None:
        value: str | int = piece.text
        if key in ADDRESSES and "," in piece.text and not piece.quoted:
            self._wrong(piece, say("{key}: takes one address", key=key))
            return
        if key == "message":
            if not (
                piece.text.isascii() and piece.text.isdigit() and len(piece.text) < 20 and int(piece.text) <= _LARGEST
            ):
                self._wrong(piece, say('"{text}" is no number of a message', text=piece.text))
                return
            value = int(piece.text)
        if key == "id":
            value = piece.text.strip().removeprefix("<").removesuffix(">").strip()
            if not value:
                self._wrong(piece, say("{key}: needs a value", key=key))
                return
        self._take(word, key, FREE[key], value)

    def _time(self, word: Word, key: str, piece: Piece) -> None:
        try:
            at = moment(piece.text, self._zone, end=key == "until", now=self._now)
            _exactly(at)
        except (ValueError, OverflowError):
            forms = say("a date (2026-11-21), a time (2026-11-21T09:30) or an age (30m, 12h, 7d, 2w)")
            self._wrong(piece, say('"{text}" is no time; give {forms}', text=piece.text, forms=forms))
            return
        self._take(word, key, key, at)

    def _sort(self, word: Word, piece: Piece) -> None:
        if piece.text.lower() in ORDERS:
            self._take(word, SORT, SORT, piece.text.lower())
        else:
            text = say('"{word}" is none of {words}', word=piece.text, words=", ".join(ORDERS))
            self._wrong(piece, text, nearest(piece.text, ORDERS))

    def _take(self, word: Word, key: str, name: str, value: str | int) -> None:
        self._first[key] = word
        self._given[name] = value


def _whole(word: Word, piece: Piece) -> Piece:
    """Where a missing value is shown: at its key, as there is nothing of its own."""
    return piece if piece.end > piece.start else Piece(word.start, word.end, "")


def format_line(wanted: Filter, zone: tzinfo, order: Order = Order.TIME, newest_first: bool = True) -> str:
    """A line that means this filter and order. Times are written out, in ``zone``."""
    words = list(_words(wanted, zone))
    if order is not Order.TIME or not newest_first:
        words.append(f"{SORT}:{'' if newest_first else '-'}{order}")
    words += [spelt(text, is_value=False) for text in wanted.subject]
    return " ".join(words)


def _words(wanted: Filter, zone: tzinfo) -> Iterable[str]:
    for key, (name, _) in FIXED.items():
        chosen = getattr(wanted, name)
        if key == "state" and set(chosen) == set(UNANSWERED):
            yield NO_ANSWER
        elif chosen:
            yield f"{key}:{','.join(chosen)}"
    for key, name in FREE.items():
        value = getattr(wanted, name)
        if value is not None:
            yield f"{key}:{spelt(str(value))}"
    if wanted.since is not None:
        yield f"since:{_time_text(wanted.since, zone)}"
    if wanted.until is not None:
        yield f"until:{_time_text(wanted.until, zone, end=True)}"


def _time_text(at: int, zone: tzinfo, *, end: bool = False) -> str:
    """The shortest form that means this time."""
    exact = _exactly(at)
    try:
        local = exact.astimezone(zone)
        day = (local - timedelta(days=1) if end else local).date()
        shorter = (day.isoformat(), f"{local:%Y-%m-%dT%H:%M}", local.replace(tzinfo=None).isoformat())
        for text in shorter:
            if _means(text, zone, end) == at:
                return text
    except (ValueError, OverflowError):
        pass
    return exact.isoformat()


def _exactly(at: int) -> datetime:
    return _EPOCH + timedelta(microseconds=at)


def _means(text: str, zone: tzinfo, end: bool) -> int | None:
    try:
        return moment(text, zone, end=end)
    except ValueError:
        return None
