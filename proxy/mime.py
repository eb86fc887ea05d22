"""The structure of a message body: where its parts lie, read only.

Called by ``reports`` for messages that may be reports. One buffer is read, nothing is copied but what a caller asks
for with :meth:`Entity.content`. Parts are found through ``multipart/*`` only: what a ``message/rfc822``,
``message/global`` or ``text/rfc822-headers`` holds is opaque here, because a person who forwards something does not
send it (RFC 2046 5.1, 5.2).

Tolerated: CRLF and LF line ends, mixed; spaces after a delimiter; a missing closing delimiter; a preamble and an
epilogue; parts without a header; parts of a multipart/report whose header follows an empty line; a multipart/report
without its boundary, which is then taken from the delimiter line before the first ``message/*`` part. The buffer may be
the beginning of a message only (``complete=False``): :attr:`Entity.whole` says whether a part ends inside it.

Limits: :data:`MAX_DEPTH` nested multiparts, :data:`MAX_PARTS` parts, :data:`MAX_LINES` lines that begin like a
delimiter, in all; beyond them the reading stops and :attr:`Structure.exceeded` is set. Of the header of a part the
first :data:`MAX_HEADER` octets count. Time is at most (depth + 1) × length. Never raises.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from kaifu.proxy.message import HeaderBlock
from kaifu.proxy.mimetype import EMBEDDED, TEXT, ContentType, parse_content_type

MAX_DEPTH = 10
MAX_PARTS = 500
MAX_LINES = 20_000
MAX_HEADER = 65_536

_EMPTY_LINE = re.compile(rb"\n\r?\n")
_FIELD = re.compile(rb"[!-9;-~]++[ \t]*+:")
_LINE_END = re.compile(rb"\r?\n")
_LATE_HEADER = re.compile(rb"(?>(?:\r?\n)+)(?=content-[a-z-]++[ \t]*+:)", re.IGNORECASE)
_REPORT_DELIMITER = re.compile(
    rb"(?:\A|\n)--([!-~](?:[ -~]{0,199}[!-~])?)[ \t]*+\r?\n(?=content-type[ \t]*+:[ \t]*+message/)", re.IGNORECASE
)
_DELIMITER_TAIL = re.compile(rb"(?>(--)?)[ \t\r]*+(\n|\Z)")
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/]++")


@dataclass
class Entity:
    """One MIME entity: the message itself or a part.

    ``header``: its header block. ``start``, ``end``: where its body lies in ``buffer``; the line end before a delimiter
    belongs to the delimiter. ``delimited``: a delimiter line ended it, or one that holds it. ``whole``: its last
    octet is in the buffer. ``parts``: for ``multipart/*``. ``odd``: what does not conform, in words.
    """

    buffer: bytes = field(repr=False)
    header: HeaderBlock
    type: ContentType
    start: int
    end: int
    delimited: bool
    whole: bool
    parts: tuple[Entity, ...] = ()
    odd: tuple[str, ...] = ()

    @property
    def body(self) -> bytes:
        """The octets of the body, still encoded."""
        return self.buffer[self.start : self.end]

    @cached_property
    def encoding(self) -> str:
        """Content-Transfer-Encoding in lower case (RFC 2045 6); ``7bit`` when there is none."""
        return transfer_encoding(self.header)

    @cached_property
    def attachment(self) -> bool:
        """Does Content-Disposition call it an attachment (RFC 2183 2.2)?"""
        values = self.header.raw_values("content-disposition")
        return bool(values) and values[0].lower().startswith(b"attachment")

    @property
    def is_empty(self) -> bool:
        """True when the body holds nothing but white space."""
        return not self.body.strip()

    def content(self) -> bytes:
        """The body with its Content-Transfer-Encoding undone; what cannot be decoded is left out."""
        return decoded(self.body, self.encoding)

    def walk(self) -> Iterator[Entity]:
        """This entity and all below it, in the order in which they stand."""
        yield self
        for part in self.parts:
            yield from part.walk()


@dataclass(frozen=True, slots=True)
class Structure:
    """What was found. ``exceeded``: a limit stopped the reading. ``lines``: delimiter-like lines that were looked at."""

    top: Entity
    exceeded: bool
    lines: int


def read_structure(header: HeaderBlock, body: bytes, *, complete: bool = True) -> Structure:
    """The structure of a message. ``body``: what follows the header block, or its beginning (``complete=False``)."""
    reader = _Reader(body, complete)
    top = reader.entity(header, TEXT, 0, len(body), (False, complete), 0, ())
    return Structure(top, reader.exceeded, reader.lines)


def content_type(header: HeaderBlock, default: ContentType = TEXT) -> ContentType:
    """The type of an entity: of its first Content-Type field, or the default (RFC 2045 5.2)."""
    values = header.raw_values("content-type")
    return (parse_content_type(values[0]) if values else None) or default


def transfer_encoding(header: HeaderBlock) -> str:
    """Content-Transfer-Encoding in lower case (RFC 2045 6); ``7bit`` when there is none."""
    values = header.raw_values("content-transfer-encoding")
    words = values[0].decode("latin-1").lower().split(None, 1) if values else []
    return words[0].rstrip(";") if words else "7bit"


def decoded(octets: bytes, encoding: str) -> bytes:
    """Octets with base64 or quoted-printable undone (RFC 2045 6.7, 6.8), other encodings as they are. Never fails."""
    if encoding == "quoted-printable":
        return binascii.a2b_qp(octets)
    if encoding != "base64":
        return octets
    letters = _NOT_BASE64.sub(b"", octets.partition(b"=")[0])  # padding ends the data
    if len(letters) % 4 == 1:
        letters = letters[:-1]  # six bits are no octet
    return binascii.a2b_base64(letters + b"=" * (-len(letters) % 4))


class _Reader:
    """One reading of one buffer: counts what it looks at, so that no message can make it look for ever."""

    def __init__(self, buffer: bytes, complete: bool) -> None:
        self.buffer = buffer
        self.complete = complete
        self.exceeded = False
        self.parts = 0
        self.lines = 0

    def entity(
        self,
        header: HeaderBlock,
        default: ContentType,
        start: int,
        end: int,
        ended: tuple[bool, bool],
        depth: int,
        odd: tuple[str, ...],
    ) -> Entity:
        """The entity whose body is ``start:end``. ``ended``: is it delimited, is it whole."""
        media = content_type(header, default)
        entity = Entity(self.buffer, header, media, start, end, *ended, odd=odd)
        boundary = media.boundary
        if media.type == "multipart" and boundary is None:
            entity.odd += ("no boundary is given",)
            guess = _REPORT_DELIMITER.search(self.buffer, start, end) if media.subtype == "report" else None
            boundary = guess[1] if guess is not None else None
        if boundary is None:
            pass
        elif depth >= MAX_DEPTH:
            self.exceeded = True
        else:
            entity.parts = tuple(self._parts(entity, b"--" + boundary, depth))
        return entity

    def _parts(self, entity: Entity, marker: bytes, depth: int) -> Iterator[Entity]:
        begin: int | None = None
        for before, after, closing in self._delimiters(entity, marker):
            if begin is not None:
                yield self._part(entity, begin, before, (True, True), depth)
                self.parts += 1
                if self.parts >= MAX_PARTS:
                    self.exceeded = True
                    return
            if closing:
                return
            begin = after
        if begin is None:
            entity.odd += ("a multipart without parts",)
            return
        entity.odd += ("no closing delimiter",)
        yield self._part(entity, begin, entity.end, (entity.delimited, entity.whole), depth)

    def _delimiters(self, entity: Entity, marker: bytes) -> Iterator[tuple[int, int, bool]]:
        """Each delimiter line: where the part before it ends, where the next begins, and whether it closes."""
        buffer, end = self.buffer, entity.end
        open_ended = not entity.whole
        line = entity.start if buffer.startswith(marker, entity.start, end) else self._next(marker, entity.start, end)
        while line >= 0 and not self.exceeded:
            self.lines += 1
            if self.lines >= MAX_LINES:
                self.exceeded = True
                return
            tail = _DELIMITER_TAIL.match(buffer, line + len(marker), end)
            if tail is not None and (tail[2] or not open_ended):
                before = max(entity.start, line - (2 if buffer.endswith(b"\r\n", entity.start, line) else 1))
                yield before, tail.end(), bool(tail[1])
                line = self._next(marker, tail.end() - len(tail[2]), end)
            else:
                line = self._next(marker, line + len(marker), end)

    def _next(self, marker: bytes, start: int, end: int) -> int:
        """Where the next line that begins with the marker starts, at or after the line end at ``start``; or -1."""
        found = self.buffer.find(b"\n" + marker, start, end)
        return found + 1 if found >= 0 else -1

    def _part(self, parent: Entity, start: int, end: int, ended: tuple[bool, bool], depth: int) -> Entity:
        default = EMBEDDED if parent.type.full == "multipart/digest" else TEXT
        odd: tuple[str, ...] = ()
        late = _LATE_HEADER.match(self.buffer, start, end) if parent.type.full == "multipart/report" else None
        if late is not None:
            start = late.end()
            odd = ("an empty line before the header of the part",)
        empty = _LINE_END.match(self.buffer, start, end)
        if empty is not None or start >= end:
            begin = empty.end() if empty is not None else end
            return self.entity(HeaderBlock.parse(b""), default, min(begin, end), end, ended, depth + 1, odd)
        if _FIELD.match(self.buffer, start, end) is None:
            odd += ("no empty line before the text of a part",)
            return self.entity(HeaderBlock.parse(b""), default, start, end, ended, depth + 1, odd)
        found = _EMPTY_LINE.search(self.buffer, start, end)
        stop = found.end() if found is not None else end
        header = HeaderBlock.parse(self.buffer[start : min(stop, start + MAX_HEADER)])
        if not header.complete:  # the fields end at something that is no field, or nothing follows them
            odd += ("no empty line after the header of a part",)
            stop = start + header.fields_end
        return self.entity(header, default, stop, end, ended, depth + 1, odd)
