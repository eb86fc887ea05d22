"""The ledger's interface: what hosts tell it and ask it. Implementations: ``ledger_sqlite``.

A host (relay, milter) calls, for one transaction, in this order:

1. :meth:`Ledger.look` with everything it needs to know before it decides;
2. :meth:`Ledger.begin` with the :class:`Record` of what was decided; when it returns, the record is on disk
   (fsync), and the host may send the final dot to the next hop;
3. :meth:`Ledger.finish` with the next hop's answer. The client's reply need not wait for it.

Without step 3 the record says ``unknown``. Every method raises :class:`LedgerError` when the ledger cannot be
read or written; the host then follows ``on_ledger_failure``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from kaifu.policies.facts import AskedBy, Consent, Direction
from kaifu.policies.values import unchanging


class Trouble(StrEnum):
    """What is wrong with a ledger, for those who say it in words of their own. ``OTHER``: only the text of the error says it."""

    GONE = "gone"
    REPLACED = "replaced"
    LOCKED = "locked"
    FULL = "full"
    DAMAGED = "damaged"
    FORBIDDEN = "forbidden"
    OTHER = "other"


class LedgerError(Exception):
    """The ledger cannot do what was asked: locked, unreadable, disk full. The text says which and what to do."""

    def __init__(self, text: str, trouble: Trouble = Trouble.OTHER) -> None:
        super().__init__(text)
        self.trouble = trouble


class RequestState(StrEnum):
    """What became of the receipt request for one recipient."""

    NONE = "none"
    KEPT = "kept"
    ADDED = "added"
    STRIPPED = "stripped"


class Outcome(StrEnum):
    """How the transaction ended for one recipient."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    DEFERRED = "deferred"
    WITHHELD = "withheld"
    UNKNOWN = "unknown"


class EvidenceKind(StrEnum):
    """What sort of fact about a recipient arrived."""

    MDN = "mdn"
    DSN = "dsn"
    REPLY = "reply"
    AUTO_REPLY = "auto-reply"
    SUSPECTED = "suspected"
    ATTESTED = "attested"


class Grade(StrEnum):
    """How far a confirmation is believed, weakest first. What a person noted (``attested``) stands apart from both."""

    CLAIMED = "claimed"
    AUTHENTICATED = "authenticated"


class Verdict(StrEnum):
    """How a piece of evidence relates to what was sent. Only ``matched`` moves a state.

    ``other-address``: the right message, answered by an address that is no recipient and no known alias of one; it counts from the day
    that a person pairs the two. ``failed-authentication``: its own domain says that it is forged.
    """

    MATCHED = "matched"
    OTHER_ADDRESS = "other-address"
    FAILED_AUTHENTICATION = "failed-authentication"
    UNKNOWN_MESSAGE = "unknown-message"
    WRONG_RECIPIENT = "wrong-recipient"
    SUSPECTED = "suspected"
    UNREADABLE = "unreadable"


@unchanging
class OriginalRecipient:
    """A recipient of a message of ours, as the ledger knows it. ``id`` is what ``receipts show`` takes."""

    id: int
    address: str
    request: RequestState
    asked_by: AskedBy
    report_asked_by: AskedBy


@unchanging
class Original:
    """A recorded message that a report or reply may answer. ``message``: the ledger's number of it."""

    message: int
    message_id: str
    sender: str
    sent_at: datetime
    recipients: tuple[OriginalRecipient, ...]
    envid: str | None = None


@unchanging
class Query:
    """What a host wants to know before it decides.

    ``message_ids``: candidate originals, without brackets. ``envids``: Original-Envelope-Ids of DSNs.
    ``consent_of``: addresses (``Mailbox.key``) whose consent matters. ``retry_key``: digest of reverse-path and
    header block, to find recipients already served by an attempt that was answered 4xx.
    """

    message_ids: tuple[str, ...] = ()
    envids: tuple[str, ...] = ()
    consent_of: tuple[str, ...] = ()
    retry_key: bytes | None = None

    def __bool__(self) -> bool:
        return bool(self.message_ids or self.envids or self.consent_of or self.retry_key)


@unchanging
class Served:
    """A partial success: these recipients (raw forward-paths) have the message with these digests."""

    retry_key: bytes
    body_digest: bytes
    recipients: frozenset[bytes]


@unchanging
class Known:
    """The ledger's answer to a :class:`Query`. ``originals`` by candidate id, several if an id was reused."""

    originals: Mapping[str, tuple[Original, ...]] = field(default_factory=dict)
    by_envid: Mapping[str, tuple[Original, ...]] = field(default_factory=dict)
    consent: Mapping[str, Consent] = field(default_factory=dict)
    served: tuple[Served, ...] = ()


@unchanging
class Evidence:
    """One fact about one recipient, read off one message (one MDN, one DSN recipient, one reply…).

    ``recipient``: :attr:`OriginalRecipient.id` when the verdict is tied to a recorded recipient (also for
    verdicts that move nothing, such as ``suspected``), else None. ``value``: disposition type, DSN action, or
    the form of a suspected receipt. ``about``: the address that the report is about. ``by``: who answered
    (From or Final-Recipient). ``tie``: where the original's id stood (``Original-Message-ID`` …).
    ``details``: parsed fields worth keeping (reporting_ua, sending_mode, status, diagnostic …). ``raw``: the
    report part's octets, cut to what may be kept of it; None for replies. ``grade``: how far it is believed that it comes
    from where it says. ``alias``: ``by`` is a known alias of the recipient, not the address that was asked.
    """

    kind: EvidenceKind
    verdict: Verdict
    value: str
    recipient: int | None = None
    about: str = ""
    by: str = ""
    message_id: str | None = None
    tie: str = ""
    details: Mapping[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    why: str = ""
    grade: Grade = Grade.CLAIMED
    alias: bool = False


@unchanging
class RecordedRecipient:
    """What was decided and done for one recipient. ``address`` is the forward-path as text.

    ``reason`` is the one sentence; ``would`` the sentence of what would have been done (observe mode).
    ``not_possible``: actions that could not be done, in words. ``confirm``: the grade that an answer must have to confirm.
    """

    address: str
    direction: Direction
    request: RequestState
    asked_by: AskedBy
    report_asked_by: AskedBy = AskedBy.NOBODY
    rule: str | None = None
    reason: str = ""
    would: str | None = None
    withheld: bool = False
    edits: tuple[str, ...] = ()
    not_possible: tuple[str, ...] = ()
    retain_days: int | None = None
    basis: str | None = None
    confirm: Grade = Grade.CLAIMED


@unchanging
class Record:
    """What the ledger must know of one message before the final dot.

    ``message_id``: without brackets; when the message had none and a request is added, the host leaves it None and
    sets ``mint_host``: the ledger then mints one ``<random@mint_host>``, or gives back the one of the unanswered
    attempt that this one repeats. ``attempt_key``: digest of reverse-path, recipients and header block as
    received; a record with the key of an attempt that was not answered 250 continues that row. ``recipients`` is
    empty when only the evidence is to be recorded. ``queue_id``: ours, for the log; ``mta_queue_id``: the MTA's.
    """

    at: datetime
    queue_id: str
    sender: str
    attempt_key: bytes
    message_id: str | None = None
    mint_host: str | None = None
    subject: str | None = None
    sent_at: datetime | None = None
    envid: str | None = None
    kind: str = "mail"
    policy: str = ""
    mta_queue_id: str | None = None
    recipients: tuple[RecordedRecipient, ...] = ()
    evidence: tuple[Evidence, ...] = ()


@unchanging
class Begun:
    """A durable record. ``repeated``: it continues an earlier attempt.

    ``message`` is None when there is none: it held evidence only, or answers mail that leaves no record.
    """

    message: int | None
    message_id: str | None
    repeated: bool = False


class Ledger(Protocol):
    """What a host needs of the ledger. Safe to call from one event loop; work happens in threads."""

    async def look(self, query: Query) -> Known:
        """Answer a query from what is committed (consistent snapshot)."""
        ...

    async def begin(self, record: Record) -> Begun:
        """Make a record durable. Concurrent calls share one fsync."""
        ...

    def finish(
        self,
        begun: Begun,
        outcomes: Sequence[tuple[str, Outcome]],
        reply: str,
        *,
        served: Served | None = None,
        drop_served: bytes | None = None,
        answered: bool = True,
    ) -> Awaitable[None]:
        """Add outcomes per address and the reply text; queued at once, durable when the awaitable is done.

        The awaitable may be ignored: an outcome that cannot be written now is kept and written later, also when it
        raises. ``served``: remember a partial success. ``drop_served``: forget the partial success with this retry
        key, because the client now has its 250. ``answered``: the client has its 250; without it a repeated attempt
        continues the same record, although some recipients may have the message already.
        """
        ...

    def count(self, direction: Direction, kind: str) -> None:
        """Count a message that leaves no row. Returns at once; written with the next commit, or within a second."""
        ...

    def leave_trace(self, message_id: str) -> None:
        """Remember, by a keyed digest alone and for 90 days, that a message leaves no record.

        What answers it then is counted and not kept. Returns at once; written with the next commit, or within a second.
        """
        ...

    def policy_in_force(self, digest: str, mode: str, text: str) -> None:
        """Put on record which policy decides from now on, unless it is the one recorded last. Returns at once.

        Queued and kept like an outcome. Several processes may say the same.
        """
        ...

    async def check(self) -> None:
        """Raise :class:`LedgerError` unless the ledger can be written now (used at start and by health)."""
        ...

    async def close(self) -> None:
        """Write what is queued and close. Idempotent."""
        ...
