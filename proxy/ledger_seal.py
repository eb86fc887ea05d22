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

A *proof* (:data:`Proof`) leads from entries up their trees to the roots of their batches, and from a later batch, whose head is
known (an *anchor*), down to those. As JSON, in an evidence bundle ``proof.json``::

    {"version": 1, "ledger": id, "head": that of the newest of the anchors, "anchors": [batch, …],
     "batches": [{"batch", "first", "last", "root", "previous", "skip"}, …],    from the newest to each anchor, from each to the entries
     "entries": [{"entry": number, "body": text, "batch": number, "path": [hash, …],                   siblings, from the leaf up
                  "cells": {name: {"salt": …, "text": …} or {"salt": …, "octets": base64}}}, …]}       those that are shown

where ids, salts and hashes are in hexadecimal. What a stranger needs to check one is :class:`kaifu.proxy.bundle_verifier.Proof`, in a
program that needs nothing else, and from which this takes its hashes. Nothing here fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any, NamedTuple

from .bundle_verifier import FORM, genesis, head_of, leaf, root_above, shown_cell, skip, way

__all__ = [
    "MARK", "Batch", "Proof", "Tree", "batch_of", "genesis", "head_of", "leaf", "path_of", "proof", "root_above", "root_of",
    "shown_batch", "shown_entry", "skip", "way",
]  # fmt: skip

MARK = 8
"""Octets of each leaf that a batch keeps, so that the entry that does not fit can be named."""

Proof = dict[str, Any]


class Batch(NamedTuple):
    """A row of the table ``batches``: entries ``first`` to ``last``. ``marks``: the start of each of their leaves."""

    id: int
    first: int
    last: int
    root: bytes
    head: bytes
    marks: bytes


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


def batch_of(number: int, first: int, leaves: Sequence[bytes], previous: bytes, skipped: bytes) -> Batch:
    """The batch of the entries from ``first`` on, whose leaves these are."""
    root, last = root_of(leaves), first + len(leaves) - 1
    head = head_of(number, first, last, root, previous, skipped)
    return Batch(number, first, last, root, head, b"".join([found[:MARK] for found in leaves]))


def proof(ledger: bytes, head: bytes, anchors: Sequence[int], batches: list[Any], entries: list[Any]) -> Proof:
    """A proof from its parts. ``anchors``: their batches, in order; ``head``: that of the last of them; ``batches``: as
    :func:`shown_batch` gives each of every :func:`way`; ``entries``: as :func:`shown_entry` gives them. In order, each once."""
    return {
        "version": FORM,
        "ledger": ledger.hex(),
        "head": head.hex(),
        "anchors": list(anchors),
        "batches": batches,
        "entries": entries,
    }


def shown_batch(batch: Batch, previous: bytes, skipped: bytes) -> dict[str, Any]:
    """A batch as a proof shows it, with the head of the one before it and of the one that it skips to."""
    return {
        "batch": batch.id,
        "first": batch.first,
        "last": batch.last,
        "root": batch.root.hex(),
        "previous": previous.hex(),
        "skip": skipped.hex(),
    }


def shown_entry(
    entry: int, body: str, cells: dict[str, tuple[bytes, str | bytes]], batch: int, path: list[bytes]
) -> dict[str, Any]:
    """An entry as a proof shows it. ``cells``: salt and stored value of those that are shown; ``path``: that in its batch."""
    return {
        "entry": entry,
        "body": body,
        "cells": {name: shown_cell(*cell) for name, cell in cells.items()},
        "batch": batch,
        "path": [each.hex() for each in path],
    }
