"""The gate ``memory_growth``: whether the candidate holds more memory the longer it runs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.judge.turns import error_rate_of_look, limit_or_verdict
from pytest_edgeai.judge.verdict import (
    bytes_text,
    count_text,
    make_verdict,
    require_relation,
)
from pytest_edgeai.records import JSON, Outcome, StabilitySamples, Threshold, TurnSamples, Verdict

GATE = "memory_growth"
PER_CALLS = 1000
ERROR_RATE = 0.05
RESAMPLES = 2000
_CHUNK_ELEMENTS = 2_000_000


@dataclass(frozen=True)
class Growth:
    """How fast one model's process grows, in bytes per 1,000 calls.

    Attributes:
        settled_turn: turns that do not count.
        calls: calls that do.
        per_1000_calls: growth over the turns that count.
        resampled: the same of bootstrap resamples of those turns, shape ``(resamples,)``.
    """

    settled_turn: int
    calls: int
    per_1000_calls: float
    resampled: NDArray[np.float64]


def judge_memory_growth(
    samples: StabilitySamples,
    threshold: Threshold,
    *,
    error_rate: float = ERROR_RATE,
    seed: int = 0,
) -> Verdict:
    """Decide whether the candidate's process grows more slowly than a limit.

    What is judged is the growth per 1,000 calls after the beginning (:func:`growth`), less the
    baseline's own where that grows too. It passes if the upper bound of a bootstrap over turns is
    at most the threshold (Efron and Tibshirani 1993), and fails if the lower bound is above.

    Args:
        samples: the turns.
        threshold: relation ``at_most``, unit bytes per 1,000 calls.
        error_rate: of the two-sided interval; shared out over the looks
            (:func:`~.turns.error_rate_of_look`).
        seed: of the bootstrap.

    Returns:
        A verdict; ``error`` for readings that are none or a threshold that is none,
        ``not_applicable`` without a threshold.

    Raises:
        ValueError: for a threshold of another relation.
    """
    require_relation(GATE, threshold, "at_most")
    limit = limit_or_verdict(GATE, samples, threshold, _fault(samples), unit="bytes")
    if isinstance(limit, Verdict):
        return limit
    alpha = error_rate_of_look(samples.turns, error_rate)
    generator = np.random.default_rng(seed)
    baseline, candidate = (
        growth(side, generator) for side in (samples.baseline, samples.candidate)
    )
    observed = candidate.per_1000_calls - max(0.0, baseline.per_1000_calls)
    resampled = candidate.resampled - np.maximum(0.0, baseline.resampled)
    low, high = (float(q) for q in np.quantile(resampled, [alpha / 2, 1 - alpha / 2]))
    low, high = min(low, observed), max(high, observed)
    figure = (
        f"{_bytes_text(observed)} per {PER_CALLS:,} calls ({100 * (1 - alpha):.3g}% interval "
        f"{_bytes_text(low)} to {_bytes_text(high)}): the process grew by "
        f"{_bytes_text(_grown(samples.candidate, candidate))} in {candidate.calls:,} calls, the "
        f"baseline's by {_bytes_text(_grown(samples.baseline, baseline))} in {baseline.calls:,}"
    )
    if candidate.settled_turn:
        figure += f"; its first {count_text(candidate.settled_turn, 'turn')} do not count"
    outcome: Outcome = "inconclusive"
    advice = "raise --edge-budget"
    if high <= limit:
        outcome = "pass"
    elif low > limit:
        outcome = "fail"
        advice = "look for what every call keeps: outputs, requests, sessions, cached shapes"
    details: dict[str, JSON] = {
        "definition": samples.memory_definition,
        "turns": samples.turns,
        "error_rate": error_rate / 2,
        "baseline": _figures(samples.baseline, baseline),
        "candidate": _figures(samples.candidate, candidate),
    }
    return make_verdict(
        GATE,
        outcome,
        threshold,
        unit="bytes",
        reason=figure,
        advice=advice,
        observed=observed,
        interval=(low, high),
        confidence=1 - alpha,
        samples=samples.turns,
        details=details,
    )


def growth(side: TurnSamples, generator: np.random.Generator) -> Growth:
    """Return how fast a process grows once its beginning is over.

    The beginning ends where what follows grows most slowly: of all turns of the first half, the one
    from which on the growth per call is the least, the first of them where several are equal. An
    allocator that fills its pools is thus left out, as far as it does so in the first half; a leak
    grows after any turn. At least half of the turns count.

    The turns' increments are resampled, each with its calls: growth in rare large steps, as of a
    pool that is enlarged, then has a wide interval, and growth by the same amount in every turn
    has none.
    """
    calls = side.calls_before.astype(np.float64)
    held = side.memory_bytes.astype(np.float64)
    turns = len(held) - 1
    starts = np.arange(turns // 2 + 1)
    rates = (held[-1] - held[starts]) / (calls[-1] - calls[starts])
    start = int(np.argmin(rates))
    increments, counted = np.diff(held[start:]), np.diff(calls[start:])
    number = len(increments)
    chunk = max(1, _CHUNK_ELEMENTS // number)
    parts = []
    for first in range(0, RESAMPLES, chunk):
        index = generator.integers(0, number, size=(min(chunk, RESAMPLES - first), number))
        parts.append(increments[index].sum(axis=1) / counted[index].sum(axis=1))
    return Growth(
        settled_turn=start,
        calls=int(counted.sum()),
        per_1000_calls=float(PER_CALLS * rates[start]),
        resampled=PER_CALLS * np.concatenate(parts),
    )


def _fault(samples: StabilitySamples) -> str:
    """Return why readings cannot be judged, or an empty string."""
    for name, side in (("baseline", samples.baseline), ("candidate", samples.candidate)):
        readings = samples.turns + 1
        if side.memory_bytes.shape != (readings,) or side.calls_before.shape != (readings,):
            return f"the {name}'s memory was read {side.memory_bytes.size} times, not {readings}"
        if not (side.memory_bytes > 0).all():
            return f"a reading of the {name}'s memory is not above 0"
        if not (np.diff(side.calls_before) > 0).all():
            return f"a turn of the {name} has no call"
    return ""


def _grown(side: TurnSamples, found: Growth) -> float:
    return float(side.memory_bytes[-1] - side.memory_bytes[found.settled_turn])


def _bytes_text(value: float) -> str:
    return bytes_text(round(value))


def _figures(side: TurnSamples, found: Growth) -> dict[str, JSON]:
    return {
        "settled_turn": found.settled_turn,
        "calls": found.calls,
        "bytes_per_1000_calls": found.per_1000_calls,
        "first_bytes": int(side.memory_bytes[0]),
        "last_bytes": int(side.memory_bytes[-1]),
    }
