"""Whether the ledger stands, in paragraphs: the chain, the anchors and their age, verifications and what they prove, erasures.

Called by the screen Integrity. Pure, without Textual: from what the desk tells to :class:`kaifu.tui.lines.Told` in the language of the screens. Nothing here
concerns persons, except who verified; texts of findings are those of :mod:`kaifu.proxy.ledger_verify`, in every language.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import tzinfo

from rich.cells import cell_len

from kaifu.proxy.health import Verified
from kaifu.proxy.ledger_anchor import Anchor
from kaifu.proxy.ledger_check import Finding
from kaifu.proxy.ledger_desk import Attention, ChainState
from kaifu.proxy.ledger_shown import local
from kaifu.proxy.ledger_verify import NOT_COVERED, Report

from .detail_words import PLACES, called
from .integrity_words import FINDINGS, GROUNDS
from .lines import Told, title
from .look import Marks, fitted
from .words import later, say, say_many

MOST_FINDINGS = 50
_MINUTE = 60_000_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """A verification that ended while the screen was open. ``at``: UTC microseconds."""

    report: Report
    anchors: tuple[Anchor, ...]
    at: int


@dataclass(frozen=True, slots=True)
class State:
    """All that is known. ``places``: where the settings send anchors to, None when no settings were read."""

    chain: ChainState
    attention: Attention
    verified: Verified | None = None
    outcome: Outcome | None = None
    places: tuple[str, ...] | None = None


def told_integrity(state: State, zone: tzinfo, now: int) -> Iterator[Told]:
    """Everything, what matters most first."""
    yield Told(say("Verification"), style="bold")
    if state.outcome is not None:
        yield from _outcome(state.outcome, zone)
    else:
        yield from _verified(state, zone, now)
    yield from title(say("Anchors"))
    yield from _anchors(state, zone, now)
    yield from title(say("Chain"))
    yield from _chain(state, zone)
    yield from title(say("Erasures"))
    yield from _erasures(state.chain, zone)


def age(at: int, now: int) -> str:
    """How long ago something was, roughly."""
    minutes = max(0, now - at) // _MINUTE
    if minutes < 120:
        return say_many("{n} minute ago", "{n} minutes ago", minutes)
    if minutes < 48 * 60:
        return say_many("{n} hour ago", "{n} hours ago", minutes // 60)
    return say_many("{n} day ago", "{n} days ago", minutes // (24 * 60))


def _when(at: int, zone: tzinfo, now: int) -> str:
    return f"{local(at, zone)} ({age(at, now)})"


def _chain(state: State, zone: tzinfo) -> Iterator[Told]:
    chain, attention = state.chain, state.attention
    yield Told(chain.ledger.hex(), say("Ledger"))
    if chain.newest is None:
        yield Told(say("The ledger is empty."))
        return
    words = say(
        "{entries} entries in {batches} batches", entries=f"{attention.entries:,}", batches=f"{chain.newest.id:,}"
    )
    yield Told(words, say("Sealed"))
    if attention.last_entry_at is not None:
        yield Told(local(attention.last_entry_at, zone, seconds=True), say("Last entry"))
    yield Told(chain.newest.head.hex(), say("Head"))


def _anchors(state: State, zone: tzinfo, now: int) -> Iterator[Told]:
    for one in state.attention.anchors:
        words = say("up to entry {entry}, sent {when}", entry=f"{one.entry:,}", when=_when(one.at, zone, now))
        yield Told(words, called(PLACES, one.place))
        if one.since:
            missing = say_many(
                "{n} entry since then is not anchored there", "{n} entries since then are not anchored there", one.since
            )
            yield Told(missing, " ")
    told = {one.place for one in state.attention.anchors}
    for place in state.places or ():
        if place not in told:
            yield Told(say("nothing was sent there yet"), called(PLACES, place))
    if not told:
        yield Told(say("No anchor was ever sent: nothing would show if the whole ledger were written anew."))
    if state.places == ():
        yield Told(say("The settings name no place under anchors: so none is sent."))
    if state.attention.oldest_unanchored_at is not None:
        when = _when(state.attention.oldest_unanchored_at, zone, now)
        yield Told(say("The oldest entry that no place has seen is of {when}.", when=when))


def _verified(state: State, zone: tzinfo, now: int) -> Iterator[Told]:
    """The last one that is known of."""
    last = state.verified
    if last is None:
        yield Told(say("It is not known that this ledger was ever verified. Press v."))
        return
    yield Told(say("{when}, by {who}", when=_when(last.at, zone, now), who=last.by), say("Last"))
    if last.ledger != state.chain.ledger.hex():
        yield Told(say("That was another ledger ({id}).", id=last.ledger), style="bold")
    if last.whole:
        yield Told(say("Intact"), say("Result"), "bold")
    else:
        yield Told(
            say_many("NOT INTACT: {n} finding", "NOT INTACT: {n} findings", last.problems), say("Result"), "bold"
        )
        for text in last.findings[:MOST_FINDINGS]:
            yield Told(f"{text}.", " ")
    size = say("{entries} entries in {batches} batches", entries=f"{last.entries:,}", batches=f"{last.batches:,}")
    yield Told(size, say("Looked at"))
    for anchor in last.anchors[-3:]:
        words = say("up to entry {entry}, of {at}", entry=f"{anchor.entry:,}", at=anchor.at)
        yield Told(f"{words}: {say('agrees') if anchor.holds else say('does NOT agree')}", say("Anchor"))
    if not last.anchors:
        yield Told(say("compared with none"), say("Anchor"))


def _outcome(outcome: Outcome, zone: tzinfo) -> Iterator[Told]:
    """The one that was asked for here, in full."""
    report = outcome.report
    yield Told(local(outcome.at, zone), say("Ended"))
    if report.intact:
        yield Told(say("Intact"), say("Result"), "bold")
    else:
        yield Told(
            say_many("NOT INTACT: {n} finding", "NOT INTACT: {n} findings", report.problems), say("Result"), "bold"
        )
    size = say("{entries} entries in {batches} batches", entries=f"{report.entries:,}", batches=f"{report.batches:,}")
    yield Told(size, say("Looked at"))
    if report.erased:
        yield Told(
            say_many(
                "{n} entry lacks cells that were erased", "{n} entries lack cells that were erased", report.erased
            ),
            " ",
        )
    yield from _findings(report.findings, report.problems)
    for sentence in proves(report, outcome.anchors):
        yield Told(sentence)


def _findings(findings: Sequence[Finding], problems: int) -> Iterator[Told]:
    explained = set[str]()
    for finding in findings[:MOST_FINDINGS]:
        yield Told(f"{finding.text}.", "" if finding.entry is None else str(finding.entry))
        if finding.what not in explained:
            explained.add(finding.what)
            yield Told(called(FINDINGS, finding.what), " ", "dim")
    if problems > min(len(findings), MOST_FINDINGS):
        yield Told(
            say(
                "and {n} more; kaifu ledger verify names the first.",
                n=f"{problems - min(len(findings), MOST_FINDINGS):,}",
            )
        )


def proves(report: Report, anchors: Sequence[Anchor]) -> Iterator[str]:
    """What a verification shows, and what it does not."""
    best = max(report.holding, key=lambda anchor: anchor.last, default=None)
    if not report.intact:
        if report.good_until == 1:
            yield say("Entry 1 agrees with everything that comes before it.")
        elif report.good_until:
            yield say(
                "Entries 1 to {entry} agree with everything that comes before them.", entry=f"{report.good_until:,}"
            )
    elif best is not None:
        yield say(
            "Since {at} nothing up to entry {entry} was changed, removed, inserted or reordered.",
            at=best.at,
            entry=f"{best.last:,}",
        )
        if best.last + 1 == report.entries:
            yield say("Of entry {entry} this shows that it agrees with the others.", entry=f"{report.entries:,}")
        elif best.last < report.entries:
            yield say(
                "Of entries {first} to {last} this shows that they agree with one another.",
                first=f"{best.last + 1:,}",
                last=f"{report.entries:,}",
            )
    if best is None and not anchors:
        yield say(
            "Without an anchor this shows that everything in the file agrees, not that the whole file was not written anew or its end"
            " cut off. Give an anchor that was kept elsewhere."
        )
    yield say(
        "Not covered: the tables {tables}; and whether what was recorded was true.", tables=", ".join(NOT_COVERED)
    )


def _erasures(chain: ChainState, zone: tzinfo) -> Iterator[Told]:
    for one in chain.erasures:
        ground = called(GROUNDS, one.ground)
        words = say_many(
            "cells of {n} entry erased: {ground}", "cells of {n} entries erased: {ground}", one.entries, ground=ground
        )
        yield Told(f"{local(one.at, zone)}  {words} ({say('entry {entry}', entry=one.entry)})")
    if not chain.erasures:
        yield Told(say("None."))


def progress_bar(done: int, of: int, width: int, marks: Marks) -> str:
    """How far a verification is, in so many cells. After the last entry what is derived from them is compared."""
    words = say("{done} of {of} entries", done=f"{done:,}", of=f"{of:,}")
    if done >= of > 0:
        words = say("comparing lists and states")
    share = min(done / of, 1.0) if of else 0.0
    full, empty = ("█", "░") if marks == "unicode" else ("#", ".")
    told = f" {share:4.0%}  {words}"
    room = max(0, width - cell_len(told))
    filled = int(room * share)
    return fitted(f"{full * filled}{empty * (room - filled)}{told}", width, marks)


HELP = later(
    "Whether anybody changed the ledger: the chain of seals, the anchors that were sent, the last verification. A verification recomputes everything;"
    " an anchor that was kept elsewhere shows that nothing before it was written anew."
)
