"""What a good settings file becomes, and that no file whatever makes the reader fail in another way."""

from __future__ import annotations

import string
from contextlib import suppress
from dataclasses import fields
from ipaddress import ip_network
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kaifu.policies.document import ProblemsError
from kaifu.policies.facts import Mailbox
from kaifu.proxy.settings import (
    DEFAULT_CONFIG,
    AnchorMail,
    Anchors,
    Limits,
    Listener,
    RelaySettings,
    Settings,
    Timeouts,
    Tls,
    TuiSettings,
    config_path,
    load_settings,
    read_settings,
)

SMALLEST = "realm: example.jp\npolicy: policy.yaml\nledger: sqlite:////var/lib/kaifu/ledger.db\n"
RELAY = "relay:\n  listen: 127.0.0.1:10025\n  next_hop: 127.0.0.1:10026\n  hostname: relay.example.jp\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "kaifu.yaml"


def relay_of(file: Path, more: str) -> RelaySettings:
    file.write_text(SMALLEST + RELAY + more)
    relay = load_settings(file).relay
    assert relay is not None
    return relay


def test_three_keys_are_enough(file: Path) -> None:
    file.write_text(SMALLEST)
    settings = load_settings(file)
    assert settings == Settings(
        file=file,
        realm=settings.realm,
        policy=file.parent / "policy.yaml",
        ledger="sqlite:////var/lib/kaifu/ledger.db",
        on_ledger_failure="defer",
        zone=ZoneInfo("UTC"),
        relay=None,
    )
    assert Mailbox("aiko", "Example.JP") in settings.realm
    assert Mailbox("aiko", "sub.example.jp") not in settings.realm


def test_a_relay_needs_two_more_and_the_rest_has_its_default(file: Path) -> None:
    assert relay_of(file, "") == RelaySettings(
        listen=(Listener("127.0.0.1", 10025, outside=False, tls="none"),),
        next_hop=("127.0.0.1", 10026),
        hostname="relay.example.jp",
        clients=(ip_network("127.0.0.0/8"), ip_network("::1/128")),
        workers=1,
        tls=Tls(None, None, "opportunistic", None, None),
        limits=Limits(500, 200, 1000, 100, 20, 2 * 1024**3),
        timeouts=Timeouts(30, 300, 120, 180, 600),
        temporary_directory=None,
        xforward=True,
        auth=True,
    )


def test_without_a_hostname_the_machine_names_itself(file: Path) -> None:
    file.write_text(SMALLEST + "relay: {listen: '127.0.0.1:0', next_hop: '127.0.0.1:25'}")
    relay = load_settings(file).relay
    assert relay is not None
    assert relay.hostname


def test_anchors_go_to_as_many_places_as_are_named(file: Path) -> None:
    file.write_text(SMALLEST)
    assert load_settings(file).anchors == Anchors()
    mail = "mail: {to: a@x.example, from: k@x.example, server: '[::1]:25'}"
    file.write_text(f"{SMALLEST}anchors:\n  file: kept\n  command: [/bin/send, -v]\n  {mail}\n")
    assert load_settings(file).anchors == Anchors(
        file.parent / "kept", ("/bin/send", "-v"), AnchorMail(("a@x.example",), "k@x.example", ("::1", 25))
    )


def test_the_realm_takes_international_names_and_subdomains(file: Path) -> None:
    file.write_text(SMALLEST.replace("example.jp", "[例え.jp, .example.com]"))
    realm = load_settings(file).realm
    for domain in ("例え.jp", "xn--r8jz45g.jp", "example.com", "a.b.example.com"):
        assert Mailbox("a", domain) in realm, domain
    for domain in ("a.例え.jp", "badexample.com"):
        assert Mailbox("a", domain) not in realm, domain


def test_paths_are_relative_to_the_file_and_not_to_where_one_stands(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(
        "realm: example.jp\npolicy: rules/policy.yaml\nledger: sqlite:///data/ledger.db\n"
        + RELAY
        + "  temporary_directory: /var/tmp\n  tls: {certificate: tls/cert.pem, key: /etc/key.pem}\n"
    )
    monkeypatch.chdir(file.parent)
    settings = load_settings(Path("kaifu.yaml"))
    monkeypatch.chdir("/")
    assert settings.policy == file.parent / "rules/policy.yaml"
    assert settings.ledger == f"sqlite:///{file.parent}/data/ledger.db"
    assert settings.relay is not None
    assert settings.relay.temporary_directory == Path("/var/tmp")
    assert settings.relay.tls.certificate == file.parent / "tls/cert.pem"
    assert settings.relay.tls.key == Path("/etc/key.pem")


def test_listeners_are_one_several_or_described(file: Path) -> None:
    file.write_text(
        SMALLEST
        + """relay:
  listen:
    - "[::1]:0"
    - localhost:2525
    - {address: "0.0.0.0:25", outside: true}
    - {address: "0.0.0.0:465", tls: implicit}
    - {address: "127.0.0.1:10025", tls: none}
  next_hop: "[2001:db8::25]:25"
  tls: {certificate: cert.pem}
"""
    )
    relay = load_settings(file).relay
    assert relay is not None
    assert relay.next_hop == ("2001:db8::25", 25)
    assert relay.listen == (
        Listener("::1", 0, tls="starttls"),
        Listener("localhost", 2525, tls="starttls"),
        Listener("0.0.0.0", 25, outside=True, tls="starttls"),
        Listener("0.0.0.0", 465, tls="implicit"),
        Listener("127.0.0.1", 10025, tls="none"),
    )


def test_one_described_listener_needs_no_list(file: Path) -> None:
    file.write_text(
        SMALLEST + "relay:\n  listen: {address: 127.0.0.1:25, outside: true}\n  next_hop: mail.例え.jp:25\n"
    )
    relay = load_settings(file).relay
    assert relay is not None
    assert relay.listen == (Listener("127.0.0.1", 25, outside=True),)
    assert relay.next_hop == ("mail.xn--r8jz45g.jp", 25)


@pytest.mark.parametrize(
    ("written", "octets"),
    [("1", 1), ("4096", 4096), ("500MiB", 500 << 20), ("2 GiB", 2 << 30), ("1KiB", 1024), ("3GB", 3 * 10**9)],
)
def test_sizes_are_written_with_their_unit(file: Path, written: str, octets: int) -> None:
    assert relay_of(file, f"  limits: {{temporary_disk: {written}}}\n").limits == Limits(temporary_disk=octets)


@pytest.mark.parametrize(
    ("written", "seconds"), [("30", 30), ("0.5s", 0.5), ("250ms", 0.25), ("5m", 300), ("1h", 3600), ("10 m", 600)]
)
def test_times_are_written_with_their_unit(file: Path, written: str, seconds: float) -> None:
    assert relay_of(file, f"  timeouts: {{data_end: {written}}}\n").timeouts == Timeouts(data_end=seconds)


def test_every_limit_and_timeout_can_be_set(file: Path) -> None:
    limits = {field.name: n for n, field in enumerate(fields(Limits), 7)}
    timeouts = {field.name: n for n, field in enumerate(fields(Timeouts), 70)}
    relay = relay_of(file, f"  limits: {limits}\n  timeouts: {timeouts}\n".replace("'", ""))
    assert (relay.limits, relay.timeouts) == (Limits(**limits), Timeouts(**timeouts))


def test_letting_everybody_in_is_allowed_with_a_warning(file: Path) -> None:
    file.write_text(SMALLEST + RELAY + '  clients: [10.0.0.0/8, 192.0.2.7, "::/0"]\n')
    settings, warnings = read_settings(file)
    assert settings.relay is not None
    assert settings.relay.clients == (ip_network("10.0.0.0/8"), ip_network("192.0.2.7/32"), ip_network("::/0"))
    assert [str(warning).removeprefix(f"{file}:") for warning in warnings] == [
        "8:36: warning: ::/0 lets everybody in: an open relay, unless the next hop refuses strangers' mail"
    ]


def test_the_option_comes_before_the_environment_and_that_before_etc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAIFU_CONFIG", raising=False)
    assert config_path(None) == DEFAULT_CONFIG == Path("/etc/kaifu/kaifu.yaml")
    monkeypatch.setenv("KAIFU_CONFIG", "/srv/kaifu.yaml")
    assert config_path(None) == Path("/srv/kaifu.yaml")
    assert config_path("here.yaml") == Path("here.yaml")
    monkeypatch.setenv("KAIFU_CONFIG", "")
    assert config_path(None) == DEFAULT_CONFIG


WORDS = st.sampled_from(
    "realm policy ledger zone relay listen next_hop tls limits timeouts clients workers hostname certificate key ca "
    "address outside none verify true false 1 0 -1 127.0.0.1:25 [::1]:0 sqlite:////l.db example.jp .例え.jp 2GiB 5m".split()
)
VALUES = st.recursive(
    WORDS | st.text(string.printable, max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=5),
    max_leaves=25,
)


def flow(value: object) -> str:
    """Any value as YAML in flow style, scalars plain."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {flow(inner)}" for key, inner in value.items()) + "}"
    return f"[{', '.join(map(flow, value))}]" if isinstance(value, list) else str(value)


RELAYS = st.dictionaries(
    st.sampled_from([field.name for field in fields(RelaySettings)]),
    VALUES | st.dictionaries(st.sampled_from([field.name for field in (*fields(Tls), *fields(Limits))]), VALUES),
)


@given(
    st.dictionaries(WORDS, VALUES, max_size=8).map(flow).map(str.encode)
    | RELAYS.map(lambda relay: f"{SMALLEST}relay: {flow(relay)}".encode())
    | st.binary(max_size=200)
)
@example(SMALLEST.encode() + b"relay: {listen: [[[]]], next_hop: {}, limits: 1, timeouts: [], tls: x, clients: {}}")
@example(SMALLEST.encode() + b"relay: {listen: 127.0.0.1:, next_hop: ':', clients: ['::/129', '/'], hostname: .}")
@example(b"zone: ../../etc/passwd\n" + SMALLEST.encode())
@example(b"zone: /etc/passwd\n" + SMALLEST.encode())
@example(b"zone: Asia\n" + SMALLEST.encode())
def test_any_file_gives_settings_or_problems(tmp_path_factory: pytest.TempPathFactory, octets: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_bytes(octets)
    with suppress(ProblemsError):
        assert isinstance(load_settings(file), Settings)


def test_the_screens_look_as_the_settings_say_and_by_default_as_locale_and_terminal_do(file: Path) -> None:
    file.write_text(f"{SMALLEST}tui: {{language: ja, marks: ascii, theme: light}}\n")
    assert load_settings(file).tui == TuiSettings("ja", "ascii", "light")
    file.write_text(f"{SMALLEST}tui: {{theme: light}}\n")
    assert load_settings(file).tui == TuiSettings(None, None, "light")
    file.write_text(SMALLEST)
    assert load_settings(file).tui == TuiSettings()
