"""What people tell the ledger, outside the mail path: each in one transaction of its own beside a running relay.

Called by :mod:`kaifu.proxy.ledger_desk`, which knows who acts and whether he may. Fails with :class:`LedgerError`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kaifu.policies.facts import Consent

from .ledger import LedgerError
from .ledger_entries import at_text, clean
from .ledger_file import Store, explain
from .ledger_journal import Journal, now
from .ledger_pairs import answers_between, pairable, revocable_pair

CONFIRMED_BY = ("phone", "meeting", "letter", "chat")


class PeopleJournal(Journal):
    """A journal for what people tell and do."""

    def consent(self, person: str, value: Consent, actor: str, note: str) -> int:
        """Write what a person (``Mailbox.key``) said about being asked. Returns the entry's number."""
        cells: dict[str, Any] = {"person": person, "actor": actor}
        if note:
            cells["note"] = note
        self._nobody_said = False
        return self._write("consent", now(), None, {"value": value.value}, cells)

    def attest(self, recipient: int, value: str, seen_at: int, actor: str, note: str) -> int:
        """Write what somebody says to have learned of a recipient otherwise. Returns the entry's number."""
        self.flush()
        row = self._db.execute("SELECT message FROM recipients WHERE id = ?", (recipient,)).fetchone()
        if row is None:
            raise LedgerError(f"the ledger has no recipient {recipient}")
        body = {"recipient": recipient, "value": value, "seen_at": at_text(seen_at)}
        return self._write("attested", now(), row[0], body, {"note": note, "actor": actor})

    def revoke(self, entry: int, recipients: Iterable[int], actor: str) -> int:
        """Take back an attestation about one of these recipients. Returns the entry's number."""
        self.flush()
        row = self._db.execute(
            "SELECT e.recipient, e.revoked, r.message FROM evidence e JOIN recipients r ON r.id = e.recipient"
            " WHERE e.entry = ? AND e.kind = 'attested'",
            (entry,),
        ).fetchone()
        if row is None or row[0] not in set(recipients):
            raise LedgerError(f"entry {entry} is no note about this recipient")
        if row[1] is not None:
            raise LedgerError(f"entry {entry} was revoked already, by entry {row[1]}")
        return self._write("revoked", now(), row[2], {"entry": entry}, {"actor": actor})

    def pair(self, recipient: int, other: str, actor: str, note: str) -> int:
        """Write that another address answers for a recipient, in every message to it. Returns the entry's number."""
        self.flush()
        message, address, asked, key = pairable(self._db, recipient, clean(other))
        body = {"recipient": recipient, "evidence": answers_between(self._db, asked, key)}
        cells = {"asked": address, "other": other, "note": note, "actor": actor}
        return self._write("paired", now(), message, body, cells)

    def unpair(self, entry: int, recipients: Iterable[int], actor: str) -> int:
        """Take back a pairing with one of these recipients. Returns the entry's number."""
        self.flush()
        message = revocable_pair(self._db, entry, recipients)
        return self._write("revoked", now(), message, {"entry": entry}, {"actor": actor})

    def act(self, kind: str, body: dict[str, Any], cells: dict[str, Any], message: int | None = None) -> int:
        """Write that somebody did something which moves no state. Returns the entry's number."""
        return self._write(kind, now(), message, body, cells)


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[PeopleJournal]:
    """A journal within one transaction, committed at the end unless something is raised."""
    journal = PeopleJournal(db)
    journal.start()
    try:
        yield journal
        journal.commit()
    except BaseException:
        journal.rollback()
        raise


@contextmanager
def writing(path: Path) -> Iterator[PeopleJournal]:
    """The same in a ledger file."""
    try:
        store = Store(path, write=True)
        try:
            with transaction(store.db) as journal:
                yield journal
        finally:
            store.close()
    except (sqlite3.Error, OSError) as error:
        raise explain(error, path) from error


def record(path: Path, kind: str, body: dict[str, Any], cells: dict[str, Any], message: int | None = None) -> int:
    """Record an act that changes nothing else, on disk when it returns. Returns the entry's number."""
    with writing(path) as journal:
        return journal.act(kind, body, cells, message)
