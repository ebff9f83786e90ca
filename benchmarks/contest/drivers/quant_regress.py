"""quant-regress, by its library: its command line quantizes Hugging Face models by itself.

``QuantHarness`` takes any model with ``answer(prompt)``; here a prompt is the number of a sample
and the answer its class. The allowed drop is the share of the baseline's accuracy that may be lost,
in its unit (points); its advice to set a least accuracy is followed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.contest.drivers.exchange import Outcome, Request, Row, Said, serve
from benchmarks.contest.planted.planted_session import open_session


class Answering:
    """A model in the shape that the harness takes."""

    def __init__(self, answer: Callable[[str], str]) -> None:
        """Answer by ``answer``."""
        self.answer = answer


def judge(request: Request) -> Mapping[str, Said]:
    """Compare the two models on the evaluation data."""
    import numpy as np

    inputs, labels = np.load(request.inputs), np.load(request.labels)

    def factory(precision: str) -> Answering:
        return Answering(_classifier(files[precision], inputs))

    files = {"fp32": request.baseline, "int8": request.candidate}
    scorer: Callable[[str, str], Any] | None = None
    if request.kind == "metric" and request.detail in ("raises", "nan"):
        scorer = _raises if request.detail == "raises" else lambda answer, expected: float("nan")
    first = _compare(factory, [str(label) for label in labels], 100.0, None, scorer)
    drop = 100 * (1 - request.retained) * first.baseline.accuracy
    result = _compare(factory, [str(label) for label in labels], drop, request.floor, scorer)
    outcome: Outcome = "pass" if result.verdict.value == "pass" else "fail"
    reason = result.floor_failure or f"worst drop: {result.worst_drop_points:+.2f} points"
    return {"": Said(outcome, reason)}


def _raises(answer: str, expected: str) -> bool:
    raise ValueError("the metric cannot be computed")


def _classifier(model: Path, inputs: Any) -> Callable[[str], str]:
    session = open_session(model)

    def answer(prompt: str) -> str:
        index = int(prompt)
        return str(int(session.run(None, {"x": inputs[index : index + 1]})[0].argmax()))

    return answer


def _compare(
    factory: Callable[[str], Answering],
    expected: list[str],
    drop: float,
    floor: float | None,
    scorer: Callable[[str, str], Any] | None = None,
) -> Any:
    harness = importlib.import_module("quant_regress.harness")
    evalset = importlib.import_module("quant_regress.evalset")
    cases = [evalset.Case(str(i), str(i), label) for i, label in enumerate(expected)]
    return harness.QuantHarness(factory, scorer=scorer).compare(
        evalset.EvalSet(cases), max_drop_points=drop, min_accuracy=floor
    )


def rule(row: Row, threshold: float) -> Outcome:
    """Let it count right and wrong answers of as many samples as were drawn."""
    ends = (row[0], row[0] + row[1], sum(row[:3]), sum(row))

    def right(precision: str) -> Callable[[str], str]:
        def answer(prompt: str) -> str:
            index = int(prompt)
            if index < ends[0]:
                return "yes"
            if index < ends[1]:
                return "yes" if precision == "fp32" else "no"
            return "yes" if precision == "int8" and index < ends[2] else "no"

        return answer

    accuracy = (row[0] + row[1]) / sum(row)
    result = _compare(
        lambda precision: Answering(right(precision)),
        ["yes"] * sum(row),
        100 * (1 - threshold) * accuracy,
        None,
    )
    return "pass" if result.verdict.value == "pass" else "fail"


if __name__ == "__main__":
    serve(judge, rule)
