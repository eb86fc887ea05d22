"""The milter: libmilter's callbacks, and nothing but them. The only module that imports pymilter.

``kaifu milter`` calls :func:`serve`. For each message the callbacks collect (:class:`~kaifu.proxy.milterhost.Collected`) until
the end of message, where :meth:`MilterHost.decide` gives the orders and :func:`_carry_out` passes them on. Only the callbacks
that are needed are negotiated, without replies where the MTA allows it, and the body is skipped unless the message is a
possible report: a callback costs more than what it does.

libmilter runs callbacks in threads of its own, and treats SIGHUP like SIGTERM. So it runs beside the main thread, which
alone takes signals: SIGTERM and SIGINT stop it in order, SIGHUP looks at the policy file at once.

How it fails: every error of ours is a tempfail. What pymilter itself cannot pass to us (a header name that is not UTF-8) is left
out of what is judged, because the alternative is mail that is deferred for ever; no receipt request has such a name.
"""

from __future__ import annotations

import grp
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import milter as libmilter

from .edits import Delete, Insert
from .milterhost import MAX_HEADER, Collected, End, MilterHost, Orders
from .servicemanager import notify, watchdog_seconds
from .settings import MilterSettings

ACTIONS = (
    libmilter.ADDHDRS
    | libmilter.CHGHDRS
    | libmilter.ADDRCPT
    | libmilter.ADDRCPT_PAR
    | libmilter.DELRCPT
    | libmilter.SETSYMLIST
)
PROTOCOL = (
    libmilter.P_NOCONNECT
    | libmilter.P_NOHELO
    | libmilter.P_NODATA
    | libmilter.P_NOUNKNOWN
    | libmilter.P_NOEOH
    | libmilter.P_NR_MAIL
    | libmilter.P_NR_RCPT
    | libmilter.P_NR_HDR
    | libmilter.P_SKIP
)
MACROS = {libmilter.M_ENVFROM: "i", libmilter.M_ENVRCPT: "i", libmilter.M_EOM: "i"}
DRAIN_SECONDS = 30.0
ENDS = {
    End.ACCEPT: libmilter.CONTINUE,
    End.DISCARD: libmilter.DISCARD,
    End.REJECT: libmilter.REJECT,
    End.TEMPFAIL: libmilter.TEMPFAIL,
}


class CannotListen(Exception):
    """The socket cannot be made; the text says why and what to do."""


class Conversation:
    """One connection of the MTA: what was negotiated, and the message under way."""

    __slots__ = ("after_header", "after_mail", "after_rcpt", "host", "message", "skip")

    def __init__(self, host: MilterHost, protocol: int) -> None:
        self.host = host
        self.message: Collected | None = None
        self.after_mail = _no_reply(protocol, libmilter.P_NR_MAIL)
        self.after_rcpt = _no_reply(protocol, libmilter.P_NR_RCPT)
        self.after_header = _no_reply(protocol, libmilter.P_NR_HDR)
        self.skip = libmilter.SKIP if protocol & libmilter.P_SKIP else libmilter.CONTINUE


def _no_reply(protocol: int, flag: int) -> int:
    return int(libmilter.NOREPLY if protocol & flag else libmilter.CONTINUE)


class Callbacks:
    """The functions that libmilter calls, for one host."""

    def __init__(self, host: MilterHost) -> None:
        self._host = host
        self._lock = threading.Lock()
        self._deciding = 0

    def register(self) -> None:
        """Hand the callbacks to libmilter."""
        libmilter.set_flags(ACTIONS)
        libmilter.set_exception_policy(libmilter.CONTINUE)
        libmilter.set_envfrom_callback(self.on_mail)
        libmilter.set_envrcpt_callback(self.on_rcpt)
        libmilter.set_header_callback(self.on_header)
        libmilter.set_body_callback(self.on_body)
        libmilter.set_eom_callback(self.on_end)
        libmilter.set_abort_callback(self.on_abort)
        libmilter.set_close_callback(self.on_close)
        libmilter.register("kaifu", negotiate=self.on_negotiate)

    def on_negotiate(self, context: Any, options: list[int]) -> int:
        """Say which callbacks and actions are needed (options: actions, protocol steps, two unused)."""
        try:
            protocol = options[1] & PROTOCOL
            if options[0] & libmilter.SETSYMLIST:
                for stage, macros in MACROS.items():
                    context.setsymlist(stage, macros)
            options[:] = [options[0] & ACTIONS, protocol, 0, 0]
            context.setpriv(Conversation(self._host, protocol))
        except Exception as error:  # noqa: BLE001 - nothing may reach the exception policy
            self._host.unforeseen(error)
            return int(libmilter.ALL_OPTS)
        return int(libmilter.CONTINUE)

    def _conversation(self, context: Any) -> Conversation:
        """The connection's state; an MTA that does not negotiate has none before its first command."""
        conversation = context.getpriv()
        if not isinstance(conversation, Conversation):
            conversation = Conversation(self._host, 0)
            context.setpriv(conversation)
        return conversation

    def on_mail(self, context: Any, *words: bytes) -> int:
        """MAIL FROM: a message begins."""
        conversation = self._conversation(context)
        conversation.message = Collected(self._host.policy.current, words)
        return conversation.after_mail

    def on_rcpt(self, context: Any, *words: bytes) -> int:
        """RCPT TO: one more recipient that the MTA has accepted."""
        conversation = self._conversation(context)
        if conversation.message is not None:
            conversation.message.rcpt.append(words)
        return conversation.after_rcpt

    def on_header(self, context: Any, name: str, value: bytes) -> int:
        """One header field. Past the limit nothing is kept: the message will be refused."""
        conversation: Conversation = context.getpriv()
        message = conversation.message
        if message is not None:
            message.header_size += len(name) + len(value) + 4
            if message.header_size <= MAX_HEADER:
                message.headers.append((name.encode("utf-8", "surrogateescape"), value))
        return conversation.after_header

    def on_body(self, context: Any, chunk: bytes) -> int:
        """A piece of the body; skips the rest as soon as it is not needed."""
        conversation: Conversation = context.getpriv()
        message = conversation.message
        try:
            wanted = message is not None and self._host.take_body(message, chunk)
        except Exception as error:  # noqa: BLE001 - on_end tells the MTA
            self._host.unforeseen(error)
            wanted = False
            if message is not None:
                message.broken = "internal error"
        return int(libmilter.CONTINUE if wanted else conversation.skip)

    def on_end(self, context: Any) -> int:
        """End of message: decide, record, and tell the MTA what to change."""
        conversation: Conversation = context.getpriv()
        message, conversation.message = conversation.message, None
        with self._lock:
            self._deciding += 1
        try:
            if message is None:
                raise RuntimeError("end of a message that never began")
            message.queue_id = context.getsymval("i")
            return _carry_out(context, self._host.decide(message))
        except Exception as error:  # noqa: BLE001 - half-made edits must not become a delivered message
            self._host.unforeseen(error, message.queue_id if message is not None else None)
            return int(libmilter.TEMPFAIL)
        finally:
            with self._lock:
                self._deciding -= 1

    def on_abort(self, context: Any) -> int:
        """The message is given up; the connection may go on."""
        conversation = context.getpriv()
        if isinstance(conversation, Conversation):
            conversation.message = None
        return int(libmilter.CONTINUE)

    def on_close(self, context: Any) -> int:
        """The connection ends."""
        context.setpriv(None)
        return int(libmilter.CONTINUE)

    def wait_until_idle(self, seconds: float) -> None:
        """Wait for messages that are being decided."""
        deadline = time.monotonic() + seconds
        while self._deciding and time.monotonic() < deadline:
            time.sleep(0.01)


def _carry_out(context: Any, orders: Orders) -> int:
    """Pass the orders on. Raises what libmilter raises when the MTA does not take one."""
    for edit in orders.edits:
        if isinstance(edit, Insert):
            context.addheader(edit.name, edit.value)
        else:
            context.chgheader(edit.name, edit.nth, None if isinstance(edit, Delete) else edit.value)
    for path in orders.remove:
        context.delrcpt(path.decode("utf-8"))
    for path, parameters in orders.again:
        context.addrcpt(path.decode("utf-8"), parameters.decode("ascii"))
    if orders.reply is not None:
        # libmilter reads the text as a format.
        context.setreply(str(orders.reply.code), orders.reply.enhanced, orders.reply.text.replace("%", "%%"))
    return int(ENDS[orders.end])


def serve(host: MilterHost, settings: MilterSettings, ready: Callable[[], None]) -> int:
    """Run until SIGTERM or SIGINT; gives the exit status. Called in the main thread. Raises :class:`CannotListen`."""
    callbacks = Callbacks(host)
    callbacks.register()
    _listen(settings)
    stop = threading.Event()

    def on_stop(number: int, frame: FrameType | None) -> None:
        stop.set()

    def on_hangup(number: int, frame: FrameType | None) -> None:
        host.policy.poll()

    signal.signal(signal.SIGTERM, on_stop)
    signal.signal(signal.SIGINT, on_stop)
    signal.signal(signal.SIGHUP, on_hangup)
    thread = threading.Thread(target=_run, args=(host,), name="libmilter", daemon=True)
    thread.start()
    ready()
    period = watchdog_seconds()
    while thread.is_alive() and not stop.wait(1.0 if period is None else min(1.0, period)):
        host.policy.poll()
        if period is not None:
            notify("WATCHDOG=1")
    if not stop.is_set():
        return 1
    notify("STOPPING=1")
    libmilter.stop()
    callbacks.wait_until_idle(DRAIN_SECONDS)
    thread.join(10.0)
    return 0


def _run(host: MilterHost) -> None:
    try:
        libmilter.main()
    except libmilter.error as error:
        host.log("milter-failed", error=str(error))


def _listen(settings: MilterSettings) -> None:
    """Make the socket, for the group that may use it."""
    libmilter.setconn(settings.listen)
    libmilter.setbacklog(1024)
    path = settings.listen.removeprefix("unix:") if settings.listen.startswith("unix:") else None
    before = os.umask(0o777 & ~settings.socket_mode)
    try:
        libmilter.opensocket(True)
        if path is not None:
            if settings.socket_group is not None:
                os.chown(path, -1, grp.getgrnam(settings.socket_group).gr_gid)
            os.chmod(path, settings.socket_mode)
    except KeyError:
        raise CannotListen(f"milter.socket_group: there is no group {settings.socket_group!r} here") from None
    except (libmilter.error, OSError) as error:
        raise CannotListen(
            f"milter.listen {settings.listen}: {error}; does the directory exist, and may this user write there?"
        ) from None
    finally:
        os.umask(before)
