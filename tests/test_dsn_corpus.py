"""Every delivery report of the corpus is recognised, and none of its failures is taken for a success."""

from __future__ import annotations

import csv
from pathlib import Path

from kaifu.policies.facts import Kind
from kaifu.proxy.dsn import ACTIONS
from kaifu.proxy.inspection import inspect_message
from kaifu.proxy.reports import Reports

NOT_ONE_MESSAGE = {"MimeKit__content-length-summary.eml", "MimeKit__content-length.mbox.eml"}
"""A table of contents, and an mbox of many messages whose first is none."""

NO_FIELDS = {"MimeKit__bounce.eml", "set-of-emails__lhost-googleworkspace-01.eml"}
"""The fields were lost on the way (a gateway encoded them), or never written."""


def reports(corpus: Path) -> dict[str, Reports]:
    return {path.name: inspect_message(path.read_bytes()).reports for path in sorted((corpus / "dsn").glob("*.eml"))}


def test_all_are_delivery_reports(corpus: Path) -> None:
    kinds = {name: found.kind for name, found in reports(corpus).items()}
    assert {name for name, kind in kinds.items() if kind is not Kind.DSN} == NOT_ONE_MESSAGE


def test_each_must_reach_its_reader(corpus: Path) -> None:
    """The corpus holds failures and delays only, so not one of them may be withheld."""
    for name, found in reports(corpus).items():
        assert name in NOT_ONE_MESSAGE or found.must_deliver, name


def test_recipients_and_actions_are_those_of_the_manifest(corpus: Path) -> None:
    found = reports(corpus)
    for name, notes in manifest(corpus):
        if name in NOT_ONE_MESSAGE:
            continue
        recipients = [r for report in found[name].dsns if report.dsn for r in report.dsn.recipients]
        assert bool(recipients) != (name in NO_FIELDS), name
        actions = {r.action for r in recipients}
        assert actions <= ACTIONS | {None}, name
        for word in ("failed", "delayed"):
            if name not in NO_FIELDS and notes.startswith((word, f"action={word}")):
                assert word in actions, name


def manifest(corpus: Path) -> list[tuple[str, str]]:
    with (corpus / "MANIFEST.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [(Path(row["file"]).name, row["notes"]) for row in rows if row["kind"] == "dsn"]


def test_several_recipients_of_one_report_are_told_apart(corpus: Path) -> None:
    (report,) = reports(corpus)["enmime__multi_recipient_dsn.raw.eml"].dsns
    assert report.dsn is not None
    assert [(r.address, r.action, r.status) for r in report.dsn.recipients] == [
        ("arathib@vnet.ibm.com", "failed", "5.0.0"),
        ("johnh@hpnjld.njd.hp.com", "delayed", "4.0.0"),
        ("wsnell@sdcc13.ucsd.edu", "failed", "5.0.0"),
    ]


def test_returned_messages_give_identifier_and_date_and_nothing_else(corpus: Path) -> None:
    (report,) = reports(corpus)["set-of-emails__lhost-yandex-01.eml"].dsns
    assert report.returned is not None
    assert report.returned.message_id == "446281417885946@web20h.yandex.ru"
    assert report.dsn is not None
    kept = report.excerpt(report.dsn.recipients[0])
    assert kept.endswith(b"\nMessage-ID: <446281417885946@web20h.yandex.ru>\nDate: Sun, 07 Dec 2014 02:12:26 +0900\n")
    assert b"Subject" not in kept
