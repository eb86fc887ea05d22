"""The desk and its file: let go of and opened anew, replaced behind its back, and questions that are given up."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from tests.ledger_values import SUZUKI, bodies, journal, record, store, to

from kaifu.proxy.access import Access, Caller, Role
from kaifu.proxy.ledger import LedgerError
from kaifu.proxy.ledger_desk import Desk, Filter, GivenUpError
from kaifu.proxy.ledger_erasure import erase


def made(path: Path, messages: int = 2) -> Path:
    """A ledger with some messages."""
    with store(path) as opened, journal(opened) as adding:
        for number in range(messages):
            adding.begin(record(to(), to(SUZUKI), key=b"%d" % number, message_id=f"{number}@example.co.jp"))
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return made(tmp_path / "ledger.db")


def desk(path: Path) -> Desk:
    return Desk(path, Access(Caller(4711, "alice"), Role.ADMIN))


def looks(path: Path) -> int:
    return sum(json.loads(body)["kind"] == "looked" for body in bodies(path))


def remove(path: Path) -> None:
    for end in ("", "-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)


def is_read_by_nobody(path: Path) -> bool:
    """SQLite can empty its log only when no transaction reads from it."""
    with closing(sqlite3.connect(path)) as db:
        made(path, 1)
        db.execute("PRAGMA busy_timeout = 0")
        return bool(db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0)


def test_a_desk_that_let_go_of_its_file_opens_it_again_and_records_anew(path: Path) -> None:
    with desk(path) as at:
        assert len(at.page(Filter())) == 4
        at.close_file()
        at.close_file()
        assert len(at.page(Filter())) == 4
        assert looks(path) == 2


def test_a_replaced_ledger_fails_the_question_and_answers_the_next_with_a_look_of_its_own(path: Path) -> None:
    with desk(path) as at:
        assert len(at.page(Filter())) == 4
        remove(path)
        made(path, 3)
        with pytest.raises(LedgerError, match="moved, deleted or replaced"):
            at.page(Filter())
        assert len(at.page(Filter())) == 6
        assert looks(path) == 1


def test_a_ledger_that_is_gone_comes_back(path: Path) -> None:
    aside = path.with_name("aside")
    with desk(path) as at:
        at.figures()
        path.rename(aside)
        with pytest.raises(LedgerError, match="moved, deleted or replaced"):
            at.figures()
        for _ in range(2):
            with pytest.raises(LedgerError, match="there is no ledger at"):
                at.figures()
        aside.rename(path)
        assert at.figures()["recipients"] == 4


@pytest.mark.parametrize("within", ["BEGIN", "SELECT 1"], ids=["in a transaction", "in none"])
def test_a_question_without_end_is_given_up_from_another_thread(
    path: Path, monkeypatch: pytest.MonkeyPatch, within: str
) -> None:
    """In the midst of two statements; afterwards nothing of it is left."""
    begun = threading.Event()

    def endless(db: sqlite3.Connection, *_: object, **__: object) -> list[object]:
        db.execute(within)
        try:
            recipients = db.execute("SELECT id FROM recipients")
            for _ in recipients:
                begun.set()
                db.execute("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n")
            return []
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")

    with desk(path) as at:
        at.page(Filter())
        before = looks(path)
        failed: list[LedgerError] = []

        def ask() -> None:
            try:
                at.page(Filter())
            except LedgerError as error:
                failed.append(error)

        with monkeypatch.context() as patched:
            patched.setattr("kaifu.proxy.ledger_desk_read.page", endless)
            asking = threading.Thread(target=ask)
            asking.start()
            assert begun.wait(60)
            at.interrupt()
            asking.join(60)
        assert [type(error) for error in failed] == [GivenUpError]
        assert is_read_by_nobody(path)
        assert len(at.page(Filter())) == 4
        assert looks(path) == before, "what is on record stays so"


def test_to_give_up_when_nothing_is_asked_does_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kaifu.proxy.ledger_desk_core._STEPS", 1)
    with desk(path) as at:
        at.interrupt()
        at.page(Filter())
        at.interrupt()
        assert len(at.page(Filter())) == 4
        at.close_file()
        at.interrupt()
        assert len(at.page(Filter())) == 4


def test_nothing_is_read_between_questions(path: Path) -> None:
    with desk(path) as at:
        at.version()
        at.tallies(0, 2**62)
        at.attention(0)
        at.rule_hits(0)
        at.oldest()
        at.page(Filter(), limit=1)
        at.policy_versions()
        assert is_read_by_nobody(path)


def chain(at: Desk) -> object:
    return at.chain()


def attention(at: Desk) -> object:
    return at.attention(0)


def a_list(at: Desk) -> object:
    return list(at.rows(Filter()))


@pytest.mark.parametrize("ask", [chain, attention, a_list])
@pytest.mark.parametrize(
    "alter",
    [
        "UPDATE entries SET body = 'secret'",
        "UPDATE entries SET body = '{}'",
        "UPDATE entries SET body = '[]'",
        "UPDATE cells SET value = 'secret'",
        "UPDATE messages SET subject = CAST(x'736563726574ff' AS TEXT)",
        "DELETE FROM head",
        "DELETE FROM identity",
        "ALTER TABLE recipients RENAME TO others",
    ],
)
def test_a_ledger_that_was_altered_is_no_error_of_ours_and_can_be_verified(
    path: Path, ask: Callable[[Desk], object], alter: str
) -> None:
    with store(path) as opened, journal(opened) as adding:
        erase(adding, [2], ground="request", actor="root")
    with closing(sqlite3.connect(path)) as db:
        db.execute(alter)
        db.commit()
    with desk(path) as at:
        told = ""
        try:
            ask(at)
        except LedgerError as error:
            told = str(error)
        assert "secret" not in told
        assert at.verify([], 0).problems


def test_what_makes_no_sense_is_told_in_a_sentence_that_says_what_to_do(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE entries SET body = '{}'")
        db.commit()
    with desk(path) as at, pytest.raises(LedgerError, match="kaifu ledger verify shows whether it was altered"):
        at.attention(0)


def test_a_desk_that_is_left_open_for_days_puts_each_day_s_looks_on_record(path: Path) -> None:
    with desk(path) as at:
        for _ in range(3):
            at.page(Filter())
            at.details("1")
        assert looks(path) == 2
        at._recorded_from -= 86_401
        for _ in range(3):
            at.page(Filter())
        assert looks(path) == 3
        at.details("1")
        assert looks(path) == 4
