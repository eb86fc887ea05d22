"""The screen Overview."""

from __future__ import annotations

from textual.app import ComposeResult

from kaifu.proxy.access import Role

from .screens import KaifuScreen, Plain
from .words import later


class OverviewScreen(KaifuScreen):
    """Overview."""

    NAME = "overview"
    TITLE = later("Overview")
    NEEDS = Role.VIEWER

    def body(self) -> ComposeResult:
        yield Plain()
