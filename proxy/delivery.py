"""One transaction with the next hop: envelope again where it has changed, then header, body and final dot.

:class:`Upstream` is what a client's transaction holds of the next hop: the connection on which MAIL and RCPT were given
as received. From the final dot on the answer is waited for whatever the client does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from . import replies
from .datastream import stuff
from .envelope import Envelope, Recipient, parameters_with_notify
from .incoming import Source
from .judgement import Verdict
from .nexthop import Answer, NextHop, NextHopError
from .settings import Timeouts
from .wire import PeerGone, PeerSilent

TOGETHER = 16 * 1024
"""Octets that are gathered into one write: a system call costs more than copying them."""


def mail_command(envelope: Envelope) -> bytes:
    """MAIL as received: the path and its parameters, octet for octet."""
    path = envelope.reverse_path
    return b"MAIL FROM:" + path.raw + (b" " + path.parameters.raw if path.parameters.raw else b"")


def rcpt_command(recipient: Recipient, notify: frozenset[str] | None = None) -> bytes:
    """RCPT as received, with another NOTIFY (RFC 3461 4.1) where one is given."""
    parameters = recipient.parameters.raw if notify is None else parameters_with_notify(recipient, notify)
    return b"RCPT TO:" + recipient.raw + (b" " + parameters if parameters else b"")


class Upstream:
    """The next hop's side of one client transaction.

    ``dotted``: a final dot went out and its answer is not known. ``open``: the next hop is within a transaction, which a
    RSET must end before anybody else may use the connection.
    """

    def __init__(self, connection: NextHop, timeouts: Timeouts, xforward: Sequence[bytes]) -> None:
        self.connection = connection
        self.dotted = False
        self.open = False
        self._timeouts = timeouts
        self._xforward = xforward

    async def begin(self, mail: bytes) -> Answer:
        """XFORWARD (in full, for each transaction) and MAIL, in one go where the next hop allows it (RFC 2920)."""
        connection = self.connection
        self.open = True
        if "PIPELINING" in connection.capabilities:
            connection.write(b"\r\n".join([*self._xforward, mail, b""]))
            for _ in self._xforward:
                await connection.answer(self._timeouts.command)
            return await connection.answer(self._timeouts.command)
        for line in self._xforward:
            await connection.command(line)
        return await connection.command(mail)

    async def reset(self) -> bool:
        """End the transaction; True when the connection is as new."""
        self.open = not await self.connection.reset()
        return not self.open

    async def again(self, envelope: Envelope, verdicts: Sequence[Verdict]) -> Answer | None:
        """RSET, then the envelope for these recipients. The answer that refused it, or None when all is well."""
        if not await self.reset():
            raise NextHopError(replies.NEXT_HOP_LOST, "lost while starting the envelope anew")
        answer = await self.begin(mail_command(envelope))
        if not answer.ok:
            return answer
        for verdict in verdicts:
            notify = verdict.notify if verdict.notify_changed else None
            answer = await self.connection.command(rcpt_command(verdict.recipient, notify))
            if not answer.ok:
                return answer
        return None

    async def send(self, header: bytes, body: Source, before_dot: Callable[[], Awaitable[None]]) -> Answer:
        """DATA, the message, and the answer to its final dot (or the refusal of DATA).

        ``header`` is not stuffed yet. ``before_dot`` must return before the dot goes out; what it raises leaves the next
        hop with an unfinished message and a dropped connection.
        """
        self.dotted = False
        answer = await self.connection.command(b"DATA", self._timeouts.data_start)
        if answer.code != 354:
            if answer.ok or 300 <= answer.code < 400:
                raise self.connection.failed(replies.NEXT_HOP_CONFUSED, f"DATA was answered {answer.text}")
            return answer
        try:
            unsent = await self._all_but_the_end(stuff(header), body)
            await before_dot()
        except PeerSilent:
            raise self.connection.failed(replies.NEXT_HOP_SILENT, "the next hop takes no more octets") from None
        except PeerGone:
            return await self._last_word()
        except BaseException:
            self.connection.clean = False
            self.connection.abort()
            raise
        if self.connection.gone or self.connection.eof or self.connection.buffered:
            return await self._last_word()
        self.dotted = True
        self.connection.write(unsent + b".\r\n")
        answer = await self.connection.answer(self._timeouts.data_end)
        self.dotted = self.open = False
        if not (answer.ok or answer.transient or 500 <= answer.code < 600):
            raise self.connection.failed(replies.NEXT_HOP_CONFUSED, f"the final dot was answered {answer.text}")
        return answer

    async def _all_but_the_end(self, unsent: bytes, body: Source) -> bytes:
        """Send what exceeds a write's worth; what is left goes out together with the final dot."""
        async for piece in body.pieces():
            if len(unsent) + len(piece) <= TOGETHER:
                unsent += piece
                continue
            self.connection.write(unsent)
            unsent = piece
            await self.connection.drain(self._timeouts.data_block)
        return unsent

    async def _last_word(self) -> Answer:
        """What the next hop said when it would not take the rest of a message; a 2xx then means nothing."""
        answer = await self.connection.answer(self._timeouts.command)
        error = self.connection.failed(replies.NEXT_HOP_LOST, f"the next hop gave up within the message: {answer.text}")
        if answer.ok or answer.code < 400:
            raise error
        return answer
