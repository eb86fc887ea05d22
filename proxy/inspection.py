"""What is this message? Mail, MDN, DSN or a suspected receipt, and does it ask for receipts.

The relay and the milter ask :func:`possible_report` with the header block alone, for every message; only if it says
yes do they hold the body and call :func:`inspect_body` with its beginning. ``kaifu inspect`` calls
:func:`inspect_message` with a whole file and looks at every structure. Pure; linear; never raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from kaifu.policies.facts import Kind, ReceiptRequest, ReportFacts
from kaifu.proxy.message import HeaderBlock, split_message
from kaifu.proxy.mime import content_type
from kaifu.proxy.mimetype import without_comments
from kaifu.proxy.reports import PREFIX, REPORT_TYPES, Reports, find_reports
from kaifu.proxy.requests import find_requests
from kaifu.proxy.suspected import Suspicion, suspect

SUSPECTED = "suspected-receipt"

_SAVED_FROM_HTTP = re.compile(
    rb"--[^\n]{1,2000}\n(?=content-[a-z-]++[ \t]*+:)|(?:[A-Z]{3,10} [^\n]{1,2000} HTTP/|HTTP[/ ])[^\n]{0,2000}\n(?=[!-9;-~]++:)",
    re.IGNORECASE,
)

_ALWAYS = REPORT_TYPES | {"multipart/report", "multipart/signed", "multipart/parallel", "application/ms-tnef"}


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a message is.

    ``kind``: ``mail``, ``mdn``, ``dsn`` or ``suspected-receipt``. ``requests``: the fields of the outer header block
    that ask for a receipt. ``reports``: empty for mail. ``suspicion``: set for a suspected receipt.
    """

    kind: str
    header: HeaderBlock
    requests: tuple[ReceiptRequest, ...]
    reports: Reports
    suspicion: Suspicion | None = None

    @property
    def facts(self) -> ReportFacts | None:
        """What the rails must know, for an MDN or DSN."""
        if self.reports.kind is Kind.MAIL:
            return None
        return ReportFacts(self.reports.only_reports, self.reports.must_deliver)


def possible_report(header: HeaderBlock, reverse_path_is_null: bool) -> bool:
    """May this be a report, so that its body has to be looked at? Cheap: one or two fields are read.

    Types that only reports have always may; multipart/mixed and text only when the message answers something
    (In-Reply-To) and comes from a null reverse-path or is marked as sent automatically (RFC 3834 5).
    """
    media = content_type(header)
    if media.full in _ALWAYS:
        return True
    if media.type != "text" and media.full != "multipart/mixed":
        return False
    return "in-reply-to" in header and (reverse_path_is_null or auto_submitted(header) is not None)


def auto_submitted(header: HeaderBlock) -> str | None:
    """The first Auto-Submitted field that says something other than ``no`` (RFC 3834 5), None when none does."""
    for value in header.values("auto-submitted"):
        word = without_comments(value).partition(";")[0].partition("(")[0].strip().lower()
        if word not in ("", "no"):
            return value
    return None


def inspect_body(
    header: HeaderBlock, body: bytes, *, complete: bool = True, requests: tuple[ReceiptRequest, ...] | None = None
) -> Inspection:
    """What a message is. ``body``: all of it, or its first octets (``complete`` false; ``reports.PREFIX`` of them).

    ``requests``: if the caller has looked for them already.
    """
    reports = find_reports(header, body, complete=complete)
    asked = find_requests(header) if requests is None else requests
    suspicion = suspect(header, body) if reports.kind is Kind.MAIL else None
    return Inspection(SUSPECTED if suspicion else str(reports.kind), header, asked, reports, suspicion)


def inspect_message(raw: bytes, *, complete: bool = True, extra: Iterable[str] = ()) -> Inspection:
    """What the message in these octets is, judged as the relay does by the first ``PREFIX`` octets of its body.

    ``complete``: the octets are the whole message. ``extra``: further names of receipt request fields.

    What was saved from HTTP (AS2) may begin with a request line, or with a delimiter line of the multipart that it was
    taken out of; the header block is then the one after it.
    """
    block, offset = split_message(raw)
    header = HeaderBlock.parse(block)
    if not len(header) and (saved := _SAVED_FROM_HTTP.match(raw)):
        block, offset = split_message(raw[saved.end() :])
        header, offset = HeaderBlock.parse(block), offset + saved.end()
    body = raw[offset : offset + PREFIX]
    complete = complete and offset + len(body) == len(raw)
    return inspect_body(header, body, complete=complete, requests=find_requests(header, extra))
