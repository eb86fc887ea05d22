"""Message identifiers as they stand in header fields and reports, made comparable.

RFC 5322 3.6.4 wants ``<left@right>``; real mail leaves the brackets out, puts spaces inside, or writes an empty
``<>``. Identifiers are compared without brackets and trimmed; what is inside is kept as it is. Pure, linear in the
length of the value, never raises.
"""

from __future__ import annotations

import re

_BRACKETED = re.compile(r"<([^<>]*+)>")
MAX_IDS = 1000


def message_ids(value: str) -> tuple[str, ...]:
    """All identifiers of a field value, in order, without brackets; at most :data:`MAX_IDS` of them.

    Without any bracket the words of the value that hold an ``@`` are taken; if none does and there is only one word,
    that word. Empty identifiers (``<>``) are none.
    """
    if "<" in value:
        found = (m[1].strip() for _, m in zip(range(MAX_IDS), _BRACKETED.finditer(value), strict=False))
        return tuple(i for i in found if i)
    words = value.split(None, MAX_IDS)[:MAX_IDS]
    addressed = tuple(w for w in words if "@" in w)
    return addressed or (tuple(words) if len(words) == 1 else ())


def single_id(value: str) -> str | None:
    """The one identifier that a field such as Original-Message-ID holds, without brackets; None when it is empty.

    Everything between the first ``<`` and the next ``>`` counts, spaces included; without brackets the whole
    value does.
    """
    _, opened, rest = value.partition("<")
    inner = rest.partition(">")[0] if opened else value
    return inner.strip() or None
