"""The relay when things fail: it refuses to start with the reason, or answers 4xx, says why in its log, and works again.

Ledger, temporary disk and policy are taken away from a running relay and given back. What a client must never hear in
between is 250 for mail that is not with the next hop and, where the ledger must know of it, in the ledger.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count, zip_longest
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tests.session_next_hop import NextHop, poll
from tests.session_relay import Relay, client, make_certificate, refused

ASK = """
version: 1
rules:
  - {name: partners are asked, when: {to: "@partner.example"}, then: {request: add}}
  - {name: rivals are not, when: {to: "@rival.example"}, then: {request: strip}}
"""
PLAIN = b"From: <alice@example.co.jp>\r\nMessage-ID: <%d@example.co.jp>\r\n\r\nx\r\n"
DNT = b"Disposition-Notification-To: <alice@example.co.jp>\r\n"
RECEIPT = (
    b"From: <bob@partner.example>\r\nContent-Type: multipart/report; report-type=disposition-notification; boundary=b\r\n\r\n"
    b"--b\r\nContent-Type: message/disposition-notification\r\n\r\nFinal-Recipient: rfc822;bob@partner.example\r\n"
    b"Original-Message-ID: <1@example.co.jp>\r\nDisposition: manual-action/MDN-sent-manually; displayed\r\n\r\n--b--\r\n"
)
CUSTOMER = ["kurt@customer.example"]


@pytest.fixture
def hop() -> Iterator[NextHop]:
    one = NextHop()
    yield one
    one.stop()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with little room."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount the small file system that this test fills")
    where = tmp_path / "disk"
    where.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "kaifu-test", where], check=True)
    yield where
    subprocess.run(["umount", "--lazy", where], check=True)


def fill(disk: Path) -> Path:
    """Leave no octet free."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for block in (b"x" * 65536, b"x"):
            with suppress(OSError):
                while file.write(block):
                    pass
    return filler


# It refuses to start

OK: dict[str, Any] = {"realm": ["example.co.jp"], "policy": "policy.yaml", "ledger": "sqlite:///{}/ledger.db"}
OK |= {"relay": {"listen": "127.0.0.1:0", "next_hop": "127.0.0.1:1", "hostname": "relay.example.co.jp"}}


def _without(*path: str) -> Callable[[dict[str, Any], Path], None]:
    def change(settings: dict[str, Any], directory: Path) -> None:
        for key in path[:-1]:
            settings = settings[key]
        del settings[path[-1]]

    return change


def _with(value: object, *path: str) -> Callable[[dict[str, Any], Path], None]:
    def change(settings: dict[str, Any], directory: Path) -> None:
        for key in path[:-1]:
            settings = settings.setdefault(key, {})
        settings[path[-1]] = value

    return change


def _broken_policy(settings: dict[str, Any], directory: Path) -> None:
    (directory / "policy.yaml").write_text("version: 1\nrules:\n  - {name: x, when: {dirction: outbound}, then: {}}\n")


def _ledger_is_a_directory(settings: dict[str, Any], directory: Path) -> None:
    (directory / "ledger.db").mkdir()


def _ledger_is_no_database(settings: dict[str, Any], directory: Path) -> None:
    (directory / "ledger.db").write_text("Dear diary, " * 1000)


def _key_with_a_passphrase(settings: dict[str, Any], directory: Path) -> None:
    certificate, key = make_certificate(directory)
    locked = directory / "locked.pem"
    subprocess.run(
        ["openssl", "ec", "-aes256", "-passout", "pass:secret", "-in", key, "-out", locked],
        check=True,
        capture_output=True,
    )
    settings["relay"]["tls"] = {"certificate": str(certificate), "key": str(locked)}


def _foreign_key(settings: dict[str, Any], directory: Path) -> None:
    for name in ("a", "b"):
        (directory / name).mkdir()
    certificate, other = make_certificate(directory / "a"), make_certificate(directory / "b")
    settings["relay"]["tls"] = {"certificate": str(certificate[0]), "key": str(other[1])}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(_without("relay"), ["kaifu.yaml", "relay"], id="no-relay-section"),
        pytest.param(_without("relay", "next_hop"), ["kaifu.yaml", "next_hop"], id="no-next-hop"),
        pytest.param(_with(1, "relay", "wrokers"), ["kaifu.yaml:", "wrokers", "workers"], id="unknown-key"),
        pytest.param(_with("missing.yaml", "policy"), ["missing.yaml"], id="no-policy"),
        pytest.param(_broken_policy, ["policy.yaml:3:", "dirction", "direction"], id="broken-policy"),
        pytest.param(_with("sqlite:////nowhere/at/all.db", "ledger"), ["/nowhere/at", "ledger"], id="no-directory"),
        pytest.param(_with("sqlite://relative.db", "ledger"), ["ledger"], id="relative-ledger"),
        pytest.param(_ledger_is_a_directory, ["ledger.db"], id="ledger-is-a-directory"),
        pytest.param(_ledger_is_no_database, ["ledger.db", "damaged"], id="ledger-is-no-database"),
        pytest.param(_with("192.0.2.77:2525", "relay", "listen"), ["192.0.2.77:2525"], id="not-our-address"),
        pytest.param(
            _with({"certificate": "/no/such.pem"}, "relay", "tls"),
            ["relay.tls.certificate", "/no/such.pem"],
            id="no-certificate",
        ),
        pytest.param(_foreign_key, ["relay.tls", "key"], id="key-of-another-certificate"),
        pytest.param(_key_with_a_passphrase, ["relay.tls", "key", "passphrase"], id="key-with-a-passphrase"),
        pytest.param(
            _with("/no/where", "relay", "temporary_directory"),
            ["relay.temporary_directory", "/no/where"],
            id="no-temporary-directory",
        ),
    ],
)
def test_a_bad_configuration_is_refused_with_the_reason(
    tmp_path: Path, change: Callable[[dict[str, Any], Path], None], words: list[str]
) -> None:
    settings: dict[str, Any] = yaml.safe_load(yaml.safe_dump(OK).replace("{}", str(tmp_path)))
    (tmp_path / "policy.yaml").write_text("version: 1\n")
    change(settings, tmp_path)
    status, said = refused(tmp_path, yaml.safe_dump(settings))
    assert status == 2
    for word in words:
        assert word in said
    assert "Traceback" not in said
    assert "ready" not in said
    assert "pass phrase" not in said  # nothing is asked of somebody who is not there


def test_an_address_in_use_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text("version: 1\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings: dict[str, Any] = yaml.safe_load(yaml.safe_dump(OK).replace("{}", str(tmp_path)))
        settings["relay"]["listen"] = address = f"127.0.0.1:{taken.getsockname()[1]}"
        status, said = refused(tmp_path, yaml.safe_dump(settings))
    assert status == 2
    assert address in said
    assert "in use" in said.lower()


def test_a_missing_settings_file_is_refused_with_its_name(tmp_path: Path) -> None:
    status, said = refused(tmp_path / "absent", None)
    assert status == 2
    assert str(tmp_path / "absent" / "kaifu.yaml") in said
    assert "Traceback" not in said


# The ledger


def test_with_a_locked_ledger_mail_that_needs_it_is_deferred_and_other_mail_passes(
    tmp_path: Path, hop: NextHop
) -> None:
    with Relay(tmp_path, hop.port, ASK) as relay, client(relay) as alice:
        with sqlite3.connect(relay.ledger, isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")
            assert alice.deliver(PLAIN % 1).startswith("451 4.3.0 ")
            assert alice.deliver(PLAIN % 2, to=CUSTOMER).startswith("250 ")
            assert "lock" in relay.wait_for_log("ledger-failed")
            other.execute("ROLLBACK")
        assert alice.deliver(PLAIN % 1).startswith("250 ")
        relay.wait_for_log("ledger-works-again")
        assert [t.recipients for t in hop.transactions] == [
            [b"RCPT TO:<kurt@customer.example>"],
            [b"RCPT TO:<bob@partner.example>"],
        ]
        alice.close()
        relay.stop()
        assert [(row["message_id"], row["outcome"]) for row in relay.receipts()] == [("1@example.co.jp", "accepted")]


def _move(relay: Relay, elsewhere: Path) -> Callable[[], None]:
    """Take the ledger away as an administrator does, with all that belongs to it; what is returned puts it back.

    The database goes first and comes back last: the relay tries every second, and must never find it without its log.
    """
    elsewhere.mkdir()
    files = sorted(file for file in relay.directory.glob("ledger.db*") if file.is_file())
    for file in files:
        file.rename(elsewhere / file.name)

    def back() -> None:
        for file in reversed(files):
            (elsewhere / file.name).rename(file)

    return back


def test_a_ledger_that_was_moved_away_is_missed_and_works_again_when_it_is_back(tmp_path: Path, hop: NextHop) -> None:
    (tmp_path / "relay").mkdir()
    with Relay(tmp_path / "relay", hop.port, ASK) as relay, client(relay) as alice:
        assert alice.deliver(PLAIN % 1).startswith("250 ")
        back = _move(relay, tmp_path / "elsewhere")
        assert alice.deliver(PLAIN % 2).startswith("451 4.3.0 ")
        assert str(relay.ledger) in relay.wait_for_log("ledger-failed")
        assert alice.deliver(PLAIN % 3, to=CUSTOMER).startswith("250 ")
        back()
        assert alice.deliver(PLAIN % 2).startswith("250 ")
        alice.close()
        relay.stop()
        assert {row["message_id"] for row in relay.receipts()} == {"1@example.co.jp", "2@example.co.jp"}


def test_a_ledger_that_was_replaced_by_something_else_is_not_written_to(tmp_path: Path, hop: NextHop) -> None:
    (tmp_path / "relay").mkdir()
    with Relay(tmp_path / "relay", hop.port, ASK) as relay, client(relay) as alice:
        back = _move(relay, tmp_path / "elsewhere")
        relay.ledger.write_bytes(b"not a ledger")
        assert alice.deliver(PLAIN % 1).startswith("451 4.3.0 ")
        relay.wait_for_log("ledger-failed")
        assert relay.ledger.read_bytes() == b"not a ledger"
        relay.ledger.unlink()
        back()
        assert alice.deliver(PLAIN % 1).startswith("250 ")
        alice.close()
        relay.stop()


def test_with_on_ledger_failure_pass_nothing_is_added_strips_happen_and_receipts_wait(
    tmp_path: Path, hop: NextHop
) -> None:
    (tmp_path / "relay").mkdir()
    settings = {"on_ledger_failure": "pass"}
    with Relay(tmp_path / "relay", hop.port, ASK, settings) as relay, client(relay) as alice:
        back = _move(relay, tmp_path / "elsewhere")
        head, body = (PLAIN % 1).split(b"\r\n\r\n")
        asking = head + b"\r\n" + DNT + b"\r\n" + body
        assert alice.deliver(PLAIN % 1).startswith("250 ")
        assert alice.deliver(asking, to=["rita@rival.example"]).startswith("250 ")
        assert alice.deliver(RECEIPT, "", ["alice@example.co.jp"]).startswith("451 4.3.0 ")
        for message in hop.wait_for_messages(2):
            assert b"Disposition-Notification-To" not in message.data
        back()
        assert alice.deliver(PLAIN % 2).startswith("250 ")
        assert DNT in hop.wait_for_messages(3)[-1].data
        alice.close()
        relay.stop()


@pytest.mark.parametrize("stance", ["defer", "pass"])
def test_nobody_is_asked_who_may_have_refused_even_off_the_record(tmp_path: Path, hop: NextHop, stance: str) -> None:
    (tmp_path / "relay").mkdir()
    policy = 'version: 1\nrules: [{name: all, when: {to: "@partner.example"}, then: {request: add, record: none}}]\n'
    settings = {"on_ledger_failure": stance}
    with Relay(tmp_path / "relay", hop.port, policy, settings) as relay, client(relay) as alice:
        assert alice.deliver(PLAIN % 1).startswith("250 ")
        _move(relay, tmp_path / "elsewhere")
        assert alice.deliver(PLAIN % 2).startswith("451 4.3.0 " if stance == "defer" else "250 ")
        assert alice.deliver(PLAIN % 3, to=CUSTOMER).startswith("250 ")
        first, *rest = hop.transactions
        assert b"Disposition-Notification-To" in first.data
        assert not any(b"Disposition-Notification-To" in one.data for one in rest)
        alice.close()
        relay.stop()


def test_with_a_full_disk_mail_that_needs_the_ledger_is_deferred_until_there_is_room(
    tmp_path: Path, hop: NextHop, disk: Path
) -> None:
    with Relay(tmp_path, hop.port, ASK, {"ledger": f"sqlite:///{disk}/ledger.db"}) as relay, client(relay) as alice:
        assert alice.deliver(PLAIN % 0).startswith("250 ")
        filler = fill(disk)
        replies = [alice.deliver(PLAIN % number) for number in range(1, 30)]
        assert {reply[:9] for reply in replies} <= {"250 2.0.0", "451 4.3.0"}
        assert replies[-1].startswith("451 4.3.0 ")
        assert "no space left" in relay.wait_for_log("ledger-failed").lower()
        assert alice.deliver(PLAIN % 100, to=CUSTOMER).startswith("250 ")
        filler.unlink()
        assert alice.deliver(PLAIN % 101).startswith("250 ")
        alice.close()
        relay.stop()
        taken = {number for number, reply in enumerate(replies, 1) if reply.startswith("250")} | {0, 101}
        rows = relay.receipts()
        accepted = {int(row["message_id"].split("@")[0]) for row in rows if row["outcome"] == "accepted"}
        assert accepted == taken
        sent = [message.data for message in hop.transactions if b"partner.example" in message.recipients[0]]
        assert len(sent) == len(taken)


# The temporary disk


def test_a_full_temporary_disk_defers_what_must_be_kept_there_and_nothing_else(
    tmp_path: Path, hop: NextHop, disk: Path
) -> None:
    large = PLAIN % 1 + b"0123456789\r\n" * 100_000
    both = ["bob@partner.example", "rita@rival.example"]
    with (
        Relay(tmp_path, hop.port, ASK, {"relay": {"temporary_directory": str(disk)}}) as relay,
        client(relay) as alice,
    ):
        filler = fill(disk)
        assert alice.deliver(large, to=both).startswith("452 4.3.1 ")
        assert "space" in relay.wait_for_log("message …452…").lower()
        assert alice.deliver(large, to=["rita@rival.example"]).startswith("250 ")
        filler.unlink()
        assert alice.deliver(large, to=both).startswith("250 ")
        assert [path.name for path in disk.iterdir()] == []
        assert len(hop.transactions) == 3
        alice.close()
        relay.stop()


# The next hop


def test_the_log_says_why_the_next_hop_is_not_there_and_mail_flows_when_it_is_back(
    tmp_path: Path, hop: NextHop
) -> None:
    with Relay(tmp_path, hop.port) as relay:
        with client(relay) as alice:
            assert alice.deliver(PLAIN % 1).startswith("250 ")
            hop.stop()
            assert alice.deliver(PLAIN % 2)[:4] in ("421 ", "451 ")
        line = relay.wait_for_log("next-hop-failed")
        assert f"127.0.0.1:{hop.port}" in line
        assert "refused" in line.lower()
        hop.start()
        with client(relay) as alice:
            assert alice.deliver(PLAIN % 2).startswith("250 ")
        relay.stop()


# The policy


def replace(file: Path, text: str) -> None:
    """Write the way editors and configuration management do: a new file in the old one's place."""
    new = file.with_suffix(".new")
    new.write_text(text, encoding="utf-8")
    new.rename(file)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        pytest.param(Path.unlink, "policy.yaml", id="deleted"),
        pytest.param(lambda file: file.write_text("version: 1\nrules: [{naem: x}]\n"), "policy.yaml:2:", id="mistyped"),
        pytest.param(lambda file: file.write_text("rules: [\n"), "policy.yaml:", id="not-yaml"),
        pytest.param(lambda file: file.write_bytes(b"\xff\xfe\x00rules"), "policy.yaml", id="not-text"),
        pytest.param(lambda file: file.write_text(""), "policy.yaml", id="empty"),
        pytest.param(lambda file: replace(file, "version: 2\n"), "policy.yaml:1:", id="of-another-version"),
    ],
)
def test_a_policy_that_is_spoiled_while_running_leaves_the_old_one_in_force(
    tmp_path: Path, hop: NextHop, spoil: Callable[[Path], object], words: str
) -> None:
    with Relay(tmp_path, hop.port, ASK) as relay, client(relay) as alice:
        spoil(relay.policy)
        assert words in relay.wait_for_log("policy-rejected")
        assert alice.deliver(PLAIN % 1).startswith("250 ")
        replace(relay.policy, "version: 1\n")
        relay.wait_for_log("policy-loaded")
        assert alice.deliver(PLAIN % 2).startswith("250 ")
        first, second = hop.wait_for_messages(2)
        assert DNT in first.data
        assert DNT not in second.data
        alice.close()
        relay.stop()


def test_a_policy_that_changed_without_a_new_time_or_size_is_taken(tmp_path: Path, hop: NextHop) -> None:
    """As when a tool sets the time back, or when only owner and mode were wrong."""
    with Relay(tmp_path, hop.port, ASK) as relay, client(relay) as alice:
        status = relay.policy.stat()
        relay.policy.write_text(ASK.replace("@partner", "@nobodys"))
        os.utime(relay.policy, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert relay.policy.stat().st_size == status.st_size
        relay.wait_for_log("policy-loaded")
        assert alice.deliver(PLAIN % 1).startswith("250 ")
        assert DNT not in hop.transactions[0].data
        alice.close()
        relay.stop()


def test_every_error_of_a_spoiled_policy_is_logged(tmp_path: Path, hop: NextHop) -> None:
    with Relay(tmp_path, hop.port, ASK) as relay:
        replace(relay.policy, "version: 1\nrulse: []\nmode: obsrve\n")
        for words in ("policy.yaml:2:", "policy.yaml:3:"):
            relay.wait_for_log(f"policy-rejected…{words}")
        relay.stop()


# Processes


def test_a_worker_that_dies_is_replaced_and_mail_flows_on(tmp_path: Path, hop: NextHop) -> None:
    with Relay(tmp_path, hop.port, ASK, {"relay": {"workers": 2}}) as relay:
        children = Path(f"/proc/{relay.pid}/task/{relay.pid}/children")
        poll(lambda: len(children.read_text().split()) == 2, "two workers")
        for worker in children.read_text().split():
            os.kill(int(worker), signal.SIGKILL)
        relay.wait_for_log("worker-died")
        with client(relay) as alice:
            assert alice.deliver(PLAIN % 1).startswith("250 ")
        poll(lambda: len(children.read_text().split()) == 2, "two workers again")
        relay.stop()


def test_a_relay_that_was_killed_starts_again_with_the_ledger_as_it_was(tmp_path: Path, hop: NextHop) -> None:
    hop.on("dot", "answer", b"250 2.0.0 Ok")
    hop.on("dot", "hold")
    with Relay(tmp_path, hop.port, ASK) as relay, client(relay) as alice:
        assert alice.deliver(PLAIN % 1).startswith("250 ")
        for command in (b"MAIL FROM:<alice@example.co.jp>", b"RCPT TO:<bob@partner.example>", b"DATA"):
            alice.ask(command)
        alice.send(PLAIN % 2 + b".\r\n")
        hop.wait_for_messages(2)
        relay.kill()
        relay.start()
        rows = {row["message_id"]: row["outcome"] for row in relay.receipts()}
        assert rows == {"1@example.co.jp": "accepted", "2@example.co.jp": "unknown"}
        relay.stop()


def test_leftover_temporary_files_of_a_killed_relay_do_not_exist(tmp_path: Path, hop: NextHop) -> None:
    hop.on("DATA", "hold")
    with Relay(tmp_path, hop.port, ASK) as relay, client(relay) as alice:
        for command in (
            "MAIL FROM:<alice@example.co.jp>",
            "RCPT TO:<bob@partner.example>",
            "RCPT TO:<rita@rival.example>",
        ):
            assert alice.ask(command).startswith("250 ")
        alice.ask("DATA")
        alice.send(PLAIN % 1 + b"0123456789\r\n" * 100_000 + b".\r\n")
        hop.wait(lambda: any(command.line == b"DATA" for command in hop.commands), "the first of two transactions")
        assert shutil.disk_usage(relay.temporary).used > 0
        assert list(relay.temporary.iterdir()) == []
        relay.kill()
        assert list(relay.temporary.iterdir()) == []


# Retries

THREE = """
version: 1
rules:
  - {name: strip, when: {to: "*@strip.example"}, then: {request: strip}}
  - {name: collect, when: {to: "*@collect.example"}, then: {request: add, notify: receipts@example.co.jp}}
"""
ANSWERS = {
    "250": ("354 Go on", "250 2.0.0 Ok"),
    "451": ("354 Go on", "451 4.3.0 Not now"),
    "554": ("354 Go on", "554 5.7.1 Never"),
    "451 at DATA": ("451 4.3.0 Not now", None),
    "554 at DATA": ("554 5.7.1 Never", None),
}


@pytest.mark.timeout(1800)
def test_with_a_client_that_retries_everybody_gets_the_message_once(tmp_path: Path, hop: NextHop) -> None:
    numbers = count(1)
    accepted: set[tuple[str, str]] = set()
    with Relay(tmp_path, hop.port, THREE) as relay, client(relay) as alice:

        @given(
            domains=st.lists(st.sampled_from(["keep", "strip", "collect"]), min_size=1, max_size=5),
            script=st.lists(st.sampled_from(sorted(ANSWERS)), max_size=8),
        )
        def whatever_the_next_hop_answers(domains: list[str], script: list[str]) -> None:
            number, before = next(numbers), len(hop.transactions)
            to = [f"r{i}@{domain}.example" for i, domain in enumerate(domains)]
            hop.rules.clear()
            for answers in (ANSWERS[name] for name in script):
                hop.on("DATA", "answer", str(answers[0]).encode())
                if answers[1] is not None:
                    hop.on("dot", "answer", answers[1].encode())
            message = PLAIN.replace(b"\r\n\r\n", b"\r\n" + DNT + b"\r\n") % number
            for _ in range(len(script) + 1):
                reply = alice.deliver(message, to=to)
                if reply[0] != "4":
                    break
            dots = [name for name in script if name in ("250", "451", "554")]
            taken = Counter(
                line.partition(b"<")[2].partition(b">")[0].decode()
                for message, dot in zip_longest(hop.transactions[before:], dots, fillvalue="250")
                if dot == "250" and not isinstance(message, str)
                for line in message.recipients
            )
            assert set(taken.values()) <= {1}, "somebody got the message twice"
            assert reply[0] in "25", "the retries do not come to an end"
            if reply[0] == "2":
                assert sorted(taken) == sorted(to)
            else:
                assert 0 <= len(taken) < len(to)
                assert all(address in reply for address in taken)
            accepted.update((f"{number}@example.co.jp", address) for address in taken)

        whatever_the_next_hop_answers()
        alice.close()
        relay.stop()
        rows = [(row["message_id"], row["to"]) for row in relay.receipts() if row["outcome"] == "accepted"]
        assert sorted(rows) == sorted(accepted)
