"""The ledger's SQLite file: create, connect, notice that it is gone, and say in words what is wrong with it.

Called by the writer and reader threads and by every command that opens a ledger. Everything that depends on the
file and its file system is here, so that the rest may think in tables.

A writer must not go on writing to a file that somebody moved, deleted or replaced: SQLite would not notice, and what
was acknowledged would be in a file that nobody looks at. :meth:`Store.guard` compares device and inode of the
path with those at opening. Fails with :class:`LedgerError`.
"""

from __future__ import annotations

import fcntl
import logging
import os
import random
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from . import migrations
from .ledger import LedgerError, Trouble

Database = sqlite3.Connection
"""An open ledger, for modules that hand one on."""

BUSY_SECONDS = 5.0
_log = logging.getLogger("kaifu.ledger")

Identity = tuple[int, int]


def explain(error: Exception, path: Path) -> LedgerError:
    """An error of SQLite or of the system as one sentence that says what to do."""
    if isinstance(error, LedgerError):
        return error
    name = getattr(error, "sqlite_errorname", "") or ""
    trouble = Trouble.OTHER
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        trouble, text = Trouble.LOCKED, "is locked by another process; it is tried again with the next message"
    elif name.startswith("SQLITE_FULL") or (name.startswith("SQLITE_IOERR") and _is_full(path)):
        trouble, text = Trouble.FULL, "cannot be written: no space left on its file system; make room"
    elif name == "SQLITE_READONLY_DBMOVED":
        trouble, text = Trouble.REPLACED, "was moved, deleted or replaced while it was open"
    elif name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN")) or isinstance(error, PermissionError):
        trouble, text = Trouble.FORBIDDEN, _why_not_opened(path)
    elif name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
        trouble = Trouble.DAMAGED
        text = f"is damaged or no SQLite database ({error}); move it away and restore a backup"
    elif name.startswith("SQLITE_IOERR"):
        text = f"cannot be read or written ({error}, {name}); look at the disk and at the space left on it"
    elif isinstance(error, sqlite3.IntegrityError):
        text = f"contradicts itself ({error}); run kaifu ledger rebuild"
    elif isinstance(error, OSError):
        text = f"cannot be used: {error.strerror or error}"
    else:
        text = f"cannot take or give this: {error!r}"
    return LedgerError(f"the ledger {path} {text}", trouble)


def _is_full(path: Path) -> bool:
    try:
        status = os.statvfs(path.parent)
    except OSError:
        return False
    return status.f_bavail * status.f_frsize < 65536


def _why_not_opened(path: Path) -> str:
    """SQLite only says that it cannot; the likely reasons, in words."""
    if not all(os.access(each, os.R_OK | os.W_OK, effective_ids=True) for each in (path.parent, path)):
        try:
            if os.statvfs(path.parent).f_flag & os.ST_RDONLY:
                return "cannot be opened: its file system is read-only"
        except PermissionError:
            pass
        except OSError as error:
            return f"cannot be opened: {error.strerror or error}"
        return "cannot be opened: this user may not read and write it and its directory; act as the service user"
    return "cannot be opened; look at the file, its directory and their permissions"


def connect(path: Path, *, write: bool) -> sqlite3.Connection:
    """A connection in autocommit mode; transactions are ours. Does not create the file. sqlite3's errors."""
    mode = "rw" if write else "ro"
    db = sqlite3.connect(
        f"file:{quote(str(path))}?mode={mode}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        if write:
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA secure_delete = ON")  # What is deleted is overwritten.
            db.execute("PRAGMA wal_autocheckpoint = 2000")
        else:
            db.execute("PRAGMA query_only = ON")
        db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except BaseException:
        db.close()
        raise
    return db


def begin_writing(db: sqlite3.Connection) -> None:
    """Open a write transaction, waiting for other writers for :data:`BUSY_SECONDS`. sqlite3's errors.

    SQLite's own waiting sleeps for up to 0.1 s between tries and starves beside a writer that commits without pause.
    """
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            db.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError as error:
            if not error.sqlite_errorname.startswith("SQLITE_BUSY") or time.monotonic() > deadline:
                raise
        time.sleep(random.uniform(0.0002, 0.001))


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Hold a lock on the directory: one process at a time creates or migrates. (Never lock the file: closing
    another descriptor of it would drop SQLite's own locks.)"""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def prepare(path: Path, *, create: bool) -> list[str]:
    """Make sure that a ledger of this version is there; returns the migrations that were run.

    A new file gets mode 0600, and so do SQLite's files beside it. LedgerError when it cannot be.
    """
    try:
        with alone(path.parent):
            if not path.exists():
                if not create:
                    raise LedgerError(
                        f"there is no ledger at {path}; kaifu relay makes one when it starts", Trouble.GONE
                    )
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise LedgerError(f"the ledger {path} is a directory or device, no file; name a file in the settings")
            if status.st_mode & 0o077:
                path.chmod(0o600)
                _log.warning("the ledger %s was open to others; its mode is 0600 now", path)
            db = connect(path, write=True)
            try:
                if migrations.pending(db):
                    db.execute("PRAGMA journal_mode = WAL")
                    return migrations.migrate(db)
                return []
            finally:
                db.close()
    except FileNotFoundError as error:
        raise LedgerError(f"the directory {path.parent} of the ledger does not exist; make it first") from error
    except (sqlite3.Error, OSError) as error:
        raise explain(error, path) from error


def _identity(path: Path) -> Identity | None:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


class Store:
    """An open ledger file and the means to notice that it is no longer the one at its path."""

    def __init__(self, path: Path, *, write: bool) -> None:
        self.path = path
        self._wal = path.with_name(path.name + "-wal")
        self._before = _identity(path)
        if self._before is None:
            raise LedgerError(
                f"the ledger {path} is gone (moved or deleted); put it back, or restart to begin a new one",
                Trouble.GONE,
            )
        self.db = connect(path, write=write)
        try:
            pending = migrations.pending(self.db)
            if pending:
                raise LedgerError(f"the ledger {path} is of an older version; run kaifu ledger migrate")
            if write and self.db.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                self.db.execute("PRAGMA journal_mode = WAL")
            self.db.execute("SELECT entry FROM head").fetchone()
            if write:
                self.db.execute("PRAGMA busy_timeout = 0")  # From here on begin_writing waits.
        except BaseException:
            self.db.close()
            raise
        self._wal_before = _identity(self._wal)

    def guard(self) -> None:
        """LedgerError when the path no longer leads to the file that is open."""
        if _identity(self.path) != self._before:
            raise LedgerError(
                f"the ledger {self.path} was moved, deleted or replaced while it was open", Trouble.REPLACED
            )
        if self._wal_before is not None and _identity(self._wal) != self._wal_before:
            raise LedgerError(
                f"the file {self._wal} of the ledger was moved or deleted while it was open", Trouble.REPLACED
            )

    def close(self) -> None:
        """Close; raises nothing."""
        try:
            self.db.close()
        except sqlite3.Error as error:
            _log.warning("closing the ledger %s: %s", self.path, error)
