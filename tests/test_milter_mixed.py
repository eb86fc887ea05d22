"""One message, several recipients, one header: what a milter does where the relay would split.

All get the strictest header edit: strip before keep before add; a suppression that one recipient's rule wants holds for
all. Everything else stays each recipient's own: what is withheld, NOTIFY, the record. Who does not get what its own rule
says is told so in the record.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from tests.milter_client import Mail, Result
from tests.milter_process import Milter
from tests.session_next_hop import poll
from tests.test_transit_properties import NOW, World, worlds

from kaifu.policies.decision import Request
from kaifu.proxy.judgement import Action, Judgement, without_additions
from kaifu.proxy.transit import judge

STRICTER = "not possible: another header than for the recipient whose rule is stricter"

POLICY = """
version: 1
rules:
  - {name: withheld, when: {kind: mdn, to: w@example.co.jp}, then: {receipt: withhold}}
  - {name: strip, when: {to: strip@x.example}, then: {request: strip}}
  - {name: add, when: {to: add@x.example}, then: {request: add}}
  - {name: add elsewhere, when: {to: elsewhere@x.example}, then: {request: add, notify: receipts@example.co.jp}}
  - {name: hush, when: {to: hush@x.example}, then: {suppress: read}}
  - {name: quiet, when: {to: quiet@x.example}, then: {request: strip, suppress: not-read, record: none}}
  - {name: report, when: {to: report@x.example}, then: {request: add, delivery_report: add}}
"""
DNT = (b"Disposition-Notification-To", b"<alice@example.co.jp>")
ELSEWHERE = (b"Disposition-Notification-To", b"<receipts@example.co.jp>")
RN, NRN, BOTH = ((b"X-Auto-Response-Suppress", words) for words in (b"RN", b"NRN", b"RN, NRN"))

# Recipients, did the client ask; the request headers that all get; who does not get what its own rule says.
MIXED: list[tuple[str, bool, list[tuple[bytes, bytes]], str]] = [
    ("strip keep", True, [], "keep"),
    ("keep strip", True, [], "keep"),
    ("strip add", True, [], "add"),
    ("add strip", True, [], "add"),
    ("add keep", True, [DNT], ""),
    ("strip add", False, [], "add"),
    ("add keep", False, [], "add"),
    ("keep add", False, [], "add"),
    ("add add", False, [DNT], ""),
    ("keep keep", True, [DNT], ""),
    ("add elsewhere", False, [DNT], "elsewhere"),
    ("elsewhere add", False, [ELSEWHERE], "add"),
    ("elsewhere keep", True, [DNT], "elsewhere"),
    ("hush keep", False, [RN], "keep"),
    ("hush add", False, [RN], "add"),
    ("quiet keep", True, [NRN], "keep"),
    ("hush quiet", True, [BOTH], "hush quiet"),
    ("report keep", False, [], "report"),
    ("strip add keep hush", True, [RN], "strip add keep hush"),
]


@pytest.fixture(scope="module")
def milter(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with Milter(tmp_path_factory.mktemp("milter"), POLICY) as one:
        yield one
        one.stop()


Rows = dict[str, dict[str, Any]]


def send(milter: Milter, number: int, who: str, asked: bool) -> Result:
    """A message to these."""
    headers = [(b"From", b"<alice@example.co.jp>"), (b"Message-ID", b"<%d@example.co.jp>" % number)]
    to = [[f"<{name}@x.example>".encode()] for name in who.split()]
    with milter.connect() as mta:
        return mta.deliver(Mail([b"<alice@example.co.jp>"], to, [*headers, *[DNT] * asked]))


def rows_of(milter: Milter) -> dict[int, Rows]:
    """By message and recipient."""
    found: dict[int, Rows] = {}
    for row in milter.receipts():
        found.setdefault(int(row["message_id"].split("@")[0]), {})[row["to"].split("@")[0]] = row
    return found


@pytest.fixture(scope="module")
def sent(milter: Milter) -> list[tuple[Result, Rows]]:
    """All of :data:`MIXED`, in order."""
    results = [send(milter, number, who, asked) for number, (who, asked, _, _) in enumerate(MIXED)]
    rows = rows_of(milter)
    return [(result, rows.get(number, {})) for number, result in enumerate(results)]


@pytest.mark.parametrize(("who", "asked", "headers", "unlike"), MIXED, ids=[f"{m[0]}-{m[1]}" for m in MIXED])
def test_all_get_the_strictest_header_and_the_record_names_who_does_not_get_its_own(
    sent: list[tuple[Result, Rows]], who: str, asked: bool, headers: list[tuple[bytes, bytes]], unlike: str
) -> None:
    result, rows = sent[MIXED.index((who, asked, headers, unlike))]
    assert result.end == "accept"
    assert result.headers[2:] == headers
    assert {name for name, row in rows.items() if STRICTER in row["reason"]} == set(unlike.split()) - {"quiet"}
    for name, row in rows.items():
        has = any(header[0] == DNT[0] for header in headers)
        assert row["request"] == ("kept" if has and asked else "added" if has else "stripped" if asked else "none"), (
            name
        )


def test_notify_stays_each_recipients_own(milter: Milter) -> None:
    result = send(milter, 100, "report keep", True)
    rows = rows_of(milter)[100]
    assert result.rcpt == [(b"<keep@x.example>", b""), (b"<report@x.example>", b"NOTIFY=SUCCESS,FAILURE,DELAY")]
    assert {name: row["report_asked_by"] for name, row in rows.items()} == {"report": "policy", "keep": "nobody"}


def test_observing_changes_nothing_and_says_for_each_what_would_have_been(tmp_path: Path) -> None:
    with Milter(tmp_path, POLICY.replace("version: 1", "version: 1\nmode: observe")) as milter:
        result = send(milter, 1, "strip add keep report", True)
        rows = rows_of(milter)[1]
        assert [command for command, _ in result.orders] == [b"c"]
        assert {name: row["request"] for name, row in rows.items()} == dict.fromkeys(rows, "kept")
        assert all(row["would"] for name, row in rows.items() if name != "keep")


@pytest.mark.parametrize("who", ["strip add", "add strip", "keep add strip"])
def test_without_a_ledger_what_is_stripped_for_one_is_stripped_for_all(tmp_path: Path, who: str) -> None:
    with Milter(tmp_path, POLICY, {"on_ledger_failure": "pass"}) as milter:
        shutil.move(milter.ledger, tmp_path / "elsewhere")
        poll(lambda: not milter.ledger.exists(), "the ledger to be gone")
        to = [[f"<{name}@x.example>".encode()] for name in who.split()]
        with milter.connect() as mta:
            result = mta.deliver(Mail([b"<alice@example.co.jp>"], to, [(b"Message-ID", b"<1@example.co.jp>"), DNT]))
        assert (result.end, result.headers) == ("accept", [(b"Message-ID", b"<1@example.co.jp>")])


# For any policy, envelope and message


def in_a_milter(world: World) -> Judgement:
    return judge(
        world.policy, world.seen, world.known, now=NOW, queue_id="Q", hostname="mx.example.co.jp", dsn=world.dsn, size=1,
        one_header=True,
    )  # fmt: skip


STRICTNESS = {Request.STRIP: 0, Request.KEEP: 1, Request.ADD: 2}


@given(worlds())
def test_a_milter_decides_like_the_relay_and_has_one_header(world: World) -> None:
    relay, milter = world.judgement, in_a_milter(world)
    assert [v.decision for v in milter.verdicts] == [v.decision for v in relay.verdicts]
    assert [v.action for v in milter.verdicts] == [v.action for v in relay.verdicts]
    assert [(v.notify, v.notify_changed) for v in milter.verdicts] == [
        (v.notify, v.notify_changed) for v in relay.verdicts
    ]
    assert len(milter.deliveries) == min(1, len(relay.deliveries))
    if len(relay.deliveries) == 1:
        assert json.dumps([v.reason for v in milter.verdicts]) == json.dumps([v.reason for v in relay.verdicts])
        assert milter.deliveries == relay.deliveries


@given(worlds())
def test_the_strictest_recipient_gets_its_own_header_and_nobody_a_request_that_one_is_spared(world: World) -> None:
    milter = in_a_milter(world)
    forwarded = [v for v in milter.verdicts if v.action is Action.FORWARD]
    if not forwarded or not forwarded[0].decision.enforced:
        return
    strictest = min(STRICTNESS[v.decision.request] for v in forwarded)
    words = [edit for v in forwarded for edit in v.edits]
    if strictest < STRICTNESS[Request.ADD]:
        assert not any(type(edit).__name__ == "Insert" and edit.name == "Disposition-Notification-To" for edit in words)
    if strictest > STRICTNESS[Request.STRIP]:
        own = {v.edits for v in world.judgement.verdicts if STRICTNESS[v.decision.request] == strictest}
        assert milter.deliveries[0].edits in own or len({v.decision.suppress for v in forwarded}) > 1 or milter.mint


@given(worlds())
def test_without_a_ledger_there_is_one_header_too_and_nothing_is_added(world: World) -> None:
    passed = without_additions(in_a_milter(world), one_header=True)
    forwarded = [v for v in passed.verdicts if v.action is Action.FORWARD]
    kept = [v for v in in_a_milter(world).verdicts if v.action is Action.FORWARD]
    assert (
        len({v.edits for v, before in zip(passed.verdicts, in_a_milter(world).verdicts, strict=True) if before in kept})
        < 2
    )
    assert all(type(edit).__name__ == "Delete" for v in forwarded for edit in v.edits)
