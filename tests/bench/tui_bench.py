"""How the screens do on a large ledger: questions below the screens, start and keys in a terminal, memory, and what an open screen costs the relay.

    python tests/bench/tui_bench.py [--messages 1000000] [--than 100000] [--rounds 5] [--json FILE]
    python tests/bench/tui_bench.py --ledgers SMALL.db LARGE.db         with ledgers of ledger_fill.py; they are copied
    python tests/bench/tui_bench.py --only questions | screens | beside

Makes a ledger of two years with so many messages and one with fewer (or takes copies), and prints for each what a question or a key takes, and how that has
grown with the ledger: 1.0 is not at all. Everything is warm: what is measured was in memory. Says first how much space and time it takes.

``beside``: how fast the ledger takes messages (as :mod:`tests.bench.ledger_rate` writes them: nothing but the ledger, so nothing hides what a screen costs) while
a screen is open or moves, in pairs with none just before. Medians of the ratios; 1.00 is not slowed. *processor*: how much of one the
screen's own process takes meanwhile.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))

from tests.bench import ledger_rate, tui_questions, tui_screens
from tests.bench.measuring import machine, show
from tests.bench.tui_terminal import HOME, PAGE_DOWN, Terminal

PARTS = ("questions", "screens", "beside")
Figures = dict[str, dict[str, float]]
"""What was measured, and its figures."""


def made(folder: Path, messages: int) -> Path:
    """A ledger with so many messages. Ends the program when there is no room."""
    path = folder / f"{messages}.db"
    program = Path(__file__).with_name("ledger_fill.py")
    command: list[str | Path] = [sys.executable, program, "--ledger", path, "--messages", str(messages)]
    if subprocess.run(command, check=False).returncode:
        sys.exit(1)
    return path


def copied(folder: Path, ledger: Path) -> Path:
    """A copy that may be written to."""
    if shutil.disk_usage(folder).free < 1.2 * ledger.stat().st_size:
        sys.exit(f"not enough room at {folder} for a copy of {ledger}")
    path = folder / f"{ledger.stat().st_size}-{ledger.name}"
    shutil.copyfile(ledger, path)
    path.chmod(0o600)
    return path


def questions(ledger: Path, rounds: int) -> Figures:
    """Below the screens."""
    return {name: asdict(timed) for name, timed in tui_questions.ask(ledger, rounds)}


def printed(title: str, column: str, small: Figures, large: Figures) -> None:
    """A table of both ledgers; ``column``: whose growth is shown. The other columns are of the larger."""
    others = [name for name in next(iter(large.values())) if name != column]
    print(f"\n{title:<46}{'smaller':>10}{'larger':>10}{'growth':>8}" + "".join(f"{name:>10}" for name in others))
    for name, figures in large.items():
        before = small[name][column] if name in small else math.nan
        growth = f"{figures[column] / before:8.1f}" if before else " " * 8
        more = "".join(f"{figures[other]:10.1f}" for other in others)
        print(f"{name:<46}{before:10.1f}{figures[column]:10.1f}{growth}{more}")


# --- what an open screen costs the relay ------------------------------------------------------------------------


@contextmanager
def _moving(terminal: Terminal, keys: str, seconds: float = 0.2) -> Iterator[None]:
    """Somebody who presses keys all the time."""
    end = threading.Event()

    def press() -> None:
        turn = 0
        while not end.wait(seconds):
            terminal.press(keys.split()[turn % len(keys.split())])
            turn += 1

    thread = threading.Thread(target=press)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


OPEN: dict[str, tuple[str, str]] = {
    "overview open": ("1", ""),
    "receipts open": ("2", ""),
    "receipts scrolled, 5 keys a second": ("2", f"{PAGE_DOWN} {PAGE_DOWN} {PAGE_DOWN} {HOME}"),
}
"""Keys that lead to a screen, and those that are pressed again and again."""


def beside(ledger: Path, rounds: int, rows: int) -> Figures:
    """Messages a second while a screen is open, over those just before without one; and what the screen takes of a processor."""
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in OPEN}
    for turn in range(rounds):
        for name, (to, keys) in OPEN.items():
            show(f"beside: {name}, {turn + 1} of {rounds}")
            alone, _ = _rate(ledger, rows)
            with ExitStack() as stack:
                terminal = stack.enter_context(Terminal("--ledger", f"sqlite:///{ledger}"))
                tui_screens.wait_for_start(terminal)
                terminal.press(to)
                if keys:
                    stack.enter_context(_moving(terminal, keys))
                before = terminal.cpu
                together, wall = _rate(ledger, rows)
                found[name].append((together / alone, together, (terminal.cpu - before) / wall))
    show("")
    told: Figures = {}
    for name, measured in found.items():
        ratios, rates, used = zip(*measured, strict=True)
        told[name] = {
            "ratio": statistics.median(ratios),
            "least": min(ratios),
            "most": max(ratios),
            "messages/s": statistics.median(rates),
            "processor": statistics.median(used),
        }
    return told


def _rate(ledger: Path, rows: int) -> tuple[float, float]:
    """Messages a second that the ledger takes, and for how many seconds."""
    wall, _ = ledger_rate.within(ledger_rate.run(ledger, rows, 20, False), "uvloop")
    return rows / wall, wall


# --- command line -----------------------------------------------------------------------------------------------


def main() -> None:
    """Command line."""
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    options.add_argument("--messages", type=int, default=1_000_000)
    options.add_argument("--than", type=int, default=100_000, help="messages of the smaller ledger")
    options.add_argument(
        "--ledgers", type=Path, nargs="+", metavar="FILE", help="take these: the smaller and the larger"
    )
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--rows", type=int, default=20_000, help="messages of each measurement beside a screen")
    options.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    options.add_argument("--directory", type=Path, help="where to make ledgers (default: the temporary directory)")
    options.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    chosen = options.parse_args()
    if chosen.ledgers and len(chosen.ledgers) != 2:
        options.error("two ledgers are compared: the smaller and the larger")
    folder = Path(tempfile.mkdtemp(prefix="kaifu-tui-bench-", dir=chosen.directory))
    try:
        print(machine())
        if chosen.ledgers:
            small, large = (copied(folder, ledger.absolute()) for ledger in chosen.ledgers)
        else:
            small, large = made(folder, chosen.than), made(folder, chosen.messages)
        found = measured(small, large, chosen)
        if chosen.json:
            chosen.json.write_text(json.dumps(found, indent=1))
    finally:
        shutil.rmtree(folder)


def measured(small: Path, large: Path, chosen: argparse.Namespace) -> dict[str, dict[str, Figures]]:
    """All that was asked for, printed as it comes."""
    found: dict[str, dict[str, Figures]] = {}
    for part, ask, title, column in (
        ("questions", questions, "below the screens, ms", "again"),
        ("screens", tui_screens.measure, "from a key to what it brings, ms", "median"),
    ):
        if part in chosen.only:
            both = []
            for which, ledger in (("smaller", small), ("larger", large)):
                show(f"{part}: the {which} ledger")
                both.append(ask(ledger, chosen.rounds))
            show("")
            printed(title, column, *both)
            found[part] = dict(zip(("smaller", "larger"), both, strict=True))
    if "beside" in chosen.only:
        figures = beside(large, chosen.rounds, chosen.rows)
        columns = ("ratio", "least", "most", "messages/s", "processor")
        print(f"\n{'the ledger beside a screen':<46}" + "".join(f"{column:>12}" for column in columns))
        for name, each in figures.items():
            print(f"{name:<46}" + "".join(f"{each[column]:12.2f}" for column in columns))
        found["beside"] = {"larger": figures}
    return found


if __name__ == "__main__":
    main()
