"""Blocks of energy in simulated time: what is planned, what is counted, and what is refused."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from pytest_edgeai.energy_records import EnergyMethod
from pytest_edgeai.errors import MeasurementError, NotCertified
from pytest_edgeai.measure.energy import (
    FEWEST_PAIRS,
    Blocks,
    EstimatedBlocks,
    MeasuredBlocks,
    Spent,
    take_pairs,
)
from pytest_edgeai.measure.energy_plan import (
    Clock,
    Meter,
    Probe,
    plan_blocks,
    probe,
)
from pytest_edgeai.measure.timed import CallTimes

IDLE_WATTS = 5.0
METHOD = EnergyMethod(("RAPL",), True, {}, "simulated")


@dataclass
class World:
    """A machine whose time passes by calls and sleeps alone, and whose energy is known."""

    now_s: float = 0.0
    joules: float = 0.0
    watts: float = IDLE_WATTS

    def pass_time(self, seconds: float, watts: float | None = None) -> None:
        self.now_s += seconds
        self.joules += seconds * (self.watts if watts is None else watts)

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.now_s, self.pass_time)


@dataclass
class Model:
    """A model whose calls take a known time and power."""

    world: World
    call_s: float
    watts: float
    cpu_time_is_valid: bool = True
    calls: list[int] = field(default_factory=list)

    def run_calls(self, calls: int) -> Spent:
        self.calls.append(calls)
        self.world.pass_time(calls * self.call_s, self.watts)
        spent_ns = round(calls * self.call_s * 1e9)
        return Spent(spent_ns, spent_ns // 2)

    def time_calls(self, calls: int) -> CallTimes:
        self.world.pass_time(calls * self.call_s, self.watts)
        each = np.full(calls, round(self.call_s * 1e9), dtype=np.int64)
        return CallTimes(each, each, np.zeros(calls, dtype=np.int64))

    def run_on(self, core: int | None) -> bool:
        return True


@dataclass
class Counter:
    """A counter that shows the world's energy every ``update_s`` seconds, in steps."""

    world: World
    update_s: float = 0.001
    least_block_s: float = 0.25
    quantum_joules: float = 61e-6
    source: str = "RAPL"
    name: str = "package-0"
    place: str = "planted"
    covers: frozenset[str] = frozenset({"cpu"})
    _shown: tuple[float, float] = (-math.inf, 0.0)

    def joules(self) -> float:
        begin = math.floor(self.world.now_s / self.update_s) * self.update_s
        if begin > self._shown[0]:
            steps = math.floor(self.world.joules / self.quantum_joules)
            self._shown = (begin, steps * self.quantum_joules)
        return self._shown[1]


def measure(
    world: World, models: tuple[Model, Model], counter: Counter, *, budget_s: float = 60.0
) -> tuple[Blocks, MeasuredBlocks]:
    how = MeasuredBlocks(models, Meter([counter]), budget_s=budget_s, clock=world.clock)
    blocks = Blocks()
    spent = take_pairs(
        models,
        how,
        blocks,
        decided=lambda taken: len(taken) >= FEWEST_PAIRS,
        budget_s=budget_s,
        generator=random.Random(0),
        progress=lambda count: None,
        clock=world.clock,
    )
    assert not spent
    return blocks, how


@pytest.mark.parametrize(
    ("update_s", "budget_s", "waits"),
    [(0.001, 60.0, False), (0.02, 120.0, True), (0.1, 120.0, True)],
)
@pytest.mark.parametrize("call_s", [5e-5, 0.004, 0.03])
def test_the_energy_of_a_call_is_known_to_a_percent(
    update_s: float, budget_s: float, waits: bool, call_s: float
) -> None:
    world = World()
    models = (Model(world, call_s, 20.0), Model(world, call_s / 2, 16.0))
    counter = Counter(world, update_s)
    blocks, how = measure(world, models, counter, budget_s=budget_s)
    assert (how.plan.waits_for is not None) == waits
    samples = blocks.samples(METHOD)
    for joules, calls, model in (
        (samples.baseline_joules, samples.baseline_calls, models[0]),
        (samples.candidate_joules, samples.candidate_calls, models[1]),
    ):
        # Twice the resolution: both ends of a block may be off by half a part each.
        assert joules / calls == pytest.approx(model.call_s * model.watts, rel=0.02)
    assert samples.idle_watts == pytest.approx(IDLE_WATTS, rel=0.04)
    assert 0 < samples.candidate_first.sum() < len(blocks)
    assert len(blocks) == FEWEST_PAIRS


def test_blocks_hold_the_same_work_each_time() -> None:
    world = World()
    models = (Model(world, 0.004, 20.0), Model(world, 0.002, 20.0))
    blocks, _ = measure(world, models, Counter(world))
    assert set(blocks.calls[0]) == {63}
    assert set(blocks.calls[1]) == {125}
    assert min(blocks.wall_s[0]) >= 0.25


def test_pairs_that_were_measured_before_are_kept() -> None:
    world = World()
    models = (Model(world, 0.004, 20.0), Model(world, 0.002, 20.0))
    blocks, _ = measure(world, models, Counter(world))
    assert Blocks.of(blocks.samples(METHOD)) == blocks


def test_steps_of_a_gauge_make_blocks_longer() -> None:
    world = World()
    gauge = Counter(world, least_block_s=120.0, quantum_joules=36.0)
    plan = plan_blocks([1e6, 1e6], [gauge], Probe(2.0, 0, 10.0))
    assert plan.block_s == pytest.approx(360)
    assert plan.waits_for is None
    plan = plan_blocks([1e6, 1e6], [gauge], Probe(30.0, 0, 10.0))
    assert plan.waits_for == 0
    assert plan.calls == (3600, 3600)
    assert plan.pair_s == pytest.approx(2 * (360 + 60))


def test_a_counter_that_stands_still_is_not_certified() -> None:
    world = World()
    with pytest.raises(NotCertified, match=r"moved less than three times in 2\.5 s") as caught:
        probe(Meter([Counter(world, update_s=2.0)]), limit_s=2.5, clock=world.clock)
    assert "--edge-budget" in caught.value.advice


def test_a_budget_that_is_too_short_is_said_with_one_that_is_not() -> None:
    world = World()
    models = (Model(world, 0.5, 20.0), Model(world, 0.5, 20.0))
    with pytest.raises(NotCertified, match="9 pairs of them take") as caught:
        MeasuredBlocks(models, Meter([Counter(world, 0.1)]), budget_s=60.0, clock=world.clock)
    needed = int(caught.value.advice.removeprefix("--edge-budget="))
    assert 1350 <= needed <= 1500
    assert MeasuredBlocks(models, Meter([Counter(world, 0.1)]), budget_s=needed, clock=world.clock)


@dataclass
class Stopping(Counter):
    """A counter that stops after the probe."""

    readings: int = 0
    stops_at: int = 300

    def joules(self) -> float:
        self.readings += 1
        return self._shown[1] if self.readings > self.stops_at else super().joules()


@pytest.mark.parametrize(("update_s", "words"), [(0.001, "no energy"), (0.05, "stood still")])
def test_a_counter_that_stops_while_a_model_runs_is_an_error(update_s: float, words: str) -> None:
    world = World()
    models = (Model(world, 0.004, 20.0), Model(world, 0.002, 20.0))
    stops_at = 40 if update_s < 0.01 else 1100
    with pytest.raises(MeasurementError, match=words):
        measure(world, models, Stopping(world, update_s, stops_at=stops_at), budget_s=120.0)


def test_an_estimate_is_cpu_time_times_power() -> None:
    world = World()
    models = (Model(world, 0.004, 20.0), Model(world, 0.002, 20.0))
    how = EstimatedBlocks(models, 4.0, budget_s=60.0)
    assert how.idle() is None
    joules, calls, wall_s = how.run(models[0], 0)
    assert wall_s == pytest.approx(calls * 0.004)
    assert joules == pytest.approx(wall_s / 2 * 4.0)
    assert how.run(models[1], 1)[0] == pytest.approx(joules, rel=0.05)


def test_no_pair_begins_that_would_outlast_the_budget() -> None:
    world = World()
    models = (Model(world, 0.004, 20.0), Model(world, 0.002, 20.0))
    blocks = Blocks()
    how = MeasuredBlocks(models, Meter([Counter(world)]), budget_s=60.0, clock=world.clock)
    begin, counts = world.now_s, list[int]()
    never: Callable[[Blocks], bool] = lambda taken: False  # noqa: E731
    spent = take_pairs(
        models,
        how,
        blocks,
        decided=never,
        budget_s=10.0,
        generator=random.Random(0),
        progress=counts.append,
        clock=world.clock,
    )
    assert spent
    assert 9 < world.now_s - begin <= 10.0 + how.plan.block_s
    assert counts == list(range(1, len(blocks) + 1))
    assert len(blocks.idle_watts) == math.ceil(len(blocks) / 5)
