"""The index of subjects: a file beside the ledger by which any part of a subject is found fast among millions.

``<ledger>-search`` is made and filled by whoever looks (never by relay or milter, so the mail path pays nothing), from the ledger
alone; it can be deleted at any time, need not be backed up, and changes no answer. It says in which messages two characters stand side by side, for
4096 messages at a time (a *block*, filled in one transaction once all its messages are there; the newest messages, fewer than that,
are compared one by one). Whoever asks checks each message that it names against the ledger.

It belongs to one ledger at one point of its chain: the ledger's id and the head of the batch up to which it was filled stand in it, so a ledger
that was restored, or another one, is not answered from it. Who fills begins it anew then, and when it is damaged. It remembers
up to which erasure it has followed, and follows before it is filled further (:meth:`Subjects.fill`) and when something was erased
(:func:`follow_erasures`): what was erased is overwritten, and never comes back, as both hold a lock while they read the ledger and write.

A file of mode 0600 that belongs to the ledger's owner; one that does not is not touched. Nothing here is an error for who looks: what is wrong is a
word in :class:`Filling` and in the log. Fails with sqlite3's errors when the ledger cannot be read.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from .ledger_blocks import SIZE, Block, Blocks, IndexFaultError, at_index
from .ledger_file import alone
from .ledger_fill import About, Filling, about_of, fill_next, follow, make_tables, messages_to

__all__ = [
    "SIZE",
    "Block",
    "Blocks",
    "Filling",
    "IndexFaultError",
    "Subjects",
    "follow_erasures",
    "search_path",
    "without_subjects",
]

_BUSY_SECONDS = 2.0
_REST = 2
"""With more blocks that are not filled yet the index is of no use."""
_ROOM = 256 * 1024 * 1024
"""So much stays free on the file system for the ledger: with less the index is not filled."""
_log = logging.getLogger("kaifu.ledger")


def search_path(ledger: Path) -> Path:
    """Where the index of a ledger is."""
    return ledger.with_name(ledger.name + "-search")


def _files(ledger: Path) -> tuple[Path, Path]:
    """The index and SQLite's journal of it, in the order in which they can be deleted: of an empty file a journal is never played back."""
    path = search_path(ledger)
    return path, path.with_name(path.name + "-journal")


class Subjects:
    """The index of the ledger at ``ledger``, for one thread. Nothing is opened before it is used. ``size``: of blocks of a new one."""

    def __init__(self, ledger: Path, size: int = SIZE) -> None:
        self._ledger = ledger
        self._size = size
        self._path = search_path(ledger)
        self._db: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None

    def close(self) -> None:
        """Close the file; the next use opens what is there then."""
        db, self._db = self._db, None
        if db is not None:
            db.close()

    @contextmanager
    def reading(self, ledger: sqlite3.Connection) -> Iterator[Blocks | None]:
        """The index as it is now; None when there is none that is of use. ``ledger``: within a read transaction.

        What turns out to be damaged while it is used is deleted, so that it is begun anew.
        """
        try:
            blocks = self._blocks(ledger)
            yield blocks
        except IndexFaultError as fault:
            self._end()
            self._wrong(fault)
            raise
        finally:
            self._end()

    def fill(self, ledger: sqlite3.Connection) -> Filling:
        """Fill one more block, and follow what was erased. ``ledger``: outside of a transaction. To be called until it is done, now and then."""
        note = ""
        try:
            with alone(self._path.parent):
                for _ in range(2):
                    try:
                        return self._fill(ledger, note)
                    except IndexFaultError as fault:
                        note = self._wrong(fault, locked=True)
                        if fault.passing:
                            break
        except OSError as error:
            note = f"the index of subjects {self._path} cannot be used: {error.strerror or error}"
        return Filling(note=note)

    def follow(self, ledger: sqlite3.Connection) -> None:
        """Erase what the ledger has erased; an index of another ledger is deleted. IndexFaultError when it cannot be."""
        with alone(self._path.parent):
            db = self._connected()
            if db is not None:
                with _one_moment(ledger):
                    about = about_of(db, ledger)
                    if about is not None:
                        follow(db, ledger, about)
                        return
            self._delete()

    def _fill(self, ledger: sqlite3.Connection, note: str) -> Filling:
        status = os.statvfs(self._path.parent)
        if status.f_bavail * status.f_frsize < _ROOM:
            return Filling(note=f"the index of subjects {self._path} is not filled: there is little space left")
        with _one_moment(ledger):
            db, about = self._belonging(ledger)
            follow(db, ledger, about)
            done = fill_next(db, ledger, about)
            return Filling(done.filled, done.of, note)

    def _belonging(self, ledger: sqlite3.Connection) -> tuple[sqlite3.Connection, About]:
        """An index of this ledger, begun anew when there is none."""
        db = self._connected()
        about = None if db is None else about_of(db, ledger)
        if db is None or about is None:
            if db is not None:
                _log.info(
                    "the index of subjects %s is of another ledger, or of another state of it; begun anew", self._path
                )
            self._delete()
            db = self._made()
            about = make_tables(db, ledger, self._size)
        return db, about

    def _blocks(self, ledger: sqlite3.Connection) -> Blocks | None:
        try:
            db = self._connected()
        except OSError:
            return None
        if db is None:
            return None
        with at_index():
            db.execute("BEGIN")
            if db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is None:
                return None  # Somebody makes it at this moment.
        about = about_of(db, ledger)
        if about is None or messages_to(ledger) - about.end > _REST * about.size:
            return None
        return Blocks(db, about.size, about.filled)

    def _end(self) -> None:
        if self._db is not None and self._db.in_transaction:
            with suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")

    def _wrong(self, fault: IndexFaultError, *, locked: bool = False) -> str:
        """What is said of a fault. A damaged file is deleted."""
        if fault.passing:
            return f"the index of subjects {self._path} cannot be used now: {fault}"
        _log.warning("the index of subjects %s is damaged (%s); it is begun anew", self._path, fault)
        try:
            if locked:
                self._delete()
            else:
                with alone(self._path.parent):
                    if self._is_open_here():
                        self._delete()
        except OSError as error:
            _log.warning("the index of subjects %s cannot be deleted: %s", self._path, error)
        return f"the index of subjects {self._path} was damaged and is begun anew: {fault}"

    def _is_open_here(self) -> bool:
        """False when somebody has begun it anew meanwhile."""
        try:
            found = os.lstat(self._path)
        except FileNotFoundError:
            return False
        return self._opened == (found.st_dev, found.st_ino)

    # The file.

    def _connected(self) -> sqlite3.Connection | None:
        """The open file; None when there is none. OSError when it is not the ledger's owner's alone."""
        try:
            found = os.lstat(self._path)
        except FileNotFoundError:
            self.close()
            return None
        if self._db is not None and self._is_open_here():
            return self._db
        self.close()
        ours = stat.S_ISREG(found.st_mode) and found.st_uid == os.stat(self._ledger).st_uid and found.st_nlink == 1
        if not ours or stat.S_IMODE(found.st_mode) & 0o077:
            raise PermissionError(None, "it is no file that the ledger's owner alone can read and write")
        return self._connect(found)

    def _made(self) -> sqlite3.Connection:
        """A new file, of the ledger's owner."""
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            owner = os.stat(self._ledger)
            if os.geteuid() == 0:
                os.fchown(handle, owner.st_uid, owner.st_gid)
            found = os.fstat(handle)
        finally:
            os.close(handle)
        return self._connect(found)

    def _connect(self, found: os.stat_result) -> sqlite3.Connection:
        with at_index():
            db = sqlite3.connect(
                f"file:{quote(str(self._path))}?mode=rw",
                uri=True,
                timeout=_BUSY_SECONDS,
                isolation_level=None,
                check_same_thread=False,
            )
            try:
                db.execute("PRAGMA secure_delete = ON")
                db.execute("PRAGMA synchronous = FULL")
            except BaseException:
                db.close()
                raise
        self._db, self._opened = db, (found.st_dev, found.st_ino)
        return db

    def _delete(self) -> None:
        self.close()
        _remove(self._ledger)


@contextmanager
def _one_moment(ledger: sqlite3.Connection) -> Iterator[None]:
    ledger.execute("BEGIN")
    try:
        yield
    finally:
        ledger.execute("ROLLBACK")


def _file_of(db: sqlite3.Connection) -> Path | None:
    """The file of a ledger; None when it is in memory."""
    name = db.execute("PRAGMA database_list").fetchone()[2]
    return Path(name) if name else None


def _remove(ledger: Path) -> None:
    """Under the lock, so that nobody writes meanwhile; who reads it reads on."""
    for path in _files(ledger):
        path.unlink(missing_ok=True)


@contextmanager
def without_subjects(db: sqlite3.Connection) -> Iterator[None]:
    """Delete the index of a ledger, and let nobody begin one while what it is made from is made anew: to be held while that is committed.

    Who is killed in between leaves a ledger without an index, never one with that of another time.
    """
    ledger = _file_of(db)
    with ExitStack() as held:
        if ledger is not None:
            try:
                held.enter_context(alone(ledger.parent))
                _remove(ledger)
            except OSError as error:
                _log.error("the index of subjects %s cannot be deleted: %s; delete it", search_path(ledger), error)
        yield


def follow_erasures(db: sqlite3.Connection) -> bool:
    """Erase from the index of a ledger what was erased from it. ``db``: the ledger, outside of a transaction.

    When that cannot be done the index is deleted. False, with a word in the log, when not even that can be.
    """
    ledger = _file_of(db)
    if ledger is None:
        return True
    # Not to look first whether there is one: somebody may be making it of what he read before the erasure.
    subjects = Subjects(ledger)
    try:
        try:
            subjects.follow(db)
        except (IndexFaultError, OSError) as error:
            _log.warning("the index of subjects %s is deleted, as it cannot be cleared: %s", search_path(ledger), error)
            with alone(ledger.parent):
                _remove(ledger)
    except OSError as error:
        _log.error(
            "the index of subjects %s holds what was erased and cannot be deleted: %s", search_path(ledger), error
        )
        return False
    finally:
        subjects.close()
    return True
