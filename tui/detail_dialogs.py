"""The dialogs over the screen of one message: reports, proof, note, pairing, what to take back, bundle, where to go on.

Made by :mod:`kaifu.tui.screen_detail`; ``ask`` is its way to the ledger. What they do is in :mod:`kaifu.tui.detail_acts`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding

from kaifu.proxy.ledger_desk import Row
from kaifu.proxy.ledger_shown import local

from . import detail_acts
from .asking import Question
from .attempts import Attempt, outcome
from .detail_lines import Shown, erased
from .detail_report import Report, heading, told_report
from .detail_words import CONFIRMED_BY
from .dialogs import Dialog, Field, Form, Given
from .line_view import LineView
from .lines import Told, laid_out
from .screens import Plain
from .words import say

Ask = Callable[[Question[Attempt]], Awaitable[Attempt]]


class TextDialog(Dialog):
    """Paragraphs to read, as large as the screen."""

    DEFAULT_CSS = """
    TextDialog > Vertical { width: 100%; height: 100%; }
    TextDialog #text { height: 1fr; }
    TextDialog #keys { margin-top: 0; }
    TextDialog #sentence { display: none; }
    """
    BINDINGS: ClassVar[list[Any]] = [Binding("q", "leave", show=False)]

    def __init__(self, title: str, text: Sequence[Told]) -> None:
        super().__init__(title)
        self._text = tuple(text)

    def fields(self) -> ComposeResult:
        yield LineView(id="text")

    def opened(self) -> None:
        self.show(self._text)
        self.set_focus(self.query_one("#text"))

    def show(self, text: Sequence[Told]) -> None:
        """Show other paragraphs."""
        self.query_one("#text", LineView).show(lambda width: laid_out(text, width))


class ReportDialog(TextDialog):
    """The reports that are kept, one at a time, as they came."""

    BINDINGS: ClassVar[list[Any]] = [
        Binding("right,l,n", "step(1)", show=False),
        Binding("left,h,p", "step(-1)", show=False),
    ]

    def __init__(self, reports: Sequence[Report]) -> None:
        super().__init__("", ())
        self._reports = tuple(reports)
        self._place = 0

    def keys(self) -> str:
        return say("h/l: the report before, the next one   esc: leave") if len(self._reports) > 1 else say("esc: leave")

    def opened(self) -> None:
        super().opened()
        self.action_step(0)

    def action_step(self, step: int) -> None:
        """To another report."""
        self._place = min(max(self._place + step, 0), len(self._reports) - 1)
        report = self._reports[self._place]
        count = f"{self._place + 1}/{len(self._reports)}  " if len(self._reports) > 1 else ""
        self.query_one("#title", Plain).show(count + heading(report))
        self.query_one("#text").scroll_to(y=0, animate=False)
        self.show(tuple(told_report(report.octets)))


def note_form(row: Row, how: Shown, now: int, ask: Ask) -> Form:
    """Note that the recipient confirmed otherwise."""
    fields = (
        Field("how", say("How"), "phone", tuple((key, say(words)) for key, words in CONFIRMED_BY.items())),
        Field("at", say("When"), local(now, how.zone)),
        Field("text", say("What was said")),
    )
    told = (
        Told(
            say(
                "{who} has confirmed otherwise. A note stands beside the receipts and changes no state.",
                who=erased(row.address),
            )
        ),
    )

    async def act(given: Given) -> str:
        return outcome(await ask(detail_acts.note(row, given, how.zone, now)))

    return Form(say("Note a confirmation"), told, fields, act)


def pair_form(row: Row, others: Sequence[str], ask: Ask) -> Form:
    """Pair an address that answered with the recipient."""
    fields = (
        Field("other", say("Answers instead"), others[0], tuple((other, other) for other in others)),
        Field("text", say("How you know")),
    )
    told = (
        Told(
            say(
                "What this address has answered and will answer then counts as an answer of {who}, in this message and in all"
                " others. It stays on record that you said so; you can take it back.",
                who=erased(row.address),
            )
        ),
    )

    async def act(given: Given) -> str:
        return outcome(await ask(detail_acts.pair(row, given)))

    return Form(say("Pair an address"), told, fields, act)


def take_back_form(row: Row, choices: Sequence[tuple[str, str]], ask: Ask) -> Form:
    """Take back a note or a pairing."""
    told = (
        Told(
            say(
                "It stays on record, with a further entry that it is taken back. What only a pairing let count then counts no more."
            )
        ),
    )

    async def act(given: Given) -> str:
        what, _, entry = given["what"].partition(" ")
        return outcome(await ask(detail_acts.take_back(row, what, int(entry))))

    return Form(say("Take back"), told, (Field("what", say("What"), "", tuple(choices)),), act)


def bundle_form(row: Row, how: Shown, line: str, which: Sequence[str] | None, ask: Ask) -> Form:
    """Hand out the record of the recipient. ``which``: None where a file may be written here; else the options of the command to type."""
    fields = [Field("to", say("To whom")), Field("purpose", say("Why")), Field("anchor", say("Anchor they hold"), line)]
    told = [
        Told(
            say(
                "The record of {who} for somebody who has no ledger, with a proof. What concerns others is left out. To whom and why goes"
                " on record.",
                who=erased(row.address),
            )
        )
    ]
    if which is None:
        fields.append(Field("file", say("New file"), detail_acts.file_name(row)))
    else:
        told.append(Told(say("The file is to be yours, so you are shown what to type in a shell of your own.")))

    async def act(given: Given) -> str:
        if which is None:
            return outcome(await ask(detail_acts.bundle(row, given, how.zone)))
        return detail_acts.bundle_command(row, given, which)

    return Form(say("Hand out an evidence bundle"), told, fields, act)
