"""The milter's judgement of one message: what was collected goes in, what the MTA has to do comes out.

Called by :mod:`kaifu.proxy.milterconnection` at the end of each message; it knows nothing of the protocol. The same brain as
the relay's decides (:mod:`kaifu.proxy.transit`); the ledger has its record on disk before the MTA hears
anything. What the milter cannot do like the relay: one header block serves all recipients, so the strictest header edit
wins (strip before keep before add), and it never learns how the delivery ended.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
from hashlib import sha256

from kaifu.policies.rules import Policy
from kaifu.policies.values import unchanging

from . import replies
from .address import AddressError, envid_of, parse_mail, parse_rcpt, path_octets
from .edits import HeaderEdit, milter_order
from .envelope import Envelope, Recipient, parameters_with_notify
from .health import Health
from .judgement import Action, Judgement, Verdict
from .ledger import Begun, Known, LedgerError, Outcome, Query, Record
from .ledger_gathering import GatheringLedger, SomebodySaid
from .message import HeaderBlock
from .minting import with_message_id
from .observe import Observation, needs_body, observe
from .policyfile import PolicyFile
from .replies import Reply
from .requestedits import Mta
from .settings import MilterSettings, Settings
from .transit import judge, query, without_additions
from .trustfiles import TrustFiles
from .vitals import LedgerVitals, now

MAX_HEADER = 1 << 20
MAX_RECIPIENTS = 50_000
MAX_RECIPIENT = 8192
"""Octets of a recipient with its parameters; an MTA's command line is shorter."""

MAX_REPORT = 1 << 20
"""Octets of a possible report that are read before it is judged."""

_NAME = re.compile(rb"[!-9;-~]+")
_LINE_END = re.compile(rb"\r*\n(?=([ \t])?)")


_NOTHING_KNOWN = Known()


class End(Enum):
    """What becomes of the message as a whole."""

    ACCEPT = "accept"
    DISCARD = "discard"
    REJECT = "reject"
    TEMPFAIL = "tempfail"


class Reading(Enum):
    """What has to be done with a body: kept to be read, counted because a rule looks at the size, or skipped."""

    KEEP = "keep"
    COUNT = "count"
    SKIP = "skip"


@dataclass(slots=True)
class Collected:
    """One message as the MTA tells it. ``mail`` and each of ``rcpt``: the path, then the ESMTP parameters.

    ``policy``: the one that was in force when the message began. ``lines``: the header fields, each without its last line
    end. ``reading``: unknown (None) until the header is complete. ``queue_id``: the MTA's. ``others``: how many
    more were on their way when this one had come whole. ``can_notify``: the MTA lets us change NOTIFY.
    ``mta``: which it is. ``broken``: why the message cannot be judged.
    """

    policy: Policy
    mail: tuple[bytes, ...] = ()
    rcpt: list[tuple[bytes, ...]] = field(default_factory=list)
    lines: list[bytes] = field(default_factory=list)
    header_size: int = 0
    body: bytearray = field(default_factory=bytearray)
    body_size: int = 0
    reading: Reading | None = None
    queue_id: str | None = None
    others: int = 0
    can_notify: bool = True
    mta: Mta = Mta.POSTFIX
    broken: str | None = None
    _envelope: Envelope | None = None
    _block: HeaderBlock | None = None

    def envelope(self) -> Envelope:
        """The parsed envelope. Raises :class:`AddressError`."""
        if self._envelope is None:
            path = parse_mail(b" ".join(self.mail) if self.mail and self.mail[0] else b"<>")
            recipients = tuple(parse_rcpt(b" ".join(words)) for words in self.rcpt)
            utf8 = "SMTPUTF8" in path.parameters
            self._envelope = Envelope(path, recipients, smtputf8=utf8, envid=envid_of(path.parameters))
        return self._envelope

    def add_recipient(self, words: tuple[bytes, ...]) -> None:
        """One recipient. Past the limit none is kept: the message will be refused."""
        if not words[0]:
            self.broken = "a recipient has no address"
        elif sum(map(len, words)) > MAX_RECIPIENT:
            self.broken = "a recipient has too long an address, or too many parameters"
        elif len(self.rcpt) <= MAX_RECIPIENTS:
            self.rcpt.append(words)

    def add_header(self, name: bytes, value: bytes) -> None:
        """One header field. Past the limit nothing is kept: the message will be refused.

        MTAs hide how lines ended and the space after the colon, which decide nothing. Whatever they send, one field stays
        one: the occurrences that edits name are counted over those that the MTA has. What has no field name at all is
        left out, as it is no receipt request.
        """
        self.header_size += len(name) + len(value) + 4
        if self.header_size <= MAX_HEADER and _NAME.fullmatch(name) is not None:
            if b"\n" in value:
                value = _LINE_END.sub(_continued, value)
            self.lines.append(b"%b: %b" % (name, value))

    def block(self) -> HeaderBlock:
        """The header block as octets."""
        if self._block is None:
            self._block = HeaderBlock.parse(b"\r\n".join([*self.lines, b"", b""]))
        return self._block


def _continued(match: re.Match[bytes]) -> bytes:
    """A line end within a field; what follows is still the field's."""
    return b"\r\n" if match[1] else b"\r\n "


@unchanging
class Orders:
    """What the MTA is told, in this order: header edits (deletions from last to first), recipients, the end.

    ``again``: recipients to add again after removal, with their parameters. ``reply``: for REJECT and TEMPFAIL.
    """

    end: End
    edits: tuple[HeaderEdit, ...] = ()
    remove: tuple[bytes, ...] = ()
    again: tuple[tuple[bytes, bytes], ...] = ()
    reply: Reply | None = None


class MilterHost:
    """Policy, ledger and log for all conversations of a process. ``ended``: how many messages ended how."""

    def __init__(
        self,
        settings: Settings,
        milter: MilterSettings,
        policy: PolicyFile,
        trust: TrustFiles,
        ledger: GatheringLedger,
        log: Callable[..., None],
    ) -> None:
        self.policy = policy
        self.trust = trust
        self.ledger = ledger
        self.log = log
        self._settings = settings
        self._milter = milter
        self.ended = dict.fromkeys(End, 0)
        self._ledger_vitals = LedgerVitals()

    def health(self, begun: Health) -> Health:
        """How it is. ``begun``: what has been known since the start. Called by another thread."""
        ended = {end.value: number for end, number in self.ended.items()}
        return replace(
            begun,
            at=now(),
            policy=self.policy.health(),
            ledger=self._ledger_vitals.health(),
            counters={"messages": sum(ended.values()), **ended},
        )

    def look_at_files(self) -> None:
        """Take what has changed of the policy and of whom to believe."""
        self.policy.poll()
        self.trust.poll()

    def reading(self, message: Collected) -> Reading:
        """What to do with the body, once the header is complete."""
        if message.reading is None:
            if message.broken is None and needs_body(message.envelope(), message.block()):
                message.reading = Reading.KEEP
            else:
                message.reading = Reading.COUNT if message.policy.uses_size else Reading.SKIP
        return message.reading

    def take_body(self, message: Collected, chunk: bytes) -> bool:
        """Take a piece of the body; False when the rest is not needed."""
        try:
            reading = self.reading(message)
        except AddressError as error:
            message.broken = f"an address cannot be read: {error}"
            return False
        message.body_size += len(chunk)
        if reading is Reading.KEEP and len(message.body) < MAX_REPORT:
            message.body += chunk[: MAX_REPORT - len(message.body)]
        return message.policy.uses_size or (reading is Reading.KEEP and message.body_size <= MAX_REPORT)

    async def decide(self, message: Collected) -> Orders:
        """Judge a complete message and record it. Never raises: what fails is a tempfail, and logged."""
        try:
            if message.header_size > MAX_HEADER:
                return self.refuse(message, replies.HEADER_TOO_LARGE, "the header is too large")
            if len(message.rcpt) > MAX_RECIPIENTS:
                return self.refuse(message, replies.TOO_MANY_RECIPIENTS, "too many recipients")
            if message.broken is not None:
                return self.refuse(message, replies.OURS_FAILED, message.broken)
            return await self._decide(message)
        except LedgerError as error:
            self.ledger_failed(error)
            return self.refuse(message, replies.LEDGER_FAILED, "the ledger cannot be used")
        except AddressError as error:
            return self.refuse(message, replies.OURS_FAILED, f"an address cannot be read: {error}")
        except Exception as error:  # noqa: BLE001 - a bug of ours must defer the message, not pass or bounce it
            self.unforeseen(error, message.queue_id)
            return self.refuse(message, replies.OURS_FAILED, "internal error")

    def refuse(self, message: Collected, reply: Reply, cause: str) -> Orders:
        """The orders that refuse or defer a message, as the reply's code says; and a line in the log."""
        self.log("message", id=message.queue_id, reply=str(reply), cause=cause)
        return Orders(End.REJECT if reply.code >= 500 else End.TEMPFAIL, reply=reply)

    def ledger_failed(self, error: LedgerError) -> None:
        """Log why the ledger cannot be used: once, until the reason changes or it works again."""
        if self._ledger_vitals.fails(str(error)):
            self.log("ledger-failed", cause=str(error), on_ledger_failure=self._settings.on_ledger_failure)

    def unforeseen(self, error: BaseException, queue_id: str | None = None) -> None:
        """Log an error that nobody foresaw, with its place."""
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        at = f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}" if place is not None else None
        self.log("internal-error", error=f"{type(error).__name__}: {error}", at=at, id=queue_id)

    async def _decide(self, message: Collected) -> Orders:
        policy = message.policy
        envelope, block = message.envelope(), message.block()
        body = bytes(message.body) if self.reading(message) is Reading.KEEP else None
        seen = observe(
            envelope,
            block,
            body,
            message.body_size <= MAX_REPORT,
            realm=self._settings.realm,
            request_headers=policy.request_headers,
            outside=self._milter.outside,
            trust=self.trust.current,
        )
        asked = query(policy, seen)
        asked = Query(asked.message_ids, asked.envids, asked.consent_of)
        if asked and self.ledger.needs_no_look(asked):
            try:
                return await self._judged(message, seen, asked, look=False)
            except SomebodySaid:
                pass  # the judgement is none; below it is made with what was said
        return await self._judged(message, seen, asked, look=True)

    async def _judged(self, message: Collected, seen: Observation, asked: Query, *, look: bool) -> Orders:
        """Judge, record and say what to do. Raises :class:`SomebodySaid` when one had to look first."""
        policy = message.policy
        works, known = True, _NOTHING_KNOWN
        if asked and look:
            try:
                known = await self.ledger.look(asked)
            except LedgerError as error:
                works = False
                self.ledger_failed(error)
        judgement = judge(
            policy,
            seen,
            known,
            now=datetime.now(self._settings.zone),
            queue_id="",
            hostname=self._milter.hostname,
            dsn=message.can_notify,
            mta=message.mta,
            size=len(seen.block.raw) + message.body_size if policy.uses_size else None,
            one_header=True,
            mta_queue_id=message.queue_id,
        )
        if judgement.record is None and asked and not look:
            raise SomebodySaid("what leaves no record cannot be checked against it")
        if not works and (judgement.record is not None or judgement.needs(asked)):
            judgement = self._without_ledger(judgement, seen)
        judgement, begun = await self._recorded(judgement, seen, message, look)
        return self._orders(judgement, begun, message)

    def _without_ledger(self, judgement: Judgement, seen: Observation) -> Judgement:
        """What ``on_ledger_failure`` allows. Raises :class:`LedgerError` when the message has to wait."""
        report = seen.message.report
        may_be_withheld = report is not None and report.only_reports and report.must_deliver is None
        if self._settings.on_ledger_failure == "defer" or may_be_withheld:
            raise LedgerError(self._ledger_vitals.problem or "the ledger cannot be used")
        return without_additions(judgement, one_header=True)

    async def _recorded(
        self, judgement: Judgement, seen: Observation, message: Collected, looked: bool
    ) -> tuple[Judgement, Begun | None]:
        """The record on disk before the MTA hears of anything."""
        record: Record | None = judgement.record
        if record is None:
            return judgement, None
        try:
            begun = await self.ledger.begin(_attempt(record), message.others, unlooked=not looked)
        except SomebodySaid:
            raise
        except LedgerError as error:
            self.ledger_failed(error)
            return self._without_ledger(judgement, seen), None
        if self._ledger_vitals.problem is not None:
            self.log("ledger-works-again", was=self._ledger_vitals.works())
        return judgement, begun

    def _orders(self, judgement: Judgement, begun: Begun | None, message: Collected) -> Orders:
        for direction, kind in judgement.counts:
            self.ledger.count(direction, kind)
        if judgement.unrecorded is not None:
            self.ledger.leave_trace(judgement.unrecorded)
        if judgement.rejection is not None:
            reply = replies.REJECTED.saying(judgement.rejection)
            self._finish(begun, judgement.verdicts, Outcome.REFUSED, str(reply))
            orders = Orders(End.REJECT, reply=reply)
        elif not judgement.deliveries:
            self._finish(begun, judgement.withheld, Outcome.WITHHELD, "discarded")
            orders = Orders(End.DISCARD)
        else:
            self._finish(begun, judgement.withheld, Outcome.WITHHELD, "recipient removed")
            orders = _changes(judgement, begun)
        self._log_message(judgement, begun, message, orders)
        return orders

    def _finish(self, begun: Begun | None, verdicts: tuple[Verdict, ...], outcome: Outcome, reply: str) -> None:
        """What a milter does know: what it withheld or refused. The rest stays unknown until a report tells."""
        outcomes = [(str(v.recipient.mailbox), outcome) for v in verdicts if v.recorded is not None]
        if begun is not None and outcomes:
            self.ledger.finish(begun, outcomes, reply)

    def _log_message(self, judgement: Judgement, begun: Begun | None, message: Collected, orders: Orders) -> None:
        envelope = message.envelope()
        reasons = dict.fromkeys(v.reason for v in judgement.verdicts)
        self.log(
            "message",
            id=message.queue_id,
            **{"from": str(envelope.reverse_path.mailbox or "<>")},
            to=",".join(str(r.mailbox) for r in envelope.recipients),
            end=orders.end.value,
            ledger=begun.message if begun is not None else None,
            reason=" | ".join(reasons) or None,
        )


def _attempt(record: Record) -> Record:
    """The record as the ledger gets it.

    Whether the client heard 250 a milter never learns, so no attempt of its is ever answered, and the same header block
    from the same sender to the same people continues the same record. Without a Message-ID of its own that must not be:
    two messages of one script would get one id, and the second would vanish as a duplicate at its reader's.
    """
    if record.mint_host is None:
        return record
    apart = f" {record.mta_queue_id} {record.at.isoformat()}".encode()
    return replace(record, attempt_key=sha256(record.attempt_key + apart).digest())


def _changes(judgement: Judgement, begun: Begun | None) -> Orders:
    """Header edits, and recipients whose NOTIFY changes (removed and added again) or who do not get the message."""
    edits = judgement.deliveries[0].edits
    if judgement.mint and begun is not None and begun.message_id:
        edits = with_message_id(edits, begun.message_id)
    renewed = [v for v in judgement.verdicts if v.action is Action.FORWARD and v.notify_changed]
    remove = [_known_as(v.recipient) for v in (*judgement.withheld, *renewed)]
    again = [(_known_as(v.recipient), parameters_with_notify(v.recipient, v.notify)) for v in renewed]
    return Orders(End.ACCEPT, tuple(milter_order(edits)), tuple(dict.fromkeys(remove)), tuple(again))


def _known_as(recipient: Recipient) -> bytes:
    """The path by which the MTA finds the recipient: as it was given, but for a source route, which Postfix forgets at once."""
    return path_octets(recipient.mailbox) if recipient.raw.lstrip(b"< \t")[:1] == b"@" else recipient.raw
