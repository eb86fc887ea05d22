"""What hosts ask of the ledger before they decide: originals, consent, partial successes.

Called by the reader thread of :mod:`kaifu.proxy.ledger_sqlite`, on a connection of its own, within one read transaction.
Every answer is bounded: of the messages that share a Message-ID or envelope id the newest :data:`MOST` are given. Fails with
sqlite3's errors.
"""

from __future__ import annotations

import sqlite3
import time
from typing import Any

from kaifu.policies.facts import AskedBy, Consent

from .ledger import Known, Original, OriginalRecipient, Query, RequestState, Served
from .ledger_entries import clean, moment_of
from .ledger_keys import number_of

MOST = 20
_MESSAGE = "SELECT id, message_id, sender, sent_at, envid FROM messages"


def look(db: sqlite3.Connection, query: Query) -> Known:
    """Answer one query."""
    return Known(
        originals=_originals(db, query.message_ids),
        by_envid=_by_envid(db, query.envids),
        consent=_consent(db, query.consent_of),
        served=() if query.retry_key is None else _served(db, query.retry_key),
    )


def _originals(db: sqlite3.Connection, message_ids: tuple[str, ...]) -> dict[str, tuple[Original, ...]]:
    found = {}
    for message_id in message_ids:
        rows = db.execute(
            f"{_MESSAGE} WHERE id_hash = ? AND message_id = ? ORDER BY id DESC LIMIT {MOST}",
            (number_of(message_id), clean(message_id)),
        ).fetchall()
        if rows:
            found[message_id] = tuple(_original(db, row) for row in rows)
    return found


def _by_envid(db: sqlite3.Connection, envids: tuple[str, ...]) -> dict[str, tuple[Original, ...]]:
    found = {}
    for envid in envids:
        rows = db.execute(
            f"{_MESSAGE} WHERE envid = ? ORDER BY id DESC LIMIT {MOST}",
            (clean(envid),),
        ).fetchall()
        if rows:
            found[envid] = tuple(_original(db, row) for row in rows)
    return found


def _original(db: sqlite3.Connection, row: tuple[Any, ...]) -> Original:
    number, message_id, sender, sent_at, envid = row
    recipients = tuple(
        OriginalRecipient(id_, address or "", RequestState(request), AskedBy(asked_by), AskedBy(report_asked_by))
        for id_, address, request, asked_by, report_asked_by in db.execute(
            "SELECT id, address, request, asked_by, report_asked_by FROM recipients WHERE message = ? ORDER BY id",
            (number,),
        )
    )
    return Original(number, message_id or "", sender or "", moment_of(sent_at), recipients, envid)


def _consent(db: sqlite3.Connection, addresses: tuple[str, ...]) -> dict[str, Consent]:
    found = {}
    for address in addresses:
        row = db.execute(
            "SELECT value FROM consent WHERE address = ? ORDER BY entry DESC LIMIT 1", (clean(address),)
        ).fetchone()
        if row is not None:
            found[address] = Consent(row[0])
    return found


def nobody_said(db: sqlite3.Connection) -> bool:
    """True while nobody's consent is recorded at all."""
    return db.execute("SELECT 1 FROM consent LIMIT 1").fetchone() is None


def _served(db: sqlite3.Connection, retry_key: bytes) -> tuple[Served, ...]:
    rows = db.execute(
        "SELECT body_digest, recipients FROM served WHERE retry_key = ? AND expires >= ?", (retry_key, int(time.time()))
    )
    return tuple(Served(retry_key, digest, frozenset(recipients.split(b"\n"))) for digest, recipients in rows)
