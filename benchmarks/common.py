"""What the benchmarks share: models, their INT8 candidates, interleaved rounds, tables."""

from __future__ import annotations

import platform
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.assess.hardware import read_host
from pytest_edgeai.assess.model import read_model
from pytest_edgeai.judge.statistics import median_interval
from pytest_edgeai.measure.bench import LoadedRunnable, Runnable, Samples
from pytest_edgeai.measure.dataset import Batching
from pytest_edgeai.optimize.frameworks.catalogue import FRAMEWORKS
from pytest_edgeai.plan.recipes import default_recipes
from pytest_edgeai.records import RuntimeOptions
from pytest_edgeai.worker.host import Worker, WorkerSpec

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "digits"
sys.path.insert(0, str(ROOT / "tests"))

ONE_THREAD = RuntimeOptions(threads=1)
LIMIT_S = 600.0


@dataclass(frozen=True)
class Subject:
    """A model with its evaluation samples, staged, and its INT8 candidate in OpenVINO.

    Attributes:
        name: what tables call it.
        model: the ``.onnx`` file.
        candidate: the ``.xml`` file; the model itself where none was made.
        inputs: input name to ``.npy`` file.
        count: number of samples.
    """

    name: str
    model: Path
    candidate: Path
    inputs: Mapping[str, Path]
    count: int

    @property
    def samples(self) -> Samples:
        """The samples as workers take them, one a call."""
        arrays = {name: str(path) for name, path in self.inputs.items()}
        return Samples(arrays, self.count, Batching(1, fixed=True))

    def load(self, framework: str) -> LoadedRunnable:
        """Load the model (``onnxruntime``) or its candidate (``openvino``) in a new worker."""
        path = self.model if framework == "onnxruntime" else self.candidate
        runnable = Runnable(FRAMEWORKS[framework], Path(sys.executable), path, ONE_THREAD)
        return LoadedRunnable(runnable, self.samples, time_limit_s=LIMIT_S)


def make_subject(name: str, folder: Path, *, count: int = 0, optimized: bool = True) -> Subject:
    """Return the example (``digits``) or a small network (``cnn-WIDTH``), ready to be run.

    Args:
        name: which.
        folder: where files go.
        count: evaluation samples of a small network; those of the example are given.
        optimized: whether an INT8 candidate is made.
    """
    if name == "digits":
        model, data, calibration = (
            EXAMPLE / file for file in ("digits.onnx", "test.npz", "calibration.npz")
        )
    else:
        from models import small_cnn

        width = int(name.removeprefix("cnn-"))
        project = small_cnn(folder / name, width=width, n=count or 300, batch=1)
        model, data, calibration = project.model, project.data, project.calibration
    facts = read_model(model, with_hash=False)
    inputs = _stage(data, [spec.name for spec in facts.inputs], folder / f"{name}-evaluation")
    samples = len(np.load(next(iter(inputs.values())), mmap_mode="r"))
    candidate = model
    if optimized:
        arrays = _stage(calibration, list(inputs), folder / f"{name}-calibration")
        recipe = default_recipes("openvino", facts.architecture, calibrated=True)[0]
        spec = WorkerSpec(FRAMEWORKS["openvino"], Path(sys.executable))
        with Worker.start(spec, time_limit_s=LIMIT_S) as worker:
            answer = worker.request(
                "optimize",
                time_limit_s=LIMIT_S,
                source=str(model),
                recipe=recipe,
                architecture=facts.architecture,
                inputs=facts.inputs,
                calibration={
                    "arrays": {key: str(path) for key, path in arrays.items()},
                    "batch": 1,
                },
                output=str(folder / f"{name}-candidate"),
            )
        candidate = Path(answer["path"])
    return Subject(name, model, candidate, inputs, samples)


def _stage(data: Path, names: Sequence[str], folder: Path) -> dict[str, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    staged: dict[str, Path] = {}
    with np.load(data, allow_pickle=False) as archive:
        for name in names:
            staged[name] = folder / f"{name}.npy"
            np.save(staged[name], archive[name])
    return staged


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield a folder that is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="pytest-edgeai-benchmark-") as folder:
        yield Path(folder)


@dataclass(frozen=True)
class Estimate:
    """A ratio over repetitions: its median with the order-statistics interval at 95%."""

    value: float
    low: float | None
    high: float | None
    repetitions: int

    @classmethod
    def of(cls, ratios: Sequence[float] | NDArray[Any]) -> Estimate:
        """Summarize the ratios of repetitions."""
        value, low, high = median_interval(np.asarray(ratios, dtype=np.float64), 0.95)
        return cls(value, low, high, len(ratios))

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.value:.3f}"
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def print_context(*distributions: str) -> None:
    """Print when, where and with what this was measured."""
    host = read_host()
    versions = ", ".join(
        f"{name} {metadata.version(name)}" for name in ("pytest-edgeai", *distributions)
    )
    print(f"{time.strftime('%Y-%m-%d')}, {host.cpu_model}, {host.logical_cores} cores, ", end="")
    print(f"{host.system}, Python {platform.python_version()}, {versions}")


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    widths = [max(len(line[index]) for line in lines) for index in range(len(header))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("| " + " | ".join(cells) + " |")


def finish(missed: Sequence[str], target: str) -> int:
    """Print whether the target is met; return the exit code."""
    for line in missed:
        print(f"MISSED: {line}")
    if not missed:
        print(f"met: {target}")
    return 1 if missed else 0
