"""What people do at the ledger from a screen: it is done, or a sentence says why not.

A question that changes something is wrapped by :func:`attempted`, so that a refusal by the ledger (an address that answered nothing, a file that is there
already) is an answer like any other and costs nobody the desk, which remembers what is on record; :func:`outcome` then gives the sentence of success or raises
:class:`NotDoneError`. What who looks may not do at all still ends as :class:`kaifu.tui.asking.RefusedError`.
"""

from __future__ import annotations

from typing import NamedTuple

from kaifu.proxy.access import AccessError
from kaifu.proxy.ledger import LedgerError
from kaifu.proxy.ledger_cli import Failure
from kaifu.proxy.ledger_desk import Desk, GivenUpError

from .asking import Question
from .troubles import sentence


class NotDoneError(Exception):
    """It could not be done; the text says why, in a sentence."""


class Attempt(NamedTuple):
    """A sentence: what was done, or why not."""

    done: bool
    text: str


def attempted(question: Question[str]) -> Question[Attempt]:
    """The same question, where being unable is an answer. ``question`` gives the sentence for who did it."""

    def ask(desk: Desk) -> Attempt:
        try:
            return Attempt(True, question(desk))
        except (AccessError, GivenUpError):
            raise
        except Failure as failure:
            return Attempt(False, sentence(failure.trouble, failure.message, desk.path))
        except LedgerError as error:
            return Attempt(False, sentence(error.trouble, str(error), desk.path))

    return ask


def outcome(attempt: Attempt) -> str:
    """The sentence of what was done. Raises :class:`NotDoneError`."""
    if not attempt.done:
        raise NotDoneError(attempt.text)
    return attempt.text
