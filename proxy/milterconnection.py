"""One connection of an MTA over the milter protocol: collects a message step by step, and tells what to do with it.

Made by :mod:`kaifu.proxy.milter` for each connection, in its event loop. Only the steps that are needed are negotiated, without replies
where the MTA allows it, and a body is skipped unless the message is a possible report: a step costs more than what is
done in it. At the end of message :meth:`MilterHost.decide` gives the orders.

Limits: a packet has at most :data:`LARGEST_PACKET` octets. While a message is being decided, or while the MTA does not take our
answers, nothing more is read than that.

How it fails: every error of ours is a tempfail. A peer that breaks the protocol is hung up on, which an MTA takes for a tempfail
too; so it does with every connection that ends before its answer.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, cast

from . import milterwire as wire
from . import replies
from .edits import Insert
from .milterhost import MAX_HEADER, Collected, End, MilterHost, Orders
from .requestedits import Mta

ACTIONS = (
    wire.ADD_HEADERS
    | wire.CHANGE_HEADERS
    | wire.ADD_RCPT
    | wire.ADD_RCPT_WITH_PARAMETERS
    | wire.DELETE_RCPT
    | wire.NAME_MACROS
)
NOTIFY_ACTIONS = wire.DELETE_RCPT | wire.ADD_RCPT_WITH_PARAMETERS
STEPS = (
    wire.NO_CONNECT
    | wire.NO_HELO
    | wire.NO_DATA
    | wire.NO_UNKNOWN
    | wire.NO_END_OF_HEADER
    | wire.SILENT_MAIL
    | wire.SILENT_RCPT
    | wire.SILENT_HEADER
    | wire.SKIP
)
MACROS = (
    (wire.AT_CONNECT, "v"),
    (wire.AT_MAIL, "{none}"),
    (wire.AT_RCPT, "{none}"),
    (wire.AT_END, "i"),
    (wire.AT_END_OF_HEADER, "{none}"),
)
"""The MTA's version once, the queue id at the end, and else nothing, which has to be asked for: without a name MTAs send a packet of
what is usual. Sendmail takes the list for the end only where there is one for the end of the header too."""

LARGEST_PACKET = 2 * MAX_HEADER

ENDS = {End.ACCEPT: wire.CONTINUE, End.DISCARD: wire.DISCARDED, End.REJECT: wire.REJECTED, End.TEMPFAIL: wire.DEFERRED}


class HangUp(Exception):
    """The conversation is over: the peer says so, or speaks no milter protocol."""


class Server(Protocol):
    """Who has all the connections. ``under_way``: those with a message that has begun and not come whole. ``tcp``: no unix socket."""

    host: MilterHost
    tcp: bool
    stopping: bool
    connections: set[Connection]
    under_way: set[Connection]

    def decide(self, work: Coroutine[Any, Any, None]) -> None:
        """Run it in the background. When it takes too long it is cancelled."""


class Connection(asyncio.Protocol):
    """See above. ``heard_at``: when something came last (monotonic seconds)."""

    __slots__ = (
        "_actions", "_blocked", "_deciding", "_host", "_message", "_needed", "_paused", "_queue_id", "_sendmail", "_server",
        "_steps", "_tcp", "_transport", "_waiting", "heard_at",
    )  # fmt: skip

    def __init__(self, server: Server) -> None:
        self._server = server
        self._host = server.host
        self._transport: asyncio.Transport
        self._tcp: socket.socket | None = None
        self._actions = self._steps = 0
        self._message: Collected | None = None
        self._queue_id: bytes | None = None
        self._sendmail = False
        self._waiting = bytearray()
        self._needed = 0  # octets that must be waiting before there is something to do
        self._deciding = False
        self._blocked = False  # the peer does not take our answers
        self._paused = False  # nothing is read
        self.heard_at = 0.0

    # The event loop calls these.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The MTA has connected."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no heirs of it
        if self._server.tcp:
            self._tcp = self._transport.get_extra_info("socket")
        self.heard_at = time.monotonic()
        self._server.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        """The connection has ended. What is being decided is decided, and recorded."""
        self._server.connections.discard(self)
        self._give_up()

    def data_received(self, data: bytes) -> None:
        """Some octets have come."""
        self.heard_at = time.monotonic()
        if self._tcp is not None:
            # An MTA waits for the acknowledgement of one small packet before it sends the next, and the kernel, which hopes for
            # an answer to put it in, for 40 ms. The option holds until something is sent.
            self._tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        if self._waiting or self._deciding:
            self._waiting += data
            if self._deciding:
                self._read_or_pause()
                return
            if len(self._waiting) < self._needed:
                return
            data = bytes(self._waiting)
            self._waiting.clear()
        self._take(data)

    def pause_writing(self) -> None:
        """The MTA does not take our answers."""
        self._blocked = True
        self._read_or_pause()

    def resume_writing(self) -> None:
        """It does again."""
        self._blocked = False
        self._read_or_pause()

    def _read_or_pause(self) -> None:
        pause = self._blocked or (self._deciding and len(self._waiting) > LARGEST_PACKET)
        if pause != self._paused and not self._transport.is_closing():
            self._paused = pause
            if pause:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    # Packets.

    def _take(self, data: bytes) -> None:
        """Act upon all whole packets, up to one that has to be decided; the rest waits."""
        at, end = 0, len(data)
        self._needed = 5
        try:
            while end - at > 4 and not self._deciding:
                (length,) = wire.LONG.unpack_from(data, at)
                if not 0 < length <= LARGEST_PACKET:
                    raise HangUp
                following = at + 4 + length
                if following > end:
                    self._needed = following - at
                    break
                step = _STEPS.get(data[at + 4])
                if step is None:
                    raise HangUp
                step(self, data[at + 5 : following])
                at = following
        except HangUp:
            self.close()
        except Exception as error:  # noqa: BLE001 - whatever it is, this message must not be accepted
            self._host.unforeseen(error)
            self.close()
        else:
            self._waiting += data[at:]

    def _negotiate(self, data: bytes) -> None:
        offer = wire.offer(data)
        if offer is None:
            raise HangUp
        version, actions, steps = offer
        self._actions, self._steps = actions & ACTIONS, steps & STEPS
        macros = MACROS if actions & wire.NAME_MACROS else ()
        self._transport.write(wire.choice(version, self._actions, self._steps, macros))

    def _macros(self, data: bytes) -> None:
        told = wire.macros(data)
        self._queue_id = told.get(b"i", self._queue_id)
        if b"v" in told:
            self._sendmail = told[b"v"][:1].isdigit()  # Postfix says its name first

    def _mail(self, data: bytes) -> None:
        words = wire.strings(data)
        if words is None:
            raise HangUp
        self._message = Collected(self._host.policy.current, tuple(words))
        self._server.under_way.add(self)
        if not self._steps & wire.SILENT_MAIL:
            self._transport.write(wire.CONTINUE)

    def _rcpt(self, data: bytes) -> None:
        words = wire.strings(data)
        if words is None or self._message is None or self._message.reading is not None:
            raise HangUp
        self._message.add_recipient(tuple(words))
        if not self._steps & wire.SILENT_RCPT:
            self._transport.write(wire.CONTINUE)

    def _header(self, data: bytes) -> None:
        words = wire.strings(data)
        if words is None or len(words) < 2 or self._message is None or self._message.reading is not None:
            raise HangUp  # what comes after a piece of the body would not be judged
        self._message.add_header(words[0], words[1])
        if not self._steps & wire.SILENT_HEADER:
            self._transport.write(wire.CONTINUE)

    def _body(self, data: bytes) -> None:
        if self._message is None:
            raise HangUp
        wanted = self._take_body(self._message, data)
        self._transport.write(wire.CONTINUE if wanted or not self._steps & wire.SKIP else wire.SKIPPED)

    def _take_body(self, message: Collected, data: bytes) -> bool:
        try:
            return self._host.take_body(message, data)
        except Exception as error:  # noqa: BLE001 - at the end the MTA is told
            self._host.unforeseen(error)
            message.broken = "internal error"
            return False

    def _passed_over(self, data: bytes) -> None:
        """A step that was not asked for, of an MTA that cannot leave it out."""
        self._transport.write(wire.CONTINUE)

    def _abandon(self, data: bytes) -> None:
        """The message is given up, or another SMTP client's turn comes; the connection goes on."""
        self._give_up()

    def _quit(self, data: bytes) -> None:
        raise HangUp

    def _give_up(self) -> None:
        self._message = self._queue_id = None
        self._server.under_way.discard(self)

    def _end(self, data: bytes) -> None:
        """End of message; the last piece of body may come with it."""
        message, found = self._message, self._queue_id
        self._give_up()
        if message is None or not message.rcpt:
            self._transport.write(wire.DEFERRED)
            return
        if data:
            self._take_body(message, data)
        message.queue_id = found.decode("utf-8", "replace") if found is not None else None
        message.can_notify = self._actions & NOTIFY_ACTIONS == NOTIFY_ACTIONS
        message.mta = Mta.SENDMAIL if self._sendmail else Mta.POSTFIX
        message.others = len(self._server.under_way)
        self._deciding = True
        self._server.decide(self._decide(message))

    async def _decide(self, message: Collected) -> None:
        """Decide, record, and tell the MTA what to change."""
        try:
            answer = await self._answer(message)
        except asyncio.CancelledError:
            # A repetition continues the same record, should this one be written after all.
            orders = self._host.refuse(message, replies.LEDGER_FAILED, "the ledger does not answer; is its disk stuck?")
            answer = self._ending(orders)
        except Exception as error:  # noqa: BLE001 - half of the orders must not become a delivered message
            self._host.unforeseen(error, message.queue_id)
            answer = self._ending(Orders(End.TEMPFAIL))
        self._deciding = False
        if self._transport.is_closing():
            return
        self._transport.write(answer)
        self._read_or_pause()
        if self._waiting:
            data = bytes(self._waiting)
            self._waiting.clear()
            self._take(data)

    async def _answer(self, message: Collected) -> bytes:
        if self._server.stopping:
            orders = self._host.refuse(message, replies.STOPPING, "kaifu is stopping")
        else:
            orders = await self._host.decide(message)
            if _needed(orders) & ~self._actions:
                orders = self._host.refuse(
                    message, replies.OURS_FAILED, "the MTA does not let a milter make this change"
                )
        return self._ending(orders)

    def _ending(self, orders: Orders) -> bytes:
        """The orders on the wire, and counted."""
        packets = _packets(orders, sendmail=self._sendmail)
        self._host.ended[orders.end] += 1
        return packets

    def close(self) -> None:
        """Hang up, once the MTA has taken what was said."""
        self._waiting.clear()
        self._transport.close()

    def abort(self) -> None:
        """Hang up at once."""
        self._waiting.clear()
        self._transport.abort()


_STEPS: dict[int, Callable[[Connection, bytes], None]] = {
    wire.NEGOTIATE: Connection._negotiate,
    wire.MACROS: Connection._macros,
    wire.CONNECT: Connection._passed_over,
    wire.HELO: Connection._passed_over,
    wire.MAIL: Connection._mail,
    wire.RCPT: Connection._rcpt,
    wire.DATA: Connection._passed_over,
    wire.HEADER: Connection._header,
    wire.END_OF_HEADER: Connection._passed_over,
    wire.BODY: Connection._body,
    wire.END: Connection._end,
    wire.ABORT: Connection._abandon,
    wire.NEXT: Connection._abandon,
    wire.UNKNOWN: Connection._passed_over,
    wire.QUIT: Connection._quit,
}


def _needed(orders: Orders) -> int:
    """The actions that the MTA must allow for these orders."""
    needed = 0
    for edit in orders.edits:
        needed |= wire.ADD_HEADERS if isinstance(edit, Insert) else wire.CHANGE_HEADERS
    if orders.remove:
        needed |= wire.DELETE_RCPT
    if orders.again:
        needed |= wire.ADD_RCPT | wire.ADD_RCPT_WITH_PARAMETERS
    return needed


def _packets(orders: Orders, *, sendmail: bool) -> bytes:
    """The orders on the wire.

    A Sendmail that is kept from DSN (``noreceipts``) does not add a recipient with NOTIFY, and says so to nobody; what is added
    without, it adds only when it is not there. For Postfix that would be a second recipient.
    """
    packets = [wire.edit(edit) for edit in orders.edits]
    packets += [wire.without(path) for path in orders.remove]
    packets += [wire.also_to(path, parameters) for path, parameters in orders.again]
    packets += [wire.also_to(path, b"") for path, _ in orders.again if sendmail]
    packets.append(ENDS[orders.end] if orders.reply is None else wire.reply(orders.reply))
    return b"".join(packets)
