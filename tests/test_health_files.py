"""Health in files: what is left is what is read, and what others left there is not."""

from __future__ import annotations

import json
import os
import stat
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.ledger_values import journal, record, store, to

from kaifu.proxy.access import Access, Caller, Role
from kaifu.proxy.health import (
    STALE_MICROSECONDS,
    VERIFIED,
    Failing,
    Health,
    NextHopHealth,
    PolicyHealth,
    Rejected,
    UsedAnchor,
    Verified,
    of_settings,
    read_health,
    read_verified,
    write_health,
    write_verified,
)
from kaifu.proxy.healthfile import MOST_OCTETS, directory_of, remove_files, write_file
from kaifu.proxy.healthkeeper import HealthKeeper
from kaifu.proxy.ledger_anchor import Anchor
from kaifu.proxy.ledger_check import Finding
from kaifu.proxy.ledger_desk import Desk
from kaifu.proxy.ledger_verify import Report

NOW = 1_800_000_000_000_000
TIMES = st.integers(0, 4_000_000_000_000_000)
TEXT = st.text(max_size=20)
POLICY = PolicyHealth("/etc/kaifu/policy.yaml", "d1", "enforce", NOW)
RELAY = Health(
    "0.1.0", 4711, "relay", 1, "/etc/kaifu/kaifu.yaml", NOW, ("127.0.0.1:10025",), POLICY, NOW, counters={"messages": 3}
)


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """A file that stands for a ledger."""
    path = tmp_path / "ledger.db"
    path.touch(mode=0o600)
    return path


HEALTHS = st.builds(
    Health,
    TEXT,
    st.integers(1),
    st.sampled_from(["relay", "milter"]),
    st.integers(1, 99),
    TEXT,
    TIMES,
    st.lists(TEXT, max_size=2).map(tuple),
    st.builds(
        PolicyHealth,
        TEXT,
        TEXT,
        TEXT,
        TIMES,
        st.none() | st.builds(Rejected, TIMES, st.lists(TEXT, max_size=2).map(tuple)),
    ),
    st.just(NOW),
    st.booleans(),
    st.none() | st.builds(Failing, TIMES, TIMES, TEXT),
    st.none()
    | st.builds(NextHopHealth, TEXT, st.none() | st.booleans(), st.none() | TIMES, st.none() | TEXT, st.none() | TIMES),
    st.none() | st.dictionaries(TEXT, st.integers(0), max_size=3),
)


@given(HEALTHS)
def test_what_is_left_is_what_is_read(tmp_path_factory: pytest.TempPathFactory, health: Health) -> None:
    ledger = tmp_path_factory.mktemp("health") / "ledger.db"
    write_health(ledger, health)
    assert read_health(ledger, NOW) == (health,)


def test_processes_come_in_order_and_a_second_word_takes_the_place_of_the_first(ledger: Path) -> None:
    milter = replace(RELAY, host="milter")
    second = replace(RELAY, worker=2, pid=4712)
    for health in (second, milter, RELAY, replace(RELAY, at=NOW + 1)):
        write_health(ledger, health)
    assert read_health(ledger, NOW) == (replace(RELAY, at=NOW + 1), second, milter)


def test_who_is_silent_for_longer_than_there_should_be_is_stale_unless_it_has_stopped(ledger: Path) -> None:
    write_health(ledger, RELAY)
    write_health(ledger, replace(RELAY, worker=2, stopped=True))

    def stale(now: int) -> list[bool]:
        return [health.stale for health in read_health(ledger, now)]

    assert stale(NOW + STALE_MICROSECONDS) == [False, False]
    assert stale(NOW + STALE_MICROSECONDS + 1) == [True, False]
    assert stale(NOW - STALE_MICROSECONDS - 1) == [True, False], "the clock was set back since"


def test_nobody_but_the_owner_reads_what_is_left(ledger: Path) -> None:
    before = os.umask(0)
    try:
        write_health(ledger, RELAY)
    finally:
        os.umask(before)
    place = directory_of(ledger)
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert [stat.S_IMODE(file.stat().st_mode) for file in place.iterdir()] == [0o600]
    place.chmod(0o755)
    write_health(ledger, RELAY)
    assert stat.S_IMODE(place.stat().st_mode) == 0o700


def test_what_is_there_may_be_deleted_at_any_time(ledger: Path) -> None:
    assert (read_health(ledger, NOW), read_verified(ledger)) == ((), None)
    write_health(ledger, RELAY)
    (directory_of(ledger) / RELAY.name).unlink()
    directory_of(ledger).rmdir()
    write_health(ledger, RELAY)
    assert read_health(ledger, NOW) == (RELAY,)
    ledger.unlink()
    assert read_health(ledger, NOW) == (RELAY,)


def test_the_health_of_workers_that_there_are_no_more_goes_and_that_of_others_stays(ledger: Path) -> None:
    elsewhere = replace(RELAY, settings="/etc/kaifu/other.yaml")
    for health in (RELAY, replace(RELAY, worker=2), elsewhere, replace(RELAY, host="milter")):
        write_health(ledger, health)
    remove_files(ledger, of_settings("relay", RELAY.settings))
    assert read_health(ledger, NOW) == (elsewhere, replace(RELAY, host="milter"))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-20])


def another(key: str, value: object) -> Callable[[Path], None]:
    """Something that is of another type than it should be."""

    def spoil(file: Path) -> None:
        given = json.loads(file.read_bytes())
        given[key] = value
        file.write_text(json.dumps(given))

    return spoil


def link(file: Path) -> None:
    elsewhere = file.parent.parent / "elsewhere.json"
    file.rename(elsewhere)
    file.symlink_to(elsewhere)


def pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file, 0o600)


def directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


def directory_link(file: Path) -> None:
    elsewhere = file.parent.parent / "elsewhere"
    file.parent.rename(elsewhere)
    file.parent.symlink_to(elsewhere)


SPOILED: dict[str, Callable[[Path], object]] = {
    "half a file": cut,
    "no file at all": lambda file: file.write_bytes(b""),
    "no JSON": lambda file: file.write_bytes(b"\xff\xfe\x00"),
    "JSON that is no object": lambda file: file.write_text("[1]"),
    "JSON without an end": lambda file: file.write_bytes(b"[" * MOST_OCTETS),
    "a huge file": lambda file: file.write_bytes(file.read_bytes() + b" " * MOST_OCTETS),
    "a text for a number": another("pid", "1"),
    "a truth for a number": another("worker", True),
    "a time that is none": another("at", "yesterday"),
    "a time without a zone": another("at", "2026-11-20T12:00:00"),
    "numbers for texts": another("listen", [1]),
    "nothing where a policy should be": another("policy", None),
    "another's name": lambda file: file.rename(file.with_name("relay-00000000-1.json")),
    "another name": lambda file: file.rename(file.with_name("health.json.part")),
    "a file that others can write": lambda file: file.chmod(0o660),
    "a symbolic link": link,
    "a pipe": pipe,
    "a directory": directory,
    "a directory that others can write": lambda file: file.parent.chmod(0o777),
    "a directory that is a link": directory_link,
}


@pytest.mark.parametrize("what", SPOILED)
def test_what_is_no_health_is_passed_over(ledger: Path, what: str) -> None:
    write_health(ledger, RELAY)
    assert read_health(ledger, NOW) == (RELAY,)
    SPOILED[what](directory_of(ledger) / RELAY.name)
    assert read_health(ledger, NOW) == ()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.just("2026-11-20T12:00:00.000000Z"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*Health.__slots__, "since"]), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*Health.__slots__, *Verified.__slots__]), JSON))
def test_whatever_is_there_reading_does_not_fail(
    tmp_path_factory: pytest.TempPathFactory, changed: dict[str, object]
) -> None:
    ledger = tmp_path_factory.mktemp("odd") / "ledger.db"
    write_health(ledger, RELAY)
    file = directory_of(ledger) / RELAY.name
    odd = json.dumps(json.loads(file.read_bytes()) | changed).encode()
    for name in (RELAY.name, VERIFIED):
        write_file(ledger, name, odd)
    read_health(ledger, NOW)
    read_verified(ledger)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("whose", ["file", "directory"])
def test_what_belongs_to_neither_the_ledger_s_owner_nor_root_is_passed_over(ledger: Path, whose: str) -> None:
    os.chown(ledger, 12345, 12345)
    write_health(ledger, RELAY)
    assert read_health(ledger, NOW) == (RELAY,), "what root writes belongs to the ledger's owner"
    place = directory_of(ledger)
    assert {path.stat().st_uid for path in (place, place / RELAY.name)} == {12345}
    os.chown(place if whose == "directory" else place / RELAY.name, 54321, 54321)
    assert read_health(ledger, NOW) == ()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_a_directory_of_root_s_that_was_moved_there_is_not_given_away(ledger: Path) -> None:
    os.chown(ledger, 12345, 12345)
    place = directory_of(ledger)
    place.mkdir()
    (place / "roots").write_text("precious")
    with pytest.raises(PermissionError, match="somebody else"):
        write_health(ledger, RELAY)
    assert place.stat().st_uid == 0
    (place / "roots").unlink()
    write_health(ledger, RELAY)
    assert read_health(ledger, NOW) == (RELAY,), "whoever was killed after making it may have left it"


def test_those_who_write_at_once_leave_a_whole_file_each_time(ledger: Path) -> None:
    wrong: list[object] = []
    long = replace(RELAY, listen=("x" * 100_000,))

    def write() -> None:
        try:
            for _ in range(100):
                write_health(ledger, long)
                if read_health(ledger, NOW) != (long,):
                    wrong.append("half a file")
        except Exception as error:  # noqa: BLE001 - a thread's error is to be seen
            wrong.append(error)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_place_that_somebody_prepared_is_not_written_to(ledger: Path, tmp_path: Path) -> None:
    directory_of(ledger).symlink_to(tmp_path)
    with pytest.raises(OSError, match=r"Not a directory|symbolic"):
        write_health(ledger, RELAY)
    directory_of(ledger).unlink()
    write_health(ledger, RELAY)
    theirs = tmp_path / "theirs"
    theirs.write_text("precious")
    for name in (RELAY.name, f".{RELAY.name}.part"):
        (directory_of(ledger) / name).unlink(missing_ok=True)
        (directory_of(ledger) / name).hardlink_to(theirs)
    write_health(ledger, RELAY)
    assert theirs.read_text() == "precious"
    assert read_health(ledger, NOW) == (RELAY,)


FINDING = Finding(7, "changed", "entry 7 was changed")
ANCHORS = (Anchor(b"\1" * 16, 1, 5, b"\2" * 32, "2026-11-20T12:00:00Z"), Anchor(b"\1" * 16, 2, 9, b"\3" * 32, "then"))


def test_a_verification_is_told_with_the_anchors_that_were_used(ledger: Path) -> None:
    report = Report("00ff", 9, 2, 30, 0, 1, (FINDING,), ANCHORS[:1], (), "abcd")
    write_verified(ledger, report, ANCHORS, "alice", NOW)
    assert read_verified(ledger) == Verified(
        at=NOW,
        by="alice",
        ledger="00ff",
        entries=9,
        batches=2,
        head="abcd",
        whole=False,
        problems=1,
        findings=("entry 7 was changed",),
        anchors=(UsedAnchor(1, 5, "2026-11-20T12:00:00Z", True), UsedAnchor(2, 9, "then", False)),
    )
    assert read_health(ledger, NOW) == ()
    write_file(ledger, VERIFIED, b"{}")
    assert read_verified(ledger) is None


def test_a_verification_that_cannot_be_told_fails_nobody(ledger: Path) -> None:
    directory_of(ledger).write_text("no directory")
    write_verified(ledger, Report("", 0, 0, 0, 0, 0, (), (), ()), (), "alice", NOW)
    assert read_verified(ledger) is None


def test_the_head_of_a_verification_is_that_of_the_anchor(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with store(path) as opened, journal(opened) as adding:
        adding.begin(record(to(), key=b"1"))
    with Desk(path, Access(Caller(0, "root"), Role.ADMIN)) as at:
        anchor = at.anchor(record().at)
        assert anchor is not None
        assert at.verify([], NOW).head == anchor.head.hex()


class Log(list[dict[str, object]]):
    """What was logged."""

    def __call__(self, event: str, **fields: object) -> None:
        self.append({"event": event, **fields})


def test_what_cannot_be_left_is_logged_once_and_whoever_keeps_it_goes_on(ledger: Path) -> None:
    log, looks = Log(), iter(range(10))
    directory_of(ledger).write_text("no directory")
    keeper = HealthKeeper(ledger, lambda: replace(RELAY, pid=next(looks)), log)
    for _ in range(3):
        keeper._turn(stopped=False)
    assert [one["event"] for one in log] == ["health-not-written"]
    directory_of(ledger).unlink()
    keeper._turn(stopped=False)
    assert [health.pid for health in read_health(ledger, NOW)] == [3]
    with keeper:
        pass
    assert [health.stopped for health in read_health(ledger, NOW)] == [True]
    assert len(log) == 1
