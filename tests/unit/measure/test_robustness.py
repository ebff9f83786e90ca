"""How many corrupted samples are taken, and in which parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pytest_edgeai.measure.dataset import Batching
from pytest_edgeai.measure.metrics import absolute_error, accuracy
from pytest_edgeai.measure.robustness import (
    FEWEST_SAMPLES,
    PART_BYTES,
    Evaluated,
    Judged,
    affordable,
    clean_figure,
    sample_order,
)


@pytest.mark.parametrize(
    ("total", "seconds", "corruptions", "budget_s", "expected"),
    [
        (10_000, 0.001, 5, None, 10_000),
        (10_000, 0.001, 5, 20.0, 4_000),
        (10_000, 1.0, 5, 20.0, FEWEST_SAMPLES),
        (100, 1.0, 5, 20.0, 100),
        (10_000, 0.0, 5, 20.0, 10_000),
        (10_000, 0.00113, 5, 20.0, 3_500),
    ],
)
def test_samples_follow_from_their_cost(
    total: int, seconds: float, corruptions: int, budget_s: float | None, expected: int
) -> None:
    assert affordable(total, seconds, corruptions, budget_s) == expected


def test_the_order_is_always_the_same_and_holds_every_sample() -> None:
    assert np.array_equal(sample_order(50), sample_order(50))
    assert sorted(sample_order(50)) == list(range(50))
    assert not np.array_equal(sample_order(50), np.arange(50))


def test_parts_are_whole_calls_and_no_larger_than_allowed() -> None:
    arrays = {"x": np.zeros((20, PART_BYTES // 40), np.float32)}
    evaluated = Evaluated(arrays, np.arange(20), Batching(3, True), Path())
    assert [len(part) for part in evaluated.parts()] == [9, 9, 2]
    huge = {"x": np.broadcast_to(np.float32(0), (4, 2 * PART_BYTES))}
    parts = Evaluated(huge, np.arange(4), Batching(None, True), Path()).parts()
    assert [len(part) for part in parts] == [1, 1, 1, 1]


def test_the_figure_without_corruption_is_the_metrics() -> None:
    logits = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    labels = np.array([1, 0, 0, 1])
    judged = Judged(accuracy, "accuracy", "proportion", labels, None, None)
    assert clean_figure(judged, {"y": logits}, labels) == 0.75
    loss = Judged(absolute_error, "absolute_error", "loss", labels, None, None)
    assert clean_figure(loss, {"y": labels + 0.5}, labels) == pytest.approx(0.5)
    embedding = Judged(accuracy, "cosine", "embedding", None, None, None)
    assert clean_figure(embedding, {"y": logits}, None) is None
