"""Who may confirm what: receipts and answers put together in every way, against what the ledger knows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from kaifu.policies.facts import AskedBy, Kind, Mailbox, Realm
from kaifu.proxy.address import address_key, parse_mail, parse_rcpt, untagged
from kaifu.proxy.envelope import Envelope
from kaifu.proxy.ledger import Evidence, EvidenceKind, Known, Original, OriginalRecipient, RequestState, Verdict
from kaifu.proxy.ledger_states import counts
from kaifu.proxy.match import match_reply, match_reports
from kaifu.proxy.message import HeaderBlock, split_message
from kaifu.proxy.observe import Observation, needs_body, observe
from kaifu.proxy.originals import Match

NOW = datetime(2026, 11, 21, tzinfo=UTC)
REALM = Realm(["example.com"])
PEOPLE = (
    "bob@partner.example",
    "Bob@Partner.example",
    "bob+tag@partner.example",
    "carol@partner.example",
    "dan@example.com",
    '"bob"@partner.example',
    "eve@evil.example",
    "名@例え.example",
)
SENDER = "alice@example.com"


def _seen(raw: str, reverse_path: str, *, outside: bool = False) -> Observation:
    header, offset = split_message(raw.replace("\n", "\r\n").encode())
    block = HeaderBlock.parse(header)
    envelope = Envelope(parse_mail(f"<{reverse_path}>".encode()), (parse_rcpt(f"<{SENDER}>".encode()),))
    body = raw.replace("\n", "\r\n").encode()[offset:] if needs_body(envelope, block) else None
    return observe(envelope, block, body, True, realm=REALM, outside=outside)


def _known(recipients: list[str], asked: list[AskedBy], sender: str = SENDER) -> Known:
    rows = tuple(
        OriginalRecipient(n, address, RequestState.ADDED, by, AskedBy.NOBODY)
        for n, (address, by) in enumerate(zip(recipients, asked, strict=True), 1)
    )
    return Known({"m@example.com": (Original(1, "m@example.com", sender, NOW, rows),)})


def _person(address: str) -> str:
    return untagged(address_key(address))


@st.composite
def receipts(draw: st.DrawFn) -> dict[str, Any]:
    """An MDN that names the original, with any author and any recipient fields."""
    people = st.sampled_from(PEOPLE)
    author, final, original = draw(st.none() | people), draw(st.none() | people), draw(st.none() | people)
    disposition = draw(st.sampled_from(("displayed", "deleted", "denied", "processed", "nonsense", None)))
    lines = [f"From: {author}"] if author else []
    lines += ["Content-Type: message/disposition-notification", ""]
    lines += [f"Final-Recipient: rfc822;{final}"] if final else []
    lines += [f"Original-Recipient: rfc822;{original}"] if original else []
    lines += ["Original-Message-ID: <m@example.com>"]
    lines += [f"Disposition: manual-action/MDN-sent-manually; {disposition}"] if disposition else []
    reverse_path = draw(st.sampled_from(("", *PEOPLE)))
    recipients = draw(st.lists(people, min_size=1, max_size=4, unique_by=address_key))
    asked = draw(st.lists(st.sampled_from(AskedBy), min_size=len(recipients), max_size=len(recipients)))
    outside = draw(st.booleans())
    known = _known(recipients, asked)
    seen = _seen("\n".join(lines) + "\n", reverse_path, outside=outside)
    return {
        "match": match_reports(seen.reports, seen.carrier, known),
        "author": author or reverse_path or None,
        "final": final,
        "disposition": disposition,
        "recipients": dict(enumerate(recipients, 1)),
        "asked": dict(enumerate(asked, 1)),
        "outside": outside,
    }


@given(receipts())
def test_a_receipt_confirms_only_for_its_own_author(made: dict[str, Any]) -> None:
    match: Match = made["match"]
    for evidence in match.evidence:
        if evidence.verdict is Verdict.MATCHED:
            assert evidence.recipient is not None
            recipient = made["recipients"][evidence.recipient]
            assert made["author"] is None or _person(made["author"]) == _person(recipient)
            assert made["final"] is None or _person(made["final"]) == _person(recipient)
            assert not (made["outside"] and made["author"] and made["author"].endswith("@example.com"))
            assert evidence.value == made["disposition"]


@given(receipts())
def test_what_cannot_be_read_moves_nothing(made: dict[str, Any]) -> None:
    if made["disposition"] in (None, "nonsense"):
        for evidence in made["match"].evidence:
            assert evidence.verdict is Verdict.UNREADABLE
            assert not counts(evidence.kind, evidence.verdict, evidence.grade)


@given(receipts())
def test_the_honest_receipt_of_a_recipient_is_believed(made: dict[str, Any]) -> None:
    """Author and Final-Recipient are one of the recipients, letter for letter, and the Disposition is read."""
    author, final = made["author"], made["final"]
    ours = {address_key(a) for a in made["recipients"].values()}
    if author and author == final and address_key(final) in ours and made["disposition"] not in (None, "nonsense"):
        pretends = made["outside"] and author.endswith("@example.com")
        assert [e.verdict for e in made["match"].evidence] == [Verdict.WRONG_RECIPIENT if pretends else Verdict.MATCHED]


@given(receipts())
def test_whoever_answers_the_client_asked_if_it_asked_anybody_concerned(made: dict[str, Any]) -> None:
    match: Match = made["match"]
    assert match.original_known
    concerned = [e.recipient for e in match.evidence if e.verdict is Verdict.MATCHED]
    if concerned:
        asked = {made["asked"][n] for n in concerned}
        strongest = next(by for by in (AskedBy.CLIENT, AskedBy.POLICY, AskedBy.NOBODY) if by in asked)
        assert match.asked_by is strongest


@given(receipts())
def test_evidence_says_who_and_why(made: dict[str, Any]) -> None:
    for evidence in made["match"].evidence:
        assert evidence.kind is EvidenceKind.MDN
        assert evidence.why.startswith("Original-Message-ID names our message; ")
        assert evidence.raw is not None
        assert made["author"] is None or evidence.by
        assert evidence.recipient is None or evidence.recipient in made["recipients"]


AUTOMATIC = st.sampled_from(
    (
        "Auto-Submitted: auto-replied",
        "Auto-Submitted: auto-generated (vacation)",
        "auto-submitted:\n auto-notified; x=y",
        "Precedence: bulk",
        "Precedence: junk",
        "precedence: LIST",
        "Precedence: auto_reply",
        "List-Id: Everybody <everybody.example.com>",
        "X-Autoreply: yes",
        "X-Autorespond:",
        "X-Vacation: on",
        "X-MS-Exchange-Inbox-Rules-Loop: bob@partner.example",
    )
)
CITING = st.sampled_from(
    ("In-Reply-To: <m@example.com>", "References: <x@y> <m@example.com>", "in-reply-to:\n m@example.com")
)


def _reply(lines: list[str], reverse_path: str, known: Known) -> tuple[Evidence, ...]:
    seen = _seen("\n".join(lines) + "\n\nI am away.\n", reverse_path)
    return match_reply(seen.carrier, known)


@given(st.sampled_from(PEOPLE), CITING, AUTOMATIC, st.sampled_from(("", *PEOPLE)))
def test_an_out_of_office_note_never_confirms(author: str, citing: str, marker: str, reverse_path: str) -> None:
    known = _known(list(PEOPLE[3:]), [AskedBy.CLIENT] * len(PEOPLE[3:]))
    for evidence in _reply([f"From: {author}", marker, citing], reverse_path, known):
        assert evidence.kind is EvidenceKind.AUTO_REPLY
        assert not counts(evidence.kind, evidence.verdict, evidence.grade)


@given(st.sampled_from(PEOPLE), CITING)
def test_nor_does_an_answer_from_a_null_reverse_path(author: str, citing: str) -> None:
    known = _known([author], [AskedBy.CLIENT])
    (evidence,) = _reply([f"From: {author}", citing], "", known)
    assert evidence.kind is EvidenceKind.AUTO_REPLY


@given(st.sampled_from(PEOPLE), st.lists(st.sampled_from(PEOPLE), min_size=1, unique_by=address_key), CITING)
@example("bob+tag@partner.example", ["carol@partner.example"], "In-Reply-To: <m@example.com>")
def test_an_answer_counts_for_who_wrote_it_and_nobody_else(author: str, recipients: list[str], citing: str) -> None:
    found = _reply([f"From: {author}", citing], author, _known(recipients, [AskedBy.CLIENT] * len(recipients)))
    for evidence in found:
        assert evidence.kind is EvidenceKind.REPLY
        assert evidence.by == str(parse_mail(f"<{author}>".encode()).mailbox)
        if evidence.verdict is Verdict.MATCHED:
            assert evidence.recipient is not None
            assert _person(recipients[evidence.recipient - 1]) == _person(author)
    exact = [n for n, r in enumerate(recipients, 1) if address_key(r) == address_key(author)]
    if exact:
        assert [(e.verdict, e.recipient) for e in found] == [(Verdict.MATCHED, n) for n in exact]


@given(st.sampled_from(PEOPLE), CITING)
def test_who_asked_does_not_answer(author: str, citing: str) -> None:
    known = _known([author, "other@partner.example"], [AskedBy.CLIENT] * 2, sender=author)
    assert _reply([f"From: {author}", citing], author, known) == ()


@given(st.binary(max_size=300), st.binary(max_size=300), st.booleans())
@example(b"From: a@b, c@d\r\nFrom: <\r\nIn-Reply-To: <m@example.com>\r\n\r\n", b"", False)
def test_no_octets_whatever_make_it_fail(header: bytes, body: bytes, complete: bool) -> None:
    block = HeaderBlock.parse(b"Content-Type: message/disposition-notification\r\n" + header)
    envelope = Envelope(parse_mail(b"<>"), (parse_rcpt(b"<alice@example.com>"),))
    seen = observe(envelope, block, body, complete, realm=REALM)
    known = Known(
        {i: (Original(1, i, SENDER, NOW, ()),) for i in seen.query.message_ids},
        {i: (Original(1, i, SENDER, NOW, ()),) for i in seen.query.envids},
    )
    match = match_reports(seen.reports, seen.carrier, known)
    assert all(e.recipient is None for e in match.evidence)
    match_reply(seen.carrier, known)
    assert seen.message.kind in Kind


def test_an_address_in_the_ledger_is_compared_as_people_do() -> None:
    assert address_key('"Bob"@Partner.EXAMPLE') == Mailbox("bob", "partner.example").key
    assert address_key("Postmaster") == Mailbox("postmaster", "").key
    assert address_key("a@例え.example") == address_key("A@xn--r8jz45g.example")
    assert untagged("bob+x+y@partner.example") == "bob@partner.example"
    assert untagged("+x@partner.example") == "+x@partner.example"
