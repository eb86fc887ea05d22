"""What the screen Integrity tells, without the screen: chain, anchors and their age, what a verification proves; acts in words; filters of the trail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from tests.ledger_values import NOON, journal, store
from tests.tui_pilot import looks
from tests.tui_records import HOSTILE_TEXT, erased_ledger, full_ledger, hostile_ledger, steering

from kaifu.proxy.access import Role
from kaifu.proxy.health import UsedAnchor, Verified
from kaifu.proxy.ledger_anchor import Anchor
from kaifu.proxy.ledger_audit import ActFilter
from kaifu.proxy.ledger_chain import chain_state
from kaifu.proxy.ledger_desk import Act, Desk
from kaifu.proxy.ledger_entries import microseconds
from kaifu.proxy.ledger_file import Store
from kaifu.proxy.ledger_verify import Report
from kaifu.tui.attempts import NotDoneError
from kaifu.tui.audit_filter import described, fields_of, wanted
from kaifu.tui.audit_words import act_in_full, told_act
from kaifu.tui.integrity_anchors import kept_anchors, pasted_anchors
from kaifu.tui.integrity_lines import Outcome, State, age, progress_bar, proves, told_integrity
from kaifu.tui.integrity_words import FINDINGS
from kaifu.tui.lines import laid_out
from kaifu.tui.words import LANGUAGES, speak

NOW = microseconds(NOON) + 3 * 86_400_000_000
MINUTE = 60_000_000


@pytest.fixture(autouse=True)
def _english() -> Iterator[None]:
    speak("en")
    yield
    speak("en")


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return full_ledger(tmp_path / "ledger.db")


def state(
    path: Path, verified: Verified | None = None, outcome: Outcome | None = None, places: tuple[str, ...] | None = None
) -> State:
    with Desk(path, looks(Role.VIEWER)) as desk:
        return State(desk.chain(), desk.attention(NOW), verified, outcome, places)


def told(found: State, width: int = 300) -> str:
    lines = [line.plain for line in laid_out(told_integrity(found, UTC, NOW), width)]
    assert steering(lines) == []
    assert all(cell_len(line) <= width for line in lines)
    return " ".join(" ".join(lines).split())


def looked_at(path: Path, *anchors: Anchor) -> Report:
    with Desk(path, looks(Role.VIEWER)) as desk:
        return desk.verify(anchors, NOW)


def anchor_of(path: Path) -> Anchor:
    with Desk(path, looks(Role.ADMIN)) as desk:
        anchor = desk.anchor(NOON)
    assert anchor is not None
    return anchor


# The chain and its anchors.


def test_the_chain_is_told_and_that_nothing_is_anchored(ledger: Path) -> None:
    text = told(state(ledger, places=("file",)))
    assert "Sealed 8 entries in 1 batches" in text
    assert f"Ledger {anchor_of(ledger).ledger.hex()}" in text
    assert f"Head {anchor_of(ledger).head.hex()}" in text
    assert "file nothing was sent there yet" in text
    assert "No anchor was ever sent" in text
    assert "The oldest entry that no place has seen is of 2026-11-20 12:00 (3 days ago)." in text
    assert "It is not known that this ledger was ever verified." in text
    assert "Erasures None." in text


def test_anchors_are_told_with_their_age_and_what_came_after_them(ledger: Path) -> None:
    with store(ledger) as opened:
        with journal(opened) as adding:
            adding.act("anchored", {"batch": 1, "to": ["file", "mail"]}, {"actor": "root"})
        with journal(opened) as adding:
            adding.attest(1, "phone", 0, "root", "")
    text = told(state(ledger, places=("file", "mail", "command")))
    assert text.count("up to entry 8, sent") == 2
    assert text.count("1 entry since then is not anchored there") == 2
    assert "program nothing was sent there yet" in text
    assert "No anchor was ever sent" not in text


def test_settings_without_places_are_said_to_send_none(ledger: Path) -> None:
    assert "The settings name no place" in told(state(ledger, places=()))
    assert "The settings name no place" not in told(state(ledger))


def test_an_empty_ledger_is_told(tmp_path: Path) -> None:
    with store(tmp_path / "ledger.db"):
        pass
    assert "The ledger is empty." in told(state(tmp_path / "ledger.db"))


def test_erasures_are_listed_with_their_ground(tmp_path: Path) -> None:
    path = erased_ledger(tmp_path / "ledger.db")
    with closing(Store(path, write=False)) as opened:
        (erasure,) = chain_state(opened.db).erasures
    assert (erasure.ground, erasure.entries) == ("request", 8)
    assert "cells of 8 entries erased: a person asked for it (entry 9)" in told(state(path))


@pytest.mark.parametrize(
    ("ago", "words"),
    [
        (-5 * MINUTE, "0 minutes ago"),
        (MINUTE, "1 minute ago"),
        (119 * MINUTE, "119 minutes ago"),
        (120 * MINUTE, "2 hours ago"),
        (47 * 60 * MINUTE, "47 hours ago"),
        (48 * 60 * MINUTE, "2 days ago"),
        (4000 * 24 * 60 * MINUTE, "4,000 days ago"),
    ],
)
def test_ages_are_rough(ago: int, words: str) -> None:
    assert age(NOW - ago, NOW) == words


# Verifications.


def test_what_a_verification_proves_depends_on_the_anchors_that_hold(ledger: Path) -> None:
    anchor = anchor_of(ledger)
    with store(ledger) as opened, journal(opened) as adding:
        adding.attest(1, "phone", 0, "root", "")
    without = " ".join(proves(looked_at(ledger), []))
    assert "Without an anchor this shows that everything in the file agrees" in without
    held = " ".join(proves(looked_at(ledger, anchor), [anchor]))
    assert f"Since {anchor.at} nothing up to entry 8 was changed, removed, inserted or reordered." in held
    assert "Of entry 9 this shows that it agrees with the others." in held
    assert "Without an anchor" not in held
    for text in (without, held):
        assert "Not covered: the tables counts, served" in text


def test_no_entry_is_called_good_that_there_never_was(ledger: Path) -> None:
    anchor = anchor_of(ledger)
    ahead = anchor._replace(batch=anchor.batch + 50, last=anchor.last + 50)
    with store(ledger) as opened:
        last = opened.db.execute("SELECT max(id) FROM entries").fetchone()[0]
    text = " ".join(proves(looked_at(ledger, ahead), [ahead]))
    assert f"Entries 1 to {last} agree with everything that comes before them." in text


def _change_a_cell(opened: Store) -> None:
    opened.db.execute("UPDATE cells SET value = replace(value, 'asks', 'does not ask') WHERE name = 'to.1'")


def _remove_an_entry(opened: Store) -> None:
    opened.db.execute("DELETE FROM entries WHERE id = 5")


def _blank_a_cell(opened: Store) -> None:
    opened.db.execute("DELETE FROM cells WHERE name = 'subject'")


def _change_a_state(opened: Store) -> None:
    opened.db.execute("UPDATE recipients SET state = 'replied' WHERE id = 2")


@pytest.mark.parametrize(
    ("tamper", "what"),
    [
        (_change_a_cell, "changed"),
        (_remove_an_entry, "removed"),
        (_blank_a_cell, "blanked"),
        (_change_a_state, "derived"),
    ],
)
def test_findings_are_told_with_what_they_mean(ledger: Path, tamper: Callable[[Store], None], what: str) -> None:
    with store(ledger) as opened:
        tamper(opened)
        opened.db.commit()
    report = looked_at(ledger)
    text = told(state(ledger, outcome=Outcome(report, (), NOW)))
    assert "Result NOT INTACT" in text
    assert what in {finding.what for finding in report.findings}
    assert FINDINGS[what] in text
    assert report.findings[0].text in text
    assert "Result Intact" not in text


def test_an_anchor_that_does_not_agree_is_a_finding(ledger: Path) -> None:
    other = anchor_of(ledger)._replace(head=bytes(32))
    report = looked_at(ledger, other)
    text = told(state(ledger, outcome=Outcome(report, (other,), NOW)))
    assert FINDINGS["rewritten"] in text
    assert "nothing up to entry" not in text


def test_the_last_verification_is_told_with_who_asked_for_it_and_which_anchors_agreed(ledger: Path) -> None:
    anchor = anchor_of(ledger)
    used = (UsedAnchor(1, 8, anchor.at, True), UsedAnchor(1, 7, anchor.at, False))
    last = Verified(NOW - 3 * MINUTE, "alice", anchor.ledger.hex(), 8, 1, "", False, 2, ("entry 3 was changed",), used)
    text = told(state(ledger, last))
    for words in (
        "Last 2026-11-23 11:57 (3 minutes ago), by alice",
        "NOT INTACT: 2 findings",
        "entry 3 was changed.",
        "up to entry 8, of 2026-11-20T12:00:00Z: agrees",
        "up to entry 7, of 2026-11-20T12:00:00Z: does NOT agree",
    ):
        assert words in text
    assert "That was another ledger" not in text
    assert "That was another ledger" in told(state(ledger, Verified(NOW, "x", "00", 1, 1, "", True, 0, (), ())))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("width", [20, 78])
def test_what_somebody_wrote_into_the_file_of_the_last_verification_is_told_as_text(
    ledger: Path, width: int, language: str
) -> None:
    speak(language)
    evil = HOSTILE_TEXT
    told(
        state(ledger, Verified(NOW, evil, evil, 1, 1, evil, False, 1, (evil,), (UsedAnchor(1, 1, evil, True),))), width
    )


@pytest.mark.parametrize("language", LANGUAGES)
@given(st.integers(0, 10**12), st.integers(0, 10**12), st.integers(1, 200), st.sampled_from(("unicode", "ascii")))
def test_a_progress_bar_has_the_width_it_is_given(language: str, done: int, of: int, width: int, marks: str) -> None:
    speak(language)
    bar = progress_bar(done, of, width, marks)  # type: ignore[arg-type]
    assert cell_len(bar) == width
    assert language != "en" or marks == "unicode" or bar.isascii()


# Anchors at hand.


def test_anchors_are_found_in_a_file_whatever_else_is_in_it(ledger: Path, tmp_path: Path) -> None:
    anchor = anchor_of(ledger)
    path = tmp_path / "anchors"
    path.write_bytes(b"\xff\x00" * 50_000 + f"\n# kept\n{anchor}\nkaifu-anchor 1 x\n".encode())
    assert kept_anchors(path) == [anchor]
    assert kept_anchors(tmp_path / "nothing") == kept_anchors(tmp_path) == kept_anchors(None) == []
    assert pasted_anchors("  ") == []
    assert pasted_anchors(f" {anchor} ") == [anchor]
    with pytest.raises(NotDoneError):
        pasted_anchors("kaifu")


# The audit trail.

TOKYO = timezone(timedelta(hours=9))
EMPTY = {"what": "", "actor": "", "since": "", "until": "", "message": ""}


@pytest.mark.parametrize(
    ("given_", "filter_"),
    [
        ({}, ActFilter()),
        ({"what": "note, pair"}, ActFilter(what=("note", "pair"))),
        ({"what": "note、pair"}, ActFilter(what=("note", "pair"))),
        ({"actor": "alice"}, ActFilter(actor="alice")),
        ({"message": "#12"}, ActFilter(message=12)),
        ({"since": "1d"}, ActFilter(since=NOW - 24 * 60 * MINUTE)),
        ({"since": "2026-11-20T21:00"}, ActFilter(since=microseconds(NOON))),
        ({"until": "2026-11-20"}, ActFilter(until=microseconds(NOON) + 3 * 60 * MINUTE)),
    ],
)
def test_a_filter_is_what_was_typed(given_: dict[str, str], filter_: ActFilter) -> None:
    found = wanted(EMPTY | given_, TOKYO, NOW)
    assert found == filter_
    assert wanted(fields_of(found, TOKYO), TOKYO, NOW) == found
    assert bool(described(found, TOKYO)) == (found != ActFilter())


@pytest.mark.parametrize(
    ("given_", "sentence"),
    [
        ({"what": "note, nothing"}, '"nothing" is none of list, show'),
        ({"since": "yesterday"}, '"yesterday" is no time'),
        ({"until": "\x1b"}, "is no time"),
        ({"message": "twelve"}, '"twelve" is no number of a message'),
        ({"message": "9" * 30}, "is no number of a message"),
    ],
)
def test_what_a_filter_does_not_understand_is_said(given_: dict[str, str], sentence: str) -> None:
    with pytest.raises(NotDoneError, match=sentence):
        wanted(EMPTY | given_, TOKYO, NOW)


@given(st.text(), st.text(), st.text(), st.text(), st.text())
def test_whatever_is_typed_is_a_filter_or_a_sentence(
    what: str, actor: str, since: str, until: str, message: str
) -> None:
    try:
        found = wanted({"what": what, "actor": actor, "since": since, "until": until, "message": message}, UTC, NOW)
    except NotDoneError:
        return
    described(found, UTC)


@pytest.mark.parametrize(
    ("what", "details", "english", "japanese"),
    [
        (
            "list",
            {"filter": {"kinds": ["mail"], "states": ["waiting", "failed"], "since": "2026-11-20T15:00:00.000000Z"}},
            "looked at a list; kind: message; state: no answer / failed; since: 2026-11-21 00:00",
            "一覧を閲覧; 種類: メッセージ; 状態: 回答なし / 配信エラー; 以降: 2026-11-21 00:00",
        ),
        ("list", {"filter": {"newest": 50}}, "looked at a list; the newest 50 answers", "一覧を閲覧; 最新の回答50件"),
        (
            "note",
            {"value": "meeting", "seen_at": "2026-11-20T04:40:17.248618Z", "text": "seen {n}"},
            "noted a confirmation; seen {n}; in person; confirmed at: 2026-11-20 13:40",
            "確認を記録; seen {n}; 面談で確認; 確認日時: 2026-11-20 13:40",
        ),
        (
            "anchor",
            {"to": ["file", "mail"]},
            "sent an anchor; to: file / mail",
            "アンカーを送付; 宛先: ファイル / メール",
        ),
        ("bundle", {"to": "mail"}, "handed out an evidence bundle; to: mail", "証跡パッケージを作成; 宛先: mail"),
        (
            "refused",
            {"what": "audit list", "needs": "auditor"},
            "was refused; audit list; role needed: auditor",
            "権限がなく拒否; audit list; 必要な役割: 監査者",
        ),
        (
            "erasure",
            {"entries": [[3, 5], 9]},
            "erased personal data; entries: 3-5, 9",
            "個人データを消去; エントリ: 3-5, 9",
        ),
        ("list", {"filter": {"since": "2026"}}, "looked at a list; since: 2026", "一覧を閲覧; 以降: 2026"),
    ],
)
def test_acts_are_told_in_words_of_the_screens_and_times_of_the_zone(
    what: str, details: dict[str, Any], english: str, japanese: str
) -> None:
    act = Act(7, NOW, what, "sato", None, details)
    assert told_act(act, TOKYO) == english
    speak("ja")
    assert told_act(act, TOKYO) == japanese


def test_a_note_in_full_says_how_and_when_it_was_confirmed() -> None:
    act = Act(7, NOW, "note", "sato", 1, {"value": "phone", "seen_at": "2026-11-20T04:40:17.248618Z"})
    text = [f"{told.label}: {told.text}" for told in act_in_full(act, TOKYO)]
    assert text[-2:] == ["how: on the phone", "confirmed at: 2026-11-20 13:40"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_act_is_told_in_one_line_and_in_full_whatever_it_says(tmp_path: Path, language: str) -> None:
    speak(language)
    for number, make in enumerate((full_ledger, hostile_ledger, erased_ledger)):
        path = make(tmp_path / f"{number}.db")
        with store(path) as opened, journal(opened) as adding:
            adding.policy("0" * 64, "enforce", "version: 1\nrules: []\n", NOW)
            adding.act("handed-out", {"recipients": [1], "sha256": "0" * 64}, {"to": HOSTILE_TEXT, "purpose": "x"}, 1)
            adding.act("refused", {"what": "receipts list", "needs": "auditor"}, {"actor": HOSTILE_TEXT})
        with Desk(path, looks(Role.AUDITOR)) as desk:
            acts = desk.acts_page(ActFilter(), limit=500)
        assert len(acts) >= 4
        for act in acts:
            assert told_act(act, UTC)
            lines = [line.plain for line in laid_out(act_in_full(act, UTC), 60)]
            assert steering(lines) == []
            assert all(cell_len(line) <= 60 for line in lines)
            if act.what == "policy":
                assert "rules: []" not in told_act(act, UTC)
                assert any(line.strip() == "rules: []" for line in lines)
