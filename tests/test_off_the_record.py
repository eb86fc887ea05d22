"""Mail that a rule keeps off the record: what answers it later is counted and leaves nothing, in the relay and in the milter."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.milter_client import Mail
from tests.milter_process import Milter
from tests.session_next_hop import NextHop
from tests.session_relay import KAIFU, Relay, client

POLICY = "version: 1\nrules:\n  - {name: between doctor and patient, when: {kind: mail, to: doctor@clinic.example}, then: {record: none}}\n"
ASKS = [
    ("From", "<alice@example.co.jp>"),
    ("Message-ID", "<private@example.co.jp>"),
    ("Disposition-Notification-To", "<alice@example.co.jp>"),
]
ANSWERS = [("From", "<doctor@clinic.example>"), ("Content-Type", "message/disposition-notification")]
RECEIPT = (
    b"Final-Recipient: rfc822;doctor@clinic.example\r\nOriginal-Message-ID: <private@example.co.jp>\r\n"
    b"Disposition: manual-action/MDN-sent-manually; displayed\r\n"
)
STEPS = [
    ("alice@example.co.jp", "doctor@clinic.example", ASKS, b"Hello.\r\n"),
    ("", "alice@example.co.jp", ANSWERS, RECEIPT),
]


def by_relay(directory: Path) -> Relay:
    hop = NextHop(keep=False)
    try:
        with Relay(directory, hop.port, POLICY) as relay, client(relay) as one:
            for path, to, fields, body in STEPS:
                head = "".join(f"{name}: {value}\r\n" for name, value in fields).encode()
                assert one.deliver(head + b"\r\n" + body, path, (to,)).startswith("250 ")
            one.close()
            relay.stop()
            return relay
    finally:
        hop.stop()


def by_milter(directory: Path) -> Relay:
    with Milter(directory, POLICY) as milter, milter.connect() as mta:
        for path, to, fields, body in STEPS:
            headers = [(name.encode(), value.encode()) for name, value in fields]
            assert mta.deliver(Mail([f"<{path}>".encode()], [[f"<{to}>".encode()]], headers, body)).end == "accept"
        milter.stop()
        return milter


@pytest.mark.parametrize("through", [by_relay, by_milter])
def test_what_answers_unrecorded_mail_is_counted_and_not_kept(tmp_path: Path, through: Callable[[Path], Relay]) -> None:
    host = through(tmp_path)
    stats: list[str | Path] = [KAIFU, "ledger", "stats", "--json", "--config", str(host.config)]
    told = json.loads(subprocess.run(stats, capture_output=True, text=True, check=True).stdout)
    assert told["without_record"] == {"outbound mail": 1, "inbound late-mdn": 1}
    assert (told["unmatched"], told["evidence"]) == (0, {})
    assert b"private" not in host.ledger.read_bytes()
