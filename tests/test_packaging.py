"""What is built is what is in the repository, it runs where nothing else is installed, and versions are locked.

The wheel is built from a copy of the files that git knows (so a forgotten ``git add`` fails here, and nothing is left
behind in the tree), by the same script as ``make dist``, without network.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
TOP_LEVEL = {
    *("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "Makefile", "requirements.lock"),
    *("proxy", "policies", "tui", "tests", "systemd"),
}
MAIL = b"""\
From: Aiko <aiko@example.jp>\r
To: bob@partner.example\r
Subject: contract\r
Disposition-Notification-To: aiko@example.jp\r
\r
Hello.\r
"""


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.split("\0") if name and os.path.lexists(ROOT / name)]


def project() -> dict[str, list[str]]:
    settings: dict[str, dict[str, list[str]]] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return {"runtime": settings["project"]["dependencies"], "dev": settings["dependency-groups"]["dev"]}


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``make dist`` makes."""
    copy = tmp_path_factory.mktemp("kaifu")
    for name in tracked():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, copy / name, follow_symlinks=False)
    out = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, copy / ".ci/dist.py", out], check=True)
    return out


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    (found,) = dist.glob("kaifu-*.whl")
    return found


@pytest.fixture(scope="module")
def installed(dist: Path, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty environment with the wheel and what ``kaifu.txt`` lists; nothing else can be imported there."""
    venv = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    (site,) = venv.glob("lib/python3.*/site-packages")
    for name in re.findall("^([a-z0-9-]+)==", (dist / "kaifu.txt").read_text(), flags=re.MULTILINE):
        if name == "kaifu":
            continue
        parts = distribution(name)
        for top in {file.parts[0] for file in parts.files or () if file.parts[0] not in ("..", "__pycache__")}:
            (site / top).symlink_to(Path(str(parts.locate_file(top))))
    pip = [sys.executable, "-m", "pip", "--python", str(venv / "bin/python"), "install", "--quiet"]
    subprocess.run([*pip, "--no-index", "--no-deps", "--disable-pip-version-check", str(wheel)], check=True)
    return venv


def test_the_wheel_holds_what_git_knows_of_the_three_directories(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        built = {name for name in archive.namelist() if name.startswith("kaifu/")}
    assert built == {
        f"kaifu/{name}"
        for name in tracked()
        if name.startswith(("policies/", "proxy/", "tui/")) and not name.endswith((".md", ".svg"))
    }


def test_the_wheel_brings_the_deployment_guide_and_its_files(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        shared = {name.split(".data/data/")[1] for name in archive.namelist() if ".data/data/" in name}
    wanted = [name for name in tracked() if name.startswith(("systemd/", "policies/examples/"))]
    assert shared == {f"share/kaifu/{name.removeprefix('policies/')}" for name in wanted}


def test_in_an_empty_environment_the_command_knows_its_words(installed: Path) -> None:
    shown = subprocess.run([installed / "bin/kaifu", "--help"], capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    for word in ("relay", "tui", "demo", "config", "policy", "inspect", "receipts", "ledger"):
        assert re.search(rf"^  {word} ", shown.stdout, flags=re.MULTILINE), word


def test_in_an_empty_environment_a_message_is_read(installed: Path, tmp_path: Path) -> None:
    mail = tmp_path / "mail.eml"
    mail.write_bytes(MAIL)
    command = [str(installed / "bin/kaifu"), "inspect", "--json", str(mail)]
    shown = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert shown.returncode == 0, shown.stderr
    report = json.loads(shown.stdout)
    assert (report["kind"], [request["name"] for request in report["requests"]]) == (
        "mail",
        ["Disposition-Notification-To"],
    )


def test_every_module_can_be_imported_in_an_empty_environment(installed: Path, wheel: Path) -> None:
    """But for the one that is there for the milter extra."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name.removesuffix(".py").replace("/", ".") for name in archive.namelist() if name.endswith(".py")}
    code = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
    modules = sorted(name.removesuffix(".__init__") for name in names)
    done = subprocess.run([installed / "bin/python", "-c", code, *modules], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_top_level_is_as_small_as_it_was_meant_to_be() -> None:
    tops = {name.split("/")[0] for name in tracked()}
    assert {name for name in tops if not name.startswith(".")} == TOP_LEVEL


def test_every_directory_has_a_page_to_start_from() -> None:
    for directory in ("proxy", "policies", "tui", "tests", "systemd"):
        assert f"{directory}/README.md" in tracked()


def test_every_dependency_is_locked_in_a_version_that_is_allowed() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    locked = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", lock, flags=re.MULTILINE))
    for requirement in map(Requirement, [line for lines in project().values() for line in lines]):
        assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)]), str(requirement)


def test_the_lock_file_has_a_hash_for_everything_and_names_no_server() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    entries = re.split(r"^(?=[a-z0-9])", lock, flags=re.MULTILINE)[1:]
    assert len(entries) > len(project()["runtime"])
    for entry in entries:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry
    assert not re.search("://|index-url|find-links", lock)


def test_a_server_gets_no_development_tools(dist: Path) -> None:
    needed = (dist / "kaifu.txt").read_text()
    for requirement in map(Requirement, project()["dev"]):
        assert not re.search(rf"^{canonicalize_name(requirement.name)}==", needed, flags=re.MULTILINE), requirement
    for requirement in map(Requirement, project()["runtime"]):
        assert re.search(rf"^{canonicalize_name(requirement.name)}==", needed, flags=re.MULTILINE), requirement


def test_what_the_milter_is_compared_with_is_locked_and_on_no_server(dist: Path) -> None:
    """pymilter is under the GPL, and needs a compiler and libmilter's headers."""
    assert not any(re.match("(?i)pymilter", line) for lines in project().values() for line in lines)
    assert re.search("^pymilter==", (ROOT / "requirements.lock").read_text(), flags=re.MULTILINE)
    assert "pymilter" not in (dist / "kaifu.txt").read_text()
