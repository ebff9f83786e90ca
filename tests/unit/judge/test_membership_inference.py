"""The gate ``membership_inference``: the areas, their error, and how often it is wrong."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special

from pytest_edgeai.judge.membership_inference import (
    ERROR_RATE,
    MINIMUM_SAMPLES,
    compare_auc,
    judge_membership_inference,
    midranks,
)
from pytest_edgeai.privacy_records import MembershipScores
from pytest_edgeai.records import Threshold

MARGIN = Threshold(0.05, "at_most")
Scores = NDArray[np.float64]


def drawn(
    rng: np.random.Generator, count: int, baseline: float, candidate: float, shared: float
) -> MembershipScores:
    """Return normal scores with known areas, whose models agree to a share of their variance."""
    sides: dict[str, list[Scores]] = {"baseline": [], "candidate": []}
    for is_member in (1, 0):
        common = rng.standard_normal(count) * shared**0.5
        for side, area in (("baseline", baseline), ("candidate", candidate)):
            own = rng.standard_normal(count) * (1 - shared) ** 0.5
            shift = is_member * 2**0.5 * float(special.ndtri(area))
            sides[side].append(common + own + shift)
    return MembershipScores(
        "loss",
        {side: scores[0] for side, scores in sides.items()},
        {side: scores[1] for side, scores in sides.items()},
    )


def scores(members: list[float], others: list[float]) -> MembershipScores:
    inside, outside = np.asarray(members, np.float64), np.asarray(others, np.float64)
    return MembershipScores(
        "loss",
        {"baseline": np.zeros_like(inside), "candidate": inside},
        {"baseline": np.zeros_like(outside), "candidate": outside},
    )


def test_midranks_share_the_ranks_of_equals() -> None:
    assert midranks(np.asarray([3.0, 1.0, 3.0, 2.0])).tolist() == [3.5, 1.0, 3.5, 2.0]


def test_areas_count_pairs_and_half_of_ties() -> None:
    compared = compare_auc(scores([2.0, 1.0, 0.0], [1.0, 0.0]))
    # Of six pairs three are in order and two are ties.
    assert compared.candidate == pytest.approx((3 + 2 / 2) / 6)
    assert compared.baseline == 0.5


def test_the_error_is_that_of_repeated_sampling() -> None:
    rng = np.random.default_rng(0)
    found = [compare_auc(drawn(rng, 120, 0.6, 0.65, 0.7)) for _ in range(400)]
    spread = np.std([each.value for each in found])
    assert np.mean([each.error for each in found]) == pytest.approx(spread, rel=0.12)
    assert np.mean([each.value for each in found]) == pytest.approx(0.05, abs=0.005)


@pytest.mark.parametrize("count", [MINIMUM_SAMPLES, 200])
@pytest.mark.parametrize("area", [0.5, 0.9])
@pytest.mark.parametrize("shared", [0.3, 0.995])
def test_at_the_threshold_it_is_seldom_wrong(count: int, area: float, shared: float) -> None:
    rng = np.random.default_rng(count)
    trials = 600
    outcomes = [
        judge_membership_inference([drawn(rng, count, area, area + 0.05, shared)], MARGIN).outcome
        for _ in range(trials)
    ]
    # Three standard errors of the simulation on top.
    allowed = ERROR_RATE + 3 * (ERROR_RATE * (1 - ERROR_RATE) / trials) ** 0.5
    assert outcomes.count("pass") / trials <= allowed
    assert outcomes.count("fail") / trials <= allowed


def test_a_candidate_that_memorized_fails() -> None:
    attack = drawn(np.random.default_rng(1), 200, 0.52, 0.8, 0.5)
    verdict = judge_membership_inference([attack], MARGIN)
    assert verdict.outcome == "fail"
    assert verdict.observed == pytest.approx(0.28, abs=0.08)
    assert "AUC of 0." in verdict.reason


def test_a_candidate_like_its_baseline_passes_even_where_that_leaks() -> None:
    attack = drawn(np.random.default_rng(1), 100, 0.9, 0.9, 0.999)
    verdict = judge_membership_inference([attack], MARGIN)
    assert verdict.outcome == "pass"
    assert verdict.details["error_rate"] == ERROR_RATE
    assert verdict.interval is not None
    assert verdict.interval[1] is not None
    assert verdict.interval[1] <= 0.05


def test_one_attack_of_two_is_enough_to_fail() -> None:
    rng = np.random.default_rng(1)
    harmless, harmful = drawn(rng, 200, 0.5, 0.5, 0.99), drawn(rng, 200, 0.5, 0.8, 0.5)
    named = MembershipScores("modified entropy", harmful.members, harmful.others)
    verdict = judge_membership_inference([harmless, named], MARGIN)
    assert (verdict.outcome, verdict.details["attack"]) == ("fail", "modified entropy")
    assert set(verdict.details["attacks"]) == {"loss", "modified entropy"}


def test_an_open_question_names_the_samples_needed() -> None:
    attack = drawn(np.random.default_rng(4), 60, 0.55, 0.55, 0.2)
    verdict = judge_membership_inference([attack], MARGIN)
    assert verdict.outcome == "inconclusive"
    assert "give about" in verdict.advice


def test_too_few_samples_are_not_judged() -> None:
    few = drawn(np.random.default_rng(0), MINIMUM_SAMPLES - 1, 0.5, 0.99, 0.1)
    verdict = judge_membership_inference([few], MARGIN)
    assert verdict.outcome == "inconclusive"
    assert str(MINIMUM_SAMPLES) in verdict.advice


def test_scores_that_are_no_numbers_are_an_error() -> None:
    broken = scores([float("nan")] * 60, [0.0] * 60)
    assert judge_membership_inference([broken], MARGIN).outcome == "error"


def test_infinite_scores_are_ordered() -> None:
    extreme = scores([float("inf")] * 60, [0.0] * 60)
    assert judge_membership_inference([extreme], MARGIN).outcome == "fail"
