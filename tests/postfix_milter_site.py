"""An office whose Postfix asks kaifu as a milter, and the world, on loopback.

:class:`MilterSite` is the sibling of :class:`tests.postfix_site.Site`: the same domains, the same world, and the office's
Postfix with what the deployment guide shows for a milter, chrooted as Debian ships it, the socket in its queue directory.
Mail to ``gone.example`` fails in the world, mail to ``refused.example`` at the office's own door. Whoever of
:data:`MOVED` was at ``old.example`` is at ``partner.example`` now, and that is where the office sends it.
"""

from __future__ import annotations

import grp
import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from tests.milter_process import Milter
from tests.postfix_harness import GUIDE, Postfix, blocks, program, system_folder
from tests.session_next_hop import DEADLINE, NextHop
from tests.session_relay import KAIFU, merged

POLICY = """\
version: 1
defaults:
  inbound: {request: strip}
rules:
  - name: contracts to partners ask
    when: {direction: outbound, to: "@partner.example", subject: /contract|契約/i}
    then: {request: add, delivery_report: add}
  - name: contracts to others only report
    when: {direction: outbound, to: "@other.example", subject: /contract|契約/i}
    then: {delivery_report: add}
  - name: those who moved report too
    when: {direction: outbound, to: "@old.example", subject: /contract/i}
    then: {delivery_report: add}
  - name: or do not
    when: {direction: outbound, to: "@old.example"}
    then: {delivery_report: strip}
  - name: nothing asks rivals
    when: {direction: outbound, to: "@rival.example"}
    then: {request: strip}
  - name: the board is left alone
    when: {direction: outbound, from: board@example.co.jp}
    then: {request: keep, suppress: both}
  - name: the secret service answers nobody
    when: {kind: mdn, from: secret@example.co.jp}
    then: {receipt: reject}
  - name: the quiet ones answer nobody, and say nothing
    when: {kind: mdn, from: quiet@example.co.jp}
    then: {receipt: withhold}
  - name: auditors read the reports that the policy asked for
    when: {kind: dsn, to: auditor@example.co.jp}
    then: {receipt: deliver}
  - name: rivals get no receipts
    when: {kind: mdn, direction: outbound, to: "@rival.example"}
    then: {receipt: withhold}
"""

MOVED = [f"{who}{number}" for who in "ch" for number in range(20)]

REQUESTS = {
    "Disposition_Notification_To": "<{0}>",
    "Return_Receipt_To": "{0}",
    "X_Confirm_Reading_To": "{0}",
    "Disposition_Notification_Options": "signed-receipt-protocol=optional, pkcs7-signature",
}


class MilterSite:
    """Everything running but :attr:`milter`'s policy, which is ``policy``. ``settings`` are laid over the guide's."""

    def __init__(self, folder: Path, policy: str = POLICY, settings: Mapping[str, Any] = {}) -> None:
        self.folder = folder
        self.nowhere = NextHop()
        self.nowhere.on("RCPT", "answer", b"550 5.1.1 Nobody of that name", always=True)
        self.world = Postfix(folder, "mx.world.example", ("partner.example", "other.example", "rival.example"))
        guide = blocks("milter")
        self.office = Postfix(folder, "mail.example.co.jp", ("example.co.jp",), guide["main.cf"], guide["master.cf"])
        self.office.parameters["relayhost"] = f" [127.0.0.1]:{self.world.port}"
        refused = f" inline:{{ {{ refused.example = smtp:[127.0.0.1]:{self.nowhere.port} }} }}"
        self.office.parameters["transport_maps"] = refused
        moved = " ".join(f"{{ {who}@old.example = {who}@partner.example }}" for who in MOVED)
        self.office.parameters["virtual_alias_maps"] = f" inline:{{ {moved} }}"
        self.world.parameters["transport_maps"] = (
            f" inline:{{ {{ example.co.jp = smtp:[127.0.0.1]:{self.office.port} }}"
            f" {{ gone.example = smtp:[127.0.0.1]:{self.nowhere.port} }} }}"
        )
        self.socket = socket_directory(self.office) / "milter.sock"
        here = {"ledger": f"sqlite:///{folder}/ledger.db", "milter": {"listen": f"unix:{self.socket}"}}
        (folder / "kaifu").mkdir()
        shown = merged(yaml.safe_load(guide["kaifu.yaml"]), here)
        self.milter = Milter(folder / "kaifu", policy, merged(shown, settings))

    def close(self) -> None:
        """End everything at once."""
        self.milter.kill()
        self.office.stop()
        self.world.stop()
        self.nowhere.stop()

    def command(self, *words: str) -> str:
        """What a ``kaifu`` command prints."""
        done = subprocess.run(
            [KAIFU, *words, "--config", self.milter.config],
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def receipts(self, to: str) -> list[dict[str, Any]]:
        """All rows of ``kaifu receipts list`` about a recipient."""
        rows = [json.loads(line) for line in self.command("receipts", "list", "--json", "--to", to).splitlines()]
        return [row for row in rows if row["to"] == to]

    def receipt(self, to: str) -> dict[str, Any]:
        """The one row of ``kaifu receipts list`` about a recipient."""
        [row] = self.receipts(to)
        return row

    def answered(self, to: str, count: int = 1) -> None:
        """Wait until the world has handed the office so much mail for somebody: kaifu has judged it."""
        self.world.wait_for_logs(rf"to=<{re.escape(to)}>.* status=sent", count=count)


def socket_directory(postfix: Postfix) -> Path:
    """The directory for the milter's socket in a Postfix's queue directory, as ``systemd-tmpfiles`` would make it."""
    text = (GUIDE.parent / "kaifu-milter.tmpfiles").read_text(encoding="utf-8")
    [(below, mode, group)] = re.findall(r"(?m)^d /var/spool/postfix/(\S+) (\d+) \S+ (\S+) -$", text)
    path = postfix.directory / "queue" / str(below)
    path.mkdir()
    os.chown(path, -1, grp.getgrnam(group).gr_gid)
    path.chmod(int(mode, 8))
    return path


@contextmanager
def milter_site(policy: str = POLICY, settings: Mapping[str, Any] = {}) -> Iterator[MilterSite]:
    """A site where everything serves."""
    with system_folder() as folder:
        site = MilterSite(folder, policy, settings)
        try:
            site.world.start()
            site.milter.start()
            site.office.start()
            yield site
        finally:
            site.close()


def sendmail(postfix: Postfix, message: bytes, *options: str) -> None:
    """Hand a message to Postfix's ``sendmail`` command, as programs on the machine do."""
    command = [program("sendmail"), "-C", str(postfix.directory / "etc"), *options]
    subprocess.run(command, input=message, check=True, capture_output=True, timeout=DEADLINE)


def fields(message: bytes, name: str) -> list[bytes]:
    """The values of the header fields with that name, unfolded."""
    header = re.sub(rb"\r?\n[ \t]+", b" ", re.split(rb"\r?\n\r?\n", message, maxsplit=1)[0])
    return re.findall(rb"(?im)^" + name.encode() + rb":[ \t]*(.*?)\r?$", header)


def names(message: bytes) -> list[str]:
    """The names of all header fields, in order."""
    return [name.decode() for name in re.findall(rb"(?m)^([!-9;-~]+):", message.split(b"\n\n", 1)[0])]
