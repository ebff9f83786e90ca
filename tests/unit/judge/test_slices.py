from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from pytest_edgeai.judge.parts import samples_to_judge
from pytest_edgeai.judge.retention import PairedCounts, decide_retention
from pytest_edgeai.judge.slices import judge_slices
from pytest_edgeai.records import PairedQuality, Threshold, Verdict

HALF = Threshold(0.5, "more_than")
Array = NDArray[Any]


def scores(*counts: tuple[int, int, int, int]) -> tuple[Array, Array, Array]:
    """Baseline, candidate and part of samples with (both, lost, gained, neither) in each part."""
    baseline = np.concatenate([np.repeat([1.0, 1.0, 0.0, 0.0], row) for row in counts])
    candidate = np.concatenate([np.repeat([1.0, 0.0, 1.0, 0.0], row) for row in counts])
    return baseline, candidate, np.repeat(np.arange(len(counts)), [sum(row) for row in counts])


def by_class(*counts: tuple[int, int, int, int]) -> PairedQuality:
    baseline, candidate, classes = scores(*counts)
    return PairedQuality("accuracy", "proportion", baseline, candidate, classes)


def judged(quality: PairedQuality, limit: float = 0.5) -> Verdict:
    return judge_slices(quality, Threshold(limit, "more_than"))


def test_a_dead_class_is_found_behind_an_average_that_hides_it() -> None:
    verdict = judged(by_class(*[(970 // 9, 0, 0, 0)] * 9, (6, 24, 0, 0)))
    assert verdict.outcome == "fail"
    assert verdict.observed == pytest.approx(0.2)
    assert verdict.reason == (
        'class "9" keeps 20.0% (recall 20.0% against the baseline\'s 100.0% on 30 samples); more '
        "than 50.0% of the baseline's required"
    )
    assert verdict.details["divisions"]["classes"]["9"]["decision"] == "fail"
    assert verdict.details["divisions"]["classes"]["0"]["decision"] == "pass"
    assert "calibrate" in verdict.advice


def test_a_healthy_small_model_passes_and_the_worst_class_is_named() -> None:
    verdict = judged(by_class(*[(53, 0, 0, 1)] * 8, (51, 2, 1, 0), (51, 1, 0, 2)))
    assert (verdict.outcome, verdict.advice) == ("pass", "")
    assert verdict.observed == pytest.approx(51 / 52)
    assert verdict.reason.startswith('the worst of 10 classes: class "9" keeps 98.1% (recall 94.4%')
    assert verdict.details["error_rate"] == 0.05


def test_slices_are_judged_beside_classes_and_named_by_their_array() -> None:
    baseline, candidate, light = scores((200, 1, 0, 0), (6, 34, 0, 0))
    lighting = np.array(["day", "night"])[light]
    camera = np.arange(len(baseline)) % 2
    quality = PairedQuality(
        "accuracy",
        "proportion",
        baseline,
        candidate,
        np.arange(len(baseline)) % 3,
        {"lighting": lighting, "slices": camera},
    )
    verdict = judged(quality)
    assert verdict.outcome == "fail"
    assert verdict.reason.startswith('lighting "night" keeps 15.0%')
    assert list(verdict.details["divisions"]) == ["classes", "lighting", "slices"]
    healthy = PairedQuality(*("accuracy", "proportion", baseline, baseline, None), quality.slices)
    assert judged(healthy).reason.startswith("the worst of 2 slices of lighting and 2 slices: ")


def test_between_pass_and_fail_the_samples_of_that_class_are_counted() -> None:
    verdict = judged(by_class((100, 0, 0, 0), (11, 9, 0, 0)))
    assert verdict.outcome == "inconclusive"
    needed = verdict.details["samples_needed"]
    assert needed > 20
    assert f'about {needed:,} samples of class "1" would decide' in verdict.reason
    assert f"to about {needed:,} in all" in verdict.advice
    larger = by_class((100, 0, 0, 0), (11 * needed // 20, 9 * needed // 20, 0, 0))
    assert judged(larger).outcome == "pass"


def test_small_classes_are_judged_together() -> None:
    verdict = judged(by_class((100, 1, 0, 0), *[(6, 0, 0, 0)] * 19, (5, 1, 0, 0)))
    assert verdict.outcome == "pass"
    assert verdict.reason.startswith("the worst of 21 classes, 20 small ones judged together: ")
    (together,) = verdict.details["judged_together"]
    assert (together["samples"], together["decision"]) == (120, "pass")
    lossy = judged(by_class((100, 1, 0, 0), *[(2, 4, 0, 0)] * 20))
    assert lossy.outcome == "fail"
    assert lossy.reason.startswith("all 20 smaller classes together keep 33.3%")


def test_a_small_class_that_lost_nearly_all_forbids_a_pass() -> None:
    verdict = judged(by_class((100, 1, 0, 0), *[(8, 0, 0, 0)] * 10, (1, 5, 0, 0)))
    assert verdict.outcome == "inconclusive"
    assert 'class "11" keeps 16.7%' in verdict.reason
    assert verdict.details["samples_needed"] == samples_to_judge(0.5)


def test_too_few_samples_to_judge_are_named_where_nothing_speaks_against_them() -> None:
    verdict = judged(by_class((100, 1, 0, 0), (2, 1, 0, 0)))
    assert verdict.outcome == "pass"
    assert verdict.reason.endswith('not judged, too few samples: class "1" (3 samples, 66.7% kept)')
    assert verdict.details["not_judged"] == ['class "1"']
    assert judged(by_class((100, 1, 0, 0), (0, 2, 0, 0))).outcome == "inconclusive"
    assert judged(by_class((3, 0, 0, 0), (1, 0, 0, 0))).outcome == "inconclusive"


def test_a_class_that_the_baseline_never_knows_can_lose_nothing() -> None:
    assert judged(by_class((100, 1, 0, 0), (0, 0, 3, 40))).outcome == "pass"


def test_nothing_divides_the_samples() -> None:
    baseline, candidate, _ = scores((90, 5, 0, 5))
    whole = PairedQuality("mine", "proportion", baseline, candidate, None)
    assert judged(whole).outcome == "not_applicable"
    text = PairedQuality(
        "perplexity", "perplexity", baseline, candidate, None, {"slices": baseline}
    )
    assert "perplexity has no figure of its own" in judged(text).reason
    assert judge_slices(by_class((9, 0, 0, 0)), Threshold(None, "more_than")).outcome == (
        "not_applicable"
    )


@pytest.mark.parametrize(
    ("quality", "limit", "expected"),
    [
        (by_class((9, 0, 0, 0)), 1.0, "allowed: a number above 0 and below 1"),
        (by_class((9, 0, 0, 0)), float("nan"), "not a positive, finite number"),
        (
            PairedQuality("m", "proportion", np.ones(3), np.ones(3), None, {"a": np.arange(4)}),
            0.5,
            r'slices "a" of shape \(4,\) for 3 samples',
        ),
        (by_class((0, 0, 4, 5)), 0.5, "the baseline is never right"),
    ],
)
def test_what_cannot_be_judged(quality: PairedQuality, limit: float, expected: str) -> None:
    verdict = judged(quality, limit)
    assert verdict.outcome == "error"
    with pytest.raises(AssertionError, match=expected):
        raise AssertionError(verdict.reason)


def test_a_caller_is_held_to_the_contract() -> None:
    with pytest.raises(ValueError, match="more_than"):
        judge_slices(by_class((9, 0, 0, 0)), Threshold(0.5, "at_least"))
    with pytest.raises(ValueError, match="alpha"):
        judge_slices(by_class((9, 0, 0, 0)), HALF, alpha=0.5)


def test_losses_are_judged_by_slice() -> None:
    generator = np.random.default_rng(0)
    baseline = generator.exponential(size=400)
    slices = np.repeat(["a", "b", "c"], [300, 90, 10])
    healthy = baseline * generator.uniform(0.9, 1.1, size=400)
    broken = np.where(slices == "b", 5 * healthy, healthy)

    def outcome(candidate: Array) -> Verdict:
        return judged(
            PairedQuality("absolute_error", "loss", baseline, candidate, None, {"slices": slices})
        )

    assert outcome(healthy).outcome == "pass"
    assert 'not judged, too few samples: slice "c"' in outcome(healthy).reason
    verdict = outcome(broken)
    assert verdict.outcome == "fail"
    assert verdict.reason.startswith('slice "b" keeps ')
    assert "absolute_error" in verdict.reason
    perfect = outcome(np.zeros(400))
    assert (perfect.outcome, perfect.observed) == ("pass", None)
    small = np.where(slices == "c", 5 * healthy, healthy)
    assert outcome(small).outcome == "inconclusive"
    assert outcome(small).details["samples_needed"] == 30


def test_the_screening_rejects_nothing_that_the_score_test_does_not() -> None:
    for right in range(1, 41):
        for lost in range(right + 1):
            if stats.binom.sf(right - lost - 1, right, 0.5) > 0.01:
                break
            for gained in (0, 1, 3, 10):
                counts = PairedCounts(right - lost, lost, gained, 0)
                assert decide_retention(counts, 0.5, 0.05) == "pass", counts


@pytest.mark.parametrize("limit", [0.2, 0.5, 0.8, 0.95])
def test_a_healthy_candidate_passes_on_each_part_that_is_judged_alone(limit: float) -> None:
    n = samples_to_judge(limit)
    lost = np.arange(n + 1)
    passes = np.array(
        [judged(by_class((n - k, k, 0, 0)), limit).outcome == "pass" for k in lost.tolist()]
    )
    assert stats.binom.pmf(lost[passes], n, (1 - limit) / 10).sum() >= 0.998


cell = st.integers(0, 60)
counts = st.tuples(cell, cell, cell, cell)


@given(st.lists(counts.filter(sum), min_size=1, max_size=8), st.sampled_from([0.3, 0.5, 0.9]))
def test_every_verdict_fits_its_parts(rows: list[tuple[int, int, int, int]], limit: float) -> None:
    quality = by_class(*rows)
    verdict = judged(quality, limit)
    if verdict.outcome == "pass":
        assert verdict.observed is not None
        assert verdict.observed > limit
        for row in rows:
            if row[0] + row[1] >= samples_to_judge(limit):
                assert decide_retention(PairedCounts(*row), limit, 0.05) == "pass"
    if verdict.outcome == "fail":
        assert verdict.observed is not None
        assert verdict.observed < limit
    if not quality.baseline_scores.any():
        assert verdict.outcome == "error"
    assert len(verdict.reason) < 900


@given(st.permutations(range(6)))
def test_the_order_of_the_samples_does_not_matter(order: list[int]) -> None:
    rows = [(50, 2, 0, 0), (9, 9, 0, 0), (4, 0, 0, 1), (6, 30, 0, 0), (3, 3, 1, 0), (80, 0, 0, 0)]
    assert judged(by_class(*(rows[i] for i in order))).observed == pytest.approx(6 / 36)


def test_a_thousand_classes_are_told_briefly() -> None:
    generator = np.random.default_rng(1)
    classes = np.repeat(np.arange(1000), 50)
    baseline = (generator.random(50_000) < 0.76).astype(float)
    for loss, outcome in ((0.03, "pass"), (0.45, "inconclusive"), (0.95, "fail")):
        kept = baseline * (generator.random(50_000) >= loss)
        quality = PairedQuality("accuracy", "proportion", baseline, kept, classes)
        verdict = judged(quality)
        assert verdict.outcome == outcome
        assert len(verdict.reason) < 600
        assert len(verdict.details["divisions"]["classes"]) == 1000
