"""The gate ``slice_retained``: no class and no slice of the data loses most of what it had.

An average hides what is rare: a class of 3% of the samples can die while 97% are kept. Every class
and every slice is therefore held to a share of the baseline's own figure on it. That *all* of them
keep it is an intersection-union hypothesis, so each may be tested at the full level (Berger 1982);
that *some* one lost it is found among many, so those p-values are corrected by Holm (1979).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from pytest_edgeai.judge.parts import (
    CLASSES,
    SLICES,
    Division,
    Part,
    compare_losses,
    compare_proportions,
    divide,
    part_p_value,
    samples_to_judge,
)
from pytest_edgeai.judge.quality import (
    MINIMUM_LOSS_SAMPLES,
    samples_for_proportion,
    scores_fault,
    unjudged_scores,
)
from pytest_edgeai.judge.verdict import (
    count_text,
    list_text,
    make_verdict,
    percent_text,
    require_relation,
    threshold_fault,
)
from pytest_edgeai.records import JSON, Outcome, PairedQuality, Threshold, Verdict

GATE = "slice_retained"
MINIMUM_LOST = 3
"""Samples that a small part must lose before it counts as lost: as for `output_sanity`."""

_MOST_EXACT_FAILURES = 20
_NAMED = 3


def judge_slices(quality: PairedQuality, threshold: Threshold, *, alpha: float = 0.05) -> Verdict:
    """Decide whether every class and slice retains more than ``threshold`` of the baseline's.

    For a proportion each part is judged by the paired score test of `retention`, for a loss by the
    paired t-test of ``baseline / threshold - candidate``. Small parts, on which even a healthy
    candidate may miss the test by chance, are judged together. It passes if every judged part
    does, each at level ``alpha``; it fails if one is below at level ``alpha`` after Holm's
    correction. Small parts that lost most of their samples forbid a pass.

    Args:
        quality: scores of both models; ``classes`` and ``slices`` divide them. Where it has
            ``parts``, those are judged instead of the samples.
        threshold: relation ``more_than``, unit ratio, between 0 and 1.
        alpha: bound on the probability of each wrong decision.

    Returns:
        A verdict; ``observed`` is what the worst judged part retains. ``not_applicable`` where
        nothing divides the samples or the metric has no figure per part, ``error`` where the scores
        cannot be judged.

    Raises:
        ValueError: for a threshold of another relation or an alpha outside (0, 0.5).
    """
    require_relation(GATE, threshold, "more_than")
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha must lie in (0, 0.5), not {alpha}")
    if quality.parts is not None:
        quality = quality.parts
    divided = divide(quality)
    reason = ""
    if threshold.value is None:
        reason = "no threshold is set"
    elif quality.kind not in ("proportion", "loss"):
        reason = f"{quality.metric} has no figure of its own for a class or a slice"
    elif not divided:
        reason = "neither classes nor slices divide the evaluation data"
    if reason:
        return make_verdict(GATE, "not_applicable", threshold, unit="ratio", reason=reason)
    limit = threshold.value or 0.0
    fault = threshold_fault(threshold) or scores_fault(quality) or _fault(quality, limit)
    if fault:
        return unjudged_scores(GATE, quality, threshold, fault)
    compare = compare_proportions if quality.kind == "proportion" else compare_losses
    judged = [compare(quality, name, array, limit, alpha) for name, array in divided.items()]
    return _decide(quality, judged, threshold, limit, alpha)


def _fault(quality: PairedQuality, limit: float) -> str:
    if limit >= 1:
        return (
            f"the threshold {limit:g} is out of range, because no small part could show that much; "
            "allowed: a number above 0 and below 1"
        )
    for name, array in quality.slices.items():
        if array.shape != quality.baseline_scores.shape:
            return (
                f'slices "{name}" of shape {array.shape} for '
                f"{count_text(len(quality.baseline_scores), 'sample')}"
            )
    return ""


def _failures(parts: list[Part], limit: float, alpha: float) -> tuple[Part, ...]:
    """Return the parts that retain less than ``limit``, at level ``alpha`` after Holm's correction.

    Only the twenty that look worst are tested, which bounds the time and can only lose failures.
    """
    worst = sorted((p for p in parts if p.decision != "pass"), key=lambda part: part.order)
    suspects = [part for part in worst if part.order < limit][:_MOST_EXACT_FAILURES]
    level = alpha / max(1, len(parts))
    values = sorted(
        (
            part.p_lost
            if part.counts is None
            else part_p_value(replace(part.counts, neither=0), limit, level, False),
            number,
        )
        for number, part in enumerate(suspects)
    )
    failed: list[Part] = []
    for rank, (p, number) in enumerate(values):
        if p > alpha / (len(parts) - rank):
            break
        failed.append(replace(suspects[number], decision="fail"))
    return tuple(sorted(failed, key=lambda part: part.order))


def _decide(
    quality: PairedQuality,
    divisions: list[Division],
    threshold: Threshold,
    limit: float,
    alpha: float,
) -> Verdict:
    enough = samples_to_judge(limit, alpha)
    if quality.kind == "loss":
        enough = MINIMUM_LOSS_SAMPLES
    judged: list[Part] = []
    left_out: list[Part] = []
    lost: list[Part] = []
    for division in divisions:
        judged += division.alone
        lost += [
            part
            for part in division.small
            if part.order <= limit and part.decision != "pass" and _lost(part) >= MINIMUM_LOST
        ]
        pool = division.pool
        if pool is not None and (pool.weight >= enough or pool.decision == "pass"):
            judged.append(pool)
        elif pool is not None:
            (lost if pool.order <= limit and pool not in lost else left_out).append(pool)
    # A pool of one class or slice is that class or slice.
    tested = list(dict.fromkeys((*judged, *(part for d in divisions for part in d.small))))
    failed = _failures(tested, limit, alpha)
    doubtful = sorted({*lost, *(p for p in judged if p.decision != "pass")}, key=_order)
    outcome: Outcome = "pass"
    if failed:
        outcome, named = "fail", failed
    elif doubtful:
        outcome, named = "inconclusive", tuple(doubtful)
    elif judged:
        named = (min(judged, key=_order),)
    else:
        outcome, named = "inconclusive", tuple(sorted(left_out, key=_order))
    worst = named[0] if named else None
    needed = None
    if outcome == "inconclusive" and worst is not None:
        level = alpha if worst.order > limit else alpha / len(tested)
        needed = _samples_needed(worst, limit, enough, level)
    return _verdict(quality, divisions, judged, left_out, named, outcome, threshold, needed, alpha)


def _order(part: Part) -> tuple[float, str]:
    return part.order, part.title


def _lost(part: Part) -> int:
    """Samples that the candidate lost, less those that it gained; all of them for a loss."""
    return part.samples if part.counts is None else part.counts.lost - part.counts.gained


def _text(quality: PairedQuality, part: Part) -> str:
    what = "recall" if quality.kind == "proportion" else quality.metric
    figure = percent_text if quality.kind == "proportion" else "{:.4g}".format
    retained = "no loss at all" if part.retained is None else percent_text(part.retained)
    keeps = "keeps" if part.members == 1 else "keep"
    return (
        f"{part.title} {keeps} {retained} ({what} {figure(part.candidate)} against the baseline's "
        f"{figure(part.baseline)} on {count_text(part.samples, 'sample')})"
    )


def _verdict(
    quality: PairedQuality,
    divisions: list[Division],
    judged: list[Part],
    left_out: list[Part],
    named: tuple[Part, ...],
    outcome: Outcome,
    threshold: Threshold,
    needed: int | None,
    alpha: float,
) -> Verdict:
    details: dict[str, JSON] = {
        "error_rate": alpha,
        "judged": len(judged),
        "judged_together": [part.to_json() for part in judged if part.members > 1],
        "not_judged": [part.title for part in left_out],
        "divisions": {
            division.parts[0].division: {
                part.name: _as_decided(part, named, outcome).to_json() for part in division.parts
            }
            for division in divisions
            if division.parts
        },
    }
    required = f"more than {percent_text(threshold.value)} of the baseline's required"
    worst = named[0] if named else None
    advice = ""
    if worst is None:
        outcome = "not_applicable"
        reason = "the baseline is right nowhere, so that no class or slice can lose anything"
    elif outcome == "pass":
        how_many = " and ".join(_extent(judged))
        worst_of = f"the worst of {how_many}: " if len(judged) > 1 else ""
        reason = f"{worst_of}{_text(quality, worst)}, {required}"
    elif outcome == "fail":
        reason = f"{list_text((_text(quality, p) for p in named), _NAMED)}; {required}"
        advice = "calibrate with samples of it, or keep the output layers at higher precision"
    else:
        details["samples_needed"] = needed
        shown = list_text((_text(quality, p) for p in named), _NAMED)
        reason = f"too few samples to decide: {shown}; {required}"
        if needed is None:
            advice = "it lies too close to the threshold: choose a better recipe"
        else:
            reason += f"; about {needed:,} samples of {worst.title} would decide"
            advice = f"add evaluation samples of {worst.title}, to about {needed:,} in all"
    if left_out and outcome != "inconclusive":
        reason += f"; not judged, too few samples: {list_text(_small_text(left_out), _NAMED)}"
    return make_verdict(
        GATE,
        outcome,
        threshold,
        unit="ratio",
        reason=reason,
        advice=advice,
        observed=None if worst is None else worst.retained,
        samples=len(quality.baseline_scores),
        details=details,
    )


def _as_decided(part: Part, named: tuple[Part, ...], outcome: Outcome) -> Part:
    """Return the part with the decision that the verdict came to about it."""
    if outcome != "fail":
        return part
    known: Mapping[tuple[str, str, int], Part] = {(p.division, p.name, p.members): p for p in named}
    return known.get((part.division, part.name, part.members), part)


def _extent(judged: list[Part]) -> Iterator[str]:
    """Yield how many classes and slices were judged, by division."""
    for division in dict.fromkeys(part.division for part in judged):
        count = sum(part.members for part in judged if part.division == division)
        together = sum(p.members for p in judged if p.division == division and p.members > 1)
        noun = "class" if division == CLASSES else "slice"
        plural = noun if count == 1 else {"class": "classes", "slice": "slices"}[noun]
        of = "" if division in (CLASSES, SLICES) else f" of {division}"
        small = f", {together:,} small ones judged together" if together else ""
        yield f"{count:,} {plural}{of}{small}"


def _small_text(parts: list[Part]) -> Iterator[str]:
    for part in parts:
        retained = "all" if part.retained is None else percent_text(part.retained)
        yield f"{part.title} ({count_text(part.samples, 'sample')}, {retained} kept)"


def _samples_needed(part: Part, limit: float, enough: int, level: float) -> int | None:
    """Return how many samples of a part would decide about it; ``None`` where none would."""
    if part.counts is None:
        return max(part.samples + 1, enough) if part.samples < enough else 2 * part.samples
    if part.weight < enough:
        return max(part.samples + 1, -(-enough * part.samples // part.weight))
    return samples_for_proportion(part.counts, limit, level)
