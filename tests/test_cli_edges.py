"""Whatever standard output, the arguments or the locale are like: an exit status and at most a sentence, never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

KAIFU = Path(sys.executable).with_name("kaifu")
POLICY = Path(__file__).parents[1] / "policies" / "examples"
COMMANDS = (
    pytest.param(("--help",), id="help"),
    pytest.param(("policy", "check", str(next(POLICY.glob("*.yaml")))), id="policy check"),
    pytest.param(("inspect", __file__), id="inspect"),
    pytest.param(("config", "check", "--config", "/nonexistent"), id="config check"),
)


@pytest.mark.parametrize("words", COMMANDS)
def test_an_answer_that_cannot_be_written_is_said_in_a_sentence(words: tuple[str, ...]) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run([KAIFU, *words], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.strip()


@pytest.mark.parametrize("words", COMMANDS)
def test_a_closed_output_is_no_reason_to_fail(words: tuple[str, ...]) -> None:
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", KAIFU, *words], stderr=subprocess.PIPE, text=True, timeout=60, check=False
    )
    assert done.returncode == (2 if words[0] == "config" else 0)
    assert "Traceback" not in done.stderr


def test_an_argument_that_is_no_text_is_refused_in_a_sentence() -> None:
    done = subprocess.run([os.fsencode(KAIFU), b"inspect", b"\xff"], capture_output=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1
    assert b"is not text in UTF-8" in done.stderr
