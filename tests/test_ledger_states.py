"""What all evidence about one recipient amounts to, whatever the order in which it came."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ledger_values import journal, receipt, record, store, tables, to

from kaifu.proxy.ledger import EvidenceKind, Outcome, RequestState, Verdict
from kaifu.proxy.ledger_states import (
    NOTHING,
    Handling,
    Standing,
    State,
    Transport,
    answered,
    join,
    mark,
    outcome_after,
    standing_of,
    state_of,
    transport_shown,
)

VALUES = (
    *("displayed", "deleted", "denied", "failed", "dispatched", "processed"),
    *("delayed", "relayed", "expanded", "delivered", "opened", "", "reply"),
)
REPEATED = (Verdict.MATCHED, Verdict.MATCHED, Verdict.WRONG_RECIPIENT)
pieces = st.tuples(
    st.sampled_from(tuple(EvidenceKind)), st.sampled_from(tuple(Verdict)), st.sampled_from(VALUES), st.integers(0, 9)
)
standings = st.builds(
    Standing,
    st.sampled_from([value.value for value in Transport]),
    st.sampled_from([value.value for value in Handling]),
    *(st.none() | st.integers(0, 9) for _ in range(4)),
)


def all_of(evidence: list[tuple[EvidenceKind, Verdict, str, int]]) -> Standing:
    standing = NOTHING
    for piece in evidence:
        standing = join(standing, standing_of(*piece))
    return standing


@given(standings, standings, standings)
def test_joining_is_the_same_in_any_order_and_any_grouping(one: Standing, two: Standing, three: Standing) -> None:
    assert join(one, two) == join(two, one)
    assert join(join(one, two), three) == join(one, join(two, three))
    assert join(one, one) == one
    assert join(one, NOTHING) == one


@given(st.lists(pieces, max_size=8).flatmap(lambda some: st.tuples(st.just(some), st.permutations(some + some[:3]))))
def test_any_order_and_any_repetition_of_evidence_gives_the_same_standing(
    told: tuple[list[tuple[EvidenceKind, Verdict, str, int]], list[tuple[EvidenceKind, Verdict, str, int]]],
) -> None:
    once, mixed = told
    assert all_of(once) == all_of(mixed)


@settings(max_examples=settings().max_examples * 40 // 100)
@given(
    st.lists(st.tuples(st.sampled_from(REPEATED), st.sampled_from(VALUES[:3]), st.integers(0, 3)), max_size=6).flatmap(
        lambda some: st.tuples(st.just(some), st.permutations(some + some[:2]))
    )
)
def test_any_order_of_evidence_gives_the_same_row_in_the_ledger(
    tmp_path_factory: pytest.TempPathFactory,
    told: tuple[list[tuple[Verdict, str, int]], list[tuple[Verdict, str, int]]],
) -> None:
    rows = []
    for order in told:
        path = tmp_path_factory.mktemp("ledger") / "ledger.db"
        with store(path) as opened, journal(opened) as writing:
            writing.begin(record(to(), key=b"k"))
            for verdict, value, minute in order:
                found = receipt(1, value, verdict=verdict, message_id=f"{value}{verdict}")
                writing.begin(record(key=b"r", minutes=minute, evidence=(found,)))
        rows.append(tables(path, ("recipients",)))
    assert rows[0] == rows[1]


@pytest.mark.parametrize("verdict", [verdict for verdict in Verdict if verdict is not Verdict.MATCHED])
@pytest.mark.parametrize("kind", EvidenceKind)
def test_evidence_with_a_bad_verdict_changes_nothing(kind: EvidenceKind, verdict: Verdict) -> None:
    assert all(standing_of(kind, verdict, value, 1) == NOTHING for value in VALUES)


@pytest.mark.parametrize("kind", [EvidenceKind.ATTESTED, EvidenceKind.SUSPECTED, EvidenceKind.AUTO_REPLY])
def test_what_is_no_receipt_report_or_reply_changes_nothing(kind: EvidenceKind) -> None:
    assert all(standing_of(kind, Verdict.MATCHED, value, 1) == NOTHING for value in VALUES)


# What came, for a request that was added and a next hop that accepted: state, transport shown, handling.
CASES = [
    ([], "waiting", "unknown", "none"),
    (["mdn displayed"], "displayed", "unknown", "displayed"),
    (["mdn deleted", "mdn displayed"], "displayed", "unknown", "displayed"),
    (["mdn displayed", "reply reply"], "replied", "unknown", "replied"),
    (["mdn denied", "dsn delivered"], "denied", "delivered", "denied"),
    (["mdn denied", "mdn deleted"], "deleted", "unknown", "deleted"),
    (["mdn failed"], "failed", "unknown", "mdn-failed"),
    (["mdn dispatched", "dsn delivered"], "delivered", "delivered", "dispatched"),
    (["mdn processed", "mdn dispatched"], "waiting", "unknown", "processed"),
    (["dsn failed"], "failed", "failed", "none"),
    (["dsn delivered", "dsn failed"], "failed", "delivered, failed", "none"),
    (["dsn failed", "mdn displayed"], "displayed", "failed", "displayed"),
    (["dsn relayed", "dsn delayed"], "waiting", "relayed", "none"),
    (["dsn expanded", "dsn relayed"], "waiting", "expanded", "none"),
    (["mdn opened"], "waiting", "unknown", "none"),
]


@pytest.mark.parametrize(("came", "state", "transport", "handling"), CASES, ids=lambda value: str(value))
def test_the_strongest_handling_decides_then_failed_before_delivered(
    came: list[str], state: str, transport: str, handling: str
) -> None:
    standing = all_of(
        [(EvidenceKind(kind), Verdict.MATCHED, value, 1) for kind, value in (piece.split() for piece in came)]
    )
    assert state_of(RequestState.ADDED, standing, Outcome.ACCEPTED) == state
    assert (transport_shown(standing), standing.handling) == (transport, handling)


def test_the_earliest_evidence_gives_the_time() -> None:
    standing = all_of([(EvidenceKind.MDN, Verdict.MATCHED, "displayed", at) for at in (5, 3, 4)])
    assert standing.displayed_at == 3


@pytest.mark.parametrize("request_state", [RequestState.NONE, RequestState.STRIPPED])
def test_nobody_waits_for_what_was_not_asked(request_state: RequestState) -> None:
    assert state_of(request_state, NOTHING, Outcome.ACCEPTED) == State.NOT_ASKED


def test_a_message_that_was_refused_has_failed() -> None:
    assert state_of(RequestState.ADDED, NOTHING, Outcome.REFUSED) == State.FAILED
    assert state_of(RequestState.ADDED, NOTHING, Outcome.DEFERRED) == State.WAITING


def test_who_has_the_message_has_it() -> None:
    assert outcome_after("accepted", "deferred") == "accepted"
    assert outcome_after("deferred", "accepted") == "accepted"
    assert outcome_after("withheld", "deferred") == "deferred"
    assert answered(["accepted", "withheld"])
    assert not answered(["accepted", "unknown"])


@pytest.mark.parametrize("style", ["unicode", "ascii"])
def test_every_state_has_a_mark_and_words_and_never_says_unread(style: str) -> None:
    shown = {state: mark(state, style=style) for state in State}
    assert shown[State.WAITING][1] == "no answer"
    assert "no answer" in shown[State.DELIVERED][1]
    assert len({words for _, words in shown.values()}) == len(State)
    assert "unread" not in json.dumps(shown).replace("deleted unread", "")


def test_the_marks_are_the_four_that_people_know() -> None:
    assert [mark(state)[0] for state in State] == ["✓✓", "✓✓", "✗", "✗", "✗", "✓", "✓", "–"]
    assert mark(State.DELIVERED, RequestState.STRIPPED) == ("–", "delivered")
