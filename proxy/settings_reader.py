"""From a settings file's nodes to :class:`kaifu.proxy.settings.Settings`, collecting everything that is wrong.

Called by :func:`kaifu.proxy.settings.read_settings` alone. Each method reads one value; it gives None for what is
wrong, after it has said so, and the reader goes on, so that one run shows every mistake. Key names stand once: a
section's keys are the fields of its dataclass.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from dataclasses import fields
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, TypeVar, get_args
from urllib.parse import quote
from zoneinfo import ZoneInfo, available_timezones

from kaifu.policies.addresses import is_domain
from kaifu.policies.document import Checker, Node, Problem, ProblemsError, nearest, read
from kaifu.policies.facts import Realm, domain_key
from kaifu.policies.nodes import MappingNode

from .settings import (
    Limits,
    Listener,
    ListenerTls,
    MilterSettings,
    MixedRecipients,
    Network,
    NextHopTls,
    OnLedgerFailure,
    RelaySettings,
    Settings,
    Timeouts,
    Tls,
)
from .settings_anchors import anchors
from .settings_roles import roles
from .settings_trust import aliases, border
from .settings_tui import tui

T = TypeVar("T")

STANCES: dict[str, OnLedgerFailure] = {word: word for word in get_args(OnLedgerFailure)}
LISTENER_TLS: dict[str, ListenerTls] = {word: word for word in get_args(ListenerTls)}
MIXED: dict[str, MixedRecipients] = {word: word for word in get_args(MixedRecipients)}
MOST_UNIX_PATH = 107
"""Octets of a unix socket's path (sockaddr_un)."""
NEXT_HOP_TLS: dict[str, NextHopTls] = {word: word for word in get_args(NextHopTls)}
OCTETS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
LEDGER_FORM = "sqlite:////absolute/path, or sqlite:///path relative to this file"


def read_file(path: Path) -> tuple[Settings, tuple[Problem, ...]]:
    """Settings and warnings, or :class:`ProblemsError`."""
    try:
        octets = path.read_bytes()
    except OSError as error:
        message = f"cannot be read: {error.strerror}; name another file with --config or $KAIFU_CONFIG"
        raise ProblemsError([Problem(str(path), 1, 1, message)]) from None
    root, problems = read(octets, str(path))
    reader = SettingsReader(path, problems)
    settings = reader.settings(root) if root is not None else None
    reader.check.raise_errors()
    assert settings is not None, "a file without errors gives settings"
    return settings, tuple(reader.check.problems)


def _is_ip(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _host(text: str) -> str | None:
    """The host of ``host:port``: a name in A-labels, an IPv4 address, or what stands in ``[IPv6]``."""
    if text.startswith("[") and text.endswith("]"):
        return text[1:-1] if ":" in text and _is_ip(text[1:-1]) else None
    if re.fullmatch("[0-9.]+", text):
        return text if _is_ip(text) else None
    return domain_key(text) if is_domain(text) else None


class SettingsReader:
    """Nodes to values."""

    def __init__(self, path: Path, problems: list[Problem]) -> None:
        self.path = path
        self.directory = path.absolute().parent
        self.check = Checker(str(path), problems)
        self.certificate = False

    def section(
        self, node: Node, what: str, keys: dict[str, Callable[[Node], object]], required: tuple[str, ...] = ()
    ) -> dict[str, Any] | None:
        """The values of a mapping's keys that were given and are right, read in the order of ``keys``."""
        entries = self.check.as_mapping(node, what, keys, required=required)
        if entries is None:
            return None
        values = {key: convert(entries[key][1]) for key, convert in keys.items() if key in entries}
        return {key: value for key, value in values.items() if value is not None}

    def settings(self, root: Node) -> Settings | None:
        found = self.section(
            root,
            "the file",
            {
                "realm": self.realm,
                "policy": lambda node: self.file(node, "policy"),
                "ledger": self.ledger,
                "on_ledger_failure": lambda node: self.check.as_choice(node, "on_ledger_failure", STANCES),
                "zone": self.zone,
                "relay": self.relay,
                "milter": self.milter,
                "border": lambda node: border(self.check, node),
                "aliases": lambda node: aliases(self.check, node, self.directory),
                "roles": lambda node: roles(self.check, node),
                "anchors": lambda node: anchors(self, node),
                "tui": lambda node: tui(self.check, node),
            },
            required=("realm", "policy", "ledger"),
        )
        if found is None or not {"realm", "policy", "ledger"} <= found.keys():
            return None
        return Settings(file=self.path, **{"on_ledger_failure": "defer", "zone": ZoneInfo("UTC"), **found})

    # --- what both hosts need --------------------------------------------------------------------------------

    def file(self, node: Node, what: str) -> Path | None:
        """A path, relative to the settings file's directory."""
        text = self.check.as_str(node, what)
        return None if text is None else self.directory / text

    def realm(self, node: Node) -> Realm | None:
        items = self.check.as_list(node, "realm", one=True)
        if items is None:
            return None
        if not items:
            self.check.error(node, "realm names no domain, so nothing would be ours")
        domains = [domain for item in items if (domain := self.domain(item)) is not None]
        return Realm(domains) if domains else None

    def domain(self, node: Node) -> str | None:
        text = self.check.as_str(node, "a domain of the realm")
        if text is None or is_domain(text.removeprefix(".")):
            return text
        bare = text.removeprefix("@").removeprefix("*")
        hint = bare if bare != text and is_domain(bare.removeprefix(".")) else None
        self.check.error(node, f'"{text}" is no domain name; with a leading dot it means all subdomains too', hint)
        return None

    def ledger(self, node: Node) -> str | None:
        text = self.check.as_str(node, "ledger")
        if text is None:
            return None
        where = text.removeprefix("sqlite:///")
        if where != text and where and not re.search("[?#]", where) and not where.endswith("/"):
            if where.startswith("/"):
                return text
            return f"sqlite:///{quote(str(self.directory), safe='/')}/{where}"
        hint = f"sqlite:///{text}" if text.startswith("/") else None
        self.check.error(node, f'ledger must be {LEDGER_FORM}, without options; not "{text}"', hint)
        return None

    def zone(self, node: Node) -> ZoneInfo | None:
        text = self.check.as_str(node, "zone")
        if text is None:
            return None
        try:
            return ZoneInfo(text)
        except (KeyError, ValueError, OSError):
            self.check.error(node, f'no time zone has the name "{text}"', nearest(text, available_timezones()))
            return None

    # --- the relay -------------------------------------------------------------------------------------------

    def relay(self, node: Node) -> RelaySettings | None:
        found = self.section(
            node,
            "relay",
            {
                "tls": self.tls,
                "listen": self.listeners,
                "next_hop": self.next_hop,
                "hostname": self.hostname,
                "clients": self.clients,
                "workers": lambda node: self.check.as_int(node, "relay.workers", 1, 64),
                "limits": self.limits,
                "timeouts": self.timeouts,
                "temporary_directory": lambda node: self.file(node, "relay.temporary_directory"),
                "xforward": lambda node: self.check.as_bool(node, "relay.xforward"),
                "auth": lambda node: self.check.as_bool(node, "relay.auth"),
            },
            required=("listen", "next_hop"),
        )
        if found is None or not {"listen", "next_hop"} <= found.keys():
            return None
        return RelaySettings(**{"hostname": socket.getfqdn(), **found})

    # --- the milter ------------------------------------------------------------------------------------------

    def milter(self, node: Node) -> MilterSettings | None:
        found = self.section(
            node,
            "milter",
            {
                "listen": self.milter_socket,
                "hostname": lambda node: self.host_name(node, "milter.hostname"),
                "socket_group": lambda node: self.check.as_str(node, "milter.socket_group"),
                "socket_mode": self.mode,
                "mixed_recipients": lambda node: self.check.as_choice(node, "milter.mixed_recipients", MIXED),
                "outside": lambda node: self.check.as_bool(node, "milter.outside"),
            },
            required=("listen",),
        )
        if found is None or "listen" not in found:
            return None
        return MilterSettings(**{"hostname": socket.getfqdn(), **found})

    def milter_socket(self, node: Node) -> str | None:
        text = self.check.as_str(node, "milter.listen")
        if text is None:
            return None
        inet = re.fullmatch(r"inet6?:([0-9]{1,5})@(\S+)", text)
        if (text.startswith("unix:/") and len(text.encode()) <= 5 + MOST_UNIX_PATH) or (inet and int(inet[1]) < 65536):
            return text
        hint = f"unix:{text}" if text.startswith("/") else None
        self.check.error(node, f'milter.listen must be unix:/absolute/path or inet:port@host, not "{text}"', hint)
        return None

    def mode(self, node: Node) -> int | None:
        text = self.check.as_str(node, "milter.socket_mode")
        if text is None:
            return None
        if re.fullmatch("0?[0-7]{3}", text):
            return int(text, 8)
        self.check.error(node, f'milter.socket_mode must be three octal digits such as 0660, not "{text}"')
        return None

    def tls(self, node: Node) -> Tls | None:
        what = "relay.tls"
        found = self.section(
            node,
            what,
            {
                "certificate": lambda node: self.file(node, f"{what}.certificate"),
                "key": lambda node: self.file(node, f"{what}.key"),
                "next_hop": lambda node: self.check.as_choice(node, f"{what}.next_hop", NEXT_HOP_TLS),
                "ca": lambda node: self.file(node, f"{what}.ca"),
                "next_hop_name": lambda node: self.host_name(node, f"{what}.next_hop_name"),
            },
        )
        if found is None:
            return None
        self.certificate = "certificate" in found
        if "key" in found and not self.certificate:
            self.check.error(node, f"{what} has a key, but no certificate")
        if found.keys() & {"ca", "next_hop_name"} and found.get("next_hop") not in ("verify", "implicit"):
            message = "ca and next_hop_name need next_hop: verify or implicit; else no certificate is looked at"
            self.check.error(node, f"{what}: {message}")
        return Tls(**found)

    def listeners(self, node: Node) -> tuple[Listener, ...] | None:
        nodes = (node,) if isinstance(node, MappingNode) else self.check.as_list(node, "relay.listen", one=True)
        if nodes is None:
            return None
        if not nodes:
            self.check.error(node, "relay.listen names no address")
        found: list[Listener] = []
        for item in nodes:
            listener = self.listener(item)
            if listener is None:
                continue
            if listener.port and any((listener.host, listener.port) == (other.host, other.port) for other in found):
                self.check.error(item, f"relay.listen names {listener.host} port {listener.port} twice")
            found.append(listener)
        return tuple(found) or None

    def listener(self, node: Node) -> Listener | None:
        tls: ListenerTls = "starttls" if self.certificate else "none"
        if not isinstance(node, MappingNode):
            address = self.address(node, "relay.listen", 0)
            return Listener(*address, tls=tls) if address else None
        what = "a listener"
        found = self.section(
            node,
            what,
            {
                "address": lambda node: self.address(node, "the address of a listener", 0),
                "outside": lambda node: self.check.as_bool(node, "outside"),
                "tls": self.listener_tls,
            },
            required=("address",),
        )
        if found is None or "address" not in found:
            return None
        host, port = found.pop("address")
        return Listener(host, port, **{"tls": tls, **found})

    def listener_tls(self, node: Node) -> ListenerTls | None:
        tls = self.check.as_choice(node, "tls", LISTENER_TLS)
        if tls not in (None, "none") and not self.certificate:
            self.check.error(node, f"tls: {tls} needs a certificate under relay.tls")
        return tls

    def address(self, node: Node, what: str, lowest_port: int) -> tuple[str, int] | None:
        text = self.check.as_str(node, what)
        if text is None:
            return None
        host, _, port = text.rpartition(":")
        if not re.fullmatch("[0-9]{1,9}", port):
            self.check.error(node, f'{what} must be HOST:PORT, not "{text}"', f"{text}:25" if _host(text) else None)
        elif not lowest_port <= int(port) <= 65535:
            self.check.error(node, f"{what}: a port is a number from {lowest_port} to 65535, not {port}")
        elif (name := _host(host)) is not None:
            return name, int(port)
        elif _is_ip(host):
            self.check.error(node, f"{what}: an IPv6 address stands in brackets", f"[{host}]:{port}")
        else:
            hint = f"0.0.0.0:{port}" if host == "*" else f"127.0.0.1:{port}" if host == "" else None
            self.check.error(node, f'{what}: "{host}" is neither an IP address nor a host name', hint)
        return None

    def next_hop(self, node: Node) -> tuple[str, int] | None:
        return self.address(node, "relay.next_hop", 1)

    def hostname(self, node: Node) -> str | None:
        return self.host_name(node, "relay.hostname")

    def host_name(self, node: Node, what: str) -> str | None:
        text = self.check.as_str(node, what)
        if text is None or not is_domain(text):
            if text is not None:
                self.check.error(node, f'{what} must be a host name, not "{text}"')
            return None
        return domain_key(text)

    def clients(self, node: Node) -> tuple[Network, ...] | None:
        nodes = self.check.as_list(node, "relay.clients", one=True)
        if nodes is None:
            return None
        if not nodes:
            self.check.error(node, "relay.clients names no network, so nobody could send; leave it out for loopback")
        return tuple(network for item in nodes if (network := self.network(item)) is not None)

    def network(self, node: Node) -> Network | None:
        text = self.check.as_str(node, "a network of relay.clients")
        if text is None:
            return None
        try:
            network = ip_network(text, strict=False)
        except ValueError:
            message = f'"{text}" is no network; write one as 192.0.2.0/24 or "2001:db8::/32", a single address as it is'
            self.check.error(node, message)
            return None
        if str(network) != text and "/" in text and ip_address(text.split("/")[0]) != network.network_address:
            self.check.error(node, f'"{text}" has bits set beyond its prefix', str(network))
        elif network.prefixlen == 0:
            self.check.warn(
                node, f"{text} lets everybody in: an open relay, unless the next hop refuses strangers' mail"
            )
        return network

    def limits(self, node: Node) -> Limits | None:
        def whole(name: str) -> Callable[[Node], object]:
            return lambda node: self.check.as_int(node, f"limits.{name}", 1, 1_000_000)

        readers = {field.name: whole(field.name) for field in fields(Limits)}
        readers["temporary_disk"] = lambda node: self.octets(node, "limits.temporary_disk")
        found = self.section(node, "relay.limits", readers)
        return None if found is None else Limits(**found)

    def timeouts(self, node: Node) -> Timeouts | None:
        def step(name: str) -> Callable[[Node], object]:
            return lambda node: self.seconds(node, f"timeouts.{name}")

        found = self.section(node, "relay.timeouts", {field.name: step(field.name) for field in fields(Timeouts)})
        return None if found is None else Timeouts(**found)

    def octets(self, node: Node, what: str) -> int | None:
        text = self.check.as_str(node, what)
        found = re.fullmatch("([0-9]{1,15}) ?([A-Za-z]*)", text or "")
        if found and found[2] in OCTETS and int(found[1]):
            return int(found[1]) * OCTETS[found[2]]
        if text is not None:
            unit = nearest(found[2], OCTETS) if found else None
            hint = f"{found[1]}{unit}" if found and unit else None
            self.check.error(node, f'{what} must be a size such as 500MiB or 2GiB, not "{text}"', hint)
        return None

    def seconds(self, node: Node, what: str) -> float | None:
        text = self.check.as_str(node, what)
        found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?) ?([a-z]*)", text or "")
        value = float(found[1]) * SECONDS.get(found[2], 0) if found else 0
        if 0 < value <= 86400:
            return value
        if text is not None:
            self.check.error(node, f'{what} must be a time such as 30s, 5m or 1h, at most 24h, not "{text}"')
        return None
