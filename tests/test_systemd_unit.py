"""The unit is valid, and as locked in as the relay can bear."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

UNIT = Path(__file__).parent.parent / "systemd/kaifu-relay.service"
EXPOSED = 15  # tenths on systemd's scale of 0 to 100; above 20 something has been opened that need not be

pytestmark = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a program that exists here in the place of /opt/kaifu."""
    copy = tmp_path / UNIT.name
    kaifu = Path(sys.executable).with_name("kaifu")
    copy.write_text(re.sub("/opt/kaifu/bin/kaifu", str(kaifu), UNIT.read_text()))
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
    unit.write_text(unit.read_text().replace("Type=notify", "Type=notifies"))
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


def test_a_stop_waits_longer_than_the_next_hop_may_take() -> None:
    """From the final dot until its reply nothing may end the process (RFC 5321 4.5.3.2.6: ten minutes)."""
    (minutes,) = re.findall(r"^TimeoutStopSec=(\d+)min$", UNIT.read_text(), flags=re.MULTILINE)
    assert int(minutes) > 10
