"""The figures of the overview: from tallies per quarter of an hour to what stands on the screen.

Called by :mod:`kaifu.tui.screen_overview` with what :meth:`kaifu.proxy.ledger_desk.Desk.tallies` gives. Pure: no widget, no clock, no ledger.
Days and hours are those of the zone of the settings. Who was not asked is in no figure. Confirmations are counted per grade and never
added up without saying so; one mailbox of a list that answered is no confirmation by the recipient.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime, timedelta, tzinfo

from kaifu.proxy.ledger import Grade
from kaifu.proxy.ledger_desk import Tally
from kaifu.proxy.ledger_states import State

DAYS = 30


@dataclass(slots=True)
class Figures:
    """How many recipients were asked, and what of them is known. ``asked`` is the sum of the others."""

    authenticated: int = 0
    claimed: int = 0
    denied: int = 0
    failed: int = 0
    no_answer: int = 0

    @property
    def confirmed(self) -> int:
        """At any grade."""
        return self.authenticated + self.claimed

    @property
    def asked(self) -> int:
        return self.confirmed + self.denied + self.failed + self.no_answer

    def add(self, tally: Tally) -> None:
        """Count recipients who were asked; others may have answered too, and are in no figure."""
        if not tally.asked:
            return
        if tally.state in (State.DISPLAYED, State.REPLIED):
            if tally.grade == Grade.AUTHENTICATED:
                self.authenticated += tally.n
            else:
                self.claimed += tally.n
        elif tally.state in (State.DENIED, State.DELETED):
            self.denied += tally.n
        elif tally.state == State.FAILED:
            self.failed += tally.n
        else:
            self.no_answer += tally.n

    def __add__(self, other: Figures) -> Figures:
        return Figures(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))


def _moment(tally: Tally, zone: tzinfo) -> datetime:
    return datetime.fromtimestamp(tally.at // 1_000_000, zone)


def per_day(tallies: Iterable[Tally], zone: tzinfo) -> dict[date, Figures]:
    """The figures of each day that has any."""
    found: dict[date, Figures] = {}
    for tally in tallies:
        found.setdefault(_moment(tally, zone).date(), Figures()).add(tally)
    return found


def last_days(found: dict[date, Figures], today: date, days: int = DAYS) -> list[Figures]:
    """The days up to today, oldest first; those without mail too."""
    return [found.get(today - timedelta(days=back), Figures()) for back in range(days - 1, -1, -1)]


def weekday_hours(tallies: Iterable[Tally], zone: tzinfo) -> list[list[int]]:
    """How many were asked, by weekday (Monday first) and hour of the day."""
    picture = [[0] * 24 for _ in range(7)]
    for tally in tallies:
        if tally.asked:
            moment = _moment(tally, zone)
            picture[moment.weekday()][moment.hour] += tally.n
    return picture


def total(some: Iterable[Figures]) -> Figures:
    """All of them together."""
    return sum(some, Figures())


def percent(part: int, whole: int) -> str:
    """A share in whole percent; what is not nothing is never shown as 0 %, what is not all never as 100 %."""
    if not whole:
        return ""
    if part and part * 100 < whole:
        return "<1 %"
    share = (part * 200 + whole) // (whole * 2)
    if part < whole:
        share = min(share, 99)
    return f"{share} %"


LEVELS = {"unicode": " ░▒▓█", "ascii": " .:*#"}
"""Nothing, and four shades; also: the rest of a bar (1), and what of it is confirmed (4)."""


def shades(picture: Sequence[Sequence[int]], marks: str) -> list[str]:
    """A picture of numbers, a character each; the highest number has the darkest, nothing but 0 has none."""
    levels = LEVELS[marks]
    most = max((number for row in picture for number in row), default=0)
    steps = len(levels) - 1
    return ["".join(levels[-(-number * steps // most)] if number else levels[0] for number in row) for row in picture]


def bars(days: Sequence[Figures], height: int, width: int, marks: str) -> list[str]:
    """A bar per day, ``width`` columns each: asked, and darker from below what of it is confirmed. Rows from the top.

    A day with any asked shows at least one light row, one with any confirmed at least one dark row.
    """
    levels = LEVELS[marks]
    most = max((day.asked for day in days), default=0)
    rows = []
    for level in range(height, 0, -1):
        row = ""
        for day in days:
            asked = -(-day.asked * height // most) if most else 0
            confirmed = -(-day.confirmed * height // most) if most else 0
            row += (levels[4] if level <= confirmed else levels[1] if level <= asked else levels[0]) * width
        rows.append(row)
    return rows
