"""Match: what a receipt, a delivery report or a reply says about which recipient of which message of ours.

Called by :mod:`kaifu.proxy.transit` with what the ledger knows of the messages that the mail at hand cites. Gives
:class:`~kaifu.proxy.ledger.Evidence`, one piece per recipient and report, and says who asked for what a report answers.
Pure; bounded by :data:`~kaifu.proxy.match_mdn.MOST_ACKNOWLEDGED` messages per report; never raises.

Receipts, replies and reports can be written by anybody who knows a Message-ID. So each piece of evidence says in ``why``
what was checked, and how far it is believed (``grade``: :mod:`kaifu.proxy.authenticity`); and only these confirm (verdict
``matched``):

- an MDN for a recipient of the message that it names, by that very mailbox (:mod:`kaifu.proxy.match_mdn`);
- a DSN about a recipient of the message (:mod:`kaifu.proxy.match_dsn`; it moves the transport only);
- mail written by a recipient, citing the message, that no program sent by itself. What a program sent is an
  ``auto-reply`` and moves nothing; the sender's own follow-up is no evidence at all.

Whoever gets the mail of a recipient by a known alias answers for it. Somebody else who answers is an ``other-address``; one whose own
domain says that it is forged, ``failed-authentication``; somebody outside under a name of ours, ``wrong-recipient``.

Which addresses are one mailbox: :mod:`kaifu.proxy.originals`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kaifu.policies.facts import AskedBy, Kind
from kaifu.proxy.authenticity import Authenticity, Finding
from kaifu.proxy.ledger import Evidence, EvidenceKind, Grade, Known, Original, OriginalRecipient, Verdict
from kaifu.proxy.match_dsn import match_dsn
from kaifu.proxy.match_mdn import match_mdn
from kaifu.proxy.originals import (
    UNREADABLE,
    Answer,
    Carrier,
    Match,
    answers_of,
    first,
    is_of_senders,
    is_sender,
    only_recipient,
    recipients_of,
    strongest,
)
from kaifu.proxy.reports import Reports, Tie


def match_reports(reports: Reports, carrier: Carrier, known: Known) -> Match:
    """What the reports of a message say, and who asked for them."""
    evidence: list[Evidence] = []
    asked: list[AskedBy] = []
    answers: list[bool] = []
    for report in reports.reports:
        for found in (match_mdn if report.mdn else match_dsn)(report, carrier, known):
            evidence += found.evidence
            asked.append(found.asked_by)
            answers.append(found.original_known)
    if reports.too_large:
        evidence += _too_large(reports, carrier, known)
        answers.append(False)
    return Match(tuple(evidence), strongest(asked), bool(answers) and all(answers))


def match_reply(carrier: Carrier, known: Known) -> tuple[Evidence, ...]:
    """What a mail that cites messages of ours says about their recipients.

    Whoever answers without being a recipient is told once, not for every message of the thread; who writes for the
    sender's own side is not told at all.
    """
    evidence: list[Evidence] = []
    seen: set[int] = set()
    stranger: Evidence | None = None
    kind = EvidenceKind.REPLY if carrier.automatic is None else EvidenceKind.AUTO_REPLY
    for tie in carrier.cited:
        originals = known.originals.get(tie.id, ())
        if not originals or not carrier.authors or is_sender(originals, carrier.authors):
            continue
        answers = [] if carrier.impostor else answers_of(originals, carrier.authors, carrier.aliases)
        for answer in answers:
            if answer.recipient.id not in seen:
                seen.add(answer.recipient.id)
                evidence.append(_reply(kind, answer, carrier, tie))
        if not answers and stranger is None and not is_of_senders(originals, carrier.authors, carrier.aliases):
            stranger = _stranger(kind, originals, carrier, tie)
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


def _reply(kind: EvidenceKind, answer: Answer, carrier: Carrier, tie: Tie) -> Evidence:
    """An answer that counts for a recipient, unless its own domain says that it is forged."""
    proven = carrier.border.vouches_for((answer.speaker,))
    failed = proven.finding is Finding.FAILED
    asked = answer.recipient.address
    what = f"gets the mail of {asked} (aliases)" if answer.alias else "is a recipient of it"
    return _answer(
        kind, Verdict.FAILED_AUTHENTICATION if failed else Verdict.MATCHED, answer.recipient, carrier, tie,
        (f"{answer.speaker} {what}", proven.words), str(answer.speaker), proven, answer.alias,
    )  # fmt: skip


def _stranger(kind: EvidenceKind, originals: Sequence[Original], carrier: Carrier, tie: Tie) -> Evidence:
    """An answer by somebody who is no recipient; it counts for nobody until a person says whose address that is."""
    recipient = only_recipient(originals)
    if carrier.impostor:
        words = f"it calls itself {carrier.by} but came from outside"
        return _answer(kind, Verdict.WRONG_RECIPIENT, recipient, carrier, tie, (words,), carrier.by)
    proven = carrier.border.vouches_for(carrier.authors[:1])
    failed = proven.finding is Finding.FAILED
    return _answer(
        kind, Verdict.FAILED_AUTHENTICATION if failed else Verdict.OTHER_ADDRESS, recipient, carrier, tie,
        (f"{carrier.by} is no recipient of it", proven.words), carrier.by, proven,
    )  # fmt: skip


def _answer(
    kind: EvidenceKind,
    verdict: Verdict,
    recipient: OriginalRecipient | None,
    carrier: Carrier,
    tie: Tie,
    said: Sequence[str],
    by: str,
    proven: Authenticity | None = None,
    alias: bool = False,
) -> Evidence:
    words = [f"{tie.source} names our message", *said]
    if carrier.automatic is not None:
        words.append(f"no person wrote it ({carrier.automatic})")
    about = recipient.address if recipient is not None and verdict is Verdict.MATCHED else by
    details = {} if recipient is not None else {"original_message_id": tie.id}
    authenticated = proven is not None and proven.finding is Finding.AUTHENTICATED
    return Evidence(
        kind, verdict, kind.value, recipient.id if recipient else None, about, by, carrier.message_id,
        tie.source, details, None, "; ".join(words), Grade.AUTHENTICATED if authenticated else Grade.CLAIMED, alias,
    )  # fmt: skip
