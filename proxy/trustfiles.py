"""Whom to believe, as the settings and the files of aliases say: read at start, and again when a file changes.

Made by the commands that judge mail. New aliases are read fully, then swapped with one assignment. Lines that cannot be read are logged
and left out, as the mail server does that owns the file; ``kaifu config check`` shows them. A file that cannot be read at all stops
a start; later, what it said before stays in force, and that is logged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from kaifu.policies.document import Problem, ProblemsError

from .aliases import Aliases, merged, parse_aliases
from .organisation import organisational_domain
from .policyfile import stamp_of
from .settings import Settings
from .trust import Trust

MOST_OCTETS = 16 << 20
"""Of a file of aliases."""

_MOST_LOGGED = 20


class TrustFiles:
    """``current``: whom to believe now. The constructor raises :class:`ProblemsError` when a file cannot be read."""

    def __init__(self, settings: Settings, log: Callable[..., None]) -> None:
        self._settings = settings
        self._log = log
        self._stamps = self._look()
        self.current, bad = trust_of(settings)
        self._tell(bad)

    def poll(self) -> None:
        """Take the files again if one of them has changed. Called about once a second."""
        if not self._stamps:
            return
        stamps = self._look()
        if stamps == self._stamps:
            return
        self._stamps = stamps
        try:
            self.current, bad = trust_of(self._settings)
        except ProblemsError as error:
            for problem in error.problems:
                self._log("aliases-rejected", problem=str(problem), in_force=len(self.current.aliases))
            return
        self._tell(bad)
        self._log("aliases-loaded", names=len(self.current.aliases))

    def _look(self) -> list[object]:
        return [stamp_of(path) for path in self._settings.aliases]

    def _tell(self, bad: Iterable[Problem]) -> None:
        for number, problem in enumerate(bad):
            if number == _MOST_LOGGED:
                self._log("alias-left-out", problem="and more; kaifu config check shows them all")
                return
            self._log("alias-left-out", problem=str(problem))


def trust_of(settings: Settings) -> tuple[Trust, list[Problem]]:
    """What the settings say, with the lines of its files that were left out. Raises :class:`ProblemsError`."""
    files = []
    bad: list[Problem] = []
    unreadable: list[Problem] = []
    for path in settings.aliases:
        try:
            entries, left_out = parse_aliases(_text(path))
        except OSError as error:
            unreadable.append(Problem(str(path), 0, 0, f"cannot be read: {error.strerror or error}"))
            continue
        files.append(entries)
        bad += [Problem(str(path), line.line, 1, line.message, None, "warning") for line in left_out]
    if unreadable:
        raise ProblemsError(unreadable)
    if settings.border:
        organisational_domain("example.com")  # reads the list now, and not when the first answer waits for it
    trust = Trust(frozenset(settings.border), Aliases(merged(files), settings.realm), organisational_domain)
    return trust, bad


def _text(path: Path) -> str:
    with path.open("rb") as file:
        octets = file.read(MOST_OCTETS + 1)
    if len(octets) > MOST_OCTETS:
        raise OSError(None, f"more than {MOST_OCTETS >> 20} MiB")
    return octets.decode("utf-8", "replace")
