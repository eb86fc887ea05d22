"""Lint: what is allowed in a policy and almost certainly not meant.

Who calls it: ``kaifu policy check``, ``kaifu config check``, the screens. It warns of rules that are never
reached or never hold, names that nothing uses, actions that a rail overrides, and patterns that match nothing. It says
only what it can prove from the file, so a policy without warnings may still hold surprises. Pure; never raises.
"""

from __future__ import annotations

from collections.abc import Iterator

from kaifu.policies.addresses import Addresses, AddressList
from kaifu.policies.decision import DeliveryReport, Receipt, Record, Request, Suppress
from kaifu.policies.document import Problem, in_order
from kaifu.policies.facts import Consent, Direction, Kind
from kaifu.policies.rules import REPORTS, Condition, Policy, Rule, Then

_NULL_ONLY = Addresses(null=True)
_STRANGERS = frozenset((Direction.INBOUND, Direction.TRANSIT))
# Every rule is compared with so many before it at most, so that a generated policy does not take minutes.
_COMPARED = 500
_LIST_PRECEDENCE = frozenset(("list", "bulk", "junk"))


def lint(policy: Policy) -> list[Problem]:
    """Warnings about a policy, in the order of its file."""
    found = [*_names(policy), *_defaults(policy), *_reach(policy.rules)]
    for rule in policy.rules:
        found.extend(_conditions(rule))
        found.extend(_against_rails(rule))
        found.extend(_pointless(rule.then))
        adds = any(rule.on_mail[d].request is Request.ADD for d in rule.directions)
        if rule.then.notify is not None and not adds:
            found.append((rule.then.places["notify"], "notify has no effect where no request is added"))
        if rule.then.confirm is not None and Kind.MAIL not in rule.kinds:
            found.append((rule.then.places["confirm"], "confirm belongs to the rule for the mail that is answered"))
    return list(in_order(Problem(policy.file, *place, message, None, "warning") for place, message in found))


Finding = tuple[tuple[int, int], str]


def _names(policy: Policy) -> Iterator[Finding]:
    for group in policy.groups:
        if f"group:{group.name}" in policy.unused:
            yield group.place, f'no rule uses the group "{group.name}"'
        if group.members == 0:
            yield group.place, f'the group "{group.name}" is empty and matches nobody'
    for sensitivity in policy.sensitivities:
        if f"sensitivity:{sensitivity.name}" in policy.unused:
            yield sensitivity.place, f'no rule uses the sensitivity "{sensitivity.name}"'


def _defaults(policy: Policy) -> Iterator[Finding]:
    for direction, then in policy.defaults.items():
        if direction in _STRANGERS:
            for key in ("request", "delivery_report"):
                if getattr(then, key) in (Request.ADD, DeliveryReport.ADD):
                    yield then.places[key], f"{direction} mail never comes from one of ours, so nothing is added"
        yield from _pointless(then)


# --- rules that are never reached --------------------------------------------------------------------------------


def _reach(rules: tuple[Rule, ...]) -> Iterator[Finding]:
    caught: dict[tuple[Kind, Direction], Rule] = {}
    above = [(rule, _keyed(rule)) for rule in rules[:_COMPARED]]
    for index, rule in enumerate(rules):
        place = rule.line, rule.column
        pairs = [(k, d) for k in rule.kinds for d in rule.directions]
        if not pairs:
            missing = "" if any(c.key == "kind" for c in rule.when) else "; name kind or receipt"
            yield place, f'rule "{rule.name}" never holds: asked_by is about mdn and dsn{missing}'
            continue
        given = _keyed(rule)
        wider = next((r for r, wanted in above[:index] if _covers(r, wanted, rule, given)), None)
        if wider is not None:
            yield place, f'rule "{rule.name}" is never reached: rule "{wider.name}" (line {wider.line}) holds first'
        elif all(pair in caught for pair in pairs):
            lines = ", ".join(str(n) for n in sorted({caught[pair].line for pair in pairs}))
            yield place, f'rule "{rule.name}" is never reached: the rules in lines {lines} hold first'
        if not rule.tests:
            for pair in pairs:
                caught.setdefault(pair, rule)


Keyed = dict[str, Condition]


def _keyed(rule: Rule) -> Keyed:
    """The conditions of a rule beside ``kind`` and ``direction``, by key; names of fields in lower case."""
    return {c.key.lower(): c for c in rule.when if c.key not in ("kind", "direction")}


def _covers(wide: Rule, wanted: Keyed, narrow: Rule, given: Keyed) -> bool:
    """True when ``wide`` provably holds wherever ``narrow`` does."""
    if not (wanted.keys() <= given.keys() and narrow.kinds <= wide.kinds and narrow.directions <= wide.directions):
        return False
    return all(_implies(given[key], condition) for key, condition in wanted.items())


def _implies(narrow: Condition, wide: Condition) -> bool:
    if isinstance(narrow.meaning, AddressList) and isinstance(wide.meaning, AddressList):
        return wide.meaning.covers(narrow.meaning)
    if isinstance(narrow.meaning, frozenset) and isinstance(wide.meaning, frozenset):
        return ("*" in wide.meaning and wide.key == "subject") or narrow.meaning <= wide.meaning
    return False


# --- conditions that match nothing, or more than they seem to -----------------------------------------------------


def _conditions(rule: Rule) -> Iterator[Finding]:
    for condition in rule.when:
        if isinstance(condition.meaning, AddressList):
            yield from _address_list(condition, condition.meaning)
        elif condition.key == "subject" or condition.key.startswith("header "):
            for text in sorted(condition.meaning):
                if text.startswith("not "):
                    yield condition.place, f'{condition.key}: "not" is for addresses; this pattern begins with the word'


def _address_list(condition: Condition, listed: AddressList) -> Iterator[Finding]:
    if listed.some is not None and not listed.some:
        yield condition.place, f"{condition.key} names only empty groups and matches nobody"
    elif listed.impossible:
        whom = "" if listed.some is None else " whom it names"
        yield condition.place, f"{condition.key} excludes everybody{whom} and matches nobody"
    elif condition.key == "to" and listed.some == _NULL_ONLY:
        yield condition.place, "to names only the null reverse-path and matches nobody: no recipient is null"
    globs = listed.none.globs | (listed.some.globs if listed.some else frozenset())
    for glob in sorted(globs):
        if "@" not in glob and glob != "*":
            message = f'{condition.key}: the glob "{glob}" has no @, so it is compared with the whole address; '
            yield condition.place, message + "for a domain and all below it write @.domain"


# --- actions that do nothing --------------------------------------------------------------------------------------


def _against_rails(rule: Rule) -> Iterator[Finding]:
    then = rule.then
    for key, why in _never_added(rule).items():
        if getattr(then, key) in (Request.ADD, DeliveryReport.ADD):
            yield then.places[key], f'rule "{rule.name}" adds nothing: {why}'
    if then.receipt in (Receipt.WITHHOLD, Receipt.REJECT):
        if not rule.kinds & REPORTS:
            yield then.places["receipt"], f'rule "{rule.name}" never holds for a receipt (kind mdn or dsn)'
        elif then.record is Record.NONE:
            yield (
                then.places["record"],
                f'rule "{rule.name}" withholds receipts: that is recorded all the same, since nothing may vanish',
            )


def _never_added(rule: Rule) -> dict[str, str]:
    """Why a rule can add no request and no delivery report, by key."""
    by_key = {c.key.lower(): c for c in rule.when}
    why: str | None = None
    if not rule.kinds - REPORTS:
        why = "a receipt or delivery report never asks for one"
    elif rule.directions <= _STRANGERS:
        why = "inbound and transit mail never comes from one of ours"
    elif "from" in by_key and _some(by_key["from"]) == _NULL_ONLY:
        why = "mail with a null reverse-path never asks"
    if why is not None:
        return {"request": why, "delivery_report": why}
    if "header list-id" in by_key or _only_list(by_key.get("header precedence")):
        return {"request": "list mail never asks"}
    consent = by_key.get("consent")
    if consent is not None and consent.meaning == frozenset((Consent.DENIED,)) and rule.then.basis is None:
        return {"request": "who has refused consent is not asked without a basis"}
    return {}


def _some(condition: Condition) -> Addresses | None:
    return condition.meaning.some if isinstance(condition.meaning, AddressList) else None


def _only_list(precedence: Condition | None) -> bool:
    """Does a condition on Precedence hold for list mail only?"""
    return (
        precedence is not None and isinstance(precedence.meaning, frozenset) and precedence.meaning <= _LIST_PRECEDENCE
    )


def _pointless(then: Then) -> Iterator[Finding]:
    """Keys that have no effect beside the others of the same ``then``."""
    if then.retain is not None and then.record is Record.NONE:
        yield then.places["retain"], "retain has no effect with record: none"
    if then.confirm is not None and then.record is Record.NONE:
        yield then.places["confirm"], "confirm has no effect with record: none, where nothing is confirmed"
    if then.request is Request.ADD and then.record is Record.NONE:
        yield then.places["record"], "without a record nobody knows that the policy asked, so the receipt is delivered"
    if then.suppress in (Suppress.READ, Suppress.BOTH) and then.request is Request.ADD:
        yield then.places["suppress"], "the same message would ask for a read receipt and forbid it"
