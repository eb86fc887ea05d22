"""The tree, the chain and proofs: a proof holds for what was sealed, and for nothing else."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.ledger_values import bodies, journal, receipt, record, store, to

from kaifu.proxy.bundle_verifier import Anchor, Proof, ProofError, written
from kaifu.proxy.ledger import LedgerError
from kaifu.proxy.ledger_journal import Journal, now
from kaifu.proxy.ledger_proof import batch_at, ledger_id, newest_batch, proof_of
from kaifu.proxy.ledger_seal import (
    Tree,
    batch_of,
    genesis,
    head_of,
    leaf,
    path_of,
    proof,
    root_above,
    root_of,
    shown_batch,
    shown_entry,
    skip,
    way,
)
from kaifu.proxy.ledger_verify import verify

leaves = st.integers(1, 70).map(lambda size: [leaf(b"%d" % number) for number in range(size)])


def root_by_the_book(found: list[bytes]) -> bytes:
    """RFC 9162 2.1.1, word for word."""
    if len(found) == 1:
        return found[0]
    left = 1
    while left * 2 < len(found):
        left *= 2
    return hashlib.sha256(b"\1" + root_by_the_book(found[:left]) + root_by_the_book(found[left:])).digest()


@given(leaves)
def test_a_root_is_that_of_the_rfc_however_it_is_computed(found: list[bytes]) -> None:
    tree = Tree()
    for each in found:
        tree.add(each)
    assert root_of(found) == tree.root() == root_by_the_book(found)


@given(leaves, st.data())
def test_a_path_leads_from_its_leaf_to_the_root_and_from_no_other(found: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(found) - 1))
    path = path_of(found, index)
    assert root_above(found[index], index, len(found), path) == root_of(found)
    for other in range(len(found)):
        if other != index:
            try:
                assert root_above(found[index], other, len(found), path) != root_of(found)
            except ProofError:
                continue


def test_a_head_is_made_as_documented() -> None:
    start = hashlib.sha256(b"kaifu ledger 1\0" + b"0123456789abcdef").digest()
    assert genesis(b"0123456789abcdef") == start
    text = (
        b"kaifu batch 1\0" + bytes([0] * 7 + [2] + [0] * 7 + [5] + [0] * 6 + [1, 3]) + b"R" * 32 + b"P" * 32 + b"S" * 32
    )
    assert head_of(2, 5, 259, b"R" * 32, b"P" * 32, b"S" * 32) == hashlib.sha256(text).digest()


@given(st.integers(1, (1 << 63) - 1), st.data())
def test_the_way_down_is_short_and_each_step_is_in_the_head_above(start: int, data: st.DataObject) -> None:
    end = data.draw(st.integers(1, start))
    steps = list(way(start, end))
    assert steps[0] == start
    assert steps[-1] == end
    assert all(below in (above - 1, skip(above)) for above, below in itertools.pairwise(steps))
    assert len(steps) <= start.bit_length() ** 2


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger of forty batches, of one to fifteen entries."""
    path = tmp_path_factory.mktemp("sealed") / "ledger.db"
    with store(path) as opened:
        for turn in range(40):
            with journal(opened) as writing:
                for number in range(1 + turn * 7 % 13):
                    writing.begin(record(to(), key=b"%d.%d" % (turn, number)))
                writing.begin(record(key=b"r%d" % turn, evidence=(receipt(1, message_id=f"r{turn}"),)))
    return path


def proven(made: Any, ledger: bytes, batch: int, last: int, head: bytes) -> list[Any]:
    """The bodies of the entries that a proof proves when this anchor is given."""
    proof = Proof(written(made))
    anchor = Anchor(ledger, batch, last, head, "")
    if ledger != proof.ledger:
        raise ProofError("another ledger")
    under = proof.under(anchor)
    return [body for body, _ in proof.entries if body["n"] in under]


def test_every_entry_has_a_proof_from_every_later_batch_and_from_no_earlier_one(sealed: Path) -> None:
    with store(sealed) as opened:
        db = opened.db
        heads = db.execute("SELECT id, last, head FROM batches").fetchall()
        known = [json.loads(body) for body in bodies(sealed)]
        for entry in (1, 2, 3, 50, len(known) - 3, len(known)):
            its = batch_at(db, entry).id
            for batch, last, head in heads:
                if batch < its:
                    with pytest.raises(LedgerError, match=f"entry {entry} is of batch {its}, after batch {batch}"):
                        proof_of(db, {entry: None}, [batch])
                else:
                    made = json.loads(json.dumps(proof_of(db, {entry: None}, [batch])))
                    assert proven(made, ledger_id(db), batch, last, head) == [known[entry - 1]]


def test_a_proof_may_have_several_entries_and_anchors_and_each_anchor_proves_what_is_older(sealed: Path) -> None:
    with store(sealed) as opened:
        db = opened.db
        batches = db.execute("SELECT id, last, head FROM batches").fetchall()
        entries = {1: (), 40: None, batches[29][1]: ("raw",)}
        made = proof_of(db, entries, [40, 7, 30])
        for batch, last, head in batches:
            named = [body["n"] for body in proven(made, ledger_id(db), batch, last, head)]
            assert batch not in (7, 30, 40) or named == [entry for entry in entries if entry <= last]
            assert all(entry <= last for entry in named)


def test_what_was_undone_is_in_no_batch(tmp_path: Path) -> None:
    with store(tmp_path / "ledger.db") as opened:
        writing = Journal(opened.db)
        for number in range(6):
            writing.start()
            writing.begin(record(to(), key=b"%d" % number))
            writing.database()
            if number % 2:
                writing.commit()
            else:
                writing.rollback()
        report = verify(opened.db, (), now())
        assert (report.findings, report.entries, report.batches) == ((), 3, 3)


def changes(value: Any) -> Iterator[tuple[str, Any]]:
    """A JSON value changed in one place, in every way: taken out, put in, or altered; and where."""
    if isinstance(value, dict):
        yield "add", value | {"x": "y"}
        for key in value:
            yield f"-{key}", {other: value[other] for other in value if other != key}
            for where, changed in changes(value[key]):
                yield f"{key}{where}", value | {key: changed}
    elif isinstance(value, list):
        yield "[+]", [*value, *value[:1]] if value else ["00" * 32]
        for at in range(len(value)):
            yield f"[-{at}]", value[:at] + value[at + 1 :]
            if value[at] != value[at - 1]:
                swapped = list(value)
                swapped[at], swapped[at - 1] = swapped[at - 1], swapped[at]
                yield f"[swap {at}]", swapped
            for where, changed in changes(value[at]):
                yield f"[{at}]{where}", [*value[:at], changed, *value[at + 1 :]]
    elif isinstance(value, int):
        yield from (("+1", value + 1), ("-1", value - 1), ("none", None), ("text", str(value)))
    else:
        text = str(value)
        yield from (("end", text[:-1] + ("1" if text[-1:] == "0" else "0")), ("cut", text[:-1]), ("more", text + "0"))
        if text.upper() != text:
            yield "case", text.upper()


def test_a_proof_that_is_changed_in_any_place_does_not_hold(sealed: Path) -> None:
    with store(sealed) as opened:
        db = opened.db
        newest = newest_batch(db)
        assert newest is not None
        entry = db.execute(
            "SELECT min(e.id) FROM entries e JOIN cells c ON c.entry = e.id WHERE c.name = 'raw'"
        ).fetchone()[0]
        made = proof_of(db, {entry: ("report", "raw")}, [newest.id])
        before = copy.deepcopy(made)
        tried = 0
        for where, changed in changes(made):
            if where in ("entries[0]cells-report", "entries[0]cells-raw"):
                continue  # To show less is no change of what is shown.
            tried += 1
            with pytest.raises(ProofError):
                print(where, Proof(written(changed)))
        assert tried > 100
        assert [body["n"] for body, _ in Proof(written(made)).entries] == [entry]
        assert made == before


def test_a_proof_says_nothing_against_another_anchor(sealed: Path) -> None:
    with store(sealed) as opened:
        db = opened.db
        newest = newest_batch(db)
        assert newest is not None
        made = proof_of(db, {5: None})
        for ledger, batch, last, head in (
            (bytes(16), newest.id, newest.last, newest.head),
            (ledger_id(db), newest.id, newest.last - 1, newest.head),
            (ledger_id(db), newest.id, newest.last, bytes(32)),
            (ledger_id(db), newest.id, newest.last, newest.root),
        ):
            with pytest.raises(ProofError):
                proven(made, ledger, batch, last, head)
        assert proven(made, ledger_id(db), newest.id, newest.last, newest.head)
        assert not proven(made, ledger_id(db), newest.id + 1, newest.last, newest.head)


def test_an_entry_that_was_sealed_under_another_number_than_its_own_proves_nothing() -> None:
    ledger = bytes(16)
    for number, body in ((1, '{"n":1}'), (1, '{"n":2}')):
        batch = batch_of(1, 1, [leaf(body.encode())], genesis(ledger), genesis(ledger))
        shown = [shown_batch(batch, genesis(ledger), genesis(ledger))]
        made = proof(ledger, batch.head, [1], shown, [shown_entry(number, body, {}, 1, [])])
        if body == '{"n":1}':
            assert proven(made, ledger, 1, 1, batch.head) == [{"n": 1}]
        else:
            with pytest.raises(ProofError, match="says that it is number 2, not 1"):
                Proof(written(made))


def test_an_entry_is_proven_only_as_one_of_its_batch_and_by_a_list_of_siblings() -> None:
    ledger, body = bytes(16), '{"n":2}'
    batch = batch_of(1, 1, [leaf(body.encode())], genesis(ledger), genesis(ledger))
    made = proof(ledger, batch.head, [1], [shown_batch(batch, genesis(ledger), genesis(ledger))], [])
    for number, path, said in (
        (2, [], "entry 2 is not among those of its batch, 1 to 1"),
        (1, {}, "entry 1 has no path"),
    ):
        made["entries"] = [shown_entry(number, body, {}, 1, []) | {"path": path}]
        with pytest.raises(ProofError, match=said):
            Proof(written(made))


@pytest.mark.parametrize("hostile", [None, [], {}, {"version": 1}, 5, "x", [[[]]], {"version": True}])
def test_what_is_no_proof_is_refused_in_words(hostile: Any) -> None:
    with pytest.raises(ProofError):
        Proof(written(hostile))
    with pytest.raises(ProofError):
        Proof(b"\xff" + written(hostile))


def test_an_entry_that_is_not_there_has_no_proof(sealed: Path) -> None:
    with store(sealed) as opened:
        for entry in (0, -1, 100_000):
            with pytest.raises(LedgerError, match=f"no sealed entry {entry}"):
                proof_of(opened.db, {entry: None})
