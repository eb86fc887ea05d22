"""What the terminal can do, by its entry in terminfo (TERM), and what its user asks for (NO_COLOR).

Called by ``kaifu tui`` before anything is drawn. A terminal that terminfo does not know is taken for one like xterm.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

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


def has_colours(environ: Mapping[str, str] = os.environ) -> bool:
    """May colours be used?"""
    if environ.get("NO_COLOR"):
        return False
    known = _entry(environ.get("TERM", ""))
    return known is None or known[0] >= LEAST_COLOURS
