"""What is retained under each corruption, and the error rates of judging several."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pytest_edgeai.judge.robustness import beats_guessing, judge_robustness
from pytest_edgeai.production_records import CorruptedQuality
from pytest_edgeai.records import LEFT_OUT, PairedQuality, Threshold

LIMIT = Threshold(0.9, "more_than")


def corrupted(
    name: str,
    baseline: NDArray[np.bool_],
    candidate: NDArray[np.bool_],
    guessing: float = 0.25,
    clean: float | None = 0.97,
) -> CorruptedQuality:
    scores = [side.astype(np.float64) for side in (baseline, candidate)]
    quality = PairedQuality("accuracy", "proportion", scores[0], scores[1], None)
    return CorruptedQuality(name, 2, f"much {name}", quality, clean, scores[0] - guessing)


def rows(right: int, wrong: int) -> NDArray[np.bool_]:
    return np.arange(right + wrong) < right


def test_the_worst_of_all_corruptions_is_what_a_pass_shows() -> None:
    found = [
        corrupted("noise", rows(280, 20), rows(279, 21)),
        corrupted("blur", rows(270, 30), rows(262, 38)),
    ]
    verdict = judge_robustness(found, LIMIT)
    assert verdict.outcome == "pass"
    assert verdict.reason.startswith("the worst of 2 corruptions is much blur: retains 97.0%")
    assert verdict.observed == pytest.approx(262 / 270)
    assert verdict.samples == 300
    assert verdict.details["error_rate"] == 0.05
    plain = verdict.details["corruptions"]["blur"]
    assert (plain["baseline_uncorrupted"], plain["baseline_metric"]) == (0.97, 0.9)


def test_one_failure_is_enough_and_the_worst_one_comes_first() -> None:
    found = [
        corrupted("noise", rows(280, 20), rows(279, 21)),
        corrupted("blur", rows(280, 20), rows(200, 100)),
        corrupted("shift", rows(280, 20), rows(100, 200)),
    ]
    verdict = judge_robustness(found, LIMIT, missing={"jpeg": "jpeg needs a tool"})
    assert verdict.outcome == "fail"
    assert verdict.reason.index("much shift") < verdict.reason.index("much blur")
    assert "much noise" not in verdict.reason
    assert verdict.details["corruptions"]["noise"]["outcome"] == "pass"


def test_a_failure_that_chance_explains_among_several_is_none() -> None:
    """By itself the second would fail at 5%; it is one of ten."""
    healthy = [corrupted(f"c{i}", rows(280, 20), rows(280, 20)) for i in range(9)]
    doubtful = corrupted("doubtful", rows(280, 20), rows(240, 60))
    alone = judge_robustness([doubtful], LIMIT)
    verdict = judge_robustness([*healthy, doubtful], LIMIT)
    assert alone.outcome == "fail"
    assert verdict.outcome == "inconclusive"
    assert "much doubtful" in verdict.reason


def test_a_baseline_that_guesses_judges_nobody() -> None:
    found = [
        corrupted("noise", rows(280, 20), rows(280, 20)),
        corrupted("dark", rows(75, 225), rows(75, 225)),
    ]
    assert [beats_guessing(each) for each in found] == [True, False]
    verdict = judge_robustness(found, LIMIT)
    assert verdict.outcome == "inconclusive"
    assert "much dark: not judged" in verdict.reason
    assert "(accuracy 0.25, and 0.97 without it)" in verdict.reason
    assert verdict.details["corruptions"]["dark"]["outcome"] == "not judged"
    assert "robustness_severity" in verdict.advice


def test_a_baseline_that_is_never_right_judges_nobody_and_is_no_error() -> None:
    verdict = judge_robustness([corrupted("dark", rows(0, 100), rows(0, 100), 0.0)], LIMIT)
    assert verdict.outcome == "inconclusive"


def test_what_lacks_a_tool_is_not_certified() -> None:
    found = [corrupted("noise", rows(280, 20), rows(280, 20))]
    verdict = judge_robustness(found, LIMIT, missing={"jpeg": '"jpeg" needs Pillow; run: pip'})
    assert verdict.outcome == "inconclusive"
    assert verdict.reason == 'not certified: "jpeg" needs Pillow; run: pip'
    assert judge_robustness([], LIMIT, missing={"jpeg": "x"}).outcome == "inconclusive"
    assert judge_robustness([], LIMIT).outcome == "error"


def test_few_samples_are_inconclusive_with_the_number_needed() -> None:
    verdict = judge_robustness([corrupted("noise", rows(20, 0), rows(20, 0))], LIMIT)
    assert verdict.outcome == "inconclusive"
    assert verdict.details["samples_needed"] > 20
    assert "samples would" in verdict.reason


def test_without_a_threshold_it_does_not_apply_and_another_relation_is_a_bug() -> None:
    found = [corrupted("noise", rows(20, 0), rows(20, 0))]
    assert judge_robustness(found, Threshold(None, "more_than")).outcome == "not_applicable"
    with pytest.raises(ValueError, match="more_than"):
        judge_robustness(found, Threshold(0.9, "at_most"))


def test_a_loss_and_a_figure_of_the_whole_set_are_judged_too() -> None:
    random = np.random.default_rng(0)
    loss = random.gamma(4, 0.25, 400)
    quality = PairedQuality("absolute_error", "loss", loss, loss * 1.01, None)
    far = CorruptedQuality("noise", 2, "noise", quality, 0.9, 3 - loss)
    near = CorruptedQuality("noise", 2, "noise", quality, 0.9, random.normal(size=400) - 0.1)
    assert judge_robustness([far], LIMIT).outcome == "pass"
    assert not beats_guessing(near)
    figures = np.r_[0.6, random.normal(0.6, 0.01, 1000)]
    whole = PairedQuality(
        "f1",
        "corpus",
        np.ones(600),
        np.ones(600),
        None,
        resamples={"baseline": figures, "candidate": figures * 0.99},
    )
    assert (
        judge_robustness(
            [CorruptedQuality("noise", 2, "noise", whole, 0.7, figures[1:] - 0.4)], LIMIT
        ).outcome
        == "pass"
    )
    assert not beats_guessing(CorruptedQuality("n", 2, "n", whole, 0.7, figures[1:] - 0.6))


TRIALS = 50
CORRUPTIONS = 5


@pytest.mark.parametrize(
    ("retained", "most_passes", "most_failures"),
    [((0.9,) * CORRUPTIONS, 0.05, 0.05), ((0.9, 1, 1, 1, 1), 0.05, 0.05)],
)
def test_error_rates_at_the_threshold(
    retained: tuple[float, ...], most_passes: float, most_failures: float
) -> None:
    """A candidate exactly at the threshold under one or all of five corruptions, 250 samples."""
    random = np.random.default_rng(7)
    outcomes = []
    for _ in range(TRIALS):
        found = []
        for number, share in enumerate(retained):
            baseline = random.random(250) < 0.85
            candidate = baseline & (random.random(250) < share)
            found.append(corrupted(f"c{number}", baseline, candidate))
        outcomes.append(judge_robustness(found, LIMIT).outcome)
    # Three standard errors of so few trials.
    slack = 3 * np.sqrt(0.05 * 0.95 / TRIALS)
    assert outcomes.count("pass") / TRIALS <= most_passes + slack
    assert outcomes.count("fail") / TRIALS <= most_failures + slack
    assert outcomes.count("inconclusive") > TRIALS / 2


@pytest.mark.parametrize("accuracy", [0.27, 0.5])
def test_resamples_that_leave_out_a_group_are_told_from_draws(accuracy: float) -> None:
    """Figures of a jackknife scatter far less than the figure itself does."""
    random = np.random.default_rng(1)
    right = random.random(500) < accuracy
    groups = np.arange(500) % 50
    figures = np.asarray([right.mean(), *(right[groups != each].mean() for each in range(50))])
    shares = np.r_[0.0, np.full(50, 0.02)]
    resamples = {"baseline": figures, "candidate": figures, LEFT_OUT: shares}
    scores = np.full(500, np.nan)
    quality = PairedQuality("f1", "corpus", scores, scores, None, resamples=resamples)
    found = CorruptedQuality("noise", 2, "noise", quality, 0.9, figures[1:] - 0.25)
    assert np.quantile(found.advantage, 0.05) > 0
    assert beats_guessing(found) == (accuracy == 0.5)
