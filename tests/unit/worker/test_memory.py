"""Peak memory as the platform tells it."""

from __future__ import annotations

import contextlib
import mmap
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_edgeai.worker.memory import (
    LinuxMeter,
    MappedFile,
    ResourceMeter,
    Usage,
    memory_growth,
    parse_mappings,
    peak_meter,
)

SMAPS = """\
55e0c0000000-55e0c0001000 r-xp 00000000 fe:00 260386                     /usr/bin/python3.11
Size:                  4 kB
Rss:                   4 kB
7f0000000000-7f0000100000 r-xp 00000000 fe:00 1                          /lib/libstdc++.so.6.0.30
Size:               1024 kB
Rss:                 512 kB
Pss:                 100 kB
VmFlags: rd ex mr mw me
7f0000200000-7f0000300000 rw-p 00000000 fe:00 2                          /opt/a b/libx.so
Rss:                  64 kB
7f0000400000-7f0000500000 rw-p 00000000 00:00 0
Rss:                1000 kB
7f0000600000-7f0000700000 r--s 00000000 fe:00 3                          /data/my model.so.onnx
Size:               1024 kB
Rss:                 300 kB
7f0000800000-7f0000900000 r--s 00000000 fe:00 3                          /data/my model.so.onnx
Size:               2048 kB
Rss:                  40 kB
7f0000600000-7f0000700000 rw-p 00000000 00:00 0                          [heap]
Rss:                2000 kB
"""


@contextlib.contextmanager
def fresh_pages(size: int) -> Iterator[None]:
    """Touch pages of our own, not what the allocator keeps of earlier tests, and give them back."""
    with mmap.mmap(-1, size) as block:
        for page in range(0, size, mmap.PAGESIZE):
            block[page] = 1
        yield


def test_mappings_are_code_files_and_the_rest() -> None:
    found = parse_mappings(SMAPS, 7)
    assert found == Usage(
        peak_bytes=7,
        code_bytes=(512 + 64) * 1024,
        resident_bytes=(4 + 512 + 64 + 1000 + 300 + 40 + 2000) * 1024,
        files={
            "/usr/bin/python3.11": MappedFile(4 * 1024, 4 * 1024),
            "/data/my model.so.onnx": MappedFile(3072 * 1024, 340 * 1024),
        },
    )
    assert parse_mappings("", 7) == Usage(7, 0, 0)


def test_growth_counts_the_weights_that_are_mapped_and_not_touched(tmp_path: Path) -> None:
    class Meter(LinuxMeter):
        definition = "d"
        steady_definition = "s"

    weights = str(tmp_path.resolve() / "model.data")
    elsewhere = {"/usr/lib/locale": MappedFile(999, 1), weights + ".old": MappedFile(50, 0)}
    before = Usage(100, 10, 90, {**elsewhere})
    after = Usage(200, 25, 150, {**elsewhere, weights: MappedFile(64, 4), "/x/y": MappedFile(9, 0)})
    (tmp_path / "model.onnx").touch()
    read = memory_growth(Meter(), before, after, tmp_path / "model.onnx", is_mapped=False)
    assert read == {
        "definition": "d",
        "model_bytes": 100 - 15 + 60,
        "footprint_bytes": 200,
        "growth_bytes": 100,
        "code_growth_bytes": 15,
        "null_bytes": 100,
        "steady_definition": "s",
        "steady_bytes": 60 - 15 + 60,
        "mapped_weights_bytes": 64,
        "untouched_bytes": 60,
    }
    mapped = memory_growth(Meter(), before, after, tmp_path, is_mapped=True)
    assert (mapped["model_bytes"], mapped["steady_bytes"]) == (85, 45)
    assert mapped["mapped_weights_bytes"] == 64


def test_without_a_counter_there_is_no_steady_state(tmp_path: Path) -> None:
    meter = ResourceMeter()
    found = memory_growth(meter, Usage(100), Usage(200), tmp_path, is_mapped=False)
    assert found["steady_bytes"] is None
    assert found["steady_definition"] is None
    assert found["model_bytes"] == 100


def test_meter_of_this_platform_sees_an_allocation() -> None:
    meter = peak_meter()
    meter.reset()
    before = meter.read()
    with fresh_pages(2**25):
        after = meter.read()
    assert after.peak_bytes - before.peak_bytes >= 2**25 * 0.9 or sys.platform != "linux"
    assert after.peak_bytes >= before.peak_bytes
    assert meter.definition.startswith(sys.platform[:5])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_linux_peak_is_reset_and_code_is_known() -> None:
    meter = LinuxMeter()
    meter.reset()
    with fresh_pages(2**26):
        high = meter.read()
    meter.reset()
    low = meter.read()
    assert high.peak_bytes - low.peak_bytes >= 2**26 * 0.8
    assert high.resident_bytes is not None
    assert low.resident_bytes is not None
    assert high.resident_bytes - low.resident_bytes >= 2**26 * 0.8
    assert low.code_bytes > 2**20


@pytest.mark.skipif(sys.platform == "win32", reason="no getrusage")
def test_resource_meter_counts_bytes() -> None:
    assert 2**20 < ResourceMeter().read().peak_bytes < 2**40
