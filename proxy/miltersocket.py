"""The milter's unix socket as a file: whether it can be there, who may use it, and that it goes when we go.

Called by :mod:`kaifu.proxy.milter` around the moment when libmilter makes the socket; for an inet socket nothing is done.
What is wrong is a :class:`CannotListen` that says what to do.
"""

from __future__ import annotations

import grp
import os
import socket
import stat
from pathlib import Path

from .settings import MilterSettings


class CannotListen(Exception):
    """The socket cannot be made; the text says why and what to do."""


class Place:
    """Where the settings want the socket."""

    def __init__(self, settings: MilterSettings) -> None:
        self._listen = settings.listen
        self._group = settings.socket_group
        self._mode = settings.socket_mode
        unix = settings.listen.startswith("unix:")
        self._path = Path(settings.listen.removeprefix("unix:")) if unix else None
        self._made: os.stat_result | None = None

    def check(self) -> None:
        """Refuse a place where no socket can be, or where another process has one that it serves."""
        path = self._path
        if path is None:
            return
        if not path.parent.is_dir():
            raise self._problem(f"there is no directory {path.parent}; make it first")
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise self._problem(f"this user may not make files in {path.parent}")
        try:
            if not stat.S_ISSOCK(path.lstat().st_mode):
                raise self._problem("there is a file of that name which is no socket")
        except FileNotFoundError:
            return
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(5)
            try:
                probe.connect(str(path))
            except OSError:
                return  # left behind by a process that is gone
        raise self._problem("another process serves this socket; stop it first")

    def _problem(self, what: str) -> CannotListen:
        return CannotListen(f"milter.listen {self._listen}: {what}")

    def open(self) -> None:
        """Let the group in that the settings name."""
        if self._path is None:
            return
        self._made = self._path.lstat()
        try:
            if self._group is not None:
                os.chown(self._path, -1, grp.getgrnam(self._group).gr_gid)
            self._path.chmod(self._mode)
        except KeyError:
            self.remove()
            raise CannotListen(f"milter.socket_group: there is no group {self._group!r} here") from None
        except OSError as error:
            self.remove()
            raise CannotListen(
                f"milter.socket_group: the socket cannot be given to {self._group!r} ({error.strerror}); "
                "the user who runs kaifu must be a member of that group"
            ) from None

    def remove(self) -> None:
        """Take the file away, so that the next connection fails at once, unless it is another process's by now."""
        if self._path is None or self._made is None:
            return
        try:
            there = self._path.lstat()
            if (there.st_dev, there.st_ino) == (self._made.st_dev, self._made.st_ino):
                self._path.unlink()
        except OSError:
            return
