from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_edgeai.errors import NotCertified
from pytest_edgeai.measure.bench import Runnable
from pytest_edgeai.measure.load import read_run, require_generator, shared, undisturbed_ns
from pytest_edgeai.records import RuntimeOptions
from pytest_edgeai.selfcheck.workload import FRAMEWORK


def answer(path: Path, **arrays: Any) -> dict[str, Any]:
    made = {name: np.asarray(values) for name, values in arrays.items()}
    np.savez(path, allow_pickle=False, **made)
    return {
        "arrays": str(path),
        "seconds": 1.0,
        "summary": {"Result is": "VALID"},
        "messages": {"ValueError: no": 1},
        "logs": [f"{path}.txt"],
    }


def test_a_preempted_call_counts_with_its_cpu_time_where_that_is_valid(tmp_path: Path) -> None:
    told = answer(
        tmp_path / "one.npz",
        wall_ns=[10, 90, 80],
        cpu_ns=[9, 8, 7],
        preemptions=[0, 2, 0],
        delay_ns=[-1, -1, -1],
        failed=[False, False, True],
    )
    run = read_run("SingleStream", {}, [told], 1, cpu_time_is_valid=True)
    assert run.undisturbed_ns.tolist() == [10, 8, 80]
    assert run.latency_ns.tolist() == [10, 90, 80]
    assert run.failed.tolist() == [False, False, True]
    other = read_run("SingleStream", {}, [told], 1, cpu_time_is_valid=False)
    assert other.undisturbed_ns.tolist() == [10, 90, 80]
    assert not other.tells_contention


def test_a_wait_for_a_core_is_taken_off_and_a_sleep_is_not() -> None:
    calls = {
        "wall_ns": np.array([100, 100, 100]),
        "cpu_ns": np.array([10, 10, 40]),
        "preemptions": np.array([1, 1, 1]),
        "delay_ns": np.array([0, 30, 90]),
    }
    assert undisturbed_ns(calls).tolist() == [100, 70, 40]


def test_runs_of_several_workers_are_one_with_lanes(tmp_path: Path) -> None:
    fields = {"cpu_ns": [1, 1], "preemptions": [0, 0], "delay_ns": [0, 0], "failed": [False, False]}
    answers = [
        answer(
            tmp_path / f"{index}.npz",
            wall_ns=[5, 5],
            scheduled_ns=[0, 3],
            issue_delay_ns=[0, 2],
            latency_ns=[5, 7 + index],
            **fields,
        )
        for index in range(2)
    ]
    run = read_run("Server", {"server_target_qps": 9.0}, answers, 2, cpu_time_is_valid=True)
    assert run.lane.tolist() == [0, 0, 1, 1]
    assert run.latency_ns.tolist() == [5, 7, 5, 8]
    assert (run.lanes, run.streams, run.target_per_second) == (2, 2, 9.0)
    assert run.messages == {"ValueError: no": 2}
    answers[1]["summary"] = {"Result is": "INVALID"}
    assert not read_run("Server", {}, answers, 2, cpu_time_is_valid=True).is_valid


def test_workers_share_rate_and_queries_and_draw_their_own_arrivals() -> None:
    settings = {"server_target_qps": 9.0, "min_query_count": 7, "schedule_rng_seed": 5, "other": 1}
    shares = [shared(settings, 3, index) for index in range(3)]
    assert [share["server_target_qps"] for share in shares] == [3.0] * 3
    assert [share["min_query_count"] for share in shares] == [3] * 3
    assert len({share["schedule_rng_seed"] for share in shares}) == 3
    assert settings["min_query_count"] == 7


def test_without_loadgen_nothing_is_certified() -> None:
    runnable = Runnable(FRAMEWORK, Path(sys.executable), Path("model"), RuntimeOptions())
    assert require_generator({"version": "6.0.17"}, runnable) == "6.0.17"
    with pytest.raises(NotCertified) as caught:
        require_generator({"version": ""}, runnable)
    assert caught.value.advice == f"run: {sys.executable} -m pip install mlcommons-loadgen"
