"""The JSON Schema of policies, for editors: completion and red lines while writing.

It is made from the vocabulary that the loader uses, and ``python -m kaifu.policies.schema > policies/schema.json``
writes it down. A schema cannot say everything: whether a group exists, a pattern compiles or a name is unique only
``kaifu policy check`` knows.
"""

from __future__ import annotations

import json
from typing import Any

from kaifu.policies.vocabulary import TOP, mapping


def schema() -> dict[str, Any]:
    """The schema (JSON Schema draft 7, which editors know best)."""
    head = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "kaifu policy",
        "description": "Read receipts under an organisation's policy; see policies/README.md",
    }
    return head | mapping(TOP, ("version",))


def text() -> str:
    """The schema as it is committed."""
    return json.dumps(schema(), ensure_ascii=False, indent=2) + "\n"


if __name__ == "__main__":
    print(text(), end="")
