"""``kaifu ledger verify`` and ``kaifu ledger seal``: has anybody changed the ledger, and how to be able to show that nobody has.

``verify`` only reads, beside a running relay. Exit status 0: intact; 1: not; 2: it could not be looked at. ``seal`` sends the head of the
ledger to the places of the settings: 0 when all of them have it, 1 with a sentence for each that has not, 2 when there is no ledger, or
no place.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from kaifu.policies.document import ProblemsError

from .display import json_line, visible
from .health import write_verified
from .ledger_anchor import Anchor
from .ledger_check import Finding
from .ledger_cli import Failure, at_desk, chosen, given_anchors, ledger_options, right_now
from .ledger_desk import Desk
from .ledger_verify import NOT_COVERED, Report
from .settings import Anchors, config_path, load_settings

_SHOWN = 10


@click.command("verify")
@click.option(
    "--anchor",
    "given",
    multiple=True,
    metavar="LINE|FILE",
    help="An anchor, or a file of anchors, that was kept elsewhere. May be given several times.",
)
@click.option("--json", "as_json", is_flag=True, help="One object.")
@ledger_options
def verify_command(given: tuple[str, ...], as_json: bool, config: str | None, ledger_url: str | None) -> None:
    """Has anybody changed what was recorded?

    Recomputes entries, cells, the chain of seals and the derived tables, and names the first entry that was changed,
    removed, inserted, reordered or blanked. Without an anchor this shows that everything in the file agrees; with
    one, that nothing before it was rewritten or cut off. Exit status 0: intact, 1: not.
    """
    where = chosen(config, ledger_url)
    with at_desk(where) as desk:
        anchors = [anchor for text in given for anchor in given_anchors(desk, text)]
        report = _with_progress(desk, anchors)
    if ledger_url is None:
        write_verified(where.path, report, anchors, where.who.caller.name, right_now())
    if as_json:
        click.echo(json_line(_as_json(report, anchors)))
    else:
        for line in _in_words(report, anchors):
            click.echo(visible(line))
    sys.exit(0 if report.intact else 1)


def _with_progress(desk: Desk, anchors: list[Anchor]) -> Report:
    look: Callable[..., Report] = desk.verify
    if not sys.stderr.isatty():
        return look(anchors, right_now())
    columns = (TextColumn("entries"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)
        return look(anchors, right_now(), lambda done, of: progress.update(task, completed=done, total=of))


def _in_words(report: Report, anchors: list[Anchor]) -> list[str]:
    lines = [_size(report)]
    for erasure in report.erasures:
        whose = "1 entry" if erasure.entries == 1 else f"{erasure.entries:,} entries"
        lines.append(f"Entry {erasure.entry} of {erasure.at} erased cells of {whose} (ground: {erasure.ground}).")
    if report.intact:
        lines.append("Intact.")
    else:
        first, *others = report.findings
        lines += [f"NOT INTACT. First: {_told(first)}", *map(_told, others[: _SHOWN - 1])]
        if report.problems > _SHOWN:
            lines.append(f"… and {report.problems - _SHOWN:,} more.")
    return [*lines, *_proves(report, anchors)]


def _size(report: Report) -> str:
    if not report.entries and not report.intact:
        return "No entry was looked at."
    lack = "1 entry lacks" if report.erased == 1 else f"{report.erased:,} entries lack"
    return f"{report.entries:,} entries in {report.batches:,} batches, {report.cells:,} cells; {lack} cells."


def _told(finding: Finding) -> str:
    return f"{finding.text}."


def _proves(report: Report, anchors: list[Anchor]) -> list[str]:
    """What this run shows, and what it does not."""
    lines = []
    best = max(report.holding, key=lambda anchor: anchor.last, default=None)
    if not report.intact:
        if report.good_until == 1:
            lines.append("Entry 1 agrees with everything that comes before it.")
        elif report.good_until:
            lines.append(f"Entries 1 to {report.good_until} agree with everything that comes before them.")
    elif best is not None:
        lines.append(
            f"Since {best.at} nothing up to entry {best.last} (batch {best.batch}) was changed, removed, inserted or reordered."
        )
        if best.last + 1 == report.entries:
            lines.append(f"Of entry {report.entries} this shows that it agrees with the others.")
        elif best.last < report.entries:
            lines.append(f"Of entries {best.last + 1} to {report.entries} this shows that they agree with one another.")
    if best is None and not anchors:
        lines.append(
            "Without an anchor this shows that everything in the file agrees, not that the whole file was not"
            " rewritten or its end cut off: give an anchor that was kept elsewhere with --anchor."
        )
    lines.append(f"Not covered: the tables {', '.join(NOT_COVERED)}; and whether what was recorded was true.")
    return lines


def _as_json(report: Report, anchors: list[Anchor]) -> dict[str, Any]:
    findings = [finding._asdict() for finding in report.findings]
    return {
        "intact": report.intact,
        "ledger": report.ledger,
        "entries": report.entries,
        "batches": report.batches,
        "cells": report.cells,
        "entries_lacking_cells": report.erased,
        "problems": report.problems,
        "first": findings[0] if findings else None,
        "findings": findings,
        "erasures": [erasure._asdict() for erasure in report.erasures],
        "anchors": [
            {"batch": anchor.batch, "entry": anchor.last, "at": anchor.at, "holds": anchor in report.holding}
            for anchor in anchors
        ],
        "says": _proves(report, anchors),
        "not_covered": list(NOT_COVERED),
    }


@click.command("seal")
@click.option("--print", "only_print", is_flag=True, help="Only print the anchor of the newest batch.")
@ledger_options
def seal_command(only_print: bool, config: str | None, ledger_url: str | None) -> None:
    """Send the head of the ledger to the places under anchors: in the settings.

    Kept there, it shows later whether anything before it has been changed. Nothing is sent where everything is known
    already. Exit status 1 with a sentence for each place that could not be reached.
    """
    where = chosen(config, ledger_url)
    with at_desk(where) as desk:
        if only_print:
            anchor = desk.anchor(datetime.now(UTC))
            if anchor is None:
                raise Failure("the ledger is empty: there is nothing to seal yet")
            click.echo(str(anchor))
            return
        sent, failed = desk.seal(_anchors_of(config), datetime.now(UTC))
    if sent is not None:
        click.echo(str(sent))
    elif not failed:
        click.echo("Nothing to do: every place has the newest anchor.", err=True)
    for sentence in failed:
        click.echo(visible(sentence), err=True)
    sys.exit(1 if failed else 0)


def _anchors_of(config: str | None) -> Anchors:
    try:
        return load_settings(config_path(config)).anchors
    except ProblemsError as error:
        raise Failure("\n".join(map(str, error.problems))) from None
