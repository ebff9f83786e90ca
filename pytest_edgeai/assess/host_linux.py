"""Pure parsers of what Linux tells about a processor, a container and a virtual machine.

Sources: proc(5), cgroups(7), the kernel's Documentation/admin-guide/cgroup-v2.rst and
cgroup-v1/memory.rst, and sys-utils/lscpu-arm.c of util-linux for the codes of ARM cores.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

# Features that decide how fast low-precision arithmetic is, as the kernel spells them.
X86_FEATURES: tuple[str, ...] = (
    "avx2",
    "f16c",
    "avx512f",
    "avx512bw",
    "avx512vl",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "avx_vnni",
    "avx_vnni_int8",
    "avx_vnni_int16",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
    "amx_fp16",
)
ARM_FEATURES: tuple[str, ...] = (
    "neon",
    "asimd",
    "asimdhp",
    "asimddp",
    "asimdfhm",
    "i8mm",
    "bf16",
    "sve",
    "sve2",
    "svei8mm",
    "svebf16",
    "sme",
    "sme2",
)

ARM_IMPLEMENTERS: Mapping[int, str] = {
    0x41: "ARM",
    0x42: "Broadcom",
    0x43: "Cavium",
    0x46: "Fujitsu",
    0x48: "HiSilicon",
    0x4E: "NVIDIA",
    0x50: "APM",
    0x51: "Qualcomm",
    0x53: "Samsung",
    0x56: "Marvell",
    0x61: "Apple",
    0x69: "Intel",
    0x6D: "Microsoft",
    0x70: "Phytium",
    0xC0: "Ampere",
}
ARM_PARTS: Mapping[tuple[int, int], str] = {
    (0x41, 0xC07): "Cortex-A7",
    (0x41, 0xC08): "Cortex-A8",
    (0x41, 0xC09): "Cortex-A9",
    (0x41, 0xC0F): "Cortex-A15",
    (0x41, 0xD01): "Cortex-A32",
    (0x41, 0xD03): "Cortex-A53",
    (0x41, 0xD04): "Cortex-A35",
    (0x41, 0xD05): "Cortex-A55",
    (0x41, 0xD07): "Cortex-A57",
    (0x41, 0xD08): "Cortex-A72",
    (0x41, 0xD09): "Cortex-A73",
    (0x41, 0xD0A): "Cortex-A75",
    (0x41, 0xD0B): "Cortex-A76",
    (0x41, 0xD0C): "Neoverse-N1",
    (0x41, 0xD0D): "Cortex-A77",
    (0x41, 0xD40): "Neoverse-V1",
    (0x41, 0xD41): "Cortex-A78",
    (0x41, 0xD42): "Cortex-A78AE",
    (0x41, 0xD44): "Cortex-X1",
    (0x41, 0xD46): "Cortex-A510",
    (0x41, 0xD47): "Cortex-A710",
    (0x41, 0xD48): "Cortex-X2",
    (0x41, 0xD49): "Neoverse-N2",
    (0x41, 0xD4A): "Neoverse-E1",
    (0x41, 0xD4B): "Cortex-A78C",
    (0x41, 0xD4D): "Cortex-A715",
    (0x41, 0xD4E): "Cortex-X3",
    (0x41, 0xD4F): "Neoverse-V2",
    (0x41, 0xD80): "Cortex-A520",
    (0x41, 0xD81): "Cortex-A720",
    (0x41, 0xD82): "Cortex-X4",
    (0x41, 0xD84): "Neoverse-V3",
    (0x41, 0xD85): "Cortex-X925",
    (0x41, 0xD87): "Cortex-A725",
    (0x41, 0xD8E): "Neoverse-N3",
    (0x4E, 0x003): "Denver 2",
    (0x4E, 0x004): "Carmel",
    (0x61, 0x022): "Icestorm-M1",
    (0x61, 0x023): "Firestorm-M1",
    (0x61, 0x024): "Icestorm-M1-Pro",
    (0x61, 0x025): "Firestorm-M1-Pro",
    (0x61, 0x028): "Icestorm-M1-Max",
    (0x61, 0x029): "Firestorm-M1-Max",
    (0x61, 0x032): "Blizzard-M2",
    (0x61, 0x033): "Avalanche-M2",
    (0x61, 0x034): "Blizzard-M2-Pro",
    (0x61, 0x035): "Avalanche-M2-Pro",
    (0x61, 0x038): "Blizzard-M2-Max",
    (0x61, 0x039): "Avalanche-M2-Max",
    (0xC0, 0xAC3): "Ampere-1",
    (0xC0, 0xAC4): "Ampere-1a",
}

# Words in DMI's vendor and product, and the hypervisor they stand for (src/basic/virt.c of
# systemd has the same table).
_HYPERVISORS: tuple[tuple[str, str], ...] = (
    ("amazon ec2", "amazon-ec2"),
    ("google compute engine", "google-compute-engine"),
    ("vmware", "vmware"),
    ("virtualbox", "virtualbox"),
    ("innotek", "virtualbox"),
    ("parallels", "parallels"),
    ("xen", "xen"),
    ("virtual machine", "hyper-v"),
    ("apple virtualization", "apple-virtualization"),
    ("firecracker", "firecracker"),
    ("kvm", "kvm"),
    ("qemu", "qemu"),
    ("bochs", "bochs"),
    ("openstack", "openstack"),
    ("alibaba cloud", "alibaba-cloud"),
    ("digitalocean", "digitalocean"),
    ("hetzner", "hetzner"),
)
# Words in the cgroup paths of process 1.
_CONTAINERS: tuple[tuple[str, str], ...] = (
    ("kubepods", "kubernetes"),
    ("libpod", "podman"),
    ("docker", "docker"),
    ("lxc", "lxc"),
    ("containerd", "containerd"),
    ("machine-rkt", "rkt"),
)
_KIB = 1024


@dataclass(frozen=True)
class CpuInfo:
    """What ``/proc/cpuinfo`` says.

    Attributes:
        vendor: ``GenuineIntel``, ``AuthenticAMD``, ``ARM``, ``Apple`` ...; empty if unknown.
        model: marketing name, or the names of the core types; empty if unknown.
        simd: features that decide INT8 speed and that every core has, in the tables' order.
        hypervisor: whether the processor says that it runs under a hypervisor.
    """

    vendor: str
    model: str
    simd: tuple[str, ...]
    hypervisor: bool


@dataclass(frozen=True)
class CgroupMount:
    """Where the hierarchy of one cgroup controller is mounted.

    Attributes:
        root: the cgroup that forms the mount's root.
        point: where it is mounted.
    """

    root: str
    point: str


def parse_cpuinfo(text: str) -> CpuInfo:
    """Parse ``/proc/cpuinfo`` of an x86 or ARM kernel; what it does not say stays empty."""
    vendors: list[str] = []
    names: list[str] = []
    parts: list[str] = []
    features: set[str] | None = None
    hypervisor = False
    implementer = -1
    for line in text.splitlines():
        key, separator, value = line.partition(":")
        key, value = key.strip().lower(), value.strip()
        if not separator or not value:
            continue
        if key == "vendor_id":
            vendors.append(value)
        elif key in ("model name", "cpu model"):
            names.append(value)
        elif key in ("flags", "features"):
            words = set(value.lower().split())
            hypervisor = hypervisor or "hypervisor" in words
            features = words if features is None else features & words
        elif key == "cpu implementer":
            implementer = _number(value)
            vendors.append(ARM_IMPLEMENTERS.get(implementer, ""))
        elif key == "cpu part":
            parts.append(ARM_PARTS.get((implementer, _number(value)), ""))
    known = features or set()
    # ARM kernels print a generic "ARMv7 Processor" or nothing as the name; the part is exact.
    model = " + ".join(dict.fromkeys(part for part in parts if part)) or next(iter(names), "")
    return CpuInfo(
        vendor=next((vendor for vendor in vendors if vendor), ""),
        model=" ".join(model.split()),
        simd=tuple(name for name in dict.fromkeys(X86_FEATURES + ARM_FEATURES) if name in known),
        hypervisor=hypervisor,
    )


def parse_meminfo(text: str) -> int | None:
    """Return ``MemTotal`` of ``/proc/meminfo`` in bytes; ``None`` if it is not there."""
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "MemTotal:":
            amount = _number(words[1])
            return amount * _KIB if amount > 0 else None
    return None


def parse_cgroup(text: str) -> dict[str, str]:
    """Parse ``/proc/PID/cgroup``.

    Returns:
        Controller name to the path of the process's cgroup; the unified hierarchy (version 2) has
        the empty name.
    """
    paths: dict[str, str] = {}
    for line in text.splitlines():
        hierarchy, _, rest = line.partition(":")
        controllers, separator, path = rest.partition(":")
        if not separator or not hierarchy.isdigit() or not path.startswith("/"):
            continue
        for controller in controllers.split(","):
            paths[controller] = path
    return paths


def parse_mountinfo(text: str) -> dict[str, CgroupMount]:
    """Parse the cgroup mounts of ``/proc/PID/mountinfo``.

    Returns:
        Controller name to its mount; the unified hierarchy has the empty name.
    """
    mounts: dict[str, CgroupMount] = {}
    for line in text.splitlines():
        left, separator, right = line.partition(" - ")
        before, after = left.split(), right.split()
        if not separator or len(before) < 5 or len(after) < 3:
            continue
        mount = CgroupMount(root=before[3], point=before[4])
        if after[0] == "cgroup2":
            mounts.setdefault("", mount)
        elif after[0] == "cgroup":
            for option in after[2].split(","):
                mounts.setdefault(option, mount)
    return mounts


def cgroup_directories(path: str, mount: CgroupMount) -> list[str]:
    """Return the directories of a cgroup and of its ancestors, up to the mount; limits nest."""
    if mount.root != "/" and (path + "/").startswith(mount.root + "/"):
        path = path[len(mount.root) :]
    # Without a matching root the path belongs to another namespace and only the mount is known.
    elif mount.root != "/":
        path = ""
    names = [name for name in path.split("/") if name]
    if ".." in names:
        names = []
    base = mount.point.rstrip("/")
    return ["/".join([base, *names[:depth]]) for depth in range(len(names), -1, -1)]


def parse_cpu_max(text: str) -> float | None:
    """Return the CPUs that ``cpu.max`` of cgroup version 2 allows; ``None`` without a limit."""
    words = text.split()
    if len(words) != 2:
        return None
    return parse_cfs_quota(words[0], words[1])


def parse_cfs_quota(quota: str, period: str) -> float | None:
    """Return the CPUs that a CFS quota allows; ``None`` without a limit.

    Args:
        quota: microseconds per period, ``-1`` or ``max`` for no limit.
        period: length of the period in microseconds.
    """
    allowed, length = _number(quota), _number(period)
    return allowed / length if allowed > 0 and length > 0 else None


def parse_memory_limit(text: str) -> int | None:
    """Return the bytes of ``memory.max`` or ``memory.limit_in_bytes``; ``None`` for ``max``.

    Version 1 writes a number above all memory instead of ``max``: compare with the physical memory.
    """
    limit = _number(text.strip())
    return limit if limit > 0 else None


def usable_cores(affinity: int, quota: float | None) -> int:
    """Return the cores that a process can keep busy: its affinity, cut to the quota rounded up."""
    if quota is None:
        return max(1, affinity)
    return max(1, min(affinity, math.ceil(quota)))


def recognize_container(cgroup_text: str) -> str:
    """Return the container technology that the cgroup paths of process 1 name, or ``""``."""
    paths = " ".join(parse_cgroup(cgroup_text).values()).lower()
    return next((name for word, name in _CONTAINERS if word in paths), "")


def recognize_hypervisor(vendor: str, product: str) -> str:
    """Return the hypervisor that DMI's system vendor and product name, or ``""``.

    Bare-metal machines of a cloud carry the vendor too, and ``metal`` in the product.
    """
    words = f"{vendor} {product}".lower()
    if "metal" in product.lower():
        return ""
    return next((name for word, name in _HYPERVISORS if word in words), "")


def _number(text: str) -> int:
    """Return a decimal or ``0x`` number, and -1 for anything else."""
    try:
        return int(text, 16) if text.lower().startswith("0x") else int(text)
    except ValueError:
        return -1
