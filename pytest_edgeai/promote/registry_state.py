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
from pytest_edgeai.promote.registry_log import Damaged, Entry, Log, Pair, parse_log, replay

if TYPE_CHECKING:
    from pytest_edgeai.promote.statement import Statement

LOG = "log.jsonl"


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
        return last_sequence(self.log, pair)

    def stack(self, model: str, target: str) -> Sequence[Entry]:
        """Return what stands of a model for a target.

        Raises:
            UserError: nothing does.
        """
        found = self.stacks.get((model, target), ())
        if not found:
            names = {name for name, _ in self.stacks}
            known = {name for each, name in self.stacks if each == model}
            raise UserError(
                f'nothing of model "{model}" was promoted for target "{target}"',
                advice=did_you_mean(target, known) if known else did_you_mean(model, names),
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
        self._seen: tuple[bytes, Snapshot] | None = None
        self.layout.check()

    @property
    def log_path(self) -> Path:
        """The log."""
        return self.directory / LOG

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
            try:
                content = self.log_path.read_bytes()
            except FileNotFoundError:
                content = b""
            if self._seen is not None and self._seen[0] == content:
                return self._seen[1]
            log = parse_log(content, str(self.log_path))
            last = log.entries[-1] if log.entries else None
            if last is not None and (pointed := self.layout.pointed(last.pair)) < last.sequence:
                log = log.without_last()
                if pointed != last_sequence(log, last.pair):
                    raise Damaged(f"{self.layout.pointer(last.pair)} is missing or out of date")
                return Snapshot(log, replay(log.entries, str(self.log_path)))
            snapshot = Snapshot(log, replay(log.entries, str(self.log_path)))
            self._seen = content, snapshot
            return snapshot


def last_sequence(log: Log, pair: Pair) -> int:
    """Return the number of the last entry about a model and target; 0 without one."""
    return next((e.sequence for e in reversed(log.entries) if e.pair == pair), 0)


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
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        place = os.fsdecode(error.filename) if error.filename else str(directory)
        raise UserError(
            f"{what}: {error.strerror or error}",
            where=place,
            advice="Free some space, then try again" if full else "",
        ) from None
