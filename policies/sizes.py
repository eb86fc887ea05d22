"""Sizes: ``>5MB``, ``<=10KiB``, or several that must all hold (``>1MB <5MB``). Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

_COMPARISON = re.compile(r"\s*([<>]=?)\s*(\d{1,12})(\.\d{1,6})?\s*([kmg]i?)?b(?:\s+|$)", re.IGNORECASE | re.ASCII)
_UNITS: Final = {None: 1, "k": 1000, "m": 1000**2, "g": 1000**3, "ki": 1024, "mi": 1024**2, "gi": 1024**3}
_COMPARE: Final[Mapping[str, Callable[[int, float], bool]]] = {
    "<": lambda size, bound: size < bound,
    "<=": lambda size, bound: size <= bound,
    ">": lambda size, bound: size > bound,
    ">=": lambda size, bound: size >= bound,
}


def comparisons(text: str) -> tuple[tuple[str, float], ...] | None:
    """``>1MB <=5MB`` as operators and octets; None when it is nothing of the kind."""
    position, found = 0, []
    while position < len(text):
        match = _COMPARISON.match(text, position)
        if match is None:
            return None
        unit = match.group(4).lower() if match.group(4) else None
        number = float(match.group(2) + (match.group(3) or ""))
        found.append((match.group(1), number * _UNITS[unit]))
        position = match.end()
    return tuple(found) or None


def within(size: int, found: tuple[tuple[str, float], ...]) -> bool:
    """Do all comparisons hold for a size in octets?"""
    return all(_COMPARE[operator](size, bound) for operator, bound in found)
