"""The command palette: everything that can be done now, found by a few letters of it.

What keys of ours do in the screen that is shown, and in every screen. Each command stands there with its keys, so that looking
for it once is enough.
"""

from __future__ import annotations

import unicodedata
from typing import Any

from rich.cells import cell_len
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen, Screen
from textual.widgets import Input

from kaifu.proxy.display import visible

from .keys import Doing, doings
from .line_view import LineView
from .look import plain
from .screens import Plain, translated
from .words import later, say

WIDTH = 60


class PaletteScreen(ModalScreen[Doing | None]):
    """Dismissed with what was chosen. ``about``: the screen or dialog over which it lies."""

    DEFAULT_CSS = f"""
    PaletteScreen {{ align: center top; }}
    PaletteScreen > Vertical {{ width: {WIDTH}; max-width: 100%; height: auto; max-height: 100%; margin-top: 2; background: $panel; }}
    PaletteScreen Input {{ background: $surface; }}
    PaletteScreen LineView {{ height: auto; max-height: 14; background: $panel; }}
    PaletteScreen Plain {{ color: $text-muted; }}
    """
    BINDINGS = [  # noqa: RUF012 - as Textual declares it
        Binding("escape,ctrl+p", "leave", later("Close"), show=False),
        Binding("down", "move(1)", show=False, priority=True),
        Binding("up", "move(-1)", show=False, priority=True),
        Binding("enter", "choose", show=False, priority=True),
    ]

    def __init__(self, about: Screen[Any]) -> None:
        super().__init__()
        self._bindings = translated(self._bindings)
        some = doings(about, about.app.look.marks)  # type: ignore[attr-defined]
        self._all = [doing for doing in some if doing.action != "palette"]
        self._fitting = self._all

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Input(placeholder=say("What do you want to do?"), compact=True, select_on_focus=False)
            yield LineView(chooses=True)
            yield Plain(say("enter: do it   esc: close"))

    def on_mount(self) -> None:
        self._list = self.query_one(LineView)
        self._list.can_focus = False
        self._show("")

    def on_input_changed(self, event: Input.Changed) -> None:
        """Each word that was typed must occur."""
        self._show(event.value)

    def _show(self, wanted: str) -> None:
        words = _key(wanted).split()
        self._fitting = [doing for doing in self._all if all(word in _key(doing.words) for word in words)]
        self._list.show(lambda width: [_line(doing, width) for doing in self._fitting], 0)
        self._list.styles.height = max(1, len(self._fitting))

    def action_move(self, by: int) -> None:
        self._list.action_move(by)

    def action_choose(self) -> None:
        self._list.action_choose()

    def action_leave(self) -> None:
        self.dismiss(None)

    def on_line_view_chosen(self, event: LineView.Chosen) -> None:
        """Taken."""
        self.dismiss(self._fitting[event.line])


def _line(doing: Doing, width: int) -> Text:
    keys, words = " ".join(doing.names), visible(doing.words)
    room = width - cell_len(keys) - cell_len(words) - 2
    return plain(f" {words}").append(" " * max(1, room)).append(f"{keys} ", "bold")


def _key(text: str) -> str:
    """As texts are compared: whatever the case and the width of the letters."""
    return unicodedata.normalize("NFKC", text).casefold()
