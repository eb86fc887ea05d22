"""``kaifu inspect`` as people and scripts use it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kaifu.proxy.cli import cli

RECEIPTS = Path(__file__).parent / "fixtures" / "receipts"
PLAIN = b"Subject: hello\r\n\r\ntext\r\n"


def inspect(*arguments: str | Path, stdin: bytes = b"") -> Result:
    return CliRunner().invoke(cli, ["inspect", *map(str, arguments)], input=stdin)


def fixture(name: str) -> Path:
    return RECEIPTS / f"{name}.eml"


def test_a_receipt_is_explained_to_people() -> None:
    result = inspect(fixture("thunderbird"))
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"{fixture('thunderbird')}: a receipt (MDN, RFC 8098)",
        "  disposition          displayed (manual-action/mdn-sent-automatically)",
        "  final recipient      h.sato@partner.example",
        "  reporting UA         Mozilla Thunderbird",
        "  about                <20260703081502.4F1A2@mx.example.co.jp> (Original-Message-ID)",
        "  about                <20260703081502.4F1A2@mx.example.co.jp> (References)",
        "  about                <20260703081502.4F1A2@mx.example.co.jp> (third part)",
    ]


def test_a_delivery_report_names_every_recipient_and_why_it_is_always_delivered() -> None:
    lines = inspect(fixture("dsn-mixed")).stdout.splitlines()
    assert lines[1] == "  always delivered     a recipient failed"
    assert [line.split(None, 1)[1] for line in lines if line.startswith("  recipient ")] == [
        "a.ito@partner.example: delivered 2.0.0",
        "nobody@partner.example: failed 5.1.1",
        "b.ueda@partner.example: delayed 4.2.2",
    ]


def test_a_suspected_receipt_is_called_nothing_more() -> None:
    result = inspect(fixture("outlook-tnef"))
    assert "a suspected receipt: it looks like one by its form, and confirms nothing" in result.stdout
    assert "displayed" not in result.stdout


def test_requests_are_listed_and_those_that_do_not_ask_told_apart() -> None:
    lines = inspect(fixture("every-request-header")).stdout.splitlines()
    assert '  asks for a receipt   disposition-notification-to: "Sato, Hanako" <h.sato@example.co.jp>' in lines
    assert "  request header       X-Ack: No" in lines
    assert not any("Chat-" in line for line in lines)


def test_json_is_one_object_per_file_and_nothing_else() -> None:
    files = [fixture("dsn-mixed"), fixture("forwarded-receipt"), fixture("outlook-tnef")]
    result = inspect("--json", *files)
    objects = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(o["file"], o["kind"]) for o in objects] == [
        (str(files[0]), "dsn"),
        (str(files[1]), "mail"),
        (str(files[2]), "suspected-receipt"),
    ]
    assert (result.exit_code, result.stderr) == (0, "")


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_standard_input_is_a_hyphen(flags: list[str]) -> None:
    result = inspect(*flags, "-", stdin=fixture("thunderbird").read_bytes())
    assert result.exit_code == 0
    assert "20260703081502.4F1A2@mx.example.co.jp" in result.stdout


def test_standard_input_that_is_closed_is_told() -> None:
    code = "import os, sys; os.close(0); os.execv(sys.argv[1], sys.argv[1:])"
    main = "from kaifu.proxy.cli import main; main()"
    command = [sys.executable, "-c", code, sys.executable, "-c", main, "inspect", "-"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (2, "", "-: standard input is closed\n")


def test_a_file_that_cannot_be_read_is_told_and_the_others_are_shown(tmp_path: Path) -> None:
    missing = tmp_path / "missing\x1b[2J.eml"
    result = inspect("--json", missing, fixture("dsn-mixed"), tmp_path)
    assert result.exit_code == 2
    assert [json.loads(line)["kind"] for line in result.stdout.splitlines()] == ["dsn"]
    assert result.stderr.splitlines() == [
        f"{tmp_path}/missing\\x1b[2J.eml: No such file or directory",
        f"{tmp_path}: Is a directory",
    ]


@pytest.mark.parametrize("name", ["\0.eml", "a" * 5000])
def test_a_name_that_no_file_can_have_is_told(name: str) -> None:
    result = inspect(name)
    assert (result.exit_code, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1


def test_without_a_file_the_usage_is_shown() -> None:
    result = inspect()
    assert result.exit_code == 2
    assert "Usage:" in result.stderr


@pytest.mark.parametrize("flags", [[], ["--json"]])
@pytest.mark.parametrize("path", sorted(RECEIPTS.glob("*.eml")), ids=lambda path: path.stem)
def test_nothing_that_came_from_mail_reaches_the_terminal_raw(path: Path, flags: list[str]) -> None:
    for line in inspect(*flags, path).stdout.splitlines():
        assert line.isprintable(), line


def test_escapes_of_a_hostile_receipt_are_visible() -> None:
    shown = inspect(fixture("hostile-text")).stdout
    assert "\\x1b]0;pwned\\x07\\x1b[31m; [bold]Mail[/bold] \\u202egpj.exe" in shown


def test_a_file_without_end_is_judged_by_its_beginning(tmp_path: Path) -> None:
    file = tmp_path / "large.eml"
    header = b"Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n--b\r\n\r\n"
    with file.open("wb") as stream:
        stream.write(header + b"text\r\n" * 100_000)
        stream.truncate(8 << 30)
    (found,) = [json.loads(line) for line in inspect("--json", file).stdout.splitlines()]
    assert (found["kind"], found["must_deliver"], found["dsn"]) == ("dsn", "the report is too large to read", None)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=400))
def test_any_file_is_some_message(octets: bytes) -> None:
    for result in (inspect("-", stdin=octets), inspect("--json", "-", stdin=octets)):
        assert result.exit_code == 0
        assert result.stderr == ""
    assert re.fullmatch(r'\{"file": "-", "kind": "[a-z-]+", .*\}\n', result.stdout)


def test_every_file_of_the_corpus_is_some_message(corpus: Path) -> None:
    files = sorted(corpus.glob("*/*.eml"))
    for flags in ([], ["--json"]):
        result = inspect(*flags, *files)
        assert (result.exit_code, result.stderr) == (0, "")
        assert all(line.isprintable() for line in result.stdout.splitlines())


def test_receipts_are_found_only_where_they_are(corpus: Path) -> None:
    """Requests and awkward messages of the corpus hold no MDN but those two that lie among both."""
    lines = inspect(
        "--json", *sorted(corpus.glob("request/*.eml")), *sorted(corpus.glob("tricky/*.eml"))
    ).stdout.splitlines()
    found = {Path(o["file"]).name for o in map(json.loads, lines) if o["kind"] == "mdn"}
    assert found == {"as2-lib__4af6f84c-d882-4466-8e0c-305a7fbe37b3.payload.eml", "nhin-d__DSN.eml"}


def test_requests_of_the_corpus_are_those_of_the_manifest(corpus: Path) -> None:
    rows = [line.split("\t") for line in (corpus / "MANIFEST.tsv").read_text(encoding="utf-8").splitlines()]
    noted = {
        row[0]: row[-1].partition("top-level: ")[2].partition(";")[0].split(",") for row in rows if row[1] == "request"
    }
    lines = inspect("--json", *(corpus / name for name in noted)).stdout.splitlines()
    for found in map(json.loads, lines):
        name = str(Path(found["file"]).relative_to(corpus))
        expected = {n for n in noted[name] if "-to" in n or n.endswith("-options")} - {
            "chat-disposition-notification-to"
        }
        assert {r["name"].lower() for r in found["requests"]} == expected, name


def test_a_terminal_that_cannot_show_japanese_gets_escapes() -> None:
    command = [sys.executable, "-c", "from kaifu.proxy.cli import main; main()", "inspect", str(fixture("global"))]
    shown = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "latin-1"}, check=True)
    assert b"final recipient      \\u5c71\\u7530@\\u4f8b\\u3048.example" in shown.stdout
