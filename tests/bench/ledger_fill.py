"""Makes a large ledger that is a real one: two years of an organisation's mail, as the relay would have recorded it.

    python tests/bench/ledger_fill.py --ledger FILE [--messages 100000] [--until 2026-11-22T12:00Z] [--seed 1] [--settings]

About so many messages are recorded (receipts and delivery reports are messages too), with a good third more recipients. What is written goes
through the journal that the relay writes with, entry by entry, and everything that is derived is derived by its code; ``kaifu ledger verify``
finds the ledger whole. Only three things differ from a ledger that grew: nothing is synced to disk until the end, indexes that nothing
needs meanwhile are made when the tables are full (so they are packed more tightly), and a batch holds about eight entries, as it does
under load. The same seed and time give the same content; salts, the ledger's id and its keys are random, as they must be.

``--settings``: puts kaifu.yaml and policy.yaml beside the ledger. Says how much space and time it takes and refuses when there is not
enough room; an existing file is left alone.
"""

from __future__ import annotations

import argparse
import heapq
import os
import random
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2]))

from tests.bench.answers import Answers, Asked, Reaction, reactions
from tests.bench.judged import Judged, Sort, judged
from tests.bench.organisation import (
    DAY,
    EDITIONS,
    HOUR,
    OURS,
    YEARS_BACK,
    Domain,
    Organisation,
    Weighted,
    hours,
    organisation,
    subject,
)
from tests.bench.people_acts import Acts

from kaifu.policies.facts import Direction
from kaifu.proxy.ledger import Outcome, Record
from kaifu.proxy.ledger_entries import microseconds, moment_of
from kaifu.proxy.ledger_file import connect, prepare
from kaifu.proxy.ledger_people import PeopleJournal

OCTETS_PER_MESSAGE = 2600
MICROSECONDS_PER_MESSAGE = 300
ANSWERS_PER_MESSAGE = 0.87
"""How many receipts and reports come for each message that somebody writes."""
_AT_ONCE = 20_000
_BATCH = 8
_SETTINGS = """\
realm: [example.co.jp, .example.co.jp]
policy: policy.yaml
ledger: sqlite:///{name}
zone: Asia/Tokyo
border: [mx.example.co.jp]
relay:
  listen: 127.0.0.1:10025
  next_hop: 127.0.0.1:10026
"""
_NEEDED = ("messages_id_hash", "recipients_message", "entries_message")
"""Indexes that the journal asks while it fills, beside those of small tables and of evidence."""


class Past(PeopleJournal):
    """A journal whose clock is set: ``at``, UTC microseconds."""

    at = 0

    def _write(self, kind: str, at: int, message: int | None, body: dict[str, Any], cells: dict[str, Any]) -> int:
        return super()._write(kind, self.at, message, body, cells)

    def _look_up(self, keys: Sequence[bytes]) -> None:
        """Nobody repeats an attempt here but at once, when it is known anyway."""
        self._attempts.update(dict.fromkeys(keys))

    def seal(self, least: int = 1) -> None:
        """What a commit does to entries, without one, when there are so many."""
        if len(self._entries) + len(self._leaves) >= least:
            self.flush()
            if self._leaves:
                self._seal()


_SORTS = Weighted(
    (Sort.CONTRACT, Sort.INVOICE, Sort.NOTICE, Sort.PERSONNEL, Sort.ASKED_BY_CLIENT, Sort.INTERNAL, Sort.FROM_PARTNER,
     Sort.FROM_STRANGER),
    (18, 24, 5, 4, 22, 8, 13, 6),
)  # fmt: skip
_FROM = {
    Sort.CONTRACT: ("legal", "contract"),
    Sort.INVOICE: ("keiri", "invoice"),
    Sort.NOTICE: ("support", "notice"),
    Sort.PERSONNEL: ("jinji", "personnel"),
}
"""Department that writes, and about what."""


class Filling:
    """Writes the mail of two years, in order of time."""

    def __init__(self, journal: Past, chance: random.Random, until: int, total: int) -> None:
        self._journal = journal
        self._chance = chance
        self._until = until
        self._total = total
        self.who: Organisation = organisation(chance)
        self.editions: list[Judged] = [judged(edition, self.who) for edition in range(len(EDITIONS))]
        self._answers = Answers(chance, self.editions[0])
        self._everybody = [person for people in self.who.departments.values() for person in people]
        self._coming: list[tuple[int, int, Asked, Reaction]] = []
        self._number = self.done = 0
        self.acts = Acts(journal, chance, until, max(12, total // 250))

    def run(self) -> Iterator[int]:
        """Fill; tells now and then how many messages there are."""
        begins = [(self._until - YEARS_BACK + day * DAY, edition) for edition, (day, *_) in enumerate(EDITIONS)]
        told = 0
        for hour, number in hours(self._until, round(self._total / (1 + ANSWERS_PER_MESSAGE))):
            while begins and hour >= begins[0][0]:
                self._decree(*begins.pop(0))
            self._count(hour, number)
            for at in sorted(self._chance.randrange(hour, hour + HOUR) for _ in range(number)):
                at = min(at, self._until - 1)
                self._catch_up(at)
                self._send(at)
            self.acts.until(hour)
            if self.done - told >= _AT_ONCE:
                told = self.done
                yield told
        self._catch_up(self._until)
        self.acts.until(self._until)
        yield self.done

    def _decree(self, at: int, edition: int) -> None:
        self._journal.at = at
        now = self._answers.judged = self.editions[edition]
        self._journal.policy(now.policy.digest, str(now.policy.mode), now.text, at)

    def _count(self, hour: int, number: int) -> None:
        """Mail that leaves no record: most of it."""
        if number:
            shares = (Direction.OUTBOUND, 9), (Direction.INBOUND, 14), (Direction.INTERNAL, 6)
            self._journal.count({(hour // HOUR, way.value, "mail"): number * share for way, share in shares})

    def _catch_up(self, at: int) -> None:
        """Everything that comes before then."""
        while self._coming and self._coming[0][0] < at:
            when, _, asked, told = heapq.heappop(self._coming)
            record = self._answers.record(told, asked)
            self._take(when, record, Outcome.WITHHELD if record.recipients and record.recipients[0].withheld else None)

    def _take(self, at: int, record: Record, outcome: Outcome | None = None) -> Any:
        """One record, and what came of it. ``outcome``: of the first recipient; accepted unless said otherwise."""
        journal = self._journal
        journal.at = at
        begun = journal.begin(record)
        if record.recipients:
            self.done += 1
            outcomes = [(each.address, Outcome.ACCEPTED) for each in record.recipients]
            reply = f"250 2.0.0 Ok: queued as {record.queue_id}"
            if outcome is not None:
                outcomes[0] = outcomes[0][0], outcome
                reply = _REPLIES[outcome]
            if outcome is not Outcome.UNKNOWN:
                journal.finish(begun, outcomes, reply, at, outcome is not Outcome.DEFERRED)
        journal.seal(_BATCH)
        return begun

    def _send(self, at: int) -> None:
        """Somebody writes."""
        chance, now = self._chance, self._answers.judged
        if chance.random() < 0.012:
            self._take(at, self._answers.stranger(at, self._stranger(), chance.choice(self._everybody)))
            return
        sort = _SORTS.draw(chance)
        sender, to, topic = self._people(sort)
        message_id = f"{chance.getrandbits(64):016x}@{sender.rpartition('@')[2]}"
        recipients = tuple([now.recorded(sort, sender, address) for address, _, _ in to])
        record = Record(
            moment_of(at), f"{chance.getrandbits(48):012X}", sender, chance.randbytes(32), message_id,
            subject=subject(chance, topic), sent_at=moment_of((at // 1_000_000 - chance.randrange(1, 20)) * 1_000_000),
            envid=f"{chance.getrandbits(40):010x}" if chance.random() < 0.1 else None, policy=now.policy.digest,
            recipients=recipients,
        )  # fmt: skip
        drawn = chance.random()
        outcome = Outcome.REFUSED if drawn < 0.008 else Outcome.DEFERRED if drawn < 0.012 else None
        begun = self._take(at, record, Outcome.UNKNOWN if drawn > 0.9997 else outcome)
        if outcome is Outcome.DEFERRED:
            at += 15 * 60_000_000
            again = Record(
                moment_of(at), f"{chance.getrandbits(48):012X}", sender, record.attempt_key, message_id,
                subject=record.subject, sent_at=record.sent_at, envid=record.envid, policy=record.policy, recipients=recipients,
            )  # fmt: skip
            self.done -= 1
            self._take(at, again)
        for place, ((number, _), (_, domain, several)) in enumerate(zip(begun.to, to, strict=True)):
            if place or outcome is not Outcome.REFUSED:
                self._expect(at, Asked(number, recipients[place], sender, message_id, domain, several))

    def _expect(self, at: int, asked: Asked) -> None:
        self.acts.consider(at, asked)
        for drawn in reactions(self._chance, at, asked):
            told = drawn._replace(token=self._chance.getrandbits(64))
            self._plan(asked, told)
            if told.what == "displayed" and self._chance.random() < 0.004:
                self._plan(asked, told._replace(at=told.at + HOUR))  # some mail programs tell it twice

    def _plan(self, asked: Asked, told: Reaction) -> None:
        self._number += 1
        heapq.heappush(self._coming, (told.at, self._number, asked, told))

    def _people(self, sort: Sort) -> tuple[str, list[tuple[str, Domain | None, bool]], str]:
        """Who writes to whom (address, domain of others, is it a list), and about what."""
        chance = self._chance
        department, topic = _FROM.get(sort, ("", "plain"))
        sender = chance.choice(self.who.departments[department] if department else self._everybody)
        if sort is Sort.PERSONNEL:
            sender = f"{chance.choice(('jinji', 'soumu'))}@{OURS}"
        many = 1 if (drawn := chance.random()) < 0.75 else 2 if drawn < 0.9 else chance.randrange(3, 6)
        if sort in (Sort.PERSONNEL, Sort.INTERNAL):
            return sender, [(each, None, False) for each in chance.sample(self._everybody, many)], topic
        if sort in (Sort.FROM_PARTNER, Sort.FROM_STRANGER):
            stranger = sort is Sort.FROM_STRANGER
            writer = self._stranger() if stranger else self._partner()[0]
            return writer, [(each, None, False) for each in chance.sample(self._everybody, min(many, 2))], topic
        to: dict[str, tuple[str, Domain | None, bool]] = {}
        for _ in range(many):
            found = self._partner()
            to[found[0]] = found
        return sender, list(to.values()), topic

    def _partner(self) -> tuple[str, Domain, bool]:
        chance = self._chance
        domain = self.who.partners.draw(chance)
        if domain.lists and chance.random() < 0.12:
            return chance.choice(domain.lists), domain, True
        return domain.people[int(len(domain.people) * chance.random() ** 2)], domain, False

    def _stranger(self) -> str:
        return self._chance.choice(self.who.strangers.draw(self._chance).people)


_REPLIES = {
    Outcome.WITHHELD: "250 2.0.0 Ok: recorded, and withheld by policy",
    Outcome.REFUSED: "550 5.1.1 User unknown",
    Outcome.DEFERRED: "451 4.3.0 Try again later",
    Outcome.UNKNOWN: "",
}


def fill(path: Path, messages: int, until: int, seed: int, say: Any = lambda *_: None) -> Filling:
    """Make the ledger. ``until``: UTC microseconds; ``say`` is told now and then how many messages there are. sqlite3's errors."""
    prepare(path, create=True)
    with closing(connect(path, write=True)) as db:
        for setting in (
            "journal_mode = OFF",
            "synchronous = OFF",
            "secure_delete = OFF",
            "cache_size = -1000000",
            "temp_store = FILE",
        ):
            db.execute(f"PRAGMA {setting}").fetchall()
        late = _without_indexes(db)
        journal = Past(db)
        journal.start()
        filling = Filling(journal, random.Random(seed), until, messages)
        for done in filling.run():
            journal.seal()
            journal.commit()
            journal.start()
            say(done)
        journal.commit()
        say(filling.done, "indexes")
        for statement in late:
            db.execute(statement)
        db.execute("PRAGMA journal_mode = WAL").fetchall()
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)
    return filling


def _without_indexes(db: sqlite3.Connection) -> list[str]:
    """Drop the indexes of large derived tables that nothing asks meanwhile; the statements that make them again."""
    made = db.execute(
        "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name IN ('messages', 'recipients')"
    ).fetchall()
    late = [(name, sql) for name, sql in made if name not in _NEEDED and sql]
    for name, _ in late:
        db.execute(f"DROP INDEX {name}")
    return [sql for _, sql in late]


def leave_settings(path: Path, filling: Filling) -> None:
    """Settings and the policy in force, beside the ledger."""
    path.with_name("policy.yaml").write_text(filling.editions[-1].text)
    path.with_name("kaifu.yaml").write_text(_SETTINGS.format(name=path.name))


def room(path: Path, messages: int) -> None:
    """Say what it takes; ends the program when the disk does not suffice."""
    needed = messages * OCTETS_PER_MESSAGE
    free = shutil.disk_usage(path.parent).free
    seconds = messages * MICROSECONDS_PER_MESSAGE / 1e6
    print(
        f"{messages} messages take about {needed / 1e9:.1f} GB and {seconds / 60:.0f} min; {free / 1e9:.1f} GB are free",
        flush=True,
    )
    if needed * 1.3 > free:
        sys.exit(f"not enough room at {path.parent}: {needed * 1.3 / 1e9:.1f} GB are wanted while indexes are made")


def _until(text: str) -> int:
    moment = datetime.fromisoformat(text)
    return microseconds(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def main() -> None:
    """Command line."""
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    options.add_argument("--messages", type=int, default=100_000)
    options.add_argument("--ledger", type=Path, required=True, metavar="FILE")
    options.add_argument(
        "--until", type=_until, default=time.time_ns() // 1000, metavar="TIME", help="RFC 3339; now by default"
    )
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--settings", action="store_true", help="leave kaifu.yaml and policy.yaml beside it")
    chosen = options.parse_args()
    path: Path = chosen.ledger.absolute()
    if path.exists():
        sys.exit(f"{path} exists; remove it first, or name another file")
    if not 1000 <= chosen.messages <= 20_000_000:
        sys.exit("between 1000 and 20 million messages can be made")
    room(path, chosen.messages)
    began = time.monotonic()

    def say(done: int, what: str = "messages") -> None:
        if sys.stderr.isatty():
            print(f"\r\x1b[K{done} {what}, {time.monotonic() - began:.0f} s", end="", file=sys.stderr, flush=True)

    filling = fill(path, chosen.messages, chosen.until, chosen.seed, say)
    if chosen.settings:
        leave_settings(path, filling)
    took, octets = time.monotonic() - began, path.stat().st_size
    print(
        f"{filling.done} messages in {took:.0f} s ({1e6 * took / filling.done:.0f} µs each), {octets / 1e9:.2f} GB"
        f" ({octets / filling.done:.0f} octets each)"
    )


if __name__ == "__main__":
    main()
