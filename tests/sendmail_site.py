"""An office whose Sendmail asks kaifu as a milter, on loopback; what leaves it goes to a next hop that keeps it.

:class:`Sendmail` is Debian's, unpacked by ``.ci/debian`` because it cannot be installed beside Postfix: its own configuration, queue and
port, nothing of the system's touched. It delivers while its client waits (``DeliveryMode=interactive``), so once a client has
quit, all that will come has come. :class:`SendmailSite` puts kaifu into it with what the deployment guide shows. :func:`sendmail_told` has
a milter in it that says what a test wants: for what kaifu relies on in Sendmail.
"""

from __future__ import annotations

import os
import signal
import smtplib
import socketserver
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Any

import yaml
from tests.milter_process import Milter
from tests.postfix_harness import LoggedProcess, blocks, free_port, missing, program, system_folder
from tests.session_next_hop import DEADLINE, NextHop, Transaction, poll
from tests.session_relay import merged

from kaifu.proxy import milterwire as wire
from kaifu.proxy.milterconnection import ACTIONS, STEPS

_UNPACKED = Path(sys.prefix) / "debian"
_BINARY = _UNPACKED / "sendmail-bin/usr/libexec/sendmail/sendmail"
_MACROS = _UNPACKED / "sendmail-cf/usr/share/sendmail/cf"

MC = """\
include(`{macros}/m4/cf.m4')dnl
OSTYPE(`linux')dnl
define(`confDOMAIN_NAME', `mail.example.co.jp')dnl
define(`confSERVICE_SWITCH_FILE', `{directory}/service.switch')dnl
define(`confPID_FILE', `{directory}/pid')dnl
define(`QUEUE_DIR', `{directory}/queue')dnl
define(`ALIAS_FILE', `')dnl
define(`HELP_FILE', `')dnl
define(`STATUS_FILE', `')dnl
define(`confDELIVERY_MODE', `interactive')dnl
define(`confTO_IDENT', `0')dnl
define(`confDONT_PROBE_INTERFACES', `true')dnl
define(`confDONT_BLAME_SENDMAIL', `TrustStickyBit')dnl
define(`SMART_HOST', `relay:[127.0.0.1]')dnl
define(`RELAY_MAILER_ARGS', `TCP $h {next_hop}')dnl
FEATURE(`nocanonify')dnl
FEATURE(`no_default_msa')dnl
FEATURE(`relay_hosts_only')dnl
FEATURE(`accept_unresolvable_domains')dnl
DAEMON_OPTIONS(`Family=inet, Addr=127.0.0.1, Port={port}, Name=MTA')dnl
{more}
MAILER(`smtp')dnl
"""


def why_not() -> str | None:
    """Why tests with Sendmail cannot run here, in words; None when they can."""
    gone = missing("m4", "unshare")
    if gone is None and not (_BINARY.exists() and (_MACROS / "m4/cf.m4").exists()):
        return f"Sendmail is not unpacked in {_UNPACKED} (see .ci/debian)"
    if gone is None:
        told = subprocess.run(["ldd", _BINARY], capture_output=True, text=True, check=False).stdout
        libraries = [line.split()[0] for line in told.splitlines() if "not found" in line]
        gone = f"Sendmail lacks libraries: {', '.join(libraries)}" if libraries else None
    return gone


class Sendmail(LoggedProcess):
    """One Sendmail. ``more``: lines for its ``sendmail.mc``. All mail goes to the port ``next_hop``."""

    def __init__(self, folder: Path, next_hop: int, more: str) -> None:
        super().__init__("Sendmail")
        self.port = free_port()
        self.directory = folder / "sendmail"
        self.directory.mkdir(mode=0o755)
        (self.directory / "queue").mkdir(mode=0o700)
        (self.directory / "service.switch").write_text("hosts files\naliases files\n")
        self._mc = self.directory / "sendmail.mc"
        self._cf = self.directory / "sendmail.cf"
        mc = MC.format(macros=_MACROS, directory=self.directory, next_hop=next_hop, port=self.port, more=more)
        self._mc.write_text(mc, encoding="utf-8")

    def start(self) -> None:
        """Start it and wait until it greets."""
        m4: list[str | Path] = [program("m4"), f"-D_CF_DIR_={_MACROS}/", self._mc]
        self._cf.write_bytes(subprocess.run(m4, check=True, capture_output=True, timeout=DEADLINE).stdout)
        # It waits a minute for a machine's name without a dot to get one, and asks the DNS for any other name.
        named = [program("unshare"), "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', "127.0.0.1"]
        self.spawn(*named, _BINARY, "-bD", "-C", self._cf)
        poll(self._greets, "Sendmail to serve")

    def _greets(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "\n".join(self.log)
        try:
            smtplib.SMTP("127.0.0.1", self.port, timeout=DEADLINE).quit()
        except ConnectionRefusedError:
            return False
        return True

    def queue(self) -> list[str]:
        """The files in its queue."""
        return sorted(path.name for path in (self.directory / "queue").iterdir())

    def stop(self) -> None:
        """End it, and its processes that still have a client."""
        group = self.pid
        super().stop()
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


class SendmailSite:
    """Everything running but what :meth:`start` starts. ``settings`` are laid over the guide's, ``more`` are lines for ``sendmail.mc``."""

    def __init__(self, folder: Path, policy: str, more: str) -> None:
        guide = blocks("sendmail")
        shown = yaml.safe_load(guide["kaifu.yaml"])
        socket = folder / "run" / "milter.sock"
        socket.parent.mkdir(mode=0o755)
        filters = guide["sendmail.mc"].replace(shown["milter"]["listen"].removeprefix("unix:"), str(socket))
        here = {"ledger": f"sqlite:///{folder}/ledger.db", "milter": {"listen": f"unix:{socket}"}}
        (folder / "kaifu").mkdir()
        self.ledger = folder / "ledger.db"
        self.world = NextHop()
        self.milter = Milter(folder / "kaifu", policy, merged(shown, here))
        self.office = Sendmail(folder, self.world.port, filters + more)

    def close(self) -> None:
        """End everything at once."""
        self.office.stop()
        self.milter.kill()
        self.world.stop()

    def handed_on(self, count: int = 1) -> list[Transaction]:
        """What the next hop has been given since it was last looked at; there must be ``count``."""
        mails, self.world.transactions = self.world.transactions, []
        assert len(mails) == count, mails
        return mails

    def receipts(self, to: str) -> list[dict[str, Any]]:
        """What ``kaifu receipts list`` says about a recipient, in the order in which it was recorded."""
        return [row for row in self.milter.rows() if row["to"] == to]

    def receipt(self, to: str) -> dict[str, Any]:
        """The one row about a recipient."""
        [row] = self.receipts(to)
        return row


@contextmanager
def sendmail_site(policy: str, more: str = "") -> Iterator[SendmailSite]:
    """A site where everything serves. Sendmail is first: it need not wait for a milter."""
    with system_folder() as folder:
        site = SendmailSite(folder, policy, more)
        try:
            site.office.start()
            site.milter.start()
            yield site
        finally:
            site.close()


@contextmanager
def sendmail_told(answers: list[bytes]) -> Iterator[tuple[Sendmail, NextHop]]:
    """A Sendmail and its next hop, with a milter that answers the packets ``answers`` at the end of every message."""

    class Conversation(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while len(length := self.rfile.read(4)) == 4:
                command = self.rfile.read(wire.LONG.unpack(length)[0])[0]
                if command == wire.NEGOTIATE:
                    self.wfile.write(wire.choice(wire.VERSIONS[-1], ACTIONS, STEPS, ()))
                elif command == wire.BODY:
                    self.wfile.write(wire.SKIPPED)
                elif command == wire.END:
                    self.wfile.write(b"".join(answers))

    with system_folder() as folder:
        socket = str(folder / "milter.sock")
        with socketserver.ThreadingUnixStreamServer(socket, Conversation) as server:
            Thread(target=server.serve_forever, daemon=True).start()
            world = NextHop()
            office = Sendmail(folder, world.port, f"INPUT_MAIL_FILTER(`told', `S=local:{socket}, F=T')dnl")
            try:
                office.start()
                yield office, world
            finally:
                office.stop()
                world.stop()
                server.shutdown()
