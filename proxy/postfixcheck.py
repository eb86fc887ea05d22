"""Whether the Postfix of this machine would pass mail by our milter, or lose some that it decides about.

Called by ``kaifu config check``. Asks ``postconf``, and says something only when Postfix names our socket in main.cf; what master.cf
overrides is not looked at. Without a ``postconf`` that answers within seconds there is nothing to say.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

_NAMES = (
    "queue_directory",
    "smtpd_milters",
    "non_smtpd_milters",
    "milter_default_action",
    "enable_original_recipient",
)
_SECONDS = 10


def warnings(listen: str, *, changes_reports: bool) -> list[str]:
    """Sentences about Postfix's settings. ``listen``: our socket; ``changes_reports``: the policy adds or strips delivery reports."""
    told = _postconf()
    if told is None:
        return []
    found = []
    actions = _actions(_names(listen, told["queue_directory"]), told)
    if not actions:
        return []
    wrong = next((action for action in actions if action not in ("tempfail", "quarantine", "shutdown")), None)
    if wrong is not None:
        found.append(
            f"Postfix has milter_default_action = {wrong}: when kaifu is down, mail is not deferred; set it to tempfail"
        )
    if changes_reports and told["enable_original_recipient"] != "yes":
        found.append(
            "Postfix has enable_original_recipient = no: a recipient behind an alias whose delivery report is added or stripped "
            "would get no mail; set it to yes"
        )
    return found


def _postconf() -> dict[str, str] | None:
    """The settings, expanded; None when there is no Postfix that tells them."""
    program = shutil.which("postconf", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin")))
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, "-hx", *_NAMES], capture_output=True, text=True, errors="replace", timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    values = done.stdout.splitlines()
    return dict(zip(_NAMES, map(str.strip, values), strict=True)) if len(values) == len(_NAMES) else None


def _names(listen: str, queue_directory: str) -> set[str]:
    """How main.cf may name our socket."""
    kind, _, place = listen.partition(":")
    if kind != "unix":
        port, _, host = place.partition("@")
        return {f"inet:{host}:{port}", f"inet:[{host}]:{port}"}
    path = Path(place)
    names = {listen}
    if path.is_relative_to(queue_directory):
        names.add(f"unix:{path.relative_to(queue_directory)}")
    return names


def _actions(names: set[str], told: dict[str, str]) -> list[str]:
    """What Postfix does when our milter does not answer, for each place that names it."""
    found = []
    for entry in re.findall(r"\{[^}]*\}|[^\s,]+", f"{told['smtpd_milters']} {told['non_smtpd_milters']}"):
        name, *rest = re.split(r"[\s,]+", entry.strip("{} \t"))
        if name in names:
            own = re.search(r"default_action\s*=\s*(\w+)", " ".join(rest))
            found.append(own[1] if own else told["milter_default_action"])
    return found
