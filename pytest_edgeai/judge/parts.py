"""The classes and slices of evaluation data, each with what a candidate retains of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import special

from pytest_edgeai.judge.quality import MINIMUM_LOSS_SAMPLES
from pytest_edgeai.judge.retention import (
    NUISANCE_ERROR,
    PairedCounts,
    retention_p_value,
    samples_to_ever_decide,
    score_statistic,
)
from pytest_edgeai.judge.statistics import (
    Decision,
    FloatArray,
    binomial_at_most,
    binomial_more_than,
)
from pytest_edgeai.records import JSON, PairedQuality

CLASSES = "classes"
SLICES = "slices"
ASSURANCE = 0.999
"""Probability with which a healthy candidate's part passes by itself; parts of fewer samples are
judged together, or a data set of many small classes would hardly ever pass."""

_HEALTHY_SHARE = 0.1
"""A healthy candidate loses at most this share of what the threshold lets it lose: 5% at 0.5."""
_SCREENING_LEVEL = 0.01
_MOST_SAMPLES = 1 << 16

Counts: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """What baseline and candidate do on one class, on one slice, or on several small ones together.

    Attributes:
        division: ``classes``, ``slices``, or the name of the array that divides the samples.
        name: of the class or slice; empty for several small ones together.
        members: how many classes or slices it holds.
        samples: evaluation samples in it.
        baseline: recall, or mean loss.
        candidate: likewise.
        retained: candidate's recall / baseline's, or baseline's loss / candidate's; ``None`` where
            the candidate has no loss.
        weight: samples that can be lost: those that the baseline gets right, or all for a loss.
        decision: ``pass``, ``fail`` or ``undecided``, by itself.
        counts: paired counts; ``None`` for a loss.
        p_lost: p-value of "it retains enough" for a loss; 1 where there are too few samples.
    """

    division: str
    name: str
    members: int
    samples: int
    baseline: float
    candidate: float
    retained: float | None
    weight: int
    decision: Decision = "undecided"
    counts: PairedCounts | None = None
    p_lost: float = 1.0

    @property
    def title(self) -> str:
        """Name for people: ``class "7"``, ``lighting "night"``, ``all 12 smaller classes``."""
        noun = {CLASSES: "class", SLICES: "slice"}.get(self.division, self.division)
        if self.members == 1:
            return f'{noun} "{self.name}"'
        plural = self.division if self.division in (CLASSES, SLICES) else f"slices of {noun}"
        return f"all {self.members:,} smaller {plural} together"

    @property
    def order(self) -> float:
        """Sorts the worst part first."""
        return np.inf if self.retained is None else self.retained

    def to_json(self) -> dict[str, JSON]:
        """Return its figures for a verdict's details."""
        return {
            "samples": self.samples,
            "baseline": self.baseline,
            "candidate": self.candidate,
            "retained": self.retained,
            "decision": self.decision,
        }


@dataclass(frozen=True)
class Division:
    """One division of the samples: what is judged alone, what together, and what not at all."""

    alone: tuple[Part, ...]
    small: tuple[Part, ...]
    pool: Part | None

    @property
    def parts(self) -> tuple[Part, ...]:
        """All classes or slices of the division that had anything to lose."""
        return (*self.alone, *self.small)


def divide(quality: PairedQuality) -> dict[str, NDArray[Any]]:
    """Return what divides the samples, by name; classes only for a proportion."""
    found = dict(quality.slices)
    if quality.classes is not None and quality.kind == "proportion":
        found = {CLASSES: np.asarray(quality.classes), **found}
    return found


@lru_cache(maxsize=32)
def samples_to_judge(threshold: float, alpha: float = 0.05) -> int:
    """Samples right with the baseline from which on a class or slice is judged by itself.

    The fewest with which a candidate that loses a tenth of what the threshold allows (5% at 0.5)
    passes with a probability of 0.999; by bisection over the exact binomial distribution.
    """
    loss = _HEALTHY_SHARE * (1 - threshold)

    def passes(samples: int) -> bool:
        kept = np.arange(samples + 1)
        enough = binomial_more_than(kept - 1, samples, threshold) + NUISANCE_ERROR <= alpha
        if not enough.any():
            return False
        most_lost = samples - int(np.argmax(enough))
        return bool(binomial_at_most(most_lost, samples, loss) >= ASSURANCE)

    low = high = samples_to_ever_decide(threshold, alpha)
    while not passes(high):
        low, high = high, 2 * high
        if high > _MOST_SAMPLES:
            return high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if passes(middle) else (middle, high)
    return high


@lru_cache(maxsize=4096)
def part_p_value(counts: PairedCounts, limit: float, level: float, more: bool) -> float:
    """p-value of `retention_p_value` for decisions at ``level``; exact only where it may decide."""
    return retention_p_value(
        counts,
        limit,
        more=more,
        stop_above=level,
        nuisance_error=min(NUISANCE_ERROR, level / 20),
    )


def _cells(index: Counts, quality: PairedQuality) -> Counts:
    """Return n11, n10, n01 and n00 of each part, shape ``(4, parts)``."""
    baseline, candidate = quality.baseline_scores == 1, quality.candidate_scores == 1
    cell = np.where(baseline, np.where(candidate, 0, 1), np.where(candidate, 2, 3))
    parts = int(index.max()) + 1
    return np.bincount(4 * index + cell, minlength=4 * parts).reshape(parts, 4).T


def compare_proportions(
    quality: PairedQuality, division: str, array: NDArray[Any], limit: float, alpha: float
) -> Division:
    """Return what is retained of a proportion on each class or slice, by the paired score test."""
    names, index = np.unique(array, return_inverse=True)
    cells = _cells(index, quality)
    right = cells[0] + cells[1]
    is_alone = right >= samples_to_judge(limit, alpha)
    is_small = (right > 0) & ~is_alone
    passed = _passes(cells, limit, alpha)

    def part(name: str, members: int, column: Counts, passes: bool) -> Part:
        counts = PairedCounts(*(int(count) for count in column))
        return Part(
            division,
            name,
            members,
            counts.samples,
            (counts.both + counts.lost) / counts.samples,
            (counts.both + counts.gained) / counts.samples,
            counts.ratio,
            counts.both + counts.lost,
            "pass" if passes else "undecided",
            counts,
        )

    def parts(chosen: NDArray[np.bool_]) -> tuple[Part, ...]:
        where = np.flatnonzero(chosen)
        return tuple(part(str(names[i]), 1, cells[:, i], bool(passed[i])) for i in where)

    small = parts(is_small)
    pool = None
    if small:
        pooled = cells[:, is_small].sum(axis=1)
        passes = bool(_passes(pooled[:, np.newaxis], limit, alpha)[0])
        pool = part(small[0].name, len(small), pooled, passes)
    return Division(parts(is_alone), small, pool)


def _passes(cells: Counts, limit: float, alpha: float) -> NDArray[np.bool_]:
    """Return which parts retain more than ``limit``, each at level ``alpha``; exact on few samples.

    What the candidate keeps of the baseline's right answers is a lower bound of what it retains,
    and its binomial test needs no nuisance parameter. At a fifth of the level its rejections are
    rejections of the score test too, which is therefore computed for the rest alone.
    """
    both, lost, gained, _ = cells
    right = both + lost
    kept = binomial_more_than(both - 1, right, limit)
    passed = (right > 0) & (kept <= min(_SCREENING_LEVEL, alpha / 5))
    informative = right + gained
    z = score_statistic(np.maximum(informative, 1), lost, gained, limit)
    for i in np.flatnonzero((right > 0) & ~passed & (special.ndtr(-z) <= alpha)):
        counts = PairedCounts(int(both[i]), int(lost[i]), int(gained[i]), 0)
        passed[i] = part_p_value(counts, limit, alpha, True) <= alpha
    return np.asarray(passed, dtype=np.bool_)


def compare_losses(
    quality: PairedQuality, division: str, array: NDArray[Any], limit: float, alpha: float
) -> Division:
    """Return what is retained of a loss on each slice, by the paired t-test."""
    names, index = np.unique(array, return_inverse=True)
    order = np.argsort(index, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(index))[:-1])

    def part(name: str, count: int, chosen: Counts) -> Part:
        baseline, candidate = quality.baseline_scores[chosen], quality.candidate_scores[chosen]
        means = float(baseline.mean()), float(candidate.mean())
        n = len(baseline)
        t = _t_statistic(baseline / limit - candidate)
        enough = n >= MINIMUM_LOSS_SAMPLES
        return Part(
            division,
            name,
            count,
            n,
            *means,
            means[0] / means[1] if means[1] > 0 else None,
            n,
            "pass" if enough and special.stdtr(n - 1, -t) <= alpha else "undecided",
            p_lost=float(special.stdtr(n - 1, t)) if enough else 1.0,
        )

    alone: list[Part] = []
    small: list[Part] = []
    pooled: list[Counts] = []
    for name, chosen in zip(names.tolist(), members, strict=True):
        if len(chosen) >= MINIMUM_LOSS_SAMPLES and quality.baseline_scores[chosen].any():
            alone.append(part(str(name), 1, chosen))
        elif quality.baseline_scores[chosen].any():
            small.append(part(str(name), 1, chosen))
            pooled.append(chosen)
    pool = part(small[0].name, len(small), np.concatenate(pooled)) if small else None
    return Division(tuple(alone), tuple(small), pool)


def _t_statistic(margins: FloatArray) -> float:
    n = len(margins)
    mean = float(margins.mean())
    error = float(margins.std(ddof=1)) / np.sqrt(n) if n > 1 else 0.0
    if error > 0:
        return float(mean / error)
    return float(np.copysign(np.inf, mean)) if mean else 0.0
