"""A client's transaction: the envelope, built command by command on a connection to the next hop (RFC 5321 3.3).

Each session has one :class:`Transaction` and uses it again and again. MAIL and RCPT go to the next hop as received and its
reply is what the client gets; the connection is kept until the message is through or the transaction is abandoned, then
given back to the pool clean, or dropped. What XFORWARD said holds for one message, as with Postfix.

Fails with :class:`ReplyError` (our own reply), :class:`~kaifu.proxy.address.AddressError`, and :class:`NextHopError`, whose 421
ends the session.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import replies
from .address import envid_of, parse_mail, parse_rcpt
from .delivery import Upstream
from .envelope import Envelope, Parameters, Recipient, ReversePath
from .extensions import for_client, missing
from .nexthop import Answer, NextHop, NextHopError
from .replies import Reply, ReplyError
from .trace import read_xforward, xforward_commands

if TYPE_CHECKING:
    from .session import Session


class Transaction:
    """The envelope under way. ``begun``: the next hop has accepted MAIL."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._relay = session.relay
        self._forget()

    def _forget(self) -> None:
        self._upstream: Upstream | None = None
        self._path: ReversePath | None = None
        self._recipients: list[Recipient] = []
        self._broken: Reply | None = None
        self._xforward: dict[str, bytes] = {}
        self.utf8 = False

    @property
    def begun(self) -> bool:
        return self._path is not None

    def xforward(self, argument: bytes) -> None:
        """Keep what the client says of its own client, for the next message."""
        if self.begun:
            raise ReplyError(replies.BAD_SEQUENCE)
        self._xforward.update(read_xforward(argument))

    async def mail(self, argument: bytes) -> bytes:
        """MAIL: the octets that answer it."""
        if argument[:5].upper() != b"FROM:":
            raise ReplyError(replies.SYNTAX.saying("Syntax: MAIL FROM:<address>"))
        path = parse_mail(argument[5:])
        utf8 = "SMTPUTF8" in path.parameters
        if not utf8 and not argument.isascii():
            raise ReplyError(replies.NEEDS_SMTPUTF8)
        if (path.parameters.get("BODY") or b"").upper() == b"BINARYMIME":
            raise ReplyError(replies.UNSUPPORTED_PARAMETER)
        self._broken = None
        upstream, answer = await self._open(b"MAIL FROM:" + argument[5:].lstrip(), path.parameters)
        if not answer.ok:
            self._relay.pool.release(upstream.connection)
            return for_client(answer)
        self._upstream, self._path, self.utf8 = upstream, path, utf8
        return answer.octets

    async def _open(self, command: bytes, parameters: Parameters) -> tuple[Upstream, Answer]:
        """MAIL on a connection that offers what the client was shown and uses.

        A pooled connection may have been closed by the next hop meanwhile: then once more, on a new one.
        """
        timeouts = self._relay.relay_settings.timeouts
        connection = await self._connection()
        while True:
            try:
                self._check(connection, parameters)
            except ReplyError:
                if not connection.private:
                    self._relay.pool.put_back(connection)
                raise
            upstream = Upstream(connection, timeouts, self._xforward_commands(connection))
            try:
                answer = await upstream.begin(command)
            except NextHopError as error:
                if connection.private and self._session.authenticated:  # nobody can authenticate in the client's stead
                    raise NextHopError(replies.NO_NEXT_HOP, error.cause) from None
                if connection.fresh and not connection.private:
                    raise
            else:
                if answer.code != 421 or connection.private:
                    return upstream, answer
                connection.clean = False
                if connection.fresh:
                    return upstream, answer
                connection.abort()
            connection = await self._relay.pool.acquire(fresh=True)

    async def _connection(self) -> NextHop:
        """The session's own connection when it has one, else one of the pool."""
        session = self._session
        if session.private is not None and not session.private.usable:
            if session.authenticated:
                raise NextHopError(replies.NO_NEXT_HOP, "the connection on which the client authenticated is lost")
            session.drop_private()
        return session.private or await self._relay.pool.acquire()

    def _check(self, connection: NextHop, parameters: Parameters) -> None:
        gone = missing(parameters, self._session.shown, connection.capabilities)
        if gone:
            raise ReplyError(replies.NEXT_HOP_CHANGED, f"the next hop offers {', '.join(gone)} no longer")

    def _xforward_commands(self, connection: NextHop) -> list[bytes]:
        if not self._relay.relay_settings.xforward or "XFORWARD" not in connection.capabilities:
            return []
        return xforward_commands(self._session.client(), self._xforward, connection.capabilities.words("XFORWARD"))

    async def rcpt(self, argument: bytes) -> bytes:
        """RCPT: the octets that answer it."""
        if self._broken is not None:
            raise ReplyError(self._broken)
        if self._upstream is None:
            raise ReplyError(replies.NEED_MAIL)
        if argument[:3].upper() != b"TO:":
            raise ReplyError(replies.SYNTAX.saying("Syntax: RCPT TO:<address>"))
        if not self.utf8 and not argument.isascii():
            raise ReplyError(replies.NEEDS_SMTPUTF8)
        recipient = parse_rcpt(argument[3:])
        if len(self._recipients) >= self._relay.relay_settings.limits.recipients:
            raise ReplyError(replies.TOO_MANY_RECIPIENTS)
        try:
            self._check(self._upstream.connection, recipient.parameters)
            answer = await self._upstream.connection.command(b"RCPT TO:" + argument[3:].lstrip())
        except ReplyError as error:
            self._break(error.reply)
            raise
        if answer.ok:
            self._recipients.append(recipient)
            return answer.octets
        if answer.code == 421:
            self._break(replies.NEXT_HOP_LOST)
        return for_client(answer)

    def _break(self, reply: Reply) -> None:
        """The transaction cannot go on: say so until the client starts another."""
        if self._upstream is not None:
            self._upstream.connection.clean = False
            self._upstream.connection.abort()
        self._forget()
        self._broken = reply

    def take(self, argument: bytes) -> tuple[Upstream, Envelope]:
        """At DATA: the envelope and where it goes. Raises :class:`ReplyError` when DATA is out of order."""
        if self._broken is not None:
            raise ReplyError(self._broken)
        if argument:
            raise ReplyError(replies.SYNTAX)
        path = self._path
        if path is None or self._upstream is None:
            raise ReplyError(replies.NEED_MAIL)
        if not self._recipients:
            raise ReplyError(replies.NO_VALID_RECIPIENTS)
        return self._upstream, Envelope(
            path, tuple(self._recipients), smtputf8=self.utf8, envid=envid_of(path.parameters)
        )

    async def abandon(self) -> None:
        """Forget the transaction; the next hop's connection is reset for others, or dropped."""
        upstream = self._upstream
        self._forget()
        if upstream is not None:
            await self._release(upstream)

    async def _release(self, upstream: Upstream) -> None:
        connection = upstream.connection
        if connection.usable and (not upstream.open or await upstream.reset()):
            self._relay.pool.release(connection)
        else:
            connection.clean = False
            connection.abort()
