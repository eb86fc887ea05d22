"""Sizes: ``>5MB``, ``<=10KiB``, or several that must all hold (``>1MB <5MB``). Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from math import ceil
from typing import Final

from kaifu.policies.vocabulary import SIZE_FORM

_COMPARISON = re.compile(r"([<>]=?) *(\d+(?:\.\d+)?) *([kmg]i?)?b", re.IGNORECASE | re.ASCII)
_UNITS: Final = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "ki": 1024, "mi": 1024**2, "gi": 1024**3}
_COMPARE: Final[Mapping[str, Callable[[int, float], bool]]] = {
    "<": lambda size, bound: size < bound,
    "<=": lambda size, bound: size <= bound,
    ">": lambda size, bound: size > bound,
    ">=": lambda size, bound: size >= bound,
}


def comparisons(text: str) -> tuple[tuple[str, float], ...] | None:
    """``>1MB <=5MB`` as operators and octets; None when it is nothing of the kind."""
    if not re.match(SIZE_FORM, text):
        return None
    return tuple(
        (operator, float(number) * _UNITS[unit.lower()]) for operator, number, unit in _COMPARISON.findall(text)
    )


def possible(found: tuple[tuple[str, float], ...]) -> bool:
    """Is there any size, in whole octets, for which all comparisons hold?"""
    bounds = [ceil(bound) for _, bound in found]  # the least that holds, if any, is 0 or at or just above a bound
    return any(within(size, found) for bound in (0, *bounds) for size in (bound, bound + 1))


def within(size: int, found: tuple[tuple[str, float], ...]) -> bool:
    """Do all comparisons hold for a size in octets?"""
    return all(_COMPARE[operator](size, bound) for operator, bound in found)
