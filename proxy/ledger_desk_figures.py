"""The desk for those who may see figures: how much there is, what became of it, whether it is intact; nothing about persons.

The part of :class:`kaifu.proxy.ledger_desk.Desk` for the role viewer. Nothing here is recorded, as it concerns nobody in person.
Fails as :mod:`kaifu.proxy.ledger_desk_core` says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from . import ledger_tally
from .access import Role
from .ledger_anchor import Anchor
from .ledger_chain import ChainState, chain_state
from .ledger_desk_core import Core
from .ledger_figures import figures
from .ledger_places import newest_anchor
from .ledger_tally import Attention, Tally
from .ledger_verify import Report, verify


class Figures(Core):
    """What a viewer may."""

    def figures(self) -> dict[str, Any]:
        """How much is in the ledger. Counts whole tables: takes seconds on a large one."""
        with self._open(Role.VIEWER, "ledger stats") as db:
            return figures(db)

    def verify(
        self, anchors: Sequence[Anchor], now: int, progress: Callable[[int, int], None] = lambda *_: None
    ) -> Report:
        """Has anybody changed the ledger? ``now``: UTC microseconds; ``progress``: entries done, and of how many."""
        with self._open(Role.VIEWER, "ledger verify") as db:
            return verify(db, anchors, now, progress)

    def chain(self) -> ChainState:
        """The chain of seals as it stands, and which erasures there were."""
        with self._open(Role.VIEWER, "ledger verify") as db:
            return chain_state(db)

    def anchor(self, now: datetime) -> Anchor | None:
        """The head of the ledger as it is; None for an empty one."""
        with self._open(Role.VIEWER, "ledger seal --print") as db:
            return newest_anchor(db, now)

    def tallies(self, since: int, until: int) -> list[Tally]:
        """How many recipients became what, by quarters of an hour, from ``since`` until before ``until`` (UTC microseconds).

        Who wants more than a day asks day by day: each question is answered in one piece. In no particular order.
        """
        with self._open(Role.VIEWER, "overview") as db:
            return ledger_tally.tallies(db, since, until)

    def oldest(self) -> int | None:
        """When the first message came through that is in the ledger (UTC microseconds); None for an empty one."""
        with self._open(Role.VIEWER, "overview") as db:
            return ledger_tally.oldest(db)

    def attention(self, now: int) -> Attention:
        """What in the ledger may need a person. ``now``: UTC microseconds."""
        with self._open(Role.VIEWER, "overview") as db:
            return ledger_tally.attention(db, now)

    def rule_hits(self, since: int) -> dict[str, int]:
        """How many recipients each rule decided since then (UTC microseconds)."""
        with self._open(Role.VIEWER, "overview") as db:
            return ledger_tally.rule_hits(db, since)

    def version(self) -> int:
        """A number that is another one when anything in the file has changed, or another file was opened; cheap.

        What this desk puts on record changes it too.
        """
        with self._open(Role.VIEWER, "overview") as db:
            return self._openings << 32 | int(db.execute("PRAGMA data_version").fetchone()[0])
