"""edgegate, by its command line: record the baseline, then check the candidate against it.

Speed is judged by the 99th percentile, the one that it offers, of its default 200 iterations after
20; the floor below which a regression does not count is lowered from its 0.5 ms to 0.02 ms, since
the models take 1 ms. Memory: its own 10% with its own floor. Accuracy: an absolute drop, set to
the share of the baseline's accuracy that may be lost, and a least accuracy.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.contest.drivers.exchange import Outcome, Request, Row, Said, run_tool, said, serve

_OUTCOMES: Mapping[int, Outcome] = {0: "pass", 2: "fail"}
# Plants the faults below edgegate, which opens its sessions by itself, and runs its command line.
_START = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); import planted_session; "
    "planted_session.install(); from edgegate.cli import main; sys.exit(main())"
)
_FLOOR_MS = 0.02


def judge(request: Request) -> Mapping[str, Said]:
    """Run it twice."""
    thresholds: dict[str, float]
    archive: Path | None = request.archive
    if request.kind in ("speed", "stability"):
        archive = None
        thresholds = {
            "latency_p99_regression_pct": request.slower_percent,
            "latency_regression_floor_ms": _FLOOR_MS,
        }
        if request.kind == "stability":
            thresholds["memory_regression_pct"] = 10
    else:
        thresholds = {"accuracy_min": request.floor}
        if request.detail == "raises":
            archive = _without_labels(request)
    baseline = _run(request, request.baseline, "baseline", {}, archive)
    if baseline.outcome != "pass":
        return {"": Said("error", f"recording the baseline: {baseline.reason}")}
    results = json.loads((request.folder / "baseline.json").read_text("utf-8"))
    if archive is not None:
        thresholds["accuracy_drop_max"] = (1 - request.retained) * results["accuracy"]["value"]
    return {"": _run(request, request.candidate, "candidate", thresholds, archive)}


def _run(
    request: Request,
    model: Path,
    name: str,
    thresholds: Mapping[str, float],
    archive: Path | None,
) -> Said:
    config: dict[str, Any] = {
        "version": 1,
        "model": {
            "path": str(model),
            "backend": "onnxruntime",
            "input": {"name": "x", "shape": [1, 16], "dtype": "float32"},
        },
        "thresholds": dict(thresholds),
    }
    if archive is not None:
        config["dataset"] = {"type": "npz", "path": str(archive)}
    # YAML 1.2 holds JSON.
    (request.folder / f"{name}.yaml").write_text(json.dumps(config), encoding="utf-8")
    words = ["run", "-c", f"{name}.yaml", "-o", f"{name}.json"]
    if thresholds:
        words += ["--check", "--baseline", "baseline.json"]
    done = run_tool(["-c", _START, request.planted, *words], request.folder)
    return said(done, _OUTCOMES, word="baseline " if thresholds else "")


def _without_labels(request: Request) -> Path:
    import numpy as np

    place = request.folder / "unlabeled.npz"
    np.savez(place, x=np.load(request.inputs))
    return place


def rule(row: Row, threshold: float) -> Outcome:
    """Ask its own comparison about two accuracies, rounded as it rounds them."""
    compare = importlib.import_module("edgegate.compare")
    samples = sum(row)
    baseline, candidate = (round((row[0] + right) / samples, 4) for right in (row[1], row[2]))

    def results(accuracy: float) -> dict[str, Any]:
        return {
            "latency_ms": {},
            "memory": {},
            "power": None,
            "accuracy": {"value": accuracy},
            "model": {"sha256": ""},
            "device": {"name": ""},
        }

    limits = {"accuracy_drop_max": (1 - threshold) * baseline}
    checks = compare.evaluate(results(candidate), limits, results(baseline))
    return "fail" if compare.status(checks) == "fail" else "pass"


if __name__ == "__main__":
    serve(judge, rule)
