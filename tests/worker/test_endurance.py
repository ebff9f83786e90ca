"""Planted faults that only constant load shows, in real processes, measured and judged.

Timing never decides: a part that the machine is too busy for may be undecided. What a planted fault
must never do is pass, and what a healthy model must never do is fail.
"""

from __future__ import annotations

import sys
from pathlib import Path

from enduring import under_load
from enduring_frameworks import Fault

from pytest_edgeai.judge.endurance import has_recovered, judge_endurance
from pytest_edgeai.measure.exclusive import exclusive
from pytest_edgeai.records import Threshold, Verdict
from pytest_edgeai.selfcheck.planted import PlantedModel

LIMIT = Threshold(50_000.0, "at_most")
LENGTH_S = 2.0
WORK = PlantedModel(repetitions=20)


def endured(folder: Path, candidate: Fault, baseline: Fault | None = None) -> Verdict:
    with (
        exclusive(time_limit_s=300.0, waiting=lambda seconds: None),
        under_load(folder, candidate, length_s=LENGTH_S, baseline=baseline) as (load, trace),
    ):
        load.run(load.plan.turns, progress=lambda turns, left: None, write=lambda: None)
        valid = load.cpu_time_is_valid
        before = trace.samples(cpu_time_is_valid=valid)
        burst = None
        if not trace.died:
            burst = load.spike(
                recovered=lambda after: has_recovered(before, after),
                limit_s=2.0,
                progress=lambda what: None,
            )
        samples = trace.samples(cpu_time_is_valid=valid, burst=burst)
    return judge_endurance(samples, LIMIT, recovery_limit_s=2.0)


def part(verdict: Verdict, name: str) -> str:
    found: str = verdict.details["parts"][name]["outcome"]
    return found


def test_a_healthy_model_does_not_fail(tmp_path: Path) -> None:
    verdict = endured(tmp_path, Fault(planted=WORK), Fault(planted=WORK))
    assert verdict.outcome in ("pass", "inconclusive"), verdict.reason
    assert part(verdict, "memory") == "pass", verdict.reason
    if sys.platform == "linux":
        assert part(verdict, "open files") == part(verdict, "threads") == "pass"
    assert verdict.details["parts"]["spike"]["streams"] == 4
    assert verdict.details["calls"][1] > verdict.details["calls"][0]


def test_what_calls_leave_behind_is_found(tmp_path: Path) -> None:
    """100 bytes a call, a file and a thread now and then: each part says so by itself."""
    leak = PlantedModel(repetitions=20, leak_bytes=100)
    fault = Fault(planted=leak, files_every=150, threads_every=150)
    verdict = endured(tmp_path, fault, Fault(planted=WORK))
    assert part(verdict, "memory") == "fail", verdict.reason
    assert verdict.outcome == "fail"
    # NumPy and Python need some bytes for each array beside its content.
    assert verdict.observed is not None
    assert verdict.observed >= 100_000
    if sys.platform == "linux":
        assert part(verdict, "open files") == part(verdict, "threads") == "fail"
        assert "rising in every third" in verdict.reason


def test_a_model_that_gets_slower_and_that_a_spike_slows_down_for_good(tmp_path: Path) -> None:
    work = PlantedModel(repetitions=20, drift_calls=1500)
    slower = Fault(planted=work, slow_after_burst=4)
    verdict = endured(tmp_path, slower, Fault(planted=WORK))
    assert part(verdict, "latency drift") != "pass", verdict.reason
    assert part(verdict, "spike") != "pass", verdict.reason
    assert verdict.outcome != "pass"


def test_a_process_that_ends_under_load_fails(tmp_path: Path) -> None:
    verdict = endured(tmp_path, Fault(planted=WORK, dies_after=3000), Fault(planted=WORK))
    assert verdict.outcome == "fail"
    assert "exited with code 7" in verdict.reason
