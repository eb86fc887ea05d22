"""The words of the policy language: every key, what it means, and what a JSON Schema can say about its value.

The loader takes its known keys from here and the schema its text, so that neither can know a word that the other does
not. Data only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from kaifu.policies.decision import Confirm, DeliveryReport, Receipt, Record, Request, Suppress
from kaifu.policies.facts import AskedBy, Consent, Direction, Kind

VERSION: Final = 1


class Mode(StrEnum):
    """``mode:`` act on decisions, or only record them."""

    ENFORCE = "enforce"
    OBSERVE = "observe"


class Importance(StrEnum):
    """How important the sender says a message is."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


SENSITIVITIES: Final = ("personal", "private", "company-confidential")
WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

WEEKDAYS_FORM: Final = r"^(mon|tue|wed|thu|fri|sat|sun)(-(mon|tue|wed|thu|fri|sat|sun))?$"
HOURS_FORM: Final = r"^([01]?[0-9]|2[0-4]):[0-5][0-9]-([01]?[0-9]|2[0-4]):[0-5][0-9]$"
_COMPARISON: Final = r"[<>]=? *[0-9]{1,12}(\.[0-9]{1,6})? *([kKmMgG][iI]?)?[bB]"
SIZE_FORM: Final = rf"^ *{_COMPARISON}( +{_COMPARISON})* *$"
RETAIN_FORM: Final = r"^[1-9][0-9]{0,4}[dwmy]$"
GROUP_FORM: Final = r"^[^\s,:]+$"
HEADER_FORM: Final = r"^[!-9;-~]+$"


@dataclass(frozen=True, slots=True)
class Key:
    """One key: a line for people and the JSON Schema of its value."""

    about: str
    schema: Mapping[str, Any]


def words(choices: type[StrEnum]) -> dict[str, Any]:
    """The schema of one word of a closed set."""
    return {"enum": [str(c) for c in choices]}


def any_of(item: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of a value or a list of values."""
    return {"anyOf": [item, {"type": "array", "minItems": 1, "items": item}]}


TEXT: Final[Mapping[str, Any]] = {"type": "string", "minLength": 1}
# A scalar that looks like a number or a truth value is text to the loader all the same.
SCALAR: Final[Mapping[str, Any]] = {"anyOf": [TEXT, {"type": "number"}, {"type": "boolean"}]}
HEADER: Final[Mapping[str, Any]] = {
    "anyOf": [{"type": "string", "pattern": HEADER_FORM}, {"type": "number"}, {"type": "boolean"}]
}
SOURCE: Final[Mapping[str, Any]] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["header"],
    "properties": {"header": HEADER, "has": SCALAR, "is": SCALAR, "pattern": SCALAR},
    "oneOf": [{"required": ["has"]}, {"required": ["is"]}, {"required": ["pattern"]}],
}
TIME: Final[Mapping[str, Any]] = {
    "type": "object",
    "additionalProperties": False,
    "minProperties": 1,
    "anyOf": [{"required": ["weekdays"]}, {"required": ["hours"]}],
    "properties": {
        "weekdays": any_of({"type": "string", "pattern": WEEKDAYS_FORM}),
        "hours": any_of({"type": "string", "pattern": HOURS_FORM}),
        "zone": TEXT,
    },
}

WHEN: Final[Mapping[str, Key]] = {
    "kind": Key(
        "what the message is; a receipt (mdn), a delivery status (dsn) or anything else (mail)", any_of(words(Kind))
    ),
    "direction": Key("which way it travels, seen from the realm", any_of(words(Direction))),
    "from": Key("the sender: address, @domain, @.domain, glob, <>, group:name, not …", any_of(TEXT)),
    "to": Key("the recipient: address, @domain, @.domain, glob, group:name, not …", any_of(TEXT)),
    "subject": Key("a pattern over the decoded subject", any_of(SCALAR)),
    "header": Key(
        "patterns over header fields, by field name",
        {
            "type": "object",
            "minProperties": 1,
            "propertyNames": {"pattern": HEADER_FORM},
            "additionalProperties": any_of(SCALAR),
        },
    ),
    "sensitivity": Key(
        "personal, private, company-confidential, or a name from the top-level sensitivity", any_of(SCALAR)
    ),
    "importance": Key("what Importance, X-Priority, Priority or X-MSMail-Priority say", any_of(words(Importance))),
    "consent": Key("what the recipient has said about being asked for receipts", any_of(words(Consent))),
    "requested": Key("whether the client asked for a read receipt", {"type": "boolean"}),
    "asked_by": Key("who asked for the receipt that this report answers (mdn and dsn only)", any_of(words(AskedBy))),
    "size": Key('octets of the whole message, for example ">5MB"', any_of({"type": "string", "pattern": SIZE_FORM})),
    "time": Key("weekdays, hours and zone", any_of(TIME)),
}

THEN: Final[Mapping[str, Key]] = {
    "request": Key("what happens to read-receipt requests", words(Request)),
    "notify": Key("where an added request points: sender, or an address", TEXT),
    "delivery_report": Key("what happens to the request for a delivery report", words(DeliveryReport)),
    "receipt": Key("what happens to a receipt or delivery report on its way", words(Receipt)),
    "record": Key("how much the ledger keeps", words(Record)),
    "confirm": Key(
        "which answers confirm: all that claim to be the recipient's, or only authenticated ones", words(Confirm)
    ),
    "retain": Key("how long the ledger keeps it: 90d, 2w, 6m, 7y", {"type": "string", "pattern": RETAIN_FORM}),
    "basis": Key("the written basis for asking somebody who has refused; recorded", SCALAR),
    "suppress": Key("which automatic receipts X-Auto-Response-Suppress forbids", words(Suppress)),
}

# A basis is for one purpose, so it belongs to a rule and not to everything that no rule names.
DEFAULTS: Final[Mapping[str, Key]] = {name: key for name, key in THEN.items() if name != "basis"}


def mapping(keys: Mapping[str, Key], required: tuple[str, ...] = ()) -> dict[str, Any]:
    """The schema of a mapping with exactly these keys."""
    properties = {name: {"description": key.about, **key.schema} for name, key in keys.items()}
    schema: dict[str, Any] = {"type": "object", "additionalProperties": False, "properties": properties}
    return schema | ({"required": list(required)} if required else {})


RULE: Final[Mapping[str, Key]] = {
    "name": Key("what logs, ledger and screens call this rule; unique", SCALAR),
    "when": Key("the conditions, all of which must hold; without any the rule always holds", mapping(WHEN)),
    "then": Key("what happens; keys that are not named come from the defaults", mapping(THEN)),
}

TOP: Final[Mapping[str, Key]] = {
    "version": Key("the version of the policy language", {"const": VERSION}),
    "mode": Key("enforce, or observe: decide and record, change and withhold nothing", words(Mode)),
    "groups": Key(
        "names for lists of addresses, used as group:name",
        {
            "type": "object",
            "propertyNames": {"pattern": GROUP_FORM},
            "additionalProperties": {"anyOf": [TEXT, {"type": "array", "items": TEXT}]},
        },
    ),
    "sensitivity": Key(
        "further names and sources of sensitivity",
        {"type": "object", "propertyNames": {"pattern": GROUP_FORM}, "additionalProperties": any_of(SOURCE)},
    ),
    "request_headers": Key("further header fields that count as a request for a read receipt", any_of(HEADER)),
    "defaults": Key(
        "what happens when no rule names a key, by direction",
        mapping({str(d): Key(f"for {d} mail", mapping(DEFAULTS)) for d in Direction}),
    ),
    "rules": Key(
        "tried in order; the first that holds decides", {"type": "array", "items": mapping(RULE, ("name", "then"))}
    ),
}
