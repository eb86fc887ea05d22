"""One client's SMTP session: commands in, replies out (RFC 5321, pass-through).

The session owns the order of commands and what the client was shown; MAIL and RCPT go to the next hop as received and its
reply goes back. A message's octets are :mod:`kaifu.proxy.transfer`'s. A session is never cancelled: it ends when the client
quits, goes away, falls silent, errs too often, or when the relay stops, and then only between messages.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING

from . import replies
from .address import AddressError, envid_of, parse_mail, parse_rcpt
from .authentication import Authentication
from .delivery import Upstream
from .envelope import Envelope, Parameters, Recipient, ReversePath
from .extensions import ehlo_reply, for_client, keywords, missing
from .incoming import ClientGone, Incoming, drain_briefly
from .nexthop import Answer, Capabilities, NextHop, NextHopError, is_loopback
from .replies import Reply, ReplyError
from .settings import Listener
from .trace import Client, read_xforward, received_field, xforward_commands
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
        if self._task is None:
            session = Session(self._relay, self, self._listener)
            self._task = asyncio.get_running_loop().create_task(session.run())


class Session:
    """The state of one client connection."""

    def __init__(self, relay: Relay, wire: ClientWire, listener: Listener) -> None:
        peer = wire.transport.get_extra_info("peername") or ("127.0.0.1", 0)
        self.relay = relay
        self.wire = wire
        self.address: str = peer[0]
        self.authenticated = False
        self.private: NextHop | None = None
        self.between_messages = True
        self._port: int = peer[1]
        self._listener = listener
        self._trusted = relay.trusts(self.address)
        self._hello = b""
        self._extended = False
        self._shown = Capabilities()
        self._errors = 0
        self._finished = False
        self._forget_transaction()

    def _forget_transaction(self) -> None:
        self._upstream: Upstream | None = None
        self._reverse_path: ReversePath | None = None
        self._recipients: list[Recipient] = []
        self._utf8 = False
        self._broken: Reply | None = None
        self._xforward: dict[str, bytes] = {}

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
            await self._abandon()
            if self.private is not None:
                self.relay.pool.quit(self.private)
            self.wire.close()
            self.relay.leave(self)

    def stop(self) -> None:
        """The relay is stopping: end now when nothing is under way, else after the current message."""
        if self.between_messages:
            self.wire.wake(Woken())

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
                await self._on_rcpt(argument)
            case b"DATA":
                await self._on_data(argument)
            case b"RSET":
                await self._abandon()
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
        await self._abandon()
        offered = await self.relay.pool.capabilities() if self.private is None else self.private.capabilities
        self._hello, self._extended = name, extended
        if not extended:
            self._say(Reply(250, "", self.relay.relay_settings.hostname))
            return
        protected = self.wire.tls is not None or is_loopback(self.address)
        self._shown = keywords(
            offered,
            start_tls=self._listener.tls == "starttls" and self.wire.tls is None,
            auth=self.relay.relay_settings.auth and protected and not self.authenticated,
            xforward=self.relay.relay_settings.xforward and self._trusted and not self._listener.outside,
        )
        self.wire.write(ehlo_reply(self.relay.relay_settings.hostname, self._shown))

    async def _on_starttls(self, argument: bytes) -> None:
        if argument:
            raise ReplyError(replies.SYNTAX)
        if self.wire.tls is not None:
            raise ReplyError(replies.ALREADY_TLS)
        context = self.relay.contexts.server
        if context is None or self._listener.tls != "starttls":
            raise ReplyError(replies.NOT_HERE)
        await self._abandon()
        self._say(replies.START_TLS)
        try:
            await self.wire.start_tls(context, server_side=True, seconds=self.relay.relay_settings.timeouts.connect)
        except (OSError, ValueError) as error:
            self.relay.log("client-tls-failed", client=self.address, cause=str(error) or type(error).__name__)
            raise PeerGone from None
        self._hello, self._extended, self._shown = b"", False, Capabilities()
        # What was said in clear, somebody in the middle may have said (RFC 3207 4.2).
        self.authenticated = False
        if self.private is not None:
            self.relay.pool.quit(self.private)
            self.private = None

    async def _on_auth(self, line: bytes) -> None:
        if not self._hello:
            raise ReplyError(replies.HELLO_FIRST)
        if self.authenticated:
            raise ReplyError(replies.ALREADY_AUTHENTICATED)
        if self._reverse_path is not None:
            raise ReplyError(replies.BAD_SEQUENCE)
        if "AUTH" not in self._shown:
            hidden = self.wire.tls is None and not is_loopback(self.address)
            raise ReplyError(replies.AUTH_NEEDS_TLS if hidden else replies.NOT_HERE)
        await Authentication(self, COMMAND_LIMIT).run(line)

    # the envelope

    def _authorise(self) -> None:
        if self._trusted or self.authenticated:
            return
        possible = "AUTH" in self._shown or ("STARTTLS" in self._shown and self.relay.relay_settings.auth)
        raise ReplyError(replies.AUTH_REQUIRED if possible else replies.RELAY_DENIED)

    async def _on_mail(self, argument: bytes) -> None:
        if not self._hello:
            raise ReplyError(replies.HELLO_FIRST)
        if self._reverse_path is not None:
            raise ReplyError(replies.NESTED_MAIL)
        self._authorise()
        if argument[:5].upper() != b"FROM:":
            raise ReplyError(replies.SYNTAX.saying("Syntax: MAIL FROM:<address>"))
        path = parse_mail(argument[5:])
        utf8 = "SMTPUTF8" in path.parameters
        if not utf8 and not argument.isascii():
            raise ReplyError(replies.NEEDS_SMTPUTF8)
        if (path.parameters.get("BODY") or b"").upper() == b"BINARYMIME":
            raise ReplyError(replies.UNSUPPORTED_PARAMETER)
        self._broken = None
        upstream, answer = await self._open_transaction(b"MAIL FROM:" + argument[5:].lstrip(), path.parameters)
        if not answer.ok:
            self.relay.pool.release(upstream.connection)
            self.wire.write(for_client(answer))
            return
        self._upstream, self._reverse_path, self._utf8 = upstream, path, utf8
        self.wire.write(answer.octets)

    async def _open_transaction(self, command: bytes, parameters: Parameters) -> tuple[Upstream, Answer]:
        """MAIL on a connection that offers what the client was shown and uses.

        A pooled connection may have been closed by the next hop meanwhile: then once more, on a new one.
        """
        timeouts = self.relay.relay_settings.timeouts
        connection = self.private or await self.relay.pool.acquire()
        while True:
            self._check(connection, parameters)
            upstream = Upstream(connection, timeouts, self._xforward_commands(connection))
            try:
                answer = await upstream.begin(command)
            except NextHopError as error:
                if connection.private:  # nobody can authenticate again in our client's stead
                    raise NextHopError(replies.NO_NEXT_HOP, error.cause) from None
                if connection.fresh:
                    raise
            else:
                if answer.code != 421 or connection.private:
                    return upstream, answer
                connection.clean = False
                if connection.fresh:
                    return upstream, answer
                connection.abort()
            connection = await self.relay.pool.acquire(fresh=True)

    def _check(self, connection: NextHop, parameters: Parameters) -> None:
        gone = missing(parameters, self._shown, connection.capabilities)
        if gone:
            if not connection.private:
                self.relay.pool.put_back(connection)
            raise ReplyError(replies.NEXT_HOP_CHANGED, f"the next hop offers {', '.join(gone)} no longer")

    async def _on_rcpt(self, argument: bytes) -> None:
        if self._broken is not None:
            raise ReplyError(self._broken)
        if self._reverse_path is None or self._upstream is None:
            raise ReplyError(replies.NEED_MAIL)
        if argument[:3].upper() != b"TO:":
            raise ReplyError(replies.SYNTAX.saying("Syntax: RCPT TO:<address>"))
        if not self._utf8 and not argument.isascii():
            raise ReplyError(replies.NEEDS_SMTPUTF8)
        recipient = parse_rcpt(argument[3:])
        if len(self._recipients) >= self.relay.relay_settings.limits.recipients:
            raise ReplyError(replies.TOO_MANY_RECIPIENTS)
        try:
            self._check(self._upstream.connection, recipient.parameters)
            answer = await self._upstream.connection.command(b"RCPT TO:" + argument[3:].lstrip())
        except ReplyError as error:
            self._break(error)
            raise
        if answer.ok:
            self._recipients.append(recipient)
            self.wire.write(answer.octets)
            return
        self.wire.write(for_client(answer))
        if answer.code == 421:
            self._break(ReplyError(replies.NEXT_HOP_LOST))

    def _break(self, error: ReplyError) -> None:
        """The transaction cannot go on: say so until the client starts another."""
        if self._upstream is not None:
            self._upstream.connection.clean = False
            self._upstream.connection.abort()
        self._forget_transaction()
        self._broken = error.reply

    async def _abandon(self) -> None:
        """Forget the transaction under way; the next hop's connection is reset for others, or dropped."""
        upstream, self._upstream = self._upstream, None
        self._forget_transaction()
        if upstream is None:
            return
        if await upstream.reset():
            self.relay.pool.release(upstream.connection)
        else:
            upstream.connection.abort()

    # the message

    async def _on_data(self, argument: bytes) -> None:
        if self._broken is not None:
            raise ReplyError(self._broken)
        if argument:
            raise ReplyError(replies.SYNTAX)
        if self._reverse_path is None or self._upstream is None:
            raise ReplyError(replies.NEED_MAIL)
        if not self._recipients:
            raise ReplyError(replies.NO_VALID_RECIPIENTS)
        self.between_messages = False
        try:
            await self._message(self._upstream, self._reverse_path)
        finally:
            self.between_messages = True

    async def _message(self, upstream: Upstream, path: ReversePath) -> None:
        started = time.monotonic()
        queue_id = os.urandom(6).hex().upper()
        timeouts = self.relay.relay_settings.timeouts
        envelope = Envelope(path, tuple(self._recipients), smtputf8=self._utf8, envid=envid_of(path.parameters))
        incoming = Incoming(self.wire, timeouts.data_start, timeouts.data_block)
        transfer = Transfer(
            self.relay,
            queue_id,
            upstream,
            envelope,
            incoming,
            received_field(self._client(), self.relay.relay_settings.hostname, queue_id),
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
            await self._after_message(upstream)
            self.relay.log_message(
                transfer, envelope, queue_id, self.address, answer, cause, time.monotonic() - started
            )

    async def _after_message(self, upstream: Upstream) -> None:
        self._forget_transaction()
        connection = upstream.connection
        if not connection.clean or connection.gone or connection.eof or (upstream.open and not await upstream.reset()):
            connection.clean = False
            connection.abort()
            if connection is self.private:
                self._say(replies.NO_NEXT_HOP)
                self._finished = True
        else:
            self.relay.pool.release(connection)

    def _client(self) -> Client:
        tls = self.wire.tls is not None
        return Client(self.address, self._port, self._hello, self._extended, self._utf8, tls, self.authenticated)

    def _on_xforward(self, argument: bytes) -> None:
        if "XFORWARD" not in self._shown:
            raise ReplyError(replies.NOT_HERE)
        if self._reverse_path is not None:
            raise ReplyError(replies.BAD_SEQUENCE)
        self._xforward.update(read_xforward(argument))
        self._say(replies.OK)

    def _xforward_commands(self, connection: NextHop) -> list[bytes]:
        if not self.relay.relay_settings.xforward or "XFORWARD" not in connection.capabilities:
            return []
        return xforward_commands(self._client(), self._xforward, connection.capabilities.words("XFORWARD"))
