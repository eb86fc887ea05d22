"""What the proven entries of an evidence bundle say: one message, one recipient, what was decided and what came back.

Part of each bundle, where ``verify.py`` (:mod:`kaifu.proxy.bundle_verifier`) runs it on entries that it has proven, and only
when it has the SHA-256 that is written down there; :mod:`kaifu.proxy.ledger_bundle` runs it to make ``record.json``. Needs nothing
but Python 3.8 or newer. Pure. An entry is its body and its cells, by name. Fails with :class:`ProofError` when the entries are not
those of one message, and raises what a body raises that is none.
"""

from __future__ import annotations

from typing import Any, Iterator, NamedTuple, Sequence

from .bundle_verifier import Entry, ProofError

_ANSWERS = ("displayed", "deleted", "denied")
_DECIDING = ("message", "attempt")
_OF_ONE_MESSAGE = ("message", "attempt", "outcome", "evidence", "attested")
_FROM_IDS = ("message_id", "queue_id", "mta_queue_id", "envid")
_DECIDED = ("direction", "request", "asked_by", "report_asked_by", "rule", "basis", "confirm", "retain_days")


def check_one_message(entries: Sequence[Entry]) -> None:
    """ProofError when entries, which may all be true, are those of several messages: they must not be told as one."""
    kinds = [body["kind"] for body, _ in entries]
    messages = {body["message"] for body, _ in entries if body["kind"] in _OF_ONE_MESSAGE}
    if kinds.count("message") != 1 or len(messages) != 1:
        raise ProofError("the entries are not those of one message")


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
            answerer: Any = body.get("answerer", body["n"] if other else 0)
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
