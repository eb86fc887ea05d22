"""Message identifiers as they stand in header fields and reports, made comparable.

RFC 5322 3.6.4 wants ``<left@right>``; real mail leaves the brackets out, puts spaces inside, or writes an empty
``<>``. Identifiers are compared without brackets and trimmed; what is inside is kept as it is. Pure, linear in the
length of the value, never raises.
"""

from __future__ import annotations

import re

_BRACKETED = re.compile(r"<([^<>]*+)>")
MAX_IDS = 1000


def message_ids(value: str, *, last: bool = False) -> tuple[str, ...]:
    """All identifiers of a field value, in order, without brackets; at most the first :data:`MAX_IDS` of them, or the last.

    Without any bracket the words of the value that hold an ``@`` are taken; if none does and there is only one word,
    that word. Empty identifiers (``<>``) are none.
    """
    if "<" in value:
        found = [i for i in map(str.strip, _BRACKETED.findall(value)) if i]
    else:
        words = value.split()
        found = [w for w in words if "@" in w] or (words if len(words) == 1 else [])
    return tuple(found[-MAX_IDS:] if last else found[:MAX_IDS])


def single_id(value: str) -> str | None:
    """The one identifier that a field such as Original-Message-ID holds, without brackets; None when it is empty.

    Everything between the first ``<`` and the next ``>`` counts, spaces included; without brackets the whole
    value does.
    """
    _, opened, rest = value.partition("<")
    inner = rest.partition(">")[0] if opened else value
    return inner.strip() or None
