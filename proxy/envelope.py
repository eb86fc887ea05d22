"""The SMTP envelope: reverse-path, forward-paths and their ESMTP parameters (RFC 5321, RFC 3461).

Values only; :mod:`kaifu.proxy.address` parses them from MAIL and RCPT. Everything keeps the octets as
received beside what was understood, because the relay repeats them to the next hop as they came.
"""

from __future__ import annotations

from kaifu.policies.facts import Mailbox
from kaifu.policies.values import unchanging


@unchanging
class Parameters:
    """ESMTP parameters of one MAIL or RCPT command.

    ``raw``: everything after the path, as received, without the leading space. ``items``: keyword
    (upper case) and value (as received, None when there is no ``=``), in order.
    """

    raw: bytes = b""
    items: tuple[tuple[str, bytes | None], ...] = ()

    def get(self, keyword: str) -> bytes | None:
        """The value of a keyword (upper case); None when absent or without value."""
        for name, value in self.items:
            if name == keyword:
                return value
        return None

    def __contains__(self, keyword: str) -> bool:
        return any(name == keyword for name, _ in self.items)


@unchanging
class ReversePath:
    """The path of MAIL FROM. ``mailbox`` is None for the null path ``<>``; ``raw`` includes the brackets."""

    raw: bytes
    mailbox: Mailbox | None
    parameters: Parameters = Parameters()

    @property
    def is_null(self) -> bool:
        return self.mailbox is None


@unchanging
class Recipient:
    """One RCPT TO. ``raw`` includes the brackets. ``notify``: NOTIFY keywords in upper case, None when absent."""

    raw: bytes
    mailbox: Mailbox
    parameters: Parameters = Parameters()
    notify: frozenset[str] | None = None
    orcpt: str | None = None


NOTIFY_ORDER = ("NEVER", "SUCCESS", "FAILURE", "DELAY")


def parameters_with_notify(recipient: Recipient, notify: frozenset[str]) -> bytes:
    """The recipient's parameters as received, but for NOTIFY (RFC 3461 4.1), which comes last with these keywords."""
    words = [
        name.encode() + (b"=" + value if value is not None else b"")
        for name, value in recipient.parameters.items
        if name != "NOTIFY"
    ]
    return b" ".join([*words, b"NOTIFY=" + ",".join(k for k in NOTIFY_ORDER if k in notify).encode()])


@unchanging
class Envelope:
    """One mail transaction. ``smtputf8``: MAIL carried SMTPUTF8 (RFC 6531). ``envid``: decoded, or None."""

    reverse_path: ReversePath
    recipients: tuple[Recipient, ...] = ()
    smtputf8: bool = False
    envid: str | None = None
