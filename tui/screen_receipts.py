"""The screen of receipts: every recipient of every message that is on record, as a list of any length that is filtered, sorted and walked.

What is asked next is worked out by :mod:`kaifu.tui.receipts_feed`, and asked here, one question after another, in a worker that goes on as long as
something is missing. What is shown always stands in the line above the list; only enter in the filter line asks for something else
(:mod:`kaifu.tui.receipts_line` says why), and a filter that gives times by their age means those times until it is asked for again. Paging, jumping, sorting
and what comes in meanwhile are parts of one look: one entry of the audit trail for each filter.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import datetime
from typing import Any, ClassVar

from textual.app import ComposeResult

from kaifu.proxy.access import Role
from kaifu.proxy.ledger_desk import Counted, Desk, Filter, Order, Page, Place, Row

from .asking import Asker, GivenUpError, TroubleError
from .filterline import Known, Line, format_line, parse
from .receipts_acts import START, ReceiptActs
from .receipts_feed import Ask
from .receipts_line import FilterBar
from .receipts_list import ReceiptList, Receipts
from .receipts_rows import dotted, told
from .receipts_status import AT_FIRST, MOST_COUNTED, how_many, news, order_of, searching
from .receipts_subjects import SubjectIndex
from .screens import Binding, Plain
from .words import later, say

AGAIN_SECONDS = 2
"""What is seen is read anew at most this often."""
RETRY_SECONDS = 5
"""A question that the ledger could not answer is asked again after so long."""
_PAUSE_SECONDS = 0.05
"""Between steps of counting what is many: nobody waits for it."""
_MOST_STEPS = 3
"""What takes more steps to count is not counted anew when something changes."""
COUNT_SECONDS = 30
"""What is not counted by what is seen is counted anew at most this often: it costs more than the rows themselves."""
_MOST_SEEN = 2_000
_RULES_SINCE = 7 * 86_400 * 1_000_000


class ReceiptsScreen(ReceiptActs):
    """``shown``: the filter and order of the list that is on the screen."""

    NAME = "receipts"
    TITLE = later("Receipts")
    NEEDS = Role.AUDITOR
    AUTO_FOCUS = "ReceiptList"
    HELP_TEXT = later(
        "One row for each recipient; receipts and delivery reports are shown with m. A question mark beside a state: something came that does not count; a plus: a person noted something."
        " Only enter in the filter line asks the ledger, and each filter that is asked for is one entry of the audit trail, whatever is then"
        " paged, sorted or jumped to. No answer does not mean that it was not read."
    )
    DEFAULT_CSS = """
    ReceiptsScreen #what { height: 1; padding: 0 1; background: $surface; }
    ReceiptsScreen #told { height: 4; padding: 0 1; background: $surface; }
    """
    BINDINGS: ClassVar[list[Any]] = [
        Binding("slash", "filter", later("Filter"), key_display="/"),
        Binding("n", "no_answer", later("No answer")),
        Binding("s", "sort", later("Sort")),
        Binding("g", "jump", later("Go to date"), show=False),
        Binding("m", "mail", later("Mail only, or reports too"), show=False),
        Binding("f", "saved", later("Saved filters"), show=False),
        Binding("p", "person", later("All of a person"), show=False),
        Binding("d", "domain", later("All of a domain"), show=False),
        Binding("e", "export", later("Export"), show=False),
        Binding("r", "refresh", later("Ask again"), show=False),
        Binding("escape", "stop", later("Stop searching, or show all mail"), show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.shown = Line()
        self.feed = self._new_feed()
        self.total: int | None = None
        self._counting = False
        self._counted = Counted(0, None, False)
        self._counted_at = 0
        self._steps = 0
        self._changed = False
        self._again_at: int | None = None
        self._working: object | None = None
        self._index: SubjectIndex | None = None
        self._indexed: float | None = None
        self._rules: list[str] = []
        self._seen: Counter[str] = Counter()

    def body(self) -> ComposeResult:
        yield FilterBar(lambda text: parse(text, self.zone, self.now()), self._known)
        yield Plain("", id="what")
        yield ReceiptList(self.kaifu.look, self.zone, self.feed)
        yield Plain("", id="told")

    def on_mount(self) -> None:
        self.receipts.today = self.now().date()
        self.show_filter(START)
        self.start(self._learn_rules(), "rules")
        self._index = SubjectIndex(Asker(self.kaifu.where), self.kaifu.clock, self._index_filled)
        self._fill_index()

    def on_unmount(self) -> None:
        if self._index is not None:
            self._index.close()

    def _fill_index(self) -> None:
        if self._index is not None and self._index.is_due:
            self.start(self._index.fill(), "subjects")

    def _index_filled(self, share: float | None) -> None:
        self._indexed = share
        self._draw()

    # What is shown.

    @property
    def receipts(self) -> ReceiptList:
        """The list on the screen."""
        return self.query_one(ReceiptList)

    @property
    def bar(self) -> FilterBar:
        """The filter line."""
        return self.query_one(FilterBar)

    @property
    def by_time(self) -> bool:
        """The list is in order of time."""
        return self.shown.order is Order.TIME

    def show_line(self, text: str) -> None:
        """Show what a filter line means; one that cannot be understood is opened with what is wrong."""
        line = parse(text, self.zone, self.now())
        if line.problems:
            self.bar.open(text)
        else:
            self.show_list(text, line)

    def show_list(self, text: str, line: Line) -> None:
        """Another filter or order, from its beginning."""
        if line.wanted != self.shown.wanted:
            self.total = None
        self.text, self.shown = text, line
        self.bar.remember(text)
        if self.total is None:
            self._count_anew()
        self._changed, self._again_at = False, None
        self.feed = self._new_feed()
        self.feed.window.resize(self.receipts.feed.window.height)
        self.receipts.feed, self.receipts.by_time = self.feed, self.by_time
        self._start_feed()
        self._draw()

    def _new_feed(self) -> Receipts:
        order = self.shown.order
        newest_first = self.shown.newest_first if order is Order.TIME else None
        return Receipts(lambda row: row.place_in(order), lambda row: row.recipient, newest_first)

    def show_filter(self, wanted: Filter) -> None:
        """Another filter in the same order."""
        self.show_order(wanted, self.shown.order, self.shown.newest_first)

    def show_order(self, wanted: Filter, order: Order, newest_first: bool) -> None:
        """A filter in an order; the line is written anew."""
        self.show_list(format_line(wanted, self.zone, order, newest_first), Line(wanted, order, newest_first))

    # Asking.

    def go_on(self) -> None:
        """Ask for what is missing, if nothing is being asked."""
        if self._working is None and (self._counting or not self.feed.idle):
            self._start_feed()
        self._draw()

    def _start_feed(self) -> None:
        self._working = working = object()
        self.start(self._feed_on(self.feed, working), "feed")

    async def _feed_on(self, feed: Receipts, working: object) -> None:
        """Rows first, and counting while none are wanted: each in short steps, so that neither waits long for the other."""
        try:
            while feed is self.feed:
                if (ask := feed.next()) is not None:
                    self._draw()
                    await self._one(feed, ask)
                elif self._counting and feed.loaded:
                    await self._count(feed)
                    if self._counting and self._counted.number >= AT_FIRST:
                        await asyncio.sleep(_PAUSE_SECONDS)
                else:
                    break
                self._draw()
        finally:
            if self._working is working:
                self._working = None

    async def _one(self, feed: Receipts, ask: Ask[Place]) -> None:
        line = self.shown
        try:
            page = await self.ask(lambda desk: _walked(desk, line, ask), lane="rows")
        except GivenUpError:
            feed.dropped(ask)
            raise
        except TroubleError:
            feed.failed(ask)
            self._again_at = self.kaifu.clock()
            self._draw()
            raise
        except BaseException:
            feed.dropped(ask)
            raise
        feed.take(ask, page)
        self._note(page.rows)

    async def _count(self, feed: Receipts) -> None:
        """How many there are, up to a bound."""
        window, wanted, counted = feed.window, self.shown.wanted, self._counted
        if window.above.closed and window.below.closed:
            self.total, self._counting = len(window.rows), False
            return
        most = min(AT_FIRST, MOST_COUNTED - counted.number)
        found = await self.ask(lambda desk: desk.count_on(wanted, after=counted.reached, most=most), lane="rows")
        self._counted = Counted(counted.number + found.number, found.reached, found.done)
        self._steps += 1
        if self._counted.done or self._counted.number >= MOST_COUNTED:
            self.total, self._counting = self._counted.number, False

    def _count_anew(self) -> None:
        self._counted, self._steps, self._counting = Counted(0, None, False), 0, True
        self._counted_at = self.kaifu.clock()

    def _may_count(self, now: int) -> bool:
        """Is it time to count anew, or is everything here?"""
        window = self.feed.window
        return (window.above.closed and window.below.closed) or now - self._counted_at >= COUNT_SECONDS * 1_000_000

    async def _learn_rules(self) -> None:
        since = self.kaifu.clock() - _RULES_SINCE
        hits = await self.ask(lambda desk: desk.rule_hits(since), lane="rules")
        self._rules = sorted((rule for rule in hits if rule), key=lambda rule: -hits[rule])

    def _note(self, rows: list[Row]) -> None:
        """Addresses that were on the screen are offered in the filter line."""
        for row in rows:
            for who in (row.address, row.sender):
                if who:
                    self._seen[who] += 1
                    self._seen["@" + who.rpartition("@")[2]] += "@" in who
        if len(self._seen) > _MOST_SEEN:
            self._seen = Counter(dict(self._seen.most_common(_MOST_SEEN // 2)))

    def _known(self) -> Known:
        return Known(self._rules, [who for who, _ in self._seen.most_common()])

    # What happens.

    def ledger_changed(self) -> None:
        self._changed = True
        self._fill_index()
        if not self.feed.loaded:
            self.feed.changed()
            self.go_on()

    def pulsed(self) -> None:
        """What is seen is read anew when something changed, but not more often than every two seconds; what failed is tried again."""
        self.receipts.today = self.now().date()
        now = self.kaifu.clock()
        since = AGAIN_SECONDS * 1_000_000 if self._again_at is None else now - self._again_at
        if self.feed.has_failed and since >= RETRY_SECONDS * 1_000_000:
            self._changed = True
        if self._changed and since >= AGAIN_SECONDS * 1_000_000:
            self._changed, self._again_at = False, now
            if self.total is not None and self._steps <= _MOST_STEPS and self._may_count(now):
                self._count_anew()
            self.feed.changed()
            self.go_on()

    def on_receipt_list_moved(self, _: ReceiptList.Moved) -> None:
        """Rows may be missing now."""
        self.go_on()

    def on_receipt_list_sought(self, event: ReceiptList.Sought) -> None:
        """To a place of the scroll bar."""
        feed, rows = self.feed, self.feed.window.rows
        if feed.window.above.closed and feed.window.below.closed:
            feed.window.scroll(round(event.share * len(rows)) - feed.window.top)
            feed.moved(0)
        elif event.share <= 0:
            feed.first()
        elif event.share >= 1:
            feed.last()
        elif self.by_time and feed.first_place is not None and feed.last_place is not None:
            way = feed.last_place.at - feed.first_place.at
            feed.jump(Place.of_time(feed.first_place.at + int(way * event.share)))
        self.go_on()

    def on_receipt_list_opened(self, _: ReceiptList.Opened) -> None:
        """All about the row under the cursor; it may come back with a filter line to show."""
        from .screen_detail import DetailScreen

        row = self.feed.window.current
        if row is not None:
            self.kaifu.push_screen(DetailScreen(row.message, row.recipient), self._back)

    def _back(self, text: str | None) -> None:
        if text is not None:
            self.show_line(text)

    def on_filter_bar_asked(self, event: FilterBar.Asked) -> None:
        """Enter in the filter line."""
        self._close_bar()
        self.show_list(event.text, event.line)

    def on_filter_bar_left(self, _: FilterBar.Left) -> None:
        """Escape there."""
        self._close_bar()

    def _close_bar(self) -> None:
        self.bar.close()
        self.set_focus(self.receipts)

    # Drawing.

    def _draw(self) -> None:
        if not self.query(ReceiptList):
            return  # The screen is going away, and a worker is not yet told.
        self.receipts.sentence = self._sentence()
        self.receipts.refresh()
        self.query_one("#what", Plain).update(self._what(), layout=False)
        row = self.feed.window.current
        lines = told(row, self.zone, self.kaifu.look.marks) if row is not None else ()
        self.query_one("#told", Plain).update(self.lines(lines), layout=False)

    def _sentence(self) -> str:
        """What stands in place of rows."""
        feed = self.feed
        if feed.window.rows or not feed.loaded:
            return "" if feed.loaded or self.kaifu.trouble else say("The ledger is being asked.")
        if feed.searching is not None or feed.waiting:
            return self._searching()
        if self.shown.wanted in (Filter(), START):
            return say("The ledger is empty: no message has come through yet.")
        return say("Nothing in the ledger fits. Escape shows all mail again.")

    def _searching(self) -> str:
        return searching(self.feed, self.shown, self.zone)

    def _what(self) -> Any:
        """What is shown, in which order, how many there are and what is new: always on one line."""
        marks = self.kaifu.look.marks
        index = "" if self._indexed is None else say("indexing subjects: {percent} %", percent=int(self._indexed * 100))
        rows = how_many(self.total, self._counted.number)
        right = dotted([index, self._searching(), news(self.feed.news, self.shown.newest_first), rows], marks)
        return self.two_ends(dotted([order_of(self.shown), self.text or say("all")], marks), right)

    def now(self) -> datetime:
        """The time, in the zone of the settings."""
        return datetime.fromtimestamp(self.kaifu.clock() / 1e6, self.zone)


def _walked(desk: Desk, line: Line, ask: Ask[Place]) -> Page:
    return desk.walk(
        line.wanted,
        after=ask.after,
        limit=ask.limit,
        newest_first=ask.down == line.newest_first,
        order=line.order,
    )
