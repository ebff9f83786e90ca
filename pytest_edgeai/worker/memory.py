"""How much memory a model takes in this process, by the interfaces of this platform.

The figure is the growth of the process's peak from the moment that a null model has run in the same
runtime until the model has run; on Linux less the growth of the resident code pages, because those
belong to the runtime's library and not to the model.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pytest_edgeai.errors import MeasurementError

_KIB = 1024
_RESET_PEAK = "5"  # proc_pid_clear_refs(5): reset the peak resident set size
_LIBRARY = re.compile(r"\.so(\.[^/]*)?$")
# The reset makes the peak what is resident at that moment; a few pages may come before it is read.
_RESET_SLACK_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Peak:
    """Memory of this process so far.

    Attributes:
        peak_bytes: highest resident set since the start, or since the last reset.
        code_bytes: resident pages of mapped shared libraries; 0 where the platform cannot tell.
    """

    peak_bytes: int
    code_bytes: int


class PeakMeter(Protocol):
    """Reads the peak memory of this process."""

    @property
    def definition(self) -> str:
        """Name of what is measured; figures of different definitions are not comparable."""
        ...

    def reset(self) -> None:
        """Forget earlier peaks where the platform can.

        Raises:
            MeasurementError: it should be able to, and is not permitted.
        """
        ...

    def read(self) -> Peak:
        """Return the memory so far."""
        ...


class LinuxMeter:
    """``VmHWM`` of ``/proc/self/status`` and the library mappings of ``/proc/self/smaps``."""

    definition = "linux-peak-growth-less-code-pages"

    def reset(self) -> None:
        """See :meth:`PeakMeter.reset`."""
        try:
            Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
        except OSError as error:
            raise MeasurementError(
                f"the peak memory cannot be reset: writing /proc/self/clear_refs: {error.strerror}"
            ) from error
        status = _status_bytes()
        if status["VmHWM"] > status["VmRSS"] + _RESET_SLACK_BYTES:
            raise MeasurementError(
                "the kernel did not reset the peak memory when /proc/self/clear_refs was written"
            )

    def read(self) -> Peak:
        """See :meth:`PeakMeter.read`."""
        # The peak first: reading the mappings takes memory itself.
        peak_bytes = _status_bytes()["VmHWM"]
        try:
            smaps = Path("/proc/self/smaps").read_text()
        except OSError as error:
            raise MeasurementError(f"/proc/self/smaps: {error.strerror}") from error
        return Peak(peak_bytes, code_bytes(smaps))


def code_bytes(smaps: str) -> int:
    """Return the resident bytes of shared libraries' mappings in a ``/proc/PID/smaps`` text."""
    total = 0
    library = False
    for line in smaps.splitlines():
        key, _, value = line.partition(":")
        if key == "Rss" and library:
            total += int(value.split()[0]) * _KIB
        elif " " in key:  # a mapping: addresses, permissions, offset, device, inode, path
            library = bool(_LIBRARY.search(line))
    return total


def _status_bytes() -> dict[str, int]:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError as error:
        raise MeasurementError(f"/proc/self/status: {error.strerror}") from error
    pairs = (line.split(":", 1) for line in lines)
    found = {
        name: int(value.split()[0]) * _KIB for name, value in pairs if name in ("VmHWM", "VmRSS")
    }
    if len(found) != 2:
        raise MeasurementError("/proc/self/status has no VmHWM and VmRSS")
    return found


class ResourceMeter:
    """``ru_maxrss`` of getrusage(2): bytes on macOS, KiB on the BSDs; it cannot be reset."""

    @property
    def definition(self) -> str:
        """See :attr:`PeakMeter.definition`."""
        return f"{sys.platform}-ru-maxrss-growth"

    def reset(self) -> None:
        """See :meth:`PeakMeter.reset`; there is nothing to do."""

    def read(self) -> Peak:
        """See :meth:`PeakMeter.read`."""
        import resource

        unit = 1 if sys.platform == "darwin" else _KIB
        return Peak(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, 0)


class WindowsMeter:
    """``PeakWorkingSetSize`` of GetProcessMemoryInfo; it cannot be reset."""

    definition = "windows-peak-working-set-growth"

    def reset(self) -> None:
        """See :meth:`PeakMeter.reset`; there is nothing to do."""

    def read(self) -> Peak:
        """See :meth:`PeakMeter.read`."""
        import ctypes

        class Counters(ctypes.Structure):
            """PROCESS_MEMORY_COUNTERS of psapi.h."""

            _fields_ = (
                ("cb", ctypes.c_uint32),
                ("PageFaultCount", ctypes.c_uint32),
                ("PeakWorkingSetSize", ctypes.c_size_t),
                ("WorkingSetSize", ctypes.c_size_t),
                ("QuotaPeakPagedPoolUsage", ctypes.c_size_t),
                ("QuotaPagedPoolUsage", ctypes.c_size_t),
                ("QuotaPeakNonPagedPoolUsage", ctypes.c_size_t),
                ("QuotaNonPagedPoolUsage", ctypes.c_size_t),
                ("PagefileUsage", ctypes.c_size_t),
                ("PeakPagefileUsage", ctypes.c_size_t),
            )

        if sys.platform != "win32":
            raise MeasurementError("the peak working set exists on Windows only")
        kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
        kernel32.GetCurrentProcess.restype = ctypes.c_void_p
        kernel32.K32GetProcessMemoryInfo.argtypes = (
            ctypes.c_void_p,
            ctypes.POINTER(Counters),
            ctypes.c_uint32,
        )
        counters = Counters(cb=ctypes.sizeof(Counters))
        process = kernel32.GetCurrentProcess()
        if not kernel32.K32GetProcessMemoryInfo(process, ctypes.byref(counters), counters.cb):
            raise MeasurementError(f"GetProcessMemoryInfo failed: {ctypes.get_last_error()}")
        return Peak(int(counters.PeakWorkingSetSize), 0)


def peak_meter() -> PeakMeter:
    """Return the meter of this platform."""
    if sys.platform == "linux":
        return LinuxMeter()
    if sys.platform == "win32":
        return WindowsMeter()
    return ResourceMeter()


def memory_growth(meter: PeakMeter, before: Peak, after: Peak) -> dict[str, str | int]:
    """Return what a model took between two readings.

    Returns:
        ``{"definition", "model_bytes", "footprint_bytes", "growth_bytes", "code_growth_bytes",
        "null_bytes"}``: the model's memory, the process's peak, the growth of the peak and of the
        code pages since the null model, and the peak with the null model alone.
    """
    growth = after.peak_bytes - before.peak_bytes
    code_growth = after.code_bytes - before.code_bytes
    return {
        "definition": meter.definition,
        "model_bytes": growth - code_growth,
        "footprint_bytes": after.peak_bytes,
        "growth_bytes": growth,
        "code_growth_bytes": code_growth,
        "null_bytes": before.peak_bytes,
    }
