"""The screen of receipts, driven by keys over real ledgers: what it shows, what it asks and what it leaves on record."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from datetime import UTC
from pathlib import Path
from sqlite3 import connect

import pytest
from rich.cells import cell_len
from tests.ledger_values import SUZUKI, YAMADA, journal, receipt, record, store, to
from tests.tui_pilot import NOW, Seen, column, in_a_loop, looks, opened, some_ledger, too_wide
from tests.tui_records import HOSTILE, erased_ledger, full_ledger, golden, hostile_ledger, steering

from kaifu.policies.facts import Direction
from kaifu.proxy.access import Role
from kaifu.proxy.ledger import RequestState, Verdict
from kaifu.proxy.ledger_cli import at_desk
from kaifu.proxy.ledger_desk import ActFilter, Filter, Order, Place
from kaifu.tui.receipts_acts import ExportDialog
from kaifu.tui.receipts_line import FilterBar
from kaifu.tui.receipts_list import ReceiptList
from kaifu.tui.receipts_status import searching
from kaifu.tui.screen_detail import DetailScreen
from kaifu.tui.screen_receipts import AGAIN_SECONDS, COUNT_SECONDS, RETRY_SECONDS, ReceiptsScreen

ROWS = 600
"""Of :func:`many`, apart from the answer."""
STATUS, TITLES, FIRST = 1, 2, 3
"""The lines of the screen while no filter is typed."""


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Three hundred messages to two recipients each, a minute apart."""
    return some_ledger(tmp_path / "ledger.db", 300)


def screen(seen: Seen) -> ReceiptsScreen:
    return next(one for one in seen.app.screen_stack if isinstance(one, ReceiptsScreen))


def shown(seen: Seen) -> list[tuple[int, str | None]]:
    """The rows on the screen: number of the message, and recipient."""
    return [(row.message, row.address) for row in screen(seen).feed.window.seen]


def cursor(seen: Seen) -> tuple[int, str | None]:
    row = screen(seen).feed.window.current
    assert row is not None
    return row.message, row.address


def looks_on_record(ledger: Path) -> int:
    """How many looks at lists are on record."""
    with closing(connect(ledger)) as db:
        return int(db.execute("SELECT count(*) FROM acts WHERE what = 'list'").fetchone()[0])


async def filtered(seen: Seen, text: str) -> None:
    """Type a filter and ask."""
    await seen.press("slash", "ctrl+u")
    await seen.write(text)
    await seen.press("enter")


@pytest.mark.parametrize("language", ["en", "ja"])
@in_a_loop
async def test_the_list_opens_with_the_newest_and_says_what_it_shows(tmp_path: Path, language: str) -> None:
    async with opened(full_ledger(tmp_path / "ledger.db"), role=Role.AUDITOR, language=language) as seen:
        await seen.press("2")
        assert "kind:mail" in seen.lines()[STATUS]
        assert [number for number, _ in shown(seen)] == [1, 1]
        await seen.press("m")
        assert [number for number, _ in shown(seen)] == [2, 1, 1]
        assert too_wide(seen.lines(), 80) == []
        golden(f"receipts-{language}", seen.text())


@in_a_loop
async def test_every_state_stands_with_mark_words_and_grade_in_aligned_columns(tmp_path: Path) -> None:
    ledger = full_ledger(tmp_path / "ledger.db")
    async with opened(ledger, role=Role.AUDITOR) as seen:
        await seen.press("2")
        line = seen.line("✓✓")
        assert "displayed (auth.)" in line
        titles = seen.lines()[TITLES]
        for name, text in (("State", "displayed"), ("Through", "11-20 12:00"), ("From", "sato"), ("To", "yamada@")):
            assert column(titles, name) == column(line, text)
        await seen.press("end")
        assert "✓✓ displayed (authenticated) 2026-11-20 12:09" in seen.text()


@in_a_loop
async def test_paging_down_goes_through_all_rows_and_end_and_home_lead_to_the_ends(many: Path) -> None:
    async with opened(many, role=Role.AUDITOR) as seen:
        await seen.press("2")
        first, met = shown(seen), set(shown(seen))
        for _ in range(ROWS // len(first) + 2):
            await seen.press("pagedown")
            met |= set(shown(seen))
        assert len(met) == ROWS
        assert cursor(seen)[0] == 1
        await seen.press("home")
        assert shown(seen) == first
        await seen.press("end")
        assert cursor(seen)[0] == 1
        assert "600 rows" in seen.lines()[STATUS]


@in_a_loop
async def test_only_enter_asks_and_each_filter_is_one_entry_whatever_is_paged_sorted_or_jumped_to(many: Path) -> None:
    async with opened(many, role=Role.AUDITOR) as seen:
        before = looks_on_record(many)
        await seen.press("2")
        assert looks_on_record(many) == before + 1
        await seen.press("pagedown", "end", "home", "s", "down", "enter", "g")
        await seen.write("2026-11-20")
        await seen.press("enter", "slash")
        await seen.write("to:yamada@partner.example state:waiting")
        await seen.press("tab", "up", "down", "escape")
        assert looks_on_record(many) == before + 1
        await filtered(seen, "to:yamada@partner.example")
        await seen.press("pagedown", "end", "s", "down", "enter")
        assert looks_on_record(many) == before + 2
        with at_desk(seen.app.where) as desk:
            newest = next(act for act in desk.acts(ActFilter()) if act.what == "list")
        assert "yamada@partner.example" in str(newest)


@in_a_loop
async def test_a_filter_shows_what_fits_and_stands_in_the_line_above(many: Path) -> None:
    async with opened(many, role=Role.AUDITOR) as seen:
        await seen.press("2")
        await filtered(seen, "to:@hq.partner.example")
        assert {address for _, address in shown(seen)} == {SUZUKI}
        assert "newest first · to:@hq.partner.example" in seen.lines()[STATUS]
        assert "300 rows" in seen.lines()[STATUS]
        assert [asked.text for asked in seen.posted(FilterBar.Asked)] == ["to:@hq.partner.example"]
        await seen.press("escape")
        assert "newest first · kind:mail" in seen.lines()[STATUS]


@in_a_loop
async def test_what_cannot_be_understood_is_marked_where_it_stands_and_the_list_stays(many: Path) -> None:
    async with opened(many, role=Role.AUDITOR) as seen:
        await seen.press("2")
        await filtered(seen, "to:@hq.partner.example")
        before = shown(seen)
        await filtered(seen, "state:waitin to:x")
        assert "column 7" in seen.text()
        assert "did you mean waiting?" in seen.text()
        underlined = [
            part.text for strip in seen.strips() for part in strip if part.style is not None and part.style.underline
        ]
        assert "waitin" in underlined
        assert len(seen.posted(FilterBar.Asked)) == 1
        await seen.press("escape")
        assert shown(seen) == before
        assert "to:@hq.partner.example" in seen.lines()[STATUS]


@in_a_loop
async def test_tab_completes_keys_words_rules_and_addresses_that_were_seen(many: Path) -> None:
    async with opened(many, role=Role.AUDITOR) as seen:
        await seen.press("2", "slash", "ctrl+u")
        await seen.write("sta")
        await seen.press("tab")
        await seen.write("wai")
        await seen.press("tab")
        await seen.write(" to:suz")
        await seen.press("tab")
        await seen.write(" rule:")
        await seen.press("tab", "enter")
        assert screen(seen).shown.wanted == Filter(states=("waiting",), to=SUZUKI, rule="partners")


@in_a_loop
async def test_tab_again_takes_the_next_and_shift_tab_the_one_before(many: Path) -> None:
    async with opened(many, role=Role.AUDITOR) as seen:
        await seen.press("2", "slash", "ctrl+u")
        await seen.write("direction:")
        line = screen(seen).bar.line
        await seen.press("tab", "tab")
        assert line.value == "direction:inbound"
        await seen.press("shift+tab")
        assert line.value == "direction:outbound"
        await seen.write(",int")
        await seen.press("tab")
        assert line.value == "direction:outbound,internal"


@in_a_loop
async def test_up_and_down_bring_back_what_was_asked_before(many: Path) -> None:
    async with opened(many, role=Role.AUDITOR) as seen:
        await seen.press("2")
        for text in ("state:waiting", "state:displayed"):
            await filtered(seen, text)
        await seen.press("slash", "up")
        assert screen(seen).bar.line.value == "state:waiting"
        await seen.press("down", "enter")
        assert screen(seen).text == "state:displayed"


@in_a_loop
async def test_n_shows_only_who_has_not_answered_and_everybody_again(many: Path) -> None:
    async with opened(many, role=Role.AUDITOR) as seen:
        await seen.press("2", "n")
        assert "no-answer" in seen.lines()[STATUS]
        assert "599 rows" in seen.lines()[STATUS]
        await seen.press("n")
        assert "600 rows" in seen.lines()[STATUS]


@in_a_loop
async def test_s_sorts_and_once_more_turns_the_order_round(many: Path) -> None:
    async with opened(many, role=Role.AUDITOR) as seen:
        await seen.press("2", "s", "down", "enter")
        assert "by recipient" in seen.lines()[STATUS]
        ends = {shown(seen)[0][1]}
        await seen.press("s", "down", "enter")
        assert "by recipient, from the end" in seen.lines()[STATUS]
        assert ends | {shown(seen)[0][1]} == {SUZUKI, YAMADA}
        assert (screen(seen).shown.order, screen(seen).shown.newest_first) == (Order.TO, False)


@in_a_loop
async def test_g_jumps_to_a_time_and_says_what_is_none(many: Path) -> None:
    async with opened(many, role=Role.AUDITOR) as seen:
        await seen.press("2", "g")
        await seen.write("yesterday")
        await seen.press("enter")
        assert '"yesterday" is no time' in seen.text()
        await seen.press("ctrl+u")
        await seen.write("2026-11-20T14:00")
        await seen.press("enter")
        assert "11-20 13:59" in seen.lines()[FIRST]
        assert cursor(seen) == shown(seen)[0]
        await seen.press("up")
        assert "11-20 14:00" in seen.lines()[FIRST]


@in_a_loop
async def test_a_jump_sorts_by_time(many: Path) -> None:
    async with opened(many, role=Role.AUDITOR) as seen:
        await seen.press("2", "s", "down", "enter", "g")
        assert "sorted by time" in seen.text()
        await seen.write("2026-11-20T12:00")
        await seen.press("enter")
        assert "newest first" in seen.lines()[STATUS]
        assert cursor(seen)[0] == 1


class Clock:
    """A clock that is turned on by hand."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        return self.now

    def turn(self, seconds: int) -> None:
        self.now += seconds * 1_000_000


def more(ledger: Path, numbers: Iterable[int]) -> None:
    """Messages that come in now."""
    with store(ledger) as opened_store, journal(opened_store) as adding:
        for number in numbers:
            adding.begin(record(to(), key=b"%d" % number, message_id=f"{number}@example.co.jp", minutes=number))


@in_a_loop
async def test_new_rows_appear_above_while_the_newest_are_seen_and_the_cursor_stays_on_its_row(many: Path) -> None:
    clock = Clock()
    async with opened(many, role=Role.AUDITOR, clock=clock) as seen:
        await seen.press("2", "down")
        await seen.pulse()
        clock.turn(2)
        before = cursor(seen)
        more(many, (1_000, 1_001))
        await seen.pulse()
        assert [number for number, _ in shown(seen)[:2]] == [302, 301]
        assert cursor(seen) == before
        assert "new" not in seen.lines()[STATUS].replace("newest", "")


@in_a_loop
async def test_away_from_the_newest_new_rows_are_counted_nothing_moves_and_home_shows_them(many: Path) -> None:
    clock = Clock()
    async with opened(many, role=Role.AUDITOR, clock=clock) as seen:
        await seen.press("2", "pagedown")
        await seen.pulse()
        before = shown(seen)
        clock.turn(2)
        more(many, range(1_000, 1_003))
        await seen.pulse()
        assert shown(seen) == before
        assert "3 new: Home" in seen.lines()[STATUS]
        await seen.press("home")
        assert [number for number, _ in shown(seen)[:3]] == [303, 302, 301]
        assert "Home" not in seen.lines()[STATUS]


@in_a_loop
async def test_a_state_that_changes_is_shown_but_what_is_seen_is_read_anew_at_most_every_two_seconds(
    many: Path,
) -> None:
    clock = Clock()
    async with opened(many, role=Role.AUDITOR, clock=clock) as seen:
        await seen.press("2")
        await seen.pulse()
        more(many, (1_000,))
        clock.turn(1)
        await seen.pulse()
        assert shown(seen)[0][0] == 300
        clock.turn(1)
        await seen.pulse()
        assert shown(seen)[0][0] == 301
        recipient = screen(seen).feed.window.rows[0].recipient
        with store(many) as opened_store, journal(opened_store) as adding:
            adding.begin(record(key=b"answer", minutes=1_010, message_id="a@x", evidence=(receipt(recipient),)))
        clock.turn(2)
        await seen.pulse()
        assert "✓✓ displayed (claimed)" in seen.lines()[FIRST]


@in_a_loop
async def test_enter_opens_all_about_the_row_and_comes_back_to_it(many: Path) -> None:
    async with opened(many, role=Role.AUDITOR) as seen:
        await seen.press("2", "down", "down")
        before = cursor(seen)
        await seen.press("enter")
        assert isinstance(seen.app.screen, DetailScreen)
        assert seen.app.screen.message == before[0]
        await seen.press("escape")
        assert cursor(seen) == before
        assert len(seen.posted(ReceiptList.Opened)) == 1


@in_a_loop
async def test_what_a_detail_comes_back_with_is_shown(many: Path) -> None:
    async with opened(many, role=Role.AUDITOR) as seen:
        await seen.press("2", "enter")
        seen.app.screen.dismiss(f"person:{SUZUKI}")
        await seen.settle()
        assert {address for _, address in shown(seen)} == {SUZUKI}


@pytest.mark.parametrize(("key", "person"), [("p", YAMADA), ("d", "@partner.example")])
@in_a_loop
async def test_all_of_a_person_or_a_domain_are_a_key_and_a_choice_away(many: Path, key: str, person: str) -> None:
    async with opened(many, role=Role.AUDITOR) as seen:
        await seen.press("2")
        while cursor(seen)[1] != YAMADA:
            await seen.press("down")
        await seen.press(key)
        assert "sato@example.co.jp" in seen.text() or "@example.co.jp" in seen.text()
        await seen.press("enter")
        assert screen(seen).shown.wanted == Filter(person=person)


@in_a_loop
async def test_export_is_told_as_the_command_with_the_same_filter(many: Path) -> None:
    async with opened(many, who=looks(Role.AUDITOR, unbound=True)) as seen:
        await seen.press("2")
        await filtered(seen, "to:@hq.partner.example no-answer")
        await seen.press("e")
        dialog = seen.app.screen
        assert isinstance(dialog, ExportDialog)
        assert dialog.typed == (
            f"kaifu receipts export --to=@hq.partner.example --state=delivered,waiting --ledger=sqlite:///{many}"
            " > receipts.csv"
        )
        assert "kaifu receipts export --to=@hq.partner.example" in seen.text()


@in_a_loop
async def test_filters_are_saved_under_a_name_shown_again_and_removed(many: Path) -> None:
    async with opened(many, role=Role.AUDITOR) as seen:
        await seen.press("2")
        await filtered(seen, "state:displayed")
        await seen.press("f", "enter")
        await seen.write("月次")
        await seen.press("enter", "escape", "f")
        assert "月次   state:displayed" in seen.text()
        await seen.press("enter")
        assert screen(seen).text == "state:displayed"
        await seen.press("f", "down", "down", "enter", "enter", "f")
        assert "月次" not in seen.text()


@in_a_loop
async def test_an_empty_ledger_and_a_filter_that_nothing_fits_are_a_sentence_each(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.db"
    with store(ledger):
        pass
    async with opened(ledger, role=Role.AUDITOR) as seen:
        await seen.press("2")
        assert "The ledger is empty" in seen.text()
        await filtered(seen, "state:waiting")
        assert "Nothing in the ledger fits." in seen.text()
        await seen.press("enter", "end", "home", "pagedown", "p", "d")
        assert isinstance(seen.app.screen, ReceiptsScreen)


@in_a_loop
async def test_a_ledger_that_is_gone_is_trouble_and_the_list_goes_on_when_it_is_back(many: Path) -> None:
    clock = Clock()
    async with opened(many, role=Role.AUDITOR, clock=clock) as seen:
        many.rename(many.with_suffix(".away"))
        await seen.press("2")
        assert "there is no ledger" in seen.text()
        many.with_suffix(".away").rename(many)
        clock.turn(5)
        await seen.pulse()
        assert len(shown(seen)) > 10
        assert "there is no ledger" not in seen.text()


@in_a_loop
async def test_a_filter_that_a_locked_ledger_could_not_answer_is_asked_again_by_itself(many: Path) -> None:
    clock = Clock()
    async with opened(many, role=Role.AUDITOR, clock=clock) as seen:
        await seen.press("2")
        await seen.pulse()
        with closing(connect(many, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            await filtered(seen, "state:displayed")
            assert screen(seen).feed.has_failed
            assert shown(seen) == []
            other.execute("ROLLBACK")
        clock.turn(RETRY_SECONDS)
        await seen.pulse()
        assert cursor(seen) == (1, YAMADA)


@in_a_loop
async def test_a_viewer_is_not_offered_the_list(many: Path) -> None:
    async with opened(many, role=Role.VIEWER) as seen:
        await seen.press("2")
        assert not any(isinstance(one, ReceiptsScreen) for one in seen.app.screen_stack)


@pytest.mark.parametrize("text", HOSTILE)
@in_a_loop
async def test_nothing_from_mail_steers_the_terminal_or_moves_a_column(tmp_path: Path, text: str) -> None:
    async with opened(hostile_ledger(tmp_path / "ledger.db", text), role=Role.AUDITOR) as seen:
        await seen.press("2", "m", "end")
        assert steering(seen.lines()) == []
        assert too_wide(seen.lines(), 80) == []
        await seen.press("p", "escape", "f", "escape", "e", "escape")
        assert steering(seen.lines()) == []


@in_a_loop
async def test_what_is_erased_is_said_to_be(tmp_path: Path) -> None:
    async with opened(erased_ledger(tmp_path / "ledger.db"), role=Role.AUDITOR) as seen:
        await seen.press("2", "m", "end")
        assert "(erased)" in seen.text()
        assert "(the reason is erased)" in seen.text()


@in_a_loop
async def test_lists_say_how_many_answered_and_rows_that_there_is_more(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.db"
    with store(ledger) as opened_store, journal(opened_store) as adding:
        adding.begin(record(to("all@partner.example"), to(SUZUKI), key=b"1"))
        others = [f"{name}@partner.example" for name in ("a", "b", "c")]
        pieces = tuple(receipt(1, by=by, message_id=by, alias=True) for by in others)
        other = receipt(2, verdict=Verdict.OTHER_ADDRESS, by="hisho@partner.example", message_id="o")
        adding.begin(record(key=b"2", minutes=5, message_id="x@x", evidence=(*pieces, other)))
    async with opened(ledger, role=Role.AUDITOR) as seen:
        await seen.press("2", "end")
        assert "answered" in seen.text()
        assert "✓✓" not in seen.text()
        assert "? 11-20 12:00" in seen.line("suzuki@")
        while cursor(seen)[1] != SUZUKI:
            await seen.press("up")
        assert "an answer of hisho@partner.example does not count" in seen.text()


@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.parametrize("size", [(80, 24), (110, 30), (132, 43), (200, 50), (60, 15)])
@in_a_loop
async def test_columns_are_aligned_in_every_size(tmp_path: Path, language: str, size: tuple[int, int]) -> None:
    ledger = tmp_path / "ledger.db"
    subjects = ("契約書のご確認", "Contract", "ｶﾀｶﾅ half", "👩‍⚖️ e\u0301", "")
    with store(ledger) as opened_store, journal(opened_store) as adding:
        for number, subject in enumerate(subjects):
            inbound = to(
                "佐藤@例え.example", direction=Direction.INBOUND, request=RequestState.STRIPPED, rule="規則 一"
            )
            adding.begin(record(inbound, key=b"%d" % number, subject=subject, minutes=number, message_id=f"{number}@x"))
    async with opened(ledger, role=Role.AUDITOR, language=language, size=size) as seen:
        await seen.press("2")
        assert too_wide(seen.lines(), size[0]) == []
        rows = [line for line in seen.lines() if "佐藤" in line][: len(subjects)]
        assert len({column(line, "sato") for line in rows}) == 1
        assert len({column(line, "佐藤") for line in rows}) == 1


@in_a_loop
async def test_ascii_draws_nothing_else_of_its_own(many: Path) -> None:
    with store(many) as opened_store, journal(opened_store) as adding:
        adding.begin(record(to(), key=b"ascii", minutes=900, message_id="ascii@x", subject="contract " * 30))
    async with opened(many, role=Role.AUDITOR, marks="ascii") as seen:
        await seen.press("2")
        await filtered(seen, "contract")
        assert [line for line in seen.lines() if not line.isascii()] == []
        assert "|" in seen.lines()[STATUS]


@in_a_loop
async def test_the_scroll_bar_is_at_an_end_only_where_the_list_is(many: Path) -> None:
    async with opened(many, role=Role.AUDITOR) as seen:
        await seen.press("2")
        bar, height = screen(seen).receipts, screen(seen).feed.window.height
        start, end = bar.thumb() or (-1, -1)
        assert start == 0
        assert end < height
        await seen.press("pagedown")
        start, end = bar.thumb() or (-1, -1)
        assert 0 < start < end < height
        await seen.press("end")
        start, end = bar.thumb() or (-1, -1)
        assert 0 < start < end == height
        await filtered(seen, "state:displayed")
        assert bar.thumb() is None


@in_a_loop
async def test_a_click_on_the_scroll_bar_leads_to_its_time_and_one_on_a_row_takes_the_cursor(many: Path) -> None:
    async with opened(many, role=Role.AUDITOR) as seen:
        await seen.press("2")
        await seen.click("ReceiptList", 20, 5)
        assert cursor(seen) == shown(seen)[4]
        await seen.click("ReceiptList", 79, 9)
        assert 100 < cursor(seen)[0] < 200
        await seen.click("ReceiptList", 79, 1)
        assert cursor(seen)[0] == 300


@in_a_loop
async def test_what_a_report_is_and_an_outcome_that_matters_stand_in_words(tmp_path: Path) -> None:
    async with opened(full_ledger(tmp_path / "ledger.db"), role=Role.AUDITOR) as seen:
        await seen.press("2", "m")
        assert "– withheld" in " ".join(seen.lines()[FIRST].split())


@in_a_loop
async def test_a_page_that_is_on_its_way_is_said_to_be(many: Path) -> None:
    async with opened(many, role=Role.AUDITOR) as seen:
        await seen.press("2")
        feed = screen(seen).feed
        feed.window.move(199)
        feed.moved(1)
        assert searching(feed, screen(seen).shown, UTC) == ""
        ask = feed.next()
        assert ask is not None
        assert searching(feed, screen(seen).shown, UTC) == "reading"
        feed.dropped(ask)


@in_a_loop
async def test_a_long_search_says_how_far_it_is_and_escape_stops_it(many: Path) -> None:
    async with opened(many, role=Role.AUDITOR) as seen:
        await seen.press("2")
        screen(seen).feed.searching = Place.of_time(NOW)
        screen(seen).go_on()
        await seen.settle()
        assert "back to 2026-11-20, esc stops" in seen.lines()[STATUS]
        await seen.press("escape")
        assert "stopped at 2026-11-20, r goes on" in seen.lines()[STATUS]
        assert screen(seen).feed.stopped
        await seen.press("r")
        assert not screen(seen).feed.stopped


@in_a_loop
async def test_without_colours_the_cursor_is_reversed_and_states_have_marks(many: Path) -> None:
    async with opened(many, role=Role.AUDITOR, colours=False) as seen:
        await seen.press("2", "down")
        assert any("no answer" in text for text in seen.reversed()) or any("✓" in text for text in seen.reversed())
        assert cell_len("".join(seen.reversed())) >= 79


@in_a_loop
async def test_a_long_list_is_not_counted_anew_with_each_message(many: Path) -> None:
    now = [NOW]

    async def comes(number: int, seconds: int) -> None:
        with store(many) as open_store, journal(open_store) as adding:
            adding.begin(record(to(), key=b"n%d" % number, message_id=f"n{number}@example.co.jp", minutes=600 + number))
        now[0] += seconds * 1_000_000
        await seen.pulse()

    async with opened(many, role=Role.AUDITOR, clock=lambda: now[0]) as seen:
        await seen.press("2")
        assert screen(seen).total == ROWS
        await comes(1, AGAIN_SECONDS)
        assert (shown(seen)[0][0], screen(seen).total) == (301, ROWS)
        await comes(2, COUNT_SECONDS)
        assert (shown(seen)[0][0], screen(seen).total) == (302, ROWS + 2)
