"""What to ask next so that a list of any length is there when somebody scrolls: a machine of questions and answers, without ledger or screen.

The screen takes a question from :meth:`Feed.next`, asks it of the ledger, and hands the :class:`Page` to :meth:`Feed.take` (or says
:meth:`Feed.failed`); one question is under way at a time. Every question is a keyset: so many rows after a place, in the order of the list or
against it. Rows are asked for ahead of what is seen, in the direction in which it moved last.

A page may be short though the list goes on (``done`` False): where few rows fit, the ledger gives back what it has come by after a while,
and how far it has looked. Then the next question goes on from there; :attr:`Feed.searching` says how far, :meth:`Feed.stop` ends it.

When the ledger changed (:meth:`Feed.changed`) the rows that are seen are read anew, with those near them, and the others let go of, so nothing old is ever
scrolled to. What came in at the newest end while something else is seen is counted (:attr:`Feed.news`). Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Generic, Protocol, TypeVar

from .receipts_window import MOST, Edge, Listed, Where, Window

PAGE = 200
"""Rows of one question."""
MOST_NEWS = 100
"""New rows are counted up to so many."""
_AHEAD = 100
_MOST_SPARE = 1_000

Given_co = TypeVar("Given_co", covariant=True)
Reached_co = TypeVar("Reached_co", covariant=True)


class Page(Protocol[Given_co, Reached_co]):
    """An answer. ``reached``: from where to go on, None when nothing is left; ``done``: nothing is left."""

    @property
    def rows(self) -> Sequence[Given_co]: ...
    @property
    def reached(self) -> Reached_co | None: ...
    @property
    def done(self) -> bool: ...


class Why(Enum):
    """What a question is for."""

    FIRST = "the first rows of the list"
    LAST = "the last rows of the list"
    JUMP = "rows from a place on"
    BELOW = "more rows below"
    ABOVE = "more rows above"
    AGAIN = "what is seen, anew"
    NEWS = "how many rows are new"
    OTHER_END = "the row at the far end, for the scroll bar"


@dataclass(frozen=True, slots=True)
class Ask(Generic[Where]):
    """At most ``limit`` rows after a place (None: from the end of the list that is there), ``down``: in the order of the list."""

    why: Why
    after: Where | None
    down: bool
    limit: int


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Which rows are being read anew, and what was seen then."""

    start: int
    end: int
    top: int


class Feed(Generic[Listed, Where]):
    """One list: a filter in an order. ``newest_first``: None when the order is not that of time, so that neither end is the newest."""

    def __init__(
        self,
        place_of: Callable[[Listed], Where],
        key_of: Callable[[Listed], Hashable],
        newest_first: bool | None = True,
        *,
        most: int = MOST,
        ahead: int = _AHEAD,
        page: int = PAGE,
    ) -> None:
        self.window: Window[Listed, Where] = Window(place_of, key_of, most=most)
        self.loaded = False
        self.stopped = False
        self.searching: Where | None = None
        self.news = 0
        self.first_place: Where | None = None
        self.last_place: Where | None = None
        self._place_of, self._key_of = place_of, key_of
        self._newest_first = newest_first
        self._ahead, self._page = ahead, page
        self._wanted: Ask[Where] | None = Ask(Why.FIRST, None, True, page)
        self._asked: Ask[Where] | None = None
        self._failed = False
        self._down = True
        self._again = self._count_news = False
        self._stretch = _Stretch(0, 0, 0)
        self._spare = ahead
        self._newest: Where | None = None

    # What people do.

    def first(self) -> None:
        """To where the list begins."""
        if self.loaded and self.window.above.closed and not self.news:
            self.window.move(-self.window.cursor)
            self.moved(-1)
        else:
            self._start(Ask(Why.FIRST, None, True, self._page))

    def last(self) -> None:
        """To where the list ends."""
        if self.loaded and self.window.below.closed and not (self.news and self._newest_first is False):
            self.window.move(len(self.window.rows) - 1 - self.window.cursor)
            self.moved(1)
        else:
            self._start(Ask(Why.LAST, None, False, self._page))

    def jump(self, place: Where) -> None:
        """To the first row after a place."""
        self._start(Ask(Why.JUMP, place, True, self._page))

    def _start(self, ask: Ask[Where]) -> None:
        self._wanted, self.stopped, self._failed = ask, False, False

    def moved(self, step: int) -> None:
        """Somebody moved, downwards when ``step`` is positive: what was stopped goes on."""
        self._down = step > 0
        self.stopped = self._failed = False
        self._note_ends()

    def stop(self) -> bool:
        """Look no further until somebody moves. False when nothing was being searched."""
        if self.searching is None or self.stopped:
            return False
        self.stopped = True
        return True

    def changed(self) -> None:
        """Something in the ledger changed, or it answers again."""
        self._again, self._failed = self.loaded, False

    # Questions.

    @property
    def down(self) -> bool:
        """In the order of the list, and not against it: so somebody moved last."""
        return self._down

    @property
    def waiting(self) -> bool:
        """Rows that somebody looks for are on their way."""
        ask = self._asked or self._wanted
        if ask is None or ask.why in (Why.AGAIN, Why.NEWS, Why.OTHER_END):
            return False
        return {Why.BELOW: self.window.rows_below <= 0, Why.ABOVE: not self.window.rows_above}.get(ask.why, True)

    @property
    def has_failed(self) -> bool:
        """The last question had no answer."""
        return self._failed

    @property
    def idle(self) -> bool:
        """There is no question, and none is under way."""
        return self._asked is None and (self._failed or (self._wanted is None and self._needed() is None))

    def next(self) -> Ask[Where] | None:
        """The question to ask now; None when there is none, or one is under way."""
        if self._asked is not None or self._failed:
            return None
        self._asked = self._wanted or self._needed()
        return self._asked

    def _needed(self) -> Ask[Where] | None:
        if not self.loaded:
            return None
        if self._again:
            return self._ask_again()
        for down in () if self.stopped else (self._down, not self._down):
            if (ask := self._more(down)) is not None:
                return ask
        if self._newest_first is None:
            return None
        if self._count_news and self._newest is not None:
            return Ask(Why.NEWS, self._newest, not self._newest_first, MOST_NEWS)
        if self.last_place is None and self.window.rows:
            return Ask(Why.OTHER_END, None, False, 1)
        return None

    def _more(self, down: bool) -> Ask[Where] | None:
        window = self.window
        edge, ready = (window.below, window.rows_below) if down else (window.above, window.rows_above)
        if edge.closed or ready >= self._ahead:
            return None
        return Ask(Why.BELOW if down else Why.ABOVE, edge.place, down, self._page)

    def _ask_again(self) -> Ask[Where]:
        """What is seen and as much again around it. Where the list goes on above, the first row here is what to go on from."""
        window = self.window
        start = max(0 if window.above.closed else min(1, len(window.rows)), window.top - self._ahead)
        end = min(len(window.rows), window.top + window.height + self._ahead)
        after = self._place_of(window.rows[start - 1]) if start else window.above.place
        self._stretch = _Stretch(start, end, window.top)
        return Ask(Why.AGAIN, after, True, end - start + window.height + self._spare)

    # Answers.

    def failed(self, ask: Ask[Where]) -> None:
        """A question had no answer. Nothing is asked until somebody moves or the ledger changes."""
        if self._asked is ask:
            self._asked, self._failed = None, True

    def dropped(self, ask: Ask[Where]) -> None:
        """A question was given up; it may be asked again."""
        if self._asked is ask:
            self._asked = None

    def take(self, ask: Ask[Where], page: Page[Listed, Where]) -> None:
        """The answer to the question that is under way. One that is no longer wanted is let go of."""
        if self._asked is not ask:
            return
        self._asked = None
        if ask.why is Why.NEWS:
            self._count_news, self.news = False, len(page.rows)
        elif ask.why is Why.OTHER_END:
            place = self._place_of(page.rows[0]) if page.rows else page.reached
            self.last_place = place if place is not None else self._place_of(self.window.rows[-1])
        elif self._wanted is not None and self._wanted is not ask:
            return
        elif ask.why is Why.AGAIN:
            self._take_again(ask, page)
        else:
            self._take_rows(ask, page)
        self._note_ends()

    def _take_rows(self, ask: Ask[Where], page: Page[Listed, Where]) -> None:
        rows = list(page.rows) if ask.down else list(reversed(page.rows))
        window, edge = self.window, Edge(page.reached, page.done)
        self._wanted = None
        self.searching = None if page.done or len(page.rows) >= ask.limit else page.reached
        if ask.why is Why.FIRST:
            window.begin(rows, Edge(None, True), edge)
        elif ask.why is Why.LAST:
            window.begin(rows, edge, Edge(None, True), -1)
        elif ask.why is Why.JUMP and page.done and not rows:
            self._start(Ask(Why.LAST, None, False, self._page))
            return
        elif ask.why is Why.JUMP:
            # From the row and not from the place, which may lie in the future: rows come in between.
            window.begin(rows, Edge(self._place_of(rows[0]) if rows else ask.after), edge)
        else:
            window.extend(rows, edge, below=ask.down)
        self._down = ask.down
        self.loaded = True
        if not self.stopped and self._more(True) is None and self._more(False) is None:
            self.searching = None

    def _take_again(self, ask: Ask[Where], page: Page[Listed, Where]) -> None:
        window, stretch = self.window, self._stretch
        complete = page.done or len(page.rows) >= ask.limit
        inside = stretch.start <= window.top and (
            window.top + window.height <= stretch.end or stretch.end == len(window.rows)
        )
        anew = set(map(self._key_of, page.rows))
        self._again = complete and not inside and window.top != stretch.top
        self._count_news = True
        if not complete or not inside:
            self._merge(page, anew)
        elif not page.done and not self._is_covered(page.rows) and self._spare < _MOST_SPARE:
            self._again, self._spare = True, self._spare * 2
        else:
            self._spare = self._ahead
            # A place is left on the side to which one goes on, so the row that it is of stays.
            before = [row for row in window.rows[: stretch.start][-1:] if self._key_of(row) not in anew]
            above = Edge(ask.after) if stretch.start else window.above
            window.renew([*before, *page.rows], above, Edge(page.reached, page.done))

    def _is_covered(self, rows: Sequence[Listed]) -> bool:
        """What was read goes down to the last line that is seen: no more came in before the cursor than room was left for."""
        window = self.window
        numbers = {self._key_of(row): number for number, row in enumerate(rows)}
        kept = (numbers.get(self._key_of(row)) for row in window.rows[window.cursor :])
        cursor = next((number for number in kept if number is not None), None if window.rows else 0)
        return cursor is not None and len(rows) - cursor >= window.top + window.height - window.cursor

    def _merge(self, page: Page[Listed, Where], anew: set[Hashable]) -> None:
        """What was read stands in place of what it was, as far as both overlap; the rest is left as it is.

        So it is where few rows fit, and it would take long to read all anew: then a row that no longer fits may stay for a while.
        """
        window, start = self.window, self._stretch.start
        common = [place for place, row in enumerate(window.rows) if place >= start and self._key_of(row) in anew]
        if common:
            before = [row for row in window.rows[:start] if self._key_of(row) not in anew]
            after = [row for row in window.rows[common[-1] + 1 :] if self._key_of(row) not in anew]
            below = window.below if after else Edge(page.reached, page.done)
            window.renew([*before, *page.rows, *after], window.above, below)
        elif page.rows and not window.rows:
            window.begin(page.rows, window.above, Edge(page.reached, page.done))
        elif page.rows and not start:
            window.above = Edge(self._place_of(window.rows[0]))

    def _note_ends(self) -> None:
        """Where the list begins and ends, as far as that was seen; what comes after the newest row that was seen is new."""
        window = self.window
        if not window.rows:
            return
        if window.above.closed:
            self.first_place = self._place_of(window.rows[0])
        if window.below.closed:
            self.last_place = self._place_of(window.rows[-1])
        if self._newest_first and window.at_first:
            self._newest, self.news, self._count_news = self.first_place, 0, False
        elif self._newest_first is False and window.at_last:
            self._newest, self.news, self._count_news = self.last_place, 0, False
