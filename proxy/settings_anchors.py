"""The ``anchors:`` section of a settings file: from its nodes to :class:`kaifu.proxy.settings.Anchors`.

Called by :mod:`kaifu.proxy.settings_reader` alone. Whether the places can be reached shows when something is sent there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kaifu.policies.document import Node

from .settings import AnchorMail, Anchors

if TYPE_CHECKING:
    from .settings_reader import SettingsReader

_ADDRESS = re.compile(r"[!#-;=?-~]{1,64}@[A-Za-z0-9.-]{1,253}")


def anchors(reader: SettingsReader, node: Node) -> Anchors | None:
    """Where anchors are sent."""
    found = reader.section(
        node,
        "anchors",
        {
            "file": lambda node: reader.file(node, "anchors.file"),
            "command": lambda node: _command(reader, node),
            "mail": lambda node: _mail(reader, node),
        },
    )
    return None if found is None else Anchors(**found)


def _command(reader: SettingsReader, node: Node) -> tuple[str, ...] | None:
    what = "anchors.command"
    items = reader.check.as_list(node, what)
    words = [reader.check.as_str(item, f"a word of {what}") for item in items or ()]
    if items is not None and (not words or (words[0] is not None and not words[0].startswith("/"))):
        reader.check.error(node, f"{what} must be a program by its absolute path, and its arguments, as a list")
        return None
    return tuple(word for word in words if word is not None) or None


def _mail(reader: SettingsReader, node: Node) -> AnchorMail | None:
    what = "anchors.mail"
    found = reader.section(
        node,
        what,
        {
            "to": lambda node: _addresses(reader, node, f"{what}.to"),
            "from": lambda node: _address(reader, node, f"{what}.from"),
            "server": lambda node: reader.address(node, f"{what}.server", 1),
        },
        required=("to", "from", "server"),
    )
    if found is None or not {"to", "from", "server"} <= found.keys():
        return None
    return AnchorMail(found["to"], found["from"], found["server"])


def _addresses(reader: SettingsReader, node: Node, what: str) -> tuple[str, ...] | None:
    items = reader.check.as_list(node, what, one=True)
    if items is not None and not items:
        reader.check.error(node, f"{what} names nobody")
    found = [_address(reader, item, what) for item in items or ()]
    return tuple(address for address in found if address is not None) or None


def _address(reader: SettingsReader, node: Node, what: str) -> str | None:
    text = reader.check.as_str(node, what)
    if text is None or _ADDRESS.fullmatch(text):
        return text
    reader.check.error(node, f'{what} takes a bare address such as audit@example.co.jp, not "{text}"')
    return None
