"""How much memory a model takes in this process, by the interfaces of this platform.

The figure is the growth of the process's peak from the moment that a null model has run in the same
runtime until the model has run; on Linux less the growth of the resident code pages, because those
belong to the runtime's library and not to the model. Beside it stands the steady state: the same of
what is resident after the runs instead of the peak. Weights are to be read and not mapped; where a
runtime maps their file all the same, the part that it has not touched counts as if it were read.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pytest_edgeai.errors import MeasurementError
from pytest_edgeai.records import JSON, artifact_root

_KIB = 1024
_RESET_PEAK = "5"  # proc_pid_clear_refs(5): reset the peak resident set size
_LIBRARY = re.compile(r"\.so(\.\d+)*$")
# The reset makes the peak what is resident at that moment; a few pages may come before it is read.
_RESET_SLACK_BYTES = 4 * 2**20


@dataclass(frozen=True)
class MappedFile:
    """A file that the process maps.

    Attributes:
        size_bytes: bytes of the file that are mapped, counted once per mapping.
        resident_bytes: how many of them are resident, i.e. were touched.
    """

    size_bytes: int
    resident_bytes: int


@dataclass(frozen=True)
class Usage:
    """Memory of this process so far.

    Attributes:
        peak_bytes: highest resident set since the start, or since the last reset.
        code_bytes: resident pages of mapped shared libraries; 0 where the platform cannot tell.
        resident_bytes: resident set at this moment; ``None`` where the platform is not asked.
        files: path to each mapped file but shared libraries; empty where the platform cannot tell.
    """

    peak_bytes: int
    code_bytes: int = 0
    resident_bytes: int | None = None
    files: Mapping[str, MappedFile] = field(default_factory=dict)


class PeakMeter(Protocol):
    """Reads the peak memory of this process."""

    @property
    def definition(self) -> str:
        """Name of what is measured; figures of different definitions are not comparable."""
        ...

    @property
    def steady_definition(self) -> str | None:
        """The same of the steady state; ``None`` where the platform has no such counter here."""
        ...

    def reset(self) -> None:
        """Forget earlier peaks where the platform can.

        Raises:
            MeasurementError: it should be able to, and is not permitted.
        """
        ...

    def read(self) -> Usage:
        """Return the memory so far."""
        ...


class LinuxMeter:
    """``VmHWM`` of ``/proc/self/status`` and the mappings of ``/proc/self/smaps``."""

    definition = "linux-peak-growth-less-code-pages"
    steady_definition = "linux-resident-growth-less-code-pages"

    def reset(self) -> None:
        """See :meth:`PeakMeter.reset`."""
        try:
            Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
        except OSError as error:
            raise MeasurementError(
                f"the peak memory cannot be reset: writing /proc/self/clear_refs: {error.strerror}"
            ) from error
        status = status_bytes()
        if status["VmHWM"] > status["VmRSS"] + _RESET_SLACK_BYTES:
            raise MeasurementError(
                "the kernel did not reset the peak memory when /proc/self/clear_refs was written"
            )

    def read(self) -> Usage:
        """See :meth:`PeakMeter.read`."""
        # The peak first: reading the mappings takes memory itself.
        peak_bytes = status_bytes()["VmHWM"]
        try:
            smaps = Path("/proc/self/smaps").read_text()
        except OSError as error:
            raise MeasurementError(f"/proc/self/smaps: {error.strerror}") from error
        return parse_mappings(smaps, peak_bytes)


def parse_mappings(smaps: str, peak_bytes: int) -> Usage:
    """Return what a ``/proc/PID/smaps`` text says, with a peak that it does not know.

    What is resident is summed over the mappings: ``VmRSS`` lags behind by some pages per thread
    (``Documentation/filesystems/proc.rst``, section 1.1).
    """
    code = resident = 0
    files: dict[str, MappedFile] = {}
    path, size, is_library = "", 0, False
    for line in smaps.splitlines():
        key, _, value = line.partition(":")
        if " " in key:  # a mapping: addresses, permissions, offset, device, inode, path
            path = [*line.split(maxsplit=5), ""][5]
            is_library = bool(_LIBRARY.search(path))
        elif key == "Size":
            size = int(value.split()[0]) * _KIB
        elif key == "Rss":
            bytes_here = int(value.split()[0]) * _KIB
            resident += bytes_here
            if is_library:
                code += bytes_here
            elif path.startswith("/"):
                known = files.get(path, MappedFile(0, 0))
                files[path] = MappedFile(known.size_bytes + size, known.resident_bytes + bytes_here)
    return Usage(peak_bytes, code, resident, files)


def status_bytes(names: tuple[str, ...] = ("VmHWM", "VmRSS")) -> dict[str, int]:
    """Return fields of ``/proc/self/status`` in bytes.

    Raises:
        MeasurementError: it cannot be read, or lacks one of ``names``.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError as error:
        raise MeasurementError(f"/proc/self/status: {error.strerror}") from error
    pairs = (line.split(":", 1) for line in lines)
    found = {name: int(value.split()[0]) * _KIB for name, value in pairs if name in names}
    if len(found) != len(names):
        raise MeasurementError(f"/proc/self/status has no {' and '.join(names)}")
    return found


class ResourceMeter:
    """``ru_maxrss`` of getrusage(2): bytes on macOS, KiB on the BSDs; it cannot be reset."""

    @property
    def definition(self) -> str:
        """See :attr:`PeakMeter.definition`."""
        return f"{sys.platform}-ru-maxrss-growth"

    steady_definition = None

    def reset(self) -> None:
        """See :meth:`PeakMeter.reset`; there is nothing to do."""

    def read(self) -> Usage:
        """See :meth:`PeakMeter.read`."""
        import resource

        unit = 1 if sys.platform == "darwin" else _KIB
        return Usage(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)


class WindowsMeter:
    """``PeakWorkingSetSize`` of GetProcessMemoryInfo; it cannot be reset."""

    definition = "windows-peak-working-set-growth"
    steady_definition = "windows-working-set-growth"

    def reset(self) -> None:
        """See :meth:`PeakMeter.reset`; there is nothing to do."""

    def read(self) -> Usage:
        """See :meth:`PeakMeter.read`."""
        counters = windows_counters()
        return Usage(counters.peak_working_set_bytes, resident_bytes=counters.working_set_bytes)


@dataclass(frozen=True)
class WindowsCounters:
    """Memory of this process as Windows counts it.

    Attributes:
        peak_working_set_bytes: highest resident set since the start.
        working_set_bytes: resident set at this moment.
        private_bytes: committed memory that no other process shares (``PagefileUsage``).
    """

    peak_working_set_bytes: int
    working_set_bytes: int
    private_bytes: int


def windows_counters() -> WindowsCounters:
    """Return what GetProcessMemoryInfo states.

    Raises:
        MeasurementError: it failed, or this is no Windows.
    """
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
    return WindowsCounters(
        int(counters.PeakWorkingSetSize), int(counters.WorkingSetSize), int(counters.PagefileUsage)
    )


def peak_meter() -> PeakMeter:
    """Return the meter of this platform."""
    if sys.platform == "linux":
        return LinuxMeter()
    if sys.platform == "win32":
        return WindowsMeter()
    return ResourceMeter()


def memory_growth(
    meter: PeakMeter, before: Usage, after: Usage, model: Path, *, is_mapped: bool
) -> dict[str, JSON]:
    """Return what a model took between two readings.

    Args:
        meter: what took the readings.
        before: after the null model has run.
        after: after the model has run.
        model: what was loaded; its weights lie in that file, beside it or in that folder.
        is_mapped: whether it was asked for that the weights be mapped, so that only those that were
            touched count.

    Returns:
        ``{"definition", "model_bytes", "footprint_bytes", "growth_bytes", "code_growth_bytes",
        "null_bytes", "steady_definition", "steady_bytes", "mapped_weights_bytes",
        "untouched_bytes"}``: the model's memory, the process's peak, the growth of the peak and of
        the code pages since the null model, the peak with the null model alone, the model's memory
        after the runs (``None`` where the platform has no counter), the bytes of the weights' files
        that are mapped, and those of them that count although they are not resident.
    """
    growth = after.peak_bytes - before.peak_bytes
    code_growth = after.code_bytes - before.code_bytes
    weights = [
        file
        for path, file in after.files.items()
        if path not in before.files and _is_below(Path(path), artifact_root(model))
    ]
    untouched = sum(max(0, file.size_bytes - file.resident_bytes) for file in weights)
    counted = 0 if is_mapped else untouched
    steady: int | None = None
    if before.resident_bytes is not None and after.resident_bytes is not None:
        steady = after.resident_bytes - before.resident_bytes - code_growth + counted
    return {
        "definition": meter.definition,
        "model_bytes": growth - code_growth + counted,
        "footprint_bytes": after.peak_bytes,
        "growth_bytes": growth,
        "code_growth_bytes": code_growth,
        "null_bytes": before.peak_bytes,
        "steady_definition": meter.steady_definition,
        "steady_bytes": steady,
        "mapped_weights_bytes": sum(file.size_bytes for file in weights),
        "untouched_bytes": counted,
    }


def _is_below(path: Path, folder: Path) -> bool:
    """Return whether a mapped file lies in a folder, or is what a link in it points to."""
    folder = folder.resolve()
    if path.is_relative_to(folder):
        return True
    # Hugging Face keeps the files of a model elsewhere and links to them.
    return any(link.is_symlink() and link.resolve() == path for link in folder.iterdir())
