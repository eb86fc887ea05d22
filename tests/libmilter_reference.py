"""The milter on Sendmail's libmilter: the same host, policy and ledger as ``kaifu milter``, the protocol spoken by the C library.

``python tests/libmilter_reference.py CONFIG`` serves until it is killed. What `kaifu milter` says to an MTA is compared with what
this one says (test_milter_reference.py). It is pymilter underneath: callbacks collect, in libmilter's threads, one for each
connection; at the end of message the host decides in an event loop of its own, and the orders go to libmilter one by one.

Where one SMTP client ends and another follows on the same connection, pymilter forgets what was negotiated; nothing can be changed then.
"""

from __future__ import annotations

import asyncio
import ctypes
import sys
import threading
from pathlib import Path
from typing import Any

import milter as libmilter

from kaifu.proxy import replies
from kaifu.proxy.cli_run import check_ledger
from kaifu.proxy.edits import Delete, Insert
from kaifu.proxy.journal import Journal
from kaifu.proxy.ledger_gathering import GatheringLedger
from kaifu.proxy.ledger_open import ledger_path
from kaifu.proxy.milterconnection import ACTIONS, LARGEST_PACKET, MACROS, NOTIFY_ACTIONS, STEPS
from kaifu.proxy.milterhost import Collected, End, MilterHost, Orders
from kaifu.proxy.policyfile import PolicyFile
from kaifu.proxy.settings import load_settings
from kaifu.proxy.trustfiles import TrustFiles

FULL_CHUNK = 65535
ENDS = {
    End.ACCEPT: libmilter.CONTINUE,
    End.DISCARD: libmilter.DISCARD,
    End.REJECT: libmilter.REJECT,
    End.TEMPFAIL: libmilter.TEMPFAIL,
}


class Conversation:
    """One connection: what was negotiated, and the message under way."""

    def __init__(self, actions: int, steps: int) -> None:
        self.actions = actions
        self.silent = [
            libmilter.NOREPLY if steps & step else libmilter.CONTINUE
            for step in (libmilter.P_NR_MAIL, libmilter.P_NR_RCPT, libmilter.P_NR_HDR)
        ]
        self.skip = libmilter.SKIP if steps & libmilter.P_SKIP else libmilter.CONTINUE
        self.message: Collected | None = None


class Callbacks:
    """What libmilter calls."""

    def __init__(self, host: MilterHost, loop: asyncio.AbstractEventLoop) -> None:
        self._host, self._loop = host, loop

    def _here(self, context: Any) -> Conversation:
        if context.getpriv() is None:  # nothing was negotiated
            context.setpriv(Conversation(0, 0))
        here: Conversation = context.getpriv()
        return here

    def negotiate(self, context: Any, options: list[int]) -> int:
        actions, steps = options[0] & ACTIONS, options[1] & STEPS
        if actions & libmilter.SETSYMLIST:
            for stage, names in MACROS:
                context.setsymlist(stage, names)
        context.setpriv(Conversation(actions, steps))
        options[:] = [actions, steps, 0, 0]
        return int(libmilter.CONTINUE)

    def mail(self, context: Any, *words: bytes) -> int:
        here = self._here(context)
        here.message = Collected(self._host.policy.current, words)
        return int(here.silent[0])

    def rcpt(self, context: Any, *words: bytes) -> int:
        here = self._here(context)
        if here.message is None:
            return int(libmilter.TEMPFAIL)
        here.message.add_recipient(words)
        return int(here.silent[1])

    def header(self, context: Any, name: str, value: bytes) -> int:
        here = self._here(context)
        if here.message is None:
            return int(libmilter.TEMPFAIL)
        here.message.add_header(name.encode(), value)
        return int(here.silent[2])

    def body(self, context: Any, chunk: bytes) -> int:
        """The last piece may come with the end of message, which libmilter does not tell when that piece is skipped."""
        here = self._here(context)
        if here.message is None:
            return int(libmilter.TEMPFAIL)
        wanted = self._host.take_body(here.message, chunk)
        return int(libmilter.CONTINUE if wanted or len(chunk) < FULL_CHUNK else here.skip)

    def end(self, context: Any) -> int:
        here = self._here(context)
        message, here.message = here.message, None
        if message is None:
            return int(libmilter.TEMPFAIL)
        message.queue_id = context.getsymval("i")
        message.can_notify = here.actions & NOTIFY_ACTIONS == NOTIFY_ACTIONS
        orders = asyncio.run_coroutine_threadsafe(self._host.decide(message), self._loop).result()
        try:
            return carry_out(context, orders)
        except libmilter.error:  # it was not negotiated
            refused = self._host.refuse(message, replies.OURS_FAILED, "the MTA does not let a milter make this change")
            return carry_out(context, refused)

    def abort(self, context: Any) -> int:
        self._here(context).message = None
        return int(libmilter.CONTINUE)

    def close(self, context: Any) -> int:
        context.setpriv(None)
        return int(libmilter.CONTINUE)


def carry_out(context: Any, orders: Orders) -> int:
    """Pass the orders on. Raises what pymilter raises when libmilter does not take one."""
    for edit in orders.edits:
        if isinstance(edit, Insert):
            context.addheader(edit.name, edit.value)
        else:
            context.chgheader(edit.name, edit.nth, None if isinstance(edit, Delete) else edit.value)
    for path in orders.remove:
        context.delrcpt(path.decode())
    for path, parameters in orders.again:
        context.addrcpt(path.decode(), *([parameters.decode()] if parameters else []))
    if orders.reply is not None:
        context.setreply(str(orders.reply.code), orders.reply.enhanced, orders.reply.text.replace("%", "%%"))
    return int(ENDS[orders.end])


def main(config: Path) -> None:
    settings, log, loop = load_settings(config), Journal(), asyncio.new_event_loop()
    assert settings.milter is not None
    loop.run_until_complete(check_ledger(settings))
    threading.Thread(target=loop.run_forever, daemon=True).start()
    ledger = GatheringLedger(ledger_path(settings.ledger))
    host = MilterHost(
        settings, settings.milter, PolicyFile(settings.policy, log), TrustFiles(settings, log), ledger, log
    )
    callbacks = Callbacks(host, loop)
    sys.excepthook = lambda kind, error, trace: log("not-passed-on", error=f"{kind.__name__}: {error}")
    libmilter.set_flags(ACTIONS)
    libmilter.set_exception_policy(libmilter.CONTINUE)
    libmilter.set_envfrom_callback(callbacks.mail)
    libmilter.set_envrcpt_callback(callbacks.rcpt)
    libmilter.set_header_callback(callbacks.header)
    libmilter.set_body_callback(callbacks.body)
    libmilter.set_eom_callback(callbacks.end)
    libmilter.set_abort_callback(callbacks.abort)
    libmilter.set_close_callback(callbacks.close)
    libmilter.register("kaifu", negotiate=callbacks.negotiate)
    ctypes.CDLL(libmilter.__file__).smfi_setmaxdatasize(ctypes.c_size_t(LARGEST_PACKET - 1))
    libmilter.setconn(settings.milter.listen)
    libmilter.opensocket(True)
    log(f"ready listen={settings.milter.listen}")
    libmilter.main()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
