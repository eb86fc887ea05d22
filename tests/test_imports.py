"""Who may import what: tui over proxy over policies, decisions without clock or disk, each library behind its own door.

The layers and the purity of what decides are contracts in pyproject.toml (import-linter); here they are run, looked at
once more in a running interpreter, and joined by what no linter says.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("policies", "proxy", "tui")

# A library and the modules that may name it. Whoever else needs what it does calls one of these.
DOORS = {
    "yaml": ["policies.document"],
    "re2": ["policies.patterns"],
    "idna": ["policies.facts", "policies.addresses"],
    "sqlite3": ["proxy.ledger_*", "proxy.migrations"],
    "sqlite_utils": ["proxy.migrations"],
    "aiosmtpd": ["proxy.cli_demo"],
    "uvloop": ["proxy.cli_run"],
    "babel": ["tui.words"],
    "click": ["proxy.cli", "proxy.cli_*", "proxy.ledger_cli", "tui.command"],
    "publicsuffixlist": ["proxy.organisation"],
    "rich": ["proxy.cli_*", "proxy.ledger_cli", "proxy.ledger_shown", "tui.*"],
    "textual": ["tui.*"],
}

# What a message needs to be judged by. `os` and `time` are in every interpreter, so only the linter can forbid them.
JUDGING = ["kaifu.policies.decide", "kaifu.proxy.transit"]
FOREIGN = ["aiosmtpd", "asyncio", "click", "email", "logging", "rich", "socket", "sqlite3", "ssl", "uvloop", "yaml"]


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Every module of the three packages, as ``proxy.relay``."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).glob("*.py")):
            yield f"{package}.{path.stem}", ast.parse(path.read_text(), str(path))


def imported(tree: ast.Module) -> Iterator[str]:
    """The absolute names that a module imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module


def third_parties() -> set[str]:
    return {
        name.split(".")[0]
        for _, tree in modules()
        for name in imported(tree)
        if name.split(".")[0] not in sys.stdlib_module_names | {"kaifu"}
    }


def test_the_contracts_hold() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-logo"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("module", JUDGING)
def test_judging_a_message_loads_nothing_that_could_look_around(module: str) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & set(FOREIGN)


@pytest.mark.parametrize("library", sorted(DOORS))
def test_a_library_is_imported_behind_its_door_only(library: str) -> None:
    users = [name for name, tree in modules() if library in {word.split(".")[0] for word in imported(tree)}]
    assert [name for name in users if not any(fnmatchcase(name, door) for door in DOORS[library])] == []
    assert users, f"{library} is not used any more: take it out of here and of pyproject.toml"


def test_every_library_has_a_door() -> None:
    assert third_parties() == set(DOORS) - set(sys.stdlib_module_names)


# What a command or a screen may use of the ledger's modules: the desk, words and values, and how things are shown. Never what
# reads or changes a ledger for people behind the desk's back. (Those that run a host open a ledger for the host.)
LEDGER_FOR_PEOPLE = {
    "ledger", "ledger_desk", "ledger_cli", "ledger_open", "ledger_shown", "ledger_states", "ledger_timeline",
    "ledger_anchor", "ledger_check", "ledger_entries", "ledger_places", "ledger_verify",
}  # fmt: skip
LEDGER_FOR_HOSTS = {"cli_milter": {"ledger_gathering"}}


def ledger_modules(tree: ast.Module) -> Iterator[tuple[str, set[str]]]:
    """The ledger's modules that a module of ours imports, with the names it takes of each."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = (node.module or "").removeprefix("kaifu.proxy").removeprefix(".")
            names = {alias.name for alias in node.names}
            if module.startswith("ledger"):
                yield module, names
            elif not module:
                yield from ((name, set()) for name in names if name.startswith("ledger"))
        elif isinstance(node, ast.Import):
            parts = [alias.name.removeprefix("kaifu.proxy.") for alias in node.names]
            yield from ((name, set()) for name in parts if name.startswith("ledger"))


def test_people_reach_the_ledger_through_the_desk_alone() -> None:
    for name, tree in modules():
        package, _, module = name.partition(".")
        if module.startswith("cli") or package == "tui" or module == "explain":
            for used, names in ledger_modules(tree):
                assert used in LEDGER_FOR_PEOPLE | LEDGER_FOR_HOSTS.get(module, set()), f"{name} imports {used}"
                if used == "ledger_open":
                    assert "open_ledger" not in names or module == "cli_run", f"{name} opens a ledger"
                if used in ("ledger_verify", "ledger_places"):
                    assert not names & {"verify", "send"}, f"{name} does what the desk should"


def test_nobody_imports_a_package_by_its_directory() -> None:
    """From the repository's root ``import proxy`` works too, and would make a second module of the same file."""
    trees = [*modules(), *((path.name, ast.parse(path.read_text())) for path in ROOT.glob("tests/**/*.py"))]
    wrong = [(where, name) for where, tree in trees for name in imported(tree) if name.split(".")[0] in PACKAGES]
    assert wrong == []
