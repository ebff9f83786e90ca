"""Extreme inputs made from ordinary ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.measure.dataset import Batching
from pytest_edgeai.measure.extreme_inputs import (
    MOST_COPIES,
    MOST_OVERSIZE_BYTES,
    extreme_inputs,
    extreme_tokens,
    first_call,
)
from pytest_edgeai.records import TensorSpec

BATCHED = Batching(2, False)
Feeds = dict[str, NDArray[Any]]


def made(
    sample: Feeds, specs: list[TensorSpec], batching: Batching = BATCHED, seconds: float = 1e-4
) -> dict[str, Feeds]:
    found = extreme_inputs(sample, specs, batching, seconds)
    assert len({each.name for each in found}) == len(found), "each has a name of its own"
    return {each.name: dict(each.feeds) for each in found}


FLOATS = np.linspace(0, 1, 12, dtype=np.float32).reshape(2, 6)
SPEC = TensorSpec("x", "float32", (None, 6))


def test_values_of_floats_fill_the_input_and_keep_its_type() -> None:
    inputs = made({"x": FLOATS}, [SPEC])
    limits = np.finfo(np.float32)
    for name, value in (
        ("zeros", 0),
        ("the largest number", limits.max),
        ("the lowest number", limits.min),
        ("denormal numbers", limits.smallest_subnormal),
        ("infinity", np.inf),
        ("minus infinity", -np.inf),
    ):
        array = inputs[name]["x"]
        assert array.dtype == np.float32
        assert (array == value).all(), name
    assert np.isnan(inputs["NaN"]["x"]).all()
    assert np.isnan(inputs["one NaN"]["x"]).sum() == 1
    assert np.array_equal(FLOATS, np.linspace(0, 1, 12, dtype=np.float32).reshape(2, 6))


def test_only_finite_inputs_of_the_right_kind_are_valid() -> None:
    valid = {
        each.name for each in extreme_inputs({"x": FLOATS}, [SPEC], BATCHED, 1) if each.is_valid
    }
    assert valid == {"zeros", "the largest number", "the lowest number", "denormal numbers"}


def test_shapes_and_types_that_do_not_fit() -> None:
    inputs = made({"x": FLOATS}, [SPEC])
    assert inputs["an empty batch"]["x"].shape == (0, 6)
    assert inputs[f"a batch of {2 * MOST_COPIES}"]["x"].shape == (2 * MOST_COPIES, 6)
    assert inputs["one axis too many"]["x"].shape == (1, 2, 6)
    assert inputs["one axis alone"]["x"].shape == (12,)
    assert inputs["a last axis that is one longer"]["x"].shape == (2, 7)
    assert inputs["int64 for float32"]["x"].dtype == np.int64
    assert inputs["a missing input"] == {}
    assert set(inputs["an unknown input"]) == {"x", "no_such_input"}
    assert not any("length" in name for name in inputs), "every axis but the batch is fixed"


def test_integers_text_and_open_lengths() -> None:
    sample: Feeds = {
        "ids": np.ones((1, 4), np.int64),
        "mask": np.ones((1, 4), np.uint8),
        "name": np.array(["a"]),
    }
    specs = [
        TensorSpec("ids", "int64", (None, None)),
        TensorSpec("mask", "uint8", (None, None)),
        TensorSpec("name", "str", (None,)),
    ]
    inputs = made(sample, specs, Batching(1, False))
    assert (inputs["the largest integers"]["ids"] == np.iinfo(np.int64).max).all()
    assert (inputs["the largest integers"]["mask"] == 255).all()
    assert (inputs["integers of -1"]["ids"] == -1).all()
    assert (inputs["integers of -1"]["mask"] == 1).all(), "an unsigned input has no -1"
    assert (
        inputs["an empty length"]["ids"].shape == inputs["an empty length"]["mask"].shape == (1, 0)
    )
    assert inputs["4 times the length"]["ids"].shape == (1, 16)
    assert inputs["empty text"]["name"].tolist() == [""]
    assert len(inputs["very long text"]["name"][0]) == 100_000
    assert "zeros" not in inputs


def test_a_model_without_a_batch_axis_and_scalars() -> None:
    sample = {"x": FLOATS[0], "gain": np.array(1.0, np.float32)}
    specs = [TensorSpec("x", "float32", (6,)), TensorSpec("gain", "float32", ())]
    inputs = made(sample, specs, Batching(None, True))
    assert "an empty batch" not in inputs
    assert inputs["a last axis that is one longer"]["x"].shape == (7,)
    assert inputs["zeros"]["gain"].shape == ()


def test_the_oversize_batch_is_bounded_by_bytes_and_seconds() -> None:
    slow = made({"x": FLOATS}, [SPEC], seconds=0.5)
    assert "a batch of 8" in slow
    large = np.zeros((1, MOST_OVERSIZE_BYTES // 16), np.float32)
    spec = TensorSpec("x", "float32", (None, large.shape[1]))
    inputs = made({"x": large}, [spec], Batching(1, False))
    assert inputs["a batch of 4"]["x"].nbytes <= MOST_OVERSIZE_BYTES


def test_first_call_repeats_samples_of_a_fixed_batch() -> None:
    arrays = {"x": np.arange(3)}
    assert first_call(arrays, Batching(5, True))["x"].tolist() == [0, 1, 2, 0, 1]
    assert first_call(arrays, Batching(None, True))["x"].tolist() == 0


def test_tokens_beyond_the_vocabulary_and_the_context() -> None:
    inputs = {e.name: e for e in extreme_tokens(np.arange(4, dtype=np.int32), 100, 8)}
    ids = {name: each.feeds["input_ids"] for name, each in inputs.items()}
    assert all(array.dtype == np.int32 and array.ndim == 1 for array in ids.values())
    assert ids["an id beyond the vocabulary"].tolist() == [0, 1, 2, 100]
    assert ids["a negative id"][-1] == -1
    assert ids["an empty prompt"].size == 0
    assert len(ids["a prompt of twice the context"]) == 16
    assert ids["the last token of the vocabulary"][-1] == 99
    assert {n for n, e in inputs.items() if e.is_valid} == {
        "one token",
        "the last token of the vocabulary",
    }
