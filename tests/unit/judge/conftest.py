from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from pytest_edgeai.records import PairedTimings

MakeTimings: TypeAlias = Callable[..., PairedTimings]
Simulate: TypeAlias = Callable[..., PairedTimings]


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
