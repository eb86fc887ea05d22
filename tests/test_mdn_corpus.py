"""Every MDN of the corpus is read as was found out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kaifu.proxy.cli_inspect import as_object
from kaifu.proxy.inspection import inspect_message


@pytest.fixture(scope="module")
def expectations(corpus: Path) -> list[dict[str, Any]]:
    lines = (corpus / "mdn_expected.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_all_are_recognised_and_read_field_by_field(corpus: Path, expectations: list[dict[str, Any]]) -> None:
    assert len(expectations) == 18
    for expected in expectations:
        found = as_object(expected["file"], inspect_message((corpus / expected["file"]).read_bytes()))
        assert (found["kind"] == "mdn") == expected["is_mdn"], expected["file"]
        if expected["is_mdn"]:
            assert found["mdn"] | wanted(expected) == found["mdn"], expected["file"]  # type: ignore[operator]
            assert [tie["from"] for tie in found["mdn"]["ties"]] == expected["ties"], expected["file"]  # type: ignore[index]


def wanted(expected: dict[str, Any]) -> dict[str, Any]:
    """The fields of an expectation, in the shape in which they are printed."""
    plain = (
        "original_message_id disposition_type action_mode sending_mode modifiers reporting_ua mdn_gateway error failure"
        " warning extensions"
    )
    addresses = {
        name: expected[name] and expected[name]["address"] for name in ("final_recipient", "original_recipient")
    }
    return {name: expected[name] for name in plain.split()} | addresses | {"disposition": expected["disposition_raw"]}


def test_the_oddities_found_by_hand_are_told(corpus: Path, expectations: list[dict[str, Any]]) -> None:
    words = {
        "Final-Recipient WITHOUT address-type": "Final-Recipient has no address type",
        "Final-Recipient has display name/angle brackets": "Final-Recipient has a display name or brackets",
        "Final-Recipient is not an address": "Final-Recipient is no mail address",
        "Final-Recipient MISSING (required)": "Final-Recipient is missing",
        "Original-Message-ID missing": "Original-Message-ID is missing",
        "Original-Message-ID contains spaces": "Original-Message-ID contains spaces",
        "Original-Message-ID without angle brackets": "Original-Message-ID has no angle brackets",
        "Disposition does not parse": "Disposition does not parse",
        "fields out of RFC 8098 order": "the fields are not in the order of RFC 8098",
    }
    for expected in expectations:
        found = as_object(expected["file"], inspect_message((corpus / expected["file"]).read_bytes()))
        for by_hand, ours in words.items():
            if expected["is_mdn"]:
                assert (by_hand in expected["odd"]) == (ours in found["mdn"]["odd"]), (expected["file"], ours)  # type: ignore[index]
