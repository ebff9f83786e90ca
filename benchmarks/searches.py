"""What the benchmarks of the search share: projects, sessions of pytest, and their reports."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import EXAMPLE, LIMIT_S, ONE_THREAD
from pytest_edgeai.assess.model import read_model
from pytest_edgeai.measure.bench import LoadedRunnable, Runnable, Samples, close_all
from pytest_edgeai.measure.dataset import Batching, stage_arrays
from pytest_edgeai.measure.latency import run_bursts
from pytest_edgeai.optimize.frameworks.catalogue import FRAMEWORKS

ROUNDS = 60
MODELS = ("digits", "cnn", "transformer")
GATES = """
[gates]
speedup = 0.01
accuracy_retained = 0.95
memory_cut = -10
slice_retained = false
latency_consistency = false
latency_tail = false
latency_drift = false
memory_growth = false
"""
"""Speed, accuracy and memory are measured and keep nothing out but an accuracy below 95%."""


@dataclass(frozen=True)
class Files:
    """The files of a model's project.

    Attributes:
        name: name of the model.
        task: Hugging Face task name.
        model: the ``.onnx`` file.
        data: evaluation data.
        calibration: calibration data.
    """

    name: str
    task: str
    model: Path
    data: Path
    calibration: Path


def files_of(name: str, folder: Path) -> Files:
    """Return the example (``digits``), a small CNN or a small transformer, with their data."""
    if name == "digits":
        names = ("digits.onnx", "test.npz", "calibration.npz")
        return Files(name, "image-classification", *(EXAMPLE / file for file in names))
    from models import small_cnn, tiny_transformer

    folder.mkdir(parents=True, exist_ok=True)
    project = (small_cnn if name == "cnn" else tiny_transformer)(folder, n=1000)
    return Files(name, project.task, project.model, project.data, project.calibration)


def write_project(files: Files, folder: Path, extra: str) -> None:
    """Write a project of one model into ``folder``, with ``extra`` at the manifest's end."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in (files.model, files.data, files.calibration):
        shutil.copy(path, folder / path.name)
    text = (
        f"[models.{files.name}]\n"
        f'path = "{files.model.name}"\n'
        f'task = "{files.task}"\n'
        f'data = "{files.data.name}"\n'
        f'calibration = "{files.calibration.name}"\n'
    )
    (folder / "edgeai.toml").write_text(f"{text}{extra}", encoding="utf-8")


def run_pytest(folder: Path, *arguments: str, frameworks: Sequence[str]) -> dict[str, Any]:
    """Run the gates of a project for the target ``cross``; return the model in the JSON report."""
    report = folder / "report.json"
    report.unlink(missing_ok=True)
    words = [
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
        *("--edge-target=cross", f"--edge-framework={','.join(frameworks)}"),
        *(f"--edge-json={report}", *arguments),
    ]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    if not report.exists():
        raise RuntimeError(f"no report was written:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
    found: dict[str, Any] = json.loads(report.read_text("utf-8"))["models"][0]
    return found


def gate(candidate: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a gate of a candidate in the JSON report."""
    found: dict[str, Any] = next(each for each in candidate["gates"] if each["name"] == name)
    return found


def speeds(files: Files, artifacts: Sequence[tuple[str, Path, Path]], scratch: Path) -> list[float]:
    """Return how many times as fast as the baseline each artifact is, all timed in turns.

    Args:
        files: the model, which ONNX Runtime runs as the baseline, and its data.
        artifacts: the framework of each, the Python that runs it, and the artifact.
        scratch: where samples are staged.
    """
    names = [spec.name for spec in read_model(files.model, with_hash=False).inputs]
    with np.load(files.data, allow_pickle=False) as archive:
        staged = stage_arrays({name: archive[name][:1] for name in names}, scratch)
    samples = Samples(staged, 1, Batching(1, fixed=False))
    here = Path(sys.executable)
    models: list[LoadedRunnable] = []
    try:
        for framework, python, path in (("onnxruntime", here, files.model), *artifacts):
            runnable = Runnable(FRAMEWORKS[framework], python, path, ONE_THREAD)
            models.append(LoadedRunnable(runnable, samples, time_limit_s=LIMIT_S))
        rounds = run_bursts(models, random.Random(0), rounds=ROUNDS, time_limit_s=LIMIT_S)
    finally:
        close_all(models)
    medians = [float(np.median(times)) for times in rounds.wall_ns]
    return [medians[0] / median for median in medians[1:]]
