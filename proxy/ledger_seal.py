"""The seal of the ledger: a Merkle tree over the entries of each commit, the trees in a chain, and proofs of one entry.

Called by :mod:`kaifu.proxy.ledger_journal` at each commit, by :mod:`kaifu.proxy.ledger_verify`, and by whoever makes or checks
a proof. Pure.

The *leaf* of an entry is ``SHA-256(0x00 || body)``, a *node* ``SHA-256(0x01 || left || right)``, and the *root* of a batch is
that of the tree of RFC 9162 2.1.1: the left subtree is the largest power of two. The *head* of batch ``i`` is::

    SHA-256("kaifu batch 1" NUL || i || first || last || root || head(i - 1) || head(skip(i)))

with the numbers of the batch and of its first and last entry in eight octets each, big endian; ``skip(i)`` is ``i`` without
its lowest binary digit that is one, and ``head(0)`` is ``SHA-256("kaifu ledger 1" NUL || the ledger's id)``. So a head binds
everything before it, and from any later head the way down to a batch takes a number of steps that grows like the square
of a logarithm.

A *proof* (:data:`Proof`) leads from an entry up its tree to the root of its batch, and from a later batch, whose head is known
(an *anchor*), down to that one. As JSON::

    {"version": 1, "ledger": id, "entry": number, "body": text,
     "cells": {name: {"salt": …, "text": …} or {"salt": …, "octets": base64}},      those that are shown
     "batch": number, "path": [hash, …],                                              siblings, from the leaf up
     "hops": [{"batch", "first", "last", "root", "previous", "skip"}, …]}              from the anchor's batch to the entry's

where ids, salts and hashes are in hexadecimal. :func:`check_proof` fails with :class:`ProofError`, on anything else than such a proof
that is right; nothing else here fails.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

from .ledger_entries import commitment

BATCH_DOMAIN = b"kaifu batch 1\0"
LEDGER_DOMAIN = b"kaifu ledger 1\0"
PROOF_VERSION = 1
MARK = 8
"""Octets of each leaf that a batch keeps, so that the entry that does not fit can be named."""

Proof = dict[str, Any]


class ProofError(ValueError):
    """A proof that proves nothing; the text says at which point."""


class Batch(NamedTuple):
    """A row of the table ``batches``: entries ``first`` to ``last``. ``marks``: the start of each of their leaves."""

    id: int
    first: int
    last: int
    root: bytes
    head: bytes
    marks: bytes


def leaf(body: bytes) -> bytes:
    """The leaf of an entry."""
    return sha256(b"\0" + body).digest()


def root_of(leaves: Sequence[bytes]) -> bytes:
    """The root of a tree with at least one leaf."""
    level = leaves
    while len(level) > 1:
        pairs = [sha256(b"\1" + level[at] + level[at + 1]).digest() for at in range(0, len(level) - 1, 2)]
        if len(level) & 1:
            pairs.append(level[-1])
        level = pairs
    return level[0]


def path_of(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The siblings on the way from a leaf to the root, from below."""
    path, level = [], list(leaves)
    while len(level) > 1:
        if index ^ 1 < len(level):
            path.append(level[index ^ 1])
        pairs = [sha256(b"\1" + level[at] + level[at + 1]).digest() for at in range(0, len(level) - 1, 2)]
        level = pairs + level[len(pairs) * 2 :]
        index >>= 1
    return path


def root_above(found: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """The root that a leaf at this place in a tree of this size has with these siblings. ProofError when it cannot be."""
    rest = iter(path)
    while size > 1:
        if index ^ 1 < size:
            sibling = next(rest, None)
            if sibling is None:
                raise ProofError("the path from the entry to the root of its batch is too short")
            found = sha256(b"\1" + (sibling + found if index & 1 else found + sibling)).digest()
        index, size = index >> 1, size + 1 >> 1
    if next(rest, None) is not None:
        raise ProofError("the path from the entry to the root of its batch is too long")
    return found


class Tree:
    """A root while the leaves come one by one; memory grows with the logarithm of their number."""

    def __init__(self) -> None:
        self._roots: list[tuple[int, bytes]] = []

    def add(self, found: bytes) -> None:
        """The next leaf."""
        size = 1
        while self._roots and self._roots[-1][0] == size:
            found = sha256(b"\1" + self._roots.pop()[1] + found).digest()
            size *= 2
        self._roots.append((size, found))

    def root(self) -> bytes:
        """The root of all leaves so far; of none, no octets."""
        found = b""
        for _, left in reversed(self._roots):
            found = sha256(b"\1" + left + found).digest() if found else left
        return found


def skip(batch: int) -> int:
    """The earlier batch, beside the one before, whose head goes into that of this batch."""
    return batch & (batch - 1)


def genesis(ledger: bytes) -> bytes:
    """The head before the first batch of the ledger with this id."""
    return sha256(LEDGER_DOMAIN + ledger).digest()


def head_of(batch: int, first: int, last: int, root: bytes, previous: bytes, skipped: bytes) -> bytes:
    """The head of a batch. ``previous``: that of the batch before; ``skipped``: that of :func:`skip`."""
    numbers = b"%b%b%b" % (batch.to_bytes(8, "big"), first.to_bytes(8, "big"), last.to_bytes(8, "big"))
    return sha256(BATCH_DOMAIN + numbers + root + previous + skipped).digest()


def batch_of(number: int, first: int, leaves: Sequence[bytes], previous: bytes, skipped: bytes) -> Batch:
    """The batch of the entries from ``first`` on, whose leaves these are."""
    root, last = root_of(leaves), first + len(leaves) - 1
    head = head_of(number, first, last, root, previous, skipped)
    return Batch(number, first, last, root, head, b"".join([found[:MARK] for found in leaves]))


def way(start: int, end: int) -> Iterable[int]:
    """The batches that a proof from batch ``start`` down to batch ``end`` passes, both included."""
    while start > end:
        yield start
        start = skip(start) if skip(start) >= end else start - 1
    yield end


def proof(
    ledger: bytes,
    entry: int,
    body: str,
    cells: dict[str, tuple[bytes, str | bytes]],
    batch: tuple[int, list[bytes]],
    hops: list[tuple[Batch, bytes, bytes]],
) -> Proof:
    """A proof from its parts. ``cells``: salt and stored value of those that are shown; ``batch``: its number, and the path
    in it; ``hops``: each batch of :func:`way`, with the head of the one before it and of the one that it skips to."""
    return {
        "version": PROOF_VERSION,
        "ledger": ledger.hex(),
        "entry": entry,
        "body": body,
        "cells": {name: _shown(*cell) for name, cell in cells.items()},
        "batch": batch[0],
        "path": [each.hex() for each in batch[1]],
        "hops": [
            {
                "batch": hop.id,
                "first": hop.first,
                "last": hop.last,
                "root": hop.root.hex(),
                "previous": previous.hex(),
                "skip": skipped.hex(),
            }
            for hop, previous, skipped in hops
        ],
    }


def _shown(salt: bytes, value: str | bytes) -> dict[str, str]:
    if isinstance(value, bytes):
        return {"salt": salt.hex(), "octets": b64encode(value).decode()}
    return {"salt": salt.hex(), "text": value}


_FIELDS = {"version", "ledger", "entry", "body", "cells", "batch", "path", "hops"}
_HOP_FIELDS = {"batch", "first", "last", "root", "previous", "skip"}


def check_proof(given: Proof, ledger: bytes, batch: int, head: bytes) -> dict[str, Any]:
    """The body of the entry that a proof proves, given an anchor: the ledger's id, a batch, and its head.

    Proved is: an entry with this body, and with the cells that are shown, stood in that ledger when that head was taken.
    Raises :class:`ProofError`.
    """
    try:
        if type(given["version"]) is not int or given["version"] != PROOF_VERSION or set(given) != _FIELDS:
            raise ProofError("the proof is of a form that this version does not know")
        if given["ledger"] != ledger.hex():
            raise ProofError("the anchor is of another ledger")
        hop = _down(given, batch, head)
        body = _entry(given, hop)
        _check_cells(given["cells"], body.get("cells", {}))
    except ProofError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as error:
        raise ProofError(f"the proof cannot be read: {error!r}") from None
    return body


def _down(given: Proof, batch: int, head: bytes) -> dict[str, Any]:
    """From the anchor to the entry's batch, whose hop is returned."""
    wanted = _number(given["batch"])
    if not 0 < wanted <= batch:
        raise ProofError(f"the entry is of batch {wanted}, and the anchor, batch {batch}, says nothing about it")
    hops: list[dict[str, Any]] = given["hops"]
    way_down = list(way(batch, wanted))
    if [_number(hop["batch"]) for hop in hops] != way_down or any(set(hop) != _HOP_FIELDS for hop in hops):
        raise ProofError("the way from the anchor to the entry's batch is another one")
    for hop, following in zip(hops, [*way_down[1:], None], strict=True):
        root, previous, skipped = (_hash(hop[name]) for name in ("root", "previous", "skip"))
        number, first, last = (_number(hop[name]) for name in ("batch", "first", "last"))
        if head_of(number, first, last, root, previous, skipped) != head:
            raise ProofError(f"batch {number} does not have the head that the anchor leads to")
        head = skipped if following == skip(number) else previous
    return hops[-1]


def _entry(given: Proof, hop: dict[str, Any]) -> dict[str, Any]:
    """The entry's body, which is in the batch."""
    number, first, last = _number(given["entry"]), _number(hop["first"]), _number(hop["last"])
    if not first <= number <= last:
        raise ProofError(f"entry {number} is not in batch {hop['batch']}, which has the entries {first} to {last}")
    path = [_hash(each) for each in given["path"]]
    found = leaf(given["body"].encode())
    if root_above(found, number - first, last - first + 1, path) != _hash(hop["root"]):
        raise ProofError(f"entry {number} is not the one that was sealed")
    body: dict[str, Any] = json.loads(given["body"])
    if body["n"] != number:
        raise ProofError(f"the entry says that it is number {body['n']}, not {number}")
    return body


def _check_cells(shown: dict[str, dict[str, str]], committed: dict[str, str]) -> None:
    for name, cell in shown.items():
        salt = bytes.fromhex(cell["salt"])
        value = b64decode(cell["octets"]) if "octets" in cell else cell["text"]
        octets = value if isinstance(value, bytes) else value.encode()
        if cell != _shown(salt, value) or committed[name] != commitment(name, salt, octets):
            raise ProofError(f"the cell {name} is not the one that the entry was sealed with")


def _hash(text: str) -> bytes:
    found = bytes.fromhex(text)
    if len(found) != 32 or found.hex() != text:
        raise ProofError("a hash of the proof is no SHA-256 in hexadecimal")
    return found


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ProofError("a number of the proof is none")
    return value
