"""Real messages through the judgement: nothing fails, and only what the policy names changes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kaifu.policies.facts import AskedBy, Kind, Realm
from kaifu.policies.load import load
from kaifu.policies.rules import Policy
from kaifu.proxy.address import parse_mail, parse_rcpt
from kaifu.proxy.edits import splice
from kaifu.proxy.envelope import Envelope
from kaifu.proxy.judgement import Action, Judgement
from kaifu.proxy.ledger import Known, Original, OriginalRecipient, RequestState, Verdict
from kaifu.proxy.message import HeaderBlock, split_message
from kaifu.proxy.minting import with_message_id
from kaifu.proxy.observe import Observation, observe
from kaifu.proxy.reports import PREFIX
from kaifu.proxy.requests import request_fields
from kaifu.proxy.transit import judge

NOW = datetime(2026, 11, 21, tzinfo=UTC)
REALM = Realm(["example.co.jp"])
ENVELOPES = {
    "outbound": Envelope(parse_mail(b"<sender@example.co.jp>"), (parse_rcpt(b"<reader@partner.example>"),)),
    "null": Envelope(parse_mail(b"<>"), (parse_rcpt(b"<reader@example.co.jp>"),)),
}


def _policy(then: str) -> Policy:
    return load(f"version: 1\nrules:\n- {{name: all, when: {{kind: [mail, mdn, dsn]}}, then: {then}}}\n", "p.yaml")


KEEP = _policy("{request: keep}")
ADD = _policy("{request: add, notify: sender, delivery_report: add, suppress: both}")
STRIP = _policy("{request: strip, delivery_report: strip}")
WITHHOLD = _policy("{receipt: withhold}")


def _seen(raw: bytes, envelope: Envelope) -> Observation:
    header, offset = split_message(raw)
    body = raw[offset : offset + PREFIX]
    return observe(envelope, HeaderBlock.parse(header), body, len(raw) - offset <= PREFIX, realm=REALM)


def _judged(policy: Policy, seen: Observation, known: Known | None = None) -> Judgement:
    return judge(policy, seen, known or Known(), now=NOW, queue_id="Q", hostname="mx", dsn=True)


def _messages(corpus: Path) -> Iterator[tuple[Path, bytes]]:
    for path in sorted(corpus.glob("*/*.eml")):
        yield path, re.sub(rb"(?<!\r)\n", b"\r\n", path.read_bytes())


def _others(block: HeaderBlock, named: set[str]) -> list[bytes]:
    """The fields that no edit names; one that was cut off at the end of the file may have been ended."""
    return [field.raw.rstrip(b"\r\n") for field in block.fields if field.key not in named]


@pytest.mark.parametrize("envelope", ENVELOPES.values(), ids=ENVELOPES)
def test_real_messages_change_by_what_the_policy_names_only(corpus: Path, envelope: Envelope) -> None:
    count = 0
    for path, raw in _messages(corpus):
        count += 1
        seen = _seen(raw, envelope)
        assert [d.edits for d in _judged(KEEP, seen).deliveries] == [()], path
        for policy in (ADD, STRIP):
            (delivery,) = _judged(policy, seen).deliveries
            after = HeaderBlock.parse(splice(seen.block, with_message_id(delivery.edits, "minted@mx")))
            named = {edit.name.lower() for edit in delivery.edits}
            assert _others(after, named) == _others(seen.block, named), path
            if policy is STRIP:
                assert request_fields(after) == (), path
            elif seen.message.kind is Kind.MAIL and envelope.reverse_path.mailbox is not None:
                asked = not (seen.message.auto_submitted or seen.message.list_mail)
                assert after.count("disposition-notification-to") <= 1 or not asked, path
    assert count > 150


def test_no_real_mail_is_withheld_but_receipts_and_success(corpus: Path) -> None:
    withheld = set()
    for path, raw in _messages(corpus):
        seen = _seen(raw, ENVELOPES["null"])
        (verdict,) = _judged(WITHHOLD, seen).verdicts
        if verdict.action is Action.WITHHOLD:
            results = {r.result for report in seen.reports.dsns if report.dsn for r in report.dsn.recipients}
            assert results <= {"delivered", "relayed", "expanded"}, path
            withheld.add(path.name)
    assert withheld
    assert not any(name.startswith(("set-of-emails__lhost", "set-of-emails__rhost")) for name in withheld)


def test_real_receipts_find_the_message_that_they_name(corpus: Path) -> None:
    """Every receipt that names an original and is by its own author becomes evidence about that author."""
    matched = 0
    for path, raw in _messages(corpus):
        seen = _seen(raw, ENVELOPES["null"])
        for report in seen.reports.mdns:
            if path.parent.name != "mdn" or not report.ties or not seen.carrier.authors:
                continue
            address = str(seen.carrier.authors[0])
            row = OriginalRecipient(1, address, RequestState.ADDED, AskedBy.POLICY, AskedBy.NOBODY)
            original = Original(1, report.ties[0].id, "sender@example.co.jp", NOW, (row,))
            judgement = _judged(KEEP, seen, Known({report.ties[0].id: (original,)}))
            assert judgement.record is not None, path
            verdicts = {e.verdict for e in judgement.record.evidence}
            assert verdicts <= {Verdict.MATCHED, Verdict.UNREADABLE, Verdict.WRONG_RECIPIENT}, path
            matched += Verdict.MATCHED in verdicts
    assert matched >= 6
