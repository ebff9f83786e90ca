"""Programs among and inside of the files of a model, told by their headers and never run.

Layouts: "Executable and Linkable Format" (System V ABI, chapter 4), "PE Format" (Microsoft) and
mach-o/loader.h (Apple). A magic number of four bytes stands somewhere in one of four files of a
gigabyte of random weights, so that the fields after it are checked as well.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import IO

_BLOCK_BYTES = 1 << 24
_HEADER_BYTES = 64
_PE_MACHINES = frozenset({0x14C, 0x1C0, 0x1C4, 0x200, 0x8664, 0xAA64})
_PE_OPTIONAL = frozenset({0x107, 0x10B, 0x20B})
_MACH_CPUS = frozenset({7, 12, 18, 0x01000007, 0x0100000C, 0x01000012})
_MACH_TYPES = range(1, 13)
_MOST_COMMANDS = 10_000
_MOST_ARCHITECTURES = 20


def script_line(start: bytes) -> str:
    """Return the line that makes a file a script (``#!/bin/sh``); empty where it is none."""
    if not start.startswith(b"#!") or start[2:3] not in (b"/", b" "):
        return ""
    return start[:80].splitlines()[0].decode("utf-8", "replace")


def programs(stream: IO[bytes]) -> Iterator[tuple[str, int]]:
    """Yield the kind of every program in a stream, and the byte that its header starts at.

    Reads the whole stream once, in blocks; the overlap of two blocks is a header long.
    """
    tail = b""
    position = 0
    seen: set[int] = set()
    while block := stream.read(_BLOCK_BYTES):
        data = tail + block
        start = position - len(tail)
        for magic, kind, check in _KINDS:
            at = data.find(magic)
            while at >= 0:
                if start + at not in seen and check(data[at : at + _HEADER_BYTES]):
                    seen.add(start + at)
                    yield kind, start + at
                at = data.find(magic, at + 1)
        position += len(block)
        tail = data[-_HEADER_BYTES:]


def _is_elf(head: bytes) -> bool:
    if len(head) < 54 or head[4] not in (1, 2) or head[5] not in (1, 2) or head[6] != 1:
        return False
    order = "<" if head[5] == 1 else ">"
    kind, machine, version = struct.unpack(f"{order}HHI", head[16:24])
    at, size = (40, 52) if head[4] == 1 else (52, 64)
    header_bytes: int = struct.unpack(f"{order}H", head[at : at + 2])[0]
    padding = not any(head[9:16])
    return padding and kind in range(1, 5) and machine > 0 and version == 1 and header_bytes == size


def _is_pe(head: bytes) -> bool:
    if len(head) < 26:
        return False
    machine, optional = struct.unpack_from("<H", head, 4)[0], struct.unpack_from("<H", head, 24)[0]
    return machine in _PE_MACHINES and optional in _PE_OPTIONAL


def _is_mach(head: bytes) -> bool:
    if len(head) < 24:
        return False
    order = "<" if head[3] == 0xFE else ">"
    cpu, _, kind, commands, commands_bytes = struct.unpack(f"{order}5I", head[4:24])
    return (
        cpu in _MACH_CPUS
        and kind in _MACH_TYPES
        and 0 < commands <= _MOST_COMMANDS
        and commands_bytes >= 8 * commands
    )


def _is_fat_mach(head: bytes) -> bool:
    if len(head) < 12:
        return False
    count, cpu = struct.unpack(">2I", head[4:12])
    return 0 < count <= _MOST_ARCHITECTURES and cpu in _MACH_CPUS


def _is_wasm(head: bytes) -> bool:
    return head[:8] == b"\0asm\1\0\0\0"


_KINDS = (
    (b"\x7fELF", "an ELF program", _is_elf),
    (b"PE\0\0", "a Windows program", _is_pe),
    (b"\xcf\xfa\xed\xfe", "a Mach-O program", _is_mach),
    (b"\xce\xfa\xed\xfe", "a Mach-O program", _is_mach),
    (b"\xfe\xed\xfa\xcf", "a Mach-O program", _is_mach),
    (b"\xfe\xed\xfa\xce", "a Mach-O program", _is_mach),
    (b"\xca\xfe\xba\xbe", "a Mach-O program", _is_fat_mach),
    (b"\0asm", "a WebAssembly program", _is_wasm),
)
