"""Private Postfix and Dovecot instances on loopback, for tests that need real peers.

:class:`Postfix` is one whole Postfix: its own configuration, queue, data and mailboxes in one directory, its own ports, nothing
of the system's touched. It logs through a pipe, so a test waits for what Postfix says, never for time to pass, and it is up in
a fraction of a second. :class:`Dovecot` is an authentication service for its submission port. Both need root (Postfix
changes its user) and Debian's packages; :func:`missing` says what is not there. :func:`system_folder` is where they live:
pytest's own folders are closed to Postfix's user.

``blocks`` reads the configuration that ``systemd/README.md`` shows, so that what these tests start is what the guide says.
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.logged_process import Logged
from tests.session_next_hop import DEADLINE

MASTER = Path("/usr/lib/postfix/sbin/master")
GUIDE = Path(__file__).parents[1] / "systemd" / "README.md"
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"

MAIN_CF = """\
compatibility_level = 3.6
queue_directory = {directory}/queue
data_directory = {directory}/data
daemon_directory = /usr/lib/postfix/sbin
command_directory = /usr/sbin
maillog_file = /dev/stdout
inet_interfaces = loopback-only
inet_protocols = ipv4
myhostname = {hostname}
mydomain = {hostname}
myorigin = $myhostname
mydestination =
mynetworks = 127.0.0.0/8
smtpd_peername_lookup = no
smtp_host_lookup = native
smtp_dns_support_level = disabled
smtputf8_enable = yes
append_dot_mydomain = no
alias_maps =
alias_database =
local_recipient_maps =
virtual_mailbox_base = {directory}/mail
virtual_mailbox_domains = {domains}
virtual_mailbox_maps = static:all/
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
virtual_minimum_uid = 1
in_flow_delay = 0
"""

MASTER_CF = """\
smtp inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


def missing(*programs: str) -> str | None:
    """Why tests with real peers cannot run here, in words; None when they can."""
    if os.geteuid() != 0:
        return "Postfix and Dovecot change their user: only root can start them"
    gone = [program for program in programs if not shutil.which(program, path=_PATH)]
    return f"not installed: {', '.join(gone)} (see .ci/debian)" if gone else None


def program(name: str) -> str:
    """Where a program is, also when it is in a directory for administrators."""
    found = shutil.which(name, path=_PATH)
    assert found is not None, f"{name} is not installed"
    return found


_given: set[int] = set()


def free_port() -> int:
    """A port of loopback that nobody listens on, outside of those that the system gives to clients."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    width = max(lowest - 10_000, 1)
    start = os.getpid() * 97 % width
    for step in range(width):
        port = 10_000 + (start + step) % width
        if port in _given:
            continue
        with socket.socket() as trial, suppress(OSError):
            trial.bind(("127.0.0.1", port))
            _given.add(port)
            return port
    raise AssertionError("no free port on loopback")


@contextmanager
def system_folder() -> Iterator[Path]:
    """A directory that system users may enter, removed afterwards."""
    path = Path(tempfile.mkdtemp(prefix="kaifu-"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


class LoggedProcess(Logged):
    """A peer that is started and ended, and whose log is searched."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what

    def leave(self) -> None:
        self.stop()

    def mark(self) -> int:
        """The present end of the log, for ``after``."""
        with self._logged:
            return len(self.log)

    def wait_for_log(self, pattern: str, after: int = 0, count: int = 1) -> re.Match[str]:
        """The ``count``-th match of a regular expression in the log, from the line with index ``after`` on."""
        found = self.wait_for_logs(pattern, after, count)
        return found[count - 1]

    def wait_for_logs(self, pattern: str, after: int = 0, count: int = 1) -> list[re.Match[str]]:
        """All matches, as soon as there are ``count``."""

        def matches() -> list[re.Match[str]]:
            return [m for line in self.log[after:] if (m := re.search(pattern, line))]

        with self._logged:
            self._logged.wait_for(lambda: len(matches()) >= count, DEADLINE)
            found = matches()
        if len(found) < count:
            said = "\n".join(self.log[after:])
            raise AssertionError(f"{self.what} did not log {pattern!r} {count} times; it logged:\n{said}")
        return found

    def logged(self, pattern: str, after: int = 0) -> list[str]:
        """The lines in which a regular expression occurs."""
        with self._logged:
            return [line for line in self.log[after:] if re.search(pattern, line)]

    def stop(self) -> None:
        """Ask it to end, and wait for that."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it and what it started, at once."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            if number is signal.SIGKILL:
                os.killpg(process.pid, number)
            else:
                process.send_signal(number)
        try:
            process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise AssertionError(f"{self.what} did not end within {DEADLINE:g} s") from None


class Postfix(LoggedProcess):
    """One Postfix. ``domains`` are those whose mail it keeps, in a Maildir per address; ``port`` is its ``smtp`` service.

    ``main`` and ``master`` are laid over a plain configuration: a parameter replaces the one of that name, a service the
    one of that name and type. A service that listens must name its port, but for ``smtp``. ``parameters`` and ``services``
    are what :meth:`start` writes down; until then they can be changed.
    """

    def __init__(
        self, folder: Path, hostname: str, domains: tuple[str, ...] = (), main: str = "", master: str = ""
    ) -> None:
        super().__init__(f"Postfix {hostname}")
        self.hostname = hostname
        self.port = free_port()
        self.directory = folder / hostname
        self._etc = self.directory / "etc"
        self._make_directories()
        user = pwd.getpwnam("postfix")
        base = MAIN_CF.format(
            directory=self.directory, hostname=hostname, domains=" ".join(domains), uid=user.pw_uid, gid=user.pw_gid
        )
        self.parameters = _parameters(base) | _parameters(main)
        self.services = _services(MASTER_CF) | _services(master)

    def _make_directories(self) -> None:
        user, drop = pwd.getpwnam("postfix"), grp.getgrnam("postdrop").gr_gid
        self.directory.mkdir(mode=0o755)
        for name in ("etc", "queue", "queue/pid"):
            (self.directory / name).mkdir()
        for name in ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved",
                     "trace"):  # fmt: skip
            (self.directory / "queue" / name).mkdir(mode=0o700)
            os.chown(self.directory / "queue" / name, user.pw_uid, -1)
        for name, mode in (("public", 0o710), ("maildrop", 0o730)):
            path = self.directory / "queue" / name
            path.mkdir()
            os.chown(path, user.pw_uid, drop)
            path.chmod(mode)
        for name in ("data", "mail"):
            (self.directory / name).mkdir(mode=0o700)
            os.chown(self.directory / name, user.pw_uid, user.pw_gid)

    def start(self) -> None:
        after = self.mark()
        self.write()
        self.spawn(*self.command())
        self.wait_for_log(r"postfix/master\[\d+\]: daemon started", after)

    def command(self) -> list[str | Path]:
        """What starts it, in the foreground."""
        return [MASTER, "-c", self._etc, "-s"]

    def write(self) -> None:
        """Write its configuration."""
        self._write("main.cf", "".join(f"{name} ={value}\n" for name, value in self.parameters.items()))
        services = "".join(self.services.values())
        self._write("master.cf", re.sub(r"(?m)^smtp(\s+inet)", rf"127.0.0.1:{self.port}\1", services))

    def _write(self, name: str, text: str) -> None:
        """Write a configuration file and date it back: Postfix waits until a main.cf is a few seconds old."""
        path = self._etc / name
        path.write_text(text, encoding="utf-8")
        os.utime(path, (0, 0))

    def queue(self) -> list[dict[str, Any]]:
        """What is in its queue, as ``postqueue -j`` tells it."""
        done = subprocess.run(
            [program("postqueue"), "-c", self._etc, "-j"], capture_output=True, text=True, check=True, timeout=DEADLINE
        )
        return [json.loads(line) for line in done.stdout.splitlines()]

    def flush(self) -> None:
        """Try everything in the queue again, now."""
        subprocess.run([program("postqueue"), "-c", self._etc, "-f"], check=True, timeout=DEADLINE)

    def mailbox(self, address: str) -> list[bytes]:
        """The messages in a Maildir, as Postfix stored them (line ends are LF)."""
        folder = self.directory / "mail" / "all"
        messages = [path.read_bytes() for path in sorted(folder.glob("new/*"))]
        return [m for m in messages if re.search(rb"(?im)^delivered-to: " + re.escape(address.encode()) + b"$", m)]

    def wait_for_mail(self, address: str, count: int = 1, after: int = 0) -> list[bytes]:
        """The messages for an address, as soon as that many have been put into its Maildir."""
        self.wait_for_logs(rf"to=<{re.escape(address)}>.*status=sent \(delivered to maildir\)", after, count)
        return self.mailbox(address)


def _parameters(text: str) -> dict[str, str]:
    """The parameters of a main.cf, with their values as written; a line that begins with a space continues one."""
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line[0].isspace():
            found[name] += "\n" + line
        else:
            name, _, value = line.partition("=")
            name = name.strip()
            found[name] = value
    return found


def _services(text: str) -> dict[tuple[str, str], str]:
    """The services of a master.cf by name and type; a line that begins with a space continues one."""
    found: dict[tuple[str, str], str] = {}
    key = ("", "")
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line[0].isspace():
            found[key] += line + "\n"
        else:
            name, kind = line.split()[:2]
            key = (name, kind)
            found[key] = line + "\n"
    return found


class Dovecot(LoggedProcess):
    """Dovecot's authentication service with two users (``PASSWORDS``), for a Postfix with ``smtpd_sasl_type = dovecot``."""

    PASSWORDS: Mapping[str, str] = {"tanaka@example.co.jp": "ひみつ no:1", "sato@example.co.jp": "sesame"}

    def __init__(self, folder: Path, at: Path | None = None) -> None:
        """``at``: where its socket is to be, as in the queue directory of a Postfix that is chrooted."""
        super().__init__("Dovecot")
        self.directory = folder / "dovecot"
        self.directory.mkdir(mode=0o755)
        self.socket = at or self.directory / "auth"
        users = self.directory / "users"
        users.write_text("".join(f"{u}:{_hashed(p)}\n" for u, p in self.PASSWORDS.items()), encoding="utf-8")
        self._config = self.directory / "dovecot.conf"
        self._config.write_text(
            f"base_dir = {self.directory}/run\n"
            f"state_dir = {self.directory}/run\n"
            "log_path = /dev/stderr\n"
            "protocols =\n"
            "ssl = no\n"
            "disable_plaintext_auth = no\n"
            "auth_mechanisms = plain login\n"
            f"passdb {{\n  driver = passwd-file\n  args = {users}\n}}\n"
            "userdb {\n  driver = static\n  args = uid=nobody gid=nogroup home=/nonexistent\n}\n"
            f"service auth {{\n  unix_listener {self.socket} {{\n    mode = 0666\n  }}\n}}\n"
            "service stats {\n  unix_listener stats-reader {\n    mode = 0600\n  }\n}\n",
            encoding="utf-8",
        )

    def start(self) -> None:
        after = self.mark()
        self.spawn(program("dovecot"), "-F", "-c", self._config)
        self.wait_for_log(r"starting up", after)


def _hashed(password: str) -> str:
    done = subprocess.run(
        [program("doveadm"), "pw", "-s", "SSHA256", "-p", password], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def blocks(name: str, guide: Path = GUIDE) -> dict[str, str]:
    """The files that the deployment guide shows for one set-up: ``main.cf``, ``master.cf``, ``kaifu.yaml`` to their text.

    A block belongs to it when its fence says so: three backticks, a language, then ``NAME/FILE``.
    """
    text = guide.read_text(encoding="utf-8")
    found = re.findall(rf"(?m)^```\S*[ \t]+{re.escape(name)}/(\S+)[ \t]*\n(.*?)^```[ \t]*$", text, re.DOTALL)
    assert found, f"{guide} shows no set-up called {name}"
    files: dict[str, str] = {}
    for file, block in found:
        files[file] = files.get(file, "") + block
    return files


def with_ports(text: str, ports: Mapping[int, int]) -> str:
    """A configuration with other ports than those which the guide names."""
    return re.sub(r":(\d+)\b", lambda m: f":{ports.get(int(m[1]), int(m[1]))}", text)
