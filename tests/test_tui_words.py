"""The catalogues and the code say the same: every sentence is translated, every translation is said, and values stand in both."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

import pytest
from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po

from kaifu.tui.words import LANGUAGES, catalogue, language_of_terminal, say, say_many, speak

TUI = Path(__file__).parent.parent / "tui"
SAID = {"say": 1, "say_many": 2, "later": 1}
"""Functions of :mod:`kaifu.tui.words`, and how many sentences they are given first."""


def sentences() -> Iterator[tuple[str, str]]:
    """Each sentence that the code marks, and where."""
    for path in sorted(TUI.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in SAID:
                for argument in node.args[: SAID[node.func.id]]:
                    for text in literals(argument):
                        yield text, f"{path.name}:{node.lineno}"


def literals(argument: ast.expr) -> Iterator[str]:
    """A literal, or those among which a condition chooses; others were marked by ``later``."""
    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
        if argument.value:
            yield argument.value
    elif isinstance(argument, ast.IfExp):
        yield from literals(argument.body)
        yield from literals(argument.orelse)


def po(language: str) -> Catalog:
    with (TUI / "locale" / f"{language}.po").open("rb") as stream:
        return read_po(stream, abort_invalid=True)


def values(sentence: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(sentence) if name is not None}


OTHERS = [language for language in LANGUAGES if language != "en"]


@pytest.mark.parametrize("language", OTHERS)
def test_every_sentence_is_translated_and_every_translation_said(language: str) -> None:
    said = dict(sentences())
    translated = catalogue(language)
    missing = {text: place for text, place in said.items() if text not in translated}
    assert missing == {}
    assert sorted(translated.keys() - said.keys()) == []


@pytest.mark.parametrize("language", OTHERS)
def test_a_translation_has_the_values_of_its_sentence_and_no_other(language: str) -> None:
    for sentence, translation in catalogue(language).items():
        assert values(sentence) == values(translation), sentence


@pytest.mark.parametrize("language", OTHERS)
def test_no_translation_is_a_guess_empty_or_there_twice(language: str) -> None:
    assert [one.id for one in po(language) if one.id and (one.fuzzy or not one.string)] == []
    assert not po(language).obsolete
    ids = re.findall(r'^msgid (".*"(?:\n".*")*)$', (TUI / "locale" / f"{language}.po").read_text(), re.MULTILINE)
    assert len(ids) == len(set(ids))


def test_japanese_never_says_unread_for_no_answer() -> None:
    assert "未読" not in "".join(catalogue("ja").values())
    for sentence, translation in catalogue("ja").items():
        if "no answer" in sentence.lower():
            assert re.search("回答(なし|が|は)", translation), sentence


def test_sentences_are_no_fragments_put_together_in_markup() -> None:
    assert [text for text, _ in sentences() if "[/" in text or "[bold" in text] == []


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({"LANG": "ja_JP.UTF-8"}, "ja"),
        ({"LANG": "ja_JP.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LANG": "de_DE.UTF-8", "LC_MESSAGES": "ja_JP"}, "ja"),
        ({"LANG": "fr_FR.UTF-8"}, "en"),
        ({"LANG": "japanese"}, "ja"),
        ({}, "en"),
    ],
)
def test_the_language_is_that_of_the_locale_where_we_speak_it(
    environment: dict[str, str], language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert language_of_terminal() == language


def test_values_are_never_taken_for_sentences() -> None:
    speak("ja")
    try:
        assert say("! {why}", why="Quit {n}") == "! エラー: Quit {n}"
        assert say_many("{n} rule", "{n} rules", 1200) == "ルール 1,200 件"
    finally:
        speak("en")
    assert say_many("{n} rule", "{n} rules", 1) == "1 rule"
