"""What is kept apart from the entries, for a time of its own: evidence that matches nothing, and traces of mail without record.

Called by :mod:`kaifu.proxy.ledger_journal` within its transaction, and by what shows such evidence. Two tables, neither derived nor
sealed, because nothing in them is a fact about a message of ours:

- ``unmatched``: evidence that names no message that is known here. Who sent it and what it names, without subject and raw octets,
  for :data:`UNMATCHED_SECONDS`; the same piece once only.
- ``traces``: of mail under ``record: none`` the first 16 octets of HMAC-SHA-256(key, Message-ID) for
  :data:`TRACE_SECONDS`, with a random key that the ledger was made with. What answers such mail is counted, not kept.

Rows are invisible from the second in which they expire, and gone with the next write after it or within the hour
(:func:`purge`). Texts are cut to :data:`MOST_TEXT` characters. Fails with sqlite3's errors.
"""

from __future__ import annotations

import hmac
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from kaifu.policies.facts import Direction

from .ledger import Evidence, Record
from .ledger_bodies import REPORTS
from .ledger_entries import canonical, clean, microseconds
from .ledger_keys import number_of
from .ledger_pairs import message_of

Figures = Mapping[tuple[int, str, str], int]
"""(Hour since 1970, direction, kind) to number."""

UNMATCHED_SECONDS = 14 * 86400
TRACE_SECONDS = 90 * 86400
DIGEST_LENGTH = 16
MOST_TEXT = 500
_FIELDS = "id, at, kind, verdict, value, cited, by, about, message_id, carrier, expires"


class Unmatched(NamedTuple):
    """A piece of evidence that matches nothing. ``at``: UTC microseconds; ``expires``: UTC seconds.

    ``cited``: the Message-ID that it names, None for none. ``carrier``: the number of the message that brought it, if that was recorded.
    """

    id: int
    at: int
    kind: str
    verdict: str
    value: str
    cited: str | None
    by: str
    about: str
    message_id: str | None
    carrier: int | None
    expires: int


def cited_by(found: Evidence) -> str | None:
    """The Message-ID that a piece of evidence names although nothing is known of it."""
    return found.details.get("original_message_id") or None


def _text(value: str) -> str:
    return str(clean(value))[:MOST_TEXT]


def keep_unmatched(db: sqlite3.Connection, found: Evidence, attempt: bytes, at: int, carrier: int | None) -> None:
    """Keep a piece of evidence apart, unless the very same is kept already. ``attempt``: stands in for a missing Message-ID."""
    cited, value = cited_by(found), _text(found.value)
    key = number_of(canonical(clean([found.message_id or attempt.hex(), found.kind.value, value, cited, found.about])))
    purge(db, at // 1_000_000)
    db.execute(
        "INSERT OR IGNORE INTO unmatched (at, kind, verdict, value, cited, by, about, message_id, carrier, expires, key)"
        " VALUES (?,?,?,?,?,?,?,?,?,?,?)",
        (
            at,
            found.kind.value,
            found.verdict.value,
            value,
            None if cited is None else _text(cited),
            _text(found.by),
            _text(found.about),
            None if found.message_id is None else _text(found.message_id),
            carrier,
            at // 1_000_000 + UNMATCHED_SECONDS,
            key,
        ),
    )


def unmatched(db: sqlite3.Connection, second: int, *, carrier: int | None = None) -> Iterator[Unmatched]:
    """What matches nothing and has not expired, newest first; of one carrier, if it is given."""
    of_carrier = "" if carrier is None else " AND carrier = ?"
    values = (second,) if carrier is None else (second, carrier)
    for row in db.execute(f"SELECT {_FIELDS} FROM unmatched WHERE expires > ?{of_carrier} ORDER BY id DESC", values):
        yield Unmatched(*row)


def unmatched_of(db: sqlite3.Connection, second: int, carriers: list[int]) -> dict[int, int]:
    """How many pieces each of these messages brought that match nothing."""
    if not carriers:
        return {}
    places = ",".join("?" * len(carriers))
    query = f"SELECT carrier, count(*) FROM unmatched WHERE carrier IN ({places}) AND expires > ? GROUP BY carrier"
    return dict(db.execute(query, (*carriers, second)).fetchall())


def leave_traces(db: sqlite3.Connection, traces: Mapping[str, int]) -> None:
    """Remember Message-IDs of mail that leaves no record, each with the time (UTC microseconds)."""
    key = _key(db)
    rows = [(_digest(key, message_id), at // 1_000_000 + TRACE_SECONDS) for message_id, at in traces.items()]
    db.executemany("INSERT INTO traces VALUES (?,?) ON CONFLICT DO UPDATE SET expires = excluded.expires", rows)


def has_trace(db: sqlite3.Connection, message_id: str, second: int) -> bool:
    """True when mail with this Message-ID left no record on purpose."""
    query = "SELECT 1 FROM traces WHERE digest = ? AND expires > ?"
    return db.execute(query, (_digest(_key(db), message_id), second)).fetchone() is not None


def _key(db: sqlite3.Connection) -> bytes:
    return secret(db, "traces")


def secret(db: sqlite3.Connection, name: str) -> bytes:
    """Random octets of this ledger's own, which leave it nowhere."""
    return bytes(db.execute("SELECT value FROM secrets WHERE name = ?", (name,)).fetchone()[0])


def _digest(key: bytes, message_id: str) -> bytes:
    return hmac.digest(key, message_id.encode("utf-8", "replace"), "sha256")[:DIGEST_LENGTH]


def purge(db: sqlite3.Connection, second: int) -> None:
    """Delete what has expired."""
    db.execute("DELETE FROM unmatched WHERE expires <= ?", (second,))
    db.execute("DELETE FROM traces WHERE expires <= ?", (second,))


def without_late(db: sqlite3.Connection, record: Record) -> tuple[Record, Figures]:
    """A record without what answers mail that left none, and the figures that count it. Everything must be flushed.

    A receipt or report that says nothing else leaves no row either, unless it was withheld: then that it was, without its subject.
    """
    at = microseconds(record.at)
    late = [found for found in record.evidence if _is_late(db, found, at // 1_000_000)]
    if not late:
        return record, {}
    direction = record.recipients[0].direction if record.recipients else Direction.INBOUND
    figures = Counter((at // 3_600_000_000, direction.value, f"late-{found.kind.value}") for found in late)
    rest = tuple(found for found in record.evidence if found not in late)
    if rest or record.kind not in REPORTS:
        return replace(record, evidence=rest), figures
    withheld = tuple(recipient for recipient in record.recipients if recipient.withheld)
    return replace(record, evidence=(), subject=None, recipients=withheld), figures


def _is_late(db: sqlite3.Connection, found: Evidence, second: int) -> bool:
    cited = cited_by(found)
    return cited is not None and has_trace(db, cited, second) and message_of(db, found) is None
