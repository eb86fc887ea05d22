"""Who calls, and what he may do: from what sudo sets, the user database, and ``roles:`` in the settings.

Called when a command is about to open the ledger; :mod:`kaifu.proxy.ledger_desk` then holds every question and change against the
:class:`Access` made here. People run ``sudo -u kaifu kaifu …``: the process is the service user's, who owns the ledger's file, and
sudo says in ``SUDO_UID`` and ``SUDO_USER`` who stands behind it. Both must be there, agree, and be in the user database, or the
caller is refused.

Root, and whoever acts with no rights but his own, are *unbound*: what they may do with the ledger's file is the system's to decide, and
nothing here could stop the service user. Everybody else borrows the service user's rights, and has the highest role that the settings
give to him or one of his groups, none by default. As those settings decide, they must be such that no stranger can write; and no
file that he names is read or written with rights that are not his.

Fails with :class:`AccessError`.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from enum import IntEnum
from pathlib import Path

from .ledger import LedgerError
from .settings import DEFAULT_CONFIG, Roles

_MOST_LINKS = 40
_OTHER_MEANS = {"DOAS_USER": "doas", "PKEXEC_UID": "pkexec"}
"""What else lends a user's rights, and does not say verifiably to whom."""


class AccessError(LedgerError):
    """The caller is not known, or may not do this. The text says which, and what to do."""


class Role(IntEnum):
    """What somebody may do; each includes those before it."""

    NOBODY = 0
    VIEWER = 1
    AUDITOR = 2
    ADMIN = 3

    @property
    def word(self) -> str:
        """As in the settings."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Caller:
    """Who stands behind the process. ``unbound``: it has root's rights, or none but his own."""

    uid: int
    name: str
    groups: frozenset[int] = frozenset()
    unbound: bool = False


@dataclass(frozen=True, slots=True)
class Access:
    """A caller and what he may do."""

    caller: Caller
    role: Role

    def allows(self, needed: Role) -> bool:
        """May he do what needs this role?"""
        return self.caller.unbound or self.role >= needed


def caller(environ: Mapping[str, str] = os.environ) -> Caller:
    """The user behind ``sudo``, else the one whose process it is. AccessError when that cannot be known."""
    uid, effective = os.getuid(), os.geteuid()
    root = 0 in (uid, effective)
    # Through sudo both are the same. A program with the set-user-ID bit is not sudo: its real user is the caller, whatever
    # the environment says, which is that user's own.
    if uid == effective and ("SUDO_UID" in environ or "SUDO_USER" in environ):
        return _behind_sudo(environ.get("SUDO_UID", ""), environ.get("SUDO_USER", ""), root)
    for name, means in _OTHER_MEANS.items():
        if name in environ and not root:
            raise AccessError(f"who calls cannot be known: kaifu was started through {means}; start it with sudo")
    unbound = root or uid == effective
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        return Caller(uid, f"uid {uid}", unbound=unbound)
    return Caller(uid, user.pw_name, _groups(user), unbound)


def _behind_sudo(number: str, name: str, root: bool) -> Caller:
    try:
        user = pwd.getpwnam(name)
        if number.isascii() and number.isdigit() and user.pw_uid == int(number):
            return Caller(user.pw_uid, user.pw_name, _groups(user), root or user.pw_uid in (0, os.geteuid()))
        known = f"{name} has the number {user.pw_uid}"
    except (KeyError, ValueError):
        known = "no user of this machine has that name"
    raise AccessError(
        f"who calls cannot be known: SUDO_USER says {name!r}, SUDO_UID says {number!r}, but {known};"
        " start kaifu with sudo, from the login of a person"
    )


def _groups(user: pwd.struct_passwd) -> frozenset[int]:
    """Primary and supplementary groups. Not the process's own: through sudo those are the service user's."""
    return frozenset(os.getgrouplist(user.pw_name, user.pw_gid))


def access(who: Caller, roles: Roles) -> Access:
    """What a caller may do."""
    held = [role for role in Role if role and any(_is_meant(who, name) for name in getattr(roles, role.word))]
    return Access(who, Role.ADMIN if who.unbound else max(held, default=Role.NOBODY))


def typed(who: Caller) -> tuple[str, ...]:
    """The words with which this person begins a command that is to have the rights that this process has."""
    return ("kaifu",) if who.uid == os.geteuid() else (*lent(), "kaifu")


def lent() -> tuple[str, ...]:
    """The words that lend the rights of this process to a command of somebody else."""
    uid = os.geteuid()
    if uid == 0:
        return ("sudo",)
    try:
        return ("sudo", "-u", pwd.getpwuid(uid).pw_name)
    except KeyError:
        return ("sudo", "-u", f"#{uid}")


def _is_meant(who: Caller, name: str) -> bool:
    """Users are compared by number: two names of one number are one user."""
    number = _number(name)
    return number is not None and (number in who.groups if name.startswith("%") else number == who.uid)


def _number(name: str) -> int | None:
    """Of a user or a ``%group`` as the settings name it; None when there is none here."""
    try:
        return grp.getgrnam(name[1:]).gr_gid if name.startswith("%") else pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def unknown(roles: Roles) -> Iterator[str]:
    """What the settings name and this machine does not know, in words."""
    for role in fields(roles):
        for name in getattr(roles, role.name):
            if _number(name) is None:
                what, bare = ("group", name[1:]) if name.startswith("%") else ("user", name)
                yield f"roles.{role.name}: there is no {what} {bare!r} here, so nobody has the role by that name"


def refusal(who: Access, needed: Role, what: str) -> str:
    """The sentence for somebody whose role is too low."""
    name = who.caller.name
    has = f"has the role {who.role.word}" if who.role else "has no role"
    return (
        f"{what} needs the role {needed.word}, and {name} {has};"
        f" root gives it: roles: {{{needed.word}: [{name}]}} in the settings"
    )


def check_settings(path: Path, who: Caller) -> None:
    """AccessError when strangers could have written the settings that are to say what ``who`` may do.

    Why they could it does not say, lest it tell what is in directories that are closed to him: ``kaifu config check`` does.
    """
    if not who.unbound and changeable(path, trusted()) is not None:
        instead = "kaifu config check tells root why" if path == DEFAULT_CONFIG else "leave --config out"
        raise AccessError(
            f"{who.name} may use only settings that root or the service user alone can write, in directories likewise, and"
            f" {path} is not; {instead}"
        )


def trusted() -> frozenset[int]:
    """Who may write settings that give roles: root, and the user whose rights the process has."""
    return frozenset({0, os.geteuid()})


def changeable(path: Path, trusted: frozenset[int]) -> str | None:
    """Why others than the ``trusted`` users could change what a path leads to, in words; None when they cannot.

    Every directory and symbolic link on the way counts, as each could be made to lead elsewhere.
    """
    here, links = Path("/"), 0
    todo = [*reversed(path.absolute().parts)]
    try:
        while todo:
            part = todo.pop()
            here = here.parent if part == ".." else here / part
            status = os.lstat(here)
            if status.st_uid not in trusted:
                return f"{here} belongs to somebody else"
            if stat.S_ISLNK(status.st_mode):
                links += 1
                if links > _MOST_LINKS:
                    return f"{path} leads in circles"
                todo += reversed(Path(os.readlink(here)).parts)
                here = here.parent
            elif status.st_mode & 0o022 and not (stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX):
                return f"{here} can be written by group or others"
        # Links of /proc lead to what was opened, perhaps where nobody else sees it, whatever name they show.
        if not os.path.samestat(os.lstat(here), os.stat(path)):
            return f"{path} does not lead to {here}"
    except OSError as error:
        return f"{here}: {error.strerror}"
    return None
