"""Read YAML as text with positions: the reader behind policies and settings, and the only importer of yaml.

:func:`read` turns a file into nodes that keep the text of every scalar as it was written, with line and column.
Nothing is guessed from the look of a scalar, so ``on``, ``18:00``, ``0660`` and ``2024-01-01`` stay text until
somebody asks for a number or a truth value, which is what :class:`Checker` is for.

Limits: 1 MiB, 32 levels, 200,000 nodes counted after aliases are followed. Anchors and aliases work; merge keys
(``<<``), tags, several documents and duplicate keys are problems. Fails: never raises on any input; what is wrong
comes back as problems, and a node that was repaired in order to read on is marked ``damaged`` so that one mistake
is reported once.
"""

from __future__ import annotations

import re
from typing import Any, Final

import yaml

from kaifu.policies.nodes import (
    Checker,
    Entries,
    MappingNode,
    Node,
    Problem,
    ProblemsError,
    ScalarNode,
    SequenceNode,
    in_order,
    nearest,
)

__all__ = [
    "Checker",
    "Entries",
    "MappingNode",
    "Node",
    "Problem",
    "ProblemsError",
    "ScalarNode",
    "SequenceNode",
    "in_order",
    "nearest",
    "read",
]

MAX_OCTETS: Final = 1 << 20
MAX_DEPTH: Final = 32
MAX_NODES: Final = 200_000
MAX_REPAIRS: Final = 20
# Each repair reads the file anew from the start, so a long file has fewer.
MAX_REREAD: Final = 1 << 18
# A noncharacter, which no file can hold without a problem, so what holds it has had its problem.
DAMAGED: Final = "\U0010ffff"


def read(text: str | bytes, filename: str) -> tuple[Node | None, list[Problem]]:
    """The root node of a YAML file and everything wrong with it. No node: the problems say why."""
    problems: list[Problem] = []
    clean = _decode(text, filename, problems)
    if clean is None:
        return None, problems
    if not clean.strip():
        return None, [*problems, Problem(filename, 1, 1, "the file is empty")]
    repaired: list[int] = []
    while True:
        builder = _Builder(filename, clean, frozenset(repaired))
        try:
            root = builder.build()
        except _Refused as refused:
            broken, offset = refused.problem, refused.repair
            # One mistake is reported once: what stopped the scanner may be a character that had its problem.
            if not any((p.line, p.column) == (broken.line, broken.column) for p in problems):
                problems.append(broken)
            if offset is None or len(repaired) >= MAX_REPAIRS or (len(repaired) + 1) * len(clean) > MAX_REREAD:
                return None, list(in_order(problems))
            # Put a mark that no file means in the place of the character that stopped the scanner, and read on:
            # the columns stay, and whoever forgot the quotes five times hears of all five.
            repaired.append(offset)
            clean = clean[:offset] + DAMAGED + clean[offset + 1 :]
            continue
        found = [*problems, *builder.problems]
        if root is None and not found:
            found.append(Problem(filename, 1, 1, "the file is empty"))
        return root, list(in_order(found))


# --- octets to characters ---------------------------------------------------------------------------------------

_UNPRINTABLE = re.compile("[^\t\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010fffe]")


def _place(text: str, offset: int) -> tuple[int, int]:
    """Line and column (from 1) of a character; the end of the file belongs to its last line."""
    offset = min(offset, len(text))
    if offset == len(text) and text.endswith("\n"):
        offset = max(0, len(text) - 1)
    start = text.rfind("\n", 0, offset) + 1
    return text.count("\n", 0, offset) + 1, offset - start + 1


def _decode(source: str | bytes, filename: str, problems: list[Problem]) -> str | None:
    """Characters with only ``\\n`` as line end, anything unfit for YAML reported and replaced."""
    if len(source) > MAX_OCTETS:
        problems.append(Problem(filename, 1, 1, f"the file is larger than {MAX_OCTETS} octets"))
        return None
    if isinstance(source, bytes):
        if source.startswith((b"\xff\xfe", b"\xfe\xff")):
            problems.append(Problem(filename, 1, 1, "the file is UTF-16; save it as UTF-8"))
            return None
        text = source.decode("utf-8", "surrogateescape")
    else:
        text = source
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    bad = 0
    for number, line in enumerate(text.split("\n"), 1):
        found = _UNPRINTABLE.search(line)
        if found and bad < MAX_REPAIRS:  # one in a line will do: a file in another encoding has one in every word
            bad += 1
            message = _unprintable(found.group(), isinstance(source, bytes))
            problems.append(Problem(filename, number, found.start() + 1, message))
    return _UNPRINTABLE.sub(DAMAGED, text)


def _unprintable(character: str, from_octets: bool) -> str:
    if character == "\r":
        return "a carriage return without a line feed; end lines with LF"
    if from_octets and "\udc80" <= character <= "\udcff":
        return f"not UTF-8 (octet 0x{ord(character) - 0xDC00:02X}); save the file as UTF-8"
    return f"the character U+{ord(character):04X} cannot stand here; write it as an escape in double quotes"


# --- characters to nodes ----------------------------------------------------------------------------------------


class _Refused(Exception):
    """The reader cannot go on. ``repair``: the offset of a character without which it could."""

    def __init__(self, problem: Problem, repair: int | None = None) -> None:
        super().__init__(str(problem))
        self.problem = problem
        self.repair = repair


class _Open:
    """A list or mapping whose end has not been read yet."""

    __slots__ = ("anchor", "children", "column", "is_mapping", "line", "weight")

    def __init__(self, line: int, column: int, is_mapping: bool, anchor: str | None) -> None:
        self.line = line
        self.column = column
        self.is_mapping = is_mapping
        self.anchor = anchor
        self.children: list[Node] = []
        self.weight = 1


class _Builder:
    """Nodes from the events of PyYAML's parser, without recursion."""

    def __init__(self, filename: str, text: str, repaired: frozenset[int]) -> None:
        self.filename = filename
        self.text = text
        self.repaired = repaired
        self.problems: list[Problem] = []
        self.anchors: dict[str, Node | None] = {}
        self.stack: list[_Open] = []
        self.root: Node | None = None
        self.documents = 0

    def build(self) -> Node | None:
        loader = yaml.SafeLoader(self.text)
        try:
            while loader.check_event() and self.documents <= 1:
                self._take(loader.get_event())  # type: ignore[no-untyped-call]
        except yaml.MarkedYAMLError as error:
            raise self._syntax(error) from None
        except (yaml.YAMLError, ValueError, OverflowError, IndexError):
            # PyYAML lets chr() and int() fail on escapes and versions beyond their range.
            message = "not valid YAML: a number or escape out of range"
            raise _Refused(self._problem(loader.get_mark().index, message)) from None
        finally:
            loader.dispose()
        return self.root

    def _problem(self, offset: int, message: str, hint: str | None = None) -> Problem:
        return Problem(self.filename, *_place(self.text, offset), message, hint)

    def _take(self, event: Any) -> None:
        """One event. (PyYAML's types leave marks and names optional, which they are not here.)"""
        mark = event.start_mark
        if isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                self.problems.append(self._problem(mark.index, "only one document can stand in a file"))
        elif isinstance(event, yaml.AliasEvent):
            self._alias(str(event.anchor), mark)
        elif isinstance(event, yaml.ScalarEvent):
            self._no_tag(event.tag, mark)
            self._add(self._scalar(event, mark, event.end_mark), event.anchor, mark)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._no_tag(event.tag, mark)
            if len(self.stack) >= MAX_DEPTH:
                raise _Refused(self._problem(mark.index, f"nested deeper than {MAX_DEPTH} levels"))
            if event.anchor is not None:
                self.anchors[event.anchor] = None
            is_mapping = isinstance(event, yaml.MappingStartEvent)
            self.stack.append(_Open(mark.line + 1, mark.column + 1, is_mapping, event.anchor))
        elif isinstance(event, yaml.CollectionEndEvent):
            done = self.stack.pop()
            self._add(self._close(done), done.anchor, mark)

    def _no_tag(self, tag: str | None, mark: Any) -> None:
        if tag is not None:
            message = 'tags ("!…") mean nothing here; put a value that begins with "!" in quotes'
            self.problems.append(self._problem(mark.index, message))

    def _scalar(self, event: yaml.ScalarEvent, start: Any, end: Any) -> ScalarNode:
        style, value = event.style or "", str(event.value)
        damaged = DAMAGED in value or event.tag is not None
        try:
            # Two escapes of UTF-16 code units, as JSON writes them, are one character.
            value = value if value.isascii() else value.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
        except UnicodeDecodeError:
            self.problems.append(self._problem(start.index, "half a surrogate pair is no character"))
            damaged = True
        quote = 1 if style in ("'", '"') else 0
        verbatim = self.text[start.index + quote : end.index - quote] == value
        # An empty value (``key:``) at the end of the file starts after the last line.
        line, column = (start.line + 1, start.column + 1) if value else _place(self.text, start.index)
        return ScalarNode(line, column, value, style, verbatim, damaged)

    def _alias(self, name: str, mark: Any) -> None:
        if name not in self.anchors:
            message = f'nothing above is anchored as "&{name}"; put a value that begins with "*" in quotes'
            self.problems.append(self._problem(mark.index, message))
        elif self.anchors[name] is None:
            self.problems.append(self._problem(mark.index, f'"*{name}" would contain itself'))
        node = self.anchors.get(name)
        if node is None:
            node = ScalarNode(mark.line + 1, mark.column + 1, "*" + name, damaged=True)
        self._add(node, None, mark)

    def _add(self, node: Node, anchor: str | None, mark: Any) -> None:
        if anchor is not None:
            self.anchors[anchor] = node
        if not self.stack:
            if self.documents <= 1:
                self.root = node
            return
        parent = self.stack[-1]
        parent.children.append(node)
        parent.weight += 1 if isinstance(node, ScalarNode) else node.weight
        if parent.weight > MAX_NODES:
            raise _Refused(self._problem(mark.index, f"more than {MAX_NODES} values, aliases followed"))

    def _close(self, done: _Open) -> Node:
        if not done.is_mapping:
            return SequenceNode(done.line, done.column, tuple(done.children), done.weight)
        entries: dict[str, tuple[ScalarNode, Node]] = {}
        for key, value in zip(done.children[::2], done.children[1::2], strict=True):
            if not isinstance(key, ScalarNode):
                self._at(key, "a key must be a word, not a list or mapping")
            elif key.text == "<<" and key.plain:
                self._at(key, 'merge keys ("<<") are not supported; write the keys out')
            elif key.text in entries:
                self._at(key, f'"{key.text}" is given twice; the first is in line {entries[key.text][0].line}')
            elif not key.damaged:
                entries[key.text] = key, value
        return MappingNode(done.line, done.column, tuple(entries.values()), done.weight)

    def _at(self, node: Node, message: str) -> None:
        self.problems.append(Problem(self.filename, node.line, node.column, message))

    def _syntax(self, error: yaml.MarkedYAMLError) -> _Refused:
        """PyYAML's complaint in our words, where its own do not say what to do."""
        problem, context = str(error.problem or ""), str(error.context or "")
        mark = error.problem_mark or error.context_mark
        offset = mark.index if mark is not None else 0
        start = error.context_mark.index if error.context_mark is not None else offset
        begins = self.text[start : start + 1]
        if "'\\t'" in problem:
            return _Refused(self._problem(offset, "a tab cannot indent or separate here; use spaces"))
        quotable = problem.startswith("found character") and self.text[offset : offset + 1] in ("@", "`", "%", "|", ">")
        if quotable:
            # In an address glob such as *x@y the scanner sees an alias *x and stumbles over the @ behind it.
            alias = re.search(r"\*[^\s,\[\]{}]*\Z", self.text[max(0, offset - 200) : offset])
            start = offset - len(alias.group()) if alias else offset
            begins = self.text[start]
        if quotable or context in (
            "while scanning an alias",
            "while scanning an anchor",
            "while scanning a block scalar",
        ):
            message = f'a value that begins with "{begins}" must stand in quotes'
            return _Refused(self._problem(start, message), None if start in self.repaired else start)
        if problem.startswith("mapping values are not allowed"):
            message = 'unexpected ":"; put a value that contains ": " in quotes, or check the indentation'
            return _Refused(self._problem(offset, message))
        if "quoted scalar" in context and "end of stream" in problem:
            return _Refused(self._problem(start, "this quote is never closed"))
        if "flow sequence" in context or "flow mapping" in context:
            closing = "]" if "sequence" in context else "}"
            begin = _place(self.text, start)[0]
            message = f'expected "," or "{closing}" (for the one that opens in line {begin}); between brackets, '
            message += "a value that contains , ? [ ] { } must stand in quotes"
            return _Refused(self._problem(offset, message))
        if problem.startswith("could not find expected ':'"):
            return _Refused(self._problem(start, 'this line is neither "key: value" nor part of what stands above'))
        if "block mapping" in context or "block collection" in context:
            what = "mapping" if "mapping" in context else "list"
            message = f"this does not fit into the {what} that begins in line {_place(self.text, start)[0]}; "
            return _Refused(self._problem(offset, message + "check the indentation"))
        return _Refused(self._problem(offset, f"not valid YAML: {problem}" + (f" ({context})" if context else "")))
