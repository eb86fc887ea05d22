"""Decisions from files: each ``policy_cases/*.test`` is one policy and many small messages with what must happen.

The form of a file::

    policy ../../policies/examples/keep.yaml       (or "policy" alone, then the policy, indented)
    realm example.com .example.org

    == a sentence that says what is shown
    from <a@example.com> to <b@partner.example>    (the envelope; <> is the null reverse-path)
    with kind=mdn consent=denied asked_by=policy original=known now=2026-01-05T10:00+09:00 size=100
    expect request=add notify=x@example.com rail=request    (everything that differs from "nothing happens")
    rule name of the rule                          ("rule -": none held)
    because a piece of the sentence about it
    Subject: the message's header fields, UTF-8

``with`` also takes ``sender=`` (of mail with a null reverse-path), ``outside=yes`` and ``report=only|mixed|…`` (what
must be delivered, in words with underscores).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pytest

from kaifu.policies.decide import decide
from kaifu.policies.decision import Decision
from kaifu.policies.facts import (
    AskedBy,
    Consent,
    Facts,
    Kind,
    Mailbox,
    MessageFacts,
    Realm,
    ReceiptRequest,
    ReportFacts,
)
from kaifu.policies.load import load, load_file
from kaifu.policies.reasons import sentence
from kaifu.policies.rules import Policy
from kaifu.policies.trace import trace

HERE = Path(__file__).parent
CASES = HERE / "policy_cases"
EXAMPLES = HERE.parent / "policies" / "examples"
FILES = sorted(CASES.glob("*.test"))


class Headers:
    """The header block of a case."""

    def __init__(self, fields: Sequence[tuple[str, str]]) -> None:
        self.fields = fields

    def values(self, name: str) -> Sequence[str]:
        return [value for key, value in self.fields if key.lower() == name]


@dataclass
class Case:
    """One message of a file, and what must happen to it."""

    title: str
    line: int
    envelope: str = ""
    given: dict[str, str] = field(default_factory=dict)
    expect: dict[str, str] = field(default_factory=dict)
    rule: str | None = None
    because: list[str] = field(default_factory=list)
    fields: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class File:
    """One ``.test`` file."""

    policy: Policy
    realm: Realm
    cases: list[Case]


def words(text: str) -> dict[str, str]:
    return dict(word.split("=", 1) for word in text.split())


def read_case(title: str, number: int, lines: list[str]) -> Case:
    case = Case(title, number)
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "from":
            case.envelope = line
        elif word == "with":
            case.given.update(words(rest))
        elif word == "expect":
            case.expect.update(words(rest))
        elif word == "rule":
            case.rule = rest
        elif word == "because":
            case.because.append(rest)
        else:
            name, colon, value = line.partition(":")
            assert colon, f"line {number}: {line!r} is neither a word of a case nor a header field"
            case.fields.append((name, value.strip()))
    assert case.envelope, f"line {number}: no envelope"
    assert case.rule, f"line {number}: no rule"
    return case


def read_file(path: Path) -> File:
    head, *blocks = re.split(r"(?m)^== ", path.read_text("utf-8"))
    where = re.search(r"(?m)^policy(?: (\S+))?$", head)
    assert where, f"{path.name}: no policy"
    if where[1]:
        policy = load_file(path.parent / where[1])
    else:
        inline = "\n".join(line if line.startswith("    ") else "" for line in head.splitlines())
        policy = load(inline, path.name)
    realm = re.search(r"(?m)^realm (.*)$", head)
    assert realm, f"{path.name}: no realm"
    cases = []
    number = head.count("\n") + 1
    for block in blocks:
        title, *lines = block.split("\n")
        body = [line for line in lines if line.strip() and not line.startswith("#")]
        cases.append(read_case(title, number, body))
        number += block.count("\n")
    return File(policy, Realm(realm[1].split()), cases)


def box(text: str) -> Mailbox | None:
    local, _, domain = text.strip("<>").rpartition("@")
    return Mailbox(local, domain) if local else (Mailbox(domain, "") if domain else None)


def facts_of(case: Case, realm: Realm) -> Facts:
    match = re.fullmatch(r"from (<.*?>) to (<.*>)", case.envelope)
    assert match, f"line {case.line}: {case.envelope!r}"
    path, recipient = box(match[1]), box(match[2])
    assert recipient is not None
    given = case.given
    sender = path or box(given.get("sender", ""))
    kind = Kind(given.get("kind", "mail"))
    headers = Headers(case.fields)
    report = given.get("report", "only")
    message = MessageFacts(
        kind=kind,
        sender=sender,
        null_reverse_path=path is None,
        auto_submitted=any(v != "no" for v in headers.values("auto-submitted")),
        list_mail=bool(headers.values("list-id")) or "bulk" in headers.values("precedence"),
        requests=tuple(
            ReceiptRequest("Disposition-Notification-To", n, v)
            for n, v in enumerate(headers.values("disposition-notification-to"), 1)
        ),
        headers=headers,
        subject=" ".join(headers.values("subject")),
        size=int(given["size"]) if "size" in given else None,
        report=None
        if kind is Kind.MAIL
        else ReportFacts(report != "mixed", None if report in ("only", "mixed") else report.replace("_", " ")),
    )
    outside = given.get("outside") == "yes"
    return Facts(
        message=message,
        recipient=recipient,
        direction=realm.direction(sender, recipient, outside=outside),
        sender_in_realm=sender in realm and not outside,
        now=datetime.fromisoformat(given.get("now", "2026-01-07T10:00+09:00")),
        consent=Consent(given.get("consent", "unknown")),
        asked_by=AskedBy(given.get("asked_by", "nobody")),
        original_known=given.get("original") == "known",
    )


def differences(decision: Decision) -> dict[str, str]:
    """What a decision says beyond "nothing happens", in the words of a case."""
    found = {
        key: str(value)
        for key in ("request", "notify", "delivery_report", "receipt", "record", "confirm", "retain_days", "suppress")
        if (value := getattr(decision, key)) != getattr(Decision(), key)
    }
    if decision.basis is not None:
        found["basis"] = "yes"
    if decision.rails:
        found["rail"] = ",".join(rail.key for rail in decision.rails)
    if not decision.enforced:
        found["enforced"] = "no"
    return found


def all_cases() -> Iterator[object]:
    for path in FILES:
        loaded = read_file(path)
        for case in loaded.cases:
            yield pytest.param(loaded, case, id=f"{path.stem}: {case.title}")


@pytest.mark.parametrize(("file", "case"), list(all_cases()))
def test_the_policy_decides_as_the_case_says(file: File, case: Case) -> None:
    facts = facts_of(case, file.realm)
    decision = decide(file.policy, facts)
    reason = sentence(decision, facts)
    assert (decision.rule or "-", differences(decision)) == (case.rule, case.expect), reason
    for piece in case.because:
        assert piece in reason


@pytest.mark.parametrize(("file", "case"), list(all_cases()))
def test_the_trace_agrees_with_the_decision(file: File, case: Case) -> None:
    facts = facts_of(case, file.realm)
    found = trace(file.policy, facts)
    assert found.decision == decide(file.policy, facts)
    assert [r.name for r in found.rules if r.held] == ([found.decision.rule] if found.decision.rule else [])
    for rule in found.rules:
        assert rule.held or rule.failed or rule.skipped or not rule.tried, rule.name


def test_every_example_policy_has_cases_and_every_rule_of_it_decides_one() -> None:
    for path in sorted(EXAMPLES.glob("*.yaml")):
        file = read_file(CASES / f"{path.stem}.test")
        assert Path(file.policy.file).resolve() == path
        unshown = {rule.name for rule in file.policy.rules} - {case.rule for case in file.cases}
        assert not unshown, f"{path.name}: no case for {unshown}"


def test_there_are_example_policies_to_choose_from() -> None:
    assert len(list(EXAMPLES.glob("*.yaml"))) >= 6
