"""``kaifu tui`` in a terminal of its own, as a bench needs it: what it writes is read at once, and when something appeared is known.

For :mod:`tests.bench.tui_bench`. The terminal is a pty that answers nothing. What is looked for is looked for in what was written
since the last key; escape sequences are left out, so a text is found when it was written in one piece.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.bench.measuring import KAIFU, usage

_ESCAPES = re.compile(rb"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[P\]X^_].*?(?:\x1b\\|\x07)|\x1b[ -/]*[0-~]", re.DOTALL)

ENTER, ESCAPE, PAGE_DOWN, HOME, END = "\r", "\x1b", "\x1b[6~", "\x1b[H", "\x1b[F"
CLEAR = "\x15"
"""What stands in a line is deleted."""
_QUIET = 0.8
"""Seconds without output after which all that a key brought about has been written."""


class Terminal:
    """A running ``kaifu tui`` with these words."""

    def __init__(self, *words: str | Path, columns: int = 140, rows: int = 40) -> None:
        self.began = time.perf_counter()
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        environment = {**os.environ, "TERM": "xterm-256color", "LANG": "C.UTF-8", "COLORTERM": "truecolor"}
        self._process = subprocess.Popen(
            [KAIFU, "tui", *words], stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
        )
        os.close(slave)
        self._written = b""
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                some = os.read(self._master, 1 << 16)
            except OSError:
                some = b""
            with self._changed:
                self._written += some
                self._changed.notify_all()
            if not some:
                return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._master)

    def press(self, keys: str) -> float:
        """Write to it as a keyboard does; when (:func:`time.perf_counter`)."""
        with self._changed:
            self._written = b""
        os.write(self._master, keys.encode())
        return time.perf_counter()

    def text(self) -> str:
        """What was written since the last key."""
        return _ESCAPES.sub(b"", self._written).decode("utf-8", "replace")

    def wait(self, holds: Callable[[str], bool], seconds: float = 60) -> float | None:
        """When a text was there for which this holds; None if it did not come."""
        end = time.monotonic() + seconds
        with self._changed:
            while not holds(self.text()):
                left = end - time.monotonic()
                if left <= 0 or self._process.poll() is not None:
                    return None
                self._changed.wait(min(left, 1))
        return time.perf_counter()

    def wait_for_some(self, texts: Sequence[str], least: int = 2, seconds: float = 60) -> float | None:
        """The same for at least so many of these."""
        return self.wait(lambda shown: sum(text in shown for text in texts) >= least, seconds)

    def rest(self, seconds: float = 3) -> None:
        """Wait until nothing more is written, or so long: something is always counted on."""
        end = time.monotonic() + seconds
        with self._changed:
            while self._changed.wait(_QUIET) and time.monotonic() < end:
                pass

    @property
    def resident(self) -> int:
        """Octets of memory in use now."""
        pages = Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    @property
    def cpu(self) -> float:
        """Seconds of processor time so far."""
        return usage(self._process.pid).cpu
