"""Checks an evidence bundle of kaifu's, and says in plain words what it proves. Shipped in each bundle as verify.py.

    python3 verify.py BUNDLE.zip [--anchor LINE|FILE]... [--lang en|ja]

BUNDLE.zip may also be the directory that it was unpacked into: check that, and it is the very files you read that were checked.
Needs nothing but Python 3.8 or newer. An *anchor* is a line "kaifu-anchor 1 LEDGER BATCH LAST HEAD TIME" that somebody kept where
the owner of the ledger could not change it; take it from there, never from who gave you the bundle. Who doubts this program as
well takes it from kaifu (proxy/bundle_verifier.py).

Exit status: 0 proven against an anchor; 1 not: something was altered, or does not fit; 2 usage; 3 everything agrees, but not
everything is tied to an anchor.

How it works. proof.json has entries of the ledger as they were sealed: a *body*, and *cells* with what is personal, each bound to
its body by a salted SHA-256. Each body is a leaf of its batch's Merkle tree (RFC 9162 2.1.1), and each batch's head binds the
batch before it and one further back, so a few *hops* lead from a later head down to it. :func:`check_proof` walks that for
one entry. From the proven entries :func:`facts_of` computes what record.json must say, and :func:`page` what index.html must say,
octet by octet. What was left out of a bundle altogether this cannot show.

In this order: hashes, the proof of one entry, anchors; what entries say; how that is told in words; how a bundle is checked; the command.
What must be believed is short: the first part, and :func:`facts_of`.

kaifu itself uses these functions to seal, to prove, and to make bundles, so there is one of each. Fails with
:class:`ProofError`; :func:`check` and :func:`main` fail on nothing that a bundle can hold.
"""

from __future__ import annotations

import argparse
import html
import json
import locale
import os
import re
import sys
import zipfile
import zlib
from base64 import b64decode, b64encode
from binascii import b2a_base64
from datetime import datetime, timedelta, timezone
from hashlib import sha256
from typing import Any, Iterable, Iterator, NamedTuple, Sequence

# Hashes: cells, trees, chain.

CELL_DOMAIN = b"kaifu cell 1\0"
BATCH_DOMAIN = b"kaifu batch 1\0"
LEDGER_DOMAIN = b"kaifu ledger 1\0"
PROOF_VERSION = 1


class ProofError(ValueError):
    """A proof that proves nothing; the text says at which point."""


def commitment(name: str, salt: bytes, value: bytes) -> str:
    """What the body of an entry keeps of a cell."""
    digest = sha256(b"%b%b%b\0%b" % (CELL_DOMAIN, salt, name.encode(), value)).digest()
    return b2a_base64(digest, newline=False).decode("ascii")


def leaf(body: bytes) -> bytes:
    """The leaf of an entry."""
    return sha256(b"\0" + body).digest()


def root_above(found: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """The root that a leaf at this place in a tree of this size has with these siblings. ProofError when it cannot be."""
    rest = iter(path)
    while size > 1:
        if index ^ 1 < size:
            sibling = next(rest, None)
            if sibling is None:
                raise ProofError("the path from the entry to the root of its batch is too short")
            found = sha256(b"\1" + (sibling + found if index & 1 else found + sibling)).digest()
        index, size = index >> 1, size + 1 >> 1
    if next(rest, None) is not None:
        raise ProofError("the path from the entry to the root of its batch is too long")
    return found


def skip(batch: int) -> int:
    """The earlier batch, beside the one before, whose head goes into that of this batch."""
    return batch & (batch - 1)


def genesis(ledger: bytes) -> bytes:
    """The head before the first batch of the ledger with this id."""
    return sha256(LEDGER_DOMAIN + ledger).digest()


def head_of(batch: int, first: int, last: int, root: bytes, previous: bytes, skipped: bytes) -> bytes:
    """The head of a batch. ``previous``: that of the batch before; ``skipped``: that of :func:`skip`."""
    numbers = b"%b%b%b" % (batch.to_bytes(8, "big"), first.to_bytes(8, "big"), last.to_bytes(8, "big"))
    return sha256(BATCH_DOMAIN + numbers + root + previous + skipped).digest()


def way(start: int, end: int) -> Iterator[int]:
    """The batches that a proof from batch ``start`` down to batch ``end`` passes, both included."""
    while start > end:
        yield start
        start = skip(start) if skip(start) >= end else start - 1
    yield end


# A proof of one entry.

_FIELDS = {"version", "ledger", "entry", "body", "cells", "batch", "path", "hops"}
_HOP_FIELDS = {"batch", "first", "last", "root", "previous", "skip"}
_FAULTS = (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError)


def check_proof(given: dict[str, Any], ledger: bytes, batch: int, head: bytes) -> dict[str, Any]:
    """The body of the entry that a proof proves, given an anchor: the ledger's id, a batch, and its head.

    Proved is: an entry with this body, and with the cells that are shown, stood in that ledger when that head was taken.
    Raises :class:`ProofError`.
    """
    try:
        if type(given["version"]) is not int or given["version"] != PROOF_VERSION or set(given) != _FIELDS:
            raise ProofError("the proof is of a form that this version does not know")
        if given["ledger"] != ledger.hex():
            raise ProofError("the anchor is of another ledger")
        hop = _down(given, batch, head)
        body = _entry(given, hop)
        _check_cells(given["cells"], body.get("cells", {}))
    except ProofError:
        raise
    except _FAULTS as error:
        raise ProofError(f"the proof cannot be read: {error!r}") from None
    return body


def _down(given: dict[str, Any], batch: int, head: bytes) -> dict[str, Any]:
    """From the anchor to the entry's batch, whose hop is returned."""
    wanted = _number(given["batch"])
    if not 0 < wanted <= batch:
        raise ProofError(f"the entry is of batch {wanted}, and the anchor, batch {batch}, says nothing about it")
    hops: list[dict[str, Any]] = given["hops"]
    way_down = list(way(batch, wanted))
    if [_number(hop["batch"]) for hop in hops] != way_down or any(set(hop) != _HOP_FIELDS for hop in hops):
        raise ProofError("the way from the anchor to the entry's batch is another one")
    for place, hop in enumerate(hops):
        root, previous, skipped = (_hash(hop[name]) for name in ("root", "previous", "skip"))
        number, first, last = (_number(hop[name]) for name in ("batch", "first", "last"))
        if head_of(number, first, last, root, previous, skipped) != head:
            raise ProofError(f"batch {number} does not have the head that the anchor leads to")
        head = skipped if way_down[place + 1 : place + 2] == [skip(number)] else previous
    return hops[-1]


def _entry(given: dict[str, Any], hop: dict[str, Any]) -> dict[str, Any]:
    """The entry's body, which is in the batch."""
    number, first, last = _number(given["entry"]), _number(hop["first"]), _number(hop["last"])
    if not first <= number <= last:
        raise ProofError(f"entry {number} is not in batch {hop['batch']}, which has the entries {first} to {last}")
    if not isinstance(given["path"], list):
        raise ProofError("the path from the entry to the root of its batch is no list")
    path = [_hash(each) for each in given["path"]]
    found = leaf(given["body"].encode())
    if root_above(found, number - first, last - first + 1, path) != _hash(hop["root"]):
        raise ProofError(f"entry {number} is not the one that was sealed")
    body: dict[str, Any] = json.loads(given["body"])
    if body["n"] != number:
        raise ProofError(f"the entry says that it is number {body['n']}, not {number}")
    return body


def shown_cell(salt: bytes, value: str | bytes) -> dict[str, str]:
    """A cell as a proof shows it; ``value`` as it is stored."""
    if isinstance(value, bytes):
        return {"salt": salt.hex(), "octets": b64encode(value).decode()}
    return {"salt": salt.hex(), "text": value}


def _stored(cell: dict[str, str]) -> str | bytes:
    return b64decode(cell["octets"]) if "octets" in cell else cell["text"]


def _check_cells(shown: dict[str, dict[str, str]], committed: dict[str, str]) -> None:
    for name, cell in shown.items():
        salt, value = bytes.fromhex(cell["salt"]), _stored(cell)
        octets = value if isinstance(value, bytes) else value.encode()
        if cell != shown_cell(salt, value) or committed[name] != commitment(name, salt, octets):
            raise ProofError(f"the cell {name} is not the one that the entry was sealed with")


def _hash(text: str) -> bytes:
    found = bytes.fromhex(text)
    if len(found) != 32 or found.hex() != text:
        raise ProofError("a hash of the proof is no SHA-256 in hexadecimal")
    return found


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ProofError("a number of the proof is none")
    return value


# Anchors.

_LINE = re.compile(
    r"kaifu-anchor (?P<version>[0-9]{1,3}) (?P<ledger>[0-9a-f]{32}) (?P<batch>[1-9][0-9]{0,18}) (?P<last>[1-9][0-9]{0,18})"
    r" (?P<head>[0-9a-f]{64}) (?P<at>[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}(?:\.[0-9]{1,6})?Z)"
)
ANCHOR_FORM = "kaifu-anchor 1 LEDGER BATCH LAST HEAD TIME"


class Anchor(NamedTuple):
    """One anchor. ``at``: when it was made, as text."""

    ledger: bytes
    batch: int
    last: int
    head: bytes
    at: str

    def __str__(self) -> str:
        return f"kaifu-anchor 1 {self.ledger.hex()} {self.batch} {self.last} {self.head.hex()} {self.at}"


def anchor_of(line: str) -> Anchor:
    """An anchor from its line. ValueError says what is wrong with it."""
    found = _LINE.fullmatch(line.strip())
    if found is None:
        raise ValueError(f"this is no anchor; one looks like {ANCHOR_FORM}")
    if found["version"] != "1":
        raise ValueError("this anchor is of a newer form than this version knows")
    batch, last = int(found["batch"]), int(found["last"])
    if batch > last or last >= 1 << 63:
        raise ValueError("this anchor contradicts itself: a batch has at least one entry")
    return Anchor(bytes.fromhex(found["ledger"]), batch, last, bytes.fromhex(found["head"]), found["at"])


def anchors_in(text: str) -> list[Anchor]:
    """All anchors of a file, at least one. ValueError names the line."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                found.append(anchor_of(line))
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None
    if not found:
        raise ValueError("there is no anchor in it")
    return found


# What the entries say. An entry is its body and its cells, by name.

FORM = 1
Entry = Any
_ANSWERS = ("displayed", "deleted", "denied")
_DECIDING = ("message", "attempt")
_FROM_IDS = ("message_id", "queue_id", "mta_queue_id", "envid")
_DECIDED = ("direction", "request", "asked_by", "report_asked_by", "rule", "basis", "confirm", "retain_days")


def entry_of(given: dict[str, Any]) -> Entry:
    """Body and cells of an entry, whose proof holds."""
    values = {name: _stored(cell) for name, cell in given["cells"].items()}
    cells = {name: value if isinstance(value, bytes) else json.loads(value) for name, value in values.items()}
    return json.loads(given["body"]), cells


def facts_of(ledger: str, entries: Sequence[Entry], recipients: Sequence[int]) -> dict[str, Any]:
    """What these entries, in order, say about these recipients of one message. Raises what a body raises that is none."""
    messages = [(body, cells) for body, cells in entries if body["kind"] == "message"]
    if not messages:
        raise ProofError("the message itself is not among the entries of proof.json")
    started, sent = messages[0]
    ids = sent.get("ids", {})
    return {
        "ledger": ledger,
        "message": started["message"],
        "kind": started["type"],
        "recorded_at": started["at"],
        "sent_at": started.get("sent_at"),
        "message_id": ids.get("message_id"),
        "sender": sent.get("sender"),
        "subject": sent.get("subject"),
        "attempts": [_attempt(entries, *entry) for entry in entries if entry[0]["kind"] in _DECIDING],
        "recipients": [_recipient(entries, recipient) for recipient in recipients],
        "missing": list(_missing(entries)),
        "anchors": [
            {"entry": body["n"], "at": body["at"], "batch": body["batch"], "to": body["to"]}
            for body, _ in entries
            if body["kind"] == "anchored"
        ],
        "entries": [body["n"] for body, _ in entries],
    }


def _attempt(entries: Sequence[Entry], body: Any, cells: Any) -> dict[str, Any]:
    """One try. Hosts wait for no version to be on record, so the nearest entry counts, an earlier one first."""
    ids, digest = cells.get("ids", {}), body.get("policy")
    versions = [each for each, _ in entries if each["kind"] == "policy" and each["digest"] == digest]
    version: Any = min(versions, key=lambda each: (each["n"] > body["n"], abs(each["n"] - body["n"])), default={})
    told = {"entry": body["n"], "at": body["at"], "policy": digest, **{name: ids.get(name) for name in _FROM_IDS[1:]}}
    return {
        **told,
        "policy_entry": version.get("n"),
        "policy_since": version.get("at"),
        "policy_mode": version.get("mode"),
    }


def _recipient(entries: Sequence[Entry], recipient: int) -> dict[str, Any]:
    """What was decided for one recipient, what came back, and what people said."""
    outcomes: list[dict[str, Any]] = []
    decided, told, deciding = {}, {}, 0
    for body, cells in entries:
        if body["kind"] in _DECIDING and "accepted" not in [each["outcome"] for each in outcomes]:
            for each in body["to"]:
                if each["id"] == recipient:
                    decided, told, deciding = each, cells.get(f"to.{recipient}", {}), body["n"]
        elif body["kind"] == "outcome":
            for outcome, some in body["outcomes"].items():
                if recipient in some:
                    outcomes.append(
                        {"entry": body["n"], "at": body["at"], "outcome": outcome, "reply": cells.get("reply")}
                    )
    pairing, revoked = _pairing(entries)
    confirm = decided.get("confirm", "claimed")
    evidence = [
        _evidence(body, cells, link, confirm)
        for body, cells in entries
        if body["kind"] == "evidence" and (link := pairing[body["n"]]).recipient == recipient
    ]
    counting = [one for one in evidence if one["counts"]]
    used = [one["pair"] for one in evidence]
    answered = len({one["answerer"] for one in counting if one["evidence"] == "reply" or one["value"] in _ANSWERS})
    return {
        "recipient": recipient,
        "address": told.get("address"),
        "decided_by": deciding,
        **{name: decided.get(name) for name in _DECIDED},
        "confirm": confirm,
        **{name: told.get(name) for name in ("reason", "would", "edits", "not_possible")},
        "answered": answered,
        "list": answered > 1 or any(one["evidence"] == "dsn" and one["value"] == "expanded" for one in counting),
        "outcomes": outcomes,
        "evidence": evidence,
        "notes": [
            {"value": body["value"], "confirmed_at": body["seen_at"], **_added(body, cells, revoked)}
            for body, cells in entries
            if body["kind"] == "attested" and body["recipient"] == recipient
        ],
        "pairs": [
            {"asked": cells.get("asked"), "other": cells.get("other"), **_added(body, cells, revoked)}
            for body, cells in entries
            if body["kind"] == "paired"
            and (body["n"] in used or recipient in (body["recipient"], *(each[1] for each in body["evidence"])))
        ],
    }


def _added(body: Any, cells: Any, revoked: dict[int, int]) -> dict[str, Any]:
    """What a person added: when, who, in which words, and whether it was taken back."""
    told = {"text": cells.get("note"), "actor": cells.get("actor"), "revoked_by": revoked.get(body["n"])}
    return {"entry": body["n"], "at": body["at"], **told}


class Link(NamedTuple):
    """Whose a piece of evidence is, by which pairing in force, and which mailbox answered (0: the recipient's own)."""

    pair: int | None
    recipient: int | None
    answerer: int


def _pairing(entries: Sequence[Entry]) -> tuple[dict[int, Link], dict[int, int]]:
    """By evidence, whose it is; and what was taken back by which entry."""
    found: dict[int, Link] = {}
    revoked: dict[int, int] = {}
    for body, _ in entries:
        if body["kind"] == "evidence":
            other = "alias" in body or body["verdict"] == "other-address"
            answerer = body.get("answerer", body["n"] if other else 0)
            found[body["n"]] = Link(body.get("pair"), body.get("recipient"), answerer)
        elif body["kind"] == "paired":
            found.update((each, Link(body["n"], recipient, answerer)) for each, recipient, answerer in body["evidence"])
        elif body["kind"] == "revoked":
            revoked.setdefault(body["entry"], body["n"])
            found.update((each, link._replace(pair=None)) for each, link in found.items() if link.pair == body["entry"])
    return found, revoked


def _evidence(body: Any, cells: Any, link: Link, confirm: str) -> dict[str, Any]:
    report = cells.get("report", {})
    kind, grade = body["evidence"], body.get("grade", "claimed")
    fits = body["verdict"] == "matched" or (body["verdict"] == "other-address" and link.pair is not None)
    believed = grade == "authenticated" or confirm == "claimed"
    return {
        "entry": body["n"],
        "at": body["at"],
        "evidence": kind,
        "value": report.get("value", body["value"]),
        "verdict": body["verdict"],
        "grade": grade,
        "counts": fits and (kind == "dsn" or (kind in ("mdn", "reply") and believed)),
        "pair": link.pair,
        "answerer": link.answerer,
        "alias": bool(body.get("alias")),
        "duplicate": bool(body.get("duplicate")),
        **{name: report.get(name) for name in ("by", "about", "why", "message_id", "details")},
        "report": report_name(body["n"]) if "raw" in cells else None,
    }


def report_name(entry: int) -> str:
    """The member of a bundle with the octets of the report that an entry keeps."""
    return f"reports/{entry}.txt"


def _missing(entries: Sequence[Entry]) -> Iterator[dict[str, Any]]:
    """The cells that are not shown: each was erased by an entry, or left out of the bundle."""
    for body, cells in entries:
        for name in sorted(set(body.get("cells", {})) - set(cells)):
            by: Any = next(
                (each for each, _ in entries if each["kind"] == "erasure" and _erases(each, body["n"], name)), {}
            )
            erased = {"erased_by": by.get("n"), "erased_at": by.get("at"), "ground": by.get("ground")}
            yield {"entry": body["n"], "cell": name, **erased}


def _erases(erasure: Any, entry: int, cell: str) -> bool:
    spans = [(each, each) if isinstance(each, int) else each for each in erasure["entries"]]
    named = any(first <= entry <= last for first, last in spans) and entry < erasure["n"]
    return named and cell in erasure.get("names", [cell])


# In words, English and Japanese.

_SAME = (
    "displayed deleted denied failed dispatched processed delayed relayed expanded delivered reply auto-reply unreadable other"
    " mail mdn dsn none kept added stripped policy client nobody outbound inbound internal transit accepted refused deferred"
    " withheld unknown matched claimed authenticated phone meeting letter chat enforce observe retention request"
)
WORDS: dict[str, dict[str, str]] = {
    "en": {
        **{word: word for word in _SAME.split()},
        "title": "Record of a read receipt", "result": "Result", "asked": "What was asked, and under which rule",
        "back": "What came back", "notes": "Notes by people (no receipts)", "pairs": "Addresses that people paired",
        "hidden": "Not shown", "proof": "Proof", "means": "What this proves, and what not",
        "no-answer": "No answer that counts. That does not mean unread.",
        "list": "Several mailboxes stand behind this address, so no answer confirms for all; answered: {}", "counts": "counts",
        "counts-not": "does not count", "number": "Message", "from": "From", "to": "To", "subject": "Subject", "sent": "Sent",
        "recorded": "Recorded", "again": "Tried again", "request-was": "Request", "by-whom": "asked by", "rule": "Rule",
        "no-rule": "(no rule of the policy)", "why": "Why", "would": "Only observed; would have been", "basis": "Written basis",
        "edits": "Changed", "not-possible": "Not possible", "confirm": "Grade that an answer must have",
        "version": "Policy version", "since": "on record since", "outcome": "Delivery", "mdn": "receipt",
        "dsn": "delivery report", "answers-for": "answers for", "revoked-by": "revoked by entry", "pair": "paired by entry",
        "other-address": "from another address", "failed-authentication": "it failed authentication",
        "unknown-message": "cites no message of ours", "wrong-recipient": "not from a recipient",
        "suspected": "only looks like a receipt", "alias": "from a known alias",
        "duplicate": "seen before", "entry": "entry", "cell": "cell", "left-out": "left out of this bundle",
        "erased-by": "erased by entry", "gone": "(not shown)", "ledger": "Ledger", "entries": "Entries",
        "sent-anchor": "Anchor sent", "batch": "batch", "says": "says", "octets": "the report, octet by octet",
        "accepted": "accepted by the next hop",
    },
    "ja": {
        "title": "開封確認の記録", "result": "結果", "asked": "何を、どの規則によって求めたか", "back": "返ってきたもの",
        "notes": "人による記録（開封確認ではない）", "pairs": "人が対応づけたアドレス", "hidden": "ここに示していないもの",
        "proof": "証明", "means": "この記録が証明すること、しないこと",
        "no-answer": "有効な回答なし。未読という意味ではありません。",
        "list": "複数のメールボックスがこの宛先で受け取るため、どの回答も全体の確認にはなりません。回答数: {}", "counts": "有効", "counts-not": "無効",
        "number": "メッセージ", "from": "差出人", "to": "宛先", "subject": "件名", "sent": "送信", "recorded": "記録",
        "again": "再試行", "request-was": "開封確認の要求", "by-whom": "要求者", "rule": "規則", "no-rule": "（該当する規則なし）",
        "why": "理由", "would": "観察のみ。実施した場合の内容", "basis": "書面による根拠", "edits": "変更",
        "not-possible": "実施できなかったこと", "confirm": "回答に必要な信頼度", "version": "ポリシーの版", "since": "記録日時",
        "outcome": "配送", "answers-for": "の代わりに回答:", "revoked-by": "取消しエントリ", "pair": "対応づけエントリ",
        "entry": "エントリ", "cell": "欄", "left-out": "この束には含めていない", "erased-by": "消去エントリ",
        "gone": "（示していない）", "ledger": "台帳", "entries": "エントリ番号", "sent-anchor": "送付済みアンカー",
        "batch": "バッチ", "says": "記録者", "octets": "報告の原文", "displayed": "表示された", "deleted": "表示せずに削除された",
        "denied": "回答を拒否された", "failed": "失敗", "dispatched": "転送処理された", "processed": "自動処理された",
        "delayed": "配送遅延", "relayed": "中継された", "expanded": "複数の宛先に展開された", "delivered": "配送された",
        "reply": "返信", "auto-reply": "自動返信", "unreadable": "読み取れない", "other": "その他", "mail": "メール",
        "mdn": "開封確認", "dsn": "配送状況通知", "none": "なし", "kept": "あり（差出人の要求を維持）",
        "added": "追加した", "stripped": "取り除いた", "policy": "ポリシー", "client": "差出人", "nobody": "なし",
        "outbound": "社外宛", "inbound": "社外から", "internal": "社内", "transit": "通過", "accepted": "次の中継先が受け取った",
        "refused": "拒否された", "deferred": "後に再試行", "withheld": "届けずに留めた", "unknown": "不明",
        "matched": "送ったメールと一致", "claimed": "claimed（自称）", "authenticated": "authenticated（ドメイン認証済）",
        "phone": "電話", "meeting": "面談", "letter": "書面", "chat": "チャット", "enforce": "適用", "observe": "観察のみ",
        "retention": "保存期間の満了", "request": "本人などの請求", "other-address": "別のアドレスから",
        "failed-authentication": "認証に失敗", "unknown-message": "当方のメールを指していない",
        "wrong-recipient": "宛先本人からではない", "suspected": "開封確認らしいだけのもの",
        "alias": "既知の別名から", "duplicate": "受領済みと同じもの",
    },
}  # fmt: skip
MEANING = {
    "en": (
        (
            "A receipt that counts means: the message was displayed in, or answered from, that mailbox. It never proves that a"
            " particular person read it. No answer does not mean unread: many programs send no receipts, and people may decline."
        ),
        (
            "claimed: whoever wrote the receipt says so; nothing was checked. authenticated: the receipt really came from the domain that"
            " answers (DKIM or SPF, checked by the owner's own server); it proves the domain, not the person. attested: a person noted"
            " it; such notes stand apart and are no receipts."
        ),
        (
            "The proof shows that the entries named below were sealed in this ledger in this form, and when checked against an anchor that"
            " you got elsewhere, that they stood there when that anchor was made and have not been changed since. Without such an"
            " anchor it shows only that everything in this bundle agrees: whoever owns the ledger could have made it anew."
        ),
        (
            "It does not show that what was recorded was true, nor that the ledger has nothing more about this message: what was left"
            " out of this bundle altogether cannot be seen in it. The ledger keeps the SHA-256 of the bundle as it was handed out. What"
            " belongs to other people is left out; its commitments stay in the entries, with how many they were and the rules for them."
        ),
        (
            "This page proves nothing by itself. To check all of it: python3 verify.py BUNDLE.zip --anchor LINE. Take the anchor, and best"
            " the program too, from somewhere else than from who gave you this."
        ),
    ),
    "ja": (
        (
            "有効な開封確認は、そのメールがそのメールボックスで表示されたか、そこから返信されたことを意味します。特定の人が読んだことの証明では"
            "ありません。回答なしは未読を意味しません。開封確認を送らないソフトは多く、回答を断ることもできます。"
        ),
        (
            "claimed（自称）: 開封確認を書いた者の申告であり、何も確認していません。authenticated（ドメイン認証済）: 回答したドメインから実際に"
            "届いたことを、台帳の所有者のサーバーがDKIMまたはSPFで確認しました。証明されるのはドメインであり、人ではありません。attested（人の記録）:"
            " 人が書き留めたもので、別に扱い、開封確認ではありません。"
        ),
        (
            "この証明は、下記のエントリがこの形でこの台帳に封印されたことを示します。別の所から入手したアンカーと照合すると、アンカー作成時に"
            "存在し、その後変更されていないことを示します。そのようなアンカーがなければ、この束の内容が互いに一致することしか示しません。"
            "台帳の所有者なら作り直すことができます。"
        ),
        (
            "記録された内容が真実であること、また、このメールについて台帳に他の記録がないことは示しません。束に含めなかった記録は、束からは"
            "分かりません。台帳には、渡した束のSHA-256が残ります。他の人に関する内容は含めず、そのコミットメントと、人数および適用された規則だけがエントリに残ります。"
        ),
        (
            "このページ自体は何も証明しません。全体の検証: python3 verify.py BUNDLE.zip --anchor LINE。アンカーは（できればこのプログラムも）、"
            "これを渡した人とは別の所から入手してください。"
        ),
    ),
}
Section = Any


def visible(text: object) -> str:
    """A text on one line, with control characters and such spelled out."""
    return "".join(c if c.isprintable() or c == "\u3000" else f"\\x{ord(c):02x}" for c in str(text))


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text[:-1]).replace(tzinfo=timezone.utc)


def times_of(facts: Any) -> Iterator[str]:
    """Every time that these facts tell."""
    for name, value in facts.items() if isinstance(facts, dict) else [("", each) for each in facts]:
        if isinstance(value, (dict, list)):
            yield from times_of(value)
        elif value is not None and (name.endswith("_at") or name in ("at", "policy_since")):
            yield value


class Teller:
    """Tells the facts of a record in one language. ``offsets``: by time, minutes of the zone in which people are shown it."""

    def __init__(self, record: dict[str, Any], language: str) -> None:
        self.facts = record["facts"]
        self._offsets = record["offsets"]
        self._words = WORDS[language]

    def word(self, code: object) -> str:
        """A word of the ledger's as people say it; any other text as it is."""
        return self._words.get(str(code), visible(code)) if code is not None else self._words["gone"]

    def time(self, text: str) -> str:
        moment, zone = _moment(text), timezone(timedelta(minutes=self._offsets[text]))
        utc = moment.strftime("%Y-%m-%d %H:%M:%S UTC")
        local = moment.astimezone(zone).isoformat(" ", "seconds")
        return utc if self._offsets[text] == 0 else f"{local[:19]} {local[19:]} ({utc})"

    def sections(self) -> Iterator[Section]:
        """All there is to tell: headings, each with rows of label and text."""
        for each in self.facts["recipients"]:
            yield self._words["result"], list(self._result(each))
            yield self._words["asked"], list(self._asked(each))
            yield self._words["back"], list(self._back(each))
            yield self._words["notes"], list(self._notes(each))
            yield self._words["pairs"], list(self._pairs(each))
        yield self._words["hidden"], [(self._cell(each), self._why_missing(each)) for each in self.facts["missing"]]
        yield self._words["proof"], list(self._proof())

    def _result(self, each: Any) -> Iterator[tuple[str, str]]:
        answers = [one for one in each["evidence"] if one["counts"] and one["evidence"] != "dsn"]
        for one in answers:
            yield (
                self._name(one["by"] if one["answerer"] else each["address"]),
                f"{self._said(one)}; {self.time(one['at'])}",
            )
        if each["list"]:
            yield self._name(each["address"]), self._words["list"].format(each["answered"])
        if not answers:
            yield self._name(each["address"]), self._words["no-answer"]

    def _name(self, text: str | None) -> str:
        return self._words["gone"] if text is None else visible(text)

    def _said(self, one: Any) -> str:
        told = self.word(one["evidence"])
        if one["value"] != one["evidence"]:
            told += f": {self.word(one['value'])}"
        return told if one["evidence"] == "dsn" else f"{told} ({self.word(one['grade'])})"

    def _asked(self, each: Any) -> Iterator[tuple[str, str]]:
        facts, words = self.facts, self._words
        message_id = f"<{visible(facts['message_id'])}>" if facts["message_id"] else ""
        yield words["number"], f"{facts['message']} {message_id}"
        yield words["from"], self._name(facts["sender"])
        yield words["to"], f"{self._name(each['address'])} ({self.word(each['direction'])})"
        yield words["subject"], self._name(facts["subject"])
        yield words["sent"], self.time(facts["sent_at"] or facts["recorded_at"])
        yield words["request-was"], f"{self.word(each['request'])} ({words['by-whom']}: {self.word(each['asked_by'])})"
        yield words["rule"], words["no-rule"] if each["rule"] is None else visible(each["rule"])
        for label, name in (("why", "reason"), ("would", "would"), ("basis", "basis")):
            if each[name] is not None or name == "reason":
                yield words[label], self._name(each[name])
        for label, name in (("edits", "edits"), ("not-possible", "not_possible")):
            for one in each[name] or ():
                yield words[label], visible(one)
        yield words["confirm"], self.word(each["confirm"])
        for place, attempt in enumerate(facts["attempts"]):
            queue = ", ".join(visible(attempt[name]) for name in ("queue_id", "mta_queue_id") if attempt[name])
            yield words["again" if place else "recorded"], f"{self.time(attempt['at'])} {queue}"
            if attempt["policy"]:
                since = attempt["policy_since"]
                told = f"; {self.word(attempt['policy_mode'])}; {words['since']} {self.time(since)}" if since else ""
                yield words["version"], visible(attempt["policy"]) + told

    def _back(self, each: Any) -> Iterator[tuple[str, str]]:
        words = self._words
        for one in each["outcomes"]:
            yield self.time(one["at"]), f"{words['outcome']}: {self.word(one['outcome'])}: {self._name(one['reply'])}"
        for one in each["evidence"]:
            told = [words["counts" if one["counts"] else "counts-not"], self.word(one["verdict"])]
            told += [words[name] for name in ("alias", "duplicate") if one[name]]
            told += [f"{words['pair']} {one['pair']}"] if one["pair"] is not None else []
            lines = [f"{self._said(one)}; {'; '.join(told)}", f"{words['from']}: {self._name(one['by'])}"]
            lines += [visible(one["why"])] if one["why"] else []
            lines += [f"{visible(key)}: {visible(value)}" for key, value in sorted((one["details"] or {}).items())]
            lines += [f"{words['octets']}: {one['report']}"] if one["report"] else []
            yield f"{self.time(one['at'])}, {words['entry']} {one['entry']}", "\n".join(lines)

    def _notes(self, each: Any) -> Iterator[tuple[str, str]]:
        for one in each["notes"]:
            told = f"attested: {self.word(one['value'])}, {self.time(one['confirmed_at'])}"
            yield self._added(one), f"{told}; {self._signed(one)}"

    def _pairs(self, each: Any) -> Iterator[tuple[str, str]]:
        for one in each["pairs"]:
            told = f"{self._name(one['other'])} {self._words['answers-for']} {self._name(one['asked'])}"
            yield self._added(one), f"{told}; {self._signed(one)}"

    def _added(self, one: Any) -> str:
        return f"{self.time(one['at'])}, {self._words['entry']} {one['entry']}"

    def _signed(self, one: Any) -> str:
        revoked = f"; {self._words['revoked-by']} {one['revoked_by']}" if one["revoked_by"] is not None else ""
        return f"{self._words['says']} {self._name(one['actor'])}: {self._name(one['text'])}{revoked}"

    def _cell(self, one: Any) -> str:
        return f"{self._words['entry']} {one['entry']}, {self._words['cell']} {visible(one['cell'])}"

    def _why_missing(self, one: Any) -> str:
        if one["erased_by"] is None:
            return self._words["left-out"]
        return (
            f"{self._words['erased-by']} {one['erased_by']}, {self.time(one['erased_at'])}: {self.word(one['ground'])}"
        )

    def _proof(self) -> Iterator[tuple[str, str]]:
        yield self._words["ledger"], visible(self.facts["ledger"])
        yield self._words["entries"], ", ".join(map(str, self.facts["entries"]))
        for one in self.facts["anchors"]:
            told = f"{self._words['batch']} {one['batch']}; {', '.join(map(visible, one['to']))}"
            yield self._words["sent-anchor"], f"{self.time(one['at'])}: {told}"


_STYLE = (
    "body{font:14px/1.5 sans-serif;max-width:52em;margin:2em auto;padding:0 1em;color:#000;background:#fff}"
    "h1{font-size:1.5em}h2{font-size:1.1em;border-bottom:1px solid #999;margin:1.5em 0 .3em}table{width:100%;"
    "border-collapse:collapse;table-layout:fixed}th{width:30%;text-align:left;font-weight:normal;color:#444}"
    "th,td{vertical-align:top;padding:.15em .5em .15em 0;white-space:pre-wrap;overflow-wrap:anywhere}"
    "tr,h2,p{break-inside:avoid}h2{break-after:avoid}@media print{section+section{break-before:page}body{margin:0}}"
)


def page(record: dict[str, Any]) -> str:
    """The record as a page for people: Japanese, then English; no scripts, nothing from elsewhere."""
    parts = [
        (
            '<!DOCTYPE html>\n<html lang="ja">\n<head>\n<meta charset="utf-8">\n'
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
            f"<title>{WORDS['ja']['title']} / {WORDS['en']['title']}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        )
    ]
    for language in ("ja", "en"):
        words = WORDS[language]
        parts.append(f'<section lang="{language}">\n<h1>{words["title"]}</h1>\n')
        for heading, rows in Teller(record, language).sections():
            if rows:
                told = "".join(f"<tr><th>{html.escape(a)}</th><td>{html.escape(b)}</td></tr>\n" for a, b in rows)
                parts.append(f"<h2>{heading}</h2>\n<table>\n{told}</table>\n")
        parts.append(f"<h2>{words['means']}</h2>\n")
        parts += [f"<p>{html.escape(text)}</p>\n" for text in MEANING[language]]
        parts.append("</section>\n")
    return "".join([*parts, "</body>\n</html>\n"])


# A bundle.

RECORD, PROOF, PAGE, PROGRAM = "record.json", "proof.json", "index.html", "verify.py"
MOST_OCTETS = 256 << 20
"""Of all members together."""


def written(value: object) -> bytes:
    """A JSON file of a bundle; there is one way to write it."""
    return (json.dumps(value, ensure_ascii=False, sort_keys=True, indent=1) + "\n").encode()


class Checked(NamedTuple):
    """``problems``: what does not hold; empty: everything agrees. ``covered``: entries that an anchor proves.

    ``entries``: those that one must prove, which are all but those that say that an anchor was sent.
    """

    problems: list[str]
    record: dict[str, Any] | None
    entries: list[int]
    covered: list[int]
    holding: list[Anchor]


def check(members: dict[str, bytes], anchors: Sequence[Anchor] = (), program: bytes | None = None) -> Checked:
    """Check a bundle's members against one another and against anchors. ``program``: what verify.py must be."""
    try:
        proof = _read(members, PROOF)
        chain = _Chain(proof)
        entries = [entry_of(each) for each in proof["entries"]]
        numbers = [body["n"] for body, _ in entries]
        if numbers != sorted(set(numbers)):
            raise ProofError("the entries of proof.json are not in order")
        problems, holding = chain.anchored(anchors)
        # That an anchor was sent is written after it, and only tells where to look for one.
        needed = [each for each, (body, _) in zip(proof["entries"], entries) if body["kind"] != "anchored"]
        covered = [each["entry"] for each in proof["entries"] if any(chain.proves(each, one) for one in holding)]
        record = _read(members, RECORD)
        problems += _mixed(entries)
        problems += _compare(members, record, proof["ledger"], entries, program)
    except ProofError as error:
        return Checked([str(error)], None, [], [], [])
    except _FAULTS as error:
        return Checked([f"the bundle cannot be read: {error!r}"], None, [], [], [])
    return Checked(problems, record, [each["entry"] for each in needed], covered, holding)


def _read(members: dict[str, bytes], name: str) -> Any:
    if name not in members:
        raise ProofError(f"{name} is missing")
    try:
        value = json.loads(members[name].decode())
    except _FAULTS as error:
        raise ProofError(f"{name} cannot be read: {error}") from None
    if not isinstance(value, dict) or type(value.get("version")) is not int or value["version"] != FORM:
        raise ProofError(
            f"{name} is of a form that this program does not know; take the one of the kaifu that made the bundle"
        )
    if written(value) != members[name]:
        raise ProofError(f"{name} is not written as kaifu writes it")
    return value


class _Chain:
    """What proof.json has of the chain of batches. ``heads``: those that follow from the newest."""

    def __init__(self, proof: Any) -> None:
        if set(proof) != {"version", "ledger", "head", "anchors", "batches", "entries"}:
            raise ProofError("proof.json is of another form")
        self.ledger = bytes.fromhex(proof["ledger"])
        self._hops = {_number(hop["batch"]): hop for hop in proof["batches"]}
        starts = [_number(each) for each in proof["anchors"]]
        if not starts or starts != sorted(set(starts)):
            raise ProofError("proof.json does not name its anchors in order, each once")
        newest = starts[-1]
        self.heads: dict[int, bytes] = {newest: _hash(proof["head"]), 0: genesis(self.ledger)}
        wanted = [*starts, *(_number(each["batch"]) for each in proof["entries"])]
        used = {step for end in wanted for step in self._follow(newest, end)}
        for each in proof["entries"]:
            for start in starts:
                if start >= each["batch"]:
                    used.update(way(start, each["batch"]))
                    self.check(each, start, self.heads[start])
        if [hop["batch"] for hop in proof["batches"]] != sorted(used):
            raise ProofError("proof.json has batches that lead nowhere")

    def _follow(self, start: int, end: int) -> list[int]:
        """The steps down to a batch, whose head is known afterwards, as are those of all batches that it names."""
        steps = list(way(start, end))
        for step in steps:
            hop = self._hops[step]
            first, last = _number(hop["first"]), _number(hop["last"])
            root, previous, skipped = (_hash(hop[name]) for name in ("root", "previous", "skip"))
            if head_of(step, first, last, root, previous, skipped) != self.heads[step]:
                raise ProofError(f"batch {step} does not have the head that proof.json leads to")
            for below, head in ((step - 1, previous), (skip(step), skipped)):
                if self.heads.setdefault(below, head) != head:
                    raise ProofError(f"batch {below} has two heads")
        return steps

    def check(self, each: Any, start: int, head: bytes) -> None:
        """ProofError unless this entry is proven by the head of this batch."""
        hops = [self._hops[step] for step in way(start, each["batch"])]
        ledger = self.ledger.hex()
        check_proof({"version": PROOF_VERSION, "ledger": ledger, **each, "hops": hops}, self.ledger, start, head)

    def proves(self, each: Any, anchor: Anchor) -> bool:
        """Does an anchor that holds prove this entry?"""
        if anchor.batch < each["batch"] or any(step not in self._hops for step in way(anchor.batch, each["batch"])):
            return False
        self.check(each, anchor.batch, anchor.head)
        return True

    def anchored(self, anchors: Sequence[Anchor]) -> tuple[list[str], list[Anchor]]:
        """What contradicts these anchors, and those which hold. An anchor that the bundle does not lead to does neither."""
        ours = [each for each in anchors if each.ledger == self.ledger]
        if anchors and not ours:
            return ["the anchor is of another ledger"], []
        known = [each for each in ours if each.batch in self.heads]
        holding = [each for each in known if self.heads[each.batch] == each.head and self._ends(each)]
        problems = [
            f"the anchor of batch {each.batch} ({each.at}) has another head: the ledger was rewritten, or the anchor is false"
            for each in known
            if each not in holding
        ]
        return problems, holding

    def _ends(self, anchor: Anchor) -> bool:
        hop = self._hops.get(anchor.batch)
        return hop is None or hop["last"] == anchor.last


_OF_ONE_MESSAGE = ("message", "attempt", "outcome", "evidence", "attested")


def _mixed(entries: Sequence[Entry]) -> Iterator[str]:
    """Entries that are all true but of several messages must not be told as one."""
    kinds = [body["kind"] for body, _ in entries]
    messages = {body["message"] for body, _ in entries if body["kind"] in _OF_ONE_MESSAGE}
    if kinds.count("message") != 1 or len(messages) != 1:
        yield "the entries are not those of one message"


def _compare(
    members: dict[str, bytes], record: Any, ledger: str, entries: Sequence[Entry], program: bytes | None
) -> Iterator[str]:
    """What record, reports and page say that the entries do not."""
    facts = facts_of(ledger, entries, record["recipients"])
    if any(each["decided_by"] == 0 for each in facts["recipients"]) or not facts["recipients"]:
        yield "record.json names a recipient of whom the entries know nothing"
        return
    offsets = {text: record["offsets"].get(text, 0) for text in times_of(facts)}
    expected = {"version": FORM, "recipients": record["recipients"], "offsets": offsets, "facts": facts}
    if written(expected) != members[RECORD]:
        yield f"record.json does not say what the entries say{_where(record, expected)}"
        return
    reports = {report_name(body["n"]): cells["raw"] for body, cells in entries if "raw" in cells}
    wanted = {**reports, PAGE: page(record).encode()}
    if program is not None:
        wanted[PROGRAM] = program
    for name, octets in sorted(wanted.items()):
        if name not in members:
            yield f"{name} is missing"
        elif members[name] != octets:
            yield (
                f"{name} is not what it should be by the entries"
                if name != PROGRAM
                else f"{name} in it is another program"
            )
    for name in sorted(set(members) - {*wanted, RECORD, PROOF, PROGRAM}):
        yield f"{visible(name)} does not belong into a bundle"


def _where(one: Any, other: Any, path: str = "") -> str:
    """The first place at which two JSON values differ, as a text."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted({*one, *other}):
            if one.get(key, _where) != other.get(key, _where):
                return _where(one.get(key), other.get(key), f"{path}.{key}")
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for at, (left, right) in enumerate(zip(one, other)):
            if left != right:
                return _where(left, right, f"{path}[{at}]")
    return f" ({visible(path[1:])})" if path else ""


def load(path: str) -> dict[str, bytes]:
    """The members of a bundle: a zip, or the directory that it was unpacked into. ProofError or OSError."""
    if os.path.isdir(path):
        return _limited(_files(path))
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if len(set(names)) != len(names):
                raise ProofError("the archive has a member twice")
            return _limited((name, archive.open(name)) for name in names)
    # NotImplementedError: how zipfile says that it does not know a member's compression.
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError, zlib.error, *_FAULTS) as error:
        raise ProofError(f"the archive cannot be read: {error}") from None


def _files(path: str) -> Iterator[tuple[str, Any]]:
    for top, _, names in sorted(os.walk(path)):
        for name in sorted(names):
            where = os.path.join(top, name)
            if not os.path.isfile(where):
                raise ProofError(f"{where} is no file")
            yield os.path.relpath(where, path).replace(os.sep, "/"), open(where, "rb")  # noqa: SIM115, closed by who reads


def _limited(streams: Iterable[tuple[str, Any]]) -> dict[str, bytes]:
    left, found = MOST_OCTETS, {}
    for name, stream in streams:
        with stream:
            found[name] = stream.read(left + 1)
        left -= len(found[name])
        if left < 0:
            raise ProofError("the bundle is larger than any that kaifu makes")
    return found


# The command.

_SAYS = {
    "en": {
        "proven": "PROVEN against the anchor: every entry about this message stood in the ledger when it was made, and was not"
        " changed since.",
        "not": "NOT PROVEN: something was altered, or does not fit.",
        "agrees": "EVERYTHING AGREES, but this is not proven: no anchor covers all of it.",
        "no-anchor": "Without an anchor that was kept elsewhere, whoever owns the ledger could have made all this anew: --anchor.",
        "uncovered": "No anchor that was given covers these entries: {}. It may be older than they are, or the bundle does not lead"
        " to it: ask for one that was made with --anchor and this line.",
        "sent": "NOT proven by it: {}. Written later, these say where anchors were sent; whether that is so, whoever got them knows.",
        "holds": "The anchor of {} (batch {}) holds.",
        "limits": "Not shown by any of this: that what was recorded is true; that the ledger has nothing more about this message.",
        "digest": "SHA-256 of this file, which the ledger's owner has on record as it was handed out: {}",
    },
    "ja": {
        "proven": "証明できました: このメールに関する全てのエントリは、アンカー作成時に台帳にあり、その後変更されていません。",
        "not": "証明できません: 何かが変更されているか、合っていません。",
        "agrees": "内容は全て一致していますが、証明はされていません: 全体を覆うアンカーがありません。",
        "no-anchor": "別の所に保管されたアンカーがなければ、台帳の所有者は全てを作り直すことができます（--anchor）。",
        "uncovered": "次のエントリは、与えられたアンカーでは覆われません: {}。アンカーがそれより古いか、この束からたどれません。"
        "この行を --anchor に付けて作った束を求めてください。",
        "sent": "証明されないエントリ: {}。後から書かれたもので、アンカーの送付先を述べるだけです。事実かどうかは受け取った側に確認してください。",
        "holds": "{} のアンカー（バッチ {}）は合っています。",
        "limits": "示されないこと: 記録の内容が真実であること、このメールについて台帳に他の記録がないこと。",
        "digest": "このファイルのSHA-256（渡した時の値が台帳に記録されています）: {}",
    },
}


def _given(text: str) -> list[Anchor]:
    """The anchors of an option: a line, or a file with lines."""
    try:
        if text.lstrip().startswith("kaifu-anchor"):
            return [anchor_of(text)]
        with open(text, encoding="utf-8") as stream:
            return anchors_in(stream.read(MOST_OCTETS))
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{visible(text)}: {visible(error)}") from None


def _language() -> str:
    try:
        locale.setlocale(locale.LC_ALL, "")
        return "ja" if (locale.getlocale()[0] or "").lower().startswith("ja") else "en"
    except (locale.Error, ValueError):
        return "en"


def _digest(path: str) -> str:
    with open(path, "rb") as stream:
        return sha256(stream.read()).hexdigest()


def report(found: Checked, anchored: bool, language: str) -> tuple[int, list[str]]:
    """Exit status and lines of text about a bundle that was checked."""
    says = _SAYS[language]
    if found.problems or found.record is None:
        return 1, [says["not"], *(f"  {visible(each)}" for each in found.problems)]
    lines = []
    for heading, rows in Teller(found.record, language).sections():
        if rows:
            lines += [heading, *(f"  {label}: " + text.replace("\n", "\n      ") for label, text in rows), ""]
    covered = set(found.covered)
    rest = [each for each in found.entries if each not in covered]
    sent = [one["entry"] for one in found.record["facts"]["anchors"] if one["entry"] not in covered]
    lines.append(says["agrees" if rest else "proven"])
    lines += [says["sent"].format(", ".join(map(str, sent)))] if sent and not rest else []
    lines += [says["holds"].format(visible(each.at), each.batch) for each in found.holding]
    if rest:
        lines.append(says["uncovered"].format(", ".join(map(str, rest))) if anchored else says["no-anchor"])
    return 3 if rest else 0, [*lines, says["limits"]]


def main(words: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(description="Checks an evidence bundle of kaifu's, and says what it proves.")
    parser.add_argument("bundle", metavar="BUNDLE", help="the zip, or the directory that it was unpacked into")
    parser.add_argument(
        "--anchor", action="append", type=_given, default=[], metavar="LINE|FILE", help="kept elsewhere"
    )
    parser.add_argument("--lang", choices=sorted(WORDS), default=_language())
    options = parser.parse_args(words)
    anchors = [anchor for some in options.anchor for anchor in some]
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        with open(__file__, "rb") as own:
            found = check(load(options.bundle), anchors, own.read())
        digest = "" if os.path.isdir(options.bundle) else _digest(options.bundle)
    except ProofError as error:
        found, digest = Checked([str(error)], None, [], [], []), ""
    except OSError as error:
        print(f"{visible(options.bundle)}: {error.strerror or error}", file=sys.stderr)
        return 2
    status, lines = report(found, bool(anchors), options.lang)
    print("\n".join([*lines, *([_SAYS[options.lang]["digest"].format(digest)] if digest else [])]))
    return status


if __name__ == "__main__":
    sys.exit(main())
