"""The end of DATA is found, and bare line ends are refused, however the octets are cut into chunks."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaifu.proxy.datastream import BareLineEnd, DataStream, stuff, unstuff

# Alphabets in which the interesting octets are frequent.
octets = st.lists(st.sampled_from([b"\r\n", b"\r\n", b".", b"..", b"\r", b"\n", b"a", b"\0", b"\xff"])).map(b"".join)
clean = st.lists(st.sampled_from([b"\r\n", b"\r\n.", b".", b"a", b"\0", b"\xff"])).map(b"".join)
cuts = st.lists(st.integers(0, 60), max_size=12)


def chunks(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({min(p, len(data)) for p in places} | {0, len(data)})
    return [data[a:b] for a, b in pairwise(edges)]


def run(wire: bytes, places: list[int]) -> tuple[bytes, bytes] | None:
    """Message and what follows it; None when the end has not come."""
    stream = DataStream()
    taken = b""
    parts = chunks(wire, places)
    for number, chunk in enumerate(parts):
        taken += stream.feed(chunk)
        if stream.done:
            return taken, stream.rest + b"".join(parts[number + 1 :])
    return None


def reference(wire: bytes) -> tuple[bytes, bytes] | None:
    """The rule of RFC 5321 over the whole octets at once."""
    found = re.search(rb"(?:^|\r\n)\.\r\n", wire)
    if found is None:
        return None
    end = found.end() - 3
    return wire[:end], wire[found.end() :]


def has_bare_line_end(data: bytes) -> bool:
    return re.search(rb"\r(?!\n)|(?<!\r)\n", data) is not None


@given(octets, cuts)
def test_any_octets_end_where_the_rfc_says_or_are_refused_for_a_bare_line_end(wire: bytes, places: list[int]) -> None:
    expected = reference(wire)
    try:
        got = run(wire, places)
    except BareLineEnd:
        assert has_bare_line_end(wire if expected is None else expected[0])
        return
    assert got == expected
    if got is not None:
        assert not has_bare_line_end(got[0])


@given(octets, cuts)
def test_a_bare_line_end_before_the_end_is_always_refused(body: bytes, places: list[int]) -> None:
    wire = body + b"\r\n.\r\n"
    expected = reference(wire)
    assert expected is not None
    if has_bare_line_end(expected[0]):
        with pytest.raises(BareLineEnd):
            run(wire, places)
    else:
        assert run(wire, places) == expected


@given(clean, clean, cuts)
def test_a_stuffed_message_arrives_as_it_is_and_what_follows_is_kept(
    body: bytes, after: bytes, places: list[int]
) -> None:
    message = stuff(body.replace(b"\r\n.\r\n", b"\r\n..\r\n") + b"\r\n")
    got = run(message + b".\r\n" + after, places)
    assert got == (message, after)


@given(clean)
def test_stuffing_can_be_undone(body: bytes) -> None:
    text = body + b"\r\n"
    assert unstuff(stuff(text)) == text
