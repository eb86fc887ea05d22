"""The screen Integrity: whether the ledger stands, who did what, and which receipts match nothing.

Three sections under one bar. The chain is for everybody who may see figures; the audit trail and unmatched receipts are for auditors, and to look at them is on
record. A verification has a thread of its own (:mod:`kaifu.tui.integrity_run`) and goes on while other sections and screens are shown. What is told:
:mod:`kaifu.tui.integrity_lines`, :mod:`kaifu.tui.audit_words`.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.message import Message
from textual.widgets import Static

from kaifu.proxy.access import Role
from kaifu.proxy.health import read_verified
from kaifu.proxy.ledger_anchor import Anchor
from kaifu.proxy.ledger_desk import Act, ActFilter, ActPlace, Desk, Unmatched
from kaifu.proxy.ledger_places import places_of
from kaifu.proxy.ledger_shown import local

from .asking import RefusedError, TroubleError
from .audit_filter import described, fields_of, wanted
from .audit_list import ActsPage, AuditList
from .audit_words import act_in_full
from .detail_dialogs import TextDialog
from .detail_lines import unmatched
from .dialogs import Field, Form, Given
from .integrity_anchors import anchors_file, kept_anchors, pasted_anchors
from .integrity_lines import HELP, Outcome, State, progress_bar, told_integrity
from .integrity_run import Verification, is_of_settings
from .line_view import Lines, LineView
from .lines import Told, laid_out
from .look import fitted
from .receipts_feed import Ask
from .screen_detail import DetailScreen
from .screens import Binding, KaifuScreen, Plain
from .words import later, say

SECTIONS = (
    ("chain", "c", later("Chain"), Role.VIEWER),
    ("audit", "a", later("Audit trail"), Role.AUDITOR),
    ("unmatched", "u", later("Unmatched receipts"), Role.AUDITOR),
)
"""Name, key, title, and the role that opens it."""


class SectionsLine(Static):
    """The names of the sections with their keys, the one that is shown reversed. A click leads to one."""

    DEFAULT_CSS = "SectionsLine { height: 1; background: $surface; }"

    class Clicked(Message):
        """A section is to be shown."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    def __init__(self) -> None:
        super().__init__("", markup=False)
        self._ends: list[tuple[int, str]] = []

    def draw(self, offered: tuple[tuple[str, str, str], ...], shown: str) -> None:
        """``offered``: name, key, title."""
        line = Text(no_wrap=True, end="")
        self._ends.clear()
        for name, key, words in offered:
            line.append(f" {key} {say(words)} ", "reverse" if name == shown else "")
            self._ends.append((line.cell_len, name))
        self.update(line)

    def on_click(self, event: events.Click) -> None:
        """Show what was clicked."""
        name = next((name for end, name in self._ends if event.x < end), None)
        if name is not None:
            self.post_message(self.Clicked(name))


class IntegrityScreen(KaifuScreen):
    """Integrity."""

    NAME = "integrity"
    TITLE = later("Integrity")
    NEEDS = Role.VIEWER
    HELP_TEXT = HELP
    AUTO_FOCUS = "#chain"
    DEFAULT_CSS = """
    IntegrityScreen #chain { padding: 0 1; }
    IntegrityScreen #filter, IntegrityScreen #progress { height: 1; padding: 0 1; background: $surface; display: none; }
    """
    BINDINGS: ClassVar[list[Any]] = [
        Binding("v", "verify", later("Verify")),
        Binding("x", "stop", later("Stop verifying")),
        Binding("slash", "filter", later("Filter")),
        *(Binding(key, f"section('{name}')", words, show=False) for name, key, words, _ in SECTIONS),
        Binding("escape", "leave_filter", later("No filter"), show=False),
        Binding("r", "refresh", later("Ask again"), show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.section = "chain"
        self.filter = ActFilter()
        self.state: State | None = None
        self._outcome: Outcome | None = None
        self._verification: Verification | None = None
        self._apart: list[Unmatched] = []
        self._failed = False

    def body(self) -> ComposeResult:
        yield SectionsLine()
        yield Plain(id="filter")
        yield LineView(id="chain")
        yield AuditList(self.kaifu.where.zone, self.kaifu.look, id="audit")
        yield LineView(chooses=True, id="unmatched")
        yield Plain(id="progress")

    def on_mount(self) -> None:
        self._show_section()
        self.action_refresh()

    # Sections.

    def _offered(self) -> tuple[tuple[str, str, str], ...]:
        return tuple((name, key, words) for name, key, words, role in SECTIONS if self.may(role))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Nothing is offered that the role may not do, or that does nothing here."""
        if action == "section":
            return any(name in parameters for name, _, _ in self._offered())
        if action == "filter":
            return self.section == "audit"
        if action == "leave_filter":
            return self.section == "audit" and self.filter != ActFilter()
        if action in ("verify", "stop"):
            return (action == "stop") == (self._verification is not None)
        return super().check_action(action, parameters)

    def on_sections_line_clicked(self, event: SectionsLine.Clicked) -> None:
        """As its key does."""
        self.action_section(event.name)

    def action_section(self, name: str) -> None:
        """Show a section."""
        if name != self.section:
            self.section = name
            self._show_section()
            self.action_refresh()

    def _show_section(self) -> None:
        for name, _, _, _ in SECTIONS:
            self.query_one(f"#{name}").display = name == self.section
        self.query_one(SectionsLine).draw(self._offered(), self.section)
        line = described(self.filter, self.kaifu.where.zone)
        self.query_one("#filter", Plain).show(say("Filter: {line}", line=line))
        self.query_one("#filter").display = bool(line) and self.section == "audit"
        self.query_one(f"#{self.section}").focus()
        self.refresh_bindings()

    def ledger_changed(self) -> None:
        if self.section == "audit":
            self.query_one(AuditList).feed.changed()
        self.action_refresh()

    def pulsed(self) -> None:
        if self._failed:
            self.ledger_changed()

    def action_refresh(self) -> None:
        """Ask anew for what is shown."""
        self._failed = False
        if self.section == "chain":
            self.start(self._until_answered(self._load_chain()), "chain")
        elif self.section == "audit":
            self.start(self._until_answered(self._load_acts()), "acts")
        else:
            self.start(self._until_answered(self._load_unmatched()), "unmatched")

    async def _until_answered(self, work: Coroutine[Any, Any, None]) -> None:
        """What a locked ledger did not answer is asked again with the next pulse; what was refused is not."""
        try:
            await work
            self._failed = False
        except TroubleError as trouble:
            self._failed = not isinstance(trouble, RefusedError)
            raise

    # The chain, and verifications of it.

    async def _load_chain(self) -> None:
        app, now = self.kaifu, self.kaifu.clock()
        places = None if app.settings is None else tuple(places_of(app.settings.anchors))

        def question(desk: Desk) -> State:
            return State(desk.chain(), desk.attention(now), read_verified(desk.path), None, places)

        self.state = await self.ask(question, lane="chain")
        self._show_chain()

    def _show_chain(self) -> None:
        if self.state is not None:
            state = State(self.state.chain, self.state.attention, self.state.verified, self._outcome, self.state.places)
            told = list(told_integrity(state, self.kaifu.where.zone, self.kaifu.clock()))
            self.query_one("#chain", LineView).show(lambda width: laid_out(told, width))

    def action_verify(self) -> None:
        """Ask for an anchor, then verify."""
        self.start(self._ask_for_anchor(), "anchors")

    async def _ask_for_anchor(self) -> None:
        path = anchors_file(self.kaifu.settings)
        kept = await self.ask(lambda _: kept_anchors(path), lane="anchors")
        told = [
            Told(
                say(
                    "Everything is recomputed, in a thread of its own; the ledger goes on working, and you can stop it at any time."
                )
            )
        ]
        if kept:
            told.append(Told(say("It is compared with {n} anchors of {file}.", n=len(kept), file=path)))
        told.append(Told(say("Paste an anchor line that was kept elsewhere, if you have one.")))

        async def act(given: Given) -> str:
            self._verify([*kept, *pasted_anchors(given["anchor"])])
            return ""

        self.app.push_screen(Form(say("Verify"), told, (Field("anchor", say("Anchor")),), act))

    def _verify(self, anchors: list[Anchor]) -> None:
        where, keep = self.kaifu.where, is_of_settings(self.kaifu.where, self.kaifu.settings)
        self._verification = Verification(where, anchors, self.kaifu.clock, self._progressed, keep=keep)
        self._progressed(0, 0)
        self.refresh_bindings()
        self.start(self._run(self._verification), "verify")

    async def _run(self, running: Verification) -> None:
        try:
            report = await running.run()
        finally:
            self._verification = None
            self.query_one("#progress").display = False
            self.refresh_bindings()
        if report is None:
            self.notify(say("The verification was stopped; it says nothing."), markup=False)
            return
        self._outcome = Outcome(report, running.anchors, self.kaifu.clock())
        words = say("The ledger is intact.") if report.intact else say("The ledger is NOT intact.")
        self.notify(words, severity="information" if report.intact else "error", markup=False)
        self._show_chain()

    def _progressed(self, done: int, of: int) -> None:
        line = self.query_one("#progress", Plain)
        line.display = self._verification is not None
        line.show(progress_bar(done, of, self.size.width - 2, self.kaifu.look.marks))

    def action_stop(self) -> None:
        """Give the verification up."""
        if self._verification is not None:
            self._verification.give_up()

    # The audit trail.

    def on_audit_list_wanting(self, _: AuditList.Wanting) -> None:
        """More rows."""
        if self.section == "audit":
            self.start(self._until_answered(self._load_acts()), "acts")

    async def _load_acts(self) -> None:
        view = self.query_one(AuditList)
        feed, shown = view.feed, self.filter
        while (ask := feed.next()) is not None:
            try:
                feed.take(ask, await self._page(ask, shown))
            except TroubleError:
                feed.failed(ask)
                raise
            except BaseException:  # given up, or the worker was cancelled
                feed.dropped(ask)
                raise
            view.refresh()

    async def _page(self, ask: Ask[ActPlace], shown: ActFilter) -> ActsPage:
        acts = await self.ask(
            lambda desk: desk.acts_page(shown, after=ask.after, limit=ask.limit, newest_first=ask.down), lane="acts"
        )
        return ActsPage(acts, len(acts) < ask.limit)

    def action_filter(self) -> None:
        """Which acts to show."""
        zone, clock = self.kaifu.where.zone, self.kaifu.clock
        labels = {
            "what": say("Act"),
            "actor": say("Who"),
            "since": say("Since"),
            "until": say("Until"),
            "message": say("Message"),
        }
        fields = [Field(name, labels[name], value) for name, value in fields_of(self.filter, zone).items()]
        told = [
            Told(
                say(
                    "Act: list, show, export, audit, bundle, note, pair, refused and so on, several with commas between."
                )
            )
        ]

        async def act(given: Given) -> str:
            self._filter_by(wanted(given, zone, clock()))
            return ""

        self.app.push_screen(Form(say("Filter"), told, fields, act, at_once=True))

    def _filter_by(self, shown: ActFilter) -> None:
        self.filter = shown
        self._show_section()
        self.query_one(AuditList).begin()

    def action_leave_filter(self) -> None:
        """All acts again."""
        self._filter_by(ActFilter())

    def on_audit_list_opened(self, event: AuditList.Opened) -> None:
        """An act in full."""
        told = tuple(act_in_full(event.act, self.kaifu.where.zone))
        self.app.push_screen(ActDialog(event.act, told), self._open_message)

    def _open_message(self, number: str | None) -> None:
        if number is not None:
            self.app.push_screen(DetailScreen(int(number), 0), self.kaifu.show_receipts)

    # Receipts that match nothing.

    async def _load_unmatched(self) -> None:
        self._apart = await self.ask(lambda desk: desk.unmatched(), lane="unmatched")
        zone, marks = self.kaifu.where.zone, self.kaifu.look.marks
        view = self.query_one("#unmatched", LineView)
        if not self._apart:
            view.show(
                lambda width: laid_out(
                    [Told(say("Every receipt of the last 14 days matches a message."), deep=1)], width
                )
            )
            return

        def line(number: int, width: int) -> Text:
            one = self._apart[number]
            text = f" {local(one.at, zone)}  {unmatched(one.kind, one.value, one.by, one.cited)}"
            return Text(fitted(text, width, marks), no_wrap=True, end="")

        view.show(lambda width: Lines(len(self._apart), lambda number: line(number, width)))

    def on_line_view_chosen(self, event: LineView.Chosen) -> None:
        """One of them in full."""
        if event.view.id == "unmatched" and event.line < len(self._apart):
            one, zone = self._apart[event.line], self.kaifu.where.zone
            carrier = [] if one.carrier is None else [Told(str(one.carrier), say("Message"))]
            text = (
                Told(local(one.at, zone, seconds=True), say("When")),
                Told(unmatched(one.kind, one.value, one.by, one.cited)),
                Told(one.about, say("About")),
                Told(one.message_id or "", say("Message-ID")),
                *carrier,
                Told(local(one.expires * 1_000_000, zone), say("Kept until")),
            )
            self.app.push_screen(TextDialog(say("Unmatched receipt"), text))


class ActDialog(TextDialog):
    """An act in full; ``m`` leads to the message that it is about."""

    BINDINGS: ClassVar[list[Any]] = [Binding("m", "message", show=False)]

    def __init__(self, act: Act, text: tuple[Told, ...]) -> None:
        super().__init__(say("Entry {entry}", entry=act.entry), text)
        self._act = act

    def keys(self) -> str:
        return say("m: show the message   esc: leave") if self._act.message is not None else say("esc: leave")

    def action_message(self) -> None:
        """Show the message."""
        if self._act.message is not None:
            self.dismiss(str(self._act.message))
