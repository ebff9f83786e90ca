"""The gate ``speedup``: a sequential test on wall and CPU time that stops as soon as it knows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.judge.clocks import with_moving_clocks
from pytest_edgeai.judge.procedure import Mode, Procedure, procedure_of
from pytest_edgeai.judge.statistics import (
    Channel,
    FloatArray,
    block_minima,
    median_interval,
    sign_channel,
    units_to_decide,
)
from pytest_edgeai.judge.timings import (
    conduct_details,
    conduct_text,
    has_cpu_times,
    is_contended,
    latency_details,
    timings_fault,
)
from pytest_edgeai.judge.verdict import (
    count_text,
    make_verdict,
    ratio_text,
    require_relation,
    threshold_fault,
)
from pytest_edgeai.records import JSON, Outcome, PairedTimings, Threshold, Verdict

GATE = "speedup"
CONFIDENCE = 0.95
RESOLUTION_RATIO = 0.03
"""Differences below 3% are not resolvable between processes (the median ratio of the same pair of
models varies by 0.9% from process to process)."""

_INDEPENDENT_SHARE = 0.6
_SIGNS_FOR_WARNING = 30

_CHANNEL_WORDS = {"wall": "wall time", "cpu": "CPU time", "starts": "process starts"}


def _channels(
    timings: PairedTimings, ratio: float, alpha: float, procedure: Procedure
) -> dict[str, Channel]:
    """The channels that the timings carry, and that the procedure looks at.

    ``wall`` (minima of blocks) and ``cpu`` (single rounds), or ``starts`` (medians of wall time of
    each pair of processes).
    """
    if procedure.deciding == "starts":
        return {"starts": sign_channel(start_ratios(timings, procedure.block) > ratio, alpha)}
    baseline = block_minima(timings.baseline_wall_ns, procedure.block)
    candidate = block_minima(timings.candidate_wall_ns, procedure.block)
    channels = {"wall": sign_channel(baseline > ratio * candidate, alpha)}
    if procedure.deciding != "wall" and has_cpu_times(timings):
        above = np.asarray(timings.baseline_cpu_ns > ratio * timings.candidate_cpu_ns)  # type: ignore[operator]
        channels["cpu"] = sign_channel(above, alpha)
    return channels


def start_ratios(timings: PairedTimings, fewest_rounds: int) -> FloatArray:
    """Ratio of the medians of wall time, baseline over candidate, of each pair of processes.

    A pair with fewer than ``fewest_rounds`` rounds is not complete and left out. Shape
    ``(pairs,)``, in the order of measuring.
    """
    ratios = []
    for attempt in dict.fromkeys(timings.attempt.tolist()):
        rounds = timings.attempt == attempt
        if np.count_nonzero(rounds) >= fewest_rounds:
            baseline = np.median(timings.baseline_wall_ns[rounds])
            ratios.append(float(baseline / np.median(timings.candidate_wall_ns[rounds])))
    return np.asarray(ratios, dtype=np.float64)


def _deciding(channels: dict[str, Channel], procedure: Procedure) -> dict[str, Channel]:
    """The channels whose decisions make the verdict, and must not contradict each other."""
    if procedure.deciding == "cpu":
        return {"cpu": channels["cpu"]}
    if procedure.deciding == "cpu-unless-contradicted" and (
        channels["wall"].decision == "undecided"
    ):
        return {"cpu": channels["cpu"]}
    return channels


def speed_decided(
    timings: PairedTimings,
    threshold: Threshold,
    *,
    alpha: float = 0.01,
    block: int = 5,
    min_rounds: int = 30,
    mode: Mode = "agree",
    threads: int = 1,
) -> bool:
    """Whether further rounds cannot change the verdict, so that the sampler may stop.

    True as soon as every deciding channel has crossed its bound, also where they contradict each
    other: a channel's first crossing is final. True as well where the timings cannot be judged,
    and, without a threshold, once there are ``min_rounds``.
    """
    timings = with_moving_clocks(timings)
    if threshold_fault(threshold) or timings_fault(timings, cpu=mode != "wall-only"):
        return True
    if timings.rounds < min_rounds or threshold.value is None:
        return timings.rounds >= min_rounds
    procedure = procedure_of(
        timings, threads=threads, clock=mode, block=block, min_rounds=min_rounds
    )
    if timings.rounds < procedure.min_rounds:
        return False
    channels = _deciding(_channels(timings, threshold.value, alpha, procedure), procedure)
    return all(channel.decision != "undecided" for channel in channels.values())


def judge_speed(
    timings: PairedTimings,
    threshold: Threshold,
    *,
    alpha: float = 0.01,
    block: int = 5,
    min_rounds: int = 30,
    budget_spent: bool,
    mode: Mode = "agree",
    gate: str = GATE,
    threads: int = 1,
) -> Verdict:
    """Decide whether the candidate is at least ``threshold`` times as fast as the baseline.

    Each channel compares baseline with threshold x candidate and decides at the first crossing of
    1/alpha by the evidence of its signs (`statistics.sign_log_evidence`): wall time by the minima
    of blocks of rounds, CPU time by single rounds. Passing or failing takes the agreement of both;
    other settings hold for long calls, several threads and devices without CPU times
    (`procedure.choose`). May be called after every round; looking often costs nothing.

    Args:
        timings: interleaved rounds, in the order of measuring.
        threshold: relation ``at_least``, unit ratio.
        alpha: bound on the probability of a wrong decision, for each channel.
        block: rounds in a block of the wall channel.
        min_rounds: rounds below which nothing is decided.
        budget_spent: whether sampling has ended; only the wording depends on it.
        mode: ``agree``; ``cpu-led`` lets CPU time decide alone (single-threaded CPU backends on a
            busy machine); ``wall-only`` for devices without a valid CPU time. Without CPU times the
            wall channel decides alone in every mode.
        gate: the gate that the verdict is for.
        threads: threads of one operator on both sides; 0 where the runtimes choose.

    Returns:
        A verdict; ``observed`` is the median ratio of block minima (of CPU rounds if CPU-led), with
        its order-statistics interval at 95%. ``error`` for times or thresholds that are not
        positive and finite, ``not_applicable`` without a threshold.

    Raises:
        ValueError: for a threshold of another relation, an alpha outside (0, 1), a block below 1.
    """
    require_relation(gate, threshold, "at_least")
    if not 0 < alpha < 1 or block < 1:
        raise ValueError(f"alpha must lie in (0, 1) and block be at least 1: {alpha}, {block}")
    timings = with_moving_clocks(timings)
    fault = threshold_fault(threshold) or timings_fault(timings, cpu=mode != "wall-only")
    if fault:
        advice = "measure again; where the CPU clock is too coarse, judge by wall time only"
        return make_verdict(
            gate, "error", threshold, unit="ratio", reason=f"not judged: {fault}", advice=advice
        )
    limit = 1.0 if threshold.value is None else threshold.value
    procedure = procedure_of(
        timings, threads=threads, clock=mode, block=block, min_rounds=min_rounds
    )
    channels = _channels(timings, limit, alpha, procedure)
    deciding = _deciding(channels, procedure)
    observed, low, high = _ratio(timings, procedure)
    details = _details(timings, channels, deciding, mode) | {
        "error_rate": alpha,
        "procedure": procedure.details(),
    }
    outcome: Outcome = "inconclusive"
    decisions = {channel.decision for channel in deciding.values()}
    if threshold.value is None:
        outcome = "not_applicable"
    elif (
        timings.rounds >= procedure.min_rounds
        and len(decisions) == 1
        and "undecided" not in decisions
    ):
        outcome = "pass" if decisions == {"pass"} else "fail"

    figure = "no complete block of rounds yet"
    if observed is not None:
        figure = f"{ratio_text(observed)} the baseline's speed"
        if low is not None and high is not None:
            figure += f" (95% interval {ratio_text(low)} to {ratio_text(high)})"
    rounds = count_text(timings.rounds, "round")
    clocks = _clocks_text(procedure, deciding, mode)
    advice = ""
    if outcome == "not_applicable":
        reason = f"{figure}; no threshold is set"
    elif outcome == "inconclusive":
        reason, advice = _undecided(
            timings, limit, observed, figure, deciding, procedure, alpha, budget_spent
        )
        details["further_rounds"] = _further_rounds(deciding, procedure.block, alpha)
    else:
        verb = "reaches" if outcome == "pass" else "misses"
        reason = f"{figure}, {verb} the required {ratio_text(limit)} after {rounds}, by {clocks}"
        advice = "choose another recipe or target, or lower the threshold if less is enough"
    if details["signs_dependent"]:
        reason += "; successive rounds depend on each other, so the error rate may exceed alpha"
    reason += conduct_text(timings)
    return make_verdict(
        gate,
        outcome,
        threshold,
        unit="ratio",
        reason=reason,
        advice=advice,
        observed=observed,
        interval=None if observed is None else (low, high),
        confidence=None if observed is None else CONFIDENCE,
        samples=timings.rounds,
        details=details,
    )


def _ratio(
    timings: PairedTimings, procedure: Procedure
) -> tuple[float | None, float | None, float | None]:
    """Median ratio and its interval, on the units of the channel that leads."""
    baseline: NDArray[Any] | None = timings.baseline_cpu_ns
    candidate: NDArray[Any] | None = timings.candidate_cpu_ns
    leads = procedure.deciding in ("cpu", "cpu-unless-contradicted")
    if procedure.deciding == "starts":
        ratios = start_ratios(timings, procedure.block)
    elif leads and baseline is not None and candidate is not None:
        ratios = baseline / candidate
    else:
        ratios = block_minima(timings.baseline_wall_ns, procedure.block) / block_minima(
            timings.candidate_wall_ns, procedure.block
        )
    if len(ratios) == 0:
        return None, None, None
    return median_interval(ratios, CONFIDENCE)


def _details(
    timings: PairedTimings, channels: dict[str, Channel], deciding: dict[str, Channel], mode: Mode
) -> dict[str, JSON]:
    details: dict[str, JSON] = {
        "rounds": timings.rounds,
        "mode": mode,
        "contended": is_contended(timings),
        "channels": {
            name: {
                "decision": channel.decision,
                "decides": name in deciding,
                "units": channel.units,
                "above": channel.above,
                "decided_at": channel.decided_at,
                "effective_share": channel.effective_share,
            }
            for name, channel in channels.items()
        },
        "signs_dependent": any(
            channel.units >= _SIGNS_FOR_WARNING and channel.effective_share < _INDEPENDENT_SHARE
            for channel in deciding.values()
        ),
        "cpu_ratio": None,
    }
    if timings.rounds and "cpu" in channels:
        cpu_ratios = timings.baseline_cpu_ns / timings.candidate_cpu_ns  # type: ignore[operator]
        details["cpu_ratio"] = float(np.median(cpu_ratios))
    return details | conduct_details(timings) | latency_details(timings)


def _clocks_text(procedure: Procedure, deciding: dict[str, Channel], mode: Mode) -> str:
    if procedure.deciding == "starts":
        return f"wall time of {deciding['starts'].units} pairs of processes"
    if procedure.deciding == "cpu":
        return "CPU time alone (cpu-led)"
    if len(deciding) == 2:
        return "wall and CPU time alike"
    if "cpu" in deciding:
        return "CPU time, which wall time does not contradict (calls of 15 ms and more)"
    return (
        "wall time alone" if mode == "wall-only" else "wall time alone (no CPU time is valid here)"
    )


def _further_rounds(deciding: dict[str, Channel], block: int, alpha: float) -> int | None:
    """Forecast of the rounds still needed; ``None`` where no practical number would do."""
    needed = 0
    for name, channel in deciding.items():
        units = units_to_decide(channel, alpha)
        if units is None:
            return None
        needed = max(needed, units * (1 if name == "cpu" else block))
    return needed


def _undecided(
    timings: PairedTimings,
    limit: float,
    observed: float | None,
    figure: str,
    deciding: dict[str, Channel],
    procedure: Procedure,
    alpha: float,
    budget_spent: bool,
) -> tuple[str, str]:
    """Reason and advice where no verdict has been reached."""
    words = {"pass": "says faster", "fail": "says slower", "undecided": "is undecided"}
    said = ", ".join(f"{_CHANNEL_WORDS[name]} {words[c.decision]}" for name, c in deciding.items())
    state = "the budget is used up" if budget_spent else "sampling goes on"
    reason = (
        f"undecided after {count_text(timings.rounds, 'round')}, {state}: {figure}, "
        f"{ratio_text(limit)} required; {said}"
    )
    if len(deciding) == 1 and "wall" in deciding:
        reason += "; there is no CPU time to compare with"
    if "starts" in deciding:
        reason += (
            f"; with several threads each of the {deciding['starts'].units} starts of both "
            "processes counts once"
        )
    if {c.decision for c in deciding.values()} == {"pass", "fail"}:
        return reason, (
            "wall and CPU time contradict each other: use one thread on both sides, quiet the "
            "machine, and measure again"
        )
    if timings.rounds < procedure.min_rounds:
        needed = f"{reason}; at least {procedure.min_rounds} rounds are needed"
        return needed, "raise --edge-budget"
    further = _further_rounds(deciding, procedure.block, alpha)
    if further is None:
        reason += "; no practical number of further rounds would decide"
    elif further:
        reason += f"; probably about {further:,} further rounds would decide"
    if is_contended(timings):
        return reason, (
            "other processes disturb the measurement: quiet the machine, raise --edge-budget, or "
            "judge a single-threaded CPU backend by CPU time (--edge-clock=cpu-led)"
        )
    if observed is not None and abs(observed / limit - 1) < RESOLUTION_RATIO:
        return reason, (
            "the ratio lies within 3% of the threshold, closer than processes can be told apart: "
            "move the threshold or improve the candidate"
        )
    if "starts" in deciding:
        return reason, "measure with one thread on both sides, or raise --edge-budget"
    return reason, "raise --edge-budget"
