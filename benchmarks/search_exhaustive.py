"""How much of the best point does a search find, and in what part of the time?

    python -m benchmarks.search_exhaustive --repetitions 3

A space that is small enough to enumerate is searched once to its end, and then by studies with a
quarter of its points, each with a cache of its own, so that every artifact is made anew. What is
looked for is the highest speed at an accuracy of at least 95%. The five best points of the
exhaustive run and what each study found are then timed in turns with each other and the baseline,
so that all are judged by the same rounds and the luck of an earlier one counts for nobody. Targets:
98% of the best one's speed, in at most a third of the time.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.common import Estimate, finish, print_context, print_table, scratch
from benchmarks.searches import GATES, files_of, run_pytest, speeds, write_project

SCORE_TARGET = 0.98
TIME_TARGET = 1 / 3
TRIALS_SHARE = 0.25
BEST = 5
MOST_TRIALS = 1024
SPACE = """
[search]
time_box_s = 7200
objective = "speedup"
finalists = {finalists}
study = "{study}"

[search.space]
scheme = ["int8-static", "int8-dynamic"]
prune_ratio = [0.0]
calibration_calls = [100]
calibrate_method = ["minmax", "percentile"]
weight_type = ["int8", "uint8"]

[search.hints.onnxruntime]
"""


def search(folder: Path, study: str, trials: int, finalists: int) -> dict[str, Any]:
    """Search with a cache of its own; return the model in the JSON report."""
    files = files_of("digits", folder / "files")
    place = folder / study
    write_project(files, place, GATES + SPACE.format(study=study, finalists=finalists))
    words = (f"--edge-search={trials}", "-k", "precision_proof")
    return run_pytest(place, *words, frameworks=("onnxruntime",))


def found_by(model: dict[str, Any]) -> list[tuple[str, Path]]:
    """Return what a search found, the best first: its options in words, and its artifact."""
    candidates = {each["id"]: each for each in model["candidates"]}
    return [
        (
            f"{candidates[name]['recipe']['scheme']} "
            + json.dumps(candidates[name]["recipe"]["options"]),
            Path(candidates[name]["artifact"]["path"]),
        )
        for name in model["searches"]["cross"]["finalists"]
    ]


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=3)
    arguments = parser.parse_args()
    print_context("onnxruntime", "optuna")
    with scratch() as folder:
        whole = search(folder, "exhaustive", MOST_TRIALS, BEST)
        report = whole["searches"]["cross"]
        points, seconds = report["space"]["points"], report["seconds"]
        trials = max(1, round(TRIALS_SHARE * points))
        studies = [
            search(folder, f"study-{number + 1}", trials, 1)
            for number in range(arguments.repetitions)
        ]
        best = found_by(whole)
        chosen = [found_by(study)[0] for study in studies]
        found = [("onnxruntime", Path(sys.executable), path) for _, path in (*best, *chosen)]
        measured = speeds(files_of("digits", folder / "files"), found, folder / "samples")
    top = max(measured[: len(best)])
    scores = [speed / top for speed in measured[len(best) :]]
    times = [study["searches"]["cross"]["seconds"] / seconds for study in studies]
    rows = [
        ["exhaustive", words, f"{speed:.2f}", f"{speed / top:.1%}", f"{seconds:.0f} s"]
        for (words, _), speed in zip(best, measured, strict=False)
    ]
    rows += [
        [f"study {number}", words, f"{score * top:.2f}", f"{score:.1%}", f"{share:.1%} of it"]
        for number, ((words, _), score, share) in enumerate(
            zip(chosen, scores, times, strict=True), 1
        )
    ]
    print(f"\ndigits: {points} points, {trials} trials of each study\n")
    print_table(("search", "found", "speedup", "of the best", "time"), rows)
    middle_score, middle_time = Estimate.of(scores), Estimate.of(times)
    missed = []
    if middle_score.value < SCORE_TARGET:
        missed.append(f"the score is {middle_score} of the best one, below {SCORE_TARGET:.0%}")
    if middle_time.value > TIME_TARGET:
        missed.append(f"the time is {middle_time} of the exhaustive run's, above a third")
    return finish(missed, "98% of the best speed in at most a third of the time")


if __name__ == "__main__":
    sys.exit(main())
