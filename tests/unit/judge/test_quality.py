from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pytest_edgeai.judge.quality import judge_accuracy
from pytest_edgeai.records import PairedQuality, Threshold, to_json

RETAIN = Threshold(0.95, "more_than", "edgeai.toml")


def proportion(both: int, lost: int, gained: int, neither: int) -> PairedQuality:
    return PairedQuality(
        "accuracy",
        "proportion",
        np.repeat([1.0, 1.0, 0.0, 0.0], [both, lost, gained, neither]),
        np.repeat([1.0, 0.0, 1.0, 0.0], [both, lost, gained, neither]),
        None,
    )


def pair(
    baseline: Any, candidate: Any, kind: Literal["proportion", "loss"] = "proportion"
) -> PairedQuality:
    return PairedQuality("metric", kind, np.asarray(baseline), np.asarray(candidate), None)


@pytest.mark.parametrize(
    ("counts", "outcome"),
    [
        ((520, 6, 2, 12), "pass"),
        ((59, 0, 0, 0), "pass"),
        ((58, 0, 0, 0), "inconclusive"),
        ((5, 0, 0, 0), "inconclusive"),
        ((500, 20, 2, 18), "inconclusive"),
        ((400, 100, 2, 38), "fail"),
        ((0, 60, 0, 0), "fail"),
        ((0, 30, 30, 0), "inconclusive"),
        ((40, 0, 60, 0), "pass"),
    ],
)
def test_outcome_by_counts(counts: tuple[int, int, int, int], outcome: str) -> None:
    verdict = judge_accuracy(proportion(*counts), RETAIN)
    both, lost, gained, neither = counts
    assert verdict.outcome == outcome
    assert verdict.observed == pytest.approx((both + gained) / (both + lost))
    assert verdict.samples == sum(counts)
    assert verdict.confidence == pytest.approx(0.90)
    found = [verdict.details[name] for name in ("n11", "n10", "n01", "n00")]
    assert found == [both, lost, gained, neither]
    assert f"({lost} lost, {gained} gained)" in verdict.reason
    assert bool(verdict.advice) == (outcome != "pass")
    assert to_json(verdict)["threshold_origin"] == "edgeai.toml"


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 200),
    st.integers(0, 30),
    st.integers(0, 30),
    st.integers(0, 30),
    st.sampled_from([0.9, 0.95, 1.0]),
)
def test_interval_contains_observed_and_carries_the_verdict(
    both: int, lost: int, gained: int, neither: int, theta: float
) -> None:
    verdict = judge_accuracy(proportion(both, lost, gained, neither), Threshold(theta, "more_than"))
    if both + lost == 0:
        assert verdict.outcome == "error"
        return
    assert verdict.interval is not None
    assert verdict.observed is not None
    low, high = verdict.interval
    assert low is not None
    assert low <= verdict.observed
    assert high is None or verdict.observed <= high
    assert (verdict.outcome == "pass") == (low >= theta)
    assert (verdict.outcome == "fail") == (high is not None and high <= theta)


@given(st.randoms(use_true_random=False))
@settings(max_examples=10, deadline=None)
def test_the_order_of_the_samples_does_not_matter(random: Any) -> None:
    quality = proportion(120, 4, 2, 9)
    order = list(range(135))
    random.shuffle(order)
    shuffled = pair(quality.baseline_scores[order], quality.candidate_scores[order])
    first, second = judge_accuracy(quality, RETAIN), judge_accuracy(shuffled, RETAIN)
    assert (first.outcome, first.observed, first.interval) == (
        second.outcome,
        second.observed,
        second.interval,
    )


def test_inconclusive_names_the_number_that_would_decide() -> None:
    verdict = judge_accuracy(proportion(40, 0, 0, 10), RETAIN)
    # 59 that the baseline gets right are needed, which 80% of all samples are.
    needed = verdict.details["samples_needed"]
    assert 74 <= needed <= 100
    assert f"about {needed} samples would" in verdict.reason
    assert f"to about {needed} in all" in verdict.advice
    at_threshold = judge_accuracy(proportion(95, 5, 0, 0), RETAIN)
    assert at_threshold.details["samples_needed"] is None
    assert "no practical number of samples" in at_threshold.reason


def test_the_number_that_would_decide_does_decide() -> None:
    verdict = judge_accuracy(proportion(190, 8, 1, 10), RETAIN)
    assert verdict.outcome == "inconclusive"
    factor = math.ceil(verdict.details["samples_needed"] / 209)
    assert (
        judge_accuracy(proportion(*(factor * n for n in (190, 8, 1, 10))), RETAIN).outcome == "pass"
    )


def test_recall_by_class() -> None:
    quality = PairedQuality(
        "accuracy",
        "proportion",
        np.array([1.0, 1.0, 0.0, 1.0]),
        np.array([1.0, 0.0, 0.0, 1.0]),
        np.array(["cat", "cat", "cat", "dog"]),
    )
    classes = judge_accuracy(quality, RETAIN).details["classes"]
    assert classes["cat"] == {
        "samples": 3,
        "baseline_recall": pytest.approx(2 / 3),
        "candidate_recall": pytest.approx(1 / 3),
    }
    assert classes["dog"]["candidate_recall"] == 1.0


@pytest.mark.parametrize(
    ("quality", "text"),
    [
        (pair([], []), "no evaluation samples"),
        (proportion(0, 0, 5, 5), "the baseline is never right on 10 samples"),
        (pair([1.0, math.nan], [1.0, 1.0]), "1 baseline scores are not finite"),
        (pair([1.0, 1.0], [1.0, math.inf]), "1 candidate scores are not finite"),
        (pair([1.0, 0.5], [1.0, 1.0]), "neither 0 nor 1"),
        (pair([1.0, 1.0], [1.0]), "not paired"),
        (pair([1.0, 1.0], [1.0, -0.1], "loss"), "a candidate loss is negative"),
        (pair([0.0, 0.0], [0.0, 0.1], "loss"), "the baseline has no loss at all"),
    ],
)
def test_unusable_scores_are_an_error(quality: PairedQuality, text: str) -> None:
    verdict = judge_accuracy(quality, RETAIN)
    assert verdict.outcome == "error"
    assert text in verdict.reason
    assert verdict.advice


@pytest.mark.parametrize("value", [0.0, -0.5, math.nan, math.inf])
def test_thresholds_that_cannot_be_failed_are_an_error(value: float) -> None:
    verdict = judge_accuracy(proportion(500, 1, 0, 0), Threshold(value, "more_than"))
    assert verdict.outcome == "error"


def test_threshold_above_one_and_none() -> None:
    better = Threshold(1.0, "more_than")
    assert judge_accuracy(proportion(500, 0, 0, 10), better).outcome == "inconclusive"
    assert judge_accuracy(proportion(500, 2, 30, 10), better).outcome == "pass"
    assert judge_accuracy(proportion(500, 0, 0, 0), Threshold(1.2, "more_than")).outcome == "fail"
    no_limit = judge_accuracy(proportion(500, 5, 0, 0), Threshold(None, "more_than"))
    assert no_limit.outcome == "not_applicable"
    with pytest.raises(ValueError, match="relation"):
        judge_accuracy(proportion(5, 0, 0, 0), Threshold(0.95, "at_least"))
    with pytest.raises(ValueError, match="alpha"):
        judge_accuracy(proportion(5, 0, 0, 0), RETAIN, alpha=0.5)


@pytest.mark.parametrize(
    ("growth", "outcome"), [(1.0, "pass"), (1.02, "pass"), (1.054, "inconclusive"), (1.2, "fail")]
)
def test_loss_follows_the_paired_t_test(growth: float, outcome: str) -> None:
    generator = np.random.default_rng(1)
    baseline = generator.exponential(size=200)
    candidate = np.maximum(0, growth * baseline + generator.normal(0, 0.02, 200))
    verdict = judge_accuracy(pair(baseline, candidate, "loss"), RETAIN)
    margins = baseline / 0.95 - candidate
    p = stats.ttest_1samp(margins, 0.0, alternative="greater").pvalue
    assert verdict.outcome == outcome
    assert outcome == ("pass" if p < 0.05 else "fail" if p > 0.95 else "inconclusive")
    assert verdict.observed == pytest.approx(baseline.mean() / candidate.mean())
    assert verdict.interval is not None
    low, high = verdict.interval
    assert low is not None
    assert high is not None
    assert (low > 0.95) == (outcome == "pass")
    assert (high < 0.95) == (outcome == "fail")
    if outcome == "inconclusive":
        assert verdict.details["samples_needed"] > 200


def test_few_losses_prove_nothing() -> None:
    verdict = judge_accuracy(pair(np.ones(29), np.full(29, 0.5), "loss"), RETAIN)
    assert verdict.outcome == "inconclusive"
    assert verdict.details["samples_needed"] == 30
    single = judge_accuracy(pair(np.ones(1), np.ones(1), "loss"), RETAIN)
    assert (single.outcome, single.interval) == ("inconclusive", None)


def test_losses_that_few_samples_carry_alone_prove_nothing() -> None:
    baseline, candidate = np.full(100, 1e-6), np.full(100, 1e-6)
    baseline[3], candidate[3] = 1000.0, 100.0
    verdict = judge_accuracy(pair(baseline, candidate, "loss"), RETAIN)
    assert verdict.outcome == "inconclusive"
    assert verdict.interval == (0.0, None)
    assert "unbounded" in verdict.reason


def test_a_candidate_without_loss_passes() -> None:
    verdict = judge_accuracy(pair(np.linspace(0.5, 1.5, 60), np.zeros(60), "loss"), RETAIN)
    assert verdict.outcome == "pass"
    assert verdict.observed is None
    assert "no loss at all" in verdict.reason


def labeled(classes: list[int], right: list[float], metric: str = "accuracy") -> PairedQuality:
    scores = np.asarray(right)
    return PairedQuality(metric, "proportion", scores, scores, np.asarray(classes))


@pytest.mark.parametrize(
    ("quality", "remarked"),
    [
        (labeled([0, 1, 2, 3] * 50, [1.0, 0.0, 0.0, 0.0] * 50), True),
        (labeled([0, 0, 0, 1] * 50, [1.0, 1.0, 0.0, 0.0] * 50), True),
        (labeled([0, 1, 2, 3] * 50, [1.0, 1.0, 0.0, 0.0] * 50), False),
        (labeled([0] * 200, [1.0] * 200), False),
        (labeled([0, 1, 2, 3] * 50, [1.0, 0.0, 0.0, 0.0] * 50, "our:metric"), False),
    ],
    ids=["as by chance", "below the majority", "better", "one class", "metric of the user"],
)
def test_a_baseline_that_only_guesses_is_remarked(quality: PairedQuality, remarked: bool) -> None:
    verdict = judge_accuracy(quality, RETAIN)
    assert ("check the labels and their order" in verdict.reason) == remarked
