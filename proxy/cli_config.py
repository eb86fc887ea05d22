"""``kaifu config check``: are settings and policy valid, and what do they mean?

Reads what the relay would read at start (settings, policy, certificates) and looks whether the directories are there. It
opens neither the ledger nor a port, and asks a Postfix that is here for its settings, so it is safe beside a running relay and as another user. Problems go to stderr as
FILE:LINE:COLUMN, with exit status 2; what will be used goes to stdout, in words.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields
from pathlib import Path

import click

from kaifu.policies.decision import Confirm, DeliveryReport
from kaifu.policies.document import Problem, ProblemsError
from kaifu.policies.load import lint, load_file
from kaifu.policies.rules import Policy

from . import postfixcheck
from .access import changeable, unknown
from .display import visible
from .incoming import directory_problem
from .ledger_open import ledger_path
from .nexthop import tls_problems
from .settings import Anchors, Listener, MilterSettings, RelaySettings, Roles, Settings, config_path, read_settings
from .trust import Trust
from .trustfiles import trust_of


@click.group()
def config() -> None:
    """Check the settings."""


@config.command()
@click.option(
    "--config", "file", type=click.Path(), help="Settings file; else $KAIFU_CONFIG, else /etc/kaifu/kaifu.yaml."
)
def check(file: str | None) -> None:
    """Check settings and policy, and say in words what they mean.

    Exit status 0 when kaifu can use them, else 2. Warnings alone do not fail.
    """
    try:
        settings, warnings = read_settings(config_path(file))
    except ProblemsError as error:
        _complain(error)
        sys.exit(2)
    for warning in warnings:
        click.echo(str(warning), err=True)
    for sentence in _about_roles(settings):
        click.echo(f"{settings.file}: warning: {visible(sentence)}", err=True)
    policy = _policy(settings)
    for sentence in _about_postfix(settings, policy):
        click.echo(f"{settings.file}: warning: {visible(sentence)}", err=True)
    trust = _trust(settings)
    around = list(_surroundings(settings))
    for problem in around:
        click.echo(f"{settings.file}: {problem}", err=True)
    if policy is None or trust is None or around:
        sys.exit(2)
    for line in _in_words(settings, policy, trust):
        click.echo(line)


def _complain(error: ProblemsError) -> None:
    for problem in error.problems:
        click.echo(str(problem), err=True)


def _policy(settings: Settings) -> Policy | None:
    try:
        policy = load_file(settings.policy)
    except ProblemsError as error:
        _complain(error)
        return None
    for warning in lint(policy):
        click.echo(str(warning), err=True)
    if not settings.border:
        thens = (*policy.defaults.values(), *(rule.then for rule in policy.rules))
        for then in thens:
            if then.confirm is Confirm.AUTHENTICATED:
                message = "nothing is ever authenticated, because the settings name no border that checks mail for us"
                click.echo(str(Problem(policy.file, *then.places["confirm"], message, None, "warning")), err=True)
    return policy


def _trust(settings: Settings) -> Trust | None:
    try:
        trust, left_out = trust_of(settings)
    except ProblemsError as error:
        _complain(error)
        return None
    for problem in left_out:
        click.echo(visible(str(problem)), err=True)
    return trust


def _surroundings(settings: Settings) -> Iterator[str]:
    """What is missing around a settings file that is right in itself."""
    ledger = ledger_path(settings.ledger)
    try:
        if not ledger.parent.is_dir():
            yield f"ledger: there is no directory {ledger.parent}"
        elif ledger.exists() and ledger.stat().st_uid != ledger.parent.stat().st_uid:
            yield f"ledger: {ledger} has another owner than its directory, so the service could not write it"
    except PermissionError:
        yield f"ledger: this user may not look at {ledger}; act as the service user or as root"
    if settings.milter is not None and settings.milter.listen.startswith("unix:"):
        directory = Path(settings.milter.listen.removeprefix("unix:")).parent
        if not directory.is_dir():
            yield f"milter.listen: there is no directory {directory}"
    if settings.relay is None:
        return
    if problem := directory_problem(settings.relay.temporary_directory):
        yield f"relay.temporary_directory: {problem}"
    yield from tls_problems(settings.relay)


def _in_words(settings: Settings, policy: Policy, trust: Trust) -> Iterator[str]:
    yield f"{settings.file} is valid."
    yield "Ours: " + ", ".join(
        f"{domain[1:]} and its subdomains" if domain.startswith(".") else domain for domain in settings.realm.domains
    )
    mode = "enforced" if policy.mode == "enforce" else "observed only: nothing is changed or withheld"
    yield f"Policy: {settings.policy}, {_count(len(policy.rules), 'rule')}, {mode}"
    failure = {
        "defer": "when it fails, mail that needs it gets 451 and other mail passes",
        "pass": "when it fails, mail passes without a request added, and receipts that might be withheld get 451",
    }[settings.on_ledger_failure]
    yield f"Ledger: {ledger_path(settings.ledger)}; {failure}"
    yield "Into the ledger may look: " + _roles_in_words(settings.roles)
    yield "Anchors of the ledger go " + _anchors_in_words(settings.anchors)
    yield f"Time zone: {settings.zone.key}"
    if settings.border:
        yield f"Border: the Authentication-Results of {' and '.join(settings.border)} are believed; other answers are claimed"
    else:
        yield "Border: none, so every answer is only claimed"
    if settings.aliases:
        yield f"Aliases: {_count(len(trust.aliases), 'name')} from " + ", ".join(map(str, settings.aliases))
    if settings.relay is not None:
        yield from _relay_in_words(settings.relay)
    if settings.milter is not None:
        yield from _milter_in_words(settings.milter)
    if settings.relay is None and settings.milter is None:
        yield "Neither relay nor milter is configured."


def _about_roles(settings: Settings) -> Iterator[str]:
    """What keeps people from the roles that the settings give them."""
    yield from unknown(settings.roles)
    trusted = {0}
    with suppress(OSError):
        trusted.add(ledger_path(settings.ledger).parent.stat().st_uid)
    if settings.roles != Roles() and (reason := changeable(settings.file, frozenset(trusted))) is not None:
        yield f"roles: nobody has one by these settings, because strangers could write them: {reason}"


def _about_postfix(settings: Settings, policy: Policy | None) -> list[str]:
    """What in the Postfix here would keep the milter from deciding, or make it lose mail."""
    if settings.milter is None or policy is None:
        return []
    thens = (*policy.defaults.values(), *(rule.then for rule in policy.rules))
    changed = (DeliveryReport.ADD, DeliveryReport.STRIP)
    return postfixcheck.warnings(
        settings.milter.listen, changes_reports=any(then.delivery_report in changed for then in thens)
    )


def _roles_in_words(roles: Roles) -> str:
    named = {role.name: getattr(roles, role.name) for role in fields(roles)}
    others = [f"{', '.join(names)} as {role}" for role, names in named.items() if names]
    return "; ".join(["root and the service user", *others])


def _anchors_in_words(anchors: Anchors) -> str:
    places = []
    if anchors.file is not None:
        places.append(f"into {anchors.file}")
    if anchors.command is not None:
        places.append(f"to the program {anchors.command[0]}")
    if anchors.mail is not None:
        places.append(f"by mail to {', '.join(anchors.mail.to)} through {_address(*anchors.mail.server)}")
    return ", ".join(places) or "nowhere; what they are for is in the guide"


def _relay_in_words(relay: RelaySettings) -> Iterator[str]:
    workers = f", {relay.workers} workers" if relay.workers > 1 else ""
    yield f"Relay: named {relay.hostname}{workers}"
    for listener in relay.listen:
        yield f"  listens on {_listener(listener)}"
    yield "  for clients in " + ", ".join(map(str, relay.clients))
    towards = {
        "none": "never with TLS",
        "opportunistic": "with TLS when offered",
        "required": "with TLS always, whatever the certificate",
        "verify": "with TLS always, certificate verified",
        "implicit": "with TLS from the first octet, certificate verified",
    }[relay.tls.next_hop]
    yield f"  hands mail to {_address(*relay.next_hop)}, {towards}"
    extras = [word for word, on in (("AUTH passed through", relay.auth), ("XFORWARD sent", relay.xforward)) if on]
    if extras:
        yield f"  {' and '.join(extras)} when the next hop offers it"
    limits = relay.limits
    yield (
        f"  at most {limits.connections} connections, {limits.connections_per_client} from one client,"
        f" {_count(limits.recipients, 'recipient')} a message, {limits.temporary_disk >> 20} MiB of temporary files"
    )


def _milter_in_words(milter: MilterSettings) -> Iterator[str]:
    yield f"Milter: listens on {milter.listen}"
    if milter.listen.startswith("unix:"):
        group = f"group {milter.socket_group}" if milter.socket_group else "our own group"
        yield f"  for whom mode {milter.socket_mode:04o} and {group} let in"
    if milter.outside:
        yield "  facing outside: a sender of ours is a stranger here"
    yield "  when recipients of a message differ, the strictest header edit counts for all"


def _listener(listener: Listener) -> str:
    offered = {"none": "", "starttls": ", STARTTLS offered", "implicit": ", TLS from the first octet"}[listener.tls]
    outside = ", facing outside: a sender of ours is a stranger here" if listener.outside else ""
    return f"{_address(listener.host, listener.port)}{offered}{outside}"


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
