"""The desk for those who may read what concerns persons: lists, details, bundles, who looked; each look on record before it is given.

The part of :class:`kaifu.proxy.ledger_desk.Desk` for the role auditor. What was asked for once is recorded once a day, so that paging through a
list is one look. Fails as :mod:`kaifu.proxy.ledger_desk_core` says.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from hashlib import sha256
from pathlib import Path

from .access import Access, Role
from .ledger import Known, LedgerError, Query
from .ledger_anchor import Anchor
from .ledger_apart import Unmatched, unmatched
from .ledger_audit import Act, ActFilter, ActPlace, PolicyVersion, acts, acts_page, policy_versions
from .ledger_bundle import Wanted, bundle
from .ledger_chain import Seals, seals
from .ledger_desk_core import told
from .ledger_desk_figures import Figures
from .ledger_detail import Detail, detail
from .ledger_file import Database
from .ledger_keys import search_key
from .ledger_look import look
from .ledger_newest import Newest, newest
from .ledger_people import record
from .ledger_read import Counted, Filter, Order, Page, Place, Row, count, count_on, messages_called, page, rows, walk
from .ledger_subjects import Filling, Subjects


@dataclass(frozen=True, slots=True)
class Handover:
    """To whom a bundle is handed, and why."""

    to: str
    purpose: str


class Reading(Figures):
    """What an auditor may."""

    def __init__(self, path: Path, who: Access) -> None:
        super().__init__(path, who)
        self._subjects = Subjects(path)

    def _let_go(self) -> None:
        super()._let_go()
        self._subjects.close()

    def rows(
        self, wanted: Filter, *, what: str = "list", newest_first: bool = True, at_once: int = 500
    ) -> Iterator[Row]:
        """All rows that fit; on record when it returns. ``what``: ``list`` or ``export``."""
        with self._open(Role.AUDITOR, f"receipts {what}") as db:
            self._looked(what, told(wanted))
            return self._given(rows(db, wanted, newest_first=newest_first, at_once=at_once))

    def page(
        self, wanted: Filter, *, after: Place | None = None, limit: int = 100, newest_first: bool = True
    ) -> list[Row]:
        """The next rows of a list."""
        with self._open(Role.AUDITOR, "receipts list") as db:
            self._looked("list", told(wanted))
            return page(db, wanted, after=after, limit=limit, newest_first=newest_first)

    def walk(
        self,
        wanted: Filter,
        *,
        after: Place | None = None,
        limit: int = 100,
        newest_first: bool = True,
        order: Order = Order.TIME,
    ) -> Page:
        """The next rows of a list, as far as it could be walked in a moment; :attr:`Page.reached` says where to go on."""
        with self._open(Role.AUDITOR, "receipts list") as db:
            self._looked("list", told(wanted))
            return walk(
                db, wanted, after=after, limit=limit, newest_first=newest_first, order=order, subjects=self._subjects
            )

    def count_on(self, wanted: Filter, *, after: Place | None = None, most: int = 10_000) -> Counted:
        """How many rows a list has from ``after`` on, up to ``most``, as far as it could be walked in a moment; as :meth:`walk`."""
        with self._open(Role.AUDITOR, "receipts list") as db:
            self._looked("list", told(wanted))
            return count_on(db, wanted, after=after, most=most, subjects=self._subjects)

    def index_subjects(self) -> Filling:
        """Fill the index of subjects some more: a short step, to be repeated until it is done, in the background and now and then."""
        with self._open(Role.AUDITOR, "receipts list") as db:
            return self._subjects.fill(db)

    def count(self, wanted: Filter, *, most: int, what: str = "list") -> int:
        """How many rows fit, counted up to ``most``."""
        with self._open(Role.AUDITOR, f"receipts {what}") as db:
            self._looked(what, told(wanted))
            return count(db, wanted, most=most)

    def details(self, name: str) -> list[Detail]:
        """All about the messages that a number or a Message-ID means. To have asked for what is not there is on record too."""
        with self._open(Role.AUDITOR, "receipts show") as db:
            numbers = messages_called(db, name)
            if not numbers:
                self._looked("show", {"message": name})
            for number in numbers:
                self._looked("show", {}, number)
            return [found for number in numbers if (found := detail(db, number)) is not None]

    def seals(self, message: int, entries: Sequence[int]) -> Seals:
        """How these entries about a message are sealed, and whether they are what was sealed."""
        with self._open(Role.AUDITOR, "receipts show") as db:
            self._looked("show", {}, message)
            return seals(db, entries)

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
        with self._open(Role.AUDITOR, "receipts show --bundle") as db:
            wanted = Wanted(*self._called(db, name, to))
            with self._no_is_a_look(db, wanted.recipients[0]):
                made = bundle(db, wanted, anchors, zone)
        set_aside(made)
        body = {"recipients": list(wanted.recipients), "sha256": sha256(made).hexdigest()}
        cells = {"actor": self.actor, "to": handover.to, "purpose": handover.purpose}
        try:
            record(self.path, "handed-out", body, cells, wanted.message)
        except LedgerError as error:
            sentence = f"{error}; nothing is handed out, as nothing is without a record of it"
            raise LedgerError(sentence, error.trouble) from error
        return made

    def newest(self, limit: int) -> list[Newest]:
        """The last answers and delivery reports that count, newest first."""
        with self._open(Role.AUDITOR, "receipts list") as db:
            self._looked("list", {"newest": limit})
            return newest(db, limit)

    def unmatched(self) -> list[Unmatched]:
        """Evidence that matches nothing, newest first, as far as it has not expired."""
        with self._open(Role.AUDITOR, "receipts unmatched") as db:
            self._looked("unmatched", {})
            return list(unmatched(db, int(time.time())))

    def acts(self, wanted: ActFilter, *, newest_first: bool = True, at_once: int = 500) -> Iterator[Act]:
        """Who did what. Itself on record, as ``audit``."""
        with self._open(Role.AUDITOR, "audit list") as db:
            self._looked("audit", told(wanted))
            return self._given(acts(db, wanted, newest_first=newest_first, at_once=at_once))

    def acts_page(
        self, wanted: ActFilter, *, after: ActPlace | None = None, limit: int = 100, newest_first: bool = True
    ) -> list[Act]:
        """The next acts of a list."""
        with self._open(Role.AUDITOR, "audit list") as db:
            self._looked("audit", told(wanted))
            return acts_page(db, wanted, after=after, limit=limit, newest_first=newest_first)

    def policy_versions(self, limit: int = 100) -> list[PolicyVersion]:
        """Which policies were in force since when, newest first; on record like the same question to the audit."""
        with self._open(Role.AUDITOR, "audit list") as db:
            self._looked("audit", told(ActFilter(what=("policy",))))
            return policy_versions(db, limit)

    def known(self, query: Query) -> Known:
        """What a host would be told of originals and consent, for ``policy explain``. A ledger that is not there knows nothing."""
        asked = {name: list(getattr(query, name)) for name in ("message_ids", "envids", "consent_of")}
        wanted = {name: given for name, given in asked.items() if given}
        if not wanted or not self._is_there():
            return Known()
        with self._open(Role.AUDITOR, "policy explain") as db:
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
