"""The milter protocol (versions 2 to 6) as octets: packets in, packets out. Pure.

Called by :mod:`kaifu.proxy.milterconnection`. A packet is its length (four octets, big endian, of all that follows), one octet that
says what it is, and data. No RFC describes it: what counts is what Sendmail's libmilter and Postfix's milter client do.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct

from .edits import Delete, HeaderEdit, Insert
from .replies import Reply

VERSIONS = range(2, 7)

# What an MTA sends.
ABORT, BODY, CONNECT, MACROS, END, HELO, NEXT, HEADER = b"ABCDEHKL"
MAIL, END_OF_HEADER, NEGOTIATE, QUIT, RCPT, DATA, UNKNOWN = b"MNOQRTU"

# What a milter may want to change.
ADD_HEADERS, ADD_RCPT, DELETE_RCPT, CHANGE_HEADERS = 0x01, 0x04, 0x08, 0x10
ADD_RCPT_WITH_PARAMETERS, NAME_MACROS = 0x80, 0x100

# Steps that a milter does not need, and those that it does not answer.
NO_CONNECT, NO_HELO, NO_END_OF_HEADER, NO_UNKNOWN, NO_DATA, SKIP = 0x01, 0x02, 0x40, 0x100, 0x200, 0x400
SILENT_HEADER, SILENT_MAIL, SILENT_RCPT = 0x80, 0x4000, 0x8000

# Where macros are told.
AT_CONNECT, AT_MAIL, AT_RCPT, AT_END, AT_END_OF_HEADER = 0, 2, 3, 5, 6

LONG = Struct("!I")
_OPTIONS = Struct("!III")


def packet(command: bytes, data: bytes = b"") -> bytes:
    """One packet."""
    return b"%b%b%b" % (LONG.pack(len(data) + 1), command, data)


CONTINUE, SKIPPED = packet(b"c"), packet(b"s")
DISCARDED, REJECTED, DEFERRED = packet(b"d"), packet(b"r"), packet(b"t")


def offer(data: bytes) -> tuple[int, int, int] | None:
    """What an MTA offers (version, actions, steps); None when it makes no sense or is of a version that nobody has."""
    if len(data) < _OPTIONS.size:
        return None
    version, actions, steps = _OPTIONS.unpack_from(data)
    return (version, actions, steps) if version >= VERSIONS[0] else None


def choice(version: int, actions: int, steps: int, macros: Iterable[tuple[int, str]]) -> bytes:
    """What the milter takes of an offer. ``macros``: stage and names."""
    wanted = b"".join([b"%b%b\0" % (LONG.pack(stage), names.encode("ascii")) for stage, names in macros])
    return packet(b"O", _OPTIONS.pack(min(version, VERSIONS[-1]), actions, steps) + wanted)


def strings(data: bytes) -> list[bytes] | None:
    """Strings that end with a NUL each; None when the last does not."""
    return data[:-1].split(b"\0") if data[-1:] == b"\0" else None


def macros(data: bytes) -> dict[bytes, bytes]:
    """What a packet of macros tells, by name."""
    words = data[1:].split(b"\0")
    return dict(zip(words[::2], words[1::2], strict=False))


def edit(one: HeaderEdit) -> bytes:
    """A header edit."""
    if isinstance(one, Insert):
        return packet(b"h", b"%b\0%b\0" % (one.name.encode(), one.value.encode()))
    value = b"" if isinstance(one, Delete) else one.value.encode()
    return packet(b"m", b"%b%b\0%b\0" % (LONG.pack(one.nth), one.name.encode(), value))


def without(path: bytes) -> bytes:
    """Remove a recipient."""
    return packet(b"-", path + b"\0")


def also_to(path: bytes, parameters: bytes) -> bytes:
    """Add a recipient."""
    return packet(b"2", b"%b\0%b\0" % (path, parameters)) if parameters else packet(b"+", path + b"\0")


def reply(one: Reply) -> bytes:
    """Refuse or defer with a text, in which both MTAs read two percent signs as one."""
    text = one.text.replace("%", "%%")
    return packet(b"y", f"{one.code} {one.enhanced} {text}".encode("ascii", "replace") + b"\0")
