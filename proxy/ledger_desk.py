"""The desk at which people read and change the ledger: it knows who stands before it, and writes down what he asks for.

Used by every command over the ledger, and by screens; none of them opens a ledger otherwise. Each method asks for a role
(:class:`kaifu.proxy.access.Role`) and, before it gives anything that concerns persons, puts on record who looked at what:
committed, so that nobody sees what was not recorded. What was asked for once is recorded once a day in the life of a desk, so that
paging through a list is one look. Who is refused is on record too. Figures, and whether the ledger is intact, concern nobody in person.

What a viewer may is in :mod:`kaifu.proxy.ledger_desk_figures`, what an auditor may in :mod:`kaifu.proxy.ledger_desk_read`, what an admin
may here, and what all have in common in :mod:`kaifu.proxy.ledger_desk_core`.

When the ledger cannot be written nothing is shown. Every method raises :class:`~kaifu.proxy.ledger.LedgerError`
(:class:`~kaifu.proxy.access.AccessError` for a role that is too low, :class:`GivenUpError` for a question that was given up) or sqlite3's
errors. Not for use by two threads at once, except :meth:`~kaifu.proxy.ledger_desk_core.Core.interrupt`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from kaifu.policies.facts import Consent

from .access import Role
from .ledger import LedgerError
from .ledger_acts import WHAT
from .ledger_anchor import Anchor
from .ledger_answerers import Answer
from .ledger_apart import Unmatched
from .ledger_audit import Act, ActFilter, ActPlace, PolicyVersion
from .ledger_chain import ChainState, SealedEntry, Seals
from .ledger_desk_core import GivenUpError
from .ledger_desk_read import Handover, Reading
from .ledger_detail import Detail
from .ledger_figures import entries
from .ledger_file import Store, prepare
from .ledger_newest import Newest
from .ledger_pairs import answers_between, pairable
from .ledger_people import CONFIRMED_BY, record, writing
from .ledger_places import PlaceError, behind, newest_anchor, places_of, send
from .ledger_read import Counted, Filter, Order, Page, Place, Row
from .ledger_rebuild import rebuild
from .ledger_subjects import Filling
from .ledger_tally import AnchorPlace, Attention, Tally
from .settings import Anchors

__all__ = [
    "CONFIRMED_BY", "WHAT", "Act", "ActFilter", "ActPlace", "AnchorPlace", "Answer", "Attention", "ChainState", "Counted",
    "Desk", "Detail", "Filling", "Filter", "GivenUpError", "Handover", "Newest", "Order", "Page", "Place",
    "PolicyVersion", "Row", "SealedEntry", "Seals", "Tally", "Unmatched",
]  # fmt: skip


class Desk(Reading):
    """One person at one ledger. ``path``: its file. A context manager; leaving it closes the file."""

    def recipients_called(self, name: str, to: str | None, what: str) -> tuple[int, ...]:
        """The recipient that a note is about (all rows with that address). LedgerError when it is none, or not one."""
        with self._open(Role.ADMIN, f"receipts {what}") as db:
            return self._called(db, name, to)[1]

    def attest(self, recipient: int, confirmed_by: str, seen_at: int, text: str) -> int:
        """Record that a recipient confirmed otherwise, when (UTC microseconds) and how. Returns the entry's number."""
        with (
            self._open(Role.ADMIN, "receipts note") as db,
            self._no_is_a_look(db, recipient),
            writing(self.path) as journal,
        ):
            return journal.attest(recipient, confirmed_by, seen_at, self.actor, text)

    def revoke(self, entry: int, recipients: tuple[int, ...]) -> int:
        """Take back an attestation about one of these recipients. Returns the entry's number."""
        with (
            self._open(Role.ADMIN, "receipts note") as db,
            self._no_is_a_look(db, recipients[0]),
            writing(self.path) as journal,
        ):
            return journal.revoke(entry, recipients, self.actor)

    def pair(self, recipient: int, other: str, text: str) -> int:
        """Record that another address answers for a recipient, wherever both occur. Returns the entry's number.

        LedgerError for an address that has answered nothing: it is most likely mistyped.
        """
        with self._open(Role.ADMIN, "receipts pair") as db, self._no_is_a_look(db, recipient):
            _, address, asked, key = pairable(db, recipient, other)
            if not answers_between(db, asked, key):
                raise LedgerError(f"{other} has answered nothing that was sent to {address}")
            with writing(self.path) as journal:
                return journal.pair(recipient, other, self.actor, text)

    def unpair(self, entry: int, recipients: tuple[int, ...]) -> int:
        """Take back a pairing with one of these recipients. Returns the entry's number."""
        with (
            self._open(Role.ADMIN, "receipts pair") as db,
            self._no_is_a_look(db, recipients[0]),
            writing(self.path) as journal,
        ):
            return journal.unpair(entry, recipients, self.actor)

    def consent(self, address_key: str, consent: Consent, note: str = "") -> int:
        """Record what a person (:attr:`Mailbox.key`) said about being asked. Returns the entry's number."""
        with self._open(Role.ADMIN, "consent"), writing(self.path) as journal:
            return journal.consent(address_key, consent, self.actor, note)

    def seal(self, anchors: Anchors, now: datetime) -> tuple[Anchor | None, list[str]]:
        """Send the head to those places that do not have it: what was sent, if anything, and a sentence for each that failed.

        LedgerError when the settings name no place.
        """
        sent, failed = list[str](), list[str]()
        with self._open(Role.ADMIN, "ledger seal") as db:
            if not places_of(anchors):
                raise LedgerError("the settings name no place under anchors: (file, command or mail); or use --print")
            anchor = newest_anchor(db, now)
            places = [] if anchor is None else behind(db, places_of(anchors))
        if anchor is None:
            return None, failed
        for place in places:
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
        with self._open(Role.ADMIN, "ledger rebuild") as db:
            return entries(db)

    def rebuild(self, progress: Callable[[int], None] = lambda _: None) -> int:
        """Recompute what is derived; returns the number of entries."""
        with self._open(Role.ADMIN, "ledger rebuild"):
            store = Store(self.path, write=True)
            try:
                return rebuild(store.db, progress)
            finally:
                store.close()

    def migrate(self) -> list[str]:
        """Bring the schema up to date; returns the names of what was run."""
        self._need(Role.ADMIN, "ledger migrate")
        return prepare(self.path, create=False)
