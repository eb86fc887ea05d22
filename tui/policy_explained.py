"""What would happen to a message, in words: the lines of ``kaifu policy explain`` in the language of the screens.

Called by :mod:`kaifu.tui.policy_told`. Pure, without Textual. In English nothing is other than on the command line; elsewhere the words around a
decision are translated, and its sentence, what rules compare, and header fields stand as they are. A line that is not known stays English.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from .detail_words import ASKED_BY, DIRECTIONS, REQUESTS, called
from .lines import Told
from .words import later, say, translates

_LABELLED = re.compile(r"  (would|message|header|envelope|record|rule) +(.*)")
_WAYS = (
    (r"(?P<file>.*): mail from (?P<sender>.*)", later("{file}: mail from {sender}")),
    (r"(?P<file>.*): a receipt \(MDN\) from (?P<sender>.*)", later("{file}: a receipt (MDN) from {sender}")),
    (
        r"(?P<file>.*): a delivery report \(DSN\) from (?P<sender>.*)",
        later("{file}: a delivery report (DSN) from {sender}"),
    ),
    (r"(?P<file>.*): a suspected receipt from (?P<sender>.*)", later("{file}: a suspected receipt from {sender}")),
    (r"to (?P<address>.*) \((?P<direction>\w+)\)", later("to {address} ({direction})")),
)
_LINES = (
    (r"asks for a receipt: (?P<fields>.*)", later("asks for a receipt: {fields}")),
    (r"asks for no receipt", later("asks for no receipt")),
    (r"refused with 550 5\.7\.1 (?P<why>.*)", later("refused with 550 5.7.1 {why}")),
)
_TABLE = (
    (r"would: (?P<what>.*)", later("would: {what}")),
    (r"message: delivered", later("message: delivered")),
    (r"message: withheld", later("message: withheld")),
    (r"message: rejected", later("message: rejected")),
    (r"header: unchanged", later("header: unchanged")),
    (r"header: added (?P<field>.*)", later("header: added {field}")),
    (r"header: removed (?P<field>.*)", later("header: removed {field}")),
    (r"header: changed (?P<field>\S+(?: #\d+)?) to (?P<value>.*)", later("header: changed {field} to {value}")),
    (r"envelope: (?P<what>.*)", later("envelope: {what}")),
    (r"record: none, only counted", later("record: none, only counted")),
    (
        r"record: yes, request (?P<request>\w+), asked by (?P<asker>\w+), kept for (?P<days>\d+) days",
        later("record: yes, request {request}, asked by {asker}, kept for {days} days"),
    ),
    (
        r"record: yes, request (?P<request>\w+), asked by (?P<asker>\w+)",
        later("record: yes, request {request}, asked by {asker}"),
    ),
    (r"rule: line (?P<line>\d+), (?P<name>.*): holds", later("rule: line {line}, {name}: holds")),
    (r"rule: line (?P<line>\d+), (?P<name>.*): not reached", later("rule: line {line}, {name}: not reached")),
    (
        r"rule: line (?P<line>\d+), (?P<name>.*?): does not hold: (?P<why>.*)",
        later("rule: line {line}, {name}: does not hold: {why}"),
    ),
)
_Ways = Iterable[tuple[str, str]]


def in_words(lines: Iterable[str]) -> Iterator[Told]:
    """The lines of the command, as they are told on a screen."""
    for line in lines:
        labelled = _LABELLED.fullmatch(line)
        if labelled is not None:
            label, _, text = _said(f"{labelled[1]}: {labelled[2]}", _TABLE).partition(": ")
            yield Told(text, label, deep=2)
        elif line.startswith("  "):
            yield Told(_said(line.strip(), _LINES), deep=2)
        else:
            yield Told(_said(line, _WAYS), style="bold")


def _said(line: str, ways: _Ways) -> str:
    """The same line in the language that is spoken."""
    if not translates():
        return line
    for pattern, sentence in ways:
        found = re.fullmatch(pattern, line, re.DOTALL)
        if found is not None:
            return say(sentence, **{name: _word(name, value) for name, value in found.groupdict().items()})
    return line


def _word(name: str, value: str) -> str:
    """A value; what is a word of the ledger as the other screens call it."""
    return called(_WORDS[name], value) if name in _WORDS else value


_WORDS = {"direction": DIRECTIONS, "request": REQUESTS, "asker": ASKED_BY}
