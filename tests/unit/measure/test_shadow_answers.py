from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pytest_edgeai.measure.shadow_answers import SameAnswer, compare_answers, same_answer

SCORES = np.asarray([[3.0, 1.0, 0.0], [1.00, 1.05, 0.0], [0.0, 0.0, 5.0], [np.nan, 0.0, 0.0]])


def compared(
    kind: Any, baseline: dict[str, NDArray[Any]], candidate: dict[str, NDArray[Any]]
) -> tuple[list[float], int]:
    units = dict.fromkeys(baseline, 1.0)
    found, near = compare_answers(baseline, candidate, SameAnswer(kind, 0.1), units)
    return found.tolist(), near


def test_another_class_counts_unless_the_baseline_hardly_preferred_its_own() -> None:
    other = SCORES[:, [1, 0, 2]]
    found, near = compared("decision", {"y": SCORES}, {"y": other})
    assert found == [0.0, 1.0, 1.0, 1.0]
    assert near == 1
    broken = np.where(np.arange(4)[:, np.newaxis] == 2, np.nan, SCORES)
    assert compared("decision", {"y": SCORES}, {"y": broken})[0] == [1.0, 1.0, 0.0, 1.0]


def test_names_are_compared_as_they_are() -> None:
    left, right = np.asarray(["a", "b"]), np.asarray(["a", "c"])
    assert compared("decision", {"y": left}, {"y": right}) == ([1.0, 0.0], 0)


def test_values_are_compared_by_their_root_mean_square() -> None:
    left = np.zeros((3, 100))
    right = left.copy()
    right[1, 0] = 0.9
    right[2] = 0.2
    assert compared("values", {"y": left}, {"y": right})[0] == [1.0, 1.0, 0.0]
    right[0] = np.nan
    assert compared("values", {"y": left}, {"y": right})[0] == [0.0, 1.0, 0.0]
    assert compared("values", {"y": right}, {"y": right})[0] == [1.0, 1.0, 1.0]


def test_directions_are_compared_by_their_cosine() -> None:
    left = np.asarray([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    right = np.asarray([[9.0, 1.0], [0.0, 1.0], [0.0, 0.0]])
    assert compared("direction", {"y": left}, {"y": right})[0] == [1.0, 0.0, 0.0]


def boxes(*rows: tuple[float, ...]) -> NDArray[Any]:
    """Return the detections of one image: x1, y1, x2, y2, score, class."""
    return np.asarray([rows], dtype=np.float32)


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (boxes((0, 0, 10, 10, 0.9, 1), (20, 20, 30, 30, 0.8, 2)), True),
        (boxes((20, 20, 30, 30, 0.8, 2), (0, 0, 10, 9, 0.9, 1)), True),
        (boxes((0, 0, 10, 10, 0.45, 1), (20, 20, 30, 30, 0.8, 2)), True),
        (boxes((0, 0, 10, 10, 0.3, 1), (20, 20, 30, 30, 0.8, 2)), False),
        (boxes((0, 0, 10, 10, 0.9, 3), (20, 20, 30, 30, 0.8, 2)), False),
        (boxes((7, 7, 17, 17, 0.9, 1), (20, 20, 30, 30, 0.8, 2)), False),
    ],
)
def test_objects_are_found_again_whatever_their_order(other: NDArray[Any], same: bool) -> None:
    own = boxes((0, 0, 10, 10, 0.9, 1), (20, 20, 30, 30, 0.8, 2))
    assert compared("objects", {"y": own}, {"y": other})[0] == [float(same)]
    assert compared("objects", {"y": other}, {"y": own})[0] == [float(same)]


def test_another_object_is_another_answer() -> None:
    own = boxes((0, 0, 10, 10, 0.9, 1), (0, 0, 0, 0, 0.0, 0))
    more = boxes((0, 0, 10, 10, 0.9, 1), (20, 20, 30, 30, 0.8, 1))
    assert compared("objects", {"y": own}, {"y": more})[0] == [0.0]
    twice = boxes((0, 0, 10, 10, 0.9, 1), (0, 0, 10, 10, 0.8, 1))
    assert compared("objects", {"y": own}, {"y": twice})[0] == [0.0]


def test_outputs_of_another_shape_are_never_the_same() -> None:
    assert compared("values", {"y": np.zeros((2, 3))}, {"y": np.zeros((2, 4))})[0] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("task", "metric", "outputs", "kind"),
    [
        ("image-classification", "proportion", {"y": SCORES}, "decision"),
        ("image-classification", "proportion", {"y": np.zeros((4, 1))}, "values"),
        ("feature-extraction", "embedding", {"y": SCORES}, "direction"),
        ("object-detection", "corpus", {"y": np.zeros((1, 2, 6))}, "objects"),
        ("object-detection", "corpus", {"y": np.zeros((1, 2, 8))}, "values"),
        ("tabular-regression", "loss", {"y": SCORES}, "values"),
    ],
)
def test_what_is_the_same_follows_the_task(
    task: str, metric: str, outputs: dict[str, NDArray[Any]], kind: str
) -> None:
    assert same_answer(task, metric, outputs, 0.1).kind == kind
