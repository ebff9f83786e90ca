"""The kernels that the roofs are measured with."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_edgeai.worker.host_peaks import (
    as_json,
    bandwidth,
    largest_working_set,
    last_cache_bytes,
    product_rate,
)

MIB = 2**20


def test_the_last_cache_is_the_largest(tmp_path: Path) -> None:
    for index, size in enumerate(("32K", "1M", "33792K")):
        folder = tmp_path / f"index{index}"
        folder.mkdir()
        (folder / "size").write_text(f"{size}\n")
    assert last_cache_bytes(tmp_path) == 33 * MIB


def test_a_system_may_not_tell_its_caches(tmp_path: Path) -> None:
    assert last_cache_bytes(tmp_path / "none") is None
    (tmp_path / "index0").mkdir()
    (tmp_path / "index0" / "size").write_text("a lot")
    assert last_cache_bytes(tmp_path) is None


@pytest.mark.parametrize(
    ("cache", "expected"),
    [(32 * MIB, 384 * MIB), (MIB, 64 * MIB), (None, 64 * MIB), (300 * MIB, 1024 * MIB)],
)
def test_arrays_are_four_times_the_last_cache(cache: int | None, expected: int) -> None:
    assert largest_working_set(cache, 64 * MIB, 1024 * MIB) == expected


@pytest.mark.parametrize("threads", [1, 2])
def test_every_size_is_measured_with_both_kernels(threads: int) -> None:
    found = bandwidth([3 * 2**16, MIB], threads, 0.006)
    assert set(found) == {"add", "read"}
    for rates in found.values():
        assert list(rates) == [3 * 2**16, MIB]
        # Slower than any memory of the last thirty years, faster than any cache to come.
        assert all(1e7 < rate < 1e13 for rate in rates.values())
    assert set(as_json(found)["add"]) == {str(3 * 2**16), str(MIB)}


def test_a_product_is_measured() -> None:
    assert 1e6 < product_rate(16, 64, 0.01) < 1e15
