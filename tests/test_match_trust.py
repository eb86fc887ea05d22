"""Whom to believe, put together in every way: an answer has no grade that its proofs do not give, and aliases lead one way only."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kaifu.policies.facts import AskedBy, Realm
from kaifu.proxy.address import address_key, parse_mail, parse_rcpt
from kaifu.proxy.aliases import Aliases, parse_aliases
from kaifu.proxy.envelope import Envelope
from kaifu.proxy.ledger import Evidence, Grade, Known, Original, OriginalRecipient, RequestState, Verdict
from kaifu.proxy.match import match_reply, match_reports
from kaifu.proxy.message import HeaderBlock
from kaifu.proxy.observe import Observation, observe
from kaifu.proxy.organisation import organisational_domain
from kaifu.proxy.trust import NO_TRUST, Trust

REALM = Realm(["example.com"])
NOW = datetime(2026, 11, 21, tzinfo=UTC)
PEOPLE = (
    "bob@partner.co.jp",
    "carol@mail.partner.co.jp",
    "eve@other.co.jp",
    "hr@example.com",
    "hanako@example.com",
    "office@example.com",
)
ALIASES, _ = parse_aliases("hr: hanako, bob@partner.co.jp\noffice: hr\n")
TRUST = Trust(frozenset(["mx.example.com"]), Aliases(ALIASES, REALM), organisational_domain)
# Whoever stands on the left is answered for by those on the right.
ANSWERED_BY = {
    "hr@example.com": {"hanako@example.com", "bob@partner.co.jp"},
    "office@example.com": {"hr@example.com", "hanako@example.com", "bob@partner.co.jp"},
}
DOMAINS = st.sampled_from(("partner.co.jp", "mail.partner.co.jp", "other.co.jp", "co.jp", "example.com"))
RESULTS = st.one_of(
    st.tuples(st.just("dkim"), st.sampled_from(("pass", "fail", "none", "neutral")), st.just("header.d"), DOMAINS),
    st.tuples(st.just("spf"), st.sampled_from(("pass", "fail", "softfail")), st.just("smtp.mailfrom"), DOMAINS),
    st.tuples(st.just("dmarc"), st.sampled_from(("pass", "fail", "none")), st.just("header.from"), DOMAINS),
)
Result = tuple[str, str, str, str]
FIELDS = st.lists(
    st.tuples(st.sampled_from(("mx.example.com", "mx.other.co.jp")), st.lists(RESULTS, max_size=3)), max_size=3
)


def field(name: str, results: list[Result]) -> bytes:
    told = "".join(f"; {method}={value} {key}={domain}" for method, value, key, domain in results) or "; none"
    return f"Authentication-Results: {name}{told}\r\n".encode()


@st.composite
def answers(draw: st.DrawFn) -> dict[str, Any]:
    """A receipt or a reply with any author, any Final-Recipient and any proofs."""
    people = st.sampled_from(PEOPLE)
    author, final = draw(people), draw(st.none() | people)
    fields = draw(FIELDS)
    path = draw(st.sampled_from(("", author)))
    lines = b"".join(field(*one) for one in fields) + f"From: {author}\r\n".encode()
    if final is None:
        lines, body = lines + b"In-Reply-To: <m@example.com>\r\n\r\n", None
    else:
        lines += b"Content-Type: message/disposition-notification\r\n\r\n"
        body = (
            f"Final-Recipient: rfc822;{final}\r\nOriginal-Message-ID: <m@example.com>\r\n"
            "Disposition: manual-action/MDN-sent-manually; displayed\r\n"
        ).encode()
    envelope = Envelope(parse_mail(f"<{path}>".encode()), (parse_rcpt(b"<alice@example.com>"),))
    seen = observe(envelope, HeaderBlock.parse(lines), body, True, realm=REALM, trust=TRUST)
    asked = draw(st.lists(people, min_size=1, max_size=3, unique=True))
    ours = next((results for name, results in fields if name == "mx.example.com"), None)
    return {"seen": seen, "author": author, "final": final, "path": path, "asked": asked, "results": ours}


def evidence_of(made: dict[str, Any], seen: Observation | None = None) -> tuple[Evidence, ...]:
    seen = seen or made["seen"]
    assert seen is not None
    rows = tuple(
        OriginalRecipient(n, address, RequestState.ADDED, AskedBy.POLICY, AskedBy.NOBODY)
        for n, address in enumerate(made["asked"], 1)
    )
    known = Known({"m@example.com": (Original(1, "m@example.com", "alice@example.com", NOW, rows),)})
    if made["final"] is None:
        return match_reply(seen.carrier, known)
    return match_reports(seen.reports, seen.carrier, known).evidence


def organisation(address: str) -> str:
    return {"partner.co.jp": "P", "mail.partner.co.jp": "P"}.get(address.split("@")[-1], address.split("@")[-1])


def about(made: dict[str, Any], address: str, value: str) -> set[str]:
    """The methods that say so about an address's organisation, by another reading than the code's."""
    return {
        method
        for method, found, _, domain in made["results"] or ()
        if found == value and organisation(domain) == organisation(address) and (method != "spf" or made["path"])
    }


@given(answers())
def test_only_what_is_proven_for_each_domain_that_answers_is_authenticated(made: dict[str, Any]) -> None:
    speakers = {made["author"], made["final"] or made["author"]}
    passed = [about(made, one, "pass") - {"dmarc"} for one in speakers]
    failed = [about(made, one, "fail") for one in speakers]
    forged = any(no and not yes for yes, no in zip(passed, failed, strict=True))
    proven = all(yes and "dmarc" not in no for yes, no in zip(passed, failed, strict=True))
    for evidence in evidence_of(made):
        if evidence.verdict in (Verdict.MATCHED, Verdict.OTHER_ADDRESS):
            assert not forged
            assert evidence.grade is (Grade.AUTHENTICATED if proven else Grade.CLAIMED)
        elif evidence.verdict is Verdict.FAILED_AUTHENTICATION:
            assert forged
        assert evidence.grade is Grade.CLAIMED or evidence.verdict in (Verdict.MATCHED, Verdict.OTHER_ADDRESS)


@given(answers())
def test_an_alias_answers_for_the_asked_address_and_never_the_other_way_round(made: dict[str, Any]) -> None:
    speakers = {made["author"], made["final"] or made["author"]}
    for evidence in evidence_of(made):
        if evidence.verdict is not Verdict.MATCHED:
            continue
        assert evidence.recipient is not None
        asked = made["asked"][evidence.recipient - 1]
        assert asked in speakers or speakers & ANSWERED_BY.get(asked, set())
        assert evidence.alias == (asked not in speakers or len(speakers) > 1)
        by_another = made["author"] == asked and evidence.alias  # and speaks for whoever gets its mail
        assert evidence.by == (made["final"] if by_another else made["author"])
        if len(speakers) > 1:
            one, other = speakers
            assert one in ANSWERED_BY.get(other, ()) or other in ANSWERED_BY.get(one, ())


@given(answers())
def test_without_anybody_to_believe_all_is_claimed_and_no_alias_is_known(made: dict[str, Any]) -> None:
    for evidence in evidence_of(made, replace(made["seen"], trust=NO_TRUST)):
        assert (evidence.grade, evidence.alias) == (Grade.CLAIMED, False)
        assert evidence.verdict is not Verdict.FAILED_AUTHENTICATION
        if evidence.verdict is Verdict.MATCHED:
            assert evidence.recipient is not None
            asked = address_key(made["asked"][evidence.recipient - 1])
            assert {asked} == {made["author"], made["final"] or made["author"]}


@given(answers())
def test_fields_of_others_and_older_ones_change_nothing(made: dict[str, Any]) -> None:
    seen = made["seen"]
    below = b"".join(field(*one) for one in [("mx.example.com", [("dkim", "pass", "header.d", "partner.co.jp")])])
    above = field("mx.other.co.jp", [("dkim", "pass", "header.d", "partner.co.jp")])
    raw = above + seen.block.raw.replace(b"From:", (below if made["results"] is not None else b"") + b"From:", 1)
    again = replace(seen, block=HeaderBlock.parse(raw))
    assert evidence_of(made, again) == evidence_of(made)
