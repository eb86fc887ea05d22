"""What becomes of a message: answers and reports, as records that the journal takes.

For :mod:`tests.bench.ledger_fill`. :func:`reactions` draws what the recipient and the servers on the way do, and when; each is a
:class:`Reaction` that :meth:`Answers.record` turns into the record of the mail that tells of it. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import NamedTuple

from tests.bench.judged import Judged, Sort
from tests.bench.organisation import DAY, HOUR, Domain

from kaifu.policies.facts import AskedBy, Direction
from kaifu.proxy.ledger import Evidence, EvidenceKind, Grade, Record, RecordedRecipient, RequestState, Verdict
from kaifu.proxy.ledger_entries import moment_of

MINUTE = HOUR // 60
_UNPROVEN = "who wrote it is not proven (nobody at our border has checked it)"


@dataclass(frozen=True, slots=True)
class Asked:
    """One recipient of a message that is in the ledger. ``domain``: None for one of ours; ``several``: a list."""

    recipient: int
    recorded: RecordedRecipient
    sender: str
    message_id: str
    domain: Domain | None
    several: bool

    @property
    def expects(self) -> bool:
        """Was a receipt asked for?"""
        return self.recorded.request in (RequestState.ADDED, RequestState.KEPT)


class Reaction(NamedTuple):
    """``what``: a disposition, an action of a delivery report, or the name of another sort; ``by``: whose address answers.

    ``token``: what makes it one of its own; the same reaction that comes twice has the same.
    """

    at: int
    what: str
    by: str
    verdict: Verdict = Verdict.MATCHED
    token: int = 0


_DISPOSITIONS = frozenset(("displayed", "deleted", "denied", "dispatched", "unreadable"))
_ACTIONS = frozenset(("failed", "delayed", "delivered", "relayed", "expanded"))
_VERDICTS = (
    (0.004, Verdict.WRONG_RECIPIENT),
    (0.008, Verdict.FAILED_AUTHENTICATION),
    (0.012, Verdict.UNREADABLE),
)


def reactions(chance: Random, at: int, asked: Asked) -> Iterator[Reaction]:
    """What happens after a message was taken."""
    address, domain = asked.recorded.address, asked.domain
    if domain is not None and asked.recorded.direction is Direction.OUTBOUND:
        arrives = chance.random()
        reports = asked.recorded.report_asked_by is not AskedBy.NOBODY
        if arrives < 0.03:
            yield from _trouble(chance, at, address, domain, reports)
            if arrives < 0.02:
                return
        elif reports and arrives < 0.75:
            done = "expanded" if asked.several else "relayed" if arrives < 0.2 else "delivered"
            yield Reaction(at + chance.randrange(2, 90) * 1_000_000, done, f"mx.{domain.name}")
    if asked.several and domain is not None:
        for _ in range(chance.randrange(5)):
            if asked.expects and chance.random() < domain.answering:
                yield Reaction(_later(chance, at), "displayed", chance.choice(domain.people), Verdict.OTHER_ADDRESS)
    else:
        yield from _person(chance, at, asked, address)


def _trouble(chance: Random, at: int, address: str, domain: Domain, reports: bool) -> Iterator[Reaction]:
    delayed = chance.random() < 0.4
    if delayed:
        yield Reaction(at + 4 * HOUR, "delayed", f"mx.{domain.name}")
    if not delayed or chance.random() < 0.4:
        yield Reaction(at + (5 * DAY if delayed else chance.randrange(1, 30) * MINUTE), "failed", f"mx.{domain.name}")
    elif reports:
        yield Reaction(at + 9 * HOUR, "delivered", f"mx.{domain.name}")


def _person(chance: Random, at: int, asked: Asked, address: str) -> Iterator[Reaction]:
    """What somebody does who is a single person."""
    willing = 0.6 if asked.domain is None else asked.domain.answering
    drawn = chance.random()
    if asked.expects and drawn < willing * 0.8:
        what = "displayed" if drawn < willing * 0.68 else "deleted" if drawn < willing * 0.75 else "denied"
        told = chance.random()
        verdict = next((verdict for below, verdict in _VERDICTS if told < below), Verdict.MATCHED)
        what = "unreadable" if verdict is Verdict.UNREADABLE else what
        yield Reaction(_later(chance, at), what, address, verdict)
    drawn = chance.random()
    if drawn < 0.12:
        yield Reaction(_later(chance, at + 10 * MINUTE), "reply", address)
    elif drawn < 0.15:
        yield Reaction(at + chance.randrange(5, 60) * 1_000_000, "auto-reply", address)
    elif drawn < 0.155:
        yield Reaction(_later(chance, at), "suspected", address, Verdict.SUSPECTED)


def _later(chance: Random, at: int) -> int:
    """When somebody comes to it: mostly within hours, now and then after weeks."""
    return at + min(int(chance.lognormvariate(0.7, 1.8) * HOUR), 40 * DAY) + chance.randrange(60_000_000)


_PROGRAMS = (
    ("Mozilla Thunderbird", "manual-action/MDN-sent-manually"),
    ("Outlook", "automatic-action/MDN-sent-automatically"),
    ("iOS Mail", "manual-action/MDN-sent-manually"),
    ("Becky! ver. 2", "manual-action/MDN-sent-automatically"),
)


class Answers:
    """Makes records. ``judged``: what the policy in force says of receipts and reports."""

    def __init__(self, chance: Random, judged: Judged) -> None:
        self._chance = chance
        self.judged = judged

    def record(self, told: Reaction, asked: Asked) -> Record:
        """The mail that brings a reaction."""
        if told.what in _DISPOSITIONS:
            return self._receipt(told, asked)
        if told.what in _ACTIONS:
            return self._report(told, asked)
        kinds = {
            "reply": EvidenceKind.REPLY,
            "auto-reply": EvidenceKind.AUTO_REPLY,
            "suspected": EvidenceKind.SUSPECTED,
        }
        why = f"In-Reply-To names our message; {told.by} is a recipient of it; {_UNPROVEN}"
        value = "an Outlook receipt (TNEF)" if told.what == "suspected" else told.what
        return self._carrier(told, "mail", told.by, (), self._evidence(told, asked, kinds[told.what], value, why))

    def stranger(self, at: int, sender: str, recipient: str) -> Record:
        """A receipt that names no message of ours."""
        told = Reaction(at, "displayed", sender, Verdict.UNKNOWN_MESSAGE)
        cited = {"original_message_id": f"{self._chance.getrandbits(64):x}@lost.example"}
        found = Evidence(
            EvidenceKind.MDN, told.verdict, "displayed", None, sender, sender, details=cited,
            why="it names no message that is known here",
        )  # fmt: skip
        return self._carrier(told, "mdn", sender, (self._to(Sort.RECEIPT_OF_STRANGER, sender, recipient),), found)

    def _receipt(self, told: Reaction, asked: Asked) -> Record:
        program, mode = self._chance.choice(_PROGRAMS)
        disposition = f"{mode}; {told.what}" if told.what != "unreadable" else "read"
        raw = (
            f"Reporting-UA: {program}\r\nFinal-Recipient: rfc822;{told.by}\r\n"
            f"Original-Message-ID: <{asked.message_id}>\r\nDisposition: {disposition}\r\n"
        )
        action, _, sending = mode.lower().partition("/")
        details = {"reporting_ua": program, "action_mode": action, "sending_mode": sending}
        proven = asked.domain is not None and asked.domain.signed
        vouched = f"mx.example.co.jp found dkim=pass for {asked.domain.name}" if asked.domain and proven else _UNPROVEN
        why = f"Original-Message-ID names our message; Final-Recipient and From name its recipient; {vouched}"
        counting = told.verdict in (Verdict.MATCHED, Verdict.OTHER_ADDRESS)
        found = self._evidence(
            told, asked, EvidenceKind.MDN, told.what, why, details, raw.encode(),
            Grade.AUTHENTICATED if proven and counting else Grade.CLAIMED,
        )  # fmt: skip
        carried = (self._to(self._sort_of_receipt(asked), told.by, asked.sender),)
        return self._carrier(told, "mdn", told.by, carried, found)

    def _sort_of_receipt(self, asked: Asked) -> Sort:
        if asked.recorded.direction is Direction.INBOUND:
            known = asked.recorded.rule is not None
            return Sort.RECEIPT_TO_PARTNER if known else Sort.RECEIPT_TO_STRANGER
        if asked.domain is None:
            return Sort.INTERNAL_RECEIPT
        return Sort.RECEIPT_FOR_POLICY if asked.recorded.asked_by is AskedBy.POLICY else Sort.RECEIPT_FOR_CLIENT

    def _report(self, told: Reaction, asked: Asked) -> Record:
        status = {"failed": "5.1.1", "delayed": "4.4.1"}.get(told.what, "2.0.0")
        address = asked.recorded.address
        raw = (
            f"Reporting-MTA: dns; {told.by}\r\n\r\nFinal-Recipient: rfc822; {address}\r\n"
            f"Action: {told.what}\r\nStatus: {status}\r\n\r\nMessage-ID: <{asked.message_id}>\r\n"
        )
        details = {"status": status}
        if told.what == "failed":
            details["diagnostic"] = "smtp; 550 5.1.1 User unknown"
        why = "third part names our message; it reports on a recipient of it; who wrote it is not proven"
        found = self._evidence(told, asked, EvidenceKind.DSN, told.what, why, details, raw.encode())
        success = told.what in ("delivered", "relayed", "expanded")
        to = self._to(Sort.SUCCESS_FOR_POLICY if success else Sort.BOUNCE, f"MAILER-DAEMON@{told.by}", asked.sender)
        return self._carrier(told, "dsn", f"MAILER-DAEMON@{told.by}", (to,), found)

    def _to(self, sort: Sort, sender: str, recipient: str) -> RecordedRecipient:
        return self.judged.recorded(sort, sender, recipient)

    def _evidence(
        self,
        told: Reaction,
        asked: Asked,
        kind: EvidenceKind,
        value: str,
        why: str,
        details: dict[str, str] | None = None,
        raw: bytes | None = None,
        grade: Grade = Grade.CLAIMED,
    ) -> Evidence:
        about = asked.recorded.address if kind is EvidenceKind.DSN else told.by
        tie = "Original-Message-ID" if kind is EvidenceKind.MDN else "In-Reply-To"
        return Evidence(
            kind, told.verdict, value, asked.recipient, about, told.by, None, tie, details or {}, raw, why, grade
        )  # fmt: skip

    def _carrier(
        self, told: Reaction, kind: str, sender: str, recipients: tuple[RecordedRecipient, ...], found: Evidence
    ) -> Record:
        chance = self._chance
        message_id = f"{told.token or chance.getrandbits(64):016x}@{sender.rpartition('@')[2]}"
        return Record(
            moment_of(told.at), f"{chance.getrandbits(48):012X}", sender, chance.randbytes(32), message_id,
            sent_at=moment_of(told.at // 1_000_000 * 1_000_000 - 1_000_000), kind=kind, policy=self.judged.policy.digest,
            recipients=recipients, evidence=(replace(found, message_id=message_id),),
        )  # fmt: skip
