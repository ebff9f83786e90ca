"""The parsers of Linux's pseudo-files, on samples in the kernels' form and on arbitrary text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_edgeai.assess import host_linux as host
from pytest_edgeai.assess.host_linux import CgroupMount

XEON = """\
processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 143
model name\t: Intel(R) Xeon(R) Platinum 8488C
stepping\t: 8
flags\t\t: fpu vme sse4_2 avx f16c rdrand hypervisor avx2 avx512f avx512dq avx512cd avx512bw \
avx512vl avx_vnni avx512_bf16 avx512_vnni amx_bf16 avx512_fp16 amx_tile amx_int8 flush_l1d
bugs\t\t: spectre_v1 spectre_v2
bogomips\t: 4800.00

processor\t: 1
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) Platinum 8488C
flags\t\t: fpu vme sse4_2 avx f16c rdrand hypervisor avx2 avx512f avx512dq avx512cd avx512bw \
avx512vl avx_vnni avx512_bf16 avx512_vnni amx_bf16 avx512_fp16 amx_tile amx_int8 flush_l1d
"""
EPYC = """\
processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 23
model\t\t: 49
model name\t: AMD EPYC 7742 64-Core Processor
flags\t\t: fpu sse4_2 avx f16c avx2 sha_ni clzero
"""
RASPBERRY_PI_4 = """\
processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3

processor\t: 1
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU part\t: 0xd08

Hardware\t: BCM2835
Revision\t: c03111
Model\t\t: Raspberry Pi 4 Model B Rev 1.1
"""
RASPBERRY_PI_32_BIT = """\
processor\t: 0
model name\t: ARMv7 Processor rev 3 (v7l)
Features\t: half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm crc32
CPU implementer\t: 0x41
CPU part\t: 0xd08
"""
APPLE_M1 = """\
processor\t: 0
BogoMIPS\t: 48.00
Features\t: fp asimd evtstrm aes sha1 atomics fphp asimdhp cpuid asimdrdm jscvt fcma lrcpc dcpop \
sha3 asimddp sha512 asimdfhm dit uscat ilrcpc flagm ssbs sb paca pacg dcpodp flagm2 frint
CPU implementer\t: 0x61
CPU part\t: 0x022

processor\t: 4
Features\t: fp asimd evtstrm aes sha1 atomics fphp asimdhp cpuid asimdrdm jscvt fcma lrcpc dcpop \
sha3 asimddp sha512 asimdfhm dit uscat ilrcpc flagm ssbs sb paca pacg dcpodp flagm2 frint
CPU implementer\t: 0x61
CPU part\t: 0x023
"""
GRAVITON_3 = """\
processor\t: 0
BogoMIPS\t: 2100.00
Features\t: fp asimd evtstrm aes atomics fphp asimdhp cpuid asimdrdm asimddp sve asimdfhm \
svei8mm svebf16 i8mm bf16 dgh rng
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x1
CPU part\t: 0xd40
"""
BIG_LITTLE = """\
processor : 0
Features : fp asimd asimddp
CPU implementer : 0x41
CPU part : 0xd05

processor : 4
Features : fp asimd asimddp i8mm
CPU implementer : 0x41
CPU part : 0xd0b
"""


@pytest.mark.parametrize(
    ("text", "vendor", "model", "simd", "hypervisor"),
    [
        (
            XEON,
            "GenuineIntel",
            "Intel(R) Xeon(R) Platinum 8488C",
            "avx2 f16c avx512f avx512bw avx512vl avx512_vnni avx512_bf16 avx512_fp16 avx_vnni "
            "amx_tile amx_int8 amx_bf16",
            True,
        ),
        (EPYC, "AuthenticAMD", "AMD EPYC 7742 64-Core Processor", "avx2 f16c", False),
        (RASPBERRY_PI_4, "ARM", "Cortex-A72", "asimd", False),
        (RASPBERRY_PI_32_BIT, "ARM", "Cortex-A72", "neon", False),
        (
            APPLE_M1,
            "Apple",
            "Icestorm-M1 + Firestorm-M1",
            "asimd asimdhp asimddp asimdfhm",
            False,
        ),
        (
            GRAVITON_3,
            "ARM",
            "Neoverse-V1",
            "asimd asimdhp asimddp asimdfhm i8mm bf16 sve svei8mm svebf16",
            False,
        ),
        # A feature that some cores lack is not offered to programs by the kernel.
        (BIG_LITTLE, "ARM", "Cortex-A55 + Cortex-A76", "asimd asimddp", False),
        ("", "", "", "", False),
    ],
)
def test_cpuinfo(text: str, vendor: str, model: str, simd: str, hypervisor: bool) -> None:
    found = host.parse_cpuinfo(text)
    assert found.vendor == vendor
    assert found.model == model
    assert set(found.simd) == set(simd.split())
    assert found.hypervisor == hypervisor


def test_an_unknown_arm_core_stays_unnamed() -> None:
    found = host.parse_cpuinfo("CPU implementer : 0x99\nCPU part : 0xfff\nCPU part : what\n")
    assert (found.vendor, found.model, found.simd) == ("", "", ())


@given(st.text(alphabet=st.sampled_from("processrflagvni:0x14d \t\n-_"), max_size=300))
def test_any_text_is_parsed(text: str) -> None:
    found = host.parse_cpuinfo(text)
    assert set(found.simd) <= set(host.X86_FEATURES + host.ARM_FEATURES)
    host.parse_cgroup(text)
    host.parse_mountinfo(text)
    for parse in (host.parse_meminfo, host.parse_memory_limit, host.parse_cpu_max):
        result = parse(text)
        assert result is None or result > 0


@given(st.sets(st.sampled_from((*host.X86_FEATURES, "fpu", "sse2", "avx5"))))
def test_exactly_the_listed_features_are_found(words: set[str]) -> None:
    found = host.parse_cpuinfo("flags : " + " ".join(words))
    assert set(found.simd) == words & set(host.X86_FEATURES)


def test_meminfo() -> None:
    text = "MemTotal:       16315396 kB\nMemFree:         1 kB\n"
    assert host.parse_meminfo(text) == 16315396 * 1024
    assert host.parse_meminfo("MemFree: 3 kB") is None
    assert host.parse_meminfo("MemTotal: lots kB") is None


def test_cgroup_of_both_versions() -> None:
    text = "12:cpu,cpuacct:/docker/ab\n4:memory:/docker/ab\n1:name=systemd:/x\n0::/user.slice\n"
    assert host.parse_cgroup(text) == {
        "cpu": "/docker/ab",
        "cpuacct": "/docker/ab",
        "memory": "/docker/ab",
        "name=systemd": "/x",
        "": "/user.slice",
    }
    assert host.parse_cgroup("nonsense\n0::relative\n") == {}


def test_mountinfo_of_both_versions() -> None:
    text = (
        "30 23 0:26 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw\n"
        "31 23 0:27 /docker/ab /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n"
        "40 23 8:1 / / rw - ext4 /dev/sda1 rw\n"
    )
    mounts = host.parse_mountinfo(text)
    assert mounts[""] == CgroupMount("/", "/sys/fs/cgroup/unified")
    assert mounts["cpu"] == CgroupMount("/docker/ab", "/sys/fs/cgroup/cpu,cpuacct")


@pytest.mark.parametrize(
    ("path", "root", "expected"),
    [
        ("/a/b", "/", ["/m/a/b", "/m/a", "/m"]),
        ("/", "/", ["/m"]),
        ("/docker/ab", "/docker/ab", ["/m"]),
        ("/docker/ab/inner", "/docker/ab", ["/m/inner", "/m"]),
        ("/docker/abc", "/docker/ab", ["/m"]),
        ("/../outside", "/", ["/m"]),
    ],
)
def test_cgroup_directories(path: str, root: str, expected: list[str]) -> None:
    assert host.cgroup_directories(path, CgroupMount(root, "/m")) == expected


def test_cpu_limits() -> None:
    assert host.parse_cpu_max("150000 100000\n") == 1.5
    assert host.parse_cpu_max("max 100000\n") is None
    assert host.parse_cpu_max("") is None
    assert host.parse_cfs_quota("-1", "100000") is None
    assert host.parse_cfs_quota("50000", "0") is None


@given(st.integers(1, 512), st.one_of(st.none(), st.floats(0.01, 600)))
def test_usable_cores(affinity: int, quota: float | None) -> None:
    cores = host.usable_cores(affinity, quota)
    assert 1 <= cores <= affinity
    if quota is None:
        assert cores == affinity
    else:
        assert cores == affinity or cores - 1 < quota <= cores


def test_memory_limits() -> None:
    assert host.parse_memory_limit("536870912\n") == 1 << 29
    assert host.parse_memory_limit("max\n") is None
    assert host.parse_memory_limit("") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4:memory:/docker/0123\n", "docker"),
        ("0::/kubepods.slice/kubepods-burstable.slice/cri-containerd-1.scope\n", "kubernetes"),
        ("0::/machine.slice/libpod-12.scope\n", "podman"),
        ("0::/lxc.payload.c1\n", "lxc"),
        ("0::/init.scope\n", ""),
        ("", ""),
    ],
)
def test_containers(text: str, expected: str) -> None:
    assert host.recognize_container(text) == expected


@pytest.mark.parametrize(
    ("vendor", "product", "expected"),
    [
        ("Amazon EC2", "c7i.large", "amazon-ec2"),
        ("Amazon EC2", "c7i.metal-24xl", ""),
        ("QEMU", "Standard PC (Q35 + ICH9, 2009)", "qemu"),
        ("Microsoft Corporation", "Virtual Machine", "hyper-v"),
        ("Microsoft Corporation", "Surface Laptop 5", ""),
        ("innotek GmbH", "VirtualBox", "virtualbox"),
        ("VMware, Inc.", "VMware7,1", "vmware"),
        ("Google", "Google Compute Engine", "google-compute-engine"),
        ("Dell Inc.", "PowerEdge R750", ""),
        ("", "", ""),
    ],
)
def test_hypervisors(vendor: str, product: str, expected: str) -> None:
    assert host.recognize_hypervisor(vendor, product) == expected
