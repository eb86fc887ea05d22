"""The organisational domain: what stands one label below a public suffix (RFC 7489 3.2).

Two addresses whose domains have it in common belong to one organisation, and its mail servers may vouch for both (relaxed
alignment, RFC 7489 3.1.1). The public suffix list is the one that the package ``publicsuffixlist`` brings; it is read once, when it
is first needed, which takes a tenth of a second. Look-ups are remembered. Never raises once the list is read.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache

from publicsuffixlist import PublicSuffixList

_LONGEST = 253
_NAME = re.compile(r"[^\[\].:\s]++(?>(?:\.[^\[\].:\s]++)+)")
_NUMBERS = re.compile(r"[0-9.]++")


@cache
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList()


@lru_cache(maxsize=8192)
def organisational_domain(domain: str) -> str:
    """The organisational domain of a domain (as :func:`kaifu.policies.facts.domain_key` gives it).

    What has none is its own: a public suffix, a single label, an address literal, what is no domain name at all.
    """
    if len(domain) > _LONGEST or not _NAME.fullmatch(domain) or _NUMBERS.fullmatch(domain):
        return domain
    return _suffixes().privatesuffix(domain) or domain
