"""Dialogs that ask for a few words and then do something, or leave one to choose among a few lines.

A :class:`Form` stays open until what it is for was done: a refusal or a failure is a sentence in it, and what was typed stays. What is pasted
into a field is made visible there, so nothing that steers a terminal is ever drawn or passed on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Input

from kaifu.proxy.display import visible

from .asking import GivenUpError, TroubleError
from .attempts import NotDoneError
from .line_view import Layout, LineView
from .lines import Told, laid_out
from .screens import Plain, translated
from .words import later, say

Given = Mapping[str, str]
"""What was typed or chosen, by the name of its field."""


class Field(NamedTuple):
    """A line to type into; with ``choices`` (value, words), one of them to choose."""

    name: str
    label: str
    value: str = ""
    choices: tuple[tuple[str, str], ...] = ()


class SafeInput(Input):
    """A line to type into that makes visible what is pasted, one line high."""

    def __init__(self, value: str = "", **more: Any) -> None:
        super().__init__(value, compact=True, select_on_focus=False, **more)

    def validate_value(self, value: str) -> str:
        """What cannot be seen, or steers a terminal, as it is shown."""
        return visible(value)


class Dialog(ModalScreen[Any]):
    """What all dialogs share: where they lie, what they tell, escape."""

    DEFAULT_CSS = """
    Dialog { align: center middle; }
    Dialog > Vertical { width: 76; max-width: 100%; height: auto; max-height: 100%; overflow-y: auto; background: $panel; }
    Dialog LineView { height: auto; background: $panel; }
    Dialog #told { max-height: 12; margin-bottom: 1; }
    Dialog #title { text-style: bold; }
    Dialog Horizontal { height: auto; }
    Dialog .label { width: 18; padding-right: 1; color: $text-muted; }
    Dialog SafeInput { width: 1fr; background: $surface; }
    Dialog .choices { width: 1fr; max-height: 8; }
    Dialog #sentence { height: auto; text-style: bold; }
    Dialog #keys { margin-top: 1; color: $text-muted; }
    """
    BINDINGS: ClassVar[list[Any]] = [Binding("escape", "leave", later("Leave"), show=False)]

    def __init__(self, title: str, told: Sequence[Told] = ()) -> None:
        super().__init__()
        self._bindings = translated(self._bindings)
        self._title = title
        self._told = tuple(told)

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Plain(self._title, id="title")
            if self._told:
                yield LineView(id="told")
            yield from self.fields()
            yield Plain("", id="sentence")
            yield Plain(self.keys(), id="keys")

    def fields(self) -> ComposeResult:
        """What stands between what is told and the sentence of what went wrong."""
        yield from ()

    def keys(self) -> str:
        """What the keys do, in a line."""
        return say("esc: leave")

    def on_mount(self) -> None:
        for view in self.query("#told").results(LineView):
            view.can_focus = False
            view.show(lambda width: laid_out(self._told, width))
        self.opened()

    def opened(self) -> None:
        """Fill what :meth:`fields` gave."""

    def action_leave(self) -> None:
        """Close without doing anything."""
        self.dismiss(None)


def _one_line_each(told: Sequence[Told]) -> Layout:
    return lambda width: [laid_out([each], width)[0] for each in told]


class Form(Dialog):
    """``act``: does it, and returns a sentence to tell (the form is dismissed with it) or raises :class:`~kaifu.tui.attempts.NotDoneError`.

    ``at_once``: enter does it from any field, as each may be empty.
    """

    BINDINGS: ClassVar[list[Any]] = [
        # Before a field has dealt with what was typed into it, so that what is typed next goes to the next one.
        Binding("enter", "next", show=False, priority=True),
        Binding("ctrl+s", "do", show=False),
        Binding("tab", "app.focus_next", show=False, priority=True),
        Binding("shift+tab", "app.focus_previous", show=False, priority=True),
        Binding("down", "app.focus_next", show=False),
        Binding("up", "app.focus_previous", show=False),
    ]

    def __init__(
        self,
        title: str,
        told: Sequence[Told],
        fields: Sequence[Field],
        act: Callable[[Given], Awaitable[str]],
        *,
        at_once: bool = False,
    ) -> None:
        super().__init__(title, told)
        self._fields = tuple(fields)
        self._act = act
        self._at_once = at_once
        self._doing = False

    def fields(self) -> ComposeResult:
        for field in self._fields:
            with Horizontal():
                yield Plain(f"{field.label}:", classes="label")
                if field.choices:
                    yield LineView(chooses=True, id=f"field-{field.name}").add_class("choices")
                else:
                    yield SafeInput(field.value, id=f"field-{field.name}")

    def keys(self) -> str:
        if self._at_once:
            return say("tab: next field   enter: do it   esc: leave")
        return say("tab: next field   enter in the last one: do it   esc: leave")

    def opened(self) -> None:
        for field in self._fields:
            if field.choices:
                words = [Told(words) for _, words in field.choices]
                view = self.query_one(f"#field-{field.name}", LineView)
                values = [value for value, _ in field.choices]
                view.show(_one_line_each(words), values.index(field.value) if field.value in values else 0)
        self.set_focus(self.query(".choices, SafeInput").first())

    def given(self) -> dict[str, str]:
        """What stands in the fields."""
        found = {}
        for field in self._fields:
            if field.choices:
                place = self.query_one(f"#field-{field.name}", LineView).cursor
                found[field.name] = field.choices[place][0]
            else:
                found[field.name] = self.query_one(f"#field-{field.name}", SafeInput).value.strip()
        return found

    def on_input_submitted(self, _: Input.Submitted) -> None:
        """Enter goes on to the next field, and from the last one does it."""
        self.action_next()

    def on_line_view_chosen(self, _: LineView.Chosen) -> None:
        """The same from a choice."""
        self.action_next()

    def action_next(self) -> None:
        """To the next field, or do it."""
        if self._at_once or self.focused is None or self.focused.id == f"field-{self._fields[-1].name}":
            self.action_do()
        else:
            self.focus_next()

    def action_do(self) -> None:
        """Do it, unless that is under way: nothing is noted or handed out twice."""
        if not self._doing:
            self._doing = True
            self.query_one("#sentence", Plain).show(say("One moment..."))
            self.run_worker(self._do())

    async def _do(self) -> None:
        sentence = ""
        try:
            done = await self._act(self.given())
        except (NotDoneError, TroubleError) as error:
            sentence = f"! {error}"
        except GivenUpError:
            pass
        else:
            self.dismiss(done)
            return
        finally:
            self._doing = False
        self.query_one("#sentence", Plain).show(sentence)


class Choice(Dialog):
    """A few lines, of which one is chosen: dismissed with its value."""

    def __init__(self, title: str, told: Sequence[Told], choices: Sequence[tuple[str, str]]) -> None:
        super().__init__(title, told)
        self._choices = tuple(choices)

    def fields(self) -> ComposeResult:
        yield LineView(chooses=True, id="choices").add_class("choices")

    def keys(self) -> str:
        return say("enter: choose   esc: leave")

    def opened(self) -> None:
        view = self.query_one("#choices", LineView)
        view.show(_one_line_each([Told(words) for _, words in self._choices]), 0)
        self.set_focus(view)

    def on_line_view_chosen(self, event: LineView.Chosen) -> None:
        """Take it."""
        self.dismiss(self._choices[event.line][0])
