"""Lines of text that scroll, drawn only where they are seen; with a cursor, a list to choose from.

Made for text of any length: what is drawn costs what fits on the screen. A view without a cursor scrolls by its keys; one with a
cursor moves it, and posts :class:`LineView.Chosen` for enter or a click. The line under the cursor is reversed, and begins with ``>`` where
``marker`` asks for it. The lines are :class:`rich.text.Text` without markup, made by :mod:`kaifu.tui.lines`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, overload

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events
from textual.binding import Binding
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

Layout = Callable[[int], Sequence[Text]]
"""The lines for a width in cells."""


class Lines(Sequence[Text]):
    """So many lines, each made when it is seen. ``make``: the line with a number, from 0."""

    def __init__(self, count: int, make: Callable[[int], Text]) -> None:
        self._count = count
        self._make = make

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, number: int) -> Text: ...
    @overload
    def __getitem__(self, number: slice) -> list[Text]: ...
    def __getitem__(self, number: int | slice) -> Text | list[Text]:
        if isinstance(number, slice):
            return [self._make(each) for each in range(*number.indices(self._count))]
        return self._make(number)


class LineView(ScrollView, can_focus=True):
    """``layout`` is asked again when the width changes. ``cursor``: -1 for none."""

    DEFAULT_CSS = """
    LineView { height: 1fr; overflow-x: hidden; overflow-y: auto; scrollbar-size-vertical: 1; }
    LineView > .line-view--quiet { color: $foreground 75%; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {"line-view--quiet"}
    BINDINGS = [  # noqa: RUF012 - as Textual declares it
        Binding("up,k", "move(-1)", show=False),
        Binding("down,j", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown,space", "page(1)", show=False),
        Binding("home", "end_of(-1)", show=False),
        Binding("end", "end_of(1)", show=False),
        Binding("enter", "choose", show=False),
    ]

    cursor: reactive[int] = reactive(-1, init=False)

    class Moved(Message):
        """The cursor is on another line."""

        def __init__(self, view: LineView, line: int) -> None:
            super().__init__()
            self.view = view
            self.line = line

    class Chosen(Message):
        """Enter, or a click."""

        def __init__(self, view: LineView, line: int) -> None:
            super().__init__()
            self.view = view
            self.line = line

    def __init__(self, *, chooses: bool = False, id: str | None = None) -> None:
        super().__init__(id=id)
        self._chooses = chooses
        self._layout: Layout = lambda _: ()
        self._lines: Sequence[Text] = ()
        self._laid: dict[int, Sequence[Text]] = {}
        self._laid_for = -1

    @property
    def count(self) -> int:
        """How many lines there are."""
        return len(self._lines)

    def show(self, layout: Layout, cursor: int | None = None) -> None:
        """Show other lines; the place stays as far as it can."""
        self._layout = layout
        self._laid.clear()
        self._lay_out()
        if self._chooses:
            wanted = self.cursor if cursor is None else cursor
            self.set_reactive(LineView.cursor, min(max(wanted, 0), self.count - 1))
            self._follow()
        self.refresh(layout=self.styles.is_auto_height)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """As high as its lines, where the style says ``height: auto``."""
        return len(self._lines_of(width))

    def _lines_of(self, width: int) -> Sequence[Text]:
        """The lines for a width, laid out once."""
        if width not in self._laid:
            self._laid[width] = self._layout(width)
        return self._laid[width]

    def _lay_out(self) -> None:
        self._laid_for = self.scrollable_content_region.width
        self._lines = self._lines_of(self._laid_for)
        self._laid = {self._laid_for: self._lines}
        self.virtual_size = Size(self._laid_for, self.count)

    def on_resize(self, _: events.Resize) -> None:
        if self.scrollable_content_region.width != self._laid_for:
            self._lay_out()
            if self.show_vertical_scrollbar and self.count <= self.container_size.height:
                # It was shown for a narrower layout, and nothing else takes it away.
                self.show_vertical_scrollbar = False
                self._lay_out()
            self._follow()
            self.refresh()

    def render_line(self, y: int) -> Strip:
        """One line of what is seen."""
        width, number = self.scrollable_content_region.width, y + self.scroll_offset.y
        base = self.rich_style
        if number >= self.count:
            return Strip.blank(width, base)
        style = base + Style(reverse=True, bold=self.has_focus) if self._is_at(number) else base
        segments = [self._quieter(segment) for segment in self._lines[number].render(self.app.console)]
        return Strip(segments).apply_style(style).adjust_cell_length(width, style)

    def _quieter(self, segment: Segment) -> Segment:
        """What is dim is drawn in a colour that can be read everywhere."""
        if segment.style is None or not segment.style.dim:
            return segment
        quiet = Style(color=self.get_component_rich_style("line-view--quiet").color, dim=False)
        return Segment(segment.text, segment.style + quiet)

    def _is_at(self, number: int) -> bool:
        return self._chooses and number == self.cursor

    def watch_cursor(self, before: int, now: int) -> None:
        if before != now:
            self._follow()
            self.refresh()
            if 0 <= now < self.count:
                self.post_message(self.Moved(self, now))

    def _follow(self) -> None:
        if self._chooses and 0 <= self.cursor < self.count:
            self.scroll_to_region(Region(0, self.cursor, 1, 1), animate=False, immediate=True)

    def action_move(self, step: int) -> None:
        """A line up or down."""
        if self._chooses:
            self._go(self.cursor + step)
        else:
            self.scroll_to(y=self.scroll_offset.y + step, animate=False)

    def action_page(self, step: int) -> None:
        """A page up or down."""
        self.action_move(step * max(1, self.scrollable_content_region.height - 1))

    def action_end_of(self, step: int) -> None:
        """To the first or the last line."""
        self.action_move(step * self.count)

    def _go(self, number: int) -> None:
        if self.count:
            self.cursor = min(max(number, 0), self.count - 1)

    def action_choose(self) -> None:
        """Take what is under the cursor."""
        if self._chooses and 0 <= self.cursor < self.count:
            self.post_message(self.Chosen(self, self.cursor))

    def on_click(self, event: events.Click) -> None:
        """A click moves the cursor; one on it chooses."""
        if not self._chooses:
            return
        number = event.y + self.scroll_offset.y
        if number == self.cursor:
            self.action_choose()
        elif number < self.count:
            self._go(number)
