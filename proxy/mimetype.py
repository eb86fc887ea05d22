"""Content-Type and its parameters (RFC 2045 5.1, RFC 2231), read tolerantly.

Called by ``mime`` for every entity it looks at. A value that is no Content-Type gives None, and the caller falls back
to the default (RFC 2045 5.2). Tolerated: comments anywhere between words, missing or doubled semicolons, unquoted
values with odd characters, a quoted value without its closing quote, any letter case; of a parameter given twice
the first counts. Only the first :data:`MAX_OCTETS` octets and :data:`MAX_PARAMETERS` parameters are read; time is
linear in the length of the value; never raises.

Values are text in which every octet is one character (Latin-1), so that a boundary comes out as the octets it was.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

MAX_PARAMETERS = 100
MAX_OCTETS = 8192

_SPACE = re.compile(r"[\s;]*+")
_TYPE = re.compile(r"\s*+([^\s/;()\"=]++)\s*+/\s*+([^\s/;()\"=]++)")
_NAME = re.compile(r"([^\s;=()\"]++)\s*+=\s*+")
_QUOTED = re.compile(r'"((?>(?:[^"\\]|\\.)*))"?', re.DOTALL)
_TOKEN = re.compile(r"[^;]*+")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_SECTION = re.compile(r"([^*]+)(?:\*(\d{1,3}))?(\*)?\Z")
_PERCENT = re.compile(r"%([0-9A-Fa-f]{2})")
_MARK = re.compile(r'"(?>(?:[^"\\]|\\.)*)"|\\.|[()]', re.DOTALL)

_Sections = dict[int, tuple[bool, str]]
"""The sections of an RFC 2231 value by their number: is it percent-encoded, and what stands there."""


@dataclass(frozen=True, slots=True)
class ContentType:
    """A media type: ``type`` and ``subtype`` in lower case, ``parameters`` by lower-case name, values as they stood."""

    type: str
    subtype: str
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def full(self) -> str:
        """``type/subtype``."""
        return f"{self.type}/{self.subtype}"

    @property
    def boundary(self) -> bytes | None:
        """The boundary of a multipart type (RFC 2046 5.1.1), without trailing spaces; None when there is none."""
        if self.type != "multipart":
            return None
        value = self.parameters.get("boundary", "").rstrip(" \t")
        return value.encode("latin-1", "replace") or None


TEXT = ContentType("text", "plain", {"charset": "us-ascii"})
EMBEDDED = ContentType("message", "rfc822")


def parse_content_type(value: bytes) -> ContentType | None:
    """The Content-Type in an unfolded field value; None when it names no ``type/subtype``."""
    return _parse(value[:MAX_OCTETS])


@lru_cache(maxsize=128)
def _parse(value: bytes) -> ContentType | None:
    text = without_comments(value.decode("latin-1"))
    found = _TYPE.match(text)
    if found is None:
        return None
    return ContentType(found[1].lower(), found[2].lower(), _parameters(text, found.end()))


def without_comments(text: str) -> str:
    """The text with comments (RFC 5322 3.2.2) replaced by a space. An unclosed comment runs to the end.

    A parenthesis inside a word is no comment: real boundaries hold them without quotes.
    """
    if "(" not in text:
        return text
    kept: list[str] = []
    depth, start, pos = 0, 0, 0
    for found in _MARK.finditer(text):
        mark, pos = found[0], found.start()
        if depth:
            depth += (mark == "(") - (mark == ")")
            if not depth:
                start = found.end()
        elif mark == "(" and (pos == 0 or text[pos - 1] in " \t\r\n;"):
            kept += (text[start:pos], " ")
            depth = 1
    return "".join(kept) if depth else "".join(kept) + text[start:]


def _parameters(text: str, pos: int) -> dict[str, str]:
    plain: dict[str, str] = {}
    sections: dict[str, _Sections] = {}
    for _ in range(MAX_PARAMETERS):
        pos = _end(_SPACE, text, pos)
        if pos >= len(text):
            break
        name = _NAME.match(text, pos)
        if name is None:
            pos = text.find(";", pos)
            if pos < 0:
                break
            continue
        value, pos = _value(text, name.end())
        _keep(name[1].lower(), value, plain, sections)
    for key, parts in sections.items():
        plain.setdefault(key, _joined(parts))
    return plain


def _end(pattern: re.Pattern[str], text: str, pos: int) -> int:
    found = pattern.match(text, pos)
    return found.end() if found else pos


def _value(text: str, pos: int) -> tuple[str, int]:
    quoted = _QUOTED.match(text, pos)
    if quoted is not None:
        end = text.find(";", quoted.end())
        following = _NAME.match(text, _end(_SPACE, text, quoted.end()))
        if following is not None:  # the semicolon before the next parameter is missing
            return _ESCAPE.sub(r"\1", quoted[1]), following.start()
        return _ESCAPE.sub(r"\1", quoted[1]), end if end >= 0 else len(text)
    end = _end(_TOKEN, text, pos)
    return text[pos:end].strip(), end


def _keep(name: str, value: str, plain: dict[str, str], sections: dict[str, _Sections]) -> None:
    """File a parameter: as it is, or as one section of an RFC 2231 value."""
    found = _SECTION.match(name) if "*" in name else None
    if found is None:
        plain.setdefault(name, value)
    else:
        sections.setdefault(found[1], {}).setdefault(int(found[2] or 0), (bool(found[3]), value))


def _joined(parts: _Sections) -> str:
    """The value of RFC 2231 sections put together; the charset is dropped, the octets stay."""
    words: list[str] = []
    for index, (encoded, value) in sorted(parts.items()):
        if encoded and index == 0 and value.count("'") >= 2:
            value = value.split("'", 2)[2]
        words.append(_PERCENT.sub(_octet, value) if encoded else value)
    return "".join(words)


def _octet(found: re.Match[str]) -> str:
    return chr(int(found[1], 16))
