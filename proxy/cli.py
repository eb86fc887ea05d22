"""The ``kaifu`` command. Words and options are stable: people script against them.

Commands live in ``cli_*`` modules that are imported only when their word is typed, so that ``kaifu inspect`` does
not pay for the relay. Exit status: 0 fine, 1 a negative answer, 2 bad usage or input. Errors go to stderr as one
sentence; no traceback reaches a user.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import version
from io import TextIOWrapper

import click

COMMANDS = {
    "relay": ("cli_run", "relay"),
    "milter": ("cli_milter", "milter"),
    "demo": ("cli_demo", "demo"),
    "config": ("cli_config", "config"),
    "policy": ("cli_policy", "policy"),
    "inspect": ("cli_inspect", "inspect"),
    "receipts": ("cli_receipts", "receipts"),
    "ledger": ("cli_ledger", "ledger"),
}


class LazyGroup(click.Group):
    """A group whose commands are imported by name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name]
        command = getattr(import_module(f"{__package__}.{module}"), attribute)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("kaifu"), prog_name="kaifu")
def cli() -> None:
    """Read receipts under an organisation's policy: decide, record, explain."""


def main() -> None:
    """Entry point of the console script. What a terminal cannot show in its encoding is escaped, never an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(cli())


if __name__ == "__main__":
    main()
