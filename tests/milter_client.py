"""An MTA's side of the milter protocol (version 6), octet by octet, with nothing of libmilter.

:class:`Mta` is one connection. :meth:`Mta.deliver` plays a message as Postfix does: full pieces of body as they come, the rest
with the end of message; and it applies what it is told like Postfix, so that :class:`Result` holds the message as it
would be delivered. What Postfix never sends goes through :meth:`Mta.send` and :meth:`Mta.raw`.

Waiting is bounded by :data:`DEADLINE`; a milter that hangs up is :class:`Gone`.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

DEADLINE = 20.0
CHUNK = 65535

ADDHDRS, CHGBODY, ADDRCPT, DELRCPT, CHGHDRS = 0x01, 0x02, 0x04, 0x08, 0x10
QUARANTINE, CHGFROM, ADDRCPT_PAR, SETSYMLIST = 0x20, 0x40, 0x80, 0x100
ALL_ACTIONS = 0x1FF

NOCONNECT, NOHELO, NOMAIL, NORCPT, NOBODY, NOHDRS, NOEOH = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40
NR_HDR, NOUNKNOWN, NODATA, SKIP, RCPT_REJ = 0x80, 0x100, 0x200, 0x400, 0x800
NR_CONN, NR_HELO, NR_MAIL, NR_RCPT, NR_DATA, NR_UNKN, NR_EOH, NR_BODY = (0x1000 << n for n in range(8))
ALL_STEPS = 0xFFFFF

REPLIES = {
    b"a": "accept",
    b"c": "continue",
    b"d": "discard",
    b"r": "reject",
    b"t": "tempfail",
    b"y": "reply",
    b"s": "skip",
}


class Gone(Exception):
    """The milter has closed the connection."""


@dataclass
class Mail:
    """A message as an MTA has it. ``mail`` and each of ``rcpt``: the path and its ESMTP parameters."""

    mail: Sequence[bytes]
    rcpt: Sequence[Sequence[bytes]]
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes = b""
    queue_id: str | None = "4bXyz"


@dataclass
class Result:
    """What became of it. ``end``: accept, discard, reject, tempfail. ``reply``: the text that goes with the last two.

    ``headers`` and ``rcpt``: as they are after all orders. ``orders``: the packets as they came. ``sent``: octets of body that
    the milter wanted.
    """

    end: str
    headers: list[tuple[bytes, bytes]]
    rcpt: list[tuple[bytes, bytes]]
    reply: str = ""
    orders: list[tuple[bytes, bytes]] = field(default_factory=list)
    sent: int = 0


def packet(command: bytes, data: bytes = b"") -> bytes:
    """A command or reply with its length."""
    return struct.pack("!I", len(data) + 1) + command + data


def words(*strings: bytes) -> bytes:
    """Strings, each ended by a NUL."""
    return b"".join(string + b"\0" for string in strings)


class Mta:
    """One connection to a milter. ``address``: a unix socket's path, or host and port. ``version``, ``actions``, ``steps``: what this
    MTA offers in the negotiation."""

    def __init__(
        self,
        address: Path | tuple[str, int],
        *,
        version: int = 6,
        actions: int = ALL_ACTIONS,
        steps: int = ALL_STEPS,
        negotiate: bool = True,
    ) -> None:
        self.sock = socket.socket(socket.AF_UNIX if isinstance(address, Path) else socket.AF_INET)
        self.sock.settimeout(DEADLINE)
        self.sock.connect(str(address) if isinstance(address, Path) else address)
        self.version, self.actions, self.steps = version, actions, steps
        self.symbols: dict[int, str] = {}
        self._buffer = bytearray()
        if negotiate:
            self.negotiate()
        else:
            self.steps = NOCONNECT

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # octets

    def raw(self, octets: bytes) -> None:
        """Send anything. What a milter that has hung up does not take is lost; :meth:`answer` will tell."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self.sock.sendall(octets)

    def send(self, command: bytes, data: bytes = b"") -> None:
        self.raw(packet(command, data))

    def answer(self) -> tuple[bytes, bytes]:
        """The next packet from the milter."""
        length = struct.unpack("!I", self._take(4))[0]
        whole = self._take(length)
        return whole[:1], whole[1:]

    def _take(self, octets: int) -> bytes:
        while len(self._buffer) < octets:
            try:
                more = self.sock.recv(1 << 16)
            except TimeoutError:
                raise AssertionError(f"waited {DEADLINE:g} s for the milter") from None
            except OSError as error:
                raise Gone(str(error)) from None
            if not more:
                raise Gone
            self._buffer += more
        taken = bytes(self._buffer[:octets])
        del self._buffer[:octets]
        return taken

    def has_hung_up(self) -> bool:
        """True when the milter closes without another word."""
        try:
            self.answer()
        except Gone:
            return True
        return False

    def close(self) -> None:
        self.sock.close()

    # the protocol

    def negotiate(self) -> None:
        """Offer, and take what the milter wants of it."""
        self.send(b"O", struct.pack("!III", self.version, self.actions, self.steps))
        command, data = self.answer()
        assert command == b"O", (command, data)
        self.version, actions, steps = struct.unpack("!III", data[:12])
        assert actions & ~self.actions == 0, f"the milter wants actions that are not offered: {actions:#x}"
        assert steps & ~self.steps == 0, f"the milter wants steps that are not offered: {steps:#x}"
        self.actions, self.steps = actions, steps
        rest = data[12:]
        while rest:
            stage = struct.unpack("!I", rest[:4])[0]
            symbols, rest = rest[4:].split(b"\0", 1)
            self.symbols[stage] = symbols.decode()

    def macro(self, command: bytes, *pairs: bytes) -> None:
        self.send(b"D", command + words(*pairs))

    def step(self, command: bytes, data: bytes, unless: int, silent: int) -> str:
        """Send one step of a message, if it is wanted; the reply to it, ``continue`` when none is due."""
        if self.steps & unless:
            return "continue"
        self.send(command, data)
        if self.steps & silent:
            return "continue"
        return REPLIES[self.answer()[0]]

    def begin(self, mail: Mail) -> None:
        """The envelope."""
        if not self.steps & NOCONNECT:
            assert self.step(b"C", words(b"client.example") + b"4" + b"\x04\xd2" + words(b"192.0.2.1"), 0, NR_CONN)
        if not self.steps & NOHELO:
            assert self.step(b"H", words(b"client.example"), 0, NR_HELO) == "continue"
        assert self.step(b"M", words(*mail.mail), 0, NR_MAIL) == "continue"
        for recipient in mail.rcpt:
            assert self.step(b"R", words(*recipient), 0, NR_RCPT) == "continue"

    def content(self, mail: Mail) -> int:
        """Header and body up to the last piece, which is left to :meth:`end`; octets of body that were sent."""
        assert self.step(b"T", b"", NODATA, NR_DATA) == "continue"
        for name, value in mail.headers:
            assert self.step(b"L", words(name, value), 0, NR_HDR) == "continue"
        assert self.step(b"N", b"", NOEOH, NR_EOH) == "continue"
        for at in range(0, len(mail.body) - CHUNK + 1, CHUNK):
            if self.step(b"B", mail.body[at : at + CHUNK], NOBODY, NR_BODY) == "skip":
                return -at - CHUNK
        return len(mail.body) // CHUNK * CHUNK

    def end(self, mail: Mail, rest: bytes) -> Result:
        """End of message, with the last piece of body; and what becomes of it."""
        result = Result("", list(mail.headers), [(r[0], b" ".join(r[1:])) for r in mail.rcpt])
        if mail.queue_id is not None:
            self.macro(b"E", b"i", mail.queue_id.encode())
        self.send(b"E", rest)
        while True:
            command, data = self.answer()
            result.orders.append((command, data))
            if command == b"p":
                continue
            end = REPLIES.get(command)
            if end is None:
                self._apply(result, command, data)
            elif end == "reply":
                result.reply = data.rstrip(b"\0").decode("ascii")
                result.end = "reject" if result.reply.startswith("5") else "tempfail"
                return result
            else:
                assert end != "skip", "a skip is no answer to the end of message"
                result.end = "accept" if end == "continue" else end
                return result

    def deliver(self, mail: Mail) -> Result:
        """A whole message as Postfix plays it."""
        self.begin(mail)
        sent = self.content(mail)
        rest = mail.body[sent:] if sent >= 0 else b""
        result = self.end(mail, rest)
        result.sent = abs(sent) + len(rest)
        return result

    def abort(self) -> None:
        self.send(b"A")

    def quit(self) -> None:
        self.send(b"Q")

    def _apply(self, result: Result, command: bytes, data: bytes) -> None:
        """One order, as Postfix carries it out; only what was negotiated."""
        needs = {b"h": ADDHDRS, b"i": ADDHDRS, b"m": CHGHDRS, b"+": ADDRCPT, b"2": ADDRCPT_PAR, b"-": DELRCPT}
        assert self.actions & needs[command], f"order {command!r} was not negotiated"
        if command == b"h":
            name, value = _strings(data)
            result.headers.append((name, value))
        elif command == b"i":
            name, value = _strings(data[4:])
            result.headers.insert(struct.unpack("!I", data[:4])[0], (name, value))
        elif command == b"m":
            name, value = _strings(data[4:])
            _change(result.headers, name, struct.unpack("!I", data[:4])[0], value)
        elif command == b"-":
            (path,) = _strings(data)
            kept = [recipient for recipient in result.rcpt if recipient[0] != path]
            assert len(kept) < len(result.rcpt), f"no recipient {path!r} to remove"
            result.rcpt[:] = kept
        else:
            path, *parameters = _strings(data)
            result.rcpt.append((path, b" ".join(parameters)))


def _strings(data: bytes) -> list[bytes]:
    assert data.endswith(b"\0"), data
    return data[:-1].split(b"\0")


def _change(headers: list[tuple[bytes, bytes]], name: bytes, nth: int, value: bytes) -> None:
    """Change or delete the nth field of that name as they stand now; Postfix adds what is not there."""
    assert nth >= 1, f"{name!r}: occurrences count from 1"
    seen = 0
    for index, (found, _) in enumerate(headers):
        if found.lower() == name.lower():
            seen += 1
            if seen == nth:
                headers[index : index + 1] = [(found, value)] if value else []
                return
    raise AssertionError(f"there is no {name!r} #{nth}")


def fields(block: bytes) -> list[tuple[bytes, bytes]]:
    """The fields of a header block as Postfix hands them over: LF within a field, one space after the colon taken away."""
    found: list[tuple[bytes, bytes]] = []
    for line in block.replace(b"\r\n", b"\n").split(b"\n"):
        if line[:1] in (b" ", b"\t") and found:
            name, value = found[-1]
            found[-1] = name, value + b"\n" + line
        elif b":" in line:
            name, value = line.split(b":", 1)
            found.append((name.rstrip(b" \t"), value.removeprefix(b" ")))
    return found


def unfolded(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Fields as they are read: without line ends, and without white space around the value."""
    return [(name, value.replace(b"\r", b"").replace(b"\n", b"").strip(b" \t")) for name, value in headers]
