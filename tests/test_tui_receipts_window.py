"""The rows that the list of receipts holds: whatever people do and whatever comes in, a stretch of the true order with the cursor on its row."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from kaifu.tui.receipts_feed import Ask, Feed, Why

Number = tuple[int, int]
"""A row of the model: when it came, and what it is called; rows stand in this order, or in the opposite one."""


@dataclass(frozen=True)
class Answer:
    """A page."""

    rows: list[Number]
    reached: Number | None
    done: bool


@dataclass
class Ledger:
    """All rows, and what would be answered. ``newest_first``: the order of the list."""

    newest_first: bool
    rows: list[Number] = field(default_factory=list)
    named: int = 0

    def listed(self) -> list[Number]:
        return self.rows[::-1] if self.newest_first else list(self.rows)

    def add(self, at: int) -> None:
        self.named += 1
        insort(self.rows, (at, self.named))

    def add_newest(self) -> None:
        self.add((self.rows[-1][0] if self.rows else 0) + 1)

    def answer(self, ask: Ask[Number], patience: int) -> Answer:
        """At most ``patience`` rows are looked at, as where few rows fit."""
        ascending = ask.down != self.newest_first
        if ascending:
            beyond = (
                self.rows
                if ask.after is None
                else self.rows[bisect_left(self.rows, (ask.after[0], ask.after[1] + 1)) :]
            )
        else:
            beyond = (self.rows if ask.after is None else self.rows[: bisect_left(self.rows, ask.after)])[::-1]
        found = beyond[: min(ask.limit, patience)]
        done = len(found) == len(beyond)
        return Answer(found, None if done else found[-1], done)


@dataclass
class Screen:
    """A list of receipts that is driven, with what it shows held against what there is."""

    ledger: Ledger
    patience: int = 1_000
    height: int = 5
    feed: Feed[Number, Number] = field(init=False)
    asked: Ask[Number] | None = None

    def __post_init__(self) -> None:
        self.feed = Feed(lambda row: row, lambda row: row[1], self.ledger.newest_first, most=40, ahead=6, page=10)
        self.feed.window.resize(self.height)

    @property
    def seen(self) -> list[Number]:
        return list(self.feed.window.seen)

    def answer_one(self) -> Why | None:
        """One question and its answer: the cursor stays on its row, unless somebody wanted it elsewhere."""
        self.asked = ask = self.asked or self.feed.next()
        if ask is None:
            return None
        self.asked = None
        window = self.feed.window
        before, seen, first_was_seen = window.current, self.seen, window.at_first
        self.feed.take(ask, self.ledger.answer(ask, self.patience))
        if ask.why not in (Why.FIRST, Why.LAST, Why.JUMP) and before is not None:
            if before in self.ledger.rows:
                assert window.current == before
            if ask.why in (Why.BELOW, Why.ABOVE) and not first_was_seen and len(seen) == window.height:
                assert self.seen == seen
        self.check()
        return ask.why

    def answer_all(self) -> None:
        for _ in range(1_000):
            if self.answer_one() is None:
                return
        raise AssertionError("it never stops asking")

    def check(self) -> None:
        window = self.feed.window
        assert len(window.rows) <= 40 + 10
        assert window.top >= 0
        if window.rows:
            assert window.top <= window.cursor < min(window.top + window.height, len(window.rows))
        assert len(set(window.rows)) == len(window.rows)

    def stretch(self, rows: list[Number]) -> bool:
        """Do they follow upon one another in the list as it is?"""
        listed = self.ledger.listed()
        if not rows:
            return True
        start = listed.index(rows[0]) if rows[0] in listed else -1
        return start >= 0 and listed[start : start + len(rows)] == rows


Act = tuple[str, int]
_SIMPLE = ("first", "last", "newest", "changed", "changed", "ask", "answer", "answer", "all")


def some_ledger(chance: Random) -> Ledger:
    """Of no rows or of many, some at the same time."""
    ledger = Ledger(chance.random() < 0.5)
    for at in (
        *range(chance.choice([0, 5, 20, 60, 150])),
        *(chance.randint(0, 200) for _ in range(chance.randint(0, 20))),
    ):
        ledger.add(at)
    return ledger


def some_acts(chance: Random, *, upset: bool) -> Iterator[Act]:
    """What people do and what happens. ``upset``: rows come and go anywhere too."""
    others = (("between", 200), ("gone", 200)) if upset else ()
    for _ in range(60):
        moves = [
            *(
                ("move", chance.randint(-9, 9)),
                ("turn", chance.choice([-1, 1, 1, 4])),
                ("scroll", chance.randint(-7, 7)),
            ),
            *(("point", chance.randint(0, 12)), ("height", chance.randint(1, 12)), ("jump", chance.randint(-1, 201))),
            *((what, 0) for what in _SIMPLE),
            *((what, chance.randint(0, most)) for what, most in others),
        ]
        yield chance.choice(moves)


def by_chance(runs: int, run: Callable[[Random, list[Act]], None]) -> None:
    """So many runs; what was done in one that fails is told."""
    for seed in range(runs):
        acts: list[Act] = []
        try:
            run(Random(seed), acts)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {acts}") from error


def do(screen: Screen, act: Act) -> None:
    """What somebody does, or what happens."""
    what, how = act
    feed, window, ledger = screen.feed, screen.feed.window, screen.ledger
    match what:
        case "move" | "turn" | "scroll":
            getattr(window, what)(how)
            feed.moved(how)
        case "point":
            window.point(how)
        case "height":
            window.resize(how)
        case "first" | "last" | "changed":
            getattr(feed, what)()
        case "jump":
            feed.jump((how, 0) if ledger.newest_first else (how - 1, 10**6))
        case "newest":
            ledger.add_newest()
        case "between":
            ledger.add(how)
        case "gone" if ledger.rows:
            del ledger.rows[how % len(ledger.rows)]
        case "ask":
            screen.asked = screen.asked or feed.next()
        case "answer":
            screen.answer_one()
        case "all":
            screen.answer_all()
    screen.check()


def test_whatever_people_do_the_rows_held_follow_upon_one_another(long_run: bool) -> None:
    def run(chance: Random, done: list[Act]) -> None:
        screen = Screen(some_ledger(chance), chance.choice([1, 3, 16, 1_000]))
        for act in some_acts(chance, upset=False):
            done.append(act)
            do(screen, act)
            assert screen.stretch(screen.feed.window.rows)
        screen.answer_all()
        assert screen.stretch(screen.feed.window.rows)

    by_chance(10_000 if long_run else 1_000, run)


def test_after_any_change_what_is_seen_is_what_there_is(long_run: bool) -> None:
    def run(chance: Random, done: list[Act]) -> None:
        screen = Screen(some_ledger(chance))
        for act in some_acts(chance, upset=True):
            done.append(act)
            do(screen, act)
        screen.answer_all()
        screen.feed.changed()
        screen.answer_all()
        assert screen.stretch(screen.seen)
        assert len(screen.seen) == min(screen.feed.window.height, len(screen.ledger.rows))

    by_chance(10_000 if long_run else 1_000, run)


def ledgers() -> st.SearchStrategy[Ledger]:
    return st.integers(0, 2**32).map(lambda seed: some_ledger(Random(seed)))


@given(ledgers(), st.integers(-1, 201), st.sampled_from([1, 16, 1_000]))
def test_a_jump_puts_the_cursor_on_the_first_row_after_the_place(ledger: Ledger, at: int, patience: int) -> None:
    screen = Screen(ledger, patience)
    screen.answer_all()
    do(screen, ("jump", at))
    screen.answer_all()
    listed = ledger.listed()
    after = [row for row in listed if (row[0] < at if ledger.newest_first else row[0] >= at)]
    assert screen.feed.window.current == next(iter(after or listed[-1:]), None)


@given(ledgers(), st.sampled_from([1, 3, 1_000]))
def test_home_and_end_show_the_ends_of_the_list(ledger: Ledger, patience: int) -> None:
    screen = Screen(ledger, patience)
    screen.answer_all()
    listed = ledger.listed()
    do(screen, ("last", 0))
    screen.answer_all()
    assert screen.seen == listed[-5:]
    assert screen.feed.window.at_last
    do(screen, ("first", 0))
    screen.answer_all()
    assert screen.seen == listed[:5]
    assert screen.feed.window.at_first


@given(ledgers(), st.integers(1, 30))
def test_paging_down_shows_every_row_once_and_never_jumps(ledger: Ledger, fitting: int) -> None:
    screen = Screen(ledger, patience=fitting)
    screen.answer_all()
    shown = screen.seen
    for _ in range(len(ledger.rows)):
        do(screen, ("turn", 1))
        shown += [row for row in screen.seen if row not in shown]
        screen.answer_all()
    assert shown == ledger.listed()


@given(ledgers(), st.integers(1, 20))
def test_new_rows_appear_while_the_newest_are_seen_and_are_counted_while_not(ledger: Ledger, new: int) -> None:
    ledger.newest_first = True
    screen = Screen(ledger)
    screen.answer_all()
    for _ in range(new):
        ledger.add_newest()
    current = screen.feed.window.current
    screen.feed.changed()
    screen.answer_all()
    window = screen.feed.window
    assert window.current == (current or ledger.listed()[0])
    if new < screen.height:
        assert screen.seen == ledger.listed()[:5]
        assert screen.feed.news == 0
    do(screen, ("turn", 1))
    away = not window.at_first
    seen = screen.seen
    for _ in range(new):
        ledger.add_newest()
    screen.feed.changed()
    screen.answer_all()
    if away:
        assert screen.seen == seen
        assert screen.feed.news >= new
    screen.feed.first()
    screen.answer_all()
    assert screen.seen == ledger.listed()[:5]
    assert screen.feed.news == 0


def test_a_page_that_is_still_on_its_way_is_said_to_be_and_nothing_moves_past_it() -> None:
    ledger = Ledger(True, [(at, at) for at in range(100)], 100)
    screen = Screen(ledger)
    screen.answer_one()
    window = screen.feed.window
    for _ in range(10):
        window.turn(1)
        screen.feed.moved(1)
    assert window.current == window.rows[-1] == (90, 90)
    ask = screen.feed.next()
    assert ask is not None
    assert screen.feed.waiting
    seen = screen.seen
    screen.feed.take(ask, ledger.answer(ask, 1_000))
    assert (screen.seen, window.current) == (seen, (90, 90))


def test_a_search_says_how_far_it_is_stops_when_told_to_and_goes_on_when_somebody_moves() -> None:
    class Sparse(Ledger):
        def answer(self, ask: Ask[Number], patience: int) -> Answer:
            reached = (ask.after[0] if ask.after else 1_000) - 10
            return Answer([], None if reached <= 0 else (reached, 0), reached <= 0)

    screen = Screen(Sparse(True))
    for _ in range(3):
        screen.answer_one()
    assert screen.feed.searching == (970, 0)
    assert screen.feed.stop()
    assert screen.feed.next() is None
    assert screen.feed.searching == (970, 0)
    screen.feed.moved(1)
    screen.answer_one()
    assert screen.feed.searching == (960, 0)
    screen.answer_all()
    assert screen.feed.window.below.closed
    assert not screen.feed.stop()


def test_a_search_ends_once_enough_is_there() -> None:
    ledger = Ledger(True)
    for at in range(60):
        ledger.add(at)
    screen = Screen(ledger, patience=3)
    screen.answer_one()
    assert screen.feed.searching is not None
    screen.answer_all()
    assert screen.feed.searching is None
    assert not screen.feed.window.below.closed


def test_what_had_no_answer_is_asked_again_when_the_ledger_is_back() -> None:
    screen = Screen(Ledger(True, [(1, 1)], 1))
    ask = screen.feed.next()
    assert ask is not None
    screen.feed.failed(ask)
    assert screen.feed.next() is None
    screen.feed.changed()
    screen.answer_all()
    assert screen.seen == [(1, 1)]
