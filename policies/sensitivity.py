"""How sensitive and how important does a message say it is? Header fields to words.

The built-in sensitivities read ``Sensitivity``; a policy adds sources of its own, each a field and what it has, is or
matches. Functions over headers never raise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kaifu.policies.context import Context, SourceTest, header_name, one_pattern
from kaifu.policies.document import MappingNode, Node
from kaifu.policies.facts import HeaderView
from kaifu.policies.text import fold
from kaifu.policies.vocabulary import Importance


def sensitivity_source(context: Context, node: Node, name: str) -> SourceTest | None:
    """One of the places where a message says that it is sensitive: a field, and what it has, is or matches."""
    checker = context.checker
    known = ("header", "has", "is", "pattern")
    entries = checker.as_mapping(node, f"a source of {name}", known, ("header",))
    if not isinstance(node, MappingNode) or entries is None or len(entries) < len(node.entries):
        return None
    tests = [key for key in ("has", "is", "pattern") if key in entries]
    if len(tests) != 1:
        checker.error(node, f'a source of {name} needs one of "has", "is" and "pattern"')
        return None
    found = header_name(context, entries["header"][1], "header") if "header" in entries else None
    matches = _source_test(context, tests[0], entries[tests[0]][1])
    if found is None or matches is None:
        return None
    field_name, test = found.lower(), matches
    return lambda headers: any(test(value) for value in headers.values(field_name))


def _source_test(context: Context, key: str, node: Node) -> Callable[[str], bool] | None:
    if key == "pattern":
        made = one_pattern(context, key, node)
        return made.matches if made else None
    text = context.checker.as_str(node, key)
    if text is None:
        return None
    wanted = fold(text.strip())
    if key == "has":
        return lambda value: wanted in fold(value)
    return lambda value: fold(value.strip()) == wanted


def built_in_sensitivity(name: str) -> SourceTest:
    """The Sensitivity field (RFC 4021) says ``name``; Company-Confidential with or without its hyphen."""

    def test(headers: HeaderView) -> bool:
        return any(fold(value.strip()).replace(" ", "-") == name for value in headers.values("sensitivity"))

    return test


_X_PRIORITY: Final = {
    "1": Importance.HIGH,
    "2": Importance.HIGH,
    "3": Importance.NORMAL,
    "4": Importance.LOW,
    "5": Importance.LOW,
}
_PRIORITY: Final = {"urgent": Importance.HIGH, "non-urgent": Importance.LOW}


def importance(headers: HeaderView) -> Importance:
    """What the first field says that says anything: Importance, X-Priority, Priority, X-MSMail-Priority."""
    for name in ("importance", "x-priority", "priority", "x-msmail-priority"):
        for value in headers.values(name):
            word = value.strip()[:16].lower()
            if name == "x-priority":
                said = _X_PRIORITY.get(word[:1])
            else:
                said = _PRIORITY.get(word) or (Importance(word) if word in ("high", "normal", "low") else None)
            if said is not None:
                return said
    return Importance.NORMAL
