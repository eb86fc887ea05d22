"""What the benches of the relay and of the milter share: processes and what they use, kaifu among them, options, and profiles.

Needs Debian's programs where it says so. What cannot be measured ends the program with a sentence.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.postfix_harness import Postfix, program, system_folder

KAIFU = Path(sys.executable).with_name("kaifu")
SIZES = {"2KB": 2_000, "50KB": 50_000, "5MB": 5_000_000}
ADD = "version: 1\nrules:\n  - name: all\n    when: {direction: outbound}\n    then: {request: add}\n"
KEEP = "version: 1\n"
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Usage:
    """What a contender's processes have used."""

    cpu: float = 0.0
    peak_kib: int = 0


def tree(pid: int) -> list[int]:
    """A process and all its descendants."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    found = [pid]
    with suppress(OSError):
        for child in children.read_text().split():
            found += tree(int(child))
    return found


def usage(pid: int | None) -> Usage:
    """CPU seconds of a process tree, with those children that have ended, and its peak memory."""
    total = Usage()
    for one in tree(pid) if pid is not None else []:
        with suppress(OSError):
            after_name = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            total.cpu += sum(int(ticks) for ticks in after_name[11:15]) / TICKS
            peak = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{one}/status").read_text())
            total.peak_kib += int(peak[1]) if peak else 0
    return total


def served(pid: int) -> int:
    """The process to end so that all others do: under py-spy its only child, whose end makes it write what it saw."""
    command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return tree(pid)[1] if command[0].endswith(b"py-spy") else pid


@contextmanager
def process(command: list[str | Path], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that logs to a file, ended afterwards."""
    with log.open("wb") as stream:
        running = subprocess.Popen(command, stdout=stream, stderr=stream, stdin=subprocess.DEVNULL)
        try:
            yield running
        finally:
            with suppress(ProcessLookupError, FileNotFoundError):  # it may have ended by itself
                os.kill(served(running.pid), signal.SIGTERM)
            running.wait(60)


def wait(true: Callable[[], object], what: str, seconds: float = 60, every: float = 0.005) -> None:
    """Look until something holds."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            sys.exit(f"waited {seconds:g} s for {what}")
        time.sleep(every)


def listens(port: int) -> bool:
    return f":{port:04X} 00000000:0000 0A" in Path("/proc/net/tcp").read_text()


@contextmanager
def kaifu(command: str, home: Path, policy: str, section: str, under: list[str | Path] | None = None) -> Iterator[int]:
    """``kaifu relay`` or ``kaifu milter`` in a new directory, with a new ledger; its process. ``section``: its settings."""
    home.mkdir()
    (home / "policy.yaml").write_text(policy)
    (home / "kaifu.yaml").write_text(
        f"realm: [example.co.jp]\npolicy: policy.yaml\nledger: sqlite:///ledger.db\n{command}: {{{section}}}\n"
    )
    log = home / "log"
    with process([*(under or []), KAIFU, command, "--config", home / "kaifu.yaml"], log) as running:
        wait(lambda: running.poll() is not None or b"ready listen=" in log.read_bytes(), "kaifu to be ready")
        if running.poll() is not None:
            sys.exit(f"kaifu {command} did not start:\n{log.read_text()}")
        yield running.pid


@contextmanager
def master(server: Postfix, ports: Collection[int]) -> Iterator[tuple[int, Callable[[], bool]]]:
    """A Postfix that logs to a file, as in production: its process, and what says whether its queue is empty."""
    folder = server.directory.parent
    server.parameters |= {"maillog_file": f" {folder}/postfix.log", "maillog_file_prefixes": f" {folder}"}
    server.write()
    with process(server.command(), folder / "master.log") as running:
        wait(lambda: all(listens(port) for port in ports), "Postfix")
        queues = [server.directory / "queue" / name for name in ("incoming", "active", "deferred", "maildrop")]
        yield running.pid, lambda: not any(True for queue in queues for _ in os.scandir(queue))


def send(port: int, size: int, messages: int, sessions: int, reuse: bool) -> None:
    """Send that many messages of that size; all of them must be taken."""
    subprocess.run(
        [program("smtp-source"), "-s", str(sessions), "-m", str(messages), "-l", str(size), *(["-d"] if reuse else []),
         "-f", "sender@example.co.jp", "-t", "recipient@partner.example", "-M", "client.example.co.jp",
         f"127.0.0.1:{port}"],
        check=True,
    )  # fmt: skip


def show(text: str) -> None:
    """Say what is being done, on a terminal only."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def options_of(doc: str | None, sizes: list[str], only: str) -> argparse.ArgumentParser:
    """What can be chosen. ``sizes``: the default; ``only``: an example for ``--only``."""
    parser = argparse.ArgumentParser(description=(doc or "").split("\n\n")[0])
    default = "all" if sizes == list(SIZES) else " ".join(sizes)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=sizes, help=f"default: {default}")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each contender (default: 5)")
    parser.add_argument("--sessions", type=int, default=20, help="simultaneous clients (default: 20)")
    parser.add_argument("--scale", type=float, default=1.0, help="more or fewer messages per measurement (default: 1)")
    parser.add_argument("--quick", action="store_true", help="a first look: 2 rounds with a part of the messages")
    parser.add_argument("--reuse", action="store_true", help="many messages per connection (smtp-source -d)")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help=f"such as: {only}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--profile", action="store_true", help="profile one kaifu (add, or keep with --only) instead")
    parser.add_argument("--top", type=int, default=40, help="with --profile: how many functions (default: 40)")
    return parser


def all_sizes(options: argparse.Namespace, measured: Callable[[str], list[dict[str, object]]]) -> None:
    """Measure size by size; ``measured`` prints the table of one and returns its rows."""
    print(machine())
    rows = [row for size in options.sizes for row in measured(size)]
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


def machine() -> str:
    """What this was measured on."""
    with system_folder() as folder:
        done = subprocess.run(["stat", "-f", "-c", "%T", folder], capture_output=True, text=True, check=False)
        probe = folder / "fsync"
        with probe.open("wb", buffering=0) as file:
            times = []
            for _ in range(50):
                file.write(b"x" * 4096)
                start = time.perf_counter()
                os.fsync(file.fileno())
                times.append(time.perf_counter() - start)
    version = subprocess.run([program("postconf"), "-h", "mail_version"], capture_output=True, text=True, check=False)
    return (
        f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}, "
        f"Postfix {version.stdout.strip()}; ledgers and queues on {done.stdout.strip()} "
        f"({statistics.median(times) * 1000:.2f} ms per fsync)"
    )


def py_spy() -> str | None:
    """Where py-spy is, if it is installed."""
    return shutil.which("py-spy", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")


def hottest(folded: str, top: int) -> None:
    """Functions by own and by whole time, from py-spy's folded stacks."""
    own: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    for line in folded.splitlines():
        stack, _, samples = line.rpartition(" ")
        frames = [re.sub(r":\d+\)$", ")", frame) for frame in stack.split(";")]
        own[frames[-1]] += int(samples)
        for frame in set(frames):
            whole[frame] += int(samples)
    for title, found in (("own time", own), ("with what it calls", whole)):
        print(f"\n{title}")
        for frame, count in found.most_common(top):
            print(f"{100 * count / own.total():6.1f} %  {frame}")
