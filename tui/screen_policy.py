"""The policy: its rules in order, how often each decided, what each says, what is wrong with it, and which version is in force.

The file is read again when it changes, what relay and milter say of it every :data:`LOOK_SECONDS`, counts at most every :data:`COUNT_SECONDS` while mail
flows. Viewers see names, counts and warnings, auditors also what the rules say, and may try a message
(:class:`kaifu.tui.policy_try.TryScreen`).
"""

from __future__ import annotations

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding

from kaifu.proxy.access import Role

from .line_view import LineView
from .lines import Told, laid_out
from .look import fitted, plain
from .policy_read import Standing, standing
from .policy_told import MODES, Item, heading, health_words, items
from .policy_try import TryScreen
from .screens import KaifuScreen, Plain
from .words import later, say, say_many

LOOK_SECONDS = 5
COUNT_SECONDS = 30


class PolicyScreen(KaifuScreen):
    """What the policy says, and does."""

    NAME = "policy"
    TITLE = later("Policy")
    NEEDS = Role.VIEWER
    HELP_TEXT = later(
        "The rules in their order: for each recipient the first one that holds decides. Beside each stands for how many recipients it"
        " decided in the last 30 days. Try a message to see which rule decides about it, and why the rules before do not;"
        " or check another policy file before it takes the place of this one."
    )
    BINDINGS = [  # noqa: RUF012 - as Textual declares it
        Binding("m", "try_message", later("Try a message")),
        Binding("c", "check", later("Check a file")),
        Binding("r", "refresh", later("Refresh")),
    ]
    AUTO_FOCUS = "#rules"
    DEFAULT_CSS = """
    PolicyScreen .head { height: 1; padding: 0 1; }
    PolicyScreen #columns { padding: 0; }
    PolicyScreen #rules { height: 2fr; }
    PolicyScreen #said { height: 3fr; border-top: $line $secondary; padding: 0 1; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.standing: Standing | None = None
        self.items: list[Item] = []
        self._looked_at = self._counted_at = 0
        self._changed = True

    def body(self) -> ComposeResult:
        yield Plain(id="file", classes="head")
        yield Plain(id="health", classes="head")
        yield Plain(id="columns", classes="head")
        yield LineView(chooses=True, id="rules")
        yield LineView(id="said")

    def on_mount(self) -> None:
        self.query_one("#columns", Plain).show(heading(), "bold")
        if self.kaifu.settings is None:
            self.query_one("#file", Plain).show(
                say("No settings were named, so there is no policy to show: start with --config.")
            )
        self.action_refresh()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Trying is for auditors, a file for who reads it with rights of his own."""
        if action in ("try_message", "check"):
            unbound = self.kaifu.where.who.caller.unbound
            return self.kaifu.settings is not None and self.may(Role.AUDITOR) and (unbound or action != "check")
        return True

    def ledger_changed(self) -> None:
        self._changed = True

    def pulsed(self) -> None:
        """Look again, now and then."""
        now = self.kaifu.clock() // 1_000_000
        if self.kaifu.settings is not None and now - self._looked_at >= LOOK_SECONDS:
            self.start(self._load(count=self._changed and now - self._counted_at >= COUNT_SECONDS), "load")

    def action_refresh(self) -> None:
        """Ask for everything anew."""
        if self.kaifu.settings is not None:
            self.start(self._load(), "load")

    async def _load(self, count: bool = True) -> None:
        kaifu, settings, before = self.kaifu, self.kaifu.settings, self.standing
        assert settings is not None
        now = kaifu.clock()
        self._looked_at = now // 1_000_000
        if count:
            self._counted_at, self._changed = self._looked_at, False
        found = await self.ask(
            lambda desk: standing(desk, settings, kaifu.where.who, now, before, count), lane="standing"
        )
        if found != self.standing:
            self.standing = found
            self._show(found)

    def _show(self, found: Standing) -> None:
        view = self.query_one("#rules", LineView)
        before = self.items[view.cursor].key if 0 <= view.cursor < len(self.items) else None
        self.items = items(found, self.may(Role.AUDITOR))
        keys = [each.key for each in self.items]
        self._show_head(found)
        view.show(self._lines, keys.index(before) if before in keys else 0)
        self._show_said()

    def _lines(self, width: int) -> list[Text]:
        return [plain(each.line(width, self.kaifu.look.marks)) for each in self.items]

    def _show_head(self, found: Standing) -> None:
        policy, zone = found.shown, self.kaifu.where.zone
        parts = []
        if policy is not None:
            rules = say_many("{n} rule", "{n} rules", len(policy.rules))
            parts += [rules, say(MODES[policy.mode]), policy.digest]
        parts.append(found.read.file)
        width = self.size.width - 2
        self.query_one("#file", Plain).show(fitted("   ".join(parts), width, self.kaifu.look.marks), "bold")
        words = "   ".join(health_words(found, zone))
        self.query_one("#health", Plain).show(fitted(words, width, self.kaifu.look.marks))

    def on_line_view_moved(self, event: LineView.Moved) -> None:
        """Tell about the rule under the cursor."""
        if event.view.id == "rules":
            self._show_said()

    def _show_said(self) -> None:
        cursor = self.query_one("#rules", LineView).cursor
        told: tuple[Told, ...] = self.items[cursor].told if 0 <= cursor < len(self.items) else ()
        view = self.query_one("#said", LineView)
        view.show(lambda width: laid_out(told, width))
        view.scroll_to(y=0, animate=False)

    def action_try_message(self) -> None:
        self.app.push_screen(TryScreen())

    def action_check(self) -> None:
        self.app.push_screen(TryScreen("candidate"))
