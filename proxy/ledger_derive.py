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
from functools import partial
from typing import Any

from .ledger import Outcome, RequestState
from .ledger_acts import WORDS, add_act
from .ledger_answers import add_evidence, add_note, add_pair, recompute, revoke
from .ledger_entries import Entry, at_value
from .ledger_holds import add_anchor, add_hold, blank, end_hold
from .ledger_keys import number_of, search_key
from .ledger_states import NOTHING, outcome_after, state_of

ATTEMPT_MICROSECONDS = 7 * 86400 * 1_000_000
"""So long after it was begun can an attempt be repeated (RFC 5321 4.5.4.1: clients give up after four or five days)."""
_CLEAN_EVERY = 256
_NO_IDS: dict[str, Any] = {}
_INSERT_MESSAGE = "INSERT INTO messages VALUES (?,?,?,?,?,?,?,?,?,?)"
_INSERT_RECIPIENT = (
    "INSERT INTO recipients (id, message, entry, at, address, address_key, direction, request, asked_by, report_asked_by,"
    " rule, outcome, state, confirm) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
)
_FRESH_STATE = {request.value: state_of(request, NOTHING, Outcome.UNKNOWN) for request in RequestState}
_WITHHELD, _UNKNOWN, _REFUSED = Outcome.WITHHELD.value, Outcome.UNKNOWN.value, Outcome.REFUSED.value
_STAYS = f"('{Outcome.ACCEPTED.value}', '{_REFUSED}')"


class Derived:
    """The derived tables of one open transaction."""

    def __init__(self, db: sqlite3.Connection, source: sqlite3.Connection | None = None) -> None:
        self._db = db
        self._source = source or db
        self._messages: list[tuple[Any, ...]] = []
        self._recipients: list[tuple[Any, ...]] = []
        self._attempts: list[tuple[int, bytes, int]] = []
        self._outcomes: list[tuple[str, int]] = []
        self._answered: list[int] = []
        self._apply: dict[str, Callable[[Entry], None]] = {
            "message": self._message,
            "attempt": self._attempt,
            "outcome": self._outcome,
            "evidence": partial(self._answer, add_evidence),
            "attested": partial(self._answer, add_note),
            "paired": partial(self._answer, add_pair),
            "revoked": partial(self._answer, revoke),
            "consent": self._consent,
            "hold": partial(self._answer, add_hold),
            "released": partial(self._answer, end_hold),
            "erasure": self._erasure,
            "anchored": partial(self._answer, add_anchor),
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
        if entry.message is not None:
            # Without a key, or when it was erased, there is a row all the same: see ledger_holds.
            self._attempts.append((entry.message, bytes.fromhex(ids.get("attempt", "")), entry.at))
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
                decided.get("confirm"),
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
            row = self._db.execute("SELECT outcome FROM recipients WHERE id = ?", (decided["id"],)).fetchone()
            if row is None:
                first = self._db.execute("SELECT at FROM messages WHERE id = ?", (entry.message,)).fetchone()
                self._recipient(entry, decided, entry.at if first is None else first[0])
            elif row[0] != Outcome.ACCEPTED:
                self._decide_again(entry.number, decided)

    def _decide_again(self, entry: int, decided: dict[str, Any]) -> None:
        self._db.execute(
            "UPDATE recipients SET entry = ?, direction = ?, request = ?, asked_by = ?, report_asked_by = ?, rule = ?,"
            " outcome = ?, confirm = ? WHERE id = ?",
            (
                entry,
                decided["direction"],
                decided["request"],
                decided["asked_by"],
                decided.get("report_asked_by", "nobody"),
                decided.get("rule"),
                _WITHHELD if "withheld" in decided else _UNKNOWN,
                decided.get("confirm"),
                decided["id"],
            ),
        )
        recompute(self._db, decided["id"])

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
        row = self._db.execute("SELECT outcome FROM recipients WHERE id = ?", (recipient,)).fetchone()
        if row is not None:
            after = outcome_after(row[0], outcome)
            self._db.execute("UPDATE recipients SET outcome = ? WHERE id = ?", (after, recipient))
            recompute(self._db, recipient)

    def _answer(self, effect: Callable[[sqlite3.Connection, Entry], None], entry: Entry) -> None:
        self.flush()
        effect(self._db, entry)

    def _consent(self, entry: Entry) -> None:
        person = entry.cells.get("person")
        if person is not None:
            self._db.execute(
                "INSERT INTO consent VALUES (?,?,?,?)", (entry.number, person, entry.body["value"], entry.at)
            )

    def _erasure(self, entry: Entry) -> None:
        self.flush()
        blank(self._db, self._source, entry)
