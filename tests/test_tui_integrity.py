"""The screen Integrity, driven by keys: the chain for everybody, verifications that can be stopped, the audit trail and unmatched receipts for auditors."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from tests.ledger_values import NOON, YAMADA, bodies, journal, receipt, record, store, to
from tests.tui_pilot import NOW, Seen, in_a_loop, looks, opened, too_wide
from tests.tui_records import full_ledger, golden, hostile_ledger, steering, words

from kaifu.policies.facts import Direction
from kaifu.proxy.access import Role
from kaifu.proxy.health import read_verified
from kaifu.proxy.ledger import RequestState
from kaifu.proxy.ledger_cli import Chosen
from kaifu.proxy.ledger_desk import Desk
from kaifu.proxy.settings import Settings, load_settings
from kaifu.tui.audit_list import AuditList
from kaifu.tui.dialogs import Form
from kaifu.tui.integrity_run import Verification, is_of_settings
from kaifu.tui.line_view import LineView
from kaifu.tui.screen_detail import DetailScreen
from kaifu.tui.screen_integrity import IntegrityScreen

LANGUAGES = pytest.mark.parametrize("language", ["en", "ja"])


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return full_ledger(tmp_path / "ledger.db")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of that ledger, with a file for anchors."""
    (tmp_path / "policy.yaml").write_text("version: 1\nrules: []\n")
    path = tmp_path / "kaifu.yaml"
    path.write_text(
        f"realm: [example.co.jp]\npolicy: policy.yaml\nledger: sqlite:///{tmp_path}/ledger.db\nzone: UTC\n"
        f"anchors: {{file: {tmp_path}/anchors}}\n"
    )
    return load_settings(path)


def screen(seen: Seen) -> IntegrityScreen:
    (found,) = (one for one in seen.app.screen_stack if isinstance(one, IntegrityScreen))
    return found


def told(seen: Seen) -> list[str]:
    """What was said in passing."""
    return [one.message for one in seen.app._notifications]


def kinds(ledger: Path) -> list[str]:
    return [json.loads(body)["kind"] for body in bodies(ledger)]


def chain(seen: Seen) -> str:
    """All that is told of the chain, seen or not, blanks as one."""
    view = screen(seen).query_one("#chain", LineView)
    return " ".join(" ".join(line.plain for line in view._lines).split())


# The chain.


@LANGUAGES
@in_a_loop
async def test_the_chain_is_shown_to_everybody_who_may_see_figures(ledger: Path, language: str) -> None:
    async with opened(ledger, role=Role.VIEWER, language=language) as seen:
        await seen.press("4")
        assert too_wide(seen.lines(), 80) == []
        golden(f"integrity-{language}", seen.text())


@in_a_loop
async def test_what_comes_in_changes_the_chain_that_is_shown(ledger: Path) -> None:
    async with opened(ledger, role=Role.VIEWER) as seen:
        await seen.press("4")
        assert "8 entries in 1 batches" in seen.text()
        await seen.pulse()
        with store(ledger) as opened_, journal(opened_) as adding:
            adding.begin(record(to(), key=b"9", message_id="9@x"))
        await seen.pulse()
        assert "9 entries in 2 batches" in seen.text()


# Verifications.


@in_a_loop
async def test_a_verification_ends_with_what_it_proves_and_is_left_for_who_looks_next(
    ledger: Path, settings: Settings
) -> None:
    async with opened(ledger, role=Role.VIEWER, settings=settings) as seen:
        await seen.press("4", "v", "enter")
        assert "Result Intact" in chain(seen)
        assert "Without an anchor this shows that everything in the file agrees" in chain(seen)
        assert not screen(seen).query_one("#progress").display
    verified = read_verified(ledger)
    assert verified is not None
    assert (verified.whole, verified.by, verified.at, verified.entries) == (True, "sato", NOW, 8)
    async with opened(ledger, role=Role.VIEWER, settings=settings) as seen:
        await seen.press("4")
        assert "Last 2026-11-20 13:00 (0 minutes ago), by sato Result Intact" in chain(seen)


@in_a_loop
async def test_nothing_is_left_beside_a_ledger_that_the_settings_do_not_name(ledger: Path) -> None:
    async with opened(ledger, role=Role.VIEWER) as seen:
        await seen.press("4", "v", "enter")
        assert "Result Intact" in chain(seen)
    assert read_verified(ledger) is None


def test_which_ledger_the_settings_name_is_told_by_its_path(ledger: Path, settings: Settings) -> None:
    def chosen(path: Path) -> Chosen:
        return Chosen(path, settings.zone, looks(Role.VIEWER))

    assert is_of_settings(chosen(ledger), settings)
    assert not is_of_settings(chosen(ledger.with_name("copy.db")), settings)
    assert not is_of_settings(chosen(ledger), None)


@in_a_loop
async def test_it_compares_with_the_anchors_of_the_settings_and_with_one_that_is_pasted(
    ledger: Path, tmp_path: Path, settings: Settings
) -> None:
    with Desk(ledger, looks(Role.ADMIN)) as desk:
        anchor = desk.anchor(NOON)
    (tmp_path / "anchors").write_text(f"{anchor}\n")
    async with opened(ledger, role=Role.VIEWER, settings=settings) as seen:
        await seen.press("4", "v")
        assert "It is compared with 1 anchors of" in words(seen)
        await seen.write("nothing of the kind")
        await seen.press("enter")
        assert "this is no anchor" in words(seen)
        await seen.press("ctrl+a", "ctrl+k")
        await seen.write(str(anchor).replace(anchor.head.hex() if anchor else "", "0" * 64))
        await seen.press("enter")
        assert "NOT INTACT: 1 finding" in chain(seen)
        assert "batch 1 has another head than the anchor" in chain(seen)
        await seen.press("v", "enter")
        assert "Result Intact" in chain(seen)
        assert "Since 2026-11-20T12:00:00Z nothing up to entry 8 was changed" in chain(seen)


@in_a_loop
async def test_what_was_tampered_with_is_named(ledger: Path) -> None:
    with store(ledger) as opened_:
        opened_.db.execute("UPDATE cells SET value = replace(value, 'asks', 'does not ask') WHERE name = 'to.1'")
        opened_.db.commit()
    async with opened(ledger, role=Role.VIEWER) as seen:
        await seen.press("4", "v", "enter")
        assert "NOT INTACT" in chain(seen)
        assert "1 the cell to.1 of entry 1 was changed. An entry or a cell is not what was written." in chain(seen)
        assert "The ledger is NOT intact." in told(seen)


@in_a_loop
async def test_a_verification_that_is_stopped_says_nothing(ledger: Path, settings: Settings) -> None:
    main = threading.current_thread()
    seen_: list[Seen] = []

    def clock() -> int:
        # It is asked for the time in the thread that verifies, just before it begins.
        if threading.current_thread() is not main and seen_ and screen(seen_[0])._verification is not None:
            screen(seen_[0]).action_stop()
        return NOW

    async with opened(ledger, role=Role.VIEWER, settings=settings, clock=clock) as seen:
        await seen.press("4")
        seen_.append(seen)
        await seen.press("v", "enter")
        assert "The verification was stopped; it says nothing." in told(seen)
        assert "It is not known that this ledger was ever verified." in chain(seen)
        assert seen.app.trouble == ""
        seen_.clear()
        await seen.press("v", "enter")
        assert "Result Intact" in chain(seen)
    assert read_verified(ledger) is not None


@in_a_loop
async def test_progress_is_told_in_steps_up_to_the_end(ledger: Path) -> None:
    with store(ledger) as opened_:
        for some in range(3):
            with journal(opened_) as adding:
                for number in range(600):
                    adding.begin(record(to(), key=b"%d.%d" % (some, number), message_id=f"{some}.{number}@x"))
    steps: list[tuple[int, int]] = []
    running = Verification(
        Chosen(ledger, NOON.tzinfo, looks(Role.VIEWER)),  # type: ignore[arg-type]
        (),
        lambda: NOW,
        lambda done, of: steps.append((done, of)),
        keep=False,
    )
    report = await running.run()
    assert report is not None
    assert report.intact
    assert steps[-1] == (1808, 1808)
    assert [done for done, _ in steps] == sorted({done for done, _ in steps})
    assert len(steps) >= 3


@in_a_loop
async def test_a_ledger_that_is_gone_is_trouble_and_no_verification(ledger: Path) -> None:
    async with opened(ledger, role=Role.VIEWER) as seen:
        await seen.press("4", "v")
        for path in ledger.parent.glob("ledger.db*"):
            if path.is_file():
                path.unlink()
        await seen.press("enter")
        assert "there is no ledger at" in words(seen)
        assert screen(seen)._verification is None


# The audit trail.


def with_acts(ledger: Path, number: int = 3) -> Path:
    with store(ledger) as opened_, journal(opened_) as adding:
        for each in range(number):
            adding.attest(1 + each % 2, "phone", 0, "alice" if each % 2 else "bob", f"call {each}")
    return ledger


@in_a_loop
async def test_the_audit_trail_lists_who_did_what_newest_first_and_that_is_on_record_once(ledger: Path) -> None:
    async with opened(with_acts(ledger), role=Role.AUDITOR) as seen:
        await seen.press("4", "a")
        lines = [line for line in seen.lines() if "noted a confirmation" in line]
        assert [("alice" in line, f"call {2 - place}" in line) for place, line in enumerate(lines)] == [
            (False, True), (True, True), (False, True),
        ]  # fmt: skip
        assert "looked at the audit trail" in seen.text()
        for _ in range(3):
            await seen.pulse()
        await seen.press("c", "a", "r")
        assert sum(json.loads(body).get("what") == "audit" for body in bodies(ledger)) == 1


@LANGUAGES
@in_a_loop
async def test_an_act_is_shown_in_full_and_leads_to_its_message(ledger: Path, language: str) -> None:
    async with opened(with_acts(ledger), role=Role.AUDITOR, language=language) as seen:
        await seen.press("4", "a")
        await seen.press(*(["down"] * next(place for place, act in enumerate(acts(seen)) if act.what == "note")))
        await seen.press("enter")
        assert "call 2" in seen.text()
        assert "bob" in seen.text()
        assert too_wide(seen.lines(), 80) == []
        await seen.press("m")
        assert isinstance(seen.app.screen, DetailScreen)
        assert YAMADA in seen.text()
        await seen.press("escape")
        assert isinstance(seen.app.screen, IntegrityScreen)


def acts(seen: Seen):  # type: ignore[no-untyped-def]
    return screen(seen).query_one(AuditList).feed.window.rows


@in_a_loop
async def test_the_trail_is_filtered_by_what_who_and_message_and_all_of_it_comes_back(ledger: Path) -> None:
    async with opened(with_acts(ledger, 5), role=Role.AUDITOR) as seen:
        await seen.press("4", "a", "slash")
        await seen.write("note")
        await seen.press("tab")
        await seen.write("alice")
        await seen.press("enter")
        assert "Filter: what: note; who: alice" in seen.text()
        assert [act.actor for act in acts(seen)] == ["alice", "alice"]
        await seen.press("slash")
        form = seen.app.screen_stack[-1]
        assert isinstance(form, Form)
        assert form.given() == {"what": "note", "actor": "alice", "since": "", "until": "", "message": ""}
        await seen.press("ctrl+a", "ctrl+k")
        await seen.write("nonsense")
        await seen.press("enter")
        assert '"nonsense" is none of list, show' in words(seen)
        await seen.press("escape", "escape")
        assert "Filter:" not in seen.text()
        assert {act.what for act in acts(seen)} >= {"note", "audit", "list"}
        await seen.press("slash")
        await seen.write("hold")
        await seen.press("enter")
        assert "Nothing in the audit trail fits." in seen.text()


@in_a_loop
async def test_a_long_trail_is_walked_to_its_end_and_back_and_only_a_stretch_of_it_is_kept(ledger: Path) -> None:
    async with opened(with_acts(ledger, 5000), role=Role.AUDITOR) as seen:
        await seen.press("4", "a", "end")
        assert "call 0" in seen.lines()[-2]
        assert any("call 0" in text for text in seen.reversed())
        for _ in range(30):
            await seen.press("pageup")
        assert len(acts(seen)) <= 2200
        await seen.press("home")
        assert "looked at the audit trail" in seen.lines()[2]
        await seen.press("pagedown")
        assert too_wide(seen.lines(), 80) == []


@in_a_loop
async def test_new_acts_appear_in_a_trail_that_is_shown_from_its_newest_end(ledger: Path) -> None:
    async with opened(with_acts(ledger), role=Role.AUDITOR) as seen:
        await seen.press("4", "a")
        await seen.pulse()
        with_acts(ledger, 1)
        assert seen.text().count("call 0") == 1
        await seen.pulse()
        assert seen.text().count("call 0") == 2


# Receipts that match nothing.


def with_unmatched(ledger: Path) -> Path:
    from datetime import UTC, datetime

    own = to("sato@example.co.jp", direction=Direction.INBOUND, request=RequestState.NONE)
    stray = receipt(None, details={"original_message_id": "gone@elsewhere.example"}, message_id="stray@x")
    with store(ledger) as opened_, journal(opened_) as adding:
        adding.begin(record(own, key=b"u", at=datetime.now(UTC), kind="mdn", message_id="stray@x", evidence=(stray,)))
    return ledger


@in_a_loop
async def test_unmatched_receipts_are_listed_and_shown_in_full(ledger: Path) -> None:
    async with opened(ledger, role=Role.AUDITOR) as seen:
        await seen.press("4", "u")
        assert "gone@elsewhere.example" not in seen.text()
        with_unmatched(ledger)
        await seen.pulse()
        await seen.pulse()
        assert "receipt: displayed from yamada@partner.example; it names" in words(seen)
        await seen.press("home", "enter")
        assert "<gone@elsewhere.example>" in words(seen)
        assert "stray@x" in words(seen)
        assert "Kept until" in words(seen)


@in_a_loop
async def test_that_there_are_none_is_said(tmp_path: Path) -> None:
    with store(tmp_path / "ledger.db"):
        pass
    async with opened(tmp_path / "ledger.db", role=Role.AUDITOR) as seen:
        await seen.press("4", "u")
        assert "Every receipt of the last 14 days matches a message." in seen.text()
        await seen.press("enter")
        assert seen.app.screen is screen(seen)


# Roles, sections, hostile text.


@in_a_loop
async def test_a_viewer_is_not_offered_the_trail_and_is_refused_it_below_the_screen(ledger: Path) -> None:
    async with opened(ledger, role=Role.VIEWER) as seen:
        await seen.press("4")
        assert "Audit trail" not in seen.text()
        assert "Unmatched" not in seen.text()
        await seen.press("a", "u", "slash")
        assert screen(seen).section == "chain"
        await seen.press("question_mark")
        assert "Audit trail" not in seen.text()
        await seen.press("escape")
        for section in ("audit", "unmatched"):
            screen(seen).action_section(section)
            await seen.settle()
            assert "needs the role auditor" in words(seen)
            assert acts(seen) == []
        assert kinds(ledger)[-1] == "refused"
        assert "looked" not in kinds(ledger)


@in_a_loop
async def test_a_click_on_a_section_shows_it(ledger: Path) -> None:
    async with opened(ledger) as seen:
        await seen.press("4")
        await seen.click("SectionsLine", seen.line("Audit trail").index("Audit"))
        assert screen(seen).section == "audit"
        assert " a Audit trail " in seen.reversed()


@LANGUAGES
@in_a_loop
async def test_hostile_text_in_the_trail_never_reaches_the_terminal_raw(tmp_path: Path, language: str) -> None:
    ledger = hostile_ledger(tmp_path / "ledger.db")
    async with opened(ledger, language=language) as seen:
        await seen.press("4", "a")
        for place in range(len(acts(seen))):
            assert steering(piece.text for strip in seen.strips() for piece in strip) == []
            assert too_wide(seen.lines(), 80) == []
            await seen.press("enter")
            assert steering(piece.text for strip in seen.strips() for piece in strip) == []
            assert too_wide(seen.lines(), 80) == [], place
            await seen.press("escape", "down")
