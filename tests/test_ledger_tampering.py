"""Whatever somebody does to the file by hand is found, and named; what nobody touched, or was erased lawfully, is intact."""

from __future__ import annotations

import json
import random
import sqlite3
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests import tampering
from tests.ledger_values import NOON, journal, receipt, record, store, to

from kaifu.proxy import ledger_verify
from kaifu.proxy.ledger_anchor import Anchor
from kaifu.proxy.ledger_entries import at_text, at_value, canonical, microseconds
from kaifu.proxy.ledger_erasure import DAY, erase
from kaifu.proxy.ledger_file import connect
from kaifu.proxy.ledger_journal import now
from kaifu.proxy.ledger_seal import MARK, leaf
from kaifu.proxy.ledger_verify import Report, verify
from kaifu.proxy.migrations import DERIVED


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    """A ledger with everything in it, which nobody touched."""
    path = tmp_path_factory.mktemp("original") / "ledger.db"
    tampering.build(path)
    db = connect(path, write=False)
    yield db
    db.close()


@pytest.fixture
def db(original: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """A copy to tamper with."""
    copy = tampering.copy_of(original)
    yield copy
    copy.close()


def look(db: sqlite3.Connection, *anchors: Anchor) -> Report:
    return verify(db, anchors, now())


def anchors(db: sqlite3.Connection) -> list[Anchor]:
    """An anchor at each batch."""
    ledger = db.execute("SELECT ledger FROM identity").fetchone()[0]
    return [
        Anchor(ledger, number, last, head, f"2026-11-21T00:00:{number:02}Z")
        for number, last, head in db.execute("SELECT id, last, head FROM batches ORDER BY id")
    ]


def test_what_nobody_touched_and_what_was_erased_lawfully_is_intact(original: sqlite3.Connection) -> None:
    everyone = anchors(original)
    report = look(original, *everyone)
    assert report.findings == ()
    assert report.intact
    assert list(report.holding) == everyone
    assert report.erased > 3
    assert [(each.ground, each.entries) for each in report.erasures] == [("request", 3), ("other", 1)]


def test_there_is_every_kind_of_entry(original: sqlite3.Connection) -> None:
    kinds = {kind for (kind,) in original.execute("SELECT json_extract(body, '$.kind') FROM entries")}
    assert kinds >= {
        "message", "attempt", "outcome", "evidence", "attested", "revoked", "consent", "hold", "released", "erasure",
        "paired", "anchored", "policy", "looked", "handed-out",
    }  # fmt: skip
    assert [table for table in DERIVED if not tampering.rows(original, table)] == []


@pytest.mark.parametrize("several_passes", [False, True])
def test_random_edits_of_every_table_and_column_are_found(
    original: sqlite3.Connection, long_run: bool, several_passes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if several_passes:
        monkeypatch.setattr(ledger_verify, "_FEW", 7)
        monkeypatch.setattr(ledger_verify, "_AT_ONCE", 3)
    chance = random.Random(several_passes)
    before = tampering.everything(original)
    full = [table for table in tampering.EVIDENCE if tampering.rows(original, table)]
    places = [(table, column) for table in full for column in tampering.columns(original, table)]
    tried = 0
    for turn in range(30 if long_run else 2):
        for table, column in places:
            work = chance.choice(("edit", "edit", "edit", "delete", "insert", "swap"))
            changed = tampering.copy_of(original)
            try:
                if work == "edit":
                    tampering.edit(changed, table, column, chance)
                else:
                    getattr(tampering, work)(changed, table, chance)
            except (sqlite3.IntegrityError, OverflowError, sqlite3.OperationalError):
                continue  # SQLite does not take that.
            if tampering.everything(changed) != before:
                tried += 1
                report = look(changed)
                assert not report.intact, (turn, work, table, column)
            changed.close()
    assert tried > 60 * (20 if long_run else 1)


def touch(db: sqlite3.Connection, work: str, number: int) -> str:
    """Do something to one entry; returns how it should be called."""
    cell = "(SELECT min(id) FROM cells WHERE entry = ?)"
    if work == "form":
        db.execute("UPDATE entries SET body = body || ' ' WHERE id = ?", (number,))
    elif work == "content":
        body = json.loads(db.execute("SELECT body FROM entries WHERE id = ?", (number,)).fetchone()[0])
        body["at"] = at_text(at_value(body["at"]) + 1)
        db.execute("UPDATE entries SET body = ? WHERE id = ?", (canonical(body), number))
    elif work == "message":
        db.execute("UPDATE entries SET message = coalesce(message, 0) + 1 WHERE id = ?", (number,))
    elif work == "swap":
        (one,), (other,) = db.execute("SELECT body FROM entries WHERE id IN (?, ?)", (number, number + 1)).fetchall()
        db.execute("UPDATE entries SET body = ? WHERE id = ?", (other, number))
        db.execute("UPDATE entries SET body = ? WHERE id = ?", (one, number + 1))
        return "reordered"
    elif work == "later":
        db.execute("INSERT INTO entries SELECT ?, message, body FROM entries WHERE id = 3", (number,))
        return "inserted"
    elif work == "cell":
        db.execute(f"UPDATE cells SET value = '\"x\"' WHERE id = {cell}", (number,))
    elif work == "blank":
        db.execute(f"DELETE FROM cells WHERE id = {cell}", (number,))
        return "blanked"
    else:
        db.execute("DELETE FROM cells WHERE entry = ?", (number,))
        db.execute("DELETE FROM entries WHERE id = ?", (number,))
        return "removed"
    return "changed"


def test_the_entry_that_was_touched_is_the_one_that_is_named(original: sqlite3.Connection, long_run: bool) -> None:
    chance = random.Random(5)
    last = original.execute("SELECT max(id) FROM entries").fetchone()[0]
    with_cells = original.execute("SELECT DISTINCT entry FROM cells").fetchall()
    for turn in range(600 if long_run else 80):
        work = ("form", "content", "message", "swap", "later", "cell", "blank", "delete")[turn % 8]
        number = chance.randrange(1, last)
        if work in ("cell", "blank"):
            (number,) = chance.choice(with_cells)
        elif work == "later":
            number = last + chance.randrange(1, 5)
        changed = tampering.copy_of(original)
        wanted = touch(changed, work, number)
        found = look(changed).findings[0]
        assert (found.entry, found.what) == (number, wanted), (work, found)
        changed.close()


def test_entries_that_move_up_or_make_room_are_found_where_it_begins(original: sqlite3.Connection) -> None:
    chance = random.Random(6)
    for _ in range(20):
        changed = tampering.copy_of(original)
        what = tampering.shift(changed, chance)
        texts = [
            [row[0] for row in each.execute("SELECT body FROM entries ORDER BY id")] for each in (original, changed)
        ]
        first = next(at for at, (one, other) in enumerate(zip(*texts, strict=False), 1) if one != other)
        found = look(changed).findings[0]
        assert (found.entry, found.what) == (first, what)
        changed.close()


def test_an_entry_whose_mark_was_changed_with_it_does_not_have_its_root(db: sqlite3.Connection) -> None:
    batch = db.execute("SELECT first, last, marks FROM batches WHERE id = 5").fetchone()
    touch(db, "content", batch[0])
    (text,) = db.execute("SELECT body FROM entries WHERE id = ?", (batch[0],)).fetchone()
    db.execute("UPDATE batches SET marks = ? WHERE id = 5", (leaf(text.encode())[:MARK] + batch[2][MARK:],))
    assert look(db).findings[0].text == (
        f"one of the entries {batch[0]} to {batch[1]} was changed: batch 5 has another root"
    )


def test_an_entry_that_two_readers_could_read_differently_is_found_even_when_sealed(db: sqlite3.Connection) -> None:
    db.execute("UPDATE entries SET body = '{\"v\":2,' || substr(body, 2) WHERE id = 13")
    tampering.reseal(db)
    assert "entry 13 was changed: it is no entry in canonical form" in {found.text for found in look(db).findings}


def forged(db: sqlite3.Connection, ground: str, at: int, first: int, last: int) -> int:
    """Cells of these entries vanish, and an erasure that says so is put at the end, without its seal."""
    db.execute("DELETE FROM cells WHERE entry >= ? AND entry <= ?", (first, last))
    return tampering.append(db, "erasure", at, {"entries": [[first, last]], "ground": ground})


def test_a_forged_erasure_is_found_unless_it_is_written_like_one_of_a_person(original: sqlite3.Connection) -> None:
    for ground in ("retention", "request"):
        changed = tampering.copy_of(original)
        number = forged(changed, ground, now(), 5, 5)
        found = look(changed).findings
        assert (number, "inserted") in [(finding.entry, finding.what) for finding in found], ground
        tampering.reseal(changed)
        report = look(changed)
        if ground == "request":
            assert report.intact
            assert report.erasures[-1].entry == number
        else:
            assert report.findings[0].entry == 5
            assert "no retention is recorded for it" in report.findings[0].text
        changed.close()


@pytest.mark.parametrize(("after", "due"), [(4, False), (6, True)])
def test_what_was_erased_for_its_age_must_have_been_due(db: sqlite3.Connection, after: int, due: bool) -> None:
    query = "SELECT c.id, e.id, c.name FROM cells c JOIN entries e ON e.id = c.entry WHERE e.body LIKE '%\"retain_days\":5%'"
    (row, entry, name), *_ = [found for found in db.execute(query).fetchall() if found[2] == "to.11"]
    at = microseconds(NOON) + after * DAY
    db.execute("DELETE FROM cells WHERE id = ?", (row,))
    tampering.append(db, "erasure", at, {"entries": [entry], "names": [name], "ground": "retention"})
    tampering.reseal(db)
    # Later than whatever was written: the ledger was built today.
    texts = [found.text for found in verify(db, (), max(at, now())).findings if "dated" not in found.text]
    told = (
        f"the cell to.11 of entry {entry} was erased by entry 37, and it was not due before 2026-11-25T12:05:00.000000Z"
    )
    assert texts == ([] if due else [told])


def test_an_erasure_excuses_nothing_that_was_written_after_it(db: sqlite3.Connection) -> None:
    number = 1 + tampering.append(db, "erasure", now(), {"entries": [[1000, 2000]], "ground": "request"})
    body = {"at": at_text(now()), "cells": {"note": "x"}, "kind": "looked", "n": number, "v": 1, "what": "list"}
    db.execute("UPDATE entries SET body = replace(body, '1000', ?) WHERE id = ?", (str(number), number - 1))
    db.execute("INSERT INTO entries VALUES (?, NULL, ?)", (number, canonical(body)))
    tampering.reseal(db)
    assert [(found.entry, found.what) for found in look(db).findings] == [(number, "blanked")]


def test_the_date_of_an_erasure_cannot_be_made_to_fit(db: sqlite3.Connection) -> None:
    number = forged(db, "retention", now() + 5000 * DAY, 3, 3)
    tampering.reseal(db)
    report = look(db)
    assert any(finding.entry == number and "still to come" in finding.text for finding in report.findings)
    later = tampering.append(db, "hold", now(), {"messages": [1]})
    tampering.reseal(db)
    found = verify(db, (), now() + 6000 * DAY).findings
    assert any(f"later than entry {later}" in finding.text for finding in found)


def test_what_was_on_hold_and_is_gone_is_found_whatever_the_ground(db: sqlite3.Connection) -> None:
    entry = db.execute("SELECT max(id) FROM entries WHERE message = 1").fetchone()[0]
    forged(db, "request", now(), entry, entry)
    tampering.reseal(db)
    assert [(finding.entry, finding.what) for finding in look(db).findings] == [(entry, "erased")]
    assert "was on hold since entry" in look(db).findings[0].text


def test_an_erased_cell_that_comes_back_is_found(original: sqlite3.Connection, tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with store(path) as opened:
        with journal(opened) as writing:
            writing.begin(record(to(), key=b"1"))
        kept = opened.db.execute("SELECT id, name, salt, value FROM cells WHERE name = 'subject'").fetchone()
        with journal(opened) as writing:
            erase(writing, [1], ground="request", actor="root")
        assert look(opened.db).intact
        opened.db.execute("INSERT INTO cells VALUES (?,?,?,?)", kept)
        (found,) = look(opened.db).findings
        assert (found.entry, found.what) == (1, "restored")


def test_a_cut_tail_that_agrees_with_itself_needs_an_anchor(original: sqlite3.Connection) -> None:
    known = anchors(original)
    for keep in range(1, len(known)):
        changed = tampering.copy_of(original)
        end = known[keep - 1].last
        for sql in ("DELETE FROM entries WHERE id > ?", "DELETE FROM cells WHERE entry > ?"):
            changed.execute(sql, (end,))
        changed.execute("DELETE FROM batches WHERE id > ?", (keep,))
        tampering.reseal(changed)
        if keep < 11:  # Erasures that explain what is missing are cut off too.
            assert "blanked" in {finding.what for finding in look(changed).findings}
        found = look(changed, *known).findings
        assert (end + 1, "cut") in {(finding.entry, finding.what) for finding in found}
        assert {anchor.batch for anchor in look(changed, *known).holding} == set(range(1, keep + 1))
        changed.close()


def test_a_file_that_is_rewritten_to_agree_with_itself_needs_an_anchor(original: sqlite3.Connection) -> None:
    known = anchors(original)
    for at in range(1, known[-1].last + 1):
        changed = tampering.copy_of(original)
        (text,) = changed.execute("SELECT body FROM entries WHERE id = ?", (at,)).fetchone()
        body = json.loads(text)
        body["at"] = at_text(at_value(body["at"]) + 1)
        changed.execute("UPDATE entries SET body = ? WHERE id = ?", (canonical(body), at))
        tampering.reseal(changed)
        assert look(changed).intact
        report = look(changed, *known)
        assert {finding.what for finding in report.findings} == {"rewritten"}
        sound = max([anchor.last for anchor in report.holding], default=0)
        assert sound < at <= next(anchor.last for anchor in known if anchor.last > sound)
        assert report.findings[0].entry == sound + 1
        assert len(report.holding) + report.problems == len(known)
        changed.close()


def test_another_ledger_in_its_place_is_found(original: sqlite3.Connection, tmp_path: Path) -> None:
    tampering.build(tmp_path / "other.db")
    other = connect(tmp_path / "other.db", write=False)
    report = look(other, anchors(original)[3])
    assert "of another ledger" in report.findings[0].text
    assert report.problems == 1
    other.close()


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TRIGGER quiet AFTER INSERT ON entries BEGIN DELETE FROM cells; END",
        "CREATE TRIGGER sqlitequiet AFTER INSERT ON entries BEGIN DELETE FROM cells; END",
        "CREATE TRIGGER _sqlite_migrations AFTER INSERT ON entries BEGIN DELETE FROM cells; END",
        "CREATE VIEW peace AS SELECT 1",
        "CREATE VIEW sqlitepeace AS SELECT 1",
        "DROP TABLE entries",
        "DROP TABLE cells",
        "DROP TABLE batches",
        "DROP TABLE identity",
        "DROP INDEX entries_message",
        "ALTER TABLE recipients ADD COLUMN extra",
        "DROP TABLE recipients",
    ],
)
def test_things_put_into_the_schema_are_found(db: sqlite3.Connection, sql: str) -> None:
    db.execute(sql)
    assert "schema" in {finding.what for finding in look(db).findings}


@pytest.mark.parametrize("kind", ["TEXT", "REAL", "BLOB"])
@pytest.mark.parametrize("table", ["entries", "cells", "batches"])
def test_a_table_that_was_made_anew_with_numbers_that_are_none_is_found(
    db: sqlite3.Connection, table: str, kind: str
) -> None:
    names = ", ".join(tampering.columns(db, table)[1:])
    db.execute(f"CREATE TABLE anew AS SELECT CAST(id AS {kind}) AS id, {names} FROM {table}")
    db.execute(f"DROP TABLE {table}")
    db.execute(f"ALTER TABLE anew RENAME TO {table}")
    assert look(db).findings[0].what == "schema"


@pytest.mark.parametrize(
    ("index", "lie"), [("recipients_at", "id > 5"), ("entries_message", "message > 3"), ("acts_what", "what <> 'list'")]
)
def test_an_index_that_hides_rows_is_found(db: sqlite3.Connection, index: str, lie: str) -> None:
    """Made partial, with the statement of the whole one put in its place: lists ask it, and show what it has."""
    (honest,) = db.execute("SELECT sql FROM sqlite_master WHERE name = ?", (index,)).fetchone()
    db.execute(f"DROP INDEX {index}")
    db.execute(f"{honest.partition(' WHERE ')[0]} WHERE {lie}")
    db.execute("PRAGMA writable_schema = ON")
    db.execute("UPDATE sqlite_master SET sql = ? WHERE name = ?", (honest, index))
    lying = tampering.copy_of(db)  # which reads the schema anew
    report = look(lying)
    assert {finding.what for finding in report.findings} == {"index"}
    assert index in report.findings[0].text
    lying.close()


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("erasure", {"entries": [[]], "ground": "other"}),
        ("erasure", {"entries": "1", "ground": "other"}),
        ("hold", {"messages": [[]]}),
        ("anchored", {"batch": 1 << 70, "to": ["file"]}),
        ("looked", {"what": {}}),
    ],
)
def test_sealed_entries_that_make_no_sense_end_in_findings(
    db: sqlite3.Connection, kind: str, body: dict[str, Any]
) -> None:
    number = tampering.append(db, kind, now(), body)
    tampering.reseal(db, derive=False)
    assert look(db).findings[0].entry == number


@pytest.mark.parametrize(("kind", "change"), [("looked", {"retain_days": "7"}), ("message", {"message": [1]})])
def test_a_retention_that_is_none_ends_in_findings(db: sqlite3.Connection, kind: str, change: dict[str, Any]) -> None:
    query = "SELECT id, body FROM entries WHERE json_extract(body, '$.kind') = ? LIMIT 1"
    number, text = db.execute(query, (kind,)).fetchone()
    db.execute("UPDATE entries SET body = ? WHERE id = ?", (canonical({**json.loads(text), **change}), number))
    db.execute("DELETE FROM cells WHERE id >> 20 = ?", (number,))
    tampering.append(db, "erasure", now(), {"entries": [number], "ground": "retention"})
    tampering.reseal(db, derive=False)
    assert look(db).findings[0].entry == number


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE entries SET body = CAST(x'7bff7d' AS TEXT) WHERE id = 4",
        "UPDATE entries SET body = '[' || body || ']' WHERE id = 4",
        "UPDATE entries SET body = replace(hex(zeroblob(50000)), '00', '[') WHERE id = 4",
        "UPDATE entries SET body = replace(body, '\"n\":4', '\"n\":4e0') WHERE id = 4",
        "UPDATE cells SET value = CAST(value AS BLOB) WHERE entry = 4",
        "DELETE FROM batches",
        "DELETE FROM identity",
        "UPDATE batches SET last = 4611686018427387904 WHERE id = 2",
        "UPDATE batches SET first = -4611686018427387904 WHERE id = 2",
        "UPDATE batches SET id = -9223372036854775808 WHERE id = 2",
        "UPDATE batches SET id = 9223372036854775807 WHERE id = 2",
        "INSERT INTO batches SELECT -9223372036854775808, first, last, root, head, marks FROM batches WHERE id = 1",
        "UPDATE entries SET id = 9223372036854775807 WHERE id = 4",
        "UPDATE entries SET id = -9223372036854775808 WHERE id = 4",
        "UPDATE cells SET id = 9223372036854775807 WHERE id = (SELECT max(id) FROM cells)",
        "UPDATE cells SET id = -9223372036854775808 WHERE id = (SELECT max(id) FROM cells)",
        "UPDATE recipients SET address = CAST(x'ff' AS TEXT) WHERE id = 2",
        "DELETE FROM entries",
        "INSERT INTO cells SELECT id + (100 << 20), name, salt, value FROM cells LIMIT 1",
        "INSERT INTO cells SELECT 5, name, salt, value FROM cells LIMIT 1",
        "INSERT INTO cells SELECT -5, name, salt, value FROM cells LIMIT 1",
    ],
)
def test_hostile_rows_end_in_findings(db: sqlite3.Connection, sql: str) -> None:
    db.execute(sql)
    assert not look(db).intact


def test_verifying_works_beside_somebody_who_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_verify, "_FEW", 3)
    path = tmp_path / "ledger.db"
    tampering.build(path)
    stop = threading.Event()

    def write() -> None:
        number = 0
        with store(path) as opened:
            while not stop.is_set():
                number += 1
                with journal(opened) as writing:
                    writing.begin(record(to(), key=b"w%d" % number, message_id=f"w{number}@a", at=datetime.now(UTC)))
                    writing.begin(
                        record(
                            key=b"e%d" % number, evidence=(receipt(9, message_id=f"e{number}"),), at=datetime.now(UTC)
                        )
                    )
                with journal(opened) as writing:
                    erase(writing, [writing.database().execute("SELECT max(id) FROM entries").fetchone()[0]],
                                    ground="request", actor="root")  # fmt: skip

    thread = threading.Thread(target=write)
    thread.start()
    try:
        db = connect(path, write=False)
        reports = [look(db)]
        while thread.is_alive() and (len(reports) < 10 or reports[-1].entries < reports[0].entries + 200):
            reports.append(look(db))
        db.close()
    finally:
        stop.set()
        thread.join()
    assert [report.findings for report in reports if not report.intact] == []
    assert reports[-1].entries >= reports[0].entries + 200
