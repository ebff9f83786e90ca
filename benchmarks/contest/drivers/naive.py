"""What many a script does: the mean of 100 calls of one model, then of the other, and a division.

Accuracy likewise: the candidate's share of right answers over the baseline's.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.contest.drivers.exchange import (
    WARM_UP_CALLS,
    Outcome,
    Request,
    Row,
    Said,
    serve,
)
from benchmarks.contest.planted.planted_session import open_session

CALLS = 100


def judge(request: Request) -> Mapping[str, Said]:
    """Measure one after the other and compare the means."""
    import numpy as np

    inputs = np.load(request.inputs)
    if request.kind in ("speed", "stability"):
        baseline, candidate = (
            _mean_s(model, inputs[:1]) for model in (request.baseline, request.candidate)
        )
        ratio = candidate / baseline
        outcome: Outcome = "fail" if ratio > 1 + request.slower else "pass"
        return {"": Said(outcome, f"{ratio:.3f} times the baseline's mean")}
    if request.detail == "raises":
        raise ValueError("the metric cannot be computed")
    labels = np.load(request.labels)
    right = [_right(model, inputs, labels) for model in (request.baseline, request.candidate)]
    shares = [np.nan if request.detail == "nan" and request.kind == "metric" else s for s in right]
    if shares[0] == 0:
        raise ZeroDivisionError("the baseline is never right")
    kept = shares[1] / shares[0]
    outcome = "fail" if kept <= request.retained else "pass"
    return {"": Said(outcome, f"keeps {kept:.3f} of the baseline's accuracy")}


def _mean_s(model: Path, x: Any) -> float:
    session = open_session(model)
    feeds = {"x": x}
    for _ in range(WARM_UP_CALLS):
        session.run(None, feeds)
    begin = time.perf_counter()
    for _ in range(CALLS):
        session.run(None, feeds)
    return (time.perf_counter() - begin) / CALLS


def _right(model: Path, inputs: Any, labels: Any) -> float:
    session = open_session(model)
    answers = [
        int(session.run(None, {"x": inputs[index : index + 1]})[0].argmax())
        for index in range(len(inputs))
    ]
    return float((answers == labels).mean())


def rule(row: Row, threshold: float) -> Outcome:
    """Divide the accuracies."""
    kept = (row[0] + row[2]) / (row[0] + row[1])
    return "fail" if kept <= threshold else "pass"


if __name__ == "__main__":
    serve(judge, rule)
