from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_edgeai.judge.memory import judge_memory, judge_memory_footprint
from pytest_edgeai.records import MemorySamples, Threshold, to_json

MIB = 2**20
HALF = Threshold(0.5, "at_least")


def samples(baseline: Any, candidate: Any, footprint: Any = (90.0, 90.5, 91.0)) -> MemorySamples:
    def in_bytes(values: Any) -> tuple[int, ...]:
        return tuple(int(value * MIB) for value in values)

    return MemorySamples(
        "linux-peak-growth-less-code-pages",
        in_bytes(baseline),
        in_bytes(candidate),
        in_bytes(footprint),
        in_bytes(footprint),
    )


@pytest.mark.parametrize(
    ("baseline", "candidate", "outcome"),
    [
        ((41, 41.1, 41.2), (12, 12, 12.1), "pass"),
        ((22.4, 22.5, 22.6), (6.5, 6.7, 7.4), "pass"),  # spread of a MiB on 7, clear all the same
        ((131, 131, 131.2), (106, 106, 106), "fail"),
        ((41, 41, 41), (60, 60, 60), "fail"),
        ((40, 40.5, 41), (20, 20.2, 20.4), "inconclusive"),
        ((40, 40, 52), (10, 10, 10), "inconclusive"),
        ((41, 41), (12, 12), "inconclusive"),
    ],
)
def test_worst_case_of_the_repeats(baseline: Any, candidate: Any, outcome: str) -> None:
    verdict = judge_memory(samples(baseline, candidate), HALF)
    assert verdict.outcome == outcome
    assert verdict.interval is not None
    assert verdict.observed is not None
    low, high = verdict.interval
    assert low == pytest.approx(1 - max(candidate) / min(baseline), abs=1e-6)
    assert high == pytest.approx(1 - min(candidate) / max(baseline), abs=1e-6)
    assert verdict.confidence is None
    assert "MiB instead of" in verdict.reason
    assert bool(verdict.advice) == (outcome != "pass")
    assert to_json(verdict)["details"]["definition"] == "linux-peak-growth-less-code-pages"


@given(
    st.lists(st.floats(9, 500), min_size=3, max_size=6),
    st.lists(st.floats(0.1, 500), min_size=3, max_size=6),
    st.floats(0.0, 1.0),
    st.floats(1.0, 3.0),
)
def test_interval_and_monotony(
    baseline: list[float], candidate: list[float], threshold: float, factor: float
) -> None:
    limit = Threshold(threshold, "at_least")
    verdict = judge_memory(samples(baseline, candidate), limit)
    assert verdict.interval is not None
    assert verdict.observed is not None
    low, high = verdict.interval
    assert low is not None
    assert high is not None
    assert low <= verdict.observed <= high
    if verdict.outcome == "pass":
        assert low >= threshold
    if verdict.outcome == "fail":
        assert high < threshold
    more = judge_memory(samples(baseline, [factor * size for size in candidate]), limit)
    if verdict.outcome != "pass" and verdict.details["spread_ratio"] <= 0.25:
        assert more.outcome != "pass"


@pytest.mark.parametrize("baseline", [(7.9, 7.9, 7.9), (0, 0, 0), (-0.5, 0.1, 0.2), (7, 7.5, 12)])
def test_small_baseline_leaves_it_to_the_file_size(baseline: Any) -> None:
    verdict = judge_memory(samples(baseline, (1, 1, 1)), HALF)
    assert verdict.outcome == "not_applicable"
    assert "the file size decides" in verdict.reason


def test_a_baseline_just_below_the_minimum_does_not_read_like_it() -> None:
    just_below = judge_memory(samples((7.96, 7.97, 7.98), (1, 1, 1)), HALF)
    assert "needs just less than 8.0 MiB of model memory" in just_below.reason
    below = judge_memory(samples((5.2, 5.2, 5.2), (1, 1, 1)), HALF)
    assert "needs only 5.2 MiB of model memory, and from 8.0 MiB on" in below.reason


@pytest.mark.parametrize(
    ("baseline", "candidate"),
    [
        ((), ()),
        ((40, 40, 40), ()),
        ((40, 40, 40), (0, 5, 5)),
        ((40, 40, 40), (-3, 5, 5)),
        ((-40, 40, 40), (5, 5, 5)),
    ],
)
def test_impossible_sizes_are_an_error(baseline: Any, candidate: Any) -> None:
    verdict = judge_memory(samples(baseline, candidate), HALF)
    assert verdict.outcome == "error"
    assert verdict.reason.startswith("not judged: ")


def test_sizes_and_thresholds_that_are_no_numbers_are_an_error() -> None:
    odd: Any = (math.nan, 4e7, 4e7)
    good = (5_000_000,) * 3
    broken = MemorySamples("d", odd, good, good, good)
    assert judge_memory(broken, HALF).outcome == "error"
    fine = samples((40, 40, 40), (5, 5, 5))
    assert judge_memory(fine, Threshold(math.nan, "at_least")).outcome == "error"
    assert judge_memory(fine, Threshold(None, "at_least")).outcome == "not_applicable"
    with pytest.raises(ValueError, match="relation"):
        judge_memory(fine, Threshold(0.5, "at_most"))


def test_threshold_of_zero_asks_for_no_more_memory() -> None:
    zero = Threshold(0.0, "at_least")
    assert judge_memory(samples((40, 40, 40), (40, 40, 40)), zero).outcome == "pass"
    worse = judge_memory(samples((40, 40, 40), (44, 44, 44)), zero)
    assert worse.outcome == "fail"
    assert worse.reason.startswith("10.0% more")


def test_footprint_takes_the_worst_repeat() -> None:
    peaks = samples((40,), (5,), (90, 91, 99.5))
    limit = Threshold(99.5 * MIB, "at_most")
    assert judge_memory_footprint(peaks, limit).outcome == "pass"
    verdict = judge_memory_footprint(peaks, Threshold(99 * MIB, "at_most"))
    assert verdict.outcome == "fail"
    assert verdict.observed == 99.5 * MIB
    assert "99.5 MiB in the worst of 3 repeats, at most 99.0 MiB allowed" in verdict.reason
    assert judge_memory_footprint(peaks, Threshold(None, "at_most")).outcome == "not_applicable"


@pytest.mark.parametrize("footprint", [(), (90, 0), (90, -1)])
def test_missing_or_impossible_footprint_is_an_error(footprint: Any) -> None:
    limit = Threshold(100 * MIB, "at_most")
    assert judge_memory_footprint(samples((40,), (5,), footprint), limit).outcome == "error"


def test_the_steady_state_is_stated_and_decides_nothing() -> None:
    peaks = samples((40, 40, 40), (10, 10, 10))
    steady = dataclasses.replace(
        peaks,
        baseline_steady_bytes=(20 * MIB, 21 * MIB, 20 * MIB),
        candidate_steady_bytes=(30 * MIB,) * 3,
        steady_definition="linux-resident-growth-less-code-pages",
    )
    verdict = judge_memory(steady, HALF)
    assert verdict.outcome == judge_memory(peaks, HALF).outcome == "pass"
    assert (
        "10.0 MiB instead of 40.0 MiB at the peak (after the runs 30.0 MiB instead of 20.0 MiB)"
    ) in verdict.reason
    assert verdict.details["candidate_steady_bytes"] == [30 * MIB] * 3
    assert verdict.details["steady_definition"] == steady.steady_definition
    assert "after the runs" not in judge_memory(peaks, HALF).reason


def test_mapped_weights_that_count_although_nobody_touched_them_are_stated() -> None:
    mapped = dataclasses.replace(
        samples((40, 40, 40), (10, 10, 10)),
        baseline_untouched_bytes=9 * MIB,
        candidate_untouched_bytes=2 * MIB,
    )
    verdict = judge_memory(mapped, HALF)
    assert "counting 2.0 MiB and 9.0 MiB of mapped weights that were not touched" in verdict.reason
    assert verdict.details["baseline_untouched_bytes"] == 9 * MIB
