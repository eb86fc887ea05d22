"""How what Textual draws by itself is drawn in our looks: scroll bars of characters, and nothing but attributes where there are no colours.

A process has one look (:func:`kaifu.tui.look.Look`), as it has one language.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from rich.color import Color as RichColor
from rich.segment import Segment, Segments
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter
from textual.scrollbar import ScrollBar, ScrollBarRender

from .look import Look

_NO_COLOURS = {
    "block-cursor-text-style": "reverse",
    "block-cursor-blurred-text-style": "underline",
    "input-cursor-text-style": "reverse",
    "footer-key-foreground": "ansi_default",
}


def use(look: Look) -> None:
    """Draw scroll bars in this look from now on."""
    if look.marks == "ascii":
        ScrollBar.renderer = _AsciiBar
    elif not look.colours:
        ScrollBar.renderer = _CharacterBar
    else:
        ScrollBar.renderer = ScrollBarRender


def variables(look: Look) -> dict[str, str]:
    """What style sheets call by name: ``$frame``, the kind of all frames, and how cursors are told without colours."""
    return {
        "frame": "ascii" if look.marks == "ascii" else "round",
        "line": "ascii" if look.marks == "ascii" else "solid",
        "text-disabled": "auto 65%",
        **({} if look.colours else _NO_COLOURS),
    }


class Colourless(LineFilter):
    """Bold, reversed, underlined: that is all that is left."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [
            Segment(text, None if style is None else _without_colours(style), control)
            for text, style, control in segments
        ]


@lru_cache(1024)
def _without_colours(style: Style) -> Style:
    return style.without_color + Style(meta=style.meta)


class _CharacterBar(ScrollBarRender):
    """A bar that is seen without colours."""

    VERTICAL_BARS = HORIZONTAL_BARS = [" "] * 8
    TRACK = ("│", "─")
    THUMB = "█"

    @classmethod
    def render_bar(cls, *args: Any, **more: Any) -> Segments:
        bar = super().render_bar(*args, **more)
        vertical = more.get("vertical", True)
        segments = [cls._character(segment, vertical) for segment in bar.segments]
        return Segments(segments, new_lines=bar.new_lines)

    @classmethod
    def _character(cls, segment: Segment, vertical: bool) -> Segment:
        text, style, control = segment
        if style is None or text.strip(" "):
            return segment
        thumb = bool(style.reverse)
        colour = style.color if thumb else RichColor.default()
        character = cls.THUMB if thumb else cls.TRACK[0 if vertical else 1]
        return Segment(character * len(text), Style(color=colour, meta=style.meta), control)


class _AsciiBar(_CharacterBar):
    TRACK = ("|", "-")
    THUMB = "#"
