"""The policy screen: rules and how often they decided, a message that is tried, a candidate that is checked."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from tests.ledger_values import NOON, journal, record, store, to
from tests.tui_pilot import NOW, Seen, column, in_a_loop, looks, opened, some_ledger

from kaifu.policies.load import load_file
from kaifu.proxy.access import AccessError, Role
from kaifu.proxy.explain import Question, as_lines, explain
from kaifu.proxy.health import Health, PolicyHealth, Rejected, write_health
from kaifu.proxy.ledger_desk import ActFilter, Desk
from kaifu.proxy.ledger_entries import microseconds
from kaifu.proxy.ledger_open import ledger_path
from kaifu.proxy.message import HeaderBlock, split_message
from kaifu.proxy.settings import Settings, load_settings
from kaifu.tui.policy_read import Typed, composed
from kaifu.tui.policy_read import tried as try_message
from kaifu.tui.policy_told import pointed
from kaifu.tui.policy_try import TryScreen

POLICY = """version: 1
rules:
  - name: private mail is never tracked
    when: {sensitivity: [personal, private]}
    then: {request: strip, record: none}
  - name: partners
    when: {direction: outbound, to: "@partner.example", subject: /契約/}
    then: {request: add, retain: 7y}
  - name: never reached
    when: {direction: outbound, to: "@partner.example", subject: /契約/}
    then: {request: strip}
"""
AUDITOR = looks(Role.AUDITOR)
UNBOUND = looks(Role.ADMIN, unbound=True)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "kaifu.yaml").write_text(
        f"realm: [example.co.jp]\npolicy: policy.yaml\nledger: sqlite:///{tmp_path}/ledger.db\n"
    )
    some_ledger(tmp_path / "ledger.db")
    return load_settings(tmp_path / "kaifu.yaml")


def ledger_of(settings: Settings) -> Path:
    return ledger_path(settings.ledger)


def healthy(settings: Settings, digest: str, rejected: Rejected | None = None) -> None:
    """A relay that runs and has this policy in force."""
    policy = PolicyHealth(str(settings.policy), digest, "enforce", microseconds(NOON), rejected)
    health = Health(
        "1", 1, "relay", 1, str(settings.file), microseconds(NOON), ("127.0.0.1:25",), policy, NOW, counters={}
    )
    write_health(ledger_of(settings), health)


async def tried(seen: Seen, *fields: str) -> None:
    """On the policy screen: try with what is typed into the fields, from the first."""
    await seen.press("3", "m")
    for place, text in enumerate(fields):
        if place:
            await seen.press("down")
        await seen.write(text)
    await seen.press("enter")


@in_a_loop
async def test_rules_stand_in_their_order_with_how_often_they_decided(settings: Settings) -> None:
    async with opened(ledger_of(settings), settings=settings, who=AUDITOR) as seen:
        await seen.press("3")
        lines = [line for line in seen.lines() if line[:5].strip().isdigit()]
        assert [line.split()[:2] for line in lines] == [["1", "never"], ["2", "6"], ["3", "never"]]
        assert column(seen.line("30 days   Rule"), "Rule") == column(lines[0], "private mail")
        assert "sensitivity" in seen.text()
        assert "[personal, private]" in seen.text()
        await seen.press("down")
        assert "decided about 6 recipients" in seen.text()
        assert "/契約/" in seen.text()


@in_a_loop
async def test_columns_stay_aligned_in_japanese(settings: Settings) -> None:
    async with opened(ledger_of(settings), settings=settings, who=AUDITOR, language="ja") as seen:
        await seen.press("3")
        heads = seen.line("30日間   ルール")
        assert column(heads, "ルール") == column(seen.line("なし   private"), "private mail")


@in_a_loop
async def test_a_warning_marks_its_rule_and_is_told_with_its_line(settings: Settings) -> None:
    async with opened(ledger_of(settings), settings=settings, who=AUDITOR) as seen:
        await seen.press("3", "down", "down")
        assert "never ! never reached" in seen.text()
        assert "is never reached" in seen.text()
        await seen.press("end")
        assert "warning: " in seen.text()
        assert "9:" in seen.text()


@in_a_loop
async def test_a_viewer_sees_names_and_counts_and_warnings_and_is_offered_no_more(settings: Settings) -> None:
    async with opened(ledger_of(settings), settings=settings, who=looks(Role.VIEWER)) as seen:
        await seen.press("3", "down")
        assert "partners" in seen.text()
        assert "decided about 6 recipients" in seen.text()
        for secret in ("契約", "@partner.example", "Try a message", "Check a file"):
            assert secret not in seen.text()
        await seen.press("m", "c")
        assert len(seen.app.screen_stack) == 1
    with Desk(ledger_of(settings), UNBOUND) as desk:
        assert [act.what for act in desk.acts(ActFilter())] == ["audit"]


@in_a_loop
async def test_who_borrows_rights_names_no_files(settings: Settings) -> None:
    async with opened(ledger_of(settings), settings=settings, who=AUDITOR) as seen:
        await seen.press("3", "c")
        assert len(seen.app.screen_stack) == 1
        await seen.press("m")
        assert "Subject" in seen.text()
        assert "file" not in seen.text().replace("Try a message", "")


@in_a_loop
async def test_a_message_that_is_tried_is_explained_as_on_the_command_line_and_the_look_is_on_record(
    settings: Settings,
) -> None:
    async with opened(ledger_of(settings), settings=settings, who=AUDITOR, size=(120, 60)) as seen:
        await tried(seen, "legal@example.co.jp", "yamada@partner.example, x@example.org", "契約書")
        now = datetime.fromtimestamp(NOW / 1e6, UTC)
        raw = composed(Typed("legal@example.co.jp", "yamada@partner.example, x@example.org", "契約書"))
        with Desk(ledger_of(settings), UNBOUND) as desk:
            question = Question(
                "legal@example.co.jp", ("yamada@partner.example", "x@example.org"), raw, now, desk.known
            )
            told = explain(load_file(settings.policy), settings.realm, question)
            acts = [(act.what, act.actor) for act in desk.acts(ActFilter())]
        shown = " ".join(seen.text().split())
        for line in as_lines("message", told):
            assert " ".join(line.split()) in shown, line
        assert ("explain", "sato") in acts


@in_a_loop
async def test_a_message_can_be_one_that_asks_or_one_in_a_file(settings: Settings, tmp_path: Path) -> None:
    mail = tmp_path / "mail.eml"
    mail.write_text("From: a@example.co.jp\nSensitivity: private\nSubject: 契約\n\nx\n")
    async with opened(ledger_of(settings), settings=settings, who=UNBOUND, size=(100, 50)) as seen:
        await seen.press("3", "m", "ctrl+r")
        await seen.write("a@example.co.jp")
        await seen.press("down")
        await seen.write("b@partner.example")
        await seen.press("enter")
        assert "asks for a receipt: Disposition-Notification-To: a@example.co.jp" in seen.text()
        await seen.press("down", "down")
        await seen.write(str(mail))
        await seen.press("enter")
        assert 'Rule "private mail is never tracked"' in seen.text()


@in_a_loop
async def test_keys_that_arrive_at_once_stand_in_the_fields_for_which_they_were_typed(settings: Settings) -> None:
    async with opened(ledger_of(settings), settings=settings, who=AUDITOR) as seen:
        await seen.press("3", "m")
        await seen.burst("a@example.co.jp", "tab", "b@partner.example", "tab", "text", "shift+tab", "x")
        screen = seen.app.screen
        assert isinstance(screen, TryScreen)
        assert screen.typed() == Typed("a@example.co.jp", "b@partner.examplex", "text")


@in_a_loop
async def test_nothing_is_said_about_a_receipt_request_beside_a_file_that_may_carry_one(settings: Settings) -> None:
    async with opened(ledger_of(settings), settings=settings, who=UNBOUND) as seen:
        await seen.press("3", "m")
        assert "The message asks for no receipt." in seen.text()
        await seen.press("down", "down", "down")
        await seen.write("/tmp/mail.eml")
        for _ in range(2):
            assert "asks for no receipt" not in seen.text()
            assert "as the file says" in seen.text()
            await seen.press("ctrl+r")
        await seen.press(*["backspace"] * len("/tmp/mail.eml"))
        assert "The message asks for no receipt." in seen.text()


@in_a_loop
async def test_in_japanese_the_words_around_a_decision_are_japanese_and_labels_stand_apart(settings: Settings) -> None:
    async with opened(ledger_of(settings), settings=settings, who=UNBOUND, language="ja", size=(120, 60)) as seen:
        await tried(seen, "legal@example.co.jp", "yamada@partner.example", "契約書")
        for words in (
            "開封確認を要求していません",
            "（社外宛）",
            "メール",
            "配信します",
            "残します",
            "当てはまりません",
            "判定していません",
        ):
            assert words in seen.text(), f"{words}\n{seen.text()}"
        for words in ("delivered", "record  ", "does not hold", "not reached", "asks for no", "(outbound)"):
            assert words not in seen.text(), words
        await seen.press("down")
        await seen.write("/tmp/mail.eml")
        assert "メッセージファイル  /tmp/mail.eml" in seen.text()


@in_a_loop
async def test_what_cannot_be_tried_is_a_sentence(settings: Settings, tmp_path: Path) -> None:
    async with opened(ledger_of(settings), settings=settings, who=UNBOUND) as seen:
        await tried(seen)
        assert "! Type who sends to whom, or name a candidate." in " ".join(seen.text().split())
        await seen.write("nobody at all")
        await seen.press("down")
        await seen.write("b@partner.example")
        await seen.press("enter")
        assert "nobody at all: " in seen.text()
        for path in (tmp_path, tmp_path / "none", Path("/dev/zero")):
            await seen.press("escape")
            await tried(seen, "a@example.co.jp", "b@partner.example", "", str(path))
            assert str(path)[-20:] in seen.text().replace("\n", "")
            assert not seen.app.trouble


@in_a_loop
async def test_a_candidate_is_checked_with_every_error_and_the_line_where_it_is(
    settings: Settings, tmp_path: Path
) -> None:
    candidate = tmp_path / "new.yaml"
    candidate.write_text(POLICY.replace("retain: 7y", "retian: 7y").replace("request: strip}", "request: stripp}"))
    async with opened(ledger_of(settings), settings=settings, who=UNBOUND, size=(100, 30)) as seen:
        await seen.press("3", "c")
        await seen.write(str(candidate))
        await seen.press("enter")
        assert "cannot be used: 2 errors" in seen.text()
        assert 'did you mean "retain"?' in seen.text()
        quoted, under = (seen.lines()[seen.lines().index(seen.line("retian: 7y}")) + place] for place in (0, 1))
        assert column(quoted, "retian") == column(under, "^")


@in_a_loop
async def test_a_candidate_says_what_it_would_do_otherwise(settings: Settings, tmp_path: Path) -> None:
    candidate = tmp_path / "new.yaml"
    candidate.write_text(POLICY.replace("/契約/}\n    then: {request: add", "/見積/}\n    then: {request: add"))
    async with opened(ledger_of(settings), settings=settings, who=UNBOUND, size=(100, 60)) as seen:
        await tried(seen, "a@example.co.jp", "b@partner.example", "契約", "", str(candidate))
        shown = seen.text()
        assert "can be used: 3 rules" in shown
        changes = shown[shown.index("What the candidate changes") : shown.index("With the policy in the file")]
        assert 'now      Rule "partners" (line 6) asks for a read receipt' in changes
        assert 'then     Rule "never reached"' in changes
        candidate.write_text(POLICY)
        await seen.press("enter")
        shown = seen.text()
        assert "nothing" in shown[shown.index("What the candidate changes") : shown.index("With the policy")]


@in_a_loop
async def test_a_file_that_is_rejected_is_told_with_its_errors_and_the_version_in_force_is_shown(
    settings: Settings,
) -> None:
    digest = load_file(settings.policy).digest
    healthy(settings, digest)
    async with opened(ledger_of(settings), settings=settings, who=AUDITOR) as seen:
        await seen.press("3")
        assert "relay: in force since 2026-11-20 12:00" in seen.text()
        settings.policy.write_text(POLICY.replace("strip", "stirp"))
        healthy(settings, digest, Rejected(NOW, ("policy.yaml:5:21: no",)))
        await seen.press("r")
        assert "relay: the file was rejected 2026-11-20 13:00; the one from before is in force" in seen.text()
        assert "! The file is not in force: 2 errors" in seen.text()
        assert 'not "stirp"' in seen.text()
        settings.policy.write_text(POLICY + "\n")
        healthy(settings, digest)
        await seen.press("r")
        assert "relay still uses another version" in seen.text()


@in_a_loop
async def test_counts_follow_the_mail_and_the_file_by_themselves(settings: Settings) -> None:
    now = [NOW]
    async with opened(ledger_of(settings), settings=settings, who=AUDITOR, clock=lambda: now[0]) as seen:
        await seen.press("3")
        await seen.pulse()
        with store(ledger_of(settings)) as other, journal(other) as adding:
            adding.begin(record(to(rule="never reached"), key=b"new", message_id="new@example.co.jp"))
        await seen.pulse()
        assert "never ! never reached" in seen.text()
        now[0] += 31_000_000
        await seen.pulse()
        assert "1 ! never reached" in seen.text()
        settings.policy.write_text(POLICY.replace("name: partners", "name: renamed"))
        now[0] += 6_000_000
        await seen.pulse()
        assert "renamed" in seen.text()
        assert "6 - partners" in seen.text()


@in_a_loop
async def test_without_settings_the_screen_says_what_to_do(tmp_path: Path) -> None:
    async with opened(some_ledger(tmp_path / "ledger.db"), who=AUDITOR) as seen:
        await seen.press("3", "m", "r")
        assert "start with --config" in seen.text()
        assert len(seen.app.screen_stack) == 1


@given(st.text(), st.integers(1, 300))
def test_a_mark_stands_under_the_character_that_is_meant(line: str, place: int) -> None:
    quoted, under = pointed(line, place)
    assert under.text.endswith("^")
    assert cell_len(under.text) - 1 <= max(cell_len(quoted.text), 0) or place > len(line)


@given(st.text(), st.text(max_size=200))
def test_whatever_is_typed_becomes_one_message_whose_header_has_no_more_fields(recipients: str, subject: str) -> None:
    header, _ = split_message(composed(Typed("a@example.co.jp", recipients, subject)))
    names = [field.name for field in HeaderBlock.parse(header).fields]
    assert [str(name).lower() for name in names][:1] == ["from"] or names
    assert len(names) == 3


def test_a_message_is_explained_without_a_ledger_that_cannot_answer_and_not_for_who_is_refused(
    settings: Settings,
) -> None:
    typed = Typed("legal@example.co.jp", "yamada@partner.example", "契約書")
    now = datetime.fromtimestamp(NOW / 1e6, UTC)
    with Desk(ledger_of(settings), looks(Role.VIEWER)) as desk, pytest.raises(AccessError):
        try_message(desk, settings, typed, now)
    for beside in ledger_of(settings).parent.glob("ledger.db-*"):
        beside.unlink()
    ledger_of(settings).write_bytes(b"no database" * 999)
    with Desk(ledger_of(settings), AUDITOR) as desk:
        found = try_message(desk, settings, typed, now)
    assert found.now is not None
    assert "damaged or no SQLite database" in found.error
