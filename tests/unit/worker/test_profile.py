"""What a worker states of the calls that it has bound, without any framework."""

from __future__ import annotations

import sys
import time

import numpy as np
import pytest

from pytest_edgeai.errors import MeasurementError
from pytest_edgeai.worker.profile import NO_PROFILER, Profiling


def work() -> None:
    """Compute for a while, on memory of its own."""
    end = time.process_time() + 0.001
    while time.process_time() < end:
        np.ones(4096).sum()


@pytest.fixture
def profiling() -> Profiling:
    """A worker that has one call bound."""
    return Profiling({"model": work}, object())


def test_calls_are_timed_and_counted(profiling: Profiling) -> None:
    answer = profiling.profile_calls("model", 20)
    assert len(answer["wall_ns"]) == len(answer["cpu_ns"]) == 20
    assert answer["seconds"] * 1e9 >= sum(answer["wall_ns"])
    assert answer["cpu_seconds"] >= 0.02
    if sys.platform == "win32":
        assert answer["usage"] == {}
    else:
        assert set(answer["usage"]) == {
            "minor_faults",
            "major_faults",
            "voluntary_switches",
            "involuntary_switches",
        }
        assert all(count >= 0 for count in answer["usage"].values())
    if sys.platform == "linux":
        assert answer["waited_ns"] >= 0
        assert answer["host"]["total"] >= answer["host"]["busy"] >= 0
    else:
        assert answer["waited_ns"] is None
        assert answer["host"] is None


def test_cores_are_told(profiling: Profiling) -> None:
    answer = profiling.core_use("model", 0.02)
    assert answer["cores"] >= 1
    assert answer["source"]
    if sys.platform == "linux":
        assert len(answer["ran_ns"]) == answer["cores"]
        ran = sum(answer["ran_ns"].values()) + answer["moved_ns"]
        # Looking takes time of its own, much of it on a busy machine.
        assert 0 < ran <= 2 * answer["wall_ns"]
    else:
        assert answer["ran_ns"] is None


@pytest.mark.parametrize("operation", ["profile_calls", "core_use"])
def test_what_is_not_bound_cannot_be_looked_into(profiling: Profiling, operation: str) -> None:
    with pytest.raises(MeasurementError, match="nothing is bound for 'other'"):
        profiling.operations[operation]("other", 1)


def test_a_framework_without_a_profiler_has_none(profiling: Profiling) -> None:
    tensors = profiling.profile_operators("m", {}, {}, 0, 1, 3)
    text = profiling.profile_decoding("m", {}, 8, "ids", 0, 4, 3)
    assert tensors == text
    assert (tensors["source"], tensors["operators"], tensors["note"]) == ("", [], NO_PROFILER)


@pytest.mark.parametrize("threads", [0, 1])
def test_the_bytes_of_the_host_are_measured(profiling: Profiling, threads: int) -> None:
    answer = profiling.bandwidth([1 << 16, 1 << 18], threads, 0.003, 1 << 20)
    assert next(iter(answer["add"])) == str(1 << 16)
    assert str(answer["largest"]) in answer["read"]
    assert answer["largest"] <= 1 << 20
    assert answer["threads"] >= 1


def test_a_product_of_the_host_is_measured(profiling: Profiling) -> None:
    assert profiling.product_rate(8, 32, 0.005)["flops_per_s"] > 1e6
