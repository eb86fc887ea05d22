"""``kaifu receipts show`` and ``note``, and ``kaifu ledger``: one message in full, what people add, and the file itself."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.ledger_values import NOON, SUZUKI, YAMADA, bodies, journal, receipt, record, store, tables, to

from kaifu.policies.facts import Direction
from kaifu.proxy import migrations
from kaifu.proxy.access import caller
from kaifu.proxy.cli import cli
from kaifu.proxy.ledger import EvidenceKind, Outcome, RequestState, Verdict
from kaifu.proxy.ledger_entries import microseconds
from kaifu.proxy.ledger_people import writing

Run = Callable[..., Result]
ATTESTED = 19
"""The place of that column among those of a recipient."""


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """A message to two, refused first; a receipt that counts, one that does not, and one that nobody knows."""
    path = tmp_path / "ledger.db"
    reason = "Rule partners asks.\x1b[2J"
    with store(path) as opened, journal(opened) as adding:
        message = record(
            to(reason=reason, edits=("added Disposition-Notification-To: <sato@example.co.jp>",)),
            to(SUZUKI, would="Rule partners would ask.", not_possible=("DSN",)),
            key=b"1", policy="f" * 64, mta_queue_id="4XyZ",
        )  # fmt: skip
        begun = adding.begin(message)
        adding.finish(begun, [(YAMADA, Outcome.ACCEPTED), (SUZUKI, Outcome.DEFERRED)], "451 later", microseconds(NOON))
        begun = adding.begin(record(to(reason=reason), to(SUZUKI), key=b"1", minutes=5, queue_id="q2"))
        adding.finish(begun, [(YAMADA, Outcome.ACCEPTED), (SUZUKI, Outcome.ACCEPTED)], "250 ok", microseconds(NOON))
        carried = (
            receipt(1, details={"reporting_ua": "Mail\x07er"}),
            receipt(2, "deleted", verdict=Verdict.WRONG_RECIPIENT, message_id="r1@partner.example"),
            receipt(None, message_id="r1@partner.example", details={"original_message_id": "1@example.co.jp"}),
        )
        own = to("sato@example.co.jp", direction=Direction.INBOUND, request=RequestState.NONE, withheld=True)
        adding.begin(record(own, key=b"2", minutes=9, kind="mdn", message_id="r1@partner.example", evidence=carried))
        adding.begin(record(key=b"3", minutes=9, evidence=(receipt(1, message_id="r1@partner.example"),)))
        adding.begin(record(to(), key=b"4", message_id="twice@a"))
        adding.begin(record(to(SUZUKI), key=b"5", message_id="twice@a"))
    return path


def shown(run: Run, *words: str) -> dict[str, Any]:
    result = run("receipts", "show", "--json", *words)
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("name", ["1", "1@example.co.jp", "<1@example.co.jp>", " <1@example.co.jp> "])
def test_a_message_is_found_by_its_number_and_by_its_message_id(run: Run, name: str) -> None:
    assert shown(run, name)["id"] == 1


@pytest.mark.parametrize("name", ["99", "99@example.co.jp", "1@EXAMPLE.co.jp", "", "9" * 40, "\x1b[2J"])
def test_a_message_that_is_not_there_is_a_negative_answer(run: Run, name: str) -> None:
    result = run("receipts", "show", name)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("The ledger has no message")
    assert "\x1b" not in result.stderr


def test_every_message_with_an_id_that_was_used_twice_is_shown(run: Run) -> None:
    found = run("receipts", "show", "--json", "twice@a").stdout.splitlines()
    assert [json.loads(line)["id"] for line in found] == [4, 3]
    assert run("receipts", "show", "twice@a").stdout.count("<twice@a>") == 2


def test_json_tells_what_was_decided_what_was_done_and_what_came_back(run: Run) -> None:
    found = shown(run, "1")
    assert [(one["queue_id"], one["mta_queue_id"]) for one in found["attempts"]] == [("q1", "4XyZ"), ("q2", None)]
    assert found["policy"] == "f" * 64
    first, second = found["recipients"]
    assert (first["to"], first["state"], first["outcome"]) == (YAMADA, "displayed", "accepted")
    assert first["edits"] == ["added Disposition-Notification-To: <sato@example.co.jp>"]
    assert [(one["outcome"], one["reply"]) for one in second["outcomes"]] == [
        ("deferred", "451 later"),
        ("accepted", "250 ok"),
    ]
    assert [(one["value"], one["verdict"], one["duplicate"]) for one in first["evidence"]] == [
        ("displayed", "matched", False),
        ("displayed", "matched", True),
    ]
    assert first["evidence"][0]["raw"] == "Final-Recipient: rfc822; yamada@partner.example\r\n"
    assert first["evidence"][0]["carrier"] == 2
    assert [(one["value"], one["verdict"]) for one in second["evidence"]] == [("deleted", "wrong-recipient")]
    assert second["state"] == "waiting"
    assert [one["verdict"] for one in found["other_evidence"]] == ["unknown-message"]


def test_a_receipt_says_of_which_messages_it_is_evidence(run: Run) -> None:
    found = shown(run, "2")
    assert found["kind"] == "mdn"
    assert [(one["message"], one["value"]) for one in found["is_evidence_of"]] == [
        (1, "displayed"),
        (1, "deleted"),
        (1, "displayed"),
    ]


def test_people_read_the_same_and_nothing_from_mail_reaches_the_terminal_raw(run: Run) -> None:
    text = run("receipts", "show", "1").stdout
    for words in (
        "Message 1  <1@example.co.jp>",
        f"{YAMADA}   ✓✓ displayed (claimed)",
        f"{SUZUKI}   ✓ no answer",
        "why       Rule partners asks.\\x1b[2J",
        "changed   added Disposition-Notification-To: <sato@example.co.jp>",
        "deferred: 451 later",
        "tried again",
        "receipt: deleted (claimed; does not count: not from a recipient) from yamada@partner.example",
        "receipt: displayed (claimed; seen before) from",
        "reporting_ua: Mail\\x07er",
        "Cites this message, but confirms nothing",
        "2026-11-20 12:00:00 (UTC)",
        "policy ffffffffffff",
    ):
        assert words in text
    assert "unread" not in text
    assert not set(text) & {chr(code) for code in range(32) if code != 10}


def test_what_was_erased_is_said_to_be(run: Run, ledger: Path) -> None:
    with closing(sqlite3.connect(ledger)) as db:
        db.execute("DELETE FROM cells")
        db.commit()
    assert run("ledger", "rebuild").exit_code == 0
    text = run("receipts", "show", "1").stdout
    assert "(no Message-ID recorded)" in text
    assert "why       (erased)" in text
    found = shown(run, "1")
    assert found["recipients"][0]["to"] is None
    assert found["recipients"][0]["state"] == "displayed"
    assert run("receipts", "list").exit_code == 0


def note(run: Run, *words: str, name: str = "1") -> Result:
    return run("receipts", "note", name, *words)


def test_a_note_stands_beside_the_receipts_and_changes_no_state(run: Run, ledger: Path) -> None:
    before = tables(ledger, ("recipients",))["recipients"]
    result = note(
        run, "--to", SUZUKI.upper(), "--confirmed-by", "phone", "--at", "2026-11-20T12:30Z", "--text", "読んだ"
    )
    assert (result.exit_code, result.stderr) == (0, "")
    after = tables(ledger, ("recipients",))["recipients"]
    assert [row[:ATTESTED] + row[ATTESTED + 1 :] for row in after] == [
        row[:ATTESTED] + row[ATTESTED + 1 :] for row in before
    ]
    assert [row[ATTESTED] for row in after] == [0, 1, 0, 0, 0]
    (noted,) = shown(run, "1")["recipients"][1]["notes"]
    del noted["at"]
    assert noted == {
        "entry": 12, "confirmed_by": "phone", "confirmed_at": "2026-11-20T12:30:00.000000Z", "text": "読んだ",
        "actor": caller().name, "revoked_by": None,
    }  # fmt: skip
    text = run("receipts", "show", "1").stdout
    assert "noted by people (no receipts):\n    entry 12: confirmed by phone at 2026-11-20 12:30" in text
    assert f"{SUZUKI}   ✓ no answer" in text
    assert "no answer (noted)" in run("receipts", "list").stdout


def test_a_note_is_taken_back_by_a_further_entry(run: Run, ledger: Path) -> None:
    note(run, "--to", SUZUKI, "--confirmed-by", "meeting")
    result = note(run, "--to", SUZUKI, "--revoke", "12")
    assert (result.exit_code, result.stdout) == (0, "Entry 13: note 12 is revoked.\n")
    assert shown(run, "1")["recipients"][1]["notes"][0]["revoked_by"] == 13
    assert "revoked by entry 13" in run("receipts", "show", "1").stdout
    assert tables(ledger, ("recipients",))["recipients"][1][ATTESTED] == 0
    again = note(run, "--to", SUZUKI, "--revoke", "12")
    assert (again.exit_code, again.stderr) == (2, "entry 12 was revoked already, by entry 13\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--confirmed-by", "phone"), f"Message 1 went to {SUZUKI}, {YAMADA}; say which with --to."),
        (("--to", "x@y.example", "--confirmed-by", "phone"), f"Message 1 went to {SUZUKI}, {YAMADA}"),
        (("--to", YAMADA, "--confirmed-by", "pigeon"), "is not one of 'phone', 'meeting', 'letter', 'chat'"),
        (("--to", YAMADA), "give --confirmed-by, or --revoke ENTRY"),
        (("--to", YAMADA, "--confirmed-by", "phone", "--revoke", "3"), "give --confirmed-by, or --revoke ENTRY"),
        (("--to", YAMADA, "--confirmed-by", "phone", "--at", "2999-01-01"), "--at lies in the future"),
        (("--to", YAMADA, "--revoke", "1"), "entry 1 is no note about this recipient"),
        (("--to", YAMADA, "--revoke", "999"), "entry 999 is no note about this recipient"),
    ],
)
def test_a_note_that_makes_no_sense_is_refused_and_leaves_nothing(
    run: Run, ledger: Path, words: tuple[str, ...], said: str
) -> None:
    before = len(bodies(ledger))
    result = note(run, *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    # Except that who was told to whom the message went, or that somebody is its recipient, has looked.
    kinds = [json.loads(body)["kind"] for body in bodies(ledger)[before:]]
    assert kinds == (["looked"] if " went to " in said or "this recipient" in said else [])


def test_a_note_needs_a_message_and_only_one(run: Run) -> None:
    several = note(run, "--confirmed-by", "chat", name="twice@a")
    assert (several.exit_code, several.stderr) == (
        2,
        "Several messages are called twice@a; say which by its number: 4, 3.\n",
    )
    none = note(run, "--confirmed-by", "chat", name="99")
    assert (none.exit_code, none.stderr) == (2, "The ledger has no message 99.\n")
    assert note(run, "--confirmed-by", "chat", name="3").exit_code == 0


def test_what_is_raised_while_writing_leaves_nothing(ledger: Path) -> None:
    before = tables(ledger, ("entries",))

    def half() -> None:
        with writing(ledger) as adding:
            adding.attest(1, "phone", 0, "root", "")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half()
    assert tables(ledger, ("entries",)) == before
    with writing(ledger) as adding:
        assert adding.attest(1, "phone", 0, "root", "") == 12


def test_stats_count_what_is_there(run: Run, ledger: Path) -> None:
    with store(ledger) as opened, journal(opened) as adding:
        adding.count({(5, "inbound", "mail"): 7, (6, "inbound", "mail"): 1})
        adding.begin(record(key=b"9", evidence=(receipt(1, kind=EvidenceKind.SUSPECTED, verdict=Verdict.SUSPECTED),)))
    found = json.loads(run("ledger", "stats", "--json").stdout)
    assert (found["entries"], found["messages"], found["recipients"]) == (12, 4, 5)
    assert found["states"] == {"displayed": 1, "not-asked": 1, "waiting": 3}
    assert found["evidence"] == {
        "mdn matched": 1, "mdn unknown-message": 1, "mdn wrong-recipient": 1, "suspected suspected": 1,
    }  # fmt: skip
    assert found["without_record"] == {"inbound mail": 8}
    assert found["first_message_at"] == "2026-11-20T12:00:00Z"
    text = run("ledger", "stats").stdout
    assert "waiting                           3" in text


def test_rebuild_says_what_it_did_and_changes_nothing(run: Run, ledger: Path) -> None:
    before = tables(ledger)
    result = run("ledger", "rebuild")
    assert (result.exit_code, result.output) == (0, "Rebuilt from 11 entries.\n")
    assert tables(ledger) == before


def test_migrate_runs_what_is_new(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("ledger", "migrate").output == "Nothing to do: the schema is up to date.\n"

    def more(db: Any) -> None:
        db.execute("CREATE TABLE more (a)")

    monkeypatch.setattr(migrations, "STEPS", (*migrations.STEPS, more))
    old = run("receipts", "list")
    assert (old.exit_code, "run kaifu ledger migrate" in old.stderr) == (2, True)
    assert run("ledger", "migrate").output == "Done: more.\n"
    assert run("receipts", "list").exit_code == 0


COMMANDS = [
    ("receipts", "list"), ("receipts", "show", "1"), ("receipts", "export"), ("ledger", "stats"), ("ledger", "rebuild"),
    ("ledger", "migrate"), ("receipts", "note", "1", "--confirmed-by", "phone"), ("receipts", "unmatched"),
]  # fmt: skip
ALSO = [*COMMANDS, ("receipts", "pair", "1", "--with", SUZUKI)]


@pytest.mark.parametrize("words", ALSO, ids=" ".join)
def test_every_command_says_in_one_sentence_that_there_is_no_ledger_and_makes_none(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    result = CliRunner().invoke(cli, [*words, "--ledger", f"sqlite:///{tmp_path}/none.db"], catch_exceptions=False)
    assert (result.exit_code, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1
    assert str(tmp_path / "none.db") in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", ALSO, ids=" ".join)
def test_every_command_says_in_one_sentence_that_the_ledger_is_damaged(tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "bad.db").write_bytes(b"\xff" * 8192)
    result = CliRunner().invoke(cli, [*words, "--ledger", f"sqlite:///{tmp_path}/bad.db"], catch_exceptions=False)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "is damaged or no SQLite database" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("mode", [0o600, 0o644])
@pytest.mark.parametrize("words", ALSO, ids=" ".join)
def test_somebody_else_is_told_to_act_as_the_service_user(
    run: Run, ledger: Path, words: tuple[str, ...], mode: int
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    octets = ledger.read_bytes()
    ledger.chmod(mode)
    os.seteuid(65534)
    try:
        result = run(*words)
    finally:
        os.seteuid(0)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        f"the ledger {ledger} cannot be opened: this user may not read and write it and its directory; "
        "act as the service user\n"
    )
    assert ledger.read_bytes() == octets


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_finds_its_settings_as_promised(
    tmp_path: Path, ledger: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    config = tmp_path / "kaifu.yaml"
    config.write_text(f"realm: [a.example]\npolicy: p.yaml\nledger: sqlite:///{ledger}\n")
    extra = ("--to", YAMADA) if "note" in words else ()
    monkeypatch.setenv("KAIFU_CONFIG", str(tmp_path / "other.yaml"))
    wrong = CliRunner().invoke(cli, [*words, *extra], catch_exceptions=False)
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert str(tmp_path / "other.yaml") in wrong.stderr
    assert CliRunner().invoke(cli, [*words, *extra, "--config", str(config)], catch_exceptions=False).exit_code == 0
    monkeypatch.setenv("KAIFU_CONFIG", str(config))
    assert CliRunner().invoke(cli, [*words, *extra], catch_exceptions=False).exit_code == 0
