"""The noise of this machine, read between measurements and never inside their rounds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_edgeai.judge.timings import is_contended
from pytest_edgeai.records import PairedTimings

_STAT = Path("/proc/stat")
_FREQUENCIES = Path("/sys/devices/system/cpu")
_CPUINFO = Path("/proc/cpuinfo")
_STEAL = 7
"""Column of /proc/stat's first line after its name: user, nice, system, idle, iowait, irq, softirq,
steal; guest time, which follows, is part of user time (proc_stat(5))."""


@dataclass(frozen=True)
class Reading:
    """The machine at one moment.

    Attributes:
        total_ticks: time of all cores so far; ``None`` where the system does not tell.
        steal_ticks: part of it that the hypervisor gave to others; ``None`` likewise.
        idle_ticks: part of it that no process used; ``None`` likewise.
        frequencies_mhz: frequency of each core; empty where the system does not tell.
    """

    total_ticks: int | None
    steal_ticks: int | None
    idle_ticks: int | None
    frequencies_mhz: tuple[float, ...]


@dataclass(frozen=True)
class Noise:
    """The noise over a whole self-check.

    Attributes:
        steal_ratio: share of the time of all cores that the hypervisor took; ``None``: unknown.
        busy_ratio: share of the time of all cores that was used by any process; ``None``: unknown.
        cpu_wall_ratio: CPU time of the judged calls divided by their wall time, without planted
            disturbance; ``None`` where none was measured.
        contended: measurements without planted disturbance that were contended all the same.
        measurements: their number.
        frequency_mhz: lowest and highest frequency seen; ``None``: unknown.
    """

    steal_ratio: float | None
    busy_ratio: float | None
    cpu_wall_ratio: float | None
    contended: int
    measurements: int
    frequency_mhz: tuple[float, float] | None


def parse_stat(text: str) -> tuple[int, int, int] | None:
    """Return total, steal and idle (with I/O wait) ticks of all cores; ``None`` where not stated.

    Args:
        text: content of ``/proc/stat``.
    """
    words = text.partition("\n")[0].split()
    if len(words) < _STEAL + 2 or words[0] != "cpu":
        return None
    try:
        ticks = [int(word) for word in words[1 : _STEAL + 2]]
    except ValueError:
        return None
    return sum(ticks), ticks[_STEAL], ticks[3] + ticks[4]


def parse_frequencies(text: str) -> tuple[float, ...]:
    """Return the frequency of each core in MHz, as ``/proc/cpuinfo`` states it on x86."""
    found = (line.partition(":") for line in text.splitlines() if line.startswith("cpu MHz"))
    return tuple(float(value) for _, _, value in found if value.strip())


def read_machine() -> Reading:
    """Read the machine; whatever it does not tell stays unknown."""
    ticks = parse_stat(_read(_STAT))
    total, steal, idle = ticks if ticks else (None, None, None)
    return Reading(total, steal, idle, _frequencies())


def noise_of(readings: Sequence[Reading], quiet: Sequence[PairedTimings]) -> Noise:
    """Sum up readings and the measurements that no planted process disturbed."""
    steal: float | None = None
    busy: float | None = None
    known = [reading for reading in readings if reading.total_ticks is not None]
    if len(known) > 1:
        first, last = known[0], known[-1]
        total = (last.total_ticks or 0) - (first.total_ticks or 0)
        if total > 0:
            steal = ((last.steal_ticks or 0) - (first.steal_ticks or 0)) / total
            busy = 1 - ((last.idle_ticks or 0) - (first.idle_ticks or 0)) / total
    wall = sum(float(t.baseline_wall_ns.sum() + t.candidate_wall_ns.sum()) for t in quiet)
    cpu = sum(_cpu_ns(timings) for timings in quiet)
    frequencies = [mhz for reading in readings for mhz in reading.frequencies_mhz]
    return Noise(
        steal_ratio=steal,
        busy_ratio=busy,
        cpu_wall_ratio=cpu / wall if wall and cpu else None,
        contended=sum(is_contended(timings) for timings in quiet),
        measurements=len(quiet),
        frequency_mhz=(min(frequencies), max(frequencies)) if frequencies else None,
    )


def _cpu_ns(timings: PairedTimings) -> float:
    if timings.baseline_cpu_ns is None or timings.candidate_cpu_ns is None:
        return 0.0
    return float(timings.baseline_cpu_ns.sum() + timings.candidate_cpu_ns.sum())


def _frequencies() -> tuple[float, ...]:
    khz = [_read(path).strip() for path in _FREQUENCIES.glob("cpu[0-9]*/cpufreq/scaling_cur_freq")]
    stated = tuple(float(value) / 1000 for value in khz if value.isdigit())
    return stated or parse_frequencies(_read(_CPUINFO))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def cores() -> int:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
