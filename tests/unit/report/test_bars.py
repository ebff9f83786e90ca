from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_edgeai.records import Relation
from pytest_edgeai.report.bars import THRESHOLD_AT, bar_of

VALUES = st.none() | st.floats()
RELATIONS: tuple[Relation, ...] = ("more_than", "at_least", "at_most")


@given(VALUES, st.none() | st.tuples(VALUES, VALUES), VALUES, st.sampled_from(RELATIONS))
def test_everything_lies_on_the_scale(
    observed: float | None,
    interval: tuple[float | None, float | None] | None,
    threshold: float | None,
    relation: Relation,
) -> None:
    bar = bar_of(observed, interval, threshold, relation)
    if bar is None:
        return
    for place in (bar.observed, bar.low, bar.high):
        assert place is None or 0 <= place <= 1


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.sampled_from(RELATIONS))
def test_better_lies_to_the_right(observed: float, threshold: float, relation: Relation) -> None:
    bar = bar_of(observed, None, threshold, relation)
    assert bar is not None
    assert bar.observed is not None
    better = observed < threshold if relation == "at_most" else observed > threshold
    assert (bar.observed > THRESHOLD_AT) == better
    assert not bar.has_interval


def test_an_interval_keeps_its_sides() -> None:
    bar = bar_of(2.75, (2.5, 3.0), 2.0, "at_least")
    assert bar is not None
    assert bar.low is not None
    assert bar.observed is not None
    assert bar.high is not None
    assert THRESHOLD_AT < bar.low < bar.observed < bar.high < 1
    bar = bar_of(1.04, (0.98, None), 1.1, "at_most")
    assert bar is not None
    assert bar.low is None
    assert bar.high is not None
    assert bar.high > THRESHOLD_AT
    assert bar.has_interval


@pytest.mark.parametrize(
    ("observed", "threshold"), [(1.0, None), (1.0, math.nan), (None, 1.0), (math.inf, 1.0)]
)
def test_without_figures_there_is_nothing_to_draw(
    observed: float | None, threshold: float | None
) -> None:
    assert bar_of(observed, None, threshold, "at_least") is None


def test_an_estimate_on_its_threshold_lies_on_it() -> None:
    bar = bar_of(0.0, (0.0, 0.0), 0.0, "at_most")
    assert bar is not None
    assert (bar.observed, bar.low, bar.high) == (THRESHOLD_AT,) * 3
