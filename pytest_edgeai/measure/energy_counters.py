"""Counters of energy: what each of them must say, and which of them this machine has.

A counter adds up the energy of a part of the machine, whoever used it; that is why both models run
in turns, alone, under the lock of the machine.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from pytest_edgeai.descriptors import FrameworkDescriptor
from pytest_edgeai.facts import Accelerator

CPU = "cpu"
ANY_DEVICE = "any"
"""Covered by a counter of the whole machine, such as its battery."""


class EnergyCounter(Protocol):
    """One counter, opened when measuring begins."""

    @property
    def source(self) -> str:
        """One of :data:`~pytest_edgeai.energy_records.ENERGY_SOURCES`."""
        ...

    @property
    def name(self) -> str:
        """What it counts (``package-0``)."""
        ...

    @property
    def place(self) -> str:
        """The file or device that it is read from."""
        ...

    @property
    def covers(self) -> frozenset[str]:
        """The devices whose energy it holds: ``cpu``, a vendor of accelerators, or ``any``."""
        ...

    @property
    def quantum_joules(self) -> float:
        """The smallest step that it can show; 0 where it has none."""
        ...

    @property
    def least_block_s(self) -> float:
        """The shortest time over which it says something, whatever it seems to show."""
        ...

    def joules(self) -> float:
        """Return the energy since it was opened; never less than before.

        Raises:
            MeasurementError: it can no longer be read, or ran backwards.
        """
        ...


@dataclass(frozen=True)
class Found:
    """The counters of one kind.

    Attributes:
        counters: those that can be read.
        unreadable: those that are there and cannot be, and why, one sentence each.
        planted: why they are no counters of this machine's kernel; empty where they are.
    """

    counters: tuple[EnergyCounter, ...] = ()
    unreadable: tuple[str, ...] = ()
    planted: str = ""


@dataclass(frozen=True)
class Chosen:
    """The counters that hold the energy of both models, none of it twice.

    Attributes:
        counters: what is read; empty where nothing covers every device.
        missing: why nothing does; empty where something does.
        planted: why they are no counters of this machine's kernel; empty where they are.
        unreadable: counters that could not be read, and why.
    """

    counters: tuple[EnergyCounter, ...]
    missing: str
    planted: str
    unreadable: tuple[str, ...]


def devices(
    frameworks: Iterable[FrameworkDescriptor], accelerators: Sequence[Accelerator]
) -> set[str]:
    """Return what models run on: ``cpu``, and vendors of accelerators with power of their own.

    Intel's graphics and neural units that share the host's memory lie in the package and are
    counted with the CPU.

    Args:
        frameworks: those of both models.
        accelerators: what the host has.
    """
    needed: set[str] = set()
    for framework in frameworks:
        if framework.device == "CPU" or not framework.accelerators:
            needed.add(CPU)
            continue
        here = [each for each in accelerators if each.vendor in framework.accelerators]
        for each in here:
            shared = each.vendor == "Intel" and each.memory_bytes is None
            needed.add(CPU if shared else each.vendor)
        if not here:
            needed.update(framework.accelerators)
    return needed


def choose_counters(needed: Collection[str], found: Sequence[Found]) -> Chosen:
    """Return the counters that together hold the energy of the devices that the models run on.

    Counters of parts (a package, a GPU) are added up; one of the whole machine stands alone and
    comes last, because it holds the display and the fans as well. Those of the CPU are read beside
    an accelerator's wherever they can be, since it is fed by the CPU.

    Args:
        needed: ``cpu`` and vendors of accelerators.
        found: each kind of counters, in order of preference.
    """
    unreadable = tuple(text for kind in found for text in kind.unreadable)
    wanted = {*needed, CPU}
    parts = [(counter, kind) for kind in found for counter in kind.counters if _is_part(counter)]
    parts = [(counter, kind) for counter, kind in parts if counter.covers & wanted]
    if set(needed) <= _covered(counter for counter, _ in parts):
        planted = next((kind.planted for _, kind in parts if kind.planted), "")
        return Chosen(tuple(counter for counter, _ in parts), "", planted, unreadable)
    for kind in found:
        whole = tuple(counter for counter in kind.counters if not _is_part(counter))
        if whole:
            return Chosen(whole, "", kind.planted, unreadable)
    uncovered = sorted(set(needed) - _covered(counter for counter, _ in parts))
    names = ", ".join("CPU" if name == CPU else f"{name} accelerator" for name in uncovered)
    return Chosen((), f"no counter of the energy of the {names} can be read", "", unreadable)


def _is_part(counter: EnergyCounter) -> bool:
    return ANY_DEVICE not in counter.covers


def _covered(counters: Iterable[EnergyCounter]) -> set[str]:
    return {device for counter in counters for device in counter.covers}
