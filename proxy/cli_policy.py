"""``kaifu policy``: is a policy valid, and what would it decide?

``check`` reads policy files and nothing else: no settings, no ledger, no network.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from kaifu.policies.document import Problem, ProblemsError, read


@click.group()
def policy() -> None:
    """Check policies and explain their decisions."""


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
    try:
        _, problems = read(Path(file).read_bytes(), file)
    except OSError as error:
        click.echo(f"{file}: {error.strerror or error}", err=True)
        return False
    return not _report(problems)


def _report(problems: list[Problem]) -> bool:
    for problem in ProblemsError(problems).problems:
        click.echo(str(problem), err=True)
    return any(p.severity == "error" for p in problems)
