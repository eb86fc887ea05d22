"""The ``roles:`` section of a settings file: from its nodes to :class:`kaifu.proxy.settings.Roles`.

Called by :mod:`kaifu.proxy.settings_reader` alone. It says what is no name at all; whether a user or group is known here is the business
of ``kaifu config check`` (:func:`kaifu.proxy.access.unknown`), as settings can be read on another machine.
"""

from __future__ import annotations

import re
from dataclasses import fields

from kaifu.policies.document import Checker, Node

from .settings import Roles

_NAME = re.compile(r"%?[^\s%:,/]{1,256}")


def roles(check: Checker, node: Node) -> Roles | None:
    """Who has which role."""
    names = [field.name for field in fields(Roles)]
    entries = check.as_mapping(node, "roles", names)
    if entries is None:
        return None
    return Roles(**{key: _names(check, value, f"roles.{key}") for key, (_, value) in entries.items()})


def _names(check: Checker, node: Node, what: str) -> tuple[str, ...]:
    found = []
    for item in check.as_list(node, what, one=True) or ():
        text = check.as_str(item, f"a name in {what}")
        if text is not None and _NAME.fullmatch(text) is None:
            check.error(item, f'{what} takes Unix users, and groups as "%group"; "{text}" is neither')
        elif text is not None:
            found.append(text)
    return tuple(found)
