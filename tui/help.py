"""The keys of the screen that is shown, and what it is for."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import ModalScreen

from .screens import KaifuScreen, Plain, translated
from .words import later, say


class HelpScreen(ModalScreen[None]):
    """Lies over a screen and tells about it; any of its keys closes it."""

    DEFAULT_CSS = """
    HelpScreen { align: center middle; }
    HelpScreen VerticalScroll { width: 76; max-width: 100%; height: auto; max-height: 100%; background: $panel; padding: 1 2; }
    """
    BINDINGS = [Binding("escape,question_mark,f1,q", "dismiss", later("Close"), key_display="esc")]  # noqa: RUF012

    def __init__(self, about: KaifuScreen) -> None:
        super().__init__()
        self._about = about
        self._bindings = translated(self._bindings)

    def compose(self) -> ComposeResult:
        keys = {
            self.app.get_key_display(active.binding): active.binding.description
            for active in self._about.active_bindings.values()
            if active.binding.description
        }
        with VerticalScroll():
            yield Plain(say(self._about.TITLE))
            if self._about.HELP_TEXT:
                yield Plain(say(self._about.HELP_TEXT))
            for key, description in keys.items():
                yield Plain(f"{key:>10}  {description}")
