"""What a host notices of its own health while mail passes: plain attributes, as cheap as a note to oneself.

Set by relay and milter on the mail path, read now and then by the thread that leaves it for screens (:mod:`kaifu.proxy.healthkeeper`);
a reader may see one attribute before and one after a change, which the next look puts right. Nothing here fails.
"""

from __future__ import annotations

import time

from .health import MOST_TEXT, Failing, NextHopHealth


def now() -> int:
    """UTC microseconds since 1970."""
    return time.time_ns() // 1000


class NextHopVitals:
    """Whether the next hop could be reached when it was last needed."""

    __slots__ = ("error", "reachable", "since", "success")

    def __init__(self) -> None:
        self.reachable: bool | None = None
        self.since: int | None = None
        self.error: str | None = None
        self.success: int | None = None

    def works(self) -> None:
        """It took a connection, or a transaction to its end."""
        self.success = now()
        if self.reachable is not True:
            self.reachable, self.since = True, self.success

    def fails(self, cause: str) -> None:
        """There is no connection to be had."""
        self.error = cause[:MOST_TEXT]
        if self.reachable is not False:
            self.reachable, self.since = False, now()

    def health(self, address: str) -> NextHopHealth:
        """As it is now."""
        return NextHopHealth(address, self.reachable, self.since, self.error, self.success)


class LedgerVitals:
    """Whether the ledger could be used when it was last needed. ``problem``: why not, None when it could."""

    __slots__ = ("last", "problem", "since")

    def __init__(self) -> None:
        self.problem: str | None = None
        self.since = self.last = 0

    def fails(self, problem: str) -> bool:
        """It cannot be used. True when that, or the reason, is new."""
        self.last = now()
        if self.problem is None:
            self.since = self.last
        new = problem != self.problem
        self.problem = problem
        return new

    def works(self) -> str:
        """It can be used again. Gives back what the problem was."""
        was, self.problem = self.problem, None
        return was or ""

    def health(self) -> Failing | None:
        """As it is now."""
        problem = self.problem
        return None if problem is None else Failing(self.since, self.last, problem[:MOST_TEXT])
