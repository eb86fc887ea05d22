"""The octets between DATA and the final dot (RFC 5321 4.1.1.4, 4.5.2): where they end, and that lines end in CR LF.

Pure. Chunks go in as they arrive, pieces come out with dot-stuffing untouched; nothing is buffered but the at most
four octets that may belong to the end mark. A piece never ends between a CR and its LF.
"""

from __future__ import annotations

from io import IncrementalNewlineDecoder

END = b"\r\n.\r\n"


class BareLineEnd(Exception):
    """A CR without LF or an LF without CR: what SMTP smuggling is made of."""


class DataStream:
    """Scans one message. ``done``: the final dot has been seen; ``rest``: what came after it."""

    def __init__(self) -> None:
        self.done = False
        self.rest = b""
        self._held = b"\r\n"  # a dot on the very first line ends the message too
        self._first = True
        # One pass in C; it knows which kinds of line end it has seen. Counting them takes four times as long.
        self._lines = IncrementalNewlineDecoder(None, translate=False)

    def feed(self, chunk: bytes) -> bytes:
        """The octets of the message that are certain by now, in stuffed form.

        Raises :class:`BareLineEnd`; the stream is of no use afterwards.
        """
        data = self._held + chunk if self._held else chunk
        # Nearly always there is none, which a search from the back finds out sooner.
        end = data.find(END) if data.rfind(END) >= 0 else -1
        if end >= 0:
            piece, self.rest, self._held, self.done = data[: end + 2], data[end + 5 :], b"", True
        else:
            keep = _overlap(data)
            piece, self._held = (data[:-keep], data[-keep:]) if keep else (data, b"")
        if not piece:
            return b""
        self._lines.decode(piece.decode("latin-1"))
        if self._lines.newlines not in (None, "\r\n"):
            raise BareLineEnd
        if self._first:
            self._first = False
            return piece[2:]
        return piece


def _overlap(data: bytes) -> int:
    """Length of the longest end of ``data`` that begins the end mark."""
    for length in (4, 3, 2, 1):
        if data.endswith(END[:length]):
            return length
    return 0


def unstuff(data: bytes) -> bytes:
    """Undo dot-stuffing of whole lines."""
    if data.startswith(b"."):
        data = data[1:]
    return data.replace(b"\r\n.", b"\r\n") if b"\r\n." in data else data


def stuff(data: bytes) -> bytes:
    """Apply dot-stuffing to whole lines."""
    if b"\r\n." in data:
        data = data.replace(b"\r\n.", b"\r\n..")
    return b"." + data if data.startswith(b".") else data
