"""The directory of a registry: how it is marked, locked, copied into and cleaned."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_edgeai.errors import UserError
from pytest_edgeai.files import sync_directory
from pytest_edgeai.promote.registry_layout import Layout, is_vacant
from pytest_edgeai.promote.registry_state import as_user_error
from pytest_edgeai.promote.verification import Rejected, read_statement, verify_bundle

if TYPE_CHECKING:
    from filelock import BaseFileLock

LOCK_LIMIT_S = 60.0
_STAGING = "staging"
_TEMPORARY = ".tmp-*"


def make_registry(layout: Layout) -> None:
    """Mark a directory that does not exist or is empty as a registry; leave any other alone.

    Raises:
        OSError: it cannot be written.
        UserError: it cannot be written, or its lock is held.
    """
    left = (".lock", _TEMPORARY[:-1], *layout.unfinished)
    if not is_vacant(layout.directory, left):
        return
    layout.directory.mkdir(parents=True, exist_ok=True)
    with locked(layout.directory):
        if is_vacant(layout.directory, left):
            layout.mark()


def check_copy(place: Path, digest: str) -> None:
    """Read every file of a copy of a bundle that was verified before.

    A certificate that expired meanwhile does not count here.

    Raises:
        Rejected: it is not what was copied.
        UserError: it cannot be read.
    """
    created = read_statement(place).created
    if verify_bundle(place, None, now=created).digest != digest:
        raise Rejected(f"{place}: it is another bundle")


def copy_files(bundle: Path, place: Path, names: Sequence[str]) -> None:
    """Copy the named files of a bundle to ``place``, durably.

    Raises:
        OSError: one cannot be read or written.
    """
    for name in names:
        destination = place / name
        destination.parent.mkdir(parents=True, exist_ok=True)
        copy_durably(bundle / name, destination)
    for folder in (place, *(each for each in place.rglob("*") if each.is_dir())):
        sync_directory(folder)


def copy_durably(source: Path, destination: Path) -> None:
    """Copy one file, and wait until it is on the disk; a symbolic link is copied as one.

    Raises:
        OSError: it cannot be read or written.
    """
    shutil.copyfile(source, destination, follow_symlinks=False)
    with destination.open("rb") as stream:
        os.fsync(stream.fileno())


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the lock of a registry; it is given up when the process dies.

    Raises:
        OSError: the lock's file cannot be made.
        UserError: another process held it all the time.
    """
    from filelock import Timeout

    lock = _lock(directory / ".lock")
    try:
        lock.acquire(timeout=LOCK_LIMIT_S)
    except Timeout:
        raise UserError(
            f"another process has held its lock for {LOCK_LIMIT_S:g} s", where=str(directory)
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def staging(directory: Path) -> Iterator[Path]:
    """Give a directory inside of a registry to fill; what is left of it in the end is removed.

    A lock of its own tells :func:`sweep` that somebody is at work there.

    Raises:
        UserError: it cannot be made.
    """
    place = directory / _STAGING / secrets.token_hex(8)
    lock = _lock(place.with_suffix(".lock"))
    with as_user_error(directory), locked(directory):
        place.parent.mkdir(exist_ok=True)
        lock.acquire(timeout=0)
        place.mkdir()
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        lock.release()
        place.with_suffix(".lock").unlink(missing_ok=True)


def sweep(directory: Path, folders: Sequence[Path]) -> None:
    """Remove what processes that died left behind; the caller holds the lock.

    Args:
        directory: the registry.
        folders: where it may also have left temporary files.
    """
    from filelock import Timeout

    for path in (directory / _STAGING).glob("*.lock"):
        lock = _lock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        shutil.rmtree(path.with_suffix(""), ignore_errors=True)
        lock.release()
        path.unlink(missing_ok=True)
    for folder in (directory, *folders):
        for leftover in folder.glob(_TEMPORARY):
            leftover.unlink(missing_ok=True)


def _lock(path: Path) -> BaseFileLock:
    from filelock import FileLock

    return FileLock(path)
