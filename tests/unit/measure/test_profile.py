"""A profile, put together from what workers answered."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from pytest_edgeai.measure.bench import LoadedRunnable, Runnable
from pytest_edgeai.measure.profile import (
    FEWEST_CALLS,
    MOST_CALLS,
    OPERATOR_BYTES,
    PlainCalls,
    Work,
    arrays_of,
    calls_within,
    integer_share,
    make_profile,
    multiplies,
    operator_time,
    operators_of_a_call,
)
from pytest_edgeai.optimize.frameworks.catalogue import ONNXRUNTIME
from pytest_edgeai.profile_records import OperatorTime
from pytest_edgeai.records import RuntimeOptions

USAGE = {
    "minor_faults": 6,
    "major_faults": 0,
    "voluntary_switches": 2,
    "involuntary_switches": 1,
}
PART: dict[str, Any] = {
    "wall_ns": [1_000, 3_000],
    "cpu_ns": [900, 2_000],
    "seconds": 0.004,
    "cpu_seconds": 0.003,
    "usage": USAGE,
    "waited_ns": 500,
    "host": {"total": 100, "busy": 60, "steal": 5},
}
CORES: dict[str, Any] = {
    "wall_ns": 1_000,
    "ran_ns": {"0": 700, "1": 100},
    "moved_ns": 50,
    "cores": 2,
    "source": "two looks",
}
TRACED: dict[str, Any] = {
    "source": "a profiler",
    "operators": [
        {"name": "a", "operator": "Conv", "calls": 4, "time_ns": 800, "precision": "int8"},
        {"name": "b", "operator": "Relu", "calls": 4, "time_ns": 80, "precision": "float32"},
    ],
    "operator_ns": [220, 220, 220, 220],
    "wall_ns": [300, 290, 310, 9_000],
    "counters": {OPERATOR_BYTES: 4_096.0, "other": 3.0},
    "note": "whole microseconds",
}


def loaded(device: str = "CPU", *, cpu_time_is_valid: bool = True) -> LoadedRunnable:
    """Return what is read of a loaded model."""
    runnable = Runnable(ONNXRUNTIME, Path("python"), Path("m.onnx"), RuntimeOptions(device=device))
    return cast(
        "LoadedRunnable", SimpleNamespace(runnable=runnable, cpu_time_is_valid=cpu_time_is_valid)
    )


def plain(*parts: dict[str, Any]) -> PlainCalls:
    """Return the calls of some parts."""
    calls = PlainCalls()
    for part in parts:
        calls.add(part)
    return calls


def test_a_profile_is_per_call() -> None:
    made = make_profile(
        loaded(), plain(PART, PART), CORES, TRACED, Work(100.0, 50.0, "by the file"), 3
    )
    assert (made.calls, made.wall_ns, made.mean_wall_ns) == (4, 2_000, 2_000)
    assert (made.cpu_ns, made.mean_cpu_ns) == (1_450, 1_450)
    assert (made.minor_faults, made.voluntary_switches) == (3.0, 1.0)
    assert made.waiting_ns == 250
    assert made.steal_share == 0.05
    # The cores were busy for 60%; this process ran for 6 ms of 2 cores x 8 ms of them.
    assert made.others_share == pytest.approx(0.6 - 0.006 / 0.016)
    assert made.core_shares == {"0": 0.7, "1": 0.1}
    assert (made.moved_share, made.core_source, made.cores) == (0.05, "two looks", 2)
    assert (made.flops_per_call, made.bytes_per_call) == (100.0, 50.0)
    assert made.profiled_wall_ns == 305
    assert (made.operator_ns, made.operators_executed) == (220, 2)
    assert made.integer_share == 1.0
    assert made.counters == {"other": 3.0}
    assert made.samples_per_call == 3
    assert made.device_is_cpu


def test_traced_bytes_stand_in_for_unknown_ones() -> None:
    made = make_profile(loaded(), plain(PART), CORES, TRACED, Work(None, None, "open shape"), 1)
    assert made.bytes_per_call == 4_096
    assert made.workload_note.startswith("open shape; bytes: of the operators'")


def test_what_nobody_tells_stays_unknown() -> None:
    nothing = {**PART, "usage": {}, "waited_ns": None, "host": None}
    cores = {**dict.fromkeys(("wall_ns", "ran_ns", "moved_ns")), "cores": 2, "source": "not told"}
    untraced = {
        "source": "",
        "operators": [],
        "operator_ns": [],
        "wall_ns": [],
        "counters": {},
        "note": "its runtime offers no profiler",
    }
    made = make_profile(
        loaded("GPU", cpu_time_is_valid=False),
        plain(nothing, PART),
        cores,
        untraced,
        Work(None, None, "foreign"),
        1,
    )
    assert made.cpu_ns is None
    assert made.mean_cpu_ns is None
    assert made.waiting_ns is None
    assert made.steal_share is None
    assert made.others_share is None
    assert made.core_shares == {}
    assert (made.operators, made.operators_source) == ((), "")
    assert made.operators_note == "its runtime offers no profiler"
    assert made.operator_ns is None
    assert made.profiled_wall_ns is None
    assert made.integer_share is None
    assert not made.device_is_cpu
    without = make_profile(loaded(), plain(nothing), cores, untraced, Work(None, None, ""), 1)
    assert math.isnan(without.minor_faults)


def test_a_mean_is_scaled_by_what_disturbed_single_calls() -> None:
    assert operator_time([], []) is None
    assert operator_time([5, 7, 900], [9, 9, 9]) == 7
    assert operator_time([2_500], [100, 100, 100, 9_700]) == pytest.approx(2_500 * 100 / 2_500)


@pytest.mark.parametrize(
    ("call_ns", "calls"), [(1e12, FEWEST_CALLS), (25e6, 10), (1.0, MOST_CALLS), (0.0, MOST_CALLS)]
)
def test_the_number_of_calls_fits_the_time(call_ns: float, calls: int) -> None:
    assert calls_within(0.25, call_ns) == calls


@pytest.mark.parametrize(
    "name",
    ["Conv", "QLinearConv", "FullyConnected", "MUL_MAT", "MatMulNBits", "Gemm", "LSTMSequence"],
)
def test_operators_that_multiply_are_known_in_every_runtime(name: str) -> None:
    assert multiplies(name)


@pytest.mark.parametrize("name", ["Relu", "Softmax", "Reorder", "QuantizeLinear", "RMS_NORM"])
def test_others_are_not(name: str) -> None:
    assert not multiplies(name)


def test_the_share_of_integers_is_of_the_time_in_products() -> None:
    operators = [
        OperatorTime("a", "Conv", 1, 300, "int8"),
        OperatorTime("b", "MatMul", 1, 100, "float32"),
        OperatorTime("c", "QuantizeLinear", 1, 900, "int8"),
        OperatorTime("d", "Gemm", 1, 900, ""),
    ]
    assert integer_share(operators) == pytest.approx(0.75)
    assert integer_share(operators[2:]) is None
    assert operators_of_a_call(operators, 1) == 4
    assert operators_of_a_call(operators, 0) == 0


def test_every_call_is_kept_as_evidence() -> None:
    arrays = arrays_of(plain(PART, PART))
    np.testing.assert_array_equal(arrays["wall_ns"], [1_000, 3_000, 1_000, 3_000])
    assert arrays["cpu_ns"].dtype == np.int64
