"""The gates of stability, as a user runs them: one measurement, kept and read again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edge_runs import CANDIDATE, Place, Run
from models import require

from pytest_edgeai.records import PART_TURNS

GATES = ("latency_tail", "latency_drift", "memory_growth")
ONLY = "latency_tail or latency_drift or memory_growth"


@pytest.fixture(autouse=True)
def _runtime() -> None:
    require("onnxruntime", "onnx")


def verdict(run: Run, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(g for g in run.candidate()["gates"] if g["name"] == name)
    return found


def turns_of(run: Run) -> dict[str, np.ndarray[Any, Any]]:
    """Return the arrays of the one measurement."""
    folder = Path(run.report["evidence"]["directory"])
    [path] = folder.rglob("stability.npz")
    assert path.parent.name == CANDIDATE
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files}


def test_three_gates_rest_on_one_measurement(place: Place) -> None:
    place.write()
    run = place.run("-k", ONLY)
    assert run.code == 0, run.text
    assert {gate: run.verdicts()[gate] for gate in GATES} == dict.fromkeys(GATES, "pass")
    assert "24 turns" in verdict(run, "latency_drift")["reason"]
    assert "per 1,000 calls" in verdict(run, "memory_growth")["reason"]
    arrays = turns_of(run)
    for side in ("baseline", "candidate"):
        assert len(arrays[f"{side}_wall_ns"]) == PART_TURNS
        assert len(arrays[f"{side}_memory_bytes"]) == PART_TURNS + 1
        assert (arrays[f"{side}_memory_bytes"] > 2**20).all()


def test_a_failure_is_confirmed_and_turns_are_added_to_those_that_there_were(place: Place) -> None:
    place.write("[gates]\nlatency_tail = 1\nlatency_drift = 0.01\nmemory_growth = '1 GiB'\n")
    run = place.run("-k", ONLY)
    assert run.outcomes == {"passed": 2, "failed": 1, "deselected": run.outcomes["deselected"]}
    assert {gate: run.verdicts()[gate] for gate in GATES} == {
        "latency_tail": "pass",
        "latency_drift": "fail",
        "memory_growth": "pass",
    }
    assert verdict(run, "latency_tail")["samples"] <= PART_TURNS * 50
    assert verdict(run, "latency_drift")["samples"] == 2 * PART_TURNS
    # It passes with what was measured for the gate before it.
    assert verdict(run, "memory_growth")["samples"] == 2 * PART_TURNS
    arrays = turns_of(run)
    assert len(arrays["candidate_wall_ns"]) == len(arrays["candidate_first"]) == 2 * PART_TURNS
    assert (np.diff(arrays["candidate_calls_before"]) > 0).all()


def test_a_budget_that_is_spent_is_not_spent_again(place: Place) -> None:
    """Each gate asks for more; the first one has used up what there was."""
    place.write("[gates]\nlatency_tail = 0.000001\nlatency_drift = 1000\n")
    run = place.run("-k", "latency_tail or memory_growth", "--edge-budget=1")
    assert run.verdicts()["latency_tail"] == "inconclusive"
    assert "calls are needed" in verdict(run, "latency_tail")["reason"]
    arrays = turns_of(run)
    assert 1 <= float(arrays["spent_s"]) < 15
    assert len(arrays["candidate_wall_ns"]) >= verdict(run, "memory_growth")["samples"]


def test_speed_is_not_certified_by_a_proxy_and_memory_is(place: Place) -> None:
    place.write("[gates]\nlatency_tail = 1\nlatency_drift = 1000\nmemory_growth = '1 GiB'\n")
    run = place.run("-k", ONLY, "--edge-framework=onnxruntime", target="arm-mobile")
    assert run.verdicts()["latency_tail"] == "proxy"
    assert run.verdicts()["latency_drift"] == "proxy"
    assert run.verdicts()["memory_growth"] == "pass"
