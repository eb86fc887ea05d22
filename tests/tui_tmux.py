"""``kaifu tui`` in a real terminal: one of tmux's, of 80 columns and 24 lines, in a server of its own.

    with Terminal("--config", config, language="ja_JP.UTF-8") as terminal:
        terminal.wait_for("概要")
        terminal.press("2")
        assert not too_wide(terminal.lines(), 80)

Whoever waits is woken by what the program writes, and looks at the screen again until what he waits for is there, for at most
a minute. What the program leaves behind when it ends can be looked at too.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
from rich.cells import cell_len, set_cell_size

MOST_SECONDS = 60.0
KAIFU = Path(sys.executable).with_name("kaifu")


def need_tmux() -> None:
    """Skips with a word where there is no tmux."""
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed")


class Terminal:
    """A terminal with a program in it: ``kaifu tui`` and these words, unless ``command`` names another.

    ``kind``: its TERM; ``language``: LANG; ``environment``: more of it, and nothing else is there.
    """

    def __init__(
        self,
        *words: str | Path,
        command: tuple[str | Path, ...] | None = None,
        kind: str = "tmux-256color",
        language: str = "C.UTF-8",
        environment: Mapping[str, str] | None = None,
        columns: int = 80,
        rows: int = 24,
    ) -> None:
        need_tmux()
        self._command = [str(word) for word in (command or (KAIFU, "tui", *words))]
        inherited = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
        self._environment = {**inherited, "TERM": kind, "LANG": language, **(environment or {})}
        self.columns, self.rows = columns, rows
        self._folder = Path(tempfile.mkdtemp(prefix="kaifu-tmux-"))
        self._pipe = -1

    def __enter__(self) -> Self:
        written, begin = self._folder / "written", self._folder / "begin"
        os.mkfifo(written)
        os.mkfifo(begin)
        self._pipe = os.open(written, os.O_RDWR | os.O_NONBLOCK)
        settings = self._folder / "tmux.conf"
        settings.write_text("set -g remain-on-exit on\nset -g status off\nset -s escape-time 0\n")
        # The program begins when the pipe that tells of its writing is there.
        start = ["sh", "-c", f'read -r _ <{begin}; exec "$@"', "sh", "env", "-i"]
        start += [f"{name}={value}" for name, value in self._environment.items()]
        size = ["-x", str(self.columns), "-y", str(self.rows)]
        self._tmux("-f", str(settings), "new-session", "-d", *size, *start, *self._command)
        self._tmux("set-option", "-w", "remain-on-exit-format", "")
        self._tmux("pipe-pane", f"exec cat >{written}")
        with open(begin, "w") as go:
            go.write("\n")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tmux("kill-server")
        os.close(self._pipe)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _tmux(self, *words: str) -> str:
        socket = str(self._folder / "socket")
        environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "TERM": "xterm"}
        done = subprocess.run(
            ["tmux", "-u", "-S", socket, *words],
            env=environment,
            capture_output=True,
            check=False,
            timeout=MOST_SECONDS,
        )
        assert done.returncode == 0, f"tmux {words}: {done.stderr.decode()}"
        return done.stdout.decode()

    @property
    def pid(self) -> int:
        """Of the program."""
        return int(self._tmux("display-message", "-p", "#{pane_pid}"))

    @property
    def ended(self) -> int | None:
        """The exit status of the program, or 128 and the signal that ended it; None while it runs."""
        what = "#{pane_dead},#{pane_dead_status},#{pane_dead_signal},#{pid}"
        dead, status, number, server = self._tmux("display-message", "-p", what).strip().split(",")
        if dead == "1" and not status + number:
            os.kill(int(server), signal.SIGCHLD)  # tmux may overlook the end of a child that ends soon
        return int(status) if status else 128 + int(number) if number else None

    def press(self, *keys: str) -> None:
        """Press keys as tmux names them: ``Enter``, ``C-p``, ``Down``, ``x``."""
        self._tmux("send-keys", *keys)

    def write(self, text: str) -> None:
        """Type a text."""
        self._tmux("send-keys", "-l", text)

    def resize(self, columns: int, rows: int) -> None:
        """Give the terminal another size."""
        self._tmux("resize-window", "-x", str(columns), "-y", str(rows))
        self.columns, self.rows = columns, rows

    def lines(self) -> list[str]:
        """The screen, each line as wide as the terminal, or as it is if it were wider."""
        lines = self._tmux("capture-pane", "-p").split("\n")[: self.rows]
        return [line if cell_len(line) > self.columns else set_cell_size(line, self.columns) for line in lines]

    def styled(self) -> str:
        """The screen with the escape sequences that colour it."""
        return self._tmux("capture-pane", "-p", "-e")

    def reversed(self) -> list[str]:
        """The texts that are drawn reversed, as cursors are."""
        found, now = [""], False
        for sequence, text in re.findall(r"(?:\x1b\[([0-9;:]*)m)?([^\x1b]*)", self.styled()):
            for code in re.sub(r"[34]8[;:](?:2(?:[;:]\d+){3}|5[;:]\d+)", "", sequence).split(";"):
                now = {"7": True, "27": False, "0": False}.get(code, now)
            if now:
                found[-1] += text
            elif found[-1]:
                found.append("")
        return found

    def text(self) -> str:
        """The screen, lines without the spaces at their ends."""
        return "\n".join(line.rstrip() for line in self.lines())

    def wait_for(self, *texts: str) -> str:
        """Wait until all of these are on the screen; the screen."""
        self.wait_until(lambda: all(text in self.text() for text in texts), f"{texts} on the screen")
        return self.text()

    def wait_for_no(self, *texts: str) -> str:
        """Wait until none of these is on the screen; the screen."""
        self.wait_until(lambda: not any(text in self.text() for text in texts), f"no {texts} on the screen")
        return self.text()

    def wait_for_end(self) -> int:
        """Wait until the program has ended; its exit status."""
        self.wait_until(lambda: self.ended is not None, "the end of the program")
        ended = self.ended
        assert ended is not None
        return ended

    def wait_until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait until something holds; looked at anew whenever the program has written, and now and then."""
        until = time.monotonic() + MOST_SECONDS
        while not holds():
            assert self.ended is None or holds(), f"the program ended before: {what}\n{self.text()}"
            assert time.monotonic() < until, f"not within {MOST_SECONDS:.0f} s: {what}\n{self.text()}"
            if select.select([self._pipe], [], [], 0.2)[0]:
                os.read(self._pipe, 1 << 16)
