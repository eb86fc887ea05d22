"""What all evidence about one recipient amounts to, whatever the order in which it came."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaifu.proxy.ledger import EvidenceKind, Grade, Outcome, RequestState, Verdict
from kaifu.proxy.ledger_states import (
    NOTHING,
    Handling,
    Standing,
    State,
    Transport,
    answered,
    counts,
    is_answer,
    is_list,
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
standings = st.builds(
    lambda transport, handling, grade, expanded, times: Standing(
        transport, handling, None if handling == Handling.NONE else grade, expanded, *times
    ),
    st.sampled_from([value.value for value in Transport]),
    st.sampled_from([value.value for value in Handling]),
    st.sampled_from([value.value for value in Grade]),
    st.integers(0, 1),
    st.tuples(*(st.none() | st.integers(0, 9) for _ in range(4))),
)


class Piece(NamedTuple):
    """One piece of evidence. ``answerer``: which mailbox."""

    kind: EvidenceKind
    verdict: Verdict
    value: str
    at: int
    grade: Grade = Grade.CLAIMED
    answerer: int = 0


pieces = st.builds(
    Piece,
    st.sampled_from(tuple(EvidenceKind)),
    st.sampled_from(tuple(Verdict)),
    st.sampled_from(VALUES),
    st.integers(0, 9),
    st.sampled_from(tuple(Grade)),
    st.integers(0, 2),
)


def amounts_to(
    evidence: Sequence[Piece], paired: frozenset[int] = frozenset(), confirm: str | None = None
) -> tuple[Standing, frozenset[int]]:
    """The standing, and who answered. ``paired``: the mailboxes that somebody paired with the recipient."""
    standing, answerers = NOTHING, set[int]()
    for kind, verdict, value, at, grade, answerer in evidence:
        if counts(kind, verdict, grade, paired=answerer in paired, confirm=confirm):
            found = standing_of(kind, value, at, grade)
            standing = join(standing, found)
            answerers |= {answerer} if is_answer(found) else set()
    return standing, frozenset(answerers)


@given(standings, standings, standings)
def test_joining_is_the_same_in_any_order_and_any_grouping(one: Standing, two: Standing, three: Standing) -> None:
    assert join(one, two) == join(two, one)
    assert join(join(one, two), three) == join(one, join(two, three))
    assert join(one, one) == one
    assert join(one, NOTHING) == one


@given(
    st.lists(pieces, max_size=8).flatmap(lambda some: st.tuples(st.just(some), st.permutations(some + some[:3]))),
    st.frozensets(st.integers(0, 2)),
    st.sampled_from((None, *Grade)),
)
def test_any_order_and_any_repetition_of_evidence_amounts_to_the_same(
    told: tuple[list[Piece], list[Piece]], paired: frozenset[int], confirm: str | None
) -> None:
    once, mixed = told
    assert amounts_to(once, paired, confirm) == amounts_to(mixed, paired, confirm)


@given(st.lists(pieces, max_size=6), st.lists(pieces, max_size=3), st.sampled_from((None, *Grade)))
def test_more_evidence_never_says_less(some: list[Piece], more: list[Piece], confirm: str | None) -> None:
    before, answerers = amounts_to(some, confirm=confirm)
    after, all_answerers = amounts_to(some + more, confirm=confirm)
    assert join(before, after) == after
    assert answerers <= all_answerers


@pytest.mark.parametrize("verdict", [verdict for verdict in Verdict if verdict is not Verdict.MATCHED])
@pytest.mark.parametrize("kind", EvidenceKind)
@pytest.mark.parametrize("grade", Grade)
def test_evidence_with_a_bad_verdict_does_not_count(kind: EvidenceKind, verdict: Verdict, grade: Grade) -> None:
    assert not counts(kind, verdict, grade)


@pytest.mark.parametrize("verdict", Verdict)
def test_a_pairing_helps_another_address_and_nobody_else(verdict: Verdict) -> None:
    helped = counts(EvidenceKind.MDN, verdict, paired=True) and not counts(EvidenceKind.MDN, verdict)
    assert helped == (verdict is Verdict.OTHER_ADDRESS)


@pytest.mark.parametrize("kind", [EvidenceKind.ATTESTED, EvidenceKind.SUSPECTED, EvidenceKind.AUTO_REPLY])
def test_what_is_no_receipt_report_or_reply_does_not_count(kind: EvidenceKind) -> None:
    assert not counts(kind, Verdict.MATCHED, Grade.AUTHENTICATED)
    assert all(standing_of(kind, value, 1) == NOTHING for value in VALUES)


@pytest.mark.parametrize(
    ("kind", "grade", "confirm", "counted"),
    [
        ("mdn", "claimed", None, True),
        ("mdn", "claimed", "claimed", True),
        ("mdn", "claimed", "authenticated", False),
        ("mdn", "authenticated", "authenticated", True),
        ("reply", "claimed", "authenticated", False),
        ("reply", "authenticated", "authenticated", True),
        ("dsn", "claimed", "authenticated", True),
        ("mdn", None, "authenticated", False),
    ],
)
def test_an_answer_needs_the_grade_that_the_rule_asks_for_and_a_delivery_report_needs_none(
    kind: str, grade: str | None, confirm: str | None, counted: bool
) -> None:
    assert counts(kind, Verdict.MATCHED, grade, confirm=confirm) is counted
    assert counts(kind, Verdict.OTHER_ADDRESS, grade, paired=True, confirm=confirm) is counted


@pytest.mark.parametrize(
    ("came", "handling", "grade"),
    [
        (["displayed claimed"], "displayed", "claimed"),
        (["displayed claimed", "displayed authenticated"], "displayed", "authenticated"),
        (["deleted authenticated", "displayed claimed"], "displayed", "claimed"),
        (["displayed authenticated", "deleted claimed"], "displayed", "authenticated"),
        ([], "none", None),
    ],
)
def test_the_grade_is_that_of_the_strongest_handling(came: list[str], handling: str, grade: str | None) -> None:
    told = [
        Piece(EvidenceKind.MDN, Verdict.MATCHED, value, 1, Grade(grade)) for value, grade in (c.split() for c in came)
    ]
    assert amounts_to(told)[0][1:3] == (handling, grade)


# What came of whom, for a request that was added and a next hop that accepted: is it a list, and the state.
LISTS = [
    ("displayed 0", False, "displayed"),
    ("displayed 5", False, "displayed"),
    ("displayed 0, displayed 0", False, "displayed"),
    ("displayed 0, displayed 5", True, "waiting"),
    ("deleted 0, denied 5", True, "waiting"),
    ("displayed 0, dispatched 5", False, "displayed"),
    ("expanded 0", True, "waiting"),
    ("expanded 0, displayed 0", True, "waiting"),
    ("expanded 0, delivered 0, displayed 0", True, "delivered"),
    ("displayed 0, displayed 5, failed 0", True, "failed"),
]


@pytest.mark.parametrize(("came", "listed", "state"), LISTS)
def test_of_a_list_only_transport_and_request_make_the_state(came: str, listed: bool, state: str) -> None:
    told = []
    for value, answerer in (piece.split() for piece in came.split(", ")):
        kind = EvidenceKind.DSN if value in ("expanded", "delivered", "failed") else EvidenceKind.MDN
        told.append(Piece(kind, Verdict.MATCHED, value, 1, Grade.CLAIMED, int(answerer)))
    standing, answerers = amounts_to(told)
    assert is_list(standing.expanded, len(answerers)) is listed
    assert state_of(RequestState.ADDED, standing, Outcome.ACCEPTED, len(answerers)) == state


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
    (["dsn expanded", "mdn displayed"], "waiting", "expanded", "displayed"),
    (["mdn opened"], "waiting", "unknown", "none"),
]


@pytest.mark.parametrize(("came", "state", "transport", "handling"), CASES, ids=lambda value: str(value))
def test_the_strongest_handling_decides_then_failed_before_delivered(
    came: list[str], state: str, transport: str, handling: str
) -> None:
    standing, _ = amounts_to(
        [Piece(EvidenceKind(kind), Verdict.MATCHED, value, 1) for kind, value in (piece.split() for piece in came)]
    )
    assert state_of(RequestState.ADDED, standing, Outcome.ACCEPTED) == state
    assert (transport_shown(standing), standing.handling) == (transport, handling)


def test_the_earliest_evidence_gives_the_time() -> None:
    standing, _ = amounts_to([Piece(EvidenceKind.MDN, Verdict.MATCHED, "displayed", at) for at in (5, 3, 4)])
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


@pytest.mark.parametrize(
    ("state", "answered", "shown"),
    [
        (State.WAITING, 0, ("✓", "no answer (list)")),
        (State.WAITING, 1, ("✓", "1 answered")),
        (State.DELIVERED, 2, ("✓", "2 answered")),
        (State.FAILED, 2, ("✗", "failed, 2 answered")),
        (State.NOT_ASKED, 2, ("–", "2 answered")),
    ],
)
def test_a_list_never_gets_the_mark_of_a_reader(state: State, answered: int, shown: tuple[str, str]) -> None:
    assert mark(state, answered=answered, grade="authenticated") == shown


@pytest.mark.parametrize("state", State)
def test_the_grade_stands_beside_what_an_answer_says_and_nothing_else(state: State) -> None:
    answer = state in (State.REPLIED, State.DISPLAYED, State.DELETED, State.DENIED)
    assert mark(state, grade="claimed")[1].endswith("(claimed)") is answer


def test_the_readme_tells_states_marks_and_precedence_as_they_are() -> None:
    text = (Path(__file__).parent.parent / "proxy" / "README.md").read_text(encoding="utf-8")
    section = text.partition("## What evidence amounts to")[2].partition("\n## ")[0]
    told = re.findall(r"^\|.*\| `([a-z-]+)` \| `(.+)` \|$", section, re.MULTILINE)
    assert [state for state, _ in told] == [state.value for state in State]
    for state, shown in told:
        sign, words = mark(state, grade="authenticated" if "authenticated" in shown else "claimed")
        assert shown in (sign, f"{sign} {words}")
    for column in (Transport, Handling):
        assert ", ".join(column) in section
