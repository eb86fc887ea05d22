"""The list of receipts on the screen: draws the rows of a window, moves the cursor, and says so.

Draws only the lines that are seen, from what :mod:`kaifu.tui.receipts_feed` has ready; asks nothing. The scroll bar is honest without a total: in order
of time it shows where what is seen lies between the first and the last row of the list; a list that is here as a whole is measured in rows; of any
other no place is known, and none is shown.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from kaifu.proxy.ledger_desk import Place, Row

from .lines import wrapped
from .look import Look
from .receipts_feed import Feed
from .receipts_rows import Layout, cells, kind_of, layout, titles
from .screens import translated
from .words import later, say

Receipts = Feed[Row, Place]


class ReceiptList(Widget, can_focus=True):
    """``zone``: of the times that are shown. ``sentence``: what stands in place of rows when there are none."""

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        *("receipts--titles", "receipts--good", "receipts--bad", "receipts--note", "receipts--track", "receipts--thumb")
    }
    DEFAULT_CSS = """
    ReceiptList { height: 1fr; }
    ReceiptList > .receipts--titles { background: $panel; color: $foreground; text-style: none; }
    ReceiptList > .receipts--good { color: $success; }
    ReceiptList > .receipts--bad { color: $error; }
    ReceiptList > .receipts--note { text-style: italic; }
    ReceiptList > .receipts--track { background: $surface; color: $secondary; }
    ReceiptList > .receipts--thumb { color: $secondary; text-style: reverse; }
    """
    BINDINGS: ClassVar[list[Any]] = [
        Binding("enter", "open", later("Open")),
        Binding("up,k", "move(-1)", later("A row up"), show=False),
        Binding("down,j", "move(1)", later("A row down"), show=False),
        Binding("pageup,b", "turn(-1)", later("A page up"), show=False),
        Binding("pagedown,space", "turn(1)", later("A page down"), show=False),
        Binding("home", "first", later("To the newest, or where the list begins"), show=False),
        Binding("end", "last", later("To the oldest, or where the list ends"), show=False),
    ]

    class Moved(Message):
        """The cursor or what is seen moved, and rows may be missing."""

    class Opened(Message):
        """Somebody wants all about the row under the cursor."""

    class Sought(Message):
        """A click on the scroll bar: ``share`` of the way from the first to the last row."""

        def __init__(self, share: float) -> None:
            super().__init__()
            self.share = share

    def __init__(self, look: Look, zone: Any, feed: Receipts) -> None:
        super().__init__()
        self._bindings = translated(self._bindings)
        self._look = look
        self._zone = zone
        self._layout: Layout = layout(0)
        self.feed = feed
        self.sentence = ""
        self.by_time = True
        self.today = datetime.now(zone).date()

    # Drawing.

    def on_resize(self, _: events.Resize) -> None:
        self._layout = layout(max(0, self.size.width - 2))
        self.feed.window.resize(self.size.height - 1)
        self.post_message(self.Moved())

    def render_line(self, y: int) -> Strip:
        """Titles, then rows; the last column is the scroll bar."""
        width, base = self.size.width, self.rich_style
        if y == 0:
            style = base + self.get_component_rich_style("receipts--titles", partial=True)
            text = " " + titles(self._layout, self._look.marks)
            return Strip([Segment(text, style)]).adjust_cell_length(width, style)
        window, number = self.feed.window, self.feed.window.top + y - 1
        if number < len(window.rows):
            strip = self._row(window.rows[number], base, at_cursor=number == window.cursor)
        else:
            strip = self._beyond(y - 1, base)
        return Strip([*strip.adjust_cell_length(width - 1, base), self._bar(y - 1, base)])

    def _row(self, row: Row, base: Style, *, at_cursor: bool) -> Strip:
        style = base + Style(reverse=True) if at_cursor else base
        kind = "" if at_cursor else kind_of(row)
        coloured = style + self.get_component_rich_style(f"receipts--{kind}", partial=True) if kind else style
        sign, state, *others = cells(row, self._layout, self._zone, self.today, self._look.marks)
        gap = " " * self._layout.gap
        segments = [Segment(" ", style), Segment(sign + gap + state + gap, coloured), Segment(gap.join(others), style)]
        return Strip(segments).adjust_cell_length(self.size.width - 1, style)

    def _beyond(self, line: int, base: Style) -> Strip:
        """What stands where there are no rows."""
        window, text = self.feed.window, ""
        style = base + self.get_component_rich_style("receipts--note", partial=True)
        if not window.rows:
            lines = wrapped(self.sentence, max(8, self.size.width - 5))
            text = lines[line - 1] if 0 < line <= len(lines) else ""
        elif line == len(window.rows) and not window.below.closed and not self.feed.stopped:
            text = say("More rows are being read")
        return Strip([Segment(f"  {text}", style)])

    def _bar(self, line: int, base: Style) -> Segment:
        if self.feed.window.at_first and self.feed.window.at_last:
            return Segment(" ", base)
        start, end = self.thumb() or (0, 0)
        name = "thumb" if start <= line < end else "track"
        style = base + self.get_component_rich_style(f"receipts--{name}", partial=True)
        return Segment(
            "|" if name == "track" and (self._look.marks == "ascii" or not self._look.colours) else " ", style
        )

    def thumb(self) -> tuple[int, int] | None:
        """The lines of the scroll bar that stand for what is seen, from the first to before the second; None where no place is known."""
        feed, window = self.feed, self.feed.window
        height, many = window.height, len(window.rows)
        if not many or (window.at_first and window.at_last):
            return None
        first, last = feed.first_place, feed.last_place
        if window.above.closed and window.below.closed:
            start, end = window.top / many, (window.top + height) / many
        elif self.by_time and first is not None and last is not None and first.at != last.at:
            way = last.at - first.at
            start, end = ((row.at - first.at) / way for row in (window.seen[0], window.seen[-1]))
        else:
            return None
        top = 0 if window.at_first else min(max(1, int(start * height)), height - 2)
        bottom = height if window.at_last else min(max(top + 1, int(end * height)), height - 1)
        return (min(top, bottom - 1), bottom)

    # Keys and mouse.

    def action_move(self, step: int) -> None:
        """The cursor by rows."""
        self.feed.window.move(step)
        self._moved(step)

    def action_turn(self, pages: int) -> None:
        """By pages."""
        self.feed.window.turn(pages)
        self._moved(pages)

    def action_first(self) -> None:
        """To where the list begins."""
        self.feed.first()
        self.post_message(self.Moved())

    def action_last(self) -> None:
        """To where it ends."""
        self.feed.last()
        self.post_message(self.Moved())

    def action_open(self) -> None:
        """All about the row under the cursor."""
        if self.feed.window.current is not None:
            self.post_message(self.Opened())

    def _moved(self, step: int) -> None:
        self.feed.moved(step)
        self.refresh()
        self.post_message(self.Moved())

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """What is seen moves; the cursor stays as long as it is seen."""
        event.stop()
        self.feed.window.scroll(3)
        self._moved(3)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """The same upwards."""
        event.stop()
        self.feed.window.scroll(-3)
        self._moved(-3)

    def on_click(self, event: events.Click) -> None:
        """A row takes the cursor, and is opened by a second click; the scroll bar leads to its time."""
        line = event.y - 1
        if event.x == self.size.width - 1 and line >= 0:
            self.post_message(self.Sought(line / max(1, self.feed.window.height - 1)))
        elif self.feed.window.point(line):
            self._moved(0)
            if event.chain == 2:
                self.action_open()
