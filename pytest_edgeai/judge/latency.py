"""The gate ``latency_consistency``: the tail of the candidate's latency against the baseline's."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from pytest_edgeai.judge.clocks import with_moving_clocks
from pytest_edgeai.judge.statistics import (
    bootstrap_quantile_ratio,
    quantile_bound,
    quantile_samples_needed,
)
from pytest_edgeai.judge.timings import (
    conduct_details,
    conduct_text,
    has_cpu_times,
    is_contended,
    latency_details,
    percentiles_text,
    timings_fault,
)
from pytest_edgeai.judge.verdict import (
    count_text,
    duration_text,
    make_verdict,
    ratio_text,
    require_relation,
    threshold_fault,
    worst,
)
from pytest_edgeai.records import JSON, Outcome, PairedTimings, Threshold, Verdict

GATE = "latency_consistency"
DEFAULT_PERCENTILE = 95.0
PASS_MARGIN_RATIO = 1.25 / 1.10
"""Passing takes an upper bound within this factor of the threshold (1.25 for the default 1.10)."""

EARLY_STOPPING_CONFIDENCE = 0.99
"""Confidence of MLPerf LoadGen's early stopping."""


def minimum_rounds(percentile: float) -> int:
    """Return the rounds below which the tails of two models at a percentile are not compared.

    MLPerf LoadGen's early stopping (loadgen/early_stopping.cc; MLPerf Inference rules, appendix on
    early stopping): an estimate of a percentile p takes the smallest n for which
    ``P(Binomial(n, 1 - p) <= 1) <= 0.01``, one of the n lying over it: 64 at p90, 130 at p95, 662
    at p99.

    Args:
        percentile: above 50, below 100.
    """
    return quantile_samples_needed(percentile / 100, EARLY_STOPPING_CONFIDENCE, over=1)


MINIMUM_ROUNDS = minimum_rounds(DEFAULT_PERCENTILE)
"""Rounds that the default percentile takes."""

RESAMPLES = 1000


def judge_latency_consistency(
    timings: PairedTimings,
    threshold: Threshold,
    *,
    absolute_limits_ns: Mapping[float, float],
    budget_spent: bool,
    confidence: float = 0.95,
    seed: int,
    percentile: float = DEFAULT_PERCENTILE,
) -> Verdict:
    """Decide whether the candidate's tail is no worse than the interleaved baseline's.

    Fails where the lower bootstrap bound of ``p95(candidate) / p95(baseline)`` exceeds the
    threshold, passes where the upper bound is within 1.25/1.10 of it; takes
    :func:`minimum_rounds`. Where the measurement was
    contended, CPU times are compared. Absolute limits are judged on wall time by the exact binomial
    distribution, one-sided at ``confidence`` each. The verdict is the worst of all parts.

    Args:
        timings: interleaved rounds; the whole measurement, not a stream that is looked at often.
        threshold: relation ``at_most``, unit ratio; no value judges the absolute limits only.
        absolute_limits_ns: quantile (0.99) to the limit of the candidate's wall time in ns.
        budget_spent: whether sampling has ended; only the wording depends on it.
        confidence: of the bootstrap interval (two-sided) and of each limit (one-sided).
        seed: of the bootstrap.
        percentile: the percentile that is compared, in place of 95; above 50 and below 100.

    Returns:
        A verdict; ``error`` for times, limits or thresholds that are not positive and finite,
        ``not_applicable`` with neither threshold nor limits.

    Raises:
        ValueError: for a threshold of another relation, a confidence outside (0, 1), a percentile
            outside (50, 100).
    """
    require_relation(GATE, threshold, "at_most")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie in (0, 1), not {confidence}")
    if not 50 < percentile < 100:
        raise ValueError(f"the percentile must lie in (50, 100), not {percentile}")
    timings = with_moving_clocks(timings)
    fault = threshold_fault(threshold) or timings_fault(timings, cpu=True)
    for quantile, limit in absolute_limits_ns.items():
        if not 0 < quantile < 1:
            fault = fault or f"the percentile {quantile:g} of a limit lies outside 0 to 1"
        if not (math.isfinite(limit) and limit > 0):
            fault = fault or f"the limit {limit:g} ns of p{100 * quantile:g} is not positive"
    if fault:
        reason = f"not judged: {fault}"
        advice = "correct the limit, or measure again"
        return make_verdict(GATE, "error", threshold, unit="ratio", reason=reason, advice=advice)

    contended = is_contended(timings)
    on_cpu = contended and has_cpu_times(timings)
    clock = "cpu_ns" if on_cpu else "wall_ns"
    needed = minimum_rounds(percentile)
    details: dict[str, JSON] = {
        "contended": contended,
        "clock": clock,
        "rounds": timings.rounds,
        "percentile": percentile,
        "minimum_rounds": needed,
    }
    details |= conduct_details(timings) | latency_details(timings)
    parts: list[tuple[Outcome, str, str]] = []
    observed: float | None = None
    interval: tuple[float, float] | None = None
    if timings.rounds:
        baseline = timings.baseline_cpu_ns if on_cpu else timings.baseline_wall_ns
        candidate = timings.candidate_cpu_ns if on_cpu else timings.candidate_wall_ns
        observed, low, high = bootstrap_quantile_ratio(
            np.asarray(candidate, dtype=np.float64),
            np.asarray(baseline, dtype=np.float64),
            quantile=percentile / 100,
            confidence=confidence,
            resamples=RESAMPLES,
            seed=seed,
        )
        interval = low, high
    if threshold.value is not None:
        figure = "no round was measured"
        if observed is not None and interval is not None:
            span = f"{ratio_text(interval[0])} to {ratio_text(interval[1])}"
            figure = (
                f"p{percentile:g} is {ratio_text(observed)} the baseline's "
                f"({100 * confidence:g}% interval {span}); a lower bound above "
                f"{ratio_text(threshold.value)} fails, an upper bound up to "
                f"{ratio_text(threshold.value * PASS_MARGIN_RATIO)} passes"
            )
        state = "the budget is used up" if budget_spent else "sampling goes on"
        state = f"undecided after {count_text(timings.rounds, 'round')}, {state}: {figure}"
        parts.append(
            _ratio_part(timings.rounds, needed, observed, interval, threshold.value, figure, state)
        )
    limits: dict[str, JSON] = {}
    for quantile, limit in sorted(absolute_limits_ns.items()):
        name = f"p{100 * quantile:g}"
        part, limits[name] = _limit_part(timings, name, quantile, limit, confidence)
        parts.append(part)
    details["limits"] = limits
    # Half of what the two-sided interval leaves out, and all that each one-sided limit does.
    details["error_rate"] = (1 - confidence) * (len(limits) + (threshold.value is not None) / 2)
    outcome = worst(part[0] for part in parts) if parts else "not_applicable"
    # What decides the verdict comes first.
    parts.sort(key=lambda part: part[0] != outcome)
    sentences = [sentence for _, sentence, _ in parts]
    if not parts:
        sentences.append("neither a threshold nor an absolute limit is set")
    if timings.rounds:
        clock_name = "CPU time, since the machine was contended" if on_cpu else "wall time"
        if contended and not on_cpu:
            clock_name += " although the machine was contended, since no CPU time is valid here"
        sentences.append(
            f"p50 / p95 / p99: candidate {percentiles_text(details['candidate'][clock])}, baseline "
            f"{percentiles_text(details['baseline'][clock])} ({clock_name})"
        )
    return make_verdict(
        GATE,
        outcome,
        threshold,
        unit="ratio",
        reason="; ".join(sentences) + conduct_text(timings),
        advice=parts[0][2] if parts else "",
        observed=observed,
        interval=interval,
        confidence=None if interval is None else confidence,
        samples=timings.rounds,
        details=details,
    )


def _limit_part(
    timings: PairedTimings, name: str, quantile: float, limit: float, confidence: float
) -> tuple[tuple[Outcome, str, str], JSON]:
    """Outcome, sentence and advice of one absolute limit; and its figures."""
    bound = quantile_bound(
        timings.candidate_wall_ns, limit, quantile=quantile, confidence=confidence
    )
    seen = f"{bound.over} of {count_text(bound.samples, 'call')} took longer"
    outcome: Outcome = "inconclusive" if bound.decision == "undecided" else bound.decision
    advice = ""
    if outcome == "pass":
        sentence = f"{name} is within {duration_text(limit)} ({seen})"
    elif outcome == "fail":
        sentence = f"{name} exceeds {duration_text(limit)} ({seen})"
        advice = "choose a faster recipe, or a limit the target can hold"
    else:
        sentence = (
            f"{name} is not proven to be within {duration_text(limit)} ({seen}); "
            f"{bound.samples_needed:,} calls with no further one over it are needed"
        )
        advice = f"raise --edge-budget, to {bound.samples_needed:,} rounds or more"
    figures = {
        "limit_ns": limit,
        "outcome": outcome,
        "over": bound.over,
        "samples_needed": bound.samples_needed,
    }
    return (outcome, sentence, advice), figures


def _ratio_part(
    rounds: int,
    needed_rounds: int,
    observed: float | None,
    interval: tuple[float, float] | None,
    limit: float,
    figure: str,
    undecided: str,
) -> tuple[Outcome, str, str]:
    """Outcome, sentence and advice of the ratio of the percentiles."""
    advice = "raise --edge-budget, or quiet the machine"
    if observed is None or interval is None or rounds < needed_rounds:
        return "inconclusive", f"{undecided}; {needed_rounds:,} rounds are needed", advice
    low, high = interval
    if low > limit:
        advice = "look for pauses of the candidate's runtime: threads, allocation, power limits"
        return "fail", figure, advice
    pass_limit = limit * PASS_MARGIN_RATIO
    if high <= pass_limit:
        return "pass", figure, ""
    # The interval shrinks with the root of the number of rounds, about its own estimate.
    to_shrink = []
    if observed < pass_limit:
        to_shrink.append(math.log(high / observed) / math.log(pass_limit / observed))
    if observed > limit:
        to_shrink.append(math.log(observed / low) / math.log(observed / limit))
    needed = max(rounds + 1, math.ceil(rounds * min(to_shrink) ** 2))
    return "inconclusive", f"{undecided}; about {needed:,} rounds are needed", advice
