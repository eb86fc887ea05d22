"""proxy/README.md names every setting, with the default that it has."""

from __future__ import annotations

import re
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

import pytest

from kaifu.policies.nodes import ScalarNode
from kaifu.proxy.settings import (
    AnchorMail,
    Anchors,
    Limits,
    Listener,
    MilterSettings,
    RelaySettings,
    Roles,
    Settings,
    Timeouts,
    Tls,
    TuiSettings,
)
from kaifu.proxy.settings_reader import SettingsReader

GUIDE = (Path(__file__).parent.parent / "proxy/README.md").read_text()
SECTIONS: dict[str, type[Any]] = {
    "Settings": Settings,
    "relay": RelaySettings,
    "relay.tls": Tls,
    "relay.limits": Limits,
    "relay.timeouts": Timeouts,
    "milter": MilterSettings,
    "roles": Roles,
    "anchors": Anchors,
    "tui": TuiSettings,
}


def rows(section: str) -> dict[str, str]:
    """Key and default of the table under a heading."""
    (text,) = re.findall(rf"^#+ {re.escape(section)}\n(.*?)(?=^#|\Z)", GUIDE, flags=re.MULTILINE | re.DOTALL)
    return dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", text, flags=re.MULTILINE))


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_has_its_row(section: str) -> None:
    assert set(rows(section)) == {
        field.name for field in fields(SECTIONS[section]) if (section, field.name) != ("Settings", "file")
    }


def test_a_listener_is_described_by_its_keys() -> None:
    assert set(rows("relay.listen")) == {field.name for field in fields(Listener)} - {"host", "port"} | {"address"}


def test_mail_with_anchors_is_described_by_its_keys() -> None:
    assert set(rows("anchors.mail")) == {field.name for field in fields(AnchorMail)} - {"sender"} | {"from"}


def number(field: Field[Any], written: str) -> object:
    """What the reader makes of a default as it is written in the table."""
    reader, node = SettingsReader(Path("README.md"), []), ScalarNode(1, 1, written.strip("`"))
    if field.name == "temporary_disk":
        return reader.octets(node, field.name)
    return reader.seconds(node, field.name)


@pytest.mark.parametrize("section", ["relay.limits", "relay.timeouts"])
def test_the_numbers_are_the_defaults(section: str) -> None:
    for field in fields(SECTIONS[section]):
        assert field.default is not MISSING
        assert number(field, rows(section)[field.name]) == field.default, field.name


def test_the_words_are_the_defaults() -> None:
    for section, keys in {"relay": ("workers", "xforward", "auth"), "relay.tls": ("next_hop",)}.items():
        for field in fields(SECTIONS[section]):
            if field.name in keys:
                assert rows(section)[field.name] == f"`{str(field.default).lower()}`"
    assert rows("Settings")["on_ledger_failure"] == "`defer`"
    assert rows("Settings")["zone"] == "`UTC`"
