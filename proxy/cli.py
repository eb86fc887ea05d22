"""The ``kaifu`` command. Words and options are stable: people script against them.

Commands live in ``cli_*`` modules that are imported only when their word is typed, so that ``kaifu inspect`` does
not pay for the relay. Exit status: 0 fine, 1 a negative answer, 2 bad usage or input. Errors go to stderr as one
sentence; no traceback reaches a user.
"""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import suppress
from importlib import import_module
from importlib.metadata import version
from io import TextIOWrapper

import click

COMMANDS: dict[str, tuple[str, str]] = {
    "relay": (f"{__package__}.cli_run", "relay"),
    "milter": (f"{__package__}.cli_milter", "milter"),
    "demo": (f"{__package__}.cli_demo", "demo"),
    "config": (f"{__package__}.cli_config", "config"),
    "policy": (f"{__package__}.cli_policy", "policy"),
    "inspect": (f"{__package__}.cli_inspect", "inspect"),
    "receipts": (f"{__package__}.cli_receipts", "receipts"),
    "audit": (f"{__package__}.cli_audit", "audit"),
    "ledger": (f"{__package__}.cli_ledger", "ledger"),
}
"""Word to module and attribute. Packages above this one add theirs (:mod:`kaifu.tui.main`)."""


class LazyGroup(click.Group):
    """A group whose commands are imported by name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name]
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("kaifu"), prog_name="kaifu")
def cli() -> None:
    """Read receipts under an organisation's policy: decide, record, explain."""


def main() -> None:
    """Entry point of the console script. Whatever happens ends in a sentence and an exit status."""
    status: object = 0
    try:
        _prepare_streams()
        cli(args=_arguments())
    except SystemExit as end:
        status = end.code
    except OSError as error:
        status = _give_up(f"{error.strerror or error}" + (f": {error.filename}" if error.filename else ""))
    except Exception as error:  # noqa: BLE001 - the last resort: no traceback reaches a user
        frame = traceback.extract_tb(error.__traceback__)[-1]
        status = _give_up(f"internal error, please report it: {type(error).__name__}: {error} ({frame.name})")
    try:
        sys.stdout.flush()
    except OSError as error:
        status = _give_up(f"the answer cannot be written: {error.strerror}")
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - nothing is left to flush at exit
    sys.exit(status if isinstance(status, int | str) else None)


def _prepare_streams() -> None:
    """What a terminal cannot show in its encoding is escaped; a closed stream swallows what is written."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - for the whole run
        elif isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _arguments() -> list[str]:
    """The words of the command line as text, also where the locale knows less than UTF-8."""
    words = []
    for word in sys.argv[1:]:
        try:
            words.append(os.fsencode(word).decode("utf-8"))
        except UnicodeDecodeError:
            sys.exit(_give_up(f"{word!a} is not text in UTF-8"))
    return words


def _give_up(sentence: str) -> int:
    with suppress(OSError):
        print(f"kaifu: {sentence}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
