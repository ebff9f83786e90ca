"""What a process holds at this moment."""

from __future__ import annotations

import mmap
import sys
from pathlib import Path

import pytest

from pytest_edgeai.worker.resident import memory_now

SIZE = 2**25


def held() -> int:
    return int(memory_now()["bytes"])


def test_pages_that_are_touched_are_held_until_they_are_given_back() -> None:
    before = held()
    with mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as block:
        for page in range(0, SIZE, mmap.PAGESIZE):
            block[page] = 1
        taken = held() - before
    assert taken >= 0.9 * SIZE
    if sys.platform == "linux":
        assert held() - before < 0.1 * SIZE


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_pages_of_files_are_not_held(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"1" * SIZE)
    before = held()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert sum(mapped[page] for page in range(0, SIZE, mmap.PAGESIZE))
        assert held() - before < 0.1 * SIZE
    assert memory_now()["definition"] == "linux-rss-anon"
