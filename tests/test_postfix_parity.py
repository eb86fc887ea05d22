"""Every real message through a real Postfix with kaifu as its milter, and through the relay: the same fate, reasons, header and rows.

What Postfix changes by itself is switched off in main.cf, so that what differs would be kaifu's.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.milter_client import unfolded
from tests.milter_process import Milter
from tests.postfix_harness import Postfix, missing, system_folder
from tests.postfix_milter_site import socket_directory
from tests.session_next_hop import NextHop, Transaction
from tests.session_relay import Client, Relay
from tests.test_milter_parity import (
    ENVELOPES,
    EVERYTHING,
    REALM,
    as_handed_over,
    assert_same_rows,
    logged,
    messages,
    row_told,
    with_crlf,
)
from tests.test_transit_properties import MESSAGES

from kaifu.proxy.datastream import stuff
from kaifu.proxy.message import HeaderBlock, split_message

WHY_NOT = missing("postfix")
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))

MAIN = """\
relayhost = [127.0.0.1]:{hop}
smtpd_milters = unix:{socket}
milter_default_action = tempfail
local_header_rewrite_clients =
message_drop_headers =
header_size_limit = 1048576
smtp_line_length_limit = 0
hopcount_limit = 100
"""
SETTINGS: dict[str, Any] = {"realm": REALM, "zone": "Asia/Tokyo"}
MINTED = re.compile(rb"<[0-9a-f]{32}@(?:mx|relay)\.example\.co\.jp>")


class Side:
    """One way for mail: in at ``port``, out at a next hop. ``log`` has a line for each message."""

    def __init__(self, host: Milter | Relay, port: int, hop: NextHop) -> None:
        self.host, self.port, self.hop = host, port, hop

    def pass_on(self, mail: bytes, to: Sequence[bytes], raw: bytes) -> tuple[str, str, list[Transaction]]:
        """A message; the last reply, kaifu's reasons, and what has come out."""
        logged_before, had = len(self.host.log), len(self.hop.transactions)
        sender = Client(self.port)
        try:
            sender.hello()
            for command in (b"MAIL FROM:" + mail, *(b"RCPT TO:" + one for one in to), b"DATA"):
                reply = sender.ask(command)
                assert reply[0] in "23", reply
            final = sender.ask((stuff(raw) if raw.endswith(b"\r\n") else stuff(raw) + b"\r\n") + b".")
        finally:
            sender.close()
        line = self.host.wait_for_log("/^message /", logged_before)
        if logged(line, "end") == "accept":  # Postfix passes it on when it has answered
            self.hop.wait_for_messages(had + 1)
        return final[:3], logged(line, "reason") or "", self.hop.transactions[had:]


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Side, Side]]:
    hops, place = (NextHop(), NextHop()), tmp_path_factory.mktemp("relay")
    with system_folder() as folder, Relay(place, hops[1].port, EVERYTHING, SETTINGS) as relay:
        office = Postfix(folder, "mail.example.co.jp", (), MAIN.format(hop=hops[0].port, socket=folder / "unknown"), "")
        socket = socket_directory(office) / "milter.sock"
        office.parameters["smtpd_milters"] = f" unix:{socket}"
        (folder / "kaifu").mkdir()
        own = {"listen": f"unix:{socket}", "socket_group": "postfix"}
        with Milter(folder / "kaifu", EVERYTHING, {**SETTINGS, "milter": own}) as milter:
            office.start()
            try:
                yield Side(milter, office.port, hops[0]), Side(relay, relay.ports[0], hops[1])
            finally:
                office.stop()
            milter.stop()
        relay.stop()
    for hop in hops:
        hop.stop()


def test_every_real_message_meets_the_same_fate_in_postfix_as_in_the_relay(
    sides: tuple[Side, Side], corpus: Path, long_run: bool
) -> None:
    """In the short run with one envelope each, in turn."""
    inside, relay = sides
    compared = otherwise = 0
    for number, (name, whole) in enumerate(messages(corpus).items()):
        block = HeaderBlock.parse(split_message(whole)[0])
        raw = whole[block.fields_start :]  # of an mbox line Postfix makes a field
        if read_otherwise(block):
            otherwise += 1
            continue
        for kind in ENVELOPES if long_run else [list(ENVELOPES)[number % len(ENVELOPES)]]:
            mail, to = ENVELOPES[kind]
            theirs, ours = inside.pass_on(mail, to, raw), relay.pass_on(mail, to, raw)
            try:
                compared += agree(theirs, ours)
            except AssertionError as error:
                raise AssertionError(f"{name}, {kind}: {error}") from error
    assert compared > 20 * otherwise > 0
    assert_same_rows(*(Counter(map(row_told, side.host.receipts())) for side in sides))
    assert not any("internal-error" in line for side in sides for line in side.host.log)


def test_any_message_meets_the_same_fate_in_postfix_as_in_the_relay(sides: tuple[Side, Side]) -> None:
    inside, relay = sides

    @given(MESSAGES.map(with_crlf), st.sampled_from(sorted(ENVELOPES)))
    def holds(whole: bytes, kind: str) -> None:
        block = HeaderBlock.parse(split_message(whole)[0])
        assume(not read_otherwise(block))
        raw, (mail, to) = whole[block.fields_start :], ENVELOPES[kind]
        agree(inside.pass_on(mail, to, raw), relay.pass_on(mail, to, raw))

    holds()
    assert_same_rows(*(Counter(map(row_told, side.host.receipts())) for side in sides))


def read_otherwise(block: HeaderBlock) -> bool:
    """Does Postfix see another header than there is?

    It takes a byte order mark, and a name with an octet that is not ASCII, for the end of the header, and ``From :`` at its beginning for
    a line of an mbox; and where any milter is asked it cuts a field at 60,000 octets.
    """
    return block.raw[block.fields_start :].startswith(b"From ") or any(
        not field.raw.partition(b":")[0].isascii() or len(field.raw) > 60_000 for field in block.fields
    )


def agree(theirs: tuple[str, str, list[Transaction]], ours: tuple[str, str, list[Transaction]]) -> bool:
    """The milter's and the relay's; False when the relay has split the message, which a milter cannot."""
    assert theirs[:2] == ours[:2]
    if len(ours[2]) > 1:
        return False
    assert len(theirs[2]) == len(ours[2])
    for one, other in zip(theirs[2], ours[2], strict=True):
        assert written(one) == written(other)
        assert notified(one) == notified(other)
    return True


def written(transaction: Transaction) -> list[tuple[bytes, bytes]]:
    """The header without the trace of the last hop."""
    fields = as_handed_over(HeaderBlock.parse(split_message(transaction.data)[0]))
    assert fields.pop(0)[0] == b"Received"
    return [(name, MINTED.sub(b"<minted>", value)) for name, value in unfolded(fields)]


def notified(transaction: Transaction) -> list[tuple[bytes, frozenset[bytes]]]:
    """Who gets it, and what they are to be told of."""
    found = []
    for line in transaction.recipients:
        path, *parameters = line.split(b":", 1)[1].split(b" ")
        notify = [one.partition(b"=")[2] for one in parameters if one.startswith(b"NOTIFY=")]
        found.append((path, frozenset(b"".join(notify).split(b","))))
    return sorted(found, key=lambda one: one[0])
