"""Authentication-Results: what servers write there is read, whose it is is known, and no octets whatever make the reader fail."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kaifu.proxy.authresults import FIELD, MOST_FIELD, MOST_FIELDS, MOST_RESULTS, AuthResults, Result, newest, parse
from kaifu.proxy.message import HeaderBlock

# In the manner of servers that are met in the field. Lines as they are folded; what must be understood of them.
FORMS = {
    "Postfix with OpenDKIM": (
        """mx.example.co.jp;
\tdkim=pass (2048-bit key; unprotected) header.d=partner.example header.i=@partner.example header.a=rsa-sha256 header.s=s2026 header.b="Ab+/c1=="
""",
        [("dkim", "pass", {"header.d": "partner.example", "header.i": "@partner.example", "header.b": "Ab+/c1=="})],
    ),
    "OpenDKIM, a signature that is broken": (
        """mx.example.co.jp;
\tdkim=fail reason="signature verification failed" (1024-bit key) header.d=partner.example header.i=bob@partner.example header.b=abc;
\tdkim-atps=neutral
""",
        [
            ("dkim", "fail", {"header.d": "partner.example", "header.i": "bob@partner.example"}),
            ("dkim-atps", "neutral", {}),
        ],
    ),
    "OpenDMARC": (
        "mx.example.co.jp; dmarc=pass (p=none dis=none) header.from=partner.example\n",
        [("dmarc", "pass", {"header.from": "partner.example"})],
    ),
    "OpenDMARC, which looked at SPF itself": (
        "OpenDMARC; spf=pass smtp.mailfrom=bob@partner.example\n",
        [("spf", "pass", {"smtp.mailfrom": "bob@partner.example"})],
    ),
    "a policy server for SPF, null reverse-path": (
        """mx.example.co.jp; spf=pass (sender SPF authorized) smtp.helo=mail.partner.example
 (client-ip=192.0.2.1; helo=mail.partner.example; envelope-from=<>; receiver=hr@example.co.jp)
""",
        [("spf", "pass", {"smtp.helo": "mail.partner.example"})],
    ),
    "rspamd": (
        """mx.example.co.jp;
\tdkim=pass header.d=partner.example header.s=k1 header.b=aBcDeF12;
\tdkim=permerror ("no key for signature") header.d=old.example header.s=k0 header.b=zz;
\tspf=softfail (mx.example.co.jp: 192.0.2.1 is neither permitted nor denied by domain of "bob@list.example") smtp.mailfrom="bob@list.example";
\tdmarc=none;
\tarc=none ("invalid; or absent")
""",
        [
            ("dkim", "pass", {"header.d": "partner.example", "header.s": "k1"}),
            ("dkim", "permerror", {"header.d": "old.example"}),
            ("spf", "softfail", {"smtp.mailfrom": "bob@list.example"}),
            ("dmarc", "none", {}),
            ("arc", "none", {}),
        ],
    ),
    "Exchange, with a name": (
        """mx.microsoft.example 1; spf=pass (sender IP is 192.0.2.1)
 smtp.rcpttodomain=example.co.jp smtp.mailfrom=partner.example; dmarc=bestguesspass
 action=none header.from=partner.example; dkim=pass (signature was verified)
 header.d=partner.example; arc=none; compauth=pass reason=109
""",
        [
            ("spf", "pass", {"smtp.mailfrom": "partner.example", "smtp.rcpttodomain": "example.co.jp"}),
            ("dmarc", "bestguesspass", {"header.from": "partner.example", "action": "none"}),
            ("dkim", "pass", {"header.d": "partner.example"}),
            ("arc", "none", {}),
            ("compauth", "pass", {"reason": "109"}),
        ],
    ),
    "Gmail": (
        """mx.google.example;
       dkim=pass header.i=@partner.example header.s=20230601 header.b=Qx1y2z3w;
       spf=pass (google.example: domain of bob+tag@partner.example designates 2001:db8::1 as permitted sender) smtp.mailfrom=bob+tag@partner.example;
       dmarc=pass (p=QUARANTINE sp=QUARANTINE dis=NONE) header.from=partner.example;
       dara=pass header.i=@example.co.jp
""",
        [
            ("dkim", "pass", {"header.i": "@partner.example"}),
            ("spf", "pass", {"smtp.mailfrom": "bob+tag@partner.example"}),
            ("dmarc", "pass", {"header.from": "partner.example"}),
            ("dara", "pass", {"header.i": "@example.co.jp"}),
        ],
    ),
    "white space and comments wherever they may stand": (
        """mx.example.co.jp (it (really) is) 1 (one) ; (a) DKIM (b) / 1 = (c)
 Pass (d\\) e) reason (f) = "because; of \\"this\\"" header (g) . (h) D = (i) partner.example ;; spf = none
""",
        [("dkim", "pass", {"header.d": "partner.example", "reason": 'because; of "this"'}), ("spf", "none", {})],
    ),
    "values with signs in them": (
        'mx.example.co.jp; spf=pass smtp.mailfrom="a b;c"@partner.example; spf=fail smtp.mailfrom=a=b@c.example policy.x=y=z\n',
        [
            ("spf", "pass", {"smtp.mailfrom": "a b;c@partner.example"}),
            ("spf", "fail", {"smtp.mailfrom": "a=b@c.example", "policy.x": "y=z"}),
        ],
    ),
    "a property without a value": (
        "mx.example.co.jp; spf=pass smtp.mailfrom= smtp.helo=mail.partner.example\n",
        [("spf", "pass", {"smtp.mailfrom": "", "smtp.helo": "mail.partner.example"})],
    ),
    "nothing was checked": ("mx.example.co.jp; none\n", []),
    "nothing at all": ("mx.example.co.jp\n", []),
    "in UTF-8": (
        "mx.例え.jp; spf=pass smtp.mailfrom=名@例え.example\n",
        [("spf", "pass", {"smtp.mailfrom": "名@例え.example"})],
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_field_is_understood_as_its_server_meant_it(form: str) -> None:
    text, meant = FORMS[form]
    block = HeaderBlock.parse(f"Authentication-Results: {text}\n".replace("\n", "\r\n").encode())
    (value,) = block.raw_values(FIELD)
    found = parse(value)
    assert found.odd is None
    assert found.authserv_id in (
        "mx.example.co.jp",
        "opendmarc",
        "mx.microsoft.example",
        "mx.google.example",
        "mx.例え.jp",
    )
    assert [(r.method, r.value) for r in found.results] == [(method, value) for method, value, _ in meant]
    for result, (_, _, properties) in zip(found.results, meant, strict=True):
        assert {name: result.all(name) for name in properties} == {k: (v,) for k, v in properties.items()}
    assert parse(text.replace("\n", "\r\n").encode()) == found, "folded or not, it says the same"


@pytest.mark.parametrize(
    ("value", "name", "odd"),
    [
        ("spf=pass (sender IP is 192.0.2.1) smtp.mailfrom=partner.example; dkim=pass", "", "does not say who wrote it"),
        ("", "", "does not say who wrote it"),
        ("(mx) mx.example.co.jp; dkim=pass", "", "does not say who wrote it"),
        ('"mx.example.co.jp"; dkim=pass', "", "does not say who wrote it"),
        ("; dkim=pass", "", "does not say who wrote it"),
        ("mx.example.co.jp 2; dkim=pass header.d=a.example", "mx.example.co.jp", "version 2 of the field is not known"),
        ("mx.example.co.jp 1 1; dkim=pass", "mx.example.co.jp", "version 1 1 of the field"),
        ("mx.example.co.jp; dkim=pass (header.d=a.example", "mx.example.co.jp", "a comment without its end"),
        ("mx.example.co.jp; dkim=pass) header.d=a.example", "mx.example.co.jp", "a comment without its beginning"),
        (
            'mx.example.co.jp; dkim=pass reason="x header.d=a.example',
            "mx.example.co.jp",
            "a quoted string without its end",
        ),
        ("mx.example.co.jp; spf=pass smtp.mailfrom=a @b.example", "mx.example.co.jp", "an address in pieces"),
        ("mx.example.co.jp; spf=pass smtp.mailfrom=a(x)@b.example", "mx.example.co.jp", "an address in pieces"),
        ("mx.example.co.jp; a@b.example spf=pass", "mx.example.co.jp", "an address in pieces"),
        ("mx.example.co.jp;" + " spf=none;" * (MOST_RESULTS + 1), "mx.example.co.jp", "too many results"),
        ("mx.example.co.jp; spf=none" + " a.b=c" * MOST_RESULTS, "mx.example.co.jp", "too many results"),
        ("mx.example.co.jp; spf=none" + " " * MOST_FIELD, "mx.example.co.jp", "it is too long"),
    ],
)
def test_what_cannot_be_read_to_its_end_says_nothing(value: str, name: str, odd: str) -> None:
    found = parse(value.encode())
    assert (found.authserv_id, found.results) == (name, ())
    assert odd in (found.odd or "")


def test_a_flood_of_fields_is_not_searched_to_its_end() -> None:
    ours = b"mx; spf=none"
    assert newest([b"other; none"] * (MOST_FIELDS - 1) + [ours], frozenset(["mx"])) == parse(ours)
    assert newest([b"other; none"] * MOST_FIELDS + [ours], frozenset(["mx"])) is None


ATOMS = st.text(st.sampled_from("abcxyz019-_.+"), min_size=1, max_size=8).filter(lambda text: text.strip("./"))
NAMES = st.tuples(st.sampled_from(("header", "smtp", "policy")), st.sampled_from(("d", "i", "from", "mailfrom"))).map(
    ".".join
)
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=12)
GAPS = st.text(st.sampled_from(" \t"), max_size=2) | TEXTS.map(
    lambda text: f" ({''.join(c for c in text if c not in '()' + chr(92))})"
)


@st.composite
def fields(draw: st.DrawFn) -> tuple[str, AuthResults]:
    """A field written in a random way, and what it means."""

    def value() -> tuple[str, str]:
        plain = draw(ATOMS | TEXTS)
        if draw(st.booleans()) and plain and plain.isascii() and plain.isalnum():
            return plain, plain
        escaped = plain.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"', plain

    name = draw(ATOMS)
    text, results = " " * draw(st.integers(0, 2)) + name + draw(GAPS), []
    for _ in range(draw(st.integers(0, 3))):
        method = draw(st.sampled_from(("dkim", "spf", "dmarc", "iprev")))
        outcome = draw(st.sampled_from(("pass", "fail", "none", "softfail")))
        text += f"{draw(GAPS)};{draw(GAPS)}{method}{draw(GAPS)}={draw(GAPS)}{outcome}"
        properties = []
        for _ in range(draw(st.integers(0, 3))):
            key = draw(NAMES)
            written, meant = value()
            text += f" {draw(GAPS)}{key}{draw(GAPS)}={written}"
            properties.append((key, meant))
        results.append(Result(method, outcome, "", tuple(properties)))
    return text + draw(GAPS), AuthResults(name, tuple(results))


@given(fields())
def test_however_it_is_written_it_means_the_same(made: tuple[str, AuthResults]) -> None:
    text, meant = made
    assert parse(text.encode()) == meant


HOSTILE = st.text(st.sampled_from('a1 \t\r\n();="\\@./<>,é\x00'), max_size=200).map(lambda text: text.encode())


@given(st.binary(max_size=200) | HOSTILE)
@example(b'a;b=c"\\')
@example(b"\xff\xfe;=;=;")
def test_no_octets_whatever_make_it_fail(value: bytes) -> None:
    found = parse(value)
    assert found.odd is None or found.results == ()
    assert all(r.method and ";" not in r.method for r in found.results)
    named = newest([value], frozenset([found.authserv_id]))
    assert named == (found if found.authserv_id else None)


@given(
    st.lists(st.tuples(st.sampled_from(("mx", "MX", "other", "mxx", '"mx"', "(c) mx", "")), st.booleans()), max_size=6)
)
def test_only_the_topmost_field_of_the_border_counts(written: list[tuple[str, bool]]) -> None:
    values = [f"{name}; {'spf=none' if good else 'spf=none ('}; x={n}" for n, (name, good) in enumerate(written)]
    ours = [n for n, (name, _) in enumerate(written) if name.lower() == "mx"]
    found = newest([value.encode() for value in values], frozenset(["mx"]))
    if not ours:
        assert found is None
        return
    assert found is not None
    if written[ours[0]][1]:
        assert found.results[1] == Result("x", str(ours[0]))
    else:
        assert found.odd is not None
