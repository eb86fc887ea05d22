"""Values: compared by what they hold, and not to be changed."""

from __future__ import annotations

from dataclasses import field, replace

import pytest

from kaifu.policies.values import unchanging


@unchanging
class Pair:
    left: str
    right: tuple[str, ...] = field(default=())

    @property
    def both(self) -> str:
        return self.left + "".join(self.right)


def test_values_that_hold_the_same_are_the_same() -> None:
    one, same, other = Pair("a", ("b",)), Pair("a", ("b",)), Pair("a")
    assert one == same != other
    assert {one: 1}[same] == 1
    assert other not in {one}


def test_a_copy_with_something_else_leaves_the_value_as_it_was() -> None:
    one = Pair("a")
    assert replace(one, right=("c",)) == Pair("a", ("c",))
    assert (one, one.both) == (Pair("a"), "a")


def test_who_changes_one_is_told_by_the_type_checker_and_who_invents_a_field_by_python() -> None:
    one = Pair("a")
    one.left = "b"  # type: ignore[misc] # were this no error, mypy would call the comment unused
    with pytest.raises(AttributeError):
        one.middle = "c"  # type: ignore[attr-defined]
