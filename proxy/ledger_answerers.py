"""Who answered for a recipient, as lists name them: one line per mailbox, with the strongest that came from it and its grade.

Called by :mod:`kaifu.proxy.ledger_rows` for the rows of a page, within its read transaction. What counts comes first; then what
might: answers of other addresses that nobody paired, answers below the grade that the rule asks for, and answers under the asked address
that failed authentication, unless the same mailbox said as much in a way that counts. When a message had several recipients, an answer of
another address belongs to none of them until somebody pairs the two: it is named with the message. Fails with sqlite3's errors.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from .ledger import EvidenceKind, Verdict
from .ledger_states import Standing, is_answer, is_stronger, standing_of

MOST_WITHOUT = 100
"""Of what does not count, the earliest of so many mailboxes are named for each recipient: strangers can send any number."""
MOST_ENTRIES = 10_000
"""Among so many entries about a message, the first ones, are answers looked for of which nobody knows for whom they are."""
_AT_ONCE = 500
_QUERY = (
    "SELECT recipient, answerer, counts, verdict, kind, value, grade, min(at), min(by_address) FROM evidence"
    f" WHERE recipient IN ({{}}) AND kind IN ('{EvidenceKind.MDN.value}', '{EvidenceKind.REPLY.value}')"
    f" AND (verdict IN ('{Verdict.MATCHED.value}', '{Verdict.OTHER_ADDRESS.value}')"
    f" OR verdict = '{Verdict.FAILED_AUTHENTICATION.value}'"
    " AND by_key = (SELECT address_key FROM recipients WHERE id = evidence.recipient))"
    " GROUP BY recipient, answerer, counts, verdict, kind, value, grade ORDER BY min(at), answerer"
)

# Word for word which index is used: evidence of no recipient may be most of a ledger's. CROSS JOIN keeps the order, + no index.
_OF_NOBODY = (
    "SELECT m.id, v.entry, v.by_key, v.verdict, v.kind, v.value, v.grade, v.at, v.by_address"
    " FROM messages m CROSS JOIN evidence v ON v.entry IN"
    f" (SELECT id FROM entries WHERE message = m.id ORDER BY id LIMIT {MOST_ENTRIES})"
    f" WHERE m.id IN ({{}}) AND +v.recipient IS NULL AND +v.verdict = '{Verdict.OTHER_ADDRESS.value}'"
    f" AND v.kind IN ('{EvidenceKind.MDN.value}', '{EvidenceKind.REPLY.value}') ORDER BY v.entry"
)


class Answer(NamedTuple):
    """One mailbox. ``at``: UTC microseconds, the earliest of its strongest answer. ``address``: None once it is erased.

    ``own``: it is the mailbox that was asked. ``counts``: it moves the state.
    """

    address: str | None
    own: bool
    kind: str
    value: str
    grade: str
    at: int
    verdict: str
    counts: bool


def answers_of(db: sqlite3.Connection, recipients: Sequence[int]) -> dict[int, tuple[Answer, ...]]:
    """The answers for some recipients, those that count first, each in order of time."""
    found: dict[tuple[int, bool, int], Answer] = {}
    without = Counter[int]()
    for start in range(0, len(recipients), _AT_ONCE):
        some = recipients[start : start + _AT_ONCE]
        rows = db.execute(_QUERY.format(",".join("?" * len(some))), some)
        for recipient, answerer, counts, verdict, kind, value, grade, at, address in rows:
            key = recipient, not counts, answerer
            if key not in found and not counts and without[recipient] >= MOST_WITHOUT:
                continue
            answer = Answer(address, not answerer, kind, value, grade, at, verdict, bool(counts))
            if not is_answer(_standing(answer)):
                continue
            if key not in found:
                without[recipient] += not counts
                found[key] = answer
            elif is_stronger(_standing(answer), _standing(found[key])):
                found[key] = answer
    grouped: dict[int, list[Answer]] = {}
    for (recipient, uncounted, answerer), answer in found.items():
        counted = found.get((recipient, False, answerer))
        if not uncounted or counted is None or is_stronger(_standing(answer), _standing(counted)):
            grouped.setdefault(recipient, []).append(answer)
    return {
        recipient: tuple(sorted(some, key=lambda one: (not one.counts, one.at))) for recipient, some in grouped.items()
    }


def answers_of_nobody(db: sqlite3.Connection, messages: Sequence[int]) -> dict[int, tuple[Answer, ...]]:
    """The answers of other addresses to some messages of which nobody knows for which recipient they are, in order of time."""
    found: dict[int, dict[str | int, Answer]] = {}
    for start in range(0, len(messages), _AT_ONCE):
        some = messages[start : start + _AT_ONCE]
        rows = db.execute(_OF_NOBODY.format(",".join("?" * len(some))), some)
        for message, entry, by, verdict, kind, value, grade, at, address in rows:
            answer = Answer(address, False, kind, value, grade, at, verdict, False)
            mailboxes, mailbox = found.setdefault(message, {}), by or entry
            if not is_answer(_standing(answer)):
                continue
            known = mailboxes.get(mailbox)
            if is_stronger(_standing(answer), _standing(known)) if known else len(mailboxes) < MOST_WITHOUT:
                mailboxes[mailbox] = answer
    return {message: tuple(sorted(some.values(), key=lambda one: one.at)) for message, some in found.items()}


def _standing(answer: Answer) -> Standing:
    return standing_of(answer.kind, answer.value, answer.at, answer.grade)
