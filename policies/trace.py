"""Trace: how a decision came about, rule by rule, for ``kaifu policy explain`` and the screens.

Slower than :func:`~kaifu.policies.decide.decide`, because it tries every condition of every rule also when the answer
is known. Pure; never raises.
"""

from __future__ import annotations

from dataclasses import dataclass

from kaifu.policies.decide import decide, winner
from kaifu.policies.decision import Decision
from kaifu.policies.facts import Facts
from kaifu.policies.reasons import sentence
from kaifu.policies.rules import REPORTS, Condition, Policy, Rule


@dataclass(frozen=True, slots=True)
class ConditionTrace:
    """One condition: what it wants, what the message has, and whether it holds."""

    key: str
    wanted: str
    seen: str
    held: bool


@dataclass(frozen=True, slots=True)
class RuleTrace:
    """One rule. ``tried`` is false behind the rule that decided. ``skipped``: why it was not tried at all."""

    name: str
    line: int
    held: bool
    tried: bool
    skipped: str | None
    conditions: tuple[ConditionTrace, ...]

    @property
    def failed(self) -> tuple[ConditionTrace, ...]:
        """The conditions that do not hold."""
        return tuple(c for c in self.conditions if not c.held)


@dataclass(frozen=True, slots=True)
class Trace:
    """All rules in order, the decision, and the sentence about it."""

    rules: tuple[RuleTrace, ...]
    decision: Decision
    reason: str


def trace(policy: Policy, facts: Facts) -> Trace:
    """Every rule with every condition, and what was decided."""
    deciding = winner(policy, facts)
    decision = decide(policy, facts)
    rules = []
    tried = True
    for rule in policy.rules:
        rules.append(_rule(rule, facts, rule is deciding, tried))
        tried = tried and rule is not deciding
    return Trace(tuple(rules), decision, sentence(decision, facts))


def _rule(rule: Rule, facts: Facts, held: bool, tried: bool) -> RuleTrace:
    skipped = None
    is_report = facts.message.kind in REPORTS
    if is_report and rule.then.receipt is None and not any(c.key == "kind" for c in rule.when):
        skipped = f"it names neither kind nor receipt, so it says nothing about {facts.message.kind}"
    conditions = tuple(_condition(c, facts) for c in rule.when)
    return RuleTrace(rule.name, rule.line, held, tried, skipped, conditions)


def _condition(condition: Condition, facts: Facts) -> ConditionTrace:
    return ConditionTrace(condition.key, condition.text, condition.seen(facts), condition.holds(facts))
