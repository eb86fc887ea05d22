"""The policy in force: loaded from its file, and again when the file changes.

A new policy is built fully, then swapped with one assignment; messages under way keep the one they began with. On any
error the old one stays in force, and every error is logged. A deleted file changes nothing but the log. Which version was in force
from when on is told to the ledger.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from kaifu.policies.document import ProblemsError
from kaifu.policies.load import load, read_file
from kaifu.policies.rules import Policy

from .health import MOST_PROBLEMS, MOST_TEXT, PolicyHealth, Rejected
from .vitals import now

Stamp = tuple[int, int, int, int] | None


class Recorder(Protocol):
    """Where versions of the policy are recorded: a ledger."""

    def policy_in_force(self, digest: str, mode: str, text: str) -> None: ...


class PolicyFile:
    """``current`` is the policy in force; ``rejected`` says why the file on disk is not, else None.

    The constructor raises :class:`ProblemsError` (which covers an unreadable file): without a policy nothing starts.
    """

    def __init__(self, path: Path, log: Callable[..., None]) -> None:
        self._path = path
        self._log = log
        self._stamp = stamp_of(path)
        self._text = read_file(path)
        self.current: Policy = load(self._text, str(path))
        self.rejected: Rejected | None = None
        self._loaded_at = now()
        self._ledger: Recorder | None = None

    def poll(self) -> None:
        """Take the file again if it has changed. Called about once a second."""
        stamp = stamp_of(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            text = read_file(self._path)
            self.current, self._text = load(text, str(self._path)), text
        except ProblemsError as error:
            self.rejected = Rejected(now(), tuple(str(each)[:MOST_TEXT] for each in error.problems[:MOST_PROBLEMS]))
            for problem in error.problems:
                self._log("policy-rejected", problem=str(problem), in_force=self.current.digest)
            return
        self.rejected, self._loaded_at = None, now()
        self._log("policy-loaded", file=str(self._path), digest=self.current.digest, rules=len(self.current.rules))
        self._tell()

    def health(self) -> PolicyHealth:
        """What is in force, and what is not."""
        policy = self.current
        return PolicyHealth(str(self._path), policy.digest, str(policy.mode), self._loaded_at, self.rejected)

    def record_in(self, ledger: Recorder) -> None:
        """Put the policy in force on record there, now and whenever it changes. Waits for nothing."""
        self._ledger = ledger
        self._tell()

    def _tell(self) -> None:
        if self._ledger is not None:
            text = self._text.decode("utf-8", "replace")
            self._ledger.policy_in_force(self.current.digest, str(self.current.mode), text)


def stamp_of(path: Path) -> Stamp:
    """What is different when a file has changed; None while there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    # The time of the last change of owner or mode too: a file that could not be read may be readable from then on.
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino
