"""Profiles by the real profilers, of models whose limit is known by how they are made.

Timing never decides here: which limit is found from recorded figures is tested in
``tests/unit/judge/test_roofline.py``. What a busy machine must not do is name a wrong one.
"""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from profiled import CHAIN, compute, memory, peaks_of, profile_of, samples

from pytest_edgeai.descriptors import FrameworkDescriptor
from pytest_edgeai.judge.roofline import find_bottleneck
from pytest_edgeai.measure.exclusive import exclusive
from pytest_edgeai.measure.peaks import INNER, ROWS, SIZES, TINY, write_chain, write_product
from pytest_edgeai.optimize.frameworks.catalogue import LLAMACPP, ONNXRUNTIME, OPENVINO
from pytest_edgeai.profile_records import HostPeaks, Profile
from pytest_edgeai.records import RuntimeOptions
from pytest_edgeai.worker.host import Worker, WorkerSpec

ABSENT = FrameworkDescriptor(
    name="absent",
    implementation="no_such_module:Framework",
    install="pip install absent",
    distributions=("numpy",),
    formats=("onnx",),
    schemes={"convert": "float32"},
)
NOT_WRONG = ("contended", "unknown")


def installed(framework: FrameworkDescriptor, *modules: str) -> object:
    """Return the framework as a parameter, skipped where it is missing."""
    missing = any(importlib.util.find_spec(module) is None for module in modules)
    skip = pytest.mark.skipif(missing, reason=f"run: {framework.install}")
    return pytest.param(framework, id=framework.name, marks=skip)


TENSORS = [
    installed(ONNXRUNTIME, "onnxruntime", "onnx"),
    installed(OPENVINO, "openvino", "nncf"),
]
with_tensors = pytest.mark.parametrize("framework", TENSORS)


@pytest.fixture(autouse=True, scope="module")
def _alone() -> Iterator[None]:
    """Let no other measurement run beside these."""
    with exclusive(time_limit_s=600.0, waiting=lambda seconds: None):
        yield


@pytest.fixture(scope="module")
def peaks(tmp_path_factory: pytest.TempPathFactory) -> HostPeaks:
    """The peaks of this host, measured once."""
    names = (("onnxruntime", ONNXRUNTIME), ("openvino", OPENVINO))
    there = tuple(each for name, each in names if importlib.util.find_spec(name) is not None)
    if not there:
        pytest.skip(f"run: {ONNXRUNTIME.install}")
    notes: list[str] = []
    found = peaks_of((ABSENT, *there), tmp_path_factory.mktemp("peaks"), notes=notes)
    # A runtime that fails leaves the peaks to the others.
    assert set(found.runtime_costs) == {each.name for each in there}
    assert len(notes) == 1
    assert "the peaks of absent were not measured" in notes[0]
    return found


def test_the_peaks_are_those_of_a_computer(peaks: HostPeaks) -> None:
    assert peaks.threads == 1
    assert 1e8 < peaks.float32_flops_per_s < 1e13
    assert peaks.int8_operations_per_s is not None
    assert peaks.int8_operations_per_s > 1e8
    assert list(peaks.bytes_per_s_by_size)[: len(SIZES) - 1] == list(SIZES[:-1])
    assert all(1e7 < rate < 1e13 for rate in peaks.bytes_per_s_by_size.values())
    assert peaks.runtime_costs
    assert all(0 <= cost.operator_ns < 1e7 for cost in peaks.runtime_costs.values())


def check_process(profile: Profile) -> None:
    """Make sure that the process was looked into, as far as this system tells."""
    assert profile.calls >= 9
    assert profile.cpu_ns is not None
    assert 0 < profile.wall_ns < 60e9
    for count in (profile.minor_faults, profile.voluntary_switches, profile.involuntary_switches):
        assert math.isnan(count) or count >= 0
    if profile.core_shares:
        assert len(profile.core_shares) == profile.cores
        ran = sum(profile.core_shares.values()) + profile.moved_share
        assert 0 < ran < 2
        assert profile.waiting_ns is not None
        assert profile.waiting_ns >= 0


@with_tensors
def test_a_large_product_is_no_matter_of_memory(
    framework: FrameworkDescriptor, peaks: HostPeaks, tmp_path: Path
) -> None:
    profile = profile_of(framework, compute(tmp_path), tmp_path)
    assert profile.operators_source
    assert profile.flops_per_call == 2 * 512 * 1024 * 1024
    assert profile.operators[0].operator in ("MatMul", "FullyConnected")
    assert profile.operators[0].precision == "float32"
    assert profile.integer_share == 0.0
    assert profile.operator_ns is not None
    assert profile.operator_ns > 0
    check_process(profile)
    found = find_bottleneck(profile, peaks)
    assert found.name in ("compute-bound", *NOT_WRONG)
    assert found.beneath in ("compute-bound", "unknown")


@with_tensors
def test_a_vector_times_a_matrix_is_no_matter_of_arithmetic(
    framework: FrameworkDescriptor, peaks: HostPeaks, tmp_path: Path
) -> None:
    profile = profile_of(framework, memory(tmp_path), tmp_path)
    found = find_bottleneck(profile, peaks)
    assert found.intensity_flops_per_byte == pytest.approx(0.5, rel=0.01)
    assert found.name in ("memory-bound", *NOT_WRONG)
    assert found.beneath in ("memory-bound", "unknown")


@with_tensors
def test_a_chain_of_tiny_operators_is_overhead(
    framework: FrameworkDescriptor, peaks: HostPeaks, tmp_path: Path
) -> None:
    path = write_chain(tmp_path / "chain.onnx", CHAIN)
    profile = profile_of(framework, (path, 1, TINY), tmp_path)
    assert profile.operators_executed == CHAIN
    assert {each.operator for each in profile.operators} == {"Softmax"}
    found = find_bottleneck(profile, peaks)
    assert found.name in ("overhead-bound", *NOT_WRONG)
    assert found.beneath in ("overhead-bound", "unknown")


def test_a_quantized_product_computes_on_integers(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason=f"run: {ONNXRUNTIME.install}")
    path = write_product(tmp_path / "int8.onnx", quantized=True)
    profile = profile_of(ONNXRUNTIME, (path, ROWS, INNER), tmp_path)
    assert profile.integer_share == 1.0


def test_no_file_of_the_profiler_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime", reason=f"run: {ONNXRUNTIME.install}")
    monkeypatch.chdir(tmp_path)
    path = write_chain(tmp_path / "chain.onnx", 4)
    before = {*tmp_path.rglob("*")}
    spec = WorkerSpec(ONNXRUNTIME, Path(sys.executable))
    fed = samples(tmp_path, 1, TINY)
    with Worker.start(spec, time_limit_s=60) as worker:
        scratch = worker._launched.scratch
        answer = worker.request(
            "profile_operators",
            time_limit_s=60,
            path=path,
            runtime=RuntimeOptions(),
            arrays=fed.arrays,
            first=0,
            batch=1,
            calls=3,
        )
        assert [*scratch.rglob("*")] == []
    assert len(answer["wall_ns"]) == 3
    assert {*tmp_path.rglob("*")} - before == {tmp_path / f"x-1-{TINY}.npy"}


def test_a_framework_without_a_profiler_is_said_to_have_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[1])
    plain = FrameworkDescriptor(
        name="enduring",
        implementation="enduring_frameworks:Enduring",
        install="pip install pytest-edgeai",
        distributions=("numpy",),
        formats=("json",),
        schemes={"convert": "float32"},
    )
    spec = WorkerSpec(plain, Path(sys.executable))
    common: dict[str, Any] = {
        "time_limit_s": 60,
        "path": "m",
        "runtime": RuntimeOptions(),
        "calls": 3,
    }
    fed = samples(tmp_path, 1, TINY)
    with Worker.start(spec, time_limit_s=60) as worker:
        tensors = worker.request("profile_operators", arrays=fed.arrays, first=0, batch=1, **common)
        text = worker.request(
            "profile_decoding", context_tokens=8, ids="ids", block=0, tokens=4, **common
        )
    assert tensors == text
    assert (tensors["source"], tensors["operators"]) == ("", [])
    assert tensors["note"] == "its runtime offers no profiler"


def test_without_a_runtime_of_tensors_the_product_is_numpy_s(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp", reason=f"run: {LLAMACPP.install}")
    found = peaks_of((LLAMACPP,), tmp_path)
    assert "in NumPy with 1 thread" in found.method[0]
    assert found.int8_operations_per_s is None
    assert found.runtime_costs == {}
    assert 1e8 < found.float32_flops_per_s < 1e13
