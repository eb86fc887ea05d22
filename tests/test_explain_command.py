"""``kaifu policy explain``: what would happen to a message in a file, to whom and why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.ledger_values import bodies, journal, record, store, to

from kaifu.policies.facts import AskedBy, Consent
from kaifu.proxy.cli import cli
from kaifu.proxy.ledger import RequestState

POLICY = """\
version: 1
groups:
  partners: ["@partner.example"]
rules:
  - name: private mail is never tracked
    when: {sensitivity: [personal, private]}
    then: {request: strip, record: none}
  - name: mornings
    when: {time: {hours: "08:00-09:00"}, to: "@early.example"}
    then: {request: add}
  - name: contracts
    when: {direction: outbound, to: group:partners, subject: /契約/}
    then: {request: add, delivery_report: add, retain: 30d}
  - name: receipts are not refused by all
    when: {kind: mdn, to: "@reject.example"}
    then: {receipt: reject}
"""
SETTINGS = "realm: [example.co.jp]\npolicy: policy.yaml\nledger: sqlite:///ledger.db\nzone: Asia/Tokyo\n"
MAIL = """\
From: Sato <sato@example.co.jp>
Subject: =?UTF-8?B?5aWR57SE5pu4?=
Message-ID: <9@example.co.jp>

At noon?
"""
RECEIPT = """\
From: yamada@partner.example
Content-Type: message/disposition-notification

Final-Recipient: rfc822; yamada@partner.example
Original-Message-ID: <1@example.co.jp>
Disposition: manual-action/MDN-sent-manually; displayed
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KAIFU_CONFIG", raising=False)
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "kaifu.yaml").write_text(SETTINGS)
    (tmp_path / "mail.eml").write_text(MAIL)
    (tmp_path / "receipt.eml").write_text(RECEIPT)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["policy", "explain", *arguments], catch_exceptions=False)


def told(*arguments: str) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.count("\n") == 1
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


GIVEN = ("--policy", "policy.yaml", "--realm", "example.co.jp")
FROM = ("--from", "sato@example.co.jp")


def test_json_is_one_object_with_a_decision_for_each_recipient(here: Path) -> None:
    found = told(*GIVEN, *FROM, "--to", "yamada@partner.example", "--to", "x@example.co.jp", "mail.eml")
    assert (found["kind"], found["from"], found["deliveries"], found["ledger"]) == ("mail", FROM[1], 2, False)
    asked, other = found["recipients"]
    assert asked["to"] == "yamada@partner.example"
    assert (asked["direction"], asked["rule"], asked["line"]) == ("outbound", "contracts", 11)
    assert (asked["action"], asked["request"], asked["asked_by"]) == ("forward", "added", "policy")
    assert asked["headers"] == ["added Disposition-Notification-To: <sato@example.co.jp>"]
    assert asked["notify"] == ["DELAY", "FAILURE", "SUCCESS"]
    assert asked["recorded"] is True
    assert asked["reason"].startswith('Rule "contracts" (line 11) asks for a read receipt')
    assert (other["direction"], other["rule"], other["headers"], other["recorded"]) == ("internal", None, [], False)


def test_it_shows_rule_by_rule_why_it_does_not_hold(here: Path) -> None:
    (recipient,) = told(*GIVEN, *FROM, "--to", "x@partner.example", "--at", "2026-11-21T10:00+09:00", "mail.eml")[
        "recipients"
    ]
    rules = {rule["rule"]: rule for rule in recipient["rules"]}
    (sensitivity,) = rules["private mail is never tracked"]["conditions"]
    assert (sensitivity["key"], sensitivity["holds"]) == ("sensitivity", False)
    failed = [c["key"] for c in rules["mornings"]["conditions"] if not c["holds"]]
    assert failed == ["time", "to"]
    assert rules["contracts"]["holds"]
    assert not rules["receipts are not refused by all"]["tried"]


def test_people_are_told_in_words(here: Path) -> None:
    result = run(*GIVEN, *FROM, "--to", "yamada@partner.example", "mail.eml")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "mail.eml: mail from sato@example.co.jp"
    assert "to yamada@partner.example (outbound)" in lines
    assert "  header     added Disposition-Notification-To: <sato@example.co.jp>" in lines
    assert "  envelope   NOTIFY=SUCCESS,FAILURE,DELAY" in lines
    assert "  record     yes, request added, asked by policy, kept for 30 days" in lines
    assert any(line.startswith("  rule       line 5, private mail is never tracked: does not hold: ") for line in lines)


def test_line_ends_do_not_matter(here: Path) -> None:
    """As over SMTP every line ends with CRLF, which counts in the size."""
    (here / "crlf.eml").write_bytes(MAIL.replace("\n", "\r\n").encode())
    (here / "mixed.eml").write_bytes(MAIL.replace("\n", "\r\n", 2).encode())
    larger = f'  - {{name: larger, when: {{size: "> {len(MAIL)} B"}}, then: {{request: add}}}}\n'
    (here / "policy.yaml").write_text(POLICY + larger)
    arguments = (*GIVEN, *FROM, "--to", "x@example.net", "--at", "2026-11-21T10:00Z")
    results = [told(*arguments, name) | {"file": ""} for name in ("mail.eml", "crlf.eml", "mixed.eml")]
    assert results[0] == results[1] == results[2]
    assert results[0]["recipients"][0]["rule"] == "larger"


def test_a_null_reverse_path_is_written_as_it_is(here: Path) -> None:
    found = told(*GIVEN, "--from", "<>", "--to", "yamada@partner.example", "mail.eml")
    assert (found["from"], found["sender"]) == (None, "sato@example.co.jp")
    (recipient,) = found["recipients"]
    assert "request" in [rail["key"] for rail in recipient["rails"]]
    assert recipient["headers"] == []


def test_addresses_beyond_ascii_make_the_transaction_smtputf8(here: Path) -> None:
    found = told(*GIVEN, "--from", "佐藤@example.co.jp", "--to", "<yamada@partner.example>", "mail.eml")
    assert found["recipients"][0]["headers"] == ["added Disposition-Notification-To: <佐藤@example.co.jp>"]


def test_the_next_hop_may_not_offer_dsn(here: Path) -> None:
    found = told(*GIVEN, *FROM, "--to", "yamada@partner.example", "--no-dsn", "mail.eml")
    assert found["recipients"][0]["not_possible"] == ["the next hop does not offer DSN"]


def test_outside_a_sender_of_ours_is_a_stranger(here: Path) -> None:
    found = told(*GIVEN, *FROM, "--to", "yamada@partner.example", "--outside", "mail.eml")
    assert found["recipients"][0]["direction"] == "transit"


def test_without_a_policy_the_settings_say_which(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = (*FROM, "--to", "yamada@partner.example", "mail.eml")
    assert told("--config", "kaifu.yaml", *arguments)["recipients"][0]["rule"] == "contracts"
    monkeypatch.setenv("KAIFU_CONFIG", str(here / "kaifu.yaml"))
    assert told(*arguments)["recipients"][0]["rule"] == "contracts"


def test_times_are_read_in_the_zone_of_the_settings(here: Path) -> None:
    arguments = ("--config", "kaifu.yaml", *FROM, "--to", "x@early.example", "mail.eml", "--at")
    assert told(*arguments, "2026-11-21T08:30")["recipients"][0]["rule"] == "mornings"
    assert told(*arguments, "2026-11-20T23:30Z")["recipients"][0]["rule"] == "mornings"
    assert told(*arguments, "2026-11-21T08:30Z")["recipients"][0]["rule"] is None


def test_with_settings_the_ledger_is_asked_who_asked(here: Path) -> None:
    with store(here / "ledger.db") as opened, journal(opened) as made:
        made.begin(record(to("yamada@partner.example", request=RequestState.ADDED, asked_by=AskedBy.POLICY)))
    found = told("--config", "kaifu.yaml", "--from", "<>", "--to", "sato@example.co.jp", "receipt.eml")
    (recipient,) = found["recipients"]
    assert found["ledger"] is True
    assert recipient["action"] == "withhold"
    assert [(e["verdict"], e["value"]) for e in found["evidence"]] == [("matched", "displayed")]
    (_, look) = [json.loads(body) for body in bodies(here / "ledger.db")]
    assert (look["kind"], look["what"]) == ("looked", "explain")


def test_what_the_ledger_is_not_asked_leaves_no_trace(here: Path) -> None:
    with store(here / "ledger.db") as opened, journal(opened) as made:
        made.begin(record(to("yamada@partner.example")))
    told("--config", "kaifu.yaml", "--from", "<>", "--to", "tanaka@elsewhere.example", "mail.eml")
    assert len(bodies(here / "ledger.db")) == 1


def test_with_settings_the_ledger_is_asked_for_consent(here: Path) -> None:
    with store(here / "ledger.db") as opened, journal(opened) as made:
        made.consent("yamada@partner.example", Consent.DENIED, "hr", "")
    found = told("--config", "kaifu.yaml", *FROM, "--to", "Yamada@Partner.example", "mail.eml")
    (rail,) = [rail for rail in found["recipients"][0]["rails"] if rail["key"] == "request"]
    assert "consent" in rail["why"]


def test_a_ledger_that_cannot_be_read_is_named_and_done_without(here: Path) -> None:
    (here / "ledger.db").write_bytes(b"this is no ledger, whatever its name says\n" * 100)
    result = run("--config", "kaifu.yaml", *FROM, "--to", "yamada@partner.example", "mail.eml")
    assert result.exit_code == 0
    assert "ledger.db" in result.stderr
    assert "explained without it" in result.stderr
    assert "contracts" in result.stdout


def test_a_refusal_is_shown(here: Path) -> None:
    arguments = ("--policy", "policy.yaml", "--realm", "reject.example", "--from", "<>", "--to", "a@reject.example")
    found = told(*arguments, "receipt.eml")
    assert found["rejection"]
    assert found["recipients"][0]["action"] == "reject"
    result = run(*arguments, "receipt.eml")
    assert '  refused with 550 5.7.1 "' in result.stdout
    assert "  mdn displayed: unknown-message; it names no message that is known here" in result.stdout


def test_what_a_stranger_wrote_steers_no_terminal(here: Path) -> None:
    (here / "evil.eml").write_bytes(b"Disposition-Notification-To: \x1b[31m\xe2\x80\xae\r\nSubject: \x07\r\n\r\n")
    for more in ((), ("--json",)):
        result = run(*GIVEN, *FROM, "--to", "yamada@partner.example", "evil.eml", *more)
        assert result.exit_code == 0
        assert all(line.isprintable() for line in result.stdout.splitlines())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((*GIVEN, *FROM, "--to", "b@x.example", "nowhere.eml"), "nowhere.eml: No such file"),
        ((*GIVEN, *FROM, "--to", "b@x.example b", "mail.eml"), "b@x.example b: Bad address syntax"),
        ((*GIVEN, *FROM, "--to", "<>", "mail.eml"), "<>: Bad recipient address syntax"),
        ((*GIVEN, "--from", "a@b <", "--to", "b@x.example", "mail.eml"), "a@b <: Bad address syntax"),
        ((*GIVEN, *FROM, "--to", "b@x.example", "--at", "noon", "mail.eml"), "--at noon: no time; write it as"),
        ((*GIVEN, *FROM, "--to", "b@x.example", "--at", "0001-01-01T00:00+14:00", "mail.eml"), "out of reach"),
        (("--realm", "x.example", *FROM, "--to", "b@x.example", "mail.eml"), "--realm goes with --policy"),
        ((*GIVEN, "--realm", "ex ample", *FROM, "--to", "b@x.example", "mail.eml"), '--realm "ex ample": no domain'),
        ((*GIVEN, "--realm", "", *FROM, "--to", "b@x.example", "mail.eml"), '--realm "": no domain'),
        (("--config", "none.yaml", *FROM, "--to", "b@x.example", "mail.eml"), "none.yaml"),
        (("--policy", "none.yaml", *GIVEN[2:], *FROM, "--to", "b@x.example", "mail.eml"), "none.yaml"),
        ((*GIVEN, *FROM, "mail.eml"), "Missing option '--to'"),
    ],
)
def test_what_is_wrong_is_said_with_exit_status_2(here: Path, arguments: tuple[str, ...], said: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert said in result.stderr


def test_every_error_of_a_policy_is_said(here: Path) -> None:
    (here / "bad.yaml").write_text("version: 1\nrules:\n  - {name: a, when: {kind: mall}, then: {request: ad}}\n")
    result = run("--policy", "bad.yaml", *GIVEN[2:], *FROM, "--to", "b@x.example", "mail.eml")
    assert result.exit_code == 2
    assert result.stderr.count("bad.yaml:3:") == 2
