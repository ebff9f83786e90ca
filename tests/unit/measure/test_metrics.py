from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pytest_edgeai.errors import ModelError
from pytest_edgeai.measure.metrics import absolute_error, accuracy, check_labels, class_output

Array = NDArray[Any]
SCORES = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], np.float32)


@given(st.integers(2, 6), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_accuracy_is_the_largest_score(classes: int, samples: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    scores = generator.normal(size=(samples, classes))
    labels = generator.integers(0, classes, samples)
    expected = [
        float(max(range(classes), key=row.__getitem__) == label)
        for row, label in zip(scores.tolist(), labels.tolist(), strict=True)
    ]
    assert accuracy({"logits": scores}, labels).tolist() == expected


def test_a_sample_with_nan_is_wrong() -> None:
    broken = SCORES.copy()
    broken[1, 2] = np.nan
    assert accuracy({"logits": broken}, np.arange(3)).tolist() == [1.0, 0.0, 1.0]


def test_labels_may_be_the_answer() -> None:
    assert accuracy({"label": np.array([1, 2])}, np.array([1, 3])).tolist() == [1.0, 0.0]
    assert accuracy({"label": np.array(["a", "b"])}, np.array(["a", "a"])).tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("outputs", "labels", "expected"),
    [
        ({"logits": SCORES, "hidden": np.zeros((3, 1, 2))}, np.arange(3), "logits"),
        ({"logits": SCORES, "label": np.arange(3)}, np.arange(3), "logits"),
        ({"probability": SCORES, "label": np.array(["a", "b", "c"])}, np.array(["a"] * 3), "label"),
    ],
    ids=["other shape", "scores first", "strings first"],
)
def test_which_output_answers(outputs: dict[str, Array], labels: Array, expected: str) -> None:
    assert class_output(outputs, labels) == expected


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ({"a": SCORES, "b": SCORES}, "several outputs could answer with classes"),
        ({"a": np.zeros((3, 2, 2))}, "no output could answer with classes"),
        ({}, "no output could answer with classes"),
    ],
    ids=["two", "none fits", "none"],
)
def test_an_ambiguous_output_is_refused(outputs: dict[str, Array], expected: str) -> None:
    with pytest.raises(ModelError, match=expected):
        class_output(outputs, np.arange(3))


def test_a_single_probability_is_told_of_metrics() -> None:
    with pytest.raises(ModelError, match='write a metric: metric = "module:function"'):
        class_output({"probability": np.ones((3, 1), np.float32)}, np.array([0, 1, 1]))


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (np.zeros((3, 1), int), r"labels have shape \(3, 1\)"),
        (np.zeros(3), "labels are float64"),
        (np.array([0, 1, 3]), "labels run from 0 to 3; allowed: 0 to 2"),
        (np.array([-1, 1, 2]), "labels run from -1 to 2"),
    ],
    ids=["shape", "dtype", "above", "below"],
)
def test_labels_that_are_no_classes(labels: Array, expected: str) -> None:
    with pytest.raises(ModelError, match=expected):
        check_labels(labels, 3)


def test_absolute_error_is_the_mean_of_a_sample() -> None:
    outputs = {"y": np.array([[1.0, 2.0], [3.0, 5.0]], np.float32)}
    assert absolute_error(outputs, np.array([[1.0, 4.0], [3.0, 5.0]])).tolist() == [1.0, 0.0]
    assert absolute_error({"y": np.ones((2, 1))}, np.array([1, 3])).tolist() == [0.0, 2.0]


@pytest.mark.parametrize(
    ("outputs", "labels", "expected"),
    [
        ({"a": np.ones(2), "b": np.ones(2)}, np.ones(2), "2 outputs could be regressed"),
        ({"a": np.ones((2, 2))}, np.ones(2), "with 1 values per sample; allowed: numbers, 2 per"),
        ({"a": np.ones(2)}, np.array(["a", "b"]), "labels are <U1"),
    ],
    ids=["two", "shape", "strings"],
)
def test_absolute_error_needs_numbers(
    outputs: dict[str, Array], labels: Array, expected: str
) -> None:
    with pytest.raises(ModelError, match=expected):
        absolute_error(outputs, labels)
