"""``kaifu tui`` in real terminals: of several kinds and sizes, in both languages; and how it ends, whatever ends it."""

from __future__ import annotations

import os
import pty
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from tests.tui_pilot import column, some_ledger, too_wide
from tests.tui_tmux import KAIFU, Terminal

from kaifu.tui.terminal import speaks_utf8

POLICY = """version: 1
rules:
  - name: partners
    when: {direction: outbound, to: "@partner.example"}
    then: {request: add}
"""
SCREENS = {
    "C.UTF-8": ("Overview", "Receipts", "Policy", "Integrity"),
    "ja_JP.UTF-8": ("概要", "開封確認", "ポリシー", "完全性"),
}
COLOUR = re.compile(r"\x1b\[[0-9;:]*?\b(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])\b[0-9;:]*m")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "policy.yaml").write_text(POLICY)
    config = tmp_path / "kaifu.yaml"
    config.write_text(f"realm: [example.co.jp]\npolicy: policy.yaml\nledger: sqlite:///{tmp_path}/ledger.db\n")
    some_ledger(tmp_path / "ledger.db", 30)
    return config


@pytest.mark.parametrize(
    ("language", "kind"),
    [("C.UTF-8", "tmux-256color"), ("ja_JP.UTF-8", "tmux-256color"), ("C.UTF-8", "xterm"), ("ja_JP.UTF-8", "screen")],
)
def test_every_screen_at_80_by_24(config: Path, language: str, kind: str) -> None:
    names = SCREENS[language]
    with Terminal("--config", config, language=language, kind=kind) as terminal:
        terminal.wait_for(*names)
        for number in (2, 3, 4, 1):
            name = f"{number} {names[number - 1]}"
            terminal.press(str(number))
            terminal.wait_until(lambda name=name: any(name in text for text in terminal.reversed()), name)  # type: ignore[misc]
            lines = terminal.lines()
            assert too_wide(lines, 80) == []
            bar = lines[0]
            assert [column(bar, name) for name in names] == sorted(column(bar, name) for name in names)
            assert bar.rstrip().endswith("(admin)" if language == "C.UTF-8" else "(管理者)")
            assert "  q " in lines[-1]
        terminal.press("q")
        assert terminal.wait_for_end() == 0


def test_a_list_has_its_columns_under_each_other_in_both_languages(config: Path) -> None:
    for language in SCREENS:
        with Terminal("--config", config, language=language) as terminal:
            terminal.wait_for(SCREENS[language][1])
            terminal.press("3")
            terminal.wait_for("partners")
            rule, heads = ("Rule", "30 days") if language == "C.UTF-8" else ("ルール", "30日間")
            head = next(line for line in terminal.lines() if heads in line and rule in line)
            row = next(line for line in terminal.lines() if "partners" in line)
            assert column(head, rule) == column(row, "partners")


@pytest.mark.parametrize(
    ("kind", "environment"), [("vt100", {}), ("xterm-mono", {}), ("xterm-256color", {"NO_COLOR": "1"})]
)
def test_without_colours_the_screen_that_is_shown_and_the_cursor_are_reversed(
    config: Path, kind: str, environment: dict[str, str]
) -> None:
    with Terminal("--config", config, kind=kind, environment=environment) as terminal:
        terminal.wait_for("Overview")
        terminal.press("3")
        terminal.wait_for("partners")
        shown = terminal.styled()
        assert COLOUR.search(shown) is None
        reversed_ = terminal.reversed()
        assert any("3 Policy" in text for text in reversed_)
        assert any("partners" in text for text in reversed_)


def test_with_colours_there_are_some(config: Path) -> None:
    with Terminal("--config", config) as terminal:
        terminal.wait_for("Overview")
        assert COLOUR.search(terminal.styled())


@pytest.mark.parametrize(
    "environment", [{}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"LC_CTYPE": "ja_JP.eucJP"}]
)
def test_in_a_locale_without_those_characters_everything_of_ours_is_ascii(
    config: Path, environment: dict[str, str]
) -> None:
    with Terminal("--config", config, language="C", kind="vt100", environment=environment) as terminal:
        terminal.wait_for("Overview")
        terminal.press("3")
        assert terminal.wait_for("partners").isascii()


@pytest.mark.parametrize(
    ("environment", "utf8"),
    [
        ({"LANG": "ja_JP.UTF-8"}, True),
        ({"LANG": "ja_JP.utf8@variant"}, True),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, True),
        ({"LANG": "C.UTF-8", "LC_ALL": "C"}, False),
        ({"LANG": "ja_JP.eucJP"}, False),
        ({"LANG": "C"}, False),
        ({}, False),
    ],
)
def test_the_locale_says_whether_the_terminal_shows_utf8(environment: dict[str, str], utf8: bool) -> None:
    assert speaks_utf8(environment) == utf8


@pytest.mark.parametrize(("name", "says"), [("dumb", "TERM=dumb says that it cannot be"), ("", "TERM is not set")])
def test_a_terminal_without_a_cursor_to_place_gets_a_sentence(config: Path, name: str, says: str) -> None:
    with Terminal("--config", config, environment={"TERM": name}) as terminal:
        assert terminal.wait_for_end() == 2
        assert says in " ".join(terminal.text().split())


def test_without_a_terminal_there_is_a_sentence(config: Path) -> None:
    done = subprocess.run(
        [KAIFU, "tui", "--config", config], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "needs a terminal" in done.stderr


def test_the_terminal_may_change_its_size(config: Path) -> None:
    with Terminal("--config", config) as terminal:
        terminal.wait_for("Overview", "^p")
        terminal.resize(40, 8)
        terminal.wait_for("50")
        terminal.resize(120, 40)
        terminal.wait_until(lambda: "^p" in terminal.lines()[-1], "the keys in the last line")
        assert too_wide(terminal.lines(), 120) == []


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_it_and_gives_the_terminal_back(config: Path, number: int, status: int) -> None:
    with Terminal("--config", config) as terminal:
        terminal.wait_for("Overview")
        os.kill(terminal.pid, number)
        assert terminal.wait_for_end() == status
        assert "Overview" not in terminal.text(), "the other screen of the terminal is back"


def test_a_terminal_that_is_gone_ends_it(config: Path) -> None:
    """As when ssh breaks down and nobody sends SIGHUP: it ends by itself, and soon."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [KAIFU, "tui", "--config", config], stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", ""), "TERM": "xterm", "LANG": "C.UTF-8"},
    )  # fmt: skip
    os.close(slave)
    seen = b""
    while b"Overview" not in seen:
        seen += os.read(master, 65536)
    os.close(master)
    assert process.wait(timeout=60) != 0


def test_it_can_be_suspended_and_goes_on(config: Path) -> None:
    with Terminal(command=("sh", "-i", "-m")) as terminal:
        terminal.write(f"{KAIFU} tui --config {config}; echo ended with $?")
        terminal.press("Enter")
        terminal.wait_for("Overview", "^p")
        terminal.press("C-z")
        terminal.wait_for("Stopped")
        assert "Overview" not in terminal.text()
        terminal.write("fg")
        terminal.press("Enter")
        terminal.wait_for("Overview", "^p")
        terminal.press("q")
        terminal.wait_for("$")
        assert "Overview" not in terminal.text()


def test_a_mistake_of_ours_is_one_sentence_and_its_traceback_lies_where_only_its_user_reads_it(
    config: Path, tmp_path: Path
) -> None:
    program = (
        "import sys, kaifu.tui.screen_policy as policy\n"
        "from kaifu.tui.main import main\n"
        "def mistaken(self): secret = 'hunter2'; raise LookupError('no\\x1b[31m such\\nthing')\n"
        "policy.PolicyScreen.on_mount = mistaken\n"
        f"sys.argv = ['kaifu', 'tui', '--config', {str(config)!r}]\n"
        "main()\n"
    )
    state = tmp_path / "state"
    with Terminal(command=(sys.executable, "-c", program), environment={"XDG_STATE_HOME": str(state)}) as terminal:
        terminal.wait_for("Overview")
        terminal.press("3")
        assert terminal.wait_for_end() == 2
        text = "".join(terminal.text().split("\n"))
        file = state / "kaifu" / "tui-error.txt"
        assert r"internal error, please report it: LookupError: no\x1b[31m such\nthing" in text
        assert str(file) in text
        assert "Traceback" not in text
        assert "hunter2" not in file.read_text().replace("secret = 'hunter2'", "")
        assert "LookupError" in file.read_text()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
