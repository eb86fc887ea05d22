"""What one client, one message or one next hop can make the relay spend: memory, disk, connections; and what it keeps to itself.

Memory is the process's peak (VmHWM) after a hundred mebibytes in some shape, compared with that after ten kibibytes.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.session_next_hop import NextHop, poll
from tests.session_relay import Client, Relay, client, make_certificate, server_context

MIB = 1 << 20
SPLIT = 'version: 1\nrules: [{name: ask, when: {to: "@partner.example"}, then: {request: add}}]\n'
HEAD = b"From: <alice@example.co.jp>\r\nMessage-ID: <1@example.co.jp>\r\n\r\n"
BOTH = ["bob@partner.example", "kurt@customer.example"]
REPORT = b"From: <bob@partner.example>\r\nContent-Type: multipart/report; report-type=disposition-notification; boundary=b\r\n\r\n"
BLOCKS = {
    "lines": b"0123456789012345678901234567890123456789012345678901234567890123456789012\r\n" * 14_000,
    "empty-lines": b"\r\n" * 500_000,
    "dots": b"..\r\n" * 260_000,
    "one-line": b"x" * MIB,
}


@pytest.fixture
def hop() -> Iterator[NextHop]:
    one = NextHop(keep=False)
    yield one
    one.stop()


def envelope(one: Client, sender: str, to: list[str]) -> None:
    for command in (f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{address}>" for address in to)):
        assert one.ask(command).startswith("250 ")
    assert one.ask("DATA").startswith("354 ")


def send_large(one: Client, block: bytes, count: int = 100) -> str:
    """Send a body of so many blocks, and its final dot: the reply."""
    for _ in range(count):
        one.send(block)
    return one.ask(b"\r\n.")


# Memory


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
@pytest.mark.parametrize("to", [["kurt@customer.example"], BOTH], ids=["one-outcome", "two-outcomes"])
def test_a_message_of_100_mib_needs_hardly_more_memory_than_one_of_10_kib(
    tmp_path: Path, hop: NextHop, block: bytes, to: list[str]
) -> None:
    with Relay(tmp_path, hop.port, SPLIT) as relay, client(relay) as alice:
        assert alice.deliver(HEAD + b"x" * 10_000 + b"\r\n", to=to).startswith("250 ")
        before = relay.peak_memory()
        envelope(alice, "alice@example.co.jp", to)
        alice.send(HEAD)
        assert send_large(alice, block).startswith("250 ")
        assert relay.peak_memory() - before < 8 * MIB
        sizes = [message.octets for message in hop.transactions[len(to) :]]
        assert len(sizes) == len(to)
        assert all(0 < size - 100 * len(block) < 1000 for size in sizes)
        assert list(relay.temporary.iterdir()) == []
        alice.close()
        relay.stop()


def test_a_report_of_100_mib_is_delivered_within_the_same_memory(tmp_path: Path, hop: NextHop) -> None:
    with Relay(tmp_path, hop.port) as relay, client(relay) as bob:
        assert bob.deliver(REPORT + b"--b\r\n", "", ["alice@example.co.jp"]).startswith("250 ")
        before = relay.peak_memory()
        envelope(bob, "", ["alice@example.co.jp"])
        bob.send(REPORT)
        assert send_large(bob, BLOCKS["lines"]).startswith("250 ")
        assert relay.peak_memory() - before < 8 * MIB
        assert len(hop.transactions) == 2
        bob.close()
        relay.stop()


def test_a_next_hop_that_stops_reading_makes_the_client_wait_and_not_the_memory_grow(
    tmp_path: Path, hop: NextHop
) -> None:
    with Relay(tmp_path, hop.port) as relay, client(relay) as alice:
        assert alice.deliver(HEAD + b"x" * 10_000 + b"\r\n").startswith("250 ")
        before = relay.peak_memory()
        hop.on("body", "hold")
        envelope(alice, "alice@example.co.jp", ["bob@partner.example"])
        replies: list[str] = []
        alice.send(HEAD)
        sender = threading.Thread(target=lambda: replies.append(send_large(alice, BLOCKS["lines"])), daemon=True)
        sender.start()
        hop.release(b"")
        sender.join(60)
        assert [reply[:4] for reply in replies] == ["250 "]
        assert relay.peak_memory() - before < 8 * MIB
        alice.close()
        relay.stop()


def test_a_client_that_asks_without_reading_the_answers_is_made_to_wait(tmp_path: Path, hop: NextHop) -> None:
    with Relay(tmp_path, hop.port) as relay, client(relay) as alice:
        assert alice.deliver(HEAD + b"x" * 10_000 + b"\r\n").startswith("250 ")
        before = relay.peak_memory()
        alice.sock.settimeout(3)
        with pytest.raises(TimeoutError):
            alice.sock.sendall(b"NOOP\r\n" * 10_000_000)
        assert relay.peak_memory() - before < 8 * MIB
        with client(relay) as bob:
            assert bob.deliver(HEAD).startswith("250 ")
        alice.reset()
        relay.stop()


def test_headers_of_many_clients_at_once_are_given_back(tmp_path: Path, hop: NextHop) -> None:
    filler = b"X-Filler: " + b"x" * 900 + b"\r\n"
    with Relay(tmp_path, hop.port) as relay, client(relay) as alice:
        for _ in range(20):
            assert alice.deliver(filler * 1100 + b"\r\n").startswith("250 ")
        before = relay.peak_memory()
        for _ in range(60):
            assert alice.deliver(filler * 1100 + b"\r\n").startswith("250 ")
        assert relay.peak_memory() - before < 8 * MIB
        alice.close()
        relay.stop()


# Disk


def test_the_temporary_disk_is_shared_by_all_sessions_and_given_back(tmp_path: Path, hop: NextHop) -> None:
    large = HEAD + BLOCKS["lines"]
    with Relay(tmp_path, hop.port, SPLIT, {"relay": {"limits": {"temporary_disk": 3 * MIB // 2}}}) as relay:
        with client(relay) as alice, client(relay) as bob:
            hop.on("DATA", "hold")
            envelope(alice, "alice@example.co.jp", BOTH)
            alice.send(large + b".\r\n")
            hop.wait(lambda: any(command.line == b"DATA" for command in hop.commands), "the first transaction")
            assert bob.deliver(large, to=BOTH).startswith("452 4.3.1 ")
            hop.release(b"354 go on")
            assert alice.reply()[0].startswith("250 ")
            assert bob.deliver(large, to=BOTH).startswith("250 ")
        relay.stop()


# Connections


def test_connections_that_come_and_go_leave_nothing_open(tmp_path: Path, hop: NextHop) -> None:
    with Relay(tmp_path, hop.port) as relay:
        files = Path(f"/proc/{relay.pid}/fd")
        with client(relay) as alice:
            assert alice.deliver(HEAD).startswith("250 ")
        before = len(list(files.iterdir()))
        for number in range(300):
            one = Client(relay.port)
            if number % 3:
                one.hello()
            if number % 3 == 2:
                envelope(one, "alice@example.co.jp", ["bob@partner.example"])
                one.send(HEAD)
            one.reset()
        poll(lambda: len(list(files.iterdir())) <= before + 5, "the relay to close what was reset")
        with client(relay) as alice:
            assert alice.deliver(HEAD).startswith("250 ")
        relay.stop()


def test_hundreds_of_clients_at_once_are_served_within_the_limit(tmp_path: Path, hop: NextHop) -> None:
    with Relay(tmp_path, hop.port) as relay, ExitStack() as stack:
        clients = [stack.enter_context(client(relay)) for _ in range(150)]
        for one in clients:
            envelope(one, "alice@example.co.jp", ["bob@partner.example"])
        for one in clients:
            one.send(HEAD + b"x\r\n.\r\n")
        assert {one.reply()[0] for one in clients} == {"250 2.0.0 Ok: queued"}
        assert len(hop.transactions) == 150
        stack.close()
        relay.stop()


# What is not said in clear text


@pytest.fixture
def far_address() -> Iterator[str]:
    """An address of this machine that is not loopback, though only reachable from within."""
    if os.geteuid() != 0:
        pytest.skip("only root can give this machine another address")
    address = f"198.51.100.{os.getpid() % 250 + 2}"  # runs side by side do not get into each other's way
    subprocess.run(["ip", "address", "replace", f"{address}/32", "dev", "lo"], check=True)
    yield address
    subprocess.run(["ip", "address", "del", f"{address}/32", "dev", "lo"], check=True)


def test_auth_is_only_offered_over_tls_to_a_client_that_is_not_on_this_machine(
    tmp_path: Path, hop: NextHop, far_address: str
) -> None:
    hop.offers = ["AUTH PLAIN"]
    certificate, key = make_certificate(tmp_path)
    settings = {
        "listen": {"address": f"{far_address}:0", "tls": "starttls"},
        "tls": {"certificate": str(certificate), "key": str(key)},
    }
    with Relay(tmp_path, hop.port, settings={"relay": settings}) as relay:
        one = Client(relay.port, far_address, far_address)
        assert "AUTH" not in one.hello()
        assert one.ask("AUTH PLAIN AGFsaWNlAHNlY3JldA==").startswith("538 5.7.11 ")
        assert one.ask("MAIL FROM:<alice@example.co.jp>").startswith("530 5.7.0 ")
        assert one.ask("STARTTLS").startswith("220 ")
        one.start_tls()
        assert "AUTH PLAIN" in one.ask("EHLO client.example")
        assert one.ask("AUTH PLAIN AGFsaWNlAHNlY3JldA==").startswith("235 ")
        assert one.deliver(HEAD).startswith("250 ")
        one.close()
        relay.stop()


@pytest.mark.parametrize("tls", ["none", "required"])
def test_auth_is_only_passed_on_over_tls_to_a_next_hop_that_is_not_on_this_machine(
    tmp_path: Path, far_address: str, tls: str
) -> None:
    hop = NextHop(server_context(make_certificate(tmp_path)), host=far_address)
    hop.offers = ["AUTH PLAIN"]
    settings = {"next_hop": f"{far_address}:{hop.port}", "clients": ["192.0.2.0/24"], "tls": {"next_hop": tls}}
    with Relay(tmp_path, hop.port, settings={"relay": settings}) as relay, client(relay) as one:
        offered = one.ask("EHLO client.example")
        answer = one.ask("AUTH PLAIN AGFsaWNlAHNlY3JldA==")
        if tls == "required":
            assert "AUTH PLAIN" in offered
            assert answer.startswith("235 ")
        else:
            assert "AUTH" not in offered
            assert answer[0] == "5"
        spoken = [command for command in hop.commands if command.line.startswith(b"AUTH")]
        assert all(command.encrypted for command in spoken)
        one.close()
        relay.stop()
    hop.stop()


def test_ipv4_clients_of_an_ipv6_listener_and_ipv6_clients_are_told_apart(tmp_path: Path, hop: NextHop) -> None:
    settings = {"relay": {"listen": ["[::1]:0", "127.0.0.1:0"], "clients": ["::1"]}}
    with Relay(tmp_path, hop.port, settings=settings) as relay:
        six = Client(relay.ports[0], host="::1")
        six.hello()
        assert six.deliver(HEAD).startswith("250 ")
        assert len(hop.transactions) == 1
        four = Client(relay.ports[1])
        four.hello()
        assert four.deliver(HEAD).startswith("554 5.7.1 ")
        six.close()
        four.close()
        relay.stop()


def test_a_client_that_does_not_read_its_replies_does_not_hold_up_a_stop(tmp_path: Path, hop: NextHop) -> None:
    with Relay(tmp_path, hop.port) as relay, client(relay) as alice:
        alice.sock.settimeout(2)
        with pytest.raises(TimeoutError):
            alice.sock.sendall(b"NOOP\r\n" * 10_000_000)
        relay.stop()
