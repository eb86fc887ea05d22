"""Paragraphs for a narrow column: from what is told to lines that fit, in cells, with nothing in them that steers a terminal.

Called by the screens that show text of any length (details, raw reports, findings). Pure, without Textual; linear in the text. Whatever a
:class:`Told` holds, control characters and their like are made visible here, so no caller can forget it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from rich.cells import cell_len, chop_cells, split_graphemes
from rich.text import Text

from kaifu.proxy.display import visible

NARROWEST = 8
"""Columns below which text is laid out as if there were so many."""
_GAP = 2
_NO_START = frozenset(
    "、。，．・：；？！」』）］｝】〉》〕ー々ゝヽぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮ…‥%％,.:;?!)]}"
)
_NO_END = frozenset("「『（［｛【〈《〔([{")
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
    """Made visible, and broken where that is possible, else within words. At least one line.

    It is possible at spaces and between wide characters; but no line begins with what closes, nor ends with what opens (JIS X 4051), and
    letters and digits stay together in the midst of wide characters too.
    """
    lines, line, room = list[str](), "", width
    for place, word in enumerate(visible(text).split(" ")):
        for number, unit in enumerate(_units(word)):
            gap, size = int(place and not number), cell_len(unit)
            if (gap or number) and gap + size > room:
                lines.append(line)
                line, room = "", width
            elif gap:
                line, room = line + " ", room - 1
            if size > room:
                *whole, unit = chop_cells(unit, width) or [unit]
                lines += whole
                size = cell_len(unit)
            line, room = line + unit, room - size
    lines.append(line)
    return lines


def _units(word: str) -> list[str]:
    """A word without spaces, in parts that should not be broken. At least one."""
    if word.isascii():
        return [word]
    units, before, narrow_before = [""], "", True
    for start, end, cells in split_graphemes(word)[0]:
        one, narrow = word[start:end], cells < 2
        if (narrow and narrow_before) or one in _NO_START or before in _NO_END:
            units[-1] += one
        else:
            units.append(one)
        before, narrow_before = one, narrow
    return units if units[0] else units[1:]


def shortened(text: str, most: int) -> str:
    """At most so many characters; how many are left out is said."""
    return text if len(text) <= most else f"{text[:most]} [+{len(text) - most:,}]"
