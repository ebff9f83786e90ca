from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from pytest_edgeai.measure.restarts import interleave_starts
from pytest_edgeai.measure.rounds import Rounds
from pytest_edgeai.measure.timed import CallTimes, Timed
from pytest_edgeai.measure.waiting import Clock
from pytest_edgeai.records import PairedTimings


class Process:
    """A model in a process, on a machine whose clock its calls move."""

    cpu_time_is_valid = True

    def __init__(self, machine: Machine, call_ns: int) -> None:
        self._machine = machine
        self._call_ns = call_ns

    def run_on(self, core: int | None) -> bool:
        return False

    def time_calls(self, calls: int) -> CallTimes:
        self._machine.now_s += calls * self._call_ns / 1e9
        times = np.full(calls, self._call_ns)
        return CallTimes(times, times, np.full(calls, int(self._machine.busy)))


class Machine:
    """Starts a pair in two seconds; candidates are as fast as their start makes them."""

    def __init__(self, candidates_ns: Callable[[int], int], *, busy: bool = False) -> None:
        self.now_s = 0.0
        self.started = self.ended = 0
        self.busy = busy
        self.waited: list[float] = []
        self._candidates_ns = candidates_ns

    @contextmanager
    def start(self) -> Iterator[tuple[Timed, Timed]]:
        assert self.started == self.ended
        self.now_s += 2.0
        pair = Process(self, 2_000_000), Process(self, self._candidates_ns(self.started))
        self.started += 1
        yield pair
        self.ended += 1

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def measure(
        self, decided: Callable[[PairedTimings], bool], budget_s: float = 1000.0
    ) -> tuple[PairedTimings, bool]:
        return interleave_starts(
            self.start,
            Rounds.of(2),
            rounds_per_start=20,
            decided=decided,
            is_contended=lambda timings: bool((timings.baseline_preemptions > 0).all()),
            budget_s=budget_s,
            generator=random.Random(0),
            progress=lambda count, seconds: None,
            waiting=lambda count, seconds: self.waited.append(seconds),
            clock=Clock(lambda: self.now_s, self.sleep),
        )


def test_every_pair_gives_its_rounds_and_ends() -> None:
    machine = Machine(lambda start: 1_000_000 + start)
    timings, spent = machine.measure(lambda timings: timings.rounds >= 100)
    assert not spent
    assert machine.started == machine.ended == 5
    assert timings.attempt.tolist() == [start for start in range(5) for _ in range(20)]
    assert timings.candidate_wall_ns.tolist() == [
        1_000_000 + start for start in range(5) for _ in range(20)
    ]
    assert machine.waited == []


def test_late_pairs_give_no_more_rounds_than_early_ones() -> None:
    """Looks become rarer with the rounds; after 1,100 there are 22 between two of them."""
    machine = Machine(lambda start: 1_000_000)
    timings, _ = machine.measure(lambda timings: timings.rounds >= 1_300)
    assert np.bincount(timings.attempt).tolist() == [20] * 65


def test_the_question_is_asked_after_each_pair_alone() -> None:
    asked: list[int] = []

    def decided(timings: PairedTimings) -> bool:
        asked.append(timings.rounds)
        return len(asked) == 3

    Machine(lambda start: 1_000_000).measure(decided)
    assert asked == [20, 40, 60]


def test_the_budget_ends_it_with_every_round_kept() -> None:
    machine = Machine(lambda start: 1_000_000)
    timings, spent = machine.measure(lambda timings: False, budget_s=30.0)
    assert spent
    assert machine.started == machine.ended
    assert machine.now_s == pytest.approx(30.0, abs=2.5)
    assert timings.rounds >= 20 * (machine.started - 1)


def test_a_busy_machine_is_waited_for_between_pairs() -> None:
    machine = Machine(lambda start: 1_000_000, busy=True)
    timings, _ = machine.measure(lambda timings: timings.rounds >= 80)
    assert machine.waited == [0.5, 1.0, 2.0]
    assert timings.wait_before_round.tolist() == [20, 40, 60]


def test_an_error_of_a_start_ends_nothing_twice() -> None:
    @contextmanager
    def broken() -> Iterator[tuple[Timed, Timed]]:
        raise OSError("no more processes")
        yield  # pragma: no cover

    with pytest.raises(OSError, match="no more"):
        interleave_starts(
            broken,
            Rounds.of(2),
            rounds_per_start=20,
            decided=lambda timings: True,
            is_contended=lambda timings: False,
            budget_s=10.0,
            generator=random.Random(0),
            progress=lambda count, seconds: None,
            waiting=lambda count, seconds: None,
        )
