"""Text of strangers is shown so that everything in it can be seen and nothing of it acts."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaifu.proxy.display import json_line, visible


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "契約書のご確認（至急）",
        "全角　空白",
        "é à ü ß",
        "👩‍💻 ok",
        "می‌خواهم",
        "non-breaking\u00a0space",
        "[bold]no markup[/bold]",
        "a\\b",
    ],
)
def test_what_people_can_read_stays_as_it_is(text: str) -> None:
    assert visible(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("bell\x07", "bell\\x07"),
        ("two\r\nlines\tand a tab", "two\\r\\nlines\\tand a tab"),
        ("\x9b31m", "\\x9b31m"),
        ("\x7f", "\\x7f"),
        ("exe.\u202egpj", "exe.\\u202egpj"),
        ("zero\u200bwidth\ufeff", "zero\\u200bwidth\\ufeff"),
        ("line\u2028separator", "line\\u2028separator"),
        ("tag\U000e0041", "tag\\U000e0041"),
        ("lone\ud800", "lone\\ud800"),
        ("\u2003wide", "\\u2003wide"),
    ],
)
def test_what_steers_a_terminal_or_hides_is_escaped(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text(st.characters(codec=None)))
def test_nothing_unprintable_is_left_in_any_text(text: str) -> None:
    assert all(c.isprintable() or c in "\u00a0\u3000\u200c\u200d" for c in visible(text))
    visible(text).encode()


@given(
    st.recursive(
        st.text(st.characters(codec=None)) | st.none() | st.integers(),
        lambda v: st.lists(v) | st.dictionaries(st.text(), v),
    )
)
def test_json_is_printable_and_reads_back_as_it_was(value: object) -> None:
    line = json_line(value)
    assert line.isprintable()
    # Two halves of a pair that stood apart are one character after reading, as in any JSON.
    assert json.loads(line) == json.loads(json.dumps(value))


def test_json_leaves_japanese_readable() -> None:
    assert json_line({"subject": "契約書"}) == '{"subject": "契約書"}'
