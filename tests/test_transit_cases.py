"""Judgements from files: each ``transit_cases/*.yaml`` holds one policy, what the ledger knows, and small messages.

The first document of a file says ``policy``, ``realm``, ``known`` and perhaps a ``message``, whom to believe (``border: […]``) and whose
mail goes to whom (``aliases``, the text of a file) for all; every other one is a case::

    title: a sentence that says what is shown
    from: alice@example.co.jp              (<> is the null reverse-path)
    to: [bob@partner.example, {address: carol@partner.example, notify: "SUCCESS,FAILURE"}]
    message: |                             (or "file: name.eml" of fixtures/receipts)
    outside: true, dsn: false, smtputf8: true, size: 100, envid: x, known: […]     (what is special)
    expect:
      header: |                            (what all recipients get; "unchanged"; or one per delivery:)
      deliveries: [{to: […], header: …, notify: {address: "SUCCESS,FAILURE"}}]
      withheld: […], rejected: true, counts: [outbound mail], mint: true, unrecorded: a Message-ID
      record: {…}, recipients: {address: {…}}, evidence: [{…}]      (each: the fields that are named must be so)
      because: {address: a piece of the sentence}

What is not expected must not be: a case without ``record`` wants no record, without ``evidence`` none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import yaml

from kaifu.policies.facts import AskedBy, Consent, Realm
from kaifu.policies.load import load
from kaifu.proxy.address import parse_mail, parse_rcpt
from kaifu.proxy.aliases import Aliases, parse_aliases
from kaifu.proxy.edits import splice
from kaifu.proxy.envelope import Envelope, Recipient
from kaifu.proxy.judgement import Judgement
from kaifu.proxy.ledger import Evidence, Known, Original, OriginalRecipient, RequestState
from kaifu.proxy.message import HeaderBlock, split_message
from kaifu.proxy.minting import with_message_id
from kaifu.proxy.observe import needs_body, observe
from kaifu.proxy.organisation import organisational_domain
from kaifu.proxy.transit import judge, query
from kaifu.proxy.trust import Trust

HERE = Path(__file__).parent
FILES = sorted((HERE / "transit_cases").glob("*.yaml"))
RECEIPTS = HERE / "fixtures" / "receipts"
NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
MINTED = "minted@mx.example.co.jp"


@dataclass
class Case:
    """One message of a file, with what the file says about all of them."""

    common: Mapping[str, Any]
    given: Mapping[str, Any]

    @property
    def expect(self) -> Mapping[str, Any]:
        expected = self.given.get("expect") or {}
        assert isinstance(expected, Mapping)
        return expected


def _cases() -> Iterator[Any]:
    for path in FILES:
        common, *cases = yaml.safe_load_all(path.read_text())
        for number, given in enumerate(cases, 1):
            yield pytest.param(Case(common, given), id=f"{path.stem}-{number}-{given['title'][:60]}")


def _octets(text: str) -> bytes:
    return text.replace("\r\n", "\n").replace("\n", "\r\n").encode("utf-8", "surrogateescape")


def _message(case: Case) -> bytes:
    if "file" in case.given:
        raw = (RECEIPTS / str(case.given["file"])).read_bytes()
        return raw.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    return _octets(str(case.given.get("message") or case.common["message"]))


def _recipient(said: Any) -> Recipient:
    if isinstance(said, str):
        return parse_rcpt(f"<{said}>".encode())
    parameters = f" NOTIFY={said['notify']}" if "notify" in said else ""
    return parse_rcpt(f"<{said['address']}>{parameters}".encode())


def _envelope(given: Mapping[str, Any]) -> Envelope:
    sender = given["from"]
    reverse_path = parse_mail(sender.encode() if sender == "<>" else f"<{sender}>".encode())
    recipients = tuple(_recipient(said) for said in given["to"])
    return Envelope(reverse_path, recipients, given.get("smtputf8", False), given.get("envid"))


class Ledger:
    """What the ledger knows in a case, and the addresses behind its numbers."""

    def __init__(self, said: Sequence[Mapping[str, Any]], consent: Mapping[str, str]) -> None:
        self.addresses: dict[int, str] = {}
        self.originals: dict[str, tuple[Original, ...]] = {}
        self.by_envid: dict[str, tuple[Original, ...]] = {}
        self.consent = {address: Consent(value) for address, value in consent.items()}
        for number, message in enumerate(said, 1):
            self._add(number, message)

    def _add(self, number: int, said: Mapping[str, Any]) -> None:
        recipients: list[OriginalRecipient] = []
        for address, asked in said["to"].items():
            request, by, report_by = (*(asked or "kept client").split(), "nobody")[:3]
            id_ = number * 100 + len(recipients)
            self.addresses[id_] = address
            recipients.append(OriginalRecipient(id_, address, RequestState(request), AskedBy(by), AskedBy(report_by)))
        original = Original(number, said["id"], said["from"], NOW, tuple(recipients), said.get("envid"))
        self.originals[said["id"]] = (*self.originals.get(said["id"], ()), original)
        if original.envid:
            self.by_envid[original.envid] = (*self.by_envid.get(original.envid, ()), original)

    def known(self, asked: Any) -> Known:
        """Only what was asked for, as a ledger answers."""
        return Known(
            {i: self.originals[i] for i in asked.message_ids if i in self.originals},
            {i: self.by_envid[i] for i in asked.envids if i in self.by_envid},
            {a: self.consent[a] for a in asked.consent_of if a in self.consent},
        )


def _trust(case: Case, realm: Realm) -> Trust:
    entries, bad = parse_aliases(case.common.get("aliases", ""))
    assert not bad
    border = frozenset(case.given.get("border", case.common.get("border", ())))
    return Trust(border, Aliases(entries, realm), organisational_domain)


@dataclass
class Outcome:
    """What came of a case. ``ledger`` translates its numbers."""

    judgement: Judgement
    block: HeaderBlock
    ledger: Ledger


def _judge(case: Case) -> Outcome:
    given = case.given
    raw = _message(case)
    header, offset = split_message(raw)
    block, envelope = HeaderBlock.parse(header), _envelope(given)
    policy = load(given.get("policy", case.common["policy"]), "policy.yaml")
    realm = Realm(case.common["realm"])
    body = raw[offset:] if needs_body(envelope, block) else None
    seen = observe(
        envelope,
        block,
        body,
        True,
        realm=realm,
        request_headers=policy.request_headers,
        outside=given.get("outside", False),
        trust=_trust(case, realm),
    )
    ledger = Ledger(given.get("known", case.common.get("known", ())), given.get("consent", {}))
    judgement = judge(
        policy,
        seen,
        ledger.known(query(policy, seen)),
        now=NOW,
        queue_id="Q1",
        hostname="mx.example.co.jp",
        dsn=given.get("dsn", True),
        size=given.get("size"),
    )
    return Outcome(judgement, block, ledger)


@pytest.mark.parametrize("case", list(_cases()))
def test_a_message_is_judged_as_its_file_says(case: Case) -> None:
    outcome = _judge(case)
    _check_deliveries(case, outcome)
    judgement, expect = outcome.judgement, case.expect
    withheld = [str(v.recipient.mailbox) for v in judgement.withheld]
    assert withheld == expect.get("withheld", [])
    assert (judgement.rejection is not None) == expect.get("rejected", False)
    assert judgement.mint == expect.get("mint", False)
    assert judgement.unrecorded == expect.get("unrecorded")
    assert [f"{direction} {kind}" for direction, kind in judgement.counts] == expect.get("counts", [])
    _check_record(case, outcome)
    for verdict in judgement.verdicts:
        piece = expect.get("because", {}).get(str(verdict.recipient.mailbox), "")
        assert piece in verdict.reason
        assert verdict.reason.endswith(".")


def _check_deliveries(case: Case, outcome: Outcome) -> None:
    wanted = case.expect.get("deliveries")
    if wanted is None:
        everybody = [str(r.mailbox) for r in _envelope(case.given).recipients]
        header = case.expect.get("header", "unchanged")
        wanted = (
            [] if case.expect.get("withheld") or case.expect.get("rejected") else [{"to": everybody, "header": header}]
        )
    got = outcome.judgement.deliveries
    assert [[str(v.recipient.mailbox) for v in d.verdicts] for d in got] == [d["to"] for d in wanted]
    for delivery, said in zip(got, wanted, strict=True):
        header = said.get("header", "unchanged")
        octets = splice(outcome.block, with_message_id(delivery.edits, MINTED))
        expected = outcome.block.raw if header == "unchanged" else _octets(header) + b"\r\n"
        assert octets.decode("utf-8", "replace") == expected.decode("utf-8", "replace")
        changed = {str(v.recipient.mailbox): v.notify for v in delivery.verdicts if v.notify_changed}
        assert changed == {a: frozenset(n.split(",")) for a, n in said.get("notify", {}).items()}


def _check_record(case: Case, outcome: Outcome) -> None:
    expect, record = case.expect, outcome.judgement.record
    wanted = expect.get("record", {} if "recipients" in expect or "evidence" in expect else None)
    assert (record is not None) == (wanted is not None), record
    if record is None:
        return
    _agrees(record, wanted)
    rows = {recipient.address: recipient for recipient in record.recipients}
    assert set(rows) == set(expect.get("recipients", {}))
    for address, fields in expect.get("recipients", {}).items():
        _agrees(rows[address], fields or {})
    assert len(record.evidence) == len(expect.get("evidence", [])), record.evidence
    for got, fields in zip(record.evidence, expect.get("evidence", []), strict=True):
        _agrees_evidence(got, fields, outcome.ledger)


def _agrees_evidence(got: Evidence, fields: Mapping[str, Any], ledger: Ledger) -> None:
    fields = dict(fields)
    if "why" in fields:
        assert fields.pop("why") in got.why
    if fields.get("raw"):
        assert got.raw is not None
        assert fields.pop("raw").encode() in got.raw
    if "recipient" in fields:
        assert (None if got.recipient is None else ledger.addresses[got.recipient]) == fields.pop("recipient")
    if "message" in fields:
        assert got.recipient is not None
        assert got.recipient // 100 == fields.pop("message")
    for key, value in fields.pop("details", {}).items():
        assert got.details.get(key) == value
    _agrees(got, fields)


def _agrees(got: object, fields: Mapping[str, Any]) -> None:
    for name, wanted in fields.items():
        value = getattr(got, name)
        if isinstance(value, Enum):
            value = value.value
        if isinstance(value, tuple):
            value = list(value)
        assert value == wanted, f"{name} of {got}"
