"""The screen of one message, driven by keys: what it shows, what can be done there and by whom, and that it stays where it is."""

from __future__ import annotations

import json
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from rich.color import ColorType
from tests.ledger_values import NOON, SUZUKI, YAMADA, bodies, journal, receipt, record, store
from tests.test_tui_frame import LEAST_CONTRAST, inks
from tests.test_tui_frame import _contrast as contrast
from tests.tui_pilot import NOW, Seen, in_a_loop, looks, opened, too_wide
from tests.tui_records import SECRETARY, full_ledger, golden, hostile_ledger, steering, words

from kaifu.proxy.access import AccessError, Role
from kaifu.proxy.ledger_desk import Desk
from kaifu.proxy.settings import Settings, load_settings
from kaifu.tui.detail_acts import bundle
from kaifu.tui.dialogs import Dialog, Form
from kaifu.tui.line_view import LineView
from kaifu.tui.screen_detail import DetailScreen

LANGUAGES = pytest.mark.parametrize("language", ["en", "ja"])


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return full_ledger(tmp_path / "ledger.db")


@asynccontextmanager
async def detail(
    ledger: Path, message: int = 1, recipient: int = 1, **how: Any
) -> AsyncIterator[tuple[Seen, list[str | None]]]:
    """The screen over a message, and what it was dismissed with."""
    left: list[str | None] = []
    async with opened(ledger, **how) as seen:
        seen.app.push_screen(DetailScreen(message, recipient), left.append)
        await seen.settle()
        yield seen, left


def screen(seen: Seen) -> DetailScreen:
    (found,) = (one for one in seen.app.screen_stack if isinstance(one, DetailScreen))
    return found


def told(seen: Seen) -> str:
    """All that is told of the recipient, seen or not, blanks as one."""
    view = screen(seen).query_one("#told", LineView)
    return " ".join(" ".join(line.plain for line in view._lines).split())


def kinds(ledger: Path) -> list[str]:
    return [json.loads(body)["kind"] for body in bodies(ledger)]


@LANGUAGES
@pytest.mark.parametrize("marks", ["unicode", "ascii"])
@in_a_loop
async def test_a_message_is_shown_with_its_recipients_and_all_about_one(
    ledger: Path, language: str, marks: str
) -> None:
    async with detail(ledger, language=language, marks=marks) as (seen, _):
        assert too_wide(seen.lines(), 80) == []
        golden(f"detail-{language}-{marks}", seen.text())
        await seen.press("end")
        golden(f"detail-end-{language}-{marks}", seen.text())


@in_a_loop
async def test_the_chosen_recipient_is_reversed_and_keys_and_mouse_choose_another(ledger: Path) -> None:
    async with detail(ledger) as (seen, _):
        assert any(YAMADA in text for text in seen.reversed())
        await seen.press("right")
        assert any(SUZUKI in text for text in seen.reversed())
        assert f"Recipient {SUZUKI}" in told(seen)
        await seen.press("right")
        assert screen(seen).recipient == 2
        await seen.press("h")
        assert screen(seen).recipient == 1
        await seen.click("#recipients", 30, 1)
        assert screen(seen).recipient == 2


@in_a_loop
async def test_it_opens_at_the_recipient_that_was_chosen_and_leaves_by_escape(ledger: Path) -> None:
    async with detail(ledger, recipient=2) as (seen, left):
        assert any(SUZUKI in text for text in seen.reversed())
        await seen.press("escape")
        assert left == [None]


@in_a_loop
async def test_a_message_that_is_not_there_is_said_to_be_missing_and_offers_nothing(ledger: Path) -> None:
    async with detail(ledger, message=99) as (seen, _):
        assert "The ledger has no message 99." in seen.text()
        await seen.press("v", "p", "b", "n", "a", "u", "f", "right", "r")
        assert seen.app.screen is screen(seen)


@in_a_loop
async def test_what_comes_in_is_shown_and_the_place_is_kept(ledger: Path) -> None:
    async with detail(ledger, recipient=2, size=(80, 16)) as (seen, _):
        await seen.pulse()
        await seen.press("down", "down", "down")
        before = screen(seen).query_one("#told", LineView).scroll_offset
        assert before.y == 3
        with store(ledger) as opened_, journal(opened_) as adding:
            adding.begin(record(key=b"9", minutes=50, evidence=(receipt(2, "deleted", message_id="new"),)))
        await seen.pulse()
        assert "deleted unread (claimed)" in told(seen)
        assert screen(seen).query_one("#told", LineView).scroll_offset == before
        assert screen(seen).recipient == 2


@in_a_loop
async def test_to_look_again_is_not_another_look_on_record(ledger: Path) -> None:
    async with detail(ledger) as (seen, _):
        await seen.press("r", "p", "escape", "right", "r")
        await seen.pulse()
        about = [json.loads(body) for body in bodies(ledger)]
        assert sum(one["kind"] == "looked" and one["what"] == "show" for one in about) == 1


# Reports and proof.


@LANGUAGES
@in_a_loop
async def test_the_raw_reports_can_be_read_one_after_another(ledger: Path, language: str) -> None:
    async with detail(ledger, message=2, recipient=3, language=language) as (seen, _):
        await seen.press("v")
        golden(f"detail-report-{language}", seen.text())
        await seen.press("right")
        assert "2/2" in seen.text()
        assert SECRETARY in seen.text()
        await seen.press("right", "left")
        assert "1/2" in seen.text()
        await seen.press("escape")
        assert seen.app.screen is screen(seen)


@in_a_loop
async def test_a_proof_is_shown(ledger: Path) -> None:
    async with detail(ledger) as (seen, _):
        await seen.press("p")
        assert "Intact: each entry is what was sealed, up to the newest head." in seen.text()
        assert "not covered by any anchor yet" in seen.text()


# What people do.


@in_a_loop
async def test_a_phone_call_is_noted_and_taken_back(ledger: Path) -> None:
    async with detail(ledger) as (seen, _):
        await seen.press("n", "down", "tab")
        await seen.press("ctrl+a", "ctrl+k", "tab")
        await seen.write("he said [red]yes[/]")
        await seen.press("enter")
        assert seen.app.screen is screen(seen)
        assert "noted: confirmed in person at 2026-11-20 13:00, says sato" in told(seen)
        assert "he said [red]yes[/]" in told(seen)
        await seen.press("u")
        assert "note 11: in person, he said [red]yes[/]" in seen.text()
        await seen.press("enter")
        assert "is taken back, says sato" in told(seen)
        assert kinds(ledger)[-2:] == ["attested", "revoked"]
        await seen.press("u")
        assert seen.app.screen is screen(seen), "there is nothing left to take back"


@in_a_loop
async def test_enter_pressed_twice_notes_once(ledger: Path) -> None:
    async with detail(ledger) as (seen, _):
        await seen.press("n")
        form = seen.app.screen_stack[-1]
        assert isinstance(form, Form)
        for _ in range(3):
            form.action_do()
        await seen.settle()
        assert seen.app.screen is screen(seen)
        assert kinds(ledger).count("attested") == 1


@pytest.mark.parametrize(
    ("at", "sentence"),
    [("tomorrow", '! "tomorrow" is no time; give a date'), ("2026-11-21", "! That time lies in the future.")],
)
@in_a_loop
async def test_a_note_with_an_impossible_time_stays_open_with_what_was_typed(
    ledger: Path, at: str, sentence: str
) -> None:
    async with detail(ledger) as (seen, _):
        await seen.press("n", "tab", "ctrl+a", "ctrl+k")
        await seen.write(at)
        await seen.press("tab")
        await seen.write("said so")
        await seen.press("enter")
        assert sentence in seen.text()
        form = seen.app.screen_stack[-1]
        assert isinstance(form, Form)
        assert form.given()["text"] == "said so"
        assert "attested" not in kinds(ledger)
        await seen.press("escape")
        assert seen.app.screen is screen(seen)


@in_a_loop
async def test_an_address_that_answered_is_paired_and_then_counts(ledger: Path) -> None:
    async with detail(ledger) as (seen, _):
        await seen.press("a")
        assert not isinstance(seen.app.screen, Dialog), "nobody else answered for the first recipient"
        await seen.press("right", "a")
        assert SECRETARY in seen.text()
        assert "in all others" in words(seen)
        await seen.press("tab")
        await seen.write("his secretary")
        await seen.press("enter")
        assert "✓✓ displayed (claimed)" in told(seen)
        assert f"paired: {SECRETARY} answers for {SUZUKI}, says sato" in told(seen)
        await seen.press("u", "enter")
        assert "State ✓ no answer" in told(seen)


@in_a_loop
async def test_what_the_ledger_refuses_is_a_sentence_in_the_form(ledger: Path) -> None:
    async with detail(ledger, recipient=2) as (seen, _):
        await seen.press("a")
        with store(ledger) as opened_, journal(opened_) as adding:
            adding.pair(2, SECRETARY, "root", "")
        await seen.press("tab", "enter")
        assert f"! {SECRETARY} was paired with {SUZUKI} already" in words(seen)


# Bundles.


def handed_out(ledger: Path) -> list[dict[str, Any]]:
    return [found for body in bodies(ledger) if (found := json.loads(body))["kind"] == "handed-out"]


@in_a_loop
async def test_a_bundle_is_written_to_a_new_file_that_its_owner_alone_reads(
    ledger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with detail(ledger, who=looks(Role.AUDITOR, unbound=True)) as (seen, _):
        await seen.press("b")
        await seen.press("ctrl+s")
        assert "Say to whom you hand it and why" in seen.text()
        await seen.write("a court")
        await seen.press("tab")
        await seen.write("case 7")
        await seen.press("tab", "tab", "enter")
        path = tmp_path / "kaifu-1-1.zip"
        assert path.read_bytes().startswith(b"PK")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        octets = path.read_bytes()
        await seen.pulse()
        assert f"kaifu-1-1.zip: {len(octets):,} octets, SHA-256 {sha256(octets).hexdigest()}" in words(seen)
        await seen.press("escape")
        assert f"evidence bundle handed to a court by sato case 7 SHA-256 {sha256(octets).hexdigest()}" in told(seen)
        assert len(handed_out(ledger)) == 1
        await seen.press("b")
        await seen.write("a court")
        await seen.press("tab")
        await seen.write("case 7")
        await seen.press("ctrl+s")
        assert "is there already; nothing is overwritten" in words(seen)
        assert path.read_bytes() == octets
        assert len(handed_out(ledger)) == 1


@in_a_loop
async def test_who_borrows_rights_is_told_what_to_type_and_no_file_is_touched(
    ledger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with detail(ledger, recipient=2, role=Role.AUDITOR) as (seen, _):
        await seen.press("b")
        assert "New file" not in seen.text()
        await seen.write("a; rm -rf court")
        await seen.press("tab")
        await seen.write("it's due")
        await seen.press("tab", "enter")
        text = words(seen)
        assert f"kaifu receipts show 1 --to {SUZUKI} --recipient 'a; rm -rf court' --purpose" in text
        assert "--bundle - > kaifu-1-2.zip" in text
    assert handed_out(ledger) == []
    assert not list(tmp_path.glob("*.zip"))


@in_a_loop
async def test_a_command_to_type_names_the_settings_when_they_are_not_the_usual_ones(
    ledger: Path, tmp_path: Path
) -> None:
    (tmp_path / "policy.yaml").write_text("version: 1\nrules: []\n")
    path = tmp_path / "k.yaml"
    path.write_text(f"realm: [example.co.jp]\npolicy: policy.yaml\nledger: sqlite:///{ledger}\n")
    async with detail(ledger, role=Role.AUDITOR, settings=load_settings(path)) as (seen, _):
        await seen.press("b")
        await seen.write("a court")
        await seen.press("tab")
        await seen.write("case 7")
        await seen.press("tab", "enter")
        assert f"--config={path}--bundle->" in "".join(words(seen).split())  # a long path is broken


@in_a_loop
async def test_the_newest_anchor_of_the_file_in_the_settings_is_proposed(ledger: Path, tmp_path: Path) -> None:
    with Desk(ledger, looks(Role.ADMIN)) as desk:
        anchor = desk.anchor(NOON)
    assert anchor is not None
    older = anchor._replace(batch=anchor.batch + 1, last=0)
    (tmp_path / "anchors").write_text(f"# kept\n{anchor}\nno anchor\n{older}\n")
    settings = _settings(tmp_path, f"anchors: {{file: {tmp_path / 'anchors'}}}")
    async with detail(ledger, settings=settings, who=looks(Role.AUDITOR, unbound=True)) as (seen, _):
        await seen.press("b")
        form = seen.app.screen_stack[-1]
        assert isinstance(form, Form)
        assert form.given()["anchor"] == str(anchor)
        await seen.write("a court")
        await seen.press("tab")
        await seen.write("case 7")
        await seen.press("tab", "ctrl+a", "ctrl+k")
        await seen.write("kaifu-anchor 1 of nothing")
        await seen.press("ctrl+s")
        assert "this is no anchor" in seen.text()
    assert handed_out(ledger) == []


def _settings(directory: Path, more: str) -> Settings:
    path = directory / "kaifu.yaml"
    (directory / "policy.yaml").write_text("version: 1\nrules: []\n")
    path.write_text(
        f"realm: [example.co.jp]\npolicy: policy.yaml\nledger: sqlite:///{directory}/ledger.db\nzone: UTC\n{more}\n"
    )
    return load_settings(path)


# Where to go on.


@in_a_loop
async def test_it_leads_to_all_messages_of_a_person_or_a_domain(ledger: Path) -> None:
    async with detail(ledger) as (seen, left):
        await seen.press("f")
        assert "All messages from and to yamada@partner.example" in seen.text()
        assert "All messages from and to @example.co.jp" in seen.text()
        await seen.press("escape", "f", "down", "down", "enter")
        assert left == ["person:@partner.example"]


# Roles.


@in_a_loop
async def test_an_auditor_is_not_offered_what_only_an_admin_may_do_and_its_keys_do_nothing(ledger: Path) -> None:
    async with detail(ledger, recipient=2, role=Role.AUDITOR) as (seen, _):
        assert "n Note" not in seen.text()
        assert "b Bundle" in seen.text()
        await seen.press("question_mark")
        assert "Pair an address" not in seen.text()
        await seen.press("escape", "n", "a", "u")
        assert seen.app.screen is screen(seen)


@pytest.mark.parametrize("action", ["note", "pair"])
@in_a_loop
async def test_what_an_auditor_gets_at_nevertheless_is_refused_below_the_screen(ledger: Path, action: str) -> None:
    async with detail(ledger, recipient=2, role=Role.AUDITOR) as (seen, _):
        getattr(screen(seen), f"action_{action}")()
        await seen.settle()
        await seen.press("ctrl+s")
        assert "needs the role admin" in words(seen)
        assert kinds(ledger)[-1] == "refused"
        assert "attested" not in kinds(ledger)
        assert "paired" not in kinds(ledger)


@in_a_loop
async def test_a_viewer_who_gets_there_sees_nothing(ledger: Path) -> None:
    async with detail(ledger, role=Role.VIEWER) as (seen, _):
        assert YAMADA not in seen.text()
        assert "needs the role auditor" in seen.text()


# What came from outside.


@LANGUAGES
@in_a_loop
async def test_hostile_text_never_reaches_the_terminal_raw(tmp_path: Path, language: str) -> None:
    ledger = hostile_ledger(tmp_path / "ledger.db")
    for message in (1, 2):
        async with detail(ledger, message=message, recipient=message, language=language) as (seen, _):
            for keys in (
                (),
                ("end",),
                ("v",),
                ("end",),
                ("escape", "p"),
                ("escape", "f"),
                ("escape", "u"),
                ("escape", "b"),
                ("escape", "n"),
            ):
                await seen.press(*keys)
                pieces = [piece.text for strip in seen.strips() for piece in strip]
                assert steering(pieces) == [], (message, keys)
                assert too_wide(seen.lines(), 80) == [], (message, keys)
                links = [
                    p.style.meta for s in seen.strips() for p in s if p.style is not None and p.style.meta.get("@click")
                ]
                assert links == []


@in_a_loop
async def test_what_is_pasted_into_a_form_is_made_visible(ledger: Path) -> None:
    async with detail(ledger) as (seen, _):
        await seen.press("n", "tab", "tab")
        await seen.write("\x1b[2J\u202eevil\x07")
        assert "\\x1b[2J\\u202eevil\\x07" in seen.text()
        assert steering(seen.lines()) == []


@pytest.mark.parametrize(
    ("language", "size"), [("en", (80, 24)), ("ja", (80, 24)), ("en", (60, 15)), ("ja", (132, 43))]
)
@in_a_loop
async def test_nothing_overflows_whatever_is_opened(ledger: Path, language: str, size: tuple[int, int]) -> None:
    async with detail(ledger, recipient=2, language=language, size=size) as (seen, _):
        async for place in everything(seen):
            assert len(seen.lines()) == size[1]
            assert too_wide(seen.lines(), size[0]) == [], place


@in_a_loop
async def test_with_ascii_marks_nothing_of_ours_is_anything_but_ascii(ledger: Path) -> None:
    async with detail(ledger, recipient=2, marks="ascii") as (seen, _):
        async for place in everything(seen):
            ours = seen.text().replace("契約書のご確認", "")
            assert [character for character in ours if not character.isascii()] == [], f"{place}\n{seen.text()}"


@pytest.mark.parametrize("theme", ["dark", "light"])
@in_a_loop
async def test_all_text_can_be_read_on_its_background(ledger: Path, theme: str) -> None:
    async with detail(ledger, recipient=2, theme=theme) as (seen, _):
        async for place in everything(seen):
            for text, ink, paper in inks(seen):
                assert contrast(ink, paper) >= LEAST_CONTRAST, f"{place}: {text!r}, {ink} on {paper}"


@in_a_loop
async def test_without_colours_none_is_drawn_and_the_chosen_recipient_is_reversed(ledger: Path) -> None:
    async with detail(ledger, recipient=2, colours=False) as (seen, _):
        async for place in everything(seen):
            styles = [style for strip in seen.strips() for _, style, _ in strip if style is not None]
            used = {colour.type for style in styles for colour in (style.color, style.bgcolor) if colour is not None}
            assert used <= {ColorType.DEFAULT}, place
        assert any(SUZUKI in text for text in seen.reversed())


async def everything(seen: Seen) -> AsyncIterator[str]:
    """The screen, and whatever its keys open."""
    with Desk(screen(seen).kaifu.where.path, looks(Role.ADMIN)) as desk:
        desk.attest(2, "phone", NOW, "said so")
    await seen.press("r")
    yield "detail"
    for key in ("v", "p", "b", "n", "a", "u", "f", "question_mark"):
        await seen.press(key)
        assert seen.app.screen is not screen(seen), key
        yield key
        await seen.press("escape")


def test_a_file_is_refused_to_who_borrows_rights_below_the_screen_too(ledger: Path, tmp_path: Path) -> None:
    given = {"to": "a court", "purpose": "case 7", "anchor": "", "file": str(tmp_path / "bundle.zip")}
    with Desk(ledger, looks(Role.ADMIN)) as desk:
        row = desk.details("1")[0].recipients[0]
        with pytest.raises(AccessError, match="would use the service user's rights"):
            bundle(row, given, UTC)(desk)
    assert not (tmp_path / "bundle.zip").exists()
    assert handed_out(ledger) == []
    assert kinds(ledger)[-1] == "refused"


@in_a_loop
async def test_what_is_typed_ahead_lands_in_the_field_that_it_was_meant_for(ledger: Path) -> None:
    async with detail(ledger) as (seen, _):
        await seen.press("n", "tab")
        await seen.pilot.press("ctrl+a", "ctrl+k", *"30m", "tab", *"on the phone")
        await seen.settle()
        form = seen.app.screen_stack[-1]
        assert isinstance(form, Form)
        assert form.given() == {"how": "phone", "at": "30m", "text": "on the phone"}


@in_a_loop
async def test_a_ledger_that_could_not_be_asked_is_asked_again(ledger: Path) -> None:
    aside = ledger.with_name("aside.db")
    ledger.rename(aside)
    async with detail(ledger) as (seen, _):
        assert YAMADA not in seen.text()
        assert "there is no ledger" in words(seen)
        aside.rename(ledger)
        await seen.pulse()
        assert YAMADA in seen.text()
        assert seen.app.trouble == ""
