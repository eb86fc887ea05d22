"""What the terminal can do, by its entry in terminfo (TERM) and the locale, and what its user asks for (NO_COLOR).

Called by ``kaifu tui`` before anything is drawn. A terminal that terminfo does not know is taken for one like xterm.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from kaifu.proxy.display import visible

LEAST_COLOURS = 8


def _entry(name: str) -> tuple[int, bool] | None:
    """Number of colours, and whether the cursor can be placed; None for a terminal that is not known."""
    try:
        import curses

        curses.setupterm(name, 1)
    except ImportError:
        return None
    except curses.error:
        return None
    return curses.tigetnum("colors"), curses.tigetstr("cup") is not None


def refusal_of_terminal(environ: Mapping[str, str] = os.environ) -> str | None:
    """Why no screen can be shown, in a sentence; None where it can."""
    name = environ.get("TERM", "")
    if not name:
        return "kaifu tui has to know the terminal, and TERM is not set; set it to what the terminal is, such as xterm-256color"
    known = _entry(name)
    if known is None or known[1]:
        return None
    return (
        f"kaifu tui needs a terminal on which the cursor can be placed, and TERM={visible(name)} says that it cannot be;"
        " set TERM to what the terminal is, such as xterm-256color"
    )


def speaks_utf8(environ: Mapping[str, str] | None = None) -> bool:
    """Is the character set of the locale UTF-8 (POSIX: LC_ALL, LC_CTYPE, LANG)? Where none is named it is not.

    ``environ``: else as the process was given it: Python itself puts a locale of UTF-8 in the place of C.
    """
    given = _environ_at_start() if environ is None else environ
    named = next((value for name in ("LC_ALL", "LC_CTYPE", "LANG") if (value := given.get(name))), "")
    return named.partition("@")[0].partition(".")[2].replace("-", "").lower() == "utf8"


def _environ_at_start() -> Mapping[str, str]:
    try:
        octets = Path("/proc/self/environ").read_bytes()
    except OSError:
        return os.environ
    parts = (os.fsdecode(each).partition("=") for each in octets.split(b"\0"))
    return {name: value for name, _, value in parts}


def has_colours(environ: Mapping[str, str] = os.environ) -> bool:
    """May colours be used?"""
    if environ.get("NO_COLOR"):
        return False
    known = _entry(environ.get("TERM", ""))
    return known is None or known[0] >= LEAST_COLOURS
