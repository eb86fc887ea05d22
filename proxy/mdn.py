"""Message disposition notifications: the fields of message/disposition-notification (RFC 8098 3, RFC 6533 5).

Called by ``reports`` with the decoded content of a report part. Read as real clients write it: fields in any order
and letter case, with or without spaces, folded, repeated (the first counts), in the header of the part instead of its
body; identifiers with or without brackets; addresses of any shape. What does not conform is told in :attr:`Mdn.odd`,
in words, and never raises.

One thing is read strictly: a Disposition that does not parse, or is missing, or was cut off, is None. It is never
taken for ``displayed``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from kaifu.proxy.messageid import message_ids, single_id
from kaifu.proxy.mimetype import without_comments
from kaifu.proxy.reportaddress import ReportAddress, parse_report_address
from kaifu.proxy.reportfields import Field, first_values, read_groups, text_of

MDN_TYPES = frozenset(("message/disposition-notification", "message/global-disposition-notification"))

TYPES = frozenset(("displayed", "dispatched", "processed", "deleted"))
"""Disposition types of RFC 8098 3.2.6."""

OLD_TYPES = frozenset(("denied", "failed"))
"""Disposition types of RFC 2298 that clients still send."""

_ORDER = (
    "reporting-ua",
    "mdn-gateway",
    "original-recipient",
    "final-recipient",
    "original-message-id",
    "disposition",
    "error",
)
_KNOWN = frozenset((*_ORDER, "failure", "warning"))
_MAY_REPEAT = frozenset(("error", "failure", "warning"))
_NOT_REPORT = re.compile(r"content-|mime-version\Z")

# RFC 8098 3.2.6: action-mode "/" sending-mode ";" type ["/" modifier *("," modifier)]; white space is let through.
_DISPOSITION = re.compile(
    r"\s*+([a-z0-9-]++)\s*+(?:/\s*+([a-z0-9-]++)\s*+)?;\s*+([a-z-]++)\s*+(?:/([^;]*+))?\Z", re.IGNORECASE
)
_ACTION_MODES = frozenset(("manual-action", "automatic-action"))
_SENDING_MODES = frozenset(("mdn-sent-manually", "mdn-sent-automatically"))


@dataclass(frozen=True, slots=True)
class Disposition:
    """A Disposition that parses. ``type`` and modes in lower case, modes None when missing; modifiers as written."""

    type: str
    action_mode: str | None
    sending_mode: str | None
    modifiers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Mdn:
    """The fields of one notification (RFC 8098 3.1).

    ``original_message_id``: without brackets, None when missing or empty. ``also_acknowledged``: further identifiers
    (Additional-Message-IDs, or several in Original-Message-ID). ``disposition``: None unless it parses;
    ``disposition_text`` is what stood there. ``extensions``: name as received and value of all other fields.
    ``text``: the lines worth keeping; an Original-Recipient that lists several people is cut to the one concerned.
    ``odd``: what does not conform, in words.
    """

    final_recipient: ReportAddress | None = None
    original_recipient: ReportAddress | None = None
    original_message_id: str | None = None
    also_acknowledged: tuple[str, ...] = ()
    disposition: Disposition | None = None
    disposition_text: str | None = None
    reporting_ua: str | None = None
    gateway: str | None = None
    error: tuple[str, ...] = ()
    failure: tuple[str, ...] = ()
    warning: tuple[str, ...] = ()
    extensions: tuple[tuple[str, str], ...] = ()
    text: str = field(default="", repr=False)
    odd: tuple[str, ...] = ()

    @property
    def disposition_type(self) -> str | None:
        """``displayed``, ``deleted``, ``dispatched``, ``processed``, ``denied``, ``failed``, or None."""
        return self.disposition.type if self.disposition else None

    @property
    def readable(self) -> bool:
        """False when the part holds none of the fields that say something about a message."""
        return bool(self.disposition or self.original_message_id or self.final_recipient or self.original_recipient)


def parse_disposition(value: str) -> Disposition | None:
    """The value of a Disposition field; None when it does not parse or its type is none of the known six.

    Modes that RFC 8098 does not know are kept as written, in lower case: they say little.
    """
    found = _DISPOSITION.match(without_comments(value))
    if found is None:
        return None
    action, sending, kind, modifiers = found.groups()
    kind = kind.lower()
    if kind not in TYPES and kind not in OLD_TYPES:
        return None
    words = tuple(m for m in map(str.strip, (modifiers or "").split(",")) if m)
    return Disposition(kind, action.lower(), sending.lower() if sending else None, words)


def parse_mdn(content: bytes, header: bytes = b"", *, delimited: bool = True) -> Mdn:
    """The notification in a report part.

    ``content``: the body of the part with its transfer encoding undone. ``header``: the header of the part; some
    producers forget the empty line, so that the fields stand there. ``delimited``: a delimiter line followed; without
    one, a Disposition whose line does not end counts as cut off.
    """
    read = read_groups(content, delimited=delimited)
    odd = list(read.odd)
    if len(read.groups) > 1:
        odd.append("empty lines between the fields")
    fields = list(read.fields)
    misplaced = [f for f in read_groups(header, delimited=delimited).fields if not _NOT_REPORT.match(f.key)]
    if any(f.key in _KNOWN for f in misplaced):
        odd.append("the fields stand in the header of the part")
        fields += misplaced
    return _Builder(fields, odd).mdn()


class _Builder:
    """Makes an :class:`Mdn` of fields, and notes what is odd about them."""

    def __init__(self, fields: list[Field], odd: list[str]) -> None:
        self.fields = fields
        self.values = first_values(fields)
        self.odd = odd

    def mdn(self) -> Mdn:
        self._note_repetitions()
        disposition = self._disposition()
        original, also = self._original()
        final = self._address("Final-Recipient", required=True)
        wanted = self._address("Original-Recipient", required=False)
        return Mdn(
            final,
            wanted,
            original,
            also,
            disposition,
            self.values.get("disposition"),
            self.values.get("reporting-ua") or None,
            self.values.get("mdn-gateway") or None,
            self._all("error"),
            self._all("failure"),
            self._all("warning"),
            tuple((f.name, f.value) for f in self.fields if f.key not in _KNOWN),
            text_of(_about(self.fields, final, wanted)),
            tuple(dict.fromkeys(self.odd)),
        )

    def _all(self, key: str) -> tuple[str, ...]:
        return tuple(f.value for f in self.fields if f.key == key)

    def _note_repetitions(self) -> None:
        seen: set[str] = set()
        order: list[int] = []
        for f in self.fields:
            if f.key not in _KNOWN or f.key in _MAY_REPEAT:
                continue
            if f.key in seen:
                self.odd.append(f"{f.name} is given twice; the first counts")
            else:
                order.append(_ORDER.index(f.key))
            seen.add(f.key)
        if order != sorted(order):
            self.odd.append("the fields are not in the order of RFC 8098")

    def _address(self, name: str, *, required: bool) -> ReportAddress | None:
        value = self.values.get(name.lower())
        if value is None:
            if required:
                self.odd.append(f"{name} is missing")
            return None
        address = parse_report_address(value)
        if address is None:
            self.odd.append(f"{name} is empty")
        else:
            self.odd += [f"{name} {words}" for words in address.odd]
        return address

    def _original(self) -> tuple[str | None, tuple[str, ...]]:
        value = self.values.get("original-message-id")
        more = message_ids(self.values.get("additional-message-ids", ""))
        if value is None:
            self.odd.append("Original-Message-ID is missing")
            return None, more
        first = single_id(value)
        if first is None:
            self.odd.append("Original-Message-ID is empty")
            return None, more
        if "<" not in value:
            self.odd.append("Original-Message-ID has no angle brackets")
        if any(c.isspace() for c in first):
            self.odd.append("Original-Message-ID contains spaces")
        further = message_ids(value)[1:] if "<" in value else ()
        return first, tuple(i for i in dict.fromkeys((*further, *more)) if i != first)

    def _disposition(self) -> Disposition | None:
        given = next((f for f in self.fields if f.key == "disposition"), None)
        if given is None:
            self.odd.append("Disposition is missing")
            return None
        if not given.ended:
            self.odd.append("the report is cut off inside Disposition")
            return None
        disposition = parse_disposition(given.value)
        if disposition is None:
            self.odd.append("Disposition does not parse")
            return None
        if disposition.type in OLD_TYPES:
            self.odd.append(f"{disposition.type} is a disposition type of RFC 2298")
        if disposition.action_mode not in _ACTION_MODES or disposition.sending_mode not in _SENDING_MODES:
            self.odd.append("the modes in Disposition are none of RFC 8098")
        return disposition


def _about(fields: list[Field], final: ReportAddress | None, wanted: ReportAddress | None) -> list[Field]:
    """The fields, with an Original-Recipient of several people cut to the one that the notification is about."""
    listed = wanted.mailboxes if wanted else ()
    if len(listed) < 2:
        return fields
    reader = final.mailbox if final else None
    concerned = next((m for m in listed if reader and m.key == reader.key), None)
    kept = [f for f in fields if f.key != "original-recipient" or concerned]
    line = f"Original-Recipient: rfc822; {concerned}"
    return [replace(f, raw=line) if f.key == "original-recipient" else f for f in kept]
