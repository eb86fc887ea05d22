"""What must hold for every policy and all facts, searched for by hypothesis.

Policies are made as data, written as JSON (which is YAML) and loaded, so the whole way from text to decision is under
test. :func:`naive` is a second implementation of the language, as short and slow as possible.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from unicodedata import normalize

from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from kaifu.policies.addresses import AddressList, entry, union
from kaifu.policies.decide import decide, strictest
from kaifu.policies.decision import Decision, DeliveryReport, Receipt, Request
from kaifu.policies.document import DAMAGED, Problem, ProblemsError, read
from kaifu.policies.facts import (
    AskedBy,
    Consent,
    Direction,
    Facts,
    Kind,
    Mailbox,
    MessageFacts,
    ReceiptRequest,
    ReportFacts,
)
from kaifu.policies.load import lint, load
from kaifu.policies.reasons import sentence
from kaifu.policies.schema import schema
from kaifu.policies.text import fold, nfc
from kaifu.policies.trace import trace

# --- facts ------------------------------------------------------------------------------------------------------


class Headers:
    def __init__(self, fields: Mapping[str, Sequence[str]]) -> None:
        self.fields = fields

    def values(self, name: str) -> Sequence[str]:
        return self.fields.get(name, ())

    def __repr__(self) -> str:
        return repr(self.fields)


LOCALS = st.sampled_from(["x", "y", "X", "odd name", "é", "e\u0301"])
DOMAINS = st.sampled_from(["a.example", "A.Example", "sub.a.example", "b.example", "例え.jp", "xn--r8jz45g.jp"])
MAILBOXES = st.builds(Mailbox, LOCALS, DOMAINS | st.just(""))
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=20)
ANY_MAILBOXES = MAILBOXES | st.builds(Mailbox, ANY_TEXT, ANY_TEXT)
SUBJECTS = st.sampled_from(["", "one", "ONE two", "two", "契約書", "one\ntwo", " one "])
FIELDS = st.dictionaries(
    st.sampled_from(["sensitivity", "importance", "x-priority", "priority", "x-msmail-priority", "x-a", "x-b"]),
    st.lists(
        st.sampled_from(["Private", "company confidential", "high", "LOW", "1 (Highest)", "5", "urgent", "one", ""])
        | ANY_TEXT,
        max_size=3,
    ),
)
ZONES = st.builds(lambda m: timezone(timedelta(minutes=m)), st.integers(-14 * 60, 14 * 60))
TIMES = st.datetimes(timezones=ZONES | st.just(UTC))


@st.composite
def facts(
    draw: st.DrawFn, mailboxes: st.SearchStrategy[Mailbox] = MAILBOXES, kinds: Sequence[Kind] = tuple(Kind)
) -> Facts:
    kind = draw(st.sampled_from(kinds))
    reports = st.sampled_from([None, ReportFacts(True), ReportFacts(False), ReportFacts(True, "a recipient failed")])
    message = MessageFacts(
        kind=kind,
        sender=draw(st.none() | mailboxes),
        null_reverse_path=draw(st.booleans()),
        auto_submitted=draw(st.booleans()),
        list_mail=draw(st.booleans()),
        requests=draw(st.sampled_from([(), (ReceiptRequest("Disposition-Notification-To", 1, "x"),)])),
        headers=Headers(draw(FIELDS)),
        subject=draw(SUBJECTS | ANY_TEXT),
        size=draw(st.none() | st.sampled_from([0, 999, 1000, 1024, 5_000_001]) | st.integers(0, 1 << 40)),
        report=draw(reports) if kind is not Kind.MAIL else None,
    )
    return Facts(
        message=message,
        recipient=draw(mailboxes),
        direction=draw(st.sampled_from(Direction)),
        sender_in_realm=draw(st.booleans()),
        now=draw(TIMES),
        consent=draw(st.sampled_from(Consent)),
        asked_by=draw(st.sampled_from(AskedBy)),
        original_known=draw(st.booleans()),
    )


# --- policies ---------------------------------------------------------------------------------------------------


def some(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A value, or a list of values."""
    return values | st.lists(values, min_size=1, max_size=3)


ENTRIES = st.sampled_from(
    [
        "x@a.example",
        "@a.example",
        "@.a.example",
        "@例え.jp",
        "*@*.example",
        "?@b.example",
        "*",
        "<>",
        '"odd name"@b.example',
        "group:one",
        "group:empty",
        "é@b.example",
    ]
)
ADDRESSES = some(ENTRIES | ENTRIES.map(lambda e: f"not {e}"))
PATTERNS = some(st.sampled_from(["one", "ONE*", "*two*", "/two$/", "/ONE/i", "/^$/", "*", "契約?", "/契約|two/"]))
HOURS = st.sampled_from(["09:00-18:00", "22:00-06:00", "00:00-24:00", "23:59-00:00"])
SPANS = st.fixed_dictionaries(
    {"hours": some(HOURS)}, optional={"weekdays": some(st.sampled_from(["mon", "fri-mon"])), "zone": st.just("UTC")}
)
WHEN: dict[str, st.SearchStrategy[Any]] = {
    "kind": some(st.sampled_from(["mail", "mdn", "dsn"])),
    "direction": some(st.sampled_from(["outbound", "inbound", "internal", "transit"])),
    "from": ADDRESSES,
    "to": ADDRESSES,
    "subject": PATTERNS,
    "header": st.dictionaries(st.sampled_from(["X-A", "x-b"]), PATTERNS, min_size=1),
    "sensitivity": some(st.sampled_from(["personal", "private", "company-confidential", "mine"])),
    "importance": some(st.sampled_from(["high", "normal", "low"])),
    "consent": some(st.sampled_from(["granted", "informed", "denied", "unknown"])),
    "requested": st.booleans(),
    "asked_by": some(st.sampled_from(["policy", "client", "nobody"])),
    "size": some(st.sampled_from([">999B", "<1KiB", ">=1KB <=5MB"])),
    "time": some(SPANS),
}
ACTIONS: dict[str, st.SearchStrategy[Any]] = {
    "request": st.sampled_from(["add", "add", "keep", "strip"]),
    "notify": st.sampled_from(["sender", "box@a.example"]),
    "delivery_report": st.sampled_from(["add", "keep", "strip"]),
    "receipt": st.sampled_from(["deliver", "withhold", "reject"]),
    "record": st.sampled_from(["full", "no-subject", "none"]),
    "retain": st.sampled_from(["1d", "7y"]),
    "suppress": st.sampled_from(["read", "not-read", "both"]),
    "confirm": st.sampled_from(["claimed", "authenticated"]),
}


def chosen(keys: Mapping[str, st.SearchStrategy[Any]], most: int) -> st.SearchStrategy[dict[str, Any]]:
    """A mapping with some of the keys."""
    pick = st.lists(st.sampled_from(sorted(keys)), unique=True, max_size=most)
    return pick.flatmap(lambda names: st.fixed_dictionaries({name: keys[name] for name in names}))


RULES = st.lists(
    st.fixed_dictionaries(
        {"then": chosen({**ACTIONS, "basis": st.just("a law")}, 4)}, optional={"when": chosen(WHEN, 3)}
    ),
    max_size=6,
).map(lambda rules: [{"name": f"rule {n}", **rule} for n, rule in enumerate(rules)])
POLICIES = st.fixed_dictionaries(
    {
        "version": st.just(1),
        "groups": st.just({"one": ["x@a.example", "@b.example"], "empty": []}),
        "sensitivity": st.just({"mine": [{"header": "X-A", "has": "ON"}, {"header": "X-B", "pattern": "/o.e/"}]}),
        "rules": RULES,
    },
    optional={
        "mode": st.sampled_from(["enforce", "observe"]),
        "defaults": st.dictionaries(st.sampled_from([str(d) for d in Direction]), chosen(ACTIONS, 3)),
    },
)

# --- the rails ----------------------------------------------------------------------------------------------------

# Chance seldom brings together a rule that asks and mail of which only one thing forbids it, so these strategies do.
ASKS = st.fixed_dictionaries(
    {"request": st.just("add"), "delivery_report": st.just("add"), "receipt": st.sampled_from(["withhold", "reject"])},
    optional={"basis": st.just("a law"), "notify": st.just("box@a.example")},
)


@st.composite
def asking(draw: st.DrawFn) -> dict[str, Any]:
    """A policy whose last rule always holds and wants everything that a rail can forbid."""
    policy: dict[str, Any] = draw(POLICIES)
    return {**policy, "rules": [*policy["rules"][:2], {"name": "the rest", "then": draw(ASKS)}]}


OBSTACLES = ("none", "null", "program", "list", "stranger", "refusal")


@st.composite
def near_a_rail(draw: st.DrawFn) -> Facts:
    """Mail that may ask but for one thing at most, or any report."""
    found = draw(facts())
    if found.message.kind is not Kind.MAIL:
        return found
    obstacle = draw(st.sampled_from(OBSTACLES))
    message = replace(
        found.message,
        null_reverse_path=obstacle == "null",
        auto_submitted=obstacle == "program",
        list_mail=obstacle == "list",
    )
    consent = Consent.DENIED if obstacle == "refusal" else draw(st.sampled_from([Consent.GRANTED, Consent.UNKNOWN]))
    return replace(found, message=message, sender_in_realm=obstacle != "stranger", consent=consent)


@given(asking(), near_a_rail())
def test_no_policy_makes_mail_ask_that_must_not_ask(policy: dict[str, Any], given_facts: Facts) -> None:
    decision = decide(load(json.dumps(policy), "policy"), given_facts)
    message = given_facts.message
    if decision.request is Request.ADD:
        assert message.kind is Kind.MAIL
        assert not any((message.null_reverse_path, message.auto_submitted, message.list_mail))
        assert given_facts.sender_in_realm
        assert given_facts.consent is not Consent.DENIED or decision.basis
    else:
        assert decision.notify is None
    if decision.delivery_report is DeliveryReport.ADD:
        assert message.kind is Kind.MAIL
        assert given_facts.sender_in_realm
        assert not message.null_reverse_path


@given(asking(), facts(kinds=(Kind.MDN, Kind.DSN)) | near_a_rail())
def test_no_policy_withholds_what_must_be_delivered(policy: dict[str, Any], given_facts: Facts) -> None:
    decision = decide(load(json.dumps(policy), "policy"), given_facts)
    if decision.receipt is not Receipt.DELIVER:
        report = given_facts.message.report
        assert given_facts.message.kind is not Kind.MAIL
        assert report is not None
        assert report.only_reports
        assert report.must_deliver is None


@given(asking(), near_a_rail())
def test_a_rail_is_written_down_where_and_only_where_it_changed_something(
    policy: dict[str, Any], given_facts: Facts
) -> None:
    decision = decide(load(json.dumps(policy), "policy"), given_facts)
    for rail in decision.rails:
        assert str(getattr(decision, rail.key)) == rail.done != rail.wanted
        assert rail.why
        assert rail.why in sentence(decision, given_facts)


@given(asking(), facts())
def test_a_basis_comes_from_the_rule_that_decides(policy: dict[str, Any], given_facts: Facts) -> None:
    decision = decide(load(json.dumps(policy), "policy"), given_facts)
    rules = {rule["name"]: rule["then"].get("basis") for rule in policy["rules"]}
    assert decision.basis == (rules[decision.rule] if decision.rule else None)


# --- decide ---------------------------------------------------------------------------------------------------------


@given(POLICIES, facts(ANY_MAILBOXES))
def test_deciding_explaining_and_tracing_never_fail(policy: dict[str, Any], given_facts: Facts) -> None:
    loaded = load(json.dumps(policy), "policy")
    found = trace(loaded, given_facts)
    assert found.decision == decide(loaded, given_facts)
    assert found.reason == sentence(found.decision, given_facts)
    assert found.reason.endswith(".")
    assert "\n" not in found.reason
    assert [rule.name for rule in found.rules] == [rule["name"] for rule in policy["rules"]]
    lint(loaded)


@given(POLICIES, facts())
def test_observing_decides_the_same_and_enforces_nothing(policy: dict[str, Any], given_facts: Facts) -> None:
    enforcing = decide(load(json.dumps({**policy, "mode": "enforce"}), "policy"), given_facts)
    observing = decide(load(json.dumps({**policy, "mode": "observe"}), "policy"), given_facts)
    assert enforcing.enforced
    assert not observing.enforced
    fields = set(Decision.__dataclass_fields__) - {"enforced"}
    assert all(getattr(enforcing, f) == getattr(observing, f) for f in fields)


@given(st.lists(st.builds(Decision, request=st.sampled_from(Request)), min_size=1))
def test_the_strictest_edit_wins(decisions: list[Decision]) -> None:
    wanted = {d.request for d in decisions}
    expected = next(r for r in (Request.STRIP, Request.KEEP, Request.ADD) if r in wanted)
    assert strictest(decisions) == next(d for d in decisions if d.request is expected)


# --- a second implementation --------------------------------------------------------------------------------------


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


GROUPS = {"group:one": ["x@a.example", "@b.example"], "group:empty": []}


def same(text: str) -> str:
    return fold(text).replace("例え.jp", "xn--r8jz45g.jp")


def glob(wanted: str, text: str) -> bool:
    expression = "".join(".*" if c == "*" else "." if c == "?" else re.escape(c) for c in wanted)
    return re.fullmatch(expression, text, re.DOTALL) is not None


def naive_address(wanted: str, mailbox: Mailbox | None, null: bool) -> bool:
    if wanted in GROUPS:
        return any(naive_address(w, mailbox, null) for w in GROUPS[wanted])
    if wanted == "<>":
        return null or mailbox is None
    if mailbox is None:
        return wanted == "*"
    text = same(mailbox.local_part) + ("@" + same(mailbox.domain) if mailbox.domain else "")
    if wanted.startswith("@."):
        return text.endswith(("@" + wanted[2:], wanted[1:])) and "@" in text
    if wanted.startswith("@"):
        return text.endswith(same(wanted))
    return glob(same(wanted).replace('"', ""), text)


def naive_addresses(wanted: Any, mailbox: Mailbox | None, null: bool) -> bool:
    entries = as_list(wanted)
    yes = [e for e in entries if not e.startswith("not ")]
    no = [e[4:] for e in entries if e.startswith("not ")]
    named = any(naive_address(e, mailbox, null) for e in yes) if yes else True
    return named and not any(naive_address(e, mailbox, null) for e in no)


def naive_pattern(wanted: str, value: str) -> bool:
    if wanted.startswith("/"):
        flags = re.IGNORECASE if wanted.endswith("i") else re.NOFLAG
        return re.search(wanted.strip("i")[1:-1].replace("$", r"\Z"), nfc(value), flags) is not None
    return glob(fold(wanted), fold(value.strip()))


def naive_patterns(wanted: Any, values: Sequence[str]) -> bool:
    return any(naive_pattern(w, v) for w in as_list(wanted) for v in values)


def naive_sensitivity(name: str, facts: Facts) -> bool:
    values = facts.message.headers.values
    if name == "mine":
        return any("on" in fold(v) for v in values("x-a")) or any(naive_pattern("/o.e/", v) for v in values("x-b"))
    return any(fold(v.strip()).replace(" ", "-") == name for v in values("sensitivity"))


def naive_importance(facts: Facts) -> str:
    words = {"high": "high", "normal": "normal", "low": "low", "urgent": "high", "non-urgent": "low"}
    digits = {"1": "high", "2": "high", "3": "normal", "4": "low", "5": "low"}
    for name in ("importance", "x-priority", "priority", "x-msmail-priority"):
        for value in facts.message.headers.values(name):
            word = value.strip().lower()
            said = digits.get(word[:1]) if name == "x-priority" else words.get(word)
            if said:
                return said
    return "normal"


def naive_size(wanted: str, size: int | None) -> bool:
    if size is None:
        return False
    sizes: dict[str, bool] = {">999B": size > 999, "<1KiB": size < 1024, ">=1KB <=5MB": 1000 <= size <= 5_000_000}
    return sizes[wanted]


def naive_time(wanted: dict[str, Any], now: datetime) -> bool:
    if "zone" in wanted:
        try:
            now = now.astimezone(UTC)
        except OverflowError:
            return False
    weekdays = set(range(7))
    if "weekdays" in wanted:
        names = {"mon": {0}, "fri-mon": {4, 5, 6, 0}}
        weekdays = set().union(*(names[w] for w in as_list(wanted["weekdays"])))
    for hours in as_list(wanted["hours"]):
        begin, end = hours.split("-")
        clock = now.strftime("%H:%M")
        if begin < end and begin <= clock < end and now.weekday() in weekdays:
            return True
        if begin > end and clock >= begin and now.weekday() in weekdays:
            return True
        if begin > end and clock < end and (now.weekday() - 1) % 7 in weekdays:
            return True
    return False


def naive_condition(key: str, wanted: Any, facts: Facts) -> bool:
    message = facts.message
    plain = {
        "kind": message.kind,
        "direction": facts.direction,
        "consent": facts.consent,
        "importance": naive_importance(facts),
    }
    if key in plain:
        return str(plain[key]) in as_list(wanted)
    if key == "asked_by":
        return message.kind != "mail" and str(facts.asked_by) in as_list(wanted)
    if key == "requested":
        return bool(message.requested == wanted)
    if key == "from":
        return naive_addresses(wanted, message.sender, message.null_reverse_path)
    if key == "to":
        return naive_addresses(wanted, facts.recipient, False)
    if key == "subject":
        return naive_patterns(wanted, [message.subject])
    if key == "header":
        return all(naive_patterns(w, message.headers.values(name.lower())) for name, w in wanted.items())
    if key == "sensitivity":
        return any(naive_sensitivity(w, facts) for w in as_list(wanted))
    if key == "size":
        return any(naive_size(w, message.size) for w in as_list(wanted))
    assert key == "time"
    return any(naive_time(w, facts.now) for w in as_list(wanted))


def naive(policy: dict[str, Any], facts: Facts) -> str | None:
    """The name of the rule that decides."""
    for rule in policy["rules"]:
        when = rule.get("when", {})
        if facts.message.kind != "mail" and "receipt" not in rule["then"] and "kind" not in when:
            continue
        if all(naive_condition(key, wanted, facts) for key, wanted in when.items()):
            return str(rule["name"])
    return None


@given(POLICIES, facts())
def test_the_first_rule_that_holds_decides(policy: dict[str, Any], given_facts: Facts) -> None:
    assert decide(load(json.dumps(policy), "policy"), given_facts).rule == naive(policy, given_facts)


@given(POLICIES | asking(), facts())
def test_every_named_action_of_the_deciding_rule_is_taken_or_railed(policy: dict[str, Any], given_facts: Facts) -> None:
    decision = decide(load(json.dumps(policy), "policy"), given_facts)
    named: dict[str, Any] = next((r["then"] for r in policy["rules"] if r["name"] == decision.rule), {})
    wanted = {**policy.get("defaults", {}).get(str(given_facts.direction), {}), **named}
    railed = {rail.key for rail in decision.rails}
    for key in ("request", "delivery_report", "record", "suppress"):
        if key in wanted and key not in railed:
            assert str(getattr(decision, key)) == wanted[key]
    if given_facts.message.kind is Kind.MAIL:
        assert str(decision.confirm) == wanted.get("confirm", "claimed")
    if "receipt" in wanted and "receipt" not in railed and given_facts.message.kind is not Kind.MAIL:
        assert str(decision.receipt) == wanted["receipt"]


# --- lint -------------------------------------------------------------------------------------------------------


@given(POLICIES, st.lists(facts(), min_size=1, max_size=10))
def test_lint_calls_no_rule_unreachable_that_is_reached(policy: dict[str, Any], mails: list[Facts]) -> None:
    loaded = load(json.dumps(policy, indent=1), "policy")
    lines = {p.line for p in lint(loaded) if "never reached" in p.message or "never holds" in p.message}
    for given_facts in mails:
        assert decide(loaded, given_facts).line not in lines


@st.composite
def rivals(draw: st.DrawFn) -> dict[str, Any]:
    """Two rules with one condition each, on the same key: the case in which lint compares values."""
    key = draw(st.sampled_from(["from", "to", "subject", "header", "sensitivity", "importance", "size"]))
    policy: dict[str, Any] = draw(POLICIES)
    return {**policy, "rules": [{"name": f"r {n}", "when": {key: draw(WHEN[key])}, "then": {}} for n in range(2)]}


@given(rivals(), st.lists(facts(kinds=(Kind.MAIL,)), min_size=5, max_size=15))
def test_lint_compares_two_rules_as_mail_does(policy: dict[str, Any], mails: list[Facts]) -> None:
    loaded = load(json.dumps(policy, indent=1), "policy")
    second = loaded.rules[1]
    if any(p.line == second.line and "never reached" in p.message for p in lint(loaded)):
        assert all(decide(loaded, given_facts).rule != second.name for given_facts in mails)


PLACES = [
    "x@a.example",
    "y@b.example",
    "@a.example",
    "@.a.example",
    "x@sub.a.example",
    "@sub.a.example",
    "*",
    "x*",
    "<>",
]
NOBODY = union(())
ENTRY_OR_NONE = [None, *map(entry, PLACES)]
LISTS = [AddressList(some, none or NOBODY) for some in ENTRY_OR_NONE for none in ENTRY_OR_NONE]
SENDERS = [
    (Mailbox(local, domain), null)
    for local in ("x", "y")
    for domain in ("a.example", "sub.a.example", "b.example", "")
    for null in (False, True)
]


def test_what_a_list_of_addresses_covers_or_excludes_is_so_for_every_sender() -> None:
    has = {found: {sender for sender in (*SENDERS, (None, True)) if found.has(*sender)} for found in LISTS}
    assert not [found for found in LISTS if found.impossible and has[found]]
    pairs = [(wide, narrow) for wide in LISTS for narrow in LISTS if wide.covers(narrow)]
    assert len(pairs) > len(LISTS)
    assert not [(wide, narrow) for wide, narrow in pairs if not has[narrow] <= has[wide]]


# --- the loader -------------------------------------------------------------------------------------------------

PIECES = st.sampled_from(
    [
        "version: 1\n",
        "rules:\n",
        "  - name: a\n",
        "    then: {request: add}\n",
        "    when: ",
        "{",
        "}",
        "[",
        "]",
        "- ",
        "groups:\n",
        "  g: [x@a.example]\n",
        '"',
        "'",
        "&a ",
        "*a",
        "<<: ",
        "!!str ",
        "|\n",
        ">5\n",
        "\t",
        "# c\n",
        "---\n",
        "? ",
        ": ",
        ", ",
        "time: {hours: 1:00-2:00}\n",
        "subject: /(/\n",
        "%",
        "@",
        "\\",
        "\r",
        "\n",
        "  ",
        "例え",
        "null",
        "\ufeff",
        "\u2028",
        "\x00",
        DAMAGED,
        "...\n",
        '"\\ud800"',
        '"\\UFFFFFFFF"',
        "%YAML 9.9\n---\n",
        "=",
        "size: ",
    ]
)
TEXTS = st.lists(PIECES, max_size=25).map("".join) | st.text(max_size=200)


def problems_of(text: str | bytes) -> tuple[Problem, ...]:
    """What loading says: warnings when it works, else errors."""
    try:
        return tuple(lint(load(text, "policy")))
    except ProblemsError as error:
        return error.problems


def place_is_in(text: str, line: int, column: int) -> bool:
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    if len(lines) > 1 and lines[-1] == "":
        lines.pop()
    return 1 <= line <= len(lines) and 1 <= column <= len(lines[line - 1]) + 1


@given(TEXTS)
@example("a: &x [*x]")
@example("version: 1\nrules:")
@example("? a\n")
def test_loading_raises_nothing_but_problems_inside_the_file(text: str) -> None:
    problems = problems_of(text)
    for problem in problems:
        assert place_is_in(text, problem.line, problem.column), problem
        assert not re.search("[\x00-\x1f\x7f-\x9f]", str(problem)), problem


@given(st.binary(max_size=200) | TEXTS.map(lambda text: text.encode("utf-16-le", "replace")))
def test_loading_octets_raises_nothing_but_problems(octets: bytes) -> None:
    assert problems_of(octets) is not None


# Any tree of the right words in the wrong places.
WORDS = sorted(
    {*WHEN, *ACTIONS, *schema()["properties"], "name", "when", "then", "hours", "is", "has", "add", "not x", "1"}
)
VALIDATOR = Draft7Validator(schema())
TREES = st.recursive(
    st.sampled_from(WORDS) | st.none() | st.booleans() | st.integers() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(sorted(schema()["properties"])), TREES))
def test_loading_any_tree_raises_nothing_but_problems(tree: dict[str, Any]) -> None:
    text = json.dumps({"version": 1, **tree})
    assert all(place_is_in(text, p.line, p.column) for p in problems_of(text))


@given(POLICIES | st.dictionaries(st.sampled_from(sorted(schema()["properties"])), TREES))
@example({"request_headers": False})
def test_the_schema_accepts_whatever_the_loader_accepts(tree: dict[str, Any]) -> None:
    tree = {"version": 1, **tree}
    if not any(problem.severity == "error" for problem in problems_of(json.dumps(tree))):
        assert [error.message for error in VALIDATOR.iter_errors(tree)] == []


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30))
def test_a_quoted_scalar_is_read_as_it_was_written(text: str) -> None:
    node, problems = read(json.dumps({"key": text}), "file")
    assert problems == []
    assert node is not None
    assert getattr(node, "entries")[0][1].text == text  # noqa: B009


# --- text ---------------------------------------------------------------------------------------------------------


# Letters that are one character or several, and marks that change their order; long runs of them as well.
LETTERS = st.text("aé\u0301\u0323か\u3099が각\u1100\u1161\u11a8ßΣς ﬁ", max_size=6)
LONG_TEXTS = st.builds(lambda text, times, end: text * times + end, LETTERS, st.integers(1, 200), LETTERS)


@given(LONG_TEXTS | st.text(max_size=300))
def test_the_normal_form_of_text_of_any_length_is_the_same_text(text: str) -> None:
    assert normalize("NFD", nfc(text)) == normalize("NFD", text)
    assert len(text) > 256 or nfc(text) == normalize("NFC", text)


@given(st.text(max_size=200) | LETTERS)
def test_text_that_differs_in_case_or_unicode_form_folds_to_the_same(text: str) -> None:
    for other in (text.lower(), normalize("NFD", text), normalize("NFC", text), fold(text)):
        assert fold(other) == fold(text)
