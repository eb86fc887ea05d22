"""The fields of a delivery report, and when it is a success."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaifu.proxy.dsn import ACTIONS, MAX_RECIPIENTS, SUCCESS, Dsn, parse_dsn
from kaifu.proxy.reportfields import MAX_FIELDS

Counter = Callable[[Callable[[], object]], int]
HEAD = "Reporting-MTA: dns; mx.example\nOriginal-Envelope-Id: KF-1\n\n"


def dsn(text: str, *, cut: bool = False, header: bytes = b"") -> Dsn:
    return parse_dsn(text.encode(), header, cut=cut)


def recipient(action: str, status: str = "2.0.0", address: str = "a@b.example") -> str:
    return f"Final-Recipient: rfc822; {address}\nAction: {action}\nStatus: {status}\n\n"


@pytest.mark.parametrize("action", sorted(SUCCESS))
def test_delivered_relayed_and_expanded_are_successes(action: str) -> None:
    found = dsn(HEAD + recipient(action))
    assert (found.success, found.must_deliver) == (True, None)
    assert (found.original_envelope_id, found.reporting_mta) == ("KF-1", "mx.example")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (recipient("failed", "5.1.1"), "a recipient failed"),
        (recipient("delayed", "4.4.1"), "delivery to a recipient is delayed"),
        (recipient("failure", "5.0.0"), "a recipient failed"),
        (recipient("FAILED (in the end)", "5.0.0"), "a recipient failed"),
        (recipient("delivered") + recipient("failed", "5.0.0"), "a recipient failed"),
        (recipient("delayed", "4.0.0") + recipient("failed", "5.0.0"), "a recipient failed"),
        (recipient("delivered") + recipient("delayed", "4.0.0"), "delivery to a recipient is delayed"),
        (recipient("delivered", "5.0.0"), "Action and Status of a recipient contradict each other"),
        (recipient("success"), "what became of a recipient cannot be read"),
        (recipient("", "2.0.0"), "what became of a recipient cannot be read"),
        ("Final-Recipient: rfc822; a@b\nStatus: 5.0.0\n", "a recipient failed"),
        ("Final-Recipient: rfc822; a@b\nStatus: 4.0.0\n", "delivery to a recipient is delayed"),
        ("Final-Recipient: rfc822; a@b\nStatus: 2.0.0\n", "what became of a recipient cannot be read"),
        ("Final-Recipient: rfc822; a@b\n", "what became of a recipient cannot be read"),
        ("Action: delivered\nStatus: 2.0.0\n", "a recipient cannot be read"),
        (recipient("delivered") + "Action: failed\n", "what became of a recipient cannot be read"),
        ("", "no recipient can be read in the report"),
        ("It did not work: sorry.\n", "no recipient can be read in the report"),
    ],
)
def test_what_somebody_may_have_to_learn_is_always_delivered(text: str, why: str) -> None:
    found = dsn(HEAD + text)
    assert (found.must_deliver, found.success) == (why, False)


def test_a_report_that_was_cut_off_is_always_delivered() -> None:
    assert dsn(HEAD + recipient("delivered"), cut=True).must_deliver == "the report is cut off"
    assert dsn(HEAD + recipient("failed", "5.0.0"), cut=True).must_deliver == "a recipient failed"


def test_more_recipients_than_are_read_is_no_success() -> None:
    found = dsn(HEAD + recipient("delivered") * (MAX_RECIPIENTS + 5))
    assert len(found.recipients) == MAX_RECIPIENTS
    assert found.must_deliver == "the report has more recipients than are read"


def test_a_failure_behind_more_fields_than_are_read_is_no_success() -> None:
    some = recipient("delivered").replace("Status", "X-Hop: mx\n" * 100 + "Status") * 97
    head = HEAD.removesuffix("\n") + "X-About: all\n" * (MAX_FIELDS - 97 * 103 - 2) + "\n"
    assert dsn(head + some).success
    found = dsn(head + some + recipient("failed", "5.1.1"))
    assert (len(found.recipients), found.must_deliver) == (97, "the report has more fields than are read")


@pytest.mark.parametrize(
    "text",
    [
        HEAD + "Final-Recipient: rfc822; a@b\nAction: delivered\n\nFinal-Recipient: rfc822; c@d\nAction: relayed\n",
        HEAD + "Final-Recipient: rfc822; a@b\nAction: delivered\nFinal-Recipient: rfc822; c@d\nAction: relayed\n",
        HEAD + "Final-Recipient: rfc822; a@b\n\nAction: delivered\n\nFinal-Recipient: rfc822; c@d\n\nAction: relayed\n",
        "Reporting-MTA: dns; mx\nFinal-Recipient: rfc822; a@b\nAction: delivered\n\nFinal-Recipient: rfc822; c@d\nAction: relayed\n",
        (
            "\n\n \nReporting-MTA: dns; mx\n\n\n\t\nFinal-Recipient: rfc822; a@b\nAction: delivered\n \nFinal-Recipient: rfc822; c@d\n"
            "Action: relayed\n\n"
        ),
        "ACTION : delivered\nFINAL-RECIPIENT : rfc822;a@b\n\nfinal-recipient:\n rfc822;\n c@d\naction:\n\trelayed",
    ],
)
def test_recipients_are_told_apart_however_empty_lines_are_set(text: str) -> None:
    assert [(r.address, r.action) for r in dsn(text).recipients] == [("a@b", "delivered"), ("c@d", "relayed")]


def test_the_address_that_the_sender_used_counts_before_the_final_one() -> None:
    (found,) = dsn(
        HEAD + "Original-Recipient: rfc822; list@x\nFinal-Recipient: rfc822; a@b\nAction: delivered\n"
    ).recipients
    assert found.address == "list@x"
    assert found.final_recipient is not None
    assert found.final_recipient.address == "a@b"


def test_details_are_kept_as_told() -> None:
    (found,) = dsn(
        HEAD
        + "Final-Recipient: rfc822; a@b\nAction: delayed\nStatus: 4.2.2 (mailbox full)\nRemote-MTA: dns; r.example\n"
        "Diagnostic-Code: smtp; 452 4.2.2\n full\nLast-Attempt-Date: now\nWill-Retry-Until: then\n"
    ).recipients
    assert (found.status, found.remote_mta, found.diagnostic_code) == ("4.2.2", "r.example", "smtp; 452 4.2.2 full")
    assert (found.last_attempt_date, found.will_retry_until) == ("now", "then")


def test_fields_in_the_header_of_the_part_are_read_too() -> None:
    header = (
        b"Content-Type: message/delivery-status\nReporting-MTA: dns; mx\nFinal-Recipient: rfc822; a@b\nAction: failed\n"
    )
    found = dsn("", header=header)
    assert [(r.address, r.action) for r in found.recipients] == [("a@b", "failed")]
    assert "fields stand in the header of the part" in found.odd


def test_what_is_kept_leaves_out_what_was_copied_from_the_original() -> None:
    found = dsn("Reporting-MTA: dns; mx\nSubject: secret\n\n" + recipient("delivered") + "To: c@d\nSubject: secret\n")
    assert "secret" not in found.text + found.recipients[0].text
    assert "c@d" not in found.text + found.recipients[0].text


@given(st.binary(max_size=300), st.binary(max_size=60), st.booleans())
def test_any_octets_are_read_without_complaint(content: bytes, header: bytes, cut: bool) -> None:
    found = parse_dsn(content, header, cut=cut)
    assert found.success == (found.must_deliver is None)


_LINES = st.lists(
    st.sampled_from(
        [
            "Reporting-MTA: dns; mx",
            "Final-Recipient: rfc822; a@b",
            "Original-Recipient: rfc822; c@d",
            "Action: delivered",
            "Action: relayed",
            "Action: failed",
            "Action: delayed",
            "Status: 2.0.0",
            "Status: 5.0.0",
            "",
            " ",
            " folded",
            "X-Y: z",
            "text",
        ]
    )
)


@given(_LINES)
def test_a_report_that_mentions_a_failure_is_never_a_success(lines: list[str]) -> None:
    found = dsn("\n".join(lines) + "\n")
    assert all(r.action is None or r.action in ACTIONS for r in found.recipients)
    if any(line in ("Action: failed", "Action: delayed") for line in lines):
        assert not found.success


@pytest.mark.parametrize(
    "unit", [HEAD, recipient("failed"), "\n", "X: y\n", " \n", "Final-Recipient: a@b\n", "Action: x\n"], ids=repr
)
def test_effort_grows_no_faster_than_the_report(unit: str, count_calls: Counter) -> None:
    def effort(times: int) -> int:
        return count_calls(lambda: dsn(HEAD + unit * times))

    assert effort(800) <= 2 * effort(400) + 200
