"""What holds for every judgement, whatever the policy, the envelope and the message."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaifu.policies.decision import Receipt, Request
from kaifu.policies.facts import AskedBy, Kind, Realm
from kaifu.policies.load import load
from kaifu.policies.rules import Policy
from kaifu.proxy.address import parse_mail, parse_rcpt
from kaifu.proxy.edits import Change, Delete, HeaderEdit, Insert, splice
from kaifu.proxy.envelope import Envelope, Recipient
from kaifu.proxy.judgement import Action, Judgement
from kaifu.proxy.ledger import Known, Original, OriginalRecipient, RequestState
from kaifu.proxy.message import HeaderBlock, split_message
from kaifu.proxy.minting import with_message_id
from kaifu.proxy.observe import Observation, needs_body, observe
from kaifu.proxy.requests import request_fields
from kaifu.proxy.transit import judge, query, without_additions

RECEIPTS = Path(__file__).parent / "fixtures" / "receipts"
NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
REALM = Realm(["example.co.jp"])
PEOPLE = ("a@example.co.jp", "b@example.co.jp", "c@partner.example", "d@partner.example", "名@例え.example")
DNT = "disposition-notification-to"

# --- policies ---------------------------------------------------------------------------------------------------

_THENS: dict[str, st.SearchStrategy[str]] = {
    "request": st.sampled_from(("add", "strip", "keep")),
    "notify": st.sampled_from(("sender", "receipts@example.co.jp", "受領@例え.example")),
    "delivery_report": st.sampled_from(("add", "strip", "keep")),
    "receipt": st.sampled_from(("deliver", "withhold", "reject")),
    "record": st.sampled_from(("full", "no-subject", "none")),
    "suppress": st.sampled_from(("read", "not-read", "both")),
}


def _then(**fixed: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, str]]:
    return st.fixed_dictionaries(fixed, optional={key: value for key, value in _THENS.items() if key not in fixed})


THENS = st.one_of(
    _then(request=st.just("add"), delivery_report=st.sampled_from(("add", "strip"))),
    _then(receipt=st.just("withhold")),
    _then(receipt=st.just("reject"), request=st.just("strip")),
    _then().filter(bool),
)


@st.composite
def policies(draw: st.DrawFn, thens: st.SearchStrategy[dict[str, str]] = THENS, mode: str | None = None) -> Policy:
    rules = [
        {"name": f"rule {n}", "when": {"to": to, "kind": ["mail", "mdn", "dsn"]}, "then": then}
        for n, (to, then) in enumerate(draw(st.lists(st.tuples(st.sampled_from(PEOPLE), thens), max_size=3)), 1)
    ]
    rules.append({"name": "all", "when": {"kind": ["mail", "mdn", "dsn"]}, "then": draw(thens)})
    mode = mode or draw(st.sampled_from(("enforce", "observe")))
    headers = draw(st.sampled_from(({}, {"request_headers": ["X-Ask-Me"]})))
    return _loaded(json.dumps({"version": 1, "mode": mode, **headers, "rules": rules}))


@lru_cache(maxsize=256)
def _loaded(text: str) -> Policy:
    return load(text, "policy.yaml")


# --- messages ---------------------------------------------------------------------------------------------------

ADDRESSES = st.sampled_from(
    (*PEOPLE, "<a@example.co.jp>", '"A, B" <a@example.co.jp>, c@partner.example', "<>", "", "http://x")
)
FIELDS = st.one_of(
    st.tuples(
        st.sampled_from(
            (
                "Disposition-Notification-To",
                "disposition-notification-TO",
                "Disposition-Notification-Options",
                "Return-Receipt-To",
                "X-Confirm-Reading-To",
                "X-PMRQC",
                "X-Ask-Me",
                "From",
            )
        ),
        ADDRESSES,
    ),
    st.tuples(
        st.just("X-Auto-Response-Suppress"), st.sampled_from(("All", "OOF, rn", "none", "RN,NRN", "", "x" * 2000))
    ),
    st.tuples(st.just("Message-ID"), st.sampled_from(("<1@example.co.jp>", "<>", "1@x", ""))),
    st.tuples(
        st.sampled_from(("Subject", "X-Other", "Auto-Submitted", "Precedence", "In-Reply-To", "References")),
        st.sampled_from(("no", "<m@example.co.jp>", "=?utf-8?Q?=E5?= folded\r\n\tvalue")),
    ),
)
RAILS = st.sampled_from((*[None] * 9, ("Auto-Submitted", "auto-replied"), ("Precedence", "bulk"), ("List-Id", "<x>")))
SHAPES = st.sampled_from(("%s: %s\r\n", "%s:%s\r\n", "%s :\r\n %s\r\n", "%s:\t%s \r\n"))


@st.composite
def blocks(draw: st.DrawFn) -> bytes:
    fields = draw(st.lists(st.tuples(SHAPES, FIELDS), max_size=8))
    asked = draw(st.sampled_from((0, 0, 1, 2)))
    request = st.tuples(SHAPES, st.tuples(st.just("disposition-notification-TO"), ADDRESSES))
    fields += draw(st.lists(request, min_size=asked, max_size=asked))
    rail = draw(RAILS)
    if rail is not None:
        fields.append(("%s: %s\r\n", rail))
    return ("".join(shape % field for shape, field in fields) + "\r\n").encode()


NOTIFY = st.sampled_from(("", " NOTIFY=NEVER", " NOTIFY=SUCCESS", " NOTIFY=FAILURE,DELAY", " NOTIFY=SUCCESS,FAILURE"))


@st.composite
def envelopes(draw: st.DrawFn) -> Envelope:
    sender = draw(st.sampled_from((*PEOPLE[:2] * 3, *PEOPLE, "")))
    said = draw(st.lists(st.tuples(st.sampled_from(PEOPLE), NOTIFY), min_size=1, max_size=5, unique_by=lambda r: r[0]))
    recipients = tuple(parse_rcpt(f"<{address}>{notify}".encode()) for address, notify in said)
    return Envelope(parse_mail(f"<{sender}>".encode()), recipients, draw(st.booleans()))


REPORTS = sorted(RECEIPTS.glob("*.eml"))


@lru_cache(maxsize=256)
def _file(path: Path) -> bytes:
    return path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


PLAIN = (
    "thunderbird",
    "roundcube",
    "exchange-online",
    "kmail",
    "delta-chat",
    "dsn-delivered",
    "dsn-relayed",
    "dsn-expanded",
)
MAIL = st.tuples(blocks(), st.just(b"text\r\n")).map(b"".join)
MESSAGES = st.one_of(
    MAIL,
    MAIL,
    MAIL,
    st.sampled_from(PLAIN).map(lambda name: _file(RECEIPTS / f"{name}.eml")),
    st.sampled_from(REPORTS).map(_file),
)

ASKED = st.sampled_from(AskedBy)
STATES = st.sampled_from(RequestState)


@st.composite
def knowledge(draw: st.DrawFn, asked: Any) -> Known:
    """A ledger that knows some of what is asked for."""
    originals = {}
    for number, message_id in enumerate(asked.message_ids, 1):
        if draw(st.booleans()):
            recipients = tuple(
                OriginalRecipient(number * 10 + n, address, draw(STATES), draw(ASKED), draw(ASKED))
                for n, address in enumerate(draw(st.lists(st.sampled_from(PEOPLE), unique=True, max_size=3)))
            )
            sender = draw(st.sampled_from(PEOPLE))
            originals[message_id] = (Original(number, message_id, sender, NOW, recipients),)
    return Known(originals)


class World:
    """One judgement and everything it came from."""

    def __init__(self, policy: Policy, seen: Observation, known: Known, dsn: bool) -> None:
        self.policy, self.seen, self.known, self.dsn = policy, seen, known, dsn
        self.judgement = self.judge()

    def judge(self) -> Judgement:
        return judge(
            self.policy, self.seen, self.known, now=NOW, queue_id="Q", hostname="mx.example.co.jp", dsn=self.dsn, size=1
        )

    def header(self, edits: tuple[HeaderEdit, ...]) -> HeaderBlock:
        return HeaderBlock.parse(splice(self.seen.block, with_message_id(edits, "minted@mx.example.co.jp")))


@st.composite
def worlds(
    draw: st.DrawFn,
    policy: st.SearchStrategy[Policy] | None = None,
    messages: st.SearchStrategy[bytes] = MESSAGES,
) -> World:
    chosen = draw(policies() if policy is None else policy)
    envelope, raw = draw(envelopes()), draw(messages)
    header, offset = split_message(raw)
    block = HeaderBlock.parse(header)
    body = raw[offset:] if needs_body(envelope, block) else None
    seen = observe(
        envelope,
        block,
        body,
        True,
        realm=REALM,
        request_headers=chosen.request_headers,
        outside=draw(st.sampled_from((False, False, False, True))),
    )
    return World(chosen, seen, draw(knowledge(query(chosen, seen))), draw(st.booleans()))


# --- what must hold ---------------------------------------------------------------------------------------------


def _marks(world: World) -> dict[str, bool]:
    """What the properties below are about; a search that hardly ever meets it would prove nothing."""
    judgement = world.judgement
    edits = [edit for delivery in judgement.deliveries for edit in delivery.edits]
    written = [edit for edit in edits if not isinstance(edit, Delete)]
    adding = [v.recorded for v in judgement.verdicts if v.decision.enforced and v.decision.request is Request.ADD]
    return {
        "a request is added": any(e.name.lower() == DNT for e in written if isinstance(e, Insert)),
        "a request is changed": any(e.name.lower() == DNT for e in written if isinstance(e, Change)),
        "a request is kept though one is wanted": any(r and r.request is RequestState.KEPT for r in adding),
        "something is stripped": any(isinstance(edit, Delete) for edit in edits),
        "an identifier is minted": judgement.mint,
        "a rail holds": any(verdict.decision.rails for verdict in judgement.verdicts),
        "a receipt is withheld": bool(judgement.withheld),
        "a receipt is rejected": judgement.rejection is not None,
        "there are several outcomes": len(judgement.deliveries) > 1,
        "some get it and some do not": bool(judgement.deliveries and judgement.withheld),
        "NOTIFY changes": any(verdict.notify_changed for verdict in judgement.verdicts),
        "there is evidence": judgement.record is not None and bool(judgement.record.evidence),
        "there is no row": bool(judgement.counts),
    }


def test_the_search_reaches_what_the_properties_are_about() -> None:
    met: dict[str, int] = {}

    @settings(max_examples=400, derandomize=True)
    @given(worlds())
    def look(world: World) -> None:
        for mark, is_met in _marks(world).items():
            met[mark] = met.get(mark, 0) + is_met

    look()
    assert min(met.values()) > 1, met


def _identities(recipients: Any) -> list[int]:
    return sorted(id(recipient) for recipient in recipients)


@given(worlds())
def test_every_recipient_is_delivered_to_or_withheld_from_or_rejected_exactly_once(world: World) -> None:
    judgement = world.judgement
    assert [v.recipient for v in judgement.verdicts] == list(world.seen.envelope.recipients)
    delivered = [v.recipient for d in judgement.deliveries for v in d.verdicts]
    others = [v.recipient for v in judgement.verdicts if v.action is not Action.FORWARD]
    assert _identities([*delivered, *others]) == _identities(world.seen.envelope.recipients)
    edits = [d.edits for d in judgement.deliveries]
    assert len(set(edits)) == len(edits)
    assert all(v.edits == d.edits for d in judgement.deliveries for v in d.verdicts)


@given(worlds())
def test_the_same_facts_give_the_same_judgement(world: World) -> None:
    assert world.judge() == world.judgement


@given(worlds())
def test_rejecting_is_for_all_or_for_nobody(world: World) -> None:
    rejected = [v.action is Action.REJECT for v in world.judgement.verdicts]
    assert all(rejected) == any(rejected) == (world.judgement.rejection is not None)
    assert not any(rejected) or all(v.decision.receipt is Receipt.REJECT for v in world.judgement.verdicts)


@given(worlds())
def test_what_is_withheld_is_in_the_record(world: World) -> None:
    withheld = world.judgement.withheld
    assert all(v.recorded is not None and v.recorded.withheld for v in withheld)
    record = world.judgement.record
    assert not withheld or record is not None
    rows = tuple(v.recorded for v in world.judgement.verdicts if v.recorded is not None)
    assert rows == (record.recipients if record is not None else ())


@given(worlds())
def test_only_reports_that_say_nothing_to_a_person_are_withheld_or_rejected(world: World) -> None:
    if any(v.action is not Action.FORWARD for v in world.judgement.verdicts):
        message = world.seen.message
        assert message.kind is not Kind.MAIL
        assert message.report is not None
        assert message.report.only_reports
        assert message.report.must_deliver is None


@given(worlds(policies(mode="observe")))
def test_observing_changes_nothing(world: World) -> None:
    (delivery,) = world.judgement.deliveries
    assert delivery.edits == ()
    assert not delivery.envelope_changed
    assert not world.judgement.mint
    for verdict in world.judgement.verdicts:
        if verdict.recorded is not None:
            assert verdict.recorded.would is not None
            assert verdict.recorded.request in (RequestState.NONE, RequestState.KEPT)
            assert verdict.recorded.asked_by is not AskedBy.POLICY


@given(worlds())
def test_nothing_but_what_an_edit_names_is_other_than_it_came(world: World) -> None:
    """A model of the fields: what is deleted is gone, what is changed stands in its place, the rest is as it was."""
    block = world.seen.block
    for delivery in world.judgement.deliveries:
        gone = {(e.name.lower(), e.nth) for e in delivery.edits if isinstance(e, Delete)}
        changed = {(e.name.lower(), e.nth) for e in delivery.edits if isinstance(e, Change)}
        inserted = [e.name.lower() for e in delivery.edits if isinstance(e, Insert)]
        seen: dict[str, int] = {}
        expected: list[tuple[str, bytes | None]] = []
        for field in block.fields:
            seen[field.key] = seen.get(field.key, 0) + 1
            place = (field.key, seen[field.key])
            if place not in gone:
                expected.append((field.key, None if place in changed else field.raw))
        after = world.header(delivery.edits)
        got = [(f.key, f.raw) for f in after.fields]
        assert [key for key, _ in got] == [key for key, _ in expected] + inserted
        assert all(raw is None or raw == mine for (_, raw), (_, mine) in zip(expected, got, strict=False))
        named = {
            "x-auto-response-suppress",
            "message-id",
            *(n.lower() for n, _ in request_fields(block, ["X-Ask-Me"])),
            DNT,
        }
        assert {e.name.lower() for e in delivery.edits} <= named


@given(worlds())
def test_there_is_never_more_than_one_request_where_one_is_added(world: World) -> None:
    for delivery in world.judgement.deliveries:
        if any(v.decision.enforced and v.decision.request is Request.ADD for v in delivery.verdicts):
            assert world.header(delivery.edits).count(DNT) <= 1


@given(worlds())
def test_strip_leaves_no_request_header(world: World) -> None:
    for delivery in world.judgement.deliveries:
        if any(v.decision.enforced and v.decision.request is Request.STRIP for v in delivery.verdicts):
            assert request_fields(world.header(delivery.edits), world.policy.request_headers) == ()


@given(worlds())
def test_no_rule_overrides_a_rail(world: World) -> None:
    message = world.seen.message
    # Programs and lists may ask for a delivery report, and mail that does needs a Message-ID.
    nothing = message.kind is not Kind.MAIL or message.null_reverse_path or not world.seen.sender_in_realm
    forbidden = {DNT, "message-id"} if nothing else {DNT} if message.auto_submitted or message.list_mail else set()
    for delivery in world.judgement.deliveries:
        assert not [e for e in delivery.edits if not isinstance(e, Delete) and e.name.lower() in forbidden]


@given(worlds())
def test_no_header_shows_who_else_got_the_message(world: World) -> None:
    allowed = {str(v.decision.notify) for v in world.judgement.verdicts} | {
        str(world.seen.envelope.reverse_path.mailbox)
    }
    for delivery in world.judgement.deliveries:
        for edit in delivery.edits:
            if not isinstance(edit, Delete) and edit.name.lower() == DNT:
                assert edit.value.strip("<>") in allowed | {"receipts@example.co.jp", "名@xn--r8jz45g.example"}


@given(worlds())
def test_header_values_are_ascii_unless_the_transaction_is_smtputf8(world: World) -> None:
    for delivery in world.judgement.deliveries:
        for edit in delivery.edits:
            if not isinstance(edit, Delete):
                assert edit.value.isascii() or world.seen.envelope.smtputf8
                assert edit.value.isprintable()


@given(worlds())
def test_notify_changes_by_success_only(world: World) -> None:
    for verdict in world.judgement.verdicts:
        if not verdict.notify_changed:
            continue
        given_ = verdict.recipient.notify
        assert verdict.notify
        assert verdict.notify != given_
        assert world.dsn
        if "SUCCESS" in verdict.notify:
            assert verdict.notify - {"SUCCESS"} == (given_ if given_ is not None else {"FAILURE", "DELAY"})
        else:
            assert given_ is not None
            assert verdict.notify == (given_ - {"SUCCESS"} or {"NEVER"})


@given(worlds())
def test_a_message_id_is_minted_exactly_when_the_record_is_to_mint_it(world: World) -> None:
    judgement = world.judgement
    minted = [e for d in judgement.deliveries for e in d.edits if not isinstance(e, Delete) and e.name == "Message-ID"]
    assert bool(minted) == judgement.mint
    if judgement.mint:
        assert judgement.record is not None
        assert judgement.record.message_id is None
        assert judgement.record.mint_host
    for delivery in judgement.deliveries:
        if judgement.mint and any(e in minted for e in delivery.edits):
            assert world.header(delivery.edits).values("message-id")[0] == "<minted@mx.example.co.jp>"


@given(worlds())
def test_without_a_ledger_nothing_is_added_and_nothing_vanishes(world: World) -> None:
    before, after = world.judgement, without_additions(world.judgement)
    assert after.record is None
    assert not after.mint
    assert after.withheld == ()
    for was, verdict in zip(before.verdicts, after.verdicts, strict=True):
        assert all(isinstance(edit, Delete) for edit in verdict.edits)
        assert set(verdict.edits) <= set(was.edits)
        assert not (verdict.notify_changed and "SUCCESS" in verdict.notify)
        if was.decision.request is Request.STRIP:
            assert {e for e in was.edits if isinstance(e, Delete)} == set(verdict.edits)
    delivered = [v.recipient for d in after.deliveries for v in d.verdicts]
    assert after.rejection is not None or _identities(delivered) == _identities(world.seen.envelope.recipients)


@given(worlds())
def test_mail_that_leaves_no_row_is_counted(world: World) -> None:
    judgement = world.judgement
    rows = {v.direction for v in judgement.verdicts if v.recorded is not None}
    counted = {direction for direction, _ in judgement.counts}
    assert not rows & counted
    if judgement.record is None or not judgement.record.evidence:
        assert rows | counted == set(world.seen.directions)
    assert {kind for _, kind in judgement.counts} <= {str(world.seen.message.kind)}


@pytest.mark.parametrize("request_", ["strip", "add"])
def test_edits_cost_nothing_for_each_recipient(
    request_: str, count_calls: Callable[[Callable[[], object]], int]
) -> None:
    """A stranger's header may hold very many request fields, and go to very many people."""
    policy = _loaded(json.dumps({"version": 1, "rules": [{"name": "all", "when": {}, "then": {"request": request_}}]}))
    block = HeaderBlock.parse(b"Disposition-Notification-To: a@example.co.jp\r\n" * 3000 + b"\r\n")

    def effort(people: int) -> int:
        recipients = tuple(parse_rcpt(b"<%d@partner.example>" % n) for n in range(people))
        envelope = Envelope(parse_mail(b"<a@example.co.jp>"), recipients)
        world = World(policy, observe(envelope, block, None, True, realm=REALM), Known(), True)
        assert len(world.judgement.deliveries) == 1
        recorded = world.judgement.verdicts[-1].recorded
        assert recorded is not None
        assert len(recorded.edits) < 100
        assert any("more" in words for words in recorded.edits)
        return count_calls(world.judge)

    assert effort(40) - effort(20) < 20 * 500


HUMAN = (
    "forwarded-as-message",
    "forwarded-bounce",
    "forwarded-receipt",
    "receipt-beside-pdf",
    "report-with-attachment",
    "text-that-quotes-a-report",
    "request-only-inside",
    "dsn-failed",
    "dsn-delayed",
    "dsn-mixed",
    "dsn-cut-off",
    "dsn-contradiction",
    "dsn-no-action-or-status",
    "dsn-text-instead-of-fields",
    "outlook-tnef-mail",
    "cyrus-sieve-rejection",
    "pigeonhole-rejection",
)
WITHHOLDING = st.fixed_dictionaries(
    {"receipt": st.sampled_from(("withhold", "reject"))},
    optional={"record": st.sampled_from(("full", "none")), "request": st.just("strip")},
)


@given(
    worlds(
        policies(WITHHOLDING, "enforce"),
        st.sampled_from(HUMAN).map(lambda name: _file(RECEIPTS / f"{name}.eml")),
    )
)
def test_human_mail_survives_every_policy(world: World) -> None:
    assert [v.action for v in world.judgement.verdicts] == [Action.FORWARD] * len(world.judgement.verdicts)


@given(worlds())
def test_every_reason_is_one_sentence(world: World) -> None:
    for verdict in world.judgement.verdicts:
        assert verdict.reason.endswith(".")
        assert verdict.reason[0].isupper()
        assert "\n" not in verdict.reason


@given(worlds(), st.integers(0, 3))
def test_who_else_gets_the_message_changes_nothing_for_a_recipient(world: World, index: int) -> None:
    """Decided per recipient: alone it gets the same edits, unless rejecting depends on the others."""
    verdicts = world.judgement.verdicts
    verdict = verdicts[index % len(verdicts)]
    if verdict.decision.receipt is Receipt.REJECT or not verdict.recorded:
        return
    place = verdicts.index(verdict)
    recipients: tuple[Recipient, ...] = (verdict.recipient,)
    alone = replace(
        world.seen,
        envelope=replace(world.seen.envelope, recipients=recipients),
        directions=(world.seen.directions[place],),
    )
    (single,) = World(world.policy, alone, world.known, world.dsn).judgement.verdicts
    assert (single.action, single.edits, single.notify) == (verdict.action, verdict.edits, verdict.notify)
    assert single.recorded == verdict.recorded
