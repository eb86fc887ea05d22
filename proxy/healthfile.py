"""The directory beside the ledger in which health is left: ``LEDGER-health``, mode 0700, and small files in it, mode 0600.

Called by :mod:`kaifu.proxy.health`. A file appears whole or not at all, and is not made durable: after a crash of the machine nothing of
it matters. What is written through root's rights (``kaifu ledger verify``) belongs to the ledger's owner, who could not replace it
otherwise.

Who reads trusts what belongs to the ledger's owner or to root, alone can be written by them, and is a regular file of at most
:data:`MOST_OCTETS`; everything else is passed over, and so are files beyond :data:`MOST_FILES`. Reading never fails. Writing fails with OSError.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MOST_OCTETS = 262_144
MOST_FILES = 200
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def directory_of(ledger: Path) -> Path:
    """Where the health of those who use this ledger is left."""
    return ledger.with_name(f"{ledger.name}-health")


def write_file(ledger: Path, name: str, octets: bytes) -> None:
    """Put a file there, in place of one of this name."""
    owner = _owner(ledger)
    part = f".{name}.part"
    with _opened(ledger, owner) as directory:
        # One at a time: two who verify at once would put each other's half-written file in place. Let go of with the descriptor.
        fcntl.flock(directory, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            os.unlink(part, dir_fd=directory)
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=directory)
        try:
            with open(handle, "wb") as stream:
                _hand_over(handle, owner)
                stream.write(octets)
            os.rename(part, name, src_dir_fd=directory, dst_dir_fd=directory)
        except OSError:
            with suppress(OSError):
                os.unlink(part, dir_fd=directory)
            raise


def remove_files(ledger: Path, which: Callable[[str], bool]) -> None:
    """Take away the files with these names, as far as that can be done."""
    with suppress(OSError), _opened(ledger, _owner(ledger)) as directory:
        for name in filter(which, os.listdir(directory)):
            with suppress(OSError):
                os.unlink(name, dir_fd=directory)


def read_files(ledger: Path) -> Iterator[tuple[str, bytes]]:
    """Name and octets of each file that can be trusted."""
    with suppress(OSError):
        trusted = {0, _owner(ledger)}
        directory = os.open(directory_of(ledger), _DIRECTORY)
        try:
            if not _is_theirs(os.fstat(directory), trusted):
                return
            for name in sorted(each for each in os.listdir(directory) if each.endswith(".json"))[:MOST_FILES]:
                octets = _read(directory, name, trusted)
                if octets is not None:
                    yield name, octets
        finally:
            os.close(directory)


def _read(directory: int, name: str, trusted: set[int]) -> bytes | None:
    with suppress(OSError):
        # Not to wait for who writes into a pipe.
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        try:
            status = os.fstat(handle)
            if stat.S_ISREG(status.st_mode) and _is_theirs(status, trusted) and status.st_size <= MOST_OCTETS:
                return os.read(handle, MOST_OCTETS)
        finally:
            os.close(handle)
    return None


def _is_theirs(status: os.stat_result, trusted: set[int]) -> bool:
    return status.st_uid in trusted and not status.st_mode & 0o022


def _owner(ledger: Path) -> int:
    """Who owns the ledger; while it is away, the directory that it was in."""
    try:
        return os.stat(ledger).st_uid
    except FileNotFoundError:
        return os.stat(ledger.parent).st_uid


@contextmanager
def _opened(ledger: Path, owner: int) -> Iterator[int]:
    """The directory, made if need be, as a descriptor: whatever is put in its place meanwhile is not written to."""
    path = directory_of(ledger)
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)
    directory = os.open(path, _DIRECTORY)
    try:
        status = os.fstat(directory)
        # Root gives away only what it has just made: its other directories could have been moved here.
        if status.st_uid != owner and (status.st_uid != os.geteuid() or os.listdir(directory)):
            raise PermissionError(1, "the directory belongs to somebody else", str(path))
        _hand_over(directory, owner)
        if status.st_mode & 0o077:
            os.fchmod(directory, 0o700)
        yield directory
    finally:
        os.close(directory)


def _hand_over(handle: int, owner: int) -> None:
    if os.fstat(handle).st_uid != owner and not os.geteuid():
        os.fchown(handle, owner, -1)
