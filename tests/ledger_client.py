"""A process that writes to a ledger until it is killed or done, and says on standard output what was acknowledged.

    python -m tests.ledger_client LEDGER NAME COUNT

Twenty tasks begin and finish messages. Each line: ``begun ID NUMBER`` or ``finished ID NUMBER``.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.ledger_values import YAMADA, record, to

from kaifu.proxy.ledger import Ledger, Outcome
from kaifu.proxy.ledger_open import open_ledger


async def _task(ledger: Ledger, name: str, numbers: range) -> None:
    for number in numbers:
        id_ = f"{number}@{name}"
        begun = await ledger.begin(record(to(), key=id_.encode(), message_id=id_))
        print("begun", id_, begun.message, flush=True)
        await ledger.finish(begun, [(YAMADA, Outcome.ACCEPTED)], "250 ok")
        print("finished", id_, begun.message, flush=True)


async def _all(path: Path, name: str, count: int) -> None:
    ledger = open_ledger(f"sqlite:///{path}")
    await asyncio.gather(*(_task(ledger, name, range(part, count, 20)) for part in range(20)))
    await ledger.close()


if __name__ == "__main__":
    asyncio.run(_all(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
