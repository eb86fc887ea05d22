"""The header fields that ask for a receipt: the one list of them, and how they are found in a message.

Called by ``observe`` (does this mail ask, and where does it point), by ``transit`` (what ``strip`` removes) and by
``kaifu inspect``. A policy may name further fields (``extra``). Only the outer header block is looked at: what a
returned or forwarded message asked for is no request of this one. Pure; never raises.

Two questions have two answers:

- *What is a receipt request header?* Every name of :data:`REQUEST_HEADERS`; ``strip`` removes them all.
- *Does this mail ask for a read receipt?* Only if it has one of :data:`ASKING_HEADERS`. The others alone do not:
  Disposition-Notification-Options holds parameters of a request that stands elsewhere (RFC 8098 2.2), and
  Generate-Delivery-Report and X-Confirm-Delivery-To ask about delivery, not about reading. Return-Receipt-To began
  as a delivery report too, but mail readers answer it when the message is displayed, so it counts.

``Chat-Disposition-Notification-To`` is not in the list: it belongs to a chat protocol that breaks without it, and
it usually lies inside the encrypted part. A policy that wants it gone names it.
"""

from __future__ import annotations

from collections.abc import Iterable

from kaifu.policies.facts import ReceiptRequest
from kaifu.proxy.addresslist import mailboxes
from kaifu.proxy.message import HeaderBlock, HeaderField

REQUEST_HEADERS = (
    "disposition-notification-to",
    "disposition-notification-options",
    "return-receipt-to",
    "return-receipt-requested",
    "read-receipt-to",
    "x-confirm-reading-to",
    "x-confirm-delivery-to",
    "x-pmrqc",
    "generate-delivery-report",
    "x-chameleon-return-to",
    "x-acknowledge-to",
    "x-ack",
    "register-mail-reply-requested-by",
)
"""Lower-case names of every field that is a receipt request, in whatever dialect; what ``strip`` removes."""

NOT_ASKING = frozenset(("disposition-notification-options", "x-confirm-delivery-to", "generate-delivery-report"))
"""Those of them that alone do not ask for a read receipt."""

ASKING_HEADERS = tuple(name for name in REQUEST_HEADERS if name not in NOT_ASKING)
"""Those that ask for a read receipt by being there."""

FLAG_HEADERS = frozenset(("x-pmrqc", "x-ack", "return-receipt-requested"))
"""Those whose value may be a switch instead of an address; a switch that says no does not ask."""

_NO = frozenset(("", "0", "no", "false", "none", "off", "never"))


def list_requests(block: HeaderBlock, extra: Iterable[str] = ()) -> tuple[ReceiptRequest, ...]:
    """Every receipt request field of the outer header block, asking by itself or not, in the order in which they stand.

    ``extra``: further names, from the policy (any case). Where a value holds no address (``<>``, a URL, a flag),
    ``addresses`` are empty.
    """
    return tuple(_request(block, field, nth) for field, nth in _fields(block, _names(REQUEST_HEADERS, extra)))


def find_requests(block: HeaderBlock, extra: Iterable[str] = ()) -> tuple[ReceiptRequest, ...]:
    """Those of them that ask for a read receipt (see :func:`asks`)."""
    fields = _fields(block, _names(ASKING_HEADERS, extra))
    return tuple(request for request in (_request(block, field, nth) for field, nth in fields) if asks(request))


def asks(request: ReceiptRequest) -> bool:
    """Does this field ask for a read receipt by being there? One without an address does; a switch set to no does not."""
    name = request.name.lower()
    return name not in NOT_ASKING and not (name in FLAG_HEADERS and request.value.strip().lower() in _NO)


def request_fields(block: HeaderBlock, extra: Iterable[str] = ()) -> tuple[tuple[str, int], ...]:
    """Name as received and 1-based occurrence of every receipt request field, asking or not: what ``strip`` removes."""
    return tuple((_name(field), nth) for field, nth in _fields(block, _names(REQUEST_HEADERS, extra)))


def _fields(block: HeaderBlock, names: tuple[str, ...]) -> list[tuple[HeaderField, int]]:
    """The fields of those names, each with its occurrence, in the order in which they stand."""
    found = [(field, nth) for name in names if name in block for nth, field in enumerate(block.all(name), 1)]
    return sorted(found, key=_place)


def _names(names: tuple[str, ...], extra: Iterable[str]) -> tuple[str, ...]:
    more = tuple(name.lower() for name in extra)
    return tuple(dict.fromkeys(names + more)) if more else names


def _place(found: tuple[HeaderField, int]) -> int:
    return found[0].start


def _name(field: HeaderField) -> str:
    """The name as received, without the byte order mark that some files begin with."""
    return field.name.removeprefix(b"\xef\xbb\xbf").decode("latin-1")


def _request(block: HeaderBlock, field: HeaderField, nth: int) -> ReceiptRequest:
    value = block.values(field.key)[nth - 1]
    return ReceiptRequest(_name(field), nth, value, mailboxes(field.raw_value))
