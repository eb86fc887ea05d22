"""Checks an evidence bundle of kaifu's, and says what it proves. Shipped in each bundle as verify.py.

    python3 -I verify.py BUNDLE.zip [--anchor LINE|FILE]... [--lang en|ja]

BUNDLE.zip may also be the directory that it was unpacked into. Needs nothing but Python 3.8. Reads from top to bottom.

What it proves. A *ledger* is a row of *entries*, written in *batches*. An entry has a *body* (JSON) and *cells* with what is personal;
the body keeps a salted hash of each cell, so that a cell can be left out or erased and the entry still be proven. The bodies of a batch
are the leaves of a Merkle tree (RFC 9162 2.1.1). The *head* of a batch is a hash over the root of its tree and the heads of two earlier
batches, so it binds all that was written before. An *anchor* is a line in which somebody wrote a head down. When a line that was kept
where the owner of the ledger could not change it leads down to an entry, that entry stood in the ledger, in this form, when the line
was made. Take the line from where it was kept, never from who gave you the bundle.

What it does not prove. Without an anchor only that the bundle agrees with itself: whoever owns a ledger can make one anew. Never that
what was recorded is true, nor that the ledger has nothing more about this message.

Whom to believe. Entries are proven by this file alone. What they mean is computed from them by the PARTS, programs beside it in the
bundle; record.json, index.html and reports/ must be what those make, octet by octet. A part is run only if it has the SHA-256 written
down here, and from the octets that were hashed: one that was altered is reported and does not run, so none can touch the verdict. Where
one is missing, this prints the entries, says that the rest was not compared, and does not exit with 0. So this file alone must be
genuine; who doubts the one in the bundle takes it from kaifu of the same version (proxy/bundle_verifier.py). Without -I it
drops the directory it lies in from where modules are found: no file put there (json.py) is taken for one of Python's.

Exit status: 0 proven against an anchor, and the rest compared; 1 something was altered, or does not fit; 2 usage; 3 everything
agrees, but not everything is tied to an anchor; 4 the entries are proven against an anchor, but the rest was not compared.
Used by kaifu itself to seal and to make bundles. Fails with :class:`ProofError`; :func:`check` and :func:`main` on nothing.
"""

from __future__ import annotations

import sys

if __name__ == "__main__" and not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
    del sys.path[0]  # the directory of this file, see above

import argparse
import io
import json
import re
import zipfile
import zlib
from base64 import b64decode, b64encode
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any, Dict, Iterator, NamedTuple, Sequence, Tuple

PARTS = {
    "bundle_facts.py": "74f561c5640d3e37dddcbbb2b7df71ffad2de3c35974a916f83aef863960f39b",
    "bundle_words.py": "d1a3c99f4a607c304cdfd1b1c079525a8a3c1d573098f01de595a1e445f50a9d",
    "bundle_page.py": "2ed597b6858f31c4a60d7e6986628a6e39cc034b24701ce4f1df64f4a5cbe91f",
}  # what tells of the entries, and its SHA-256; each may import those before it
Entry = Tuple[Dict[str, Any], Dict[str, Any]]  # body and cells, by name; a cell is octets or a JSON value


class ProofError(ValueError):
    """A proof that proves nothing; the text says at which point."""


def must(holds: bool, otherwise: str) -> None:
    """ProofError with this text unless something holds."""
    if not holds:
        raise ProofError(otherwise)


# Hashes.
def commitment(name: str, salt: bytes, value: bytes) -> str:
    """What the body of an entry keeps of a cell."""
    return b64encode(sha256(b"kaifu cell 1\0%b%b\0%b" % (salt, name.encode(), value)).digest()).decode("ascii")


def leaf(body: bytes) -> bytes:
    """The leaf of an entry in the tree of its batch."""
    return sha256(b"\0" + body).digest()


def root_above(found: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """The root that a leaf at this place in a tree of this size has with these siblings. ProofError when it cannot be."""
    rest = list(reversed(path))
    while size > 1:
        if index ^ 1 < size:
            must(bool(rest), "the path from the entry to the root of its batch is too short")
            sibling = rest.pop()
            found = sha256(b"\1" + (sibling + found if index & 1 else found + sibling)).digest()
        index, size = index >> 1, size + 1 >> 1
    must(not rest, "the path from the entry to the root of its batch is too long")
    return found


def genesis(ledger: bytes) -> bytes:
    """The head before the first batch of the ledger with this id."""
    return sha256(b"kaifu ledger 1\0" + ledger).digest()


def head_of(batch: int, first: int, last: int, root: bytes, previous: bytes, skipped: bytes) -> bytes:
    """The head of the batch of these entries. ``previous``: that of the batch before; ``skipped``: that of :func:`skip`."""
    numbers = b"%b%b%b" % (batch.to_bytes(8, "big"), first.to_bytes(8, "big"), last.to_bytes(8, "big"))
    return sha256(b"kaifu batch 1\0" + numbers + root + previous + skipped).digest()


def skip(batch: int) -> int:
    """The earlier batch, beside the one before, whose head goes into that of this one: the lowest one bit becomes zero."""
    return batch & (batch - 1)


def way(start: int, end: int) -> Iterator[int]:
    """The batches from ``start`` down to ``end``, both included, by which a proof goes: the head of each is in the one above."""
    while start > end:
        yield start
        start = skip(start) if skip(start) >= end else start - 1
    yield end


# What proof.json must hold.
FORM, MALFORMED = 1, "proof.json is not of the form in which kaifu writes it: something is missing, or of another kind"
FAULTS = (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError)


class Proof:
    """The content of proof.json, all of which follows from one head, that of the newest batch. ProofError when it does not. ``heads``:
    of every batch of which one follows; ``entries``: in order; ``batch_of``: by the number of an entry, that of its batch."""

    def __init__(self, octets: bytes) -> None:
        try:
            must(octets != b"", "proof.json is missing")
            given = json.loads(octets.decode())
            known = type(given["version"]) is int and given["version"] == FORM
            must(known, "proof.json is of a form that this program does not know; take that of the kaifu that made it")
            must(written(given) == octets, "proof.json is not written as kaifu writes it")
            must(set(given) == set("version ledger head anchors batches entries".split()), "proof.json: other fields")
            self.ledger = _octets(given["ledger"], 16)
            self.batches = {_number(each["batch"]): each for each in given["batches"]}
            self.batch_of = {_number(each["entry"]): _number(each["batch"]) for each in given["entries"]}
            starts = [_number(each) for each in given["anchors"]]
            self._check_ways(starts, [each["batch"] for each in given["batches"]])
            self.heads = {starts[-1]: _octets(given["head"], 32), 0: genesis(self.ledger)}
            for batch in sorted(self.batches, reverse=True):
                self._check_batch(batch, self.batches[batch])
            must([each["entry"] for each in given["entries"]] == sorted(self.batch_of), "the entries are not in order")
            self.entries = [self._check_entry(**each) for each in given["entries"]]
        except FAULTS as error:
            raise ProofError(str(error) if isinstance(error, ProofError) else MALFORMED) from None

    def _check_ways(self, starts: list[int], batches: list[int]) -> None:
        """Those batches must be there that lead from the newest to each anchor, and from each anchor to the entries; no others."""
        must(starts != [] and starts == sorted(set(starts)), "proof.json does not name its anchors in order, each once")
        used = {step for start in starts for step in way(starts[-1], start)}
        for entry, batch in self.batch_of.items():
            must(0 < batch <= starts[-1], f"entry {entry} is of batch {batch}, and no anchor is as late as that")
            used.update(step for start in starts if start >= batch for step in way(start, batch))
        must(batches == sorted(used), "proof.json has other batches than those that lead to its entries")

    def _check_batch(self, batch: int, given: Any) -> None:
        """A batch must have the head that those above it say; it says those of two below."""
        must(set(given) == {"batch", "first", "last", "root", "previous", "skip"}, f"batch {batch} has other fields")
        first, last = _number(given["first"]), _number(given["last"])
        root, previous, skipped = (_octets(given[name], 32) for name in ("root", "previous", "skip"))
        fits = head_of(batch, first, last, root, previous, skipped) == self.heads[batch]
        must(fits, f"batch {batch} does not have the head that proof.json leads to")
        for below, head in ((batch - 1, previous), (skip(batch), skipped)):
            must(self.heads.setdefault(below, head) == head, f"batch {below} has two heads")

    def _check_entry(self, entry: int, body: str, cells: dict[str, Any], batch: int, path: Any) -> Entry:
        """An entry must be a leaf of its batch, at the place of its number, and its cells those that it commits to."""
        first, last, values = self.batches[batch]["first"], self.batches[batch]["last"], {}
        must(first <= entry <= last, f"entry {entry} is not among those of its batch, {first} to {last}")
        must(isinstance(path, list), f"entry {entry} has no path to the root of its batch")
        root = root_above(leaf(body.encode()), entry - first, last - first + 1, [_octets(each, 32) for each in path])
        must(root.hex() == self.batches[batch]["root"], f"entry {entry} is not the one that was sealed")
        sealed: dict[str, Any] = json.loads(body)
        must(sealed["n"] == entry, f"the entry says that it is number {sealed['n']}, not {entry}")
        for name, cell in cells.items():
            salt, value = bytes.fromhex(cell["salt"]), b64decode(cell["octets"]) if "octets" in cell else cell["text"]
            commits = commitment(name, salt, value if isinstance(value, bytes) else value.encode())
            same = cell == shown_cell(salt, value) and sealed["cells"][name] == commits
            must(same, f"the cell {name} of entry {entry} is not the one that it was sealed with")
            values[name] = value if isinstance(value, bytes) else json.loads(value)
        return sealed, values

    def under(self, anchor: Anchor) -> set[int]:
        """The entries to which these batches lead from an anchor of this ledger. ProofError when something here contradicts it."""
        last = self.batches.get(anchor.batch, {"last": anchor.last})["last"]
        fits = self.heads.get(anchor.batch, anchor.head) == anchor.head and last == anchor.last
        other = f"the anchor of batch {anchor.batch} ({anchor.at}) has another head"
        must(fits, f"{other}: the ledger was rewritten, or the anchor is false")
        below = {entry: batch for entry, batch in self.batch_of.items() if batch <= anchor.batch in self.heads}
        return {entry for entry in below if all(step in self.batches for step in way(anchor.batch, below[entry]))}


def shown_cell(salt: bytes, value: str | bytes) -> dict[str, str]:
    """A cell as a proof shows it; ``value`` as it is stored: octets, or a JSON text."""
    kind, text = ("octets", b64encode(value).decode()) if isinstance(value, bytes) else ("text", value)
    return {"salt": salt.hex(), kind: text}


def _octets(text: str, length: int) -> bytes:
    found = bytes.fromhex(text)
    must(len(found) == length and found.hex() == text, f"a value of proof.json is not {length} octets in hexadecimal")
    return found


def _number(value: Any) -> int:
    must(type(value) is int and 0 <= value < 1 << 63, "a number of proof.json is none")
    return int(value)


# Anchors.
_LINE = re.compile(
    r"kaifu-anchor ([0-9]{1,3}) ([0-9a-f]{32}) ([1-9][0-9]{0,18}) ([1-9][0-9]{0,18}) ([0-9a-f]{64})"
    r" ([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}(?:\.[0-9]{1,6})?Z)"
)


class Anchor(NamedTuple):
    """One anchor. ``last``: the last entry of the batch; ``at``: when it was made, as text."""

    ledger: bytes
    batch: int
    last: int
    head: bytes
    at: str

    def __str__(self) -> str:
        return f"kaifu-anchor 1 {self.ledger.hex()} {self.batch} {self.last} {self.head.hex()} {self.at}"


def anchor_of(line: str) -> Anchor:
    """An anchor from its line. ValueError says what is wrong with it."""
    found = _LINE.fullmatch(line.strip())
    if found is None:
        raise ValueError("this is no anchor; one looks like kaifu-anchor 1 LEDGER BATCH LAST HEAD TIME")
    version, ledger, batch, last, head, at = found.groups()
    if version != "1":
        raise ValueError("this anchor is of a newer form than this version knows")
    if int(batch) > int(last) or int(last) >= 1 << 63:
        raise ValueError("this anchor contradicts itself: a batch has at least one entry")
    return Anchor(bytes.fromhex(ledger), int(batch), int(last), bytes.fromhex(head), at)


def anchors_in(text: str) -> list[Anchor]:
    """All anchors of a file, at least one. ValueError names the line."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                found.append(anchor_of(line))
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None
    if not found:
        raise ValueError("there is no anchor in it")
    return found


# The whole bundle.
PROOF, PROGRAM = "proof.json", "verify.py"
MOST_OCTETS = 256 << 20  # of an archive, and of all members together


class Checked(NamedTuple):
    """``problems``: what does not hold. ``proof``: None when it does not, or not with an anchor. ``needed``: entries that an anchor must
    prove; ``covered``: those that one does; ``holding``: anchors that hold. ``record``: what the bundle tells, compared by ``page``, the
    last of the parts; None when it was not compared, for want of what is ``missing``, or is false."""

    problems: list[str]
    proof: Proof | None = None
    needed: Sequence[int] = ()
    covered: Sequence[int] = ()
    holding: Sequence[Anchor] = ()
    missing: Sequence[str] = ()
    record: Any = None
    page: Any = None


def check(members: dict[str, bytes], anchors: Sequence[Anchor] = (), program: bytes | None = None) -> Checked:
    """Check a bundle's members against one another and against anchors. ``program``: what verify.py must be."""
    try:
        proof = Proof(members.get(PROOF, b""))
        ours = [each for each in anchors if each.ledger == proof.ledger]
        must(bool(ours) or not anchors, "the anchor is of another ledger")
        covered = sorted({entry for each in ours for entry in proof.under(each)})
    except ProofError as error:
        return Checked([str(error)])
    holding = [each for each in ours if each.batch in proof.heads]
    # That an anchor was sent is written after it, and only tells where to look for one.
    needed = [body["n"] for body, _ in proof.entries if body.get("kind") != "anchored"]
    known = PARTS if program is None else {**PARTS, PROGRAM: sha256(program).hexdigest()}
    missing = [name for name in PARTS if name not in members]
    there = {each: sha256(members.get(each, b"")).hexdigest() for each in known if each not in missing}
    wrong = [each for each in there if there[each] != known[each]]
    problems = [f"{each} is not the one known here, and was not run: altered, or of another version" for each in wrong]
    found = Checked(problems, proof, needed, covered, holding, missing)
    if problems or missing:
        return found
    page = _run(*(members[name] for name in PARTS))
    rest = {name: octets for name, octets in members.items() if name not in (PROOF, PROGRAM, *PARTS)}
    record, problems = page.compare(rest, proof.ledger.hex(), proof.entries)
    return found._replace(problems=problems, record=record, page=page)


@lru_cache(maxsize=1)
def _run(*sources: bytes) -> Any:
    """The parts as modules of one package, the last of which is returned. Only for octets whose SHA-256 is known."""
    package = "kaifu_bundle"
    sys.modules.update({package: ModuleType(package), f"{package}.bundle_verifier": sys.modules[__name__]})
    for name, source in zip(PARTS, sources):
        module = ModuleType(f"{package}.{name[:-3]}")
        module.__package__ = package
        sys.modules[module.__name__] = module
        exec(compile(source, name, "exec", dont_inherit=True), module.__dict__)  # noqa: S102
    return module


def written(value: object) -> bytes:
    """A JSON file of a bundle; there is one way to write it."""
    return (json.dumps(value, ensure_ascii=False, sort_keys=True, indent=1) + "\n").encode()


def load(path: str) -> tuple[dict[str, bytes], str]:
    """The members of a bundle, and the SHA-256 of the zip; of a directory that it was unpacked into, none. ProofError or OSError."""
    large = "the bundle is larger than any that kaifu makes"
    if Path(path).is_dir():
        files = [each for each in Path(path).rglob("*") if not each.is_dir()]
        for each in files:
            must(each.is_file(), f"{each} is no file")
        must(sum(each.stat().st_size for each in files) <= MOST_OCTETS, large)
        return {each.relative_to(path).as_posix(): each.read_bytes() for each in files}, ""
    with open(path, "rb") as stream:
        octets = stream.read(MOST_OCTETS + 1)
    try:
        with zipfile.ZipFile(io.BytesIO(octets)) as archive:
            listed = archive.infolist()
            must(len({each.filename for each in listed}) == len(listed), "the archive has a member twice")
            must(max(len(octets), sum(each.file_size for each in listed)) <= MOST_OCTETS, large)
            members = {each.filename: archive.open(each).read(each.file_size) for each in listed}
            return members, sha256(octets).hexdigest()
    # NotImplementedError: how zipfile says that it does not know a member's compression.
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError, zlib.error, *FAULTS) as error:
        raise ProofError(f"the archive cannot be read: {error}") from None


# The command.
def visible(text: object) -> str:
    """A text on one line, with control characters and such spelled out."""
    return "".join(c if c.isprintable() or c == "\u3000" else f"\\x{ord(c):02x}" for c in str(text))


def report(found: Checked, anchored: bool, language: str | None = "en", digest: str = "") -> tuple[int, list[str]]:
    """Exit status and lines of text about a bundle that was checked; the parts, if they are genuine, tell all at length."""
    if found.problems or found.proof is None:
        still = ["The entries of proof.json agree all the same; it is the rest that is false."] if found.proof else []
        lines = ["NOT PROVEN: something was altered, or does not fit.", *map("  {}".format, found.problems), *still]
        return 1, [visible(line) for line in lines]
    rest = [entry for entry in found.needed if entry not in found.covered]
    if not found.missing:
        return 3 if rest else 0, found.page.told(found, rest, anchored, language, digest)
    lines = [f"entry {body['n']}: {body} {cells}" for body, cells in found.proof.entries]
    lines += [f"PROVEN against the anchor: the entries {found.covered}."] if found.covered else []
    lines += [f"NOT PROVEN, for want of an anchor that covers them: the entries {rest}."] if rest else []
    lines += [f"NOT COMPARED, for want of {', '.join(found.missing)}: record.json, index.html and reports/."]
    return 3 if rest else 4, [
        visible(line) for line in [*lines, "They may say anything; rely on the entries above alone."]
    ]


def _given(text: str) -> list[Anchor]:
    try:
        line = text.lstrip().startswith("kaifu-anchor")
        return [anchor_of(text)] if line else anchors_in(Path(text).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{visible(text)}: {visible(error)}") from None


def main(words: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(description="Checks an evidence bundle of kaifu's, and says what it proves.")
    parser.add_argument("bundle", metavar="BUNDLE", help="the zip, or the directory that it was unpacked into")
    parser.add_argument("--anchor", action="append", type=_given, default=[], metavar="LINE|FILE")
    parser.add_argument("--lang", choices=("en", "ja"))
    options = parser.parse_args(words)
    anchors = [anchor for some in options.anchor for anchor in some]
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        members, digest = load(options.bundle)
        found = check(members, anchors, Path(__file__).read_bytes())
    except ProofError as error:
        found, digest = Checked([str(error)]), ""
    except OSError as error:
        print(f"{visible(options.bundle)}: {error.strerror or error}", file=sys.stderr)
        return 2
    status, lines = report(found, bool(anchors), options.lang, digest)
    print("\n".join(lines))
    return status


if __name__ == "__main__":
    sys.exit(main())
