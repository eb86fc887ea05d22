"""What a receipt says about the recipients of a message of ours (RFC 8098).

Called by :mod:`kaifu.proxy.match`. One piece of evidence per recipient and acknowledged message. It confirms when its
Final-Recipient (else Original-Recipient, else From) is a recipient of the message that it names, and its author is that very mailbox.
A known alias of the one is as good as the other (:mod:`kaifu.proxy.aliases`); on record as answering is then the one that was not
asked. Who had not been asked displayed the message all the same, which is said. So are the others told:

- its author speaks for a mailbox that is not the author's (a stranger, a co-recipient), or comes from outside under a name of ours:
  ``wrong-recipient``;
- its author speaks for itself, but is no recipient: ``other-address``, beneath the recipient whom its Original-Recipient names, else
  the only one;
- its Disposition is missing or does not parse: ``unreadable``;
- a mail filter refuses the message (``deleted``, never a read): it speaks for the recipients of its domain;
- the domain that it speaks for says that it is forged (:mod:`kaifu.proxy.authenticity`): ``failed-authentication``.

Pure; bounded by :data:`MOST_ACKNOWLEDGED` messages per receipt; never raises.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from kaifu.policies.facts import Mailbox
from kaifu.proxy.address import address_key, untagged
from kaifu.proxy.authenticity import Authenticity, Finding
from kaifu.proxy.ledger import Evidence, EvidenceKind, Grade, Known, Original, RequestState, Verdict
from kaifu.proxy.mdn import Mdn
from kaifu.proxy.originals import (
    MOST_SPEAKERS,
    MOST_TEXT,
    UNREADABLE,
    Answer,
    Carrier,
    Match,
    answers_of,
    asked_of,
    first,
    is_sender,
    only_recipient,
    recipients_of,
    refused_by_filter,
    same_as_any,
)
from kaifu.proxy.reports import Report, Tie

MOST_ACKNOWLEDGED = 100
"""Messages that one MDN may acknowledge (Additional-Message-IDs)."""


def match_mdn(report: Report, carrier: Carrier, known: Known) -> Iterator[Match]:
    """One match per message that an MDN acknowledges."""
    mdn = report.mdn
    assert mdn is not None, "a report is an MDN or a DSN"
    yield _acknowledged(report, mdn, report.ties, carrier, known)
    for also in mdn.also_acknowledged[: MOST_ACKNOWLEDGED - 1]:
        yield _acknowledged(report, mdn, (Tie(also, "Additional-Message-IDs"),), carrier, known)


def _acknowledged(report: Report, mdn: Mdn, ties: Sequence[Tie], carrier: Carrier, known: Known) -> Match:
    claim = _claim(mdn, carrier)
    about = str(claim.told[0]) if claim.told else _text(mdn)
    found = first(ties, known)
    if found is None:
        cited = {"original_message_id": ties[0].id} if ties else {}
        why = "it names no message that is known here" if ties else "it names no message at all"
        return Match((_receipt(report, mdn, carrier, _Judged(Verdict.UNKNOWN_MESSAGE, why), None, about, "", cited),))
    tie, originals = found
    answers = answers_of(originals, claim.speakers, carrier.aliases)
    judged = _judged(mdn, carrier, claim, originals, answers)
    concerned: Sequence[Answer | None] = answers or _beneath(mdn, originals, claim)
    return Match(
        tuple(
            _receipt(
                report, mdn, carrier, judged.for_recipient(tie, claim, answer, _remarks(mdn, carrier, answer)),
                answer, about, tie.source, {} if answer else {"original_message_id": tie.id},
            )
            for answer in concerned
        ),
        asked_of([answer.recipient for answer in answers], originals, lambda r: r.asked_by),
        True,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Claim:
    """Who answers by a receipt.

    ``told``: for whom it speaks, as the field ``source`` says. ``authors``: those of its authors who may speak for that
    mailbox, all if there is none. ``link``: why they may: it is their own, one gets the mail of the other by a known
    alias, or they are a filter of its domain; None when they may not.
    """

    source: str
    told: tuple[Mailbox, ...]
    authors: tuple[Mailbox, ...]
    link: Literal["own", "alias", "filter"] | None

    @property
    def speakers(self) -> tuple[Mailbox, ...]:
        """The mailboxes that answer."""
        return (*self.told, *self.authors) if self.link == "alias" else self.told

    @property
    def vouched(self) -> tuple[Mailbox, ...]:
        """The mailboxes whose domains have to vouch for it."""
        return self.told[:1] if self.link == "own" else (*self.told[:1], *self.authors[:1])


def _claim(mdn: Mdn, carrier: Carrier) -> _Claim:
    source, told = _told(mdn, carrier)
    authors = carrier.authors
    if not told or not authors or any(same_as_any(m, authors) for m in told):
        return _Claim(source, told, authors, "own")
    if refused_by_filter(mdn, carrier.rejected) and _of_their_domain(told[0], authors):
        return _Claim(source, told, authors, "filter")
    linked = tuple(a for a in authors[:MOST_SPEAKERS] if any(carrier.aliases.either(m.key, a.key) for m in told))
    return _Claim(source, told, linked or authors, "alias" if linked else None)


def _told(mdn: Mdn, carrier: Carrier) -> tuple[str, tuple[Mailbox, ...]]:
    """Whom the receipt speaks for, and which field says so."""
    final, original = mdn.final_recipient, mdn.original_recipient
    if final is not None and final.mailbox is not None and final.mailbox.domain:
        return "Final-Recipient", (final.mailbox,)
    if original is not None and (boxes := tuple(m for m in original.mailboxes if m.domain)):
        speaking = tuple(m for m in boxes if same_as_any(m, carrier.authors))
        return "Original-Recipient", speaking or boxes[:1]
    return "From", carrier.authors[:1]


@dataclass(frozen=True, slots=True)
class _Judged:
    """A verdict, why, how far it is believed, and whether an alias was needed."""

    verdict: Verdict
    why: str
    grade: Grade = Grade.CLAIMED
    alias: bool = False

    def for_recipient(self, tie: Tie, claim: _Claim, answer: Answer | None, remarks: str) -> _Judged:
        """The same in the words for one recipient."""
        words = ""
        if answer is not None and answer.alias:
            words = f"{answer.speaker} gets the mail of {answer.recipient.address} (aliases); "
        elif claim.link == "alias":
            words = f"{claim.authors[0]} and {claim.told[0]} are one by a known alias; "
        return replace(self, why=f"{tie.source} names our message; {words}{self.why}{remarks}", alias=bool(words))


def _judged(
    mdn: Mdn, carrier: Carrier, claim: _Claim, originals: Sequence[Original], answers: Sequence[Answer]
) -> _Judged:
    source, told, author = claim.source, claim.told, carrier.by or "nobody"
    if mdn.disposition is None:
        return _Judged(Verdict.UNREADABLE, "its Disposition cannot be read")
    if not told:
        return _Judged(Verdict.WRONG_RECIPIENT, "it does not say who received the message")
    if carrier.impostor:
        return _Judged(Verdict.WRONG_RECIPIENT, f"it calls itself {author} but came from outside")
    if claim.link is None:
        return _Judged(Verdict.WRONG_RECIPIENT, f"{author} speaks for {told[0]}")
    if not answers and is_sender(originals, told):
        return _Judged(Verdict.WRONG_RECIPIENT, f"{source} {told[0]} sent it and is no recipient of it")
    proven = carrier.border.vouches_for(claim.vouched)
    if not answers:
        return _believed(Verdict.OTHER_ADDRESS, f"{source} {told[0]} is no recipient of it; {proven.words}", proven)
    both = source != "From" and carrier.authors and claim.link == "own"
    named = f"{source} and From name its recipient" if both else f"{source} names its recipient"
    if claim.link == "filter":
        named += f", {author} is of that domain"
    return _believed(Verdict.MATCHED, f"{named}; {proven.words}", proven)


def _believed(verdict: Verdict, why: str, proven: Authenticity) -> _Judged:
    """A verdict after what the border found out."""
    if proven.finding is Finding.FAILED:
        return _Judged(Verdict.FAILED_AUTHENTICATION, why)
    authenticated = proven.finding is Finding.AUTHENTICATED
    return _Judged(verdict, why, Grade.AUTHENTICATED if authenticated else Grade.CLAIMED)


def _beneath(mdn: Mdn, originals: Sequence[Original], claim: _Claim) -> Sequence[Answer | None]:
    """Beneath whom an answer of another address is shown: whom it says we asked, else the only recipient."""
    original = mdn.original_recipient
    asked = recipients_of(originals, original.mailboxes) if original is not None else []
    recipient = asked[0] if asked else only_recipient(originals)
    return [Answer(recipient, claim.told[0]) if recipient is not None and claim.told else None]


def _remarks(mdn: Mdn, carrier: Carrier, answer: Answer | None) -> str:
    words = ""
    if refused_by_filter(mdn, carrier.rejected):
        words += "; a filter refused the message, nobody read it"
    if answer is not None and answer.recipient.request in (RequestState.NONE, RequestState.STRIPPED):
        words += "; no receipt had been asked for"
    return words


def _of_their_domain(mailbox: Mailbox, authors: Sequence[Mailbox]) -> bool:
    """A filter speaks for all mailboxes of its domain, under an address of that domain or of a host in it."""
    domain = mailbox.domain_key
    return any(f".{author.domain_key}".endswith(f".{domain}") for author in authors)


def _receipt(
    report: Report,
    mdn: Mdn,
    carrier: Carrier,
    judged: _Judged,
    answer: Answer | None,
    about: str,
    tie: str,
    more: dict[str, str],
) -> Evidence:
    disposition = mdn.disposition
    told = {
        "reporting_ua": mdn.reporting_ua,
        "action_mode": disposition.action_mode if disposition else None,
        "sending_mode": disposition.sending_mode if disposition else None,
        "modifiers": ", ".join(disposition.modifiers) if disposition else None,
        "disposition": None if disposition else mdn.disposition_text,
        "gateway": mdn.gateway,
        "error": "; ".join(mdn.error),
        "failure": "; ".join(mdn.failure),
        "warning": "; ".join(mdn.warning),
        "refused_by_filter": "yes" if refused_by_filter(mdn, carrier.rejected) else None,
    }
    return Evidence(
        EvidenceKind.MDN,
        judged.verdict,
        disposition.type if disposition else UNREADABLE,
        answer.recipient.id if answer else None,
        about,
        about if judged.alias and _wrote_it(answer, carrier) else carrier.by or about,
        carrier.message_id,
        tie,
        {key: text[:MOST_TEXT] for key, text in told.items() if text} | more,
        report.excerpt(),
        judged.why,
        judged.grade,
        judged.alias,
    )


def _wrote_it(answer: Answer | None, carrier: Carrier) -> bool:
    """Did the asked address itself write it? Then who answered by an alias is whom the receipt speaks for."""
    if answer is None or not answer.recipient.address:
        return False
    asked = untagged(address_key(answer.recipient.address))
    return any(untagged(author.key) == asked for author in carrier.authors[:1])


def _text(mdn: Mdn) -> str:
    """What the receipt calls its recipient, though it is no mail address."""
    told = mdn.final_recipient or mdn.original_recipient
    return told.address[:MOST_TEXT] if told else ""
