"""Peak memory as the platform tells it."""

from __future__ import annotations

import contextlib
import mmap
import sys
from collections.abc import Iterator

import pytest

from pytest_edgeai.worker.memory import LinuxMeter, ResourceMeter, code_bytes, peak_meter

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
7f0000600000-7f0000700000 r--s 00000000 fe:00 3                          /data/model.so.onnx
Rss:                 300 kB
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


def test_code_is_what_libraries_map() -> None:
    assert code_bytes(SMAPS) == (512 + 64 + 300) * 1024
    assert code_bytes("") == 0


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
        high = meter.read().peak_bytes
    meter.reset()
    low = meter.read()
    assert high - low.peak_bytes >= 2**26 * 0.8
    assert low.code_bytes > 2**20


@pytest.mark.skipif(sys.platform == "win32", reason="no getrusage")
def test_resource_meter_counts_bytes() -> None:
    assert 2**20 < ResourceMeter().read().peak_bytes < 2**40
