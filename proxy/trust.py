"""Whom to believe: who checks mail at our border, and whose mail goes to whom. A value, for what judges mail.

:mod:`kaifu.proxy.trustfiles` makes it from the settings; :mod:`kaifu.proxy.observe` takes it beside the message. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kaifu.policies.facts import domain_key

from .aliases import NO_ALIASES, Aliases


@dataclass(frozen=True, slots=True)
class Trust:
    """``border``: the authserv-ids (RFC 8601 2.5) whose results count, in lower case; empty: nobody's.

    ``organisation``: the organisational domain of a domain, both as :func:`~kaifu.policies.facts.domain_key` gives them
    (RFC 7489 3.2).
    """

    border: frozenset[str] = frozenset()
    aliases: Aliases = NO_ALIASES
    organisation: Callable[[str], str] = domain_key


NO_TRUST = Trust()
"""Nothing is known: every answer is a claim, and no address is another one's."""
