"""The fields inside a report part (RFC 3464 2.1, RFC 8098 3.1), read tolerantly.

Called by ``mdn`` and ``dsn``. A report part holds groups of header-like fields with empty lines between. Tolerated:
bare LF, white space before the colon, leading and repeated empty lines, lines of white space between groups, lines
that are no field (skipped, told in :attr:`FieldGroups.odd`), folding anywhere after the colon.

Text is UTF-8; octets that are not come out as replacement characters. Limits: :data:`MAX_FIELDS` fields,
:data:`MAX_VALUE` characters of a value; the rest is left out and told. Time is linear; never raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

MAX_FIELDS = 10_000
MAX_VALUE = 4096
MORE_FIELDS = "more fields than are read"

_FIELD = re.compile(r"([!-9;-~\x80-\U0010ffff]{1,200})([ \t]*+):")

OF_THE_ORIGINAL = frozenset(
    "subject to cc bcc from sender reply-to received return-path delivered-to references in-reply-to comments keywords"
    " thread-topic thread-index x-original-subject".split()
)
"""Header fields of the message that was reported on; where a producer copies them into the report they are not kept."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field: ``name`` as received, ``key`` in lower case, ``value`` unfolded and trimmed, ``raw`` its lines.

    ``ended``: a line end followed it. Where a report is cut off in the middle of a line, its last field has none.
    """

    name: str
    key: str
    value: str
    raw: str
    ended: bool = True


@dataclass(frozen=True, slots=True)
class FieldGroups:
    """The fields of a report part, group by group; groups are never empty."""

    groups: tuple[tuple[Field, ...], ...]
    odd: tuple[str, ...] = ()

    @property
    def fields(self) -> tuple[Field, ...]:
        """All fields in order, without regard to groups."""
        return tuple(field for group in self.groups for field in group)


def read_groups(octets: bytes, *, delimited: bool = True) -> FieldGroups:
    """Read the content of a report part.

    ``delimited``: a delimiter line followed, so the last line is a whole one though its line end is not among the
    octets (RFC 2046 5.1.1 counts it to the delimiter).
    """
    reader = _Reader()
    for line in octets.decode("utf-8", "replace").split("\n"):
        reader.line(line)
    return reader.result(delimited)


def text_of(fields: Iterable[Field]) -> str:
    """The lines of the fields that a report is made of, with LF; copied header fields of the original left out."""
    lines = (f.raw.replace("\r\n", "\n").rstrip("\r") for f in fields if f.key not in OF_THE_ORIGINAL)
    return "".join(line + "\n" for line in lines)


def first_values(fields: Iterable[Field]) -> dict[str, str]:
    """Value by lower-case name; of a name given several times the first counts."""
    values: dict[str, str] = {}
    for field in fields:
        values.setdefault(field.key, field.value)
    return values


def _unfolded(value: str) -> str:
    """The value on one line, each fold with the white space around it made one space."""
    if "\n" not in value:
        return value
    first, *others = value.split("\n")
    lines = [first, *(line.lstrip(" \t") for line in others)]
    return " ".join([*(line.rstrip("\r").rstrip(" \t") for line in lines[:-1]), lines[-1]])


class _Reader:
    def __init__(self) -> None:
        self.groups: list[list[Field]] = [[]]
        self.odd: dict[str, None] = {}
        self.pending: list[str] = []
        self.count = 0

    def line(self, line: str) -> None:
        """Take one line, without its LF."""
        if not line.strip(" \t\r"):
            self._finish(ended=True)
            if self.groups[-1]:
                self.groups.append([])
        elif line[0] in " \t":
            if self.pending:
                self.pending.append(line)
            else:
                self.odd["a line that is no field"] = None
        else:
            self._finish(ended=True)
            if _FIELD.match(line):
                self.pending = [line]
            else:
                self.odd["a line that is no field"] = None

    def _finish(self, *, ended: bool) -> None:
        if not self.pending:
            return
        raw, self.pending = "\n".join(self.pending), []
        self.count += 1
        if self.count > MAX_FIELDS:
            self.odd[MORE_FIELDS] = None
            return
        found = _FIELD.match(raw)
        assert found is not None  # only such lines begin a field
        if found[2]:
            self.odd["white space before the colon of a field"] = None
        value = _unfolded(raw[found.end() : found.end() + 4 * MAX_VALUE]).strip()
        if len(value) > MAX_VALUE:
            self.odd["a value longer than is read"] = None
            value = value[:MAX_VALUE]
        self.groups[-1].append(Field(found[1], found[1].lower(), value, raw[: 4 * MAX_VALUE], ended))

    def result(self, delimited: bool) -> FieldGroups:
        self._finish(ended=delimited)
        return FieldGroups(tuple(tuple(g) for g in self.groups if g), tuple(self.odd))
