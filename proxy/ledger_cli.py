"""What the commands over the ledger share: which ledger, times as people write them, errors in one sentence.

Used by ``kaifu receipts`` and ``kaifu ledger``. A command that cannot do its work ends with exit status 2 and one sentence on
standard error; :class:`Failure` is that.
"""

from __future__ import annotations

import io
import os
import re
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, TypeVar

import click

from kaifu.policies.document import ProblemsError

from .display import visible
from .ledger import LedgerError
from .ledger_entries import microseconds
from .ledger_file import Store, explain
from .ledger_open import ledger_path
from .settings import config_path, load_settings

Command = TypeVar("Command", bound=Callable[..., Any])


class Failure(click.ClickException):
    """The command cannot do its work; the text says why."""

    exit_code = 2

    def show(self, file: Any = None) -> None:
        """One sentence on standard error."""
        click.echo(self.message, err=True, file=file)


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which ledger a command is about, and the zone in which it reads and shows times."""

    path: Path
    zone: tzinfo


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
    """The ledger of the options. Raises :class:`Failure`."""
    try:
        if ledger_url is not None and config is None:
            return Chosen(ledger_path(ledger_url), UTC)
        settings = load_settings(config_path(config))
        return Chosen(ledger_path(ledger_url or settings.ledger), settings.zone)
    except ProblemsError as error:
        raise Failure("\n".join(map(str, error.problems))) from None
    except LedgerError as error:
        raise Failure(str(error)) from None


@contextmanager
def failing(path: Path) -> Iterator[None]:
    """Whatever is wrong with the ledger becomes a :class:`Failure`."""
    try:
        yield
    except (LedgerError, sqlite3.Error) as error:
        raise Failure(str(explain(error, path))) from None


@contextmanager
def opened(path: Path, *, write: bool = False) -> Iterator[sqlite3.Connection]:
    """A connection to a ledger that is there, read-only unless told otherwise."""
    try:
        os.stat(path)
        store = Store(path, write=write)
    except FileNotFoundError:
        raise Failure(f"there is no ledger at {path}; kaifu relay makes one when it starts") from None
    except (OSError, LedgerError, sqlite3.Error) as error:
        raise Failure(str(explain(error, path))) from None
    try:
        with failing(path):
            yield store.db
    finally:
        store.close()


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
