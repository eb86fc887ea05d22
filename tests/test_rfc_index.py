"""Every RFC section that the code refers to is in rfc.tsv with what is made of it, and nothing else is.

A reference is written ``RFC 5321 4.5.3.2``, more sections of the same one after a comma. ``-`` stands for the whole
document. Status: ``kept`` (done as it says), ``partly``, ``read`` (understood where others do it), ``no`` (deliberately not
done; may stand without a reference).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
INDEX = ROOT / "tests/rfc.tsv"
SECTION = r"\d+(?:\.\d+)*"
REFERENCE = re.compile(rf"RFC (\d{{3,5}})((?:,? (?:section )?{SECTION}(?![\w.]*\w))*)")


def referred() -> Iterator[tuple[str, str, str]]:
    """RFC, section and where, for each reference."""
    for package in ("policies", "proxy", "tui"):
        for path in sorted((ROOT / package).glob("*.py")):
            text = re.sub(r"\n\s*#?:? *", " ", path.read_text())
            for rfc, sections in REFERENCE.findall(text):
                for section in re.findall(SECTION, sections) or ["-"]:
                    yield rfc, section, f"{package}/{path.name}"


def index() -> list[list[str]]:
    return [line.split("\t") for line in INDEX.read_text().splitlines()[1:]]


def test_every_reference_is_in_the_index() -> None:
    known = {(rfc, section) for rfc, section, *_ in index()}
    assert sorted({each for each in referred() if each[:2] not in known}) == []


def test_every_row_is_referred_to() -> None:
    used = {(rfc, section) for rfc, section, _ in referred()}
    assert [row for row in index() if row[2] != "no" and (row[0], row[1]) not in used] == []


def test_rows_are_in_order_and_say_something() -> None:
    rows = index()
    keys = [(int(rfc), [int(n) for n in section.split(".") if n != "-"]) for rfc, section, *_ in rows]
    assert keys == sorted(keys)
    assert len({(rfc, section) for rfc, section, *_ in rows}) == len(rows)
    for row in rows:
        assert len(row) == 4, row
        assert row[2] in ("kept", "partly", "read", "no"), row
        assert row[3].strip(), row
