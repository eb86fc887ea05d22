"""``kaifu ledger``: look after the ledger itself.

``stats`` only reads, and so does ``verify`` (with ``seal`` in :mod:`kaifu.proxy.cli_seal`). ``rebuild`` recomputes the derived tables and ``migrate`` brings the schema up to date; the relay does the
latter by itself when it starts. Exit status 0, or 2 with one sentence when it cannot be done.
"""

from __future__ import annotations

import sys
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .cli_seal import seal_command, verify_command
from .display import json_line, visible
from .ledger_cli import at_desk, chosen, ledger_options
from .ledger_desk import Desk


@click.group()
def ledger() -> None:
    """Look after the ledger."""


ledger.add_command(verify_command)
ledger.add_command(seal_command)


@ledger.command()
@click.option("--json", "as_json", is_flag=True, help="One object.")
@ledger_options
def stats(as_json: bool, config: str | None, ledger_url: str | None) -> None:
    """How much is in it, and in which states."""
    where = chosen(config, ledger_url)
    with at_desk(where) as desk:
        figures: dict[str, Any] = {"ledger": str(where.path), **desk.figures()}
    if as_json:
        click.echo(json_line(figures))
        return
    words = [word for value in figures.values() if isinstance(value, dict) for word in value]
    width = max([22, *map(len, words)])
    for key, value in figures.items():
        name = key.replace("_", " ")
        if isinstance(value, dict):
            click.echo(f"{name}:")
            for word, number in value.items():
                click.echo(f"  {visible(word):<{width}} {number:>12,}")
        else:
            click.echo(
                f"{name:<{width + 2}} {value:>12,}"
                if isinstance(value, int)
                else f"{name:<{width + 2}} {visible(str(value))}"
            )


@ledger.command("rebuild")
@ledger_options
def rebuild_command(config: str | None, ledger_url: str | None) -> None:
    """Recompute what is derived (states, outcomes, lists) from the entries.

    Changes nothing when all is well. Writers wait for it: a relay answers mail that needs the ledger with 451 for so
    long, so clients keep it and try again.
    """
    where = chosen(config, ledger_url)
    with at_desk(where) as desk:
        done = _with_progress(desk)
    click.echo(f"Rebuilt from {done} entries.")


def _with_progress(desk: Desk) -> int:
    if not sys.stderr.isatty():
        return desk.rebuild()
    columns = (TextColumn("entries"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=desk.entries())
        return desk.rebuild(lambda done: progress.update(task, completed=done))


@ledger.command()
@ledger_options
def migrate(config: str | None, ledger_url: str | None) -> None:
    """Bring the schema up to date. The relay does it by itself when it starts."""
    where = chosen(config, ledger_url)
    with at_desk(where) as desk:
        done = desk.migrate()
    click.echo(f"Done: {', '.join(done)}." if done else "Nothing to do: the schema is up to date.")
