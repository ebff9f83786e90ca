"""The host's own sensors of heat and frequency, read between turns; Linux tells, others do not."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pytest_edgeai.production_records import SensorSamples

SYSTEM = Path("/sys")
_PASSIVE = ("passive", "hot")


@dataclass(frozen=True)
class SensorReading:
    """What the sensors said at one moment; each ``None`` where there is none.

    Attributes:
        temperature_c: degrees Celsius of the hottest zone.
        throttles: slow-downs because of heat that the processors counted since they started.
        frequency_mhz: mean frequency of all cores.
    """

    temperature_c: float | None
    throttles: int | None
    frequency_mhz: float | None


@dataclass
class SensorTrace:
    """Readings, one after the other."""

    system: Path = SYSTEM
    readings: list[SensorReading] = field(default_factory=list)

    def read(self) -> None:
        """Add a reading."""
        self.readings.append(read_sensors(self.system))

    def samples(self) -> SensorSamples:
        """Return the readings as a record; a sensor that failed once counts for nothing."""
        temperatures = _column([reading.temperature_c for reading in self.readings])
        throttles = _column([reading.throttles for reading in self.readings])
        frequencies = _column([reading.frequency_mhz for reading in self.readings])
        return SensorSamples(
            temperature_c=None if temperatures is None else np.asarray(temperatures, np.float64),
            passive_c=passive_trip(self.system),
            throttles=None if throttles is None else np.asarray(throttles, np.int64),
            frequency_mhz=None if frequencies is None else np.asarray(frequencies, np.float64),
        )


def read_sensors(system: Path = SYSTEM) -> SensorReading:
    """Read every sensor once.

    The zones of ``class/thermal`` (Documentation/driver-api/thermal/sysfs-api.rst, millidegrees),
    ``thermal_throttle/package_throttle_count`` and ``core_throttle_count`` of each processor
    (arch/x86/kernel/cpu/mce/therm_throt.c), and ``cpufreq/scaling_cur_freq`` in kHz
    (Documentation/admin-guide/pm/cpufreq.rst).

    Args:
        system: where sysfs is mounted.
    """
    temperatures = _numbers(system.glob("class/thermal/thermal_zone*/temp"))
    cpus = "devices/system/cpu/cpu[0-9]*"
    throttles = _numbers(system.glob(f"{cpus}/thermal_throttle/*_throttle_count"))
    frequencies = _numbers(system.glob(f"{cpus}/cpufreq/scaling_cur_freq"))
    return SensorReading(
        temperature_c=max(temperatures) / 1000 if temperatures else None,
        throttles=int(sum(throttles)) if throttles else None,
        frequency_mhz=sum(frequencies) / len(frequencies) / 1000 if frequencies else None,
    )


def passive_trip(system: Path = SYSTEM) -> float | None:
    """Return the lowest temperature at which the kernel slows a zone down, in degrees Celsius."""
    trips = []
    for kind in system.glob("class/thermal/thermal_zone*/trip_point_*_type"):
        if _text(kind) in _PASSIVE:
            trips += _numbers([kind.with_name(kind.name.replace("_type", "_temp"))])
    known = [trip / 1000 for trip in trips if trip > 0]
    return min(known) if known else None


def _column(values: Sequence[float | None]) -> list[float] | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return known if known and len(known) == len(values) else None


def _numbers(paths: Iterable[Path]) -> list[float]:
    found = []
    for path in paths:
        try:
            found.append(float(_text(path)))
        except ValueError:
            continue
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
