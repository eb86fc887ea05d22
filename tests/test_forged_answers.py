"""Answers that are what they claim, and answers that are not, through the real relay and the real milter into a real ledger.

Each is sent twice: for a message whose rule takes answers as they claim to be, and for one whose rule wants them authenticated. None confirms
at a grade that it does not have. ``tests/transit_cases/border.yaml`` and ``aliases.yaml`` have the finer distinctions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.milter_client import Mail
from tests.milter_process import Milter
from tests.session_next_hop import NextHop
from tests.session_relay import Relay, client

POLICY = """
version: 1
rules:
  - {name: proof, when: {kind: mail, from: alice@example.co.jp, subject: proof}, then: {request: add, confirm: authenticated}}
  - {name: asked, when: {kind: mail, from: alice@example.co.jp}, then: {request: add}}
"""
ALIASES = "hr: hanako, taro\nbad line\n"
SETTINGS = {"border": ["mx.example.co.jp"], "aliases": ["aliases"]}

BOB, CAROL, EVE = "bob@partner.example", "carol@partner.example", "eve@evil.example"
HR, HANAKO, TARO = "hr@example.co.jp", "hanako@example.co.jp", "taro@example.co.jp"
SIGNED = "mx.example.co.jp; dkim=pass header.d=partner.example"
Shown = tuple[str, str | None]
NOTHING: Shown = ("waiting", None)
CLAIMED: Shown = ("displayed", "claimed")
PROVEN: Shown = ("displayed", "authenticated")


@dataclass(frozen=True)
class Answer:
    """What comes back. ``final`` None: a reply. ``checked``: Authentication-Results, from the top. ``cites``: another message's id."""

    title: str
    loose: Shown
    strict: Shown
    checked: tuple[str, ...] = ()
    path: str = BOB
    author: str = BOB
    final: str | None = BOB
    asked: str = BOB

    def octets(self, number: str) -> tuple[list[tuple[str, str]], bytes]:
        """Header fields and body, about the message with that number."""
        fields = [("Authentication-Results", value) for value in self.checked]
        fields += [("From", f"<{self.author}>"), ("Message-ID", f"<answer-{number}@{self.author.split('@')[1]}>")]
        if self.final is None:
            return [*fields, ("In-Reply-To", f"<{number}@example.co.jp>"), ("Subject", "Re:")], b"Yes.\r\n"
        report = (
            f"Final-Recipient: rfc822;{self.final}\r\nOriginal-Message-ID: <{number}@example.co.jp>\r\n"
            "Disposition: manual-action/MDN-sent-manually; displayed\r\n"
        )
        return [*fields, ("Content-Type", "message/disposition-notification")], report.encode()


REPLIED_CLAIMED: Shown = ("replied", "claimed")
REPLIED_PROVEN: Shown = ("replied", "authenticated")
ANSWERS = [
    # honest
    Answer("signed by its domain", PROVEN, PROVEN, (SIGNED,)),
    Answer("signed by its domain, from the null path", PROVEN, PROVEN, (SIGNED,), path=""),
    Answer("from its own servers", PROVEN, PROVEN, (f"mx.example.co.jp; spf=pass smtp.mailfrom={BOB}; dkim=none",)),
    Answer("a signed reply", REPLIED_PROVEN, REPLIED_PROVEN, (SIGNED,), final=None),
    Answer("nobody has looked", CLAIMED, NOTHING),
    Answer("a reply at which nobody has looked", REPLIED_CLAIMED, NOTHING, final=None),
    Answer("a member for the asked alias", CLAIMED, NOTHING, path=HANAKO, author=HANAKO, final=HANAKO, asked=HR),
    Answer("a member writes for the asked alias", REPLIED_CLAIMED, NOTHING, path=TARO, author=TARO, final=None, asked=HR),
    # forged proofs
    Answer("results of another server", CLAIMED, NOTHING, ("mx.partner.example; dkim=pass header.d=partner.example",)),
    Answer("a look-alike of our server", CLAIMED, NOTHING, (f"mx.example.co.jp.evil.example; {SIGNED[18:]}",)),
    Answer("results without a name", CLAIMED, NOTHING, ("dkim=pass header.d=partner.example",)),
    Answer("a forged field below ours", CLAIMED, NOTHING, ("mx.example.co.jp; dkim=none", SIGNED)),
    Answer("a forged field below an empty one of ours", CLAIMED, NOTHING, ("mx.example.co.jp; none", SIGNED)),
    Answer("signed by another domain", CLAIMED, NOTHING, ("mx.example.co.jp; dkim=pass header.d=evil.example",)),
    Answer("signed by a look-alike", CLAIMED, NOTHING, ("mx.example.co.jp; dkim=pass header.d=partner.example.evil.example",)),
    Answer("SPF of a null path", CLAIMED, NOTHING, ("mx.example.co.jp; spf=pass smtp.mailfrom=partner.example",), path=""),
    Answer("SPF of the greeting", CLAIMED, NOTHING, ("mx.example.co.jp; spf=pass smtp.helo=partner.example",)),
    Answer("SPF softfail", CLAIMED, NOTHING, ("mx.example.co.jp; spf=softfail smtp.mailfrom=partner.example",)),
    # failed
    Answer("a broken signature", NOTHING, NOTHING, ("mx.example.co.jp; dkim=fail header.d=partner.example",)),
    Answer("SPF fails", NOTHING, NOTHING, (f"mx.example.co.jp; spf=fail smtp.mailfrom={BOB}",)),
    Answer("DMARC fails", NOTHING, NOTHING, ("mx.example.co.jp; dmarc=fail header.from=partner.example",), path=EVE),
    Answer("a reply with a broken signature", NOTHING, NOTHING, ("mx.example.co.jp; dkim=fail header.d=partner.example",), final=None),
    # not theirs
    Answer("a stranger for the recipient", NOTHING, NOTHING, path=EVE, author=EVE),
    Answer("a stranger with a signature for the recipient", NOTHING, NOTHING, ("mx.example.co.jp; dkim=pass header.d=evil.example",), path=EVE, author=EVE),
    Answer("a colleague for the recipient", NOTHING, NOTHING, (SIGNED,), path=CAROL, author=CAROL),
    Answer("the recipient for a colleague", NOTHING, NOTHING, (SIGNED,), final=CAROL),
    Answer("another address for itself", NOTHING, NOTHING, (SIGNED,), path=CAROL, author=CAROL, final=CAROL),
    Answer("a stranger for itself", NOTHING, NOTHING, ("mx.example.co.jp; dkim=pass header.d=evil.example",), path=EVE, author=EVE, final=EVE),
    Answer("a reply by a stranger", NOTHING, NOTHING, ("mx.example.co.jp; dkim=pass header.d=evil.example",), path=EVE, author=EVE, final=None),
    Answer("the alias for its member", NOTHING, NOTHING, path=HR, author=HR, final=HR, asked=HANAKO),
    Answer("the alias writes for its member", NOTHING, NOTHING, path=HR, author=HR, final=None, asked=HANAKO),
    Answer("one member for another", NOTHING, NOTHING, path=TARO, author=TARO, final=HANAKO, asked=HR),
]  # fmt: skip

Deliver = Callable[[str, str, list[tuple[str, str]], bytes], None]


def number_of(case: int, kind: str) -> str:
    return f"{kind}-{case}"


def send_all(deliver: Deliver) -> None:
    for case, answer in enumerate(ANSWERS):
        for kind in ("loose", "strict"):
            number = number_of(case, kind)
            fields = [("From", "<alice@example.co.jp>"), ("Message-ID", f"<{number}@example.co.jp>")]
            fields.append(("Subject", "proof" if kind == "strict" else "x"))
            deliver("alice@example.co.jp", answer.asked, fields, b"Hello.\r\n")
            deliver(answer.path, "alice@example.co.jp", *answer.octets(number))


def asked_rows(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["message_id"].split("@")[0]: row for row in rows if row["from"] == "alice@example.co.jp"}


def through_the_relay(directory: Path) -> dict[str, dict[str, Any]]:
    hop = NextHop(keep=False)
    try:
        relay = Relay(directory, hop.port, POLICY, SETTINGS)
        (directory / "aliases").write_text(ALIASES)
        with relay, client(relay) as one:

            def deliver(path: str, to: str, fields: list[tuple[str, str]], body: bytes) -> None:
                head = "".join(f"{name}: {value}\r\n" for name, value in fields).encode()
                assert one.deliver(head + b"\r\n" + body, path, (to,)).startswith("250 ")

            send_all(deliver)
            one.close()
            relay.stop()
            assert any("alias-left-out" in line and "aliases:2:1" in line for line in relay.log)
            return asked_rows(relay.receipts())
    finally:
        hop.stop()


def through_the_milter(directory: Path) -> dict[str, dict[str, Any]]:
    milter = Milter(directory, POLICY, SETTINGS)
    (directory / "aliases").write_text(ALIASES)
    with milter, milter.connect() as mta:

        def deliver(path: str, to: str, fields: list[tuple[str, str]], body: bytes) -> None:
            headers = [(name.encode(), value.encode()) for name, value in fields]
            mail = Mail([f"<{path}>".encode()], [[f"<{to}>".encode()]], headers, body)
            assert mta.deliver(mail).end in ("accept", "discard")

        send_all(deliver)
        milter.stop()
        return asked_rows(milter.receipts())


@pytest.fixture(scope="module", params=[through_the_relay, through_the_milter], ids=["relay", "milter"])
def rows(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    told: dict[str, dict[str, Any]] = request.param(tmp_path_factory.mktemp("answers"))
    return told


@pytest.mark.parametrize(("case", "answer"), list(enumerate(ANSWERS)), ids=[answer.title for answer in ANSWERS])
def test_an_answer_confirms_as_far_as_it_is_proven(rows: dict[str, dict[str, Any]], case: int, answer: Answer) -> None:
    for kind, expected in (("loose", answer.loose), ("strict", answer.strict)):
        row = rows[number_of(case, kind)]
        assert (row["state"], row["grade"]) == expected, kind
        assert row["request"] == "added"


def head(*fields: tuple[str, str]) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in fields).encode() + b"\r\n"


def test_a_genuine_answer_that_is_sent_again_proves_nothing_more(tmp_path: Path) -> None:
    """Not for the same message, nor, with what it cites changed under its signature, for another one."""
    genuine = Answer("", PROVEN, PROVEN, (SIGNED,))
    altered = Answer("", NOTHING, NOTHING, ('mx.example.co.jp; dkim=fail reason="body hash" header.d=partner.example',))
    hop = NextHop(keep=False)
    try:
        with Relay(tmp_path, hop.port, POLICY, {"border": ["mx.example.co.jp"]}) as relay, client(relay) as one:
            for number in ("1", "2"):
                asks = head(("From", "alice@example.co.jp"), ("Message-ID", f"<{number}@example.co.jp>"))
                assert one.deliver(asks).startswith("250 ")
            for answer, number in ((genuine, "1"), (genuine, "1"), (altered, "2")):
                fields, body = answer.octets(number)
                assert one.deliver(head(*fields) + body, EVE, ("alice@example.co.jp",)).startswith("250 ")
            one.close()
            relay.stop()
            told = asked_rows(relay.receipts())
        assert (told["1"]["state"], told["1"]["grade"]) == PROVEN
        assert (told["2"]["state"], told["2"]["grade"]) == NOTHING
    finally:
        hop.stop()


def test_new_aliases_count_without_a_restart(tmp_path: Path) -> None:
    hop = NextHop(keep=False)
    try:
        relay = Relay(tmp_path, hop.port, POLICY, {"aliases": "aliases"})
        aliases = tmp_path / "aliases"
        aliases.write_text("hr: hanako\n")
        with relay, client(relay) as one:
            for number in ("1", "2"):
                asks = head(("From", "alice@example.co.jp"), ("Message-ID", f"<{number}@example.co.jp>"))
                assert one.deliver(asks, to=(HR,)).startswith("250 ")
            fields, body = Answer("", CLAIMED, CLAIMED, author=TARO, final=TARO).octets("1")
            assert one.deliver(head(*fields) + body, TARO, ("alice@example.co.jp",)).startswith("250 ")
            aliases.write_text("hr: hanako, taro\n")
            relay.wait_for_log("aliases-loaded")
            fields, body = Answer("", CLAIMED, CLAIMED, author=TARO, final=TARO).octets("2")
            assert one.deliver(head(*fields) + body, TARO, ("alice@example.co.jp",)).startswith("250 ")
            one.close()
            relay.stop()
            told = asked_rows(relay.receipts())
        assert [told[number]["state"] for number in ("1", "2")] == ["waiting", "displayed"]
    finally:
        hop.stop()
