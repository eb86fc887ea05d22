"""Nodes, problems, and the checker that turns nodes into typed values.

:mod:`kaifu.policies.document` makes the nodes and re-exports everything here; loaders import it from there. Nodes keep
every scalar as it was written, with line and column (from 1). :class:`Checker` hands out typed values, collects every
:class:`Problem` instead of stopping at the first, and knows the nearest spelling of an unknown word. Pure; nothing
raises but :meth:`Checker.raise_errors`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from typing import Literal, TypeAlias, TypeVar

_T = TypeVar("_T")

# A near spelling is a comparison with each known word, and a list of choices names each of them; a file with a
# thousand mistakes and a thousand names of its own must not take minutes and fill the screen.
_COMPARED = 20_000
_NAMED = 20

# An escape in double quotes can put these into a key or value; a message shows them without letting a terminal act.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a file. ``line`` and ``column`` count characters from 1; ``hint`` is a spelling.

    Line 0 means the file as a whole, when it cannot be read.
    """

    file: str
    line: int
    column: int
    message: str
    hint: str | None = None
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        kind = "warning: " if self.severity == "warning" else ""
        hint = f' (did you mean "{self.hint}"?)' if self.hint is not None else ""
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return _CONTROL.sub(lambda c: f"\\x{ord(c.group()):02x}", f"{place}: {kind}{self.message}{hint}")


class ProblemsError(Exception):
    """A file cannot be used. ``problems`` holds everything found, in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = in_order(problems)
        super().__init__("\n".join(str(p) for p in self.problems))


def in_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Problems in the order of the file, each once (an alias can lead to the same node twice)."""
    return tuple(sorted(dict.fromkeys(problems), key=lambda p: (p.line, p.column)))


@dataclass(frozen=True, slots=True)
class ScalarNode:
    """A scalar with its text. ``style``: "" when plain, else the quote or ``|`` or ``>``.

    ``verbatim``: the text stands in the file exactly so, hence :meth:`at` can point into it.
    """

    line: int
    column: int
    text: str
    style: str = ""
    verbatim: bool = False
    damaged: bool = False

    @property
    def plain(self) -> bool:
        return self.style == ""

    @property
    def empty(self) -> bool:
        """True for ``key:`` without a value, and for a plain ``null`` or ``~``."""
        return self.plain and self.text in ("", "~", "null", "Null", "NULL")

    def at(self, offset: int) -> tuple[int, int]:
        """Line and column of one character of the text, as near as is known."""
        if not self.verbatim:
            return self.line, self.column
        return self.line, self.column + (0 if self.plain else 1) + max(0, min(offset, len(self.text)))


@dataclass(frozen=True, slots=True)
class SequenceNode:
    """A list. ``weight`` counts its nodes, aliases followed."""

    line: int
    column: int
    items: tuple[Node, ...]
    weight: int = 1


@dataclass(frozen=True, slots=True)
class MappingNode:
    """A mapping; keys are scalars and unique."""

    line: int
    column: int
    entries: tuple[tuple[ScalarNode, Node], ...]
    weight: int = 1


Node: TypeAlias = ScalarNode | SequenceNode | MappingNode


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known spelling that looks most like a word, or None when nothing comes near."""
    spellings = {_plain(k): k for k in known}
    found = get_close_matches(_plain(word)[:80], spellings, n=1, cutoff=0.6 if len(word) > 3 else 0.5)
    return spellings[found[0]] if found else None


def _plain(word: str) -> str:
    return word.casefold().replace("-", "_").replace(" ", "_")


Entries: TypeAlias = dict[str, tuple[ScalarNode, Node]]


class Checker:
    """Typed values out of nodes, collecting what is wrong. ``what`` names the value in messages.

    Every ``as_…`` returns None when the node does not fit (and has then added a problem, unless the node is
    damaged and already has one).
    """

    def __init__(self, filename: str, problems: Iterable[Problem] = ()) -> None:
        self.filename = filename
        self.problems: list[Problem] = list(problems)
        self._compared = 0

    def error(self, at: Node | tuple[int, int], message: str, hint: str | None = None) -> None:
        """Note an error at a node or a line and column."""
        line, column = at if isinstance(at, tuple) else (at.line, at.column)
        self.problems.append(Problem(self.filename, line, column, message, hint))

    def warn(self, at: Node | tuple[int, int], message: str, hint: str | None = None) -> None:
        """Note a warning: the file can be used all the same."""
        line, column = at if isinstance(at, tuple) else (at.line, at.column)
        self.problems.append(Problem(self.filename, line, column, message, hint, "warning"))

    def nearest(self, word: str, known: Collection[str]) -> str | None:
        """As :func:`nearest`, as long as the file has not made it compare too many words."""
        self._compared += len(known)
        return nearest(word, known) if self._compared <= _COMPARED else None

    def raise_errors(self) -> None:
        """Raise :class:`ProblemsError` when there is an error among the problems."""
        if any(p.severity == "error" for p in self.problems):
            raise ProblemsError(self.problems)

    def as_mapping(
        self, node: Node, what: str, known: Collection[str] | None = None, required: Iterable[str] = ()
    ) -> Entries | None:
        """Key and value by key text. Keys outside ``known`` (None: any) are errors, and so are missing ones."""
        if not isinstance(node, MappingNode):
            self._misfit(node, f"{what} must be a mapping (key: value)")
            return None
        entries: Entries = {}
        misspelt: set[str | None] = set()
        for key, value in node.entries:
            if known is None or key.text in known:
                entries[key.text] = key, value
            else:
                hint = self.nearest(key.text, known)
                misspelt.add(hint)
                self.error(key, f'unknown key "{key.text}" in {what}', hint)
        for name in required:
            if name not in entries and name not in misspelt:
                self.error(node, f'{what} lacks "{name}"')
        return entries

    def as_list(self, node: Node, what: str, *, one: bool = False) -> tuple[Node, ...] | None:
        """The items of a list. ``one``: a single value counts as a list of one."""
        if isinstance(node, SequenceNode):
            return node.items
        if one and isinstance(node, ScalarNode) and not node.empty:
            return (node,)
        self._misfit(node, f"{what} must be a list" + (" or a single value" if one else ""))
        return None

    def as_str(self, node: Node, what: str, *, lines: bool = False) -> str | None:
        """The text of a scalar, whatever it looks like (``0660``, ``no``); ``lines`` allows line breaks."""
        if not isinstance(node, ScalarNode) or node.empty or node.damaged:
            self._misfit(node, f"{what} must be text")
            return None
        text = node.text.strip() if node.style in ("|", ">") else node.text
        if any(c < " " or "\x7f" <= c <= "\x9f" for c in (text.replace("\n", "") if lines else text)):
            self.error(node, f"{what} contains a control character" + ("" if lines else " or a line break"))
            return None
        if not text.strip():
            self.error(node, f"{what} is empty")
            return None
        return text

    def as_bool(self, node: Node, what: str) -> bool | None:
        """``true`` or ``false``, unquoted."""
        if isinstance(node, ScalarNode) and node.plain and node.text in ("true", "True", "TRUE"):
            return True
        if isinstance(node, ScalarNode) and node.plain and node.text in ("false", "False", "FALSE"):
            return False
        hint = None
        if isinstance(node, ScalarNode):
            word = node.text.casefold()
            hint = "true" if word in ("yes", "on", "y", "true", "1") else None
            hint = "false" if word in ("no", "off", "n", "false", "0") else hint
        self._misfit(node, f"{what} must be true or false", hint)
        return None

    def as_int(self, node: Node, what: str, low: int | None = None, high: int | None = None) -> int | None:
        """A decimal number from ``low`` to ``high``, unquoted and without leading zeros."""
        value: int | None = None
        if isinstance(node, ScalarNode) and node.plain and re.fullmatch(r"-?(0|[1-9][0-9]{0,17})", node.text):
            value = int(node.text)
        if value is None or (low is not None and value < low) or (high is not None and value > high):
            bounds = f" from {low}" if low is not None else ""
            bounds += f" up to {high}" if high is not None else ""
            quoted = isinstance(node, ScalarNode) and not node.plain and node.text.isdecimal()
            self._misfit(node, f"{what} must be a whole number{bounds}" + (", without quotes" if quoted else ""))
            return None
        return value

    def as_choice(self, node: Node, what: str, choices: Mapping[str, _T]) -> _T | None:
        """What a word stands for in ``choices``; words are compared exactly."""
        if isinstance(node, ScalarNode) and not node.damaged and node.text in choices:
            return choices[node.text]
        words = ", ".join([*islice(choices, _NAMED), "…"] if len(choices) > _NAMED else choices)
        got = f', not "{node.text}"' if isinstance(node, ScalarNode) and not node.empty else ""
        hint = self.nearest(node.text, choices) if isinstance(node, ScalarNode) else None
        self._misfit(node, f"{what} must be one of {words}{got}", hint)
        return None

    def _misfit(self, node: Node, message: str, hint: str | None = None) -> None:
        if isinstance(node, ScalarNode) and node.damaged:
            return
        if isinstance(node, ScalarNode) and node.empty:
            message += ", but has no value"
        self.error(node, message, hint)
