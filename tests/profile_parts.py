"""Profiles and peaks of a made-up host, for tests that change one figure at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pytest_edgeai.judge.roofline import find_bottleneck
from pytest_edgeai.profile_records import (
    CandidateProfile,
    HostPeaks,
    OperatorTime,
    Profile,
    RuntimeCost,
)
from pytest_edgeai.records import RuntimeOptions

MIB = 2**20

PEAKS = HostPeaks(
    threads=1,
    float32_flops_per_s=100e9,
    int8_operations_per_s=400e9,
    bytes_per_s=10e9,
    method=("by hand",),
    bytes_per_s_by_size={MIB: 80e9, 64 * MIB: 20e9, 512 * MIB: 10e9},
    runtime_costs={"onnxruntime": RuntimeCost(call_ns=5_000.0, operator_ns=1_000.0)},
)
"""A host of 100 GFLOP/s, 400 GOP/s in int8 and 10 GB/s, on which an operator costs 1 us."""

PROFILE = Profile(
    framework="onnxruntime",
    runtime=RuntimeOptions(threads=1),
    calls=100,
    wall_ns=10e6,
    cpu_ns=9.9e6,
    profiled_wall_ns=10.1e6,
    operators=(
        OperatorTime("conv", "Conv", 100, 800_000_000, "float32"),
        OperatorTime("relu", "Relu", 100, 100_000_000, "float32"),
    ),
    operators_source="by hand",
    core_shares={"0": 0.6, "1": 0.38},
    minor_faults=0.0,
    major_faults=0.0,
    voluntary_switches=0.0,
    involuntary_switches=0.01,
    flops_per_call=1e8,
    bytes_per_call=1e6,
    workload_note="by hand",
    operators_executed=2,
    operators_note="whole microseconds",
    operator_ns=9.0e6,
    integer_share=0.0,
    mean_wall_ns=10.1e6,
    mean_cpu_ns=9.9e6,
    waiting_ns=50_000.0,
    steal_share=0.001,
    others_share=0.05,
    core_source="by hand",
    moved_share=0.01,
    cores=2,
)
"""A model of 10 ms that comes near no peak."""


def changed(**values: Any) -> Profile:
    """Return the profile with other figures."""
    return replace(PROFILE, **values)


def candidate_profile(
    baseline: Profile = PROFILE, candidate: Profile = PROFILE
) -> CandidateProfile:
    """Return both with what limits them."""
    return CandidateProfile(
        baseline,
        candidate,
        PEAKS,
        find_bottleneck(baseline, PEAKS),
        find_bottleneck(candidate, PEAKS),
    )
