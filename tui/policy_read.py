"""What the policy screen asks for: the policy file, how often its rules decided, what relay and milter say; and what would happen to a message.

Each function is a question for :meth:`kaifu.tui.asking.Asker.ask`: it runs in the thread of the desk, where files may be read. Without Textual. A file
that somebody names is read only with rights of his own (:meth:`kaifu.proxy.ledger_desk.Desk.own_files`).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from email.header import Header
from pathlib import Path

from kaifu.policies.document import Problem, ProblemsError
from kaifu.policies.load import lint, load, read_file
from kaifu.policies.rules import Policy
from kaifu.proxy.access import Access, AccessError, Role
from kaifu.proxy.display import visible
from kaifu.proxy.explain import Explanation, Question, explain
from kaifu.proxy.health import Health, read_health
from kaifu.proxy.ledger import LedgerError
from kaifu.proxy.ledger_cli import Failure, failing
from kaifu.proxy.ledger_desk import Desk, GivenUpError
from kaifu.proxy.policyfile import Stamp, stamp_of
from kaifu.proxy.settings import Settings
from kaifu.proxy.trustfiles import trust_of

HITS_MICROSECONDS = 30 * 86_400_000_000
MOST_OCTETS = 64 << 20
"""Of a message in a file."""


@dataclass(frozen=True, slots=True)
class PolicyText:
    """A policy file as it was read. ``policy`` None: ``problems`` are the errors; else they are warnings. ``lines``: of the file."""

    file: str
    policy: Policy | None
    problems: tuple[Problem, ...]
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Standing:
    """The policy and what became of it. ``shown``: the file's, or when that is broken the one in force last, since ``of``.

    ``hits``: rule to the number of recipients that it decided in the last 30 days. ``stamp``: of the file that was read.
    """

    stamp: Stamp
    read: PolicyText
    shown: Policy | None
    of: int | None
    hits: Mapping[str, int]
    health: tuple[Health, ...]


@dataclass(frozen=True, slots=True)
class Typed:
    """What was typed to try a message. ``message``, ``candidate``: files, "" for none; ``asks``: the message asks for a receipt."""

    sender: str = ""
    recipients: str = ""
    subject: str = ""
    message: str = ""
    candidate: str = ""
    asks: bool = False

    @property
    def is_message(self) -> bool:
        """Is there a message to try?"""
        return bool(self.sender and self.recipients)


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of it. ``error``: why nothing did, or why the ledger was not asked, in a sentence."""

    typed: Typed
    now: Explanation | None = None
    candidate: PolicyText | None = None
    then: Explanation | None = None
    error: str = ""


def read_text(path: Path) -> PolicyText:
    """A policy file with all that is wrong with it."""
    try:
        octets = read_file(path)
    except ProblemsError as error:
        return PolicyText(str(path), None, error.problems)
    lines = tuple(octets.decode("utf-8", "replace").splitlines())
    try:
        policy = load(octets, str(path))
    except ProblemsError as error:
        return PolicyText(str(path), None, error.problems, lines)
    return PolicyText(str(path), policy, tuple(lint(policy)), lines)


def standing(
    desk: Desk, settings: Settings, who: Access, now: int, before: Standing | None = None, count: bool = True
) -> Standing:
    """The policy of the settings, as it stands. ``now``: UTC microseconds.

    ``before``: as it stood; what the file says is taken from there while the file is the same, and without ``count`` the counts.
    """
    stamp = stamp_of(settings.policy)
    if before is not None and before.stamp == stamp:
        read, shown, since = before.read, before.shown, before.of
    else:
        read = read_text(settings.policy)
        shown, since = read.policy, None
        if shown is None and who.allows(Role.AUDITOR):
            shown, since = _in_force(desk, settings.policy)
    hits = before.hits if before is not None and not count else desk.rule_hits(now - HITS_MICROSECONDS)
    return Standing(stamp, read, shown, since, hits, read_health(desk.path, now))


def _in_force(desk: Desk, path: Path) -> tuple[Policy | None, int | None]:
    """The policy that was recorded last, and since when it is in force."""
    for version in desk.policy_versions(1):
        if version.text is not None:
            with suppress(ProblemsError):
                return load(version.text, str(path)), version.at
    return None, None


def tried(desk: Desk, settings: Settings, typed: Typed, at: datetime) -> Tried:
    """Try a message with the policy of the settings, and with a candidate if one is named; check that. ``at``: as if it came then."""
    candidate = None
    try:
        if typed.candidate:
            desk.own_files(_FILE, _INSTEAD)
            _need_regular(Path(typed.candidate))
            candidate = read_text(Path(typed.candidate))
        if not typed.is_message:
            return Tried(typed, candidate=candidate)
        if typed.message:
            desk.own_files(_FILE, _INSTEAD)
        raw = _octets(Path(typed.message)) if typed.message else composed(typed)
        trust = trust_of(settings)[0]
        question = Question(typed.sender, _split(typed.recipients), raw, at, trust=trust)
        read = read_text(settings.policy)
        if read.policy is None:
            return Tried(typed, candidate=candidate, error="; ".join(map(str, read.problems[:3])))
        now, error = _asked(desk, read.policy, settings, question)
        then = None
        if candidate is not None and candidate.policy is not None:
            then, _ = _asked(desk, candidate.policy, settings, question)
    except ValueError as mistake:
        return Tried(typed, candidate=candidate, error=str(mistake))
    return Tried(typed, now, candidate, then, error)


_FILE, _INSTEAD = "a file", "type sender, recipients and subject instead"


def _asked(desk: Desk, policy: Policy, settings: Settings, question: Question) -> tuple[Explanation, str]:
    """Explained with what the ledger knows; without it, and why, when it does not answer. Who is refused, or gave up, gets nothing."""
    try:
        with failing(desk.path):
            try:
                return explain(policy, settings.realm, question.asking(desk.known)), ""
            except (AccessError, GivenUpError) as error:
                ended: LedgerError = error
    except Failure as failure:
        return explain(policy, settings.realm, question), failure.message
    raise ended


def _split(recipients: str) -> tuple[str, ...]:
    """Several with commas or spaces between."""
    return tuple(recipients.replace(",", " ").split())


def composed(typed: Typed) -> bytes:
    """A message of one line, as it was typed. ``Disposition-Notification-To`` (RFC 8098 2.1) when it asks for a receipt."""
    header = [("From", typed.sender), ("To", ", ".join(_split(typed.recipients)))]
    header.append(
        ("Subject", Header(typed.subject, "utf-8").encode() if not typed.subject.isascii() else typed.subject)
    )
    if typed.asks:
        header.append(("Disposition-Notification-To", typed.sender))
    lines = [f"{name}: {value}".replace("\n", "\r\n") for name, value in header]
    return ("\r\n".join(lines) + "\r\n\r\n.\r\n").encode("utf-8", "replace")


def _need_regular(path: Path) -> None:
    """ValueError for what is no file: a pipe would be waited for."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError(f"{visible(str(path))}: no file")
    except OSError as error:
        raise ValueError(f"{visible(str(path))}: {error.strerror or error}") from None


def _octets(path: Path) -> bytes:
    _need_regular(path)
    try:
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as stream:
            octets = stream.read(MOST_OCTETS + 1)
    except OSError as error:
        raise ValueError(f"{visible(str(path))}: {error.strerror or error}") from None
    if len(octets) > MOST_OCTETS:
        raise ValueError(f"{visible(str(path))}: more than {MOST_OCTETS >> 20} MiB")
    return octets
