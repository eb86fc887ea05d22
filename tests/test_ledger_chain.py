"""How a few entries are sealed: each is recomputed up to the newest head, and whatever is changed below that is found."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.ledger_values import SUZUKI, journal, receipt, record, store, to

from kaifu.proxy.ledger import LedgerError
from kaifu.proxy.ledger_chain import MOST_ENTRIES, Seals, chain_state, seals
from kaifu.proxy.ledger_erasure import erase
from kaifu.proxy.ledger_file import Store

BATCHES = 40


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """Two entries in each of many batches."""
    path = tmp_path / "ledger.db"
    with store(path) as opened:
        for number in range(BATCHES):
            with journal(opened) as adding:
                adding.begin(record(to(), to(SUZUKI), key=b"%d" % number, message_id=f"{number}@x"))
                adding.begin(record(key=b"r%d" % number, evidence=(receipt(2 * number + 1, message_id=f"r{number}"),)))
    return path


def read(path: Path, *numbers: int) -> Seals:
    with closing(Store(path, write=False)) as opened:
        return seals(opened.db, numbers)


def change(path: Path, statement: str, *values: object) -> None:
    with store(path) as opened:
        assert opened.db.execute(statement, values).rowcount
        opened.db.commit()


def test_entries_stand_in_their_batches_in_order(ledger: Path) -> None:
    found = read(ledger, 80, 1, 2, 41, 1)
    assert [(one.entry, one.kind, one.batch) for one in found.entries] == [
        (1, "message", 1), (2, "evidence", 1), (41, "message", 21), (80, "evidence", 40),
    ]  # fmt: skip
    assert (found.newest.id, found.newest.last) == (BATCHES, 2 * BATCHES)
    assert all(one.wrong is None and one.missing == () for one in found.entries)


def test_anchors_are_told_with_the_entry_that_they_reach_to(ledger: Path) -> None:
    with store(ledger) as opened, journal(opened) as adding:
        adding.act("anchored", {"batch": 7, "to": ["file"]}, {"actor": "root"})
    (anchor,) = read(ledger, 1).anchors
    assert (anchor.place, anchor.batch, anchor.last) == ("file", 7, 14)


def test_cells_that_were_erased_are_named_and_the_entry_still_holds(ledger: Path) -> None:
    with store(ledger) as opened, journal(opened) as adding:
        erase(adding, [1], ground="request", actor="root", cells=["subject"])
    (found,) = read(ledger, 1).entries
    assert (found.missing, found.wrong) == (("subject",), None)
    with closing(Store(ledger, write=False)) as opened:
        (erasure,) = chain_state(opened.db).erasures
    assert (erasure.entry, erasure.ground, erasure.entries) == (2 * BATCHES + 1, "request", 1)


def _tamperings() -> Iterator[tuple[str, str]]:
    yield (
        "UPDATE cells SET value = '\"x\"' WHERE id >> 20 = 9 AND name = 'subject'",
        "the cell subject of entry 9 was changed",
    )
    yield 'UPDATE entries SET body = replace(body, \'"kind":"message"\', \'"kind":"massage"\') WHERE id = 9', "batch 5"
    yield "UPDATE entries SET body = replace(body, 'displayed', 'deleted') WHERE id = 10", "batch 5"
    yield "UPDATE entries SET body = 'x' WHERE id = 9", "no entry in canonical form"
    yield "DELETE FROM entries WHERE id = 10", "batch 5 are not those that were sealed"
    yield "UPDATE batches SET root = zeroblob(32) WHERE id = 5", "batch 5 are not those that were sealed"
    yield "UPDATE batches SET head = zeroblob(32) WHERE id = 5", "broken at batch 6"
    yield "UPDATE batches SET head = zeroblob(32) WHERE id = 4", "broken at batch"
    yield "UPDATE batches SET last = last - 1 WHERE id = 5", "are not those that were sealed"
    yield "UPDATE batches SET head = zeroblob(32) WHERE id = 40", "broken at batch"


@pytest.mark.parametrize(("statement", "sentence"), [*_tamperings()])
def test_what_was_changed_is_told(ledger: Path, statement: str, sentence: str) -> None:
    change(ledger, statement)
    (found,) = read(ledger, 9).entries
    assert found.wrong is not None
    assert sentence in found.wrong


def test_entries_and_batches_that_are_missing_are_said_to_be(ledger: Path) -> None:
    with pytest.raises(LedgerError, match="no sealed entry 81"):
        read(ledger, 81)
    change(ledger, "DELETE FROM batches WHERE id = 3")
    with pytest.raises(LedgerError):
        read(ledger, 5)


def test_one_question_is_about_so_many_entries_at_most(ledger: Path) -> None:
    with store(ledger) as opened, journal(opened) as adding:
        for number in range(MOST_ENTRIES):
            adding.begin(record(key=b"m%d" % number, evidence=(receipt(1, message_id=f"m{number}"),)))
    assert len(read(ledger, *range(1, 2 * BATCHES + MOST_ENTRIES)).entries) == MOST_ENTRIES


def test_an_empty_ledger_has_a_chain_without_batches(tmp_path: Path) -> None:
    with store(tmp_path / "ledger.db") as opened:
        found = chain_state(opened.db)
    assert (found.newest, found.erasures, len(found.ledger)) == (None, (), 16)


def test_a_body_says_what_it_is(ledger: Path) -> None:
    with store(ledger) as opened:
        (text,) = opened.db.execute("SELECT body FROM entries WHERE id = 1").fetchone()
    (found,) = read(ledger, 1).entries
    assert json.loads(text)["kind"] == found.kind
