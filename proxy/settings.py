"""Settings: where to listen, what is ours, where the ledger lies. Not what happens to mail: that is the policy.

``load_settings`` turns one YAML file into a frozen :class:`Settings`, or raises
:class:`kaifu.policies.document.ProblemsError` with every problem of the file at once, each with file, line, column
and the nearest known spelling. Who calls it: every command that reads settings, after :func:`config_path`.

It reads the settings file and nothing else. Whether the policy parses, the certificates load and the ledger can be
written is the business of ``kaifu config check`` and of the command that is about to use them, so that a
settings file can be read on another machine than the one it is for.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

from kaifu.policies.document import Problem
from kaifu.policies.facts import Realm

DEFAULT_CONFIG = Path("/etc/kaifu/kaifu.yaml")

ListenerTls = Literal["none", "starttls", "implicit"]
NextHopTls = Literal["none", "opportunistic", "required", "verify", "implicit"]
OnLedgerFailure = Literal["defer", "pass"]
MixedRecipients = Literal["strictest"]
Network = IPv4Network | IPv6Network

LOOPBACK: tuple[Network, ...] = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


@dataclass(frozen=True, slots=True)
class Listener:
    """One address that clients connect to. ``port`` 0 lets the system choose one.

    ``outside``: strangers connect here, so a sender in the realm is taken for a stranger too. ``tls``: ``starttls``
    offers it, ``implicit`` speaks TLS from the first octet (RFC 8314 3.3).
    """

    host: str
    port: int
    outside: bool = False
    tls: ListenerTls = "none"


@dataclass(frozen=True, slots=True)
class Tls:
    """Our certificate towards clients, and how TLS is used towards the next hop.

    ``key`` None: the key is in the certificate's file. ``next_hop``: ``none`` never; ``opportunistic`` STARTTLS when
    offered, whatever certificate comes; ``required`` the same, but no mail without; ``verify`` STARTTLS with a
    certificate that ``ca`` (None: the system's) vouches for; ``implicit`` TLS from the first octet, verified in the
    same way. ``next_hop_name``: the name the certificate must carry, None for the host name of ``next_hop``.
    """

    certificate: Path | None = None
    key: Path | None = None
    next_hop: NextHopTls = "opportunistic"
    ca: Path | None = None
    next_hop_name: str | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What one process lets clients use. ``temporary_disk`` in octets, over all sessions of the process.

    ``received``: a message with more ``Received:`` fields is looping (RFC 5321 6.3). ``errors``: so many bad
    commands in one session, then 421.
    """

    connections: int = 500
    connections_per_client: int = 200
    recipients: int = 1000
    received: int = 100
    errors: int = 20
    temporary_disk: int = 2 << 30


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds for each step, towards clients and next hop (RFC 5321 4.5.3.2).

    ``command``: a command, or the reply to one; ``data_start``: the reply to DATA; ``data_block``: any progress
    within DATA; ``data_end``: the reply to the final dot; ``connect``: until the next hop has greeted us.
    """

    connect: float = 30
    command: float = 300
    data_start: float = 120
    data_block: float = 180
    data_end: float = 600


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """The ``relay:`` section: listeners, next hop, who may use it, and its bounds.

    ``hostname``: how we name ourselves in the greeting, EHLO and ``Received:``. ``temporary_directory``: None for the
    system's. ``xforward``: send XFORWARD when the next hop offers it. ``auth``: pass AUTH through when it offers that.
    """

    listen: tuple[Listener, ...]
    next_hop: tuple[str, int]
    hostname: str
    clients: tuple[Network, ...] = LOOPBACK
    workers: int = 1
    tls: Tls = field(default_factory=Tls)
    limits: Limits = field(default_factory=Limits)
    timeouts: Timeouts = field(default_factory=Timeouts)
    temporary_directory: Path | None = None
    xforward: bool = True
    auth: bool = True


@dataclass(frozen=True, slots=True)
class MilterSettings:
    """The ``milter:`` section: where the MTA finds us.

    ``listen``: ``unix:/path`` or ``inet:port@host``, as libmilter spells it. ``socket_group`` and ``socket_mode`` (a number):
    who may connect to a unix socket; None leaves the group as it is. ``mixed_recipients``: whose header edit counts when
    recipients of one message differ. ``outside``: strangers' mail comes here, so a sender in the realm is taken for a stranger.
    ``hostname``: the right side of Message-IDs that have to be made.
    """

    listen: str
    hostname: str
    socket_group: str | None = None
    socket_mode: int = 0o660
    mixed_recipients: MixedRecipients = "strictest"
    outside: bool = False


@dataclass(frozen=True, slots=True)
class Roles:
    """The ``roles:`` section: Unix users, and ``%groups``, who may look into the ledger beside root and the service user.

    ``viewer``: figures, and whether the ledger is intact; ``auditor``: also read and export; ``admin``: also change.
    """

    viewer: tuple[str, ...] = ()
    auditor: tuple[str, ...] = ()
    admin: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AnchorMail:
    """``anchors.mail``: the head of the ledger as a message. ``sender``: the key ``from``; ``server``: host and port."""

    to: tuple[str, ...]
    sender: str
    server: tuple[str, int]


@dataclass(frozen=True, slots=True)
class Anchors:
    """The ``anchors:`` section: where ``kaifu ledger seal`` sends the head of the ledger.

    ``file``: a line is appended; ``command``: a program with its arguments, which reads the line; None: not there.
    """

    file: Path | None = None
    command: tuple[str, ...] | None = None
    mail: AnchorMail | None = None


@dataclass(frozen=True, slots=True)
class TuiSettings:
    """The ``tui:`` section: how ``kaifu tui`` looks where nobody says otherwise. None: the locale and the terminal decide."""

    language: Literal["en", "ja"] | None = None
    marks: Literal["unicode", "ascii"] | None = None
    theme: Literal["dark", "light"] | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """A whole settings file, valid. ``ledger`` is a URL with an absolute path; ``relay`` or ``milter`` None: no such section.

    ``border``: authserv-ids of the servers that check mail for us, in lower case. ``aliases``: files that say whose mail goes to whom.
    """

    file: Path
    realm: Realm
    policy: Path
    ledger: str
    on_ledger_failure: OnLedgerFailure
    zone: ZoneInfo
    relay: RelaySettings | None = None
    milter: MilterSettings | None = None
    border: tuple[str, ...] = ()
    aliases: tuple[Path, ...] = ()
    roles: Roles = field(default_factory=Roles)
    anchors: Anchors = field(default_factory=Anchors)
    tui: TuiSettings = field(default_factory=TuiSettings)


def config_path(option: str | Path | None) -> Path:
    """The settings file to read: the option, else ``$KAIFU_CONFIG``, else ``/etc/kaifu/kaifu.yaml``."""
    if option is not None:
        return Path(option)
    return Path(os.environ.get("KAIFU_CONFIG") or DEFAULT_CONFIG)


def load_settings(path: Path) -> Settings:
    """Read a settings file. Raises :class:`~kaifu.policies.document.ProblemsError` with all that is wrong with it."""
    return read_settings(path)[0]


def read_settings(path: Path) -> tuple[Settings, tuple[Problem, ...]]:
    """:func:`load_settings`, with the warnings about what is allowed but hardly meant."""
    from .settings_reader import read_file  # it imports the values above

    return read_file(path)
