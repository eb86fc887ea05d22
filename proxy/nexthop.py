"""The next hop: connections to the MTA behind the relay, and what it answers.

A connection sends exactly the octets it is given and hands back replies as they came. Connections are pooled and
used again, except those that carried AUTH or XCLIENT: these belong to one client session. Every failure is a
:class:`NextHopError` that carries the reply for the client.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from . import replies
from .replies import Reply, ReplyError
from .settings import RelaySettings
from .vitals import NextHopVitals
from .wire import LineTooLong, PeerGone, PeerSilent, Sweeper, Wire

MAX_REPLY_LINES = 200
MAX_REPLY_LINE = 4096
IDLE_SECONDS = 60.0
MAX_IDLE = 64


class NextHopError(ReplyError):
    """The next hop cannot be reached, went away, fell silent or made no sense."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply of the next hop. ``octets``: all its lines as received, for passing on."""

    code: int
    octets: bytes

    @property
    def ok(self) -> bool:
        return 200 <= self.code < 300

    @property
    def transient(self) -> bool:
        return 400 <= self.code < 500

    @property
    def lines(self) -> list[bytes]:
        """Text of each line, without the code."""
        return [line[4:] for line in self.octets.split(b"\r\n")[:-1]]

    @property
    def text(self) -> str:
        """All in one line, for the log and the ledger."""
        return f"{self.code} " + " ".join(line.decode("utf-8", "replace") for line in self.lines)

    @classmethod
    def of(cls, reply: Reply) -> Answer:
        """One of our own replies in the shape of an answer."""
        return cls(reply.code, reply.octets())


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a server offered in answer to EHLO: keyword (upper case) to parameters as received."""

    keywords: Mapping[str, bytes] = field(default_factory=dict)

    def __contains__(self, keyword: str) -> bool:
        return keyword in self.keywords

    def without(self, keyword: str) -> Capabilities:
        """The same without one keyword."""
        return Capabilities({name: value for name, value in self.keywords.items() if name != keyword})

    def words(self, keyword: str) -> list[str]:
        """The parameters of a keyword in upper case; empty when it is not offered."""
        return self.keywords.get(keyword, b"").decode("ascii", "replace").upper().split()

    @classmethod
    def parse(cls, answer: Answer) -> Capabilities:
        """From the answer to EHLO (RFC 5321 4.1.1.1); the old ``AUTH=`` form counts as AUTH."""
        keywords: dict[str, bytes] = {}
        for line in answer.lines[1:]:
            keyword, _, parameters = line.strip().replace(b"AUTH=", b"AUTH ", 1).partition(b" ")
            if keyword:
                keywords.setdefault(keyword.decode("ascii", "replace").upper(), parameters.strip())
        return cls(keywords)


class NextHop(Wire):
    """One connection. ``fresh``: no transaction has used it yet. ``private``: it carried AUTH."""

    def __init__(self, sweeper: Sweeper, settings: RelaySettings, on_lost: Callable[[NextHop], None]) -> None:
        super().__init__(sweeper)
        self.capabilities = Capabilities()
        self.private = False
        self.fresh = True
        self.clean = True
        self.idle = False
        self._timeouts = settings.timeouts
        self._on_lost = on_lost

    def eof_received(self) -> bool:
        super().eof_received()
        self._on_lost(self)
        return False

    def expire(self) -> None:
        """A connection that has been idle for too long is closed: the next hop has a process waiting at its other end."""
        if self.idle:
            self._on_lost(self)
        else:
            super().expire()

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._on_lost(self)

    @property
    def usable(self) -> bool:
        """Nothing is known against using it (again)."""
        return self.clean and not self.gone and not self.eof

    async def answer(self, seconds: float) -> Answer:
        """Read one reply (RFC 5321 4.2.1), all its lines."""
        taken = b""
        try:
            for _ in range(MAX_REPLY_LINES):
                line = await self.line(MAX_REPLY_LINE, seconds)
                if not (len(line) >= 3 and line[:3].isdigit() and line[3:4] in (b" ", b"-", b"")):
                    raise self.failed(replies.NEXT_HOP_CONFUSED, f"not a reply: {line[:100]!r}")
                taken += (line if len(line) > 3 else line + b" ") + b"\r\n"
                if line[3:4] != b"-":
                    return Answer(int(line[:3]), taken)
        except PeerGone:
            raise self.failed(replies.NEXT_HOP_LOST, "connection lost while waiting for a reply") from None
        except PeerSilent:
            raise self.failed(replies.NEXT_HOP_SILENT, "no reply in time") from None
        except LineTooLong:
            pass
        raise self.failed(replies.NEXT_HOP_CONFUSED, "reply too long")

    async def command(self, line: bytes, seconds: float | None = None) -> Answer:
        """Send a command (without its line end) and read the reply."""
        self.write(line + b"\r\n")
        return await self.answer(seconds or self._timeouts.command)

    def failed(self, reply: Reply, cause: str) -> NextHopError:
        """Drop the connection and make the error for it."""
        self.clean = False
        self.abort()
        return NextHopError(reply, cause)

    async def reset(self) -> bool:
        """RSET; True when the connection is as new."""
        if self.gone or self.eof:
            return False
        try:
            self.clean = (await self.command(b"RSET")).ok
        except NextHopError:
            return False
        return self.clean

    def _protected(self) -> bool:
        """True when nobody on the way can read: TLS, or both ends on this machine."""
        peer = self.transport.get_extra_info("peername")
        return self.tls is not None or (peer is not None and is_loopback(peer[0]))

    async def hello(self, hostname: str) -> None:
        """EHLO, else HELO."""
        answer = await self.command(b"EHLO " + hostname.encode("ascii", "replace"))
        if answer.ok:
            offered = Capabilities.parse(answer)
            self.capabilities = offered if self._protected() else offered.without("AUTH")
            return
        if answer.code == 421 or not (await self.command(b"HELO " + hostname.encode("ascii", "replace"))).ok:
            raise self.failed(replies.NO_NEXT_HOP, f"greeting refused: {answer.text}")
        self.capabilities = Capabilities()


class Pool:
    """Connections to the next hop, and whether there are any to be had (``vitals``)."""

    def __init__(self, settings: RelaySettings, sweeper: Sweeper, contexts: Contexts, log: Callable[..., None]) -> None:
        self._settings = settings
        self._sweeper = sweeper
        self._contexts = contexts
        self._log = log
        self._idle: list[NextHop] = []
        self.vitals = NextHopVitals()
        self._host, self._port = settings.next_hop

    @property
    def name(self) -> str:
        return host_and_port(self._host, self._port)

    async def capabilities(self) -> Capabilities:
        """What the next hop offers, from a live connection. Raises :class:`NextHopError`."""
        connection = await self.acquire()
        self.put_back(connection)
        return connection.capabilities

    async def acquire(self, *, fresh: bool = False) -> NextHop:
        """An idle connection, or a new one (always when ``fresh``)."""
        while self._idle and not fresh:
            connection = self._idle.pop()
            connection.idle = False
            if connection.usable and not connection.buffered:
                return connection
            self.quit(connection)
        try:
            connection = await self._connect()
        except NextHopError as error:
            self.vitals.fails(error.cause)
            raise
        self.vitals.works()
        return connection

    def release(self, connection: NextHop) -> None:
        """Give a connection back after a transaction that ended cleanly; private ones stay with their session."""
        connection.fresh = False
        self.vitals.works()
        if not connection.private:
            self.put_back(connection)

    def put_back(self, connection: NextHop) -> None:
        """Keep an idle connection for the next transaction."""
        if not connection.usable or connection.buffered or len(self._idle) >= MAX_IDLE:
            self.quit(connection)
            return
        connection.idle = True
        connection.deadline = self._sweeper.now() + IDLE_SECONDS
        self._idle.append(connection)

    def quit(self, connection: NextHop) -> None:
        """Say goodbye without waiting for the answer."""
        connection.idle = False
        if connection.clean and not connection.eof:
            connection.write(b"QUIT\r\n")
            connection.close()
        else:
            connection.abort()

    def close(self) -> None:
        """Close every idle connection."""
        while self._idle:
            self.quit(self._idle.pop())

    def _forget(self, connection: NextHop) -> None:
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)
            self.quit(connection)

    async def _connect(self) -> NextHop:
        mode = self._settings.tls.next_hop
        connection = await self._open(implicit=mode == "implicit")
        try:
            await connection.hello(self._settings.hostname)
            if mode in ("none", "implicit"):
                return connection
            if "STARTTLS" not in connection.capabilities:
                if mode == "opportunistic":
                    return connection
                raise connection.failed(replies.NO_NEXT_HOP, f"{self.name} does not offer STARTTLS, which is required")
            answer = await connection.command(b"STARTTLS")
            if not answer.ok:
                if mode == "opportunistic" and answer.code != 421:
                    self._log("next-hop-tls-failed", next_hop=self.name, cause=answer.text, then="clear text")
                    return connection
                raise connection.failed(replies.NO_NEXT_HOP, f"{self.name} refuses STARTTLS: {answer.text}")
            await self._upgrade(connection)
            await connection.hello(self._settings.hostname)
        except _HandshakeError as error:
            connection.abort()
            if mode != "opportunistic":
                raise NextHopError(replies.NO_NEXT_HOP, f"TLS with {self.name} failed: {error}") from None
            self._log("next-hop-tls-failed", next_hop=self.name, cause=str(error), then="clear text")
            connection = await self._open(implicit=False)
            await connection.hello(self._settings.hostname)
        except NextHopError as error:
            raise NextHopError(replies.NO_NEXT_HOP, error.cause) from None
        return connection

    async def _upgrade(self, connection: NextHop) -> None:
        try:
            await connection.start_tls(
                self._contexts.next_hop(),
                server_side=False,
                seconds=self._settings.timeouts.connect,
                name=self._settings.tls.next_hop_name or self._host,
            )
        except (OSError, ValueError) as error:
            raise _HandshakeError(str(error) or type(error).__name__) from None

    async def _open(self, *, implicit: bool) -> NextHop:
        loop = asyncio.get_running_loop()
        context = self._contexts.next_hop() if implicit else None
        try:
            async with asyncio.timeout(self._settings.timeouts.connect):
                _, connection = await loop.create_connection(
                    lambda: NextHop(self._sweeper, self._settings, self._forget),
                    self._host,
                    self._port,
                    ssl=context,
                    server_hostname=(self._settings.tls.next_hop_name or self._host) if context else None,
                )
        except TimeoutError:
            raise NextHopError(replies.NO_NEXT_HOP, f"{self.name}: no connection in time") from None
        except (OSError, ValueError) as error:
            raise NextHopError(replies.NO_NEXT_HOP, f"{self.name}: {error}") from None
        try:
            greeting = await connection.answer(self._settings.timeouts.connect)
        except NextHopError as error:
            raise NextHopError(replies.NO_NEXT_HOP, f"{self.name}: {error.cause}") from None
        if not greeting.ok:
            raise connection.failed(replies.NO_NEXT_HOP, f"{self.name} greets with {greeting.text}")
        return connection


class _HandshakeError(Exception):
    """A TLS handshake with the next hop failed."""


def tls_problems(settings: RelaySettings) -> list[str]:
    """What keeps the TLS files from being used, with the key of the settings, the file and the reason."""
    tls, found = settings.tls, []
    for name, path in (("certificate", tls.certificate), ("key", tls.key), ("ca", tls.ca)):
        try:
            if path is not None:
                path.open("rb").close()
        except OSError as error:
            found.append(f"relay.tls.{name}: {path}: {error.strerror}")
    if not found:
        try:
            Contexts(settings)
        except (OSError, ValueError) as error:
            found.append(f"relay.tls: certificate, key or ca cannot be used: {error}")
    return found


def _no_passphrase() -> str:
    raise ValueError("the key has a passphrase, and nobody is there to type it; kaifu needs it without one")


class Contexts:
    """TLS contexts of both legs, made once. Raises OSError or ValueError where files do not load."""

    def __init__(self, settings: RelaySettings) -> None:
        self._tls = settings.tls
        self._client: ssl.SSLContext | None = None
        self.server: ssl.SSLContext | None = None
        if settings.tls.certificate is not None:
            self.server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self.server.load_cert_chain(settings.tls.certificate, settings.tls.key, _no_passphrase)
        if settings.tls.next_hop != "none":
            self._client = self._make_client()

    def next_hop(self) -> ssl.SSLContext:
        """For connections to the next hop; only ``verify`` and ``implicit`` check its certificate and name."""
        if self._client is None:
            self._client = self._make_client()
        return self._client

    def _make_client(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self._tls.ca) if self._tls.ca else None)
        if self._tls.next_hop in ("opportunistic", "required"):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def is_loopback(host: str) -> bool:
    """True for a loopback address or ``localhost``."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def host_and_port(host: str, port: int) -> str:
    """``HOST:PORT`` as settings write it, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def plain_address(host: str) -> str:
    """A peer's address as people write it: IPv4 also on a socket of IPv6 (``::ffff:192.0.2.1``), and without its zone."""
    bare = host.partition("%")[0]
    mapped = ipaddress.IPv6Address(bare).ipv4_mapped if ":" in bare else None
    return str(mapped) if mapped is not None else bare
