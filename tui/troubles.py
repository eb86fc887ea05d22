"""What is wrong with the ledger, in the language of the screens, with what whoever looks can do.

Called where questions are answered (:mod:`kaifu.tui.asking`, :mod:`kaifu.tui.attempts`). The sentences of the errors are written for who runs the relay
or types a command: some of them would mislead somebody at a screen. What is of no known kind is said as the error says it.
"""

from __future__ import annotations

from pathlib import Path

from kaifu.proxy.display import visible
from kaifu.proxy.ledger import Trouble

from .words import later, say, translates

_SENTENCES = {
    Trouble.GONE: later(
        "there is no ledger at {path}: it was moved or deleted. Have it put back before the relay starts again, which would begin an empty one"
    ),
    Trouble.REPLACED: later(
        "the ledger {path} was moved, deleted or replaced while it was open; what is there now is opened next"
    ),
    Trouble.LOCKED: later(
        "the ledger {path} is locked by another process; nothing is shown that has to go on record, until it is free"
    ),
    Trouble.FULL: later(
        "no space left on the file system of the ledger {path}; nothing is shown that has to go on record, until there is room"
    ),
    Trouble.DAMAGED: later("the ledger is damaged or no SQLite database; have it moved away and restore a backup"),
    Trouble.FORBIDDEN: later("the ledger cannot be opened; look at the permissions of the file and of its directory"),
}
_BEHIND = (Trouble.FORBIDDEN, Trouble.DAMAGED)
"""Of these the error knows more, and nothing that misleads: who reads English reads it alone."""


def sentence(trouble: Trouble, error: str, path: Path) -> str:
    """For who looks. ``error``: the technical one."""
    if trouble not in _SENTENCES or (trouble in _BEHIND and not translates()):
        return error
    said = say(_SENTENCES[trouble], path=visible(str(path)))
    return f"{said} ({error})" if trouble in _BEHIND else said
