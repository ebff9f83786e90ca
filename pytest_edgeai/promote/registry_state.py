"""The state of a registry, as anybody may read it at any time, without a lock.

Apart from what changes it, so that listing imports no more than it needs.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pytest_edgeai.errors import UserError, did_you_mean
from pytest_edgeai.promote.registry_layout import Layout, PlainLayout
from pytest_edgeai.promote.registry_log import (
    NOWHERE,
    Damaged,
    Entry,
    Log,
    Pair,
    Place,
    last_sequence,
    parse_head,
    parse_log,
    replay,
)

if TYPE_CHECKING:
    from pytest_edgeai.promote.statement import Statement

LOG = "log.jsonl"
HEAD = "head.json"
_SHOWN = 10
_SPACE = "Free some space, then try again"
_ADVICE = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EFBIG: "a file may not be as large as that here: raise the limit (ulimit -f), or choose "
    "another file system",
}


class Snapshot(NamedTuple):
    """A registry at one moment.

    Attributes:
        log: everything that happened.
        stacks: by model and target, the entries that made what stands, the current one last.
    """

    log: Log
    stacks: Mapping[Pair, Sequence[Entry]]

    def sequence(self, pair: Pair) -> int:
        """Return the number of the last entry about a model and target; 0 without one."""
        return last_sequence(self.log.entries, pair)

    def stack(self, model: str, target: str) -> Sequence[Entry]:
        """Return what stands of a model for a target.

        Raises:
            UserError: nothing does.
        """
        found = self.stacks.get((model, target), ())
        if not found:
            names = {name for name, _ in self.stacks}
            known = {name for each, name in self.stacks if each == model}
            kind, there = ("targets", known) if known else ("models", names)
            raise UserError(
                f'nothing of model "{model}" was promoted for target "{target}"',
                allowed=f"the {kind} {', '.join(sorted(there)[:_SHOWN])}" if there else "",
                advice=did_you_mean(target if known else model, there),
            )
        return found


class RegistryState:
    """Reads one registry that lies in a directory."""

    def __init__(self, directory: Path, layout: type[Layout] = PlainLayout) -> None:
        """Use the registry at ``directory``.

        Args:
            directory: where it lies.
            layout: how its files lie there.

        Raises:
            UserError: it is no registry, or is of a newer schema.
        """
        self.directory = directory
        self.layout = layout(directory)
        self._seen: tuple[tuple[bytes | None, bytes | None], Snapshot] | None = None
        self.layout.check()

    @property
    def log_path(self) -> Path:
        """The log."""
        return self.directory / LOG

    @property
    def head_path(self) -> Path:
        """The line of the log that was written last, so that it is missed where it is taken out."""
        return self.directory / HEAD

    def statement(self, entry: Entry) -> Statement:
        """Return what the certificate of a bundle says, without verifying it.

        Raises:
            Rejected: it cannot be understood.
            UserError: it cannot be read.
        """
        return self.layout.statement(entry.bundle)

    def location(self, entry: Entry) -> str:
        """Return what a person finds a bundle by."""
        return str(self.layout.location(entry.bundle))

    def unpack(self, entry: Entry, place: Path) -> None:
        """Copy the files of a bundle to the empty directory ``place``.

        Raises:
            Rejected: a file is missing.
            UserError: one cannot be read or written.
        """
        with as_user_error(place, "the bundle was not copied"):
            self.layout.unpack(entry.bundle, place)

    def read(self) -> Snapshot:
        """Return the state, without a lock: the old or the new one of any change under way.

        Raises:
            Damaged: the log or a pointer was changed by something else.
            UserError: it cannot be read.
        """
        with as_user_error(self.directory):
            seen = None
            while True:
                found = _content(self.head_path), _content(self.log_path)
                if self._seen is not None and self._seen[0] == found:
                    return self._seen[1]
                try:
                    return self._snapshot(*found)
                except Damaged:
                    # A change under way alters one of the files between two looks.
                    if found == seen:
                        raise
                    seen = found

    def standing(self, model: str, target: str) -> Sequence[Entry]:
        """Return what stands of a model for a target, which its pointer has to confirm.

        Raises:
            Damaged: the log or the pointer was changed by something else.
            UserError: nothing stands, or it cannot be read.
        """
        seen = None
        while True:
            snapshot = self.read()
            stack = snapshot.stack(model, target)
            try:
                self.check_pointer(snapshot.log, (model, target))
            except Damaged:
                # It may be of a change that came after the first look.
                if snapshot.log.last_sha256 == seen:
                    raise
                seen = snapshot.log.last_sha256
            else:
                return stack

    def check_pointer(self, log: Log, pair: Pair) -> None:
        """Compare a pointer with the last entry about its model and target.

        Raises:
            Damaged: they differ.
            UserError: it cannot be read.
        """
        with as_user_error(self.directory):
            self._check_place(log, pair, self.layout.pointed(pair))

    def _check_place(self, log: Log, pair: Pair, pointed: Place) -> None:
        logged = log.last_of(pair)
        if pointed.agrees_with(logged):
            return
        pointer = self.layout.pointer(pair)
        if pointed.sequence == logged.sequence:
            raise Damaged(
                f"{self.log_path} or {pointer} is damaged: line {logged.sequence} and the pointer "
                "do not say the same"
            )
        if pointed.sequence > logged.sequence:
            raise Damaged(
                f"{self.log_path} is damaged: it does not hold entry {pointed.sequence}, which "
                f"{pointer} names"
            )
        raise Damaged(
            f"{pointer} is missing or out of date: {self.log_path} says that entry "
            f"{logged.sequence} made what is current"
        )

    def _snapshot(self, announced: bytes | None, content: bytes | None) -> Snapshot:
        """Return the state of the files' contents; ``None`` where there is no such file.

        A change writes its line to the head, then to the log, and then its pointer. So the head is
        the last line of the log or the one to follow it, and it happened where the pointer says so.
        """
        where = str(self.log_path)
        log = parse_log(content or b"", where)
        count = len(log.entries)
        head = None if announced is None else parse_head(announced, str(self.head_path))
        if head is None or head[0].sequence < count:
            # Made by a version of this package that wrote no head.
            if head is not None and log.sha256_of(head[0].sequence) != head[1]:
                raise self._unlike_head(head[0].sequence)
            return self._kept(announced, content, self._confirmed(log))
        entry, digest = head
        if entry.sequence > count + 1:
            raise Damaged(
                f"{where} is damaged: it ends at line {count}, and {self.head_path} is its line "
                f"{entry.sequence}"
            )
        pointed = self.layout.pointed(entry.pair)
        if entry.sequence == count:
            if log.last_sha256 != digest:
                raise self._unlike_head(count)
            if pointed.sequence < count:
                log = log.without_last()
        elif log.last_sha256 != entry.parent:
            raise self._unlike_head(count)
        self._check_place(log, entry.pair, pointed)
        return self._kept(announced, content, log)

    def _kept(self, announced: bytes | None, content: bytes | None, log: Log) -> Snapshot:
        """Return the state of a log; one that no pointer can change without it is remembered."""
        snapshot = Snapshot(log, replay(log.entries, str(self.log_path)))
        if log.size_bytes == len(content or b""):
            self._seen = (announced, content), snapshot
        return snapshot

    def _unlike_head(self, line: int) -> Damaged:
        return Damaged(
            f"{self.log_path} is damaged: line {line} is not what {self.head_path} was written for"
        )

    def _confirmed(self, log: Log) -> Log:
        """Return the entries that happened, each pointer compared with the last one about it."""
        pointers = self.layout.pointers()
        last = log.entries[-1] if log.entries else None
        if last is not None and pointers.get(last.pair, NOWHERE).sequence < last.sequence:
            log = log.without_last()
        places = {
            pair: log.place_of(entry) for pair, entry in {e.pair: e for e in log.entries}.items()
        }
        for pair in [*places, *(each for each in pointers if each not in places)]:
            pointed = pointers.get(pair, NOWHERE)
            if not pointed.agrees_with(places.get(pair, NOWHERE)):
                self._check_place(log, pair, pointed)
        return log


def _content(path: Path) -> bytes | None:
    """Return the content of a file; ``None`` where there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def as_user_error(directory: Path, what: str = "the registry is unchanged") -> Iterator[None]:
    """Turn what the system refuses into one line.

    Args:
        directory: what is read or written.
        what: what that means for the caller.

    Raises:
        UserError: in place of any OSError inside of the block.
    """
    try:
        yield
    except OSError as error:
        place = os.fsdecode(error.filename) if error.filename else str(directory)
        raise UserError(
            f"{what}: {error.strerror or error}",
            where=place,
            advice=_ADVICE.get(error.errno or 0, ""),
        ) from None
