"""The words of the ledger for people, as tables: what it keeps as ``other-address`` is told in a sentence. Pure; data and one look-up.

Fixed words of entries are translated; what is not in a table (a disposition that nobody knows, say) is shown as it came. The sentences of decisions are
told as they are recorded, in every language.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from .words import later, say

KINDS = {
    "mail": later("message"),
    "mdn": later("receipt"),
    "dsn": later("delivery report"),
    "reply": later("reply"),
    "auto-reply": later("automatic reply"),
    "suspected": later("suspected receipt"),
    "suspected-receipt": later("suspected receipt"),
}
"""What a message is, and what a piece of evidence is."""

DISPOSITIONS = {
    "displayed": later("displayed"),
    "deleted": later("deleted unread"),
    "denied": later("denied"),
    "failed": later("could not be processed"),
    "dispatched": later("dispatched, not displayed"),
    "processed": later("processed by a program, not displayed"),
}
"""Values of a receipt (RFC 8098 3.2.6)."""

ACTIONS = {
    "delivered": later("delivered"),
    "failed": later("failed"),
    "delayed": later("delayed"),
    "relayed": later("relayed to a system that sends no reports"),
    "expanded": later("expanded: a list"),
}
"""Values of a delivery report (RFC 3464 2.3.3)."""

VERDICTS = {
    "matched": "",
    "unknown-message": later("does not count: cites no message of ours"),
    "other-address": later("does not count: from another address"),
    "failed-authentication": later("does not count: it failed authentication"),
    "wrong-recipient": later("does not count: not from a recipient"),
    "suspected": later("does not count: only looks like a receipt"),
    "unreadable": later("does not count: cannot be read"),
}

DIRECTIONS = {
    "outbound": later("outbound"),
    "inbound": later("inbound"),
    "internal": later("internal"),
    "transit": later("transit"),
}

REQUESTS = {
    "none": later("none"),
    "kept": later("kept as the client wrote it"),
    "added": later("added"),
    "stripped": later("removed"),
}
"""What became of the receipt request."""

ASKED_BY = {
    "client": later("asked by the client"),
    "policy": later("asked by the policy"),
    "nobody": later("asked by nobody"),
}

OUTCOMES = {
    "accepted": later("accepted by the next hop"),
    "refused": later("refused by the next hop"),
    "deferred": later("put off by the next hop"),
    "withheld": later("withheld: recorded, not delivered"),
    "unknown": later("outcome unknown"),
}

TRANSPORTS = {"unknown": later("no report"), **ACTIONS}
HANDLINGS = {
    "none": later("no answer"),
    "mdn-failed": DISPOSITIONS["failed"],
    "replied": later("replied"),
    **{key: value for key, value in DISPOSITIONS.items() if key != "failed"},
}

CONFIRMED_BY = {
    "phone": later("on the phone"),
    "meeting": later("in person"),
    "letter": later("by letter"),
    "chat": later("by chat"),
}

DETAILS = {
    "action_mode": later("action mode"),
    "sending_mode": later("sending mode"),
    "reporting_ua": later("program"),
    "modifiers": later("modifiers"),
    "error": later("error"),
    "status": later("status"),
    "diagnostic": later("diagnostic"),
    "remote_mta": later("remote server"),
    "last_attempt": later("last attempt"),
    "retry_until": later("tried until"),
    "original_message_id": later("cited message"),
}
"""Fields of reports that are kept (RFC 8098 3, RFC 3464 2)."""

PLACES = {"file": later("file"), "command": later("program"), "mail": later("mail")}
"""Where anchors are sent."""

MODES = {"enforce": later("enforced"), "observe": later("only observed")}


_EDIT = re.compile(r"(added|removed|changed) ([!-9;-~]+(?: #\d+)?)(?:(?:: | to )(.*))?", re.DOTALL)
_NAMED = re.compile(r"([!-9;-~]{1,60}) names our message; (.*)", re.DOTALL)


def edited(words: str) -> str:
    """A change of the header, as it is recorded, with the words around it translated; anything else as it is."""
    found = _EDIT.fullmatch(words)
    if found is None or (found[1] == "removed") != (found[3] is None):
        return words
    if found[1] == "removed":
        return say("removed {field}", field=found[2])
    if found[1] == "added":
        return say("added {field}: {value}", field=found[2], value=found[3])
    return say("changed {field} to {value}", field=found[2], value=found[3])


def reasoned(words: str) -> str:
    """Why a piece of evidence was judged so, as it is recorded; how it names our message is translated."""
    found = _NAMED.fullmatch(words)
    return words if found is None else say("{field} names our message; {why}", field=found[1], why=found[2])


def called(table: Mapping[str, str], word: object) -> str:
    """A word of the ledger in the language that is spoken; one that is not in the table as it is."""
    known = table.get(str(word))
    return str(word) if known is None else say(known) if known else ""
