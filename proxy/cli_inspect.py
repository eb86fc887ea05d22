"""``kaifu inspect``: what is this message? Reads files, and nothing else: no settings, no ledger, no network.

A file is judged as the relay judges a message: by its header block and the first MiB of its body, so no more is read.
Exit status 0; 2 when a file could not be read (said on stderr; the others are shown all the same).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import click

from kaifu.proxy.display import json_line, visible
from kaifu.proxy.dsn import Dsn, DsnRecipient
from kaifu.proxy.inspection import SUSPECTED, Inspection, inspect_message
from kaifu.proxy.mdn import Mdn
from kaifu.proxy.reportaddress import ReportAddress
from kaifu.proxy.reports import PREFIX, Report, Tie
from kaifu.proxy.requests import asks, list_requests

HEADER_LIMIT = 1_048_576

_TITLES = {
    "mail": "mail",
    "mdn": "a receipt (MDN, RFC 8098)",
    "dsn": "a delivery report (DSN, RFC 3464)",
    SUSPECTED: "a suspected receipt: it looks like one by its form, and confirms nothing",
}


@click.command("inspect")
@click.argument("files", metavar="FILE.eml...", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="One object per file, each on one line.")
def inspect(files: tuple[str, ...], as_json: bool) -> None:
    """Say what a message is: mail, a receipt, a delivery report or a suspected receipt.

    Shows its receipt requests and what a report says. "-" reads standard input.
    """
    failed = False
    for file in files:
        try:
            raw, complete = _read(file)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            click.echo(visible(f"{file}: {reason}"), err=True)
            failed = True
            continue
        inspection = inspect_message(raw, complete=complete)
        click.echo(json_line(as_object(file, inspection)) if as_json else "\n".join(_report_lines(file, inspection)))
    sys.exit(2 if failed else 0)


def _read(file: str) -> tuple[bytes, bool]:
    """As much of a file as decides, and whether that is all of it."""
    limit = HEADER_LIMIT + PREFIX
    if file == "-":
        if sys.stdin is None:  # it was closed before we started
            raise ValueError("standard input is closed")
        raw = sys.stdin.buffer.read(limit + 1)
    else:
        with open(file, "rb") as stream:
            raw = stream.read(limit + 1)
    return raw[:limit], len(raw) <= limit


def as_object(file: str, inspection: Inspection) -> dict[str, object]:
    """What ``--json`` prints for one file. Keys are stable: scripts read them."""
    reports = inspection.reports
    result: dict[str, object] = {
        "file": file,
        "kind": inspection.kind,
        "requests": [{"name": r.name, "value": r.value, "asks": asks(r)} for r in list_requests(inspection.header)],
    }
    if inspection.suspicion:
        result["suspected"] = {"form": inspection.suspicion.form, "ties": _ties(inspection.suspicion.ties)}
    if inspection.facts:
        result["only_reports"] = inspection.facts.only_reports
        result["must_deliver"] = inspection.facts.must_deliver
    if "mdn" in reports.kinds:
        mdns = [_mdn_object(r.mdn, r, reports.odd) for r in reports.mdns if r.mdn]
        result |= {"mdn": mdns[0] if mdns else None, "further_mdns": mdns[1:]}
    if "dsn" in reports.kinds:
        readable = sorted(reports.dsns, key=lambda r: not (r.dsn and r.dsn.recipients))
        dsns = [_dsn_object(r.dsn, r, reports.odd) for r in readable if r.dsn]
        result |= {"dsn": dsns[0] if dsns else None, "further_dsns": dsns[1:]}
    return result


def _ties(ties: Sequence[Tie]) -> list[dict[str, str]]:
    return [{"id": tie.id, "from": tie.source} for tie in ties]


def _address(address: ReportAddress | None) -> str | None:
    return address.address if address else None


def _mdn_object(mdn: Mdn, report: Report, structure_odd: Sequence[str]) -> dict[str, object]:
    disposition = mdn.disposition
    return {
        "final_recipient": _address(mdn.final_recipient),
        "original_recipient": _address(mdn.original_recipient),
        "original_message_id": mdn.original_message_id,
        "additional_message_ids": list(mdn.also_acknowledged),
        "disposition": mdn.disposition_text,
        "disposition_type": mdn.disposition_type,
        "action_mode": disposition.action_mode if disposition else None,
        "sending_mode": disposition.sending_mode if disposition else None,
        "modifiers": list(disposition.modifiers) if disposition else [],
        "reporting_ua": mdn.reporting_ua,
        "mdn_gateway": mdn.gateway,
        "error": list(mdn.error),
        "failure": list(mdn.failure),
        "warning": list(mdn.warning),
        "extensions": [list(extension) for extension in mdn.extensions],
        "ties": _ties(report.ties),
        "odd": [*structure_odd, *report.odd, *mdn.odd],
    }


def _dsn_object(dsn: Dsn, report: Report, structure_odd: Sequence[str]) -> dict[str, object]:
    return {
        "reporting_mta": dsn.reporting_mta,
        "original_envelope_id": dsn.original_envelope_id,
        "arrival_date": dsn.arrival_date,
        "success": dsn.success,
        "recipients": [_recipient_object(r) for r in dsn.recipients],
        "original_message_id": report.returned.message_id if report.returned else None,
        "original_date": report.returned.date if report.returned else None,
        "ties": _ties(report.ties),
        "odd": [*structure_odd, *report.odd, *dsn.odd],
    }


def _recipient_object(recipient: DsnRecipient) -> dict[str, object]:
    return {
        "final_recipient": _address(recipient.final_recipient),
        "original_recipient": _address(recipient.original_recipient),
        "action": recipient.action,
        "status": recipient.status,
        "diagnostic_code": recipient.diagnostic_code,
        "remote_mta": recipient.remote_mta,
        "will_retry_until": recipient.will_retry_until,
    }


def _report_lines(file: str, inspection: Inspection) -> Iterator[str]:
    """What is printed for people; everything that came from the message is made visible."""
    yield visible(f"{file}: {_TITLES[inspection.kind]}")
    for request in list_requests(inspection.header):
        name = "asks for a receipt" if asks(request) else "request header"
        yield _line(name, f"{request.name}: {request.value}")
    if inspection.suspicion:
        yield _line("form", inspection.suspicion.form)
        yield from _tie_lines(inspection.suspicion.ties)
    if inspection.facts is None:
        return
    if inspection.facts.must_deliver:
        yield _line("always delivered", inspection.facts.must_deliver)
    if not inspection.facts.only_reports:
        yield _line("always delivered", "there is more in it than reports")
    for report in inspection.reports.reports:
        yield from _mdn_lines(report.mdn) if report.mdn else _dsn_lines(report.dsn or Dsn())
        yield from _tie_lines(report.ties)
        told = report.mdn.odd if report.mdn else report.dsn.odd if report.dsn else ()
        for words in (*inspection.reports.odd, *report.odd, *told):
            yield _line("odd", words)


def _mdn_lines(mdn: Mdn) -> Iterator[str]:
    if mdn.disposition:
        modes = "/".join(m for m in (mdn.disposition.action_mode, mdn.disposition.sending_mode) if m)
        yield _line("disposition", " ".join([f"{mdn.disposition.type} ({modes})", *mdn.disposition.modifiers]))
    else:
        yield _line("disposition", f"none that parses: {mdn.disposition_text}" if mdn.disposition_text else "missing")
    yield from _optional("final recipient", _address(mdn.final_recipient))
    yield from _optional("original recipient", _address(mdn.original_recipient))
    yield from _optional("reporting UA", mdn.reporting_ua)
    yield from _optional("gateway", mdn.gateway)
    for name, values in (("error", mdn.error), ("failure", mdn.failure), ("warning", mdn.warning)):
        for value in values:
            yield _line(name, value)
    for identifier in mdn.also_acknowledged:
        yield _line("acknowledges too", f"<{identifier}>")
    for name, value in mdn.extensions:
        yield _line("extension", f"{name}: {value}")


def _dsn_lines(dsn: Dsn) -> Iterator[str]:
    yield from _optional("reporting MTA", dsn.reporting_mta)
    yield from _optional("original envelope id", dsn.original_envelope_id)
    for recipient in dsn.recipients:
        what = recipient.action or recipient.action_text or "no action"
        yield _line("recipient", f"{recipient.address or '(not told)'}: {what} {recipient.status or ''}".rstrip())
        yield from _optional("diagnostic", recipient.diagnostic_code)


def _tie_lines(ties: Sequence[Tie]) -> Iterator[str]:
    for tie in ties:
        yield _line("about", f"<{tie.id}> ({tie.source})")
    if not ties:
        yield _line("about", "no message is cited")


def _optional(name: str, value: str | None) -> Iterator[str]:
    if value:
        yield _line(name, value)


def _line(name: str, value: str) -> str:
    return f"  {name:<21}{visible(value)}"
