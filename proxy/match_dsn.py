"""What a delivery report says about the recipients of a message of ours (RFC 3464).

Called by :mod:`kaifu.proxy.match`. Each recipient in the report gives one piece of evidence; it moves the transport only. A
report about somebody else's message gives none. Pure; never raises.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kaifu.policies.facts import AskedBy
from kaifu.proxy.dsn import SUCCESS, Dsn, DsnRecipient
from kaifu.proxy.ledger import Evidence, EvidenceKind, Known, Original, OriginalRecipient, Verdict
from kaifu.proxy.originals import (
    MOST_TEXT,
    UNREADABLE,
    Carrier,
    Match,
    asked_of,
    first,
    only_recipient,
    recipients_of,
    strongest,
)
from kaifu.proxy.reports import Report, Tie


def match_dsn(report: Report, carrier: Carrier, known: Known) -> Iterator[Match]:
    """One match for a DSN: of each of its recipients one piece of evidence. Nothing about messages of others."""
    dsn = report.dsn
    assert dsn is not None, "a report is an MDN or a DSN"
    found = _first_of_dsn(dsn, report.ties, known)
    if found is None:
        yield Match()
        return
    tie, originals = found
    evidence: list[Evidence] = []
    asked: list[AskedBy] = []
    for told in dsn.recipients:
        recipients = _dsn_recipients(originals, told)
        asked.append(asked_of(recipients, originals, lambda r: r.report_asked_by))
        concerned: Sequence[OriginalRecipient | None] = recipients or [only_recipient(originals)]
        evidence += [_delivery(report, dsn, told, carrier, tie, r, bool(recipients)) for r in concerned]
    yield Match(tuple(evidence), strongest(asked), True)


def _first_of_dsn(dsn: Dsn, ties: Sequence[Tie], known: Known) -> tuple[Tie, tuple[Original, ...]] | None:
    """The original: by what is returned of it, else by its envelope id, else by what the header cites."""
    own = [tie for tie in ties if tie.source not in ("In-Reply-To", "References")]
    by_envid = known.by_envid.get(dsn.original_envelope_id or "", ())
    if (found := first(own, known)) is not None:
        return found
    if by_envid:
        return Tie(by_envid[0].message_id, "Original-Envelope-Id"), tuple(by_envid)
    return first(ties, known)


def _dsn_recipients(originals: Sequence[Original], told: DsnRecipient) -> list[OriginalRecipient]:
    """By the address that we used (ORCPT), else by the one it ended at."""
    for address in (told.original_recipient, told.final_recipient):
        found = recipients_of(originals, address.mailboxes) if address is not None else []
        if found:
            return found
    return []


def _delivery(
    report: Report,
    dsn: Dsn,
    told: DsnRecipient,
    carrier: Carrier,
    tie: Tie,
    recipient: OriginalRecipient | None,
    matched: bool,
) -> Evidence:
    value = told.result
    address = told.address or "nobody"
    if value is None:
        verdict, why = Verdict.UNREADABLE, f"what became of {address} cannot be read"
    elif value in SUCCESS and told.doubt is not None:
        verdict, why = Verdict.UNREADABLE, told.doubt
    elif matched:
        verdict, why = Verdict.MATCHED, "it reports on a recipient of it; who wrote it is not proven"
    else:
        verdict, why = Verdict.WRONG_RECIPIENT, f"{address} is no recipient of it"
    details = {
        "status": told.status,
        "diagnostic": told.diagnostic_code,
        "remote_mta": told.remote_mta,
        "last_attempt": told.last_attempt_date,
        "retry_until": told.will_retry_until,
        "original_message_id": None if recipient else tie.id,
    }
    return Evidence(
        EvidenceKind.DSN,
        verdict,
        value or UNREADABLE,
        recipient.id if recipient else None,
        told.address or "",
        dsn.reporting_mta or carrier.by,
        carrier.message_id,
        tie.source,
        {key: text[:MOST_TEXT] for key, text in details.items() if text},
        report.excerpt(told),
        f"{tie.source} names our message; {why}",
    )
