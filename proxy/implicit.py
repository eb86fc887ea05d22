"""Listeners whose connections begin with TLS (RFC 8314): accepted one by one, so that handshakes are counted and can be ended.

An event loop that does the handshake by itself tells nobody of a connection before it is through. Started by the relay for
each listener with ``tls: implicit``; a session begins when its connection is encrypted. A failed handshake is logged and
costs nothing else.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from .nexthop import plain_address
from .session import ClientWire
from .settings import Listener

if TYPE_CHECKING:
    from .relay import Relay

RETRY_SECONDS = 1.0


class ImplicitTls:
    """Accepts and encrypts the connections of one listening socket until :meth:`close`."""

    def __init__(self, relay: Relay, listener: Listener, bound: socket.socket) -> None:
        self._relay = relay
        self._listener = listener
        self._bound = bound
        self._waiting: Counter[str] = Counter()
        self._tasks = {asyncio.get_running_loop().create_task(self._accept())}

    def close(self) -> None:
        """Accept no more and drop those whose handshake is under way. Sessions are not touched."""
        for task in self._tasks:
            task.cancel()

    async def _accept(self) -> None:
        try:
            await self._accept_all()
        finally:
            self._bound.close()  # who still comes is refused at once instead of waiting for a greeting

    async def _accept_all(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, peer = await loop.sock_accept(self._bound)
            except ConnectionError:
                continue  # gone before it was accepted
            except OSError as error:
                self._relay.log("accept-failed", cause=error.strerror)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            address = plain_address(peer[0])
            self._waiting[address] += 1
            if not self._relay.has_room(address, self._waiting):
                self._leave(address)
                connection.close()
                continue
            task = loop.create_task(self._encrypt(connection, address))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _encrypt(self, connection: socket.socket, address: str) -> None:
        relay = self._relay
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                partial(ClientWire, relay, self._listener, relay.sweeper),
                connection,
                ssl=relay.contexts.server,
                ssl_handshake_timeout=relay.relay_settings.timeouts.connect,
            )
        except (OSError, ValueError) as error:
            relay.log("client-tls-failed", client=address, cause=str(error) or type(error).__name__)
            connection.close()
        finally:
            self._leave(address)

    def _leave(self, address: str) -> None:
        self._waiting[address] -= 1
        if not self._waiting[address]:
            del self._waiting[address]
