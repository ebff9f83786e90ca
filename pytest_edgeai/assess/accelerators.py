"""The accelerators of a Linux host, from its pseudo-files.

Sources: the kernel's Documentation/ABI/testing/sysfs-bus-pci (vendor, device, class),
drivers/accel/ivpu (Intel NPU), drivers/accel/amdxdna, Documentation/gpu/amdgpu/driver-misc.rst
(``mem_info_vram_total``), Documentation/ABI/testing/sysfs-devices-soc; NVIDIA's driver README,
chapter "Using the /proc File System Interface"; https://coral.ai/docs/accelerator/get-started for
the USB identifiers of the Edge TPU (1a6e:089a before its firmware is loaded, 18d1:9302 after).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from pytest_edgeai.records import Accelerator

NVIDIA_SMI = (
    "nvidia-smi",
    "--query-gpu=pci.bus_id,name,memory.total",
    "--format=csv,noheader,nounits",
)

_NVIDIA, _INTEL, _AMD, _AMD_CPU, _QUALCOMM = "0x10de", "0x8086", "0x1002", "0x1022", "0x17cb"
_EDGE_TPU_PCI = ("0x1ac1", "0x089a")
_EDGE_TPU_USB = frozenset({("1a6e", "089a"), ("18d1", "9302")})
# PCI class code 03: display controllers.
_DISPLAY_CLASS = "0x03"
_GPU_VENDORS: Mapping[str, str] = {_INTEL: "Intel", _AMD: "AMD"}
_NPU_VENDORS: Mapping[str, str] = {_INTEL: "Intel", _AMD_CPU: "AMD", _QUALCOMM: "Qualcomm"}
_CARD = re.compile(r"card\d+")
_MIB = 1 << 20
_MOST_BYTES = 1 << 16


def find_accelerators(root: Path, nvidia_smi: str = "") -> tuple[Accelerator, ...]:
    """Return the accelerators that the kernel lists.

    Args:
        root: the directory that holds ``proc``, ``sys`` and ``dev``; ``/`` for this host.
        nvidia_smi: what ``NVIDIA_SMI`` writes, empty where it cannot be run.
    """
    tree = _Tree(root)
    return (
        *_nvidia(tree, nvidia_smi),
        *_tegra(tree),
        *_drm_gpus(tree),
        *_npus(tree),
        *_qualcomm(tree),
        *_edge_tpus(tree),
    )


def parse_nvidia_smi(text: str) -> dict[str, tuple[str, int | None]]:
    """Return bus address to name and memory in bytes from the output of ``NVIDIA_SMI``."""
    found: dict[str, tuple[str, int | None]] = {}
    for row in csv.reader(text.splitlines(), skipinitialspace=True):
        if len(row) == 3 and ":" in row[0]:
            memory = row[2].strip()
            size = int(memory) * _MIB if memory.isascii() and memory.isdigit() else None
            found[_bus(row[0])] = (row[1].strip(), size)
    return found


def parse_properties(text: str) -> dict[str, str]:
    """Return the ``Name: value`` lines of NVIDIA's ``information``."""
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, value in pairs}


def _bus(address: str) -> str:
    """Return a PCI address as the kernel writes it; NVIDIA's tools use a domain of 8 digits."""
    domain, _, rest = address.strip().lower().partition(":")
    return f"{domain[-4:]}:{rest}"


class _Tree:
    """Pseudo-files below a root; what cannot be read reads as empty."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def text(self, path: str) -> str:
        try:
            with (self._root / path).open("rb") as file:
                raw = file.read(_MOST_BYTES)
        except (OSError, ValueError):
            return ""
        return raw.decode("utf-8", "replace").replace("\0", " ").strip()

    def names(self, path: str) -> list[str]:
        try:
            return sorted(each.name for each in (self._root / path).iterdir())
        except OSError:
            return []

    def number(self, path: str) -> int | None:
        text = self.text(path)
        return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None

    def pci(self) -> Iterable[tuple[str, str, str, str]]:
        """Yield address, vendor, device and class of every PCI device."""
        base = "sys/bus/pci/devices"
        for name in self.names(base):
            vendor, device, kind = (
                self.text(f"{base}/{name}/{each}").lower() for each in ("vendor", "device", "class")
            )
            yield name, vendor, device, kind


def _nvidia(tree: _Tree, nvidia_smi: str) -> list[Accelerator]:
    found: dict[str, Accelerator] = {}
    for name, vendor, device, kind in tree.pci():
        if vendor == _NVIDIA and kind.startswith(_DISPLAY_CLASS):
            label = f"NVIDIA {_identifier(vendor, device)}"
            source = f"/sys/bus/pci/devices/{name}"
            found[_bus(name)] = Accelerator("gpu", "NVIDIA", label, None, source)
    base = "proc/driver/nvidia/gpus"
    for name in tree.names(base):
        model = parse_properties(tree.text(f"{base}/{name}/information")).get("Model", "")
        if model:
            source = f"/{base}/{name}/information"
            found[_bus(name)] = Accelerator("gpu", "NVIDIA", model, None, source)
    for bus, (name, size) in parse_nvidia_smi(nvidia_smi).items():
        found[bus] = Accelerator("gpu", "NVIDIA", name, size, "nvidia-smi")
    return [found[bus] for bus in sorted(found)]


def _tegra(tree: _Tree) -> list[Accelerator]:
    """Return the GPU of a Jetson, which sits on no bus and shares the host's memory."""
    path = "proc/device-tree/compatible"
    if "nvidia,tegra" not in tree.text(path):
        return []
    name = tree.text("proc/device-tree/model") or "NVIDIA Tegra"
    return [Accelerator("gpu", "NVIDIA", name, None, f"/{path}")]


def _drm_gpus(tree: _Tree) -> list[Accelerator]:
    found: list[Accelerator] = []
    for card in tree.names("sys/class/drm"):
        base = f"sys/class/drm/{card}"
        vendor = tree.text(f"{base}/device/vendor").lower()
        # Connectors (card0-HDMI-A-1) lie beside the cards.
        if not _CARD.fullmatch(card) or vendor not in _GPU_VENDORS:
            continue
        name = tree.text(f"{base}/device/product_name")
        label = f"{_GPU_VENDORS[vendor]} {_identifier(vendor, tree.text(f'{base}/device/device'))}"
        memory = tree.number(f"{base}/device/mem_info_vram_total") or tree.number(
            f"{base}/lmem_total_bytes"
        )
        found.append(Accelerator("gpu", _GPU_VENDORS[vendor], name or label, memory, f"/{base}"))
    return found


def _npus(tree: _Tree) -> list[Accelerator]:
    found: list[Accelerator] = []
    for name in tree.names("sys/class/accel"):
        base = f"sys/class/accel/{name}"
        vendor = tree.text(f"{base}/device/vendor").lower()
        if vendor in _NPU_VENDORS:
            device = tree.text(f"{base}/device/device")
            label = f"{_NPU_VENDORS[vendor]} NPU {_identifier(vendor, device)}"
            found.append(Accelerator("npu", _NPU_VENDORS[vendor], label, None, f"/{base}"))
    return found


def _qualcomm(tree: _Tree) -> list[Accelerator]:
    """Return the Adreno GPU and the Hexagon processor of a Qualcomm system on a chip."""
    words = [tree.text(f"sys/devices/soc0/{name}") for name in ("vendor", "family", "machine")]
    chip = next((word for word in reversed(words) if word), "")
    found: list[Accelerator] = []
    model = tree.text("sys/class/kgsl/kgsl-3d0/gpu_model")
    if model:
        source = "/sys/class/kgsl/kgsl-3d0"
        found.append(Accelerator("gpu", "Qualcomm", model, None, source))
    else:
        for card in tree.names("sys/class/drm"):
            path = f"sys/class/drm/{card}/device/uevent"
            if _CARD.fullmatch(card) and "qcom," in tree.text(path):
                name = f"Adreno of {chip}" if chip else "Adreno"
                found.append(Accelerator("gpu", "Qualcomm", name, None, f"/{path}"))
                break
    is_qualcomm = "qualcomm" in words[0].lower() or "snapdragon" in words[1].lower()
    # Both the vendor's driver and mainline's fastrpc reach the processor through such a device.
    devices = [name for name in tree.names("dev") if name.startswith(("adsprpc", "fastrpc-cdsp"))]
    if devices and (is_qualcomm or found):
        name = f"Hexagon of {chip}" if chip else "Hexagon"
        found.append(Accelerator("npu", "Qualcomm", name, None, f"/dev/{devices[0]}"))
    return found


def _edge_tpus(tree: _Tree) -> list[Accelerator]:
    found = [
        Accelerator("tpu", "Google", "Edge TPU (PCIe)", None, f"/sys/bus/pci/devices/{name}")
        for name, vendor, device, _ in tree.pci()
        if (vendor, device) == _EDGE_TPU_PCI
    ]
    base = "sys/bus/usb/devices"
    for name in tree.names(base):
        pair = tuple(tree.text(f"{base}/{name}/{each}") for each in ("idVendor", "idProduct"))
        if pair in _EDGE_TPU_USB:
            found.append(Accelerator("tpu", "Google", "Edge TPU (USB)", None, f"/{base}/{name}"))
    return found


def _identifier(vendor: str, device: str) -> str:
    return f"{vendor.removeprefix('0x')}:{device.lower().removeprefix('0x')}".rstrip(":")
