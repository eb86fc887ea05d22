"""Every SMTP reply and enhanced status code that kaifu itself gives, in one table (RFC 5321, RFC 3463).

Replies of the next hop are passed on as they came and are not listed here. A reply names what happened and, where
a person can do something about it, what; it never carries internals, and never another recipient's address
except to the client that named it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply. ``code``: three digits. ``enhanced``: RFC 3463, or empty for the replies that have none."""

    code: int
    enhanced: str
    text: str

    def octets(self) -> bytes:
        """The reply as it goes over the wire."""
        status = f"{self.enhanced} " if self.enhanced else ""
        return f"{self.code} {status}{self.text}\r\n".encode("ascii", "replace")

    def saying(self, text: str) -> Reply:
        """The same code with another text (one line; what is not ASCII is replaced)."""
        return replace(self, text=" ".join(text.split()))

    def __str__(self) -> str:
        return f"{self.code} {self.enhanced} {self.text}".replace("  ", " ")


class ReplyError(Exception):
    """Ends the current command with ``reply``; ``cause`` is for the log; ``close`` ends the session too."""

    def __init__(self, reply: Reply, cause: str = "", *, close: bool = False) -> None:
        super().__init__(cause or reply.text)
        self.reply = reply
        self.cause = cause or reply.text
        self.close = close


OK = Reply(250, "2.0.0", "Ok")
WITHHELD = Reply(250, "2.0.0", "Ok: recorded, and withheld by policy")
ALREADY_TAKEN = Reply(250, "2.0.0", "Ok: every recipient has this message already")
BYE = Reply(221, "2.0.0", "Bye")
START_TLS = Reply(220, "2.0.0", "Ready to start TLS")
START_DATA = Reply(354, "", "End data with <CR><LF>.<CR><LF>")
CANNOT_VERIFY = Reply(252, "2.5.0", "Cannot VRFY user, but will take the message and try to deliver it")
HELP = Reply(214, "2.0.0", "See RFC 5321; this relay applies a read-receipt policy")

NO_NEXT_HOP = Reply(421, "4.3.2", "The mail system behind this relay cannot be reached; try again later")
STOPPING = Reply(421, "4.3.2", "Service is stopping; try again later")
TOO_MANY_CONNECTIONS = Reply(421, "4.7.0", "Too many connections; try again later")
TOO_MANY_ERRORS = Reply(421, "4.7.0", "Too many errors")
IDLE = Reply(421, "4.4.2", "Timeout waiting for the client")

NEXT_HOP_LOST = Reply(451, "4.4.2", "Lost the connection to the mail system behind this relay; try again later")
NEXT_HOP_SILENT = Reply(451, "4.4.2", "The mail system behind this relay does not answer; try again later")
NEXT_HOP_CONFUSED = Reply(451, "4.3.0", "The mail system behind this relay gave an unexpected answer; try again later")
NEXT_HOP_CHANGED = Reply(451, "4.3.0", "The mail system behind this relay no longer offers what this message needs")
LEDGER_FAILED = Reply(451, "4.3.0", "The receipt ledger cannot be written now; try again later")
OURS_FAILED = Reply(451, "4.3.0", "Local error in processing; try again later")
NO_SPACE = Reply(452, "4.3.1", "Insufficient temporary storage; try again later")
TOO_MANY_RECIPIENTS = Reply(452, "4.5.3", "Too many recipients; send the rest in another transaction")

COMMAND_TOO_LONG = Reply(500, "5.5.2", "Line too long")
UNKNOWN_COMMAND = Reply(500, "5.5.2", "Command not recognized")
SYNTAX = Reply(501, "5.5.4", "Syntax error in parameters")
NOT_HERE = Reply(502, "5.5.1", "Command not implemented")
UNKNOWN_MECHANISM = Reply(504, "5.5.4", "Unrecognized authentication type")
BAD_SEQUENCE = Reply(503, "5.5.1", "Bad sequence of commands")
HELLO_FIRST = Reply(503, "5.5.1", "Send HELO or EHLO first")
NESTED_MAIL = Reply(503, "5.5.1", "Nested MAIL command")
NEED_MAIL = Reply(503, "5.5.1", "Need MAIL command first")
ALREADY_AUTHENTICATED = Reply(503, "5.5.1", "Already authenticated")
ALREADY_TLS = Reply(503, "5.5.1", "TLS is already active")
BARE_LINE_END = Reply(521, "5.5.2", "Bare CR or LF in the message is not allowed; lines must end with CR LF")
AUTH_REQUIRED = Reply(530, "5.7.0", "Authentication required")
AUTH_NEEDS_TLS = Reply(538, "5.7.11", "Encryption required for authentication")
RELAY_DENIED = Reply(554, "5.7.1", "Relay access denied")
REJECTED = Reply(550, "5.7.1", "Refused by policy")
HEADER_TOO_LARGE = Reply(552, "5.3.4", "Header section too large")
NEEDS_SMTPUTF8 = Reply(553, "5.6.7", "This address needs SMTPUTF8")
NO_VALID_RECIPIENTS = Reply(554, "5.5.1", "No valid recipients")
TOO_MANY_HOPS = Reply(554, "5.4.6", "Too many hops: the message has too many Received fields")
SOME_REFUSED = Reply(554, "5.0.0", "Refused for some recipients")
UNSUPPORTED_PARAMETER = Reply(555, "5.5.4", "Parameter not supported")
