"""Questions about who did what: acts by keyset, newest first unless said otherwise.

Called by :mod:`kaifu.proxy.ledger_desk`, on a read-only connection. Like :mod:`kaifu.proxy.ledger_read` it reads page by page, each
in one short transaction. Fails with sqlite3's errors.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from .ledger_read import entry_of, page_by_page


class ActPlace(NamedTuple):
    """Where in a list an act stands."""

    at: int
    entry: int


@dataclass(frozen=True, slots=True)
class Act:
    """One act. ``at``: UTC microseconds since 1970; ``actor`` None: nobody, or erased; ``details``: what else the entry says."""

    entry: int
    at: int
    what: str
    actor: str | None
    message: int | None
    details: dict[str, Any]

    @property
    def place(self) -> ActPlace:
        return ActPlace(self.at, self.entry)


@dataclass(frozen=True, slots=True)
class ActFilter:
    """Which acts. Everything given must hold; of several words, any. ``since`` is included, ``until`` is not."""

    since: int | None = None
    until: int | None = None
    what: tuple[str, ...] = ()
    actor: str | None = None
    message: int | None = None


@dataclass(frozen=True, slots=True)
class PolicyVersion:
    """A policy that was in force. ``at``: since when (UTC microseconds), ``until``: the next one's, None for the last recorded.

    ``text``: the file; None when it was erased.
    """

    entry: int
    at: int
    until: int | None
    digest: str
    mode: str
    text: str | None


def policy_versions(db: sqlite3.Connection, limit: int) -> list[PolicyVersion]:
    """The policies that were in force last, newest first."""
    rows = db.execute("SELECT entry, at, digest, mode FROM policies ORDER BY entry DESC LIMIT ?", (limit,)).fetchall()
    found, until = list[PolicyVersion](), None
    for entry, at, digest, mode in rows:
        written = entry_of(db, entry)
        text = None if written is None else written.cells.get("text")
        found.append(PolicyVersion(entry, at, until, digest, mode, text))
        until = at
    return found


def acts_page(
    db: sqlite3.Connection,
    wanted: ActFilter,
    *,
    after: ActPlace | None = None,
    limit: int = 100,
    newest_first: bool = True,
) -> list[Act]:
    """The next acts of a list, at most ``limit``."""
    order, beyond = ("DESC", "<") if newest_first else ("ASC", ">")
    conditions, values = _conditions(wanted)
    if after is not None:
        conditions.append(f"at {beyond}= ? AND (at, entry) {beyond} (?, ?)")
        values += [after.at, *after]
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    query = f"SELECT entry, at, what, actor, message FROM acts {where} ORDER BY at {order}, entry {order} LIMIT ?"
    db.execute("BEGIN")
    try:
        rows: list[tuple[int, int, str, str | None, int | None]] = db.execute(query, (*values, limit)).fetchall()
        return [Act(*row, _details(db, row[0])) for row in rows]
    finally:
        db.execute("ROLLBACK")


def acts(db: sqlite3.Connection, wanted: ActFilter, *, newest_first: bool = True, at_once: int = 500) -> Iterator[Act]:
    """All acts, read page by page."""

    def following(act: Act | None) -> list[Act]:
        after = None if act is None else act.place
        return acts_page(db, wanted, after=after, limit=at_once, newest_first=newest_first)

    return page_by_page(following, at_once)


def _conditions(wanted: ActFilter) -> tuple[list[str], list[Any]]:
    given = (
        ("at >= ?", wanted.since),
        ("at < ?", wanted.until),
        ("actor = ?", wanted.actor),
        ("message = ?", wanted.message),
    )
    conditions = [condition for condition, value in given if value is not None]
    values: list[Any] = [value for _, value in given if value is not None]
    if wanted.what:
        conditions.append(f"what IN ({','.join('?' * len(wanted.what))})")
        values += wanted.what
    return conditions, values


def _details(db: sqlite3.Connection, number: int) -> dict[str, Any]:
    """Body and cells of an entry, without what its row says already."""
    entry = entry_of(db, number)
    if entry is None:
        return {}
    body = entry.body if entry.kind != "looked" else {key: value for key, value in entry.body.items() if key != "what"}
    return {**body, **{name: value for name, value in entry.cells.items() if name != "actor"}}
