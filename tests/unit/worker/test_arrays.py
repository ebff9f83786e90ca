"""Samples in, outputs out: padding, stacking, and every refusal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pytest_edgeai.errors import ModelError
from pytest_edgeai.optimize.frameworks.base import ExecutionFacts, Feeds
from pytest_edgeai.records import TensorSpec
from pytest_edgeai.worker.arrays import (
    ArrayCalibration,
    check_inputs,
    evaluate,
    open_arrays,
    take,
)


class PlainModel:
    """A model that is a Python function of its feeds."""

    def __init__(
        self, function: Callable[[Feeds], dict[str, NDArray[Any]]], *inputs: TensorSpec
    ) -> None:
        self.inputs = inputs or (TensorSpec("x", "float32", (None, 2)),)
        self.outputs = ()
        self.calls: list[int] = []
        self._function = function

    def run(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        self.calls.append(feeds["x"].shape[0] if feeds["x"].ndim else 0)
        return self._function(feeds)

    def bind(self, feeds: Feeds) -> Callable[[], object]:
        return lambda: self.run(feeds)

    def execution(self) -> ExecutionFacts:
        return ExecutionFacts({}, ())

    def close(self) -> None:
        pass


def numbers(samples: int) -> NDArray[np.float32]:
    return np.arange(samples * 2, dtype=np.float32).reshape(samples, 2)


def ones(dtype: str) -> NDArray[Any]:
    return np.ones(1, dtype)


@given(st.integers(1, 12), st.integers(1, 5), st.booleans())
def test_evaluate_equals_one_call(samples: int, batch: int, fixed: bool) -> None:
    import tempfile

    x = numbers(samples)
    spec = TensorSpec("x", "float32", (batch if fixed else None, 2))
    model = PlainModel(lambda feeds: {"y": feeds["x"] + 1, "s": feeds["x"].sum(axis=1)}, spec)
    with tempfile.TemporaryDirectory() as folder:
        done = evaluate(model, {"x": x}, samples, batch, Path(folder))
        np.testing.assert_array_equal(np.load(done.outputs["y"]), x + 1)
        np.testing.assert_array_equal(np.load(done.outputs["s"]), x.sum(axis=1))
    full, rest = divmod(samples, batch)
    assert model.calls == [batch] * full + ([batch if fixed else rest] if rest else [])


def test_no_batch_axis_stacks(tmp_path: Path) -> None:
    spec = TensorSpec("x", "float32", (2,))
    model = PlainModel(lambda feeds: {"y": feeds["x"] * 2, "s": feeds["x"].sum()}, spec)
    done = evaluate(model, {"x": numbers(3)}, 3, None, tmp_path)
    np.testing.assert_array_equal(np.load(done.outputs["y"]), numbers(3) * 2)
    np.testing.assert_array_equal(np.load(done.outputs["s"]), numbers(3).sum(axis=1))


def test_batch_of_one_stacks_outputs_without_batch_axis(tmp_path: Path) -> None:
    model = PlainModel(lambda feeds: {"y": feeds["x"], "s": feeds["x"].sum().reshape(())})
    done = evaluate(model, {"x": numbers(3)}, 3, 1, tmp_path)
    np.testing.assert_array_equal(np.load(done.outputs["y"]), numbers(3))
    np.testing.assert_array_equal(np.load(done.outputs["s"]), numbers(3).sum(axis=1))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda feeds: {"y": feeds["x"].T}, "its first axis is not the batch"),
        (lambda feeds: {"y": feeds["x"].sum()}, r"output \"y\" has shape \(\) for a batch of 3"),
        (lambda feeds: {"y": [{"a": 1.0}] * 3}, "is no tensor but a list.*zipmap=False"),
    ],
)
def test_outputs_that_cannot_be_collected(
    function: Callable[[Feeds], dict[str, Any]], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=message):
        evaluate(PlainModel(function), {"x": numbers(6)}, 6, 3, tmp_path)


def test_outputs_that_are_strings(tmp_path: Path) -> None:
    def name(feeds: Feeds) -> dict[str, NDArray[Any]]:
        return {"label": np.array([f"class {row[0]:.0f}" for row in feeds["x"]], dtype=object)}

    done = evaluate(PlainModel(name), {"x": numbers(4)}, 4, 3, tmp_path)
    held = np.load(done.outputs["label"], allow_pickle=False)
    assert held.dtype.kind == "U"
    assert held.tolist() == [f"class {row[0]:.0f}" for row in numbers(4)]


def test_output_that_changes_shape(tmp_path: Path) -> None:
    def growing(feeds: Feeds) -> dict[str, NDArray[Any]]:
        return {"y": np.zeros((2, int(feeds["x"][0, 0]) + 1), np.float32)}

    message = r"output \"y\" changes from call to call: .* float32\(2, 5\) for sample 2"
    with pytest.raises(ModelError, match=message):
        evaluate(PlainModel(growing), {"x": numbers(4)}, 4, 2, tmp_path)


def test_too_few_samples(tmp_path: Path) -> None:
    model = PlainModel(lambda feeds: {"y": feeds["x"]})
    with pytest.raises(ModelError, match="9 samples asked for, 4 there"):
        evaluate(model, {"x": numbers(4)}, 9, 2, tmp_path)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, 'no array for the model input "x"; allowed: x, ids'),
        ({"x": ones("f4"), "ids": ones("i8"), "z": ones("i8")}, 'has no input "z"'),
        (
            {"x": ones("f8"), "ids": ones("i8")},
            'input "x": the array holds float64, the model takes float32',
        ),
        (
            {"x": ones("f4"), "ids": ones("i4")},
            'input "ids": the array holds int32, the model takes int64',
        ),
    ],
)
def test_inputs_that_do_not_fit(arrays: dict[str, NDArray[Any]], message: str) -> None:
    specs = [TensorSpec("x", "float32", (None,)), TensorSpec("ids", "int64", (None,))]
    with pytest.raises(ModelError, match=message):
        check_inputs(arrays, specs, 1)


@pytest.mark.parametrize(
    ("spec", "batch", "fits"),
    [
        ((None, 3), 2, True),
        ((2, 3), 2, True),
        ((4, 3), 2, False),
        ((None, 4), 2, False),
        ((None, 3, 1), 2, False),
        ((3,), None, True),
        ((None,), None, True),
        ((4,), None, False),
        ((), 2, True),
    ],
)
def test_shapes_are_compared(spec: tuple[int | None, ...], batch: int | None, fits: bool) -> None:
    arrays = {"x": np.zeros((7, 3), np.float32)}
    inputs = [TensorSpec("x", "float32", spec)]
    if fits:
        check_inputs(arrays, inputs, batch)
    else:
        with pytest.raises(ModelError, match=r"a call would feed the shape \(.*the model takes"):
            check_inputs(arrays, inputs, batch)


def test_take_copies_and_pads() -> None:
    x = numbers(5)
    taken = take({"x": x}, 3, 4)["x"]
    np.testing.assert_array_equal(taken, x[[3, 4, 4, 4]])
    assert not np.shares_memory(taken, x)
    assert taken.flags.c_contiguous
    single = take({"x": x}, 2, None)["x"]
    np.testing.assert_array_equal(single, x[2])
    assert not np.shares_memory(single, x)
    for first in (-1, 5):
        with pytest.raises(ModelError, match=f"there is no sample {first}, only 5"):
            take({"x": x}, first, 1)


@given(st.integers(1, 9), st.none() | st.integers(1, 4))
def test_calibration_covers_every_sample(samples: int, batch: int | None) -> None:
    calibration = ArrayCalibration({"x": numbers(samples)}, batch)
    for _ in range(2):
        feeds = [item["x"].reshape(-1, 2) for item in calibration]
        assert len(feeds) == len(calibration)
        assert {len(item) for item in feeds} == {batch or 1}
        np.testing.assert_array_equal(np.concatenate(feeds)[:samples], numbers(samples))


def test_arrays_that_cannot_be_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "good.npy", numbers(2))
    np.save(tmp_path / "pickled.npy", np.array([{}], object), allow_pickle=True)
    (tmp_path / "text.npy").write_text("hello")
    (tmp_path / "empty.npy").write_text("")
    opened = open_arrays({"x": str(tmp_path / "good.npy")})["x"]
    np.testing.assert_array_equal(opened, numbers(2))
    assert not opened.flags.writeable
    for name in ("pickled", "text", "empty", "missing"):
        with pytest.raises(ModelError, match=rf"{name}\.npy \(x\): no readable array"):
            open_arrays({"x": str(tmp_path / f"{name}.npy")})
