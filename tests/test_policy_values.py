"""What a loaded policy tells its hosts, and what the strictest of several decisions is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256

import pytest

from kaifu.policies.addresses import AddressList
from kaifu.policies.decide import decide, strictest
from kaifu.policies.decision import Confirm, Decision, DeliveryReport, Rail, Receipt, Record, Request, Source, Suppress
from kaifu.policies.facts import AskedBy, Direction, Facts, Kind, Mailbox, MessageFacts, ReportFacts
from kaifu.policies.load import lint, load
from kaifu.policies.reasons import sentence
from kaifu.policies.trace import trace
from kaifu.policies.vocabulary import Mode


class Headers:
    def __init__(self, **fields: str) -> None:
        self.fields = fields

    def values(self, name: str) -> Sequence[str]:
        return [self.fields[name]] if name in self.fields else []


MAIL = Facts(
    message=MessageFacts(Kind.MAIL, Mailbox("a", "a.example"), False, False, False, (), Headers(), "hello", 100),
    recipient=Mailbox("b", "b.example"),
    direction=Direction.OUTBOUND,
    sender_in_realm=True,
    now=datetime(2026, 1, 7, tzinfo=UTC),
)
MDN = replace(
    MAIL,
    message=replace(MAIL.message, kind=Kind.MDN, null_reverse_path=True, report=ReportFacts(True)),
    direction=Direction.INBOUND,
    sender_in_realm=False,
    asked_by=AskedBy.POLICY,
    original_known=True,
)


def rules(*texts: str) -> str:
    return "version: 1\nrules:\n" + "".join(f"  - {text}\n" for text in texts)


@pytest.mark.parametrize(
    ("text", "uses"),
    [
        ("version: 1\n", False),
        (rules("{name: a, when: {size: '>5MB'}, then: {}}"), True),
        (rules("{name: a, then: {}}", "{name: b, when: {subject: x, size: '>5MB'}, then: {}}"), True),
        (rules("{name: size, when: {subject: size}, then: {}}"), False),
    ],
)
def test_a_policy_says_whether_the_size_matters(text: str, uses: bool) -> None:
    assert load(text, "p").uses_size is uses


@pytest.mark.parametrize(
    ("text", "uses"),
    [
        (rules("{name: a, then: {request: strip, delivery_report: add}}"), False),
        (rules("{name: a, then: {request: add}}"), True),
        (rules("{name: a, when: {consent: granted}, then: {request: strip}}"), True),
        ("version: 1\ndefaults: {outbound: {request: add}}\n", True),
    ],
)
def test_a_policy_says_whether_consent_matters(text: str, uses: bool) -> None:
    assert load(text, "p").uses_consent is uses


def test_a_policy_knows_its_file_its_mode_and_its_digest() -> None:
    text = "version: 1\nmode: observe\n"
    policy = load(text, "dir/p.yaml")
    assert (policy.file, policy.mode) == ("dir/p.yaml", Mode.OBSERVE)
    assert policy.digest == sha256(text.encode()).hexdigest()[:16]
    assert load(text.encode(), "elsewhere").digest == policy.digest
    assert load(text + "# changed\n", "p").digest != policy.digest


def test_further_request_headers_are_kept_as_written() -> None:
    assert load("version: 1\nrequest_headers: [X-Mine, x-other]\n", "p").request_headers == ("X-Mine", "x-other")
    assert load("version: 1\nrequest_headers: X-Mine\n", "p").request_headers == ("X-Mine",)
    assert load("version: 1\n", "p").request_headers == ()


def test_a_rule_shows_its_conditions_and_actions_as_written() -> None:
    policy = load(
        rules("{name: a, when: {to: ['@b.example', not x@b.example], header: {X-A: '*'}}, then: {retain: 2w}}"), "p"
    )
    (rule,) = policy.rules
    assert rule.when_text == "to: [@b.example, not x@b.example], header X-A: *"
    assert str(rule.then) == "retain: 2w"
    assert (rule.line, rule.column) == (3, 5)


@pytest.mark.parametrize(("text", "days"), [("1d", 1), ("2w", 14), ("1m", 31), ("6m", 183), ("1y", 366), ("7y", 2557)])
def test_times_are_whole_days_rounded_up(text: str, days: int) -> None:
    assert decide(load(rules(f"{{name: a, then: {{retain: {text}}}}}"), "p"), MAIL).retain_days == days


def test_a_decision_says_where_each_value_came_from() -> None:
    policy = load("defaults: {outbound: {record: no-subject}}\n" + rules("{name: a, then: {request: strip}}"), "p")
    assert decide(policy, MAIL).sources == (
        ("request", Source.RULE),
        ("delivery_report", Source.BUILT_IN),
        ("record", Source.DEFAULTS),
    )
    assert ("receipt", Source.BUILT_IN) in decide(policy, MDN).sources


def test_a_policy_that_changes_nothing_decides_nothing() -> None:
    decision = decide(load("version: 1\n", "p"), MAIL)
    assert replace(decision, sources=()) == Decision()


@pytest.mark.parametrize("now", [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)])
def test_the_ends_of_time_hold_for_no_hours_in_another_zone(now: datetime) -> None:
    text = "{{name: {0}, when: {{time: {{hours: 00:00-24:00, zone: {0}}}}}, then: {{}}}}"
    policy = load(rules(*(text.format(zone) for zone in ("America/New_York", "Asia/Tokyo"))), "p")
    assert decide(policy, replace(MAIL, now=now)).rule == ("Asia/Tokyo" if now.year == 1 else "America/New_York")


def test_the_built_in_answer_is_the_same_decision_as_a_written_one() -> None:
    built_in = decide(load("version: 1\n", "p"), MDN)
    written = decide(load("version: 1\ndefaults: {inbound: {receipt: withhold}}\n", "p"), MDN)
    assert built_in.receipt is written.receipt is Receipt.WITHHOLD


# --- strictest ----------------------------------------------------------------------------------------------------


def test_of_no_decisions_the_strictest_does_nothing() -> None:
    assert strictest([]) == Decision()


def test_among_equals_the_first_is_taken() -> None:
    first, second = Decision(rule="first", record=Record.NONE), Decision(rule="second")
    assert strictest([first, second]) is first


def test_what_one_recipient_must_not_send_nobody_may() -> None:
    add = Decision(request=Request.ADD, rule="add")
    read = Decision(suppress=Suppress.READ, rule="read")
    not_read = Decision(suppress=Suppress.NOT_READ, rule="not read")
    assert strictest([add, read]) == read
    assert strictest([read, not_read]) == replace(read, suppress=Suppress.BOTH)
    assert strictest([Decision(rule="keep"), not_read]) == Decision(rule="keep", suppress=Suppress.NOT_READ)


# --- sentences ----------------------------------------------------------------------------------------------------


EVERY_ACTION = [
    *(("request", Decision(request=value)) for value in Request),
    *(("delivery_report", Decision(delivery_report=value)) for value in DeliveryReport),
    *(("receipt", Decision(receipt=value)) for value in Receipt),
    *(("record", Decision(record=value)) for value in Record),
    *(("suppress", Decision(suppress=value)) for value in Suppress),
    *(("confirm", Decision(confirm=value)) for value in Confirm),
]


@pytest.mark.parametrize(("key", "decision"), EVERY_ACTION)
def test_every_action_has_words_of_its_own(key: str, decision: Decision) -> None:
    named = replace(decision, rule="r", line=3, sources=((key, Source.RULE),))
    said = sentence(named, MDN)
    assert said.startswith('Rule "r" (line 3) ')
    assert said.endswith(".")
    others = {
        sentence(replace(o, rule="r", line=3, sources=((k, Source.RULE),)), MDN)
        for k, o in EVERY_ACTION
        if o != decision
    }
    assert said not in others
    assert "{" not in said


def test_two_rails_are_two_reasons_in_one_sentence() -> None:
    rails = (Rail("request", "add", "keep", "A"), Rail("delivery_report", "add", "keep", "B"))
    sources = (("request", Source.RULE), ("delivery_report", Source.RULE))
    assert sentence(Decision(rule="r", line=3, rails=rails, sources=sources), MAIL) == (
        'Rule "r" (line 3) would ask for a read receipt, which is not done because A'
        " and would ask for a delivery report, which is not done because B."
    )


# --- the trace ----------------------------------------------------------------------------------------------------


def test_the_trace_names_what_each_condition_wanted_and_saw() -> None:
    policy = load(
        rules(
            "{name: first, when: {subject: contract, from: '@a.example'}, then: {request: add}}",
            "{name: second, then: {request: strip}}",
            "{name: third, then: {request: keep}}",
        ),
        "p",
    )
    found = trace(policy, MAIL)
    first, second, third = found.rules
    assert [(c.key, c.wanted, c.seen, c.held) for c in first.conditions] == [
        ("subject", "contract", '"hello"', False),
        ("from", "@a.example", "a@a.example", True),
    ]
    assert [c.key for c in first.failed] == ["subject"]
    assert (second.held, second.tried) == (True, True)
    assert (third.held, third.tried) == (False, False)
    assert found.reason == 'Rule "second" (line 4) removes receipt requests (there is none).'


def test_the_trace_says_why_a_rule_for_mail_is_not_tried_on_a_receipt() -> None:
    found = trace(
        load(rules("{name: a, then: {request: strip}}", "{name: b, when: {asked_by: policy}, then: {}}"), "p"), MDN
    )
    assert found.rules[1].skipped == found.rules[0].skipped
    assert found.rules[0].skipped == "it names neither kind nor receipt, so it says nothing about mdn"
    assert found.decision.rule is None


def test_the_trace_says_that_mail_is_nobodys_answer() -> None:
    policy = load(rules("{name: a, when: {kind: [mail, mdn], asked_by: nobody}, then: {}}"), "p")
    (rule,) = trace(policy, MAIL).rules
    assert (rule.held, rule.skipped) == (False, None)
    assert [(c.key, c.seen) for c in rule.failed] == [("asked_by", "not asked of mail")]


# --- large policies -----------------------------------------------------------------------------------------------


def test_many_rules_about_one_large_group_share_it_and_are_compared_at_once() -> None:
    members = ", ".join(f"a{n}@x.example" for n in range(3000))
    texts = [f"{{name: a{n}, when: {{from: group:g, subject: s{n}}}, then: {{}}}}" for n in range(600)]
    policy = load(f"groups:\n  g: [{members}]\n" + rules(*texts), "p")
    lists = [condition.meaning for rule in policy.rules for condition in rule.when if condition.key == "from"]
    assert len({id(listed.some) for listed in lists if isinstance(listed, AddressList)}) == 1
    assert lint(policy) == []  # member by member this runs into the test's timeout


class CountingHeaders(Headers):
    """Says how often anybody looked."""

    looks = 0

    def values(self, name: str) -> Sequence[str]:
        self.looks += 1
        return super().values(name)


def test_what_all_recipients_share_is_looked_at_once_and_never_taken_for_another_message_s() -> None:
    when = "{header: {x-class: secret*}, sensitivity: private}"
    policy = load(rules(f"{{name: a, when: {when}, then: {{request: strip}}}}"), "p")

    def facts_of(**fields: str) -> tuple[CountingHeaders, list[Facts]]:
        headers = CountingHeaders(**{name.replace("_", "-"): value for name, value in fields.items()})
        message = replace(MAIL.message, headers=headers)
        recipients = (Mailbox(str(number), "b.example") for number in range(50))
        return headers, [replace(MAIL, message=message, recipient=recipient) for recipient in recipients]

    secret, some = facts_of(x_class="secret plans", sensitivity="private")
    plain, others = facts_of(x_class="public", sensitivity="private")
    assert {decide(policy, facts).request for facts in some} == {Request.STRIP}
    assert {decide(policy, facts).request for facts in others} == {Request.KEEP}
    assert (secret.looks, plain.looks) == (2, 2)
    for one, other in zip(some, others, strict=True):
        assert (decide(policy, one).rule, decide(policy, other).rule) == ("a", None)
