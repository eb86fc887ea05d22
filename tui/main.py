"""Entry point of the ``kaifu`` command: the commands of :mod:`kaifu.proxy.cli`, and the screens, which know of it and not it of them."""

from __future__ import annotations

from kaifu.proxy.cli import COMMANDS
from kaifu.proxy.cli import main as run

COMMANDS["tui"] = ("kaifu.tui.command", "tui")


def main() -> None:
    """Run the command line."""
    run()


if __name__ == "__main__":
    main()
