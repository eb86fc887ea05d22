"""What the desk tells about everybody together: how many recipients became what, which rules decided, and what needs a person."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.ledger_values import NOON, YAMADA, journal, receipt, record, store, to

from kaifu.proxy import ledger_tally
from kaifu.proxy.access import Access, Caller, Role
from kaifu.proxy.ledger import EvidenceKind, Grade, RequestState, Verdict
from kaifu.proxy.ledger_desk import Desk, Filter, PolicyVersion, Tally
from kaifu.proxy.ledger_entries import microseconds
from kaifu.proxy.ledger_erasure import erase
from kaifu.proxy.ledger_people import PeopleJournal
from kaifu.proxy.ledger_states import GRADED, State

DAY = 86_400_000_000
AT = microseconds(NOON)
MIDNIGHT = AT - DAY // 2


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the ledger is to be."""
    return tmp_path / "ledger.db"


def desk(path: Path, role: Role = Role.VIEWER) -> Desk:
    return Desk(path, Access(Caller(4711, "alice"), role))


def fill(path: Path, *work: Callable[[PeopleJournal], object]) -> Path:
    """A ledger in which these things happened, each in a transaction of its own."""
    with store(path) as opened:
        for each in work:
            with journal(opened) as adding:
                each(adding)
    return path


def sent(
    number: int, *, minutes: int = 0, request: RequestState = RequestState.ADDED, rule: str = "partners"
) -> Callable[[PeopleJournal], object]:
    """A message of its own to one recipient, of the same number when it is the number-th in the ledger."""
    recipient = to(request=request, rule=rule)
    made = record(recipient, key=b"%d" % number, message_id=f"{number}@example.co.jp", minutes=minutes)
    return lambda adding: adding.begin(made)


def answered(
    recipient: int, value: str = "displayed", *, minutes: int = 1, **changes: object
) -> Callable[[PeopleJournal], object]:
    found = replace(receipt(recipient, value, message_id=f"a{recipient}{value}{minutes}@partner.example"), **changes)  # type: ignore[arg-type]
    made = record(key=b"a%d%s%d" % (recipient, value.encode(), minutes), evidence=(found,), minutes=minutes)
    return lambda adding: adding.begin(made)


def day(path: Path) -> set[Tally]:
    with desk(path) as at:
        found = at.tallies(MIDNIGHT, MIDNIGHT + DAY)
    assert len(found) == len(set(found))
    return set(found)


def test_what_became_of_those_who_were_asked_is_told_by_quarters_of_an_hour(path: Path) -> None:
    fill(path, sent(1), sent(2, minutes=14), sent(3, minutes=15), sent(4, minutes=15), answered(4, minutes=200))
    later = AT + 900_000_000
    assert day(path) == {
        Tally(AT, "waiting", None, 2),
        Tally(later, "waiting", None, 1),
        Tally(later, "displayed", "claimed", 1),
    }


def test_grades_are_never_mixed_and_only_what_an_answer_made_has_one(path: Path) -> None:
    fill(
        path,
        *(sent(number) for number in range(1, 6)),
        answered(1, grade=Grade.AUTHENTICATED),
        answered(2, grade=Grade.CLAIMED),
        answered(3, "failed", grade=Grade.AUTHENTICATED),
        answered(4, "denied", grade=Grade.AUTHENTICATED),
        answered(5, "delivered", kind=EvidenceKind.DSN),
    )
    assert day(path) == {
        Tally(AT, "displayed", "authenticated", 1),
        Tally(AT, "displayed", "claimed", 1),
        Tally(AT, "failed", None, 1),
        Tally(AT, "denied", "authenticated", 1),
        Tally(AT, "delivered", None, 1),
    }


def test_of_a_list_no_answer_makes_a_state_or_a_grade(path: Path) -> None:
    fill(path, sent(1), answered(1, "expanded", kind=EvidenceKind.DSN), answered(1, minutes=2))
    assert day(path) == {Tally(AT, "waiting", None, 1)}


def test_who_was_not_asked_is_told_apart_also_when_he_answered_or_his_mail_failed(path: Path) -> None:
    fill(
        path,
        sent(1, request=RequestState.NONE),
        sent(2, request=RequestState.STRIPPED),
        answered(2, "reply", kind=EvidenceKind.REPLY),
        sent(3, request=RequestState.NONE),
        answered(3, "failed", kind=EvidenceKind.DSN),
        sent(4, request=RequestState.KEPT),
        answered(4, "failed", kind=EvidenceKind.DSN),
    )
    assert day(path) == {
        Tally(AT, "not-asked", None, 1, asked=False),
        Tally(AT, "replied", "claimed", 1, asked=False),
        Tally(AT, "failed", None, 1, asked=False),
        Tally(AT, "failed", None, 1, asked=True),
    }


STATES = {
    "waiting": None,
    "displayed": "displayed",
    "deleted": "deleted",
    "denied": "denied",
    "failed": "failed",
}


@given(st.lists(st.tuples(st.integers(0, 4 * 24 * 60), st.sampled_from(sorted(STATES)), st.booleans()), max_size=12))
def test_the_days_add_up_to_the_rows(
    tmp_path_factory: pytest.TempPathFactory, mail: list[tuple[int, str, bool]]
) -> None:
    path = tmp_path_factory.mktemp("tallies") / "ledger.db"
    work: list[Callable[[PeopleJournal], object]] = []
    for number, (minutes, state, asked) in enumerate(mail, 1):
        request = RequestState.ADDED if asked else RequestState.NONE
        work.append(sent(number, minutes=minutes, request=request))
        if value := STATES[state]:
            work.append(answered(number, value, minutes=minutes + 1))
    fill(path, *work)
    counted = Counter[tuple[int, str, str | None, bool]]()
    with desk(path, Role.AUDITOR) as at:
        for start in range(MIDNIGHT, MIDNIGHT + 5 * DAY, DAY):
            for tally in at.tallies(start, start + DAY):
                assert start <= tally.at < start + DAY
                counted[(*tally[:3], tally.asked)] += tally.n
        rows = list(at.rows(Filter()))
        assert at.oldest() == min((row.at for row in rows), default=None)
    assert counted == Counter(
        (
            row.at - row.at % ledger_tally.QUARTER,
            row.state,
            row.standing.grade if row.state in GRADED else None,
            row.request in ("kept", "added"),
        )
        for row in rows
    )


def test_every_figure_comes_from_an_index_alone(path: Path) -> None:
    """And from the right one: what a screen asks every few seconds must not read the rows of a large table."""
    fill(path, sent(1), answered(1))
    plans: list[str] = []
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        told: list[str] = []
        db.set_trace_callback(told.append)
        ledger_tally.tallies(db, MIDNIGHT, AT + 1)
        ledger_tally.rule_hits(db, 0)
        ledger_tally.oldest(db)
        ledger_tally.attention(db, AT)
        db.set_trace_callback(None)
        for statement in told:
            plans += [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {statement}")]
    over_many = [plan for plan in plans if "TEMP B-TREE" not in plan and "INTEGER PRIMARY KEY" not in plan]
    used = Counter(plan.split(" INDEX ")[1].split(" ")[0] for plan in over_many if " INDEX " in plan)
    assert used == {
        "recipients_state": 2,
        "recipients_told": len(State) - 2,
        "recipients_rule": 3,
        "recipients_at": 1,
        "unmatched_expires": 1,
        "evidence_unpaired": 1,
        "acts_what": 1,
    }
    rows_read = {plan for plan in over_many if " INDEX " in plan and "COVERING INDEX" not in plan}
    assert rows_read == {"SEARCH evidence USING INDEX evidence_unpaired (at>?)"}, "a month of strangers, no more"
    rest = {plan for plan in over_many if " INDEX " not in plan}
    assert rest <= {"SCAN head", "SCAN batches", "SCAN a", "SEARCH a USING PRIMARY KEY", "CORRELATED SCALAR SUBQUERY 1"}


def test_rules_are_told_with_how_many_recipients_they_decided_since_then(path: Path) -> None:
    work = [sent(n, rule=rule, minutes=n) for n, rule in enumerate(["b", "契約", "b", "a"], 1)]
    fill(path, *work, lambda adding: adding.begin(record(to(rule=None), key=b"9", minutes=9)))
    with desk(path) as at:
        assert at.rule_hits(0) == {"a": 1, "b": 2, "契約": 1}
        assert at.rule_hits(AT + 120_000_000) == {"a": 1, "b": 1, "契約": 1}
        assert at.rule_hits(AT + DAY) == {}


def test_an_empty_ledger_has_no_figures_and_needs_nobody(path: Path) -> None:
    fill(path)
    with desk(path) as at:
        assert (at.tallies(0, 2**62), at.oldest(), at.rule_hits(0)) == ([], None, {})
        found = at.attention(AT)
    assert (found.unmatched, found.unpaired, found.entries, found.anchors) == (0, 0, 0, ())
    assert (found.last_entry_at, found.last_sealed, found.oldest_unanchored_at) == (None, None, None)


def stranger(
    number: int, at: datetime, kind: EvidenceKind = EvidenceKind.MDN, by: str = "b@other.example"
) -> Callable[[PeopleJournal], object]:
    """An answer to the first message by somebody who is no recipient of it."""
    found = receipt(1, verdict=Verdict.OTHER_ADDRESS, kind=kind, by=by, message_id=f"s{number}@other.example")
    return lambda adding: adding.begin(replace(record(key=b"s%d" % number, evidence=(found,)), at=at))


def test_what_nobody_could_match_or_pair_waits_for_a_person_for_a_time(path: Path) -> None:
    now = datetime.now(UTC)
    fill(
        path,
        sent(1),
        lambda adding: adding.begin(replace(record(key=b"u", evidence=(receipt(None),)), at=now)),
        stranger(1, now),
        stranger(1, now),
        stranger(2, now, by="c@other.example"),
        stranger(3, now, EvidenceKind.AUTO_REPLY),
        stranger(4, now - timedelta(days=31), by="d@other.example"),
    )

    def waiting(later: timedelta = timedelta()) -> tuple[int, int]:
        with desk(path) as at:
            found = at.attention(microseconds(now + later))
            return found.unmatched, found.unpaired

    assert waiting() == (1, 2)
    with desk(path, Role.ADMIN) as at:
        pairing = at.pair(1, "b@other.example", "the same person")
        assert waiting() == (1, 1)
        at.unpair(pairing, (1,))
    assert waiting() == (1, 2)
    assert waiting(timedelta(days=15)) == (0, 2)
    assert waiting(timedelta(days=31)) == (0, 0)


def test_what_no_place_has_seen_is_told_with_its_age(path: Path) -> None:
    begun = microseconds(datetime.now(UTC))
    fill(path, sent(1), sent(2))
    with desk(path) as at:
        bare = at.attention(AT)
        assert (bare.entries, bare.last_sealed, bare.anchors) == (2, (2, 2), ())
        assert bare.oldest_unanchored_at == AT
        assert bare.last_entry_at == AT
    told = [
        lambda adding: adding.act("anchored", {"batch": 1, "to": ["mail"]}, {"actor": "bob"}),
        lambda adding: adding.act("anchored", {"batch": 2, "to": ["file"]}, {"actor": "bob"}),
    ]
    fill(path, *told)
    with desk(path) as at:
        found = at.attention(AT)
        assert found.oldest_unanchored_at is None
        assert [place[:3] for place in found.anchors] == [("file", 2, 2), ("mail", 1, 1)]
        assert [place.since for place in found.anchors] == [0, 1]
        assert all(begun <= place.at <= microseconds(datetime.now(UTC)) for place in found.anchors)
    fill(path, sent(3, minutes=5))
    with desk(path) as at:
        found = at.attention(AT)
        assert [place.since for place in found.anchors] == [1, 2]
        assert found.oldest_unanchored_at == found.last_entry_at == AT + 5 * 60_000_000
        assert (found.entries, found.last_sealed) == (5, (5, 5))


def test_a_version_stays_until_somebody_writes(path: Path) -> None:
    fill(path, sent(1))
    with desk(path) as at:
        before = at.version()
        at.tallies(0, 1)
        assert at.version() == before
        fill(path, sent(2))
        after = at.version()
        assert after != before
        assert at.version() == after
        at.close_file()
        assert at.version() != after


def test_the_policies_that_were_in_force_are_listed_from_the_last(path: Path) -> None:
    fill(
        path,
        lambda adding: adding.policy("d1", "observe", "version: 1\n", AT),
        lambda adding: adding.policy("d2", "enforce", "version: 1\nrules: []\n", AT + 5),
    )
    with desk(path, Role.AUDITOR) as at:
        found = at.policy_versions()
    assert found == [
        PolicyVersion(2, AT + 5, None, "d2", "enforce", "version: 1\nrules: []\n"),
        PolicyVersion(1, AT, AT + 5, "d1", "observe", "version: 1\n"),
    ]


def test_who_answered_for_another_is_not_taken_for_him_once_his_address_is_erased(path: Path) -> None:
    fill(path, sent(1), sent(2), answered(1), answered(2, by="kudo@partner.example", alias=True))

    def told() -> list[tuple[str | None, str | None]]:
        with desk(path, Role.AUDITOR) as at:
            return [(one.by, one.to) for one in at.newest(9)]

    assert told() == [("kudo@partner.example", YAMADA), (YAMADA, YAMADA)]
    with store(path) as opened:
        evidence = opened.db.execute("SELECT entry FROM evidence").fetchall()
        with journal(opened) as adding:
            erase(adding, [entry for (entry,) in evidence], ground="request", actor="root")
    assert told() == [(None, YAMADA), (YAMADA, YAMADA)]
