"""What became of one recipient, as a mark and words in the language of the screens. Pure; called by every screen that shows a state.

The mark is that of :mod:`kaifu.proxy.ledger_states`, the words are its words. A confirmation always has its grade beside it; of a list only how
many answered is told, never a double mark.
"""

from __future__ import annotations

from kaifu.proxy.ledger_desk import Row
from kaifu.proxy.ledger_states import GRADED, State, mark

from .look import Marks
from .words import later, say, say_many

STATES = (
    later("replied"),
    later("displayed"),
    later("deleted unread"),
    later("denied"),
    later("failed"),
    later("delivered, no answer"),
    later("delivered"),
    later("no answer"),
    later("not asked"),
)
"""Every word that :func:`kaifu.proxy.ledger_states.mark` has for a state."""

GRADES = (later("claimed"), later("authenticated"), later("mixed"))


def sign_and_words(state: str, request: str, marks: Marks, grade: str | None = None) -> tuple[str, str]:
    """Of a state by itself, for example ``("✓✓", "displayed (claimed)")``."""
    sign, words = mark(state, request, style=marks)
    return sign, graded(say(words), grade if state in GRADED else None)


def marked(row: Row, marks: Marks) -> tuple[str, str]:
    """Of a row of a list of receipts."""
    if not row.is_list:
        return sign_and_words(row.state, row.request, marks, row.standing.grade)
    sign, words = sign_and_words(row.state, row.request, marks)
    if not row.answering:
        return sign, say("{state} (list)", state=words)
    answered = say_many("{n} answered", "{n} answered", row.answering)
    grades = {one.grade for one in row.answers if one.counts}
    if grades:
        answered = graded(answered, grades.pop() if len(grades) == 1 else "mixed")
    return sign, f"{words}, {answered}" if row.state == State.FAILED else answered


def graded(words: str, grade: str | None) -> str:
    """Words with the grade beside them, if there is one."""
    return words if grade is None else f"{words} ({say(grade)})"
