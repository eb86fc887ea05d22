"""Ledgers in which everything occurs that the screens of one message and of the audit trail tell, and texts that try to steer a terminal."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from tests.ledger_values import NOON, SUZUKI, YAMADA, journal, receipt, record, store, to
from tests.tui_pilot import Seen, cut

from kaifu.policies.facts import Consent, Direction
from kaifu.proxy.ledger import Evidence, EvidenceKind, Grade, Outcome, RequestState, Verdict
from kaifu.proxy.ledger_entries import microseconds
from kaifu.proxy.ledger_erasure import erase

SECRETARY = "hisho@partner.example"
RAW = (
    b"Reporting-UA: mail.partner.example; Mailer\r\n"
    b"Final-Recipient: rfc822; yamada@partner.example\r\n"
    b"Original-Message-ID: <1@example.co.jp>\r\n"
    b"Disposition: manual-action/MDN-sent-manually;\r\n displayed\r\n"
)
HOSTILE = (
    "\x1b[2J\x1b]0;owned\x07\x9b31m",
    "[red]x[/] [/] [@click=app.quit]y[/] \\[bold]",
    "\u202eelif.exe\u202c\u2066 \u200f\ufeff",
    "契約のご確認" * 200,
    "x" * 3000,
    "a\r\nb\tc\x00\x7f\u2028d",
    "e" + "\u0301" * 300 + "👩‍⚖️" * 30,
    "{entry} {0} %s {",
    " " * 200,
)
HOSTILE_TEXT = " ".join(HOSTILE)
_GOLDEN = Path(__file__).parent / "tui_screens"


def carried() -> tuple[Evidence, ...]:
    """What one message brings: a receipt that counts, one from another address, one that cites what nobody knows."""
    return (
        receipt(1, details={"reporting_ua": "mail.partner.example; Mailer"}, grade=Grade.AUTHENTICATED, raw=RAW),
        receipt(2, verdict=Verdict.OTHER_ADDRESS, by=SECRETARY, about=SECRETARY),
        receipt(None, details={"original_message_id": "0@elsewhere.example"}),
    )


def full_ledger(path: Path) -> Path:
    """Message 1 to two, tried again, with answers; message 2 is the receipt that brought them; message 3 a delivery report to come."""
    with store(path) as opened, journal(opened) as adding:
        first = to(edits=("added Disposition-Notification-To: <sato@example.co.jp>",), basis="contract 4.2")
        second = to(
            SUZUKI, would="Rule partners would strip the request.", not_possible=("DSN: the next hop lacks it",)
        )
        begun = adding.begin(record(first, second, key=b"1", policy="f" * 64, mta_queue_id="4XyZ"))
        later = [(YAMADA, Outcome.ACCEPTED), (SUZUKI, Outcome.DEFERRED)]
        adding.finish(begun, later, "451 4.3.0 later", microseconds(NOON))
        begun = adding.begin(record(first, second, key=b"1", minutes=5, queue_id="q2"))
        taken = [(YAMADA, Outcome.ACCEPTED), (SUZUKI, Outcome.ACCEPTED)]
        adding.finish(begun, taken, "250 2.0.0 ok", microseconds(NOON) + 301_000_000)
        own = to("sato@example.co.jp", direction=Direction.INBOUND, request=RequestState.NONE, withheld=True)
        adding.begin(record(own, key=b"2", minutes=9, kind="mdn", message_id="r1@partner.example", evidence=carried()))
        adding.begin(record(key=b"3", minutes=30, evidence=(receipt(1, "delivered", kind=EvidenceKind.DSN, raw=None),)))
    return path


def hostile_ledger(path: Path, text: str = HOSTILE_TEXT) -> Path:
    """One message with this text wherever the ledger keeps a text that may come from outside, people's notes included."""
    address = '"' + text.replace("@", "") + '"@partner.example'
    with store(path) as opened, journal(opened) as adding:
        asked = to(address, rule=text, reason=text, would=text, edits=(text,), not_possible=(text,), basis=text)
        begun = adding.begin(
            record(
                asked,
                key=b"1",
                queue_id=text,
                sender=text,
                subject=text,
                message_id=text,
                envid=text,
                mta_queue_id=text,
            )
        )
        adding.finish(begun, [(address, Outcome.ACCEPTED)], text, microseconds(NOON))
        raw = (text + "\n" + "X-" + text).encode("utf-8", "replace") + b"\xff\xfe\x1b[1m"
        answers = tuple(
            receipt(
                recipient, text, kind=kind, verdict=verdict, by=text, about=text, why=text, tie=text, raw=raw, message_id=text,
                details={text: text, "original_message_id": text},
            )
            for recipient, kind, verdict in (
                (1, EvidenceKind.MDN, Verdict.MATCHED),
                (1, EvidenceKind.MDN, Verdict.OTHER_ADDRESS),
                (1, EvidenceKind.SUSPECTED, Verdict.SUSPECTED),
                (None, EvidenceKind.MDN, Verdict.UNKNOWN_MESSAGE),
            )
        )  # fmt: skip
        adding.begin(record(to(), key=b"2", minutes=1, kind="mdn", message_id="r@x", evidence=answers))
        adding.attest(1, "phone", microseconds(NOON), text, text)
        adding.pair(1, text, text, text)
        adding.consent(text, Consent.DENIED, text, text)
    return path


def erased_ledger(path: Path) -> Path:
    """That of :func:`full_ledger` with every cell gone."""
    full_ledger(path)
    with store(path) as opened, journal(opened) as adding:
        (last,) = opened.db.execute("SELECT max(id) FROM entries").fetchone()
        erase(adding, [(1, last)], ground="request", actor="root", text="asked in writing")
    return path


def steering(lines: Iterable[str]) -> list[str]:
    """The lines with something in them that steers a terminal, or that cannot be seen."""
    return [line for line in lines if not all(c.isprintable() or c in "\u00a0\u3000\u200c\u200d" for c in line)]


def words(seen: Seen) -> str:
    """What is seen, of a dialog only what stands in it, without frames, blanks as one."""
    shown = seen.app.screen.region
    if seen.app.screen.is_modal:
        shown = max((child.region for child in seen.app.screen.children), key=lambda region: region.area)
    lines = [cut(line, shown.x, shown.right) for line in seen.lines()[shown.y : shown.bottom]]
    return " ".join(" ".join(lines).replace("│", "").split())


def golden(name: str, text: str) -> None:
    """A screen is as it was written down. ``KAIFU_UPDATE=1`` writes it anew; read the difference."""
    path = _GOLDEN / f"{name}.txt"
    text = re.sub(r"[0-9a-f]{32,64}", lambda found: "0" * len(found[0]), text) + "\n"
    if os.environ.get("KAIFU_UPDATE") == "1":
        path.write_text(text, "utf-8")
    assert text == path.read_text("utf-8"), f"{path.name} differs; KAIFU_UPDATE=1 writes it anew"
