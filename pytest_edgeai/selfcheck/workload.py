"""Planted models in ordinary worker processes, and data that they answer rightly."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.descriptors import FrameworkDescriptor
from pytest_edgeai.measure.bench import LoadedRunnable, Runnable, Samples, close_all
from pytest_edgeai.measure.dataset import Batching
from pytest_edgeai.measure.latency import WARM_UP_CALLS
from pytest_edgeai.records import RuntimeOptions
from pytest_edgeai.selfcheck.cases import STEPS
from pytest_edgeai.selfcheck.planted import (
    CLASSES,
    COMMON_CLASS,
    FEATURES,
    RARE_CLASS,
    PlantedModel,
    prototypes,
)

CALL_NS = 500_000
"""Time of one call of a timed model. Short calls give many rounds in little time; below a tenth of
it the cost of calling NumPy would be a share of the work that the truth does not know."""

SAMPLES = 1000
NOISE = 0.35
"""Standard deviation of a feature around its class's center; about 1 sample in 20 is misread."""

TIME_LIMIT_S = 60.0

FRAMEWORK = FrameworkDescriptor(
    name="planted",
    implementation="pytest_edgeai.selfcheck.planted:Planted",
    install="pip install pytest-edgeai",
    distributions=(),
    formats=("json",),
    schemes={"convert": "float32"},
)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Evaluation data on disk.

    Attributes:
        samples: the inputs, staged.
        labels: int64, shape ``(samples,)``; the rare class has one sample in 50, the most frequent
            one in 4.
    """

    samples: Samples
    labels: NDArray[np.int64]


class Workshop:
    """Writes planted models and their data into one folder, and loads them."""

    def __init__(self, folder: Path) -> None:
        """Use ``folder``, which is created."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._models = 0
        self._evaluation: Evaluation | None = None
        self._repetitions = 0

    def runnable(self, model: PlantedModel) -> Runnable:
        """Write a planted model."""
        self._models += 1
        path = model.write(self.folder / f"model-{self._models}.json")
        return Runnable(FRAMEWORK, Path(sys.executable), path, RuntimeOptions())

    @contextmanager
    def loaded(self, *models: PlantedModel) -> Iterator[tuple[LoadedRunnable, ...]]:
        """Load planted models, each in a fresh process of its own, and end them afterwards."""
        loaded: list[LoadedRunnable] = []
        try:
            for model in models:
                loaded.append(
                    LoadedRunnable(
                        self.runnable(model), self.evaluation().samples, time_limit_s=TIME_LIMIT_S
                    )
                )
            yield tuple(loaded)
        finally:
            close_all(loaded)

    def evaluation(self) -> Evaluation:
        """Return the evaluation data, made when first needed."""
        if self._evaluation is None:
            self._evaluation = _make_evaluation(self.folder)
        return self._evaluation

    def repetitions(self) -> int:
        """Return the repetitions whose call takes about :data:`CALL_NS` here; measured once."""
        if not self._repetitions:
            trial = 10 * STEPS
            with self.loaded(PlantedModel(repetitions=trial)) as (model,):
                model.time_calls(WARM_UP_CALLS)
                call_ns = float(np.median(model.time_calls(WARM_UP_CALLS).wall_ns))
            self._repetitions = repetitions_for(CALL_NS, call_ns / trial)
        return self._repetitions


def repetitions_for(call_ns: float, repetition_ns: float) -> int:
    """Return the multiple of :data:`STEPS` (one at least) that comes closest to ``call_ns``."""
    return STEPS * max(1, round(call_ns / (STEPS * max(repetition_ns, 1.0))))


def _make_evaluation(folder: Path) -> Evaluation:
    generator = np.random.default_rng(4)
    shares = np.full(CLASSES, (1 - 0.25 - 0.02) / (CLASSES - 2))
    shares[COMMON_CLASS], shares[RARE_CLASS] = 0.25, 0.02
    labels: NDArray[Any] = generator.choice(CLASSES, SAMPLES, p=shares).astype(np.int64)
    x = prototypes()[labels] + generator.normal(0, NOISE, (SAMPLES, FEATURES)).astype(np.float32)
    path = folder / "x.npy"
    np.save(path, x.astype(np.float32))
    return Evaluation(Samples({"x": str(path)}, SAMPLES, Batching(1, fixed=False)), labels)
