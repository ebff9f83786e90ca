"""The power of Apple silicon, through powermetrics(1), which root alone may run.

The private IOReport framework would tell without root; its names and units change between releases
of macOS and nobody promises them, so nothing is read from it. ``powermetrics`` writes one sample
after the other, with the time that it covers and the power of CPU, GPU and Neural Engine together.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence

from pytest_edgeai.errors import MeasurementError
from pytest_edgeai.measure.energy_counters import CPU, Found

APPLE = "Apple"
COMMAND = ("powermetrics", "--samplers", "cpu_power,gpu_power", "-i", "100", "-b", "1")
LEAST_BLOCK_S = 2.0
END_LIMIT_S = 5.0
_ELAPSED = re.compile(r"\*\*\* Sampled system activity .*\(([0-9.]+)ms elapsed\)")
_POWER = re.compile(r"Combined Power \(CPU \+ GPU \+ ANE\): ([0-9.]+) mW")


class PowerMetrics:
    """The samples of one running ``powermetrics``; see :class:`~.energy_counters.EnergyCounter`."""

    source = "powermetrics"
    name = "CPU, GPU and Neural Engine"
    covers = frozenset({CPU, APPLE})
    least_block_s = LEAST_BLOCK_S

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        """Start ``command``.

        Raises:
            OSError: it cannot be started.
        """
        self.place = command[0]
        self.quantum_joules = 1e-4
        self._joules = 0.0
        self._samples = 0
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8"
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def joules(self) -> float:
        """Return the energy of all samples so far."""
        if not self._reader.is_alive():
            raise MeasurementError(f"{self.place} ended after {self._samples} samples")
        return self._joules

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        try:
            self._process.wait(END_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(END_LIMIT_S)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _read(self) -> None:
        elapsed_s = 0.0
        for line in self._process.stdout or ():
            if elapsed := _ELAPSED.search(line):
                elapsed_s = float(elapsed[1]) / 1e3
            elif power := _POWER.search(line):
                self._joules += float(power[1]) / 1e3 * elapsed_s
                self._samples += 1
                elapsed_s = 0.0


def find_powermetrics(*, system: str = sys.platform) -> Found:
    """Return the counter of Apple silicon where this process may start it.

    Args:
        system: as ``sys.platform`` names it.
    """
    if system != "darwin":
        return Found()
    if os.geteuid() != 0:
        return Found((), ("powermetrics: only root may run it: sudo pytest …",))
    if shutil.which(COMMAND[0]) is None:
        return Found((), ("powermetrics: there is no such command",))
    return Found((PowerMetrics(),))
