"""What a milter owes itself: bounded memory whatever a peer does, an answer whatever the ledger's disk does, no dead connections.

Server and connections in this process, in asyncio's own event loop, so that the tests see what they hold; the MTA in a thread.
"""

from __future__ import annotations

import asyncio
import socket
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from tests.milter_client import NR_HDR, NR_RCPT, Gone, Mail, Mta, packet, words

from kaifu.proxy import milter
from kaifu.proxy.journal import Journal
from kaifu.proxy.ledger_file import prepare
from kaifu.proxy.ledger_gathering import GatheringLedger
from kaifu.proxy.milter import Server
from kaifu.proxy.milterconnection import LARGEST_PACKET, Connection
from kaifu.proxy.milterhost import Collected, End, MilterHost
from kaifu.proxy.miltersocket import CannotListen, Place
from kaifu.proxy.policyfile import PolicyFile
from kaifu.proxy.settings import MilterSettings, load_settings
from kaifu.proxy.trustfiles import TrustFiles

SETTINGS = """
realm: [example.co.jp]
policy: policy.yaml
ledger: sqlite:///ledger.db
milter: {listen: "unix:/nowhere", hostname: mx.example.co.jp}
"""
POLICY = 'version: 1\nrules: [{name: all, when: {to: "@partner.example"}, then: {request: add}}]\n'
DEADLINE = 20.0


def mail(name: str) -> Mail:
    headers = [(b"From", b"<alice@example.co.jp>"), (b"Message-ID", b"<%b@example.co.jp>" % name.encode())]
    return Mail([b"<alice@example.co.jp>"], [[b"<bob@partner.example>"]], headers, b"Hello.\r\n", name)


class Serving:
    """A server at ``address``, with its ledger."""

    def __init__(self, place: Path, tcp: bool, settings_text: str, policy_text: str) -> None:
        (place / "kaifu.yaml").write_text(settings_text)
        (place / "policy.yaml").write_text(policy_text)
        self.file = place / "ledger.db"
        prepare(self.file, create=True)
        settings, log = load_settings(place / "kaifu.yaml"), Journal()
        assert settings.milter is not None
        policy, trust = PolicyFile(settings.policy, log), TrustFiles(settings, log)
        self.ledger = GatheringLedger(self.file)
        self.host = MilterHost(settings, settings.milter, policy, trust, self.ledger, log)
        self.server = Server(self.host, tcp=tcp)
        self.address: Path | tuple[str, int] = place / "socket"

    def connect(self) -> Mta:
        return Mta(self.address)

    def connection(self) -> Connection:
        (only,) = self.server.connections
        return only

    def recorded(self) -> list[str]:
        with closing(sqlite3.connect(self.file)) as db:
            return [name for (name,) in db.execute("SELECT message_id FROM messages ORDER BY id")]

    @contextmanager
    def stuck(self) -> Iterator[None]:
        """The ledger does not answer meanwhile."""
        with closing(sqlite3.connect(self.file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield


@asynccontextmanager
async def serving(tcp: bool, settings: str = SETTINGS, policy: str = POLICY) -> AsyncIterator[Serving]:
    loop = asyncio.get_running_loop()
    with TemporaryDirectory(prefix="kaifu-milter-") as place:
        one = Serving(Path(place), tcp, settings, policy)
        if tcp:
            listening = await loop.create_server(lambda: Connection(one.server), "127.0.0.1", 0)
            one.address = listening.sockets[0].getsockname()
        else:
            listening = await loop.create_unix_server(lambda: Connection(one.server), str(one.address))
        try:
            yield one
        finally:
            listening.close()
            await one.server.stop(DEADLINE)
            await one.ledger.close()


def run(
    test: Callable[[Serving], Awaitable[None]], *, tcp: bool = False, settings: str = SETTINGS, policy: str = POLICY
) -> None:
    async def everything() -> None:
        async with serving(tcp, settings, policy) as one:
            await test(one)

    asyncio.run(everything())


async def until(so: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not so():
            await asyncio.sleep(0.001)


def in_thread(function: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
    return asyncio.ensure_future(asyncio.to_thread(function, *arguments))


@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
def test_mail_is_decided(tcp: bool) -> None:
    async def test(one: Serving) -> None:
        def deliver() -> None:
            with one.connect() as mta:
                for number in range(3):
                    assert len(mta.deliver(mail(str(number))).headers) == 3

        await in_thread(deliver)
        await until(lambda: not one.server.connections)
        assert (one.server.under_way, len(one.recorded())) == (set(), 3)

    run(test, tcp=tcp)


def test_when_the_ledger_does_not_answer_the_mta_is_told_to_wait_and_a_repetition_counts_once(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    async def test(one: Serving) -> None:
        with await in_thread(one.connect) as mta, one.stuck():
            waiting = in_thread(mta.deliver, mail("1"))
            await until(lambda: len(one.server._deciding) == 1)
            one.server.look_around()
            assert not waiting.done()
            monkeypatch.setattr(milter, "PATIENCE", -1.0)
            one.server.look_around()
            result = await waiting
            assert (result.end, result.reply[:9], result.headers) == ("tempfail", "451 4.3.0", mail("1").headers)
            assert one.server.under_way == set()
            assert "the ledger does not answer; is its disk stuck?" in capfd.readouterr().err
            assert one.host.ended[End.TEMPFAIL] == 1
        monkeypatch.undo()
        with await in_thread(one.connect) as mta:
            assert (await in_thread(mta.deliver, mail("1"))).end == "accept"
        assert one.recorded() == ["1@example.co.jp"]

    run(test)


def test_an_error_of_ours_is_told_in_the_log_and_never_accepts_a_message(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    async def test(one: Serving) -> None:
        for place, ends in ((Collected, None), (MilterHost, "tempfail")):
            with await in_thread(one.connect) as mta, monkeypatch.context() as patch:
                patch.setattr(place, "add_header" if place is Collected else "decide", fails)
                if ends is None:
                    with pytest.raises(Gone):
                        await in_thread(mta.deliver, mail("1"))
                else:
                    assert (await in_thread(mta.deliver, mail("1"))).end == ends
            assert "internal-error" in capfd.readouterr().err
        assert one.host.ended[End.TEMPFAIL] == 1
        with await in_thread(one.connect) as mta:
            assert (await in_thread(mta.deliver, mail("1"))).end == "accept"

    def fails(*_: object) -> None:
        raise KeyError("a fault of ours")

    run(test)


def test_who_is_silent_for_too_long_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(one: Serving) -> None:
        with await in_thread(one.connect) as mta:
            one.server.look_around()
            assert len(one.server.connections) == 1
            monkeypatch.setattr(milter, "LONGEST_SILENCE", -1.0)
            one.server.look_around()
            assert await in_thread(mta.has_hung_up)
        await until(lambda: not one.server.connections)

    run(test)


def test_what_comes_while_a_message_is_decided_waits_at_its_sender() -> None:
    async def test(one: Serving) -> None:
        flood = packet(b"A") * (2 * LARGEST_PACKET)  # ten times what may wait here
        with await in_thread(one.connect) as mta:
            with one.stuck():
                waiting = in_thread(mta.deliver, mail("1"))
                await until(lambda: len(one.server._deciding) == 1)
                connection = one.connection()
                sent = in_thread(mta.raw, flood)
                await until(lambda: connection._paused)
                assert len(connection._waiting) < LARGEST_PACKET + (1 << 20)
                assert not sent.done()
            assert (await waiting).end == "accept"
            await sent
            assert (await in_thread(mta.deliver, mail("2"))).end == "accept"
            assert not connection._paused

    run(test)


def test_a_peer_that_takes_no_answers_is_read_from_no_more() -> None:
    async def test(one: Serving) -> None:
        number = 1_000_000
        with await in_thread(one.connect) as mta:
            connection = one.connection()
            sent = in_thread(mta.raw, packet(b"H") * number)
            await until(lambda: connection._paused)
            assert connection._transport.get_write_buffer_size() < 2 << 20
            assert not sent.done()

            def take() -> None:
                for _ in range(number):
                    assert mta.answer() == (b"c", b"")

            await in_thread(take)
            await sent
            assert (await in_thread(mta.deliver, mail("1"))).end == "accept"

    run(test)


def test_what_has_come_whole_is_decided_before_the_end_and_the_rest_is_hung_up_on() -> None:
    async def test(one: Serving) -> None:
        with await in_thread(one.connect) as whole, await in_thread(one.connect) as half:
            with one.stuck():
                waiting = in_thread(whole.deliver, mail("1"))
                await in_thread(half.begin, mail("2"))
                await until(lambda: len(one.server._deciding) == 1)
                stopping = asyncio.ensure_future(one.server.stop(DEADLINE))
                await until(lambda: one.server.stopping)
            assert (await waiting).end == "accept"
            assert await in_thread(half.has_hung_up)
            await stopping
        assert one.recorded() == ["1@example.co.jp"]

    run(test)


def test_who_takes_no_answers_is_in_the_end_hung_up_on_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(one: Serving) -> None:
        with await in_thread(one.connect) as mta:
            connection = one.connection()
            sent = in_thread(mta.raw, packet(b"H") * 1_000_000)
            await until(lambda: connection._paused)
            monkeypatch.setattr(milter, "LONGEST_SILENCE", -1.0)
            one.server.look_around()
            await until(lambda: not one.server.connections)
            await sent

    run(test)


def test_the_recipients_of_a_message_take_no_more_memory_than_an_mta_s_would() -> None:
    async def test(one: Serving) -> None:
        with await in_thread(one.connect) as mta:

            def begin() -> None:
                mta.begin(mail("1"))
                for _ in range(10):
                    mta.step(b"R", words(b"<%b@partner.example>" % (b"x" * (1 << 20))), 0, NR_RCPT)
                mta.step(b"L", words(b"From", b"<alice@example.co.jp>"), 0, NR_HDR)

            await in_thread(begin)
            connection = one.connection()
            await until(lambda: connection._message is not None and connection._message.header_size > 0)
            assert connection._message is not None
            assert sum(len(word) for recipient in connection._message.rcpt for word in recipient) < 1000
            assert (await in_thread(mta.end, mail("1"), b"")).end == "tempfail"
            assert (await in_thread(mta.deliver, mail("2"))).end == "accept"

    run(test)


@pytest.mark.parametrize("stance", ["defer", "pass"])
def test_nobody_is_asked_who_may_have_refused_even_off_the_record(stance: str) -> None:
    async def test(one: Serving) -> None:
        with await in_thread(one.connect) as mta:
            assert len((await in_thread(mta.deliver, mail("1"))).headers) == 3
            one.ledger._nobody_said = False
            one.file.rename(one.file.with_name("away"))
            result = await in_thread(mta.deliver, mail("2"))
            assert result.headers == mail("2").headers
            assert result.end == ("tempfail" if stance == "defer" else "accept")

    run(test, settings=f"{SETTINGS}on_ledger_failure: {stance}\n", policy=POLICY.replace("add}", "add, record: none}"))


def test_a_recipient_with_a_source_route_is_changed_under_the_name_that_postfix_keeps() -> None:
    async def test(one: Serving) -> None:
        def orders() -> list[tuple[bytes, bytes]]:
            with one.connect() as mta:
                mta.begin(replace(mail("1"), rcpt=[[b"<@relay.example,@mx.example:bob@partner.example>"]]))
                mta.content(mail("1"))
                mta.send(b"E")
                return [mta.answer() for _ in range(3)]

        again = words(b"<bob@partner.example>", b"NOTIFY=SUCCESS,FAILURE,DELAY")
        assert await in_thread(orders) == [(b"-", words(b"<bob@partner.example>")), (b"2", again), (b"c", b"")]

    run(test, policy=POLICY.replace("request", "delivery_report"))


@pytest.mark.parametrize(
    ("wish", "given", "told"),
    [
        ("add", b"NOTIFY=FAILURE,DELAY ORCPT=rfc822;a", b"SUCCESS,FAILURE"),
        ("add", b"NOTIFY=FAILURE ORCPT=rfc822;a", b"SUCCESS,FAILURE,DELAY"),
        ("add", b"NOTIFY=DELAY ORCPT=rfc822;a", b"SUCCESS,FAILURE,DELAY"),
        ("add", b"NOTIFY=FAILURE", b"SUCCESS,FAILURE"),
        ("add", b"ORCPT=rfc822;a", b"SUCCESS,FAILURE,DELAY"),
        ("strip", b"NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;a", b"FAILURE"),
        ("strip", b"NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a", b"FAILURE,DELAY"),
        ("strip", b"NOTIFY=SUCCESS ORCPT=rfc822;a", b"FAILURE,DELAY"),
        ("strip", b"NOTIFY=SUCCESS", b"NEVER"),
    ],
)
def test_who_is_put_back_with_an_orcpt_differs_in_more_than_success(wish: str, given: bytes, told: bytes) -> None:
    """Else Postfix, which takes SUCCESS from aliases, takes him for a duplicate of the one who was removed, and drops both."""

    async def test(one: Serving) -> None:
        def deliver() -> list[tuple[bytes, bytes]]:
            with one.connect() as mta:
                to = [b"<bob@partner.example>", *given.split(b" ")]
                return mta.deliver(replace(mail("1"), rcpt=[to])).rcpt

        [(path, parameters)] = await in_thread(deliver)
        assert (path, parameters.rpartition(b"NOTIFY=")[2]) == (b"<bob@partner.example>", told)

    run(test, policy=POLICY.replace("request: add", f"delivery_report: {wish}"))


@pytest.mark.parametrize("wish", ["add", "strip"])
def test_who_is_there_twice_is_not_put_back(wish: str) -> None:
    """Postfix could take the one for the other, and drop both."""

    async def test(one: Serving) -> None:
        def deliver() -> list[tuple[bytes, bytes]]:
            with one.connect() as mta:
                to = [[b"<bob@partner.example>", b"NOTIFY=SUCCESS"], [b"<BOB@partner.example>", b"NOTIFY=SUCCESS"]]
                return mta.deliver(replace(mail("1"), rcpt=to)).rcpt

        first, second = await in_thread(deliver)
        assert (first[1], second[1]) == (b"NOTIFY=SUCCESS", b"NOTIFY=SUCCESS")

    run(test, policy=POLICY.replace("request: add", f"delivery_report: {wish}"))


def test_a_milter_that_is_too_busy_to_be_asked_keeps_its_socket() -> None:
    with TemporaryDirectory(prefix="kaifu-milter-") as place, ExitStack() as open_ones:
        here = MilterSettings(listen=f"unix:{place}/socket", hostname="mx.example.co.jp")
        busy = open_ones.enter_context(socket.socket(socket.AF_UNIX))
        busy.bind(f"{place}/socket")
        busy.listen(0)
        with suppress(BlockingIOError):
            while True:
                client = open_ones.enter_context(socket.socket(socket.AF_UNIX))
                client.setblocking(False)
                client.connect(f"{place}/socket")
        with pytest.raises(CannotListen, match="another process serves this socket"):
            Place(here).check()
        open_ones.close()
        Place(here).check()
