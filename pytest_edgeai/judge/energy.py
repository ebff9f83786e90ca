"""The gate ``energy_retained``: energy per inference, of the candidate over the baseline's."""

from __future__ import annotations

import math

import numpy as np

from pytest_edgeai.energy_records import (
    CarbonFactor,
    EnergyReport,
    EnergySamples,
    FloatArray,
)
from pytest_edgeai.judge.statistics import (
    Channel,
    median_interval,
    sign_channel,
    units_to_decide,
)
from pytest_edgeai.judge.verdict import (
    count_text,
    make_verdict,
    percent_text,
    require_relation,
    threshold_fault,
)
from pytest_edgeai.records import JSON, Outcome, Threshold, Verdict

GATE = "energy_retained"
CONFIDENCE = 0.95
ERROR_RATE = 0.01
JOULES_PER_KILOWATT_HOUR = 3.6e6
MILLION = 1e6

_INDEPENDENT_SHARE = 0.6
_SIGNS_FOR_WARNING = 20


def joules_per_inference(samples: EnergySamples) -> tuple[FloatArray, FloatArray]:
    """Return the energy of one inference, pair by pair, of baseline and candidate; in joules."""
    answers = samples.method.samples_per_call
    return (
        samples.baseline_joules / (samples.baseline_calls * answers),
        samples.candidate_joules / (samples.candidate_calls * answers),
    )


def energy_decided(
    samples: EnergySamples, threshold: Threshold, *, alpha: float = ERROR_RATE
) -> bool:
    """Whether further pairs cannot change the verdict; the first crossing is final."""
    if threshold_fault(threshold) or threshold.value is None or samples_fault(samples):
        return True
    return _channel(samples, threshold.value, alpha).decision != "undecided"


def samples_fault(samples: EnergySamples) -> str:
    """Return why pairs cannot be judged, or an empty string."""
    for values in joules_per_inference(samples):
        if not (np.isfinite(values).all() and (values > 0).all()):
            return "a block took no energy, or its energy is no number"
    return ""


def _channel(samples: EnergySamples, limit: float, alpha: float) -> Channel:
    baseline, candidate = joules_per_inference(samples)
    return sign_channel(np.asarray(candidate < limit * baseline), alpha)


def judge_energy(
    samples: EnergySamples,
    threshold: Threshold,
    *,
    budget_spent: bool,
    alpha: float = ERROR_RATE,
) -> Verdict:
    """Decide whether the candidate takes at most ``threshold`` of the baseline's energy.

    Each pair of blocks is a sign: below ``threshold`` times the baseline's energy per inference, or
    not. Were the median ratio exactly the threshold, signs would fall like a fair coin; the verdict
    comes at the first crossing of 1/alpha by the evidence against that
    (`statistics.sign_log_evidence`), so that looking after every pair costs nothing. What is judged
    is all the energy that the counters show while a model runs, idle power included: that is what
    an inference takes from a battery or a meter.

    Args:
        samples: pairs of blocks, in the order of measuring.
        threshold: relation ``at_most``, unit ratio.
        budget_spent: whether measuring has ended; only the wording depends on it.
        alpha: bound on the probability of a wrong decision.

    Returns:
        A verdict; ``observed`` is the median ratio with its order-statistics interval at 95%.
        ``proxy`` where the energy was not measured: an estimate never passes. ``error`` for
        energies or thresholds that are not positive, ``not_applicable`` without a threshold.

    Raises:
        ValueError: for a threshold of another relation.
    """
    require_relation(GATE, threshold, "at_most")
    fault = threshold_fault(threshold) or samples_fault(samples)
    if not samples.pairs:
        fault = fault or "no pair of blocks was measured"
    if fault:
        return make_verdict(
            GATE,
            "error",
            threshold,
            unit="ratio",
            reason=f"not judged: {fault}",
            advice="measure again, or correct the limit",
        )
    report = energy_report(samples)
    figure = (
        f"{percent_text(report.ratio)} of the baseline's energy per inference (95% interval "
        f"{percent_text(report.interval[0])} to {percent_text(report.interval[1])}; "
        f"{joules_text(report.candidate_joules)} against {joules_text(report.baseline_joules)}, "
        f"{samples.method.what})"
    )
    channel = _channel(samples, threshold.value or math.inf, alpha)
    words: dict[str, Outcome] = {"pass": "pass", "fail": "fail", "undecided": "inconclusive"}
    outcome = words[channel.decision]
    pairs = count_text(samples.pairs, "pair") + " of blocks"
    advice = ""
    if threshold.value is None:
        outcome, reason = "not_applicable", f"{figure}; no threshold is set"
    elif outcome == "inconclusive":
        state = "the budget is used up" if budget_spent else "measuring goes on"
        reason = (
            f"undecided after {pairs}, {state}: {figure}, at most {percent_text(threshold.value)} "
            "required"
        )
        further = units_to_decide(channel, alpha)
        if further is not None:
            reason += f"; probably about {further:,} further pairs would decide"
        advice = "raise --edge-budget, quiet the machine, or move the threshold"
    else:
        verb = "within" if outcome == "pass" else "above"
        reason = f"{figure}, {verb} the allowed {percent_text(threshold.value)} after {pairs}"
        advice = "choose another recipe or fewer threads, or raise the limit if more is allowed"
    details: dict[str, JSON] = {
        "error_rate": alpha,
        "decided_at": channel.decided_at,
        "below": channel.above,
        "joules": {"baseline": report.baseline_joules, "candidate": report.candidate_joules},
        "idle_watts": report.idle_watts,
        "above_idle_ratio": report.above_idle_ratio,
        "sources": list(samples.method.sources),
        "measured": samples.method.measured,
        "domains": dict(samples.method.domains),
        "update_s": samples.method.update_s,
        "block_s": samples.method.block_s,
        "watts_per_core": samples.method.watts_per_core,
        "unreadable": list(samples.method.unreadable),
    }
    dependent = channel.units >= _SIGNS_FOR_WARNING and channel.effective_share < _INDEPENDENT_SHARE
    if dependent:
        reason += "; successive pairs depend on each other, so the error rate may exceed alpha"
    if not samples.method.measured and outcome != "not_applicable":
        # No test was passed: what was not measured has no error rate.
        del details["error_rate"]
        details["outcome_on_proxy"] = outcome
        shown = f"{figure}; the limit is {percent_text(threshold.value)}"
        if samples.method.watts_per_core is None:
            shown = f"By these figures it would be {outcome}: {reason}"
        reason = f"energy was not measured: {samples.method.not_measured}. {shown}"
        advice = "; ".join(samples.method.unreadable) or (
            "measure where RAPL, NVML or a discharging battery can be read: docs/energy.md"
        )
        outcome = "proxy"
    return make_verdict(
        GATE,
        outcome,
        threshold,
        unit="ratio",
        reason=reason,
        advice=advice,
        observed=report.ratio,
        interval=report.interval,
        confidence=CONFIDENCE,
        samples=samples.pairs,
        details=details,
    )


def energy_report(samples: EnergySamples, carbon: CarbonFactor | None = None) -> EnergyReport:
    """Return the energy per inference of both models, and what it emits.

    Args:
        samples: pairs of blocks, at least one.
        carbon: what a kilowatt-hour emits; ``None`` where no region is set.
    """
    baseline, candidate = joules_per_inference(samples)
    ratio, low, high = median_interval(candidate / baseline, CONFIDENCE)
    each = (float(np.median(baseline)), float(np.median(candidate)))
    grams = [None if carbon is None else grams_per_million(joules, carbon) for joules in each]
    idle = float(np.median(samples.idle_watts)) if len(samples.idle_watts) else None
    return EnergyReport(
        baseline_joules=each[0],
        candidate_joules=each[1],
        ratio=ratio,
        interval=(low, high),
        confidence=CONFIDENCE,
        pairs=samples.pairs,
        method=samples.method,
        idle_watts=idle,
        above_idle_ratio=None if idle is None else _above_idle(samples, idle),
        carbon=carbon,
        baseline_grams_per_million=grams[0],
        candidate_grams_per_million=grams[1],
    )


def grams_per_million(joules: float, carbon: CarbonFactor) -> float:
    """Return the grams of CO2-equivalent of a million inferences of ``joules`` joules each."""
    return joules * MILLION / JOULES_PER_KILOWATT_HOUR * carbon.grams_per_kwh


def _above_idle(samples: EnergySamples, idle_watts: float) -> float | None:
    """Return the median ratio with the idle power subtracted; ``None`` where nothing is left."""
    baseline = samples.baseline_joules - idle_watts * samples.baseline_wall_s
    candidate = samples.candidate_joules - idle_watts * samples.candidate_wall_s
    if (baseline <= 0).any() or (candidate <= 0).any():
        return None
    ratios = (candidate / samples.candidate_calls) / (baseline / samples.baseline_calls)
    return float(np.median(ratios))


def joules_text(joules: float) -> str:
    """Format an energy with three digits: ``1.25 mJ``."""
    # Half a unit of the last digit below a power of ten, so that 999.9 mJ reads 1 J.
    for limit, divisor, unit in ((0.9995e-3, 1e-6, "µJ"), (0.9995, 1e-3, "mJ"), (999.5, 1.0, "J")):
        if joules < limit:
            return f"{joules / divisor:.3g} {unit}"
    return f"{joules / 1e3:.3g} kJ"
