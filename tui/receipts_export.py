"""The command that exports what the list of receipts shows: the same filter as options of ``kaifu receipts export``. Pure.

Who borrows the service user's rights cannot have a file written by this program, so it is the shell that writes it. What a command line can
not say (the number of one message, a NUL) gives None.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import fields
from datetime import tzinfo
from pathlib import Path

from kaifu.proxy.ledger_desk import Filter
from kaifu.proxy.settings import DEFAULT_CONFIG, Settings

from .receipts_rows import exactly

FILE = "receipts.csv"
_OPTIONS = {
    "person": "--person",
    "sender": "--from",
    "to": "--to",
    "states": "--state",
    "rule": "--rule",
    "directions": "--direction",
    "kinds": "--kind",
    "outcomes": "--outcome",
    "requests": "--request",
    "grades": "--grade",
    "message_id": "--message-id",
    "subject": "--subject",
    "since": "--since",
    "until": "--until",
}


def options(wanted: Filter, zone: tzinfo) -> list[str] | None:
    """The options that mean this filter; None when none do. Times are written out, in ``zone``."""
    found: list[str] = []
    for field in fields(wanted):
        value = getattr(wanted, field.name)
        if value in (None, ()):
            continue
        if field.name not in _OPTIONS:
            return None
        found += [f"{_OPTIONS[field.name]}={text}" for text in _texts(field.name, value, zone)]
    return None if any("\0" in text for text in found) else found


def _texts(name: str, value: object, zone: tzinfo) -> Iterator[str]:
    if name in ("since", "until") and isinstance(value, int):
        yield exactly(value, zone).isoformat()
    elif name == "subject" and isinstance(value, tuple):
        yield from value
    elif isinstance(value, tuple):
        yield ",".join(value)
    else:
        yield str(value)


def which(settings: Settings | None, ledger: Path) -> list[str]:
    """The options that name what this program was started over; none where those are the usual settings."""
    if settings is None:
        return [f"--ledger=sqlite:///{ledger}"]
    return [] if settings.file == DEFAULT_CONFIG else [f"--config={settings.file}"]


def command(wanted: Filter, zone: tzinfo, which: Sequence[str], begins: Sequence[str]) -> str | None:
    """What to type. ``which``: the options that name the ledger or settings; ``begins``: the words with which who looks begins."""
    chosen = options(wanted, zone)
    if chosen is None:
        return None
    return f"{shlex.join([*begins, 'receipts', 'export', *chosen, *which])} > {FILE}"
