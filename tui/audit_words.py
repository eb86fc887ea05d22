"""Who did what, in words: the acts of the audit trail for people. Pure, without Textual.

Called by the screen Integrity. An act is told in one line (:func:`told_act`), and in full (:func:`act_in_full`) with all that its entry says.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import tzinfo
from typing import Any

from kaifu.proxy.ledger_desk import Act
from kaifu.proxy.ledger_shown import local

from .detail_words import called
from .lines import Told, shortened
from .words import later, say

WHAT = {
    "list": later("looked at a list"),
    "show": later("looked at a message"),
    "export": later("exported"),
    "unmatched": later("looked at unmatched receipts"),
    "audit": later("looked at the audit trail"),
    "explain": later("asked what the policy would do"),
    "note": later("noted a confirmation"),
    "revoke": later("took back a note or a pairing"),
    "pair": later("paired addresses"),
    "consent": later("recorded a consent"),
    "bundle": later("handed out an evidence bundle"),
    "erasure": later("erased personal data"),
    "hold": later("put messages on hold"),
    "release": later("released a hold"),
    "anchor": later("sent an anchor"),
    "policy": later("a policy came into force"),
    "refused": later("was refused"),
}
"""What was done, by the word of the act."""

FIELDS = {
    "filter": later("filter"),
    "newest": later("newest answers"),
    "consent_of": later("consent of"),
    "message_ids": later("originals"),
    "envids": later("envelopes"),
    "since": later("since"),
    "until": later("until"),
    "person": later("person"),
    "sender": later("from"),
    "states": later("state"),
    "rule": later("rule"),
    "directions": later("direction"),
    "kinds": later("kind"),
    "outcomes": later("outcome"),
    "requests": later("request"),
    "grades": later("grade"),
    "message_id": later("Message-ID"),
    "subject": later("subject"),
    "actor": later("who"),
    "message": later("message"),
    "text": later("text"),
    "note": later("text"),
    "reason": later("reason"),
    "recipient": later("recipient no."),
    "recipients": later("recipients no."),
    "entry": later("entry taken back"),
    "hold": later("hold released"),
    "value": later("value"),
    "seen_at": later("confirmed at"),
    "asked": later("asked"),
    "other": later("answers for it"),
    "to": later("to"),
    "purpose": later("purpose"),
    "what": later("what"),
    "needs": later("role needed"),
    "digest": later("digest"),
    "mode": later("mode"),
    "batch": later("batch"),
    "ground": later("ground"),
    "entries": later("entries"),
    "names": later("cells"),
    "messages": later("messages"),
    "evidence": later("evidence counted"),
}
"""What else entries say, by their own words for it."""

_FIRST = ("what", "filter", "value", "note", "text", "reason", "other", "asked", "person", "to", "purpose")
"""What of an act is told first, where a line ends soon."""
_BY_ITSELF = ("what", "value", "note", "text", "reason")
"""What needs no word before it there."""
_MOST_IN_A_LINE = 300
_MOST_TEXT = 20_000


def told_act(act: Act) -> str:
    """What was done, about what: one line, not yet made visible."""
    about = [] if act.message is None else [say("message {number}", number=act.message)]
    left_out = {"digest", "sha256", "evidence", "recipient", "recipients"} | (
        {"text"} if act.what == "policy" else set()
    )
    keys = sorted((key for key in act.details if key not in left_out), key=_place)
    details = {key: act.details[key] for key in keys}
    words = list(_words(details))
    if act.what in ("list", "export") and not words:
        words.append(say("all"))
    return "; ".join((called(WHAT, act.what), *about, *words))


def _place(key: str) -> int:
    return _FIRST.index(key) if key in _FIRST else len(_FIRST)


def _words(details: dict[str, Any]) -> Iterator[str]:
    for key, value in details.items():
        if isinstance(value, dict):
            yield from _words(value)
        elif value not in (None, "", []):
            words = shortened(_value(value), _MOST_IN_A_LINE)
            yield words if key in _BY_ITSELF else f"{called(FIELDS, key)} {words}"


def _value(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def actor(act: Act) -> str:
    """Who did it; nobody, or somebody whose name was erased."""
    return "-" if act.actor is None else act.actor


def act_in_full(act: Act, zone: tzinfo) -> Iterator[Told]:
    """All that an act says."""
    yield Told(called(WHAT, act.what), say("Act"), "bold")
    yield Told(actor(act), say("Who"))
    yield Told(local(act.at, zone, seconds=True), say("When"))
    yield Told(str(act.entry), say("Entry"))
    if act.message is not None:
        yield Told(str(act.message), say("Message"))
    yield from _in_full(act.details)


def _in_full(details: dict[str, Any]) -> Iterator[Told]:
    for key, value in details.items():
        label = called(FIELDS, key)
        if isinstance(value, dict):
            yield Told(label)
            yield from (told._replace(deep=told.deep + 2) for told in _in_full(value))
            continue
        first, *more = shortened(_value(value), _MOST_TEXT).split("\n")
        yield Told(first, label)
        for line in more:
            yield Told(line, " ")
