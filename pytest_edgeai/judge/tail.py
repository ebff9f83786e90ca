"""The gate ``latency_tail``: calls that take much longer than the rest, however rare they are."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from pytest_edgeai.judge.turns import (
    OwnTimes,
    clock_text,
    error_rate_of_look,
    limit_or_verdict,
    own_times,
    turns_fault,
)
from pytest_edgeai.judge.verdict import (
    count_text,
    make_verdict,
    require_relation,
)
from pytest_edgeai.records import (
    JSON,
    Outcome,
    StabilitySamples,
    Threshold,
    TurnSamples,
    Verdict,
)

GATE = "latency_tail"
LONG_RATIO = 2.0
"""A straggler takes more than this multiple of the median of its turn ..."""

LEAST_DELAY_NS = 250_000
"""... and is late by this much at least: interrupts, page faults and the housekeeping of the kernel
take 10 to 200 µs here and there, which is many times a call of 20 µs and no fault of the model."""

BUSY_SHARE = 0.02
"""Share of preempted calls from which on a machine counts as busy. Stragglers are then the
machine's for the most part, and it makes them of the two models unlike: the one whose weights fill
the caches finds them emptied after every preemption, its own or not."""

ERROR_RATE = 0.05


@dataclass(frozen=True)
class Stragglers:
    """What one model's calls say about the share of stragglers.

    Attributes:
        count: stragglers seen.
        calls: calls that can be judged.
        waited: further calls that nobody can judge; see :class:`~.turns.OwnTimes`.
        design_effect: by how much their number varies from turn to turn beyond what it would if
            calls were independent; 1 at least.
        low: lower bound of the share.
        high: upper bound.
    """

    count: int
    calls: int
    waited: int
    design_effect: float
    low: float
    high: float

    @property
    def share(self) -> float:
        """Observed share."""
        return self.count / self.calls if self.calls else 0.0


def judge_latency_tail(
    samples: StabilitySamples, threshold: Threshold, *, error_rate: float = ERROR_RATE
) -> Verdict:
    """Decide whether the candidate has more stragglers than the baseline by less than a limit.

    A straggler takes more than twice the median of its own turn (:data:`LONG_RATIO`,
    :data:`LEAST_DELAY_NS`), so that a machine that is slow for a while makes none. What is judged
    is the excess, the candidate's share of stragglers less the baseline's: it passes if its upper
    bound is at most the threshold, and fails if its lower bound is above. On a busy machine
    (:data:`BUSY_SHARE`) the difference is not trusted as far: a pass takes that the candidate's own
    share is bounded so, and nothing fails where the baseline's is above the threshold as well.

    The bounds of each share are exact (Clopper and Pearson 1934), on the number of calls that so
    many dependent ones are worth (Rao and Scott 1992), and are combined to those of the difference
    by the square-and-add method (Newcombe 1998, MOVER). Without a straggler on either side that is
    the rule of MLPerf LoadGen's early stopping: n calls prove a share below p if (1 - p)^n is at
    most the error rate.

    Args:
        samples: the turns.
        threshold: relation ``at_most``, unit share.
        error_rate: of a pass, and of a failure, of a candidate exactly at the threshold; shared out
            over the looks (:func:`~.turns.error_rate_of_look`).

    Returns:
        A verdict; ``error`` for times that are not positive or a threshold that is none,
        ``not_applicable`` without a threshold.

    Raises:
        ValueError: for a threshold of another relation.
    """
    require_relation(GATE, threshold, "at_most")
    limit = limit_or_verdict(GATE, samples, threshold, turns_fault(samples), unit="share")
    if isinstance(limit, Verdict):
        return limit
    alpha = error_rate_of_look(samples.turns, error_rate)
    times = _own(samples.baseline), _own(samples.candidate)
    baseline, candidate = (stragglers(side, alpha) for side in times)
    excess = candidate.share - baseline.share
    low, high = difference_bounds(candidate, baseline)
    exposure_ratio = np.median(samples.candidate.wall_ns) / np.median(samples.baseline.wall_ns)
    beyond = excess_over_the_machine(*times, float(exposure_ratio), alpha)
    preempted = sum(side.preempted for side in times) / sum(side.relative.size for side in times)
    busy = preempted >= BUSY_SHARE
    if busy:
        high = max(high, candidate.high)
    seen = (
        f"{candidate.count} of {count_text(candidate.calls, 'call')} took more than "
        f"{LONG_RATIO:g} times the median, {baseline.count} of {baseline.calls:,} of the "
        f"baseline's ({clock_text(*times)})"
    )
    if baseline.waited + candidate.waited:
        seen += (
            f"; {count_text(baseline.waited + candidate.waited, 'call')} that other processes "
            "kept waiting are not counted"
        )
    if busy and baseline.count:
        seen += "; the machine was busy, so that the baseline's excuse none of the candidate's"
    figure = f"the excess is {_share_text(excess)}, at most {_share_text(high)}; {seen}"
    outcome: Outcome
    advice = ""
    if high <= limit:
        outcome, reason = "pass", figure
    elif low > limit and not (busy and baseline.low > limit) and beyond > limit:
        outcome = "fail"
        reason = f"the excess is {_share_text(excess)}, at least {_share_text(low)}; {seen}"
        advice = "look for rare pauses of the candidate: allocation, locks, caches that are emptied"
    else:
        needed = calls_needed(limit, alpha, candidate)
        outcome = "inconclusive"
        reason = f"{figure}; about {needed:,} calls are needed"
        spent_s = float(samples.baseline.wall_ns.sum() + samples.candidate.wall_ns.sum()) / 1e9
        needed_s = math.ceil(1.2 * spent_s * needed / max(candidate.calls, 1))
        advice = f"raise --edge-budget, to about {needed_s:,} s, or quiet the machine"
        if low > limit >= beyond:
            reason = (
                f"{figure}; the baseline was delayed by as much about as often in the same time, "
                "so that they may be the machine's"
            )
            advice = "quiet the machine, or measure on another one"
        elif candidate.share - baseline.share >= limit:
            advice = "look for rare pauses of the candidate; raise --edge-budget to be sure"
    details: dict[str, JSON] = {
        "turns": samples.turns,
        "clock": [side.clock for side in times],
        "preempted_share": preempted,
        "error_rate": error_rate,
        "excess_over_the_machine": beyond,
        "baseline": _figures(baseline),
        "candidate": _figures(candidate),
    }
    return make_verdict(
        GATE,
        outcome,
        threshold,
        unit="share",
        reason=reason,
        advice=advice,
        observed=excess,
        interval=(low, high),
        confidence=1 - 2 * alpha,
        samples=candidate.calls,
        details=details,
    )


def stragglers(
    times: OwnTimes,
    alpha: float,
    *,
    long: float = LONG_RATIO,
    least_delay_ns: float = LEAST_DELAY_NS,
) -> Stragglers:
    """Count stragglers; the bounds of their share are one-sided at ``alpha`` each.

    Calls of one turn share their disturbances. The variance of the counts of the turns over that of
    independent calls is the design effect, by which both the count and the calls are divided before
    the exact bounds are taken (Rao and Scott 1992, "A simple method for the analysis of clustered
    binary data").

    Args:
        times: of all calls of a model.
        alpha: of each bound.
        long: a straggler takes more than this multiple of the median ...
        least_delay_ns: ... and is late by this much at least.
    """
    known = ~times.waited
    is_straggler = known & (times.relative > long) & (times.delay_ns >= least_delay_ns)
    per_turn = is_straggler.sum(axis=1).astype(np.float64)
    calls_per_turn = known.sum(axis=1).astype(np.float64)
    count, calls = int(per_turn.sum()), int(calls_per_turn.sum())
    effect = 1.0
    if count > 1 and calls > count and len(per_turn) > 1:
        share = count / calls
        turns = len(per_turn)
        spread = float(((per_turn - share * calls_per_turn) ** 2).sum()) * turns / (turns - 1)
        effect = max(1.0, spread / (calls * share * (1 - share)))
    low, high = exact_bounds(count / effect, calls / effect, alpha)
    return Stragglers(count, calls, int(times.waited.sum()), effect, low, high)


def exact_bounds(count: float, trials: float, alpha: float) -> tuple[float, float]:
    """Bounds of a share, one-sided at ``alpha`` each, for counts that need not be whole.

    Clopper and Pearson (1934) by the beta distribution; 0 and 1 where nothing is known.
    """
    if trials <= 0:
        return 0.0, 1.0
    low = special.betaincinv(count, trials - count + 1, alpha) if count > 0 else 0.0
    high = special.betaincinv(count + 1, trials - count, 1 - alpha) if count < trials else 1.0
    return float(low), float(high)


def difference_bounds(
    candidate: Stragglers, baseline: Stragglers, exposure_ratio: float = 1.0
) -> tuple[float, float]:
    """Bounds of the candidate's share less the baseline's (Newcombe 1998, Statistics in Medicine).

    Each bound of the difference is as far from it as the two bounds that pull that way are
    together, by Pythagoras: independent errors rarely come both at once.

    Args:
        candidate: its stragglers.
        baseline: likewise.
        exposure_ratio: what the baseline's share is multiplied by.
    """
    share, lowest, highest = (
        exposure_ratio * each for each in (baseline.share, baseline.low, baseline.high)
    )
    excess = candidate.share - share
    below = math.hypot(candidate.share - candidate.low, highest - share)
    above = math.hypot(candidate.high - candidate.share, share - lowest)
    return max(-1.0, excess - below), min(1.0, excess + above)


def excess_over_the_machine(
    baseline: OwnTimes, candidate: OwnTimes, exposure_ratio: float, alpha: float
) -> float:
    """Lower bound of the candidate's share of stragglers beyond what the machine makes of it.

    A machine that stops or slows a process for half a millisecond doubles a call of that length and
    is lost in one of ten, so that the candidate alone, being faster, has stragglers. It does so to
    both models alike in the same *time*, however: delays of at least some length are compared per
    second of calls. Of lengths from :data:`LEAST_DELAY_NS` on, each twice the one before, the one
    that speaks most against the candidate counts; a model's own pauses of 3 ms are none that a
    machine makes which delays by half a millisecond.

    Args:
        baseline: times of its calls; all of those count that are late by some length, long or not.
        candidate: likewise; those that are stragglers count.
        exposure_ratio: duration of a call of the candidate over that of one of the baseline.
        alpha: of each share's bound.

    Returns:
        The largest of the bounds; -1 where the candidate has no straggler.
    """
    late = candidate.delay_ns[~candidate.waited & (candidate.relative > LONG_RATIO)]
    longest_ns = float(late.max(initial=0.0))
    beyond = -1.0
    delay_ns = float(LEAST_DELAY_NS)
    while delay_ns <= longest_ns:
        own = stragglers(candidate, alpha, least_delay_ns=delay_ns)
        machine = stragglers(baseline, alpha, long=1.0, least_delay_ns=delay_ns)
        beyond = max(beyond, difference_bounds(own, machine, exposure_ratio)[0])
        delay_ns *= 2
    return beyond


def calls_needed(limit: float, alpha: float, candidate: Stragglers) -> int:
    """Fewest calls of the candidate with which so few stragglers would pass.

    The smallest n at which an upper bound from the observed count lies at or below the limit, as
    LoadGen's early stopping asks for; at the observed share where that is what keeps a pass away.
    """
    count = candidate.count / candidate.design_effect
    low, high = candidate.calls, max(2, 2 * candidate.calls)
    if limit >= 1:
        return low + 1

    def enough(calls: int) -> bool:
        return exact_bounds(count, calls / candidate.design_effect, alpha)[1] <= limit

    while not enough(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _own(side: TurnSamples) -> OwnTimes:
    return own_times(side, long=LONG_RATIO, least_delay_ns=LEAST_DELAY_NS, by_turn=True)


def _share_text(value: float) -> str:
    # Less than half of the last digit below zero is zero, without a sign.
    return f"{round(100 * value, 2) + 0.0:.2f}%"


def _figures(side: Stragglers) -> dict[str, JSON]:
    return {
        "stragglers": side.count,
        "calls": side.calls,
        "waited": side.waited,
        "design_effect": side.design_effect,
        "interval": [side.low, side.high],
    }
