"""How the screens end when nobody asked them to: signals, a terminal that is gone, a mistake of ours.

SIGTERM and SIGHUP end the program as quitting does; if it has not ended :data:`SECONDS` later, as the terminal no longer takes what is
written to it, the system ends it (SIGALRM). A mistake never shows its traceback: the terminal is as it was, one sentence says what
happened and where the traceback lies, and the exit status is 2.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import select
import signal
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from kaifu.proxy.display import visible

SECONDS = 10
FILE = "tui-error.txt"


def on_signals(end: Callable[[int], None]) -> None:
    """Call ``end`` with the exit status when a signal asks the process to end. Within a running loop, in the main thread."""
    loop = asyncio.get_running_loop()

    def asked(number: int) -> None:
        at_last(SECONDS)
        end(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        with suppress(ValueError, RuntimeError, NotImplementedError):  # not the main thread
            loop.add_signal_handler(number, asked, int(number))


def at_last(seconds: int) -> None:
    """The system ends the process after so many seconds."""
    with suppress(ValueError):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(seconds)


def terminal_is_gone(descriptor: int = 0) -> bool:
    """Is nobody there any more at the other end of standard input?"""
    poll = select.poll()
    poll.register(descriptor, 0)
    try:
        return any(what & (select.POLLHUP | select.POLLERR | select.POLLNVAL) for _, what in poll.poll(0))
    except OSError:
        return True


def confession(error: BaseException, own_rights: bool) -> str:
    """The sentence about a mistake of ours; its traceback, without values, is in a file that the process's user alone can read.

    ``own_rights``: who looks acts with none but his own, so his environment may say where that is.
    """
    said = f"kaifu: internal error, please report it: {type(error).__name__}: {visible(str(error))}"
    where = _keep("".join(traceback.format_exception(error)), state_directory(own_rights))
    return f"{said}; more is in {where}" if where else said


def _keep(text: str, folder: Path) -> Path | None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = folder / FILE
        path.unlink(missing_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(handle, "w", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(text)
    except OSError:
        return None
    return path


def state_directory(own_rights: bool) -> Path:
    """Where the user whose rights the process has keeps state (``$XDG_STATE_HOME`` where that is his own, else ``~/.local/state``)."""
    if own_rights and (given := os.environ.get("XDG_STATE_HOME", "")).startswith("/"):
        return Path(given) / "kaifu"
    try:
        home = Path(pwd.getpwuid(os.geteuid()).pw_dir)
    except KeyError:
        home = Path("/nonexistent")
    return home / ".local/state/kaifu"
