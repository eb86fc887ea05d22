"""How the screens look: marks, frames, themes, and text from mail that cannot steer the terminal.

``marks: ascii`` is for terminals that draw ambiguous characters two columns wide, or lack them: nothing but ASCII is drawn by us then,
frames and scroll bars included (what came from mail stays as it is). Without colours everything still can be told apart: the
cursor is reversed, states have marks and words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rich.cells import cell_len, set_cell_size
from rich.text import Text
from textual.theme import Theme

from kaifu.proxy.display import visible

Marks = Literal["unicode", "ascii"]

THEMES = {
    "dark": Theme(
        name="kaifu-dark",
        primary="#5f9ea0",
        secondary="#7a8f99",
        accent="#e0a458",
        warning="#e0a458",
        error="#d9655b",
        success="#7fb37f",
        foreground="#d8dee4",
        background="#14181c",
        surface="#1a2026",
        panel="#232b33",
        dark=True,
    ),
    "light": Theme(
        name="kaifu-light",
        primary="#2f6f73",
        secondary="#5b6b75",
        accent="#a35f00",
        warning="#a35f00",
        error="#b3261e",
        success="#2e6b2e",
        foreground="#1d2328",
        background="#fbfaf7",
        surface="#f2f0ea",
        panel="#e6e3da",
        dark=False,
    ),
}


@dataclass(frozen=True, slots=True)
class Look:
    """What who looks has chosen: ``language`` one of :data:`kaifu.tui.words.LANGUAGES`, ``theme`` a key of :data:`THEMES`.

    ``colours`` False: nothing is told by colours, nor drawn in any.
    """

    language: str = "en"
    marks: Marks = "unicode"
    theme: str = "dark"
    colours: bool = True


def plain(text: str, style: str = "") -> Text:
    """Text that may hold anything, as it can be shown: no markup, no escapes."""
    return Text(visible(text), style, no_wrap=True, end="")


def fitted(text: str, width: int, marks: Marks = "unicode") -> str:
    """Made visible, and cut or filled to so many columns; what was cut is seen by its end."""
    shown = visible(text)
    if cell_len(shown) <= width:
        return set_cell_size(shown, width)
    more = "…" if marks == "unicode" else "~"
    return set_cell_size(shown, max(0, width - 1)) + more if width else ""
