"""One TCP connection as octets: lines and chunks in, octets out, with back pressure and deadlines.

Both legs of the relay are wires: the client's and the next hop's. Reading is by pull (:meth:`Wire.line`,
:meth:`Wire.some`), one reader at a time. A wire never cancels anybody: when the peer goes away or a deadline
passes, whoever waits gets :class:`PeerGone` or :class:`PeerSilent`, and whoever does not wait goes on undisturbed.
Deadlines are checked by one :class:`Sweeper` per event loop, because a timer per command costs more than the
command; they hold to within a quarter of a second.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import cast

HIGH_WATER = 256 * 1024
"""Octets buffered per direction before the other side is made to wait."""

LINGER_SECONDS = 10.0
"""How long a peer may take to read the last words before it is dropped."""


class PeerGone(Exception):
    """The other side closed or reset the connection."""


class PeerSilent(Exception):
    """The deadline passed without progress."""


class Woken(Exception):
    """Somebody ended the wait from outside (graceful stop)."""


class LineTooLong(Exception):
    """A line exceeded its limit; it has been read to its end."""


class Wire(asyncio.Protocol):
    """A connection. ``eof``: the peer will send no more; ``gone``: nothing can be sent either."""

    def __init__(self, sweeper: Sweeper) -> None:
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.buffer = bytearray()
        self._chunk = b""  # what arrived while the buffer was empty: passed on without a copy
        self.eof = False
        self.gone = False
        self.deadline = 0.0
        self._sweeper = sweeper
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._reading_paused = False
        self._writing_paused = False
        self._upgrading = False
        self._closing = False

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if not self._upgrading:
            self.transport.set_write_buffer_limits(high=HIGH_WATER)
            self._sweeper.wires.add(self)

    def data_received(self, data: bytes) -> None:
        if self._chunk:
            self.buffer += self._chunk
            self._chunk = b""
        if self.buffer:
            self.buffer += data
        else:
            self._chunk = data
        if self.buffered > HIGH_WATER and not self._reading_paused:
            self._reading_paused = True
            self.transport.pause_reading()
        self._wake_reader()

    def eof_received(self) -> bool:
        self.eof = True
        self._wake_reader()
        # A half-closed client still gets its reply; TLS cannot be half closed.
        return self.transport.get_extra_info("ssl_object") is None

    def connection_lost(self, error: Exception | None) -> None:
        self.eof = self.gone = True
        self._sweeper.wires.discard(self)
        self._wake_reader()
        self._wake_writer()

    def pause_writing(self) -> None:
        self._writing_paused = True

    def resume_writing(self) -> None:
        self._writing_paused = False
        self._wake_writer()

    # the user's side

    @property
    def buffered(self) -> int:
        """Octets that have arrived and nobody has read."""
        return len(self.buffer) + len(self._chunk)

    async def line(self, limit: int, seconds: float) -> bytes:
        """The next line without its line end (CR LF, or LF alone).

        Raises :class:`LineTooLong` past ``limit`` octets, :class:`PeerGone`, :class:`PeerSilent`, :class:`Woken`.
        """
        self.deadline = self._sweeper.now() + seconds
        buffer = self.buffer
        searched = 0
        overlong = False
        while True:
            self._gather()
            if (end := buffer.find(b"\n", searched)) >= 0:
                break
            if len(buffer) > limit:
                overlong = True
                buffer.clear()
            searched = len(buffer)
            if self.eof:
                raise PeerGone
            await self._wait_for_data()
        line = bytes(buffer[: end - 1 if end and buffer[end - 1] == 13 else end])
        del buffer[: end + 1]
        self._resume()
        if overlong or len(line) > limit:
            raise LineTooLong
        return line

    async def some(self, seconds: float) -> bytes:
        """Whatever has arrived, at least one octet. Progress: the deadline starts anew with each call."""
        self.deadline = self._sweeper.now() + seconds
        while not (self.buffer or self._chunk):
            if self.eof:
                raise PeerGone
            await self._wait_for_data()
        if self.buffer:
            self._gather()
            data = bytes(self.buffer)
            self.buffer.clear()
        else:
            data, self._chunk = self._chunk, b""
        self._resume()
        return data

    def unread(self, data: bytes) -> None:
        """Put octets back in front of what comes next."""
        self._gather()
        self.buffer[:0] = data

    def _gather(self) -> None:
        if self._chunk:
            self.buffer += self._chunk
            self._chunk = b""

    def write(self, data: bytes) -> None:
        """Send octets; without effect when the peer is gone (reading will tell)."""
        if not self.gone:
            self.transport.write(data)

    async def drain(self, seconds: float) -> None:
        """Wait until the peer has taken enough. Raises :class:`PeerGone` or :class:`PeerSilent`."""
        if self._writing_paused and not self.gone:
            self.deadline = self._sweeper.now() + seconds
            self._writer = asyncio.get_running_loop().create_future()
            try:
                await self._writer
            finally:
                self._writer = None
        if self.gone:
            raise PeerGone

    def now(self) -> float:
        """The loop's clock, in seconds."""
        return self._sweeper.now()

    def wake(self, error: Exception) -> None:
        """End the current wait, for data or for room, with ``error``; nothing happens when nobody waits."""
        for waiting in (self._reader, self._writer):
            if waiting is not None and not waiting.done():
                waiting.set_exception(error)

    @property
    def tls(self) -> ssl.SSLObject | None:
        """The TLS state, read off the transport: it is the only one that knows."""
        if self.transport is None:
            return None
        return cast("ssl.SSLObject | None", self.transport.get_extra_info("ssl_object"))

    async def start_tls(
        self, context: ssl.SSLContext, *, server_side: bool, seconds: float, name: str | None = None
    ) -> None:
        """Upgrade to TLS. What was received in clear before is discarded (RFC 3207 section 4.2).

        Raises OSError or ssl.SSLError when the handshake fails; the connection is then unusable.
        """
        self.buffer.clear()
        self._chunk = b""
        self._upgrading = True
        transport = await asyncio.get_running_loop().start_tls(
            self.transport, self, context, server_side=server_side, server_hostname=name, ssl_handshake_timeout=seconds
        )
        if transport is None:
            raise OSError("connection lost during the TLS handshake")
        self.transport = transport
        self.transport.set_write_buffer_limits(high=HIGH_WATER)

    def close(self) -> None:
        """Close after what was written has been sent, or when the peer does not read it for a while."""
        if self.transport is not None and not self.gone:
            self._closing = True
            self.deadline = self._sweeper.now() + LINGER_SECONDS
            self.transport.close()

    def abort(self) -> None:
        """Drop the connection at once: what was begun must not look complete to the peer."""
        self._sweeper.wires.discard(self)
        if self.transport is not None and not self.gone:
            self.transport.abort()

    def expire(self) -> None:
        """The sweeper's call when the deadline has passed."""
        if self._closing:
            self.abort()
        self.wake(PeerSilent())

    async def _wait_for_data(self) -> None:
        self._resume()
        self._reader = asyncio.get_running_loop().create_future()
        try:
            await self._reader
        finally:
            self._reader = None

    def _resume(self) -> None:
        if self._reading_paused and not self.gone and self.buffered <= HIGH_WATER:
            self._reading_paused = False
            self.transport.resume_reading()

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _wake_writer(self) -> None:
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(None)


class Sweeper:
    """Looks at all deadlines of an event loop a few times a second."""

    TICK = 0.25

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.wires: set[Wire] = set()
        self.now = loop.time
        self._loop = loop
        self._handle: asyncio.TimerHandle | None = loop.call_later(self.TICK, self._sweep)

    def _sweep(self) -> None:
        now = self.now()
        for wire in [w for w in self.wires if w.deadline < now]:
            wire.expire()
        self._handle = self._loop.call_later(self.TICK, self._sweep)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
