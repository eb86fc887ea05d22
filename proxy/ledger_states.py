"""The state machine of one recipient: what all evidence about it amounts to, whatever its order.

Called by :mod:`kaifu.proxy.ledger_derive` for each piece of evidence and by everything that shows a state. Pure.

A :class:`Standing` is a point of a join-semilattice: :func:`join` is commutative, associative and idempotent, so
evidence may arrive in any order and any number of times and gives the same standing. Levels that the text below
writes side by side are ordered all the same, so that the join is one value:

- transport: unknown < delayed < relayed < expanded < delivered; *failed* stands beside it, both are kept;
- handling: none < dispatched < processed < mdn-failed < denied < deleted < displayed < replied.

Times are UTC microseconds since 1970; of several, the earliest is kept. Nothing here fails: a value that is no
known disposition or action moves nothing.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from .ledger import EvidenceKind, Outcome, RequestState, Verdict


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


class Standing(NamedTuple):
    """What the evidence about one recipient amounts to. ``…_at``: the earliest that says so, None when none does."""

    transport: str = Transport.UNKNOWN.value
    handling: str = Handling.NONE.value
    failed_at: int | None = None
    delivered_at: int | None = None
    displayed_at: int | None = None
    replied_at: int | None = None


NOTHING = Standing()


def _earliest(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return one if other is None else other
    return min(one, other)


def join(one: Standing, other: Standing) -> Standing:
    """The standing that both together give."""
    return Standing(
        max(one.transport, other.transport, key=lambda value: _TRANSPORT_RANK[Transport(value)]),
        max(one.handling, other.handling, key=lambda value: _HANDLING_RANK[Handling(value)]),
        *(_earliest(a, b) for a, b in zip(one[2:], other[2:], strict=True)),
    )


_MDN_HANDLING = {
    "displayed": Handling.DISPLAYED,
    "deleted": Handling.DELETED,
    "denied": Handling.DENIED,
    "failed": Handling.MDN_FAILED,
    "dispatched": Handling.DISPATCHED,
    "processed": Handling.PROCESSED,
}
_DSN_TRANSPORT = {value.value: value for value in Transport if value is not Transport.UNKNOWN}


def standing_of(kind: str, verdict: str, value: str, at: int) -> Standing:
    """What one piece of evidence says that arrived ``at``. Only a matched one says anything."""
    if verdict != Verdict.MATCHED:
        return NOTHING
    if kind == EvidenceKind.MDN and value in _MDN_HANDLING:
        handling = _MDN_HANDLING[value]
        return Standing(handling=handling.value, displayed_at=at if handling is Handling.DISPLAYED else None)
    if kind == EvidenceKind.DSN and value == "failed":
        return Standing(failed_at=at)
    if kind == EvidenceKind.DSN and value in _DSN_TRANSPORT:
        transport = _DSN_TRANSPORT[value]
        return Standing(transport=transport.value, delivered_at=at if transport is Transport.DELIVERED else None)
    if kind == EvidenceKind.REPLY:
        return Standing(handling=Handling.REPLIED.value, replied_at=at)
    return NOTHING


_BY_HANDLING = {
    Handling.REPLIED: State.REPLIED,
    Handling.DISPLAYED: State.DISPLAYED,
    Handling.DELETED: State.DELETED,
    Handling.DENIED: State.DENIED,
    Handling.MDN_FAILED: State.FAILED,
}


def state_of(request: str, standing: Standing, outcome: str) -> str:
    """The one word: the strongest handling first, then failed before delivered.

    A message that the next hop refused for good never travelled, so it has failed as well.
    """
    by_handling = _BY_HANDLING.get(Handling(standing.handling))
    if by_handling is not None:
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


def mark(state: str, request: str = RequestState.KEPT.value, *, style: str = "unicode") -> tuple[str, str]:
    """The mark of a state and the words beside it, for example ``("✓✓", "displayed")``.

    No receipt does not mean unread: the words are "no answer".
    """
    none, asked, read, bad = MARKS[style]
    value = State(state)
    if value in (State.DISPLAYED, State.REPLIED):
        return read, _WORDS[value]
    if value in (State.FAILED, State.DENIED, State.DELETED):
        return bad, _WORDS[value]
    if value is State.NOT_ASKED or request not in (RequestState.KEPT, RequestState.ADDED):
        return none, "delivered" if value is State.DELIVERED else _WORDS[State.NOT_ASKED]
    return asked, _WORDS[value]
