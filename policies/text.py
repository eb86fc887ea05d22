"""Text as people compare it: Unicode form and case do not count. Pure, bounded, never raises.

``unicodedata.normalize`` takes quadratic time on long runs of combining marks, which hostile mail can send; here it
works on short pieces, so the time is linear. A piece ends where no letter is cut from its marks if such a place is
near.
"""

from __future__ import annotations

import re
from unicodedata import normalize

_SHORT = 256
_PIECE = re.compile(r"(?s).{128}[^\x00-\x7f]{0,128}|.+")


def nfc(text: str) -> str:
    """Normalisation form C (UAX 15), in linear time."""
    if text.isascii():
        return text
    if len(text) <= _SHORT:
        return normalize("NFC", text)
    return "".join(normalize("NFC", piece) for piece in _PIECE.findall(text))


def fold(text: str) -> str:
    """The form in which two texts are equal when they differ only in case or Unicode form."""
    if text.isascii():
        return text.lower()
    return nfc(nfc(text).casefold())
