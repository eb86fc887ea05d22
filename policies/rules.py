"""A policy, compiled: frozen values that :mod:`kaifu.policies.decide` runs through for each recipient.

:mod:`kaifu.policies.load` makes them. Everything that the file alone decides is worked out here once: which rules can
hold for a kind and a direction at all, and what each rule decides in each direction with the defaults and built-ins
filled in. What is left per message are the conditions, cheapest first, and the rails. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from kaifu.policies.addresses import AddressList
from kaifu.policies.decision import Confirm, Decision, DeliveryReport, Receipt, Record, Request, Source, Suppress
from kaifu.policies.facts import Direction, Facts, Kind, Mailbox
from kaifu.policies.vocabulary import THEN, Mode

Test: TypeAlias = Callable[[Facts], bool]
Place: TypeAlias = tuple[int, int]

REPORTS = frozenset((Kind.MDN, Kind.DSN))


@dataclass(frozen=True, slots=True)
class Condition:
    """One key of ``when``. ``text``: its value as written; ``seen``: what it looks at in a message, for people.

    ``meaning``: the words, patterns or mailboxes any of which makes it hold, for comparing conditions.
    """

    key: str
    text: str
    place: Place
    meaning: frozenset[str] | AddressList
    cost: int
    holds: Test = field(repr=False, compare=False)
    seen: Callable[[Facts], str] = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Notify:
    """``notify:`` an address, or None for the sender."""

    mailbox: Mailbox | None


@dataclass(frozen=True, slots=True)
class Then:
    """What a rule or ``defaults`` names; None where it does not. ``places``: key to line and column."""

    request: Request | None = None
    notify: Notify | None = None
    delivery_report: DeliveryReport | None = None
    receipt: Receipt | None = None
    record: Record | None = None
    confirm: Confirm | None = None
    retain: int | None = None
    basis: str | None = None
    suppress: Suppress | None = None
    places: Mapping[str, Place] = field(default_factory=dict, compare=False)
    texts: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def named(self) -> tuple[str, ...]:
        """The keys that are named, in the order of the language."""
        return tuple(key for key in THEN if getattr(self, key) is not None)

    def __str__(self) -> str:
        return ", ".join(f"{key}: {text}" for key, text in self.texts.items())


@dataclass(frozen=True, slots=True)
class Group:
    """``groups:`` a name for addresses."""

    name: str
    place: Place
    members: int


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """One rule. ``kinds`` and ``directions``: outside of them it cannot hold.

    ``tests``: its other conditions, cheapest first. ``on_mail`` and ``on_report``: its decision before rails.
    """

    name: str
    line: int
    column: int
    when: tuple[Condition, ...]
    then: Then
    kinds: frozenset[Kind]
    directions: frozenset[Direction]
    tests: tuple[Test, ...] = field(repr=False)
    on_mail: Mapping[Direction, Decision] = field(repr=False)
    on_report: Mapping[Direction, Decision] = field(repr=False)

    @property
    def when_text(self) -> str:
        """The conditions in one line; empty when the rule always holds."""
        return ", ".join(f"{c.key}: {c.text}" for c in self.when)


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """A whole policy file.

    ``digest``: short SHA-256 of its text. ``request_headers``: fields that count as receipt requests beside the
    known ones, as written. ``uses_size``: some rule looks at the size, so the host must know it before deciding.
    ``uses_consent``: some rule needs what the ledger knows of consent.
    """

    file: str
    digest: str
    mode: Mode
    rules: tuple[Rule, ...]
    defaults: Mapping[Direction, Then]
    groups: tuple[Group, ...]
    sensitivities: tuple[Group, ...]
    unused: tuple[str, ...]
    request_headers: tuple[str, ...]
    uses_size: bool
    uses_consent: bool
    candidates: Mapping[tuple[Kind, Direction], tuple[Rule, ...]] = field(repr=False)
    on_mail: Mapping[Direction, Decision] = field(repr=False)
    on_report: Mapping[Direction, Decision] = field(repr=False)


def possible_kinds(when: Iterable[Condition], then: Then) -> frozenset[Kind]:
    """The kinds for which a rule can hold.

    Without ``receipt`` it says nothing about receipts, so it does not hold for them unless it names ``kind``;
    ``asked_by`` is about receipts only.
    """
    by_key = {c.key: c for c in when}
    kinds = frozenset(Kind)
    if "kind" in by_key:
        kinds = frozenset(k for k in Kind if k in _words(by_key["kind"]))
    elif then.receipt is None:
        kinds = frozenset((Kind.MAIL,))
    return kinds & REPORTS if "asked_by" in by_key else kinds


def possible_directions(when: Iterable[Condition]) -> frozenset[Direction]:
    """The directions for which a rule can hold."""
    for condition in when:
        if condition.key == "direction":
            return frozenset(d for d in Direction if d in _words(condition))
    return frozenset(Direction)


def _words(condition: Condition) -> frozenset[str]:
    assert isinstance(condition.meaning, frozenset)
    return condition.meaning


Decisions: TypeAlias = dict[Direction, Decision]


def decisions(then: Then, defaults: Mapping[Direction, Then], named: Decision) -> tuple[Decisions, Decisions]:
    """What a rule decides for mail and for reports, by direction: its keys, else the defaults', else built in.

    ``receipt`` is about reports, ``confirm`` about the mail that they answer.
    """
    mail: Decisions = {}
    report: Decisions = {}
    for direction in Direction:
        default = defaults.get(direction, Then())
        decision = _merged(then, default, named)
        mail[direction] = replace(decision, receipt=Receipt.DELIVER, sources=_without("receipt", decision))
        report[direction] = replace(decision, confirm=Confirm.CLAIMED, sources=_without("confirm", decision))
    return mail, report


def _without(key: str, decision: Decision) -> tuple[tuple[str, Source], ...]:
    return tuple(source for source in decision.sources if source[0] != key)


def _merged(then: Then, default: Then, named: Decision) -> Decision:
    values: dict[str, object] = {}
    sources: list[tuple[str, Source]] = []
    for key in THEN:
        value, source = getattr(then, key), Source.RULE
        if value is None:
            value, source = getattr(default, key), Source.DEFAULTS
        if value is not None:
            values[key] = value
            sources.append((key, source))
        elif key in ("request", "delivery_report", "receipt", "record"):
            sources.append((key, Source.BUILT_IN))
    notify = values.pop("notify", None)
    if isinstance(notify, Notify) and values.get("request") is Request.ADD:
        values["notify"] = notify.mailbox
    else:
        sources = [s for s in sources if s[0] != "notify"]
    if "retain" in values:
        values["retain_days"] = values.pop("retain")
    return replace(named, sources=tuple(sources), **values)  # type: ignore[arg-type]


def compile_rule(
    name: str,
    place: Place,
    when: tuple[Condition, ...],
    then: Then,
    defaults: Mapping[Direction, Then],
    mode: Mode,
) -> Rule:
    """A rule, ready to be tried."""
    line, column = place
    named = Decision(rule=name, line=line, enforced=mode is Mode.ENFORCE)
    on_mail, on_report = decisions(then, defaults, named)
    ordered = sorted((c for c in when if c.key not in ("kind", "direction")), key=lambda c: c.cost)
    tests = tuple(c.holds for c in ordered)
    kinds, directions = possible_kinds(when, then), possible_directions(when)
    return Rule(name, line, column, when, then, kinds, directions, tests, on_mail, on_report)


def compile_policy(
    *,
    file: str,
    digest: str,
    mode: Mode,
    rules: tuple[Rule, ...],
    defaults: Mapping[Direction, Then],
    groups: tuple[Group, ...] = (),
    sensitivities: tuple[Group, ...] = (),
    unused: tuple[str, ...] = (),
    request_headers: tuple[str, ...] = (),
) -> Policy:
    """A policy, ready to decide."""
    keys = {c.key for rule in rules for c in rule.when}
    adds = any(t.request is Request.ADD for t in (*(r.then for r in rules), *defaults.values()))
    candidates = {
        (kind, direction): tuple(r for r in rules if kind in r.kinds and direction in r.directions)
        for kind in Kind
        for direction in Direction
    }
    on_mail, on_report = decisions(Then(), defaults, Decision(enforced=mode is Mode.ENFORCE))
    return Policy(
        file, digest, mode, rules, defaults, groups, sensitivities, unused, request_headers,
        "size" in keys, adds or "consent" in keys, candidates, on_mail, on_report,
    )  # fmt: skip
