"""Records and evidence for tests of the ledger, and a look at all that a ledger holds."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from kaifu.policies.facts import AskedBy, Direction
from kaifu.proxy.ledger import (
    Evidence,
    EvidenceKind,
    Record,
    RecordedRecipient,
    RequestState,
    Verdict,
)
from kaifu.proxy.ledger_file import Store, prepare
from kaifu.proxy.ledger_people import PeopleJournal, transaction
from kaifu.proxy.migrations import DERIVED

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
YAMADA = "yamada@partner.example"
SUZUKI = "suzuki@hq.partner.example"


def to(address: str = YAMADA, **changes: Any) -> RecordedRecipient:
    """A recipient whom a rule asks."""
    asked = RecordedRecipient(
        address, Direction.OUTBOUND, RequestState.ADDED, AskedBy.POLICY, rule="partners", reason="Rule partners asks."
    )
    return replace(asked, **changes)


def record(*recipients: RecordedRecipient, key: bytes = b"", minutes: int = 0, **changes: Any) -> Record:
    """A message of ours. ``key``: the attempt; ``minutes`` after noon."""
    made = Record(
        at=NOON + timedelta(minutes=minutes),
        queue_id="q1",
        sender="sato@example.co.jp",
        attempt_key=key,
        message_id="1@example.co.jp",
        subject="契約書のご確認",
        recipients=recipients,
    )
    return replace(made, **changes)


def receipt(recipient: int | None, value: str = "displayed", **changes: Any) -> Evidence:
    """A receipt from one of the recipients."""
    made = Evidence(
        EvidenceKind.MDN,
        Verdict.MATCHED if recipient is not None else Verdict.UNKNOWN_MESSAGE,
        value,
        recipient,
        about=YAMADA,
        by=YAMADA,
        message_id="r1@partner.example",
        tie="Original-Message-ID",
        raw=b"Final-Recipient: rfc822; yamada@partner.example\r\n",
        why="it names our message",
    )
    return replace(made, **changes)


@contextmanager
def store(path: Path) -> Iterator[Store]:
    """An open ledger file, made if it is not there."""
    prepare(path, create=True)
    opened = Store(path, write=True)
    try:
        yield opened
    finally:
        opened.close()


def journal(opened: Store) -> AbstractContextManager[PeopleJournal]:
    """A journal in one transaction, committed at the end."""
    return transaction(opened.db)


def tables(path: Path, names: tuple[str, ...] = DERIVED) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of some tables, by default the derived ones."""
    with closing(sqlite3.connect(path)) as db:
        return {name: db.execute(f"SELECT * FROM {name} ORDER BY 1, 2").fetchall() for name in names}


def bodies(path: Path) -> list[str]:
    """The entries, in order."""
    with closing(sqlite3.connect(path)) as db:
        return [body for (body,) in db.execute("SELECT body FROM entries ORDER BY id")]
