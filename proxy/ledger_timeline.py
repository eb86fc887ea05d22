"""All about one message, told in order: what was decided, what came back and how it was judged, what people noted.

Used by ``kaifu receipts show``, where :func:`as_object` is for programs and :func:`lines` for people, and by the screen of one message, which
takes :func:`message_object` and :func:`recipient_object`; all tell the same. Pure: takes what
:func:`kaifu.proxy.ledger_detail.detail` read. A cell that was erased is missing and is said to be.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from datetime import tzinfo
from typing import Any

from .display import visible
from .ledger import EvidenceKind, Grade, Verdict
from .ledger_apart import Unmatched
from .ledger_bodies import REPORTS
from .ledger_detail import Detail
from .ledger_entries import Entry, at_text, at_value
from .ledger_read import Row
from .ledger_shown import as_object as row_object
from .ledger_shown import local, marked, name_of, remark
from .ledger_states import transport_shown

ERASED = "(erased)"
_KINDS = {
    "mdn": "receipt",
    "dsn": "delivery report",
    "reply": "reply",
    "auto-reply": "automatic reply",
    "suspected": "suspected receipt",
}
_VERDICTS = {
    "matched": "",
    "unknown-message": "does not count: cites no message of ours",
    "other-address": "does not count: from another address",
    "failed-authentication": "does not count: it failed authentication",
    "wrong-recipient": "does not count: not from a recipient",
    "suspected": "does not count: only looks like a receipt",
    "unreadable": "does not count: cannot be read",
}


def _cell(entry: Entry, name: str) -> dict[str, Any]:
    value = entry.cells.get(name)
    return value if isinstance(value, dict) else {}


_COMMON = ("id", "message_id", "kind", "from", "subject", "sent_at", "recorded_at")


def as_object(found: Detail) -> dict[str, Any]:
    """Everything as one JSON object."""
    whole = message_object(found)
    first = ("policy", "attempts")
    return {
        **{key: whole[key] for key in (*_COMMON, *first)},
        "recipients": [recipient_object(found, each) for each in found.recipients],
        **{key: value for key, value in whole.items() if key not in (*_COMMON, *first)},
    }


def message_object(found: Detail) -> dict[str, Any]:
    """What is said of the message itself, and what concerns none of its recipients."""
    started = next(entry for entry in found.entries if entry.kind == "message")
    row = row_object(found.recipients[0])
    return {
        **{key: row[key] for key in _COMMON},
        "policy": started.body.get("policy"),
        "attempts": [_attempt(found, entry) for entry in found.entries if entry.kind in ("message", "attempt")],
        "other_evidence": [_evidence(found, entry) for entry in found.entries if _belongs_to_nobody(found, entry)],
        "is_evidence_of": [{"message": entry.message, **_evidence(found, entry)} for entry in found.carried],
        "matches_nothing": [unmatched_object(one) for one in found.unmatched],
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


def _belongs_to_nobody(found: Detail, entry: Entry) -> bool:
    return entry.kind == "evidence" and found.judged[entry.number].recipient is None


def recipient_object(found: Detail, row: Row) -> dict[str, Any]:
    """What was decided for one recipient, and what came of it."""
    entry = next((entry for entry in found.entries if entry.number == row.entry), found.entries[0])
    decided = _cell(entry, f"to.{row.recipient}")
    stated: dict[str, Any] = next((each for each in entry.body.get("to", ()) if each["id"] == row.recipient), {})
    told = [entry for entry in found.entries if _concerns(found, entry, row.recipient)]
    return {
        **{key: value for key, value in row_object(row).items() if key not in _COMMON},
        "basis": stated.get("basis"),
        "edits": decided.get("edits", []),
        "not_possible": decided.get("not_possible", []),
        "outcomes": [_outcome(entry, row.recipient) for entry in told if entry.kind == "outcome"],
        "evidence": [_evidence(found, entry) for entry in told if entry.kind == "evidence"],
        "notes": [_note(entry, found.revoked) for entry in told if entry.kind == "attested"],
        "pairs": [_pair(entry, found.revoked) for entry in found.pairs if _pairs_with(found, entry, row)],
        "bundles": [_bundle(entry) for entry in told if entry.kind == "handed-out"],
    }


def _concerns(found: Detail, entry: Entry, recipient: int) -> bool:
    if entry.kind == "evidence":
        return found.judged[entry.number].recipient == recipient
    if entry.kind == "outcome":
        return any(recipient in some for some in entry.body["outcomes"].values())
    if entry.kind == "handed-out":
        return recipient in entry.body["recipients"]
    return entry.body.get("recipient") == recipient


def _pairs_with(found: Detail, pair: Entry, row: Row) -> bool:
    """Was it made for this recipient, or does it let something count here?"""
    linked = (row.recipient, pair.number)
    return pair.body["recipient"] == row.recipient or linked in (
        (one.recipient, one.pair) for one in found.judged.values()
    )


def _outcome(entry: Entry, recipient: int) -> dict[str, Any]:
    outcome = next(key for key, some in entry.body["outcomes"].items() if recipient in some)
    return {"entry": entry.number, "at": at_text(entry.at), "outcome": outcome, "reply": entry.cells.get("reply")}


def _evidence(found: Detail, entry: Entry) -> dict[str, Any]:
    report, raw, judged = _cell(entry, "report"), entry.cells.get("raw"), found.judged[entry.number]
    return {
        "entry": entry.number,
        "at": at_text(entry.at),
        "evidence": entry.body["evidence"],
        "value": report.get("value", entry.body["value"]),
        "verdict": entry.body["verdict"],
        "grade": entry.body.get("grade", Grade.CLAIMED.value),
        "alias": bool(entry.body.get("alias")),
        "counts": judged.counts,
        "pair": judged.pair,
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


def _pair(entry: Entry, revoked: dict[int, int]) -> dict[str, Any]:
    return {
        "entry": entry.number,
        "at": at_text(entry.at),
        "message": entry.message,
        "asked": entry.cells.get("asked"),
        "other": entry.cells.get("other"),
        "text": entry.cells.get("note"),
        "actor": entry.cells.get("actor"),
        "revoked_by": revoked.get(entry.number),
    }


def _bundle(entry: Entry) -> dict[str, Any]:
    return {
        "entry": entry.number,
        "at": at_text(entry.at),
        "to": entry.cells.get("to"),
        "purpose": entry.cells.get("purpose"),
        "actor": entry.cells.get("actor"),
        "sha256": entry.body["sha256"],
    }


def unmatched_object(one: Unmatched) -> dict[str, Any]:
    """A piece of evidence that matches nothing, for programs."""
    return {
        "at": at_text(one.at),
        "evidence": one.kind,
        "value": one.value,
        "verdict": one.verdict,
        "by": one.by,
        "about": one.about,
        "message_id": one.message_id,
        "cites": one.cited,
        "carrier": one.carrier,
        "kept_until": at_text(one.expires * 1_000_000),
    }


def lines(found: Detail, zone: tzinfo, marks: str, kaifu: str = "kaifu") -> Iterator[str]:
    """Everything as lines of text, safe to print. ``marks``: ``unicode`` or ``ascii``; ``kaifu``: how the commands begin that it tells."""
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
        yield from _recipient_lines(row, each, zone, marks, kaifu)
    for title, key in (
        ("Cites this message, but confirms nothing", "other_evidence"),
        ("It is evidence of", "is_evidence_of"),
    ):
        if whole[key]:
            yield ""
            yield title
            for one in whole[key]:
                about = f" about message {one['message']}" if one.get("message") else ""
                yield from _evidence_lines(one, zone, f"{kaifu} receipts pair {whole['id']}", about)
    if found.unmatched or (whole["kind"] in REPORTS and not found.carried):
        yield ""
        yield "It is evidence of no message that is known here"
        for apart in found.unmatched:
            yield f"  {unmatched_line(apart)}"


def unmatched_line(one: Unmatched) -> str:
    """A piece of evidence that matches nothing, for people, without its time."""
    value = "" if one.value == one.kind else f": {visible(one.value)}"
    names = f"names <{visible(one.cited)}>" if one.cited else "names no message"
    return f"{_KINDS.get(one.kind, one.kind)}{value} from {visible(one.by)}, {names}"


def _times(row: Row, zone: tzinfo) -> str:
    return f"{local(row.sent_at, zone, seconds=True)} ({getattr(zone, 'key', None) or zone})"


def _angle(message_id: str | None) -> str:
    return f"<{visible(message_id)}>" if message_id else "(no Message-ID recorded)"


def _text(value: object, missing: str = ERASED) -> str:
    return missing if value is None else visible(str(value))


def _recipient_lines(row: Row, each: dict[str, Any], zone: tzinfo, marks: str, kaifu: str) -> Iterator[str]:
    sign, words = marked(row, marks)
    yield f"{_text(row.address)}   {sign} {words}"
    yield f"  {row.direction}; request {row.request} (asked by {row.asked_by}); {row.outcome}"
    yield f"  transport {transport_shown(row.standing)}; handling {each['handling']}"
    if row.confirm is not None:
        yield f"  confirm   only {row.confirm} answers count"
    yield from _answered_lines(row)
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
        yield from _evidence_lines(one, zone, f"{kaifu} receipts pair {row.message}", to=row.address)
    for pair in each["pairs"]:
        yield _pair_line(pair, row.message)
    if each["notes"]:
        yield "  noted by people (no receipts):"
    for note in each["notes"]:
        taken_back = f"   revoked by entry {note['revoked_by']}" if note["revoked_by"] else ""
        yield (
            f"    entry {note['entry']}: confirmed by {note['confirmed_by']} at"
            f" {local(at_value(note['confirmed_at']), zone)}, says {_text(note['actor'])}:"
            f" {_text(note['text'])}{taken_back}"
        )


def _answered_lines(row: Row) -> Iterator[str]:
    """Who answered, when that is not just the mailbox that was asked."""
    counted = [one for one in row.answers if one.counts]
    if row.is_list:
        yield "  a list: several mailboxes stand behind this address, so no answer confirms for all"
    if row.is_list or any(not one.own for one in counted):
        for one in counted:
            yield f"  answered  {_text(name_of(row, one))}: {remark(one)}"


def _pair_line(pair: dict[str, Any], message: int) -> str:
    elsewhere = "" if pair["message"] == message else f" (of message {pair['message']})"
    taken_back = f"   revoked by entry {pair['revoked_by']}" if pair["revoked_by"] else ""
    said = f": {_text(pair['text'])}" if pair["text"] != "" else ""
    return (
        f"  paired by entry {pair['entry']}{elsewhere}: {_text(pair['other'])} answers for {_text(pair['asked'])},"
        f" says {_text(pair['actor'])}{said}{taken_back}"
    )


def _evidence_lines(
    one: dict[str, Any], zone: tzinfo, pair: str, about: str = "", to: str | None = None
) -> Iterator[str]:
    """One piece of evidence. ``pair``: how a command begins that pairs who answered."""
    kind = _KINDS.get(one["evidence"], one["evidence"])
    value = "" if one["value"] == one["evidence"] else f": {_text(one['value'])}"
    remarks = f" ({'; '.join(words)})" if (words := list(_judgement(one))) else ""
    yield f"  {local(at_value(one['at']), zone, seconds=True)}  {kind}{value}{about}{remarks} from {_text(one['by'])}"
    if one["why"]:
        yield f"    {_text(one['why'])}"
    for key, value in one["details"].items():
        yield f"    {_text(key)}: {_text(value)}"
    if one["verdict"] == Verdict.OTHER_ADDRESS and one["by"] and not one["pair"] and not about:
        options = shlex.join(["--to", to or "RECIPIENT", "--with", one["by"]])
        yield f"    if it answers for the recipient: {pair} {visible(options)}"


def _judgement(one: dict[str, Any]) -> Iterator[str]:
    """What is to be said of a piece of evidence, in few words."""
    answer = one["evidence"] in (EvidenceKind.MDN, EvidenceKind.REPLY)
    if answer:
        yield one["grade"]
    if one["pair"]:
        yield f"paired by entry {one['pair']}"
    elif remark := _VERDICTS.get(one["verdict"], one["verdict"]):
        yield remark
    if answer and not one["counts"] and (one["pair"] or one["verdict"] == Verdict.MATCHED):
        yield f"counts only when {Grade.AUTHENTICATED}"
    if one["alias"]:
        yield "from an alias"
    if one["duplicate"]:
        yield "seen before"
