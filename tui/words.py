"""What the screens say, in the language of who looks: English sentences in the code, other languages in ``locale/*.po``.

:func:`say` gives a sentence in the language that was chosen by :func:`speak`; one process speaks one language. A sentence that the
catalogue lacks is said in English, so nothing is ever missing on a screen (a test holds the catalogues against the code). Sentences
are literals where they are said, or marked by :func:`later` where they stand in a table. Values are filled in after translation, and
are never taken for a sentence: what came from mail is passed as a value.

Decisions are told by the same sentence everywhere (log, ledger, command line, screens), so those are not translated.
"""

from __future__ import annotations

import locale
import os
from collections.abc import Mapping
from importlib.resources import files

LANGUAGES = ("en", "ja")

_spoken: Mapping[str, str] = {}


def speak(language: str) -> None:
    """Say everything from now on in ``en`` or ``ja``."""
    global _spoken
    _spoken = {} if language == "en" else catalogue(language)


def translates() -> bool:
    """Is another language than English spoken?"""
    return bool(_spoken)


def catalogue(language: str) -> dict[str, str]:
    """English sentence to translated sentence, as ``locale/LANGUAGE.po`` has it."""
    from babel.messages.pofile import read_po

    with files(__package__).joinpath("locale", f"{language}.po").open("rb") as stream:
        return {str(one.id): str(one.string) for one in read_po(stream) if one.id and one.string}


def language_of_terminal() -> str:
    """The language of the locale that the environment names, if we speak it, else English (POSIX: LC_ALL, LC_MESSAGES, LANG)."""
    named = next((value for name in ("LC_ALL", "LC_MESSAGES", "LANG") if (value := os.environ.get(name))), "")
    spoken = locale.normalize(named)[:2]
    return spoken if spoken in LANGUAGES else "en"


def later(sentence: str) -> str:
    """The sentence itself: marks one that :func:`say` is given from a table."""
    return sentence


def say(sentence: str, **values: object) -> str:
    """A sentence in the language that was chosen, with its ``{values}``."""
    said = _spoken.get(sentence, sentence)
    return said.format(**values) if values else said


def say_many(one: str, many: str, n: int, **values: object) -> str:
    """``one`` when ``n`` is 1, else ``many``; ``{n}`` in it is the number, with separators."""
    return say(one if n == 1 else many, n=f"{n:,}", **values)
