"""Facts: all that a policy may look at, as values.

The host (relay, milter, ``kaifu policy explain``) observes one message and asks the ledger; what it
learned arrives here. Nothing in this module reads a clock, a file or a socket, so the same facts always
give the same decision. Per message there is one :class:`MessageFacts`, shared by one :class:`Facts` per
recipient.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import Protocol

import idna

from kaifu.policies.text import fold, nfc
from kaifu.policies.values import unchanging


class Direction(StrEnum):
    """Which way a message travels for one recipient, seen from the realm."""

    OUTBOUND = "outbound"
    INBOUND = "inbound"
    INTERNAL = "internal"
    TRANSIT = "transit"


class Kind(StrEnum):
    """What a message is, as far as rules can tell them apart."""

    MAIL = "mail"
    MDN = "mdn"
    DSN = "dsn"


class Consent(StrEnum):
    """What a person has said about being asked for receipts. No row in the ledger is ``unknown``."""

    GRANTED = "granted"
    INFORMED = "informed"
    DENIED = "denied"
    UNKNOWN = "unknown"


class AskedBy(StrEnum):
    """Who asked for the receipt that a report answers."""

    POLICY = "policy"
    CLIENT = "client"
    NOBODY = "nobody"


# Longer than any address that RFC 5321 allows; such text comes from header fields and must not fill the caches.
_CACHED = 600


@lru_cache(maxsize=8192)
def domain_key(domain: str) -> str:
    """A domain in the form in which domains are compared: A-labels, lower case, no trailing dot.

    What is no valid internationalised name (RFC 5890) is compared as its lower-case self; address
    literals (``[192.0.2.1]``) likewise.
    """
    plain = domain.rstrip(".").lower()
    if plain.isascii():
        return plain
    try:
        return idna.encode(plain, uts46=True).decode("ascii").lower()
    except (idna.IDNAError, UnicodeError):
        return nfc(plain)


@unchanging
class Mailbox:
    """An addr-spec (RFC 5321 4.1.2, RFC 6531 3.3): unquoted local part and domain, as received.

    ``domain`` is empty for an unqualified address such as ``<Postmaster>``.
    """

    local_part: str
    domain: str

    @property
    def key(self) -> str:
        """The form in which people expect addresses to be compared: case and Unicode form do not count."""
        if len(self.local_part) + len(self.domain) > _CACHED:
            return mailbox_key.__wrapped__(self.local_part, self.domain)
        return mailbox_key(self.local_part, self.domain)

    @property
    def domain_key(self) -> str:
        """The domain as :func:`domain_key` gives it."""
        return domain_key.__wrapped__(self.domain) if len(self.domain) > _CACHED else domain_key(self.domain)

    def __str__(self) -> str:
        local = self.local_part
        if not is_dot_string(local):
            local = '"' + local.replace("\\", "\\\\").replace('"', '\\"') + '"'
        return f"{local}@{self.domain}" if self.domain else local


@lru_cache(maxsize=8192)
def mailbox_key(local_part: str, domain: str) -> str:
    """``local@domain`` folded for comparison (see :attr:`Mailbox.key`)."""
    local = fold(local_part)
    return f"{local}@{domain_key(domain)}" if domain else local


_ATEXT = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-/=?^_`{|}~")


@lru_cache(maxsize=8192)
def is_dot_string(local_part: str) -> bool:
    """True when a local part needs no quotes (RFC 5321 Dot-string, RFC 6531 with UTF-8)."""
    atoms = local_part.split(".")
    return all(atom and all(c in _ATEXT or ord(c) > 127 for c in atom) for atom in atoms)


class Realm:
    """The domains that are ours. ``.example.com`` means example.com and every subdomain of it."""

    __slots__ = ("_exact", "_suffixes", "domains")

    def __init__(self, domains: Iterable[str]) -> None:
        self.domains = tuple(domains)
        self._exact = frozenset(domain_key(d.lstrip(".")) for d in self.domains)
        self._suffixes = tuple("." + domain_key(d.lstrip(".")) for d in self.domains if d.startswith("."))

    def __contains__(self, mailbox: Mailbox | None) -> bool:
        """An unqualified address belongs to the system itself, so it is ours; a null path is nobody's."""
        if mailbox is None:
            return False
        if not mailbox.domain:
            return True
        key = mailbox.domain_key
        return key in self._exact or (bool(self._suffixes) and key.endswith(self._suffixes))

    def direction(self, sender: Mailbox | None, recipient: Mailbox, *, outside: bool = False) -> Direction:
        """Direction from sender and forward-path.

        ``outside``: the listener faces strangers, so a sender in the realm is one too (a claim that
        anybody can make).
        """
        ours = sender in self and not outside
        if recipient in self:
            return Direction.INTERNAL if ours else Direction.INBOUND
        return Direction.OUTBOUND if ours else Direction.TRANSIT


class HeaderView(Protocol):
    """The outer header block, decoded for matching (RFC 2047 decoded, undecodable octets replaced)."""

    def values(self, name: str) -> Sequence[str]:
        """All values of the fields with that name (lower case), in order; empty when there is none."""
        ...


@unchanging
class ReceiptRequest:
    """One header field that asks for a read receipt.

    ``name`` as received, ``nth`` its 1-based occurrence among fields of that name (case-insensitive),
    ``value`` unfolded and decoded, ``addresses`` where it points (empty for flags such as X-PMRQC).
    """

    name: str
    nth: int
    value: str
    addresses: tuple[Mailbox, ...] = ()


@unchanging
class ReportFacts:
    """What the rails must know of an MDN or DSN.

    ``only_reports``: the message consists of reports (multipart/report or the bare type, inside
    multipart/signed or parallel at most) with nothing attached. ``must_deliver``: why it must reach its
    reader whatever a rule says (a DSN with a failed or delayed recipient, one that cannot be parsed, one too
    large to read), else None; so a DSN without it is a success DSN.
    """

    only_reports: bool
    must_deliver: str | None = None


@unchanging
class MessageFacts:
    """What is the same for all recipients of a message.

    ``sender``: the reverse-path; when null, the first From mailbox, else the report's Final-Recipient.
    ``auto_submitted``: an Auto-Submitted field other than ``no`` (RFC 3834). ``list_mail``: List-Id, or
    Precedence list, bulk or junk. ``requests``: the fields that ask for a read receipt, in order.
    ``size``: octets of header block and body, or None when nobody has counted yet. ``report``: set for
    ``kind`` mdn and dsn.
    """

    kind: Kind
    sender: Mailbox | None
    null_reverse_path: bool
    auto_submitted: bool
    list_mail: bool
    requests: tuple[ReceiptRequest, ...]
    headers: HeaderView
    subject: str = ""
    size: int | None = None
    report: ReportFacts | None = None

    @property
    def requested(self) -> bool:
        """Did the client ask for a read receipt, in whatever form?"""
        return bool(self.requests)


@unchanging
class Facts:
    """Everything that decides about one recipient of one message.

    ``sender_in_realm`` is false on a listener marked ``outside``. ``asked_by`` is about reports: who asked
    for what this report answers; ``original_known`` is false when it cites none of our messages.
    ``now`` is aware; rules with a zone of their own convert it, others take it as it is.
    """

    message: MessageFacts
    recipient: Mailbox
    direction: Direction
    sender_in_realm: bool
    now: datetime
    consent: Consent = Consent.UNKNOWN
    asked_by: AskedBy = AskedBy.NOBODY
    original_known: bool = False
