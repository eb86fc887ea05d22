"""The journal: writes facts as entries and cells, and lets them take effect, within one transaction.

Called by the writer thread of :mod:`kaifu.proxy.ledger_sqlite` for the mail path; what people tell is written by its heir in
:mod:`kaifu.proxy.ledger_people`. A :class:`Journal` wraps a write connection; :meth:`Journal.start` opens a transaction,
:meth:`Journal.commit` writes everything with one fsync. Entries are numbered in the order of commits, also when
several processes write: numbers are read within the write transaction.

Fails with sqlite3's errors (the caller calls :meth:`Journal.rollback`), and with :class:`LedgerError` for a request that makes
no sense, which leaves the transaction as it was.
"""

from __future__ import annotations

import hmac
import os
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from .ledger import (
    Begun,
    Evidence,
    LedgerError,
    Outcome,
    Record,
    Served,
    Verdict,
)
from .ledger_acts import policy_in_force
from .ledger_apart import keep_unmatched, leave_traces, purge, secret, without_late
from .ledger_bodies import body_of, decided, evidence_body, ids_of, personal, report_of
from .ledger_derive import ATTEMPT_MICROSECONDS, Derived
from .ledger_entries import SALT_LENGTH, Cell, Entry, clean, encode, microseconds
from .ledger_file import begin_writing
from .ledger_keys import report_key
from .ledger_look import nobody_said
from .ledger_pairs import is_known, link, message_of
from .ledger_seal import batch_of, genesis, leaf, skip
from .ledger_states import answered, outcome_after

SERVED_SECONDS = 7 * 86400
PURGE_SECONDS = 3600.0
"""So often what has expired apart from the entries is deleted, while there are writes."""

PAUSE_SECONDS = 0.001
"""Who writes without pause waits so long before the next transaction while other processes write too."""
_KEYS_AT_ONCE = 20
_LOOK_UP = f"SELECT key, message, at FROM attempts WHERE key IN ({','.join('?' * _KEYS_AT_ONCE)}) ORDER BY message"


def now() -> int:
    """UTC microseconds since 1970."""
    return time.time_ns() // 1000


def _octets(value: object) -> bytes:
    """What should be octets. What somebody made of them must not keep mail from being recorded."""
    return value if isinstance(value, bytes) else b""


class _Begun(Begun):
    """A message just begun, with what :meth:`Journal.finish` would otherwise have to look up.

    ``to``: number and address of each recipient.
    """

    __slots__ = ("to",)
    to: tuple[tuple[int, str], ...]


class Journal:
    """Writes through one connection. Not safe for use by two threads at once."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._derived = Derived(db)
        self._entries: list[tuple[int, int | None, str]] = []
        self._cells: list[Cell] = []
        self._leaves: list[bytes] = []
        self._attempts: dict[bytes, tuple[int, int] | None] = {}
        self._answered: set[int] = set()
        self._nobody_said: bool | None = None
        self._secret = b""
        self._salts, self._salts_used = b"", 0
        self._committed_at = 0.0
        self._purge_at = 0.0
        self._shared = False
        self._entry = 0
        self._message = 0
        self._recipient = 0

    def start(self, keys: Sequence[bytes] = ()) -> None:
        """Open a write transaction, waiting for other writers, and letting them in when there are any.

        ``keys``: attempts that will be begun, so that all of them can be looked up at once.
        """
        self._attempts.clear()
        self._answered.clear()
        self._nobody_said = None
        if self._shared and time.monotonic() - self._committed_at < PAUSE_SECONDS:
            time.sleep(PAUSE_SECONDS)
        begin_writing(self._db)
        row = self._db.execute("SELECT entry, message, recipient FROM head").fetchone()
        self._shared = self._entry not in (0, row[0])
        self._entry, self._message, self._recipient = row
        self._look_up([self._kept(key) for key in keys if key])
        if time.monotonic() >= self._purge_at:
            purge(self._db, now() // 1_000_000)
            self._purge_at = time.monotonic() + PURGE_SECONDS

    def database(self) -> sqlite3.Connection:
        """The connection, which sees everything that was written in this transaction. Its rows may be changed (erasure)."""
        self.flush()
        self._attempts.clear()
        return self._db

    def flush(self) -> None:
        """Hand all rows to SQLite, still within the transaction."""
        if self._entries:
            self._db.executemany("INSERT INTO entries VALUES (?,?,?)", self._entries)
            self._leaves += [leaf(text.encode()) for _, _, text in self._entries]
            self._entries.clear()
        if self._cells:
            self._db.executemany("INSERT INTO cells VALUES (?,?,?,?)", self._cells)
            self._cells.clear()
        self._derived.flush()

    def commit(self) -> None:
        """Write everything; on return it is on disk."""
        self.flush()
        if self._leaves:
            self._seal()
        self._db.execute(
            "UPDATE head SET entry = ?, message = ?, recipient = ?", (self._entry, self._message, self._recipient)
        )
        self._db.execute("COMMIT")
        self._committed_at = time.monotonic()

    def _seal(self) -> None:
        """The batch of this transaction's entries."""
        row = self._db.execute("SELECT id, head FROM batches ORDER BY id DESC LIMIT 1").fetchone()
        last, previous = (row[0], _octets(row[1])) if row else (0, self._head_of(0))
        # Where one was taken out nothing can be right any more, and mail must go on: the head is one that no check finds right.
        skipped = previous if skip(last + 1) == last else self._head_of(skip(last + 1))
        batch = batch_of(last + 1, self._entry - len(self._leaves) + 1, self._leaves, previous, skipped)
        self._db.execute("INSERT INTO batches VALUES (?,?,?,?,?,?)", batch)
        self._leaves.clear()

    def _head_of(self, batch: int) -> bytes:
        if batch == 0:
            return genesis(_octets(self._db.execute("SELECT ledger FROM identity").fetchone()[0]))
        row = self._db.execute("SELECT head FROM batches WHERE id = ?", (batch,)).fetchone()
        return b"" if row is None else _octets(row[0])

    def rollback(self) -> None:
        """Undo everything since :meth:`start`. Raises nothing: there may be no transaction any more."""
        self._entries.clear()
        self._cells.clear()
        self._leaves.clear()
        self._derived.forget()
        if self._db.in_transaction:
            try:
                self._db.execute("ROLLBACK")
            except sqlite3.Error:
                return

    def _write(self, kind: str, at: int, message: int | None, body: dict[str, Any], cells: dict[str, Any]) -> int:
        number = self._entry + 1
        entry = Entry(number, kind, at, message, body, cells)
        text, rows = encode(entry, self._random(SALT_LENGTH * len(cells)))
        self._derived.apply(entry)
        self._entry = number
        self._entries.append((number, entry.message, text))
        self._cells += rows
        return number

    def _random(self, octets: int) -> bytes:
        """Random octets, of which the system is asked for many at a time."""
        start = self._salts_used
        if start + octets > len(self._salts):
            self._salts, start = os.urandom(max(octets, 4096)), 0
        self._salts_used = start + octets
        return self._salts[start : start + octets]

    def begin(self, record: Record) -> Begun:
        """Write what is known before the final dot. See :meth:`kaifu.proxy.ledger.Ledger.begin`."""
        if record.evidence:
            self.flush()
            record, late = without_late(self._db, record)
            self.count(late)
        begun = Begun(None, record.message_id)
        if record.recipients:
            key = self._kept(record.attempt_key) if record.attempt_key else b""
            unanswered = self._unanswered(key, microseconds(record.at))
            begun = self._first_attempt(record, key) if unanswered is None else self._next_attempt(record, unanswered)
        for evidence in record.evidence:
            self._evidence(record, evidence, begun)
        return begun

    def nobody_said(self) -> bool:
        """True while nobody's consent is recorded at all; asked once for each transaction."""
        if self._nobody_said is None:
            self._nobody_said = nobody_said(self._db)
        return self._nobody_said

    def _kept(self, key: bytes) -> bytes:
        """What is kept of an attempt's key. Whoever has the message and is handed the key must not be able to try on it who else got it."""
        if not self._secret:
            self._secret = secret(self._db, "attempts")
        return hmac.digest(self._secret, key, "sha256")

    def _unanswered(self, key: bytes, at: int) -> int | None:
        """The message that an attempt with this key continues."""
        if not key:
            return None
        if key not in self._attempts:
            self._look_up([key])
        found = self._attempts[key]
        if found is None or found[0] in self._answered or found[1] < at - ATTEMPT_MICROSECONDS:
            return None
        return found[0]

    def _look_up(self, keys: Sequence[bytes]) -> None:
        for start in range(0, len(keys), _KEYS_AT_ONCE):
            some = list(keys[start : start + _KEYS_AT_ONCE])
            # Always the same statement, so that it is compiled once: the last key fills the places left over.
            some += some[-1:] * (_KEYS_AT_ONCE - len(some))
            self._attempts.update(dict.fromkeys(some))
            self._attempts.update((key, (message, at)) for key, message, at in self._db.execute(_LOOK_UP, some))

    def _first_attempt(self, record: Record, key: bytes) -> Begun:
        message_id, body = record.message_id, body_of(record)
        if message_id is None and record.mint_host is not None:
            message_id = f"{os.urandom(16).hex()}@{record.mint_host}"
            body["minted"] = True
        ids = ids_of(record)
        if message_id is not None:
            ids["message_id"] = message_id
        if record.envid is not None:
            ids["envid"] = record.envid
        if key:
            ids["attempt"] = key.hex()
        cells: dict[str, Any] = {"ids": ids}
        if record.sender:
            cells["sender"] = record.sender
        if record.subject is not None:
            cells["subject"] = record.subject
        to, told = body["to"], []
        for recipient in record.recipients:
            self._recipient += 1
            to.append(decided(recipient, self._recipient))
            cells[f"to.{self._recipient}"] = personal(recipient)
            told.append((self._recipient, recipient.address))
        self._message += 1
        self._attempts[key] = self._message, microseconds(record.at)
        self._write("message", microseconds(record.at), self._message, body, cells)
        begun = _Begun(self._message, message_id)
        begun.to = tuple(told)
        return begun

    def _next_attempt(self, record: Record, message: int) -> Begun:
        self.flush()
        free: dict[str, list[int]] = {}
        for number, address in self._db.execute(
            "SELECT id, address FROM recipients WHERE message = ? ORDER BY id DESC", (message,)
        ):
            free.setdefault(address, []).append(number)
        body = body_of(record)
        cells: dict[str, Any] = {"ids": ids_of(record)}
        for recipient in record.recipients:
            numbers = free.get(clean(recipient.address))
            if numbers:
                number = numbers.pop()
            else:
                self._recipient += 1
                number = self._recipient
            body["to"].append(decided(recipient, number))
            cells[f"to.{number}"] = personal(recipient)
        self._write("attempt", microseconds(record.at), message, body, cells)
        row = self._db.execute("SELECT message_id FROM messages WHERE id = ?", (message,)).fetchone()
        return Begun(message, row[0], repeated=True)

    def _evidence(self, record: Record, found: Evidence, begun: Begun) -> None:
        self.flush()
        message, at = message_of(self._db, found), microseconds(record.at)
        if message is None:
            if found.recipient is not None:
                found = replace(found, verdict=Verdict.UNKNOWN_MESSAGE)
            keep_unmatched(self._db, found, record.attempt_key, at, begun.message)
            return
        body, report = evidence_body(found), report_of(found, record)
        link(self._db, found, message, body)
        duplicate = is_known(self._db, body.get("recipient"), report_key(report, found.kind.value, body["value"]))
        if duplicate and begun.repeated:
            return
        if duplicate:
            body["duplicate"] = True
        if begun.message is not None:
            body["carrier"] = begun.message
        cells: dict[str, Any] = {"report": report}
        if found.raw is not None:
            cells["raw"] = found.raw
        self._write("evidence", at, message, body, cells)

    def finish(
        self, begun: Begun, outcomes: Sequence[tuple[str, Outcome]], reply: str, at: int, client_answered: bool = True
    ) -> None:
        """Write how a transaction ended. Addresses that were not recorded are passed over."""
        message = begun.message
        if message is None:
            return
        if isinstance(begun, _Begun) and len(begun.to) == len(outcomes) == 1 and begun.to[0][1] == outcomes[0][0]:
            # One recipient, first attempt: nothing to look up.
            outcome = outcomes[0][1]._value_
            grouped = {outcome: [begun.to[0][0]]}
            done = answered([outcome])
        else:
            grouped, done = self._match(message, outcomes)
        body: dict[str, Any] = {"outcomes": grouped}
        if done and client_answered:
            body["answered"] = True
            self._answered.add(message)
        self._write("outcome", at, message, body, {"reply": reply})

    def _match(self, message: int, outcomes: Sequence[tuple[str, Outcome]]) -> tuple[dict[str, list[int]], bool]:
        """Outcomes by address as outcomes by recipient number, and whether all recipients are taken now."""
        self.flush()
        told: dict[str, list[str]] = {}
        for address, outcome in outcomes:
            told.setdefault(clean(address), []).append(outcome.value)
        grouped: dict[str, list[int]] = {}
        after: list[str] = []
        for number, address, before in self._db.execute(
            "SELECT id, address, outcome FROM recipients WHERE message = ? ORDER BY id", (message,)
        ):
            said = told.get(address)
            if said:
                outcome_now = said[0] if len(said) == 1 else said.pop(0)
                grouped.setdefault(outcome_now, []).append(number)
                before = outcome_after(before, outcome_now)
            after.append(before)
        if not after:
            raise LedgerError(f"the ledger has no message {message}")
        return grouped, answered(after)

    def serve(self, served: Served, at: int) -> None:
        """Remember a partial success for a week."""
        self._db.execute("DELETE FROM served WHERE expires < ?", (at // 1_000_000,))
        self._db.execute(
            "INSERT OR REPLACE INTO served VALUES (?,?,?,?)",
            (
                served.retry_key,
                served.body_digest,
                b"\n".join(sorted(served.recipients)),
                at // 1_000_000 + SERVED_SECONDS,
            ),
        )

    def drop_served(self, retry_key: bytes) -> None:
        """Forget a partial success."""
        self._db.execute("DELETE FROM served WHERE retry_key = ?", (retry_key,))

    def count(self, counts: Mapping[tuple[int, str, str], int]) -> None:
        """Add figures: (hour since 1970, direction, kind) to number."""
        self._db.executemany(
            "INSERT INTO counts VALUES (?,?,?,?) ON CONFLICT DO UPDATE SET n = n + excluded.n",
            [(*key, n) for key, n in counts.items()],
        )

    def leave_traces(self, traces: Mapping[str, int]) -> None:
        """Remember Message-IDs of mail that leaves no record, each with the time (UTC microseconds)."""
        leave_traces(self._db, traces)

    def policy(self, digest: str, mode: str, text: str, at: int) -> None:
        """Write that a policy is in force, unless it is the one that was recorded last."""
        if policy_in_force(self._db) != digest:
            self._write("policy", at, None, {"digest": digest, "mode": mode}, {"text": text})
