"""A registry of signed bundles in a directory.

::

    log.jsonl                        one line for each promotion and rollback
    head.json                        the last of these lines, written before it
    staging/                         what is being copied
    ...                              bundles and pointers, as the layout puts them

A change takes effect when its pointer is renamed into place. Before that its line is written to
the head and appended to the log; a last line whose pointer was never written did not happen:
readers leave it out, and the next change takes its place. So whenever a process dies, the old or
the new state is there, and nothing in between. The head tells that the log ends too early, or that
its last line, which no other one names, was changed.

Changes hold a lock while they take effect, and not while they copy. Each is made on the state that
it saw when it began; where another one came first, it is refused.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_edgeai.errors import EdgeAIError, UserError
from pytest_edgeai.files import sync_directory, write_atomically
from pytest_edgeai.promote.keys import PublicKey
from pytest_edgeai.promote.registry_files import locked, make_registry, staging, sweep
from pytest_edgeai.promote.registry_layout import Layout, PlainLayout
from pytest_edgeai.promote.registry_log import Damaged, Entry, Pair, render_entry
from pytest_edgeai.promote.registry_state import RegistryState, Snapshot, as_user_error
from pytest_edgeai.promote.verification import Rejected, Verified, verify_bundle


class Refused(EdgeAIError):
    """A change that the state of the registry does not allow; nothing was changed."""


@dataclass(frozen=True)
class Staged:
    """A verified copy of a bundle inside of the registry that nobody sees yet.

    Attributes:
        place: where it lies; ``None`` where the registry has the bundle already.
        verified: what it is.
        expected: number of the last entry about its model and target when the copy began.
    """

    place: Path | None
    verified: Verified
    expected: int

    @property
    def pair(self) -> Pair:
        """What it is about."""
        return self.verified.statement.model, self.verified.statement.target


class Registry(RegistryState):
    """Reads and changes one registry."""

    def __init__(
        self, directory: Path, layout: type[Layout] = PlainLayout, *, create: bool = False
    ) -> None:
        """Use the registry at ``directory``.

        Args:
            directory: where it lies.
            layout: how its files lie there.
            create: make one where the directory does not exist or is empty.

        Raises:
            UserError: it is no registry, or is of a newer schema.
        """
        if create:
            with as_user_error(directory):
                make_registry(layout(directory))
        super().__init__(directory, layout)

    def promote(self, bundle: Path, key: PublicKey, *, now: datetime.datetime) -> Entry | None:
        """Make a bundle the current one of its model and target.

        Args:
            bundle: a signed bundle anywhere.
            key: the key that must have signed it.
            now: the time.

        Returns:
            The new entry; ``None`` where the bundle is current already.

        Raises:
            Rejected: the bundle is not to be used.
            Refused: another change of this model and target came first.
            Damaged: the registry was changed by something else.
            UserError: something cannot be read or written.
        """
        with self.staged(bundle, key, now=now) as staged:
            return self.commit(staged, now=now)

    @contextlib.contextmanager
    def staged(self, bundle: Path, key: PublicKey, *, now: datetime.datetime) -> Iterator[Staged]:
        """Verify a bundle and copy it into the registry, to be committed inside of the block.

        Takes and raises what :meth:`promote` does.
        """
        snapshot = self.read()
        verified = verify_bundle(bundle, key, now=now)
        pair = verified.statement.model, verified.statement.target
        expected = snapshot.sequence(pair)
        if self.layout.holds(verified.digest):
            try:
                self.layout.check_whole(verified.digest)
            except Rejected as error:
                raise Damaged(f"the registry's own copy was changed: {error}") from None
            yield Staged(None, verified, expected)
            return
        with staging(self.directory) as place, as_user_error(self.directory):
            self.layout.fill(place, bundle, verified)
            yield Staged(place, verified, expected)

    def commit(self, staged: Staged, *, now: datetime.datetime) -> Entry | None:
        """Let a staged bundle take effect; returns and raises what :meth:`promote` does."""
        statement = staged.verified.statement
        with as_user_error(self.directory), locked(self.directory):
            snapshot = self._recovered(staged.pair)
            stack = snapshot.stacks.get(staged.pair, ())
            if stack and stack[-1].bundle == staged.verified.digest:
                return None
            _check_first(snapshot, staged.pair, staged.expected)
            if staged.place is not None:
                self.layout.adopt(staged.place, staged.verified.digest)
            entry = Entry(
                sequence=len(snapshot.log.entries) + 1,
                time=now.isoformat(timespec="seconds"),
                action="promote",
                model=statement.model,
                target=statement.target,
                candidate=statement.candidate,
                bundle=staged.verified.digest,
                replaced=stack[-1].bundle if stack else None,
                keyid=staged.verified.keyid,
                expires=statement.expires.isoformat(),
                parent=snapshot.log.last_sha256,
            )
            self._write(snapshot, entry, [*stack, entry])
            return entry

    def rollback(
        self,
        model: str,
        target: str,
        *,
        now: datetime.datetime,
        expected: int | None = None,
    ) -> Entry:
        """Make the bundle that was current before the current one again.

        Its files have to be there; they are not hashed, so that going back takes no time.

        Args:
            model: the model.
            target: the target.
            now: the time.
            expected: number of the last entry that the caller knows of; by default what stands now.

        Raises:
            Refused: there is nothing to go back to, files of it are missing, or another change came
                first.
            Damaged: the registry was changed by something else.
            UserError: nothing was promoted, or something cannot be read or written.
        """
        pair = model, target
        snapshot = self.read()
        snapshot.stack(model, target)
        known = snapshot.sequence(pair) if expected is None else expected
        with as_user_error(self.directory), locked(self.directory):
            snapshot = self._recovered(pair)
            _check_first(snapshot, pair, known)
            stack = snapshot.stack(model, target)
            if len(stack) < 2:
                raise Refused(
                    f"{model} for {target} cannot be rolled back: bundle {stack[-1].bundle[:12]} "
                    "was the first"
                )
            back, left = stack[-2], stack[-1]
            try:
                self.layout.check_present(back.bundle)
            except EdgeAIError as error:
                raise Refused(f"{model} for {target} is not rolled back: {error}") from None
            entry = back._replace(
                sequence=len(snapshot.log.entries) + 1,
                time=now.isoformat(timespec="seconds"),
                action="rollback",
                replaced=left.bundle,
                parent=snapshot.log.last_sha256,
            )
            self._write(snapshot, entry, stack[:-1])
            return entry

    def _recovered(self, pair: Pair) -> Snapshot:
        """Return the state, after removing what died half-way; the lock is held."""
        pointer = self.layout.pointer(pair)
        sweep(self.directory, [pointer.parent])
        snapshot = self.read()
        self.check_pointer(snapshot.log, pair)
        # Whole lines that count end here; behind them lies at most what a dying process left.
        size_bytes = snapshot.log.size_bytes
        if self.log_path.exists() and self.log_path.stat().st_size > size_bytes:
            os.truncate(self.log_path, size_bytes)
        return snapshot

    def _write(self, snapshot: Snapshot, entry: Entry, stack: Sequence[Entry]) -> None:
        """Append the line of an entry, then rename its pointer into place; or change nothing."""
        existed = self.log_path.exists()
        head = self.head_path.read_bytes() if self.head_path.exists() else None
        try:
            write_atomically(self.head_path, render_entry(entry))
            with self.log_path.open("ab") as stream:
                stream.write(render_entry(entry))
                stream.flush()
                os.fsync(stream.fileno())
            if not existed:
                sync_directory(self.directory)
            self.layout.point(entry, stack)
        except BaseException:
            if self.layout.pointed(entry.pair).sequence < entry.sequence:
                with contextlib.suppress(OSError):
                    os.truncate(self.log_path, snapshot.log.size_bytes)
                self._take_back(head, entry)
            raise

    def _take_back(self, head: bytes | None, entry: Entry) -> None:
        """Restore the head before an entry; where that fails, it names what did not happen."""
        with contextlib.suppress(OSError, UserError):
            if self.head_path.read_bytes() != render_entry(entry):
                return
            if head is None:
                self.head_path.unlink()
            else:
                write_atomically(self.head_path, head)


def _check_first(snapshot: Snapshot, pair: Pair, expected: int) -> None:
    """Refuse a change that was made on a state that is no longer there."""
    last = next((e for e in reversed(snapshot.log.entries) if e.pair == pair), None)
    if last is not None and last.sequence != expected:
        raise Refused(
            f"{pair[0]} for {pair[1]}: another {last.action} came first, of bundle "
            f"{last.bundle[:12]} at {last.time}; look at it, then decide again"
        )
