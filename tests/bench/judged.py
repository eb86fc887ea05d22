"""What the judge says of each sort of mail, asked once: the records that :mod:`tests.bench.ledger_fill` writes are made from it.

A sample of each sort is judged by the code that the relay runs, under each edition of the policy. What comes of it is
kept, with the sender's and the recipient's addresses as places to be filled in: a million judgements would say the same. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

from tests.bench.organisation import OURS, Organisation, policy_text

from kaifu.policies.facts import AskedBy, Realm
from kaifu.policies.load import load
from kaifu.policies.rules import Policy
from kaifu.proxy.explain import Question, explain
from kaifu.proxy.ledger import Known, Original, OriginalRecipient, RecordedRecipient, RequestState

REALM = Realm([OURS, f".{OURS}"])
_SENT = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)
_OURS, _THEIRS = "sender.to.fill.in", "recipient.to.fill.in"
_ID = "original@example.co.jp"


class Sort(StrEnum):
    """What sorts of mail leave a record."""

    CONTRACT = "contract"
    INVOICE = "invoice"
    NOTICE = "notice"
    PERSONNEL = "personnel"
    ASKED_BY_CLIENT = "asked by client"
    INTERNAL = "internal"
    FROM_PARTNER = "from a partner"
    FROM_STRANGER = "from a stranger"
    RECEIPT_FOR_POLICY = "receipt that only the policy asked for"
    RECEIPT_FOR_CLIENT = "receipt that the client asked for"
    RECEIPT_OF_STRANGER = "receipt that names no message of ours"
    INTERNAL_RECEIPT = "receipt among our people"
    RECEIPT_TO_PARTNER = "receipt of ours to a partner"
    RECEIPT_TO_STRANGER = "receipt of ours to a stranger"
    SUCCESS_FOR_POLICY = "report of success that only the policy asked for"
    BOUNCE = "report of failure"


@dataclass(frozen=True, slots=True)
class Judged:
    """An edition of the policy, and what it says of each sort. A sort that leaves no record under it is missing."""

    policy: Policy
    text: str
    said: dict[Sort, RecordedRecipient]

    def recorded(self, sort: Sort, sender: str, recipient: str) -> RecordedRecipient:
        """The record of one recipient. KeyError when there is none."""
        told = self.said[sort]
        edits = tuple([edit.replace(_OURS, sender.partition("@")[0]) for edit in told.edits]) if told.edits else ()
        return replace(told, address=recipient, edits=edits)


def judged(edition: int, who: Organisation) -> Judged:
    """Everything that an edition of the policy says."""
    text = policy_text(edition, who.partners.items[:40])
    policy = load(text, "policy.yaml")
    partner, stranger = who.partners.items[0].name, who.strangers.items[0].name
    said = {}
    for sort in Sort:
        found = _judge(policy, sort, partner, stranger)
        if found is not None:
            said[sort] = found
    return Judged(policy, text, said)


_ASKS = "Disposition-Notification-To: <{sender}>\r\n"
_MAIL: dict[Sort, tuple[str, str, str, str]] = {
    Sort.CONTRACT: ("law." + OURS, "partner", "契約書", ""),
    Sort.INVOICE: (OURS, "partner", "請求書", ""),
    Sort.NOTICE: (OURS, "partner", "通知", ""),
    Sort.PERSONNEL: (OURS, OURS, "健康診断", ""),
    Sort.ASKED_BY_CLIENT: (OURS, "partner", "資料", _ASKS),
    Sort.INTERNAL: (OURS, OURS, "資料", _ASKS),
    Sort.FROM_PARTNER: ("partner", OURS, "資料", _ASKS),
    Sort.FROM_STRANGER: ("stranger", OURS, "offer", _ASKS),
}
"""Domain of sender and recipient, subject, and what else the header says."""

_REPORTS: dict[Sort, tuple[str, str, AskedBy | None]] = {
    Sort.RECEIPT_FOR_POLICY: ("partner", OURS, AskedBy.POLICY),
    Sort.RECEIPT_FOR_CLIENT: ("partner", OURS, AskedBy.CLIENT),
    Sort.RECEIPT_OF_STRANGER: ("stranger", OURS, None),
    Sort.INTERNAL_RECEIPT: (OURS, OURS, AskedBy.CLIENT),
    Sort.RECEIPT_TO_PARTNER: (OURS, "partner", AskedBy.CLIENT),
    Sort.RECEIPT_TO_STRANGER: (OURS, "stranger", AskedBy.CLIENT),
    Sort.SUCCESS_FOR_POLICY: ("partner", OURS, AskedBy.POLICY),
    Sort.BOUNCE: ("partner", OURS, AskedBy.POLICY),
}
"""Domain of who answers and of who gets the report, and who had asked for it (None: the message is not known here)."""

_RECEIPT = """\
MIME-Version: 1.0\r
Content-Type: multipart/report; report-type=disposition-notification; boundary="b"\r
\r
--b\r
Content-Type: text/plain\r
\r
It was displayed.\r
--b\r
Content-Type: message/disposition-notification\r
\r
Final-Recipient: rfc822; {sender}\r
Original-Message-ID: <{id}>\r
Disposition: manual-action/MDN-sent-manually; displayed\r
\r
--b--\r
"""
_DELIVERY = """\
MIME-Version: 1.0\r
Content-Type: multipart/report; report-type=delivery-status; boundary="b"\r
\r
--b\r
Content-Type: text/plain\r
\r
What became of it.\r
--b\r
Content-Type: message/delivery-status\r
\r
Reporting-MTA: dns; mx.partner.example\r
\r
Final-Recipient: rfc822; {sender}\r
Action: {action}\r
Status: {status}\r
\r
--b\r
Content-Type: text/rfc822-headers\r
\r
Message-ID: <{id}>\r
\r
--b--\r
"""
_BOUNCES = {Sort.SUCCESS_FOR_POLICY: ("relayed", "2.0.0"), Sort.BOUNCE: ("failed", "5.1.1")}


def _judge(policy: Policy, sort: Sort, partner: str, stranger: str) -> RecordedRecipient | None:
    """What is recorded of the recipient of a sample."""
    named = {"partner": partner, "stranger": stranger}
    if sort in _MAIL:
        one, other, subject, more = _MAIL[sort]
    else:
        one, other, asked_by = _REPORTS[sort]
        subject, more = "Re", ""
    local = "jinji" if sort is Sort.PERSONNEL else _OURS
    sender, recipient = f"{local}@{named.get(one, one)}", f"{_THEIRS}@{named.get(other, other)}"
    head = f"From: <{sender}>\r\nTo: <{recipient}>\r\nSubject: {subject}\r\nDate: Mon, 05 Jan 2026 09:30:00 +0000\r\n"
    head += f"Message-ID: <sample@{OURS}>\r\n{more.format(sender=sender)}"
    known = Known()
    if sort in _MAIL:
        text = f"{head}\r\nText\r\n"
    else:
        action, status = _BOUNCES.get(sort, ("", ""))
        form = _DELIVERY if sort in _BOUNCES else _RECEIPT
        text = head + form.format(sender=sender, id=_ID, action=action, status=status)
        if asked_by is not None:
            known = _known(recipient, sender, asked_by)
    envelope_from = sender if sort in _MAIL else "<>"
    question = Question(envelope_from, [recipient], text.encode(), _SENT, lambda _: known)
    record = explain(policy, REALM, question).judgement.record
    return record.recipients[0] if record is not None and record.recipients else None


def _known(sender: str, recipient: str, asked_by: AskedBy) -> Known:
    """The message that a report answers."""
    state = RequestState.ADDED if asked_by is AskedBy.POLICY else RequestState.KEPT
    asked = OriginalRecipient(1, recipient, state, asked_by, asked_by)
    return Known(originals={_ID: (Original(1, _ID, sender, _SENT, (asked,)),)})
