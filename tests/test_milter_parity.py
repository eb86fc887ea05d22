"""Relay and milter are one: the same message under the same policy gets the same decisions and the same header.

On one side the installed ``kaifu milter``, driven over its socket by an MTA of our own that applies what it is told; on the
other the octets that the relay would send. Where recipients differ and the relay would split the message, the milter
gives all of them the strictest header; that order is tested in test_milter_mixed.py.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.milter_client import Mail, Mta, Result, unfolded
from tests.milter_process import Milter
from tests.session_next_hop import NextHop
from tests.session_relay import Relay, client
from tests.test_transit_properties import MESSAGES, envelopes

from kaifu.policies.facts import Realm
from kaifu.policies.load import load
from kaifu.policies.rules import Policy
from kaifu.proxy.address import parse_mail, parse_rcpt
from kaifu.proxy.datastream import stuff
from kaifu.proxy.delivery import mail_command, rcpt_command
from kaifu.proxy.edits import splice
from kaifu.proxy.envelope import Envelope
from kaifu.proxy.judgement import Judgement
from kaifu.proxy.ledger import Known, Query
from kaifu.proxy.ledger_file import Store
from kaifu.proxy.ledger_look import look
from kaifu.proxy.message import HeaderBlock, split_message
from kaifu.proxy.minting import with_message_id
from kaifu.proxy.observe import needs_body, observe
from kaifu.proxy.transit import judge, query

REALM = ["example.co.jp", "example.com", ".example.org"]
EXAMPLES = sorted((Path(__file__).parent.parent / "policies" / "examples").glob("*.yaml"))
EVERYTHING = """
version: 1
request_headers: [X-Ask-Me]
rules:
  - {name: works refuse, when: {kind: [mdn, dsn], to: [works@example.co.jp, b@example.co.jp]}, then: {receipt: reject}}
  - {name: reports, when: {kind: [mdn, dsn], direction: inbound}, then: {receipt: withhold}}
  - {name: replies, when: {header: {In-Reply-To: "*"}}, then: {suppress: read, record: no-subject}}
  - {name: our own mail, when: {direction: outbound, to: "@partner.example"},
     then: {request: add, delivery_report: add, notify: receipts@example.co.jp}}
  - {name: inside, when: {direction: internal}, then: {request: add, delivery_report: strip}}
  - {name: theirs, when: {direction: [inbound, transit]}, then: {request: strip, delivery_report: strip, suppress: not-read}}
"""
ADDING = "version: 1\nrules: [{name: all, when: {kind: mail}, then: {request: add}}]\n"
STRIPPING = (
    "version: 1\nrules: [{name: all, when: {kind: mail}, then: {request: strip, suppress: both, record: none}}]\n"
)
POLICIES = {path.stem: path.read_text() for path in EXAMPLES}
POLICIES |= {"everything": EVERYTHING, "adding": ADDING, "stripping": STRIPPING}

ENVELOPES: dict[str, tuple[bytes, tuple[bytes, ...]]] = {
    "out": (
        b"<legal@example.com> RET=HDRS ENVID=QQ314159",
        (b"<a@partner.example> NOTIFY=FAILURE", b"<b@partner.example>"),
    ),
    "in": (b"<>", (b"<works@example.co.jp> ORCPT=rfc822;works@example.co.jp",)),
    "stranger": (b"<eve@rival.example>", (b"<keiyaku@example.co.jp> NOTIFY=SUCCESS",)),
}
MINTED = re.compile(rb"<[0-9a-f]{32}@mx\.example\.co\.jp>")


class Sides:
    """One policy on both sides: a milter process with a connection to it, and what the relay's own functions say."""

    def __init__(self, directory: Path, policy: str) -> None:
        self.milter = Milter(directory, policy, {"realm": REALM, "zone": "Asia/Tokyo"})
        self.milter.start()
        self.policy: Policy = load(policy, "policy.yaml")
        self.realm = Realm(REALM)
        self.mta: Mta = self.milter.connect()
        self.number = 0
        self.expected_rows: Counter[tuple[object, ...]] = Counter()

    def stop(self) -> None:
        self.mta.close()
        self.milter.stop()
        self.milter.kill()

    def relay(self, envelope: Envelope, raw: bytes) -> tuple[Judgement, HeaderBlock]:
        """What the relay would do, knowing what this milter's ledger knows."""
        header, offset = split_message(raw)
        block = HeaderBlock.parse(header)
        body = raw[offset : offset + (1 << 20)] if needs_body(envelope, block) else None
        seen = observe(
            envelope, block, body, len(raw) - offset <= 1 << 20,
            realm=self.realm, request_headers=self.policy.request_headers,
        )  # fmt: skip
        asked = query(self.policy, seen)
        known = self.known(asked) if asked.message_ids or asked.envids else Known()
        now = datetime.now(ZoneInfo("Asia/Tokyo"))
        return judge(
            self.policy, seen, known, now=now, queue_id="", hostname="mx.example.co.jp", dsn=True, size=len(raw)
        ), block  # fmt: skip

    def known(self, asked: Query) -> Known:
        """What the milter's ledger knows."""
        store = Store(Path(self.milter.ledger), write=False)
        try:
            return look(store.db, asked)
        finally:
            store.close()

    def compare(self, mail: bytes, to: Sequence[bytes], raw: bytes) -> bool:
        """Send it through the milter; what it does must be what the relay would. False: the relay would split it."""
        envelope = Envelope(parse_mail(mail), tuple(map(parse_rcpt, to)), b"SMTPUTF8" in mail)
        judgement, block = self.relay(envelope, raw)
        result, reason = self.through_milter(mail, to, raw, block)
        if len({delivery.edits for delivery in judgement.deliveries}) > 1:
            return False
        assert reason == " | ".join(dict.fromkeys(v.reason for v in judgement.verdicts))
        self._same_fate(judgement, result, block, envelope)
        self._note_rows(judgement, envelope)
        return True

    def through_milter(self, mail: bytes, to: Sequence[bytes], raw: bytes, block: HeaderBlock) -> tuple[Result, str]:
        self.number += 1
        queue_id, before = f"Q{self.number}", len(self.milter.log)
        body = raw[split_message(raw)[1] :]
        result = self.mta.deliver(
            Mail(mail.split(b" "), [r.split(b" ") for r in to], as_handed_over(block), body, queue_id)
        )
        line = self.milter.wait_for_log(f"message id={queue_id} ", before)
        return result, logged(line, "reason") or ""

    def _same_fate(self, judgement: Judgement, result: Result, block: HeaderBlock, envelope: Envelope) -> None:
        if judgement.rejection is not None:
            assert (result.end, result.reply) == ("reject", f"550 5.7.1 {judgement.rejection}")
        elif not judgement.deliveries:
            assert result.end == "discard"
        else:
            (delivery,) = judgement.deliveries
            edits = with_message_id(delivery.edits, "0" * 32 + "@mx.example.co.jp")
            relayed = HeaderBlock.parse(splice(block, edits))
            assert result.end == "accept"
            assert without_minted(unfolded(result.headers)) == without_minted(unfolded(as_handed_over(relayed)))
            sent = [rcpt_command(v.recipient, v.notify if v.notify_changed else None) for v in delivery.verdicts]
            assert sorted(sent) == sorted(b"RCPT TO:" + path + (b" " + p if p else b"") for path, p in result.rcpt)

    def _note_rows(self, judgement: Judgement, envelope: Envelope) -> None:
        record = judgement.record
        for one in record.recipients if record is not None else ():
            assert record is not None
            minted = record.mint_host is not None
            self.expected_rows[
                "minted" if minted else record.message_id, record.sender or None, record.subject, one.address, one.direction,
                one.request, one.asked_by, one.report_asked_by, one.rule, one.reason, one.would,
            ] += 1  # fmt: skip

    def rows(self) -> Counter[tuple[object, ...]]:
        found: Counter[tuple[object, ...]] = Counter()
        for row in self.milter.rows():
            name = row["message_id"]
            minted = name is not None and MINTED.fullmatch(f"<{name}>".encode())
            keys = (
                "from",
                "subject",
                "to",
                "direction",
                "request",
                "asked_by",
                "report_asked_by",
                "rule",
                "reason",
                "would",
            )
            found["minted" if minted else name, *(row[key] for key in keys)] += 1
        return found


def as_handed_over(block: HeaderBlock) -> list[tuple[bytes, bytes]]:
    """The fields as an MTA gives them to a milter: LF within a field, and one space after the colon taken away."""
    return [
        (
            field.name,
            field.raw[field.value_start - field.start :].rstrip(b"\r\n").replace(b"\r\n", b"\n").removeprefix(b" "),
        )
        for field in block.fields
    ]


def without_minted(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [(name, MINTED.sub(b"<minted>", value)) for name, value in headers]


def logged(line: str, key: str) -> str | None:
    """A field of a line of the log."""
    found = re.search(rf' {key}=("(?:[^"\\]|\\.)*"|\S+)', line)
    if found is None:
        return None
    return str(json.loads(found[1])) if found[1].startswith('"') else found[1]


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Sides]]:
    made = {name: Sides(tmp_path_factory.mktemp("parity"), policy) for name, policy in POLICIES.items()}
    yield made
    for one in made.values():
        one.stop()


def with_crlf(raw: bytes) -> bytes:
    """The same with the line ends that SMTP has."""
    return raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")


def messages(corpus: Path) -> dict[str, bytes]:
    found = {}
    for path in sorted(corpus.glob("*/*.eml")):
        raw = with_crlf(path.read_bytes())
        if b"\0" not in raw[: split_message(raw)[1]]:  # a milter never sees what stands after it
            found[path.name] = raw
    assert len(found) > 200
    return found


@pytest.mark.parametrize("policy", POLICIES)
def test_every_real_message_is_decided_and_written_as_by_the_relay(
    sides: Mapping[str, Sides], corpus: Path, long_run: bool, policy: str
) -> None:
    """With every policy; in the short run with one envelope each, in turn."""
    one = sides[policy]
    before, compared, told = one.rows(), 0, list(messages(corpus).items())
    one.expected_rows.clear()
    for number, (name, raw) in enumerate(told, list(POLICIES).index(policy)):
        for kind in ENVELOPES if long_run else [list(ENVELOPES)[number % len(ENVELOPES)]]:
            try:
                compared += one.compare(*ENVELOPES[kind], raw)
            except AssertionError as error:
                raise AssertionError(f"{name}, {kind}: {error}") from error
    assert compared > len(told) * 0.9
    assert_same_rows(one.rows() - before, one.expected_rows)


def assert_same_rows(found: Counter[tuple[object, ...]], expected: Counter[tuple[object, ...]]) -> None:
    """The same rows; a message that came twice without anybody hearing 250 continues its row, so numbers may differ."""
    readable = {tuple(str(x) if x is not None else None for x in row) for row in expected}
    assert {tuple(str(x) if x is not None else None for x in row) for row in found} == readable


@pytest.mark.parametrize("policy", ["everything", "adding", "japanese-company", "privacy-first"])
def test_any_message_is_decided_and_written_as_by_the_relay(sides: Mapping[str, Sides], policy: str) -> None:
    one = sides[policy]

    @given(envelopes(), MESSAGES, st.booleans())
    def holds(envelope: Envelope, raw: bytes, long: bool) -> None:
        mail = mail_command(envelope).removeprefix(b"MAIL FROM:") + (b" SMTPUTF8" if envelope.smtputf8 else b"")
        to = [rcpt_command(r).removeprefix(b"RCPT TO:") for r in envelope.recipients]
        one.compare(mail, to, raw + b"more text\r\n" * (20_000 if long else 0))

    holds()


def test_a_relay_process_and_a_milter_process_agree(corpus: Path, tmp_path: Path) -> None:
    """The whole way, for a sample: what the next hop gets from one is what the MTA has from the other."""
    hop = NextHop()
    (tmp_path / "relay").mkdir()
    sides = Sides(tmp_path, EVERYTHING)
    compared = 0
    with Relay(tmp_path / "relay", hop.port, EVERYTHING, {"realm": REALM, "zone": "Asia/Tokyo"}) as relay:
        for raw in list(messages(corpus).values())[::10]:
            for mail, to in ENVELOPES.values():
                compared += _agree(relay, hop, sides, mail, to, raw)
        told = [line for line in relay.log if line.startswith("message ")]
        assert_same_rows(
            Counter(row_told(row) for row in sides.milter.receipts()),
            Counter(row_told(row) for row in relay.receipts()),
        )
        relay.stop()
    assert compared == len(told) > 50
    assert not any("internal-error" in line for line in (*relay.log, *sides.milter.log))
    sides.stop()
    hop.stop()


def _agree(relay: Relay, hop: NextHop, sides: Sides, mail: bytes, to: Sequence[bytes], raw: bytes) -> bool:
    logged_before, had = len(relay.log), len(hop.transactions)
    with client(relay) as sender:
        replies = [sender.ask(b"MAIL FROM:" + mail), *(sender.ask(b"RCPT TO:" + one) for one in to), sender.ask("DATA")]
        assert [reply[0] for reply in replies] == ["2"] * (1 + len(to)) + ["3"], replies
        final = sender.ask((stuff(raw) if raw.endswith(b"\r\n") else stuff(raw) + b"\r\n") + b".")
    block = HeaderBlock.parse(split_message(raw)[0])
    result, reason = sides.through_milter(mail, to, raw, block)
    assert reason == (logged(relay.wait_for_log("/^message /", logged_before), "reason") or "")
    passed = hop.transactions[had:]
    if not passed:
        assert result.end == ("discard" if final.startswith("250") else "reject")
        return True
    (transaction,) = passed
    relayed = as_handed_over(HeaderBlock.parse(split_message(transaction.data)[0]))
    assert relayed.pop(0)[0] == b"Received"
    ids = re.compile(rb"<[0-9a-f]{32}@(?:mx|relay)\.example\.co\.jp>")
    theirs, ours = (
        [(name, ids.sub(b"<minted>", value)) for name, value in unfolded(one)] for one in (relayed, result.headers)
    )
    assert ours == theirs
    wanted = [b"RCPT TO:" + path + (b" " + parameters if parameters else b"") for path, parameters in result.rcpt]
    assert sorted(transaction.recipients) == sorted(wanted)
    return True


def row_told(row: dict[str, Any]) -> tuple[object, ...]:
    minted = re.fullmatch(r"[0-9a-f]{32}@(?:mx|relay)\.example\.co\.jp", row["message_id"] or "")
    keys = (
        "kind",
        "direction",
        "from",
        "to",
        "subject",
        "rule",
        "reason",
        "would",
        "request",
        "asked_by",
        "report_asked_by",
    )
    return ("minted" if minted else row["message_id"], *(row[key] for key in keys))
