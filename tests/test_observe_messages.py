"""What is learned of a message before anybody decides."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaifu.policies.facts import Direction, Kind, Realm
from kaifu.proxy.address import parse_mail, parse_rcpt
from kaifu.proxy.envelope import Envelope
from kaifu.proxy.maildate import parse_date
from kaifu.proxy.message import HeaderBlock
from kaifu.proxy.observe import MOST_CITED, Observation, needs_body, observe
from kaifu.proxy.reports import PREFIX

REALM = Realm(["example.com", ".example.co.jp"])


def _envelope(sender: str, *recipients: str) -> Envelope:
    return Envelope(parse_mail(f"<{sender}>".encode()), tuple(parse_rcpt(f"<{r}>".encode()) for r in recipients))


def _observe(header: str, sender: str = "a@example.com", *recipients: str, outside: bool = False) -> Observation:
    block = HeaderBlock.parse(header.replace("\n", "\r\n").encode() + b"\r\n")
    envelope = _envelope(sender, *(recipients or ("b@partner.example",)))
    return observe(envelope, block, None, False, realm=REALM, outside=outside)


def test_direction_comes_from_the_addresses_of_each_recipient() -> None:
    seen = _observe("", "a@example.com", "b@partner.example", "c@sub.example.co.jp", "d@example.com")
    assert seen.directions == (Direction.OUTBOUND, Direction.INTERNAL, Direction.INTERNAL)
    assert seen.sender_in_realm


def test_outside_nobody_is_one_of_ours() -> None:
    seen = _observe("", "a@example.com", "b@partner.example", "d@example.com", outside=True)
    assert seen.directions == (Direction.TRANSIT, Direction.INBOUND)
    assert not seen.sender_in_realm


def test_the_sender_of_mail_with_a_null_reverse_path_is_its_first_author() -> None:
    seen = _observe("From: X <x@partner.example>, y@example.com\n", "")
    assert str(seen.message.sender) == "x@partner.example"
    assert seen.message.null_reverse_path
    assert _observe("Subject: x\n", "").message.sender is None


def test_the_sender_of_a_report_without_author_is_its_final_recipient() -> None:
    block = HeaderBlock.parse(b"Content-Type: message/disposition-notification\r\n\r\n")
    body = b"Final-Recipient: rfc822; reader@partner.example\r\n"
    seen = observe(_envelope("", "a@example.com"), block, body, True, realm=REALM)
    assert seen.message.kind is Kind.MDN
    assert str(seen.message.sender) == "reader@partner.example"
    assert seen.report_kind == "mdn"


def test_a_report_that_is_too_large_to_read_is_delivered() -> None:
    block = HeaderBlock.parse(b"Content-Type: multipart/report; boundary=b\r\n\r\n")
    body = b"--b\r\nContent-Type: message/disposition-notification\r\n\r\n" + b"X-A: b\r\n" * (PREFIX // 8)
    seen = observe(_envelope("", "a@example.com"), block, body[:PREFIX], False, realm=REALM)
    assert seen.message.kind is Kind.MDN
    assert seen.message.report is not None
    assert seen.message.report.must_deliver == "the report is too large to read"


@pytest.mark.parametrize(
    ("header", "automatic"),
    [
        ("Auto-Submitted: no\n", False),
        ("Auto-Submitted: no; by=hand\n", False),
        ("Auto-Submitted: auto-replied\n", True),
        ("Subject: x\n", False),
    ],
)
def test_what_a_program_sent_says_so(header: str, automatic: bool) -> None:
    assert _observe(header).message.auto_submitted is automatic


def test_the_field_that_says_that_a_program_wrote_it_is_named() -> None:
    assert (
        _observe("Auto-Submitted: no\nAuto-Submitted: auto-replied\n").carrier.automatic
        == "Auto-Submitted: auto-replied"
    )
    assert _observe("Precedence: bulk\nAuto-Submitted: no\n").carrier.automatic == "Precedence: bulk"


@pytest.mark.parametrize(
    ("header", "listed"),
    [
        ("List-Id: <x>\n", True),
        ("precedence: BULK\n", True),
        ("Precedence: junk\n", True),
        ("Precedence: list\n", True),
        ("Precedence: first-class\n", False),
        ("List-Unsubscribe: <https://x.example>\n", False),
    ],
)
def test_list_mail_says_so(header: str, listed: bool) -> None:
    assert _observe(header).message.list_mail is listed


def test_what_it_cites_is_looked_up_nearest_first() -> None:
    seen = _observe("References: <1@x> <2@x>\n <3@x>\nIn-Reply-To: <3@x>\n")
    assert seen.query.message_ids == ("3@x", "2@x", "1@x")
    assert [tie.source for tie in seen.cited] == ["In-Reply-To", "References", "References"]


def test_a_very_long_thread_is_looked_up_from_its_end() -> None:
    ids = [f"{n}@thread.example" for n in range(5000)]
    seen = _observe("References: " + "\n ".join(f"<{i}>" for i in ids) + "\n")
    assert list(seen.query.message_ids) == ids[: -MOST_CITED - 1 : -1]


def test_identifiers_without_end_are_none_of_ours() -> None:
    assert _observe(f"In-Reply-To: <{'x' * 5000}@y>\n").query.message_ids == ()


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("Message-ID: <1@x>\n", "1@x"),
        ("message-id:\n <1@x>\n", "1@x"),
        ("Message-ID: 1@x\n", "1@x"),
        ("Message-ID: <>\n", None),
        ("Subject: x\n", None),
    ],
)
def test_its_own_identifier_is_read_without_brackets(header: str, found: str | None) -> None:
    assert _observe(header).message_id == found


def test_a_retry_is_known_by_reverse_path_recipients_and_header() -> None:
    first = _observe("Subject: x\n", "a@example.com", "b@x.example", "c@x.example")
    again = _observe("Subject: x\n", "a@example.com", "b@x.example", "c@x.example")
    rest = _observe("Subject: x\n", "a@example.com", "c@x.example")
    other = _observe("Subject: y\n", "a@example.com", "b@x.example", "c@x.example")
    sender = _observe("Subject: x\n", "z@example.com", "b@x.example", "c@x.example")
    assert first.attempt_key == again.attempt_key
    assert len({first.attempt_key, rest.attempt_key, other.attempt_key, sender.attempt_key}) == 4
    assert first.retry_key == rest.retry_key
    assert len({first.retry_key, other.retry_key, sender.retry_key}) == 3
    assert first.query.retry_key == first.retry_key


def test_plain_mail_needs_no_body() -> None:
    envelope = _envelope("a@example.com", "b@partner.example")
    assert not needs_body(envelope, HeaderBlock.parse(b"Content-Type: text/plain\r\nIn-Reply-To: <1@x>\r\n\r\n"))
    assert needs_body(_envelope("", "b@x.example"), HeaderBlock.parse(b"In-Reply-To: <1@x>\r\n\r\n"))
    assert needs_body(envelope, HeaderBlock.parse(b"Content-Type: multipart/report\r\n\r\n"))


# --- dates ------------------------------------------------------------------------------------------------------

ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1), timezones=ZONES))
def test_a_date_is_read_as_it_was_written(moment: datetime) -> None:
    assert parse_date(format_datetime(moment)) == moment.replace(microsecond=0)


NEAR_DATES = st.builds(
    "{}{}{}{}{}{} {}:{}{}{}".format,
    st.sampled_from(["", "Sat, ", "Sat ", "Saturday, ", "x"]),
    st.sampled_from([1, 9, 10, 28, 29, 31, 32]),
    st.sampled_from([" ", "-", "  "]),
    st.sampled_from(["Jan", "FEB", "December", "Jul", "Foo"]),
    st.sampled_from([" ", "-"]),
    st.sampled_from(["00", "26", "99", "126", "1899", "1900", "2024", "9000", "9001", "２０２６"]),
    st.sampled_from([0, 7, 12, 23, 24]),
    st.sampled_from(["00", "07", "30", "59", "60"]),
    st.sampled_from(["", ":00", ":60", ":09.5"]),
    st.sampled_from(["", " +0900", " -0000", " +9999", " +2359", " -2400", " JST", " (x) Z", " EST (y)", " +09:00"]),
)


@given(st.one_of(st.text(max_size=60), NEAR_DATES))
def test_a_date_exists_or_is_none(text: str) -> None:
    moment = parse_date(text)
    if moment is not None:
        assert moment.tzinfo is not None
        assert 1899 <= moment.astimezone(UTC).year <= 9001
        assert str(moment.day) in text
        assert f"{moment.hour}:{moment.minute:02}" in text


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("Sat, 21 Nov 2026 20:07:00 +0900 (JST)", datetime(2026, 11, 21, 11, 7, tzinfo=UTC)),
        ("21 Nov 2026 20:07 JST", datetime(2026, 11, 21, 11, 7, tzinfo=UTC)),
        ("Saturday, 21-Nov-26 20:07:00 GMT", datetime(2026, 11, 21, 20, 7, tzinfo=UTC)),
        ("Thu, 1 Jan 98 00:00:60 EST", datetime(1998, 1, 1, 5, 0, 59, tzinfo=UTC)),
        ("Thu, 1 Jan 2026 00:00:00 -0000", datetime(2026, 1, 1, tzinfo=UTC)),
        ("Thu, 1 Jan 2026 00:00:00", datetime(2026, 1, 1, tzinfo=UTC)),
        ("Sat, 31 Feb 2026 00:00:00 +0000", None),
        ("1 Jan 0001 00:00:00 +0000", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_dates_as_mail_programs_write_them(text: str, moment: datetime | None) -> None:
    assert parse_date(text) == moment
