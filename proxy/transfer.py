"""One message through the relay: read the header, judge, tell the ledger, send, answer.

Called by the session for each DATA. It returns the answer for the client, or raises :class:`ReplyError` (one of our
own replies) or :class:`ClientGone`; in every case the client's octets have been read to the final dot unless the session is
to be closed. What holds here:

* nothing is answered 250 unless the next hop said so, or the receipt is withheld and in the ledger;
* the ledger has its record on disk before the final dot goes out;
* when anything of ours fails, the next hop never gets a final dot and the client gets a 4xx.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from textwrap import wrap
from typing import TYPE_CHECKING

from . import replies
from .datastream import unstuff
from .delivery import Upstream
from .edits import splice
from .envelope import Envelope
from .incoming import ClientGone, Incoming, Spool
from .judgement import Action, Delivery, Judgement, Verdict
from .ledger import Begun, Known, LedgerError, Outcome, Query, Served
from .message import HeaderBlock
from .minting import with_message_id
from .nexthop import Answer
from .observe import Observation, needs_body, observe
from .replies import ReplyError
from .transit import judge, query, without_additions

if TYPE_CHECKING:
    from .relay import Relay

MAX_REPORT = 1 << 20
"""Octets of a possible report that are read before it is judged."""


class Transfer:
    """State of one message. ``judgement`` and ``size`` are for the log; ``upstream`` is the caller's to release."""

    def __init__(
        self,
        relay: Relay,
        queue_id: str,
        upstream: Upstream,
        envelope: Envelope,
        incoming: Incoming,
        received: bytes,
        outside: bool,
    ) -> None:
        self.judgement: Judgement | None = None
        self.observation: Observation | None = None
        self.begun: Begun | None = None
        self._relay = relay
        self._queue_id = queue_id
        self._upstream = upstream
        self._envelope = envelope
        self._incoming = incoming
        self._received = received
        self._outside = outside
        self._policy = relay.policy.current
        self._spool: Spool | None = None
        self._outcomes: dict[int, Outcome] = {}
        self._served: Served | None = None
        self._served_before: frozenset[bytes] = frozenset()
        self._known = Known()

    async def run(self, tell: Callable[[Answer], None]) -> Answer:
        """Take the message in, ``tell`` the client the next hop's answer, and give it back too.

        The client hears it before the ledger does: killed in between, the record says ``unknown``, while the other way round the
        client would repeat what the ledger takes for done. Only a partial success is on disk first.
        """
        try:
            judgement = await self._judge()
            answer = await self._carry_out(judgement)
        except ReplyError as error:
            await self._settle(Answer.of(error.reply), error.cause)
            if not error.close:
                await self._incoming.drain()
            raise
        except BaseException as error:
            await self._settle(None, f"not completed: {type(error).__name__}")
            raise
        finally:
            if self._spool is not None:
                self._spool.close()
        if self._served is None:
            tell(answer)
            await self._settle(answer, answer.text)
        else:
            await self._settle(answer, answer.text)
            tell(answer)
        return answer

    # what is to be done

    async def _judge(self) -> Judgement:
        header = unstuff(await self._incoming.header())
        block = HeaderBlock.parse(header)
        settings = self._relay.settings
        if block.count("received") > self._relay.relay_settings.limits.received:
            raise ReplyError(replies.TOO_MANY_HOPS)
        body, complete = None, False
        if needs_body(self._envelope, block):
            held, complete = await self._incoming.hold(MAX_REPORT)
            body = unstuff(held)
        seen = self.observation = observe(
            self._envelope,
            block,
            body,
            complete,
            realm=settings.realm,
            request_headers=self._policy.request_headers,
            outside=self._outside,
            trust=self._relay.trust.current,
        )
        asked = query(self._policy, seen)
        known, ledger_works = await self._look(asked)
        size = None
        if self._policy.uses_size or known.served:
            spool = await self._spooled()
            size = len(header) + spool.size
            self._served_before = frozenset().union(
                *(s.recipients for s in known.served if s.body_digest == spool.digest)
            )
        judgement = judge(
            self._policy,
            seen,
            known,
            now=datetime.now(settings.zone),
            queue_id=self._queue_id,
            hostname=self._relay.relay_settings.hostname,
            dsn="DSN" in self._upstream.connection.capabilities,
            size=size,
        )
        self._known = known
        if not ledger_works:
            judgement = self._without_ledger(judgement, asked)
        self.judgement = judgement
        return judgement

    async def _look(self, asked: Query) -> tuple[Known, bool]:
        if not asked:
            return Known(), True
        try:
            return await self._relay.ledger.look(asked), True
        except LedgerError as error:
            self._relay.ledger_failed(error)
            return Known(), False

    def _without_ledger(self, judgement: Judgement, asked: Query | None) -> Judgement:
        """What can be done while the ledger cannot be used (``on_ledger_failure``).

        Mail that needs no ledger passes. With ``defer`` everything else gets a 4xx; with ``pass`` nothing is added,
        strips happen, and what might have to be withheld is deferred all the same.
        """
        seen = self.observation
        assert seen is not None
        needs = judgement.record is not None or (asked is not None and judgement.needs(asked))
        if not needs:
            return judgement
        if self._relay.settings.on_ledger_failure == "defer":
            raise ReplyError(replies.LEDGER_FAILED, "the ledger cannot be used")
        report = seen.message.report
        if report is not None and report.only_reports and report.must_deliver is None:
            raise ReplyError(replies.LEDGER_FAILED, "a receipt that may have to be withheld waits for the ledger")
        return without_additions(judgement)

    # doing it

    async def _carry_out(self, judgement: Judgement) -> Answer:
        if judgement.rejection is not None:
            await self._incoming.drain()
            await self._begin()
            self._mark(judgement.verdicts, Outcome.REFUSED)
            await self._upstream.reset()
            return Answer.of(replies.REJECTED.saying(judgement.rejection))
        if judgement.mint or (judgement.record is not None and self._relay.settings.on_ledger_failure == "pass"):
            judgement = await self._begin_early(judgement)
        deliveries = self._remaining(judgement)
        if len(deliveries) > 1:
            await self._spooled()
        if not deliveries:
            await self._incoming.drain()
            await self._begin()
            self._mark(judgement.verdicts, Outcome.ACCEPTED)
            await self._upstream.reset()
            return Answer.of(replies.WITHHELD if judgement.withheld else replies.ALREADY_TAKEN)
        answers = [(delivery, await self._deliver(delivery)) for delivery in deliveries]
        return await self._sum_up(judgement, answers)

    async def _begin_early(self, judgement: Judgement) -> Judgement:
        """The record comes first where the header depends on it, or where failing must still let mail pass."""
        try:
            await self._relay_begin()
        except LedgerError as error:
            self._relay.ledger_failed(error)
            judgement = self.judgement = self._without_ledger(judgement, None)
        return judgement

    async def _begin(self) -> None:
        """Make the record durable, once. Raises a 451 :class:`ReplyError`."""
        try:
            await self._relay_begin()
        except LedgerError as error:
            self._relay.ledger_failed(error)
            raise ReplyError(replies.LEDGER_FAILED, f"ledger: {error}") from None

    async def _relay_begin(self) -> None:
        assert self.judgement is not None
        if self.begun is None and self.judgement.record is not None:
            self.begun = await self._relay.ledger.begin(self.judgement.record)

    async def _spooled(self) -> Spool:
        if self._spool is None:
            self._spool = Spool(self._relay.disk)
            await self._spool.fill(self._incoming)
        return self._spool

    def _remaining(self, judgement: Judgement) -> list[Delivery]:
        """The deliveries without those recipients whom an earlier attempt of the same message has reached."""
        if not self._served_before:
            return list(judgement.deliveries)
        remaining = []
        for delivery in judgement.deliveries:
            verdicts = tuple(v for v in delivery.verdicts if v.recipient.raw not in self._served_before)
            if verdicts:
                remaining.append(Delivery(verdicts, delivery.edits))
        return remaining

    async def _deliver(self, delivery: Delivery) -> Answer:
        """One transaction. A failure of the next hop becomes the answer for these recipients."""
        upstream = self._upstream
        upstream.dotted = False
        try:
            if self._envelope_differs(delivery):
                refusal = await upstream.again(self._envelope, delivery.verdicts)
                if refusal is not None:
                    self._mark_answer(delivery.verdicts, refusal)
                    return refusal
            answer = await upstream.send(self._header(delivery), self._spool or self._incoming, self._begin)
        except ReplyError as error:
            self._mark(delivery.verdicts, Outcome.UNKNOWN if upstream.dotted else _outcome_of(error.reply.code))
            if error.close or error.reply is replies.LEDGER_FAILED:
                raise
            self._relay.log("next-hop-failed", id=self._queue_id, cause=error.cause)
            answer = Answer.of(error.reply)
        except ClientGone:
            raise
        except Exception as error:  # noqa: BLE001 - those who have the message already must be remembered
            self._relay.unforeseen(error, id=self._queue_id)
            self._mark(delivery.verdicts, Outcome.UNKNOWN if upstream.dotted else Outcome.DEFERRED)
            answer = Answer.of(replies.OURS_FAILED)
        else:
            self._mark_answer(delivery.verdicts, answer)
        if not answer.ok and not answer.transient:
            await self._record_refusal()
        return answer

    async def _record_refusal(self) -> None:
        """A message refused before its dot was due is on record like one refused at the dot, if the ledger can."""
        try:
            await self._relay_begin()
        except LedgerError as error:
            self._relay.ledger_failed(error)

    def _envelope_differs(self, delivery: Delivery) -> bool:
        """Does the next hop have to be given another envelope than the client's, or a second one?"""
        return (
            bool(self._outcomes)
            or delivery.envelope_changed
            or len(delivery.verdicts) != len(self._envelope.recipients)
        )

    def _header(self, delivery: Delivery) -> bytes:
        assert self.observation is not None
        edits = delivery.edits
        if self.judgement is not None and self.judgement.mint and self.begun is not None and self.begun.message_id:
            edits = with_message_id(edits, self.begun.message_id)
        return splice(self.observation.block, edits, prefix=self._received)

    async def _sum_up(self, judgement: Judgement, answers: list[tuple[Delivery, Answer]]) -> Answer:
        """The one answer for the client out of those of all transactions."""
        await self._incoming.drain()
        failed = [answer for _, answer in answers if not answer.ok]
        if not failed:
            if judgement.record is not None and self.begun is None:  # pragma: no cover - send() has begun it
                await self._begin()
            return answers[-1][1]
        taken = [v.recipient.raw for d, answer in answers if answer.ok for v in d.verdicts]
        taken += self._served_before
        later = [answer for answer in failed if answer.transient]
        if not taken:
            return later[0] if later else failed[0]
        if later:
            await self._remember(taken)
            return later[0]
        return _partly_refused(failed[0], taken)

    async def _remember(self, taken: Iterable[bytes]) -> None:
        """Partial success: the retry of this very message is to reach only the others."""
        assert self.observation is not None
        spool = await self._spooled()
        self._served = Served(self.observation.retry_key, spool.digest, frozenset(taken))

    # what the ledger learns afterwards

    def _mark(self, verdicts: Iterable[Verdict], outcome: Outcome) -> None:
        for verdict in verdicts:
            self._outcomes[id(verdict.recipient)] = Outcome.WITHHELD if verdict.action is Action.WITHHOLD else outcome

    def _mark_answer(self, verdicts: Iterable[Verdict], answer: Answer) -> None:
        self._mark(verdicts, _outcome_of(answer.code))

    async def _settle(self, answer: Answer | None, reply: str) -> None:
        """Tell the ledger how it ended. A partial success is durable before the client hears of it."""
        judgement = self.judgement
        if judgement is None:
            return
        if answer is not None and answer.ok:
            for direction, kind in judgement.counts:
                self._relay.ledger.count(direction, kind)
            if judgement.unrecorded is not None:
                self._relay.ledger.leave_trace(judgement.unrecorded)
        drop = self._served_key() if answer is not None and not answer.transient else None
        if self.begun is None and self._served is None and drop is None:
            return
        default = Outcome.DEFERRED if answer is None else _outcome_of(answer.code)
        outcomes = [
            (str(v.recipient.mailbox), self._outcome(v, default)) for v in judgement.verdicts if v.recorded is not None
        ]
        finished = self._relay.ledger.finish(
            self.begun or Begun(None, None),
            outcomes,
            reply,
            served=self._served,
            drop_served=drop,
            answered=answer is not None and answer.ok,
        )
        if self._served is None:
            self._relay.in_background(finished)
            return
        try:
            await finished
        except LedgerError as error:
            # The client is about to hear 4xx; its retry will reach some recipients twice, which is better than never.
            self._relay.ledger_failed(error)

    def _outcome(self, verdict: Verdict, default: Outcome) -> Outcome:
        if verdict.recipient.raw in self._served_before:
            return Outcome.ACCEPTED
        if verdict.action is Action.WITHHOLD:
            # Refused for the others, it is not sent again: for this one it has ended here.
            return default if default is Outcome.DEFERRED else Outcome.WITHHELD
        return self._outcomes.get(id(verdict.recipient), default)

    def _served_key(self) -> bytes | None:
        return self.observation.retry_key if self.observation is not None and self._known.served else None


def _outcome_of(code: int) -> Outcome:
    """What a reply of this code means for the recipients it is about."""
    return Outcome.ACCEPTED if 200 <= code < 300 else Outcome.REFUSED if 500 <= code < 600 else Outcome.DEFERRED


def _partly_refused(refusal: Answer, taken: Iterable[bytes]) -> Answer:
    """The 5xx for a message that some recipients have: the sender learns who, so that nobody mails them again.

    In lines of their own, because a client need not read more than 512 octets of one (RFC 5321 4.5.3.1.5).
    """
    names = ", ".join(raw.decode("ascii", "replace") for raw in taken)
    text = f"{refusal.text[4:]} (refused for the other recipients; already taken for: {names})"
    lines = wrap(text, 500, break_on_hyphens=False)
    octets = "".join(f"{refusal.code}{' ' if i == len(lines) else '-'}{line}\r\n" for i, line in enumerate(lines, 1))
    return Answer(refusal.code, octets.encode("ascii", "replace"))
