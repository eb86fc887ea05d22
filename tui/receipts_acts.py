"""What can be done at the list of receipts beside walking it: the dialogs that filter, sort, jump, save filters and tell how to export.

The part of the screen of receipts (:mod:`kaifu.tui.screen_receipts`) that opens dialogs.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, tzinfo
from typing import Any, ClassVar

from rich.cells import cell_len
from rich.text import Text

from kaifu.proxy.access import typed as begins
from kaifu.proxy.ledger_cli import moment
from kaifu.proxy.ledger_desk import Filter, Order, Place

from .attempts import NotDoneError
from .detail_acts import jumps
from .dialogs import Choice, Dialog, Field, Form
from .filterline import Line
from .filterwords import UNANSWERED
from .lines import Told, wrapped
from .look import fitted, plain
from .receipts_export import FILE, command, which
from .receipts_line import FilterBar
from .receipts_list import Receipts
from .receipts_saved import SavedError, SavedFilters
from .screens import Binding, KaifuScreen
from .words import later, say

START = Filter(kinds=("mail",))
"""What is shown at first: receipts and delivery reports are messages as well, but hardly what one looks for."""
_SORTS = {
    Order.TIME: later("time"),
    Order.TO: later("recipient"),
    Order.FROM: later("sender"),
    Order.STATE: later("state"),
    Order.RULE: later("rule"),
}
_SAVE, _REMOVE, _USE = "save", "remove", "use:"


class ExportDialog(Dialog):
    """The command that exports, to be copied."""

    BINDINGS: ClassVar[list[Any]] = [Binding("c", "copy", later("Copy"))]

    def __init__(self, title: str, told: Sequence[Told], typed: str) -> None:
        super().__init__(title, [*told, Told(""), Told(typed)])
        self.typed = typed

    def keys(self) -> str:
        return say("c: copy   esc: leave")

    def action_copy(self) -> None:
        """To the terminal's clipboard, where it has one."""
        self.app.copy_to_clipboard(self.typed)
        self.dismiss(None)


class ReceiptActs(KaifuScreen):
    """Dialogs over a list of receipts."""

    feed: Receipts
    shown: Line
    text: str

    @property
    @abstractmethod
    def bar(self) -> FilterBar: ...
    @property
    @abstractmethod
    def by_time(self) -> bool: ...
    @abstractmethod
    def now(self) -> datetime: ...
    @abstractmethod
    def go_on(self) -> None: ...
    @abstractmethod
    def show_line(self, text: str) -> None: ...
    @abstractmethod
    def show_filter(self, wanted: Filter) -> None: ...
    @abstractmethod
    def show_order(self, wanted: Filter, order: Order, newest_first: bool) -> None: ...

    @property
    def zone(self) -> tzinfo:
        """Of times that are shown and typed."""
        return self.kaifu.where.zone

    def lines(self, some: Sequence[str]) -> Text:
        """Lines that are cut to the width of the screen; the last one goes on in a further line where it must."""
        width, marks = max(8, self.size.width - 2), self.kaifu.look.marks
        last = wrapped(some[-1], width) if some else []
        shown = [*some[:-1], *last[:1], *([" ".join(last[1:])] if last[1:] else [])]
        return Text("\n".join(fitted(line, width, marks) for line in shown), no_wrap=True, end="")

    def two_ends(self, left: str, right: str) -> Text:
        """One line: the right end is always whole, as far as it can be, the left one is cut."""
        width, marks = max(0, self.size.width - 2), self.kaifu.look.marks
        right = fitted(right, min(cell_len(plain(right).plain), width), marks)
        room = width - cell_len(right) - (2 if right else 0)
        return Text(fitted(left, max(0, room), marks) + ("  " if right else "") + right, no_wrap=True, end="")

    def choose(self, title: str, choices: Sequence[tuple[str, str]], act: Callable[[str], None]) -> None:
        """Let one of these be chosen: values and words."""
        self.kaifu.push_screen(Choice(title, (), choices), lambda value: None if value is None else act(value))

    # Filter and order.

    def action_filter(self) -> None:
        """Type a filter."""
        self.bar.open(self.text)

    def action_no_answer(self) -> None:
        """Only who was asked and has not answered, or everybody again."""
        wanted = self.shown.wanted
        already = set(wanted.states) == set(UNANSWERED)
        self.show_filter(replace(wanted, states=() if already else UNANSWERED))

    def action_mail(self) -> None:
        """Only mail, or receipts and delivery reports too."""
        wanted = self.shown.wanted
        self.show_filter(replace(wanted, kinds=() if wanted.kinds == START.kinds else START.kinds))

    def action_sort(self) -> None:
        """Choose an order; the one that is there is turned round."""
        shown = self.shown

        def words(order: Order) -> str:
            turned = say("{order}, turned round", order=say(_SORTS[order]))
            return turned if order is shown.order else say(_SORTS[order])

        def take(value: str) -> None:
            order = Order(value)
            self.show_order(shown.wanted, order, order is not shown.order or not shown.newest_first)

        self.choose(say("Sort by"), [(str(order), words(order)) for order in _SORTS], take)

    def action_refresh(self) -> None:
        """Ask for the same once more: a search that was stopped goes on, else ages count from now."""
        if self.feed.stopped:
            self.feed.moved(1)
            self.go_on()
        else:
            self.show_line(self.text)

    def action_stop(self) -> None:
        """Stop a search; else show all mail again."""
        if self.feed.stop():
            self.go_on()
        elif self.shown.wanted != START:
            self.show_filter(START)

    # Places and people.

    def action_jump(self) -> None:
        """Go to a date; a list in another order is sorted by time."""
        told = [] if self.by_time else [Told(say("The list is then sorted by time."))]
        field = Field("at", say("Date or time"))
        forms = Told(say("a date (2026-11-21), a time (2026-11-21T09:30) or an age (30m, 12h, 7d, 2w)"))
        self.kaifu.push_screen(Form(say("Go to date"), [forms, *told], [field], self._jump))

    async def _jump(self, given: Any) -> str:
        text = given["at"]
        newest_first = self.shown.newest_first or not self.by_time
        try:
            at = moment(text, self.zone, end=newest_first, now=self.now())
        except ValueError:
            forms = say("a date (2026-11-21), a time (2026-11-21T09:30) or an age (30m, 12h, 7d, 2w)")
            raise NotDoneError(say('"{text}" is no time; give {forms}', text=text, forms=forms)) from None
        if not self.by_time:
            self.show_order(self.shown.wanted, Order.TIME, True)
        self.feed.jump(Place.of_time(at))
        self.go_on()
        return ""

    def action_person(self) -> None:
        """All messages of a person of this row."""
        self._all_of(lambda line: "person:@" not in line)

    def action_domain(self) -> None:
        """All messages of a domain of this row."""
        self._all_of(lambda line: "person:@" in line)

    def _all_of(self, fits: Callable[[str], bool]) -> None:
        row = self.feed.window.current
        found = [(line, words) for line, words in jumps(row, self.zone) if fits(line)] if row is not None else []
        if found:
            self.choose(say("All messages of whom?"), found, self.show_line)

    # Saved filters.

    @property
    def saved(self) -> SavedFilters:
        """Those of who looks."""
        where = self.kaifu.where
        return SavedFilters(where.path, where.who.caller.uid)

    def action_saved(self) -> None:
        """Choose a saved filter, save this one, or remove one."""
        self.start(self._choose_saved(), "saved")

    async def _choose_saved(self) -> None:
        try:
            found = await asyncio.to_thread(self.saved.read)
        except SavedError as error:
            self.tell(str(error))
            return
        choices = [(f"{_USE}{name}", f"{name}   {text}") for name, text in found.items()]
        choices.append((_SAVE, say("Save the filter that is shown")))
        if found:
            choices.append((_REMOVE, say("Remove a saved filter")))

        def act(value: str) -> None:
            if value == _SAVE:
                self._save()
            elif value == _REMOVE:
                names = [(name, f"{name}   {text}") for name, text in found.items()]
                self.choose(say("Remove a saved filter"), names, self._remove)
            else:
                self.show_line(found[value.removeprefix(_USE)])

        self.choose(say("Saved filters"), choices, act)

    def _save(self) -> None:
        text = self.text

        async def act(given: Any) -> str:
            try:
                await asyncio.to_thread(self.saved.save, given["name"], text)
            except SavedError as error:
                raise NotDoneError(str(error)) from None
            return ""

        told = [Told(text or say("all")), Told(say("It is kept beside the ledger and shown to nobody else here."))]
        self.kaifu.push_screen(Form(say("Save the filter that is shown"), told, [Field("name", say("Name"))], act))

    def _remove(self, name: str) -> None:
        async def work() -> None:
            try:
                await asyncio.to_thread(self.saved.remove, name)
            except SavedError as error:
                self.tell(str(error))

        self.start(work(), "saved")

    def tell(self, sentence: str) -> None:
        """Something to know, for a moment."""
        self.kaifu.notify(plain(sentence).plain, markup=False)

    # Export.

    def action_export(self) -> None:
        """How to export what is shown."""
        options = which(self.kaifu.settings, self.kaifu.where.path)
        typed = command(self.shown.wanted, self.zone, options, begins(self.kaifu.where.who.caller))
        if typed is None:
            self.tell(say("One message is not exported; kaifu receipts show tells all about it."))
            return
        told = [Told(say("This writes all rows that fit to {file}, oldest first, as your own file.", file=FILE))]
        self.kaifu.push_screen(ExportDialog(say("Export"), told, typed))
