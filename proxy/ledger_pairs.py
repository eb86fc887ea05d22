"""What the journal asks of the tables before it writes evidence or a pairing: which message, which mailbox, and for whom it may.

Called by :mod:`kaifu.proxy.ledger_journal` within its transaction, with everything flushed. The answers become numbers in the entry, so
that what follows from them outlives the addresses (see :mod:`kaifu.proxy.ledger_answers`). Fails with sqlite3's errors, and
with :class:`LedgerError` for a pairing that makes no sense.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any

from .ledger import Evidence, LedgerError, Verdict
from .ledger_answers import answering_key
from .ledger_entries import clean
from .ledger_keys import number_of, search_key


def message_of(db: sqlite3.Connection, found: Evidence) -> int | None:
    """The message that a piece of evidence belongs to: its recipient's, or the one it cites although no recipient fits."""
    if found.recipient is not None:
        row = db.execute("SELECT message FROM recipients WHERE id = ?", (found.recipient,)).fetchone()
    elif cited := found.details.get("original_message_id"):
        row = db.execute(
            "SELECT id FROM messages WHERE id_hash = ? AND message_id = ? ORDER BY id DESC LIMIT 1",
            (number_of(cited), clean(cited)),
        ).fetchone()
    else:
        return None
    return None if row is None else int(row[0])


def is_known(db: sqlite3.Connection, recipient: int | None, key: int | None) -> bool:
    """Was the same report recorded for the same recipient before?"""
    query = "SELECT 1 FROM evidence WHERE recipient IS ? AND key = ? LIMIT 1"
    return db.execute(query, (recipient, key)).fetchone() is not None


def link(db: sqlite3.Connection, found: Evidence, message: int, body: dict[str, Any]) -> None:
    """Say in the body of an answer from another address which mailbox it is, and which pairing lets it count.

    A pairing also says for whom it is when the answer itself does not.
    """
    if not found.alias and found.verdict is not Verdict.OTHER_ADDRESS:
        return
    _, key = answering_key({"by": clean(found.by)}, found.kind.value)
    if key is None:
        return
    if found.verdict is Verdict.OTHER_ADDRESS and (paired := _pairing(db, message, body.get("recipient"), key)):
        body["pair"], body["recipient"] = paired
    if "recipient" in body:
        query = "SELECT min(answerer) FROM evidence WHERE by_key = ? AND recipient = ? AND answerer > 0"
        (answerer,) = db.execute(query, (key, body["recipient"])).fetchone()
        if answerer is not None:
            body["answerer"] = answerer


def _pairing(db: sqlite3.Connection, message: int, recipient: int | None, key: str) -> tuple[int, int] | None:
    """The pairing in force of an address with a recipient of a message, and that recipient."""
    found: tuple[int, int] | None = db.execute(
        "SELECT p.entry, r.id FROM pairs p JOIN recipients r ON r.message = ? AND r.address_key = p.asked_key"
        " WHERE p.other_key = ? AND p.revoked IS NULL AND r.id = coalesce(?, r.id) ORDER BY p.entry, r.id LIMIT 1",
        (message, key, recipient),
    ).fetchone()
    return found


def answers_between(db: sqlite3.Connection, asked: str, other: str) -> list[list[int]]:
    """What an address has answered so far where another was asked: entry, recipient and answerer of each. Search keys."""
    rows = db.execute(
        "SELECT v.entry, min(r.id), v.answerer FROM evidence v JOIN entries e ON e.id = v.entry"
        " JOIN recipients r ON r.message = e.message AND r.address_key = ?"
        " WHERE v.by_key = ? AND v.verdict = ? AND coalesce(v.recipient, r.id) = r.id GROUP BY v.entry ORDER BY v.entry",
        (asked, other, Verdict.OTHER_ADDRESS.value),
    ).fetchall()
    mailboxes: dict[int, int] = {}
    query = "SELECT min(answerer) FROM evidence WHERE by_key = ? AND recipient = ? AND answerer > 0"
    for _, recipient, answerer in rows:
        if recipient not in mailboxes:
            (known,) = db.execute(query, (other, recipient)).fetchone()
            mailboxes[recipient] = known or answerer
    return [[entry, recipient, mailboxes[recipient]] for entry, recipient, _ in rows]


def pairable(db: sqlite3.Connection, recipient: int, other: str) -> tuple[int, str, str, str]:
    """Message, address and both search keys of a pairing to be made."""
    row = db.execute("SELECT message, address, address_key FROM recipients WHERE id = ?", (recipient,)).fetchone()
    if row is None:
        raise LedgerError(f"the ledger has no recipient {recipient}")
    message, address, asked = row
    if asked is None:
        raise LedgerError(f"the address of recipient {recipient} is erased; nobody can be paired with it")
    key = search_key(other)
    if key == asked:
        raise LedgerError(f"{other} is the recipient itself")
    query = "SELECT entry FROM pairs WHERE other_key = ? AND asked_key = ? AND revoked IS NULL"
    if (before := db.execute(query, (key, asked)).fetchone()) is not None:
        raise LedgerError(f"{other} was paired with {address} already, by entry {before[0]}")
    return message, address, asked, key


def revocable_pair(db: sqlite3.Connection, entry: int, recipients: Iterable[int]) -> int:
    """The message of a pairing that is in force for one of these recipients."""
    row = db.execute(
        "SELECT e.message, p.asked_key, p.revoked FROM pairs p JOIN entries e ON e.id = p.entry WHERE p.entry = ?",
        (entry,),
    ).fetchone()
    query = "SELECT 1 FROM recipients WHERE id = ? AND (address_key = ? OR message = ?)"
    if row is None or not any(db.execute(query, (each, row[1], row[0])).fetchone() for each in recipients):
        raise LedgerError(f"entry {entry} pairs nobody with this recipient")
    if row[2] is not None:
        raise LedgerError(f"entry {entry} was revoked already, by entry {row[2]}")
    return int(row[0])
