"""Aliases: whose mail goes to whom, from the files that the mail server itself reads (Postfix aliases(5) and virtual(5)).

:mod:`kaifu.proxy.trustfiles` reads the files and calls :func:`parse_aliases`; :mod:`kaifu.proxy.originals` asks
:meth:`Aliases.reaches`, so that an answer from somebody who gets the mail of the asked address counts for it. ``kaifu config
check`` reports the lines that cannot be read; they are left out, and the rest counts.

The two syntaxes are told apart line by line: ``name: target, target`` with a colon after the name is aliases(5), ``name@domain
target, target`` without one is virtual(5). Lines that begin with white space go on; empty lines and lines that begin with ``#`` are
passed over, also in between. Names may be quoted; targets may be quoted, in brackets after a display name, or begin with a
backslash. Commands (``|…``), files (``/…``) and lists (``:include:…``) are nobody's mailbox and are left out. ``@domain`` stands
for all its mailboxes that have no line of their own; as a target, for the same name there.

A name without a domain is a mailbox of every domain of the realm, not of the subdomains that a leading dot adds. Chains are
followed to their end, through circles, to at most :data:`MOST_REACHED` mailboxes. Case does not count, nor do
tags (``name+tag``) but for a name that has a line of its own with its tag.

Pure; linear in the text. Never raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from kaifu.policies.facts import Realm, domain_key, mailbox_key
from kaifu.proxy.address import DOMAIN, unquote_local_part, untagged

MOST_REACHED = 10_000
"""Mailboxes that one name may reach."""

_MOST_REMEMBERED = 300_000  # mailboxes, over all names that were asked for

_QUOTED = r'"(?>(?:[^"\\]|\\.)*)"'
_ALIAS = re.compile(rf'({_QUOTED}|[^\s"#:@][^\s":]*+)\s*+:(.*)', re.DOTALL)
_VIRTUAL = re.compile(rf'((?>(?:{_QUOTED}|[^\s"])+))\s++(.*)', re.DOTALL)
_ITEM = re.compile(rf'(?>(?:{_QUOTED}|[^",])+)|(,)')
_WORD = re.compile(rf'(?>(?:{_QUOTED}|[^\s"])+)')
_BRACKETS = re.compile(r"<([^<>]*+)>\s*+\Z")
_NOBODY = re.compile(r'"?(?:\||/|:include:)')


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that was left out, or something in it, and why. ``line`` counts from 1."""

    line: int
    message: str


class Aliases:
    """Names and their targets. Do not modify."""

    __slots__ = ("_domains", "_entries", "_reached", "_remembered")

    def __init__(self, entries: Mapping[str, tuple[str, ...]] | None = None, realm: Realm | None = None) -> None:
        """``entries``: what :func:`parse_aliases` found."""
        self._entries = dict(entries or {})
        self._domains = frozenset(domain_key(d.removeprefix(".")) for d in realm.domains) if realm else frozenset()
        self._reached: dict[str, frozenset[str]] = {}
        self._remembered = 0

    def __len__(self) -> int:
        return len(self._entries)

    def reaches(self, name: str, target: str) -> bool:
        """Does mail for one mailbox go to another one too? Both as :attr:`~kaifu.policies.facts.Mailbox.key`."""
        if not self._entries:
            return False
        target = untagged(target)
        reached = self._reached_from(name)
        if target in reached:
            return True
        local, _, domain = target.rpartition("@")
        return domain in self._domains and local in reached

    def either(self, one: str, other: str) -> bool:
        """Does one of two mailboxes get the mail of the other?"""
        return self.reaches(one, other) or self.reaches(other, one)

    def _reached_from(self, name: str) -> frozenset[str]:
        known = self._reached.get(name)
        if known is None:
            known = self._follow(name)
            self._remembered += 1 + len(known)
            if self._remembered > _MOST_REMEMBERED:
                self._reached.clear()
                self._remembered = 1 + len(known)
            self._reached[name] = known
        return known

    def _follow(self, name: str) -> frozenset[str]:
        reached: set[str] = set()
        waiting = [name]
        while waiting and len(reached) < MOST_REACHED:
            for target in self._targets(waiting.pop()):
                if target not in reached:
                    reached.add(target)
                    waiting.append(target)
        return frozenset(reached)

    def _targets(self, name: str) -> Iterator[str]:
        """Where the mail of one mailbox goes, one step: by its own line, else that of the name without its tag."""
        local, _, domain = name.rpartition("@") if "@" in name else (name, "", "")
        plain = _without_tag(local)
        found = self._lines(local, domain) or (self._lines(plain, domain) if plain != local else [])
        if not found and domain:
            found = list(self._entries.get(f"@{domain}", ()))
        for target in found:
            yield plain + target if target.startswith("@") else target

    def _lines(self, local: str, domain: str) -> list[str]:
        """The targets of a name; one without a domain is the same as that name in every domain of ours."""
        if not domain:
            names = [local, *(f"{local}@{own}" for own in self._domains)]
        else:
            names = [f"{local}@{domain}", local] if domain in self._domains else [f"{local}@{domain}"]
        return [target for name in names for target in self._entries.get(name, ())]


NO_ALIASES = Aliases()


def parse_aliases(text: str) -> tuple[dict[str, tuple[str, ...]], list[BadLine]]:
    """The names of a file with their targets, and what of it could not be read.

    Names and targets are in the form in which mailboxes are compared (:attr:`~kaifu.policies.facts.Mailbox.key`), targets
    without their tags.
    """
    entries: dict[str, tuple[str, ...]] = {}
    bad: list[BadLine] = []
    places: dict[str, int] = {}
    for number, line in _logical_lines(text, bad):
        alias = _ALIAS.match(line)
        found = alias or _VIRTUAL.match(line)
        if found is not None and alias is None and "@" not in line and "." in found[1]:
            continue  # a domain that virtual(5) only declares
        if found is None or (alias is None and "@" not in line):
            bad.append(BadLine(number, "neither name: target, nor name@domain and its target"))
            continue
        name = _key(found[1])
        if name is None:
            bad.append(BadLine(number, f"{found[1][:100]} is no name of a mailbox"))
        elif name in places:
            bad.append(BadLine(number, f"{found[1][:100]} is in line {places[name]} already; that one counts"))
        else:
            places[name] = number
            targets = _targets(found[2], number, bad)
            if targets:
                entries[name] = targets
    return entries, bad


def _logical_lines(text: str, bad: list[BadLine]) -> Iterator[tuple[int, str]]:
    """Each line with those that continue it, and the number of its first."""
    start, parts = 0, list[str]()
    for number, line in enumerate(text.split("\n"), 1):
        plain = line.strip()
        if not plain or plain.startswith("#"):
            continue
        if line[0] in " \t":
            if parts:
                parts.append(plain)
            else:
                bad.append(BadLine(number, "it begins with white space, but there is no line that it could continue"))
            continue
        if parts:
            yield start, " ".join(parts)
        start, parts = number, [plain]
    if parts:
        yield start, " ".join(parts)


def _targets(value: str, number: int, bad: list[BadLine]) -> tuple[str, ...]:
    """The mailboxes among the targets of a line."""
    items = list(_items(value))
    if not items:
        bad.append(BadLine(number, "it names no target"))
    found: dict[str, None] = {}
    for item in items:
        if _NOBODY.match(item):
            continue
        key = _key(item, tag=False)
        if key is None:
            bad.append(BadLine(number, f"{item[:100]} is no mail address"))
        else:
            found[key] = None
    return tuple(found)


def _items(value: str) -> Iterator[str]:
    """The targets of a line: between commas, or, where a piece has no brackets, between blanks too."""
    end = 0
    for piece in _ITEM.finditer(value):
        if piece.start() != end:
            break
        end = piece.end()
        text = "" if piece[1] else piece[0].strip()
        brackets = _BRACKETS.search(text)
        if brackets is not None:
            yield brackets[1]
        elif _NOBODY.match(text):
            yield text
        else:
            yield from text.split() if '"' not in text else _WORD.findall(text)
    if value[end:].strip():
        yield value[end:].strip()  # a quote that never closes, which is no address


def _without_tag(local: str) -> str:
    return local.partition("+")[0] or local


def _key(address: str, *, tag: bool = True) -> str | None:
    """An address of a file in the form in which mailboxes are compared; None when it is none."""
    address = address.removeprefix("\\").strip()
    local, at, domain = address.rpartition("@")
    if not at:
        local, domain = address, ""
    name = unquote_local_part(local)
    if (at and not DOMAIN.fullmatch(domain)) or not (name or at) or re.search(r'["\x00-\x1f\x7f]', name):
        return None
    if re.search(r"[\s,<>()]", local) and not local.startswith('"'):
        return None
    return mailbox_key(name if tag else _without_tag(name), domain) if name else f"@{domain_key(domain)}"


def merged(files: Iterable[Mapping[str, tuple[str, ...]]]) -> dict[str, tuple[str, ...]]:
    """The names of several files; the targets of a name that is in more than one are put together."""
    entries: dict[str, tuple[str, ...]] = {}
    for file in files:
        for name, targets in file.items():
            entries[name] = tuple(dict.fromkeys((*entries.get(name, ()), *targets)))
    return entries
