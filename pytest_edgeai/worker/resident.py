"""How much memory this process holds at this moment, by the interfaces of this platform.

Between two readings only what a process allocates and keeps moves the figure: pages of files, such
as mapped weights and the code of libraries, come and go with the page cache and are left out where
the platform can tell them apart.
"""

from __future__ import annotations

import sys

from pytest_edgeai.errors import MeasurementError
from pytest_edgeai.worker.memory import peak_meter, status_bytes, windows_counters

_RUSAGE_INFO_V0 = 0
_UUID_BYTES = 16


def memory_now() -> dict[str, str | int]:
    """Return ``{"definition", "bytes"}``: what this process holds, and what that means here.

    On Linux the anonymous resident pages (``RssAnon`` of proc_pid_status(5)); on macOS
    ``ri_phys_footprint`` of proc_pid_rusage(3); on Windows ``PagefileUsage`` of
    GetProcessMemoryInfo; on any other system the peak, which a leak raises too.

    Raises:
        MeasurementError: the platform does not tell.
    """
    if sys.platform == "linux":
        (held,) = status_bytes(("RssAnon",)).values()
        return {"definition": "linux-rss-anon", "bytes": held}
    if sys.platform == "win32":
        return {"definition": "windows-private", "bytes": windows_counters().private_bytes}
    if sys.platform == "darwin":
        return {"definition": "darwin-phys-footprint", "bytes": _phys_footprint()}
    return {"definition": f"{sys.platform}-ru-maxrss", "bytes": peak_meter().read().peak_bytes}


def _phys_footprint() -> int:
    """Return the footprint that macOS charges this process with (libproc.h, sys/resource.h)."""
    import ctypes
    import os

    class Usage(ctypes.Structure):
        """``struct rusage_info_v0``."""

        _fields_ = (
            ("ri_uuid", ctypes.c_uint8 * _UUID_BYTES),
            ("ri_user_time", ctypes.c_uint64),
            ("ri_system_time", ctypes.c_uint64),
            ("ri_pkg_idle_wkups", ctypes.c_uint64),
            ("ri_interrupt_wkups", ctypes.c_uint64),
            ("ri_pageins", ctypes.c_uint64),
            ("ri_wired_size", ctypes.c_uint64),
            ("ri_resident_size", ctypes.c_uint64),
            ("ri_phys_footprint", ctypes.c_uint64),
            ("ri_proc_start_abstime", ctypes.c_uint64),
            ("ri_proc_exit_abstime", ctypes.c_uint64),
        )

    library = ctypes.CDLL(None, use_errno=True)
    usage = Usage()
    if library.proc_pid_rusage(os.getpid(), _RUSAGE_INFO_V0, ctypes.byref(usage)) != 0:
        raise MeasurementError(f"proc_pid_rusage failed: {ctypes.get_errno()}")
    return int(usage.ri_phys_footprint)
