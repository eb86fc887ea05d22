"""``kaifu receipts``: who was asked, what came back, and what people noted.

``list``, ``show`` and ``export`` read page by page and never hold the relay up; that somebody looked is an entry. So does
``unmatched``, over what names no message of ours. ``note`` and ``pair`` write one entry. Exit status 0; ``show`` of a message that the ledger does not have 1; bad usage or a ledger that
cannot be used 2.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from kaifu.policies.facts import Direction

from . import ledger_timeline
from .cli_listing import Kind, between, times, with_options
from .display import json_line, visible
from .ledger import EvidenceKind, Grade, Outcome, RequestState
from .ledger_cli import (
    Chosen,
    NewFile,
    a_moment,
    any_of,
    at_desk,
    can_show,
    chosen,
    given_anchors,
    ledger_options,
    moment,
    right_now,
    standard_output,
)
from .ledger_desk import CONFIRMED_BY, Desk, Detail, Filter, Handover, Row
from .ledger_shown import local, table, write_csv, write_json
from .ledger_states import MARKS, State

_COUNTED = 1_000_000


@click.group()
def receipts() -> None:
    """Who was asked for a receipt, and what came back."""


_ADDRESS = "an address, @domain, @.domain with subdomains, or a part of an address"


def _words_option(flag: str, name: str, words: tuple[str, ...]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A filter by words of a fixed set."""
    metavar = f"{flag.removeprefix('--').upper()},…"
    return click.option(flag, name, multiple=True, callback=any_of(words), metavar=metavar, help=f"{', '.join(words)}.")


_filters = with_options(
    click.option("--from", "sender", metavar="WHO", help=f"Sender: {_ADDRESS}."),
    click.option("--to", metavar="WHO", help="Recipient, likewise."),
    click.option("--person", metavar="WHO", help="Sender or recipient, likewise."),
    between("Came through at or after", "Came through before"),
    _words_option("--state", "states", tuple(State)),
    click.option("--rule", metavar="NAME", help="The rule that decided."),
    _words_option("--direction", "directions", tuple(Direction)),
    _words_option("--kind", "kinds", ("mail", "mdn", "dsn")),
    _words_option("--request", "requests", tuple(RequestState)),
    _words_option("--grade", "grades", (*Grade, EvidenceKind.ATTESTED)),
    _words_option("--outcome", "outcomes", tuple(Outcome)),
    click.option("--message-id", metavar="ID", help="The Message-ID, with or without brackets."),
    click.option("--subject", metavar="TEXT", multiple=True, help="Part of the subject; several must all occur."),
)


def _filter(where: Chosen, options: dict[str, Any]) -> Filter:
    if options["message_id"]:
        options["message_id"] = options["message_id"].strip().removeprefix("<").removesuffix(">").strip()
    return Filter(
        **times(where, options),
        **{key: value for key, value in options.items() if value is not None},
    )


def _marks() -> str:
    return "unicode" if can_show("".join(MARKS["unicode"])) else "ascii"


def _console() -> Console:
    """For text that may hold anything: no markup, no guesses; in a pipe lines are as long as they need to be."""
    if not can_show("あ"):
        standard_output(errors="backslashreplace")
    width = None if sys.stdout.isatty() else 10_000
    return Console(markup=False, highlight=False, emoji=False, soft_wrap=not sys.stdout.isatty(), width=width)


_ROWS = Kind("recipient", "rows", write_json, write_csv)


@receipts.command("list")
@_filters
@_ROWS.list_options
@ledger_options
def list_command(config: str | None, ledger_url: str | None, **options: Any) -> None:
    """Messages and their receipts, one row per recipient.

    On a terminal the newest 50 are shown, unless --limit says otherwise; programs get all of them.
    """
    listing = _ROWS.listing(options)
    where = chosen(config, ledger_url)
    wanted = _filter(where, options)
    with at_desk(where) as desk:
        listing.show(desk.rows(wanted, **listing.how), lambda found: _print_table(found, where))


def _print_table(found: Iterator[Row], where: Chosen) -> None:
    first = next(found, None)
    if first is None:
        click.echo("Nothing in the ledger fits.")
        return
    table((row for some in ((first,), found) for row in some), _console(), where.zone, _marks(), where.typed())


@receipts.command()
@click.argument("name", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="One object per message, each on one line.")
@click.option(
    "--bundle",
    "output",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    metavar="FILE.zip",
    help="Make an evidence bundle instead; - writes it to standard output.",
)
@click.option(
    "--to", metavar="ADDRESS", help="Whose record the bundle has; needed when the message has several recipients."
)
@click.option("--recipient", "receiver", metavar="WHO", help="To whom you hand the bundle; on record.")
@click.option("--purpose", metavar="TEXT", help="Why you hand it out; on record.")
@click.option(
    "--anchor",
    "given",
    multiple=True,
    metavar="LINE|FILE",
    help="An anchor that whoever gets the bundle holds, so that the proofs in it lead down from there too.",
)
@ledger_options
def show(
    name: str, as_json: bool, output: Path | None, config: str | None, ledger_url: str | None, **options: Any
) -> None:
    """All about one message: what was decided and why, and what came back.

    ID is the number that the list shows, or a Message-ID.

    With --bundle, the record of one recipient for somebody who has no ledger: a page for people, the same as JSON, the raw reports,
    and a proof with a program that checks it. What concerns other recipients is left out. FILE.zip is never overwritten;
    through sudo write --bundle - > FILE.zip instead, so that the file is yours.
    """
    if output is not None:
        _hand_out(name, as_json, output, chosen(config, ledger_url), **options)
        return
    if any(options.values()):
        raise click.UsageError("--to, --recipient, --purpose and --anchor go with --bundle")
    where = chosen(config, ledger_url)
    with at_desk(where) as desk:
        details = desk.details(name)
    if not details:
        click.echo(visible(f"The ledger has no message {name}."), err=True)
        sys.exit(1)
    for place, one in enumerate(details):
        if as_json:
            click.echo(json_line(ledger_timeline.as_object(one)))
        else:
            _print_detail(one, where, place)


def _hand_out(
    name: str,
    as_json: bool,
    output: Path,
    where: Chosen,
    *,
    to: str | None,
    receiver: str | None,
    purpose: str | None,
    given: tuple[str, ...],
) -> None:
    """``--bundle``: the entry that it is handed out is committed before the file is there."""
    if as_json:
        raise click.UsageError("give --json or --bundle, not both")
    if not (receiver or "").strip() or not (purpose or "").strip():
        raise click.UsageError("--bundle needs --recipient (to whom it is handed) and --purpose (why)")
    handover = Handover(str(receiver), str(purpose))
    if str(output) == "-":
        if sys.stdout.isatty():
            raise click.UsageError("a bundle is no text for a terminal; write > FILE.zip")
        with at_desk(where) as desk:
            anchors = [anchor for text in given for anchor in given_anchors(desk, text)]
            octets = desk.bundle(name, to, handover, anchors, where.zone)
        sys.stdout.buffer.write(octets)
        return
    with at_desk(where) as desk:
        desk.own_files("--bundle FILE", "write --bundle - > FILE")
        anchors = [anchor for text in given for anchor in given_anchors(desk, text)]
        with NewFile(output) as file:
            octets = desk.bundle(name, to, handover, anchors, where.zone, file.fill)
            file.appear()
    click.echo(
        visible(f"{output}: {len(octets)} octets, handed to {handover.to}; SHA-256 {sha256(octets).hexdigest()}"),
        err=True,
    )


def _print_detail(one: Detail, where: Chosen, place: int) -> None:
    console = _console()
    if place:
        console.print()
    for line in ledger_timeline.lines(one, where.zone, _marks(), where.typed()):
        console.print(line, soft_wrap=True)


@receipts.command("export")
@_filters
@_ROWS.export_options
@ledger_options
def export_command(config: str | None, ledger_url: str | None, **options: Any) -> None:
    """Everything that fits, oldest first, as CSV or JSON.

    FILE is readable by you alone (mode 0600) and there only when it is complete. Through sudo write > FILE instead, so that it is
    yours.
    """
    export = _ROWS.export(options)
    where = chosen(config, ledger_url)
    wanted = _filter(where, options)
    with at_desk(where) as desk:
        export.check(desk)
        export.rows(desk.rows(wanted, what="export", newest_first=False), _progress(desk, wanted))


@contextmanager
def _progress(desk: Desk, wanted: Filter) -> Iterator[Callable[[Iterable[Row]], Iterator[Row]]]:
    """Counts rows through a bar on standard error, when that is a terminal."""
    if not sys.stderr.isatty():
        yield iter
        return
    total = desk.count(wanted, most=_COUNTED, what="export")
    columns = (TextColumn("rows"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total if total < _COUNTED else None)

        def counted(found: Iterable[Row]) -> Iterator[Row]:
            for row in found:
                yield row
                progress.advance(task)

        yield counted


@receipts.command()
@click.argument("name", metavar="ID")
@click.option("--to", metavar="ADDRESS", help="The recipient; needed when the message has several.")
@click.option("--confirmed-by", type=click.Choice(CONFIRMED_BY), help="How you learned of it.")
@click.option("--at", callback=a_moment, metavar="TIME", help="When it was confirmed; else now.")
@click.option("--text", default="", help="What was said, in your words.")
@click.option("--revoke", "revoked", type=click.IntRange(min=1), metavar="ENTRY", help="Take a note back.")
@ledger_options
def note(
    name: str,
    to: str | None,
    confirmed_by: str | None,
    at: str | None,
    text: str,
    revoked: int | None,
    config: str | None,
    ledger_url: str | None,
) -> None:
    """Note that a recipient confirmed otherwise: on the phone, in person, by letter or chat.

    A note stands beside the receipts and changes no state. It stays; --revoke takes it back with a further entry.
    """
    where = chosen(config, ledger_url)
    if (confirmed_by is None) == (revoked is None):
        raise click.UsageError("give --confirmed-by, or --revoke ENTRY")
    seen_at = right_now() if at is None else moment(at, where.zone)
    if seen_at > right_now():
        raise click.UsageError("--at lies in the future")
    with at_desk(where) as desk:
        recipients = desk.recipients_called(name, to, "note")
        if revoked is not None:
            number = desk.revoke(revoked, recipients)
            click.echo(f"Entry {number}: note {revoked} is revoked.")
        elif confirmed_by is not None:
            number = desk.attest(recipients[0], confirmed_by, seen_at, text)
            again = where.typed(*_words("note", name, to, config, number))
            click.echo(f"Entry {number}: noted. To take it back: {visible(again)}")


@receipts.command()
@click.argument("name", metavar="ID")
@click.option("--to", metavar="RECIPIENT", help="The recipient that was asked; needed when the message has several.")
@click.option("--with", "other", metavar="ADDRESS", help="The address that answered instead.")
@click.option("--text", default="", help="How you know, in your words.")
@click.option("--revoke", "revoked", type=click.IntRange(min=1), metavar="ENTRY", help="Take a pairing back.")
@ledger_options
def pair(
    name: str,
    to: str | None,
    other: str | None,
    text: str,
    revoked: int | None,
    config: str | None,
    ledger_url: str | None,
) -> None:
    """Say that another address answers for a recipient: what came from it counts, for this message and all others.

    It stays on record that you said so; --revoke takes it back with a further entry.
    """
    if (other is None) == (revoked is None):
        raise click.UsageError("give --with ADDRESS, or --revoke ENTRY")
    where = chosen(config, ledger_url)
    with at_desk(where) as desk:
        recipients = desk.recipients_called(name, to, "pair")
        if revoked is not None:
            number = desk.unpair(revoked, recipients)
            click.echo(f"Entry {number}: pairing {revoked} is revoked.")
        elif other is not None:
            number = desk.pair(recipients[0], other.strip(), text)
            again = where.typed(*_words("pair", name, to, config, number))
            click.echo(f"Entry {number}: paired. To take it back: {visible(again)}")


@receipts.command()
@click.option("--json", "as_json", is_flag=True, help="One object per piece of evidence, each on one line.")
@ledger_options
def unmatched(as_json: bool, config: str | None, ledger_url: str | None) -> None:
    """Receipts that name no message of ours, newest first; they are kept for 14 days.

    Delivery reports about other mail are counted (ledger stats) and not kept.
    """
    where = chosen(config, ledger_url)
    with at_desk(where) as desk:
        found = desk.unmatched()
    if as_json:
        standard_output(encoding="utf-8", newline="")
    elif not found:
        click.echo("No unmatched receipts in the last 14 days.")
    console = _console()
    for one in found:
        if as_json:
            click.echo(json_line(ledger_timeline.unmatched_object(one)))
        else:
            carrier = f" (message {one.carrier})" if one.carrier is not None else ""
            line = f"{local(one.at, where.zone)}  {ledger_timeline.unmatched_line(one)}{carrier}"
            console.print(line, soft_wrap=True)


def _words(command: str, name: str, to: str | None, config: str | None, entry: int) -> list[str]:
    """The command that revokes a note or a pairing."""
    words = ["receipts", command, name, "--revoke", str(entry)]
    words += ["--to", to] if to is not None else []
    return words + (["--config", config] if config is not None else [])
