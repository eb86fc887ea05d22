"""Header edits: what is to change, and the one function that changes it.

Edits address a field by name (case-insensitive) and 1-based occurrence counted over the block as received,
as libmilter does.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove the ``nth`` field called ``name`` with all its folded lines."""

    name: str
    nth: int


@dataclass(frozen=True, slots=True)
class Change:
    """Give the ``nth`` field called ``name`` another value (ASCII, or UTF-8 in an SMTPUTF8 transaction)."""

    name: str
    nth: int
    value: str


@dataclass(frozen=True, slots=True)
class Insert:
    """Add a field after the last one of the block."""

    name: str
    value: str


HeaderEdit = Delete | Change | Insert
