"""The line in which a filter is typed, with what is wrong in it marked, and what could stand at the cursor below it.

Nothing is asked of the ledger while somebody types: only enter asks. Each filter that is asked for is an entry of the audit trail, and an entry for every
half-typed address would put people on record that nobody meant to look for. What is offered comes from names of rules and from addresses that
were on the screen already, so completing tells nothing new.

Tab puts in what is offered first, and again the next; up and down bring back what was asked before, which is kept while the program runs and
nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from rich.highlighter import Highlighter
from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Input, Static

from .dialogs import SafeInput
from .filterline import Completion, Known, Line, Problem, complete
from .look import fitted, plain
from .screens import Plain, translated
from .words import later

_MOST_OFFERED = 8
_MOST_RECENT = 50
_TEXT_WIDTH = 34


class _Marking(Highlighter):
    """Underlines where problems are, and gives them the colour of errors."""

    problems: Sequence[Problem] = ()
    style = "underline"

    def highlight(self, text: Text) -> None:
        for problem in self.problems:
            text.stylize(self.style, problem.start, max(problem.end, problem.start + 1))


class TypedLine(SafeInput):
    """The line itself. Keys that mean something else in a list of receipts mean here what they mean in a line."""

    BINDINGS: ClassVar[list[Any]] = [
        Binding("tab", "offer(1)", later("Complete")),
        Binding("shift+tab", "offer(-1)", later("Complete with the one before"), show=False),
        Binding("up", "recall(-1)", later("Asked before"), key_display="up"),
        Binding("down", "recall(1)", later("Asked after"), show=False),
    ]

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self._bindings = translated(self._bindings)

    def action_offer(self, step: int) -> None:
        """Handled by the bar."""
        self.post_message(FilterBar.Offered(step))

    def action_recall(self, step: int) -> None:
        """Likewise."""
        self.post_message(FilterBar.Recalled(step))


class Offers(Static):
    """What could stand at the cursor, one a line."""

    class Picked(Message):
        """A click on one."""

        def __init__(self, number: int) -> None:
            super().__init__()
            self.number = number

    def on_click(self, event: events.Click) -> None:
        """Take it."""
        self.post_message(self.Picked(event.y))


class FilterBar(Vertical):
    """Hidden until it is opened. ``parse``: what a text means now; ``known``: what there is to offer."""

    DEFAULT_CSS = """
    FilterBar { height: auto; display: none; background: $surface; }
    FilterBar.-open { display: block; }
    FilterBar SafeInput { padding: 0 1; background: $panel; }
    FilterBar #problem { padding: 0 1; color: $error; height: auto; max-height: 3; display: none; }
    FilterBar #problem.-shown { display: block; }
    FilterBar #offers { height: auto; padding: 0 1; display: none; }
    FilterBar #offers.-shown { display: block; }
    """
    BINDINGS: ClassVar[list[Any]] = [Binding("escape", "leave", later("Leave the line"))]

    class Asked(Message):
        """Enter, on a line without problems."""

        def __init__(self, text: str, line: Line) -> None:
            super().__init__()
            self.text = text
            self.line = line

    class Left(Message):
        """Escape."""

    class Offered(Message):
        """Tab."""

        def __init__(self, step: int) -> None:
            super().__init__()
            self.step = step

    class Recalled(Message):
        """Up or down."""

        def __init__(self, step: int) -> None:
            super().__init__()
            self.step = step

    def __init__(self, parse: Callable[[str], Line], known: Callable[[], Known]) -> None:
        super().__init__()
        self._bindings = translated(self._bindings)
        self._parse = parse
        self._known = known
        self._marking = _Marking()
        self._offers: list[Completion] = []
        self._chosen = -1
        self._before = ("", 0)
        self._putting = False
        self._recent: list[str] = []
        self._recalled = 0

    def compose(self) -> ComposeResult:
        yield TypedLine(
            highlighter=self._marking, id="filter", placeholder="state:waiting to:@partner.example since:7d"
        )
        yield Plain("", id="problem")
        yield Offers("", markup=False, id="offers")

    @property
    def line(self) -> SafeInput:
        """Where it is typed."""
        return self.query_one("#filter", SafeInput)

    @property
    def problems(self) -> Sequence[Problem]:
        """What is marked as wrong."""
        return self._marking.problems

    @property
    def offered(self) -> list[Completion]:
        """What could stand at the cursor."""
        return self._offers

    def open(self, text: str) -> None:
        """Show the line with a text in it."""
        self.add_class("-open")
        self._recalled = len(self._recent) - (self._recent[-1:] == [text])
        self._put(f"{text} " if text else "")
        self.screen.set_focus(self.line)  # At once: keys that come in one burst are for the line already.

    def close(self) -> None:
        """Hide it."""
        self.remove_class("-open")

    def remember(self, text: str) -> None:
        """It was asked for."""
        self._recent = [*(old for old in self._recent if old != text), text][-_MOST_RECENT:] if text else self._recent

    def _put(self, text: str, cursor: int | None = None) -> None:
        """Another text, as if it was typed, but what is offered is not chosen anew by it."""
        self.line.value = text
        self.line.cursor_position = len(self.line.value) if cursor is None else cursor
        self._refresh()

    # What is typed.

    def on_input_changed(self, event: Input.Changed) -> None:
        """Problems that are not just being typed are marked; nothing is asked."""
        event.stop()
        if self._putting:
            self._putting = False
            return
        self._chosen = -1
        self._refresh()

    def _refresh(self) -> None:
        text, cursor = self.line.value, self.line.cursor_position
        problems = self._parse(text).problems
        self._mark([problem for problem in problems if not problem.start <= cursor <= problem.end])
        self._offers = complete(text, cursor, self._known())[:_MOST_OFFERED]
        self._draw_offers()

    def _mark(self, problems: Sequence[Problem]) -> None:
        self._marking.problems = tuple(problems)
        line = self.query_one("#problem", Plain)
        text = plain(str(problems[0]) if problems else "")
        text.no_wrap = False
        line.update(text)
        line.set_class(bool(problems), "-shown")
        self.line.refresh()

    def _draw_offers(self) -> None:
        view, marks = self.query_one("#offers", Offers), self.app.look.marks  # type: ignore[attr-defined]
        room = max(20, self.app.size.width - 2)
        shown = Text(no_wrap=True, end="")
        for number, one in enumerate(self._offers):
            words = (
                fitted(one.text, min(_TEXT_WIDTH, room), marks) + " " + fitted(one.hint, room - _TEXT_WIDTH - 1, marks)
            )
            shown.append(words if number == 0 else f"\n{words}", "reverse" if number == self._chosen else "")
        view.update(shown)
        view.set_class(bool(self._offers), "-shown")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Ask, if it can be understood."""
        event.stop()
        text = event.value.strip()
        line = self._parse(text)
        if line.problems:
            self._mark(self._parse(event.value).problems)
        else:
            self.remember(text)
            self.post_message(self.Asked(text, line))

    def action_leave(self) -> None:
        """Leave it as it was."""
        self.post_message(self.Left())

    # Completion and what was asked before.

    def on_filter_bar_offered(self, event: Offered) -> None:
        """Put in what is offered, the next each time."""
        event.stop()
        if self._offers:
            if self._chosen < 0:
                self._before = (self.line.value, self.line.cursor_position)
                chosen = 0 if event.step > 0 else len(self._offers) - 1
            else:
                chosen = (self._chosen + event.step) % len(self._offers)
            self._take(chosen)

    def on_offers_picked(self, event: Offers.Picked) -> None:
        """The same by a click."""
        event.stop()
        if self._chosen < 0:
            self._before = (self.line.value, self.line.cursor_position)
        if event.number < len(self._offers):
            self._take(event.number)
            self.line.focus()

    def _take(self, number: int) -> None:
        text, _ = self._before
        one = self._offers[number]
        value = text[: one.start] + one.text + text[one.end :]
        if len(self._offers) == 1:
            self._chosen = -1
            self._put(value, one.start + len(one.text))
            return
        self._chosen = number
        self._putting = self.line.value != value
        self.line.value = value
        self.line.cursor_position = one.start + len(one.text)
        self._mark([])
        self._draw_offers()

    def on_filter_bar_recalled(self, event: Recalled) -> None:
        """What was asked before."""
        event.stop()
        if self._recent:
            self._recalled = min(max(self._recalled + event.step, 0), len(self._recent))
            self._chosen = -1
            self._put(self._recent[self._recalled] if self._recalled < len(self._recent) else "")
