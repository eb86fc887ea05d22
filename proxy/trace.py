"""Where a message came from, told to the next hop: our ``Received:`` field and XFORWARD.

``Received:`` (RFC 5321 4.4) never has ``for``, which would name one recipient to another, nor the AUTH user. XFORWARD is
Postfix's way to hand on who the original client was (XFORWARD_README); it is given in full for each transaction, because
pooled connections serve many clients.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache

from . import replies
from .address import xtext_encode
from .nexthop import is_loopback
from .replies import ReplyError

XFORWARD_NAMES = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "IDENT", "SOURCE")
UNKNOWN = b"[UNAVAILABLE]"

LONGEST_NAME = 255
"""Octets of a domain (RFC 5321 4.5.3.1.2)."""

MAX_COMMAND = 500
"""Octets of one XFORWARD command, within the 512 of RFC 5321 4.5.3.1.4."""


@lru_cache(maxsize=2)
def _date(seconds: int) -> str:
    """The date of a second since the epoch (RFC 5322 3.3), made once for all messages of that second."""
    return formatdate(seconds, localtime=True)


@dataclass(frozen=True, slots=True)
class Client:
    """Who is on the other end: address and port of the socket, the name it gave, and how it speaks."""

    address: str
    port: int
    hello: bytes
    extended: bool
    utf8: bool = False
    tls: bool = False
    authenticated: bool = False

    @property
    def protocol(self) -> str:
        """The registered ``with`` keyword (RFC 3848, RFC 6531 4.3)."""
        if not (self.extended or self.utf8):
            return "SMTP"
        return ("UTF8SMTP" if self.utf8 else "ESMTP") + ("S" if self.tls else "") + ("A" if self.authenticated else "")


def received_field(client: Client, hostname: str, queue_id: str) -> bytes:
    """Our trace field with its line end; the name in it is the client's claim, if it could be one."""
    hello = client.hello.decode("ascii", "replace")
    if not 0 < len(hello) <= LONGEST_NAME or not all(c.isalnum() or c in "-._:[]" for c in hello):
        hello = "unknown"
    address = f"IPv6:{client.address}" if ":" in client.address else client.address
    return (
        f"Received: from {hello} ([{address}])\r\n"
        f"\tby {hostname} (kaifu) with {client.protocol} id {queue_id};\r\n"
        f"\t{_date(int(time.time()))}\r\n"
    ).encode("ascii", "replace")


def read_xforward(argument: bytes) -> dict[str, bytes]:
    """The attributes of one XFORWARD command. Raises :class:`ReplyError` 501."""
    attributes = {}
    for word in argument.split():
        name, sign, value = word.partition(b"=")
        key = name.decode("ascii", "replace").upper()
        if not sign or key not in XFORWARD_NAMES or not value.isascii():
            raise ReplyError(replies.SYNTAX.saying("Bad XFORWARD attribute"))
        attributes[key] = value
    return attributes


def xforward_commands(client: Client, forwarded: dict[str, bytes], accepted: list[str]) -> list[bytes]:
    """The commands that tell the next hop who the client is: what the client forwarded, else what we see ourselves.

    What a client that forwards does not say is unknown; its own address says nothing about it. ``accepted``: the
    attributes that the next hop takes.
    """
    if not accepted:
        return []
    told = dict.fromkeys(XFORWARD_NAMES, UNKNOWN) | forwarded if forwarded else _seen(client)
    lines = [b"XFORWARD"]
    for name in XFORWARD_NAMES:
        if name in accepted:
            word = b" " + name.encode() + b"=" + told[name]
            if len(lines[-1]) + len(word) > MAX_COMMAND and lines[-1] != b"XFORWARD":
                lines.append(b"XFORWARD")
            lines[-1] += word
    return [line for line in lines if line != b"XFORWARD"]


def _seen(client: Client) -> dict[str, bytes]:
    """The attributes of our own client."""
    return {
        "NAME": UNKNOWN,
        "ADDR": (f"IPV6:{client.address}" if ":" in client.address else client.address).encode(),
        "PORT": str(client.port).encode(),
        "PROTO": b"ESMTP" if client.extended else b"SMTP",
        "HELO": xtext_encode(client.hello) if len(client.hello) <= LONGEST_NAME else UNKNOWN,
        "IDENT": UNKNOWN,
        "SOURCE": b"LOCAL" if is_loopback(client.address) else b"REMOTE",
    }
