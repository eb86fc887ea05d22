"""The places that anchors are sent to: a file, a program, a mailbox; and which of them has seen what.

Called by :mod:`kaifu.proxy.ledger_desk` for ``kaifu ledger seal``. A place that has the newest anchor is left alone, so a timer may call as often
as it likes: what is new is an entry other than those that say that an anchor was sent. Each place is tried by itself.

Fails with :class:`PlaceError`, one sentence, for a place that could not be reached. A program gets :data:`COMMAND_SECONDS`, a mail server
:data:`MAIL_SECONDS` for each step; TLS is used when the server offers it, whatever its certificate: an anchor is no secret, and who gets a
false one notices when it is compared.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from .ledger_anchor import Anchor
from .ledger_proof import ledger_id, newest_batch
from .settings import AnchorMail, Anchors

if TYPE_CHECKING:
    import ssl

COMMAND_SECONDS = 60
MAIL_SECONDS = 30
_TEXT = """\
{anchor}

This line is the head of kaifu's ledger on {host}. Keep it where the mail admins there cannot change it.
With it, "kaifu ledger verify --anchor LINE" shows whether anything that was recorded before it has been changed since.
"""


class PlaceError(Exception):
    """A place did not get the anchor; the text says why."""


def newest_anchor(db: sqlite3.Connection, now: datetime) -> Anchor | None:
    """The head as it is; None for a ledger without entries."""
    batch = newest_batch(db)
    if batch is None:
        return None
    at = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Anchor(ledger_id(db), batch.id, batch.last, batch.head, at)


def places_of(anchors: Anchors) -> list[str]:
    """The places that the settings name."""
    return [place for place in SENDERS if getattr(anchors, place) is not None]


def behind(db: sqlite3.Connection, places: list[str]) -> list[str]:
    """Those places which have not been told of everything."""
    told: dict[str, int] = dict(
        db.execute("SELECT a.place, b.last FROM anchors a JOIN batches b ON b.id = a.batch").fetchall()
    )
    query = "SELECT 1 FROM entries WHERE id > ? AND json_extract(body, '$.kind') <> 'anchored' LIMIT 1"
    return [place for place in places if db.execute(query, (told.get(place, 0),)).fetchone() is not None]


def send(anchors: Anchors, place: str, anchor: Anchor) -> None:
    """Send an anchor to one place."""
    SENDERS[place](anchors, anchor)


def _to_file(anchors: Anchors, anchor: Anchor) -> None:
    path = anchors.file
    assert path is not None
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            os.write(handle, f"{anchor}\n".encode())
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise PlaceError(f"the file {path} could not be written: {error.strerror}") from error


def _to_command(anchors: Anchors, anchor: Anchor) -> None:
    command = anchors.command
    assert command is not None
    try:
        done = subprocess.run(
            command, input=f"{anchor}\n".encode(), capture_output=True, timeout=COMMAND_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise PlaceError(f"the program {command[0]} was not done after {COMMAND_SECONDS} seconds") from None
    except OSError as error:
        raise PlaceError(f"the program {command[0]} could not be run: {error.strerror}") from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise PlaceError(f"the program {command[0]} failed with exit status {done.returncode}" + (said and f": {said}"))


def _to_mail(anchors: Anchors, anchor: Anchor) -> None:
    import smtplib  # This, and what it imports, takes longer than all that other commands do.

    mail = anchors.mail
    assert mail is not None
    host, port = mail.server
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        with smtplib.SMTP(host, port, timeout=MAIL_SECONDS) as server:
            server.ehlo_or_helo_if_needed()
            if server.has_extn("starttls"):
                server.starttls(context=_any_certificate())
                server.ehlo()
            refused = server.sendmail(mail.sender, mail.to, _message(mail, anchor, socket.getfqdn()))
    except smtplib.SMTPRecipientsRefused as error:
        raise PlaceError(f"the mail server {where} refused {', '.join(error.recipients)}") from error
    except smtplib.SMTPResponseException as error:
        said = error.smtp_error.decode("utf-8", "replace") if isinstance(error.smtp_error, bytes) else error.smtp_error
        raise PlaceError(f"the mail server {where} said {error.smtp_code} {said}") from error
    except (OSError, smtplib.SMTPException) as error:
        raise PlaceError(f"the mail server {where} could not be used: {error}") from error
    if refused:
        raise PlaceError(f"the mail server {where} refused {', '.join(refused)}")


def _any_certificate() -> ssl.SSLContext:
    import ssl

    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _message(mail: AnchorMail, anchor: Anchor, host: str) -> bytes:
    """The message (RFC 5322), marked as one that nobody is to answer (RFC 3834 5)."""
    from email.utils import format_datetime, make_msgid

    header = {
        "Date": format_datetime(datetime.now(UTC)),
        "From": mail.sender,
        "To": ", ".join(mail.to),
        "Subject": f"kaifu-anchor {anchor.ledger.hex()[:8]} {anchor.batch}",
        "Message-ID": make_msgid(domain=mail.sender.rpartition("@")[2]),
        "Auto-Submitted": "auto-generated",
    }
    text = (
        "".join(f"{name}: {value}\n" for name, value in header.items()) + "\n" + _TEXT.format(anchor=anchor, host=host)
    )
    return text.replace("\n", "\r\n").encode()


SENDERS: dict[str, Callable[[Anchors, Anchor], None]] = {"file": _to_file, "command": _to_command, "mail": _to_mail}
"""The places, by their keys in the settings."""
