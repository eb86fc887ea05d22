"""Addresses inside reports: ``type; address`` (RFC 3464 2.1.2, RFC 8098 3.2.3, RFC 6533 3).

Called by ``mdn`` and ``dsn`` for Final-Recipient and Original-Recipient. Real producers leave the type out, write it
twice, add display names, brackets and comments, or put a whole ``To`` header there. Nothing is refused: the address
is whatever follows the type, bare, and what was odd is told in words. Linear time; never raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from kaifu.policies.facts import Mailbox
from kaifu.proxy.addresslist import mailboxes
from kaifu.proxy.mimetype import without_comments

_ADDRESS_TYPE = re.compile(r"\s*+([A-Za-z0-9][A-Za-z0-9/_.-]{0,40})\s*+;")
# An escaped quote is a mark of its own, so that no quote that never closes is looked at twice.
_MARK = re.compile(r'"(?>(?:[^"\\]|\\.)*)"|\\"|[<>,]', re.DOTALL)
_CODE_POINT = re.compile(r"\\x\{([0-9A-Fa-f]{1,6})\}")


@dataclass(frozen=True, slots=True)
class ReportAddress:
    """One typed address.

    ``type``: in lower case, None when there is none. ``address``: without display name and brackets, even if it is
    no mail address (AS2 writes station names). ``text``: everything after the type. ``odd``: what does not conform.
    """

    type: str | None
    address: str
    text: str
    odd: tuple[str, ...] = ()

    @property
    def mailbox(self) -> Mailbox | None:
        """The address as a mailbox, None when it is none."""
        found = mailboxes(self.address)
        return found[0] if found else None

    @property
    def mailboxes(self) -> tuple[Mailbox, ...]:
        """All mailboxes in the field; more than one where a producer copied a whole address list."""
        found = mailboxes(self.text)
        return found or tuple(m for m in (self.mailbox,) if m)


def parse_report_address(value: str) -> ReportAddress | None:
    """The address in an unfolded field value; None when there is none (empty, or ``<>``)."""
    odd: list[str] = []
    kind, text = _typed(value, odd)
    if kind == "utf-8":
        text = _CODE_POINT.sub(_character, text)
    plain = without_comments(text).strip()
    likely = [e for e in _elements(plain) if "@" in e[0] or e[1]]
    if len(likely) > 1:
        odd.append("holds several addresses")
    element, bracketed = likely[0] if likely else (plain, False)
    if bracketed:
        odd.append("has a display name or brackets")
    address = _inside(element) if bracketed else element
    if not address:
        return None
    if "@" not in address:
        odd.append("is no mail address")
    return ReportAddress(kind, address, text, tuple(dict.fromkeys(odd)))


def _typed(value: str, odd: list[str]) -> tuple[str | None, str]:
    found = _ADDRESS_TYPE.match(value)
    if found is None:
        odd.append("has no address type")
        return None, value.strip()
    kind, text = found[1].lower(), value[found.end() :].strip()
    while (again := _ADDRESS_TYPE.match(text)) is not None and again[1].lower() == kind:
        text = text[again.end() :].strip()
        odd.append("has its address type twice")
    return kind, text


def _elements(text: str) -> Iterator[tuple[str, bool]]:
    """The elements of a list, split at commas outside quotes and brackets; each with: does it hold brackets."""
    start, inside, brackets = 0, False, False
    for found in _MARK.finditer(text):
        mark = found[0]
        if mark == "<":
            inside = brackets = True
        elif mark == ">":
            inside = False
        elif mark == "," and not inside:
            if text[start : found.start()].strip():
                yield text[start : found.start()].strip(), brackets
            start, brackets = found.end(), False
    if text[start:].strip():
        yield text[start:].strip(), brackets


def _inside(element: str) -> str:
    """What the brackets of an element hold; quoted display names may hold brackets of their own."""
    for found in _MARK.finditer(element):
        if found[0] == "<":
            close = element.find(">", found.end())
            return element[found.end() : close if close >= 0 else len(element)].strip()
    return element


def _character(found: re.Match[str]) -> str:
    """The character of an embedded code point (RFC 6533 3); surrogates and what is none stay as written."""
    code = int(found[1], 16)
    return chr(code) if code < 0xD800 or 0xDFFF < code < 0x110000 else found[0]
