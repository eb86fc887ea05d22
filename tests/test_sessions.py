"""Every transcript of ``sessions/``: what a client says, what it hears, and which octets the next hop got."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.session_engine import Play
from tests.session_relay import make_certificate
from tests.session_transcript import octets, read_transcript

TRANSCRIPTS = sorted(Path(__file__).with_name("sessions").glob("*.smtp"))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.mark.parametrize("file", TRANSCRIPTS, ids=lambda file: file.stem)
def test_a_transcript_goes_as_written(file: Path, tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    Play(read_transcript(file), tmp_path, lambda: certificate).run()


def test_every_transcript_says_in_a_sentence_of_its_own_what_holds() -> None:
    titles = [read_transcript(file).title for file in TRANSCRIPTS]
    assert len(set(titles)) == len(titles)
    assert [title for title in titles if not title.endswith(".") or len(title.split()) < 4] == []


def test_octets_are_written_with_escapes_and_repetitions() -> None:
    assert octets(r'a\r\n\0\xff\\ {3 * "é\n"}{0 * "x"}{') == b"a\r\n\0\xff\\ " + "é\n".encode() * 3 + b"{"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("C: EHLO x\n", "t.smtp: a transcript has a title"),
        ("# No conversation.\n", "t.smtp: a transcript has a title"),
        ("# A typing error.\nsetings: {}\n---\n", "t.smtp: unknown setings"),
        ("# Somebody else.\n---\nC: EHLO x\nQ: who\n", "t.smtp:4: nobody says 'Q: who'"),
    ],
)
def test_a_transcript_that_cannot_be_read_says_where(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "t.smtp").write_text(text)
    with pytest.raises(ValueError, match=problem):
        read_transcript(tmp_path / "t.smtp")
