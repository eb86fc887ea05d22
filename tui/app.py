"""The application: who looks, at which ledger, in which language, and which screens that opens to him.

Made by ``kaifu tui`` (:mod:`kaifu.tui.command`). Each screen is a mode and keeps its state while another is shown. Once a second a
question that costs nothing tells whether the ledger changed; the screen that is shown is then told. Nothing here holds a read
transaction, and nothing writes but the entries of who looked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from textual.app import App, SystemCommand
from textual.binding import Binding
from textual.reactive import reactive
from textual.screen import Screen

from kaifu.proxy.access import Role
from kaifu.proxy.ledger_cli import Chosen, right_now
from kaifu.proxy.settings import Settings

from .asking import Asker, GivenUpError, TroubleError
from .help import HelpScreen
from .look import THEMES, Look
from .screen_integrity import IntegrityScreen
from .screen_overview import OverviewScreen
from .screen_policy import PolicyScreen
from .screen_receipts import ReceiptsScreen
from .screens import KaifuScreen, TopBar, TroubleLine, translated
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
        Binding("question_mark,f1", "help", later("Help"), key_display="?"),
        Binding("ctrl+p", "command_palette", later("Commands"), key_display="^p"),
        Binding("t", "toggle_theme", later("Light or dark"), show=False),
        Binding("q", "quit", later("Quit")),
    ]

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
        super().__init__()
        self.where = where
        self.settings = settings
        self.clock = clock
        self._pulse_seconds = pulse_seconds
        self.asker = Asker(where, lambda: datetime.fromtimestamp(clock() / 1e6, where.zone).date())
        self._version: int | None = None
        self._bindings = translated(self._bindings)
        for theme in THEMES.values():
            self.register_theme(theme)
        self.theme = THEMES[self.look.theme].name

    @property
    def role(self) -> Role:
        """The role of who looks."""
        return self.where.who.role

    def offered(self) -> list[type[KaifuScreen]]:
        """The screens that the role opens."""
        return [kind for kind in SCREENS if self.where.who.allows(kind.NEEDS)]

    def on_mount(self) -> None:
        self.set_class(self.look.marks == "ascii", "-ascii")
        self.switch_mode(OverviewScreen.NAME)
        if self._pulse_seconds is not None:
            self.set_interval(self._pulse_seconds, self.pulse)

    def on_unmount(self) -> None:
        self.asker.close()

    def pulse(self) -> None:
        """Ask whether the ledger changed, and tell the screen that is shown if so."""
        self.run_worker(self._look_for_changes(), group="pulse", exclusive=True)

    async def _look_for_changes(self) -> None:
        try:
            version = await self.asker.ask(lambda desk: desk.version(), lane="pulse")
        except GivenUpError:
            return
        except TroubleError as trouble:
            self.trouble = str(trouble)
            self._version = None
            return
        changed, self._version = version != self._version, version
        self.trouble = ""
        if isinstance(self.screen, KaifuScreen):
            if changed:
                self.screen.ledger_changed()
            self.screen.pulsed()

    def watch_trouble(self, sentence: str) -> None:
        for line in self.screen.query(TroubleLine):
            line.sentence = sentence

    def go(self, name: str) -> None:
        """Show a screen, if the role opens it."""
        if any(name == kind.NAME for kind in self.offered()):
            self.switch_mode(name)
            self.watch_trouble(self.trouble)

    def action_go(self, name: str) -> None:
        self.go(name)

    def action_help(self) -> None:
        if isinstance(self.screen, KaifuScreen):
            self.push_screen(HelpScreen(self.screen))

    def action_toggle_theme(self) -> None:
        dark, light = (THEMES[name].name for name in ("dark", "light"))
        self.theme = light if self.theme == dark else dark

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """What the command palette offers."""
        for kind in self.offered():
            yield SystemCommand(say(kind.TITLE), say("Go to this screen"), lambda name=kind.NAME: self.go(name))
        yield SystemCommand(say("Light or dark"), say("Change the colours"), self.action_toggle_theme)
        yield SystemCommand(say("Help"), say("What the keys do here"), self.action_help)
        yield SystemCommand(say("Quit"), say("Leave kaifu"), self.action_quit)


__all__ = ["KaifuApp", "TopBar"]
