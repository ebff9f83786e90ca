"""What a driver is given and what it answers; drivers run in a contestant's own environment.

Only the standard library is imported here, and NumPy where pairs of predictions are drawn, since a
contestant's environment holds the contestant, ONNX Runtime and NumPy, and nothing of this project.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Literal, TypeAlias

Outcome: TypeAlias = Literal["pass", "fail", "inconclusive", "error"]
Row: TypeAlias = tuple[int, int, int, int]
"""Samples that both, only the baseline, only the candidate, and neither got right."""

WARM_UP_CALLS = 10
_SHOWN = 300


@dataclass(frozen=True)
class Said:
    """What a contestant said.

    Attributes:
        outcome: its verdict.
        reason: the last words of its output, or why there is no verdict.
    """

    outcome: Outcome
    reason: str = ""


@dataclass(frozen=True)
class Request:
    """One trial, as the driver gets it.

    Attributes:
        kind: what is asked, see ``cases.Case.kind``.
        detail: which variety of its kind.
        slower: the allowed slowdown.
        retained: share of the accuracy that must be kept.
        floor: least accuracy of the baseline.
        baseline: model file.
        candidate: model file.
        inputs: ``.npy`` of the samples.
        labels: ``.npy`` of the labels.
        archive: ``.npz`` with both as ``x`` and ``y``.
        folder: where the driver may write.
        planted: folder of the module ``planted_session``.
        draws: what is drawn, for the kind ``draws``.
    """

    kind: str
    detail: str
    slower: float
    retained: float
    floor: float
    baseline: Path
    candidate: Path
    inputs: Path
    labels: Path
    archive: Path
    folder: Path
    planted: Path
    draws: Mapping[str, Any] = field(default_factory=dict)

    @property
    def slower_percent(self) -> float:
        """The allowed slowdown in percent."""
        return round(100 * self.slower, 6)

    def as_json(self) -> str:
        """Return it as a text that :func:`serve` reads."""
        return json.dumps(asdict(self), default=str)


_PATHS = ("baseline", "candidate", "inputs", "labels", "archive", "folder", "planted")

Judge: TypeAlias = Callable[[Request], Mapping[str, Said]]
Rule: TypeAlias = Callable[[Row, float], Outcome]


def serve(judge: Judge, rule: Rule | None = None) -> None:
    """Read the request that the first argument names, and write the answer to the second.

    Whatever the contestant raises is an answer: ``error``, with the last line of it.

    Args:
        judge: judges a pair of models; variants of the contestant to what each said.
        rule: judges one drawn pair of predictions against a share that must be kept.
    """
    source, target = (Path(argument) for argument in sys.argv[1:3])
    fields = json.loads(source.read_text(encoding="utf-8"))
    request = Request(**{**fields, **{name: Path(fields[name]) for name in _PATHS}})
    answer: dict[str, Any]
    try:
        if request.kind == "draws" and rule is not None:
            answer = {"cells": draw(rule, request.draws)}
        else:
            said = judge(request)
            answer = {"said": {variant: asdict(words) for variant, words in said.items()}}
    except Exception as error:  # whatever a contestant raises is its answer
        last = traceback.format_exception_only(error)[-1].strip()
        answer = {"said": {"": asdict(Said("error", last[:_SHOWN]))}}
    target.write_text(json.dumps(answer), encoding="utf-8")


def draw(rule: Rule, plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Draw pairs of predictions with a known loss and count what the rule says of them.

    Every number of samples gets the same time, whatever the rule takes for it; with the same seed
    every rule is given the same pairs, as many of them as it has time for.

    Args:
        rule: of the contestant.
        plan: ``seed``, ``seconds``, ``thresholds``, ``losses``, ``samples``, ``accuracy`` of the
            baseline and ``gain``, the share of the samples that the candidate alone gets right.

    Returns:
        One record for each loss, number of samples and threshold: the counts of the outcomes, and
        the seconds that the rule took.
    """
    import numpy as np

    accuracy, gain = plan["accuracy"], plan["gain"]
    records: list[dict[str, Any]] = []
    for samples in plan["samples"]:
        cells = [
            _Cell(threshold, loss, samples, np.random.default_rng([plan["seed"], number]))
            for number, (threshold, loss) in enumerate(product(plan["thresholds"], plan["losses"]))
        ]
        end = time.monotonic() + plan["seconds"] / len(plan["samples"])
        while time.monotonic() < end:
            for cell in cells:
                cell.judge(rule, accuracy, gain)
        records += [cell.record() for cell in cells]
    return records


@dataclass
class _Cell:
    """Drawn pairs with one loss and one number of samples, against one threshold."""

    threshold: float
    loss: float
    samples: int
    generator: Any
    seconds: float = 0.0
    outcomes: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("pass", "fail", "inconclusive", "error"), 0)
    )

    def judge(self, rule: Rule, accuracy: float, gain: float) -> None:
        """Draw one pair and count what the rule says of it."""
        both = (1 - self.loss) * accuracy - gain
        shares = [both, accuracy - both, gain, 1 - accuracy - gain]
        drawn = self.generator.multinomial(self.samples, shares).tolist()
        row: Row = (drawn[0], drawn[1], drawn[2], drawn[3])
        begin = time.perf_counter()
        outcome = rule(row, self.threshold)
        self.seconds += time.perf_counter() - begin
        self.outcomes[outcome] += 1

    def record(self) -> dict[str, Any]:
        """Return the counts as JSON."""
        return {
            "threshold": self.threshold,
            "loss": self.loss,
            "samples": self.samples,
            "outcomes": self.outcomes,
            "seconds": round(self.seconds, 6),
        }


def run_tool(
    arguments: Sequence[str | Path], folder: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command of the contestant's environment as its user would, in ``folder``.

    This project is hidden from it: its plugin would otherwise be loaded by pytest.
    """
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=folder,
        env={**kept, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )


def said(
    done: subprocess.CompletedProcess[str], outcomes: Mapping[int, Outcome], word: str = ""
) -> Said:
    """Return what a command said by its exit code; one that is not listed is an error.

    Args:
        done: the finished command.
        outcomes: exit code to outcome.
        word: the first line with this word is the reason; by default the last line.
    """
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    told = [line for line in lines if word in line] or lines or [""]
    return Said(outcomes.get(done.returncode, "error"), told[0 if word else -1][:_SHOWN])
