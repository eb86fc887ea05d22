"""From entries to derived tables: one path, for entries just written and for a rebuild.

Called by :mod:`kaifu.proxy.ledger_journal` within the transaction that stores the entries, and by
:mod:`kaifu.proxy.ledger_rebuild` with entries read back. What an entry does to the tables depends on the entry, on
those of its cells that exist, and on the tables; on nothing else, so a rebuild gives identical tables.

Rows are collected and written by :meth:`Derived.flush`, many at once, because the write path must be cheap. Whatever
must read what may still be pending flushes first. Fails with sqlite3's errors; the caller rolls back.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import lru_cache, partial
from hashlib import sha256
from typing import Any

from kaifu.policies.facts import mailbox_key

from .ledger import EvidenceKind, Outcome, RequestState
from .ledger_acts import WORDS, add_act
from .ledger_entries import Entry, at_value, canonical
from .ledger_states import NOTHING, Standing, join, outcome_after, standing_of, state_of

ATTEMPT_MICROSECONDS = 7 * 86400 * 1_000_000
"""So long after it was begun can an attempt be repeated (RFC 5321 4.5.4.1: clients give up after four or five days)."""
_CLEAN_EVERY = 256
_NO_IDS: dict[str, Any] = {}
_INSERT_MESSAGE = "INSERT INTO messages VALUES (?,?,?,?,?,?,?,?,?,?)"
_INSERT_RECIPIENT = (
    "INSERT INTO recipients (id, message, entry, at, address, address_key, direction, request, asked_by, report_asked_by,"
    " rule, outcome, state) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)"
)
_FRESH_STATE = {request.value: state_of(request, NOTHING, Outcome.UNKNOWN) for request in RequestState}
_WITHHELD, _UNKNOWN, _REFUSED = Outcome.WITHHELD.value, Outcome.UNKNOWN.value, Outcome.REFUSED.value
_STAYS = f"('{Outcome.ACCEPTED.value}', '{_REFUSED}')"
_STANDING = "transport, handling, failed_at, delivered_at, displayed_at, replied_at"


def number_of(text: str) -> int:
    """A digest of a text that fits an SQLite integer: small in an index, compared exactly afterwards."""
    return int.from_bytes(sha256(text.encode("utf-8", "replace")).digest()[:8], "big", signed=True)


@lru_cache(maxsize=8192)
def search_key(address: str) -> str:
    """An address as it is looked up: folded, domain first and from the top, ``example.co.jp`` as ``jp.co.example@``.

    So that one index serves a person, a domain, and a domain with its subdomains.
    """
    local, _, domain = address.rpartition("@")
    if len(local) > 1 and local[0] == local[-1] == '"':
        local = local[1:-1].replace("\\", "\0").replace("\0\0", "\\").replace("\0", "")
    key = mailbox_key(local, domain) if local else mailbox_key(domain, "")
    local, _, domain = key.rpartition("@")
    if not local:
        return "@" + domain
    return ".".join(reversed(domain.split("."))) + "@" + local


def report_key(report: dict[str, Any] | None, kind: str, value: str) -> int | None:
    """What makes two reports of one recipient the same report; None when its cell is erased."""
    if report is None:
        return None
    return number_of(canonical([report.get("message_id") or report.get("attempt"), kind, value]))


class Derived:
    """The derived tables of one open transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._messages: list[tuple[Any, ...]] = []
        self._recipients: list[tuple[Any, ...]] = []
        self._attempts: list[tuple[int, bytes, int]] = []
        self._outcomes: list[tuple[str, int]] = []
        self._answered: list[int] = []
        self._apply: dict[str, Callable[[Entry], None]] = {
            "message": self._message,
            "attempt": self._attempt,
            "outcome": self._outcome,
            "evidence": self._evidence,
            "attested": self._attested,
            "revoked": self._revoked,
            "consent": self._consent,
        }
        self._apply |= {kind: partial(self._act, self._apply.get(kind)) for kind in WORDS}

    def apply(self, entry: Entry) -> None:
        """Let one entry take effect. ValueError for a kind that this version does not know."""
        apply = self._apply.get(entry.kind)
        if apply is None:
            raise ValueError(f"entry {entry.number} is of a kind that this version does not know: {entry.kind}")
        apply(entry)

    def _act(self, effect: Callable[[Entry], None] | None, entry: Entry) -> None:
        add_act(self._db, entry)
        if effect is not None:
            effect(entry)

    def flush(self) -> None:
        """Write the rows collected so far."""
        db = self._db
        if self._messages:
            db.executemany(_INSERT_MESSAGE, self._messages)
            self._messages.clear()
        if self._recipients:
            db.executemany(_INSERT_RECIPIENT, self._recipients)
            self._recipients.clear()
        if self._attempts:
            db.executemany("INSERT INTO attempts VALUES (?,?,?)", self._attempts)
            self._attempts.clear()
        if self._outcomes:
            self._write_outcomes()
            self._outcomes.clear()
        if self._answered:
            db.executemany("DELETE FROM attempts WHERE message = ?", [(message,) for message in self._answered])
            self._answered.clear()

    def _write_outcomes(self) -> None:
        """An outcome that neither is nor follows a refusal changes one column and no state: all with one statement."""
        written = self._db.executemany(
            f"UPDATE recipients SET outcome = ? WHERE id = ? AND outcome NOT IN {_STAYS}", self._outcomes
        )
        if written.rowcount != len(self._outcomes):
            for outcome, recipient in self._outcomes:
                self._set_outcome(outcome, recipient)

    def forget(self) -> None:
        """Drop the rows collected so far (after a rollback)."""
        self._messages.clear()
        self._recipients.clear()
        self._attempts.clear()
        self._outcomes.clear()
        self._answered.clear()

    def _message(self, entry: Entry) -> None:
        body, cells = entry.body, entry.cells
        ids = cells.get("ids") or _NO_IDS
        message_id = ids.get("message_id")
        sender = cells.get("sender")
        self._messages.append(
            (
                entry.message,
                entry.at,
                at_value(body["sent_at"]) if "sent_at" in body else entry.at,
                body["type"],
                message_id,
                None if message_id is None else number_of(message_id),
                sender,
                search_key(sender) if sender else None,
                cells.get("subject"),
                ids.get("envid"),
            )
        )
        for decided in body["to"]:
            self._recipient(entry, decided, entry.at)
        if "attempt" in ids and entry.message is not None:
            self._attempts.append((entry.message, bytes.fromhex(ids["attempt"]), entry.at))
            if entry.message % _CLEAN_EVERY == 0:
                self._forget_attempts(entry.at)

    def _recipient(self, entry: Entry, decided: dict[str, Any], at: int) -> None:
        address = (entry.cells.get(f"to.{decided['id']}") or _NO_IDS).get("address")
        request = decided["request"]
        outcome = _WITHHELD if "withheld" in decided else _UNKNOWN
        self._recipients.append(
            (
                decided["id"],
                entry.message,
                entry.number,
                at,
                address,
                search_key(address) if address else None,
                decided["direction"],
                request,
                decided["asked_by"],
                decided.get("report_asked_by", "nobody"),
                decided.get("rule"),
                outcome,
                _FRESH_STATE[request],
            )
        )

    def _forget_attempts(self, now: int) -> None:
        """Drop attempts that nobody repeats any more: some of the oldest, often enough to keep up.

        When, depends on the entries alone, so that a rebuild does the same.
        """
        self.flush()
        self._db.execute(
            "DELETE FROM attempts WHERE message IN (SELECT message FROM attempts ORDER BY message LIMIT ?) AND at < ?",
            (4 * _CLEAN_EVERY, now - ATTEMPT_MICROSECONDS),
        )

    def _attempt(self, entry: Entry) -> None:
        """A further try: its decisions hold for those who have not been served yet, and for those who are new."""
        self.flush()
        for decided in entry.body["to"]:
            row = self._db.execute(
                f"SELECT outcome, {_STANDING} FROM recipients WHERE id = ?", (decided["id"],)
            ).fetchone()
            if row is None:
                first = self._db.execute("SELECT at FROM messages WHERE id = ?", (entry.message,)).fetchone()
                self._recipient(entry, decided, entry.at if first is None else first[0])
            elif row[0] != Outcome.ACCEPTED:
                self._decide_again(entry.number, decided, Standing(*row[1:]))

    def _decide_again(self, entry: int, decided: dict[str, Any], standing: Standing) -> None:
        request, outcome = decided["request"], _WITHHELD if "withheld" in decided else _UNKNOWN
        self._db.execute(
            "UPDATE recipients SET entry = ?, direction = ?, request = ?, asked_by = ?, report_asked_by = ?, rule = ?,"
            " outcome = ?, state = ? WHERE id = ?",
            (
                entry,
                decided["direction"],
                request,
                decided["asked_by"],
                decided.get("report_asked_by", "nobody"),
                decided.get("rule"),
                outcome,
                state_of(request, standing, outcome),
                decided["id"],
            ),
        )

    def _outcome(self, entry: Entry) -> None:
        for outcome, recipients in entry.body["outcomes"].items():
            if outcome == _REFUSED:
                self.flush()
                for recipient in recipients:
                    self._set_outcome(outcome, recipient)
            else:
                self._outcomes += [(outcome, recipient) for recipient in recipients]
        if "answered" in entry.body and entry.message is not None:
            self._answered.append(entry.message)

    def _set_outcome(self, outcome: str, recipient: int) -> None:
        row = self._db.execute(
            f"SELECT outcome, request, {_STANDING} FROM recipients WHERE id = ?", (recipient,)
        ).fetchone()
        if row is not None:
            after = outcome_after(row[0], outcome)
            self._db.execute(
                "UPDATE recipients SET outcome = ?, state = ? WHERE id = ?",
                (after, state_of(row[1], Standing(*row[2:]), after), recipient),
            )

    def _evidence(self, entry: Entry) -> None:
        self.flush()
        body = entry.body
        recipient, kind, verdict, value = body.get("recipient"), body["evidence"], body["verdict"], body["value"]
        duplicate = bool(body.get("duplicate"))
        key = report_key(entry.cells.get("report"), kind, value)
        self._db.execute(
            "INSERT INTO evidence VALUES (?,?,?,?,?,?,?,?,NULL)",
            (entry.number, recipient, entry.at, kind, verdict, value, duplicate, key),
        )
        if recipient is not None:
            self._raise(recipient, standing_of(kind, verdict, value, entry.at))

    def _raise(self, recipient: int, found: Standing) -> None:
        if found == NOTHING:
            return
        row = self._db.execute(
            f"SELECT request, outcome, {_STANDING} FROM recipients WHERE id = ?", (recipient,)
        ).fetchone()
        if row is None:
            return
        before = Standing(*row[2:])
        after = join(before, found)
        if after != before:
            self._db.execute(
                "UPDATE recipients SET transport = ?, handling = ?, failed_at = ?, delivered_at = ?, displayed_at = ?,"
                " replied_at = ?, state = ? WHERE id = ?",
                (*after, state_of(row[0], after, row[1]), recipient),
            )

    def _attested(self, entry: Entry) -> None:
        self.flush()
        body = entry.body
        self._db.execute(
            "INSERT INTO evidence VALUES (?,?,?,?,'matched',?,0,NULL,NULL)",
            (entry.number, body["recipient"], at_value(body["seen_at"]), EvidenceKind.ATTESTED.value, body["value"]),
        )
        self._count_attested(body["recipient"])

    def _revoked(self, entry: Entry) -> None:
        self.flush()
        revoked = entry.body["entry"]
        self._db.execute(
            "UPDATE evidence SET revoked = ? WHERE entry = ? AND kind = ? AND revoked IS NULL",
            (entry.number, revoked, EvidenceKind.ATTESTED.value),
        )
        row = self._db.execute("SELECT recipient FROM evidence WHERE entry = ?", (revoked,)).fetchone()
        if row is not None and row[0] is not None:
            self._count_attested(row[0])

    def _count_attested(self, recipient: int) -> None:
        self._db.execute(
            "UPDATE recipients SET attested = (SELECT count(*) FROM evidence WHERE recipient = recipients.id"
            " AND kind = ? AND revoked IS NULL) WHERE id = ?",
            (EvidenceKind.ATTESTED.value, recipient),
        )

    def _consent(self, entry: Entry) -> None:
        person = entry.cells.get("person")
        if person is not None:
            self._db.execute(
                "INSERT INTO consent VALUES (?,?,?,?) ON CONFLICT (address) DO UPDATE"
                " SET value = excluded.value, at = excluded.at, entry = excluded.entry",
                (person, entry.body["value"], entry.at, entry.number),
            )
