"""The screen Receipts."""

from __future__ import annotations

from textual.app import ComposeResult

from kaifu.proxy.access import Role

from .screens import KaifuScreen, Plain
from .words import later


class ReceiptsScreen(KaifuScreen):
    """Receipts."""

    NAME = "receipts"
    TITLE = later("Receipts")
    NEEDS = Role.AUDITOR

    def body(self) -> ComposeResult:
        yield Plain()
