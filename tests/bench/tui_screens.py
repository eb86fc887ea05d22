"""What a key takes on the screens over a ledger, and what a terminal sees first.

For :mod:`tests.bench.tui_bench`. :func:`measure` drives the application without a terminal, key by key, until everything that a key brought about is on
the screen. :func:`started` runs the installed command in a terminal: from its start to the first screen, its figures and the first rows, and its memory.
"""

from __future__ import annotations

import math
import resource
import sqlite3
import statistics
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from zoneinfo import ZoneInfo

from tests.bench.organisation import FREQUENT, RARE
from tests.bench.tui_questions import Facts, facts_of
from tests.bench.tui_terminal import Terminal
from textual.pilot import Pilot
from textual.worker import WorkerCancelled

from kaifu.proxy.access import access, caller
from kaifu.proxy.ledger_cli import Chosen
from kaifu.proxy.settings import Roles
from kaifu.tui.app import KaifuApp

SIZE = (140, 40)
Keys = tuple[str, ...]
_IDLE = 5.0
"""Seconds for which nothing happens."""


def _filter(text: str) -> Keys:
    """Type a filter and take it."""
    return ("slash", "ctrl+u", *text, "enter")


def keys(known: Facts) -> dict[str, tuple[Keys, Keys]]:
    """What is pressed and measured, and what undoes it."""
    whole = _filter("")
    return {
        "a key that does nothing": (("f12",), ()),
        "receipts, from the overview": (("2",), ("1",)),
        "page down": (("pagedown",), ()),
        "the end": (("end",), ("home",)),
        "back to the start": (("home",), ("end",)),
        "no answer only": (("n",), ("n",)),
        f"filter {FREQUENT}": (_filter(FREQUENT), whole),
        f"filter {RARE}": (_filter(RARE), whole),
        "filter state:failed": (_filter("state:failed"), whole),
        "filter to: a person": (_filter(f"to:{known.person}"), whole),
        "filter to:@domain": (_filter(f"to:@{known.domain}"), whole),
        "open a detail": (("enter",), ("escape",)),
        "the whole list again": (whole, ()),
        "overview, from the receipts": (("1",), ("2",)),
    }


async def measure(ledger: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds for each: the first time, and the median of later ones."""
    known, found = facts_of(ledger), {}
    app = KaifuApp(Chosen(ledger, ZoneInfo("Asia/Tokyo"), access(caller(), Roles())), None, None, pulse_seconds=None)
    app.animation_level = "none"
    begin = time.perf_counter()
    async with app.run_test(size=SIZE) as pilot:
        await _settle(app, pilot)
        start = 1e3 * (time.perf_counter() - begin)
        found["the first screen, in a process that runs"] = {"again": start, "first": start}
        for name, (pressed, undone) in keys(known).items():
            if name == "page down":
                await _press(app, pilot, ("2",))
            took = []
            for _ in range(rounds + 1):
                took.append(1e3 * await _press(app, pilot, pressed))
                await _press(app, pilot, undone)
            found[name] = {"again": statistics.median(took[1:]), "first": took[0]}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    found["peak memory, MB"] = {"again": peak, "first": peak}
    return found


async def _press(app: KaifuApp, pilot: Pilot[None], pressed: Keys) -> float:
    """Seconds until nothing is left to do."""
    begin = time.perf_counter()
    if pressed:
        await pilot.press(*pressed)
        await _settle(app, pilot)
    return time.perf_counter() - begin


async def _settle(app: KaifuApp, pilot: Pilot[None]) -> None:
    while True:
        await pilot.pause()
        running = [worker for worker in app.workers if not worker.is_finished]
        if not running:
            return
        for worker in running:
            with suppress(WorkerCancelled):
                await worker.wait()


# --- in a terminal ----------------------------------------------------------------------------------------------


def wait_for_start(terminal: Terminal) -> float:
    """When the first screen was drawn (:func:`time.perf_counter`). Ends the program if none was."""
    drawn = terminal.wait(lambda shown: "Quit" in shown)
    if drawn is None:
        sys.exit(f"kaifu tui did not start:\n{terminal.text()}")
    return drawn


def started(ledger: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Medians and the extremes of what is seen when, in milliseconds after the command; and memory."""
    found: dict[str, list[float]] = {}

    def note(name: str, value: float | None) -> None:
        found.setdefault(name, []).append(math.nan if value is None else value)

    answered, received = _newest(ledger)
    for _ in range(rounds):
        with Terminal("--ledger", f"sqlite:///{ledger}") as terminal:
            began = terminal.began
            drawn = wait_for_start(terminal)
            complete = terminal.wait_for_some(answered)
            note("first screen drawn", 1e3 * (drawn - began))
            note("first screen with its figures", complete and 1e3 * (complete - began))
            pressed = terminal.press("2")
            rows = terminal.wait_for_some(received)
            note("first rows of the list after its key", rows and 1e3 * (rows - pressed))
            note("start to first rows of the list", rows and complete and 1e3 * (complete - began + rows - pressed))
            note("resident memory, MB", terminal.resident / 1e6)
            before, since = terminal.cpu, time.monotonic()
            time.sleep(_IDLE)
            note("processor while nothing happens, 1/1000", 1e3 * (terminal.cpu - before) / (time.monotonic() - since))
    return {
        name: {"median": statistics.median(all_), "least": min(all_), "most": max(all_)} for name, all_ in found.items()
    }


def _newest(ledger: Path) -> tuple[list[str], list[str]]:
    """What the overview and the list show first: addresses, as far as they fit."""
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as db:
        answers = (
            "SELECT by_address FROM evidence WHERE counts = 1 AND by_address IS NOT NULL ORDER BY entry DESC LIMIT 8"
        )
        rows = "SELECT address FROM recipients ORDER BY at DESC, id DESC LIMIT 8"
        return tuple([each[:12] for (each,) in db.execute(query)] for query in (answers, rows))  # type: ignore[return-value]
