"""How the rounds of a session are taken, with real worker processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from edge_runs import CANDIDATE, Place, running_workers

from pytest_edgeai.judge.procedure import FEWEST_SIGNS, ROUNDS_PER_START


def speedup(run: Any) -> dict[str, Any]:
    home = Path(run.report["evidence"]["directory"]) / "linear" / CANDIDATE
    found: dict[str, Any] = json.loads((home / "verdicts" / "speedup.json").read_text("utf-8"))
    return found


def test_a_verdict_says_how_it_was_measured(place: Place) -> None:
    place.write()
    details = speedup(place.run("-k", "speedup"))["details"]
    assert details["procedure"]["deciding"] == "agree"
    for side in ("baseline", "candidate"):
        assert details["warm_up"][side]["calls"] >= 100
    assert isinstance(details["waits"], list)


def test_several_threads_are_judged_over_pairs_of_processes(place: Place) -> None:
    place.write()
    run = place.run("-k", "speedup", "--edge-threads=2")
    verdict = speedup(run)
    assert verdict["outcome"] == "pass"
    assert verdict["details"]["procedure"]["deciding"] == "starts"
    assert f"by wall time of {FEWEST_SIGNS} pairs of processes" in verdict["reason"]
    home = Path(run.report["evidence"]["directory"]) / "linear" / CANDIDATE
    with np.load(home / "timings.npz", allow_pickle=False) as archive:
        counts = np.bincount(archive["attempt"]).tolist()
    assert counts == [ROUNDS_PER_START] * FEWEST_SIGNS
    assert not running_workers(place.path)
