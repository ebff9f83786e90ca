"""Judge ``accuracy_retained`` of a metric of the whole set: paired resamples of the samples."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from pytest_edgeai.judge.score import score
from pytest_edgeai.judge.statistics import Decision, FloatArray
from pytest_edgeai.records import JSON, LEFT_OUT, PairedQuality

MINIMUM_SAMPLES = 500
"""Below, a figure at the threshold passes too often by either kind of resamples: F1 in .06 to .24
of all draws of 200 samples, where .05 is right."""
MAXIMUM_UNDEFINED_RATIO = 0.01
"""Share of resamples in which the baseline may have no figure."""
POWER = 0.9


@dataclass(frozen=True)
class WholeSet:
    """What the resamples of both models say.

    Attributes:
        decision: ``pass``, ``fail`` or ``undecided``.
        baseline: the baseline's figure on the whole set.
        candidate: the candidate's.
        interval: of candidate / baseline, of confidence ``1 - 2 alpha``.
        needed: samples that would decide; ``None`` where no number would.
    """

    decision: Decision
    baseline: float
    candidate: float
    interval: tuple[float, float] | None
    needed: int | None


def whole_set_fault(quality: PairedQuality) -> str:
    """Return why a metric of the whole set cannot be judged, or an empty string."""
    sides = [quality.resamples.get(side) for side in ("baseline", "candidate")]
    baseline, candidate = sides
    if baseline is None or candidate is None or baseline.shape != candidate.shape:
        return "there are no paired resamples"
    if len(baseline) < 2:
        return "there are no resamples"
    left_out = quality.resamples.get(LEFT_OUT)
    if left_out is not None and left_out.shape != baseline.shape:
        return "it is not known what the resamples leave out"
    if not (np.isfinite(baseline).all() and np.isfinite(candidate).all()):
        return "a figure is not finite"
    if (baseline < 0).any() or (candidate < 0).any():
        return "a figure is negative"
    if len(quality.baseline_scores) == 0:
        return "there are no evaluation samples"
    if baseline[0] == 0:
        return (
            f"{quality.metric} of the baseline is 0, so that what the candidate retains of it "
            "cannot be measured"
        )
    return ""


def compare_whole_set(quality: PairedQuality, limit: float | None, alpha: float) -> WholeSet:
    """Decide by an interval of the ratio.

    Where the resamples leave out one group of samples each, it is Student's interval with the
    standard error of the delete-a-group jackknife, ``(g - 1) / g`` times the sum of the squared
    deviations, and g - 1 degrees of freedom (Efron and Tibshirani 1993, chapter 11; Shao and Wu
    1989). Otherwise it is the percentile interval of the bootstrap (chapter 13). It passes where
    the lower one-sided bound of level ``alpha`` lies above ``limit``, and fails where the upper one
    lies below. Fewer than 500 samples decide nothing.

    Args:
        quality: of kind ``corpus``, without a `whole_set_fault`.
        limit: retention to be exceeded; ``None`` where there is none.
        alpha: one-sided level of each decision.
    """
    baseline, candidate = quality.resamples["baseline"], quality.resamples["candidate"]
    n = len(quality.baseline_scores)
    known = baseline[1:] > 0
    figures = score(quality, "baseline"), score(quality, "candidate")
    if np.mean(~known) > MAXIMUM_UNDEFINED_RATIO:
        return WholeSet("undecided", *figures, None, max(MINIMUM_SAMPLES, 2 * n))
    ratios: FloatArray = candidate[1:][known] / baseline[1:][known]
    if is_jackknife(quality):
        groups = len(ratios)
        error = math.sqrt((groups - 1) * float(ratios.var()))
        reach = float(special.stdtrit(groups - 1, 1 - alpha)) * error
        ratio = figures[1] / figures[0]
        low, high = max(0.0, ratio - reach), ratio + reach
    else:
        error = float(ratios.std())
        low, high = (float(bound) for bound in np.quantile(ratios, [alpha, 1 - alpha]))
    if limit is None:
        return WholeSet("undecided", *figures, (low, high), None)
    if n < MINIMUM_SAMPLES:
        return WholeSet("undecided", *figures, (low, high), MINIMUM_SAMPLES)
    if low > limit:
        return WholeSet("pass", *figures, (low, high), None)
    if high < limit:
        return WholeSet("fail", *figures, (low, high), None)
    return WholeSet("undecided", *figures, (low, high), _needed(n, figures, error, limit, alpha))


def is_jackknife(quality: PairedQuality) -> bool:
    """Return whether each resample leaves out one group of samples, drawing all others once."""
    return LEFT_OUT in quality.resamples


def _needed(
    n: int, figures: tuple[float, float], error: float, limit: float, alpha: float
) -> int | None:
    """Samples for a power of 0.9: the ratio's standard error falls with their square root."""
    distance = abs(figures[1] / figures[0] - limit)
    if distance == 0:
        return None
    reach = float(special.ndtri(POWER) - special.ndtri(alpha)) * error / distance
    needed = math.ceil(n * reach**2)
    return max(n + 1, needed) if needed <= 10_000_000 else None


def whole_set_details(quality: PairedQuality, found: WholeSet) -> dict[str, JSON]:
    """Return what a verdict's details state."""
    return {
        "metric": quality.metric,
        "baseline_metric": found.baseline,
        "candidate_metric": found.candidate,
        "resamples": len(quality.resamples["baseline"]) - 1,
        "resampling": "jackknife" if is_jackknife(quality) else "bootstrap",
    }
