"""``kaifu policy explain``: the decision about a message in a file, and the reason, for each recipient.

Reads the file, the policy and, when settings are used, the ledger; sends and changes nothing, except that to have asked the ledger
about somebody is on record there. Exit status 0; 2 when something cannot be read or understood.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NoReturn

import click

from kaifu.policies.addresses import is_domain
from kaifu.policies.document import ProblemsError
from kaifu.policies.facts import Realm
from kaifu.policies.load import load_file
from kaifu.policies.rules import Policy
from kaifu.proxy.access import access, caller
from kaifu.proxy.display import json_line, visible
from kaifu.proxy.explain import Explanation, Question, as_lines, as_object, explain
from kaifu.proxy.ledger import LedgerError
from kaifu.proxy.ledger_cli import Failure, failing, trusted_settings
from kaifu.proxy.ledger_desk import Desk
from kaifu.proxy.ledger_open import ledger_path
from kaifu.proxy.settings import Settings, config_path
from kaifu.proxy.trust import NO_TRUST
from kaifu.proxy.trustfiles import trust_of


@dataclass(frozen=True, slots=True)
class _Sources:
    """Where the answer comes from. ``settings`` None: policy and realm were given."""

    policy: Policy
    realm: Realm
    settings: Settings | None


@click.command("explain")
@click.argument("file", metavar="FILE.eml")
@click.option("--from", "sender", required=True, help='The reverse-path; "<>" for the null one.')
@click.option("--to", "recipients", required=True, multiple=True, help="A recipient; may be given again.")
@click.option("--policy", "policy_file", type=click.Path(), help="A policy file, instead of the one of the settings.")
@click.option("--realm", "domains", multiple=True, help="A domain of ours, .example.com with all below; with --policy.")
@click.option("--config", type=click.Path(), help="Settings file; else $KAIFU_CONFIG, else /etc/kaifu/kaifu.yaml.")
@click.option("--at", metavar="TIME", help="Decide as at that time (2026-11-21T09:30); otherwise now.")
@click.option("--outside", is_flag=True, help="As on a listener that is marked outside.")
@click.option("--no-dsn", is_flag=True, help="As if the next hop did not offer DSN.")
@click.option("--json", "as_json", is_flag=True, help="One object.")
def explain_command(
    file: str,
    sender: str,
    recipients: tuple[str, ...],
    policy_file: str | None,
    domains: tuple[str, ...],
    config: str | None,
    at: str | None,
    outside: bool,
    no_dsn: bool,
    as_json: bool,
) -> None:
    """Say what would happen to the message in FILE.eml, for each recipient, and why.

    Without --policy the settings say which policy, which realm and which ledger. A file with bare LF line ends is
    read as if they were CRLF. "-" reads standard input.
    """
    try:
        sources = _sources(policy_file, domains, config)
        now = _moment(at, sources.settings)
        trust = trust_of(sources.settings)[0] if sources.settings is not None else NO_TRUST
        question = Question(sender, recipients, _read(file), now, None, outside, not no_dsn, trust)
        told = _answer(sources, question)
    except ProblemsError as error:
        _fail(*map(str, error.problems))
    except (LedgerError, ValueError) as error:
        _fail(str(error))
    if as_json:
        click.echo(json_line(as_object(file, told)))
    else:
        for line in as_lines(file, told):
            click.echo(visible(line))


def _answer(sources: _Sources, question: Question) -> Explanation:
    settings = sources.settings
    if settings is None:
        return explain(sources.policy, sources.realm, question)
    path = ledger_path(settings.ledger)
    try:
        with Desk(path, access(caller(), settings.roles)) as desk, failing(path):
            return explain(sources.policy, sources.realm, question.asking(desk.known))
    except (LedgerError, Failure) as error:
        click.echo(visible(f"{error}; explained without it"), err=True)
        return explain(sources.policy, sources.realm, question)


def _sources(policy_file: str | None, domains: tuple[str, ...], config: str | None) -> _Sources:
    """Policy and realm as given, the rest from the settings. Raises ProblemsError or ValueError."""
    if policy_file is None and domains:
        raise ValueError("--realm goes with --policy; the settings have a realm of their own")
    if policy_file is not None and domains:
        return _Sources(load_file(policy_file), _realm(domains), None)
    path = config_path(config)
    if policy_file is not None and config is None and not path.exists():
        raise ValueError("--policy needs --realm DOMAIN (which domains are ours?), or settings that say it")
    settings = trusted_settings(config, caller())
    return _Sources(load_file(policy_file or settings.policy), settings.realm, settings)


def _realm(domains: tuple[str, ...]) -> Realm:
    plain = tuple(domain.removeprefix("@") for domain in domains)
    for domain, given in zip(plain, domains, strict=True):
        if not is_domain(domain.removeprefix(".")):
            raise ValueError(f'--realm "{given}": no domain; write example.com, or .example.com with all below')
    return Realm(plain)


def _moment(at: str | None, settings: Settings | None) -> datetime:
    zone = settings.zone if settings is not None else None
    if at is None:
        return datetime.now(zone).astimezone(zone)
    try:
        moment = datetime.fromisoformat(at)
    except ValueError:
        raise ValueError(f"--at {at}: no time; write it as 2026-11-21T09:30 or 2026-11-21T09:30+09:00") from None
    if moment.tzinfo is None and zone is not None:
        return moment.replace(tzinfo=zone)
    try:
        return moment.astimezone(zone)
    except OverflowError:
        raise ValueError(f"--at {at}: that time is out of reach") from None


def _read(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror or error}") from None


def _fail(*problems: str) -> NoReturn:
    for problem in problems:
        click.echo(visible(problem), err=True)
    sys.exit(2)
