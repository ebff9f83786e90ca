"""What a session leaves on the disk: the evidence of the newest runs, and nothing else.

What belongs to a living session is locked by it. The kernel frees the lock of a session that was
killed, so that the next one can tell its remains from what is in use and remove them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

SCRATCH_PREFIX = "pytest-edgeai-"
WORKER_PREFIX = "pytest-edgeai-worker-"
RUNS_KEPT = 20
_LOCK = ".lock"


class Scratch:
    """A directory for temporary files, removed with its session or by the next one."""

    def __init__(self) -> None:
        """Create the directory."""
        self.directory = Path(tempfile.mkdtemp(prefix=SCRATCH_PREFIX))
        self._lock = FileLock(self.directory / _LOCK)
        self._lock.acquire()

    def close(self) -> None:
        """Remove the directory; may be called again."""
        self._lock.release()
        shutil.rmtree(self.directory, ignore_errors=True)


class RunClaim:
    """Keeps the evidence of this session from being swept while it is written."""

    def __init__(self, directory: Path, run_id: str) -> None:
        """Claim the run ``run_id``, whose evidence will lie below ``directory``."""
        self._directory = directory
        self._run_id = run_id
        self._path = directory / f".{run_id}{_LOCK}"
        directory.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self._path)
        self._lock.acquire()

    def sweep(self, kept: int = RUNS_KEPT) -> None:
        """Remove the oldest runs until ``kept`` are left; never this one nor one that is in use.

        Names of runs begin with their time, so that their order is that of age.
        """
        runs = sorted(path for path in self._directory.iterdir() if path.is_dir())
        for run in runs[: max(0, len(runs) - kept)]:
            if run.name == self._run_id:
                continue
            lock = self._directory / f".{run.name}{_LOCK}"
            with _abandoned(lock) as abandoned:
                if abandoned:
                    shutil.rmtree(run, ignore_errors=True)
        for lock in self._directory.glob(f".*{_LOCK}"):
            if not (self._directory / lock.name[1 : -len(_LOCK)]).exists() and lock != self._path:
                with _abandoned(lock):
                    pass

    def release(self) -> None:
        """Let later sessions sweep this run; may be called again."""
        self._lock.release()
        with contextlib.suppress(OSError):
            self._path.unlink()


def sweep_temporary_files() -> None:
    """Remove the temporary files of processes that were killed, and of their workers.

    A worker dies with the process that started it, whose id stands in the name of the worker's
    directory (worker/launch.py). On Windows those directories are left to the system.
    """
    for path in Path(tempfile.gettempdir()).glob(f"{SCRATCH_PREFIX}*/{_LOCK}"):
        with _abandoned(path) as abandoned:
            pass
        if abandoned:
            shutil.rmtree(path.parent, ignore_errors=True)
    if os.name != "posix":  # os.kill would end the process on Windows
        return
    for path in Path(tempfile.gettempdir()).glob(f"{WORKER_PREFIX}*"):
        owner = path.name.removeprefix(WORKER_PREFIX).partition("-")[0]
        try:
            os.kill(int(owner), 0)
        except ProcessLookupError:
            shutil.rmtree(path, ignore_errors=True)
        except (ValueError, OSError):
            continue


@contextlib.contextmanager
def _abandoned(path: Path) -> Iterator[bool]:
    """Hold the lock file ``path`` if nobody does, and remove it then; yield whether it was free."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
        with contextlib.suppress(OSError):
            path.unlink()
