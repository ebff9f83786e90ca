from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pytest_edgeai.judge.quality import judge_accuracy
from pytest_edgeai.judge.slices import judge_slices
from pytest_edgeai.judge.whole import effective_samples
from pytest_edgeai.measure.corpus import CorpusMetric, Summary, corpus_quality, figure_of
from pytest_edgeai.records import LEFT_OUT, PairedQuality, Threshold, Verdict

Array = NDArray[Any]
RETAIN = Threshold(0.95, "more_than")


def resampled(
    retention: float, spread: float = 0.01, n: int = 1000, baseline: float = 0.8
) -> PairedQuality:
    noise = np.random.default_rng(0).normal(size=1000)
    first = np.array([baseline])
    held = np.full(1000, baseline)
    unknown = np.full(n, np.nan)
    return PairedQuality(
        "f1",
        "corpus",
        unknown,
        unknown,
        None,
        resamples={
            "baseline": np.concatenate([first, held]),
            "candidate": np.concatenate([first * retention, held * (retention + spread * noise)]),
        },
    )


def judged(quality: PairedQuality, threshold: Threshold = RETAIN) -> Verdict:
    return judge_accuracy(quality, threshold)


@pytest.mark.parametrize(
    ("retention", "outcome"), [(0.99, "pass"), (0.96, "inconclusive"), (0.90, "fail")]
)
def test_the_bounds_decide(retention: float, outcome: str) -> None:
    verdict = judged(resampled(retention))
    assert verdict.outcome == outcome
    assert verdict.observed == pytest.approx(retention)
    assert verdict.interval is not None
    low, high = verdict.interval
    assert low is not None
    assert high is not None
    assert (low > 0.95, high < 0.95) == (outcome == "pass", outcome == "fail")
    # One-sided 97.5% of a normal distribution.
    assert high - retention == pytest.approx(1.96 * 0.01, rel=0.1)
    assert retention - low == pytest.approx(0.0221, rel=0.1)
    assert verdict.confidence == pytest.approx(0.95)
    assert verdict.details["error_rate"] == 0.05


def left_out(retention: float, error: float, n: int = 1000) -> PairedQuality:
    """A jackknife of 50 groups whose standard error of the ratio is ``error``."""
    deviations = np.random.default_rng(0).normal(size=50)
    deviations -= deviations.mean()
    deviations *= error / np.sqrt(49 * deviations.var())
    held = np.full(51, 0.8)
    ratios = np.concatenate([[retention], retention + deviations])
    unknown = np.full(n, np.nan)
    parts = np.full(51, 1 / 50)
    return PairedQuality(
        "f1",
        "corpus",
        unknown,
        unknown,
        None,
        resamples={"baseline": held, "candidate": held * ratios, LEFT_OUT: parts},
    )


@pytest.mark.parametrize(
    ("retention", "outcome"), [(0.973, "pass"), (0.972, "inconclusive"), (0.929, "fail")]
)
def test_a_jackknife_has_the_bounds_of_student(retention: float, outcome: str) -> None:
    """The 97.5% quantile of Student's t with 49 degrees of freedom is 2.0096."""
    verdict = judged(left_out(retention, 0.01))
    assert verdict.outcome == outcome
    assert verdict.interval is not None
    low, high = verdict.interval
    assert low is not None
    assert high == pytest.approx(retention + 0.020096)
    # At the lower bound a candidate would lose that much more, each sample of 1000 right in 0.8.
    below = retention - low
    assert below == pytest.approx(2.0096 * (0.01**2 + below / 800) ** 0.5, rel=1e-4)
    assert verdict.details["resampling"] == "jackknife"
    assert judged(resampled(0.99)).details["resampling"] == "bootstrap"


def test_a_jackknife_knows_its_error_too() -> None:
    """The ratio of two means: the error of a linearization, which means have a formula for."""
    generator = np.random.default_rng(1)
    one = generator.gamma(4, 0.2, 1000)
    other = one * generator.normal(0.97, 0.2, 1000)

    def summary(outputs: Any, labels: Array) -> Summary:
        return Summary(lambda times: times @ outputs["y"] / times.sum(axis=1))

    mean = CorpusMetric(figure_of(summary), summary)
    quality = corpus_quality(mean, "mean", {"y": one}, {"y": other}, np.zeros(1000))
    interval = judged(quality).interval
    assert interval is not None
    low, high = interval
    assert low is not None
    assert high is not None
    ratio = other.mean() / one.mean()
    error = np.std(other - ratio * one, ddof=1) / one.mean() / np.sqrt(1000)
    assert low < ratio < high
    assert high - ratio == pytest.approx(2.0096 * error, rel=0.35)


def test_the_samples_needed_of_a_jackknife_would_decide() -> None:
    needed = judged(left_out(0.96, 0.01)).details["samples_needed"]
    assert judged(left_out(0.96, 0.01 * (1000 / needed) ** 0.5, n=needed)).outcome == "pass"


def test_it_is_worded_as_every_verdict_on_quality() -> None:
    reason = judged(resampled(0.99)).reason
    assert reason.startswith("retains 99.0% of the baseline's quality (95% interval 96.")
    assert reason.endswith("f1 0.792 against the baseline's 0.8 on 1,000 samples")


@pytest.mark.parametrize("quality", [left_out(1.0, 0.0), resampled(1.0, spread=0.0)])
def test_what_lost_nothing_proves_no_more_than_its_samples_can(quality: PairedQuality) -> None:
    """1000 samples, 0.8 of them right: the bound lies 2.0096**2 / 800 below, or 1.96**2 / 800."""
    assert judged(quality, Threshold(0.99, "more_than")).outcome == "pass"
    assert judged(quality, Threshold(0.998, "more_than")).outcome == "inconclusive"
    needed = judged(quality, Threshold(0.998, "more_than")).details["samples_needed"]
    assert needed == pytest.approx(1000 * 2 / 800 / 0.002 * 2, rel=0.05)


def test_rare_classes_weigh_more_than_their_samples() -> None:
    """A mean over two classes of 990 and 10 samples says as much as one over 40 samples."""
    classes = np.repeat([0, 1], [990, 10])
    right = np.ones(1000)
    parts = PairedQuality("accuracy", "proportion", right, right, classes)
    quality = dataclasses.replace(left_out(0.99, 0.001), parts=parts)
    assert effective_samples(quality) == pytest.approx(4 / (1 / 990 + 1 / 10))
    assert effective_samples(left_out(0.99, 0.001)) == 1000
    verdict = judged(quality)
    assert verdict.outcome == "inconclusive"
    assert verdict.details["effective_samples"] == pytest.approx(39.6)
    assert verdict.details["samples_needed"] > 1000
    assert judged(left_out(0.99, 0.001)).outcome == "pass"


def test_too_few_samples_decide_nothing() -> None:
    verdict = judged(resampled(1.0, spread=0.0001, n=499))
    assert (verdict.outcome, verdict.details["samples_needed"]) == ("inconclusive", 500)
    assert judged(resampled(1.0, spread=0.0001, n=500)).outcome == "pass"


def test_the_samples_needed_would_decide() -> None:
    verdict = judged(resampled(0.96))
    needed = verdict.details["samples_needed"]
    assert needed > 1000
    narrower = resampled(0.96, spread=0.01 * (1000 / needed) ** 0.5, n=needed)
    assert judged(narrower).outcome == "pass"
    assert judged(resampled(0.95, spread=0.01)).details["samples_needed"] is None


def test_without_a_limit_the_figure_is_told() -> None:
    verdict = judged(resampled(0.9), Threshold(None, "more_than"))
    assert verdict.outcome == "not_applicable"
    assert verdict.observed == pytest.approx(0.9)


def test_a_baseline_without_a_figure_in_many_resamples_decides_nothing() -> None:
    quality = resampled(0.99)
    quality.resamples["baseline"][1:51] = 0
    assert judged(quality).outcome == "inconclusive"


def without_shares() -> PairedQuality:
    quality = left_out(0.99, 0.01)
    return dataclasses.replace(
        quality, resamples={**quality.resamples, LEFT_OUT: quality.resamples[LEFT_OUT][1:]}
    )


def broken(side: str, value: float) -> PairedQuality:
    quality = resampled(0.99)
    quality.resamples[side][0] = value
    return quality


@pytest.mark.parametrize(
    ("quality", "expected"),
    [
        (broken("baseline", 0.0), "f1 of the baseline is 0"),
        (broken("candidate", np.nan), "a figure is not finite"),
        (broken("candidate", -1.0), "a figure is negative"),
        (PairedQuality("f1", "corpus", np.ones(3), np.ones(3), None), "no paired resamples"),
        (resampled(0.99, n=0), "there are no evaluation samples"),
        (without_shares(), "it is not known what the resamples leave out"),
    ],
)
def test_what_cannot_be_judged(quality: PairedQuality, expected: str) -> None:
    verdict = judged(quality)
    assert verdict.outcome == "error"
    assert expected in verdict.reason


def test_without_single_things_there_are_no_slices() -> None:
    assert judge_slices(resampled(0.9), Threshold(0.5, "more_than")).outcome == "not_applicable"
