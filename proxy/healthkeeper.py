"""The thread of a relay or milter that leaves its health beside the ledger, off the mail path.

Started by ``kaifu relay`` (one in each worker) and ``kaifu milter`` when they serve. It looks once a second, and writes what it sees when something
has changed that somebody should know at once, and every :data:`WRITE_SECONDS` otherwise; at the end it writes that the process has stopped. It never
opens the ledger. A file that cannot be written is logged once, until it can be again, and nothing else comes of it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from .health import Health, write_health

LOOK_SECONDS = 1.0
WRITE_SECONDS = 5.0
_LAST_SECONDS = 2.0  # for the last word; a disk that hangs does not keep the process from ending


class HealthKeeper:
    """``look``: the health as it is. A context manager: it begins to keep, and leaving it says that the process has stopped."""

    def __init__(self, ledger: Path, look: Callable[[], Health], log: Callable[..., None]) -> None:
        self._ledger = ledger
        self._look = look
        self._log = log
        self._stop = threading.Event()
        self._told: object = None
        self._written = 0.0
        self._problem: str | None = None
        self._thread = threading.Thread(target=self._run, name="kaifu-health", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(_LAST_SECONDS)

    def _run(self) -> None:
        while True:
            stopped = self._stop.is_set()
            try:
                self._turn(stopped)
            except Exception as error:  # noqa: BLE001 - whatever it is, mail must not hear of it
                self._failed(f"{type(error).__name__}: {error}")
            if stopped:
                return
            self._stop.wait(LOOK_SECONDS)

    def _turn(self, stopped: bool) -> None:
        health = replace(self._look(), stopped=stopped)
        worth_telling, clock = health.worth_telling(), time.monotonic()
        if worth_telling == self._told and clock - self._written < WRITE_SECONDS:
            return
        self._told, self._written = worth_telling, clock
        try:
            write_health(self._ledger, health)
        except OSError as error:
            self._failed(str(error))
        else:
            self._problem = None

    def _failed(self, problem: str) -> None:
        if problem != self._problem:
            self._problem = problem
            self._log("health-not-written", cause=problem)
