"""Draws the pictures of the screens: SVG that the application itself exports, on a made-up organisation's mail (``make pictures``).

    python -m tests.pictures [DIRECTORY]

The ledger is one of :mod:`tests.bench.ledger_fill`, with a fixed seed and a fixed clock, so what is shown changes only when the screens do; but for digests
and what hangs on them, which are random in every ledger. Fonts are those of whoever looks: nothing is fetched.
"""

from __future__ import annotations

import asyncio
import html
import re
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

from rich.cells import cell_len
from tests.bench.ledger_fill import fill, leave_settings
from tests.tui_pilot import Seen, looks, opened

from kaifu.policies.load import load_file
from kaifu.proxy.access import Role
from kaifu.proxy.health import Health, NextHopHealth, PolicyHealth, write_health
from kaifu.proxy.ledger_entries import microseconds
from kaifu.proxy.settings import Settings, load_settings

NOW = microseconds(datetime(2026, 11, 20, 5, 30, tzinfo=UTC))
SIZE = (100, 30)
MESSAGES, SEED = 20_000, 7
PICTURES: dict[str, tuple[str, Sequence[str]]] = {
    "overview": ("en", ()),
    "receipts": ("en", ("2",)),
    "detail": ("en", ("2", *["down"] * 11, "enter")),
    "policy": ("en", ("3", "down")),
    "integrity": ("en", ("4", "v", "enter")),
    "receipts-ja": ("ja", ("2",)),
}
"""Name of the file to language and keys."""
ANCHORS = """
anchors:
  file: /mnt/audit/kaifu-anchors
  mail: {to: notary@example.co.jp, from: kaifu@example.co.jp, server: "127.0.0.1:25"}
"""
_FONT = '"DejaVu Sans Mono", "Noto Sans Mono CJK JP", "Noto Sans Mono", Menlo, Consolas, monospace'


def main() -> None:
    """Draw all of them."""
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "tui/pictures")
    target.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        settings = _organisation(Path(folder))
        asyncio.run(_draw(settings, target))


def _organisation(folder: Path) -> Settings:
    """A ledger with mail of two years, its settings, and a relay that is well."""
    ledger = folder / "ledger.db"
    leave_settings(ledger, fill(ledger, MESSAGES, NOW, SEED))
    with open(folder / "kaifu.yaml", "a", encoding="utf-8") as stream:
        stream.write(ANCHORS)
    settings = load_settings(folder / "kaifu.yaml")
    policy = load_file(settings.policy)
    since = NOW - 9 * 86_400_000_000
    health = Health(
        "0.1.0",
        4711,
        "relay",
        1,
        str(settings.file),
        since,
        ("127.0.0.1:10025",),
        PolicyHealth(str(settings.policy), policy.digest, str(policy.mode), since),
        NOW,
        next_hop=NextHopHealth("127.0.0.1:10026", True, since, None, NOW),
        counters={},
    )
    write_health(ledger, health)
    return settings


async def _draw(settings: Settings, target: Path) -> None:
    ledger = Path(settings.ledger.removeprefix("sqlite:///"))
    for name, (language, keys) in PICTURES.items():
        async with opened(
            ledger, settings=settings, who=looks(Role.AUDITOR, name="kato"), language=language, size=SIZE,
            zone=settings.zone, clock=lambda: NOW,
        ) as seen:  # fmt: skip
            await seen.pulse()
            await seen.press(*keys)
            await seen.pulse()
            (target / f"{name}.svg").write_text(_picture(seen, str(ledger.parent)), encoding="utf-8")


def _picture(seen: Seen, folder: str) -> str:
    """The screen as SVG without fonts from elsewhere, and without the directory in which it was drawn."""
    svg = seen.app.export_screenshot(title="kaifu tui")
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"\s*<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font-family: [^;]+;", f"font-family: {_FONT};", svg)
    return _TEXT.sub(_in_cells, svg.replace(folder, "/etc/kaifu"))


_CELL = 12.2
"""The width of a cell in the pictures that rich makes."""
_TEXT = re.compile(
    r'<text class="([^"]+)" x="([\d.]+)" y="([\d.]+)" textLength="[\d.]+" clip-path="([^"]+)">(.*?)</text>'
)


def _in_cells(found: re.Match[str]) -> str:
    """One text, in pieces of characters that are equally wide, each at its cell: fonts differ in how wide they are to each other."""
    kind, x, y, clip, escaped = found.groups()
    pieces, at = [], 0
    for width, characters in groupby(html.unescape(escaped), cell_len):
        piece = "".join(characters)
        cells = width * len(piece)
        if piece.strip("\u00a0 "):
            shown = html.escape(piece.replace(" ", "\u00a0"), quote=False)
            place = f'x="{float(x) + at * _CELL:g}" y="{y}" textLength="{cells * _CELL:g}"'
            pieces.append(f'<text class="{kind}" {place} clip-path="{clip}">{shown}</text>')
        at += cells
    return "".join(pieces)


if __name__ == "__main__":
    main()
