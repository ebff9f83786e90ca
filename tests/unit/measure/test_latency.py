from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_edgeai.measure.latency import (
    BURST_CALLS,
    PAUSE_BETWEEN_ATTEMPTS_S,
    ROUNDS_PER_ATTEMPT,
    WARM_UP_CALLS,
    interleave,
    run_bursts,
    settled,
    summarize,
    summarize_times,
    warm_up,
)
from pytest_edgeai.measure.lead_in import (
    LEAD_IN_CALLS,
    LEAD_IN_NEEDLESS_NS,
    LEAD_IN_NS,
    lead_in_calls,
)
from pytest_edgeai.measure.rounds import Rounds, paired
from pytest_edgeai.measure.taking import run_round
from pytest_edgeai.measure.timed import CallTimes
from pytest_edgeai.measure.waiting import JUDGED_ROUNDS, LARGEST_WAITING_SHARE, Clock
from pytest_edgeai.measure.warmup import FEWEST_CALLS, MOST_CALLS, WINDOW_CALLS, WINDOW_NS
from pytest_edgeai.records import PairedTimings
from pytest_edgeai.worker.timing import time_calls


class Local:
    """A Python function, timed in this process by what times models in workers."""

    def __init__(self, call: Callable[[], object], *, cpu_time_is_valid: bool = True) -> None:
        self.cpu_time_is_valid = cpu_time_is_valid
        self.turns: list[int] = []
        self._call = call

    def run_on(self, core: int | None) -> bool:
        return False

    def time_calls(self, calls: int) -> CallTimes:
        self.turns.append(calls)
        times = time_calls(self._call, calls)
        preemptions = [0] * calls if times.preemptions is None else times.preemptions
        return CallTimes(
            *(np.array(column) for column in (times.wall_ns, times.cpu_ns, preemptions))
        )


def quick() -> Local:
    return Local(lambda: sum(range(2000)))


class Simulated:
    """A model whose calls take what they are told to, on a machine whose clock they move.

    Its calls get faster by two thousandths from one to the next for ``faster_after`` calls.
    """

    def __init__(
        self, call_ns: int, *, faster_after: int = 0, machine: Machine | None = None
    ) -> None:
        self.cpu_time_is_valid = True
        self.turns: list[int] = []
        self._call_ns = call_ns
        self._faster_after = faster_after
        self._machine = machine

    def run_on(self, core: int | None) -> bool:
        return False

    def time_calls(self, calls: int) -> CallTimes:
        position = sum(self.turns) + np.arange(calls)
        self.turns.append(calls)
        factor = 1.002 ** -np.minimum(position, self._faster_after).astype(np.float64)
        wall_ns = np.maximum(1, self._call_ns * factor).astype(np.int64)
        busy = False
        if self._machine is not None:
            busy = self._machine.busy(self._machine.now_s)
            self._machine.now_s += float(wall_ns.sum()) / 1e9
        return CallTimes(wall_ns, wall_ns, np.full(calls, int(busy)))


@given(st.floats(min_value=0, max_value=1e11))
def test_a_turn_begins_with_few_calls_that_take_little_time(call_ns: float) -> None:
    calls = lead_in_calls(call_ns)
    assert 0 <= calls <= LEAD_IN_CALLS
    assert calls <= 1 or calls * call_ns <= LEAD_IN_NS
    assert (calls == 0) == (call_ns > LEAD_IN_NEEDLESS_NS)


@given(st.floats(min_value=0, max_value=1e11), st.floats(min_value=0, max_value=1e11))
def test_slower_models_take_no_more_calls_to_lead_in(one: float, other: float) -> None:
    fast, slow = sorted((one, other))
    assert lead_in_calls(fast) >= lead_in_calls(slow)


def test_warm_up_runs_every_model_and_says_how_its_turns_begin() -> None:
    fast, slow = Simulated(100_000), Simulated(17_000_000)
    assert warm_up([fast, slow]) == [LEAD_IN_CALLS, 0]
    # Two windows of 50 calls each; the second is no faster.
    assert sum(fast.turns) == 2 * WINDOW_CALLS
    assert sum(slow.turns) == 2 * math.ceil(WINDOW_NS / 17e6)


def test_a_time_limit_ends_a_warm_up_with_what_two_windows_say() -> None:
    model = Simulated(200_000_000)
    (known,) = settled([model], limit_s=0.1)
    assert (known.calls, known.settled, known.call_ns) == (2 * FEWEST_CALLS, True, 200e6)


def test_a_round_judges_the_last_call_of_each_turn_and_keeps_the_others() -> None:
    models = [quick(), quick(), quick()]
    rounds = Rounds.of(3)
    for _ in range(4):
        run_round(models, [2, 0, 1], rounds, random.Random(0), 7)
    assert [model.turns for model in models] == [[3] * 4, [1] * 4, [2] * 4]
    assert [len(column) for column in rounds.wall_ns] == [4, 4, 4]
    assert [len(column) for column in rounds.cpu_ns] == [4, 4, 4]
    assert [len(column) for column in rounds.lead_in_wall_ns] == [8, 0, 4]
    assert all(value > 0 for column in rounds.lead_in_wall_ns for value in column)
    assert rounds.attempt == [7] * 4
    assert len(rounds) == 4


def test_models_never_run_at_the_same_time() -> None:
    running, overlaps = threading.Lock(), []

    def call() -> None:
        if not running.acquire(blocking=False):
            overlaps.append(True)
            return
        time.sleep(0.0005)
        running.release()

    rounds = Rounds.of(2)
    for _ in range(10):
        run_round([Local(call), Local(call)], [1, 1], rounds, random.Random(), 0)
    assert not overlaps


def test_either_model_runs_first_about_as_often() -> None:
    rounds, generator = Rounds.of(2), random.Random(5)
    models = [quick(), quick()]
    for _ in range(400):
        run_round(models, [0, 0], rounds, generator, 0)
    assert 150 < sum(rounds.order) < 250


def test_a_call_that_sleeps_takes_wall_time_and_no_cpu_time() -> None:
    rounds = Rounds.of(2)
    run_round([Local(lambda: time.sleep(0.05)), quick()], [0, 0], rounds, random.Random(0), 0)
    assert rounds.wall_ns[0][0] >= 50e6
    assert rounds.cpu_ns[0][0] < 25e6


@pytest.mark.parametrize("valid", [True, False])
def test_paired_carries_cpu_time_only_where_it_is_valid(valid: bool) -> None:
    rounds = Rounds.of(2)
    for _ in range(3):
        run_round([quick(), quick()], [0, 0], rounds, random.Random(1), 2)
    timings = paired(rounds, cpu_time_is_valid=valid)
    assert timings.rounds == 3
    assert timings.baseline_wall_ns.dtype == np.int64
    assert timings.baseline_wall_ns.tolist() == rounds.wall_ns[0]
    assert timings.candidate_wall_ns.tolist() == rounds.wall_ns[1]
    assert timings.baseline_first.tolist() == [index == 0 for index in rounds.order]
    assert timings.attempt.tolist() == [2, 2, 2]
    for values in (timings.baseline_cpu_ns, timings.candidate_cpu_ns):
        assert (values is not None) == valid


def measure(
    decided: Callable[[PairedTimings], bool],
    rounds: Rounds,
    *,
    budget_s: float = 60.0,
    contended: Callable[[PairedTimings], bool] = lambda timings: False,
) -> tuple[PairedTimings, bool]:
    return interleave(
        quick(),
        quick(),
        rounds,
        decided=decided,
        is_contended=contended,
        budget_s=budget_s,
        generator=random.Random(0),
        progress=lambda count, seconds: None,
    )


def test_interleave_stops_at_the_first_look_that_decides() -> None:
    looks: list[int] = []

    def decided(timings: PairedTimings) -> bool:
        looks.append(timings.rounds)
        return timings.rounds >= 20

    timings, spent = measure(decided, Rounds.of(2))
    assert not spent
    assert timings.rounds == looks[-1] == 20
    assert looks == [5, 10, 15, 20]


def test_interleave_says_that_the_budget_is_spent_and_keeps_every_round() -> None:
    rounds = Rounds.of(2)
    timings, spent = measure(lambda timings: False, rounds, budget_s=0.05)
    assert spent
    assert timings.rounds == len(rounds) > 0


def test_interleave_adds_to_earlier_rounds_as_a_further_attempt() -> None:
    rounds = Rounds.of(2)
    measure(lambda timings: timings.rounds >= 10, rounds)
    before = list(rounds.wall_ns[0])
    timings, _ = measure(lambda timings: timings.rounds >= 20, rounds)
    assert rounds.wall_ns[0][:10] == before
    assert timings.attempt.tolist() == [0] * 10 + [1] * 10


class Machine:
    """Two models and a clock that only they and pauses move; other processes come and go.

    ``busy`` says from the time and the number of waits so far whether calls are preempted.
    """

    def __init__(self, busy: Callable[[float], bool]) -> None:
        self.now_s = 0.0
        self.slept: list[float] = []
        self.said: list[tuple[int, float]] = []
        self.busy = busy
        self.models = Simulated(1_000_000, machine=self), Simulated(1_000_000, machine=self)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds

    def measure(self, rounds: int, *, budget_s: float = 1000.0) -> tuple[Rounds, PairedTimings]:
        measured = Rounds.of(2)
        timings, _ = interleave(
            *self.models,
            measured,
            decided=lambda timings: timings.rounds >= rounds,
            is_contended=lambda timings: bool((timings.baseline_preemptions > 0).all()),
            budget_s=budget_s,
            generator=random.Random(0),
            progress=lambda count, seconds: None,
            waiting=lambda count, seconds: self.said.append((count, seconds)),
            clock=Clock(lambda: self.now_s, self.sleep),
        )
        return measured, timings


def test_a_quiet_machine_is_never_waited_for() -> None:
    machine = Machine(lambda now_s: False)
    _, timings = machine.measure(290)
    assert machine.slept == []
    assert timings.wait_ns.tolist() == []
    assert timings.warm_up_calls.tolist() == [2 * WINDOW_CALLS] * 2
    assert timings.warm_up_settled.tolist() == [True, True]


def test_contention_is_waited_out_and_every_round_is_kept() -> None:
    machine = Machine(lambda now_s: now_s < 7.0)
    _, timings = machine.measure(200)
    # A machine that is busy for 7 s is waited for with growing pauses, then no more.
    assert machine.slept == [0.5, 1.0, 2.0]
    assert machine.said == list(zip(timings.wait_before_round.tolist(), machine.slept, strict=True))
    assert timings.wait_before_round.tolist() == [50, 100, 150]
    assert timings.wait_ns.tolist() == [500_000_000, 1_000_000_000, 2_000_000_000]
    assert timings.rounds == 200
    assert np.count_nonzero(timings.baseline_preemptions) == 150
    # Each wait is followed by calls that make the models warm again and do not count.
    assert timings.warm_up_calls.tolist() == [2 * WINDOW_CALLS + 3 * WARM_UP_CALLS] * 2


def test_a_clear_case_is_decided_before_anything_is_waited_for() -> None:
    machine = Machine(lambda now_s: True)
    machine.measure(JUDGED_ROUNDS)
    assert machine.slept == []


def test_a_machine_that_is_never_quiet_costs_a_fifth_of_the_budget() -> None:
    machine = Machine(lambda now_s: True)
    _, timings = machine.measure(10**6, budget_s=20.0)
    waits = timings.wait_ns.sum() / 1e9
    assert waits == pytest.approx(LARGEST_WAITING_SHARE * 20.0)
    pauses = [slept for slept in machine.slept if slept == PAUSE_BETWEEN_ATTEMPTS_S]
    assert machine.now_s == pytest.approx(20.0, abs=PAUSE_BETWEEN_ATTEMPTS_S + 0.1)
    assert len(pauses) >= 1
    assert timings.rounds > 250


def test_a_pause_between_attempts_makes_the_models_warm_again() -> None:
    machine = Machine(lambda now_s: False)
    rounds, timings = machine.measure(ROUNDS_PER_ATTEMPT + 1)
    assert machine.slept == [PAUSE_BETWEEN_ATTEMPTS_S]
    assert set(timings.attempt.tolist()) == {0, 1}
    assert rounds.warm_up_calls == [2 * WINDOW_CALLS + WARM_UP_CALLS] * 2


def test_a_later_measurement_adds_to_the_calls_of_the_warm_up() -> None:
    machine = Machine(lambda now_s: False)
    rounds, _ = machine.measure(10)
    interleave(
        Simulated(1_000_000, faster_after=10**6),
        machine.models[1],
        rounds,
        decided=lambda timings: timings.rounds >= 20,
        is_contended=lambda timings: False,
        budget_s=60.0,
        generator=random.Random(0),
        progress=lambda count, seconds: None,
        clock=Clock(lambda: machine.now_s, machine.sleep),
    )
    assert rounds.warm_up_calls == [2 * WINDOW_CALLS + MOST_CALLS, 4 * WINDOW_CALLS]
    assert rounds.warm_up_settled == [False, True]
    timings = paired(rounds, cpu_time_is_valid=True)
    assert timings.warm_up_settled.tolist() == [False, True]


def test_an_earlier_attempt_is_never_judged_for_contention_again() -> None:
    machine = Machine(lambda now_s: now_s < 0.6)
    rounds, _ = machine.measure(25)
    asked: list[int] = []

    def contended(timings: PairedTimings) -> bool:
        asked.append(timings.rounds)
        return False

    interleave(
        *machine.models,
        rounds,
        decided=lambda timings: timings.rounds >= 25 + 2 * JUDGED_ROUNDS + 5,
        is_contended=contended,
        budget_s=60.0,
        generator=random.Random(0),
        progress=lambda count, seconds: None,
        clock=Clock(lambda: machine.now_s, machine.sleep),
    )
    assert asked == [JUDGED_ROUNDS, JUDGED_ROUNDS]


def test_summaries_are_percentiles_of_the_judged_calls() -> None:
    rounds = Rounds.of(1)
    rounds.wall_ns[0] = list(range(1, 102))
    rounds.cpu_ns[0] = [5] * 101
    rounds.preemptions[0] = [0] * 101
    rounds.lead_in_wall_ns[0] = [10**9] * 101
    summary = summarize(rounds, 0, cpu_time_is_valid=True, threads=1, batch=4)
    assert (summary.samples, summary.p50_ns, summary.p95_ns, summary.p99_ns) == (101, 51, 96, 100)
    assert (summary.cpu_p50_ns, summary.threads, summary.batch) == (5, 1, 4)


def test_a_summary_leaves_out_cpu_time_that_says_nothing() -> None:
    times = quick().time_calls(5)
    summary = summarize_times(times, cpu_time_is_valid=False, threads=0, batch=1)
    assert summary.cpu_p50_ns is None


def test_a_burst_keeps_many_calls_of_every_turn() -> None:
    fast, slow = quick(), Local(lambda: time.sleep(0.04))
    measured = run_bursts([fast, slow], random.Random(1), rounds=4, time_limit_s=0.5)
    assert len(measured) == 4
    assert len(measured.wall_ns[0]) == 4 * BURST_CALLS
    assert len(measured.wall_ns[1]) == 4
    assert fast.turns[-4:] == [LEAD_IN_CALLS + BURST_CALLS] * 4
    assert min(measured.wall_ns[1]) >= 40_000_000
    assert [len(column) for column in measured.lead_in_wall_ns] == [4 * LEAD_IN_CALLS, 0]


def test_bursts_end_with_their_time_after_three_rounds() -> None:
    assert len(run_bursts([quick()], random.Random(1), rounds=50, time_limit_s=0.0)) == 3
