"""What macOS and Windows tell about their machine, through the C interfaces of the system.

Sources: sysctlbyname(3) and "Determining instruction set characteristics" (Apple), the Windows API
pages of IsProcessorFeaturePresent, GlobalMemoryStatusEx and GetProcessAffinityMask.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pytest_edgeai.assess.host_linux import recognize_hypervisor

# sysctl name to the feature as Linux spells it.
DARWIN_FEATURES: tuple[tuple[str, str], ...] = (
    ("hw.optional.avx2_0", "avx2"),
    ("hw.optional.avx512f", "avx512f"),
    ("hw.optional.avx512bw", "avx512bw"),
    ("hw.optional.avx512vl", "avx512vl"),
    ("hw.optional.AdvSIMD", "asimd"),
    ("hw.optional.arm.FEAT_FP16", "asimdhp"),
    ("hw.optional.arm.FEAT_DotProd", "asimddp"),
    ("hw.optional.arm.FEAT_FHM", "asimdfhm"),
    ("hw.optional.arm.FEAT_I8MM", "i8mm"),
    ("hw.optional.arm.FEAT_BF16", "bf16"),
    ("hw.optional.arm.FEAT_SME", "sme"),
    ("hw.optional.arm.FEAT_SME2", "sme2"),
)
# Words of machdep.cpu.leaf7_features on Intel Macs.
DARWIN_LEAF7: tuple[tuple[str, str], ...] = (("AVX512VNNI", "avx512_vnni"),)
# winnt.h: PF_AVX2_INSTRUCTIONS_AVAILABLE and its siblings. Windows has no flag for x86 VNNI.
WINDOWS_FEATURES: tuple[tuple[int, str], ...] = (
    (40, "avx2"),
    (41, "avx512f"),
    (19, "asimd"),
    (43, "asimddp"),
    (66, "i8mm"),
    (46, "sve"),
)


@dataclass(frozen=True)
class SystemFacts:
    """What a system other than Linux says; an empty string or ``None`` means unknown.

    Attributes:
        cpu_vendor: vendor of the processor.
        cpu_model: its marketing name.
        memory_bytes: physical memory.
        simd: features that decide INT8 speed.
        virtualization: hypervisor where one is recognized.
        cores: cores that the process may use; ``None`` where the system does not restrict them.
        interface: the interface that the facts were read from.
    """

    cpu_vendor: str
    cpu_model: str
    memory_bytes: int | None
    simd: tuple[str, ...]
    virtualization: str
    cores: int | None
    interface: str


def darwin_facts(text: Callable[[str], str], number: Callable[[str], int | None]) -> SystemFacts:
    """Compose the facts of a Mac.

    Args:
        text: returns the value of a sysctl of string type, empty where it does not exist.
        number: returns the value of an integer sysctl, ``None`` where it does not exist.
    """
    model = text("machdep.cpu.brand_string")
    vendor = text("machdep.cpu.vendor") or ("Apple" if model.startswith("Apple") else "")
    leaf7 = text("machdep.cpu.leaf7_features").split()
    simd = [feature for name, feature in DARWIN_FEATURES if number(name)]
    simd += [feature for word, feature in DARWIN_LEAF7 if word in leaf7]
    return SystemFacts(
        cpu_vendor=vendor,
        cpu_model=model,
        memory_bytes=number("hw.memsize"),
        simd=tuple(simd),
        virtualization="hypervisor" if number("kern.hv_vmm_present") else "",
        cores=None,
        interface="sysctl",
    )


def windows_vendor(identifier: str, model: str) -> str:
    """Return the vendor: the registry's identifier, or the name that the model starts with."""
    known = ("Qualcomm", "Apple", "Ampere", "Microsoft")
    return next((name for name in known if name in model), identifier)


def present(features: Iterable[tuple[int, str]], has: Callable[[int], object]) -> tuple[str, ...]:
    """Return the names of the numbered features that ``has`` confirms."""
    return tuple(name for number, name in features if has(number))


def read_darwin() -> SystemFacts:
    """Read the facts of this Mac with ``sysctlbyname``."""
    library = ctypes.CDLL(None)

    def raw(name: str) -> bytes:
        size = ctypes.c_size_t(0)
        key = name.encode()
        if library.sysctlbyname(key, None, ctypes.byref(size), None, ctypes.c_size_t(0)):
            return b""
        buffer = ctypes.create_string_buffer(max(1, size.value))
        if library.sysctlbyname(key, buffer, ctypes.byref(size), None, ctypes.c_size_t(0)):
            return b""
        return buffer.raw[: size.value]

    def text(name: str) -> str:
        return raw(name).split(b"\0", 1)[0].decode("utf-8", "replace").strip()

    def number(name: str) -> int | None:
        data = raw(name)
        return int.from_bytes(data, sys.byteorder) if len(data) in (4, 8) else None

    return darwin_facts(text, number)


def read_windows() -> SystemFacts:
    """Read the facts of this Windows machine from its registry and ``kernel32``."""
    if sys.platform != "win32":
        raise OSError("this is no Windows machine")
    import winreg

    class MemoryStatus(ctypes.Structure):
        _fields_ = [
            ("length", ctypes.c_uint32),
            ("load_percent", ctypes.c_uint32),
            ("total_physical", ctypes.c_uint64),
            ("available_physical", ctypes.c_uint64),
            ("total_page_file", ctypes.c_uint64),
            ("available_page_file", ctypes.c_uint64),
            ("total_virtual", ctypes.c_uint64),
            ("available_virtual", ctypes.c_uint64),
            ("available_extended_virtual", ctypes.c_uint64),
        ]

    def registry(path: str, name: str) -> str:
        try:
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, path) as key:
                return str(winreg.QueryValueEx(key, name)[0]).strip()
        except OSError:
            return ""

    kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    status = MemoryStatus(length=ctypes.sizeof(MemoryStatus))
    has_memory = bool(kernel.GlobalMemoryStatusEx(ctypes.byref(status)))
    kernel.GetCurrentProcess.restype = ctypes.c_void_p
    kernel.GetProcessAffinityMask.argtypes = [ctypes.c_void_p] + [ctypes.c_void_p] * 2
    own, system = ctypes.c_size_t(0), ctypes.c_size_t(0)
    has_mask = kernel.GetProcessAffinityMask(
        kernel.GetCurrentProcess(), ctypes.byref(own), ctypes.byref(system)
    )
    processor = r"HARDWARE\DESCRIPTION\System\CentralProcessor\0"
    bios = r"HARDWARE\DESCRIPTION\System\BIOS"
    model = registry(processor, "ProcessorNameString")
    # The mask is zero where the process runs in several processor groups.
    cores = own.value.bit_count() if has_mask and own.value else None
    return SystemFacts(
        cpu_vendor=windows_vendor(registry(processor, "VendorIdentifier"), model),
        cpu_model=model,
        memory_bytes=int(status.total_physical) if has_memory else None,
        simd=present(WINDOWS_FEATURES, kernel.IsProcessorFeaturePresent),
        virtualization=recognize_hypervisor(
            registry(bios, "SystemManufacturer"), registry(bios, "SystemProductName")
        ),
        cores=cores,
        interface="registry and kernel32",
    )
