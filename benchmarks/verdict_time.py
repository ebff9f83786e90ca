"""How long does a verdict on speed take, and is it right?

    python -m benchmarks.verdict_time --model digits --repetitions 20

The baseline in ONNX Runtime against its INT8 candidate in OpenVINO, at thresholds 1.5 times below
and above their ratio (a clear case, as 3x against 2x), and the candidate against itself at 0.95 and
1.05 (an unclear one, whose truth is known to be 1). Every repetition starts new workers; its time
runs from the first warm-up call to the verdict. Targets: a clear case is decided in under 3 s at
the median, the statistics of a look take under 2 ms, and no verdict is wrong; being inconclusive
within the budget is not wrong.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections import Counter

import numpy as np

from benchmarks.common import Subject, finish, make_subject, print_context, print_table, scratch
from pytest_edgeai.judge.speed import judge_speed, speed_decided
from pytest_edgeai.judge.timings import is_contended
from pytest_edgeai.measure.latency import interleave
from pytest_edgeai.measure.rounds import Rounds
from pytest_edgeai.records import PairedTimings, Threshold, Verdict

CLEAR_FACTOR = 1.5
CLEAR_LIMIT_S = 3.0
LOOK_LIMIT_S = 0.002
ESTIMATING_ROUNDS = 100


class Case:
    """One pair of models at one threshold."""

    def __init__(self, name: str, sides: tuple[str, str], ratio: float, right: str) -> None:
        self.name = f"{name} at {ratio:.2f}"
        self.sides = sides
        self.threshold = Threshold(ratio, "at_least", "benchmark")
        self.right = right
        self.seconds: list[float] = []
        self.looks_s: list[float] = []
        self.verdicts: list[Verdict] = []

    def decided(self, timings: PairedTimings) -> bool:
        """Ask the rule, and note how long it took."""
        begin = time.perf_counter()
        answer = speed_decided(timings, self.threshold)
        self.looks_s.append(time.perf_counter() - begin)
        return answer

    def run(self, subject: Subject, budget_s: float) -> None:
        """Measure until the verdict or the end of the budget."""
        models = [subject.load(framework) for framework in self.sides]
        try:
            begin = time.perf_counter()
            timings, spent = interleave(
                models[0],
                models[1],
                Rounds.of(2),
                decided=self.decided,
                is_contended=is_contended,
                budget_s=budget_s,
                generator=random.Random(),
                progress=lambda rounds, seconds: None,
            )
            self.verdicts.append(judge_speed(timings, self.threshold, budget_spent=spent))
            self.seconds.append(time.perf_counter() - begin)
        finally:
            for model in models:
                model.close()

    def row(self) -> list[str]:
        """Return the table's row."""
        outcomes = Counter(verdict.outcome for verdict in self.verdicts)
        return [
            self.name,
            ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items())),
            f"{statistics.median(verdict.samples for verdict in self.verdicts):.0f}",
            f"{statistics.median(self.seconds):.2f} ({max(self.seconds):.2f})",
            f"{statistics.median(self.looks_s) * 1e3:.2f}",
        ]

    @property
    def wrong(self) -> int:
        """Number of verdicts that say the opposite of the truth."""
        opposite = {"pass": "fail", "fail": "pass"}[self.right]
        return sum(verdict.outcome == opposite for verdict in self.verdicts)


def estimate_ratio(subject: Subject) -> float:
    """Return the candidate's speed-up, about."""
    models = [subject.load(framework) for framework in ("onnxruntime", "openvino")]
    try:
        timings, _ = interleave(
            models[0],
            models[1],
            Rounds.of(2),
            decided=lambda timings: timings.rounds >= ESTIMATING_ROUNDS,
            is_contended=is_contended,
            budget_s=60.0,
            generator=random.Random(),
            progress=lambda rounds, seconds: None,
        )
    finally:
        for model in models:
            model.close()
    return float(np.median(timings.baseline_wall_ns / timings.candidate_wall_ns))


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="digits", help="digits or cnn-WIDTH")
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--budget", type=float, default=5.0, help="seconds of one verdict")
    arguments = parser.parse_args()
    print_context("openvino", "onnxruntime")
    with scratch() as folder:
        subject = make_subject(arguments.model, folder)
        ratio = estimate_ratio(subject)
        both, same = ("onnxruntime", "openvino"), ("openvino", "openvino")
        clear = [
            Case(f"ratio {ratio:.2f}", both, ratio / CLEAR_FACTOR, "pass"),
            Case(f"ratio {ratio:.2f}", both, ratio * CLEAR_FACTOR, "fail"),
        ]
        near = [Case("itself", same, 0.95, "pass"), Case("itself", same, 1.05, "fail")]
        for _ in range(arguments.repetitions):
            for case in random.sample(clear + near, 4):
                case.run(subject, arguments.budget)
    header = ("case", "verdicts", "median rounds", "median s (longest)", "statistics ms a look")
    print_table(header, [case.row() for case in clear + near])
    missed = [f"{case.name}: {case.wrong} wrong" for case in clear + near if case.wrong]
    for case in clear:
        if statistics.median(case.seconds) >= CLEAR_LIMIT_S:
            missed.append(f"{case.name}: {statistics.median(case.seconds):.2f} s")
        if statistics.median(case.looks_s) >= LOOK_LIMIT_S:
            missed.append(f"{case.name}: {statistics.median(case.looks_s):.4f} s a look")
    return finish(missed, f"clear cases in under {CLEAR_LIMIT_S:g} s, no wrong verdict")


if __name__ == "__main__":
    sys.exit(main())
