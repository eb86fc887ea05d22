"""``border:`` and ``aliases:`` of a settings file: from their nodes to values.

Called by :mod:`kaifu.proxy.settings_reader` alone. Whether the files of aliases can be read is the business of ``kaifu config check``
and of the command that is about to use them (:mod:`kaifu.proxy.trustfiles`).
"""

from __future__ import annotations

import re
from pathlib import Path

from kaifu.policies.document import Checker, Node

# What a server may write there unquoted (RFC 8601 2.2, RFC 2045 5.1), in any script.
_AUTHSERV_ID = re.compile(r'[^\s()<>@,;:\\"/\[\]?=\x00-\x1f\x7f]{1,253}')


def border(check: Checker, node: Node) -> tuple[str, ...] | None:
    """The authserv-ids of the servers that check mail for us, in lower case."""
    items = check.as_list(node, "border", one=True)
    if items is None:
        return None
    if not items:
        check.error(node, "border names no server; leave it out when nobody checks mail for us")
    found = []
    for item in items:
        text = check.as_str(item, "a name in border")
        if text is not None and _AUTHSERV_ID.fullmatch(text) is None:
            check.error(
                item, f'"{text}" cannot be the first word of an Authentication-Results field, as mx.example.com can'
            )
        elif text is not None:
            found.append(text.lower())
    return tuple(dict.fromkeys(found))


def aliases(check: Checker, node: Node, directory: Path) -> tuple[Path, ...] | None:
    """The files of aliases; relative ones count from the settings file's directory."""
    items = check.as_list(node, "aliases", one=True)
    if items is None:
        return None
    found = []
    for item in items:
        text = check.as_str(item, "a file of aliases")
        kind = re.match("(hash|lmdb|btree|cdb|texthash|dbm):", text or "")
        if text is not None and kind is not None:
            check.error(item, f'"{text}": aliases are read from the text file, not from the table', text[kind.end() :])
        elif text is not None:
            found.append(directory / text)
    return tuple(found)
