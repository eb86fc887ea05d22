"""Every mistake has a file of its own and the exact words that must be said about it, all of them at once.

``bad_policies/NAME.yaml`` beside ``NAME.expected``: what ``kaifu policy check NAME.yaml`` says on stderr. Names that
begin with ``lint_`` are policies that load and only earn warnings.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kaifu.policies.document import Problem, ProblemsError
from kaifu.policies.load import lint, load, load_file
from kaifu.proxy.cli import cli

HERE = Path(__file__).parent
BAD = HERE / "bad_policies"
FILES = sorted(BAD.glob("*.yaml"))
EXAMPLES = sorted((HERE.parent / "policies" / "examples").glob("*.yaml"))


def problems_of(path: Path) -> tuple[Problem, ...]:
    try:
        return tuple(lint(load(path.read_bytes(), path.name)))
    except ProblemsError as error:
        return error.problems


def check(*files: Path | str) -> Result:
    return CliRunner().invoke(cli, ["policy", "check", *map(str, files)])


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_the_file_is_reported_in_exactly_these_words(path: Path) -> None:
    said = "".join(f"{problem}\n" for problem in problems_of(path))
    assert said == path.with_suffix(".expected").read_text("utf-8")
    assert said, "a file without problems shows nothing"


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_lint_warns_and_everything_else_is_an_error(path: Path) -> None:
    severities = {problem.severity for problem in problems_of(path)}
    assert severities == ({"warning"} if path.stem.startswith("lint_") else {"error"})


def test_no_expectation_is_left_without_its_policy() -> None:
    assert {p.stem for p in BAD.glob("*.expected")} == {p.stem for p in FILES}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_the_example_policies_earn_no_warning(path: Path) -> None:
    assert problems_of(path) == ()


def test_check_says_ok_and_how_many_rules() -> None:
    one, other = EXAMPLES[0], EXAMPLES[1]
    result = check(one, other)
    assert result.exit_code == 0
    assert result.stderr == ""
    counts = [len(load_file(path).rules) for path in (one, other)]
    assert result.stdout == f"{one}: ok, {counts[0]} rules\n{other}: ok, {counts[1]} rules\n"


def test_check_counts_a_single_rule_as_one(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("version: 1\nrules: [{name: a, then: {request: strip}}]\n")
    assert check(path).stdout == f"{path}: ok, 1 rule\n"


def test_the_name_of_a_file_steers_no_terminal(tmp_path: Path) -> None:
    path = tmp_path / "a\x1b[31mb.yaml"
    path.write_text("version: 1\n")
    assert check(path).stdout == f"{tmp_path}/a\\x1b[31mb.yaml: ok, 0 rules\n"


def test_check_reports_every_file_and_fails_for_the_bad_one() -> None:
    bad = BAD / "version_two.yaml"
    result = check(bad, EXAMPLES[0], BAD / "keys.yaml")
    assert result.exit_code == 2
    assert result.stdout.startswith(f"{EXAMPLES[0]}: ok")
    assert result.stderr.startswith(f"{bad}:1:10: this kaifu reads version 1, not 2\n")
    assert f"{BAD / 'keys.yaml'}:4:5: " in result.stderr


def test_warnings_go_to_stderr_and_do_not_fail() -> None:
    path = BAD / "lint_unused.yaml"
    result = check(path)
    assert result.exit_code == 0
    assert result.stderr == path.with_suffix(".expected").read_text().replace("lint_unused.yaml", str(path))
    assert result.stdout == f"{path}: ok, 1 rule\n"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    result = check(tmp_path / "absent.yaml", tmp_path)
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        f"{tmp_path / 'absent.yaml'}: cannot be read: No such file or directory",
        f"{tmp_path}: cannot be read: Is a directory",
    ]


def test_check_without_a_file_is_bad_usage() -> None:
    assert check().exit_code == 2


def test_a_file_beyond_the_limit_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("version: 1\n" + "# padding\n" * 120_000)
    assert check(path).stderr == f"{path}:1:1: the file is larger than 1048576 octets\n"
