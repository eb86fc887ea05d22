"""The index of subjects changes no answer: whatever subjects there are, however far it is filled, whatever was erased, damaged or restored."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.ledger_values import NOON, journal, record, store, to
from tests.test_ledger_walk import CONDITIONS, walked
from tests.varied_ledger import SUBJECTS, fill, fits, has, in_order

from kaifu.proxy import ledger_filter, ledger_subjects
from kaifu.proxy.ledger_candidates import Candidates
from kaifu.proxy.ledger_erasure import clear_log, erase
from kaifu.proxy.ledger_file import alone
from kaifu.proxy.ledger_filter import conditions
from kaifu.proxy.ledger_read import Filter, Order, page, walk
from kaifu.proxy.ledger_rebuild import rebuild
from kaifu.proxy.ledger_rows import Row
from kaifu.proxy.ledger_subjects import Filling, Subjects, search_path
from kaifu.proxy.ledger_walkers import What

LETTERS = st.text("契約書ー会開封ｶﾞガがＡaÀàe\u0301ßſﬁ👩‍⚖️🇯🇵 \u3000-No.5" + "\u0130İıΣσς\0", max_size=6)


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)) as db:
        yield db


def write(path: Path, subjects: Sequence[tuple[str | None, int]], start: int = 0) -> None:
    """Messages with these subjects, so many minutes after noon."""
    with store(path) as opened, journal(opened) as writing:
        for number, (subject, minutes) in enumerate(subjects, start):
            at = NOON + timedelta(minutes=minutes)
            writing.begin(record(to(), key=b"%d" % number, at=at, subject=subject))


def forget_subject(path: Path, messages: set[int]) -> None:
    """Erase the subjects of these messages, if they have one."""
    with store(path) as opened, journal(opened) as writing:
        for number in sorted(messages):
            query = "SELECT e.id FROM entries e JOIN messages m ON m.id = e.message WHERE m.id = ? AND m.subject IS NOT NULL"
            for (entry,) in opened.db.execute(query, (number,)).fetchall():
                erase(writing, [entry], ground="request", actor="root", cells=["subject"])


def filled(path: Path, size: int = 4, steps: int = 1000) -> Filling:
    """Fill the index, at most so many steps."""
    subjects, found = Subjects(path, size), Filling()
    with reading(path) as db:
        for _ in range(steps):
            found = subjects.fill(db)
            if found.is_done:
                break
    subjects.close()
    return found


def asked(path: Path, words: tuple[str, ...], *, newest_first: bool = True, limit: int = 5, size: int = 4) -> list[Row]:
    """The list of what has these words, by the index where there is one."""
    with reading(path) as db, closing(Subjects(path, size)) as subjects, pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger_filter, "SMALL", 0)
        return walked(db, Filter(subject=words), limit, 3, Order.TIME, newest_first, subjects)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("empty") / "ledger.db"
    write(path, [])
    return path


MESSAGES = st.lists(st.tuples(st.none() | LETTERS, st.sampled_from([0, 0, 1, 2, 3, 60, 10_000])), max_size=40)


@given(
    MESSAGES, st.lists(LETTERS, min_size=1, max_size=2).map(tuple), st.booleans(), st.integers(1, 7),
    st.integers(0, 12), st.integers(0, 40), st.sets(st.integers(1, 40)), st.booleans(),
)  # fmt: skip
@example([("契約書", 3), ("請求", 2), ("約", 1), (None, 0)] * 4, ("約",), True, 3, 9, 16, {1, 5}, False)
def test_with_the_index_and_without_the_same_rows_come_in_the_same_order(
    empty: Path, messages: list[tuple[str | None, int]], words: tuple[str, ...], newest_first: bool, limit: int,
    steps: int, before: int, gone: set[int], cleared: bool,
) -> None:  # fmt: skip
    path = empty.with_name("tried.db")
    for each in (path, search_path(path), path.with_name("tried.db-wal"), path.with_name("tried.db-shm")):
        each.unlink(missing_ok=True)
    shutil.copy(empty, path)
    write(path, messages[:before])
    filled(path, steps=steps)
    write(path, messages[before:], start=before)
    forget_subject(path, gone)
    if cleared:
        with store(path) as opened:
            assert clear_log(opened.db)
    without = [row for row in asked(path, (), newest_first=newest_first) if has(row.subject, words)]
    for _ in range(2):
        assert asked(path, words, newest_first=newest_first, limit=limit) == without
        assert filled(path).is_done
    assert not any(row.message in gone and row.subject is not None for row in without)


OTHERS = {name: given for name, given in CONDITIONS.items() if name != "subject"}


@given(
    st.fixed_dictionaries({"subject": CONDITIONS["subject"].filter(any)}, optional=OTHERS),
    st.sampled_from(Order), st.booleans(), st.integers(1, 9), st.sampled_from([0, 4, 10_000]),
)  # fmt: skip
def test_every_other_condition_and_order_holds_with_the_index_too(
    varied: sqlite3.Connection, given: dict[str, object], order: Order, newest_first: bool, limit: int, small: int
) -> None:
    wanted = Filter(**given)  # type: ignore[arg-type]
    everything = page(varied, Filter(), limit=-1)
    expected = in_order([row for row in everything if fits(row, wanted)], order)
    path = Path(varied.execute("PRAGMA database_list").fetchone()[2])
    with closing(Subjects(path)) as subjects, pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger_filter, "SMALL", small)
        found = walked(varied, wanted, limit, 3, order, newest_first, subjects)
    assert found == (expected if newest_first else expected[::-1])


@pytest.fixture(scope="module")
def varied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    path = tmp_path_factory.mktemp("varied") / "ledger.db"
    fill(path, seed=11)
    assert filled(path, size=8).filled > 90
    with reading(path) as db:
        yield db


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger of forty messages with subjects in turn."""
    made = tmp_path / "ledger.db"
    write(made, [(SUBJECTS[number % len(SUBJECTS)], number % 7) for number in range(40)])
    return made


def test_only_messages_that_may_fit_are_looked_at(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_filter, "SMALL", 0)
    filled(path)
    statements: list[str] = []
    with reading(path) as db, closing(Subjects(path)) as subjects:
        db.set_trace_callback(statements.append)
        assert walk(db, Filter(subject=("no such word",)), subjects=subjects).done
        assert walk(db, Filter(subject=("約書",)), subjects=subjects).rows
    assert not any("recipients_at" in each and each.startswith("SELECT r.at, r.id") for each in statements)


def test_the_file_is_its_owner_s_alone_and_another_s_is_not_touched(path: Path, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        if os.geteuid() == 0:
            os.chown(path, 1234, 1235)
        filled(path)
    finally:
        os.umask(before)
    status, ledger = search_path(path).stat(), path.stat()
    assert (status.st_mode & 0o777, status.st_uid, status.st_gid) == (0o600, ledger.st_uid, ledger.st_gid)
    expected = asked(path, ("約書",))
    search_path(path).unlink()
    other = tmp_path / "other"
    other.write_bytes(b"")
    search_path(path).symlink_to(other)
    assert "no file that the ledger's owner alone can read" in filled(path, steps=1).note
    assert asked(path, ("約書",)) == expected
    assert other.read_bytes() == b""
    search_path(path).unlink()
    search_path(path).write_bytes(b"")
    search_path(path).chmod(0o644)
    assert "alone can read" in filled(path, steps=1).note


def test_with_little_space_left_nothing_is_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_subjects, "_ROOM", 2**62)
    assert "little space" in filled(path, steps=1).note
    assert not search_path(path).exists()


def octets(path: Path) -> bytes:
    """All that the files of the index hold."""
    return b"".join(each.read_bytes() for each in path.parent.glob(path.name + "-search*"))


@pytest.mark.parametrize("by", ["the erasure", "the next filling"])
def test_what_was_erased_is_in_the_file_no_more_and_does_not_come_back(path: Path, by: str) -> None:
    write(path, [("鼈鼇", 5)] * 5 + [("契約鼈鼇", 5)] * 5, start=40)
    filled(path)
    assert "鼈鼇".encode() in octets(path)
    forget_subject(path, set(range(41, 51)))
    if by == "the erasure":
        with store(path) as opened:
            assert clear_log(opened.db)
        assert search_path(path).exists(), "the rest stays"
    else:
        filled(path, steps=1)
    assert "鼈鼇".encode() not in octets(path)
    write(path, [("more", 5)] * 8, start=60)
    assert filled(path).is_done
    assert "鼈鼇".encode() not in octets(path)
    assert asked(path, ("鼈",)) == []
    assert len(asked(path, ("more",))) == 8


def test_an_index_that_cannot_be_cleared_is_deleted_and_that_is_in_the_log(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    filled(path)
    forget_subject(path, {1})
    search_path(path).write_bytes(b"no database at all" * 100)
    with store(path) as opened:
        assert clear_log(opened.db)
    assert not search_path(path).exists()
    assert "cannot be cleared" in caplog.text


def test_an_index_that_can_be_neither_cleared_nor_deleted_is_not_passed_over(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    search_path(path).mkdir()
    with store(path) as opened:
        assert not clear_log(opened.db)
    assert "cannot be deleted" in caplog.text


def test_an_index_of_another_ledger_or_of_another_past_is_not_asked_and_is_begun_anew(
    path: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.db"
    with store(path) as opened:
        opened.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(path, other)
    write(path, [("契約", 9)] * 20, start=50)
    filled(path)
    write(other, [("更新", 9)] * 20, start=50)
    shutil.copy(search_path(path), search_path(other))
    assert [row.subject for row in asked(other, ("更新",))][:20] == ["更新"] * 20
    assert filled(other).filled == 60
    assert len(asked(other, ("更新",))) == len(asked(path, ("更新",))) + 20
    third = tmp_path / "third.db"
    write(third, [("更新", 0)] * 60)
    shutil.copy(search_path(path), search_path(third))
    assert len(asked(third, ("更新",))) == 60


def test_a_rebuild_deletes_it_before_it_is_done_and_until_then_nobody_begins_another(path: Path) -> None:
    filled(path)
    seen: list[tuple[bool, bool]] = []

    def see(statement: str) -> None:
        if statement == "COMMIT":
            handle = os.open(path.parent, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                seen.append((search_path(path).exists(), False))
            except BlockingIOError:
                seen.append((search_path(path).exists(), True))
            finally:
                os.close(handle)

    with store(path) as opened:
        opened.db.set_trace_callback(see)
        rebuild(opened.db)
    assert seen == [(False, True)]
    assert not search_path(path).exists()


def test_an_erasure_waits_for_who_is_making_the_index_of_what_he_read_before(path: Path) -> None:
    write(path, [("鼈鼇", 5)] * 8, start=40)
    filled(path)
    aside = path.with_name("aside")
    search_path(path).rename(aside)
    forget_subject(path, set(range(41, 49)))
    done: list[bool] = []
    with store(path) as opened:
        clearing = threading.Thread(target=lambda: done.append(clear_log(opened.db)))
        with alone(path.parent):
            clearing.start()
            clearing.join(0.2)  # Who would not wait for the lock is done by then; nothing else depends on it.
            aside.rename(search_path(path))
        clearing.join()
    assert done == [True]
    assert "鼈鼇".encode() not in octets(path)


@pytest.mark.parametrize(
    "false",
    ["size = 0", "size = 'x'", "size = 1 << 62", "filled = 'x'", "filled = -1", "filled = 1 << 40", "batch = 'x'"],
)
def test_an_index_that_says_of_itself_what_cannot_be_is_no_error_and_is_begun_anew(path: Path, false: str) -> None:
    expected = asked(path, ("約",))
    for first in (lambda: asked(path, ("約",)), lambda: filled(path, steps=1)):
        assert filled(path) == Filling(40, 40)
        with closing(sqlite3.connect(search_path(path))) as index:
            index.execute(f"UPDATE about SET {false}")
            index.commit()
        first()
        assert asked(path, ("約",)) == expected
        assert filled(path) == Filling(40, 40)


def damaged(whole: bytes, how: str) -> bytes:
    page_size = 4096
    if how == "empty":
        return b""
    if how == "text":
        return b"this is no database\n" * 1000
    if how == "short":
        return whole[: len(whole) // 2]
    if how == "header":
        return b"\0" * 100 + whole[100:]
    return whole[:page_size] + b"\xff" * (len(whole) - page_size)


@pytest.mark.parametrize("how", ["empty", "text", "short", "header", "pages"])
@pytest.mark.parametrize("first", ["who asks", "who fills"])
def test_a_damaged_file_is_no_error_and_is_begun_anew(
    path: Path, how: str, first: str, caplog: pytest.LogCaptureFixture
) -> None:
    expected = asked(path, ("約",))
    assert filled(path).filled == 40
    search_path(path).write_bytes(damaged(search_path(path).read_bytes(), how))
    if first == "who asks":
        assert asked(path, ("約",)) == expected
    for _ in range(2):
        filled(path)
        assert asked(path, ("約",)) == expected
    assert filled(path).filled == 40
    assert how == "empty" or "damaged" in caplog.text


_FILL = """
import sqlite3, sys
from pathlib import Path
from kaifu.proxy.ledger_subjects import Subjects
path = Path(sys.argv[1])
db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)
subjects = Subjects(path, 4)
while not subjects.fill(db).is_done:
    print("step", flush=True)
"""


def test_whoever_is_killed_while_filling_leaves_what_can_be_filled_further(path: Path) -> None:
    expected = asked(path, ("約",))
    for steps in (0, 1, 3):
        with subprocess.Popen([sys.executable, "-c", _FILL, str(path)], stdout=subprocess.PIPE) as filling:
            assert filling.stdout is not None
            for _ in range(steps):
                filling.stdout.readline()
            filling.send_signal(signal.SIGKILL)
        assert asked(path, ("約",)) == expected
    assert filled(path) == Filling(40, 40)
    assert asked(path, ("約",)) == expected


def test_several_who_fill_and_ask_at_once_do_not_disturb_each_other(path: Path) -> None:
    expected = asked(path, ("約",))
    wrong: list[object] = []

    def work() -> None:
        try:
            for _ in range(4):
                filled(path, steps=3)
                if asked(path, ("約",)) != expected:
                    wrong.append("another answer")
        except Exception as error:  # noqa: BLE001 - a thread's error is to be seen
            wrong.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert filled(path) == Filling(40, 40)
    with closing(sqlite3.connect(search_path(path))) as index:
        assert index.execute("SELECT count(*) FROM blocks").fetchone() == (10,)
        assert index.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_message_of_which_something_else_was_erased_is_still_found(path: Path) -> None:
    expected = [row.recipient for row in asked(path, ("約",))]
    filled(path)
    with store(path) as opened, journal(opened) as writing:
        (last,) = opened.db.execute("SELECT entry FROM head").fetchone()
        erase(writing, [(1, last)], ground="request", actor="root", cells=["ids"])
    with store(path) as opened:
        assert clear_log(opened.db)
    assert [row.recipient for row in asked(path, ("約",))] == expected


@pytest.mark.parametrize("newest_first", [True, False])
def test_of_messages_to_many_no_more_is_read_than_a_page_has(tmp_path: Path, newest_first: bool) -> None:
    path = tmp_path / "ledger.db"
    with store(path) as opened, journal(opened) as writing:
        people = [to(f"p{one}@partner.example") for one in range(20)]
        for number in range(160):
            at = NOON + timedelta(minutes=number // 3)
            writing.begin(record(*people, key=b"%d" % number, at=at, subject="契約書"))
    filled(path, size=161)
    with reading(path) as db, closing(Subjects(path)) as subjects, pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger_filter, "SMALL", 0)
        wanted, limit = Filter(subject=("約書",)), 50
        everything = page(db, Filter(), limit=-1, newest_first=newest_first)
        assert walked(db, wanted, limit, 3, Order.TIME, newest_first, subjects) == everything
        assert walked(db, wanted, 1500, 3, Order.TIME, newest_first, subjects) == everything
        with subjects.reading(db) as blocks:
            assert blocks is not None
            what = What(conditions(db, wanted))
            walker = Candidates(db, blocks, wanted.subject, what, newest_first, None)
            walker.step(limit, 512)
            assert walker.places == [row.place for row in everything[: limit + 1]]
