"""Decision: what a policy wants for one recipient of one message, as data.

:func:`kaifu.policies.decide.decide` makes it; ``transit`` turns it into header edits and envelope
changes; ``reasons`` turns it into the one sentence that log, ledger, command line and screens show.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from kaifu.policies.facts import Mailbox


class Request(StrEnum):
    """``request:`` what happens to read-receipt requests."""

    KEEP = "keep"
    ADD = "add"
    STRIP = "strip"


class DeliveryReport(StrEnum):
    """``delivery_report:`` what happens to NOTIFY=SUCCESS (RFC 3461)."""

    KEEP = "keep"
    ADD = "add"
    STRIP = "strip"


class Receipt(StrEnum):
    """``receipt:`` what happens to an MDN or DSN on its way."""

    DELIVER = "deliver"
    WITHHOLD = "withhold"
    REJECT = "reject"


class Record(StrEnum):
    """``record:`` how much the ledger keeps."""

    FULL = "full"
    NO_SUBJECT = "no-subject"
    NONE = "none"


class Confirm(StrEnum):
    """``confirm:`` which answers confirm: all that claim to come from the recipient, or only those that prove it."""

    CLAIMED = "claimed"
    AUTHENTICATED = "authenticated"


class Suppress(StrEnum):
    """``suppress:`` which automatic receipts X-Auto-Response-Suppress forbids (RN, NRN)."""

    READ = "read"
    NOT_READ = "not-read"
    BOTH = "both"


class Source(StrEnum):
    """Where the value of an action came from."""

    RULE = "rule"
    DEFAULTS = "defaults"
    BUILT_IN = "built-in"


@dataclass(frozen=True, slots=True)
class Rail:
    """A rail that overrode an action: which key, what was wanted, what is done instead, and why.

    ``why`` is a short English clause, for example ``list mail is never asked``.
    """

    key: str
    wanted: str
    done: str
    why: str


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome of the policy for one recipient. Actions are final: rails have been applied.

    ``rule`` is the name of the rule that held, None when defaults decided. ``line`` is where that rule
    stands in its file. ``enforced`` is false in observe mode: the actions say what would have been done.
    ``notify``: where an added DNT points, None for the sender (the reverse-path). ``retain_days``: None for
    the ledger's own default. ``sources``: key of ``then`` to where its value came from.
    """

    request: Request = Request.KEEP
    notify: Mailbox | None = None
    delivery_report: DeliveryReport = DeliveryReport.KEEP
    receipt: Receipt = Receipt.DELIVER
    record: Record = Record.FULL
    confirm: Confirm = Confirm.CLAIMED
    retain_days: int | None = None
    basis: str | None = None
    suppress: Suppress | None = None
    rule: str | None = None
    line: int | None = None
    enforced: bool = True
    rails: tuple[Rail, ...] = ()
    sources: tuple[tuple[str, Source], ...] = ()
