"""Anchors: the head of a batch, written down where nobody who can write the ledger can change it.

Called by ``kaifu ledger seal``, which makes them, and ``verify``, which compares. One line each::

    kaifu-anchor 1 LEDGER BATCH LAST HEAD TIME

the ledger's id and the head in hexadecimal, the number of the batch and of its last entry, and when the line was made (RFC 3339,
UTC). Files may hold many, with empty lines and ``#`` comments between. Pure; fails with ValueError. It is the part of
:mod:`kaifu.proxy.bundle_verifier` that has to do with anchors alone.
"""

from __future__ import annotations

from .bundle_verifier import Anchor, anchor_of, anchors_in

__all__ = ["Anchor", "anchor_of", "anchors_in"]
