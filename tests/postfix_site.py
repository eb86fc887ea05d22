"""A small internet on loopback: an office that uses kaifu, and the world, both of them Postfix.

``office`` keeps the mail of ``example.co.jp``; ``world`` that of ``partner.example`` and ``other.example``, refuses nobody, and
sends success reports. :class:`Site` puts kaifu between them in one of the ways that the deployment guide shows
(``SETUPS``), with the configuration that stands there. The world takes mail to ``gone.example`` and is refused it behind, so that
a failure report comes back.
"""

from __future__ import annotations

import json
import re
import smtplib
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import yaml
from tests.postfix_harness import Postfix, blocks, free_port, system_folder, with_ports
from tests.session_next_hop import DEADLINE, NextHop
from tests.session_relay import KAIFU, Relay, merged

SETUPS = ("relayhost", "content_filter", "smtpd_proxy_filter")

POLICY = """\
version: 1
defaults:
  inbound: {request: strip}
rules:
  - name: contracts to partners ask
    when: {direction: outbound, to: "@partner.example", subject: /contract|契約/i}
    then: {request: add, delivery_report: add}
  - name: the secret service answers nobody
    when: {kind: mdn, from: secret@example.co.jp}
    then: {receipt: reject}
"""


class Site:
    """Everything running. ``relays``: kaifu, twice where outgoing and incoming mail go different ways."""

    def __init__(self, setup: str, folder: Path) -> None:
        self.folder = folder
        self.nowhere = NextHop()
        self.nowhere.on("RCPT", "answer", b"550 5.1.1 Nobody of that name", always=True)
        guide = {"main.cf": "", "master.cf": ""} | blocks(setup)
        ports = {10025: free_port(), 10026: free_port()}
        self.world = Postfix(folder, "mx.world.example", ("partner.example", "other.example"))
        self.office = Postfix(
            folder,
            "mail.example.co.jp",
            ("example.co.jp",),
            with_ports(guide["main.cf"], ports),
            with_ports(guide["master.cf"], ports),
        )
        self._settings: list[dict[str, Any]] = []
        entrance = self.office.port
        if setup == "relayhost":
            self._add_relay(guide["kaifu.yaml"], ports[10025], self.world.port)
            entrance = free_port()
            incoming = {"relay": {"listen": {"address": f"127.0.0.1:{entrance}", "outside": True}}}
            self._add_relay(guide["kaifu.yaml"], entrance, self.office.port, incoming)
        else:
            self.office.parameters["relayhost"] = f" [127.0.0.1]:{self.world.port}"
            self._add_relay(guide["kaifu.yaml"], ports[10025], ports[10026])
        self.world.parameters["transport_maps"] = (
            f" inline:{{ {{ example.co.jp = smtp:[127.0.0.1]:{entrance} }}"
            f" {{ gone.example = smtp:[127.0.0.1]:{self.nowhere.port} }} }}"
        )
        self.relays: list[Relay] = []

    def _add_relay(self, guide: str, port: int, next_hop: int, over: dict[str, Any] | None = None) -> None:
        """The settings that the guide shows, with the places of this site."""
        here = {
            "policy": "policy.yaml",
            "ledger": f"sqlite:///{self.folder}/ledger.db",
            "relay": {"listen": f"127.0.0.1:{port}", "next_hop": f"127.0.0.1:{next_hop}"},
        }
        self._settings.append(merged(merged(yaml.safe_load(guide), here), over or {}))

    def start_relays(self) -> None:
        """Start kaifu (again)."""
        for number, settings in enumerate(self._settings):
            directory = self.folder / f"kaifu{number}"
            directory.mkdir(exist_ok=True)
            relay = Relay(directory, 1, POLICY, settings)
            relay.start()
            self.relays.append(relay)

    def stop_relays(self) -> None:
        """Stop kaifu, as systemd would."""
        relays, self.relays = self.relays, []
        for relay in relays:
            relay.stop()

    def close(self) -> None:
        """End everything at once."""
        for relay in self.relays:
            relay.kill()
        self.office.stop()
        self.world.stop()
        self.nowhere.stop()

    def receipt(self, to: str) -> dict[str, Any]:
        """The one row of ``kaifu receipts list`` about a recipient."""
        rows = self.receipts(to)
        assert len(rows) == 1, rows
        return rows[0]

    def receipts(self, to: str) -> list[dict[str, Any]]:
        """All rows of ``kaifu receipts list`` about a recipient."""
        config = self.folder / "kaifu0" / "kaifu.yaml"
        done = subprocess.run(
            [KAIFU, "receipts", "list", "--json", "--to", to, "--config", config],
            capture_output=True, text=True, timeout=DEADLINE, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return [row for line in done.stdout.splitlines() if (row := json.loads(line))["to"] == to]


@contextmanager
def running(setup: str) -> Iterator[Site]:
    """A site where everything serves."""
    with system_folder() as folder:
        site = Site(setup, folder)
        try:
            site.world.start()
            site.office.start()
            site.start_relays()
            yield site
        finally:
            site.close()


def letter(sender: str, to: str, subject: str, text: str = "お世話になっております。\n", **fields: str) -> EmailMessage:
    """A message as a mail client makes it. Names of further ``fields`` are written with ``_`` for ``-``."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = sender, to, subject
    message["Date"] = "Sat, 21 Nov 2026 20:00:00 +0900"
    message["Message-ID"] = f"<{re.sub('[^a-z0-9]', '.', f'{sender} {to}'.lower())}@{sender.split('@')[1]}>"
    for name, value in fields.items():
        message[name.replace("_", "-")] = value
    message.set_content(text)
    return message


def send(
    port: int,
    message: EmailMessage | bytes,
    sender: str,
    to: str | Iterable[str],
    source: str = "127.0.0.1",
    mail: Iterable[str] = (),
    rcpt: Iterable[str] = (),
) -> None:
    """Give a message to an MTA as a mail program does; :class:`smtplib.SMTPResponseException` when it is not taken."""
    octets = message if isinstance(message, bytes) else re.sub(rb"\r?\n", b"\r\n", message.as_bytes())
    with smtplib.SMTP("127.0.0.1", port, "client.example", DEADLINE, (source, 0)) as client:
        client.ehlo_or_helo_if_needed()
        good(*client.mail(sender, list(mail)))
        for address in [to] if isinstance(to, str) else to:
            good(*client.rcpt(address, list(rcpt)))
        good(*client.data(octets))


def good(code: int, text: bytes) -> None:
    """Raise unless a reply is good."""
    if not 200 <= code < 300:
        raise smtplib.SMTPResponseException(code, text)


def receipt(reader: str, requester: str, original: str) -> bytes:
    """A read receipt for the message ``original`` (RFC 8098), with line ends as in transit."""
    lines = f"""\
From: {reader}
To: {requester}
Subject: Return Receipt (displayed)
Date: Sat, 21 Nov 2026 21:00:00 +0900
Message-ID: <receipt.{original}>
MIME-Version: 1.0
Content-Type: multipart/report; report-type=disposition-notification; boundary="=_cut"

--=_cut
Content-Type: text/plain; charset=us-ascii

This is a return receipt.
--=_cut
Content-Type: message/disposition-notification

Reporting-UA: pc.partner.example; Test Mail 1.0
Final-Recipient: rfc822;{reader}
Original-Message-ID: <{original}>
Disposition: manual-action/MDN-sent-manually; displayed

--=_cut--
"""
    return lines.replace("\n", "\r\n").encode()
