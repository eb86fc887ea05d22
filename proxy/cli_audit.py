"""``kaifu audit``: who looked at what, who noted, paired, revoked, exported or was refused, which policy held from when.

Reads the acts among the ledger's entries, page by page. To look at them is an act too, and on record before anything is shown.
Exit status 0, or 2 with one sentence when it cannot be done.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import tzinfo
from typing import Any, TextIO

import click

from .cli_listing import Kind, between, times, with_options
from .display import json_line, visible
from .ledger_cli import Chosen, any_of, at_desk, chosen, ledger_options
from .ledger_desk import WHAT, Act, ActFilter
from .ledger_entries import at_value
from .ledger_shown import csv_objects, json_objects, local, utc

COLUMNS = ("entry", "at", "what", "actor", "message", "details")
_CALLED = {
    "what": "",
    "needs": "needs the role",
    "value": "",
    "seen_at": "confirmed at",
    "other": "with",
    "asked": "for",
    "entry": "takes back entry",
    "hold": "ends that of entry",
    "to": "to",
    "purpose": "purpose",
}
"""What is told of an act, for people: the keys of its details in the order in which they are told, and the word before each."""
_FOR_PROGRAMS = {"evidence"}


@click.group()
def audit() -> None:
    """Who looked at what, and who changed what."""


_filters = with_options(
    between("At or after", "Before"),
    click.option(
        "--what", multiple=True, callback=any_of(WHAT), metavar="WHAT,…", help=f"What was done: {', '.join(WHAT)}."
    ),
    click.option("--actor", metavar="USER", help="Who did it: a Unix user."),
    click.option("--message", type=click.IntRange(min=1), metavar="ID", help="About the message with this number."),
)


def _filter(where: Chosen, options: dict[str, Any]) -> ActFilter:
    return ActFilter(
        **times(where, options),
        what=options["what"] or (),
        actor=options["actor"],
        message=options["message"],
    )


def _write_json(found: Iterable[Act], stream: TextIO) -> int:
    return json_objects(map(as_object, found), stream)


def _write_csv(found: Iterable[Act], stream: TextIO) -> int:
    return csv_objects(map(_flat, found), COLUMNS, stream)


_ACTS = Kind("act", "acts", _write_json, _write_csv)


@audit.command("list")
@_filters
@_ACTS.list_options
@ledger_options
def list_command(config: str | None, ledger_url: str | None, **options: Any) -> None:
    """What people did, one line for each act.

    On a terminal the newest 50 are shown, unless --limit says otherwise; programs get all of them.
    """
    listing = _ACTS.listing(options)
    where = chosen(config, ledger_url)
    wanted = _filter(where, options)

    def print_lines(found: Iterator[Act]) -> None:
        for act in found:
            click.echo(line(act, where.zone))

    with at_desk(where) as desk:
        listing.show(desk.acts(wanted, **listing.how), print_lines)


@audit.command("export")
@_filters
@_ACTS.export_options
@ledger_options
def export_command(config: str | None, ledger_url: str | None, **options: Any) -> None:
    """Every act that fits, oldest first, as CSV or JSON.

    FILE is readable by you alone (mode 0600) and there only when it is complete. Through sudo write > FILE instead.
    """
    export = _ACTS.export(options)
    where = chosen(config, ledger_url)
    wanted = _filter(where, options)
    with at_desk(where) as desk:
        export.check(desk)
        export.rows(desk.acts(wanted, newest_first=False))


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
    """One act for people, safe to print. The text of a policy and what only programs can use are left out: ``--json`` has all."""
    left_out = _FOR_PROGRAMS | ({"text"} if act.what == "policy" else set())
    details = {key: act.details[key] for key in sorted(act.details.keys() - left_out, key=_place)}
    about = () if act.message is None else (f"message {act.message}",)
    told = "; ".join((*about, *_words(details, zone)))
    actor = visible(act.actor) if act.actor is not None else "-"
    return f"{act.entry:>7}  {local(act.at, zone, seconds=True)}  {act.what:<8}  {actor:<12}  {told}".rstrip()


def _place(key: str) -> tuple[int, str]:
    return (list(_CALLED).index(key) if key in _CALLED else len(_CALLED), key)


def _words(details: dict[str, Any], zone: tzinfo) -> Iterator[str]:
    for key, value in details.items():
        if isinstance(value, dict):
            yield from _words(value, zone)
        elif value not in (None, "", []):
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            if key == "seen_at":
                text = local(at_value(text), zone)
            yield visible(f"{_CALLED.get(key, key)} {text}".lstrip())
