"""Entries: the facts of the ledger, their canonical form, and the cells that hold personal data.

Called by :mod:`kaifu.proxy.ledger_journal`, which numbers and stores them, and by everything that reads or verifies.

An entry's *body* is a JSON object in canonical form: UTF-8, keys sorted by code point, no white space, only the
escapes that JSON requires, no floats. ``v`` is the version of the form, ``n`` the entry's number, ``kind`` what sort of
fact, ``at`` the time it was written (RFC 3339, UTC, microseconds), ``message`` the number of the message it is about. The body holds no personal data.

Personal data lie in *cells*, each named within its entry. The body keeps for each a commitment::

    base64(SHA-256("kaifu cell 1" NUL salt[16] name NUL value))

with a random salt, and ``value`` the canonical JSON of the cell, or, for the cell ``raw``, the octets themselves. A cell
can be deleted and the entry still verifies; without the salt its commitment tells nothing.

Kinds and their cells:

========  ================================================  ============================================
kind      body                                              cells
========  ================================================  ============================================
message   type, policy, sent_at, to[id, direction, …]       ids, sender, subject, to.ID per recipient
attempt   the same: one more try of an unanswered message   ids, to.ID
outcome   outcomes {outcome: [recipient id]}, answered      reply
evidence  evidence, verdict, value, grade, alias, pair,     report, raw
          recipient, answerer, duplicate, carrier
attested  recipient, value (phone …), seen_at               note, actor
paired    recipient, evidence [entry, recipient, answerer]  asked, other, note, actor
revoked   entry                                             actor
consent   value                                             person, actor, note
looked    what (list, show …); the message, if only one     actor, filter
refused   what, needs (the role that it takes)              actor
policy    digest, mode                                      text (the file)
erasure   entries (numbers or [first, last]), ground,       actor, text
          names (of cells; without: all)
hold      messages (numbers)                                actor, reason
released  hold (the entry)                                  actor
anchored  batch, to (file, command, mail)
handed-   recipients (numbers), sha256 of the bundle        actor, to (whom), purpose
out
========  ================================================  ============================================

Limits: text that is no Unicode (lone surrogates) is stored with replacement characters. Fails only with
:class:`ValueError`, on a body that is not an entry.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from .bundle_verifier import commitment as commitment  # noqa: PLC0414, ours to offer

VERSION = 1
SALT_LENGTH = 16

_json = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False).encode
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def canonical(value: object) -> str:
    """A JSON value in canonical form, see above."""
    return _json(value)


def microseconds(moment: datetime) -> int:
    """An aware datetime as UTC microseconds since 1970."""
    since = moment - _EPOCH
    return (since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds


def moment_of(at: int) -> datetime:
    """The inverse of :func:`microseconds`."""
    return _EPOCH + at * _MICROSECOND


@lru_cache(maxsize=256)
def _second_text(second: int) -> str:
    return moment_of(second * 1_000_000).isoformat()[:19]


def at_text(at: int) -> str:
    """Microseconds as RFC 3339, for example ``2026-11-21T09:30:00.000000Z``."""
    second, rest = divmod(at, 1_000_000)
    return f"{_second_text(second)}.{rest:06}Z"


@lru_cache(maxsize=256)
def at_value(text: str) -> int:
    """The inverse of :func:`at_text`."""
    return microseconds(datetime.fromisoformat(text))


class Entry:
    """One fact, on its way into the ledger or out of it.

    ``body`` lacks ``v, n, kind, at, message`` and ``cells``, which :func:`encode` adds. ``cells``: name to JSON value, octets for
    ``raw``; a cell that was erased is missing. ``message``: the number of the message it is about, None for none.
    """

    __slots__ = ("at", "body", "cells", "kind", "message", "number")

    def __init__(
        self, number: int, kind: str, at: int, message: int | None, body: dict[str, Any], cells: dict[str, Any]
    ) -> None:
        self.number = number
        self.kind = kind
        self.at = at
        self.message = message
        self.body = body
        self.cells = cells


Cell = tuple[int, str, bytes, str | bytes]
"""A row of the table ``cells``: id, name, salt, value. The id is the entry's number times 2**20, plus the place of the cell's name
among those of the entry in order."""

CELLS_PER_ENTRY = 1 << 20


def clean(value: Any) -> Any:
    """A JSON value without lone surrogates, which no UTF-8 can hold."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {clean(key): clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean(item) for item in value]
    return value


def _stored(entry: Entry, name: str, value: Any) -> tuple[str | bytes, bytes]:
    """What is stored of a cell, and its octets for the commitment. Mends what is no Unicode in the entry itself."""
    if isinstance(value, bytes):
        return value, value
    text = _json(value)
    try:
        return text, text.encode()
    except UnicodeEncodeError:
        entry.cells[name] = value = clean(value)
        text = _json(value)
        return text, text.encode()


def encode(entry: Entry, salts: bytes) -> tuple[str, list[Cell]]:
    """Body text and cells of an entry. ``salts``: at least :data:`SALT_LENGTH` random octets per cell.

    Lone surrogates are replaced in the entry itself, so that what is derived from it now and later is the same.
    """
    body: dict[str, Any] = {"v": VERSION, "n": entry.number, "kind": entry.kind, "at": at_text(entry.at)}
    commitments: dict[str, str] = {}
    rows: list[Cell] = []
    start, row = 0, entry.number * CELLS_PER_ENTRY
    for name, value in sorted(entry.cells.items()) if len(entry.cells) > 1 else entry.cells.items():
        salt = salts[start : start + SALT_LENGTH]
        stored, octets = _stored(entry, name, value)
        commitments[name] = commitment(name, salt, octets)
        rows.append((row, name, salt, stored))
        start += SALT_LENGTH
        row += 1
    if entry.message is not None:
        body["message"] = entry.message
    if commitments:
        body["cells"] = commitments
    body.update(entry.body)
    text = _json(body)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            entry.body = clean(entry.body)
            text = _json(clean(body))
    return text, rows


_FRAME = ("v", "n", "kind", "at", "message", "cells")


def decode(text: str, cells: dict[str, str | bytes]) -> Entry:
    """The entry of a stored body and the stored values of those of its cells that still exist."""
    body = json.loads(text)
    if not isinstance(body, dict) or body.get("v") != VERSION:
        raise ValueError("not an entry of a form that this version knows")
    values = {name: value if isinstance(value, bytes) else json.loads(value) for name, value in cells.items()}
    rest = {key: value for key, value in body.items() if key not in _FRAME}
    return Entry(body["n"], body["kind"], at_value(body["at"]), body.get("message"), rest, values)
