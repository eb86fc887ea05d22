"""Reasons: a decision as one English sentence, the same in log, ledger, command line and screens.

It names the rule and its line, or the defaults, or the built-in that decided, says what happens, and tells of every
rail that overrode an action. Pure; never raises.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from kaifu.policies.decision import Confirm, Decision, DeliveryReport, Rail, Receipt, Record, Request, Source, Suppress
from kaifu.policies.facts import Direction, Facts, Kind

# What each value does, after "it …"; and what was wanted, after "it would …".
_DOES: Final[dict[str, dict[str, str]]] = {
    "request": {
        Request.ADD: "asks for a read receipt",
        Request.KEEP: "leaves receipt requests as they are",
        Request.STRIP: "removes receipt requests",
    },
    "delivery_report": {
        DeliveryReport.ADD: "asks for a delivery report",
        DeliveryReport.KEEP: "leaves the request for delivery reports as it is",
        DeliveryReport.STRIP: "removes the request for a delivery report",
    },
    "receipt": {
        Receipt.DELIVER: "delivers the {report}",
        Receipt.WITHHOLD: "records the {report} and withholds it",
        Receipt.REJECT: "rejects the {report}",
    },
    "record": {
        Record.FULL: "keeps a full record",
        Record.NO_SUBJECT: "keeps a record without the subject",
        Record.NONE: "keeps no record",
    },
    "confirm": {
        Confirm.CLAIMED: "takes answers as they claim to be",
        Confirm.AUTHENTICATED: "takes only authenticated answers for confirmations",
    },
    "suppress": {
        Suppress.READ: "forbids automatic read receipts",
        Suppress.NOT_READ: "forbids automatic not-read notices",
        Suppress.BOTH: "forbids automatic read receipts and not-read notices",
    },
}
_WOULD: Final[dict[str, dict[str, str]]] = {
    "request": {Request.ADD: "ask for a read receipt"},
    "delivery_report": {DeliveryReport.ADD: "ask for a delivery report"},
    "receipt": {Receipt.WITHHOLD: "withhold the {report}", Receipt.REJECT: "reject the {report}"},
}
_REPORT: Final = {Kind.MAIL: "receipt", Kind.MDN: "receipt", Kind.DSN: "delivery report"}


def sentence(decision: Decision, facts: Facts) -> str:
    """Which rule made a decision and why, in one sentence with a full stop."""
    message = facts.message
    return _sentence(decision, _REPORT[message.kind], facts.direction, bool(message.requests))


@lru_cache(maxsize=512)  # A policy says few different things, and for each message of one rule the same.
def _sentence(decision: Decision, report: str, direction: Direction, requested: bool) -> str:
    sources = dict(decision.sources)
    clauses = [
        _clause(_subject(decision), decision, report, requested, [k for k, s in sources.items() if s is Source.RULE]),
        _clause(
            f"the default for {direction} mail",
            decision,
            report,
            requested,
            [k for k, s in sources.items() if s is Source.DEFAULTS],
        ),
        _built_in(decision, sources, report),
    ]
    said = "; ".join(c for c in clauses if c)
    if decision.rule is None:
        said = f"no rule holds; {said}" if said else "no rule holds, so nothing is changed"
    elif not said:
        said = f"{_subject(decision)} changes nothing"
    if not decision.enforced:
        said = f"observing only, mail is not changed: {said}"
    return said[0].upper() + said[1:] + "."


def _subject(decision: Decision) -> str:
    return f'rule "{decision.rule}"' + (f" (line {decision.line})" if decision.line is not None else "")


def _clause(who: str, decision: Decision, report: str, requested: bool, keys: Iterable[str]) -> str:
    """What one source of a decision does and would have done; empty when it names nothing."""
    keys = set(keys)
    rails = {rail.key: rail for rail in decision.rails if rail.key in keys}
    does = [
        text for key in _ORDER if key in keys and key not in rails and (text := _does(key, decision, report, requested))
    ]
    clause = f"{who} {_listed(does)}" if does else ""
    would = " and would ".join(_would(rail, report) for rail in rails.values())
    return f"{clause}{', but' if clause else who} would {would}" if would else clause


_ORDER: Final = ("request", "delivery_report", "receipt", "suppress", "record", "confirm", "retain", "basis")


def _does(key: str, decision: Decision, report: str, requested: bool) -> str:
    if key == "retain":
        return f"keeps the record for {decision.retain_days} days"
    if key == "basis":
        return f'states as its basis "{decision.basis}"'
    if key == "record" and decision.record is Record.NONE and decision.receipt is not Receipt.DELIVER:
        return "keeps no more on record than that"
    text = _DOES[key][getattr(decision, key)].format(report=report)
    if key == "request" and decision.request is Request.ADD and decision.notify is not None:
        text += f" to be sent to {decision.notify}"
    if key == "request" and decision.request is Request.STRIP and not requested:
        text += " (there is none)"
    return text


def _would(rail: Rail, report: str) -> str:
    wanted = _WOULD.get(rail.key, {}).get(rail.wanted, f"set {rail.key} to {rail.wanted}").format(report=report)
    return f"{wanted}, which is not done because {rail.why}"


def _built_in(decision: Decision, sources: dict[str, Source], report: str) -> str:
    """The built-in says something only about receipts that nobody but the policy asked for."""
    if sources.get("receipt") is not Source.BUILT_IN:
        return ""
    asked = f"only the policy had asked for this {report}"
    for rail in decision.rails:
        if rail.key == "receipt":
            return f"{asked}, but it is delivered because {rail.why}"
    return f"{asked}, so it is recorded and withheld" if decision.receipt is Receipt.WITHHOLD else ""


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
