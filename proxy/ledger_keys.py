"""How the derived tables look things up: texts as integers, addresses from the top of their domain, reports by what they are.

Used by everything that writes or asks the ledger. Pure; fails on nothing.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from typing import Any

from kaifu.policies.facts import mailbox_key

from .ledger_entries import canonical


def number_of(text: str) -> int:
    """A digest of a text that fits an SQLite integer: small in an index, compared exactly afterwards."""
    return int.from_bytes(sha256(text.encode("utf-8", "replace")).digest()[:8], "big", signed=True)


@lru_cache(maxsize=8192)
def search_key(address: str) -> str:
    """An address as it is looked up: folded, domain first and from the top, ``example.co.jp`` as ``jp.co.example@``.

    So that one index serves a person, a domain, and a domain with its subdomains.
    """
    local, _, domain = address.rpartition("@")
    if len(local) > 1 and local[0] == local[-1] == '"':
        local = local[1:-1].replace("\\", "\0").replace("\0\0", "\\").replace("\0", "")
    key = mailbox_key(local, domain) if local else mailbox_key(domain, "")
    local, _, domain = key.rpartition("@")
    if not local:
        return "@" + domain
    return ".".join(reversed(domain.split("."))) + "@" + local


def report_key(report: dict[str, Any] | None, kind: str, value: str) -> int | None:
    """What makes two reports of one recipient the same report; None when its cell is erased."""
    if report is None:
        return None
    return number_of(canonical([report.get("message_id") or report.get("attempt"), kind, value]))
