"""The filter line: what a line means, what is wrong with it and where, the way back, and what is offered while one types."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kaifu.proxy.ledger_desk import Filter, Order
from kaifu.proxy.ledger_entries import microseconds
from kaifu.tui.filterline import Completion, Known, Line, complete, format_line, parse
from kaifu.tui.filterwords import FIXED, KEYS, ORDERS

TOKYO = ZoneInfo("Asia/Tokyo")
NOW = datetime(2026, 11, 21, 3, tzinfo=UTC)


def at(*moment: int) -> int:
    return microseconds(datetime(*moment, tzinfo=TOKYO))  # type: ignore[misc,arg-type]


UNDERSTOOD = [
    ("", Line()),
    ("  \u3000 ", Line()),
    ("state:waiting,delivered", Line(Filter(states=("delivered", "waiting")))),
    ("state:waiting State:Delivered,waiting", Line(Filter(states=("delivered", "waiting")))),
    ("no-answer", Line(Filter(states=("delivered", "waiting")))),
    ("-request:none,stripped", Line(Filter(requests=("kept", "added")))),
    ("state:denied,failed -state:failed", Line(Filter(states=("denied",)))),
    ("to:@partner.example from:sato@example.co.jp", Line(Filter(to="@partner.example", sender="sato@example.co.jp"))),
    ('person:"\\"a, b\\"@partner.example"', Line(Filter(person='"a, b"@partner.example'))),
    ('rule:contracts grade:attested direction:outbound kind:mail outcome:refused', Line(
        Filter(rule="contracts", grades=("attested",), directions=("outbound",), kinds=("mail",), outcomes=("refused",)))),
    ('rule:"with blanks \\\\ and \\"quotes\\""', Line(Filter(rule='with blanks \\ and "quotes"'))),
    ("rule:a,b", Line(Filter(rule="a,b"))),
    ("id:<1@example.co.jp> message:0123", Line(Filter(message_id="1@example.co.jp", message=123))),
    ("since:7d", Line(Filter(since=at(2026, 11, 14, 12)))),
    ("since:2026-11-01 until:2026-11-01", Line(Filter(since=at(2026, 11, 1), until=at(2026, 11, 2)))),
    ("until:2026-11-01T09:30+00:00", Line(Filter(until=at(2026, 11, 1, 18, 30)))),
    ("契約 \u3000更新 契約", Line(Filter(subject=("契約", "更新")))),
    ('"two words" 10:30 契約:更新 a"b', Line(Filter(subject=("two words", "10:30", "契約:更新", 'a"b')))),
    ('"to:x" "no-answer" -state ""', Line(Filter(subject=("to:x", "no-answer", "-state")))),
    ("state：waiting", Line(Filter(states=("waiting",)))),
    ("sort:to", Line(order=Order.TO)),
    ("sort:-time 契約", Line(Filter(subject=("契約",)), newest_first=False)),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line"), UNDERSTOOD, ids=[text for text, _ in UNDERSTOOD])
def test_a_line_means_what_it_says(text: str, line: Line) -> None:
    assert parse(text, TOKYO, NOW) == line


WRONG = [
    ("state:waitng", [(6, 12, "waiting")], Filter()),
    ("state:waiting,deliverd,", [(14, 22, "delivered"), (0, 23, None)], Filter(states=("waiting",))),
    ("stat:waiting", [(0, 4, "state")], Filter()),
    ("契約 -sate:waiting", [(4, 8, "state")], Filter(subject=("契約",))),
    ("Re: 契約", [(0, 2, None)], Filter(subject=("契約",))),
    ("to: from:x", [(0, 3, None)], Filter(sender="x")),
    ("to:a@x,b@x", [(3, 10, None)], Filter()),
    ("to:a to:b", [(5, 9, None)], Filter(to="a")),
    ("-to:a", [(0, 5, None)], Filter()),
    ("no-answer state:waiting", [(10, 23, None)], Filter(states=("delivered", "waiting"))),
    ("state:waiting no-answer", [(14, 23, None)], Filter(states=("waiting",))),
    ("state:waiting -state:waiting", [(0, 13, None)], Filter()),
    ("message:12a id:<>", [(8, 11, None), (15, 17, None)], Filter()),
    ("message:99999999999999999999", [(8, 28, None)], Filter()),
    ("since:yesterday until:2026-13-01", [(6, 15, None), (22, 32, None)], Filter()),
    ("since:0001-01-01T00:00+14:00", [(6, 28, None)], Filter()),
    ("sort:too", [(5, 8, "to")], Filter()),
    ('契約 "not closed', [(3, 14, None)], Filter(subject=("契約", "not closed"))),
]


@pytest.mark.parametrize(("text", "wrong", "wanted"), WRONG, ids=[text for text, *_ in WRONG])
def test_what_is_wrong_is_said_where_it_stands_and_the_rest_holds(
    text: str, wrong: list[tuple[int, int, str | None]], wanted: Filter
) -> None:
    line = parse(text, TOKYO, NOW)
    assert sorted((each.start, each.end, each.instead) for each in line.problems) == sorted(wrong)
    assert line.wanted == wanted


def test_a_problem_is_a_sentence_with_its_column_and_the_nearest_spelling() -> None:
    (problem,) = parse("契約 state:waitng", TOKYO, NOW).problems
    assert str(problem).startswith('column 10: "waitng" is none of replied, ')
    assert str(problem).endswith(" (did you mean waiting?)")


_WORDS = st.sampled_from(
    [*(f"{key}:" for key in KEYS), *(word for _, words in FIXED.values() for word in words), *ORDERS, "no-answer",
     '"', "\\", ",", "-", " ", "\u3000", ":", "：", "@partner.example", "7d", "2026-11-01", "契約", "\ud800", "\0"]
)  # fmt: skip
LINES = st.one_of(st.text(), st.lists(st.one_of(_WORDS, st.text(max_size=3))).map("".join))
ZONES = st.sampled_from([UTC, TOKYO, ZoneInfo("America/Sao_Paulo"), ZoneInfo("Europe/Dublin")])


@given(LINES, ZONES)
@example("since:9999-12-31T23:59:59.999999", TOKYO)
@example("until:0001-01-01", UTC)
@example("until:2018-11-03 since:2018-11-04", ZoneInfo("America/Sao_Paulo"))
@example("since:2026-10-25T01:30+00:00 until:2026-10-25T00:30Z", ZoneInfo("Europe/Dublin"))
def test_whatever_is_typed_is_understood_as_far_as_it_goes_and_written_back_as_what_it_means(
    text: str, zone: ZoneInfo
) -> None:
    line = parse(text, zone, NOW)
    assert all(0 <= each.start <= each.end <= len(text) and str(each) for each in line.problems)
    written = format_line(line.wanted, zone, line.order, line.newest_first)
    assert parse(written, zone) == replace(line, problems=())


_SOME = {name: st.sets(st.sampled_from(words)).map(sorted) for name, words in FIXED.values()}
_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)


@given(
    st.builds(Filter, to=st.none() | _TEXTS, rule=st.none() | _TEXTS, subject=st.lists(_TEXTS, unique=True).map(tuple)),
    st.fixed_dictionaries(_SOME),
    st.sampled_from(Order),
    st.booleans(),
)
def test_every_filter_can_be_written(
    wanted: Filter, chosen: dict[str, list[str]], order: Order, newest_first: bool
) -> None:
    in_order = {
        name: tuple(word for word in words if word in chosen[name]) for name, words in FIXED.values() if chosen[name]
    }
    wanted = replace(wanted, **in_order)  # type: ignore[arg-type]
    assert parse(format_line(wanted, UTC, order, newest_first), UTC) == Line(wanted, order, newest_first)


KNOWN = Known(rules=("contracts", "private mail, never"), addresses=("@partner.example", "sato@example.co.jp"))

OFFERED = [
    ("sta|", ["state:"]),
    ("契約 s|", ["state:", "since:", "sort:"]),
    ("-s|", ["-state:"]),
    ("no|", ["no-answer"]),
    ("state:d|", ["delivered", "displayed", "denied", "deleted", "replied", "failed", "not-asked"]),
    ("state:waiting,wa|", []),
    ("state:delivered,|waiting kind:mail", ["displayed", "replied", "denied", "deleted", "failed", "not-asked"]),
    ("direction:OUT|", ["outbound"]),
    ("rule:|", ["contracts", '"private mail, never"']),
    ('rule:"private m|', ['"private mail, never"']),
    ("to:example|", ["@partner.example", "sato@example.co.jp"]),
    ("from:@p|", ["@partner.example"]),
    ("sort:-t|", ["-time", "-to"]),
    ("since:|", ["1h", "1d", "7d", "30d", "52w"]),
    ("message:1|", []),
    ("契約|", []),
    ('"sta|te"', []),
    ("nonsense:|", []),
]  # fmt: skip


@pytest.mark.parametrize(("typed", "offered"), OFFERED, ids=[typed for typed, _ in OFFERED])
def test_what_fits_is_offered_what_begins_so_first(typed: str, offered: list[str]) -> None:
    text, cursor = typed.replace("|", ""), typed.index("|")
    assert [each.text for each in complete(text, cursor, KNOWN)] == offered


def test_an_empty_line_offers_every_key_with_what_it_means() -> None:
    offered = complete("", 0)
    assert [each.text for each in offered if each.text != "no-answer"] == [f"{key}:" for key in KEYS]
    assert all(each.hint for each in offered)


def test_every_fixed_word_is_offered_with_what_it_means() -> None:
    for key, (_, words) in FIXED.items():
        offered = complete(f"{key}:", len(key) + 1)
        assert sorted(each.text for each in offered) == sorted(words)
        assert all(each.hint for each in offered)


def test_a_completion_replaces_the_piece_that_the_cursor_is_in() -> None:
    assert complete("state:waiting,del to:x", 17) == [
        Completion(14, 17, "delivered", "delivered, no answer"),
        Completion(14, 17, "deleted", "deleted unread"),
    ]


@given(LINES, st.integers(-1, 60), st.lists(st.text(), max_size=3))
@example("STATE: ", 7, [])
def test_what_is_offered_fits_into_the_line_and_is_understood(text: str, cursor: int, names: list[str]) -> None:
    for each in complete(text, cursor, Known(names, names)):
        assert 0 <= each.start <= each.end <= len(text)
        if not each.text.endswith(":"):
            value = text[: each.start] + each.text + text[each.end :]
            wrong = [(problem.start, problem.end) for problem in parse(value, UTC, NOW).problems]
            assert (each.start, each.start + len(each.text)) not in wrong or not each.text.strip(' "')
