"""Anchors: the head of a batch, written down where nobody who can write the ledger can change it.

Called by ``kaifu ledger seal``, which makes them, and ``verify``, which compares. One line each::

    kaifu-anchor 1 LEDGER BATCH LAST HEAD TIME

the ledger's id and the head in hexadecimal, the number of the batch and of its last entry, and when the line was made (RFC 3339,
UTC). Files may hold many, with empty lines and ``#`` comments between. Pure; fails with ValueError.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_LINE = re.compile(
    r"kaifu-anchor (?P<version>[0-9]{1,3}) (?P<ledger>[0-9a-f]{32}) (?P<batch>[1-9][0-9]{0,18}) (?P<last>[1-9][0-9]{0,18})"
    r" (?P<head>[0-9a-f]{64}) (?P<at>[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}(?:\.[0-9]{1,6})?Z)"
)
FORM = "kaifu-anchor 1 LEDGER BATCH LAST HEAD TIME"


class Anchor(NamedTuple):
    """One anchor. ``at``: when it was made, as text."""

    ledger: bytes
    batch: int
    last: int
    head: bytes
    at: str

    def __str__(self) -> str:
        return f"kaifu-anchor 1 {self.ledger.hex()} {self.batch} {self.last} {self.head.hex()} {self.at}"


def anchor_of(line: str) -> Anchor:
    """An anchor from its line. ValueError says what is wrong with it."""
    found = _LINE.fullmatch(line.strip())
    if found is None:
        raise ValueError(f"this is no anchor; one looks like {FORM}")
    if found["version"] != "1":
        raise ValueError("this anchor is of a newer form than this version knows")
    batch, last = int(found["batch"]), int(found["last"])
    if batch > last or last >= 1 << 63:
        raise ValueError("this anchor contradicts itself: a batch has at least one entry")
    return Anchor(bytes.fromhex(found["ledger"]), batch, last, bytes.fromhex(found["head"]), found["at"])


def anchors_in(text: str) -> list[Anchor]:
    """All anchors of a file, at least one. ValueError names the line."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                found.append(anchor_of(line))
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None
    if not found:
        raise ValueError("there is no anchor in it")
    return found
