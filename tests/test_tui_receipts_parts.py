"""The parts of the list of receipts that need no screen: cells of rows, the command that exports, and filters that are saved."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import fields, replace
from datetime import UTC, date, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from tests.ledger_values import NOON, SUZUKI, journal, receipt, record, store, to
from tests.tui_records import HOSTILE_TEXT

from kaifu.proxy.access import Access, Caller, Role
from kaifu.proxy.cli_receipts import _filter, export_command
from kaifu.proxy.ledger import Outcome, RequestState
from kaifu.proxy.ledger_answerers import Answer
from kaifu.proxy.ledger_cli import Chosen
from kaifu.proxy.ledger_desk import Desk, Filter, Row
from kaifu.proxy.ledger_entries import microseconds
from kaifu.proxy.ledger_states import State
from kaifu.tui.receipts_export import command, options
from kaifu.tui.receipts_rows import cells, flag, layout, short_time, titles, told
from kaifu.tui.receipts_saved import MOST, MOST_NAME, SavedError, SavedFilters, folder_of
from kaifu.tui.receipts_status import how_many

TEXTS = st.text(max_size=300) | st.sampled_from(["", "契約書" * 40, HOSTILE_TEXT, "\x1b[31m", "👩‍⚖️e\u0301"])
TOKYO = ZoneInfo("Asia/Tokyo")


@pytest.fixture(scope="module")
def row(tmp_path_factory: pytest.TempPathFactory) -> Row:
    """One that was answered."""
    path = tmp_path_factory.mktemp("rows") / "ledger.db"
    with store(path) as opened, journal(opened) as adding:
        adding.begin(record(to(), key=b"1"))
        adding.begin(record(key=b"2", minutes=1, evidence=(receipt(1),)))
    with Desk(path, Access(Caller(0, "root", unbound=True), Role.ADMIN)) as desk:
        return desk.page(Filter())[0]


@given(width=st.integers(0, 300), marks=st.sampled_from(["unicode", "ascii"]))
def test_columns_fill_a_line_and_never_more(width: int, marks: Any) -> None:
    columns = layout(width)
    if width >= 58:
        assert cell_len(titles(columns, marks)) == width
    assert all(column.width >= 0 for column in columns.columns)


@given(sender=TEXTS | st.none(), address=TEXTS | st.none(), subject=TEXTS | st.none(), rule=TEXTS | st.none(),
       width=st.integers(58, 220), state=st.sampled_from(list(State)), answering=st.integers(0, 3))  # fmt: skip
def test_every_cell_is_as_wide_as_its_column_whatever_the_row_holds(
    row: Row, width: int, state: State, answering: int, sender: str, address: str, subject: str, rule: str
) -> None:
    columns = layout(width)
    changed = replace(
        row,
        state=state.value,
        answering=answering,
        sender=sender,
        address=address,
        subject=subject,
        rule=rule,
        reason=rule,
    )
    found = cells(changed, columns, TOKYO, NOON.date(), "unicode")
    assert [cell_len(cell) for cell in found] == [column.width for column in columns.columns]
    assert cell_len(columns.joined(found)) == width
    assert len(told(changed, TOKYO, "ascii")) == 3


def test_an_answer_of_which_nobody_knows_for_whom_is_a_sign_on_the_row_and_a_word_under_the_cursor(row: Row) -> None:
    stranger = Answer("x@other.example", False, "mdn", "displayed", "claimed", row.at, "other-address", False)
    assert flag(replace(row, answers=())) != "?"
    changed = replace(row, answers=(), recipient_unknown=(stranger,))
    assert flag(changed) == "?"
    assert "an answer of x@other.example does not count, for whom?" in told(changed, TOKYO, "unicode")[0]
    several = replace(changed, recipient_unknown=(stranger,) * 1234)
    assert "1,234 answers do not count, for whom?" in told(several, TOKYO, "unicode")[0]


def test_times_of_this_year_have_an_hour_and_those_of_another_a_year() -> None:
    at = microseconds(NOON)
    assert short_time(at, TOKYO, date(2026, 12, 1)) == "11-20 21:00"
    assert short_time(at, TOKYO, date(2027, 1, 1)) == "2026-11-20"


WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20)
ADDRESSES = st.from_regex(r"[a-z]{1,8}@[a-z]{1,8}\.example|@[a-z]{1,5}\.example|-[a-z]{1,3}", fullmatch=True)
TIMES = st.integers(0, 4_102_444_800_000_000) | st.none()
FILTERS = st.builds(
    Filter,
    since=TIMES,
    until=TIMES,
    person=ADDRESSES | st.none(),
    sender=ADDRESSES | st.none(),
    to=ADDRESSES | st.none(),
    states=st.lists(st.sampled_from(list(map(str, State))), unique=True, max_size=3).map(tuple),
    rule=WORDS | st.none(),
    requests=st.lists(st.sampled_from(list(map(str, RequestState))), unique=True, max_size=2).map(tuple),
    outcomes=st.lists(st.sampled_from(list(map(str, Outcome))), unique=True, max_size=2).map(tuple),
    message_id=st.from_regex(r"[a-z0-9]{1,9}@[a-z]{1,9}", fullmatch=True) | st.none(),
    subject=st.lists(WORDS, max_size=3).map(tuple),
)


@given(FILTERS, st.sampled_from([UTC, TOKYO, timezone(timedelta(hours=-3, minutes=-30))]))
def test_the_command_that_exports_means_the_same_filter(wanted: Filter, zone: Any) -> None:
    words = options(wanted, zone)
    assert words is not None
    context = export_command.make_context("export", words)
    given_options = {
        name: value for name, value in context.params.items() if name not in ("as_json", "as_csv", "output")
    }
    given_options = {name: value for name, value in given_options.items() if name not in ("config", "ledger_url")}
    where = Chosen(Path("/nowhere"), zone, Access(Caller(0, "root"), Role.ADMIN))
    assert _filter(where, given_options) == wanted


def test_every_part_of_a_filter_is_an_option_or_there_is_no_command() -> None:
    for field in fields(Filter):
        value: Any = ("x",) if field.default == () else 7 if field.name in ("since", "until", "message") else "x"
        typed = command(Filter(**{field.name: value}), UTC, [], ["kaifu"])
        assert (typed is None) == (field.name == "message"), field.name


def test_who_borrows_rights_is_told_to_use_sudo_and_everything_is_quoted() -> None:
    wanted = Filter(to=SUZUKI, subject=("a b; rm -rf /",))
    assert command(wanted, UTC, ["--config=/etc/k.yaml"], ["sudo", "-u", "kaifu", "kaifu"]) == (
        "sudo -u kaifu kaifu receipts export --to=suzuki@hq.partner.example"
        " '--subject=a b; rm -rf /' --config=/etc/k.yaml > receipts.csv"
    )


@pytest.fixture
def saved(tmp_path: Path) -> SavedFilters:
    (tmp_path / "ledger.db").touch()
    return SavedFilters(tmp_path / "ledger.db", 1000)


def file_of(saved_in: Path, uid: int = 1000) -> Path:
    return folder_of(saved_in / "ledger.db") / f"{uid}.json"


def test_saved_filters_come_back_in_order_of_their_names(saved: SavedFilters, tmp_path: Path) -> None:
    assert saved.read() == {}
    assert not folder_of(tmp_path / "ledger.db").exists()
    saved.save("月次", "state:waiting")
    saved.save(" a ", "契約")
    saved.save("a", "since:7d")
    assert list(saved.read().items()) == [("a", "since:7d"), ("月次", "state:waiting")]
    saved.remove("a")
    assert saved.read() == {"月次": "state:waiting"}
    assert SavedFilters(tmp_path / "ledger.db", 1001).read() == {}


def test_their_file_and_directory_are_for_the_ledgers_owner_alone(saved: SavedFilters, tmp_path: Path) -> None:
    saved.save("a", "x")
    folder, file = folder_of(tmp_path / "ledger.db"), file_of(tmp_path)
    assert [stat.S_IMODE(os.stat(path).st_mode) for path in (folder, file)] == [0o700, 0o600]
    assert [path.name for path in folder.iterdir()] == ["1000.json"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_root_saves_belongs_to_the_ledgers_owner(saved: SavedFilters, tmp_path: Path) -> None:
    os.chown(tmp_path / "ledger.db", 4321, 4322)
    saved.save("a", "x")
    for path in (folder_of(tmp_path / "ledger.db"), file_of(tmp_path)):
        assert (path.stat().st_uid, path.stat().st_gid) == (4321, 4322)


@pytest.mark.parametrize(
    ("octets", "left"),
    [
        (b"", {}),
        (b"{", {}),
        (b"[]", {}),
        (b"[" * 100_000, {}),
        (b"\xff\xfe", {}),
        (json.dumps({"a": "x", "b": 3, "": "y", "c\x1b": "z", "d": "e" * 5_000, "n" * 99: "x"}).encode(), {"a": "x"}),
        (json.dumps({f"{n:03}": "x" for n in range(500)}).encode(), {f"{n:03}": "x" for n in range(MOST)}),
    ],
)
def test_a_damaged_file_gives_what_can_be_used_and_is_set_aside_when_another_is_saved(
    saved: SavedFilters, tmp_path: Path, octets: bytes, left: dict[str, str]
) -> None:
    saved.save("old", "x")
    file_of(tmp_path).write_bytes(octets)
    assert saved.read() == left
    if len(left) < MOST:
        saved.save("new", "y")
        assert saved.read() == left | {"new": "y"}
        assert file_of(tmp_path).with_name("1000.json.damaged").exists() == (not left)


def test_links_and_other_things_in_place_of_the_file_are_not_followed(saved: SavedFilters, tmp_path: Path) -> None:
    saved.save("a", "x")
    secret = tmp_path / "secret.json"
    secret.write_text('{"stolen": "x"}')
    file_of(tmp_path).unlink()
    file_of(tmp_path).symlink_to(secret)
    with pytest.raises(SavedError):
        saved.read()
    with pytest.raises(SavedError):
        saved.save("b", "y")
    assert secret.read_text() == '{"stolen": "x"}'
    file_of(tmp_path).unlink()
    os.mkfifo(file_of(tmp_path))
    assert saved.read() == {}
    folder = folder_of(tmp_path / "ledger.db")
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SavedError):
        saved.save("b", "y")


@pytest.mark.parametrize("name", ["", "  ", "x" * (MOST_NAME + 1)])
def test_a_name_that_will_not_do_is_a_sentence(saved: SavedFilters, name: str) -> None:
    with pytest.raises(SavedError, match="1 to 60"):
        saved.save(name, "x")


def test_there_is_an_end_to_how_many_are_saved(saved: SavedFilters) -> None:
    for number in range(MOST):
        saved.save(f"{number}", "x")
    with pytest.raises(SavedError, match="100 saved filters"):
        saved.save("more", "x")
    saved.save("0", "another")
    assert saved.read()["0"] == "another"


@pytest.mark.parametrize(
    ("total", "counted", "sentence"),
    [
        (None, 0, ""),
        (None, 99, ""),
        (None, 4_398, "at least 4,300 rows"),
        (None, 19_999, "at least 10,000 rows"),
        (4_398, 4_398, "4,398 rows"),
    ],
)
def test_what_is_counted_so_far_is_told_while_counting_goes_on(total: int | None, counted: int, sentence: str) -> None:
    assert how_many(total, counted) == sentence
