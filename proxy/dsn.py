"""Delivery status notifications: the fields of message/delivery-status (RFC 3464 2, RFC 6533 4).

Called by ``reports`` with the decoded content of a report part. One group of fields is about the message, one is about
each recipient. Real producers forget the empty line between groups or put too many, leave out Action or Status, write
text where fields belong, or begin with the recipients at once; all that is read as far as it can be told apart, and
told in :attr:`Dsn.odd`. Never raises.

The careful question is :attr:`Dsn.must_deliver`: a report from which somebody may have to learn that a recipient
did not get the message reaches its reader whatever a policy says. Only a report whose every recipient is understood
and was delivered, relayed or expanded is a success.

Limit: :data:`MAX_RECIPIENTS` recipients are read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kaifu.proxy.reportaddress import ReportAddress, parse_report_address
from kaifu.proxy.reportfields import MORE_FIELDS, Field, first_values, read_groups, text_of

DSN_TYPES = frozenset(("message/delivery-status", "message/global-delivery-status"))

SUCCESS = frozenset(("delivered", "relayed", "expanded"))
ACTIONS = SUCCESS | {"failed", "delayed"}
"""RFC 3464 2.3.3."""

MAX_RECIPIENTS = 1000

_OTHER_WORDS = {"failure": "failed", "fail": "failed"}
_WORD = re.compile(r"[a-z-]++", re.IGNORECASE)
_STATUS = re.compile(r"\b([245])\.\d{1,3}\.\d{1,3}\b")

_OF_MESSAGE = frozenset(
    (
        "original-envelope-id",
        "reporting-mta",
        "dsn-gateway",
        "received-from-mta",
        "arrival-date",
        "x-original-message-id",
    )
)
_ADDRESSES = frozenset(("final-recipient", "original-recipient"))
_OF_RECIPIENT = _ADDRESSES | {
    "action",
    "status",
    "remote-mta",
    "diagnostic-code",
    "last-attempt-date",
    "will-retry-until",
    "final-log-id",
    "localized-diagnostic",
}


@dataclass(frozen=True, slots=True)
class DsnRecipient:
    """What a report says of one recipient.

    ``action``: one of :data:`ACTIONS`, None when missing or no known word (``action_text`` is what stood there).
    ``status``: the code of RFC 3463 without its comment, None when there is none. ``text``: the lines of the group.
    """

    final_recipient: ReportAddress | None = None
    original_recipient: ReportAddress | None = None
    action: str | None = None
    action_text: str | None = None
    status: str | None = None
    diagnostic_code: str | None = None
    remote_mta: str | None = None
    last_attempt_date: str | None = None
    will_retry_until: str | None = None
    text: str = ""

    @property
    def address(self) -> str | None:
        """The address that the sender used if it is told (Original-Recipient), else the final one."""
        told = self.original_recipient or self.final_recipient
        return told.address if told else None

    @property
    def result(self) -> str | None:
        """The action; where it is missing, what the status code leaves no doubt about (5 failed, 4 delayed)."""
        if self.action or not self.status:
            return self.action
        return {"5": "failed", "4": "delayed"}.get(self.status[0])

    @property
    def doubt(self) -> str | None:
        """Why this is no success, in words, or None if it is one."""
        if self.result is None:
            return "what became of a recipient cannot be read"
        if self.result not in SUCCESS:
            return "a recipient failed" if self.result == "failed" else "delivery to a recipient is delayed"
        if self.status and self.status[0] != "2":
            return "Action and Status of a recipient contradict each other"
        if self.address is None:
            return "a recipient cannot be read"
        return None


@dataclass(frozen=True, slots=True)
class Dsn:
    """One delivery report (RFC 3464 2.1).

    ``original_message_id``: X-Original-Message-ID, which some producers add. ``text``: the lines about the message.
    ``cut``: the part ended without a delimiter, so that more may have followed. ``odd``: what does not conform.
    """

    recipients: tuple[DsnRecipient, ...] = ()
    original_envelope_id: str | None = None
    reporting_mta: str | None = None
    arrival_date: str | None = None
    original_message_id: str | None = None
    text: str = ""
    cut: bool = False
    odd: tuple[str, ...] = ()

    @property
    def must_deliver(self) -> str | None:
        """Why the report must reach its reader, in words; None for a success."""
        if not self.recipients:
            return "no recipient can be read in the report"
        doubts = [doubt for doubt in (r.doubt for r in self.recipients) if doubt]
        if doubts:
            return min(doubts, key=_WEIGHT.index)
        if self.cut:
            return "the report is cut off"
        if MORE_FIELDS in self.odd:
            return f"the report has {MORE_FIELDS}"
        return "the report has more recipients than are read" if len(self.recipients) >= MAX_RECIPIENTS else None

    @property
    def success(self) -> bool:
        """True when every recipient is understood and was delivered, relayed or expanded."""
        return self.must_deliver is None


_WEIGHT = (
    "a recipient failed",
    "delivery to a recipient is delayed",
    "what became of a recipient cannot be read",
    "Action and Status of a recipient contradict each other",
    "a recipient cannot be read",
)


def parse_dsn(content: bytes, header: bytes = b"", *, delimited: bool = True, cut: bool = False) -> Dsn:
    """The report in a message/delivery-status part.

    ``content``: the body of the part with its transfer encoding undone. ``header``: the header of the part, for
    producers that forget the empty line after it. ``cut``: no delimiter follows though one should.
    """
    read = read_groups(content, delimited=delimited)
    odd = list(read.odd)
    groups = list(read.groups)
    misplaced = tuple(
        f for f in read_groups(header, delimited=delimited).fields if f.key in _OF_MESSAGE | _OF_RECIPIENT
    )
    if misplaced:
        odd.append("fields stand in the header of the part")
        groups.insert(0, misplaced)
    of_message, recipients = _sorted_out(groups, odd)
    values = first_values(of_message)
    if len(recipients) > MAX_RECIPIENTS:
        odd.append(f"more than {MAX_RECIPIENTS} recipients")
    parsed = tuple(_recipient(fields, odd) for fields in recipients[:MAX_RECIPIENTS])
    if "reporting-mta" not in values:
        odd.append("Reporting-MTA is missing")
    return Dsn(
        parsed,
        values.get("original-envelope-id") or None,
        _without_type(values.get("reporting-mta")),
        values.get("arrival-date") or None,
        values.get("x-original-message-id") or None,
        text_of(of_message),
        cut,
        tuple(dict.fromkeys(odd)),
    )


def _sorted_out(groups: list[tuple[Field, ...]], odd: list[str]) -> tuple[list[Field], list[list[Field]]]:
    """Which fields are about the message, and which about each recipient."""
    of_message: list[Field] = []
    recipients: list[list[Field]] = []
    for number, group in enumerate(groups):
        keys = {f.key for f in group}
        if not keys & _OF_RECIPIENT and (number == 0 or keys & _OF_MESSAGE or not recipients):
            of_message += group
            continue
        if number == 0:
            odd.append("no empty line between the message and its recipients")
            of_message += [f for f in group if f.key in _OF_MESSAGE]
            group = tuple(f for f in group if f.key not in _OF_MESSAGE)
        if recipients and not keys & _ADDRESSES:
            if keys & _OF_RECIPIENT:
                odd.append("an empty line among the fields of a recipient")
            recipients[-1] += [f for f in group if f.key in _OF_RECIPIENT]
            continue
        _split(group, recipients, odd)
    return of_message, recipients


def _split(group: tuple[Field, ...], recipients: list[list[Field]], odd: list[str]) -> None:
    """Take one group as one recipient, or as several where an address field comes again."""
    current: list[Field] = []
    seen: set[str] = set()
    for field in group:
        if field.key in _ADDRESSES and field.key in seen:
            odd.append("no empty line between recipients")
            recipients.append(current)
            current, seen = [], set()
        current.append(field)
        seen.add(field.key)
    recipients.append(current)


def _recipient(fields: list[Field], odd: list[str]) -> DsnRecipient:
    values = first_values(fields)
    addresses: dict[str, ReportAddress | None] = {}
    for name in ("Final-Recipient", "Original-Recipient"):
        value = values.get(name.lower())
        address = addresses[name] = parse_report_address(value) if value is not None else None
        if address is not None:
            odd += [f"{name} {words}" for words in address.odd]
        elif value is not None or name == "Final-Recipient":
            odd.append(f"{name} is {'empty' if value is not None else 'missing'}")
    action = _action([f.value for f in fields if f.key == "action"], odd)
    status = _STATUS.search(values.get("status", ""))
    if status is None:
        odd.append("Status is missing" if "status" not in values else "Status does not parse")
    return DsnRecipient(
        addresses["Final-Recipient"],
        addresses["Original-Recipient"],
        action,
        values.get("action") or None,
        status[0] if status else None,
        values.get("diagnostic-code") or None,
        _without_type(values.get("remote-mta")),
        values.get("last-attempt-date") or None,
        values.get("will-retry-until") or None,
        text_of(fields),
    )


def _action(values: list[str], odd: list[str]) -> str | None:
    """The action, if it is one of the known words and there is no other that contradicts it."""
    actions: set[str | None] = set()
    for value in values:
        found = _WORD.match(value)
        word = found[0].lower() if found else ""
        if word not in ACTIONS:
            odd.append(f"Action is no word of RFC 3464: {value[:40]}")
        action = _OTHER_WORDS.get(word, word)
        actions.add(action if action in ACTIONS else None)
    if not actions:
        odd.append("Action is missing")
    if len(actions) > 1:
        odd.append("Action is given twice, with different words")
    return actions.pop() if len(actions) == 1 else None


def _without_type(value: str | None) -> str | None:
    """The name in ``dns; name``."""
    if value is None:
        return None
    kind, semicolon, name = value.partition(";")
    return (name if semicolon else kind).strip() or None
