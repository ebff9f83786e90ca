"""The gate ``endurance``: what constant load does to memory, speed, files, threads and heat.

Memory and drift are judged as by ``memory_growth`` and ``latency_drift``, on a longer load. The
verdict is the worst of its parts; each part stands in the details with its own figures.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.judge.drift import judge_latency_drift, shift_interval
from pytest_edgeai.judge.endurance_counts import judge_counts
from pytest_edgeai.judge.endurance_heat import judge_heat
from pytest_edgeai.judge.endurance_parts import ERROR_RATE, Part, handed_rate
from pytest_edgeai.judge.limits import LATENCY_DRIFT_RATIO
from pytest_edgeai.judge.memory_growth import judge_memory_growth
from pytest_edgeai.judge.turns import own_times
from pytest_edgeai.judge.verdict import (
    bytes_text,
    count_text,
    list_text,
    make_verdict,
    ratio_text,
    require_relation,
    threshold_fault,
    worst,
)
from pytest_edgeai.production_records import BurstSamples, EnduranceSamples
from pytest_edgeai.records import JSON, Outcome, StabilitySamples, Threshold, TurnSamples, Verdict

GATE = "endurance"
BACK_RATIO = 1.25
"""After a spike a model is what it was before if it takes at most so many times as long."""

RECOVERY_LIMIT_S = 10.0
LAST_TURNS = 5
"""Turns after a spike that say how fast the model is by then."""

TESTS = 3
"""Parts that rest on a test, each of which may err: memory, drift, spike."""

ABSORBED_BYTES = 131_072
"""What a leak may take before it shows: an allocator first fills what it holds already. Seen: up to
90 kB of a leak of 1 kB every 10 calls."""


def judge_endurance(
    samples: EnduranceSamples,
    threshold: Threshold,
    *,
    recovery_limit_s: float = RECOVERY_LIMIT_S,
    seed: int = 0,
) -> Verdict:
    """Decide whether a candidate holds what it has under constant load and after a spike.

    Args:
        samples: the load.
        threshold: of the memory, relation ``at_most``, bytes per 1,000 calls.
        recovery_limit_s: longest time until the latency is back after the spike.
        seed: of the bootstrap.

    Returns:
        A verdict on the worst part; ``error`` for samples or a threshold that are none.

    Raises:
        ValueError: for a threshold of another relation.
    """
    require_relation(GATE, threshold, "at_most")
    fault = threshold_fault(threshold)
    if fault:
        return make_verdict(
            GATE,
            "error",
            threshold,
            unit="bytes",
            reason=f"not judged: {fault}",
            advice="correct the limit, or measure again",
        )
    memory = judge_load_memory(samples, threshold, seed=seed) if samples.turns.turns else None
    parts = [*_parts(samples, recovery_limit_s)]
    if memory is not None:
        parts.insert(0, _resolved(_part("memory", memory), samples, threshold))
    measured = [part for part in parts if part.outcome is not None]
    missing = [part for part in parts if part.outcome is None]
    outcome = worst(part.outcome for part in measured if part.outcome is not None)
    reason = _reason(measured, outcome)
    if missing:
        reason += "; not measured here: " + "; ".join(part.text for part in missing)
    advice = next((part.advice for part in measured if part.outcome == outcome), "")
    details: dict[str, JSON] = {
        "turns": samples.turns.turns,
        "seconds": samples.seconds,
        "calls": [int(side.calls_before[-1]) for side in _sides(samples.turns)]
        if samples.turns.turns
        else [0, 0],
        "error_rate": TESTS * ERROR_RATE / 2,
        "not_measured": [part.text for part in missing],
        "parts": {
            part.name: {"outcome": part.outcome, "reason": part.text, **part.figures}
            for part in parts
        },
        "restarts": len(samples.starts) - 1,
    }
    return make_verdict(
        GATE,
        outcome,
        threshold,
        unit="bytes",
        reason=reason,
        advice=advice,
        observed=None if memory is None else memory.observed,
        interval=None if memory is None else memory.interval,
        confidence=None if memory is None else memory.confidence,
        samples=samples.turns.turns,
        details=details,
    )


def load_is_decided(samples: EnduranceSamples, threshold: Threshold, *, seed: int = 0) -> bool:
    """Return whether the constant load needs no second look.

    A pass is one. What fails or is undecided is looked at again after twice the turns: a neighbor
    that begins to work in the middle meets the two models unlike, and a pool that grows late has
    stopped by then.
    """
    if samples.died:
        return True
    outcomes = [
        judge_load_memory(samples, threshold, seed=seed).outcome,
        *(part.outcome for part in judge_constant_load(samples)),
    ]
    return all(outcome in ("pass", "not_applicable", "error", None) for outcome in outcomes)


def has_recovered(samples: EnduranceSamples, burst: BurstSamples) -> bool:
    """Return whether the candidate is as fast as before the spike, by the last turns after it."""
    if burst.after.turns < LAST_TURNS:
        return False
    before, after = _spike_ratios(samples.turns, burst.after)
    return _is_back(before, after[-LAST_TURNS:])


def judge_load_memory(samples: EnduranceSamples, threshold: Threshold, *, seed: int = 0) -> Verdict:
    """Judge the memory as :func:`~.memory_growth.judge_memory_growth` does, at this look's rate."""
    return judge_memory_growth(samples.turns, threshold, error_rate=handed_rate(samples), seed=seed)


def _parts(samples: EnduranceSamples, recovery_limit_s: float) -> Sequence[Part]:
    if samples.died:
        died = Part(
            "process",
            "fail",
            f"the candidate's process ended under load: {samples.died}",
            "look at its last output, and at the memory of the machine",
        )
        return (died, *(judge_constant_load(samples) if samples.turns.turns else ()))
    return (*judge_constant_load(samples), _spike(samples, recovery_limit_s))


def judge_constant_load(samples: EnduranceSamples) -> list[Part]:
    """Judge drift, open files, threads and heat, which take no threshold of the user's."""
    return [_drift(samples), *judge_counts(samples), judge_heat(samples)]


def _drift(samples: EnduranceSamples) -> Part:
    limit = Threshold(LATENCY_DRIFT_RATIO, "at_most")
    verdict = judge_latency_drift(samples.turns, limit, error_rate=handed_rate(samples))
    return _part("latency drift", verdict)


def _part(name: str, verdict: Verdict) -> Part:
    figures: dict[str, JSON] = {
        "observed": verdict.observed,
        "interval": verdict.interval,
        "confidence": verdict.confidence,
        **{key: value for key, value in verdict.details.items() if key != "error_rate"},
    }
    advice = verdict.advice.replace("raise --edge-budget", "run it longer: --edge-profile=release")
    return Part(name, verdict.outcome, verdict.reason, advice, figures)


def calls_needed(threshold: Threshold) -> int:
    """Return the calls in which a leak at the threshold shows; 0 where no limit is set."""
    return math.ceil(1000.0 * ABSORBED_BYTES / threshold.value) if threshold.value else 0


def _resolved(part: Part, samples: EnduranceSamples, threshold: Threshold) -> Part:
    """Say which leak would not show in so few calls; a pass needs more."""
    calls = int(samples.turns.candidate.calls_before[-1])
    resolution = 1000.0 * ABSORBED_BYTES / max(calls, 1)
    figures = {**part.figures, "resolution_bytes": resolution}
    limit = threshold.value
    if part.outcome != "pass" or limit is None or resolution <= limit:
        return dataclasses.replace(part, figures=figures)
    text = (
        f"{part.text}; a leak below {bytes_text(round(resolution))} per 1,000 calls would not show "
        f"in {calls:,} calls, one at the limit takes {calls_needed(threshold):,}"
    )
    advice = "run it longer (--edge-budget, endurance_minutes), or raise the limit"
    return dataclasses.replace(
        part, outcome="inconclusive", text=text, advice=advice, figures=figures
    )


def _spike(samples: EnduranceSamples, limit_s: float) -> Part:
    burst = samples.burst
    if burst is None:
        return Part("spike", "inconclusive", "no spike of load was measured")
    before, after = _spike_ratios(samples.turns, burst.after)
    back = [
        index
        for index in range(LAST_TURNS, len(after) + 1)
        if _is_back(before, after[index - LAST_TURNS : index])
    ]
    ratio = math.exp(shift_interval(before, after[-LAST_TURNS:], 0.5)[0])
    figures: dict[str, JSON] = {
        "what": burst.what,
        "streams": burst.streams,
        "calls": burst.calls,
        "seconds": burst.seconds,
        "errors": list(burst.errors),
        "ratio": ratio,
        "recovery_s": float(burst.ended_s[back[0] - 1]) if back else None,
        "ratios_after": np.exp(after - np.median(before)).tolist(),
    }
    text = f"after {burst.what} for {burst.seconds:.1f} s"
    if burst.errors:
        text += f" ({count_text(len(burst.errors), 'stream')} ended early: {burst.errors[0]})"
    advice = "look for what a spike leaves behind: queues, threads, caches, a lower clock"
    if back and float(burst.ended_s[back[0] - 1]) <= max(limit_s, _least_s(burst)):
        seconds = float(burst.ended_s[back[0] - 1])
        return Part(
            "spike", "pass", f"{text} the latency was back within {seconds:.1f} s", "", figures
        )
    _, low, _ = shift_interval(before, after[-8:], ERROR_RATE)
    text += f" the candidate still took {ratio_text(ratio)} as long after {burst.ended_s[-1]:.0f} s"
    if math.exp(low) > BACK_RATIO:
        return Part("spike", "fail", text, advice, figures)
    text += f", which is too noisy to say that it is above {ratio_text(BACK_RATIO)}"
    return Part("spike", "inconclusive", text, "quiet the machine", figures)


def _least_s(burst: BurstSamples) -> float:
    """Return how long the turns took that every model is given."""
    return float(burst.ended_s[min(len(burst.ended_s), 8) - 1])


def _is_back(before: NDArray[np.float64], after: NDArray[np.float64]) -> bool:
    return shift_interval(before, after, 0.5)[0] <= math.log(BACK_RATIO)


def _spike_ratios(
    before: StabilitySamples, after: StabilitySamples
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the logs of candidate over baseline, turn by turn: the last third, and afterwards."""
    third = max(1, before.turns // 3)
    medians = []
    for first, second in zip(_sides(before), _sides(after), strict=True):
        both = own_times(_joined(first, second, third), long=math.inf, least_delay_ns=0.0)
        medians.append(np.log(np.median(both.relative, axis=1)))
    ratios = medians[1] - medians[0]
    return ratios[:third], ratios[third:]


def _joined(before: TurnSamples, after: TurnSamples, last: int) -> TurnSamples:
    """Return the last turns before and all turns after, their times only."""
    cpu_ns = None
    if before.cpu_ns is not None and after.cpu_ns is not None:
        cpu_ns = np.concatenate([before.cpu_ns[-last:], after.cpu_ns])
    return dataclasses.replace(
        before,
        wall_ns=np.concatenate([before.wall_ns[-last:], after.wall_ns]),
        cpu_ns=cpu_ns,
        preemptions=np.concatenate([before.preemptions[-last:], after.preemptions]),
    )


def _sides(samples: StabilitySamples) -> tuple[TurnSamples, TurnSamples]:
    return samples.baseline, samples.candidate


def _reason(parts: Sequence[Part], outcome: Outcome) -> str:
    """Name the parts that decided first, and what the others were in a word."""
    decisive = [f"{part.name}: {part.text}" for part in parts if part.outcome == outcome]
    if outcome == "pass":
        memory = next(part for part in parts if part.name == "memory")
        spike = next((part.text for part in parts if part.name == "spike"), "")
        others = [part.name for part in parts if part.name not in ("memory", "spike")]
        return f"{memory.text}; held as well: {list_text(others)}; {spike}"
    rest = [f"{part.name} {part.outcome}" for part in parts if part.outcome != outcome]
    text = "; ".join(decisive)
    return f"{text} ({', '.join(rest)})" if rest else text
