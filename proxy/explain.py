"""Explain: what would happen to this message, to whom, and why, without sending anything.

Called by ``kaifu policy explain``. It asks the same functions as the relay (:mod:`kaifu.proxy.transit`), so what it says is
what the relay would do with this envelope, this file and this policy; the size is always known here. It shows beside
it why each rule before the deciding one does not hold.

Asks the ledger when it is told how (consent, and who asked for what a report answers). Fails with ValueError for an address, and
with what asking the ledger fails with.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar

from kaifu.policies.decision import Source
from kaifu.policies.facts import Realm
from kaifu.policies.rules import Policy
from kaifu.policies.trace import RuleTrace, Trace, trace
from kaifu.proxy.address import AddressError, parse_mail, parse_rcpt
from kaifu.proxy.envelope import Envelope
from kaifu.proxy.judgement import Action, Judgement, Verdict
from kaifu.proxy.ledger import EvidenceKind, Known, Query
from kaifu.proxy.message import HeaderBlock, split_message
from kaifu.proxy.observe import Observation, needs_body, observe
from kaifu.proxy.reports import PREFIX
from kaifu.proxy.requestedits import edit_words, notify_words
from kaifu.proxy.transit import facts_of, judge, query
from kaifu.proxy.trust import NO_TRUST, Trust

T = TypeVar("T")

_BARE_LF = re.compile(rb"(?<!\r)\n")


@dataclass(frozen=True, slots=True)
class Explanation:
    """A judgement with the way to it. ``traces`` in the order of the verdicts. ``ledger``: it was asked."""

    policy: Policy
    observation: Observation
    judgement: Judgement
    traces: tuple[Trace, ...]
    ledger: bool


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. ``raw``: the file. ``ledger``: how to ask the ledger, or None. ``dsn``: the next hop offers it.

    ``trust``: whom to believe when the file is a receipt or an answer.
    """

    sender: str
    recipients: Sequence[str]
    raw: bytes
    now: datetime
    ledger: Callable[[Query], Known] | None = None
    outside: bool = False
    dsn: bool = True
    trust: Trust = NO_TRUST

    def asking(self, ledger: Callable[[Query], Known]) -> Question:
        """The same question, with a ledger to ask."""
        return replace(self, ledger=ledger)


def explain(policy: Policy, realm: Realm, question: Question) -> Explanation:
    """Judge a message in a file as the relay would."""
    raw = _BARE_LF.sub(b"\r\n", question.raw)
    header, offset = split_message(raw)
    block = HeaderBlock.parse(header)
    envelope = envelope_of(question.sender, question.recipients)
    body = raw[offset : offset + PREFIX] if needs_body(envelope, block) else None
    seen = observe(
        envelope,
        block,
        body,
        len(raw) - offset <= PREFIX,
        realm=realm,
        request_headers=policy.request_headers,
        outside=question.outside,
        trust=question.trust,
    )
    known = Known() if question.ledger is None else question.ledger(query(policy, seen))
    now, size = question.now, len(raw)
    judgement = judge(policy, seen, known, now=now, queue_id="", hostname="", dsn=question.dsn, size=size)
    facts = facts_of(policy, seen, known, now=now, size=size)
    return Explanation(policy, seen, judgement, tuple(trace(policy, f) for f in facts), question.ledger is not None)


def envelope_of(sender: str, recipients: Sequence[str]) -> Envelope:
    """The envelope of addresses as people write them; ``<>`` is the null reverse-path. SMTPUTF8 when one needs it.

    Raises ValueError that names the address which is none.
    """
    smtputf8 = not all(address.isascii() for address in (sender, *recipients))
    return Envelope(_read(parse_mail, sender), tuple(_read(parse_rcpt, r) for r in recipients), smtputf8)


def _read(parse: Callable[[bytes], T], address: str) -> T:
    text = address.strip()
    bracketed = text if text.startswith("<") and text.endswith(">") else f"<{text}>"
    try:
        return parse(bracketed.encode("utf-8", "surrogateescape"))
    except AddressError as error:
        raise ValueError(f"{address}: {error}") from None


# --- for scripts ------------------------------------------------------------------------------------------------


def as_object(file: str, told: Explanation) -> dict[str, object]:
    """What ``--json`` prints. Keys are stable: scripts read them."""
    message = told.observation.message
    reverse_path = told.observation.envelope.reverse_path.mailbox
    return {
        "file": file,
        "kind": told.observation.report_kind,
        "from": str(reverse_path) if reverse_path is not None else None,
        "sender": str(message.sender) if message.sender is not None else None,
        "requests": [{"name": r.name, "value": r.value} for r in message.requests],
        "policy": {"file": told.policy.file, "digest": told.policy.digest, "mode": str(told.policy.mode)},
        "ledger": told.ledger,
        "deliveries": len(told.judgement.deliveries),
        "rejection": told.judgement.rejection,
        "evidence": [
            {
                "kind": str(e.kind),
                "verdict": str(e.verdict),
                "grade": str(e.grade),
                "alias": e.alias,
                "value": e.value,
                "about": e.about,
                "by": e.by,
                "why": e.why,
            }
            for e in (told.judgement.record.evidence if told.judgement.record else ())
        ],
        "recipients": [_recipient(v, t) for v, t in zip(told.judgement.verdicts, told.traces, strict=True)],
    }


def _recipient(verdict: Verdict, way: Trace) -> dict[str, object]:
    decision, recorded = verdict.decision, verdict.recorded
    return {
        "to": str(verdict.recipient.mailbox),
        "direction": str(verdict.direction),
        "rule": decision.rule,
        "line": decision.line,
        "reason": verdict.reason,
        "action": str(verdict.action),
        "then": {
            "request": str(decision.request),
            "notify": str(decision.notify) if decision.notify is not None else "sender",
            "delivery_report": str(decision.delivery_report),
            "receipt": str(decision.receipt),
            "record": str(decision.record),
            "confirm": str(decision.confirm),
            "retain_days": decision.retain_days,
            "basis": decision.basis,
            "suppress": str(decision.suppress) if decision.suppress is not None else None,
        },
        "sources": {key: str(source) for key, source in decision.sources},
        "rails": [{"key": r.key, "wanted": str(r.wanted), "done": str(r.done), "why": r.why} for r in decision.rails],
        "headers": [edit_words(edit) for edit in verdict.edits],
        "notify": sorted(verdict.notify) if verdict.notify_changed else None,
        "recorded": recorded is not None,
        "request": str(recorded.request) if recorded is not None else None,
        "asked_by": str(recorded.asked_by) if recorded is not None else None,
        "would": recorded.would if recorded is not None else None,
        "not_possible": list(recorded.not_possible) if recorded is not None else [],
        "rules": [_rule(r) for r in way.rules],
    }


def _rule(rule: RuleTrace) -> dict[str, object]:
    return {
        "rule": rule.name,
        "line": rule.line,
        "holds": rule.held,
        "tried": rule.tried,
        "skipped": rule.skipped,
        "conditions": [{"key": c.key, "wanted": c.wanted, "seen": c.seen, "holds": c.held} for c in rule.conditions],
    }


# --- for people -------------------------------------------------------------------------------------------------


def as_lines(file: str, told: Explanation) -> Iterator[str]:
    """The same in words, line by line; text from mail is as it came."""
    message = told.observation.message
    asks = ", ".join(f"{r.name}: {r.value}" for r in message.requests)
    yield f"{file}: {_KINDS[told.observation.report_kind]} from {message.sender or 'nobody'}"
    yield f"  asks for a receipt: {asks}" if asks else "  asks for no receipt"
    if told.judgement.record is not None:
        for evidence in told.judgement.record.evidence:
            grade = f", {evidence.grade}" if evidence.kind in _GRADED and evidence.verdict in _ANSWERS else ""
            yield f"  {evidence.kind} {evidence.value}: {evidence.verdict}{grade}; {evidence.why}"
    if told.judgement.rejection is not None:
        yield f'  refused with 550 5.7.1 "{told.judgement.rejection}"'
    for verdict, way in zip(told.judgement.verdicts, told.traces, strict=True):
        yield ""
        yield f"to {verdict.recipient.mailbox} ({verdict.direction})"
        yield from (f"  {line}" for line in _about(verdict, way))


_GRADED = (EvidenceKind.MDN, EvidenceKind.REPLY)
_ANSWERS = ("matched", "other-address")
_KINDS = {
    "mail": "mail",
    "mdn": "a receipt (MDN)",
    "dsn": "a delivery report (DSN)",
    "suspected-receipt": "a suspected receipt",
}
_ACTIONS = {Action.FORWARD: "delivered", Action.WITHHOLD: "withheld", Action.REJECT: "rejected"}


def _about(verdict: Verdict, way: Trace) -> Iterator[str]:
    yield verdict.reason
    recorded = verdict.recorded
    if recorded is not None and recorded.would is not None:
        yield f"would      {recorded.would}"
    yield f"message    {_ACTIONS[verdict.action]}"
    headers = [edit_words(edit) for edit in verdict.edits] or ["unchanged"]
    yield from (f"header     {words}" for words in headers)
    if verdict.notify_changed:
        yield f"envelope   {notify_words(verdict.notify)}"
    yield f"record     {_recorded(verdict)}"
    for rule in way.rules:
        yield f"rule       line {rule.line}, {rule.name}: {_why(rule)}"


def _recorded(verdict: Verdict) -> str:
    if verdict.recorded is None:
        return "none, only counted"
    days = verdict.recorded.retain_days
    named = any(key == "retain" and source is not Source.BUILT_IN for key, source in verdict.decision.sources)
    kept = f", kept for {days} days" if named and days is not None else ""
    return f"yes, request {verdict.recorded.request}, asked by {verdict.recorded.asked_by}{kept}"


def _why(rule: RuleTrace) -> str:
    """Why a rule holds or not, in words."""
    if rule.held:
        return "holds"
    if not rule.tried:
        return "not reached"
    if rule.skipped is not None:
        return f"does not hold: {rule.skipped}"
    return "does not hold: " + "; ".join(f"{c.key} is {c.seen or '(empty)'}, wanted {c.wanted}" for c in rule.failed)
