"""The gate ``accuracy_retained``: non-inferiority of the candidate on paired predictions."""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from pytest_edgeai.judge.embedding import TAIL_LIMIT, embedding_fault, judge_embedding
from pytest_edgeai.judge.perplexity import judge_perplexity
from pytest_edgeai.judge.retention import (
    PairedCounts,
    decide_retention,
    retention_interval,
    samples_to_decide,
    samples_to_ever_decide,
)
from pytest_edgeai.judge.score import score
from pytest_edgeai.judge.statistics import mean_margin, mean_ratio_interval
from pytest_edgeai.judge.verdict import (
    count_text,
    make_verdict,
    percent_text,
    require_relation,
    threshold_fault,
)
from pytest_edgeai.judge.whole import compare_whole_set, whole_set_details, whole_set_fault
from pytest_edgeai.records import JSON, Outcome, PairedQuality, Threshold, Verdict

GATE = "accuracy_retained"
POWER = 0.9
MINIMUM_LOSS_SAMPLES = 30
"""Below, the t-test of a skewed loss is not to be trusted."""


def judge_accuracy(
    quality: PairedQuality,
    threshold: Threshold,
    *,
    alpha: float = 0.05,
    tail_limit: float = TAIL_LIMIT,
) -> Verdict:
    """Decide whether the candidate retains more than ``threshold`` of the baseline's quality.

    A proportion (scores 0 or 1) is judged by the paired score test for the ratio of two
    proportions, exact on small samples (`retention`); ``observed`` is the ratio candidate /
    baseline. A loss is judged by the paired t-test of ``baseline / threshold - candidate`` on 30
    samples or more; ``observed`` is mean(baseline) / mean(candidate). Perplexity is judged by
    `perplexity.judge_perplexity`, a figure of the whole set by the resamples of `whole`, an
    embedding by `embedding.judge_embedding`. The interval has the confidence ``1 - 2 alpha`` (of a
    figure of the whole set ``1 - alpha``, see `whole.LEVEL_SHARE`) and, but for embeddings,
    excludes the threshold exactly where the verdict is pass or fail.

    Args:
        quality: scores of both on the same, independent samples.
        threshold: relation ``more_than``, unit ratio.
        alpha: probability of passing a candidate that retains exactly the threshold.
        tail_limit: what the 5th percentile of an embedding's cosine must exceed.

    Returns:
        A verdict; ``error`` where retention cannot be measured (no samples, a baseline that is
        never right or has no loss, scores that are not finite or not of their kind, a threshold
        that is not positive), ``not_applicable`` without a threshold.

    Raises:
        ValueError: for a threshold of another relation or an alpha outside (0, 0.5).
    """
    require_relation(GATE, threshold, "more_than")
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha must lie in (0, 0.5), not {alpha}")
    fault = threshold_fault(threshold) or scores_fault(quality)
    if fault:
        return unjudged_scores(GATE, quality, threshold, fault)
    if quality.kind == "proportion":
        return _judge_proportion(quality, threshold, alpha)
    if quality.kind == "perplexity":
        return judge_perplexity(quality, threshold, alpha=alpha)
    if quality.kind == "corpus":
        return _judge_whole(quality, threshold, alpha)
    if quality.kind == "embedding":
        return judge_embedding(quality, threshold, tail_limit=tail_limit, alpha=alpha)
    return _judge_loss(quality, threshold, alpha)


def unjudged_scores(gate: str, quality: PairedQuality, threshold: Threshold, fault: str) -> Verdict:
    """Return the ``error`` of a gate whose scores or threshold cannot be judged.

    Args:
        gate: the gate.
        quality: its scores.
        threshold: its limit.
        fault: what is wrong, in one sentence.
    """
    return make_verdict(
        gate,
        "error",
        threshold,
        unit="ratio",
        samples=len(quality.baseline_scores),
        reason=f"not judged: {fault}",
        advice="check the evaluation data, the labels and the threshold",
    )


def scores_fault(quality: PairedQuality) -> str:
    """Return why the scores cannot be judged, or an empty string."""
    if quality.kind == "corpus":
        return whole_set_fault(quality)
    if quality.kind == "embedding":
        return embedding_fault(quality)
    baseline, candidate = quality.baseline_scores, quality.candidate_scores
    if baseline.shape != candidate.shape or baseline.ndim != 1:
        return f"scores of shapes {baseline.shape} and {candidate.shape} are not paired"
    if len(baseline) == 0:
        return "there are no evaluation samples"
    if quality.classes is not None and len(quality.classes) != len(baseline):
        return f"{len(quality.classes)} classes for {len(baseline)} samples"
    for name, scores in (("baseline", baseline), ("candidate", candidate)):
        if not np.isfinite(scores).all():
            return f"{np.count_nonzero(~np.isfinite(scores))} {name} scores are not finite"
        if quality.kind == "proportion" and not np.isin(scores, (0.0, 1.0)).all():
            return f"a {name} score of a proportion is neither 0 nor 1"
        if quality.kind in ("loss", "perplexity") and (scores < 0).any():
            return f"a {name} loss is negative"
    if not baseline.any():
        never = "is never right" if quality.kind == "proportion" else "has no loss at all"
        return (
            f"the baseline {never} on {count_text(len(baseline), 'sample')}, so that what the "
            "candidate retains of it cannot be measured"
        )
    return ""


def _class_recall(quality: PairedQuality) -> dict[str, JSON]:
    """Recall of both sides and number of samples, by class."""
    if quality.classes is None or quality.kind != "proportion":
        return {}
    names, index = np.unique(np.asarray(quality.classes), return_inverse=True)
    support = np.bincount(index)
    baseline = np.bincount(index, weights=quality.baseline_scores) / support
    candidate = np.bincount(index, weights=quality.candidate_scores) / support
    return {
        str(name): {
            "samples": int(support[i]),
            "baseline_recall": float(baseline[i]),
            "candidate_recall": float(candidate[i]),
        }
        for i, name in enumerate(names)
    }


def _most_frequent_share(quality: PairedQuality) -> float | None:
    """Accuracy of the constant answer; ``None`` where no two classes, or another metric, count."""
    if quality.classes is None or quality.metric != "accuracy":
        return None
    _, support = np.unique(np.asarray(quality.classes), return_counts=True)
    return float(support.max() / support.sum()) if len(support) > 1 else None


def _judge_proportion(quality: PairedQuality, threshold: Threshold, alpha: float) -> Verdict:
    baseline, candidate = quality.baseline_scores == 1, quality.candidate_scores == 1
    counts = PairedCounts(
        both=int(np.count_nonzero(baseline & candidate)),
        lost=int(np.count_nonzero(baseline & ~candidate)),
        gained=int(np.count_nonzero(~baseline & candidate)),
        neither=int(np.count_nonzero(~baseline & ~candidate)),
    )
    limit = 1.0 if threshold.value is None else threshold.value
    decision = decide_retention(counts, limit, alpha)
    outcome: Outcome = "inconclusive" if decision == "undecided" else decision
    interval = retention_interval(counts, limit, alpha)
    baseline_metric = (counts.both + counts.lost) / counts.samples
    candidate_metric = (counts.both + counts.gained) / counts.samples
    details: dict[str, JSON] = {
        "metric": quality.metric,
        "baseline_metric": baseline_metric,
        "candidate_metric": candidate_metric,
        "n11": counts.both,
        "n10": counts.lost,
        "n01": counts.gained,
        "n00": counts.neither,
        "classes": _class_recall(quality),
    }
    what = (
        f"{quality.metric} {percent_text(candidate_metric)} against the baseline's "
        f"{percent_text(baseline_metric)} on {count_text(counts.samples, 'sample')} "
        f"({counts.lost} lost, {counts.gained} gained)"
    )
    guess = _most_frequent_share(quality)
    if guess is not None and baseline_metric <= guess:
        what += (
            f"; the baseline is no better than always answering the most frequent class "
            f"({percent_text(guess)}): check the labels and their order"
        )
    needed = None
    if outcome == "inconclusive" and threshold.value is not None:
        needed = samples_for_proportion(counts, limit, alpha)
        details["samples_needed"] = needed
    return _verdict(
        outcome, threshold, counts.ratio, interval, alpha, counts.samples, what, needed, details
    )


def samples_for_proportion(counts: PairedCounts, limit: float, alpha: float) -> int | None:
    """Samples that would decide with a power of 0.9, were the observed rates the true ones."""
    n = samples_to_decide(
        theta=limit,
        retention=counts.ratio,
        baseline_accuracy=(counts.both + counts.lost) / counts.samples,
        gain_rate=counts.gained / counts.samples,
        power=POWER,
        alpha=alpha,
    )
    if n is None:
        return None
    if counts.ratio > limit and limit < 1:
        # What the best candidate needs, given the share of samples that say anything.
        best = samples_to_ever_decide(limit, alpha)
        n = max(n, math.ceil(best * counts.samples / counts.informative))
    return max(n, counts.samples + 1)


def _judge_whole(quality: PairedQuality, threshold: Threshold, alpha: float) -> Verdict:
    found = compare_whole_set(quality, threshold.value, alpha)
    n = len(quality.baseline_scores)
    outcome: Outcome = "inconclusive" if found.decision == "undecided" else found.decision
    details = whole_set_details(quality, found)
    if outcome == "inconclusive":
        details["samples_needed"] = found.needed
    what = (
        f"{quality.metric} {found.candidate:.4g} against the baseline's {found.baseline:.4g} on "
        f"{count_text(n, 'sample')}"
    )
    observed = found.candidate / found.baseline
    return _verdict(
        outcome,
        threshold,
        observed,
        found.interval,
        alpha,
        n,
        what,
        found.needed,
        details,
        confidence=found.confidence,
    )


def _judge_loss(quality: PairedQuality, threshold: Threshold, alpha: float) -> Verdict:
    baseline, candidate = quality.baseline_scores, quality.candidate_scores
    n = len(baseline)
    baseline_mean, candidate_mean = score(quality, "baseline"), score(quality, "candidate")
    details: dict[str, JSON] = {
        "metric": quality.metric,
        "baseline_metric": baseline_mean,
        "candidate_metric": candidate_mean,
    }
    observed = baseline_mean / candidate_mean if candidate_mean > 0 else None
    what = (
        f"{quality.metric} {candidate_mean:.4g} against the baseline's {baseline_mean:.4g} "
        f"(lower is better) on {count_text(n, 'sample')}"
    )
    outcome: Outcome = "inconclusive"
    interval: tuple[float, float | None] | None = None
    needed: int | None = None
    if n >= 2 and observed is not None:
        interval = mean_ratio_interval(baseline, candidate, confidence=1 - 2 * alpha)
    if n >= MINIMUM_LOSS_SAMPLES and interval == (0.0, None):
        what += ", of which a few carry nearly all of it"
    elif n >= MINIMUM_LOSS_SAMPLES:
        limit = 1.0 if threshold.value is None else threshold.value
        margin = mean_margin(baseline / limit - candidate, alpha=alpha)
        if margin.decision != "undecided":
            outcome = margin.decision
        elif margin.t != 0:
            # For power 0.9 the t statistic must grow to z_alpha + z_beta, and grows with root n.
            reach = float(special.ndtri(POWER) - special.ndtri(alpha))
            needed = math.ceil(n * (reach / margin.t) ** 2)
    else:
        needed = MINIMUM_LOSS_SAMPLES
    if outcome == "inconclusive":
        details["samples_needed"] = needed
    return _verdict(outcome, threshold, observed, interval, alpha, n, what, needed, details)


def _verdict(
    outcome: Outcome,
    threshold: Threshold,
    observed: float | None,
    interval: tuple[float, float | None] | None,
    alpha: float,
    samples: int,
    what: str,
    needed: int | None,
    details: dict[str, JSON],
    confidence: float | None = None,
) -> Verdict:
    """Word the verdict; the interval has the confidence ``1 - 2 alpha`` where none is stated."""
    confidence = 1 - 2 * alpha if confidence is None else confidence
    retained = "the candidate has no loss at all"
    if observed is not None:
        retained = f"retains {percent_text(observed)} of the baseline's quality"
    if interval is not None:
        retained += (
            f" ({100 * confidence:g}% interval {percent_text(interval[0])} to "
            f"{percent_text(interval[1])})"
        )
    advice = ""
    if threshold.value is None:
        outcome = "not_applicable"
        reason = f"{retained}, no threshold is set: {what}"
    else:
        required = f"more than {percent_text(threshold.value)} required"
        reason = f"{retained}, {required}: {what}"
        if outcome == "inconclusive":
            reason = f"too few samples to decide: {reason}"
            if needed is None:
                reason += "; no practical number of samples would decide"
                advice = "the retention lies too close to the threshold: choose a better recipe"
            else:
                reason += f"; about {needed:,} samples would"
                advice = f"add evaluation samples, to about {needed:,} in all"
        else:
            advice = "choose a gentler recipe, or calibrate with more representative data"
    return make_verdict(
        GATE,
        outcome,
        threshold,
        unit="ratio",
        reason=reason,
        advice=advice,
        observed=observed,
        interval=interval,
        confidence=None if interval is None else confidence,
        samples=samples,
        details={**details, "error_rate": alpha},
    )
