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
import pstats
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))

from tests.bench.measuring import (
    ADD,
    KEEP,
    SIZES,
    all_sizes,
    hottest,
    kaifu,
    listens,
    master,
    options_of,
    process,
    py_spy,
    send,
    show,
    usage,
    wait,
)
from tests.postfix_harness import Postfix, free_port, missing, program, system_folder

MESSAGES = {"2KB": 4000, "50KB": 1500, "5MB": 60}
FASTER = {"sink": {"2KB": 4, "50KB": 2, "5MB": 1}}


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
    with master(one, [one.port]) as (pid, empty):
        yield Contender("postfix", one.port, pid, empty)


@contextmanager
def relay(
    folder: Path, sink_port: int, policy: str, workers: int, under: list[str | Path] | None = None
) -> Iterator[Contender]:
    """``kaifu relay`` with a new ledger."""
    name = f"kaifu {'add' if policy is ADD else 'keep'}" + (f" {workers}w" if workers > 1 else "")
    port = free_port()
    section = (
        f"listen: '127.0.0.1:{port}', next_hop: '127.0.0.1:{sink_port}', workers: {workers}, "
        "hostname: relay.example.co.jp"
    )
    with kaifu("relay", folder / name.replace(" ", "-"), policy, section, under) as pid:
        yield Contender(name, port, pid)


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
        "kaifu add": lambda: stack.enter_context(relay(folder, sink_port, ADD, 1)),
        "kaifu keep": lambda: stack.enter_context(relay(folder, sink_port, KEEP, 1)),
        "kaifu add 2w": lambda: stack.enter_context(relay(folder, sink_port, ADD, 2)),
        "kaifu keep 2w": lambda: stack.enter_context(relay(folder, sink_port, KEEP, 2)),
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


def profile(options: argparse.Namespace) -> None:
    """One kaifu under a profiler, and where its time went."""
    size = options.sizes[0]
    policy = KEEP if "kaifu keep" in options.only else ADD
    with system_folder() as folder, ExitStack() as stack:
        sink_port = stack.enter_context(sink(folder))
        output = folder / "profile"
        spy = py_spy()
        under: list[str | Path] = (
            [spy, "record", "--threads", "-f", "raw", "-r", "500", "-o", output, "--"] if spy and not options.cprofile
            else [sys.executable, "-m", "cProfile", "-o", output]
        )  # fmt: skip
        with relay(folder, sink_port, policy, 1, under) as one:
            run(one, size, options)
        print(
            f"{one.name}, {size}: {one.rates[0]:.0f} messages/s and {one.cpu[0]:.2f} CPU s per 1000 under the profiler"
        )
        if spy and not options.cprofile:
            hottest(output.read_text(), options.top)
        else:
            pstats.Stats(str(output)).strip_dirs().sort_stats("tottime").print_stats(options.top)
            pstats.Stats(str(output)).strip_dirs().sort_stats("cumulative").print_stats(options.top)


def main() -> None:
    parser = options_of(__doc__, list(SIZES), 'sink postfix "kaifu add"')
    parser.add_argument("--cprofile", action="store_true", help="with --profile: cProfile even if py-spy is here")
    options = parser.parse_args()
    if why_not := missing("postfix", "smtp-source", "smtp-sink"):
        sys.exit(f"relay_bench: {why_not}")
    if options.quick:
        options.rounds, options.scale = 2, options.scale / 4
    if options.profile:
        profile(options)
        return
    all_sizes(options, lambda size: table(size, measure(size, options), options))


if __name__ == "__main__":
    main()
