"""What evidence, notes, pairings and revocations do to the derived tables: the state machine at work.

Called by :mod:`kaifu.proxy.ledger_derive` with entries just written and in a rebuild. The rules are
:mod:`kaifu.proxy.ledger_states`; here they meet rows. Each piece of evidence has one row:

- ``counts``: whether it counts now, ``pair``: the pairing in force that lets it count;
- ``answerer``: which mailbox answered, as a number that tells nothing of whom: 0 is the recipient's own, any other is the number of the
  first entry with an answer of that mailbox for that recipient;
- ``by_address, by_key``: who answered, for people and for looking it up; null once the cell is erased.

State never depends on a cell: what an address had to be compared for when it was written, the entry says as a number (``answerer``, ``pair``,
the ``evidence`` of a pairing). So an erasure changes no state, and a rebuild after it gives the same tables. Whose answers were all
erased and who then answers again under an alias is counted as one more mailbox: rather a list too many than a reader too many.

One more piece is joined to what is there. Only what a person says, and a further attempt under another rule, makes a recipient's
evidence be read again (:func:`recompute`). Fails with sqlite3's errors.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from .ledger import EvidenceKind, Grade, Verdict
from .ledger_entries import Entry, at_value
from .ledger_keys import report_key, search_key
from .ledger_states import NOTHING, Standing, counts, is_answer, join, standing_of, state_of

STANDING = "transport, handling, grade, expanded, failed_at, delivered_at, displayed_at, replied_at"  # As in Standing.
MOST_ADDRESS = 320
"""Characters of an address that can be paired and named: more than RFC 5321 4.5.3.1.2 leaves room for."""
_INSERT = "INSERT INTO evidence VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
_UPDATE = (
    "UPDATE recipients SET transport = ?, handling = ?, grade = ?, expanded = ?, failed_at = ?, delivered_at = ?,"
    " displayed_at = ?, replied_at = ?, answering = ?, state = ? WHERE id = ?"
)


def answering_key(report: dict[str, Any] | None, kind: str) -> tuple[str | None, str | None]:
    """Who answered, as text and as it is looked up; nothing of a delivery report, which names a machine."""
    by = (report or {}).get("by")
    if not by or kind == EvidenceKind.DSN or "@" not in by or len(by) > MOST_ADDRESS:
        return None, None
    return by, search_key(by)


def add_evidence(db: sqlite3.Connection, entry: Entry) -> None:
    """The row of one piece of evidence, and what it moves."""
    body, report = entry.body, entry.cells.get("report")
    recipient, kind, verdict, value = body.get("recipient"), body["evidence"], body["verdict"], body["value"]
    grade, pair = body.get("grade", Grade.CLAIMED.value), body.get("pair")
    other = "alias" in body or verdict == Verdict.OTHER_ADDRESS
    answerer = body.get("answerer", entry.number if other else 0)
    counting = False
    if recipient is not None and (row := _row(db, recipient)) is not None:
        counting = counts(kind, verdict, grade, paired=pair is not None, confirm=row[2])
        if counting:
            _raise(db, row, recipient, standing_of(kind, value, entry.at, grade), answerer)
    db.execute(
        _INSERT,
        (
            entry.number,
            recipient,
            entry.at,
            kind,
            verdict,
            value,
            bool(body.get("duplicate")),
            report_key(report, kind, value),
            None,
            grade,
            *answering_key(report, kind),
            answerer,
            pair,
            counting,
        ),
    )


def _row(db: sqlite3.Connection, recipient: int) -> tuple[Any, ...] | None:
    query = f"SELECT request, outcome, confirm, answering, {STANDING} FROM recipients WHERE id = ?"
    row: tuple[Any, ...] | None = db.execute(query, (recipient,)).fetchone()
    return row


def _raise(db: sqlite3.Connection, row: tuple[Any, ...], recipient: int, found: Standing, answerer: int) -> None:
    """Join one more piece that counts, before it has its row."""
    if found == NOTHING:
        return
    request, outcome, _, answering = row[:4]
    before = Standing(*row[4:])
    after = join(before, found)
    more = is_answer(found) and not _has_answered(db, recipient, answerer)
    if after != before or more:
        answering += more
        state = state_of(request, after, outcome, answering)
        db.execute(_UPDATE, (*after, answering, state, recipient))


def _has_answered(db: sqlite3.Connection, recipient: int, answerer: int) -> bool:
    query = "SELECT kind, value, at FROM evidence WHERE counts = 1 AND recipient = ? AND answerer = ?"
    return any(is_answer(standing_of(*piece)) for piece in db.execute(query, (recipient, answerer)))


def recompute(db: sqlite3.Connection, recipient: int) -> None:
    """The state of one recipient from all of its evidence, and which of it counts."""
    row = _row(db, recipient)
    if row is None:
        return
    request, outcome, confirm = row[:3]
    standing, answerers, changed = NOTHING, set[int](), list[tuple[bool, int]]()
    query = "SELECT entry, at, kind, verdict, value, grade, pair, answerer, counts FROM evidence WHERE recipient = ?"
    for entry, at, kind, verdict, value, grade, pair, answerer, counted in db.execute(query, (recipient,)):
        counting = counts(kind, verdict, grade, paired=pair is not None, confirm=confirm)
        if counting != bool(counted):
            changed.append((counting, entry))
        if counting:
            found = standing_of(kind, value, at, grade)
            standing = join(standing, found)
            if is_answer(found):
                answerers.add(answerer)
    db.executemany("UPDATE evidence SET counts = ? WHERE entry = ?", changed)
    state = state_of(request, standing, outcome, len(answerers))
    db.execute(_UPDATE, (*standing, len(answerers), state, recipient))


def add_note(db: sqlite3.Connection, entry: Entry) -> None:
    """What somebody says to have learned otherwise. It stands beside the evidence, without a grade, and moves nothing."""
    body = entry.body
    values = (entry.number, body["recipient"], at_value(body["seen_at"]), EvidenceKind.ATTESTED.value, body["value"])
    db.execute(
        "INSERT INTO evidence (entry, recipient, at, kind, verdict, value, duplicate, answerer, counts)"
        f" VALUES (?,?,?,?,'{Verdict.MATCHED.value}',?,0,0,0)",
        values,
    )
    _count_notes(db, body["recipient"])


def _count_notes(db: sqlite3.Connection, recipient: int) -> None:
    db.execute(
        "UPDATE recipients SET attested = (SELECT count(*) FROM evidence WHERE recipient = recipients.id"
        " AND kind = ? AND revoked IS NULL) WHERE id = ?",
        (EvidenceKind.ATTESTED.value, recipient),
    )


def add_pair(db: sqlite3.Connection, entry: Entry) -> None:
    """A person says that one address answers for another: what came from it so far counts."""
    asked, other = entry.cells.get("asked"), entry.cells.get("other")
    db.execute(
        "INSERT INTO pairs VALUES (?,?,?,NULL)",
        (entry.number, search_key(asked) if asked else None, search_key(other) if other else None),
    )
    linked = entry.body["evidence"]
    db.executemany(
        "UPDATE evidence SET pair = ?, recipient = ?, answerer = ? WHERE entry = ?",
        [(entry.number, recipient, answerer, evidence) for evidence, recipient, answerer in linked],
    )
    for recipient in sorted({recipient for _, recipient, _ in linked}):
        recompute(db, recipient)


def revoke(db: sqlite3.Connection, entry: Entry) -> None:
    """A note or a pairing is taken back."""
    revoked = entry.body["entry"]
    paired = db.execute("UPDATE pairs SET revoked = ? WHERE entry = ? AND revoked IS NULL", (entry.number, revoked))
    if paired.rowcount:
        rows = db.execute("SELECT DISTINCT recipient FROM evidence WHERE pair = ? ORDER BY 1", (revoked,)).fetchall()
        db.execute("UPDATE evidence SET pair = NULL WHERE pair = ?", (revoked,))
        for (recipient,) in rows:
            recompute(db, recipient)
        return
    db.execute(
        "UPDATE evidence SET revoked = ? WHERE entry = ? AND kind = ? AND revoked IS NULL",
        (entry.number, revoked, EvidenceKind.ATTESTED.value),
    )
    row = db.execute("SELECT recipient FROM evidence WHERE entry = ?", (revoked,)).fetchone()
    if row is not None and row[0] is not None:
        _count_notes(db, row[0])
