"""Judgement: what a host must do with one message, as data. Made by :mod:`kaifu.proxy.transit`.

Beside the values: how verdicts are gathered into transactions, and what is left of a judgement when the ledger cannot be
used. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from enum import StrEnum

from kaifu.policies.decision import Decision, Request
from kaifu.policies.facts import Direction
from kaifu.policies.values import unchanging

from .edits import Delete, HeaderEdit
from .envelope import Recipient
from .ledger import Query, Record, RecordedRecipient


class Action(StrEnum):
    """What happens to the message for one recipient."""

    FORWARD = "forward"
    WITHHOLD = "withhold"
    REJECT = "reject"


@unchanging
class Verdict:
    """The judgement for one recipient.

    ``decision`` is what the policy wanted, ``action``, ``edits`` and ``notify`` what is done (in observe mode
    these say: nothing). ``notify``: the NOTIFY keywords to send, only meaningful when ``notify_changed``;
    otherwise the parameters go on as received. ``recorded`` is None when the ledger gets no row.
    """

    recipient: Recipient
    direction: Direction
    decision: Decision
    action: Action
    reason: str
    edits: tuple[HeaderEdit, ...] = ()
    notify: frozenset[str] = frozenset()
    notify_changed: bool = False
    recorded: RecordedRecipient | None = None


@unchanging
class Delivery:
    """One transaction with the next hop: these recipients get the message with these edits."""

    verdicts: tuple[Verdict, ...]
    edits: tuple[HeaderEdit, ...]

    @property
    def envelope_changed(self) -> bool:
        """True when a RCPT must be given anew with another NOTIFY."""
        return any(v.notify_changed for v in self.verdicts)


@unchanging
class Judgement:
    """The whole answer for one message.

    ``verdicts`` in the order of RCPT. ``deliveries``: as few transactions as there are outcomes, empty when all
    is withheld or rejected. ``rejection``: the text of a 550 5.7.1 when every recipient is rejected. ``record``: what
    the ledger must hold before the final dot, None when nothing. ``counts``: messages that leave no row, by
    direction and kind. ``unrecorded``: the Message-ID of mail that would have a row but for ``record: none``, so that its
    answers can be told from those to nobody knows what. ``mint``: some edit inserts a Message-ID whose value the ledger mints
    (:func:`kaifu.proxy.minting.with_message_id`).
    """

    verdicts: tuple[Verdict, ...]
    deliveries: tuple[Delivery, ...]
    rejection: str | None
    record: Record | None
    counts: tuple[tuple[Direction, str], ...] = ()
    mint: bool = False
    unrecorded: str | None = None

    def needs(self, asked: Query) -> bool:
        """Would the answers to ``asked`` have mattered, even if nothing is recorded? Whoever cannot be looked up may have refused."""
        adds = any(not isinstance(edit, Delete) for delivery in self.deliveries for edit in delivery.edits)
        return bool(asked.message_ids or asked.envids or (asked.consent_of and adds))

    @property
    def withheld(self) -> tuple[Verdict, ...]:
        return tuple(v for v in self.verdicts if v.action is Action.WITHHOLD)


def deliveries_of(verdicts: Iterable[Verdict]) -> tuple[Delivery, ...]:
    """As few transactions as there are different header blocks to send; NOTIFY may differ within one."""
    groups: dict[tuple[HeaderEdit, ...], list[Verdict]] = {}
    known: dict[int, list[Verdict]] = {}  # edits are many only where recipients share them: compared once, then by id
    for verdict in verdicts:
        if verdict.action is Action.FORWARD:
            group = known.get(id(verdict.edits))
            if group is None:
                group = known[id(verdict.edits)] = groups.setdefault(verdict.edits, [])
            group.append(verdict)
    return tuple([Delivery(tuple(group), edits) for edits, group in groups.items()])


def also(reason: str, notes: Iterable[str]) -> str:
    """A reason with what else must be said, still one sentence."""
    return "; ".join((reason.removesuffix("."), *notes)) + "."


def without_additions(judgement: Judgement, *, one_header: bool = False) -> Judgement:
    """The judgement when the ledger cannot be used and mail must pass all the same.

    Nothing is added, strips happen, nothing is recorded, and nothing is withheld, because a receipt may only vanish
    into a ledger. ``one_header``: the host has one header for all, so what is stripped for one is stripped for all.
    """
    strips = [verdict.decision.request is Request.STRIP for verdict in judgement.verdicts]
    if one_header:
        strips = [any(strips)] * len(strips)
    verdicts = tuple(map(_without_addition, judgement.verdicts, strips))
    return replace(judgement, verdicts=verdicts, deliveries=deliveries_of(verdicts), record=None, mint=False)


def _without_addition(verdict: Verdict, strips: bool) -> Verdict:
    edits = tuple(edit for edit in verdict.edits if strips and isinstance(edit, Delete))
    adds = verdict.notify_changed and "SUCCESS" in verdict.notify
    action = Action.FORWARD if verdict.action is Action.WITHHOLD else verdict.action
    changed = edits != verdict.edits or adds or action is not verdict.action
    return replace(
        verdict,
        action=action,
        edits=edits,
        notify=frozenset() if adds else verdict.notify,
        notify_changed=verdict.notify_changed and not adds,
        recorded=None,
        reason=also(verdict.reason, ["not done because the ledger cannot be used"]) if changed else verdict.reason,
    )
