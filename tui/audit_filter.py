"""Which acts of the audit trail are shown: from what was typed into a form to a filter, and to a line that says which.

Called by the screen Integrity. Pure, without Textual. Raises :class:`~kaifu.tui.attempts.NotDoneError` with a sentence on what it does not understand.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo

from kaifu.proxy.ledger_cli import moment
from kaifu.proxy.ledger_desk import WHAT, ActFilter
from kaifu.proxy.ledger_shown import local

from .attempts import NotDoneError
from .words import later, say

_FORMS = later("a date (2026-11-21), a time (2026-11-21T09:30) or an age (30m, 12h, 7d, 2w)")


def wanted(given: Mapping[str, str], zone: tzinfo, now: int) -> ActFilter:
    """``what`` (words with commas between), ``actor``, ``since``, ``until``, ``message``: each may be empty."""
    what = tuple(word.strip() for word in given["what"].replace("、", ",").split(",") if word.strip())
    for word in what:
        if word not in WHAT:
            raise NotDoneError(say('"{word}" is none of {words}', word=word, words=", ".join(WHAT)))
    message = given["message"].removeprefix("#")
    if message and not (message.isascii() and message.isdigit() and len(message) < 19):
        raise NotDoneError(say('"{text}" is no number of a message', text=message))
    return ActFilter(
        since=_time(given["since"], zone, now),
        until=_time(given["until"], zone, now, end=True),
        what=what,
        actor=given["actor"] or None,
        message=int(message) if message else None,
    )


def _time(text: str, zone: tzinfo, now: int, *, end: bool = False) -> int | None:
    if not text:
        return None
    try:
        return moment(text, zone, end=end, now=datetime.fromtimestamp(now / 1e6, UTC))
    except ValueError:
        raise NotDoneError(say('"{text}" is no time; give {forms}', text=text, forms=say(_FORMS))) from None


def fields_of(shown: ActFilter, zone: tzinfo) -> dict[str, str]:
    """What to write into the form so that it means this filter."""
    return {
        "what": ", ".join(shown.what),
        "actor": shown.actor or "",
        "since": "" if shown.since is None else local(shown.since, zone).replace(" ", "T"),
        "until": "" if shown.until is None else local(shown.until, zone).replace(" ", "T"),
        "message": "" if shown.message is None else str(shown.message),
    }


def described(shown: ActFilter, zone: tzinfo) -> str:
    """The filter in a line, for people; empty when it is none."""
    labels = {
        "what": say("what: {value}", value="{value}"),
        "actor": say("who: {value}", value="{value}"),
        "since": say("since {value}", value="{value}"),
        "until": say("until {value}", value="{value}"),
        "message": say("message {value}", value="{value}"),
    }
    given = fields_of(shown, zone)
    return "; ".join(labels[name].replace("{value}", value) for name, value in given.items() if value)
