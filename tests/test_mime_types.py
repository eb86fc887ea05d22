"""Content-Type as real mail writes it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaifu.proxy.mimetype import MAX_OCTETS, parse_content_type, without_comments

Counter = Callable[[Callable[[], object]], int]


@pytest.mark.parametrize(
    ("value", "full", "parameters"),
    [
        (b"text/plain", "text/plain", {}),
        (
            b"Multipart/Report; Report-Type=Disposition-Notification",
            "multipart/report",
            {"report-type": "Disposition-Notification"},
        ),
        (b'multipart/mixed; boundary="a b=c;d"', "multipart/mixed", {"boundary": "a b=c;d"}),
        (b'multipart/mixed;;\tBoundary="== _= 6(1)"', "multipart/mixed", {"boundary": "== _= 6(1)"}),
        (b"multipart/mixed; boundary=Boundary_(ID_x1)", "multipart/mixed", {"boundary": "Boundary_(ID_x1)"}),
        (b"multipart/mixed (a (nested) comment); boundary=x (end)", "multipart/mixed", {"boundary": "x"}),
        (b'multipart/mixed; boundary="x" charset=utf-8', "multipart/mixed", {"boundary": "x", "charset": "utf-8"}),
        (
            b'multipart/mixed; boundary="x" junk; charset=utf-8',
            "multipart/mixed",
            {"boundary": "x", "charset": "utf-8"},
        ),
        (b'multipart/mixed; boundary="a\\"b\\\\c"', "multipart/mixed", {"boundary": 'a"b\\c'}),
        (b'multipart/mixed; boundary="never closed', "multipart/mixed", {"boundary": "never closed"}),
        (b"multipart/mixed; boundary=first; boundary=second", "multipart/mixed", {"boundary": "first"}),
        (
            b"multipart/mixed; boundary*0=one; boundary*2=three; boundary*1=two",
            "multipart/mixed",
            {"boundary": "onetwothree"},
        ),
        (b"multipart/mixed; boundary*=us-ascii'en'a%20b", "multipart/mixed", {"boundary": "a b"}),
        (b"multipart/mixed; boundary*0*=utf-8''a%3D; boundary*1=b", "multipart/mixed", {"boundary": "a=b"}),
        (b"multipart/mixed; boundary*0=one; boundary*0=two; boundary*=three", "multipart/mixed", {"boundary": "one"}),
        (
            b"multipart/mixed; boundary*0*=utf-8''a; boundary*1*=b'c'%64",
            "multipart/mixed",
            {"boundary": "ab'c'd"},
        ),
        (b'(first) multipart/mixed (then); boundary= "x" (last)', "multipart/mixed", {"boundary": "x"}),
        (b"message/delivery-status;", "message/delivery-status", {}),
        (b"text / html ; charset = utf-8", "text/html", {"charset": "utf-8"}),
        (b"multipart/report; no value; =; boundary=z", "multipart/report", {"boundary": "z"}),
    ],
)
def test_type_and_parameters_are_read(value: bytes, full: str, parameters: dict[str, str]) -> None:
    found = parse_content_type(value)
    assert found is not None
    assert (found.full, dict(found.parameters)) == (full, parameters)


@pytest.mark.parametrize(
    "value", [b"", b"text", b"/plain", b"text/", b";boundary=x", b'"text/plain"', b"(text/plain)", b"\xff\xfe"]
)
def test_what_names_no_type_is_none(value: bytes) -> None:
    assert parse_content_type(value) is None


def test_a_boundary_keeps_its_octets() -> None:
    found = parse_content_type('multipart/mixed; boundary="境界 "'.encode())
    assert found is not None
    assert found.boundary == "境界".encode()


def test_only_multipart_types_have_a_boundary() -> None:
    found = parse_content_type(b"text/plain; boundary=x")
    assert found is not None
    assert found.boundary is None


@given(st.binary(max_size=300))
def test_any_octets_are_read_without_complaint(value: bytes) -> None:
    parse_content_type(value)


@given(st.text(alphabet="ab/;=\"\\() \t*%'", max_size=60))
def test_any_sequence_of_specials_is_read_without_complaint(value: str) -> None:
    found = parse_content_type(b"multipart/mixed;" + value.encode())
    assert found is not None
    without_comments(value)


@pytest.mark.parametrize(
    "unit",
    [b";", b'"', b"(", b"()", b"a=", b'a="', b"\\", b' "\\', b"a*0=b;", b"a=b;", b"(a", b'"a" ', b"= ;"],
    ids=repr,
)
def test_effort_grows_no_faster_than_the_value(unit: bytes, count_calls: Counter) -> None:
    def effort(times: int) -> int:
        value = b"multipart/mixed; x=y" + unit * times
        return count_calls(lambda: parse_content_type(value))

    assert effort(1600) <= 2 * effort(800) + 50


def test_a_value_without_end_is_cut(count_calls: Counter) -> None:
    assert count_calls(lambda: parse_content_type(b"a/b;" + b"x=y;" * 1_000_000)) < MAX_OCTETS
