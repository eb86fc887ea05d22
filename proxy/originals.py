"""Originals: which recorded recipient does an address mean, and who asked for what comes back from there?

What :mod:`kaifu.proxy.match` and :mod:`kaifu.proxy.match_dsn` share. Addresses are compared as people do (:attr:`Mailbox.key`); a subaddress
(``name+tag@domain``, RFC 5233) and the address without its tag are one mailbox. Whoever gets the mail of an asked address by a known
alias (:mod:`kaifu.proxy.aliases`) answers for it, but not the other way round. Pure; never raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import field

from kaifu.policies.facts import AskedBy, Mailbox
from kaifu.policies.values import unchanging
from kaifu.proxy.address import address_key, untagged
from kaifu.proxy.aliases import NO_ALIASES, Aliases
from kaifu.proxy.authenticity import Border
from kaifu.proxy.ledger import Evidence, Known, Original, OriginalRecipient
from kaifu.proxy.mdn import Mdn
from kaifu.proxy.reports import Tie


@unchanging
class Carrier:
    """The message that carries the evidence, as far as matching looks at it.

    ``authors``: the From mailboxes, else the reverse-path. ``cited``: In-Reply-To, then References, nearest first.
    ``automatic``: why no person wrote it, in words, else None. ``rejected``: Auto-Submitted says that a filter refused
    the message that it answers. ``impostor``: it came from outside under a name of ours. ``border``: what the mail server
    at the border found out about it. ``aliases``: whose mail goes to whom.
    """

    message_id: str | None = None
    authors: tuple[Mailbox, ...] = ()
    cited: tuple[Tie, ...] = ()
    automatic: str | None = None
    rejected: bool = False
    impostor: bool = False
    border: Border = field(default_factory=Border)
    aliases: Aliases = NO_ALIASES

    @property
    def by(self) -> str:
        """Who speaks, as text."""
        return str(self.authors[0]) if self.authors else ""


@unchanging
class Answer:
    """A recorded recipient, and the mailbox that answers for it. ``alias``: it is not the recipient's own, but gets its mail."""

    recipient: OriginalRecipient
    speaker: Mailbox
    alias: bool = False


@unchanging
class Match:
    """``asked_by`` and ``original_known`` are about reports: every message that they answer is known, and who asked."""

    evidence: tuple[Evidence, ...] = ()
    asked_by: AskedBy = AskedBy.NOBODY
    original_known: bool = False


NO_MATCH = Match()


def first(ties: Iterable[Tie], known: Known) -> tuple[Tie, tuple[Original, ...]] | None:
    """The best candidate that the ledger knows."""
    for tie in ties:
        originals = known.originals.get(tie.id)
        if originals:
            return tie, tuple(originals)
    return None


def recipients_of(originals: Sequence[Original], told: Iterable[Mailbox]) -> list[OriginalRecipient]:
    """The recorded recipients that some mailboxes are; by tag only where that leaves one address."""
    keys = {mailbox.key for mailbox in told if mailbox.domain}
    if not keys:
        return []
    all_of_them = [(address_key(r.address), r) for o in originals for r in o.recipients if r.address]
    exact = [r for key, r in all_of_them if key in keys]
    if exact:
        return exact
    plain = {untagged(key) for key in keys}
    near = {key for key, _ in all_of_them if untagged(key) in plain}
    return [r for key, r in all_of_them if key in near] if len(near) == 1 else []


def answers_of(originals: Sequence[Original], speakers: Sequence[Mailbox], aliases: Aliases) -> list[Answer]:
    """The recorded recipients for whom some mailboxes answer: their own first, then those whose mail they get."""
    own = recipients_of(originals, speakers)
    answers = [Answer(r, _speaker_of(r, speakers)) for r in own]
    if len(aliases):
        done = {r.id for r in own}
        others = [r for o in originals for r in o.recipients if r.address and r.id not in done]
        answers += [
            Answer(r, speaker, alias=True)
            for r in others
            for speaker in speakers[:MOST_SPEAKERS]
            if aliases.reaches(address_key(r.address), speaker.key)
        ]
    return answers


def _speaker_of(recipient: OriginalRecipient, speakers: Sequence[Mailbox]) -> Mailbox:
    plain = untagged(address_key(recipient.address))
    return next(speaker for speaker in speakers if untagged(speaker.key) == plain)


def only_recipient(originals: Sequence[Original]) -> OriginalRecipient | None:
    """The only recipient of a message, None when there are several."""
    recipients = [r for o in originals for r in o.recipients]
    return recipients[0] if recipients and len({address_key(r.address) for r in recipients}) == 1 else None


def is_sender(originals: Sequence[Original], authors: Sequence[Mailbox]) -> bool:
    """Did one of the authors send the original?"""
    return any(
        untagged(address_key(o.sender)) == untagged(author.key) for o in originals if o.sender for author in authors
    )


def is_of_senders(originals: Sequence[Original], authors: Sequence[Mailbox], aliases: Aliases) -> bool:
    """Does one of the authors get the sender's mail, or the sender theirs, so that they write for the same side?"""
    return any(
        aliases.either(address_key(o.sender), a.key) for o in originals if o.sender for a in authors[:MOST_SPEAKERS]
    )


def same_as_any(mailbox: Mailbox, others: Iterable[Mailbox]) -> bool:
    """Is a mailbox one of the others?"""
    return any(untagged(mailbox.key) == untagged(other.key) for other in others)


def refused_by_filter(mdn: Mdn, rejected: bool) -> bool:
    """Is this a rejection in the clothes of a receipt, as Sieve implementations send it?

    ``rejected``: Auto-Submitted says so.
    """
    disposition = mdn.disposition
    return (
        rejected
        and disposition is not None
        and disposition.type == "deleted"
        and disposition.sending_mode == "mdn-sent-automatically"
    )


MOST_SPEAKERS = 10
"""Authors of one message whose aliases are looked at."""

MOST_TEXT = 500
"""Characters that are kept of a diagnostic or of a reporting program's words."""

UNREADABLE = "unreadable"
"""The value of evidence whose Disposition or Action cannot be read."""


def asked_of(
    recipients: Sequence[OriginalRecipient],
    originals: Sequence[Original],
    who: Callable[[OriginalRecipient], AskedBy],
) -> AskedBy:
    """Who asked for what is answered: of the recipients concerned, else of all, because somebody answers for them."""
    return strongest(map(who, recipients or [r for o in originals for r in o.recipients]))


_WEIGHT = {AskedBy.NOBODY: 0, AskedBy.POLICY: 1, AskedBy.CLIENT: 2}


def strongest(asked: Iterable[AskedBy]) -> AskedBy:
    """The client if any is."""
    return max(asked, key=_WEIGHT.__getitem__, default=AskedBy.NOBODY)
