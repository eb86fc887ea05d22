"""What a person says about being asked holds for the very next message, though the milter does not look for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.ledger_values import journal
from tests.milter_client import Mail
from tests.milter_process import Milter

from kaifu.policies.facts import Consent
from kaifu.proxy.ledger_file import Store

POLICY = """
version: 1
rules:
  - {name: who agreed, when: {to: "@careful.example", consent: [granted]}, then: {request: add}}
  - {name: partners, when: {to: "@partner.example"}, then: {request: add}}
"""
BOB, CAROL = "bob@partner.example", "carol@careful.example"


@pytest.fixture
def milter(tmp_path: Path) -> Iterator[Milter]:
    with Milter(tmp_path, POLICY) as one:
        yield one
        one.stop()


def asked(milter: Milter, to: str, number: int) -> bool:
    """Does a message to this recipient come out with a request?"""
    headers = [(b"From", b"<alice@example.co.jp>"), (b"Message-ID", b"<%d@example.co.jp>" % number)]
    with milter.connect() as mta:
        result = mta.deliver(Mail([b"<alice@example.co.jp>"], [[b"<%b>" % to.encode()]], headers, b"Hello.\r\n"))
    assert result.end == "accept"
    return b"Disposition-Notification-To" in dict(result.headers)


def say(milter: Milter, person: str, value: Consent) -> None:
    opened = Store(milter.ledger, write=True)
    try:
        with journal(opened) as book:
            book.consent(person, value, "admin", "")
    finally:
        opened.close()


def test_a_denial_stops_what_would_have_been_recorded(milter: Milter) -> None:
    assert [asked(milter, BOB, number) for number in (1, 2, 3)] == [True, True, True]
    say(milter, BOB, Consent.DENIED)
    assert [asked(milter, BOB, number) for number in (4, 5)] == [False, False]
    assert sorted(row["message_id"] for row in milter.receipts()) == [f"{number}@example.co.jp" for number in (1, 2, 3)]
    say(milter, BOB, Consent.GRANTED)
    assert asked(milter, BOB, 6)


def test_a_consent_lets_through_what_left_no_record(milter: Milter) -> None:
    assert [asked(milter, to, number) for number, to in enumerate((BOB, CAROL, CAROL))] == [True, False, False]
    say(milter, CAROL, Consent.GRANTED)
    assert asked(milter, CAROL, 3)
    say(milter, CAROL, Consent.DENIED)
    assert not asked(milter, CAROL, 4)
