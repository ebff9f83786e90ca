"""What gates are said to take is what they take: held against the judges themselves."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pytest_edgeai.judge.effort import (
    CALL_NOISE_RATIO,
    NEAR_RATIO,
    POWER,
    agreeing_share,
    retentions_planned_for,
    sample_need,
    signs_to_decide,
    signs_when_all_agree,
    speed_need,
    straggler_need,
    tail_need,
    turns_need,
)
from pytest_edgeai.judge.latency import minimum_rounds
from pytest_edgeai.judge.parts import samples_to_judge
from pytest_edgeai.judge.perplexity import MINIMUM_BLOCKS
from pytest_edgeai.judge.procedure import choose
from pytest_edgeai.judge.quality import MINIMUM_LOSS_SAMPLES, judge_accuracy
from pytest_edgeai.judge.retention import accuracy_samples_needed, samples_to_ever_decide
from pytest_edgeai.judge.speed import judge_speed
from pytest_edgeai.judge.statistics import FloatArray, quantile_samples_needed, sign_log_evidence
from pytest_edgeai.judge.tail import ERROR_RATE, exact_bounds
from pytest_edgeai.judge.turns import MINIMUM_TURNS, error_rate_of_look
from pytest_edgeai.judge.whole import MINIMUM_SAMPLES
from pytest_edgeai.records import PART_TURNS, PairedQuality, PairedTimings, Threshold

GATE = "accuracy_retained"
SHORT = choose(0.0, threads=1, cpu_time_is_valid=True, clock="agree")


def timings(baseline: FloatArray, candidate: FloatArray) -> PairedTimings:
    """Return rounds whose wall and CPU times are the same."""
    slow, fast = (np.asarray(np.rint(side), dtype=np.int64) for side in (baseline, candidate))
    zeros = np.zeros(len(slow), dtype=np.int64)
    return PairedTimings(slow, fast, slow, fast, zeros, zeros, zeros.astype(np.bool_), zeros)


# Samples


def test_the_planned_retentions_lie_above_the_threshold() -> None:
    assert retentions_planned_for(0.95) == (1.0, 0.99, 0.975)
    assert retentions_planned_for(0.98) == (1.0, 0.99)
    assert retentions_planned_for(0.995) == (1.0, 0.9975)
    assert retentions_planned_for(1.0) == ()


def test_the_default_threshold_takes_what_the_page_says() -> None:
    need = sample_need(GATE, "proportion", 0.95)
    assert need is not None
    assert (need.least, need.asked, need.expected["1"]) == (59, 221, 119)
    assert need.expected["0.975"] == accuracy_samples_needed(0.95, 0.975)
    assert "95%" in need.note


@pytest.mark.parametrize("threshold", [0.5, 0.9, 0.95, 0.99])
def test_with_the_least_the_best_candidate_passes_and_with_one_less_it_does_not(
    threshold: float,
) -> None:
    need = sample_need(GATE, "proportion", threshold)
    assert need is not None
    assert need.least is not None
    outcomes = []
    for samples in (need.least - 1, need.least):
        right = np.ones(samples)
        quality = PairedQuality("accuracy", "proportion", right, right, None)
        outcomes.append(judge_accuracy(quality, Threshold(threshold, "more_than")).outcome)
    assert outcomes == ["inconclusive", "pass"]


def test_more_is_asked_for_nearer_to_the_threshold() -> None:
    need = sample_need(GATE, "proportion", 0.95)
    assert need is not None
    assert need.least is not None
    counts = [need.least, *(count or 0 for count in need.expected.values())]
    assert counts == sorted(counts)
    assert need.asked == need.expected["0.99"]
    strict = sample_need(GATE, "proportion", 0.99)
    assert strict is not None
    assert strict.asked == strict.expected["0.995"]


def test_a_known_baseline_accuracy_counts() -> None:
    plain, poor, perfect = (
        sample_need(GATE, "proportion", 0.95, baseline_accuracy=accuracy)
        for accuracy in (None, 0.6, 1.0)
    )
    assert plain
    assert poor
    assert perfect
    assert (perfect.asked or 0) < (plain.asked or 0) < (poor.asked or 0)
    assert "60.0%" in poor.note
    assert "measured before" in poor.note


def test_a_regression_is_planned_for_a_candidate_that_loses_nothing() -> None:
    need = sample_need("no_less_accurate", "proportion", 0.98)
    assert need is not None
    assert need.asked == need.expected["1"] == accuracy_samples_needed(0.98, 1.0)


def test_more_than_the_baseline_itself_has_a_least_and_no_plan() -> None:
    need = sample_need(GATE, "proportion", 1.0)
    assert need is not None
    assert need.expected == {}
    assert need.least == need.asked == samples_to_ever_decide(1.0)
    assert "more than the baseline" in need.note


def test_losses_texts_and_whole_sets_take_their_judges_minimum() -> None:
    loss = sample_need(GATE, "loss", 0.95)
    text = sample_need(GATE, "perplexity", 0.95)
    assert loss
    assert text
    assert (loss.asked, loss.unit) == (MINIMUM_LOSS_SAMPLES, "evaluation samples")
    assert (text.asked, text.unit) == (MINIMUM_BLOCKS, "blocks of text")
    whole = sample_need(GATE, "corpus", 0.95)
    assert whole is not None
    assert whole.asked == MINIMUM_SAMPLES
    embedding = sample_need(GATE, "embedding", 0.95)
    assert embedding is not None
    assert embedding.asked == quantile_samples_needed(0.95, 0.95)
    grouped = sample_need(GATE, "embedding", 0.95, is_grouped=True)
    proportion = sample_need(GATE, "proportion", 0.95)
    assert grouped is not None
    assert proportion is not None
    assert (grouped.asked, grouped.least) == (proportion.asked, proportion.least)
    lax = sample_need(GATE, "embedding", 0.5, is_grouped=True)
    assert lax is not None
    assert lax.asked == lax.least == quantile_samples_needed(0.95, 0.95)
    for gate in ("token_agreement", "kl_divergence"):
        need = sample_need(gate, "perplexity", 0.9)
        assert need is not None
        assert need.asked == MINIMUM_BLOCKS


def test_classes_and_slices_can_do_with_less() -> None:
    need = sample_need("slice_retained", "proportion", 0.5)
    assert need is not None
    assert not need.is_required
    assert need.asked == samples_to_judge(0.5)
    objects = sample_need("slice_retained", "corpus", 0.5, parts="objects")
    assert objects is not None
    assert (objects.asked, objects.unit) == (samples_to_judge(0.5), "objects per class and slice")
    assert sample_need("slice_retained", "corpus", 0.5, parts="") is None
    assert sample_need("slice_retained", "perplexity", 0.5) is None


@pytest.mark.parametrize(
    ("gate", "kind", "threshold"),
    [
        (GATE, "proportion", None),
        (GATE, "proportion", 0.0),
        (GATE, "", 0.95),
        (GATE, "a kind of another version", 0.95),
        ("speedup", "proportion", 2.0),
        ("a gate of a plugin", "proportion", 2.0),
    ],
)
def test_what_takes_no_samples_has_no_need(gate: str, kind: str, threshold: float | None) -> None:
    assert sample_need(gate, kind, threshold) is None


# Rounds


def test_signs_that_all_agree_decide_at_the_first_crossing() -> None:
    signs = signs_when_all_agree(0.01)
    assert (
        sign_log_evidence(signs, signs) >= math.log(100) > sign_log_evidence(signs - 1, signs - 1)
    )


@pytest.mark.parametrize("block", [1, 5])
def test_the_share_of_agreeing_comparisons_is_that_of_simulated_ones(block: int) -> None:
    generator = np.random.default_rng(block)
    shape = (40_000, block)
    slow, fast = (
        generator.lognormal(mean, CALL_NOISE_RATIO, shape).min(axis=1)
        for mean in (math.log1p(NEAR_RATIO), 0.0)
    )
    share = agreeing_share(NEAR_RATIO, CALL_NOISE_RATIO, block)
    assert share == pytest.approx(float((slow > fast).mean()), abs=0.01)


def test_equal_models_agree_half_of_the_time_and_are_never_decided() -> None:
    assert agreeing_share(0.0, CALL_NOISE_RATIO, 5) == pytest.approx(0.5, abs=1e-6)
    assert signs_to_decide(0.5, 0.01) is None


@pytest.mark.parametrize("relative", [1 - NEAR_RATIO, 1 / (1 - NEAR_RATIO)])
def test_the_rounds_that_are_planned_decide_as_often_as_promised(relative: float) -> None:
    need = speed_need("speedup", 2.0, SHORT)
    assert need.asked is not None
    generator = np.random.default_rng(5)
    decided = 0
    for _ in range(200):
        noise = [generator.lognormal(0.0, CALL_NOISE_RATIO, need.asked) for _ in range(2)]
        rounds = timings(4e6 * relative * noise[0], 2e6 * noise[1])
        verdict = judge_speed(rounds, Threshold(2.0, "at_least"), budget_spent=True)
        decided += verdict.outcome == ("pass" if relative > 1 else "fail")
    # Both channels have to decide, each with this power.
    assert decided / 200 >= POWER - (1 - POWER)


def test_the_least_rounds_decide_a_clear_case_and_fewer_do_not() -> None:
    need = speed_need("speedup", 2.0, SHORT)
    clear = np.full(need.least, 9e6), np.full(need.least, 3e6)
    limit = Threshold(2.0, "at_least")
    assert judge_speed(timings(*clear), limit, budget_spent=True).outcome == "pass"
    fewer = timings(*(side[:-1] for side in clear))
    assert judge_speed(fewer, limit, budget_spent=True).outcome == "inconclusive"


def test_every_procedure_takes_its_own_rounds() -> None:
    both, wall, cpu, long = (
        speed_need("speedup", 2.0, procedure)
        for procedure in (
            SHORT,
            choose(0.0, threads=1, cpu_time_is_valid=True, clock="wall-only"),
            choose(0.0, threads=1, cpu_time_is_valid=True, clock="cpu-led"),
            choose(5e7, threads=1, cpu_time_is_valid=True, clock="agree"),
        )
    )
    assert cpu.least < wall.least == both.least == long.least
    assert (cpu.asked or 0) < (wall.asked or 0) == both.asked
    assert (long.asked or 0) < (both.asked or 0)


def test_several_threads_take_several_pairs_of_processes() -> None:
    procedure = choose(0.0, threads=2, cpu_time_is_valid=True, clock="agree")
    need = speed_need("speedup", 2.0, procedure)
    assert need.rounds_per_start == procedure.block
    assert need.least == need.asked == procedure.min_rounds


def test_a_speed_without_a_threshold_takes_the_fewest() -> None:
    need = speed_need("speedup", None, SHORT)
    assert need.least == need.asked
    assert need.ratio == 1.0


def test_the_tail_takes_the_most_of_its_parts() -> None:
    plain = tail_need("latency_consistency", 1.1, percentile=None, quantiles=())
    assert plain.least == minimum_rounds(95.0)
    limited = tail_need("latency_consistency", 1.1, percentile=None, quantiles=(0.5, 0.99))
    assert limited.asked == 299
    assert "299 rounds at least for the limit of p99" in limited.note
    assert tail_need("latency_consistency", None, percentile=None, quantiles=(0.5,)).least < 10
    far = tail_need("latency_consistency", 1.1, percentile=99.0, quantiles=())
    assert far.least == minimum_rounds(99.0) > 600


# Turns


def test_a_longer_run_takes_its_first_part() -> None:
    need = turns_need("latency_drift")
    assert (need.least, need.asked, need.unit) == (MINIMUM_TURNS, PART_TURNS, "turns")


def test_stragglers_take_as_many_calls_as_prove_their_share() -> None:
    need = straggler_need("latency_tail", 0.005, 50)
    alpha = error_rate_of_look(PART_TURNS, ERROR_RATE)
    bounds = [exact_bounds(0, calls, alpha)[1] for calls in (need.least, need.least - 2)]
    assert bounds[0] <= 0.005 < bounds[1]
    assert need.asked == 50 * PART_TURNS
    assert need.unit == "calls"


def test_few_calls_a_turn_take_more_parts() -> None:
    need = straggler_need("latency_tail", 0.005, 25)
    assert need.asked == 25 * 2 * PART_TURNS
    assert need.asked > need.least


def test_a_share_of_one_in_a_million_is_out_of_reach() -> None:
    assert straggler_need("latency_tail", 1e-6, 50).asked is None


def test_a_share_of_one_takes_one_part() -> None:
    need = straggler_need("latency_tail", 1.0, 50)
    assert (need.least, need.asked) == (1, 50 * PART_TURNS)
