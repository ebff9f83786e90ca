from __future__ import annotations

import numpy as np
import pytest

from pytest_edgeai.measure.agreement import (
    decisions,
    differences,
    mismatch,
    resolution,
    spread,
)


def test_the_spread_is_that_of_all_finite_numbers() -> None:
    values = np.random.default_rng(0).normal(1000, 3, (50, 20)).astype(np.float32)
    assert spread(values) == pytest.approx(float(values.astype(np.float64).std()), rel=1e-6)
    values[3, 4], values[5, 6] = np.nan, np.inf
    assert spread(values) == pytest.approx(3, rel=0.1)


@pytest.mark.parametrize(("value", "unit"), [(0.0, 1.0), (-7.5, 7.5), (0.1, 0.1)])
def test_a_constant_output_has_its_magnitude_for_a_spread(value: float, unit: float) -> None:
    assert spread(np.full((4, 3), value)) == pytest.approx(unit)
    assert spread(np.full((4, 3), np.nan)) == 1.0


def test_differences_of_numbers_are_the_largest_of_each_sample() -> None:
    left = np.zeros((3, 2, 2), np.float32)
    right = left.copy()
    right[1, 0, 1], right[2, 1, 1] = 0.5, -2
    assert differences(left, right).tolist() == [0.0, 0.5, 2.0]


def test_what_is_no_number_is_equal_to_itself_alone() -> None:
    nan, inf = np.nan, np.inf
    left = np.asarray([[nan], [nan], [1.0], [inf], [inf], [-inf]])
    right = np.asarray([[nan], [1.0], [nan], [inf], [-inf], [3.0]])
    assert differences(left, right).tolist() == [0.0, inf, inf, 0.0, inf, inf]


def test_differences_of_names_and_integers_are_shares() -> None:
    assert differences(np.asarray(["a", "b"]), np.asarray(["a", "c"])).tolist() == [0.0, 1.0]
    left, right = np.asarray([[1, 2, 3, 4]]), np.asarray([[1, 2, 0, 4]])
    assert differences(left, right).tolist() == [0.25]
    with pytest.raises(ValueError, match="shapes"):
        differences(left, right[:, :2])


def test_resolution_follows_the_dtype() -> None:
    values = np.random.default_rng(0).normal(size=(10, 10))
    single, half = resolution(values.astype(np.float32)), resolution(values.astype(np.float16))
    assert 1e-7 < single < 1e-5
    assert half > 1000 * single
    assert resolution(np.asarray([1, 2])) == 0.0


def test_mismatch_names_the_output() -> None:
    one = {"y": np.zeros((2, 3))}
    assert mismatch(one, one) == ""
    assert mismatch(one, {"z": np.zeros((2, 3))}) == 'no output "y"'
    assert "(4,)" in mismatch(one, {"y": np.zeros((2, 4))})


def test_decisions_are_the_highest_score_and_its_lead() -> None:
    scores = np.asarray([[0.1, 0.7, 0.2], [0.5, np.nan, 0.1], [0.4, 0.4, 0.2]])
    found = decisions({"scores": scores, "hidden": np.zeros((3, 2, 2))})
    assert found is not None
    assert found.classes.tolist() == [1, -1, 0]
    assert found.margins[0] == pytest.approx(0.5)
    assert np.isnan(found.margins[1])
    named = decisions({"label": np.asarray(["a", "b"])})
    assert named is not None
    assert named.classes.tolist() == ["a", "b"]
    assert np.isnan(named.margins).all()


def test_several_outputs_that_could_decide_decide_nothing() -> None:
    two = {"a": np.zeros((2, 3)), "b": np.zeros((2, 4))}
    assert decisions(two) is None
    assert decisions({"y": np.zeros((2, 1))}) is None
