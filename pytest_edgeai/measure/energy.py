"""Energy of baseline and candidate: blocks of constant work in turns, counters read around them.

A counter adds up whatever draws power, so both models run alone, one block after the other in
random order and both blocks of a pair on one core; a machine that gets warmer or busier meets both.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from pytest_edgeai.energy_records import EnergyMethod, EnergySamples, FloatArray
from pytest_edgeai.errors import MeasurementError, NotCertified
from pytest_edgeai.measure.cores import place
from pytest_edgeai.measure.energy_plan import (
    PROBE_S,
    PROBE_SHARE,
    BlockPlan,
    Clock,
    Meter,
    plan_blocks,
    probe,
)
from pytest_edgeai.measure.latency import WARM_UP_SHARE, settled
from pytest_edgeai.measure.lead_in import lead_in_calls
from pytest_edgeai.measure.timed import Timed
from pytest_edgeai.samples import Int64Array

FEWEST_PAIRS = 9
"""Signs that decide at a level of 0.01 where all of them agree: 2^10 / 10 > 100."""

PAIRS_BETWEEN_IDLE = 5
ESTIMATE_BLOCK_S = 0.15
_IDLE_UPDATES = 50
_LONGEST_IDLE_S = 5.0


@dataclass(frozen=True)
class Spent:
    """What consecutive calls of one model took together.

    Attributes:
        wall_ns: wall time.
        cpu_ns: CPU time of the process.
    """

    wall_ns: int
    cpu_ns: int


class Powered(Timed, Protocol):
    """A loaded model whose calls are run without looking at each of them."""

    def run_calls(self, calls: int) -> Spent:
        """Run the bound sample ``calls`` times."""
        ...


@dataclass
class Blocks:
    """Pairs of blocks, grown pair by pair.

    Attributes:
        joules: for each model, the energy of each block.
        calls: for each model, the calls of each block.
        wall_s: for each model, how long each block lasted.
        candidate_first: for each pair, whether the candidate came first.
        idle_watts: power of each idle block.
    """

    joules: list[list[float]] = field(default_factory=lambda: [[], []])
    calls: list[list[int]] = field(default_factory=lambda: [[], []])
    wall_s: list[list[float]] = field(default_factory=lambda: [[], []])
    candidate_first: list[bool] = field(default_factory=list)
    idle_watts: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, samples: EnergySamples) -> Blocks:
        """Return the blocks of a record, to add more to them."""
        return cls(
            joules=[samples.baseline_joules.tolist(), samples.candidate_joules.tolist()],
            calls=[samples.baseline_calls.tolist(), samples.candidate_calls.tolist()],
            wall_s=[samples.baseline_wall_s.tolist(), samples.candidate_wall_s.tolist()],
            candidate_first=samples.candidate_first.tolist(),
            idle_watts=samples.idle_watts.tolist(),
        )

    def __len__(self) -> int:
        return len(self.candidate_first)

    def samples(self, method: EnergyMethod) -> EnergySamples:
        """Return the blocks as a record."""

        def numbers(values: Sequence[float]) -> FloatArray:
            return np.asarray(values, dtype=np.float64)

        def counts(values: Sequence[int]) -> Int64Array:
            return np.asarray(values, dtype=np.int64)

        return EnergySamples(
            baseline_joules=numbers(self.joules[0]),
            candidate_joules=numbers(self.joules[1]),
            baseline_calls=counts(self.calls[0]),
            candidate_calls=counts(self.calls[1]),
            baseline_wall_s=numbers(self.wall_s[0]),
            candidate_wall_s=numbers(self.wall_s[1]),
            candidate_first=np.asarray(self.candidate_first, dtype=np.bool_),
            idle_watts=numbers(self.idle_watts),
            method=method,
        )


class MeasuredBlocks:
    """Blocks whose energy counters tell; they are opened, probed and planned when it is made."""

    def __init__(
        self, models: Sequence[Powered], meter: Meter, *, budget_s: float, clock: Clock
    ) -> None:
        """Warm the models up and plan their blocks.

        Raises:
            NotCertified: a counter stood still, or the budget is too short for its blocks.
        """
        self._meter, self._clock = meter, clock
        begin = clock.now_s()
        call_ns = [each.call_ns for each in settled(models, limit_s=WARM_UP_SHARE * budget_s)]
        limit_s = max(PROBE_S, PROBE_SHARE * budget_s)
        self.plan = plan_blocks(call_ns, meter.counters, probe(meter, limit_s=limit_s, clock=clock))
        needed_s = FEWEST_PAIRS * self.plan.pair_s
        if needed_s > budget_s - (clock.now_s() - begin):
            names = ", ".join(counter.name for counter in meter.counters)
            raise NotCertified(
                f"the counters {names} need blocks of {self.plan.block_s:.3g} s, and "
                f"{FEWEST_PAIRS} pairs of them take {needed_s:.0f} s",
                advice=f"--edge-budget={math.ceil(1.5 * needed_s)}",
            )

    def idle(self) -> float | None:
        """Return the power while no model runs, in watts."""
        shortest_s = max(self.plan.block_s, _IDLE_UPDATES * self.plan.update_s)
        pause_s = min(shortest_s, _LONGEST_IDLE_S)
        before, begin = sum(self._meter.readings()), self._clock.now_s()
        self._clock.sleep(pause_s)
        spent_s = self._clock.now_s() - begin
        return (sum(self._meter.readings()) - before) / max(spent_s, 1e-9)

    def run(self, model: Powered, index: int) -> tuple[float, int, float]:
        """Run a block; return its joules, calls and seconds."""
        calls = self.plan.calls[index]
        model.run_calls(self.plan.lead_in[index])
        if self.plan.waits_for is None:
            before, begin = sum(self._meter.readings()), self._clock.now_s()
            model.run_calls(calls)
            joules = sum(self._meter.readings()) - before
            return joules, calls, self._clock.now_s() - begin
        return self._between_changes(model, calls, self.plan.waits_for)

    def _between_changes(self, model: Powered, part: int, slowest: int) -> tuple[float, int, float]:
        """Run calls all the time, and count them from one change of a counter to another."""
        start = self._next_change(model, part, slowest)[0]
        begin, calls = self._clock.now_s(), 0
        while True:
            now, more = self._next_change(model, part, slowest)
            calls += more
            spent_s = self._clock.now_s() - begin
            if spent_s >= self.plan.block_s:
                return sum(now) - sum(start), calls, spent_s

    def _next_change(
        self, model: Powered, part: int, slowest: int
    ) -> tuple[tuple[float, ...], int]:
        seen = self._meter.readings()[slowest]
        deadline = self._clock.now_s() + 10 * self.plan.update_s + self.plan.block_s
        calls = 0
        while True:
            model.run_calls(part)
            calls += part
            readings = self._meter.readings()
            if readings[slowest] != seen:
                return readings, calls
            if self._clock.now_s() > deadline:
                name = self._meter.counters[slowest].name
                raise MeasurementError(f"the energy counter {name} stood still while a model ran")


class EstimatedBlocks:
    """Blocks whose energy is their CPU time times a stated power: an estimate, never a measurement.

    Attributes:
        watts_per_core: the power of a core that computes.
    """

    def __init__(
        self, models: Sequence[Powered], watts_per_core: float, *, budget_s: float
    ) -> None:
        """Warm the models up and plan their blocks."""
        self.watts_per_core = watts_per_core
        call_ns = [each.call_ns for each in settled(models, limit_s=WARM_UP_SHARE * budget_s)]
        block_s = min(ESTIMATE_BLOCK_S, budget_s / (2 * FEWEST_PAIRS))
        self.plan = BlockPlan(
            block_s=block_s,
            calls=tuple(max(1, math.ceil(block_s * 1e9 / max(each, 1.0))) for each in call_ns),
            lead_in=tuple(max(1, lead_in_calls(each)) for each in call_ns),
            update_s=0.0,
            waits_for=None,
        )

    def idle(self) -> float | None:
        """Return nothing: CPU time says nothing of idle power."""
        return None

    def run(self, model: Powered, index: int) -> tuple[float, int, float]:
        """Run a block; return its joules, calls and seconds."""
        calls = self.plan.calls[index]
        model.run_calls(self.plan.lead_in[index])
        spent = model.run_calls(calls)
        return spent.cpu_ns / 1e9 * self.watts_per_core, calls, spent.wall_ns / 1e9


def take_pairs(
    models: tuple[Powered, Powered],
    how: MeasuredBlocks | EstimatedBlocks,
    blocks: Blocks,
    *,
    decided: Callable[[Blocks], bool],
    budget_s: float,
    generator: random.Random,
    progress: Callable[[int], None],
    clock: Clock,
) -> bool:
    """Add pairs of blocks until the question is decided or the budget is spent.

    Args:
        models: baseline and candidate, warm.
        how: runs a block and says what it took.
        blocks: what was measured before; grows in place.
        decided: asked after each pair.
        budget_s: longest time; a pair is begun only if it is over by then.
        generator: source of the random order.
        progress: called with the pairs so far.
        clock: the time.

    Returns:
        Whether the budget was spent without a decision.

    Raises:
        MeasurementError: a counter was lost, or a block took no energy at all.
        EdgeAIError: a worker failed.
    """
    deadline = clock.now_s() + budget_s
    cores: list[int] = []
    while True:
        if len(blocks) % PAIRS_BETWEEN_IDLE == 0 and (watts := how.idle()) is not None:
            blocks.idle_watts.append(watts)
        cores.append(place(models, cores, [0.0] * len(cores), generator, keep=False))
        order = [0, 1]
        generator.shuffle(order)
        taken = {index: how.run(models[index], index) for index in order}
        for index, (joules, calls, wall_s) in taken.items():
            if joules <= 0:
                raise MeasurementError(
                    f"a block of {calls:,} calls and {wall_s:.3g} s took no energy by its counter"
                )
            blocks.joules[index].append(joules)
            blocks.calls[index].append(calls)
            blocks.wall_s[index].append(wall_s)
        blocks.candidate_first.append(order[0] == 1)
        progress(len(blocks))
        if decided(blocks):
            return False
        if clock.now_s() + how.plan.pair_s > deadline:
            return True
