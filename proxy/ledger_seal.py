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

where ids, salts and hashes are in hexadecimal. What a stranger needs to check one is :mod:`kaifu.proxy.bundle_verifier`: a program that
needs nothing else, and from which this takes its hashes. :func:`check_proof` fails with :class:`ProofError`, on anything else than
such a proof that is right; nothing else here fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any, NamedTuple

from .bundle_verifier import (
    PROOF_VERSION,
    ProofError,
    check_proof,
    genesis,
    head_of,
    leaf,
    root_above,
    shown_cell,
    skip,
    way,
)

__all__ = [
    "MARK", "Batch", "Proof", "ProofError", "Tree", "batch_of", "check_proof", "genesis", "head_of", "leaf", "path_of",
    "proof", "root_above", "root_of", "shown_hop", "skip", "way",
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
        "cells": {name: shown_cell(*cell) for name, cell in cells.items()},
        "batch": batch[0],
        "path": [each.hex() for each in batch[1]],
        "hops": [shown_hop(*hop) for hop in hops],
    }


def shown_hop(batch: Batch, previous: bytes, skipped: bytes) -> dict[str, Any]:
    """A batch as a proof shows it, with the head of the one before it and of the one that it skips to."""
    return {
        "batch": batch.id,
        "first": batch.first,
        "last": batch.last,
        "root": batch.root.hex(),
        "previous": previous.hex(),
        "skip": skipped.hex(),
    }
