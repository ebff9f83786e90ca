"""What the counters of OpenVINO say, from averages as its CPU plugin keeps them."""

from __future__ import annotations

import pytest

pytest.importorskip("openvino", reason='run: pip install "pytest-edgeai[intel]"')

from pytest_edgeai.optimize.frameworks.openvino_profile import (
    Layer,
    difference,
    is_kernel,
    precision_of,
    with_counters,
)
from pytest_edgeai.records import RuntimeOptions


@pytest.mark.parametrize(
    ("kernel", "precision"),
    [
        ("brgemm_avx512_I8", "int8"),
        ("jit_avx512_f32", "float32"),
        ("brgconv_avx512_amx_BF16", "bfloat16"),
        ("jit_gemm_u4", "int4"),
        ("undef", ""),
        ("unknown_f32", "float32"),
        ("ref_any_f64", "f64"),
    ],
)
def test_the_name_of_a_kernel_ends_with_its_precision(kernel: str, precision: str) -> None:
    assert precision_of(kernel) == precision


def test_what_has_no_kernel_does_not_run() -> None:
    assert is_kernel("jit_avx512_f32")
    assert not any(is_kernel(name) for name in ("", "undef", "unknown_f32", "unknown_I64"))


def test_the_warm_up_is_taken_off_the_average() -> None:
    before = {"a": Layer("Convolution", "float32", 500)}
    after = {"a": Layer("Convolution", "float32", 20), "b": Layer("Softmax", "float32", 1)}
    operators = difference(before, after, 2, 98).operators(98)
    assert [(each.name, each.time_ns) for each in operators] == [
        ("a", (20 * 100 - 500 * 2) * 1000),
        ("b", 100_000),
    ]
    assert all(each.calls == 98 for each in operators)


def test_rounded_averages_never_make_a_time_negative() -> None:
    before = {"a": Layer("Softmax", "float32", 9)}
    operators = difference(before, {"a": Layer("Softmax", "float32", 0)}, 2, 3).operators(3)
    assert operators[0].time_ns == 0


def test_the_user_s_hints_stay() -> None:
    runtime = with_counters(RuntimeOptions(threads=2, hints={"NUM_STREAMS": "2"}))
    assert runtime.hints == {"NUM_STREAMS": "2", "PERF_COUNT": "YES"}
    assert runtime.threads == 2
