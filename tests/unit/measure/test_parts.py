"""The division of evaluation data: nobody stands on both sides, whatever else there is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_edgeai.errors import ModelError
from pytest_edgeai.measure.dataset import Dataset
from pytest_edgeai.measure.overlap import check_overlap, sample_keys
from pytest_edgeai.measure.parts import take_part
from pytest_edgeai.specification import Part


def dataset(values: list[int]) -> Dataset:
    numbers = np.asarray(values, dtype=np.float32)
    return Dataset(
        {"x": numbers[:, None]},
        np.asarray(values),
        None,
        len(values),
        "here",
        {"slices": np.asarray([str(value % 2) for value in values])},
    )


def halves(data: Dataset, share: float) -> tuple[Dataset, Dataset]:
    return take_part(data, Part("selection", share)), take_part(data, Part("evaluation", share))


@given(
    st.sets(st.integers(0, 10_000), min_size=60, max_size=200),
    st.integers(0, 60),
    st.floats(0.3, 0.7),
)
def test_no_sample_is_on_both_sides_and_none_is_lost(
    different: set[int], repeated: int, share: float
) -> None:
    values = [*different, *list(different)[:repeated]]
    data = dataset(values)
    selection, rest = halves(data, share)
    assert not set(sample_keys(selection)) & set(sample_keys(rest))
    assert selection.samples + rest.samples == len(values)
    check_overlap(rest, selection, "selection")
    for part in (selection, rest):
        assert part.labels is not None
        assert part.labels.tolist() == part.arrays["x"][:, 0].tolist()
        assert part.slices["slices"].tolist() == [str(v % 2) for v in part.labels.tolist()]


def test_a_sample_stays_on_its_side_whatever_else_there_is() -> None:
    few, _ = halves(dataset(list(range(100))), 0.3)
    many, _ = halves(dataset(list(range(500))[::-1]), 0.3)
    assert set(sample_keys(few)) <= set(sample_keys(many))


def test_the_share_is_about_what_was_asked_for() -> None:
    selection, _ = halves(dataset(list(range(2000))), 0.2)
    assert 320 < selection.samples < 480


def test_data_that_cannot_be_divided_are_one_line() -> None:
    with pytest.raises(ModelError, match="2 evaluation samples cannot be divided into 20%"):
        halves(dataset([7, 7]), 0.2)
