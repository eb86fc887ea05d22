"""Speed of kaifu as a relay, beside Postfix as a relay and beside no relay at all, on this machine.

``make bench`` runs this; ``--help`` says what can be chosen. Debian's smtp-source sends to each contender over loopback, and each
passes the mail on to Debian's smtp-sink. The contenders take turns, round by round, so that whatever else the machine does
hits all of them; the table shows medians, of the rates and of each round's ratios. A run ends when the sink has everything: kaifu and the sink
answer only then, and for Postfix the run goes on until its queue is empty again.

* ``sink``: smtp-source straight to smtp-sink, the most that these two programs do;
* ``postfix``: Postfix as a plain relay, with its own default limits (log to a file, no throttling of input);
* ``kaifu add``: every message gets a request, so every message is in the ledger, on disk, before it goes out;
* ``kaifu keep``: a policy that names nothing; mail is counted and leaves no row;
* ``… 2w``: the same with two workers.

Columns: messages/s (and the lowest and highest of the rounds); ratio to the sink and to Postfix; CPU seconds (user and system) of
the contender's own processes per 1000 messages; the most memory that its processes together had resident.

``--profile`` runs one kaifu under cProfile instead (or under py-spy, where that is installed) and prints the hottest functions.
Needs root, Postfix, and nothing else that keeps the machine busy. Nothing here passes or fails: exit 0 when all was measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import pstats
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))

from tests.postfix_harness import Postfix, free_port, missing, program, system_folder

KAIFU = Path(sys.executable).with_name("kaifu")
SIZES = {"2KB": 2_000, "50KB": 50_000, "5MB": 5_000_000}
MESSAGES = {"2KB": 4000, "50KB": 1500, "5MB": 60}
FASTER = {"sink": {"2KB": 4, "50KB": 2, "5MB": 1}}
ADD = "version: 1\nrules:\n  - name: all\n    when: {direction: outbound}\n    then: {request: add}\n"
KEEP = "version: 1\n"
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Usage:
    """What a contender's processes have used."""

    cpu: float = 0.0
    peak_kib: int = 0


@dataclass
class Contender:
    """Somebody to send mail to. ``pid``: the head of its processes, None when we do not look at them."""

    name: str
    port: int
    pid: int | None = None
    done: Callable[[], bool] = lambda: True
    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
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
            sys.exit(f"relay_bench: waited {seconds:g} s for {what}")
        time.sleep(every)


def listens(port: int) -> bool:
    return f":{port:04X} 00000000:0000 0A" in Path("/proc/net/tcp").read_text()


@contextmanager
def sink(folder: Path) -> Iterator[int]:
    """A smtp-sink; its port."""
    port = free_port()
    with process(
        [program("smtp-sink"), "-u", "postfix", "-m", "1000", f"127.0.0.1:{port}", "1000"], folder / "sink.log"
    ):
        wait(lambda: listens(port), "smtp-sink")
        yield port


@contextmanager
def postfix(folder: Path, sink_port: int) -> Iterator[Contender]:
    """Postfix as a relay. It logs to a file, as in production."""
    one = Postfix(folder, "relay.example.co.jp", (), f"relayhost = [127.0.0.1]:{sink_port}")
    log = folder / "postfix.log"
    one.parameters |= {"maillog_file": f" {log}", "maillog_file_prefixes": f" {folder}"}
    one.write()
    with process(one.command(), folder / "master.log") as master:
        wait(lambda: listens(one.port), "Postfix")
        queues = [one.directory / "queue" / name for name in ("incoming", "active", "deferred", "maildrop")]

        def empty() -> bool:
            return not any(True for queue in queues for _ in os.scandir(queue))

        yield Contender("postfix", one.port, master.pid, empty)


@contextmanager
def kaifu(
    folder: Path, sink_port: int, policy: str, workers: int, under: list[str | Path] | None = None
) -> Iterator[Contender]:
    """``kaifu relay`` with a new ledger."""
    name = f"kaifu {'add' if policy is ADD else 'keep'}" + (f" {workers}w" if workers > 1 else "")
    home = folder / name.replace(" ", "-")
    home.mkdir()
    (home / "policy.yaml").write_text(policy)
    port = free_port()
    (home / "kaifu.yaml").write_text(
        "realm: [example.co.jp]\npolicy: policy.yaml\nledger: sqlite:///ledger.db\n"
        f"relay: {{listen: '127.0.0.1:{port}', next_hop: '127.0.0.1:{sink_port}', workers: {workers}, "
        "hostname: relay.example.co.jp}\n"
    )
    log = home / "log"
    with process([*(under or []), KAIFU, "relay", "--config", home / "kaifu.yaml"], log) as relay:
        wait(lambda: relay.poll() is not None or b"ready listen=" in log.read_bytes(), "kaifu to be ready")
        if relay.poll() is not None:
            sys.exit(f"relay_bench: kaifu did not start:\n{log.read_text()}")
        yield Contender(name, port, relay.pid)


def send(port: int, size: int, messages: int, sessions: int, reuse: bool) -> None:
    """Send that many messages of that size; all of them must be taken."""
    subprocess.run(
        [program("smtp-source"), "-s", str(sessions), "-m", str(messages), "-l", str(size), *(["-d"] if reuse else []),
         "-f", "sender@example.co.jp", "-t", "recipient@partner.example", "-M", "client.example.co.jp",
         f"127.0.0.1:{port}"],
        check=True,
    )  # fmt: skip


def run(one: Contender, size: str, options: argparse.Namespace) -> None:
    """One measurement of one contender, after a few messages that do not count."""
    sessions = min(options.sessions, MESSAGES[size])
    messages = max(sessions, int(MESSAGES[size] * options.scale * FASTER.get(one.name, {}).get(size, 1)))
    send(one.port, SIZES["2KB"], sessions, sessions, options.reuse)
    wait(one.done, f"{one.name} to pass on its mail")
    before, start = usage(one.pid), time.monotonic()
    send(one.port, SIZES[size], messages, sessions, options.reuse)
    wait(one.done, f"{one.name} to pass on its mail")
    seconds, after = time.monotonic() - start, usage(one.pid)
    one.rates.append(messages / seconds)
    one.cpu.append((after.cpu - before.cpu) * 1000 / messages)
    one.peak_kib = max(one.peak_kib, after.peak_kib)


def contenders(folder: Path, sink_port: int, wanted: list[str], stack: ExitStack) -> list[Contender]:
    """Everybody who takes part, running."""
    makers: dict[str, Callable[[], Contender]] = {
        "sink": lambda: Contender("sink", sink_port),
        "postfix": lambda: stack.enter_context(postfix(folder, sink_port)),
        "kaifu add": lambda: stack.enter_context(kaifu(folder, sink_port, ADD, 1)),
        "kaifu keep": lambda: stack.enter_context(kaifu(folder, sink_port, KEEP, 1)),
        "kaifu add 2w": lambda: stack.enter_context(kaifu(folder, sink_port, ADD, 2)),
        "kaifu keep 2w": lambda: stack.enter_context(kaifu(folder, sink_port, KEEP, 2)),
    }
    return [make() for name, make in makers.items() if not wanted or name in wanted]


def measure(size: str, options: argparse.Namespace) -> list[Contender]:
    """All rounds for one size, with fresh processes and ledgers."""
    with system_folder() as folder, ExitStack() as stack:
        everybody = contenders(folder, stack.enter_context(sink(folder)), options.only, stack)
        for number in range(options.rounds):
            for one in everybody:
                show(f"{size}: round {number + 1} of {options.rounds}, {one.name}")
                run(one, size, options)
        return everybody


def show(text: str) -> None:
    """Say what is being done, on a terminal only."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def table(size: str, everybody: list[Contender], options: argparse.Namespace) -> list[dict[str, object]]:
    """Print the table for one size; its rows, for ``--json``."""
    show("")
    peers = {one.name: one.rates for one in everybody}
    connections = "one connection per session" if options.reuse else "one connection per message"
    print(f"\n{size}, {options.sessions} sessions, {connections}, {options.rounds} rounds")
    print(
        f"{'':14} {'msg/s':>8} {'lowest-highest':>16} {'/sink':>6} {'/postfix':>9} {'CPU s/1000':>11} {'peak MiB':>9}"
    )
    rows: list[dict[str, object]] = []
    for one in everybody:
        rate = statistics.median(one.rates)
        ratios = [
            statistics.median(a / b for a, b in zip(one.rates, peers[other], strict=True)) if other in peers else None
            for other in ("sink", "postfix")
        ]
        cpu = statistics.median(one.cpu) if one.pid is not None else None
        peak = one.peak_kib / 1024 if one.pid is not None else None
        shown = [f"{r:.2f}" if r is not None else "-" for r in (*ratios, cpu)] + [f"{peak:.0f}" if peak else "-"]
        spread = (
            f"{min(one.rates):.0f}-{max(one.rates):.0f}"
            if rate >= 100
            else f"{min(one.rates):.1f}-{max(one.rates):.1f}"
        )
        rate_shown = f"{rate:.0f}" if rate >= 100 else f"{rate:.1f}"
        print(f"{one.name:14} {rate_shown:>8} {spread:>16} {shown[0]:>6} {shown[1]:>9} {shown[2]:>11} {shown[3]:>9}")
        rows.append({"size": size, "contender": one.name, "rate": rate, "rates": one.rates, "to_sink": ratios[0],
                     "to_postfix": ratios[1], "cpu_per_1000": cpu, "peak_mib": peak})  # fmt: skip
    return rows


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


def profile(options: argparse.Namespace) -> None:
    """One kaifu under a profiler, and where its time went."""
    size = options.sizes[0]
    policy = KEEP if "kaifu keep" in options.only else ADD
    with system_folder() as folder, ExitStack() as stack:
        sink_port = stack.enter_context(sink(folder))
        output = folder / "profile"
        spy = shutil.which("py-spy", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        under: list[str | Path] = (
            [spy, "record", "--threads", "-f", "raw", "-r", "500", "-o", output, "--"] if spy and not options.cprofile
            else [sys.executable, "-m", "cProfile", "-o", output]
        )  # fmt: skip
        with kaifu(folder, sink_port, policy, 1, under) as one:
            run(one, size, options)
        print(
            f"{one.name}, {size}: {one.rates[0]:.0f} messages/s and {one.cpu[0]:.2f} CPU s per 1000 under the profiler"
        )
        if spy and not options.cprofile:
            hottest(output.read_text(), options.top)
        else:
            pstats.Stats(str(output)).strip_dirs().sort_stats("tottime").print_stats(options.top)
            pstats.Stats(str(output)).strip_dirs().sort_stats("cumulative").print_stats(options.top)


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


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES), help="default: all")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each contender (default: 5)")
    parser.add_argument("--sessions", type=int, default=20, help="simultaneous clients (default: 20)")
    parser.add_argument("--scale", type=float, default=1.0, help="more or fewer messages per measurement (default: 1)")
    parser.add_argument("--quick", action="store_true", help="a first look: 2 rounds with a quarter of the messages")
    parser.add_argument("--reuse", action="store_true", help="many messages per connection (smtp-source -d)")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help='such as: sink postfix "kaifu add"')
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--profile", action="store_true", help="profile one kaifu (add, or keep with --only) instead")
    parser.add_argument("--cprofile", action="store_true", help="with --profile: cProfile even if py-spy is here")
    parser.add_argument("--top", type=int, default=45, help="with --profile: how many functions (default: 45)")
    options = parser.parse_args()
    if why_not := missing("postfix", "smtp-source", "smtp-sink"):
        sys.exit(f"relay_bench: {why_not}")
    if options.quick:
        options.rounds, options.scale = 2, options.scale / 4
    if options.profile:
        profile(options)
        return
    print(machine())
    rows = [row for size in options.sizes for row in table(size, measure(size, options), options)]
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
