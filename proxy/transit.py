"""Transit: what happens to one message. The one brain that every host asks.

A host (relay, milter, ``kaifu policy explain``) calls :func:`~kaifu.proxy.observe.observe`, looks up :func:`query` in the
ledger, and calls :func:`judge`; the :class:`~kaifu.proxy.judgement.Judgement` says what to send to whom with which edits, what
the ledger must hold before the final dot, and why, in one sentence per recipient. Pure: time, queue id and what the ledger
knows come in as arguments, so the same arguments always give the same judgement. Never raises.

What is recorded (least data): mail that asks (the client did, or the policy adds or strips), receipts, delivery reports
about messages of ours, and mail that cites one. All else leaves a count. ``record: none`` leaves a count too, except for
a receipt that is withheld: what vanished is in the ledger, without subject or evidence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from kaifu.policies.decide import decide, strictest
from kaifu.policies.decision import Decision, Receipt, Request
from kaifu.policies.decision import Record as Keep
from kaifu.policies.facts import AskedBy, Consent, Direction, Facts, Kind
from kaifu.policies.reasons import sentence
from kaifu.policies.rules import Policy
from kaifu.policies.values import unchanging
from kaifu.proxy.consent import people_whose_consent_matters
from kaifu.proxy.edits import HeaderEdit
from kaifu.proxy.envelope import Recipient
from kaifu.proxy.judgement import Action, Judgement, Verdict, also, deliveries_of, without_additions
from kaifu.proxy.ledger import Evidence, Grade, Known, Query, Record, RecordedRecipient, RequestState
from kaifu.proxy.maildate import parse_date
from kaifu.proxy.match import match_reply, match_reports, match_suspected
from kaifu.proxy.minting import with_new_id
from kaifu.proxy.observe import Observation
from kaifu.proxy.originals import Match
from kaifu.proxy.requestedits import (
    Mta,
    NotifyPlan,
    RequestPlan,
    edit_words,
    notify_words,
    plan_notify,
    plan_request,
    untouched,
)

__all__ = ["facts_of", "judge", "query", "without_additions"]

REJECTION = "Receipts are refused here by policy"
"""The text of the 550 when every recipient rejects a receipt; it names nobody."""

STRICTER = "another header than for the recipient whose rule is stricter (a milter has one for all)"
"""What is said about a recipient who does not get the header edits of its own rule."""

_MOST_SUBJECT = 1000  # characters
_MOST_EDITS = 50  # that a record tells one by one; a stranger's header may hold a hundred thousand request fields


def query(policy: Policy, observation: Observation) -> Query:
    """What the host must ask the ledger before it judges: what the message cites, and whose consent matters."""
    people = people_whose_consent_matters(policy, observation) if policy.uses_consent else ()
    asked = observation.query
    return Query(asked.message_ids, asked.envids, people, asked.retry_key) if people else asked


def judge(
    policy: Policy,
    observation: Observation,
    known: Known,
    *,
    now: datetime,
    queue_id: str,
    hostname: str,
    dsn: bool,
    mta: Mta | None = None,
    size: int | None = None,
    one_header: bool = False,
    mta_queue_id: str | None = None,
) -> Judgement:
    """Judge one message.

    ``known``: the ledger's answer to :func:`query`. ``now``: aware, in the zone in which rules without one of their own
    read it. ``hostname``: the right side of a Message-ID that must be made. ``dsn``: the next hop offers DSN.
    ``mta``: the one that the host is a milter of; None for a relay.
    ``size``: octets of header block and body, needed only when the policy says ``uses_size``. ``one_header``: the host
    cannot give recipients different header blocks (a milter), so all get the strictest edit: strip before keep before
    add. ``queue_id``, ``mta_queue_id``: ours and the MTA's, for the record.
    """
    seen = observation.with_size(size)
    judging = _Judge(policy, seen, known, now, dsn, mta)
    return judging.judgement(queue_id, hostname, one_header=one_header, mta_queue_id=mta_queue_id)


def facts_of(
    policy: Policy, observation: Observation, known: Known, *, now: datetime, size: int | None = None
) -> tuple[Facts, ...]:
    """What the policy is shown of each recipient, in the order of RCPT; for those who explain a judgement."""
    judging = _Judge(policy, observation.with_size(size), known, now, True)
    return tuple(judging.facts(index) for index in range(len(observation.directions)))


_ACTED = frozenset((RequestState.ADDED, RequestState.STRIPPED))


@unchanging
class _Plan:
    """What is done for one recipient, before anybody knows what the others get."""

    decision: Decision
    facts: Facts
    request: RequestPlan
    notify: NotifyPlan
    edits: tuple[HeaderEdit, ...]
    receipt: Receipt
    acts: bool


class _Judge:
    """One judgement in the making."""

    def __init__(
        self,
        policy: Policy,
        seen: Observation,
        known: Known,
        now: datetime,
        dsn: bool,
        mta: Mta | None = None,
    ) -> None:
        self.policy = policy
        self.seen = seen
        self.known = known
        self.now = now
        self.dsn = dsn
        self.mta = mta
        self._twice = _more_than_once(seen.envelope.recipients) if mta is not None else frozenset()
        self.match, self.evidence = self._matched()
        self._request_plans: dict[object, RequestPlan] = {}
        self._sentences: dict[int, tuple[Decision, str]] = {}  # keeps the decision alive, and with it its id
        self._words: dict[int, tuple[tuple[HeaderEdit, ...], tuple[str, ...]]] = {}  # likewise the edits
        self._plain = untouched(seen.message)

    def _matched(self) -> tuple[Match, tuple[Evidence, ...]]:
        seen, known = self.seen, self.known
        if seen.message.kind is not Kind.MAIL:
            match = match_reports(seen.reports, seen.carrier, known)
            return match, match.evidence
        if seen.suspicion is not None:
            return Match(), match_suspected(seen.suspicion.form, seen.suspicion.ties, seen.carrier, known)
        if known.originals:
            return Match(), match_reply(seen.carrier, known)
        return Match(), ()

    def judgement(
        self, queue_id: str, hostname: str, *, one_header: bool = False, mta_queue_id: str | None = None
    ) -> Judgement:
        plans = [self._plan(index) for index in range(len(self.seen.directions))]
        actions, rejected = self._actions(plans)
        if one_header and len(plans) > 1:
            plans = self._with_one_header(plans, actions)
        verdicts = tuple(map(self._verdict, self.seen.envelope.recipients, plans, actions))
        mint = False
        if self.seen.message_id is None:
            asks = [plan.decision.enforced and (plan.request.adds or plan.notify.adds) for plan in plans]
            verdicts, mint = with_new_id(self.seen.block, verdicts, asks, for_all=one_header)
        record = self._record(verdicts, plans, (queue_id, mta_queue_id), hostname if mint else None)
        return Judgement(
            verdicts,
            deliveries_of(verdicts),
            REJECTION if rejected else None,
            record,
            self._counts(verdicts, record),
            mint,
            self._unrecorded(verdicts, plans, actions),
        )

    # one recipient

    def facts(self, index: int) -> Facts:
        seen = self.seen
        mailbox = seen.envelope.recipients[index].mailbox
        consent = self.known.consent.get(mailbox.key, Consent.UNKNOWN) if self.known.consent else Consent.UNKNOWN
        return Facts(
            seen.message,
            mailbox,
            seen.directions[index],
            seen.sender_in_realm,
            self.now,
            consent,
            self.match.asked_by,
            self.match.original_known,
        )

    def _plan(self, index: int) -> _Plan:
        facts = self.facts(index)
        decision = decide(self.policy, facts)
        wanted = self._request(decision)
        recipient = self.seen.envelope.recipients[index]
        twice = bool(self._twice) and str(recipient.mailbox).lower() in self._twice
        notify = plan_notify(decision, recipient, dsn=self.dsn, mta=self.mta, twice=twice)
        acts = wanted.request in _ACTED or bool(wanted.not_possible) or notify.changed or bool(notify.not_possible)
        if decision.enforced:
            return _Plan(decision, facts, wanted, notify, wanted.edits, decision.receipt, acts)
        acts = acts or decision.receipt is not Receipt.DELIVER
        return _Plan(decision, facts, wanted, notify, (), Receipt.DELIVER, acts)

    def _request(self, decision: Decision) -> RequestPlan:
        """The header edits of a decision, worked out once for all recipients that share it."""
        if decision.request is Request.KEEP and decision.suppress is None:
            return self._plain
        key = (decision.request, decision.notify, decision.suppress, decision.sources)
        plan = self._request_plans.get(key)
        if plan is None:
            seen = self.seen
            plan = plan_request(decision, seen.message, seen.block, seen.envelope, self.policy.request_headers)
            self._request_plans[key] = plan
        return plan

    def _with_one_header(self, plans: Sequence[_Plan], actions: Sequence[Action]) -> list[_Plan]:
        """The plans with the header edits of the strictest for everybody who gets the message."""
        forwarded = [plan for plan, action in zip(plans, actions, strict=True) if action is Action.FORWARD]
        distinct = {id(plan.edits): plan.edits for plan in forwarded}
        if len(set(distinct.values())) < 2:
            return list(plans)
        shared = self._request(strictest(plan.decision for plan in forwarded))
        return [
            replace(
                plan,
                request=replace(shared, not_possible=(*shared.not_possible, STRICTER)),
                edits=shared.edits,
                acts=True,
            )
            if action is Action.FORWARD and plan.edits is not shared.edits and plan.edits != shared.edits
            else plan
            for plan, action in zip(plans, actions, strict=True)
        ]

    @staticmethod
    def _actions(plans: Sequence[_Plan]) -> tuple[list[Action], bool]:
        """The action for each recipient. Rejecting is for all or for nobody: a 550 would bounce the others' mail."""
        wanted = [plan.receipt for plan in plans]
        rejected = bool(wanted) and all(receipt is Receipt.REJECT for receipt in wanted)
        if rejected:
            return [Action.REJECT] * len(wanted), True
        return [Action.FORWARD if receipt is Receipt.DELIVER else Action.WITHHOLD for receipt in wanted], False

    def _verdict(self, recipient: Recipient, plan: _Plan, action: Action) -> Verdict:
        decision, facts = plan.decision, plan.facts
        reason = self._sentence(decision, facts)
        notes = self._notes(plan, action)
        if notes:
            reason = also(reason, notes)
        enforced, forwarded = decision.enforced, action is Action.FORWARD
        return Verdict(
            recipient,
            facts.direction,
            decision,
            action,
            reason,
            plan.edits if forwarded else (),
            plan.notify.notify if enforced and forwarded else frozenset(),
            plan.notify.changed and enforced and forwarded,
            self._recorded(recipient, plan, action, reason, notes) if self._leaves_row(plan, action) else None,
        )

    def _sentence(self, decision: Decision, facts: Facts) -> str:
        """The sentence, made once for all recipients that share a decision; a policy has one for each direction."""
        said = self._sentences.get(id(decision))
        if said is None:
            said = self._sentences[id(decision)] = decision, sentence(decision, facts)
        return said[1]

    @staticmethod
    def _notes(plan: _Plan, action: Action) -> list[str]:
        """What the sentence must add to what the policy wanted, because something else was there or not possible."""
        notes = []
        if plan.decision.request is Request.ADD and plan.request.asked_by is AskedBy.CLIENT:
            kept = plan.request.request is RequestState.KEPT
            notes.append("the client had asked already" if kept else "the client had asked in another way")
        if plan.receipt is Receipt.REJECT and action is Action.WITHHOLD:
            notes.append("not every recipient rejects it, so it is withheld instead")
        notes += [f"not possible: {words}" for words in (*plan.request.not_possible, *plan.notify.not_possible)]
        return notes

    # the record

    def _leaves_row(self, plan: _Plan, action: Action) -> bool:
        if plan.decision.record is Keep.NONE:
            return action is Action.WITHHOLD
        return self._concerns_us(plan, action)

    def _concerns_us(self, plan: _Plan, action: Action) -> bool:
        """Is this something that a full record would tell of?"""
        kind = self.seen.message.kind
        if kind is Kind.MDN or plan.acts or action is not Action.FORWARD:
            return True
        if kind is Kind.DSN:
            return self.match.original_known
        return self.seen.message.requested or plan.notify.asked_by is not AskedBy.NOBODY

    def _recorded(
        self, recipient: Recipient, plan: _Plan, action: Action, reason: str, notes: Sequence[str]
    ) -> RecordedRecipient:
        decision = plan.decision
        enforced, forwarded = decision.enforced, action is Action.FORWARD
        request = plan.request if enforced else self._plain
        would = None
        if not enforced:
            would = also(sentence(replace(decision, enforced=True), plan.facts), notes)
        edits = self._words_of(plan.edits if forwarded else ())
        if plan.notify.changed and enforced and forwarded:
            edits = (*edits, notify_words(plan.notify.notify))
        return RecordedRecipient(
            str(recipient.mailbox),
            plan.facts.direction,
            request.request,
            request.asked_by,
            plan.notify.asked_by if enforced or not plan.notify.adds else AskedBy.NOBODY,
            decision.rule,
            reason,
            would,
            action is Action.WITHHOLD,
            edits,
            (*plan.request.not_possible, *plan.notify.not_possible) if enforced else (),
            decision.retain_days,
            decision.basis,
            Grade(decision.confirm.value),
        )

    def _words_of(self, edits: tuple[HeaderEdit, ...]) -> tuple[str, ...]:
        """The edits in words, made once for all recipients that share them; of very many the first and their number."""
        known = self._words.get(id(edits))
        if known is None:
            words = tuple([edit_words(edit) for edit in edits[:_MOST_EDITS]])
            if len(edits) > _MOST_EDITS:
                words = (*words, f"and {len(edits) - _MOST_EDITS} more")
            known = self._words[id(edits)] = edits, words
        return known[1]

    def _record(
        self,
        verdicts: Sequence[Verdict],
        plans: Sequence[_Plan],
        queue_ids: tuple[str, str | None],
        mint_host: str | None,
    ) -> Record | None:
        seen = self.seen
        kept = any(plan.decision.record is not Keep.NONE for plan in plans)
        evidence = self.evidence if kept else ()
        recipients = tuple([v.recorded for v in verdicts if v.recorded is not None])
        if not recipients and not evidence:
            return None
        full = all(plan.decision.record is Keep.FULL for plan in plans)
        dates = seen.block.values("date") if recipients else ()
        sender = seen.message.sender
        return Record(
            self.now,
            queue_ids[0],
            str(sender) if sender is not None else "",
            seen.attempt_key,
            seen.message_id,
            mint_host,
            seen.message.subject[:_MOST_SUBJECT] if full and recipients and seen.message.kind is Kind.MAIL else None,
            parse_date(dates[0]) if dates else None,
            seen.envelope.envid,
            str(seen.message.kind),
            self.policy.digest,
            queue_ids[1],
            recipients,
            evidence,
        )

    def _unrecorded(self, verdicts: Sequence[Verdict], plans: Sequence[_Plan], actions: Sequence[Action]) -> str | None:
        """The Message-ID of mail that ``record: none`` alone keeps off the record; only then is there nothing to answer to."""
        seen = self.seen
        if seen.message_id is None or seen.message.kind is not Kind.MAIL or any(v.recorded for v in verdicts):
            return None
        kept_off = (
            plan.decision.record is Keep.NONE and self._concerns_us(plan, action)
            for plan, action in zip(plans, actions, strict=True)
        )
        return seen.message_id if any(kept_off) else None

    def _counts(self, verdicts: Sequence[Verdict], record: Record | None) -> tuple[tuple[Direction, str], ...]:
        """Directions in which this message leaves neither a row nor evidence."""
        if record is not None and record.evidence:
            return ()
        rows = {verdict.direction for verdict in verdicts if verdict.recorded is not None}
        kind = str(self.seen.message.kind)
        return tuple([(d, kind) for d in dict.fromkeys(v.direction for v in verdicts) if d not in rows])


def _more_than_once(recipients: Sequence[Recipient]) -> frozenset[str]:
    """Who is in the envelope more than once, in lower case."""
    if len(recipients) == 1:
        return frozenset()
    counted = Counter(str(recipient.mailbox).lower() for recipient in recipients)
    return frozenset(address for address, number in counted.items() if number > 1)
