"""Erasing: the cells are gone from the files, what is derived agrees, and what must be kept is kept."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from tests import tampering
from tests.ledger_values import YAMADA, bodies, journal, receipt, record, store, tables, to

from kaifu.policies.facts import Consent
from kaifu.proxy import ledger_erasure
from kaifu.proxy.ledger import LedgerError, Outcome
from kaifu.proxy.ledger_erasure import clear_log, erase, hold, release
from kaifu.proxy.ledger_file import Store
from kaifu.proxy.ledger_people import PeopleJournal
from kaifu.proxy.ledger_rebuild import rebuild
from kaifu.proxy.migrations import DERIVED

PERSON = "takahashi.erase-me@partner.example"
SECRETS = (PERSON, "elpmaxe", PERSON.rpartition("@")[0], "erase-me-subject", "erase-me-id", "erase-me-reply")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def about_person(writing: PeopleJournal, number: int) -> None:
    """A message to a person, its outcome, a receipt, and what the person said about being asked."""
    asked = record(
        to(PERSON, retain_days=number),
        key=b"erase-me-%d" % number,
        message_id=f"erase-me-id-{number}@example.co.jp",
        subject=f"erase-me-subject {number} " + "x" * (number * 37 % 500),
    )
    begun = writing.begin(asked)
    writing.finish(begun, [(PERSON, Outcome.ACCEPTED)], f"250 erase-me-reply {number}", 0)
    (recipient,) = writing.database().execute("SELECT max(id) FROM recipients").fetchone()
    found = receipt(
        recipient, about=PERSON, by=PERSON, message_id=f"erase-me-id-r{number}", raw=b"To: " + PERSON.encode()
    )
    writing.begin(record(key=b"r%d" % number, evidence=(found,)))
    if number % 5 == 0:
        writing.consent(PERSON, Consent.DENIED, PERSON, "erase-me-reply")


def left(path: Path) -> dict[str, list[str]]:
    """Which secrets stand in which of the ledger's files."""
    files = [path.with_name(path.name + end) for end in ("", "-wal", "-shm", "-search", "-search-journal")]
    octets = {file.name: file.read_bytes() for file in files if file.exists()}
    return {
        name: found for name, held in octets.items() if (found := [word for word in SECRETS if word.encode() in held])
    }


def test_what_was_erased_is_in_no_file_any_more(path: Path) -> None:
    with store(path) as opened:
        named: list[int | tuple[int, int]] = []
        for number in range(150):
            with journal(opened) as writing:
                before = opened.db.execute("SELECT entry FROM head").fetchone()[0]
                about_person(writing, number)
                writing.database()
                last = opened.db.execute("SELECT max(id) FROM entries").fetchone()[0]
                named.append((before + 1, last))
                for other in range(number % 4):
                    writing.begin(record(to(), key=b"%d.%d" % (number, other), subject="k" * (other * 300)))
            if number == 70:
                opened.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert left(path)[path.name + "-wal"]
        with journal(opened) as writing:
            erase(writing, named[:60], ground="request", actor="root", text="asked by letter")
        with journal(opened) as writing:
            erase(writing, named[60:], ground="request", actor="root")
        assert clear_log(opened.db)
        assert left(path) == {}
        before_rebuild = tables(path)
        rebuild(opened.db)
        assert tables(path) == before_rebuild
        assert opened.db.execute("SELECT count(*) FROM cells").fetchone()[0] > 0
        assert {row[4] for row in before_rebuild["recipients"]} == {None, YAMADA}


def test_the_log_is_not_emptied_under_a_reader_and_that_is_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_erasure, "BUSY_SECONDS", 0.05)
    with store(path) as opened:
        with journal(opened) as writing:
            about_person(writing, 1)
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM cells").fetchone()
            with journal(opened) as writing:
                erase(writing, [(1, 3)], ground="request", actor="root")
            assert not clear_log(opened.db)
            reader.execute("ROLLBACK")
        assert clear_log(opened.db)
    assert left(path) == {}


def test_an_erasure_names_entries_and_never_the_person(path: Path) -> None:
    with store(path) as opened:
        with journal(opened) as writing:
            about_person(writing, 0)
        with journal(opened) as writing:
            erase(
                writing,
                [1, (2, 3), 4],
                ground="request",
                actor="root",
                text="by letter",
                cells=("ids", "to.1", "person"),
            )
    body = json.loads(bodies(path)[-1])
    wanted = ("erasure", [[1, 4]], ["ids", "person", "to.1"], "request")
    assert (body["kind"], body["entries"], body["names"], body["ground"]) == wanted


def state(path: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(
            "SELECT id, request, outcome, state, transport, handling, answering FROM recipients"
        ).fetchall()


def test_an_erasure_changes_no_state(path: Path) -> None:
    with store(path) as opened:
        with journal(opened) as writing:
            for number in range(3):
                about_person(writing, number)
        before = state(path)
        with journal(opened) as writing:
            erase(writing, [(1, 5)], ground="request", actor="root")
    assert state(path) == before
    assert before[0][3] == "displayed"


def test_of_two_things_a_person_said_the_one_that_is_left_holds(path: Path) -> None:
    with store(path) as opened:
        with journal(opened) as writing:
            writing.consent(YAMADA, Consent.DENIED, "root", "")
            writing.consent(YAMADA, Consent.GRANTED, "root", "")
        with journal(opened) as writing:
            erase(writing, [2], ground="request", actor="root")
        before = tables(path)
        assert [row[1:3] for row in before["consent"]] == [(YAMADA, "denied")]
        rebuild(opened.db)
    assert tables(path) == before


def refused(opened: Store, work: Callable[[PeopleJournal], object]) -> str:
    """Why the work is refused; it leaves nothing behind."""
    before = tables(opened.path), tables(opened.path, ("entries", "cells", "batches"))
    writing = PeopleJournal(opened.db)
    writing.start()
    with pytest.raises(LedgerError) as raised:
        work(writing)
    writing.rollback()
    assert (tables(opened.path), tables(opened.path, ("entries", "cells", "batches"))) == before
    return str(raised.value)


def test_what_is_on_hold_is_erased_on_no_ground_until_it_is_released(path: Path) -> None:
    with store(path) as opened:
        with journal(opened) as writing:
            about_person(writing, 1)
            about_person(writing, 2)
        with journal(opened) as writing:
            held = hold(writing, [2, 2], actor="root", reason="case 7")
        for ground in ("request", "other", "retention"):
            why = refused(opened, partial(erase, entries=[(1, 6)], ground=ground, actor="x"))
            assert why == f"entry 4 is about message 2, which is on hold since entry {held}"
        with journal(opened) as writing:
            erase(writing, [(1, 3)], ground="request", actor="root")
            ended = release(writing, held, actor="root")
            erase(writing, [(4, 6)], ground="request", actor="root")
        assert tables(path)["holds"] == [(2, held, ended)]
        before = tables(path)
        rebuild(opened.db)
        assert tables(path) == before
        assert refused(opened, lambda writing: release(writing, held, actor="x")) == (
            f"the hold of entry {held} was released already, by entry {ended}"
        )
        assert refused(opened, lambda writing: release(writing, 1, actor="x")) == "entry 1 is no hold"
        assert "no message 9" in refused(opened, lambda writing: hold(writing, [9], actor="x", reason=""))


def test_what_is_not_due_is_not_erased_for_its_age(path: Path) -> None:
    with store(path) as opened:
        with journal(opened) as writing:
            writing.begin(record(to(retain_days=1), to("b@x.example", retain_days=100_000), key=b"1"))
            writing.begin(record(to(), key=b"2"))
        assert "cell ids of entry 1" in refused(
            opened, lambda writing: erase(writing, [1], ground="retention", actor="x")
        )
        assert "no retention is recorded" in refused(
            opened, lambda writing: erase(writing, [2], ground="retention", actor="x", cells=["subject"])
        )
        assert "due at 2300-" in refused(
            opened, lambda writing: erase(writing, [1], ground="retention", actor="x", cells=["to.2"])
        )
        with journal(opened) as writing:
            erase(writing, [1], ground="retention", actor="kaifu", cells=["to.1"])
        assert "nothing to erase" in refused(
            opened, lambda writing: erase(writing, [1], ground="retention", actor="x", cells=["to.1"])
        )
        assert '"age" is no ground' in refused(opened, lambda writing: erase(writing, [1], ground="age", actor="x"))
    assert [row[4] for row in tables(path)["recipients"]] == [None, "b@x.example", YAMADA]


def test_erasing_goes_on_beside_somebody_who_writes(path: Path) -> None:
    with store(path) as opened, store(path) as other:
        with journal(opened) as writing:
            for number in range(20):
                about_person(writing, number)

        def write() -> None:
            for number in range(30):
                with journal(other) as theirs:
                    theirs.begin(record(to(), key=b"other-%d" % number))

        thread = threading.Thread(target=write)
        thread.start()
        for entry in range(1, 31):
            with journal(opened) as writing:
                erase(writing, [entry], ground="request", actor="root")
        thread.join()
        assert clear_log(opened.db)
        before = tables(path)
        rebuild(opened.db)
        assert tables(path) == before


def test_erasing_any_one_cell_of_any_entry_gives_the_tables_of_a_rebuild(path: Path) -> None:
    tampering.build(path)
    with closing(sqlite3.connect(path)) as original:
        tried = original.execute("SELECT entry, name FROM cells WHERE entry NOT IN (SELECT id FROM entries e JOIN holds h"
                                 " ON h.message = e.message AND h.released IS NULL)").fetchall()  # fmt: skip
        for entry, name in tried:
            with closing(tampering.copy_of(original)) as db:
                writing = PeopleJournal(db)
                writing.start()
                erase(writing, [entry], ground="request", actor="root", cells=[name])
                writing.commit()
                before = {table: tampering.rows(db, table) for table in DERIVED}
                rebuild(db)
                assert {table: tampering.rows(db, table) for table in DERIVED} == before, (entry, name)
    assert {name for _, name in tried} >= {
        "ids",
        "sender",
        "subject",
        "to.3",
        "report",
        "raw",
        "person",
        "actor",
        "asked",
        "other",
    }
