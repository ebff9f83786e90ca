"""Perplexity retained by a language model, and how far it agrees with its baseline.

Perplexity is exp of the mean negative log-likelihood (NLL) of a token, so its retention, baseline
perplexity / candidate perplexity, is exp(mean(NLL baseline - NLL candidate)). Tokens of one text
depend on each other; the units of every test here are therefore the blocks of text, paired between
the two models (token-level intervals passed wrongly in 9% to 32% of simulated runs).
"""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from pytest_edgeai.judge.score import score
from pytest_edgeai.judge.statistics import FloatArray, mean_margin
from pytest_edgeai.judge.verdict import (
    count_text,
    make_verdict,
    percent_text,
    require_relation,
    threshold_fault,
)
from pytest_edgeai.records import (
    JSON,
    Outcome,
    PairedQuality,
    Relation,
    Threshold,
    TokenComparison,
    Verdict,
)

GATE = "accuracy_retained"
AGREEMENT_GATE = "token_agreement"
DIVERGENCE_GATE = "kl_divergence"
MINIMUM_BLOCKS = 8
"""Below, the t-test of block means has too few degrees of freedom to be trusted."""
POWER = 0.9


def judge_perplexity(
    quality: PairedQuality, threshold: Threshold, *, alpha: float = 0.05
) -> Verdict:
    """Decide whether the candidate retains more than ``threshold`` of the baseline's perplexity.

    Student's t-test over blocks of ``NLL baseline - NLL candidate + ln(1 / threshold)``. The
    interval has the confidence ``1 - 2 alpha`` and excludes the threshold exactly where the verdict
    is pass or fail.

    Args:
        quality: of kind ``perplexity``, one mean NLL per block, all finite.
        threshold: relation ``more_than``, unit ratio, positive.
        alpha: probability of passing a candidate that retains exactly the threshold.

    Returns:
        A verdict; ``not_applicable`` without a threshold.
    """
    baseline, candidate = quality.baseline_scores, quality.candidate_scores
    n = len(baseline)
    gain = baseline - candidate
    observed = math.exp(float(gain.mean()))
    details: dict[str, JSON] = {
        "metric": quality.metric,
        "baseline_metric": score(quality, "baseline"),
        "candidate_metric": score(quality, "candidate"),
        "baseline_standard_error": _perplexity_error(baseline),
        "candidate_standard_error": _perplexity_error(candidate),
    }
    what = (
        f"perplexity {details['candidate_metric']:.4g} against the baseline's "
        f"{details['baseline_metric']:.4g} (lower is better) on {count_text(n, 'block')} of text"
    )
    outcome: Outcome = "inconclusive"
    interval: tuple[float, float] | None = None
    needed: int | None = MINIMUM_BLOCKS
    if n >= 2:
        half = _half_width(gain, alpha)
        interval = (observed * math.exp(-half), observed * math.exp(half))
    if n >= MINIMUM_BLOCKS and threshold.value is not None:
        margin = mean_margin(gain - math.log(threshold.value), alpha=alpha)
        needed = None
        if margin.decision != "undecided":
            outcome = margin.decision
        elif margin.t != 0:
            reach = float(special.ndtri(POWER) - special.ndtri(alpha))
            needed = max(n + 1, math.ceil(n * (reach / margin.t) ** 2))
    figure = f"retains {percent_text(observed)} of the baseline's perplexity"
    if interval is not None:
        low, high = interval
        figure += f" ({100 * (1 - 2 * alpha):g}% interval {percent_text(low)} to "
        figure += f"{percent_text(high)})"
    advice = ""
    if threshold.value is None:
        outcome, reason = "not_applicable", f"{figure}, no threshold is set: {what}"
    else:
        reason = f"{figure}, more than {percent_text(threshold.value)} required: {what}"
        advice = "choose a scheme with more bits, or keep the sensitive layers at higher precision"
    if outcome == "inconclusive":
        details["samples_needed"] = needed
        reason = f"too little text to decide: {reason}"
        if needed is None:
            advice = "the retention lies too close to the threshold: choose a better scheme"
        else:
            reason += f"; about {needed:,} blocks would"
            advice = f"add text, to about {needed:,} blocks in all"
    return make_verdict(
        GATE,
        outcome,
        threshold,
        unit="ratio",
        reason=reason,
        advice=advice,
        observed=observed,
        interval=interval,
        confidence=None if interval is None else 1 - 2 * alpha,
        samples=n,
        details={**details, "error_rate": alpha},
    )


def judge_token_agreement(
    comparison: TokenComparison, threshold: Threshold, *, alpha: float = 0.05
) -> Verdict:
    """Decide whether both models choose the same token often enough, at least ``threshold``.

    Args:
        comparison: token by token.
        threshold: relation ``at_least``, unit share.
        alpha: one-sided level of pass and fail, by the t-test over blocks.
    """
    return _judge_mean(
        comparison.agrees.astype(np.float64),
        comparison.blocks,
        threshold,
        gate=AGREEMENT_GATE,
        relation="at_least",
        unit="share",
        alpha=alpha,
    )


def judge_kl_divergence(
    comparison: TokenComparison, threshold: Threshold, *, alpha: float = 0.05
) -> Verdict:
    """Decide whether the predictions stay close: a mean divergence of at most ``threshold`` nats.

    Args:
        comparison: token by token.
        threshold: relation ``at_most``, unit nats.
        alpha: one-sided level of pass and fail, by the t-test over blocks.
    """
    return _judge_mean(
        comparison.divergence,
        comparison.blocks,
        threshold,
        gate=DIVERGENCE_GATE,
        relation="at_most",
        unit="nats",
        alpha=alpha,
    )


def agreement_details(comparison: TokenComparison) -> dict[str, JSON]:
    """Return what every report of a language model states beside its perplexity."""
    return {
        "tokens": len(comparison.blocks),
        "token_agreement": float(comparison.agrees.mean()),
        "kl_divergence_mean": float(comparison.divergence.mean()),
        "kl_divergence_p99": float(np.percentile(comparison.divergence, 99)),
    }


def agreement_text(comparison: TokenComparison) -> str:
    """Return the same in words."""
    return (
        f"both would have chosen the same token {percent_text(float(comparison.agrees.mean()))} of "
        f"the time, mean KL divergence {float(comparison.divergence.mean()):.3g} nats"
    )


def _judge_mean(
    values: FloatArray,
    blocks: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
    threshold: Threshold,
    *,
    gate: str,
    relation: Relation,
    unit: str,
    alpha: float,
) -> Verdict:
    require_relation(gate, threshold, relation)
    fault = threshold_fault(threshold, positive=False)
    if not fault and not np.isfinite(values).all():
        fault = f"{np.count_nonzero(~np.isfinite(values))} of {len(values)} figures are not finite"
    if fault:
        return make_verdict(gate, "error", threshold, unit=unit, reason=f"not judged: {fault}")
    means = np.bincount(blocks, weights=values) / np.bincount(blocks)
    observed, n = float(means.mean()), len(means)
    half = _half_width(means, alpha) if n >= 2 else None
    interval = None if half is None else (observed - half, observed + half)
    figure = percent_text(observed) if unit == "share" else f"{observed:.4g} {unit}"
    outcome: Outcome = "inconclusive"
    advice = "choose a scheme with more bits"
    if threshold.value is None:
        outcome, reason = "not_applicable", f"{figure}; no limit is set"
    else:
        words = "at least" if relation == "at_least" else "at most"
        reason = f"{figure}, {words} {threshold.value:g} required, on {count_text(n, 'block')}"
        if n >= MINIMUM_BLOCKS:
            side = means - threshold.value if relation == "at_least" else threshold.value - means
            decision = mean_margin(side, alpha=alpha).decision
            outcome = "inconclusive" if decision == "undecided" else decision
        if outcome == "inconclusive":
            advice = "add text"
            reason = f"too little text to decide: {reason}"
    return make_verdict(
        gate,
        outcome,
        threshold,
        unit=unit,
        reason=reason,
        advice=advice,
        observed=observed,
        interval=interval,
        confidence=None if interval is None else 1 - 2 * alpha,
        samples=n,
        details={"error_rate": alpha},
    )


def _half_width(values: FloatArray, alpha: float) -> float:
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    return -float(special.stdtrit(len(values) - 1, alpha)) * error


def _perplexity_error(nll: FloatArray) -> float | None:
    """Standard error of exp(mean): by the delta method, exp(mean) times the mean's error."""
    if len(nll) < 2:
        return None
    return math.exp(float(nll.mean())) * float(nll.std(ddof=1)) / math.sqrt(len(nll))
