from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pytest_edgeai.judge.tail import (
    LEAST_DELAY_NS,
    Stragglers,
    difference_bounds,
    exact_bounds,
    judge_latency_tail,
)
from pytest_edgeai.judge.turns import PREEMPTED_SHARE, error_rate_of_look, own_times
from pytest_edgeai.records import StabilitySamples, Threshold, TurnSamples, to_json

LIMIT = Threshold(0.005, "at_most")
MS = 1_000_000


def side(
    turns: int = 24, calls: int = 50, *, slow: int = 0, wall_only: int = 0, preempted: int = 0
) -> TurnSamples:
    """Calls of 1 ms, some of which take 4 ms, evenly over the turns.

    Args:
        turns: number of turns.
        calls: calls of each.
        slow: calls that compute for 4 ms.
        wall_only: further calls that take 4 ms by the wall clock alone.
        preempted: how many of the latter are preempted.
    """
    wall = np.full(turns * calls, MS)
    cpu, switches = wall.copy(), np.zeros_like(wall)
    places = np.linspace(0, turns * calls - 1, slow + wall_only).astype(int)
    wall[places] = 4 * MS
    cpu[places[:slow]] = 4 * MS
    switches[places[slow : slow + preempted]] = 1
    shape = turns, calls
    return TurnSamples(
        wall.reshape(shape),
        cpu.reshape(shape),
        switches.reshape(shape),
        np.arange(turns + 1) * calls,
        np.full(turns + 1, 2**20),
    )


def judged(baseline: TurnSamples, candidate: TurnSamples, limit: Threshold = LIMIT) -> Any:
    return judge_latency_tail(StabilitySamples(baseline, candidate, "here"), limit)


@pytest.mark.parametrize(
    ("slow", "outcome"), [(0, "pass"), (1, "pass"), (6, "inconclusive"), (40, "fail")]
)
def test_calls_that_compute_for_long_are_stragglers(slow: int, outcome: str) -> None:
    verdict = judged(side(), side(slow=slow))
    assert verdict.outcome == outcome, verdict.reason
    assert verdict.observed == slow / 1200
    low, high = verdict.interval
    assert low <= verdict.observed <= high
    assert f"{slow} of 1,200 calls" in verdict.reason
    assert bool(verdict.advice) == (outcome != "pass")
    assert to_json(verdict)["details"]["error_rate"] == 0.05


def test_waiting_of_its_own_counts_and_waiting_for_others_does_not() -> None:
    waits = judged(side(), side(wall_only=40))
    assert waits.outcome == "fail"
    preempted = judged(side(), side(wall_only=40, preempted=40))
    assert preempted.outcome == "pass"
    assert preempted.details["candidate"]["waited"] == 40
    assert preempted.samples == 1160
    assert "40 calls that other processes kept waiting" in preempted.reason
    computing = side(slow=40)
    on_a_busy_machine = replace(computing, preemptions=np.ones_like(computing.preemptions))
    assert judged(side(), on_a_busy_machine).outcome == "fail"
    assert judged(side(), on_a_busy_machine).details["clock"] == ["wall", "cpu"]


def test_without_cpu_time_preempted_waits_prove_nothing() -> None:
    candidate = replace(side(wall_only=40, preempted=40), cpu_ns=None)
    verdict = judged(replace(side(), cpu_ns=None), candidate)
    assert verdict.details["candidate"]["waited"] == 40
    assert verdict.outcome == "pass"


def test_a_slow_turn_is_no_straggler() -> None:
    candidate = side()
    wall, cpu = candidate.wall_ns.copy(), candidate.cpu_ns
    assert cpu is not None
    wall[3], cpu[3] = 5 * MS, 5 * MS
    assert judged(side(), replace(candidate, wall_ns=wall)).observed == 0


def test_microseconds_are_no_delay() -> None:
    fast = side(slow=100)
    scaled = {name: getattr(fast, name) // 100 for name in ("wall_ns", "cpu_ns")}
    assert 3 * MS // 100 < LEAST_DELAY_NS
    assert judged(side(), replace(fast, **scaled)).observed == 0


def busy(of: TurnSamples) -> TurnSamples:
    """Preempt a tenth of the calls without lengthening them."""
    preemptions = of.preemptions.copy()
    preemptions[:, ::10] = 1
    return replace(of, preemptions=preemptions)


def test_a_busy_machine_excuses_nothing_and_accuses_nobody() -> None:
    noisy = side(slow=120)
    assert judged(noisy, side(slow=20)).outcome == "pass"
    verdict = judged(busy(noisy), busy(side(slow=20)))
    assert verdict.outcome == "inconclusive"
    assert "excuse none" in verdict.reason
    assert judged(noisy, side(slow=300)).outcome == "fail"
    assert judged(busy(noisy), busy(side(slow=300))).outcome == "inconclusive"
    assert judged(busy(side()), busy(side(slow=300))).outcome == "fail"
    assert judged(busy(side()), busy(side())).outcome == "pass"


def disturbed(
    generator: np.random.Generator, call_ns: int, *, own_share: float = 0.0, turns: int = 96
) -> TurnSamples:
    """Calls on a machine that adds 0.3 to 0.5 ms 60 times a second, by CPU time as well.

    Of ``own_share`` of them the model makes four times as much by itself.
    """
    calls = 50
    wall = generator.normal(1.0, 0.02, (turns, calls)) * call_ns
    hits = generator.poisson(60 * call_ns / 1e9, wall.shape)
    wall += hits * generator.uniform(0.3e6, 0.5e6, wall.shape)
    wall += 3 * call_ns * (generator.random(wall.shape) < own_share)
    times = wall.astype(np.int64)
    counts, held = np.arange(turns + 1) * calls, np.full(turns + 1, 2**20)
    return TurnSamples(times, times, np.zeros_like(times), counts, held)


@pytest.mark.parametrize("seed", range(10))
def test_what_the_machine_does_to_both_alike_is_no_fault_of_the_faster_one(seed: int) -> None:
    """A call of 0.24 ms is doubled by what a call of 2.5 ms hardly shows."""
    generator = np.random.default_rng(seed)
    baseline, fast, quick_but_faulty = (
        disturbed(generator, call_ns, own_share=share)
        for call_ns, share in ((2_500_000, 0.0), (240_000, 0.0), (240_000, 0.015))
    )
    verdict = judged(baseline, fast)
    assert verdict.observed > 2 * (LIMIT.value or 0)
    assert verdict.outcome == "inconclusive", verdict.reason
    assert "may be the machine's" in verdict.reason
    assert "quiet the machine" in verdict.advice
    assert verdict.details["excess_over_the_machine"] <= (LIMIT.value or 0)
    assert judged(baseline, quick_but_faulty).outcome == "fail"
    # A baseline that nothing disturbed excuses nothing.
    assert judged(side(96), fast).outcome == "fail"


def test_without_a_straggler_nothing_is_beyond_the_machine() -> None:
    assert judged(side(), side()).details["excess_over_the_machine"] == -1


def test_stragglers_of_one_turn_are_worth_less() -> None:
    spread, clustered = side(slow=6), side()
    for name in ("wall_ns", "cpu_ns"):
        getattr(clustered, name)[5, :6] = 4 * MS
    apart, together = judged(side(), spread), judged(side(), clustered)
    assert apart.observed == together.observed
    assert together.details["candidate"]["design_effect"] > 5
    assert apart.details["candidate"]["design_effect"] == 1
    assert together.interval[1] > apart.interval[1]


def test_the_early_stopping_rule() -> None:
    """As many calls as LoadGen asks for, at the error rate of the first look."""
    alpha = error_rate_of_look(24, 0.05)
    needed = int(np.ceil(np.log(alpha) / np.log(1 - 0.005)))
    assert needed == 643
    calls = -(-needed // 24)
    assert judged(side(calls=calls), side(calls=calls)).outcome == "pass"
    verdict = judged(side(calls=calls - 1), side(calls=calls - 1))
    assert verdict.outcome == "inconclusive"
    assert f"about {needed} calls are needed" in verdict.reason
    # 643 calls of 1 ms on either side, and what leads into the turns.
    assert "to about 2 s" in verdict.advice


def test_looks_share_the_error_rate() -> None:
    rates = [error_rate_of_look(24 * 2**look, 0.05) for look in range(30)]
    assert sum(rates) == pytest.approx(0.05)
    assert rates == sorted(rates, reverse=True)
    assert error_rate_of_look(5, 0.05) == error_rate_of_look(24, 0.05) == rates[0]
    assert error_rate_of_look(25, 0.05) == error_rate_of_look(48, 0.05) == rates[1]


def test_few_turns_prove_nothing() -> None:
    verdict = judged(side(turns=8, calls=500), side(turns=8, calls=500))
    assert verdict.outcome == "inconclusive"
    assert "8 turns of 12" in verdict.reason


def test_nothing_unmeasured_passes() -> None:
    broken = side()
    broken.wall_ns[2, 7] = 0
    verdict = judged(side(), broken)
    assert verdict.outcome == "error"
    assert "candidate wall time is 0 ns or less in turn 3" in verdict.reason
    assert judged(side(turns=23), side()).outcome == "error"
    assert judged(side(), side(), Threshold(float("nan"), "at_most")).outcome == "error"
    assert judged(side(), side(), Threshold(None, "at_most")).outcome == "not_applicable"
    with pytest.raises(ValueError, match="at_most"):
        judged(side(), side(), Threshold(0.005, "at_least"))


def test_a_cpu_clock_that_stood_still_once_ends_nothing() -> None:
    stopped = side(slow=1, preempted=1)
    assert stopped.cpu_ns is not None
    stopped.cpu_ns[2, 7] = 0
    stopped.preemptions[2, 7] = 1
    assert judged(side(), stopped).outcome == "pass"
    stopped.cpu_ns[:, 7] = 0
    verdict = judged(side(), stopped)
    assert verdict.outcome == "error"
    assert "candidate CPU time is 0 ns or less in turn 1" in verdict.reason


@given(st.integers(0, 40), st.integers(41, 2000), st.floats(0.001, 0.2))
def test_bounds_are_those_of_clopper_and_pearson(count: int, trials: int, alpha: float) -> None:
    low, high = exact_bounds(count, trials, alpha)
    assert low <= count / trials <= high
    assert stats.binom.cdf(count, trials, high) == pytest.approx(alpha, rel=1e-6)
    if count:
        assert stats.binom.sf(count - 1, trials, low) == pytest.approx(alpha, rel=1e-6)


@given(st.integers(0, 30), st.integers(0, 30))
def test_bounds_of_the_difference(one: int, other: int) -> None:
    def of(count: int) -> Stragglers:
        return Stragglers(count, 1000, 0, 1.0, *exact_bounds(count, 1000, 0.04))

    low, high = difference_bounds(of(one), of(other))
    assert low <= (one - other) / 1000 <= high
    mirrored = difference_bounds(of(other), of(one))
    assert (low, high) == pytest.approx((-mirrored[1], -mirrored[0]))
    if one == other == 0:
        assert high == exact_bounds(0, 1000, 0.04)[1]


@given(st.floats(0, 1), st.integers(1, 30), st.integers(2, 30), st.integers(0, 9))
def test_every_mix_of_preemptions_is_judged(
    share: float, turns: int, calls: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    whole = side(turns, calls, slow=min(3, turns * calls))
    chosen = (generator.random((turns, calls)) < share).astype(np.int64)
    times = own_times(
        replace(whole, preemptions=chosen), long=2.0, least_delay_ns=0.0, by_turn=True
    )
    assert np.isfinite(times.relative).all()
    assert times.preempted == chosen.sum()
    assert times.clock == ("cpu" if chosen.mean() >= PREEMPTED_SHARE else "wall")
