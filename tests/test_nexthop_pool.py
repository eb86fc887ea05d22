"""Connections to the next hop between transactions: given out again while they are good, and not kept for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from ipaddress import ip_address

import pytest

from kaifu.proxy.nexthop import IDLE_SECONDS, Contexts, Pool, host_and_port, plain_address
from kaifu.proxy.settings import Listener, RelaySettings, Tls
from kaifu.proxy.wire import Sweeper


class Peer:
    """A next hop that greets, answers EHLO, and tells of each connection's last line."""

    def __init__(self) -> None:
        self.ended: asyncio.Queue[bytes] = asyncio.Queue()
        self.connections = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        writer.write(b"220 next.example ESMTP\r\n")
        last = b""
        while line := await reader.readline():
            last = line
            writer.write(b"250 next.example\r\n" if line != b"QUIT\r\n" else b"221 Bye\r\n")
        self.ended.put_nowait(last)
        writer.close()


async def with_pool(use: Callable[[Peer, Pool, Sweeper], Awaitable[None]]) -> None:
    peer = Peer()
    server = await asyncio.start_server(peer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    listener = Listener("127.0.0.1", 0)
    settings = RelaySettings((listener,), ("127.0.0.1", port), "relay.example", tls=Tls(next_hop="none"))
    sweeper = Sweeper(asyncio.get_running_loop())
    pool = Pool(settings, sweeper, Contexts(settings), lambda event, **fields: None)
    try:
        async with asyncio.timeout(30):
            await use(peer, pool, sweeper)
    finally:
        pool.close()
        sweeper.stop()
        server.close()


def test_a_connection_that_nobody_uses_is_closed_with_a_goodbye() -> None:
    async def use(peer: Peer, pool: Pool, sweeper: Sweeper) -> None:
        pool.put_back(await pool.acquire())
        clock = sweeper.now
        sweeper.now = lambda: clock() + IDLE_SECONDS + 1
        assert await peer.ended.get() == b"QUIT\r\n"
        await pool.acquire()
        assert peer.connections == 2

    asyncio.run(with_pool(use))


def test_a_connection_in_use_is_not_closed_for_being_slow() -> None:
    async def use(peer: Peer, pool: Pool, sweeper: Sweeper) -> None:
        pool.put_back(await pool.acquire())
        connection = await pool.acquire()
        clock = sweeper.now
        sweeper.now = lambda: clock() + IDLE_SECONDS + 1
        pool.put_back(await pool.acquire(fresh=True))
        sweeper.now = lambda: clock() + 3 * IDLE_SECONDS
        assert await peer.ended.get() == b"QUIT\r\n"  # the idle one: the sweeper has looked at both
        assert (await connection.command(b"NOOP")).ok
        assert peer.connections == 2

    asyncio.run(with_pool(use))


def test_a_connection_that_was_dropped_is_not_given_out_again() -> None:
    async def use(peer: Peer, pool: Pool, sweeper: Sweeper) -> None:
        connection = await pool.acquire()
        pool.put_back(connection)
        connection.clean = False
        assert await pool.acquire() is not connection

    asyncio.run(with_pool(use))


@pytest.mark.parametrize(
    ("peer", "plain"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("::1", "::1"),
    ],
)
def test_a_peers_address_is_written_as_people_write_it(peer: str, plain: str) -> None:
    assert plain_address(peer) == plain
    assert str(ip_address(plain)) == plain


def test_an_ipv6_address_before_a_port_stands_in_brackets() -> None:
    assert [host_and_port(host, 25) for host in ("::1", "mail.example")] == ["[::1]:25", "mail.example:25"]
