"""RAPL: the energy counters of Intel's and AMD's processors, through the kernel's powercap.

Sources: the kernel's Documentation/power/powercap/powercap.rst and
Documentation/ABI/testing/sysfs-class-powercap; AMD's processors stand there under the same names
since Linux 5.8. Since CVE-2020-8694 ``energy_uj`` can be read by root alone unless somebody changed
its mode.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pytest_edgeai.errors import MeasurementError
from pytest_edgeai.measure.energy_counters import CPU, Found
from pytest_edgeai.measure.energy_sysfs import (
    Unreadable,
    not_of_the_kernel,
    read_number,
    read_word,
)

MICROJOULES = 1e-6
QUANTUM_JOULES = 61e-6
"""2^-14 J, the coarser of the energy units in use; MSR_RAPL_POWER_UNIT of the Intel SDM, vol. 3B,
has 2^-16 J as its default."""

LEAST_BLOCK_S = 0.25
"""250 updates of a counter that is updated about every millisecond (Intel SDM vol. 3B, on RAPL)."""

ADVICE = "sudo chmod -R a+r /sys/class/powercap/intel-rapl:*/ lets this user read it until reboot"
_ZONE = re.compile(r"intel-rapl:\d+")
_SUBZONE = re.compile(r"intel-rapl:\d+:\d+")


@dataclass
class PowercapZone:
    """One zone: a package, or the memory beside it; see :class:`~.energy_counters.EnergyCounter`.

    Attributes:
        directory: its directory.
        name: as the kernel names it (``package-0``, ``package-0 dram``).
        last_microjoules: the counter when it was read last.
        total_microjoules: energy since it was opened.
    """

    directory: Path
    name: str
    last_microjoules: int
    total_microjoules: int = 0
    source: str = "RAPL"
    covers: frozenset[str] = frozenset({CPU})
    quantum_joules: float = QUANTUM_JOULES
    least_block_s: float = LEAST_BLOCK_S

    @classmethod
    def open(cls, directory: Path, name: str) -> PowercapZone:
        """Open a zone.

        Raises:
            Unreadable: its counter cannot be read.
            FileNotFoundError: it has none.
        """
        return cls(directory, name, read_number(directory / "energy_uj"))

    @property
    def place(self) -> str:
        """The counter's file."""
        return str(self.directory / "energy_uj")

    def joules(self) -> float:
        """Return the energy since it was opened, over every wrap of the counter that was seen."""
        try:
            current = read_number(self.directory / "energy_uj")
        except (Unreadable, FileNotFoundError) as error:
            raise MeasurementError(f"the energy counter {self.name} was lost: {error}") from None
        step = current - self.last_microjoules
        if step < 0:
            step += self._range()
            if step < 0:
                raise MeasurementError(f"the energy counter {self.name} ran backwards")
        self.last_microjoules = current
        self.total_microjoules += step
        return self.total_microjoules * MICROJOULES

    def _range(self) -> int:
        """Return what the counter wraps at; it starts from 0 again after that many microjoules."""
        try:
            return read_number(self.directory / "max_energy_range_uj")
        except (Unreadable, FileNotFoundError):
            raise MeasurementError(
                f"the energy counter {self.name} wrapped, and does not say at what"
            ) from None


def find_powercap(sysfs: Path) -> Found:
    """Return the packages of this machine and the memory beside them.

    A package holds its cores and its graphics, which have zones of their own and are not added
    again; ``psys`` holds the packages, and ``intel-rapl-mmio`` is a second view of them.

    Args:
        sysfs: the directory that holds ``class/powercap``.
    """
    base = sysfs / "class/powercap"
    counters: list[PowercapZone] = []
    unreadable: list[str] = []
    for zone in _entries(base, _ZONE):
        name = read_word(zone / "name")
        if not name.startswith("package"):
            continue
        opened = _open(zone, name, unreadable)
        if opened is None:
            # What runs on the other packages would be counted, and what runs here would not.
            return Found((), tuple(unreadable), not_of_the_kernel(sysfs))
        counters.append(opened)
        for inner in _entries(zone, _SUBZONE):
            if read_word(inner / "name") == "dram":
                memory = _open(inner, f"{name} dram", unreadable)
                counters += [memory] if memory is not None else []
    return Found(tuple(counters), tuple(unreadable), not_of_the_kernel(sysfs))


def _open(directory: Path, name: str, unreadable: list[str]) -> PowercapZone | None:
    try:
        return PowercapZone.open(directory, name)
    except Unreadable as error:
        unreadable.append(f"RAPL {name}: {error}; {ADVICE}")
    except FileNotFoundError:
        unreadable.append(f"RAPL {name}: {directory} has no energy_uj")
    return None


def _entries(base: Path, pattern: re.Pattern[str]) -> list[Path]:
    try:
        return sorted(path for path in base.iterdir() if pattern.fullmatch(path.name))
    except OSError:
        return []
