"""The state machine of one recipient: what all evidence about it amounts to, whatever its order.

Called by :mod:`kaifu.proxy.ledger_answers` for each piece of evidence and by everything that shows a state. Pure.

Three steps, each of which looks at values only:

1. :func:`counts`: does this piece count? If its verdict is ``matched``, or ``other-address`` while a person has paired the two
   addresses; and, if it is an answer, if its grade is at least the one that the rule asked for (``confirm``). A delivery
   report answers nothing and confirms nothing, so it counts at any grade.
2. :func:`standing_of` each piece that counts, and :func:`join` of them all. A :class:`Standing` is a point of a join-semilattice:
   the join is commutative, associative and idempotent, so evidence may arrive in any order and any number of times and
   gives the same standing. Whether a piece was seen before or came late is no part of it.
3. :func:`state_of` the standing, the request, the outcome and the number of mailboxes that answered: one word.

What a person takes back (a pairing) makes pieces count no more: the standing is then the join of what is left. Which
pieces count depends on what stands in the end, not on when it was said.

Precedence. Levels that the text below writes side by side are ordered all the same, so that the join is one value:

- transport: unknown < delayed < relayed < expanded < delivered; *failed* stands beside it, both are kept, and so does
  *expanded*, because a list stays one whatever came later;
- handling: none < dispatched < processed < mdn-failed < denied < deleted < displayed < replied, each claimed < authenticated:
  the grade is that of the strongest handling;
- a recipient is a *list* once a report says ``expanded`` or two mailboxes answered. What one of many did is not
  what the recipient did: then only transport and request make the state.

Times are UTC microseconds since 1970; of several, the earliest is kept. Nothing here fails: a value that is no
known disposition or action moves nothing.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from .ledger import EvidenceKind, Grade, Outcome, RequestState, Verdict


class Transport(StrEnum):
    """How far delivery reports say that a message came (RFC 3464 2.3.3). ``failed`` is kept beside it."""

    UNKNOWN = "unknown"
    DELAYED = "delayed"
    RELAYED = "relayed"
    EXPANDED = "expanded"
    DELIVERED = "delivered"


class Handling(StrEnum):
    """What receipts (RFC 8098 3.2.6; RFC 2298 for denied and failed) and replies say was done with a message."""

    NONE = "none"
    DISPATCHED = "dispatched"
    PROCESSED = "processed"
    MDN_FAILED = "mdn-failed"
    DENIED = "denied"
    DELETED = "deleted"
    DISPLAYED = "displayed"
    REPLIED = "replied"


class State(StrEnum):
    """One word per recipient, for people and scripts."""

    REPLIED = "replied"
    DISPLAYED = "displayed"
    DELETED = "deleted"
    DENIED = "denied"
    FAILED = "failed"
    DELIVERED = "delivered"
    WAITING = "waiting"
    NOT_ASKED = "not-asked"


_TRANSPORT_RANK = {value: rank for rank, value in enumerate(Transport)}
_HANDLING_RANK = {value: rank for rank, value in enumerate(Handling)}
_GRADE_RANK: dict[str | None, int] = {None: 0} | {value.value: rank for rank, value in enumerate(Grade, 1)}


class Standing(NamedTuple):
    """What the evidence about one recipient amounts to. ``…_at``: the earliest that says so, None when none does.

    ``grade``: how far the strongest handling is believed, None without one. ``expanded``: 1 once a report said so.
    """

    transport: str = Transport.UNKNOWN.value
    handling: str = Handling.NONE.value
    grade: str | None = None
    expanded: int = 0
    failed_at: int | None = None
    delivered_at: int | None = None
    displayed_at: int | None = None
    replied_at: int | None = None


NOTHING = Standing()


def _earliest(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return one if other is None else other
    return min(one, other)


def _rank(standing: Standing) -> tuple[int, int]:
    return _HANDLING_RANK[Handling(standing.handling)], _GRADE_RANK[standing.grade]


def join(one: Standing, other: Standing) -> Standing:
    """The standing that both together give."""
    handled = max(one, other, key=_rank)
    return Standing(
        max(one.transport, other.transport, key=lambda value: _TRANSPORT_RANK[Transport(value)]),
        handled.handling,
        handled.grade,
        max(one.expanded, other.expanded),
        *(_earliest(a, b) for a, b in zip(one[4:], other[4:], strict=True)),
    )


def is_stronger(one: Standing, other: Standing) -> bool:
    """True when one says more about the handling, or the same and is believed further."""
    return _rank(one) > _rank(other)


_ANSWERS = (EvidenceKind.MDN, EvidenceKind.REPLY)


def counts(
    kind: str, verdict: str, grade: str | None = Grade.CLAIMED, *, paired: bool = False, confirm: str | None = None
) -> bool:
    """Does a piece of evidence count? ``paired``: a person said that this address answers for the recipient.

    ``confirm``: the grade that an answer must have; None: any.
    """
    if verdict != Verdict.MATCHED and not (verdict == Verdict.OTHER_ADDRESS and paired):
        return False
    return kind == EvidenceKind.DSN or (kind in _ANSWERS and _GRADE_RANK[grade] >= _GRADE_RANK[confirm])


_MDN_HANDLING = {
    "displayed": Handling.DISPLAYED,
    "deleted": Handling.DELETED,
    "denied": Handling.DENIED,
    "failed": Handling.MDN_FAILED,
    "dispatched": Handling.DISPATCHED,
    "processed": Handling.PROCESSED,
}
_DSN_TRANSPORT = {value.value: value for value in Transport if value is not Transport.UNKNOWN}


def standing_of(kind: str, value: str, at: int, grade: str | None = Grade.CLAIMED.value) -> Standing:
    """What one piece of evidence says that counts and arrived ``at``."""
    if kind == EvidenceKind.MDN and value in _MDN_HANDLING:
        handling = _MDN_HANDLING[value]
        return Standing(
            handling=handling.value, grade=grade, displayed_at=at if handling is Handling.DISPLAYED else None
        )
    if kind == EvidenceKind.DSN and value == "failed":
        return Standing(failed_at=at)
    if kind == EvidenceKind.DSN and value in _DSN_TRANSPORT:
        transport = _DSN_TRANSPORT[value]
        return Standing(
            transport=transport.value,
            expanded=int(transport is Transport.EXPANDED),
            delivered_at=at if transport is Transport.DELIVERED else None,
        )
    if kind == EvidenceKind.REPLY:
        return Standing(handling=Handling.REPLIED.value, grade=grade, replied_at=at)
    return NOTHING


def is_answer(standing: Standing) -> bool:
    """True when a mailbox answered: what programs did on the way (dispatched, processed, failed) is no answer."""
    return _HANDLING_RANK[Handling(standing.handling)] >= _HANDLING_RANK[Handling.DENIED]


def is_list(expanded: int, answering: int) -> bool:
    """True when more than one mailbox stands behind the address. ``answering``: how many have answered."""
    return bool(expanded) or answering > 1


_BY_HANDLING = {
    Handling.REPLIED: State.REPLIED,
    Handling.DISPLAYED: State.DISPLAYED,
    Handling.DELETED: State.DELETED,
    Handling.DENIED: State.DENIED,
    Handling.MDN_FAILED: State.FAILED,
}


def state_of(request: str, standing: Standing, outcome: str, answering: int = 0) -> str:
    """The one word: the strongest handling first, except that of a list, then failed before delivered.

    A message that the next hop refused for good never travelled, so it has failed as well. ``answering``: how many
    mailboxes have answered.
    """
    by_handling = _BY_HANDLING.get(Handling(standing.handling))
    if by_handling is not None and not is_list(standing.expanded, answering):
        return by_handling.value
    if standing.failed_at is not None or outcome == Outcome.REFUSED:
        return State.FAILED.value
    if standing.transport == Transport.DELIVERED:
        return State.DELIVERED.value
    asked = request in (RequestState.KEPT, RequestState.ADDED)
    return (State.WAITING if asked else State.NOT_ASKED).value


def transport_shown(standing: Standing) -> str:
    """Transport as one word or two: ``failed`` is shown beside how far the message came."""
    if standing.failed_at is None:
        return standing.transport
    return "failed" if standing.transport == Transport.UNKNOWN else f"{standing.transport}, failed"


def outcome_after(before: str, now: str) -> str:
    """The outcome after one more answer: who has the message has it, anything else gives way to the newer one."""
    return before if before == Outcome.ACCEPTED else now


_FINAL = (Outcome.ACCEPTED.value, Outcome.WITHHELD.value)


def answered(outcomes: list[str]) -> bool:
    """True when every recipient is taken, so that the client has its 250."""
    return all(outcome in _FINAL for outcome in outcomes)


MARKS = {"unicode": ("–", "✓", "✓✓", "✗"), "ascii": ("-", "v", "vv", "x")}

_WORDS = {
    State.REPLIED: "replied",
    State.DISPLAYED: "displayed",
    State.DELETED: "deleted unread",
    State.DENIED: "denied",
    State.FAILED: "failed",
    State.DELIVERED: "delivered, no answer",
    State.WAITING: "no answer",
    State.NOT_ASKED: "not asked",
}


def mark(
    state: str,
    request: str = RequestState.KEPT.value,
    *,
    style: str = "unicode",
    grade: str | None = None,
    answered: int | None = None,
) -> tuple[str, str]:
    """The mark of a state and the words beside it, for example ``("✓✓", "displayed (claimed)")``.

    No receipt does not mean unread: the words are "no answer". ``grade``: of the handling, if that makes the state.
    ``answered``: of a list, how many answered; None for a single mailbox.
    """
    sign, words = _mark(State(state), request, style)
    if answered is not None:
        told = f"{answered} answered" if answered else f"{words} (list)"
        return sign, f"{words}, {told}" if answered and state == State.FAILED else told
    return sign, f"{words} ({grade})" if grade is not None and state in GRADED else words


GRADED = (State.REPLIED, State.DISPLAYED, State.DELETED, State.DENIED)
"""States that an answer makes: they have its grade."""


def _mark(value: State, request: str, style: str) -> tuple[str, str]:
    none, asked, read, bad = MARKS[style]
    if value in (State.DISPLAYED, State.REPLIED):
        return read, _WORDS[value]
    if value in (State.FAILED, State.DENIED, State.DELETED):
        return bad, _WORDS[value]
    if value is State.NOT_ASKED or request not in (RequestState.KEPT, RequestState.ADDED):
        return none, "delivered" if value is State.DELIVERED else _WORDS[State.NOT_ASKED]
    return asked, _WORDS[value]
