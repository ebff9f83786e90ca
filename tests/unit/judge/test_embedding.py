from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pytest_edgeai.judge.quality import judge_accuracy
from pytest_edgeai.records import PairedQuality, Threshold, Verdict

Array = NDArray[Any]
RETAIN = Threshold(0.95, "more_than")


def spread(mean: float, n: int = 400, width: float = 0.01) -> Array:
    return np.clip(np.linspace(mean - width, mean + width, n), -1, 1)


def embedded(*cosines: Array) -> PairedQuality:
    names = ("cosine", "tokens", "more")
    kept = np.full(len(cosines[0]), 0.9)
    return PairedQuality(
        "cosine",
        "embedding",
        np.ones(len(kept)),
        kept,
        None,
        cosines=dict(zip(names, cosines, strict=False)),
    )


def with_recall(quality: PairedQuality, both: int, lost: int, neither: int = 0) -> PairedQuality:
    baseline = np.repeat([1.0, 1.0, 0.0], [both, lost, neither])
    candidate = np.repeat([1.0, 0.0, 0.0], [both, lost, neither])
    return replace(
        quality, parts=PairedQuality("recall@10", "proportion", baseline, candidate, None)
    )


def judged(quality: PairedQuality, tail_limit: float = 0.9) -> Verdict:
    return judge_accuracy(quality, RETAIN, tail_limit=tail_limit)


def test_close_embeddings_pass_and_the_interval_is_of_the_mean() -> None:
    verdict = judged(embedded(spread(0.98)))
    assert verdict.outcome == "pass"
    assert verdict.observed == pytest.approx(0.98)
    assert verdict.interval is not None
    assert verdict.interval[0] is not None
    assert 0.95 < verdict.interval[0] < 0.98
    assert verdict.reason == (
        "mean cosine 0.9800, more than 0.95 required, 5th percentile 0.9710, more than 0.9 "
        "required; 90.0% of the nearest neighbors kept, on 400 samples"
    )


def test_a_tail_behind_a_good_mean_fails() -> None:
    cosines = spread(0.99, width=0.005)
    cosines[:40] = 0.85
    verdict = judged(embedded(cosines))
    assert verdict.observed is not None
    assert (verdict.outcome, verdict.observed > 0.95) == ("fail", True)
    assert verdict.reason.startswith("5th percentile 0.8500, more than 0.9 required")
    assert judged(embedded(cosines), tail_limit=0.5).outcome == "pass"


def test_a_dead_output_behind_a_good_one_fails() -> None:
    verdict = judged(embedded(spread(0.99, width=0.005), spread(0.0)))
    assert verdict.outcome == "fail"
    assert 'mean cosine of "tokens" ' in verdict.reason
    assert verdict.details["outputs"]["cosine"]["mean"] == pytest.approx(0.99)


@pytest.mark.parametrize(
    ("both", "lost", "outcome"), [(300, 0, "pass"), (300, 9, "inconclusive"), (300, 60, "fail")]
)
def test_retrieval_is_judged_where_there_are_groups(both: int, lost: int, outcome: str) -> None:
    verdict = judged(with_recall(embedded(spread(0.98)), both, lost, 20))
    assert verdict.outcome == outcome
    assert verdict.details["baseline_recall"] == pytest.approx((both + lost) / (both + lost + 20))
    if outcome != "pass":
        assert "recall@10" in verdict.reason


def test_a_baseline_that_retrieves_nothing_decides_nothing() -> None:
    verdict = judged(with_recall(embedded(spread(0.98)), 0, 0, 50))
    assert (verdict.outcome, verdict.details["samples_needed"]) == ("inconclusive", None)
    assert "the baseline finds nothing" in verdict.reason


def test_few_samples_say_how_many_it_takes() -> None:
    verdict = judged(embedded(spread(0.99, n=20, width=0.005)))
    assert (verdict.outcome, verdict.details["samples_needed"]) == ("inconclusive", 59)
    assert judged(embedded(spread(0.99, n=59, width=0.005))).outcome == "pass"
    assert judged(embedded(spread(0.99, n=58, width=0.005))).outcome == "inconclusive"


def test_identical_embeddings_do_not_vary() -> None:
    assert judged(embedded(np.ones(100))).outcome == "pass"
    assert judged(embedded(np.full(100, 0.2))).outcome == "fail"
    no_limit = judge_accuracy(embedded(np.ones(100)), Threshold(None, "more_than"))
    assert (no_limit.outcome, no_limit.observed) == ("not_applicable", 1.0)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=200))
def test_what_passes_clears_both_limits(values: list[float]) -> None:
    verdict = judged(embedded(np.array(values)))
    if verdict.outcome == "pass":
        assert np.mean(values) > 0.95
        assert np.quantile(values, 0.05) > 0.9 - 1e-9
    assert (len(values) >= 30) or verdict.outcome in ("inconclusive", "fail")


@pytest.mark.parametrize(
    ("quality", "expected"),
    [
        (embedded(np.ones(0)), "there are no evaluation samples"),
        (embedded(np.array([0.5, np.nan])), "does not lie between -1 and 1"),
        (embedded(np.array([0.5, 1.5])), "does not lie between -1 and 1"),
        (embedded(np.ones(3), np.ones(4)), r'cosines of "tokens" have shape'),
    ],
)
def test_what_cannot_be_judged(quality: PairedQuality, expected: str) -> None:
    verdict = judged(quality)
    assert verdict.outcome == "error"
    assert expected in verdict.reason
