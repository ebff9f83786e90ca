"""The figure that a metric gives one model on the evaluation data, of every kind of metric."""

from __future__ import annotations

import math
from typing import Literal

from pytest_edgeai.records import PairedQuality

Side = Literal["baseline", "candidate"]


def score(quality: PairedQuality, side: Side) -> float:
    """Return what the metric says of one side, as its verdict states it.

    The mean of a ``proportion`` or a ``loss``; the exponential of the mean negative log-likelihood,
    of a ``perplexity``; the figure of the whole set, of a ``corpus``; the smallest mean cosine of
    the outputs, of an ``embedding``, whose baseline has 1: its cosine to itself.

    Args:
        quality: of any kind.
        side: whose figure.

    Returns:
        In the metric's own unit; NaN where nothing was evaluated, infinity where it exceeds every
        number.
    """
    if quality.kind == "corpus":
        figures = quality.resamples.get(side)
        return math.nan if figures is None or not len(figures) else float(figures[0])
    scores = quality.baseline_scores if side == "baseline" else quality.candidate_scores
    if not len(scores):
        return math.nan
    if quality.kind == "embedding":
        if not quality.cosines:
            return math.nan
        if side == "baseline":
            return 1.0
        return min(float(cosines.mean()) for cosines in quality.cosines.values())
    mean = float(scores.mean())
    if quality.kind != "perplexity":
        return mean
    try:
        return math.exp(mean)
    except OverflowError:
        return math.inf
