"""The screens of one message and of integrity in a real terminal of 80 columns and 24 lines, in both languages."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.tui_pilot import column, too_wide
from tests.tui_records import full_ledger, steering
from tests.tui_tmux import Terminal

WORDS = {
    "C.UTF-8": {
        "receipts": "Receipts", "timeline": "Timeline", "state": "State", "rule": "Rule", "why": "Why", "leave": "esc: leave",
        "chain": "Chain", "intact": "Intact", "trail": "looked at the audit trail", "proof": "not covered by any anchor yet",
    },
    "ja_JP.UTF-8": {
        "receipts": "開封確認", "timeline": "経過", "state": "状態", "rule": "ルール", "why": "理由", "leave": "esc: 閉じる",
        "chain": "チェーン", "intact": "完全です", "trail": "監査証跡を閲覧", "proof": "まだどのアンカーの対象でもありません",
    },
}  # fmt: skip


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "policy.yaml").write_text("version: 1\nrules: []\n")
    config = tmp_path / "kaifu.yaml"
    config.write_text(f"realm: [example.co.jp]\npolicy: policy.yaml\nledger: sqlite:///{tmp_path}/ledger.db\n")
    full_ledger(tmp_path / "ledger.db")
    return config


def whole(terminal: Terminal) -> list[str]:
    """The lines, of which none is too wide and none steers the terminal."""
    lines = terminal.lines()
    assert too_wide(lines, 80) == []
    assert steering(lines) == []
    return lines


def _has_cursor(terminal: Terminal, text: str) -> bool:
    return any(text in line for line in terminal.reversed())


@pytest.mark.parametrize("language", WORDS)
def test_a_message_is_opened_read_and_left(config: Path, language: str) -> None:
    words = WORDS[language]
    with Terminal("--config", config, language=language) as terminal:
        terminal.wait_for(words["receipts"])
        terminal.press("2")
        terminal.wait_until(lambda: _has_cursor(terminal, "suzuki@"), "the cursor on the first row")
        terminal.press("End")
        terminal.wait_until(lambda: _has_cursor(terminal, "yamada@"), "the cursor on the last row")
        terminal.press("Enter")
        terminal.wait_for(words["state"], words["timeline"])
        fields = [line for line in whole(terminal) if line[1:].startswith((words["rule"], words["why"]))]
        assert column(fields[0], "partners") == column(fields[1], "Rule partners")
        terminal.press("p")
        terminal.wait_for(words["proof"])
        whole(terminal)
        terminal.press("Escape")
        terminal.wait_for_no(words["proof"])
        terminal.press("v")
        terminal.wait_for(words["leave"])
        whole(terminal)
        terminal.press("Escape")
        terminal.wait_for(words["state"])
        terminal.press("Escape")
        terminal.wait_for_no(words["timeline"])
        terminal.press("q")
        assert terminal.wait_for_end() == 0


@pytest.mark.parametrize("language", WORDS)
def test_the_ledger_is_verified_and_the_trail_read(config: Path, language: str) -> None:
    words = WORDS[language]
    with Terminal("--config", config, language=language) as terminal:
        terminal.wait_for(words["receipts"])
        terminal.press("4")
        terminal.wait_for(f"c {words['chain']}")
        whole(terminal)
        terminal.press("v")
        terminal.wait_for("enter")
        terminal.press("Enter")
        terminal.wait_for(words["intact"])
        whole(terminal)
        terminal.press("a")
        terminal.wait_for(words["trail"])
        times = [line for line in whole(terminal) if line.startswith(" 20")]
        assert len({column(line, "root") for line in times if "root" in line}) == 1
        terminal.press("q")
        assert terminal.wait_for_end() == 0
