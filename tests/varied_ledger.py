"""A ledger of a hundred messages in which everything occurs that lists tell apart, and what a filter means, said once more in Python."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from tests.ledger_values import NOON, YAMADA, journal, receipt, record, store, to

from kaifu.policies.facts import Direction
from kaifu.proxy.ledger import EvidenceKind, Grade, Outcome, Record, RequestState
from kaifu.proxy.ledger_entries import microseconds
from kaifu.proxy.ledger_erasure import erase
from kaifu.proxy.ledger_filter import ATTESTED, Filter, Order, key_ranges
from kaifu.proxy.ledger_keys import search_key
from kaifu.proxy.ledger_people import PeopleJournal
from kaifu.proxy.ledger_rows import Row
from kaifu.proxy.ledger_states import State
from kaifu.proxy.subjectgrams import folded

ADDRESSES = (YAMADA, "SUZUKI@hq.partner.example", "mori@partner.example", "x@partner.example.net", "ueda@example.co.jp")
SENDERS = ("sato@example.co.jp", "kato@sales.example.co.jp", YAMADA, "")
RULES = ("contracts", "partners", "契約 rule", None)
SUBJECTS = (
    "契約書のご確認",
    "Re: 契約更新",
    "ＡＢＣ契約",
    "Contract №5",
    "ｶｲﾌｳ",
    "カイフウ",
    "e\u0301te\u0301",
    "ÉTÉ",
    "👩‍⚖️ 契",
    "",
    None,
)
MINUTES = (0, 0, 1, 5, 5, 60, 24 * 60, 25 * 60)
START = microseconds(NOON)


def fill(path: Path, seed: int, messages: int = 100) -> None:
    """Messages at few different times in any order, their outcomes, answers, notes, and erasures of some."""
    chance = random.Random(seed)
    with store(path) as opened:
        with journal(opened) as writing:
            for number in range(messages):
                message = _message(chance, number)
                outcomes = [(one.address, chance.choice(tuple(Outcome))) for one in message.recipients]
                writing.finish(writing.begin(message), outcomes, "250 ok", START)
            writing.flush()
            (last,) = opened.db.execute("SELECT max(id) FROM recipients").fetchone()
            for number in range(2 * messages):
                _answer(writing, chance, chance.randrange(1, last + 1), number)
        with journal(opened) as writing:
            some = opened.db.execute("SELECT id FROM entries WHERE json_extract(body, '$.kind') = 'message'").fetchall()
            for (entry,) in chance.sample(some, messages // 10):
                erase(writing, [entry], ground="request", actor="root", cells=chance.choice((None, ["ids", "subject"])))


def _message(chance: random.Random, number: int) -> Record:
    several = chance.choice((1, 1, 1, 2, 3))
    people = [
        to(
            address,
            direction=chance.choice(tuple(Direction)),
            request=chance.choice((RequestState.ADDED, RequestState.ADDED, *RequestState)),
            rule=chance.choice(RULES),
        )
        for address in chance.sample(ADDRESSES, several)
    ]
    return record(
        *people,
        key=b"%d" % number,
        at=NOON + timedelta(minutes=chance.choice(MINUTES)),
        kind=chance.choice(("mail", "mail", "mdn", "dsn")),
        sender=chance.choice(SENDERS),
        message_id=f"{number % 70}@example.co.jp",
        subject=chance.choice(SUBJECTS),
    )


def _answer(writing: PeopleJournal, chance: random.Random, recipient: int, number: int) -> None:
    if chance.random() < 0.2:
        writing.attest(recipient, "phone", START, "root", "said so")
        return
    kind, value = chance.choice(
        [(EvidenceKind.MDN, "displayed"), (EvidenceKind.MDN, "denied"), (EvidenceKind.DSN, "delivered"),
         (EvidenceKind.DSN, "expanded"), (EvidenceKind.REPLY, "replied")]
    )  # fmt: skip
    found = receipt(
        recipient,
        value,
        kind=kind,
        grade=chance.choice(tuple(Grade)),
        by=chance.choice(ADDRESSES),
        message_id=f"answer-{number}",
    )
    writing.begin(record(key=b"a%d" % number, evidence=(found,)))


def fits(row: Row, wanted: Filter) -> bool:
    """What :class:`Filter` promises."""
    told = (
        (wanted.states, row.state),
        (wanted.directions, row.direction),
        (wanted.kinds, row.kind),
        (wanted.outcomes, row.outcome),
        (wanted.requests, row.request),
    )
    return (
        (wanted.since is None or row.at >= wanted.since)
        and (wanted.until is None or row.at < wanted.until)
        and (wanted.to is None or _is(row.address, wanted.to))
        and (wanted.sender is None or _is(row.sender, wanted.sender))
        and (wanted.person is None or _is(row.address, wanted.person) or _is(row.sender, wanted.person))
        and (wanted.rule is None or row.rule == wanted.rule)
        and (wanted.message is None or row.message == wanted.message)
        and (wanted.message_id is None or row.message_id == wanted.message_id)
        and all(not words or value in words for words, value in told)
        and (not wanted.grades or any(_graded(row, grade) for grade in wanted.grades))
        and (not wanted.subject or has(row.subject, wanted.subject))
    )


def has(subject: str | None, words: Sequence[str]) -> bool:
    """True when a subject has all these words."""
    return subject is not None and all(folded(word) in folded(subject) for word in words)


def _is(address: str | None, wanted: str) -> bool:
    if not address:
        return False
    ranges = key_ranges(wanted)
    if ranges is None:
        return wanted in address
    key = search_key(address)
    return any(key == each.low if each.high is None else each.low <= key < each.high for each in ranges)


def _graded(row: Row, grade: str) -> bool:
    return row.attested > 0 if grade == ATTESTED else row.standing.grade == grade and not row.is_list


def in_order(rows: Sequence[Row], order: Order) -> list[Row]:
    """What :class:`Order` promises."""

    def key(row: Row) -> tuple[bool, int, str]:
        group = row.place_in(order).group
        rank = list(State).index(State(row.state)) if order is Order.STATE else 0
        return group is None, rank, "" if order is Order.STATE else group or ""

    newest = sorted(rows, key=lambda row: (row.at, row.recipient), reverse=True)
    return newest if order is Order.TIME else sorted(newest, key=key)
