"""The units are valid, and as locked in as relay and milter can bear."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.postfix_harness import blocks

SYSTEMD = Path(__file__).parent.parent / "systemd"
UNITS = ("kaifu-relay.service", "kaifu-milter.service", "kaifu-seal.service")
EXPOSED = 15  # tenths on systemd's scale of 0 to 100; above 20 something has been opened that need not be

pytestmark = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")


@pytest.fixture(params=UNITS)
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A unit with a program that exists here in the place of /opt/kaifu."""
    copy = tmp_path / str(request.param)
    kaifu = Path(sys.executable).with_name("kaifu")
    copy.write_text(re.sub("/opt/kaifu/bin/kaifu", str(kaifu), (SYSTEMD / copy.name).read_text()))
    return copy


def test_systemd_finds_nothing_wrong_with_the_unit(unit: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", unit],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_systemd_would_find_a_mistake(unit: Path) -> None:
    unit.write_text(re.sub("^Type=.*$", "Type=notifies", unit.read_text(), flags=re.MULTILINE))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False)
    assert "notifies" in done.stderr


def test_the_service_can_do_little_beside_its_work(unit: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSED}", "--no-pager", unit],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_the_timer_starts_what_sends_anchors(tmp_path: Path) -> None:
    kaifu = Path(sys.executable).with_name("kaifu")
    for name in ("kaifu-seal.service", "kaifu-seal.timer"):
        (tmp_path / name).write_text((SYSTEMD / name).read_text().replace("/opt/kaifu/bin/kaifu", str(kaifu)))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", tmp_path / "kaifu-seal.timer"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_stop_waits_longer_than_the_next_hop_may_take() -> None:
    """From the final dot until its reply nothing may end the process (RFC 5321 4.5.3.2.6: ten minutes)."""
    unit = (SYSTEMD / "kaifu-relay.service").read_text()
    (minutes,) = re.findall(r"^TimeoutStopSec=(\d+)min$", unit, flags=re.MULTILINE)
    assert int(minutes) > 10


def test_the_milter_may_do_what_giving_its_socket_to_postfix_takes() -> None:
    """What the sandbox would forbid otherwise: chown, in a directory of Postfix's, to a group that it is a member of."""
    unit = (SYSTEMD / "kaifu-milter.service").read_text()
    filters = re.findall(r"^SystemCallFilter=(.*)$", unit, flags=re.MULTILINE)
    assert filters.index("@chown") > filters.index("~@privileged @resources")
    assert not re.search("^PrivateUsers=yes", unit, flags=re.MULTILINE)
    [(directory, owner, group)] = re.findall(
        r"^d (\S+) \d+ (\S+) (\S+) -$", (SYSTEMD / "kaifu-milter.tmpfiles").read_text(), flags=re.MULTILINE
    )
    assert (f"ReadWritePaths={directory}\n" in unit, f"User={owner}\n" in unit) == (True, True)
    assert f"SupplementaryGroups={group}\n" in unit


def test_for_sendmail_the_milter_needs_nothing_of_postfix_s(tmp_path: Path) -> None:
    kaifu = Path(sys.executable).with_name("kaifu")
    unit = tmp_path / "kaifu-milter.service"
    unit.write_text((SYSTEMD / unit.name).read_text().replace("/opt/kaifu/bin/kaifu", str(kaifu)))
    override = tmp_path / f"{unit.name}.d" / "override.conf"
    override.parent.mkdir()
    verify: list[str | Path] = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", unit]
    override.write_text(blocks("sendmail")[override.name])
    done = subprocess.run(verify, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    emptied = set(re.findall(r"^(\w+)=$", override.read_text(), flags=re.MULTILINE))
    named = re.findall(r"^(\w+)=.*\bpostfix\b", unit.read_text(), flags=re.MULTILINE)
    assert emptied == set(named) - {"Before"}
