"""Postfix, kaifu and OpenDKIM: in the order that the deployment guide gives, signatures hold; in the other one they break.

Office and world both sign what is theirs and verify what is not. The office's listeners are those of the guide, and a second pair
with the milters the other way round, so that these tests can be seen to fail.
"""

from __future__ import annotations

import re
import shutil
import smtplib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from pathlib import Path

import pytest
from tests.postfix_harness import Dovecot, LoggedProcess, Postfix, blocks, free_port, missing, program, system_folder
from tests.postfix_milter_site import MilterSite, fields, names, sendmail
from tests.postfix_site import letter, send
from tests.session_next_hop import DEADLINE, poll

WHY_NOT = missing("postfix", "opendkim", "openssl", "dovecot", "doveadm", "sendmail")
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))

DNT = "Disposition-Notification-To"
USER, PASSWORD = "sato@example.co.jp", Dovecot.PASSWORDS["sato@example.co.jp"]
KAIFU, OPENDKIM = "unix:kaifu/milter.sock", "unix:opendkim/opendkim.sock"
WRONG = """\
127.0.0.1:{inward} inet n - y - - smtpd
    -o smtpd_milters=unix:kaifu/milter.sock,unix:opendkim/opendkim.sock
127.0.0.1:{outward} inet n - y - - smtpd
    -o smtpd_sasl_auth_enable=yes
    -o smtpd_sasl_type=dovecot
    -o smtpd_sasl_path=private/auth
    -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
    -o smtpd_milters=unix:opendkim/opendkim.sock,unix:kaifu/milter.sock
127.0.0.1:{unchecked} inet n - y - - smtpd
    -o receive_override_options=no_header_body_checks
    -o smtpd_milters=unix:kaifu/milter.sock
"""


class OpenDkim(LoggedProcess):
    """OpenDKIM for a Postfix, configured as the guide shows; ``domains`` are those it signs for, ``keys`` what it knows as DNS."""

    def __init__(self, folder: Path, postfix: Postfix, domains: tuple[str, ...], keys: Path) -> None:
        super().__init__(f"OpenDKIM of {postfix.hostname}")
        home = folder / f"opendkim.{postfix.hostname}"
        home.mkdir(mode=0o755)
        self._socket = postfix.directory / "queue" / "opendkim" / "opendkim.sock"
        self._socket.parent.mkdir()
        shutil.chown(self._socket.parent, group="postfix")
        self._socket.parent.chmod(0o2750)
        for domain in domains:
            _make_key(home / domain, domain, keys)
        key_table, signing_table = home / "key.table", home / "signing.table"
        key_table.write_text("".join(f"{d} {d}:test:{home / d}\n" for d in domains))
        signing_table.write_text("".join(f"*@{d} {d}\n" for d in domains))
        text = blocks("milter_dkim")["opendkim.conf"]
        for shown, here in (
            ("/var/spool/postfix/opendkim/opendkim.sock", self._socket),
            ("/etc/opendkim/key.table", key_table),
            ("/etc/opendkim/signing.table", signing_table),
        ):
            assert shown in text
            text = text.replace(shown, str(here))
        self._config = home / "opendkim.conf"
        self._config.write_text(
            f"{text}TestPublicKeys {keys}\nInternalHosts 127.0.0.1\nSyslog no\nRequireSafeKeys no\n"
        )

    def start(self) -> None:
        self.spawn(program("opendkim"), "-f", "-x", self._config)
        poll(self._socket.exists, f"{self.what} to listen")


def _make_key(path: Path, domain: str, keys: Path) -> None:
    """A key, and its public half among the keys that everybody knows."""
    subprocess.run([program("openssl"), "genrsa", "-out", path, "2048"], check=True, capture_output=True)
    path.chmod(0o600)
    public = subprocess.run(
        [program("openssl"), "rsa", "-in", path, "-pubout"], check=True, capture_output=True, text=True
    )
    record = "".join(public.stdout.splitlines()[1:-1])
    with keys.open("a") as file:
        file.write(f"test._domainkey.{domain} v=DKIM1; k=rsa; p={record}\n")


class DkimSite(MilterSite):
    """``submission``: where users of the office log in; ``wrong_submission``: the same with the milters the other way round.

    ``unchecked``: a door where fields of the office's own name are let in, and nobody verifies.

    What the world sends to ``late.example.co.jp`` comes in where kaifu stands before the verifier.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(
            folder, settings={"realm": ["example.co.jp", ".example.co.jp"], "border": ["mail.example.co.jp"]}
        )
        guide = blocks("milter_dkim")
        self.submission, self.wrong_submission, self.unchecked, late = (free_port() for _ in range(4))
        master = re.sub(r"(?m)^submission(\s+inet)", rf"127.0.0.1:{self.submission}\1", guide["master.cf"])
        shown = Postfix(
            folder, "guide.example.co.jp", main=guide["main.cf"],
            master=master + WRONG.format(inward=late, outward=self.wrong_submission, unchecked=self.unchecked),
        )  # fmt: skip
        for name in re.findall(r"(?m)^(\w+) =", guide["main.cf"]):
            self.office.parameters[name] = shown.parameters[name]
        self.office.services |= shown.services
        self.office.parameters["virtual_mailbox_domains"] += " late.example.co.jp"
        # Each is a stranger for the other's OpenDKIM; what comes from 127.0.0.1 is their own.
        self.office.parameters["smtp_bind_address"] = " 127.0.0.3"
        self.world.parameters["smtp_bind_address"] = " 127.0.0.2"
        self.world.parameters["smtpd_milters"] = f" {OPENDKIM}"
        self.world.parameters["transport_maps"] += f" inline:{{ {{ late.example.co.jp = smtp:[127.0.0.1]:{late} }} }}"
        keys = folder / "keys"
        self.peers: list[LoggedProcess] = [
            OpenDkim(folder, self.office, ("example.co.jp",), keys),
            OpenDkim(folder, self.world, ("partner.example",), keys),
            Dovecot(folder, self.office.directory / "queue" / "private" / "auth"),
        ]


@contextmanager
def running() -> Iterator[DkimSite]:
    with system_folder() as folder:
        site = DkimSite(folder)
        try:
            for one in (*site.peers, site.world):
                one.start()
            site.milter.start()
            site.office.start()
            yield site
        finally:
            site.close()
            for peer in site.peers:
                peer.kill()


@pytest.fixture(scope="module")
def site() -> Iterator[DkimSite]:
    with running() as everything:
        yield everything


def submit(port: int, subject: str, to: str) -> None:
    """What a user's mail program does after logging in."""
    message = letter(USER, to, subject)
    with smtplib.SMTP("127.0.0.1", port, "client.example", DEADLINE) as client:
        client.login(USER, PASSWORD)
        client.send_message(message, USER, [to])


def verdict(mail: bytes) -> str:
    """What the verifier on the way in says about the signature."""
    found = [re.search(rb"\bdkim=(\w+)", value) for value in fields(mail, "Authentication-Results")]
    [result] = [match[1].decode() for match in found if match]
    return result


def signed_fields(mail: bytes) -> list[str]:
    """What the signature covers, lower case."""
    [signature] = fields(mail, "DKIM-Signature")
    match = re.search(rb"\bh=([^;]*)", signature)
    assert match is not None
    return re.sub(rb"\s", b"", match[1]).decode().lower().split(":")


def test_outgoing_mail_is_signed_with_the_request_that_kaifu_added(site: DkimSite) -> None:
    to = "signed@partner.example"
    submit(site.submission, "The contract", to)
    [mail] = site.world.wait_for_mail(to)
    assert fields(mail, DNT) == [f"<{USER}>".encode()]
    assert signed_fields(mail).count(DNT.lower()) == 2
    assert verdict(mail) == "pass"


def test_what_a_program_on_the_machine_sends_is_signed_with_it_too(site: DkimSite) -> None:
    to = "program@partner.example"
    sendmail(site.office, letter(USER, to, "The contract").as_bytes(), "-f", USER, to)
    [mail] = site.world.wait_for_mail(to)
    assert (fields(mail, DNT), verdict(mail)) == ([f"<{USER}>".encode()], "pass")


def test_signed_before_kaifu_the_signature_breaks(site: DkimSite) -> None:
    """The wrong order."""
    to = "wrong@partner.example"
    submit(site.wrong_submission, "The contract", to)
    [mail] = site.world.wait_for_mail(to)
    assert (fields(mail, DNT), verdict(mail)) == ([f"<{USER}>".encode()], "fail")
    submit(site.wrong_submission, "Hello", "untouched@partner.example")
    [untouched] = site.world.wait_for_mail("untouched@partner.example")
    assert (fields(untouched, DNT), verdict(untouched)) == ([], "pass")


@pytest.mark.parametrize(
    ("change", "result"),
    [
        pytest.param((b"", b""), "pass", id="nothing"),
        pytest.param((b"The contract", b"Another contract"), "fail", id="the subject"),
        pytest.param(("お世話".encode(), "お手間".encode()), "fail", id="the body"),
        pytest.param((b"<sato@", b"<spy@"), "fail", id="where the receipt goes"),
        pytest.param((b"\nSubject:", b"\nDisposition-Notification-To: spy@evil.example\nSubject:"), "fail", id="a request more"),
    ],
)  # fmt: skip
def test_the_verifier_sees_what_was_changed_behind_kaifu(
    site: DkimSite, change: tuple[bytes, bytes], result: str, request: pytest.FixtureRequest
) -> None:
    to = re.sub(r"\W", ".", request.node.callspec.id) + "@partner.example"
    submit(site.submission, "The contract", to)
    [mail] = site.world.wait_for_mail(to)
    assert verdict(mail) == "pass"
    again = mail[mail.index(b"DKIM-Signature:") :]
    assert change[0] in again
    changed = again.replace(*change, 1).replace(b"\n", b"\r\n")
    send(site.world.port, changed, USER, f"again.{to}", source="127.0.0.3")
    [second] = site.world.wait_for_mail(f"again.{to}")
    assert verdict(second) == result


def test_incoming_mail_is_verified_as_it_came_and_then_stripped(site: DkimSite) -> None:
    sender, to = "asks@partner.example", "verified@example.co.jp"
    send(site.world.port, letter(sender, to, "Hello", Disposition_Notification_To=sender), sender, to)
    [mail] = site.office.wait_for_mail(to)
    assert DNT.lower() in signed_fields(mail)
    assert (fields(mail, DNT), verdict(mail)) == ([], "pass")
    assert site.receipt(to)["request"] == "stripped"


def test_verified_behind_kaifu_the_signature_fails(site: DkimSite) -> None:
    """The wrong order."""
    sender, to = "asks.late@partner.example", "verified@late.example.co.jp"
    send(site.world.port, letter(sender, to, "Hello", Disposition_Notification_To=sender), sender, to)
    [mail] = site.office.wait_for_mail(to)
    assert (fields(mail, DNT), verdict(mail)) == ([], "fail")


# What kaifu makes of it


def receipt_by(author: str, to: str) -> EmailMessage:
    """The receipt for the contract that the user sent to somebody."""
    message = letter(author, USER, "Read: The contract")
    message.set_content(
        f"Final-Recipient: rfc822;{to}\nOriginal-Message-ID: {letter(USER, to, '')['Message-ID']}\n"
        "Disposition: manual-action/MDN-sent-manually; displayed\n"
    )
    message.replace_header("Content-Type", "message/disposition-notification")
    return message


def graded(site: DkimSite, to: str) -> tuple[str, str | None]:
    """What the record says of the recipient, once it says something."""
    poll(lambda: site.receipt(to)["state"] != "waiting", f"an answer by {to} on record", every=0.3)
    row = site.receipt(to)
    return row["state"], row["grade"]


def test_a_receipt_that_its_domain_has_signed_is_authenticated(site: DkimSite) -> None:
    to = "honest@partner.example"
    submit(site.submission, "The contract", to)
    site.world.wait_for_mail(to)
    send(site.world.port, receipt_by(to, to), "", USER)
    assert graded(site, to) == ("displayed", "authenticated")


FORGED = "mail.example.co.jp; dkim=pass header.d=partner.example"


@pytest.mark.parametrize("through", ["the door", "an account"])
@pytest.mark.parametrize(
    "field", [None, FORGED, f"\n {FORGED.replace(';', ' 1;')}"], ids=["nothing", "a field", "a folded field"]
)
def test_who_writes_the_results_of_our_own_server_is_not_believed(
    site: DkimSite, field: str | None, through: str, request: pytest.FixtureRequest
) -> None:
    to = re.sub(r"\W", ".", request.node.callspec.id) + "@partner.example"
    submit(site.submission, "The contract", to)
    site.world.wait_for_mail(to)
    message = b"" if field is None else f"Authentication-Results: {field}\n".encode()
    message = (message + receipt_by(to, to).as_bytes()).replace(b"\n", b"\r\n")
    if through == "the door":
        send(site.office.port, message, to, USER, source="127.0.0.4")
    else:
        with smtplib.SMTP("127.0.0.1", site.submission, "client.example", DEADLINE) as client:
            client.login(USER, PASSWORD)
            client.sendmail("", [USER], message)
    assert graded(site, to) == ("displayed", "claimed")


def test_without_the_check_at_the_door_it_would_be(site: DkimSite) -> None:
    """The wrong way: where the field is let in and no verifier writes another one above it."""
    to = "let.in@partner.example"
    submit(site.submission, "The contract", to)
    site.world.wait_for_mail(to)
    message = f"Authentication-Results: {FORGED}\n".encode() + receipt_by(to, to).as_bytes()
    send(site.unchecked, message.replace(b"\n", b"\r\n"), to, USER, source="127.0.0.4")
    assert graded(site, to) == ("displayed", "authenticated")


def test_what_asks_for_nothing_keeps_its_header(site: DkimSite) -> None:
    sender, to = "plain@partner.example", "plain@example.co.jp"
    send(site.world.port, letter(sender, to, "Hello"), sender, to)
    [mail] = site.office.wait_for_mail(to)
    assert verdict(mail) == "pass"
    given = letter(sender, to, "Hello").keys()
    assert names(mail)[-len(given) :] == list(given)
