"""Authentication-Results: what the mail server at our border found out about a message (RFC 8601).

Called by :mod:`kaifu.proxy.observe`, for receipts and answers only. Anybody can write such a field, so only those count whose
authserv-id is one that the settings name as the border, and of these only the newest, which is the topmost of the header
block: it was put there after everything below it had been written (RFC 8601 5). A border that adds several fields is read
by its last one.

Read tolerantly, as servers write it: comments anywhere, also nested and with semicolons in them; quoted strings; any folding;
words between the properties that are none (``action=none``); values with ``@`` and ``=``. What cannot be read to its end
(a comment or a quoted string that never closes, another version of the field) says nothing at all: :attr:`AuthResults.odd` tells
why, and there are no results. The authserv-id alone is read strictly: it must be the first word, without quotes and without
a comment before it, as every server writes its own. So nobody slips a disguised one past a border that removes what has its name.

Pure; linear in the length of the field. Limits: :data:`MOST_FIELDS` fields, :data:`MOST_FIELD` octets and :data:`MOST_RESULTS`
results of one.
Never raises, whatever the octets are.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

FIELD = "authentication-results"

MOST_FIELD = 16_384
"""Octets of a field; a longer one says nothing."""

MOST_FIELDS = 100
"""Fields of one message that are looked at, from the top. The border's own stands there."""

MOST_RESULTS = 100
"""Results of a field, and properties of a result; a field with more says nothing."""

_PIECE = re.compile(r'([ \t\r\n]*+)("(?>(?:[^"\\]|\\.)*)"|[^ \t\r\n"();=]++|[^ \t\r\n])', re.DOTALL)
_IN_COMMENT = re.compile(r"[()]|\\.", re.DOTALL)
_NAMELESS = "it does not say who wrote it"
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Result:
    """One method's result. ``method``, ``value`` and the names of ``properties`` (``header.d``) are in lower case.

    ``reason``: what was said about it, empty when nothing.
    """

    method: str
    value: str
    reason: str = ""
    properties: tuple[tuple[str, str], ...] = ()

    def all(self, name: str) -> tuple[str, ...]:
        """The values of a property, in order."""
        return tuple([value for known, value in self.properties if known == name])


@dataclass(frozen=True, slots=True)
class AuthResults:
    """One field. ``authserv_id`` in lower case, empty when the field has none. ``odd``: why it says nothing, else None."""

    authserv_id: str
    results: tuple[Result, ...] = ()
    odd: str | None = None


def newest(values: Sequence[bytes], border: Container[str]) -> AuthResults | None:
    """The first field of the border's, None when there is none among the :data:`MOST_FIELDS` topmost.

    ``values``: the unfolded fields of that name, from the top. ``border``: authserv-ids in lower case.
    """
    for value in values[:MOST_FIELDS]:
        name = _authserv_id(value)
        if name and name in border:
            return parse(value)
    return None


def parse(value: bytes) -> AuthResults:
    """Read the value of one field, folded or not."""
    if len(value) > MOST_FIELD:
        return AuthResults(_authserv_id(value), odd="it is too long")
    try:
        head, *rest = _segments(_tokens(value.decode("utf-8", "replace")))
        name, odd = ("", _NAMELESS) if value.lstrip().startswith(b"(") else _head(head)
        if odd is None:
            return AuthResults(name, tuple(_results(rest)))
    except _UnreadableError as error:
        return AuthResults(_authserv_id(value), odd=str(error))
    return AuthResults(name, odd=odd)


class _UnreadableError(Exception):
    """Why a field cannot be read to its end."""


class _Token(NamedTuple):
    """A word, a quoted string without its quotes, ``;`` or ``=``. ``apart``: white space or a comment is before it."""

    text: str
    apart: bool
    quoted: bool = False

    def is_mark(self, mark: str) -> bool:
        return self.text == mark and not self.quoted

    @property
    def is_word(self) -> bool:
        return self.quoted or self.text not in (";", "=")


def _tokens(text: str) -> Iterator[_Token]:
    """The tokens of a value. Raises :class:`_UnreadableError`."""
    position, apart = 0, False
    while (found := _PIECE.match(text, position)) is not None:
        gap, piece = found.groups()
        position = found.end()
        if gap:
            apart = True
        first = piece[0]
        if first == "(":
            position, apart = _after_comment(text, position - 1), True
            continue
        if first == '"' and piece != '"':
            yield _Token(_ESCAPED.sub(r"\1", piece[1:-1]), apart, True)
        elif piece == '"':
            raise _UnreadableError("a quoted string without its end")
        elif first == ")":
            raise _UnreadableError("a comment without its beginning")
        else:
            yield _Token(piece, apart)
        apart = False


def _after_comment(text: str, position: int) -> int:
    depth = 0
    for found in _IN_COMMENT.finditer(text, position):
        if found[0] == "(":
            depth += 1
        elif found[0] == ")":
            depth -= 1
            if not depth:
                return found.end()
    raise _UnreadableError("a comment without its end")


def _segments(tokens: Iterable[_Token]) -> list[list[_Token]]:
    """What stands between the semicolons."""
    segments: list[list[_Token]] = [[]]
    for token in tokens:
        if token.is_mark(";"):
            segments.append([])
        else:
            segments[-1].append(token)
    return segments


def _authserv_id(value: bytes) -> str:
    """The authserv-id of a field that need not be readable to its end; empty when it has none."""
    tokens = _tokens(value[:1000].decode("utf-8", "replace"))
    if value.lstrip().startswith(b"("):
        return ""
    try:
        first = next(tokens, None)
        second = next(tokens, None) if first is not None else None
    except _UnreadableError:
        return ""
    if first is None or first.quoted or not first.is_word or (second is not None and second.is_mark("=")):
        return ""
    return first.text.lower()


def _head(tokens: list[_Token]) -> tuple[str, str | None]:
    """The authserv-id, and why the field says nothing."""
    if not tokens or tokens[0].quoted or any(token.is_mark("=") for token in tokens):
        return "", _NAMELESS
    version = [token.text for token in tokens[1:]]
    if version not in ([], ["1"]):
        return tokens[0].text.lower(), f"version {' '.join(version)[:20]} of the field is not known"
    return tokens[0].text.lower(), None


def _results(segments: Iterable[list[_Token]]) -> Iterator[Result]:
    number = 0
    for tokens in segments:
        pairs = list(_pairs(tokens))
        if not pairs:
            continue  # "none", or an empty segment
        number += 1
        if number > MOST_RESULTS or len(pairs) > MOST_RESULTS:
            raise _UnreadableError("it has too many results")
        (method, value), *properties = pairs
        reason = next((text for name, text in properties if name == "reason"), "")
        yield Result(method.partition("/")[0], value.lower(), reason, tuple(properties))


def _pairs(tokens: list[_Token]) -> Iterator[tuple[str, str]]:
    """Each ``name=value`` of a segment; other words are left out.

    Not so an address in pieces: who may choose what stands before its ``@`` would choose whose result this is.
    """
    marks = [n for n, token in enumerate(tokens) if token.is_mark("=")]
    done = 0
    for mark in marks:
        if mark < done:
            continue  # an equals sign within a value
        name, begin = _name_before(tokens, mark, done)
        _only_words(tokens[done:begin])
        value, done = _value_after(tokens, mark)
        if name:
            yield name, value
    _only_words(tokens[done:])


def _only_words(tokens: list[_Token]) -> None:
    if any("@" in token.text for token in tokens):
        raise _UnreadableError("an address in pieces")


def _name_before(tokens: list[_Token], mark: int, start: int) -> tuple[str, int]:
    """The name before an equals sign, put together where it is written with spaces around its dot or slash.

    And where it begins.
    """
    name, begin = "", mark
    while begin > start:
        token = tokens[begin - 1]
        if token.quoted or (name and not name.startswith((".", "/")) and not token.text.endswith((".", "/"))):
            break
        name = token.text + name
        begin -= 1
    return name.lower(), begin


def _value_after(tokens: list[_Token], mark: int) -> tuple[str, int]:
    """The value after an equals sign, and where it ends: everything up to the next space or comment."""
    first = mark + 1
    end = first
    while end < len(tokens) and (end == first or not tokens[end].apart):
        end += 1
    if end - first > 1 and tokens[first].apart and tokens[first + 1].is_mark("="):
        return "", first  # nothing, and then the next name
    return "".join(token.text for token in tokens[first:end]), end
