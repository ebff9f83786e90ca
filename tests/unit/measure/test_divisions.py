from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pytest_edgeai.errors import ModelError
from pytest_edgeai.measure.divisions import take_slices


def take(array: Any) -> Any:
    raw = {"night": array, "image": np.zeros((3, 2))}
    taken = take_slices(raw, ["image"], ("night",), "[models.m] data", needed=True)
    assert set(raw) == {"image"}
    return taken["night"]


@pytest.mark.parametrize(
    ("array", "names"),
    [
        (np.array([True, False, True]), ["true", "false", "true"]),
        (np.array([7, 8, 7]), [7, 8, 7]),
        (np.array(["day", "dusk", "day"]), ["day", "dusk", "day"]),
    ],
)
def test_what_divides_the_samples(array: Any, names: list[Any]) -> None:
    assert take(array).tolist() == names


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.zeros((3, 2), dtype=bool), r'array "night" is bool of shape \(3, 2\)'),
        (np.array(True), r'array "night" is bool of shape \(\)'),
        (np.zeros(3), r'array "night" is float64 of shape \(3,\)'),
        (np.array(["day", "", "day"]), 'array "night" has an empty name of a slice'),
    ],
)
def test_what_does_not(array: Any, expected: str) -> None:
    with pytest.raises(ModelError, match=f"{expected}; allowed: one slice per sample"):
        take(array)
