"""``kaifu relay``: check the configuration, bind, drop into as many processes as ``workers`` says, serve, stop on SIGTERM.

It refuses to start (exit 2, every reason on standard error) unless settings, policy, certificates, ledger and listening
addresses are all in order. A worker that dies is replaced; SIGTERM and SIGINT stop gracefully; SIGHUP looks at the policy
and at the files of aliases at once.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any, NoReturn

import click

from kaifu.policies.document import ProblemsError

from .health import Health, of_settings
from .healthfile import remove_files
from .healthkeeper import HealthKeeper
from .incoming import directory_problem
from .journal import Journal
from .ledger import LedgerError
from .ledger_open import ledger_path, open_ledger
from .nexthop import Contexts, host_and_port, tls_problems
from .policyfile import PolicyFile
from .relay import Relay
from .servicemanager import notify, watchdog_seconds
from .settings import RelaySettings, Settings, config_path, load_settings
from .trustfiles import TrustFiles
from .vitals import now


class CannotStart(Exception):
    """A reason not to start, in words for the person who typed the command."""


@click.command()
@click.option("--config", type=click.Path(), help="Settings file; else $KAIFU_CONFIG, else /etc/kaifu/kaifu.yaml.")
def relay(config: str | None) -> None:
    """Run the SMTP relay in front of the next hop."""
    with refusing_to_start():
        settings = load_settings(config_path(config))
        if settings.relay is None:
            raise CannotStart(
                f"{settings.file}: there is no relay: section; see the settings reference in proxy/README.md"
            )
        run(settings, settings.relay)


@contextmanager
def refusing_to_start() -> Iterator[None]:
    """Reasons not to start become sentences on standard error and exit status 2."""
    try:
        yield
    except ProblemsError as error:
        for problem in error.problems:
            click.echo(str(problem), err=True)
        sys.exit(2)
    except (CannotStart, LedgerError) as error:
        click.echo(str(error), err=True)
        sys.exit(2)


def run(settings: Settings, relay_settings: RelaySettings) -> None:
    """Serve until told to stop. Raises :class:`CannotStart`, LedgerError or ProblemsError before anything listens."""
    if relay_settings.workers > 1:
        # A supervisor waits for signals and is never interrupted: a handler could run between fork and what follows it, or just
        # before the wait, and then nobody would notice. From here on, because threads inherit it: a signal would find one that
        # has done its work and not quite ended, and would end the process.
        signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
    log = Journal()
    policy, trust = PolicyFile(settings.policy, log), TrustFiles(settings, log)
    parts = _Parts(settings, relay_settings, policy, trust, _contexts(relay_settings))
    asyncio.run(check_ledger(settings))
    if problem := directory_problem(relay_settings.temporary_directory):
        raise CannotStart(f"relay.temporary_directory: {problem}")
    four = {listener.port for listener in relay_settings.listen if ":" not in listener.host}
    sockets = [_bind(one.host, one.port, only_six=one.port in four) for one in relay_settings.listen]
    # Of workers that there are no more.
    remove_files(ledger_path(settings.ledger), of_settings("relay", _name_of(settings)))

    def ready() -> None:
        log(
            "ready " + " ".join(f"listen={each}" for each in _addresses(sockets)),
            next_hop=host_and_port(*relay_settings.next_hop),
            policy=settings.policy,
            ledger=settings.ledger,
            workers=relay_settings.workers,
            pid=os.getpid(),
        )
        notify("READY=1")

    if relay_settings.workers == 1:
        _run_loop(parts, sockets, ready)
    else:
        _Supervisor(parts, sockets, log).run(ready)


def _addresses(sockets: list[socket.socket]) -> tuple[str, ...]:
    return tuple(host_and_port(*bound.getsockname()[:2]) for bound in sockets)


def beginning(host: str, settings: Settings, listen: tuple[str, ...], policy: PolicyFile, worker: int = 1) -> Health:
    """What is known of the health of a process from its start on."""
    return Health(version("kaifu"), os.getpid(), host, worker, _name_of(settings), now(), listen, policy.health())


def _name_of(settings: Settings) -> str:
    return str(settings.file.absolute())


@dataclass(frozen=True)
class _Parts:
    """What has been found in order, for the processes that serve."""

    settings: Settings
    relay_settings: RelaySettings
    policy: PolicyFile
    trust: TrustFiles
    contexts: Contexts


def _contexts(relay_settings: RelaySettings) -> Contexts:
    if problems := tls_problems(relay_settings):
        raise CannotStart("\n".join(problems))
    return Contexts(relay_settings)


async def check_ledger(settings: Settings) -> None:
    """Make the ledger ready (schema, permissions). Raises LedgerError unless it can be written now."""
    ledger = open_ledger(settings.ledger)
    try:
        await ledger.check()
    finally:
        await ledger.close()


def _bind(host: str, port: int, *, only_six: bool) -> socket.socket:
    """A listening socket. ``only_six``: IPv4 on that port is somebody else's, also for the address ``::``."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        info = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        bound = socket.socket(info[0], info[1])
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only_six)
        bound.bind(info[4])
        bound.listen(1024)
    except OSError as error:
        raise CannotStart(f"relay.listen {host_and_port(host, port)}: {error.strerror or error}") from None
    bound.setblocking(False)
    return bound


def run_in_loop(serving: Coroutine[Any, Any, None]) -> None:
    """Run until it ends: with uvloop where it installs, else in asyncio's own loop."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(serving)
        return
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serving)


def _run_loop(
    parts: _Parts,
    sockets: list[socket.socket],
    ready: Callable[[], None],
    *,
    supervisor: int | None = None,
    worker: int = 1,
) -> None:
    """One process. ``supervisor``: a pipe whose other end only the supervisor holds; None when there is none and the service manager watches us."""
    run_in_loop(_serve(parts, sockets, ready, supervisor, worker))


async def _serve(
    parts: _Parts, sockets: list[socket.socket], ready: Callable[[], None], supervisor: int | None, worker: int
) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, _look_at_files, parts)
    if supervisor is not None:
        loop.add_reader(supervisor, _supervisor_died, loop, supervisor, stop)
    ledger = open_ledger(parts.settings.ledger)
    serving = Relay(parts.settings, parts.relay_settings, parts.policy, parts.trust, ledger, parts.contexts)
    companion = loop.create_task(_stay_alive()) if supervisor is None else None
    begun = beginning("relay", parts.settings, _addresses(sockets), parts.policy, worker)
    try:
        with HealthKeeper(ledger_path(parts.settings.ledger), partial(serving.health, begun), serving.log):
            await serving.serve(sockets, stop, ready)
    finally:
        if companion is not None:
            companion.cancel()


def _look_at_files(parts: _Parts) -> None:
    parts.policy.poll()
    parts.trust.poll()


def _supervisor_died(loop: asyncio.AbstractEventLoop, pipe: int, stop: asyncio.Event) -> None:
    """Nobody would tell this process to stop any more, nor start it again with the next configuration."""
    loop.remove_reader(pipe)
    stop.set()


async def _stay_alive() -> None:
    """Tell the service manager so for as long as the event loop turns."""
    seconds = watchdog_seconds()
    while seconds:
        await asyncio.sleep(seconds)
        notify("WATCHDOG=1")


_AWAITED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
_RESTART_SECONDS = 1.0


class _Supervisor:
    """Keeps ``workers`` processes on the same sockets. They stop by themselves when it dies."""

    def __init__(self, parts: _Parts, sockets: list[socket.socket], log: Journal) -> None:
        self._parts = parts
        self._sockets = sockets
        self._log = log
        self._workers: dict[int, int] = {}  # process to number
        self._missing = [*range(1, parts.relay_settings.workers + 1)]
        self._stopping = False
        self._pipe = os.pipe()

    def run(self, ready: Callable[[], None]) -> None:
        """Start the workers, replace those that die, pass the stop signal on and wait for them. The signals are blocked."""
        self._start_missing()
        ready()
        watchdog = watchdog_seconds()
        while self._workers or self._missing:
            waits = [seconds for seconds in (watchdog, _RESTART_SECONDS if self._missing else None) if seconds]
            found = signal.sigtimedwait(_AWAITED, min(waits)) if waits else signal.sigwaitinfo(_AWAITED)
            if watchdog:
                notify("WATCHDOG=1")
            if found is None:
                self._start_missing()
            elif found.si_signo == signal.SIGCHLD:
                self._reap()
            else:
                self._tell(found.si_signo)

    def _reap(self) -> None:
        while self._workers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            number = self._workers.pop(pid, None)
            if number is not None and not self._stopping:
                self._log("worker-died", pid=pid, status=os.waitstatus_to_exitcode(status))
                self._missing.append(number)

    def _tell(self, number: int) -> None:
        if number != signal.SIGHUP:
            number = signal.SIGTERM
            self._stopping = True
            self._missing.clear()
            for bound in self._sockets:  # who still comes is refused at once instead of waiting for a greeting
                bound.close()
            notify("STOPPING=1")
        for pid in self._workers:
            os.kill(pid, number)

    def _start_missing(self) -> None:
        while self._missing:
            number = self._missing.pop(0)
            pid = os.fork()
            if not pid:
                self._work(number)
            self._workers[pid] = number

    def _work(self, number: int) -> NoReturn:
        """A worker, from fork to end."""
        status = 1
        try:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until it serves
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _AWAITED)
            os.close(self._pipe[1])
            _run_loop(self._parts, self._sockets, lambda: None, supervisor=self._pipe[0], worker=number)
            status = 0
        except Exception as error:  # noqa: BLE001 - the parent starts another; a traceback would say less than this line
            self._log("worker-failed", error=f"{type(error).__name__}: {error}")
        finally:
            os._exit(status)
