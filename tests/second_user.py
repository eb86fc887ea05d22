"""Real users of this machine at a real ledger, for tests: a service user, and people who come to it through sudo.

:func:`site` makes users and groups with useradd, a directory that all of them can reach with settings, ledger and program in it, and
the sudoers file that is shipped, with these names in the place of its own; it takes all of it away again. Skips with a word
where that cannot be done: only root can, and it takes sudo and a Python that other users may run.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.ledger_values import bodies, journal, record, store, to

import kaifu.proxy
from kaifu.proxy.ledger_rebuild import entries

ROOT = Path(__file__).parent.parent
PEOPLE = ("auditor", "viewer", "admin", "none", "outsider")


@dataclass(frozen=True)
class Site:
    """``name``: what all names begin with. Of the people all but ``outsider`` are in the group that sudo lets in; ``auditor`` and
    ``viewer`` have their roles by name, ``admin`` by the primary group."""

    name: str
    folder: Path

    @property
    def service(self) -> str:
        return f"{self.name}-svc"

    @property
    def group(self) -> str:
        return f"{self.name}-grp"

    @property
    def kaifu(self) -> Path:
        return self.folder / "bin/kaifu"

    @property
    def config(self) -> Path:
        return self.folder / "etc/kaifu.yaml"

    @property
    def ledger(self) -> Path:
        return self.folder / "lib/ledger.db"

    def user(self, person: str) -> str:
        return f"{self.name}-{person}"

    def home(self, person: str) -> Path:
        """A directory of one of the people, that others may read."""
        return self.folder / "home" / person

    def direct(
        self, person: str, *words: str | Path, environment: Mapping[str, str] = {}
    ) -> subprocess.CompletedProcess[str]:
        """A command of that user's own."""
        who = pwd.getpwnam(self.user(person))
        return subprocess.run(
            [str(word) for word in words], cwd="/", text=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=60,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", **environment},
            user=who.pw_uid, group=who.pw_gid, extra_groups=os.getgrouplist(who.pw_name, who.pw_gid), check=False,
        )  # fmt: skip

    def sudo(
        self, person: str, *words: str | Path, environment: Mapping[str, str] = {}
    ) -> subprocess.CompletedProcess[str]:
        """Through sudo, as the service user."""
        return self.direct(person, "sudo", "-n", "-u", self.service, *words, environment=environment)

    def ask(self, person: str, *words: str, environment: Mapping[str, str] = {}) -> subprocess.CompletedProcess[str]:
        """A command of kaifu's, as the guide says, with this site's settings."""
        return self.sudo(person, self.kaifu, *words, "--config", self.config, environment=environment)

    def acts(self, since: int = 0) -> list[dict[str, Any]]:
        """What is on record of people since an entry: kind, body and cells of each."""
        with store(self.ledger) as opened:
            found = [entry for entry in entries(opened.db) if entry.number > since and entry.kind != "message"]
        return [{"kind": entry.kind, "message": entry.message, **entry.body, **entry.cells} for entry in found]

    def last(self) -> int:
        return len(bodies(self.ledger))


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"


def _python(site: Site) -> str:
    """A Python that the service user may run: this one, or the system's."""
    for python in (sys.executable, "/usr/bin/python3"):
        code = "import sys; sys.exit(sys.version_info < (3, 11))"
        with_code = [python, "-c", code]
        who = pwd.getpwnam(site.service)
        try:
            done = subprocess.run(with_code, user=who.pw_uid, group=who.pw_gid, extra_groups=[], cwd="/", check=False)
        except OSError:
            continue
        if done.returncode == 0:
            return python
    pytest.skip("there is no Python that another user may run")


def _needed(name: str, found: dict[str, Distribution]) -> dict[str, Distribution]:
    """A distribution and all that it needs."""
    if name not in found:
        with suppress(PackageNotFoundError):  # what a marker leaves out here
            found[name] = distribution(name)
            for line in found[name].requires or ():
                if "extra ==" not in line:
                    _needed(re.split(r"[^\w.-]", line)[0].lower(), found)
    return found


def _install(site: Site) -> None:
    """The program: kaifu as it is here, and what it needs, where everybody can read it."""
    place = site.folder / "site"
    for package in ("policies", "proxy", "tui"):
        source = Path(kaifu.proxy.__file__).resolve().parent.parent / package
        shutil.copytree(source, place / "kaifu" / package)
    for parts in _needed("kaifu", {}).values():
        for top in {file.parts[0] for file in parts.files or () if not file.parts[0].startswith(("..", "__"))}:
            there = Path(str(parts.locate_file(top)))
            if there.is_dir():
                shutil.copytree(there, place / top, dirs_exist_ok=True)
            elif there.suffix == ".py":
                shutil.copy2(there, place / top)
    lines = (
        f"#!{_python(site)}",
        "import sys",
        f"sys.path.insert(0, {str(place)!r})",
        "from kaifu.tui.main import main",
        "main()",
    )
    site.kaifu.parent.mkdir()
    site.kaifu.write_text("\n".join(lines) + "\n")
    subprocess.run(["chmod", "-R", "u=rwX,go=rX", place, site.kaifu.parent], check=True)
    site.kaifu.chmod(0o755)


def _settle(site: Site) -> None:
    """Settings, ledger, and a directory for each person, with the owners and modes that the guide names."""
    service = pwd.getpwnam(site.service)
    settings = {
        "realm": ["example.co.jp"],
        "policy": "policy.yaml",
        "ledger": f"sqlite:///{site.ledger}",
        "roles": {
            "auditor": [site.user("auditor")],
            "viewer": [site.user("viewer"), f"%{site.group}-none"],
            "admin": [f"%{site.name}-adm"],
        },
    }
    site.config.parent.mkdir(mode=0o750)
    site.config.write_text(yaml.safe_dump(settings))
    site.config.chmod(0o640)
    for path in (site.config.parent, site.config):
        os.chown(path, 0, service.pw_gid)
    site.ledger.parent.mkdir(mode=0o700)
    with store(site.ledger) as opened, journal(opened) as adding:
        adding.begin(record(to(), key=b"1"))
        adding.begin(record(to("suzuki@hq.partner.example"), key=b"2", message_id="2@example.co.jp"))
    for path in (site.ledger.parent, *site.ledger.parent.iterdir()):
        os.chown(path, service.pw_uid, service.pw_gid)
    for person in PEOPLE:
        who = pwd.getpwnam(site.user(person))
        site.home(person).mkdir(parents=True)
        os.chown(site.home(person), who.pw_uid, who.pw_gid)


def sudoers(site: Site) -> str:
    """The file that is shipped, for these names, and without passwords: nobody is there to type them."""
    text = (ROOT / "systemd/kaifu.sudoers").read_text()
    for old, new in (
        ("/opt/kaifu/bin/kaifu", str(site.kaifu)),
        ("%kaifu-audit", f"%{site.group}"),
        ("(kaifu)", f"({site.service})"),
        ("NOSETENV:", "NOPASSWD: NOSETENV:"),
        ("KAIFU_", f"{site.name.upper().replace('-', '_')}_"),
    ):
        assert old in text
        text = text.replace(old, new)
    return text


@contextmanager
def site() -> Iterator[Site]:
    """Users, groups, files and sudo's rules, for as long as it lasts."""
    if os.geteuid() != 0:
        pytest.skip("only root can make users")
    if not all(map(shutil.which, ("sudo", "visudo", "useradd"))):
        pytest.skip("sudo or useradd is not installed")
    name = f"kaifu-t-{os.getpid()}"
    made = Site(name, Path(tempfile.mkdtemp(prefix=f"{name}-", dir="/var/tmp")))
    rules = Path("/etc/sudoers.d") / name
    users, groups = [made.service, *map(made.user, PEOPLE)], [made.group, f"{name}-adm"]
    try:
        made.folder.chmod(0o755)
        for group in groups:
            _run("groupadd", "--system", group)
        for user in users:
            primary = ["--gid", f"{name}-adm"] if user.endswith("-admin") else ["--user-group"]
            allowed = ["--groups", made.group] if user not in (made.service, made.user("outsider")) else []
            _run("useradd", "--system", "--no-create-home", "--home-dir", "/", *primary, *allowed, user)
        _install(made)
        _settle(made)
        rules.write_text(sudoers(made))
        rules.chmod(0o440)
        _run("visudo", "-cf", str(rules))
        yield made
    finally:
        rules.unlink(missing_ok=True)
        for user in users:
            subprocess.run(["userdel", user], capture_output=True, check=False)
        for group in groups:
            subprocess.run(["groupdel", group], capture_output=True, check=False)
        shutil.rmtree(made.folder, ignore_errors=True)
