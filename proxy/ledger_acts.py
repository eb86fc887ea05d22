"""What people did, and what concerns all of them: from entries to the derived tables ``acts`` and ``policies``.

Called by :mod:`kaifu.proxy.ledger_derive` with each entry of the kinds in :data:`WORDS`. One row of ``acts`` for each, so that
who did what can be listed without reading every entry; an actor whose cell was erased has none there either. Fails with
sqlite3's errors.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from .ledger_entries import Entry

LOOKS = ("list", "show", "export", "unmatched", "audit", "explain")
"""What can be looked at: word for word what an entry of the kind ``looked`` says."""

WORDS = {
    "looked": "",
    "attested": "note",
    "revoked": "revoke",
    "paired": "pair",
    "consent": "consent",
    "handed-out": "bundle",
    "erasure": "erasure",
    "hold": "hold",
    "released": "release",
    "anchored": "anchor",
    "policy": "policy",
    "refused": "refused",
}
"""Kinds of entries that are acts, and the word for each. What was looked at, the entry says itself."""

WHAT = tuple(dict.fromkeys((*LOOKS, *filter(None, WORDS.values()))))
"""All words, as ``kaifu audit list --what`` takes them."""


def add_act(db: sqlite3.Connection, entry: Entry) -> None:
    """The row of one act; and of a policy, the version that it is."""
    body = entry.body
    what = WORDS[entry.kind] or body["what"]
    values = (entry.number, entry.at, what, actor_of(entry.cells), entry.message)
    db.execute("INSERT INTO acts VALUES (?,?,?,?,?)", values)
    if entry.kind == "policy":
        db.execute("INSERT INTO policies VALUES (?,?,?,?)", (entry.number, entry.at, body["digest"], body["mode"]))


def actor_of(cells: dict[str, Any]) -> str | None:
    """Who acted; None when nobody did, or when it was erased."""
    actor = cells.get("actor")
    return None if actor is None else str(actor)


def policy_in_force(db: sqlite3.Connection) -> str | None:
    """The digest of the policy that was recorded last."""
    row = db.execute("SELECT digest FROM policies ORDER BY entry DESC LIMIT 1").fetchone()
    return None if row is None else str(row[0])
