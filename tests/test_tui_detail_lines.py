"""What the screen of one message tells, without the screen: paragraphs that fit, nothing that steers a terminal, the facts of ``receipts show``."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.text import Text
from tests.ledger_values import NOON, SUZUKI, YAMADA, journal, receipt, record, store, to
from tests.test_ledger_rebuild import histories, write
from tests.tui_records import HOSTILE, HOSTILE_TEXT, SECRETARY, erased_ledger, full_ledger, hostile_ledger, steering

from kaifu.policies.facts import AskedBy, Direction
from kaifu.proxy.display import visible
from kaifu.proxy.ledger import EvidenceKind, Grade, Outcome, RequestState, Verdict
from kaifu.proxy.ledger_acts import WHAT
from kaifu.proxy.ledger_chain import seals
from kaifu.proxy.ledger_detail import Detail, detail
from kaifu.proxy.ledger_entries import microseconds
from kaifu.proxy.ledger_erasure import GROUNDS
from kaifu.proxy.ledger_file import Store
from kaifu.proxy.ledger_people import CONFIRMED_BY
from kaifu.proxy.ledger_places import SENDERS
from kaifu.proxy.ledger_read import Row
from kaifu.proxy.ledger_states import MARKS, Handling, State, Transport, mark
from kaifu.tui import audit_words, detail_words, integrity_words, statewords
from kaifu.tui.detail_acts import answering, jumps, revocable
from kaifu.tui.detail_lines import MOST_EVENTS, Shown, facts, told
from kaifu.tui.detail_proof import ENTRIES, entries_of, told_proof
from kaifu.tui.detail_report import MOST_LINES, MOST_OCTETS, reports_of, told_report
from kaifu.tui.detail_words import edited, reasoned
from kaifu.tui.lines import NARROWEST, Told, laid_out, shortened, wrapped
from kaifu.tui.words import LANGUAGES, speak

HOW = Shown(UTC, "unicode", pairs=True)
texts = (
    st.text()
    | st.sampled_from(HOSTILE)
    | st.lists(st.sampled_from(("契約", "word", " ", "\x1b", "👩‍⚖️", "e\u0301", "x" * 50))).map("".join)
)


@pytest.fixture(autouse=True)
def _english() -> Iterator[None]:
    speak("en")
    yield
    speak("en")


def plain(lines: list[Text]) -> str:
    return "\n".join(line.plain for line in lines)


def read(path: Path) -> dict[int, Detail]:
    opened = Store(path, write=False)
    try:
        numbers = [number for (number,) in opened.db.execute("SELECT id FROM messages ORDER BY id")]
        return {number: found for number in numbers if (found := detail(opened.db, number)) is not None}
    finally:
        opened.close()


def shown(path: Path, message: int = 1, place: int = 0, how: Shown = HOW) -> str:
    """All that is told, blanks as one."""
    found = read(path)[message]
    return " ".join(plain(laid_out(told(facts(found, found.recipients[place]), how), 300)).split())


# Paragraphs.


@given(texts, st.integers(1, 100))
def test_wrapped_lines_fit_and_lose_nothing_but_spaces(text: str, width: int) -> None:
    lines = wrapped(text, width)
    assert steering(lines) == []
    assert "".join(lines).replace(" ", "") == visible(text).replace(" ", "")
    assert all(cell_len(line) <= max(width, 2) for line in lines)


def test_lines_break_at_spaces_where_they_can() -> None:
    assert wrapped("one two three", 8) == ["one two", "three"]
    assert wrapped("一二三四五", 4) == ["一二", "三四", "五"]
    assert wrapped("  kept", 20) == ["  kept"]
    assert wrapped("回答が1,413件あります", 9) == ["回答が", "1,413件あ", "ります"]
    assert wrapped("読まれた、とは限りません。", 8) == ["読まれ", "た、とは", "限りませ", "ん。"]
    assert wrapped("これは「契約」です", 8) == ["これは", "「契約」", "です"]
    assert wrapped("", 5) == [""]


@given(st.lists(st.builds(Told, texts, texts, st.just(""), st.integers(0, 30))), st.integers(1, 140))
def test_no_paragraph_is_wider_than_it_may_be(paragraphs: list[Told], width: int) -> None:
    lines = laid_out(paragraphs, width)
    assert all(line.cell_len <= max(width, NARROWEST) for line in lines)
    assert steering(line.plain for line in lines) == []
    assert len(lines) >= len(paragraphs)


def test_what_is_cut_says_how_much_is_left_out() -> None:
    assert shortened("x" * 1300, 100) == "x" * 100 + " [+1,200]"
    assert shortened("short", 100) == "short"


# A message, whatever happened to it.


@settings(max_examples=settings().max_examples * 30 // 100)
@given(histories, st.integers(20, 140), st.sampled_from(LANGUAGES))
def test_any_message_of_any_history_is_told_within_any_width(
    history: list[tuple[Any, ...]], width: int, language: str
) -> None:
    speak(language)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "ledger.db"
        with store(path) as opened:
            write(opened, history)
        for found in read(path).values():
            for row in found.recipients:
                about = facts(found, row)
                lines = laid_out(told(about, HOW), width)
                assert steering(line.plain for line in lines) == []
                assert all(line.cell_len <= width for line in lines)
                assert set(entries_of(about)) <= {entry.number for entry in (*found.entries, *found.pairs)}
                list(revocable(about))
                list(jumps(row, UTC))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("text", [*HOSTILE, HOSTILE_TEXT], ids=range(len(HOSTILE) + 1))
def test_a_hostile_text_in_every_field_is_told_as_text(tmp_path: Path, text: str, language: str) -> None:
    speak(language)
    details = read(hostile_ledger(tmp_path / "ledger.db", text))
    for found in details.values():
        for width in (20, 78, 200):
            lines = laid_out(told(facts(found, found.recipients[0]), HOW), width)
            assert steering(line.plain for line in lines) == []
            assert all(line.cell_len <= width for line in lines)
    whole = plain(laid_out(told(facts(details[1], details[1].recipients[0]), HOW), 100_000))
    assert visible(text).strip() in whole


def test_everything_that_receipts_show_tells_is_told(tmp_path: Path) -> None:
    text = shown(full_ledger(tmp_path / "ledger.db"))
    for words in (
        "State ✓✓ displayed (authenticated)",
        "Request added; asked by the policy",
        "Sent on accepted by the next hop; outbound",
        "Delivery delivered (2026-11-20 12:30)",
        "Answer displayed (authenticated), 2026-11-20 12:09",
        "Rule partners",
        "Why Rule partners asks.",
        "Written basis contract 4.2",
        "Changed added Disposition-Notification-To: <sato@example.co.jp>",
        "12:00:00 recorded, queue id q1, 4XyZ",
        "accepted by the next hop: 451 4.3.0 later",
        "12:05:00 tried again, queue id q2",
        "12:09:00 receipt: displayed from yamada@partner.example",
        "authenticated",
        "it names our message",
        "program: mail.partner.example; Mailer",
        "brought by message 2; tied by Original-Message-ID; the report is kept (v)",
        "12:30:00 delivery report: delivered from yamada@partner.example",
        "Subject 契約書のご確認",
        "Message-ID <1@example.co.jp>",
    ):
        assert words in text


def test_an_answer_from_another_address_says_what_to_do_to_those_who_may_do_it(tmp_path: Path) -> None:
    path = full_ledger(tmp_path / "ledger.db")
    found = read(path)[1]
    row = found.recipients[1]
    admin, auditor = (shown(path, place=1, how=HOW._replace(pairs=may)) for may in (True, False))
    for text in (admin, auditor):
        assert f"receipt: displayed from {SECRETARY}" in text
        assert "does not count: from another address" in text
        assert "Would have been Rule partners would strip the request." in text
        assert "DSN: the next hop lacks it" in text
        assert "No answer does not mean that it was not read." in text
        assert "unread" not in text
    assert "pair the two (a)" in admin
    assert "pair the two" not in auditor
    assert answering(facts(found, row)) == [SECRETARY]


def test_an_answer_of_which_nobody_knows_for_whom_can_be_paired_with_the_recipient_that_is_shown(
    tmp_path: Path,
) -> None:
    path = tmp_path / "ledger.db"
    with store(path) as opened, journal(opened) as adding:
        adding.begin(record(to(), to(SUZUKI), key=b"1", message_id="1@a"))
        details = {"original_message_id": "1@a"}
        found = receipt(None, by=SECRETARY, verdict=Verdict.OTHER_ADDRESS, message_id="r", details=details)
        adding.begin(record(key=b"2", minutes=1, evidence=(found,)))
    for place in (0, 1):
        admin, auditor = (shown(path, place=place, how=HOW._replace(pairs=may)) for may in (True, False))
        assert "Cites this message, but confirms nothing" in admin
        assert ("pair the two (a)" in admin, "pair the two" in auditor) == (True, False)


def test_notes_and_pairings_are_told_with_who_took_them_back(tmp_path: Path) -> None:
    path = full_ledger(tmp_path / "ledger.db")
    with store(path) as opened, journal(opened) as adding:
        note = adding.attest(2, "phone", microseconds(NOON), "root", "he called")
        pairing = adding.pair(2, SECRETARY, "root", "his secretary")
    found = read(path)[1]
    assert [value for value, _ in revocable(facts(found, found.recipients[1]))] == [f"note {note}", f"pair {pairing}"]
    assert answering(facts(found, found.recipients[1])) == []
    text = shown(path, place=1)
    assert "State ✓✓ displayed (claimed)" in text
    assert f"Answered {SECRETARY}: displayed (claimed)" in text
    assert f"paired by entry {pairing}" in text
    with store(path) as opened, journal(opened) as adding:
        adding.revoke(note, [2], "alice")
        adding.unpair(pairing, [2], "alice")
    text = shown(path, place=1)
    for words in (
        "noted: confirmed on the phone at 2026-11-20 12:00, says root",
        f"entry {note}; a note of a person, no receipt; taken back by entry",
        f"entry {note} is taken back, says alice",
        f"paired: {SECRETARY} answers for {SUZUKI}, says root",
        f"entry {pairing} is taken back, says alice",
        "State ✓ no answer",
    ):
        assert words in text
    found = read(path)[1]
    assert not list(revocable(facts(found, found.recipients[1])))


def test_what_was_erased_is_said_to_be(tmp_path: Path) -> None:
    text = shown(erased_ledger(tmp_path / "ledger.db"))
    assert text.count("(erased)") >= 5
    assert YAMADA not in text


def test_of_a_list_it_is_told_how_many_answered_and_that_none_confirms_for_all(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with store(path) as opened, journal(opened) as adding:
        begun = adding.begin(record(to(), key=b"1"))
        adding.finish(begun, [(YAMADA, Outcome.ACCEPTED)], "250 ok", microseconds(NOON))
        adding.begin(record(key=b"2", minutes=1, evidence=(receipt(1, "expanded", kind=EvidenceKind.DSN),)))
        adding.begin(record(key=b"3", minutes=2, evidence=(receipt(1), receipt(1, "deleted", by=SUZUKI, alias=True))))
    text = shown(path)
    assert "State ✓ 2 answered (claimed)" in text
    assert "✓✓" not in text
    assert "no answer confirms for all" in text
    assert "Answered yamada@partner.example: displayed (claimed)" in text
    assert " Answer " not in text


def test_a_flood_of_answers_is_told_up_to_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with store(path) as opened, journal(opened) as adding:
        adding.begin(record(to(), key=b"1"))
        flood = tuple(receipt(1, by=f"{n}@x.example", verdict=Verdict.OTHER_ADDRESS) for n in range(MOST_EVENTS + 5))
        adding.begin(record(key=b"2", minutes=1, evidence=flood))
    assert "and 6 more; kaifu receipts show has all." in shown(path)


# Words.


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (
            detail_words.KINDS,
            [*(kind for kind in EvidenceKind if kind is not EvidenceKind.ATTESTED), "mail", "mdn", "dsn"],
        ),
        (detail_words.VERDICTS, Verdict),
        (detail_words.DIRECTIONS, Direction),
        (detail_words.REQUESTS, RequestState),
        (detail_words.ASKED_BY, AskedBy),
        (detail_words.OUTCOMES, Outcome),
        (detail_words.TRANSPORTS, [*Transport, "failed"]),
        (detail_words.HANDLINGS, Handling),
        (detail_words.CONFIRMED_BY, CONFIRMED_BY),
        (detail_words.MODES, ["enforce", "observe"]),
        (detail_words.PLACES, SENDERS),
        (audit_words.WHAT, WHAT),
        (integrity_words.GROUNDS, GROUNDS),
        (dict.fromkeys(statewords.GRADES), [*Grade, "mixed"]),
        (
            dict.fromkeys(statewords.STATES),
            {mark(state, request)[1] for state in State for request in RequestState},
        ),
    ],
)
def test_every_word_of_the_ledger_has_one_for_people(table: dict[str, str], words: Any) -> None:
    assert {str(word) for word in words} <= set(table)


def test_kinds_of_entries_that_a_proof_names_have_words(tmp_path: Path) -> None:
    path = full_ledger(tmp_path / "ledger.db")
    with store(path) as opened, journal(opened) as adding:
        note = adding.attest(2, "phone", microseconds(NOON), "root", "")
        adding.revoke(note, [2], "root")
        adding.pair(2, SECRETARY, "root", "")
        adding.act("handed-out", {"recipients": [2], "sha256": "0" * 64}, {"to": "a court"}, 1)
    with closing(Store(path, write=False)) as opened:
        found = read(path)[1]
        kinds = {one.kind for one in seals(opened.db, entries_of(facts(found, found.recipients[1]))).entries}
    assert kinds == set(ENTRIES)


@pytest.mark.parametrize("marks", MARKS)
@pytest.mark.parametrize("language", LANGUAGES)
def test_marks_are_those_of_the_look_and_ascii_is_ascii(tmp_path: Path, marks: Any, language: str) -> None:
    speak(language)
    found = read(full_ledger(tmp_path / "ledger.db"))[1]
    assert statewords.marked(found.recipients[0], marks)[0] == MARKS[marks][2]
    lines = plain(laid_out(told(facts(found, found.recipients[0]), Shown(UTC, marks)), 78))
    ours = lines.replace("契約書のご確認", "")
    assert marks == "unicode" or language == "ja" or ours.isascii()


# Raw reports.


@given(st.binary() | texts.map(lambda text: text.encode("utf-8", "surrogatepass")), st.integers(20, 100))
def test_any_octets_are_shown_line_by_line(octets: bytes, width: int) -> None:
    lines = laid_out(told_report(octets), width)
    assert steering(line.plain for line in lines) == []
    assert all(line.cell_len <= width for line in lines)
    given_text = visible(octets.decode("utf-8", "backslashreplace").replace("\r\n", "\n").replace("\n", ""))
    assert (
        sorted("".join(line.plain for line in lines).replace(" ", ""))
        == sorted(given_text.replace(" ", "").replace("\\t", ""))
        or "\\t" in given_text
    )


def test_fields_stand_in_columns_and_what_cannot_be_read_is_escaped() -> None:
    octets = b"Disposition: manual-action/MDN-sent-manually;\r\n displayed\r\n\r\nX: \x1b[2J\xff\r\nnot a field"
    assert [line.plain.rstrip() for line in laid_out(told_report(octets), 70)] == [
        "Disposition:  manual-action/MDN-sent-manually;",
        "               displayed",
        "",
        "X:            \\x1b[2J\\xff",
        "not a field",
    ]


@pytest.mark.parametrize("octets", [b"x" * (MOST_OCTETS + 1), b"a: b\n" * (MOST_LINES + 2)])
def test_of_a_large_report_the_beginning_is_shown_and_said_to_be_no_more(octets: bytes) -> None:
    *_, last = told_report(octets)
    assert "only its beginning" in last.text


def test_a_recipient_s_reports_come_first_and_none_of_others_are_shown(tmp_path: Path) -> None:
    found = read(full_ledger(tmp_path / "ledger.db"))
    first, second = ([one.by for one in reports_of(found[1], row.recipient)] for row in found[1].recipients)
    assert first == [YAMADA]
    assert second == [SECRETARY]
    assert [one.by for one in reports_of(found[2], 3)] == [YAMADA, SECRETARY]


# Proof.


def proof(path: Path, row: Row, found: Detail) -> str:
    with closing(Store(path, write=False)) as opened:
        entries = entries_of(facts(found, row))
        return plain(laid_out(told_proof(seals(opened.db, entries), len(entries), UTC), 100))


def test_a_proof_names_the_entries_their_batch_and_which_anchor_covers_them(tmp_path: Path) -> None:
    path = full_ledger(tmp_path / "ledger.db")
    with store(path) as opened:
        with journal(opened) as adding:
            adding.act("anchored", {"batch": 1, "to": ["file", "mail"]}, {"actor": "root"})
        with journal(opened) as adding:
            adding.attest(1, "phone", microseconds(NOON), "root", "")
    found = read(path)[1]
    text = proof(path, found.recipients[0], found)
    assert "Intact: each entry is what was sealed, up to the newest head." in text
    assert "message and decision, 2026-11-20 12:00:00, batch 1" in text
    assert "covered by the anchor at: file, mail" in text
    assert text.count("not covered by any anchor yet") == 1
    assert "batch 1, up to entry" in text


def test_a_proof_of_what_was_changed_says_so(tmp_path: Path) -> None:
    path = full_ledger(tmp_path / "ledger.db")
    found = read(path)[1]
    with store(path) as opened:
        opened.db.execute("UPDATE cells SET value = replace(value, 'asks', 'does not ask') WHERE name = 'to.1'")
        opened.db.commit()
    text = proof(path, found.recipients[0], found)
    assert "Not intact" in text
    assert "the cell to.1 of entry 1 was changed" in text


@pytest.mark.parametrize(
    ("recorded", "japanese"),
    [
        ("removed Return-Receipt-To #2", "Return-Receipt-To #2 を削除"),
        ("added Message-ID: <{a}@b.example>", "Message-ID を追加: <{a}@b.example>"),
        ("changed Message-ID to <a@b.example>", "Message-ID を変更: <a@b.example>"),
        ("NOTIFY=SUCCESS,FAILURE", "NOTIFY=SUCCESS,FAILURE"),
        ("added nothing that is known", "added nothing that is known"),
        ("", ""),
    ],
)
def test_changes_are_told_with_words_around_the_fields_in_the_language_of_the_screens(
    recorded: str, japanese: str
) -> None:
    assert edited(recorded) == recorded
    speak("ja")
    assert edited(recorded) == japanese


@pytest.mark.parametrize(
    ("recorded", "japanese"),
    [
        ("In-Reply-To names our message; {a}; b", "In-Reply-To が当方のメッセージを示しています; {a}; b"),
        ("the report is too large to read", "the report is too large to read"),
    ],
)
def test_what_names_our_message_is_told_in_the_language_of_the_screens(recorded: str, japanese: str) -> None:
    assert reasoned(recorded) == recorded
    speak("ja")
    assert reasoned(recorded) == japanese
