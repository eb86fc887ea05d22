"""What needs a person: from what the ledger knows and what relay and milter leave of their health, to sentences, the worst first.

Called by :mod:`kaifu.tui.screen_overview`. Pure but for the time of day in the sentences, which the caller gives.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from kaifu.proxy.health import Health, Verified
from kaifu.proxy.ledger_desk import Attention
from kaifu.proxy.settings import Anchors

from .lines import Told
from .look import Marks
from .words import say, say_many

LONG_WITHOUT_ANCHOR = timedelta(days=2)
"""The timer that is shipped seals daily, so one that is missed is not yet a matter for a person."""
LONG_WITHOUT_VERIFYING = timedelta(days=35)


@dataclass(frozen=True, slots=True)
class Need:
    """One thing. ``urgent``: mail or the record suffers now. ``screen``: the mode in which something can be done, if any."""

    sentence: str
    urgent: bool = False
    screen: str = ""

    def told(self, marks: Marks) -> Told:
        """As it stands in the list."""
        return Told(self.sentence, label="!" if self.urgent else "-" if marks == "ascii" else "•")


@dataclass(frozen=True, slots=True)
class Situation:
    """What is looked at. ``anchors``: of the settings, None when there are no settings. ``now`` has the zone of the sentences. ``entries_before``: the most
    entries that this ledger was seen to have."""

    now: datetime
    attention: Attention
    health: tuple[Health, ...] = ()
    verified: Verified | None = None
    anchors: Anchors | None = None
    entries_before: int = 0


def needs(seen: Situation) -> list[Need]:
    """Everything, what is urgent first."""
    found = [*_shorter(seen), *_verified(seen), *_hosts(seen), *_loose(seen.attention), *_anchors(seen)]
    return sorted(found, key=lambda need: not need.urgent)


def _shorter(seen: Situation) -> Iterator[Need]:
    """Entries only ever come: a ledger that has fewer was put back to an older copy, or cut."""
    if seen.attention.entries < seen.entries_before:
        sentence = say(
            "The ledger has {n} entries, and had {before}: it was put back to an older copy, or cut",
            n=f"{seen.attention.entries:,}",
            before=f"{seen.entries_before:,}",
        )
        yield Need(sentence, urgent=True, screen="integrity")


def _hosts(seen: Situation) -> Iterator[Need]:
    for one in seen.health:
        name = _name(one)
        if one.stopped:
            yield Need(say("{name} was stopped at {when}", name=name, when=_when(one.at, seen)))
            continue
        if one.stale:
            yield Need(
                say("{name} has not been heard of since {when}", name=name, when=_when(one.at, seen)), urgent=True
            )
            continue
        if one.ledger is not None:
            sentence = say("{name} cannot use the ledger since {when}", name=name, when=_when(one.ledger.since, seen))
            yield Need(sentence, urgent=True)
        if (hop := one.next_hop) is not None and hop.reachable is False and hop.since is not None:
            sentence = say(
                "The next hop {hop} cannot be reached since {when}", hop=hop.address, when=_when(hop.since, seen)
            )
            yield Need(sentence, urgent=True)
        if (rejected := one.policy.rejected) is not None:
            sentence = say(
                "The policy file was rejected at {when}; the one before is in force", when=_when(rejected.at, seen)
            )
            yield Need(sentence, urgent=True, screen="policy")


def _name(one: Health) -> str:
    if one.host == "milter":
        return say("The milter")
    return say("The relay") if one.worker == 1 else say("Worker {n} of the relay", n=one.worker)


def _when(at: int, seen: Situation) -> str:
    """With the date when it is not today's."""
    moment = datetime.fromtimestamp(at / 1e6, seen.now.tzinfo)
    return moment.strftime("%H:%M" if moment.date() == seen.now.date() else "%Y-%m-%d %H:%M")


def _verified(seen: Situation) -> Iterator[Need]:
    if (last := seen.verified) is None:
        return
    false = sum(not anchor.holds for anchor in last.anchors)
    if not last.whole and last.problems <= false:
        sentence = say(
            "An anchor did not fit the ledger at {when}: it is false, or the ledger was rewritten",
            when=_when(last.at, seen),
        )
        yield Need(sentence, urgent=True, screen="integrity")
    elif not last.whole:
        yield Need(
            say("The ledger did not verify at {when}", when=_when(last.at, seen)), urgent=True, screen="integrity"
        )
    elif (
        days := (seen.now - datetime.fromtimestamp(last.at / 1e6, seen.now.tzinfo)).days
    ) >= LONG_WITHOUT_VERIFYING.days:
        yield Need(say("The ledger was verified {n} days ago", n=days), screen="integrity")


def _loose(attention: Attention) -> Iterator[Need]:
    if n := attention.unpaired:
        yield Need(
            say_many("{n} answer came from an unknown address", "{n} answers came from unknown addresses", n),
            screen="receipts",
        )
    if n := attention.unmatched:
        yield Need(
            say_many("{n} receipt matches no message of ours", "{n} receipts match no message of ours", n),
            screen="integrity",
        )


def _anchors(seen: Situation) -> Iterator[Need]:
    since = seen.attention.oldest_unanchored_at
    if seen.anchors == Anchors() and not seen.attention.anchors:
        yield Need(
            say("No anchor is kept elsewhere: a ledger rewritten as a whole could not be told"), screen="integrity"
        )
    elif (
        since is not None
        and (gone := seen.now - datetime.fromtimestamp(since / 1e6, seen.now.tzinfo)) >= LONG_WITHOUT_ANCHOR
    ):
        sentence = say("What is on record is in no anchor for {n} days", n=gone.days)
        yield Need(sentence, screen="integrity")
