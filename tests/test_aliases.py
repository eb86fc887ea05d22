"""Aliases: whose mail goes to whom, in the words of files that mail servers read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kaifu.policies.document import ProblemsError
from kaifu.policies.facts import Realm
from kaifu.proxy.address import address_key, untagged
from kaifu.proxy.aliases import NO_ALIASES, Aliases, merged, parse_aliases
from kaifu.proxy.organisation import organisational_domain
from kaifu.proxy.settings import Settings
from kaifu.proxy.trustfiles import TrustFiles

REALM = Realm(["example.com", ".example.jp"])
FILE = """\
# Basic system aliases
postmaster:    root
root:          hanako,
  # between the lines of one alias

               "Taro Yamada"@example.com
"info desk":   Hanako
HR :           hanako, taro+hr, |/usr/bin/vacation, "|/usr/bin/x a, b" , /var/mail/hr, :include:/etc/mail/hr
bounces:       :include:/etc/mail/x
abroad:        Bob Brown <bob@partner.example>, "Brown, C." <carol@partner.example>
escaped:       \\jiro
two:           one three
loop1:         loop2
loop2:         loop1, jiro
経理:          名@例え.jp
"""
VIRTUAL = """\
# domains that are only declared
example.com            anything
sales@example.com      a@example.com, b@partner.example
sales+x@example.com    c@example.com
@old.example           @example.com
@shop.example.jp       shop
info                   hanako@example.jp
boss@example.com       boss@example.com, secretary
"""


def aliases(text: str = FILE + VIRTUAL) -> Aliases:
    return Aliases(parse_aliases(text)[0], REALM)


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("hr@example.com", ["hanako@example.com", "hanako@example.jp", "Hanako+x@example.com", "taro@example.com"]),
        ("HR+office@Example.JP", ["hanako@example.com"]),
        ("info desk@example.com", ["hanako@example.com"]),
        ('"Info Desk"@example.com', ["hanako@example.com"]),
        ("root@example.com", ["hanako@example.com", '"taro yamada"@example.com']),
        ("postmaster@example.com", ["root@example.com", "hanako@example.com"]),
        ("abroad@example.com", ["bob@partner.example", "carol@partner.example"]),
        ("escaped@example.com", ["jiro@example.com"]),
        ("two@example.com", ["one@example.com", "three@example.com"]),
        ("loop1@example.com", ["loop2@example.com", "jiro@example.com", "loop1@example.com"]),
        ("経理@example.com", ["名@xn--r8jz45g.jp"]),
        ("sales@example.com", ["a@example.com", "b@partner.example"]),
        ("sales+y@example.com", ["a@example.com", "b@partner.example"]),
        ("sales+x@example.com", ["c@example.com"]),
        ("hr@old.example", ["hr@example.com", "hanako@example.com"]),
        ("anybody@shop.example.jp", ["shop@example.com"]),
        ("info@example.com", ["hanako@example.jp"]),
        ("boss@example.com", ["secretary@example.com"]),
    ],
)
def test_mail_for_a_name_reaches_its_targets(name: str, targets: list[str]) -> None:
    known = aliases()
    for target in targets:
        assert known.reaches(address_key(name), address_key(target)), target


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("hanako@example.com", "hr@example.com"),
        ("hr@example.com", "jiro@example.com"),
        ("hr@partner.example", "hanako@example.com"),
        ("hr@sub.example.jp", "hanako@example.com"),
        ("hr@example.com", "hanako@sub.example.jp"),
        ("hr@example.com", "hanako@partner.example"),
        ("hr@example.com", "vacation@example.com"),
        ("bounces@example.com", "x@example.com"),
        ("sales@example.com", "sales@example.com"),
        ("sales@example.com", "c@example.com"),
        ("sales+x@example.com", "a@example.com"),
        ("taro@example.com", "hanako@example.com"),
        ("anybody@old.example", "anybody@partner.example"),
        ("anybody@example.com", "anything@example.com"),
    ],
)
def test_and_nobody_else(name: str, target: str) -> None:
    assert not aliases().reaches(address_key(name), address_key(target))


def test_without_aliases_nobody_reaches_anybody() -> None:
    assert not NO_ALIASES.reaches("a@example.com", "a@example.com")
    assert len(NO_ALIASES) == 0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("  starts: here", "it begins with white space, but there is no line that it could continue"),
        ("no colon here", "neither name: target, nor name@domain and its target"),
        ("lonely", "neither name: target, nor name@domain and its target"),
        ("empty:", "it names no target"),
        ("empty: ,,", "it names no target"),
        ('open: "never closed', '"never closed is no mail address'),
        ("bad: a@, fine@example.com", "a@ is no mail address"),
        ("bad: a@b@", "a@b@ is no mail address"),
        ("@example.com", "neither name: target, nor name@domain and its target"),
        ("a@b..c d@example.com", "a@b..c is no name of a mailbox"),
    ],
)
def test_a_line_that_cannot_be_read_is_named_and_the_rest_counts(line: str, message: str) -> None:
    entries, bad = parse_aliases(f"{line}\nfirst: one\n")
    assert [(one.line, one.message) for one in bad] == [(1, message)]
    assert entries["first"] == ("one",)


def test_a_name_that_comes_twice_counts_as_the_first_time() -> None:
    entries, bad = parse_aliases("a: one\n\nb: two\nA: three\n")
    assert entries["a"] == ("one",)
    assert [(one.line, one.message) for one in bad] == [(4, "A is in line 1 already; that one counts")]


def test_a_name_in_two_files_has_the_targets_of_both() -> None:
    assert merged([{"a": ("x", "y")}, {"a": ("y", "z"), "b": ("x",)}]) == {"a": ("x", "y", "z"), "b": ("x",)}


NAMES = st.sampled_from(("a", "b", "c", "a@example.com", "b@example.jp", "c@other.example"))
GRAPHS = st.dictionaries(NAMES, st.lists(NAMES, max_size=3).map(tuple), max_size=5)


def closure(entries: dict[str, tuple[str, ...]], start: str) -> set[str]:
    """What is reached from one node by another way of walking: by widening until nothing is new."""

    def same(name: str) -> set[str]:
        local, at, domain = name.rpartition("@")
        if at and domain not in ("example.com", "example.jp"):
            return {name}
        plain = local if at else name
        return {name, plain} if at else {plain, f"{plain}@example.com", f"{plain}@example.jp"}

    found: set[str] = set()
    while True:
        sources = {name for one in ({start} | found) for name in same(one)}
        wider = found | {target for name in sources for target in entries.get(name, ())}
        if wider == found:
            return {name for one in found for name in same(one)}
        found = wider


@given(GRAPHS, NAMES, NAMES)
def test_chains_are_followed_to_their_end_through_any_circle(
    entries: dict[str, tuple[str, ...]], name: str, target: str
) -> None:
    known = Aliases(entries, REALM)
    if "@" in target:
        assert known.reaches(name, target) == bool(entries and target in closure(entries, name))


@given(st.text(max_size=200) | st.text(st.sampled_from('ab@.:,"\\|/<> \t\n#+()'), max_size=200))
@example("a: " + "b," * 100 + "\n \\")
@example(':@:,"')
def test_no_text_whatever_makes_it_fail(text: str) -> None:
    entries, bad = parse_aliases(text)
    lines = len(text.split("\n"))
    assert all(1 <= one.line <= lines for one in bad)
    known = Aliases(entries, REALM)
    for name, targets in entries.items():
        assert targets
        assert [untagged(target) for target in targets] == list(targets)
        known.reaches(name, "x@example.com")


# --- the files ----------------------------------------------------------------------------------------------------


class Log(list[tuple[str, dict[str, Any]]]):
    def __call__(self, event: str, **fields: Any) -> None:
        self.append((event, fields))


def settings(tmp_path: Path, *files: str, border: tuple[str, ...] = ()) -> Settings:
    return Settings(
        tmp_path / "kaifu.yaml", REALM, tmp_path / "policy.yaml", "sqlite:////x", "defer", ZoneInfo("UTC"),
        border=border, aliases=tuple(tmp_path / file for file in files),
    )  # fmt: skip


def told(log: Log) -> Iterator[str]:
    for event, fields in log:
        yield f"{event} {fields.get('problem', fields.get('names'))}"


def test_a_changed_file_is_read_again_and_what_was_good_stays(tmp_path: Path) -> None:
    path, log = tmp_path / "aliases", Log()
    path.write_text("hr: hanako\n")
    files = TrustFiles(settings(tmp_path, "aliases"), log)
    assert files.current.aliases.reaches("hr@example.com", "hanako@example.com")
    before = files.current
    files.poll()
    assert files.current is before

    path.write_text("hr: taro, x y@\nwhat is this\n")
    files.poll()
    assert files.current.aliases.reaches("hr@example.com", "taro@example.com")
    assert not files.current.aliases.reaches("hr@example.com", "hanako@example.com")

    path.unlink()
    files.poll()
    assert files.current.aliases.reaches("hr@example.com", "taro@example.com")
    assert list(told(log)) == [
        f"alias-left-out {path}:1:1: warning: y@ is no mail address",
        f"alias-left-out {path}:2:1: warning: neither name: target, nor name@domain and its target",
        "aliases-loaded 1",
        f"aliases-rejected {path}: cannot be read: No such file or directory",
    ]


def test_a_file_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("a: b\n")
    with pytest.raises(ProblemsError, match="cannot be read: No such file"):
        TrustFiles(settings(tmp_path, "there", "missing"), Log())


def test_a_thousand_bad_lines_do_not_fill_the_log(tmp_path: Path) -> None:
    (tmp_path / "aliases").write_text("bad line\n" * 1000)
    log = Log()
    TrustFiles(settings(tmp_path, "aliases"), log)
    assert len(log) == 21
    assert log[-1][1]["problem"].startswith("and more")


def test_what_the_settings_name_is_believed(tmp_path: Path) -> None:
    trust = TrustFiles(settings(tmp_path, border=("mx.example.com",)), Log()).current
    assert trust.border == {"mx.example.com"}
    assert trust.organisation("mail.partner.co.jp") == "partner.co.jp"


@pytest.mark.parametrize(
    ("domain", "organisation"),
    [
        ("partner.example", "partner.example"),
        ("a.b.partner.example", "partner.example"),
        ("partner.co.jp", "partner.co.jp"),
        ("mail.partner.co.jp", "partner.co.jp"),
        ("co.jp", "co.jp"),
        ("jp", "jp"),
        ("www.city.kawasaki.jp", "city.kawasaki.jp"),
        ("bob.github.io", "bob.github.io"),
        ("mail.xn--fiqs8s", "mail.xn--fiqs8s"),
        ("localhost", "localhost"),
        ("[192.0.2.1]", "[192.0.2.1]"),
        ("192.0.2.1", "192.0.2.1"),
        ("a..b.com", "a..b.com"),
        (".com", ".com"),
        ("", ""),
        ("a." * 200 + "com", "a." * 200 + "com"),
    ],
)
def test_an_organisation_is_one_label_below_a_public_suffix(domain: str, organisation: str) -> None:
    assert organisational_domain(domain) == organisation
