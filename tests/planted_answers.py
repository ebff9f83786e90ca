"""A framework that runs ONNX models in ONNX Runtime and answers wrongly in a chosen way.

Tests put this module and the hook of :data:`HOOK` into a project; its workers then import it from
there. Each scheme is one fault.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.optimize.frameworks.base import (
    ExecutionFacts,
    Feeds,
    OptimizeRequest,
    OptimizeResult,
    Progress,
)
from pytest_edgeai.records import RuntimeOptions, TensorSpec

if TYPE_CHECKING:
    from pytest_edgeai.optimize.frameworks.onnxruntime import OnnxRuntimeModel

HOOK = """
from pytest_edgeai.descriptors import FrameworkDescriptor


def pytest_edgeai_frameworks():
    return [
        FrameworkDescriptor(
            name="planted",
            implementation="planted_answers:Planted",
            install="pip install planted",
            distributions=("onnxruntime",),
            formats=("onnx",),
            schemes=dict.fromkeys(%r, "float32"),
        )
    ]
"""
"""Conftest of a project; takes a tuple of schemes."""

Answers = dict[str, NDArray[Any]]


def _largest(outputs: Answers) -> float:
    return max(float(np.abs(array).max()) for array in outputs.values())


def _shifted(outputs: Answers, amount: float) -> Answers:
    """Return outputs whose first column is moved by a share of the largest answer."""
    moved = {name: np.array(array) for name, array in outputs.items()}
    for array in moved.values():
        array[..., 0] += amount * _largest(outputs)
    return moved


class PlantedModel:
    """An ONNX model with one fault."""

    def __init__(self, model: OnnxRuntimeModel, fault: str, threads: int) -> None:
        self._model = model
        self._fault = fault
        self._threads = threads
        self._calls = 0
        self.inputs: Sequence[TensorSpec] = model.inputs
        self.outputs: Sequence[TensorSpec] = model.outputs

    def run(self, feeds: Feeds) -> Answers:
        outputs = self._model.run(feeds)
        self._calls += 1
        if self._fault == "by-call":
            return _shifted(outputs, 0.02 * (self._calls % 7))
        if self._fault == "by-threads":
            return _shifted(outputs, 0.1 * (self._threads - 1))
        if self._fault == "by-process":
            return _shifted(outputs, 0.1 * (os.getpid() % 97) / 97)
        if self._fault == "by-position":
            moved = {name: np.array(array) for name, array in outputs.items()}
            for array in moved.values():
                array[1:] = array[:1]
            return moved
        if self._fault == "nan-later" and self._calls > 20:
            return {name: np.full_like(array, np.nan) for name, array in outputs.items()}
        if self._fault == "one-in-ten":
            return self._one_in_ten(feeds, outputs)
        return outputs

    def _one_in_ten(self, feeds: Feeds, outputs: Answers) -> Answers:
        """Turn the scores of a tenth of all inputs around, chosen by their own bytes."""
        [array] = feeds.values()
        moved = {name: np.array(values) for name, values in outputs.items()}
        for index, row in enumerate(array):
            if int.from_bytes(row.tobytes()[-4:], "little") % 10 == 0:
                for values in moved.values():
                    values[index] = -values[index]
        return moved

    def bind(self, feeds: Feeds) -> Callable[[], object]:
        return self._model.bind(feeds)

    def execution(self) -> ExecutionFacts:
        return self._model.execution()

    def close(self) -> None:
        self._model.close()


class Planted:
    """Copies models, and remembers the fault beside them."""

    def __init__(self) -> None:
        # Tests read the hook above where the runtime is not installed, too.
        from pytest_edgeai.optimize.frameworks.onnxruntime import OnnxRuntime

        self._runtime = OnnxRuntime()

    def load(self, path: Path, runtime: RuntimeOptions) -> PlantedModel:
        fault = path.with_name("fault.txt")
        named = fault.read_text("utf-8") if fault.is_file() else ""
        return PlantedModel(self._runtime.load(path, runtime), named, runtime.threads)

    def load_null_model(self, runtime: RuntimeOptions) -> OnnxRuntimeModel:
        return self._runtime.load_null_model(runtime)

    def optimize(self, request: OptimizeRequest, progress: Progress) -> OptimizeResult:
        path = request.output / "model.onnx"
        shutil.copyfile(request.source, path)
        (request.output / "fault.txt").write_text(request.recipe.scheme, "utf-8")
        return OptimizeResult(path)


class PlantedEverywhere(Planted):
    """Answers by the number of calls, whatever the scheme: full precision has the fault as well."""

    def load(self, path: Path, runtime: RuntimeOptions) -> PlantedModel:
        return PlantedModel(self._runtime.load(path, runtime), "by-call", runtime.threads)
