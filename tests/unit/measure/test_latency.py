from __future__ import annotations

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
    LEAD_IN_CALLS,
    LEAD_IN_NEEDLESS_NS,
    LEAD_IN_NS,
    ROUNDS_PER_ATTEMPT,
    WARM_UP_CALLS,
    CallTimes,
    Rounds,
    interleave,
    lead_in_calls,
    paired,
    run_bursts,
    run_round,
    summarize,
    summarize_times,
    warm_up,
)
from pytest_edgeai.records import PairedTimings
from pytest_edgeai.worker.timing import time_calls


class Local:
    """A Python function, timed in this process by what times models in workers."""

    def __init__(self, call: Callable[[], object], *, cpu_time_is_valid: bool = True) -> None:
        self.cpu_time_is_valid = cpu_time_is_valid
        self.turns: list[int] = []
        self._call = call

    def time_calls(self, calls: int) -> CallTimes:
        self.turns.append(calls)
        times = time_calls(self._call, calls)
        preemptions = [0] * calls if times.preemptions is None else times.preemptions
        return CallTimes(
            *(np.array(column) for column in (times.wall_ns, times.cpu_ns, preemptions))
        )


def quick() -> Local:
    return Local(lambda: sum(range(2000)))


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
    fast, slow = quick(), Local(lambda: time.sleep(0.017))
    assert warm_up([fast, slow]) == [LEAD_IN_CALLS, 0]
    assert fast.turns == slow.turns == [WARM_UP_CALLS]


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


def test_interleave_ends_an_attempt_and_asks_about_contention() -> None:
    asked: list[int] = []

    def contended(timings: PairedTimings) -> bool:
        asked.append(timings.rounds)
        return True

    timings, spent = measure(lambda timings: False, Rounds.of(2), budget_s=2.0, contended=contended)
    assert spent
    assert asked == [ROUNDS_PER_ATTEMPT]
    assert timings.rounds == ROUNDS_PER_ATTEMPT


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
    measured = run_bursts([fast, slow], random.Random(1), rounds=4, time_limit_s=60.0)
    assert len(measured) == 4
    assert len(measured.wall_ns[0]) == 4 * BURST_CALLS
    assert len(measured.wall_ns[1]) == 4
    assert set(fast.turns[2:]) == {LEAD_IN_CALLS + BURST_CALLS}
    assert min(measured.wall_ns[1]) >= 40_000_000
    assert [len(column) for column in measured.lead_in_wall_ns] == [4 * LEAD_IN_CALLS, 0]


def test_bursts_end_with_their_time_after_three_rounds() -> None:
    assert len(run_bursts([quick()], random.Random(1), rounds=50, time_limit_s=0.0)) == 3
