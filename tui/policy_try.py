"""Try a message: which rule decides for each recipient, and why, rule by rule; and what another policy file would change.

Sender, recipients and subject are typed. Who looks with rights of his own may name a message in a file instead of a subject, and a
candidate: a policy file that is checked before it takes the place of the one in force. Nothing is sent or changed; what the ledger is asked for is
on record there, as for ``kaifu policy explain``.
"""

from __future__ import annotations

from datetime import datetime

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal
from textual.widgets import Input

from kaifu.proxy.access import Role

from .dialogs import SafeInput
from .line_view import LineView
from .lines import Told, laid_out
from .policy_read import Typed, tried
from .policy_told import tried_told
from .screens import KaifuScreen, Plain, translated
from .words import later, say

FIELDS = (
    ("sender", later("From")),
    ("recipients", later("To")),
    ("subject", later("Subject")),
    ("message", later("Message file")),
    ("candidate", later("Candidate")),
)
FILES = ("message", "candidate")


class TryInput(SafeInput):
    """A field; enter in any of them tries."""

    BINDINGS = [Binding("enter", "submit", later("Try it"))]  # noqa: RUF012 - as Textual declares it

    def __init__(self, name: str) -> None:
        super().__init__(id=f"try-{name}")
        self._bindings = translated(self._bindings)


class TryScreen(KaifuScreen):
    """``first``: the field in which typing begins."""

    NAME = "try"
    TITLE = later("Try a message")
    NEEDS = Role.AUDITOR
    HELP_TEXT = later(
        "Type who sends to whom, several recipients with commas between, and the subject; or name a file with the whole message."
        " Enter says what would happen to it now. A candidate is a policy file that is not in force: all its errors and warnings are"
        " told, and what it would do otherwise to this message. Nothing is sent, and nothing is changed."
    )
    BINDINGS = [  # noqa: RUF012 - as Textual declares it
        Binding("ctrl+r", "asks", later("Asks for a receipt")),
        Binding("escape", "back", later("Back")),
        # Before a field has dealt with what was typed into it, so that what is typed next goes to the next one.
        Binding("tab", "app.focus_next", show=False, priority=True),
        Binding("shift+tab", "app.focus_previous", show=False, priority=True),
        Binding("down", "app.focus_next", later("Next field"), show=False),
        Binding("up", "app.focus_previous", later("Field before"), show=False),
        Binding("pagedown", "scroll(1)", later("Scroll down"), show=False, priority=True),
        Binding("pageup", "scroll(-1)", later("Scroll up"), show=False, priority=True),
    ]
    DEFAULT_CSS = """
    TryScreen Horizontal { height: 1; padding: 0 1; }
    TryScreen Horizontal Plain { width: 20; padding-right: 1; color: $text-muted; }
    TryScreen SafeInput { width: 1fr; background: $surface; }
    TryScreen #asks { height: 1; padding: 0 1; }
    TryScreen #told { border-top: $line $secondary; padding: 0 1; }
    """

    def __init__(self, first: str = "sender") -> None:
        super().__init__()
        self._first = first
        self._asks = False
        self.told: list[Told] = []

    def body(self) -> ComposeResult:
        unbound = self.kaifu.where.who.caller.unbound
        for name, label in FIELDS:
            if unbound or name not in FILES:
                with Horizontal():
                    yield Plain(say(label))
                    yield TryInput(name)
        yield Plain(id="asks")
        yield LineView(id="told")

    def on_mount(self) -> None:
        self.query_one(f"#try-{self._first}").focus()
        self._show_asks()

    def typed(self) -> Typed:
        """What stands in the fields."""
        found = {name: self.query(f"#try-{name}").results(SafeInput) for name, _ in FIELDS}
        values = {name: next((each.value.strip() for each in some), "") for name, some in found.items()}
        return Typed(**values, asks=self._asks)

    def on_input_changed(self, _: Input.Changed) -> None:
        """A file speaks for itself."""
        self._show_asks()

    def on_input_submitted(self, _: Input.Submitted) -> None:
        """Enter in any field."""
        self.action_try_it()

    def action_try_it(self) -> None:
        typed = self.typed()
        if typed.is_message or typed.candidate:
            self.start(self._try(typed), "try")
        else:
            self._show([Told(say("Type who sends to whom, or name a candidate."), "!", "bold")])

    async def _try(self, typed: Typed) -> None:
        kaifu, settings = self.kaifu, self.kaifu.settings
        assert settings is not None
        at = datetime.fromtimestamp(kaifu.clock() / 1e6, kaifu.where.zone)
        found = await self.ask(lambda desk: tried(desk, settings, typed, at), lane="try")
        self._show(tried_told(found, kaifu.look.marks))

    def _show(self, told: list[Told]) -> None:
        self.told = told
        view = self.query_one("#told", LineView)
        view.show(lambda width: laid_out(told, width))
        view.scroll_to(y=0, animate=False)

    def action_asks(self) -> None:
        self._asks = not self._asks
        self._show_asks()

    def _show_asks(self) -> None:
        if self.typed().message:
            sentence = say("What the message asks for, and its subject, are as the file says.")
        else:
            sentence = say("The message asks for a receipt.") if self._asks else say("The message asks for no receipt.")
        self.query_one("#asks", Plain).show(sentence)

    def action_scroll(self, pages: int) -> None:
        self.query_one("#told", LineView).action_page(pages)

    def action_back(self) -> None:
        self.dismiss(None)
