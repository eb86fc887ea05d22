"""What every ledger does for its hosts, whatever it is kept in."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from tests.ledger_values import NOON, SUZUKI, YAMADA, journal, receipt, record, store, tables, to

from kaifu.policies.facts import AskedBy, Consent, Direction
from kaifu.proxy.ledger import Begun, EvidenceKind, Ledger, LedgerError, Outcome, Query, RequestState, Served, Verdict
from kaifu.proxy.ledger_file import Store
from kaifu.proxy.ledger_journal import SERVED_SECONDS, Journal
from kaifu.proxy.ledger_open import open_ledger
from kaifu.proxy.ledger_people import writing
from kaifu.proxy.ledger_read import Filter, Row, rows
from kaifu.proxy.ledger_rebuild import rebuild

ACCEPTED, REFUSED, DEFERRED, WITHHELD = Outcome.ACCEPTED, Outcome.REFUSED, Outcome.DEFERRED, Outcome.WITHHELD


@dataclass(frozen=True)
class Kept:
    """A ledger and where it is kept."""

    path: Path

    def use(self, work: Callable[[Ledger], Awaitable[Any]]) -> Any:
        """Do something with the ledger, then close it."""

        async def session() -> Any:
            ledger = open_ledger(f"sqlite:///{self.path}")
            try:
                return await work(ledger)
            finally:
                await ledger.close()

        return asyncio.run(session())

    def rows(self) -> list[Row]:
        """Everything in it, oldest first."""
        with closing(sqlite3.connect(self.path, isolation_level=None)) as db:
            return list(rows(db, Filter(), newest_first=False))

    def one(self, address: str = YAMADA) -> Row:
        """The only row with that recipient."""
        (found,) = (row for row in self.rows() if row.address == address)
        return found


@pytest.fixture(params=["sqlite"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Kept:
    """One ledger of each kind that there is."""
    return Kept(tmp_path / "ledger.db")


def test_what_begin_has_returned_is_found_at_once(kept: Kept) -> None:
    async def work(ledger: Ledger) -> None:
        begun = await ledger.begin(
            record(to(), to(SUZUKI, request=RequestState.KEPT, asked_by=AskedBy.CLIENT), key=b"k")
        )
        known = await ledger.look(Query(message_ids=("1@example.co.jp", "unknown@example.co.jp")))
        assert list(known.originals) == ["1@example.co.jp"]
        (original,) = known.originals["1@example.co.jp"]
        assert (original.message, original.sender, original.sent_at) == (begun.message, "sato@example.co.jp", NOON)
        assert [(r.address, r.request, r.asked_by) for r in original.recipients] == [
            (YAMADA, RequestState.ADDED, AskedBy.POLICY),
            (SUZUKI, RequestState.KEPT, AskedBy.CLIENT),
        ]

    kept.use(work)


def test_message_ids_are_compared_exactly_and_a_reused_one_gives_all_newest_first(kept: Kept) -> None:
    async def work(ledger: Ledger) -> None:
        first = await ledger.begin(record(to(), key=b"1"))
        second = await ledger.begin(record(to(), key=b"2"))
        known = await ledger.look(Query(message_ids=("1@example.co.jp", "1@EXAMPLE.co.jp")))
        assert list(known.originals) == ["1@example.co.jp"]
        assert [o.message for o in known.originals["1@example.co.jp"]] == [second.message, first.message]

    kept.use(work)


def test_delivery_reports_find_their_message_by_its_envelope_id(kept: Kept) -> None:
    async def work(ledger: Ledger) -> None:
        begun = await ledger.begin(record(to(report_asked_by=AskedBy.POLICY), key=b"1", envid="QQ+314159"))
        known = await ledger.look(Query(envids=("QQ+314159", "qq+314159")))
        assert [(o.message, o.envid) for o in known.by_envid["QQ+314159"]] == [(begun.message, "QQ+314159")]
        assert "qq+314159" not in known.by_envid
        assert known.by_envid["QQ+314159"][0].recipients[0].report_asked_by is AskedBy.POLICY

    kept.use(work)


def test_a_message_without_id_gets_a_random_one_and_its_retry_the_same(kept: Kept) -> None:
    async def work(ledger: Ledger) -> list[Begun]:
        nameless = record(to(), key=b"1", message_id=None, mint_host="mx.example.co.jp")
        return [
            await ledger.begin(nameless),
            await ledger.begin(nameless),
            await ledger.begin(replace(nameless, attempt_key=b"2")),
        ]

    first, again, other = kept.use(work)
    assert first.message_id.endswith("@mx.example.co.jp")
    assert len(first.message_id) > 40
    assert (again.message, again.message_id, again.repeated) == (first.message, first.message_id, True)
    assert other.message_id != first.message_id
    assert [row.message_id for row in kept.rows()] == [first.message_id, other.message_id]


@pytest.mark.parametrize(
    "outcomes", [(), ((YAMADA, DEFERRED),), ((YAMADA, REFUSED),), ((YAMADA, ACCEPTED), (SUZUKI, DEFERRED))]
)
def test_a_retry_of_what_was_not_answered_with_250_continues_its_row(
    kept: Kept, outcomes: tuple[tuple[str, Outcome], ...]
) -> None:
    async def work(ledger: Ledger) -> tuple[Begun, Begun]:
        message = record(to(), to(SUZUKI), key=b"1")
        first = await ledger.begin(message)
        if outcomes:
            await ledger.finish(first, outcomes, "451 later")
        second = await ledger.begin(message)
        await ledger.finish(second, [(YAMADA, ACCEPTED), (SUZUKI, ACCEPTED)], "250 ok")
        return first, second

    first, second = kept.use(work)
    assert (second.message, second.repeated) == (first.message, True)
    assert [(row.address, row.outcome, row.state) for row in kept.rows()] == [
        (YAMADA, "accepted", "waiting"),
        (SUZUKI, "accepted", "waiting"),
    ]


def test_who_has_the_message_although_the_client_was_told_to_try_again_keeps_one_row(kept: Kept) -> None:
    async def work(ledger: Ledger) -> Begun:
        first = await ledger.begin(record(to(), key=b"1"))
        await ledger.finish(first, [(YAMADA, ACCEPTED)], "451 later for somebody unrecorded", answered=False)
        return await ledger.begin(record(to(request=RequestState.STRIPPED), key=b"1"))

    assert kept.use(work).repeated
    assert [(row.outcome, row.request) for row in kept.rows()] == [("accepted", "added")]


def test_the_same_message_sent_again_after_250_is_another_message(kept: Kept) -> None:
    async def work(ledger: Ledger) -> tuple[Begun, Begun]:
        first = await ledger.begin(record(to(), key=b"1"))
        await ledger.finish(first, [(YAMADA, ACCEPTED)], "250 ok")
        return first, await ledger.begin(record(to(), key=b"1"))

    first, second = kept.use(work)
    assert not second.repeated
    assert second.message != first.message
    assert [row.outcome for row in kept.rows()] == ["accepted", "unknown"]


def test_an_attempt_that_nobody_repeats_for_a_week_is_over(kept: Kept) -> None:
    async def work(ledger: Ledger) -> list[bool]:
        await ledger.begin(record(to(), key=b"1"))
        days = [record(to(), key=b"1", minutes=minutes) for minutes in (7 * 1440, 7 * 1440 + 1, 7 * 1440 + 2)]
        return [(await ledger.begin(one)).repeated for one in days]

    assert kept.use(work) == [True, False, True]


def test_attempts_that_are_over_take_no_space(kept: Kept) -> None:
    with store(kept.path) as opened:
        for minutes, numbers in ((0, range(300)), (8 * 1440, range(300, 700))):
            with journal(opened) as writing:
                for number in numbers:
                    writing.begin(record(to(), key=b"%d" % number, minutes=minutes))
        before = tables(kept.path)
        assert len(before["attempts"]) == 400
        rebuild(opened.db)
        assert tables(kept.path) == before


@pytest.mark.parametrize("announced", [(), (b"1",), (b"0", b"1")])
def test_attempts_are_told_apart_within_one_transaction_too(kept: Kept, announced: tuple[bytes, ...]) -> None:
    with store(kept.path) as opened:
        writing = Journal(opened.db)
        writing.start(announced)
        begun = [writing.begin(record(to(), key=b"1")) for _ in range(2)]
        writing.finish(begun[0], [(YAMADA, ACCEPTED)], "250 ok", 0)
        begun += [writing.begin(record(to(), key=b"1")) for _ in range(2)]
        writing.commit()
    assert [(one.message, one.repeated) for one in begun] == [(1, False), (1, True), (2, False), (2, True)]


def test_a_retry_says_what_was_decided_this_time_for_those_not_served_yet(kept: Kept) -> None:
    async def work(ledger: Ledger) -> None:
        first = await ledger.begin(record(to(), to(SUZUKI), key=b"1"))
        await ledger.finish(first, [(YAMADA, ACCEPTED), (SUZUKI, DEFERRED)], "451 later")
        changed = {"request": RequestState.STRIPPED, "rule": "new", "reason": "The new rule strips."}
        await ledger.begin(record(to(**changed), to(SUZUKI, **changed), key=b"1"))

    kept.use(work)
    assert [(r.address, r.request, r.rule, r.reason, r.outcome) for r in kept.rows()] == [
        (YAMADA, "added", "partners", "Rule partners asks.", "accepted"),
        (SUZUKI, "stripped", "new", "The new rule strips.", "unknown"),
    ]


def test_a_retry_that_records_other_recipients_adds_them_to_the_message(kept: Kept) -> None:
    async def work(ledger: Ledger) -> None:
        await ledger.begin(record(to(), key=b"1"))
        second = await ledger.begin(record(to(SUZUKI), key=b"1", minutes=5))
        await ledger.finish(second, [(YAMADA, ACCEPTED), (SUZUKI, ACCEPTED)], "250 ok")

    kept.use(work)
    assert [(row.message, row.address, row.outcome) for row in kept.rows()] == [
        (1, YAMADA, "accepted"),
        (1, SUZUKI, "accepted"),
    ]
    assert len({row.at for row in kept.rows()}) == 1


def test_a_receipt_is_withheld_as_soon_as_it_is_on_record_and_answered_with_its_outcome(kept: Kept) -> None:
    async def work(ledger: Ledger) -> list[bool]:
        withheld = record(to(withheld=True), key=b"1", kind="mdn")
        first = await ledger.begin(withheld)
        assert kept.one().outcome == "withheld"
        await ledger.finish(first, [(YAMADA, DEFERRED)], "451 later")
        assert kept.one().outcome == "deferred"
        second = await ledger.begin(withheld)
        await ledger.finish(second, [(YAMADA, WITHHELD)], "250 ok")
        assert kept.one().outcome == "withheld"
        return [second.repeated, (await ledger.begin(withheld)).repeated]

    assert kept.use(work) == [True, False]


def test_outcomes_for_addresses_that_are_not_on_record_are_passed_over(kept: Kept) -> None:
    async def work(ledger: Ledger) -> None:
        begun = await ledger.begin(record(to(), key=b"1"))
        await ledger.finish(begun, [("unrecorded@x.example", REFUSED), (YAMADA, ACCEPTED)], "250 ok")
        await ledger.finish(Begun(None, None), [(YAMADA, REFUSED)], "550 no")
        with pytest.raises(LedgerError, match="no message 99"):
            await ledger.finish(Begun(99, "x"), [(YAMADA, ACCEPTED)], "250 ok")

    kept.use(work)
    assert kept.one().outcome == "accepted"


@pytest.mark.parametrize(
    ("told", "outcome", "state"),
    [
        ((ACCEPTED, DEFERRED), "accepted", "waiting"),
        ((ACCEPTED, REFUSED), "accepted", "waiting"),
        ((REFUSED, ACCEPTED), "accepted", "waiting"),
        ((DEFERRED, REFUSED), "refused", "failed"),
        ((REFUSED, DEFERRED), "deferred", "waiting"),
    ],
)
@pytest.mark.parametrize("together", [True, False])
def test_of_several_outcomes_the_last_holds_but_who_has_the_message_has_it(
    kept: Kept, told: tuple[Outcome, ...], outcome: str, state: str, together: bool
) -> None:
    async def work(ledger: Ledger) -> None:
        begun = await ledger.begin(record(to(), key=b"1"))
        finished = [ledger.finish(begun, [(YAMADA, one)], "reply") for one in told] if together else []
        await asyncio.gather(*finished)
        for one in told if not together else ():
            await ledger.finish(begun, [(YAMADA, one)], "reply")

    kept.use(work)
    assert (kept.one().outcome, kept.one().state) == (outcome, state)


def test_an_address_that_was_given_twice_has_two_rows_and_two_outcomes(kept: Kept) -> None:
    async def work(ledger: Ledger) -> None:
        begun = await ledger.begin(record(to(), to(), key=b"1"))
        await ledger.finish(begun, [(YAMADA, ACCEPTED), (YAMADA, REFUSED)], "250 ok")

    kept.use(work)
    assert [row.outcome for row in kept.rows()] == ["accepted", "refused"]


def test_a_message_that_never_learned_its_outcome_says_unknown(kept: Kept) -> None:
    kept.use(lambda ledger: ledger.begin(record(to(), key=b"1")))
    assert kept.one().outcome == "unknown"


def test_evidence_is_counted_once_however_often_it_comes(kept: Kept) -> None:
    async def work(ledger: Ledger) -> None:
        await ledger.begin(record(to(), key=b"1"))
        for minutes in (1, 2):
            answer = record(key=b"r%d" % minutes, minutes=minutes, evidence=(receipt(1),))
            assert (await ledger.begin(answer)).message is None

    kept.use(work)
    row = kept.one()
    assert (row.state, row.standing.handling) == ("displayed", "displayed")
    assert row.standing.displayed_at == row.at + 60_000_000
    assert [(r[3], r[4], r[6]) for r in tables(kept.path)["evidence"]] == [
        ("mdn", "matched", 0),
        ("mdn", "matched", 1),
    ]


def test_the_retry_of_a_receipt_adds_no_evidence(kept: Kept) -> None:
    async def work(ledger: Ledger) -> None:
        await ledger.begin(record(to(), key=b"1"))
        carried = record(to("sato@example.co.jp", withheld=True), key=b"r", kind="mdn", evidence=(receipt(1),))
        first, second = await ledger.begin(carried), await ledger.begin(carried)
        assert (second.message, second.repeated) == (first.message, True)

    kept.use(work)
    assert len(tables(kept.path)["evidence"]) == 1


def test_two_reports_without_message_id_are_two_but_a_retry_of_one_is_the_same(kept: Kept) -> None:
    async def work(ledger: Ledger) -> None:
        await ledger.begin(record(to(), key=b"1"))
        for key in (b"r1", b"r2", b"r2"):
            await ledger.begin(record(key=key, evidence=(receipt(1, message_id=None),)))

    kept.use(work)
    assert [row[6] for row in tables(kept.path)["evidence"]] == [0, 0, 1]


def test_evidence_that_fits_nothing_is_kept_apart(kept: Kept) -> None:
    async def work(ledger: Ledger) -> None:
        await ledger.begin(record(to(), key=b"1"))
        stranger = receipt(None, verdict=Verdict.WRONG_RECIPIENT, details={"original_message_id": "1@example.co.jp"})
        gone = receipt(77, message_id="r2")
        await ledger.begin(record(key=b"r", evidence=(receipt(None), stranger, gone)))

    kept.use(work)
    assert kept.one().state == "waiting"
    found = tables(kept.path, ("evidence", "entries", "unmatched"))
    # What cites a message of ours stands with that message all the same.
    assert [(row[1], row[4]) for row in found["evidence"]] == [(None, "wrong-recipient")]
    assert [row[1] for row in found["entries"]] == [1, 1]
    assert [(row[3], row[8]) for row in found["unmatched"]] == [
        ("unknown-message", "r1@partner.example"),
        ("unknown-message", "r2"),
    ]


def test_every_kind_of_evidence_finds_its_column(kept: Kept) -> None:
    async def work(ledger: Ledger) -> None:
        await ledger.begin(record(to(), key=b"1"))
        for number, (kind, value) in enumerate(
            [(EvidenceKind.DSN, "relayed"), (EvidenceKind.DSN, "delivered"), (EvidenceKind.MDN, "displayed"),
             (EvidenceKind.REPLY, "reply"), (EvidenceKind.AUTO_REPLY, "auto-reply")]
        ):  # fmt: skip
            found = receipt(1, value, kind=kind, message_id=f"r{number}")
            await ledger.begin(record(key=b"r%d" % number, minutes=number, evidence=(found,)))

    kept.use(work)
    row = kept.one()
    assert (row.state, row.standing.transport, row.standing.handling) == ("replied", "delivered", "replied")
    minutes = [None if at is None else (at - row.at) // 60_000_000 for at in row.standing[4:]]
    assert minutes == [None, 1, 2, 3]


def test_consent_is_what_was_said_last_and_unsaid_is_not_there(kept: Kept) -> None:
    kept.use(lambda ledger: ledger.check())
    for said, note in ((Consent.GRANTED, "by phone"), (Consent.DENIED, "")):
        with writing(kept.path) as journal:
            journal.consent(YAMADA, said, "root", note)
    known = kept.use(lambda ledger: ledger.look(Query(consent_of=(YAMADA, SUZUKI))))
    assert known.consent == {YAMADA: Consent.DENIED}


def test_a_partial_success_is_remembered_until_it_is_dropped(kept: Kept) -> None:
    part = Served(b"retry", b"body", frozenset({b"<a@x.example>", b"<b@x.example>"}))
    other = Served(b"retry", b"other body", frozenset({b"<c@x.example>"}))

    async def work(ledger: Ledger) -> None:
        begun = await ledger.begin(record(to(), key=b"1"))
        await ledger.finish(begun, [(YAMADA, DEFERRED)], "451 later", served=part)
        await ledger.finish(Begun(None, None), [], "451 later", served=other)
        assert set((await ledger.look(Query(retry_key=b"retry"))).served) == {part, other}
        assert (await ledger.look(Query(retry_key=b"other"))).served == ()
        await ledger.finish(begun, [(YAMADA, ACCEPTED)], "250 ok", drop_served=b"retry")
        assert (await ledger.look(Query(retry_key=b"retry"))).served == ()

    kept.use(work)


def test_a_partial_success_is_forgotten_after_a_week(kept: Kept) -> None:
    part = Served(b"retry", b"body", frozenset({b"<a@x.example>"}))
    with store(kept.path) as opened:
        for age, expected in ((SERVED_SECONDS - 60, (part,)), (SERVED_SECONDS + 60, ())):
            _serve(opened, part, age)
            assert kept.use(lambda ledger: ledger.look(Query(retry_key=b"retry"))).served == expected
        _serve(opened, replace(part, retry_key=b"newer"), 0)
        assert [row[0] for row in tables(kept.path, ("served",))["served"]] == [b"newer"]


def _serve(opened: Store, part: Served, age: int) -> None:
    writing = Journal(opened.db)
    writing.start()
    writing.serve(part, int(datetime.now().timestamp() - age) * 1_000_000)
    writing.commit()


def test_mail_that_leaves_no_row_is_counted(kept: Kept) -> None:
    async def work(ledger: Ledger) -> None:
        for _ in range(3):
            ledger.count(Direction.INBOUND, "mail")
        ledger.count(Direction.OUTBOUND, "mail")
        await ledger.begin(record(to(), key=b"1"))
        ledger.count(Direction.INBOUND, "mail")

    kept.use(work)
    numbers: dict[tuple[str, str], int] = {}
    for _, direction, kind, n in tables(kept.path, ("counts",))["counts"]:
        numbers[direction, kind] = numbers.get((direction, kind), 0) + n
    assert numbers == {("inbound", "mail"): 4, ("outbound", "mail"): 1}


def test_figures_are_written_without_waiting_for_mail(kept: Kept) -> None:
    async def work(ledger: Ledger) -> None:
        ledger.count(Direction.INBOUND, "mail")
        while not tables(kept.path, ("counts",))["counts"]:
            await asyncio.sleep(0)

    kept.use(work)


def test_many_at_once_all_get_a_number_of_their_own(kept: Kept) -> None:
    async def work(ledger: Ledger) -> list[Begun]:
        async def one(number: int) -> Begun:
            begun = await ledger.begin(record(to(), key=b"%d" % number, message_id=f"{number}@a"))
            ledger.finish(begun, [(YAMADA, ACCEPTED)], "250 ok")
            return begun

        return list(await asyncio.gather(*map(one, range(200))))

    begun = kept.use(work)
    assert sorted(one.message for one in begun) == list(range(1, 201))
    assert [begun[int((row.message_id or "").split("@")[0])].message for row in kept.rows()] == list(range(1, 201))
    assert {row.outcome for row in kept.rows()} == {"accepted"}
    assert tables(kept.path)["attempts"] == []


def test_a_record_that_cannot_be_written_spoils_no_other(kept: Kept) -> None:
    async def work(ledger: Ledger) -> list[Any]:
        naive = record(to(), key=b"bad", at=datetime(2026, 11, 20))
        good = [record(to(), key=b"%d" % number) for number in range(5)]
        found = (receipt(1, details={"x": 2**200}),)
        jobs = [ledger.begin(one) for one in (*good[:3], naive, *good[3:], record(key=b"r", evidence=found))]
        return list(await asyncio.gather(*jobs, return_exceptions=True))

    results = kept.use(work)
    assert [type(result).__name__ for result in results].count("LedgerError") == 1
    assert isinstance(results[3], LedgerError)
    assert len(kept.rows()) == 5


def test_text_that_is_no_unicode_is_kept_as_far_as_it_goes(kept: Kept) -> None:
    odd = "a\udcff\0\x1b[31m\N{SNOWMAN}"

    async def work(ledger: Ledger) -> None:
        message = record(
            to(f"{odd}@x.example", rule=odd, reason=odd, would=odd, basis=odd, edits=(odd,), not_possible=(odd,)),
            key=b"1", subject=odd, message_id=odd, envid=odd, sender=odd, queue_id=odd, policy=odd,
        )  # fmt: skip
        begun = await ledger.begin(message)
        again = await ledger.begin(message)
        assert again.repeated
        await ledger.finish(again, [(f"{odd}@x.example", ACCEPTED)], odd)
        known = await ledger.look(Query(message_ids=(odd,), envids=(odd,), consent_of=(odd,)))
        assert known.originals[odd][0].message == known.by_envid[odd][0].message == begun.message
        found = receipt(1, odd, about=odd, by=odd, message_id=odd, tie=odd, details={odd: odd}, why=odd)
        await ledger.begin(record(key=b"r", evidence=(found,)))

    kept.use(work)
    (row,) = kept.rows()
    assert row.subject == row.reason == "a?\0\x1b[31m\N{SNOWMAN}"
    assert row.outcome == "accepted"


def test_a_question_about_nothing_needs_no_ledger(tmp_path: Path) -> None:
    async def work() -> None:
        ledger = open_ledger(f"sqlite:///{tmp_path}/ledger.db")
        for end in ("", "-wal", "-shm"):
            (tmp_path / f"ledger.db{end}").unlink(missing_ok=True)
        assert (await ledger.look(Query())).originals == {}
        with pytest.raises(LedgerError):
            await ledger.look(Query(message_ids=("1@a",)))
        await ledger.close()

    asyncio.run(work())


def test_a_closed_ledger_has_written_what_it_was_told_and_takes_no_more(kept: Kept) -> None:
    async def work(ledger: Ledger) -> None:
        begun = await ledger.begin(record(to(), key=b"1"))
        ledger.finish(begun, [(YAMADA, ACCEPTED)], "250 ok")
        await ledger.close()
        await ledger.close()
        assert kept.one().outcome == "accepted"
        for late in (ledger.begin(record(to(), key=b"2")), ledger.look(Query(envids=("x",))), ledger.check()):
            with pytest.raises(LedgerError, match="is closed"):
                await late

    kept.use(work)
