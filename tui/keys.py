"""The keys that do something now: their names, what they do, and the line of them at the foot of every screen and dialog.

Only keys that kaifu declares are told: those that widgets of the library bring along (moving in a line, copying) are as everywhere. The
line shows what fits, whole or not at all; help, commands and quit always stand in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len
from rich.text import Text
from textual import events
from textual.binding import Binding
from textual.dom import DOMNode
from textual.screen import Screen
from textual.widgets import Static

from .look import Marks, plain

_NAMES = {
    "question_mark": "?",
    "slash": "/",
    "escape": "esc",
    "pageup": "PgUp",
    "pagedown": "PgDn",
    "plus": "+",
    "minus": "-",
    "full_stop": ".",
    "comma": ",",
    "colon": ":",
    "less_than_sign": "<",
    "greater_than_sign": ">",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
}
_ARROWS = {"up": "↑", "down": "↓", "left": "←", "right": "→"}


@dataclass(frozen=True, slots=True)
class Doing:
    """What can be done now: with which keys, the first the one that is shown, and whose action it is."""

    node: DOMNode
    action: str
    words: str
    names: tuple[str, ...]
    shown: bool


def doings(screen: Screen[Any], marks: Marks) -> list[Doing]:
    """All that keys of ours do while this screen or dialog is shown, those of the focused widget first."""
    found: dict[tuple[DOMNode, str], list[Binding]] = {}
    for node, binding, enabled, _ in screen.active_bindings.values():
        if enabled and binding.description and _is_ours(node, binding):
            found.setdefault((node, binding.action), []).append(binding)
    return [
        Doing(node, action, some[0].description, _names(some, marks), any(one.show for one in some))
        for (node, action), some in found.items()
    ]


def _is_ours(node: DOMNode, binding: Binding) -> bool:
    for kind in type(node).__mro__:
        if kind.__module__.startswith(f"{__package__}."):
            for declared in vars(kind).get("BINDINGS", ()):
                keys, action = (declared.key, declared.action) if isinstance(declared, Binding) else declared[:2]
                if action == binding.action and binding.key in keys.replace(" ", "").split(","):
                    return True
    return False


def _names(some: list[Binding], marks: Marks) -> tuple[str, ...]:
    """The names of the keys, each once, in the order in which they were declared."""
    return tuple(dict.fromkeys(key_name(one, marks) for one in some))


def key_name(binding: Binding, marks: Marks) -> str:
    """A key as it is written in the line and in the help."""
    key = binding.key_display or binding.key
    if key in _ARROWS:
        return _ARROWS[key] if marks == "unicode" else key
    if key.startswith("ctrl+"):
        return f"^{key.removeprefix('ctrl+')}"
    return _NAMES.get(key, key)


class KeysLine(Static):
    """The line at the foot. ``keep``: actions that stand there whatever else must go, at the end, in this order."""

    DEFAULT_CSS = "KeysLine { height: 1; background: $panel; }"
    KEEP = ("help", "palette", "quit")

    def __init__(self) -> None:
        super().__init__("", markup=False)
        self._places: list[tuple[int, Doing]] = []

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, lambda _: self.call_after_refresh(self.draw))

    def on_unmount(self) -> None:
        self.screen.bindings_updated_signal.unsubscribe(self)

    def on_resize(self) -> None:
        self.draw()

    def draw(self) -> None:
        """Draw the keys as they are now."""
        if not self.is_attached:
            return
        line, at = Text(no_wrap=True, end=""), 0
        self._places = []
        for doing in self._fitting(self.size.width):
            line.append(" ").append(doing.names[0], "bold").append(" ").append_text(plain(doing.words)).append(" ")
            at += _width(doing)
            self._places.append((at, doing))
        self.update(line)

    def _fitting(self, width: int) -> Iterator[Doing]:
        marks = self.app.look.marks  # type: ignore[attr-defined]
        shown = [doing for doing in doings(self.screen, marks) if doing.shown]
        kept = sorted((one for one in shown if one.action in self.KEEP), key=lambda one: self.KEEP.index(one.action))
        room = width - sum(map(_width, kept))
        for doing in shown:
            if doing not in kept and room >= _width(doing):
                room -= _width(doing)
                yield doing
        yield from kept

    async def on_click(self, event: events.Click) -> None:
        """A click does what the key does."""
        for right, doing in self._places:
            if event.x < right:
                await self.app.run_action(doing.action, doing.node)
                return


def _width(doing: Doing) -> int:
    return cell_len(doing.names[0]) + cell_len(doing.words) + 3
