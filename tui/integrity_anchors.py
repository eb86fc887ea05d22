"""Anchors at hand: those in the file that the settings name, and those that somebody pastes.

Called by the dialogs that hand out bundles and verify. The file is one that root chose, so it is read whoever looks; what an anchor says is no secret. Of a
file the last :data:`MOST_OCTETS` are read. One that cannot be read has no anchors, and lines in it that are none are passed over.
"""

from __future__ import annotations

import os
from pathlib import Path

from kaifu.proxy.ledger_anchor import Anchor, anchor_of, anchors_in
from kaifu.proxy.settings import Settings

from .attempts import NotDoneError

MOST_OCTETS = 64 * 1024


def anchors_file(settings: Settings | None) -> Path | None:
    """The file that the settings send anchors to."""
    return None if settings is None else settings.anchors.file


def kept_anchors(path: Path | None) -> list[Anchor]:
    """The anchors of a file, oldest first."""
    if path is None:
        return []
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - MOST_OCTETS))
            lines = stream.read(MOST_OCTETS).decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            found.append(anchor_of(line.strip()))
        except ValueError:
            continue
    return found


def pasted_anchors(text: str) -> list[Anchor]:
    """What somebody pasted: anchors, or nothing. NotDoneError for anything else."""
    try:
        return anchors_in(text) if text.strip() else []
    except ValueError as error:
        raise NotDoneError(str(error)) from None
