"""``kaifu audit``: who looked at what, who noted, paired, revoked, exported or was refused, which policy held from when.

Reads the acts among the ledger's entries, page by page. To look at them is an act too, and on record before anything is shown.
Exit status 0, or 2 with one sentence when it cannot be done.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import tzinfo
from functools import reduce
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import click

from .display import json_line, visible
from .ledger_cli import (
    Chosen,
    Command,
    a_moment,
    any_of,
    as_utf8,
    at_desk,
    chosen,
    ledger_options,
    moment,
    write_file,
)
from .ledger_desk import WHAT, Act, ActFilter
from .ledger_shown import csv_objects, json_objects, local, utc

ON_A_SCREEN = 50
COLUMNS = ("entry", "at", "what", "actor", "message", "details")


@click.group()
def audit() -> None:
    """Who looked at what, and who changed what."""


_FILTERS = (
    click.option("--since", callback=a_moment, metavar="TIME", help="At or after: 2026-11-21, a time, or 7d."),
    click.option("--until", callback=a_moment, metavar="TIME", help="Before; a date includes that day."),
    click.option(
        "--what", multiple=True, callback=any_of(WHAT), metavar="WHAT,…", help=f"What was done: {', '.join(WHAT)}."
    ),
    click.option("--actor", metavar="USER", help="Who did it: a Unix user."),
    click.option("--message", type=click.IntRange(min=1), metavar="ID", help="About the message with this number."),
)


def _filters(command: Command) -> Command:
    return reduce(lambda made, option: option(made), reversed(_FILTERS), command)


def _filter(where: Chosen, options: dict[str, Any]) -> ActFilter:
    since, until = options["since"], options["until"]
    return ActFilter(
        since=None if since is None else moment(since, where.zone),
        until=None if until is None else moment(until, where.zone, end=True),
        what=options["what"] or (),
        actor=options["actor"],
        message=options["message"],
    )


@audit.command("list")
@_filters
@click.option("--limit", type=click.IntRange(0, 1_000_000_000), metavar="N", help="At most so many; 0: all.")
@click.option("--oldest-first", is_flag=True, help="The oldest first; otherwise the newest.")
@click.option("--json", "as_json", is_flag=True, help="One object per act, each on one line.")
@click.option("--csv", "as_csv", is_flag=True, help="CSV with a header line.")
@ledger_options
def list_command(
    config: str | None,
    ledger_url: str | None,
    limit: int | None,
    oldest_first: bool,
    as_json: bool,
    as_csv: bool,
    **options: Any,
) -> None:
    """What people did, one line for each act.

    On a terminal the newest 50 are shown, unless --limit says otherwise; programs get all of them.
    """
    where = chosen(config, ledger_url)
    wanted = _filter(where, options)
    if as_json and as_csv:
        raise click.UsageError("give --json or --csv, not both")
    if limit is None and not (as_json or as_csv) and sys.stdout.isatty():
        limit = ON_A_SCREEN
    with at_desk(where) as desk:
        found = desk.acts(wanted, newest_first=not oldest_first, at_once=min(limit or 500, 500))
        if as_json or as_csv:
            as_utf8()
            _writer(as_json)(islice(found, limit or None), sys.stdout)
            return
        for act in islice(found, limit or None):
            click.echo(line(act, where.zone))
        if limit and next(found, None) is not None:
            click.echo(f"The {'oldest' if oldest_first else 'newest'} {limit}; --limit 0 shows all.")


@audit.command()
@_filters
@click.option("--json", "as_json", is_flag=True, help="One object per act, each on one line; otherwise CSV.")
@click.option("--csv", "as_csv", is_flag=True, help="CSV with a header line (what it does anyway).")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Else stdout.")
@ledger_options
def export(
    config: str | None, ledger_url: str | None, as_json: bool, as_csv: bool, output: Path | None, **options: Any
) -> None:
    """Every act that fits, oldest first, as CSV or JSON.

    FILE is readable by you alone (mode 0600) and there only when it is complete. Through sudo write > FILE instead.
    """
    if as_json and as_csv:
        raise click.UsageError("give --json or --csv, not both")
    where = chosen(config, ledger_url)
    wanted = _filter(where, options)
    write = _writer(as_json)
    with at_desk(where) as desk:
        if output is not None:
            desk.own_files("--output", "leave it out and write > FILE")
        found = desk.acts(wanted, newest_first=False)
        if output is None:
            as_utf8()
            write(found, sys.stdout)
            return
        number = write_file(lambda stream: write(found, stream), output)
    click.echo(f"{number} acts written to {output}.", err=True)


def _writer(as_json: bool) -> Callable[[Iterable[Act], TextIO], int]:
    if as_json:
        return lambda found, stream: json_objects(map(as_object, found), stream)
    return lambda found, stream: csv_objects(map(_flat, found), COLUMNS, stream)


def as_object(act: Act) -> dict[str, Any]:
    """One act for programs. ``actor`` null: nobody's act, or erased. ``details``: what else its entry says."""
    return {
        "entry": act.entry,
        "at": utc(act.at),
        "what": act.what,
        "actor": act.actor,
        "message": act.message,
        "details": act.details,
    }


def _flat(act: Act) -> dict[str, Any]:
    return {**as_object(act), "details": json_line(act.details)}


def line(act: Act, zone: tzinfo) -> str:
    """One act for people, safe to print. Of a policy the text is left out: ``--json`` has it."""
    details = {key: value for key, value in act.details.items() if key != "text" or act.what != "policy"}
    about = () if act.message is None else (f"message {act.message}",)
    told = "; ".join((*about, *_words(details)))
    actor = visible(act.actor) if act.actor is not None else "-"
    return f"{act.entry:>7}  {local(act.at, zone, seconds=True)}  {act.what:<8}  {actor:<12}  {told}".rstrip()


def _words(details: dict[str, Any]) -> Iterator[str]:
    for key, value in details.items():
        if isinstance(value, dict):
            yield from _words(value)
        elif value not in (None, "", []):
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            yield visible(f"{key} {text}")
