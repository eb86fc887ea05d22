"""One client's SMTP session: commands in, replies out (RFC 5321, pass-through).

The session owns the order of commands and what the client was shown. The envelope is :mod:`kaifu.proxy.transaction`'s, a
message's octets are :mod:`kaifu.proxy.transfer`'s. A session is never cancelled: it ends when the client
quits, goes away, falls silent, errs too often, or when the relay stops, and then only between messages.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING

from . import replies
from .address import AddressError
from .authentication import Authentication
from .delivery import Upstream
from .envelope import Envelope
from .extensions import ehlo_reply, for_client, keywords
from .incoming import ClientGone, Incoming, drain_briefly
from .nexthop import Answer, Capabilities, NextHop, NextHopError, is_loopback, plain_address
from .replies import Reply, ReplyError
from .settings import Listener
from .trace import Client, received_field
from .transaction import Transaction
from .transfer import Transfer
from .wire import LineTooLong, PeerGone, PeerSilent, Sweeper, Wire, Woken

if TYPE_CHECKING:
    from .relay import Relay

COMMAND_LIMIT = 12288
"""Octets of a command line; RFC 4954 section 4 asks for as much in AUTH."""


class ClientWire(Wire):
    """The client's connection; starts its session when it is made."""

    def __init__(self, relay: Relay, listener: Listener, sweeper: Sweeper) -> None:
        super().__init__(sweeper)
        self._relay = relay
        self._listener = listener
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self._task is not None:
            return
        peer = transport.get_extra_info("peername")
        if peer is None:
            # Reset before it was accepted. What it sent can still be read, but nobody can say any more who it was.
            self.abort()
            return
        session = Session(self._relay, self, self._listener, peer)
        self._task = asyncio.get_running_loop().create_task(session.run())


class Session:
    """The state of one client connection."""

    def __init__(self, relay: Relay, wire: ClientWire, listener: Listener, peer: tuple[str, int]) -> None:
        self.relay = relay
        self.wire = wire
        self.address = plain_address(peer[0])
        self.authenticated = False
        self.private: NextHop | None = None
        self._incoming: Incoming | None = None
        self._port: int = peer[1]
        self._listener = listener
        self._trusted = relay.trusts(self.address)
        self._hello = b""
        self._extended = False
        self.shown = Capabilities()
        self._errors = 0
        self._finished = False
        self._handshaking = False
        self._transaction = Transaction(self)

    # the life of a session

    async def run(self) -> None:
        """From greeting to goodbye. Nothing escapes: what is unforeseen is logged and answered 451 or 421."""
        refused = self.relay.enter(self)
        try:
            if refused is not None:
                self._say(refused)
                return
            self._say(Reply(220, "", f"{self.relay.relay_settings.hostname} ESMTP kaifu"))
            while not self._finished:
                await self._next_command()
        except (PeerGone, ClientGone):
            pass
        except PeerSilent:
            self._say(replies.IDLE)
        except Woken:
            self._say(replies.STOPPING)
        except ReplyError as error:
            self._say(error.reply)
            if error.reply is replies.BARE_LINE_END:
                await drain_briefly(self.wire, 5.0)
        except Exception as error:  # noqa: BLE001 - a bug of ours must not become a traceback, nor a lost message
            self.relay.unforeseen(error, client=self.address)
            self._say(replies.OURS_FAILED)
        finally:
            try:
                await self._transaction.abandon()
                self.drop_private()
            finally:
                self.wire.close()
                self.relay.leave(self)

    def stop(self) -> None:
        """The relay is stopping: end now when nothing is under way, else after the current message.

        A message that is still being sent has the time of one more step to arrive.
        """
        if self._handshaking:
            self.wire.abort()
        elif self._incoming is None:
            self.wire.wake(Woken())
        else:
            seconds = self.relay.relay_settings.timeouts.data_block
            asyncio.get_running_loop().call_later(seconds, self._incoming.give_up)

    def drop_private(self) -> None:
        """Part with the next hop's connection that was this session's own."""
        if self.private is not None:
            self.relay.pool.quit(self.private)
        self.private = None
        self.authenticated = False

    async def _next_command(self) -> None:
        if self.relay.stopping:
            raise Woken
        seconds = self.relay.relay_settings.timeouts.command
        try:
            await self.wire.drain(seconds)  # who does not read its replies gets no further
            line = await self.wire.line(COMMAND_LIMIT, seconds)
            await self._dispatch(line)
        except LineTooLong:
            self._complain(ReplyError(replies.COMMAND_TOO_LONG))
        except AddressError as error:
            self._complain(ReplyError(error.reply))
        except NextHopError as error:
            self.relay.log("next-hop-failed", client=self.address, next_hop=self.relay.pool.name, cause=error.cause)
            self._say(error.reply)
            self._finished = error.reply.code == 421
        except ReplyError as error:
            if error.close:
                raise
            self._complain(error)

    def _complain(self, error: ReplyError) -> None:
        """Refuse one command; a client that keeps erring is sent away (RFC 5321 4.3.2 allows 421 at any time)."""
        self._say(error.reply)
        if error.reply.code in (500, 501, 502, 503, 530, 554):
            self._errors += 1
            if self._errors > self.relay.relay_settings.limits.errors:
                raise ReplyError(replies.TOO_MANY_ERRORS, close=True)

    def _say(self, reply: Reply) -> None:
        self.wire.write(reply.octets())

    async def _dispatch(self, line: bytes) -> None:
        if any(octet < 32 and octet != 9 for octet in line):
            raise ReplyError(replies.COMMAND_TOO_LONG.saying("Control characters in a command"))
        verb, _, argument = line.partition(b" ")
        argument = argument.strip(b" \t")
        match verb.upper().strip():
            case b"EHLO":
                await self._on_hello(argument, extended=True)
            case b"HELO":
                await self._on_hello(argument, extended=False)
            case b"MAIL":
                await self._on_mail(argument)
            case b"RCPT":
                self.wire.write(await self._transaction.rcpt(argument))
            case b"DATA":
                await self._on_data(argument)
            case b"RSET":
                await self._transaction.abandon()
                self._say(replies.OK)
            case b"NOOP":
                self._say(replies.OK)
            case b"QUIT":
                self._finished = True
                self._say(replies.BYE)
            case b"STARTTLS":
                await self._on_starttls(argument)
            case b"AUTH":
                await self._on_auth(line)
            case b"XFORWARD":
                self._on_xforward(argument)
            case b"VRFY":
                self._say(replies.CANNOT_VERIFY)
            case b"HELP":
                self._say(replies.HELP)
            case b"EXPN" | b"TURN" | b"ETRN" | b"BDAT" | b"SEND" | b"SOML" | b"SAML":
                raise ReplyError(replies.NOT_HERE)
            case _:
                raise ReplyError(replies.UNKNOWN_COMMAND)

    # greeting and TLS

    async def _on_hello(self, name: bytes, *, extended: bool) -> None:
        if not name:
            raise ReplyError(replies.SYNTAX.saying("A host name is needed"))
        await self._transaction.abandon()
        offered = await self.relay.pool.capabilities() if self.private is None else self.private.capabilities
        self._hello, self._extended = name, extended
        if not extended:
            self.shown = Capabilities()
            self._say(Reply(250, "", self.relay.relay_settings.hostname))
            return
        protected = self.wire.tls is not None or is_loopback(self.address)
        self.shown = keywords(
            offered,
            start_tls=self._listener.tls == "starttls" and self.wire.tls is None,
            auth=self.relay.relay_settings.auth and protected and not self.authenticated,
            xforward=self.relay.relay_settings.xforward and self._trusted and not self._listener.outside,
        )
        self.wire.write(ehlo_reply(self.relay.relay_settings.hostname, self.shown))

    async def _on_starttls(self, argument: bytes) -> None:
        if argument:
            raise ReplyError(replies.SYNTAX)
        if self.wire.tls is not None:
            raise ReplyError(replies.ALREADY_TLS)
        if self.relay.contexts.server is None or self._listener.tls != "starttls":
            raise ReplyError(replies.NOT_HERE)
        await self._transaction.abandon()
        self._say(replies.START_TLS)
        await self._encrypt()
        # What came in clear may have been anybody's (RFC 3207 4.2).
        self.drop_private()
        self._hello, self._extended, self.shown = b"", False, Capabilities()

    async def _encrypt(self) -> None:
        """The handshake. Raises :class:`PeerGone` when it fails."""
        context = self.relay.contexts.server
        assert context is not None, "settings do not allow a TLS listener without a certificate"
        self._handshaking = True
        try:
            await self.wire.start_tls(context, server_side=True, seconds=self.relay.relay_settings.timeouts.connect)
        except (OSError, ValueError) as error:
            self.relay.log("client-tls-failed", client=self.address, cause=str(error) or type(error).__name__)
            raise PeerGone from None
        finally:
            self._handshaking = False

    async def _on_auth(self, line: bytes) -> None:
        if not self._hello:
            raise ReplyError(replies.HELLO_FIRST)
        if self.authenticated:
            raise ReplyError(replies.ALREADY_AUTHENTICATED)
        if self._transaction.begun:
            raise ReplyError(replies.BAD_SEQUENCE)
        if "AUTH" not in self.shown:
            hidden = self.wire.tls is None and not is_loopback(self.address)
            raise ReplyError(replies.AUTH_NEEDS_TLS if hidden else replies.NOT_HERE)
        await Authentication(self, COMMAND_LIMIT).run(line)

    # the envelope

    def _authorise(self) -> None:
        if self._trusted or self.authenticated:
            return
        possible = "AUTH" in self.shown or ("STARTTLS" in self.shown and self.relay.relay_settings.auth)
        raise ReplyError(replies.AUTH_REQUIRED if possible else replies.RELAY_DENIED)

    async def _on_mail(self, argument: bytes) -> None:
        if not self._hello:
            raise ReplyError(replies.HELLO_FIRST)
        if self._transaction.begun:
            raise ReplyError(replies.NESTED_MAIL)
        self._authorise()
        self.wire.write(await self._transaction.mail(argument))

    def _on_xforward(self, argument: bytes) -> None:
        if "XFORWARD" not in self.shown:
            raise ReplyError(replies.NOT_HERE)
        self._transaction.xforward(argument)
        self._say(replies.OK)

    # the message

    async def _on_data(self, argument: bytes) -> None:
        upstream, envelope = self._transaction.take(argument)
        timeouts = self.relay.relay_settings.timeouts
        self._incoming = Incoming(self.wire, timeouts.data_start, timeouts.data_block)
        try:
            await self._message(upstream, envelope, self._incoming)
        finally:
            self._incoming = None
        if self.authenticated and self.private is not None and not self.private.usable:
            self._say(replies.NO_NEXT_HOP)
            self._finished = True

    async def _message(self, upstream: Upstream, envelope: Envelope, incoming: Incoming) -> None:
        started = time.monotonic()
        queue_id = os.urandom(6).hex().upper()
        transfer = Transfer(
            self.relay,
            queue_id,
            upstream,
            envelope,
            incoming,
            received_field(self.client(), self.relay.relay_settings.hostname, queue_id),
            self._listener.outside,
        )
        self._say(replies.START_DATA)
        answer: Answer | None = None
        cause = None
        try:
            answer = await transfer.run(lambda answer: self.wire.write(for_client(answer)))
        except ReplyError as error:
            answer, cause = Answer.of(error.reply), error.cause
            if error.close:
                raise
            self._say(error.reply)
        except ClientGone:
            cause = "the client went away within its message"
            raise
        except Exception as error:  # noqa: BLE001 - the client keeps its mail whatever went wrong here
            self.relay.unforeseen(error, id=queue_id)
            answer, cause = Answer.of(replies.OURS_FAILED), "internal error"
            await incoming.drain()
            self._say(replies.OURS_FAILED)
        finally:
            await self._transaction.abandon()
            self.relay.log_message(
                transfer, envelope, queue_id, self.address, answer, cause, time.monotonic() - started
            )

    def client(self) -> Client:
        """Who is on the other end, as far as can be told by now."""
        tls, utf8 = self.wire.tls is not None, self._transaction.utf8
        return Client(self.address, self._port, self._hello, self._extended, utf8, tls, self.authenticated)
