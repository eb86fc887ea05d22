"""What plays a transcript (:mod:`tests.session_transcript`) against an installed relay and a scripted next hop.

Each transcript gets a relay, a next hop, a directory and a ledger of its own. Everything waits with a bound; what fails says
which line, what was said by whom until then, and what the relay logged.
"""

from __future__ import annotations

import re
import signal
import textwrap
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from tests.logged_process import END
from tests.session_next_hop import NextHop, joined, poll
from tests.session_relay import KEEP, Client, Relay, merged, server_context
from tests.session_transcript import Step, Transcript, line_pattern, octets

_RECEIVED = re.compile(
    rb"Received: from (?P<from>\S+) \((?:[^()\s]+ )?\[(?:IPv6:)?[0-9a-fA-F.:]+\]\)"
    rb"\s+by (?P<by>\S+)(?: \([^()]*\))?\s+with (?P<with>[A-Z0-9]+)\s+id (?P<id>[^\s;]+);"
    rb"\s+(?:[A-Z][a-z]{2}, )?\d{1,2} [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d [+-]\d{4}(?: \([A-Z]+\))?\r\n"
)


def _shown(data: bytes) -> str:
    text = data.decode("utf-8", "backslashreplace").replace("\\", "\\\\").replace("\r\n", "\\r\\n\n        ")
    text = "".join(c if c in "\n" or c.isprintable() else f"\\x{ord(c):02x}" for c in text).rstrip("\n ")
    return text if len(text) < 3000 else f"{text[:2000]} … {len(text) - 2500} more … {text[-500:]}"


class Play:
    """One transcript being played against a relay and a next hop of its own."""

    def __init__(self, transcript: Transcript, directory: Path, certificate: Callable[[], tuple[Path, Path]]) -> None:
        self.transcript = transcript
        given = transcript.given
        tls = given.get("tls", "none")
        self.next_hop = NextHop(server_context(certificate()) if tls != "none" else None, implicit=tls == "implicit")
        self.next_hop.offers = given.get("next_hop", self.next_hop.offers)
        self.next_hop.told = self.note
        settings = given.get("settings", {})
        if given.get("trust"):
            settings = merged(settings, {"relay": {"tls": {"ca": str(certificate()[0])}}})
        if given.get("certificate"):
            files = dict(zip(("certificate", "key"), map(str, certificate()), strict=True))
            settings = merged(settings, {"relay": {"tls": files}})
        policy = given.get("policy", KEEP)
        text = policy if isinstance(policy, str) else yaml.safe_dump(policy, allow_unicode=True, sort_keys=False)
        self.relay = Relay(directory, self.next_hop.port, text, settings)
        self.clients: dict[str, Client] = {}
        self.conversation: list[str] = []
        self.names: dict[str, int] = {}
        self.commands = self.transactions = self.logged = 0
        self.slowly = False

    def note(self, who: str, data: bytes) -> None:
        """Keep what was said, for the day when somebody must find out what went wrong."""
        self.conversation.append(f"    {who:4}{_shown(data)}")

    def run(self) -> None:
        """Play it all; :class:`AssertionError` tells line, conversation and log."""
        __tracebackhide__ = True
        step = Step(0, "", "", "")
        try:
            self.relay.start()
            for step in self.transcript.steps:
                self.play(step)
            step = Step(0, "", "", "at the end")
            self.finish()
        except (AssertionError, OSError) as error:
            where = f"{self.transcript.file.name}:{step.number}: {step.who}{step.how} {step.text[:200]}"
            said, log = "\n".join(self.conversation), "\n    ".join(self.relay.log)
            problem = f"{self.transcript.title}\n{where}\n{error}\nWhat was said:\n{said}\nThe relay's log:\n    {log}"
            raise AssertionError(problem) from None
        finally:
            for one in self.clients.values():
                one.close()
            self.relay.kill()
            self.next_hop.stop()

    def play(self, step: Step) -> None:
        """Play one step."""
        if step.how == "!":
            return  # looked at when all is over
        if step.who == "LOG":
            self.logs(step.text)
        elif step.who == "L":
            self.ledger_has(step.text)
        elif step.who == "X":
            self.happens(step.text, textwrap.dedent(step.more))
        elif step.who[:1] == "C":
            self.client_sends(self.client(step.who), step.who, octets(step.text))
        elif step.who[:1] == "S":
            self.relay_replies("C" + step.who[1:], step.text)
        elif step.how == "<":
            self.next_hop_is_told(step.text, step.who[1:])
        elif step.how == ">":
            self.next_hop.release(self._reply(step.text), self.names.get(step.who[1:]))
        elif step.how == "=":
            self.next_hop_has(step.text, step.who[1:])
        elif step.how == ":":
            self.next_hop_does(step.text)

    # The client's side

    def client(self, who: str) -> Client:
        if who not in self.clients:
            self.clients[who] = Client(self.relay.port)
            greeting = self.clients[who].reply()
            self.note(f"{who}<", "\r\n".join(greeting).encode())
            assert greeting[0].startswith("220 "), f"the relay greets with {greeting}"
        return self.clients[who]

    def client_sends(self, client: Client, who: str, data: bytes) -> None:
        self.note(f"{who}>", data)
        if not self.slowly:
            client.send(data)
            return
        for i in range(len(data)):
            client.send(data[i : i + 1])
            client.wait_until_read()

    def relay_replies(self, who: str, text: str) -> None:
        client = self.clients[who] if who in self.clients else self.client(who)
        if text == "(closed)":
            assert client.has_hung_up(), f"the relay says {client.buffer!r}, it should hang up"
            return
        if text == "(silent)":
            assert not client.waiting(), f"the relay says {client.buffer!r} already"
            return
        reply = client.reply()
        self.note(f"{who}<", "\r\n".join(reply).encode())
        if text.startswith("250 offers"):
            self._offers(reply, text.removeprefix("250 offers"))
            return
        expected = text.split("\n")
        fits = len(reply) == len(expected) and all(
            line_pattern(e).fullmatch(r.encode()) for e, r in zip(expected, reply, strict=True)
        )
        assert fits, f"the relay replies {reply}"

    @staticmethod
    def _offers(reply: list[str], text: str) -> None:
        assert all(line.startswith("250") for line in reply), f"the relay replies {reply}"
        got = {line[4:] for line in reply[1:]}
        expected = {keyword.strip() for keyword in text.split(",") if keyword.strip()}
        open_end = "…" in expected
        expected.discard("…")
        fits = expected <= got if open_end else got == expected
        assert fits, f"it offers {sorted(got)}: too many {sorted(got - expected)}, missing {sorted(expected - got)}"

    # The next hop's side

    @staticmethod
    def _reply(text: str) -> bytes:
        return octets(text).replace(b" // ", b"\r\n")

    def next_hop_does(self, text: str) -> None:
        """``offers A, B``; ``as usual``; ``stops``, ``starts``, ``hangs up``; and what happens at the next (or ``always on``: every)
        command that begins so, at ``connect``, ``body`` (the first octets of a message have come) or ``dot``: ``on MAIL answer
        421 4.3.2 Bye then close``, ``on dot hold``, ``on RCPT close``, ``on DATA reset``, ``on MAIL send "25" then close``. Lines of
        one reply are parted by `` // ``.
        """
        if text.startswith("offers"):
            self.next_hop.offers = [
                keyword.strip() for keyword in text.removeprefix("offers").split(",") if keyword.strip()
            ]
        elif simple := {
            "as usual": self.next_hop.rules.clear,
            "stops": self.next_hop.stop, "starts": self.next_hop.start, "hangs up": self.next_hop.hang_up
        }.get(text):  # fmt: skip
            simple()
        else:
            found = re.fullmatch(
                r"(always )?on (.+?) (answer|hold|send|close|reset)(?: (?!then )(.*?))?(?: then (close|reset))?", text
            )
            if found is None:
                raise ValueError(f"the next hop does not know how to: {text}")
            argument = (found[4] or "").strip('"') if found[3] == "send" else found[4] or ""
            act, then = found[3], found[5]
            self.next_hop.on(found[2], act, self._reply(argument), then, bool(found[1]))  # type: ignore[arg-type]

    def next_hop_is_told(self, text: str, name: str) -> None:
        fits = line_pattern(text)

        def found() -> int | None:
            commands = enumerate(self.next_hop.commands[self.commands :], self.commands)
            return next((i for i, c in commands if fits.fullmatch(c.line) and self._is(name, c.connection)), None)

        self.next_hop.wait(lambda: found() is not None, f"the next hop to be told {text}")
        index = found()
        assert index is not None
        self.commands = index + 1
        self.current = self.next_hop.commands[index]
        if name:
            self.names.setdefault(name, self.current.connection)

    def _is(self, name: str, connection: int) -> bool:
        """Is this the connection of that name, or can it become so? A connection has one name."""
        if not name or name in self.names:
            return self.names.get(name, connection) == connection
        return connection not in self.names.values()

    def next_hop_has(self, text: str, name: str) -> None:
        self.transactions += 1
        got = self.next_hop.wait_for_messages(self.transactions)[-1]
        assert self._is(name, got.connection), (
            f"it came on connection {got.connection}, {name} is {self.names.get(name)}"
        )
        if name:
            self.names.setdefault(name, got.connection)
        lines = text.split("\n")
        start = lines.index("DATA") + 1
        commands = [got.mail, *got.recipients, b"DATA"]
        fits = len(commands) == start and all(
            line_pattern(w).fullmatch(c) for w, c in zip(lines, commands, strict=False)
        )
        assert fits, f"the next hop was given {commands}"
        ours = next(i for i, line in enumerate(lines) if line.startswith("{received"))
        before = joined(octets(line) for line in lines[start:ours])
        self._same(before, got.data[: len(before)])
        data = got.data[len(before) :]
        field = self._received(data, lines[ours].strip("{}").split()[1:])
        self._same(joined(octets(line) for line in lines[ours + 1 :]), data[len(field) :])

    def _received(self, data: bytes, asked: list[str]) -> bytes:
        """Our field, checked: one, first, well formed, without recipients; ``{received with ESMTPSA from name}``."""
        found = _RECEIVED.match(data)
        assert found is not None, f"no Received field of ours comes first:\n{_shown(data[:600])}"
        wanted = {"from": "client.example", "by": "relay.example.co.jp", "with": "ESMTP"}
        wanted |= dict(zip(asked[::2], asked[1::2], strict=True))
        for word, value in wanted.items():
            assert found[word].decode() == value, f"{found[0]!r} says {word} {found[word].decode()}, not {value}"
        return found[0]

    @staticmethod
    def _same(wanted: bytes, got: bytes) -> None:
        if wanted == got:
            return
        i = next((i for i, (a, b) in enumerate(zip(wanted, got, strict=False)) if a != b), min(len(wanted), len(got)))
        start = max(0, i - 60)
        raise AssertionError(
            f"from octet {i} on the next hop has\n    {got[start : i + 100]!r}\nand not\n    {wanted[start : i + 100]!r}"
        )

    # Ledger, log, and what else happens

    def ledger_has(self, text: str) -> None:
        expected = [yaml.safe_load(line) for line in text.split("\n")] if text != "none" else []
        rows: list[dict[str, Any]] = []

        def so() -> bool:
            rows[:] = self.relay.receipts()
            left = list(rows)
            for wanted in expected:
                row = next((r for r in left if all(r.get(k) == v for k, v in wanted.items())), None)
                if row is None:
                    return False
                left.remove(row)
            return not left

        try:
            poll(so, "the ledger to say so", every=0.1)
        except AssertionError as error:
            raise AssertionError(f"{error}; it has\n    " + "\n    ".join(map(str, rows))) from None

    def logs(self, text: str) -> None:
        line = self.relay.wait_for_log(text, self.logged)
        self.logged = self.relay.log.index(line, self.logged) + 1

    def happens(self, text: str, more: str) -> None:
        """Everything else, in words: the forms below and the keys of :meth:`_events`."""
        if found := re.fullmatch(r"(C\d?) connects(?: to listener (\d))?( with TLS)?", text):
            self.clients[found[1]] = Client(self.relay.ports[int(found[2] or 1) - 1])
            if found[3]:
                self.clients[found[1]].start_tls()
        elif found := re.fullmatch(r"(C\d?) sends a line every (\S+) seconds, (\d+) times: (.*)", text):
            for _ in range(int(found[3])):
                self.client_sends(self.client(found[1]), found[1], octets(found[4]) + b"\r\n")
                self._time_passes(float(found[2]))
        elif found := re.fullmatch(r"(\S+) seconds pass", text):
            self._time_passes(float(found[1]))
        elif found := re.fullmatch(r"the relay hangs up on (C\d?)", text):
            self.clients[found[1]].is_cut_off()
        elif found := re.fullmatch(r"(C\d?) (.*)", text):
            one = self.clients[found[1]]
            acts = {
                "half-closes": one.half_close, "resets": one.reset, "closes": one.close, "starts TLS": one.start_tls,
                "waits until all is read": one.wait_until_read,
            }  # fmt: skip
            acts[found[2]]()
        else:
            self._events(more)[text]()

    def _events(self, more: str) -> dict[str, Callable[[], object]]:
        relay, hop = self.relay, self.next_hop
        return {
            "clients send octet by octet": lambda: setattr(self, "slowly", True),
            "clients send as usual": lambda: setattr(self, "slowly", False),
            "the relay is told to stop": relay.signal,
            "the relay has stopped": self._stopped,
            "the relay is killed": relay.kill,
            "the relay starts again": relay.start,
            "the relay gets SIGHUP": lambda: relay.signal(signal.SIGHUP),
            "the policy becomes": lambda: relay.policy.write_text(more, encoding="utf-8"),
            "the policy is deleted": relay.policy.unlink,
            "the next hop's transaction is abandoned": lambda: hop.wait(
                lambda: hop.abandoned and not any(p.in_data for p in hop._peers.values()),
                "the transaction to be abandoned",
            ),
            "the relay reads that": hop.wait_until_read,
            "the next hop was told that in TLS": self._encrypted,
            "the next hop was told that in clear": lambda: self._encrypted(False),
        }

    @staticmethod
    def _time_passes(seconds: float) -> None:
        """For transcripts about time itself; nothing else waits this way."""
        with suppress(AssertionError):
            poll(lambda: False, "time to pass", seconds, every=seconds)

    def _stopped(self) -> None:
        status = self.relay.wait()
        assert status == 0, f"the relay ended with {status}"

    def _encrypted(self, wanted: bool = True) -> None:
        assert self.current.encrypted is wanted, f"{self.current} is not as wanted"

    def finish(self) -> None:
        """Nothing may be left over: no reply, no transaction, no forbidden command, no exception in the log."""
        for who, one in self.clients.items():
            if one.sock.fileno() >= 0:
                assert not one.waiting(), f"{who} was sent {one.buffer!r} besides"
                one.close()
        if self.relay.log and self.relay.log[-1] != END:
            self.relay.stop()
        self.relay.no_traceback()
        more = self.next_hop.transactions[self.transactions :]
        assert not more, "the next hop has also\n" + "\n".join(
            _shown(joined([t.mail, *t.recipients, b"DATA"]) + t.data) for t in more
        )
        for step in self.transcript.steps:
            if step.how == "!":
                logged = [line.encode() for line in self.relay.log]
                told = logged if step.who == "LOG" else [command.line for command in self.next_hop.commands]
                bad = [line for line in told if line_pattern(step.text).fullmatch(line)]
                assert not bad, f"{step.who}! {step.text}: there is {bad[0]!r}"
