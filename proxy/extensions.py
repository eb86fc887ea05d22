"""SMTP service extensions (RFC 5321 2.2): what a client is shown, and what a command uses of it.

A client is shown what kaifu supports *and* the next hop offers, plus our own STARTTLS. CHUNKING, BINARYMIME and keywords that
we do not know are never shown: their octets could not be passed on faithfully.
"""

from __future__ import annotations

from . import replies
from .authentication import offered_mechanisms
from .envelope import Parameters
from .nexthop import Answer, Capabilities
from .trace import XFORWARD_NAMES

PASSED = ("PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES")
_NEEDS = {"SMTPUTF8": "SMTPUTF8", "RET": "DSN", "ENVID": "DSN", "NOTIFY": "DSN", "ORCPT": "DSN", "SIZE": "SIZE"}


def keywords(offered: Capabilities, *, start_tls: bool, auth: bool, xforward: bool) -> Capabilities:
    """What to show: ``start_tls``, ``auth`` and ``xforward`` say whether this client may use them."""
    shown = {k: offered.keywords[k] if k == "SIZE" else b"" for k in PASSED if k in offered}
    if start_tls:
        shown["STARTTLS"] = b""
    if auth and (mechanisms := offered_mechanisms(offered)):
        shown["AUTH"] = " ".join(mechanisms).encode()
    if xforward and "XFORWARD" in offered:
        shown["XFORWARD"] = " ".join(n for n in offered.words("XFORWARD") if n in XFORWARD_NAMES).encode()
    return Capabilities(shown)


def ehlo_reply(hostname: str, shown: Capabilities) -> bytes:
    """The reply to EHLO (RFC 5321 4.1.1.1)."""
    lines = [hostname.encode("ascii", "replace")]
    lines += [keyword.encode() + (b" " + value if value else b"") for keyword, value in shown.keywords.items()]
    return b"".join(b"250-" + line + b"\r\n" for line in lines[:-1]) + b"250 " + lines[-1] + b"\r\n"


def missing(parameters: Parameters, shown: Capabilities, offered: Capabilities) -> list[str]:
    """Extensions that a command uses, that the client was shown, and that this connection does not offer."""
    used = {_NEEDS[name] for name, _ in parameters.items if name in _NEEDS}
    if (parameters.get("BODY") or b"").upper() == b"8BITMIME":
        used.add("8BITMIME")
    return sorted(k for k in used if k in shown and k not in offered)


def for_client(answer: Answer) -> bytes:
    """An answer in a form that is true for our client: the next hop's 421 does not end our session."""
    if answer.code == 421:
        return b"".join(b"451" + line[3:] + b"\r\n" for line in answer.octets.split(b"\r\n")[:-1])
    if not 400 <= answer.code < 600 and not answer.ok:
        return replies.NEXT_HOP_CONFUSED.octets()
    return answer.octets
