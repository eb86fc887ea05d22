"""The milter says to an MTA what Sendmail's libmilter would say: the same octets go to both, the same octets come back.

On one side the installed ``kaifu milter``, on the other a real libmilter process with the same host, policy and settings
(libmilter_reference.py), each with a ledger of its own. What may differ, and why it does, is all in :data:`DIFFERENCES`.
"""

from __future__ import annotations

import re
import socket
import struct
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.milter_client import (
    ADDHDRS,
    ADDRCPT,
    ADDRCPT_PAR,
    ALL_ACTIONS,
    ALL_STEPS,
    CHGHDRS,
    CHUNK,
    DELRCPT,
    NOCONNECT,
    NR_HDR,
    SETSYMLIST,
    SKIP,
    Gone,
    Mail,
    Mta,
    packet,
    words,
)
from tests.milter_process import Milter
from tests.session_next_hop import poll
from tests.test_milter_parity import ENVELOPES, POLICIES, REALM, as_handed_over, messages
from tests.test_milter_wire import ALICE, DNT, ODD, PLAIN, POLICY, RECEIPT, RECEIPT_BODY

from kaifu.proxy.message import HeaderBlock, split_message

pytest.importorskip("milter", reason="pymilter could not be built here")

DIFFERENCES = """
Offers
  * Nothing offered (a zero for the actions or the steps) is nothing here; libmilter takes it for what version 1 had. MTAs offer all
    they have.
  * libmilter reads a version as a signed number, and hangs up on one of 2**31 or more; here it is one of the future.
Steps
  * A piece of body that is not wanted any more is answered with a skip whatever its size. With libmilter that must be a full piece,
    because it does not tell the last piece, after which it would not ask for the decision.
  * After DATA libmilter answers nothing more of a message without any header field. Here it is decided.
  * What a step says that is not needed (CONNECT, HELO) is not read, and nonsense there goes unnoticed.
Order
  * What comes out of order (a recipient after the header, a second offer, HELO within a message) libmilter passes over in silence,
    and the message with it, so that the MTA waits for ever. Here a message is what came since MAIL: decided as if it had come in
    order, deferred, or hung up on. MTAs keep the order.
  * An end of message without a message, or without a recipient, is deferred here; libmilter does not answer.
  * After one SMTP client has gone and another come on the same connection (Sendmail can do that) what was negotiated holds. With
    pymilter it is forgotten, and what needs changes is deferred.
Ends
  * Where the MTA does not allow a change, nothing is changed here and the message deferred; with libmilter some changes may have
    been told before the deferral, which an MTA then drops.
Names
  * pymilter leaves out a header field whose name is not UTF-8; here every name that is none is.
"""

REFERENCE = Path(__file__).with_name("libmilter_reference.py")
MINTED = re.compile(rb"<[0-9a-f]{32}@mx\.example\.co\.jp>")
Packets = list[tuple[bytes, bytes]]


class Reference(Milter):
    """The same milter, with libmilter for the protocol."""

    def launch(self) -> None:
        self.spawn(sys.executable, REFERENCE, self.config)


@dataclass
class Sides:
    """Both, with the same policy."""

    ours: Milter
    theirs: Milter

    def __iter__(self) -> Iterator[Milter]:
        return iter((self.ours, self.theirs))


@contextmanager
def pair(directory: Path, policy: str, settings: Mapping[str, Any] = {}) -> Iterator[Sides]:
    """Both, running."""
    places = [directory / name for name in ("ours", "theirs")]
    for place in places:
        place.mkdir()
    with Milter(places[0], policy, settings) as ours, Reference(places[1], policy, settings) as theirs:
        yield Sides(ours, theirs)
        ours.stop()
        theirs.no_traceback()


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sides]:
    with pair(tmp_path_factory.mktemp("sides"), POLICY) as both:
        yield both


def said(side: Milter, *octets: bytes) -> Packets:
    """All that it answers to these packets; then the MTA quits."""
    with side.connect(negotiate=False) as mta:
        mta.raw(b"".join(octets) + packet(b"Q"))
        return list(_until_gone(mta))


def _until_gone(mta: Mta) -> Iterator[tuple[bytes, bytes]]:
    while True:
        try:
            command, data = mta.answer()
        except Gone:
            return
        yield command, MINTED.sub(b"<minted>", data)


# Negotiation


OFFERS = {
    "Postfix": (6, 0x1FF, 0x1FFFFF),
    "Sendmail 8.14 and newer": (6, 0x1FF, 0x1FFFFF),
    "before replies could be left out": (4, 0x3F, 0x3FF),
    "before DATA was a step": (3, 0x3F, 0x1FF),
    "before unknown commands were": (2, 0x3F, 0x7F),
    "nothing to leave out": (6, 0x1FF, 0),
    "nothing to change": (6, 0, 0x1FFFFF),
    "everything": (6, 0xFFFFFFFF, 0xFFFFFFFF),
    "the future": (7, 0x1FF, 0x1FFFFF),
    "the far future": (0x7FFFFFFF, 0x1FF, 0x1FFFFF),
    "version 1": (1, 0x0F, 0x3F),
    "version 0": (0, 0, 0),
}


def negotiated(sides: Sides, offer: bytes) -> tuple[Packets, Packets]:
    """Ours and libmilter's; nothing is offered to libmilter as a bit that means nothing."""
    version, actions, steps = struct.unpack("!III", offer[:12])
    theirs = struct.pack("!III", version, actions or 1 << 9, steps or 1 << 27) + offer[12:]
    return said(sides.ours, packet(b"O", offer)), said(sides.theirs, packet(b"O", theirs))


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS.keys())
def test_an_offer_is_answered_alike(sides: Sides, offer: tuple[int, int, int]) -> None:
    ours, theirs = negotiated(sides, struct.pack("!III", *offer))
    assert ours == theirs


NUMBERS = st.integers(0, 2**32 - 1)
VERSIONS = st.one_of(st.integers(0, 8), st.integers(0, 2**31 - 1))
MASKS = st.one_of(st.sampled_from((0, 0x1FF, 0x3F, 0xFFFFF, 0x7F)), NUMBERS)


@given(VERSIONS, MASKS, MASKS, st.binary(max_size=3))
def test_any_offer_is_answered_alike(sides: Sides, version: int, actions: int, steps: int, rest: bytes) -> None:
    ours, theirs = negotiated(sides, struct.pack("!III", version, actions, steps) + rest)
    assert ours == theirs


@pytest.mark.parametrize("length", range(12))
def test_half_an_offer_is_answered_by_nobody(sides: Sides, length: int) -> None:
    offer = packet(b"O", struct.pack("!III", 6, ALL_ACTIONS, ALL_STEPS)[:length])
    assert [said(side, offer) for side in sides] == [[], []]


# Messages


class Listener(Mta):
    """An MTA that keeps all that it was told."""

    def __init__(self, *args: Any, **offers: Any) -> None:
        self.heard: Packets = []
        super().__init__(*args, **offers)

    def answer(self) -> tuple[bytes, bytes]:
        told = super().answer()
        self.heard.append((told[0], MINTED.sub(b"<minted>", told[1])))
        return told


@dataclass(repr=False)
class Conversation:
    """Messages on one connection of an MTA that offers this, and after which step each is given up, None when never."""

    offers: dict[str, int]
    messages: Sequence[tuple[Mail, str | None]]

    def __repr__(self) -> str:
        return f"Conversation({self.offers}, {[(_shown(mail), given_up) for mail, given_up in self.messages]})"


def _shown(mail: Mail) -> str:
    """Without what makes a failure unreadable."""
    headers = [(name, value[:60]) for name, value in mail.headers]
    return (
        f"Mail({mail.mail}, {mail.rcpt}, {headers[:12]} of {len(headers)}, {len(mail.body)} octets, {mail.queue_id!r})"
    )


def hold(side: Milter, conversation: Conversation) -> tuple[Packets, list[str]]:
    """What the MTA hears, and how the messages end."""
    with closing(Listener(side.socket, **conversation.offers)) as mta:
        ends = []
        for mail, given_up in conversation.messages:
            mta.begin(mail)
            mta.steps |= NOCONNECT  # once for each connection
            if given_up == "envelope":
                mta.abort()
                continue
            sent = mta.content(mail)
            if given_up == "content":
                mta.abort()
                continue
            before = len(mta.heard)
            result = mta.end(mail, mail.body[sent:] if sent >= 0 else b"")
            if result.end == "tempfail":
                del mta.heard[before:-1]
            ends.append(f"{result.end} {result.reply}".strip())
        return mta.heard, ends


def compare(sides: Sides, conversation: Conversation) -> list[str]:
    """Hold it with both; how the messages end."""
    (ours, ends), (theirs, _) = (hold(side, conversation) for side in sides)
    assert ours == theirs
    return ends


def mail(*to: bytes, sender: list[bytes] = ALICE, headers: Any = PLAIN, body: bytes = b"Hello.\r\n") -> Mail:
    return Mail(sender, [one.split(b" ") for one in to], headers, body)


def receipt(*to: bytes, sender: bytes = b"<bob@partner.example>", size: int = 0, more: Any = ()) -> Mail:
    headers = [(b"From", sender), (b"Message-ID", b"<r@partner.example>"), RECEIPT[2], *more]
    return mail(*to, sender=[b"<>"], headers=headers, body=b"--b\r\n\r\n" + b"text\r\n" * size + RECEIPT_BODY)


REFUSED = "reject 550 5.7.1 Receipts are refused here by policy"
DEFERRED = "tempfail 451 4.3.0 Local error in processing; try again later"
NOT_ALL = {"actions": ALL_ACTIONS & ~CHGHDRS}
LOUD = {"steps": 1 << 17}
"""What is offered has no meaning: every step is told, and answered."""

OUTCOMES: dict[str, tuple[Mail, dict[str, int], str, bytes]] = {
    "kept": (mail(b"<kurt@customer.example>", headers=[*PLAIN, DNT]), {}, "accept", b"c"),
    "added": (mail(b"<bob@partner.example>"), {}, "accept", b"hc"),
    "added, every step answered": (mail(b"<bob@partner.example>"), LOUD, "accept", b"hc"),
    "added, with an id": (mail(b"<bob@partner.example>", headers=[PLAIN[0]]), {}, "accept", b"hhc"),
    "added, after a NUL": (
        mail(b"<bob@partner.example>", headers=[(b"Message-ID", b"<1@example.co.jp>\0"), *PLAIN[2:]]),
        {},
        "accept",
        b"hc",
    ),
    "stripped": (mail(b"<eve@rival.example>", headers=[DNT, *ODD, DNT, PLAIN[1], *ODD, DNT]), {}, "accept", b"mmmc"),
    "suppressed": (mail(b"<h@hush.example>"), {}, "accept", b"hc"),
    "replaced": (
        mail(b"<h@hush.example>", headers=[*PLAIN, (b"X-Auto-Response-Suppress", b"OOF")]),
        {},
        "accept",
        b"mc",
    ),
    "a delivery report": (
        mail(b"<c@courier.example> ORCPT=rfc822;c+2Bx NOTIFY=FAILURE", b"<d@x.example>"),
        {},
        "accept",
        b"-2c",
    ),
    "withheld from one": (receipt(b"<sales@example.co.jp>", b"<chef@example.co.jp>"), {}, "accept", b"-c"),
    "withheld from one, stripped": (
        receipt(b"<sales@example.co.jp>", b"<chef@example.co.jp>", more=[DNT]),
        {},
        "accept",
        b"m-c",
    ),
    "withheld from all": (receipt(b"<sales@example.co.jp>", b"<sales@example.co.jp>"), {}, "discard", b"d"),
    "withheld for the sender": (receipt(b"<chef@example.co.jp>", sender=b"<eve@rival.example>"), {}, "discard", b"d"),
    "rejected": (receipt(b"<works@example.co.jp>"), {}, REFUSED, b"y"),
    "a large report": (receipt(b"<sales@example.co.jp>", size=200_000), {}, "accept", b"c"),
    "not to be changed": (mail(b"<eve@rival.example>", headers=[*PLAIN, DNT]), NOT_ALL, DEFERRED, b"y"),
    "too much": (
        mail(b"<kurt@x.example>", headers=[(b"X", b"y" * 9000)] * 120),
        {},
        "reject 552 5.3.4 Header section too large",
        b"y",
    ),
    "no header": (mail(b"<kurt@x.example>", headers=[]), {}, "accept", b"c"),
    "no address": (mail(b"<kurt@x.example"), {}, DEFERRED, b"y"),
}


@pytest.mark.parametrize("name", OUTCOMES)
def test_every_outcome_is_told_alike(sides: Sides, name: str) -> None:
    one, offers, end, told = OUTCOMES[name]
    conversation = Conversation(offers, [(one, None)])
    assert compare(sides, conversation) == [end]
    ours, _ = hold(sides.ours, conversation)
    assert b"".join(command for command, _ in ours)[-len(told) :] == told


def some(*bits: int) -> st.SearchStrategy[int]:
    """Some of these bits."""
    return st.lists(st.sampled_from(bits), unique=True).map(sum)


OFFERED = st.fixed_dictionaries(
    {
        "version": st.integers(2, 7),
        "actions": some(ADDHDRS, CHGHDRS, DELRCPT, ADDRCPT | ADDRCPT_PAR, SETSYMLIST).map(
            lambda bits: ALL_ACTIONS & ~bits
        ),
        "steps": some(*(1 << bit for bit in range(16))).map(lambda bits: (ALL_STEPS & ~bits) | 1 << 17),
    }
)
WITH_ALL = st.fixed_dictionaries({"steps": st.sampled_from((ALL_STEPS, ALL_STEPS & ~SKIP & ~NR_HDR))})
OCTETS = st.binary(max_size=30)
SANE = st.sampled_from((
    "<bob@partner.example>", "<eve@rival.example>", "<c@courier.example>", "<h@hush.example>", "<works@example.co.jp>",
    "<sales@example.co.jp>", "<chef@example.co.jp>", "<alice@example.co.jp>", "<kurt@customer.example>", "<>",
)).map(str.encode)  # fmt: skip
ODD_PATHS = st.one_of(
    st.sampled_from(
        ("bob@partner.example", '<"a b"@partner.example>', "<@relay.example:bob@partner.example>", "<名@例え.example>")
    ).map(str.encode),
    OCTETS.map(lambda octets: b"<" + octets.replace(b"\0", b"")),
)
PATHS = st.one_of(*[SANE] * 6, ODD_PATHS)
MAIL_PARAMETERS = st.sampled_from(
    (b"SIZE=1000", b"BODY=8BITMIME", b"SMTPUTF8", b"RET=HDRS", b"ENVID=QQ+2B1", b"AUTH=<>", b"X")
)
RCPT_PARAMETERS = st.sampled_from((
    b"NOTIFY=NEVER", b"NOTIFY=SUCCESS", b"NOTIFY=FAILURE,DELAY", b"notify=x", b"ORCPT=rfc822;c+2Bx@courier.example", b"X=%s",
))  # fmt: skip
NAMES = st.one_of(
    st.sampled_from(
        "Disposition-Notification-To disposition-notification-TO Return-Receipt-To X-Confirm-Reading-To From Message-ID "
        "Subject In-Reply-To X-Auto-Response-Suppress Auto-Submitted Content-Type Disposition-Notification-Options".split()
    ).map(str.encode),
    st.binary(min_size=1, max_size=12).map(lambda octets: octets.replace(b"\0", b"x")),
)
VALUES = st.one_of(
    st.sampled_from((
        b"<alice@example.co.jp>", b"<bob@partner.example>", b"<eve@rival.example>", b"<1@example.co.jp>", b"", b" ", b"OOF, rn",
        b"one\n\ttwo\r\n three", b"auto-replied", RECEIPT[2][1], b"x" * 70_000, "名".encode(),
    )),
    OCTETS,
)  # fmt: skip
BODIES = st.one_of(
    st.sampled_from((b"", b"x", RECEIPT_BODY, RECEIPT_BODY * 3)),
    st.sampled_from((CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK)).map(lambda size: (b"line\r\n" * size)[:size]),
)
MAILS = st.one_of(
    st.builds(
        Mail,
        st.tuples(PATHS, st.lists(MAIL_PARAMETERS, max_size=3, unique=True)).map(lambda one: [one[0], *one[1]]),
        st.lists(
            st.tuples(PATHS, st.lists(RCPT_PARAMETERS, max_size=2, unique=True)).map(lambda one: [one[0], *one[1]]),
            min_size=1,
            max_size=4,
        ),
        st.lists(st.tuples(NAMES, VALUES), min_size=1, max_size=10),
        BODIES,
        st.one_of(st.none(), st.just("4bXyz"), st.text('aZ0-%\n"名', max_size=8)),
    ),
    st.sampled_from([one for one, *_ in OUTCOMES.values() if one.headers]),
)
CONVERSATIONS = st.builds(
    Conversation,
    st.one_of(OFFERED, WITH_ALL),
    st.lists(st.tuples(MAILS, st.sampled_from((None, None, None, "envelope", "content"))), max_size=4),
)


def same_log(sides: Sides, after: Sequence[int] = (0, 0)) -> None:
    """Both have logged the same of each message: queue id, envelope, end, reason."""

    def told() -> list[list[str]]:
        return [
            [re.sub(r" ledger=\d+", "", line) for line in side.log[since:] if line.startswith("message ")]
            for side, since in zip(sides, after, strict=True)
        ]

    poll(lambda: len({len(lines) for lines in told()}) == 1, "both to have logged as much")
    ours, theirs = told()
    assert ours == theirs


def test_any_messages_are_answered_and_logged_alike(sides: Sides) -> None:
    first = replace(mail(b"<kurt@customer.example>"), queue_id="first")
    compare(sides, Conversation({}, [(first, None)]))
    before = [side.log.index(side.wait_for_log("message id=first ")) for side in sides]
    ends: Counter[str] = Counter()

    @settings(max_examples=5 * settings().max_examples)
    @given(CONVERSATIONS)
    def holds(conversation: Conversation) -> None:
        ends.update(compare(sides, conversation))

    holds()
    same_log(sides, before)
    assert {end.split()[0] for end in ends} == {"accept", "discard", "reject", "tempfail"}


# Packets in any order


STEPS = {
    "O": packet(b"O", struct.pack("!III", 6, ALL_ACTIONS, ALL_STEPS)),
    "o": packet(b"O", struct.pack("!III", 6, ALL_ACTIONS, LOUD["steps"])),
    "C": packet(b"C", words(b"client.example") + b"4" + b"\x04\xd2" + words(b"192.0.2.1")),
    "H": packet(b"H", words(b"client.example")),
    "M": packet(b"M", words(b"<alice@example.co.jp>")),
    "R": packet(b"R", words(b"<bob@partner.example>")),
    "r": packet(b"R", words(b"<kurt@customer.example>")),
    "T": packet(b"T"),
    "L": packet(b"L", words(b"Message-ID", b"<1@example.co.jp>")),
    "l": packet(b"L", words(*DNT)),
    "N": packet(b"N"),
    "B": packet(b"B", b"x" * CHUNK),
    "E": packet(b"E"),
    "e": packet(b"E", b"Hello.\r\n"),
    "D": packet(b"D", b"E" + words(b"i", b"4bXyz")),
    "A": packet(b"A"),
    "K": packet(b"K"),
    "U": packet(b"U", words(b"XYZ")),
}
USUAL = "OMRLE OMRrLlBBe OCHMRTLNBE oCHMRTLNBe OMRLEMrlE OMRLAMRLe oCHMRTlNAHMrTLNBE".split()
BROKEN = {
    "1": packet(b"Z", b"what"),
    "2": struct.pack("!I", 0),
    "3": struct.pack("!I", 0xFFFFFFFF) + b"M",
    "4": packet(b"L", b"Subject"),
    "5": packet(b"L", words(b"", b"value")),
    "6": packet(b"L"),
    "7": packet(b"M", b"<a@example.co.jp>"),
    "8": packet(b"M"),
    "9": packet(b"R", b"<a@example.co.jp>"),
    "a": packet(b"D", b"Ei"),
    "b": packet(b"B"),
    "c": packet(b"C", b"client"),
    "d": packet(b"H"),
    "f": packet(b"O", b"\0\0\0\x06"),
}


def answers(side: Milter, order: str) -> Packets:
    return said(side, *[(STEPS | BROKEN)[step] for step in order])


def answer_to_the_end(side: Milter, order: str) -> Packets:
    """What it says to the last of these steps, taken from all that it says."""
    before, after = (answers(side, one) for one in (order[:-1], order))
    assert after[: len(before)] == before
    return after[len(before) :]


def defers(answer: Packets) -> bool:
    """What an MTA takes for a tempfail: that, or no answer at all."""
    return not answer or answer[-1][0] == b"t" or answer[-1][1].startswith(b"4")


def in_order(order: str) -> str:
    """The message that ends here, its parts in the order of SMTP; the end alone when there is none."""
    begun = max(map(order[:-1].rfind, "MAKEe"))
    if begun < 0 or order[begun] != "M":
        return order[-1]
    parts = order[begun:-1]
    wanted = [step for kind in ("M", "Rr", "Ll", "B") for step in parts if step in kind]
    return "O" * ("O" in order or "o" in order) + "".join(wanted) + order[-1]


@pytest.mark.parametrize("order", USUAL)
def test_packets_in_the_usual_order_are_answered_alike(sides: Sides, order: str) -> None:
    ours, theirs = (answers(side, order) for side in sides)
    assert ours == theirs


@st.composite
def orders(draw: st.DrawFn) -> str:
    """The usual order, with a few steps too many, too few, or in the wrong place."""
    order = list(draw(st.sampled_from(USUAL)))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(order) - 1))
        order[at : at + draw(st.integers(0, 1))] = draw(st.sampled_from([*STEPS, *BROKEN, ""]))
    return "".join(order)


@settings(max_examples=5 * settings().max_examples)
@given(orders())
def test_what_libmilter_does_not_answer_is_deferred_or_decided_as_if_it_had_come_in_order(
    sides: Sides, order: str
) -> None:
    """Nobody hears that a message may pass unless libmilter says so, with the same changes, of the same parts in their order."""
    for number, step in enumerate(order, 1):
        if step in "Ee":
            told = order[:number]
            ours, meant = answer_to_the_end(sides.ours, told), in_order(told)
            if defers(ours) or ours == answer_to_the_end(sides.theirs, told):
                continue
            assert ours == answer_to_the_end(sides.theirs, meant), told


@given(st.sampled_from(USUAL), st.data())
def test_octets_that_are_cut_off_anywhere_add_nothing(sides: Sides, order: str, data: st.DataObject) -> None:
    octets = b"".join(STEPS[step] for step in order)
    cut = octets[: data.draw(st.integers(0, len(octets) - 1))]
    with sides.ours.connect(negotiate=False) as mta:
        mta.raw(cut)
        mta.sock.shutdown(socket.SHUT_WR)
        ours = list(_until_gone(mta))
    assert answers(sides.theirs, order)[: len(ours)] == ours


# Real messages


def real_mail(number: int, kind: str, raw: bytes) -> Mail:
    sender, to = ENVELOPES[kind]
    header, offset = split_message(raw)
    return Mail(
        sender.split(b" "),
        [one.split(b" ") for one in to],
        as_handed_over(HeaderBlock.parse(header)),
        raw[offset:],
        f"Q{number}",
    )


@pytest.mark.parametrize(
    "policy", ["everything", *(pytest.param(n, marks=pytest.mark.long) for n in POLICIES if n != "everything")]
)
def test_every_real_message_is_answered_and_recorded_alike(tmp_path: Path, corpus: Path, policy: str) -> None:
    """And as the relay decides it: test_milter_parity.py compares that."""
    with pair(tmp_path, POLICIES[policy], {"realm": REALM, "zone": "Asia/Tokyo"}) as sides:
        for number, (name, raw) in enumerate(messages(corpus).items()):
            for kind in ENVELOPES:
                try:
                    compare(sides, Conversation({}, [(real_mail(number, kind, raw), None)]))
                except AssertionError as error:
                    raise AssertionError(f"{name}, {kind}: {error}") from error
        poll(lambda: rows(sides.ours) == rows(sides.theirs), "both to have the same rows")
        same_log(sides)


def rows(side: Milter) -> list[dict[str, Any]]:
    """What is on record, but for when, and ids that were made up."""
    return [{key: _known(value) for key, value in row.items() if not key.endswith("_at")} for row in side.rows()]


def _known(value: Any) -> Any:
    return MINTED.sub(b"<minted>", f"<{value}>".encode()) if isinstance(value, str) else value
