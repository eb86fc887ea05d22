"""The installed ``kaifu relay`` as a process of its own, a client that speaks to it octet by octet, and certificates.

:class:`Relay` writes a settings file, a policy and a ledger into a directory, starts the command, waits for its
``ready`` line and keeps what it logs. Nothing of kaifu is imported: what these tests see is what users get.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import ssl
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from tests.logged_process import END, Logged
from tests.session_next_hop import DEADLINE, pattern, poll, unread

KAIFU = Path(sys.executable).with_name("kaifu")

KEEP = "version: 1\n"
"""The policy that names nothing."""

ASK_ALL = """\
version: 1
rules:
  - name: ask all
    when: {direction: outbound}
    then: {request: add}
"""


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``over`` laid over ``base``, mapping by mapping."""
    both = dict(base)
    for key, value in over.items():
        both[key] = merged(both[key], value) if isinstance(both.get(key), dict) and isinstance(value, dict) else value
    return both


class Relay(Logged):
    """One relay process. Use it as a context manager, or call :meth:`start` and :meth:`stop`.

    ``settings`` are laid over what every test needs (loopback, a realm of ``example.co.jp``, a ledger in ``directory``).
    """

    command_name = "relay"

    def __init__(self, directory: Path, next_hop: int, policy: str = KEEP, settings: Mapping[str, Any] = {}) -> None:
        super().__init__()
        self.directory = directory
        self.config, self.policy, self.ledger = (directory / n for n in ("kaifu.yaml", "policy.yaml", "ledger.db"))
        self.temporary = directory / "temporary"
        self.temporary.mkdir(exist_ok=True)
        self.policy.write_text(policy, encoding="utf-8")
        relay = {
            "listen": "127.0.0.1:0",
            "next_hop": f"127.0.0.1:{next_hop}",
            "clients": ["127.0.0.0/8"],
            "hostname": "relay.example.co.jp",
            "temporary_directory": str(self.temporary),
        }
        ours = {
            "realm": ["example.co.jp"],
            "policy": "policy.yaml",
            "ledger": f"sqlite:///{self.ledger}",
            "relay": relay,
        }
        self.config.write_text(yaml.safe_dump(merged(ours, settings), allow_unicode=True), encoding="utf-8")
        self.ports: list[int] = []
        self.environment: Mapping[str, str] | None = None

    def leave(self) -> None:
        self.kill()

    @property
    def port(self) -> int:
        return self.ports[0]

    def start(self) -> None:
        """Start the command and wait until it is ready."""
        line = self.until_ready()
        self.ports = [int(port) for port in re.findall(r"\blisten=\S*:(\d+)", line)]
        assert self.ports, f"the ready line names no port: {line}"

    def until_ready(self) -> str:
        """Start the command; the line in which it says that it is ready."""
        before = len(self.log)
        self.launch()
        try:
            return self.wait_for_log("/^ready .*/", before)
        except AssertionError:
            self.kill()
            raise

    def launch(self) -> None:
        """Start the command only."""
        self.spawn(KAIFU, self.command_name, "--config", self.config, environment=self.environment)

    def wait_for_log(self, text: str, after: int = 0) -> str:
        """The first line, from the one with index ``after``, in which a :func:`pattern` occurs."""
        fits = pattern(text)

        def found() -> str | None:
            return next((line for line in self.log[after:] if fits.search(line.encode())), None)

        with self._logged:
            self._logged.wait_for(lambda: found() is not None or END in self.log[after:], DEADLINE)
            line = found()
        if line is None:
            raise AssertionError(f"the relay did not log {text}; it logged:\n" + "\n".join(self.log[after:]))
        return line

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self) -> int:
        """Its exit status, when it has ended by itself."""
        assert self._process is not None
        try:
            status = self._process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the relay did not end within {DEADLINE:g} s") from None
        assert self._reader is not None
        self._reader.join(DEADLINE)
        return status

    def stop(self) -> None:
        """Ask it to stop; it must do so cleanly and without having let an exception through."""
        self.signal()
        status = self.wait()
        assert status == 0, f"the relay ended with {status}:\n" + "\n".join(self.log)
        self.no_traceback()

    def no_traceback(self) -> None:
        assert not any("Traceback" in line for line in self.log), "\n".join(self.log)

    def kill(self) -> None:
        """End it and whatever it started, at once."""
        if self._process is not None and self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            assert self._reader is not None
            self._reader.join(DEADLINE)

    def receipts(self) -> list[dict[str, Any]]:
        """What ``kaifu receipts list --json`` says."""
        command: list[str | Path] = [KAIFU, "receipts", "list", "--json", "--config", self.config]
        done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
        assert done.returncode == 0, f"kaifu receipts list ended with {done.returncode}: {done.stderr}"
        return [json.loads(line) for line in done.stdout.splitlines()]

    def peak_memory(self) -> int:
        """The most memory that the process ever had resident, in octets."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
        assert found is not None
        return int(found[1]) * 1024


def refused(directory: Path, config: str | None) -> tuple[int, str]:
    """Exit status and standard error of a relay that should not start with this settings file (None: there is none)."""
    file = directory / "kaifu.yaml"
    if config is not None:
        file.write_text(config, encoding="utf-8")
    command: list[str | Path] = [KAIFU, "relay", "--config", file]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
    return done.returncode, done.stderr


class Client:
    """A mail client on loopback that knows nothing of SMTP but what a reply looks like."""

    def __init__(self, port: int, source: str | None = None, host: str = "127.0.0.1") -> None:
        self.sock: socket.socket = socket.create_connection((host, port), DEADLINE, (source, 0) if source else None)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self._ports = port, self.sock.getsockname()[1]

    def send(self, octets: bytes) -> None:
        """Send; what a peer that has hung up does not take is lost, the next :meth:`reply` will tell."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self.sock.sendall(octets)

    def reply(self) -> list[str]:
        """The lines of the next reply, without CRLF. Fails when the relay hangs up or stays silent."""
        lines: list[str] = []
        while not lines or lines[-1][3:4] == "-":
            lines.append(self._line())
        return lines

    def _line(self) -> str:
        while b"\r\n" not in self.buffer:
            try:
                octets = self.sock.recv(1 << 16)
            except TimeoutError:
                raise AssertionError(f"waited {DEADLINE:g} s for a reply") from None
            except OSError as error:
                raise AssertionError(f"no reply, {error}; before it {self.buffer!r}") from None
            if not octets:
                raise AssertionError(f"no reply, the relay has hung up; before it {self.buffer!r}")
            self.buffer += octets
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line.decode("utf-8", "backslashreplace")

    def ask(self, command: str | bytes) -> str:
        """Send a command and give back its reply, lines joined."""
        self.send((command.encode() if isinstance(command, str) else command) + b"\r\n")
        return "\n".join(self.reply())

    def hello(self) -> str:
        """Take the greeting and say EHLO; the reply to that."""
        greeting = self.reply()
        assert greeting[0].startswith("220 "), greeting
        return self.ask("EHLO client.example")

    def deliver(
        self, message: bytes, sender: str = "alice@example.co.jp", to: Sequence[str] = ("bob@partner.example",)
    ) -> str:
        """Send a message (stuffed, without the final dot): the reply to its dot, or the first refusal before."""
        for command in (f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{address}>" for address in to), "DATA"):
            reply = self.ask(command)
            if reply[0] not in "23":
                return reply
        return self.ask(message + b".")

    def has_hung_up(self) -> bool:
        """True when the relay has closed (or resets) the connection without another word."""
        try:
            self.buffer += self.sock.recv(1 << 16)
        except TimeoutError:
            raise AssertionError(f"waited {DEADLINE:g} s for the relay to hang up") from None
        except OSError:
            return True
        return not self.buffer

    def is_cut_off(self) -> None:
        """Wait for the end of the connection, whatever octets (of a failed handshake) come before it."""
        while not self.has_hung_up():
            self.buffer = b""

    def waiting(self) -> bytes:
        """What has come and was not asked for."""
        ready, _, _ = select.select([self.sock], [], [], 0)
        if ready:
            with suppress(OSError):
                self.buffer += self.sock.recv(1 << 16)
        return self.buffer

    def start_tls(self) -> None:
        """Negotiate TLS now, whatever certificate comes."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        assert not self.buffer, f"the relay said {self.buffer!r} before TLS"
        self.sock = context.wrap_socket(self.sock)

    def wait_until_read(self) -> None:
        """Wait until the relay has taken everything from its socket: what is sent next is another read."""
        theirs, ours = self._ports
        poll(lambda: not unread(theirs, ours, by_server=True), "the relay to read what was sent", every=0.0005)

    def half_close(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        self.sock.close()


@contextmanager
def client(relay: Relay, listener: int = 0) -> Iterator[Client]:
    """A client that has said EHLO."""
    one = Client(relay.ports[listener])
    try:
        one.hello()
        yield one
    finally:
        one.close()


def make_certificate(directory: Path) -> tuple[Path, Path]:
    """A self-signed certificate for localhost and 127.0.0.1, and its key."""
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


def server_context(files: tuple[Path, Path]) -> ssl.SSLContext:
    """What a next hop needs to speak TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    return context
