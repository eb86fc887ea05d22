"""The policy reference, the schema and the examples say what the loader does."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from kaifu.policies.decide import decide
from kaifu.policies.document import MappingNode, Node, Problem, ProblemsError, SequenceNode, read
from kaifu.policies.facts import Direction, Facts, Kind, Mailbox, MessageFacts
from kaifu.policies.load import lint, load
from kaifu.policies.reasons import sentence
from kaifu.policies.schema import schema, text

HERE = Path(__file__).parent
POLICIES = HERE.parent / "policies"
PAGE = (POLICIES / "README.md").read_text("utf-8")
EXAMPLES = sorted((POLICIES / "examples").glob("*.yaml"))
BAD = sorted((HERE / "bad_policies").glob("*.yaml"))
VALIDATOR = jsonschema.Draft7Validator(schema())


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


def plain(node: Node) -> Any:
    """A node as an editor's YAML 1.2 reader sees it."""
    if isinstance(node, MappingNode):
        return {key.text: plain(value) for key, value in node.entries}
    if isinstance(node, SequenceNode):
        return [plain(item) for item in node.items]
    if node.empty:
        return None
    if node.plain and node.text.lower() in ("true", "false"):
        return node.text.lower() == "true"
    if node.plain and re.fullmatch(r"-?(0|[1-9]\d*)(\.\d+)?", node.text):
        return float(node.text) if "." in node.text else int(node.text)
    return node.text


def schema_errors(source: str | bytes) -> list[str]:
    node, _ = read(source, "policy.yaml")
    assert node is not None
    return [error.message for error in VALIDATOR.iter_errors(plain(node))]


def problems_of(source: str) -> list[Problem]:
    try:
        return lint(load(source, "policy.yaml"))
    except ProblemsError as error:
        return list(error.problems)


# --- the schema ---------------------------------------------------------------------------------------------------


def test_the_committed_schema_is_what_the_code_makes() -> None:
    made = subprocess.run([sys.executable, "-m", "kaifu.policies.schema"], capture_output=True, text=True, check=True)
    assert made.stdout == text()
    assert (POLICIES / "schema.json").read_text("utf-8") == text()


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft7Validator.check_schema(json.loads(text()))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_the_schema_accepts_every_example(path: Path) -> None:
    assert schema_errors(path.read_bytes()) == []


@pytest.mark.parametrize("path", [p for p in BAD if p.stem.startswith("lint_")], ids=lambda p: p.stem)
def test_the_schema_accepts_what_only_earns_warnings(path: Path) -> None:
    assert schema_errors(path.read_bytes()) == []


def readable_but_bad() -> Iterator[Path]:
    """The bad files that are good YAML: an editor asks the schema about them."""
    for path in BAD:
        node, problems = read(path.read_bytes(), path.name)
        if node is not None and not problems and not path.stem.startswith("lint_"):
            yield path


@pytest.mark.parametrize("path", list(readable_but_bad()), ids=lambda p: p.stem)
def test_the_schema_rejects_what_the_loader_rejects(path: Path) -> None:
    assert schema_errors(path.read_bytes())


# --- the page -----------------------------------------------------------------------------------------------------


def keys(part: dict[str, Any]) -> Iterator[str]:
    """Every key and every word of a closed set that a schema knows."""
    for name, value in part.items():
        if name == "properties":
            yield from value
        if name == "enum":
            yield from value
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, dict):
                yield from keys(inner)


def test_every_key_and_every_word_of_the_schema_is_on_the_page() -> None:
    known = set(keys(schema()))
    assert len(known) > 60
    assert [key for key in sorted(known) if f"`{key}`" not in PAGE] == []


def test_every_key_in_a_table_of_the_page_exists() -> None:
    known = {*keys(schema()), "@", "*", "<>"}
    for heading in ("The file", "Conditions", "Actions"):
        (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## )", PAGE, flags=re.MULTILINE | re.DOTALL)
        named = re.findall(r"^\| `([^`]+)` \|", section, flags=re.MULTILINE)
        assert named
        assert [key for key in named if key not in known] == []


@pytest.mark.parametrize("block", blocks("yaml"), ids=lambda block: block.strip().splitlines()[-1])
def test_every_policy_on_the_page_loads_without_a_warning(block: str) -> None:
    assert problems_of(block) == []
    assert schema_errors(block) == []


def test_the_errors_on_the_page_are_what_the_loader_says() -> None:
    policy, first, second = blocks("text")
    assert "".join(f"{problem}\n" for problem in problems_of(policy)) == first
    quoted = policy.replace("/contract(?!or)/", '"/contract(?!or)/"')
    assert "".join(f"{problem}\n" for problem in problems_of(quoted)) == second


def test_the_sentence_on_the_page_is_what_the_first_policy_says() -> None:
    class Nothing:
        def values(self, name: str) -> list[str]:
            return []

    policy = load(blocks("yaml")[0], "policy.yaml")
    legal = Mailbox("legal", "example.co.jp")
    message = MessageFacts(Kind.MAIL, legal, False, False, False, (), Nothing(), "contract")
    now = datetime(2026, 1, 7, tzinfo=UTC)
    facts = Facts(message, Mailbox("bob", "partner.example"), Direction.OUTBOUND, True, now)
    assert f"> {sentence(decide(policy, facts), facts)}\n" in PAGE


def test_the_page_lists_every_example() -> None:
    assert sorted(set(re.findall(r"\(examples/([\w-]+\.yaml)\)", PAGE))) == [path.name for path in EXAMPLES]


def test_every_module_is_on_the_page() -> None:
    _, code = PAGE.split("## The code\n")
    code = re.sub(r"\(.*?\)", "", code)
    named = re.findall(r"`(\w+)`", "".join(re.findall(r"^\|.*$", code, flags=re.MULTILINE)))
    assert sorted(named) == sorted(path.stem for path in POLICIES.glob("[a-z]*.py"))
