"""What limits a model, from figures that are planted one by one, and from recorded ones."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from profile_parts import MIB, PEAKS, PROFILE, changed

from pytest_edgeai.judge.roofline import (
    BOUND_SHARE,
    MOST_SHARE,
    OVERHEAD_SHARE,
    STEAL_SHARE,
    WAITING_SHARE,
    bandwidth_at,
    find_bottleneck,
)
from pytest_edgeai.profile_records import BottleneckName, HostPeaks, Profile, RuntimeCost
from pytest_edgeai.records import RuntimeOptions

NAMES = get_args(BottleneckName)


def test_a_model_near_the_peak_of_operations_is_compute_bound() -> None:
    found = find_bottleneck(changed(flops_per_call=7e8), PEAKS)
    assert found.name == "compute-bound"
    assert found.compute_share == pytest.approx(0.7)
    assert found.attained_flops_per_s == pytest.approx(70e9)
    assert found.intensity_flops_per_byte == pytest.approx(700)
    assert found.reason == "70% of the host's 100 GFLOP/s"


def test_integers_are_held_against_the_peak_of_integers() -> None:
    profile = changed(flops_per_call=7e8, integer_share=0.9)
    found = find_bottleneck(profile, PEAKS)
    assert found.peak_precision == "int8"
    assert found.compute_share == pytest.approx(0.175)
    assert found.name == "unknown"
    without = replace(PEAKS, int8_operations_per_s=None)
    assert find_bottleneck(profile, without).peak_precision == "float32"


def test_a_model_near_the_peak_of_bytes_is_memory_bound() -> None:
    profile = changed(wall_ns=70e6, cpu_ns=69e6, operator_ns=65e6, bytes_per_call=512.0 * MIB)
    found = find_bottleneck(profile, PEAKS)
    assert found.name == "memory-bound"
    assert found.bandwidth_share == pytest.approx(512 * MIB / 0.07 / 10e9)
    assert found.peak_bytes_per_s == pytest.approx(10e9)
    assert "of the host's 10 GB/s over 512.0 MiB" in found.reason


def test_what_fits_into_a_cache_is_held_against_the_cache() -> None:
    from_cache = changed(wall_ns=1e5, operator_ns=9e4, bytes_per_call=1.0 * MIB, flops_per_call=1e6)
    found = find_bottleneck(from_cache, PEAKS)
    assert found.peak_bytes_per_s == 80e9
    assert found.bandwidth_share == pytest.approx(MIB / 1e-4 / 80e9)
    assert found.name == "unknown"


def test_more_bytes_than_can_have_moved_are_no_finding() -> None:
    found = find_bottleneck(changed(bytes_per_call=512.0 * MIB), PEAKS)
    assert found.bandwidth_share is not None
    assert found.bandwidth_share > MOST_SHARE
    assert found.name == "unknown"
    assert "operators were fused" in found.reason


def test_time_outside_of_operators_is_overhead() -> None:
    found = find_bottleneck(changed(operator_ns=3e6), PEAKS)
    assert found.name == "overhead-bound"
    assert found.overhead_share == pytest.approx(0.7)
    assert found.reason == "70% of a call is spent outside of operators"


def test_many_operators_of_nothing_are_overhead_without_a_profiler_too() -> None:
    profile = changed(
        wall_ns=400e3,
        cpu_ns=400e3,
        operator_ns=None,
        operators=(),
        operators_executed=300,
    )
    found = find_bottleneck(profile, PEAKS)
    assert found.name == "overhead-bound"
    assert found.overhead_share == pytest.approx(305 / 400)
    assert "300 operators at 1 µs and 5 µs for the call" in found.reason


def test_overhead_stands_above_the_roofs() -> None:
    found = find_bottleneck(changed(operator_ns=4e6, flops_per_call=5e8), PEAKS)
    assert found.name == "overhead-bound"
    assert found.compute_share == pytest.approx(0.5)


def test_a_thread_that_waits_for_a_core_is_contended() -> None:
    profile = changed(
        wall_ns=20e6,
        mean_wall_ns=20e6,
        waiting_ns=9e6,
        others_share=0.95,
        flops_per_call=8e8,
    )
    found = find_bottleneck(profile, PEAKS)
    assert found.name == "contended"
    assert found.beneath == "compute-bound"
    assert found.compute_share == pytest.approx(8e8 / 9.9e-3 / 100e9)
    assert "45% of the time its thread was ready to run and waited for a core" in found.reason
    assert "other processes ran 95%" in found.reason
    assert "by its CPU time it is compute-bound" in found.reason


def test_contention_shows_without_the_scheduler_s_figures() -> None:
    profile = changed(waiting_ns=None, mean_wall_ns=22e6, mean_cpu_ns=9.9e6)
    assert find_bottleneck(profile, PEAKS).name == "contended"
    waits_for_others = replace(profile, runtime=RuntimeOptions(threads=2))
    assert find_bottleneck(waits_for_others, PEAKS).name == "unknown"


def test_a_hypervisor_that_gives_the_cores_to_others_is_contention() -> None:
    found = find_bottleneck(changed(steal_share=0.2), PEAKS)
    assert found.name == "contended"
    assert "the hypervisor gave 20%" in found.reason


def test_busy_neighbors_alone_are_no_contention() -> None:
    assert find_bottleneck(changed(others_share=0.5), PEAKS).name == "unknown"


def test_another_device_has_other_peaks() -> None:
    profile = changed(
        runtime=RuntimeOptions(device="GPU"), device_is_cpu=False, cpu_ns=None, flops_per_call=9e8
    )
    found = find_bottleneck(profile, PEAKS)
    assert found.name == "unknown"
    assert "GPU" in found.reason
    assert found.compute_share is None
    assert found.attained_flops_per_s == pytest.approx(90e9)


def test_what_is_not_known_is_said() -> None:
    profile = changed(flops_per_call=None, bytes_per_call=None, workload_note="a shape is open")
    found = find_bottleneck(profile, PEAKS)
    assert found.name == "unknown"
    assert found.reason == "the work of a call is not known: a shape is open"
    assert find_bottleneck(changed(wall_ns=0.0), PEAKS).reason == "no call was timed"


@pytest.mark.parametrize(
    ("size", "rate"),
    [(1, 80e9), (MIB, 80e9), (8 * MIB, 40e9), (64 * MIB, 20e9), (2**40, 10e9)],
)
def test_the_roof_of_bytes_follows_the_working_set(size: int, rate: float) -> None:
    assert bandwidth_at(PEAKS, size) == pytest.approx(rate)
    assert bandwidth_at(replace(PEAKS, bytes_per_s_by_size={}), size) == 10e9


numbers = st.floats(1e-3, 1e15, allow_nan=False)
maybe = st.none() | numbers
shares = st.none() | st.floats(0, 1)
profiles = st.builds(
    lambda **values: replace(PROFILE, **values),
    wall_ns=st.floats(allow_nan=True, allow_infinity=True),
    cpu_ns=maybe,
    operator_ns=maybe,
    flops_per_call=maybe,
    bytes_per_call=maybe,
    integer_share=shares,
    mean_wall_ns=maybe,
    mean_cpu_ns=maybe,
    waiting_ns=maybe,
    steal_share=shares,
    others_share=shares,
    operators_executed=st.integers(0, 10**6),
    runtime=st.builds(RuntimeOptions, threads=st.integers(0, 64)),
    device_is_cpu=st.booleans(),
)
peaks = st.builds(
    lambda flops, integers, rate, sizes: replace(
        PEAKS,
        float32_flops_per_s=flops,
        int8_operations_per_s=integers,
        bytes_per_s=rate,
        bytes_per_s_by_size=sizes,
    ),
    numbers,
    maybe,
    numbers,
    st.dictionaries(st.integers(1, 2**40), numbers, max_size=4),
)


@given(profiles, peaks)
def test_every_profile_gets_a_name_and_a_reason(profile: Profile, host: HostPeaks) -> None:
    found = find_bottleneck(profile, host)
    assert found.name in NAMES
    assert found.beneath in NAMES
    assert found.beneath != "contended"
    assert found.reason
    for value in (found.compute_share, found.bandwidth_share, found.overhead_share):
        assert value is None or (math.isfinite(value) and value >= 0)
    assert all(math.isfinite(value) for value in found.evidence.values())


@given(profiles, peaks)
def test_a_finding_rests_on_its_figure(profile: Profile, host: HostPeaks) -> None:
    found = find_bottleneck(profile, host)
    name = found.beneath if found.name == "contended" else found.name
    if name == "overhead-bound":
        assert (found.overhead_share or 0) >= OVERHEAD_SHARE
    if name in ("compute-bound", "memory-bound"):
        assert (found.overhead_share or 0) < OVERHEAD_SHARE
        assert profile.device_is_cpu
    if name == "compute-bound":
        assert (found.compute_share or 0) >= BOUND_SHARE
    if name == "memory-bound":
        assert BOUND_SHARE <= (found.bandwidth_share or 0) <= MOST_SHARE
    if found.name == "contended":
        evidence = found.evidence
        assert (
            evidence.get("waiting_share", 0) >= WAITING_SHARE
            or evidence.get("steal_share", 0) >= STEAL_SHARE
            or evidence.get("idle_share", 0) > 0.5
        )


times = st.floats(1e7, 1e12)
of_real_calls = st.builds(
    lambda profile, wall_ns, cpu_ns: replace(profile, wall_ns=wall_ns, cpu_ns=cpu_ns),
    profiles,
    times,
    st.none() | times,
)


@given(of_real_calls, peaks, st.floats(0.01, 100))
def test_a_clock_of_another_unit_changes_nothing(
    profile: Profile, host: HostPeaks, factor: float
) -> None:
    """A host and a model that are both slower by a factor have the same limit."""
    names = [field.name for field in fields(Profile) if field.name.endswith("_ns")]
    slower = replace(
        profile,
        **{n: v * factor for n in names if (v := getattr(profile, n)) is not None},
    )
    slower_host = replace(
        host,
        float32_flops_per_s=host.float32_flops_per_s / factor,
        int8_operations_per_s=(
            None if host.int8_operations_per_s is None else host.int8_operations_per_s / factor
        ),
        bytes_per_s=host.bytes_per_s / factor,
        bytes_per_s_by_size={s: r / factor for s, r in host.bytes_per_s_by_size.items()},
        runtime_costs={
            name: replace(
                cost, call_ns=cost.call_ns * factor, operator_ns=cost.operator_ns * factor
            )
            for name, cost in host.runtime_costs.items()
        },
    )
    first, second = find_bottleneck(profile, host), find_bottleneck(slower, slower_host)
    for field in ("compute_share", "bandwidth_share", "overhead_share"):
        left, right = getattr(first, field), getattr(second, field)
        assert (left is None) == (right is None)
        assert left is None or left == pytest.approx(right, rel=1e-6)


RECORDED_PEAKS = replace(
    PEAKS,
    float32_flops_per_s=111.6e9,
    int8_operations_per_s=422.9e9,
    bytes_per_s=25.4e9,
    bytes_per_s_by_size={
        MIB // 4: 68.7e9,
        MIB: 80.4e9,
        4 * MIB: 90.6e9,
        16 * MIB: 71.7e9,
        64 * MIB: 33.9e9,
        384 * MIB: 25.4e9,
    },
    runtime_costs={
        "onnxruntime": RuntimeCost(4_467.0, 285.0),
        "openvino": RuntimeCost(10_459.0, 426.0),
    },
)
"""Of two cores of an AMD EPYC 9004, one thread, measured beside other work."""


def recorded(framework: str, times_us: tuple[float, ...], **work: float) -> Profile:
    """Return a profile of times in microseconds.

    Args:
        framework: what ran it.
        times_us: median wall and CPU time, mean wall and CPU time, wall time with the profiler,
            time in operators, time of waiting for a core.
        work: operations, bytes, operators and the share of integers.
    """
    names = ("wall", "cpu", "mean_wall", "mean_cpu", "profiled_wall", "operator", "waiting")
    times: dict[str, Any] = {
        f"{name}_ns": 1e3 * time for name, time in zip(names, times_us, strict=True)
    }
    return changed(framework=framework, **times, **work)


PRODUCT = {"flops_per_call": 2**30, "bytes_per_call": 8 * MIB, "operators_executed": 1}
VECTOR = {"flops_per_call": 2.0 * 2**24, "bytes_per_call": 64 * MIB, "operators_executed": 1}
CHAIN = {"flops_per_call": 0, "bytes_per_call": 9_600, "operators_executed": 300}
INTEGERS = {
    "flops_per_call": 1.812e9,
    "bytes_per_call": 5.3e6,
    "operators_executed": 2,
    "integer_share": 1.0,
}


@pytest.mark.parametrize(
    ("profile", "name", "beneath"),
    [
        pytest.param(
            recorded("onnxruntime", (11186, 11153, 13322, 11320, 11104, 11073, 2019), **PRODUCT),
            "compute-bound",
            "unknown",
            id="product",
        ),
        pytest.param(
            recorded("openvino", (11731, 11043, 15047, 11044, 10765, 10643, 3666), **PRODUCT),
            "compute-bound",
            "unknown",
            id="product-openvino",
        ),
        pytest.param(
            recorded("onnxruntime", (4305, 4309, 4385, 4338, 3270, 3239, 33), **VECTOR),
            "memory-bound",
            "unknown",
            id="vector",
        ),
        pytest.param(
            recorded("openvino", (3475, 3461, 3869, 3564, 3050, 2887, 308), **VECTOR),
            "memory-bound",
            "unknown",
            id="vector-openvino",
        ),
        pytest.param(
            recorded("onnxruntime", (83.1, 84.0, 123.5, 86.6, 1974, 722, 37.9), **CHAIN),
            "contended",
            "overhead-bound",
            id="chain-beside-one-neighbor",
        ),
        pytest.param(
            recorded("openvino", (140.6, 141.6, 333.0, 176.4, 162.2, 146.6, 171.3), **CHAIN),
            "contended",
            "overhead-bound",
            id="chain-beside-two-neighbors",
        ),
        pytest.param(
            recorded("onnxruntime", (8966, 4921, 9933, 4933, 8781, 8714, 5056), **INTEGERS),
            "contended",
            "compute-bound",
            id="integers-beside-busy-cores",
        ),
        pytest.param(
            recorded("openvino", (9204, 4691, 11917, 4720, 8418, 8308, 7202), **INTEGERS),
            "contended",
            "compute-bound",
            id="integers-beside-busy-cores-openvino",
        ),
    ],
)
def test_recorded_figures_get_the_name_they_were_planted_for(
    profile: Profile, name: BottleneckName, beneath: BottleneckName
) -> None:
    found = find_bottleneck(profile, RECORDED_PEAKS)
    assert (found.name, found.beneath) == (name, beneath), found.reason
