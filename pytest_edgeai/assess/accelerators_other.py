"""The accelerators that macOS and Windows list.

Sources: system_profiler(8), ioreg(8); Windows driver documentation, "System-defined device setup
classes" (Display and ComputeAccelerator) and the registry values of their drivers.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pytest_edgeai.assess.command import output_of
from pytest_edgeai.records import Accelerator

SYSTEM_PROFILER = ("system_profiler", "SPDisplaysDataType", "-json")
# Apple's neural engine is the node "ane" of the device tree; virtual machines have none.
IOREG = ("ioreg", "-p", "IODeviceTree", "-r", "-d", "1", "-n", "ane")
_ANE = re.compile(r"\+-o ane\d*\b")
# system_profiler starts a helper that gathers for some seconds on a cold machine.
_PROFILER_TIMEOUT_S = 15.0
_SIZE = re.compile(r"(\d+)\s*(MB|GB)", re.IGNORECASE)
_UNITS = {"MB": 1 << 20, "GB": 1 << 30}

WINDOWS_CLASSES: Mapping[str, Literal["gpu", "npu"]] = {
    "{4d36e968-e325-11ce-bfc1-08002be10318}": "gpu",
    "{f01a9d53-3ff6-48d2-9f97-c8a7004be10c}": "npu",
}
_CLASS_KEY = r"SYSTEM\CurrentControlSet\Control\Class"
_PCI_VENDORS: Mapping[str, str] = {
    "VEN_10DE": "NVIDIA",
    "VEN_8086": "Intel",
    "VEN_1002": "AMD",
    "VEN_1022": "AMD",
    "VEN_QCOM": "Qualcomm",
    "VEN_17CB": "Qualcomm",
}
_VENDOR_WORDS: tuple[tuple[str, str], ...] = (
    ("nvidia", "NVIDIA"),
    ("intel", "Intel"),
    ("amd", "AMD"),
    ("ati ", "AMD"),
    ("apple", "Apple"),
    ("qualcomm", "Qualcomm"),
    ("adreno", "Qualcomm"),
)


def darwin_accelerators(profile: str, registry: str, cpu_model: str) -> tuple[Accelerator, ...]:
    """Compose the accelerators of a Mac.

    Args:
        profile: what ``SYSTEM_PROFILER`` writes; empty where it cannot be run.
        registry: what ``IOREG`` writes, likewise.
        cpu_model: marketing name of the processor.
    """
    found: list[Accelerator] = []
    for entry in _displays(profile):
        name = str(entry.get("sppci_model") or entry.get("_name") or "")
        vendor = _vendor(f"{entry.get('spdisplays_vendor', '')} {name}")
        if name and vendor:
            # Apple's own GPUs share the host's memory and state none.
            size = _SIZE.search(str(entry.get("spdisplays_vram", "")))
            memory = int(size[1]) * _UNITS[size[2].upper()] if size else None
            found.append(Accelerator("gpu", vendor, name, memory, "system_profiler"))
    if cpu_model.startswith("Apple") and _ANE.search(registry):
        name = f"Neural Engine of {cpu_model}"
        found.append(Accelerator("npu", "Apple", name, None, "ioreg"))
    return tuple(found)


def read_darwin_accelerators(cpu_model: str) -> tuple[Accelerator, ...]:
    """Return the accelerators of this Mac."""
    return darwin_accelerators(
        output_of(SYSTEM_PROFILER, _PROFILER_TIMEOUT_S), output_of(IOREG), cpu_model
    )


def windows_accelerators(
    drivers: Iterable[tuple[Literal["gpu", "npu"], Mapping[str, object]]],
) -> tuple[Accelerator, ...]:
    """Compose the accelerators of a Windows machine.

    Args:
        drivers: kind of device, and the registry values of its driver, for each driver.
    """
    found: list[Accelerator] = []
    for kind, values in drivers:
        name, device = str(values.get("DriverDesc", "")), str(values.get("MatchingDeviceId", ""))
        vendors = (vendor for word, vendor in _PCI_VENDORS.items() if word in device.upper())
        vendor = next(vendors, "") or _vendor(name)
        # Remote desktops and virtual machines install display drivers without a device.
        if name and vendor:
            memory = _memory(values.get("HardwareInformation.qwMemorySize"))
            found.append(Accelerator(kind, vendor, name, memory, "registry"))
    return tuple(found)


def read_windows_accelerators() -> tuple[Accelerator, ...]:
    """Return the accelerators of this Windows machine."""
    if sys.platform != "win32":
        return ()
    import winreg

    drivers: list[tuple[Literal["gpu", "npu"], dict[str, object]]] = []
    for identifier, kind in WINDOWS_CLASSES.items():
        for index in range(16):
            try:
                path = rf"{_CLASS_KEY}\{identifier}\{index:04}"
                with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, path) as key:
                    values = [
                        winreg.EnumValue(key, at) for at in range(winreg.QueryInfoKey(key)[1])
                    ]
            except OSError:
                continue
            drivers.append((kind, {name: value for name, value, _ in values}))
    return windows_accelerators(drivers)


def _displays(profile: str) -> list[dict[str, Any]]:
    try:
        found = json.loads(profile).get("SPDisplaysDataType", []) if profile else []
    except (ValueError, AttributeError, RecursionError):
        return []
    listed = found if isinstance(found, list) else []
    return [entry for entry in listed if isinstance(entry, dict)]


def _vendor(text: str) -> str:
    lower = text.lower()
    return next((vendor for word, vendor in _VENDOR_WORDS if word in lower), "")


def _memory(value: object) -> int | None:
    """Return a size that drivers store as a number or as its bytes."""
    if isinstance(value, bytes):
        value = int.from_bytes(value[:8], "little")
    return value if isinstance(value, int) and value > 0 else None
