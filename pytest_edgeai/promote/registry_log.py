"""The log of a registry: one JSON line for each promotion and rollback, chained by their digests.

A line is only ever added. Each names the digest of the line before it, so that a line that was
changed, taken out or put in is found by whoever reads on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal, NamedTuple, TypeAlias

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


@dataclass(frozen=True)
class Log:
    """The lines of a log that are whole.

    Attributes:
        entries: in their order.
        sizes_bytes: the size of each entry's line, its line feed included.
        last_sha256: digest of the last line; zeros where there is none.
    """

    entries: Sequence[Entry]
    sizes_bytes: Sequence[int]
    last_sha256: str

    @property
    def size_bytes(self) -> int:
        """Size of the whole lines."""
        return sum(self.sizes_bytes)

    def without_last(self) -> Log:
        """Return the log before its last entry."""
        return Log(self.entries[:-1], self.sizes_bytes[:-1], self.entries[-1].parent)


def render_entry(entry: Entry) -> bytes:
    """Return the line of an entry, its line feed included."""
    return json.dumps(entry._asdict(), separators=(",", ":")).encode("ascii") + b"\n"


def parse_log(content: bytes, where: str) -> Log:
    """Return the whole lines of a log; one that a dying process did not finish does not count.

    Args:
        content: the file.
        where: the file, for errors.

    Raises:
        Damaged: a line does not follow from the one before it, or cannot be understood.
    """
    lines = content.split(b"\n")[:-1]
    try:
        rows = json.loads(b"[" + b",".join(lines) + b"]")
    except (ValueError, RecursionError):
        raise Damaged(f"{where} is damaged: line {_first_broken(lines)} is no JSON") from None
    entries: list[Entry] = []
    parent = NO_PARENT
    for number, (line, row) in enumerate(zip(lines, rows, strict=False), start=1):
        try:
            # The order of the keys counts, which is quicker than looking each up.
            entry = Entry._make(row.values())
            follows = (
                entry.parent == parent and entry.sequence == number and tuple(row) == Entry._fields
            )
        except (TypeError, AttributeError):
            follows = False
        if not follows:
            raise Damaged(f"{where} is damaged: line {number} does not follow from the one before")
        parent = sha256(line).hexdigest()
        entries.append(entry)
    if len(rows) != len(lines):
        raise Damaged(f"{where} is damaged: {len(lines)} lines hold {len(rows)} entries")
    return Log(entries, [len(line) + 1 for line in lines], parent)


def _first_broken(lines: Iterable[bytes]) -> int:
    for number, line in enumerate(lines, start=1):
        try:
            json.loads(line)
        except (ValueError, RecursionError):
            return number
    return 0


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
