"""Evidence bundles: what the ledger has of one recipient of one message, with its proofs, for somebody who has no ledger.

Called by :mod:`kaifu.proxy.ledger_desk` on a read-only connection. A bundle is made of the entries about the message and
this recipient, as they were sealed; :mod:`kaifu.proxy.bundle_facts`, :mod:`kaifu.proxy.bundle_words` and :mod:`kaifu.proxy.bundle_page` say
what they say, and go into it with :mod:`kaifu.proxy.bundle_verifier`, which is its ``verify.py``. The proofs
lead down from the newest batch, and from earlier ones whose heads others may hold: of anchors that were sent, for each entry the earliest
that covers it and the latest of all, and those which the caller names. The entry that it was handed out is sealed after the bundle is
made, as it has the bundle's digest.

Left out are the cells that belong to others: who else got the message and the sentences about them; what was said to several at once;
the text of the policy; any other cell (a report, a note) in which the address of another recipient of the message stands. Their
commitments stay in the bodies, and so does what bodies say of others by number: request, rule, basis, outcome. Of who is erased everywhere no address is known any more by which such a cell could be found.

Before it is returned a bundle is checked as a stranger would. Fails with :class:`LedgerError`, also when something in the ledger does
not fit its seals, and with sqlite3's errors.
"""

from __future__ import annotations

import io
import json
import re
import sqlite3
import zipfile
from collections.abc import Collection, Iterable, Sequence
from datetime import tzinfo
from pathlib import Path
from typing import Any, NamedTuple

from . import bundle_verifier
from .bundle_facts import facts_of
from .bundle_page import files_of
from .bundle_verifier import FAULTS, PARTS, PROGRAM, PROOF, Anchor, Proof, check, written
from .ledger import LedgerError
from .ledger_entries import CELLS_PER_ENTRY, at_value, moment_of
from .ledger_holds import ranges_of
from .ledger_proof import batch_at, head_at, ledger_id, newest_batch, proof_of

_NEVER = {"anchored": {"actor"}, "erasure": {"actor", "text"}, "policy": {"text"}}
"""Cells that concern the ledger as a whole, and nobody in this message."""


class Wanted(NamedTuple):
    """What a bundle is about: the numbers of a message, and of one person among its recipients."""

    message: int
    recipients: tuple[int, ...]


def bundle(db: sqlite3.Connection, wanted: Wanted, anchors: Sequence[Anchor], zone: tzinfo) -> bytes:
    """A bundle as a zip archive; the same ledger gives the same octets. ``anchors``: further ones that proofs must lead down from.

    LedgerError when one of them does not fit this ledger.
    """
    db.execute("BEGIN")
    try:
        _check_given(db, anchors)
        members = _members(db, wanted, anchors, zone)
    except (LedgerError, *FAULTS) as error:
        raise LedgerError(_sentence(wanted.message, str(error))) from error
    finally:
        db.execute("ROLLBACK")
    return packed(members)


def _sentence(message: int, why: str) -> str:
    return f"no bundle of message {message} can be handed out: {why}; kaifu ledger verify shows whether the ledger was altered"


def _check_given(db: sqlite3.Connection, anchors: Sequence[Anchor]) -> None:
    newest = newest_batch(db)
    for anchor in anchors:
        if anchor.ledger != ledger_id(db):
            raise LedgerError(f"the anchor of {anchor.at} is of another ledger")
        if newest is None or anchor.batch > newest.id or head_at(db, anchor.batch) != anchor.head:
            raise LedgerError(f"the anchor of {anchor.at} (batch {anchor.batch}) does not fit this ledger")


def _members(db: sqlite3.Connection, wanted: Wanted, anchors: Sequence[Anchor], zone: tzinfo) -> dict[str, bytes]:
    numbers = _numbers(db, wanted)
    others = _Others(db, wanted)
    shown = {number: others.shown(*_entry(db, number)) for number in numbers}
    if gone := {number: some for number in numbers if (some := _gone(db, number, shown[number]))}:
        numbers = sorted({*numbers, *_erasures(db, gone)})
    sent = _anchored(db, numbers)
    newest = newest_batch(db)
    if newest is None:
        raise LedgerError("the ledger has no seal")
    starts = {newest.id, *sent.values(), *(anchor.batch for anchor in anchors)}
    proof = proof_of(db, {number: shown.get(number, ()) for number in {*numbers, *sent}}, starts)
    entries, program = Proof(written(proof)).entries, Path(bundle_verifier.__file__)
    _check_derived(db, facts_of(proof["ledger"], entries, wanted.recipients))
    members = {
        **files_of(proof["ledger"], entries, wanted.recipients, lambda text: _offset(text, zone)),
        PROOF: written(proof),
        PROGRAM: program.read_bytes(),
        **{name: program.with_name(name).read_bytes() for name in PARTS},
    }
    head = Anchor(ledger_id(db), newest.id, newest.last, newest.head, "")
    found = check(members, [head, *anchors], members[PROGRAM])
    if found.problems or found.missing or set(found.needed) - set(found.covered):
        raise LedgerError("; ".join(found.problems) or "not everything is proven")
    return members


def _offset(text: str, zone: tzinfo) -> int:
    """Minutes of the zone at a time."""
    offset = moment_of(at_value(text)).astimezone(zone).utcoffset()
    return 0 if offset is None else int(offset.total_seconds() // 60)


# Which entries.


def _body(db: sqlite3.Connection, number: int) -> dict[str, Any]:
    row = db.execute("SELECT body FROM entries WHERE id = ?", (number,)).fetchone()
    if row is None:
        raise LedgerError(f"the ledger has no entry {number}")
    body: dict[str, Any] = json.loads(row[0])
    return body


def _of_kind(db: sqlite3.Connection, what: str) -> list[dict[str, Any]]:
    """The bodies of all acts of a kind, in order."""
    rows = db.execute(
        "SELECT e.body FROM acts a JOIN entries e ON e.id = a.entry WHERE a.what = ? ORDER BY e.id", (what,)
    )
    return [json.loads(body) for (body,) in rows.fetchall()]


def _numbers(db: sqlite3.Connection, wanted: Wanted) -> list[int]:
    """The entries about the message and these recipients, but for erasures and anchors."""
    mine = set(wanted.recipients)
    found: set[int] = set()
    for (text,) in db.execute("SELECT body FROM entries WHERE message = ? ORDER BY id", (wanted.message,)).fetchall():
        body = json.loads(text)
        kind = body["kind"]
        if kind in ("message", "attempt"):
            found.add(body["n"])
            found |= _policy(db, body)
        elif kind == "outcome" and mine & {each for some in body["outcomes"].values() for each in some}:
            found.add(body["n"])
    for recipient in wanted.recipients:
        found.update(row[0] for row in db.execute("SELECT entry FROM evidence WHERE recipient = ?", (recipient,)))
    found |= _pairings(db, mine, found)
    return sorted(found | {each["n"] for each in _of_kind(db, "revoke") if each["entry"] in found})


def _policy(db: sqlite3.Connection, body: dict[str, Any]) -> set[int]:
    """The entry of the policy that decided: hosts do not wait for it, so it may come just after."""
    query = "SELECT entry FROM policies WHERE digest = ? ORDER BY entry > ?, abs(entry - ?) LIMIT 1"
    return {entry for (entry,) in db.execute(query, (body.get("policy"), body["n"], body["n"]))}


def _pairings(db: sqlite3.Connection, mine: set[int], found: Collection[int]) -> set[int]:
    """Those made for these recipients, or that ever let something count for them, wherever they were made."""
    let_count = {body["pair"] for number in found if "pair" in (body := _body(db, number))}
    return {
        each["n"]
        for each in _of_kind(db, "pair")
        if each["n"] in let_count or each["recipient"] in mine or mine & {about for _, about, _ in each["evidence"]}
    }


def _gone(db: sqlite3.Connection, number: int, shown: Collection[str]) -> set[str]:
    """The cells that should be shown and are not there any more."""
    return set(shown) - set(_cells(db, number))


def _erasures(db: sqlite3.Connection, gone: dict[int, set[str]]) -> set[int]:
    """The erasures that say why cells are not there. LedgerError when none does."""
    found: set[int] = set()
    known = [(each, ranges_of(each["entries"])) for each in _of_kind(db, "erasure")]
    for number, names in gone.items():
        for name in names:
            for each, spans in known:
                if number < each["n"] and name in each.get("names", [name]) and any(a <= number <= b for a, b in spans):
                    found.add(each["n"])
                    break
            else:
                raise LedgerError(f"the cell {name} of entry {number} is gone, and no entry says that it was erased")
    return found


# Which cells.


def _cells(db: sqlite3.Connection, number: int) -> dict[str, str | bytes]:
    first = number * CELLS_PER_ENTRY
    query = "SELECT name, value FROM cells WHERE id >= ? AND id < ?"
    return dict(db.execute(query, (first, first + CELLS_PER_ENTRY)).fetchall())


def _entry(db: sqlite3.Connection, number: int) -> tuple[dict[str, Any], dict[str, str | bytes]]:
    return _body(db, number), _cells(db, number)


class _Others:
    """Who else got the message, and which cells are theirs."""

    def __init__(self, db: sqlite3.Connection, wanted: Wanted) -> None:
        self._mine = set(wanted.recipients)
        own = {row[0] for row in db.execute("SELECT sender FROM messages WHERE id = ?", (wanted.message,))}
        theirs: set[str | None] = set()
        for (number,) in db.execute("SELECT id FROM entries WHERE message = ?", (wanted.message,)).fetchall():
            for name, value in _cells(db, number).items():
                if name.startswith("to."):
                    (own if int(name[3:]) in self._mine else theirs).add(json.loads(value)["address"])
        folded = {address.casefold() for address in own if address}
        names = {address.casefold() for address in theirs if address} - folded
        self._pattern = _any_of(names) if names else None

    def shown(self, body: dict[str, Any], cells: dict[str, str | bytes]) -> set[str]:
        """The names of the cells to show, also of those that are gone."""
        return {name for name in body.get("cells", ()) if self._is_shown(body, name, cells.get(name))}

    def _is_shown(self, body: dict[str, Any], name: str, value: str | bytes | None) -> bool:
        kind = body["kind"]
        if kind in ("message", "attempt") and name.startswith("to."):
            return int(name[3:]) in self._mine
        if name in _NEVER.get(kind, ()):
            return False
        if kind == "outcome" and not {each for some in body["outcomes"].values() for each in some} <= self._mine:
            return False
        return name in ("sender", "ids") or value is None or not self._names_others(value)

    def _names_others(self, value: str | bytes) -> bool:
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        return self._pattern is not None and self._pattern.search(text.casefold()) is not None


def _any_of(addresses: Iterable[str]) -> re.Pattern[str]:
    """Finds each of these addresses in folded text, but not within a longer one."""
    either = "|".join(re.escape(address) for address in sorted(addresses))
    return re.compile(rf"(?<![\w.+%-])(?:{either})(?![\w-]|\.\w)")


# Proofs.


def _anchored(db: sqlite3.Connection, numbers: Sequence[int]) -> dict[int, int]:
    """By entry, the batches of anchors that were sent: for each of these entries the earliest that covers it, and the latest."""
    sent = [(each["batch"], each["n"]) for each in _of_kind(db, "anchor")]
    wanted: dict[int, int] = {}
    for number in numbers:
        batch = batch_at(db, number).id
        covering = next(((entry, at) for at, entry in sent if at >= batch), None)
        if covering is not None:
            wanted |= [covering]
    if wanted:
        wanted[sent[-1][1]] = sent[-1][0]
    return wanted


def _check_derived(db: sqlite3.Connection, facts: dict[str, Any]) -> None:
    """LedgerError when the tables that lists and screens read say something else than the entries."""
    for each in facts["recipients"]:
        query = "SELECT entry, answering FROM recipients WHERE id = ?"
        decided = db.execute(query, (each["recipient"],)).fetchone()
        rows = db.execute(
            "SELECT entry, counts FROM evidence WHERE recipient = ? AND kind <> 'attested' ORDER BY entry",
            (each["recipient"],),
        ).fetchall()
        told = [(one["entry"], int(one["counts"])) for one in each["evidence"]]
        if decided != (each["decided_by"], each["answered"]) or rows != told:
            raise LedgerError("the tables of the ledger say something else than its entries")


# The archive.


def packed(members: dict[str, bytes]) -> bytes:
    """Members as an archive, in this order, without times or owners."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, octets in members.items():
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.create_system, info.external_attr = 3, 0o100600 << 16
            archive.writestr(info, octets)
    return stream.getvalue()
