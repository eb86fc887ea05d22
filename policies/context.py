"""What the readers of conditions share: names that the file defines, and how a value becomes patterns or a field name."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from kaifu.policies.addresses import Addresses
from kaifu.policies.document import Checker, Node, ScalarNode, SequenceNode
from kaifu.policies.facts import HeaderView
from kaifu.policies.patterns import Pattern, PatternError, pattern
from kaifu.policies.vocabulary import HEADER_FORM

SourceTest: TypeAlias = Callable[[HeaderView], bool]


@dataclass(slots=True)
class Context:
    """What conditions refer to by name. ``used`` collects the names that something refers to."""

    checker: Checker
    groups: dict[str, Addresses | None] = field(default_factory=dict)
    sensitivities: dict[str, tuple[SourceTest, ...]] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)


def text_of(node: Node) -> str:
    """A value as people read it, in one line."""
    if isinstance(node, ScalarNode):
        return " ".join(node.text.split())
    if isinstance(node, SequenceNode):
        return "[" + ", ".join(text_of(item) for item in node.items) + "]"
    return "{" + ", ".join(f"{key.text}: {text_of(value)}" for key, value in node.entries) + "}"


def items_of(context: Context, key: str, node: Node) -> tuple[Node, ...]:
    """One value or several; an empty list is an error, since it would never hold."""
    items = context.checker.as_list(node, key, one=True)
    if items == ():
        context.checker.error(node, f"{key} is an empty list and would never hold")
    return items or ()


def patterns(context: Context, key: str, node: Node) -> tuple[Pattern, ...]:
    """One pattern or several."""
    made = (one_pattern(context, key, item) for item in items_of(context, key, node))
    return tuple(p for p in made if p is not None)


def one_pattern(context: Context, key: str, node: Node) -> Pattern | None:
    """A pattern; a fault is noted at the character where it stands."""
    text = context.checker.as_str(node, key)
    if text is None:
        return None
    try:
        return pattern(text)
    except PatternError as error:
        place = node.at(error.offset) if isinstance(node, ScalarNode) else (node.line, node.column)
        context.checker.error(place, f"{key}: {error}")
        return None


def header_name(context: Context, node: Node, what: str) -> str | None:
    """The name of a header field as written; RFC 5322 2.2 says which characters it can have."""
    name = context.checker.as_str(node, what)
    if name is not None and not re.match(HEADER_FORM, name):
        hint = name.rstrip(": ") if re.match(HEADER_FORM, name.rstrip(": ")) else None
        context.checker.error(node, f'"{name}" is no header field name', hint)
        return None
    return name
