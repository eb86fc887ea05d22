"""What the milter itself costs: CPU seconds per 1000 messages, beside pymilters that do nothing, without any MTA.

Clients of our own speak the milter protocol as Postfix does (a new connection for each message unless ``--reuse``, the last
piece of body with the end of message), so that no MTA is measured with it:

* ``eom only``: a pymilter that wants the end of message and nothing else: the least that pymilter can cost;
* ``same steps``: a pymilter with the callbacks that kaifu needs, doing nothing in them;
* ``kaifu keep``: a policy that names nothing; mail is counted and leaves no row;
* ``kaifu add``: every message gets a request and a record, on disk before the answer.

They take turns, round by round; the table shows medians, and ratios to ``same steps``. Absolute figures depend on what else
the machine does; the ratio much less. ``--profile`` runs ``kaifu add`` alone under py-spy and prints the hottest functions.
Nothing here passes or fails.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))

from tests.bench.measuring import ADD, KEEP, hottest, kaifu, process, py_spy, usage, wait
from tests.milter_client import ALL_ACTIONS, ALL_STEPS, packet, words

HEADERS = [
    (
        b"Received",
        b"from client.example.co.jp (client.example.co.jp [192.0.2.1])\n\tby mx.example.co.jp; Sat, 21 Nov 2026",
    ),
    (b"From", b"Aiko Sato <sender@example.co.jp>"),
    (b"To", b"recipient@partner.example"),
    (b"Date", b"Sat, 21 Nov 2026 09:30:00 +0900"),
    (b"Subject", b"=?utf-8?B?5aWR57SE5pu444Gu44GU56K66KqN?="),
    (b"MIME-Version", b"1.0"),
    (b"Content-Type", b"text/plain; charset=utf-8"),
]


def nothing(path: str, steps: str) -> None:
    """A pymilter that does nothing, in this process."""
    import milter

    wanted = milter.P_NOCONNECT | milter.P_NOHELO | milter.P_NODATA | milter.P_NOUNKNOWN | milter.P_NOEOH
    if steps == "eom":
        wanted |= milter.P_NOMAIL | milter.P_NORCPT | milter.P_NOHDRS | milter.P_NOBODY
    else:
        wanted |= milter.P_NR_MAIL | milter.P_NR_RCPT | milter.P_NR_HDR | milter.P_SKIP

    def negotiate(context: object, options: list[int]) -> int:
        options[:] = [options[0] & milter.ADDHDRS, options[1] & wanted, 0, 0]
        return int(milter.CONTINUE)

    milter.set_flags(milter.ADDHDRS)
    if steps != "eom":
        milter.set_envfrom_callback(lambda context, *args: milter.NOREPLY)
        milter.set_envrcpt_callback(lambda context, *args: milter.NOREPLY)
        milter.set_header_callback(lambda context, name, value: milter.NOREPLY)
        milter.set_body_callback(lambda context, chunk: milter.CONTINUE)
    milter.set_eom_callback(lambda context: milter.CONTINUE)
    milter.set_close_callback(lambda context: milter.CONTINUE)
    milter.register("nothing", negotiate=negotiate)
    milter.setconn(f"unix:{path}")
    milter.setbacklog(1024)
    milter.opensocket(True)
    threading.Thread(target=milter.main, daemon=True).start()
    signal.pause()


class Contender:
    def __init__(self, name: str, path: Path, pid: int) -> None:
        self.name, self.path, self.pid = name, path, pid
        self.cpu: list[float] = []
        self.rate: list[float] = []


@contextmanager
def idle(folder: Path, name: str, steps: str) -> Iterator[Contender]:
    path = folder / steps
    command = [sys.executable, __file__, "--nothing", str(path), steps]
    with process([*command], folder / f"{steps}.log") as running:
        wait(path.exists, name)
        yield Contender(name, path, running.pid)
        running.kill()


@contextmanager
def ours(folder: Path, name: str, policy: str, under: list[str | Path] | None = None) -> Iterator[Contender]:
    home = folder / name.replace(" ", "-")
    with kaifu("milter", home, policy, f"listen: 'unix:{home}/s', hostname: mx.example.co.jp", under) as pid:
        yield Contender(name, home / "s", pid)


class Client:
    """One of the simultaneous clients: it sends its share of the messages."""

    def __init__(self, one: Contender, number: int, messages: int, reuse: bool, size: int) -> None:
        self.one, self.number, self.messages, self.reuse = one, number, messages, reuse
        self.body = b"La de da de da.\r\n" * (size // 17)

    def run(self) -> None:
        sock = None
        for n in range(self.messages):
            if sock is None:
                sock = socket.socket(socket.AF_UNIX)
                sock.connect(str(self.one.path))
                sock.sendall(packet(b"O", struct.pack("!III", 6, ALL_ACTIONS, ALL_STEPS)))
                steps = struct.unpack("!III", answer(sock)[1][:12])[2]
            self.message(sock, f"{os.getpid()}.{time.monotonic_ns()}.{self.number}.{n}".encode(), steps)
            if not self.reuse:
                sock.sendall(packet(b"Q"))
                sock.close()
                sock = None

    def message(self, sock: socket.socket, name: bytes, steps: int) -> None:
        if not steps & 0x04:
            sock.sendall(packet(b"M", words(b"<sender@example.co.jp>")))
        if not steps & 0x08:
            sock.sendall(packet(b"R", words(b"<recipient@partner.example>")))
        parts = []
        if not steps & 0x20:
            parts += [packet(b"L", words(*header)) for header in HEADERS]
            parts.append(packet(b"L", words(b"Message-ID", b"<" + name + b"@example.co.jp>")))
        parts += [packet(b"D", b"E" + words(b"i", name[-12:])), packet(b"E", b"" if steps & 0x10 else self.body)]
        sock.sendall(b"".join(parts))
        while (told := answer(sock)[0]) != b"c":
            assert told in (b"h", b"m"), told


def answer(sock: socket.socket) -> tuple[bytes, bytes]:
    octets = sock.recv(4, socket.MSG_WAITALL)
    assert len(octets) == 4, "the milter hung up"
    rest = sock.recv(struct.unpack("!I", octets)[0], socket.MSG_WAITALL)
    return bytes(rest[:1]), bytes(rest[1:])


def run(one: Contender, options: argparse.Namespace) -> None:
    """One measurement, after a few messages that do not count."""
    send(one, options, options.sessions)
    before, start = usage(one.pid), time.monotonic()
    messages = send(one, options, options.messages)
    one.rate.append(messages / (time.monotonic() - start))
    one.cpu.append((usage(one.pid).cpu - before.cpu) * 1000 / messages)


def send(one: Contender, options: argparse.Namespace, messages: int) -> int:
    each = max(1, messages // options.sessions)
    clients = [Client(one, n, each, options.reuse, options.size) for n in range(options.sessions)]
    threads = [threading.Thread(target=client.run) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return int(each * options.sessions)


def profile(folder: Path, options: argparse.Namespace) -> None:
    spy = py_spy()
    if spy is None:
        sys.exit("milter_rate: py-spy is not installed here")
    output = folder / "profile"
    under: list[str | Path] = [spy, "record", "--gil", "-f", "raw", "-r", "500", "-o", output, "--"]
    with ours(folder, "kaifu add", ADD, under) as one:
        run(one, options)
    hottest(output.read_text(), options.top)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each contender (default: 5)")
    parser.add_argument("--sessions", type=int, default=20, help="simultaneous clients (default: 20)")
    parser.add_argument("--messages", type=int, default=2000, help="messages per measurement (default: 2000)")
    parser.add_argument("--size", type=int, default=2000, help="octets of body (default: 2000)")
    parser.add_argument("--reuse", action="store_true", help="one connection per client, not per message")
    parser.add_argument("--profile", action="store_true", help="kaifu add alone, under py-spy")
    parser.add_argument("--top", type=int, default=30, help="how many functions a profile shows (default: 30)")
    parser.add_argument("--nothing", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.nothing:
        nothing(*options.nothing)
        return
    with tempfile.TemporaryDirectory(prefix="kaifu-") as name, ExitStack() as stack:
        folder = Path(name)
        if options.profile:
            profile(folder, options)
            return
        makers: list[Callable[[], Contender]] = [
            lambda: stack.enter_context(idle(folder, "eom only", "eom")),
            lambda: stack.enter_context(idle(folder, "same steps", "same")),
            lambda: stack.enter_context(ours(folder, "kaifu keep", KEEP)),
            lambda: stack.enter_context(ours(folder, "kaifu add", ADD)),
        ]
        everybody = [make() for make in makers]
        for _ in range(options.rounds):
            for one in everybody:
                run(one, options)
    base = statistics.median(everybody[1].cpu)
    print(f"{options.size} octets, {options.sessions} clients, {options.rounds} rounds, {os.cpu_count()} cores")
    print(f"{'':12} {'CPU s/1000':>11} {'lowest-highest':>16} {'/same steps':>12} {'messages/s':>11}")
    for one in everybody:
        cpu = statistics.median(one.cpu)
        spread = f"{min(one.cpu):.2f}-{max(one.cpu):.2f}"
        print(f"{one.name:12} {cpu:11.2f} {spread:>16} {cpu / base:12.2f} {statistics.median(one.rate):11.0f}")


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(str(error))
