"""The milter: libmilter's callbacks, and nothing but them. The only module that imports pymilter.

``kaifu milter`` calls :func:`serve`. For each message the callbacks collect (:class:`~kaifu.proxy.milterhost.Collected`) until
the end of message, where :meth:`MilterHost.decide` gives the orders and :func:`_carry_out` passes them on. Only the callbacks
that are needed are negotiated, without replies where the MTA allows it, and a long body is skipped unless the message is
a possible report: a callback costs more than what it does.

libmilter runs callbacks in threads of its own, those of one connection one after another. It has a thread that waits for
SIGTERM, SIGINT and SIGHUP, and would stop on any of them at once. So it runs beside the main thread, to which the kernel
gives a signal first: SIGTERM and SIGINT stop the milter in order. SIGHUP is ignored, which no thread can get in the way
of; the policy file is looked at every second anyway. When libmilter is told to stop it frees connections that its threads still use; so it never is: once
nothing is being decided any more, the process ends with all its threads, and the MTA sees closed connections.

How it fails: every error of ours is a tempfail. What pymilter itself cannot pass to us (a header name that is not UTF-8) is left
out of what is judged, because the alternative is mail that is deferred for ever; no receipt request has such a name.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import milter as libmilter

from . import replies
from .edits import Delete, Insert
from .milterhost import MAX_HEADER, Collected, End, MilterHost, Orders
from .miltersocket import CannotListen, Place
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
NOTIFY_ACTIONS = libmilter.DELRCPT | libmilter.ADDRCPT_PAR
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
MACROS = {libmilter.M_ENVFROM: "{none}", libmilter.M_ENVRCPT: "{none}", libmilter.M_EOM: "i"}
"""The queue id at the end, and else nothing, which has to be asked for: without a name MTAs send a packet of what is usual."""

FULL_CHUNK = 65535
"""Octets of a piece of body that is not the last: MTAs send full ones until the rest is shorter."""

LARGEST_PACKET = 2 * MAX_HEADER
"""libmilter drops the connection over a longer packet. Its own limit of 64 KiB is less than a header field may have."""

DRAIN_SECONDS = 30.0
QUIET_SECONDS = 60.0
ENDS = {
    End.ACCEPT: libmilter.CONTINUE,
    End.DISCARD: libmilter.DISCARD,
    End.REJECT: libmilter.REJECT,
    End.TEMPFAIL: libmilter.TEMPFAIL,
}


class Conversation:
    """One connection of the MTA: what was negotiated, and the message under way."""

    __slots__ = ("actions", "after_header", "after_mail", "after_rcpt", "message", "skip")

    def __init__(self, actions: int, protocol: int) -> None:
        self.message: Collected | None = None
        self.actions = actions
        self.after_mail = _no_reply(protocol, libmilter.P_NR_MAIL)
        self.after_rcpt = _no_reply(protocol, libmilter.P_NR_RCPT)
        self.after_header = _no_reply(protocol, libmilter.P_NR_HDR)
        self.skip = int(libmilter.SKIP if protocol & libmilter.P_SKIP else libmilter.CONTINUE)


def _no_reply(protocol: int, flag: int) -> int:
    return int(libmilter.NOREPLY if protocol & flag else libmilter.CONTINUE)


class Callbacks:
    """The functions that libmilter calls, for one host. None of them lets an exception through."""

    def __init__(self, host: MilterHost) -> None:
        self._host = host
        self._under_way: set[Conversation] = set()  # with a message that has begun and not ended
        self._idle = threading.Condition()
        self._deciding = 0
        self._stopping = False
        self._unread = 0
        self._told_unread = -QUIET_SECONDS

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
        sys.excepthook = self.on_unread

    def on_negotiate(self, context: Any, options: list[int]) -> int:
        """Say which callbacks and actions are needed (options: actions, protocol steps, two unused)."""
        try:
            actions, protocol = options[0] & ACTIONS, options[1] & PROTOCOL
            if options[0] & libmilter.SETSYMLIST:
                for stage, macros in MACROS.items():
                    context.setsymlist(stage, macros)
            context.setpriv(Conversation(actions, protocol))
            options[:] = [actions, protocol, 0, 0]
        except Exception as error:  # noqa: BLE001 - without an answer of ours the MTA must not go on
            self._host.unforeseen(error)
            return int(libmilter.REJECT)
        return int(libmilter.CONTINUE)

    def on_mail(self, context: Any, *words: bytes) -> int:
        """MAIL FROM: a message begins."""
        conversation = context.getpriv()
        if conversation is None:  # an MTA that does not negotiate, and so lets nothing be changed
            conversation = Conversation(0, 0)
            context.setpriv(conversation)
        conversation.message = Collected(self._host.policy.current, words)
        self._under_way.add(conversation)
        return int(conversation.after_mail)

    def on_rcpt(self, context: Any, *words: bytes) -> int:
        """RCPT TO: one more recipient that the MTA has accepted."""
        conversation = context.getpriv()
        if conversation is None or conversation.message is None:
            return int(libmilter.TEMPFAIL)
        conversation.message.add_recipient(words)
        return int(conversation.after_rcpt)

    def on_header(self, context: Any, name: str, value: bytes) -> int:
        """One header field."""
        conversation = context.getpriv()
        if conversation is None or conversation.message is None:
            return int(libmilter.TEMPFAIL)
        conversation.message.add_header(name, value)
        return int(conversation.after_header)

    def on_body(self, context: Any, chunk: bytes) -> int:
        """A piece of the body; skips the rest as soon as it is not needed.

        The last piece may come with the end of message (Postfix does that), and libmilter leaves :meth:`on_end` out when
        that piece is answered with a skip. So only a full piece is, which is never the last.
        """
        conversation = context.getpriv()
        if conversation is None or conversation.message is None:
            return int(libmilter.TEMPFAIL)
        message: Collected = conversation.message
        try:
            wanted = self._host.take_body(message, chunk)
        except Exception as error:  # noqa: BLE001 - on_end tells the MTA
            self._host.unforeseen(error)
            message.broken = "internal error"
            wanted = False
        return int(conversation.skip if not wanted and len(chunk) >= FULL_CHUNK else libmilter.CONTINUE)

    def on_end(self, context: Any) -> int:
        """End of message: decide, record, and tell the MTA what to change."""
        with self._idle:
            self._deciding += 1
        conversation: Any = None
        message = None
        try:
            conversation = context.getpriv()
            message, conversation.message = conversation.message, None
            message.others = len(self._under_way) - 1
            message.queue_id = context.getsymval("i")
            return self._end(context, conversation.actions, message)
        except BaseException as error:  # noqa: BLE001 - half-made edits must not become a delivered message
            self._host.unforeseen(error, message.queue_id if message is not None else None)
            return int(libmilter.TEMPFAIL)
        finally:
            self._under_way.discard(conversation)
            with self._idle:
                self._deciding -= 1
                if self._stopping:
                    self._idle.notify_all()

    def _end(self, context: Any, actions: int, message: Collected) -> int:
        if self._stopping:
            orders = self._host.refuse(message, replies.STOPPING, "kaifu is stopping")
        else:
            message.can_notify = actions & NOTIFY_ACTIONS == NOTIFY_ACTIONS
            orders = self._host.decide(message)
            if _needed(orders) & ~actions:
                orders = self._host.refuse(
                    message, replies.OURS_FAILED, "the MTA does not let a milter make this change"
                )
        with self._idle:  # One of several threads: adding up is no single step.
            self._host.ended[orders.end] += 1
        return _carry_out(context, orders)

    def on_abort(self, context: Any) -> int:
        """The message is given up; the connection may go on."""
        conversation = context.getpriv()
        if conversation is not None:
            conversation.message = None
            self._under_way.discard(conversation)
        return int(libmilter.CONTINUE)

    def on_close(self, context: Any) -> int:
        """The connection ends."""
        self._under_way.discard(context.getpriv())
        context.setpriv(None)
        return int(libmilter.CONTINUE)

    def on_unread(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        """What pymilter could not pass on: a header name that is not UTF-8. Told once a minute: it may be a flood."""
        if not isinstance(error, UnicodeDecodeError):
            self._host.unforeseen(error)
            return
        self._unread += 1
        now = time.monotonic()
        if now - self._told_unread >= QUIET_SECONDS:
            self._told_unread, number, self._unread = now, self._unread, 0
            self._host.log("header-not-read", cause="a header name that is not UTF-8; it stays as it is", number=number)

    def stop(self, seconds: float) -> None:
        """Decide nothing more, and wait for what is being decided."""
        with self._idle:
            self._stopping = True
            self._idle.wait_for(lambda: self._deciding == 0, seconds)


def _needed(orders: Orders) -> int:
    """The actions that the MTA must allow for these orders."""
    needed = 0
    for edit in orders.edits:
        needed |= libmilter.ADDHDRS if isinstance(edit, Insert) else libmilter.CHGHDRS
    if orders.remove:
        needed |= libmilter.DELRCPT
    if orders.again:
        needed |= libmilter.ADDRCPT_PAR
    return needed


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


class Signals:
    """SIGTERM and SIGINT, told in the main thread when it asks, and never in the middle of something else.

    While a handler runs, its signal is blocked in the main thread, and another of the kind would go to libmilter's: so
    nothing that may come twice is handled.
    """

    def __init__(self) -> None:
        self._read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.set_wakeup_fd(write)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, frame: None)

    def wait(self, seconds: float) -> bool:
        """Wait so long for one; True when it has come, and from then on there are no others."""
        ready, _, _ = select.select([self._read], [], [], seconds)
        if not ready:
            return False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        return True


def serve(host: MilterHost, settings: MilterSettings, ready: Callable[[], None]) -> int:
    """Run until SIGTERM or SIGINT; gives the exit status. Called in the main thread. Raises :class:`CannotListen`.

    libmilter's threads still run when it returns: the process must end without finalising the interpreter.
    """
    callbacks = Callbacks(host)
    callbacks.register()
    place = Place(settings)
    place.check()
    _listen(settings)
    place.open()
    signals = Signals()
    thread = threading.Thread(target=_run, args=(host,), name="libmilter", daemon=True)
    thread.start()
    host.policy.record_in(host.ledger)
    ready()
    period = watchdog_seconds()
    stopped = False
    while thread.is_alive() and not stopped:
        stopped = signals.wait(1.0 if period is None else min(1.0, period))
        host.policy.poll()
        host.trust.poll()
        if period is not None:
            notify("WATCHDOG=1")
    notify("STOPPING=1")
    place.remove()
    callbacks.stop(DRAIN_SECONDS)
    return 0 if stopped else 1


def _listen(settings: MilterSettings) -> None:
    """Make the socket."""
    ctypes.CDLL(libmilter.__file__).smfi_setmaxdatasize(ctypes.c_size_t(LARGEST_PACKET))
    libmilter.setconn(settings.listen)
    libmilter.setbacklog(1024)
    before = os.umask(0o777 & ~settings.socket_mode)
    try:
        libmilter.opensocket(True)
    except libmilter.error:
        raise CannotListen(
            f"milter.listen {settings.listen}: the socket cannot be made; is the address one of this machine's, and free?"
        ) from None
    finally:
        os.umask(before)


def _run(host: MilterHost) -> None:
    try:
        libmilter.main()
    except libmilter.error as error:
        host.log("milter-failed", error=str(error))
