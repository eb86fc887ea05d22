"""``kaifu policy``: is a policy valid, and what would it decide?

``check`` reads policy files and nothing else: no settings, no ledger, no network. ``explain`` is in
:mod:`kaifu.proxy.cli_explain`.
"""

from __future__ import annotations

import sys

import click

from kaifu.policies.document import ProblemsError
from kaifu.policies.load import lint, load_file
from kaifu.proxy.cli_explain import explain_command
from kaifu.proxy.display import visible


@click.group()
def policy() -> None:
    """Check policies and explain their decisions."""


policy.add_command(explain_command)


@policy.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
def check(files: tuple[str, ...]) -> None:
    """Report everything that is wrong with policy files.

    Errors and warnings go to stderr as FILE:LINE:COLUMN. Exit status 2 when a file cannot be used; warnings
    alone do not fail.
    """
    results = [_check(file) for file in files]
    sys.exit(0 if all(results) else 2)


def _check(file: str) -> bool:
    """One file; False when it cannot be used."""
    try:
        loaded = load_file(file)
    except ProblemsError as error:
        click.echo(str(error), err=True)
        return False
    for problem in lint(loaded):
        click.echo(str(problem), err=True)
    count = len(loaded.rules)
    click.echo(f"{visible(file)}: ok, {count} rule{'' if count == 1 else 's'}")
    return True
