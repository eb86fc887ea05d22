"""Lists: in every order, for every filter, in pages of any size, however little patience there is, all rows come, once and in order."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.ledger_values import YAMADA, journal, record, store, to
from tests.varied_ledger import ADDRESSES, MINUTES, RULES, SENDERS, START, SUBJECTS, fill, fits, in_order

from kaifu.policies.facts import Direction
from kaifu.proxy import ledger_filter, ledger_read
from kaifu.proxy.ledger import Outcome, RequestState
from kaifu.proxy.ledger_filter import EVERYTHING, Filter, Order, Place, few, stretches
from kaifu.proxy.ledger_read import Counted, Page, Row, count, count_on, page, rows, walk
from kaifu.proxy.ledger_states import State
from kaifu.proxy.ledger_subjects import Subjects


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    path = tmp_path_factory.mktemp("varied") / "ledger.db"
    fill(path, seed=5)
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)) as opened:
        yield opened


def some_of(words: object) -> st.SearchStrategy[tuple[str, ...]]:
    return st.sets(st.sampled_from([str(word) for word in words]), max_size=3).map(sorted).map(tuple)  # type: ignore[attr-defined]


ADDRESS = st.sampled_from([*ADDRESSES, *SENDERS[:2], "@partner.example", "@.example.co.jp", "@.partner.example", "o"])
TIMES = st.sampled_from([START + minutes * 60_000_000 for minutes in MINUTES])
PARTS = [text[at : at + size] for text in SUBJECTS if text for at in range(len(text)) for size in (1, 2, 3)]
CONDITIONS: dict[Any, st.SearchStrategy[Any]] = {
    "since": TIMES, "until": TIMES, "to": ADDRESS, "sender": ADDRESS, "person": ADDRESS,
    "rule": st.sampled_from([rule for rule in RULES if rule]), "states": some_of(State), "directions": some_of(Direction),
    "kinds": some_of(["mail", "mdn", "dsn"]), "outcomes": some_of(Outcome), "requests": some_of(RequestState),
    "grades": some_of(["claimed", "authenticated", "attested"]), "message": st.integers(1, 20),
    "message_id": st.integers(0, 70).map(lambda number: f"{number}@example.co.jp"),
    "subject": st.lists(st.sampled_from(PARTS), max_size=2).map(tuple),
}  # fmt: skip
FILTERS = (
    st.fixed_dictionaries({}, optional=CONDITIONS)
    .filter(lambda given: len(given) < 5)
    .map(lambda given: Filter(**given))
)


def counted(db: sqlite3.Connection, wanted: Filter, most: int, window: int) -> int:
    """All rows, counted a step at a time."""
    number, at = 0, Counted(0, None, False)
    while not at.done:
        at = count_on(db, wanted, after=at.reached, most=most, window=window, patience=0)
        assert at.number <= most
        number += at.number
    return number


def walked(
    db: sqlite3.Connection,
    wanted: Filter,
    limit: int,
    window: int,
    order: Order,
    newest_first: bool,
    subjects: Subjects | None = None,
) -> list[Row]:
    """All rows, a step at a time."""
    found: list[Row] = []
    at = Page([], None, False)
    while not at.done:
        before, at = at, walk(
            db, wanted, after=at.reached, limit=limit, window=window, newest_first=newest_first, order=order,
            patience=0, subjects=subjects,
        )  # fmt: skip
        assert len(at.rows) <= limit
        assert at.done or at.reached not in (None, before.reached), "each step comes further"
        found += at.rows
    return found


@given(
    FILTERS,
    st.sampled_from(Order),
    st.booleans(),
    st.integers(1, 30),
    st.integers(1, 40),
    st.sampled_from([0, 3, 20, 10_000]),
)
def test_however_a_list_is_walked_every_row_that_fits_comes_once_and_in_order(
    db: sqlite3.Connection, wanted: Filter, order: Order, newest_first: bool, limit: int, window: int, small: int
) -> None:
    everything = page(db, Filter(), limit=-1)
    expected = in_order([row for row in everything if fits(row, wanted)], order)
    expected = expected if newest_first else expected[::-1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger_filter, "SMALL", small)
        assert walked(db, wanted, limit, window, order, newest_first) == expected
        assert page(db, wanted, limit=-1, newest_first=newest_first, order=order) == expected
        if order is Order.TIME:
            assert list(rows(db, wanted, newest_first=newest_first, at_once=limit)) == expected
        assert counted(db, wanted, limit, window) == len(expected)
        for most in (5, 1000):
            assert count(db, wanted, most=most) == min(most, len(expected))


@given(st.sampled_from(Order), st.booleans(), st.data())
def test_a_list_can_go_on_after_any_of_its_rows(
    db: sqlite3.Connection, order: Order, newest_first: bool, data: st.DataObject
) -> None:
    everything = page(db, Filter(), limit=-1, newest_first=newest_first, order=order)
    number = data.draw(st.integers(0, len(everything) - 1))
    small = data.draw(st.sampled_from([0, 10_000]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger_filter, "SMALL", small)
        after = everything[number].place_in(order)
        assert (
            page(db, Filter(), after=after, limit=7, newest_first=newest_first, order=order)
            == everything[number + 1 :][:7]
        )
        back = page(db, Filter(), after=after, limit=7, newest_first=not newest_first, order=order)
        assert back == everything[:number][::-1][:7]


@given(TIMES.flatmap(lambda at: st.integers(at - 1, at + 1)))
def test_a_time_is_a_place_between_what_was_before_it_and_what_was_not(db: sqlite3.Connection, at: int) -> None:
    everything = page(db, Filter(), limit=-1)
    place = Place.of_time(at)
    assert page(db, Filter(), after=place, limit=-1) == [row for row in everything if row.at < at]
    later = page(db, Filter(), after=place, limit=-1, newest_first=False)
    assert later == [row for row in everything[::-1] if row.at >= at]


def test_without_patience_a_walk_tells_how_far_it_came(db: sqlite3.Connection) -> None:
    found = walk(db, Filter(subject=("no such word",)), limit=1, window=10, patience=0)
    assert found.rows == []
    assert not found.done
    assert found.reached is not None
    newest, oldest = page(db, Filter(), limit=1)[0].at, page(db, Filter(), limit=1, newest_first=False)[0].at
    assert oldest < found.reached.at <= newest


def test_many_recipients_of_one_moment_do_not_stop_a_walk(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with store(path) as opened, journal(opened) as writing:
        for number in range(3):
            people = [to(f"p{one}@partner.example", rule=None) for one in range(50)]
            writing.begin(record(*people, key=b"%d" % number))
    with closing(sqlite3.connect(path, isolation_level=None)) as db, pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger_filter, "SMALL", 0)
        for order in Order:
            for newest_first in (True, False):
                found = walked(db, Filter(), 7, 4, order, newest_first)
                assert len({row.recipient for row in found}) == len(found) == 150


@pytest.mark.parametrize("newest_first", [True, False])
def test_what_is_looked_for_long_is_looked_for_in_several_short_transactions(
    long_list: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch, newest_first: bool
) -> None:
    everything = page(long_list, Filter(), limit=-1, newest_first=newest_first)
    monkeypatch.setattr(ledger_read, "PATIENCE", 0)
    statements: list[str] = []
    long_list.set_trace_callback(statements.append)
    try:
        assert page(long_list, Filter(outcomes=("refused",)), newest_first=newest_first) == []
        assert statements.count("BEGIN") == statements.count("ROLLBACK") > 2
        assert page(long_list, Filter(), limit=1000, newest_first=newest_first) == everything[:1000]
        assert count(long_list, Filter(), most=10_000) == 3000
        assert count(long_list, Filter(), most=2000) == 2000
    finally:
        long_list.set_trace_callback(None)


@pytest.mark.parametrize("wanted", [Filter(sender="sato@example.co.jp"), Filter(sender="@example.co.jp")])
def test_a_few_messages_to_many_are_many_rows_and_are_not_gathered_for_each_page(
    tmp_path: Path, wanted: Filter
) -> None:
    path = tmp_path / "ledger.db"
    with store(path) as opened, journal(opened) as writing:
        people = [to(f"p{one:02}@partner.example") for one in range(50)]
        writing.begin(record(*people, sender="sato@example.co.jp"))
    with closing(sqlite3.connect(path, isolation_level=None)) as db, pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger_filter, "SMALL", 51)
        assert few(db, wanted) is not None
        patch.setattr(ledger_filter, "SMALL", 50)
        assert few(db, wanted) is None
        assert [row.address for row in walked(db, wanted, 7, 4, Order.TO, True)] == sorted(
            one.address for one in people
        )


RARE = [
    (Filter(to=YAMADA, states=("waiting",)), "recipients_address"),
    (Filter(sender="boss@example.co.jp", rule="partners"), "messages_sender"),
    (Filter(message=3, states=("waiting",)), "recipients_message"),
    (Filter(message_id="3@example.co.jp"), "messages_id_hash"),
    (Filter(person="boss@example.co.jp"), "messages_sender"),
    (Filter(to="@partner.example", rule="partners"), "recipients_address"),
    (Filter(rule="contracts", states=("waiting",)), "recipients_rule"),
    (Filter(grades=("attested",), states=("waiting",)), "recipients_attested"),
    (Filter(states=("failed",), rule="partners"), "recipients_state"),
]


@pytest.mark.parametrize(("wanted", "index"), RARE, ids=[index for _, index in RARE])
def test_rare_things_are_found_by_the_index_in_which_they_are_few(tmp_path: Path, wanted: Filter, index: str) -> None:
    path = tmp_path / "ledger.db"
    with store(path) as opened, journal(opened) as writing:
        for number in range(40):
            common = to("ueda@example.co.jp")
            writing.begin(record(common, key=b"%d" % number, message_id=f"{number}@example.co.jp"))
        writing.begin(record(to(rule="contracts"), key=b"r", sender="boss@example.co.jp"))
        writing.attest(2, "phone", START, "root", "")
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        assert any(index in each.table for each in stretches(db, wanted))
        assert stretches(db, replace(wanted, **{name: getattr(Filter(), name) for name in CONDITIONS})) == [EVERYTHING]


@pytest.fixture(scope="module")
def long_list(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    """Three thousand rows, of three hundred people."""
    path = tmp_path_factory.mktemp("long") / "ledger.db"
    with store(path) as opened, journal(opened) as writing:
        for number in range(1000):
            people = [to(f"p{(number + one) % 300:03}@partner.example", rule=RULES[number % 3]) for one in range(3)]
            sender = f"s{number % 150:03}@example.co.jp"
            writing.begin(record(*people, key=b"%d" % number, minutes=number, sender=sender))
    with closing(sqlite3.connect(path, isolation_level=None)) as opened_too:
        yield opened_too


@pytest.mark.parametrize("order", Order)
@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize(
    "wanted",
    [
        Filter(),
        Filter(since=START - 1, until=START * 2),
        Filter(since=START - 1, until=START * 2, outcomes=("refused",)),
    ],
    ids=["all", "between", "rare"],
)
def test_a_page_in_the_midst_of_a_list_takes_no_more_work_than_one_at_an_end(
    long_list: sqlite3.Connection, order: Order, newest_first: bool, wanted: Filter
) -> None:
    db = long_list

    def work(after: Place | None) -> tuple[int, Page]:
        steps = 0

        def note() -> int:
            nonlocal steps
            steps += 1
            return 0

        db.set_progress_handler(note, 10)
        try:
            found = walk(
                db, wanted, after=after, limit=20, window=20, patience=0, newest_first=newest_first, order=order
            )
        finally:
            db.set_progress_handler(None, 10)
        return steps, found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger_filter, "SMALL", 0)
        everything = page(db, Filter(), limit=-1, newest_first=newest_first, order=order)
        effort = []
        for number in (20, 1000, 2000, 2900):
            steps, found = work(everything[number].place_in(order))
            effort.append(steps)
            if not wanted.outcomes:
                assert found.rows == everything[number + 1 :][: len(found.rows)]
        assert max(effort) < 4 * max(effort[0], effort[-1]) + 100, effort
