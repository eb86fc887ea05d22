"""The policy in words: its rules as lines of a list, what each says, what is wrong with a file, and what would happen to a message.

Called by the policy screens. Pure, without Textual: from what :mod:`kaifu.tui.policy_read` found to :class:`kaifu.tui.lines.Told`. Keys and values of
the language stand as they do in the file; sentences about decisions are those of ``kaifu policy explain``.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import tzinfo
from typing import NamedTuple

from rich.cells import cell_len

from kaifu.policies.document import Problem
from kaifu.policies.rules import REPORTS, Policy, Rule
from kaifu.proxy.display import visible
from kaifu.proxy.explain import Explanation, as_lines
from kaifu.proxy.health import Health
from kaifu.proxy.judgement import Verdict
from kaifu.proxy.ledger_shown import local
from kaifu.proxy.requestedits import edit_words

from .detail_words import called
from .lines import Told, title
from .look import Marks, fitted
from .policy_explained import in_words
from .policy_read import PolicyText, Standing, Tried
from .words import later, say, say_many

MOST_PROBLEMS = 200


class Item(NamedTuple):
    """One line of the list. ``key``: tells it from others when the list is made anew; ``told``: what is said about it."""

    key: str
    number: str
    hits: str
    name: str
    told: tuple[Told, ...]
    mark: str = ""

    def line(self, width: int, marks: Marks) -> str:
        """As it stands in the list: number, hits of 30 days, mark, name."""
        return (
            f"{self.number:>4}{right(self.hits, 10)} {self.mark or ' '} {fitted(self.name, max(0, width - 17), marks)}"
        )


def heading() -> str:
    """Over the columns."""
    return f"{right(say('30 days'), 14)}   {say('Rule')}"


def right(text: str, width: int) -> str:
    """At the right of so many cells."""
    return " " * max(0, width - cell_len(text)) + text


def items(standing: Standing, reads: bool) -> list[Item]:
    """The list. ``reads``: who looks may read what the rules say; else names, counts and warnings."""
    policy, read = standing.shown, standing.read
    found = []
    if read.policy is None:
        n = len(read.problems)
        name = say_many("The file is not in force: {n} error", "The file is not in force: {n} errors", n)
        found.append(Item("errors", "", "", name, tuple(_problems(read, reads)), "!"))
    if policy is not None:
        warnings = read.problems if read.policy is not None else ()
        ends = [*(rule.line for rule in policy.rules[1:]), 1 << 60]
        for number, (rule, end) in enumerate(zip(policy.rules, ends, strict=True), 1):
            about = tuple(each for each in warnings if rule.line <= each.line < end)
            found.append(_rule(number, rule, standing.hits.get(rule.name, 0), about, reads))
        found.append(Item("defaults", "", "", say("What no rule decides"), tuple(_defaults(policy, reads))))
        if warnings:
            name = say_many("{n} warning", "{n} warnings", len(warnings))
            found.append(Item("warnings", "", "", name, tuple(_problems(read, reads)), "!"))
    named = {rule.name for rule in policy.rules} if policy is not None else set()
    for name in sorted(standing.hits.keys() - named):
        told = (Told(name, style="bold"), Told(say("No rule of this policy: of an earlier one, or of another.")))
        found.append(Item(f"earlier {name}", "", f"{standing.hits[name]:,}", name, told, "-"))
    return found


def _rule(number: int, rule: Rule, hits: int, warnings: tuple[Problem, ...], reads: bool) -> Item:
    told = [Told(rule.name, style="bold"), Told(f"{rule.line}", say("line"))]
    often = (
        say_many("decided about {n} recipient", "decided about {n} recipients", hits) if hits else say("never decided")
    )
    told.append(Told(often, say("30 days")))
    if reads:
        told += _says(rule)
    told += [Told(each.message, "!" if not place else "") for place, each in enumerate(warnings)]
    shown = f"{hits:,}" if hits else say("never")
    return Item(f"rule {rule.name}", str(number), shown, rule.name, tuple(told), "!" if warnings else "")


def _says(rule: Rule) -> Iterator[Told]:
    yield Told(say("When all of this holds") if rule.when else say("Always"), style="bold")
    yield from (Told(each.text, each.key, deep=2) for each in rule.when)
    yield Told(say("Then"), style="bold")
    yield from (Told(text, key, deep=2) for key, text in rule.then.texts.items())
    if not rule.kinds & REPORTS:
        yield Told(say("For mail alone: it says nothing about receipts and delivery reports."))


def _defaults(policy: Policy, reads: bool) -> Iterator[Told]:
    yield Told(say("What no rule decides"), style="bold")
    if not reads:
        return
    for direction, then in policy.defaults.items():
        if then.texts:
            yield Told(str(then), str(direction), deep=2)
    yield Told(
        say(
            "Else requests stay as they are, everything is recorded, and receipts are delivered unless only the policy asked for them."
        )
    )


def _problems(read: PolicyText, reads: bool) -> Iterator[Told]:
    """All that is wrong with a file, with the lines where it is; without what they quote for those who may not read it."""
    for each in read.problems[:MOST_PROBLEMS]:
        warning = each.severity == "warning"
        if not reads and not warning and each.line:
            yield Told(say("error in line {line}", line=each.line), f"{each.line}:{each.column}")
            continue
        hint = f' (did you mean "{each.hint}"?)' if each.hint is not None else ""
        place = f"{each.line}:{each.column}" if each.line else "!"
        yield Told(f"{'warning: ' if warning else ''}{each.message}{hint}", place)
        if reads and 0 < each.line <= len(read.lines):
            yield from pointed(read.lines[each.line - 1], each.column)
    if len(read.problems) > MOST_PROBLEMS:
        yield Told(say("and {n} more", n=len(read.problems) - MOST_PROBLEMS))


def pointed(line: str, column: int, most: int = 66) -> tuple[Told, Told]:
    """The part of a line around a column, and a mark under the character in that column (from 1)."""
    start = max(0, column - most // 2)
    before, after = visible(line[start : column - 1]), visible(line[column - 1 : start + most])
    under = " " * cell_len(before) + "^"
    return Told(before + after, deep=2, style="not bold"), Told(under, deep=2)


def health_words(standing: Standing, zone: tzinfo) -> Iterator[str]:
    """What relay and milter say of the policy, worst first."""
    if not standing.health:
        yield say("Neither relay nor milter has told which policy it uses.")
    for each in sorted(standing.health, key=lambda each: each.policy.rejected is None):
        yield _of_process(each, standing, zone)


def _of_process(health: Health, standing: Standing, zone: tzinfo) -> str:
    policy = health.policy
    if health.stopped or health.stale:
        return say("{host} is not running", host=called(HOSTS, health.host))
    if policy.rejected is not None:
        since = local(policy.rejected.at, zone)
        return say(
            "{host}: the file was rejected {since}; the one from before is in force",
            host=called(HOSTS, health.host),
            since=since,
        )
    since = local(policy.loaded_at, zone)
    if standing.read.policy is not None and standing.read.policy.digest != policy.digest:
        return say("{host} still uses another version, loaded {since}", host=called(HOSTS, health.host), since=since)
    return say("{host}: in force since {since}", host=called(HOSTS, health.host), since=since)


HOSTS = {"relay": later("relay"), "milter": later("milter")}
MODES = {
    "enforce": later("enforced"),
    "observe": later("observing only: nothing is changed or withheld"),
}


# --- a message that is tried --------------------------------------------------------------------------------------


def tried_told(tried: Tried, marks: Marks) -> list[Told]:
    """All about a message that was tried, and about a candidate."""
    told: list[Told] = []
    if tried.error:
        told.append(Told(tried.error, "!", "bold"))
    if tried.candidate is not None:
        told += _candidate(tried.candidate)
    if tried.now is not None and tried.then is not None:
        told += _differences(tried.now, tried.then)
    if tried.now is not None:
        told += [*title(say("With the policy in the file")), *_explained(tried, tried.now)]
    if tried.then is not None:
        told += [*title(say("With the candidate")), *_explained(tried, tried.then)]
    return told[1:] if told and not told[0].text else told


def _candidate(read: PolicyText) -> Iterator[Told]:
    yield from title(say("Candidate {file}", file=read.file))
    if read.policy is None:
        yield Told(say_many("cannot be used: {n} error", "cannot be used: {n} errors", len(read.problems)))
    else:
        rules = say_many("{n} rule", "{n} rules", len(read.policy.rules))
        warnings = say_many("{n} warning", "{n} warnings", len(read.problems)) if read.problems else say("no warnings")
        yield Told(say("can be used: {rules}, {warnings}", rules=rules, warnings=warnings))
    yield from _problems(read, True)


def _differences(now: Explanation, then: Explanation) -> Iterator[Told]:
    yield from title(say("What the candidate changes for this message"))
    changed = False
    for old, new in zip(now.judgement.verdicts, then.judgement.verdicts, strict=True):
        if _done(old) != _done(new):
            changed = True
            yield Told(str(new.recipient.mailbox), style="bold")
            yield Told(old.reason, say("now"), deep=2)
            yield Told(new.reason, say("then"), deep=2)
        elif old.decision.rule != new.decision.rule:
            changed = True
            yield Told(str(new.recipient.mailbox), style="bold")
            yield Told(say("the same is done, by another rule"), deep=2)
            yield Told(new.reason, say("then"), deep=2)
    if not changed:
        yield Told(say("nothing"))


def _done(verdict: Verdict) -> tuple[object, ...]:
    """What happens to message and record."""
    recorded = verdict.recorded
    kept = None if recorded is None else (recorded.request, recorded.asked_by, recorded.retain_days, recorded.would)
    edits = tuple(edit_words(edit) for edit in verdict.edits)
    return verdict.action, edits, verdict.notify if verdict.notify_changed else None, kept, verdict.decision.record


def _explained(tried: Tried, told: Explanation) -> Iterator[Told]:
    """The lines of ``kaifu policy explain``."""
    yield from in_words(as_lines(tried.typed.message or say("message"), told))
