"""The reports in a message: every MDN and DSN that is reached through ``multipart/*`` only (RFC 6522).

Called by ``inspection``, with the header block and the first MiB of the body of a message that may be a report
(:data:`PREFIX`). It says which reports there are, what each one may be tied to, whether the message consists of
reports and nothing else, and whether a report is too large to be read.

Never looked into: ``message/rfc822``, ``message/global`` and header copies; a person who forwards a receipt does not
send one. The one exception is the returned message of a report itself, of which exactly Message-ID and Date are
taken. Pure; linear in the length of what is given; never raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from kaifu.policies.facts import Kind, Mailbox
from kaifu.proxy.dsn import DSN_TYPES, Dsn, DsnRecipient, parse_dsn
from kaifu.proxy.mdn import MDN_TYPES, Mdn, parse_mdn
from kaifu.proxy.message import HeaderBlock, split_message
from kaifu.proxy.messageid import message_ids, single_id
from kaifu.proxy.mime import Entity, decoded, read_structure
from kaifu.proxy.reportaddress import ReportAddress

PREFIX = 1_048_576
"""Octets of a body that decide; a report part that is not complete within them is too large to read."""

REPORT_TYPES = MDN_TYPES | DSN_TYPES

RETURNED_TYPES = frozenset(
    ("message/rfc822", "message/global", "text/rfc822-headers", "message/rfc822-headers", "message/global-headers")
)
SIGNATURE_TYPES = frozenset(
    ("application/pkcs7-signature", "application/x-pkcs7-signature", "application/pgp-signature")
)

MAX_RETURNED = 65_536
MAX_EXCERPT = 65_536
MAX_ABOUT_MESSAGE = 8192
"""Characters of the lines about the message that are kept beside each recipient of a delivery report."""
_BLANK_START = re.compile(rb"[\r\n]*+")


@dataclass(frozen=True, slots=True)
class Tie:
    """A candidate for the original: ``id`` without brackets, ``source`` where it stood."""

    id: str
    source: str


@dataclass(frozen=True, slots=True)
class Returned:
    """What is kept of the message that a report returns. ``type``: of the part that returned it."""

    type: str
    message_id: str | None
    date: str | None

    @property
    def text(self) -> str:
        """The two as header lines."""
        lines = [f"Message-ID: <{self.message_id}>"] if self.message_id else []
        lines += [f"Date: {self.date}"] if self.date else []
        return "".join(line + "\n" for line in lines)


@dataclass(frozen=True)
class Report:
    """One report part. Exactly one of ``mdn`` and ``dsn`` is set.

    ``ties``: candidates for the original message, best first. ``odd``: what is odd about its place and its encoding,
    beside what :attr:`Mdn.odd` and :attr:`Dsn.odd` tell.
    """

    mdn: Mdn | None
    dsn: Dsn | None
    ties: tuple[Tie, ...]
    returned: Returned | None
    content: bytes
    odd: tuple[str, ...] = ()

    def excerpt(self, recipient: DsnRecipient | None = None) -> bytes:
        """The octets worth keeping as evidence about one recipient.

        Of an MDN its fields, with an Original-Recipient that lists several people cut to the one concerned; of a DSN
        the lines about the message and about ``recipient``. Of the returned message Message-ID and Date.
        """
        groups = [self.mdn.text] if self.mdn else []
        groups += [self.dsn.text[:MAX_ABOUT_MESSAGE], recipient.text if recipient else ""] if self.dsn else []
        groups.append(self.returned.text if self.returned else "")
        return "\n".join(group for group in groups if group).encode("utf-8", "replace")[:MAX_EXCERPT]


@dataclass(frozen=True)
class Reports:
    """All reports of a message.

    ``kinds``: of every report part, also of one that could not be read. ``only_reports``: the message consists of
    reports (multipart/report or the bare type, inside multipart/signed or parallel at most) with nothing attached, as
    far as it was given. ``too_large``: some report part does not end within what was given. ``limited``: the
    structure is beyond the limits of ``mime``, so that not all of it was seen. ``odd``: what is odd about the structure.
    """

    reports: tuple[Report, ...] = ()
    kinds: frozenset[Kind] = frozenset()
    only_reports: bool = False
    too_large: bool = False
    limited: bool = False
    odd: tuple[str, ...] = ()

    @property
    def kind(self) -> Kind:
        """``dsn`` if there is a DSN, else ``mdn`` if there is an MDN, else ``mail``."""
        return next((k for k in (Kind.DSN, Kind.MDN) if k in self.kinds), Kind.MAIL)

    @cached_property
    def mdns(self) -> tuple[Report, ...]:
        """The reports that are MDNs, in order."""
        return tuple(r for r in self.reports if r.mdn)

    @cached_property
    def dsns(self) -> tuple[Report, ...]:
        """The reports that are DSNs, in order."""
        return tuple(r for r in self.reports if r.dsn)

    @property
    def must_deliver(self) -> str | None:
        """Why the message must reach its reader whatever a rule says, in words; None when a rule may decide."""
        if self.too_large:
            return "the report is too large to read"
        doubts = [r.dsn.must_deliver for r in self.reports if r.dsn and r.dsn.must_deliver]
        if doubts:
            return doubts[0]
        if any(r.mdn and not r.mdn.readable for r in self.reports):
            return "the receipt cannot be read"
        return "the structure of the message is beyond what is read" if self.limited else None

    @property
    def message_ids(self) -> tuple[str, ...]:
        """Every identifier that some report may be tied to, and those an MDN acknowledges beside; each once."""
        ids = [tie.id for report in self.reports for tie in report.ties]
        more = [i for report in self.mdns if report.mdn for i in report.mdn.also_acknowledged]
        return tuple(dict.fromkeys(ids + more))

    @property
    def envelope_ids(self) -> tuple[str, ...]:
        """Every Original-Envelope-Id, each once."""
        ids = (r.dsn.original_envelope_id for r in self.reports if r.dsn)
        return tuple(dict.fromkeys(i for i in ids if i))

    @property
    def final_recipient(self) -> Mailbox | None:
        """The first Final-Recipient that is a mailbox: the sender of a report that names no other."""
        return next((m for m in self._finals() if m), None)

    def _finals(self) -> Iterator[Mailbox | None]:
        for report in self.reports:
            finals: list[ReportAddress | None] = [report.mdn.final_recipient] if report.mdn else []
            finals += [r.final_recipient for r in report.dsn.recipients[:1]] if report.dsn else []
            yield from (f.mailbox for f in finals if f)


def find_reports(header: HeaderBlock, body: bytes, *, complete: bool = True) -> Reports:
    """The reports of a message.

    ``body``: what follows the header block, or its beginning if ``complete`` is false; give :data:`PREFIX` octets.
    """
    structure = read_structure(header, body, complete=complete)
    found = [place for place in _places(structure.top, None) if place[0].type.full in REPORT_TYPES]
    whole = [place for place in found if place[0].whole]
    announced = frozenset(kind for kind in map(_announced, structure.top.walk()) if kind)
    if not found and not announced:
        return Reports(limited=structure.exceeded)
    several = len(found) > 1
    return Reports(
        tuple(_report(header, entity, parent, several) for entity, parent in whole),
        announced | {Kind.MDN if e.type.full in MDN_TYPES else Kind.DSN for e, _ in found},
        _only_reports(structure.top) and not structure.exceeded,
        len(whole) < len(found) or bool(announced),
        structure.exceeded,
        _structure_odd(structure.top),
    )


def _announced(entity: Entity) -> Kind | None:
    """The report that a multipart/report announces when what was given ends before it begins."""
    if entity.type.full != "multipart/report" or entity.whole or any(p.type.full in REPORT_TYPES for p in entity.parts):
        return None
    told = "message/" + entity.type.parameters.get("report-type", "").strip().lower()
    if told not in REPORT_TYPES:
        return None
    return Kind.MDN if told in MDN_TYPES else Kind.DSN


def _places(entity: Entity, parent: Entity | None) -> Iterator[tuple[Entity, Entity | None]]:
    yield entity, parent
    for part in entity.parts:
        yield from _places(part, entity)


def _structure_odd(top: Entity) -> tuple[str, ...]:
    odd = [words for entity in top.walk() for words in entity.odd]
    if top.type.full != "multipart/report":
        odd.append(f"the message is {top.type.full}, not multipart/report")
    elif "report-type" not in top.type.parameters:
        odd.append("multipart/report without report-type")
    elif len(top.parts) < 2 or top.parts[1].type.full not in REPORT_TYPES:
        odd.append("the second part of the multipart/report is no report")
    elif top.type.parameters["report-type"].strip().lower() != top.parts[1].type.subtype.removeprefix("global-"):
        odd.append("report-type does not say what the report is")
    return tuple(dict.fromkeys(odd))


def _report(header: HeaderBlock, entity: Entity, parent: Entity | None, several: bool) -> Report:
    content = entity.content()
    odd = (f"the report is encoded as {entity.encoding}",) if entity.encoding in ("base64", "quoted-printable") else ()
    returned = _returned(entity, parent)
    part_header = entity.header.raw if parent is not None else b""
    delimited = entity.delimited
    if entity.type.full in MDN_TYPES:
        mdn = parse_mdn(content, part_header, delimited=delimited)
        ties = tuple(_mdn_ties(header, mdn, returned, several))
        return Report(mdn, None, ties, returned, content, odd)
    cut = parent is not None and not entity.delimited
    dsn = parse_dsn(content, part_header, delimited=delimited, cut=cut)
    return Report(None, dsn, tuple(_dsn_ties(header, dsn, returned)), returned, content, odd)


def _mdn_ties(header: HeaderBlock, mdn: Mdn, returned: Returned | None, several: bool) -> Iterator[Tie]:
    """Candidates in the order of their worth. Where a message holds several reports, the fields of its header may be
    about another report than one that names its original itself."""
    if mdn.original_message_id:
        yield Tie(mdn.original_message_id, "Original-Message-ID")
    if not (several and mdn.original_message_id):
        yield from header_ties(header)
    if returned and returned.message_id:
        yield Tie(returned.message_id, "third part")


def _dsn_ties(header: HeaderBlock, dsn: Dsn, returned: Returned | None) -> Iterator[Tie]:
    if returned and returned.message_id:
        yield Tie(returned.message_id, "third part")
    if dsn.original_message_id and (original := single_id(dsn.original_message_id)):
        yield Tie(original, "X-Original-Message-ID")
    yield from header_ties(header)


def header_ties(header: HeaderBlock) -> Iterator[Tie]:
    """What the header block cites: the first identifier of In-Reply-To, the last of References (RFC 5322 3.6.4)."""
    for value in header.raw_values("in-reply-to")[:1]:
        for cited in message_ids(value.decode("utf-8", "replace"))[:1]:
            yield Tie(cited, "In-Reply-To")
    for value in header.raw_values("references")[:1]:
        for cited in message_ids(value.decode("utf-8", "replace"), last=True)[-1:]:
            yield Tie(cited, "References")


def _returned(entity: Entity, parent: Entity | None) -> Returned | None:
    """Message-ID and Date of what the report returns: the first returned part after it in the same multipart."""
    if parent is None:
        return None
    index = next(i for i, part in enumerate(parent.parts) if part is entity)
    for part in parent.parts[index + 1 :]:
        if part.type.full in REPORT_TYPES:
            return None
        if part.type.full in RETURNED_TYPES:
            return _read_returned(part)
    return None


def _read_returned(part: Entity) -> Returned:
    octets = decoded(part.buffer[part.start : min(part.end, part.start + MAX_RETURNED)], part.encoding)
    start = _BLANK_START.match(octets)
    header = HeaderBlock.parse(split_message(octets[start.end() if start else 0 :])[0])
    identifiers = header.raw_values("message-id")
    dates = header.values("date")
    identifier = single_id(identifiers[0].decode("utf-8", "replace")) if identifiers else None
    return Returned(part.type.full, identifier, (dates[0][:200] or None) if dates else None)


def _only_reports(entity: Entity) -> bool:
    """Does this entity consist of reports, with nothing attached?"""
    if entity.type.full in REPORT_TYPES:
        return True
    parts = [p for p in entity.parts if not _is_nothing(p)]
    if entity.type.full == "multipart/report":
        return _is_plain_report(parts)
    if entity.type.full == "multipart/signed":
        return bool(parts) and _only_reports(parts[0]) and all(p.type.full in SIGNATURE_TYPES for p in parts[1:])
    return entity.type.full == "multipart/parallel" and bool(parts) and all(map(_only_reports, parts))


def _is_plain_report(parts: list[Entity]) -> bool:
    """Text for people first, then reports, each followed at most by what it returns (RFC 6522 3)."""
    stage = "text"
    for part in parts:
        if part.type.full in REPORT_TYPES:
            stage = "report"
        elif part.type.full in RETURNED_TYPES and stage == "report":
            stage = "returned"
        elif stage != "text" or not _is_explanation(part):
            return False
    return stage != "text"


def _is_explanation(part: Entity) -> bool:
    if part.attachment:
        return False
    if part.type.full == "multipart/alternative":
        return bool(part.parts) and all(map(_is_explanation, part.parts))
    return part.type.type == "text" and part.type.full not in RETURNED_TYPES


def _is_nothing(part: Entity) -> bool:
    """An empty part without a header: what a final delimiter without its closing hyphens leaves behind."""
    return not len(part.header) and part.is_empty
