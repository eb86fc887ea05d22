"""Header text: unfolding, and decoding for people and patterns (RFC 5322 2.2.3, RFC 2047)."""

from __future__ import annotations

import re

_FOLD = re.compile(rb"\r?\n(?=[ \t])")
_WHITE = b" \t\r\n"


def unfold(value: bytes) -> bytes:
    """A field value without line ends and outer white space (RFC 5322 2.2.3)."""
    if b"\n" in value:
        value = value.strip(_WHITE)
        if b"\n" in value:
            return _FOLD.sub(b"", value)
        return value
    return value.strip(_WHITE)


def decode(value: bytes) -> str:
    """The text of an unfolded field value."""
    return value.decode("utf-8", "replace").replace("\x00", " ").replace("\r", " ").replace("\n", " ")
