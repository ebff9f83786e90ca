"""Planted directories that look like sysfs, with counters that a thread moves; proxies, all of it.

The figures are written as Linux writes them. Nothing here is a measurement, and the product says so
of every directory that is no mounted sysfs.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

RANGE_MICROJOULES = 262143328850
"""``max_energy_range_uj`` of an Intel Core processor."""


def put(directory: Path, **files: object) -> Path:
    """Write one file of sysfs for each name, and return the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (directory / name).write_text(f"{value}\n", encoding="ascii")
    return directory


def package(sysfs: Path, index: int = 0, *, energy_uj: object = 1000, dram: bool = True) -> Path:
    """Plant a package with its cores and, where there is one, its memory; return its directory."""
    zone = put(
        sysfs / f"class/powercap/intel-rapl:{index}",
        name=f"package-{index}",
        energy_uj=energy_uj,
        max_energy_range_uj=RANGE_MICROJOULES,
    )
    put(zone / f"intel-rapl:{index}:0", name="core", energy_uj=10, max_energy_range_uj=99)
    if dram:
        memory = zone / f"intel-rapl:{index}:1"
        put(memory, name="dram", energy_uj=500, max_energy_range_uj=65712999613)
    return zone


def battery(
    sysfs: Path, name: str = "BAT0", *, status: str = "Discharging", **files: object
) -> Path:
    """Plant a battery and return its directory."""
    place = sysfs / "class/power_supply" / name
    return put(place, type="Battery", status=status, **files)


class Advancing:
    """A planted counter that a thread moves as if the machine drew a constant power."""

    def __init__(self, file: Path, *, watts: float, update_s: float = 0.001) -> None:
        """Move ``file`` by ``watts`` every ``update_s`` seconds, from entering to leaving."""
        self._file, self._watts, self._update_s = file, watts, update_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._move)

    def __enter__(self) -> Advancing:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join()

    def _move(self) -> None:
        begin = time.monotonic()
        descriptor = os.open(self._file, os.O_WRONLY)
        try:
            while not self._ended.wait(self._update_s):
                microjoules = round((time.monotonic() - begin) * self._watts * 1e6)
                # In place and of one width, so that no reader finds half a number.
                os.pwrite(descriptor, f"{microjoules:020d}\n".encode(), 0)
        finally:
            os.close(descriptor)
