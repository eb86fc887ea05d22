"""What systemd wants to hear (sd_notify(3)): ready, stopping, alive. Without ``$NOTIFY_SOCKET`` nothing happens."""

from __future__ import annotations

import os
import socket


def notify(state: str) -> None:
    """Send one state such as ``READY=1``. A service manager that does not listen is no reason to stop."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.connect(address)
            channel.sendall(state.encode())
    except OSError:
        pass


def watchdog_seconds() -> float | None:
    """How often to say ``WATCHDOG=1``: half of what the unit allows, None when it does not watch."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 2_000_000 if microseconds.isdigit() and int(microseconds) else None
