"""What needs a person: from what the ledger knows and what relay and milter leave of their health, to sentences, the worst first.

Called by :mod:`kaifu.tui.screen_overview`. Pure but for the time of day in the sentences, which the caller gives.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from kaifu.proxy.ledger_desk import Attention
from kaifu.proxy.settings import Anchors

from .lines import Told
from .look import Marks
from .words import say, say_many

LONG_WITHOUT_ANCHOR = timedelta(days=2)
"""The timer that is shipped seals daily, so one that is missed is not yet a matter for a person."""


@dataclass(frozen=True, slots=True)
class Need:
    """One thing. ``urgent``: mail or the record suffers now. ``screen``: the mode in which something can be done, if any."""

    sentence: str
    urgent: bool = False
    screen: str = ""

    def told(self, marks: Marks) -> Told:
        """As it stands in the list."""
        return Told(self.sentence, label="!" if self.urgent else "-" if marks == "ascii" else "•")


def needs(attention: Attention, now: datetime, *, anchors: Anchors | None = None) -> list[Need]:
    """Everything, what is urgent first. ``anchors``: of the settings, None when there are no settings."""
    return sorted([*_loose(attention), *_anchors(anchors, attention, now)], key=lambda need: not need.urgent)


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


def _anchors(anchors: Anchors | None, attention: Attention, now: datetime) -> Iterator[Need]:
    if anchors == Anchors():
        yield Need(
            say("No anchor is kept elsewhere: a ledger rewritten as a whole could not be told"), screen="integrity"
        )
    elif attention.oldest_unanchored_at is not None:
        since = datetime.fromtimestamp(attention.oldest_unanchored_at / 1e6, now.tzinfo)
        if now - since >= LONG_WITHOUT_ANCHOR:
            days = (now - since).days
            yield Need(
                say_many(
                    "What is on record is in no anchor for {n} day",
                    "What is on record is in no anchor for {n} days",
                    days,
                ),
                screen="integrity",
            )
