"""Energy of planted models in real processes, by a planted counter that follows the time.

The counter draws a constant power, so that energy is time; what a twice as long call must never do
is pass.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from planted_energy import Advancing, package

from pytest_edgeai.energy_records import EnergyMethod, EnergySamples
from pytest_edgeai.errors import EdgeAIError
from pytest_edgeai.judge.energy import energy_decided, judge_energy
from pytest_edgeai.measure.energy import (
    Blocks,
    EstimatedBlocks,
    MeasuredBlocks,
    take_pairs,
)
from pytest_edgeai.measure.energy_plan import (
    Clock,
    Meter,
)
from pytest_edgeai.measure.energy_powercap import find_powercap
from pytest_edgeai.records import Threshold
from pytest_edgeai.selfcheck.planted import PlantedModel
from pytest_edgeai.selfcheck.workload import Workshop
from pytest_edgeai.worker.host import Worker

LIMIT = Threshold(0.75, "at_most")
WATTS = 20.0
BUDGET_S = 12.0


def taken(
    folder: Path,
    candidate_repetitions: int,
    *,
    watts_per_core: float | None = None,
    budget_s: float = BUDGET_S,
) -> EnergySamples:
    sysfs = folder / "sys"
    zone = package(sysfs, energy_uj=0, dram=False)
    method = EnergyMethod(("RAPL",), True, {}, "planted")
    blocks = Blocks()
    workshop = Workshop(folder / "workshop")
    models = (PlantedModel(repetitions=40), PlantedModel(repetitions=candidate_repetitions))
    with workshop.loaded(*models) as (first, second), Advancing(zone / "energy_uj", watts=WATTS):
        how: MeasuredBlocks | EstimatedBlocks
        if watts_per_core is None:
            meter = Meter(find_powercap(sysfs).counters)
            how = MeasuredBlocks((first, second), meter, budget_s=budget_s, clock=Clock())
        else:
            how = EstimatedBlocks((first, second), watts_per_core, budget_s=budget_s)
        take_pairs(
            (first, second),
            how,
            blocks,
            decided=lambda grown: energy_decided(grown.samples(method), LIMIT),
            budget_s=budget_s,
            generator=random.Random(0),
            progress=lambda count: None,
            clock=Clock(),
        )
    return blocks.samples(method)


def test_the_counter_of_real_calls_is_judged(tmp_path: Path) -> None:
    samples = taken(tmp_path, 80)
    assert samples.idle_watts == pytest.approx(WATTS, rel=0.1)
    power = samples.baseline_joules / samples.baseline_wall_s
    assert power == pytest.approx(WATTS, rel=0.1)
    assert len(set(samples.candidate_calls.tolist())) == 1
    verdict = judge_energy(samples, LIMIT, budget_spent=True)
    assert verdict.outcome != "pass", verdict.reason


def test_an_estimate_of_real_calls_follows_their_cpu_time(tmp_path: Path) -> None:
    samples = taken(tmp_path, 10, watts_per_core=4.0, budget_s=2.0)
    # One thread takes no more CPU time than time.
    assert (samples.baseline_joules <= samples.baseline_wall_s * 4.0 * 1.1).all()
    assert (samples.baseline_joules > 0).all()


def test_nothing_is_run_that_was_not_prepared(worker: Worker) -> None:
    with pytest.raises(EdgeAIError, match="nothing is prepared"):
        worker.request("run_calls", time_limit_s=10, handle="model", calls=1)
