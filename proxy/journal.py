"""The log: one line per event on standard error, ``event key=value key="quoted value"``.

Made for journald and grep. Values come from mail, so control characters are escaped and nothing can forge a second line
or field. Never bodies, never passwords.
"""

from __future__ import annotations

import json
import re
import sys
from typing import TextIO

_apart = re.compile('[ "=]').search
_quoted = json.JSONEncoder(ensure_ascii=False).encode
"""Made once: :func:`json.dumps` makes an encoder for each call, which cost as much as the rest of the line."""


def show(value: object) -> str:
    """A value on one line; quoted, with JSON escapes, when it is anything but a plain word."""
    if isinstance(value, float):
        return f"{value:.3f}"
    text = str(value)
    if not text.isprintable():
        return json.dumps(text)
    return _quoted(text) if not text or _apart(text) else text


class Journal:
    """Writes events to a stream (standard error unless told otherwise)."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    def __call__(self, event: str, **fields: object) -> None:
        """Write one line. Fields that are None are left out. A log that cannot be written stops no mail."""
        parts = [event]
        parts += [f"{key}={show(value)}" for key, value in fields.items() if value is not None]
        try:
            stream = self._stream or sys.stderr
            stream.write(" ".join(parts) + "\n")
            stream.flush()
        except (OSError, ValueError):
            pass
