from __future__ import annotations

import random
from dataclasses import dataclass, field

import numpy as np
import pytest

from pytest_edgeai.measure.duration import REQUEST_NS, START_S, rounds_seconds, turns_seconds
from pytest_edgeai.measure.latency import interleave
from pytest_edgeai.measure.rounds import Rounds
from pytest_edgeai.measure.stability import Turns, calls_of_a_turn, take_turns
from pytest_edgeai.measure.timed import CallTimes
from pytest_edgeai.measure.waiting import Clock


@dataclass
class Elapsed:
    """Time that only models and sleeping spend."""

    ns: float = 0.0

    def now_s(self) -> float:
        return self.ns / 1e9

    def sleep(self, seconds: float) -> None:
        self.ns += seconds * 1e9


@dataclass
class Steady:
    """A model whose calls all take the same, and nothing else."""

    clock: Elapsed
    call_ns: int
    cpu_time_is_valid: bool = True
    turns: list[int] = field(default_factory=list)

    def run_on(self, core: int | None) -> bool:
        return False

    def time_calls(self, calls: int) -> CallTimes:
        self.turns.append(calls)
        self.clock.ns += REQUEST_NS + calls * self.call_ns
        each = np.full(calls, self.call_ns, dtype=np.int64)
        return CallTimes(each, each, np.zeros(calls, dtype=np.int64))


@pytest.mark.parametrize(
    "calls_ns", [(100_000, 50_000), (5_000_000, 2_000_000), (200_000_000,) * 2]
)
@pytest.mark.parametrize("rounds", [45, 85, 700])
def test_it_is_what_interleaving_takes(calls_ns: tuple[int, int], rounds: int) -> None:
    clock = Elapsed()
    models = [Steady(clock, call_ns) for call_ns in calls_ns]
    budget_s = 10_000.0
    measured, spent = interleave(
        models[0],
        models[1],
        Rounds.of(2),
        decided=lambda timings: timings.rounds >= rounds,
        is_contended=lambda timings: False,
        budget_s=budget_s,
        generator=random.Random(0),
        progress=lambda count, seconds: None,
        clock=Clock(clock.now_s, clock.sleep),
    )
    assert not spent
    # Interleaving looks every few rounds only.
    expected = rounds_seconds(measured.rounds, calls_ns, budget_s=budget_s)
    assert clock.now_s() == pytest.approx(expected, rel=0.05)


class Watched(Steady):
    """A model whose process is asked for its memory as well."""

    def memory_now(self) -> tuple[str, int]:
        self.clock.ns += REQUEST_NS
        return "nothing", 0


@pytest.mark.parametrize("calls_ns", [(100_000, 50_000), (5_000_000, 2_000_000)])
def test_it_is_what_a_longer_run_takes(calls_ns: tuple[int, int]) -> None:
    clock = Elapsed()
    baseline, candidate = (Watched(clock, call_ns) for call_ns in calls_ns)
    budget_s = 10_000.0
    measured, _ = take_turns(
        baseline,
        candidate,
        Turns(),
        decided=lambda samples: True,
        budget_s=budget_s,
        generator=random.Random(0),
        progress=lambda count, seconds: None,
    )
    kept = calls_of_a_turn(calls_ns, budget_s)
    expected = turns_seconds(measured.turns, kept, calls_ns, budget_s=budget_s)
    assert clock.now_s() == pytest.approx(expected, rel=0.05)


def test_a_small_budget_shortens_the_warm_up() -> None:
    calls_ns = (20_000_000.0, 20_000_000.0)
    assert rounds_seconds(45, calls_ns, budget_s=1.0) < rounds_seconds(45, calls_ns, budget_s=60.0)


def test_every_pair_of_processes_is_started_and_warmed_up() -> None:
    calls_ns = (5_000_000.0, 2_000_000.0)
    one_s = rounds_seconds(20, calls_ns, budget_s=60.0)
    several_s = rounds_seconds(180, calls_ns, budget_s=60.0, per_start=20)
    assert several_s == pytest.approx(9 * (one_s + 2 * START_S))
