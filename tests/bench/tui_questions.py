"""What the screens ask of a ledger, timed below the screens: pages, filters, jumps, counts, details, figures.

    python tests/bench/tui_questions.py --ledger FILE [--rounds 5]

For :mod:`tests.bench.tui_bench`, on ledgers of :mod:`tests.bench.ledger_fill`. Each question goes through the desk as a screen's does. The first time
it is asked a look is put on record (an fsync); after that it is asked again and the median counts. A list is walked until its page is full, as
the screen does, in however many steps that takes; the longest of them says how long another question may have to wait.
"""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))

from tests.bench.organisation import DAY, FREQUENT, HOUR, RARE

from kaifu.proxy.access import access, caller
from kaifu.proxy.ledger_desk import ActFilter, Desk, Filter, Order, Place
from kaifu.proxy.ledger_subjects import search_path
from kaifu.proxy.settings import Roles
from kaifu.tui.receipts_feed import PAGE

COUNTED = 10_000
_TOO_LONG = 5.0
"""Seconds; what takes longer is asked once."""


@dataclass(frozen=True)
class Facts:
    """What there is to ask for. Times are UTC microseconds."""

    oldest: int
    newest: int
    person: str
    seldom: str
    sender: str
    domain: str
    small: str
    rule: str
    message: int


def facts_of(path: Path) -> Facts:
    """Look for the most and the least frequent."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        one = "SELECT address FROM recipients WHERE direction = 'outbound' AND request = 'added' AND address_key IS NOT NULL"
        oldest, newest = db.execute("SELECT min(at), max(at) FROM recipients").fetchone()
        (person,) = db.execute(f"{one} GROUP BY address_key ORDER BY count(*) DESC LIMIT 1").fetchone()
        (seldom,) = db.execute(f"{one} GROUP BY address_key ORDER BY count(*), address_key LIMIT 1").fetchone()
        query = "SELECT sender FROM messages WHERE sender_key LIKE 'jp.co.example@%' GROUP BY sender_key ORDER BY count(*) DESC LIMIT 1"
        (sender,) = db.execute(query).fetchone()
        (rule,) = db.execute(
            "SELECT rule FROM recipients WHERE rule IS NOT NULL GROUP BY rule ORDER BY count(*) DESC"
        ).fetchone()
        (message,) = db.execute(
            "SELECT r.message FROM evidence e JOIN recipients r ON r.id = e.recipient ORDER BY e.entry LIMIT 1"
        ).fetchone()
    domain, small = (address.rpartition("@")[2] for address in (person, seldom))
    return Facts(oldest, newest, person, seldom, sender, domain, small, rule, message)


@dataclass(frozen=True)
class Timed:
    """Milliseconds: the first time, later (median), the longest piece of it; ``found``: rows, or what else tells that there was something."""

    first: float
    again: float
    longest: float
    found: int


class Listing:
    """A list that a screen fills: walks until there is a page, or the end."""

    def __init__(
        self,
        wanted: Filter,
        *,
        order: Order = Order.TIME,
        newest_first: bool = True,
        after: Place | None = None,
        pages: int = 1,
    ) -> None:
        self._wanted = wanted
        self._order = order
        self._newest_first = newest_first
        self._after = after
        self._pages = pages

    def __call__(self, desk: Desk) -> Iterator[int]:
        """Rows found by each step."""
        after, missing = self._after, PAGE * self._pages
        while missing > 0:
            page = desk.walk(
                self._wanted, after=after, limit=min(missing, PAGE), order=self._order, newest_first=self._newest_first
            )
            yield len(page.rows)
            missing -= len(page.rows)
            if page.done:
                return
            after = page.reached


class Counting:
    """How many rows a list has, up to a bound, as the screen counts them: step by step."""

    def __init__(self, wanted: Filter) -> None:
        self._wanted = wanted

    def __call__(self, desk: Desk) -> Iterator[int]:
        """Rows counted by each step."""
        after, missing = None, COUNTED
        while missing > 0:
            found = desk.count_on(self._wanted, after=after, most=missing)
            yield found.number
            missing -= found.number
            if found.done:
                return
            after = found.reached


class Indexing:
    """Filling the index of subjects, step by step."""

    def __call__(self, desk: Desk) -> Iterator[int]:
        """Messages that each step put in."""
        before = 0
        while True:
            filling = desk.index_subjects()
            yield filling.filled - before
            before = filling.filled
            if filling.is_done or filling.note:
                return


def fill_index(ledger: Path) -> None:
    """Fill the index of subjects, so that nobody waits for that."""
    with Desk(ledger, access(caller(), Roles())) as desk:
        for _ in Indexing()(desk):
            pass


Steps = Listing | Counting | Indexing
Question = Steps | Callable[[Desk], object]


def lists(known: Facts) -> dict[str, Listing]:
    """Filters as people type them, and ways through a list."""
    middle = Place(known.oldest + (known.newest - known.oldest) // 2, 0)
    month = known.newest - 30 * DAY
    return {
        "first page": Listing(Filter(kinds=("mail",))),
        "first page, receipts too": Listing(Filter()),
        "twenty pages down": Listing(Filter(kinds=("mail",)), pages=20),
        "the end": Listing(Filter(kinds=("mail",)), newest_first=False),
        "jump to a date": Listing(Filter(kinds=("mail",)), after=middle),
        "frequent word": Listing(Filter(subject=(FREQUENT,))),
        "rare word": Listing(Filter(subject=(RARE,))),
        "word that does not occur": Listing(Filter(subject=("存在しない語",))),
        "two words": Listing(Filter(subject=(FREQUENT, "signature"))),
        "state:waiting": Listing(Filter(states=("waiting",))),
        "state:failed": Listing(Filter(states=("failed",))),
        "state:waiting since:30d": Listing(Filter(states=("waiting",), since=month)),
        "state:denied rare word": Listing(Filter(states=("denied",), subject=(RARE,))),
        "to: a person often asked": Listing(Filter(to=known.person)),
        "to: a person seldom asked": Listing(Filter(to=known.seldom)),
        "to: part of an address": Listing(Filter(to=known.person[:6])),
        "to: part that does not occur": Listing(Filter(to="zzzz")),
        "to:@large domain": Listing(Filter(to="@" + known.domain)),
        "to:@small domain": Listing(Filter(to="@" + known.small)),
        "from: one of ours": Listing(Filter(sender=known.sender)),
        "person: one of ours": Listing(Filter(person=known.sender)),
        "rule:": Listing(Filter(rule=known.rule)),
        "rule: state:waiting to:@large domain word": Listing(
            Filter(rule=known.rule, states=("waiting",), to="@" + known.domain, subject=("Invoice",))
        ),
        "grade:authenticated": Listing(Filter(grades=("authenticated",))),
        "outcome:refused": Listing(Filter(outcomes=("refused",))),
        "by recipient": Listing(Filter(), order=Order.TO),
        "by sender": Listing(Filter(), order=Order.FROM),
        "by state": Listing(Filter(), order=Order.STATE),
        "by rule": Listing(Filter(), order=Order.RULE),
        "by recipient, rare word": Listing(Filter(subject=(RARE,)), order=Order.TO),
    }  # fmt: skip


def others(known: Facts) -> dict[str, Question]:
    """What else is asked."""

    def days(desk: Desk) -> int:
        starts = range(known.newest - 30 * DAY, known.newest, DAY)
        return sum(tally.n for start in starts for tally in desk.tallies(start, start + DAY))

    return {
        "count, all": Counting(Filter()),
        "count, frequent word": Counting(Filter(subject=(FREQUENT,))),
        "count, state:waiting": Counting(Filter(states=("waiting",))),
        "count, to:@large domain": Counting(Filter(to="@" + known.domain)),
        "detail": lambda desk: len(desk.details(str(known.message))),
        "figures of today": lambda desk: sum(
            tally.n for tally in desk.tallies(known.newest - DAY, known.newest + HOUR)
        ),
        "figures of 30 days": days,
        "newest receipts": lambda desk: len(desk.newest(20)),
        "what needs a person": lambda desk: desk.attention(known.newest).entries,
        "hits of rules, 30 days": lambda desk: sum(desk.rule_hits(known.newest - 30 * DAY).values()),
        "hits of rules, all": lambda desk: sum(desk.rule_hits(0).values()),
        "has anything changed": lambda desk: desk.version(),
        "audit trail": lambda desk: len(desk.acts_page(ActFilter())),
        "policy versions": lambda desk: len(desk.policy_versions()),
        "unmatched": lambda desk: len(desk.unmatched()),
    }


def ask(path: Path, rounds: int) -> Iterator[tuple[str, Timed]]:
    """All questions to one ledger, one after another."""
    known = facts_of(path)
    asked: dict[str, Question] = {**lists(known), **others(known)}
    with Desk(path, access(caller(), Roles())) as desk:
        desk.version()
        search_path(path).unlink(missing_ok=True)
        yield "index of subjects, all of it", _timed(desk, Indexing(), 0)
        for name, question in asked.items():
            yield name, _timed(desk, question, rounds)


def _timed(desk: Desk, question: Question, rounds: int) -> Timed:
    took: list[float] = []
    longest, found = 0.0, 0
    for turn in range(rounds + 1):
        found = 0
        start = before = time.perf_counter()
        for step in question(desk) if isinstance(question, Steps) else _once(desk, question):
            now = time.perf_counter()
            if turn or not rounds or now - start > _TOO_LONG:
                longest = max(longest, now - before)
            found += step
            before = time.perf_counter()
        took.append(time.perf_counter() - start)
        if took[-1] > _TOO_LONG:
            break
    return Timed(1e3 * took[0], 1e3 * statistics.median(took[1:] or took), 1e3 * (longest or took[0]), found)


def _once(desk: Desk, question: Callable[[Desk], object]) -> Iterator[int]:
    found = question(desk)
    yield found if isinstance(found, int) else 1


def main() -> None:
    """Command line: one ledger's figures."""
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    options.add_argument(
        "--ledger", type=Path, required=True, metavar="FILE", help="looks are put on record in it: a copy"
    )
    options.add_argument("--rounds", type=int, default=5)
    chosen = options.parse_args()
    print(f"{'':<46}{'first ms':>10}{'again':>10}{'longest':>10}{'found':>10}")
    for name, each in ask(chosen.ledger.absolute(), chosen.rounds):
        print(f"{name:<46}{each.first:10.1f}{each.again:10.1f}{each.longest:10.1f}{each.found:10}", flush=True)


if __name__ == "__main__":
    main()
