"""The milter when things fail: a tempfail or a clean stop, never mail that was accepted and not filtered.

What an MTA must never hear is that it may go on with a message that lacks its edits, or that the ledger must know of and
does not. Ledger and policy are taken away from a running milter and given back; it is stopped and killed under load.
"""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.milter_client import Gone, Mail, Result
from tests.milter_process import Milter
from tests.session_next_hop import DEADLINE
from tests.session_relay import KAIFU

ASK = """
version: 1
rules:
  - {name: partners are asked, when: {to: "@partner.example"}, then: {request: add}}
  - {name: rivals are not, when: {to: "@rival.example"}, then: {request: strip}}
"""
DNT = (b"Disposition-Notification-To", b"<alice@example.co.jp>")
RECEIPT = [
    (b"From", b"<bob@partner.example>"),
    (b"Content-Type", b"multipart/report; report-type=disposition-notification; boundary=b"),
]
RECEIPT_BODY = (
    b"--b\r\nContent-Type: message/disposition-notification\r\n\r\nFinal-Recipient: rfc822;bob@partner.example\r\n"
    b"Original-Message-ID: <1@example.co.jp>\r\nDisposition: manual-action/MDN-sent-manually; displayed\r\n\r\n--b--\r\n"
)


def mail(name: str, to: str = "bob@partner.example", *extra: tuple[bytes, bytes]) -> Mail:
    headers = [(b"From", b"<alice@example.co.jp>"), (b"Message-ID", f"<{name}@example.co.jp>".encode()), *extra]
    return Mail([b"<alice@example.co.jp>"], [[f"<{to}>".encode()]], headers, b"Hello.\r\n", name)


def deliver(milter: Milter, message: Mail) -> Result:
    with milter.connect() as mta:
        return mta.deliver(message)


def asked(result: Result) -> bool:
    return DNT in result.headers


# It refuses to start


def _changed(key: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(settings: dict[str, Any]) -> None:
        settings["milter"][key] = value

    return change


def _without_section(settings: dict[str, Any]) -> None:
    del settings["milter"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(_without_section, ["kaifu.yaml", "no milter: section"], id="no-section"),
        pytest.param(_changed("lisen", "x"), ["kaifu.yaml:", "lisen", "listen"], id="unknown-key"),
        pytest.param(_changed("listen", "unix:/no/such/place/s"), ["no directory /no/such/place"], id="no-directory"),
        pytest.param(_changed("listen", "unix:/etc/passwd"), ["/etc/passwd", "no socket"], id="a-file-is-there"),
        pytest.param(
            _changed("listen", "inet:8891@192.0.2.77"), ["192.0.2.77", "cannot be made"], id="not-our-address"
        ),
        pytest.param(_changed("socket_group", "nosuchgroup"), ["socket_group", "'nosuchgroup'"], id="no-group"),
    ],
)
def test_a_bad_configuration_is_refused_with_the_reason(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], words: list[str]
) -> None:
    milter = Milter(tmp_path, ASK)
    settings = yaml.safe_load(milter.config.read_text())
    change(settings)
    milter.config.write_text(yaml.safe_dump(settings))
    command = [str(KAIFU), "milter", "--config", str(milter.config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 2, done.stderr
    for word in words:
        assert word in done.stderr
    assert "Traceback" not in done.stderr
    assert not milter.socket.exists()
    milter.kill()


def test_a_broken_policy_is_refused_with_its_place(tmp_path: Path) -> None:
    milter = Milter(tmp_path, "version: 1\nrules: [{name: x, when: {dirction: outbound}, then: {}}]\n")
    milter.launch()
    assert milter.wait() == 2
    assert any("policy.yaml:2:" in line and "direction" in line for line in milter.log)
    milter.kill()


def test_a_second_milter_leaves_the_first_its_socket(tmp_path: Path) -> None:
    with Milter(tmp_path, ASK) as first:
        again = [str(KAIFU), "milter", "--config", str(first.config)]
        done = subprocess.run(again, capture_output=True, text=True, timeout=DEADLINE, check=False)
        assert (done.returncode, "another process serves this socket" in done.stderr) == (2, True), done.stderr
        assert asked(deliver(first, mail("1")))
        first.stop()


def test_the_socket_is_for_the_group_and_of_the_mode_of_the_settings(tmp_path: Path) -> None:
    with Milter(tmp_path, ASK, {"milter": {"socket_group": "daemon", "socket_mode": "0620"}}) as milter:
        status = milter.socket.stat()
        assert (milter.socket.group(), status.st_mode & 0o777) == ("daemon", 0o620)


# Its own life


def test_a_socket_that_a_killed_milter_left_behind_is_no_obstacle(tmp_path: Path) -> None:
    with Milter(tmp_path, ASK) as milter:
        os.kill(milter.pid, signal.SIGKILL)
        milter.wait()
        assert milter.socket.exists()
        milter.start()
        assert asked(deliver(milter, mail("1")))
        milter.stop()
        assert not milter.socket.exists()


@pytest.mark.parametrize("taken_over", [True, False])
def test_a_milter_whose_socket_is_gone_ends_so_that_it_is_started_again(tmp_path: Path, taken_over: bool) -> None:
    with Milter(tmp_path, ASK) as milter:
        begun = milter.connect()
        begun.begin(mail("begun"))
        milter.socket.unlink()
        if taken_over:
            milter.socket.touch()
        assert milter.wait() == 2
        assert begun.has_hung_up()
        assert milter.socket.exists() is taken_over
        assert any("somebody removed or replaced the socket" in line for line in milter.log)
        milter.no_traceback()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_when_it_is_told_to_with_open_connections(tmp_path: Path, number: signal.Signals) -> None:
    with Milter(tmp_path, ASK) as milter:
        open_ones = [milter.connect() for _ in range(5)]
        open_ones[0].begin(mail("begun"))
        milter.signal(number)
        assert milter.wait() == 0
        assert all(one.has_hung_up() for one in open_ones)
        milter.no_traceback()


def test_a_hangup_stops_nothing(tmp_path: Path) -> None:
    """Not even many at once, idle and busy."""
    with Milter(tmp_path, ASK) as milter:
        for _ in range(1000):
            milter.signal(signal.SIGHUP)
        with milter.connect() as mta:
            for _ in range(100):
                milter.signal(signal.SIGHUP)
                assert asked(mta.deliver(mail("1")))
        for _ in range(100):
            milter.signal(signal.SIGHUP)
            assert asked(deliver(milter, mail("1")))
        milter.stop()


def test_the_service_manager_hears_ready_alive_and_stopping(tmp_path: Path) -> None:
    milter = Milter(tmp_path, ASK)
    address = milter.place / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(address))
        told.settimeout(DEADLINE)
        milter.environment = {**os.environ, "NOTIFY_SOCKET": str(address), "WATCHDOG_USEC": "200000"}
        milter.start()
        assert [told.recv(100) for _ in range(4)] == [b"READY=1", *[b"WATCHDOG=1"] * 3]
        assert asked(deliver(milter, mail("1")))
        milter.stop()
        while told.recv(100) != b"STOPPING=1":
            pass
    milter.kill()


# The policy


def test_a_broken_policy_changes_nothing_but_the_log(tmp_path: Path) -> None:
    with Milter(tmp_path, ASK) as milter:
        milter.policy.write_text("version: 1\nrules: [{nam: x}]\n")
        milter.wait_for_log("policy-rejected…policy.yaml:2:")
        assert asked(deliver(milter, mail("1")))
        milter.policy.unlink()
        milter.wait_for_log("policy-rejected…cannot be read")
        assert asked(deliver(milter, mail("2")))
        milter.policy.write_text("version: 1\n")
        milter.wait_for_log("policy-loaded")
        assert not asked(deliver(milter, mail("3")))
        milter.stop()


def test_a_message_is_decided_by_the_policy_under_which_it_began(tmp_path: Path) -> None:
    with Milter(tmp_path, ASK) as milter, milter.connect() as mta:
        message = mail("1")
        mta.begin(message)
        mta.content(message)
        milter.policy.write_text("version: 1\n")
        milter.wait_for_log("policy-loaded")
        assert asked(mta.end(message, message.body))
        assert not asked(mta.deliver(mail("2")))


# The ledger


def _files(milter: Milter) -> list[Path]:
    return [file for file in milter.directory.glob("ledger.db*") if file.is_file()]


def _moved(milter: Milter, stack: list[Callable[[], object]]) -> None:
    away = milter.directory / "away"
    away.mkdir()
    for file in _files(milter):
        file.rename(away / file.name)

    def back() -> None:
        for file in _files(milter):
            file.unlink()
        for file in away.iterdir():
            file.rename(milter.directory / file.name)

    stack.append(back)


def _replaced(milter: Milter, stack: list[Callable[[], object]]) -> None:
    _moved(milter, stack)
    milter.ledger.mkdir()
    stack.append(milter.ledger.rmdir)


def _locked(milter: Milter, stack: list[Callable[[], object]]) -> None:
    holder = sqlite3.connect(milter.ledger, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    stack.append(holder.close)


@contextmanager
def without_ledger(milter: Milter, how: Callable[[Milter, list[Callable[[], object]]], None]) -> Iterator[None]:
    stack: list[Callable[[], object]] = []
    how(milter, stack)
    yield
    for undo in reversed(stack):
        undo()


@pytest.mark.parametrize("how", [_moved, _replaced, _locked])
def test_mail_that_needs_the_ledger_waits_and_other_mail_passes(
    tmp_path: Path, how: Callable[[Milter, list[Callable[[], object]]], None]
) -> None:
    with Milter(tmp_path, ASK) as milter:
        assert asked(deliver(milter, mail("before")))
        with without_ledger(milter, how):
            result = deliver(milter, mail("during"))
            assert (result.end, result.headers) == ("tempfail", mail("during").headers)
            assert result.reply == "451 4.3.0 The receipt ledger cannot be written now; try again later"
            assert deliver(milter, mail("other", "kurt@customer.example")).end == "accept"
            milter.wait_for_log("ledger-failed")
        assert asked(deliver(milter, mail("during")))
        milter.wait_for_log("ledger-works-again")
        milter.stop()
        assert [row["message_id"] for row in milter.rows()] == ["before@example.co.jp", "during@example.co.jp"]


def test_where_mail_must_pass_nothing_is_added_and_what_must_go_goes(tmp_path: Path) -> None:
    policy = ASK + "  - {name: reports, when: {kind: mdn}, then: {receipt: withhold}}\n"
    with Milter(tmp_path, policy, {"on_ledger_failure": "pass"}) as milter, without_ledger(milter, _moved):
        result = deliver(milter, mail("1"))
        assert (result.end, result.headers) == ("accept", mail("1").headers)
        result = deliver(milter, mail("2", "eve@rival.example", DNT))
        assert (result.end, result.headers) == ("accept", mail("2").headers)
        report = Mail([b"<>"], [[b"<alice@example.co.jp>"]], RECEIPT, RECEIPT_BODY)
        assert deliver(milter, report).end == "tempfail"
        milter.stop()


def test_a_full_disk_defers_and_room_lets_through(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can mount the small file system that this test fills")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "kaifu-test", disk], check=True)
    try:
        with Milter(tmp_path, ASK, {"ledger": f"sqlite:///{disk}/ledger.db"}) as milter:
            filler = disk / "filler"
            # To the last page, also when the milter takes some of it meanwhile.
            with filler.open("wb", buffering=0) as file, suppress(OSError):
                while file.write(bytes(4096)):
                    pass
            with milter.connect() as mta:
                results = [mta.deliver(mail(f"full{n}")) for n in range(200)]
            accepted = [result for result in results if result.end == "accept"]
            assert len(accepted) < 200
            assert all(asked(result) == (result.end == "accept") for result in results)
            filler.unlink()
            assert asked(deliver(milter, mail("room")))
            assert len(milter.rows()) == len(accepted) + 1
            milter.stop()
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


# Load


class Load:
    """Many MTAs that deliver one message after another until told to stop, or until the milter is gone for good."""

    def __init__(self, milter: Milter, connections: int) -> None:
        self.milter = milter
        self.accepted: list[str] = []
        self.wrong: list[str] = []
        self.others = 0
        self.over = threading.Event()
        self._changed = threading.Condition()
        self.threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(connections)]
        for thread in self.threads:
            thread.start()

    def _run(self, number: int) -> None:
        count = 0
        while not self.over.is_set():
            try:
                with self.milter.connect() as mta:
                    while not self.over.is_set():
                        count += 1
                        self._note(f"{number}.{count}", mta.deliver(mail(f"{number}.{count}")))
            except (Gone, OSError):
                self.others += 1
                self.over.wait(0.01)  # as an MTA does, not at once
            except AssertionError as error:
                self.wrong.append(str(error))

    def _note(self, name: str, result: Result) -> None:
        with self._changed:
            if result.end == "accept":
                self.accepted.append(name)
                if not asked(result):
                    self.wrong.append(f"{name} was accepted and not filtered")
            elif result.end == "tempfail":
                self.others += 1
            else:
                self.wrong.append(f"{name}: {result.end} {result.reply}")
            self._changed.notify_all()

    def wait(self, more: int) -> None:
        """Until so many more were accepted."""
        with self._changed:
            wanted = len(self.accepted) + more
            assert self._changed.wait_for(lambda: len(self.accepted) >= wanted, 2 * DEADLINE), (
                "no more mail is accepted"
            )

    def end(self) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join(DEADLINE)
        assert self.wrong == []

    def all_on_record(self) -> None:
        """Nothing was accepted that the ledger does not have as asked."""
        with closing(sqlite3.connect(self.milter.ledger)) as db:
            known = (
                "SELECT m.message_id FROM messages m JOIN recipients r ON r.message = m.id WHERE r.request = 'added'"
            )
            recorded = {message_id for (message_id,) in db.execute(known)}
        assert {f"{name}@example.co.jp" for name in self.accepted} <= recorded


def test_200_connections_at_once_are_served(tmp_path: Path) -> None:
    with Milter(tmp_path, ASK) as milter:
        load = Load(milter, 200)
        load.wait(1000)
        load.end()
        assert load.others == 0
        load.all_on_record()
        milter.stop()


def test_it_stops_under_load_and_nothing_passes_unfiltered(tmp_path: Path, long_run: bool) -> None:
    with Milter(tmp_path, ASK) as milter:
        load = Load(milter, 20)
        for _ in range(30 if long_run else 4):
            load.wait(100)
            milter.signal(signal.SIGTERM)
            assert milter.wait() == 0
            milter.no_traceback()
            milter.start()
        load.wait(50)
        load.end()
        load.all_on_record()
        milter.stop()


def test_it_is_killed_under_load_and_nothing_passes_unfiltered(tmp_path: Path, long_run: bool) -> None:
    with Milter(tmp_path, ASK) as milter:
        load = Load(milter, 20)
        for number in range(30 if long_run else 4):
            load.wait(50 + number)
            milter.signal(signal.SIGKILL)
            milter.wait()
            milter.start()
        load.wait(50)
        load.end()
        load.all_on_record()
        milter.stop()


def test_policies_change_and_hangups_come_while_mail_flows(tmp_path: Path) -> None:
    """Every message is decided by one policy or the other, and none is refused."""
    with Milter(tmp_path, ASK) as milter:
        load = Load(milter, 10)
        for number in range(10):
            load.wait(20)
            before = len(milter.log)
            milter.policy.write_text(ASK + f"# {number}\n" + "x" * (number % 2))
            milter.signal(signal.SIGHUP)
            milter.wait_for_log("policy-rejected" if number % 2 else "policy-loaded", before)
        load.wait(20)
        load.end()
        assert load.others == 0
        load.all_on_record()
        milter.stop()


def test_memory_stays_where_it_was_over_thousands_of_messages_and_connections(tmp_path: Path) -> None:
    with Milter(tmp_path, ASK) as milter:
        load = Load(milter, 20)
        load.wait(1000)
        before = milter.peak_memory()
        load.wait(4000)
        load.end()
        for _ in range(300):
            with milter.connect() as mta:
                mta.begin(mail("left"))
        assert milter.peak_memory() - before < 8 << 20
        milter.stop()
