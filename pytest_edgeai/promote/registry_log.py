"""The log of a registry: one JSON line for each promotion and rollback, chained by their digests.

A line is only ever added. Each names the digest of the line before it, so that a line that was
changed, taken out or put in is found by whoever reads on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Literal, NamedTuple, TypeAlias, cast

from pytest_edgeai.errors import EdgeAIError

NO_PARENT = "0" * 64
Pair: TypeAlias = tuple[str, str]
"""A model and a target."""


class Damaged(EdgeAIError):
    """A registry that was changed by something else than this package, or by a failing disk."""


class Entry(NamedTuple):
    """One line; a tuple, because ten thousand of them are made to list a registry.

    Attributes:
        sequence: its number, from 1.
        time: ISO 8601, with the offset from UTC.
        action: what was done.
        model: the model.
        target: the target.
        candidate: id of what is current since.
        bundle: digest of the bundle that is current since.
        replaced: digest of the bundle that was; ``None`` where there was none.
        keyid: the key that signed the current bundle.
        expires: when its certificate expires.
        parent: hex SHA-256 of the line before; zeros for the first.
    """

    sequence: int
    time: str
    action: Literal["promote", "rollback"]
    model: str
    target: str
    candidate: str
    bundle: str
    replaced: str | None
    keyid: str
    expires: str
    parent: str

    @property
    def pair(self) -> Pair:
        """What it is about."""
        return self.model, self.target


class Place(NamedTuple):
    """Where an entry stands in the log.

    Attributes:
        sequence: its number; 0 for none.
        bundle: digest of the bundle that is current since.
        sha256: digest of its line; empty where that is unknown.
    """

    sequence: int
    bundle: str
    sha256: str

    def agrees_with(self, other: Place) -> bool:
        """Return whether both may be the same entry."""
        same = self.sequence == other.sequence and self.bundle == other.bundle
        return same and (not self.sha256 or not other.sha256 or self.sha256 == other.sha256)


NOWHERE = Place(0, "", "")


class Log(NamedTuple):
    """The lines of a log that are whole; a tuple, because ``dataclasses`` takes long to import.

    Attributes:
        entries: in their order.
        size_bytes: size of the whole lines, line feeds included.
        last_bytes: size of the last of them.
        last_sha256: digest of the last line; zeros where there is none.
    """

    entries: Sequence[Entry]
    size_bytes: int
    last_bytes: int
    last_sha256: str

    def sha256_of(self, sequence: int) -> str:
        """Return the digest of the line of an entry, which the line after it names."""
        if sequence == len(self.entries):
            return self.last_sha256
        return self.entries[sequence].parent

    def last_of(self, pair: Pair) -> Place:
        """Return the last entry about a model and target."""
        found = last_sequence(self.entries, pair)
        return self.place_of(self.entries[found - 1]) if found else NOWHERE

    def place_of(self, entry: Entry) -> Place:
        """Return where one of the entries stands."""
        return Place(entry.sequence, entry.bundle, self.sha256_of(entry.sequence))

    def without_last(self) -> Log:
        """Return the log before its last entry, which can be done once."""
        last = self.entries[-1]
        return Log(self.entries[:-1], self.size_bytes - self.last_bytes, 0, last.parent)


def last_sequence(entries: Sequence[Entry], pair: Pair) -> int:
    """Return the number of the last entry about a model and target; 0 without one."""
    return next((e.sequence for e in reversed(entries) if e.pair == pair), 0)


def render_entry(entry: Entry) -> bytes:
    """Return the line of an entry, its line feed included."""
    return json.dumps(entry._asdict(), separators=(",", ":")).encode("ascii") + b"\n"


def digest_of(entry: Entry) -> str:
    """Return the hex SHA-256 of the line of an entry, without its line feed."""
    return sha256(render_entry(entry)[:-1]).hexdigest()


def parse_log(content: bytes, where: str) -> Log:
    """Return the whole lines of a log; one that a dying process did not finish does not count.

    Args:
        content: the file.
        where: the file, for errors.

    Raises:
        Damaged: a line does not follow from the one before it, or cannot be understood.
    """
    lines = content.split(b"\n")[:-1]
    entries = _plain_entries(content, len(lines))
    if entries is None:
        entries = _decoded_entries(lines, where)
    digests = [sha256(line).hexdigest() for line in lines]
    parents = [NO_PARENT, *digests]
    for number, (entry, parent) in enumerate(zip(entries, parents, strict=False), start=1):
        if entry is None or entry.parent != parent or entry.sequence != number:
            raise Damaged(f"{where} is damaged: line {number} does not follow from the one before")
    if len(entries) != len(lines):
        raise Damaged(f"{where} is damaged: {len(lines)} lines hold {len(entries)} entries")
    last_bytes = len(lines[-1]) + 1 if lines else 0
    size_bytes = content.rfind(b"\n") + 1
    return Log(cast("list[Entry]", entries), size_bytes, last_bytes, parents[-1])


def _plain_entries(content: bytes, count: int) -> Sequence[Entry | None] | None:
    """Return the entries of lines as :func:`render_entry` writes them, where none has an escape.

    One pattern over the whole file takes half the time that decoding its JSON takes.

    Returns:
        ``None`` where any line is different, and has to be decoded.
    """
    text = r'"([^"\\\x00-\x1f]*)"'
    patterns = {"sequence": "([1-9][0-9]{0,17})", "replaced": f"(?:null|{text.replace('*', '+')})"}
    members = ",".join(f'"{name}":{patterns.get(name, text)}' for name in Entry._fields)
    try:
        rows = re.findall(f"^{{{members}}}\n", content.decode("ascii"), re.MULTILINE)
    except UnicodeDecodeError:
        return None
    if len(rows) != count:
        return None
    new, kind = tuple.__new__, Entry
    return [
        new(kind, (int(a), b, c, d, e, f, g, h or None, i, j, k))
        for a, b, c, d, e, f, g, h, i, j, k in rows
    ]


def _decoded_entries(lines: Sequence[bytes], where: str) -> Sequence[Entry | None]:
    """Return the entries of lines in any JSON; ``None`` for one that holds something else."""
    try:
        rows = json.loads(b"[" + b",".join(lines) + b"]")
    except (ValueError, RecursionError):
        raise Damaged(f"{where} is damaged: line {_first_broken(lines)} is no JSON") from None
    return [entry_of(row) for row in rows]


def entry_of(fields: object) -> Entry | None:
    """Return the entry of its fields by name, in their order; ``None`` where it is none."""
    if not isinstance(fields, dict) or tuple(fields) != Entry._fields:
        return None
    entry = Entry._make(fields.values())
    texts = entry[1:7] + entry[8:]
    right = type(entry.sequence) is int and all(type(each) is str for each in texts)
    return entry if right and type(entry.replaced) in (str, type(None)) else None


def _first_broken(lines: Iterable[bytes]) -> int:
    for number, line in enumerate(lines, start=1):
        try:
            json.loads(line)
        except (ValueError, RecursionError):
            return number
    return 0


def parse_head(content: bytes, where: str) -> tuple[Entry, str]:
    """Return the entry of a file of one line, and the digest of the line.

    Raises:
        Damaged: it is none.
    """
    line = content.removesuffix(b"\n")
    try:
        entry = entry_of(json.loads(line))
    except (ValueError, RecursionError):
        entry = None
    if entry is None or entry.sequence < 1:
        raise Damaged(f"{where} is damaged: it holds no line of the log")
    return entry, sha256(line).hexdigest()


def replay(entries: Iterable[Entry], where: str) -> Mapping[Pair, Sequence[Entry]]:
    """Return, for each model and target, the entries that made what stands, the current one last.

    A promotion is put on top, a rollback takes the top away. What lies below the top is what a
    rollback goes back to.

    Args:
        entries: in their order.
        where: the log, for errors.

    Raises:
        Damaged: a rollback goes back to something else than what lay below.
    """
    stacks: dict[Pair, list[Entry]] = {}
    for entry in entries:
        pair = entry.model, entry.target
        stack = stacks.get(pair)
        if stack is None:
            stack = stacks[pair] = []
        if entry.action == "promote":
            stack.append(entry)
            continue
        if entry.action != "rollback" or len(stack) < 2 or stack[-2].bundle != entry.bundle:
            raise Damaged(f"{where} is damaged: entry {entry.sequence} could not have happened")
        stack.pop()
    return stacks


def current_and_previous(stack: Sequence[Entry]) -> Mapping[str, Entry | None]:
    """Return the entries that made what is current, and what a rollback goes back to."""
    return {
        "current": stack[-1] if stack else None,
        "previous": stack[-2] if len(stack) > 1 else None,
    }
