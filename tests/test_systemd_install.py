"""The installation that systemd/README.md describes, carried out command by command under a directory that plays /.

What a sandbox has not: a running systemd, so `enable --now` only enables, and the unit's own command is started by
the test, with a socket to tell that it is ready. Without KAIFU_LONG=1 the packages that pip would fetch are copied from this
environment instead. Everything else is typed as it stands, with paths put under the directory.
"""

from __future__ import annotations

import os
import pwd
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "systemd/README.md").read_text()
TOOLS = ("systemd-sysusers", "systemd-tmpfiles", "systemctl")

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can install"),
    pytest.mark.skipif(not all(map(shutil.which, TOOLS)), reason="systemd is not installed"),
]


def block(name: str, language: str = "sh") -> str:
    (found,) = re.findall(rf"^```{language} {re.escape(name)}\n(.*?)^```$", GUIDE, flags=re.MULTILINE | re.DOTALL)
    return str(found)


class Machine:
    """A directory that plays the root of a mail server."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.workplace = root / "root"
        for directory in ("root", "opt", "etc", "var/lib", "var/tmp", "var/backups", "usr/lib"):
            (root / directory).mkdir(parents=True)

    def path(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def here(self, text: str) -> str:
        """A command or a file with its paths under this machine's root."""
        text = re.sub(r"(?<![\w.])/(opt|etc|var)/", rf"{self.root}/\1/", text)
        text = re.sub(r"^(systemd-\w+)", rf"\1 --root={self.root}", text, flags=re.MULTILINE)
        text = re.sub(r"^systemctl daemon-reload$", "", text, flags=re.MULTILINE)
        return re.sub(r"^systemctl enable --now", f"systemctl --root={self.root} enable", text, flags=re.MULTILINE)

    def run(self, commands: str) -> str:
        environment = {"PATH": os.environ["PATH"], "KAIFU_CONFIG": str(self.path("/etc/kaifu/kaifu.yaml"))}
        done = subprocess.run(
            ["bash", "-eu", "-c", self.here(commands)],
            cwd=self.workplace,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"
        return done.stdout

    def owner(self, path: str) -> tuple[str, str, int]:
        """Owner, group and mode as this machine's own user database names them."""
        status = self.path(path).stat()
        names = [
            next(line.split(":")[0] for line in self.path(file).read_text().splitlines() if f":{number}:" in line)
            if number
            else "root"
            for file, number in (("/etc/passwd", status.st_uid), ("/etc/group", status.st_gid))
        ]
        return names[0], names[1], status.st_mode & 0o777


def without_network(commands: str, listed: str, machine: Machine) -> str:
    """The commands with a copy of the packages in kaifu.txt in the place of what pip would fetch."""
    (venv,) = re.findall(r"^python3 -m venv (\S+)$", commands, flags=re.MULTILINE)
    copies = []
    for name in re.findall("^([a-z0-9-]+)==", listed, flags=re.MULTILINE):
        if name in ("kaifu", "pip"):
            continue
        parts = distribution(name)
        tops = {file.parts[0] for file in parts.files or () if file.parts[0] not in ("..", "__pycache__")}
        copies += [shlex.quote(str(parts.locate_file(top))) for top in sorted(tops)]
    copy = f"cp -r {' '.join(copies)} {machine.root}{venv}/lib/python3.*/site-packages/"
    commands = commands.replace("--require-hashes -r dist/kaifu.txt", "--quiet --no-index --no-deps dist/kaifu-*.whl")
    return commands.replace(f"{venv}/bin/pip", f"{copy}\n{venv}/bin/pip")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, long_run: bool) -> Machine:
    """After everything up to the sentence that says to edit the settings."""
    machine = Machine(tmp_path_factory.mktemp("machine"))
    source = tmp_path_factory.mktemp("checkout")
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(os.path.lexists, (ROOT / name for name in names.split("\0") if name)):
        target = source / name.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(name, target, follow_symlinks=False)
    subprocess.run([sys.executable, source / ".ci/dist.py", machine.workplace / "dist"], check=True)
    program = block("install/program")
    if not long_run:
        program = without_network(program, (machine.workplace / "dist/kaifu.txt").read_text(), machine)
    machine.run(program.replace("python3 -m venv", f"{sys.executable} -m venv"))
    machine.run(block("install/files"))
    return machine


@pytest.fixture(scope="module")
def configured(machine: Machine) -> Machine:
    """After the admin has put in what is theirs: here the places of this machine, and ports that are free."""
    file = machine.path("/etc/kaifu/kaifu.yaml")
    settings = machine.here(file.read_text()).replace("127.0.0.1:10025", "127.0.0.1:0")
    file.write_text(settings.replace("127.0.0.1:10026", "127.0.0.1:1"))
    return machine


@contextmanager
def service(machine: Machine, unit: str) -> Iterator[tuple[subprocess.Popen[str], socket.socket]]:
    """A unit's command, and the socket on which it speaks to the service manager."""
    (command,) = re.findall(r"^ExecStart=(.*)$", unit, flags=re.MULTILINE)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        where = f"\0kaifu-install-{os.getpid()}"
        manager.bind(where)
        manager.settimeout(60)
        process = subprocess.Popen(
            shlex.split(machine.here(command)),
            env={"PATH": os.environ["PATH"], "NOTIFY_SOCKET": where.replace("\0", "@"), "WATCHDOG_USEC": "60000000"},
            stderr=subprocess.PIPE,
            text=True,
        )
        yield process, manager
        process.kill()
        process.communicate()


@pytest.fixture
def relay(configured: Machine) -> Iterator[tuple[subprocess.Popen[str], socket.socket]]:
    """The relay's."""
    with service(configured, configured.path("/etc/systemd/system/kaifu-relay.service").read_text()) as running:
        yield running


def test_user_and_directories_belong_to_whom_the_guide_says(machine: Machine) -> None:
    assert re.search("^kaifu:.*nologin$", machine.path("/etc/passwd").read_text(), flags=re.MULTILINE)
    assert machine.owner("/etc/kaifu") == ("root", "kaifu", 0o750)
    assert machine.owner("/etc/kaifu/kaifu.yaml") == ("root", "kaifu", 0o640)
    assert machine.owner("/etc/kaifu/policy.yaml") == ("root", "kaifu", 0o640)
    assert machine.owner("/var/lib/kaifu") == ("kaifu", "kaifu", 0o700)


@pytest.mark.skipif(shutil.which("visudo") is None, reason="sudo is not installed")
def test_the_rules_for_sudo_are_installed_and_valid_and_their_group_is_there(machine: Machine) -> None:
    assert machine.run(block("access/files")).strip().endswith("parsed OK")
    assert machine.owner("/etc/sudoers.d/kaifu") == ("root", "root", 0o440)
    assert re.search("^kaifu-audit:", machine.path("/etc/group").read_text(), flags=re.MULTILINE)


def test_the_program_is_there_and_the_link_leads_to_it(machine: Machine) -> None:
    shown = machine.run("/opt/kaifu/bin/kaifu --version")
    (version,) = re.findall(r"^ln -sfn kaifu-(\S+) ", block("install/program"), flags=re.MULTILINE)
    assert shown == f"kaifu, version {version}\n"


def test_the_settings_are_accepted_and_the_service_is_enabled(configured: Machine) -> None:
    shown = configured.run(block("install/start"))
    assert f"{configured.root}/etc/kaifu/kaifu.yaml is valid." in shown
    assert "observed only" in shown
    wanted = configured.path("/etc/systemd/system/multi-user.target.wants/kaifu-relay.service")
    assert os.readlink(wanted) == "/etc/systemd/system/kaifu-relay.service"


def test_installing_again_keeps_settings_and_policy(configured: Machine) -> None:
    mine = configured.path("/etc/kaifu/kaifu.yaml")
    before = mine.read_bytes()
    configured.run(block("install/files"))
    assert mine.read_bytes() == before


def test_the_service_says_that_it_is_ready_serves_and_stops(
    relay: tuple[subprocess.Popen[str], socket.socket], configured: Machine
) -> None:
    process, manager = relay
    assert process.stderr is not None
    assert manager.recv(4096) == b"READY=1", process.stderr.read()
    ready = next(line for line in process.stderr if line.startswith("ready "))
    (port,) = re.findall(r"listen=127\.0\.0\.1:(\d+)", ready)
    # Nothing listens on the next hop's port here, so a client is told to come again, and keeps its mail.
    with socket.create_connection(("127.0.0.1", int(port)), timeout=60) as client, client.makefile("rb") as replies:
        client.sendall(b"EHLO client.example.co.jp\r\n")
        assert list(replies)[-1].startswith(b"421 4.3.2 ")
    process.send_signal(signal.SIGTERM)
    states = set()
    while b"STOPPING=1" not in states:
        states.add(manager.recv(4096))
    assert process.wait(60) == 0
    assert configured.path("/var/lib/kaifu/ledger.db").stat().st_mode & 0o777 == 0o600


def test_the_backup_is_a_ledger(relay: tuple[subprocess.Popen[str], socket.socket], configured: Machine) -> None:
    assert relay[1].recv(4096) == b"READY=1"
    configured.run(block("backup"))
    saved = configured.path("/var/backups/kaifu/ledger.db")
    assert saved.read_bytes().startswith(b"SQLite format 3\0")
    assert saved.parent.stat().st_mode & 0o777 == 0o700


def test_the_timer_that_sends_anchors_is_enabled_and_what_it_starts_can_be_run(configured: Machine) -> None:
    configured.run(block("seal"))
    wanted = configured.path("/etc/systemd/system/timers.target.wants/kaifu-seal.timer")
    assert os.readlink(wanted) == "/etc/systemd/system/kaifu-seal.timer"
    unit = configured.path("/etc/systemd/system/kaifu-seal.service").read_text()
    (command,) = re.findall(r"^ExecStart=(.*)$", unit, flags=re.MULTILINE)
    assert "--config FILE" in configured.run(command.partition(" --config")[0] + " --help")


# The milter


@pytest.fixture(scope="module")
def with_milter(configured: Machine) -> Machine:
    """After Postfix and the milter have been installed, and the guide's settings put in the place of the relay's."""
    user = pwd.getpwnam("nobody")
    with configured.path("/etc/group").open("a") as groups:
        groups.write(f"postfix:x:{user.pw_gid}:\n")
    configured.path("/var/spool/postfix").mkdir(parents=True)
    configured.run(block("milter/files"))
    return configured


def test_the_socket_has_a_place_where_postfix_may_look(with_milter: Machine) -> None:
    assert with_milter.owner("/var/spool/postfix/kaifu") == ("kaifu", "postfix", 0o750)


def test_the_milter_s_settings_are_accepted_and_its_service_is_enabled_starts_and_stops(with_milter: Machine) -> None:
    file = with_milter.path("/etc/kaifu/kaifu.yaml")
    relay = file.read_text()
    for ledger in with_milter.path("/var/lib/kaifu").iterdir():  # root's, who played the service
        shutil.rmtree(ledger) if ledger.is_dir() else ledger.unlink()
    shown = with_milter.here(block("milter/kaifu.yaml", "yaml"))
    file.write_text(shown.replace("socket_group: postfix\n", ""))  # Postfix need not be on the machine that runs this
    try:
        assert "Milter: listens on unix:" in with_milter.run(block("milter/start"))
        wanted = with_milter.path("/etc/systemd/system/multi-user.target.wants/kaifu-milter.service")
        assert os.readlink(wanted) == "/etc/systemd/system/kaifu-milter.service"
        unit = with_milter.path("/etc/systemd/system/kaifu-milter.service").read_text()
        with service(with_milter, unit) as (process, manager):
            assert process.stderr is not None
            assert manager.recv(4096) == b"READY=1", process.stderr.read()
            assert with_milter.path("/var/spool/postfix/kaifu/milter.sock").is_socket()
            process.send_signal(signal.SIGTERM)
            states = set()
            while b"STOPPING=1" not in states:
                states.add(manager.recv(4096))
            assert process.wait(60) == 0
        assert not with_milter.path("/var/spool/postfix/kaifu/milter.sock").exists()
    finally:
        file.write_text(relay)
