"""What an entry says openly of a record, and what of it goes into cells.

Called by :mod:`kaifu.proxy.ledger_journal`. Everything that a person or a message may be known by, and everything that a
stranger wrote, goes into a cell. Pure; fails on nothing.
"""

from __future__ import annotations

from typing import Any

from kaifu.policies.facts import AskedBy

from .ledger import Evidence, Grade, Record, RecordedRecipient
from .ledger_entries import at_text, microseconds

OPEN_VALUES = frozenset(
    "displayed deleted denied failed dispatched processed delayed relayed expanded delivered"
    " reply auto-reply unreadable".split()
)
"""Values of evidence that an entry says openly. Anything else is text that a stranger chose."""
OTHER = "other"
REPORTS = ("mdn", "dsn")
"""Kinds of records that are reports."""


def open_value(value: str) -> str:
    """A value of evidence as the body says it; the cell ``report`` has it in full where that says less."""
    return value if value in OPEN_VALUES else OTHER


def body_of(record: Record) -> dict[str, Any]:
    """The body of a message or attempt, without its recipients."""
    body: dict[str, Any] = {"type": record.kind, "to": []}
    if record.policy:
        body["policy"] = record.policy
    if record.sent_at is not None:
        body["sent_at"] = at_text(microseconds(record.sent_at))
    return body


def ids_of(record: Record) -> dict[str, Any]:
    """The cell ``ids`` of a message or attempt, without what identifies the message itself."""
    ids: dict[str, Any] = {"queue_id": record.queue_id}
    if record.mta_queue_id is not None:
        ids["mta_queue_id"] = record.mta_queue_id
    return ids


def decided(recipient: RecordedRecipient, number: int) -> dict[str, Any]:
    """What a body says of one recipient."""
    body: dict[str, Any] = {
        "id": number,
        "direction": recipient.direction._value_,
        "request": recipient.request._value_,
        "asked_by": recipient.asked_by._value_,
    }
    if recipient.report_asked_by is not AskedBy.NOBODY:
        body["report_asked_by"] = recipient.report_asked_by._value_
    if recipient.rule is not None:
        body["rule"] = recipient.rule
    if recipient.withheld:
        body["withheld"] = True
    if recipient.would is not None:
        body["observed"] = True
    if recipient.retain_days is not None:
        body["retain_days"] = recipient.retain_days
    if recipient.basis is not None:
        body["basis"] = recipient.basis
    if recipient.confirm is not Grade.CLAIMED:
        body["confirm"] = recipient.confirm._value_
    return body


def personal(recipient: RecordedRecipient) -> dict[str, Any]:
    """The cell ``to.ID`` of one recipient."""
    cell: dict[str, Any] = {"address": recipient.address, "reason": recipient.reason}
    if recipient.would is not None:
        cell["would"] = recipient.would
    if recipient.edits:
        cell["edits"] = list(recipient.edits)
    if recipient.not_possible:
        cell["not_possible"] = list(recipient.not_possible)
    return cell


def evidence_body(found: Evidence) -> dict[str, Any]:
    """What a body says of a piece of evidence itself."""
    body: dict[str, Any] = {
        "evidence": found.kind.value,
        "verdict": found.verdict.value,
        "value": open_value(found.value),
    }
    if found.recipient is not None:
        body["recipient"] = found.recipient
    if found.tie:
        body["tie"] = found.tie
    if found.grade is not Grade.CLAIMED:
        body["grade"] = found.grade.value
    if found.alias:
        body["alias"] = True
    return body


def report_of(found: Evidence, record: Record) -> dict[str, Any]:
    """The cell ``report`` of a piece of evidence that came with a record."""
    report: dict[str, Any] = {"about": found.about, "by": found.by}
    if found.message_id:
        report["message_id"] = found.message_id
    else:
        report["attempt"] = record.attempt_key.hex()
    if found.details:
        report["details"] = dict(found.details)
    if found.why:
        report["why"] = found.why
    if open_value(found.value) != found.value:
        report["value"] = found.value
    return report
