"""Header text: unfolding, and decoding for people and patterns (RFC 5322 2.2.3, RFC 2047, RFC 6532).

Called by ``message`` for the values that rules and records look at, and by ``addresslist`` and ``mime``. Encoded words
are read as mail programs write them, not only as RFC 2047 allows: anywhere in the value, also inside quotes, with
spaces in them, longer than 75 octets, next to each other without a space, with a character cut in two between one
word and the next, with a language (RFC 2231 5) or under a wrong name. What is no encoded word is UTF-8, or
whatever ``charset`` makes of it.

Limits: time is linear in the length of the value. Never raises. The result holds no CR, LF or NUL (each becomes a
space), so it stays one line, and no lone surrogates; other control characters stay and are for the screen to show
safely.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from itertools import groupby

from kaifu.proxy.charset import decode_octets, decode_strictly

_FOLD = re.compile(rb"\r?\n(?=[ \t])")
_WHITE = b" \t\r\n"
_WORD_START = re.compile(rb"=\?([^?\s]{1,80})\?([bBqQ])\?")
_NOT_BASE64 = bytes(set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"))
_ONE_LINE = bytes.maketrans(b"\r\n\x00", b"   ")
_LINE_BREAKERS = re.compile("[\r\n\x00]")

_Word = tuple[str, bytes]
"""Label and octets of one encoded word."""


def unfold(value: bytes) -> bytes:
    """A field value without line ends and without white space around it (RFC 5322 2.2.3)."""
    value = value.strip(_WHITE)
    return _FOLD.sub(b"", value) if b"\n" in value else value


def decode(value: bytes) -> str:
    """The text of an unfolded field value."""
    if b"=?" in value:
        text = "".join(_texts(value))
    elif value.isascii() and b"\x1b" not in value:
        return value.translate(_ONE_LINE).decode("ascii")
    else:
        text = decode_octets(value)
    return _LINE_BREAKERS.sub(" ", text)


def _texts(value: bytes) -> Iterator[str]:
    """The value piece by piece: plain stretches, and runs of encoded words with nothing but space between them."""
    run: list[_Word] = []
    for plain, word in _tokens(value):
        if word is None or plain.strip(_WHITE) or not run:
            yield from _run(run)
            run = []
            yield decode_octets(plain)
        if word is not None:
            run.append(word)
    yield from _run(run)


def _tokens(value: bytes) -> Iterator[tuple[bytes, _Word | None]]:
    """Each encoded word with the octets before it; the octets after the last one, with None."""
    plain_from = look_from = 0
    ends = -1
    while (start := _WORD_START.search(value, look_from)) is not None:
        if ends < start.end():
            ends = value.find(b"?=", start.end())
        if ends < 0:
            break
        if (another := value.find(b"=?", start.end(), ends)) >= 0:
            look_from = another  # this one was never finished
            continue
        label = start[1].decode("latin-1").lower()
        text = value[start.end() : ends]
        octets = _base64(text) if start[2] in b"bB" else binascii.a2b_qp(text, header=True)
        yield value[plain_from : start.start()], (label, octets)
        plain_from = look_from = ends + 2
    yield value[plain_from:], None


def _base64(text: bytes) -> bytes:
    """Base64 without regard for padding and strange characters."""
    text = text.translate(None, _NOT_BASE64)
    if len(text) % 4 == 1:
        text = text[:-1]
    return binascii.a2b_base64(text + b"=" * (-len(text) % 4))


def _run(words: list[_Word]) -> Iterator[str]:
    """The text of adjacent encoded words: each by itself, or joined first when a character was cut in two."""
    for label, group in groupby(words, key=lambda word: word[0]):
        pieces = [octets for _, octets in group]
        texts = [decode_strictly(octets, label) for octets in pieces]
        whole = [text for text in texts if text is not None]
        yield "".join(whole) if len(whole) == len(texts) else decode_octets(b"".join(pieces), label)
