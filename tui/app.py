"""The application: who looks, at which ledger, in which language, and which screens that opens to him.

Made by ``kaifu tui`` (:mod:`kaifu.tui.command`). Each screen is a mode and keeps its state while another is shown. Once a second a
question that costs nothing tells whether the ledger changed; the screen that is shown is then told. Nothing here holds a read
transaction, and nothing writes but the entries of who looked.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from datetime import datetime

from rich.text import Text
from textual.app import App
from textual.binding import Binding
from textual.reactive import reactive

from kaifu.proxy.access import Role
from kaifu.proxy.ledger_cli import Chosen, right_now
from kaifu.proxy.settings import Settings

from . import drawing, ending
from .asking import Asker, GivenUpError, TroubleError
from .help import HelpScreen
from .keys import Doing
from .look import THEMES, Look
from .palette import PaletteScreen
from .screen_integrity import IntegrityScreen
from .screen_overview import OverviewScreen
from .screen_policy import PolicyScreen
from .screen_receipts import ReceiptsScreen
from .screens import KaifuScreen, TroubleLine, translated
from .words import later, say, speak

PULSE_SECONDS = 1.0
SCREENS: tuple[type[KaifuScreen], ...] = (OverviewScreen, ReceiptsScreen, PolicyScreen, IntegrityScreen)


class KaifuApp(App[None]):
    """``settings`` None: only a ledger was named. ``look``: language, marks and theme. ``clock``: UTC microseconds since 1970.
    ``pulse_seconds`` None: changes are looked for only when :meth:`pulse` is called."""

    TITLE = "kaifu"
    CSS_PATH = "app.tcss"
    MODES = {kind.NAME: kind for kind in SCREENS}  # noqa: RUF012 - as Textual declares it
    BINDINGS = [  # noqa: RUF012 - as Textual declares it
        *(Binding(str(number), f"go('{kind.NAME}')", kind.TITLE, show=False) for number, kind in enumerate(SCREENS, 1)),
        Binding("question_mark,f1", "help", later("Help")),
        Binding("ctrl+p", "palette", later("Commands")),
        Binding("t", "toggle_theme", later("Light or dark"), show=False),
        Binding("ctrl+z", "suspend_process", later("Back to the shell for a while"), show=False),
        Binding("q", "quit", later("Quit")),
    ]
    ENABLE_COMMAND_PALETTE = False
    ESCAPE_TO_MINIMIZE = False

    trouble: reactive[str] = reactive("", init=False)

    def __init__(
        self,
        where: Chosen,
        settings: Settings | None = None,
        look: Look | None = None,
        *,
        clock: Callable[[], int] = right_now,
        pulse_seconds: float | None = PULSE_SECONDS,
    ) -> None:
        self.look = look or Look()
        speak(self.look.language)
        drawing.use(self.look)
        super().__init__()
        if not self.look.colours:
            self._filters.append(drawing.Colourless())
        self.where = where
        self.settings = settings
        self.clock = clock
        self._pulse_seconds = pulse_seconds
        self.asker = Asker(where, lambda: datetime.fromtimestamp(clock() / 1e6, where.zone).date())
        self.version: int | None = None
        self._troubles: dict[str, str] = {}
        self._bindings = translated(self._bindings)
        for theme in THEMES.values():
            self.register_theme(theme)
        self.theme = THEMES[self.look.theme].name

    @property
    def role(self) -> Role:
        """The role of who looks."""
        return self.where.who.role

    def offered(self) -> list[tuple[int, type[KaifuScreen]]]:
        """The screens that the role opens, with their numbers: those are the same for everybody."""
        return [(number, kind) for number, kind in enumerate(SCREENS, 1) if self.where.who.allows(kind.NEEDS)]

    def get_css_variables(self) -> dict[str, str]:
        return {**super().get_css_variables(), **drawing.variables(self.look)}

    def on_mount(self) -> None:
        self.set_class(self.look.marks == "ascii", "-ascii")
        self.set_class(not self.look.colours, "-colourless")
        ending.on_signals(self._end)
        self.app_resume_signal.subscribe(self, lambda _: self.refresh(layout=True))
        self.switch_mode(OverviewScreen.NAME)
        if self._pulse_seconds is not None:
            self.set_interval(self._pulse_seconds, self._beat)

    def on_unmount(self) -> None:
        self.asker.close()

    # The pulse, and what is wrong.

    def _beat(self) -> None:
        if not self.is_headless and ending.terminal_is_gone():
            self._end(128 + signal.SIGHUP)
        self.pulse()

    def pulse(self) -> None:
        """Ask whether the ledger changed, and tell the screen that is shown if so."""
        self.run_worker(self._look_for_changes(), group="pulse", exclusive=True)

    async def _look_for_changes(self) -> None:
        try:
            self.version = await self.asker.ask(lambda desk: desk.version(), lane="pulse")
        except GivenUpError:
            return
        except TroubleError as trouble:
            self.say_trouble("ledger", str(trouble))
            self.version = None
            return
        self.say_trouble("ledger", "")
        if isinstance(self.screen, KaifuScreen):
            self.screen.heed(self.version)
            self.screen.pulsed()

    def say_trouble(self, what: str, sentence: str) -> None:
        """What is wrong with the ledger, or with a screen's questions, in a sentence; "" when that is over."""
        self._troubles[what] = sentence
        self.trouble = next(filter(None, self._troubles.values()), "")

    def watch_trouble(self, sentence: str) -> None:
        for screen in self.screen_stack:
            for line in screen.query(TroubleLine):
                line.sentence = sentence

    # How it ends.

    def _end(self, status: int) -> None:
        ending.at_last(ending.SECONDS)
        self.exit(return_code=status)

    def _fatal_error(self) -> None:
        """Called by Textual for what nothing handled: a mistake of ours. One sentence instead of its traceback."""
        self._return_code = 2
        if self._exception is not None and not self._exit_renderables:
            self._exit_renderables.append(Text(ending.confession(self._exception, self.where.who.caller.unbound)))
        self._close_messages_no_wait()

    def action_help_quit(self) -> None:
        """^c ends nothing by itself: in a line that is being written it copies."""
        self.notify(say("q quits kaifu, where no line is being written."), markup=False)

    # Keys and commands.

    def go(self, name: str) -> None:
        """Show a screen, if the role opens it."""
        if self.check_action("go", (name,)):
            self.switch_mode(name)
            self.watch_trouble(self.trouble)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """A screen that the role does not open is not offered."""
        return action != "go" or any(parameters[0] == kind.NAME for _, kind in self.offered())

    def show_receipts(self, line: str | None) -> None:
        """The receipts that a filter line finds; None: nothing more was asked for, as of a message that was looked at."""
        if line:
            self.go(ReceiptsScreen.NAME)
            self.call_later(self._show_line, line)

    def _show_line(self, line: str) -> None:
        if isinstance(screen := self.screen, ReceiptsScreen):
            screen.show_line(line)

    def action_go(self, name: str) -> None:
        self.go(name)

    def action_help(self) -> None:
        if not isinstance(self.screen, HelpScreen | PaletteScreen):
            self.push_screen(HelpScreen(self.screen))

    def action_palette(self) -> None:
        if not isinstance(self.screen, HelpScreen | PaletteScreen):
            self.push_screen(PaletteScreen(self.screen), self._do)

    async def _do(self, chosen: Doing | None) -> None:
        if chosen is not None:
            await self.run_action(chosen.action, chosen.node)

    def action_toggle_theme(self) -> None:
        dark, light = (THEMES[name].name for name in ("dark", "light"))
        self.theme = light if self.theme == dark else dark


__all__ = ["KaifuApp"]
