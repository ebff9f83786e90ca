"""The state of a registry, as anybody may read it at any time, without a lock.

Apart from what changes it, so that listing imports no more than it needs.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_edgeai.errors import UserError, did_you_mean
from pytest_edgeai.promote.names import portable_name
from pytest_edgeai.promote.registry_log import Damaged, Entry, Log, Pair, parse_log, replay

SCHEMA = "pytest-edgeai/registry/1"
MARK = "registry.json"
LOG = "log.jsonl"
_FAMILY = SCHEMA.rpartition("/")[0] + "/"


@dataclass(frozen=True)
class Snapshot:
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
    """Reads one registry."""

    def __init__(self, directory: Path) -> None:
        """Use the registry at ``directory``.

        Raises:
            UserError: it is no registry, or is of a newer schema.
        """
        self.directory = directory
        self._seen: tuple[bytes, Snapshot] | None = None
        check_mark(directory)

    @property
    def log_path(self) -> Path:
        """The log."""
        return self.directory / LOG

    def bundle_path(self, digest: str) -> Path:
        """Return where a bundle lies."""
        return self.directory / "bundles" / digest

    def pointer_path(self, pair: Pair) -> Path:
        """Return the file that names what is current of a model for a target."""
        model, target = map(portable_name, pair)
        return self.directory / "pointers" / model / f"{target}.json"

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
            if last is not None and (pointed := self.pointed(last.pair)) < last.sequence:
                log = log.without_last()
                if pointed != last_sequence(log, last.pair):
                    raise Damaged(f"{self.pointer_path(last.pair)} is missing or out of date")
                return Snapshot(log, replay(log.entries, str(self.log_path)))
            snapshot = Snapshot(log, replay(log.entries, str(self.log_path)))
            self._seen = content, snapshot
            return snapshot

    def pointed(self, pair: Pair) -> int:
        """Return the number of the entry that a pointer was written for; 0 where there is none.

        Raises:
            Damaged: it was changed by something else.
            OSError: it cannot be read.
        """
        path = self.pointer_path(pair)
        try:
            return int(json.loads(path.read_bytes())["sequence"])
        except FileNotFoundError:
            return 0
        except (ValueError, KeyError, TypeError) as error:
            raise Damaged(f"{path} is damaged: {error}") from None


def last_sequence(log: Log, pair: Pair) -> int:
    """Return the number of the last entry about a model and target; 0 without one."""
    return next((e.sequence for e in reversed(log.entries) if e.pair == pair), 0)


def check_mark(directory: Path) -> None:
    """Refuse a directory that is no registry.

    Raises:
        UserError: it is none, or is of a newer schema.
    """
    path = directory / MARK
    if not directory.is_dir():
        what = "is no directory" if os.path.lexists(directory) else "does not exist"
        raise UserError(what, where=str(directory), allowed="the directory of a registry")
    try:
        schema = json.loads(path.read_bytes())["schema"]
    except FileNotFoundError:
        raise UserError(
            f"is no registry: it has no {MARK}",
            where=str(directory),
            allowed="a registry; promoting makes one of an empty or new directory",
        ) from None
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=str(path)) from None
    except (ValueError, KeyError, TypeError):
        schema = None
    if schema == SCHEMA:
        return
    if isinstance(schema, str) and schema.startswith(_FAMILY):
        raise UserError(
            f"is of schema {schema}, and this version of pytest-edgeai knows {SCHEMA}",
            where=str(path),
            advice="use a newer one",
        )
    raise UserError("does not mark a registry", where=str(path), allowed=f"schema {SCHEMA}")


@contextlib.contextmanager
def as_user_error(directory: Path) -> Iterator[None]:
    """Turn what the system refuses into one line.

    Raises:
        UserError: in place of any OSError inside of the block.
    """
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        place = os.fsdecode(error.filename) if error.filename else str(directory)
        raise UserError(
            f"the registry is unchanged: {error.strerror or error}",
            where=place,
            advice="Free some space, then try again" if full else "",
        ) from None
