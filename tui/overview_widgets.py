"""What the overview shows figures with: a table, a bar per day, a picture of the week, and the newest answers.

Each takes figures (:mod:`kaifu.tui.overview_figures`) and draws them anew; none asks the ledger.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta, tzinfo
from typing import Any

from rich.cells import cell_len
from rich.text import Text
from textual.events import Resize
from textual.widgets import Static

from kaifu.proxy.ledger import EvidenceKind
from kaifu.proxy.ledger_desk import Newest as Answer
from kaifu.proxy.ledger_desk import Tally
from kaifu.proxy.ledger_shown import local
from kaifu.proxy.ledger_states import State

from .line_view import LineView
from .lines import Told, laid_out
from .look import Marks, fitted
from .overview_figures import DAYS, Figures, bars, last_days, percent, shades, total, weekday_hours
from .statewords import graded, sign_and_words
from .words import later, say

_NOTHING = Figures()
_SHARE = 6
"""Columns of a share, as `100 %` with a space before it."""
_DAYS_OF_WEEK = (later("Mon"), later("Tue"), later("Wed"), later("Thu"), later("Fri"), later("Sat"), later("Sun"))
_ROWS = (
    (later("asked"), "asked"),
    (later("confirmed"), "confirmed"),
    (later("  authenticated"), "authenticated"),
    (later("  claimed"), "claimed"),
    (later("denied, deleted unread"), "denied"),
    (later("failed"), "failed"),
    (later("no answer"), "no_answer"),
)


class Drawn(Static):
    """Something that is drawn from figures, anew whenever its size changes."""

    DEFAULT_CSS = "Drawn { height: 1fr; }"

    def __init__(self, marks: Marks, **more: Any) -> None:
        super().__init__("", markup=False, **more)
        self.marks = marks

    def draw(self) -> Text:
        """What stands there, for the size that there is."""
        raise NotImplementedError

    def redraw(self) -> None:
        """Draw it."""
        self.update(self.draw())

    def on_resize(self, _: Resize) -> None:
        self.redraw()


class FigureTable(Drawn):
    """Today and the last 30 days beside each other, with shares of what was asked."""

    def __init__(self, marks: Marks, **more: Any) -> None:
        super().__init__(marks, **more)
        self.columns: tuple[Figures | None, Figures | None] = (None, None)

    def show(self, found: Mapping[date, Figures], today: date) -> None:
        """Show the figures of these days."""
        self.columns = found.get(today, _NOTHING), total(last_days(dict(found), today))
        self.redraw()

    def draw(self) -> Text:
        heads = say("today"), say("{n} days", n=DAYS)
        width = max(7, *(len(f"{figures.asked:,}") + 2 for figures in self.columns if figures is not None), 0)
        words = max(1, self.size.width - 2 * (width + _SHARE))
        lines = [Text(" " * words + "".join(_right(head, width) + " " * _SHARE for head in heads), "bold")]
        lines += [self._line(fitted(say(row), words, self.marks), name, width) for row, name in _ROWS]
        return Text("\n").join(lines[: max(1, self.size.height)])

    def _line(self, words: str, name: str, width: int) -> Text:
        line = Text(words)
        for figures in self.columns:
            number = 0 if figures is None else getattr(figures, name)
            share = "" if figures is None or name == "asked" or not number else percent(number, figures.asked)
            line.append(_right("" if figures is None else f"{number:,}", width), "bold" if number else "dim")
            line.append(_right(share, _SHARE), "dim")
        return line


def _right(text: str, width: int) -> str:
    return " " * max(0, width - cell_len(text)) + text


class Chart(Drawn):
    """A bar per day, the newest at the right."""

    def __init__(self, marks: Marks, **more: Any) -> None:
        super().__init__(marks, **more)
        self.days: list[Figures] = []
        self.today = date(1970, 1, 1)

    def show(self, found: Mapping[date, Figures], today: date) -> None:
        """Show the figures of these days."""
        self.days, self.today = last_days(dict(found), today), today
        self.redraw()

    def draw(self) -> Text:
        height = self.size.height - 1
        if height < 1 or not self.days:
            return Text("")
        most = f"{max(day.asked for day in self.days):,}"
        side = max(4, len(most))
        width = max(1, (self.size.width - side - 1) // DAYS)
        text = Text()
        for number, row in enumerate(bars(self.days, height, width, self.marks)):
            text.append(f"{most if number == 0 else '0' if number == height - 1 else '':>{side}} ", "dim")
            text.append(f"{row}\n")
        text.append(" " * (side + 1) + self._axis(width), "dim")
        return text

    def _axis(self, width: int) -> str:
        """Dates beneath their bars, as many as there is room for; the first day's stands at the left edge."""
        axis = ""
        for back in range(DAYS - 1, -1, -1):
            label = (self.today - timedelta(days=back)).strftime("%m-%d")
            start = (DAYS - 1 - back) * width
            if start >= len(axis) + bool(axis) and start + len(label) <= DAYS * width and (DAYS - 1 - back) % 7 == 0:
                axis += " " * (start - len(axis)) + label
        return axis


class Hours(Drawn):
    """Weekday by hour, the darker the more were asked."""

    def __init__(self, marks: Marks, **more: Any) -> None:
        super().__init__(marks, **more)
        self.picture: list[list[int]] = []

    def show(self, tallies: Iterable[Tally], zone: tzinfo) -> None:
        """Show when these were asked."""
        self.picture = weekday_hours(tallies, zone)
        self.redraw()

    def draw(self) -> Text:
        if not self.picture:
            return Text("")
        lines = [
            f"{fitted(say(day), 3)} {row}"
            for day, row in zip(_DAYS_OF_WEEK, shades(self.picture, self.marks), strict=True)
        ]
        return Text("\n").join([*map(Text, lines), Text("    0     6     12    18", "dim")])


class Newest(LineView):
    """The newest answers: when, which, from whom, about what."""

    def __init__(self, marks: Marks, zone: tzinfo) -> None:
        super().__init__(chooses=True, id="newest")
        self._marks: Marks = marks
        self._zone = zone
        self.answers: list[Answer] = []

    def show_answers(self, answers: Sequence[Answer]) -> None:
        """Show these. The newest stays in view, unless somebody has moved the cursor to an answer, where it stays then."""
        kept = self.answers[self.cursor] if self.has_focus and 0 < self.cursor < len(self.answers) else None
        self.answers = list(answers)
        self.show(self._lay, self.answers.index(kept) if kept in self.answers else 0)

    def _lay(self, width: int) -> list[Text]:
        if not self.answers:
            return laid_out([Told(say("No answer has come yet."))], width)
        return [self._line(one, width) for one in self.answers]

    def _line(self, one: Answer, width: int) -> Text:
        by = fitted(one.by or say("(erased)"), max(12, (width - 40) // 2), self._marks)
        line = f"{local(one.at, self._zone)[5:]}  {fitted(answer_words(one), 25, self._marks)} {by} "
        return Text(line + fitted(one.subject or "", max(0, width - cell_len(line)), self._marks), no_wrap=True, end="")


_TRANSPORT = (later("delayed"), later("relayed"), later("expanded"), later("dispatched"), later("processed"))
"""What delivery reports and receipts say beside what makes a state (RFC 3464 2.3.3, RFC 8098 3.2.6)."""


def answer_words(one: Answer) -> str:
    """What was answered and how far it is believed, in words."""
    value = State.REPLIED.value if one.kind == EvidenceKind.REPLY else one.value
    if value in tuple(State):
        return sign_and_words(value, "added", "unicode", one.grade)[1]
    return graded(say(value), None if one.kind == EvidenceKind.DSN else one.grade)
