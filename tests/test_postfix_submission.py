"""Users submit to kaifu with AUTH, as the deployment guide shows it, and the Postfix behind checks who they are."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Iterator

import pytest
import yaml
from tests.postfix_harness import Dovecot, Postfix, blocks, free_port, missing, system_folder, with_ports
from tests.postfix_milter_site import fields
from tests.postfix_site import POLICY, letter
from tests.session_next_hop import DEADLINE
from tests.session_relay import Relay, make_certificate, merged

WHY_NOT = missing("postfix", "dovecot", "doveadm", "openssl")
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))

USER, TO = "sato@example.co.jp", "suzuki@partner.example"


@pytest.fixture(scope="module")
def submission(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Relay, Postfix]]:
    """Kaifu in front of a Postfix that keeps the mail for the world, and users whom Dovecot knows."""
    guide = blocks("submission")
    behind = free_port()
    certificate, key = make_certificate(tmp_path_factory.mktemp("tls"))
    with system_folder() as folder:
        postfix = Postfix(
            folder, "mail.example.co.jp", ("partner.example",), master=with_ports(guide["master.cf"], {10587: behind})
        )
        here = {
            "policy": "policy.yaml",
            "ledger": f"sqlite:///{folder}/ledger.db",
            "relay": {
                "listen": {"address": "127.0.0.1:0"},
                "next_hop": f"127.0.0.1:{behind}",
                "tls": {"certificate": str(certificate), "key": str(key)},
            },
        }
        settings = merged(yaml.safe_load(guide["kaifu.yaml"]), here)
        with (
            Dovecot(folder, postfix.directory / "queue" / "private" / "auth"),
            postfix,
            Relay(tmp_path_factory.mktemp("relay"), behind, POLICY, settings) as relay,
        ):
            yield relay, postfix
            relay.stop()


def connect(port: int) -> smtplib.SMTP:
    """A mail program that has STARTTLS behind it. It believes any certificate."""
    client = smtplib.SMTP("127.0.0.1", port, "client.example", DEADLINE)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    client.starttls(context=context)
    return client


def test_who_has_logged_in_can_send_and_the_policy_holds(submission: tuple[Relay, Postfix]) -> None:
    relay, postfix = submission
    with connect(relay.port) as client:
        client.login(USER, Dovecot.PASSWORDS[USER])
        client.send_message(letter(USER, TO, "契約書"), USER, [TO])
    [mail] = postfix.wait_for_mail(TO)
    assert fields(mail, "Disposition-Notification-To") == [f"<{USER}>".encode()]
    assert postfix.logged(f"postfix/submission/smtpd.* sasl_username={USER}")
    assert Dovecot.PASSWORDS[USER] not in "\n".join(relay.log)


def test_a_wrong_password_is_refused_by_the_service_behind(submission: tuple[Relay, Postfix]) -> None:
    relay, _ = submission
    with connect(relay.port) as client, pytest.raises(smtplib.SMTPAuthenticationError) as refused:
        client.login(USER, "guess")
    assert refused.value.smtp_code == 535


def test_who_has_not_logged_in_sends_nothing(submission: tuple[Relay, Postfix]) -> None:
    relay, postfix = submission
    with connect(relay.port) as client, pytest.raises(smtplib.SMTPRecipientsRefused):
        client.send_message(letter("stranger@evil.example", "victim@partner.example", "Hello"))
    assert postfix.mailbox("victim@partner.example") == []
