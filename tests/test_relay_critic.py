"""What a hostile client, or a stop at a bad moment, must not get out of the relay: trust, connections, time, half a truth."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import ssl
import struct
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest
from tests.postfix_harness import free_port
from tests.session_next_hop import NextHop, poll
from tests.session_relay import Client, Relay, client, make_certificate

HEAD = b"From: <alice@example.co.jp>\r\nMessage-ID: <1@example.co.jp>\r\n\r\n"
ASK = 'version: 1\nrules: [{name: ask, when: {to: "@partner.example"}, then: {request: add}}]\n'
SPAM = (
    b"EHLO x\r\nMAIL FROM:<spam@spam.example>\r\nRCPT TO:<victim@victim.example>\r\n"
    b"DATA\r\nSubject: spam\r\n\r\nspam\r\n.\r\nQUIT\r\n"
)


@pytest.fixture
def hop() -> Iterator[NextHop]:
    one = NextHop()
    yield one
    one.stop()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


def listening(certificate: tuple[Path, Path], tls: str) -> dict[str, object]:
    return {
        "listen": {"address": "127.0.0.1:0", "tls": tls},
        "tls": {"certificate": str(certificate[0]), "key": str(certificate[1])},
    }


def open_files(relay: Relay) -> int:
    return len(os.listdir(f"/proc/{relay.pid}/fd"))


def workers_of(relay: Relay) -> list[int]:
    with suppress(OSError):
        return [int(pid) for pid in Path(f"/proc/{relay.pid}/task/{relay.pid}/children").read_text().split()]
    return []


def runs(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


# Who is there


def test_a_stranger_who_resets_before_being_accepted_is_not_taken_for_this_machine(
    tmp_path: Path, hop: NextHop
) -> None:
    with Relay(tmp_path, hop.port, settings={"relay": {"clients": ["127.0.0.1/32"]}}) as relay:
        state = Path(f"/proc/{relay.pid}/stat")
        for _ in range(5):
            relay.signal(signal.SIGSTOP)
            poll(lambda: state.read_text().rpartition(")")[2].split()[0] == "T", "the relay to be held")
            with socket.create_connection(("127.0.0.1", relay.port), 5, ("127.0.0.9", 0)) as stranger:
                stranger.sendall(SPAM)
                stranger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            relay.signal(signal.SIGCONT)
        with client(relay) as alice:
            assert alice.deliver(HEAD).startswith("250 ")
        assert not any(b"spam" in command.line for command in hop.commands)
        relay.stop()


def test_an_ipv4_client_is_the_same_on_a_listener_of_ipv6(tmp_path: Path, hop: NextHop) -> None:
    hop.offers = ["AUTH PLAIN", "XFORWARD ADDR SOURCE"]
    settings = {"relay": {"listen": "[::]:0", "clients": ["127.0.0.1/32"]}}
    with Relay(tmp_path, hop.port, settings=settings) as relay, client(relay) as alice:
        assert "AUTH PLAIN" in alice.ask("EHLO client.example")  # it is on this machine
        assert alice.deliver(HEAD).startswith("250 ")
        [mail] = hop.transactions
        assert mail.data.startswith(b"Received: from client.example ([127.0.0.1])\r\n")
        assert b"XFORWARD ADDR=127.0.0.1 SOURCE=LOCAL" in [command.line for command in hop.commands]
        relay.wait_for_log("message … client=127.0.0.1 …")
        relay.stop()


def test_both_families_can_listen_on_all_addresses_of_one_port(tmp_path: Path, hop: NextHop) -> None:
    port = free_port()
    with Relay(tmp_path, hop.port, settings={"relay": {"listen": [f"0.0.0.0:{port}", f"[::]:{port}"]}}) as relay:
        for host in ("127.0.0.1", "::1"):
            one = Client(port, host=host)
            assert one.hello().startswith("250")
            one.close()
        relay.stop()


# Connections


def test_clients_that_never_read_their_replies_are_dropped_in_the_end(tmp_path: Path, hop: NextHop) -> None:
    limits = {"timeouts": {"command": 0.5}, "limits": {"connections": 20, "connections_per_client": 20}}
    with Relay(tmp_path, hop.port, settings={"relay": limits}) as relay, ExitStack() as stack:
        with client(relay) as alice:
            assert alice.deliver(HEAD).startswith("250 ")
        before = open_files(relay)
        for _ in range(5):
            deaf = stack.enter_context(client(relay))
            deaf.sock.settimeout(1)
            with suppress(TimeoutError, OSError):
                deaf.sock.sendall(b"HELP\r\n" * 1_000_000)
        poll(lambda: open_files(relay) <= before + 2, "the relay to be rid of them")
        relay.stop()


def test_a_handshake_that_does_not_come_counts_as_a_connection(
    tmp_path: Path, hop: NextHop, certificate: tuple[Path, Path]
) -> None:
    limits = {"limits": {"connections": 3, "connections_per_client": 3}}
    settings = {"relay": listening(certificate, "implicit") | limits}
    with Relay(tmp_path, hop.port, settings=settings) as relay, ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(socket.create_connection(("127.0.0.1", relay.port)))
        one_more = Client(relay.port)
        assert one_more.has_hung_up()
        relay.wait_for_log("too-many-connections…")
        relay.stop()


def test_a_client_of_the_tls_port_that_takes_its_time_is_served(
    tmp_path: Path, hop: NextHop, certificate: tuple[Path, Path]
) -> None:
    """What it sends before the relay gets to it is the handshake, and nothing of it may be lost."""
    with Relay(tmp_path, hop.port, settings={"relay": listening(certificate, "implicit")}) as relay:
        relay.signal(signal.SIGSTOP)
        one = Client(relay.port)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        tls = context.wrap_bio(incoming, outgoing)
        with suppress(ssl.SSLWantReadError):
            tls.do_handshake()
        one.send(outgoing.read())
        relay.signal(signal.SIGCONT)
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                incoming.write(one.sock.recv(1 << 16))
        one.send(outgoing.read())
        greeting = b""
        while not greeting.endswith(b"\r\n"):
            try:
                greeting += tls.read(1000)
            except ssl.SSLWantReadError:
                incoming.write(one.sock.recv(1 << 16))
        assert greeting.startswith(b"220 ")
        one.close()
        relay.stop()


# Stopping at a bad moment


@pytest.mark.parametrize("tls", ["implicit", "starttls"])
def test_a_handshake_that_does_not_come_does_not_hold_up_a_stop(
    tmp_path: Path, hop: NextHop, certificate: tuple[Path, Path], tls: str
) -> None:
    with Relay(tmp_path, hop.port, settings={"relay": listening(certificate, tls)}) as relay:
        one = Client(relay.port)
        if tls == "starttls":
            one.hello()
            assert one.ask("STARTTLS").startswith("220 ")
        else:
            poll(lambda: open_files(relay) > 0 and not one.waiting(), "the connection to be accepted")
        relay.stop()
        one.is_cut_off()


def test_a_challenge_that_comes_after_the_stop_is_not_waited_for(tmp_path: Path, hop: NextHop) -> None:
    hop.offers.append("AUTH LOGIN")
    with Relay(tmp_path, hop.port) as relay, client(relay) as alice:
        hop.on("AUTH", "hold")
        alice.send(b"AUTH LOGIN\r\n")
        hop.wait(lambda: any(peer.held for peer in hop._peers.values()), "AUTH to reach the next hop")
        relay.signal()
        relay.wait_for_log("stopping …")
        hop.release(b"334 VXNlcm5hbWU6")
        assert alice.reply()[0].startswith("421 ")
        assert relay.wait() == 0


def test_a_stop_while_a_refused_client_is_still_heard_out_is_clean(tmp_path: Path, hop: NextHop) -> None:
    with Relay(tmp_path, hop.port) as relay, client(relay) as alice:
        assert alice.deliver(HEAD + b"bare\nline end\r\n").startswith("521 ")
        relay.stop()


def test_a_client_that_never_comes_to_an_end_does_not_hold_up_a_stop(tmp_path: Path, hop: NextHop) -> None:
    with (
        Relay(tmp_path, hop.port, settings={"relay": {"timeouts": {"data_block": 1}}}) as relay,
        client(relay) as alice,
    ):
        for command in ("MAIL FROM:<alice@example.co.jp>", "RCPT TO:<bob@partner.example>", "DATA"):
            assert alice.ask(command)[0] in "23"
        alice.send(HEAD)
        relay.signal()

        def answered() -> bytes:
            alice.send(b"and so on\r\n")
            return alice.waiting()

        poll(answered, "the relay to give up")
        assert alice.reply()[0].startswith("421 4.3.2 ")
        assert relay.wait() == 0
        assert hop.transactions == []


@pytest.mark.parametrize(("workers", "tls"), [(1, "implicit"), (1, "none"), (2, "none")])
def test_who_comes_while_the_relay_stops_is_refused_at_once(
    tmp_path: Path, hop: NextHop, certificate: tuple[Path, Path], workers: int, tls: str
) -> None:
    listen = listening(certificate, "none") | {"workers": workers}
    listen["listen"] = [{"address": "127.0.0.1:0", "tls": "none"}, {"address": "127.0.0.1:0", "tls": tls}]

    def comes_in() -> bool:
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", relay.ports[1]), 5):
            return True
        return False

    with Relay(tmp_path, hop.port, settings={"relay": listen}) as relay, client(relay) as alice:
        hop.on("dot", "hold")
        for command in ("MAIL FROM:<alice@example.co.jp>", "RCPT TO:<bob@partner.example>", "DATA"):
            assert alice.ask(command)[0] in "23"
        alice.send(HEAD + b".\r\n")
        hop.wait_for_messages(1)
        assert comes_in()
        relay.signal()
        poll(lambda: not comes_in(), "the relay to refuse")
        hop.release(b"250 2.0.0 Ok")
        assert alice.reply()[0].startswith("250 ")
        assert relay.wait() == 0


# Workers


def test_a_stop_in_the_middle_of_starting_reaches_every_worker(tmp_path: Path, hop: NextHop) -> None:
    relay = Relay(tmp_path, hop.port, settings={"relay": {"workers": 5}})
    for _ in range(5):
        relay.launch()
        try:
            poll(lambda: workers_of(relay) or not runs(relay.pid), "the first worker", every=0.0001)
            relay.signal()
            assert relay.wait() == 0
        finally:
            relay.kill()


def test_workers_end_when_their_supervisor_was_killed(tmp_path: Path, hop: NextHop) -> None:
    with Relay(tmp_path, hop.port, settings={"relay": {"workers": 2}}) as relay:
        workers = workers_of(relay)
        assert len(workers) == 2
        with client(relay) as alice:
            assert alice.deliver(HEAD).startswith("250 ")
        os.kill(relay.pid, signal.SIGKILL)
        poll(lambda: not any(map(runs, workers)), "the workers to end")


@pytest.mark.parametrize("workers", [1, 2])
def test_sighup_makes_the_relay_look_at_its_policy_and_go_on(tmp_path: Path, hop: NextHop, workers: int) -> None:
    with Relay(tmp_path, hop.port, settings={"relay": {"workers": workers}}) as relay, client(relay) as alice:
        assert alice.ask("NOOP").startswith("250 ")
        relay.policy.write_text(ASK)
        relay.signal(signal.SIGHUP)
        relay.wait_for_log("policy-loaded …")
        assert alice.deliver(HEAD).startswith("250 ")
        relay.stop()


# What is told


def test_the_names_of_many_who_have_the_message_fit_into_reply_lines(tmp_path: Path, hop: NextHop) -> None:
    partners = [f"bob{i}@partner.example" for i in range(100)]
    with Relay(tmp_path, hop.port, ASK) as relay, client(relay) as alice:
        hop.on("dot", "answer", b"250 2.0.0 Ok")
        hop.on("dot", "answer", b"550-5.7.1 Not for\r\n550 5.7.1 Kurt")
        reply = alice.deliver(HEAD, to=[*partners, "kurt@customer.example"])
        lines = reply.split("\n")
        assert all(line.startswith("550") and len(line) <= 510 for line in lines)
        assert all(f"<{name}>" in reply for name in partners)
        assert "kurt@customer.example" not in reply
        relay.stop()


# What is in the ledger


def test_a_row_that_makes_no_sense_defers_the_mail_that_it_concerns_and_no_other(tmp_path: Path, hop: NextHop) -> None:
    with Relay(tmp_path, hop.port, ASK) as relay, client(relay) as alice:
        assert alice.deliver(HEAD).startswith("250 ")
        with closing(sqlite3.connect(relay.ledger)) as db, db:
            assert db.execute("UPDATE messages SET sent_at = 9000000000000000000").rowcount == 1
        answer = b"In-Reply-To: <1@example.co.jp>\r\n" + HEAD.replace(b"<1@", b"<2@")
        assert alice.deliver(answer, "bob@partner.example", ["alice@example.co.jp"]).startswith("451 ")
        relay.wait_for_log("ledger-failed …makes no sense…")
        assert alice.deliver(HEAD.replace(b"<1@", b"<3@")).startswith("250 ")
        relay.stop()
