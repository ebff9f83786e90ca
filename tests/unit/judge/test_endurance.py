"""The gate ``endurance``: simulated loads with a known truth."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from pytest_edgeai.judge.endurance import (
    ABSORBED_BYTES,
    calls_needed,
    has_recovered,
    judge_endurance,
    load_is_decided,
)
from pytest_edgeai.judge.endurance_counts import LEAST_RISE, rise
from pytest_edgeai.production_records import (
    BurstSamples,
    CountSamples,
    EnduranceSamples,
    SensorSamples,
)
from pytest_edgeai.records import StabilitySamples, Threshold, TurnSamples

TURNS, KEPT, CALLS = 48, 20, 1000
LIMIT = Threshold(50_000.0, "at_most")


def side(
    generator: np.random.Generator,
    *,
    call_ns: float,
    turns: int = TURNS,
    slower: float = 1.0,
    leak: float = 0.0,
    calls: int = CALLS,
) -> TurnSamples:
    """Turns whose calls take ``slower`` times as long in the end, with noise of 3%."""
    trend = np.linspace(1.0, slower, turns)[:, None]
    wall = call_ns * trend * generator.lognormal(0, 0.03, (turns, KEPT))
    counted = np.arange(turns + 1, dtype=np.int64) * calls
    held = 30_000_000 + np.rint(leak * counted / 4096) * 4096
    wall_ns = wall.astype(np.int64)
    return TurnSamples(
        wall_ns, wall_ns.copy(), np.zeros_like(wall_ns), counted, held.astype(np.int64)
    )


def counts(values: Any = 6, threads: Any = 4) -> CountSamples:
    return CountSamples(
        *(np.broadcast_to(np.asarray(v, np.int64), (TURNS + 1,)) for v in (values, threads))
    )


def burst(generator: np.random.Generator, ratio: float, turns: int = 8) -> BurstSamples:
    after = StabilitySamples(
        side(generator, call_ns=2e6, turns=turns),
        side(generator, call_ns=1e6 * ratio, turns=turns),
        "linux-rss-anon",
    )
    return BurstSamples(4, 1000, 3.0, (), "4 parallel streams", after, np.arange(1.0, turns + 1))


def load(seed: int = 0, *, after: float = 1.0, turns: int = TURNS, **candidate: Any) -> Any:
    generator = np.random.default_rng(seed)
    measured = StabilitySamples(
        side(generator, call_ns=2e6, turns=turns),
        side(generator, call_ns=1e6, turns=turns, **candidate),
        "linux-rss-anon",
    )
    return EnduranceSamples(
        measured,
        counts(),
        counts(),
        SensorSamples(),
        TURNS,
        60.0,
        burst=burst(generator, after),
    )


def parts(samples: EnduranceSamples, **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = judge_endurance(samples, LIMIT, **options).details["parts"]
    return {name: part["outcome"] for name, part in found.items()}


def test_a_healthy_model_passes_and_says_what_was_not_measured() -> None:
    verdict = judge_endurance(load(), LIMIT)
    assert verdict.outcome == "pass", verdict.reason
    assert verdict.observed == 0
    assert "held as well: latency drift, open files, threads; after 4 parallel" in verdict.reason
    assert "not measured here: thermal throttling (no sensor" in verdict.reason
    assert verdict.details["not_measured"]
    assert load_is_decided(load(), LIMIT)


@pytest.mark.parametrize(
    ("leak", "outcome"), [(0.0, "pass"), (10.0, "pass"), (100.0, "fail"), (5000.0, "fail")]
)
def test_a_leak_in_bytes_per_call(leak: float, outcome: str) -> None:
    samples = load(leak=leak)
    verdict = judge_endurance(samples, LIMIT)
    assert verdict.outcome == parts(samples)["memory"] == outcome
    assert verdict.observed == pytest.approx(1000 * leak, rel=0.1, abs=100)
    assert load_is_decided(samples, LIMIT) == (outcome == "pass")


def test_a_leak_of_the_baseline_is_not_the_candidates() -> None:
    samples = load(leak=5000.0)
    held = samples.turns.candidate.memory_bytes
    baseline = dataclasses.replace(samples.turns.baseline, memory_bytes=held)
    both = dataclasses.replace(samples.turns, baseline=baseline)
    assert parts(dataclasses.replace(samples, turns=both))["memory"] == "pass"


def test_too_few_calls_show_no_leak_and_do_not_pass() -> None:
    verdict = judge_endurance(load(calls=10), LIMIT)
    assert verdict.outcome == "inconclusive"
    needed = -(-ABSORBED_BYTES * 1000 // 50_000)
    assert needed == calls_needed(LIMIT)
    assert f"in 480 calls, one at the limit takes {needed:,}" in verdict.reason


@pytest.mark.parametrize(("slower", "outcome"), [(0.7, "pass"), (1.0, "pass"), (2.0, "fail")])
def test_drift(slower: float, outcome: str) -> None:
    assert parts(load(slower=slower))["latency drift"] == outcome


@pytest.mark.parametrize(("ratio", "outcome"), [(0.8, "pass"), (1.0, "pass"), (3.0, "fail")])
def test_a_spike(ratio: float, outcome: str) -> None:
    samples = load(after=ratio)
    assert parts(samples, recovery_limit_s=8.0)["spike"] == outcome
    assert samples.burst is not None
    assert has_recovered(samples, samples.burst) == (outcome == "pass")


def test_a_spike_that_is_over_too_late_is_seen() -> None:
    generator = np.random.default_rng(3)
    samples = load()
    slow, back = burst(generator, 3.0, 20), burst(generator, 1.0, 10)
    late = np.concatenate([slow.after.candidate.wall_ns, back.after.candidate.wall_ns])
    after = StabilitySamples(
        side(generator, call_ns=2e6, turns=30),
        dataclasses.replace(
            side(generator, call_ns=1e6, turns=30),
            wall_ns=late,
            cpu_ns=late,
            preemptions=np.zeros_like(late),
        ),
        "linux-rss-anon",
    )
    spike = dataclasses.replace(slow, after=after, ended_s=np.arange(1.0, 31.0))
    samples = dataclasses.replace(samples, burst=spike)
    assert parts(samples, recovery_limit_s=10.0)["spike"] != "pass"
    assert parts(samples, recovery_limit_s=29.0)["spike"] == "pass"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.full(49, 6), 0),
        (np.r_[6, np.full(48, 9)], 0),  # a pool that opens once
        (6 + np.arange(49) % 2 * 20, 0),  # opened and closed again
        (6 + np.arange(49) // 12, 2),
        (6 + np.arange(49), 33),
        (60 - np.arange(49), 0),
        (np.asarray([6, 7]), 0),
    ],
)
def test_what_rises_and_goes_on_rising(values: Any, expected: int) -> None:
    assert rise(values) == expected


@pytest.mark.parametrize("name", ["open files", "threads"])
def test_what_is_left_open_fails_and_the_baselines_own_is_not_counted(name: str) -> None:
    rising = 6 + np.arange(TURNS + 1) // 4
    columns = (rising, 4) if name == "open files" else (6, rising)
    samples = dataclasses.replace(load(), candidate=counts(*columns))
    assert parts(samples)[name] == "fail"
    assert parts(dataclasses.replace(samples, baseline=counts(*columns)))[name] == "pass"
    assert rise(rising) >= LEAST_RISE


def test_counts_that_the_system_does_not_tell_are_named() -> None:
    verdict = judge_endurance(
        dataclasses.replace(load(), candidate=CountSamples(None, None)), LIMIT
    )
    assert verdict.outcome == "pass"
    assert "open files (this system does not tell)" in verdict.reason


@pytest.mark.parametrize(
    ("throttles", "slower", "outcome"),
    [(0, 2.0, "pass"), (1, 1.0, "pass"), (1, 2.0, "fail")],
)
def test_heat(throttles: int, slower: float, outcome: str) -> None:
    """It fails where the device says that it throttled, and the candidate itself got slower."""
    sensors = SensorSamples(throttles=np.arange(TURNS + 1) * throttles)
    samples = dataclasses.replace(load(slower=slower), sensors=sensors)
    assert parts(samples)["thermal throttling"] == outcome
    assert "not measured here" not in judge_endurance(samples, LIMIT).reason


def test_heat_by_temperature_and_frequency() -> None:
    hot = SensorSamples(
        temperature_c=np.linspace(50, 95, TURNS + 1),
        passive_c=90.0,
        frequency_mhz=np.linspace(3000, 1500, TURNS + 1),
    )
    samples = dataclasses.replace(load(slower=2.0), sensors=hot)
    assert parts(samples)["thermal throttling"] == "fail"
    cool = dataclasses.replace(hot, passive_c=100.0)
    assert parts(dataclasses.replace(samples, sensors=cool))["thermal throttling"] == "pass"
    blind = dataclasses.replace(hot, passive_c=None)
    assert parts(dataclasses.replace(samples, sensors=blind))["thermal throttling"] is None


def test_a_process_that_ended_fails_whatever_else_was_seen() -> None:
    for turns in (TURNS, 2):
        samples = dataclasses.replace(load(turns=turns), burst=None, died="killed by SIGKILL")
        verdict = judge_endurance(samples, LIMIT)
        assert verdict.outcome == "fail"
        assert "killed by SIGKILL" in verdict.reason
        assert load_is_decided(samples, LIMIT)


def test_the_second_look_spends_what_the_first_left() -> None:
    wide, narrow = load(leak=20.0), load(leak=20.0, turns=2 * TURNS)
    first, second = (judge_endurance(samples, LIMIT).confidence for samples in (wide, narrow))
    assert first == pytest.approx(1 - 0.016)
    assert second == pytest.approx(1 - 0.0032)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_a_threshold_that_is_none(value: float) -> None:
    assert judge_endurance(load(), Threshold(value, "at_most")).outcome == "error"


def test_another_relation_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="at_most"):
        judge_endurance(load(), Threshold(1.0, "at_least"))


def test_false_alarms_are_rare() -> None:
    """Noise of pages on both sides: none of 60 healthy loads fails, all leaks are found."""
    generator = np.random.default_rng(1)
    outcomes: dict[float, list[str]] = {0.0: [], 100.0: []}
    for leak, found in outcomes.items():
        for seed in range(60):
            samples = load(seed, leak=leak)
            noise = 4096 * generator.integers(-2, 3, TURNS + 1)
            held = samples.turns.candidate.memory_bytes + noise
            candidate = dataclasses.replace(samples.turns.candidate, memory_bytes=held)
            turns = dataclasses.replace(samples.turns, candidate=candidate)
            found.append(parts(dataclasses.replace(samples, turns=turns))["memory"])
    assert "fail" not in outcomes[0.0]
    assert outcomes[100.0].count("fail") == 60


def test_five_minutes_of_5_ms_show_a_leak_that_comes_in_steps() -> None:
    """100 kB after every 1,000 calls, about one step a turn: 45,000 calls in three quarters."""
    for seed in range(30):
        generator = np.random.default_rng(seed)
        samples = load(seed)
        per_turn = 45_000 / TURNS * generator.lognormal(0, 0.3, TURNS)
        counted = np.concatenate([[0], np.cumsum(per_turn.astype(np.int64))])
        held = 30_000_000 + 100_000 * ((counted + generator.integers(1000)) // 1000)
        candidate = dataclasses.replace(
            samples.turns.candidate, calls_before=counted, memory_bytes=held // 4096 * 4096
        )
        turns = dataclasses.replace(samples.turns, candidate=candidate)
        assert parts(dataclasses.replace(samples, turns=turns))["memory"] == "fail"
