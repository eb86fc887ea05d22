"""The overview: what was asked and what became of it, today and in the last 30 days, and what needs a person.

Figures concern nobody in person and are for everybody with a role; the newest answers name people, so they are for auditors, and that
they were looked at is on record. Figures are asked day by day, newest first, and stand there as they come; when the ledger changes, today
is asked anew at most every :data:`FRESH_SECONDS`, everything (old mail gets answers too) at most every :data:`WHOLE_SECONDS`. The health of relay
and milter, which they leave in files, is read every :data:`HEALTH_SECONDS`, whether the ledger changes or not.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import TypeVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.widget import Widget

from kaifu.proxy.access import Role
from kaifu.proxy.health import read_health, read_verified
from kaifu.proxy.ledger_desk import Tally

from .line_view import LineView
from .lines import Told, laid_out
from .look import Marks
from .overview_figures import DAYS, per_day
from .overview_needs import Need, Situation, needs
from .overview_widgets import Chart, FigureTable, Hours, Newest
from .screen_detail import DetailScreen
from .screens import KaifuScreen
from .words import later, say

Framed = TypeVar("Framed", bound=Widget)

FRESH_SECONDS = 2.0
WHOLE_SECONDS = 60.0
HEALTH_SECONDS = 5.0
NEWEST = 50
NARROW = 76
"""Columns below which nothing has room beside another."""
TALL = 34
"""Rows from which the chart is higher."""


class NeedList(LineView):
    """What needs a person; Enter leads to where something can be done."""

    def __init__(self, marks: Marks) -> None:
        super().__init__(chooses=True, id="needs")
        self._marks: Marks = marks
        self.needs: list[Need] | None = None
        self._of_line: list[Need | None] = []

    def show_needs(self, some: list[Need]) -> None:
        """Show these, if they are not shown already."""
        if some != self.needs:
            self.needs = some
            self.show(self._lay)

    def _lay(self, width: int) -> list[Text]:
        lines: list[Text] = []
        self._of_line = []
        for need in self.needs or (None,):
            told = Told(say("Nothing needs a person now.")) if need is None else need.told(self._marks)
            lines += laid_out([told], width)
            self._of_line += [need] * (len(lines) - len(self._of_line))
        return lines

    def on_line_view_chosen(self, event: LineView.Chosen) -> None:
        """Go to the screen that is about it."""
        event.stop()
        need = self._of_line[event.line]
        if need is not None and need.screen:
            self.app.action_go(need.screen)  # type: ignore[attr-defined]


class OverviewScreen(KaifuScreen):
    """What the policy does to the mail, at a glance."""

    NAME = "overview"
    TITLE = later("Overview")
    HELP_TEXT = later(
        "Who was asked for a receipt, and what became of it: today, and in the last 30 days. A confirmation is authenticated when the answer"
        " passed the checks of your own mail servers, else claimed. No answer does not mean that nobody read it."
        " Below: what needs a person, and the newest answers."
    )
    BINDINGS = [  # noqa: RUF012 - as Textual declares it
        Binding("enter", "open", later("Open")),
        Binding("tab", "app.focus_next", later("Next list")),
        Binding("r", "refresh_all", later("Refresh")),
    ]
    DEFAULT_CSS = """
    OverviewScreen #top { height: 9; }
    OverviewScreen #middle { height: 9; }
    OverviewScreen.-tall #middle { height: 1fr; }
    OverviewScreen #figures { width: 50; }
    OverviewScreen #chart { width: 1fr; min-width: 44; }
    OverviewScreen #hours { width: 30; }
    OverviewScreen .titled { border-top: $line $secondary; border-title-color: $foreground; border-title-style: bold; padding: 0 1; }
    OverviewScreen #needs-frame { width: 1fr; }
    OverviewScreen #needs { height: 1fr; background: $background; border: none; padding: 0; }
    OverviewScreen #needs { scrollbar-gutter: stable; }
    OverviewScreen #newest-frame { height: 1fr; min-height: 4; }
    OverviewScreen.-narrow #top { layout: vertical; height: 15; }
    OverviewScreen.-narrow #figures { width: 100%; height: 9; }
    OverviewScreen.-narrow #needs-frame { width: 100%; height: 6; }
    OverviewScreen.-narrow #middle { layout: vertical; height: 18; }
    OverviewScreen.-narrow #chart { width: 100%; min-width: 0; height: 9; }
    OverviewScreen.-narrow #hours { width: 100%; height: 9; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._days: dict[date, list[Tally]] = {}
        self._changed = True
        self._old_changed = True
        self._today_at = self._whole_at = float("-inf")
        self._health_at = float("-inf")
        self._entries = 0

    def body(self) -> ComposeResult:
        marks = self.kaifu.look.marks
        with Horizontal(id="top"):
            yield _titled(FigureTable(marks, id="figures"), say("Requests and answers"))
            with _titled(Vertical(id="needs-frame"), say("Needs a person")):
                yield NeedList(marks)
        with Horizontal(id="middle"):
            yield _titled(Chart(marks, id="chart"), say("Asked by day; solid: confirmed"))
            yield _titled(Hours(marks, id="hours"), say("Asked by weekday and hour"))
        with _titled(Vertical(id="newest-frame"), say("Newest answers")):
            yield Newest(marks, self.kaifu.where.zone)

    def on_resize(self, event: events.Resize) -> None:
        super().on_resize(event)
        self.set_class(event.size.width < NARROW, "-narrow")
        self.set_class(event.size.height >= TALL, "-tall")

    def on_mount(self) -> None:
        if not self._may_read():
            self.query_one("#newest-frame").display = False
        self.pulsed()

    def _may_read(self) -> bool:
        return self.kaifu.where.who.allows(Role.AUDITOR)

    def action_open(self) -> None:
        """For keys and palette: what is under the cursor."""
        if isinstance(view := self.focused, LineView):
            view.action_choose()

    def action_refresh_all(self) -> None:
        self._changed = self._old_changed = True
        self._today_at = self._whole_at = float("-inf")
        self.pulsed()

    def ledger_changed(self) -> None:
        self._changed = self._old_changed = True

    def pulsed(self) -> None:
        now = self.kaifu.clock() / 1e6
        if self._old_changed and now - self._whole_at >= WHOLE_SECONDS:
            self._changed = self._old_changed = False
            self._whole_at = self._today_at = self._health_at = now
            self.start(self._load(DAYS), "figures")
        elif self._changed and now - self._today_at >= FRESH_SECONDS:
            self._changed = False
            self._today_at = self._health_at = now
            self.start(self._load(1), "today")
        elif now - self._health_at >= HEALTH_SECONDS:
            self._health_at = now
            self.start(self._needs(), "needs")

    async def _load(self, days: int) -> None:
        zone = self.kaifu.where.zone
        await self._needs()
        if self._may_read():
            self.query_one(Newest).show_answers(await self.ask(lambda desk: desk.newest(NEWEST), lane="newest"))
        today = self._now().date()
        for back in range(days):
            day = today - timedelta(days=back)
            since, until = (
                int(datetime(*d.timetuple()[:3], tzinfo=zone).timestamp()) for d in (day, day + timedelta(1))
            )
            bounds = since * 1_000_000, until * 1_000_000
            self._days[day] = await self.ask(lambda desk, bounds=bounds: desk.tallies(*bounds))  # type: ignore[misc]
            if back in (0, 6, 13) or back == days - 1:
                self._show(today)
        for old in [day for day in self._days if day <= today - timedelta(days=DAYS)]:
            del self._days[old]

    def on_line_view_chosen(self, event: LineView.Chosen) -> None:
        """An answer leads to all about its message."""
        if isinstance(event.view, Newest) and event.line < len(event.view.answers):
            one = event.view.answers[event.line]
            self.app.push_screen(DetailScreen(one.message, one.recipient), self.kaifu.show_receipts)

    def _show(self, today: date) -> None:
        zone = self.kaifu.where.zone
        tallies = [tally for some in self._days.values() for tally in some]
        found = per_day(tallies, zone)
        self.query_one(FigureTable).show(found, today)
        self.query_one(Chart).show(found, today)
        self.query_one(Hours).show(tallies, zone)

    async def _needs(self) -> None:
        now, path, settings = self.kaifu.clock(), self.kaifu.where.path, self.kaifu.settings
        attention, health, verified = await self.ask(
            lambda desk: (desk.attention(now), read_health(path, now), read_verified(path)), lane="attention"
        )
        anchors = None if settings is None else settings.anchors
        seen = Situation(self._now(), attention, health, verified, anchors, self._entries)
        self._entries = max(self._entries, attention.entries)
        self.query_one(NeedList).show_needs(needs(seen))

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.kaifu.clock() / 1e6, self.kaifu.where.zone)


def _titled(widget: Framed, title: str) -> Framed:
    widget.add_class("titled")
    widget.border_title = Text(title)
    return widget
