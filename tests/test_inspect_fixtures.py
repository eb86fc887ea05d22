"""What ``kaifu inspect`` says of every form of receipt, report and trap in fixtures/receipts.

Beside each message stands what is expected of it. To write the expectations anew after a wanted change, run with
``KAIFU_UPDATE=1`` and read the difference.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from kaifu.proxy.cli_inspect import as_object
from kaifu.proxy.inspection import inspect_message

RECEIPTS = Path(__file__).parent / "fixtures" / "receipts"
MESSAGES = sorted(RECEIPTS.glob("*.eml"))


def ids(path: Path) -> str:
    return path.stem


@pytest.mark.parametrize("path", MESSAGES, ids=ids)
def test_a_message_is_read_as_expected(path: Path) -> None:
    found = as_object(path.name, inspect_message(path.read_bytes()))
    expected = path.with_suffix(".json")
    if os.environ.get("KAIFU_UPDATE") == "1":
        text = json.dumps(found, ensure_ascii=False, indent=2) + "\n"
        readable = "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)
        expected.write_text(readable, encoding="utf-8")
    assert found == json.loads(expected.read_text(encoding="utf-8"))


def test_every_expectation_has_its_message() -> None:
    assert {p.stem for p in RECEIPTS.glob("*.json")} == {p.stem for p in MESSAGES}


@pytest.mark.parametrize("path", MESSAGES, ids=ids)
def test_line_ends_do_not_change_what_a_message_says(path: Path) -> None:
    raw = path.read_bytes()
    as_lf = raw.replace(b"\r\n", b"\n")
    assert as_object("", inspect_message(as_lf)) == as_object("", inspect_message(as_lf.replace(b"\n", b"\r\n")))
