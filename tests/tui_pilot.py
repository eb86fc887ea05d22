"""The terminal screens without a terminal: an application over a real ledger, driven by keys, whose screen is read as text.

    @in_a_loop
    async def test_a_sentence(tmp_path):
        async with opened(some_ledger(tmp_path / "ledger.db"), role=Role.AUDITOR) as seen:
            await seen.press("2")
            assert "yamada@partner.example" in seen.text()

Nothing here waits for time to pass: :meth:`Seen.settle` waits for workers and for what they post. The ledger is asked for
changes only by :meth:`Seen.pulse`, cursors do not blink, nothing is animated.
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from pathlib import Path
from typing import ParamSpec, TypeVar

import pytest
from rich.cells import cell_len
from rich.segment import Segment
from tests.ledger_values import NOON, SUZUKI, YAMADA, journal, receipt, record, store, to
from textual.events import Key, Paste
from textual.message import Message
from textual.pilot import Pilot
from textual.widgets import Input
from textual.worker import WorkerCancelled

from kaifu.proxy.access import Access, Caller, Role
from kaifu.proxy.ledger import Outcome
from kaifu.proxy.ledger_cli import Chosen
from kaifu.proxy.ledger_entries import microseconds
from kaifu.proxy.settings import Settings
from kaifu.tui.app import KaifuApp
from kaifu.tui.look import Look, Marks

SIZE = (80, 24)
NOW = microseconds(NOON) + 3_600_000_000
"""An hour after the messages of :func:`some_ledger`."""

Given = ParamSpec("Given")
Kind = TypeVar("Kind", bound=Message)


def in_a_loop(test: Callable[Given, Awaitable[None]]) -> Callable[Given, None]:
    """A test that is a coroutine, as a plain function."""

    @functools.wraps(test)
    def run(*args: Given.args, **kwargs: Given.kwargs) -> None:
        async def it() -> None:
            await test(*args, **kwargs)

        asyncio.run(it())

    return run


def some_ledger(path: Path, messages: int = 3) -> Path:
    """A ledger with so many messages to two recipients each, a minute apart; the first recipient of the first has displayed it."""
    with store(path) as opened, journal(opened) as adding:
        for number in range(messages):
            asked = record(to(), to(SUZUKI), key=b"%d" % number, message_id=f"{number}@example.co.jp", minutes=number)
            begun = adding.begin(asked)
            taken = [(YAMADA, Outcome.ACCEPTED), (SUZUKI, Outcome.ACCEPTED)]
            adding.finish(begun, taken, "250 ok", microseconds(asked.at))
        adding.begin(record(key=b"receipt", minutes=messages, evidence=(receipt(1),)))
    return path


def looks(role: Role, *, name: str = "sato", unbound: bool = False) -> Access:
    """Somebody with this role. ``unbound``: with rights of his own, as root has."""
    return Access(Caller(os.geteuid() if unbound else 1000, name, unbound=unbound), role)


@dataclass
class Seen:
    """An application that runs, and what is to be seen of it."""

    app: KaifuApp
    pilot: Pilot[None]
    messages: list[Message] = field(default_factory=list)

    async def press(self, *keys: str) -> None:
        """Press keys one after another, and wait for what each brings about."""
        for key in keys:
            await self.pilot.press(key)
            await self.settle()

    async def write(self, text: str) -> None:
        """Write a text into the line that has the focus, at once, as it is pasted."""
        assert self.app.focused is not None
        self.app.focused.post_message(Paste(text))
        await self.settle()

    async def burst(self, *keys: str) -> None:
        """Keys that arrive all at once, as over a slow line; a text is as many keys as it has characters."""
        for key in keys:
            for each in (key,) if key in ("tab", "shift+tab", "enter") else key:
                self.app.post_message(Key(each, each if len(each) == 1 else None))
        await self.settle()

    async def click(self, where: str, column: int = 0, row: int = 0) -> None:
        """Click into a widget."""
        await self.pilot.click(where, offset=(column, row))
        await self.settle()

    async def pulse(self) -> None:
        """Look for changes now, as the application does each second."""
        self.app.pulse()
        await self.settle()

    async def settle(self) -> None:
        """Wait until every worker has ended and all that was posted has been dealt with."""
        while True:
            await self.pilot.pause()
            running = [worker for worker in self.app.workers if not worker.is_finished]
            if not running:
                return
            for worker in running:
                with suppress(WorkerCancelled):
                    await worker.wait()

    def strips(self) -> list[list[Segment]]:
        """The lines of the screen as they are drawn, with their styles."""
        return [list(strip) for strip in self.app.screen._compositor.render_strips()]

    def lines(self) -> list[str]:
        """The lines of the screen."""
        return ["".join(segment.text for segment in strip) for strip in self.strips()]

    def text(self) -> str:
        """The whole screen, lines without the spaces at their ends."""
        return "\n".join(line.rstrip() for line in self.lines())

    def line(self, text: str) -> str:
        """The one line that has this text."""
        (found,) = (line for line in self.lines() if text in line)
        return found

    def reversed(self) -> list[str]:
        """The texts that are drawn reversed, as cursors are."""
        return [part.text for strip in self.strips() for part in strip if part.style is not None and part.style.reverse]

    def posted(self, kind: type[Kind]) -> list[Kind]:
        """The messages of a kind that were posted until now, each once."""
        found: dict[int, Kind] = {id(message): message for message in self.messages if isinstance(message, kind)}
        return list(found.values())


@asynccontextmanager
async def opened(
    ledger: Path,
    *,
    settings: Settings | None = None,
    role: Role = Role.ADMIN,
    who: Access | None = None,
    language: str = "en",
    marks: Marks = "unicode",
    theme: str = "dark",
    colours: bool = True,
    size: tuple[int, int] = SIZE,
    zone: tzinfo = UTC,
    clock: Callable[[], int] = lambda: NOW,
) -> AsyncIterator[Seen]:
    """The application over a ledger, as it is once its first screen is complete."""
    messages: list[Message] = []
    where = Chosen(ledger, zone, who or looks(role))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Input, "cursor_blink", False)
        app = KaifuApp(
            where,
            settings,
            Look(language, marks, theme, colours),
            clock=clock,
            pulse_seconds=None,
        )
        app.animation_level = "none"
        async with app.run_test(size=size, notifications=True, message_hook=messages.append) as pilot:
            seen = Seen(app, pilot, messages)
            await seen.settle()
            yield seen


def cut(line: str, start: int, end: int) -> str:
    """The columns from ``start`` to before ``end`` of a line, by cells."""
    at, found = 0, ""
    for character in line:
        if start <= at < end:
            found += character
        at += cell_len(character)
    return found


def column(line: str, text: str) -> int:
    """The column in which a text begins, by cells."""
    return cell_len(line[: line.index(text)])


def too_wide(lines: Iterable[str], width: int) -> list[str]:
    """The lines that do not have exactly this many cells."""
    return [line for line in lines if cell_len(line) != width]
