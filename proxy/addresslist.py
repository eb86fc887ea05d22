"""Address lists of header fields: which mailboxes does a From or a Disposition-Notification-To name?

Called by ``observe`` and ``mdn`` for RFC 5322 address lists (3.4) as they are really written: bare addresses, angle
brackets only, quoted ``"Last, First"`` names, comments, groups, source routes, white space around dots, local parts
that are no dot-atoms, UTF-8 (RFC 6532), a missing comma, apostrophes around an address, a stray CR at the end. What
names no mailbox gives none: ``<>``, a URL or a station name (as AS2 has them), a name alone, an address with two
unquoted ``@``. Names are skipped, so encoded words need no decoding first, and should not be decoded first: they
may hold commas and brackets that are no syntax. Only a value that is one encoded word as a whole is looked into.

Limits: the first :data:`ADDRESS_LIMIT` mailboxes within the first :data:`LENGTH_LIMIT` octets. Time is linear,
nesting has no depth to exceed. Never raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

from kaifu.policies.facts import Mailbox
from kaifu.proxy.address import DOMAIN, PATH_LIMIT, unquote_local_part
from kaifu.proxy.headertext import decode, unfold

ADDRESS_LIMIT = 1000
"""Mailboxes that are taken from one value."""

LENGTH_LIMIT = 128 * 1024
"""Octets (or characters) of one value that are looked at."""

_SIMPLE = re.compile(
    r'(?>(?:(?:[^"(),:;<>@\[\]\\\x00-\x1f]*+|"[^"\\\x00-\x1f]*+")[ \t]*+(<))?)'
    r"([A-Za-z0-9!#$%&*+/=?^_`{|}~.-]++)@([A-Za-z0-9_-]++(?>(?:\.[A-Za-z0-9_-]++)*))"
    r"(?(1)>)[ \t]*+"
)
"""One mailbox with nothing remarkable about it: nearly every value there is."""

_TOKEN = re.compile(
    r'(?s)(?P<quoted>"(?>(?:[^"\\]++|\\.)*)")'
    r"|(?P<literal>\[[!-Z^-~]*+\])"
    r"|(?P<atom>(?>(?:[^][<>,;:@()\"\\\x00-\x20\x7f]++|\\.)+))"
    r"|(?P<url>:(?=//))"
    r"|(?P<special>[<>,;:@])"
    r"|(?P<comment>\()"
    r"|(?P<space>[\x00-\x20\x7f]++|.)"  # and what is out of place: brackets, unfinished quotes
)
_COMMENT_PIECE = re.compile(r"(?s)[()]|\\.")
_UNUSABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff\ufffd]")

_Token = tuple[str, str]
"""Kind and text; a special character is its own kind."""


def mailboxes(value: bytes | str) -> tuple[Mailbox, ...]:
    """The mailboxes that a field value names, in order.

    ``value``: unfolded or not; best the octets (:meth:`~kaifu.proxy.message.HeaderBlock.raw_values`), because in a
    decoded text syntax and names can no longer be told apart.
    """
    if isinstance(value, bytes):
        text = unfold(value[:LENGTH_LIMIT]).decode("utf-8", "surrogateescape")
    else:
        text = value[:LENGTH_LIMIT].strip(" \t\r\n")
    simple = _SIMPLE.fullmatch(text)
    if simple is not None and len(text) <= PATH_LIMIT:
        return (Mailbox(simple[2], simple[3]),)
    found = tuple(islice(_read(text), ADDRESS_LIMIT))
    if not found and text.startswith("=?") and text.endswith("?="):
        return tuple(islice(_read(decode(text.encode("utf-8", "replace"))), ADDRESS_LIMIT))
    return found


def _read(text: str) -> Iterator[Mailbox]:
    """Cut the list into addresses. A name before an angle, a comment or a colon is forgotten when that comes."""
    pending: list[_Token] = []
    skip = False
    for kind, piece in _tokens(text):
        if kind == "<":
            pending, skip = [], False
        elif kind in {",", ";", ">"}:
            if not skip:
                yield from _addresses(pending)
            pending, skip = [], kind == ">"
        elif kind == ":":
            pending = []  # the name of a group, a source route, "mailto"
        elif kind == "url":
            skip = True
        elif not skip and (pending or kind != "space"):
            pending.append((kind, piece))
    if not skip:
        yield from _addresses(pending)


def _tokens(text: str) -> Iterator[_Token]:
    """Cut the text; comments become space. An unfinished quote or comment is no quote and no comment."""
    position, no_comments = 0, False
    while position < len(text):
        found = _TOKEN.match(text, position)
        assert found is not None
        position = found.end()
        kind = str(found.lastgroup)
        if kind == "special":
            yield found[0], found[0]
        elif kind == "comment":
            end = -1 if no_comments else _end_of_comment(text, position)
            no_comments = end < 0
            position = max(position, end)
            yield "space", ""
        else:
            yield kind, found[0]


def _end_of_comment(text: str, position: int) -> int:
    """Where the comment ends whose opening bracket was just read; -1 if it never does."""
    depth = 1
    for found in _COMMENT_PIECE.finditer(text, position):
        depth += {"(": 1, ")": -1}.get(found[0], 0)
        if not depth:
            return found.end()
    return -1


def _addresses(tokens: list[_Token]) -> Iterator[Mailbox]:
    """The addresses among the tokens between two separators: normally one, or none."""
    for at, (kind, _) in enumerate(tokens):
        if kind != "@":
            continue
        domain, end = _gather(tokens, at + 1, 1)
        if end < len(tokens) and tokens[end][0] == "@":
            return  # two unquoted @ in one address
        mailbox = _mailbox(_gather(tokens, at - 1, -1)[0], domain)
        if mailbox is not None:
            yield mailbox


def _gather(tokens: list[_Token], index: int, step: int) -> tuple[str, int]:
    """The word that starts beside an ``@`` and runs in one direction; space may stand next to its dots.

    Gives the word and the index after its last token in that direction.
    """
    pieces: list[str] = []
    end, spaced = index, True
    while 0 <= index < len(tokens):
        kind, piece = tokens[index]
        if kind == "space":
            spaced = True
        elif kind in {"quoted", "atom", "literal"}:
            if spaced and pieces:
                left, right = (pieces[-1], piece) if step > 0 else (piece, pieces[-1])
                if not (left.endswith(".") or right.startswith(".")):
                    break
            pieces.append(piece)
            end, spaced = index + step, False
        else:
            break
        index += step
    return "".join(pieces[::step]), end


def _mailbox(local: str, domain: str) -> Mailbox | None:
    """The mailbox, if both halves are usable."""
    if local.startswith("'") and domain.endswith("'"):
        local, domain = local[1:], domain[:-1]
    domain = domain if domain.startswith("[") else domain.rstrip(".")
    local_part = unquote_local_part(local)
    if not local or _UNUSABLE.search(local_part) or DOMAIN.fullmatch(domain) is None:
        return None
    return Mailbox(local_part, domain) if len(local_part) + len(domain) <= PATH_LIMIT else None
