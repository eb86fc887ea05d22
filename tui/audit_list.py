"""The audit trail as a list of any length: acts by keyset, newest first, a bounded stretch of them kept.

Drawn line by line from the :class:`kaifu.tui.receipts_feed.Feed` that the screen Integrity fills: :class:`AuditList.Wanting` tells it that more rows are wanted,
:class:`AuditList.Opened` that somebody wants to see an act in full.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import tzinfo

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text
from textual import events
from textual.binding import Binding
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from kaifu.proxy.ledger_desk import Act, ActPlace
from kaifu.proxy.ledger_shown import local

from .audit_words import actor, told_act
from .look import Look, fitted, plain
from .receipts_feed import Feed
from .words import say

AHEAD = 100
_ACTOR = 12
_WHEEL = 3


@dataclass(frozen=True, slots=True)
class ActsPage:
    """An answer of the desk, as the feed takes it."""

    rows: Sequence[Act]
    done: bool

    @property
    def reached(self) -> ActPlace | None:
        """From where to go on."""
        return None if self.done or not self.rows else self.rows[-1].place


def new_feed() -> Feed[Act, ActPlace]:
    """A list that nothing is known of yet."""
    return Feed(lambda act: act.place, lambda act: act.entry, True, ahead=AHEAD, page=AHEAD)


def line_of(act: Act, zone: tzinfo, width: int, look: Look) -> str:
    """An act in so many cells."""
    when = local(act.at, zone)
    left = f" {when}  {fitted(actor(act), _ACTOR, look.marks)}  "
    return left + fitted(told_act(act, zone), max(0, width - cell_len(left)), look.marks)


class AuditList(Widget, can_focus=True):
    """``feed``: what is shown; the screen may put another one in its place (:meth:`begin`)."""

    DEFAULT_CSS = "AuditList { height: 1fr; }"
    BINDINGS = [  # noqa: RUF012 - as Textual declares it
        Binding("up,k", "move(-1)", show=False),
        Binding("down,j", "move(1)", show=False),
        Binding("pageup", "turn(-1)", show=False),
        Binding("pagedown,space", "turn(1)", show=False),
        Binding("home", "end_of(-1)", show=False),
        Binding("end", "end_of(1)", show=False),
        Binding("enter", "open", show=False),
    ]

    class Wanting(Message):
        """More rows are wanted."""

    class Opened(Message):
        """An act is to be seen in full."""

        def __init__(self, act: Act) -> None:
            super().__init__()
            self.act = act

    def __init__(self, zone: tzinfo, look: Look, id: str | None = None) -> None:
        super().__init__(id=id)
        self.feed = new_feed()
        self._zone = zone
        self._look = look

    def begin(self) -> None:
        """Another list."""
        self.feed = new_feed()
        self.feed.window.resize(self.size.height)
        self.wants()

    def wants(self) -> None:
        """Draw what is there, and ask for what is missing."""
        self.refresh()
        self.post_message(self.Wanting())

    def on_resize(self, event: events.Resize) -> None:
        self.feed.window.resize(event.size.height)
        self.wants()

    def render_line(self, y: int) -> Strip:
        """One line of what is seen."""
        width, base, window = self.size.width, self.rich_style, self.feed.window
        if not window.rows and not y and self.feed.loaded:
            return Strip(plain(say(" Nothing in the audit trail fits.")).render(self.app.console)).adjust_cell_length(
                width, base
            )
        if y >= len(window.seen):
            return Strip.blank(width, base)
        current = window.top + y == window.cursor
        style = base + Style(reverse=True, bold=self.has_focus) if current else base
        line = Text(line_of(window.seen[y], self._zone, width, self._look), no_wrap=True, end="")
        return Strip(line.render(self.app.console)).apply_style(style).adjust_cell_length(width, style)

    def _moved(self, step: int) -> None:
        self.feed.moved(step)
        self.wants()

    def action_move(self, step: int) -> None:
        """The cursor up or down."""
        self.feed.window.move(step)
        self._moved(step)

    def action_turn(self, pages: int) -> None:
        """A page up or down."""
        self.feed.window.turn(pages)
        self._moved(pages)

    def action_end_of(self, step: int) -> None:
        """To the newest or the oldest act."""
        if step < 0:
            self.feed.first()
        else:
            self.feed.last()
        self.wants()

    def action_open(self) -> None:
        """The act under the cursor, in full."""
        if self.feed.window.current is not None:
            self.post_message(self.Opened(self.feed.window.current))

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.feed.window.scroll(_WHEEL)
        self._moved(1)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.feed.window.scroll(-_WHEEL)
        self._moved(-1)

    def on_click(self, event: events.Click) -> None:
        """A click moves the cursor; one on it opens the act."""
        before = self.feed.window.cursor
        if self.feed.window.point(event.y):
            if self.feed.window.cursor == before:
                self.action_open()
            self.wants()
