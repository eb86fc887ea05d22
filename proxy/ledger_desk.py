"""The desk at which people read and change the ledger: it knows who stands before it, and writes down what he asks for.

Used by every command over the ledger, and by screens; none of them opens a ledger otherwise. Each method asks for a role
(:class:`kaifu.proxy.access.Role`) and, before it gives anything that concerns persons, puts on record who looked at what:
committed, so that nobody sees what was not recorded. What was asked for once is recorded once in the life of a desk, so that paging
through a list is one look. Who is refused is on record too. Figures, and whether the ledger is intact, concern nobody in person.

When the ledger cannot be written nothing is shown. Every method raises :class:`~kaifu.proxy.ledger.LedgerError`
(:class:`~kaifu.proxy.access.AccessError` for a role that is too low) or sqlite3's errors. Not for use by two threads at once.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from datetime import datetime, tzinfo
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

from kaifu.policies.facts import Consent

from .access import Access, AccessError, Role, refusal
from .ledger import Known, LedgerError, Query
from .ledger_acts import WHAT
from .ledger_anchor import Anchor
from .ledger_apart import Unmatched, unmatched
from .ledger_audit import Act, ActFilter, ActPlace, acts, acts_page
from .ledger_bundle import Wanted, bundle
from .ledger_detail import Detail, detail
from .ledger_entries import at_text, canonical
from .ledger_figures import entries, figures
from .ledger_file import Database, Store, explain, prepare
from .ledger_keys import search_key
from .ledger_look import look
from .ledger_pairs import answers_between, pairable
from .ledger_people import CONFIRMED_BY, record, writing
from .ledger_places import PlaceError, behind, newest_anchor, places_of, send
from .ledger_read import Filter, Order, Place, Row, count, messages_called, page, rows
from .ledger_rebuild import rebuild
from .ledger_verify import Report, verify
from .settings import Anchors

__all__ = ["CONFIRMED_BY", "WHAT", "Act", "ActFilter", "Desk", "Detail", "Filter", "Handover", "Order", "Place", "Row"]


@dataclass(frozen=True, slots=True)
class Handover:
    """To whom a bundle is handed, and why."""

    to: str
    purpose: str


class Desk:
    """One person at one ledger. ``path``: its file. A context manager; leaving it closes the file."""

    def __init__(self, path: Path, who: Access) -> None:
        self.path = path
        self._who = who
        self._store: Store | None = None
        self._recorded: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None

    # Roles and records.

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

    def _need(self, role: Role, what: str) -> None:
        if not self._who.allows(role):
            raise self.refuse(what, refusal(self._who, role, f"kaifu {what}"), needs=role.word)

    def _record_once(self, kind: str, body: dict[str, str], cells: dict[str, Any], message: int | None = None) -> None:
        key = canonical([kind, body, cells, message])
        if key not in self._recorded:
            record(self.path, kind, body, {"actor": self.actor, **cells}, message)
            self._recorded.add(key)

    def _looked(self, what: str, wanted: dict[str, Any], message: int | None = None) -> None:
        try:
            self._record_once("looked", {"what": what}, {"filter": wanted} if wanted else {}, message)
        except LedgerError as error:
            raise LedgerError(f"{error}; nothing is shown, as nobody looks without a record of it") from error

    @contextmanager
    def _no_is_a_look(self, db: Database, recipient: int) -> Iterator[None]:
        """Why something cannot be done tells who a recipient is, and what is known of him: that is on record before it is said."""
        try:
            yield
        except LedgerError:
            found = db.execute("SELECT message FROM recipients WHERE id = ?", (recipient,)).fetchone()
            self._looked("show", {}, None if found is None else found[0])
            raise

    def _db(self) -> Database:
        """The ledger, open for reading; AccessError or LedgerError in a sentence."""
        if self._store is None:
            try:
                os.stat(self.path)
                self._store = Store(self.path, write=False)
            except FileNotFoundError:
                raise LedgerError(f"there is no ledger at {self.path}; kaifu relay makes one when it starts") from None
            except (OSError, LedgerError, sqlite3.Error) as error:
                raise explain(error, self.path) from error
        self._store.guard()
        return self._store.db

    def _open(self, role: Role, what: str) -> Database:
        db = self._db()
        self._need(role, what)
        return db

    # What a viewer may.

    def figures(self) -> dict[str, Any]:
        """How much is in the ledger."""
        return figures(self._open(Role.VIEWER, "ledger stats"))

    def verify(
        self, anchors: Sequence[Anchor], now: int, progress: Callable[[int, int], None] = lambda *_: None
    ) -> Report:
        """Has anybody changed the ledger? ``now``: UTC microseconds; ``progress``: entries done, and of how many."""
        return verify(self._open(Role.VIEWER, "ledger verify"), anchors, now, progress)

    # What an auditor may.

    def rows(
        self, wanted: Filter, *, what: str = "list", newest_first: bool = True, at_once: int = 500
    ) -> Iterator[Row]:
        """All rows that fit; on record when it returns. ``what``: ``list`` or ``export``."""
        db = self._open(Role.AUDITOR, f"receipts {what}")
        self._looked(what, _told(wanted))
        return rows(db, wanted, newest_first=newest_first, at_once=at_once)

    def page(
        self, wanted: Filter, *, after: Place | None = None, limit: int = 100, newest_first: bool = True
    ) -> list[Row]:
        """The next rows of a list."""
        db = self._open(Role.AUDITOR, "receipts list")
        self._looked("list", _told(wanted))
        return page(db, wanted, after=after, limit=limit, newest_first=newest_first)

    def count(self, wanted: Filter, *, most: int, what: str = "list") -> int:
        """How many rows fit, counted up to ``most``."""
        db = self._open(Role.AUDITOR, f"receipts {what}")
        self._looked(what, _told(wanted))
        return count(db, wanted, most=most)

    def details(self, name: str) -> list[Detail]:
        """All about the messages that a number or a Message-ID means. To have asked for what is not there is on record too."""
        db = self._open(Role.AUDITOR, "receipts show")
        numbers = messages_called(db, name)
        if not numbers:
            self._looked("show", {"message": name})
        for number in numbers:
            self._looked("show", {}, number)
        return [found for number in numbers if (found := detail(db, number)) is not None]

    def bundle(
        self,
        name: str,
        to: str | None,
        handover: Handover,
        anchors: Sequence[Anchor],
        zone: tzinfo,
        set_aside: Callable[[bytes], object] = lambda _: None,
    ) -> bytes:
        """A bundle of one recipient's record; that it is handed out is on record when this returns.

        ``set_aside`` gets it just before, to put it where it can be written, but not where anybody finds it. ``zone``: of times for people.
        """
        db = self._open(Role.AUDITOR, "receipts show --bundle")
        wanted = Wanted(*self._called(db, name, to))
        with self._no_is_a_look(db, wanted.recipients[0]):
            made = bundle(db, wanted, anchors, zone)
        set_aside(made)
        body = {"recipients": list(wanted.recipients), "sha256": sha256(made).hexdigest()}
        cells = {"actor": self.actor, "to": handover.to, "purpose": handover.purpose}
        try:
            record(self.path, "handed-out", body, cells, wanted.message)
        except LedgerError as error:
            raise LedgerError(f"{error}; nothing is handed out, as nothing is without a record of it") from error
        return made

    def unmatched(self) -> list[Unmatched]:
        """Evidence that matches nothing, newest first, as far as it has not expired."""
        db = self._open(Role.AUDITOR, "receipts unmatched")
        self._looked("unmatched", {})
        return list(unmatched(db, int(time.time())))

    def acts(self, wanted: ActFilter, *, newest_first: bool = True, at_once: int = 500) -> Iterator[Act]:
        """Who did what. Itself on record, as ``audit``."""
        db = self._open(Role.AUDITOR, "audit list")
        self._looked("audit", _told(wanted))
        return acts(db, wanted, newest_first=newest_first, at_once=at_once)

    def acts_page(
        self, wanted: ActFilter, *, after: ActPlace | None = None, limit: int = 100, newest_first: bool = True
    ) -> list[Act]:
        """The next acts of a list."""
        db = self._open(Role.AUDITOR, "audit list")
        self._looked("audit", _told(wanted))
        return acts_page(db, wanted, after=after, limit=limit, newest_first=newest_first)

    def known(self, query: Query) -> Known:
        """What a host would be told of originals and consent, for ``policy explain``. A ledger that is not there knows nothing."""
        asked = {name: list(getattr(query, name)) for name in ("message_ids", "envids", "consent_of")}
        wanted = {name: given for name, given in asked.items() if given}
        if not wanted or not self._is_there():
            return Known()
        db = self._open(Role.AUDITOR, "policy explain")
        self._looked("explain", wanted)
        db.execute("BEGIN")
        try:
            return look(db, query)
        finally:
            db.execute("ROLLBACK")

    def _is_there(self) -> bool:
        try:
            return self.path.exists()
        except OSError:
            return True  # and cannot be opened, as opening it will say

    # What an admin may.

    def recipients_called(self, name: str, to: str | None, what: str) -> tuple[int, ...]:
        """The recipient that a note is about (all rows with that address). LedgerError when it is none, or not one."""
        return self._called(self._open(Role.ADMIN, f"receipts {what}"), name, to)[1]

    def _called(self, db: Database, name: str, to: str | None) -> tuple[int, tuple[int, ...]]:
        """A message and one of its recipients, as :meth:`recipients_called`."""
        messages = messages_called(db, name)
        if len(messages) != 1:
            self._looked("show", {"message": name})
            if not messages:
                raise LedgerError(f"The ledger has no message {name}.")
            numbers = ", ".join(map(str, messages))
            raise LedgerError(f"Several messages are called {name}; say which by its number: {numbers}.")
        everyone = list(rows(db, Filter(message=messages[0])))
        if to is None and len({row.address for row in everyone}) == 1:
            return messages[0], tuple(row.recipient for row in everyone)
        key = None if to is None else search_key(to)
        found = tuple(row.recipient for row in everyone if row.address and search_key(row.address) == key)
        if not found:
            self._looked("show", {"to": to} if to else {}, messages[0])
            names = ", ".join(sorted(row.address or "(erased)" for row in everyone))
            raise LedgerError(f"Message {messages[0]} went to {names}; say which with --to.")
        return messages[0], found

    def attest(self, recipient: int, confirmed_by: str, seen_at: int, text: str) -> int:
        """Record that a recipient confirmed otherwise, when (UTC microseconds) and how. Returns the entry's number."""
        db = self._open(Role.ADMIN, "receipts note")
        with self._no_is_a_look(db, recipient), writing(self.path) as journal:
            return journal.attest(recipient, confirmed_by, seen_at, self.actor, text)

    def revoke(self, entry: int, recipients: tuple[int, ...]) -> int:
        """Take back an attestation about one of these recipients. Returns the entry's number."""
        db = self._open(Role.ADMIN, "receipts note")
        with self._no_is_a_look(db, recipients[0]), writing(self.path) as journal:
            return journal.revoke(entry, recipients, self.actor)

    def pair(self, recipient: int, other: str, text: str) -> int:
        """Record that another address answers for a recipient, wherever both occur. Returns the entry's number.

        LedgerError for an address that has answered nothing: it is most likely mistyped.
        """
        db = self._open(Role.ADMIN, "receipts pair")
        with self._no_is_a_look(db, recipient):
            _, address, asked, key = pairable(db, recipient, other)
            if not answers_between(db, asked, key):
                raise LedgerError(f"{other} has answered nothing that was sent to {address}")
            with writing(self.path) as journal:
                return journal.pair(recipient, other, self.actor, text)

    def unpair(self, entry: int, recipients: tuple[int, ...]) -> int:
        """Take back a pairing with one of these recipients. Returns the entry's number."""
        db = self._open(Role.ADMIN, "receipts pair")
        with self._no_is_a_look(db, recipients[0]), writing(self.path) as journal:
            return journal.unpair(entry, recipients, self.actor)

    def consent(self, address_key: str, consent: Consent, note: str = "") -> int:
        """Record what a person (:attr:`Mailbox.key`) said about being asked. Returns the entry's number."""
        self._open(Role.ADMIN, "consent")
        with writing(self.path) as journal:
            return journal.consent(address_key, consent, self.actor, note)

    def anchor(self, now: datetime) -> Anchor | None:
        """The head of the ledger as it is; None for an empty one."""
        return newest_anchor(self._open(Role.ADMIN, "ledger seal"), now)

    def seal(self, anchors: Anchors, now: datetime) -> tuple[Anchor | None, list[str]]:
        """Send the head to those places that do not have it: what was sent, if anything, and a sentence for each that failed."""
        db = self._open(Role.ADMIN, "ledger seal")
        anchor, sent, failed = newest_anchor(db, now), list[str](), list[str]()
        if anchor is None:
            return None, failed
        for place in behind(db, places_of(anchors)):
            try:
                send(anchors, place, anchor)
                sent.append(place)
            except PlaceError as error:
                failed.append(str(error))
        if not sent:
            return None, failed
        record(self.path, "anchored", {"batch": anchor.batch, "to": sent}, {"actor": self.actor})
        return anchor, failed

    def entries(self) -> int:
        """How many entries a rebuild will read."""
        return entries(self._open(Role.ADMIN, "ledger rebuild"))

    def rebuild(self, progress: Callable[[int], None] = lambda _: None) -> int:
        """Recompute what is derived; returns the number of entries."""
        self._open(Role.ADMIN, "ledger rebuild")
        store = Store(self.path, write=True)
        try:
            return rebuild(store.db, progress)
        finally:
            store.close()

    def migrate(self) -> list[str]:
        """Bring the schema up to date; returns the names of what was run."""
        self._need(Role.ADMIN, "ledger migrate")
        return prepare(self.path, create=False)


def _told(wanted: Filter | ActFilter) -> dict[str, Any]:
    """What was asked for, as the entry of the look keeps it: only what was given, times as text."""
    given = {field.name: getattr(wanted, field.name) for field in fields(wanted)}
    return {
        key: at_text(value) if key in ("since", "until") else list(value) if isinstance(value, tuple) else value
        for key, value in given.items()
        if value not in (None, ())
    }
