"""What an evidence bundle tells of its proven entries: ``record.json``, the page ``index.html``, and the reports, octet by octet.

Part of each bundle, where ``verify.py`` (:mod:`kaifu.proxy.bundle_verifier`) runs it on entries that it has proven and compares;
:mod:`kaifu.proxy.ledger_bundle` runs it to make those files. Needs nothing but Python 3.8 or newer. Pure. :func:`files_of` fails with
:class:`ProofError` when the entries are not those of one message or know nothing of the recipient, and raises what an entry raises
that is none; :func:`compare` says so instead.
"""

from __future__ import annotations

import html
import json
import locale
from datetime import datetime, timedelta, timezone
from typing import Any, Callable, Iterator, Sequence

from .bundle_facts import check_one_message, facts_of, report_name
from .bundle_verifier import FAULTS, FORM, PARTS, Checked, Entry, ProofError, must, visible, written
from .bundle_words import MEANING, SAYS, WORDS

RECORD, PAGE = "record.json", "index.html"
Section = Any


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


def files_of(
    ledger: str, entries: Sequence[Entry], recipients: Sequence[int], zone: Callable[[str], Any]
) -> dict[str, bytes]:
    """The files of a bundle that tell of these entries, by name. ``zone``: minutes of the zone in which people are shown a time."""
    check_one_message(entries)
    facts = facts_of(ledger, entries, recipients)
    known = [each for each in facts["recipients"] if type(each["recipient"]) is int and each["decided_by"]]
    must(known != [] and known == facts["recipients"], "record.json names a recipient of whom the entries know nothing")
    offsets = {text: zone(text) for text in times_of(facts)}
    record = {"version": FORM, "recipients": recipients, "offsets": offsets, "facts": facts}
    reports = {report_name(body["n"]): cells["raw"] for body, cells in entries if "raw" in cells}
    return {PAGE: page(record).encode(), RECORD: written(record), **reports}


def compare(members: dict[str, bytes], ledger: str, entries: Sequence[Entry]) -> tuple[Any, list[str]]:
    """The record among the files of a bundle that tell of these proven entries, and how these differ from what they should be."""
    try:
        must(RECORD in members, f"{RECORD} is missing")
        record = json.loads(members[RECORD].decode())
        offsets = record["offsets"]
        expected = files_of(ledger, entries, record["recipients"], lambda text: offsets.get(text, 0))
        if expected[RECORD] != members[RECORD]:
            where = _difference(record, json.loads(expected[RECORD]))
            raise ProofError(f"{RECORD} does not say what the entries say{where}")
    except ProofError as error:
        return None, [str(error)]
    except FAULTS as error:
        return None, [f"{RECORD} cannot be read, or the entries: {error!r}"]
    problems = [f"{name} is missing" for name in sorted(set(expected) - set(members))]
    problems += [f"{name} does not belong into a bundle" for name in sorted(set(members) - set(expected))]
    both = sorted(set(members) & set(expected))
    problems += [f"{name} is not what it should be by the entries" for name in both if members[name] != expected[name]]
    return record, problems


def _difference(one: Any, other: Any, path: str = "") -> str:
    """The first place at which two JSON values differ, as a text."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted({*one, *other}):
            if one.get(key, _difference) != other.get(key, _difference):
                return _difference(one.get(key), other.get(key), f"{path}.{key}")
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for at, (left, right) in enumerate(zip(one, other)):
            if left != right:
                return _difference(left, right, f"{path}[{at}]")
    return f" ({path[1:]})" if path else ""


def told(found: Checked, rest: Sequence[int], anchored: bool, language: str | None, digest: str) -> list[str]:
    """The lines that ``verify.py`` shows of a bundle in which everything agrees. ``rest``: the entries that no anchor proves, of
    those that one must; ``anchored``: was any given; ``digest``: the SHA-256 of the bundle, if it has one."""
    language = language or _language()
    says, lines = SAYS[language], []
    for heading, rows in Teller(found.record, language).sections():
        if rows:
            lines += [heading, *(f"  {label}: " + text.replace("\n", "\n      ") for label, text in rows), ""]
    sent = [one["entry"] for one in found.record["facts"]["anchors"] if one["entry"] not in found.covered]
    lines.append(says["agrees" if rest else "proven"])
    lines += [says["sent"].format(", ".join(map(str, sent)))] if sent and not rest else []
    lines += [says["holds"].format(visible(each.at), each.batch) for each in found.holding]
    if rest:
        lines.append(says["uncovered"].format(", ".join(map(str, rest))) if anchored else says["no-anchor"])
    lines += [says["compared"].format(", ".join(PARTS)), says["limits"]]
    return [*lines, says["digest"].format(digest)] if digest else lines


def _language() -> str:
    """The language of whoever runs this."""
    try:
        locale.setlocale(locale.LC_ALL, "")
        return "ja" if (locale.getlocale()[0] or "").lower().startswith("ja") else "en"
    except (locale.Error, ValueError):
        return "en"
