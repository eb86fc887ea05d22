"""Suspected receipts: what some clients send instead of a report (a claim by form alone).

Called by ``inspection`` for messages that hold no report. A suspicion is recorded as such and changes no state: it is
no confirmation, and the message is never withheld for it. So only forms count that a person does not write by hand;
the subject is never looked at. Whether a suspicion is worth recording (does the message cite one of ours, was it
sent automatically) is for the caller to judge.

Known forms: Outlook without Exchange sends the receipt as a TNEF item; IndiMail ends its header block too early, so
that the report is text; RainLoop and SnappyMail, and Tine 2.0, send a plain or HTML text. Other free texts (some
mobile clients) have nothing to be told by and are mail.

Limit: the first :data:`LOOK` octets of the body. Pure; linear; never raises.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kaifu.proxy.message import HeaderBlock
from kaifu.proxy.mime import content_type, decoded, transfer_encoding
from kaifu.proxy.reports import Tie, header_ties
from kaifu.proxy.tnef import message_class

LOOK = 65_536

_CLASSES = {
    "ipm.microsoft mail.read receipt": "a read receipt of Outlook (TNEF)",
    "report.ipm.note.ipnrn": "a read receipt of Outlook (TNEF)",
    "report.ipm.note.ipnnrn": "a not-read notice of Outlook (TNEF)",
}
_REPORT_CLASS = re.compile(r"report\.ipm\.[a-z0-9.]{0,100}\.(ipnrn|ipnnrn)\Z")

_LATE_REPORT = re.compile(
    rb"\s*+content-type[ \t]*+:[ \t]*+multipart/report\b[^\n]*+(?>(?:\n[ \t][^\n]*+)*)", re.IGNORECASE
)
_WEBMAIL_TEXT = re.compile(r"\s*+this is a return receipt for the (?:mail|message) ", re.IGNORECASE)
_READ_BY = re.compile(r"\s*+your message: .{0,2000}?\bwas read by: ", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[^<>]{0,1000}>")
_WHITE = re.compile(r"\s++")


@dataclass(frozen=True, slots=True)
class Suspicion:
    """A message that looks like a receipt. ``form``: which one, in words. ``ties``: candidates for the original."""

    form: str
    ties: tuple[Tie, ...] = ()


def suspect(header: HeaderBlock, body: bytes) -> Suspicion | None:
    """Does a message without a report look like a receipt? ``body``: what follows the header block, or its beginning."""
    form = _form(header, body[:LOOK])
    return Suspicion(form, tuple(header_ties(header))) if form else None


def _form(header: HeaderBlock, body: bytes) -> str | None:
    media = content_type(header)
    if media.full == "application/ms-tnef":
        return _tnef(header, _content(header, body))
    if media.type != "text":
        return None
    if "content-type" not in header:
        late = _LATE_REPORT.match(body)
        if late is not None and b"disposition-notification" in late[0].lower():
            return "a report in the text of a message without MIME"
    text = _content(header, body).decode("utf-8", "replace")
    if media.full == "text/html":
        text = _WHITE.sub(" ", _TAG.sub(" ", text))
        return "a reading confirmation in HTML (Tine 2.0)" if _READ_BY.match(text) else None
    return "a return receipt as plain text (RainLoop, SnappyMail)" if _WEBMAIL_TEXT.match(text) else None


def _tnef(header: HeaderBlock, stream: bytes) -> str | None:
    item = message_class(stream)
    if item is not None:
        kind = _REPORT_CLASS.match(item.lower())
        return _CLASSES.get("report.ipm.note." + kind[1] if kind else item.lower())
    # What cannot be read but comes as Outlook's reports do: the item is the whole message.
    return "an Outlook item (TNEF) that cannot be read" if "x-ms-tnef-correlator" in header else None


def _content(header: HeaderBlock, body: bytes) -> bytes:
    return decoded(body, transfer_encoding(header))
