"""Transcripts: conversations with the relay as files that people can read.

This module reads them; :mod:`tests.session_engine` plays them. A transcript (``sessions/*.smtp``) begins with its title, a
sentence of what holds (``# …``). Then, as YAML, what is not as usual: ``settings`` and ``policy``, ``certificate: true`` (the
relay has one), ``next_hop`` (the keywords that it offers), ``tls`` (how the next hop speaks it: ``starttls`` or
``implicit``), ``trust: true`` (the relay trusts the next hop's certificate). Then a line ``---`` and the conversation, played from top to bottom. Each line says who does what:

``C:`` a client sends this line; ``C~`` without CRLF. Neighbouring lines travel in one segment. ``C2:`` … are other
    clients. A client connects, and takes the greeting, when it is first mentioned.
``S:`` what the relay replies, line by line: literally, with ``…`` for anything, or as ``/regular expression/``.
    ``S: 250 offers A, B`` is the reply to EHLO with exactly these keywords in any order (``…``: and others).
    ``S: (closed)`` the relay hangs up. ``S: (silent)`` it has not said anything so far.
``N:`` what the next hop does from now on (``Play.next_hop_does``): ``on RCPT TO:<bob answer 550 5.1.1 Unknown``.
``N<`` the next hop is sent this command, after those named before. ``Na<`` on the connection that the transcript
    calls a; two names are two connections.
``N>`` what the next hop, which held its reply back, answers now.
``N=`` the next transaction that it completed, octet by octet: its commands (as in ``S:``), ``DATA``, then the message.
    ``{received}`` stands for our field. A transcript names all transactions, in order.
``N!`` a command that it is never sent, from first to last.
``L:`` the ledger, a YAML mapping for each row in any order: at least these values. ``L: none``.
``LOG:`` a line that the relay logs, after those named before; ``LOG!`` one that it never logs.
``X:`` anything else that happens (``Play.happens``).

Lines that begin with two spaces continue the line above. ``#`` begins a comment line. Octets are written with
``\\r \\n \\t \\0 \\xNN \\\\`` and with ``{300 * "text"}`` for repetition. When a transcript ends the relay is stopped; it must do so
cleanly.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

_LINE = re.compile(r"(C\d?[:~]|S\d?:|N:|N[a-z]?[<>=]|N!|L:|LOG[:!]|X:)(?: (.*))?")
_ESCAPE = re.compile(r'\\x([0-9a-fA-F]{2})|\\([rnt0\\])|\{(\d+) \* "((?:[^"\\]|\\.)*)"\}|(\{[0-9]+ \*)')
_SIMPLE = {"r": b"\r", "n": b"\n", "t": b"\t", "0": b"\0", "\\": b"\\"}


def octets(text: str) -> bytes:
    """Text of a transcript as octets: escapes and repetitions resolved, the rest in UTF-8."""
    parts, end = [], 0
    for found in _ESCAPE.finditer(text):
        parts.append(text[end : found.start()].encode())
        end = found.end()
        if found[1]:
            parts.append(bytes.fromhex(found[1]))
        elif found[2]:
            parts.append(_SIMPLE[found[2]])
        elif found[3]:
            parts.append(octets(found[4]) * int(found[3]))
        else:
            raise ValueError(f"not a repetition: {text[found.start() :][:60]}")
    return b"".join(parts) + text[end:].encode()


def line_pattern(text: str) -> re.Pattern[bytes]:
    """One line as ``S:`` and ``N<`` write it: ``/regular expression/``, or octets with ``…`` for anything."""
    if len(text) > 1 and text.startswith("/") and text.endswith("/"):
        return re.compile(text[1:-1].encode())
    return re.compile(b".*".join(re.escape(octets(part)) for part in text.split("…")), re.DOTALL)


@dataclass(slots=True)
class Step:
    """One thing that somebody does. ``who``: its tag without the last character, ``how``: that character.

    ``text``: neighbouring lines that belong together, joined; a client's as octets are written, CRLF and all. ``more``:
    the lines that continue it.
    """

    number: int
    who: str
    how: str
    text: str
    more: str = ""

    def takes(self, who: str, how: str) -> bool:
        """Does the next line belong to the same step? One segment, one block, one reply, one table."""
        if who != self.who or self.more:
            return False
        if who[:1] == "C":
            return True
        if who[:1] == "S":
            return re.match(r"\d{3}-", self.text.rpartition("\n")[2]) is not None
        return (how == "=" and self.how == "=") or who == "L"


@dataclass(slots=True)
class Transcript:
    """A file of a conversation, read."""

    file: Path
    title: str
    given: dict[str, Any] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)


def read_transcript(file: Path) -> Transcript:
    """Read a transcript; :class:`ValueError` with file and line where it is not well formed."""
    lines = file.read_text(encoding="utf-8").split("\n")
    heading = next((i for i, line in enumerate(lines) if line[:1] != "#"), len(lines))
    title = " ".join(line[1:].strip() for line in lines[:heading])
    if not title or "---" not in lines:
        raise ValueError(f"{file.name}: a transcript has a title (# …) and a line --- before the conversation")
    start = lines.index("---") + 1
    transcript = Transcript(file, title, yaml.safe_load("\n".join(lines[: start - 1])) or {})
    if unknown := set(transcript.given) - {"settings", "policy", "next_hop", "tls", "certificate", "trust"}:
        raise ValueError(f"{file.name}: unknown {', '.join(sorted(unknown))}")
    last: Step | None = None
    for number, line in enumerate(lines[start:], start + 1):
        last = _read_line(transcript, number, line, last)
    return transcript


def _read_line(transcript: Transcript, number: int, line: str, last: Step | None) -> Step | None:
    """Add a line to the steps; the step that the next line may belong to."""
    if not line or line.startswith("#"):
        return None
    if line.startswith("  ") and last is not None:
        last.more += line + "\n"
        return last
    if not (found := _LINE.fullmatch(line)):
        raise ValueError(f"{transcript.file.name}:{number}: nobody says {line!r}")
    who, how, text = found[1][:-1], found[1][-1], found[2] or ""
    text += "\\r\\n" if who[:1] == "C" and how == ":" else ""
    if last is not None and last.takes(who, how):
        last.text += text if who[:1] == "C" else "\n" + text
        return last
    transcript.steps.append(Step(number, who, how, text))
    return transcript.steps[-1]
