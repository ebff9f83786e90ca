"""The gates ``memory_cut`` and ``memory_footprint``: peak memory of fresh processes."""

from __future__ import annotations

import math
import statistics as descriptive
from collections.abc import Sequence

from pytest_edgeai.judge.verdict import (
    bytes_text,
    count_text,
    make_verdict,
    percent_text,
    require_relation,
    threshold_fault,
)
from pytest_edgeai.records import JSON, MemorySamples, Outcome, Threshold, Verdict

CUT_GATE = "memory_cut"
FOOTPRINT_GATE = "memory_footprint"
MINIMUM_BASELINE_BYTES = 8 * 2**20
MAXIMUM_SPREAD_RATIO = 0.25
"""Spread of the repeats, as a share of the baseline's median, above which they are not trusted:
steady measurements spread by 0 to 5%, an allocator that flips between two states by over 20%."""

MINIMUM_REPEATS = 3


def judge_memory(
    samples: MemorySamples,
    threshold: Threshold,
    *,
    minimum_baseline_bytes: int = MINIMUM_BASELINE_BYTES,
    maximum_spread_ratio: float = MAXIMUM_SPREAD_RATIO,
) -> Verdict:
    """Decide whether the candidate cuts the model memory by at least ``threshold``, at the worst.

    Passes if ``1 - max(candidate) / min(baseline)`` reaches the threshold, fails if
    ``1 - min(candidate) / max(baseline)`` does not; otherwise, and where the repeats spread by more
    than ``maximum_spread_ratio`` of the baseline's median, inconclusive. The interval is that range
    and has no confidence level. ``observed`` compares the medians. What is left after the runs is
    stated beside the peak and decides nothing.

    Args:
        samples: at least three repeats of both sides.
        threshold: relation ``at_least``, unit ratio, at most 1; 0 asks for no more memory than the
            baseline's.
        minimum_baseline_bytes: a baseline below is too small for the runtime's own noise.
        maximum_spread_ratio: largest accepted spread.

    Returns:
        A verdict; ``not_applicable`` below the minimum or without a threshold, ``error`` for
        figures that are not finite or not positive. A baseline of zero, or below zero by less than
        the minimum, is a tiny model (peaks are differences of noisy figures), not an error.

    Raises:
        ValueError: for a threshold of another relation.
    """
    require_relation(CUT_GATE, threshold, "at_least")
    baseline, candidate = samples.baseline_bytes, samples.candidate_bytes
    repeats = min(len(baseline), len(candidate))
    details: dict[str, JSON] = {
        "definition": samples.definition,
        "baseline_bytes": list(baseline),
        "candidate_bytes": list(candidate),
        "baseline_footprint_bytes": list(samples.baseline_footprint_bytes),
        "candidate_footprint_bytes": list(samples.candidate_footprint_bytes),
        "steady_definition": samples.steady_definition,
        "baseline_steady_bytes": list(samples.baseline_steady_bytes),
        "candidate_steady_bytes": list(samples.candidate_steady_bytes),
        "baseline_untouched_bytes": samples.baseline_untouched_bytes,
        "candidate_untouched_bytes": samples.candidate_untouched_bytes,
    }
    fault = threshold_fault(threshold, positive=False)
    if not fault and (not baseline or not candidate):
        fault = "there is no measurement of both sides"
    if not fault and not _finite((*baseline, *candidate)):
        fault = "a measured size is not finite"
    if not fault and min(baseline) <= -minimum_baseline_bytes:
        fault = f"the baseline's memory was measured as {bytes_text(min(baseline))}"
    if not fault and descriptive.median(baseline) < minimum_baseline_bytes:
        needed, least = (
            bytes_text(size) for size in (descriptive.median(baseline), minimum_baseline_bytes)
        )
        # Sizes that read alike would make the sentence contradict itself.
        needs = f"just less than {least}" if needed == least else f"only {needed}"
        reason = (
            f"the baseline needs {needs} of model memory, and from {least} on two models can be "
            "compared: the file size decides"
        )
        return make_verdict(
            CUT_GATE,
            "not_applicable",
            threshold,
            unit="ratio",
            reason=reason,
            samples=repeats,
            details=details,
        )
    if not fault and min(*baseline, *candidate) <= 0:
        fault = f"a model's memory was measured as {bytes_text(min(*baseline, *candidate))}"
    if fault:
        return make_verdict(
            CUT_GATE,
            "error",
            threshold,
            unit="ratio",
            reason=f"not judged: {fault}",
            advice="measure again; report it if it comes back",
            samples=repeats,
            details=details,
        )

    middle = descriptive.median(baseline)
    observed = 1 - descriptive.median(candidate) / middle
    low, high = 1 - max(candidate) / min(baseline), 1 - min(candidate) / max(baseline)
    spread = max(max(baseline) - min(baseline), max(candidate) - min(candidate)) / middle
    details["spread_ratio"] = spread
    figure = (
        f"{_cut_text(observed)} ({_cut_text(low)} to {_cut_text(high)} over "
        f"{count_text(repeats, 'repeat')}): {bytes_text(descriptive.median(candidate))} instead of "
        f"{bytes_text(middle)}{_beside_the_peak(samples)}"
    )
    outcome: Outcome = "inconclusive"
    advice = "measure again on a quieter machine, with more repeats"
    if threshold.value is None:
        outcome, reason = "not_applicable", f"{figure}; no threshold is set"
    elif repeats < MINIMUM_REPEATS:
        reason = f"undecided: {figure}; at least {MINIMUM_REPEATS} repeats are needed"
    elif spread > maximum_spread_ratio:
        reason = (
            f"undecided: the repeats spread by {percent_text(spread)} of the baseline, more than "
            f"{percent_text(maximum_spread_ratio)}; {figure}"
        )
    elif low >= threshold.value:
        outcome = "pass"
        reason = f"{figure}, at least {percent_text(threshold.value)} required"
    elif high < threshold.value:
        outcome = "fail"
        reason = f"{figure}, at least {percent_text(threshold.value)} required"
        advice = "choose a recipe that quantizes more of the weights, or another framework"
    else:
        reason = f"undecided: {figure}, the required {percent_text(threshold.value)} lies between"
    return make_verdict(
        CUT_GATE,
        outcome,
        threshold,
        unit="ratio",
        reason=reason,
        advice=advice,
        observed=observed,
        interval=(low, high),
        samples=repeats,
        details=details,
    )


def judge_memory_footprint(samples: MemorySamples, threshold: Threshold) -> Verdict:
    """Decide whether the candidate's whole process stays within a limit, in its worst repeat.

    Args:
        samples: absolute peaks of the candidate's process.
        threshold: relation ``at_most``, unit bytes.

    Returns:
        A verdict; ``not_applicable`` without a limit, ``error`` for peaks that are missing, not
        finite or not positive.

    Raises:
        ValueError: for a threshold of another relation.
    """
    require_relation(FOOTPRINT_GATE, threshold, "at_most")
    peaks = samples.candidate_footprint_bytes
    fault = threshold_fault(threshold)
    if not fault and (not peaks or not _finite(peaks) or min(peaks) <= 0):
        fault = "the candidate's peak was not measured" if not peaks else "a peak is not positive"
    if fault:
        return make_verdict(
            FOOTPRINT_GATE,
            "error",
            threshold,
            unit="bytes",
            reason=f"not judged: {fault}",
            advice="measure again; report it if it comes back",
            samples=len(peaks),
        )
    worst_peak = max(peaks)
    reason = (
        f"the process peaks at {bytes_text(worst_peak)} in the worst of "
        f"{count_text(len(peaks), 'repeat')}"
    )
    outcome: Outcome = "not_applicable"
    if threshold.value is None:
        reason += "; no limit is set"
    else:
        outcome = "pass" if worst_peak <= threshold.value else "fail"
        reason += f", at most {bytes_text(threshold.value)} allowed"
    return make_verdict(
        FOOTPRINT_GATE,
        outcome,
        threshold,
        unit="bytes",
        reason=reason,
        advice="choose a smaller model, fewer threads, or a runtime with a smaller footprint",
        observed=float(worst_peak),
        interval=(float(min(peaks)), float(worst_peak)),
        samples=len(peaks),
        details={"definition": samples.definition, "candidate_footprint_bytes": list(peaks)},
    )


def _beside_the_peak(samples: MemorySamples) -> str:
    """Return the steady state, and what counts although it is not resident; they decide nothing."""
    text = ""
    if samples.baseline_steady_bytes and samples.candidate_steady_bytes:
        steady = (
            bytes_text(descriptive.median(side))
            for side in (samples.candidate_steady_bytes, samples.baseline_steady_bytes)
        )
        text = f" at the peak (after the runs {' instead of '.join(steady)})"
    untouched = samples.candidate_untouched_bytes, samples.baseline_untouched_bytes
    if any(untouched):
        counted = " and ".join(map(bytes_text, untouched))
        text += f" (counting {counted} of mapped weights that were not touched)"
    return text


def _finite(values: Sequence[float]) -> bool:
    return all(math.isfinite(value) for value in values)


def _cut_text(cut: float) -> str:
    """``71.2% less``, or ``8.3% more`` for a negative cut."""
    return f"{percent_text(cut)} less" if cut >= 0 else f"{percent_text(-cut)} more"
