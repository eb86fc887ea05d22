"""kaifu is killed at random moments while clients keep sending: no mail and no record is lost.

Clients send each message again and again until it is taken (250), as MTAs do. The next hop keeps everything it is given. However
often the relay dies in between: what a client heard 250 for is at the next hop and in the ledger, or, if it is a receipt
that is withheld, in the ledger alone; and nothing is at the next hop that the ledger does not know.
"""

from __future__ import annotations

import random
import re
import smtplib
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.postfix_harness import free_port
from tests.postfix_site import receipt
from tests.session_next_hop import DEADLINE, NextHop, poll
from tests.session_relay import Relay

POLICY = """\
version: 1
rules:
  - name: partners are asked
    when: {direction: outbound, to: "@partner.example"}
    then: {request: add}
"""
CLIENTS = 6


@dataclass(frozen=True)
class Letter:
    """A message to be sent. ``original``: the id of the message that it is a receipt for."""

    id: str
    sender: str
    recipients: tuple[str, ...]
    octets: bytes
    original: str | None = None


@dataclass
class Load:
    """Clients that send until told to stop, each message until it is taken. ``taken``: those that got 250, by id."""

    port: int
    seed: int
    taken: dict[str, Letter] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        for number in range(CLIENTS):
            thread = threading.Thread(target=self._client, args=(number,), daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Let every client finish what it is sending."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(DEADLINE)
            assert not thread.is_alive(), "a client could not get rid of its message"

    def wait_for(self, count: int) -> None:
        """Wait until that many messages have been taken in all."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.taken) >= count or self.refused, DEADLINE):
                raise AssertionError(f"only {len(self.taken)} of {count} messages were taken within {DEADLINE:g} s")

    def _client(self, number: int) -> None:
        choose = random.Random(f"{self.seed} {number}")
        mine: list[Letter] = []
        serial = 0
        while not self._stopping.is_set():
            serial += 1
            letter = _compose(f"{number}.{serial}", choose, mine)
            if self._deliver(letter) and letter.original is None:
                mine.append(letter)

    def _deliver(self, letter: Letter) -> bool:
        while True:
            code, text = self._attempt(letter)
            if 200 <= code < 300:
                with self._changed:
                    self.taken[letter.id] = letter
                    self._changed.notify_all()
                return True
            if code >= 500:
                with self._changed:
                    self.refused.append(f"{letter.id}: {code} {text}")
                    self._changed.notify_all()
                return False
            self._stopping.wait(0.005)

    def _attempt(self, letter: Letter) -> tuple[int, str]:
        """Send once; the reply that decided, or 0 when the relay was not there or went away before it."""
        client = smtplib.SMTP(timeout=DEADLINE)
        try:
            replies = [
                client.connect("127.0.0.1", self.port),
                client.ehlo("client.example"),
                client.mail(letter.sender),
            ]
            replies += [client.rcpt(address) for address in letter.recipients]
            bad = [reply for reply in replies if not 200 <= reply[0] < 300]
            code, text = bad[0] if bad else client.data(letter.octets)
            return code, text.decode("utf-8", "replace")
        except smtplib.SMTPResponseException as error:
            return error.smtp_code, str(error.smtp_error)
        except (OSError, smtplib.SMTPException) as error:
            return 0, str(error)
        finally:
            with suppress(OSError, smtplib.SMTPException):
                client.quit()


def _compose(number: str, choose: random.Random, mine: list[Letter]) -> Letter:
    """A message to one partner, or to a partner and somebody else (two outcomes), or a receipt for an earlier one."""
    kind = choose.random()
    if mine and kind < 0.2:
        original = mine.pop(choose.randrange(len(mine)))
        mdn = receipt(original.recipients[0], original.sender, original.id)
        return Letter(f"receipt.{number}", "", (original.sender,), mdn, original.id)
    id, sender = f"{number}@example.co.jp", f"s{number}@example.co.jp"
    recipients = (f"p{number}@partner.example", f"o{number}@other.example")[: 1 if kind < 0.8 else 2]
    text = "All work and no play.\r\n" * choose.choice((1, 20, 500, 8000))
    header = f"From: <{sender}>\r\nTo: <{recipients[0]}>\r\nSubject: {number}\r\nMessage-ID: <{id}>\r\n\r\n"
    return Letter(id, sender, recipients, (header + text).encode())


@dataclass
class Place:
    """A directory with a ledger, and a port, for one relay after the other. ``relay``: the present one."""

    directory: Path
    next_hop: NextHop
    workers: int = 1
    port: int = field(default_factory=free_port)
    relay: Relay = field(init=False)

    def start(self) -> None:
        """A new relay, which serves on return."""
        settings = {"relay": {"listen": f"127.0.0.1:{self.port}", "workers": self.workers}}
        self.relay = Relay(self.directory, self.next_hop.port, POLICY, settings)
        self.relay.start()


@contextmanager
def place(directory: Path, workers: int = 1) -> Iterator[Place]:
    next_hop = NextHop()
    try:
        yield Place(directory, next_hop, workers)
    finally:
        next_hop.stop()


def arrived(next_hop: NextHop) -> Counter[tuple[str, str]]:
    """How often the next hop got each message for each recipient: by Message-ID and address."""
    found: Counter[tuple[str, str]] = Counter()
    for transaction in next_hop.transactions:
        id = re.search(rb"(?im)^Message-ID: <(.*?)>\r$", transaction.data)
        assert id is not None, transaction.data[:500]
        for command in transaction.recipients:
            address = re.search(rb"<(.*?)>", command)
            assert address is not None
            found[id[1].decode(), address[1].decode()] += 1
    return found


def nothing_is_lost(load: Load, next_hop: NextHop, rows: list[dict[str, Any]]) -> None:
    """What must hold after whatever happened. ``rows``: the ledger's."""
    assert load.refused == []
    there = arrived(next_hop)
    recorded = Counter((row["message_id"], row["to"]) for row in rows)
    assert [key for key, count in recorded.items() if count > 1] == [], "a retry was counted as another message"
    mail = [letter for letter in load.taken.values() if letter.original is None]
    receipts = [letter for letter in load.taken.values() if letter.original is not None]
    expected = {(letter.id, to) for letter in mail for to in letter.recipients}
    assert expected - there.keys() == set(), "answered 250 and not at the next hop"
    asked = {key for key in expected if key[1].endswith("@partner.example")}
    assert asked - recorded.keys() == set(), "answered 250 and not in the ledger"
    passed_on = {key for key in there if key[1].endswith("@partner.example")}
    assert passed_on - recorded.keys() == set(), "at the next hop and not in the ledger"
    assert [key for key in there if key[0].startswith("receipt.")] == [], "a receipt that the policy withholds went on"
    displayed = {row["message_id"] for row in rows if row["state"] == "displayed"}
    assert {letter.original for letter in receipts} - displayed == set(), "a receipt was withheld and not recorded"


def nothing_went_on_unrecorded(next_hop: NextHop, relay: Relay) -> None:
    """What must hold when a relay has just died, before any client comes again: the record came before the final dot."""
    recorded = {(row["message_id"], row["to"]) for row in relay.receipts()}
    there = {key for key in arrived(next_hop) if key[1].endswith("@partner.example")}
    assert there - recorded == set(), "at the next hop and not in the ledger"


@contextmanager
def under_load(where: Place, seed: int) -> Iterator[Load]:
    """Clients send while something is done to the relay or to the next hop; then everything must be there."""
    load = Load(where.port, seed)
    where.start()
    load.start()
    try:
        yield load
        load.wait_for(len(load.taken) + CLIENTS)
        load.stop()
        where.relay.stop()
        nothing_is_lost(load, where.next_hop, where.relay.receipts())
    finally:
        where.relay.kill()


def kill_again_and_again(where: Place, kills: int, seed: int) -> None:
    """The loop. Moments are chosen in turn by the clock, by what the next hop was told, and while it owes an answer."""
    choose = random.Random(seed)
    with under_load(where, seed) as load:
        for number in range(kills):
            load.wait_for(len(load.taken) + choose.randint(5, 30))
            if number % 3 == 0:
                threading.Event().wait(choose.uniform(0, 0.03))
            elif number % 3 == 1:
                await_command(where.next_hop, choose.randint(1, 60))
            else:
                where.next_hop.on("dot", "hold")
                where.next_hop.wait(lambda: not where.next_hop.rules, "a message at the next hop")
            where.relay.kill()
            if number % 3 == 2:
                where.next_hop.release(b"250 2.0.0 Ok")
            nothing_went_on_unrecorded(where.next_hop, where.relay)
            where.start()


def await_command(next_hop: NextHop, count: int) -> None:
    """Return when the next hop has just been told something for the ``count``-th time from now, and not answered it yet."""
    left = count
    happened = threading.Event()

    def told(who: str, octets: bytes) -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            happened.set()

    next_hop.told = told
    assert happened.wait(DEADLINE), "the next hop was told nothing more"
    next_hop.told = lambda who, octets: None


@pytest.mark.parametrize("workers", [1, 2])
def test_a_relay_that_is_killed_loses_neither_mail_nor_records(tmp_path: Path, workers: int) -> None:
    with place(tmp_path, workers) as where:
        kill_again_and_again(where, kills=6, seed=8098 + workers)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("workers", "seed"), [(1, 5321), (1, 3461), (2, 3464)])
def test_a_relay_that_is_killed_a_hundred_times_loses_nothing(tmp_path: Path, workers: int, seed: int) -> None:
    with place(tmp_path, workers) as where:
        kill_again_and_again(where, kills=100, seed=seed)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_relay_that_is_stopped_under_load_finishes_what_it_has_begun(tmp_path: Path, workers: int) -> None:
    with place(tmp_path, workers) as where:
        with under_load(where, 42) as load:
            for _ in range(3):
                load.wait_for(len(load.taken) + 25)
                where.relay.stop()
                where.start()
        twice = [key for key, count in arrived(where.next_hop).items() if count > 1]
        assert twice == [], "a message under way was not finished, and its client had to send it again"


def test_a_next_hop_that_dies_under_load_costs_no_mail(tmp_path: Path) -> None:
    with place(tmp_path) as where, under_load(where, 7) as load:
        for _ in range(3):
            load.wait_for(len(load.taken) + 25)
            await_command(where.next_hop, 10)
            where.next_hop.stop()
            before = len(where.relay.log)
            poll(lambda before=before: len(where.relay.log) > before, "the relay to notice")  # type: ignore[misc]
            where.next_hop.start()
