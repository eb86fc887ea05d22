"""Patterns over text: ``/…/`` and ``/…/i`` are RE2, anything else is a glob over the whole value.

Who calls it: conditions on subject, headers and sensitivity; addresses use :func:`glob_expression`. Both kinds run
on RE2, so a pattern takes linear time on whatever mail brings. Text is compared in Unicode form C; globs ignore
case and blanks around the value. Fails: :class:`PatternError` when a pattern is made, never when it is applied.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import re2  # type: ignore[import-untyped]

from kaifu.policies.text import fold, nfc

MAX_PATTERN: Final = 4096

_GLOB_SPECIAL = re.compile(r"[*?]")
# What RE2 leaves out so that every pattern runs in linear time, by the piece of pattern it complains about.
_MISSING: Final = (
    (r"\(\?<?[=!]", "RE2 has no lookahead or lookbehind"),
    (r"\\[1-9]|\(\?P|\\[gk]", "RE2 has no backreferences"),
    (r"\(\?>|[*+?}]\+", "RE2 has no atomic groups or possessive quantifiers"),
    (r"\(\?\(", "RE2 has no conditional groups"),
    (r"\(\?#", "RE2 has no comments in patterns"),
    (r"\\Z", r"RE2 writes \z for the end of the text"),
    (r"\{\d*,?\d*\}\Z", "RE2 repeats at most 1000 times in all, and {m,n} wants m <= n"),
)


class PatternError(ValueError):
    """A pattern cannot be used. ``offset``: the character of the pattern as written where the fault is."""

    def __init__(self, message: str, offset: int = 0) -> None:
        super().__init__(message)
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Pattern:
    """A compiled pattern. ``text`` is what the policy says, ``key`` equal for patterns that mean the same."""

    text: str
    key: str
    matches: Callable[[str], bool]


def pattern(text: str) -> Pattern:
    """The pattern that a policy writes as ``text``. Raises :class:`PatternError`."""
    if len(text) > MAX_PATTERN:
        raise PatternError(f"a pattern has at most {MAX_PATTERN} characters")
    if not text.startswith("/"):
        return _glob(text)
    end = text.rfind("/")
    flags = text[end + 1 :]
    if end == 0 or not re.fullmatch("[A-Za-z]*", flags):
        raise PatternError('a pattern that begins with "/" must end with "/" or "/i"')
    if flags not in ("", "i"):
        message = f'what begins with "/" is a regular expression, /…/ or /…/i, and "{flags}" is no flag'
        raise PatternError(message, end + 1)
    if end == 1:
        raise PatternError("the pattern is empty and would match everything")
    expression = ("(?i)" if flags else "") + nfc(text[1:end])
    try:
        found = compile_re2(expression)
    except PatternError as error:
        fragment = text.find(str(error), 1, end)
        raise PatternError(_explain(str(error.__cause__), str(error)), max(fragment, 1)) from None

    def search(value: str) -> bool:
        return found(nfc(value))

    return Pattern(text, f"{text}\n", search)  # no glob has a line end, so no glob has this key


def _glob(text: str) -> Pattern:
    wanted = fold(text.strip())
    if not _GLOB_SPECIAL.search(wanted):

        def equals(value: str) -> bool:
            return fold(value.strip()) == wanted

        return Pattern(text, wanted, equals)
    found = compile_re2(glob_expression(wanted))

    def search(value: str) -> bool:
        return found(fold(value.strip()))

    return Pattern(text, wanted, search)


def is_glob(text: str) -> bool:
    """True when a text has a wildcard, ``*`` or ``?``."""
    return _GLOB_SPECIAL.search(text) is not None


def glob_expression(glob: str) -> str:
    """The RE2 expression of a glob over a whole value: ``*`` any characters, ``?`` any one, the rest itself."""
    parts = (".*" if c == "*" else "." if c == "?" else re2.escape(c) for c in re.sub(r"\*+", "*", glob))
    return r"(?s)\A" + "".join(parts) + r"\z"


def compile_re2(expression: str) -> Callable[[str], bool]:
    """A function that says whether an expression is found in a text.

    Raises :class:`PatternError` with the offending piece of the expression as its text and RE2's own error as its
    cause.
    """
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    try:
        search = re2.compile(expression.encode("utf-8"), options).search
    except re2.error as error:
        said = error.args[0].decode("utf-8", "replace") if error.args else ""
        raise PatternError(said.partition(": ")[2]) from ValueError(said)

    def found(text: str) -> bool:
        return search(text.encode("utf-8", "replace")) is not None

    return found


def _explain(said: str, fragment: str) -> str:
    """RE2's complaint, with what to know about RE2 where that is the reason."""
    if not said.startswith("missing"):
        for lacking, words in _MISSING:
            if re.search(rf"(?:{lacking})\Z", fragment):
                return f"{words}: {fragment}"
    return f"not a valid RE2 pattern: {said}"
