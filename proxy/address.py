"""The arguments of MAIL and RCPT: octets to values and back (RFC 5321 4.1.2, RFC 6531 3.3, RFC 3461 4).

Called by the session for each MAIL and RCPT (:func:`parse_mail`, :func:`parse_rcpt`), by the milter for the envelope that
it is told, by whoever writes an address into a header or a command of ours (:func:`path_octets`, :func:`xtext_encode`), and by
whoever compares an address that is kept as text (:func:`address_key`, :func:`untagged`).

Read as Postfix reads by default, since what is accepted here still has to please the next hop, which gets the same
octets: brackets may be missing, white space may stand around the path and the ``@``, local parts need not be dot-strings
(``abc.@mobile.example``) and may hold another ``@``, source routes are dropped, an address without domain
(``<Postmaster>``) belongs to the system itself. Whether octets above 127 are welcome is the caller's question: ``"SMTPUTF8" in path.parameters``.

Limits: a path of 1,000 octets, and whatever the caller allows for a command line. Time is linear. Fails only with
:class:`PathError` or :class:`ParameterError`, whose ``reply`` is what the client should be told.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache

from kaifu.policies.facts import Mailbox, mailbox_key
from kaifu.proxy.envelope import Parameters, Recipient, ReversePath
from kaifu.proxy.replies import Reply

PATH_LIMIT = 1000
"""Longest path that is read, in octets. RFC 5321 4.5.3.1.3 guarantees 256."""

DOMAIN = re.compile(
    r"(?>(?:[A-Za-z0-9_-]|[^\x00-\xa0\u2028\u2029\ud800-\udfff\ufffd])+)"
    r"(?>(?:\.(?>(?:[A-Za-z0-9_-]|[^\x00-\xa0\u2028\u2029\ud800-\udfff\ufffd])+))*)\.?+"
    r"|\[[!-Z^-~]*+\]"
)
"""A domain (RFC 5321 4.1.2, RFC 6531 3.3), underscores and a final dot tolerated, or an address literal."""

_PLAIN = re.compile(
    rb"[ \t]*+(<([A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]++)@([A-Za-z0-9_-]++(?>(?:\.[A-Za-z0-9_-]++)*))>)(?>(?:[ \t](.*+))?)",
    re.DOTALL,
)
_QUOTED = rb'"(?>(?:[^"\\]++|\\.)*)"'
_BRACKETED = re.compile(rb'<((?>(?:%b|\\.|[^"\\<>])*))>' % _QUOTED, re.DOTALL)
_BARE = re.compile(rb'((?>(?:%b|\\.|[^"\\<> \t])+))' % _QUOTED, re.DOTALL)
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_HOP = r"@(?:\[[^\[\] ]*+\]|[^ ,:<>@\[\]]++)"
_ROUTE = re.compile(rf"{_HOP}(?>(?:,{_HOP})*):")
_LOCAL = re.compile(r'(?!@)(?>(?:"(?>(?:[^"\\]++|\\.)*)"|\\.|[^ "\\<>])+)', re.DOTALL)
_LOCAL_PIECE = re.compile(r'"((?>(?:[^"\\]++|\\.)*))"|\\(.)', re.DOTALL)
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)
_PARAMETER = re.compile(rb"([A-Za-z0-9][A-Za-z0-9-]*+)(?>(?:=([^\x00-\x20\x7f]++))?)")
_XTEXT = re.compile(rb"(?>(?:[^+]|\+[0-9A-Fa-f]{2})*)", re.DOTALL)
_XTEXT_ESCAPE = re.compile(rb"\+([0-9A-Fa-f]{2})")
_XTEXT_SPECIAL = re.compile(rb"[^!-*,-<>-~]")
_ORCPT = re.compile(rb"([A-Za-z0-9][A-Za-z0-9.-]*+);(.*+)")
_UNICODE_ESCAPE = re.compile(r"\\x\{([0-9A-Fa-f]{1,6})\}")
_NONE = Parameters()


class AddressError(ValueError):
    """An argument of MAIL or RCPT that cannot be understood; ``reply`` is for the client."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.text)
        self.reply = reply


class PathError(AddressError):
    """The path is no address. 501 5.1.7 for MAIL, 501 5.1.3 for RCPT (RFC 3463 3.2)."""

    def __init__(self, text: str, enhanced: str = "5.1.3") -> None:
        super().__init__(Reply(501, enhanced, text))


class ParameterError(AddressError):
    """An ESMTP parameter is malformed or contradicts another. 501 5.5.4 (RFC 3463 3.6)."""

    def __init__(self, text: str) -> None:
        super().__init__(Reply(501, "5.5.4", text))


def parse_mail(argument: bytes) -> ReversePath:
    """What stands after ``MAIL FROM:``. Raises :class:`PathError` or :class:`ParameterError`."""
    raw, mailbox, after = _path(argument, "5.1.7")
    return ReversePath(raw, mailbox, _parameters(after, _MAIL_CHECKS) if after else _NONE)


def parse_rcpt(argument: bytes) -> Recipient:
    """What stands after ``RCPT TO:``. Raises :class:`PathError` or :class:`ParameterError`."""
    raw, mailbox, after = _path(argument, "5.1.3")
    if mailbox is None:
        raise PathError("Bad recipient address syntax: the path is empty")
    if not after:
        return Recipient(raw, mailbox)
    parameters = _parameters(after, _RCPT_CHECKS)
    notify = _notify(parameters.get("NOTIFY")) if "NOTIFY" in parameters else None
    orcpt = _orcpt(parameters.get("ORCPT")) if "ORCPT" in parameters else None
    return Recipient(raw, mailbox, parameters, notify, orcpt)


def path_octets(mailbox: Mailbox) -> bytes:
    """``<local-part@domain>`` built from what was parsed, quoted where it must be (RFC 5321 4.1.2).

    UTF-8 when the address is not ASCII. Raises :class:`PathError` for what cannot stand in a path.
    """
    try:
        octets = f"<{mailbox}>".encode()
    except UnicodeEncodeError as error:
        raise PathError("Bad address syntax: not encodable as UTF-8") from error
    if _CONTROL.search(octets) or (mailbox.domain and not DOMAIN.fullmatch(mailbox.domain)):
        raise PathError("Bad address syntax")
    return octets


def size_of(parameters: Parameters) -> int | None:
    """The octets that ``SIZE=`` announces (RFC 1870), None when absent."""
    value = parameters.get("SIZE")
    return None if value is None else int(value)


def envid_of(parameters: Parameters) -> str | None:
    """The decoded ``ENVID=`` (RFC 3461 4.4), None when absent."""
    value = parameters.get("ENVID")
    return None if value is None else xtext_decode(value).decode("utf-8", "replace")


def xtext_decode(octets: bytes) -> bytes:
    """xtext (RFC 3461 4) to octets. Raises :class:`ParameterError` for a ``+`` without two hex digits.

    Digits in lower case are tolerated, and characters that should have been encoded (as Postfix does).
    """
    if _XTEXT.fullmatch(octets) is None:
        raise ParameterError("Bad xtext encoding")
    return _XTEXT_ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode("ascii")), octets)


def xtext_encode(octets: bytes) -> bytes:
    """Octets to xtext (RFC 3461 4)."""
    return _XTEXT_SPECIAL.sub(lambda found: b"+%02X" % found[0][0], octets)


def _path(argument: bytes, enhanced: str) -> tuple[bytes, Mailbox | None, bytes]:
    """The path as received, its mailbox (None: ``<>``), and what follows it."""
    plain = _PLAIN.fullmatch(argument)
    if plain is not None:
        raw, local, domain, after = plain.groups(b"")
        if len(raw) <= PATH_LIMIT:
            return raw, Mailbox(local.decode("ascii"), domain.decode("ascii")), after
    argument = argument.strip(b" \t")
    found = (_BRACKETED if argument.startswith(b"<") else _BARE).match(argument)
    if found is None or len(found[0]) > PATH_LIMIT:
        raise PathError("Bad address syntax: path missing, not closed, or too long", enhanced)
    after = argument[found.end() :]
    if after and after[0] not in b" \t":
        raise PathError("Bad address syntax: no space after the path", enhanced)
    content = found[1].strip(b" \t")
    return found[0], _mailbox(content, enhanced) if content else None, after


def _mailbox(content: bytes, enhanced: str) -> Mailbox:
    """The mailbox of a path without its brackets."""
    if _CONTROL.search(content):
        raise PathError("Bad address syntax: control character in the path", enhanced)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PathError("Bad address syntax: the path is not valid UTF-8", enhanced) from error
    if (route := _ROUTE.match(text)) is not None:
        text = text[route.end() :]  # it says nothing about who it is
    local, at, domain = (part.strip(" ") for part in text.rpartition("@"))
    if not at or '"' in domain:  # no @ at all, or only within quotes
        local, domain = text, ""
    elif DOMAIN.fullmatch(domain) is None:
        raise PathError("Bad address syntax: malformed domain", enhanced)
    if _LOCAL.fullmatch(local) is None or not (domain or unquote_local_part(local)):
        raise PathError("Bad address syntax: malformed local part", enhanced)
    return Mailbox(unquote_local_part(local), domain)


def unquote_local_part(text: str) -> str:
    """A local part without quotes and backslashes (RFC 5321 4.1.2)."""
    if '"' not in text and "\\" not in text:
        return text
    return _LOCAL_PIECE.sub(lambda piece: piece[2] or _QUOTED_PAIR.sub(r"\1", piece[1]), text)


@lru_cache(maxsize=8192)
def address_key(address: str) -> str:
    """The comparison key of an address that the ledger keeps as text."""
    local, at, domain = address.rpartition("@")
    return mailbox_key(unquote_local_part(local), domain) if at else mailbox_key(unquote_local_part(address), "")


def untagged(key: str) -> str:
    """A comparison key without the tag of a subaddress (RFC 5233)."""
    local, at, domain = key.rpartition("@")
    name = local.partition("+")[0]
    return f"{name}@{domain}" if at and name else key


_Checks = Mapping[str, Callable[[bytes | None], object]]


def _parameters(after: bytes, checks: _Checks) -> Parameters:
    """ESMTP parameters (RFC 5321 4.1.2); those that we know must be well-formed and occur once."""
    raw = after.strip(b" \t")
    items: list[tuple[str, bytes | None]] = []
    known: set[str] = set()
    for word in raw.replace(b"\t", b" ").split(b" "):
        if not word:
            continue
        found = _PARAMETER.fullmatch(word)
        if found is None:
            raise ParameterError("Bad parameter syntax")
        keyword, value = found[1].decode("ascii").upper(), found[2]
        if keyword in checks:
            if keyword in known:
                raise ParameterError(f"Parameter {keyword} given twice")
            known.add(keyword)
            checks[keyword](value)
        items.append((keyword, value))
    return Parameters(raw, tuple(items))


def _notify(value: bytes | None) -> frozenset[str]:
    """NOTIFY (RFC 3461 4.1): NEVER, or any of SUCCESS, FAILURE, DELAY."""
    words = [] if value is None else value.upper().decode("latin-1").split(",")
    notify = frozenset(words)
    if not words or not notify <= {"SUCCESS", "FAILURE", "DELAY", "NEVER"}:
        raise ParameterError("Bad NOTIFY parameter: NEVER, or any of SUCCESS,FAILURE,DELAY")
    if "NEVER" in notify and len(notify) > 1:
        raise ParameterError("Bad NOTIFY parameter: NEVER stands alone")
    return notify


def _orcpt(value: bytes | None) -> str:
    """ORCPT as ``type;address``, decoded from xtext (RFC 3461 4.2) or, for type utf-8, from RFC 6533 3."""
    found = None if value is None else _ORCPT.fullmatch(value)
    if found is None:
        raise ParameterError("Bad ORCPT parameter: address-type;xtext")
    kind = found[1].decode("ascii")
    if kind.lower() == "utf-8":
        text = _UNICODE_ESCAPE.sub(_character, found[2].decode("utf-8", "replace"))
    else:
        text = xtext_decode(found[2]).decode("utf-8", "replace")
    return f"{kind};{text}"


def _character(found: re.Match[str]) -> str:
    number = int(found[1], 16)
    return chr(number) if number <= 0x10FFFF and not 0xD800 <= number <= 0xDFFF else "\ufffd"


def _one_of(keyword: str, *allowed: bytes) -> Callable[[bytes | None], object]:
    def check(value: bytes | None) -> None:
        if value is None or value.upper() not in allowed:
            raise ParameterError(f"Bad {keyword} parameter")

    return check


def _size(value: bytes | None) -> None:
    if value is None or not value.isdigit() or len(value) > 20:
        raise ParameterError("Bad SIZE parameter: a number of octets")


def _envid(value: bytes | None) -> None:
    if value is None:
        raise ParameterError("Bad ENVID parameter: xtext")
    xtext_decode(value)


def _flag(value: bytes | None) -> None:
    if value is not None:
        raise ParameterError("Parameter SMTPUTF8 takes no value")


_MAIL_CHECKS: _Checks = {
    "SIZE": _size,  # RFC 1870 6.3
    "BODY": _one_of("BODY", b"7BIT", b"8BITMIME", b"BINARYMIME"),  # RFC 6152 2, RFC 3030 3
    "RET": _one_of("RET", b"FULL", b"HDRS"),  # RFC 3461 4.3
    "ENVID": _envid,  # RFC 3461 4.4
    "SMTPUTF8": _flag,  # RFC 6531 3.4
}
_RCPT_CHECKS: _Checks = dict.fromkeys(("NOTIFY", "ORCPT"), lambda value: None)  # parse_rcpt reads their values
