"""The stretch of a long list that a screen holds: rows that follow upon one another, which of them are seen, and where the cursor is.

Used by :mod:`kaifu.tui.receipts_feed`, which asks for what is missing, and drawn by :mod:`kaifu.tui.receipts_list`. Pure; a list may have millions of
rows, a window has at most :data:`MOST` of them. Rows come in at either end (:meth:`Window.extend`), and what is furthest from what is seen
is let go of; rows that changed are put in place of what they were (:meth:`Window.renew`). None of that moves what is seen, except that new
rows appear above while the first row of the list is the first that is seen. The cursor stays on its row, whatever comes and goes, and is always seen.

``Where`` is a place in the list, as whoever asks understands it: nothing here compares two of them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

MOST = 2_000
"""Rows that are kept at once."""

Listed = TypeVar("Listed")
Where = TypeVar("Where")


@dataclass(frozen=True, slots=True)
class Edge(Generic[Where]):
    """An end of the stretch. ``closed``: the list ends here; else it goes on after ``place`` (None: where the list begins)."""

    place: Where | None = None
    closed: bool = False


class Window(Generic[Listed, Where]):
    """``place_of``: where a row stands; ``key_of``: what makes it the same row when it is read again. ``top``: the first row that is seen."""

    def __init__(
        self, place_of: Callable[[Listed], Where], key_of: Callable[[Listed], Hashable], *, most: int = MOST
    ) -> None:
        self._place_of = place_of
        self._key_of = key_of
        self._most = most
        self.rows: list[Listed] = []
        self.above: Edge[Where] = Edge()
        self.below: Edge[Where] = Edge()
        self.top = 0
        self.cursor = 0
        self.height = 1

    # What is seen.

    @property
    def current(self) -> Listed | None:
        """The row under the cursor."""
        return self.rows[self.cursor] if self.rows else None

    @property
    def seen(self) -> Sequence[Listed]:
        """The rows on the screen."""
        return self.rows[self.top : self.top + self.height]

    @property
    def rows_above(self) -> int:
        """How many rows stand ready above what is seen."""
        return self.top

    @property
    def rows_below(self) -> int:
        """How many rows stand ready below what is seen; negative when not even the screen is full."""
        return len(self.rows) - self.top - self.height

    @property
    def at_first(self) -> bool:
        """The first row of the list is the first that is seen."""
        return self.above.closed and not self.top

    @property
    def at_last(self) -> bool:
        """The last row of the list is seen."""
        return self.below.closed and self.rows_below <= 0

    # What people do.

    def resize(self, height: int) -> None:
        """The screen has room for so many rows."""
        self.height = max(1, height)
        self._settle()

    def move(self, step: int) -> bool:
        """The cursor by so many rows; what is seen follows. False when the rows that are here end before that."""
        wanted = self.cursor + step
        self.cursor = min(max(wanted, 0), max(0, len(self.rows) - 1))
        self._settle()
        return wanted == self.cursor

    def turn(self, pages: int) -> bool:
        """What is seen by whole pages, the cursor with it. False when the rows that are here end before that."""
        step = pages * self.height
        wanted = self.cursor + step
        self.top = max(0, min(self.top + step, len(self.rows) - self.height))
        self.cursor = min(max(wanted, 0), max(0, len(self.rows) - 1))
        self._settle()
        return wanted == self.cursor

    def scroll(self, step: int) -> bool:
        """What is seen by so many rows; the cursor is taken along only where it would no longer be seen."""
        wanted = self.top + step
        self.top = min(max(wanted, 0), max(0, len(self.rows) - self.height))
        self.cursor = min(max(self.cursor, self.top), self.top + self.height - 1)
        self._settle()
        return wanted == self.top

    def point(self, line: int) -> bool:
        """The cursor to a line of the screen. False when there is no row."""
        if not 0 <= line < self.height or self.top + line >= len(self.rows):
            return False
        self.cursor = self.top + line
        return True

    def _settle(self) -> None:
        """The cursor on a row, and seen; the screen full as far as there are rows."""
        self.cursor = min(max(self.cursor, 0), max(0, len(self.rows) - 1))
        self.top = min(max(self.top, self.cursor - self.height + 1), self.cursor)
        self.top = max(0, min(self.top, len(self.rows) - self.height))

    # What comes in.

    def begin(self, rows: Sequence[Listed], above: Edge[Where], below: Edge[Where], cursor: int = 0) -> None:
        """Another stretch of the list. ``cursor``: on which of its rows, from its end when negative."""
        self.rows, self.above, self.below = list(rows), above, below
        self.cursor = cursor if cursor >= 0 else len(self.rows) + cursor
        self.top = max(0, self.cursor)
        self._settle()

    def extend(self, rows: Sequence[Listed], edge: Edge[Where], *, below: bool) -> None:
        """Rows that follow upon the last (``below``) or go before the first, in the order of the list. ``edge``: how it goes on after them.

        A row that is here already, as it changed its place meanwhile, is left where it is: the next :meth:`renew` puts it right.
        """
        here = set(map(self._key_of, self.rows))
        new = [row for row in rows if self._key_of(row) not in here]
        if below:
            self.rows += new
            self.below = edge
        else:
            first = not self.rows
            self.rows[:0] = new
            self.above = edge
            self.top += len(new)
            self.cursor += len(new) - (1 if first else 0)
        self._settle()
        self._let_go(from_top=below)

    def _let_go(self, *, from_top: bool) -> None:
        """No more than so many rows, and never one that is seen or near."""
        spare = len(self.rows) - self._most
        if from_top and (cut := min(spare, self.top - self.height)) > 0:
            del self.rows[:cut]
            self.top -= cut
            self.cursor -= cut
            self.above = Edge(self._place_of(self.rows[0]))
        elif not from_top and (cut := min(spare, self.rows_below - self.height)) > 0:
            del self.rows[-cut:]
            self.below = Edge(self._place_of(self.rows[-1]))

    def renew(self, rows: Sequence[Listed], above: Edge[Where], below: Edge[Where]) -> None:
        """The same stretch read anew. The cursor stays on its row and line; where that row is gone, on the next that is still there."""
        before, cursor, line, at_first = self.rows, self.cursor, self.cursor - self.top, self.at_first
        self.rows, self.above, self.below = list(rows), above, below
        number = {self._key_of(row): place for place, row in enumerate(self.rows)}
        candidates = (*before[cursor:], *reversed(before[:cursor]))
        kept = (number[key] for row in candidates if (key := self._key_of(row)) in number)
        self.cursor = next(kept, min(cursor, max(0, len(self.rows) - 1)))
        stays = at_first and self.above.closed and self.cursor < self.height
        self.top = 0 if stays else self.cursor - line
        self.top = max(0, self.top)
        self._settle()
        self._let_go(from_top=True)
        self._let_go(from_top=False)
