"""The screen Policy."""

from __future__ import annotations

from textual.app import ComposeResult

from kaifu.proxy.access import Role

from .screens import KaifuScreen, Plain
from .words import later


class PolicyScreen(KaifuScreen):
    """Policy."""

    NAME = "policy"
    TITLE = later("Policy")
    NEEDS = Role.VIEWER

    def body(self) -> ComposeResult:
        yield Plain()
