"""Address patterns of ``from``, ``to`` and groups: which mailboxes does a list of them mean?

Entries are ``name@domain``, ``@domain``, ``@.domain`` (the domain and all below it), a glob over the whole address
(``*`` and ``?``; one that begins with ``@`` or ``@.`` is about the domain), ``<>`` (the null reverse-path), ``group:name`` and
``not`` before any of these. A list means: some entry without ``not`` fits (or there is none), and no entry with
``not`` does. Case and Unicode form do not count, and an internationalised domain equals its A-labels. Pure. Fails:
:class:`AddressError` when an entry is read, never when a mailbox is compared.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache

import idna

from kaifu.policies.facts import Mailbox, domain_key, is_dot_string
from kaifu.policies.patterns import compile_re2, glob_expression, is_glob
from kaifu.policies.text import fold, nfc

NULL = "<>"
MAX_ADDRESS = 320

_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_LITERAL = re.compile(r"\[[!-Z^-~]+\]")
_BLANK = re.compile(r"\s")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')


class AddressError(ValueError):
    """An entry is no address pattern. ``hint``: what may have been meant."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Addresses:
    """The mailboxes that some entries mean, without ``not``: exact addresses, domains, suffixes and globs."""

    exact: frozenset[str] = frozenset()
    domains: frozenset[str] = frozenset()
    suffixes: frozenset[str] = frozenset()
    globs: frozenset[str] = frozenset()
    null: bool = False
    _glob: _Globs = field(init=False, repr=False, compare=False)
    _ends: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_glob", _Globs(self.globs))
        object.__setattr__(self, "_ends", tuple("." + s for s in sorted(self.suffixes)))

    def __bool__(self) -> bool:
        return self.null or bool(self.exact or self.domains or self.suffixes or self.globs)

    def has(self, mailbox: Mailbox | None, null: bool = False) -> bool:
        """Is a mailbox among them? ``null``: the reverse-path is null, whoever the sender is."""
        if (null or mailbox is None) and self.null:
            return True
        if mailbox is None:
            return "*" in self.globs
        if mailbox.domain:
            key, domain = mailbox.key, mailbox.domain_key
            if key in self.exact or domain in self.domains or domain in self.suffixes:
                return True
            if self._ends and domain.endswith(self._ends):
                return True
        elif mailbox.key in self.exact:
            return True
        return bool(self.globs) and self._glob.has(mailbox)

    def covers(self, other: Addresses) -> bool:
        """True when every mailbox of ``other`` is provably here; False proves nothing."""
        if self is other or "*" in self.globs:
            return True
        return (
            other.globs <= self.globs
            and (self.null or not other.null)
            and all(("." + s).endswith(self._ends) for s in other.suffixes)
            and all(d in self.domains or ("." + d).endswith(self._ends) for d in other.domains)
            and all(key in self.exact or self._has_key(key) for key in other.exact)
        )

    def _has_key(self, key: str) -> bool:
        local, _, domain = key.rpartition("@")
        return self.has(Mailbox(local, domain))


def union(parts: Iterable[Addresses]) -> Addresses:
    """All mailboxes of several patterns."""
    parts = tuple(parts)
    if len(parts) == 1:
        return parts[0]  # many rules share one large group
    return Addresses(
        frozenset().union(*(p.exact for p in parts)),
        frozenset().union(*(p.domains for p in parts)),
        frozenset().union(*(p.suffixes for p in parts)),
        frozenset().union(*(p.globs for p in parts)),
        any(p.null for p in parts),
    )


class _Globs:
    """Globs over whole addresses, tried on the A-label and, where it matters, the U-label form."""

    __slots__ = ("_ascii", "_unicode")

    def __init__(self, globs: Iterable[str]) -> None:
        by_a_labels = {g: _glob_in_a_labels(g) for g in sorted(globs)}
        self._ascii = _compile(by_a_labels.values())
        self._unicode = _compile(g for g, a in by_a_labels.items() if not a.isascii())

    def has(self, mailbox: Mailbox) -> bool:
        if any(found(mailbox.key) for found in self._ascii):
            return True
        if not self._unicode:
            return False
        key = _unicode_key(mailbox.local_part, mailbox.domain)
        return any(found(key) for found in self._unicode)


def _compile(globs: Iterable[str]) -> tuple[Callable[[str], bool], ...]:
    """Globs joined into few expressions, each small enough for RE2."""
    expressions = [glob_expression(g) for g in globs]
    return tuple(compile_re2("|".join(expressions[i : i + 16])) for i in range(0, len(expressions), 16))


def _glob_in_a_labels(glob: str) -> str:
    """A glob with each domain label that has no wildcard in the form of :func:`domain_key`."""
    local, at, domain = glob.rpartition("@")
    labels = [label if is_glob(label) or not label else domain_key(label) for label in domain.split(".")]
    return local + at + ".".join(labels)


_EVERYBODY = Addresses(globs=frozenset("*"))


@lru_cache(maxsize=1024)
def _unicode_key(local_part: str, domain: str) -> str:
    """``local@domain`` folded, with U-labels, for globs that hold letters beyond ASCII."""
    labels = []
    for label in domain_key(domain).split("."):
        try:
            labels.append(idna.decode(label) if label.startswith("xn--") else label)
        except (idna.IDNAError, UnicodeError):
            labels.append(label)
    return fold(local_part) + ("@" + ".".join(labels) if domain else "")


@dataclass(frozen=True, slots=True)
class AddressList:
    """The meaning of a whole list: ``some`` must have the mailbox (None: no such entry), ``none`` must not."""

    some: Addresses | None
    none: Addresses

    def has(self, mailbox: Mailbox | None, null: bool = False) -> bool:
        """Does the list hold for a mailbox? (See :meth:`Addresses.has`.)"""
        if self.some is not None and not self.some.has(mailbox, null):
            return False
        return not (self.none and self.none.has(mailbox, null))

    def covers(self, other: AddressList) -> bool:
        """True when this list provably holds wherever ``other`` holds."""
        if self.some is not None and (other.some is None or not self.some.covers(other.some)):
            return False
        return other.none.covers(self.none)

    @property
    def impossible(self) -> bool:
        """True when it provably holds for no mailbox."""
        return self.none.covers(_EVERYBODY if self.some is None else self.some)


def entry(text: str) -> Addresses:
    """One entry that is neither ``group:`` nor ``not``. Raises :class:`AddressError`."""
    if len(text) > MAX_ADDRESS:
        raise AddressError(f"an address pattern has at most {MAX_ADDRESS} characters")
    if text == NULL:
        return Addresses(null=True)
    named = re.search(r"<([^<>]*)>\Z", text)
    if named:
        raise AddressError(f'"{text}": write the bare address, without name and brackets', named.group(1))
    if is_glob(text) and not text.startswith('"'):
        return _glob(text)
    if text.startswith("@"):
        below = text.startswith("@.")
        key = _domain(text[2:] if below else text[1:], text)
        return Addresses(suffixes=frozenset((key,))) if below else Addresses(domains=frozenset((key,)))
    return Addresses(exact=frozenset((mailbox(text).key,)))


def mailbox(text: str) -> Mailbox:
    """An address as a policy writes it, ``name@domain``. Raises :class:`AddressError`."""
    local, at, domain = text.rpartition("@")
    if not at:
        raise AddressError(
            f'"{text}" is no address (name@domain)', "@" + text if "." in text and is_domain(text) else None
        )
    _domain(domain, text)
    quoted = _QUOTED.fullmatch(local)
    if quoted:
        local = re.sub(r"\\(.)", r"\1", quoted.group(1))
    elif not is_dot_string(nfc(local)) or _BLANK.search(local):
        raise AddressError(f'"{text}" is no address: "{local}" cannot stand before the @')
    return Mailbox(local, domain.removesuffix("."))


def _domain(text: str, whole: str) -> str:
    """The key of a domain or address literal; what no mail domain can be is refused."""
    if not _LITERAL.fullmatch(text) and not is_domain(text):
        raise AddressError(f'"{whole}": "{text}" is no domain')
    return domain_key(text)


def is_domain(text: str) -> bool:
    """Can a text be a mail domain, in its own script or as A-labels? One dot may stand at its end."""
    key = domain_key(text)
    return (
        text == text.strip()
        and not text.endswith("..")
        and len(key) <= 253
        and all(_LABEL.fullmatch(label) for label in key.split("."))
    )


def _glob(text: str) -> Addresses:
    if _BLANK.search(text):
        raise AddressError(f'"{text}": an address has no blanks; separate entries with commas')
    if text.count("*") + text.count("?") > 32:
        raise AddressError(f'"{text}": more than 32 wildcards')
    local, at, domain = text.rpartition("@")
    domain = domain.removesuffix(".") if at else domain
    below = not local and domain.startswith(".")
    domain = domain.removeprefix(".") if below else domain
    if at and not domain.startswith("[") and not all(is_glob(d) or is_domain(d) for d in domain.split(".")):
        raise AddressError(f'"{text}": "{domain}" is no domain')
    whole = (local or "*") + at + domain if at else text
    globs = (whole, f"*@*.{domain}") if below else (whole,)
    return Addresses(globs=frozenset(re.sub(r"\*+", "*", fold(glob)) for glob in globs))
