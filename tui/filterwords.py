"""The words of a filter line: which there are, and how a line is cut into them. See :mod:`kaifu.tui.filterline` for what they mean.

A word is ``key:value``, ``-key:value`` or text to be found in subjects. Blanks part words, in any script's width; what has blanks
of its own stands in double quotes, where ``\\"`` is a quote and ``\\\\`` a backslash. Keys that take words of a fixed set take several with
commas between. Pure, linear in the length of the line, fails on nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from kaifu.policies.facts import Direction
from kaifu.proxy.ledger import EvidenceKind, Grade, Outcome, RequestState
from kaifu.proxy.ledger_desk import Order
from kaifu.proxy.ledger_states import State

from .words import later

FIXED: dict[str, tuple[str, tuple[str, ...]]] = {
    "state": ("states", tuple(map(str, State))),
    "grade": ("grades", (*map(str, Grade), EvidenceKind.ATTESTED.value)),
    "direction": ("directions", tuple(map(str, Direction))),
    "kind": ("kinds", ("mail", "mdn", "dsn")),
    "request": ("requests", tuple(map(str, RequestState))),
    "outcome": ("outcomes", tuple(map(str, Outcome))),
}
"""Keys that take words of a fixed set: the field of the filter, and the words."""

FREE = {"to": "to", "from": "sender", "person": "person", "rule": "rule", "id": "message_id", "message": "message"}
"""Keys that take one value that is not fixed: the field of the filter."""

ADDRESSES = ("to", "from", "person")
TIMES = ("since", "until")
SORT = "sort"
NO_ANSWER = "no-answer"
UNANSWERED = (State.DELIVERED.value, State.WAITING.value)
ORDERS = tuple(sign + order for sign in ("", "-") for order in map(str, Order))

HINTS = {
    "state": later("what became of it"),
    "to": later("recipient: an address, @domain, @.domain with subdomains, or a part"),
    "from": later("sender, likewise"),
    "person": later("sender or recipient, likewise"),
    "rule": later("the rule that decided"),
    "since": later("came through at or after: 2026-11-21, 2026-11-21T09:30 or 7d"),
    "until": later("came through before; a date includes that day"),
    "grade": later("how far the confirmation is believed"),
    "direction": later("where it went"),
    "kind": later("a message, a receipt or a delivery report"),
    "request": later("what became of the receipt request"),
    "outcome": later("how the delivery ended"),
    "id": later("the Message-ID"),
    "message": later("the number of the message"),
    "sort": later("order of the list; with - before it from the end"),
    NO_ANSWER: later("asked, and nobody has answered"),
}
"""Each key, and the words that have none, in the order in which they are offered, with what they mean."""

MEANINGS = {
    "state": {
        "waiting": later("no answer"),
        "delivered": later("delivered, no answer"),
        "displayed": later("displayed"),
        "replied": later("replied"),
        "denied": later("denied"),
        "deleted": later("deleted unread"),
        "failed": later("failed"),
        "not-asked": later("not asked"),
    },
    "grade": {
        "claimed": later("claimed"),
        "authenticated": later("authenticated"),
        "attested": later("noted by a person"),
    },
    "direction": {
        "outbound": later("from us to others"),
        "inbound": later("from others to us"),
        "internal": later("among us"),
        "transit": later("from others to others"),
    },
    "kind": {
        "mail": later("a message"),
        "mdn": later("a read receipt"),
        "dsn": later("a delivery report"),
    },
    "request": {
        "added": later("asked for by the policy"),
        "kept": later("asked for by the sender"),
        "stripped": later("asked for, and taken out"),
        "none": later("not asked for"),
    },
    "outcome": {
        "accepted": later("taken by the next hop"),
        "refused": later("refused for good"),
        "deferred": later("put off for now"),
        "withheld": later("not delivered, as the policy says"),
        "unknown": later("not known"),
    },
}
"""The words of each fixed set in the order in which they are offered, with what they mean."""

KEYS = tuple(word for word in HINTS if word != NO_ANSWER)

_KEY = re.compile(r"(-?)([A-Za-z][A-Za-z_-]*)[:：]")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.|\\\Z)*)("?)', re.DOTALL)
_ESCAPED = re.compile(r'\\(["\\])')
_BARE = re.compile(r"\S+")
_PART = re.compile(r"[^\s,]*")
_BLANKS = re.compile(r"\s*")


@dataclass(frozen=True, slots=True)
class Piece:
    """One value, from ``start`` to before ``end``. ``text``: without quotes; ``closed``: False when its second quote is missing."""

    start: int
    end: int
    text: str
    quoted: bool = False
    closed: bool = True


@dataclass(frozen=True, slots=True)
class Word:
    """One word, from ``start`` to before ``end``. ``key``: in lower case, None for text; its value begins at ``value``."""

    start: int
    end: int
    value: int
    key: str | None
    minus: bool
    pieces: tuple[Piece, ...]


def cleaned(line: str) -> str:
    """A line without lone surrogates, which no UTF-8 can hold; as long as before."""
    return line.encode("utf-8", "replace").decode("utf-8")


def words_of(line: str) -> Iterator[Word]:
    """All words, in order."""
    at = _blanks(line, 0)
    while at < len(line):
        found = _KEY.match(line, at)
        if found is None:
            pieces: tuple[Piece, ...] = (_piece(line, at, _BARE),)
            yield Word(at, pieces[-1].end, at, None, False, pieces)
        else:
            key = found[2].lower()
            pieces = tuple(_pieces(line, found.end(), several=key in FIXED))
            yield Word(at, pieces[-1].end, found.end(), key, bool(found[1]), pieces)
        at = _blanks(line, pieces[-1].end)


def _blanks(line: str, at: int) -> int:
    found = _BLANKS.match(line, at)
    return at if found is None else found.end()


def _pieces(line: str, at: int, *, several: bool) -> Iterator[Piece]:
    piece = _piece(line, at, _PART if several else _BARE)
    yield piece
    while several and line[piece.end : piece.end + 1] == ",":
        piece = _piece(line, piece.end + 1, _PART)
        yield piece


def _piece(line: str, at: int, form: re.Pattern[str]) -> Piece:
    quoted = _QUOTED.match(line, at)
    if quoted is not None:
        return Piece(at, quoted.end(), _ESCAPED.sub(r"\1", quoted[1]), True, bool(quoted[2]))
    bare = form.match(line, at)
    return Piece(at, at, "") if bare is None else Piece(at, bare.end(), bare[0])


def spelt(text: str, *, is_value: bool = True) -> str:
    """A value, or text to be found in subjects, as it is written in a line: in quotes where it must be."""
    special = "," in text if is_value else _KEY.match(text) or text.lower() == NO_ANSWER
    if not special and not text.startswith('"') and _BARE.fullmatch(text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
