"""``kaifu receipts`` over grades, lists, other addresses and what matches nothing: what is shown, and what people say to it."""

from __future__ import annotations

import csv
import io
import json
import pwd
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.ledger_values import SUZUKI, YAMADA, journal, receipt, record, store, tables, to

from kaifu.policies.facts import Direction
from kaifu.proxy.cli import cli
from kaifu.proxy.ledger import EvidenceKind, Grade, RequestState, Verdict
from kaifu.proxy.ledger_answerers import MOST_WITHOUT
from kaifu.proxy.ledger_shown import MOST_NAMED

KUDO, MEIER, TEAM = "kudo@partner.example", "meier@other.example", "team@partner.example"
OTHER = Verdict.OTHER_ADDRESS


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """1: proven, and one of whom only another address answered. 2: a list. 3: a rule that wants proof. 4: answered by an alias.
    5: a receipt that matches nothing."""
    path = tmp_path / "ledger.db"
    own = to("sato@example.co.jp", direction=Direction.INBOUND, request=RequestState.NONE, rule=None)
    today = datetime.now(UTC)
    with store(path) as opened, journal(opened) as writing:
        writing.begin(record(to(), to(SUZUKI), key=b"1", message_id="1@a"))
        writing.begin(record(to(TEAM), key=b"2", message_id="2@a"))
        writing.begin(record(to(confirm=Grade.AUTHENTICATED), key=b"3", message_id="3@a"))
        writing.begin(record(to(), key=b"4", message_id="4@a"))
        answers = (
            receipt(1, message_id="a", grade=Grade.AUTHENTICATED),
            receipt(2, message_id="b", by=MEIER, verdict=OTHER),
            receipt(2, message_id="c", by="\x1b[31m@other.example", verdict=OTHER),
            receipt(None, message_id="d", by=KUDO, verdict=OTHER, details={"original_message_id": "1@a"}),
            receipt(3, message_id="e", by=KUDO, alias=True),
            receipt(3, message_id="f", by=YAMADA, alias=True, kind=EvidenceKind.REPLY, grade=Grade.AUTHENTICATED),
            receipt(3, "delivered", message_id="g", kind=EvidenceKind.DSN),
            receipt(4, message_id="h"),
            receipt(5, "deleted", message_id="i", by=KUDO, alias=True),
            receipt(5, message_id="j", by="mallory@partner.example", verdict=Verdict.FAILED_AUTHENTICATION),
        )
        writing.begin(record(key=b"r", minutes=5, evidence=answers))
        lost = receipt(None, message_id="lost", details={"original_message_id": "9@\x1b[2Ja"})
        writing.begin(record(own, key=b"5", message_id="5@a", kind="mdn", at=today, evidence=(lost,)))
    return path


def run(ledger: Path, *words: str, command: str = "receipts") -> Result:
    return CliRunner().invoke(cli, [command, *words, "--ledger", f"sqlite:///{ledger}"], catch_exceptions=False)


def listed(ledger: Path, *words: str) -> dict[int, dict[str, Any]]:
    result = run(ledger, "list", "--json", *words)
    assert (result.exit_code, result.stderr) == (0, "")
    return {one["recipient"]: one for one in map(json.loads, result.stdout.splitlines())}


def line_of(ledger: Path, recipient: str) -> list[str]:
    """The line of the table with that recipient, and those beneath it, without what does not matter here."""
    lines = run(ledger, "list", "--kind", "mail").stdout.splitlines()
    start = next(place for place, line in enumerate(lines) if recipient in line and line.lstrip()[:1].isdigit())
    end = next(
        (place for place in range(start + 1, len(lines)) if "↳" not in lines[place]),
        len(lines),
    )
    return [" ".join(line.split()) for line in lines[start:end]]


def test_a_list_names_who_answered_and_never_has_the_mark_of_a_reader(ledger: Path) -> None:
    found = listed(ledger)[3]
    at = "2026-11-20T12:05:00Z"
    assert [found[key] for key in ("state", "list", "answered", "handling", "grade", "displayed_at", "replied_at")] == [
        "delivered", True, 2, "none", None, None, None,
    ]  # fmt: skip
    assert found["answered_by"] == [
        {"address": KUDO, "value": "displayed", "grade": "claimed", "verdict": "matched", "at": at},
        {"address": YAMADA, "value": "replied", "grade": "authenticated", "verdict": "matched", "at": at},
    ]
    row, *beneath = line_of(ledger, TEAM)
    assert "✓ 2 answered (mixed)" in row
    assert beneath == [f"displayed (claimed) ↳ {KUDO}", f"replied (authenticated) ↳ {YAMADA}"]
    text = run(ledger, "show", "2").stdout
    assert f"{TEAM}   ✓ 2 answered (mixed)" in text
    assert "a list: several mailboxes stand behind this address" in text
    assert f"  answered  {KUDO}: displayed (claimed)\n" in text
    assert "✓✓" not in text


def test_the_grade_stands_beside_every_confirmation(ledger: Path) -> None:
    rows = listed(ledger)
    assert [(rows[number]["state"], rows[number]["grade"]) for number in (1, 2, 4, 5)] == [
        ("displayed", "authenticated"), ("waiting", None), ("waiting", None), ("deleted", "claimed"),
    ]  # fmt: skip
    text = run(ledger, "list").stdout
    assert "✓✓  displayed (authenticated)" in text
    assert "✗   deleted unread (claimed)" in text
    assert "receipt: displayed (authenticated) from" in run(ledger, "show", "1").stdout


def test_rows_are_chosen_by_grade_and_a_list_has_none(ledger: Path) -> None:
    assert list(listed(ledger, "--grade", "authenticated")) == [1]
    assert list(listed(ledger, "--grade", "claimed")) == [5]
    assert sorted(listed(ledger, "--grade", "claimed,authenticated")) == [1, 5]
    refused = run(ledger, "list", "--grade", "proven")
    assert refused.exit_code == 2
    assert '"proven" is none of claimed, authenticated, attested' in refused.stderr


def test_what_a_person_noted_is_found_by_the_grade_attested(ledger: Path) -> None:
    assert listed(ledger, "--grade", "attested") == {}
    noted = run(ledger, "note", "2", "--confirmed-by", "phone")
    assert noted.exit_code == 0, noted.stderr
    (found,) = listed(ledger, "--grade", "attested").values()
    assert (found["id"], found["attested"], found["list"]) == (2, 1, True)
    assert sorted(listed(ledger, "--grade", "attested,claimed")) == [3, 5]


def test_an_answer_below_the_grade_that_the_rule_asks_for_is_shown_and_not_counted(ledger: Path) -> None:
    found = listed(ledger)[4]
    assert (found["confirm"], found["state"], found["answered"]) == ("authenticated", "waiting", 0)
    assert [(one["address"], one["grade"]) for one in found["not_counted"]] == [(YAMADA, "claimed")]
    text = run(ledger, "show", "3").stdout
    assert "confirm   only authenticated answers count" in text
    assert "receipt: displayed (claimed; counts only when authenticated) from" in text
    lines = run(ledger, "list").stdout.splitlines()
    assert [line.split() for line in lines if f"↳ {YAMADA}" in line and "?" in line] == [
        ["?", "displayed", "(claimed)", "↳", YAMADA]
    ]


def test_what_the_same_mailbox_said_in_a_way_that_counts_is_not_held_against_it(ledger: Path) -> None:
    proven = receipt(4, message_id="later", grade=Grade.AUTHENTICATED)
    with store(ledger) as opened, journal(opened) as writing:
        writing.begin(record(key=b"l", minutes=9, evidence=(proven,)))
    found = listed(ledger)[4]
    assert (found["state"], found["grade"], found["not_counted"]) == ("displayed", "authenticated", [])


def test_whoever_answers_for_an_alias_is_named(ledger: Path) -> None:
    assert [one["address"] for one in listed(ledger)[5]["answered_by"]] == [KUDO]
    text = run(ledger, "show", "4").stdout
    assert f"  answered  {KUDO}: deleted (claimed)\n" in text
    assert [line.split() for line in run(ledger, "list").stdout.splitlines() if "answered by" in line] == [
        ["answered", "by", "↳", KUDO]
    ]
    assert f"receipt: deleted (claimed; from an alias) from {KUDO}" in text
    assert "receipt: displayed (claimed; does not count: it failed authentication) from mallory" in text


def test_an_answer_of_another_address_stands_beneath_with_the_words_that_pair_it(ledger: Path) -> None:
    text = run(ledger, "show", "1").stdout
    assert f"receipt: displayed (claimed; does not count: from another address) from {MEIER}" in text
    assert f"if it answers for the recipient: kaifu receipts pair 1 --to {SUZUKI} --with {MEIER}\n" in text
    assert f"kaifu receipts pair 1 --to RECIPIENT --with {KUDO}\n" in text
    whole = run(ledger, "list").stdout
    assert "What another address answers counts once somebody pairs the two: kaifu receipts pair ID" in whole
    row, *beneath = line_of(ledger, SUZUKI)
    assert "✓ no answer" in row
    assert beneath == [
        f"? displayed (claimed) ↳ {MEIER}",
        "? displayed (claimed) ↳ \\x1b[31m@other.example",
    ]
    assert re.search(rf"\n +\? +displayed \(claimed\) +↳ {KUDO}, for whom\?\n", whole)
    assert "\x1b" not in whole + text
    assert "pairs the two" not in run(ledger, "list", "--state", "deleted").stdout


def test_an_answer_under_the_asked_address_that_failed_authentication_stands_beneath(ledger: Path) -> None:
    forged = {"verdict": Verdict.FAILED_AUTHENTICATION, "by": SUZUKI}
    with store(ledger) as opened, journal(opened) as writing:
        stranger = receipt(2, message_id="f2", verdict=Verdict.FAILED_AUTHENTICATION, by="mallory@partner.example")
        writing.begin(record(key=b"f", evidence=(receipt(2, message_id="f1", **forged), stranger)))
    row, *beneath = line_of(ledger, SUZUKI)
    assert "✓ no answer" in row
    assert f"? displayed (failed authentication) ↳ {SUZUKI}" in beneath
    assert not any("mallory" in line for line in beneath)
    assert f"{SUZUKI} (displayed, failed authentication)" in run(ledger, "list", "--csv").stdout


def test_pairing_lets_it_count_and_revoking_takes_that_back(ledger: Path) -> None:
    result = run(
        ledger, "pair", "1", "--to", SUZUKI.upper(), "--with", f" {MEIER.upper()} ", "--text", "彼の新しい住所"
    )
    assert (result.exit_code, result.stderr) == (0, "")
    number = int(result.stdout.split()[1].rstrip(":"))
    assert result.stdout == (
        f"Entry {number}: paired. To take it back: kaifu receipts pair 1 --revoke {number} --to {SUZUKI.upper()}\n"
    )
    found = listed(ledger)[2]
    assert (found["state"], found["grade"], found["answered_by"][0]["address"]) == ("displayed", "claimed", MEIER)
    shown = json.loads(run(ledger, "show", "1", "--json").stdout)["recipients"][1]
    assert [(one["other"], one["asked"], one["text"], one["revoked_by"]) for one in shown["pairs"]] == [
        (MEIER.upper(), SUZUKI, "彼の新しい住所", None)
    ]
    assert [(one["counts"], one["pair"]) for one in shown["evidence"]] == [(True, number), (False, None)]
    text = run(ledger, "show", "1").stdout
    assert f"receipt: displayed (claimed; paired by entry {number}) from {MEIER}" in text
    assert f"paired by entry {number}: {MEIER.upper()} answers for {SUZUKI}, says " in text
    again = run(ledger, "pair", "1", "--to", SUZUKI, "--with", MEIER)
    assert (again.exit_code, again.stderr) == (2, f"{MEIER} was paired with {SUZUKI} already, by entry {number}\n")
    back = run(ledger, "pair", "1", "--to", SUZUKI, "--revoke", str(number))
    assert (back.exit_code, back.stderr) == (0, "")
    assert listed(ledger)[2]["state"] == "waiting"
    assert "revoked by entry" in run(ledger, "show", "1").stdout
    twice = run(ledger, "pair", "1", "--to", SUZUKI, "--revoke", str(number))
    assert (twice.exit_code, "was revoked already, by entry" in twice.stderr) == (2, True)


def test_a_pairing_says_for_whom_an_answer_is_that_nobody_could_tell(ledger: Path) -> None:
    assert run(ledger, "pair", "1", "--to", SUZUKI, "--with", KUDO).exit_code == 0
    found = listed(ledger)[2]
    assert (found["state"], [one["address"] for one in found["answered_by"]]) == ("displayed", [KUDO])
    assert json.loads(run(ledger, "show", "1", "--json").stdout)["other_evidence"] == []


def test_an_answer_of_which_nobody_knows_for_whom_is_told_with_each_row_of_the_message(ledger: Path) -> None:
    rows = listed(ledger)
    told = {
        "address": KUDO, "value": "displayed", "grade": "claimed", "verdict": "other-address",
        "at": "2026-11-20T12:05:00Z",
    }  # fmt: skip
    assert {number: row["recipient_unknown"] for number, row in rows.items() if row["recipient_unknown"]} == {
        1: [told],
        2: [told],
    }
    assert all(KUDO not in json.dumps(rows[number]["not_counted"]) for number in (1, 2))
    text = run(ledger, "list", "--csv").stdout_bytes.decode()
    found = {int(row["recipient"]): row for row in csv.DictReader(io.StringIO(text, newline=""))}
    assert [found[number]["recipient_unknown"] for number in (1, 2, 3)] == [f"{KUDO} (displayed, claimed)"] * 2 + [""]
    whole = run(ledger, "list").stdout
    assert whole.count("for whom?") == 2, "beneath the message once, and what it means"
    assert "for whom?  The message went to several, and the answer does not say for which of them it is" in whole
    assert f"↳ {KUDO}, for whom?" in run(ledger, "list", "--to", YAMADA, "--kind", "mail").stdout
    assert run(ledger, "pair", "1", "--to", SUZUKI, "--with", KUDO).exit_code == 0
    assert [row["recipient_unknown"] for row in listed(ledger).values()] == [[]] * len(rows)


def test_who_comes_through_sudo_is_told_commands_as_he_types_them(
    ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kaifu.proxy.access.os.geteuid", lambda: pwd.getpwnam("nobody").pw_uid)
    sudo = "sudo -u nobody kaifu receipts"
    assert f"recipient: {sudo} pair 1 --to {SUZUKI} --with {MEIER}\n" in run(ledger, "show", "1").stdout
    assert f"does not count: {sudo} show ID says why." in run(ledger, "list").stdout
    paired = run(ledger, "pair", "1", "--to", SUZUKI, "--with", MEIER).stdout
    assert f"To take it back: {sudo} pair 1 --revoke" in paired
    noted = run(ledger, "note", "1", "--to", SUZUKI, "--confirmed-by", "phone").stdout
    assert f"To take it back: {sudo} note 1 --revoke" in noted


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--with", MEIER), f"Message 1 went to {SUZUKI}, {YAMADA}; say which with --to."),
        (("--to", SUZUKI), "give --with ADDRESS, or --revoke ENTRY"),
        (("--to", SUZUKI, "--with", MEIER, "--revoke", "3"), "give --with ADDRESS, or --revoke ENTRY"),
        (
            ("--to", SUZUKI, "--with", "meyer@other.example"),
            "meyer@other.example has answered nothing that was sent to",
        ),
        (("--to", YAMADA, "--with", MEIER), f"{MEIER} has answered nothing that was sent to {YAMADA}"),
        (("--to", SUZUKI, "--with", SUZUKI), f"{SUZUKI} is the recipient itself"),
        (("--to", SUZUKI, "--with", "\x1b[2J"), "\\x1b[2J has answered nothing"),
        (("--to", SUZUKI, "--revoke", "1"), "entry 1 pairs nobody with this recipient"),
    ],
)
def test_a_pairing_that_makes_no_sense_is_refused_in_a_sentence(
    ledger: Path, words: tuple[str, ...], said: str
) -> None:
    before = tables(ledger, ("pairs", "recipients", "evidence"))
    result = run(ledger, "pair", "1", *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert tables(ledger, ("pairs", "recipients", "evidence")) == before


def test_what_matches_nothing_is_said_of_its_carrier_and_listed(ledger: Path) -> None:
    assert listed(ledger)[6]["unmatched"] == 1
    assert "receipt, no match" in run(ledger, "list").stdout
    shown = run(ledger, "show", "5").stdout
    said = f"receipt: displayed from {YAMADA}, names <9@\\x1b[2Ja>"
    assert f"It is evidence of no message that is known here\n  {said}\n" in shown
    assert f"  {said} (message 5)\n" in run(ledger, "unmatched").stdout
    (found,) = (json.loads(line) for line in run(ledger, "unmatched", "--json").stdout.splitlines())
    assert (found["evidence"], found["value"], found["cites"], found["carrier"]) == (
        "mdn", "displayed", "9@\x1b[2Ja", 5,
    )  # fmt: skip
    kept = datetime.fromisoformat(found["kept_until"]) - datetime.fromisoformat(found["at"])
    assert timedelta(days=13, hours=23) < kept <= timedelta(days=14)


def test_nothing_unmatched_is_no_error(tmp_path: Path) -> None:
    with store(tmp_path / "l") as opened, journal(opened) as writing:
        writing.begin(record(to(), key=b"1"))
    assert run(tmp_path / "l", "unmatched").output == "No unmatched receipts in the last 14 days.\n"
    assert run(tmp_path / "l", "unmatched", "--json").output == ""


def test_what_only_looks_like_a_receipt_is_called_so(ledger: Path) -> None:
    looks = receipt(None, "plain text", message_id="s", kind=EvidenceKind.SUSPECTED, verdict=Verdict.SUSPECTED)
    with store(ledger) as opened, journal(opened) as writing:
        writing.begin(record(key=b"s", at=datetime.now(UTC), evidence=(looks,)))
    assert f"suspected receipt: plain text from {YAMADA}, names no message" in run(ledger, "unmatched").stdout


def test_a_spreadsheet_gets_the_same_in_words(ledger: Path) -> None:
    text = run(ledger, "list", "--csv").stdout_bytes.decode()
    rows = {int(row["recipient"]): row for row in csv.DictReader(io.StringIO(text, newline=""))}
    assert (rows[3]["list"], rows[1]["list"], rows[4]["confirm"]) == ("true", "false", "authenticated")
    assert rows[3]["answered_by"] == f"{KUDO} (displayed, claimed); {YAMADA} (replied, authenticated)"
    assert rows[2]["not_counted"].startswith(f"{MEIER} (displayed, claimed); \\x1b[31m@other.example (displ")


def test_figures_never_add_up_grades(ledger: Path) -> None:
    found = json.loads(run(ledger, "stats", "--json", command="ledger").stdout)
    assert found["grades"] == {"deleted claimed": 1, "displayed authenticated": 1}
    assert found["unmatched"] == 1


def test_figures_stand_below_each_other_however_long_their_names_are(ledger: Path) -> None:
    lines = run(ledger, "stats", command="ledger").stdout.splitlines()
    assert any("mdn failed-authentication" in line for line in lines)
    assert len({len(line) for line in lines if re.search(r" \d+$", line)}) == 1


def test_however_many_strangers_answer_a_row_stays_short(ledger: Path) -> None:
    with store(ledger) as opened, journal(opened) as writing:
        for number in range(150):
            stranger = receipt(2, by=f"x{number}@other.example", verdict=OTHER, message_id=f"x{number}")
            writing.begin(record(key=b"x%d" % number, minutes=9, evidence=(stranger,)))
    assert len(listed(ledger)[2]["not_counted"]) == MOST_WITHOUT
    beneath = line_of(ledger, SUZUKI)[1:]
    assert len(beneath) == MOST_NAMED + 1
    assert beneath[-1] == f"↳ and {MOST_WITHOUT - MOST_NAMED} more"
