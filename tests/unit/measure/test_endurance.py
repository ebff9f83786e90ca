"""How a load is divided, what goes on after an interruption, and what the host's sensors say."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from enduring import Scripted

from pytest_edgeai.errors import WorkerFailure
from pytest_edgeai.measure.endurance import CALLS_OF_A_TURN, ConstantLoad, Trace, plan_load
from pytest_edgeai.measure.endurance_sensors import SensorTrace, passive_trip, read_sensors


@pytest.mark.parametrize("call_ms", [0.01, 1.0, 5.0, 50.0, 200.0])
def test_a_load_of_75_s_is_divided(call_ms: float) -> None:
    plan = plan_load([2 * call_ms * 1e6, call_ms * 1e6], 75.0)
    assert plan.turns in (48, 24, 12)
    assert plan.turns * sum(plan.seconds) == pytest.approx(60.0)
    assert plan.seconds[1] == pytest.approx(3 * plan.seconds[0])
    calls = [1e3 * plan.seconds[0] / (2 * call_ms), 1e3 * plan.seconds[1] / call_ms]
    if plan.turns > 12:
        assert all(has >= needs for has, needs in zip(calls, CALLS_OF_A_TURN, strict=True))
    assert all(1 <= kept <= 60 for kept in plan.kept)


def test_an_hour_has_more_turns_and_no_more_calls_are_kept() -> None:
    plan = plan_load([2e6, 1e6], 3600.0)
    assert plan.turns == 96
    assert plan.kept == (60, 60)


def test_what_was_interrupted_goes_on_where_it_was() -> None:
    trace = Trace()
    for first_bytes, turns in ((10_000, 5), (900_000, 12)):
        models = Scripted(), Scripted(first_bytes=first_bytes)
        load = ConstantLoad(*models, trace, length_s=10.0, generator=random.Random(0))
        load.run(turns, progress=lambda done, left: None, write=lambda: None)
    samples = trace.samples(cpu_time_is_valid=True)
    assert samples.starts == (0, 5)
    assert samples.turns.turns == 12
    candidate = samples.turns.candidate
    grown = np.diff(candidate.memory_bytes)
    assert (grown == 10 * np.diff(candidate.calls_before)).all()
    assert samples.candidate.descriptors is not None
    assert (np.diff(samples.candidate.descriptors) >= 0).all()
    assert len(samples.candidate.descriptors) == len(candidate.memory_bytes) == 13


def test_a_candidate_that_ends_leaves_whole_turns() -> None:
    trace = Trace()
    load = ConstantLoad(
        Scripted(), Scripted(dies_at=4), trace, length_s=10.0, generator=random.Random(0)
    )
    load.run(48, progress=lambda done, left: None, write=lambda: None)
    samples = trace.samples(cpu_time_is_valid=True)
    assert samples.died == "killed by SIGKILL"
    assert samples.turns.turns == 2
    assert len(samples.turns.baseline.memory_bytes) == 3


def test_a_baseline_that_ends_is_no_verdict_on_the_candidate() -> None:
    trace = Trace()
    load = ConstantLoad(
        Scripted(dies_at=4), Scripted(), trace, length_s=10.0, generator=random.Random(0)
    )
    with pytest.raises(WorkerFailure):
        load.run(48, progress=lambda done, left: None, write=lambda: None)


def test_a_spike_is_followed_by_turns_until_it_is_over() -> None:
    trace = Trace()
    load = ConstantLoad(Scripted(), Scripted(), trace, length_s=10.0, generator=random.Random(0))
    load.run(12, progress=lambda done, left: None, write=lambda: None)
    burst = load.spike(
        recovered=lambda seen: seen.after.turns == 6, limit_s=60.0, progress=lambda what: None
    )
    assert burst is not None
    assert burst.after.turns == len(burst.ended_s) == 6
    never = load.spike(recovered=lambda seen: False, limit_s=0.0, progress=lambda what: None)
    assert never is not None
    assert never.after.turns == 8
    assert trace.samples(cpu_time_is_valid=True).turns.turns == 12


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", "ascii")


def test_sensors_of_a_system_that_has_them(tmp_path: Path) -> None:
    zones, cpus = tmp_path / "class" / "thermal", tmp_path / "devices" / "system" / "cpu"
    for index, temperature in enumerate((41000, 67500)):
        write(zones / f"thermal_zone{index}" / "temp", str(temperature))
    write(zones / "thermal_zone0" / "trip_point_0_type", "critical")
    write(zones / "thermal_zone0" / "trip_point_0_temp", "105000")
    write(zones / "thermal_zone1" / "trip_point_0_type", "passive")
    write(zones / "thermal_zone1" / "trip_point_0_temp", "95000")
    for index in range(2):
        write(cpus / f"cpu{index}" / "thermal_throttle" / "core_throttle_count", str(index + 3))
        write(cpus / f"cpu{index}" / "cpufreq" / "scaling_cur_freq", str(2_000_000 + index * 10))
    reading = read_sensors(tmp_path)
    assert (reading.temperature_c, reading.throttles) == (67.5, 7)
    assert reading.frequency_mhz == pytest.approx(2000.005)
    assert passive_trip(tmp_path) == 95.0
    trace = SensorTrace(tmp_path)
    trace.read()
    write(zones / "thermal_zone1" / "temp", "broken")
    write(zones / "thermal_zone0" / "temp", "broken")
    trace.read()
    samples = trace.samples()
    assert samples.temperature_c is None
    assert samples.throttles is not None
    assert samples.throttles.tolist() == [7, 7]


def test_a_system_without_sensors(tmp_path: Path) -> None:
    trace = SensorTrace(tmp_path)
    trace.read()
    samples = trace.samples()
    found = (samples.temperature_c, samples.throttles, samples.frequency_mhz, samples.passive_c)
    assert found == (None, None, None, None)
