"""Dates as mail writes them (RFC 5322 3.3), read to aware datetimes.

Called by ``transit`` for the ``Date:`` of a message that is recorded. Obsolete forms are read too: named zones, two-digit
years, missing seconds, comments (RFC 5322 4.3). ``-0000`` says that the zone is not known and is taken for UTC. Linear
time; never raises: what is no date gives None.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache

_MAX = 200
_COMMENT = re.compile(r"\([^()]*\)")
_DATE = re.compile(
    r"\s*(?:[A-Za-z]{3,9}\.?,?\s+)?"  # day of the week
    r"(\d{1,2})[\s-]+([A-Za-z]{3})[A-Za-z]{0,6}[\s-]+(\d{2,4})[\s,]+"
    r"(\d{1,2}):(\d{2})(?::(\d{2}))?(?:\.\d{1,9})?"
    r"\s*(?:([+-]\d{4})|([A-Za-z]{1,5}))?\s*\Z",
    re.ASCII,
)
_MONTHS = {m: n for n, m in enumerate("jan feb mar apr may jun jul aug sep oct nov dec".split(), 1)}
_ZONES = {"EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7, "JST": 9}


def parse_date(value: str) -> datetime | None:
    """The moment that a date field names, aware; None when it cannot be read or does not exist."""
    return _parse(value[:_MAX])


@lru_cache(maxsize=256)  # Where speed matters many messages are of the same second.
def _parse(value: str) -> datetime | None:
    found = _DATE.match(_COMMENT.sub(" ", value))
    if found is None:
        return None
    day, month, year, hour, minute, second, offset, zone = found.groups()
    if not 1900 <= _year(year) <= 9000:  # so that every zone and every store can hold it
        return None
    try:
        return datetime(
            _year(year),
            _MONTHS[month.lower()],
            int(day),
            int(hour),
            int(minute),
            min(int(second or 0), 59),  # a leap second is the second before
            tzinfo=_zone(offset, zone),
        )
    except (ValueError, KeyError):
        return None


def _year(text: str) -> int:
    """Two and three digits as RFC 5322 4.3 reads them."""
    year = int(text)
    if len(text) == 2:
        return year + (2000 if year < 50 else 1900)
    return year + 1900 if len(text) == 3 else year


def _zone(offset: str | None, name: str | None) -> timezone:
    if offset is not None:
        minutes = int(offset[1:3]) * 60 + int(offset[3:])
        return timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes))
    return timezone(timedelta(hours=_ZONES[name.upper()])) if name and name.upper() in _ZONES else UTC
