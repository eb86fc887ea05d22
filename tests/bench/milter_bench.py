"""What a milter costs Postfix: kaifu beside a pymilter that does nothing, header_checks, OpenDKIM, and Postfix alone.

``make bench`` runs this; ``--help`` says what can be chosen. One Postfix has a listener for each contender, all alike but for the
milter. Debian's smtp-source sends to one after the other and Postfix discards what it has taken. Every run is paired with one of
Postfix alone just before it: */postfix* is the median of these ratios, which other load on the machine disturbs least.

* ``header_checks``: Postfix itself removes a header field (``IGNORE``), no milter;
* ``pymilter``: the callbacks that kaifu needs, doing nothing in them; ``pymilter eom``: the end of message and nothing else;
* ``kaifu keep``: a policy that names nothing; mail is counted and leaves no row;
* ``kaifu add``: every message gets a request and a record, on disk before Postfix says 250;
* ``opendkim``: signs every message with a key of 2048 bits.

Columns: accepted messages/s (and the lowest and highest of the rounds); ratio to Postfix alone; CPU seconds (user and system) of the
milter's own process per 1000 messages, and their ratio to those of ``pymilter``; its peak memory.

``--profile`` runs ``kaifu add`` (or ``--only "kaifu keep"``) under py-spy and prints the hottest functions. Needs root and Postfix.
Nothing here passes or fails: exit 0 when all was measured.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
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
    master,
    options_of,
    process,
    py_spy,
    send,
    show,
    usage,
    wait,
)  # fmt: skip
from tests.bench.milter_rate import idle
from tests.postfix_harness import Postfix, free_port, missing, program, system_folder

MESSAGES = {"2KB": 1000, "50KB": 500, "5MB": 40}


@dataclass
class Contender:
    """A listener of Postfix. ``milter``: the socket it asks, ``pid``: who serves that."""

    name: str
    port: int
    milter: Path | None = None
    pid: int | None = None
    rates: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    peak_kib: int = 0


@contextmanager
def ours(folder: Path, name: str, policy: str, under: list[str | Path] | None = None) -> Iterator[Contender]:
    """``kaifu milter`` with a new ledger."""
    home = folder / name.replace(" ", "-")
    section = f"listen: 'unix:{home}/socket', socket_group: postfix, hostname: mail.example.co.jp"
    with kaifu("milter", home, policy, section, under) as pid:
        yield Contender(name, free_port(), home / "socket", pid)


@contextmanager
def pymilter(folder: Path, name: str, steps: str) -> Iterator[Contender]:
    """A pymilter that does nothing."""
    with idle(folder, name, steps) as one:
        one.path.chmod(0o666)
        yield Contender(name, free_port(), one.path, one.pid)


@contextmanager
def opendkim(folder: Path) -> Iterator[Contender]:
    """OpenDKIM, signing."""
    key, path, config = folder / "key", folder / "opendkim", folder / "opendkim.conf"
    subprocess.run([program("openssl"), "genrsa", "-out", key, "2048"], check=True, capture_output=True)
    key.chmod(0o600)
    config.write_text(
        f"Mode s\nSocket local:{path}\nUMask 000\nDomain example.co.jp\nSelector test\nKeyFile {key}\n"
        "InternalHosts 127.0.0.1\nRequireSafeKeys no\nSyslog no\n"
    )
    with process([program("opendkim"), "-f", "-x", config], folder / "opendkim.log") as one:
        wait(path.exists, "OpenDKIM")
        yield Contender("opendkim", free_port(), path, one.pid)


@contextmanager
def postfix(folder: Path, everybody: list[Contender]) -> Iterator[Callable[[], bool]]:
    """Postfix with all listeners; says whether its queue is empty."""
    checks = folder / "checks"
    checks.write_text("/^X-Spam-Score:/ IGNORE\n/^Disposition-Notification-To:/ IGNORE\n")
    listeners = f"checks unix n - n - 0 cleanup\n    -o header_checks=regexp:{checks}\n"
    for one in everybody:
        option = f"smtpd_milters=unix:{one.milter}" if one.milter else "smtpd_milters="
        if one.name == "header_checks":
            option = "cleanup_service_name=checks"
        listeners += f"127.0.0.1:{one.port} inet n - n - - smtpd\n    -o {option}\n"
    main = "default_transport = discard:\nmilter_default_action = tempfail\n"
    server = Postfix(folder, "mail.example.co.jp", (), main, listeners)
    with master(server, [one.port for one in everybody]) as (_, empty):
        yield empty


def contenders(folder: Path, wanted: list[str], stack: ExitStack) -> list[Contender]:
    """Everybody who takes part, running; Postfix alone is the first."""
    makers: dict[str, Callable[[], Contender]] = {
        "header_checks": lambda: Contender("header_checks", free_port()),
        "pymilter": lambda: stack.enter_context(pymilter(folder, "pymilter", "same")),
        "pymilter eom": lambda: stack.enter_context(pymilter(folder, "pymilter eom", "eom")),
        "kaifu keep": lambda: stack.enter_context(ours(folder, "kaifu keep", KEEP)),
        "kaifu add": lambda: stack.enter_context(ours(folder, "kaifu add", ADD)),
        "opendkim": lambda: stack.enter_context(opendkim(folder)),
    }
    chosen = [make() for name, make in makers.items() if not wanted or name in wanted]
    return [Contender("postfix", free_port()), *chosen]


def run(one: Contender, size: str, options: argparse.Namespace, done: Callable[[], bool]) -> float:
    """One measurement of one contender; accepted messages per second."""
    messages: int = max(options.sessions, int(MESSAGES[size] * options.scale))
    send(one.port, SIZES["2KB"], options.sessions, options.sessions, options.reuse)
    wait(done, "Postfix to empty its queue")
    before = usage(one.pid)
    start = os.times().elapsed
    send(one.port, SIZES[size], messages, options.sessions, options.reuse)
    rate: float = messages / (os.times().elapsed - start)
    wait(done, "Postfix to empty its queue")
    after = usage(one.pid)
    one.rates.append(rate)
    one.cpu.append((after.cpu - before.cpu) * 1000 / messages)
    one.peak_kib = max(one.peak_kib, after.peak_kib)
    return rate


def measure(size: str, options: argparse.Namespace) -> list[Contender]:
    """All rounds for one size, with fresh processes and ledgers."""
    with system_folder() as folder, ExitStack() as stack:
        everybody = contenders(folder, options.only, stack)
        alone, *others = everybody
        done = stack.enter_context(postfix(folder, everybody))
        for number in range(options.rounds):
            for one in others:
                show(f"{size}: round {number + 1} of {options.rounds}, {one.name}")
                before = run(alone, size, options, done)
                one.ratios.append(run(one, size, options, done) / before)
        return everybody


def table(size: str, everybody: list[Contender], options: argparse.Namespace) -> list[dict[str, object]]:
    """Print the table for one size; its rows, for ``--json``."""
    show("")
    connections = "one connection per session" if options.reuse else "one connection per message"
    print(f"\nmilters, {size}, {options.sessions} sessions, {connections}, {options.rounds} rounds")
    head = ("accepted/s", "lowest-highest", "/postfix", "CPU s/1000", "/pymilter", "peak MiB")
    print(f"{'':14} {head[0]:>10} {head[1]:>16} {head[2]:>9} {head[3]:>11} {head[4]:>10} {head[5]:>9}")
    cpu = {one.name: statistics.median(one.cpu) for one in everybody if one.pid is not None}
    rows: list[dict[str, object]] = []
    for one in everybody:
        rate = statistics.median(one.rates)
        ratio = statistics.median(one.ratios) if one.ratios else None
        own = cpu.get(one.name)
        to_pymilter = own / cpu["pymilter"] if own is not None and cpu.get("pymilter") else None
        shown = [f"{value:.2f}" if value is not None else "-" for value in (ratio, own, to_pymilter)]
        spread = f"{min(one.rates):.0f}-{max(one.rates):.0f}"
        peak = f"{one.peak_kib / 1024:.0f}" if one.pid is not None else "-"
        print(f"{one.name:14} {rate:10.0f} {spread:>16} {shown[0]:>9} {shown[1]:>11} {shown[2]:>10} {peak:>9}")
        rows.append({"size": size, "contender": one.name, "rate": rate, "rates": one.rates, "to_postfix": ratio,
                     "cpu_per_1000": own, "cpu_to_pymilter": to_pymilter})  # fmt: skip
    return rows


def profile(options: argparse.Namespace) -> None:
    """One kaifu under py-spy, and where its time went."""
    spy = py_spy()
    if spy is None:
        sys.exit("milter_bench: --profile needs py-spy")
    name = "kaifu keep" if "kaifu keep" in options.only else "kaifu add"
    with system_folder() as folder:
        output = folder / "profile"
        under: list[str | Path] = [spy, "record", "--gil", "-f", "raw", "-r", "500", "-o", output, "--"]
        with ours(folder, name, KEEP if name == "kaifu keep" else ADD, under) as one, postfix(folder, [one]) as done:
            rate = run(one, options.sizes[0], options, done)
        print(f"{name}, {options.sizes[0]}: {rate:.0f} accepted/s, {one.cpu[0]:.2f} CPU s per 1000 under the profiler")
        hottest(output.read_text(), options.top)


def main() -> None:
    parser = options_of(__doc__, ["2KB"], 'pymilter "kaifu add"')
    options = parser.parse_args()
    if why_not := missing("postfix", "smtp-source", "opendkim", "openssl"):
        sys.exit(f"milter_bench: {why_not}")
    try:
        import milter  # noqa: F401 - the contenders need it
    except ImportError:
        sys.exit("milter_bench: pymilter could not be built here")
    if options.quick:
        options.rounds, options.scale = 2, options.scale / 2
    if options.profile:
        profile(options)
        return
    all_sizes(options, lambda size: table(size, measure(size, options), options))


if __name__ == "__main__":
    main()
