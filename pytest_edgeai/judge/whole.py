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
LEVEL_SHARE = 0.5
"""Part of alpha at which a figure of the whole set is judged. The precision of few objects is a
little too high on both sides, which no resample shows: mean average precision passed at its
threshold in .055 (5 classes, 795 draws) and .062 (60 classes, 403 draws) of all draws at the whole
of .05, and in .019 and .020 at half of it (docs/statistics.md)."""
POWER = 0.9


@dataclass(frozen=True)
class WholeSet:
    """What the resamples of both models say.

    Attributes:
        decision: ``pass``, ``fail`` or ``undecided``.
        baseline: the baseline's figure on the whole set.
        candidate: the candidate's.
        interval: of candidate / baseline, of `confidence`.
        confidence: ``1 - 2 alpha * LEVEL_SHARE``.
        needed: samples that would decide; ``None`` where no number would.
    """

    decision: Decision
    baseline: float
    candidate: float
    interval: tuple[float, float] | None
    confidence: float
    needed: int | None


@dataclass(frozen=True)
class _Spread:
    """How far a ratio is known.

    Attributes:
        error: its standard error, as observed.
        unit: what one sample more or less that is lost changes it by.
        quantile: of Student's t, or of the normal distribution, at the level of the decision.
    """

    error: float
    unit: float
    quantile: float

    def below(self) -> float:
        """Return how far the lower bound lies below the ratio.

        A candidate that retained no more than the bound would have lost samples more, and scatter
        more: its variance is that observed and ``unit`` times the distance. The bound is where the
        distance is ``quantile`` times that standard error, which is what the score interval does
        for a proportion (Wilson 1927).
        """
        extra = self.quantile**2 * self.unit
        return (extra + math.hypot(extra, 2 * self.quantile * self.error)) / 2

    def samples(self, distance: float) -> float:
        """Return by what factor the samples must grow for a power of 0.9 at a distance.

        Args:
            distance: of the ratio to the limit, not 0; above it where it is positive.
        """
        at_limit = math.sqrt(self.error**2 + max(distance, 0.0) * self.unit)
        reach = float(special.ndtri(POWER)) * self.error + self.quantile * at_limit
        return (reach / distance) ** 2


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

    Where the resamples leave out one group of samples each, the standard error is that of the
    delete-a-group jackknife, ``(g - 1) / g`` times the sum of the squared deviations, and the
    quantile Student's of g - 1 degrees of freedom (Efron and Tibshirani 1993, chapter 11; Shao and
    Wu 1989); otherwise the bounds are percentiles of the bootstrap (chapter 13). The lower bound
    allows for what a candidate at it would scatter more, too: one that lost two samples of 500 by
    luck shows a standard error near 0. It passes where the lower bound of level
    ``alpha * LEVEL_SHARE`` lies above ``limit``, and fails where the upper one lies below. Fewer
    than 500 samples decide nothing.

    Args:
        quality: of kind ``corpus``, without a `whole_set_fault`.
        limit: retention to be exceeded; ``None`` where there is none.
        alpha: bound on the probability of each wrong decision.
    """
    baseline, candidate = quality.resamples["baseline"], quality.resamples["candidate"]
    n = len(quality.baseline_scores)
    level = alpha * LEVEL_SHARE
    known = baseline[1:] > 0
    figures = score(quality, "baseline"), score(quality, "candidate")

    def found(
        decision: Decision, interval: tuple[float, float] | None, needed: int | None = None
    ) -> WholeSet:
        return WholeSet(decision, *figures, interval, 1 - 2 * level, needed)

    if np.mean(~known) > MAXIMUM_UNDEFINED_RATIO:
        return found("undecided", None, max(MINIMUM_SAMPLES, 2 * n))
    ratio = figures[1] / figures[0]
    ratios: FloatArray = candidate[1:][known] / baseline[1:][known]
    # Of a figure above 1 no sample's share is known, so that it is taken for one of n.
    unit = 1 / (effective_samples(quality) * min(1.0, figures[0]))
    if is_jackknife(quality):
        groups = len(ratios)
        error = math.sqrt((groups - 1) * float(ratios.var()))
        spread = _Spread(error, unit, float(special.stdtrit(groups - 1, 1 - level)))
        low, high = ratio - spread.below(), ratio + spread.quantile * error
    else:
        spread = _Spread(float(ratios.std()), unit, -float(special.ndtri(level)))
        low, high = (float(bound) for bound in np.quantile(ratios, [level, 1 - level]))
        low = min(low, ratio - spread.below())
    interval = max(0.0, low), high
    if limit is None:
        return found("undecided", interval)
    if n < MINIMUM_SAMPLES:
        return found("undecided", interval, MINIMUM_SAMPLES)
    if low > limit:
        return found("pass", interval)
    if high < limit:
        return found("fail", interval)
    return found("undecided", interval, _needed(n, ratio - limit, spread))


def effective_samples(quality: PairedQuality) -> float:
    """Return how many samples of equal weight say as much as those that the figure is made of.

    A mean over C classes weighs each of the n samples, or objects, of a class by ``1 / (C n)``,
    which leaves ``C**2`` divided by the sum of all ``1 / n`` (Kish 1965). Where nothing is known of
    single answers, every sample counts alike.
    """
    if quality.parts is None or quality.parts.classes is None or not len(quality.parts.classes):
        return float(len(quality.baseline_scores))
    _, counts = np.unique(np.asarray(quality.parts.classes), return_counts=True)
    return float(len(counts) ** 2 / np.sum(1 / counts))


def is_jackknife(quality: PairedQuality) -> bool:
    """Return whether each resample leaves out one group of samples, drawing all others once."""
    return LEFT_OUT in quality.resamples


def _needed(n: int, distance: float, spread: _Spread) -> int | None:
    """Samples for a power of 0.9: what the ratio scatters by falls with their square root."""
    if distance == 0:
        return None
    needed = math.ceil(n * spread.samples(distance))
    return max(n + 1, needed) if needed <= 10_000_000 else None


def whole_set_details(quality: PairedQuality, found: WholeSet) -> dict[str, JSON]:
    """Return what a verdict's details state."""
    return {
        "metric": quality.metric,
        "baseline_metric": found.baseline,
        "candidate_metric": found.candidate,
        "resamples": len(quality.resamples["baseline"]) - 1,
        "resampling": "jackknife" if is_jackknife(quality) else "bootstrap",
        "effective_samples": effective_samples(quality),
    }
