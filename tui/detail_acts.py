"""What can be done at one recipient of one message: questions for the desk, and the words in which they are asked and answered.

Called by the screen of one message, without Textual. What was typed is checked here (:class:`kaifu.tui.attempts.NotDoneError` says what is wrong with it); whether who looks
may do it, the desk decides. A file is written only by who is there with his own rights.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import tzinfo
from hashlib import sha256
from pathlib import Path

from kaifu.proxy.access import lent
from kaifu.proxy.ledger_anchor import Anchor
from kaifu.proxy.ledger_cli import NewFile, moment
from kaifu.proxy.ledger_desk import Desk, Filter, Handover, Row
from kaifu.proxy.ledger_shown import name_of

from .asking import Question
from .attempts import Attempt, NotDoneError, attempted
from .detail_lines import Facts, erased, is_open
from .detail_words import CONFIRMED_BY, called
from .filterline import format_line
from .integrity_anchors import pasted_anchors
from .words import later, say

Given = Mapping[str, str]
MOST_ANSWERING = 200
"""Strangers can answer from any number of addresses."""
_FORMS = later("a date (2026-11-21), a time (2026-11-21T09:30) or an age (30m, 12h, 7d, 2w)")


def note(row: Row, given: Given, zone: tzinfo, now: int) -> Question[Attempt]:
    """Note a confirmation: ``how``, ``at``, ``text``."""
    try:
        at = moment(given["at"], zone) if given["at"] else now
    except ValueError:
        raise NotDoneError(say('"{text}" is no time; give {forms}', text=given["at"], forms=say(_FORMS))) from None
    if at > now:
        raise NotDoneError(say("That time lies in the future."))
    how, text = given["how"], given["text"]
    return attempted(lambda desk: say("Noted, by entry {entry}.", entry=desk.attest(row.recipient, how, at, text)))


def pair(row: Row, given: Given) -> Question[Attempt]:
    """Say that an address answers for the recipient: ``other``, ``text``."""
    other, text = given["other"], given["text"]
    return attempted(lambda desk: say("Paired, by entry {entry}.", entry=desk.pair(row.recipient, other, text)))


def take_back(row: Row, what: str, entry: int) -> Question[Attempt]:
    """Take back a ``note`` or a ``pair``."""

    def ask(desk: Desk) -> str:
        work = desk.revoke if what == "note" else desk.unpair
        return say("Taken back, by entry {entry}.", entry=work(entry, (row.recipient,)))

    return attempted(ask)


def answering(about: Facts) -> list[str]:
    """The addresses that have answered this message and that nobody has paired, the first :data:`MOST_ANSWERING`."""
    pieces = [*about.recipient["evidence"], *about.message["other_evidence"]]
    return list(dict.fromkeys(str(one["by"]) for one in pieces if is_open(one)))[:MOST_ANSWERING]


def revocable(about: Facts) -> Iterator[tuple[str, str]]:
    """Notes and pairings in force: what :func:`take_back` needs, as one value, and words."""
    recipient = about.recipient
    for one in recipient["notes"]:
        if not one["revoked_by"]:
            how = called(CONFIRMED_BY, one["confirmed_by"])
            yield (
                f"note {one['entry']}",
                say("note {entry}: {how}, {text}", entry=one["entry"], how=how, text=erased(one["text"])),
            )
    for one in recipient["pairs"]:
        if not one["revoked_by"]:
            words = say("pairing {entry}: {other}", entry=one["entry"], other=erased(one["other"]))
            yield f"pair {one['entry']}", words


def jumps(row: Row, zone: tzinfo) -> list[tuple[str, str]]:
    """Filter lines for everything of the people of this row and of their domains, with words."""
    answered = [name_of(row, one) for one in row.answers]
    people = list(dict.fromkeys(who for who in (row.address, row.sender, *answered) if who))
    domains = list(dict.fromkeys(f"@{who.rpartition('@')[2]}" for who in people if "@" in who[:-1]))
    return [
        (format_line(Filter(person=who), zone), say("All messages from and to {who}", who=who))
        for who in (*people, *domains)
    ]


def handover(given: Given) -> tuple[Handover, list[Anchor]]:
    """To whom a bundle goes and why, and the anchors that he has: ``to``, ``purpose``, ``anchor``."""
    if not given["to"] or not given["purpose"]:
        raise NotDoneError(say("Say to whom you hand it and why; both go on record."))
    return Handover(given["to"], given["purpose"]), pasted_anchors(given["anchor"])


def bundle(row: Row, given: Given, zone: tzinfo) -> Question[Attempt]:
    """Write a bundle to the new file ``file``, that who looks alone reads."""
    to, anchors = handover(given)
    if not given["file"]:
        raise NotDoneError(say("Name the file to write."))
    path = Path(given["file"]).expanduser()

    def ask(desk: Desk) -> str:
        desk.own_files("--bundle FILE", "write --bundle - > FILE")
        with NewFile(path) as file:
            octets = desk.bundle(str(row.message), row.address, to, anchors, zone, file.fill)
            file.appear()
        digest = sha256(octets).hexdigest()
        return say("{file}: {n} octets, SHA-256 {digest}", file=path, n=f"{len(octets):,}", digest=digest)

    return attempted(ask)


def bundle_command(row: Row, given: Given, which: Sequence[str]) -> str:
    """What to type for a bundle in a file of one's own, for who borrows the rights of the service user. ``which``: the options that name the settings."""
    to, anchors = handover(given)
    words = [*lent(), "kaifu", "receipts", "show", str(row.message)]
    words += ["--to", row.address] if row.address is not None else []
    words += ["--recipient", to.to, "--purpose", to.purpose]
    for anchor in anchors:
        words += ["--anchor", str(anchor)]
    return f"{shlex.join([*words, *which, '--bundle', '-'])} > {file_name(row)}"


def file_name(row: Row) -> str:
    """The name that is proposed for a bundle."""
    return f"kaifu-{row.message}-{row.recipient}.zip"


def newest_line(anchors: Sequence[Anchor]) -> str:
    """The anchor to propose; empty without one."""
    return str(max(anchors, key=lambda anchor: anchor.last)) if anchors else ""
