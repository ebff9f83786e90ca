from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from pytest_edgeai.measure.reference import LEAST_BETWEEN, LEVELS, reference_statistics

RNG = np.random.default_rng(0)


def test_a_table_is_described_column_by_column() -> None:
    table = np.column_stack([RNG.normal(0, 1, 1000), RNG.normal(5, 2, 1000)])
    said = reference_statistics({"x": table}, {})
    assert said["samples"] == 1000
    first, second = said["inputs"]["x"]["features"]
    assert first["mean"] == pytest.approx(table[:, 0].mean())
    assert second["quantiles"]["0.5"] == pytest.approx(np.quantile(table[:, 1], 0.5))
    assert list(second["quantiles"]) == [f"{level:g}" for level in LEVELS]


def test_images_are_described_by_brightness_and_contrast() -> None:
    images = RNG.integers(0, 256, (200, 3, 4, 4)).astype(np.uint8)
    said = reference_statistics({"image": images}, {})["inputs"]["image"]
    assert said["sample_shape"] == [3, 4, 4]
    assert "features" not in said
    per_sample = images.reshape(200, -1).astype(float)
    assert said["sample_mean"]["mean"] == pytest.approx(per_sample.mean())
    assert said["sample_std"]["mean"] == pytest.approx(per_sample.std(axis=1).mean())


def test_answers_of_a_classifier_have_shares_and_margins() -> None:
    logits = np.eye(4)[RNG.integers(0, 3, 400)] * 7
    said = reference_statistics({}, {"logits": logits}, scores=np.ones(400))
    output = said["outputs"]["logits"]
    counts = np.bincount(logits.argmax(1), minlength=4) / 400
    assert output["class_shares"] == {str(i): share for i, share in enumerate(counts)}
    assert output["margin"]["mean"] == 7
    assert said["scores"]["mean"] == 1


def test_strings_are_counted_and_never_quoted_as_inputs() -> None:
    texts = np.array(["secret one", "two"] * 50)
    said = reference_statistics({"text": texts}, {"label": np.array(["cat"] * 75 + ["dog"] * 25)})
    assert "secret" not in json.dumps(said)
    assert said["outputs"]["label"]["class_shares"] == {"cat": 0.75, "dog": 0.25}


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, np.finfo(np.float64).max])
def test_what_is_not_finite_is_counted_and_never_written(value: float) -> None:
    images = np.ones((20, 3, 4, 4))
    images[::2] = value
    logits = np.full((20, 3), value)
    said = reference_statistics({"image": images}, {"logits": logits})
    json.dumps(said, allow_nan=False)
    brightness = said["inputs"]["image"]["sample_mean"]
    assert brightness["not_finite_ratio"] == 0.5
    assert brightness["mean"] == 1


@pytest.mark.parametrize("samples", [0, 1, 4, 5, 9, 10, 20, 60, 101, 5000])
def test_no_quantile_gives_a_sample_away(samples: int) -> None:
    values = np.arange(samples, dtype=np.float64).reshape(-1, 1)
    said = reference_statistics({"x": values}, {})["inputs"]["x"]["values"]
    levels = [0.0, *map(float, said["quantiles"]), 1.0]
    if len(levels) > 2:
        assert min(np.diff(levels)) * samples >= LEAST_BETWEEN - 1e-9
    assert (said["mean"] is None) == (samples < LEAST_BETWEEN)


@given(
    arrays.arrays(
        st.sampled_from([np.float32, np.float64, np.int64, np.uint8, np.bool_, np.float16]),
        arrays.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=9),
    )
)
def test_whatever_the_array_it_is_json(array: NDArray[Any]) -> None:
    said = reference_statistics({"x": array}, {"y": array})
    json.dumps(said, allow_nan=False)


def test_numbers_that_are_none_are_counted() -> None:
    values = np.array([[1.0], [np.nan], [np.inf], [2.0]] * 10)
    said = reference_statistics({"x": values}, {})["inputs"]["x"]["values"]
    assert said["not_finite_ratio"] == 0.5
    assert said["mean"] == 1.5


def test_the_same_data_gives_the_same_statistics() -> None:
    big = RNG.normal(size=(3000, 400)).astype(np.float32)
    assert reference_statistics({"x": big}, {}) == reference_statistics({"x": big.copy()}, {})
