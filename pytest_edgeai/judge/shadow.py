"""The gate ``shadow``: recorded requests are answered as the baseline answers them."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from pytest_edgeai.judge.betting import decide_mean, mean_bounds, values_to_decide
from pytest_edgeai.judge.statistics import FloatArray, binomial_at_most
from pytest_edgeai.judge.verdict import (
    count_text,
    duration_text,
    make_verdict,
    percent_text,
    require_relation,
    threshold_fault,
)
from pytest_edgeai.production_records import ShadowReplay, TrafficWindow
from pytest_edgeai.records import JSON, Outcome, Threshold, Verdict

GATE = "shadow"
ALPHA = 0.05
REPEATED_SHARE = 0.1
"""Share of requests equal to an earlier one that goes unsaid."""


def shadow_decided(agreement: FloatArray, threshold: Threshold, *, alpha: float = ALPHA) -> bool:
    """Return whether no further request can change the verdict; may be asked at any time.

    Args:
        agreement: float64 in [0, 1], in the order of drawing.
        threshold: relation ``at_least``.
        alpha: bound on each error.
    """
    limit = threshold.value
    if limit is None or limit <= 0:
        return True
    if limit >= 1:
        return bool((agreement < 1).any())
    return decide_mean(agreement, limit, alpha) != "undecided"


def judge_shadow(
    replay: ShadowReplay, threshold: Threshold, *, metric: Verdict | None, alpha: float = ALPHA
) -> Verdict:
    """Decide whether both models agree on at least ``threshold`` of the traffic.

    The test of `betting` may look at any time, so that the replay may stop as soon as it decides.
    With a threshold of 1, one other answer fails, and a pass takes every recorded request.

    Args:
        replay: the requests that were replayed.
        threshold: relation ``at_least``, unit share.
        metric: what the metric says of the same requests; ``None`` without labels. It is stated and
            decides nothing.
        alpha: probability of passing a candidate that agrees on exactly the threshold.

    Returns:
        A verdict; ``error`` where nothing was replayed, ``not_applicable`` without a threshold.
    """
    require_relation(GATE, threshold, "at_least")
    agreement = replay.agreement
    n = len(agreement)
    fault = threshold_fault(threshold, positive=False)
    if not fault and (n == 0 or not ((agreement >= 0) & (agreement <= 1)).all()):
        fault = "no request was replayed" if n == 0 else "an agreement is no share"
    if fault:
        return make_verdict(
            GATE,
            "error",
            threshold,
            unit="share",
            samples=n,
            reason=f"not judged: {fault}",
            advice="check the recorded traffic and the threshold",
        )
    observed = float(agreement.mean())
    interval = mean_bounds(agreement, alpha)
    outcome, needed = _outcome(replay, threshold, alpha)
    details: dict[str, JSON] = {
        "recorded": replay.recorded,
        "near_ties": replay.near_ties,
        "left_out": replay.left_out,
        "repeated": replay.repeated,
        "same_answer": replay.how,
        "windows": [asdict(window) for window in replay.windows],
        "requests_needed": needed,
        "error_rate": alpha,
    }
    what = "predict" if replay.is_text else "answer"
    of = " of the tokens" if replay.is_text else ""
    reason = (
        f"both {what} {percent_text(observed)}{of} of {count_text(n, 'request')} alike "
        f"({100 * (1 - 2 * alpha):g}% confidence sequence {percent_text(interval[0])} to "
        f"{percent_text(interval[1])})"
    )
    if threshold.value is not None:
        reason += f", at least {percent_text(threshold.value)} required"
    reason += f"; {n:,} of {replay.recorded:,} recorded; alike is {replay.how}"
    advice = "look at the requests that differ in the evidence; choose a gentler recipe"
    if outcome == "inconclusive":
        reason = f"undecided: {reason}"
        reason, advice = _with_need(replay, reason, needed)
    reason += _further(replay, threshold, alpha)
    if replay.seconds is not None:
        base_s, own_s = replay.seconds
        details["seconds_per_request"] = {"baseline": base_s, "candidate": own_s}
        reason += (
            f"; a request takes {duration_text(own_s * 1e9)}, with the baseline "
            f"{duration_text(base_s * 1e9)}"
        )
    if metric is not None:
        details["metric"] = {
            **metric.details,
            "observed": metric.observed,
            "interval": list(metric.interval) if metric.interval else None,
            "confidence": metric.confidence,
        }
        reason += (
            f"; on these requests it {metric.reason}"
            if metric.observed is not None
            else (f"; no metric on these requests: {metric.reason}")
        )
    return make_verdict(
        GATE,
        outcome,
        threshold,
        unit="share",
        reason=reason,
        advice=advice,
        observed=observed,
        interval=interval,
        confidence=1 - 2 * alpha,
        samples=n,
        details=details,
    )


def _outcome(
    replay: ShadowReplay, threshold: Threshold, alpha: float
) -> tuple[Outcome, int | None]:
    """Return the outcome, and the further requests that would decide it."""
    limit, agreement = threshold.value, replay.agreement
    if limit is None:
        return "not_applicable", None
    if limit <= 0:
        return "pass", None
    if limit >= 1:
        if (agreement < 1).any():
            return "fail", None
        left = replay.recorded - len(agreement)
        return ("inconclusive", left) if left else ("pass", None)
    decision = decide_mean(agreement, limit, alpha)
    if decision != "undecided":
        return decision, None
    return "inconclusive", values_to_decide(agreement, limit, alpha)


def _with_need(replay: ShadowReplay, reason: str, needed: int | None) -> tuple[str, str]:
    if needed is None:
        return (
            f"{reason}; no practical number of requests would decide",
            "the agreement lies at the threshold: choose a better recipe, or another threshold",
        )
    reason += f"; about {needed:,} more would decide"
    left = replay.recorded - len(replay.agreement)
    if needed <= left:
        return reason, "give it more time: --edge-profile=release, or a larger --edge-budget"
    total = len(replay.agreement) + needed
    return reason, f"record more traffic, about {total:,} requests in all"


def _further(replay: ShadowReplay, threshold: Threshold, alpha: float) -> str:
    """Word what a reader should know beside the agreement."""
    text = ""
    if replay.near_ties:
        text += f"; {count_text(replay.near_ties, 'near-tie')} among them"
    worst = _window_below(replay.windows, threshold, alpha)
    if worst is not None:
        text += (
            f"; clearly fewer between {worst.begin_s:,.0f} s and {worst.end_s:,.0f} s of the "
            f"recording: {percent_text(worst.agreement)} of {worst.requests:,}"
        )
    if replay.left_out:
        text += f"; {count_text(replay.left_out, 'request')} left out as calibration samples"
    if replay.repeated > REPEATED_SHARE * replay.recorded:
        text += (
            f"; {replay.repeated:,} of {replay.recorded:,} repeat an earlier one, so that it is "
            "surer than it should be"
        )
    return text


def _window_below(
    windows: tuple[TrafficWindow, ...], threshold: Threshold, alpha: float
) -> TrafficWindow | None:
    """Return the window with the least agreement, if that lies below the threshold for sure.

    By the exact binomial distribution at ``alpha`` divided by the number of windows (Bonferroni).
    """
    if threshold.value is None or not windows:
        return None
    worst = min(windows, key=lambda window: window.agreement)
    agreeing = int(np.floor(worst.agreement * worst.requests + 1e-9))
    chance = float(binomial_at_most(agreeing, worst.requests, threshold.value))
    return worst if chance <= alpha / len(windows) else None
