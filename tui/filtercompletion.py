"""What is offered while somebody types a filter line: keys, fixed words, rules, and addresses that the caller knows.

Used through :mod:`kaifu.tui.filterline`. Pure, fails on nothing. What begins as typed comes before what merely has it inside.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from .filterwords import (
    ADDRESSES,
    FIXED,
    HINTS,
    KEYS,
    MEANINGS,
    NO_ANSWER,
    ORDERS,
    SORT,
    TIMES,
    Piece,
    Word,
    cleaned,
    spelt,
    words_of,
)
from .words import later, say

MOST = 50
"""So many are offered at once."""

_AGES = {
    "1h": later("the last hour"),
    "1d": later("the last 24 hours"),
    "7d": later("the last 7 days"),
    "30d": later("the last 30 days"),
    "52w": later("the last 52 weeks"),
}


@dataclass(frozen=True, slots=True)
class Known:
    """What there is to offer beside fixed words: names of rules, and addresses or domains (``@partner.example``), the best first."""

    rules: Sequence[str] = ()
    addresses: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """Put ``text`` in place of the line's characters from ``start`` to before ``end``. ``hint``: what it means, may be empty."""

    start: int
    end: int
    text: str
    hint: str = ""


def complete(text: str, cursor: int, known: Known | None = None) -> list[Completion]:
    """What could stand where the cursor is (characters before it), the likeliest first; at most :data:`MOST`."""
    line = cleaned(text)
    cursor = max(0, min(cursor, len(line)))
    word = next((word for word in words_of(line) if word.start <= cursor <= word.end), None)
    if word is None:
        found = _keys("", cursor, cursor)
    elif word.key is None and not word.pieces[0].quoted:
        found = _keys(line[word.start : cursor], word.start, word.end) if cursor > word.start else iter(())
    elif word.key is not None and cursor >= word.value:
        found = _values(line, cursor, word, word.key, known or Known())
    elif word.key is not None and cursor > word.start:
        found = _keys(line[word.start : cursor], word.start, word.value)
    else:
        found = iter(())
    return [each for each in found if each.text != line[each.start : each.end]][:MOST]


def _keys(typed: str, start: int, end: int) -> Iterator[Completion]:
    minus = typed.startswith("-")
    offered = [f"-{key}:" for key in FIXED] if minus else [*(f"{key}:" for key in KEYS), NO_ANSWER]
    for text in _fitting(typed, offered, inside=False):
        hint = HINTS[text.removeprefix("-").removesuffix(":")]
        yield Completion(start, end, text, say("all but these") if minus else say(hint))


def _values(line: str, cursor: int, word: Word, key: str, known: Known) -> Iterator[Completion]:
    piece = next((piece for piece in word.pieces if piece.start <= cursor <= piece.end), None)
    if piece is None:
        return
    typed = _typed(line, cursor, piece)
    if key in FIXED:
        others = {each.text for each in word.pieces if each is not piece}
        for text in _fitting(typed, (text for text in MEANINGS[key] if text not in others)):
            yield Completion(piece.start, piece.end, text, say(MEANINGS[key][text]))
    elif key == SORT:
        for text in _fitting(typed, ORDERS, inside=False):
            yield Completion(piece.start, piece.end, text, say("from the end") if text.startswith("-") else "")
    elif key in TIMES:
        for text in _fitting(typed, _AGES, inside=False):
            yield Completion(piece.start, piece.end, text, say(_AGES[text]))
    else:
        for text in _fitting(typed, _known(key, known)):
            yield Completion(piece.start, piece.end, spelt(text))


def _typed(line: str, cursor: int, piece: Piece) -> str:
    before = line[piece.start : cursor]
    if not piece.quoted:
        return before
    inside = before.removeprefix('"')
    return (inside[:-1] if piece.closed and cursor == piece.end and len(inside) else inside).replace('\\"', '"')


def _known(key: str, known: Known) -> Sequence[str]:
    return known.rules if key == "rule" else known.addresses if key in ADDRESSES else ()


def _fitting(typed: str, offered: Iterable[str], *, inside: bool = True) -> list[str]:
    """Those that begin as typed, then those that have it inside."""
    wanted = typed.casefold()
    some = [(text, text.casefold()) for text in dict.fromkeys(map(cleaned, offered)) if text]
    first = [text for text, plain in some if plain.startswith(wanted)]
    return first + [text for text, plain in some if inside and wanted in plain and not plain.startswith(wanted)]
