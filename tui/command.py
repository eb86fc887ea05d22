"""``kaifu tui``: the terminal screens.

Asks who calls before anything is shown. Exit status 0; 2 for settings or a caller that will not do, and where there is no terminal.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict

import click

from kaifu.proxy.access import Role, refusal
from kaifu.proxy.ledger_cli import Failure, can_show, chosen, ledger_options, trusted_settings
from kaifu.proxy.ledger_states import MARKS
from kaifu.proxy.settings import Settings

from .look import Look
from .terminal import has_colours, refusal_of_terminal, speaks_utf8
from .words import LANGUAGES, language_of_terminal


@click.command()
@click.option(
    "--language", type=click.Choice(LANGUAGES), help="Of the screens; else that of the settings, else of the locale."
)
@click.option("--marks", type=click.Choice(("unicode", "ascii")), help="ascii: nothing but ASCII is drawn.")
@click.option("--theme", type=click.Choice(("dark", "light")), help="Colours for a dark or a light terminal.")
@ledger_options
def tui(config: str | None, ledger_url: str | None, **given: str | None) -> None:
    """Screens over the ledger: what the policy does, who was asked, who has answered, and whether the record stands."""
    where = chosen(config, ledger_url)
    if not where.who.allows(Role.VIEWER):
        raise Failure(refusal(where.who, Role.VIEWER, "kaifu tui"))
    if not sys.stdin.isatty() or not sys.stdout.isatty():
        raise Failure("kaifu tui needs a terminal; for scripts there are kaifu receipts, audit and ledger")
    if (why := refusal_of_terminal()) is not None:
        raise Failure(why)
    settings = None if ledger_url is not None and config is None else trusted_settings(config, where.who.caller)
    from .app import KaifuApp

    app = KaifuApp(where, settings, look(settings, given))
    app.run()
    sys.exit(app.return_code)


def look(settings: Settings | None, given: Mapping[str, str | None]) -> Look:
    """How it looks: as the options say, else the settings, else locale and terminal."""
    said = {
        "language": language_of_terminal(),
        "marks": "unicode" if speaks_utf8() and can_show("".join(MARKS["unicode"])) else "ascii",
        **_said({} if settings is None else asdict(settings.tui)),
        **_said(given),
    }
    return Look(
        said["language"], "ascii" if said["marks"] == "ascii" else "unicode", said.get("theme", "dark"), has_colours()
    )


def _said(words: Mapping[str, str | None]) -> dict[str, str]:
    return {name: word for name, word in words.items() if word is not None}
