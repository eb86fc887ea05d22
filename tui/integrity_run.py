"""A verification in a thread and with a desk of its own, so that nothing else waits for it; it can be given up at any time.

Run by the screen Integrity in a worker. What it found is left beside the ledger for whoever looks next, if it is the ledger of the settings.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from kaifu.proxy.health import write_verified
from kaifu.proxy.ledger import LedgerError
from kaifu.proxy.ledger_anchor import Anchor
from kaifu.proxy.ledger_cli import Chosen
from kaifu.proxy.ledger_desk import Desk
from kaifu.proxy.ledger_desk import GivenUpError as InterruptedAtDeskError
from kaifu.proxy.ledger_open import ledger_path
from kaifu.proxy.ledger_verify import Report
from kaifu.proxy.settings import Settings

from .asking import Asker, GivenUpError, TroubleError

_STEPS = 200
"""Progress is told at most so often."""


class Verification:
    """``progress``: called in the event loop with the entries done, and of how many. ``keep``: leave the result beside the ledger."""

    def __init__(
        self,
        where: Chosen,
        anchors: Sequence[Anchor],
        clock: Callable[[], int],
        progress: Callable[[int, int], None],
        *,
        keep: bool,
    ) -> None:
        self._where = where
        self.anchors = tuple(anchors)
        self._clock = clock
        self._progress = progress
        self._keep = keep
        self._given_up = False
        self._desk: Desk | None = None
        self._step = -1

    async def run(self) -> Report | None:
        """What was found; None when it was given up. Raises :class:`~kaifu.tui.asking.TroubleError`."""
        loop, asker = asyncio.get_running_loop(), Asker(self._where)

        def progress(done: int, of: int) -> None:
            if self._given_up:
                raise InterruptedAtDeskError("the verification was given up")
            step = done * _STEPS // max(of, 1)
            if step != self._step:
                self._step = step
                loop.call_soon_threadsafe(self._progress, done, of)

        def question(desk: Desk) -> Report:
            self._desk = desk
            report = desk.verify(self.anchors, self._clock(), progress)
            if self._keep:
                write_verified(self._where.path, report, self.anchors, desk.actor, self._clock())
            return report

        try:
            return await asker.ask(question)
        except (GivenUpError, TroubleError):
            if self._given_up:
                return None
            raise
        except asyncio.CancelledError:
            self.give_up()
            raise
        finally:
            asker.close()

    def give_up(self) -> None:
        """End it soon, wherever it is."""
        self._given_up = True
        if self._desk is not None:
            self._desk.interrupt()


def is_of_settings(where: Chosen, settings: Settings | None) -> bool:
    """Is the ledger that is looked at the one that the settings name?"""
    if settings is None:
        return False
    try:
        return ledger_path(settings.ledger) == where.path
    except LedgerError:
        return False
