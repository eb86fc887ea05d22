"""What the commands over the ledger share: which ledger, who asks, times as people write them, errors in one sentence.

Used by ``kaifu receipts``, ``kaifu audit`` and ``kaifu ledger``. A command that cannot do its work ends with exit status 2 and one sentence on
standard error; :class:`Failure` is that.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, Self, TextIO, TypeVar

import click

from kaifu.policies.document import ProblemsError

from .access import Access, AccessError, Caller, access, caller, check_settings, typed
from .display import visible
from .ledger import LedgerError, Trouble
from .ledger_anchor import Anchor, anchor_of, anchors_in
from .ledger_desk import Desk
from .ledger_entries import microseconds
from .ledger_file import explain
from .ledger_open import ledger_path
from .settings import Roles, Settings, config_path, load_settings

Command = TypeVar("Command", bound=Callable[..., Any])


class Failure(click.ClickException):
    """The command cannot do its work; the text says why."""

    exit_code = 2

    def __init__(self, message: str, trouble: Trouble = Trouble.OTHER) -> None:
        super().__init__(message)
        self.trouble = trouble

    def show(self, file: Any = None) -> None:
        """One sentence on standard error."""
        click.echo(self.message, err=True, file=file)


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which ledger a command is about, who asks, and the zone in which times are read and shown."""

    path: Path
    zone: tzinfo
    who: Access

    def typed(self, *words: str) -> str:
        """A command of kaifu's as who asks types it."""
        return shlex.join([*typed(self.who.caller), *words])


def ledger_options(command: Command) -> Command:
    """``--config`` and ``--ledger``; the command gets both as ``config`` and ``ledger_url`` for :func:`chosen`."""
    config = click.option(
        "--config",
        type=click.Path(),
        metavar="FILE",
        help="Settings file; else $KAIFU_CONFIG, else /etc/kaifu/kaifu.yaml.",
    )
    ledger = click.option(
        "--ledger",
        "ledger_url",
        metavar="URL",
        help="Another ledger than that of the settings, for example a restored copy: sqlite:////path/to/copy.db.",
    )
    return config(ledger(command))


def chosen(config: str | None, ledger_url: str | None) -> Chosen:
    """The ledger of the options, and who asks. Raises :class:`Failure`."""
    try:
        person = caller()
        if ledger_url is not None and config is None and person.unbound:
            return Chosen(ledger_path(ledger_url), UTC, access(person, Roles()))
        settings = trusted_settings(config, person)
        who = access(person, settings.roles)
        found = Chosen(ledger_path(settings.ledger), settings.zone, who)
        if ledger_url is None:
            return found
        with Desk(found.path, who) as desk:
            desk.own_files("--ledger", "leave it out")
        return Chosen(ledger_path(ledger_url), settings.zone, who)
    except ProblemsError as error:
        raise Failure("\n".join(map(str, error.problems))) from None
    except LedgerError as error:
        raise Failure(visible(str(error))) from None


def trusted_settings(config: str | None, person: Caller) -> Settings:
    """The settings, if they may say what this person may do. Raises AccessError or ProblemsError.

    What is wrong with a file is not told to who could not read it himself: the reasons quote it.
    """
    path = config_path(config)
    check_settings(path, person)
    try:
        return load_settings(path)
    except ProblemsError:
        if person.unbound:
            raise
        raise AccessError(f"the settings {path} are not valid; kaifu config check tells root why") from None


@contextmanager
def failing(path: Path) -> Iterator[None]:
    """Whatever is wrong with the ledger becomes a :class:`Failure`."""
    try:
        yield
    except (LedgerError, sqlite3.Error) as error:
        told = explain(error, path)
        raise Failure(visible(str(told)), told.trouble) from None


@contextmanager
def at_desk(where: Chosen) -> Iterator[Desk]:
    """The desk of a ledger. What goes wrong at it becomes a :class:`Failure`."""
    with failing(where.path), Desk(where.path, where.who) as desk:
        yield desk


def right_now() -> int:
    """UTC microseconds since 1970."""
    return microseconds(datetime.now(UTC))


_AGO = re.compile(r"(\d{1,6})([mhdw])", re.ASCII)
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_FORMS = "a date (2026-11-21), a time (2026-11-21T09:30, with or without +09:00) or an age (30m, 12h, 7d, 2w)"


def moment(text: str, zone: tzinfo, *, end: bool = False, now: datetime | None = None) -> int:
    """A time as people write it, as UTC microseconds. ``end``: a bare date means its end. ValueError when it is none."""
    now = now or datetime.now(UTC)
    age = _AGO.fullmatch(text.strip())
    try:
        if age is not None:
            return microseconds(now - timedelta(**{_UNITS[age[2]]: int(age[1])}))
        found = datetime.fromisoformat(text.strip())
        if found.tzinfo is None:
            found = found.replace(tzinfo=zone)
        if end and re.fullmatch(r"[\d-]+", text.strip()):
            found += timedelta(days=1)
        return microseconds(found)
    except (ValueError, OverflowError):
        raise ValueError(f'"{text}" is no time; give {_FORMS}') from None


def a_moment(_: click.Context, __: click.Parameter, text: str | None) -> str | None:
    """Callback of ``--since``, ``--until`` and ``--at``: the text, checked; :func:`moment` needs the zone."""
    if text is not None:
        try:
            moment(text, UTC)
        except ValueError as error:
            raise click.BadParameter(visible(str(error))) from None
    return text


_ManyWords = Callable[[click.Context, click.Parameter, tuple[str, ...]], tuple[str, ...] | None]


def any_of(words: tuple[str, ...]) -> _ManyWords:
    """Callback of an option that takes words of a fixed set: several with commas between, or given several times."""

    def convert(_: click.Context, __: click.Parameter, texts: tuple[str, ...]) -> tuple[str, ...] | None:
        if not texts:
            return None
        given = tuple(word.strip() for text in texts for word in text.split(","))
        for word in given:
            if word not in words:
                raise click.BadParameter(visible(f'"{word}" is none of {", ".join(words)}'))
        return given

    return convert


def standard_output(*, encoding: str | None = None, errors: str | None = None, newline: str | None = None) -> None:
    """Set how standard output writes text, where it can be set."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding=encoding, errors=errors, newline=newline)


def can_show(text: str) -> bool:
    """True when standard output can show these characters."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def as_utf8() -> None:
    """Before CSV or JSON goes to standard output: scripts read UTF-8 whatever the terminal speaks."""
    standard_output(encoding="utf-8", newline="")


def given_anchors(desk: Desk, text: str) -> list[Anchor]:
    """What ``--anchor LINE|FILE`` means. Raises :class:`Failure`."""
    if text.startswith("kaifu-anchor "):
        try:
            return [anchor_of(text)]
        except ValueError as error:
            raise Failure(f"--anchor: {error}") from None
    desk.own_files("--anchor FILE", "give the line itself")
    try:
        return anchors_in(Path(text).read_text("utf-8", "replace"))
    except ValueError as error:
        raise Failure(visible(f"{text}: {error}")) from None
    except OSError as error:
        raise Failure(visible(f"{text} cannot be read: {error.strerror}")) from None


class NewFile:
    """A file that nobody sees before it is complete, that its owner alone reads, and that replaces none. Raises :class:`Failure`.

    A context manager: :meth:`fill` writes it beside its place, :meth:`appear` puts it there; leaving takes away what did not appear.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_name(f".{path.name}.{os.getpid()}.part")

    def __enter__(self) -> Self:
        if self._path.exists() or self._path.is_symlink():
            raise Failure(visible(f"{self._path} is there already; nothing is overwritten"))
        return self

    def __exit__(self, *_: object) -> None:
        self._part.unlink(missing_ok=True)

    def fill(self, octets: bytes) -> None:
        """Everything that the file will have, on disk when it returns."""
        with self._failing(), open(self._exclusively(self._part), "wb") as stream:
            stream.write(octets)
            stream.flush()
            os.fsync(stream.fileno())

    def appear(self) -> None:
        """The file is at its place."""
        with self._failing():
            os.close(self._exclusively(self._path))
            self._part.replace(self._path)

    def _exclusively(self, path: Path) -> int:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise Failure(visible(f"{self._path}: {error.strerror or error}")) from None


def write_file(write: Callable[[TextIO], int], output: Path) -> int:
    """Write a file that its owner alone reads, and that is there only when it is complete. Raises :class:`Failure`."""
    part = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        # What somebody else put there beforehand, who would then read along, is not written to.
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(handle, "w", encoding="utf-8", newline="") as stream:
                number = write(stream)
            part.replace(output)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise Failure(f"{output}: {error.strerror or error}") from None
    return number
