"""Evidence bundles: what they hold, what they leave out, and that a stranger with nothing but Python finds whatever was altered."""

from __future__ import annotations

import ast
import base64
import hashlib
import io
import json
import os
import pwd
import random
import re
import sqlite3
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import UTC
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from click.testing import Result
from tests.ledger_values import NOON, YAMADA, bodies, journal, receipt, record, store, to
from tests.tampering import build

from kaifu.proxy import bundle_page, bundle_verifier
from kaifu.proxy.access import Access, AccessError, Caller, Role
from kaifu.proxy.bundle_facts import check_one_message, facts_of
from kaifu.proxy.bundle_verifier import PARTS, Anchor, Proof, ProofError, anchor_of, check, written
from kaifu.proxy.ledger import Evidence, EvidenceKind, Grade, LedgerError, Outcome, Verdict
from kaifu.proxy.ledger_bundle import Wanted, bundle, packed
from kaifu.proxy.ledger_desk import Desk, Handover
from kaifu.proxy.ledger_entries import canonical, microseconds
from kaifu.proxy.ledger_erasure import erase
from kaifu.proxy.ledger_people import PeopleJournal, writing

KAIFU = Path(sys.executable).with_name("kaifu")
PROGRAM = Path(bundle_verifier.__file__)
TANAKA = "tanaka@partner.example"
ITO = "ito@partner.example"
HOSTILE = "</td><script src=//evil.example>alert('x')</script>\x1b[2J\u202e&amp;"
Members = dict[str, bytes]
Run = Callable[..., Result]


def fill(path: Path) -> None:
    """A message to Yamada, Tanaka and Ito; receipts from Yamada and Tanaka, an answer from elsewhere, notes; anchors sent; an erasure."""
    everybody = (
        to(reason="Rule partners asks Yamada."),
        to(TANAKA, reason="Tanaka is different."),
        to(ITO, reason="Ito too."),
    )
    with store(path) as opened:
        with journal(opened) as adding:
            adding.policy("f" * 64, "enforce", f"version: 1 # {TANAKA}", microseconds(NOON))
            begun = adding.begin(record(*everybody, key=b"1", policy="f" * 64, subject=HOSTILE, sent_at=NOON))
        with journal(opened) as adding:
            told = [(YAMADA, Outcome.ACCEPTED), (TANAKA, Outcome.DEFERRED), (ITO, Outcome.ACCEPTED)]
            adding.finish(begun, told, "250 said to all three", microseconds(NOON))
            adding.begin(record(key=b"r1", minutes=3, evidence=(receipt(1, details={"reporting_ua": HOSTILE}),)))
            adding.begin(record(key=b"r2", minutes=4, evidence=(tanakas(),)))
        with journal(opened) as adding:
            again = adding.begin(record(everybody[1], key=b"1", minutes=5, policy="f" * 64, queue_id="q2"))
            adding.finish(again, [(TANAKA, Outcome.ACCEPTED)], "250 for Tanaka alone", microseconds(NOON))
        with journal(opened) as adding:
            adding.act("anchored", {"batch": 3, "to": ["file"]}, {"actor": "root"})
            strange = receipt(
                1,
                verdict=Verdict.OTHER_ADDRESS,
                by="hanako@partner.example",
                message_id="r3",
                grade=Grade.AUTHENTICATED,
            )
            adding.begin(record(key=b"r3", minutes=6, evidence=(strange,)))
        with journal(opened) as adding:
            adding.pair(1, "hanako@partner.example", "root", "by phone")
            adding.attest(1, "phone", microseconds(NOON), "root", "she has it")
            adding.attest(1, "letter", microseconds(NOON), "root", f"as {TANAKA} tells")
        with journal(opened) as adding:
            adding.revoke(12, [1], "root")
        with journal(opened) as adding:
            adding.act("anchored", {"batch": 6, "to": ["file", "mail"]}, {"actor": "root"})
            adding.begin(record(to(), key=b"other", message_id="other@example.co.jp"))
            adding.act("anchored", {"batch": 6, "to": ["command"]}, {"actor": "root"})


def tanakas() -> Any:
    raw = f"Final-Recipient: rfc822; {TANAKA}\r\nX: secret of tanaka\r\n".encode()
    return receipt(2, "deleted", about=TANAKA, by=TANAKA, message_id="r2@partner.example", raw=raw)


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    fill(path)
    return path


@pytest.fixture
def members(ledger: Path) -> Members:
    """The bundle of Yamada's record."""
    return unpacked(made(ledger))


def made(path: Path, *anchors: Anchor, message: int = 1, recipient: int = 1) -> bytes:
    with store(path) as opened:
        return bundle(opened.db, Wanted(message, (recipient,)), anchors, ZoneInfo("Asia/Tokyo"))


def unpacked(octets: bytes) -> Members:
    with zipfile.ZipFile(io.BytesIO(octets)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def anchor_at(path: Path, batch: int | None = None) -> Anchor:
    """The anchor of a batch, by default the newest, as somebody else kept it."""
    with closing(sqlite3.connect(path)) as db:
        (ledger,) = db.execute("SELECT ledger FROM identity").fetchone()
        query = "SELECT id, last, head FROM batches WHERE id = coalesce(?, (SELECT max(id) FROM batches))"
        number, last, head = db.execute(query, (batch,)).fetchone()
    return Anchor(ledger, number, last, head, "2026-11-21T00:00:00Z")


def alone(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The program that checks, by a bare Python that knows nothing of kaifu, elsewhere than here."""
    program = folder / "alone.py"
    program.write_bytes(PROGRAM.read_bytes())
    command = [sys.executable, "-I", "-S", str(program), *words]
    done = subprocess.run(command, cwd=folder, env={"LC_ALL": "C.UTF-8"}, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    return done


# Through the installed command.


def kaifu(ledger: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    command = [str(KAIFU), *words, "--ledger", f"sqlite:///{ledger}"]
    return subprocess.run(command, capture_output=True, check=False)


HANDED = ("--to", YAMADA, "--recipient", "the court", "--purpose", "case 7")


def test_a_stranger_with_nothing_but_python_and_an_anchor_checks_what_was_handed_out(
    ledger: Path, tmp_path: Path
) -> None:
    anchor = kaifu(ledger, "ledger", "seal", "--print").stdout.decode().strip()
    out = tmp_path / "out.zip"
    done = kaifu(ledger, "receipts", "show", "1", "--bundle", str(out), *HANDED)
    assert (done.returncode, done.stdout) == (0, b"")
    assert out.stat().st_mode & 0o777 == 0o600
    names = list(unpacked(out.read_bytes()))
    told = ["index.html", "record.json", "reports/4.txt", "reports/9.txt"]
    assert names == [*told, "proof.json", "verify.py", *PARTS]
    assert unpacked(out.read_bytes())["verify.py"] == PROGRAM.read_bytes()

    proven = alone(tmp_path, str(out), "--anchor", anchor)
    assert (proven.returncode, proven.stderr) == (0, "")
    for words in (
        "PROVEN against the anchor",
        f"{YAMADA}: receipt: displayed (claimed); 2026-11-20 12:03:00 UTC",
        "hanako@partner.example: receipt: displayed (authenticated)",
        "Several mailboxes stand behind this address",
        "Why: Rule partners asks Yamada.",
        "Policy version: " + "f" * 64 + "; enforce",
        "paired by entry 10",
        "attested: phone",
        "revoked by entry 13",
        hashlib.sha256(out.read_bytes()).hexdigest(),
    ):
        assert words in proven.stdout
    assert "unread" not in proven.stdout
    assert not set(proven.stdout) & {chr(code) for code in range(32) if code != 10}
    japanese = alone(tmp_path, str(out), "--anchor", anchor, "--lang", "ja")
    assert (japanese.returncode, "証明できました" in japanese.stdout) == (0, True)

    with zipfile.ZipFile(out) as archive:
        archive.extractall(tmp_path / "folder")
    (tmp_path / "anchors").write_text(f"# kept by the court\n\n{anchor_at(ledger, 2)}\n{anchor}\n")
    for bundled in (str(out), str(tmp_path / "folder")):
        assert alone(tmp_path, bundled, "--anchor", str(tmp_path / "anchors")).returncode == 0
        without = alone(tmp_path, bundled)
        assert (without.returncode, "Without an anchor" in without.stdout) == (3, True)
    own = subprocess.run(
        [sys.executable, "-I", "verify.py", "."], cwd=tmp_path / "folder", capture_output=True, check=False
    )
    assert own.returncode == 3


def test_that_it_was_handed_out_to_whom_and_why_is_on_record(run: Run, ledger: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.zip"
    assert run("receipts", "show", "1@example.co.jp", "--bundle", str(out), *HANDED).exit_code == 0
    body = json.loads(bodies(ledger)[-1])
    assert (body["kind"], body["message"], body["recipients"]) == ("handed-out", 1, [1])
    assert body["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    assert sorted(body["cells"]) == ["actor", "purpose", "to"]
    line = run("audit", "list", "--what", "bundle").stdout
    assert all(words in line for words in ("message 1", "to the court", "purpose case 7", body["sha256"]))
    assert run("ledger", "verify").exit_code == 0
    assert run("ledger", "rebuild").exit_code == 0


def test_the_same_ledger_gives_the_same_octets_and_standard_output_gets_them_too(ledger: Path, tmp_path: Path) -> None:
    expected = made(ledger)
    assert made(ledger) == expected
    (tmp_path / "kaifu.yaml").write_text("")
    done = kaifu(ledger, "receipts", "show", "1", "--bundle", "-", *HANDED)
    assert done.returncode == 0, done.stderr
    mine, utc = unpacked(expected), unpacked(done.stdout)
    assert {name for name in mine if mine[name] != utc[name]} == {"index.html", "record.json"}, "only the zone differs"
    assert json.loads(mine["record.json"])["facts"] == json.loads(utc["record.json"])["facts"]
    assert "2026-11-20 21:03:00 +09:00 (2026-11-20 12:03:00 UTC)" in mine["index.html"].decode()


def test_no_file_is_overwritten_and_none_appears_without_its_entry(run: Run, ledger: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "there").write_bytes(b"mine")
    (folder / "link").symlink_to(folder / "nowhere")
    before = bodies(ledger)
    for name in ("there", "link"):
        result = run("receipts", "show", "1", "--bundle", str(folder / name), *HANDED)
        assert (result.exit_code, "is there already" in result.stderr) == (2, True)
    assert run("receipts", "show", "1", "--bundle", str(folder / "no/where"), *HANDED).exit_code == 2
    assert bodies(ledger) == before
    with closing(sqlite3.connect(ledger)) as db:
        db.execute("CREATE TRIGGER full BEFORE INSERT ON entries BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    result = run("receipts", "show", "1", "--bundle", str(folder / "new.zip"), *HANDED)
    assert (result.exit_code, "nothing is handed out" in result.stderr) == (2, True)
    assert kaifu(ledger, "receipts", "show", "1", "--bundle", "-", *HANDED).stdout == b""
    assert sorted(os.listdir(folder)) == ["link", "there"]
    assert (folder / "there").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--bundle", "x.zip", "--to", YAMADA, "--purpose", "y"), "--bundle needs --recipient"),
        (("--bundle", "x.zip", "--to", YAMADA, "--recipient", "y"), "and --purpose"),
        (("--bundle", "x.zip", "--to", YAMADA, "--recipient", " ", "--purpose", "y"), "--bundle needs --recipient"),
        (("--bundle", "x.zip", "--json", *HANDED), "not both"),
        (("--to", YAMADA), "go with --bundle"),
        (("--anchor", "x"), "go with --bundle"),
        (("--bundle", "x.zip", *HANDED[2:]), "say which with --to"),
        (("--bundle", "x.zip", "--to", "x@y.example", *HANDED[2:]), "say which with --to"),
        (("--bundle", "x.zip", *HANDED, "--anchor", "kaifu-anchor 1"), "this is no anchor"),
        (("--bundle", "x.zip", *HANDED, "--anchor", "/nowhere"), "cannot be read"),
    ],
)
def test_bad_usage_is_refused_in_words(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("receipts", "show", "1", *words)
    assert (result.exit_code, said in result.stderr) == (2, True), result.stderr
    assert not Path("x.zip").exists()


def desk_of(ledger: Path, role: Role) -> Desk:
    user = pwd.getpwnam("nobody")
    return Desk(ledger, Access(Caller(user.pw_uid, user.pw_name), role))


def test_it_takes_an_auditor_whose_file_it_is(ledger: Path) -> None:
    handed = Handover("the court", "case 7")
    with desk_of(ledger, Role.VIEWER) as desk, pytest.raises(AccessError, match="needs the role auditor"):
        desk.bundle("1", YAMADA, handed, (), UTC)
    assert json.loads(bodies(ledger)[-1])["kind"] == "refused"
    with desk_of(ledger, Role.AUDITOR) as desk:
        assert desk.bundle("1", YAMADA, handed, (), UTC)[:2] == b"PK"
        with pytest.raises(AccessError, match="on a file of nobody's choice"):
            desk.own_files("--bundle FILE", "write --bundle - > FILE")


# What is in it.


SECRETS = (
    TANAKA,
    ITO,
    "Tanaka is different.",
    "Ito too.",
    "secret of tanaka",
    "said to all three",
    "250 for Tanaka alone",
    "version: 1 #",
)


def all_octets(members: Members) -> bytes:
    """Everything in a bundle, and what is in it in Base64."""
    found = b"\n".join(octets for name, octets in members.items() if not name.endswith(".py"))
    return found + b"".join(base64.b64decode(text) for text in re.findall(rb'"octets": "([^"]*)"', found))


def test_nothing_of_other_people_is_in_it(ledger: Path, members: Members) -> None:
    kept = "\n".join(iterdump(ledger)).encode()
    octets = all_octets(members)
    for secret in SECRETS:
        assert secret.encode() in kept or secret.encode().hex().upper().encode() in kept
        assert secret.casefold().encode() not in octets.lower()
    assert b"Final-Recipient: rfc822; yamada@partner.example" in octets
    assert b"said by" not in octets
    theirs = unpacked(made(ledger, recipient=2))
    assert TANAKA.encode() in all_octets(theirs)
    assert b"250 for Tanaka alone" in all_octets(theirs)
    assert YAMADA.encode() not in all_octets(theirs)


def iterdump(path: Path) -> Iterator[str]:
    with closing(sqlite3.connect(path)) as db:
        for (value,) in db.execute("SELECT value FROM cells"):
            yield value.decode() if isinstance(value, bytes) else value


def test_nobody_can_try_on_a_bundle_who_else_got_the_message(tmp_path: Path) -> None:
    """The key of an attempt is a digest of header block and recipients, which whoever got the message could compute for any guess."""
    path, key = tmp_path / "keyed.db", hashlib.sha256(b"header block, Yamada, Tanaka").digest()
    with store(path) as opened, journal(opened) as adding:
        adding.begin(record(to(), to(TANAKA), key=key))
    with store(path) as opened, journal(opened) as adding:
        assert adding.begin(record(to(), to(TANAKA), key=key)).repeated
    assert key.hex().encode() not in all_octets(unpacked(made(path)))


def test_an_address_within_a_longer_one_is_not_taken_for_it(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with store(path) as opened, journal(opened) as adding:
        adding.begin(record(to("xa@b.example"), to("a@b.example"), to("xa@b.example.org"), key=b"1"))
        for number, by in ((1, "xa@b.example"), (2, "a@b.example"), (3, "xa@b.example.org")):
            adding.begin(record(key=b"r%d" % number, evidence=(receipt(1, by=by, about="", message_id=str(number)),)))
    facts = json.loads(unpacked(made(path))["record.json"])["facts"]
    assert [one["by"] for one in facts["recipients"][0]["evidence"]] == ["xa@b.example", None, None]


def test_the_reports_are_there_octet_by_octet(members: Members) -> None:
    assert members["reports/4.txt"] == members["reports/9.txt"] == receipt(1).raw


class Page(HTMLParser):
    """Which tags and attributes a page has, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags |= {tag, *(f"{tag} {name}" for name, _ in attrs)}

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_for_people_in_two_languages_and_hostile_mail_does_nothing_to_it(members: Members) -> None:
    page = Page(members["index.html"].decode())
    assert page.tags == {
        "html", "html lang", "head", "meta", "meta charset", "meta http-equiv", "meta content", "title", "style", "body", "section",
        "section lang", "h1", "h2", "table", "tr", "th", "td", "p",
    }  # fmt: skip
    assert not set(page.text) & {chr(code) for code in (*range(10), *range(11, 32), 0x202E)}
    for words in (
        "</td><script src=//evil.example>alert('x')</script>\\x1b[2J\\x202e&amp;",
        "It never proves that a particular person read it",
        "特定の人が読んだことの証明では",
        "未読を意味しません",
        "受け取った",
        "Rule partners asks Yamada.",
        "left out of this bundle",
    ):
        assert words in page.text
    assert "http" not in re.sub("http-equiv", "", members["index.html"].decode())


def test_of_every_recipient_the_entries_say_what_the_ledger_says(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    build(path)
    with store(path) as opened:
        everybody = opened.db.execute("SELECT message, id FROM recipients ORDER BY id").fetchall()
        seen = 0
        for message, recipient in everybody:
            members = unpacked(bundle(opened.db, Wanted(message, (recipient,)), (), UTC))
            found = check(members, [anchor_at(path)], members["verify.py"])
            assert (found.problems, set(found.needed) - set(found.covered)) == ([], set())
            assert found.record is not None
            (told,) = found.record["facts"]["recipients"]
            columns = "direction, request, asked_by, rule"
            row = opened.db.execute(f"SELECT {columns} FROM recipients WHERE id = ?", (recipient,)).fetchone()
            assert row == tuple(told[name] for name in columns.split(", "))
            seen += len(told["evidence"])
        assert (len(everybody), seen) >= (14, 6)


ADDRESSES = (YAMADA, TANAKA, ITO, "hanako@partner.example", "list@partner.example")
VALUES = {
    EvidenceKind.MDN: ("displayed", "deleted", "denied", "processed"),
    EvidenceKind.DSN: ("delivered", "expanded"),
}


def any_evidence(chance: random.Random, number: int) -> Evidence:
    kind = chance.choice((EvidenceKind.MDN, EvidenceKind.DSN, EvidenceKind.REPLY, EvidenceKind.AUTO_REPLY))
    return receipt(
        chance.choice((1, 2, 3, None)),
        chance.choice(VALUES.get(kind, (kind.value,))),
        kind=kind,
        verdict=chance.choice([*Verdict, Verdict.MATCHED, Verdict.OTHER_ADDRESS, Verdict.OTHER_ADDRESS]),
        grade=chance.choice(list(Grade)),
        alias=chance.random() < 0.2,
        by=chance.choice(ADDRESSES),
        message_id=str(number % 5),
        details={"original_message_id": "1@example.co.jp"},
    )


def say_something(adding: PeopleJournal, chance: random.Random) -> None:
    """A note, a pairing, or what takes one back, if there is any."""
    recipient, entry, action = chance.randint(1, 3), chance.randint(1, 60), chance.randrange(4)
    with suppress(LedgerError):
        if action == 0:
            adding.pair(recipient, chance.choice(ADDRESSES), "root", "")
        elif action == 1:
            adding.unpair(entry, [1, 2, 3], "root")
        elif action == 2:
            adding.attest(recipient, "phone", 5, "root", "")
        else:
            adding.revoke(entry, [1, 2, 3], "root")


def any_history(path: Path, chance: random.Random) -> None:
    """Attempts, outcomes, evidence of every sort, what people said and took back, in any order."""
    with store(path) as opened:
        for number in range(25):
            with journal(opened) as adding:
                if number % 8 == 0:
                    people = [to(address, confirm=chance.choice(list(Grade))) for address in ADDRESSES[:3]]
                    begun = adding.begin(record(*people, key=b"1", minutes=number))
                    told = [(each.address, chance.choice(list(Outcome))) for each in people]
                    adding.finish(begun, told, "250 ok", microseconds(NOON), client_answered=False)
                for which in range(2):
                    key = b"r%d.%d" % (number, which)
                    adding.begin(record(key=key, minutes=number, evidence=(any_evidence(chance, number),)))
                say_something(adding, chance)


@pytest.mark.parametrize("seed", range(12))
def test_whatever_came_back_the_entries_say_of_it_what_the_ledger_says(tmp_path: Path, seed: int) -> None:
    """What counts, whose it is, who decided and how many answered: where they disagree nothing is handed out."""
    path = tmp_path / "ledger.db"
    any_history(path, random.Random(seed))
    for recipient in (1, 2, 3):
        (told,) = json.loads(unpacked(made(path, recipient=recipient))["record.json"])["facts"]["recipients"]
        with closing(sqlite3.connect(path)) as db:
            query = "SELECT expanded OR answering > 1, confirm, attested FROM recipients WHERE id = ?"
            row = db.execute(query, (recipient,)).fetchone()
        notes = [note for note in told["notes"] if note["revoked_by"] is None]
        assert row == (told["list"], told["confirm"] if told["confirm"] != "claimed" else None, len(notes))


def test_a_pairing_that_was_made_elsewhere_is_in_it_when_it_lets_something_count(tmp_path: Path) -> None:
    path, hanako = tmp_path / "ledger.db", "hanako@partner.example"
    with store(path) as opened, journal(opened) as adding:
        for number in (1, 2, 3):
            adding.begin(record(to(), key=b"%d" % number, message_id=f"{number}@a"))
        for number in (1, 3):
            if number == 3:
                adding.pair(2, hanako, "root", "")
            strange = receipt(number, verdict=Verdict.OTHER_ADDRESS, by=hanako, message_id=f"r{number}")
            adding.begin(record(key=b"r%d" % number, evidence=(strange,)))
    for number in (1, 3):
        members = unpacked(made(path, message=number, recipient=number))
        (told,) = json.loads(members["record.json"])["facts"]["recipients"]
        assert [(one["counts"], one["pair"]) for one in told["evidence"]] == [(True, 5)]
        assert [one["other"] for one in told["pairs"]] == [hanako]


# What was erased, and what was altered.


def erased(path: Path, entry: int, *names: str) -> None:
    with writing(path) as adding:
        erase(adding, [entry], ground="request", actor="root", text=f"{TANAKA} asked", cells=names)


def test_what_was_erased_is_said_to_be(ledger: Path, tmp_path: Path) -> None:
    erased(ledger, 2, "subject", "to.1", "to.2")
    erased(ledger, 4, "raw", "report")
    octets = made(ledger)
    members = unpacked(octets)
    facts = json.loads(members["record.json"])["facts"]
    gone = {
        (one["entry"], one["cell"]): (one["erased_by"], one["ground"]) for one in facts["missing"] if one["erased_by"]
    }
    assert gone == {(2, cell): (17, "request") for cell in ("subject", "to.1", "to.2")} | {
        (4, cell): (18, "request") for cell in ("raw", "report")
    }
    assert "reports/4.txt" not in members
    (tmp_path / "out.zip").write_bytes(octets)
    done = alone(tmp_path, "out.zip", "--anchor", str(anchor_at(ledger)))
    assert (done.returncode, "cell subject: erased by entry 17" in done.stdout) == (0, True)
    assert TANAKA.encode() not in all_octets(members)


ALTERATIONS = {
    "a cell": "UPDATE cells SET value = '\"x\"' WHERE name = 'subject'",
    "a cell taken out": "DELETE FROM cells WHERE name = 'report'",
    "a report": "UPDATE cells SET value = x'00' WHERE name = 'raw'",
    "a salt": "UPDATE cells SET salt = zeroblob(16) WHERE name = 'to.1'",
    "a body": "UPDATE entries SET body = replace(body, 'partners', 'Partners') WHERE id = 2",
    "another entry of a batch": "UPDATE entries SET body = body || ' ' WHERE id = 5",
    "no JSON": "UPDATE entries SET body = 'x' WHERE id = 4",
    "an entry taken out": "DELETE FROM entries WHERE id = 4",
    "a root": "UPDATE batches SET root = zeroblob(32) WHERE id = 2",
    "a head": "UPDATE batches SET head = zeroblob(32) WHERE id = 3",
    "the last head": "UPDATE batches SET head = zeroblob(32) WHERE id = (SELECT max(id) FROM batches)",
    "a batch taken out": "DELETE FROM batches WHERE id = 2",
    "the ledger's id": "UPDATE identity SET ledger = zeroblob(16)",
    "what counts": "UPDATE evidence SET counts = 1 - counts WHERE entry = 9",
    "evidence taken out of the tables": "DELETE FROM evidence WHERE entry = 4",
    "who decided": "UPDATE recipients SET entry = 6 WHERE id = 1",
}


@pytest.mark.parametrize("sql", ALTERATIONS.values(), ids=ALTERATIONS)
def test_of_a_ledger_that_was_altered_nothing_is_handed_out(run: Run, ledger: Path, tmp_path: Path, sql: str) -> None:
    with closing(sqlite3.connect(ledger)) as db:
        assert db.execute(sql).rowcount > 0
        db.commit()
    result = run("receipts", "show", "1", "--bundle", str(tmp_path / "out.zip"), *HANDED)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert "kaifu ledger verify" in result.stderr
    assert not list(tmp_path.glob("*out*"))
    assert not any('"kind":"handed-out"' in body for body in bodies(ledger))


# Tampering with a bundle.


def edits(octets: bytes, chance: random.Random, number: int) -> Iterator[bytes]:
    """The octets with something else, more or less in one place."""
    for _ in range(number):
        at, other = chance.randrange(len(octets)), bytes([chance.randrange(256)])
        size = chance.choice((1, 1, 2, 30))
        edited = chance.choice(
            (
                octets[:at] + other + octets[at + 1 :],
                octets[:at] + other + octets[at:],
                octets[:at] + octets[at + size :],
                octets[:at] + octets[at : at + size] + octets[at:],
                octets[:at],
            )
        )
        if edited != octets:
            yield edited


@pytest.mark.parametrize("name", ["index.html", "record.json", "reports/4.txt", "proof.json", "verify.py", *PARTS])
def test_any_octet_that_was_changed_is_found(ledger: Path, members: Members, name: str, long_run: bool) -> None:
    program, chance = members["verify.py"], random.Random(name)
    assert check(members, (), program).problems == []
    for number, edited in enumerate(edits(members[name], chance, 3000 if long_run else 150)):
        anchors = [anchor_at(ledger)] if number % 2 else []
        assert check({**members, name: edited}, anchors, program).problems, edited


def values(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places of all values within a JSON value."""
    yield place
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from values(value[key], (*place, key))


HOSTILES: list[Any] = [
    None,
    [],
    {},
    "",
    "x",
    "00" * 32,
    -1,
    0,
    1,
    10**30,
    1.5,
    True,
    "2026-11-20T12:00:00.000000Z",
    [[]],
    {"x": 1},
    "\x1b[2J",
]


@pytest.mark.parametrize("name", ["record.json", "proof.json"])
def test_any_value_that_was_changed_taken_out_or_swapped_is_found(members: Members, name: str, long_run: bool) -> None:
    chance, before, told = random.Random(name), json.loads(members[name]), check(members).record
    places = [place for place in values(before) if place]
    for _ in range(5000 if long_run else 300):
        changed = json.loads(members[name])
        *way, last = chance.choice(places)
        inner = changed
        for step in way:
            inner = inner[step]
        action = chance.randrange(3)
        if action == 0:
            inner[last] = chance.choice(HOSTILES)
        elif action == 1:
            del inner[last]
        else:
            other = chance.choice(list(inner) if isinstance(inner, dict) else range(len(inner)))
            inner[last], inner[other] = inner[other], inner[last]
        if canonical(changed) != canonical(before):
            found = check({**members, name: written(changed)})
            # To name another of its batches as a place to start from proves nothing else.
            assert found.problems or (way == ["anchors"] and found.record == told), (way, last, inner)


def test_a_lie_told_in_all_files_is_found(ledger: Path, members: Members) -> None:
    lie = json.loads(members["record.json"])
    lie["facts"]["recipients"][0]["evidence"][0]["at"] = "2026-11-20T11:00:00.000000Z"
    lie["offsets"]["2026-11-20T11:00:00.000000Z"] = 540
    forged = {**members, "record.json": written(lie), "index.html": bundle_page.page(lie).encode()}
    (problem,) = check(forged).problems
    assert "record.json does not say what the entries say (facts.recipients[0].evidence[0].at)" in problem


def test_true_entries_of_two_messages_are_not_told_as_one(ledger: Path, members: Members) -> None:
    """Each of them holds; together they would give one message the subject of another."""
    other = unpacked(made(ledger, message=2, recipient=4))
    mixed, second = json.loads(members["proof.json"]), json.loads(other["proof.json"])
    mixed["entries"] = sorted(
        {each["entry"]: each for each in [*second["entries"], *mixed["entries"]]}.values(),
        key=lambda each: int(each["entry"]),
    )
    mixed["batches"] = sorted(
        {each["batch"]: each for each in [*second["batches"], *mixed["batches"]]}.values(),
        key=lambda each: int(each["batch"]),
    )
    mixed["anchors"] = sorted({*mixed["anchors"], *second["anchors"]})
    entries = Proof(written(mixed)).entries
    facts = facts_of(mixed["ledger"], entries, [4])
    offsets = dict.fromkeys(bundle_page.times_of(facts), 0)
    lie = {"version": 1, "recipients": [4], "offsets": offsets, "facts": facts}
    assert facts["message"] == 1
    assert facts["recipients"][0]["decided_by"] == 15
    told = {"record.json": written(lie), "proof.json": written(mixed), "index.html": bundle_page.page(lie).encode()}
    assert check({**members, **told}, [anchor_at(ledger)]).problems == ["the entries are not those of one message"]
    first = Proof(members["proof.json"]).entries
    check_one_message(first)
    with pytest.raises(ProofError, match="not those of one message"):
        check_one_message([*first, ({"kind": "attempt", "message": 2}, {})])


@pytest.mark.parametrize("recipients", [[], [1.0], [True], ["1"], [99], "1"])
def test_a_record_of_nobody_of_whom_the_entries_know_is_false(members: Members, recipients: Any) -> None:
    lie = json.loads(members["record.json"])
    lie["recipients"] = recipients
    entries = Proof(members["proof.json"]).entries
    lie["facts"] = facts_of(lie["facts"]["ledger"], entries, recipients)
    forged = {**members, "record.json": written(lie)}
    assert check(forged).problems == ["record.json names a recipient of whom the entries know nothing"]


def test_an_entry_of_a_later_batch_than_any_anchor_is_told(members: Members) -> None:
    changed = json.loads(members["proof.json"])
    changed["entries"][-1]["batch"] = 8
    (problem,) = check({**members, "proof.json": written(changed)}).problems
    assert problem == "entry 16 is of batch 8, and no anchor is as late as that"


def _missing(given: dict[str, Any]) -> None:
    del given["version"]


def _of_another_kind(given: dict[str, Any]) -> None:
    given["entries"] = 7


def _no_hexadecimal(given: dict[str, Any]) -> None:
    given["head"] = "x"


def _one_field_more(given: dict[str, Any]) -> None:
    given["entries"][0]["more"] = 1


@pytest.mark.parametrize("change", [_missing, _of_another_kind, _no_hexadecimal, _one_field_more])
def test_a_proof_that_is_malformed_is_said_to_be_in_a_sentence(
    members: Members, change: Callable[[dict[str, Any]], None]
) -> None:
    given = json.loads(members["proof.json"])
    change(given)
    malformed = [bundle_verifier.MALFORMED]
    assert check({**members, "proof.json": written(given)}).problems == malformed
    for octets in (b"[" * 200_000, b"\xff", b"{}", b"7", b"{"):
        assert check({**members, "proof.json": octets}).problems == malformed


def test_members_that_are_missing_or_do_not_belong_are_found(members: Members) -> None:
    for name in members:
        rest = {other: octets for other, octets in members.items() if other != name}
        found = check(rest, (), members["verify.py"])
        assert found.problems if name not in PARTS else found.missing == [name]
        assert bundle_verifier.report(found, False)[0] in (1, 3)
    assert check({**members, "reports/5.txt": b"x"}).problems == ["reports/5.txt does not belong into a bundle"]
    swapped = {**members, "reports/4.txt": members["reports/9.txt"] + b"x"}
    assert check(swapped).problems == ["reports/4.txt is not what it should be by the entries"]


def test_a_ledger_made_anew_agrees_with_itself_and_not_with_an_anchor_kept_elsewhere(
    ledger: Path, tmp_path: Path
) -> None:
    kept, forged = anchor_at(ledger), tmp_path / "forged.db"
    with store(forged) as opened:
        opened.db.execute("UPDATE identity SET ledger = ?", (kept.ledger,))
    fill(forged)
    members = unpacked(made(forged))
    assert check(members).problems == []
    (problem,) = check(members, [kept]).problems
    assert "another head" in problem


# Anchors.


def checked(ledger: Path, members: Members, *anchors: Anchor) -> tuple[int, str]:
    """Exit status and text of the program."""
    status, lines = bundle_verifier.report(check(members, anchors), bool(anchors), "en")
    return status, "\n".join(lines)


def test_an_anchor_that_does_not_fit_proves_the_contrary(ledger: Path, members: Members, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    fill(other)
    good = anchor_at(ledger)
    assert checked(ledger, members, good)[0] == 0
    for bad, said in (
        (anchor_at(other), "the anchor is of another ledger"),
        (good._replace(head=bytes(32)), "another head"),
        (good._replace(last=good.last - 1), "another head"),
        (anchor_at(ledger, 3)._replace(head=good.head), "another head"),
    ):
        status, text = checked(ledger, members, bad)
        assert (status, said in text) == (1, True), text
    assert checked(ledger, members, good, good._replace(head=bytes(32)))[0] == 1
    assert checked(ledger, members, anchor_at(other), good)[0] == 0


def test_an_older_anchor_proves_what_is_older(ledger: Path, members: Members) -> None:
    status, text = checked(ledger, members, anchor_at(ledger, 3))
    assert status == 3
    assert "covers these entries: 9, 10, 11, 12, 13." in text
    assert "The anchor of 2026-11-21T00:00:00Z (batch 3) holds." in text
    assert check(members, [anchor_at(ledger, 3)]).covered == [1, 2, 3, 4, 6]


def test_an_anchor_that_was_sent_and_covers_everything_proves_everything(ledger: Path, members: Members) -> None:
    assert json.loads(members["proof.json"])["anchors"] == [3, 6, 7]
    assert checked(ledger, members, anchor_at(ledger, 6))[0] == 0
    for _ in range(20):
        with writing(ledger) as adding:
            adding.act("looked", {"what": "list"}, {"actor": "root"})
    with writing(ledger) as adding:
        adding.act("anchored", {"batch": 27, "to": ["mail"]}, {"actor": "root"})
    later = unpacked(made(ledger))
    assert json.loads(later["proof.json"])["anchors"] == [3, 6, 27, 28], "the earliest for each entry, and the latest"
    for batch in (6, 27):
        assert checked(ledger, later, anchor_at(ledger, batch))[0] == 0


def test_what_is_said_of_anchors_after_the_anchor_is_not_called_proven(ledger: Path) -> None:
    kept = anchor_at(ledger)
    with writing(ledger) as adding:
        adding.act("anchored", {"batch": 7, "to": ["a notary, who read it"]}, {"actor": "root"})
    status, text = checked(ledger, unpacked(made(ledger, kept)), kept)
    assert (status, "a notary, who read it" in text) == (0, True)
    assert "NOT proven by it: 17." in text
    assert "NOT proven" not in checked(ledger, unpacked(made(ledger, kept)), anchor_at(ledger))[1]


def test_a_bundle_leads_down_from_an_anchor_that_was_named(ledger: Path, members: Members, tmp_path: Path) -> None:
    for _ in range(40):
        with writing(ledger) as adding:
            adding.act("looked", {"what": "list"}, {"actor": "root"})
    mine = anchor_at(ledger, 21)
    assert checked(ledger, unpacked(made(ledger)), mine)[0] == 3
    assert checked(ledger, unpacked(made(ledger, mine)), mine)[0] == 0
    assert checked(ledger, members, mine)[0] == 3, "it is newer than the bundle"
    other = tmp_path / "other.db"
    fill(other)
    for bad in (mine._replace(head=bytes(32)), mine._replace(batch=10_000), anchor_at(other)):
        with pytest.raises(LedgerError, match="kaifu ledger verify"):
            made(ledger, bad)


# The program by itself.


SHIPPED = ("bundle_verifier.py", *PARTS)


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_in_a_bundle_needs_nothing_but_the_standard_library_of_an_old_python_and_can_be_read(name: str) -> None:
    text = PROGRAM.with_name(name).read_text()
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text, feature_version=(3, 8))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or "."]
            if isinstance(node, ast.ImportFrom) and node.level:
                assert name in PARTS
                assert f"{node.module}.py" in SHIPPED[: SHIPPED.index(name)]
            else:
                assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names


def test_the_program_knows_what_it_runs() -> None:
    """With ``KAIFU_UPDATE=1`` the SHA-256 of each part is written into the program."""
    text = PROGRAM.read_text()
    for name in PARTS:
        digest = hashlib.sha256(PROGRAM.with_name(name).read_bytes()).hexdigest()
        text = re.sub(f'"{name}": "[0-9a-f]*"', f'"{name}": "{digest}"', text)
    if os.environ.get("KAIFU_UPDATE") == "1":
        PROGRAM.write_text(text)
    assert text == PROGRAM.read_text(), "a part was changed: KAIFU_UPDATE=1 writes down what it is now"


EVIL = b"print('PROVEN against the anchor'); raise SystemExit(0)"


@pytest.mark.parametrize("name", PARTS)
def test_a_part_that_was_changed_is_reported_and_does_not_run(
    ledger: Path, members: Members, tmp_path: Path, name: str
) -> None:
    (tmp_path / "out.zip").write_bytes(packed({**members, name: EVIL}))
    done = alone(tmp_path, "out.zip", "--anchor", str(anchor_at(ledger)))
    assert (done.returncode, "\nPROVEN" in f"\n{done.stdout}") == (1, False)
    assert f"{name} is not the one known here, and was not run" in done.stdout
    assert "The entries of proof.json agree all the same" in done.stdout


@pytest.mark.parametrize("name", PARTS)
def test_without_its_parts_the_program_proves_the_entries_and_says_that_nothing_else_was_compared(
    ledger: Path, members: Members, tmp_path: Path, name: str
) -> None:
    rest = {other: octets for other, octets in members.items() if other != name}
    (tmp_path / "out.zip").write_bytes(packed({**rest, "index.html": b"Everybody has read it."}))
    anchor = str(anchor_at(ledger))
    done = alone(tmp_path, "out.zip", "--anchor", anchor)
    assert (done.returncode, done.stderr) == (4, "")
    assert f"NOT COMPARED, for want of {name}: record.json, index.html and reports/." in done.stdout
    assert "PROVEN against the anchor: the entries [1, 2, 3, 4, 6, 8, 9, 10, 11, 12, 13, 14, 16]." in done.stdout
    assert YAMADA in done.stdout
    assert not set(done.stdout) & {chr(code) for code in range(32) if code != 10}
    older = alone(tmp_path, "out.zip", "--anchor", str(anchor_at(ledger, 3)))
    assert (older.returncode, "NOT PROVEN, for want of an anchor" in older.stdout) == (3, True)
    assert alone(tmp_path, "out.zip").returncode == 3
    changed = json.loads(members["proof.json"])
    changed["entries"][1]["body"] += " "
    (tmp_path / "out.zip").write_bytes(packed({**rest, "proof.json": written(changed)}))
    assert alone(tmp_path, "out.zip", "--anchor", anchor).returncode == 1


@pytest.mark.parametrize("name", ["json.py", "argparse.py", "bundle_extra.py", "locale/__init__.py"])
@pytest.mark.parametrize("isolated", [True, False])
def test_a_file_that_was_added_beside_the_program_is_reported_and_does_not_run(
    members: Members, tmp_path: Path, name: str, isolated: bool
) -> None:
    for member, octets in {**members, name: EVIL}.items():
        (tmp_path / member).parent.mkdir(exist_ok=True)
        (tmp_path / member).write_bytes(octets)
    command = [sys.executable, *(["-I"] if isolated else []), "verify.py", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, f"{name} does not belong into a bundle" in done.stdout) == (1, True), done
    assert "PROVEN against" not in done.stdout


def test_the_parts_run_as_they_are_in_the_bundle_that_is_checked(members: Members) -> None:
    """Neither those beside the program nor those of kaifu: no others need to be there, and none can stand in for them."""
    found = check(members, (), members["verify.py"])
    assert found.page.__name__ == "kaifu_bundle.bundle_page"
    assert found.page is not bundle_page


def test_hostile_input_gets_a_sentence(members: Members, tmp_path: Path) -> None:
    good = packed(members)
    twice = io.BytesIO(good)
    with zipfile.ZipFile(twice, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("record.json", members["record.json"])
    hostile = {
        "empty": b"",
        "noise": os.urandom(1000),
        "cut": good[: len(good) // 2],
        "flipped": good[:5000] + bytes([good[5000] ^ 1]) + good[5001:],
        "twice": twice.getvalue(),
        "nothing": packed({}),
        "deep": packed({**members, "proof.json": b"[" * 200_000}),
        "digits": packed({**members, "record.json": b"9" * 10_000}),
        "latin": packed({**members, "record.json": "é".encode("latin-1")}),
        "names": packed({**members, "../\x1b[2J": b"x"}),
    }
    for name, octets in hostile.items():
        (tmp_path / name).write_bytes(octets)
        done = alone(tmp_path, name)
        assert (done.returncode, done.stderr, "\x1b" in done.stdout) == (1, "", False), name
        assert "NOT PROVEN" in done.stdout
    (tmp_path / "folder").mkdir()
    assert alone(tmp_path, "folder").returncode == 1
    for words in (
        ("missing",),
        (),
        ("empty", "--anchor", "kaifu-anchor 1 x"),
        ("empty", "--anchor", "noise"),
        ("empty", "--lang", "fr"),
    ):
        assert alone(tmp_path, *words).returncode == 2
    assert (
        anchor_of(str(anchor_of(" kaifu-anchor 1 " + "0" * 32 + " 1 2 " + "0" * 64 + " 2026-11-21T00:00:00Z"))).last
        == 2
    )


def test_in_a_directory_nothing_is_waited_for_that_is_no_file(members: Members, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    os.mkfifo(tmp_path / "there/index.html")
    done = alone(tmp_path, "there")
    assert (done.returncode, "index.html is no file" in done.stdout) == (1, True)


def test_a_bundle_that_would_fill_the_memory_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_verifier, "MOST_OCTETS", 100_000)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("record.json", b" " * 50_000_000)
    (tmp_path / "there").mkdir()
    (tmp_path / "there/record.json").write_bytes(b" " * 200_000)
    with pytest.raises(ProofError, match="larger than any"):
        bundle_verifier.load(str(tmp_path / "there"))
    tracemalloc.start()
    try:
        with pytest.raises(bundle_verifier.ProofError, match="larger than any"):
            bundle_verifier.load(str(tmp_path / "bomb.zip"))
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
