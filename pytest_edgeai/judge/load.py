"""Judge a model under load: calls that fail, the rate that is asked for, the rate sustained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, TypeAlias

import numpy as np

from pytest_edgeai.judge.load_queue import (
    CONFIDENCE,
    clumping,
    is_disturbed,
    is_overloaded,
    keeps_bounds,
    late,
    late_undisturbed,
    utilization,
)
from pytest_edgeai.judge.load_text import (
    load_details,
    needs_text,
    per_second,
    rate_text,
    tail_text,
)
from pytest_edgeai.judge.statistics import binomial_at_most
from pytest_edgeai.judge.verdict import (
    count_text,
    duration_text,
    make_verdict,
    require_relation,
    threshold_fault,
)
from pytest_edgeai.load_records import LoadBounds, LoadRun, LoadSamples
from pytest_edgeai.records import Outcome, Threshold, Verdict

GATE = "load"
UNIT = "ratio"
DEFAULT_PERCENTILES = (99.0, 97.0, 95.0, 90.0)
"""Tried in this order where nobody states one, until the runs fit into the budget."""

LOOKS = 5
"""Most runs at the rate that decides; each may pass it with the error rate of early stopping."""

EVIDENCE = 100.0
"""E-value from which on a rate counts as missed: an error rate of 1% (Ville 1939)."""

STAKES = (0.1, 0.5, 0.9)
"""Shares of the evidence that a run puts at stake; the mean of their products is evidence, too."""

Decision: TypeAlias = Literal["pass", "fail", "undecided"]


def failed_calls(runs: Sequence[LoadRun], bounds: LoadBounds) -> str:
    """Return how many calls raised or timed out, in words; an empty string where none did."""
    calls = sum(run.queries for run in runs)
    raised = sum(int(np.count_nonzero(run.failed)) for run in runs)
    slow = sum(int(np.count_nonzero(run.service_ns > bounds.timeout_ns)) for run in runs)
    parts = []
    if raised:
        texts = {text for run in runs for text in run.messages}
        first = sorted(texts)[0] if texts else ""
        more = f" and {len(texts) - 1} other errors" if len(texts) > 1 else ""
        parts.append(f"{raised:,} of {count_text(calls, 'call')} raised ({first}{more})")
    if slow:
        limit = duration_text(bounds.timeout_ns)
        parts.append(f"{slow:,} of {count_text(calls, 'call')} timed out (over {limit})")
    return "; ".join(parts)


def rate_decision(
    runs: Sequence[LoadRun],
    bounds: LoadBounds,
    required_per_second: float,
    paired: Sequence[LoadRun] = (),
) -> Decision:
    """Decide whether a model sustains a rate.

    It does where one run at that rate or a higher one proves it (:func:`keeps_bounds`), or all runs
    at that rate together do. It does not where the product of e-values of the runs at that rate
    reaches :data:`EVIDENCE`, with the latencies as they were and with those of the same arrivals
    undisturbed. The e-value of a run is ``1 - a + a share / (1 - p)`` for its share of late queries
    and a stake a of :data:`STAKES`: its mean is 1 at most where no more than 1 - p of all queries
    are late, however they depend on each other within a run, and runs with other arrivals are
    independent.

    Args:
        runs: of the Server scenario, at ``required_per_second`` or more.
        bounds: what queries have to keep.
        required_per_second: the rate.
        paired: runs of the baseline with the same arrivals at its own rate; where more of them miss
            the bounds than keep them, the machine has changed and nothing is failed.
    """
    if any(keeps_bounds(run, bounds) for run in runs):
        return "pass"
    exact = [run for run in runs if run.target_per_second <= required_per_second * (1 + 1e-9)]
    if _kept_together(exact, bounds):
        return "pass"
    if not _reaches(exact, bounds, undisturbed=False):
        return "undecided"
    if not _reaches(exact, bounds, undisturbed=True):
        return "undecided"
    missed = sum(float(late(run, bounds).mean()) > 1 - bounds.quantile for run in paired)
    return "undecided" if missed > len(paired) / 2 else "fail"


def judge_load(samples: LoadSamples, threshold: Threshold) -> Verdict:
    """Decide whether the candidate sustains the expected rate within its bounds.

    A call that raised, timed out or had to be killed fails it, whatever the rate.

    Args:
        samples: everything that was driven.
        threshold: relation ``at_least``; the share of the expected rate.

    Returns:
        A verdict whose ``observed`` is the highest rate that a run proved / the expected rate; its
        interval reaches to the lowest rate above that did not prove it.

    Raises:
        ValueError: for a threshold of another relation.
    """
    require_relation(GATE, threshold, "at_least")
    required = samples.required_per_second
    observed, interval = sustained(samples)
    outcome, reason, advice = _decided(samples, threshold)
    deciding = [] if required is None else server_runs(samples.candidate, required)
    looks = _looks(deciding, samples.bounds)
    details = load_details(samples, sustained_per_second(samples.candidate, samples.bounds))
    if outcome in ("pass", "fail") and deciding:
        details["error_rate"] = (1 - CONFIDENCE) * (looks if outcome == "pass" else 1)
        details["looks"] = looks
    return make_verdict(
        GATE,
        outcome,
        threshold,
        unit=UNIT,
        reason=reason,
        advice=advice,
        observed=observed,
        interval=interval,
        samples=sum(run.queries for run in deciding),
        details=details,
    )


def _looks(runs: Sequence[LoadRun], bounds: LoadBounds) -> int:
    """Return how many runs were looked at until one proved the rate; all where none did."""
    proofs = [keeps_bounds(run, bounds) for run in runs]
    return proofs.index(True) + 1 if True in proofs else max(1, len(runs))


def server_runs(runs: Sequence[LoadRun], least_per_second: float = 0.0) -> list[LoadRun]:
    """Return the runs of the Server scenario at a rate or above it."""
    floor = least_per_second * (1 - 1e-9)
    return [run for run in runs if run.scenario == "Server" and run.target_per_second >= floor]


def sustained_per_second(runs: Sequence[LoadRun], bounds: LoadBounds) -> tuple[float, float | None]:
    """Return the highest rate that a run proved (0 for none), and the lowest above that did not."""
    proved = [run.target_per_second for run in server_runs(runs) if keeps_bounds(run, bounds)]
    low = max(proved, default=0.0)
    above = [run.target_per_second for run in server_runs(runs) if run.target_per_second > low]
    return low, min(above, default=None)


def sustained(
    samples: LoadSamples,
) -> tuple[float | None, tuple[float | None, float | None] | None]:
    """Return the sustained rate of the candidate / the expected one, and its interval."""
    expected = samples.expected_per_second
    if expected is None or not server_runs(samples.candidate):
        return None, None
    low, high = sustained_per_second(samples.candidate, samples.bounds)
    required = samples.plan.ratio * expected
    deciding = server_runs(samples.candidate, required)
    if low < required and _kept_together(
        [run for run in deciding if run.target_per_second <= required * (1 + 1e-9)],
        samples.bounds,
    ):
        low = required
        above = [r.target_per_second for r in deciding if r.target_per_second > required * 1.000001]
        high = min(above, default=None)
    return low / expected, (low / expected, None if high is None else high / expected)


def _decided(samples: LoadSamples, threshold: Threshold) -> tuple[Outcome, str, str]:
    """Return outcome, reason and advice."""
    if fault := threshold_fault(threshold):
        return "error", fault, ""
    bounds = samples.bounds
    if samples.hang:
        return (
            "fail",
            f"its process did not survive the load: {samples.hang}",
            "call the model in a loop by itself: a call hangs or ends the process",
        )
    if faults := failed_calls(samples.candidate, bounds):
        return "fail", faults, "a model that serves must answer every call; see the first error"
    required = samples.required_per_second
    if required is None or samples.expected_per_second is None:
        return (
            "inconclusive",
            f"{samples.expected_source} within {bounds.source} at p{bounds.percentile:g}"
            f"{_noise_text(samples)}{needs_text(samples)}",
            "set load_queries_per_second and load_latency_limit_ms, or measure on a quiet machine",
        )
    deciding = server_runs(samples.candidate, required)
    asked = (
        f"{per_second(required)} ({samples.expected_source}) with p{bounds.percentile:g} within "
        f"{bounds.source}"
    )
    alone = samples.candidate[0]
    if not deciding and is_overloaded(
        replace(alone, target_per_second=required, streams=samples.plan.streams)
    ):
        most = samples.plan.streams * 1e9 / float(alone.undisturbed_ns.mean())
        return (
            "fail",
            f"calls one after the other answer {per_second(most)} at most, and {asked} is asked",
            "serve fewer queries per second, more streams (load_streams), or a faster candidate",
        )
    if not deciding:
        return (
            "inconclusive",
            f"no run at {asked} was possible{needs_text(samples)}",
            "raise --edge-budget, or lower load_percentile",
        )
    baseline = [samples.baseline[index] for index in samples.paired.values()]
    decision = rate_decision(deciding, bounds, required, baseline)
    if decision == "pass":
        return "pass", f"sustains {rate_text(samples, required)}: {asked}", ""
    missed = tail_text(deciding, bounds)
    if decision == "fail":
        first = ""
        if float(late(alone, bounds).mean()) > 1 - bounds.quantile:
            first = "; a query that waits for none misses the bound already"
        return (
            "fail",
            f"does not sustain {asked}: {missed}{first}",
            "serve fewer queries per second, more streams (load_streams), or a faster candidate",
        )
    return (
        "inconclusive",
        _undecided(samples, deciding, baseline, asked, missed),
        ("measure on a quieter machine, or give it more of it with --edge-budget"),
    )


def _noise_text(samples: LoadSamples) -> str:
    """Say so where the baseline's calls were held up by other processes."""
    if any(is_disturbed(run, samples.bounds) for run in samples.baseline):
        return "; other processes held the machine: undisturbed, its calls keep the bound"
    return ""


def _undecided(
    samples: LoadSamples,
    deciding: Sequence[LoadRun],
    baseline: Sequence[LoadRun],
    asked: str,
    missed: str,
) -> str:
    bounds = samples.bounds
    why = "the queries do not decide"
    if _reaches(deciding, bounds, undisturbed=False):
        if not _reaches(deciding, bounds, undisturbed=True):
            why = "other processes held the machine: undisturbed, the same calls keep the bound"
        elif baseline:
            why = "the baseline, with the same arrivals, missed it as well"
    return f"{asked}: {missed}; {why}{needs_text(samples)}"


def _kept_together(runs: Sequence[LoadRun], bounds: LoadBounds) -> bool:
    """Whether runs at one rate prove together that it is sustained, by LoadGen's early stopping."""
    if not runs or any(utilization(run) >= 1 or run.failed.any() for run in runs):
        return False
    missed = queries = 0.0
    for run in runs:
        found = late(run, bounds)
        widened = clumping(run, found, bounds.quantile)
        missed += float(found.sum()) / widened
        queries += run.queries / widened
    tail = binomial_at_most(np.asarray(missed), np.asarray(queries), 1 - bounds.quantile)
    return bool(tail <= 1 - CONFIDENCE)


def _reaches(runs: Sequence[LoadRun], bounds: LoadBounds, *, undisturbed: bool) -> bool:
    """Whether the e-values of runs multiply to :data:`EVIDENCE`, on average over the stakes."""
    ratios = []
    for run in runs:
        found = late_undisturbed(run, bounds) if undisturbed else late(run, bounds)
        share = 1.0 if is_overloaded(run) else float(found.mean())
        ratios.append(share / (1 - bounds.quantile))
    products = [math.prod(1 - stake + stake * ratio for ratio in ratios) for stake in STAKES]
    return math.fsum(products) / len(STAKES) >= EVIDENCE
