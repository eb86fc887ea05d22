"""A next hop on loopback that does what a test tells it to.

It is polite unless told otherwise: it greets, offers :data:`KEYWORDS`, takes every command that is in order and
every message, and keeps what it was told. Rules (:meth:`NextHop.on`) make it refuse, stay silent until told, answer half a
line, hang up or reset, at any command. It is strict about order and about parameters of extensions that it does
not offer, so a relay that gets these wrong is told so. One thread per connection; all waiting is bounded by
:data:`DEADLINE` and ends in an :class:`AssertionError` that says what was waited for.
"""

from __future__ import annotations

import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

DEADLINE = 20.0
"""Seconds that anything may take before a test gives up."""

KEYWORDS = ("PIPELINING", "SIZE 10485760", "ENHANCEDSTATUSCODES", "8BITMIME", "DSN", "SMTPUTF8")

Act = Literal["answer", "hold", "send", "close", "reset"]
Then = Literal["close", "reset"]

_NEEDS = {"RET": "DSN", "ENVID": "DSN", "NOTIFY": "DSN", "ORCPT": "DSN"}
_NEEDS |= {"SIZE": "SIZE", "BODY": "8BITMIME", "SMTPUTF8": "SMTPUTF8", "AUTH": "AUTH"}


@dataclass(slots=True)
class Rule:
    """What to do at the next command that begins with ``when`` (or at ``connect``, ``body``, ``dot``).

    ``body`` is the moment when the first octets of a message have come. ``answer``: this reply instead of the polite one;
    ``send``: these octets as they are; ``hold``: nothing until :meth:`NextHop.release`. ``then``: what follows.
    """

    when: str
    act: Act
    text: bytes = b""
    then: Then | None = None
    always: bool = False


@dataclass(frozen=True, slots=True)
class Command:
    """A line that the next hop was sent, without its CRLF. ``connection`` counts from 1."""

    connection: int
    line: bytes
    encrypted: bool


@dataclass(slots=True)
class Transaction:
    """A message that the next hop was given, whatever it answered to it.

    ``recipients``: the RCPT lines that were accepted. ``data``: the octets after DATA, dots as they came, without the
    final ``.`` line; empty when the next hop keeps none. ``octets``: how many there were.
    """

    connection: int
    mail: bytes
    recipients: list[bytes]
    data: bytes = b""
    octets: int = 0


class _Gone(Exception):
    """The connection is over."""


@dataclass(slots=True)
class _Peer:
    number: int
    sock: socket.socket
    buffer: bytearray = field(default_factory=bytearray)
    encrypted: bool = False
    mail: bytes | None = None
    recipients: list[bytes] = field(default_factory=list)
    auth: list[bytes] = field(default_factory=list)
    held: bool = False
    released: list[bytes] = field(default_factory=list)
    in_data: bool = False


class NextHop:
    """The server. ``port`` stays the same over :meth:`stop` and :meth:`start`."""

    def __init__(
        self, tls: ssl.SSLContext | None = None, implicit: bool = False, keep: bool = True, host: str = "127.0.0.1"
    ) -> None:
        self.offers: list[str] = list(KEYWORDS)
        self.rules: list[Rule] = []
        self.commands: list[Command] = []
        self.transactions: list[Transaction] = []
        self.abandoned = 0
        self.connections = 0
        self.keep, self.host = keep, host
        self.tls, self.implicit = tls, implicit
        self.told: Callable[[str, bytes], None] = lambda who, octets: None
        self._changed = threading.Condition()
        self._peers: dict[int, _Peer] = {}
        self._listener: socket.socket | None = None
        self.port = 0
        self.start()

    # What a test does with it

    def start(self) -> None:
        """Listen (again), on the same port as before."""
        self._listener = socket.create_server((self.host, self.port), backlog=512)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def stop(self) -> None:
        """Stop listening and drop every connection: the machine is gone, or its MTA is being restarted."""
        if self._listener is not None:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        self.hang_up()

    def hang_up(self) -> None:
        """Close every connection without a word, and wait until that is done. New ones are welcome."""
        with self._changed:
            peers = list(self._peers.values())
        for peer in peers:
            with suppress(OSError):
                peer.sock.shutdown(socket.SHUT_RDWR)
            with self._changed:
                peer.held = False
                self._changed.notify_all()
        self.wait(lambda: not any(p.number in self._peers for p in peers), "the connections to the next hop to end")

    def on(self, when: str, act: Act, text: bytes = b"", then: Then | None = None, always: bool = False) -> None:
        """Add a rule. Rules are tried in order; one that is not ``always`` is used up."""
        with self._changed:
            self.rules.append(Rule(when, act, text, then, always))

    def release(self, reply: bytes, connection: int | None = None) -> None:
        """Let the connection that is being held answer ``reply`` (without CRLF); it has when this returns."""

        def held() -> _Peer | None:
            return next((p for p in self._peers.values() if p.held and connection in (None, p.number)), None)

        self.wait(lambda: held() is not None, "the next hop to be asked something that it holds back")
        with self._changed:
            peer = held()
            assert peer is not None
            peer.released.append(reply)
            peer.held = False
            self._changed.notify_all()
        gone = peer.number
        self.wait(lambda: not peer.released or gone not in self._peers, "the next hop to say what it held back")

    def wait(self, true: Callable[[], object], what: str, seconds: float = DEADLINE) -> None:
        """Wait until something holds; :class:`AssertionError` when it does not come to pass."""
        with self._changed:
            if not self._changed.wait_for(true, seconds):
                raise AssertionError(f"waited {seconds:g} s for {what}")

    def wait_for_messages(self, count: int) -> list[Transaction]:
        """The first ``count`` messages, as soon as they have come."""
        self.wait(lambda: len(self.transactions) >= count, f"{count} messages at the next hop")
        return self.transactions[:count]

    def wait_until_read(self) -> None:
        """Wait until the relay has taken from its sockets whatever the next hop has said so far."""
        poll(lambda: not unread(self.port), "the relay to read what the next hop says", every=0.0005)

    # How it serves

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._changed:
                self.connections += 1
                peer = _Peer(self.connections, sock)
                self._peers[peer.number] = peer
                self._changed.notify_all()
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer: _Peer) -> None:
        try:
            if self.implicit:
                self._encrypt(peer)
            self._react(peer, "connect", b"220 next.example ESMTP")
            while True:
                self._command(peer, self._line(peer))
        except (_Gone, OSError):
            pass
        finally:
            with suppress(OSError):
                peer.sock.close()
            with self._changed:
                self._peers.pop(peer.number, None)
                self._abandon(peer)
                self._changed.notify_all()

    def _encrypt(self, peer: _Peer) -> None:
        assert self.tls is not None, "this next hop has no certificate"
        peer.sock = self.tls.wrap_socket(peer.sock, server_side=True)
        peer.encrypted = True

    def _receive(self, peer: _Peer) -> bytes:
        octets = peer.sock.recv(1 << 18)
        if not octets:
            raise _Gone
        return octets

    def _line(self, peer: _Peer) -> bytes:
        while (end := peer.buffer.find(b"\n")) < 0:
            peer.buffer += self._receive(peer)
        line = bytes(peer.buffer[: end + 1])
        del peer.buffer[: end + 1]
        self.told(f"N{peer.number}<", line)
        with self._changed:
            self.commands.append(Command(peer.number, line.removesuffix(b"\n").removesuffix(b"\r"), peer.encrypted))
            self._changed.notify_all()
        return line.removesuffix(b"\n").removesuffix(b"\r")

    def _send(self, peer: _Peer, octets: bytes) -> None:
        self.told(f"N{peer.number}>", octets)
        peer.sock.sendall(octets)

    def _abandon(self, peer: _Peer) -> None:
        if peer.mail is not None:
            self.abandoned += 1
        peer.mail, peer.recipients, peer.in_data = None, [], False

    def _rule(self, event: str) -> Rule | None:
        with self._changed:
            for rule in self.rules:
                if event.upper().startswith(rule.when.upper()):
                    if not rule.always:
                        self.rules.remove(rule)
                    return rule
        return None

    def _react(self, peer: _Peer, event: str, polite: bytes) -> bytes:
        """Do what the rules say, else answer politely. What was answered; :class:`_Gone` when that ended it."""
        rule = self._rule(event)
        reply = polite
        if rule is not None:
            reply = self._held(peer) if rule.act == "hold" else rule.text
        if reply:
            self._send(peer, reply if rule is not None and rule.act == "send" else reply + b"\r\n")
        if peer.released:
            with self._changed:
                peer.released.clear()
                self._changed.notify_all()
        if rule is not None and (ending := rule.act if rule.act in ("close", "reset") else rule.then):
            self._end(peer, ending)
        return reply

    def _held(self, peer: _Peer) -> bytes:
        with self._changed:
            peer.held = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not peer.held)
            if not peer.released:
                raise _Gone
            return peer.released[0]

    def _end(self, peer: _Peer, how: str) -> None:
        self.told(f"N{peer.number}>", f"({how})".encode())
        if how == "reset":
            peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise _Gone

    def _command(self, peer: _Peer, line: bytes) -> None:
        verb = line.split(b" ", 1)[0].upper().decode("latin-1")
        event = line.decode("latin-1")
        if peer.auth:
            self._auth(peer, line)
            return
        polite = self._polite(peer, verb, line)
        if verb == "AUTH" and polite[:1] in b"23":
            self._auth(peer, line)
            return
        reply = self._react(peer, event, polite)
        good = reply[:1] == b"2"
        if verb == "MAIL" and good:
            peer.mail = line
        elif verb == "RCPT" and good:
            peer.recipients.append(line)
        elif verb in ("RSET", "EHLO", "HELO", "XCLIENT"):
            with self._changed:
                self._abandon(peer)
                self._changed.notify_all()
        elif verb == "DATA" and reply[:3] == b"354":
            self._data(peer)
        elif verb == "STARTTLS" and good:
            peer.buffer.clear()
            self._encrypt(peer)
        elif verb == "QUIT":
            raise _Gone

    def _polite(self, peer: _Peer, verb: str, line: bytes) -> bytes:
        if verb == "EHLO":
            offers = [*self.offers, *(["STARTTLS"] if self.tls and not peer.encrypted else [])]
            lines = ["next.example", *offers]
            return "\r\n".join(f"250{' ' if i == len(lines) - 1 else '-'}{x}" for i, x in enumerate(lines)).encode()
        if unknown := self._not_offered(verb, line):
            return b"555 5.5.4 Unsupported option: " + unknown
        if verb == "MAIL":
            return b"503 5.5.1 Error: nested MAIL command" if peer.mail is not None else b"250 2.1.0 Ok"
        if verb == "RCPT":
            return b"250 2.1.5 Ok" if peer.mail is not None else b"503 5.5.1 Error: need MAIL command"
        if verb == "DATA":
            return (
                b"354 End data with <CR><LF>.<CR><LF>" if peer.recipients else b"554 5.5.1 Error: no valid recipients"
            )
        offered = {keyword.split()[0] for keyword in self.offers}
        if verb in ("XFORWARD", "AUTH") and verb not in offered:
            return b"503 5.5.1 Error: not offered"
        known = {"HELO": b"250 next.example", "QUIT": b"221 2.0.0 Bye", "VRFY": b"252 2.0.0 Perhaps"}
        known |= dict.fromkeys(("RSET", "NOOP", "XFORWARD"), b"250 2.0.0 Ok") | {"AUTH": b"235 2.7.0 Ok"}
        known |= {"STARTTLS": b"220 2.0.0 Ready to start TLS"} if self.tls else {}
        return known.get(verb, b"500 5.5.2 Error: command not recognized")

    def _not_offered(self, verb: str, line: bytes) -> bytes:
        if verb not in ("MAIL", "RCPT"):
            return b""
        offered = {keyword.split()[0] for keyword in self.offers}
        for parameter in line.split(b">")[-1].split() if b">" in line else line.split()[2:]:
            name = parameter.split(b"=")[0].upper().decode("latin-1")
            if _NEEDS.get(name, name) not in offered:
                return parameter
        return b""

    def _auth(self, peer: _Peer, line: bytes) -> None:
        """PLAIN with and without initial response, and LOGIN (RFC 4954); any password is right."""
        peer.auth.append(line)
        first = peer.auth[0].upper().split()
        polite = b"235 2.7.0 Authentication successful"
        if line == b"*":
            polite = b"501 5.7.0 Authentication aborted"
        elif b"LOGIN" in first:
            asked = len(peer.auth) + len(first) - 2
            polite = {1: b"334 VXNlcm5hbWU6", 2: b"334 UGFzc3dvcmQ6"}.get(asked, polite)
        elif len(first) == 2 and len(peer.auth) == 1:
            polite = b"334 "
        reply = self._react(peer, line.decode("latin-1"), polite)
        if reply[:3] != b"334":
            peer.auth.clear()

    def _data(self, peer: _Peer) -> None:
        peer.in_data = True
        data = peer.buffer
        kept: list[bytes] = []
        octets = 0
        if not data:
            data += self._receive(peer)
        if self._rule_at("body"):
            self._react(peer, "body", b"")
        while (end := _end_of_data(data, at_start=octets == 0)) < 0:
            if len(data) > 1 << 16:
                octets += len(data) - 4
                kept += [bytes(data[:-4])] if self.keep else []
                del data[:-4]
            data += self._receive(peer)
        kept += [bytes(data[:end])] if self.keep else []
        octets += end
        del data[: end + 3]
        assert peer.mail is not None
        done = Transaction(peer.number, peer.mail, peer.recipients, b"".join(kept), octets)
        self.told(f"N{peer.number}<", f"({octets} octets of message, and the final dot)".encode())
        with self._changed:
            self.transactions.append(done)
            peer.mail, peer.recipients, peer.in_data = None, [], False
            self._changed.notify_all()
        self._react(peer, "dot", b"250 2.0.0 Ok: queued")

    def _rule_at(self, event: str) -> bool:
        with self._changed:
            return any(rule.when == event for rule in self.rules)


def _end_of_data(data: bytearray, at_start: bool) -> int:
    """Where the final ``.`` line begins, -1 when it has not come. The CRLF before it may be DATA's own."""
    if at_start and data.startswith(b".\r\n"):
        return 0
    found = data.find(b"\r\n.\r\n")
    return found + 2 if found >= 0 else -1


def pattern(text: str) -> re.Pattern[bytes]:
    """A line as tests write it: ``/regular expression/``, or literally with ``…`` for anything."""
    if len(text) > 1 and text.startswith("/") and text.endswith("/"):
        return re.compile(text[1:-1].encode())
    return re.compile(b".*".join(re.escape(part.encode()) for part in text.split("…")), re.DOTALL)


def unread(server: int, client: int | None = None, *, by_server: bool = False) -> int:
    """Octets that the kernel holds for the client's end of connections to a port of this machine, or for the server's."""
    octets = 0
    for row in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        columns = row.split()
        ends = [int(end.rpartition(":")[2], 16) for end in columns[1:3]]
        at, peer = ends if by_server else reversed(ends)
        if at == server and client in (None, peer):
            octets += int(columns[4].rpartition(":")[2], 16)
    return octets


def poll(true: Callable[[], object], what: str, seconds: float = DEADLINE, every: float = 0.02) -> None:
    """Look again and again until something outside of our processes holds; :class:`AssertionError` if it never does."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds:g} s for {what}")
        threading.Event().wait(every)


def joined(lines: Iterable[bytes]) -> bytes:
    """Lines with CRLF after each."""
    return b"".join(line + b"\r\n" for line in lines)
