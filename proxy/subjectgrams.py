"""When a subject holds a word, and the two-character pieces by which subjects are found: one meaning for all who ask.

Used by :mod:`kaifu.proxy.ledger_read`, which compares, and by the index of subjects, which narrows down. Case does not matter, nor
width (full-width Latin letters, half-width katakana), nor how an accent is written: both sides are folded (NFKC, then case, then
NFKC again). No other rules, so any part of a subject is found, in a language with spaces between words or without.

Pure; fails on nothing. A lone surrogate, which no ledger holds, counts as a question mark.
"""

from __future__ import annotations

from unicodedata import normalize

GRAM = 2
"""Characters of a piece. Japanese words often have no more."""


def folded(text: str) -> str:
    """A subject, or a part of one, as it is compared."""
    if text.isascii():
        return text.lower()
    known = text.encode("utf-8", "replace").decode()
    return normalize("NFKC", normalize("NFKC", known).casefold())


def grams(text: str) -> set[str]:
    """All pieces of a folded text; the last character stands alone as well, so that each begins a piece."""
    found = {text[at : at + GRAM] for at in range(len(text))}
    found.discard("")
    return found


def holds(subject: object, words: tuple[str, ...]) -> bool:
    """True when a subject has all these folded words somewhere. False for one that is not there."""
    if not isinstance(subject, str):
        return False
    text = folded(subject)
    return all(word in text for word in words)
