"""What leaves the relay is what came, octet for octet, but for our ``Received:`` and the edits that the policy names.

Messages go through the installed relay: generated ones (any octets that SMTP allows, cut into segments anywhere), those
of the corpus, and generated ones to recipients of different outcomes, whose messages are worked out here anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.session_next_hop import NextHop, Transaction
from tests.session_relay import Client, Relay

OUR_FIELD = re.compile(rb"Received: from client\.example \(.*\r\n(?:[ \t].*\r\n)*")
BEFORE_FIELDS = re.compile(rb"(?:(?:\xef\xbb\xbf)?(?:>*From [ \t]*[^ \t:].*\r\n)+)?")

KEEP = "version: 1\ndefaults:\n" + "".join(
    f"  {direction}: {{request: keep, delivery_report: keep, receipt: deliver}}\n"
    for direction in ("outbound", "inbound", "internal", "transit")
)
OUTCOMES = """
version: 1
rules:
  - {name: strip, when: {to: "*@strip.example"}, then: {request: strip}}
  - {name: ask, when: {to: "*@add.example"}, then: {request: add}}
  - {name: ask for the collector, when: {to: "*@collect.example"}, then: {request: add, notify: receipts@example.co.jp}}
  - {name: no automatic receipts, when: {to: "*@suppress.example"}, then: {suppress: both}}
  - {name: report, when: {to: "*@report.example"}, then: {delivery_report: add}}
  - {name: no record, when: {to: "*@none.example"}, then: {request: strip, record: none}}
"""


class Way:
    """A relay, its next hop, and one client connection that lasts as long as the relay allows."""

    def __init__(self, relay: Relay, hop: NextHop) -> None:
        self.relay, self.hop = relay, hop
        self._client: Client | None = None

    def send(
        self, parts: Sequence[bytes], mail: str = "alice@example.co.jp", to: Sequence[str] = ("bob@partner.example",)
    ) -> tuple[str, list[Transaction]]:
        """Send one message, stuffed and with its final dot, in these segments: the reply, and what the next hop got."""
        if self._client is None:
            self._client = Client(self.relay.port)
            self._client.hello()
        client, before = self._client, len(self.hop.transactions)
        commands = [f"MAIL FROM:<{mail}>", *(f"RCPT TO:<{address}>" for address in to), "DATA"]
        client.send("".join(f"{command}\r\n" for command in commands).encode())
        for command in commands:
            reply = client.reply()
            assert reply[0][0] in "23", f"{command} was answered {reply}"
        for part in parts:
            client.send(part)
            if part is not parts[-1]:
                client.wait_until_read()
        answer = "\n".join(client.reply())
        if answer.startswith("521"):
            client.half_close()
            assert client.has_hung_up()
            client.close()
            self._client = None
        return answer, self.hop.transactions[before:]

    def close(self) -> None:
        if self._client is not None:
            self._client.close()


def way(directory: Path, policy: str) -> Iterator[Way]:
    hop = NextHop()
    with Relay(directory, hop.port, policy) as relay:
        one = Way(relay, hop)
        yield one
        one.close()
        relay.stop()
    hop.stop()


@pytest.fixture(scope="module")
def keeping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    yield from way(tmp_path_factory.mktemp("keeping"), KEEP)


@pytest.fixture(scope="module")
def deciding(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    yield from way(tmp_path_factory.mktemp("deciding"), OUTCOMES)


def without_our_field(data: bytes) -> bytes:
    """The message without the one field that the relay adds before all others (mbox lines are no fields)."""
    start = BEFORE_FIELDS.match(data)
    assert start is not None
    field = OUR_FIELD.match(data, start.end()) or OUR_FIELD.match(data)
    assert field is not None, f"our Received field does not come first: {data[:300]!r}"
    return data[: field.start()] + data[field.end() :]


def kept_apart(message: bytes) -> bytes:
    """The message as it leaves: an empty line stands before a message that has no field and begins with white space.

    Without it that white space would continue the field that the relay adds.
    """
    start = BEFORE_FIELDS.match(message)
    assert start is not None
    gap = b"\r\n" if message[start.end() : start.end() + 1] in (b" ", b"\t") else b""
    return message[: start.end()] + gap + message[start.end() :]


def as_meant(sent: bytes) -> bytes:
    """What is sent without its stuffing; a line that begins with one dot means the line without it (RFC 5321 4.5.2)."""
    return re.sub(rb"(?:(?<=\r\n)|\A)\.", b"", sent)


def on_the_wire(message: bytes) -> bytes:
    """A message with CRLF line ends as a client sends it: stuffed, and with the final dot (RFC 5321 4.5.2)."""
    lines = message.split(b"\r\n")
    last = lines.pop()
    lines += [last] if last else []
    return b"".join((b"." if line.startswith(b".") else b"") + line + b"\r\n" for line in lines) + b".\r\n"


# Any octets


def _no_line_ends(octets: bytes) -> bytes:
    return octets.replace(b"\r", b"").replace(b"\n", b"")


ODD_LINES = [
    b"", b" ", b"\0", b"..", b".x", b"...", b"\t.", b" folded", b"From alice Thu Jan  1 00:00:00 1970",
    b"Subject: x", b"\xef\xbb\xbfFrom: \xe9", b"Message-ID: <1@example.co.jp>", b"In-Reply-To: <1@example.co.jp>",
    b"Disposition-Notification-To: <alice@example.co.jp>", b"return-receipt-to : x", b"Auto-Submitted: auto-replied",
    b"Received: from client.example ([127.0.0.1])", b"Content-Type: multipart/report; boundary=b", b"--b",
    b"Content-Type: message/disposition-notification", b"Disposition: manual-action/MDN-sent-manually; displayed",
]  # fmt: skip
LINES = st.one_of(
    st.binary(max_size=90).map(_no_line_ends),
    st.sampled_from(ODD_LINES),
    st.integers(1, 3000).map(lambda n: b"l" * n),
)


@pytest.mark.timeout(1800)
@given(
    lines=st.lists(LINES, max_size=30),
    cuts=st.lists(st.integers(0, 4000), max_size=3),
    mail=st.sampled_from(["", "alice@example.co.jp", "kurt@customer.example"]),
    to=st.sampled_from(["bob@partner.example", "anna@example.co.jp"]),
)
def test_any_octets_that_smtp_allows_pass_untouched(
    keeping: Way, lines: list[bytes], cuts: list[int], mail: str, to: str
) -> None:
    message = b"".join((b".." if line == b"." else line) + b"\r\n" for line in lines)
    sent = message + b".\r\n"
    borders = [0, *sorted({cut % len(sent) for cut in cuts} - {0}), len(sent)]
    parts = [sent[a:b] for a, b in pairwise(borders)]
    answer, got = keeping.send(parts, mail, [to])
    assert answer == "250 2.0.0 Ok: queued"
    assert [as_meant(without_our_field(one.data)) for one in got] == [as_meant(kept_apart(message))]


@pytest.mark.timeout(1800)
@given(
    start=st.lists(LINES, max_size=10),
    bare=st.sampled_from(
        [b"\r", b"\n", b"\n.\r\n", b"\r.\r\n", b"\n.\n", b"\r\n.\n", b"\r\n.\r", b"\r\r\n", b"\n\r\n"]
    ),
    end=st.lists(LINES, max_size=10),
    cut=st.integers(0, 4000),
)
def test_a_bare_line_end_anywhere_is_refused_and_nothing_arrives(
    keeping: Way, start: list[bytes], bare: bytes, end: list[bytes], cut: int
) -> None:
    safe = [b".." if line == b"." else line for line in (*start, *end)]
    before, after = safe[: len(start)], safe[len(start) :]
    sent = b"\r\n".join(before) + bare + b"x" + b"\r\n".join(after) + b"\r\n.\r\n"
    middle = cut % len(sent) or 1
    answer, got = keeping.send([sent[:middle], sent[middle:]])
    assert answer.startswith("521 5.5.2 ")
    assert got == []


# The corpus


def messages(corpus: Path) -> list[Path]:
    return sorted(file for file in corpus.rglob("*.eml") if file.is_file())


def test_every_message_of_the_corpus_comes_out_as_it_went_in(keeping: Way, corpus: Path) -> None:
    different = []
    for file in messages(corpus):
        message = re.sub(rb"\r\n|\r|\n", b"\r\n", file.read_bytes())
        message = message if message.endswith(b"\r\n") else message + b"\r\n"
        sender, to = ("", "alice@example.co.jp") if file.parent.name in ("mdn", "dsn") else ("alice@example.co.jp",) * 2
        answer, got = keeping.send([on_the_wire(message)], sender, [to])
        arrived = [without_our_field(one.data) + b".\r\n" for one in got]
        if not answer.startswith("250 ") or arrived != [on_the_wire(message)]:
            different.append(f"{file.relative_to(corpus)}: {answer}")
    assert not different, "\n".join(different)


def test_messages_of_the_corpus_with_bare_line_ends_are_refused(keeping: Way, corpus: Path) -> None:
    wrong = []
    for file in messages(corpus):
        raw = file.read_bytes()
        if not re.search(rb"\r(?!\n)|(?<!\r)\n", raw):
            continue
        answer, got = keeping.send([on_the_wire(raw)])
        if not answer.startswith("521 5.5.2 ") or got:
            wrong.append(f"{file.relative_to(corpus)}: {answer}")
    assert not wrong, "\n".join(wrong)


# Any outcome

REQUESTS = {
    "disposition-notification-to", "disposition-notification-options", "return-receipt-to", "read-receipt-to",
    "x-confirm-reading-to", "x-pmrqc", "return-receipt-requested",
}  # fmt: skip

FIELDS = st.sampled_from(
    [
        b"From: Alice <alice@example.co.jp>\r\n",
        b"To: undisclosed-recipients:;\r\n",
        b"X-Long: " + b"y" * 2000 + b"\r\n",
        b"X-Folded:\r\n first\r\n\tsecond  \r\n",
        b"x-empty:\r\n",
        b"X-Raw: \xff\x00\xe9\r\n",
        b"X-Not-Return-Receipt-To: x\r\n",
        b"Disposition-Notification-To: <alice@example.co.jp>\r\n",
        b"DISPOSITION-NOTIFICATION-TO:alice@example.co.jp\r\n",
        b'disposition-notification-to:\r\n "Alice, A." <alice@example.co.jp>\r\n',
        b"Disposition-Notification-Options: x=required\r\n",
        b"Return-Receipt-To: <alice@example.co.jp>\r\n",
        b"Read-Receipt-To : <alice@example.co.jp>\r\n",
        b"X-Confirm-Reading-To: <alice@example.co.jp>\r\n",
        b"X-pmrqc: 1\r\n",
        b"List-Id: <l.example.co.jp>\r\n",
        b"Auto-Submitted: auto-generated\r\n",
        b"Precedence: bulk\r\n",
    ]
)
DOMAINS = ("keep", "strip", "add", "collect", "suppress", "report", "none")


def key(field: bytes) -> str:
    return field.partition(b":")[0].strip().decode().lower()


def expected(fields: list[bytes], domain: str) -> list[bytes]:
    """The fields that a recipient of that domain gets, worked out from the words of the policy reference."""
    automatic = any(key(f) in ("list-id", "auto-submitted", "precedence") for f in fields)
    if domain in ("strip", "none"):
        return [f for f in fields if key(f) not in REQUESTS]
    if domain == "suppress":
        return [*fields, b"X-Auto-Response-Suppress: RN, NRN\r\n"]
    if domain not in ("add", "collect") or automatic:
        return fields
    ours = b"<receipts@example.co.jp>" if domain == "collect" else b"<alice@example.co.jp>"
    asked = [i for i, f in enumerate(fields) if key(f) == "disposition-notification-to"]
    kept = [f for i, f in enumerate(fields) if i not in asked[1:]]
    if not asked:
        return [*kept, b"Disposition-Notification-To: " + ours + b"\r\n"]
    if domain == "collect":
        kept[asked[0]] = fields[asked[0]].partition(b":")[0] + b": " + ours + b"\r\n"
    return kept


@pytest.mark.timeout(1800)
@given(
    fields=st.lists(FIELDS, max_size=8),
    place=st.integers(0, 8),
    body=st.lists(LINES, max_size=8),
    domains=st.lists(st.sampled_from(DOMAINS), min_size=1, max_size=6),
    number=st.integers(0, 1 << 60),
)
def test_what_leaves_is_what_came_with_only_the_named_edits(
    deciding: Way, fields: list[bytes], place: int, body: list[bytes], domains: list[str], number: int
) -> None:
    fields.insert(place, b"Message-ID: <%x@example.co.jp>\r\n" % number)
    rest = b"\r\n" + b"".join((b".." if line == b"." else line) + b"\r\n" for line in body)
    to = [f"r{i}@{domain}.example" for i, domain in enumerate(domains)]
    answer, got = deciding.send([b"".join(fields) + rest + b".\r\n"], to=to)
    assert answer == "250 2.0.0 Ok: queued"
    arrived = {}
    for one in got:
        for line in one.recipients:
            address = line.partition(b"<")[2].partition(b">")[0].decode()
            assert address not in arrived, f"{address} got the message twice"
            arrived[address] = without_our_field(one.data)
    wanted = {a: b"".join(expected(list(fields), d)) + rest for a, d in zip(to, domains, strict=True)}
    assert arrived == wanted
    assert len(got) == len(set(wanted.values())), "there are more transactions than outcomes"


def test_a_message_without_message_id_gets_one_with_the_request_and_keeps_it_when_sent_again(deciding: Way) -> None:
    sent = b"From: <alice@example.co.jp>\r\n\r\nx\r\n.\r\n"
    deciding.hop.on("dot", "answer", b"451 4.3.0 Not now")
    first, one = deciding.send([sent], to=["bob@add.example"])
    again, two = deciding.send([sent], to=["bob@add.example"])
    assert (first, again) == ("451 4.3.0 Not now", "250 2.0.0 Ok: queued")
    left = [without_our_field(t.data) for t in (*one, *two)]
    assert left[0] == left[1]
    lines = left[0].split(b"\r\n")
    added = sorted(lines[1 : lines.index(b"")])
    assert added[0] == b"Disposition-Notification-To: <alice@example.co.jp>"
    assert re.fullmatch(rb"(?i:message-id): <[^<>@\s]{16,}@[^<>@\s]+>", added[1])
    assert len(added) == 2
