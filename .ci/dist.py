"""What a server needs to install kaifu, into one directory: the wheel, and ``kaifu.txt`` for ``pip install -r``.

``kaifu.txt`` holds the part of requirements.lock that kaifu itself needs (not the development tools), and the wheel, all with
hashes. ``make dist`` calls this with the directory as its only argument.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def runtime(lock: str) -> str:
    """Of a lock file the entries that kaifu's own dependencies need, as their comments say."""
    entries = {entry.split("==")[0]: entry for entry in re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE)[1:]}
    wanted_by = {
        name: re.findall(r"^    #(?: via)? +(\S.*)$", entry, flags=re.MULTILINE) for name, entry in entries.items()
    }
    needed = {"kaifu (pyproject.toml)"}
    while more := {name for name in entries if needed.intersection(wanted_by[name])} - needed:
        needed |= more
    return "".join(entry for name, entry in entries.items() if name in needed)


def main(directory: Path) -> None:
    """Build through the sdist, so that nothing but what is declared gets in."""
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(directory), str(ROOT)]
    done = subprocess.run(build, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout)
    (wheel,) = directory.glob("kaifu-*.whl")
    name, version = wheel.name.split("-")[:2]
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    ours = f"--find-links .\n{name}=={version} --hash=sha256:{digest}\n"
    theirs = runtime((ROOT / "requirements.lock").read_text())
    (directory / "kaifu.txt").write_text(f"# pip install --require-hashes -r kaifu.txt\n{ours}{theirs}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
