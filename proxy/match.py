"""Match: what a receipt, a delivery report or a reply says about which recipient of which message of ours.

Called by :mod:`kaifu.proxy.transit` with what the ledger knows of the messages that the mail at hand cites. Gives
:class:`~kaifu.proxy.ledger.Evidence`, one piece per recipient and report, and says who asked for what a report answers.
Pure; bounded by :data:`MOST_ACKNOWLEDGED` messages per report; never raises.

Everything here is a claim: receipts, replies and reports can be written by anybody who knows a Message-ID. So each piece of
evidence says in ``why`` what was checked, and only these confirm (verdict ``matched``):

- an MDN whose Final-Recipient (else Original-Recipient, else From) is a recipient of the message that it names, and whose
  author is that very mailbox. Another author (a stranger, a co-recipient, an alias that is not known, somebody outside
  under a name of ours) is ``wrong-recipient``;
  a Disposition that is missing or does not parse is ``unreadable``. That nobody had asked is said, and changes nothing: the
  message was displayed all the same;
- a rejection by a mail filter (``deleted``, never a read), which speaks for the recipients of its domain;
- a DSN about a recipient of the message (it moves the transport only);
- mail written by a recipient, citing the message, that no program sent by itself. What a program sent is an
  ``auto-reply`` and moves nothing; the sender's own follow-up is no evidence at all.

Which addresses are one mailbox: :mod:`kaifu.proxy.originals`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kaifu.policies.facts import AskedBy, Kind, Mailbox
from kaifu.proxy.ledger import Evidence, EvidenceKind, Known, Original, OriginalRecipient, RequestState, Verdict
from kaifu.proxy.match_dsn import match_dsn
from kaifu.proxy.mdn import Mdn
from kaifu.proxy.originals import (
    MOST_TEXT,
    UNREADABLE,
    Carrier,
    Match,
    asked_of,
    first,
    is_sender,
    only_recipient,
    recipients_of,
    refused_by_filter,
    same_as_any,
    strongest,
)
from kaifu.proxy.reports import Report, Reports, Tie

MOST_ACKNOWLEDGED = 100
"""Messages that one MDN may acknowledge (Additional-Message-IDs)."""


def match_reports(reports: Reports, carrier: Carrier, known: Known) -> Match:
    """What the reports of a message say, and who asked for them."""
    evidence: list[Evidence] = []
    asked: list[AskedBy] = []
    answers: list[bool] = []
    for report in reports.reports:
        for found in _mdn(report, report.mdn, carrier, known) if report.mdn else match_dsn(report, carrier, known):
            evidence += found.evidence
            asked.append(found.asked_by)
            answers.append(found.original_known)
    if reports.too_large:
        evidence += _too_large(reports, carrier, known)
        answers.append(False)
    return Match(tuple(evidence), strongest(asked), bool(answers) and all(answers))


def match_reply(carrier: Carrier, known: Known) -> tuple[Evidence, ...]:
    """What a mail that cites messages of ours says about their recipients.

    Whoever answers without being a recipient is told once, not for every message of the thread.
    """
    evidence: list[Evidence] = []
    seen: set[int] = set()
    stranger: Evidence | None = None
    kind = EvidenceKind.REPLY if carrier.automatic is None else EvidenceKind.AUTO_REPLY
    for tie in carrier.cited:
        originals = known.originals.get(tie.id, ())
        if not originals or not carrier.authors or is_sender(originals, carrier.authors):
            continue
        answering = [] if carrier.impostor else recipients_of(originals, carrier.authors)
        for recipient in answering:
            if recipient.id not in seen:
                seen.add(recipient.id)
                evidence.append(_answer(kind, Verdict.MATCHED, recipient, carrier, tie))
        if not answering and stranger is None:
            stranger = _answer(kind, Verdict.WRONG_RECIPIENT, only_recipient(originals), carrier, tie)
    if not evidence and stranger is not None:
        return (stranger,)
    return tuple(evidence)


def match_suspected(form: str, ties: Sequence[Tie], carrier: Carrier, known: Known) -> tuple[Evidence, ...]:
    """What a suspected receipt may be about; never a confirmation.

    Nothing when it cites no message of ours and may well have been written by a person.
    """
    found = first(ties, known)
    looks = f"it is no receipt of RFC 8098, only looks like one: {form}"
    if found is None:
        if carrier.automatic is None:
            return ()
        return (
            Evidence(
                EvidenceKind.SUSPECTED, Verdict.SUSPECTED, form, None, carrier.by, carrier.by, carrier.message_id,
                why=f"{looks}; it names no message that is known here",
            ),
        )  # fmt: skip
    tie, originals = found
    recipients: Sequence[OriginalRecipient | None] = recipients_of(originals, carrier.authors) or [
        only_recipient(originals)
    ]
    why = f"{tie.source} names our message; {looks}"
    return tuple(
        Evidence(
            EvidenceKind.SUSPECTED, Verdict.SUSPECTED, form, r.id if r else None, carrier.by, carrier.by,
            carrier.message_id, tie.source, {} if r else {"original_message_id": tie.id}, None, why,
        )
        for r in recipients
    )  # fmt: skip


# --- receipts ---------------------------------------------------------------------------------------------------


def _mdn(report: Report, mdn: Mdn, carrier: Carrier, known: Known) -> Iterator[Match]:
    """One match per message that an MDN acknowledges."""
    yield _acknowledged(report, mdn, report.ties, carrier, known)
    for also in mdn.also_acknowledged[: MOST_ACKNOWLEDGED - 1]:
        yield _acknowledged(report, mdn, (Tie(also, "Additional-Message-IDs"),), carrier, known)


def _acknowledged(report: Report, mdn: Mdn, ties: Sequence[Tie], carrier: Carrier, known: Known) -> Match:
    source, told = _told(mdn, carrier)
    about = str(told[0]) if told else _text(mdn)
    found = first(ties, known)
    if found is None:
        cited = {"original_message_id": ties[0].id} if ties else {}
        why = "it names no message that is known here" if ties else "it names no message at all"
        unknown = _receipt(report, mdn, carrier, Verdict.UNKNOWN_MESSAGE, None, about, "", why, cited)
        return Match((unknown,))
    tie, originals = found
    recipients = recipients_of(originals, told)
    asked = asked_of(recipients, originals, lambda r: r.asked_by)
    verdict, why = _verdict(mdn, carrier, recipients, source, told)
    why = f"{tie.source} names our message; {why}"
    concerned: Sequence[OriginalRecipient | None] = recipients or _beneath(mdn, originals)
    return Match(
        tuple(
            _receipt(
                report, mdn, carrier, verdict, r.id if r else None, about, tie.source, why + _remarks(mdn, carrier, r),
                {} if r else {"original_message_id": tie.id},
            )
            for r in concerned
        ),
        asked,
        True,
    )  # fmt: skip


def _told(mdn: Mdn, carrier: Carrier) -> tuple[str, tuple[Mailbox, ...]]:
    """Whom the receipt speaks for, and which field says so."""
    final, original = mdn.final_recipient, mdn.original_recipient
    if final is not None and final.mailbox is not None and final.mailbox.domain:
        return "Final-Recipient", (final.mailbox,)
    if original is not None and (boxes := tuple(m for m in original.mailboxes if m.domain)):
        speaking = tuple(m for m in boxes if same_as_any(m, carrier.authors))
        return "Original-Recipient", speaking or boxes[:1]
    return "From", carrier.authors[:1]


def _verdict(
    mdn: Mdn, carrier: Carrier, recipients: Sequence[OriginalRecipient], source: str, told: Sequence[Mailbox]
) -> tuple[Verdict, str]:
    author = carrier.by or "nobody"
    if mdn.disposition is None:
        return Verdict.UNREADABLE, "its Disposition cannot be read"
    if not told:
        return Verdict.WRONG_RECIPIENT, "it does not say who received the message"
    if not recipients:
        return Verdict.WRONG_RECIPIENT, f"{source} {told[0]} is no recipient of it"
    if carrier.impostor:
        return Verdict.WRONG_RECIPIENT, f"it calls itself {author} but came from outside"
    if refused_by_filter(mdn, carrier.rejected) and _of_their_domain(told[0], carrier.authors):
        return Verdict.MATCHED, f"{source} names its recipient, {author} is of that domain; who wrote it is not proven"
    if carrier.authors and not any(same_as_any(m, carrier.authors) for m in told):
        return Verdict.WRONG_RECIPIENT, f"{author} speaks for {told[0]}"
    checked = "From" if source == "From" or not carrier.authors else f"{source} and From"
    return (
        Verdict.MATCHED,
        f"{checked} name{'' if ' and ' in checked else 's'} its recipient; who wrote it is not proven",
    )


def _beneath(mdn: Mdn, originals: Sequence[Original]) -> Sequence[OriginalRecipient | None]:
    """Beneath whom an answer of another address is shown: whom it says we asked, else the only recipient."""
    original = mdn.original_recipient
    asked = recipients_of(originals, original.mailboxes) if original is not None else []
    return asked[:1] or [only_recipient(originals)]


def _remarks(mdn: Mdn, carrier: Carrier, recipient: OriginalRecipient | None) -> str:
    words = ""
    if refused_by_filter(mdn, carrier.rejected):
        words += "; a filter refused the message, nobody read it"
    if recipient is not None and recipient.request in (RequestState.NONE, RequestState.STRIPPED):
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
    verdict: Verdict,
    recipient: int | None,
    about: str,
    tie: str,
    why: str,
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
    value = disposition.type if disposition else UNREADABLE
    details = {key: text[:MOST_TEXT] for key, text in told.items() if text} | more
    return Evidence(
        EvidenceKind.MDN, verdict, value, recipient, about, carrier.by or about, carrier.message_id, tie, details,
        report.excerpt(), why,
    )  # fmt: skip


def _text(mdn: Mdn) -> str:
    """What the receipt calls its recipient, though it is no mail address."""
    told = mdn.final_recipient or mdn.original_recipient
    return told.address[:MOST_TEXT] if told else ""


def _too_large(reports: Reports, carrier: Carrier, known: Known) -> Iterator[Evidence]:
    """A report that does not end within what was read. Of a DSN only if it cites a message of ours."""
    found = first(carrier.cited, known)
    kind = EvidenceKind.MDN if reports.kind is Kind.MDN else EvidenceKind.DSN
    if found is None and kind is EvidenceKind.DSN:
        return
    tie, originals = found or (None, ())
    recipients = recipients_of(originals, carrier.authors)
    yield Evidence(
        kind, Verdict.UNREADABLE, UNREADABLE, recipients[0].id if recipients else None, carrier.by, carrier.by,
        carrier.message_id, tie.source if tie else "", why="the report is too large to read",
    )  # fmt: skip


# --- replies ----------------------------------------------------------------------------------------------------


def _answer(
    kind: EvidenceKind, verdict: Verdict, recipient: OriginalRecipient | None, carrier: Carrier, tie: Tie
) -> Evidence:
    words = [f"{tie.source} names our message"]
    if verdict is Verdict.MATCHED:
        words.append(f"{carrier.by} is a recipient of it; who wrote it is not proven")
    elif carrier.impostor:
        words.append(f"it calls itself {carrier.by} but came from outside")
    else:
        words.append(f"{carrier.by} is no recipient of it")
    if carrier.automatic is not None:
        words.append(f"no person wrote it ({carrier.automatic})")
    about = recipient.address if recipient is not None and verdict is Verdict.MATCHED else carrier.by
    details = {} if recipient is not None else {"original_message_id": tie.id}
    return Evidence(
        kind, verdict, kind.value, recipient.id if recipient else None, about, carrier.by, carrier.message_id,
        tie.source, details, None, "; ".join(words),
    )  # fmt: skip
