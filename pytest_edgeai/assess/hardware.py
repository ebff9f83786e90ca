"""The facts of this host, each with the interface that it was read from."""

from __future__ import annotations

import os
import platform
import socket
from pathlib import Path

from pytest_edgeai.assess import host_linux
from pytest_edgeai.assess.accelerators import NVIDIA_SMI, find_accelerators
from pytest_edgeai.assess.accelerators_other import (
    read_darwin_accelerators,
    read_windows_accelerators,
)
from pytest_edgeai.assess.command import output_of
from pytest_edgeai.assess.host_linux import parse_cgroup, parse_cpuinfo
from pytest_edgeai.assess.host_other import SystemFacts, read_darwin, read_windows
from pytest_edgeai.assess.power import (
    Power,
    read_darwin_power,
    read_linux_power,
    read_windows_power,
)
from pytest_edgeai.records import Accelerator, HostFacts

__all__ = ["parse_cgroup", "parse_cpuinfo", "read_host", "read_linux"]

# A pseudo-file is small; the limit guards against a bind mount of something else.
_MOST_BYTES = 1 << 22


def read_host() -> HostFacts:
    """Read the facts of this host; what cannot be read stays empty or ``None``."""
    system = platform.system()
    release = f"{system} {platform.release()}".strip()
    if system == "Linux":
        return read_linux(
            Path("/"),
            affinity=_affinity(),
            hostname=socket.gethostname(),
            system=release,
            nvidia_smi=output_of(NVIDIA_SMI),
        )
    facts = SystemFacts("", "", None, (), "", None, "")
    try:
        if system == "Darwin":
            facts = read_darwin()
        elif system == "Windows":
            facts = read_windows()
    except (OSError, AttributeError):
        # Facts that the system does not give stay unknown; the record says so by being empty.
        facts = SystemFacts("", "", None, (), "", None, "")
    accelerators: tuple[Accelerator, ...] = ()
    power = Power()
    try:
        if system == "Darwin":
            accelerators, power = read_darwin_accelerators(facts.cpu_model), read_darwin_power()
        elif system == "Windows":
            accelerators, power = read_windows_accelerators(), read_windows_power()
    except (OSError, AttributeError):
        accelerators, power = (), Power()
    cores = facts.cores or _affinity()
    sources = {
        "hostname": "gethostname",
        "system": "uname",
        "architecture": "uname",
        "logical_cores": facts.interface if facts.cores else "cpu_count",
    }
    sources.update(
        {
            name: facts.interface
            for name in ("cpu_vendor", "cpu_model", "memory_bytes", "simd", "virtualization")
            if getattr(facts, name)
        }
    )
    sources.update(_sources(accelerators, power))
    return HostFacts(
        hostname=socket.gethostname(),
        system=release,
        architecture=platform.machine(),
        cpu_vendor=facts.cpu_vendor,
        cpu_model=facts.cpu_model,
        logical_cores=cores,
        memory_bytes=facts.memory_bytes,
        simd=facts.simd,
        virtualization=facts.virtualization,
        sources=sources,
        accelerators=accelerators,
        power_source=power.source,
        battery_percent=power.battery_percent,
    )


def read_linux(
    root: Path,
    *,
    affinity: int,
    hostname: str,
    system: str,
    architecture: str = "",
    nvidia_smi: str = "",
) -> HostFacts:
    """Read the facts of a Linux host from its pseudo-files.

    Args:
        root: the directory that holds ``proc``, ``sys`` and ``dev``; ``/`` for this host.
        affinity: number of cores in the affinity mask of the process.
        hostname: network name.
        system: name and release of the kernel.
        architecture: machine architecture; this machine's by default.
        nvidia_smi: what ``accelerators.NVIDIA_SMI`` writes, empty where it cannot be run.
    """
    sources = {"hostname": "gethostname", "system": "uname", "architecture": "uname"}
    machine = architecture or platform.machine()
    cpu = parse_cpuinfo(_read(root, "/proc/cpuinfo"))
    for name, value in (("cpu_vendor", cpu.vendor), ("cpu_model", cpu.model), ("simd", cpu.simd)):
        if value:
            sources[name] = "/proc/cpuinfo"

    groups = parse_cgroup(_read(root, "/proc/self/cgroup"))
    mounts = host_linux.parse_mountinfo(_read(root, "/proc/self/mountinfo"))
    quota, quota_source = _cpu_quota(root, groups, mounts)
    cores = host_linux.usable_cores(affinity, quota)
    sources["logical_cores"] = quota_source if cores < affinity else "sched_getaffinity"

    memory = host_linux.parse_meminfo(_read(root, "/proc/meminfo"))
    if memory is not None:
        sources["memory_bytes"] = "/proc/meminfo"
    limit, limit_source = _memory_limit(root, groups, mounts)
    if limit is not None and (memory is None or limit < memory):
        sources["memory_limit_bytes"] = limit_source
        if memory is not None:
            memory, sources["memory_bytes"] = limit, limit_source
    else:
        limit = None
    if quota is not None:
        sources["cpu_limit"] = quota_source

    virtualization, virtualization_source = _virtualization(root, cpu.hypervisor, machine, system)
    if virtualization:
        sources["virtualization"] = virtualization_source
    accelerators = find_accelerators(root, nvidia_smi)
    power = read_linux_power(root)
    sources.update(_sources(accelerators, power))
    return HostFacts(
        hostname=hostname,
        system=system,
        architecture=machine,
        cpu_vendor=cpu.vendor,
        cpu_model=cpu.model,
        logical_cores=cores,
        memory_bytes=memory,
        simd=cpu.simd,
        virtualization=virtualization,
        sources=sources,
        accelerators=accelerators,
        power_source=power.source,
        battery_percent=power.battery_percent,
        cpu_limit=quota,
        memory_limit_bytes=limit,
    )


def _sources(accelerators: tuple[Accelerator, ...], power: Power) -> dict[str, str]:
    found: dict[str, str] = {}
    if accelerators:
        interfaces = dict.fromkeys(accelerator.source for accelerator in accelerators)
        found["accelerators"] = ", ".join(interfaces)
    if power.source:
        found["power_source"] = power.interface
    if power.battery_percent is not None:
        found["battery_percent"] = power.interface
    return found


def _cpu_quota(
    root: Path, groups: dict[str, str], mounts: dict[str, host_linux.CgroupMount]
) -> tuple[float | None, str]:
    best: float | None = None
    source = ""
    for controller in ("", "cpu"):
        for directory in _directories(controller, groups, mounts):
            if controller:
                path = f"{directory}/cpu.cfs_quota_us"
                quota = host_linux.parse_cfs_quota(
                    _read(root, path).strip(), _read(root, f"{directory}/cpu.cfs_period_us").strip()
                )
            else:
                path = f"{directory}/cpu.max"
                quota = host_linux.parse_cpu_max(_read(root, path))
            if quota is not None and (best is None or quota < best):
                best, source = quota, path
    return best, source


def _memory_limit(
    root: Path, groups: dict[str, str], mounts: dict[str, host_linux.CgroupMount]
) -> tuple[int | None, str]:
    best: int | None = None
    source = ""
    for controller, name in (("", "memory.max"), ("memory", "memory.limit_in_bytes")):
        for directory in _directories(controller, groups, mounts):
            path = f"{directory}/{name}"
            limit = host_linux.parse_memory_limit(_read(root, path))
            if limit is not None and (best is None or limit < best):
                best, source = limit, path
    return best, source


def _directories(
    controller: str, groups: dict[str, str], mounts: dict[str, host_linux.CgroupMount]
) -> list[str]:
    if controller not in groups or controller not in mounts:
        return []
    return host_linux.cgroup_directories(groups[controller], mounts[controller])


def _virtualization(
    root: Path, hypervisor_flag: bool, machine: str, system: str
) -> tuple[str, str]:
    """Return ``container on hypervisor``, or the one that is recognized, with the sources."""
    found: list[str] = []
    sources: list[str] = []

    def note(name: str, source: str) -> bool:
        if name:
            found.append(name)
            sources.append(source)
        return bool(name)

    if _exists(root, "/.dockerenv"):
        note("docker", "/.dockerenv")
    elif _exists(root, "/run/.containerenv"):
        note("podman", "/run/.containerenv")
    else:
        note(host_linux.recognize_container(_read(root, "/proc/1/cgroup")), "/proc/1/cgroup")

    dmi = host_linux.recognize_hypervisor(
        _read(root, "/sys/class/dmi/id/sys_vendor").strip(),
        _read(root, "/sys/class/dmi/id/product_name").strip(),
    )
    # An x86 guest always sees the flag; other architectures have none to contradict DMI.
    if machine in ("x86_64", "i686", "i386", "AMD64") and not hypervisor_flag:
        dmi = ""
    if "microsoft" in system.lower():
        note("wsl", "uname")
    elif not note(dmi, "/sys/class/dmi/id"):
        kind = _read(root, "/sys/hypervisor/type").strip()
        if not note(kind, "/sys/hypervisor/type") and hypervisor_flag:
            note("hypervisor", "/proc/cpuinfo")
    return " on ".join(found), " and ".join(sources)


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _read(root: Path, path: str) -> str:
    """Return the text of a pseudo-file, empty where it does not exist or may not be read."""
    try:
        with (root / path.lstrip("/")).open("rb") as file:
            return file.read(_MOST_BYTES).decode("utf-8", "replace")
    except (OSError, ValueError):
        return ""


def _exists(root: Path, path: str) -> bool:
    try:
        return (root / path.lstrip("/")).exists()
    except OSError:
        return False
