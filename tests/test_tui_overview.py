"""The overview: figures per day and hour, drawn within any size, and what needs a person. On real ledgers."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from tests.ledger_values import NOON, SUZUKI, journal, receipt, record, store, to
from tests.tui_pilot import NOW, in_a_loop, looks, opened, some_ledger, too_wide

from kaifu.proxy.access import Role
from kaifu.proxy.health import Failing, Health, NextHopHealth, PolicyHealth, Rejected, UsedAnchor, Verified
from kaifu.proxy.ledger import Verdict
from kaifu.proxy.ledger_desk import AnchorPlace, Attention, Desk, Tally
from kaifu.proxy.ledger_desk import Newest as NewestAnswer
from kaifu.proxy.ledger_states import GRADED, State
from kaifu.proxy.settings import Anchors
from kaifu.tui.overview_figures import (
    DAYS,
    LEVELS,
    Figures,
    bars,
    last_days,
    per_day,
    percent,
    shades,
    total,
    weekday_hours,
)
from kaifu.tui.overview_needs import LONG_WITHOUT_ANCHOR, Need, Situation, needs
from kaifu.tui.overview_widgets import Chart, Drawn, FigureTable, Newest, answer_words
from kaifu.tui.screen_detail import DetailScreen
from kaifu.tui.screen_overview import FRESH_SECONDS, WHOLE_SECONDS, NeedList, OverviewScreen

TOKYO = ZoneInfo("Asia/Tokyo")
QUARTER = 900_000_000
AT = int(NOON.timestamp()) * 1_000_000


@st.composite
def tallies(draw: st.DrawFn) -> list[Tally]:
    found = []
    for _ in range(draw(st.integers(0, 20))):
        state = draw(st.sampled_from(list(State)))
        grade = draw(st.sampled_from(["claimed", "authenticated"])) if state in GRADED else None
        at = AT - draw(st.integers(0, 40 * 96)) * QUARTER
        found.append(Tally(at, state.value, grade, draw(st.integers(1, 5000)), draw(st.booleans())))
    return found


@given(tallies(), st.sampled_from([UTC, TOKYO, ZoneInfo("Asia/Kathmandu"), ZoneInfo("America/St_Johns")]))
def test_every_recipient_who_was_asked_is_in_one_figure_of_one_day_and_one_hour(
    some: list[Tally], zone: ZoneInfo
) -> None:
    asked = sum(tally.n for tally in some if tally.asked)
    days = per_day(some, zone)
    assert total(days.values()).asked == asked
    assert sum(map(sum, weekday_hours(some, zone))) == asked
    whole = total(days.values())
    assert whole.confirmed == sum(t.n for t in some if t.asked and t.state in (State.DISPLAYED, State.REPLIED))
    assert whole.authenticated == sum(
        t.n for t in some if t.asked and t.grade == "authenticated" and t.state in (State.DISPLAYED, State.REPLIED)
    )


def test_a_day_is_a_day_of_the_zone() -> None:
    late = datetime(2026, 11, 20, 16, 0, tzinfo=UTC)  # one in the morning of the 21st in Tokyo
    found = per_day([Tally(int(late.timestamp()) * 1_000_000, "waiting", None, 1)], TOKYO)
    assert list(found) == [date(2026, 11, 21)]
    assert weekday_hours([Tally(int(late.timestamp()) * 1_000_000, "waiting", None, 7)], TOKYO)[5][1] == 7


@given(tallies(), st.integers(1, 12), st.integers(1, 4), st.sampled_from(sorted(LEVELS)))
def test_bars_fill_their_frame_and_hide_no_day(some: list[Tally], height: int, width: int, marks: str) -> None:
    days = last_days(per_day(some, UTC), NOON.date())
    rows = bars(days, height, width, marks)
    assert len(rows) == height
    assert {len(row) for row in rows} == {DAYS * width}
    for number, day in enumerate(days):
        lowest = rows[-1][number * width]
        assert (lowest != LEVELS[marks][0]) == bool(day.asked)
        assert (lowest == LEVELS[marks][4]) == bool(day.confirmed)


@given(st.lists(st.lists(st.integers(0, 9999), min_size=24, max_size=24), min_size=7, max_size=7))
def test_more_is_never_drawn_lighter_and_nothing_is_never_drawn(picture: list[list[int]]) -> None:
    levels = LEVELS["unicode"]
    drawn = [
        (n, levels.index(c))
        for row, line in zip(picture, shades(picture, "unicode"), strict=True)
        for n, c in zip(row, line, strict=True)
    ]
    for n, level in drawn:
        assert (level == 0) == (n == 0)
    drawn.sort()
    assert [level for _, level in drawn] == sorted(level for _, level in drawn)


@given(st.integers(0, 10**7), st.integers(0, 10**7))
def test_a_share_is_honest_at_its_ends(part: int, rest: int) -> None:
    said = percent(part, part + rest)
    assert (said in ("", "0 %")) == (part == 0)
    assert (said == "100 %") == (part > 0 and rest == 0)


NOTHING = Attention(0, 0, 5, AT, (1, 5), (), None)


@pytest.mark.parametrize(
    ("change", "anchors", "expected", "screen"),
    [
        ({}, None, [], ""),
        ({"unmatched": 1}, None, ["1 receipt matches no message of ours"], "integrity"),
        ({"unpaired": 1234}, None, ["1,234 answers came from unknown addresses"], "receipts"),
        ({}, Anchors(), ["No anchor is kept elsewhere: a ledger rewritten as a whole could not be told"], "integrity"),
        ({"anchors": (AnchorPlace("mail", 1, 2, AT, 3),)}, Anchors(), [], ""),
        ({"oldest_unanchored_at": AT}, Anchors(file=Path("/x")), [], ""),
        (
            {"oldest_unanchored_at": AT - 3 * 86400 * 1_000_000, "anchors": (AnchorPlace("file", 1, 2, AT, 3),)},
            Anchors(file=Path("/x")),
            ["What is on record is in no anchor for 3 days"],
            "integrity",
        ),
    ],
)
def test_what_needs_a_person_is_a_sentence_and_leads_somewhere(
    change: dict[str, object], anchors: Anchors | None, expected: list[str], screen: str
) -> None:
    assert timedelta(days=3) > LONG_WITHOUT_ANCHOR
    found = needs(Situation(NOON, replace(NOTHING, **change), anchors=anchors))  # type: ignore[arg-type]
    assert [need.sentence for need in found] == expected
    assert {need.screen for need in found} <= {screen}


POLICY = PolicyHealth("/etc/kaifu/policy.yaml", "ab" * 32, "enforce", AT)
RELAY = Health("0.1.0", 7, "relay", 1, "/etc/kaifu/kaifu.yaml", AT, ("127.0.0.1:25",), POLICY, AT)
YESTERDAY = AT - 86400 * 1_000_000
HOP = NextHopHealth("mx:25", False, AT - 60_000_000, "refused", None)
VERIFIED = Verified(AT, "root", "ab", 9, 3, "cd", True, 0, (), ())


@pytest.mark.parametrize(
    ("health", "expected", "urgent"),
    [
        (RELAY, None, False),
        (replace(RELAY, stopped=True), "The relay was stopped at 12:00", False),
        (replace(RELAY, stale=True, at=YESTERDAY), "The relay has not been heard of since 2026-11-19 12:00", True),
        (replace(RELAY, worker=2, stale=True), "Worker 2 of the relay has not been heard of since 12:00", True),
        (replace(RELAY, host="milter", stale=True), "The milter has not been heard of since 12:00", True),
        (replace(RELAY, ledger=Failing(AT, AT, "locked")), "The relay cannot use the ledger since 12:00", True),
        (replace(RELAY, next_hop=HOP), "The next hop mx:25 cannot be reached since 11:59", True),
        (replace(RELAY, next_hop=replace(HOP, reachable=True)), None, False),
        (
            replace(RELAY, policy=replace(POLICY, rejected=Rejected(AT, ("policy.yaml:3:1: ...",)))),
            "The policy file was rejected at 12:00; the one before is in force",
            True,
        ),
    ],
)
def test_how_relay_and_milter_are(health: Health, expected: str | None, urgent: bool) -> None:
    found = needs(Situation(NOON, NOTHING, (health,)))
    assert [(need.sentence, need.urgent) for need in found] == ([] if expected is None else [(expected, urgent)])


@pytest.mark.parametrize(
    ("verified", "expected"),
    [
        (VERIFIED, None),
        (replace(VERIFIED, whole=False, problems=2), "The ledger did not verify at 12:00"),
        (
            replace(
                VERIFIED, whole=False, problems=1, anchors=(UsedAnchor(1, 2, "", False), UsedAnchor(2, 3, "", True))
            ),
            "An anchor did not fit the ledger at 12:00: it is false, or the ledger was rewritten",
        ),
        (
            replace(VERIFIED, whole=False, problems=2, anchors=(UsedAnchor(1, 2, "", False),)),
            "The ledger did not verify at 12:00",
        ),
        (replace(VERIFIED, at=AT - 40 * 86400 * 1_000_000), "The ledger was verified 40 days ago"),
    ],
)
def test_how_the_last_verification_ended(verified: Verified, expected: str | None) -> None:
    found = needs(Situation(NOON, NOTHING, verified=verified))
    assert [need.sentence for need in found] == ([] if expected is None else [expected])


def test_a_ledger_that_has_become_shorter_is_told() -> None:
    assert needs(Situation(NOON, NOTHING, entries_before=5)) == []
    (need,) = needs(Situation(NOON, NOTHING, entries_before=1068))
    assert need.sentence == "The ledger has 5 entries, and had 1,068: it was put back to an older copy, or cut"
    assert (need.urgent, need.screen) == (True, "integrity")


def test_what_is_urgent_stands_first() -> None:
    seen = Situation(NOON, replace(NOTHING, unmatched=1), (replace(RELAY, stale=True),))
    assert [need.urgent for need in needs(seen)] == [True, False]
    assert [type(need) for need in needs(seen)] == [Need, Need]


@in_a_loop
async def test_the_overview_counts_who_was_asked_and_who_confirmed(tmp_path: Path) -> None:
    async with opened(some_ledger(tmp_path / "ledger.db")) as seen:
        screen = seen.app.screen
        assert isinstance(screen, OverviewScreen)
        today, month = screen.query_one(FigureTable).columns
        assert today == month == Figures(claimed=1, no_answer=5)
        assert "17 %" in seen.line("  claimed")
        assert "83 %" in seen.line(" no answer ")
        assert len(screen.query_one(Newest).answers) == 1
        assert "displayed (claimed)" in seen.text()
        assert too_wide(seen.lines(), 80) == []


@in_a_loop
async def test_what_comes_in_is_seen_without_a_key(tmp_path: Path) -> None:
    now = [NOW]
    path = some_ledger(tmp_path / "ledger.db")
    async with opened(path, clock=lambda: now[0]) as seen:
        table = seen.app.screen.query_one(FigureTable)
        with store(path) as open_store, journal(open_store) as adding:
            adding.begin(record(to(), key=b"more", message_id="more@example.co.jp", minutes=50))
        now[0] += int(FRESH_SECONDS * 1e6)
        await seen.pulse()
        assert table.columns[0] == Figures(claimed=1, no_answer=6)
        with store(path) as open_store, journal(open_store) as adding:
            adding.begin(record(key=b"late", minutes=51, evidence=(receipt(2, by=SUZUKI),)))
        now[0] += int(WHOLE_SECONDS * 1e6)
        await seen.pulse()
        assert table.columns[1] == Figures(claimed=2, no_answer=5)


@in_a_loop
async def test_who_may_see_figures_only_sees_no_address(tmp_path: Path) -> None:
    async with opened(some_ledger(tmp_path / "ledger.db"), role=Role.VIEWER) as seen:
        assert "@" not in seen.text()
        assert seen.app.screen.query_one(Newest).answers == []
        assert seen.app.screen.query_one(FigureTable).columns[0] == Figures(claimed=1, no_answer=5)


@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.parametrize("size", [(80, 24), (60, 20), (76, 24), (200, 60)])
def test_nothing_overflows_at_any_size(tmp_path: Path, language: str, size: tuple[int, int]) -> None:
    @in_a_loop
    async def look() -> None:
        async with opened(some_ledger(tmp_path / "ledger.db"), language=language, size=size) as seen:
            assert too_wide(seen.lines(), size[0]) == []
            screen, chart = seen.app.screen, seen.app.screen.query_one(Chart)
            assert all(each.region.right <= size[0] for each in screen.query(Drawn))
            assert (screen.query_one(NeedList).region.width >= size[0] - 4) == (size[0] < 76)
            assert all(cell_len(line) <= chart.size.width for line in chart.draw().plain.splitlines())

    look()


@in_a_loop
async def test_an_answer_from_an_unknown_address_needs_a_person_and_leads_to_the_receipts(tmp_path: Path) -> None:
    path = some_ledger(tmp_path / "ledger.db")
    with store(path) as open_store, journal(open_store) as adding:
        adding.begin(
            record(
                key=b"other",
                minutes=9,
                evidence=(receipt(2, verdict=Verdict.OTHER_ADDRESS, by="mori@elsewhere.example"),),
            )
        )
    async with opened(path) as seen:
        found = seen.app.screen.query_one(NeedList)
        assert [need.sentence for need in found.needs or ()] == ["1 answer came from an unknown address"]
        found.focus()
        await seen.press("enter")
        assert seen.app.current_mode == "receipts"


@in_a_loop
async def test_an_answer_leads_to_all_about_its_message(tmp_path: Path) -> None:
    async with opened(some_ledger(tmp_path / "ledger.db")) as seen:
        seen.app.screen.query_one(Newest).focus()
        await seen.press("enter")
        assert isinstance(seen.app.screen, DetailScreen)
        assert "yamada@partner.example" in seen.text()


@in_a_loop
async def test_the_newest_answer_stays_in_view_until_somebody_chooses_another(tmp_path: Path) -> None:
    now = [NOW]
    path = some_ledger(tmp_path / "ledger.db")

    async def comes(number: int) -> None:
        with store(path) as open_store, journal(open_store) as adding:
            adding.begin(
                record(key=b"%d" % number, minutes=50 + number, evidence=(receipt(number, message_id=f"n{number}"),))
            )
        now[0] += int(FRESH_SECONDS * 1e6)
        await seen.pulse()

    async with opened(path, clock=lambda: now[0]) as seen:
        answers = seen.app.screen.query_one(Newest)
        for number in (2, 3, 4):
            await comes(number)
            assert (answers.cursor, answers.scroll_offset.y) == (0, 0)
        assert [one.recipient for one in answers.answers] == [4, 3, 2, 1]
        answers.focus()
        await seen.press("down", "down")
        await comes(5)
        assert answers.answers[answers.cursor].recipient == 2


def test_what_came_several_times_is_new_once_and_only_what_counts(tmp_path: Path) -> None:
    path = some_ledger(tmp_path / "ledger.db")
    other = receipt(2, verdict=Verdict.OTHER_ADDRESS, by="mori@elsewhere.example")
    with store(path) as open_store, journal(open_store) as adding:
        for number, evidence in enumerate((other, receipt(2, by=SUZUKI), receipt(2, by=SUZUKI))):
            adding.begin(record(key=b"again%d" % number, minutes=60 + number, evidence=(evidence,)))
    with Desk(path, looks(Role.AUDITOR)) as desk:
        found = desk.newest(9)
    assert [(one.recipient, one.by) for one in found] == [(2, SUZUKI), (1, "yamada@partner.example")]


@in_a_loop
async def test_a_ledger_that_is_put_back_to_an_older_copy_is_not_taken_without_a_word(tmp_path: Path) -> None:
    now = [NOW]
    path = some_ledger(tmp_path / "ledger.db")
    older = path.read_bytes()
    with store(path) as open_store, journal(open_store) as adding:
        adding.begin(record(to(), key=b"more", message_id="more@example.co.jp", minutes=50))
    async with opened(path, role=Role.VIEWER, clock=lambda: now[0]) as seen:
        assert seen.app.screen.query_one(NeedList).needs == []
        copy = tmp_path / "older.db"
        copy.write_bytes(older)
        copy.chmod(0o600)
        for beside in tmp_path.glob("ledger.db-*"):
            if beside.is_file():
                beside.unlink()
        copy.replace(path)
        for _ in range(3):
            now[0] += int(WHOLE_SECONDS * 1e6)
            await seen.pulse()
        assert "put back to an older copy" in " ".join(
            need.sentence for need in seen.app.screen.query_one(NeedList).needs or ()
        )


def test_an_answer_has_its_grade_beside_it_and_a_delivery_report_none() -> None:
    report = NewestAnswer(AT, "dsn", "relayed", "claimed", None, 1, 1, "a@b.example", "waiting", None)
    assert answer_words(report) == "relayed"
    assert (
        answer_words(report._replace(kind="mdn", value="displayed", grade="authenticated"))
        == "displayed (authenticated)"
    )
    assert answer_words(report._replace(kind="mdn", value="dispatched")) == "dispatched (claimed)"
    assert answer_words(report._replace(kind="reply", value="")) == "replied (claimed)"
