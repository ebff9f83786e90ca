"""A study over a small space with a known best point; run as a script, one process of a fleet."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from pytest_edgeai.plan.search_space import Branch, Point, SearchSpace
from pytest_edgeai.records import JSON, RuntimeOptions
from pytest_edgeai.search_records import Figure, Trial, TrialState
from pytest_edgeai.searching_storage import Claim, open_place
from pytest_edgeai.searching_study import Limits, Measured, Study

SPACE = SearchSpace(
    (
        Branch("one", "a", {"x": (0, 1, 2, 3), "flag": (False, True)}, {}, {"x": 0, "flag": False}),
        Branch("one", "b", {"y": ("u", "v", "w")}, {}, {"y": "u"}),
        Branch("two", "c", {"x": (0, 1, 2, 3), "hint:level": ("all", "some")}, {}, {"x": 0}),
    ),
    threads=1,
)
OBJECTIVES = ("speedup", "accuracy_retained", "memory_cut")
FAILS = {"y": "w"}
"""Options of the point that cannot be made."""


def measured(point: Point, seconds: float = 0.0) -> Measured:
    """Return what a point gives: more ``x`` is faster and less accurate, scheme ``c`` is slower."""
    time.sleep(seconds)
    options = dict(point.recipe.options)
    speed = 1.0 + int(options.get("x", 0)) - 0.5 * (point.recipe.scheme == "c")
    accuracy = 1.0 - 0.02 * int(options.get("x", 0)) + 0.01 * bool(options.get("flag"))
    figures = {
        name: Figure(value, value - 0.001, value + 0.001)
        for name, value in zip(OBJECTIVES, (speed, accuracy, 0.5), strict=True)
    }
    state: TrialState = "measured"
    reason = ""
    violations: Mapping[str, float] = {"accuracy_retained": 0.95 - accuracy}
    if options == FAILS:
        state, reason, figures, violations = "failed", "cannot be made", {}, {"made": 1.0}
    elif accuracy < 0.95:
        state, reason = "screened-out", "accuracy is too low"
    trial = Trial(
        0,
        point.recipe,
        RuntimeOptions(1),
        state,
        figures,
        seconds,
        reason,
        10,
    )
    return Measured(trial, violations)


def open_study(folder: Path, name: str = "known", about: Mapping[str, JSON] | None = None) -> Study:
    """Return the study below a folder, as this process sees it."""
    place = open_place("", folder, folder, "--edge-search")
    return Study(place, name, SPACE, OBJECTIVES, Claim(folder), about or {"model": "m"})


def run(study: Study, trials: int, seconds: float = 0.0, limit_s: float = 60.0) -> str:
    """Run a study and return why it ended."""
    return study.run(
        lambda point, done: measured(point, seconds),
        Limits(trials, time.monotonic() + limit_s),
        lambda words: None,
    )


if __name__ == "__main__":
    here = open_study(Path(sys.argv[1]))
    print("open", flush=True)
    sys.stdin.readline()
    tried: list[str] = []

    def measure(point: Point, done: int) -> Measured:
        tried.append(point.key)
        print("trying", flush=True)
        return measured(point, float(sys.argv[3]))

    ended = here.run(measure, Limits(int(sys.argv[2]), time.monotonic() + 60.0), lambda words: None)
    print(json.dumps({"ended": ended, "tried": tried}), flush=True)
