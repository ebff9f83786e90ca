from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_edgeai.judge.memory_growth import growth, judge_memory_growth
from pytest_edgeai.records import StabilitySamples, Threshold, TurnSamples, to_json

KIB, MIB = 2**10, 2**20
LIMIT = Threshold(float(MIB), "at_most")
CALLS = 60


def side(held: Any) -> TurnSamples:
    """A process that holds so many bytes above 40 MiB before the first turn and after each."""
    readings = 40 * MIB + np.asarray(held, dtype=np.int64)
    turns = len(readings) - 1
    times = np.full((turns, 50), 10**6)
    return TurnSamples(times, times, np.zeros_like(times), np.arange(turns + 1) * CALLS, readings)


def judged(candidate: Any, baseline: Any = None, limit: Threshold = LIMIT) -> Any:
    flat = np.zeros(len(candidate)) if baseline is None else baseline
    return judge_memory_growth(StabilitySamples(side(flat), side(candidate), "here"), limit)


def leak(kib_a_call: float, turns: int = 24) -> Any:
    return np.arange(turns + 1) * CALLS * kib_a_call * KIB


@pytest.mark.parametrize(
    ("held", "outcome"),
    [
        (leak(0), "pass"),
        (leak(0.5), "pass"),
        (leak(4), "fail"),
        (leak(1.5), "fail"),
        (-leak(4), "pass"),  # it gives memory back
        (np.minimum(leak(100), 8 * MIB), "pass"),  # pools are filled, then nothing more
        (np.minimum(leak(100), 8 * MIB) + leak(4), "fail"),
        (np.repeat([0, 8 * MIB], [5, 20]), "pass"),  # one step in the beginning
        (np.repeat([0, 8 * MIB], [20, 5]), "inconclusive"),  # one step late: a leak or not
        (np.repeat(np.arange(13) * 2 * MIB, 2)[:25], "fail"),  # steps of a growing pool
        (leak(4, turns=11), "inconclusive"),
    ],
)
def test_growth_after_the_beginning(held: Any, outcome: str) -> None:
    verdict = judged(held)
    assert verdict.outcome == outcome, verdict.reason
    assert verdict.unit == "bytes"
    assert bool(verdict.advice) == (outcome != "pass")
    if verdict.interval:
        low, high = verdict.interval
        assert low <= verdict.observed <= high
        assert to_json(verdict)["details"]["definition"] == "here"


def test_a_steady_leak_is_known_exactly() -> None:
    verdict = judged(leak(4))
    assert verdict.observed == pytest.approx(1000 * 4 * KIB)
    assert verdict.interval == pytest.approx((1000 * 4 * KIB,) * 2)
    assert "4.0 MiB per" not in verdict.reason
    assert "3.9 MiB per 1,000 calls" in verdict.reason


def test_what_the_baseline_grows_by_is_taken_off() -> None:
    assert judged(leak(4), baseline=leak(4)).outcome == "pass"
    assert judged(leak(4), baseline=leak(1)).observed == pytest.approx(3000 * KIB)
    # A baseline that shrinks makes no leak of a candidate that does not grow.
    assert judged(leak(0), baseline=-leak(4)).observed == 0


def test_the_beginning_is_found_by_its_growth() -> None:
    held = np.minimum(leak(100), 30 * MIB)
    found = growth(side(held), np.random.default_rng(0))
    assert found.settled_turn == int(np.argmax(held == held[-1]))
    assert found.per_1000_calls == 0
    assert found.calls == (24 - found.settled_turn) * CALLS


@given(st.lists(st.integers(0, 64 * MIB), min_size=13, max_size=60), st.integers(0, 3))
def test_half_of_the_turns_count_whatever_is_read(held: list[int], seed: int) -> None:
    found = growth(side(held), np.random.default_rng(seed))
    turns = len(held) - 1
    assert 0 <= found.settled_turn <= turns // 2
    whole = 1000 * (held[-1] - held[0]) / (turns * CALLS)
    assert found.per_1000_calls <= whole + 1e-6


def test_nothing_unmeasured_passes() -> None:
    samples = StabilitySamples(side(leak(0)), side(leak(0)), "here")
    missing = replace(samples.candidate, memory_bytes=samples.candidate.memory_bytes[:-1])
    assert judge_memory_growth(replace(samples, candidate=missing), LIMIT).outcome == "error"
    nothing = replace(samples.candidate, memory_bytes=np.zeros(25, dtype=np.int64))
    assert judge_memory_growth(replace(samples, candidate=nothing), LIMIT).outcome == "error"
    idle = replace(samples.candidate, calls_before=np.zeros(25, dtype=np.int64))
    assert judge_memory_growth(replace(samples, candidate=idle), LIMIT).outcome == "error"
    assert judged(leak(0), limit=Threshold(None, "at_most")).outcome == "not_applicable"
    assert judged(leak(0), limit=Threshold(-1.0, "at_most")).outcome == "error"
    with pytest.raises(ValueError, match="at_most"):
        judged(leak(0), limit=Threshold(1.0, "more_than"))
