"""The ``tui:`` section of a settings file: from its nodes to :class:`kaifu.proxy.settings.TuiSettings`.

Called by :mod:`kaifu.proxy.settings_reader` alone.
"""

from __future__ import annotations

from typing import Any, get_args, get_type_hints

from kaifu.policies.document import Checker, Node

from .settings import TuiSettings


def tui(check: Checker, node: Node) -> TuiSettings | None:
    """Language, marks and theme of the screens."""
    words = {
        key: {word: word for word in get_args(get_args(hint)[0])} for key, hint in get_type_hints(TuiSettings).items()
    }
    entries = check.as_mapping(node, "tui", words)
    if entries is None:
        return None
    found: dict[str, Any] = {
        key: check.as_choice(value, f"tui.{key}", words[key]) for key, (_, value) in entries.items()
    }
    return TuiSettings(**found)
