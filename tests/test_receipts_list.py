"""``kaifu receipts list`` and ``export``: which rows, in which order, and how they are shown."""

from __future__ import annotations

import csv
import gc
import io
import json
import os
import pty
import re
import sqlite3
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from tests.ledger_values import NOON, SUZUKI, YAMADA, journal, receipt, record, store, to

from kaifu.policies.facts import AskedBy, Direction
from kaifu.proxy.cli import cli
from kaifu.proxy.ledger import EvidenceKind, Outcome, RequestState, Verdict
from kaifu.proxy.ledger_cli import moment
from kaifu.proxy.ledger_entries import microseconds
from kaifu.proxy.ledger_read import Filter, Row, count, page, rows
from kaifu.proxy.ledger_shown import COLUMNS, as_object

EVIL = "=cmd|'/c calc'!A1\x1b[31m[bold]\r\nX: y"


@dataclass(frozen=True)
class Site:
    """Settings and a ledger."""

    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / "ledger.db"

    @property
    def config(self) -> Path:
        return self.folder / "kaifu.yaml"

    def run(self, *words: str) -> Result:
        """A command of kaifu's with these settings."""
        return CliRunner().invoke(cli, [*words, "--config", str(self.config)], catch_exceptions=False)

    def objects(self, *words: str) -> list[dict[str, Any]]:
        """The rows of ``list --json``."""
        result = self.run("receipts", "list", "--json", *words)
        assert (result.exit_code, result.stderr) == (0, "")
        return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Settings in Tokyo, and a ledger with five messages and their answers."""
    made = Site(tmp_path)
    made.config.write_text(
        f"realm: [example.co.jp]\npolicy: policy.yaml\nledger: sqlite:///{made.path}\nzone: Asia/Tokyo\n"
    )
    with store(made.path) as opened, journal(opened) as writing:
        first = writing.begin(
            record(to(), to(SUZUKI, rule=None, request=RequestState.KEPT, asked_by=AskedBy.CLIENT), key=b"1")
        )
        writing.finish(first, [(YAMADA, Outcome.ACCEPTED), (SUZUKI, Outcome.REFUSED)], "250 ok", microseconds(NOON))
        stripped = to(
            "sato@example.co.jp", direction=Direction.INBOUND, request=RequestState.STRIPPED, rule="strangers"
        )
        writing.begin(
            record(stripped, key=b"2", minutes=60, sender=YAMADA, message_id="2@partner.example", subject=EVIL)
        )
        writing.begin(record(to(), key=b"3", minutes=24 * 60, message_id=None, subject=None, sender="", sent_at=NOON))
        answer = record(
            to("sato@example.co.jp", direction=Direction.INBOUND, request=RequestState.NONE, rule=None, withheld=True),
            key=b"4", minutes=30, kind="mdn", message_id="r1@partner.example", sender=YAMADA, evidence=(receipt(1),),
        )  # fmt: skip
        writing.begin(answer)
        writing.begin(
            record(key=b"5", minutes=31, evidence=(receipt(1, "delivered", kind=EvidenceKind.DSN, message_id="d"),))
        )
        writing.begin(record(to("ueda@example.co.jp", direction=Direction.INTERNAL), key=b"6", minutes=48 * 60,
                             message_id="6@example.co.jp"))  # fmt: skip
    return made


def test_json_has_one_object_per_recipient_with_the_keys_that_scripts_rely_on(site: Site) -> None:
    found = site.objects("--oldest-first")
    assert len(found) == 6
    assert found[0] == {
        "id": 1, "recipient": 1, "message_id": "1@example.co.jp", "kind": "mail", "direction": "outbound",
        "from": "sato@example.co.jp", "to": YAMADA, "subject": "契約書のご確認", "sent_at": "2026-11-20T12:00:00Z",
        "recorded_at": "2026-11-20T12:00:00Z", "rule": "partners", "reason": "Rule partners asks.", "would": None,
        "request": "added", "asked_by": "policy", "report_asked_by": "nobody", "state": "displayed",
        "transport": "delivered", "handling": "displayed", "outcome": "accepted", "failed_at": None,
        "delivered_at": "2026-11-20T12:31:00Z", "displayed_at": "2026-11-20T12:30:00Z", "replied_at": None,
        "attested": 0, "confirm": "claimed", "grade": "claimed", "list": False, "answered": 1, "answered_by": [
            {"address": YAMADA, "value": "displayed", "grade": "claimed", "verdict": "matched",
             "at": "2026-11-20T12:30:00Z"},
        ], "not_counted": [], "recipient_unknown": [], "unmatched": 0,
    }  # fmt: skip
    assert (found[1]["state"], found[1]["outcome"], found[1]["rule"]) == ("failed", "refused", None)
    nameless = found[4]
    assert (nameless["message_id"], nameless["subject"], nameless["from"]) == (None, None, None)
    assert (nameless["sent_at"], nameless["recorded_at"]) == ("2026-11-20T12:00:00Z", "2026-11-21T12:00:00Z")


def test_the_columns_of_csv_are_the_keys_of_json(site: Site) -> None:
    assert [tuple(one) for one in site.objects()] == [COLUMNS] * 6


FILTERS = [
    ((), [5, 3, 2, 4, 1, 1]),
    (("--limit", "2"), [5, 3]),
    (("--limit", "0"), [5, 3, 2, 4, 1, 1]),
    (("--state", "waiting"), [5, 3]),
    (("--state", "displayed,failed"), [1, 1]),
    (("--rule", "partners"), [5, 3, 1]),
    (("--direction", "inbound"), [2, 4]),
    (("--direction", "inbound,internal"), [5, 2, 4]),
    (("--kind", "mdn"), [4]),
    (("--outcome", "refused"), [1]),
    (("--outcome", "withheld", "--direction", "inbound"), [4]),
    (("--request", "added,kept"), [5, 3, 1, 1]),
    (("--to", YAMADA), [3, 1]),
    (("--to", "YAMADA@Partner.Example"), [3, 1]),
    (("--to", "@partner.example"), [3, 1]),
    (("--to", "@.partner.example"), [3, 1, 1]),
    (("--to", "@hq.partner.example"), [1]),
    (("--to", "@artner.example"), []),
    (("--to", "suzuki"), [1]),
    (("--from", "sato@example.co.jp"), [5, 1, 1]),
    (("--from", "@partner.example"), [2, 4]),
    (("--from", "yama"), [2, 4]),
    (("--person", YAMADA), [3, 2, 4, 1]),
    (("--person", "@.partner.example", "--kind", "mail"), [3, 2, 1, 1]),
    (("--person", "sato@example.co.jp", "--to", YAMADA), [1]),
    (("--since", "2026-11-21"), [5, 3]),
    (("--until", "2026-11-20"), [2, 4, 1, 1]),
    (("--since", "2026-11-20T22:00"), [5, 3, 2]),
    (("--since", "2026-11-20T13:00Z"), [5, 3, 2]),
    (("--since", "2026-11-20T21:30+09:00", "--until", "2026-11-20T22:00:00+09:00"), [4]),
    (("--message-id", "<2@partner.example>"), [2]),
    (("--message-id", " 2@partner.example "), [2]),
    (("--subject", "契約書"), [5, 4, 1, 1]),
    (("--subject", "CALC"), [2]),
    (("--state", "replied"), []),
    (("--oldest-first", "--limit", "3"), [1, 1, 4]),
]


@pytest.mark.parametrize(("words", "ids"), FILTERS, ids=lambda value: " ".join(map(str, value)))
def test_filters_choose_rows_newest_first(site: Site, words: tuple[str, ...], ids: list[int]) -> None:
    assert [one["id"] for one in site.objects(*words)] == ids


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--since", "yesterday"), '"yesterday" is no time; give a date (2026-11-21)'),
        (("--since", "99999999999d"), "is no time"),
        (("--since", "999999d"), "is no time"),
        (("--state", "opened"), '"opened" is none of replied, displayed, deleted, denied'),
        (("--kind", "mail,news"), '"news" is none of mail, mdn, dsn'),
        (("--json", "--csv"), "not both"),
        (("--limit", "-1"), "Invalid value for '--limit'"),
        (("--colour",), "No such option"),
    ],
)
def test_a_filter_that_makes_no_sense_is_refused(site: Site, words: tuple[str, ...], said: str) -> None:
    result = site.run("receipts", "list", *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


def test_nothing_found_is_no_error(site: Site) -> None:
    result = site.run("receipts", "list", "--state", "replied")
    assert (result.exit_code, result.output) == (0, "Nothing in the ledger fits.\n")
    assert site.objects("--state", "replied") == []


def test_times_are_read_in_the_zone_of_the_settings_and_a_date_ends_with_its_day() -> None:
    tokyo, now = ZoneInfo("Asia/Tokyo"), datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
    assert moment("2026-11-21", tokyo) == microseconds(datetime(2026, 11, 20, 15, 0, tzinfo=UTC))
    assert moment("2026-11-21", tokyo, end=True) == microseconds(datetime(2026, 11, 21, 15, 0, tzinfo=UTC))
    assert moment("2026-11-21T09:00", tokyo, end=True) == microseconds(datetime(2026, 11, 21, 0, 0, tzinfo=UTC))
    assert moment("2026-11-21T09:00:00.5Z", tokyo) == microseconds(datetime(2026, 11, 21, 9, 0, 0, 500000, tzinfo=UTC))
    for text, age in (("30m", timedelta(minutes=30)), ("7d", timedelta(days=7)), ("2w", timedelta(weeks=2))):
        assert moment(text, tokyo, now=now) == microseconds(now - age)


def test_the_table_has_marks_and_words_and_times_of_the_zone(site: Site) -> None:
    lines = site.run("receipts", "list").stdout.splitlines()
    table = {line.split()[0]: line for line in lines if line.strip()[:1].isdigit() and "suzuki" not in line}
    assert "✓✓  displayed (claimed)" in table["1"]
    assert "2026-11-20 21:00" in table["1"]
    assert "–   not asked" in table["2"]
    assert "✓   no answer" in table["3"]
    assert "–   withheld" in table["4"]
    (refused,) = (line for line in lines if "suzuki" in line)
    assert "✗   refused" in refused
    assert "unread" not in "".join(lines)


def test_what_came_from_mail_cannot_steer_the_terminal_or_the_table(site: Site) -> None:
    shown = site.run("receipts", "list", "--kind", "mail").stdout + site.run("receipts", "show", "2").stdout
    assert shown.count("=cmd|'/c calc'!A1\\x1b[31m[bold]\\r\\nX: y") == 2
    assert not set(shown) & {chr(code) for code in range(32) if code != 10}


def test_no_spreadsheet_takes_a_cell_for_a_formula(site: Site) -> None:
    with store(site.path) as opened, journal(opened) as writing:
        for number, evil in enumerate(
            ("+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "=1", "\0=1", 'plain, "quoted"')
        ):
            writing.begin(record(to(), key=b"c%d" % number, subject=evil, minutes=-9))
    result = site.run("receipts", "list", "--csv")
    found = list(csv.DictReader(io.StringIO(result.stdout_bytes.decode("utf-8"), newline="")))
    subjects = [row["subject"] for row in found]
    assert not [subject for subject in subjects if subject[:1] in tuple("=+-@\t\r\n\0")]
    assert "'=1" in subjects
    assert 'plain, "quoted"' in subjects
    assert "'=cmd|'/c calc'!A1\\x1b[31m[bold]\\r\\nX: y" in subjects


def test_export_writes_a_file_that_only_its_owner_reads_and_that_is_whole(site: Site, tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    before = os.umask(0)
    try:
        result = site.run("receipts", "export", "-o", str(target))
    finally:
        os.umask(before)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", f"6 rows written to {target}.\n")
    assert target.stat().st_mode & 0o777 == 0o600
    assert [row["id"] for row in csv.DictReader(target.open(encoding="utf-8"))] == ["1", "1", "4", "2", "3", "5"]
    assert not target.with_name("out.csv.part").exists()
    assert target.read_bytes() == site.run("receipts", "export").stdout_bytes


def test_export_gives_the_objects_of_the_list(site: Site) -> None:
    result = site.run("receipts", "export", "--json", "--state", "waiting")
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert found == site.objects("--state", "waiting")[::-1]


def test_an_export_that_cannot_be_written_says_so(site: Site, tmp_path: Path) -> None:
    result = site.run("receipts", "export", "-o", str(tmp_path / "no" / "out.csv"))
    assert (result.exit_code, result.stderr) == (2, f"{tmp_path}/no/out.csv: No such file or directory\n")


def test_a_reader_who_stops_early_is_no_error_of_ours(site: Site) -> None:
    with store(site.path) as opened, journal(opened) as writing:
        for number in range(2000):
            writing.begin(record(to(), key=b"m%d" % number))
    command = [sys.executable, "-m", "kaifu.proxy.cli", "receipts", "list", "--json", "--config", str(site.config)]
    code = (
        f"import subprocess, sys; p = subprocess.Popen({command!r}, stdout=subprocess.PIPE, stderr=subprocess.PIPE)\n"
    )
    code += "p.stdout.readline(); p.stdout.close(); sys.exit(p.stderr.read().decode())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr.strip() == ""


def test_on_a_terminal_the_newest_fifty_are_shown_within_its_width(site: Site) -> None:
    with store(site.path) as opened, journal(opened) as writing:
        for number in range(60):
            writing.begin(record(to(), key=b"m%d" % number, minutes=9999))
    shown = on_a_terminal(site, "receipts", "list").splitlines()
    assert shown[-1] == "The newest 50; --limit 0 shows all."
    assert len([line for line in shown if "✓" in line]) == 50
    assert max(len(line.encode("euc-jp", "replace")) for line in shown if "✓" in line) <= 80


def test_on_a_terminal_who_answered_instead_is_named_in_full(site: Site) -> None:
    other = "takahashi@group.partner.example"
    with store(site.path) as opened, journal(opened) as writing:
        writing.begin(record(to(), key=b"other", minutes=9999))
        recipient = opened.db.execute("SELECT max(id) FROM recipients").fetchone()[0]
        evidence = (receipt(recipient, message_id="x", by=other, verdict=Verdict.OTHER_ADDRESS),)
        writing.begin(record(key=b"answer", minutes=9999, evidence=evidence))
    shown = re.sub(r"\x1b\[\d*m", "", on_a_terminal(site, "receipts", "list")).splitlines()
    (line,) = [line for line in shown if "↳" in line]
    assert line.split() == ["?", "displayed", "(claimed)", "↳", other]
    assert max(map(len, shown)) <= 80


def on_a_terminal(site: Site, *words: str) -> str:
    """What a command shows on a terminal of 80 columns, without its colours."""
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "kaifu.proxy.cli", *words, "--config", str(site.config)]
    environment = {**os.environ, "COLUMNS": "80", "LINES": "24", "TERM": "xterm", "NO_COLOR": "1", "LC_ALL": "C.UTF-8"}
    running = subprocess.Popen(command, stdout=slave, stderr=slave, stdin=slave, env=environment)
    os.close(slave)
    shown = b""
    try:
        while octets := os.read(master, 65536):
            shown += octets
    except OSError:
        pass  # The other end is closed.
    os.close(master)
    assert running.wait(30) == 0
    return shown.decode().replace("\r\n", "\n")


def test_a_terminal_that_knows_no_check_marks_gets_ascii(site: Site) -> None:
    command = [sys.executable, "-m", "kaifu.proxy.cli", "receipts", "list", "--config", str(site.config)]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, env=environment, timeout=60, check=True)
    text = done.stdout.decode("ascii")
    assert "vv  displayed" in text
    assert "\\u5951\\u7d04\\u66f8" in text


# Reading by keyset.

people = st.sampled_from(("a@x.example", "b@x.example", "c@sub.x.example", "d@y.example"))
letters = st.lists(
    st.tuples(
        st.integers(0, 3), people, people, st.sampled_from(("one", "two", None)), st.sampled_from(RequestState),
        st.sampled_from(("mail", "mdn")), st.sampled_from(Direction),
    ),
    max_size=30,
)  # fmt: skip
wishes = st.builds(
    Filter,
    since=st.none() | st.integers(0, 3),
    until=st.none() | st.integers(0, 4),
    person=st.none() | people | st.sampled_from(("@x.example", "@.x.example", "x.ex")),
    sender=st.none() | people | st.just("@.x.example"),
    to=st.none() | people | st.just("@x.example"),
    states=st.sampled_from(((), ("waiting",), ("waiting", "not-asked"))),
    rule=st.sampled_from((None, None, "one")),
    directions=st.sampled_from(((), ("inbound",), ("inbound", "outbound"))),
    kinds=st.sampled_from(((), ("mail",))),
)


def fits(wanted: Filter, row: Row) -> bool:
    """The meaning of a filter, said once more and slowly."""

    def who(asked: str, address: str | None) -> bool:
        domain = (address or "").partition("@")[2]
        if asked.startswith("@."):
            return domain == asked[2:] or domain.endswith(asked[1:])
        return domain == asked[1:] if asked.startswith("@") else asked in (address or "")

    return (
        (wanted.since is None or row.at >= wanted.since)
        and (wanted.until is None or row.at < wanted.until)
        and (wanted.person is None or who(wanted.person, row.sender) or who(wanted.person, row.address))
        and (wanted.sender is None or who(wanted.sender, row.sender))
        and (wanted.to is None or who(wanted.to, row.address))
        and (not wanted.states or row.state in wanted.states)
        and (wanted.rule is None or row.rule == wanted.rule)
        and (not wanted.directions or row.direction in wanted.directions)
        and (not wanted.kinds or row.kind in wanted.kinds)
    )


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[list[Any]], sqlite3.Connection]]:
    """A ledger that holds what a property wants it to hold."""
    path = tmp_path_factory.mktemp("many") / "ledger.db"
    with store(path) as opened:

        def hold(some: list[Any]) -> sqlite3.Connection:
            for name in ("entries", "cells", "messages", "recipients", "attempts"):
                opened.db.execute(f"DELETE FROM {name}")
            opened.db.execute("UPDATE head SET entry = 0, message = 0, recipient = 0")
            with journal(opened) as writing:
                for at, sender, address, rule, request, kind, direction in some:
                    made = to(address, rule=rule, request=request, direction=direction)
                    writing.begin(record(made, sender=sender, kind=kind, at=datetime.fromtimestamp(at / 1e6, UTC)))
            return opened.db

        yield hold


@given(letters, wishes, st.integers(1, 7), st.booleans())
def test_pages_of_any_size_give_every_row_that_fits_once_and_in_order(
    many: Callable[[list[Any]], sqlite3.Connection], some: list[Any], wanted: Filter, at_once: int, newest: bool
) -> None:
    db = many(some)
    everything = list(rows(db, Filter(), newest_first=newest))
    assert [row.recipient for row in everything] == sorted(
        range(1, len(some) + 1), key=lambda number: (some[number - 1][0], number), reverse=newest
    )
    expected = [row for row in everything if fits(wanted, row)]
    assert list(rows(db, wanted, newest_first=newest, at_once=at_once)) == expected
    if wanted.person is None:
        assert count(db, wanted, most=1000) == len(expected)


@pytest.mark.parametrize(
    "wanted",
    [
        Filter(),
        Filter(since=1, until=9),
        Filter(states=("waiting",)),
        Filter(states=("waiting",), since=1),
        Filter(rule="one"),
        Filter(to="a@x.example"),
        Filter(sender="a@x.example", until=9),
        Filter(person="a@x.example"),
        Filter(states=("waiting", "denied")),
        Filter(grades=("claimed",)),
        Filter(grades=("claimed", "authenticated"), since=1),
        Filter(grades=("attested",)),
        Filter(message=3),
        Filter(message_id="1@a"),
    ],
    ids=str,
)
def test_a_page_is_found_through_an_index_and_needs_no_sorting(
    many: Callable[[list[Any]], sqlite3.Connection], wanted: Filter
) -> None:
    db, plans = many([]), []
    db.set_trace_callback(lambda sql: plans.append(sql) if sql.startswith(("SELECT r.at", "SELECT m.at")) else None)
    page(db, wanted)
    db.set_trace_callback(None)
    steps = [row[3] for sql in plans for row in db.execute(f"EXPLAIN QUERY PLAN {sql}")]
    assert steps
    assert [step for step in steps if step == "SCAN m" or (step.startswith("SCAN r") and "INDEX" not in step)] == []
    assert [
        step
        for step in steps
        if "TEMP B-TREE FOR ORDER" in step and wanted.message is None and wanted.message_id is None
    ] == []


def test_whoever_reads_a_list_holds_up_nobody(many: Callable[[list[Any]], sqlite3.Connection]) -> None:
    db = many([(0, "a@x.example", "b@x.example", None, RequestState.ADDED, "mail", Direction.OUTBOUND)] * 20)
    path = db.execute("PRAGMA database_list").fetchone()[2]
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)) as reader:
        reading = rows(reader, Filter(), at_once=5)
        next(reading)
        busy, _, _ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        assert busy == 0
        db.execute("DELETE FROM recipients WHERE id = 3")
        assert len(list(reading)) == 18


def test_reading_everything_takes_no_more_memory_than_reading_some(
    many: Callable[[list[Any]], sqlite3.Connection],
) -> None:
    one = (0, "a@x.example", "b@x.example", "rule", RequestState.ADDED, "mail", Direction.OUTBOUND)
    db = many([one] * 3000)

    def peak(most: int) -> int:
        gc.collect()
        tracemalloc.start()
        for number, row in enumerate(rows(db, Filter(), at_once=100)):
            as_object(row)
            if number >= most:
                break
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    peak(300)
    assert peak(3000) < 1.5 * peak(300)


def test_every_command_explains_itself() -> None:
    group = cli.get_command(click.Context(cli), "receipts")
    assert isinstance(group, click.Group)
    for command in group.commands.values():
        assert command.help
        assert [p.name for p in command.params if isinstance(p, click.Option) and not p.help] == []
