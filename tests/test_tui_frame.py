"""The frame of the screens: bar, keys, help and commands, in every language, look and size, for every role."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import product
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.color import ColorType
from tests.tui_pilot import Seen, column, in_a_loop, opened, some_ledger, too_wide
from textual.app import ComposeResult
from textual.color import Color
from textual.css.query import NoMatches

from kaifu.proxy.access import Role
from kaifu.tui.app import SCREENS
from kaifu.tui.keys import KeysLine, doings
from kaifu.tui.line_view import LineView
from kaifu.tui.screens import KaifuScreen, Plain
from kaifu.tui.words import say

LEAST_CONTRAST = 4.5
"""WCAG 2.1, 1.4.3."""
DRAWN = " ░▒▓█▁▂▃▄▅▆▇│─╭╮╰╯"
"""What is no text."""
LEAVES = ("quit", "suspend_process", "help", "palette", "toggle_theme")


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return some_ledger(tmp_path / "ledger.db")


async def everywhere(seen: Seen) -> AsyncIterator[str]:
    """Every screen, its help and commands, and whatever its keys open."""
    for number, kind in seen.app.offered():
        await seen.press(str(number))
        yield kind.NAME
        for key in ("question_mark", "ctrl+p"):
            await seen.press(key)
            yield f"{kind.NAME} {key}"
            await back(seen)
        for doing in doings(seen.app.screen, seen.app.look.marks):
            if doing.node is not seen.app and doing.action not in LEAVES:
                await seen.app.run_action(doing.action, doing.node)
                await seen.settle()
                yield f"{kind.NAME} {doing.action}"
                await back(seen)


async def back(seen: Seen) -> None:
    """Close what lies over a screen."""
    while len(seen.app.screen_stack) > 1:
        before = seen.app.screen
        await seen.press("escape")
        if seen.app.screen is before:
            seen.app.pop_screen()
            await seen.settle()


@pytest.mark.parametrize(("language", "size"), [*product(("en", "ja"), ((80, 24), (60, 15), (132, 43)))])
@in_a_loop
async def test_nothing_overflows(ledger: Path, language: str, size: tuple[int, int]) -> None:
    async with opened(ledger, language=language, size=size) as seen:
        async for place in everywhere(seen):
            assert len(seen.lines()) == size[1]
            assert too_wide(seen.lines(), size[0]) == [], place


@pytest.mark.parametrize("language", ["en", "ja"])
@in_a_loop
async def test_bar_and_keys_are_whole_at_80_columns(ledger: Path, language: str) -> None:
    async with opened(ledger, language=language) as seen:
        for number in range(1, len(SCREENS) + 1):
            await seen.press(str(number))
            bar, foot = seen.lines()[0], seen.lines()[-1]
            assert bar.split() == [
                *" ".join(f"{n} {say(kind.TITLE)}" for n, kind in enumerate(SCREENS, 1)).split(), "sato", f"({say('admin')})"
            ]  # fmt: skip
            assert f" {number} {say(SCREENS[number - 1].TITLE)} " in "".join(seen.reversed())
            told = [doing for doing in doings(seen.app.screen, "unicode") if doing.shown]
            pieces = [piece for piece in foot.split("  ") if piece.strip()]
            assert {piece.strip() for piece in pieces} <= {f"{doing.names[0]} {doing.words}" for doing in told}
            assert [piece.strip() for piece in pieces][-3:] == [
                f"? {say('Help')}",
                f"^p {say('Commands')}",
                f"q {say('Quit')}",
            ]
            assert len(pieces) == len(told), "all that is worth a place at the foot has room"


@in_a_loop
async def test_keys_that_do_not_fit_are_left_out_whole(ledger: Path) -> None:
    async with opened(ledger, size=(50, 15)) as seen:
        assert seen.lines()[-1].rstrip().endswith("? Help  ^p Commands  q Quit")
        assert not too_wide(seen.lines(), 50)


@pytest.mark.parametrize("role", [Role.VIEWER, Role.AUDITOR, Role.ADMIN])
@in_a_loop
async def test_a_screen_that_the_role_does_not_open_is_not_offered(ledger: Path, role: Role) -> None:
    async with opened(ledger, role=role) as seen:
        bar = seen.lines()[0]
        assert ("2 Receipts" in bar) == (role >= Role.AUDITOR)
        assert "3 Policy" in bar
        await seen.press("2")
        assert (seen.app.current_mode == "receipts") == (role >= Role.AUDITOR)
        await seen.press("1", "question_mark")
        assert ("Receipts" in seen.text()) == (role >= Role.AUDITOR)
        await seen.press("escape", "ctrl+p")
        assert ("Receipts" in seen.text()) == (role >= Role.AUDITOR)


@in_a_loop
async def test_a_click_on_a_name_leads_to_its_screen_and_one_on_a_key_does_what_the_key_does(ledger: Path) -> None:
    async with opened(ledger) as seen:
        await seen.click("TopBar", column(seen.lines()[0], "Policy"))
        assert seen.app.current_mode == "policy"
        await seen.click("KeysLine", column(seen.lines()[-1], "Help"))
        assert say("Keys everywhere") in seen.text()


@in_a_loop
async def test_the_palette_finds_what_can_be_done_here_by_letters_of_it_and_does_it(ledger: Path) -> None:
    async with opened(ledger) as seen:
        await seen.press("ctrl+p")
        assert "Refresh" in seen.text()
        await seen.write("integ")
        assert [line for line in seen.lines() if "│ Receipts " in line or "│  Receipts " in line] == []
        await seen.press("enter")
        assert seen.app.current_mode == "integrity"
        await seen.press("ctrl+p")
        await seen.write("nothing like it")
        await seen.press("enter", "escape")
        assert seen.app.current_mode == "integrity"
        assert len(seen.app.screen_stack) == 1


@in_a_loop
async def test_help_and_commands_speak_japanese_and_tell_no_key_of_the_library_s(ledger: Path) -> None:
    async with opened(ledger, language="ja") as seen:
        async for place in everywhere(seen):
            if place.endswith(("question_mark", "ctrl+p")):
                for word in ("Focus", "Copy", "super", "Quit", "Help", "Search", "Commands", "Close", "Keys"):
                    assert word not in seen.text(), place


@in_a_loop
async def test_c_tells_how_to_quit_and_q_quits(ledger: Path) -> None:
    async with opened(ledger) as seen:
        await seen.press("ctrl+c")
        assert "q quits kaifu" in seen.text()
        assert "^q" not in seen.text()
        await seen.pilot.press("q")
        assert seen.app.return_code == 0


@in_a_loop
async def test_with_ascii_marks_nothing_of_ours_is_anything_but_ascii(ledger: Path) -> None:
    async with opened(ledger, marks="ascii") as seen:
        async for place in everywhere(seen):
            ours = set(seen.text()) - set("契約書のご確認")
            assert [character for character in ours if not character.isascii()] == [], f"{place}\n{seen.text()}"


@pytest.mark.parametrize("theme", ["dark", "light"])
@in_a_loop
async def test_all_text_can_be_read_on_its_background(ledger: Path, theme: str) -> None:
    async with opened(ledger, theme=theme) as seen:
        async for place in everywhere(seen):
            for text, ink, paper in inks(seen):
                contrast = _contrast(ink, paper)
                assert contrast >= LEAST_CONTRAST, f"{place}: {text!r} has {contrast:.1f}, {ink} on {paper}"


def inks(seen: Seen) -> Iterator[tuple[str, Color, Color]]:
    """Every text that can be read, its colour and that behind it; what lies beneath a dialog is not there to be read."""
    shown = seen.app.screen.region
    if seen.app.screen.is_modal:
        shown = max((child.region for child in seen.app.screen.children), key=lambda region: region.area)
    for strip in seen.strips()[shown.y : shown.bottom]:
        at = 0
        for text, style, _ in strip:
            here = shown.x <= at < shown.right
            at += cell_len(text)
            if here and text.strip(DRAWN) and style is not None and style.color and style.bgcolor:
                yield text, Color.from_rich_color(style.color), Color.from_rich_color(style.bgcolor)


def _contrast(one: Color, other: Color) -> float:
    """WCAG 2.1: of the relative luminances."""
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: Color) -> float:
    parts = [part / 255 for part in colour.rgb]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@in_a_loop
async def test_without_colours_none_is_drawn_and_where_one_is_can_still_be_seen(ledger: Path) -> None:
    async with opened(ledger, colours=False) as seen:
        async for place in everywhere(seen):
            styles = [style for strip in seen.strips() for _, style, _ in strip if style is not None]
            used = {colour.type for style in styles for colour in (style.color, style.bgcolor) if colour is not None}
            assert used <= {ColorType.DEFAULT}, place
            if place.endswith("ctrl+p"):
                assert doings(seen.app.screen_stack[-2], "unicode")[0].words in "".join(seen.reversed()), place
            elif place == seen.app.current_mode:
                assert seen.reversed()[0].strip()[2:] == say(seen.app.screen.TITLE or "")


class Late(KaifuScreen):
    """A screen whose work goes on after it was taken down; ``ended`` says how."""

    NAME = "late"

    def __init__(self) -> None:
        super().__init__()
        self.go_on = asyncio.Event()

    def body(self) -> ComposeResult:
        yield Plain("here", id="here")

    async def work(self) -> None:
        await self.go_on.wait()
        self.query_one("#nowhere" if self.is_current else "#here")


@in_a_loop
async def test_work_that_goes_on_after_its_screen_was_taken_down_is_no_mistake(ledger: Path) -> None:
    async with opened(ledger) as seen:
        late = Late()
        await seen.app.push_screen(late)
        watched = asyncio.create_task(late._watched(late.work()))
        await seen.app.pop_screen()
        late.go_on.set()
        await watched


@in_a_loop
async def test_what_a_living_screen_does_not_have_is_a_mistake(ledger: Path) -> None:
    async with opened(ledger) as seen:
        late = Late()
        await seen.app.push_screen(late)
        late.go_on.set()
        with pytest.raises(NoMatches):
            await late._watched(late.work())


@pytest.mark.parametrize("language", ["en", "ja"])
@in_a_loop
async def test_where_all_lines_fit_no_room_is_left_for_a_scroll_bar(ledger: Path, language: str) -> None:
    async with opened(ledger, language=language) as seen:
        async for place in everywhere(seen):
            for view in seen.app.screen.query(LineView):
                fits = view.count <= view.container_size.height
                assert view.show_vertical_scrollbar == (not fits), f"{place} {view.id}"


@in_a_loop
async def test_a_screen_that_is_much_too_small_says_so_and_comes_back(ledger: Path) -> None:
    async with opened(ledger, size=(30, 6)) as seen:
        assert seen.text().split() == "kaifu needs 50 columns and 12 lines.".split()
        assert not too_wide(seen.lines(), 30)
        await seen.pilot.resize_terminal(80, 24)
        await seen.settle()
        assert seen.app.screen.query_one(KeysLine).region.y == 23
        assert cell_len(seen.lines()[0]) == 80
