from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pytest_edgeai.judge.perplexity import (
    MINIMUM_BLOCKS,
    agreement_details,
    agreement_text,
    judge_kl_divergence,
    judge_perplexity,
    judge_token_agreement,
)
from pytest_edgeai.judge.quality import judge_accuracy
from pytest_edgeai.records import PairedQuality, Threshold, TokenComparison


def quality(baseline: list[float], candidate: list[float]) -> PairedQuality:
    return PairedQuality("perplexity", "perplexity", np.array(baseline), np.array(candidate), None)


def drawn(blocks: int, loss: float, seed: int, spread: float = 0.02) -> PairedQuality:
    generator = np.random.default_rng(seed)
    baseline = 3.3 + 0.3 * generator.standard_normal(blocks)
    return PairedQuality(
        "perplexity",
        "perplexity",
        baseline,
        baseline + loss + spread * generator.standard_normal(blocks),
        None,
    )


LIMIT = Threshold(0.95, "more_than")


def test_retention_is_the_quotient_of_the_perplexities() -> None:
    scores = drawn(64, 0.01, 0)
    verdict = judge_perplexity(scores, LIMIT)
    assert verdict.outcome == "pass"
    assert verdict.observed == pytest.approx(
        math.exp(scores.baseline_scores.mean()) / math.exp(scores.candidate_scores.mean())
    )
    assert verdict.details["baseline_metric"] == pytest.approx(
        math.exp(scores.baseline_scores.mean())
    )
    error = stats.sem(scores.baseline_scores) * verdict.details["baseline_metric"]
    assert verdict.details["baseline_standard_error"] == pytest.approx(error)
    assert verdict.samples == 64
    assert "blocks of text" in verdict.reason


def test_the_interval_is_that_of_the_paired_t_test() -> None:
    scores = drawn(20, 0.05, 1)
    verdict = judge_perplexity(scores, LIMIT)
    gain = scores.baseline_scores - scores.candidate_scores
    low, high = stats.t.interval(0.9, 19, loc=gain.mean(), scale=stats.sem(gain))
    assert verdict.interval == pytest.approx((math.exp(low), math.exp(high)))
    assert verdict.confidence == pytest.approx(0.9)


def test_a_clear_loss_fails_and_says_what_helps() -> None:
    verdict = judge_perplexity(drawn(32, 0.2, 2), LIMIT)
    assert verdict.outcome == "fail"
    assert "more bits" in verdict.advice


def test_a_close_call_is_inconclusive_and_says_how_much_text_it_takes() -> None:
    scores = drawn(12, -math.log(0.953), 3, spread=0.05)
    verdict = judge_perplexity(scores, LIMIT)
    assert verdict.outcome == "inconclusive"
    assert verdict.details["samples_needed"] > 12
    assert f"{verdict.details['samples_needed']:,} blocks" in verdict.advice


def test_few_blocks_decide_nothing() -> None:
    blocks = MINIMUM_BLOCKS - 1
    verdict = judge_perplexity(quality([3.0] * blocks, [3.0] * blocks), LIMIT)
    assert verdict.outcome == "inconclusive"
    assert f"about {MINIMUM_BLOCKS} blocks" in verdict.reason


def test_without_a_threshold_it_is_only_reported() -> None:
    verdict = judge_perplexity(drawn(32, 0.2, 2), Threshold(None, "more_than"))
    assert verdict.outcome == "not_applicable"
    assert verdict.observed is not None


def test_the_gate_sends_perplexity_here() -> None:
    scores = drawn(32, 0.0, 4)
    assert judge_accuracy(scores, LIMIT) == judge_perplexity(scores, LIMIT)


def test_what_is_not_finite_is_not_judged() -> None:
    verdict = judge_accuracy(quality([3.0] * 9, [3.0] * 8 + [math.nan]), LIMIT)
    assert verdict.outcome == "error"


@given(
    st.integers(MINIMUM_BLOCKS, 60),
    st.floats(-0.1, 0.2),
    st.integers(0, 1000),
    st.floats(0.5, 0.999),
)
def test_the_interval_excludes_the_threshold_exactly_where_it_decides(
    blocks: int, loss: float, seed: int, limit: float
) -> None:
    verdict = judge_perplexity(drawn(blocks, loss, seed), Threshold(limit, "more_than"))
    assert verdict.interval is not None
    low, high = verdict.interval
    assert low is not None
    assert high is not None
    expected = "pass" if low > limit else "fail" if high < limit else "inconclusive"
    assert verdict.outcome == expected


def test_at_the_threshold_it_passes_no_more_often_than_promised() -> None:
    loss = -math.log(0.95)
    passed = sum(
        judge_perplexity(drawn(32, loss, seed), LIMIT).outcome == "pass" for seed in range(2000)
    )
    assert passed / 2000 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)


def tokens(agreement: float, divergence: float, blocks: int = 20) -> TokenComparison:
    generator = np.random.default_rng(0)
    shape = (blocks, 255)
    return TokenComparison(
        blocks=np.repeat(np.arange(blocks), 255),
        baseline_nll=np.ones(blocks * 255),
        candidate_nll=np.ones(blocks * 255),
        divergence=generator.exponential(divergence, shape).reshape(-1),
        agrees=(generator.random(shape) < agreement).reshape(-1),
    )


@pytest.mark.parametrize(("limit", "outcome"), [(0.85, "pass"), (0.95, "fail")])
def test_agreement_is_judged_by_block(limit: float, outcome: str) -> None:
    verdict = judge_token_agreement(tokens(0.89, 0.02), Threshold(limit, "at_least"))
    assert verdict.outcome == outcome
    assert verdict.observed == pytest.approx(0.89, abs=0.02)
    assert verdict.samples == 20


@pytest.mark.parametrize(("limit", "outcome"), [(0.05, "pass"), (0.01, "fail")])
def test_divergence_is_judged_by_block(limit: float, outcome: str) -> None:
    verdict = judge_kl_divergence(tokens(0.89, 0.02), Threshold(limit, "at_most"))
    assert verdict.outcome == outcome
    assert verdict.unit == "nats"


def test_too_few_blocks_and_no_limit() -> None:
    few = tokens(0.5, 0.02, blocks=3)
    assert judge_token_agreement(few, Threshold(0.9, "at_least")).outcome == "inconclusive"
    assert judge_kl_divergence(few, Threshold(None, "at_most")).outcome == "not_applicable"


def test_a_divergence_that_is_no_number_is_an_error() -> None:
    broken = tokens(0.5, 0.02)
    broken.divergence[3] = math.nan
    assert judge_kl_divergence(broken, Threshold(0.9, "at_most")).outcome == "error"


def test_the_report_states_both() -> None:
    comparison = tokens(0.89, 0.02)
    details = agreement_details(comparison)
    assert details["tokens"] == 20 * 255
    assert details["token_agreement"] == pytest.approx(comparison.agrees.mean())
    assert "same token" in agreement_text(comparison)
