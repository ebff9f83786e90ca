"""One heavy step at a time on a machine, whichever session or process it belongs to."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from pytest_edgeai.errors import MeasurementError
from pytest_edgeai.files import LOCK_DIRECTORY_VARIABLE

POLL_S = 5.0
_SHARED = Path("/tmp")
_NAME = "pytest-edgeai-measuring.lock"
_locks: dict[Path, FileLock] = {}


def lock_path() -> Path:
    """Return the machine-wide lock file; one per user where another user's cannot be opened.

    It does not follow ``TMPDIR``, which batch systems and CI runners set per job. The variable
    :data:`~pytest_edgeai.files.LOCK_DIRECTORY_VARIABLE` names another directory for it, such as one
    that several containers share.
    """
    chosen = os.environ.get(LOCK_DIRECTORY_VARIABLE)
    if chosen:
        return Path(chosen) / _NAME
    shared = (_SHARED if _SHARED.is_dir() else Path(tempfile.gettempdir())) / _NAME
    try:
        # Linux refuses to create over another user's file in a sticky directory even where its mode
        # allows writing (fs.protected_regular), so only opening it tells.
        if shared.exists():
            shared.open("a", encoding="utf-8").close()
    except OSError:
        user = os.getuid() if hasattr(os, "getuid") else 0
        return Path(tempfile.gettempdir()) / f"pytest-edgeai-measuring-{user}.lock"
    return shared


@contextmanager
def exclusive(*, time_limit_s: float, waiting: Callable[[float], None]) -> Iterator[None]:
    """Hold the machine-wide measurement lock; the kernel frees it when a holder dies.

    Args:
        time_limit_s: longest wait.
        waiting: called every few seconds of waiting with the seconds waited.

    Raises:
        MeasurementError: another session held the lock for longer than ``time_limit_s``.
    """
    path = lock_path()
    lock = _locks.setdefault(path, FileLock(path, mode=0o666))
    started = time.monotonic()
    while True:
        waited_s = time.monotonic() - started
        try:
            lock.acquire(timeout=min(POLL_S, max(0.0, time_limit_s - waited_s)))
            break
        except Timeout:
            waited_s = time.monotonic() - started
            if waited_s >= time_limit_s:
                raise MeasurementError(
                    f"another session has been measuring on this machine for {waited_s:.0f} s "
                    f"(lock {path})"
                ) from None
            waiting(waited_s)
    try:
        yield
    finally:
        lock.release()
