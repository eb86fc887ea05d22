"""Header edits: what is to change, and the one function that changes it.

Edits address a field by name (case-insensitive) and 1-based occurrence counted over the block as received,
as libmilter does. ``transit`` makes them; the relay applies them with :func:`splice`, the milter hands them to the MTA
in :func:`milter_order`, with values as :func:`fold` gives them.

What no edit names keeps its octets. The only octets that are added besides are line ends without which the
result would not read as meant: one after a last line that was cut off, if something is to follow it; and an empty
line where a block without any field begins with white space, which would continue a field put before it.

An edit that cannot be written is an error of ours, so it is one to construct it: ``ValueError`` for a name that is no
field name, or a value with CR, LF, NUL or a lone surrogate. :func:`splice` raises ``ValueError`` for edits that
contradict each other or name a field that is not there, and for a value that no folding brings under 998 octets a
line; :func:`fold` can be asked beforehand.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from kaifu.policies.values import unchanging
from kaifu.proxy.message import HeaderBlock, HeaderField, line_end

LINE_WANTED = 78
"""Octets of a line that should not be exceeded (RFC 5322 2.1.1)."""

LINE_LIMIT = 998
"""Octets of a line that must not be exceeded (RFC 5322 2.1.1)."""

_NAME = re.compile("[!-9;-~]+")
_FORBIDDEN = re.compile("[\r\n\x00\ud800-\udfff]")
_WORD = re.compile(rb"[ \t]*+[^ \t]++")


@unchanging
class Delete:
    """Remove the ``nth`` field called ``name`` with all its folded lines."""

    name: str
    nth: int


@unchanging
class Change:
    """Give the ``nth`` field called ``name`` another value (ASCII, or UTF-8 in an SMTPUTF8 transaction)."""

    name: str
    nth: int
    value: str

    def __post_init__(self) -> None:
        _check_value(self.name, self.value)


@unchanging
class Insert:
    """Add a field after the last one of the block."""

    name: str
    value: str

    def __post_init__(self) -> None:
        if _NAME.fullmatch(self.name) is None:
            raise ValueError(f"no field name: {self.name!r}")
        _check_value(self.name, self.value)


HeaderEdit = Delete | Change | Insert


def _check_value(name: str, value: str) -> None:
    if _FORBIDDEN.search(value) is not None:
        raise ValueError(f"the value for {name} holds a line end, a NUL or half a character")


def splice(block: HeaderBlock, edits: Sequence[HeaderEdit], *, prefix: bytes = b"") -> bytes:
    """The octets of the block with the edits made. The order of the edits does not matter, but for that of inserts.

    ``prefix``: whole lines that go before the first field as they are (the ``Received`` of the relay). Without edits
    and prefix the block's own octets come back, the same object.
    """
    if not edits and not prefix:
        return block.raw
    if prefix and not prefix.endswith(b"\r\n"):
        raise ValueError("the prefix must end with a line end")
    raw = block.raw
    changed, inserted = _sorted(block, edits)
    pieces = [raw[: block.fields_start]]
    if prefix:
        pieces += (_missing_line_end(pieces), prefix)
    position = block.fields_start
    for field, edit in changed:
        pieces.append(raw[position : field.start])
        if isinstance(edit, Change):
            pieces.append(_changed(field, edit.value))
        position = field.end
    pieces.append(raw[position : block.fields_end])
    if inserted:
        pieces.append(_missing_line_end(pieces))
        newline = line_end(raw, block.fields_end) or b"\r\n"
        for insert in inserted:
            name = insert.name.encode("ascii")
            pieces += (name, b":", fold(insert.name, insert.value, newline), newline)
    if not block and block.rest.startswith((b" ", b"\t")):
        pieces.append(b"\r\n")  # else the first line of a body without header would continue our field
    pieces.append(block.rest)
    return b"".join(pieces)


def _sorted(
    block: HeaderBlock, edits: Iterable[HeaderEdit]
) -> tuple[list[tuple[HeaderField, Delete | Change]], list[Insert]]:
    """The fields to change or delete in the order in which they stand, each with its edit; and the inserts."""
    inserted: list[Insert] = []
    by_start: dict[int, tuple[HeaderField, Delete | Change]] = {}
    for edit in edits:
        if isinstance(edit, Insert):
            inserted.append(edit)
            continue
        field = block.nth(edit.name, edit.nth)
        if field is None:
            raise ValueError(f"no field to edit: {edit.name} #{edit.nth}")
        if field.start in by_start:
            raise ValueError(f"two edits of one field: {edit.name} #{edit.nth}")
        by_start[field.start] = field, edit
    return [by_start[start] for start in sorted(by_start)], inserted


def _changed(field: HeaderField, value: str) -> bytes:
    """The field with another value; its name, and how its last line ends, stay as they were."""
    head = field.raw[: field.value_start - field.start]
    return head + fold(head[:-1].decode("latin-1"), value, field.line_end or b"\r\n") + field.line_end


def _missing_line_end(pieces: list[bytes]) -> bytes:
    """What the last line so far lacks before another can follow."""
    last = next((piece for piece in reversed(pieces) if piece), b"\n")
    return b"" if last.endswith(b"\n") else b"\r\n"


def fold(name: str, value: str, newline: bytes = b"\r\n") -> bytes:
    """What stands after ``name:`` for that value: folded where white space allows, without the last line end.

    Lines aim at 78 octets; unfolded again, the value is the same but for white space around it. Raises ``ValueError``
    when a line would exceed 998 octets all the same.
    """
    octets = value.strip(" \t").encode("utf-8")
    length = len(name) + 1
    if length + 1 + len(octets) <= LINE_WANTED:
        return b" " + octets if octets else b""
    pieces: list[bytes] = []
    for word in _WORD.findall(b" " + octets):
        if (length + len(word) > LINE_WANTED and pieces) or length + len(word) > LINE_LIMIT:
            pieces.append(newline)
            length = 0
        pieces.append(word)
        length += len(word)
        if length > LINE_LIMIT:
            raise ValueError(f"the value for {name} cannot be folded to lines of at most {LINE_LIMIT} octets")
    return b"".join(pieces)


def milter_order(edits: Iterable[HeaderEdit]) -> tuple[HeaderEdit, ...]:
    """The edits in the order in which they must be sent to an MTA, which counts anew after every deletion.

    First the changes, then the deletions from last to first, then the inserts in their own order.
    """

    def place(edit: HeaderEdit) -> tuple[int, int]:
        if isinstance(edit, Insert):
            return 2, 0
        return (1, -edit.nth) if isinstance(edit, Delete) else (0, edit.nth)

    return tuple(sorted(edits, key=place))
