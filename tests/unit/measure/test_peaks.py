"""The roofs of a host, put together from what its runtimes reached, and the models they run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_edgeai.assess.model import read_structure
from pytest_edgeai.errors import MeasurementError
from pytest_edgeai.measure.peaks import (
    CHAINS,
    Reached,
    chain_cost,
    combine,
    require_runtime,
    write_chain,
    write_product,
)
from pytest_edgeai.profile_records import RuntimeCost

MIB = 2**20
ANSWER: dict[str, Any] = {
    "add": {str(MIB): 50e9, str(400 * MIB): 12e9},
    "read": {str(MIB): 70e9, str(400 * MIB): 11e9},
    "largest": 400 * MIB,
    "cache_bytes": 32 * MIB,
    "threads": 1,
}
COST = RuntimeCost(5_000.0, 1_000.0)


def test_the_best_runtime_and_the_better_kernel_count() -> None:
    peaks = combine(
        [
            Reached("onnxruntime", 90e9, 300e9, COST, 7),
            Reached("openvino", 95e9, 280e9, RuntimeCost(9_000.0, 700.0), 6),
        ],
        ANSWER,
    )
    assert peaks.float32_flops_per_s == 95e9
    assert peaks.int8_operations_per_s == 300e9
    assert peaks.bytes_per_s == 12e9
    assert peaks.bytes_per_s_by_size == {MIB: 70e9, 400 * MIB: 12e9}
    assert set(peaks.runtime_costs) == {"onnxruntime", "openvino"}
    told = " ".join(peaks.method)
    assert "in openvino with 1 thread, the best of 6 calls" in told
    assert "quantized matrices in onnxruntime" in told
    assert "each at least 4 times the last cache (32 MiB)" in told


def test_what_was_not_measured_is_said() -> None:
    answer = {**ANSWER, "cache_bytes": None, "threads": 4}
    peaks = combine([Reached("NumPy", 40e9, None, None, 3)], answer)
    assert peaks.int8_operations_per_s is None
    assert peaks.runtime_costs == {}
    told = " ".join(peaks.method)
    assert "in NumPy with 4 threads" in told
    assert "the size of the caches is not known" in told
    assert "int8" not in told
    large = combine([Reached("NumPy", 1.0, None, None, 1)], {**ANSWER, "cache_bytes": 300 * MIB})
    assert "may hold a part of" in " ".join(large.method)


def test_an_operator_costs_what_a_longer_chain_takes_more() -> None:
    short, long = CHAINS
    cost = chain_cost([5_000.0 + short * 800, 5_000.0 + long * 800])
    assert cost.operator_ns == pytest.approx(800)
    assert cost.call_ns == pytest.approx(5_000)
    assert chain_cost([900.0, 800.0]) == RuntimeCost(900.0, 0.0)


@pytest.mark.parametrize("quantized", [False, True])
def test_the_product_is_what_it_is_counted_as(tmp_path: Path, quantized: bool) -> None:
    path = write_product(tmp_path / "p.onnx", quantized=quantized, rows=8, inner=32)
    structure = read_structure(path)
    assert structure.workload.flops == 2 * 8 * 32 * 32
    assert structure.inputs[0].shape == (8, 32)
    weights = {"int8": 32 * 32} if quantized else {"float32": 32 * 32}
    assert {k: v for k, v in structure.weight_elements.items() if v > 1} == weights


@pytest.mark.parametrize("quantized", [False, True])
def test_the_product_runs_and_is_the_product(tmp_path: Path, quantized: bool) -> None:
    onnxruntime = pytest.importorskip(
        "onnxruntime", reason='run: pip install "pytest-edgeai[onnx]"'
    )
    path = write_product(tmp_path / "p.onnx", quantized=quantized, rows=8, inner=32)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    left = np.linspace(-1, 1, 8 * 32, dtype=np.float32).reshape(8, 32)
    (found,) = session.run(None, {"x": left})
    rng = np.random.default_rng(0)
    if quantized:
        right = rng.integers(-127, 128, size=(32, 32)).astype(np.float32) * 0.05
        left = np.clip(np.rint(left / 0.05), -128, 127) * 0.05
    else:
        right = rng.standard_normal((32, 32), np.float32)
    np.testing.assert_allclose(found, left @ right, rtol=1e-3, atol=1e-3)


def test_a_chain_is_as_long_as_it_is_told(tmp_path: Path) -> None:
    assert read_structure(write_chain(tmp_path / "c.onnx", 12)).operators == {"Softmax": 12}


def test_without_a_runtime_nothing_is_measured() -> None:
    with pytest.raises(MeasurementError, match="no framework computes on the CPU"):
        require_runtime([])
