"""The screen Integrity."""

from __future__ import annotations

from textual.app import ComposeResult

from kaifu.proxy.access import Role

from .screens import KaifuScreen, Plain
from .words import later


class IntegrityScreen(KaifuScreen):
    """Integrity."""

    NAME = "integrity"
    TITLE = later("Integrity")
    NEEDS = Role.VIEWER

    def body(self) -> ComposeResult:
        yield Plain()
