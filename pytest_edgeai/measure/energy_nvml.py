"""The energy counters of NVIDIA's GPUs, through NVML.

Source: ``nvmlDeviceGetTotalEnergyConsumption`` of the NVML API reference: millijoules since the
driver was loaded, from the Volta generation on. It is updated every 20 to 100 ms.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pytest_edgeai.errors import MeasurementError
from pytest_edgeai.measure.energy_counters import Found

NVIDIA = "NVIDIA"
INSTALL = 'pip install "pytest-edgeai[energy]"'
LEAST_BLOCK_S = 2.0
VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass
class Gpu:
    """One GPU; see :class:`~.energy_counters.EnergyCounter`.

    Attributes:
        name: its name and index.
        place: its UUID.
        millijoules: reads the counter.
        first: what it read when it was opened.
        last: what it read last.
    """

    name: str
    place: str
    millijoules: Callable[[], int]
    first: int
    last: int
    source: str = "NVML"
    covers: frozenset[str] = frozenset({NVIDIA})
    quantum_joules: float = 1e-3
    least_block_s: float = LEAST_BLOCK_S

    def joules(self) -> float:
        """Return the energy since it was opened."""
        try:
            current = int(self.millijoules())
        except Exception as error:
            raise MeasurementError(f"the energy counter {self.name} was lost: {error}") from None
        if current < self.last:
            raise MeasurementError(f"the energy counter {self.name} ran backwards")
        self.last = current
        return (current - self.first) * 1e-3


def find_gpus(
    library: Callable[[], Any] | None = None, environment: Mapping[str, str] = os.environ
) -> Found:
    """Return the GPUs that CUDA may use; all of them are added up, idle ones as well.

    Args:
        library: returns the module ``pynvml``; that of this interpreter by default.
        environment: may name the devices that are visible.
    """
    try:
        nvml = (library or _pynvml)()
    except ImportError:
        return Found((), (f"NVML: nvidia-ml-py is not installed; run: {INSTALL}",))
    try:
        nvml.nvmlInit()
        count = int(nvml.nvmlDeviceGetCount())
    except nvml.NVMLError:
        # A machine without NVIDIA's driver has no such counter, which nobody need be told.
        return Found()
    counters: list[Gpu] = []
    unreadable: list[str] = []
    for index in range(count):
        name = f"GPU {index}"
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            name = f"{_text(nvml.nvmlDeviceGetName(handle))} {index}"
            uuid = _text(nvml.nvmlDeviceGetUUID(handle))
            if not _is_visible(index, uuid, environment):
                continue
            first = int(nvml.nvmlDeviceGetTotalEnergyConsumption(handle))
        except nvml.NVMLError as error:
            unreadable.append(f"NVML {name}: {error}")
            continue
        read = _reader(nvml, handle)
        counters.append(Gpu(name, uuid, read, first, first))
    # What runs on a GPU that cannot be read would go uncounted.
    return Found(() if unreadable else tuple(counters), tuple(unreadable))


def _pynvml() -> Any:
    import pynvml

    return pynvml


def _reader(nvml: Any, handle: Any) -> Callable[[], int]:
    return lambda: int(nvml.nvmlDeviceGetTotalEnergyConsumption(handle))


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _is_visible(index: int, uuid: str, environment: Mapping[str, str]) -> bool:
    """Return whether CUDA sees a device, as far as its variables tell.

    Indices are NVML's where CUDA_DEVICE_ORDER is PCI_BUS_ID; in another order they may name other
    devices, and leave none out.
    """
    visible = environment.get(VISIBLE)
    if visible is None:
        return True
    words = [word.strip() for word in visible.split(",")]
    if words[0] in ("", "-1"):
        return False
    if words[0].startswith("GPU-"):
        return any(uuid.startswith(word) for word in words)
    return str(index) in words if environment.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID" else True
