"""A framework whose models are known exactly: their work, outputs, memory and faults.

It implements the protocol of :mod:`pytest_edgeai.optimize.frameworks.base` and runs in ordinary
worker processes, so that planted cases are measured by what measures real models. Its work is
matrix products in NumPy, a chosen number per call: twice the number is twice the time, whatever the
machine.
"""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.errors import ModelError
from pytest_edgeai.optimize.frameworks.base import (
    ExecutionFacts,
    Feeds,
    OptimizeRequest,
    OptimizeResult,
    Progress,
)
from pytest_edgeai.records import RuntimeOptions, TensorSpec

FEATURES = 16
CLASSES = 10
RARE_CLASS = CLASSES - 1
COMMON_CLASS = 0
MATRIX_SIZE = 48
"""Width of the square matrices: 3 times 9 KiB, which every first-level cache holds, so that a
product takes the same time again and again; and few enough operations that no BLAS uses a second
thread (OpenBLAS from 64 x 64 x 64 on, interface/gemm.c)."""

Answers: TypeAlias = Literal["right", "constant", "nan", "mode", "last-call", "dead-class"]


@dataclass(frozen=True)
class PlantedModel:
    """What a planted model does; its file is this record as JSON.

    Attributes:
        repetitions: matrix products of one call.
        ballast_bytes: memory that it holds from loading on.
        leak_bytes: memory that every call takes and never gives back.
        slow_calls: first calls that take ``slow_factor`` times the work.
        slow_factor: whole number.
        tail_every: one call of so many, drawn at random, takes ``tail_factor`` times the work; 0
            for none.
        tail_factor: whole number.
        tail_regular: whether it is every ``tail_every``-th call instead of one drawn at random.
        drift_calls: number of calls by which its work has grown by half, and so on; 0 for none.
        answers: ``right``; the same for every sample (``constant``); ``nan``; always the most
            frequent class (``mode``); what the call before would have returned (``last-call``);
            never the rare class, and its boxes right (``dead-class``).
        loads: whether it can be loaded at all.
    """

    repetitions: int = 0
    ballast_bytes: int = 0
    leak_bytes: int = 0
    slow_calls: int = 0
    slow_factor: int = 1
    tail_every: int = 0
    tail_factor: int = 1
    tail_regular: bool = False
    drift_calls: int = 0
    answers: Answers = "right"
    loads: bool = True

    def write(self, path: Path) -> Path:
        """Write the model file and return its path."""
        path.write_text(json.dumps(dataclasses.asdict(self)), encoding="utf-8")
        return path


def prototypes() -> NDArray[np.float32]:
    """Return the center of each class in the space of features; float32, (classes, features)."""
    drawn = np.random.default_rng(20).standard_normal((CLASSES, FEATURES)).astype(np.float32)
    unit: NDArray[np.float32] = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return unit


class LoadedPlanted:
    """A planted model, loaded: ``x`` to ``scores`` of the classes and ``boxes``, as a detector."""

    def __init__(self, model: PlantedModel) -> None:
        """Take the memory and make the matrices."""
        generator = np.random.default_rng(0)
        self._model = model
        self._left, self._right = generator.standard_normal(
            (2, MATRIX_SIZE, MATRIX_SIZE), dtype=np.float32
        )
        self._product = np.empty((MATRIX_SIZE, MATRIX_SIZE), np.float32)
        self._weights = prototypes().T.copy()
        self._held = [np.ones(model.ballast_bytes, np.uint8)]
        self._calls = 0
        self._tail = random.Random(0)
        self._before: dict[str, NDArray[Any]] | None = None
        self.inputs: Sequence[TensorSpec] = [TensorSpec("x", "float32", (None, FEATURES))]
        self.outputs: Sequence[TensorSpec] = [
            TensorSpec("scores", "float32", (None, CLASSES)),
            TensorSpec("boxes", "float32", (None, 4)),
        ]

    def run(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        """Work as long as planted, then answer as planted."""
        self._work()
        return self._answer(feeds["x"])

    def bind(self, feeds: Feeds) -> Callable[[], object]:
        """Return the work alone: the answer would add a share that the truth does not know."""
        return self._work

    def execution(self) -> ExecutionFacts:
        """Return that it computes in float32 on the CPU."""
        return ExecutionFacts({"float32": 1}, ("CPU",))

    def close(self) -> None:
        """Release the memory."""
        self._held.clear()

    def _work(self) -> None:
        model = self._model
        repetitions = model.repetitions
        if self._calls < model.slow_calls:
            repetitions *= model.slow_factor
        elif model.tail_every and self._is_straggler():
            repetitions *= model.tail_factor
        if model.drift_calls:
            repetitions += repetitions * self._calls // (2 * model.drift_calls)
        self._calls += 1
        left, right, product = self._left, self._right, self._product
        for _ in range(repetitions):
            np.matmul(left, right, out=product)
        if model.leak_bytes:
            self._held.append(np.ones(model.leak_bytes, np.uint8))

    def _is_straggler(self) -> bool:
        every = self._model.tail_every
        if self._model.tail_regular:
            return self._calls % every == every - 1
        return self._tail.random() * every < 1

    def _answer(self, x: NDArray[Any]) -> dict[str, NDArray[Any]]:
        scores = x @ self._weights
        outputs = {"scores": scores, "boxes": np.ascontiguousarray(x[:, :4])}
        answers = self._model.answers
        if answers == "constant":
            return {name: np.ones_like(array) for name, array in outputs.items()}
        if answers == "nan":
            scores[:] = np.nan
        elif answers == "mode":
            scores[:] = 0
            scores[:, COMMON_CLASS] = 1
        elif answers == "dead-class":
            scores[:, RARE_CLASS] = scores.min() - 1
        elif answers == "last-call":
            before, self._before = self._before, outputs
            return outputs if before is None else before
        return outputs


class Planted:
    """The framework."""

    def load(self, path: Path, runtime: RuntimeOptions) -> LoadedPlanted:
        """Load a file of :meth:`PlantedModel.write`.

        Raises:
            ModelError: the model is planted not to load.
        """
        fields: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        model = PlantedModel(**fields)
        if not model.loads:
            raise ModelError("planted: this model cannot be loaded", where=str(path))
        return LoadedPlanted(model)

    def load_null_model(self, runtime: RuntimeOptions) -> LoadedPlanted:
        """Load a model that does nothing."""
        return LoadedPlanted(PlantedModel())

    def optimize(self, request: OptimizeRequest, progress: Progress) -> OptimizeResult:
        """Refuse: planted models are written, not made.

        Raises:
            ModelError: always.
        """
        raise ModelError("planted models are not made from others", where=str(request.source))
