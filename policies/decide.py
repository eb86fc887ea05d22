"""Decide: one policy, the facts about one recipient of one message, one decision. Pure and total.

Who calls it: ``transit`` for relay and milter, ``kaifu policy explain``, the screens. The first rule whose conditions
hold decides; what it does not name comes from the defaults, then from the built-ins; then the rails, which no rule
overrides, are applied and written down. Fails: never; the same facts always give the same decision.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from kaifu.policies.decision import Decision, DeliveryReport, Rail, Receipt, Request, Source, Suppress
from kaifu.policies.facts import AskedBy, Consent, Facts, Kind, MessageFacts
from kaifu.policies.rules import Policy, Rule


def winner(policy: Policy, facts: Facts) -> Rule | None:
    """The first rule that holds, None when none does."""
    for rule in policy.candidates[facts.message.kind, facts.direction]:
        for holds in rule.tests:
            if not holds(facts):
                break
        else:
            return rule
    return None


def decide(policy: Policy, facts: Facts) -> Decision:
    """What the policy wants for one recipient, rails applied. In observe mode the same, not ``enforced``."""
    source = winner(policy, facts) or policy
    is_mail = facts.message.kind is Kind.MAIL
    decision = (source.on_mail if is_mail else source.on_report)[facts.direction]
    if decision.request is Request.ADD or decision.delivery_report is DeliveryReport.ADD:
        decision = _railed(decision, facts)
    return decision if is_mail else _with_receipt(decision, facts)


def _railed(decision: Decision, facts: Facts) -> Decision:
    """A decision that adds something, without what the rails forbid."""
    if decision.request is Request.ADD:
        why = why_not_asked(facts, decision.basis)
        if why is not None:
            rail = Rail("request", Request.ADD, Request.KEEP, why)
            sources = tuple(s for s in decision.sources if s[0] != "notify")
            decision = replace(
                decision, request=Request.KEEP, notify=None, rails=(*decision.rails, rail), sources=sources
            )
    if decision.delivery_report is DeliveryReport.ADD:
        why = why_no_delivery_report(facts)
        if why is not None:
            rail = Rail("delivery_report", DeliveryReport.ADD, DeliveryReport.KEEP, why)
            decision = replace(decision, delivery_report=DeliveryReport.KEEP, rails=(*decision.rails, rail))
    return decision


def why_not_asked(facts: Facts, basis: str | None) -> str | None:
    """Why a read receipt must not be asked for here, None when it may."""
    message = facts.message
    if message.kind is Kind.MDN:
        return "a receipt never asks for a receipt"
    if message.kind is Kind.DSN:
        return "a delivery report never asks for a receipt"
    if message.null_reverse_path:
        return "mail with a null reverse-path never asks"
    if message.auto_submitted:
        return "mail sent by a program (Auto-Submitted) never asks"
    if message.list_mail:
        return "list mail never asks"
    if not facts.sender_in_realm:
        return "the sender is not one of ours"
    if facts.consent is Consent.DENIED and basis is None:
        return "the recipient has refused consent and the rule gives no basis"
    return None


def why_no_delivery_report(facts: Facts) -> str | None:
    """Why a delivery report must not be asked for here, None when it may.

    Programs and lists may ask: a delivery report says nothing about what a person does.
    """
    if facts.message.kind is not Kind.MAIL:
        return "a report never asks for a report"
    if facts.message.null_reverse_path:
        return "a null reverse-path leaves nobody to report to"
    if not facts.sender_in_realm:
        return "the sender is not one of ours"
    return None


def _with_receipt(decision: Decision, facts: Facts) -> Decision:
    """The fate of a report: the built-in where nobody names one, and the rail that spares human mail."""
    built_in = decision.receipt is Receipt.DELIVER and ("receipt", Source.BUILT_IN) in decision.sources
    wanted = decision.receipt
    if built_in:
        if not (facts.original_known and facts.asked_by is AskedBy.POLICY) or _tells_of_failure(facts.message):
            return decision
        wanted = Receipt.WITHHOLD
    if wanted is Receipt.DELIVER:
        return decision
    why = why_delivered(facts.message)
    if why is None:
        return decision if wanted is decision.receipt else replace(decision, receipt=wanted)
    rail = Rail("receipt", wanted, Receipt.DELIVER, why)
    return replace(decision, receipt=Receipt.DELIVER, rails=(*decision.rails, rail))


def _tells_of_failure(message: MessageFacts) -> bool:
    """A DSN that is not a plain success is nothing the built-in would withhold."""
    return message.kind is Kind.DSN and (message.report is None or message.report.must_deliver is not None)


def why_delivered(message: MessageFacts) -> str | None:
    """Why a report must reach its reader whatever a rule says, None when it may be withheld."""
    if message.kind is Kind.MAIL or message.report is None:
        return "it could not be read as a report"
    if message.report.must_deliver is not None:
        return message.report.must_deliver
    if not message.report.only_reports:
        return "it carries more than reports"
    return None


_STRICTNESS = {Request.STRIP: 0, Request.KEEP: 1, Request.ADD: 2}


def strictest(decisions: Iterable[Decision]) -> Decision:
    """The decision whose header edits a milter makes for all recipients: strip before keep before add.

    Among equals the first. ``suppress`` forbids for all what it forbids for one.
    """
    all_of_them = tuple(decisions)
    if not all_of_them:
        return Decision()
    chosen = min(all_of_them, key=lambda d: _STRICTNESS[d.request])
    forbidden = {d.suppress for d in all_of_them if d.suppress is not None}
    if not forbidden:
        return chosen
    suppress = forbidden.pop() if len(forbidden) == 1 else Suppress.BOTH
    return chosen if suppress is chosen.suppress else replace(chosen, suppress=suppress)
