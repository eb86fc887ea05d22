"""What all screens share: the bar with their names, a line for trouble, keys in the footer, and how they ask the ledger.

A screen is a subclass of :class:`KaifuScreen` that gives :meth:`~KaifuScreen.body`. It asks in workers (:meth:`~KaifuScreen.start`), which go on in
the event loop, so no thread ever touches a widget. Trouble with the ledger is shown in one line and goes away when a
question is answered again; nothing that goes wrong there ends the program.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingsMap
from textual.containers import Vertical, VerticalScroll
from textual.css.query import NoMatches
from textual.reactive import reactive
from textual.screen import Screen
from textual.widgets import Static

from kaifu.proxy.access import Role

from .asking import Answer, GivenUpError, Question, TroubleError
from .keys import KeysLine
from .look import plain
from .words import later, say

if TYPE_CHECKING:
    from .app import KaifuApp


ROLES = (later("viewer"), later("auditor"), later("admin"), later("nobody"))
"""Every word of :class:`kaifu.proxy.access.Role`."""


class Plain(Static):
    """A line or a paragraph that may hold anything: never markup."""

    def __init__(self, text: str = "", **more: Any) -> None:
        super().__init__(plain(text) if text else "", markup=False, **more)

    def show(self, text: str, style: str = "") -> None:
        """Show other text."""
        self.update(plain(text, style))


class TopBar(Static):
    """The names of the screens, the one that is shown reversed; who looks, and with which role."""

    DEFAULT_CSS = "TopBar { dock: top; height: 1; background: $panel; }"

    def __init__(self) -> None:
        super().__init__("", markup=False)

    def on_mount(self) -> None:
        self.refresh_bar()

    def refresh_bar(self) -> None:
        """Draw it anew."""
        from rich.text import Text

        app: KaifuApp = self.app  # type: ignore[assignment]
        bar = Text(no_wrap=True, end="")
        for number, kind in app.offered():
            current = app.current_mode == kind.NAME
            bar.append(f" {number} {say(kind.TITLE)} ", "reverse bold" if current else "")
        who = f"{app.where.who.caller.name} ({say(app.role.word)}) "
        room = self.app.size.width - bar.cell_len - plain(who).cell_len
        if room > 0:
            bar.append(" " * room)
            bar.append_text(plain(who))
        self.update(bar)

    def on_resize(self) -> None:
        self.refresh_bar()

    def on_click(self, event: Any) -> None:
        """A name leads to its screen."""
        app: KaifuApp = self.app  # type: ignore[assignment]
        from rich.cells import cell_len

        right = 0
        for number, kind in app.offered():
            right += cell_len(f" {number} {say(kind.TITLE)} ")
            if event.x < right:
                app.go(kind.NAME)
                return


class TroubleLine(Static):
    """What is wrong now; takes no room while nothing is."""

    DEFAULT_CSS = """
    TroubleLine { height: auto; max-height: 5; display: none; background: $error; color: $background; text-style: bold; padding: 0 1; }
    TroubleLine.-shown { display: block; }
    """

    sentence: reactive[str] = reactive("")

    def __init__(self) -> None:
        super().__init__("", markup=False)

    def watch_sentence(self, sentence: str) -> None:
        self.set_class(bool(sentence), "-shown")
        text = plain(say("! {why}", why=sentence))
        text.no_wrap = False
        self.update(text)


class TooSmall(Static):
    """Stands alone on a terminal on which a screen has no room."""

    DEFAULT_CSS = "TooSmall { display: none; height: 1fr; }"
    LEAST = (50, 12)

    def __init__(self) -> None:
        super().__init__("", markup=False)

    def on_resize(self) -> None:
        text = plain(
            say("kaifu needs {columns} columns and {lines} lines.", columns=self.LEAST[0], lines=self.LEAST[1])
        )
        text.no_wrap = False
        self.update(text)


class KaifuScreen(Screen[str | None]):
    """One screen. ``NAME``: of its mode; ``TITLE``: in the bar; ``NEEDS``: the role without which it is not offered."""

    NAME: ClassVar[str] = ""
    TITLE: ClassVar[str] = ""
    NEEDS: ClassVar[Role] = Role.VIEWER
    HELP_TEXT: ClassVar[str] = ""
    AUTO_FOCUS = "*"

    def __init__(self) -> None:
        super().__init__()
        self._bindings = translated(self._bindings)
        self._told: int | None = None

    @property
    def kaifu(self) -> KaifuApp:
        """The application."""
        return self.app  # type: ignore[return-value]

    def compose(self) -> ComposeResult:
        yield TopBar()
        with VerticalScroll(can_focus=False, classes="body"):
            yield from self.body()
        with Vertical(classes="foot"):
            yield TroubleLine()
            yield KeysLine()
        yield TooSmall()

    def on_resize(self, event: events.Resize) -> None:
        """On a terminal that is too small nothing is shown but that it is."""
        columns, lines = TooSmall.LEAST
        self.set_class(event.size.width < columns or event.size.height < lines, "-small")

    def body(self) -> ComposeResult:
        """What stands between the bar and the footer."""
        raise NotImplementedError

    def start(self, work: Coroutine[Any, Any, None], group: str = "") -> None:
        """Do this in a worker; of one group only the newest goes on. Trouble is shown."""
        self.run_worker(self._watched(work), group=group or "default", exclusive=bool(group))

    async def _watched(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except GivenUpError:
            pass
        except TroubleError as trouble:
            self.kaifu.say_trouble("question", str(trouble))
        except NoMatches:
            if not self._is_gone():
                raise

    def _is_gone(self) -> bool:
        """Was it taken down, or is it about to be? What a worker wanted to show has no place then."""
        return not (self.display and self.is_running and self.is_attached and self.app.is_running)

    async def ask(self, question: Question[Answer], *, lane: str = "") -> Answer:
        """:meth:`kaifu.tui.asking.Asker.ask`, for use within :meth:`start`; an answer ends the trouble that is shown."""
        answer = await self.kaifu.asker.ask(question, lane=f"{self.NAME}.{lane}" if lane else "")
        self.kaifu.say_trouble("question", "")
        return answer

    def may(self, role: Role) -> bool:
        """Has who looks this role?"""
        return self.kaifu.where.who.allows(role)

    def heed(self, version: int | None) -> None:
        """The ledger has this version: :meth:`ledger_changed` is told if that is news here."""
        if version is not None and version != self._told:
            self._told = version
            self.ledger_changed()

    def on_screen_resume(self) -> None:
        """Shown again: what changed in the meantime is told."""
        self.refresh_frame()
        if self._told is not None:
            self.heed(self.kaifu.version)

    def refresh_frame(self) -> None:
        """Draw bar and trouble as they are now."""
        for bar in self.query(TopBar):
            bar.refresh_bar()
        for line in self.query(TroubleLine):
            line.sentence = self.kaifu.trouble

    def ledger_changed(self) -> None:
        """Something in the ledger changed (told at most once a second, to the screen that is shown, and first with the first pulse)."""

    def pulsed(self) -> None:
        """A second has passed, and the ledger answers (told to the screen that is shown, after :meth:`ledger_changed`)."""


def translated(bindings: BindingsMap) -> BindingsMap:
    """The same keys, with what they do in the language that is spoken."""
    from dataclasses import replace

    return BindingsMap(
        replace(
            one,
            description=say(one.description) if one.description else "",
            tooltip=say(one.tooltip) if one.tooltip else "",
        )
        for some in bindings.key_to_bindings.values()
        for one in some
    )


__all__ = ["Binding", "KaifuScreen", "Plain", "TopBar", "TroubleLine", "translated"]
