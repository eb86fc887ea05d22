"""Conditions: each key of ``when``, from its node in the file to a function over facts.

Who calls it: :mod:`kaifu.policies.load`, once per rule. Every function here takes a :class:`Context` and a node and
gives conditions, or none after it has noted what is wrong. The functions that conditions hold look at facts only and
never raise; header values are folded and decoded before they come here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final

from kaifu.policies.addresses import NULL, AddressError, Addresses, AddressList, entry, union
from kaifu.policies.context import Context, header_name, items_of, patterns, text_of
from kaifu.policies.document import MappingNode, Node, ScalarNode
from kaifu.policies.facts import AskedBy, Consent, Direction, Facts, Kind, Mailbox, MessageFacts
from kaifu.policies.patterns import Pattern
from kaifu.policies.rules import Condition, Test
from kaifu.policies.sensitivity import importance
from kaifu.policies.sizes import comparisons, possible, within
from kaifu.policies.times import time_test
from kaifu.policies.vocabulary import Importance

# What costs less is tried first; the order of conditions in the file does not matter.
_COST: Final = {
    "kind": 0,
    "direction": 0,
    "requested": 1,
    "consent": 1,
    "asked_by": 1,
    "size": 2,
    "to": 3,
    "from": 4,
    "time": 5,
    "importance": 6,
    "sensitivity": 7,
    "subject": 8,
    "header": 9,
}


def conditions(context: Context, key: str, node: Node) -> tuple[Condition, ...]:
    """The conditions that one key of ``when`` stands for (``header`` can be several)."""
    if key == "header":
        return _header(context, node)
    made = _MAKERS[key](context, key, node)
    if made is None:
        return ()
    meaning, holds, seen = made
    return (Condition(key, text_of(node), (node.line, node.column), meaning, _COST[key], holds, seen),)


_Made = tuple[frozenset[str] | AddressList, Test, Callable[[Facts], str]]


def _of_message(test: Callable[[MessageFacts], bool]) -> Test:
    """A test of what all recipients share. It is tried once for each message: a long subject times many recipients is much.

    Remembers the last message only; threads that judge at the same time at worst try once more.
    """
    last: tuple[MessageFacts | None, bool] = (None, False)

    def holds(facts: Facts) -> bool:
        nonlocal last
        message, verdict = last
        if message is not facts.message:
            verdict = test(facts.message)
            last = facts.message, verdict
        return verdict

    return holds


# --- words ------------------------------------------------------------------------------------------------------


def _words(context: Context, key: str, node: Node, choices: type[StrEnum]) -> frozenset[str]:
    known = {str(c): str(c) for c in choices}
    found = (context.checker.as_choice(item, key, known) for item in items_of(context, key, node))
    return frozenset(word for word in found if word is not None)


def _kind(context: Context, key: str, node: Node) -> _Made | None:
    words = _words(context, key, node, Kind)
    return (words, lambda facts: facts.message.kind in words, lambda facts: facts.message.kind) if words else None


def _direction(context: Context, key: str, node: Node) -> _Made | None:
    words = _words(context, key, node, Direction)
    return (words, lambda facts: facts.direction in words, lambda facts: facts.direction) if words else None


def _consent(context: Context, key: str, node: Node) -> _Made | None:
    words = _words(context, key, node, Consent)
    return (words, lambda facts: facts.consent in words, lambda facts: facts.consent) if words else None


def _asked_by(context: Context, key: str, node: Node) -> _Made | None:
    words = _words(context, key, node, AskedBy)
    if not words:
        return None

    def holds(facts: Facts) -> bool:
        return facts.message.kind is not Kind.MAIL and facts.asked_by in words

    return words, holds, lambda facts: "not asked of mail" if facts.message.kind is Kind.MAIL else facts.asked_by


def _requested(context: Context, key: str, node: Node) -> _Made | None:
    wanted = context.checker.as_bool(node, key)
    if wanted is None:
        return None
    return (
        frozenset(("true" if wanted else "false",)),
        lambda facts: facts.message.requested is wanted,
        lambda facts: "true" if facts.message.requested else "false",
    )


# --- addresses --------------------------------------------------------------------------------------------------


def addresses(context: Context, key: str, node: Node) -> AddressList | None:
    """The list of ``from`` or ``to``, with ``not`` and ``group:``."""
    some: list[Addresses] = []
    none: list[Addresses] = []
    for item in items_of(context, key, node):
        text = context.checker.as_str(item, key)
        if text is None:
            continue
        negated = re.match(r"not\s+", text.strip())
        wanted = text.strip()[negated.end() :] if negated else text.strip()
        if negated and wanted[:1] in ("'", '"') and wanted[-1:] == wanted[:1]:
            # Quotes inside a plain YAML value are part of it, and no domain ends with one.
            context.checker.error(item, f"{key}: the quotes must stand around the whole value", f"not {wanted[1:-1]}")
            continue
        found = _entry_or_group(context, item, wanted)
        if found is not None:
            (none if negated else some).append(found)
    if not some and not none:
        return None
    return AddressList(union(some) if some else None, union(none))


def _entry_or_group(context: Context, node: Node, text: str) -> Addresses | None:
    if not text.startswith("group:"):
        return address(context, node, text)
    name = text.removeprefix("group:")
    if name not in context.groups:
        close = context.checker.nearest(name, context.groups)
        context.checker.error(node, f'there is no group "{name}"', f"group:{close}" if close else None)
        return None
    context.used.add(text)
    return context.groups[name]


def address(context: Context, node: Node, text: str) -> Addresses | None:
    """One entry that is not a group."""
    try:
        return entry(text)
    except AddressError as error:
        hint = f"group:{text}" if text in context.groups else error.hint
        context.checker.error(node, str(error), hint)
        return None


def _shown(mailbox: Mailbox | None) -> str:
    return NULL if mailbox is None else str(mailbox)


def _from(context: Context, key: str, node: Node) -> _Made | None:
    listed = addresses(context, key, node)
    if listed is None:
        return None

    def holds(facts: Facts) -> bool:
        return listed.has(facts.message.sender, facts.message.null_reverse_path)

    return listed, holds, lambda facts: _shown(facts.message.sender)


def _to(context: Context, key: str, node: Node) -> _Made | None:
    listed = addresses(context, key, node)
    if listed is None:
        return None
    return listed, lambda facts: listed.has(facts.recipient), lambda facts: _shown(facts.recipient)


# --- text and headers -------------------------------------------------------------------------------------------


def _subject(context: Context, key: str, node: Node) -> _Made | None:
    made = patterns(context, key, node)
    if not made:
        return None
    tests = tuple(p.matches for p in made)

    def holds(message: MessageFacts) -> bool:
        return any(matches(message.subject) for matches in tests)

    return frozenset(p.key for p in made), _of_message(holds), lambda facts: f'"{facts.message.subject}"'


def _header(context: Context, node: Node) -> tuple[Condition, ...]:
    entries = context.checker.as_mapping(node, "header")
    if entries is None:
        return ()
    if not entries:
        context.checker.error(node, "header names no field")
    made: dict[str, Condition] = {}
    for key_node, value in entries.values():
        name = header_name(context, key_node, "a header field name")
        tests = patterns(context, f"header {key_node.text}", value)
        if name is None or not tests:
            continue
        if name.lower() in made:
            context.checker.error(key_node, f'the field "{name}" is given twice (case does not count)')
            continue
        made[name.lower()] = _header_condition(name, key_node, value, tests)
    return tuple(made.values())


def _header_condition(name: str, key_node: Node, value: Node, made: tuple[Pattern, ...]) -> Condition:
    field_name, tests = name.lower(), tuple(p.matches for p in made)

    def holds(message: MessageFacts) -> bool:
        return any(matches(v) for v in message.headers.values(field_name) for matches in tests)

    def seen(facts: Facts) -> str:
        return ", ".join(f'"{v}"' for v in facts.message.headers.values(field_name)) or "no such field"

    meaning, place = frozenset(p.key for p in made), (key_node.line, key_node.column)
    return Condition(f"header {name}", text_of(value), place, meaning, _COST["header"], _of_message(holds), seen)


# --- sensitivity and importance ---------------------------------------------------------------------------------


def _sensitivity(context: Context, key: str, node: Node) -> _Made | None:
    known = {name: name for name in context.sensitivities}
    items = items_of(context, key, node)
    words = frozenset(w for item in items if (w := context.checker.as_choice(item, key, known)) is not None)
    context.used.update(f"sensitivity:{word}" for word in words)
    if not words:
        return None
    tests = tuple(test for word in sorted(words) for test in context.sensitivities[word])
    every = context.sensitivities

    def holds(message: MessageFacts) -> bool:
        return any(test(message.headers) for test in tests)

    def seen(facts: Facts) -> str:
        headers = facts.message.headers
        return ", ".join(n for n, sources in every.items() if any(test(headers) for test in sources)) or "none"

    return words, _of_message(holds), seen


def _importance(context: Context, key: str, node: Node) -> _Made | None:
    words = _words(context, key, node, Importance)
    if not words:
        return None
    return (
        words,
        lambda facts: importance(facts.message.headers) in words,
        lambda facts: importance(facts.message.headers),
    )


# --- size and time ----------------------------------------------------------------------------------------------


def _size(context: Context, key: str, node: Node) -> _Made | None:
    ranges = []
    for item in items_of(context, key, node):
        text = item.text if isinstance(item, ScalarNode) else ""
        found = comparisons(text.strip())
        if found is not None and not possible(found):
            context.checker.error(item, f'no size is "{text.strip()}", so this would never hold')
        elif found is not None:
            ranges.append((" ".join(text.lower().split()), found))
        elif not (isinstance(item, ScalarNode) and item.damaged):
            context.checker.error(item, 'size must be a comparison in quotes with a unit, such as ">5MB" or "<=10KiB"')
    if not ranges:
        return None

    def holds(facts: Facts) -> bool:
        size = facts.message.size
        if size is None:
            return False
        return any(within(size, found) for _, found in ranges)

    meaning = frozenset(text for text, _ in ranges)
    return meaning, holds, lambda facts: "not known" if facts.message.size is None else f"{facts.message.size} octets"


def _time(context: Context, key: str, node: Node) -> _Made | None:
    items = (node,) if isinstance(node, MappingNode) else items_of(context, key, node)
    made = [test for item in items if (test := time_test(context.checker, item)) is not None]
    if not made:
        return None
    return (
        frozenset(text_of(item) for item in items),
        lambda facts: any(test(facts.now) for test in made),
        lambda facts: facts.now.isoformat(timespec="minutes"),
    )


_MAKERS: Final[Mapping[str, Callable[[Context, str, Node], _Made | None]]] = {
    "kind": _kind,
    "direction": _direction,
    "from": _from,
    "to": _to,
    "subject": _subject,
    "sensitivity": _sensitivity,
    "importance": _importance,
    "consent": _consent,
    "requested": _requested,
    "asked_by": _asked_by,
    "size": _size,
    "time": _time,
}
