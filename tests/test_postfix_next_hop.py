"""Python's smtplib and Postfix as clients, Postfix as the next hop: XFORWARD, TLS in every mode, AUTH on the way out."""

from __future__ import annotations

import re
import smtplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from email.headerregistry import Address
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from tests.postfix_harness import Dovecot, Postfix, free_port, missing, system_folder
from tests.postfix_site import SETUPS, letter, running, send
from tests.session_next_hop import DEADLINE
from tests.session_relay import ASK_ALL, Client, Relay, make_certificate

WHY_NOT = missing("postfix", "dovecot", "doveadm")
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))

SENDER, TO = "tanaka@example.co.jp", "suzuki@partner.example"


@pytest.fixture(scope="module")
def certificate() -> Iterator[tuple[Path, Path]]:
    with system_folder() as folder:
        yield make_certificate(folder)


@contextmanager
def next_hop(tls: tuple[Path, Path] | None = None, main: str = "") -> Iterator[Postfix]:
    """A Postfix that keeps mail for partner.example, with STARTTLS when it has a certificate."""
    if tls is not None:
        main += (
            f"\nsmtpd_tls_security_level = may\nsmtpd_tls_cert_file = {tls[0]}\nsmtpd_tls_key_file = {tls[1]}"
            "\nsmtpd_tls_received_header = yes\nsmtpd_tls_session_cache_database =\n"
        )
    with system_folder() as folder, Postfix(folder, "mx.partner.example", ("partner.example",), main) as one:
        yield one


@contextmanager
def relay_to(port: int, directory: Path, **relay: Any) -> Iterator[Relay]:
    """A relay in front of a port; it must also end well."""
    with Relay(directory, port, ASK_ALL, {"relay": relay}) as one:
        yield one
        one.stop()


def ours_and_theirs(mail: bytes) -> list[str]:
    """The ``Received:`` fields, unfolded, newest first."""
    header = re.sub(rb"\n[ \t]+", b" ", mail.split(b"\n\n", 1)[0]).decode()
    return re.findall(r"(?m)^Received: (.*)$", header)


# smtplib


@pytest.fixture(scope="module")
def open_relay(
    tmp_path_factory: pytest.TempPathFactory, certificate: tuple[Path, Path]
) -> Iterator[tuple[Relay, Postfix]]:
    """A relay with STARTTLS and implicit TLS in front of a Postfix that knows two users."""
    with system_folder() as folder:
        dovecot = Dovecot(folder)
        auth = f"smtpd_sasl_auth_enable = yes\nsmtpd_sasl_type = dovecot\nsmtpd_sasl_path = {dovecot.socket}\n"
        tls = {"certificate": str(certificate[0]), "key": str(certificate[1])}
        listeners = [{"address": "127.0.0.1:0", "tls": mode} for mode in ("starttls", "implicit")]
        with (
            dovecot,
            next_hop(main=auth) as postfix,
            relay_to(postfix.port, tmp_path_factory.mktemp("relay"), listen=listeners, tls=tls) as relay,
        ):
            yield relay, postfix


def japanese_letter(to: str) -> EmailMessage:
    message = letter(SENDER, to, "契約書をお送りします", "拝啓\n.\n敬具\n")
    message.add_attachment("印鑑".encode() * 1000, "application", "octet-stream", filename="契約書.pdf")
    message.set_boundary("=_between")
    return message


def test_send_message_goes_through_with_its_attachment(open_relay: tuple[Relay, Postfix]) -> None:
    relay, postfix = open_relay
    to = "send.message@partner.example"
    with smtplib.SMTP("127.0.0.1", relay.port, timeout=DEADLINE) as client:
        message = japanese_letter(to)
        assert client.send_message(message) == {}
    [mail] = postfix.wait_for_mail(to)
    assert b"\nDisposition-Notification-To: <tanaka@example.co.jp>\n" in mail
    assert mail.split(b"\n\n", 1)[1] == message.as_bytes().split(b"\n\n", 1)[1]


def test_send_message_to_an_address_in_utf8(open_relay: tuple[Relay, Postfix]) -> None:
    relay, postfix = open_relay
    message = EmailMessage()
    message["From"] = Address("田中", "田中", "example.co.jp")
    message["To"] = Address("鈴木", "鈴木", "partner.example")
    message["Subject"] = "契約書"
    message.set_content("拝啓\n")
    with smtplib.SMTP("127.0.0.1", relay.port, timeout=DEADLINE) as client:
        assert client.send_message(message) == {}
    [mail] = postfix.wait_for_mail("鈴木@partner.example")
    assert "\nDisposition-Notification-To: <田中@example.co.jp>\n".encode() in mail
    assert "\nSubject: 契約書\n".encode() in mail


@pytest.mark.parametrize("implicit", [False, True], ids=["STARTTLS", "implicit TLS"])
@pytest.mark.parametrize("user", Dovecot.PASSWORDS)
def test_login_over_verified_tls(
    open_relay: tuple[Relay, Postfix], certificate: tuple[Path, Path], implicit: bool, user: str
) -> None:
    relay, postfix = open_relay
    context = ssl.create_default_context(cafile=certificate[0])
    to = f"login.{implicit}.{user.split('@')[0]}@partner.example".lower()
    after = postfix.mark()
    client = (
        smtplib.SMTP_SSL("localhost", relay.ports[1], timeout=DEADLINE, context=context)
        if implicit
        else smtplib.SMTP("localhost", relay.ports[0], timeout=DEADLINE)
    )
    with client:
        if not implicit:
            client.starttls(context=context)
        client.ehlo()
        for method in ("PLAIN", "LOGIN"):
            assert method in client.esmtp_features["auth"]
        client.user, client.password = user, Dovecot.PASSWORDS[user]
        assert client.auth("PLAIN", plain_in_utf8(client))[0] == 235
        assert client.send_message(letter(user, to, "contract")) == {}
    postfix.wait_for_mail(to)
    postfix.wait_for_log(rf"sasl_method=PLAIN, sasl_username={user}", after)


def plain_in_utf8(client: smtplib.SMTP) -> Any:
    """smtplib sends what this gives as ASCII; Latin-1 text of the UTF-8 octets does not pass, so they are given as octets."""

    class Octets(str):
        def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
            return str.encode(self, "utf-8")

    return lambda challenge=None: Octets(f"\0{client.user}\0{client.password}")


# XFORWARD


def test_the_next_hop_learns_who_the_client_was(tmp_path: Path) -> None:
    main = "smtpd_authorized_xforward_hosts = 127.0.0.1"
    with next_hop(main=main) as postfix, relay_to(postfix.port, tmp_path) as relay:
        for number in (77, 78, 77):
            after = postfix.mark()
            to = f"from{number}@partner.example"
            send(relay.port, letter(SENDER, to, "contract"), SENDER, to, source=f"127.0.0.{number}")
            postfix.wait_for_log(rf"\borig_client=\S*\[127\.0\.0\.{number}\]", after)
            [*_, mail] = postfix.wait_for_mail(to, after=after)
            ours = ours_and_theirs(mail)[1]
            assert f"from client.example ([127.0.0.{number}])" in ours


@pytest.mark.parametrize("setup", [s for s in SETUPS if s != "relayhost"])
def test_the_original_client_stands_in_postfixs_log_behind_kaifu(setup: str) -> None:
    with running(setup) as site:
        to = "near@example.co.jp"
        send(site.office.port, letter("far@partner.example", to, "Hi"), "far@partner.example", to, source="127.0.0.77")
        [mail] = site.office.wait_for_mail(to)
        site.office.wait_for_log(r"\borig_client=\S*\[127\.0\.0\.77\]")
        assert len([field for field in ours_and_theirs(mail) if "[127.0.0.77]" in field]) == 1


# TLS towards the next hop


@pytest.mark.parametrize("mode", ["none", "opportunistic", "required", "verify"])
def test_starttls_with_the_next_hop(tmp_path: Path, certificate: tuple[Path, Path], mode: str) -> None:
    tls = {"next_hop": mode} | ({"ca": str(certificate[0])} if mode == "verify" else {})
    with next_hop(certificate) as postfix, relay_to(postfix.port, tmp_path, tls=tls) as relay:
        for _ in range(2):
            send(relay.port, letter(SENDER, TO, "contract"), SENDER, TO)
        for mail in postfix.wait_for_mail(TO, 2):
            encrypted = "using TLSv1.3" in ours_and_theirs(mail)[0]
            assert encrypted == (mode != "none")


def test_tls_from_the_first_octet_with_the_next_hop(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    with next_hop(certificate, "smtpd_tls_wrappermode = yes") as postfix:
        tls = {"next_hop": "implicit", "ca": str(certificate[0])}
        with relay_to(postfix.port, tmp_path, tls=tls) as relay:
            send(relay.port, letter(SENDER, TO, "contract"), SENDER, TO)
            [mail] = postfix.wait_for_mail(TO)
            assert "using TLSv1.3" in ours_and_theirs(mail)[0]


def test_a_next_hop_without_tls_gets_no_mail_where_tls_is_required(tmp_path: Path) -> None:
    with next_hop() as postfix, relay_to(postfix.port, tmp_path, tls={"next_hop": "required"}) as relay:
        assert_put_off(relay, postfix)


@pytest.mark.parametrize("wrong", ["ca", "name"])
def test_a_next_hop_with_another_certificate_gets_no_mail_where_it_is_verified(
    tmp_path: Path, certificate: tuple[Path, Path], wrong: str
) -> None:
    other, _ = make_certificate(tmp_path)
    name = {"next_hop_name": "mx.other.example"} if wrong == "name" else {}
    tls = {"next_hop": "verify", "ca": str(other if wrong == "ca" else certificate[0])} | name
    with next_hop(certificate) as postfix, relay_to(postfix.port, tmp_path, tls=tls) as relay:
        assert_put_off(relay, postfix)
        assert relay.wait_for_log("/certificate/")


def assert_put_off(relay: Relay, postfix: Postfix) -> None:
    """The client is told to come again later, and no transaction began."""
    client = Client(relay.port)
    said = client.reply()[0]
    if said.startswith("220 "):
        said = client.ask("EHLO client.example")
    client.close()
    assert said.startswith("421 4.3.2 "), said
    assert postfix.logged("client=") == []


# AUTH


SUBMISSION = """
mynetworks = 192.0.2.1
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = {socket}
smtpd_relay_restrictions = permit_sasl_authenticated, reject
"""


def test_what_one_client_may_after_logging_in_no_other_may(tmp_path: Path) -> None:
    user, to = "sato@example.co.jp", "login.first@partner.example"
    with system_folder() as folder:
        dovecot = Dovecot(folder)
        main = SUBMISSION.format(socket=dovecot.socket)
        with dovecot, next_hop(main=main) as postfix, relay_to(postfix.port, tmp_path) as relay:
            with smtplib.SMTP("127.0.0.1", relay.port, timeout=DEADLINE) as client:
                client.login(user, Dovecot.PASSWORDS[user])
                client.send_message(letter(user, to, "contract"))
                for _ in range(2):
                    with pytest.raises(smtplib.SMTPResponseException, match=r"554.*5\.7\.1.*Access denied"):
                        send(relay.port, letter(user, to, "contract"), user, to)
                client.send_message(letter(user, to, "contract again"))
            postfix.wait_for_mail(to, 2)
            assert len(postfix.logged("sasl_username=")) == len(postfix.logged(": client=")) == 2


def test_a_postfix_that_must_log_in_at_its_relayhost_does_so_through_kaifu(tmp_path: Path) -> None:
    user = "sato@example.co.jp"
    with system_folder() as folder:
        dovecot = Dovecot(folder)
        port = free_port()
        office = f"""
relayhost = [127.0.0.1]:{port}
smtp_sasl_auth_enable = yes
smtp_sasl_security_options = noanonymous
smtp_sasl_password_maps = inline:{{ {{ [127.0.0.1]:{port} = {user}:{Dovecot.PASSWORDS[user]} }} }}
"""
        with (
            dovecot,
            Postfix(
                folder, "smtp.provider.example", ("partner.example",), SUBMISSION.format(socket=dovecot.socket)
            ) as behind,
            Postfix(folder, "mail.example.co.jp", ("example.co.jp",), office) as client,
            relay_to(behind.port, tmp_path, listen=f"127.0.0.1:{port}", clients=["192.0.2.0/24"]),
        ):
            send(client.port, letter(SENDER, TO, "contract"), SENDER, TO)
            [mail] = behind.wait_for_mail(TO)
            behind.wait_for_log(rf"sasl_username={user}")
            assert b"\nDisposition-Notification-To: <tanaka@example.co.jp>\n" in mail
            assert "with ESMTPA id" in ours_and_theirs(mail)[1]
