"""``kaifu demo``: the relay at work on a few days of mail, on loopback, in a directory of its own.

A real relay process stands between simulated clients (smtplib) and a built-in next hop (aiosmtpd) that keeps what it gets.
For each message it prints what happened and why, then the receipts as an auditor sees them. Nothing leaves the machine.
"""

from __future__ import annotations

import re
import shutil
import smtplib
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import click
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from rich.console import Console
from rich.markup import escape

from .demo_mail import BORDER, SALES, SCENES, TANAKA, Scene
from .display import visible
from .requests import REQUEST_HEADERS

SETTINGS = """\
# Settings of the demonstration; the reference is proxy/README.md.
realm: [example.co.jp]
policy: policy.yaml
ledger: sqlite:///{directory}/ledger.db
zone: Asia/Tokyo
border: [{border}]
relay:
  listen: 127.0.0.1:0
  next_hop: 127.0.0.1:{next_hop}
  clients: [127.0.0.0/8]
  hostname: relay.example.co.jp
"""


class _Mailboxes:
    """The next hop's handler: keeps the octets of every message."""

    def __init__(self) -> None:
        self.got: list[tuple[list[str], bytes]] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """aiosmtpd's hook for a complete message."""
        content = envelope.content if isinstance(envelope.content, bytes) else b""
        self.got.append((list(envelope.rcpt_tos), content))
        return "250 2.0.0 Ok: kept"


@contextmanager
def _next_hop(mailboxes: _Mailboxes) -> Iterator[int]:
    """The built-in next hop on a port of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    controller = Controller(mailboxes, hostname="127.0.0.1", port=port, enable_SMTPUTF8=True)
    controller.start()
    try:
        yield port
    finally:
        controller.stop()


def _configure(directory: Path, next_hop: int) -> Path:
    """Settings and policy in the directory; gives the settings file."""
    config = directory / "kaifu.yaml"
    config.write_text(SETTINGS.format(directory=directory, next_hop=next_hop, border=BORDER), encoding="utf-8")
    policy = directory / "policy.yaml"
    if not policy.exists():
        policy.write_text(files(__package__).joinpath("demo.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    return config


def _kaifu(*words: str) -> list[str]:
    return [sys.executable, "-m", f"{__package__}.cli", *words]


class _Demo:
    """Plays the scenes and tells about them."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._mailboxes = _Mailboxes()
        self._ids: dict[str, str] = {}

    def play(self, directory: Path) -> Path:
        """All scenes, one after another; gives the settings file."""
        with _next_hop(self._mailboxes) as next_hop:
            config = _configure(directory, next_hop)
            with self._relay(config) as port:
                for number, scene in enumerate(SCENES, 1):
                    self._play(number, scene, port)
        return config

    @contextmanager
    def _relay(self, config: Path) -> Iterator[int]:
        """A relay process of its own; gives its port."""
        command = _kaifu("relay", "--config", str(config))
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, encoding="utf-8") as process:
            assert process.stderr is not None
            try:
                first = process.stderr.readline()
                found = re.match(r"ready listen=127\.0\.0\.1:(\d+)", first)
                if found is None:
                    raise click.ClickException(f"the relay did not start: {first.strip()}")
                self._lines = process.stderr
                yield int(found[1])
            finally:
                process.terminate()
                process.wait(timeout=30)

    def _play(self, number: int, scene: Scene, port: int) -> None:
        before = len(self._mailboxes.got)
        text = scene.build(self._ids)
        found = re.search(r"^Message-ID: <(.*)>$", text, re.MULTILINE)
        self._ids[scene.key] = found[1] if found else ""
        with smtplib.SMTP("127.0.0.1", port, local_hostname="client.example.co.jp") as client:
            client.sendmail(scene.sender, list(scene.recipients), text.replace("\n", "\r\n").encode())
        self._tell(number, scene, text, self._mailboxes.got[before:])

    def _tell(self, number: int, scene: Scene, text: str, got: list[tuple[list[str], bytes]]) -> None:
        say = self._console.print
        say(f"\n[bold]{number:2}. {escape(scene.title)}[/bold]")
        say(f"    from {escape(scene.sender or '<>')}  to {escape(', '.join(scene.recipients))}")
        reached = {recipient for recipients, _ in got for recipient in recipients}
        for recipients, content in got:
            say(f"    → {escape(', '.join(recipients))}: {escape(_difference(text, content))}")
        for recipient in scene.recipients:
            if recipient not in reached:
                say(f"    → {escape(recipient)}: nothing; recorded and withheld")
        for reason in self._reasons():
            say(f"    [dim]why: {escape(visible(reason))}[/dim]")

    def _reasons(self) -> list[str]:
        """The sentences of the relay's log line about the message just sent."""
        while line := self._lines.readline():
            if line.startswith("message "):
                found = re.search(r' reason=("(?:[^"\\]|\\.)*"|\S+)', line)
                quoted = found[1].strip('"').replace('\\"', '"') if found else ""
                return [part for part in quoted.split(" | ") if part]
        return []


def _difference(sent: str, got: bytes) -> str:
    """What happened to the header fields that ask, in words."""
    header = got.partition(b"\r\n\r\n")[0].decode("utf-8", "replace")
    asked = _request_lines(sent.partition("\n\n")[0])
    asks = _request_lines(header)
    added, removed = [x for x in asks if x not in asked], [x for x in asked if x not in asks]
    words = [f"added {line}" for line in added] + [f"removed {line}" for line in removed]
    return "delivered; " + ("; ".join(words) or ("asks as before" if asked else "unchanged"))


def _request_lines(header: str) -> list[str]:
    return [line for line in header.splitlines() if line.partition(":")[0].strip().lower() in REQUEST_HEADERS]


@click.command()
@click.option("--keep", type=click.Path(file_okay=False), help="Leave settings, policy and ledger in this directory.")
def demo(keep: str | None) -> None:
    """Show the relay at work: a few days of mail on loopback, and the receipts that come of it."""
    directory = Path(keep).absolute() if keep else Path(tempfile.mkdtemp(prefix="kaifu-demo-"))
    directory.mkdir(parents=True, exist_ok=True)
    console = Console(highlight=False, soft_wrap=True)
    console.print("[bold]kaifu demo[/bold]: mail clients → kaifu relay → next hop, all on this machine")
    config = _Demo(console).play(directory)
    console.print("\n[bold]What the ledger holds now[/bold]  (kaifu receipts list)\n")
    sys.stdout.flush()
    subprocess.run(_kaifu("receipts", "list", "--config", str(config)), check=True)
    console.print(
        "\n–  not asked   ✓  asked   ✓✓  displayed or replied   ✗  failed, denied or deleted unread\n"
        "claimed: it says so itself   authenticated: the border verified the domain that it comes from\n"
        "\n[bold]Look further[/bold]\n"
        f"  {_command()} receipts show 2 --config {config}\n"
        f"  {_command()} receipts pair renewal-15@example.co.jp --to {SALES} --with {TANAKA} --config {config}\n"
        f"  {_command()} receipts list --json --config {config}\n"
        f"  {_command()} policy check {directory}/policy.yaml\n"
        f"  {_command()} inspect FILE.eml\n"
    )


def _command() -> str:
    """How the person at this terminal can call kaifu."""
    if shutil.which("kaifu"):
        return "kaifu"
    here = Path(sys.executable).with_name("kaifu")
    return str(here.relative_to(Path.cwd())) if here.is_relative_to(Path.cwd()) else str(here)
