"""A ledger with everything in it, and ways to tamper with it through raw SQL, as somebody would who can write the file."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.ledger_values import YAMADA, journal, receipt, record, store, to

from kaifu.policies.facts import Consent
from kaifu.proxy.ledger import EvidenceKind, Outcome, Record, Verdict
from kaifu.proxy.ledger_entries import Entry, encode
from kaifu.proxy.ledger_erasure import erase, hold, release
from kaifu.proxy.ledger_people import PeopleJournal
from kaifu.proxy.ledger_rebuild import rebuild
from kaifu.proxy.ledger_seal import batch_of, genesis, leaf, skip
from kaifu.proxy.migrations import DERIVED

SOURCES = ("entries", "cells", "batches", "identity")
EVIDENCE = (*SOURCES, *DERIVED)
OTHER = "suzuki@partner.example"


Step = Callable[[PeopleJournal], object]


def _delivered(asked: Record) -> Step:
    told = [(YAMADA, Outcome.ACCEPTED), (OTHER, Outcome.DEFERRED)]
    return lambda writing: writing.finish(writing.begin(asked), told, "250 ok", 0)


def _begun(asked: Record) -> Step:
    return lambda writing: writing.begin(asked)


def _steps() -> Iterator[Step]:
    """What happens, one step after another."""
    for number in range(6):
        recipients = to(retain_days=number), to(OTHER)
        asked = record(*recipients, key=b"%d" % number, message_id=f"{number}@a", minutes=number, envid=f"e{number}")
        yield _delivered(asked)
    yield _begun(record(to(OTHER), key=b"0", message_id="0@a", minutes=20))
    yield _begun(record(to(retain_days=0), to(OTHER, retain_days=0), key=b"old", minutes=-9000))
    for number, value in enumerate(("displayed", "deleted", "delivered", "unheard of")):
        found = receipt(1 + 2 * number, value, message_id=f"r{number}")
        yield _begun(record(key=b"r%d" % number, evidence=(found,)))
    strange = receipt(3, verdict=Verdict.OTHER_ADDRESS, by=OTHER, message_id="o")
    yield _begun(record(key=b"o", evidence=(strange, receipt(5, kind=EvidenceKind.REPLY))))
    yield lambda writing: writing.pair(3, OTHER, "root", "by phone")
    yield lambda writing: writing.attest(4, "phone", 5, "root", "said so")
    yield lambda writing: writing.attest(2, "letter", 5, "root", "said so")
    yield lambda writing: writing.consent(YAMADA, Consent.DENIED, "root", "by letter")
    yield lambda writing: writing.consent(YAMADA, Consent.GRANTED, "root", "")
    yield lambda writing: hold(writing, [2, 3], actor="root", reason="case 7")
    yield lambda writing: writing.policy("digest", "enforce", "version: 1", 5)
    yield lambda writing: writing.act("looked", {"what": "list"}, {"actor": "root", "filter": {}})
    yield lambda writing: writing.act("anchored", {"batch": 3, "to": ["file", "mail"]}, {"actor": "root"})
    handed = {"recipients": [3], "sha256": "00" * 32}
    yield lambda writing: writing.act("handed-out", handed, {"actor": "root", "to": "a court", "purpose": "case 7"}, 2)


def build(path: Path) -> None:
    """Every kind of entry, in batches of one to five; something held, something erased lawfully."""
    steps = list(_steps())
    with store(path) as opened:
        at = 0
        for size in (1, 3, 2, 1, 5, 4, 1, 2, 9):
            with journal(opened) as writing:
                for step in steps[at : at + size]:
                    step(writing)
            at += size
        db = opened.db
        kinds = {json.loads(body)["kind"]: number for number, body in db.execute("SELECT id, body FROM entries")}
        old = db.execute("SELECT id FROM entries WHERE json_extract(body, '$.kind') = 'message'").fetchall()[-1][0]
        with journal(opened) as writing:
            writing.revoke(kinds["attested"], [2], "root")
            erase(writing, [old], ground="retention", actor="kaifu")
            erase(
                writing,
                [1, (kinds["attested"], kinds["consent"] - 1)],
                ground="request",
                actor="root",
                cells=["to.1", "note", "person"],
            )
        with journal(opened) as writing:
            release(writing, kinds["hold"], actor="root")
            erase(writing, [2], ground="other", actor="root", text="by order")
        with journal(opened) as writing:
            hold(writing, [1], actor="root", reason="case 8")


def copy_of(db: sqlite3.Connection) -> sqlite3.Connection:
    """The same ledger in memory."""
    copy = sqlite3.connect(":memory:", isolation_level=None)
    db.backup(copy)
    return copy


def rows(db: sqlite3.Connection, table: str) -> list[str]:
    """Everything in a table, with types."""
    return [repr(row) for row in db.execute(f"SELECT * FROM {table}")]


def everything(db: sqlite3.Connection) -> list[list[str]]:
    """Everything that is evidence."""
    return [rows(db, table) for table in EVIDENCE]


def columns(db: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in db.execute(f"PRAGMA table_info({table})")]


def keys(db: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in db.execute(f"PRAGMA table_info({table})") if row[5]]


def another(value: Any, others: list[Any], chance: random.Random) -> Any:
    """Another value: that of another row, one like it, or one of another type."""
    way = chance.randrange(6)
    if way == 0:
        return chance.choice(others)
    if way == 1:
        return chance.choice([None, "", b"", 0, -1, 1, 2.5, "x", b"\xff", (1 << 63) - 1, -(1 << 63)])
    if isinstance(value, int):
        return value + chance.choice((-2, -1, 1, 2, 1 << 40))
    if isinstance(value, bytes):
        if way == 2 or not value:
            return value.decode("latin-1")
        place = chance.randrange(len(value))
        return value[:place] + bytes([value[place] ^ 1 << chance.randrange(8)]) + value[place + 1 :]
    if isinstance(value, str):
        if way == 2:
            return value.encode()
        place = chance.randrange(len(value) + 1)
        return value[:place] + chance.choice(("", " ", "é", "0", "}")) + value[place + chance.randrange(2) :]
    return chance.choice(("x", 5, b"x"))


def edit(db: sqlite3.Connection, table: str, column: str, chance: random.Random) -> None:
    """One value of one row becomes another."""
    key = keys(db, table)
    names = columns(db, table)
    found = db.execute(f"SELECT {', '.join(names)} FROM {table}").fetchall()
    row = chance.choice(found)
    place = names.index(column)
    value = another(row[place], [other[place] for other in found], chance)
    where = " AND ".join(f"{name} IS ?" for name in key)
    db.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (value, *(row[names.index(name)] for name in key)))


def delete(db: sqlite3.Connection, table: str, chance: random.Random) -> None:
    """One row, or several that follow each other, vanish."""
    key = ", ".join(keys(db, table))
    found = db.execute(f"SELECT {key} FROM {table} ORDER BY {key}").fetchall()
    start = chance.randrange(len(found))
    marks = ", ".join("?" * len(keys(db, table)))
    for row in found[start : start + chance.choice((1, 1, 2, 5))]:
        db.execute(f"DELETE FROM {table} WHERE ({key}) = ({marks})", row)


def insert(db: sqlite3.Connection, table: str, chance: random.Random) -> None:
    """A row like another one."""
    names, key = columns(db, table), keys(db, table)
    row = list(chance.choice(db.execute(f"SELECT {', '.join(names)} FROM {table}").fetchall()))
    for name in key:
        row[names.index(name)] = another(row[names.index(name)], [row[names.index(name)]], chance)
    db.execute(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})", row)


def swap(db: sqlite3.Connection, table: str, chance: random.Random) -> None:
    """Two rows change places."""
    names, key = columns(db, table), keys(db, table)
    rest = [name for name in names if name not in key]
    found = db.execute(f"SELECT {', '.join(names)} FROM {table}").fetchall()
    one, other = chance.sample(found, 2) if len(found) > 1 else (found[0], found[0])
    where = " AND ".join(f"{name} IS ?" for name in key)
    for target, source in ((one, other), (other, one)):
        values = [source[names.index(name)] for name in rest]
        db.execute(
            f"UPDATE {table} SET {', '.join(f'{name} = ?' for name in rest)} WHERE {where}",
            (*values, *(target[names.index(name)] for name in key)),
        )


def shift(db: sqlite3.Connection, chance: random.Random) -> str:
    """An entry is taken out and those after it move up, or one is put in and they make room. Returns what happened."""
    last = db.execute("SELECT max(id) FROM entries").fetchone()[0]
    at = chance.randrange(1, last)
    step = chance.choice((-1, 1))
    moved = db.execute("SELECT id, message, body FROM entries WHERE id >= ?", (at,)).fetchall()
    cells = db.execute("SELECT id, name, salt, value FROM cells WHERE id >= ?", (at << 20,)).fetchall()
    db.execute("DELETE FROM entries WHERE id >= ?", (at,))
    db.execute("DELETE FROM cells WHERE id >= ?", (at << 20,))
    if step < 0:
        moved = moved[1:]
        cells = [cell for cell in cells if cell[0] >= (at + 1) << 20]
    else:
        db.execute("INSERT INTO entries VALUES (?,?,'{}')", moved[0][:2])
    db.executemany("INSERT INTO entries VALUES (?,?,?)", [(number + step, *rest) for number, *rest in moved])
    db.executemany("INSERT INTO cells VALUES (?,?,?,?)", [(number + (step << 20), *rest) for number, *rest in cells])
    return "removed" if step < 0 else "inserted"


def reseal(db: sqlite3.Connection, *, derive: bool = True) -> None:
    """Compute everything anew that can be computed: the batches, from the entries as they are, and the derived tables."""
    bodies: dict[int, str] = dict(db.execute("SELECT id, body FROM entries ORDER BY id").fetchall())
    ends = [last for (last,) in db.execute("SELECT last FROM batches ORDER BY id") if last <= max(bodies)]
    if not ends or ends[-1] < max(bodies):
        ends.append(max(bodies))
    heads = {0: genesis(db.execute("SELECT ledger FROM identity").fetchone()[0])}
    db.execute("DELETE FROM batches")
    first = 1
    for number, last in enumerate(ends, 1):
        leaves = [leaf(bodies[entry].encode()) for entry in range(first, last + 1)]
        batch = batch_of(number, first, leaves, heads[number - 1], heads[skip(number)])
        db.execute("INSERT INTO batches VALUES (?,?,?,?,?,?)", batch)
        heads[number], first = batch.head, last + 1
    if derive:
        rebuild(db)


def append(db: sqlite3.Connection, kind: str, at: int, body: dict[str, Any]) -> int:
    """An entry at the end, without its seal."""
    number: int = db.execute("SELECT max(id) FROM entries").fetchone()[0] + 1
    text, _ = encode(Entry(number, kind, at, None, body, {}), b"")
    db.execute("INSERT INTO entries VALUES (?,?,?)", (number, None, text))
    return number
