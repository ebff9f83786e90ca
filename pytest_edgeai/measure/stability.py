"""Run two models in turns for long enough that leaks, drifts and rare stragglers show.

A turn is a burst, as in the latencies of a report: calls that bring the weights back into the
caches, then calls that are judged. Between turns, and never inside a timed call, each worker states
what its process holds.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.errors import MeasurementError
from pytest_edgeai.measure.latency import WARM_UP_SHARE, settled
from pytest_edgeai.measure.lead_in import lead_in_calls
from pytest_edgeai.measure.rounds import Rounds
from pytest_edgeai.measure.taking import run_round
from pytest_edgeai.measure.timed import Timed
from pytest_edgeai.records import PART_TURNS, Int64Array, StabilitySamples, TurnSamples

MOST_CALLS = 50
"""Judged calls of a turn of a fast model: 1,200 in the first part."""

FEWEST_CALLS = 34
"""Judged calls of a turn of a candidate whose calls are long, while the budget allows them: 816 in
the first part, where 804 without a straggler prove a share below 0.4%
(:data:`pytest_edgeai.judge.tail`)."""

FEWEST_BASELINE_CALLS = 7
"""Likewise of the baseline: the median of a turn, and no more, is needed for a pass."""

COMFORT_S = 15.0
"""Models whose first part would take longer are given fewer calls."""


class Watched(Timed, Protocol):
    """A loaded model with one sample bound to it, whose process states what it holds."""

    def memory_now(self) -> tuple[str, int]:
        """Return the name of the definition, and bytes."""
        ...


@dataclass
class Turns:
    """Turns of baseline and candidate, grown turn by turn.

    Attributes:
        rounds: the timed calls; those of all turns follow each other.
        kept: for each model, the judged calls of a turn; empty before the first.
        calls: for each model, the calls behind each reading of the memory.
        memory_bytes: for each model, the readings: one before the first turn, one after each.
        definition: what a reading is.
    """

    rounds: Rounds = field(default_factory=lambda: Rounds.of(2))
    kept: list[int] = field(default_factory=list)
    calls: list[list[int]] = field(default_factory=lambda: [[], []])
    memory_bytes: list[list[int]] = field(default_factory=lambda: [[], []])
    definition: str = ""

    def __len__(self) -> int:
        return len(self.rounds)


def calls_of_a_turn(call_ns: Sequence[float], budget_s: float) -> list[int]:
    """Return the judged calls of a turn of baseline and candidate.

    :data:`MOST_CALLS` of each where the first part then takes no longer than :data:`COMFORT_S`;
    otherwise fewer, the baseline's first of all, but no fewer than a verdict on stragglers takes;
    and where even those exceed the budget, as many as fit into it.

    Args:
        call_ns: duration of a call of baseline and candidate.
        budget_s: longest time of the first part.
    """
    baseline_s, candidate_s = (max(duration, 1.0) / 1e9 for duration in call_ns)
    full_s = PART_TURNS * MOST_CALLS * (baseline_s + candidate_s)
    candidate = MOST_CALLS * min(1.0, COMFORT_S / full_s)
    candidate = max(float(FEWEST_CALLS), candidate)
    left_s = COMFORT_S / PART_TURNS - candidate * candidate_s
    baseline = max(float(FEWEST_BASELINE_CALLS), min(candidate, left_s / baseline_s))
    needed_s = PART_TURNS * (baseline * baseline_s + candidate * candidate_s)
    share = min(1.0, max(0.0, budget_s) / needed_s)
    return [max(1, int(baseline * share)), max(1, int(candidate * share))]


def take_turns(
    baseline: Watched,
    candidate: Watched,
    turns: Turns,
    *,
    decided: Callable[[StabilitySamples], bool],
    budget_s: float,
    generator: random.Random,
    progress: Callable[[int, float], None],
) -> tuple[StabilitySamples, float]:
    """Add turns until the question is decided or the budget is spent; no call is ever dropped.

    The question is asked after :data:`~pytest_edgeai.samples.PART_TURNS` turns, and whenever their
    number has doubled since: each look is a chance to err, and the judges share theirs out over few
    looks.

    Args:
        baseline: the baseline; it is warmed up.
        candidate: likewise.
        turns: what was measured before; grows in place.
        decided: asked after each part.
        budget_s: longest time; a turn that has begun is ended.
        generator: source of the random order.
        progress: called with the turns so far and the seconds spent.

    Returns:
        All turns, and the seconds that those which were added took.

    Raises:
        MeasurementError: the two processes state their memory in different ways.
        EdgeAIError: a worker failed.
    """
    models = (baseline, candidate)
    cpu_time_is_valid = baseline.cpu_time_is_valid and candidate.cpu_time_is_valid
    started = time.monotonic()
    durations = [known.call_ns for known in settled(models, limit_s=WARM_UP_SHARE * budget_s)]
    lead_in = [lead_in_calls(call_ns) for call_ns in durations]
    if not turns.kept:
        turns.kept = calls_of_a_turn(durations, budget_s - (time.monotonic() - started))
    if not len(turns):
        for index, model in enumerate(models):
            _read_memory(turns, index, model, calls=0)
    part = PART_TURNS
    while part <= len(turns):
        part *= 2
    while True:
        run_round(models, lead_in, turns.rounds, generator, 0, turns.kept)
        for index, model in enumerate(models):
            _read_memory(turns, index, model, calls=lead_in[index] + turns.kept[index])
        spent_s = time.monotonic() - started
        progress(len(turns), spent_s)
        if spent_s >= budget_s:
            return samples(turns, cpu_time_is_valid=cpu_time_is_valid), spent_s
        if len(turns) >= part:
            part *= 2
            measured = samples(turns, cpu_time_is_valid=cpu_time_is_valid)
            if decided(measured):
                return measured, spent_s


def _read_memory(turns: Turns, index: int, model: Watched, *, calls: int) -> None:
    definition, held_bytes = model.memory_now()
    if turns.definition and definition != turns.definition:
        raise MeasurementError(
            f"memory was measured in different ways: {turns.definition}, {definition}"
        )
    turns.definition = definition
    before = turns.calls[index]
    before.append((before[-1] if before else 0) + calls)
    turns.memory_bytes[index].append(held_bytes)


def samples(turns: Turns, *, cpu_time_is_valid: bool) -> StabilitySamples:
    """Return turns as a record."""

    def side(index: int) -> TurnSamples:
        def table(values: Sequence[int]) -> Int64Array:
            flat: NDArray[np.int64] = np.asarray(values, dtype=np.int64)
            return flat.reshape(len(turns), turns.kept[index])

        return TurnSamples(
            wall_ns=table(turns.rounds.wall_ns[index]),
            cpu_ns=table(turns.rounds.cpu_ns[index]) if cpu_time_is_valid else None,
            preemptions=table(turns.rounds.preemptions[index]),
            calls_before=np.asarray(turns.calls[index], dtype=np.int64),
            memory_bytes=np.asarray(turns.memory_bytes[index], dtype=np.int64),
        )

    return StabilitySamples(side(0), side(1), turns.definition)
