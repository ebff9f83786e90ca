"""Judge ``accuracy_retained`` of an embedding: its angle to the baseline's, and recall@k.

A mean hides a tail, and a whole tensor hides an output: the mean cosine and its 5th percentile are
therefore bounded for every output by itself. Where samples have groups, retrieval is judged too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from pytest_edgeai.judge.retention import (
    PairedCounts,
    decide_retention,
    samples_to_ever_decide,
)
from pytest_edgeai.judge.statistics import Decision, FloatArray, quantile_bound
from pytest_edgeai.judge.verdict import count_text, list_text, make_verdict, percent_text
from pytest_edgeai.records import JSON, Outcome, PairedQuality, Threshold, Verdict

GATE = "accuracy_retained"
TAIL_LIMIT = 0.90
"""Default limit of the 5th percentile of the cosine."""
TAIL = 0.05
MINIMUM_SAMPLES = 30
"""Below, the t-test of a skewed cosine is not to be trusted."""

_SHOWN = 3


@dataclass(frozen=True)
class _Finding:
    """What one requirement came to.

    Attributes:
        decision: ``pass``, ``fail`` or ``undecided``.
        text: the figure beside what is required.
        needed: samples that would decide; ``None`` where no number is known.
    """

    decision: Decision
    text: str
    needed: int | None


def embedding_fault(quality: PairedQuality) -> str:
    """Return why an embedding cannot be judged, or an empty string."""
    if not quality.cosines or len(quality.baseline_scores) == 0:
        return "there are no evaluation samples"
    for name, cosines in quality.cosines.items():
        if cosines.shape != quality.baseline_scores.shape:
            return f'cosines of "{name}" have shape {cosines.shape}'
        if not np.isfinite(cosines).all() or (np.abs(cosines) > 1).any():
            return f'a cosine of "{name}" does not lie between -1 and 1'
    return ""


def judge_embedding(
    quality: PairedQuality,
    threshold: Threshold,
    *,
    tail_limit: float = TAIL_LIMIT,
    alpha: float = 0.05,
) -> Verdict:
    """Decide whether the candidate's embeddings lie close enough to the baseline's.

    Every output has to pass two tests: of its mean cosine against ``threshold`` (Student's t) and
    of its 5th percentile against ``tail_limit`` (exact binomial, Clopper and Pearson 1934). Where
    samples have groups, recall@k has to retain more than ``threshold`` of the baseline's, by the
    paired score test. It passes if all do, each at level ``alpha``; it fails if one misses its
    limit at ``alpha`` divided by their number.

    Args:
        quality: of kind ``embedding``, without an `embedding_fault`.
        threshold: relation ``more_than``, unit ratio.
        tail_limit: what the 5th percentile of the cosine must exceed.
        alpha: bound on the probability of each wrong decision.

    Returns:
        A verdict; ``observed`` is the smallest mean cosine, with its interval of confidence
        ``1 - 2 alpha``. ``not_applicable`` without a threshold.
    """
    means = {name: float(cosines.mean()) for name, cosines in quality.cosines.items()}
    worst = min(means, key=lambda name: (means[name], name))
    interval = _mean_interval(quality.cosines[worst], alpha)
    n = len(quality.baseline_scores)
    details: dict[str, JSON] = {
        "metric": quality.metric,
        "outputs": {
            name: {"mean": means[name], "p5": float(np.quantile(cosines, TAIL))}
            for name, cosines in quality.cosines.items()
        },
        "neighbors_kept": float(quality.candidate_scores.mean()),
        "tail_limit": tail_limit,
        "error_rate": alpha,
    }
    if quality.parts is not None and len(quality.parts.baseline_scores):
        details["recall_metric"] = quality.parts.metric
        details["baseline_recall"] = float(quality.parts.baseline_scores.mean())
        details["candidate_recall"] = float(quality.parts.candidate_scores.mean())
    kept = f"{percent_text(float(quality.candidate_scores.mean()))} of the nearest neighbors kept"
    figure = f"mean cosine {means[worst]:.4f} on {count_text(n, 'sample')}, {kept}"
    outcome: Outcome = "not_applicable"
    reason, advice = f"{figure}; no threshold is set", ""
    if threshold.value is not None:
        findings = _findings(quality, threshold.value, tail_limit, alpha)
        outcome, chosen = _outcome(findings)
        shown = list_text((finding.text for finding in chosen), _SHOWN)
        reason = f"{shown}; {kept}, on {count_text(n, 'sample')}"
        advice = "choose a gentler recipe, or keep the last layers at higher precision"
        if outcome == "inconclusive":
            needed = max((f.needed for f in chosen if f.needed is not None), default=None)
            details["samples_needed"] = needed
            reason = f"too few samples to decide: {reason}"
            advice = "it lies too close to the limit: choose a better recipe"
            if needed is not None:
                reason += f"; about {needed:,} samples would"
                advice = f"add evaluation samples, to about {needed:,} in all"
    return make_verdict(
        GATE,
        outcome,
        threshold,
        unit="ratio",
        reason=reason,
        advice=advice,
        observed=means[worst],
        interval=interval,
        confidence=None if interval is None else 1 - 2 * alpha,
        samples=n,
        details=details,
    )


def _outcome(findings: list[_Finding]) -> tuple[Outcome, list[_Finding]]:
    """Return the outcome, and the findings that it rests on."""
    failed = [finding for finding in findings if finding.decision == "fail"]
    undecided = [finding for finding in findings if finding.decision == "undecided"]
    if failed:
        return "fail", failed
    return ("inconclusive", undecided) if undecided else ("pass", findings)


def _findings(
    quality: PairedQuality, limit: float, tail_limit: float, alpha: float
) -> list[_Finding]:
    tests = 2 * len(quality.cosines) + (quality.parts is not None)
    found: list[_Finding] = []
    for name, cosines in quality.cosines.items():
        of = f'of "{name}"' if len(quality.cosines) > 1 else ""
        found.append(_mean(cosines, limit, of, alpha, tests))
        found.append(_tail(cosines, tail_limit, of, alpha, tests))
    if quality.parts is not None:
        found.append(_recall(quality.parts, limit, alpha, tests))
    return found


def _mean_interval(cosines: FloatArray, alpha: float) -> tuple[float, float] | None:
    if len(cosines) < 2:
        return None
    error = float(cosines.std(ddof=1)) / math.sqrt(len(cosines))
    half = -float(special.stdtrit(len(cosines) - 1, alpha)) * error
    mean = float(cosines.mean())
    return mean - half, mean + half


def _mean(cosines: FloatArray, limit: float, of: str, alpha: float, tests: int) -> _Finding:
    n, mean = len(cosines), float(cosines.mean())
    text = f"mean cosine{f' {of}' if of else ''} {mean:.4f}, more than {limit:g} required"
    if n < MINIMUM_SAMPLES:
        return _Finding("undecided", text, MINIMUM_SAMPLES)
    error = float(cosines.std(ddof=1)) / math.sqrt(n)
    if error == 0:
        return _Finding("pass" if mean > limit else "fail", text, None)
    t = (mean - limit) / error
    if special.stdtr(n - 1, -t) <= alpha:
        return _Finding("pass", text, None)
    if special.stdtr(n - 1, t) <= alpha / tests:
        return _Finding("fail", text, None)
    reach = float(special.ndtri(0.9) - special.ndtri(alpha))
    return _Finding("undecided", text, max(n + 1, math.ceil(n * (reach / t) ** 2)) if t else None)


def _tail(cosines: FloatArray, limit: float, of: str, alpha: float, tests: int) -> _Finding:
    p5 = float(np.quantile(cosines, TAIL))
    text = f"5th percentile{f' {of}' if of else ''} {p5:.4f}, more than {limit:g} required"
    # A cosine that does not exceed the limit counts as below it.
    low = np.where(cosines > limit, 0.0, 1.0)
    passing = quantile_bound(low, 0.5, quantile=1 - TAIL, confidence=1 - alpha)
    if passing.decision == "pass":
        return _Finding("pass", text, None)
    failing = quantile_bound(low, 0.5, quantile=1 - TAIL, confidence=1 - alpha / tests)
    if failing.decision == "fail":
        return _Finding("fail", text, None)
    return _Finding("undecided", text, max(len(cosines) + 1, passing.samples_needed))


def _recall(parts: PairedQuality, limit: float, alpha: float, tests: int) -> _Finding:
    baseline, candidate = parts.baseline_scores == 1, parts.candidate_scores == 1
    counts = PairedCounts(
        both=int(np.count_nonzero(baseline & candidate)),
        lost=int(np.count_nonzero(baseline & ~candidate)),
        gained=int(np.count_nonzero(~baseline & candidate)),
        neither=int(np.count_nonzero(~baseline & ~candidate)),
    )
    if not counts.both + counts.lost:
        text = f"{parts.metric}: the baseline finds nothing of any sample's group"
        return _Finding("undecided", text, None)
    figure = percent_text(counts.ratio)
    text = (
        f"{parts.metric} {percent_text(float(candidate.mean()))} against the baseline's "
        f"{percent_text(float(baseline.mean()))}, {figure} retained where more than "
        f"{percent_text(limit)} is required"
    )
    if decide_retention(counts, limit, alpha) == "pass":
        return _Finding("pass", text, None)
    if decide_retention(counts, limit, alpha / tests) == "fail":
        return _Finding("fail", text, None)
    needed = max(2 * counts.samples, samples_to_ever_decide(limit, alpha))
    return _Finding("undecided", text, needed)
