"""Headers of programs, made by hand after the formats' documents, and what resembles them."""

from __future__ import annotations

import io
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from planted_files import ELF

from pytest_edgeai.measure.scan_programs import programs, script_line

PE = b"MZ" + bytes(58) + struct.pack("<I", 64)
PE += b"PE\0\0" + struct.pack("<HHIIIHH", 0x8664, 1, 0, 0, 0, 240, 0x22) + struct.pack("<H", 0x20B)
MACH = struct.pack("<7I", 0xFEEDFACF, 0x0100000C, 0, 2, 1, 72, 0) + bytes(72)
FAT_MACH = struct.pack(">4I", 0xCAFEBABE, 2, 0x01000007, 3) + bytes(64)
WASM = b"\0asm\1\0\0\0"
KINDS = {"an ELF": ELF, "a Windows": PE, "a Mach-O": MACH, "a WebAssembly": WASM}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("before", [0, 1, 5000, (1 << 24) - 3])
def test_a_program_is_found_wherever_it_starts(kind: str, before: int) -> None:
    [(found, at)] = programs(io.BytesIO(bytes(before) + KINDS[kind] + bytes(100)))
    assert found == f"{kind} program"
    # The header of a Windows program stands behind that of a DOS program.
    assert at == before + (64 if kind == "a Windows" else 0)


def test_a_program_of_several_architectures_is_found() -> None:
    assert [kind for kind, _ in programs(io.BytesIO(FAT_MACH))] == ["a Mach-O program"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads an ELF program of the system")
def test_a_real_program_is_found() -> None:
    with Path(sys.executable).open("rb") as stream:
        assert next(programs(stream)) == ("an ELF program", 0)


def test_magic_numbers_alone_are_no_programs() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, 4096, dtype=np.uint8).tobytes()
    magics = (b"\x7fELF", b"PE\0\0", b"MZ", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"\0asm")
    data = b"".join(magic + noise[index : index + 500] for index, magic in enumerate(magics))
    assert list(programs(io.BytesIO(data))) == []
    assert list(programs(io.BytesIO(b"\x7fELF"))) == []


def test_scripts_are_told_by_their_first_line() -> None:
    assert script_line(b"#!/bin/sh\nrm -rf /\n") == "#!/bin/sh"
    assert script_line(b"#! /usr/bin/env python3") == "#! /usr/bin/env python3"
    assert script_line(b"# a title") == ""
    assert script_line(b"") == ""
