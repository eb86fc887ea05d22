"""What all tests share: how long they search, where the corpus is, and that nothing is skipped unseen.

Environment: ``KAIFU_CORPUS`` the directory of real messages (tests that need it skip without); ``KAIFU_LONG=1`` the
full counts, and the tests marked ``long``; ``KAIFU_NO_SKIPS=1`` a skipped test fails the run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from types import FrameType

import hypothesis
import pytest
from click.testing import CliRunner, Result

from kaifu.proxy.cli import cli

LONG = os.environ.get("KAIFU_LONG") == "1"

hypothesis.settings.register_profile("short", deadline=None, derandomize=True, max_examples=100, print_blob=True)
hypothesis.settings.register_profile(
    "long",
    deadline=None,
    max_examples=3000,
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("long" if LONG else "short")

_skipped = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_skipped] = []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked ``long``, unless it was asked for."""
    left_out = [] if LONG else [item for item in items if item.get_closest_marker("long")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        item.config.stash[_skipped].append(item.nodeid)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.skipped:
        collector.config.stash[_skipped].append(collector.nodeid)
    return report


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """With ``KAIFU_NO_SKIPS=1`` a run that skipped something has failed, and says what it skipped."""
    skipped = session.config.stash[_skipped]
    if skipped and os.environ.get("KAIFU_NO_SKIPS") == "1" and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.stash[_skipped] and os.environ.get("KAIFU_NO_SKIPS") == "1":
        terminalreporter.section("skipped, and nothing may be skipped here")
        for nodeid in config.stash[_skipped]:
            terminalreporter.line(nodeid)


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The directory of real messages, found through ``KAIFU_CORPUS`` only."""
    where = os.environ.get("KAIFU_CORPUS")
    if not where:
        pytest.skip("KAIFU_CORPUS is not set: the corpus of real messages is not here")
    path = Path(where)
    assert path.is_dir(), f"KAIFU_CORPUS={where} is no directory"
    return path


@pytest.fixture(scope="session")
def long_run() -> bool:
    """True when the full counts are wanted (``make test-long``)."""
    return LONG


@pytest.fixture
def run(ledger: Path) -> Callable[..., Result]:
    """Any command of kaifu's over the file that the fixture ``ledger`` of the test's module makes."""

    def command(*words: str) -> Result:
        return CliRunner().invoke(cli, [*words, "--ledger", f"sqlite:///{ledger}"], catch_exceptions=False)

    return command


@pytest.fixture
def count_calls() -> Callable[[Callable[[], object]], int]:
    """How many functions, Python's and built-in ones, a piece of work calls: effort without a clock."""

    def count(work: Callable[[], object]) -> int:
        calls = 0

        def note(frame: FrameType, event: str, argument: object) -> None:
            nonlocal calls
            calls += event in ("call", "c_call")

        sys.setprofile(note)
        try:
            work()
        finally:
            sys.setprofile(None)
        return calls

    return count
