"""Entries: a canonical form that does not move, and personal data that can be taken out of it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.ledger_values import YAMADA, bodies, journal, receipt, record, store, to

from kaifu.policies.facts import Consent
from kaifu.proxy.ledger import Outcome
from kaifu.proxy.ledger_entries import SALT_LENGTH, Entry, at_text, at_value, canonical, commitment, decode, encode

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec=None), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
WORDS = ("v", "n", "kind", "at", "message", "cells")


def salts(cells: dict[str, Any]) -> bytes:
    return bytes(range(SALT_LENGTH)) * len(cells)


def test_the_canonical_form_of_an_entry_is_fixed() -> None:
    entry = Entry(
        7, "outcome", 1_795_292_950_830_014, 3, {"outcomes": {"accepted": [5]}, "answered": True}, {"reply": "250 了"}
    )
    body, cells = encode(entry, b"0123456789abcdef")
    assert body == (
        '{"answered":true,"at":"2026-11-21T20:29:10.830014Z",'
        '"cells":{"reply":"MPXdWWWyoyo2l+GOwTMAC6x7Tr86X+9yVt51kbMjVgQ="},'
        '"kind":"outcome","message":3,"n":7,"outcomes":{"accepted":[5]},"v":1}'
    )
    assert cells == [(7 << 20, "reply", b"0123456789abcdef", '"250 了"')]


def test_a_commitment_is_made_as_documented() -> None:
    by_hand = hashlib.sha256(b"kaifu cell 1\0" + b"0123456789abcdef" + b"reply\0" + '"250 了"'.encode()).digest()
    assert commitment("reply", b"0123456789abcdef", '"250 了"'.encode()) == base64.b64encode(by_hand).decode()


@given(
    st.dictionaries(st.text(max_size=6).filter(lambda key: key not in WORDS), values, max_size=4),
    st.dictionaries(st.text(max_size=6), values | st.binary(max_size=9), max_size=4),
    st.none() | st.integers(1, 1 << 40),
    st.integers(0, 4_000_000_000_000_000),
)
def test_what_is_read_back_is_what_was_applied(
    body: dict[str, Any], cells: dict[str, Any], message: int | None, at: int
) -> None:
    entry = Entry(9, "message", at, message, body, cells)
    text, rows = encode(entry, salts(cells))
    text.encode("utf-8")
    again = decode(text, {name: value for _, name, _, value in rows})
    assert (again.number, again.kind, again.at, again.message) == (9, "message", at, message)
    assert (again.body, again.cells) == (entry.body, entry.cells)
    assert canonical(json.loads(text)) == text


@given(st.integers(0, 4_000_000_000_000_000))
def test_times_keep_their_microseconds(at: int) -> None:
    assert at_value(at_text(at)) == at
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", at_text(at))


def test_every_cell_has_its_commitment_in_the_entry_and_a_salt_of_its_own(tmp_path: Path) -> None:
    with store(tmp_path / "ledger.db") as opened, journal(opened) as writing:
        begun = writing.begin(record(to(), to("other@partner.example"), key=b"k"))
        writing.finish(begun, [(YAMADA, Outcome.ACCEPTED)], "250 ok", 0)
        writing.begin(record(key=b"r", evidence=(receipt(1),)))
        writing.consent(YAMADA, Consent.DENIED, "root", "by letter")
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as db:
        cells = db.execute("SELECT entry, name, salt, value FROM cells").fetchall()
    committed = {(number + 1, name): kept for number, body in enumerate(bodies(tmp_path / "ledger.db"))
                 for name, kept in json.loads(body).get("cells", {}).items()}  # fmt: skip
    assert len(cells) == len(committed) == len({salt for _, _, salt, _ in cells}) == 11
    for entry, name, salt, value in cells:
        octets = value if isinstance(value, bytes) else value.encode()
        assert len(salt) == SALT_LENGTH
        assert committed[entry, name] == commitment(name, salt, octets)


def test_no_personal_data_stands_in_the_bodies_of_entries(tmp_path: Path) -> None:
    secret = (
        "yamada",
        "sato",
        "契約",
        "1@example.co.jp",
        "r1@partner",
        "q1",
        "250 ok",
        "root",
        "letter",
        "Rule partners",
    )
    with store(tmp_path / "ledger.db") as opened, journal(opened) as writing:
        begun = writing.begin(record(to(edits=(f"DNT: {YAMADA}",)), key=b"k", envid="sato-1", mta_queue_id="q1m"))
        writing.finish(begun, [(YAMADA, Outcome.ACCEPTED)], "250 ok", 0)
        writing.begin(record(key=b"r", evidence=(receipt(1), receipt(1, value=f"read by {YAMADA}"))))
        number = writing.attest(1, "phone", 0, "root", "yamada said so in a letter")
        writing.revoke(number, [1], "root")
        writing.consent(YAMADA, Consent.DENIED, "root", "by letter")
    open_ = [json.loads(body) for body in bodies(tmp_path / "ledger.db")]
    assert len(open_) == 7
    for body in open_:
        # Commitments are random: any word may stand in them.
        body["cells"] = sorted(body["cells"])
    text = json.dumps(open_, ensure_ascii=False)
    assert [word for word in secret if word in text] == []
