"""Whose consent is looked up: everybody's on whom something depends, and nobody else's."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaifu.policies.facts import Consent, Realm
from kaifu.policies.load import load
from kaifu.policies.rules import Policy
from kaifu.proxy.address import parse_mail, parse_rcpt
from kaifu.proxy.envelope import Envelope
from kaifu.proxy.judgement import Judgement
from kaifu.proxy.ledger import Known
from kaifu.proxy.message import HeaderBlock
from kaifu.proxy.observe import Observation, observe
from kaifu.proxy.transit import judge, query

PEOPLE = ("a@example.com", "b@example.com", "c@partner.example", "d@partner.example")
REALM = Realm(["example.com"])

WHENS = st.fixed_dictionaries(
    {},
    optional={
        "to": st.sampled_from((*PEOPLE, "@partner.example")),
        "direction": st.sampled_from(("outbound", "internal", "inbound")),
        "consent": st.sampled_from(("granted", ["denied", "unknown"])),
        "time": st.sampled_from(({"hours": "08:00-10:00"}, {"weekdays": ["sun"]})),
        "size": st.sampled_from(("> 1 KB", "< 1 KB")),
        "kind": st.sampled_from(("mail", "mdn", ["mail", "mdn", "dsn"])),
        "asked_by": st.sampled_from(("nobody", "client")),
        "subject": st.sampled_from(("/x/", "y")),
    },
)
THENS = st.fixed_dictionaries(
    {"request": st.sampled_from(("add", "keep", "strip"))},
    optional={"basis": st.just("contract"), "receipt": st.sampled_from(("deliver", "withhold"))},
)


@lru_cache(maxsize=256)
def _loaded(text: str) -> Policy:
    return load(text, "policy.yaml")


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    rules = [
        {"name": f"rule {n}", "when": when, "then": then}
        for n, (when, then) in enumerate(draw(st.lists(st.tuples(WHENS, THENS), max_size=4)))
        if not ("asked_by" in when and when.get("kind") == "mail")
    ]
    defaults = draw(st.sampled_from(({}, {"defaults": {"outbound": {"request": "add"}}})))
    return _loaded(json.dumps({"version": 1, "rules": rules, **defaults}))


HEADERS = st.sampled_from(
    (
        b"Subject: x\r\n\r\n",
        b"Subject: y\r\nList-Id: <x>\r\n\r\n",
        b"Disposition-Notification-To: a@example.com\r\n\r\n",
        b"From: c@partner.example\r\nContent-Type: message/disposition-notification\r\n\r\n",
    )
)


def _seen(header: bytes, sender: str, recipients: tuple[str, ...]) -> Observation:
    envelope = Envelope(parse_mail(f"<{sender}>".encode()), tuple(parse_rcpt(f"<{r}>".encode()) for r in recipients))
    return observe(envelope, HeaderBlock.parse(header), b"Final-Recipient: c@partner.example\r\n", True, realm=REALM)


def _judged(policy: Policy, seen: Observation, consent: dict[str, Consent], now: datetime, size: int) -> Judgement:
    known = Known(consent=consent)
    return judge(policy, seen, known, now=now, queue_id="Q", hostname="mx", dsn=True, size=size)


@given(
    policies(),
    HEADERS,
    st.sampled_from((*PEOPLE, "")),
    st.lists(st.sampled_from(PEOPLE), min_size=1, unique=True),
    st.fixed_dictionaries({person: st.sampled_from(Consent) for person in PEOPLE}),
    st.datetimes(datetime(2026, 11, 16), datetime(2026, 11, 23), timezones=st.just(UTC)),
    st.sampled_from((10, 10_000)),
)
def test_what_is_not_looked_up_makes_no_difference(
    policy: Policy,
    header: bytes,
    sender: str,
    recipients: list[str],
    consent: dict[str, Consent],
    now: datetime,
    size: int,
) -> None:
    seen = _seen(header, sender, tuple(recipients))
    asked = query(policy, seen).consent_of
    assert set(asked) <= set(recipients)
    everything = _judged(policy, seen, consent, now, size)
    assert _judged(policy, seen, {person: consent[person] for person in asked}, now, size) == everything


ASK_PARTNERS = {"name": "ask", "when": {"to": "@partner.example"}, "then": {"request": "add"}}
NEVER_AT_NIGHT = {"name": "night", "when": {"time": {"hours": "22:00-06:00"}}, "then": {"request": "keep"}}
DOCTOR = {"name": "doctor", "when": {"to": "d@partner.example"}, "then": {"request": "strip"}}
REFUSED = {"name": "refused", "when": {"consent": "denied"}, "then": {"request": "strip"}}
WRITTEN = {"name": "w", "when": {"to": "@partner.example"}, "then": {"request": "add", "basis": "contract"}}


@pytest.mark.parametrize(
    ("rules", "sender", "header", "asked"),
    [
        ([ASK_PARTNERS], "a@example.com", b"\r\n", PEOPLE[2:]),
        ([DOCTOR, ASK_PARTNERS], "a@example.com", b"\r\n", PEOPLE[2:3]),
        ([NEVER_AT_NIGHT, ASK_PARTNERS], "a@example.com", b"\r\n", PEOPLE[2:]),
        ([REFUSED], "a@example.com", b"\r\n", PEOPLE),
        ([WRITTEN], "a@example.com", b"\r\n", ()),
        ([ASK_PARTNERS], "a@example.com", b"Precedence: bulk\r\n\r\n", ()),
        ([ASK_PARTNERS], "c@partner.example", b"\r\n", ()),
        ([ASK_PARTNERS], "", b"\r\n", ()),
    ],
    ids=["rail", "an earlier rule decides", "a rule that may hold", "a rule", "basis", "list", "stranger", "null"],
)
def test_only_those_are_looked_up_on_whom_something_depends(
    rules: list[dict[str, Any]], sender: str, header: bytes, asked: tuple[str, ...]
) -> None:
    policy = _loaded(json.dumps({"version": 1, "rules": rules}))
    assert query(policy, _seen(header, sender, PEOPLE)).consent_of == asked
