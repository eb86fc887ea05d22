"""Load a policy: YAML text in, a compiled :class:`~kaifu.policies.rules.Policy` out, or every error of the file at once.

Who calls it: relay and milter at start and when the file changes, ``kaifu policy check`` and ``explain``, the screens.
Nothing here is on the mail path. A file of some hundred rules takes milliseconds, one at the limit of 1 MiB seconds;
a host that must not pause loads in a thread and then swaps one reference. Fails: with
:class:`~kaifu.policies.document.ProblemsError` and nothing else, also when the file cannot be read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from hashlib import sha256
from math import ceil
from os import PathLike, fspath
from typing import Any, Final

from kaifu.policies.addresses import AddressError, Addresses, mailbox, union
from kaifu.policies.conditions import address, conditions
from kaifu.policies.context import Context, SourceTest, header_name, items_of, text_of
from kaifu.policies.decision import Confirm, DeliveryReport, Receipt, Record, Request, Suppress
from kaifu.policies.document import (
    MAX_OCTETS,
    Checker,
    Entries,
    MappingNode,
    Node,
    Problem,
    ProblemsError,
    ScalarNode,
    read,
)
from kaifu.policies.facts import Direction
from kaifu.policies.lint import lint
from kaifu.policies.rules import Condition, Group, Notify, Policy, Rule, Then, compile_policy, compile_rule
from kaifu.policies.sensitivity import built_in_sensitivity, sensitivity_source
from kaifu.policies.vocabulary import (
    DEFAULTS,
    GROUP_FORM,
    RETAIN_FORM,
    RULE,
    SENSITIVITIES,
    THEN,
    TOP,
    VERSION,
    WHEN,
    Mode,
)

__all__ = ["lint", "load", "load_file", "read_file"]

MAX_NAME: Final = 200
MAX_YEARS: Final = 100
# In whole days, rounded up: what must be kept for seven years is there on the last day of the seventh.
_DAYS: Final = {"d": 1.0, "w": 7.0, "m": 365.25 / 12, "y": 365.25}

# Fields that carry the message itself. Counting one as a receipt request would strip it.
_NEVER_REQUESTS: Final = frozenset(
    "arc-authentication-results arc-message-signature arc-seal authentication-results auto-submitted bcc cc date "
    "dkim-signature from in-reply-to message-id mime-version precedence received references reply-to return-path "
    "sender subject to".split()
)


def load_file(path: str | PathLike[str]) -> Policy:
    """The policy in a file. Raises :class:`ProblemsError`, also when the file cannot be read."""
    return load(read_file(path), fspath(path))


def read_file(path: str | PathLike[str]) -> bytes:
    """What stands in a policy file, as far as it can be one: for :func:`load`. Raises :class:`ProblemsError`."""
    try:
        with open(path, "rb") as file:
            return file.read(MAX_OCTETS + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ProblemsError([Problem(fspath(path), 0, 0, f"cannot be read: {reason}")]) from None


def load(text: str | bytes, filename: str) -> Policy:
    """The policy that a text holds. ``filename`` is for messages. Raises :class:`ProblemsError`."""
    octets = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    node, problems = read(text, filename)
    checker = Checker(filename, problems)
    if node is None:
        raise ProblemsError(checker.problems)
    reader = _Reader(checker)
    parts = reader.policy(node)
    checker.raise_errors()
    assert parts is not None
    return compile_policy(file=filename, digest=sha256(octets).hexdigest()[:16], **parts)


class _Reader:
    """One pass over the nodes of a policy file."""

    def __init__(self, checker: Checker) -> None:
        self.checker = checker
        self.context = Context(checker)
        self.names: dict[str, int] = {}

    def policy(self, root: Node) -> dict[str, Any] | None:
        """The parts of a policy; incomplete when problems were noted."""
        top = self.checker.as_mapping(root, "the policy", TOP, ("version",))
        if top is None:
            return None
        self._version(top)
        groups = self._groups(top)
        sensitivities = self._sensitivities(top)
        mode = self._mode(top)
        defaults = self._defaults(top)
        request_headers = self._request_headers(top)
        rules = self._rules(top, defaults, mode)
        names = (*(f"group:{g.name}" for g in groups), *(f"sensitivity:{s.name}" for s in sensitivities))
        return {
            "mode": mode,
            "rules": rules,
            "defaults": defaults,
            "groups": groups,
            "sensitivities": sensitivities,
            "unused": tuple(name for name in names if name not in self.context.used),
            "request_headers": request_headers,
        }

    def _version(self, top: Entries) -> None:
        if "version" not in top:
            return
        version = self.checker.as_int(top["version"][1], "version")
        if version is not None and version != VERSION:
            self.checker.error(top["version"][1], f"this kaifu reads version {VERSION}, not {version}")

    def _mode(self, top: Entries) -> Mode:
        if "mode" not in top:
            return Mode.ENFORCE
        return self.checker.as_choice(top["mode"][1], "mode", {str(m): m for m in Mode}) or Mode.ENFORCE

    # --- names -------------------------------------------------------------------------------------------------

    def _groups(self, top: Entries) -> tuple[Group, ...]:
        entries = self.checker.as_mapping(top["groups"][1], "groups") if "groups" in top else None
        groups = []
        for name, (key, value) in (entries or {}).items():
            if not self._is_name(key, "a group"):
                continue
            members = self._members(name, value)
            self.context.groups[name] = union(members) if members is not None else None
            groups.append(Group(name, (key.line, key.column), len(members or ())))
        return tuple(groups)

    def _is_name(self, key: ScalarNode, what: str) -> bool:
        text = self.checker.as_str(key, f"the name of {what}")
        if text is not None and not re.match(GROUP_FORM, text):
            self.checker.error(key, f'"{text}": the name of {what} has no blanks, commas or colons')
            return False
        return text is not None

    def _members(self, name: str, node: Node) -> list[Addresses] | None:
        items = self.checker.as_list(node, f"group {name}", one=True)
        if items is None:
            return None
        members = []
        for item in items:
            text = self.checker.as_str(item, f"a member of group {name}")
            if text is None:
                continue
            if text.startswith(("group:", "not ")):
                self.checker.error(item, f'"{text}": a group holds addresses only; use group: and not in rules')
            elif (found := address(self.context, item, text.strip())) is not None:
                members.append(found)
        return members

    def _sensitivities(self, top: Entries) -> tuple[Group, ...]:
        known = self.context.sensitivities
        known.update((name, (built_in_sensitivity(name),)) for name in SENSITIVITIES)
        entries = self.checker.as_mapping(top["sensitivity"][1], "sensitivity") if "sensitivity" in top else None
        added = []
        for name, (key, value) in (entries or {}).items():
            if not self._is_name(key, "a sensitivity"):
                continue
            items = (value,) if isinstance(value, MappingNode) else items_of(self.context, name, value)
            made = (sensitivity_source(self.context, item, name) for item in items)
            sources: tuple[SourceTest, ...] = tuple(s for s in made if s is not None)
            known[name] = known.get(name, ()) + sources
            added.append(Group(name, (key.line, key.column), len(sources)))
        return tuple(added)

    def _request_headers(self, top: Entries) -> tuple[str, ...]:
        found: dict[str, str] = {}
        if "request_headers" not in top:
            return ()
        for item in items_of(self.context, "request_headers", top["request_headers"][1]):
            name = header_name(self.context, item, "request_headers")
            if name is None:
                continue
            if name.lower() in _NEVER_REQUESTS or name.lower().startswith(("content-", "list-", "resent-")):
                self.checker.error(item, f'"{name}" asks for no receipt; stripping it would damage mail')
            elif name.lower() == "x-auto-response-suppress":
                self.checker.error(item, f'"{name}" asks for no receipt; it forbids some, and suppress writes it')
            elif name.lower() in found:
                self.checker.error(item, f'"{name}" is given twice (case does not count)')
            else:
                found[name.lower()] = name
        return tuple(found.values())

    # --- then and defaults -------------------------------------------------------------------------------------

    def _defaults(self, top: Entries) -> dict[Direction, Then]:
        known = {str(d): d for d in Direction}
        entries = self.checker.as_mapping(top["defaults"][1], "defaults", known) if "defaults" in top else None
        return {
            known[name]: self._then(value, f"defaults.{name}", DEFAULTS) for name, (_, value) in (entries or {}).items()
        }

    def _then(self, node: Node, what: str, known: Mapping[str, object]) -> Then:
        if isinstance(node, MappingNode) and "basis" not in known:
            for key, _ in node.entries:
                if key.text == "basis":
                    self.checker.error(key, "a basis is for one purpose; it belongs to a rule, not to the defaults")
            node = MappingNode(node.line, node.column, tuple(e for e in node.entries if e[0].text != "basis"))
        entries = self.checker.as_mapping(node, what, known) or {}
        values = {name: self._action(name, value) for name, (_, value) in entries.items()}
        return Then(
            **values,
            places={name: (key.line, key.column) for name, (key, _) in entries.items()},
            texts={name: text_of(value) for name, (_, value) in entries.items()},
        )

    def _action(self, key: str, node: Node) -> Any:
        if key in _CHOICES:
            return self.checker.as_choice(node, key, {str(c): c for c in _CHOICES[key]})
        if key == "retain":
            return self._retain(node)
        if key == "notify":
            return self._notify(node)
        text = self.checker.as_str(node, key, lines=True)
        return " ".join(text.split()) if text is not None else None

    def _retain(self, node: Node) -> int | None:
        text = self.checker.as_str(node, "retain")
        if text is None:
            return None
        days = ceil(int(text[:-1]) * _DAYS[text[-1]]) if re.match(RETAIN_FORM, text) else 0
        if not 0 < days <= MAX_YEARS * _DAYS["y"]:
            message = f'retain must be a time such as 90d, 2w, 6m or 7y, at most {MAX_YEARS}y, not "{text}"'
            self.checker.error(node, message)
            return None
        return days

    def _notify(self, node: Node) -> Notify | None:
        text = self.checker.as_str(node, "notify")
        if text is None:
            return None
        if text == "sender":
            return Notify(None)
        try:
            return Notify(mailbox(text))
        except AddressError as error:
            hint = error.hint or self.checker.nearest(text, ("sender",))
            self.checker.error(node, f"notify must be sender or an address: {error}", hint)
            return None

    # --- rules -------------------------------------------------------------------------------------------------

    def _rules(self, top: Entries, defaults: Mapping[Direction, Then], mode: Mode) -> tuple[Rule, ...]:
        items = self.checker.as_list(top["rules"][1], "rules") if "rules" in top else None
        return tuple(rule for item in items or () if (rule := self._rule(item, defaults, mode)) is not None)

    def _rule(self, node: Node, defaults: Mapping[Direction, Then], mode: Mode) -> Rule | None:
        entries = self.checker.as_mapping(node, "a rule", RULE, ("name", "then"))
        if entries is None:
            return None
        name = self._name(entries["name"][1]) if "name" in entries else None
        when = self._when(entries["when"][1]) if "when" in entries else ()
        then = self._then(entries["then"][1], "then", THEN) if "then" in entries else None
        if name is None or then is None:
            return None
        return compile_rule(name, (node.line, node.column), when, then, defaults, mode)

    def _name(self, node: Node) -> str | None:
        name = self.checker.as_str(node, "the name of a rule")
        if name is None:
            return None
        if len(name) > MAX_NAME:
            self.checker.error(node, f"the name of a rule has at most {MAX_NAME} characters")
            return None
        if name in self.names:
            self.checker.error(
                node, f'another rule is called "{name}" (line {self.names[name]}); the ledger cites names'
            )
            return None
        self.names[name] = node.line
        return name

    def _when(self, node: Node) -> tuple[Condition, ...]:
        entries = self.checker.as_mapping(node, "when", WHEN) or {}
        return tuple(c for key, (_, value) in entries.items() for c in conditions(self.context, key, value))


_CHOICES: Final[Mapping[str, type[StrEnum]]] = {
    "request": Request,
    "delivery_report": DeliveryReport,
    "receipt": Receipt,
    "record": Record,
    "confirm": Confirm,
    "suppress": Suppress,
}
