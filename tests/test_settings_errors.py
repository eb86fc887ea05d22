"""Every mistake in a settings file is named, with its place: one file per mistake, and what must be said about it.

``bad_settings/NAME.yaml`` is the file, ``bad_settings/NAME.expected`` the whole message. After a change of wording:
``KAIFU_UPDATE=1 pytest tests/test_settings_errors.py`` writes the messages anew; read the difference.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kaifu.policies.document import ProblemsError
from kaifu.proxy.settings import load_settings

CASES = sorted((Path(__file__).parent / "bad_settings").glob("*.yaml"))


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_a_bad_file_is_refused_with_every_reason(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(case.parent)
    with pytest.raises(ProblemsError) as caught:
        load_settings(Path(case.name))
    said = f"{caught.value}\n"
    expected = case.with_suffix(".expected")
    if os.environ.get("KAIFU_UPDATE") == "1":
        expected.write_text(said)
    assert said == expected.read_text()


def test_every_expectation_has_its_file() -> None:
    assert CASES
    assert {path.stem for path in CASES} == {path.stem for path in CASES[0].parent.glob("*.expected")}


def test_a_missing_file_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ProblemsError, match=r"kaifu\.yaml:1:1: cannot be read: No such file.*--config"):
        load_settings(tmp_path / "kaifu.yaml")


def test_a_directory_is_no_settings_file(tmp_path: Path) -> None:
    with pytest.raises(ProblemsError, match="cannot be read: Is a directory"):
        load_settings(tmp_path)
