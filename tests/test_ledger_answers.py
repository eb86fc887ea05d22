"""Who answered, and whether it counts: aliases, other addresses, pairings, lists and grades, in the ledger."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.ledger_values import NOON, SUZUKI, YAMADA, journal, receipt, record, store, tables, to

from kaifu.policies.facts import Direction
from kaifu.proxy.ledger import EvidenceKind, Grade, Ledger, LedgerError, RequestState, Verdict
from kaifu.proxy.ledger_answerers import _OF_NOBODY, MOST_WITHOUT
from kaifu.proxy.ledger_apart import TRACE_SECONDS, UNMATCHED_SECONDS, unmatched
from kaifu.proxy.ledger_entries import microseconds
from kaifu.proxy.ledger_erasure import erase
from kaifu.proxy.ledger_file import Store
from kaifu.proxy.ledger_open import open_ledger
from kaifu.proxy.ledger_people import PeopleJournal
from kaifu.proxy.ledger_read import Filter, Row, rows
from kaifu.proxy.ledger_rebuild import rebuild
from kaifu.proxy.ledger_shown import value_of

MEIER, KUDO = "meier@other.example", "kudo@partner.example"
OTHER = Verdict.OTHER_ADDRESS

Write = Callable[[PeopleJournal], object]


def one(path: Path, *writes: Write) -> Row:
    """The recipient of a message after all of that, each in a transaction of its own."""
    with store(path) as opened:
        with journal(opened) as writing:
            writing.begin(record(to(), key=b"k"))
        for write in writes:
            with journal(opened) as writing:
                write(writing)
        before = tables(path)
        rebuild(opened.db)
        assert tables(path) == before
        (row,) = rows(opened.db, Filter())
    return row


def answer(value: str = "displayed", by: str = YAMADA, **changes: Any) -> Write:
    """A receipt, each from another message."""
    id_ = f"{value}.{by}.{sorted(changes.items())}"
    made = receipt(1, value, by=by, message_id=id_, **changes)
    return lambda writing: writing.begin(record(key=b"r", evidence=(made,)))


def pair(other: str, recipient: int = 1) -> Write:
    return lambda writing: writing.pair(recipient, other, "root", "")


def unpair(entry: int, recipient: int = 1) -> Write:
    return lambda writing: writing.unpair(entry, [recipient], "root")


def names(row: Row) -> list[str | None]:
    return [each.address for each in row.answers if each.counts]


def test_a_known_alias_counts_and_is_named(tmp_path: Path) -> None:
    row = one(tmp_path / "l", answer(by=KUDO, alias=True))
    assert (row.state, row.answering, row.is_list, names(row)) == ("displayed", 1, False, [KUDO])


def test_two_mailboxes_that_answer_are_a_list_and_no_confirmation(tmp_path: Path) -> None:
    row = one(tmp_path / "l", answer(), answer(by=KUDO, alias=True))
    assert (row.state, row.answering, row.is_list, names(row)) == ("waiting", 2, True, [YAMADA, KUDO])


def test_one_mailbox_that_answers_twice_is_one_however_it_is_written(tmp_path: Path) -> None:
    spelled = ("kudo@partner.example", "Kudo@PARTNER.example")
    row = one(
        tmp_path / "l", *(answer("displayed", by, alias=True) for by in spelled), answer("deleted", KUDO, alias=True)
    )
    assert (row.state, row.answering, row.is_list) == ("displayed", 1, False)


def test_a_report_that_says_expanded_makes_a_list_of_one_answer(tmp_path: Path) -> None:
    row = one(
        tmp_path / "l", answer(), answer("expanded", kind=EvidenceKind.DSN), answer("delivered", kind=EvidenceKind.DSN)
    )
    assert (row.state, row.answering, row.is_list) == ("delivered", 1, True)
    assert row.standing.transport == "delivered"


def test_another_address_counts_while_it_is_paired_before_and_after(tmp_path: Path) -> None:
    first, second = answer(by=MEIER, verdict=OTHER), answer("deleted", by=MEIER.upper(), verdict=OTHER)
    assert one(tmp_path / "1", first).state == "waiting"
    row = one(tmp_path / "2", first, pair(MEIER), second)
    assert (row.state, row.answering, names(row)) == ("displayed", 1, [MEIER])
    row = one(tmp_path / "3", first, pair(MEIER), second, unpair(3))
    assert (row.state, row.answering, names(row)) == ("waiting", 0, [])
    assert [each.counts for each in row.answers] == [False]
    assert one(tmp_path / "4", first, pair(MEIER), unpair(3), pair(MEIER), second).state == "displayed"
    assert one(tmp_path / "5", second, pair(MEIER), unpair(3), first).state == "waiting"


def test_one_mailbox_is_one_whether_known_as_an_alias_or_by_a_pairing(tmp_path: Path) -> None:
    def nobody_knew_for_whom(writing: PeopleJournal) -> object:
        cites = {"original_message_id": "1@example.co.jp"}
        made = receipt(None, "deleted", by=MEIER, verdict=OTHER, details=cites, message_id="n")
        return writing.begin(record(key=b"r", evidence=(made,)))

    row = one(tmp_path / "l", nobody_knew_for_whom, answer(by=MEIER, alias=True), pair(MEIER))
    assert (row.state, row.answering, [each.counts for each in row.answers]) == ("displayed", 1, [True])


def test_a_pairing_holds_for_every_message_between_the_two_and_for_nobody_else(tmp_path: Path) -> None:
    path = tmp_path / "l"
    with store(path) as opened:
        with journal(opened) as writing:
            for number in range(3):
                writing.begin(record(to(), to(KUDO), key=b"%d" % number, message_id=f"{number}@a"))
        with journal(opened) as writing:
            cites = {"original_message_id": "1@a"}
            for recipient, by, details in (
                (1, MEIER, {}),
                (None, MEIER, cites),
                (2, MEIER, {}),
                (5, "x@y.example", {}),
            ):
                made = receipt(recipient, by=by, verdict=OTHER, details=details, message_id=f"{recipient}")
                writing.begin(record(key=b"e", evidence=(made,)))
            writing.pair(1, MEIER, "root", "")
            made = receipt(None, by=MEIER, verdict=OTHER, details={"original_message_id": "2@a"}, message_id="late")
            writing.begin(record(key=b"e", evidence=(made,)))
        found = {row.recipient: row.state for row in rows(opened.db, Filter())}
        before = tables(path)
        rebuild(opened.db)
        assert tables(path) == before
    assert found == {1: "displayed", 2: "waiting", 3: "displayed", 4: "waiting", 5: "displayed", 6: "waiting"}


def test_below_the_grade_that_the_rule_asks_for_an_answer_is_kept_and_moves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "l"
    delivered = receipt(1, "delivered", kind=EvidenceKind.DSN)
    other = receipt(1, by=MEIER, verdict=OTHER, message_id="2")
    proven = receipt(1, "denied", grade=Grade.AUTHENTICATED, message_id="3")
    states = []
    with store(path) as opened:
        for some in (
            record(to(confirm=Grade.AUTHENTICATED), key=b"k"),
            record(key=b"e", evidence=(receipt(1), delivered, other)),
            record(key=b"e", evidence=(proven,)),
        ):
            with journal(opened) as writing:
                writing.begin(some)
            (row,) = rows(opened.db, Filter())
            states.append((row.state, row.standing.grade, row.answering))
        with journal(opened) as writing:
            writing.pair(1, MEIER, "root", "")
        (row,) = rows(opened.db, Filter())
    assert states == [("waiting", None, 0), ("delivered", None, 0), ("denied", "authenticated", 1)]
    assert (row.confirm, row.state, row.answering) == ("authenticated", "denied", 1)
    assert sorted((each.value, each.grade, each.counts) for each in row.answers) == [
        ("denied", "authenticated", True), ("displayed", "claimed", False), ("displayed", "claimed", False),
    ]  # fmt: skip


def test_a_further_attempt_under_another_rule_judges_what_came_anew(tmp_path: Path) -> None:
    with store(tmp_path / "l") as opened:
        for some in (
            record(to(confirm=Grade.AUTHENTICATED), key=b"k"),
            record(key=b"e", evidence=(receipt(1),)),
            record(to(), key=b"k"),
        ):
            with journal(opened) as writing:
                writing.begin(some)
        (row,) = rows(opened.db, Filter())
        before = tables(tmp_path / "l")
        rebuild(opened.db)
        assert tables(tmp_path / "l") == before
    assert (row.state, row.confirm, row.answering) == ("displayed", None, 1)


NONSENSE: list[tuple[Sequence[Write], str]] = [
    ((pair(YAMADA.upper()),), "is the recipient itself"),
    ((pair(MEIER, 9),), "the ledger has no recipient 9"),
    ((pair(MEIER), pair(MEIER)), f"{MEIER} was paired with {YAMADA} already, by entry 2"),
    ((unpair(1),), "entry 1 pairs nobody with this recipient"),
    ((pair(MEIER), unpair(2, 7)), "entry 2 pairs nobody with this recipient"),
    ((pair(MEIER), unpair(2), unpair(2)), "entry 2 was revoked already, by entry 3"),
]


@pytest.mark.parametrize(("writes", "said"), NONSENSE, ids=[said for _, said in NONSENSE])
def test_a_pairing_that_makes_no_sense_is_refused(tmp_path: Path, writes: Sequence[Write], said: str) -> None:
    with pytest.raises(LedgerError, match=said):
        one(tmp_path / "l", *writes)


# Any order.

facts = st.lists(
    st.tuples(
        st.sampled_from(("displayed", "displayed", "deleted", "dispatched", "delivered", "expanded", "reply")),
        st.sampled_from((MEIER, MEIER, YAMADA, KUDO, "mallory@x.example")),
        st.sampled_from(Grade),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=5,
)
VERDICTS = {MEIER: OTHER, YAMADA: Verdict.MATCHED, KUDO: Verdict.MATCHED}


@st.composite
def orders(draw: st.DrawFn) -> tuple[list[Any], list[Any]]:
    """The same facts twice, some of them repeated: evidence in any order, and what people said and took back anywhere between."""
    some = draw(facts)
    told = ["pair", "unpair"] * 3
    told, noted = told[: draw(st.integers(0, 5))], ["note", "take back"][: draw(st.integers(0, 2))]
    made = []
    for _ in range(2):
        again = draw(st.lists(st.sampled_from(some), max_size=2))
        steps: list[Any] = draw(st.permutations(some + again))
        for said in (told, noted):
            places = sorted(draw(st.lists(st.integers(0, len(steps)), min_size=len(said), max_size=len(said))))
            for place, word in reversed(list(zip(places, said, strict=True))):
                steps.insert(place, word)
        made.append(steps)
    return made[0], made[1]


class Play:
    """Lets such a history happen to a message with one recipient. ``entries``: the last pairing and the last note."""

    def __init__(self, opened: Store, confirm: Grade) -> None:
        self.opened = opened
        self.entries = {"pair": 0, "note": 0}
        with journal(opened) as writing:
            writing.begin(record(to(confirm=confirm), key=b"k"))

    def on(self, steps: list[Any]) -> None:
        for step in steps:
            with journal(self.opened) as writing:
                self._step(writing, step)

    def _step(self, writing: PeopleJournal, step: Any) -> None:
        match step:
            case "pair":
                self.entries["pair"] = writing.pair(1, MEIER, "root", "")
            case "unpair":
                writing.unpair(self.entries["pair"], [1], "root")
            case "note":
                self.entries["note"] = writing.attest(1, "phone", 5, "root", "")
            case "take back":
                writing.revoke(self.entries["note"], [1], "root")
            case value, by, grade, minutes:
                kind = EvidenceKind.DSN if value in ("delivered", "expanded") else EvidenceKind.MDN
                kind = EvidenceKind.REPLY if value == "reply" else kind
                found = receipt(
                    1, value, kind=kind, verdict=VERDICTS.get(by, Verdict.FAILED_AUTHENTICATION), grade=grade,
                    by=by, alias=by == KUDO, message_id=f"{step}",
                )  # fmt: skip
                writing.begin(record(key=b"r", minutes=minutes, evidence=(found,)))

    def recipient(self) -> tuple[Any, ...]:
        """All that is derived of the recipient; a rebuild derives the same."""
        derived = tables(self.opened.path)
        rebuild(self.opened.db)
        assert tables(self.opened.path) == derived
        return derived["recipients"][0]


@settings(max_examples=settings().max_examples * 40 // 100)
@given(orders(), st.sampled_from(Grade))
def test_any_order_and_any_repetition_gives_the_same_row_whatever_people_say_between(
    tmp_path_factory: pytest.TempPathFactory, told: tuple[list[Any], list[Any]], confirm: Grade
) -> None:
    folder, found = tmp_path_factory.mktemp("ledger"), []
    for number, steps in enumerate(told):
        with store(folder / str(number)) as opened:
            playing = Play(opened, confirm)
            playing.on(steps)
            found.append(playing.recipient())
    assert found[0] == found[1]


@settings(max_examples=settings().max_examples * 20 // 100)
@given(orders(), st.integers(0, 9), st.randoms(use_true_random=False))
def test_erasing_who_answered_changes_no_state_and_things_go_on(
    tmp_path_factory: pytest.TempPathFactory, told: tuple[list[Any], list[Any]], after: int, choose: Any
) -> None:
    with store(tmp_path_factory.mktemp("ledger") / "l") as opened:
        playing = Play(opened, Grade.CLAIMED)
        playing.on(told[0][:after])
        before = playing.recipient()
        last = opened.db.execute("SELECT entry FROM head").fetchone()[0]
        # All but the message itself: nobody can be paired with an address that is gone.
        if gone := [number for number in range(2, last + 1) if choose.random() < 0.7]:
            with journal(opened) as writing:
                erase(writing, gone, ground="request", actor="root")
        assert playing.recipient() == before
        playing.on(told[0][after:])
        playing.recipient()


# Answers of other addresses to messages with several recipients.

told_of_nobody = st.lists(
    st.tuples(
        st.sampled_from((1, 2)),
        st.sampled_from((EvidenceKind.MDN, EvidenceKind.MDN, EvidenceKind.REPLY, EvidenceKind.DSN)),
        st.sampled_from(("dispatched", "deleted", "displayed", "delivered")),
        st.sampled_from((MEIER, "Meier@OTHER.example", KUDO, "mallory@x.example")),
        st.sampled_from((OTHER, OTHER, OTHER, Verdict.WRONG_RECIPIENT)),
        st.booleans(),
    ),
    max_size=6,
)


@settings(max_examples=settings().max_examples * 20 // 100)
@given(told=told_of_nobody, paired=st.booleans())
@example(
    told=[
        (1, EvidenceKind.MDN, "deleted", MEIER, OTHER, False),
        (1, EvidenceKind.MDN, "displayed", "Meier@OTHER.example", OTHER, False),
    ],
    paired=False,
)
def test_what_another_address_answers_a_message_to_several_is_told_in_all_of_its_rows_until_somebody_pairs_it(
    tmp_path_factory: pytest.TempPathFactory, told: list[Any], paired: bool
) -> None:
    path = tmp_path_factory.mktemp("ledger") / "l"
    expected: dict[int, dict[object, list[str]]] = {1: {}, 2: {}}
    with store(path) as opened:
        with journal(opened) as writing:
            for number in (1, 2):
                writing.begin(record(to(), to(SUZUKI), key=b"%d" % number, message_id=f"{number}@a"))
            for place, (message, kind, value, by, verdict, erased) in enumerate(told):
                found = receipt(
                    None, value, kind=kind, by=by, verdict=verdict, message_id=f"e{place}",
                    details={"original_message_id": f"{message}@a"},
                )  # fmt: skip
                writing.begin(record(key=b"e%d" % place, evidence=(found,)))
                answers = kind is EvidenceKind.REPLY or (kind is EvidenceKind.MDN and value in ("deleted", "displayed"))
                if verdict is OTHER and answers:
                    word = "replied" if kind is EvidenceKind.REPLY else value
                    expected[message].setdefault(place if erased else by.lower(), []).append(word)
        entries = [entry for (entry,) in opened.db.execute("SELECT entry FROM evidence ORDER BY entry")]
        if gone := [entry for entry, (*_, erased) in zip(entries, told, strict=True) if erased]:
            with journal(opened) as writing:
                erase(writing, gone, ground="request", actor="root")
        meant = [message for message, some in expected.items() if MEIER in some]
        if paired and meant:
            with journal(opened) as writing:
                writing.pair(2 * meant[0], MEIER, "root", "")
            for some in expected.values():
                some.pop(MEIER, None)
        found_rows = list(rows(opened.db, Filter()))
    strength = ("deleted", "displayed", "replied")
    for row in found_rows:
        mailboxes = sorted(max(words, key=strength.index) for words in expected[row.message].values())
        assert sorted(value_of(each) for each in row.recipient_unknown) == mailboxes
        assert not any(each.counts or each.own for each in row.recipient_unknown)


def test_of_however_many_strangers_the_first_are_named(tmp_path: Path) -> None:
    with store(tmp_path / "l") as opened:
        with journal(opened) as writing:
            writing.begin(record(to(), to(SUZUKI), key=b"1", message_id="1@a"))
            for number in range(MOST_WITHOUT + 20):
                stranger = receipt(
                    None, by=f"x{number}@x.example", verdict=OTHER, message_id=f"x{number}",
                    details={"original_message_id": "1@a"},
                )  # fmt: skip
                writing.begin(record(key=b"x%d" % number, evidence=(stranger,)))
        first, second = rows(opened.db, Filter())
    assert first.recipient_unknown == second.recipient_unknown
    assert [one.address for one in first.recipient_unknown] == [
        f"x{number}@x.example" for number in range(MOST_WITHOUT)
    ]


def test_answers_of_nobody_are_found_by_the_entries_of_the_messages_alone(tmp_path: Path) -> None:
    with store(tmp_path / "l") as opened:
        plan = opened.db.execute(f"EXPLAIN QUERY PLAN {_OF_NOBODY.format('?,?')}", (1, 2)).fetchall()
    told = [step[3] for step in plan]
    assert any("SEARCH entries USING COVERING INDEX entries_message (message=?)" in each for each in told), told
    assert any("SEARCH v USING INTEGER PRIMARY KEY" in each for each in told), told
    assert not any("SCAN" in each for each in told), told


# What matches nothing, and what answers mail that left no record.

NOWHERE = {"original_message_id": "nowhere@example.co.jp"}
SECOND = microseconds(NOON) // 1_000_000


def apart(path: Path, second: int = SECOND) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as db:
        return [(found.verdict, found.value, found.cited, found.carrier) for found in unmatched(db, second)]


def test_evidence_that_matches_nothing_is_no_entry_and_goes_after_two_weeks(tmp_path: Path) -> None:
    path = tmp_path / "l"
    strange = receipt(None, "x" * 900, details=NOWHERE, raw=b"secret", message_id="b")
    delivered = to("sato@example.co.jp", direction=Direction.INBOUND, request=RequestState.NONE)
    with store(path) as opened:
        with journal(opened) as writing:
            for _ in range(2):
                writing.begin(record(delivered, key=b"m", kind="mdn", evidence=(receipt(None), strange)))
        assert apart(path) == [
            ("unknown-message", "x" * 500, "nowhere@example.co.jp", 1),
            ("unknown-message", "displayed", None, 1),
        ]
        assert tables(path, ("evidence",))["evidence"] == []
        held = b"".join(repr(row).encode() for row in tables(path, ("unmatched",))["unmatched"])
        assert b"secret" not in held
        assert "契約".encode() not in held
        assert apart(path, SECOND + UNMATCHED_SECONDS - 1) != []
        assert apart(path, SECOND + UNMATCHED_SECONDS) == []
        with journal(opened) as writing:
            later = receipt(None, message_id="c")
            writing.begin(record(key=b"n", minutes=14 * 24 * 60, evidence=(later,)))
        assert [row[1] for row in tables(path, ("unmatched",))["unmatched"]] == [
            microseconds(NOON) + UNMATCHED_SECONDS * 1_000_000
        ]


def test_what_has_expired_is_deleted_by_the_next_writer_whatever_he_writes(tmp_path: Path) -> None:
    path = tmp_path / "l"
    with store(path) as opened:
        with journal(opened) as writing:
            writing.begin(record(key=b"m", minutes=-60 * 24 * 365, evidence=(receipt(None),)))
            writing.leave_traces({"old@example.co.jp": microseconds(NOON) - 365 * 86400 * 1_000_000})
        with journal(opened) as writing:
            writing.begin(record(to(), key=b"k"))
    assert tables(path, ("unmatched", "traces")) == {"unmatched": [], "traces": []}


def counted(path: Path) -> dict[tuple[str, str], int]:
    return {(row[1], row[2]): row[3] for row in tables(path, ("counts",))["counts"]}


@pytest.mark.parametrize("kind", ["mdn", "dsn"])
def test_what_answers_unrecorded_mail_is_only_counted(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "l"
    delivered = to("sato@example.co.jp", direction=Direction.INBOUND, request=RequestState.NONE)
    late = receipt(None, details=NOWHERE, kind=EvidenceKind(kind))
    with store(path) as opened, journal(opened) as writing:
        writing.leave_traces({"nowhere@example.co.jp": microseconds(NOON)})
        begun = writing.begin(record(delivered, key=b"m", kind=kind, evidence=(late,)))
        assert begun.message is None
    found = tables(path, ("entries", "cells", "unmatched", "messages"))
    assert not any(found.values())
    assert counted(path) == {("inbound", f"late-{kind}"): 1}
    held = repr(tables(path, ("traces",)))
    assert "nowhere" not in held


def test_of_a_withheld_receipt_for_unrecorded_mail_only_that_it_was_withheld_is_on_record(tmp_path: Path) -> None:
    path = tmp_path / "l"
    withheld = to("sato@example.co.jp", direction=Direction.INBOUND, request=RequestState.NONE, withheld=True)
    with store(path) as opened, journal(opened) as writing:
        writing.leave_traces({"nowhere@example.co.jp": microseconds(NOON)})
        late = receipt(None, details=NOWHERE)
        assert writing.begin(record(withheld, key=b"m", kind="mdn", evidence=(late,))).message == 1
    (row,) = tables(path, ("messages",))["messages"]
    assert "契約書のご確認" not in row
    assert tables(path, ("evidence", "unmatched")) == {"evidence": [], "unmatched": []}


def test_mail_that_is_on_record_is_never_late(tmp_path: Path) -> None:
    path = tmp_path / "l"
    with store(path) as opened, journal(opened) as writing:
        writing.leave_traces({"1@example.co.jp": microseconds(NOON)})
        writing.begin(record(to(), key=b"k"))
        cites = {"original_message_id": "1@example.co.jp"}
        writing.begin(record(key=b"m", evidence=(receipt(1), receipt(None, verdict=OTHER, details=cites))))
    assert len(tables(path)["evidence"]) == 2
    assert counted(path) == {}


def test_a_trace_ends_after_ninety_days(tmp_path: Path) -> None:
    path = tmp_path / "l"
    late = receipt(None, details=NOWHERE)
    with store(path) as opened, journal(opened) as writing:
        writing.leave_traces({"nowhere@example.co.jp": microseconds(NOON)})
        for minutes in (TRACE_SECONDS // 60 - 1, TRACE_SECONDS // 60):
            writing.begin(record(key=b"m%d" % minutes, minutes=minutes, evidence=(late,)))
    assert counted(path) == {("inbound", "late-mdn"): 1}
    assert len(tables(path, ("unmatched",))["unmatched"]) == 1


def test_two_ledgers_leave_different_traces_of_the_same_message(tmp_path: Path) -> None:
    found = []
    for name in ("one", "other"):
        with store(tmp_path / name) as opened, journal(opened) as writing:
            writing.leave_traces({"nowhere@example.co.jp": microseconds(NOON)})
        found.append(tables(tmp_path / name, ("traces",))["traces"][0][0])
    assert found[0] != found[1]
    assert {len(digest) for digest in found} == {16}


def test_hosts_leave_traces_without_waiting(tmp_path: Path) -> None:
    path = tmp_path / "l"

    async def relay() -> None:
        ledger: Ledger = open_ledger(f"sqlite:///{path}")
        ledger.leave_trace("1@example.co.jp")
        for _ in range(2):
            ledger.leave_trace("\udcff@example.co.jp")
        await ledger.close()

    asyncio.run(relay())
    assert len(tables(path, ("traces",))["traces"]) == 2
