"""What the index of subjects says: in which messages of a block a word may stand. The reading half of :mod:`kaifu.proxy.ledger_subjects`.

For each block of message numbers and each piece of two characters the file has the messages in whose subject it occurs: their
places in the block, two octets each, little-endian and in order. Fails with :class:`IndexFaultError`.
"""

from __future__ import annotations

import sqlite3
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from .ledger_filter import Condition, Stretch
from .subjectgrams import GRAM

SIZE = 4096
"""Messages of a block, in an index that is begun now."""
MOST_SIZE = 65536
_MOST_GRAMS = 64
_LAST = "\U0010ffff"
_PASSING = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM",
            "SQLITE_NOMEM", "SQLITE_INTERRUPT")  # fmt: skip


class IndexFaultError(Exception):
    """The index cannot be read or written; the text says why. ``passing``: it may be whole all the same."""

    def __init__(self, why: str, *, passing: bool = False) -> None:
        super().__init__(why)
        self.passing = passing


@contextmanager
def at_index() -> Iterator[None]:
    """What goes wrong with the file of the index, apart from what goes wrong with the ledger."""
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "") or ""
        raise IndexFaultError(f"{error}", passing=name.startswith(_PASSING)) from error
    except (ValueError, TypeError) as error:
        raise IndexFaultError(f"what stands in it makes no sense ({error})") from error


def packed(offsets: Iterable[int]) -> bytes:
    """Places in a block as the file has them."""
    found = array("H", offsets)
    if sys.byteorder == "big":
        found.byteswap()
    return found.tobytes()


def unpacked(octets: bytes) -> array[int]:
    """The places in a block. ValueError when they are none."""
    found = array("H")
    found.frombytes(octets)
    if sys.byteorder == "big":
        found.byteswap()
    return found


class Block(NamedTuple):
    """The messages from ``number`` times the size of a block on. Times: UTC microseconds of the earliest and the latest of them."""

    number: int
    earliest: int
    latest: int


class Blocks:
    """The index within one transaction. ``filled``: so many blocks of ``size``, from the first; ``rest``: the messages that they do not have."""

    def __init__(self, db: sqlite3.Connection, size: int, filled: int) -> None:
        self._db = db
        self.size = size
        with at_index():
            rows = db.execute("SELECT block, earliest, latest FROM blocks ORDER BY block").fetchall()
        self.all = [Block(*map(int, row)) for row in rows]
        if len(self.all) != filled or any(block.number != place for place, block in enumerate(self.all)):
            raise IndexFaultError("it has not the blocks that it should have")
        self.rest = Stretch(
            "messages m",
            "recipients r INDEXED BY recipients_message ON r.message = m.id",
            "m.at",
            Condition("m.id >= ?", (filled * size,)),
            in_order=False,
        )

    def candidates(self, block: int, words: Sequence[str]) -> list[int]:
        """The messages of a block that may have all these folded words in their subject, in order."""
        found: set[int] | None = None
        with at_index():
            for word in filter(None, words):
                some = self._having(block, word)
                found = some if found is None else found & some
                if not found:
                    return []
        return [block * self.size + offset for offset in sorted(range(self.size) if found is None else found)]

    def _having(self, block: int, word: str) -> set[int]:
        if len(word) < GRAM:
            query = "SELECT rows FROM grams WHERE block = ? AND gram >= ? AND gram <= ?"
            rows = self._db.execute(query, (block, word, word + _LAST))
            return {offset for (octets,) in rows for offset in unpacked(octets)}
        grams = list(dict.fromkeys(word[at : at + GRAM] for at in range(len(word) - GRAM + 1)))[:_MOST_GRAMS]
        query = f"SELECT rows FROM grams WHERE block = ? AND gram IN ({','.join('?' * len(grams))})"
        some = sorted((octets for (octets,) in self._db.execute(query, (block, *grams))), key=len)
        if len(some) < len(grams):
            return set()
        found = set(unpacked(some[0]))
        for octets in some[1:]:
            found.intersection_update(unpacked(octets))
        return found
