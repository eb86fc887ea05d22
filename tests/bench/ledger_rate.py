"""How fast the ledger writes: begin and finish of one-recipient messages, by 20 tasks that wait for each.

    python tests/bench/ledger_rate.py --compare [--rounds 7]        what entries and their seals cost
    python tests/bench/ledger_rate.py [--rows 20000] [--tasks 20] [--people 1000000] [--look] [--loop uvloop|asyncio] [--keep FILE]

Prints messages per second, CPU time per message (all threads, event loop included) and the size of the file per message.
``--compare``: the same messages, in turns, into derived tables alone, with entries and cells, and with their seals as it is in
earnest. Medians of the rounds; what a step costs is the median of the differences within a round.

The file is made in ``--directory`` (default: the temporary directory), which decides what an fsync costs.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Coroutine
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

from kaifu.policies.facts import AskedBy, Direction
from kaifu.proxy import ledger_journal, ledger_writer
from kaifu.proxy.ledger import Ledger, Outcome, Query, Record, RecordedRecipient, RequestState
from kaifu.proxy.ledger_entries import Entry
from kaifu.proxy.ledger_journal import Journal
from kaifu.proxy.ledger_open import open_ledger

REASON = 'rule "contracts to partners ask for a receipt" (line 12) adds a request that points to the sender'


def record(number: int, chance: random.Random, people: int = 1_000_000) -> Record:
    """A message as the relay would record it, to one of so many people."""
    to = f"someone{chance.randrange(people)}@partner{chance.randrange(200)}.example"
    return Record(
        at=datetime.now(UTC),
        queue_id=f"q{number:08x}",
        sender=f"person{chance.randrange(min(people, 500))}@example.co.jp",
        attempt_key=chance.randbytes(32),
        message_id=f"{chance.getrandbits(96):024x}@mail.example.co.jp",
        subject=f"契約書のご確認 {number}",
        sent_at=datetime.now(UTC),
        policy="0123456789abcdef",
        recipients=(
            RecordedRecipient(
                address=to,
                direction=Direction.OUTBOUND,
                request=RequestState.ADDED,
                asked_by=AskedBy.POLICY,
                rule="contracts to partners ask for a receipt",
                reason=REASON,
                edits=("insert Disposition-Notification-To",),
            ),
        ),
    )


async def messages(ledger: Ledger, share: list[Record], look: bool) -> None:
    """One session: look, begin, wait, finish without waiting; as the relay does."""
    for one in share:
        if look:
            await ledger.look(Query(retry_key=one.attempt_key, consent_of=(one.recipients[0].address,)))
        begun = await ledger.begin(one)
        ledger.finish(begun, ((one.recipients[0].address, Outcome.ACCEPTED),), "250 2.0.0 Ok: queued as 4XyZ12abcd")


async def run(path: Path, rows: int, tasks: int, look: bool, people: int = 1_000_000) -> tuple[float, float]:
    """Wall and CPU seconds for that many messages."""
    chance = random.Random(1)
    records = [record(number, chance, people) for number in range(rows)]
    ledger = open_ledger(f"sqlite:///{path}")
    await ledger.check()
    if look:
        await ledger.look(Query(retry_key=b"x"))
    wall, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    await asyncio.gather(*(messages(ledger, records[part::tasks], look) for part in range(tasks)))
    await ledger.check()
    after = resource.getrusage(resource.RUSAGE_SELF)
    wall = time.perf_counter() - wall
    await ledger.close()
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


class Unsealed(Journal):
    """Writes entries and cells, and no seals."""

    def _seal(self) -> None:
        self._leaves.clear()


class TablesAlone(Unsealed):
    """Writes what is derived from entries, and not them."""

    def _write(self, kind: str, at: int, message: int | None, body: dict[str, Any], cells: dict[str, Any]) -> int:
        self._entry += 1
        self._derived.apply(Entry(self._entry, kind, at, message, body, cells))
        return self._entry


STEPS: dict[str, type[Journal]] = {
    "derived tables alone": TablesAlone,
    "and entries with cells": Unsealed,
    "and seals": Journal,
}


def within(work: Coroutine[Any, Any, tuple[float, float]], loop: str) -> tuple[float, float]:
    """What a piece of work gives, in an event loop of this kind."""
    if loop == "asyncio":
        return asyncio.run(work)
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def compare(folder: Path, chosen: argparse.Namespace) -> None:
    """Each step in turn, and what it adds to the one before."""
    used: dict[str, list[float]] = {name: [] for name in STEPS}
    rates: dict[str, list[float]] = {name: [] for name in STEPS}
    sizes: dict[str, float] = {}
    for turn in range(chosen.rounds):
        for name, step in STEPS.items():
            path = folder / f"{turn}.db"
            with ExitStack() as patches:
                patches.enter_context(patch.object(ledger_writer, "Journal", step))
                if step is not Journal:
                    patches.enter_context(patch.object(ledger_journal, "leaf", lambda _: b""))
                wall, cpu = within(run(path, chosen.rows, chosen.tasks, chosen.look, chosen.people), chosen.loop)
            used[name].append(1e6 * cpu / chosen.rows)
            rates[name].append(chosen.rows / wall)
            sizes[name] = size_of(path) / chosen.rows
            for end in ("", "-wal", "-shm"):
                path.with_name(path.name + end).unlink(missing_ok=True)
    print(
        f"{'':<24} {'messages/s':>10} {'µs CPU':>8} {'adds µs':>8} {'octets':>8}   per message, {chosen.rounds} rounds"
    )
    before: list[float] | None = None
    for name, figures in used.items():
        more = [one - other for one, other in zip(figures, before or figures, strict=True)]
        print(
            f"{name:<24} {statistics.median(rates[name]):>10.0f} {statistics.median(figures):>8.1f}"
            f" {statistics.median(more):>8.1f} {sizes[name]:>8.0f}"
        )
        before = figures


def size_of(path: Path) -> int:
    """Octets of a ledger's files."""
    return sum(os.path.getsize(f"{path}{end}") for end in ("", "-wal") if os.path.exists(f"{path}{end}"))


def main() -> None:
    """Command line."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=20_000)
    options.add_argument("--tasks", type=int, default=20)
    options.add_argument("--people", type=int, default=1_000_000, help="how many recipients there are (senders: 500)")
    options.add_argument("--look", action="store_true", help="also ask for consent and partial success before each")
    options.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    options.add_argument("--directory", type=Path)
    options.add_argument("--keep", type=Path, help="leave the ledger in this file")
    options.add_argument("--compare", action="store_true", help="what entries and their seals cost")
    options.add_argument("--rounds", type=int, default=7)
    chosen = options.parse_args()
    folder = Path(tempfile.mkdtemp(dir=chosen.directory))
    path = (chosen.keep or folder / "ledger.db").absolute()
    try:
        if chosen.compare:
            compare(folder, chosen)
            return
        wall, cpu = within(run(path, chosen.rows, chosen.tasks, chosen.look, chosen.people), chosen.loop)
        print(
            f"{chosen.rows / wall:.0f} messages/s, {1e6 * cpu / chosen.rows:.0f} µs CPU per message, "
            f"{size_of(path) / chosen.rows:.0f} octets per message"
        )
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
