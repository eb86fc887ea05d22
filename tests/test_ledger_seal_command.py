"""``kaifu ledger verify`` and ``seal``: what they say, with which exit status, and where anchors go."""

from __future__ import annotations

import email
import json
import os
import pty
import re
import socketserver
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from tests import tampering
from tests.ledger_values import journal, record, store, to

from kaifu.proxy.access import Caller
from kaifu.proxy.cli import cli
from kaifu.proxy.ledger_anchor import Anchor, anchor_of, anchors_in
from kaifu.proxy.ledger_file import prepare

WITHOUT = "Without an anchor this shows that everything in the file agrees"


class Site:
    """Settings and a ledger with everything in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "ledger.db"
        tampering.build(self.path)
        self.configure("")

    def configure(self, more: str) -> None:
        text = f"realm: example.co.jp\npolicy: policy.yaml\nledger: sqlite:///{self.path}\n{more}"
        (self.folder / "kaifu.yaml").write_text(text)

    def run(self, *words: str) -> Result:
        config = ("--config", str(self.folder / "kaifu.yaml"))
        return CliRunner().invoke(cli, ["ledger", *words, *config], catch_exceptions=False)

    def sql(self, statement: str) -> None:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as db:
            db.execute(statement)

    def grow(self) -> None:
        """One more message."""
        with store(self.path) as opened, journal(opened) as writing:
            writing.begin(record(to(), key=os.urandom(8), at=datetime.now(UTC)))

    def anchored(self) -> list[Any]:
        with closing(sqlite3.connect(self.path)) as db:
            query = "SELECT body FROM entries WHERE json_extract(body, '$.kind') = 'anchored' ORDER BY id"
            return [json.loads(body)["to"] for (body,) in db.execute(query)][1:]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_an_untouched_ledger_is_intact_and_the_erasures_are_named(site: Site) -> None:
    done = site.run("verify")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert [line.partition(" of ")[0] for line in lines if "erased cells" in line] == ["Entry 33", "Entry 35"]
    assert lines[-3] == "Intact."
    assert lines[-2].startswith(WITHOUT)
    assert lines[-1].startswith("Not covered: the tables counts, served, unmatched, traces")


def test_the_first_entry_that_was_touched_is_named(site: Site) -> None:
    site.sql("UPDATE cells SET value = '\"x\"' WHERE entry = 17")
    site.sql("DELETE FROM cells WHERE entry = 9")
    done = site.run("verify")
    assert done.exit_code == 1
    assert "NOT INTACT. First: the cell ids of entry 9 was blanked" in done.stdout
    assert "entry 17 was changed." in done.stdout
    assert "Entries 1 to 8 agree with everything that comes before them." in done.stdout
    told = json.loads(site.run("verify", "--json").stdout)
    assert told["intact"] is False
    assert told["first"]["entry"] == 9
    assert (told["first"]["what"], told["problems"] > 2) == ("blanked", True)


def test_no_entry_is_called_good_that_there_never_was(site: Site) -> None:
    last = anchor_of(site.run("seal", "--print").stdout.strip()).last
    site.sql("INSERT INTO acts SELECT 999999, at, what, actor, NULL FROM acts LIMIT 1")
    done = site.run("verify")
    assert "NOT INTACT. First: the row 999999 of the derived table acts should not be there." in done.stdout
    assert f"Entries 1 to {last} agree with everything that comes before them." in done.stdout


def test_a_state_that_was_changed_is_told_by_the_number_of_its_message(site: Site) -> None:
    site.sql("UPDATE recipients SET state = 'replied' WHERE message = 3")
    assert re.search(
        r"First: the row \d+ of the derived table recipients \(message 3, entry \d+\) has another state than",
        site.run("verify").stdout,
    )


def test_where_the_tables_were_tampered_with_no_count_of_entries_is_given(site: Site) -> None:
    site.sql("CREATE TRIGGER tr AFTER INSERT ON entries BEGIN DELETE FROM entries; END")
    lines = site.run("verify").stdout.splitlines()
    assert lines[0] == "No entry was looked at."
    assert lines[1].startswith("NOT INTACT. First: the trigger 'tr' of the database is not as this version makes it.")


def test_nothing_personal_is_said_of_what_was_changed(site: Site) -> None:
    for column in ("address", "address_key", "state"):
        site.sql(f"UPDATE recipients SET {column} = 'mallory@partner.example'")
    site.sql("UPDATE consent SET address = 'mallory@partner.example', value = 'denied'")
    site.sql("UPDATE messages SET subject = 'confidential', sender = 'sato@x'")
    site.sql("UPDATE holds SET released = 1")
    for words in (["verify"], ["verify", "--json"]):
        said = site.run(*words).stdout
        assert not [word for word in ("@", "yamada", "suzuki", "confidential") if word in said]
        assert "has another address and address_key and state than the entries give" in said


def test_with_an_anchor_it_says_since_when_nothing_was_changed(site: Site) -> None:
    line = site.run("seal", "--print").stdout.strip()
    at, last = anchor_of(line).at, anchor_of(line).last
    site.grow()
    done = site.run("verify", "--anchor", line)
    assert done.exit_code == 0
    assert f"Since {at} nothing up to entry {last} (batch 12) was changed" in done.stdout
    assert f"Of entry {last + 1} this shows that it agrees with the others." in done.stdout
    assert WITHOUT not in done.stdout
    told = json.loads(site.run("verify", "--json", "--anchor", line).stdout)
    assert told["anchors"] == [{"batch": 12, "entry": last, "at": at, "holds": True}]


def test_a_cut_end_is_found_with_a_file_of_anchors(site: Site) -> None:
    lines = [site.run("seal", "--print").stdout]
    site.grow()
    lines.append(site.run("seal", "--print").stdout)
    file = site.folder / "anchors"
    file.write_text("# kept elsewhere\n\n" + "".join(lines))
    assert site.run("verify", "--anchor", str(file)).exit_code == 0
    last = anchor_of(lines[1]).last
    with closing(sqlite3.connect(site.path, isolation_level=None)) as db:
        for sql in (f"DELETE FROM entries WHERE id = {last}", f"DELETE FROM cells WHERE entry = {last}"):
            db.execute(sql)
        db.execute("DELETE FROM batches WHERE id = 13")
        tampering.reseal(db)
    assert site.run("verify").exit_code == 0
    done = site.run("verify", "--anchor", str(file))
    assert done.exit_code == 1
    assert f"First: the end was cut off: at {anchor_of(lines[1]).at} the ledger had {last} entries" in done.stdout


@pytest.mark.parametrize(
    ("anchor", "said"),
    [
        ("kaifu-anchor 1 nonsense", "--anchor: this is no anchor; one looks like kaifu-anchor 1 LEDGER"),
        (f"kaifu-anchor 2 {'0' * 32} 1 1 {'0' * 64} 2026-11-21T00:00:00Z", "of a newer form"),
        (f"kaifu-anchor 1 {'0' * 32} 5 1 {'0' * 64} 2026-11-21T00:00:00Z", "contradicts itself"),
        ("missing", "missing cannot be read: No such file or directory"),
        (".", ". cannot be read: Is a directory"),
        ("empty", "empty: there is no anchor in it"),
        ("broken", "broken: line 3: this is no anchor"),
    ],
)
def test_what_is_no_anchor_is_bad_usage(site: Site, anchor: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(site.folder)
    Path("empty").write_text("# nothing\n")
    Path("broken").write_bytes(b"# one\n\n\xff\n")
    done = site.run("verify", "--anchor", anchor)
    assert done.exit_code == 2
    assert said in done.stderr
    assert done.stdout == ""


@given(st.text() | st.text("kaifu-anchor 1 0Zf:.T"))
def test_an_anchor_is_read_or_refused_in_words(text: str) -> None:
    try:
        found = anchors_in(text)
    except ValueError as error:
        found, said = [], str(error)
        assert "anchor" in said
    assert [anchor_of(str(anchor)) for anchor in found] == found


@given(
    st.binary(min_size=16, max_size=16),
    st.integers(1, (1 << 62) - 1),
    st.integers(0, 1 << 62),
    st.binary(min_size=32, max_size=32),
)
def test_an_anchor_is_the_same_after_it_was_written_down(ledger: bytes, batch: int, more: int, head: bytes) -> None:
    anchor = Anchor(ledger, batch, batch + more, head, "2026-11-21T09:30:00Z")
    assert anchor_of(f"  {anchor}\r\n") == anchor


def test_a_damaged_or_missing_file_is_said_in_a_sentence(site: Site) -> None:
    octets = bytearray(site.path.read_bytes())
    octets[5000:40000] = b"\xff" * 35000
    site.path.write_bytes(octets)
    done = site.run("verify")
    assert done.exit_code == 2
    assert "is damaged" in done.stderr
    site.path.unlink()
    assert "there is no ledger" in site.run("verify").stderr


def test_long_work_shows_how_far_it_is_on_a_terminal_alone(site: Site) -> None:
    command = [sys.executable, "-m", "kaifu.proxy.cli", "ledger", "verify", "--ledger", f"sqlite:///{site.path}"]
    piped = subprocess.run(command, capture_output=True, text=True, check=True)
    assert piped.stderr == ""
    ours, theirs = pty.openpty()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, check=True)
    os.close(theirs)
    assert b"entries" in os.read(ours, 65536)
    os.close(ours)
    assert done.stdout.decode() == piped.stdout


# Sealing.


def test_an_empty_ledger_has_nothing_to_seal(tmp_path: Path) -> None:
    site = Site(tmp_path)
    for file in tmp_path.glob("ledger.db*"):
        if file.is_file():
            file.unlink()
    prepare(site.path, create=True)
    done = site.run("seal", "--print")
    assert (done.exit_code, done.stderr) == (2, "the ledger is empty: there is nothing to seal yet\n")
    assert site.run("verify").exit_code == 0


def test_to_seal_needs_a_place(site: Site) -> None:
    done = site.run("seal")
    assert done.exit_code == 2
    assert "the settings name no place under anchors:" in done.stderr


def test_whether_there_is_a_place_is_told_to_nobody_without_the_role(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kaifu.proxy.ledger_cli.caller", lambda: Caller(4_000_000, "alice"))
    done = site.run("seal")
    assert done.exit_code == 2
    assert done.stderr.startswith("kaifu ledger seal needs the role admin, and alice has no role;")
    with closing(sqlite3.connect(site.path)) as db:
        (body,) = db.execute("SELECT body FROM entries ORDER BY id DESC LIMIT 1").fetchone()
    assert [json.loads(body)[key] for key in ("kind", "what", "needs")] == ["refused", "ledger seal", "admin"]


def test_an_anchor_goes_into_a_file_once_and_it_is_on_record(site: Site) -> None:
    site.configure("anchors: {file: kept}\n")
    for turn in range(3):
        done = site.run("seal")
        assert (done.exit_code, done.stdout != "") == (0, turn == 0)
    assert "every place has the newest anchor" in done.stderr
    site.grow()
    assert site.run("seal").exit_code == 0
    kept = (site.folder / "kept").read_text().splitlines()
    assert [anchor_of(line).batch for line in kept] == [12, 14]
    assert site.anchored() == [["file"], ["file"]]
    assert site.run("verify", "--anchor", str(site.folder / "kept")).exit_code == 0


def test_a_program_gets_the_line_and_one_that_fails_is_quoted(site: Site) -> None:
    site.configure(f'anchors: {{command: [/bin/sh, -c, "cat >{site.folder}/got"]}}\n')
    done = site.run("seal")
    assert done.exit_code == 0
    assert (site.folder / "got").read_text() == done.stdout
    site.grow()
    for command, said in (
        ('[/bin/sh, -c, "echo one >&2; echo no room >&2; exit 3"]', "/bin/sh failed with exit status 3: no room"),
        ("[/nowhere/at/all]", "the program /nowhere/at/all could not be run: No such file or directory"),
    ):
        site.configure(f"anchors: {{command: {command}, file: kept}}\n")
        done = site.run("seal")
        assert (done.exit_code, said in done.stderr) == (1, True)
    # What failed is tried again, what has it is left alone.
    assert len((site.folder / "kept").read_text().splitlines()) == 1
    assert site.anchored() == [["command"], ["file"]]


def test_a_file_that_cannot_be_written_is_a_failure(site: Site) -> None:
    site.configure("anchors: {file: missing/kept}\n")
    done = site.run("seal")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "missing/kept could not be written: No such file or directory" in done.stderr
    assert site.anchored() == []


class Server(socketserver.ThreadingTCPServer):
    """A mail server that answers as it is told to, and keeps what it gets."""

    daemon_threads = True
    rcpt = b"250 ok"
    got: list[bytes]


class Session(socketserver.StreamRequestHandler):
    server: Server

    def handle(self) -> None:
        self.wfile.write(b"220 mail.example\r\n")
        for line in self.rfile:
            self.server.got.append(line)
            verb = line[:4].upper()
            if verb == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                while (part := self.rfile.readline()) not in (b".\r\n", b""):
                    self.server.got.append(part)
            answers = {b"RCPT": self.server.rcpt, b"QUIT": b"221 goodbye"}
            self.wfile.write(answers.get(verb, b"250 ok") + b"\r\n")


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Session) as running:
        running.got = []
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_an_anchor_goes_out_as_a_message_that_nobody_answers(site: Site, server: Server) -> None:
    where = f"server: '127.0.0.1:{server.server_address[1]}'"
    site.configure(
        f"anchors:\n  mail: {{to: [audit@x.example, board@x.example], from: kaifu@example.co.jp, {where}}}\n"
    )
    done = site.run("seal")
    assert (done.exit_code, done.stderr) == (0, "")
    commands = [line.strip() for line in server.got if line[:4] in (b"mail", b"rcpt")]
    assert commands[0].startswith(b"mail FROM:<kaifu@example.co.jp>")
    assert commands[1:] == [b"rcpt TO:<audit@x.example>", b"rcpt TO:<board@x.example>"]
    start = next(at for at, line in enumerate(server.got) if line.startswith(b"Date: "))
    message = email.message_from_bytes(b"".join(server.got[start:]))
    assert (message["Auto-Submitted"], message["To"]) == ("auto-generated", "audit@x.example, board@x.example")
    assert message["Disposition-Notification-To"] is None
    assert str(message.get_payload()).splitlines()[0] == done.stdout.strip()
    assert site.anchored() == [["mail"]]


def test_a_mail_server_that_refuses_or_is_not_there_is_quoted(site: Site, server: Server) -> None:
    server.rcpt = b"550 5.1.1 nobody here"
    port = server.server_address[1]
    site.configure(f"anchors: {{mail: {{to: a@x.example, from: k@x.example, server: '127.0.0.1:{port}'}}}}\n")
    done = site.run("seal")
    assert (done.exit_code, done.stderr) == (1, f"the mail server 127.0.0.1:{port} refused a@x.example\n")
    site.configure("anchors: {mail: {to: a@x.example, from: k@x.example, server: '127.0.0.1:1'}}\n")
    assert "the mail server 127.0.0.1:1 could not be used: " in site.run("seal").stderr
    assert site.anchored() == []
