"""Values: dataclasses that are made once and not changed. That nobody changes them the type checker sees to.

For what is made anew for every message. A frozen dataclass guards itself while it is being made too, with a call for each field:
with the twenty that a message takes that was a fifth of what judging costs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

_T = TypeVar("_T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def unchanging(cls: type[_T]) -> type[_T]:
    """A dataclass with slots, compared and hashed by its fields. For type checkers it is frozen."""
    return dataclass(slots=True, unsafe_hash=True)(cls)
