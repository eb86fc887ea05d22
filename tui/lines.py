"""Paragraphs for a narrow column: from what is told to lines that fit, in cells, with nothing in them that steers a terminal.

Called by the screens that show text of any length (details, raw reports, findings). Pure, without Textual; linear in the text. Whatever a
:class:`Told` holds, control characters and their like are made visible here, so no caller can forget it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from rich.cells import cell_len, chop_cells
from rich.text import Text

from kaifu.proxy.display import visible

NARROWEST = 8
"""Columns below which text is laid out as if there were so many."""
_GAP = 2
_WIDEST_LABEL = 24


class Told(NamedTuple):
    """One paragraph. ``label``: what stands before it in a column of its own; ``style``: one of rich's; ``deep``: cells to the right."""

    text: str
    label: str = ""
    style: str = ""
    deep: int = 0


def title(text: str) -> tuple[Told, Told]:
    """An empty line and a heading."""
    return Told(""), Told(text, style="bold")


def laid_out(told: Iterable[Told], width: int) -> list[Text]:
    """The lines, none wider than ``width`` cells (or :data:`NARROWEST`)."""
    paragraphs, width = list(told), max(width, NARROWEST)
    column = _column([each.label for each in paragraphs], width)
    return [line for each in paragraphs for line in _lines(each, column, width)]


def _column(labels: list[str], width: int) -> int:
    """The width of the column with the labels; what does not fit there stands on a line of its own."""
    most = min(_WIDEST_LABEL, width // 3 - _GAP)
    return max((size + _GAP for label in labels if 0 < (size := cell_len(visible(label))) <= most), default=0)


def _lines(told: Told, column: int, width: int) -> Iterator[Text]:
    before = min(told.deep + (column if told.label else 0), width - width // 2)
    label = visible(told.label)
    if label and cell_len(label) > before - told.deep - 1:
        for part in wrapped(label, width):
            yield Text(part, "dim", no_wrap=True, end="")
        label = ""
    for number, part in enumerate(wrapped(told.text, width - before)):
        line = Text(" " * min(told.deep, before), no_wrap=True, end="")
        if label and not number:
            line.append(label, "dim")
        line.append(" " * (before - line.cell_len))
        line.append(part, told.style)
        yield line


def wrapped(text: str, width: int) -> list[str]:
    """Made visible, and broken at spaces where that is possible, else within words. At least one line."""
    lines, line, room = list[str](), "", width
    for place, word in enumerate(visible(text).split(" ")):
        size = cell_len(word)
        if place and size + 1 > room:
            lines.append(line)
            line, room = "", width
        elif place:
            line, room = line + " ", room - 1
        if size > room:
            *whole, word = chop_cells(word, width) or [word]
            lines += whole
            size = cell_len(word)
        line, room = line + word, room - size
    lines.append(line)
    return lines


def shortened(text: str, most: int) -> str:
    """At most so many characters; how many are left out is said."""
    return text if len(text) <= most else f"{text[:most]} [+{len(text) - most:,}]"
