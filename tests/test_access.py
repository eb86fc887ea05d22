"""Who calls, which role that gives, and which settings may say so. (What a second user of the machine can do: test_access_users.)"""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path

import pytest

from kaifu.proxy import access as module
from kaifu.proxy.access import (
    Access,
    AccessError,
    Caller,
    Role,
    access,
    caller,
    changeable,
    check_settings,
    refusal,
    typed,
)
from kaifu.proxy.settings import Roles

ME = pwd.getpwuid(os.getuid())
NOBODY = pwd.getpwnam("nobody")
GROUP = grp.getgrgid(NOBODY.pw_gid).gr_name
THEIRS = Caller(NOBODY.pw_uid, "nobody", frozenset({NOBODY.pw_gid}))
SERVICE = 12345


def test_without_sudo_the_caller_is_the_user_of_the_process() -> None:
    who = caller({})
    assert (who.uid, who.name, who.unbound) == (os.getuid(), ME.pw_name, True)
    assert ME.pw_gid in who.groups


def test_through_sudo_the_caller_is_whom_sudo_names() -> None:
    who = caller({"SUDO_UID": str(NOBODY.pw_uid), "SUDO_USER": "nobody"})
    assert (who.uid, who.name) == (NOBODY.pw_uid, "nobody")
    assert who.groups == {NOBODY.pw_gid}


@pytest.mark.parametrize(
    "told",
    [
        {"SUDO_UID": "0"},
        {"SUDO_USER": "nobody"},
        {"SUDO_UID": "0", "SUDO_USER": "nobody"},
        {"SUDO_UID": "0", "SUDO_USER": "kaifu-t-none"},
        {"SUDO_UID": "4294967294", "SUDO_USER": "#4294967294"},
        {"SUDO_UID": "", "SUDO_USER": ""},
        {"SUDO_UID": "٠", "SUDO_USER": "root"},
        {"SUDO_UID": "+0", "SUDO_USER": "root"},
        {"SUDO_UID": "0", "SUDO_USER": "root\udcff"},
    ],
    ids=str,
)
def test_a_caller_who_cannot_be_known_is_refused(told: dict[str, str]) -> None:
    with pytest.raises(AccessError, match="who calls cannot be known"):
        caller(told)


@pytest.mark.parametrize("name", ["DOAS_USER", "PKEXEC_UID"])
def test_other_means_of_lending_rights_are_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: NOBODY.pw_uid)
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY.pw_uid)
    with pytest.raises(AccessError, match="start it with sudo"):
        caller({name: "alice"})


def test_of_a_program_with_the_set_user_id_bit_the_environment_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: NOBODY.pw_uid)
    monkeypatch.setattr(os, "geteuid", lambda: SERVICE)
    who = caller({"SUDO_UID": "0", "SUDO_USER": "root"})
    assert (who.uid, who.unbound) == (NOBODY.pw_uid, False)


ROLES = [
    (Roles(), Role.NOBODY),
    (Roles(viewer=("nobody",)), Role.VIEWER),
    (Roles(auditor=(f"%{GROUP}",)), Role.AUDITOR),
    (Roles(viewer=("nobody",), auditor=("root",), admin=(f"%{GROUP}",)), Role.ADMIN),
    (Roles(viewer=("root", "nobody"), admin=("kaifu-t-none", "%kaifu-t-none", "%root")), Role.VIEWER),
    (Roles(admin=(GROUP + "x", "%nobody-x")), Role.NOBODY),
]


@pytest.mark.parametrize(("roles", "role"), ROLES)
def test_the_highest_role_of_a_user_and_his_groups_counts(roles: Roles, role: Role) -> None:
    found = access(THEIRS, roles)
    assert found.role == role
    assert [found.allows(each) for each in Role] == [each <= role for each in Role]


def test_who_acts_with_no_rights_but_his_own_and_root_may_do_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether that gets him anywhere the mode of the file decides."""
    behind_sudo = {"SUDO_UID": str(NOBODY.pw_uid), "SUDO_USER": "nobody"}
    monkeypatch.setattr(os, "getuid", lambda: NOBODY.pw_uid)
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY.pw_uid)
    for environ in ({}, behind_sudo, {"SUDO_UID": "0", "SUDO_USER": "root"}):
        found = access(caller(environ), Roles())
        assert all(found.allows(role) for role in Role)
    monkeypatch.setattr(os, "getuid", lambda: 0)
    assert access(caller({}), Roles()).allows(Role.ADMIN)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert access(caller(behind_sudo), Roles()).allows(Role.ADMIN)
    monkeypatch.setattr(os, "getuid", lambda: SERVICE)
    monkeypatch.setattr(os, "geteuid", lambda: SERVICE)
    assert not access(caller(behind_sudo), Roles()).allows(Role.VIEWER)


def test_a_command_begins_as_who_is_told_it_types_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY.pw_uid)
    assert typed(THEIRS) == ("kaifu",)
    assert typed(Caller(0, "root", unbound=True)) == ("sudo", "-u", "nobody", "kaifu")
    assert typed(Caller(1234, "sato")) == ("sudo", "-u", "nobody", "kaifu")
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000_000)
    assert typed(THEIRS) == ("sudo", "-u", "#4000000000", "kaifu")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert typed(THEIRS) == ("sudo", "kaifu")
    assert typed(Caller(0, "root", unbound=True)) == ("kaifu",)


def test_a_refusal_names_the_role_and_who_gives_it() -> None:
    said = refusal(Access(THEIRS, Role.VIEWER), Role.AUDITOR, "kaifu receipts list")
    assert said == (
        "kaifu receipts list needs the role auditor, and nobody has the role viewer;"
        " root gives it: roles: {auditor: [nobody]} in the settings"
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory that only its owner can write, with settings in it."""
    made = tmp_path / "etc"
    made.mkdir(mode=0o750)
    (made / "kaifu.yaml").touch(mode=0o640)
    return made


TRUSTED = frozenset({0, os.getuid()})


def test_settings_that_only_trusted_users_can_write_are_taken(folder: Path) -> None:
    (folder / "link.yaml").symlink_to("../etc/kaifu.yaml")
    for name in ("kaifu.yaml", "link.yaml"):
        check_settings(folder / name, THEIRS)


@pytest.mark.parametrize("mode", [0o660, 0o646, 0o666])
def test_settings_that_others_can_write_are_not_taken(folder: Path, mode: int) -> None:
    (folder / "kaifu.yaml").chmod(mode)
    assert changeable(folder / "kaifu.yaml", TRUSTED) == f"{folder}/kaifu.yaml can be written by group or others"
    with pytest.raises(AccessError, match="nobody may use only settings that root or the service user alone can write"):
        check_settings(folder / "kaifu.yaml", THEIRS)
    check_settings(folder / "kaifu.yaml", Caller(NOBODY.pw_uid, "nobody", unbound=True))


def test_who_named_no_settings_is_not_told_to_leave_them_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "kaifu.yaml").chmod(0o666)
    with pytest.raises(AccessError, match=r"leave --config out$"):
        check_settings(folder / "kaifu.yaml", THEIRS)
    monkeypatch.setattr("kaifu.proxy.access.DEFAULT_CONFIG", folder / "kaifu.yaml")
    with pytest.raises(AccessError, match=r"is not; kaifu config check tells root why$"):
        check_settings(folder / "kaifu.yaml", THEIRS)


@pytest.mark.parametrize("mode", [0o770, 0o757])
def test_nor_those_in_a_directory_that_others_can_write_wherever_on_the_way(folder: Path, mode: int) -> None:
    (folder.parent / "real").mkdir()
    (folder.parent / "real/kaifu.yaml").touch(mode=0o640)
    (folder / "link.yaml").symlink_to("../real/kaifu.yaml")
    (folder.parent / "real").chmod(mode)
    for path in (folder.parent / "real/kaifu.yaml", folder / "link.yaml", folder / "../real/../etc/link.yaml"):
        assert changeable(path, TRUSTED) == f"{folder.parent}/real can be written by group or others"
    folder.chmod(mode)
    assert changeable(folder / "kaifu.yaml", TRUSTED) == f"{folder} can be written by group or others"


def test_nor_those_of_another_user_and_those_that_are_not_there(folder: Path) -> None:
    nobodys = frozenset({0}) if os.getuid() else frozenset({SERVICE})
    assert str(changeable(folder / "kaifu.yaml", nobodys)).endswith("belongs to somebody else")
    assert changeable(folder / "none.yaml", TRUSTED) == f"{folder}/none.yaml: No such file or directory"
    (folder / "circle").symlink_to("circle")
    assert changeable(folder / "circle", TRUSTED) == f"{folder}/circle leads in circles"


def test_nor_an_open_file_that_only_bears_the_name_of_a_trusted_one(folder: Path) -> None:
    """As one from a private mount does, handed over as standard input."""
    with open(folder / "kaifu.yaml") as opened:
        (folder / "kaifu.yaml").unlink()
        named = folder / "kaifu.yaml (deleted)"
        named.touch(mode=0o640)
        link = Path(f"/proc/self/fd/{opened.fileno()}")
        assert changeable(named, TRUSTED) is None
        assert changeable(link, TRUSTED) == f"{link} does not lead to {named}"


def test_roles_are_the_keys_of_the_settings() -> None:
    assert [role.word for role in Role if role] == list(Roles.__dataclass_fields__)
    assert max(Role) == module.Role.ADMIN
