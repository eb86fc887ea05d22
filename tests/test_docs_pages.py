"""The pages are true: links lead somewhere, commands and targets exist, every module is on the map."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from tests.pictures import PICTURES

import kaifu.tui.main  # noqa: F401 - adds its word to the commands
from kaifu.proxy.cli import COMMANDS, cli

ROOT = Path(__file__).parent.parent
PAGES = [path for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("*/*.md")]) if path.parent.name[:1] != "."]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """Headings in the form in which links name them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match("[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = (page.parent / file) if file else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_make_target_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(), flags=re.MULTILINE)
    assert set(named) <= targets


def typed(page: Path) -> Iterator[list[str]]:
    """Each `kaifu …` that a page shows, as a line of a block or within one, word by word."""
    text = page.read_text()
    blocks = "".join(re.findall(r"^```.*?\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL))
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    lines = re.findall(r"^(?:\S*bin/)?kaifu ([a-z][^\n#>|]*)", blocks, flags=re.MULTILINE)
    for line in [*lines, *re.findall(r"`(?:\S*bin/)?kaifu ([a-z][^`]*)`", text)]:
        yield line.split()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_exists_with_its_options(page: Path) -> None:
    for words in typed(page):
        for alternative in words[1].split("|") if len(words) > 1 else [""]:
            follow([words[0], alternative, *words[2:]])


def follow(words: list[str]) -> None:
    """Walk from the first word to the command that it names; what follows must be options and arguments it takes."""
    command: click.Command = cli
    context = click.Context(cli)
    rest = [word for word in words if word]
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        found = command.get_command(context, rest.pop(0))
        assert found is not None, " ".join(words)
        command = found
    known = {option for parameter in command.params for option in parameter.opts} | {"--help", "--version"}
    used = {word.strip("[]").split("=")[0] for word in rest if re.match(r"\[?--[a-z]", word)}
    assert used <= known, f"kaifu {' '.join(words)}: {used - known}"


@pytest.mark.parametrize("word", COMMANDS)
def test_every_command_says_what_it_does(word: str) -> None:
    command = cli.get_command(click.Context(cli), word)
    assert command is not None
    assert command.help
    for sub in getattr(command, "commands", {}).values():
        assert sub.help, f"kaifu {word} {sub.name}"


@pytest.mark.parametrize("package", ["proxy", "tui"])
def test_every_module_of_a_package_is_on_its_map(package: str) -> None:
    page = (ROOT / package / "README.md").read_text()
    (table,) = re.findall(r"^## Modules\n(.*?)(?=^## )", page, flags=re.MULTILINE | re.DOTALL)
    named = re.findall(r"`(\w+)`", "".join(re.findall(r"^\|.*$", table, flags=re.MULTILINE)))
    assert sorted(named) == sorted(path.stem for path in (ROOT / package).glob("[a-z]*.py"))


def test_the_pictures_are_those_that_are_drawn_and_fetch_nothing() -> None:
    pictures = sorted((ROOT / "tui/pictures").iterdir())
    assert {path.name for path in pictures} == {f"{name}.svg" for name in PICTURES}
    for path in pictures:
        picture = path.read_text()
        assert f"tui/pictures/{path.name}" in (ROOT / "README.md").read_text()
        assert set(re.findall(r"\w+://[^\s\"']+", picture)) == {"http://www.w3.org/2000/svg"}
        assert "url(" not in picture.replace("url(#", "")


def test_the_changelog_knows_the_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    first, *_ = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert first == version


def test_the_changelog_puts_security_first() -> None:
    for version in re.split(r"^## ", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)[1:]:
        sections = re.findall(r"^### (.*)$", version, flags=re.MULTILINE)
        assert "Security" not in sections[1:]
