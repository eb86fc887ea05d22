"""The milter as a service: the socket, all connections, and their end.

``kaifu milter`` calls :func:`serve`. Each connection of an MTA is a :class:`~kaifu.proxy.milterconnection.Connection` in one event loop.

How it fails: a decision that does not come, because the ledger's disk hangs, is a tempfail after :data:`PATIENCE` seconds. When told
to stop it decides what has come whole, closes all connections, which an MTA takes for a tempfail, and ends. So it does when the
socket's file was removed, because nobody could connect any more: the service manager starts it again, with a new one.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from .milterconnection import Connection
from .milterhost import MilterHost
from .miltersocket import BACKLOG, Place
from .servicemanager import notify, watchdog_seconds
from .settings import MilterSettings

PATIENCE = 60.0
LONGEST_SILENCE = 7210.0
"""Seconds after which a connection that says nothing is closed. Longer than any MTA is silent while it has use for one."""

DRAIN_SECONDS = 30.0


class Server:
    """All connections of a process. ``under_way``: those with a message that has begun and not come whole."""

    def __init__(self, host: MilterHost, *, tcp: bool) -> None:
        self.host = host
        self.tcp = tcp
        self.stopping = False
        self.connections: set[Connection] = set()
        self.under_way: set[Connection] = set()
        self._deciding: dict[asyncio.Task[None], float] = {}
        self._loop = asyncio.get_running_loop()

    def decide(self, work: Coroutine[Any, Any, None]) -> None:
        """Run it in the background. When it takes too long it is cancelled."""
        task = self._loop.create_task(work)
        self._deciding[task] = time.monotonic()
        task.add_done_callback(self._deciding.pop)

    def look_around(self) -> None:
        """To be called now and then: ends what takes too long, and closes what has been silent for too long."""
        now = time.monotonic()
        for task in [task for task, since in self._deciding.items() if since < now - PATIENCE]:
            task.cancel()
        for one in [one for one in self.connections if one.heard_at < now - LONGEST_SILENCE]:
            one.abort()

    async def stop(self, seconds: float) -> None:
        """Decide nothing more, and wait so long for what is being decided."""
        self.stopping = True
        if self._deciding:
            await asyncio.wait(self._deciding, timeout=seconds)
        for one in list(self.connections):
            one.close()


async def serve(host: MilterHost, settings: MilterSettings, ready: Callable[[], None]) -> None:
    """Run until SIGTERM or SIGINT. Raises :class:`~kaifu.proxy.miltersocket.CannotListen`, also when somebody takes the socket away."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, host.look_at_files)
    place = Place(settings)
    place.check()
    bound = place.listen()
    server = Server(host, tcp=bound.family != socket.AF_UNIX)
    make = loop.create_server if server.tcp else loop.create_unix_server
    listening = await make(lambda: Connection(server), sock=bound, backlog=BACKLOG)
    host.policy.record_in(host.ledger)
    ready()
    period = watchdog_seconds()
    try:
        while not stop.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 1.0 if period is None else min(1.0, period))
            host.look_at_files()
            server.look_around()
            place.look()
            if period is not None:
                notify("WATCHDOG=1")
    finally:
        notify("STOPPING=1")
        place.remove()
        listening.close()
        await server.stop(DRAIN_SECONDS)
