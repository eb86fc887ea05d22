"""The index of subjects, filled in the background while somebody looks at receipts, so that words in subjects are found fast among millions.

Has a thread and a desk of its own (:class:`kaifu.tui.asking.Asker`): lists never wait for it. Goes on in short steps with pauses between them, until the index has
caught up, and again when the ledger has changed, after a while; ends with the screen. That it cannot be filled is no trouble: without it, what is looked for
is found all the same, only later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from .asking import Asker, GivenUpError, TroubleError

PAUSE_SECONDS = 0.05
"""At least, between two steps; and never shorter than the step was, so that at most half of a processor is taken from whoever looks."""
AGAIN_SECONDS = 60


class SubjectIndex:
    """``progress``: called in the event loop with the share that is filled, None when there is nothing to tell."""

    def __init__(self, asker: Asker, clock: Callable[[], int], progress: Callable[[float | None], None]) -> None:
        self._asker = asker
        self._clock = clock
        self._progress = progress
        self._last: int | None = None

    @property
    def is_due(self) -> bool:
        """It was not looked after for a while."""
        return self._last is None or self._clock() - self._last >= AGAIN_SECONDS * 1_000_000

    async def fill(self) -> None:
        """Until it has caught up, or cannot."""
        self._last = self._clock()
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            while not (filling := await self._asker.ask(lambda desk: desk.index_subjects(), lane="subjects")).is_done:
                self._progress(filling.filled / filling.of)
                await asyncio.sleep(max(PAUSE_SECONDS, loop.time() - began))
                began = loop.time()
        except (GivenUpError, TroubleError):
            pass
        finally:
            self._last = self._clock()
            self._progress(None)

    def close(self) -> None:
        """Give it up. Does not wait."""
        self._asker.close()
