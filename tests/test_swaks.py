"""swaks, the tool that mail admins test with, against kaifu: plain, STARTTLS, TLS from the start, AUTH, pipelining."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.postfix_harness import Dovecot, Postfix, missing, program, system_folder
from tests.session_next_hop import DEADLINE, NextHop
from tests.session_relay import ASK_ALL, Relay, make_certificate

WHY_NOT = missing("postfix", "swaks", "dovecot", "doveadm")
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))

SENDER, TO = "tanaka@example.co.jp", "suzuki@partner.example"
SECRET = Dovecot.PASSWORDS[SENDER]


def swaks(port: int, *options: str, expect: int = 0) -> str:
    """Run swaks with these options; what it printed. ``expect``: its exit status (0: the mail was taken)."""
    command = [program("swaks"), "--server", "127.0.0.1", "--port", str(port), "--from", SENDER, "--to", TO, *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == expect, f"swaks ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def needs_tls() -> None:
    """Skip where swaks came without its TLS library, which Debian only recommends."""
    listed = subprocess.run([program("swaks"), "--support"], capture_output=True, text=True, check=False).stdout
    if "=== TLS supported" not in listed:
        pytest.skip("swaks has no TLS here: install libnet-ssleay-perl")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def next_hop() -> Iterator[NextHop]:
    server = NextHop()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def relay(
    tmp_path_factory: pytest.TempPathFactory, next_hop: NextHop, certificate: tuple[Path, Path]
) -> Iterator[Relay]:
    """A relay with three listeners: without TLS, with STARTTLS, and with TLS from the first octet."""
    listeners = [{"address": "127.0.0.1:0", "tls": tls} for tls in ("none", "starttls", "implicit")]
    tls = {"certificate": str(certificate[0]), "key": str(certificate[1])}
    settings = {"relay": {"listen": listeners, "tls": tls}}
    with Relay(tmp_path_factory.mktemp("relay"), next_hop.port, ASK_ALL, settings) as one:
        yield one
        one.stop()


@pytest.mark.parametrize(
    ("listener", "options"),
    [
        pytest.param(0, (), id="plain"),
        pytest.param(0, ("--pipeline",), id="pipelining"),
        pytest.param(0, ("--helo", "[127.0.0.1]", "--protocol", "SMTP"), id="HELO"),
        pytest.param(1, ("--tls",), id="STARTTLS"),
        pytest.param(1, ("--tls", "--pipeline"), id="STARTTLS and pipelining"),
        pytest.param(2, ("--tls-on-connect",), id="TLS from the first octet"),
    ],
)
def test_swaks_gets_its_mail_through_with_the_request_that_the_rule_adds(
    relay: Relay, next_hop: NextHop, listener: int, options: tuple[str, ...]
) -> None:
    if "--tls" in str(options):
        needs_tls()
    before = len(next_hop.transactions)
    body = f"ひと言\n..\n{'長い行' * 60}\nthe end of {listener} {options}"
    swaks(relay.ports[listener], *options, "--header", "Subject: 契約書", "--body", body)
    [arrived] = next_hop.wait_for_messages(before + 1)[before:]
    assert f"Disposition-Notification-To: <{SENDER}>\r\n".encode() in arrived.data
    assert arrived.data.split(b"\r\n\r\n", 1)[1].strip() == body.replace("\n..", "\n...").replace("\n", "\r\n").encode()


def test_the_received_field_says_how_swaks_spoke(relay: Relay, next_hop: NextHop) -> None:
    needs_tls()
    before = len(next_hop.transactions)
    swaks(relay.ports[0], "--helo", "plain.client.example")
    swaks(relay.ports[1], "--tls", "--helo", "tls.client.example")
    plain, encrypted = next_hop.wait_for_messages(before + 2)[before:]
    for message, helo, protocol in ((plain, b"plain", b" with ESMTP"), (encrypted, b"tls", b" with ESMTPS")):
        first = message.data.replace(b"\r\n\t", b" ").replace(b"\r\n ", b" ").split(b"\r\n", 1)[0]
        assert first.startswith(b"Received: from " + helo + b".client.example"), first
        assert protocol + b" " in first.replace(b";", b" "), first


def test_swaks_hears_of_starttls_only_where_it_is_offered(relay: Relay) -> None:
    needs_tls()
    assert "Host did not advertise STARTTLS" in swaks(relay.ports[0], "--tls", expect=29)
    assert "250-STARTTLS" not in swaks(relay.ports[2], "--tls-on-connect", "--quit-after", "EHLO")


def test_swaks_hears_the_next_hops_refusal_word_for_word(relay: Relay, next_hop: NextHop) -> None:
    next_hop.on("RCPT", "answer", b"550 5.7.1 <suzuki@partner.example>: not today")
    assert "<** 550 5.7.1 <suzuki@partner.example>: not today" in swaks(relay.ports[0], expect=24)


# AUTH, with Postfix as the submission server and Dovecot knowing the passwords


@pytest.fixture(scope="module")
def submission(certificate: tuple[Path, Path]) -> Iterator[Postfix]:
    """A Postfix that takes mail from nobody but those who have authenticated."""
    with system_folder() as folder:
        dovecot = Dovecot(folder)
        main = f"""
mynetworks = 192.0.2.1
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = {dovecot.socket}
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_recipient_restrictions = permit_sasl_authenticated, reject
"""
        with dovecot, Postfix(folder, "submission.example.co.jp", ("partner.example",), main) as one:
            yield one


@pytest.fixture(scope="module")
def stranger(
    tmp_path_factory: pytest.TempPathFactory, submission: Postfix, certificate: tuple[Path, Path]
) -> Iterator[Relay]:
    """A relay in front of it that trusts no network of its own: only who authenticates may send."""
    tls = {"certificate": str(certificate[0]), "key": str(certificate[1])}
    listeners = [{"address": "127.0.0.1:0", "tls": tls} for tls in ("starttls", "implicit")]
    settings = {"relay": {"listen": listeners, "tls": tls, "clients": ["192.0.2.0/24"]}}
    with Relay(tmp_path_factory.mktemp("stranger"), submission.port, ASK_ALL, settings) as one:
        yield one
        one.stop()


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize(("listener", "tls"), [(0, "--tls"), (1, "--tls-on-connect")])
def test_swaks_authenticates_through_kaifu(
    stranger: Relay, submission: Postfix, mechanism: str, listener: int, tls: str
) -> None:
    needs_tls()
    after = submission.mark()
    said = swaks(stranger.ports[listener], tls, "--auth", mechanism, "--auth-user", SENDER, "--auth-password", SECRET)
    assert "235 2.7.0 Authentication successful" in said
    submission.wait_for_log(rf"sasl_method={mechanism}, sasl_username={SENDER}", after)
    [*_, mail] = submission.wait_for_mail(TO, after=after)
    ours = re.search(
        rb"(?m)^Received: from .* \(kaifu\) with ESMTPSA id .*\n(?:[ \t].*\n)*", mail.replace(b"\n\t", b" ")
    )
    assert ours is not None
    assert b"tanaka" not in ours[0]
    assert not [line for line in stranger.log if SECRET in line]


def test_swaks_hears_that_the_password_is_wrong_and_may_not_send(stranger: Relay, submission: Postfix) -> None:
    needs_tls()
    login = ("--auth", "PLAIN", "--auth-user", SENDER, "--auth-password", "guess")
    assert "<~* 535 5.7.8 Error: authentication failed" in swaks(stranger.port, "--tls", *login, expect=28)
    assert "<~* 530 5.7.0" in swaks(stranger.port, "--tls", expect=23)


def test_nobody_sends_on_a_connection_where_another_has_authenticated(stranger: Relay, submission: Postfix) -> None:
    needs_tls()
    after = submission.mark()
    for user in Dovecot.PASSWORDS:
        login = ("--auth", "PLAIN", "--auth-user", user, "--auth-password", Dovecot.PASSWORDS[user])
        swaks(stranger.port, "--tls", *login, "--header", f"X-User: {user}")
        assert "<~* 530 5.7.0" in swaks(stranger.port, "--tls", expect=23)
    found = submission.wait_for_logs(r"sasl_username=(\S+)", after, count=len(Dovecot.PASSWORDS))
    assert [match[1] for match in found] == list(Dovecot.PASSWORDS)
