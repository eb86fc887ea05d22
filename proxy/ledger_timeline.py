"""All about one message, told in order: what was decided, what came back and how it was judged, what people noted.

Used by ``kaifu receipts show``. :func:`as_object` is for programs, :func:`lines` for people; both tell the same. Pure: takes what
:func:`kaifu.proxy.ledger_read.detail` read. A cell that was erased is missing and is said to be.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import tzinfo
from typing import Any

from .display import visible
from .ledger_entries import Entry, at_text, at_value
from .ledger_read import Detail, Row
from .ledger_shown import as_object as row_object
from .ledger_shown import local
from .ledger_states import mark, transport_shown

ERASED = "(erased)"
_KINDS = {"mdn": "receipt", "dsn": "delivery report", "reply": "reply", "auto-reply": "automatic reply"}
_VERDICTS = {
    "matched": "",
    "unknown-message": "does not count: cites no message of ours",
    "wrong-recipient": "does not count: not from a recipient",
    "not-asked": "does not count: nobody asked for it",
    "suspected": "does not count: only looks like a receipt",
    "unreadable": "does not count: cannot be read",
}


def _cell(entry: Entry, name: str) -> dict[str, Any]:
    value = entry.cells.get(name)
    return value if isinstance(value, dict) else {}


def as_object(found: Detail) -> dict[str, Any]:
    """Everything as one JSON object."""
    first = found.recipients[0]
    started = next(entry for entry in found.entries if entry.kind == "message")
    common = ("id", "message_id", "kind", "from", "subject", "sent_at", "recorded_at")
    row = row_object(first)
    return {
        **{key: row[key] for key in common},
        "policy": started.body.get("policy"),
        "attempts": [_attempt(found, entry) for entry in found.entries if entry.kind in ("message", "attempt")],
        "recipients": [_recipient(found, each, common) for each in found.recipients],
        "other_evidence": [_evidence(entry) for entry in found.entries if _belongs_to_nobody(entry)],
        "is_evidence_of": [{"message": entry.message, **_evidence(entry)} for entry in found.carried],
    }


def _attempt(found: Detail, entry: Entry) -> dict[str, Any]:
    ids, version = _cell(entry, "ids"), found.policies.get(entry.number)
    return {
        "entry": entry.number,
        "at": at_text(entry.at),
        "queue_id": ids.get("queue_id"),
        "mta_queue_id": ids.get("mta_queue_id"),
        "envid": ids.get("envid"),
        "policy": entry.body.get("policy"),
        "policy_entry": version.entry if version else None,
        "policy_since": at_text(version.at) if version else None,
        "policy_mode": version.mode if version else None,
    }


def _belongs_to_nobody(entry: Entry) -> bool:
    return entry.kind == "evidence" and "recipient" not in entry.body


def _recipient(found: Detail, row: Row, common: tuple[str, ...]) -> dict[str, Any]:
    decided = _cell(next((e for e in found.entries if e.number == row.entry), found.entries[0]), f"to.{row.recipient}")
    told = [entry for entry in found.entries if _concerns(entry, row.recipient)]
    return {
        **{key: value for key, value in row_object(row).items() if key not in common},
        "edits": decided.get("edits", []),
        "not_possible": decided.get("not_possible", []),
        "outcomes": [_outcome(entry, row.recipient) for entry in told if entry.kind == "outcome"],
        "evidence": [_evidence(entry) for entry in told if entry.kind == "evidence"],
        "notes": [_note(entry, found.revoked) for entry in told if entry.kind == "attested"],
    }


def _concerns(entry: Entry, recipient: int) -> bool:
    if entry.kind == "outcome":
        return any(recipient in some for some in entry.body["outcomes"].values())
    return entry.body.get("recipient") == recipient


def _outcome(entry: Entry, recipient: int) -> dict[str, Any]:
    outcome = next(key for key, some in entry.body["outcomes"].items() if recipient in some)
    return {"entry": entry.number, "at": at_text(entry.at), "outcome": outcome, "reply": entry.cells.get("reply")}


def _evidence(entry: Entry) -> dict[str, Any]:
    report, raw = _cell(entry, "report"), entry.cells.get("raw")
    return {
        "entry": entry.number,
        "at": at_text(entry.at),
        "evidence": entry.body["evidence"],
        "value": report.get("value", entry.body["value"]),
        "verdict": entry.body["verdict"],
        "duplicate": bool(entry.body.get("duplicate")),
        "why": report.get("why"),
        "about": report.get("about"),
        "by": report.get("by"),
        "message_id": report.get("message_id"),
        "tie": entry.body.get("tie"),
        "carrier": entry.body.get("carrier"),
        "details": report.get("details", {}),
        "raw": raw.decode("utf-8", "replace") if isinstance(raw, bytes) else None,
    }


def _note(entry: Entry, revoked: dict[int, int]) -> dict[str, Any]:
    return {
        "entry": entry.number,
        "at": at_text(entry.at),
        "confirmed_by": entry.body["value"],
        "confirmed_at": entry.body["seen_at"],
        "text": entry.cells.get("note"),
        "actor": entry.cells.get("actor"),
        "revoked_by": revoked.get(entry.number),
    }


def lines(found: Detail, zone: tzinfo, marks: str) -> Iterator[str]:
    """Everything as lines of text, safe to print. ``marks``: ``unicode`` or ``ascii``."""
    whole = as_object(found)
    yield f"Message {whole['id']}  {_angle(whole['message_id'])}"
    yield f"  from      {_text(whole['from'])}"
    yield f"  subject   {_text(whole['subject'], '(not recorded)')}"
    yield f"  sent      {_times(found.recipients[0], zone)}"
    for attempt in whole["attempts"]:
        queue = ", ".join(_text(attempt[key]) for key in ("queue_id", "mta_queue_id") if attempt[key])
        policy = f"   policy {attempt['policy'][:12]}" if attempt["policy"] else ""
        if attempt["policy_entry"]:
            policy += f" (entry {attempt['policy_entry']}, {local(at_value(attempt['policy_since']), zone)})"
        again = "tried again" if attempt is not whole["attempts"][0] else "recorded"
        yield f"  {again:<9} {local(at_value(attempt['at']), zone, seconds=True)}   queue id {queue}{policy}"
    for row, each in zip(found.recipients, whole["recipients"], strict=True):
        yield ""
        yield from _recipient_lines(row, each, zone, marks)
    for title, key in (
        ("Cites this message, but confirms nothing", "other_evidence"),
        ("It is evidence of", "is_evidence_of"),
    ):
        if whole[key]:
            yield ""
            yield title
            for one in whole[key]:
                about = f" about message {one['message']}" if one.get("message") else ""
                yield from _evidence_lines(one, zone, about)


def _times(row: Row, zone: tzinfo) -> str:
    return f"{local(row.sent_at, zone, seconds=True)} ({getattr(zone, 'key', None) or zone})"


def _angle(message_id: str | None) -> str:
    return f"<{visible(message_id)}>" if message_id else "(no Message-ID recorded)"


def _text(value: object, missing: str = ERASED) -> str:
    return missing if value is None else visible(str(value))


def _recipient_lines(row: Row, each: dict[str, Any], zone: tzinfo, marks: str) -> Iterator[str]:
    sign, words = mark(row.state, row.request, style=marks)
    yield f"{_text(row.address)}   {sign} {words}"
    yield f"  {row.direction}; request {row.request} (asked by {row.asked_by}); {row.outcome}"
    yield f"  transport {transport_shown(row.standing)}; handling {row.standing.handling}"
    yield f"  why       {_text(each['reason'])}"
    if each["would"]:
        yield f"  would     {_text(each['would'])}"
    for edit in each["edits"]:
        yield f"  changed   {_text(edit)}"
    for words in each["not_possible"]:
        yield f"  not possible: {_text(words)}"
    for one in each["outcomes"]:
        yield f"  {local(at_value(one['at']), zone, seconds=True)}  {one['outcome']}: {_text(one['reply'])}"
    for one in each["evidence"]:
        yield from _evidence_lines(one, zone)
    if each["notes"]:
        yield "  noted by people (no receipts):"
    for note in each["notes"]:
        taken_back = f"   revoked by entry {note['revoked_by']}" if note["revoked_by"] else ""
        yield (
            f"    entry {note['entry']}: confirmed by {note['confirmed_by']} at"
            f" {local(at_value(note['confirmed_at']), zone)}, says {_text(note['actor'])}:"
            f" {_text(note['text'])}{taken_back}"
        )


def _evidence_lines(one: dict[str, Any], zone: tzinfo, about: str = "") -> Iterator[str]:
    kind = _KINDS.get(one["evidence"], one["evidence"])
    value = "" if one["value"] == one["evidence"] else f": {_text(one['value'])}"
    judged = [_VERDICTS.get(one["verdict"], one["verdict"]), "seen before" if one["duplicate"] else ""]
    remark = "; ".join(words for words in judged if words)
    yield (
        f"  {local(at_value(one['at']), zone, seconds=True)}  {kind}{value}{about}"
        f"{f' ({remark})' if remark else ''} from {_text(one['by'])}"
    )
    if one["why"]:
        yield f"    {_text(one['why'])}"
    for key, value in one["details"].items():
        yield f"    {_text(key)}: {_text(value)}"
