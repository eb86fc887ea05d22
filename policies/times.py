"""The ``time`` condition: weekdays and hours in a zone.

Hours run from the first minute to before the last (``09:00-18:00`` holds at 17:59 and not at 18:00). Hours over
midnight belong to the day on which they begin: Friday ``22:00-06:00`` ends on Saturday morning. Without ``zone`` the
zone is that of the facts' ``now``, which the host's settings choose. Zones are read from the system once, on loading.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from functools import cache
from typing import TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from kaifu.policies.document import Checker, MappingNode, Node, ScalarNode
from kaifu.policies.vocabulary import HOURS_FORM, WEEKDAYS, WEEKDAYS_FORM

Span: TypeAlias = tuple[int, int]

_DAY = 24 * 60


def time_test(checker: Checker, node: Node) -> Callable[[datetime], bool] | None:
    """The test that one ``{weekdays, hours, zone}`` stands for, None after noting what is wrong."""
    entries = checker.as_mapping(node, "time", ("weekdays", "hours", "zone"))
    if entries is None or not isinstance(node, MappingNode):
        return None
    if not entries.keys() & {"weekdays", "hours"} and len(entries) == len(node.entries):
        checker.error(node, 'time needs "weekdays" or "hours"')
        return None
    days = _weekdays(checker, entries["weekdays"][1]) if "weekdays" in entries else frozenset(range(7))
    spans = _hours(checker, entries["hours"][1]) if "hours" in entries else ((0, _DAY),)
    zone = _zone(checker, entries["zone"][1]) if "zone" in entries else None
    if not days or not spans:
        return None
    return _test(days, spans, zone)


def _test(days: frozenset[int], spans: tuple[Span, ...], zone: ZoneInfo | None) -> Callable[[datetime], bool]:
    def holds(now: datetime) -> bool:
        if zone is not None:
            try:
                now = now.astimezone(zone)
            except (OverflowError, ValueError):
                return False  # the first or last day that a datetime can hold
        today, minute = now.weekday(), now.hour * 60 + now.minute
        for begin, end in spans:
            if begin < end:
                if begin <= minute < end and today in days:
                    return True
            elif (minute >= begin and today in days) or (minute < end and (today - 1) % 7 in days):
                return True
        return False

    return holds


def _weekdays(checker: Checker, node: Node) -> frozenset[int]:
    days: set[int] = set()
    for item in _items(checker, node, "weekdays"):
        text = item.text if isinstance(item, ScalarNode) else ""
        if re.match(WEEKDAYS_FORM, text):
            first, dash, last = text.strip().partition("-")
            begin = WEEKDAYS.index(first)
            length = (WEEKDAYS.index(last) - begin) % 7 if dash else 0
            days.update((begin + i) % 7 for i in range(length + 1))
        elif not (isinstance(item, ScalarNode) and item.damaged):
            lower = text.lower()
            close = lower if re.match(WEEKDAYS_FORM, lower) else checker.nearest(text[:3], WEEKDAYS)
            checker.error(item, f'"{text}" is no weekday (mon, tue, … or a range such as mon-fri)', close)
    return frozenset(days)


def _hours(checker: Checker, node: Node) -> tuple[Span, ...]:
    spans: list[Span] = []
    for item in _items(checker, node, "hours"):
        text = item.text if isinstance(item, ScalarNode) else ""
        span = _span(text)
        if span is not None:
            spans.append(span)
        elif not (isinstance(item, ScalarNode) and item.damaged):
            checker.error(item, f'"{text}" are no hours (for example 09:00-18:00 or 22:00-06:00)')
    return tuple(spans)


def _span(text: str) -> Span | None:
    if not re.match(HOURS_FORM, text):
        return None
    begin, end = (int(hour) * 60 + int(minute) for hour, minute in (clock.split(":") for clock in text.split("-")))
    return (begin, end) if begin < _DAY and end <= _DAY and begin != end else None


def _items(checker: Checker, node: Node, what: str) -> tuple[Node, ...]:
    items = checker.as_list(node, what, one=True)
    if items == ():
        checker.error(node, f"{what} is an empty list and would never hold")
    return items or ()


@cache
def _zone_names() -> frozenset[str]:
    return frozenset(available_timezones())  # reads hundreds of files


def _zone(checker: Checker, node: Node) -> ZoneInfo | None:
    name = checker.as_str(node, "zone")
    if name is None:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        checker.error(node, f'there is no time zone "{name}"', checker.nearest(name, _zone_names()))
        return None
