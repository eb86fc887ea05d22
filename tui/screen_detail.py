"""The screen of one message: its recipients, and all about the one that is chosen among them.

Pushed over a list with the numbers of a message and of a recipient. Dismissed with None, or with a filter line for the list, when who looks
wants to see all messages of a person or a domain. Asked anew whenever the ledger changes, and the place is kept.
What is told: :mod:`kaifu.tui.detail_lines`; what can be done: :mod:`kaifu.tui.detail_acts`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from rich.cells import cell_len
from rich.text import Text
from textual.app import ComposeResult

from kaifu.proxy.access import Role
from kaifu.proxy.display import visible
from kaifu.proxy.ledger_desk import Detail, Row
from kaifu.proxy.ledger_shown import local

from . import detail_acts
from .asking import Question, RefusedError, TroubleError
from .attempts import Attempt
from .detail_dialogs import ReportDialog, TextDialog, bundle_form, note_form, pair_form, take_back_form
from .detail_lines import Facts, Shown, erased, facts, told
from .detail_proof import entries_of, told_proof
from .detail_report import Report, reports_of
from .dialogs import Choice, Form
from .integrity_anchors import anchors_file, kept_anchors
from .line_view import Lines, LineView
from .lines import Told, laid_out
from .look import fitted
from .receipts_export import which
from .screens import Binding, KaifuScreen, Plain
from .statewords import marked
from .words import later, say, say_many

_MOST_WORDS = 30
_RECIPIENTS_SHOWN = 4


class DetailScreen(KaifuScreen):
    """``message``, ``recipient``: their numbers."""

    NAME = "detail"
    TITLE = later("Message")
    NEEDS = Role.AUDITOR
    HELP_TEXT = later(
        "All about one message and one of its recipients: what was decided and why, what came back and how it was judged."
        " No answer does not mean that it was not read."
    )
    AUTO_FOCUS = "#told"
    DEFAULT_CSS = """
    DetailScreen .head { height: 1; background: $panel; padding: 0 1; }
    DetailScreen #recipients { background: $surface; }
    DetailScreen #told { padding: 0 1; border-top: $line $secondary; }
    """
    BINDINGS: ClassVar[list[Any]] = [
        Binding("escape,backspace", "back", later("Back"), key_display="esc"),
        Binding("v", "reports", later("Report")),
        Binding("p", "proof", later("Proof"), show=False),
        Binding("b", "bundle", later("Bundle")),
        Binding("n", "note", later("Note")),
        Binding("a", "pair", later("Pair an address"), show=False),
        Binding("u", "take_back", later("Take back a note or a pairing"), show=False),
        Binding("f", "follow", later("All of...")),
        Binding("right,l", "recipient(1)", later("Recipient"), key_display="h/l"),
        Binding("left,h", "recipient(-1)", later("Recipient before"), show=False),
        Binding("r", "refresh", later("Ask again"), show=False),
    ]

    def __init__(self, message: int, recipient: int) -> None:
        super().__init__()
        self.message = message
        self.recipient = recipient
        self.found: Detail | None = None
        self.about: Facts | None = None
        self._failed = False
        self._reports: list[Report] = []
        self._answering: list[str] = []
        self._revocable: list[tuple[str, str]] = []

    def body(self) -> ComposeResult:
        yield Plain(id="subject", classes="head")
        yield Plain(id="envelope", classes="head")
        yield LineView(chooses=True, id="recipients")
        yield LineView(id="told")

    def on_mount(self) -> None:
        self.query_one("#recipients").display = False
        self.action_refresh()

    def ledger_changed(self) -> None:
        self.action_refresh()

    def action_refresh(self) -> None:
        """Ask for everything anew."""
        self._failed = False
        self.start(self._load(), "load")

    def pulsed(self) -> None:
        if self._failed:
            self.action_refresh()

    async def _load(self) -> None:
        try:
            found = await self.ask(lambda desk: desk.details(str(self.message)), lane="detail")
            self._failed = False
        except TroubleError as trouble:
            self._failed = not isinstance(trouble, RefusedError)  # a ledger that was locked is asked again
            raise
        self.found = found[0] if found else None
        if self.found is not None and self.row() is None:
            self.recipient = self.found.recipients[0].recipient
        self._show()

    def row(self) -> Row | None:
        """The recipient that is chosen."""
        rows = self.found.recipients if self.found is not None else ()
        return next((row for row in rows if row.recipient == self.recipient), None)

    def _show(self) -> None:
        found, row = self.found, self.row()
        if found is None or row is None:
            gone = Told(say("The ledger has no message {number}.", number=self.message))
            self.query_one("#told", LineView).show(lambda width: laid_out([gone], width))
            self.about = None
            self.refresh_bindings()
            return
        self._show_head(found, row)
        self._show_recipients(found)
        self._show_told(found, row)

    def _show_told(self, found: Detail, row: Row) -> None:
        about = self.about = facts(found, row)
        self._reports = reports_of(found, row.recipient)
        self._answering = [] if row.address is None else detail_acts.answering(about)
        self._revocable = list(detail_acts.revocable(about))
        paragraphs = told(about, self._how())
        self.query_one("#told", LineView).show(lambda width: laid_out(paragraphs, width))
        self.refresh_bindings()

    def _show_head(self, found: Detail, row: Row) -> None:
        self.query_one("#subject", Plain).show(erased(row.subject, later("(not recorded)")), "bold")
        parts = [
            erased(row.sender),
            local(row.sent_at, self.kaifu.where.zone),
            say_many("{n} recipient", "{n} recipients", len(found.recipients)),
            say("No. {number}", number=row.message),
        ]
        self.query_one("#envelope", Plain).show("   ".join(parts))

    def _show_recipients(self, found: Detail) -> None:
        view, rows, marks = self.query_one("#recipients", LineView), found.recipients, self.kaifu.look.marks
        view.display = len(rows) > 1
        view.styles.height = min(len(rows), max(_RECIPIENTS_SHOWN, self.size.height // 6))
        shown = [marked(row, marks) for row in rows]
        widest = min(_MOST_WORDS, max(cell_len(words) for _, words in shown))
        place = next(place for place, row in enumerate(rows) if row.recipient == self.recipient)

        def line(number: int, width: int) -> Text:
            sign, words = shown[number]
            address = fitted(erased(rows[number].address), max(0, width - widest - 7), marks)
            return Text(f" {fitted(sign, 2)} {fitted(words, widest, marks)}  {address}", no_wrap=True, end="")

        view.show(lambda width: Lines(len(rows), lambda number: line(number, width)), place)

    def on_line_view_moved(self, event: LineView.Moved) -> None:
        """Another recipient is chosen."""
        if event.view.id == "recipients" and self.found is not None:
            row = self.found.recipients[event.line]
            self.recipient = row.recipient
            self.query_one("#told", LineView).scroll_to(y=0, animate=False)
            self._show_told(self.found, row)

    def action_recipient(self, step: int) -> None:
        """To the next recipient, or the one before."""
        self.query_one("#recipients", LineView).action_move(step)

    # What can be done here.

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Nothing is offered that the role may not do, or for which there is nothing."""
        about, admin = self.about, self.may(Role.ADMIN)
        offered = {
            "recipient": about is not None and len(about.found.recipients) > 1,
            "reports": about is not None and bool(self._reports),
            "note": about is not None and admin,
            "pair": about is not None and admin and bool(self._answering),
            "take_back": about is not None and admin and bool(self._revocable),
            **dict.fromkeys(("proof", "bundle", "follow"), about is not None),
        }
        return offered[action] if action in offered else super().check_action(action, parameters)

    def _how(self) -> Shown:
        return Shown(self.kaifu.where.zone, self.kaifu.look.marks, self.may(Role.ADMIN))

    def _chosen(self) -> Facts:
        assert self.about is not None
        return self.about

    def action_reports(self) -> None:
        """The raw reports."""
        self.app.push_screen(ReportDialog(self._reports))

    def action_proof(self) -> None:
        """How the record is sealed."""
        self.start(self._proof(), "proof")

    async def _proof(self) -> None:
        about = self._chosen()
        row, entries = about.row, entries_of(about)
        seals = await self.ask(lambda desk: desk.seals(row.message, entries), lane="proof")
        lines = list(told_proof(seals, len(entries), self.kaifu.where.zone))
        self.app.push_screen(TextDialog(say("Proof: {who}", who=erased(row.address)), lines))

    def action_note(self) -> None:
        """Note a phone call or the like."""
        self._open(note_form(self._chosen().row, self._how(), self.kaifu.clock(), self._try))

    def action_pair(self) -> None:
        """Pair an address that answered."""
        self._open(pair_form(self._chosen().row, self._answering, self._try))

    def action_take_back(self) -> None:
        """Take back a note or a pairing."""
        self._open(take_back_form(self._chosen().row, self._revocable, self._try))

    def action_bundle(self) -> None:
        """Hand out the record."""
        self.start(self._bundle(), "bundle")

    async def _bundle(self) -> None:
        path = anchors_file(self.kaifu.settings)
        line = await self.ask(lambda _: detail_acts.newest_line(kept_anchors(path)), lane="anchors")
        row, own = self._chosen().row, self.kaifu.where.who.caller.unbound
        form = bundle_form(
            row, self._how(), line, None if own else which(self.kaifu.settings, self.kaifu.where.path), self._try
        )
        self._open(form, self._tell_bundle if own else self._tell_command)

    def _tell_bundle(self, sentence: str | None) -> None:
        """Stays until it is closed: the digest is what is handed on."""
        if sentence is not None:
            self.action_refresh()
            advice = say("Hand on the SHA-256 apart from the file; it stands in the timeline too.")
            self.app.push_screen(TextDialog(say("Evidence bundle"), [Told(sentence), Told(""), Told(advice)]))

    def _tell_command(self, command: str | None) -> None:
        if command is not None:
            self.app.push_screen(TextDialog(say("Type this in a shell of your own"), [Told(command)]))

    async def _try(self, question: Question[Attempt]) -> Attempt:
        return await self.ask(question)

    def _open(self, form: Form, then: Callable[[str | None], None] | None = None) -> None:
        self.app.push_screen(form, then or self._done)

    def _done(self, sentence: str | None) -> None:
        """After an act everything is asked anew."""
        if sentence is not None:
            self.notify(visible(sentence), markup=False)
            self.action_refresh()

    def action_follow(self) -> None:
        """To the list, with all messages of a person or a domain."""
        choices = detail_acts.jumps(self._chosen().row, self.kaifu.where.zone)
        self.app.push_screen(Choice(say("All messages of a person or a domain"), (), choices), self._go_on)

    def _go_on(self, line: str | None) -> None:
        if line is not None:
            self.dismiss(line)

    def action_back(self) -> None:
        """Back to the list."""
        self.dismiss(None)
