"""What people do at the ledger of an organisation that never was: look, note, pair, consent, hold, erase, hand out, anchor.

For :mod:`tests.bench.ledger_fill`: :class:`Acts` is shown messages as they come, remembers a few, and does something with them later.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from tests.bench.answers import Asked
from tests.bench.organisation import DAY, YEARS_BACK, Weighted, hours

from kaifu.policies.facts import Consent
from kaifu.proxy.ledger import LedgerError
from kaifu.proxy.ledger_erasure import erase, hold, release
from kaifu.proxy.ledger_people import CONFIRMED_BY

if TYPE_CHECKING:
    from tests.bench.ledger_fill import Past

_ADMINS, _AUDITORS = ("sato", "root"), ("suzuki", "takahashi", "yamada")
_REMEMBERED = 400


class Acts:
    """Does so many acts up to a time, in working hours."""

    def __init__(self, journal: Past, chance: random.Random, until: int, total: int) -> None:
        self._journal = journal
        self._chance = chance
        self._known: deque[Asked] = deque(maxlen=_REMEMBERED)
        self._lists: deque[Asked] = deque(maxlen=_REMEMBERED)
        self._due = deque(at for at, number in hours(until, total) for _ in range(number))
        self._end = until
        self._anchor_at = until - YEARS_BACK + DAY
        self._held: list[int] = []
        self._noted: deque[tuple[int, int]] = deque(maxlen=20)
        self._kinds: Weighted[Callable[[Asked], None]] = Weighted(
            (self._list, self._show, self._note, self._revoke, self._pair, self._consent, self._refused, self._bundle,
             self._hold, self._release, self._erase),
            (400, 300, 60, 3, 20, 60, 10, 12, 4, 2, 3),
        )  # fmt: skip

    def consider(self, at: int, asked: Asked) -> None:
        """A message that somebody may look at later."""
        if self._chance.random() < 0.02:
            self._known.append(asked)
        if asked.several and asked.domain is not None:
            self._lists.append(asked)

    def until(self, at: int) -> None:
        """Everything that is due by then."""
        while self._due and self._due[0] <= at:
            self._journal.at = min(self._due.popleft() + self._chance.randrange(3_600_000_000), self._end)
            if self._known:
                self._kinds.draw(self._chance)(self._chance.choice(self._known))
        if at >= self._anchor_at:
            self._anchor_at += 7 * DAY
            self._journal.at = at
            self._anchor()
        self._journal.seal()

    def _auditor(self) -> str:
        return self._chance.choice(_AUDITORS)

    def _admin(self) -> str:
        return self._chance.choice(_ADMINS)

    def _message(self, asked: Asked) -> int:
        row = self._journal.database().execute("SELECT message FROM recipients WHERE id = ?", (asked.recipient,))
        return int(row.fetchone()[0])

    def _list(self, asked: Asked) -> None:
        wanted: dict[str, Any] = self._chance.choice(
            ({}, {"to": asked.recorded.address}, {"states": ["waiting"]}, {"subject": "契約"}, {"person": asked.sender})
        )
        what = self._chance.choice(("list", "list", "list", "audit", "unmatched", "export"))
        cells = {"actor": self._auditor(), **({"filter": wanted} if wanted and what in ("list", "export") else {})}
        self._journal.act("looked", {"what": what}, cells)

    def _show(self, asked: Asked) -> None:
        self._journal.act("looked", {"what": "show"}, {"actor": self._auditor()}, self._message(asked))

    def _note(self, asked: Asked) -> None:
        value = self._chance.choice(CONFIRMED_BY)
        note = self._chance.choice(
            ("電話で確認しました", "会議で本人から聞きました", "confirmed by phone", "FAX で返事あり")
        )
        entry = self._journal.attest(asked.recipient, value, self._journal.at - 3_600_000_000, self._admin(), note)
        self._noted.append((entry, asked.recipient))

    def _revoke(self, _: Asked) -> None:
        if self._noted:
            entry, recipient = self._noted.popleft()
            self._journal.revoke(entry, (recipient,), self._admin())

    def _pair(self, _: Asked) -> None:
        """With somebody who has answered for a list, if there is one by now."""
        asked = self._chance.choice(self._lists) if self._lists else None
        if asked is None:
            return
        query = (
            "SELECT by_address FROM evidence WHERE recipient = ? AND verdict = 'other-address' AND pair IS NULL LIMIT 1"
        )
        found = self._journal.database().execute(query, (asked.recipient,)).fetchone()
        if found is not None:
            try:
                self._journal.pair(asked.recipient, found[0], self._admin(), "本人に確認済み")
            except LedgerError:
                return  # paired already, for another message

    def _consent(self, asked: Asked) -> None:
        value = self._chance.choice((Consent.GRANTED, Consent.GRANTED, Consent.INFORMED, Consent.DENIED))
        self._journal.consent(asked.recorded.address, value, self._admin(), "")

    def _refused(self, _: Asked) -> None:
        self._journal.act("refused", {"what": "receipts list", "needs": "auditor"}, {"actor": "tanaka"})

    def _bundle(self, asked: Asked) -> None:
        body = {"recipients": [asked.recipient], "sha256": sha256(asked.message_id.encode()).hexdigest()}
        cells = {"actor": self._auditor(), "to": "東京地方裁判所", "purpose": "証拠として提出"}
        self._journal.act("handed-out", body, cells, self._message(asked))

    def _hold(self, asked: Asked) -> None:
        self._held.append(hold(self._journal, [self._message(asked)], actor=self._admin(), reason="訴訟ホールド"))

    def _release(self, _: Asked) -> None:
        if self._held:
            release(self._journal, self._held.pop(0), actor=self._admin())

    def _erase(self, asked: Asked) -> None:
        """Somebody asked for it."""
        query = "SELECT id FROM entries WHERE message = ?"
        entries = [number for (number,) in self._journal.database().execute(query, (self._message(asked),))]
        try:
            erase(self._journal, entries, ground="request", actor=self._admin(), text="本人の請求による")
        except LedgerError:
            return  # it is on hold, or erased already

    def _anchor(self) -> None:
        """What was sealed so far is told to others, by the timer."""
        self._journal.seal()
        row = self._journal.database().execute("SELECT max(id) FROM batches").fetchone()
        if row[0] is not None:
            self._journal.act("anchored", {"batch": row[0], "to": ["file", "mail"]}, {"actor": "kaifu"})
