"""The filters that somebody saved under a name: one small file per person beside the ledger, ``LEDGER-filters/UID.json``.

Beside the ledger, because who looks through sudo has the service user's rights and no home there, and because addresses in a filter are as
confidential as the ledger: the directory is 0700 and the files 0600, and both belong to the ledger's owner, whoever makes them. One person's filters are
shown to him alone. Nothing is written before somebody saves a filter; what was typed and not saved is kept nowhere.

A file is written whole or not at all. One that is damaged is set aside when the next filter is saved (``UID.json.damaged``). Symbolic links are
not followed, so nobody who can write there makes root write elsewhere. Fails with :class:`SavedError`, whose text is a sentence.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from .words import say

MOST = 100
"""Filters of one person."""
MOST_NAME, MOST_TEXT = 60, 1_000
"""Characters."""
_MOST_OCTETS = 1 << 20
_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC


class SavedError(Exception):
    """Filters cannot be read or saved; the text says why."""


def folder_of(ledger: Path) -> Path:
    """The directory of saved filters."""
    return ledger.with_name(f"{ledger.name}-filters")


class SavedFilters:
    """Those of one person (``uid``) at one ledger."""

    def __init__(self, ledger: Path, uid: int) -> None:
        self._ledger = ledger
        self._folder = folder_of(ledger)
        self._name = f"{uid}.json"

    def read(self) -> dict[str, str]:
        """Name to text, in order of names; empty when there are none, or none that can be understood."""
        try:
            with self._directory() as directory:
                found = _understood(self._octets(directory))
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise self._error(error) from None
        return dict(sorted((found or {}).items()))

    def save(self, name: str, text: str) -> None:
        """Keep a filter under a name, in place of one that had it."""
        name = name.strip()
        if not name or len(name) > MOST_NAME or len(text) > MOST_TEXT:
            raise SavedError(say("A name has 1 to {most} characters.", most=MOST_NAME))
        found = self.read()
        if name not in found and len(found) >= MOST:
            raise SavedError(say("There are {most} saved filters already; remove one first.", most=MOST))
        self._write(found | {name: text})

    def remove(self, name: str) -> None:
        """Keep it no longer."""
        self._write({other: text for other, text in self.read().items() if other != name})

    def _write(self, filters: Mapping[str, str]) -> None:
        part = f".{self._name}.{os.getpid()}.part"
        try:
            with self._directory(make=True) as directory:
                self._set_aside_damaged(directory)
                with suppress(FileNotFoundError):
                    os.unlink(part, dir_fd=directory)
                handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600, dir_fd=directory)
                try:
                    with open(handle, "w", encoding="utf-8") as stream:
                        self._give(stream.fileno())
                        json.dump(filters, stream, ensure_ascii=False, indent=1)
                        stream.flush()
                        os.fsync(stream.fileno())
                    os.rename(part, self._name, src_dir_fd=directory, dst_dir_fd=directory)
                    os.fsync(directory)
                finally:
                    with suppress(FileNotFoundError):
                        os.unlink(part, dir_fd=directory)
        except OSError as error:
            raise self._error(error) from None

    def _set_aside_damaged(self, directory: int) -> None:
        with suppress(FileNotFoundError):
            if _understood(self._octets(directory)) is None:
                os.rename(self._name, f"{self._name}.damaged", src_dir_fd=directory, dst_dir_fd=directory)

    def _octets(self, directory: int) -> bytes:
        handle = os.open(self._name, os.O_RDONLY | os.O_NONBLOCK | _FLAGS, dir_fd=directory)
        with open(handle, "rb") as stream:
            return stream.read(_MOST_OCTETS) if stat.S_ISREG(os.fstat(handle).st_mode) else b""

    @contextmanager
    def _directory(self, *, make: bool = False) -> Iterator[int]:
        if make:
            with suppress(FileExistsError):
                os.mkdir(self._folder, 0o700)
        handle = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | _FLAGS)
        try:
            if make:
                self._give(handle)
            yield handle
        finally:
            os.close(handle)

    def _give(self, handle: int) -> None:
        """What root made belongs to the ledger's owner, who is to read it for the same person."""
        owner, mine = os.stat(self._ledger), os.fstat(handle)
        if os.geteuid() == 0 and (mine.st_uid, mine.st_gid) != (owner.st_uid, owner.st_gid):
            os.fchown(handle, owner.st_uid, owner.st_gid)

    def _error(self, error: OSError) -> SavedError:
        return SavedError(f"{self._folder / self._name}: {error.strerror}")


def _understood(octets: bytes) -> dict[str, str] | None:
    """What a file holds, as far as it can be used; None when it is damaged."""
    try:
        found = json.loads(octets)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    usable = {name: text for name, text in found.items() if isinstance(text, str) and _fits(name, text)}
    return dict(list(usable.items())[:MOST])


def _fits(name: str, text: str) -> bool:
    return bool(name.strip()) and len(name) <= MOST_NAME and len(text) <= MOST_TEXT and (name + text).isprintable()
