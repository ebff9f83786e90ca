"""Turns are taken one after the other, and memory is read between them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_edgeai.errors import MeasurementError
from pytest_edgeai.measure.stability import (
    COMFORT_S,
    FEWEST_BASELINE_CALLS,
    FEWEST_CALLS,
    MOST_CALLS,
    Turns,
    calls_of_a_turn,
    samples,
    take_turns,
)
from pytest_edgeai.measure.timed import CallTimes
from pytest_edgeai.records import PART_TURNS, StabilitySamples
from pytest_edgeai.worker.timing import time_calls

MS = 1e6


class Model:
    """A model that notes what is asked of it, in one list for all."""

    cpu_time_is_valid = True

    def __init__(self, name: str, asked: list[str], definition: str = "here") -> None:
        self.calls = 0
        self._name = name
        self._asked = asked
        self._definition = definition

    def run_on(self, core: int | None) -> bool:
        return False

    def time_calls(self, calls: int) -> CallTimes:
        self._asked.append(f"{self._name} runs")
        self.calls += calls
        times = time_calls(lambda: sum(range(200)), calls)
        columns = (times.wall_ns, times.cpu_ns, times.preemptions or [0] * calls)
        return CallTimes(*(np.asarray(column, dtype=np.int64) for column in columns))

    def memory_now(self) -> tuple[str, int]:
        self._asked.append(f"{self._name} reads")
        return self._definition, 2**20 + self.calls


def take(
    models: tuple[Model, Model],
    turns: Turns,
    *,
    decided: Callable[[StabilitySamples], bool] = lambda taken: True,
    budget_s: float = 60.0,
) -> tuple[StabilitySamples, float]:
    return take_turns(
        *models,
        turns,
        decided=decided,
        budget_s=budget_s,
        generator=random.Random(1),
        progress=lambda count, seconds: None,
    )


def test_turns_follow_each_other_and_memory_is_read_between_them() -> None:
    asked: list[str] = []
    models = Model("baseline", asked), Model("candidate", asked)
    taken, seconds = take(models, Turns())
    assert taken.turns == PART_TURNS
    assert 0 < seconds < 30
    assert taken.memory_definition == "here"
    for side, model in ((taken.baseline, models[0]), (taken.candidate, models[1])):
        assert side.wall_ns.shape == side.preemptions.shape == (PART_TURNS, MOST_CALLS)
        assert side.cpu_ns is not None
        assert (side.wall_ns > 0).all()
        # What a reading says is what was run before it, those calls included that led in.
        assert np.diff(side.memory_bytes).tolist() == np.diff(side.calls_before).tolist()
        assert side.calls_before[0] == 0
        assert side.memory_bytes[-1] == 2**20 + model.calls
    rounds = asked[asked.index("baseline reads") :]
    assert rounds[:2] == ["baseline reads", "candidate reads"]
    each = [rounds[start : start + 4] for start in range(2, len(rounds), 4)]
    assert len(each) == PART_TURNS
    for turn in each:
        assert sorted(turn[:2]) == ["baseline runs", "candidate runs"]
        assert turn[2:] == ["baseline reads", "candidate reads"]
    assert len({turn[0] for turn in each}) == 2, "the order is not random"


def test_the_question_is_asked_whenever_the_turns_have_doubled() -> None:
    asked: list[int] = []

    def decided(taken: StabilitySamples) -> bool:
        asked.append(taken.turns)
        return len(asked) == 3

    turns = Turns()
    models = Model("baseline", []), Model("candidate", [])
    taken, _ = take(models, turns, decided=decided)
    assert asked == [PART_TURNS, 2 * PART_TURNS, 4 * PART_TURNS]
    assert taken.turns == len(turns) == 4 * PART_TURNS
    more, _ = take(models, turns)
    assert more.turns == 8 * PART_TURNS
    np.testing.assert_array_equal(more.baseline.wall_ns[: taken.turns], taken.baseline.wall_ns)
    assert (np.diff(more.candidate.calls_before) > 0).all()


def test_the_budget_ends_it() -> None:
    models = Model("baseline", []), Model("candidate", [])
    begin = time.monotonic()
    taken, _ = take(models, Turns(), decided=lambda taken: False, budget_s=0.3)
    assert taken.turns >= 1
    assert time.monotonic() - begin < 20


def test_memory_of_two_kinds_is_not_compared() -> None:
    with pytest.raises(MeasurementError, match="in different ways: here, there"):
        take((Model("baseline", []), Model("candidate", [], definition="there")), Turns())


def test_without_cpu_time_there_is_none() -> None:
    models = Model("baseline", []), Model("candidate", [])
    models[1].cpu_time_is_valid = False
    taken, _ = take(models, Turns())
    assert taken.baseline.cpu_ns is None
    assert taken.candidate.cpu_ns is None


@pytest.mark.parametrize(
    ("baseline_ms", "candidate_ms", "expected"),
    [
        (0.02, 0.01, [MOST_CALLS, MOST_CALLS]),
        (5.0, 2.0, [MOST_CALLS, MOST_CALLS]),
        (30.0, 10.0, [9, FEWEST_CALLS]),
        (60.0, 30.0, [FEWEST_BASELINE_CALLS, FEWEST_CALLS]),
        (200.0, 100.0, [3, 17]),
        (60_000.0, 60_000.0, [1, 1]),
    ],
)
def test_calls_of_a_turn(baseline_ms: float, candidate_ms: float, expected: list[int]) -> None:
    assert calls_of_a_turn((baseline_ms * MS, candidate_ms * MS), 60.0) == expected


@given(st.floats(1e3, 1e9), st.floats(1e3, 1e9), st.floats(1, 600))
def test_no_plan_exceeds_the_budget(baseline: float, candidate: float, budget_s: float) -> None:
    kept = calls_of_a_turn((baseline, candidate), budget_s)
    assert all(1 <= count <= MOST_CALLS for count in kept)
    spent_s = PART_TURNS * (kept[0] * baseline + kept[1] * candidate) / 1e9
    assert spent_s <= budget_s or 1 in kept
    if kept == [MOST_CALLS, MOST_CALLS]:
        assert spent_s <= COMFORT_S * 1.001


def test_a_record_keeps_every_call() -> None:
    turns = Turns()
    taken, _ = take((Model("baseline", []), Model("candidate", [])), turns)
    again = samples(turns, cpu_time_is_valid=True)
    np.testing.assert_array_equal(again.candidate.wall_ns, taken.candidate.wall_ns)
    assert len(turns.rounds.lead_in_wall_ns[0]) > 0
