"""``kaifu config check``: says in words what will be used, or everything that is wrong, and touches nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.postfix_harness import missing, system_folder

from kaifu.proxy.cli_config import config

POLICY = "version: 1\nmode: observe\nrules:\n  - name: ask\n    when: {direction: outbound}\n    then: {request: add}\n"
SETTINGS = """\
realm: [例え.jp, .example.com]
policy: policy.yaml
ledger: sqlite:///ledger.db
zone: Asia/Tokyo
relay:
  listen:
    - 127.0.0.1:10025
    - {address: "[::]:25", outside: true}
  next_hop: 127.0.0.1:10026
  hostname: relay.example.com
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "kaifu.yaml").write_text(SETTINGS)
    return tmp_path


def check(directory: Path) -> Result:
    return CliRunner().invoke(config, ["check", "--config", str(directory / "kaifu.yaml")], catch_exceptions=False)


def add(directory: Path, more: str) -> None:
    (directory / "kaifu.yaml").write_text(SETTINGS + more)


def test_valid_settings_are_told_in_words(directory: Path) -> None:
    result = check(directory)
    assert (result.exit_code, result.stderr) == (0, "")
    assert (
        result.stdout
        == f"""\
{directory}/kaifu.yaml is valid.
Ours: 例え.jp, example.com and its subdomains
Policy: {directory}/policy.yaml, 1 rule, observed only: nothing is changed or withheld
Ledger: {directory}/ledger.db; when it fails, mail that needs it gets 451 and other mail passes
Into the ledger may look: root and the service user
Anchors of the ledger go nowhere; what they are for is in the guide
Time zone: Asia/Tokyo
Border: none, so every answer is only claimed
Relay: named relay.example.com
  listens on 127.0.0.1:10025
  listens on [::]:25, facing outside: a sender of ours is a stranger here
  for clients in 127.0.0.0/8, ::1/128
  hands mail to 127.0.0.1:10026, with TLS when offered
  AUTH passed through and XFORWARD sent when the next hop offers it
  at most 500 connections, 200 from one client, 1000 recipients a message, 2048 MiB of temporary files
"""
    )


def test_checking_leaves_no_trace(directory: Path) -> None:
    before = sorted(directory.iterdir())
    assert check(directory).exit_code == 0
    assert sorted(directory.iterdir()) == before


def test_whom_to_believe_is_told_in_words(directory: Path) -> None:
    (directory / "aliases").write_text("hr: hanako\nbad line\ninfo: hr, a b@\n")
    add(directory, "border: [MX.example.com]\naliases: aliases\n")
    result = check(directory)
    assert result.exit_code == 0
    assert result.stderr == (
        f"{directory}/aliases:2:1: warning: neither name: target, nor name@domain and its target\n"
        f"{directory}/aliases:3:1: warning: b@ is no mail address\n"
    )
    assert (
        "Border: the Authentication-Results of mx.example.com are believed; other answers are claimed\n"
        in result.stdout
    )
    assert f"Aliases: 2 names from {directory}/aliases\n" in result.stdout


def test_a_file_of_aliases_that_is_not_there_is_named(directory: Path) -> None:
    add(directory, "aliases: [aliases]\n")
    result = check(directory)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"{directory}/aliases: cannot be read: No such file or directory\n"


def test_proof_that_nobody_can_give_is_noticed(directory: Path) -> None:
    policy = POLICY.replace("{request: add}", "{request: add, confirm: authenticated}")
    policy += "  - {name: the rest, then: {confirm: claimed}}\ndefaults:\n  internal: {confirm: authenticated}\n"
    (directory / "policy.yaml").write_text(policy)
    result = check(directory)
    assert result.exit_code == 0
    why = "nothing is ever authenticated, because the settings name no border that checks mail for us"
    assert sorted(result.stderr.splitlines()) == [
        f"{directory}/policy.yaml:6:26: warning: {why}",
        f"{directory}/policy.yaml:9:14: warning: {why}",
    ]
    add(directory, "border: mx.example.com\n")
    assert check(directory).stderr == ""


def test_settings_for_nobody_are_valid_and_say_so(directory: Path) -> None:
    (directory / "kaifu.yaml").write_text(SETTINGS.split("relay:")[0])
    result = check(directory)
    assert result.exit_code == 0
    assert result.stdout.endswith(
        "Time zone: Asia/Tokyo\nBorder: none, so every answer is only claimed\nNeither relay nor milter is configured.\n"
    )


def test_who_may_look_is_told_in_words_and_names_that_nobody_has_are_warned_of(directory: Path) -> None:
    add(directory, 'roles:\n  viewer: ["%root"]\n  admin: [root, kaifu-t-none, "%kaifu-t-none"]\n')
    result = check(directory)
    assert result.exit_code == 0
    said = "root and the service user; %root as viewer; root, kaifu-t-none, %kaifu-t-none as admin"
    assert f"Into the ledger may look: {said}\n" in result.stdout
    assert result.stderr.splitlines() == [
        f"{directory}/kaifu.yaml: warning: roles.admin: there is no {what} 'kaifu-t-none' here, so nobody has the role by"
        " that name"
        for what in ("user", "group")
    ]


def test_settings_that_strangers_could_write_are_warned_of_when_they_give_roles(directory: Path) -> None:
    (directory / "kaifu.yaml").chmod(0o666)
    assert check(directory).stderr == ""
    add(directory, "roles: {viewer: [root]}\n")
    assert check(directory).stderr == (
        f"{directory}/kaifu.yaml: warning: roles: nobody has one by these settings, because strangers could write them:"
        f" {directory}/kaifu.yaml can be written by group or others\n"
    )


def test_a_milter_is_told_in_words(directory: Path) -> None:
    socket = directory / "milter.sock"
    (directory / "kaifu.yaml").write_text(
        SETTINGS.split("relay:")[0] + f"milter: {{listen: 'unix:{socket}', socket_group: postfix, outside: true}}\n"
    )
    result = check(directory)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.endswith(
        f"""Milter: listens on unix:{socket}
  for whom mode 0660 and group postfix let in
  facing outside: a sender of ours is a stranger here
  when recipients of a message differ, the strictest header edit counts for all
"""
    )


def test_the_directory_of_the_milters_socket_must_be_there(directory: Path) -> None:
    add(directory, "milter: {listen: 'unix:/nowhere/milter.sock'}\n")
    result = check(directory)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"{directory}/kaifu.yaml: milter.listen: there is no directory /nowhere\n"


OURS = "smtpd_milters = unix:opendkim/o.sock, unix:kaifu/milter.sock"
LOST = "enable_original_recipient = no"


@pytest.mark.skipif(missing("postconf") is not None, reason=str(missing("postconf")))
@pytest.mark.parametrize(
    ("main", "then", "said"),
    [
        (["milter_default_action = tempfail"], "request: add", []),
        ([OURS, "milter_default_action = tempfail"], "request: add", []),
        ([OURS, "milter_default_action = accept"], "request: add", ["milter_default_action = accept"]),
        (
            ["non_smtpd_milters = unix:/q/kaifu/milter.sock", "milter_default_action=accept"],
            "request: add",
            ["= accept"],
        ),
        (["smtpd_milters = inet:[::1]:8891", "milter_default_action = accept"], "request: add", []),
        (["smtpd_milters = { unix:kaifu/milter.sock, default_action=accept }"], "request: add", ["= accept"]),
        (
            ["smtpd_milters = { unix:kaifu/milter.sock, default_action = tempfail }", "milter_default_action = accept"],
            "request: add",
            [],
        ),
        ([OURS, LOST], "request: add", []),
        ([OURS, LOST], "delivery_report: add", ["enable_original_recipient = no"]),
        ([OURS, LOST, "milter_default_action = accept"], "delivery_report: strip", ["= accept", "= no"]),
        ([LOST], "delivery_report: add", []),
        (["smtpd_milters = $nowhere ${", "queue_directory ="], "delivery_report: add", []),
    ],
)
def test_a_postfix_that_would_not_wait_for_the_milter_or_lose_its_mail_is_warned_of(
    directory: Path, main: list[str], then: str, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = directory / "q"
    (queue / "kaifu").mkdir(parents=True)
    lines = [f"queue_directory = {queue}", *(line.replace("/q/", f"{queue}/") for line in main)]
    (directory / "main.cf").write_text("compatibility_level = 3.6\n" + "\n".join(lines) + "\n")
    (directory / "master.cf").touch()
    monkeypatch.setenv("MAIL_CONFIG", str(directory))
    (directory / "policy.yaml").write_text(f"version: 1\nrules: [{{name: one, when: {{}}, then: {{{then}}}}}]\n")
    (directory / "kaifu.yaml").write_text(
        SETTINGS.split("relay:")[0] + f"milter: {{listen: 'unix:{queue}/kaifu/milter.sock'}}\n"
    )
    result = check(directory)
    assert result.exit_code == 0
    warnings = result.stderr.splitlines()
    assert len(warnings) == len(said), warnings
    for warning, words in zip(warnings, said, strict=True):
        assert warning.startswith(f"{directory}/kaifu.yaml: warning: Postfix has ")
        assert words in warning


def test_bad_settings_are_refused_with_their_places(directory: Path) -> None:
    add(directory, "  worker: 2\nzones: UTC\n")
    result = check(directory)
    assert (result.exit_code, result.stdout) == (2, "")
    assert [line.removeprefix(f"{directory}/") for line in result.stderr.splitlines()] == [
        'kaifu.yaml:11:3: unknown key "worker" in relay (did you mean "workers"?)',
        'kaifu.yaml:12:1: unknown key "zones" in the file (did you mean "zone"?)',
    ]


def test_a_bad_policy_is_refused_with_its_places(directory: Path) -> None:
    (directory / "policy.yaml").write_text(POLICY.replace("request", "requst"))
    result = check(directory)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"{directory}/policy.yaml:6:12: ")
    assert '"request"' in result.stderr


def test_a_policy_that_is_not_there_is_named(directory: Path) -> None:
    (directory / "policy.yaml").unlink()
    result = check(directory)
    assert result.exit_code == 2
    assert f"{directory}/policy.yaml" in result.stderr
    assert "No such file" in result.stderr


def test_warnings_alone_do_not_fail(directory: Path) -> None:
    add(directory, "  clients: 0.0.0.0/0\n")
    result = check(directory)
    assert result.exit_code == 0
    assert "kaifu.yaml:11:12: warning: 0.0.0.0/0 lets everybody in" in result.stderr
    assert "for clients in 0.0.0.0/0" in result.stdout


def test_everything_missing_around_the_settings_is_named_at_once(directory: Path) -> None:
    (directory / "kaifu.yaml").write_text(
        SETTINGS.replace("sqlite:///ledger.db", "sqlite:////nowhere/ledger.db")
        + "  temporary_directory: nowhere\n  tls: {certificate: cert.pem, key: key.pem, ca: ca.pem, next_hop: verify}\n"
    )
    result = check(directory)
    assert (result.exit_code, result.stdout) == (2, "")
    assert [line.removeprefix(f"{directory}/kaifu.yaml: ") for line in result.stderr.splitlines()] == [
        "ledger: there is no directory /nowhere",
        f"relay.temporary_directory: {directory}/nowhere is no directory that can be written",
        f"relay.tls.certificate: {directory}/cert.pem: No such file or directory",
        f"relay.tls.key: {directory}/key.pem: No such file or directory",
        f"relay.tls.ca: {directory}/ca.pem: No such file or directory",
    ]


def test_a_certificate_that_is_none_is_refused(directory: Path) -> None:
    add(directory, "  tls: {certificate: policy.yaml}\n")
    result = check(directory)
    assert result.exit_code == 2
    assert "relay.tls: certificate, key or ca cannot be used" in result.stderr


def test_a_real_certificate_is_fine(directory: Path) -> None:
    make = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=relay.example.com -keyout key.pem -out cert.pem"
    subprocess.run(make.split(), cwd=directory, check=True, capture_output=True)
    add(directory, "  tls: {certificate: cert.pem, key: key.pem, ca: cert.pem, next_hop: verify}\n")
    result = check(directory)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "  listens on 127.0.0.1:10025, STARTTLS offered\n" in result.stdout
    assert "with TLS always, certificate verified" in result.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_ledger_of_another_owner_is_noticed(directory: Path) -> None:
    (directory / "ledger.db").touch()
    os.chown(directory / "ledger.db", 12345, 12345)
    result = check(directory)
    assert result.exit_code == 2
    assert f"{directory}/ledger.db has another owner than its directory" in result.stderr


AS_SOMEBODY_ELSE = """
import os, pathlib, sys
from kaifu.proxy import cli, cli_config
settings, _ = cli_config.read_settings(pathlib.Path(sys.argv[-1]))  # loads what that user may not be able to
cli_config.load_file(settings.policy)
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
cli.main()
"""


def test_a_user_who_may_not_see_the_ledger_is_told_who_may() -> None:
    with system_folder() as folder:
        (folder / "policy.yaml").write_text(POLICY)
        (folder / "kaifu.yaml").write_text(SETTINGS.replace("///ledger.db", "///closed/ledger.db"))
        (folder / "closed").mkdir(mode=0)
        words = [sys.executable, "-c", AS_SOMEBODY_ELSE, "config", "check", "--config", f"{folder}/kaifu.yaml"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    sentence = f"this user may not look at {folder}/closed/ledger.db; act as the service user or as root"
    assert done.stderr == f"{folder}/kaifu.yaml: ledger: {sentence}\n"
