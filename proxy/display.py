"""Text from mail, shown safely on a terminal, in a log or in a table.

What a stranger wrote may hold escape sequences, line ends, direction marks or characters that cannot be seen.
:func:`visible` makes all of them readable as ``\\x1b``, ``\\u202e`` and the like, and leaves what people can read,
in any script, as it is. Called by every command and screen that shows anything from a message. Pure; never raises.
It knows nothing of markup: who prints through a library with markup of its own must turn that off.
"""

from __future__ import annotations

import json

_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}

# Joiners are needed to spell several languages and to show composed emoji; the two spaces are ordinary text.
_HARMLESS = frozenset("\u00a0\u3000\u200c\u200d")


def visible(text: str) -> str:
    """The same text with everything escaped that cannot be seen or that steers a terminal.

    Escaped are control characters (C0, C1, DEL), format characters such as direction marks, line and paragraph
    separators, surrogates, private and unassigned code points, and unusual spaces.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in _HARMLESS else _escape(c) for c in text)


def _escape(character: str) -> str:
    if (named := _NAMED.get(character)) is not None:
        return named
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def json_line(value: object) -> str:
    """JSON on one line, as every ``--json`` prints it: any script readable, everything else escaped as ``\\u202e``."""
    text = json.dumps(value, ensure_ascii=False, separators=(", ", ": "))
    return text if text.isprintable() else "".join(c if c.isprintable() else _json_escape(c) for c in text)


def _json_escape(character: str) -> str:
    """A character inside a JSON string; outside strings json writes only what is printable (RFC 8259 7)."""
    return json.dumps(character)[1:-1]
