"""What people tell the ledger: consent, and what they learned of a recipient otherwise.

Called by commands, not by the mail path; each call is one transaction of its own beside a running relay. Whoever acts is
recorded with it: :func:`caller` is the user behind ``sudo``, else the one the process runs as. Every function raises
:class:`LedgerError`.
"""

from __future__ import annotations

import os
import pwd
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kaifu.policies.facts import Consent

from .ledger_file import Store, explain
from .ledger_journal import Journal

CONFIRMED_BY = ("phone", "meeting", "letter", "chat")


def caller() -> str:
    """The Unix user who acts."""
    if user := os.environ.get("SUDO_USER"):
        return user
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


@contextmanager
def writing(path: Path) -> Iterator[Journal]:
    """A journal within one transaction, committed at the end unless something is raised."""
    try:
        store = Store(path, write=True)
        try:
            journal = Journal(store.db)
            journal.start()
            try:
                yield journal
                journal.commit()
            except BaseException:
                journal.rollback()
                raise
        finally:
            store.close()
    except (sqlite3.Error, OSError) as error:
        raise explain(error, path) from error


def set_consent(path: Path, address_key: str, consent: Consent, actor: str, note: str = "") -> int:
    """Record what a person (:attr:`Mailbox.key`) said about being asked. Returns the entry's number."""
    with writing(path) as journal:
        return journal.consent(address_key, consent, actor, note)


def attest(path: Path, recipient: int, confirmed_by: str, seen_at: int, actor: str, text: str) -> int:
    """Record that a recipient confirmed otherwise, when (UTC microseconds) and how. Returns the entry's number."""
    with writing(path) as journal:
        return journal.attest(recipient, confirmed_by, seen_at, actor, text)


def revoke(path: Path, entry: int, recipients: tuple[int, ...], actor: str) -> int:
    """Take back an attestation about one of these recipients. Returns the entry's number."""
    with writing(path) as journal:
        return journal.revoke(entry, recipients, actor)
