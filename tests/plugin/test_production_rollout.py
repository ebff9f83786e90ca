"""The candidate is rolled out on this host by real servers, and planted faults go back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edge_runs import QUICK, Place, Run
from models import require

require("onnxruntime", "onnx")
REQUIRED = QUICK + '\n[production]\nrequired = ["rollout"]\n'


def verdict(run: Run) -> dict[str, Any]:
    (found,) = [gate for gate in run.candidate()["gates"] if gate["name"] == "rollout"]
    return dict(found)


def test_a_candidate_is_rolled_out_and_planted_faults_go_back(place: Place) -> None:
    place.write(REQUIRED)
    run = place.run("-k", "rollout", "--edge-threshold=speedup=0.01")
    assert run.code == 0, run.text
    found = verdict(run)
    assert found["outcome"] == "pass"
    ends = {each["name"]: each["end"] for each in found["details"]["runs"]}
    assert ends == {
        "gradual ramp": "completed",
        "gradual ramp, killed": "rolled_back",
        "gradual ramp, slowed": "rolled_back",
        "blue-green switch, killed": "rolled_back",
    }
    evidence = Path(run.report["evidence"]["directory"])
    (kept,) = evidence.rglob("rollout.npz")
    with np.load(kept) as arrays:
        assert len(arrays["0_seconds"]) == found["details"]["runs"][0]["requests"]


def test_a_candidate_that_is_too_slow_for_its_place_fails(place: Place) -> None:
    """Slower than a thousandth of the old version's p95 is what every candidate is."""
    extra = REQUIRED.replace("[gates]", "[gates]\nrollout_latency_factor = 0.001")
    place.write(extra)
    run = place.run("-k", "rollout")
    assert run.code == 1
    assert "the candidate was rolled back" in verdict(run)["reason"]
    assert "rollout" in run.candidate()["promotion_blocked_by"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("rollout_error_ratio = 1.5", "[gates] rollout_error_ratio"),
        ("rollout_latency_factor = -1", "[gates] rollout_latency_factor"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(place: Place, line: str, words: str) -> None:
    place.write(REQUIRED.replace("[gates]", f"[gates]\n{line}"))
    run = place.run("-k", "rollout")
    assert run.code == 4
    assert words in json.dumps(run.result.stderr.str())
