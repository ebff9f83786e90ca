from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from pytest_edgeai.records import PairedTimings, StabilitySamples, TurnSamples

MakeTimings: TypeAlias = Callable[..., PairedTimings]
Simulate: TypeAlias = Callable[..., PairedTimings]
SimulateTurns: TypeAlias = Callable[..., StabilitySamples]
Cut: TypeAlias = Callable[[StabilitySamples, int], StabilitySamples]


def _make_timings(
    baseline_wall_ns: Any,
    candidate_wall_ns: Any,
    baseline_cpu_ns: Any = None,
    candidate_cpu_ns: Any = None,
    preemptions: int = 0,
) -> PairedTimings:
    def whole(values: Any) -> NDArray[np.int64]:
        return np.asarray(values).astype(np.int64)

    rounds = len(baseline_wall_ns)
    return PairedTimings(
        baseline_wall_ns=whole(baseline_wall_ns),
        candidate_wall_ns=whole(candidate_wall_ns),
        baseline_cpu_ns=None if baseline_cpu_ns is None else whole(baseline_cpu_ns),
        candidate_cpu_ns=None if candidate_cpu_ns is None else whole(candidate_cpu_ns),
        baseline_preemptions=np.full(rounds, preemptions, dtype=np.int64),
        candidate_preemptions=np.full(rounds, preemptions, dtype=np.int64),
        baseline_first=np.arange(rounds) % 2 == 0,
        attempt=np.arange(rounds, dtype=np.int64) // 300,
    )


def _simulate(
    generator: np.random.Generator,
    *,
    rounds: int,
    ratio: float,
    busy: bool,
    candidate_ms: float = 4.0,
) -> PairedTimings:
    """Rounds on a machine whose speed drifts, with heavy tails and, if busy, bursts of contention.

    CPU time: 4 ms for the candidate, ``ratio`` times as much for the baseline; both times a common
    drift (a 10% wave over 400 rounds and an autoregressive part), times lognormal noise of 3%, with
    a tail of up to some 30% on every twentieth call. The median of the CPU ratio is exactly
    ``ratio``. Wall time: CPU time plus waits of 4 ms on average, whose number grows with the
    duration of the call, so that the slower model suffers more. A busy machine is in a burst half
    of the time; a burst lasts 30 rounds on average.
    """
    wave = 0.1 * np.sin(2 * np.pi * np.arange(rounds) / 400 + generator.uniform(0, 2 * np.pi))
    steps = generator.normal(0, 0.01, rounds)
    decay = 0.9 ** np.arange(60)
    drift = np.exp(wave + np.convolve(steps, decay)[:rounds])
    burst = np.zeros(rounds, dtype=bool)
    if busy:
        switches = np.cumsum(generator.random(rounds) < 1 / 30)
        burst = (switches + generator.integers(0, 2)) % 2 == 1
    waits_per_ms = np.where(burst, 0.25, 0.002)

    def call(cost_ms: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        noise = np.exp(generator.normal(0, 0.03, rounds))
        tail = np.where(generator.random(rounds) < 0.05, generator.exponential(0.1, rounds), 0)
        cpu_ms = cost_ms * drift * noise * (1 + tail) * np.where(burst, 1.04, 1.0)
        waits = generator.poisson(waits_per_ms * cpu_ms)
        waited_ms = generator.gamma(np.maximum(waits, 1), 4.0) * (waits > 0)
        return (cpu_ms + waited_ms) * 1e6, cpu_ms * 1e6

    baseline_wall, baseline_cpu = call(candidate_ms * ratio)
    candidate_wall, candidate_cpu = call(candidate_ms)
    return _make_timings(baseline_wall, candidate_wall, baseline_cpu, candidate_cpu)


@pytest.fixture(scope="session")
def make_timings() -> MakeTimings:
    return _make_timings


@pytest.fixture(scope="session")
def simulate() -> Simulate:
    return _simulate


def _simulate_turns(
    generator: np.random.Generator,
    *,
    turns: int = 24,
    calls: int = 50,
    lead_in: int = 14,
    share: float = 0.0,
    idle: bool = False,
    growth: float = 1.0,
    leak_bytes: float = 0.0,
    step_every: int = 1,
    busy: bool = False,
) -> StabilitySamples:
    """Turns of a baseline of 4 ms and a candidate of 1 ms, with what is planted in the candidate.

    Calls have lognormal noise of 3%; each turn of each model has one of its own, 3% on a quiet
    machine and 6% on a busy one. In one turn of 60 on a quiet machine, one of 25 on a busy one, the
    machine stops one to three calls in a row for as long as they take, unseen by the counters. On
    the busy machine 15% of the calls are preempted for 4 ms on average; CPU time does not grow.

    Args:
        generator: source of randomness.
        turns: of each model.
        calls: judged calls of a turn.
        lead_in: calls that lead into a turn; they leak like any other.
        share: of the candidate's calls that take 4 times as long.
        idle: whether those wait instead of computing.
        growth: after 24 turns the candidate takes as many times what its first call took; it goes
            on in a straight line.
        leak_bytes: what every call of the candidate leaks ...
        step_every: ... and after how many turns the process grows by it.
        busy: whether other processes run.
    """
    shape = turns, calls

    def side(cost_ms: float, *, planted: bool) -> TurnSamples:
        own = np.exp(generator.normal(0, 0.06 if busy else 0.03, (turns, 1)))
        cpu_ms = cost_ms * own * np.exp(generator.normal(0, 0.03, shape))
        waits_ms = np.zeros(shape)
        if planted:
            cpu_ms *= 1 + (growth - 1) * np.arange(turns * calls).reshape(shape) / (24 * calls)
            slow = generator.random(shape) < share
            if idle:
                waits_ms += slow * 3 * cpu_ms
            else:
                cpu_ms = np.where(slow, 4 * cpu_ms, cpu_ms)
        for turn in np.flatnonzero(generator.random(turns) < (1 / 25 if busy else 1 / 60)):
            first = int(generator.integers(0, calls))
            waits_ms[turn, first : first + int(generator.integers(1, 4))] += 1.5 * cost_ms
        preempted = generator.random(shape) < (0.15 if busy else 0.01)
        wall_ms = cpu_ms + waits_ms + preempted * generator.exponential(4.0, shape)
        of_a_turn = lead_in + calls
        before = np.arange(turns + 1) * of_a_turn
        pages = generator.integers(0, 2, turns + 1) * 4096
        leaked = (before // (of_a_turn * step_every)) * of_a_turn * step_every * leak_bytes
        held = 40 * 2**20 + pages + (leaked if planted else 0.0)
        held[0] -= 2**20  # pools are filled by the first calls
        return TurnSamples(
            wall_ns=(wall_ms * 1e6).astype(np.int64),
            cpu_ns=(cpu_ms * 1e6).astype(np.int64),
            preemptions=preempted.astype(np.int64),
            calls_before=before.astype(np.int64),
            memory_bytes=held.astype(np.int64),
        )

    return StabilitySamples(side(4.0, planted=False), side(1.0, planted=True), "simulated")


def _cut(samples: StabilitySamples, turns: int) -> StabilitySamples:
    """Return the first ``turns`` turns."""

    def side(whole: TurnSamples) -> TurnSamples:
        return TurnSamples(
            whole.wall_ns[:turns],
            None if whole.cpu_ns is None else whole.cpu_ns[:turns],
            whole.preemptions[:turns],
            whole.calls_before[: turns + 1],
            whole.memory_bytes[: turns + 1],
        )

    return StabilitySamples(
        side(samples.baseline), side(samples.candidate), samples.memory_definition
    )


@pytest.fixture(scope="session")
def simulate_turns() -> SimulateTurns:
    return _simulate_turns


@pytest.fixture(scope="session")
def cut() -> Cut:
    return _cut
