"""What the line above the list of receipts says: the order, how far a search is, how many rows there are and how many are new. Pure."""

from __future__ import annotations

from datetime import tzinfo

from kaifu.proxy.ledger_desk import Order
from kaifu.proxy.ledger_shown import local

from .filterline import Line
from .receipts_feed import MOST_NEWS
from .receipts_list import Receipts
from .words import later, say, say_many

AT_FIRST = 10_000
"""That there are so many is told at once; counting then goes on, while nobody asks anything else."""
MOST_COUNTED = 1_000_000
_SOON = 100
"""Fewer are told in such steps, where counting takes long."""
_ORDERS = {
    (Order.TIME, True): later("newest first"),
    (Order.TIME, False): later("oldest first"),
    (Order.TO, True): later("by recipient"),
    (Order.TO, False): later("by recipient, from the end"),
    (Order.FROM, True): later("by sender"),
    (Order.FROM, False): later("by sender, from the end"),
    (Order.STATE, True): later("by state"),
    (Order.STATE, False): later("by state, from the end"),
    (Order.RULE, True): later("by rule"),
    (Order.RULE, False): later("by rule, from the end"),
}


def order_of(shown: Line) -> str:
    """In which order."""
    return say(_ORDERS[shown.order, shown.newest_first])


def searching(feed: Receipts, shown: Line, zone: tzinfo) -> str:
    """How far a search that takes long has come, or that rows which are looked for are on their way; empty when nothing is waited for."""
    if feed.searching is None:
        return say("reading") if feed.loaded and feed.waiting else ""
    day = local(feed.searching.at, zone)[:10] if shown.order is Order.TIME else ""
    if feed.stopped:
        return say("stopped at {day}, r goes on", day=day) if day else say("stopped, r goes on")
    if not day:
        return say("searching, esc stops")
    if feed.down == shown.newest_first:
        return say("back to {day}, esc stops", day=day)
    return say("up to {day}, esc stops", day=day)


def news(number: int, newest_first: bool) -> str:
    """How many rows are new where nobody looks, and the key that leads to them."""
    if not number:
        return ""
    if newest_first:
        return (
            say("{n}+ new: Home", n=number)
            if number >= MOST_NEWS
            else say_many("{n} new: Home", "{n} new: Home", number)
        )
    return say("{n}+ new: End", n=number) if number >= MOST_NEWS else say_many("{n} new: End", "{n} new: End", number)


def how_many(total: int | None, counted: int) -> str:
    """How many rows there are, or that there are at least so many. ``total``: None until all are counted."""
    if total is not None and total < MOST_COUNTED:
        return say_many("{n} row", "{n} rows", total)
    step = AT_FIRST if counted >= AT_FIRST else _SOON
    least = counted // step * step
    return say("at least {n} rows", n=f"{least:,}") if least else ""
