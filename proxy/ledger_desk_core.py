"""What every method of the desk shares: who stands before it, what he may do, that it is on record, and the open file.

The foundation of :class:`kaifu.proxy.ledger_desk.Desk`, and of nothing else. Each method opens with :meth:`Core._open`, which asks for
a role, and calls :meth:`Core._looked` before it gives what concerns persons.

The file stays open between questions. When it is no longer the ledger at its path the question fails, and the next one opens what is there then;
what was on record in the other file is not taken to be in this one. A question that another thread gives up (:meth:`Core.interrupt`) fails
with :class:`GivenUpError`. Otherwise fails with LedgerError, also where somebody altered the ledger so that it makes no sense, AccessError
and sqlite3's errors.
"""

from __future__ import annotations

import os
import sqlite3
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from .access import Access, AccessError, Role, refusal
from .ledger import LedgerError, Trouble
from .ledger_entries import at_text, canonical
from .ledger_file import Database, Store, explain
from .ledger_people import record

_STEPS = 20_000  # of SQLite's machine, some milliseconds: so often a question looks whether it was given up.
_NONSENSE = (ValueError, LookupError, TypeError, ArithmeticError, RecursionError)
"""What reading raises where somebody altered the ledger."""
_ANEW_SECONDS = 86400
"""A desk may be left open for weeks: what is asked for then is another look."""
_Given = TypeVar("_Given")


class GivenUpError(LedgerError):
    """The question was given up by :meth:`Core.interrupt`; there is no answer, and nothing is wrong with the ledger."""


class Core:
    """One person at one ledger. ``path``: its file. A context manager; leaving it closes the file."""

    def __init__(self, path: Path, who: Access) -> None:
        self.path = path
        self._who = who
        self._store: Store | None = None
        self._recorded: set[str] = set()
        self._recorded_from = time.monotonic()
        self._openings = 0
        self._given_up = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close_file()

    @property
    def actor(self) -> str:
        """Who stands here, as entries name him."""
        return self._who.caller.name

    def refuse(self, what: str, sentence: str, **more: str) -> AccessError:
        """The error for what the caller may not do; that he tried is on record, where it can be."""
        with suppress(LedgerError):
            self._record_once("refused", {"what": what, **more}, {})
        return AccessError(sentence)

    def own_files(self, option: str, instead: str) -> None:
        """AccessError when the caller borrows the service user's rights: with those no file that he names is read or written."""
        if not self._who.caller.unbound:
            sentence = f"{option} would use the service user's rights on a file of {self.actor}'s choice; {instead}"
            raise self.refuse(option, sentence)

    def close_file(self) -> None:
        """Let go of the file; the next question opens it anew. What is on record is forgotten: it may be another ledger then."""
        self._recorded.clear()
        self._let_go()

    def interrupt(self) -> None:
        """Give up the question that is under way, from any thread: it fails with :class:`GivenUpError`. Without one nothing happens.

        It does so within milliseconds. What goes on record is not interrupted, and a question that is nearly done may still give its answer.
        """
        self._given_up = True

    # For the methods of the desk.

    def _need(self, role: Role, what: str) -> None:
        if not self._who.allows(role):
            raise self.refuse(what, refusal(self._who, role, f"kaifu {what}"), needs=role.word)

    def _record_once(self, kind: str, body: dict[str, str], cells: dict[str, Any], message: int | None = None) -> None:
        if time.monotonic() - self._recorded_from > _ANEW_SECONDS:
            self._recorded.clear()
            self._recorded_from = time.monotonic()
        key = canonical([kind, body, cells, message])
        if key not in self._recorded:
            record(self.path, kind, body, {"actor": self.actor, **cells}, message)
            self._recorded.add(key)

    def _looked(self, what: str, wanted: dict[str, Any], message: int | None = None) -> None:
        try:
            self._record_once("looked", {"what": what}, {"filter": wanted} if wanted else {}, message)
        except LedgerError as error:
            sentence = f"{error}; nothing is shown, as nobody looks without a record of it"
            raise LedgerError(sentence, error.trouble) from error
        if self._store is not None:
            self._store.guard()  # The record must be where the answer comes from.

    @contextmanager
    def _no_is_a_look(self, db: Database, recipient: int) -> Iterator[None]:
        """Why something cannot be done tells who a recipient is, and what is known of him: that is on record before it is said."""
        try:
            yield
        except LedgerError:
            found = db.execute("SELECT message FROM recipients WHERE id = ?", (recipient,)).fetchone()
            self._looked("show", {}, None if found is None else found[0])
            raise

    @contextmanager
    def _open(self, role: Role, what: str) -> Iterator[Database]:
        """The ledger, open for reading, for one question of somebody who may ask it."""
        self._given_up = False
        db = self._db()
        self._need(role, what)
        with self._asking():
            yield db

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """A question that is given up, or that meets what makes no sense, ends with an error of its own; of the first nothing goes on reading."""
        try:
            yield
        except sqlite3.OperationalError as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)  # Text that is no UTF-8 has none.
            if code == sqlite3.SQLITE_ERROR:
                raise self._senseless(error) from error
            if code != sqlite3.SQLITE_INTERRUPT:
                raise
            traceback.clear_frames(error.__traceback__)  # They hold cursors, and those a read transaction.
            raise GivenUpError("the question was given up") from None
        except _NONSENSE as error:
            raise self._senseless(error) from error

    def _senseless(self, error: Exception) -> LedgerError:
        """Not in the words of the error, which may quote what stands there."""
        name = type(error).__name__
        return LedgerError(
            f"the ledger {self.path} is not as kaifu writes it ({name}); kaifu ledger verify shows whether it was altered"
        )

    def _given(self, answers: Iterator[_Given]) -> Iterator[_Given]:
        """An answer that is read bit by bit."""
        with self._asking():
            yield from answers

    def _db(self) -> Database:
        """The ledger, open for reading; AccessError or LedgerError in a sentence."""
        if self._store is None:
            self._store = self._opened()
            self._openings += 1
            self._store.db.set_progress_handler(lambda: self._given_up, _STEPS)
        try:
            self._store.guard()
        except LedgerError:
            self.close_file()
            raise
        return self._store.db

    def _opened(self) -> Store:
        try:
            os.stat(self.path)
            return Store(self.path, write=False)
        except FileNotFoundError:
            sentence = f"there is no ledger at {self.path}; kaifu relay makes one when it starts"
            raise LedgerError(sentence, Trouble.GONE) from None
        except (OSError, LedgerError, sqlite3.Error) as error:
            raise explain(error, self.path) from error

    def _let_go(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            store.close()


def told(wanted: Any) -> dict[str, Any]:
    """What was asked for, as the entry of the look keeps it: only what was given, times as text. ``wanted``: a filter."""
    assert is_dataclass(wanted)
    given = {field.name: getattr(wanted, field.name) for field in fields(wanted)}
    return {
        key: at_text(value) if key in ("since", "until") else list(value) if isinstance(value, tuple) else value
        for key, value in given.items()
        if value not in (None, ())
    }
