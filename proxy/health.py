"""How relay and milter are, and how the last verification ended, as they leave it in files for whoever looks.

Relay and milter write (:mod:`kaifu.proxy.healthkeeper`), ``kaifu ledger verify`` and screens write what a verification found, and screens
read. The files lie in a directory beside the ledger (:mod:`kaifu.proxy.healthfile`); they may be deleted at any time, and prove nothing:
whoever can write the ledger can write them. No personal data is in them, but for the name of who verified; a policy that was rejected is
quoted where it is wrong.

A file is one JSON object with the fields of :class:`Health` or :class:`Verified`, times as RFC 3339 in UTC; here they are UTC microseconds
since 1970. What cannot be read as such an object is no health. Reading never fails; writing a health fails with OSError.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .healthfile import read_files, write_file
from .ledger_entries import at_text, at_value

if TYPE_CHECKING:
    from .ledger_anchor import Anchor
    from .ledger_verify import Report

STALE_MICROSECONDS = 20_000_000
MOST_PROBLEMS = 20
MOST_TEXT = 500
VERIFIED = "verified.json"
_Some = TypeVar("_Some")


@dataclass(frozen=True, slots=True)
class Rejected:
    """The policy on disk is not in force. ``at``: since when; ``problems``: the first ones, as ``file:line:column: message``."""

    at: int
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PolicyHealth:
    """The policy in force. ``loaded_at``: when this process took it from its file."""

    path: str
    digest: str
    mode: str
    loaded_at: int
    rejected: Rejected | None = None


@dataclass(frozen=True, slots=True)
class Failing:
    """The ledger could not be used when it was last needed. ``since``: when that began, ``last_at``: the last time."""

    since: int
    last_at: int
    error: str


@dataclass(frozen=True, slots=True)
class NextHopHealth:
    """``reachable``: at the last attempt, None before the first; ``since``: since when it is, or is not."""

    address: str
    reachable: bool | None = None
    since: int | None = None
    last_error: str | None = None
    last_success_at: int | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """One process. ``host``: relay or milter; ``worker``: of several processes of one relay, from 1; ``settings``: its settings file.

    ``at``: when this was written. ``stopped``: it has ended in order. ``ledger``: None while it can be used. ``next_hop``: None for a
    milter. ``counters``: since the start, name to number. ``stale``: nothing was heard for longer than there should be; it was killed, or hangs.
    """

    version: str
    pid: int
    host: str
    worker: int
    settings: str
    started_at: int
    listen: tuple[str, ...]
    policy: PolicyHealth
    at: int = 0
    stopped: bool = False
    ledger: Failing | None = None
    next_hop: NextHopHealth | None = None
    counters: Mapping[str, int] | None = None
    stale: bool = False

    @property
    def name(self) -> str:
        """Of its file: the same after a restart, another one for another worker or other settings."""
        return f"{self.host}-{_digest(self.settings)}-{self.worker}.json"

    def worth_telling(self) -> object:
        """What a change of is told at once."""
        ledger = self.ledger and (self.ledger.since, self.ledger.error)
        next_hop = self.next_hop and (self.next_hop.reachable, self.next_hop.since)
        return self.pid, self.policy, ledger, next_hop, self.stopped


@dataclass(frozen=True, slots=True)
class UsedAnchor:
    """An anchor that a verification compared with. ``at``: as it says itself."""

    batch: int
    entry: int
    at: str
    holds: bool


@dataclass(frozen=True, slots=True)
class Verified:
    """A verification. ``by``: who asked for it; ``head``: of the last batch, in hexadecimal; ``whole``: nothing was found.

    ``problems``: how many findings there were, ``findings``: the first of them in words.
    """

    at: int
    by: str
    ledger: str
    entries: int
    batches: int
    head: str
    whole: bool
    problems: int
    findings: tuple[str, ...]
    anchors: tuple[UsedAnchor, ...]


def read_health(ledger: Path, now: int) -> tuple[Health, ...]:
    """Every process that left its health beside this ledger, by host and worker. ``now``: UTC microseconds."""
    found = []
    for name, octets in read_files(ledger):
        health = _decoded(octets, _health)
        if health is not None and health.name == name:
            stale = not health.stopped and abs(now - health.at) > STALE_MICROSECONDS
            found.append(replace(health, stale=stale))
    return tuple(sorted(found, key=lambda each: (each.host != "relay", each.settings, each.worker)))


def read_verified(ledger: Path) -> Verified | None:
    """How the last verification ended that was told; None when none was."""
    octets = dict(read_files(ledger)).get(VERIFIED)
    return None if octets is None else _decoded(octets, _verified)


def write_health(ledger: Path, health: Health) -> None:
    """Leave a health beside the ledger."""
    write_file(ledger, health.name, _encoded(health))


def write_verified(ledger: Path, report: Report, anchors: Sequence[Anchor], by: str, now: int) -> None:
    """Leave what a verification found beside the ledger that it was of, as far as that can be done; never fails.

    Only of the ledger that the settings name. ``by``: who asked for it; ``now``: UTC microseconds.
    """
    used = tuple(UsedAnchor(each.batch, each.last, each.at, each in report.holding) for each in anchors[:MOST_PROBLEMS])
    verified = Verified(
        at=now,
        by=by,
        ledger=report.ledger,
        entries=report.entries,
        batches=report.batches,
        head=report.head,
        whole=report.intact,
        problems=report.problems,
        findings=tuple(finding.text[:MOST_TEXT] for finding in report.findings[:MOST_PROBLEMS]),
        anchors=used,
    )
    with suppress(OSError):
        write_file(ledger, VERIFIED, _encoded(verified))


def of_settings(host: str, settings: str) -> Callable[[str], bool]:
    """Is a file of this name the health of one of its processes?"""
    begin = f"{host}-{_digest(settings)}-"
    return lambda name: name.startswith(begin)


def _digest(settings: str) -> str:
    return sha256(settings.encode("utf-8", "replace")).hexdigest()[:8]


# To and from JSON.

_TIMES = ("at", "loaded_at", "since", "last_at", "started_at", "last_success_at")


def _encoded(value: object) -> bytes:
    return (json.dumps(_plain(value), ensure_ascii=False, indent=1) + "\n").encode("utf-8", "replace")


def _plain(value: object) -> Any:
    if is_dataclass(value):
        given = {field.name: getattr(value, field.name) for field in fields(value) if field.name != "stale"}
        return {
            name: at_text(each) if name in _TIMES and isinstance(each, int) else _plain(each)
            for name, each in given.items()
        }
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if isinstance(value, Mapping):
        return dict(value)
    return value


def _decoded(octets: bytes, make: Callable[[_Given], _Some]) -> _Some | None:
    try:
        return make(_Given(json.loads(octets)))
    except (TypeError, ValueError, RecursionError, OverflowError):
        return None


class _Given:
    """A JSON object, asked for values of a type. TypeError for what is none, or has another."""

    def __init__(self, value: object) -> None:
        if not isinstance(value, dict):
            raise TypeError("no object")
        self._value: dict[str, object] = value

    def of(self, kind: type[_Some], name: str) -> _Some:
        found = self._value.get(name)
        if type(found) is not kind:
            raise TypeError(name)
        return found

    def maybe(self, kind: type[_Some], name: str) -> _Some | None:
        return None if self._value.get(name) is None else self.of(kind, name)

    def time(self, name: str) -> int:
        return at_value(self.of(str, name))

    def maybe_time(self, name: str) -> int | None:
        return None if self._value.get(name) is None else self.time(name)

    def texts(self, name: str) -> tuple[str, ...]:
        found = self.of(list, name)
        if not all(isinstance(each, str) for each in found):
            raise TypeError(name)
        return tuple(found)

    def objects(self, name: str) -> list[_Given]:
        return [_Given(each) for each in self.of(list, name)]

    def part(self, name: str, make: Callable[[_Given], _Some]) -> _Some | None:
        found = self._value.get(name)
        return None if found is None else make(_Given(found))

    def maybe_numbers(self, name: str) -> dict[str, int] | None:
        if self._value.get(name) is None:
            return None
        return {key: value for key, value in self.of(dict, name).items() if type(value) is int}


def _health(given: _Given) -> Health:
    policy = given.part("policy", _policy)
    if policy is None:
        raise TypeError("policy")
    return Health(
        version=given.of(str, "version"),
        pid=given.of(int, "pid"),
        host=given.of(str, "host"),
        worker=given.of(int, "worker"),
        settings=given.of(str, "settings"),
        started_at=given.time("started_at"),
        listen=given.texts("listen"),
        policy=policy,
        at=given.time("at"),
        stopped=given.of(bool, "stopped"),
        ledger=given.part(
            "ledger", lambda part: Failing(part.time("since"), part.time("last_at"), part.of(str, "error"))
        ),
        next_hop=given.part("next_hop", _next_hop),
        counters=given.maybe_numbers("counters"),
    )


def _policy(given: _Given) -> PolicyHealth:
    rejected = given.part("rejected", lambda part: Rejected(part.time("at"), part.texts("problems")))
    path, digest, mode = (given.of(str, name) for name in ("path", "digest", "mode"))
    return PolicyHealth(path, digest, mode, given.time("loaded_at"), rejected)


def _next_hop(given: _Given) -> NextHopHealth:
    return NextHopHealth(
        given.of(str, "address"),
        given.maybe(bool, "reachable"),
        given.maybe_time("since"),
        given.maybe(str, "last_error"),
        given.maybe_time("last_success_at"),
    )


def _verified(given: _Given) -> Verified:
    anchors = tuple(
        UsedAnchor(each.of(int, "batch"), each.of(int, "entry"), each.of(str, "at"), each.of(bool, "holds"))
        for each in given.objects("anchors")
    )
    return Verified(
        at=given.time("at"),
        by=given.of(str, "by"),
        ledger=given.of(str, "ledger"),
        entries=given.of(int, "entries"),
        batches=given.of(int, "batches"),
        head=given.of(str, "head"),
        whole=given.of(bool, "whole"),
        problems=given.of(int, "problems"),
        findings=given.texts("findings"),
        anchors=anchors,
    )
