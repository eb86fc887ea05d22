"""Which header fields ask for a receipt."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaifu.proxy.message import HeaderBlock
from kaifu.proxy.requests import ASKING_HEADERS, REQUEST_HEADERS, asks, find_requests, list_requests, request_fields


def block(text: str) -> HeaderBlock:
    return HeaderBlock.parse(text.replace("\n", "\r\n").encode() + b"\r\n")


@pytest.mark.parametrize("name", ASKING_HEADERS)
def test_each_of_these_asks_by_itself(name: str) -> None:
    (request,) = find_requests(block(f"From: a@b\n{name.title()}: a@b\n"))
    assert (request.name, request.nth, request.value) == (name.title(), 1, "a@b")
    assert [str(m) for m in request.addresses] == ["a@b"]


@pytest.mark.parametrize("name", sorted(set(REQUEST_HEADERS) - set(ASKING_HEADERS)))
def test_options_and_delivery_reports_alone_do_not_ask_but_are_stripped(name: str) -> None:
    header = block(f"{name}: a@b\n")
    assert find_requests(header) == ()
    assert request_fields(header) == ((name, 1),)
    assert [asks(request) for request in list_requests(header)] == [False]


@pytest.mark.parametrize(
    ("field", "addresses"),
    [
        ("Disposition-Notification-To: <a@b>, Last First <c@d>", ["a@b", "c@d"]),
        ('Disposition-Notification-To:\n "Last, First"\n <a@b>', ["a@b"]),
        ("Disposition-Notification-To: =?utf-8?Q?a=2C_b?= <a@b>", ["a@b"]),
        ("Disposition-Notification-To: <>", []),
        ("Disposition-Notification-To:", []),
        ("Disposition-Notification-To: http://example.com:8080/as2", []),
        ("Disposition-Notification-To: SIAS2PRD", []),
        ("Return-Receipt-To: 1", []),
        ("X-PMRQC: 1", []),
    ],
)
def test_a_request_asks_wherever_it_points(field: str, addresses: list[str]) -> None:
    (request,) = find_requests(block(field + "\n"))
    assert [str(m) for m in request.addresses] == addresses


@pytest.mark.parametrize("value", ["no", "No", "0", "false", ""])
@pytest.mark.parametrize("name", ["X-Ack", "X-PMRQC", "Return-Receipt-Requested"])
def test_a_switch_that_says_no_does_not_ask(name: str, value: str) -> None:
    header = block(f"{name}: {value}\n")
    assert find_requests(header) == ()
    assert request_fields(header) == ((name, 1),)


def test_requests_stand_in_the_order_of_the_message_with_their_occurrence() -> None:
    header = block(
        "X-Confirm-Reading-To: a@b\nDisposition-Notification-To: a@b\nSubject: x\nreturn-receipt-to: c@d\n"
        "DISPOSITION-NOTIFICATION-TO: e@f\nDisposition-Notification-Options: x\n"
    )
    assert [(r.name, r.nth) for r in find_requests(header)] == [
        ("X-Confirm-Reading-To", 1),
        ("Disposition-Notification-To", 1),
        ("return-receipt-to", 1),
        ("DISPOSITION-NOTIFICATION-TO", 2),
    ]
    assert request_fields(header)[-1] == ("Disposition-Notification-Options", 1)
    assert [r.name for r in list_requests(header)] == [name for name, _ in request_fields(header)]


def test_a_policy_may_name_further_fields() -> None:
    header = block("Chat-Disposition-Notification-To: a@b\nX-Want-Receipt: yes\n")
    assert not find_requests(header)
    assert not request_fields(header)
    extra = ("x-want-receipt", "Chat-Disposition-Notification-To")
    assert [r.name for r in find_requests(header, extra)] == ["Chat-Disposition-Notification-To", "X-Want-Receipt"]
    assert request_fields(header, extra) == (("Chat-Disposition-Notification-To", 1), ("X-Want-Receipt", 1))


def test_naming_a_known_field_again_does_not_find_it_twice() -> None:
    assert len(find_requests(block("X-PMRQC: 1\n"), ["X-PMRQC", "x-pmrqc"])) == 1


def test_a_byte_order_mark_does_not_hide_a_request() -> None:
    header = HeaderBlock.parse(b"\xef\xbb\xbfDisposition-Notification-To: a@b\r\n\r\n")
    assert [(r.name, r.nth) for r in find_requests(header)] == [("Disposition-Notification-To", 1)]


def test_the_text_of_a_message_does_not_ask() -> None:
    assert find_requests(HeaderBlock.parse(b"Subject: x\r\n\r\nDisposition-Notification-To: a@b\r\n")) == ()


NAMES = st.sampled_from(
    ["Subject", "X-Ack", "x-ack", "X-PMRQC", "DISPOSITION-NOTIFICATION-TO", "Return-Receipt-To", "X-Mine"]
)
VALUES = st.one_of(
    st.sampled_from([b"a@b", b"<a@b>", b"no", b" 0 ", b"", b"=?utf-8?q?no?="]),
    st.binary(max_size=20).map(lambda octets: octets.replace(b"\n", b"")),
)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=8))
def test_every_request_is_found_in_its_place_whatever_it_holds(written: list[tuple[str, bytes]]) -> None:
    header = HeaderBlock.parse(b"".join(name.encode() + b": " + value + b"\r\n" for name, value in written) + b"\r\n")
    seen: Counter[str] = Counter()
    expected = []
    for name, _ in written:
        seen[name.lower()] += 1
        if name not in ("Subject", "X-Mine"):
            expected.append((name, seen[name.lower()]))
    assert list(request_fields(header)) == expected == [(r.name, r.nth) for r in list_requests(header)]
    assert find_requests(header) == tuple(request for request in list_requests(header) if asks(request))
    assert ("X-Mine" in {r.name for r in find_requests(header, ["x-mine"])}) == ("x-mine" in seen)


@given(st.binary(max_size=200))
def test_any_octets_are_searched_without_complaint(octets: bytes) -> None:
    header = HeaderBlock.parse(b"Disposition-Notification-To: " + octets + b"\nX-Ack: " + octets)
    assert len(find_requests(header)) <= len(list_requests(header)) == len(request_fields(header))
