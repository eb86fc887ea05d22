"""A Message-ID for mail that has none and is to be asked about: without one no answer could be tied to it (RFC 5322 3.6.4).

The judge (:mod:`kaifu.proxy.transit`) leaves its place in the edits with :func:`with_new_id`; the ledger makes the id when it records the
message, and the host puts it in with :func:`with_message_id`. Pure; nothing here fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kaifu.proxy.edits import Change, Delete, HeaderEdit, Insert
from kaifu.proxy.judgement import Action, Verdict
from kaifu.proxy.message import HeaderBlock
from kaifu.proxy.requestedits import edit_words

MESSAGE_ID = "Message-ID"
_MINTED = ""  # the value of a Message-ID that the ledger has yet to make


def with_message_id(edits: tuple[HeaderEdit, ...], message_id: str) -> tuple[HeaderEdit, ...]:
    """The edits with the Message-ID (without brackets) that the ledger made, where :attr:`Judgement.mint` is set."""
    return tuple(
        replace(edit, value=f"<{message_id}>")
        if not isinstance(edit, Delete) and edit.name == MESSAGE_ID and edit.value == _MINTED
        else edit
        for edit in edits
    )


def with_new_id(
    block: HeaderBlock, verdicts: tuple[Verdict, ...], asks: Sequence[bool], *, for_all: bool
) -> tuple[tuple[Verdict, ...], bool]:
    """The verdicts with a place for the id among the edits of those whom the policy asks, and whether there is one.

    ``asks``: for each verdict, whether the policy asks for something. ``for_all``: one header serves all recipients.
    """
    edit = _place(block)
    asked = [v.recorded is not None and yes for v, yes in zip(verdicts, asks, strict=True)]
    if edit is None or not any(asked):
        return verdicts, False
    if for_all:
        asked = [v.action is Action.FORWARD for v in verdicts]
    longer: dict[int, tuple[HeaderEdit, ...]] = {}  # recipients that shared their edits go on sharing them
    for v, yes in zip(verdicts, asked, strict=True):
        if yes and id(v.edits) not in longer:
            longer[id(v.edits)] = (*v.edits, edit)
    words = edit_words(edit)
    given = [_with_edits(v, longer[id(v.edits)], words) if yes else v for v, yes in zip(verdicts, asked, strict=True)]
    return tuple(given), True


def _place(block: HeaderBlock) -> HeaderEdit | None:
    """Where the id goes; None when the message has one."""
    values = block.raw_values(MESSAGE_ID)
    if any(value.strip(b"<> \t") for value in values):
        return None
    return Change(MESSAGE_ID, 1, _MINTED) if values else Insert(MESSAGE_ID, _MINTED)


def _with_edits(verdict: Verdict, edits: tuple[HeaderEdit, ...], words: str) -> Verdict:
    """The verdict with one edit more, which the record is told in words."""
    recorded = verdict.recorded
    if recorded is not None:
        recorded = replace(recorded, edits=(*recorded.edits, words))
    return replace(verdict, edits=edits, recorded=recorded)
