"""The milter's socket: whether it can be there, who may use it, and that a unix socket's file goes when we go.

Called by :mod:`kaifu.proxy.milter`. What is wrong is a :class:`CannotListen` that says what to do.
"""

from __future__ import annotations

import grp
import os
import socket
import stat
from pathlib import Path

from .settings import MilterSettings

BACKLOG = 1024


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
            except (ConnectionRefusedError, FileNotFoundError):
                return  # left behind by a process that is gone
            except OSError:
                pass  # it may be too busy to answer, or for others than this user
        raise self._problem("another process serves this socket; stop it first")

    def listen(self) -> socket.socket:
        """The socket, listening, for the group that the settings name."""
        bound = self._unix(self._path) if self._path is not None else self._inet()
        bound.setblocking(False)
        return bound

    def _inet(self) -> socket.socket:
        kind, _, rest = self._listen.partition(":")
        port, _, name = rest.partition("@")
        family = socket.AF_INET6 if kind == "inet6" else socket.AF_INET
        try:
            info = socket.getaddrinfo(name or None, int(port), family, socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
            bound = socket.socket(info[0], info[1])
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(info[4])
            bound.listen(BACKLOG)
        except OSError as error:
            raise self._cannot(error) from None
        return bound

    def _unix(self, path: Path) -> socket.socket:
        before = os.umask(0o777 & ~self._mode)
        try:
            path.unlink(missing_ok=True)  # what a process left that is gone
            bound = socket.socket(socket.AF_UNIX)
            bound.bind(str(path))
            self._made = path.lstat()
            self._let_in(path)
            bound.listen(BACKLOG)
        except OSError as error:
            raise self._cannot(error) from None
        finally:
            os.umask(before)
        return bound

    def _let_in(self, path: Path) -> None:
        """Let the group in that the settings name, before anybody can connect."""
        try:
            if self._group is not None:
                os.chown(path, -1, grp.getgrnam(self._group).gr_gid)
            path.chmod(self._mode)
        except KeyError:
            self.remove()
            raise CannotListen(f"milter.socket_group: there is no group {self._group!r} here") from None
        except OSError as error:
            self.remove()
            raise CannotListen(
                f"milter.socket_group: the socket cannot be given to {self._group!r} ({error.strerror}); "
                "the user who runs kaifu must be a member of that group"
            ) from None

    def _cannot(self, error: OSError) -> CannotListen:
        return self._problem(
            f"the socket cannot be made ({error.strerror or error}); is the address one of this machine's, and free?"
        )

    def _problem(self, what: str) -> CannotListen:
        return CannotListen(f"milter.listen {self._listen}: {what}")

    def look(self) -> None:
        """Raise :class:`CannotListen` when the file is gone, or another's by now: no MTA can find us any more."""
        try:
            if self._ours():
                return
        except FileNotFoundError:
            pass
        except OSError:
            return
        raise self._problem("somebody removed or replaced the socket while it was served")

    def remove(self) -> None:
        """Take the file away, so that the next connection fails at once, unless it is another process's by now."""
        try:
            if self._path is not None and self._made is not None and self._ours():
                self._path.unlink()
        except OSError:
            return

    def _ours(self) -> bool:
        """Is the file the one that we made? A TCP socket always is. Raises OSError."""
        if self._path is None or self._made is None:
            return True
        there = self._path.lstat()
        return (there.st_dev, there.st_ino) == (self._made.st_dev, self._made.st_ino)
