"""The desk at which people read and change the ledger, and ``kaifu audit``: every method asks for a role, and every look is on record."""

from __future__ import annotations

import csv
import inspect
import io
import json
import os
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from tests.ledger_values import SUZUKI, YAMADA, bodies, journal, receipt, record, store, tables, to

from kaifu.policies.facts import Consent
from kaifu.proxy.access import Access, AccessError, Caller, Role
from kaifu.proxy.cli import cli
from kaifu.proxy.ledger import LedgerError, Query
from kaifu.proxy.ledger_acts import LOOKS, WHAT, WORDS
from kaifu.proxy.ledger_anchor import Anchor
from kaifu.proxy.ledger_audit import ActFilter, acts, acts_page
from kaifu.proxy.ledger_desk import Desk, Filter, Handover
from kaifu.proxy.ledger_erasure import erase, hold, release
from kaifu.proxy.ledger_people import writing
from kaifu.proxy.ledger_rebuild import rebuild
from kaifu.proxy.settings import Anchors

Run = Callable[..., Result]
ALICE = Caller(4711, "alice")


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """Two messages; an answer from another address to the first."""
    path = tmp_path / "ledger.db"
    with store(path) as opened, journal(opened) as adding:
        adding.begin(record(to(), key=b"1"))
        adding.begin(record(to(SUZUKI), key=b"2", message_id="2@example.co.jp"))
    return path


def desk(ledger: Path, role: Role) -> Desk:
    return Desk(ledger, Access(ALICE, role))


def last(ledger: Path) -> dict[str, Any]:
    found = json.loads(bodies(ledger)[-1])
    assert isinstance(found, dict)
    return found


METHODS: dict[str, tuple[Role, Callable[[Desk], object]]] = {
    "figures": (Role.VIEWER, lambda at: at.figures()),
    "verify": (Role.VIEWER, lambda at: at.verify([], 0)),
    "chain": (Role.VIEWER, lambda at: at.chain()),
    "anchor": (Role.VIEWER, lambda at: at.anchor(datetime.now(UTC))),
    "tallies": (Role.VIEWER, lambda at: at.tallies(0, 1)),
    "oldest": (Role.VIEWER, lambda at: at.oldest()),
    "attention": (Role.VIEWER, lambda at: at.attention(0)),
    "rule_hits": (Role.VIEWER, lambda at: at.rule_hits(0)),
    "version": (Role.VIEWER, lambda at: at.version()),
    "rows": (Role.AUDITOR, lambda at: at.rows(Filter())),
    "page": (Role.AUDITOR, lambda at: at.page(Filter())),
    "walk": (Role.AUDITOR, lambda at: at.walk(Filter())),
    "count": (Role.AUDITOR, lambda at: at.count(Filter(), most=9)),
    "count_on": (Role.AUDITOR, lambda at: at.count_on(Filter())),
    "index_subjects": (Role.AUDITOR, lambda at: at.index_subjects()),
    "details": (Role.AUDITOR, lambda at: at.details("1")),
    "seals": (Role.AUDITOR, lambda at: at.seals(1, [1])),
    "bundle": (Role.AUDITOR, lambda at: at.bundle("1", None, Handover("a court", "case 7"), [], UTC)),
    "newest": (Role.AUDITOR, lambda at: at.newest(9)),
    "unmatched": (Role.AUDITOR, lambda at: at.unmatched()),
    "acts": (Role.AUDITOR, lambda at: at.acts(ActFilter())),
    "acts_page": (Role.AUDITOR, lambda at: at.acts_page(ActFilter())),
    "policy_versions": (Role.AUDITOR, lambda at: at.policy_versions()),
    "known": (Role.AUDITOR, lambda at: at.known(Query(consent_of=(YAMADA,)))),
    "recipients_called": (Role.ADMIN, lambda at: at.recipients_called("1", None, "note")),
    "attest": (Role.ADMIN, lambda at: at.attest(1, "phone", 0, "")),
    "revoke": (Role.ADMIN, lambda at: at.revoke(3, (1,))),
    "pair": (Role.ADMIN, lambda at: at.pair(1, "sato@partner.example", "")),
    "unpair": (Role.ADMIN, lambda at: at.unpair(3, (1,))),
    "consent": (Role.ADMIN, lambda at: at.consent(YAMADA, Consent.DENIED)),
    "seal": (Role.ADMIN, lambda at: at.seal(Anchors(), datetime.now(UTC))),
    "entries": (Role.ADMIN, lambda at: at.entries()),
    "rebuild": (Role.ADMIN, lambda at: at.rebuild()),
    "migrate": (Role.ADMIN, lambda at: at.migrate()),
}
UNGUARDED = {"actor", "refuse", "own_files", "close_file", "interrupt"}
LOOKING = (
    "rows",
    "page",
    "walk",
    "count",
    "count_on",
    "details",
    "seals",
    "newest",
    "unmatched",
    "acts",
    "acts_page",
    "policy_versions",
    "known",
)


def test_every_method_of_the_desk_is_tried_here() -> None:
    public = {name for name, _ in inspect.getmembers(Desk) if not name.startswith("_")}
    assert public == set(METHODS) | UNGUARDED


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("role", Role)
def test_every_method_asks_for_its_role_and_a_refusal_is_on_record(ledger: Path, name: str, role: Role) -> None:
    needed, work = METHODS[name]
    before = len(bodies(ledger))
    with desk(ledger, role) as at:
        if role >= needed:
            with suppress(LedgerError):  # a revocation of nothing, say: the role was enough
                work(at)
            assert "refused" not in {json.loads(body)["kind"] for body in bodies(ledger)}
            return
        for _ in range(2):
            with pytest.raises(AccessError, match=f"needs the role {needed.word}, and alice has "):
                work(at)
            assert (last(ledger)["kind"], last(ledger)["needs"]) == ("refused", needed.word)
            assert len(bodies(ledger)) == before + 1


@pytest.mark.parametrize("name", LOOKING)
def test_every_look_is_on_record_before_it_returns_and_once_for_each_desk(ledger: Path, name: str) -> None:
    _, work = METHODS[name]
    before = len(bodies(ledger))
    with desk(ledger, Role.AUDITOR) as at:
        work(at)
        assert last(ledger)["kind"] == "looked"
        work(at)
        assert len(bodies(ledger)) == before + 1
    with desk(ledger, Role.AUDITOR) as at:
        work(at)
    assert len(bodies(ledger)) == before + 2


WRONG: dict[str, Callable[[Desk], object]] = {
    "somebody who answered nothing": lambda at: at.pair(1, "nobody@partner.example", ""),
    "the recipient itself": lambda at: at.pair(1, YAMADA, ""),
    "no pairing": lambda at: at.unpair(1, (1,)),
    "no note": lambda at: at.revoke(1, (1,)),
    "a strange anchor": lambda at: at.bundle("1", YAMADA, Handover("a", "b"), [Anchor(b"", 1, 1, b"", "then")], UTC),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_no_that_tells_who_a_recipient_is_is_a_look(ledger: Path, what: str) -> None:
    with desk(ledger, Role.ADMIN) as at, pytest.raises(LedgerError):
        WRONG[what](at)
    assert [last(ledger)[key] for key in ("kind", "what", "message")] == ["looked", "show", 1]


def test_a_no_is_not_said_when_it_cannot_be_recorded(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kaifu.proxy.ledger_file.BUSY_SECONDS", 0.01)
    with store(ledger) as opened, desk(ledger, Role.ADMIN) as at:
        opened.db.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match=r"locked.*; nothing is shown") as refused:
            at.pair(1, "nobody@partner.example", "")
        assert YAMADA not in str(refused.value)
        opened.db.execute("ROLLBACK")


def test_paging_is_one_look_and_another_question_another(ledger: Path) -> None:
    before = len(bodies(ledger))
    with desk(ledger, Role.AUDITOR) as at:
        first = at.page(Filter(), limit=1)
        second = at.page(Filter(), limit=1, after=first[0].place)
        assert [row.message for row in (*first, *second)] == [2, 1]
        assert len(bodies(ledger)) == before + 1
        at.page(Filter(to=YAMADA), limit=1)
        at.details("1")
        at.details("2")
    assert len(bodies(ledger)) == before + 4


@pytest.mark.parametrize("name", LOOKING)
def test_nothing_is_shown_when_the_look_cannot_be_recorded(
    ledger: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger can be read, and not be written, as on a full disk."""
    monkeypatch.setattr("kaifu.proxy.ledger_file.BUSY_SECONDS", 0.01)
    with store(ledger) as opened:
        opened.db.execute("BEGIN IMMEDIATE")
        with desk(ledger, Role.AUDITOR) as at, pytest.raises(LedgerError, match=r"locked.*; nothing is shown"):
            METHODS[name][1](at)
        opened.db.execute("ROLLBACK")


def test_who_looked_at_a_message_is_no_part_of_what_is_told_about_it(ledger: Path) -> None:
    with desk(ledger, Role.ADMIN) as at:
        (first,) = at.details("1")
    with desk(ledger, Role.ADMIN) as at:
        (again,) = at.details("1")
    assert [entry.number for entry in first.entries] == [entry.number for entry in again.entries]


@pytest.fixture
def busy(ledger: Path) -> Path:
    """A ledger in which somebody has done everything that can be done."""
    with store(ledger) as opened, journal(opened) as adding:
        adding.policy("d1", "observe", "version: 1\n", 1)
        adding.begin(record(key=b"3", evidence=(receipt(1, value="displayed"),)))
    with desk(ledger, Role.ADMIN) as at:
        for name in LOOKING:
            METHODS[name][1](at)
        list(at.rows(Filter(subject=("=1+1\x1b[2J",)), what="export"))
        note = at.attest(1, "phone", 0, "=cmd\x1b[31m")
        at.revoke(note, (1,))
        at.consent(YAMADA, Consent.DENIED, "by letter")
    with desk(ledger, Role.NOBODY) as at, pytest.raises(AccessError):
        at.figures()
    with writing(ledger) as adding:
        held = hold(adding, [2], actor="bob", reason="a lawsuit")
        release(adding, held, actor="bob")
        adding.act("anchored", {"batch": 1, "to": ["file"]}, {"actor": "bob"})
        adding.act("handed-out", {"recipients": [1], "sha256": "0"}, {"actor": "bob", "to": "X", "purpose": "Y"}, 1)
        erase(adding, [note], ground="request", actor="carol", cells=["actor"])
    return ledger


@pytest.fixture
def run(busy: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A command over that ledger."""

    def command(*words: str) -> Result:
        return CliRunner().invoke(cli, [*words, "--ledger", f"sqlite:///{busy}"], catch_exceptions=False)

    return command


def objects(run: Run, *words: str) -> list[dict[str, Any]]:
    result = run("audit", "list", "--json", *words)
    assert (result.exit_code, result.stderr) == (0, "")
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_everything_that_people_did_is_listed_newest_first_with_who_did_it(run: Run) -> None:
    found = objects(run)
    assert found[0]["what"] == "audit"
    entries = [one["entry"] for one in found]
    assert entries == sorted(entries, reverse=True)
    assert {one["what"] for one in found} == set(WHAT) - {"pair"}
    told = {one["what"]: one for one in found}
    assert list(found[0]) == ["entry", "at", "what", "actor", "message", "details"]
    assert told["note"]["actor"] is None, "erased"
    assert {one["actor"] for one in found} == {"alice", "bob", "carol", None, found[0]["actor"]}
    assert told["show"]["message"] == 1
    assert told["refused"]["details"] == {"what": "ledger stats", "needs": "viewer"}
    assert told["policy"]["details"] == {"digest": "d1", "mode": "observe", "text": "version: 1\n"}
    assert told["bundle"]["details"]["purpose"] == "Y"


FILTERS = [
    (("--what", "note,revoke"), {"note", "revoke"}),
    (("--what", "note", "--what", "policy"), {"note", "policy"}),
    (("--actor", "bob"), {"hold", "release", "anchor", "bundle"}),
    (("--actor", "bob", "--what", "hold"), {"hold"}),
    (("--message", "1"), {"show", "note", "revoke", "bundle"}),
    (("--until", "2020-01-01"), {"policy"}),
    (("--since", "2999-01-01"), set()),
]


@pytest.mark.parametrize(("words", "wanted"), FILTERS, ids=str)
def test_filters_hold_together(run: Run, words: tuple[str, ...], wanted: set[str]) -> None:
    assert {one["what"] for one in objects(run, *words)} == wanted


def test_what_is_no_word_of_the_audit_s_is_refused(run: Run) -> None:
    result = run("audit", "list", "--what", "peeked")
    assert (result.exit_code, result.stdout) == (2, "")
    assert '"peeked" is none of list, show' in result.stderr


def test_people_read_it_safely_and_programs_get_whole_columns(run: Run) -> None:
    text = run("audit", "list").stdout
    assert "note =cmd\\x1b[31m" in text
    assert "subject =1+1\\x1b[2J" in text
    assert "\x1b" not in text
    assert "version: 1" not in text, "the text of a policy is for programs"
    assert "confirmed at 1970-01-01 " in text
    assert "  ledger stats; needs the role viewer" in text
    result = run("audit", "export")
    rows = list(csv.DictReader(io.StringIO(result.stdout_bytes.decode(), newline="")))
    assert [int(row["entry"]) for row in rows] == sorted(int(row["entry"]) for row in rows)
    assert json.loads(next(row["details"] for row in rows if row["what"] == "note"))["note"] == "=cmd\x1b[31m"


def test_a_file_of_the_audit_is_whole_and_its_owner_s_alone(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "audit.json"
    before = os.umask(0)
    try:
        result = run("audit", "export", "--json", "-o", str(target))
    finally:
        os.umask(before)
    number = len(target.read_text().splitlines())
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", f"{number} acts written to {target}.\n")
    assert target.stat().st_mode & 0o777 == 0o600
    assert run("audit", "list", "--json", "--csv").exit_code == 2


def test_nobody_reads_along_in_a_file_that_he_made_beforehand(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "audit.json"
    his = [tmp_path / "audit.json.part", tmp_path / f".audit.json.{os.getpid()}.part"]
    for path, status in zip(his, (0, 2), strict=True):
        path.touch(mode=0o666)
        with path.open() as opened:
            assert run("audit", "export", "--json", "-o", str(target)).exit_code == status
            assert opened.read() == ""
    assert target.stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_not_finished_does_not_stay(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(_: object, __: object, stream: TextIO) -> int:
        stream.write("half")
        raise LedgerError("the ledger went away")

    monkeypatch.setattr("kaifu.proxy.cli_audit.csv_objects", half)
    (tmp_path / "out").mkdir()
    assert run("audit", "export", "-o", str(tmp_path / "out/audit.csv")).exit_code == 2
    assert os.listdir(tmp_path / "out") == []


def test_what_is_derived_of_acts_is_the_same_after_a_rebuild(busy: Path) -> None:
    before = tables(busy)
    assert before["acts"]
    assert before["policies"]
    with store(busy) as opened:
        rebuild(opened.db)
    assert tables(busy) == before


@given(st.integers(1, 30), st.booleans(), st.sets(st.sampled_from(["a", "b"])), st.sampled_from([None, "x"]))
def test_pages_of_any_size_give_every_act_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, size: int, newest_first: bool, what: set[str], actor: str | None
) -> None:
    path = tmp_path_factory.getbasetemp() / "acts.db"
    fresh = not path.exists()
    with store(path) as opened:
        if fresh:
            rows = [(n, (n * 7) % 5, "ab"[n % 2], "xyz"[n % 3], None) for n in range(1, 26)]
            opened.db.executemany("INSERT INTO acts VALUES (?,?,?,?,?)", rows)
        wanted = ActFilter(what=tuple(sorted(what)), actor=actor)
        every = list(acts(opened.db, wanted, newest_first=newest_first, at_once=size))
        whole = acts_page(opened.db, wanted, limit=1000, newest_first=newest_first)
    assert every == whole
    assert [act.place for act in every] == sorted({act.place for act in every}, reverse=newest_first)
    assert all((not what or act.what in what) and actor in (None, act.actor) for act in every)
    assert len(every) == sum((not what or "ab"[n % 2] in what) and actor in (None, "xyz"[n % 3]) for n in range(1, 26))


def test_the_words_are_those_of_the_entries() -> None:
    assert set(LOOKS) < set(WHAT)
    assert not set(LOOKS) & set(WORDS.values())
