"""What somebody sees at a terminal, and when: from the command to the first rows, and from a key to the rows that it brings; with the memory that takes.

For :mod:`tests.bench.tui_bench`. The installed command runs in a terminal; what must appear there is worked out from the ledger beforehand
(recipients of the rows that fit), and the time is that until most of it was written. Nothing but a terminal would be quicker.
"""

from __future__ import annotations

import math
import sqlite3
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from tests.bench.organisation import DAY, FREQUENT, RARE
from tests.bench.tui_questions import Facts, facts_of, fill_index
from tests.bench.tui_terminal import CLEAR, END, ENTER, ESCAPE, HOME, PAGE_DOWN, Terminal

from kaifu.proxy.ledger_keys import search_key

_IDLE = 5.0
"""Seconds for which nothing happens."""
_SEEN = 8
"""Rows that are looked for, of which half must have come."""
_CELLS = 12
"""Characters of an address that fit."""
_HEIGHT = 34
"""Rows that a screen holds, or a few more."""

Figures = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Step:
    """``keys`` bring about that most of ``rows`` are seen. ``typed``: what is written before, and by which sign each part of it was taken; ``after``: leads back to the whole list."""

    keys: str
    rows: tuple[str, ...]
    typed: tuple[tuple[str, str], ...] = ()
    after: str = ""


def measure(ledger: Path, rounds: int) -> Figures:
    """Milliseconds and megabytes: medians, and the extremes. The index of subjects is filled before: what somebody finds who was here yesterday."""
    found: dict[str, list[float]] = {}
    steps = dict(_steps(ledger))
    fill_index(ledger)
    for _ in range(rounds):
        with Terminal("--ledger", f"sqlite:///{ledger}") as terminal:
            for name, value in _session(terminal, steps):
                found.setdefault(name, []).append(math.nan if value is None else value)
    return {
        name: {"median": statistics.median(all_), "least": min(all_), "most": max(all_)} for name, all_ in found.items()
    }


def wait_for_start(terminal: Terminal) -> float:
    """When the first screen was drawn (:func:`time.perf_counter`). Ends the program if none was."""
    drawn = terminal.wait(lambda shown: "Quit" in shown)
    if drawn is None:
        sys.exit(f"kaifu tui did not start:\n{terminal.text()}")
    return drawn


def _session(terminal: Terminal, steps: dict[str, Step]) -> Iterator[tuple[str, float | None]]:
    drawn = wait_for_start(terminal)
    yield "start to the first screen", 1e3 * (drawn - terminal.began)
    whole = steps[LIST].rows
    complete = terminal.wait_for_some(steps[OVERVIEW].rows, _SEEN // 2)
    yield "start to its newest answers", complete and 1e3 * (complete - terminal.began)
    terminal.rest()
    yield "memory, MB: overview", terminal.resident / 1e6
    before, since = terminal.cpu, time.monotonic()
    time.sleep(_IDLE)
    yield "processor while nothing happens, 1/1000", 1e3 * (terminal.cpu - before) / (time.monotonic() - since)

    for name, step in steps.items():
        if step.typed:
            for keys, sign in step.typed:
                terminal.press(keys)
                if terminal.wait(lambda shown, sign=sign: sign in shown, 20) is None:  # type: ignore[misc]
                    sys.exit(f"no {sign} came of {keys!r}:\n{terminal.text()[:5000]}")
        pressed = terminal.press(step.keys)
        seen = terminal.wait_for_some(step.rows, max(1, min(_SEEN, len(step.rows)) // 2), 30)
        yield name, seen and 1e3 * (seen - pressed)
        terminal.rest()
        if step.after:
            terminal.press(step.after)
            terminal.wait_for_some(whole, _SEEN // 2, 30)
            terminal.rest()
    yield "memory, MB: after all this", terminal.resident / 1e6


_MAIL = "m.kind = 'mail'"
"""What the list shows at first."""
LIST, OVERVIEW = "receipts, from the overview", "overview, from the receipts"


def _steps(ledger: Path) -> Iterator[tuple[str, Step]]:
    """What is done, one after another, and what must be seen then."""
    known = facts_of(ledger)
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as db:
        whole = _rows(db, _MAIL)
        query = f"SELECT m.sender, r.address {_FROM} WHERE {_MAIL} ORDER BY r.at DESC, r.id DESC LIMIT {_HEIGHT}"
        seen = tuple({each[:_CELLS] for row in db.execute(query) for each in row if each})
        yield LIST, Step("2", whole)
        yield "page down", Step(PAGE_DOWN, _rows(db, _MAIL, skip=_HEIGHT, seen=seen))
        yield "the end", Step(END, _rows(db, _MAIL, way="ASC", seen=seen))
        yield "back to the start", Step(HOME, whole)
        for text, condition, values in _filters(known):
            yield f"filter {text}", Step(ENTER, _rows(db, condition, *values, seen=seen), _line(text), ESCAPE)
        day = datetime.fromtimestamp((known.newest - 380 * DAY) // 1_000_000, UTC).date()
        end = (day - date(1970, 1, 1)).days * DAY + DAY
        yield (
            "jump to a date",
            Step(ENTER, _rows(db, f"{_MAIL} AND r.at < ?", end, seen=seen), _date(day.isoformat()), HOME),
        )
        newest = f"SELECT m.message_id {_FROM} WHERE {_MAIL} ORDER BY r.at DESC, r.id DESC LIMIT 1"
        yield "open a detail", Step(ENTER, (db.execute(newest).fetchone()[0][:16],), after=ESCAPE)
        answers = (
            "SELECT by_address FROM evidence WHERE counts = 1 AND by_address IS NOT NULL ORDER BY entry DESC LIMIT ?"
        )
        yield OVERVIEW, Step("1", tuple(each[:_CELLS] for (each,) in db.execute(answers, (_SEEN,))))


def _line(text: str) -> tuple[tuple[str, str], ...]:
    """Into the filter line, which is emptied first: then it shows an example."""
    return ("/", "Leave the line"), (CLEAR, "partner.example since:7d"), (text, text[-2:])


def _date(text: str) -> tuple[tuple[str, str], ...]:
    return ("g", "Date or time"), (text, text[-2:])


def _filters(known: Facts) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """What is typed, and which rows it means."""
    subject = "instr(m.subject, ?) > 0"
    domain = search_key("x@" + known.domain).removesuffix("x")
    at_domain = "r.address_key >= ? AND r.address_key < ?"
    bounds = domain, domain[:-1] + "A"
    yield FREQUENT, subject, (FREQUENT,)
    yield RARE, subject, (RARE,)
    yield "state:failed", "r.state = ?", ("failed",)
    yield "state:waiting", "r.state = ?", ("waiting",)
    yield f"to:{known.person}", "r.address_key = ?", (search_key(known.person),)
    yield f"to:@{known.domain}", at_domain, bounds
    mixed = f"{at_domain} AND r.state = ? AND {subject}"
    yield f"to:@{known.domain} state:waiting Invoice", mixed, (*bounds, "waiting", "Invoice")


_FROM = "FROM recipients r JOIN messages m ON m.id = r.message"


def _rows(
    db: sqlite3.Connection,
    condition: str,
    *values: object,
    way: str = "DESC",
    skip: int = 0,
    seen: tuple[str, ...] = (),
) -> tuple[str, ...]:
    """Who sent the first rows of a list, as far as it fits, without who was ``seen`` before. Asked plainly, by no index of a screen's choice."""
    sql = f"SELECT m.sender {_FROM} WHERE {condition} ORDER BY r.at {way}, r.id {way} LIMIT ? OFFSET ?"
    senders = (sender[:_CELLS] for (sender,) in db.execute(sql, (*values, _HEIGHT - 8, skip)) if sender)
    return tuple(dict.fromkeys(sender for sender in senders if sender not in seen))[:_SEEN]
