"""A process whose log comes through a pipe, so that a test waits for what it says, never for time to pass."""

from __future__ import annotations

import subprocess
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self

END = "(end of log)"
"""The last line of a log, when the process has nothing more to say."""


class Logged(ABC):
    """One process. Its log goes line by line into ``log``, and whoever waits for a line is woken."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self._logged = threading.Condition()
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    @abstractmethod
    def start(self) -> None:
        """Start it and wait until it serves."""

    @abstractmethod
    def leave(self) -> None:
        """End it, where a ``with`` block ends."""

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def spawn(self, *command: str | Path, environment: Mapping[str, str] | None = None) -> None:
        """Start a command that logs to standard output or error."""
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True, env=environment,
        )  # fmt: skip
        assert self._process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()

    def _read(self, stream: IO[bytes]) -> None:
        for line in stream:
            self._say(line.decode("utf-8", "backslashreplace").rstrip("\n"))
        self._say(END)

    def _say(self, line: str) -> None:
        with self._logged:
            self.log.append(line)
            self._logged.notify_all()
