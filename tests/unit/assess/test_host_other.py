"""What macOS and Windows say, composed from given values."""

from __future__ import annotations

import sys

import pytest

from pytest_edgeai.assess.host_other import (
    WINDOWS_FEATURES,
    darwin_facts,
    present,
    read_darwin,
    read_windows,
    windows_vendor,
)

M2 = {
    "machdep.cpu.brand_string": "Apple M2",
    "hw.memsize": 17179869184,
    "hw.optional.AdvSIMD": 1,
    "hw.optional.arm.FEAT_FP16": 1,
    "hw.optional.arm.FEAT_DotProd": 1,
    "hw.optional.arm.FEAT_I8MM": 1,
    "hw.optional.arm.FEAT_BF16": 1,
    "hw.optional.arm.FEAT_SME": 0,
    "kern.hv_vmm_present": 0,
}
INTEL = {
    "machdep.cpu.brand_string": "Intel(R) Core(TM) i5-1038NG7 CPU @ 2.00GHz",
    "machdep.cpu.vendor": "GenuineIntel",
    "machdep.cpu.leaf7_features": "RDWRFSGS AVX2 AVX512F AVX512VNNI",
    "hw.memsize": 17179869184,
    "hw.optional.avx2_0": 1,
    "hw.optional.avx512f": 1,
    "kern.hv_vmm_present": 1,
}


@pytest.mark.parametrize(
    ("values", "vendor", "simd", "virtualization"),
    [
        (M2, "Apple", ("asimd", "asimdhp", "asimddp", "i8mm", "bf16"), ""),
        (INTEL, "GenuineIntel", ("avx2", "avx512f", "avx512_vnni"), "hypervisor"),
        ({}, "", (), ""),
    ],
)
def test_macs(
    values: dict[str, str | int], vendor: str, simd: tuple[str, ...], virtualization: str
) -> None:
    def text(name: str) -> str:
        return str(values.get(name, ""))

    def number(name: str) -> int | None:
        found = values.get(name)
        return found if isinstance(found, int) else None

    facts = darwin_facts(text, number)
    assert facts.cpu_vendor == vendor
    assert facts.simd == simd
    assert facts.virtualization == virtualization
    assert facts.memory_bytes == values.get("hw.memsize")
    assert facts.interface == "sysctl"


def test_windows_vendor_and_features() -> None:
    assert windows_vendor("ARMv8 (64-bit)", "Snapdragon X - Qualcomm(R) Oryon") == "Qualcomm"
    assert windows_vendor("GenuineIntel", "Intel(R) Core(TM) Ultra 7") == "GenuineIntel"
    assert present(WINDOWS_FEATURES, lambda number: number in (40, 43)) == ("avx2", "asimddp")


@pytest.mark.skipif(sys.platform == "win32", reason="this is a Windows machine")
def test_windows_facts_elsewhere_are_refused() -> None:
    with pytest.raises(OSError, match="no Windows machine"):
        read_windows()


@pytest.mark.skipif(sys.platform != "darwin", reason="this is no Mac")
def test_this_mac() -> None:
    facts = read_darwin()
    assert facts.memory_bytes
    assert facts.cpu_model
