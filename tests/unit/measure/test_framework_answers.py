from __future__ import annotations

import numpy as np
import pytest

from pytest_edgeai.measure.framework_answers import compare_outputs, compare_tokens

SCORES = np.random.default_rng(0).normal(size=(40, 5))


def test_a_sample_agrees_where_every_output_lies_within_the_tolerance() -> None:
    other = SCORES.copy()
    other[3, 2] += 0.02 * SCORES.std()
    other[4] = np.nan
    found, apart = compare_outputs(
        "b", {"y": SCORES}, {"y": other}, 0.01, task="image-classification", selected=None
    )
    assert np.flatnonzero(~found.agrees).tolist() == [3, 4]
    assert apart["y"][3] == pytest.approx(0.02)
    assert np.isinf(found.apart["y"])
    assert found.changed_decisions == 1


def test_integers_of_another_dtype_are_compared_by_value() -> None:
    own, other = np.arange(6, dtype=np.int64), np.arange(6, dtype=np.int32)
    other[2] = 9
    found, _ = compare_outputs(
        "b", {"y": own}, {"y": other}, 0.01, task="text-classification", selected="y"
    )
    assert np.flatnonzero(~found.agrees).tolist() == [2]


def test_lists_of_detections_need_no_order() -> None:
    boxes = np.random.default_rng(1).normal(size=(4, 6, 5))
    for task, agrees in (("object-detection", True), ("image-segmentation", False)):
        found, _ = compare_outputs(
            "b", {"y": boxes}, {"y": boxes[:, ::-1]}, 0.01, task=task, selected=None
        )
        assert bool(found.agrees.all()) == agrees


def test_another_shape_is_a_problem_and_no_disagreement() -> None:
    found, _ = compare_outputs(
        "b", {"y": SCORES}, {"y": SCORES[:, :3]}, 0.01, task="depth-estimation", selected=None
    )
    assert len(found.agrees) == 0
    assert "shape (3,)" in found.problem


def test_tokens_keep_the_block_that_they_belong_to() -> None:
    own, other = np.zeros((3, 4), np.int64), np.zeros((3, 4), np.int64)
    other[1, 2] = 7
    own[2] = other[2] = -1
    found = compare_tokens("b", own, other)
    assert found.blocks is not None
    assert found.blocks.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert found.agrees.tolist() == [True] * 6 + [False] + [True] + [False] * 4
