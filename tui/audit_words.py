"""Who did what, in words: the acts of the audit trail for people. Pure, without Textual.

Called by the screen Integrity. An act is told in one line (:func:`told_act`), and in full (:func:`act_in_full`) with all that its entry says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import tzinfo
from typing import Any

from kaifu.proxy.access import Role
from kaifu.proxy.ledger_desk import Act
from kaifu.proxy.ledger_entries import at_value
from kaifu.proxy.ledger_shown import local

from .detail_words import CONFIRMED_BY, DIRECTIONS, KINDS, MODES, OUTCOMES, PLACES, REQUESTS, called
from .filterwords import MEANINGS
from .integrity_words import GROUNDS
from .lines import Told, shortened
from .words import later, say, say_many

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

_WORDS: dict[str, Mapping[str, str]] = {
    "what": WHAT,
    "states": MEANINGS["state"],
    "grades": MEANINGS["grade"],
    "kinds": KINDS,
    "directions": DIRECTIONS,
    "requests": REQUESTS,
    "outcomes": OUTCOMES,
    "needs": {role.word: role.word for role in Role},
    "mode": MODES,
    "ground": GROUNDS,
}
"""What values are called; one that is not there is told as it is."""
_OF_ACTS: dict[tuple[str, str], Mapping[str, str]] = {
    ("note", "value"): CONFIRMED_BY,
    ("consent", "value"): {
        "granted": later("granted"),
        "informed": later("informed"),
        "denied": later("denied"),
    },
    ("anchor", "to"): PLACES,
}
"""Likewise, of the entries of one kind of act alone."""
_TIMES = ("since", "until", "seen_at")
_FIRST = ("what", "filter", "note", "text", "reason", "value", "other", "asked", "person", "to", "purpose")
"""What of an act is told first, where a line ends soon."""
_BY_ITSELF = ("what", "value", "note", "text", "reason")
"""What needs no word before it there."""
_MOST_IN_A_LINE = 300
_MOST_TEXT = 20_000


def told_act(act: Act, zone: tzinfo) -> str:
    """What was done, about what: one line, not yet made visible."""
    about = [] if act.message is None else [say("message {number}", number=act.message)]
    left_out = {"digest", "sha256", "evidence", "recipient", "recipients"} | (
        {"text"} if act.what == "policy" else set()
    )
    keys = sorted((key for key in act.details if key not in left_out), key=_place)
    details = {key: act.details[key] for key in keys}
    words = list(_words(act.what, details, zone))
    if act.what in ("list", "export") and not words:
        words.append(say("all"))
    return "; ".join((called(WHAT, act.what), *about, *words))


def _place(key: str) -> int:
    return _FIRST.index(key) if key in _FIRST else len(_FIRST)


def _words(what: str, details: dict[str, Any], zone: tzinfo) -> Iterator[str]:
    for key, value in details.items():
        if isinstance(value, dict):
            yield from _words(what, value, zone)
        elif what == "list" and key == "newest" and isinstance(value, int):
            yield say_many("the newest answer", "the newest {n} answers", value)
        elif value not in (None, "", []):
            words = shortened(_value(what, key, value, zone), _MOST_IN_A_LINE)
            yield words if key in _BY_ITSELF else f"{called(FIELDS, key)}: {words}"


def _value(what: str, key: str, value: object, zone: tzinfo) -> str:
    """What is kept as words of the ledger, in those of the screens; times in the zone."""
    known = _OF_ACTS.get((what, key), _WORDS.get(key, {}))
    if isinstance(value, list):
        return (" / " if known else ", ").join(_range(each) or called(known, each) for each in value)
    return _time(str(value), zone) if key in _TIMES else called(known, value)


def _range(value: object) -> str:
    """Of numbers of entries, as an erasure keeps them."""
    return "-".join(map(str, value)) if isinstance(value, list) else ""


def _time(text: str, zone: tzinfo) -> str:
    try:
        return local(at_value(text), zone)
    except (ValueError, TypeError, OverflowError):
        return text


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
    yield from _in_full(act.what, act.details, zone)


def _in_full(what: str, details: dict[str, Any], zone: tzinfo) -> Iterator[Told]:
    for key, value in details.items():
        label = say("how") if (what, key) == ("note", "value") else called(FIELDS, key)
        if isinstance(value, dict):
            yield Told(label)
            yield from (told._replace(deep=told.deep + 2) for told in _in_full(what, value, zone))
            continue
        first, *more = shortened(_value(what, key, value, zone), _MOST_TEXT).split("\n")
        yield Told(first, label)
        for line in more:
            yield Told(line, " ")
