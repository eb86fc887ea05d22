"""Whose consent must be looked up before a message can be judged?

Called by :mod:`kaifu.proxy.transit`. Asking the ledger costs time, and mail that needs no answer of the ledger passes also
while it cannot be read, so only those recipients count for whom a rule that looks at consent, or one that adds a request
without a written basis, can be the one that decides. What only the judgement knows (time, size, who asked) may go
either way here. Pure; never raises.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from kaifu.policies.decision import Decision, Request
from kaifu.policies.facts import Direction, Facts, Kind
from kaifu.policies.rules import Policy, Rule, Test
from kaifu.proxy.observe import Observation

_OPEN = frozenset(("consent", "time", "size", "asked_by"))
"""Conditions whose answer is not known yet."""

_NOT_NOW = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A rule, or at last the defaults. ``tests``: its conditions that can be tried already.

    ``looks``: it looks at consent itself. ``adds``: the rail does, because it adds a request. ``certain``: when the tests
    hold it decides, so that nothing behind it matters.
    """

    tests: tuple[Test, ...]
    looks: bool
    adds: bool
    certain: bool


def people_whose_consent_matters(policy: Policy, seen: Observation) -> tuple[str, ...]:
    """The recipients (:attr:`Mailbox.key`) whose consent can change the judgement, each once."""
    message = seen.message
    askable = (
        message.kind is Kind.MAIL
        and seen.sender_in_realm
        and not (message.null_reverse_path or message.auto_submitted or message.list_mail)
    )
    people: dict[str, None] = {}
    for recipient, direction in zip(seen.envelope.recipients, seen.directions, strict=True):
        candidates = _candidates(policy, message.kind, direction)
        if candidates:
            facts = Facts(message, recipient.mailbox, direction, seen.sender_in_realm, _NOT_NOW)
            if _matters(candidates, facts, askable):
                people[recipient.mailbox.key] = None
    return tuple(people)


def _matters(candidates: tuple[_Candidate, ...], facts: Facts, askable: bool) -> bool:
    for candidate in candidates:
        if all(holds(facts) for holds in candidate.tests):
            if candidate.looks or (candidate.adds and askable):
                return True
            if candidate.certain:
                return False
    return False


@lru_cache(maxsize=256)
def _candidates(policy: Policy, kind: Kind, direction: Direction) -> tuple[_Candidate, ...]:
    """The rules in order, then the defaults; nothing when consent matters to none of them."""
    found = [_candidate(rule, kind, direction) for rule in policy.candidates[kind, direction]]
    found.append(_Candidate((), False, _adds(policy.on_mail[direction], kind), True))
    return tuple(found) if any(c.looks or c.adds for c in found) else ()


def _candidate(rule: Rule, kind: Kind, direction: Direction) -> _Candidate:
    keys = {condition.key for condition in rule.when}
    tests = tuple(c.holds for c in sorted(rule.when, key=lambda c: c.cost) if c.key not in _OPEN)
    return _Candidate(tests, "consent" in keys, _adds(rule.on_mail[direction], kind), not keys & _OPEN)


def _adds(decision: Decision, kind: Kind) -> bool:
    return kind is Kind.MAIL and decision.request is Request.ADD and decision.basis is None
