"""The battery of this machine while it discharges: coarse, and of the whole machine.

Source: the kernel's Documentation/ABI/testing/sysfs-class-power: energies in µWh, charges in µAh,
voltages in µV, powers in µW, currents in µA.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pytest_edgeai.errors import MeasurementError
from pytest_edgeai.measure.energy_counters import ANY_DEVICE, Found
from pytest_edgeai.measure.energy_sysfs import (
    Unreadable,
    not_of_the_kernel,
    read_number,
    read_word,
)

JOULES_PER_MICROWATT_HOUR = 3.6e-3
MICRO = 1e-6
QUANTUM_JOULES = 36.0
"""10 mWh, the unit of RemainingCapacity() in the Smart Battery Data Specification 1.1."""

LEAST_BLOCK_S = 120.0
"""Two of the rolling averages of a minute that AverageCurrent() is in the same specification."""


@dataclass
class Battery:
    """One discharging battery; see :class:`~.energy_counters.EnergyCounter`.

    Attributes:
        directory: its directory.
        name: its name (``BAT0``).
        kind: what is read: ``energy``, ``charge`` or ``power``.
        clock: seconds, for the power that is added up over time.
    """

    directory: Path
    name: str
    kind: str
    clock: Callable[[], float] = time.monotonic
    total_joules: float = 0.0
    source: str = "battery"
    covers: frozenset[str] = frozenset({ANY_DEVICE})
    least_block_s: float = LEAST_BLOCK_S
    _last: float = field(default=0.0, repr=False)
    _last_s: float = field(default=0.0, repr=False)

    def __post_init__(self) -> None:
        """Take the first reading."""
        self._last, self._last_s = self._read(), self.clock()

    @property
    def place(self) -> str:
        """Its directory."""
        return str(self.directory)

    @property
    def quantum_joules(self) -> float:
        """The step of its gauge; a power is added up over time and has none."""
        return 0.0 if self.kind == "power" else QUANTUM_JOULES

    def joules(self) -> float:
        """Return what it gave since it was opened."""
        try:
            current = self._read()
        except (Unreadable, FileNotFoundError) as error:
            raise MeasurementError(f"the battery {self.name} was lost: {error}") from None
        if read_word(self.directory / "status") != "Discharging":
            raise MeasurementError(f"the battery {self.name} no longer discharges")
        now_s = self.clock()
        if self.kind == "power":
            # The trapezoidal rule: exact where the power changes evenly between two readings.
            self.total_joules += (self._last + current) / 2 * (now_s - self._last_s)
        elif current > self._last:
            raise MeasurementError(f"the battery {self.name} rose while it discharged")
        else:
            self.total_joules += self._last - current
        self._last, self._last_s = current, now_s
        return self.total_joules

    def _read(self) -> float:
        """Return the energy that is left in joules, or the power that is drawn in watts."""
        if self.kind == "energy":
            return read_number(self.directory / "energy_now") * JOULES_PER_MICROWATT_HOUR
        if self.kind == "charge":
            volts = self._volts()
            charge = read_number(self.directory / "charge_now")
            return charge * volts * JOULES_PER_MICROWATT_HOUR
        try:
            return abs(read_number(self.directory / "power_now")) * MICRO
        except FileNotFoundError:
            return abs(read_number(self.directory / "current_now")) * MICRO * self._volts()

    def _volts(self) -> float:
        """Return the voltage: the design's, which does not sag under load, or else today's.

        A charge times a voltage that falls under load would show energy that nobody took.
        """
        try:
            return read_number(self.directory / "voltage_min_design") * MICRO
        except FileNotFoundError:
            return read_number(self.directory / "voltage_now") * MICRO


def find_batteries(sysfs: Path) -> Found:
    """Return the batteries that this machine runs on; on mains they say nothing.

    Args:
        sysfs: the directory that holds ``class/power_supply``.
    """
    counters: list[Battery] = []
    unreadable: list[str] = []
    try:
        supplies = sorted((sysfs / "class/power_supply").iterdir())
    except OSError:
        supplies = []
    for supply in supplies:
        # Mice and headsets report their own batteries with the scope "Device".
        device = read_word(supply / "scope") == "Device"
        if read_word(supply / "type") != "Battery" or device:
            continue
        if read_word(supply / "status") != "Discharging":
            unreadable.append(f"battery {supply.name}: it does not discharge, so it counts nothing")
            continue
        try:
            counters.append(_open(supply))
        except (Unreadable, FileNotFoundError) as error:
            words = str(error) if isinstance(error, Unreadable) else "it states no energy"
            unreadable.append(f"battery {supply.name}: {words}")
    return Found(tuple(counters), tuple(unreadable), not_of_the_kernel(sysfs))


def _open(supply: Path) -> Battery:
    for kind, file in (("energy", "energy_now"), ("charge", "charge_now")):
        if (supply / file).exists():
            return Battery(supply, supply.name, kind)
    return Battery(supply, supply.name, "power")
