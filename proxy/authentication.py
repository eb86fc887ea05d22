"""AUTH passed through to the next hop (RFC 4954): we carry the exchange and keep nothing of it.

The next hop's connection on which the client authenticated belongs to that client's session from then on and is never used
for another. Mechanisms that bind to the TLS channel, or to the client's certificate, cannot be carried and are not offered.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from . import replies
from .nexthop import Answer, Capabilities, NextHop
from .replies import ReplyError
from .wire import LineTooLong, Woken

if TYPE_CHECKING:
    from .session import Session

MAX_STEPS = 20
_BASE64 = re.compile(rb"[A-Za-z0-9+/]*={0,2}")


def offered_mechanisms(capabilities: Capabilities) -> list[str]:
    """The next hop's mechanisms that can be passed through."""
    return [m for m in capabilities.words("AUTH") if not m.endswith("-PLUS") and m != "EXTERNAL"]


class Authentication:
    """One AUTH command with its challenges."""

    def __init__(self, session: Session, limit: int) -> None:
        self._session = session
        self._limit = limit

    async def run(self, line: bytes) -> None:
        """Carry the exchange to its end. Raises :class:`ReplyError`; after 235 the session is authenticated."""
        session = self._session
        mechanism = line.split()[1].decode("ascii", "replace").upper() if len(line.split()) > 1 else ""
        if not mechanism:
            raise ReplyError(replies.SYNTAX.saying("Syntax: AUTH mechanism"))
        connection = await self._connection()
        if mechanism not in offered_mechanisms(connection.capabilities):
            raise ReplyError(replies.UNKNOWN_MECHANISM)
        answer = await self._exchange(connection, line)
        if answer.code == 421:
            raise ReplyError(replies.NO_NEXT_HOP, "the next hop ended the session during AUTH", close=True)
        session.wire.write(answer.octets)
        session.authenticated = answer.code == 235
        # The next hop sees our address; who guesses passwords can be told from this line alone.
        event = "authenticated" if session.authenticated else "authentication-failed"
        reply = None if session.authenticated else answer.code
        session.relay.log(event, client=session.address, mechanism=mechanism, reply=reply)

    async def _connection(self) -> NextHop:
        """A connection of this session's own; the pool offers AUTH only where the octets are protected."""
        session = self._session
        if session.private is None or not session.private.usable:
            session.drop_private()
            connection = await session.relay.pool.acquire(fresh=True)
            connection.private = True
            session.private = connection
        return session.private

    async def _exchange(self, connection: NextHop, line: bytes) -> Answer:
        wire, timeouts = self._session.wire, self._session.relay.relay_settings.timeouts
        answer = await connection.command(line)
        for _ in range(MAX_STEPS):
            if answer.code != 334:
                return answer
            if self._session.relay.stopping:
                raise Woken
            wire.write(answer.octets)
            try:
                line = await wire.line(self._limit, timeouts.command)
            except LineTooLong:
                line = b"\0"
            if not _is_base64(line):
                await connection.command(b"*")
                raise ReplyError(replies.SYNTAX.saying("The response is not in base64, or too long"))
            answer = await connection.command(line)
        raise connection.failed(replies.NEXT_HOP_CONFUSED, "AUTH does not come to an end")


def _is_base64(line: bytes) -> bool:
    """A response (RFC 4954 4): base64, possibly empty, or ``*`` to give up. Nothing else reaches the next hop."""
    return line == b"*" or _BASE64.fullmatch(line) is not None
