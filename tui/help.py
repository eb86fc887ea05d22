"""What the screen or dialog that is shown is for, and all keys that do something in it."""

from __future__ import annotations

from typing import Any

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from .keys import Doing, doings
from .look import fitted, plain
from .screens import translated
from .words import later, say

KEYS_WIDTH = 14


class HelpScreen(ModalScreen[None]):
    """Lies over a screen and tells about it; any of its keys closes it. ``about``: has ``TITLE`` and ``HELP_TEXT``."""

    DEFAULT_CSS = """
    HelpScreen { align: center middle; }
    HelpScreen VerticalScroll { width: 76; max-width: 100%; height: auto; max-height: 100%; background: $panel; }
    HelpScreen Static { height: auto; }
    """
    BINDINGS = [Binding("escape,question_mark,f1,q", "dismiss", later("Close"))]  # noqa: RUF012

    def __init__(self, about: Screen[Any]) -> None:
        super().__init__()
        self._title = say(getattr(about, "TITLE", "") or "")
        self._text = say(getattr(about, "HELP_TEXT", "") or "")
        self._doings = doings(about, about.app.look.marks)  # type: ignore[attr-defined]
        self._everywhere = {doing.action for doing in self._doings if doing.node is about.app}
        self._bindings = translated(self._bindings)

    def compose(self) -> ComposeResult:
        here = [doing for doing in self._doings if doing.action not in self._everywhere]
        everywhere = [doing for doing in self._doings if doing.action in self._everywhere]
        with VerticalScroll():
            if self._title:
                yield _part(plain(self._title, "bold"))
            if self._text:
                yield _part(plain(self._text), "")
            for title, some in ((say("Keys here"), here), (say("Keys everywhere"), everywhere)):
                if some:
                    yield _part(plain(title, "bold"), "", *map(self._line, some))

    def _line(self, doing: Doing) -> Text:
        marks = self.app.look.marks  # type: ignore[attr-defined]
        return plain(fitted(" ".join(doing.names), KEYS_WIDTH, marks), "bold").append_text(
            plain(f" {doing.words}", "not bold")
        )


def _part(*lines: Text | str) -> Static:
    """A paragraph; an empty line stands where a text is ``""``. Long lines go on in the next."""
    text = Text("\n").join(line if isinstance(line, Text) else Text(line) for line in lines)
    text.no_wrap = False
    return Static(text, markup=False)
