"""The header block of a message: octets and spans.

Nothing is repaired here and nothing is lost: a :class:`HeaderBlock` remembers the octets as received and where
each field lies in them, so that joining the parts gives the input back, always. What does not conform is told
by :attr:`HeaderBlock.odd`, in words, and left to the caller to judge.

Called by the relay, the milter, ``kaifu inspect`` and, for the headers of body parts, by ``mime``. The relay
finds the end of the header block in what has arrived so far with :func:`find_header_end`; a message in a file is
cut with :func:`split_message`, which also takes bare LF and mixed line ends as stored.

What counts as a field (RFC 5322 2.2, read tolerantly):

- a name (any octets but controls, space and colon; octets above 127 are tolerated), optional white space, a
  colon, and everything up to the line end; lines that begin with a space or a tab continue it, also when they
  hold nothing else;
- lines end with CRLF or LF; a bare CR or a NUL is part of the value;
- mbox ``From `` lines before the first field (also quoted with ``>``) belong to no field;
- a UTF-8 byte order mark before the first field is part of that field's octets and of its ``name``, but not of its
  ``key``: the field is found by its real name, and deleting it takes the mark along;
- the block ends at the first line that is neither field nor continuation, as it does for Postfix. What follows, up
  to the empty line, is opaque: it is not looked into and never edited.

Limits: none of its own; time and memory grow linearly with the block, which the relay bounds at 1 MiB. Never
raises, whatever the octets are.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from functools import lru_cache

from kaifu.proxy.headertext import decode, unfold

_FIELD = re.compile(
    rb"([!-9;-~\x80-\xff]++)[ \t]*+:"  # name, white space, colon
    rb"[^\n]*+(?>(?:\n[ \t][^\n]*+)*)\n?+"  # the first line, continuations, the line end
    rb"|(?s:.++)"  # anything else: the rest, in one piece, so that nothing is searched twice
)
_MBOX_LINES = re.compile(rb"(?>(?:\xef\xbb\xbf)?)(?>(?:>*+From [ \t]*+[^ \t:\n][^\n]*+(?:\n|\Z))+)")
_EMPTY_LINE = re.compile(rb"(?:\A|\n)\r?\n")
_BOM = b"\xef\xbb\xbf"

_ODD_OCTETS = (
    (re.compile(rb"\x00"), "a NUL octet in the header block"),
    (re.compile(rb"\r(?!\n)"), "a bare CR in the header block"),
    (re.compile(rb"(?<!\r)\n"), "a line that ends with a bare LF"),
    (re.compile(rb"[\x80-\xff]"), "octets above 127 in the header block"),
    (re.compile(rb"(?m)^[^\r\n]{999}"), "a line longer than 998 octets"),
    (re.compile(rb"(?m)^[!-9;-~\x80-\xff]++[ \t]++:"), "white space before the colon of a field"),
    (re.compile(rb"(?m)^[ \t]++\r?$"), "a folded line that holds only white space"),
)


_REMEMBERED = 100  # octets: longer names are nobody's but a stranger's, and must not fill the cache


def field_key(name: bytes) -> str:
    """A field name in the form in which names are compared: ASCII letters in lower case, octets as Latin-1."""
    return _known_key(name) if len(name) <= _REMEMBERED else name.lower().decode("latin-1")


@lru_cache(maxsize=4096)
def _known_key(name: bytes) -> str:
    return name.lower().decode("latin-1")


def name_key(name: str) -> str:
    """The same for a name in a policy, an edit or a call."""
    return name.lower() if name.isascii() else field_key(name.encode("latin-1", "replace"))


class HeaderField:
    """One header field: a span of the block's octets, from its name to after its last line end.

    ``name``: as received, without the white space before the colon. ``key``: the name in lower case. ``start``,
    ``end``: offsets in the block. ``value_start``: the offset after the colon.
    """

    __slots__ = ("_block", "end", "key", "name", "start", "value_start")

    def __init__(self, block: bytes, name: bytes, key: str, start: int, end: int, value_start: int) -> None:
        self._block = block
        self.name = name
        self.key = key
        self.start = start
        self.end = end
        self.value_start = value_start

    @property
    def raw(self) -> bytes:
        """All octets of the field, with its last line end."""
        return self._block[self.start : self.end]

    @property
    def raw_value(self) -> bytes:
        """The octets after the colon, folded as received, with the last line end."""
        return self._block[self.value_start : self.end]

    @property
    def line_end(self) -> bytes:
        """The last line end: CRLF, LF, or nothing when the input stops in the middle of the line."""
        return line_end(self._block, self.end)

    def __repr__(self) -> str:
        return f"HeaderField({self.name!r}, {self.start}:{self.end})"


class HeaderBlock:
    """The outer header block of a message (or of a body part); see the module's page. Do not modify.

    ``raw``: the octets as received. ``fields_start``, ``fields_end``: where the contiguous fields begin and end;
    a field inserted at the end goes to ``fields_end``. It is a :class:`~kaifu.policies.facts.HeaderView`.
    """

    __slots__ = ("_fields", "_odd", "_places", "_starts", "_values", "fields_end", "fields_start", "raw")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.fields_start = pos = 0
        if raw.startswith((b"From ", b">", _BOM)) and (mbox := _MBOX_LINES.match(raw)) is not None:
            self.fields_start = pos = mbox.end()
        starts: list[int] = []
        places: dict[str, list[int]] = {}
        end = pos
        for found in _FIELD.finditer(raw, pos):
            name = found[1]
            if name is None:
                break
            key = field_key(name)
            start, end = found.span()
            starts.append(start)
            if key in places:
                places[key].append(start)
            else:
                places[key] = [start]
        if starts and raw.startswith(_BOM, starts[0]):
            _without_mark(raw, starts[0], places)
        self._starts = starts
        self._places = places
        self._values: dict[str, tuple[str, ...]] = {}
        self._fields: tuple[HeaderField, ...] | None = None
        self._odd: tuple[str, ...] | None = None
        self.fields_end = end

    @classmethod
    def parse(cls, raw: bytes) -> HeaderBlock:
        """Read a header block, up to and including its empty line if it has one. Never fails."""
        return cls(raw)

    @property
    def fields(self) -> tuple[HeaderField, ...]:
        """All fields, in order."""
        if self._fields is None:
            ends = [*self._starts[1:], self.fields_end]
            self._fields = tuple(map(self._field, self._starts, ends))
        return self._fields

    def _field(self, start: int, end: int) -> HeaderField:
        colon = self.raw.index(b":", start, end)
        name = self.raw[start:colon].rstrip(b" \t")
        key = field_key(name.removeprefix(_BOM) if start == self._starts[0] else name)
        return HeaderField(self.raw, name, key, start, end, colon + 1)

    def _end(self, start: int) -> int:
        after = bisect_right(self._starts, start)
        return self._starts[after] if after < len(self._starts) else self.fields_end

    def _at(self, start: int) -> HeaderField:
        return self._field(start, self._end(start))

    def __contains__(self, name: str) -> bool:
        return name_key(name) in self._places

    def __len__(self) -> int:
        return len(self._starts)

    def __repr__(self) -> str:
        return f"HeaderBlock({len(self)} fields, {len(self.raw)} octets)"

    @property
    def keys(self) -> tuple[str, ...]:
        """The names that occur, in lower case, each once, in the order of their first field."""
        return tuple(self._places)

    def count(self, name: str) -> int:
        """How many fields have that name."""
        return len(self._places.get(name_key(name), ()))

    def nth(self, name: str, n: int) -> HeaderField | None:
        """The ``n``-th field (from 1) of that name, counted over the block as received; None when there is none."""
        places = self._places.get(name_key(name), ())
        return self._at(places[n - 1]) if 0 < n <= len(places) else None

    def first(self, name: str) -> HeaderField | None:
        """The first field of that name, or None."""
        return self.nth(name, 1)

    def all(self, name: str) -> tuple[HeaderField, ...]:
        """All fields of that name, in order."""
        return tuple(map(self._at, self._places.get(name_key(name), ())))

    def raw_values(self, name: str) -> tuple[bytes, ...]:
        """The values of the fields of that name: unfolded (RFC 5322 2.2.3) and trimmed, not decoded."""
        raw = self.raw
        places = self._places.get(name_key(name), ())
        return tuple([unfold(raw[raw.index(b":", start) + 1 : self._end(start)]) for start in places])

    def values(self, name: str) -> tuple[str, ...]:
        """The values of the fields of that name: unfolded, trimmed and decoded (RFC 2047), for people and patterns."""
        if name not in self._places:
            name = name_key(name)
            if name not in self._places:
                return ()
        known = self._values.get(name)
        if known is None:
            known = self._values[name] = tuple(map(decode, self.raw_values(name)))
        return known

    @property
    def preamble(self) -> bytes:
        """What stands before the first field: mbox ``From `` lines."""
        return self.raw[: self.fields_start]

    @property
    def rest(self) -> bytes:
        """What follows the fields: the empty line, or an opaque rest of the block."""
        return self.raw[self.fields_end :]

    @property
    def parts(self) -> tuple[bytes, ...]:
        """Preamble, every field and the rest; joined they are ``raw``."""
        return (self.preamble, *(field.raw for field in self.fields), self.rest)

    @property
    def complete(self) -> bool:
        """True when the empty line follows the last field directly, as it should."""
        return self.raw.startswith((b"\r\n", b"\n"), self.fields_end)

    @property
    def odd(self) -> tuple[str, ...]:
        """What does not conform to RFC 5322, in words; empty for a header block as it should be."""
        if self._odd is None:
            self._odd = tuple(self._oddities())
        return self._odd

    def _oddities(self) -> list[str]:
        odd = []
        if self.fields_start:
            odd.append("an mbox From line before the first field")
        if self._starts and self.raw.startswith(_BOM, self._starts[0]):
            odd.append("a byte order mark before the first field")
        odd += [words for pattern, words in _ODD_OCTETS if pattern.search(self.raw)]
        if not self.complete:
            line = self.raw.count(b"\n", 0, self.fields_end) + 1
            at_end = self.fields_end == len(self.raw)
            odd.append("no empty line after the fields" if at_end else f"line {line} is no header field")
        return odd


def _without_mark(raw: bytes, start: int, places: dict[str, list[int]]) -> None:
    """Enter the first field, which begins with a byte order mark, under its real name instead."""
    name = raw[start : raw.index(b":", start)].rstrip(b" \t")
    marked, key = field_key(name), field_key(name.removeprefix(_BOM))
    places[marked].remove(start)
    if not places[marked]:
        del places[marked]
    places[key] = [start, *places.get(key, ())]


def line_end(raw: bytes, end: int) -> bytes:
    """The line end that stands before offset ``end``: CRLF, LF or nothing."""
    if raw.endswith(b"\r\n", 0, end):
        return b"\r\n"
    return b"\n" if raw.endswith(b"\n", 0, end) else b""


def find_header_end(buffer: bytes | bytearray, start: int = 0) -> int:
    """Where the body begins: the offset after the empty line that ends the header block, or -1 if none arrived yet.

    Only CRLF counts (RFC 5321 2.3.8). ``start``: how many octets of the buffer earlier calls have already seen; the
    search goes on from there. A message that begins with an empty line has an empty header block.
    """
    if buffer.startswith(b"\r\n"):
        return 2
    found = buffer.find(b"\r\n\r\n", max(0, start - 3))
    return found + 4 if found >= 0 else -1


def split_message(raw: bytes) -> tuple[bytes, int]:
    """Header block (with its empty line) and offset of the body of a message as stored in a file.

    Lines may end with CRLF, LF, or now one, now the other. Without an empty line everything is header block.
    """
    found = _EMPTY_LINE.search(raw)
    offset = found.end() if found else len(raw)
    return raw[:offset], offset
