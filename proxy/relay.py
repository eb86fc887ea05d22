"""The relay: listeners, sessions, and what they share (policy, ledger, next hop, limits, log).

``serve`` runs one process of it on sockets that are already bound, until ``stop`` is called; ``kaifu relay`` starts it. It
stops in this order: no new connections, idle sessions get 421, messages under way are finished, the ledger is closed.
"""

from __future__ import annotations

import asyncio
import socket
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from ipaddress import ip_address

from . import replies
from .envelope import Envelope
from .health import Health
from .implicit import ImplicitTls
from .incoming import Disk
from .journal import Journal
from .ledger import Ledger, LedgerError
from .nexthop import Answer, Contexts, Pool
from .policyfile import PolicyFile
from .replies import Reply
from .servicemanager import notify
from .session import ClientWire, Session
from .settings import Listener, RelaySettings, Settings
from .transfer import Transfer
from .trustfiles import TrustFiles
from .vitals import LedgerVitals, now
from .wire import Sweeper

POLL_SECONDS = 1.0


class Relay:
    """One process of the relay. Made within a running event loop."""

    def __init__(
        self,
        settings: Settings,
        relay_settings: RelaySettings,
        policy: PolicyFile,
        trust: TrustFiles,
        ledger: Ledger,
        contexts: Contexts,
    ) -> None:
        self.settings = settings
        self.relay_settings = relay_settings
        self.policy = policy
        self.trust = trust
        self.ledger = ledger
        self.contexts = contexts
        self.log = Journal()
        self.sweeper = Sweeper(asyncio.get_running_loop())
        self.pool = Pool(relay_settings, self.sweeper, contexts, self.log)
        self.disk = Disk(relay_settings.limits.temporary_disk, relay_settings.temporary_directory)
        self.stopping = False
        self._sessions: set[Session] = set()
        self._per_client: Counter[str] = Counter()
        self._background: set[asyncio.Future[None]] = set()
        self._all_gone = asyncio.Event()
        self._ledger_vitals = LedgerVitals()
        self._replies = [0] * 10
        self._trusts: dict[str, bool] = {}

    # what sessions ask for

    def trusts(self, address: str) -> bool:
        """Is the client in ``clients``?"""
        known = self._trusts.get(address)
        if known is None:
            ip = ip_address(address)
            known = any(ip in network for network in self.relay_settings.clients if network.version == ip.version)
            if len(self._trusts) > 10_000:
                self._trusts.clear()
            self._trusts[address] = known
        return known

    def enter(self, session: Session) -> Reply | None:
        """Count a session in. A reply, when it must go away again."""
        self._sessions.add(session)
        self._per_client[session.address] += 1
        if self.stopping:
            return replies.STOPPING
        return None if self.has_room(session.address) else replies.TOO_MANY_CONNECTIONS

    def has_room(self, address: str, besides: Mapping[str, int] = {}) -> bool:
        """Are the connections of this client, and of all, within the limits? Logged when not.

        ``besides``: connections that are no sessions yet, by client.
        """
        limits = self.relay_settings.limits
        everybody = len(self._sessions) + sum(besides.values())
        if everybody <= limits.connections and (
            self._per_client[address] + besides.get(address, 0) <= limits.connections_per_client
        ):
            return True
        self.log("too-many-connections", client=address, connections=everybody)
        return False

    def leave(self, session: Session) -> None:
        """Count a session out."""
        self._sessions.discard(session)
        self._per_client[session.address] -= 1
        if not self._per_client[session.address]:
            del self._per_client[session.address]
        if not self._sessions:
            self._all_gone.set()

    def in_background(self, work: Awaitable[None]) -> None:
        """Let the ledger take an outcome while the client is answered already; ``stop`` waits for it."""
        future = asyncio.ensure_future(work)
        self._background.add(future)
        future.add_done_callback(self._background_done)

    def _background_done(self, future: asyncio.Future[None]) -> None:
        self._background.discard(future)
        error = None if future.cancelled() else future.exception()
        if isinstance(error, LedgerError):
            self.ledger_failed(error)
        elif error is not None:
            self.unforeseen(error)

    def ledger_failed(self, error: LedgerError) -> None:
        """Log why the ledger cannot be used: once, until the reason changes or it works again."""
        if self._ledger_vitals.fails(str(error)):
            self.log("ledger-failed", cause=str(error), on_ledger_failure=self.settings.on_ledger_failure)

    def unforeseen(self, error: BaseException, **fields: object) -> None:
        """An error that we did not foresee: in the log with its place, never in a reply."""
        frames = traceback.extract_tb(error.__traceback__)
        place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else None
        self.log("internal-error", error=f"{type(error).__name__}: {error}", at=place, **fields)

    def log_message(
        self,
        transfer: Transfer,
        envelope: Envelope,
        queue_id: str,
        client: str,
        answer: Answer | None,
        cause: str | None,
        seconds: float,
    ) -> None:
        """The one line about a message."""
        judgement = transfer.judgement
        self._replies[answer.code // 100 if answer is not None else 0] += 1
        if answer is not None and answer.ok and self._ledger_vitals.problem and transfer.begun is not None:
            self.log("ledger-works-again", was=self._ledger_vitals.works())
        reasons = dict.fromkeys(v.reason for v in judgement.verdicts) if judgement is not None else {}
        self.log(
            "message",
            id=queue_id,
            client=client,
            **{"from": str(envelope.reverse_path.mailbox or "<>")},
            to=",".join(str(r.mailbox) for r in envelope.recipients),
            reply=answer.text if answer is not None else None,
            ledger=transfer.begun.message if transfer.begun is not None else None,
            reason=" | ".join(reasons) or None,
            cause=cause if cause != (answer.text if answer else None) else None,
            seconds=seconds,
        )

    # its own life

    def health(self, begun: Health) -> Health:
        """How it is. ``begun``: what has been known since the start. Called by another thread."""
        gone, taken, deferred, refused = (self._replies[number] for number in (0, 2, 4, 5))
        return replace(
            begun,
            at=now(),
            policy=self.policy.health(),
            ledger=self._ledger_vitals.health(),
            next_hop=self.pool.vitals.health(self.pool.name),
            counters={
                "messages": gone + taken + deferred + refused,
                "taken": taken,
                "deferred": deferred,
                "refused": refused,
                "sessions": len(self._sessions),
            },
        )

    async def serve(
        self, sockets: list[socket.socket], stop: asyncio.Event, ready: Callable[[], None] = lambda: None
    ) -> None:
        """Serve until ``stop`` is set, then finish what is under way.

        ``sockets``: bound, in the order of the listeners. ``ready`` is called when clients are served.
        """
        # Whoever starts a worker anew has the policy of its own start.
        self.policy.poll()
        self.policy.record_in(self.ledger)
        servers = [await self._listen(*pair) for pair in zip(self.relay_settings.listen, sockets, strict=True)]
        ready()
        try:
            while not stop.is_set():
                self.policy.poll()
                self.trust.poll()
                try:
                    await asyncio.wait_for(stop.wait(), POLL_SECONDS)
                except TimeoutError:
                    continue
        finally:
            for server in servers:
                server.close()
            await self._finish()

    async def _listen(self, listener: Listener, bound: socket.socket) -> asyncio.AbstractServer | ImplicitTls:
        if listener.tls == "implicit":
            return ImplicitTls(self, listener, bound)
        factory = partial(ClientWire, self, listener, self.sweeper)
        return await asyncio.get_running_loop().create_server(factory, sock=bound, backlog=1024)

    async def _finish(self) -> None:
        self.stopping = True
        notify("STOPPING=1")
        self._all_gone.clear()
        for session in list(self._sessions):
            session.stop()
        if self._sessions:
            self.log("stopping", sessions=len(self._sessions))
            await self._all_gone.wait()
        if self._background:
            await asyncio.wait(self._background)
        self.pool.close()
        self.sweeper.stop()
        await self.ledger.close()
