"""Authenticity: does a receipt or an answer come from where it says?

Called by :mod:`kaifu.proxy.match`, with what the mail server at the border found out (:mod:`kaifu.proxy.authresults`). An answer is
authenticated when, for the domain of the mailbox that answers,

- a DKIM signature is valid (``dkim=pass``) whose ``header.d``, or without one ``header.i``, is aligned with it, or
- SPF passed for an aligned ``smtp.mailfrom``, and the reverse-path is not null (for a null one SPF looks at nothing but
  the name by which the client greeted).

Aligned is relaxed alignment: the same organisational domain (RFC 7489 3.1.1). It has failed when there is no such pass, and one of
both failed for an aligned domain, or DMARC did. Everything else (softfail, neutral, none, temperror, permerror, policy, a
domain of somebody else's, no field of the border) proves nothing in either direction. A pass in spite of ``dmarc=fail`` proves
nothing either: the domain wants more than relaxed alignment.

This is about domains: whoever may send for a domain may send for everybody in it. Pure; never raises.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from kaifu.policies.facts import Mailbox, domain_key

from .authresults import AuthResults, Result
from .trust import NO_TRUST, Trust

_PASS, _FAIL = "pass", "fail"
_LONGEST = 500  # characters of an address that are looked at, from its end


class Finding(Enum):
    """What the border's results prove."""

    AUTHENTICATED = "authenticated"
    FAILED = "failed"
    UNPROVEN = "unproven"


@dataclass(frozen=True, slots=True)
class Authenticity:
    """A finding, with what was checked, in words."""

    finding: Finding
    words: str


@dataclass(frozen=True, slots=True)
class Border:
    """What the border says of one message. ``results``: its newest field, None when there is none.

    ``null_reverse_path``: the message came with one.
    """

    trust: Trust = NO_TRUST
    results: AuthResults | None = None
    null_reverse_path: bool = False

    def vouches_for(self, mailboxes: Iterable[Mailbox]) -> Authenticity:
        """Does a message come from these mailboxes? All of their domains must be proven, and none may have failed."""
        if not self.trust.border:
            return Authenticity(Finding.UNPROVEN, "who wrote it is not proven")
        if self.results is None:
            return _unproven("nobody at our border has checked it")
        name = self.results.authserv_id
        if self.results.odd is not None:
            return _unproven(f"the Authentication-Results of {name} cannot be read: {self.results.odd}")
        domains = list(dict.fromkeys(m.domain_key for m in mailboxes if m.domain))
        if not domains:
            return _unproven("no domain answers for it")
        found = [self._of(domain, self.results.results) for domain in domains]
        words = f"{name} found " + " and ".join(dict.fromkeys(one.words for one in found))
        if any(one.finding is Finding.FAILED for one in found):
            return Authenticity(Finding.FAILED, f"{words}, so it is taken for forged")
        if all(one.finding is Finding.AUTHENTICATED for one in found):
            return Authenticity(Finding.AUTHENTICATED, words)
        return _unproven(words)

    def _of(self, domain: str, results: Sequence[Result]) -> Authenticity:
        """What is found of one domain."""
        about = [(r, self._is_about(domain, r)) for r in results]
        aligned = [(r, told) for r, told in about if told is not None]
        passed = [one for one in aligned if one[0].value == _PASS and one[0].method != "dmarc"]
        failed = [one for one in aligned if one[0].value == _FAIL]
        dmarc = [one for one in failed if one[0].method == "dmarc"]
        if passed and not dmarc:
            return Authenticity(Finding.AUTHENTICATED, _told(passed[:1]))
        if passed:
            return Authenticity(Finding.UNPROVEN, _told([passed[0], dmarc[0]]))
        if failed:
            return Authenticity(Finding.FAILED, _told(failed[:1]))
        rest = [one for one in aligned if one[0].method != "dmarc"]
        return Authenticity(Finding.UNPROVEN, _told(rest[:2]) if rest else f"nothing that speaks for {domain}")

    def _is_about(self, domain: str, result: Result) -> str | None:
        """The aligned domain that a result is about, None when it is about another one, or of another method."""
        told = self._domain(result)
        organisation = self.trust.organisation
        return told if told and (told == domain or organisation(told) == organisation(domain)) else None

    def _domain(self, result: Result) -> str | None:
        """The domain that a result is about; None when it does not say, or says two different ones."""
        values: tuple[str, ...] = ()
        if result.method == "dkim":
            values = result.all("header.d") or result.all("header.i")
        elif result.method == "spf" and not self.null_reverse_path:
            values = result.all("smtp.mailfrom")
        elif result.method == "dmarc":
            values = result.all("header.from")
        domains = {domain_key(value[-_LONGEST:].strip("<> ").rpartition("@")[2]) for value in values}
        return domains.pop() if len(domains) == 1 else None


def _told(results: Iterable[tuple[Result, str]]) -> str:
    return " and ".join(f"{r.method}={r.value} for {domain}" for r, domain in results)


def _unproven(words: str) -> Authenticity:
    return Authenticity(Finding.UNPROVEN, f"who wrote it is not proven ({words})")
