"""Regular expressions mean the same to every Python that kaifu runs on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
POSSESSIVE_GROUP = re.compile(r"(?<!\\)\)(?:[*+?]|\{\d*,?\d*\})\+")


@pytest.mark.parametrize(
    "file", sorted(p for d in ("policies", "proxy", "tui") for p in (ROOT / d).glob("*.py")), ids=lambda p: p.name
)
def test_no_group_is_repeated_possessively(file: Path) -> None:
    """Before Python 3.11.5 such a group does not give back what it consumed before it failed; ``(?>(?:…)*)`` does."""
    lines = file.read_text().splitlines()
    assert [line for line in lines if POSSESSIVE_GROUP.search(line)] == []


def test_an_optional_part_that_fails_late_gives_back_what_it_took() -> None:
    display = re.compile(r'(?>(?:"[^"]*+"(<))?)(\S++)')
    assert [found[2] for found in display.finditer('"a".b@example.com')] == ['"a".b@example.com']
