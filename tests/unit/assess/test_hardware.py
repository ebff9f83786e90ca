"""The facts of a host: written trees of pseudo-files, and this machine itself."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_edgeai.assess.hardware import read_host, read_linux
from pytest_edgeai.records import HostFacts, to_json

XEON = "vendor_id : GenuineIntel\nmodel name : Xeon\nflags : avx2 avx512_vnni hypervisor\n"
BARE = "vendor_id : GenuineIntel\nmodel name : Xeon\nflags : avx2 avx512_vnni\n"
MEMORY = "MemTotal: 16000000 kB\n"
V2 = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
V1 = (
    "31 23 0:27 /docker/ab /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n"
    "32 23 0:27 /docker/ab /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
)


def put(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def read(
    root: Path, affinity: int = 8, system: str = "Linux 6.1", arch: str = "x86_64"
) -> HostFacts:
    return read_linux(root, affinity=affinity, hostname="h", system=system, architecture=arch)


def test_nothing_readable_leaves_everything_unknown(tmp_path: Path) -> None:
    facts = read(tmp_path)
    assert (facts.cpu_vendor, facts.cpu_model, facts.simd) == ("", "", ())
    assert facts.memory_bytes is None
    assert facts.virtualization == ""
    assert facts.logical_cores == 8
    assert set(facts.sources) == {"hostname", "system", "architecture", "logical_cores"}


def test_cgroup_version_2_limits_nest(tmp_path: Path) -> None:
    root = put(
        tmp_path,
        {
            "proc/cpuinfo": BARE,
            "proc/meminfo": MEMORY,
            "proc/self/cgroup": "0::/slice/scope\n",
            "proc/self/mountinfo": V2,
            "sys/fs/cgroup/slice/scope/cpu.max": "max 100000\n",
            "sys/fs/cgroup/slice/cpu.max": "250000 100000\n",
            "sys/fs/cgroup/slice/scope/memory.max": "2000000000\n",
            "sys/fs/cgroup/slice/memory.max": "max\n",
        },
    )
    facts = read(root)
    assert facts.logical_cores == 3
    assert facts.sources["logical_cores"] == "/sys/fs/cgroup/slice/cpu.max"
    assert facts.memory_bytes == 2_000_000_000
    assert facts.sources["memory_bytes"] == "/sys/fs/cgroup/slice/scope/memory.max"
    assert facts.virtualization == ""


def test_cgroup_version_1_in_a_container(tmp_path: Path) -> None:
    root = put(
        tmp_path,
        {
            ".dockerenv": "",
            "proc/cpuinfo": XEON,
            "proc/meminfo": MEMORY,
            "proc/self/cgroup": "2:cpu:/docker/ab\n3:memory:/docker/ab\n",
            "proc/self/mountinfo": V1,
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/class/dmi/id/sys_vendor": "Amazon EC2\n",
            "sys/class/dmi/id/product_name": "c7i.large\n",
        },
    )
    facts = read(root)
    assert facts.logical_cores == 1
    assert facts.memory_bytes == 16_000_000 * 1024
    assert facts.sources["memory_bytes"] == "/proc/meminfo"
    assert facts.virtualization == "docker on amazon-ec2"
    assert facts.sources["virtualization"] == "/.dockerenv and /sys/class/dmi/id"
    assert facts.simd == ("avx2", "avx512_vnni")


@pytest.mark.parametrize(
    ("files", "system", "arch", "expected"),
    [
        ({"proc/cpuinfo": XEON}, "Linux 6.1", "x86_64", "hypervisor"),
        ({"proc/cpuinfo": XEON, "sys/hypervisor/type": "xen\n"}, "Linux 6.1", "x86_64", "xen"),
        ({"proc/cpuinfo": XEON}, "Linux 5.15-microsoft-standard-WSL2", "x86_64", "wsl"),
        # On x86 a vendor's name without the flag is a bare-metal machine of that vendor.
        ({"proc/cpuinfo": BARE, "sys/class/dmi/id/sys_vendor": "QEMU"}, "Linux", "x86_64", ""),
        ({"sys/class/dmi/id/sys_vendor": "QEMU"}, "Linux", "aarch64", "qemu"),
        ({"run/.containerenv": ""}, "Linux", "aarch64", "podman"),
        ({"proc/1/cgroup": "0::/kubepods/pod1\n"}, "Linux", "aarch64", "kubernetes"),
    ],
)
def test_virtualization(
    tmp_path: Path, files: dict[str, str], system: str, arch: str, expected: str
) -> None:
    facts = read(put(tmp_path, files), system=system, arch=arch)
    assert facts.virtualization == expected
    assert ("virtualization" in facts.sources) == bool(expected)


def test_this_host() -> None:
    facts = read_host()
    assert facts.hostname == socket.gethostname()
    assert facts.architecture == platform.machine()
    assert facts.system == f"{platform.system()} {platform.release()}"
    assert 1 <= facts.logical_cores <= (os.cpu_count() or 1)
    assert facts.memory_bytes is not None
    if hasattr(os, "sysconf"):
        assert facts.memory_bytes <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    known = {name for name in facts.__dataclass_fields__ if getattr(facts, name)} - {"sources"}
    assert known == set(facts.sources)
    assert to_json(facts)["simd"] == list(facts.simd)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity mask")
def test_the_affinity_mask_limits_the_cores() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from pytest_edgeai.assess.hardware import read_host\n"
        "print(read_host().logical_cores)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "1"
