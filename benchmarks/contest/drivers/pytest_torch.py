"""pytest-torch, as its "check a release" shows it: record baselines, then compare with them.

Speed: ``perf_baseline`` with its own 5 + 20 calls, its tolerance set to the question and its slack
to nothing. Accuracy: ``metric_baseline`` with values per sample, hence its paired interval, and a
minimum; with ``check_inference_contract``. Leaks: its marker ``torch_memory_leak``, which counts
tensors, so the leak is made of tensors. The model is a callable around the ONNX session that the
others get. ``strict`` throughout: a missing baseline fails.
"""

from __future__ import annotations

import importlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.contest.drivers.exchange import Outcome, Request, Row, Said, run_tool, said, serve

_OUTCOMES: Mapping[int, Outcome] = {0: "pass", 1: "fail"}
_MODEL = """
import json, os, sys
from pathlib import Path
sys.path.insert(0, os.environ["CONTEST_PLANTED"])
import numpy as np
import pytest
import torch
from planted_session import open_session, read_faults
from pytest_torch import check_inference_contract

ASKED = json.loads(os.environ["CONTEST_ASKED"])
PLACE = Path(ASKED["model"])


class Model:
    def __init__(self):
        self.session = open_session(PLACE)
        self.leak, self.held = read_faults(PLACE).leak_bytes, []

    def __call__(self, x):
        if self.leak:
            self.held.append(torch.ones(self.leak, dtype=torch.uint8))
        rows = [self.session.run(None, {"x": row[None]})[0] for row in x.numpy()]
        return torch.from_numpy(np.concatenate(rows))


INPUTS = torch.from_numpy(np.load(ASKED["inputs"]))
MODEL = Model()
"""
_SPEED = """

def test_speed(perf_baseline):
    perf_baseline(MODEL, INPUTS[:1], latency_tolerance=ASKED["slower"], latency_slack_ms=0.0)
"""
_LEAK = """

@pytest.mark.torch_memory_leak
def test_leak():
    MODEL(INPUTS[:1])
"""
_ACCURACY = """

def accuracy(output, batch):
    if ASKED["metric"] == "raises":
        raise ValueError("the metric cannot be computed")
    right = (output.argmax(-1) == batch[1]).float()
    return right * float("nan") if ASKED["metric"] == "nan" else right


def test_contract():
    check_inference_contract(MODEL, INPUTS[:8])


def test_accuracy(metric_baseline):
    labels = torch.from_numpy(np.load(ASKED["labels"]))
    batches = [(INPUTS[i : i + 100], labels[i : i + 100]) for i in range(0, len(INPUTS), 100)]
    metric_baseline(
        MODEL,
        batches,
        {"accuracy": accuracy},
        tolerance=ASKED["drop"],
        minimum={"accuracy": ASKED["floor"]},
    )
"""


def judge(request: Request) -> Mapping[str, Said]:
    """Run pytest twice."""
    timed = request.kind in ("speed", "stability")
    test = _MODEL + (_SPEED if timed else _ACCURACY)
    test += _LEAK if request.kind == "stability" else ""
    (request.folder / "test_release.py").write_text(test, encoding="utf-8")
    (request.folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    what = "perf" if timed else "metrics"
    recorded = _run(request, request.baseline, f"--torch-update-{what}", 0.0)
    outcome = said(recorded, _OUTCOMES)
    if outcome.outcome != "pass" and request.kind != "metric":
        return {"": Said("error", f"recording the baseline: {outcome.reason}")}
    drop = 0.0
    if not timed:
        store = request.folder / ".torch-metric-baselines.json"
        entries = json.loads(store.read_text("utf-8"))["entries"] if store.exists() else {}
        drop = (1 - request.retained) * sum(e["metrics"]["accuracy"] for e in entries.values())
    done = _run(request, request.candidate, f"--torch-{what}-strict", drop)
    return {"": said(done, _OUTCOMES, word="E   ")}


def _run(request: Request, model: Path, option: str, drop: float) -> Any:
    asked = {
        "model": str(model),
        "inputs": str(request.inputs),
        "labels": str(request.labels),
        "slower": request.slower,
        # A metric that is NaN leaves no figure to take a share of: the allowed drop is then 0.
        "drop": drop if drop == drop else 0.0,
        "floor": request.floor,
        "metric": request.detail if request.kind == "metric" else "",
    }
    return run_tool(
        ["-m", "pytest", "-q", "-p", "no:cacheprovider", "test_release.py", option],
        request.folder,
        {"CONTEST_PLANTED": str(request.planted), "CONTEST_ASKED": json.dumps(asked)},
    )


def rule(row: Row, threshold: float) -> Outcome:
    """Ask its own check about values per sample."""
    torch = importlib.import_module("torch")
    evaluation = importlib.import_module("pytest_torch.evaluation")
    perf = importlib.import_module("pytest_torch.perf")
    counts = torch.tensor(row)

    def evaluated(right: tuple[float, ...]) -> Any:
        scores = torch.repeat_interleave(torch.tensor(right, dtype=torch.float64), counts)
        return evaluation.Evaluation({"accuracy": float(scores.mean())}, {"accuracy": scores}, {})

    baseline, candidate = evaluated((1, 1, 0, 0)), evaluated((1, 0, 1, 0))
    drop = (1 - threshold) * baseline.values["accuracy"]
    with tempfile.TemporaryDirectory() as folder:
        store = perf.PerfStore(Path(folder, "metrics.json"))
        evaluation.check_metrics(store, "drawn", baseline, update=True)
        try:
            evaluation.check_metrics(store, "drawn", candidate, strict=True, tolerance=drop)
        except AssertionError:
            return "fail"
    return "pass"


if __name__ == "__main__":
    serve(judge, rule)
