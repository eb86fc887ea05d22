"""How the record of one recipient is sealed, in paragraphs: which entries, in which batch, and whether an anchor covers them.

Pure, without Textual; called by the dialog that shows the proof, with what :mod:`kaifu.proxy.ledger_chain` found.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import tzinfo

from kaifu.proxy.ledger_desk import SealedEntry, Seals
from kaifu.proxy.ledger_shown import local

from .detail_lines import Facts
from .detail_words import PLACES, called
from .lines import Told, title
from .words import later, say

ENTRIES = {
    "message": later("message and decision"),
    "attempt": later("tried again"),
    "outcome": later("answer of the next hop"),
    "evidence": later("evidence"),
    "attested": later("note"),
    "paired": later("pairing"),
    "revoked": later("taken back"),
    "handed-out": later("bundle handed out"),
}
"""Kinds of entries."""


def entries_of(about: Facts) -> list[int]:
    """The entries that the timeline of a recipient tells."""
    recipient = about.recipient
    told = [one["entry"] for one in about.message["attempts"]]
    for key in ("outcomes", "evidence", "notes", "pairs", "bundles"):
        told += [one["entry"] for one in recipient[key]]
    told += [one["revoked_by"] for key in ("notes", "pairs") for one in recipient[key] if one["revoked_by"]]
    return sorted(set(told))


def told_proof(seals: Seals, asked: int, zone: tzinfo) -> Iterator[Told]:
    """What is proven and how. ``asked``: how many entries there are, more than were looked at perhaps."""
    wrong = [one for one in seals.entries if one.wrong is not None]
    if wrong:
        yield Told(say("Not intact: this is not what was sealed. Have the whole ledger verified."), style="bold")
    else:
        yield Told(say("Intact: each entry is what was sealed, up to the newest head."), style="bold")
    if asked > len(seals.entries):
        yield Told(say("Only the first {n} of {all} entries were looked at.", n=len(seals.entries), all=f"{asked:,}"))
    yield from title(say("Entries"))
    for one in seals.entries:
        yield from _entry(one, seals, zone)
    yield from title(say("Chain"))
    yield Told(seals.ledger.hex(), say("Ledger"))
    yield Told(say("{batch}, up to entry {entry}", batch=seals.newest.id, entry=seals.newest.last), say("Newest batch"))
    yield Told(seals.newest.head.hex(), say("Head"))
    yield from title(say("Anchors that were sent"))
    for anchor in seals.anchors:
        words = say(
            "batch {batch}, up to entry {entry}, sent {at}",
            batch=anchor.batch,
            entry=anchor.last,
            at=local(anchor.at, zone),
        )
        yield Told(words, called(PLACES, anchor.place))
    if not seals.anchors:
        yield Told(say("None: whoever can write the ledger could have written all of it anew."))
    yield Told("")
    yield Told(
        say(
            "An anchor proves something only where it is kept: take the line from there, and verify the ledger with it."
            " None of this shows that what was recorded was true."
        ),
        style="dim",
    )


def _entry(one: SealedEntry, seals: Seals, zone: tzinfo) -> Iterator[Told]:
    kind = called(ENTRIES, one.kind)
    words = say("{kind}, {at}, batch {batch}", kind=kind, at=local(one.at, zone, seconds=True), batch=one.batch)
    yield Told(words, str(one.entry))
    covering = [called(PLACES, anchor.place) for anchor in seals.anchors if anchor.batch >= one.batch]
    if one.wrong is not None:
        yield Told(one.wrong, " ", "bold", 2)
    elif covering:
        yield Told(say("covered by the anchor at: {places}", places=", ".join(covering)), " ", "dim", 2)
    else:
        yield Told(say("not covered by any anchor yet"), " ", "dim", 2)
    if one.missing:
        yield Told(say("erased: {cells}", cells=", ".join(one.missing)), " ", "dim", 2)
