"""One message and one of its recipients, told in paragraphs: state, decision, timeline, the message itself, evidence that belongs to nobody.

Called by the screen of one message. Pure, without Textual: from the facts of :mod:`kaifu.proxy.ledger_timeline`, which are those that ``kaifu receipts
show`` tells, to :class:`kaifu.tui.lines.Told` in the language of the screens. Nothing here is safe to print before :func:`kaifu.tui.lines.laid_out`
has had it. Strangers can send any number of answers of any length: of the timeline the first :data:`MOST_EVENTS` are told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import tzinfo
from typing import Any, NamedTuple

from kaifu.proxy.ledger import EvidenceKind, Verdict
from kaifu.proxy.ledger_desk import Answer, Detail, Row
from kaifu.proxy.ledger_entries import at_value
from kaifu.proxy.ledger_shown import local, name_of
from kaifu.proxy.ledger_states import State
from kaifu.proxy.ledger_timeline import message_object, recipient_object

from .detail_words import (
    ACTIONS,
    ASKED_BY,
    CONFIRMED_BY,
    DETAILS,
    DIRECTIONS,
    DISPOSITIONS,
    HANDLINGS,
    KINDS,
    MODES,
    OUTCOMES,
    REQUESTS,
    TRANSPORTS,
    VERDICTS,
    called,
    edited,
    reasoned,
)
from .lines import Told, shortened, title
from .look import Marks
from .statewords import graded, marked
from .words import later, say

_REPORTS = ("mdn", "dsn")
MOST_EVENTS = 1000
MOST_TEXT = 4000
"""Characters of one text from a report."""
_UNDER = " "
"""In place of a label: what belongs to an event, or to a field, stands under its text."""


class Shown(NamedTuple):
    """How times and marks are shown. ``pairs``: who looks may pair addresses, so that is offered."""

    zone: tzinfo
    marks: Marks
    pairs: bool = False


class Facts(NamedTuple):
    """A recipient of a message, and what :mod:`kaifu.proxy.ledger_timeline` tells of both."""

    found: Detail
    row: Row
    message: dict[str, Any]
    recipient: dict[str, Any]


def facts(found: Detail, row: Row) -> Facts:
    """What is known of a recipient, read off once."""
    return Facts(found, row, message_object(found), recipient_object(found, row))


def told(about: Facts, how: Shown) -> list[Told]:
    """Everything about a recipient of a message."""
    found, row, message, recipient = about
    return [
        *_state(row, recipient, how),
        *title(say("Decision")),
        *_decision(row, recipient),
        *title(say("Timeline")),
        *_timeline(about, how),
        *title(say("Message")),
        *_message(row, message, how),
        *_others(found, message, how),
    ]


def erased(value: object, missing: str = later("(erased)")) -> str:
    """A text of the ledger; what is not there any more is said to be erased."""
    return say(missing) if value is None else str(value)


def _state(row: Row, recipient: dict[str, Any], how: Shown) -> Iterator[Told]:
    sign, words = marked(row, how.marks)
    yield Told(f"{sign} {words}", say("State"), "bold")
    yield Told(erased(row.address), say("Recipient"))
    if row.state in (State.WAITING, State.DELIVERED) and not row.answering:
        yield Told(say("No answer does not mean that it was not read."), _UNDER, "dim")
    asked = called(ASKED_BY, row.asked_by)
    yield Told(f"{called(REQUESTS, row.request)}; {asked}", say("Request"))
    yield Told(f"{called(OUTCOMES, row.outcome)}; {called(DIRECTIONS, row.direction)}", say("Sent on"))
    yield Told(_transport(recipient["transport"], recipient, how), say("Delivery"))
    if not row.is_list:
        yield Told(_handling(recipient, how), say("Answer"))
    if row.confirm is not None:
        yield Told(say("only {grade} answers count", grade=say(row.confirm)), say("Needed"))
    yield from _answered(row)


def _transport(words: str, recipient: dict[str, Any], how: Shown) -> str:
    named = ", ".join(called(TRANSPORTS, word) for word in words.split(", "))
    times = [at for key in ("delivered_at", "failed_at") if (at := recipient[key]) is not None]
    return f"{named} ({', '.join(local(at_value(at), how.zone) for at in times)})" if times else named


def _handling(recipient: dict[str, Any], how: Shown) -> str:
    words = graded(called(HANDLINGS, recipient["handling"]), recipient["grade"])
    at = recipient["replied_at"] or recipient["displayed_at"]
    return words if at is None else f"{words}, {local(at_value(at), how.zone)}"


def _answered(row: Row) -> Iterator[Told]:
    """Who answered, when that is not just the mailbox that was asked."""
    counted = [one for one in row.answers if one.counts]
    if row.is_list:
        yield Told(say("A list: several mailboxes stand behind this address, so no answer confirms for all."), _UNDER)
    if row.is_list or any(not one.own for one in counted):
        for one in counted:
            yield Told(f"{erased(name_of(row, one))}: {_said(one)}", say("Answered"))


def _said(one: Answer) -> str:
    if one.verdict == Verdict.FAILED_AUTHENTICATION:
        return graded(_value(one.kind, one.value), later("failed authentication"))
    return graded(_value(one.kind, one.value), one.grade)


def _decision(row: Row, recipient: dict[str, Any]) -> Iterator[Told]:
    yield Told(row.rule or say("(no rule of the policy)"), say("Rule"))
    yield Told(erased(recipient["reason"]), say("Why"))
    if recipient["would"] is not None:
        yield Told(recipient["would"], say("Would have been"))
    if recipient["basis"] is not None:
        yield Told(recipient["basis"], say("Written basis"))
    for edit in recipient["edits"]:
        yield Told(edited(str(edit)), say("Changed"))
    for words in recipient["not_possible"]:
        yield Told(str(words), say("Not possible"))


class _Event(NamedTuple):
    entry: int
    at: int
    lines: tuple[Told, ...]


def _timeline(about: Facts, how: Shown) -> Iterator[Told]:
    """In order of entries, under the days on which they were written."""
    events = sorted(_events(about, how))
    day = ""
    for event in events[:MOST_EVENTS]:
        date, time = local(event.at, how.zone, seconds=True).split(" ")
        if date != day:
            yield Told(date, style="underline")
            day = date
        first, *more = event.lines
        yield first._replace(label=time)
        yield from more
    if len(events) > MOST_EVENTS:
        yield Told(say("and {n} more; kaifu receipts show has all.", n=f"{len(events) - MOST_EVENTS:,}"))


def _events(about: Facts, how: Shown) -> Iterator[_Event]:
    found, row, message, recipient = about
    for place, one in enumerate(message["attempts"]):
        yield _event(one, _attempt(one, say("tried again") if place else say("recorded")))
    for one in recipient["outcomes"]:
        yield _event(one, (Told(f"{called(OUTCOMES, one['outcome'])}: {_text(one['reply'])}"),))
    for one in recipient["evidence"]:
        yield _event(one, evidence(one, how, row.message))
    revokers = {entry.number: entry for entry in found.entries if entry.kind == "revoked"}
    for some, tell in ((recipient["notes"], _note), (recipient["pairs"], _pair)):
        for one in some:
            yield _event(one, tell(one, how))
            revoker = revokers.get(one["revoked_by"])
            if revoker is not None:
                words = say(
                    "entry {entry} is taken back, says {actor}",
                    entry=one["entry"],
                    actor=erased(revoker.cells.get("actor")),
                )
                yield _Event(revoker.number, revoker.at, (Told(words),))
    for one in recipient["bundles"]:
        yield _event(one, _handed(one))


def _event(one: dict[str, Any], lines: Iterable[Told]) -> _Event:
    return _Event(one["entry"], at_value(one["at"]), tuple(lines))


def _attempt(one: dict[str, Any], what: str) -> Iterator[Told]:
    ids = ", ".join(str(one[key]) for key in ("queue_id", "mta_queue_id") if one[key])
    yield Told(say("{what}, queue id {ids}", what=what, ids=ids) if ids else what)


def evidence(one: dict[str, Any], how: Shown, message: int) -> Iterator[Told]:
    """A piece of evidence: what it says, from whom, and how it was judged."""
    what = called(KINDS, one["evidence"])
    value = "" if one["value"] == one["evidence"] else f": {_value(one['evidence'], one['value'])}"
    style = {True: "", False: "dim"}[bool(one["counts"])]
    yield Told(say("{what} from {who}", what=f"{what}{value}", who=erased(one["by"])), style=style)
    if judged := "; ".join(_judgement(one)):
        yield Told(judged, _UNDER, "bold" if one["counts"] else "", 2)
    if one["why"]:
        yield Told(_text(reasoned(one["why"])), _UNDER, deep=2)
    for key, words in one["details"].items():
        yield Told(f"{shortened(called(DETAILS, key), 100)}: {_text(words)}", _UNDER, "dim", 2)
    if how.pairs and is_open(one):
        yield Told(say("If this address answers for the recipient, pair the two (a)."), _UNDER, deep=2)
    yield Told(_source(one, message), _UNDER, "dim", 2)


def is_open(one: dict[str, Any]) -> bool:
    """True for an answer of another address that nobody has paired."""
    return bool(one["verdict"] == Verdict.OTHER_ADDRESS and one["by"] and not one["pair"])


def _source(one: dict[str, Any], message: int) -> str:
    """Where it stands on record."""
    parts = [say("entry {entry}", entry=one["entry"])]
    if one["carrier"] is not None and one["carrier"] != message:
        parts.append(say("brought by message {number}", number=one["carrier"]))
    if one["tie"]:
        parts.append(say("tied by {field}", field=one["tie"]))
    if one["raw"] is not None:
        parts.append(say("the report is kept (v)"))
    return "; ".join(parts)


def _judgement(one: dict[str, Any]) -> Iterator[str]:
    """How far it is believed, and whether it counts."""
    answer = one["evidence"] in (EvidenceKind.MDN, EvidenceKind.REPLY)
    if answer:
        yield say(one["grade"])
    if one["pair"]:
        yield say("paired by entry {entry}", entry=one["pair"])
    elif remark := called(VERDICTS, one["verdict"]):
        yield remark
    if answer and not one["counts"] and (one["pair"] or one["verdict"] == Verdict.MATCHED):
        yield say("counts only when {grade}", grade=say("authenticated"))
    if one["alias"]:
        yield say("from a known alias")
    if one["duplicate"]:
        yield say("seen before")


def _value(kind: str, value: object) -> str:
    if kind == EvidenceKind.MDN:
        return called(DISPOSITIONS, value)
    if kind == EvidenceKind.REPLY:
        return say("replied")
    return called(ACTIONS, value) if kind == EvidenceKind.DSN else str(value)


def _note(one: dict[str, Any], how: Shown) -> Iterator[Told]:
    yield Told(
        say(
            "noted: confirmed {how} at {at}, says {actor}",
            how=called(CONFIRMED_BY, one["confirmed_by"]),
            at=local(at_value(one["confirmed_at"]), how.zone),
            actor=erased(one["actor"]),
        )
    )
    if one["text"] != "":
        yield Told(_text(one["text"]), _UNDER, deep=2)
    yield Told(_standing(one, say("a note of a person, no receipt")), _UNDER, "dim", 2)


def _pair(one: dict[str, Any], _: Shown) -> Iterator[Told]:
    asked, other, actor = (erased(one[key]) for key in ("asked", "other", "actor"))
    yield Told(say("paired: {other} answers for {asked}, says {actor}", other=other, asked=asked, actor=actor))
    if one["text"] != "":
        yield Told(_text(one["text"]), _UNDER, deep=2)
    yield Told(_standing(one, say("made at message {number}", number=one["message"])), _UNDER, "dim", 2)


def _standing(one: dict[str, Any], more: str) -> str:
    parts = [say("entry {entry}", entry=one["entry"]), more]
    if one["revoked_by"]:
        parts.append(say("taken back by entry {entry}", entry=one["revoked_by"]))
    return "; ".join(parts)


def _handed(one: dict[str, Any]) -> Iterator[Told]:
    words = say("evidence bundle handed to {to} by {actor}", to=erased(one["to"]), actor=erased(one["actor"]))
    yield Told(words)
    yield Told(erased(one["purpose"]), _UNDER, "dim", 2)
    yield Told(f"SHA-256 {one['sha256']}", "", "dim", 2)  # from the edge, so that 80 columns show it in one piece


def _message(row: Row, message: dict[str, Any], how: Shown) -> Iterator[Told]:
    zone = getattr(how.zone, "key", None) or how.zone
    number = f"{message['id']} ({called(KINDS, message['kind'])})"
    yield Told(number, say("Number"))
    yield Told(erased(message["from"]), say("From"))
    yield Told(erased(message["subject"], later("(not recorded)")), say("Subject"))
    yield Told(f"{local(row.sent_at, how.zone, seconds=True)} ({zone})", say("Sent"))
    yield Told(local(row.at, how.zone, seconds=True), say("Came through"))
    yield Told(angle(message["message_id"]), say("Message-ID"))
    for one in [one for one in message["attempts"] if one["policy"]][-1:]:
        yield Told(_policy(one, how), say("Policy"))
    for one in [one for one in message["attempts"] if one["envid"]][-1:]:
        yield Told(str(one["envid"]), say("Envelope id"))


def _policy(one: dict[str, Any], how: Shown) -> str:
    words = str(one["policy"])[:12]
    if one["policy_entry"]:
        since = local(at_value(one["policy_since"]), how.zone)
        mode = called(MODES, one["policy_mode"])
        words = say(
            "{digest}, {mode}, on record since {at} (entry {entry})",
            digest=words,
            mode=mode,
            at=since,
            entry=one["policy_entry"],
        )
    return words


def angle(message_id: str | None) -> str:
    """A Message-ID as it stands in a header."""
    return f"<{message_id}>" if message_id else say("(no Message-ID recorded)")


def _others(found: Detail, message: dict[str, Any], how: Shown) -> Iterator[Told]:
    """What the message brought, and what cites it without being of any of its recipients."""
    for words, key in (
        (later("Cites this message, but confirms nothing"), "other_evidence"),
        (later("It is evidence of"), "is_evidence_of"),
    ):
        if message[key]:
            yield from title(say(words))
        for one in message[key][:MOST_EVENTS]:
            pairs = how.pairs and key == "other_evidence"
            first, *more = evidence(one, how._replace(pairs=pairs), message["id"])
            yield Told(f"{local(at_value(one['at']), how.zone)}  {first.text}", style=first.style)
            if one.get("message"):
                yield Told(say("about message {number}", number=one["message"]), deep=4)
            for each in more:
                yield each._replace(label="", deep=4)
    if found.unmatched or (message["kind"] in _REPORTS and not found.carried):
        yield from title(say("It is evidence of no message that is known here"))
        for apart in found.unmatched:
            yield Told(unmatched(apart.kind, apart.value, apart.by, apart.cited))


def unmatched(kind: str, value: str, by: str, cited: str | None) -> str:
    """A piece of evidence that matches nothing, without its time."""
    what = called(KINDS, kind) + ("" if value == kind else f": {_value(kind, value)}")
    named = say("it names {id}", id=angle(cited)) if cited else say("it names no message")
    return f"{say('{what} from {who}', what=what, who=by)}; {named}"


def _text(value: object) -> str:
    return shortened(erased(value), MOST_TEXT)
