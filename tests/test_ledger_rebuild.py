"""What is derived can be recomputed from the entries, and is the same to the last row."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.ledger_values import journal, receipt, record, store, tables, to

from kaifu.policies.facts import Consent
from kaifu.proxy.ledger import Begun, EvidenceKind, Grade, LedgerError, Outcome, RequestState, Verdict
from kaifu.proxy.ledger_erasure import erase, hold, release
from kaifu.proxy.ledger_file import Store
from kaifu.proxy.ledger_journal import now
from kaifu.proxy.ledger_people import PeopleJournal
from kaifu.proxy.ledger_rebuild import rebuild
from kaifu.proxy.ledger_verify import verify

ADDRESSES = ("a@x.example", "b@x.example", '"c d"@x.example', "e\ud800@x.example")
OTHERS = ("a@x.example", "z@y.example", "Z@Y.example", "w\udcff@y.example")
recipients = st.lists(
    st.builds(
        to,
        st.sampled_from(ADDRESSES),
        request=st.sampled_from(RequestState),
        rule=st.sampled_from(("one", "two", None)),
        withheld=st.booleans(),
        confirm=st.sampled_from(Grade),
    ),
    min_size=1,
    max_size=4,
).map(tuple)
begins = st.tuples(
    st.just("begin"),
    st.builds(
        lambda to, key, id, subject, minutes: record(
            *to, key=key, message_id=id, subject=subject, minutes=minutes, mint_host="h.example", envid=id
        ),
        recipients,
        st.sampled_from((b"k1", b"k2", b"k3", b"")),
        st.sampled_from(("1@a", "2@a", "\udcff@a", None)),
        st.sampled_from(("契約", "\0", None)),
        st.integers(0, 9),
    ),
)
outcomes = st.lists(st.tuples(st.sampled_from(ADDRESSES), st.sampled_from(Outcome)), max_size=4)
finishes = st.tuples(st.just("finish"), st.integers(0, 20), outcomes)
found = st.builds(
    receipt,
    st.none() | st.integers(1, 12),
    st.sampled_from(("displayed", "deleted", "failed", "delivered", "relayed", "opened \N{SNOWMAN}")),
    kind=st.sampled_from((EvidenceKind.MDN, EvidenceKind.DSN, EvidenceKind.REPLY, EvidenceKind.SUSPECTED)),
    verdict=st.sampled_from((Verdict.MATCHED, Verdict.MATCHED, Verdict.OTHER_ADDRESS, Verdict.WRONG_RECIPIENT)),
    message_id=st.sampled_from(("r1", "r2", None)),
    details=st.sampled_from(({}, {"original_message_id": "1@a"})),
    by=st.sampled_from((*OTHERS, "no address")),
    grade=st.sampled_from(Grade),
    alias=st.booleans(),
)
evidence = st.tuples(
    st.just("evidence"), st.lists(found, min_size=1, max_size=3).map(tuple), recipients | st.just(()), st.integers(0, 9)
)
people = (
    st.tuples(st.just("consent"), st.sampled_from(ADDRESSES), st.sampled_from(Consent))
    | st.tuples(st.just("attest"), st.integers(1, 12))
    | st.tuples(st.just("revoke"), st.integers(1, 40), st.integers(1, 12))
    | st.tuples(st.just("pair"), st.integers(1, 6), st.sampled_from(OTHERS))
    | st.tuples(st.just("unpair"), st.integers(1, 40), st.integers(1, 6))
)
CELLS = ("ids", "sender", "subject", "to.1", "to.2", "report", "person", "actor", "asked", "other")
erasures = st.tuples(
    st.just("erase"),
    st.lists(st.tuples(st.integers(0, 60), st.sampled_from((0, 0, 3))), min_size=1, max_size=3),
    st.none() | st.lists(st.sampled_from(CELLS), min_size=1, max_size=4),
)
kept = (
    erasures
    | st.tuples(st.just("hold"), st.lists(st.integers(1, 4), max_size=2))
    | st.tuples(st.just("release"), st.integers(1, 40))
)
commits = st.tuples(st.just("commit"))
histories = st.lists(begins | begins | finishes | finishes | evidence | people | kept | commits, max_size=25)


def write(opened: Store, history: list[tuple[Any, ...]]) -> None:
    """Let a history happen, in as many transactions as it says."""
    writing, begun = PeopleJournal(opened.db), list[Begun]()
    writing.start()
    for what, *given_ in history:
        try:
            match what, *given_:
                case "begin", one:
                    begun.append(writing.begin(one))
                case "finish", place, told:
                    if begun:
                        writing.finish(begun[place % len(begun)], told, "250 ok", place)
                case "evidence", some, to_, minutes:
                    writing.begin(record(*to_, key=b"e", minutes=minutes, evidence=some))
                case "consent", person, value:
                    writing.consent(person, value, "root", "")
                case "attest", recipient:
                    writing.attest(recipient, "phone", 5, "root", "said so")
                case "revoke", entry, recipient:
                    writing.revoke(entry, [recipient], "root")
                case "pair", recipient, other:
                    writing.pair(recipient, other, "root", "")
                case "unpair", entry, recipient:
                    writing.unpair(entry, [recipient], "root")
                case "erase", places, names:
                    (last,) = writing.database().execute("SELECT coalesce(max(id), 1) FROM entries").fetchone()
                    some = [(1 + place % last, 1 + (place + more) % last) for place, more in places]
                    erase(writing, some, ground="request", actor="root", cells=names)
                case "hold", messages:
                    hold(writing, messages, actor="root", reason="")
                case "release", entry:
                    release(writing, entry, actor="root")
                case _:
                    writing.commit()
                    writing.start()
        except LedgerError:
            continue  # The history asked for something that is not there.
    writing.commit()


@settings(max_examples=settings().max_examples * 60 // 100)
@given(histories, st.lists(erasures, max_size=4))
def test_a_rebuild_gives_the_very_same_tables(
    tmp_path_factory: pytest.TempPathFactory, history: list[tuple[Any, ...]], erased: list[tuple[Any, ...]]
) -> None:
    path = tmp_path_factory.mktemp("ledger") / "ledger.db"
    with store(path) as opened:
        write(opened, [*history, *erased])
        before = tables(path)
        assert verify(opened.db, (), now()).findings == ()
        rebuild(opened.db)
        assert tables(path) == before


_AGAIN = ("begin", record(to(ADDRESSES[0]), key=b"k1", mint_host="h.example"))


@settings(max_examples=settings().max_examples * 20 // 100)
@given(histories)
@example([_AGAIN, ("erase", [(0, 0)], None), _AGAIN])  # an attempt that is erased is not continued
def test_how_facts_are_grouped_into_transactions_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, history: list[tuple[Any, ...]]
) -> None:
    folder = tmp_path_factory.mktemp("ledger")
    each = [part for step in history for part in (step, ("commit",))]
    together = [step for step in history if step[0] != "commit"]
    for name, steps in (("each", each), ("together", together)):
        with store(folder / name) as opened:
            opened.db.execute("UPDATE secrets SET value = zeroblob(32)")
            write(opened, steps)
    minted = ("head", "recipients", "attempts", "evidence")
    assert _without_random(folder / "each", minted) == _without_random(folder / "together", minted)


def _without_random(path: Path, names: tuple[str, ...]) -> dict[str, list[tuple[Any, ...]]]:
    """Tables without what differs from run to run: when a person acted."""
    found = tables(path, names)
    found["evidence"] = [row[:2] + row[3:] for row in found["evidence"]]
    return found


@settings(max_examples=settings().max_examples * 20 // 100)
@given(histories, st.randoms(use_true_random=False))
def test_a_rebuild_can_do_without_cells_that_were_erased_and_no_state_depends_on_them(
    tmp_path_factory: pytest.TempPathFactory, history: list[tuple[Any, ...]], choose: Any
) -> None:
    path = tmp_path_factory.mktemp("ledger") / "ledger.db"
    with store(path) as opened:
        write(opened, history)
        gone = [(number,) for (number,) in opened.db.execute("SELECT id FROM cells") if choose.random() < 0.5]
        before = _states(opened.db)
        opened.db.executemany("DELETE FROM cells WHERE id = ?", gone)
        counted = {name: len(rows) for name, rows in tables(path).items() if name != "consent"}
        rebuild(opened.db)
        once = tables(path)
        rebuild(opened.db)
        assert tables(path) == once
        assert {name: len(rows) for name, rows in once.items() if name in counted} == counted
        assert _states(opened.db) == before


def _states(db: sqlite3.Connection) -> list[tuple[Any, ...]]:
    """All that is derived of recipients and evidence and concerns nobody in person."""
    rows = db.execute(
        "SELECT id, state, outcome, transport, handling, grade, expanded, answering, attested, failed_at, displayed_at"
        " FROM recipients ORDER BY id"
    ).fetchall()
    return rows + db.execute("SELECT entry, recipient, counts, answerer, pair FROM evidence ORDER BY entry").fetchall()


def test_a_rebuild_mends_what_somebody_broke_and_keeps_the_schema(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with store(path) as opened:
        with journal(opened) as writing:
            for number in range(5):
                writing.begin(record(to(), key=b"%d" % number))
        before, schema = tables(path), _schema(path)
        opened.db.execute("UPDATE recipients SET state = 'replied', address = 'mallory@x.example'")
        opened.db.execute("DELETE FROM messages WHERE id = 3")
        told: list[int] = []
        assert rebuild(opened.db, told.append) == 5
    assert tables(path) == before
    assert _schema(path) == schema
    assert told[-1] == 5


def test_a_rebuild_that_fails_changes_nothing_and_names_the_entry(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with store(path) as opened:
        with journal(opened) as writing:
            writing.begin(record(to(), key=b"1"))
            writing.begin(record(to(), key=b"2"))
        before = tables(path)
        opened.db.execute("UPDATE entries SET body = replace(body, '\"direction\"', '\"dir\"') WHERE id = 2")
        with pytest.raises(LedgerError, match="entry 2 of the ledger cannot be read"):
            rebuild(opened.db)
    assert tables(path) == before


def test_writing_goes_on_after_a_rebuild_with_numbers_never_used_before(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with store(path) as opened:
        with journal(opened) as writing:
            writing.begin(record(to(), to("b@x.example"), key=b"1"))
        rebuild(opened.db)
        with journal(opened) as writing:
            assert writing.begin(replace(record(to(), key=b"2"))).message == 2
    assert [row[0] for row in tables(path)["recipients"]] == [1, 2, 3]


def _schema(path: Path) -> list[tuple[str]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute("SELECT sql FROM sqlite_master ORDER BY name").fetchall()
