"""From a decision to header edits and NOTIFY: what is changed about the requests of one message.

Called by :mod:`kaifu.proxy.transit` with final decisions (rails applied, in enforce mode); pure. A value that is
written is rebuilt from what was parsed, never echoed from the message. What cannot be done is left out and told in
words (``not_possible``); nothing here refuses mail.

``request: add`` gives the message exactly one Disposition-Notification-To (RFC 8098 2.1):

- none yet, or only legacy headers: one is inserted, pointing where ``notify`` says (the reverse-path unless an address
  is named);
- the client's own: its first field is kept as it stands, further fields are deleted. It is rewritten only when the
  policy names ``notify`` and it points elsewhere, or when it points to no address at all.

``strip`` deletes every field of the request headers, all occurrences, in the outer header block only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from enum import Enum

from kaifu.policies.decision import Decision, DeliveryReport, Request, Source, Suppress
from kaifu.policies.facts import AskedBy, Mailbox, MessageFacts, ReceiptRequest, domain_key
from kaifu.policies.values import unchanging
from kaifu.proxy.address import PathError, path_octets
from kaifu.proxy.edits import Change, Delete, HeaderEdit, Insert
from kaifu.proxy.envelope import Envelope, Recipient
from kaifu.proxy.ledger import RequestState
from kaifu.proxy.message import HeaderBlock
from kaifu.proxy.requests import request_fields

DNT = "Disposition-Notification-To"
SUPPRESS = "X-Auto-Response-Suppress"

_SUPPRESS_WORDS = {Suppress.READ: ("RN",), Suppress.NOT_READ: ("NRN",), Suppress.BOTH: ("RN", "NRN")}
_PLAIN_WORDS = re.compile(r"[!-+\--~]+(?:[ ,]+[!-+\--~]+)*")  # printable ASCII between commas and spaces
_MAX_ADDRESS = 900  # octets: the field must stay within a line of 998 (RFC 5322 2.1.1)


@unchanging
class RequestPlan:
    """What becomes of the read-receipt request. ``adds``: a request is written that was not there before."""

    edits: tuple[HeaderEdit, ...] = ()
    request: RequestState = RequestState.NONE
    asked_by: AskedBy = AskedBy.NOBODY
    adds: bool = False
    not_possible: tuple[str, ...] = ()


@unchanging
class NotifyPlan:
    """What becomes of NOTIFY for one recipient (RFC 3461 4.1). ``notify`` counts only when ``changed``."""

    notify: frozenset[str] = frozenset()
    changed: bool = False
    asked_by: AskedBy = AskedBy.NOBODY
    adds: bool = False
    not_possible: tuple[str, ...] = ()


def untouched(message: MessageFacts) -> RequestPlan:
    """The plan that changes nothing: the client's request, if any, is kept."""
    if message.requests:
        return RequestPlan(request=RequestState.KEPT, asked_by=AskedBy.CLIENT)
    return _NOTHING


_NOTHING = RequestPlan()


def plan_request(
    decision: Decision, message: MessageFacts, block: HeaderBlock, envelope: Envelope, extra: Iterable[str] = ()
) -> RequestPlan:
    """Edits for ``request``, ``notify`` and ``suppress``. ``extra``: further request headers, from the policy."""
    if decision.request is Request.ADD:
        plan = _add(decision, message, envelope)
    elif decision.request is Request.STRIP:
        plan = _strip(message, block, extra)
    else:
        plan = untouched(message)
    if decision.suppress is not None:
        edit = _suppress(decision.suppress, block.values(SUPPRESS))
        plan = replace(plan, edits=(*plan.edits, edit)) if edit is not None else plan
    return plan


class Mta(Enum):
    """The MTA that a milter sits in. Each has its own ways with a recipient who is taken away and put back with another NOTIFY."""

    POSTFIX = "Postfix"
    SENDMAIL = "Sendmail"


def plan_notify(
    decision: Decision, recipient: Recipient, *, dsn: bool, mta: Mta | None = None, twice: bool = False
) -> NotifyPlan:
    """NOTIFY for one recipient. ``dsn``: the next hop offers DSN. ``mta``: None where the host itself writes the envelope.
    ``twice``: the message has this recipient more than once.

    Absent counts as FAILURE,DELAY. ``add``: the union with SUCCESS; NEVER stays NEVER. ``strip``: SUCCESS goes, and
    SUCCESS alone becomes NEVER.
    """
    given = recipient.notify
    client = AskedBy.CLIENT if given is not None and "SUCCESS" in given else AskedBy.NOBODY
    wanted = decision.delivery_report
    if wanted is DeliveryReport.ADD and client is AskedBy.NOBODY:
        base = frozenset(("FAILURE", "DELAY")) if given is None else given
        if "NEVER" in base:
            return NotifyPlan(not_possible=(_WANTS_NONE,))
        if not dsn:
            return NotifyPlan(not_possible=(NO_DSN,))
        if mta is Mta.POSTFIX and twice:
            return NotifyPlan(not_possible=(_TWICE,))
        union = base | {"SUCCESS"}
        told = _told_apart(recipient, union) if mta is Mta.POSTFIX else union
        return NotifyPlan(told, True, AskedBy.POLICY, adds=True)
    if wanted is DeliveryReport.STRIP and given is not None and client is AskedBy.CLIENT:
        if not dsn:
            return NotifyPlan(asked_by=client, not_possible=(NO_DSN,))
        if mta is Mta.SENDMAIL:
            return NotifyPlan(asked_by=client, not_possible=(_STAYS,))
        if mta is Mta.POSTFIX and twice:
            return NotifyPlan(asked_by=client, not_possible=(_TWICE,))
        rest = _without_success(given)
        return NotifyPlan(_told_apart(recipient, rest) if mta is Mta.POSTFIX else rest, True, client)
    return NotifyPlan(asked_by=client)


def _without_success(notify: frozenset[str]) -> frozenset[str]:
    return notify - {"SUCCESS"} or frozenset(("NEVER",))


def _told_apart(recipient: Recipient, notify: frozenset[str]) -> frozenset[str]:
    """NOTIFY for a recipient who is taken away and put back in Postfix, which must not take him for the one who was there.

    Where the address is an alias Postfix takes SUCCESS out, and who then has the NOTIFY and ORCPT that somebody had before is a
    duplicate, though that one is gone: nobody would get the message. So FAILURE and DELAY differ from what the client gave.
    """
    given = recipient.notify
    if given is None or recipient.orcpt is None or _without_success(given) != _without_success(notify):
        return notify
    kept = notify - {"NEVER"}
    return kept - {"DELAY"} if {"FAILURE", "DELAY"} <= kept else kept | {"FAILURE", "DELAY"}


NO_DSN = "the next hop does not offer DSN"
_STAYS = "Sendmail does not let a milter take back a delivery report that the client asked for"
_TWICE = "the message has this recipient more than once, and Postfix could lose it"
_WANTS_NONE = "the client wants no delivery report at all (NOTIFY=NEVER)"


def edit_words(edit: HeaderEdit) -> str:
    """An edit in words, for ledger and screens."""
    if isinstance(edit, Delete):
        return f"removed {edit.name}" + (f" #{edit.nth}" if edit.nth > 1 else "")
    value = edit.value or "(minted)"
    if isinstance(edit, Change):
        return f"changed {edit.name}" + (f" #{edit.nth}" if edit.nth > 1 else "") + f" to {value}"
    return f"added {edit.name}: {value}"


def notify_words(notify: frozenset[str]) -> str:
    """A NOTIFY parameter in words, its keywords in the order of RFC 3461."""
    return "NOTIFY=" + ",".join(keyword for keyword in ("NEVER", "SUCCESS", "FAILURE", "DELAY") if keyword in notify)


def address_value(mailbox: Mailbox, *, smtputf8: bool) -> str:
    """``<local@domain>`` as a header field may carry it; raises ValueError saying why that is not possible.

    UTF-8 only in an SMTPUTF8 transaction (RFC 6532); otherwise the domain goes out as A-labels (RFC 5890), and a
    local part beyond ASCII cannot go out at all.
    """
    local, domain = mailbox.local_part, mailbox.domain
    if not domain:
        raise ValueError("an address without a domain cannot be asked for receipts")
    if not smtputf8 and not local.isascii():
        raise ValueError("an address with UTF-8 in a transaction without SMTPUTF8")
    if not smtputf8 and not domain.isascii():
        domain = domain_key(domain)
    try:
        octets = path_octets(Mailbox(local, domain))
    except PathError:
        raise ValueError("an address that cannot stand in a header field") from None
    if not local.isprintable() or (not smtputf8 and not octets.isascii()):
        raise ValueError("an address that cannot stand in a header field")
    if len(octets) > _MAX_ADDRESS:
        raise ValueError("an address that is too long for a header field")
    return octets.decode()


def _add(decision: Decision, message: MessageFacts, envelope: Envelope) -> RequestPlan:
    sender = envelope.reverse_path.mailbox
    target = decision.notify or sender
    fields = [request for request in message.requests if request.name.lower() == DNT.lower()]
    asked_by = AskedBy.CLIENT if message.requests else AskedBy.POLICY
    surplus = tuple(Delete(field.name, field.nth) for field in fields[1:])
    if fields and target is not None and _keeps(decision, fields[0], target):
        return RequestPlan(surplus, RequestState.KEPT, asked_by)
    try:
        if target is None:
            raise ValueError("a null reverse-path cannot be asked for receipts")
        value = address_value(target, smtputf8=envelope.smtputf8)
    except ValueError as reason:
        kept = untouched(message)
        return replace(kept, edits=surplus, not_possible=(f"no receipt request: {reason}",))
    if fields:
        return RequestPlan((Change(fields[0].name, 1, value), *surplus), RequestState.ADDED, asked_by, adds=True)
    return RequestPlan((Insert(DNT, value),), RequestState.ADDED, asked_by, adds=True)


def _keeps(decision: Decision, field: ReceiptRequest, target: Mailbox) -> bool:
    """Does the client's first DNT stay as it stands?"""
    if {address.key for address in field.addresses} == {target.key}:
        return True
    named = decision.notify is not None or _source(decision, "notify") not in (None, Source.BUILT_IN)
    return bool(field.addresses) and not named


def _source(decision: Decision, key: str) -> Source | None:
    return next((source for name, source in decision.sources if name == key), None)


def _strip(message: MessageFacts, block: HeaderBlock, extra: Iterable[str]) -> RequestPlan:
    edits = tuple(Delete(name, nth) for name, nth in request_fields(block, extra))
    if not edits:
        return untouched(message)
    return RequestPlan(edits, RequestState.STRIPPED, AskedBy.CLIENT if message.requests else AskedBy.NOBODY)


def _suppress(wanted: Suppress, values: Sequence[str]) -> HeaderEdit | None:
    """The union of what stands there and what is wanted; ``All`` covers everything."""
    words = _SUPPRESS_WORDS[wanted]
    known = {word.lower() for value in values for word in _words(value)}
    missing = [word for word in words if word.lower() not in known]
    if not missing or "all" in known:
        return None
    if not values or len(values[0]) > _MAX_ADDRESS or not _PLAIN_WORDS.fullmatch(values[0]):
        return Insert(SUPPRESS, ", ".join(words))
    kept = [word for word in _words(values[0]) if word.lower() != "none"]
    return Change(SUPPRESS, 1, ", ".join([*kept, *missing]))


def _words(value: str) -> list[str]:
    return value.replace(",", " ").split()
