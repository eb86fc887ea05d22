"""From the ``ledger:`` setting to a ledger.

Called by hosts at start. ``sqlite:////var/lib/kaifu/ledger.db`` is a file by its absolute path (four slashes). Fails with
:class:`LedgerError` for anything else, for a directory that does not exist, for a file that is no ledger or of a newer version.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from .ledger import Ledger, LedgerError
from .ledger_file import prepare
from .ledger_sqlite import SqliteLedger


def ledger_path(url: str) -> Path:
    """The file that a ``sqlite:////absolute/path`` URL names. LedgerError when it is none."""
    parts = urlsplit(url)
    if parts.scheme != "sqlite":
        raise LedgerError(f"ledger {url!r}: only sqlite:////absolute/path is supported")
    path = unquote(parts.path)[1:]
    if parts.netloc or parts.query or parts.fragment or not path.startswith("/"):
        raise LedgerError(f"ledger {url!r}: an absolute path is needed, as in sqlite:////var/lib/kaifu/ledger.db")
    return Path(path)


def open_ledger(url: str, *, create: bool = True) -> Ledger:
    """Open the ledger, bring its schema up to date, and with ``create`` make it if it is not there (mode 0600)."""
    path = ledger_path(url)
    prepare(path, create=create)
    return SqliteLedger(path)
