"""What the commands that list and export have in common: their options, and how rows leave.

Used by ``kaifu receipts`` and ``kaifu audit``, each with a :class:`Kind` that says what its rows are and how they are written. Reads
no ledger: rows are handed in. Raises click's UsageError for options that do not go together, :class:`Failure` for a file
that cannot be written.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import reduce
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TextIO, TypedDict, TypeVar

import click

from .ledger_cli import Chosen, Command, a_moment, as_utf8, moment, write_file
from .ledger_desk import Desk

ON_A_SCREEN = 50
_AT_ONCE = 500
_Row = TypeVar("_Row")


def with_options(*options: Callable[[Any], Any]) -> Callable[[Command], Command]:
    """Several options as one decorator, in this order."""
    return lambda command: reduce(lambda made, option: option(made), reversed(options), command)


def between(since: str, until: str) -> Callable[[Command], Command]:
    """``--since`` and ``--until`` with what their help says first; :func:`times` reads them."""
    return with_options(
        click.option("--since", callback=a_moment, metavar="TIME", help=f"{since}: 2026-11-21, a time, or 7d."),
        click.option("--until", callback=a_moment, metavar="TIME", help=f"{until}; a date includes that day."),
    )


class Times(TypedDict):
    """UTC microseconds since 1970; ``since`` is included, ``until`` is not."""

    since: int | None
    until: int | None


def times(where: Chosen, options: dict[str, Any]) -> Times:
    """What :func:`between` was given, taken out of the options."""
    since, until = options.pop("since"), options.pop("until")
    return {
        "since": None if since is None else moment(since, where.zone),
        "until": None if until is None else moment(until, where.zone, end=True),
    }


class How(TypedDict):
    """How the desk is to read the rows of a list."""

    newest_first: bool
    at_once: int


@dataclass(frozen=True, slots=True)
class Kind(Generic[_Row]):
    """What is listed. ``one``: what an object is about; ``many``: what people call the rows; and what writes them, and says how many."""

    one: str
    many: str
    json: Callable[[Iterable[_Row], TextIO], int]
    csv: Callable[[Iterable[_Row], TextIO], int]

    def list_options(self, command: Command) -> Command:
        """The options that :meth:`listing` takes."""
        return with_options(
            click.option(
                "--limit",
                type=click.IntRange(0, 1_000_000_000),
                metavar="N",
                help=f"At most so many {self.many}; 0: all.",
            ),
            click.option("--oldest-first", is_flag=True, help=f"The oldest {self.many} first; otherwise the newest."),
            click.option("--json", "as_json", is_flag=True, help=f"One object per {self.one}, each on one line."),
            click.option("--csv", "as_csv", is_flag=True, help="CSV with a header line."),
        )(command)

    def export_options(self, command: Command) -> Command:
        """The options that :meth:`export` takes."""
        json = f"One object per {self.one}, each on one line; otherwise CSV."
        path = click.Path(dir_okay=False, path_type=Path)
        return with_options(
            click.option("--json", "as_json", is_flag=True, help=json),
            click.option("--csv", "as_csv", is_flag=True, help="CSV with a header line (what it does anyway)."),
            click.option("-o", "--output", type=path, metavar="FILE", help="Else stdout."),
        )(command)

    def listing(self, options: dict[str, Any]) -> Listing[_Row]:
        """How a list is wanted, taken out of the options."""
        write = self._writer(options)
        limit: int | None = options.pop("limit")
        if limit is None and write is None and sys.stdout.isatty():
            limit = ON_A_SCREEN
        return Listing(write, limit or 0, options.pop("oldest_first"))

    def export(self, options: dict[str, Any]) -> Export[_Row]:
        """Where an export goes, taken out of the options."""
        return Export(self.many, self._writer(options) or self.csv, options.pop("output"))

    def _writer(self, options: dict[str, Any]) -> Callable[[Iterable[_Row], TextIO], int] | None:
        as_json, as_csv = options.pop("as_json"), options.pop("as_csv")
        if as_json and as_csv:
            raise click.UsageError("give --json or --csv, not both")
        return self.json if as_json else self.csv if as_csv else None


@dataclass(frozen=True, slots=True)
class Listing(Generic[_Row]):
    """A list as wanted: ``write`` for programs, None for people; ``limit`` 0: all."""

    write: Callable[[Iterable[_Row], TextIO], int] | None
    limit: int
    oldest_first: bool

    @property
    def how(self) -> How:
        """What the desk needs to know."""
        return {"newest_first": not self.oldest_first, "at_once": min(self.limit or _AT_ONCE, _AT_ONCE)}

    def show(self, found: Iterator[_Row], print_rows: Callable[[Iterator[_Row]], None]) -> None:
        """Rows on standard output. ``print_rows`` is for people, who are told when there are more."""
        shown = islice(found, self.limit or None)
        if self.write is not None:
            as_utf8()
            self.write(shown, sys.stdout)
            return
        print_rows(shown)
        if self.limit and next(found, None) is not None:
            click.echo(f"The {'oldest' if self.oldest_first else 'newest'} {self.limit}; --limit 0 shows all.")


@dataclass(frozen=True, slots=True)
class Export(Generic[_Row]):
    """An export as wanted. ``output`` None: standard output."""

    many: str
    write: Callable[[Iterable[_Row], TextIO], int]
    output: Path | None

    def check(self, desk: Desk) -> None:
        """Before anything is read: a file is written with the rights of whoever calls."""
        if self.output is not None:
            desk.own_files("--output", "leave it out and write > FILE")

    def rows(
        self,
        found: Iterable[_Row],
        watched: AbstractContextManager[Callable[[Iterable[_Row]], Iterator[_Row]]] | None = None,
    ) -> None:
        """Write all. ``watched``: through what they go on their way to a file."""
        if self.output is None:
            as_utf8()
            self.write(found, sys.stdout)
            return
        with watched or nullcontext(iter) as counted:
            number = write_file(lambda stream: self.write(counted(found), stream), self.output)
        click.echo(f"{number} {self.many} written to {self.output}.", err=True)
