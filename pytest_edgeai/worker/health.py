"""What this process holds at this moment: memory, open descriptors and threads."""

from __future__ import annotations

import os
import sys

from pytest_edgeai.worker.resident import memory_now


def health_now() -> dict[str, str | int | None]:
    """Return ``{"definition", "bytes", "descriptors", "threads"}`` of this process.

    The first two are those of :func:`~pytest_edgeai.worker.resident.memory_now`; a count that this
    system does not tell is ``None``.

    Raises:
        MeasurementError: the platform does not tell how much memory it holds.
    """
    held = memory_now()
    return {**held, "descriptors": open_descriptors(), "threads": running_threads()}


def open_descriptors() -> int | None:
    """Return the number of open descriptors, on Windows of handles; ``None`` where nobody tells.

    Linux: the entries of ``/proc/self/fd`` (proc_pid_fd(5)); macOS: those of ``/dev/fd``; Windows:
    GetProcessHandleCount. The one that listing a folder itself opens is not counted.
    """
    if sys.platform == "win32":
        import ctypes

        count = ctypes.c_uint32()
        kernel = ctypes.windll.kernel32
        kernel.GetCurrentProcess.restype = ctypes.c_void_p
        kernel.GetProcessHandleCount.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
        done = kernel.GetProcessHandleCount(kernel.GetCurrentProcess(), ctypes.byref(count))
        return count.value if done else None
    entries = _entries("/proc/self/fd" if sys.platform == "linux" else "/dev/fd")
    return None if entries is None else entries - 1


def running_threads() -> int | None:
    """Return the number of threads, those of libraries included; ``None`` where nobody tells.

    Linux: the entries of ``/proc/self/task`` (proc_pid_task(5)).
    """
    return _entries("/proc/self/task") if sys.platform == "linux" else None


def _entries(folder: str) -> int | None:
    try:
        return len(os.listdir(folder))  # noqa: PTH208, an iterator would be collected later
    except OSError:
        return None
