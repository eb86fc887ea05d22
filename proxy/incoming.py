"""A message on its way in: the header block first, then the body piece by piece, then drained or spooled.

``Incoming`` reads from the client's wire; ``Spool`` keeps a body that has to be sent more than once (several outcomes)
or looked at whole before it is sent (its size or digest decides). A spool lies in memory while it is small, then in an
unlinked temporary file, within the disk that the relay may use; nothing of it outlives the session.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from . import replies
from .datastream import BareLineEnd, DataStream
from .message import find_header_end
from .replies import ReplyError
from .wire import PeerGone, PeerSilent, Wire, Woken

MAX_HEADER = 1 << 20
IN_MEMORY = 128 * 1024
CHUNK = 64 * 1024


class ClientGone(Exception):
    """The client went away before its message was complete."""


class Source(Protocol):
    """A body in stuffed form, without the final dot."""

    def pieces(self) -> AsyncIterator[bytes]:
        """The octets from the start, or from where the last reader stopped."""
        ...


class Incoming:
    """One message as the client sends it, up to its final dot."""

    def __init__(self, wire: Wire, start_seconds: float, block_seconds: float) -> None:
        self._wire = wire
        self._seconds = start_seconds
        self._block_seconds = block_seconds
        self._stream = DataStream()
        self._pending = b""
        self._given_up = False

    def give_up(self) -> None:
        """Wait no longer for the rest of the message, if it has not arrived."""
        self._given_up = True
        self._wire.wake(Woken())

    async def next(self) -> bytes | None:
        """The next octets of the message, None at its end.

        Raises :class:`ClientGone`, and a closing :class:`ReplyError`: 421 for a client that is silent or given up, 521 for a
        bare CR or LF.
        """
        if self._pending:
            piece, self._pending = self._pending, b""
            return piece
        while not self._stream.done:
            try:
                if self._given_up:
                    raise Woken
                chunk = await self._wire.some(self._seconds)
            except Woken:
                raise ReplyError(
                    replies.STOPPING, "the client was still sending when the relay stopped", close=True
                ) from None
            except PeerGone:
                raise ClientGone from None
            except PeerSilent:
                raise ReplyError(replies.IDLE, "the client fell silent within its message", close=True) from None
            self._seconds = self._block_seconds
            try:
                piece = self._stream.feed(chunk)
            except BareLineEnd:
                raise ReplyError(replies.BARE_LINE_END, "bare CR or LF in the message", close=True) from None
            if self._stream.rest:
                self._wire.unread(self._stream.rest)
                self._stream.rest = b""
            if piece:
                return piece
        return None

    async def pieces(self) -> AsyncIterator[bytes]:
        while (piece := await self.next()) is not None:
            yield piece

    async def header(self) -> bytes:
        """The header block in stuffed form, up to and including its empty line if there is one.

        Raises :class:`ReplyError` 552 past 1 MiB (the rest of the message has then been read).
        """
        taken: bytes | bytearray = b""
        while True:
            piece = await self.next()
            if piece is None:
                if len(taken) > MAX_HEADER:
                    raise ReplyError(replies.HEADER_TOO_LARGE)
                return bytes(taken)
            searched = len(taken)
            if not searched:
                taken = piece  # nearly always the whole block: no copy
            else:
                taken = bytearray(taken) if isinstance(taken, bytes) else taken
                taken += piece
            end = find_header_end(taken, searched)
            if 0 <= end <= MAX_HEADER:
                self._pending = bytes(taken[end:])
                return bytes(taken[:end])
            if len(taken) > MAX_HEADER:
                await self.drain()
                raise ReplyError(replies.HEADER_TOO_LARGE)

    async def hold(self, limit: int) -> tuple[bytes, bool]:
        """The first octets of the body, at least ``limit`` unless it is shorter, and whether that is all of it.

        They are still to be sent: the next reader gets them again.
        """
        held = bytearray()
        while len(held) < limit:
            piece = await self.next()
            if piece is None:
                break
            held += piece
        self._pending = bytes(held)
        return self._pending[:limit], self._stream.done and len(held) <= limit

    async def drain(self) -> None:
        """Read to the final dot and forget it. Raises as :meth:`next`."""
        while await self.next() is not None:
            pass


async def drain_briefly(wire: Wire, seconds: float) -> None:
    """Take what a client still sends after it was told 521, so that the reply reaches it instead of a reset.

    Ends early when the client goes away or the relay stops.
    """
    deadline = wire.now() + seconds
    try:
        while (left := deadline - wire.now()) > 0:
            await wire.some(left)
    except (PeerGone, PeerSilent, Woken):
        pass


def directory_problem(directory: Path | None) -> str | None:
    """Why temporary files cannot lie in a directory, in words; None (which is also the system's own directory): they can."""
    if directory is None or (os.path.isdir(directory) and os.access(directory, os.W_OK | os.X_OK)):
        return None
    return f"{directory} is no directory that can be written"


class Disk:
    """The temporary disk that all sessions of a process may use together."""

    def __init__(self, limit: int, directory: Path | None) -> None:
        self.limit = limit
        self.directory = directory
        self.used = 0


class Spool:
    """A whole body, kept while its message is dealt with. ``digest``: SHA-256 of the body as received."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._file = tempfile.SpooledTemporaryFile(  # noqa: SIM115 - closed by close()
            max_size=IN_MEMORY, dir=str(disk.directory) if disk.directory else None, prefix="kaifu-"
        )
        self._hash = hashlib.sha256()
        self.size = 0

    async def fill(self, incoming: Incoming) -> None:
        """Take the whole body. Raises :class:`ReplyError` 452 when there is no room (the body has then been read)."""
        try:
            while (piece := await incoming.next()) is not None:
                if self._disk.used + len(piece) > self._disk.limit:
                    await incoming.drain()
                    raise ReplyError(replies.NO_SPACE, "temporary_disk is used up")
                self._file.write(piece)
                self._disk.used += len(piece)
                self.size += len(piece)
                self._hash.update(piece)
            self._file.flush()
        except OSError as error:
            await incoming.drain()
            raise ReplyError(replies.NO_SPACE, f"temporary file: {error.strerror}") from None

    @property
    def digest(self) -> bytes:
        return self._hash.digest()

    async def pieces(self) -> AsyncIterator[bytes]:
        for piece in self._read():
            yield piece

    def _read(self) -> Iterator[bytes]:
        self._file.seek(0)
        while piece := self._file.read(CHUNK):
            yield piece

    def close(self) -> None:
        """Give the room back."""
        self._disk.used -= self.size
        self.size = 0
        with suppress(OSError):  # what a full disk did not take is tried once more, in vain
            self._file.close()
