"""The installed ``kaifu milter`` as a process of its own. Nothing of kaifu is imported: what these tests see is what users get."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.milter_client import Mta
from tests.session_relay import KAIFU, KEEP, Relay, merged


class Milter(Relay):
    """One milter process, on a unix socket in a directory whose path is short enough for one."""

    command_name = "milter"

    def __init__(self, directory: Path, policy: str = KEEP, settings: Mapping[str, Any] = {}) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="kaifu-milter-"))
        self.socket = self.place / "socket"
        ours = {"milter": {"listen": f"unix:{self.socket}", "hostname": "mx.example.co.jp"}}
        super().__init__(directory, 25, policy, merged(ours, settings))

    def start(self) -> None:
        """Start the command and wait until it is ready."""
        self.until_ready()

    def kill(self) -> None:
        """End it at once."""
        super().kill()
        shutil.rmtree(self.place, ignore_errors=True)

    def connect(self, **offers: Any) -> Mta:
        """A connection of an MTA."""
        return Mta(self.socket, **offers)

    def rows(self) -> list[dict[str, Any]]:
        """What ``kaifu receipts list --json`` says, in the order in which it was recorded."""
        return sorted(self.receipts(), key=lambda row: int(row["id"]))

    def command(self, *words: str) -> str:
        """What another kaifu command says about the same configuration."""
        done = subprocess.run(
            [KAIFU, *words, "--config", self.config], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout
