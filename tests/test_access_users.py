"""A second user of the machine cannot read the ledger's file, exceed a role, or look without an entry; with real users and sudo."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import second_user
from tests.second_user import ROOT, Site
from tests.tui_tmux import Terminal

from kaifu.proxy.ledger_file import Store, begin_writing


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """People at a ledger with two messages."""
    with second_user.site() as made:
        yield made


def write(site: Site, person: str, name: str, text: str) -> Path:
    """A file of that person's, which everybody may read."""
    path = site.home(person) / name
    path.write_text(text)
    owner = site.home(person).stat()
    os.chown(path, owner.st_uid, owner.st_gid)
    return path


def test_nobody_but_the_service_user_reads_the_file_whatever_his_role(site: Site) -> None:
    for person in ("admin", "outsider"):
        for path in (site.ledger, site.config):
            done = site.direct(person, "cat", path)
            assert (done.returncode, done.stdout) == (1, "")
        done = site.direct(person, site.kaifu, "receipts", "list", "--config", site.config)
        assert (done.returncode, done.stdout) == (2, "")
        done = site.direct(person, site.kaifu, "receipts", "list", "--ledger", f"sqlite:///{site.ledger}")
        assert (done.returncode, done.stdout) == (2, "")
        assert "act as the service user" in done.stderr


def test_who_looks_is_on_record_by_his_own_name_before_he_sees_anything(site: Site) -> None:
    asked = [
        (
            ("receipts", "list", "--json", "--to", "yamada@partner.example"),
            "list",
            {"to": "yamada@partner.example"},
            None,
        ),
        (("receipts", "show", "2"), "show", None, 2),
        (("receipts", "show", "nothing@a.example"), "show", {"message": "nothing@a.example"}, None),
        (("receipts", "export", "--since", "2026-11-20"), "export", {"since": "2026-11-20T00:00:00.000000Z"}, None),
        (("audit", "list", "--what", "list,show"), "audit", {"what": ["list", "show"]}, None),
        (("audit", "export", "--json"), "audit", None, None),
    ]
    for words, what, wanted, message in asked:
        before = site.last()
        done = site.ask("auditor", *words)
        assert done.returncode == (1 if "nothing@a.example" in words else 0), done.stderr
        (look,) = site.acts(before)
        assert (look["kind"], look["what"], look["message"], look.get("filter")) == ("looked", what, message, wanted)
        assert look["actor"] == site.user("auditor")


def test_the_audit_shows_the_look_that_shows_it(site: Site) -> None:
    done = site.ask("auditor", "audit", "list", "--json", "--actor", site.user("auditor"))
    first = json.loads(done.stdout.splitlines()[0])
    assert (first["what"], first["details"]) == ("audit", {"filter": {"actor": site.user("auditor")}})
    shown = site.ask("auditor", "audit", "list", "--limit", "1").stdout
    assert site.user("auditor") in shown


def test_nothing_is_shown_when_the_look_cannot_be_recorded(site: Site) -> None:
    store = Store(site.ledger, write=True)
    try:
        begin_writing(store.db)
        for words in (("receipts", "show", "1"), ("audit", "export")):
            done = site.ask("auditor", *words)
            assert (done.returncode, done.stdout) == (2, "")
            assert "nothing is shown" in done.stderr
            assert len(done.stderr.splitlines()) == 1
    finally:
        store.close()


REFUSED = [
    ("none", ("receipts", "list"), "auditor"),
    ("none", ("ledger", "stats"), "viewer"),
    ("none", ("audit", "list"), "auditor"),
    ("viewer", ("receipts", "list"), "auditor"),
    ("viewer", ("receipts", "show", "1"), "auditor"),
    ("viewer", ("receipts", "export"), "auditor"),
    ("viewer", ("audit", "export"), "auditor"),
    ("auditor", ("receipts", "note", "1", "--confirmed-by", "phone"), "admin"),
    ("auditor", ("receipts", "pair", "1", "--with", "a@b.example"), "admin"),
    ("none", ("ledger", "seal", "--print"), "viewer"),
]


@pytest.mark.parametrize(("person", "words", "needed"), REFUSED, ids=str)
def test_a_role_that_is_too_low_is_refused_and_the_attempt_is_on_record(
    site: Site, person: str, words: tuple[str, ...], needed: str
) -> None:
    before = site.last()
    done = site.ask(person, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"needs the role {needed}, and {site.user(person)} has " in done.stderr
    assert len(done.stderr.splitlines()) == 1
    (refused,) = site.acts(before)
    assert (refused["kind"], refused["needs"], refused["actor"]) == ("refused", needed, site.user(person))


def test_each_role_does_its_work(site: Site) -> None:
    assert site.ask("viewer", "ledger", "stats").returncode == 0
    assert site.ask("viewer", "ledger", "verify").returncode == 0
    anchor = site.ask("viewer", "ledger", "seal", "--print").stdout.strip()
    assert site.ask("auditor", "ledger", "verify", "--anchor", anchor).returncode == 0
    assert "yamada@partner.example" in site.ask("auditor", "receipts", "list").stdout
    before = site.last()
    done = site.ask("admin", "receipts", "note", "1", "--confirmed-by", "phone")
    assert done.returncode == 0, done.stderr
    (noted,) = site.acts(before)
    assert (noted["kind"], noted["actor"]) == ("attested", site.user("admin"))


def test_sudo_lets_nobody_else_in_and_nobody_do_anything_else(site: Site) -> None:
    secret = site.config
    for person, words in (
        ("outsider", (site.kaifu, "receipts", "list")),
        ("admin", (site.kaifu, "inspect", secret)),
        ("admin", (site.kaifu, "policy", "check", secret)),
        ("admin", (site.kaifu, "config", "check", "--config", secret)),
        ("admin", (site.kaifu, "relay", "--config", secret)),
        ("admin", (site.kaifu, "ledger", "rebuild")),
        ("admin", (site.kaifu, "--version", "receipts")),
        ("admin", ("cat", site.ledger)),
        ("admin", ("env", "SUDO_UID=0", "SUDO_USER=root", site.kaifu, "receipts", "list")),
    ):
        before = site.last()
        done = site.sudo(person, *words)
        assert done.returncode == 1, words
        assert done.stdout == ""
        assert site.last() == before


def test_the_caller_cannot_be_forged_by_the_environment(site: Site) -> None:
    evil = write(site, "viewer", "sitecustomize.py", "print('evil')\n")
    own = write(site, "viewer", "kaifu.yaml", f"roles: {{admin: [{site.user('viewer')}]}}\n")
    forged = {
        "SUDO_UID": "0",
        "SUDO_USER": "root",
        "SUDO_GID": "0",
        "PYTHONPATH": str(evil.parent),
        "PYTHONSTARTUP": str(evil),
        "KAIFU_CONFIG": str(own),
        "HOME": str(evil.parent),
    }
    before = site.last()
    done = site.ask("viewer", "receipts", "list", environment=forged)
    assert (done.returncode, done.stdout) == (2, "")
    assert [act["actor"] for act in site.acts(before)] == [site.user("viewer")]
    assert site.direct("viewer", "sudo", "-n", "-E", "-u", site.service, site.kaifu, "receipts", "list").returncode == 1
    for word in ("SUDO_UID=0", f"KAIFU_CONFIG={own}", f"PYTHONPATH={evil.parent}"):
        done = site.sudo("viewer", word, site.kaifu, "receipts", "list", "--config", site.config)
        assert (done.returncode, done.stdout) == (1, ""), word
    for name in ("kaifu.yaml", "sitecustomize.py"):
        (site.home("viewer") / name).unlink()


def test_nobody_gives_himself_a_role_by_settings_of_his_own(site: Site) -> None:
    mine = site.config.read_text().replace("auditor:\n", f"auditor:\n  - {site.user('viewer')}\n")
    assert site.user("viewer") in mine
    own = write(site, "viewer", "own.yaml", mine)
    roots = site.home("viewer") / "roots.yaml"
    roots.write_text(mine)
    link = site.home("viewer") / "link.yaml"
    link.symlink_to(site.config)
    loose = site.folder / "loose.yaml"
    loose.write_text(mine)
    loose.chmod(0o666)
    for path in (own, roots, link, loose, site.folder / "none.yaml"):
        before = site.last()
        done = site.sudo("viewer", site.kaifu, "receipts", "list", "--config", path)
        assert (done.returncode, done.stdout) == (2, ""), path
        assert (
            f"may use only settings that root or the service user alone can write, in directories likewise, and {path} is not"
            in (done.stderr)
        )
        assert site.last() == before
    link.unlink()


def test_settings_that_are_not_valid_are_not_quoted(site: Site) -> None:
    secret = site.config.with_name("relay.key")
    secret.write_text("hunter2: [hunter2\n")
    done = site.sudo("auditor", site.kaifu, "receipts", "list", "--config", secret)
    assert (done.returncode, done.stdout) == (2, "")
    assert "hunter2" not in done.stderr
    assert "are not valid" in done.stderr


def test_no_file_that_the_caller_names_is_read_or_written_with_the_service_user_s_rights(site: Site) -> None:
    octets = site.ledger.read_bytes()
    anchors = site.config.with_name("secret.txt")
    anchors.write_text("hunter2\n")
    for person, words, option in (
        ("auditor", ("receipts", "export", "-o", str(site.ledger)), "--output"),
        ("auditor", ("audit", "export", "-o", str(site.ledger.with_name("new"))), "--output"),
        ("auditor", ("ledger", "verify", "--anchor", str(anchors)), "--anchor"),
        ("admin", ("receipts", "list", "--ledger", f"sqlite:///{site.home('admin')}/l.db"), "--ledger"),
    ):
        before = site.last()
        done = site.ask(person, *words)
        assert (done.returncode, done.stdout) == (2, ""), words
        assert f"{option} " in done.stderr
        assert "hunter2" not in done.stderr
        (refused,) = site.acts(before)
        assert (refused["kind"], refused["actor"]) == ("refused", site.user(person))
    assert site.ledger.read_bytes()[:100] == octets[:100]
    assert sorted(path.name for path in site.ledger.parent.iterdir() if "db" not in path.name) == []


def walks_in(site: Site, person: str, **environment: str) -> Terminal:
    """That user's terminal, in which he starts the screens through sudo."""
    who = pwd.getpwnam(site.user(person))
    ids = (f"--reuid={who.pw_uid}", f"--regid={who.pw_gid}", "--init-groups")
    sudo = ("sudo", "-n", "-u", site.service, str(site.kaifu), "tui", "--config", str(site.config))
    return Terminal(command=("setpriv", *ids, *sudo), environment=environment)


def test_people_walk_into_the_screens_through_sudo_and_see_what_their_role_opens(site: Site) -> None:
    before = site.last()
    with walks_in(site, "viewer") as terminal:
        terminal.wait_for("Overview", f"{site.user('viewer')} (viewer)", "^p")
        assert "Receipts" not in terminal.text()
        terminal.press("2")
        terminal.press("3")
        terminal.wait_until(lambda: any("3 Policy" in text for text in terminal.reversed()), "the policy screen")
        terminal.press("q")
        assert terminal.wait_for_end() == 0
    assert site.acts(before) == []
    with walks_in(site, "auditor", LANG="ja_JP.UTF-8") as terminal:
        terminal.wait_for("開封確認", f"{site.user('auditor')} (監査者)")
        terminal.press("2")
        terminal.wait_for("suzuki@hq.partner.example")
        terminal.press("q")
        assert terminal.wait_for_end() == 0
    looks = site.acts(before)
    assert {(act["kind"], act["actor"]) for act in looks} == {("looked", site.user("auditor"))}


def test_who_has_no_role_is_not_let_in_and_colours_are_left_out_as_he_asked(site: Site) -> None:
    with walks_in(site, "none") as terminal:
        terminal.wait_for("viewer")
    with walks_in(site, "outsider") as terminal:
        assert terminal.wait_for_end() == 1
    with walks_in(site, "viewer", NO_COLOR="1") as terminal:
        terminal.wait_for("Overview", "^p")
        assert "[38;" not in terminal.styled()
        assert "[48;" not in terminal.styled()


@pytest.mark.skipif(shutil.which("visudo") is None, reason="sudo is not installed")
def test_the_rules_that_are_shipped_are_valid_and_a_mistake_would_be_found(tmp_path: Path) -> None:
    def check(text: str) -> int:
        path = tmp_path / "rules"
        path.write_text(text)
        path.chmod(0o440)
        return subprocess.run(["visudo", "-cf", path], capture_output=True, check=False).returncode

    rules = (ROOT / "systemd/kaifu.sudoers").read_text()
    assert check(rules) == 0
    (tmp_path / "rules").unlink()
    assert check(rules.replace("ALL = (kaifu)", "ALL = kaifu)")) != 0
