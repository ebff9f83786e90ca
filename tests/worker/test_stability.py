"""Planted faults that only a longer run shows, in real processes, through measurement and judges.

Timing never decides: where the machine is too busy to tell, a gate says so and the test with it.
What a planted fault must never do is pass.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from pytest_edgeai.judge.memory_growth import judge_memory_growth
from pytest_edgeai.judge.tail import judge_latency_tail
from pytest_edgeai.measure.exclusive import exclusive
from pytest_edgeai.measure.stability import Turns, take_turns
from pytest_edgeai.records import StabilitySamples, Threshold
from pytest_edgeai.selfcheck.cases import CASES, WatchedCase
from pytest_edgeai.selfcheck.planted import PlantedModel
from pytest_edgeai.selfcheck.watched import watch
from pytest_edgeai.selfcheck.workload import Workshop
from pytest_edgeai.worker.host import Worker

WATCHED = [case for case in CASES if isinstance(case, WatchedCase)]


def taken(workshop: Workshop, baseline: PlantedModel, candidate: PlantedModel) -> StabilitySamples:
    with workshop.loaded(baseline, candidate) as (first, second):
        samples, _ = take_turns(
            first,
            second,
            Turns(),
            decided=lambda turns: True,
            budget_s=20.0,
            generator=random.Random(0),
            progress=lambda count, seconds: None,
        )
    return samples


def test_a_worker_states_what_it_holds(worker: Worker) -> None:
    answers = [worker.request("memory_now", time_limit_s=10) for _ in range(3)]
    assert len({answer["definition"] for answer in answers}) == 1
    assert all(answer["bytes"] > 2**20 for answer in answers)


@pytest.mark.parametrize("leak_bytes", [0, 4096, 65536])
def test_a_leak_is_measured_to_the_page(tmp_path: Path, leak_bytes: int) -> None:
    model = PlantedModel(leak_bytes=leak_bytes)
    samples = taken(Workshop(tmp_path), PlantedModel(), model)
    verdict = judge_memory_growth(samples, Threshold(float(2**20), "at_most"))
    assert verdict.outcome == ("fail" if leak_bytes else "pass"), verdict.reason
    assert verdict.observed == pytest.approx(1000 * leak_bytes, rel=0.1, abs=64 * 1024)


def test_one_call_in_twenty_is_seen(tmp_path: Path) -> None:
    model = PlantedModel(repetitions=60, tail_every=20, tail_factor=10, tail_regular=True)
    samples = taken(Workshop(tmp_path), PlantedModel(repetitions=60), model)
    verdict = judge_latency_tail(samples, Threshold(0.005, "at_most"))
    assert verdict.outcome != "pass", verdict.reason
    assert verdict.details["candidate"]["stragglers"] >= 20


@pytest.mark.parametrize("case", WATCHED, ids=lambda case: case.name)
def test_no_planted_fault_passes(tmp_path: Path, case: WatchedCase) -> None:
    with exclusive(time_limit_s=120.0, waiting=lambda seconds: None):
        watched = watch(
            case,
            Workshop(tmp_path),
            budget_s=2.5,
            generator=random.Random(0),
            progress=lambda what, share: None,
        )
    for answer in watched.answers:
        assert answer.judgment in ("right", "inconclusive"), f"{answer.asked}: {answer.reason}"
    assert [answer.gate for answer in watched.answers if answer.truth == "missed"] == [case.missed]
